"""
Steps per second of CPU on a ``VecEnv`` that is a simulator itself: the simulator alone, and offspring in lockstep on it that
act one after the other and together: ``python -m benchmarks.simulators``. A toy of 256 lanes, and HalfCheetah of EnvPool with
64 where ``envpool`` can be imported.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.evaluation import RESULTS, write
from experiments.tables import Tables, columns
from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.players import Player, make_player
from sb3_esac.evaluation.policies import Act, LanePolicies
from sb3_esac.evaluation.vectors import to_vector

FIELDS = ["simulator", "lanes", "way", "rate", "slowest", "fastest", "of_simulator"]


class Batch(VecEnv):
    """A ``VecEnv`` without single environments; a subclass says how it resets and steps."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        if attr_name != "render_mode":
            raise AttributeError(attr_name)
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("There are no single environments.")

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        raise NotImplementedError("There are no single environments.")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def close(self) -> None:
        pass

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions


class Toy(Batch):
    """
    Points that drift; an episode takes 100 steps.

    :param n_lanes: Number of points.
    """

    def __init__(self, n_lanes: int) -> None:
        shape = (17,)
        super().__init__(n_lanes, spaces.Box(-np.inf, np.inf, shape, np.float32), spaces.Box(-1.0, 1.0, (6,), np.float32))
        self.rng = np.random.default_rng(0)
        self.x, self.t = np.zeros((n_lanes, *shape), dtype=np.float32), 0

    def reset(self) -> np.ndarray:
        self.x[:], self.t = self.rng.uniform(-1, 1, self.x.shape), 0
        return self.x.copy()

    def step_wait(self) -> Any:
        self.x[:, :6] += 0.1 * self.actions
        self.t += 1
        rewards = -np.abs(self.x[:, 0])
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        dones = np.full(self.num_envs, self.t >= 100)
        if self.t >= 100:
            infos = [{"TimeLimit.truncated": True, "terminal_observation": last} for last in self.x.copy()]
            self.reset()
        return self.x.copy(), rewards, dones, infos


class Pool(Batch):
    """
    HalfCheetah of EnvPool on one thread.

    :param n_lanes: Number of environments.
    """

    def __init__(self, n_lanes: int) -> None:
        import envpool

        self.pool = envpool.make("HalfCheetah-v5", env_type="gymnasium", num_envs=n_lanes, num_threads=1, seed=0)
        shape, actions = self.pool.observation_space.shape, self.pool.action_space.shape
        super().__init__(n_lanes, spaces.Box(-np.inf, np.inf, shape, np.float32), spaces.Box(-1.0, 1.0, actions, np.float32))

    def reset(self) -> np.ndarray:
        observations: np.ndarray = self.pool.reset()[0].astype(np.float32)
        return observations

    def step_wait(self) -> Any:
        raw, rewards, terminated, truncated, _ = self.pool.step(self.actions.astype(np.float64))
        observations, dones = raw.astype(np.float32), terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = np.flatnonzero(dones)
        for lane in ended:
            infos[lane] = {"terminal_observation": observations[lane].copy(), "TimeLimit.truncated": not terminated[lane]}
        if ended.size:
            observations[ended] = self.pool.reset(ended)[0]
        return observations, rewards.astype(np.float32), dones, infos


def play_alone(env: VecEnv, n_steps: int) -> float:
    """
    Step a simulator by random actions.

    :param env: The simulator.
    :param n_steps: Steps of all lanes together.
    :return: Steps per second of CPU.
    """
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (n_steps // env.num_envs, env.num_envs, *(env.action_space.shape or ()))).astype(np.float32)
    env.reset()
    start = time.process_time()
    for row in actions:
        env.step(row)
    return n_steps / (time.process_time() - start)


class OneByOne:
    """
    Lanes that never act in one forward.

    :param player: How a vector plays.
    """

    def __init__(self, player: Player) -> None:
        self.player = player

    def bind(self, vector: np.ndarray) -> Act:
        """Make the policy of one member."""
        return self.player.bind(vector)

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """Let the lanes act one by one."""
        return self.player.policies(env, together=False)


def play_offspring(env: VecEnv, n_steps: int, *, together: bool) -> float:
    """
    Play members of a population in lockstep, one to a lane.

    :param env: The simulator.
    :param n_steps: Least number of steps of all lanes together.
    :param together: Whether they act in one forward.
    :return: Steps per second of CPU.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ES("MlpPolicy", env, population_size=env.num_envs, seed=0)
    rng = np.random.default_rng(0)
    mean = to_vector(model.actor)
    vectors = (mean + 0.1 * rng.standard_normal((env.num_envs, mean.size))).astype(np.float32)
    player = make_player(model.actor)
    request = EvaluationRequest(vectors, np.arange(env.num_envs)[:, None], player if together else OneByOne(player))
    evaluator, counted = LockstepEvaluator(env), 0
    start = time.process_time()
    while counted < n_steps:
        result = evaluator.evaluate(request, lambda _: True)
        assert result is not None
        counted += int(result.lengths.sum())
    return counted / (time.process_time() - start)


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, and write a table.

    :param arguments: Words of the command line, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=64_000, help="least number of steps of a turn")
    parser.add_argument("--output", type=Path, default=RESULTS / "simulators.csv")
    options = parser.parse_args(arguments)
    th.set_num_threads(1)
    simulators: dict[str, VecEnv] = {"toy": Toy(256)}
    if find_spec("envpool") is not None:
        simulators["EnvPool, HalfCheetah-v5"] = Pool(64)
    ways: dict[str, Callable[[VecEnv], float]] = {
        "simulator": lambda env: play_alone(env, options.steps),
        "one after the other": lambda env: play_offspring(env, options.steps, together=False),
        "together": lambda env: play_offspring(env, options.steps, together=True),
    }
    rows = []
    for name, env in simulators.items():
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.turns):
            for way, play in ways.items():
                rates[way].append(play(env))
        for way, values in rates.items():
            ratio = round(median(values) / median(rates["simulator"]), 3)
            numbers = [round(number) for number in (median(values), min(values), max(values))]
            rows.append(dict(zip(FIELDS, [name, env.num_envs, way, *numbers, ratio], strict=True)))
            print(*rows[-1].values(), sep="  ")
    write(rows, FIELDS, options.output)
    return rows


TABLES: Tables = {
    "simulators": lambda: columns(
        RESULTS / "simulators.csv", "simulator", "lanes", "way", "rate", "slowest", "fastest", "of_simulator"
    )
}


if __name__ == "__main__":
    main()
