"""Whether returns still improve."""

import numpy as np

MEANINGFUL = 0.05
"""Part of the range of all returns by which a mean has to be better."""


class Trend:
    """
    The best mean of consecutive returns so far, and how long ago that was beaten.

    A mean beats the best one by more than its own standard error, otherwise noise alone would look like progress, and by more
    than a twentieth of the range of all returns, otherwise a policy that stands ever more still would.

    To be read: ``best``, -inf before a whole window is known, and ``stale``, steps since the best mean was beaten.

    :param window: Returns whose mean counts.
    """

    def __init__(self, window: int) -> None:
        self.window = window
        self.best, self.stale = -np.inf, 0
        self._lowest, self._highest = np.inf, -np.inf
        self._last: list[float] = []

    def note(self, value: float, n_steps: int) -> None:
        """
        Take note of another return.

        :param value: The return; one that is not finite beats nothing.
        :param n_steps: Steps that it took.
        """
        self.stale += n_steps
        if not np.isfinite(value):
            return
        self._lowest, self._highest = min(self._lowest, value), max(self._highest, value)
        # A copy keeps its own.
        self._last = [*self._last, float(value)][-self.window :]
        if len(self._last) < self.window:
            return
        mean, error = float(np.mean(self._last)), float(np.std(self._last)) / np.sqrt(self.window)
        if mean > self.best + max(error, MEANINGFUL * (self._highest - self._lowest)):
            self.best, self.stale = mean, 0
