"""Whole episodes inside ``SubprocVecEnv`` workers: a free worker takes the next member."""

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any

import cloudpickle
import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.numbering import Numbering, all_parameters, all_seeds
from sb3_esac.evaluation.pool import GRACE_SECONDS, PoolEvaluator, PoolRun
from sb3_esac.evaluation.shared import FREE, Layout, SharedJobs, SharedMemory, WorkerSlots
from sb3_esac.evaluation.worker import EvaluationError, Outcomes, Task, WorkerFactory

GUARD = (
    "A worker process died before it was ready. If the script that you run has no `__main__` guard, this is why: each worker "
    "imports the script, which must not start training again. Put what it does under\n\n"
    '    if __name__ == "__main__":\n        main()\n\n'
    "or play the episodes in this process (`n_workers=1`). What the worker said stands above."
)

NO_START = "Worker processes cannot be started (%s): play the episodes in this process (`n_workers=1`)"


def start_server() -> None:
    """
    Start the fork server, from which ``SubprocVecEnv`` starts its processes where there is one, and let it import PyTorch and
    the rest, once for all workers. It does so in the background: who starts it early need not wait a second or more for the
    first worker. A server that runs already is left as it is.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        # Not the script that is run, which some Python versions would import, too: each worker does, and says if it cannot.
        forkserver.set_forkserver_preload(["sb3_esac.evaluation.worker", "stable_baselines3.common.vec_env"])
        forkserver.ensure_running()


@dataclass(frozen=True)
class Report:
    """
    What a worker answered.

    :param slot: Which worker.
    :param outcomes: Number and outcome of each job.
    :param finished: Whether it found no more jobs.
    """

    slot: int
    outcomes: Outcomes
    finished: bool


@dataclass(frozen=True)
class Death:
    """
    A worker that answers no more.

    :param slot: Which one.
    :param error: What was raised when it was spoken to.
    """

    slot: int
    error: BaseException


class _Worker:
    """
    The parent's side of one worker: a ``SubprocVecEnv`` with one environment, so that its death concerns no other.

    :param factory: What runs in the process.
    :param slots: Shared with the process.
    :param start_method: How the process is started.
    """

    _forking = threading.Lock()

    def __init__(self, factory: WorkerFactory, slots: WorkerSlots, start_method: str | None) -> None:
        self.factory, self.slots, self.start_method = factory, slots, start_method
        self.slot = factory.slot
        self.venv: SubprocVecEnv | None = None
        self.thread: threading.Thread | None = None
        self.was_ready = False
        self.abandoned = False

    def launch(self, task: Task, inbox: "queue.SimpleQueue[Report | Death]") -> None:
        """Let the worker take jobs in the background; what comes of it goes into ``inbox``."""
        self.thread = threading.Thread(target=self._run, args=(task, inbox), daemon=True, name=f"esac-worker-{self.slot}")
        self.thread.start()

    def _run(self, task: Task, inbox: "queue.SimpleQueue[Report | Death]") -> None:
        try:
            if self.venv is None:
                self._start()
            assert self.venv is not None
            given: Task | None = task
            finished = False
            while not finished:
                outcomes, finished = pickle.loads(self.venv.env_method("play_slice", given)[0])
                given = None
                inbox.put(Report(self.slot, outcomes, finished))
        except BaseException as error:
            inbox.put(Death(self.slot, error))

    def _start(self) -> None:
        self.slots.pids[self.slot], self.slots.jobs[self.slot] = 0, FREE
        if self.start_method == "fork":
            with self._forking:
                self.venv = SubprocVecEnv([self.factory], self.start_method)
        else:
            self.venv = SubprocVecEnv([self.factory], self.start_method)
        self.was_ready = True
        if self.abandoned:
            self.discard()
            raise EOFError("closed before it was ready")

    @property
    def busy(self) -> bool:
        """Whether it is still at work."""
        return self.thread is not None and self.thread.is_alive()

    def kill(self) -> None:
        """End the process at once; the thread that waits for it will notice."""
        pid = int(self.slots.pids[self.slot])
        if self.venv is not None:
            self.venv.processes[0].kill()
        elif pid > 0:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def discard(self) -> None:
        """Forget a process that is dead or is to be."""
        self.kill()
        self.slots.pids[self.slot], self.slots.jobs[self.slot] = 0, FREE
        venv, self.venv = self.venv, None
        if venv is not None:
            venv.processes[0].join(GRACE_SECONDS)
            venv.remotes[0].close()
            venv.closed = True

    def close(self) -> None:
        """Ask the process to end, and make it end."""
        self.abandoned = True
        venv = self.venv
        if venv is not None and not self.busy:
            asking = threading.Thread(target=_close_quietly, args=(venv,), daemon=True)
            asking.start()
            asking.join(GRACE_SECONDS)
        self.discard()
        if self.thread is not None:
            self.thread.join(GRACE_SECONDS)
            self.thread = None


def _close_quietly(venv: SubprocVecEnv) -> None:
    try:
        venv.close()
    except (OSError, EOFError):
        pass


class SubprocEvaluator(PoolEvaluator):
    """
    Plays whole episodes in worker processes. The result is that of
    :class:`~sb3_esac.evaluation.lockstep.LockstepEvaluator`, bit for bit, whatever the number of workers and the order in
    which they finish.

    Deaths are noticed, and clocks looked at, when the result is asked for.

    :param recipe: See :class:`~sb3_esac.evaluation.pool.PoolEvaluator`.
    :param n_workers: Number of processes.
    :param start_method: How processes are started, None for what ``SubprocVecEnv`` takes.
    :param rules: Other arguments of :class:`~sb3_esac.evaluation.pool.PoolEvaluator`.
    """

    def __init__(
        self, recipe: LaneRecipe | Callable[[], gym.Env], n_workers: int, *, start_method: str | None = None, **rules: Any
    ) -> None:
        super().__init__(recipe, n_workers, **rules)
        self.start_method = start_method
        self.workers: list[_Worker] = []
        self.slots: WorkerSlots | None = None
        self.jobs: SharedJobs | None = None
        self._n_evaluations = 0

    def _launch(self, requests: Sequence[EvaluationRequest]) -> PoolRun:
        self._open()
        return _Run(self, requests, *self.publish(requests))

    def _open(self) -> None:
        busy = [worker.slot for worker in self.workers if worker.busy]
        assert not busy, f"workers {busy} still play the last request"
        if self.workers:
            return
        self.slots = WorkerSlots(SharedMemory(WorkerSlots.size(self.n_workers)), self.n_workers)
        self.slots.jobs[:] = FREE
        recipe = cloudpickle.dumps(self.recipe)
        path, advice = self.slots.memory.path, self.recipe.advice
        factories = [WorkerFactory(recipe, path, self.n_workers, slot, advice) for slot in range(self.n_workers)]
        self.workers = [_Worker(factory, self.slots, self.start_method) for factory in factories]

    def publish(self, requests: Sequence[EvaluationRequest]) -> tuple[Task, SharedJobs]:
        """
        Write requests where the workers can read them.

        :param requests: What to play.
        """
        numbering, parameters = Numbering.of(requests), all_parameters(requests)
        layout = Layout(len(numbering), parameters.shape, parameters.dtype.str)
        known = self.jobs.memory if self.jobs is not None else None
        memory = SharedMemory(layout.size) if known is None or known.size < layout.size else known
        self.jobs = jobs = SharedJobs(memory, layout)
        jobs.seeds[:] = all_seeds(requests)
        jobs.parameters[...] = parameters
        jobs.owners[:] = FREE
        self._n_evaluations += 1
        task = Task(self._n_evaluations, memory.path, layout, numbering, self.rules(requests))
        return task, jobs

    def close(self) -> None:
        """End all processes and give their memory back. The evaluator can be used again."""
        workers, self.workers = self.workers, []
        if self.slots is not None:
            self.slots.stop[0] = 1
        _wait(workers)
        closing = [threading.Thread(target=worker.close, daemon=True) for worker in workers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.files.close()
        slots, jobs = self.slots, self.jobs
        self.slots, self.jobs = None, None
        # An exception on its way to the user has our frames in its traceback: they shall not keep the memory.
        if not any(worker.busy for worker in workers):
            if slots is not None:
                slots.close()
            if jobs is not None:
                jobs.close()


def _wait(workers: list[_Worker]) -> list[_Worker]:
    """Wait for workers that have been asked to stop; those that do not."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        if worker.thread is not None:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
    return [worker for worker in workers if worker.busy]


