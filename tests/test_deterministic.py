"""Same seed, same run; and nothing that should not matter matters."""

import random
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import (
    ALGORITHMS,
    HYBRIDS,
    Drift,
    Tell,
    differences,
    drift,
    keep_log,
    keep_selections,
    make_model,
    state_of,
    without_clock,
)
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac import ES, ESAC
from sb3_esac.evolution.strategies import STRATEGIES


def run(algorithm=ESAC, env=None, steps=300, callback=None, **kwargs):
    """A run, its log, and the fitness of each generation."""
    model = make_model(algorithm, env or drift(), **kwargs)
    selections, log = keep_selections(model), keep_log(model)
    model.learn(steps, callback=callback)
    return state_of(model), without_clock(log), [selection.fitness for selection in selections]


@pytest.mark.parametrize(
    "algorithm, options",
    [
        (ESAC, dict(agent_fraction=0.4)),
        (ESAC, dict(agent_fraction=None, gradient_interval=1, strategy="openai", crossover="element")),
        (ESAC, dict(action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)), normalize_observations=True)),
        (ESAC, dict(overlap=True, agent_fraction=0.4)),
        (ES, dict(normalize_observations=True)),
        *[(ES, dict(strategy=name)) for name in STRATEGIES],
    ],
    ids=["fraction", "paper", "noise", "overlap", "normalized", *STRATEGIES],
)
def test_same_seed(algorithm, options):
    one, other = (run(algorithm, seed=5, **deepcopy(options)) for _ in range(2))
    assert len(one[1]) > 2 and (algorithm not in HYBRIDS or one[0]["counters"]["n_updates"] > 0)
    assert differences(one, other) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_different_seed(algorithm):
    (one, _, fitness), (other, _, other_fitness) = (run(algorithm, seed=seed) for seed in (5, 6))
    assert not np.isin(fitness[0], other_fitness[0]).any()
    for name in ("agent.policy", "population") if algorithm in HYBRIDS else ("policy",):
        assert differences(one["parameters"][name], other["parameters"][name])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_different_seed_differs_in_episodes_and_noise(algorithm):
    """Not only by the initial networks: the same start, another seed."""
    outcomes = []
    for run_seed in (0, 1):
        model = make_model(algorithm, drift(), seed=0, agent_fraction=0.0)
        model.run_seed = run_seed
        selections = keep_selections(model)
        mean, offspring = model.population.mean.copy(), model.population.perturb(run_seed)
        model.learn(40)
        outcomes.append((mean, offspring, selections[0].fitness))
    assert np.array_equal(outcomes[0][0], outcomes[1][0])
    for one, other in zip(outcomes[0][1:], outcomes[1][1:], strict=True):
        assert not np.isin(one, other).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seed_given_later(algorithm, tmp_path):
    """By ``set_random_seed`` or on loading: from there on the run is that of the other seed."""
    make_model(algorithm, drift(), seed=0).save(tmp_path / "model")
    states = {}
    for name in ("set", "loaded", "set and loaded", "not at all"):
        model = algorithm.load(tmp_path / "model", env=drift(), **(dict(seed=9) if name == "loaded" else {}))
        if name.startswith("set"):
            model.set_random_seed(9)
        if name == "set and loaded":
            model.save(tmp_path / "again")
            model = algorithm.load(tmp_path / "again", env=drift())
        states[name] = state_of(model.learn(60))
    assert differences(states["set"], states["loaded"]) == []
    assert differences(states["set"], states["set and loaded"]) == []
    assert not np.isin(states["set"]["population"]["winners"], states["not at all"]["population"]["winners"]).any()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_seed(algorithm):
    seeds = {make_model(algorithm, drift()).run_seed for _ in range(3)}
    assert len(seeds) == 3 and all(isinstance(seed, int) for seed in seeds)


def test_dummy_and_subprocess_environments():
    """The whole run, the agent's part as well."""
    env = make_vec_env(Drift, 2, vec_env_cls=SubprocVecEnv, vec_env_kwargs=dict(start_method="fork"))
    try:
        state, log, fitness = run(env=env, seed=1, agent_fraction=0.4)
    finally:
        env.close()
    reference, reference_log, reference_fitness = run(env=drift(2), seed=1, agent_fraction=0.4)
    assert reference["counters"]["n_updates"] > 0
    assert differences(fitness, reference_fitness) == []
    # SubprocVecEnv sums rewards in double precision.
    for learner in (state["learner"], reference["learner"]):
        learner["level"] = round(learner["level"], 4)
    assert differences(state, reference) == []
    for entry in log + reference_log:
        entry.pop("agent/return_mean", None)
    assert differences(log, reference_log) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [2, 3, 7])
