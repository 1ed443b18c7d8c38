"""Small environments for the tests of evaluators; worker processes import them by name."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle


class Point(gym.Env):
    """
    A point that is pushed about. The seed decides how long an episode is; an even length is that of a time limit.

    :param dtype: Type of the observations.
    :param given_dtype: Type in which they are given all the same.
    :param longest: Longest episode.
    :param in_place: Give the same array again and again, as some simulators do.
    """

    def __init__(
        self, dtype: type = np.float64, given_dtype: type | None = None, longest: int = 12, in_place: bool = False
    ) -> None:
        self.observation_space: spaces.Space = spaces.Box(-np.inf, np.inf, (3,), dtype)  # type: ignore[type-var]
        self.action_space = spaces.Box(np.array([-1.0, -0.5], np.float32), np.array([1.0, 2.0], np.float32))
        self.state = np.zeros(3, dtype=given_dtype or dtype)
        self.longest, self.in_place = longest, in_place
        self.steps = self.length = self.seed_given = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.seed_given = -1 if seed is None else seed
        self.steps, self.length = 0, int(self.np_random.integers(1, self.longest + 1))
        self.state[:] = self.np_random.standard_normal(3)
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        push = np.array([action[0], action[1], action[0] * action[1]], dtype=np.float64)
        self.state[:] = 0.9 * self.state + push + 0.1 * self.np_random.standard_normal(3)
        done = self.steps >= self.length
        return (
            self.observe(),
            np.float64(np.sin(self.state.sum())),
            done and self.length % 2 == 1,
            done and self.length % 2 == 0,
            {},
        )

    def observe(self) -> Any:
        """What is seen of the state."""
        return self.state if self.in_place else self.state.copy()


class DictPoint(Point):
    """The point with a ``Dict`` observation."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Dict(
            {"place": spaces.Box(-np.inf, np.inf, (3,), np.float64), "clock": spaces.Box(0.0, 1.0, (1,), np.float32)}
        )

    def observe(self) -> Any:
        return {"place": self.state.copy(), "clock": np.array([self.steps / self.longest], dtype=np.float32)}


class PixelPoint(Point):
    """The point seen as an image."""

    def __init__(self) -> None:
        super().__init__(longest=5)
        self.observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)

    def observe(self) -> Any:
        rows = np.arange(36)[:, None, None] * (1 + abs(self.state[0]))
        columns = np.arange(36)[None, :, None] * (1 + abs(self.state[1]))
        return ((rows + columns) % 256).astype(np.uint8)


class FaultyPoint(Point):
    """
    The point with faults that depend on the seed: ``nan_reward``, ``nan_observation``, ``inf_last``, ``nan_first``.

    :param fault: Which one.
    """

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def observe(self) -> Any:
        observation = self.state.copy()
        faulty = self.seed_given % 3 == 0
        when = {"nan_observation": 1, "nan_first": 0, "inf_last": self.length}.get(self.fault, -1)
        if faulty and self.steps == when:
            observation[1] = np.inf if self.fault == "inf_last" else np.nan
        return observation

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        if self.fault == "nan_reward" and self.seed_given % 3 == 0 and self.steps == 1:
            reward = np.nan
        return observation, reward, terminated, truncated, info


class Troubled(Point):
    """
    The point that gets its process into trouble, on one seed: ``kill``, ``hang``, ``raise``, ``exit``.

    :param trouble: Which kind.
    :param seed: On which seed.
    :param marker: A file that says that it has happened; without one it happens each time.
    :param pause: Seconds that a step takes.
    """

    def __init__(self, trouble: str = "none", seed: int = 5, marker: str | None = None, pause: float = 0.0) -> None:
        super().__init__()
        self.trouble, self.troubled_seed, self.pause = trouble, seed, pause
        self.marker = None if marker is None else Path(marker)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if seed == self.troubled_seed and (self.marker is None or not self.marker.exists()):
            if self.marker is not None:
                self.marker.touch()
            if self.trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            while self.trouble == "hang":
                time.sleep(0.1)
            if self.trouble == "raise":
                raise ArithmeticError("the point fell off the plane")
            if self.trouble == "exit":
                raise SystemExit(3)
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        time.sleep(self.pause)
        return super().step(action)


def slow_point() -> gym.Env:
    """A point in treacle."""
    return Troubled(pause=0.02)


def unbuildable() -> gym.Env:
    """A factory that fails."""
    raise FileNotFoundError("no such robot")


class Lesson(gym.Env):
    """
    Five steps whose reward is the level; success is drawn by the seed.

    :param level: What a curriculum changes.
    :param worker_id: Tells lanes apart.
    """

    def __init__(self, level: int = 0, worker_id: int = 0) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.level, self.worker_id, self.broken = level, worker_id, False

    def __setstate__(self, state: dict[str, Any]) -> None:
        if state.get("broken"):
            raise RuntimeError("this robot cannot be copied")
        self.__dict__.update(state)

    def set_level(self, level: int) -> None:
        self.level = level

    def set_anything(self, thing: Any) -> None:
        """Take what cannot be pickled."""

    def get_level(self) -> int:
        return self.level

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_steps, self.wins = 0, bool(self.np_random.random() < 0.5)
        return np.zeros(2, np.float32), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.n_steps += 1
        done = self.n_steps >= 5
        return np.zeros(2, np.float32), float(self.level), False, done, {"is_success": self.wins} if done else {}


class RebuiltLesson(EzPickle, Lesson):
    """The same, made anew by unpickling as MuJoCo's environments are."""

    def __init__(self) -> None:
        Lesson.__init__(self)
        EzPickle.__init__(self)


class SharedFolder(Lesson):
    """
    Owns a folder, which goes with it.

    :param folder: Its path.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self.folder.mkdir()

    def close(self) -> None:
        if self.folder.exists():
            self.folder.rmdir()
