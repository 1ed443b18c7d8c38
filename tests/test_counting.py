"""``num_timesteps`` is the number of ``step`` calls on training environments, exactly."""

from itertools import product

import pytest
from helpers import ALGORITHMS, HYBRIDS, Counted, Drift, Tell, counted_steps, keep_log, make_model
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_esac import ES, ESAC

OPTIONS = [
    dict(),
    dict(agent_fraction=None, gradient_interval=1, agent_episodes=2),
    dict(champion_episodes=3, n_eval_episodes=2),
    dict(champion_episodes=0, agent_fraction=0.0),
    dict(normalize_observations=True, train_freq=5),
    dict(overlap=True, champion_episodes=2),
]
ES_OPTIONS = [
    dict(champion_episodes=3, n_eval_episodes=2),
    dict(strategy="canonical", champion_episodes=0, normalize_observations=True),
]


def counted(n_envs: int = 1, **kwargs) -> VecEnv:
    return make_vec_env(lambda: Counted(Drift(**kwargs)), n_envs)


@pytest.mark.parametrize("algorithm, options", [*product(HYBRIDS, OPTIONS), *product([ES], ES_OPTIONS)], ids=str)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_step_is_counted(algorithm, n_envs, options):
    """At every step that a callback sees, as each generation begins, and when ``learn`` returns."""
    env = counted(n_envs)
    seen = {"step": 0, "generation": 0}

    def compare(name):
        def check(model):
            seen[name] += 1
            assert model.num_timesteps == counted_steps(env)
            assert model.num_timesteps == model.agent_timesteps + model.population_timesteps

        return check

    model = make_model(algorithm, env, seed=0, **options)
    callback = Tell(compare("step"), compare("generation"))
    model.learn(250, callback=callback)
    assert model.num_timesteps == counted_steps(env) >= 250
    # The last steps of an evaluation may be fewer than there are lanes.
    assert 0 <= seen["step"] * n_envs - model.num_timesteps < n_envs * 5 * seen["generation"]
    assert seen["generation"] == model.population.generation > 1
    assert callback.num_timesteps == model.num_timesteps

    model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps == counted_steps(env)
    before = counted_steps(env)
    model.learn(100)
    assert model.num_timesteps == counted_steps(env) - before


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_stopped_by_a_callback(algorithm, n_envs):
    """In every phase: offspring, agent, probe."""
    phases = set()
    for stop_at in range(9, 150, 12) if algorithm in HYBRIDS else range(9, 300, 24):
        env = counted(n_envs)
        model = make_model(algorithm, env, seed=0, agent_fraction=0.5, gradient_steps=0, champion_episodes=2)

        def go_on(model, stop_at=stop_at):
            return model.num_timesteps < stop_at

        model.learn(1000, callback=Tell(go_on))
        assert stop_at <= model.num_timesteps == counted_steps(env) < stop_at + 2 * n_envs
        phases.add((model.agent_timesteps > 0, model.probe_timesteps > 0))
        model.learn(30, reset_num_timesteps=False)
        assert model.num_timesteps == counted_steps(env) >= stop_at + 30
    assert len(phases) > 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluation_is_not_training(algorithm):
    env, eval_env = counted(), counted()
    callback = EvalCallback(eval_env, eval_freq=10, n_eval_episodes=2, verbose=0)
    model = make_model(algorithm, env, seed=0).learn(120, callback=callback)
    assert counted_steps(eval_env) > 100
    assert model.num_timesteps == counted_steps(env)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_under_vec_normalize(algorithm):
    env = VecNormalize(counted(3))
    model = make_model(algorithm, env, seed=0).learn(120)
    assert model.num_timesteps == counted_steps(env)


