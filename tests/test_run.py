"""It runs, with every option there is."""

import numpy as np
import pytest
from helpers import ALGORITHMS, HYBRIDS, Drift, drift, keep_selections, make_model, pendulum
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.td3 import TD3

from sb3_esac import ES, ESAC
from sb3_esac.callbacks import Operator
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.population import Origin

AGENT_OPTIONS = [
    dict(learning_rate=1e-3),
    dict(learning_rate=lambda remaining: 1e-3 * remaining),
    dict(learning_starts=0),
    dict(batch_size=4, buffer_size=50),
    dict(tau=1.0, gamma=0.9, target_update_interval=2),
    dict(train_freq=(3, "step"), gradient_steps=2),
    dict(train_freq=(1, "episode"), gradient_steps=-1),
    dict(gradient_steps=0),
    dict(action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1))),
    dict(action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), 0.1 * np.ones(1))),
    dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False)),
    dict(n_steps=3),
    dict(ent_coef=0.2),
    dict(ent_coef="auto_0.1", target_entropy=-0.5),
    dict(use_sde=True, sde_sample_freq=4, use_sde_at_warmup=True),
    dict(stats_window_size=3),
    dict(policy_kwargs=dict(net_arch=dict(pi=[4, 4], qf=[8]))),
    dict(agent_class=TD3, agent_kwargs=dict(policy_delay=1)),
]

POPULATION_OPTIONS = [
    dict(population_size=2, winner_fraction=0.5),
    dict(population_size=6, n_agent_members=0),
    dict(sigma=0.5),
    dict(es_learning_rate=0.1, es_optimizer="sgd", strategy="openai"),
    dict(es_optimizer="adam", strategy="openai"),
    dict(strategy="openai", n_agent_members=2),
    dict(strategy="cem", n_agent_members=2),
    dict(strategy="sep_cma_es", crossover=None),
    dict(strategy="sep_cma_es", population_size=5),
    dict(mirrored=False, population_size=5),
    dict(winner_fraction=1.0, n_agent_members=0),
    dict(winner_fraction=0.25, n_agent_members=3),
    dict(crossover="element"),
    dict(crossover="row"),
    dict(crossover=None),
    dict(share_experience=0.0),
    dict(share_experience=1.0),
    dict(share_experience=0.25),
    dict(agent_fraction=0.0),
    dict(agent_fraction=1.0),
    dict(agent_fraction=lambda remaining: 0.5 * remaining),
    dict(agent_fraction=None, gradient_interval=1),
    dict(agent_fraction=None, gradient_interval=2, agent_episodes=3, agent_probability=1.0),
    dict(agent_fraction=None, gradient_interval=1, agent_probability=lambda remaining: remaining),
    dict(agent_fraction=None, agent_probability=0.0),
    dict(agent_average=0.0),
    dict(agent_average=1.0),
    dict(amt_clip=0.0),
    dict(amt_clip=0.1, amt_input="raw"),
    dict(amt_input="rank"),
    dict(amt_input="normalized", amt_clip=0.01),
    dict(deploy="agent"),
    dict(deploy="population"),
    dict(champion_episodes=0),
    dict(champion_episodes=3),
    dict(n_eval_episodes=2),
    dict(alive_bonus_offset=1.0),
    dict(normalize_observations=True),
    dict(overlap=True),
    dict(overlap=True, agent_fraction=None, gradient_interval=1),
]


ES_OPTIONS = [
    dict(strategy="canonical"),
    dict(strategy="cem"),
    dict(strategy="cem", mirrored=True, winner_fraction=0.5),
    dict(strategy="sep_cma_es", population_size=5),
    dict(strategy="canonical", population_size=5, winner_fraction=1.0),
    dict(strategy="canonical", mirrored=True),
    dict(strategy="canonical", winner_fraction=0.25, n_eval_episodes=2, champion_episodes=0),
    dict(es_optimizer="sgd", es_learning_rate=0.5),
    dict(population_size=3, mirrored=False),
    dict(weight_decay=0.005, sigma=0.5),
    dict(deploy="population", champion_episodes=3),
    dict(alive_bonus_offset=1.0, normalize_observations=True),
    dict(episode_length_schedule=lambda remaining: 10),
    dict(policy="LinearPolicy", policy_kwargs=dict(with_bias=True, squash_output=True)),
    dict(policy="LinearPolicy", policy_kwargs=None),
    dict(stats_window_size=3),
]


def name_of(options: dict) -> str:
    return "-".join(f"{name}={value if isinstance(value, int | float | str) else '...'}" for name, value in options.items())


