"""Replay buffers with a second store for the population's experience, and without anything that is not finite."""

import copy
import functools
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_esac.agent.undo import RowRecord, Undo
from sb3_esac.evaluation.finite import NON_FINITE, warn_non_finite
from sb3_esac.evaluation.observations import parameters_of
from sb3_esac.evaluation.rollout import Transitions
from sb3_esac.evaluation.seeded_episodes import DISTURBED
from sb3_esac.evaluation.statistics import Observation, at_step


class SharedExperience(ReplayBuffer):
    """
    Mixin that :func:`shared` puts before a replay buffer's class: the agent's store, and beside it the population's.

    Everything that SB3 knows of a replay buffer (``pos``, ``full``, ``observations``, ...) is the agent's store.

    ``population_store`` is a buffer of the same kind with one lane, or None. ``population_share`` is the fraction of a
    batch that comes from it. ``fresh_observations`` collects what the agent saw while it is a list (for observation
    normalisation). ``is_placeholder`` says that it is small because its model has no environment to learn from.

    ``undo`` is the way back to where the present generation began, while there is one; a file that is saved then has it as
    ``saved_undo``, from which nothing is recorded any more.
    """

    population_store: ReplayBuffer | None
    population_share: float
    fresh_observations: list[Observation] | None
    is_placeholder = False
    undo: Undo | None = None
    saved_undo: Undo | None = None

    def add(self, obs: Any, next_obs: Any, action: Any, reward: Any, done: Any, infos: list[dict[str, Any]]) -> None:
        if any(NON_FINITE in info for info in infos):
            warn_non_finite("the agent")
            self.truncate_open_episodes()
            return
        if any(DISTURBED in info for info in infos):
            # It did not follow from the observation that it would be stored with.
            self.truncate_open_episodes()
            return
        if self.undo is not None:
            self.undo.own.before_write(1)
        super().add(obs, next_obs, action, reward, done, infos)
        if self.fresh_observations is not None:
            self.fresh_observations.append(copy.deepcopy(obs))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        n_shared = round(batch_size * self.population_share)
        store = self.population_store
        if n_shared == 0 or store is None or store.size() == 0:
            return super().sample(batch_size, env=env)
        # A plain agent that loads the buffer moves the one that it knows.
        store.device = self.device
        shared_batch = store.sample(n_shared, env=env)
        if n_shared == batch_size:
            return shared_batch
        joined: ReplayBufferSamples = _concatenate(super().sample(batch_size - n_shared, env=env), shared_batch)
        return joined

    def _get_samples(self, batch_inds: np.ndarray, env: VecNormalize | None = None) -> Any:
        if type(self).__mro__[2] is not ReplayBuffer or self.device.type != "cpu" or self.optimize_memory_usage:
            return super()._get_samples(batch_inds, env=env)
        # The same in half of the time, for a batch is a tenth of an update: rows are found once, and copied once.
        rows = batch_inds * self.n_envs + np.random.randint(0, high=self.n_envs, size=(len(batch_inds),))

        def taken(array: np.ndarray) -> np.ndarray:
            return array.reshape(-1, *array.shape[2:]).take(rows, axis=0)

        # Ends by a time limit are none.
        dones = taken(self.dones) * (1 - taken(self.timeouts))
        observations: Any = self._normalize_obs(taken(self.observations), env)
        following: Any = self._normalize_obs(taken(self.next_observations), env)
        rewards = self._normalize_reward(taken(self.rewards).reshape(-1, 1), env)
        batch = (observations, taken(self.actions), following, dones.reshape(-1, 1), rewards)
        return ReplayBufferSamples(*map(th.from_numpy, batch))

    def truncate_open_episodes(self) -> None:
        """Mark the last transition of every unfinished episode as truncated: what follows belongs to another episode."""
        if isinstance(self, HerReplayBuffer):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.truncate_last_trajectory()
            return
        if self.pos == 0 and not self.full:
            return
        open_lanes = self.dones[self.pos - 1] == 0
        self.dones[self.pos - 1, open_lanes] = 1.0
        if self.handle_timeout_termination:
            self.timeouts[self.pos - 1, open_lanes] = 1.0

    def keep_way_back(self, key: tuple[int, int, int]) -> None:
        """
        Be able to come back to what both stores hold now.

        :param key: What the model of this buffer calls this moment.
        """
        store = self.population_store
        self.undo, self.saved_undo = Undo(key, RowRecord(self), None if store is None else RowRecord(store)), None

    def go_back(self, key: tuple[int, int, int]) -> bool:
        """
        Undo what was written in the generation in which this buffer was saved.

        :param key: What the model that it was saved with called the start of that generation.
        :return: False if this buffer is of another run or another generation, or was written since: it stays as it is.
        """
        saved, store = self.saved_undo, self.population_store
        if saved is None or saved.key != key or not saved.own.fits(self):
            return False
        if saved.population is not None:
            if store is None or not saved.population.fits(store):
                return False
            saved.population.undo(store)
        else:
            # It was made in this generation, if there is one.
            self.population_store = None
        saved.own.undo(self)
        self.saved_undo = None
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        get_state = getattr(self, "__getstate__", None)
        state = dict(get_state() if get_state is not None else self.__dict__)
        state["saved_undo"], state["undo"] = self.undo or self.saved_undo, None
        return _new_shared, (type(self).__mro__[2],), state


