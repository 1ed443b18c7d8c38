"""Schedules of the remaining progress (1 at the start, 0 at the end), in the manner of SB3's learning-rate schedules."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Schedule = Callable[[float], float]


@dataclass(frozen=True)
class ExponentialAnnealing:
    """
    Exponentially annealed probability of a gradient interval, p_sac (section 5.1).

    ``final + (1 - final) * exp(-elapsed / time_constant)`` with ``elapsed = 1 - progress_remaining``. The defaults are
    those of the authors' code, 0.1 + 0.9 exp(-t / 1.2e6) for a run of 1e6 steps.

    :param final: Probability that is approached.
    :param time_constant: Time constant as a fraction of the whole budget.
    """

    final: float = 0.1
    time_constant: float = 1.2

    def __call__(self, progress_remaining: float) -> float:
        return self.final + (1.0 - self.final) * float(np.exp(-(1.0 - progress_remaining) / self.time_constant))


@dataclass(frozen=True)
class Constant:
    """
    The same at all times.

    :param value: The value.
    """

    value: float

    def __call__(self, progress_remaining: float) -> float:
        return self.value


def as_schedule(value: float | Schedule) -> Schedule:
    """
    Turn a number into a constant schedule.

    :param value: A number, or a schedule, which is returned as it is.
    :return: A function of the remaining progress.
    """
    if callable(value):
        return value
    return Constant(float(value))
