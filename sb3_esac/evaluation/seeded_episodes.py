"""
Episodes of a ``VecEnv`` that are seeded one by one, counted step by step, and kept free of NaN.

A ``VecEnv`` resets a finished environment by itself and without a seed, so the episodes of a run would depend on generators
that live in the environments and cannot be saved. :func:`adopt` teaches a base ``VecEnv`` (the one under all wrappers) to ask
for the seed of every episode. It stays an instance of its class and stays in its place, so wrappers, callbacks and
``sync_envs_normalization`` see what they know.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import numpy as np
from stable_baselines3.common.vec_env import (
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecFrameStack,
)
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.util import dict_to_obs, obs_space_info

from sb3_esac.evaluation.driving import Driver, Step, make_driver
from sb3_esac.evaluation.evaluator import unbounded_episode
from sb3_esac.evaluation.finite import NON_FINITE, clear_non_finite
from sb3_esac.evaluation.journal import Journal
from sb3_esac.evaluation.statistics import put_row
from sb3_esac.evaluation.vec_envs import base_vec_env, take

DISTURBED = "disturbed"
"""Key of an ``info`` whose step did not begin where the last one ended, since callbacks had the environment meanwhile."""


class Asleep:
    """Says that no episode begins in a lane for now: it is neither reset nor stepped."""

    def __repr__(self) -> str:
        return "ASLEEP"


ASLEEP: Final = Asleep()


SeedSource = Callable[[int], "int | Asleep | None"]


class SeededEpisodes(VecEnv):
    """
    Mixin put before the class of a base ``VecEnv`` by ``adopt``.

    ``seed_source(lane)`` is called once for every episode that could begin and gives its seed, None to leave the environment
    to itself, or :data:`ASLEEP` for no episode. ``max_episode_steps`` cuts episodes (a truncation); one that has not
    ended after ``endless_after`` steps is an error. ``n_env_steps`` counts single steps, ``awake`` (n_envs,) says which lanes
    have an episode, ``finished`` collects (raw return, length) of the episodes that began here and ended. ``useless``
    (n_envs,) says where the last step had something that was not finite, and ``frame_memory`` for how many steps an
    observation is part of what the wrappers above make (``VecFrameStack``).

    While it is lent out (``lent_out``), to callbacks, it does what it would do if it had not been adopted. A reset or step
    of theirs makes it ``disturbed`` until the next ``reset``: the lanes are not where the run has left them.

    A ``VecEnv`` without single environments (``driver`` is None) resets its lanes by itself: seeds are not used, lanes do not
    sleep, and episodes cannot be cut.
    """

    driver: Driver | None
    seed_source: SeedSource | None
    max_episode_steps: int | None
    endless_after: int | None
    n_env_steps: int
    finished: list[tuple[float, int]]
    frame_memory: int
    disturbed: bool
    reset_is_postponed: bool
    useless: np.ndarray
    keeps_non_finite: bool
    _is_lent: bool
    _is_stale: bool
    awake: np.ndarray
    _begun: np.ndarray
    _layout: dict[Any, tuple[tuple[int, ...], np.dtype]]
    _lengths: np.ndarray
    _returns: np.ndarray
    _tainted: np.ndarray
    journal: Journal

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as an instance of the class that was adopted, which can be found by its name."""
        reduced: Any = super().__reduce_ex__(2)
        return _unpickled, (type(self).__bases__[1],), *reduced[2:]

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        result = super().env_method(method_name, *method_args, indices=indices, **method_kwargs)  # type: ignore[safe-super]
        self.journal.note("env_method", method_name, self._get_indices(indices), method_args, method_kwargs)
        return result

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        super().set_attr(attr_name, value, indices)  # type: ignore[safe-super]
        self.journal.note("set_attr", attr_name, self._get_indices(indices), (value,), {})

    # -- the VecEnv -----------------------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        if self._is_lent:
            self._note_disturbance()
            self.awake[:] = True
            return super().reset()  # type: ignore[safe-super]
        if self.reset_is_postponed:
            self.reset_is_postponed = False
            if any(self._options):
                warnings.warn(
                    "Options of `set_options` are for one reset, and each episode of a population begins with a reset: they "
                    "are left out. Let the environment be made with them.",
                    stacklevel=2,
                )
            self._reset_options()
            zeros: VecEnvObs = self._no_observations()
            return zeros
        self.disturbed = self._is_stale = False
        self._tainted[:] = 0
        observations = super().reset() if self.driver is None else self._no_observations()  # type: ignore[safe-super]
        begun: VecEnvObs = self._begin_episodes(list(range(self.num_envs)), observations, first=True)
        return begun

    def step_async(self, actions: np.ndarray) -> None:
        if self._is_lent:
            self._note_disturbance()
        if self.driver is None:
            super().step_async(actions)  # type: ignore[safe-super]
            return
        if self._is_lent or self.seed_source is None:
            self._wake()
        if self._is_lent:
            super().step_async(actions)  # type: ignore[safe-super]
        else:
            self.driver.send(actions, self.awake)

    def step_wait(self) -> VecEnvStepReturn:
        if self._is_lent:
            return super().step_wait()  # type: ignore[safe-super]
        observations, rewards, dones, infos = self._step()
        if self.max_episode_steps is not None:
            self._cut(observations, dones, infos)
        if self.endless_after is not None and self._lengths.max() >= self.endless_after:
            self._check_ends(self.endless_after, dones)
        self._returns += rewards
        observations, rewards = self._clear(observations, rewards, dones, infos)
        if self._is_stale:
            for info in infos:
                info[DISTURBED] = True
            self._is_stale = False
        if dones.any():
            ended = np.flatnonzero(dones).tolist()
            self.finished += [(float(self._returns[lane]), int(self._lengths[lane])) for lane in ended if self._begun[lane]]
            observations = self._begin_episodes(ended, observations)
        return observations, rewards, dones, infos

    # -- one lane, stepped by somebody else ----------------------------------------------------------------------------

    def begin_alone(self, seed: int) -> tuple[Any, dict[str, Any]]:
        """
        Begin an episode in the only lane, for somebody who will step the environment there.

        :param seed: Its seed.
        :return: Observation and info.
        """
        assert self.driver is not None and self.num_envs == 1
        self.disturbed = self._is_stale = False
        self.awake[:], self._begun[:] = True, False
        observation, info = self.driver.reset({0: self._reset_arguments(0, seed, first=True)})[0]
        self._reset_seeds()
        self._reset_options()
        self.reset_infos = [info]
        return observation, info

    def rest(self) -> None:
        """Begin nothing before the next reset."""
        self.awake[:] = False

    # -- lending --------------------------------------------------------------------------------------------------------

    @contextmanager
    def lent_out(self) -> Iterator[None]:
        """Let callbacks do with the environment what they like."""
        before, self._is_lent = self._is_lent, True
        try:
            yield
        finally:
            self._is_lent = before

    def _note_disturbance(self) -> None:
        self.disturbed = self._is_stale = True
        self._begun[:] = False

    def _wake(self) -> None:
        """Begin an episode in the lanes that have none, for somebody who does not know of such."""
        sleeping = np.flatnonzero(~self.awake).tolist()
        if sleeping:
            assert self.driver is not None
            self.driver.reset({lane: {} for lane in sleeping})
            self.awake[:] = True

    # -- a step ---------------------------------------------------------------------------------------------------------

    def _step(self) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step, and count it."""
        self._lengths += self.awake
        self.n_env_steps += int(self.awake.sum())
        if self.driver is not None:
            return self._batch(self.driver.receive())
        observations, rewards, dones, infos = super().step_wait()  # type: ignore[safe-super]
        return observations, rewards, np.asarray(dones, dtype=bool), list(infos)

    def _batch(self, steps: dict[int, Step]) -> tuple[Any, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        observations, rewards = self._no_observations(), np.zeros(self.num_envs, dtype=np.float32)
        dones = np.zeros(self.num_envs, dtype=bool)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for lane, (observation, reward, terminated, truncated, info) in steps.items():
            put_row(observations, lane, observation)
            rewards[lane], dones[lane], infos[lane] = reward, terminated or truncated, info
            info["TimeLimit.truncated"] = truncated and not terminated
            if dones[lane]:
                info["terminal_observation"] = observation
        return observations, rewards, dones, infos

    def _no_observations(self) -> Any:
        """A batch of zeros."""
        parts = {key: np.zeros(shape, dtype=dtype) for key, (shape, dtype) in self._layout.items()}
        return dict_to_obs(self.observation_space, parts)

    def _cut(self, observations: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        for lane in np.flatnonzero((self._lengths >= self.max_episode_steps) & ~dones & self.awake):
            dones[lane] = True
            infos[lane]["TimeLimit.truncated"] = True
            infos[lane]["terminal_observation"] = take(observations, int(lane))

    def _check_ends(self, n_steps: int, dones: np.ndarray) -> None:
        endless = np.flatnonzero((self._lengths >= n_steps) & ~dones)
        if endless.size:
            raise RuntimeError(unbounded_episode(f"in lane {endless[0]}", n_steps))

    def _clear(
        self, observations: Any, rewards: np.ndarray, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> tuple[Any, np.ndarray]:
        """Clear what is not finite, unless a ``VecCheckNan`` above is there to stop the run for it."""
        if self.keeps_non_finite:
            return observations, rewards
        observations, rewards, tainted, finite = clear_non_finite(observations, rewards, infos, dones)
        self.useless = ~finite
        if not self._tainted.any() and not tainted.any():
            return observations, rewards
        # A step that begins with a cleared observation is as useless as the one that ended there.
        for lane in np.flatnonzero(self._tainted):
            infos[lane][NON_FINITE] = True
        self.useless |= self._tainted > 0
        if self.driver is not None:
            # Nothing has begun there yet.
            tainted &= ~dones
        self._tainted = np.where(tainted, self.frame_memory, np.where(dones, 0, np.maximum(self._tainted - 1, 0)))
        return observations, rewards

    # -- episodes -------------------------------------------------------------------------------------------------------

    def _begin_episodes(self, lanes: list[int], observations: Any, *, first: bool = False) -> Any:
        """
        Ask for seeds, and begin the episodes that they are of.

        :param lanes: Where no episode is under way.
        :param observations: Batch, which those of the episodes are put into.
        :param first: Whether this is a reset, which is given the seeds and options that the user has left for it.
        :return: The batch.
        """
        self._lengths[lanes], self._returns[lanes], self._begun[lanes] = 0, 0.0, True
        seeds = {lane: None if self.seed_source is None else self.seed_source(lane) for lane in lanes}
        if self.driver is not None:
            awake = {lane: seed for lane, seed in seeds.items() if not isinstance(seed, Asleep)}
            self.awake[lanes] = [lane in awake for lane in lanes]
            arguments = {lane: self._reset_arguments(lane, seed, first) for lane, seed in awake.items()}
            reset_infos = [*self.reset_infos]
            for lane, (observation, info) in self.driver.reset(arguments).items():
                put_row(observations, lane, observation)
                reset_infos[lane] = info
            self.reset_infos = reset_infos
            if first and arguments:
                self._reset_seeds()
                self._reset_options()
        if self.keeps_non_finite:
            return observations
        # No reward came with them.
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        zeros = np.zeros(self.num_envs)
        observations, _, tainted, _ = clear_non_finite(observations, zeros, infos, np.zeros(self.num_envs, dtype=bool))
        self._tainted = np.maximum(self._tainted, self.frame_memory * tainted)
        return observations

    def _reset_arguments(self, lane: int, seed: int | None, first: bool) -> dict[str, Any]:
        if not first:
            return {} if seed is None else {"seed": seed}
        options = {"options": self._options[lane]} if self._options[lane] else {}
        return {"seed": self._seeds[lane] if seed is None else seed, **options}


@cache
def _seeded(kind: type[VecEnv]) -> type[VecEnv]:
    return type(f"Seeded{kind.__name__}", (SeededEpisodes, kind), {"__module__": kind.__module__})


def _unpickled(kind: type[VecEnv]) -> VecEnv:
    return object.__new__(_seeded(kind))


def adopt(venv: VecEnv) -> SeededEpisodes:
    """
    Teach the base of a ``VecEnv`` to seed, count and clean its episodes. A second call changes nothing.

    :param venv: Any ``VecEnv``, wrapped or not.
    :return: Its base, now also a :class:`SeededEpisodes`.
    """
    base = base_vec_env(venv)
    if not isinstance(base, SeededEpisodes):
        driver = make_driver(base)
        kind = type(base)
        base.__class__ = _seeded(kind)
        assert isinstance(base, SeededEpisodes)
        base.driver = driver
        base.seed_source, base.max_episode_steps, base.endless_after, base.n_env_steps = None, None, None, 0
        base.finished = []
        keys, shapes, dtypes = obs_space_info(base.observation_space)
        base._layout = {key: ((base.num_envs, *shapes[key]), dtypes[key]) for key in keys}
        base.disturbed = base.reset_is_postponed = base._is_lent = base._is_stale = False
        base.awake, base._begun = np.ones(base.num_envs, dtype=bool), np.ones(base.num_envs, dtype=bool)
        base.journal = Journal()
        base._lengths = np.zeros(base.num_envs, dtype=np.int64)
        base._returns = np.zeros(base.num_envs)
        base._tainted, base.useless = np.zeros(base.num_envs, dtype=np.int64), np.zeros(base.num_envs, dtype=bool)
    base.frame_memory, base.keeps_non_finite = 1, False
    while isinstance(venv, VecEnvWrapper):
        base.frame_memory += venv.stacked_obs.n_stack - 1 if isinstance(venv, VecFrameStack) else 0
        base.keeps_non_finite |= isinstance(venv, VecCheckNan) and venv.raise_exception
        venv = venv.venv
    return base