def check_run(model, steps: int) -> None:
    assert model.num_timesteps >= steps
    assert model.population.generation > 0
    assert np.isfinite(to_vector(model.actor)).all()
    assert np.isfinite(model.population.mean).all() and model.population.sigma > 0
    action, _ = model.predict(model.observation_space.sample(), deterministic=True)
    assert model.action_space.contains(action)


@pytest.mark.parametrize("options", AGENT_OPTIONS + POPULATION_OPTIONS, ids=name_of)
def test_every_option(options):
    model = make_model(ESAC, pendulum(), seed=0, **options)
    model.learn(300)
    check_run(model, 300)


@pytest.mark.parametrize("options", ES_OPTIONS, ids=name_of)
def test_every_option_of_es(options):
    model = make_model(ES, pendulum(), seed=0, **options)
    model.learn(300)
    check_run(model, 300)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(agent_fraction=None, gradient_interval=1, agent_episodes=2),
        dict(n_eval_episodes=2, strategy="openai"),
        dict(normalize_observations=True, action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)), gradient_steps=-1),
    ],
    ids=name_of,
)
def test_several_environments(algorithm, options):
    model = make_model(algorithm, drift(3), seed=0, **options)
    model.learn(300)
    check_run(model, 300)
    assert model.n_envs == 3
    if algorithm in HYBRIDS:
        assert model.agent.n_envs == 3


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_default_arguments(algorithm):
    model = algorithm("MlpPolicy", "Pendulum-v1")
    assert model.get_env().num_envs == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_float_total_timesteps(algorithm):
    model = make_model(algorithm, pendulum(), seed=0)
    assert model.learn(1e2) is model
    assert isinstance(model.num_timesteps, int) and model.num_timesteps >= 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_to_do(algorithm):
    model = make_model(algorithm, pendulum(), seed=0)
    model.learn(0)
    assert model.num_timesteps == 0 and model.population.generation == 0
    model.learn(100)
    steps = model.num_timesteps
    model.learn(0, reset_num_timesteps=False)
    assert model.num_timesteps == steps


def progress_of(model) -> list[int]:
    """Steps of all optimisers, and what is stored."""
    if isinstance(model, ES):
        return [model.population.strategy.optimizer.steps]
    return [model._n_updates, model.replay_buffer.size()]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learn_twice(algorithm):
    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.5, train_freq=4)
    model.learn(200)
    first, generation, progress = model.num_timesteps, model.population.generation, progress_of(model)
    assert 200 <= first and all(progress)

    model.learn(200, reset_num_timesteps=False)
    assert model.num_timesteps >= first + 200
    assert model.population.generation > generation and all(np.greater(progress_of(model), progress))
    assert model.num_timesteps == model.agent_timesteps + model.population_timesteps

    generation, progress = model.population.generation, progress_of(model)
    model.learn(100)
    assert 100 <= model.num_timesteps < 200
    # Only the count starts again: population, networks and buffer go on.
    assert model.population.generation > generation and all(np.greater(progress_of(model), progress))


@pytest.mark.parametrize("option", ["agent_fraction", "paper"])
def test_agent_plays_its_share(option):
    share = dict(agent_fraction=0.4) if option == "agent_fraction" else dict(agent_fraction=None, gradient_interval=2)
    share = share if option == "agent_fraction" else dict(share, agent_probability=1.0, agent_episodes=3)
    model = make_model(ESAC, pendulum(10), seed=0, champion_episodes=0, gradient_steps=0, **share)
    model.learn(1000)
    if option == "agent_fraction":
        assert 0.35 <= model.agent_timesteps / model.num_timesteps <= 0.45
    else:
        # Two generations of 4 members, then 3 episodes of the agent
        assert 3 / 13 <= model.agent_timesteps / model.num_timesteps <= 3 / 11


def test_paper_rule_anneals():
    """With p_sac 1 there is an interval in every generation, with 0 none, and annealing stands between."""
    steps = {}
    for name, probability in (("always", 1.0), ("annealed", lambda remaining: remaining), ("never", 0.0)):
        options = dict(agent_fraction=None, gradient_interval=1, agent_probability=probability, gradient_steps=0)
        model = make_model(ESAC, pendulum(5), seed=0, champion_episodes=0, **options)
        steps[name] = model.learn(1000).agent_timesteps
    assert steps["never"] == 0
    assert 0.3 * steps["always"] < steps["annealed"] < 0.8 * steps["always"]


