"""What is said when callbacks reset or step the environment that is being trained on."""

import warnings

PATIENCE = 20
"""So many times in a row episodes are begun anew before it is an error."""

ADVICE = (
    "A callback has reset or stepped the training environment in the middle of an episode. What it does there is no training "
    "and is not counted; the episodes that were under way are given up and begun anew. Evaluate on an environment of its own, "
    "for instance `EvalCallback(Monitor(gym.make(...)))`."
)


class Patience:
    """
    Counts how often in a row episodes could not be played to their end.

    :param what: What is played.
    """

    def __init__(self, what: str) -> None:
        self.what = what
        self._n_lost, self._n_finished = 0, 0

    def lose(self, n_finished: int) -> None:
        """
        Say that callbacks have had the environment.

        :param n_finished: Episodes that have been finished so far.
        :raises RuntimeError: If none has been for too long.
        """
        if self._n_lost == 0:
            warnings.warn(ADVICE, stacklevel=2)
        self._n_lost = self._n_lost + 1 if n_finished == self._n_finished else 1
        self._n_finished = n_finished
        if self._n_lost >= PATIENCE:
            raise RuntimeError(
                f"{ADVICE} It has done so {PATIENCE} times before {self.what} could end: training would not either."
            )
