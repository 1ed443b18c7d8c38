"""DM Control tasks as shimmy gives them, made fit for algorithms that expect vectors, and for videos."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import FlattenObservation


class FlatObservation(FlattenObservation):
    """
    One vector instead of a dict of observations; for pictures a camera that follows the robot, and the true number of frames
    per second.

    shimmy 2.0 says 10 frames per second where a task of DM Control has 100, and shares the number among all tasks. Its camera
    stands still, so that a walker soon runs out of the picture.

    :param env: A ``dm_control/...-v0`` environment; a ``camera_id`` among its ``render_kwargs`` is kept.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.metadata = {**env.metadata, "render_fps": round(1 / env.unwrapped.dt)}  # type: ignore[attr-defined]
        if env.render_mode is not None:
            _follow(env.unwrapped)


def _follow(env: Any) -> None:
    """Take the first camera of the model that moves with a body, if there is one."""
    from mujoco import mjtCamLight

    moving = np.isin(env._env.physics.model.cam_mode, (mjtCamLight.mjCAMLIGHT_TRACK, mjtCamLight.mjCAMLIGHT_TRACKCOM))
    if moving.any():
        env.render_kwargs = {"camera_id": int(moving.argmax()), **env.render_kwargs}
