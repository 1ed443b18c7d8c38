"""Whether an agent's returns still improve, by two windows of its steps."""

import copy

import numpy as np

SPREAD = (0.05, 0.95)
"""Quantiles of all returns; the range between them is the scale of what is an improvement."""


class Returns:
    """The returns of an agent's episodes, and when they were had."""

    def __init__(self) -> None:
        self.n_steps = 0
        self._ends: list[int] = []
        self._returns: list[float] = []

    def __copy__(self) -> "Returns":
        other = Returns()
        other.n_steps, other._ends, other._returns = self.n_steps, copy.copy(self._ends), copy.copy(self._returns)
        return other

    def note(self, value: float, n_steps: int) -> None:
        """
        Take note of another episode.

        :param value: Its return; one that is not finite counts for its steps alone.
        :param n_steps: Its length.
        """
        self.n_steps += n_steps
        if np.isfinite(value):
            self._ends.append(self.n_steps)
            self._returns.append(float(value))

    def means(self, window: float) -> tuple[float, float] | None:
        """
        Compare the latest steps with those before them.

        :param window: Steps of each of two windows that follow each other.
        :return: Mean return of episodes that ended in the window before, and in the latest one. None if there were not
            so many steps, or no episode ended in one of them.
        """
        if self.n_steps < 2 * window:
            return None
        start, middle = np.searchsorted(self._ends, [self.n_steps - 2 * window, self.n_steps - window], side="right")
        before, latest = self._returns[start:middle], self._returns[middle:]
        return (float(np.mean(before)), float(np.mean(latest))) if before and latest else None

    @property
    def spread(self) -> float:
        """Range of all returns, without the lowest and the highest twentieth."""
        low, high = np.quantile(self._returns, SPREAD) if self._returns else (0.0, 0.0)
        return float(high - low)
