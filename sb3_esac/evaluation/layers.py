"""Looking into the lanes of a ``DummyVecEnv``: their layers, what is set in them, and whether two lanes are the same task."""

import re
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import EzPickle
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

Plain = bool | int | float | str | None

IDENTITY = {
    *(
        "address",
        "client",
        "dir",
        "directory",
        "file",
        "filename",
        "folder",
        "handle",
        "host",
        "instance",
        "log",
        "path",
        "pid",
    ),
    *("port", "process", "rank", "root", "run", "seed", "seeds", "url", "uuid", "worker"),
}
"""What is called so tells lanes apart that are the same task: where they write, and whom they are connected to."""

NUMBERING = {"env", "lane", "id", "idx", "index", "number"}
"""And so does an integer whose name has no other words."""

TASK = {"level", "map", "model", "scene", "task", "xml"}
"""But not with one of these in its name."""


def layers(env: gym.Env) -> Iterator[gym.Env]:
    """
    Layers of an environment, the outermost wrapper first.

    :param env: The environment.
    """
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def plain_attributes(layer: gym.Env) -> dict[str, Plain]:
    """
    Numbers, strings and switches that are set in a layer.

    :param layer: A wrapper or the environment itself.
    """
    return {name: value for name, value in vars(layer).items() if value is None or type(value) in (bool, int, float, str)}


def rebuilt_attributes(env: gym.Env) -> list[dict[str, Plain]]:
    """
    Plain attributes of the layers that unpickling builds anew, for each layer; of others none, as pickles hold them.

    :param env: A lane.
    """
    return [plain_attributes(layer) if isinstance(layer, EzPickle) else {} for layer in layers(env)]


def changed_attributes(env: gym.Env, before: list[dict[str, Plain]]) -> tuple[tuple[int, str, Plain], ...]:
    """
    What was set since then in layers that unpickling builds anew.

    What was not there or None or negative before is left out: it may be a connection that a first reset has opened.

    :param env: A lane.
    :param before: What :func:`rebuilt_attributes` gave.
    :return: Number of the layer, name and value of each attribute.
    """
    changed = []
    for number, (then, now) in enumerate(zip(before, rebuilt_attributes(env), strict=True)):
        for name, value in now.items():
            old = then.get(name)
            is_settable = old is not None and value is not None and not (isinstance(old, int | float) and old < 0)
            if is_settable and value != old and not _is_identity(name):
                changed.append((number, name, value))
    return tuple(changed)


def lane_difference(base: VecEnv) -> str | None:
    """
    Say in what the lanes of a ``DummyVecEnv`` are different tasks, as far as can be seen from outside.

    Compared are the classes of the layers, the arguments they were made with, and, before the first reset, numbers, strings
    and switches that are set in them. What only tells lanes apart (:data:`IDENTITY`) makes no difference, nor do numbers that
    were drawn or measured.

    :param base: A base ``VecEnv``.
    :return: The first difference; None if there is none, or for another ``VecEnv``.
    """
    if not isinstance(base, DummyVecEnv) or len({id(env) for env in base.envs}) < 2:
        return None
    first = base.envs[0]
    for number, env in enumerate(base.envs[1:], 1):
        difference = _difference(first, env)
        if difference is not None:
            name, one, other = difference
            return f"lane {number} has {name}={other!r}, lane 0 {name}={one!r}"
    return None


def _difference(one: gym.Env, other: gym.Env) -> tuple[str, Any, Any] | None:
    """Name and both values of the first thing that differs between two lanes."""
    ones, others = list(layers(one)), list(layers(other))
    classes = [[type(layer).__qualname__ for layer in lane] for lane in (ones, others)]
    if classes[0] != classes[1]:
        return "layers", " of ".join(classes[0]), " of ".join(classes[1])
    unused = all(getattr(env.unwrapped, "_np_random", 0) is None for env in (one, other))
    for layer, twin in zip(ones, others, strict=True):
        pairs: list[tuple[dict[str, Any], dict[str, Any]]] = [(_arguments(layer), _arguments(twin))]
        if unused and not isinstance(layer, Monitor):
            pairs.append((plain_attributes(layer), plain_attributes(twin)))
        for left, right in pairs:
            for name in left:
                if name in right and not _is_identity(name, left[name]) and not _same(left[name], right[name]):
                    return name, left[name], right[name]
    return None


def _arguments(layer: gym.Env) -> dict[str, Any]:
    """Arguments that a layer was made with, as far as it keeps them."""
    spec = None if isinstance(layer, gym.Wrapper) else layer.spec
    given: dict[str, Any] = dict(spec.kwargs) if spec is not None else {}
    if isinstance(layer, EzPickle):
        given.update({f"argument {number}": value for number, value in enumerate(getattr(layer, "_ezpickle_args", ()))})
        given.update(getattr(layer, "_ezpickle_kwargs", {}))
    return given


def _is_identity(name: str, value: Any = None) -> bool:
    words = {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)}
    numbers = type(value) is int and bool(words) and words <= NUMBERING
    return name.startswith("_np_random") or numbers or (bool(IDENTITY & words) and not TASK & words)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same, or cannot be compared."""
    if isinstance(one, np.ndarray | list | tuple) and isinstance(other, np.ndarray | list | tuple):
        return len(np.shape(one)) == 0 or (len(one) == len(other) and all(map(_same, one, other)))
    if isinstance(one, dict) and isinstance(other, dict):
        return set(one) == set(other) and all(_is_identity(str(key)) or _same(one[key], other[key]) for key in one)
    plain = bool | int | float | str | np.generic | None
    if not (isinstance(one, plain) and isinstance(other, plain)):
        return True
    return one == other or (one != one and other != other) or (_is_drawn(one) and _is_drawn(other))


def _is_drawn(value: Any) -> bool:
    """Whether a number has more digits than anybody writes: it comes from a generator or a clock."""
    return isinstance(value, float | np.floating) and np.isfinite(value) and float(f"{value:.6g}") != float(value)
