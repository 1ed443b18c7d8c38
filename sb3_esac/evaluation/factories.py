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
from gymnasium.utils import EzPickle
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

from sb3_esac.evaluation.journal import Call, Journal
from sb3_esac.evaluation.layers import Plain, changed_attributes, layers, rebuilt_attributes
from sb3_esac.evaluation.vec_envs import base_vec_env

Wrap = Callable[[VecEnv], VecEnv]
Spaces = tuple[spaces.Space[Any], spaces.Space[Any]]


class NoRecipeError(ValueError):
    """There is no sure way to build a lane again; it says why, and what to do."""


@dataclass(frozen=True)
class LaneRecipe:
    """
    One lane of a ``VecEnv``, or several that differ, ready to be built anywhere. It can be pickled with cloudpickle.

    :param env_fn: Gives a gymnasium environment with the wrappers that a lane has.
    :param wrappers: What makes the wrappers of the ``VecEnv``, innermost first.
    :param other_env_fns: The same as ``env_fn`` for lane 1 and those that follow, if they differ.
    :param calls: What a new environment has to be told, as the user's has been told before.
    """

    env_fn: Callable[[], gym.Env]
    wrappers: tuple[Wrap, ...] = ()
    other_env_fns: tuple[Callable[[], gym.Env], ...] = ()
    calls: tuple[Call, ...] = ()

    @property
    def lanes_differ(self) -> bool:
        """Whether it says how to build each lane."""
        return bool(self.other_env_fns)

    @property
    def is_copy(self) -> bool:
        """Whether what is built is a copy of an object of the user's, with which it may share what only the user may close."""
        return isinstance(self.env_fn, CopiedLane)

    @property
    def advice(self) -> str:
        """What to add to what a user is told of something that does not work in a worker."""
        return COPY_ADVICE if self.is_copy else ""

    def build(self, lane: int = 0) -> gym.Env:
        """
        Make the gymnasium environment.

        :param lane: Number of the lane, if they differ.
        """
        return (self.env_fn, *self.other_env_fns)[lane]()

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


COPY_ADVICE = (
    "\n\nThe worker plays a copy of your environment, made by `pickle`. If it is the copy that does not work (for instance "
    "because it shares a connection or a folder with yours), pass `env_fn`, a function that makes the environment."
)


def _check_spaces(env: gym.Env, expected: Spaces, what: str) -> None:
    if (env.observation_space, env.action_space) != expected:
        raise RuntimeError(
            f"{what} has the spaces {env.observation_space} and {env.action_space}, the original {expected[0]} and "
            f"{expected[1]}"
        )


@dataclass(frozen=True)
class CopiedLane:
    """
    Copies an environment of the user's in another process. Never call it in the user's own: a copy that is closed, or only
    collected there, may take what both share with it.

    :param content: The pickled environment.
    :param spaces: Its spaces, which a copy must have as well.
    :param attributes: What was set in layers that unpickling builds anew: number of the layer, name and value.
    """

    content: bytes
    spaces: Spaces
    attributes: tuple[tuple[int, str, Plain], ...] = ()

    def __call__(self) -> gym.Env:
        """Make the copy."""
        env: gym.Env = pickle.loads(self.content)
        _check_spaces(env, self.spaces, "its copy")
        parts = list(layers(env))
        for number, name, value in self.attributes:
            setattr(parts[number], name, value)
        return env


def lane_recipe(
    env: VecEnv,
    env_fn: Callable[[], gym.Env] | None = None,
    env_id: str | None = None,
    journal: Journal | None = None,
    lanes_differ: bool = False,
) -> LaneRecipe:
    """
    Find out how to build one lane of a ``VecEnv`` again, as it is now.

    :param env: The user's environment.
    :param env_fn: Gives a copy of the environment of one lane; a ``Monitor`` is put around it where there is none.
    :param env_id: Registered name, where that is what the user gave.
    :param journal: What the user has done to ``env``.
    :param lanes_differ: Whether each lane is to be built.
    :return: The recipe.
    :raises NoRecipeError: If there is no sure way to build one: then the episodes have to be played on ``env`` itself.
    """
    wrappers, base = _describe_wrappers(env), base_vec_env(env)
    journal = Journal() if journal is None else journal
    if env_fn is None and env_id is not None:
        env_fn = partial(gym.make, env_id)
    if env_fn is not None:
        made = partial(_monitored, env_fn, (base.observation_space, base.action_space))
        return LaneRecipe(made, wrappers, calls=tuple(journal.since(0, env.num_envs, lanes_differ=False)))
    recipe = None
    if isinstance(base, DummyVecEnv):
        recipe = _copied_lanes(base.envs if lanes_differ else base.envs[:1], env.num_envs, wrappers, journal)
    if recipe is None:
        raise NoRecipeError("no copy of the environment can be made: pass `env_fn`, a function that makes one")
    return recipe


def _copied_lanes(envs: list[gym.Env], n_lanes: int, wrappers: tuple[Wrap, ...], journal: Journal) -> LaneRecipe | None:
    """Pickle environments of the user's; None if that cannot be done. Whether the copies work is seen in workers only."""
    copies = []
    for lane, env in enumerate(envs):
        before = journal.attributes[lane] if journal.attributes else rebuilt_attributes(env)
        changed = changed_attributes(env, before) if len(before) == len(list(layers(env))) else ()
        try:
            copies.append(CopiedLane(_dumps_without_files(env), (env.observation_space, env.action_space), changed))
        except Exception:
            return None

    def is_forgotten(call: Call) -> bool:
        # What is built anew knows nothing of what was done to the original.
        return any(isinstance(call.owner(env), EzPickle) for env in envs)

    calls = journal.since(0, n_lanes, lanes_differ=len(envs) > 1, concerns=is_forgotten)
    return LaneRecipe(copies[0], wrappers, tuple(copies[1:]), tuple(calls))


def _monitored(env_fn: Callable[[], gym.Env], expected: Spaces) -> gym.Env:
    env = env_fn()
    _check_spaces(env, expected, "what `env_fn` makes")
    return env if is_wrapped(env, Monitor) else Monitor(env)


class _WithoutFiles(cloudpickle.Pickler):  # type: ignore[misc]
    """Replaces the file that a ``Monitor`` writes to by None: only the original may write there."""

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


def _describe_wrappers(env: VecEnv) -> tuple[Wrap, ...]:
    """What makes each wrapper of a ``VecEnv``, innermost first."""
    described: list[Wrap] = []
    while isinstance(env, VecEnvWrapper):
        wrap = _describe(env)
        if wrap is None:
            raise NoRecipeError(f"workers cannot do what the wrapper {type(env).__name__} does: leave it out")
        described.append(wrap)
        env = env.venv
    if sum(_is_normalizer(wrap) for wrap in described) > 1:
        raise NoRecipeError("workers cannot do what several VecNormalize do: leave out all but one")
    return tuple(reversed(described))


def _describe(wrapper: VecEnvWrapper) -> Wrap | None:
    # Not isinstance: a subclass may do anything.
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
    wrapper: VecNormalize = pickle.loads(state)
    wrapper.set_venv(venv)
    wrapper.training = False
    return wrapper


def _is_normalizer(wrap: Wrap) -> bool:
    return isinstance(wrap, partial) and wrap.func is _normalized


def _channels_order(stacked: StackedObservations[Any]) -> Any:
    if isinstance(stacked.observation_space, spaces.Dict):
        return {key: _channels_order(part) for key, part in stacked.sub_stacked_observations.items()}
    return "first" if stacked.channels_first else "last"
