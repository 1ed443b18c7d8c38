"""
Episodes of a ``VecEnv`` that are seeded one by one, counted step by step, and kept free of NaN.

A ``VecEnv`` resets a finished environment by itself and without a seed, so the episodes of a run would depend on generators
that live in the environments and cannot be saved. :func:`adopt` teaches a base ``VecEnv`` (the one under all wrappers) to ask
for the seed of every episode. It stays an instance of its class and stays in its place, so wrappers, callbacks and
``sync_envs_normalization`` see what they know.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from sb3_esac.evaluation.journal import Journal

NON_FINITE = "non_finite"
"""Key of an ``info`` whose step had a reward or observation that was not finite (they are zeros now)."""

UNBOUNDED_EPISODE_STEPS = 100_000
"""An episode of this length, on an environment without a time limit, is taken for one that never ends."""

SeedSource = Callable[[int], int | None]


class SeededEpisodes(VecEnv):
    """
    Mixin put before the class of a base ``VecEnv`` by :func:`adopt`.

    ``seed_source(lane)`` is called once for every episode that is about to begin and gives its seed, or None to leave the
    environment to itself. ``max_episode_steps`` cuts episodes (a truncation). ``n_env_steps`` counts single steps,
    ``finished`` collects (raw return, length) of the episodes that ended. ``frame_memory`` is the number of steps for which
    an observation is part of what the wrappers above make (``VecFrameStack``).
    """

    seed_source: SeedSource | None
    max_episode_steps: int | None
    n_env_steps: int
    finished: list[tuple[float, int]]
    _lengths: np.ndarray
    _returns: np.ndarray
    frame_memory: int
    _tainted: np.ndarray
    journal: Journal

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        result = super().env_method(method_name, *method_args, indices=indices, **method_kwargs)  # type: ignore[safe-super]
        self.journal.note("env_method", method_name, self._get_indices(indices), method_args, method_kwargs)
        return result

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        super().set_attr(attr_name, value, indices)  # type: ignore[safe-super]
        self.journal.note("set_attr", attr_name, self._get_indices(indices), (value,), {})

    def reset(self) -> VecEnvObs:
        if self.seed_source is not None:
            seeds = [self.seed_source(lane) for lane in range(self.num_envs)]
            self._seeds = [given if seed is None else seed for seed, given in zip(seeds, self._seeds, strict=True)]
        self._lengths[:] = 0
        self._returns[:] = 0.0
        observations = super().reset()  # type: ignore[safe-super]
        self._tainted = self.frame_memory * self._clear_first(observations)
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        observations, rewards, dones, infos = super().step_wait()  # type: ignore[safe-super]
        self.n_env_steps += self.num_envs
        self._lengths += 1
        if self.max_episode_steps is not None and (self._lengths >= self.max_episode_steps).any():
            self._cut(observations, dones, infos)
        self._returns += rewards
        # A step that begins with a cleared observation is as useless as the one that ended there.
        tainted = _clear_non_finite(observations, rewards, infos, dones)
        for lane in np.flatnonzero(self._tainted):
            infos[lane][NON_FINITE] = True
        self._tainted = np.where(tainted, self.frame_memory, np.maximum(self._tainted - 1, 0))
        if dones.any():
            for lane in np.flatnonzero(dones):
                self.finished.append((float(self._returns[lane]), int(self._lengths[lane])))
                self._lengths[lane], self._returns[lane] = 0, 0.0
                self._tainted[lane] = self.frame_memory * tainted[lane]
                seed = self.seed_source(int(lane)) if self.seed_source is not None else None
                # A lane that was cut has not been reset by the VecEnv.
                if infos[lane].pop("esac_cut", False) or seed is not None:
                    result = self.env_method("reset", seed=seed, indices=[int(lane)])
                    _put(observations, int(lane), result[0][0])
                    self.reset_infos = [*self.reset_infos[:lane], result[0][1], *self.reset_infos[lane + 1 :]]
                    self._tainted[lane] = 0
            self._tainted = np.maximum(self._tainted, self.frame_memory * self._clear_first(observations))
        return observations, rewards, dones, infos

    def _clear_first(self, observations: VecEnvObs) -> np.ndarray:
        """Clear observations that no reward came with, those of a reset."""
        return _clear_non_finite(observations, np.zeros(self.num_envs), [{} for _ in range(self.num_envs)])

    def _cut(self, observations: VecEnvObs, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        for lane in np.flatnonzero((self._lengths >= self.max_episode_steps) & ~dones):
            dones[lane] = True
            infos[lane]["TimeLimit.truncated"] = True
            infos[lane]["terminal_observation"] = take(observations, int(lane))
            infos[lane]["esac_cut"] = True


def _put(observations: Any, lane: int, observation: Any) -> None:
    if isinstance(observations, dict):
        for key in observations:
            observations[key][lane] = observation[key]
    elif isinstance(observations, tuple):
        for part, value in zip(observations, observation, strict=True):
            part[lane] = value
    else:
        observations[lane] = observation


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


def _floating(observations: Any) -> list[np.ndarray]:
    if isinstance(observations, dict):
        parts = list(observations.values())
    elif isinstance(observations, tuple):
        parts = list(observations)
    else:
        parts = [observations]
    return [part for part in parts if np.issubdtype(np.asarray(part).dtype, np.floating)]


def _clear_non_finite(
    observations: Any, rewards: np.ndarray, infos: list[dict[str, Any]], dones: np.ndarray | None = None
) -> np.ndarray:
    """
    Put zeros in the place of NaN and infinity and say so in ``infos``; tell in which lanes the observation was cleared.

    Where an episode is done the observation belongs to the next one, and says nothing about the step that has ended.
    """
    tainted = np.zeros(len(rewards), dtype=bool)
    for part in _floating(observations):
        tainted |= ~np.isfinite(part.reshape(len(rewards), -1)).all(axis=1)
    finite = np.isfinite(rewards) & ~(tainted if dones is None else tainted & ~dones)
    for lane, info in enumerate(infos):
        last = info.get("terminal_observation")
        if last is not None and not all(np.isfinite(part).all() for part in _floating(last)):
            finite[lane] = False
    if finite.all() and not tainted.any():
        return tainted
    for lane in np.flatnonzero(~finite).tolist():
        infos[lane][NON_FINITE] = True
        rewards[lane] = np.nan_to_num(rewards[lane], nan=0.0, posinf=0.0, neginf=0.0)
        last = infos[lane].get("terminal_observation")
        if last is not None:
            for part in _floating(last):
                part[...] = np.nan_to_num(part, nan=0.0, posinf=0.0, neginf=0.0)
    for lane in np.flatnonzero(tainted).tolist():
        for part in _floating(observations):
            part[lane] = np.nan_to_num(part[lane], nan=0.0, posinf=0.0, neginf=0.0)
    return tainted


def base_vec_env(venv: VecEnv) -> VecEnv:
    """The ``VecEnv`` under all wrappers."""
    while isinstance(venv, VecEnvWrapper):
        venv = venv.venv
    return venv


def adopt(venv: VecEnv) -> SeededEpisodes:
    """
    Teach the base of a ``VecEnv`` to seed, count and clean its episodes. A second call changes nothing.

    :param venv: Any ``VecEnv``, wrapped or not.
    :return: Its base, now also a :class:`SeededEpisodes`.
    """
    base = base_vec_env(venv)
    if not isinstance(base, SeededEpisodes):
        kind = type(base)
        base.__class__ = type(f"Seeded{kind.__name__}", (SeededEpisodes, kind), {"__module__": kind.__module__})
        assert isinstance(base, SeededEpisodes)
        base.seed_source, base.max_episode_steps, base.n_env_steps = None, None, 0
        base.finished = []
        base.journal = Journal()
        base._lengths = np.zeros(base.num_envs, dtype=np.int64)
        base._returns = np.zeros(base.num_envs)
        base._tainted = np.zeros(base.num_envs, dtype=np.int64)
    base.frame_memory = 1
    while isinstance(venv, VecEnvWrapper):
        base.frame_memory += venv.stacked_obs.n_stack - 1 if isinstance(venv, VecFrameStack) else 0
        venv = venv.venv
    return base


def is_image(space: spaces.Space) -> bool:
    """Whether a space holds 8-bit images."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3


_warned: set[str] = set()


def warn_non_finite(who: str) -> None:
    """Say once in a process that steps with NaN or infinity are thrown away."""
    if not _warned:
        _warned.add(who)
        warnings.warn(
            f"The environment gave {who} a reward or an observation that is not finite. Such steps are counted but never "
            "learned from: they do not enter a replay buffer, and an offspring that meets one ranks last.",
            stacklevel=3,
        )
