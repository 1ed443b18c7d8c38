"""SB3's callbacks, and ESAC's own."""

import dataclasses
from copy import deepcopy

import numpy as np
import pytest
import stable_baselines3.common.callbacks as sb3_callbacks
from helpers import ALGORITHMS, DEVICE, HYBRIDS, Drift, Tell, differences, drift, keep_selections, make_model, state_of
from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnNoModelImprovement,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.callbacks import AutomaticMutationTuning, Generation, HindsightCrossover, Operator
from sb3_esac.evaluation.vectors import row_groups, to_vector
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength


class Count(BaseCallback):
    """Counts what happens."""

    def __init__(self, stop_at: int | None = None):
        super().__init__()
        self.stop_at = stop_at
        self.events = []

    def _on_training_start(self):
        self.events.append("training start")

    def _on_rollout_start(self):
        self.events.append("rollout start")

    def _on_step(self):
        return self.stop_at is None or self.num_timesteps < self.stop_at

    def _on_rollout_end(self):
        self.events.append("rollout end")

    def _on_training_end(self):
        self.events.append("training end")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_callbacks(tmp_path, algorithm):
    """All of them together, as in SB3's own test."""
    model = make_model(algorithm, drift(), seed=0)
    checkpoint = CheckpointCallback(save_freq=50, save_path=str(tmp_path / "logs"), name_prefix="checkpoint")
    eval_callback = EvalCallback(
        drift(),
        callback_on_new_best=StopTrainingOnRewardThreshold(reward_threshold=1000, verbose=1),
        callback_after_eval=StopTrainingOnNoModelImprovement(max_no_improvement_evals=10, min_evals=1, verbose=1),
        best_model_save_path=str(tmp_path / "logs"),
        log_path=str(tmp_path / "logs"),
        eval_freq=50,
        n_eval_episodes=1,
        warn=False,
        verbose=0,
    )
    every = EveryNTimesteps(n_steps=60, callback=CheckpointCallback(save_freq=1, save_path=str(tmp_path / "every")))
    count = Count()
    callback = CallbackList([checkpoint, eval_callback, every, LogEveryNTimesteps(70), StopTrainingOnMaxEpisodes(100), count])
    model.learn(200, callback=callback)

    assert count.num_timesteps == count.n_calls == model.num_timesteps
    assert count.events[0] == "training start" and count.events[-1] == "training end"
    # An agent's collections are rollouts too.
    n_rollouts = count.events.count("rollout start")
    assert n_rollouts == count.events.count("rollout end") >= model.population.generation > 0
    assert (n_rollouts > model.population.generation) is (algorithm in HYBRIDS)
    n_files = model.num_timesteps // 50
    assert len(list((tmp_path / "logs").glob("checkpoint_*_steps.zip"))) == n_files
    assert {f"rl_model_{n}_steps.zip" for n in (60, 120, 180)} <= {file.name for file in (tmp_path / "every").iterdir()}
    evaluations = np.load(tmp_path / "logs" / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [50 * (i + 1) for i in range(n_files)]
    assert np.isfinite(evaluations["results"]).all()
    best = algorithm.load(tmp_path / "logs" / "best_model")
    assert best.num_timesteps in evaluations["timesteps"]

    # A list without CallbackList, none at all, and SB3's old functions
    model.learn(30, callback=[Count(), Count()])
    model.learn(30, callback=None)
    calls = []
    model.learn(30, callback=lambda variables, _: calls.append(variables["dones"]) or True)
    assert len(calls) == model.num_timesteps


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_eval_callback_judges_what_is_deployed(algorithm, tmp_path):
    """Its results are those of ``predict`` at that very step."""
    model = make_model(algorithm, drift(), seed=0)
    returns = []

    class Compare(EvalCallback):
        def _on_step(self):
            result = super()._on_step()
            if self.n_calls % self.eval_freq == 0:
                returns.append((self.last_mean_reward, model.champion.record is not None))
                env = Drift()
                observation, _ = env.reset(seed=0)
                expected = model.deployed_policy.predict(observation, deterministic=True)[0]
                assert np.array_equal(model.predict(observation, deterministic=True)[0], expected)
            return result

    model.learn(300, callback=Compare(drift(), eval_freq=60, n_eval_episodes=1, verbose=0))
    assert len(returns) >= 5 and returns[-1][1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_checkpoint_with_replay_buffer_and_vec_normalize(tmp_path, algorithm):
    model = make_model(algorithm, VecNormalize(drift()), seed=0)
    has_buffer = algorithm in HYBRIDS
    callback = CheckpointCallback(75, str(tmp_path), save_replay_buffer=has_buffer, save_vecnormalize=True)
    model.learn(160, callback=callback)
    for steps in (75, 150):
        env = VecNormalize.load(str(tmp_path / f"rl_model_vecnormalize_{steps}_steps.pkl"), drift())
        loaded = algorithm.load(tmp_path / f"rl_model_{steps}_steps", env=env)
        assert loaded.num_timesteps == steps
        if has_buffer:
            loaded.load_replay_buffer(tmp_path / f"rl_model_replay_buffer_{steps}_steps.pkl")
            # As in SB3, a step of the agent's that callbacks are told of is not stored yet.
            assert loaded.agent_timesteps - loaded.replay_buffer.size() in (0, 1)
        loaded.learn(60, reset_num_timesteps=False)
        assert loaded.num_timesteps >= steps + 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("threshold, stops", [(-1e6, True), (1e6, False)])
def test_reward_threshold(algorithm, threshold, stops):
    callback = EvalCallback(
        drift(), callback_on_new_best=StopTrainingOnRewardThreshold(threshold), eval_freq=17, n_eval_episodes=1, verbose=0
    )
    model = make_model(algorithm, drift(), seed=0).learn(100, callback=callback)
    assert (model.num_timesteps == 17) is stops


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_model_improvement(algorithm):
    """With a policy that stays the same, and evaluations that do too, the second one is no improvement."""
    env = drift()
    callback = EvalCallback(
        env, callback_after_eval=StopTrainingOnNoModelImprovement(1), eval_freq=10, n_eval_episodes=1, verbose=0
    )
    # Without an agent a step size that rounding swallows
    options = dict(deploy="agent", learning_starts=10_000) if algorithm in HYBRIDS else dict(deploy="population")
    model = make_model(algorithm, drift(), seed=0, es_learning_rate=1e-12, **options)
    evaluated = env.reset
    env.reset = lambda: (env.seed(3), evaluated())[1]
    model.learn(1000, callback=callback)
    # A first best, then as good as that twice
    assert model.num_timesteps == 30


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_max_episodes(algorithm, n_envs):
    callback = StopTrainingOnMaxEpisodes(max_episodes=5)
    env = drift(n_envs, edge=1e6, n_steps=10)
    model = make_model(algorithm, env, seed=0, agent_fraction=0.0).learn(10_000, callback=callback)
    assert callback.n_episodes == 5 * n_envs
    assert model.num_timesteps == 50 * n_envs


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_n_timesteps_in_all_phases(algorithm):
    """The cadence is in steps, whoever takes them."""
    steps, agent_steps = [], []

    def remember(model):
        steps.append(model.num_timesteps)
        agent_steps.append(model.agent_timesteps)

    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.5, gradient_steps=0)
    model.learn(400, callback=EveryNTimesteps(10, Tell(remember)))
    assert steps == [10 * (i + 1) for i in range(len(steps))] and len(steps) >= 40
    if algorithm in HYBRIDS:
        gained = np.diff(agent_steps)
        assert (gained == 0).any() and (gained == 10).any()


# -- progress ----------------------------------------------------------------------------------------------------------


class Bar:
    """In the place of tqdm."""

    def __init__(self, total):
        self.total, self.n, self.closed = total, 0, False
        bars.append(self)

    def update(self, n):
        assert not self.closed
        self.n += n

    def refresh(self):
        pass

    def close(self):
        self.closed = True


bars: list[Bar] = []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_progress_bar(monkeypatch, algorithm, n_envs):
    bars.clear()
    monkeypatch.setattr(sb3_callbacks, "tqdm", Bar)
    model = make_model(algorithm, drift(n_envs), seed=0)
    model.learn(150, progress_bar=True)
    first = model.num_timesteps
    model.learn(100, progress_bar=True, reset_num_timesteps=False)
    assert [bar.total for bar in bars] == [150, 100]
    # A row of steps may be shorter than there are lanes, once in an evaluation.
    spare = [bar.n - steps for bar, steps in zip(bars, (first, model.num_timesteps - first), strict=True)]
    assert all(0 <= number <= (n_envs - 1) * 5 * model.population.generation for number in spare)
    assert all(bar.n >= bar.total and bar.closed for bar in bars)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_real_progress_bar(algorithm):
    pytest.importorskip("rich")
    make_model(algorithm, drift(), seed=0).learn(50, progress_bar=True, callback=Count())


# -- stopping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stop_while_offspring_play(algorithm):
    """Partial fitness is dropped, and nothing has moved."""
    start = {}

    def remember(model):
        start.update(state_of(model))

    def go_on(model):
        return model.population.generation < 3 or model.num_timesteps < start["counters"]["num_timesteps"] + 7

    callback = CallbackList([Tell(go_on, on_generation=remember), Count()])
    model = make_model(algorithm, drift(), seed=0).learn(1000, callback=callback)
    assert model.population.generation == 3
    assert model.num_timesteps == start["counters"]["num_timesteps"] + 7
    now = state_of(model)
    for part in start.keys() - {"counters", "progress", "episodes"}:
        assert differences(start[part], now[part]) == []
    events = callback.callbacks[1].events
    assert events[-1] == "training end" and events.count("training end") == 1


@pytest.mark.parametrize(
    "algorithm, options",
    [
        *[(hybrid, options) for hybrid in HYBRIDS for options in (dict(), dict(strategy="openai"), dict(overlap=True))],
        (ES, dict(champion_episodes=2)),
        (ES, dict(strategy="canonical")),
    ],
    ids=str,
)
def test_stop_anywhere_leaves_whole_generations(algorithm, options):
    """Whatever phase it was in: the population is the one of the generation's start, and a stop is a stop at once."""
    phases = set()
    for stop_at in range(8, 200, 16):
        start = {}

        def remember(model, start=start):
            state = state_of(model)
            start.update(population=state["population"], strategy=state["strategy"], agent=model.agent_timesteps)
            if algorithm not in HYBRIDS:
                start.update(parameters=dict(policy=deepcopy(state["parameters"]["policy"])))

        count = Count(stop_at)
        callback = CallbackList([Tell(on_generation=remember), count])
        model = make_model(algorithm, drift(), seed=0, agent_fraction=0.5, gradient_steps=0, **options)
        model.learn(1000, callback=callback)
        assert model.num_timesteps == stop_at == count.n_calls
        phases.add(model.agent_timesteps > start.pop("agent"))
        state = state_of(model)
        state["parameters"] = {name: state["parameters"][name] for name in start.get("parameters", {})}
        assert differences(start, {part: state[part] for part in start}) == []
        assert count.events[-1] == "training end"
    assert phases == ({False, True} if algorithm in HYBRIDS else {False})


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stop_in_the_final_probe(algorithm):
    """The budget is spent, but a probe goes on: it can be stopped too."""
    model = make_model(algorithm, drift(n_steps=10, edge=1e6), seed=0, agent_fraction=0.0, champion_episodes=4)
    callback = Count(stop_at=203)
    model.learn(200, callback=callback)
    assert model.num_timesteps == 203
    assert callback.events[-1] == "training end"
    record = model.champion.record
    assert record is None or record.generation < model.population.generation, "nobody new"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_go_on_after_a_stop(algorithm):
    model = make_model(algorithm, drift(), seed=0).learn(1000, callback=Count(stop_at=100))
    model.learn(100, reset_num_timesteps=False)
    assert model.num_timesteps >= 200


# -- what callbacks see ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_policy_is_never_perturbed(algorithm, n_envs):
    """At every step it is the agent's own, or the mean; without gradient steps, or with one generation, it never changes."""
    env = drift(n_envs)
    options = dict(learning_starts=10_000) if algorithm in HYBRIDS else dict(population_size=60, champion_episodes=0)
    model = make_model(algorithm, env, seed=0, **options)
    whole, observation = to_vector(model.actor), np.ones(3, dtype=np.float32)
    action = model.policy.predict(observation, deterministic=True)[0]
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            assert self.model is model and self.training_env is env
            assert np.array_equal(to_vector(self.model.actor), whole)
            assert np.array_equal(self.model.policy.predict(observation, deterministic=True)[0], action)
            n_steps = len(self.locals["dones"])
            assert 1 <= n_steps <= n_envs and all(
                len(self.locals[name]) == n_steps for name in ("infos", "rewards", "new_obs")
            )
            seen.append(self.locals["dones"].sum())
            return True

    model.learn(200, callback=Look())
    assert (model.agent_timesteps > 0) is (algorithm in HYBRIDS) and sum(seen) > 10


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_callbacks_see_every_episode(algorithm):
    """The summaries that pass by are those that ``rollout/*`` is made of."""
    lengths = []

    class Look(BaseCallback):
        def _on_step(self):
            lengths.extend(info["episode"]["l"] for info in self.locals["infos"] if "episode" in info)
            return True

    model = make_model(algorithm, drift(), seed=0).learn(150, callback=Look())
    assert [episode["l"] for episode in model.ep_info_buffer] == lengths
    assert model._episode_num <= len(lengths)


# -- the evolutionary operators ----------------------------------------------------------------------------------------


def test_operators_are_callbacks():
    tuning, crossover = make_model(ESAC, drift(), amt_clip=0.5, amt_input="raw", crossover="element").operators
    assert type(tuning) is AutomaticMutationTuning and type(crossover) is HindsightCrossover
    assert all(isinstance(operator, BaseCallback) for operator in (tuning, crossover))
    assert (tuning.clip, tuning.amt_input, crossover.unit) == (0.5, "raw", "element")
    # Crossover is for those who ask for it.
    assert [type(operator) for operator in ESAC("MlpPolicy", drift(), device=DEVICE).operators] == [AutomaticMutationTuning]


@pytest.mark.parametrize("overlap", [False, True])
def test_operators_are_told_of_the_generation(overlap):
    """By an object of a type, whose fields are those of the generation that has just been selected from."""
    seen = []

    class Look(Operator):
        def apply(self, generation):
            assert type(generation) is Generation
            with pytest.raises(dataclasses.FrozenInstanceError):
                generation.number = 7
            assert generation.population is model.population and generation.number == model.population.generation
            assert generation.run_seed == model.run_seed == 3
            groups = generation.row_groups()
            assert groups.shape == model.population.mean.shape and np.array_equal(groups, row_groups(model.actor))
            agent_steps.append(model.agent_timesteps)
            seen.append((generation.fitness, generation.agent_trained))
            winners, best = generation.population.winners, int(np.argmax(generation.fitness))
            offspring = selections[-1].result
            assert np.array_equal(generation.fitness, offspring.returns.mean(axis=1)) and len(winners) == 1
            assert np.array_equal(winners[0], requests[-1].parameters[best])

    agent_steps, requests = [0], []
    options = dict(agent_fraction=None, gradient_interval=2, agent_probability=1.0, champion_episodes=0)
    model = make_model(ESAC, drift(), seed=3, overlap=overlap, **options)
    mutate = model._mutate
    model._mutate = lambda: requests.append(mutate()) or requests[-1]
    selections = keep_selections(model)
    model.operators.append(Look())
    model.learn(300)
    assert len(seen) == model.population.generation > 4
    trained = [trained for _, trained in seen]
    assert trained == (np.diff(agent_steps) > 0).tolist() and True in trained and False in trained


def test_operators_left_out():
    options = dict(seed=0, agent_fraction=0.5, n_agent_members=1, sigma=0.1, amt_clip=0.05)
    model = make_model(ESAC, drift(), **options).learn(300)
    assert model.population.sigma > 0.1 and (model.population.origins == 1).any()
    model = make_model(ESAC, drift(), **options)
    model.operators.clear()
    model.learn(300)
    assert model.operators == []
    assert model.population.sigma == 0.1
    assert model.population.origins.tolist() == [0, 0, 0, 2]


@pytest.mark.parametrize("operators", [5, [5], None])
@pytest.mark.parametrize("changes", [dict(), dict(amt_clip=0.0)])
def test_what_are_no_operators(operators, changes):
    model = make_model(ESAC, drift())
    model.operators = operators
    for name, value in changes.items():
        setattr(model, name, value)
    with pytest.raises(ValueError, match=r"`model.operators` must be a list of operators.*, not "):
        model.learn(100)


def test_operators_replaced():
    """Any callback will do. It sees the model and what the generation brought, once per generation, in the list's order."""
    seen, crossed, order = [], [], []

    class Halve(BaseCallback):
        def _on_step(self):
            population = self.locals["generation"].population
            assert population is self.model.population
            population.sigma *= 0.5
            seen.append((population.generation, self.locals["generation"].fitness.shape, len(population.winners)))
            self.logger.record("population/halved", True)
            order.append("halve")
            return True

    class Reverse(HindsightCrossover):
        def apply(self, generation):
            super().apply(generation)
            generation.population.children = generation.population.children[::-1].copy()
            crossed.append(generation.population.children)
            order.append("reverse")

    model = make_model(ESAC, drift(), seed=0, sigma=0.4, agent_fraction=None, gradient_interval=1, agent_probability=1.0)
    model.operators = [Reverse(), Halve()]
    model.learn(200)
    generations = model.population.generation
    assert generations > 2
    assert seen == [(number, (4,), 1) for number in range(generations)]
    assert model.population.sigma == 0.4 * 0.5**generations
    assert len(crossed) == generations and order == ["reverse", "halve"] * generations
    assert np.array_equal(model.population.members[model.population.origins == 1], crossed[-1])


def test_tuning_only_after_gradient_intervals():
    """Algorithm 1, line 24 stands inside the interval."""
    trained, tuned = [], []

    class Note(AutomaticMutationTuning):
        def apply(self, generation):
            before = generation.population.sigma
            super().apply(generation)
            trained.extend([generation.number] * generation.agent_trained)
            tuned.extend([generation.number] * (generation.population.sigma != before))

    options = dict(agent_fraction=None, gradient_interval=3, agent_probability=1.0, champion_episodes=0)
    model = make_model(ESAC, drift(), seed=0, **options)
    model.operators[0] = Note()
    model.learn(500)
    assert model.population.generation > 6
    # The last generation spent the budget.
    assert trained == tuned == [number for number in range(model.population.generation - 1) if (number + 1) % 3 == 0]


def test_operator_can_stop_the_run():
    class Stop(BaseCallback):
        def _on_step(self):
            return self.model.population.generation < 2

    model = make_model(ESAC, drift(), seed=0)
    model.operators.insert(1, Stop())
    count = Count()
    model.learn(10_000, callback=count)
    assert model.population.generation == 2 and count.events[-1] == "training end"


def test_sac_scripts_callback():
    """A callback that was written for SAC and looks at its parts finds them."""

    class Parts(BaseCallback):
        def _on_step(self):
            names = ("actor", "critic", "critic_target", "replay_buffer", "ent_coef", "log_ent_coef", "gamma", "_n_updates")
            for name in names:
                assert getattr(self.model, name) is not None
            self.model.replay_buffer.size()
            return True

    for algorithm, kwargs in ((ESAC, dict(population_size=4)), (SAC, {})):
        model = algorithm("MlpPolicy", drift(), policy_kwargs=dict(net_arch=[8]), buffer_size=100, **kwargs)
        model.learn(30, callback=Parts())


# -- what callbacks find in their locals -------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["function", "class"])
def test_self_in_locals_is_the_model(algorithm, kind):
    """In the agent's steps as in the population's, so that old functions save it and ask it for its steps."""
    found, steps, played = [], [], set()

    def look(variables, _=None):
        found.append(variables["self"])
        steps.append(variables["self"].num_timesteps)
        played.add(variables["self"].agent_timesteps > 0)
        return True

    class Look(BaseCallback):
        def _on_step(self):
            return look(self.locals)

    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.5)
    model.learn(200, callback=look if kind == "function" else Look())
    assert all(one is model for one in found)
    assert steps == list(range(1, model.num_timesteps + 1))
    assert (True in played) is (algorithm in HYBRIDS)