def test_options_reach_the_population():
    class Keep(Operator):
        def apply(self, generation):
            generation.population.children = generation.population.previous_winners

    options = dict(population_size=10, winner_fraction=0.3, n_agent_members=2, crossover=None, agent_fraction=0.0)
    model = make_model(ESAC, drift(), seed=0, **options)
    model.operators.append(Keep())
    model.learn(700)
    assert model.population.winners.shape == (3, model.population.mean.size)
    assert [(model.population.origins == origin).sum() for origin in (Origin.MEAN, Origin.WINNER, Origin.AGENT)] == [5, 3, 2]
    # Winners are kept whole, and the agent's copies are the agent.
    assert np.array_equal(model.population.members[5:8], model.population.previous_winners)
    assert np.array_equal(model.population.members[8:], np.stack([to_vector(model.actor)] * 2))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_alive_bonus_is_taken_out_of_the_fitness_only(algorithm):
    """With a bonus of 1 per step taken out, a return equals the fitness plus the length."""
    seen = []
    for offset in (0.0, 1.0):
        model = make_model(algorithm, Drift(), seed=0, alive_bonus_offset=offset, agent_fraction=0.0)
        selections = keep_selections(model)
        model.learn(1)
        (selection,) = selections
        seen.append((selection.fitness, selection.result.returns[:, 0], selection.result.lengths[:, 0]))
    (plain, returns, _), (offset_fitness, same_returns, lengths) = seen
    assert np.array_equal(plain, returns) and np.array_equal(returns, same_returns)
    assert np.allclose(offset_fitness, returns - lengths)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fitness_is_the_mean_over_episodes(algorithm):
    model = make_model(algorithm, Drift(), seed=0, n_eval_episodes=3, agent_fraction=0.0)
    selections = keep_selections(model)
    model.learn(50)
    returns = selections[0].result.returns
    assert returns.shape == (4, 3)
    assert len(np.unique(returns)) == 12
    assert np.allclose(selections[0].fitness, returns.mean(axis=1))


@pytest.mark.parametrize("n_steps, edge, is_cut", [(6, 1e6, True), (1000, 0.6, False)])
def test_time_limits_are_no_terminal_states(n_steps, edge, is_cut):
    """An episode that is cut bootstraps, in the agent's store and in the population's; one that ends does not."""
    env = Drift(n_steps=n_steps, edge=edge)
    model = make_model(ESAC, env, seed=0, train_freq=1, agent_fraction=0.5, gradient_steps=0).learn(400)
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        dones, timeouts = store.dones[: store.size(), 0], store.timeouts[: store.size(), 0]
        assert dones.sum() > 3
        if is_cut:
            assert np.array_equal(dones, timeouts)
        else:
            # The agent's last episode may have been cut by the end of the budget.
            assert timeouts.sum() <= (store is model.replay_buffer)


def test_agent_episode_is_cut_at_the_end_of_the_budget():
    """No interval outlasts ``total_timesteps``, and the episode that was open is marked as cut."""
    model = make_model(ESAC, Drift(n_steps=100, edge=1e6), seed=0, agent_fraction=0.9, champion_episodes=0, train_freq=1)
    model.learn(430)
    assert (model.agent_timesteps, model.population_timesteps) == (30, 400)
    buffer = model.replay_buffer
    assert buffer.pos == 30
    assert buffer.dones[:30, 0].tolist() == [0.0] * 29 + [1.0] == buffer.timeouts[:30, 0].tolist()


def test_updates_follow_train_freq_and_gradient_steps():
    options = dict(agent_fraction=None, gradient_interval=1, agent_probability=1.0, learning_starts=9, champion_episodes=0)
    model = make_model(ESAC, pendulum(10), seed=0, train_freq=(2, "step"), gradient_steps=3, **options)
    model.learn(100)
    assert model.agent_timesteps == 20
    # After steps 10, 12, ..., 20: from then on the agent has played more than 9 steps of its own.
    assert model._n_updates == 3 * 6


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_workers(algorithm):
    """Everything that is said to workers, in one run."""
    options = dict(backend="subproc", n_workers=1, env_fn=Drift, episode_timeout=60.0, max_worker_restarts=1, overlap=True)
    model = make_model(algorithm, Drift(), seed=0, **options).learn(100)
    check_run(model, 100)


def test_action_noise_in_every_lane():
    model = make_model(ESAC, drift(2), action_noise=NormalActionNoise(np.zeros(1), np.zeros(1)), seed=0)
    model.learn(100)
    assert model.agent.action_noise.noises and len(model.agent.action_noise.noises) == 2


def test_env_given_as_name():
    env = make_vec_env("Pendulum-v1", n_envs=2)
    assert make_model(ESAC, env).n_envs == 2
    assert make_model(ESAC, "Pendulum-v1").n_envs == 1