@pytest.mark.parametrize("fraction, overlap", [(0.8, False), (0.5, False), (0.4, False), (0.8, True)])
def test_an_agent_that_plays_most_steps_plays_the_rest_of_them(fraction, overlap):
    """Four members with episodes of 10 steps: no generation begins for which there are not 40 steps."""
    env = counted(n_steps=10, edge=1e6)
    too_many, options = [], dict(train_freq=1, gradient_steps=0)
    for total in range(185, 425, 24):
        model = make_model(ESAC, env, seed=0, agent_fraction=fraction, champion_episodes=0, overlap=overlap, **options)
        model.learn(total)
        too_many.append(model.num_timesteps - total)
        assert model.population_timesteps == 40 * model.population.generation
        assert model.agent_timesteps >= fraction * (total - 40) - 10
    assert (max(too_many) == 0) == (fraction >= 0.5 and not overlap) and max(too_many) <= 40


def test_the_rest_leaves_room_for_a_probe():
    env = counted(n_steps=10, edge=1e6)
    for total in range(185, 425, 24):
        model = make_model(ESAC, env, seed=0, agent_fraction=0.8, champion_episodes=2, train_freq=1, gradient_steps=0)
        model.learn(total)
        # What ends the run: three candidates, a new episode of the champion's, one more of the challenger's.
        assert model.num_timesteps - total <= 50


def test_split_between_agent_and_population():
    """With episodes of 10 steps: 4 members, 2 episodes of the agent, no probe."""
    env = counted(n_steps=10, edge=1e6)
    options = dict(agent_fraction=None, gradient_interval=1, agent_probability=1.0, agent_episodes=2, train_freq=1)
    model = make_model(ESAC, env, seed=0, champion_episodes=0, gradient_steps=0, **options)
    log = keep_log(model)
    model.learn(180)
    assert model.population.generation == 3
    assert (model.population_timesteps, model.agent_timesteps) == (120, 60)
    assert model.agent.num_timesteps == 60 and model.replay_buffer.size() == 60
    for number, entry in enumerate(log, start=1):
        assert entry["time/generations"] == number
        assert entry["time/population_timesteps"] == 40 * number
        assert entry["time/agent_timesteps"] == 20 * number
        assert entry["time/total_timesteps"] == 60 * number
        assert entry["time/episodes"] == 6 * number
        # The authors count one episode for all members.
        assert entry["time/paper_timesteps"] == 10 * number


def test_probes_are_steps_of_the_population():
    env = counted(n_steps=10, edge=1e6)
    model = make_model(ESAC, env, seed=0, champion_episodes=3, agent_fraction=0.0).learn(2000)
    probes = model.probe_timesteps
    assert 0 < probes <= 0.2 * model.num_timesteps
    assert model.num_timesteps == model.population_timesteps == counted_steps(env)
    assert model.population_timesteps - probes == 40 * model.population.generation
    assert model.paper_timesteps == 10 * model.population.generation


@pytest.mark.parametrize("n_envs", [1, 3])
def test_learning_rate_follows_the_whole_budget(n_envs):
    """At half of all steps the learning rate is half, however few of them were the agent's."""
    env = counted(n_envs)
    rates = []
    model = make_model(ESAC, env, seed=0, learning_rate=lambda remaining: 1e-3 * remaining, agent_fraction=0.2)
    train = model.agent.train

    def remember(*args, **kwargs):
        done = counted_steps(env)
        train(*args, **kwargs)
        rates.append((done, model.actor.optimizer.param_groups[0]["lr"]))

    model.agent.train = remember
    model.learn(800)
    assert len(rates) > 10
    for done, rate in rates:
        assert rate == pytest.approx(1e-3 * max(0.0, 1 - done / 800))

    # Going on, the budget is that of both calls.
    rates.clear()
    start = model.num_timesteps
    model.learn(400, reset_num_timesteps=False)
    assert rates
    for done, rate in rates:
        assert rate == pytest.approx(1e-3 * max(0.0, 1 - done / (start + 400)))


def test_schedules_follow_the_whole_budget():
    """What ``agent_fraction`` is asked with is what is left of all steps."""
    env, asked = counted(), []

    def fraction(remaining: float) -> float:
        asked.append((remaining, counted_steps(env)))
        return 0.3

    model = make_model(ESAC, env, seed=0, agent_fraction=fraction, train_freq=1)
    # Its ends have been looked at.
    asked.clear()
    model.learn(300)
    assert len(asked) > 5
    for remaining, done in asked:
        assert remaining == pytest.approx(1 - done / 300)
