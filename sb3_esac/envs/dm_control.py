"""DM Control tasks as shimmy gives them, made fit for algorithms that expect vectors, and for videos."""

import gymnasium as gym
from gymnasium.wrappers import FlattenObservation


class FlatObservation(FlattenObservation):
    """
    One vector instead of a dict of observations, and the true number of frames per second.

    shimmy 2.0 says 10 frames per second where a task of DM Control has 100, and shares the number among all tasks.

    :param env: A ``dm_control/...-v0`` environment.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.metadata = {**env.metadata, "render_fps": round(1 / env.unwrapped.dt)}  # type: ignore[attr-defined]
