"""
Stepping and resetting the single environments of a ``VecEnv`` one by one.

A ``VecEnv`` resets an environment whose episode is over at once and without a seed. Who drives its environments instead
decides when the next episode begins and with which seed, so that no environment is reset twice for one episode.
"""

import copy
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

Step = tuple[Any, float, bool, bool, dict[str, Any]]
"""What an environment's ``step`` gives: observation, reward, terminated, truncated, info."""

Reset = tuple[Any, dict[str, Any]]
"""What its ``reset`` gives: observation, info."""


class Driver(Protocol):
    """Reaches the single environments of a ``VecEnv``, its lanes."""

    def send(self, actions: np.ndarray, awake: np.ndarray) -> None:
        """
        Begin a step.

        :param actions: (n_envs, ...) an action for each lane.
        :param awake: (n_envs,) lanes that step.
        """

    def receive(self) -> dict[int, Step]:
        """End the step; observations and infos of each lane that has stepped, by lane, are the caller's own."""

    def reset(self, arguments: dict[int, dict[str, Any]]) -> dict[int, Reset]:
        """
        Begin an episode in some lanes.

        :param arguments: By lane, what its ``reset`` is given.
        """


def make_driver(env: VecEnv) -> Driver | None:
    """
    Find out whether the environments in a ``VecEnv`` can be driven.

    :param env: A ``VecEnv`` without wrappers.
    :return: None for one that is a simulator itself, or of a class that steps or resets in a way of its own.
    """
    if isinstance(env, DummyVecEnv) and _is_plain(env, DummyVecEnv):
        return DummyDriver(env)
    if isinstance(env, SubprocVecEnv) and _is_plain(env, SubprocVecEnv):
        return SubprocDriver(env)
    return None


def _is_plain(env: VecEnv, kind: type[VecEnv]) -> bool:
    return all(getattr(type(env), name) is getattr(kind, name) for name in ("step_async", "step_wait", "reset"))


class DummyDriver:
    """
    Drives the environments of a ``DummyVecEnv``.

    :param env: Their ``VecEnv``.
    """

    def __init__(self, env: DummyVecEnv) -> None:
        self.env = env
        self.actions: np.ndarray = np.empty(0)
        self.awake: list[int] = []

    def send(self, actions: np.ndarray, awake: np.ndarray) -> None:
        self.actions, self.awake = actions, [lane for lane, steps in enumerate(awake.tolist()) if steps]

    def receive(self) -> dict[int, Step]:
        envs, steps = self.env.envs, {}
        for lane in self.awake:
            observation, reward, terminated, truncated, info = envs[lane].step(self.actions[lane])
            # Environments may use their arrays and dicts again.
            if terminated or truncated:
                observation = copy.deepcopy(observation)
            steps[lane] = observation, float(reward), bool(terminated), bool(truncated), own_info(info)
        return steps

    def reset(self, arguments: dict[int, dict[str, Any]]) -> dict[int, Reset]:
        return {lane: self.env.envs[lane].reset(**kwargs) for lane, kwargs in arguments.items()}


def own_info(info: dict[str, Any]) -> dict[str, Any]:
    """
    Copy an ``info``, which an environment may use again.

    :param info: What a step gave.
    """
    # Most hold nothing but numbers, which take a twentieth of the time.
    return dict(info) if all(type(value) in PLAIN for value in info.values()) else copy.deepcopy(info)


PLAIN = {bool, int, float, str, type(None), np.bool_, np.float32, np.float64, np.int32, np.int64}
"""Types whose values never change."""


class SubprocDriver:
    """
    Drives the environments of a ``SubprocVecEnv``, in the words that it has for its processes: a step that resets nothing is
    a call of the environment's method.

    :param env: Their ``VecEnv``.
    """

    def __init__(self, env: SubprocVecEnv) -> None:
        self.env = env
        self.awake: np.ndarray = np.zeros(env.num_envs, dtype=bool)

    def send(self, actions: np.ndarray, awake: np.ndarray) -> None:
        self.awake = awake.copy()
        for remote, action, steps in zip(self.env.remotes, actions, awake, strict=True):
            # `close` waits for an answer of everybody if it comes between here and `receive`.
            remote.send(("env_method", ("step", (action,), {})) if steps else ("has_attr", "step"))
        self.env.waiting = True

    def receive(self) -> dict[int, Step]:
        answers = [remote.recv() for remote in self.env.remotes]
        self.env.waiting = False
        return {lane: answers[lane] for lane in np.flatnonzero(self.awake).tolist()}

    def reset(self, arguments: dict[int, dict[str, Any]]) -> dict[int, Reset]:
        for lane, kwargs in arguments.items():
            self.env.remotes[lane].send(("reset", (kwargs.get("seed"), kwargs.get("options"))))
        return {lane: self.env.remotes[lane].recv() for lane in arguments}
