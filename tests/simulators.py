"""A simulator that is a ``VecEnv`` itself, without single environments."""

from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv


class Simulator(VecEnv):
    """
    Points on a line that are to be held at zero, all in one array; a lane that is done is reset at once, as of itself.

    :param n_lanes: Number of points.
    :param n_steps: Steps after which an episode is truncated; lane i has ``n_steps + i % 3``.
    :param tells_last: Whether ``infos`` have the terminal observation.
    """

    def __init__(self, n_lanes: int = 4, n_steps: int = 10, tells_last: bool = True) -> None:
        box = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        super().__init__(n_lanes, box, spaces.Box(-1.0, 1.0, (1,), np.float32))
        self.rng, self.tells_last = np.random.default_rng(0), tells_last
        self.ends = n_steps + np.arange(n_lanes) % 3
        self.x, self.t = np.zeros(n_lanes), np.zeros(n_lanes, dtype=int)
        self.n_resets = self.n_steps = 0

    def look(self) -> np.ndarray:
        return np.stack([self.x, self.t / 10, np.ones(self.num_envs)], axis=1).astype(np.float32)

    def begin(self, which: np.ndarray) -> None:
        self.x[which], self.t[which] = self.rng.uniform(-1, 1, which.sum()), 0

    def reset(self) -> np.ndarray:
        self.n_resets += 1
        self.begin(np.ones(self.num_envs, dtype=bool))
        return self.look()

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        self.n_steps += self.num_envs
        self.x += 0.3 * self.actions[:, 0]
        self.t += 1
        dones, last = self.t >= self.ends, self.look()
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for lane in np.flatnonzero(dones):
            infos[lane]["TimeLimit.truncated"] = True
            if self.tells_last:
                infos[lane]["terminal_observation"] = last[lane]
        rewards = -np.abs(self.x).astype(np.float32)
        self.begin(dones)
        return self.look(), rewards, dones, infos

    def close(self) -> None:
        pass

    def get_attr(self, name: str, indices: Any = None) -> list[Any]:
        if name == "render_mode":
            return [None] * self.num_envs
        raise AttributeError(name)

    # As in simulators that step all lanes at once: there are no single environments to be asked or changed.
    def set_attr(self, *args: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def env_method(self, name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError(name)

    def env_is_wrapped(self, wrapper: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs
