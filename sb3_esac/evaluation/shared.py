"""Memory that the parent and its workers share, and what stands in it. It has no name, so that nothing can be left behind."""

import fcntl
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

FREE = -1
"""Owner of a job that is still free."""


class SharedMemory:
    """
    A block of memory that other processes open by its path. The system frees it when the last of them lets go.

    :param size: Bytes; None to open what is there.
    :param path: Path that another process's block gave, None to make one.
    """

    def __init__(self, size: int | None = None, path: str | None = None) -> None:
        created = path is None
        if path is not None:
            self.fd, self.path = os.open(path, os.O_RDWR), path
        else:
            self.fd, self.path = _create()
            os.ftruncate(self.fd, max(size or 0, 1))
        self.size = os.fstat(self.fd).st_size
        self._map = mmap.mmap(self.fd, self.size)
        # Only where memory has no name of its own there is a file to be removed.
        file = self.path if created and not self.path.startswith("/proc/") else None
        self._release = weakref.finalize(self, _release, self.fd, file)

    def close(self) -> None:
        """Let go of the block. A view of it that is still held keeps it alive."""
        try:
            self._map.close()
        except BufferError:
            pass
        self._release()

    def array(self, offset: int, shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
        """
        View a part of the block.

        :param offset: Where it begins, in bytes.
        :param shape: Shape of the view.
        :param dtype: Type of the elements.
        """
        count = int(np.prod(shape, dtype=np.int64))
        return np.frombuffer(self._map, dtype=dtype, count=count, offset=offset).reshape(shape)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out meanwhile. The system gives the lock back if this process dies."""
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


def _create() -> tuple[int, str]:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("sb3_esac")
        path = f"/proc/{os.getpid()}/fd/{fd}"
        if os.path.exists(path):
            return fd, path
        os.close(fd)
    return tempfile.mkstemp(prefix="sb3_esac_")


def _release(fd: int, file: str | None) -> None:
    os.close(fd)
    if file is not None:
        os.unlink(file)


class WorkerSlots:
    """
    What parent and workers tell each other while episodes are played: one slot per worker, and a flag that stops all.

    :param memory: At least ``WorkerSlots.size(n_workers)`` bytes.
    :param n_workers: Number of slots.
    """

    def __init__(self, memory: SharedMemory, n_workers: int) -> None:
        self.memory = memory
        self.stop = memory.array(0, (1,), np.uint8).data
        self.pids = memory.array(64, (n_workers,), np.int64)
        self.jobs = memory.array(64 + 8 * n_workers, (n_workers,), np.int64)
        """Number of the job that a worker plays, ``FREE`` if it plays none."""
        self.started = memory.array(64 + 16 * n_workers, (n_workers,), np.float64)
        """``time.monotonic()`` when it began with that."""

    def close(self) -> None:
        """Let go of the memory now, even if this object is still held."""
        del self.stop, self.pids, self.jobs, self.started
        self.memory.close()

    @staticmethod
    def size(n_workers: int) -> int:
        """Bytes for a number of workers."""
        return 64 + 24 * n_workers


@dataclass(frozen=True)
class Layout:
    """
    Where the parts of :class:`SharedJobs` stand in their block.

    :param n_jobs: Number of episodes.
    :param shape: Shape of the parameter matrix.
    :param dtype: Type of the parameters.
    """

    n_jobs: int
    shape: tuple[int, int]
    dtype: str

    @property
    def parameters_at(self) -> int:
        """Offset of the parameters: owners and seeds come first."""
        return 64 * (-(-(12 * self.n_jobs) // 64))

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self.parameters_at + int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


class SharedJobs:
    """
    Parameters and seeds of one request, and who plays which of its episodes.

    :param memory: The block.
    :param layout: Where things stand.
    """

    def __init__(self, memory: SharedMemory, layout: Layout) -> None:
        self.memory, self.layout = memory, layout
        self.seeds = memory.array(0, (layout.n_jobs,), np.int64)
        self.owners = memory.array(8 * layout.n_jobs, (layout.n_jobs,), np.int32)
        self.parameters = memory.array(layout.parameters_at, layout.shape, np.dtype(layout.dtype))

    def close(self) -> None:
        """Let go of the memory now, even if this object is still held."""
        del self.seeds, self.owners, self.parameters
        self.memory.close()

    def take(self, worker: int) -> int | None:
        """
        Take the next free job.

        :param worker: Whose it will be.
        :return: Its number, None if all are taken.
        """
        with self.memory.locked():
            job = int((self.owners == FREE).argmax())
            if self.owners[job] != FREE:
                return None
            self.owners[job] = worker
            return job

    def give_back(self, worker: int, done: set[int]) -> None:
        """
        Free the jobs of a worker that is gone.

        :param worker: Which one.
        :param done: Jobs that need not be played again.
        """
        with self.memory.locked():
            for job in np.flatnonzero(self.owners == worker).tolist():
                if job not in done:
                    self.owners[job] = FREE
