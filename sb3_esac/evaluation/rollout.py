"""One episode of one member: what is written down while it is played, in whatever process."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_esac.evaluation.statistics import Moments, Observation, ObservationMoments, observation_moments


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
class Episode:
    """
    The outcome of one episode.

    :param member: Whose episode it was, an index into the request's parameters.
    :param index: Number of the episode among that member's.
    :param episode_return: Undiscounted sum of raw rewards; NaN if a reward or observation was not finite.
    :param length: Number of steps.
    :param transitions: Its steps, if they were asked for and are finite.
    :param observation_moments: Moments of the observations that were acted upon, likewise.
    :param return_moments: Moments of the running discounted return (for ``VecNormalize``'s reward scale), likewise.
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
    """

    transitions: bool = False
    observation_moments: bool = False
    return_discount: float | None = None

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
        self.length = 0
        self.finite = True
        self._observations: list[Any] = []
        self._actions: list[np.ndarray] = []
        self._rewards: list[float] = []

    def add(self, observation: Observation, action: np.ndarray, reward: float, finite: bool = True) -> None:
        """
        Write one step down.

        :param observation: Raw observation that was acted upon; it is not copied.
        :param action: What was played.
        :param reward: Raw reward that followed.
        :param finite: False if the step's reward or next observation was not finite.
        """
        self.length += 1
        self.finite = self.finite and finite
        self._rewards.append(float(reward))
        if self.recording.observations:
            self._observations.append(observation)
        if self.recording.transitions:
            self._actions.append(action)

    def finish(self, last_observation: Observation, terminated: bool, info: dict[str, Any] | None = None) -> Episode:
        """
        Close the episode.

        :param last_observation: Raw observation after the last step.
        :param terminated: Whether it is terminal.
        :param info: ``Monitor``'s summary.
        :return: The episode.
        """
        rewards = np.array(self._rewards, dtype=np.float64)
        if not self.finite:
            return Episode(self.member, self.index, float("nan"), self.length, info=info)
        transitions, moments, return_moments = None, None, None
        if self.recording.observation_moments:
            moments = observation_moments(stack(self._observations))
        if self.recording.transitions:
            observations = stack([*self._observations, last_observation])
            transitions = Transitions(observations, np.stack(self._actions), rewards.astype(np.float32), terminated)
        if self.recording.return_discount is not None:
            return_moments = Moments.of(discounted_returns(rewards, self.recording.return_discount))
        return Episode(
            self.member, self.index, float(rewards.sum()), self.length, transitions, moments, return_moments, info
        )


def stack(observations: list[Any]) -> Observation:
    """Stack single observations, of a ``Dict`` space key by key."""
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
    sums = np.empty_like(rewards)
    total = 0.0
    for step, reward in enumerate(rewards):
        total = total * discount + reward
        sums[step] = total
    return sums
