"""What evaluators have in common whose episodes are played elsewhere, by workers that can die."""

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import cloudpickle
import gymnasium as gym
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, OnStep, Pending
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.journal import Journal
from sb3_esac.evaluation.monitor_files import MonitorFiles
from sb3_esac.evaluation.numbering import Numbering
from sb3_esac.evaluation.replay import Collection, NothingToPlay, Replayer
from sb3_esac.evaluation.worker import EvaluationError, Rules

GRACE_SECONDS = 3.0
"""How long a worker may take to do what it is asked before it is killed."""


def check_arguments(n_workers: int, lanes: int, episode_timeout: float | None, max_worker_restarts: int) -> None:
    """
    Check what all evaluators with workers are given.

    :param n_workers: Number of workers.
    :param lanes: Single steps that one call of ``on_step`` stands for.
    :param episode_timeout: Seconds that an episode may take.
    :param max_worker_restarts: How many dead workers are replaced.
    :raises ValueError: One of them makes no sense.
    """
    bounds = {"n_workers": (n_workers, 1), "lanes": (lanes, 1), "max_worker_restarts": (max_worker_restarts, 0)}
    for name, (number, least) in bounds.items():
        if number < least:
            raise ValueError(f"`{name}` must be an integer >= {least}, not {number}")
    if episode_timeout is not None and not episode_timeout > 0:
        raise ValueError(f"`episode_timeout` must be a number of seconds > 0 or None, not {episode_timeout}")


class PoolEvaluator(Evaluator):
    """
    Plays whole episodes in workers that are opened by the first :meth:`evaluate` and stay until ``close``.

    A worker that dies or hangs is replaced and its episodes are played again. Any exception that leaves :meth:`evaluate`
    leaves no worker behind.

    :param recipe: How a lane is built (see :func:`sb3_esac.evaluation.factories.lane_recipe`), or what gives its environment.
    :param n_workers: Number of workers.
    :param vec_normalize: The user's ``VecNormalize``; its observation statistics of the moment go into each :meth:`evaluate`.
    :param lanes: Single steps that one call of ``on_step`` stands for: the number of environments that callbacks know of.
    :param episode_timeout: Seconds after which an episode is taken for one that hangs, None to wait for ever.
    :param max_worker_restarts: How many dead workers are replaced in one :meth:`evaluate`.
    :param journal: What the user does to the training environment: workers do the same before the next :meth:`evaluate`. What
        it holds already is known to the recipe.
    :param files: Where episodes are written down as they are told.
    """

    def __init__(
        self,
        recipe: LaneRecipe | Callable[[], gym.Env],
        n_workers: int,
        *,
        vec_normalize: VecNormalize | None = None,
        lanes: int = 1,
        episode_timeout: float | None = None,
        max_worker_restarts: int = 3,
        journal: Journal | None = None,
        files: MonitorFiles | None = None,
    ) -> None:
        check_arguments(n_workers, lanes, episode_timeout, max_worker_restarts)
        self.recipe = recipe if isinstance(recipe, LaneRecipe) else LaneRecipe(recipe)
        self.n_workers, self.lanes = n_workers, lanes
        self.vec_normalize = vec_normalize
        self.episode_timeout, self.max_worker_restarts = episode_timeout, max_worker_restarts
        self.journal = Journal() if journal is None else journal
        self.files = MonitorFiles() if files is None else files
        self._first_call = len(self.journal.calls)

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        """
        Play every episode of a request. See :class:`~sb3_esac.evaluation.evaluator.Evaluator`; what ``on_step`` is told says
        :class:`sb3_esac.evaluation.replay.Replayer`.

        :param request: What to play.
        :param on_step: Told of every step, when all episodes before it have come in.
        :return: The result, or None if ``on_step`` asked to stop.
        :raises EvaluationError: An episode raised an exception, or too many workers died.
        """
        return self.begin(request).finish(on_step)

    def evaluate_all(self, plays: Sequence[tuple[EvaluationRequest, OnStep]]) -> list[EvaluationResult] | None:
        """
        Play several requests at once: a free worker takes the next episode of any request.

        :param plays: What to play, and who is told of every step.
        :return: The results, or None if one of them asked to stop.
        :raises EvaluationError: An episode raised an exception, or too many workers died.
        """
        return self._begin([request for request, _ in plays]).finish_all([on_step for _, on_step in plays])

    def begin(self, request: EvaluationRequest) -> Pending:
        """
        Let the workers play in the background.

        :param request: What to play.
        :return: To be finished before the next evaluation.
        """
        if request.seeds.size == 0:
            return NothingToPlay(request.seeds.shape)
        return self._begin([request])

    def _begin(self, requests: Sequence[EvaluationRequest]) -> "PoolRun":
        try:
            return self._launch(requests)
        except BaseException:
            self.close()
            raise

    @abstractmethod
    def _launch(self, requests: Sequence[EvaluationRequest]) -> "PoolRun":
        """Open the workers if there are none, and let them play."""

    def rules(self, requests: Sequence[EvaluationRequest]) -> bytes:
        """
        What the episodes of each request have in common.

        :param requests: What to play.
        :return: Pickled :class:`sb3_esac.evaluation.worker.Rules`, as many as there are requests.
        """
        statistics = None if self.vec_normalize is None or not self.vec_normalize.norm_obs else self.vec_normalize.obs_rms
        calls = self.journal.since(self._first_call, self.lanes, lanes_differ=self.recipe.lanes_differ)
        rules = []
        for request in requests:
            lanes = request.lanes if self.recipe.lanes_differ else None
            recording = replace(request.recording, info_keys=self.files.keywords)
            rules.append(Rules(request.player, recording, request.max_episode_steps, statistics, tuple(calls), lanes))
        return bytes(cloudpickle.dumps(rules))

    def replayer(self, on_step: OnStep, *, quiet: bool) -> Replayer:
        """
        Make what tells callbacks of the episodes.

        :param on_step: Called for each row of steps.
        :param quiet: Or for each episode.
        """
        return Replayer(on_step, self.lanes, self.files, quiet=quiet)


