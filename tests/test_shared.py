"""Memory shared with workers: views, who takes which job, and that it goes away."""

import gc
import os
from pathlib import Path

import numpy as np
import pytest

from sb3_esac.evaluation.shared import FREE, Layout, SharedJobs, SharedMemory, WorkerSlots

LAYOUT = Layout(5, (3, 4), "<f4")


def open_files() -> list[str]:
    paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return [os.readlink(path) for path in paths if os.path.lexists(path)]


def make_jobs() -> tuple[SharedJobs, SharedJobs]:
    """Jobs as the parent has them, and as a worker sees them."""
    ours = SharedJobs(SharedMemory(LAYOUT.size), LAYOUT)
    ours.owners[:] = FREE
    return ours, SharedJobs(SharedMemory(path=ours.memory.path), LAYOUT)


def test_what_one_writes_the_other_reads() -> None:
    ours, theirs = make_jobs()
    ours.parameters[...] = np.arange(12).reshape(3, 4)
    ours.seeds[:] = [2**40, 1, 2, 3, 4]
    np.testing.assert_array_equal(theirs.parameters, np.arange(12).reshape(3, 4))
    assert theirs.seeds.tolist() == [2**40, 1, 2, 3, 4]
    assert ours.layout.parameters_at % 64 == 0


def test_every_job_is_taken_once_and_in_order() -> None:
    ours, theirs = make_jobs()
    assert [ours.take(0), theirs.take(1), theirs.take(1), ours.take(0), theirs.take(1)] == [0, 1, 2, 3, 4]
    assert ours.take(0) is None and theirs.take(1) is None
    ours.give_back(1, done={2})
    assert [ours.take(0), ours.take(0), ours.take(0)] == [1, 4, None]


def test_the_slots_of_workers_are_apart() -> None:
    ours = WorkerSlots(SharedMemory(WorkerSlots.size(3)), 3)
    theirs = WorkerSlots(SharedMemory(path=ours.memory.path), 3)
    ours.jobs[:], ours.pids[:], ours.started[:] = FREE, 7, 0.5
    ours.stop[0] = 1
    assert theirs.jobs.tolist() == [FREE] * 3 and theirs.pids.tolist() == [7] * 3 and theirs.started.tolist() == [0.5] * 3
    assert theirs.stop[0] == 1


@pytest.mark.parametrize("named", [False, True])
def test_nothing_is_left(named: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if named:
        monkeypatch.delattr(os, "memfd_create")
    # What other tests have left behind
    gc.collect()
    before = sorted(open_files())
    ours, theirs = make_jobs()
    assert len(list(tmp_path.iterdir())) == int(named)
    theirs.close()
    ours.close()
    assert not list(tmp_path.iterdir())
    assert sorted(open_files()) == before
    make_jobs()
    gc.collect()
    assert not list(tmp_path.iterdir())
    assert sorted(open_files()) == before
