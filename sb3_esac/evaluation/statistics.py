"""Count, mean and variance of observations, merged exactly and in a fixed order."""

from dataclasses import dataclass
from typing import Any

import numpy as np

Observation = np.ndarray | dict[str, np.ndarray]


@dataclass(frozen=True)
class Moments:
    """
    Count, mean and mean square deviation of a batch.

    :param count: Number of samples.
    :param mean: Mean, in the shape of one sample.
    :param var: Population variance, in the shape of one sample.
    """

    count: float
    mean: np.ndarray
    var: np.ndarray

    @classmethod
    def of(cls, batch: np.ndarray) -> "Moments":
        """
        Moments of a batch.

        :param batch: (N, ...) samples.
        :return: Its moments in float64.
        """
        values = np.asarray(batch, dtype=np.float64)
        return cls(float(len(values)), values.mean(axis=0), values.var(axis=0))

    def merge(self, other: "Moments") -> "Moments":
        """
        Moments of both batches together (Chan et al.'s parallel algorithm).

        :param other: Moments of another batch.
        :return: Moments of the union.
        """
        total = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / total)
        square = self.var * self.count + other.var * other.count + delta**2 * (self.count * other.count / total)
        return Moments(total, mean, square / total)


ObservationMoments = dict[str, Moments]
"""Moments by key of a ``Dict`` observation; a plain observation has the key ``""``."""


def at_step(observations: Observation, step: int) -> Observation:
    """
    Take one step out of an episode.

    :param observations: (T, ...) of its steps, of a ``Dict`` space key by key.
    :param step: Number of the step.
    :return: (1, ...) the observation, which shares memory.
    """
    if isinstance(observations, dict):
        return {key: value[step : step + 1] for key, value in observations.items()}
    return observations[step : step + 1]


def put_row(storage: Any, row: int, observation: Any) -> None:
    """
    Copy an observation into a batch.

    :param storage: Batch, of a ``Dict`` or ``Tuple`` space part by part.
    :param row: Its row there.
    :param observation: The observation.
    """
    if isinstance(storage, dict):
        for key, part in storage.items():
            part[row] = observation[key]
    elif isinstance(storage, tuple):
        for part, value in zip(storage, observation, strict=True):
            part[row] = value
    else:
        storage[row] = observation


def observation_moments(batch: Observation) -> ObservationMoments:
    """
    Moments of a batch of observations.

    :param batch: (N, ...) observations, or a dict of such.
    :return: Moments of each key.
    """
    if isinstance(batch, dict):
        return {key: Moments.of(value) for key, value in batch.items()}
    return {"": Moments.of(batch)}


def merge_moments(parts: list[ObservationMoments]) -> ObservationMoments | None:
    """
    Merge moments in the order in which they are given.

    :param parts: Moments with the same keys.
    :return: Moments of all together, None if there are none.
    """
    merged: ObservationMoments | None = None
    for part in parts:
        merged = part if merged is None else {key: merged[key].merge(part[key]) for key in merged}
    return merged