class PoolRun(Pending):
    """
    One evaluation by the workers of a pool: what has come in, and who has died.

    :param evaluator: Whose workers play.
    :param requests: What they play.
    """

    worker = "Worker"
    """What errors call a worker."""

    def __init__(self, evaluator: PoolEvaluator, requests: Sequence[EvaluationRequest]) -> None:
        self.pool, self.quiet = evaluator, [request.quiet for request in requests]
        self.collection = Collection(Numbering.of(requests))
        self.n_restarts = 0
        self.late: set[int] = set()

    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        results = self.finish_all([on_step])
        return None if results is None else results[0]

    def finish_all(self, on_steps: Sequence[OnStep]) -> list[EvaluationResult] | None:
        """
        Wait for the results.

        :param on_steps: Who is told of every step of each request.
        :return: The results, or None if one of them asked to stop.
        """
        try:
            replayers = [self.pool.replayer(tell, quiet=quiet) for tell, quiet in zip(on_steps, self.quiet, strict=True)]
            return self.collection.results() if self._collect(replayers) else None
        except BaseException:
            self.pool.close()
            raise

    def _collect(self, replayers: Sequence[Replayer]) -> bool:
        """Wait for all episodes, telling the callbacks of each; False if they asked to stop."""
        while self.collection.n_missing:
            self.receive()
            if not self.collection.replay(replayers):
                self.call_back()
                return False
        self.join()
        return True

    @abstractmethod
    def receive(self) -> None:
        """Wait a moment for what workers have to say."""

    @abstractmethod
    def call_back(self) -> None:
        """Let the workers give up what they play, as the callbacks want no more."""

    @abstractmethod
    def join(self) -> None:
        """Wait until all workers are free."""

    @abstractmethod
    def playing_since(self) -> Iterable[tuple[int, float]]:
        """Workers that play an episode, and ``time.monotonic()`` when they began with it."""

    @abstractmethod
    def kill(self, slot: int) -> None:
        """
        End a worker at once.

        :param slot: Which one.
        """

    @property
    def moment(self) -> float:
        """Seconds after which it is time to look at the clocks."""
        timeout = self.pool.episode_timeout
        return 1.0 if timeout is None else min(1.0, timeout / 4)

    def check_clocks(self) -> None:
        """Kill workers whose episode takes too long."""
        timeout = self.pool.episode_timeout
        for slot, since in self.playing_since() if timeout is not None else ():
            if slot not in self.late and time.monotonic() - since > (timeout or 0.0):
                self.late.add(slot)
                self.kill(slot)

    def count_death(self, slot: int, where: str, error: BaseException) -> None:
        """
        Allow for one more worker to be replaced.

        :param slot: The one that is dead.
        :param where: When it died.
        :param error: What was raised when it was spoken to.
        :raises EvaluationError: Too many have died.
        """
        reason = f"{self.worker} {slot} died {where} ({type(error).__name__}: {error})."
        if slot in self.late:
            reason = f"{self.worker} {slot} was killed {where}, which took longer than {self.pool.episode_timeout} s."
        self.late.discard(slot)
        self.n_restarts += 1
        limit = self.pool.max_worker_restarts
        if self.n_restarts > limit:
            dead = f"dead {self.worker.lower()}s"
            raise EvaluationError(f"{reason} {limit} {dead} have been replaced (`max_worker_restarts`), no more are.")
