"""Whole episodes in the actors of a Ray cluster, for more cores than one machine has. Import it only when asked to."""

import logging
import os
import queue
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import ray
from ray.exceptions import RayError

from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.numbering import Place, all_parameters, all_seeds
from sb3_esac.evaluation.pool import GRACE_SECONDS, PoolEvaluator, PoolRun
from sb3_esac.evaluation.worker import Failure, LanePlayer, Outcomes, prepare_process, unbuilt

CHUNKS_PER_WORKER = 4
"""Jobs are handed out in chunks: large ones at first, one by one in the end, so that no worker waits for long."""

LARGEST_CHUNK = 16


@dataclass(frozen=True)
class RemoteJob:
    """
    One episode to play.

    :param number: Number among the jobs of the generation.
    :param place: Whose episode it is.
    :param seed: Seed of the environment.
    """

    number: int
    place: Place
    seed: int


class LaneActor:
    """
    One lane in an actor.

    :param recipe: Pickled :class:`LaneRecipe`.
    :param search_path: Where the driver finds its modules; an actor looks there too, after its own places.
    :param advice: What to tell of an environment that cannot be built.
    """

    def __init__(self, recipe: bytes, search_path: list[str], advice: str = "") -> None:
        self.stopped = bytearray(1)
        self.problem = ""
        self.number, self.lock = 0, threading.Lock()
        sys.path.extend(path for path in search_path if path not in sys.path)
        try:
            prepare_process()
            self.player = LanePlayer(cloudpickle.loads(recipe))
        except Exception as error:
            self.problem = unbuilt("an actor", error, advice)

    def begin(self, rules: bytes, parameters: np.ndarray, number: int) -> None:
        """
        Begin with requests, unless later ones are known: an actor may only find a CPU when others have played everything.

        :param rules: Pickled :class:`sb3_esac.evaluation.worker.Rules` of each.
        :param parameters: (n, d) from the object store, which all actors of a machine share.
        :param number: Number of the evaluation.
        """
        with self.lock:
            if number < self.number:
                return
            self.number, self.stopped[0] = number, 0
            self.parameters = parameters
            if not self.problem:
                self.player.begin(*cloudpickle.loads(rules))

    def play(self, jobs: list[RemoteJob]) -> Outcomes:
        """
        Play some episodes.

        :param jobs: Which.
        """
        outcomes: Outcomes = []
        for job in jobs:
            if self.problem:
                return [(job.number, Failure(self.problem))]
            place = job.place
            vector = self.parameters[place.row]
            outcome = self.player.play(place.member, place.index, job.seed, vector, self.stopped, place.part)
            if outcome is None:
                break
            outcomes.append((job.number, outcome))
        return outcomes

    def stop(self) -> None:
        """Give up what is being played."""
        self.stopped[0] = 1

    def pid(self) -> int:
        """Process in which the actor lives."""
        return os.getpid()


class RayEvaluator(PoolEvaluator):
    """
    Plays whole episodes in actors. The result is that of
    :class:`~sb3_esac.evaluation.lockstep.LockstepEvaluator`, bit for bit on machines of one kind.

    A cluster is joined, or started on this machine, by the first :meth:`~sb3_esac.evaluation.pool.PoolEvaluator.evaluate`.

    :param recipe: See :class:`~sb3_esac.evaluation.pool.PoolEvaluator`.
    :param n_workers: Number of actors, of one CPU each.
    :param address: Address of a cluster, "auto" for the one of this machine; None starts one that ends with :meth:`close`.
    :param rules: Other arguments of :class:`~sb3_esac.evaluation.pool.PoolEvaluator`.
    """

    def __init__(
        self, recipe: LaneRecipe | Callable[[], gym.Env], n_workers: int, *, address: str | None = None, **rules: Any
    ) -> None:
        super().__init__(recipe, n_workers, **rules)
        self.address = address
        self.actors: list[Any] = []
        self._owns_cluster = False
        self._recipe: Any = None
        self._run: _Run | None = None
        self.numbers = count(1)

    def _launch(self, requests: Sequence[EvaluationRequest]) -> PoolRun:
        self._open()
        self._run = _Run(self, requests)
        return self._run

    def _open(self) -> None:
        if not ray.is_initialized():
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            if self.address is None:
                ray.init(num_cpus=self.n_workers, include_dashboard=False, **quiet)
            else:
                ray.init(address=self.address, **quiet)
            self._owns_cluster = True
        n_cpus = ray.cluster_resources().get("CPU", 0)
        if n_cpus < self.n_workers and not self.actors:
            warnings.warn(
                f"{self.n_workers} workers take a CPU each, and the Ray cluster has {n_cpus:g}: those that find none wait. "
                "Lower `n_workers`, or add machines.",
                stacklevel=2,
            )
        if not self.actors:
            self._recipe = cloudpickle.dumps(self.recipe)
            self.actors = [self.new_actor() for _ in range(self.n_workers)]

    def new_actor(self) -> Any:
        """Start an actor. Its second thread is for ``LaneActor.stop``."""
        actor: Any = ray.remote(LaneActor)
        return actor.options(num_cpus=1, max_concurrency=2).remote(self._recipe, sys.path, self.recipe.advice)

    def close(self) -> None:
        """End all actors, and the cluster if it was started here. The evaluator can be used again."""
        self.files.close()
        actors, self.actors = self.actors, []
        run, self._run = self._run, None
        if run is not None:
            run.stopped = True
        if ray.is_initialized():
            for actor in actors:
                ray.kill(actor)
            if run is not None:
                run.thread.join()
            if self._owns_cluster:
                ray.shutdown()
        self._owns_cluster = False


