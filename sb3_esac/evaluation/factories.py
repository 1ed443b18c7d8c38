"""How to build one lane of the user's ``VecEnv`` again, in another process."""

import io
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cloudpickle
import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

Wrap = Callable[[VecEnv], VecEnv]


@dataclass(frozen=True)
class LaneRecipe:
    """
    One lane of a ``VecEnv``, ready to be built anywhere. It can be pickled with cloudpickle.

    :param env_fn: Gives a gymnasium environment with the wrappers that a lane has.
    :param wrappers: What makes the wrappers of the ``VecEnv``, innermost first.
    """

    env_fn: Callable[[], gym.Env]
    wrappers: tuple[Wrap, ...] = ()

    def build(self) -> gym.Env:
        """Make the gymnasium environment."""
        return self.env_fn()

    def wrap(self, env: gym.Env) -> VecEnv:
        """
        Put an environment under the user's wrappers, alone.

        :param env: What :meth:`build` gave.
        :return: A ``VecEnv`` of one lane.
        """
        venv: VecEnv = DummyVecEnv([lambda: env])
        for wrapper in self.wrappers:
            venv = wrapper(venv)
        return venv


def lane_recipe(env: VecEnv, env_fn: Callable[[], gym.Env] | None = None, env_id: str | None = None) -> LaneRecipe | None:
    """
    Find out how to build one lane of a ``VecEnv`` again.

    :param env: The user's environment.
    :param env_fn: Gives a copy of the environment of one lane; a ``Monitor`` is put around it where there is none.
    :param env_id: Registered name, where that is what the user gave.
    :return: The recipe; None if there is no sure way to build one, then the episodes have to be played on ``env`` itself.
    """
    wrappers = _describe_wrappers(env)
    if wrappers is None:
        return None
    if env_fn is not None:
        return LaneRecipe(partial(_monitored, env_fn), wrappers)
    if env_id is not None:
        return LaneRecipe(partial(_monitored, partial(gym.make, env_id)), wrappers)
    copied = _copy_of_lane(_base(env))
    return None if copied is None else LaneRecipe(copied, wrappers)


def _base(env: VecEnv) -> VecEnv:
    return _base(env.venv) if isinstance(env, VecEnvWrapper) else env


def _monitored(env_fn: Callable[[], gym.Env]) -> gym.Env:
    env = env_fn()
    return env if is_wrapped(env, Monitor) else Monitor(env)


def _copy_of_lane(base: VecEnv) -> Callable[[], gym.Env] | None:
    """Pickle the first environment of a ``DummyVecEnv``; None if it is another ``VecEnv`` or the copy does not work."""
    if not isinstance(base, DummyVecEnv):
        return None
    original = base.envs[0]
    try:
        content = _dumps_without_files(original)
        copied = pickle.loads(content)
        same = (copied.observation_space, copied.action_space) == (original.observation_space, original.action_space)
        copied.close()
    except Exception:
        return None
    return partial(pickle.loads, content) if same else None


class _WithoutFiles(cloudpickle.Pickler):
    """Puts None in the place of the file that a ``Monitor`` writes to: only the original may write there."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, ResultsWriter):
            return _nothing, ()
        return super().reducer_override(obj)


def _nothing() -> None:
    return None


def _dumps_without_files(env: gym.Env) -> bytes:
    with io.BytesIO() as file:
        _WithoutFiles(file).dump(env)
        return file.getvalue()


def _describe_wrappers(env: VecEnv) -> tuple[Wrap, ...] | None:
    """What makes each wrapper of a ``VecEnv``, innermost first; None if there is one that is not understood."""
    described: list[Wrap] = []
    while isinstance(env, VecEnvWrapper):
        wrap = _describe(env)
        if wrap is None:
            return None
        described.append(wrap)
        env = env.venv
    if sum(_is_normalizer(wrap) for wrap in described) > 1:
        return None
    return tuple(reversed(described))


def _describe(wrapper: VecEnvWrapper) -> Wrap | None:
    # Not isinstance: nobody knows what a subclass does.
    if type(wrapper) is VecNormalize:
        return partial(_normalized, pickle.dumps(wrapper))
    if type(wrapper) is VecTransposeImage:
        return partial(VecTransposeImage, skip=wrapper.skip)
    if type(wrapper) is VecMonitor:
        return partial(VecMonitor, info_keywords=wrapper.info_keywords)
    if type(wrapper) is VecFrameStack:
        stacked = wrapper.stacked_obs
        return partial(VecFrameStack, n_stack=stacked.n_stack, channels_order=_channels_order(stacked))
    return None


def _normalized(state: bytes, venv: VecEnv) -> VecNormalize:
    wrapper = pickle.loads(state)
    wrapper.set_venv(venv)
    wrapper.training = False
    return wrapper


def _is_normalizer(wrap: Wrap) -> bool:
    return isinstance(wrap, partial) and wrap.func is _normalized


def _channels_order(stacked: StackedObservations) -> Any:
    if isinstance(stacked.observation_space, spaces.Dict):
        return {key: _channels_order(part) for key, part in stacked.sub_stacked_observations.items()}
    return "first" if stacked.channels_first else "last"