# -- without end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("total", [float("inf"), 1e18])
@pytest.mark.parametrize(
    "options",
    [dict(), dict(episode_length_schedule=lambda remaining: 5), dict(agent_fraction=lambda r: 0.5 * r)],
    ids=["plain", "cut", "schedule"],
)
def test_until_a_callback_says_stop(algorithm, total, options, tmp_path):
    if algorithm not in HYBRIDS and "agent_fraction" in options:
        options = dict(sigma=lambda remaining: 0.1 + 0.1 * remaining)
    model = make_model(algorithm, drift(), seed=0, **options)
    model.learn(total, callback=StopTrainingOnMaxEpisodes(12))
    assert model._current_progress_remaining == pytest.approx(1.0) and 0 < model.num_timesteps < 1000
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=drift())
    loaded.learn(total, callback=StopTrainingOnMaxEpisodes(2), reset_num_timesteps=False)
    assert loaded.num_timesteps > model.num_timesteps


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_real_progress_bar_without_end(algorithm):
    pytest.importorskip("rich")
    make_model(algorithm, drift(), seed=0).learn(float("inf"), callback=StopTrainingOnMaxEpisodes(5), progress_bar=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_needs_an_end(algorithm):
    lengths = ProgressiveEpisodeLength(first_length=3, horizon=12)
    model = make_model(algorithm, drift(), episode_length_schedule=lengths)
    with pytest.raises(ValueError, match=r"`total_timesteps` must be finite, not inf, for a ProgressiveEpisodeLength"):
        model.learn(float("inf"))
    with pytest.raises(ValueError, match=r"`total_timesteps` must be a number of steps or infinity, not nan"):
        model.learn(float("nan"))
    # By the clock of the paper, and by steps, there is nothing to share.
    for length in ({"phase_seconds": 60.0}, {"phase_steps": 60}):
        model.episode_length_schedule = ProgressiveEpisodeLength(first_length=3, horizon=12, **length)
        model.learn(float("inf"), callback=StopTrainingOnMaxEpisodes(8))
        assert model.arena.caps.cap == 3
    # Neither does it begin while a run goes on.
    model = make_model(algorithm, drift())
    with pytest.raises(ValueError, match="`total_timesteps` must be finite"):
        model.learn(float("inf"), Tell(on_generation=lambda model: setattr(model, "episode_length_schedule", lengths)))
