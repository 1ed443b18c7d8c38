"""Same seed, same run; and nothing that should not matter matters."""

import random
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from helpers import ALGORITHMS, Drift, Tell, differences, drift, keep_log, make_model, state_of, without_clock
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac import ESAC
from sb3_esac.callbacks import HindsightCrossover


class Remember(HindsightCrossover):
    """Keeps the fitness of each generation."""

    def __init__(self):
        super().__init__()
        self.fitness = []

    def _on_step(self):
        self.fitness.append(self.locals["fitness"].copy())
        return super()._on_step()


def run(algorithm=ESAC, env=None, steps=300, callback=None, **kwargs):
    """A run, its log, and the fitness of each generation."""
    model = make_model(algorithm, env or drift(), **kwargs)
    remember = model.crossover_callback = Remember()
    log = keep_log(model)
    model.learn(steps, callback=callback)
    return state_of(model), without_clock(log), remember.fitness


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "options",
    [
        dict(agent_fraction=0.4),
        dict(agent_fraction=None, gradient_interval=1, recombination="es", crossover="element"),
        dict(action_noise=NormalActionNoise(np.zeros(1), 0.1 * np.ones(1)), normalize_observations=True),
        dict(overlap=True, agent_fraction=0.4),
    ],
    ids=["fraction", "paper", "noise", "overlap"],
)
def test_same_seed(algorithm, options):
    one, other = (run(algorithm, seed=5, **deepcopy(options)) for _ in range(2))
    assert one[0]["counters"]["n_updates"] > 0 and len(one[1]) > 2
    assert differences(one, other) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_different_seed(algorithm):
    (one, _, fitness), (other, _, other_fitness) = (run(algorithm, seed=seed) for seed in (5, 6))
    assert not np.isin(fitness[0], other_fitness[0]).any()
    for name in ("agent.policy", "population"):
        assert differences(one["parameters"][name], other["parameters"][name])


def test_different_seed_differs_in_episodes_and_noise():
    """Not only by the initial networks: the same start, another seed."""
    outcomes = []
    for run_seed in (0, 1):
        model = make_model(ESAC, drift(), seed=0, agent_fraction=0.0)
        model.run_seed = run_seed
        remember = model.crossover_callback = Remember()
        mean, offspring = model.population.mean.copy(), model.population.perturb(run_seed)
        model.learn(40)
        outcomes.append((mean, offspring, remember.fitness[0]))
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
    assert differences(state, reference) == []
    # SubprocVecEnv sums rewards in double precision.
    for entry in log + reference_log:
        entry.pop("agent/return_mean", None)
    assert differences(log, reference_log) == []


@pytest.mark.parametrize("n_envs", [2, 3, 7])
@pytest.mark.parametrize("options", [dict(), dict(n_eval_episodes=3, share_from="all", normalize_observations=True)], ids=str)
def test_one_and_several_environments(n_envs, options):
    """Without the agent nothing depends on the number of lanes; idle ones cost steps and change nothing."""
    options = dict(options, agent_fraction=0.0, champion_episodes=0, seed=1)
    one, _, fitness = run(env=drift(1), steps=300, **options)
    several, _, fitness_of_several = run(env=drift(n_envs), steps=300, **options)
    generations = min(len(fitness), len(fitness_of_several))
    assert generations >= 2
    assert differences(fitness[:generations], fitness_of_several[:generations]) == []
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

    class Draws(Remember):
        def _on_step(self):
            draw(self.model)
            return super()._on_step()

    states = []
    for operator in (Remember(), Draws()):
        model = make_model(algorithm, drift(), seed=2, agent_fraction=0.4)
        model.crossover_callback = operator
        model.learn(200)
        if isinstance(operator, Draws):
            draw(model)
        model.learn(100, reset_num_timesteps=False)
        states.append(state_of(model))
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


def test_environments_in_any_state():
    """Episodes are seeded one by one: what was played on the environment before does not matter."""
    fresh, used = drift(), drift()
    used.seed(99)
    used.reset()
    for _ in range(30):
        used.step([used.action_space.sample()])
    assert differences(run(env=fresh, seed=3)[0], run(env=used, seed=3)[0]) == []