class _Run(PoolRun):
    """One evaluation, as the parent sees it."""

    def __init__(
        self, evaluator: SubprocEvaluator, requests: Sequence[EvaluationRequest], task: Task, jobs: SharedJobs
    ) -> None:
        super().__init__(evaluator, requests)
        assert evaluator.slots is not None
        self.slots, self.workers = evaluator.slots, evaluator.workers
        self.inbox: queue.SimpleQueue[Report | Death] = queue.SimpleQueue()
        self.task, self.jobs = task, jobs
        self.slots.stop[0] = 0
        for worker in self.workers:
            worker.launch(self.task, self.inbox)

    def receive(self) -> None:
        try:
            message = self.inbox.get(timeout=self.moment)
        except queue.Empty:
            message = None
        if isinstance(message, Death):
            self.bury(message)
        elif message is not None:
            self.collection.add(message.outcomes)
        self.check_clocks()

    def join(self) -> None:
        for worker in self.workers:
            if worker.thread is not None:
                worker.thread.join()

    def call_back(self) -> None:
        self.slots.stop[0] = 1
        for worker in _wait(self.workers):
            worker.close()

    def playing_since(self) -> Iterable[tuple[int, float]]:
        for worker in self.workers:
            if worker.busy and self.slots.jobs[worker.slot] != FREE:
                yield worker.slot, float(self.slots.started[worker.slot])

    def kill(self, slot: int) -> None:
        self.workers[slot].kill()

    def bury(self, death: Death) -> None:
        """Replace a dead worker, and let everybody who is free play what it has left."""
        worker = self.workers[death.slot]
        if worker.thread is not None:
            worker.thread.join()
        if not any(other.was_ready for other in self.workers) and self.slots.pids[death.slot] == 0:
            raise EvaluationError(
                GUARD if isinstance(death.error, EOFError | OSError) else NO_START % death.error
            ) from death.error
        where = self.where(int(self.slots.jobs[death.slot]))
        worker.discard()
        self.count_death(death.slot, where, death.error)
        self.jobs.give_back(death.slot, self.collection.done)
        for other in self.workers:
            if not other.busy:
                other.launch(self.task, self.inbox)

    def where(self, number: int) -> str:
        """Say which job a worker has died in."""
        if number == FREE:
            return "between two episodes"
        place = self.task.numbering.place(number)
        return f"in the episode {place.index} of member {place.member} (seed {self.jobs.seeds[number]})"
