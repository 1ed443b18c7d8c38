"""One episode of one member: what is written down while it is played, in whatever process."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_esac.evaluation.statistics import Moments, Observation, ObservationMoments, observation_moments, put_row


@dataclass(frozen=True)
class Transitions:
    """
    The steps of one episode.

    :param observations: (T + 1, ...) raw observations, the last one is where the episode ended; or a dict of such.
    :param actions: (T, a) actions as the environment got them.
    :param rewards: (T,) raw rewards.
    :param terminated: Whether the last step ended in a terminal state; otherwise it was cut and bootstraps.
    """

    observations: Observation
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


@dataclass(frozen=True)
class EpisodeResult:
    """
    The outcome of one episode.

    :param member: Whose episode it was, an index into the request's parameters.
    :param index: Number of the episode among that member's.
    :param episode_return: Undiscounted sum of raw rewards; NaN if a reward or observation was not finite.
    :param length: Number of steps.
    :param transitions: Its steps, if they were asked for and are finite.
    :param observation_moments: Moments of the observations that were acted upon, too.
    :param return_moments: Moments of the running discounted return (for ``VecNormalize``'s reward scale), too.
    :param info: ``Monitor``'s summary of the episode, if there was one.
    """

    member: int
    index: int
    episode_return: float
    length: int
    transitions: Transitions | None = None
    observation_moments: ObservationMoments | None = None
    return_moments: Moments | None = None
    info: dict[str, Any] | None = None


@dataclass(frozen=True)
class Recording:
    """
    What to write down beside return and length.

    :param transitions: Keep every step.
    :param observation_moments: Compute moments of the observations.
    :param return_discount: Discount of the running return whose moments are computed; None for none.
    :param info_keys: What to keep of the last ``info`` of an episode even if it is no data.
    """

    transitions: bool = False
    observation_moments: bool = False
    return_discount: float | None = None
    info_keys: tuple[str, ...] = ()

    @property
    def observations(self) -> bool:
        """Whether observations have to be kept until the end of the episode."""
        return self.transitions or self.observation_moments


class EpisodeRecorder:
    """
    Writes an episode down step by step.

    :param member: Whose episode it is.
    :param index: Number of the episode among that member's.
    :param recording: What to write down.
    """

    def __init__(self, member: int, index: int, recording: Recording) -> None:
        self.member, self.index, self.recording = member, index, recording
        self.finite = True
        self._rewards: list[float] = []
        self.hear = self._rewards.append
        """Writes down the reward of a step."""
        self._capacity = 0
        self._observations: Observation = np.empty(0)
        self._actions = np.empty(0)
        self._keeps_observations = recording.observations
        self._keeps_actions = recording.transitions

    def add(self, observation: Observation, action: np.ndarray, reward: float, finite: bool = True) -> None:
        """
        Write one step down.

        :param observation: Raw observation that was acted upon; copied.
        :param action: What was played; copied.
        :param reward: Raw reward that followed.
        :param finite: False if the step's reward or next observation was not finite.
        """
        self.see(observation, action)
        self.hear(reward)
        if not finite:
            self.finite = False

    def see(self, observation: Observation, action: np.ndarray) -> None:
        """
        Write the first half of a step down, before the environment can touch its arrays again; :meth:`hear` must follow.

        :param observation: Raw observation that is acted upon; copied.
        :param action: What is played; copied.
        """
        if not self._keeps_observations:
            return
        at = len(self._rewards)
        if at >= self._capacity:
            self._grow(observation, action)
        put_row(self._observations, at, observation)
        if self._keeps_actions:
            self._actions[at] = action

    @property
    def length(self) -> int:
        """Number of steps so far."""
        return len(self._rewards)

    def _grow(self, observation: Observation, action: np.ndarray) -> None:
        self._capacity = max(256, 2 * self._capacity)
        # One more row, for the observation after the last step.
        if isinstance(observation, dict):
            old = self._observations if isinstance(self._observations, dict) else dict.fromkeys(observation, np.empty(0))
            self._observations = {key: enlarged(old[key], self._capacity + 1, value) for key, value in observation.items()}
        else:
            assert isinstance(self._observations, np.ndarray)
            self._observations = enlarged(self._observations, self._capacity + 1, observation)
        self._actions = enlarged(self._actions, self._capacity, action)

    def rewards(self) -> np.ndarray:
        """(T,) rewards so far, in single precision as replay buffers and most ``VecEnv`` have them."""
        return np.array(self._rewards, dtype=np.float32)

    def finish(self, last_observation: Observation, terminated: bool, info: dict[str, Any] | None = None) -> EpisodeResult:
        """
        Close the episode.

        :param last_observation: Raw observation after the last step.
        :param terminated: Whether it is terminal.
        :param info: ``Monitor``'s summary.
        :return: The episode.
        """
        steps = None
        if self.finite and self._keeps_observations:
            if self._keeps_actions:
                put_row(self._observations, self.length, last_observation)
            steps = Steps(_rows(self._observations, self.length + 1), self._actions[: self.length])
        rewards = self.rewards() if self.finite else None
        return conclude(self.member, self.index, self.recording, self.length, rewards, steps, terminated, info)


@dataclass(frozen=True)
class Steps:
    """
    What was seen and done in an episode.

    :param observations: (T + 1, ...) raw observations; the last one only counts where transitions are kept.
    :param actions: (T, a) actions, of no meaning where they are not kept.
    """

    observations: Observation
    actions: np.ndarray


def conclude(
    member: int,
    index: int,
    recording: Recording,
    length: int,
    rewards: np.ndarray | None,
    steps: Steps | None,
    terminated: bool,
    info: dict[str, Any] | None,
) -> EpisodeResult:
    """
    Make an episode of what was written down.

    :param member: Whose episode it was.
    :param index: Number of the episode among that member's.
    :param recording: What is wanted of it.
    :param length: T, its steps.
    :param rewards: (T,) single precision; None if something was not finite.
    :param steps: Observations and actions, None if they were not written down; copied.
    :param terminated: Whether the last observation is terminal.
    :param info: ``Monitor``'s summary.
    """
    if rewards is None:
        return EpisodeResult(member, index, float("nan"), length, info=info)
    double = rewards.astype(np.float64)
    transitions, moments, return_moments = None, None, None
    if recording.observation_moments:
        assert steps is not None
        moments = observation_moments(_rows(steps.observations, length))
    if recording.transitions:
        assert steps is not None
        observations = _rows(steps.observations, length + 1, copy=True)
        transitions = Transitions(observations, steps.actions.copy(), rewards, terminated)
    if recording.return_discount is not None:
        return_moments = Moments.of(discounted_returns(double, recording.return_discount))
    return EpisodeResult(member, index, float(double.sum()), length, transitions, moments, return_moments, info)


def enlarged(old: np.ndarray, capacity: int, like: np.ndarray) -> np.ndarray:
    """
    Make room for more rows.

    :param old: Rows until now; without any, its shape and type mean nothing.
    :param capacity: Rows that there is to be room for.
    :param like: A row.
    :return: A new array, whose further rows are not set.
    """
    larger = np.empty((capacity, *like.shape), dtype=like.dtype)
    if len(old):
        larger[: len(old)] = old
    return larger


def _rows(storage: Observation, n_rows: int, *, copy: bool = False) -> Observation:
    if isinstance(storage, dict):
        return {key: part[:n_rows].copy() if copy else part[:n_rows] for key, part in storage.items()}
    return storage[:n_rows].copy() if copy else storage[:n_rows]


def stack(observations: list[Any]) -> Observation:
    """
    Stack single observations, of a ``Dict`` space key by key.

    :param observations: N observations of one space, at least one.
    :return: (N, ...) array, or a dict of such.
    """
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


def discounted_returns(rewards: np.ndarray, discount: float) -> np.ndarray:
    """
    Running discounted sum of past rewards, what ``VecNormalize`` scales rewards by.

    :param rewards: (T,) raw rewards.
    :param discount: Its ``gamma``.
    :return: (T,) sums, ``s_t = discount * s_{t-1} + r_t``.
    """
    sums = []
    total = 0.0
    for reward in rewards.tolist():
        total = total * discount + reward
        sums.append(total)
    return np.array(sums, dtype=np.float64)
