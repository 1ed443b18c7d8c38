"""What users do to their training environment by ``env_method`` and ``set_attr``, so that copies of it can be told."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import cloudpickle
import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_esac.evaluation.layers import Plain, lane_difference, rebuilt_attributes

PART_OF_PLAYING = ("reset", "step", "render", "close", "seed", "action_masks")
"""Methods that are called in the course of playing, and change no task."""

QUESTIONS = ("get_", "is_", "has_", "compute_")
"""A method whose name begins so is taken for one that only answers, as ``compute_reward`` of a goal environment."""


@dataclass(frozen=True)
class Call:
    """
    One call of ``env_method`` or ``set_attr``.

    :param kind: Which of the two.
    :param name: Name of the method or of the attribute.
    :param lanes: Numbers of the lanes that it was for.
    :param content: Pickled arguments, as they were then; None if they cannot be pickled.
    :param problem: Why they cannot.
    """

    kind: Literal["env_method", "set_attr"]
    name: str
    lanes: tuple[int, ...]
    content: bytes | None
    problem: str = ""

    def apply(self, env: gym.Env) -> None:
        """
        Do the same to a copy of a lane.

        :param env: The copy.
        """
        assert self.content is not None
        args, kwargs = cloudpickle.loads(self.content)
        if self.kind == "set_attr":
            setattr(env, self.name, *args)
        else:
            env.get_wrapper_attr(self.name)(*args, **kwargs)

    def owner(self, env: gym.Env) -> gym.Env:
        """
        Find the layer of a lane that was called.

        :param env: The lane, with its wrappers.
        """
        while self.kind == "env_method" and isinstance(env, gym.Wrapper) and not hasattr(env, self.name):
            env = env.env
        return env


@dataclass
class Journal:
    """
    The calls that a ``VecEnv`` has seen, in their order. It is closed at first and writes nothing down: only workers need it.

    :param calls: What has been written down.
    :param is_open: Whether calls are written down.
    :param attributes: Of each lane that can be looked into, what :func:`rebuilt_attributes` gave at first.
    """

    calls: list[Call] = field(default_factory=list)
    is_open: bool = False
    attributes: list[list[dict[str, Plain]]] = field(default_factory=list)
    _warned: set[str] = field(default_factory=set)
    _n_given: int = 0
    _has_looked: bool = False
    _difference: str | None = None

    def look(self, base: VecEnv) -> str | None:
        """
        Look at the lanes as the user has made them; what has been seen once is not looked for again.

        :param base: The ``VecEnv`` that is written about.
        :return: In what lanes differ, see :func:`sb3_esac.evaluation.layers.lane_difference`.
        """
        if not self._has_looked:
            self._has_looked = True
            self.attributes = [rebuilt_attributes(env) for env in base.envs] if isinstance(base, DummyVecEnv) else []
            self._difference = lane_difference(base)
        return self._difference

    def note(
        self,
        kind: Literal["env_method", "set_attr"],
        name: str,
        lanes: Iterable[int],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """
        Write a call down.

        :param kind: "env_method" or "set_attr".
        :param name: Name of the method or of the attribute.
        :param lanes: Numbers of the lanes that it was for.
        :param args: Its arguments.
        :param kwargs: Its named arguments.
        """
        if not self.is_open or (kind == "env_method" and (name in PART_OF_PLAYING or name.startswith(QUESTIONS))):
            return
        content, problem = None, ""
        try:
            content = cloudpickle.dumps((args, kwargs))
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        call = Call(kind, name, tuple(lanes), content, problem)
        # Of values that follow one another the last one counts: a callback may set one at each step.
        if kind == "set_attr" and self.calls and _same_target(self.calls[-1], call) and self._n_given < len(self.calls):
            self.calls.pop()
        self.calls.append(call)

    def since(
        self, start: int, n_lanes: int, *, lanes_differ: bool, concerns: Callable[[Call], bool] = lambda call: True
    ) -> list[Call]:
        """
        Calls that copies of lanes have to be told of.

        What cannot be told is said, once for each name: calls that cannot be pickled, and those for some lanes only, where all
        workers play copies of lane 0.

        :param start: Number of the first of them.
        :param n_lanes: Number of lanes.
        :param lanes_differ: Whether workers have a copy of each lane.
        :param concerns: Whether copies do not know of a call without being told.
        :return: The calls. A later answer to the same question begins with the same calls.
        """
        self._n_given = len(self.calls)
        told = []
        for call in filter(concerns, self.calls[start:]):
            what = f"`{call.kind}({call.name!r}, ...)`"
            if call.content is None:
                self._warn(f"{what} cannot be passed on to workers, as its arguments cannot be pickled ({call.problem})")
                continue
            if not lanes_differ and len(set(call.lanes)) < n_lanes:
                self._warn(f"{what} was for the lanes {list(call.lanes)} only: lanes differ now, and workers follow lane 0")
                if 0 not in call.lanes:
                    continue
            told.append(call)
        return told

    def _warn(self, problem: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            warnings.warn(
                f"{problem}. Play on the environment's own lanes (`backend='lockstep'`), or pass `env_fn`, a function that "
                "makes the environment as workers are to play it.",
                stacklevel=2,
            )


def _same_target(one: Call, other: Call) -> bool:
    return (one.kind, one.name, one.lanes) == (other.kind, other.name, other.lanes)
