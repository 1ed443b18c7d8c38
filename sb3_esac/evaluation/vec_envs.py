"""What a ``VecEnv`` is made of, and what it allows."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

ONLOOKERS = (
    *("Monitor", "PassiveEnvChecker", "OrderEnforcing", "RecordVideo", "RecordEpisodeStatistics"),
    *("HumanRendering", "RenderCollection"),
)
"""Wrappers that change nothing of a task."""


def take(observations: Any, lane: int) -> Any:
    """
    Copy one lane's observation out of a batch.

    :param observations: Batch of a ``VecEnv``.
    :param lane: Number of the environment.
    :return: That environment's observation.
    """
    if isinstance(observations, dict):
        return {key: value[lane].copy() for key, value in observations.items()}
    return observations[lane].copy()


def base_vec_env(venv: VecEnv) -> VecEnv:
    """The ``VecEnv`` under all wrappers."""
    while isinstance(venv, VecEnvWrapper):
        venv = venv.venv
    return venv


def task_name(venv: VecEnv) -> str | None:
    """
    What the environments call themselves: class, wrappers and registered name; None if they cannot be asked.

    :param venv: Any ``VecEnv``.
    :return: The name without wrappers that only look on.
    """
    base = base_vec_env(venv)
    if isinstance(base, DummyVecEnv):
        name = str(base.envs[0])
    elif isinstance(base, SubprocVecEnv):
        # Not of the object: what callers ask is noted for the copies of the environments.
        name = str(SubprocVecEnv.env_method(base, "__str__", indices=0)[0])
    else:
        return None
    return re.sub(rf"<({'|'.join(ONLOOKERS)})(?=<)|>", "", name)


def can_postpone_resets(venv: VecEnv) -> bool:
    """
    Whether a reset whose observations are not used may be left out: unknown wrappers might need what it does.

    :param venv: Any ``VecEnv``.
    """
    known = (VecNormalize, VecFrameStack, VecMonitor, VecTransposeImage, VecCheckNan, VecExtractDictObs)
    while isinstance(venv, VecEnvWrapper):
        if type(venv) not in known:
            return False
        venv = venv.venv
    return True


def forbids_early_resets(venv: VecEnv) -> bool:
    """
    Whether an environment must not be reset before its episode is over (``Monitor(allow_early_resets=False)``).

    :param venv: Any ``VecEnv``.
    """
    base = base_vec_env(venv)
    if isinstance(base, DummyVecEnv):
        return any(not monitor.allow_early_resets for env in base.envs for monitor in _monitors(env))
    # A process answers safely whether an attribute is there, and this one can always be sent.
    if isinstance(base, SubprocVecEnv) and base.has_attr("allow_early_resets"):
        return not all(base.get_attr("allow_early_resets"))
    return False


def _monitors(env: Any) -> Iterator[Monitor]:
    while hasattr(env, "env"):
        if isinstance(env, Monitor):
            yield env
        env = env.env


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether a space holds 8-bit images."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