def _new_shared(base: type[ReplayBuffer]) -> SharedExperience:
    kind = _shared_class(base)
    return kind.__new__(kind)


@functools.cache
def _shared_class(base: type[ReplayBuffer]) -> type[SharedExperience]:
    return type(f"Shared{base.__name__}", (SharedExperience, base), {"__module__": __name__})


def shared(buffer: ReplayBuffer, population_store: ReplayBuffer | None, population_share: float) -> SharedExperience:
    """
    Put the population's store beside a buffer.

    :param buffer: Buffer of the agent, of any kind.
    :param population_store: Buffer of the same kind with one lane; None keeps the one that is there, if there is one.
    :param population_share: Fraction of each batch that comes from the population's store, in [0, 1].
    :return: A buffer of a class derived from that of ``buffer``, and with the same memory: what is written in one is in the
        other. ``buffer`` itself if it is such a one already.
    """
    if isinstance(buffer, SharedExperience):
        own = buffer
    else:
        kind = _shared_class(type(buffer))
        own = kind.__new__(kind)
        own.__dict__ = buffer.__dict__
        # It may be that of another model already.
        vars(own).setdefault("population_store", None)
    if population_store is not None:
        own.population_store = population_store
    own.population_share = population_share
    own.fresh_observations = None
    return own


STOCK_ADD = (ReplayBuffer.add, DictReplayBuffer.add, HerReplayBuffer.add)
"""Of every ``info`` they read whether a time limit has cut the episode, which is all that the population's episodes tell."""


def has_own_add(kind: type[ReplayBuffer]) -> bool:
    """
    Whether a class of replay buffers stores steps in a way of its own.

    :param kind: The class.
    """
    return kind.add not in STOCK_ADD


def reads_infos(kind: type[ReplayBuffer] | None, arguments: Mapping[str, Any] | None) -> bool:
    """
    Whether a replay buffer may read what the population's episodes do not have: the environment's ``info`` of every step.

    :param kind: Class of the buffer, None for the one that SB3 chooses.
    :param arguments: Its arguments.
    :return: True for a class with an ``add`` of its own, and with ``copy_info_dict``.
    """
    if kind is None:
        return False
    default = parameters_of(kind).get("copy_info_dict")
    copies = (arguments or {}).get("copy_info_dict", default is not None and default.default)
    return bool(copies) or has_own_add(kind)


def add_episode(
    store: ReplayBuffer, transitions: Transitions, scaled_actions: np.ndarray, record: RowRecord | None = None
) -> None:
    """
    Append an episode to a buffer with one lane.

    :param store: Buffer of the population.
    :param transitions: Steps of the episode.
    :param scaled_actions: (T, a) its actions scaled to [-1, 1], as SB3's buffers hold them.
    :param record: Keeps what is overwritten, if there is one.
    """
    length = len(transitions.rewards)
    if record is not None:
        record.before_write(length)
    if type(store) in (ReplayBuffer, NStepReplayBuffer, DictReplayBuffer) and not store.optimize_memory_usage:
        _write_episode(store, transitions, scaled_actions)
        return
    for step in range(length):
        last = step == length - 1
        store.add(
            at_step(transitions.observations, step),  # type: ignore[arg-type]
            at_step(transitions.observations, step + 1),  # type: ignore[arg-type]
            scaled_actions[step : step + 1],
            transitions.rewards[step : step + 1],
            np.array([last]),
            [{"TimeLimit.truncated": last and not transitions.terminated}],
        )


def _write_episode(store: ReplayBuffer, transitions: Transitions, scaled_actions: np.ndarray) -> None:
    """The same as one ``add`` per step, in a few array operations."""
    length = len(transitions.rewards)
    skipped = max(length - store.buffer_size, 0)
    steps = np.arange(skipped, length)
    at = (store.pos + steps) % store.buffer_size
    if isinstance(transitions.observations, dict):
        for key, values in transitions.observations.items():
            rows = values.reshape(length + 1, *store.observations[key].shape[2:])
            store.observations[key][at, 0] = rows[steps]
            store.next_observations[key][at, 0] = rows[steps + 1]
    else:
        rows = transitions.observations.reshape(length + 1, *store.observations.shape[2:])
        store.observations[at, 0] = rows[steps]
        store.next_observations[at, 0] = rows[steps + 1]
    store.actions[at, 0] = scaled_actions.reshape(length, -1)[steps]
    store.rewards[at, 0] = transitions.rewards[steps]
    ends = steps == length - 1
    store.dones[at, 0] = ends
    if store.handle_timeout_termination:
        store.timeouts[at, 0] = ends & (not transitions.terminated)
    store.full = store.full or store.pos + length >= store.buffer_size
    store.pos = (store.pos + length) % store.buffer_size


def _concatenate(first: Any, second: Any) -> Any:
    """Join two batches field by field."""
    parts: list[Any] = []
    for one, other in zip(first, second, strict=True):
        if one is None:
            parts.append(None)
        elif isinstance(one, dict):
            parts.append({key: th.cat((one[key], other[key])) for key in one})
        else:
            parts.append(th.cat((one, other)))
    return type(first)(*parts)
