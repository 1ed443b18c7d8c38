"""NaN and infinity in what an environment gives: zeros in their place, and a word about it."""

import warnings
from typing import Any

import numpy as np

NON_FINITE = "non_finite"
"""Key of an ``info`` whose step had a reward or observation that was not finite (they are zeros now)."""


def clear_non_finite(
    observations: Any, rewards: np.ndarray, infos: list[dict[str, Any]], dones: np.ndarray
) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray]:
    """
    Replace NaN and infinity by zeros and say so in ``infos``. Arrays are copied before they are changed.

    Where an episode is done the observation belongs to the next one, and says nothing about the step that has ended.

    :param observations: Batch of a ``VecEnv``.
    :param rewards: (n_envs,) rewards.
    :param infos: One per environment; those of useless steps get the key :data:`NON_FINITE`.
    :param dones: (n_envs,) where an episode is done.
    :return: Observations, rewards, (n_envs,) whether the observation was cleared, and (n_envs,) whether the step was in order.
    """
    tainted = np.zeros(len(rewards), dtype=bool)
    if is_finite(observations, rewards) and not dones.any():
        return observations, rewards, tainted, ~tainted
    for part in floating_parts(observations):
        tainted |= ~np.isfinite(part.reshape(len(rewards), -1)).all(axis=1)
    finite = np.isfinite(rewards) & ~(tainted & ~dones)
    for lane in np.flatnonzero(dones).tolist():
        last = infos[lane].get("terminal_observation")
        if last is not None and not all(np.isfinite(part).all() for part in floating_parts(last)):
            finite[lane] = False
            infos[lane]["terminal_observation"] = _cleared(last)
    for lane in np.flatnonzero(~finite).tolist():
        infos[lane][NON_FINITE] = True
    if not finite.all():
        rewards = _cleared(rewards)
    if tainted.any():
        observations = _cleared(observations)
    return observations, rewards, tainted, finite


def is_finite(observations: Any, rewards: np.ndarray) -> bool:
    """
    Whether it is sure that all numbers are finite: the sum of their squares is, which is quickly found out.

    :param observations: Batch of a ``VecEnv``.
    :param rewards: (n_envs,) rewards.
    """
    if type(observations) is not np.ndarray:
        return False
    total = rewards.dot(rewards)
    if observations.dtype.kind == "f":
        flat = observations.reshape(-1)
        total += flat.dot(flat)
    return bool(total < np.inf)


def floating_parts(observations: Any) -> list[np.ndarray]:
    """
    Find the arrays that can hold NaN.

    :param observations: One observation or a batch, of any space.
    """
    if isinstance(observations, dict):
        parts = list(observations.values())
    elif isinstance(observations, tuple):
        parts = list(observations)
    else:
        parts = [observations]
    return [part for part in parts if np.issubdtype(np.asarray(part).dtype, np.floating)]


def _cleared(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _cleared(part) for key, part in values.items()}
    if isinstance(values, tuple):
        return tuple(_cleared(part) for part in values)
    if not np.issubdtype(np.asarray(values).dtype, np.floating):
        return values
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


_warned: set[str] = set()


def warn_non_finite(who: str) -> None:
    """
    Say once in a process that steps with NaN or infinity are thrown away.

    :param who: Whom it was given to.
    """
    if not _warned:
        _warned.add(who)
        warnings.warn(
            f"The environment gave {who} a reward or an observation that is not finite. Such steps are counted but never "
            "learned from: they do not enter a replay buffer, and an offspring that meets one ranks last.",
            stacklevel=3,
        )
