"""Whether winners still improve."""

import numpy as np

MEANINGFUL = 0.05
"""Part of the range of all values by which one has to be better."""


class Trend:
    """
    The best value so far, and how long ago that was beaten: by more than a twentieth of the range of all values, otherwise a
    policy that stands ever more still would improve for ever.

    To be read: ``best``, and ``stale``, how many values ago it was beaten.
    """

    def __init__(self) -> None:
        self.best, self.stale = -np.inf, 0
        self._lowest, self._highest = np.inf, -np.inf

    def note(self, value: float) -> None:
        """
        Take note of another value.

        :param value: One that is not finite beats nothing.
        """
        self.stale += 1
        if not np.isfinite(value):
            return
        self._lowest, self._highest = min(self._lowest, value), max(self._highest, value)
        if value > self.best + MEANINGFUL * (self._highest - self._lowest):
            self.best, self.stale = float(value), 0