@dataclass(frozen=True)
class _Call:
    """
    What an actor is busy with.

    :param slot: Which actor.
    :param jobs: What it plays, nothing while it begins.
    :param since: ``time.monotonic()`` of the call.
    """

    slot: int
    jobs: list[RemoteJob]
    since: float


class _Run(PoolRun):
    """One evaluation: a thread hands out jobs and replaces the dead, :meth:`finish` takes what comes back."""

    worker = "Actor"

    def __init__(self, evaluator: RayEvaluator, requests: Sequence[EvaluationRequest]) -> None:
        super().__init__(evaluator, requests)
        self.evaluator, self.actors = evaluator, evaluator.actors
        self.number = next(evaluator.numbers)
        place = self.collection.numbering.place
        seeds = all_seeds(requests).tolist()
        self.waiting = [RemoteJob(number, place(number), seed) for number, seed in enumerate(seeds)][::-1]
        self.n_unplayed = len(self.waiting)
        self.calls: dict[Any, _Call] = {}
        self.stopped = False
        self.inbox: queue.SimpleQueue[Outcomes | BaseException] = queue.SimpleQueue()
        self.rules = ray.put(evaluator.rules(requests))
        self.parameters = ray.put(all_parameters(requests))
        self.thread = threading.Thread(target=self._dispatch, daemon=True, name="esac-ray")
        self.thread.start()

    # -- in the thread of the caller ---------------------------------------------------------------------------------------

    def receive(self) -> None:
        message = self.inbox.get()
        if isinstance(message, BaseException):
            raise message
        self.collection.add(message)

    def join(self) -> None:
        self.thread.join()

    def call_back(self) -> None:
        self.stopped = True
        answers = {actor.stop.remote(): slot for slot, actor in enumerate(self.actors)}
        self.thread.join(GRACE_SECONDS)
        _, late = ray.wait(list(answers), num_returns=len(answers), timeout=GRACE_SECONDS)
        slots = {answers[answer] for answer in late} | {call.slot for call in self.calls.values()}
        for slot in slots if self.thread.is_alive() or late else ():
            ray.kill(self.actors[slot])
            self.actors[slot] = self.evaluator.new_actor()
        self.thread.join()

    # -- in a thread of its own --------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        try:
            for slot in range(len(self.actors)):
                self._begin(slot)
            # An actor for which the cluster has no room may never begin.
            while self.calls and self.n_unplayed:
                self._take_in()
                self.check_clocks()
        except BaseException as error:
            self.inbox.put(error)

    def _begin(self, slot: int) -> None:
        """Tell an actor of the generation."""
        call = self.actors[slot].begin.remote(self.rules, self.parameters, self.number)
        self.calls[call] = _Call(slot, [], time.monotonic())

    def _hand_out(self, slot: int) -> None:
        """Give an actor its next jobs, if there are any."""
        if self.stopped:
            return
        share = len(self.waiting) // (CHUNKS_PER_WORKER * len(self.actors))
        # A clock can only be put on one episode.
        size = 1 if self.evaluator.episode_timeout is not None else max(1, min(share, LARGEST_CHUNK))
        jobs = [self.waiting.pop() for _ in range(min(size, len(self.waiting)))]
        if jobs:
            self.calls[self.actors[slot].play.remote(jobs)] = _Call(slot, jobs, time.monotonic())

    def _take_in(self) -> None:
        """Wait a moment for what actors have done, and hand out more."""
        ready, _ = ray.wait(list(self.calls), timeout=self.moment)
        for reference in ready:
            call = self.calls.pop(reference)
            try:
                outcomes: Outcomes = ray.get(reference) or []
            except RayError as error:
                if not self.stopped:
                    self._bury(call, error)
                continue
            self.inbox.put(outcomes)
            played = {number for number, _ in outcomes}
            self.n_unplayed -= len(played)
            self.waiting.extend(job for job in reversed(call.jobs) if job.number not in played)
            self._hand_out(call.slot)

    def playing_since(self) -> Iterable[tuple[int, float]]:
        return [(call.slot, call.since) for call in self.calls.values() if call.jobs]

    def kill(self, slot: int) -> None:
        ray.kill(self.actors[slot])

    def _bury(self, call: _Call, error: RayError) -> None:
        """Replace a dead actor, and let its jobs be played again."""
        where = "before its first episode"
        if call.jobs:
            job = call.jobs[0]
            where = f"in or after the episode {job.place.index} of member {job.place.member} (seed {job.seed})"
        self.kill(call.slot)
        self.count_death(call.slot, where, error)
        self.waiting.extend(reversed(call.jobs))
        self.actors[call.slot] = self.evaluator.new_actor()
        self._begin(call.slot)
        busy = {other.slot for other in self.calls.values()}
        for slot in range(len(self.actors)):
            if slot not in busy:
                self._hand_out(slot)
