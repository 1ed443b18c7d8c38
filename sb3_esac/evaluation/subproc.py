"""Whole episodes inside ``SubprocVecEnv`` workers: members are taken one by one by whoever is free."""

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, OnStep, Pending
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.lane import Played
from sb3_esac.evaluation.pool import PoolEvaluator
from sb3_esac.evaluation.replay import Collection, Replayer
from sb3_esac.evaluation.shared import FREE, Board, Generation, Layout, SharedMemory
from sb3_esac.evaluation.worker import EvaluationError, Failure, Task, WorkerFactory

GRACE_SECONDS = 3.0
"""How long a worker may take to do what it is asked before it is killed."""

GUARD = (
    "A worker process died before it was ready. If the script that you run has no `__main__` guard, this is why: each worker "
    "imports the script, which must not start training again. Put what it does under\n\n"
    '    if __name__ == "__main__":\n        main()\n\n'
    "or play the episodes in this process (`n_workers=1`). What the worker said stands above."
)


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
    outcomes: list[tuple[int, Played | Failure]]
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
    :param board: Shared with the process.
    :param start_method: How the process is started.
    """

    _forking = threading.Lock()

    def __init__(self, factory: WorkerFactory, board: Board, start_method: str | None) -> None:
        self.factory, self.board, self.start_method = factory, board, start_method
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
        self.board.pids[self.slot], self.board.jobs[self.slot] = 0, FREE
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
        pid = int(self.board.pids[self.slot])
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
        self.board.pids[self.slot], self.board.jobs[self.slot] = 0, FREE
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
        self.board: Board | None = None
        self.generation: Generation | None = None
        self._n_evaluations = 0

    def _launch(self, request: EvaluationRequest) -> Pending:
        self._open()
        return _Run(self, request)

    def _open(self) -> None:
        busy = [worker.slot for worker in self.workers if worker.busy]
        assert not busy, f"workers {busy} still play the last request"
        if self.workers:
            return
        self.board = Board(SharedMemory(Board.size(self.n_workers)), self.n_workers)
        self.board.jobs[:] = FREE
        recipe = cloudpickle.dumps(self.recipe)
        path, advice = self.board.memory.path, self.recipe.advice
        factories = [WorkerFactory(recipe, path, self.n_workers, slot, advice) for slot in range(self.n_workers)]
        self.workers = [_Worker(factory, self.board, self.start_method) for factory in factories]

    def publish(self, request: EvaluationRequest) -> tuple[Task, Generation]:
        """Write a generation where the workers can read it."""
        n_jobs = request.seeds.size
        parameters = np.ascontiguousarray(request.parameters)
        layout = Layout(n_jobs, parameters.shape, parameters.dtype.str)
        known = self.generation.memory if self.generation is not None else None
        memory = SharedMemory(layout.size) if known is None or known.size < layout.size else known
        self.generation = generation = Generation(memory, layout)
        generation.seeds[:] = request.seeds.reshape(-1)
        generation.parameters[...] = parameters
        generation.owners[:] = FREE
        self._n_evaluations += 1
        task = Task(self._n_evaluations, memory.path, layout, request.seeds.shape[1], self.rules(request))
        return task, generation

    def close(self) -> None:
        """End all processes and give their memory back. The evaluator can be used again."""
        workers, self.workers = self.workers, []
        if self.board is not None:
            self.board.stop[0] = 1
        _wait(workers)
        closing = [threading.Thread(target=worker.close, daemon=True) for worker in workers]
        for thread in closing:
            thread.start()
        for thread in closing:
            thread.join()
        self.files.close()
        board, generation = self.board, self.generation
        self.board, self.generation = None, None
        # An exception on its way to the user has our frames in its traceback: they shall not keep the memory.
        if not any(worker.busy for worker in workers):
            if board is not None:
                board.close()
            if generation is not None:
                generation.close()


def _wait(workers: list[_Worker]) -> list[_Worker]:
    """Wait for workers that have been asked to stop; those that do not."""
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        if worker.thread is not None:
            worker.thread.join(max(0.0, deadline - time.monotonic()))
    return [worker for worker in workers if worker.busy]


class _Run(Pending):
    """One evaluation, as the parent sees it."""

    def __init__(self, evaluator: SubprocEvaluator, request: EvaluationRequest) -> None:
        assert evaluator.board is not None
        self.evaluator, self.board, self.workers = evaluator, evaluator.board, evaluator.workers
        self.collection = Collection(request)
        self.inbox: queue.SimpleQueue[Report | Death] = queue.SimpleQueue()
        self.n_restarts = 0
        self.late: set[int] = set()
        self.task, self.generation = evaluator.publish(request)
        self.board.stop[0] = 0
        for worker in self.workers:
            worker.launch(self.task, self.inbox)

    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        try:
            return self.collection.result() if self.play(self.evaluator.replayer(on_step)) else None
        except BaseException:
            self.evaluator.close()
            raise

    def play(self, replayer: Replayer) -> bool:
        """Collect all episodes, telling the callbacks of each; False if they asked to stop."""
        while self.collection.n_missing:
            self.receive()
            self.check_clocks()
            if not self.collection.replay(replayer):
                self.stop()
                return False
        for worker in self.workers:
            if worker.thread is not None:
                worker.thread.join()
        return replayer.flush()

    def receive(self) -> None:
        """Wait a moment for what workers have to say."""
        timeout = self.evaluator.episode_timeout
        try:
            message = self.inbox.get(timeout=1.0 if timeout is None else min(1.0, timeout / 4))
        except queue.Empty:
            return
        if isinstance(message, Death):
            self.bury(message)
        else:
            self.collection.add(message.outcomes)

    def stop(self) -> None:
        """Call the workers back, as the callbacks want no more."""
        self.board.stop[0] = 1
        for worker in _wait(self.workers):
            worker.close()

    def check_clocks(self) -> None:
        """Kill workers whose episode takes too long."""
        timeout = self.evaluator.episode_timeout
        if timeout is None:
            return
        now = time.monotonic()
        for worker in self.workers:
            slot = worker.slot
            started = float(self.board.started[slot])
            if worker.busy and self.board.jobs[slot] != FREE and now - started > timeout and slot not in self.late:
                self.late.add(slot)
                worker.kill()

    def bury(self, death: Death) -> None:
        """Replace a dead worker, and let everybody who is free play what it has left."""
        worker = self.workers[death.slot]
        if worker.thread is not None:
            worker.thread.join()
        if not any(other.was_ready for other in self.workers) and self.board.pids[death.slot] == 0:
            raise EvaluationError(GUARD) from death.error
        reason = self.explain(death)
        self.late.discard(death.slot)
        worker.discard()
        self.n_restarts += 1
        if self.n_restarts > self.evaluator.max_worker_restarts:
            limit = self.evaluator.max_worker_restarts
            raise EvaluationError(f"{reason} {limit} dead workers have been replaced (`max_worker_restarts`), no more are.")
        self.generation.give_back(death.slot, self.collection.done)
        for other in self.workers:
            if not other.busy:
                other.launch(self.task, self.inbox)

    def explain(self, death: Death) -> str:
        """What the worker was doing, and why it is no more."""
        number = int(self.board.jobs[death.slot])
        where = "between two episodes"
        if number != FREE:
            member, index = divmod(number, self.task.episodes_per_member)
            where = f"in the episode {index} of member {member} (seed {self.generation.seeds[number]})"
        if death.slot in self.late:
            return f"Worker {death.slot} was killed {where}, which took longer than {self.evaluator.episode_timeout} s."
        return f"Worker {death.slot} died {where} ({type(death.error).__name__}: {death.error})."