@pytest.mark.parametrize("options", [dict(), dict(n_eval_episodes=3, normalize_observations=True)], ids=str)
def test_one_and_several_environments(algorithm, n_envs, options):
    """Without the agent nothing depends on the number of lanes; idle ones cost steps and change nothing."""
    options = dict(options, agent_fraction=0.0, champion_episodes=0, seed=1)
    one, _, fitness = run(algorithm, drift(1), steps=300, **options)
    several, _, fitness_of_several = run(algorithm, drift(n_envs), steps=300, **options)
    generations = min(len(fitness), len(fitness_of_several))
    assert generations >= 2
    assert differences(fitness[:generations], fitness_of_several[:generations]) == []
    if algorithm not in HYBRIDS:
        return
    # Their first generations have filled the stores alike.
    stores = [state["buffers"][1] for state in (one, several)]
    rows = min(store["pos"] for store in stores)
    assert rows > 20
    for name in ("observations", "actions", "rewards", "dones", "timeouts"):
        assert np.array_equal(stores[0][name][:rows], stores[1][name][:rows])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_global_generators_between_generations(algorithm):
    """Whatever else draws from them, or seeds them, between two generations changes nothing."""

    def draw(model):
        random.random(), np.random.rand(3), th.rand(3)
        np.random.seed(model.population.generation)
        th.manual_seed(7)
        model.action_space.seed(1)

    class Draws(Logger):
        """Draws when a generation is over."""

        def dump(self, step=0):
            draw(model)

    states = []
    for logger in (Logger(None, []), Draws(None, [])):
        model = make_model(algorithm, drift(), seed=2, agent_fraction=0.4)
        model.set_logger(logger)
        model.learn(200)
        if isinstance(logger, Draws):
            draw(model)
        model.learn(100, reset_num_timesteps=False)
        states.append(state_of(model))
    if algorithm in HYBRIDS:
        assert states[0]["counters"]["n_updates"] > 0
    assert differences(*states) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_callbacks_change_nothing(algorithm):
    """Watching a run, evaluating and predicting are not taking part in it."""
    watch = [Tell(lambda model: model.predict(np.zeros(3, dtype=np.float32), deterministic=True))]
    watch.append(EvalCallback(drift(), eval_freq=20, n_eval_episodes=1, verbose=0))
    watched, _, _ = run(algorithm, seed=2, agent_fraction=0.4, callback=watch)
    plain, _, _ = run(algorithm, seed=2, agent_fraction=0.4)
    assert differences(watched, plain) == []


@pytest.mark.parametrize("discrete, strategy", [(True, "openai"), *[(False, name) for name in STRATEGIES]])
def test_workers_change_nothing(discrete, strategy):
    """Whole episodes in processes, or step by step in this one."""
    action_space = spaces.Discrete(3) if discrete else spaces.Box(-1.0, 1.0, (1,), np.float32)
    options = dict(seed=4, strategy=strategy, normalize_observations=True, champion_episodes=2)
    lockstep = run(ES, make_vec_env(partial(Choice, action_space)), **options)
    options.update(backend="subproc", n_workers=2, env_fn=partial(Choice, action_space))
    workers = run(ES, make_vec_env(partial(Choice, action_space)), **options)
    assert len(lockstep[2]) > 3 and len(np.unique(lockstep[2][0])) > 1
    assert differences(lockstep, workers) == []


class Choice(Drift):
    """
    ``Drift`` with any action space: discrete actions push to the left, not at all, or to the right.

    :param action_space: ``Box`` or ``Discrete``.
    """

    def __init__(self, action_space):
        super().__init__()
        self.action_space = action_space

    def step(self, action):
        assert self.action_space.contains(action)
        return super().step(action - 1 if isinstance(self.action_space, spaces.Discrete) else action)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_environments_in_any_state(algorithm):
    """Episodes are seeded one by one: what was played on the environment before does not matter."""
    fresh, used = drift(), drift()
    used.seed(99)
    used.reset()
    for _ in range(30):
        used.step([used.action_space.sample()])
    assert differences(run(algorithm, fresh, seed=3)[0], run(algorithm, used, seed=3)[0]) == []
