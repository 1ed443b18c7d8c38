"""What a replay buffer was like as a generation began, kept while rows are overwritten: a few rows, not a copy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer

WHOLE = ("ep_start", "ep_length", "_current_ep_start")
"""Numbers of ``HerReplayBuffer`` that change in many rows at once, which are copied."""


def _row_arrays(store: ReplayBuffer) -> dict[tuple[str, str], np.ndarray]:
    """Everything that has a row for each transition, by attribute and key."""
    found = {}
    for name, value in vars(store).items():
        if name in WHOLE or (name == "infos" and not getattr(store, "copy_info_dict", True)):
            continue
        for key, array in value.items() if isinstance(value, dict) else [("", value)]:
            if isinstance(array, np.ndarray) and array.shape[:1] == (store.buffer_size,):
                found[name, key] = array
    return found


class RowRecord:
    """
    What one ring of transitions has to be given back to be what it is now.

    Only rows that hold something are kept, and only as they are written: of a ring that is not full next to nothing. The last
    row may be marked as truncated later, and the next one may hold an observation already (``optimize_memory_usage``).

    :param store: The buffer; from now on it is written through :meth:`before_write`.
    """

    def __init__(self, store: ReplayBuffer) -> None:
        self.pos, self.full, self.size = store.pos, store.full, store.buffer_size
        self.n_written = 0
        self._arrays = _row_arrays(store)
        self._whole = {name: np.copy(getattr(store, name)) for name in WHOLE if hasattr(store, name)}
        # The last row is `size - 1` rows ahead: it comes in at the end if the ring is written all around.
        self._last = self._take(np.array([(self.pos - 1) % self.size]))
        self._rows: list[tuple[np.ndarray, dict[tuple[str, str], np.ndarray]]] = []
        self._n_kept = 0
        self._keep(1)

    def _take(self, rows: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
        return {name: array[rows] for name, array in self._arrays.items()}

    def _keep(self, n_rows: int) -> None:
        """Keep that many rows from where writing began."""
        n_rows = min(n_rows, self.size)
        if n_rows <= self._n_kept:
            return
        first, self._n_kept = self._n_kept, n_rows
        if not self.full and first > 0 and self.pos + n_rows <= self.size:
            return
        rows = (self.pos + np.arange(first, n_rows)) % self.size
        if not self.full:
            rows = rows[rows <= self.pos]
        if rows.size:
            self._rows.append((rows, self._take(rows)))

    def before_write(self, n_rows: int) -> None:
        """
        Keep what is about to be overwritten.

        :param n_rows: Transitions of each lane that are about to be added.
        """
        self.n_written += n_rows
        # One more, as an observation is written ahead where memory is saved.
        self._keep(self.n_written + 1)

    def fits(self, store: ReplayBuffer) -> bool:
        """
        Whether a buffer is the one that was written.

        :param store: A buffer, from a file perhaps.
        """
        is_there = store.buffer_size == self.size and store.pos == (self.pos + self.n_written) % self.size
        return is_there and set(_row_arrays(store)) == set(self._last)

    def undo(self, store: ReplayBuffer) -> None:
        """
        Give back what was overwritten, and empty what was empty.

        :param store: The buffer that was written.
        """
        arrays = _row_arrays(store)
        if not self.full:
            for array in arrays.values():
                empty = array[self.pos + 1 : self.pos + self.n_written + 1]
                if array.dtype == object:
                    empty[...] = np.array([{} for _ in range(empty.size)], dtype=object).reshape(empty.shape)
                else:
                    empty[...] = 0
        for rows, kept in [*self._rows, (np.array([(self.pos - 1) % self.size]), self._last)]:
            for name, values in kept.items():
                arrays[name][rows] = values
        for attribute, values in self._whole.items():
            setattr(store, attribute, values.copy())
        store.pos, store.full = self.pos, self.full

    def __getstate__(self) -> dict[str, Any]:
        # The buffer is saved beside it.
        return {**self.__dict__, "_arrays": {}}


@dataclass
class Undo:
    """
    The way back to where a generation began, for both stores.

    :param key: Names run, generation and steps: a buffer goes back only with the model that it belongs to.
    :param own: Of the agent's store.
    :param population: Of the population's store, None if there is none.
    """

    key: tuple[int, int, int]
    own: RowRecord
    population: RowRecord | None
