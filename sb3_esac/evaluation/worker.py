"""What runs inside a worker process: one lane, asked for episodes, that answers with episodes or with what went wrong."""

import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.monitor import Monitor

from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.journal import Call
from sb3_esac.evaluation.lane import Job, Lane, ReplayableEpisode, make_lane
from sb3_esac.evaluation.numbering import Numbering
from sb3_esac.evaluation.players import Player
from sb3_esac.evaluation.policies import Act
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.shared import FREE, Layout, SharedJobs, SharedMemory, WorkerSlots

SLICE_SECONDS = 0.1
"""A worker reports about so often: rarely enough to cost nothing, often enough for callbacks to hear of steps in time."""


class EvaluationError(RuntimeError):
    """An episode could not be played, or the workers could not be kept alive."""


@dataclass(frozen=True)
class Failure:
    """
    An exception in a worker, as a value.

    :param text: Whose episode it was, which exception, and the traceback.
    """

    text: str


Outcomes = list[tuple[int, ReplayableEpisode | Failure]]
"""Number and outcome of each job that a worker has played."""


@dataclass(frozen=True)
class Rules:
    """
    What all episodes of a request have in common.

    :param player: How a vector plays.
    :param recording: What to write down.
    :param max_episode_steps: Where an episode is cut.
    :param obs_rms: Observation statistics of ``VecNormalize``, None if there is none.
    :param calls: All that the user has done to the training environment since the recipe was made.
    :param lanes: (n, k) numbers of the lanes that episodes are played on, None if lanes do not differ.
    """

    player: Player
    recording: Recording
    max_episode_steps: int | None
    obs_rms: Any = None
    calls: tuple[Call, ...] = ()
    lanes: np.ndarray | None = None


def prepare_process() -> None:
    """Make this process a quiet worker with one thread, which leaves Ctrl-C to its parent."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("MUJOCO_GL", "disable")
    warnings.simplefilter("ignore")
    gym.logger.min_level = gym.logger.ERROR
    th.set_num_threads(1)
    if find_spec("mujoco") is not None:
        # Where it cannot be imported, as with MUJOCO_GL=egl and no EGL, its own tasks say so; others do not need it.
        with suppress(Exception):
            import mujoco

            # Otherwise its warnings are appended to MUJOCO_LOG.TXT in the working directory.
            mujoco.set_mju_user_warning(lambda message: None)


class _Copy:
    """
    A lane as it was built here.

    :param recipe: How.
    :param number: Number of the lane, if they differ.
    """

    def __init__(self, recipe: LaneRecipe, number: int) -> None:
        self.number = number
        self.env = recipe.build(number)
        self.lane = make_lane(recipe, self.env)
        self._first, self._n_followed = recipe.calls, 0

    def follow(self, calls: tuple[Call, ...]) -> None:
        """
        Do to it what the user has done to the training environment.

        :param calls: All calls since the recipe was made; what has been followed already is left out.
        """
        calls = self._first + calls
        for call in calls[self._n_followed :]:
            if self.number in call.lanes:
                try:
                    call.apply(self.env)
                except Exception as error:
                    what = (
                        f"`{call.kind}({call.name!r}, ...)`, which the training environment has been given, does not work here"
                    )
                    raise RuntimeError(f"{what}: {type(error).__name__}: {error}") from error
            self._n_followed += 1


class LanePlayer:
    """
    Plays episodes in one lane, or in several that differ.

    :param recipe: How they are built.
    """

    def __init__(self, recipe: LaneRecipe) -> None:
        self.recipe = recipe
        self.copies = {0: _Copy(recipe, 0)}
        self.rules: tuple[Rules, ...] = ()
        self._bound: tuple[tuple[int, int], Act] | None = None

    @property
    def env(self) -> gym.Env:
        """The environment of the first lane."""
        return self.copies[0].env

    @property
    def lane(self) -> Lane:
        """The first lane."""
        return self.copies[0].lane

    def begin(self, *rules: Rules) -> None:
        """
        Begin with requests.

        :param rules: What the episodes of each have in common. Statistics and calls are those of the moment, in all of them.
        """
        self.rules, self._bound = rules, None
        for made in self.copies.values():
            self._prepare(made)

    def _prepare(self, made: _Copy) -> None:
        if self.rules[0].obs_rms is not None:
            made.lane.set_statistics(self.rules[0].obs_rms)
        _forget_episodes(made.env)

    def play(
        self, member: int, index: int, seed: int, vector: np.ndarray, stop: Sequence[int], part: int = 0
    ) -> ReplayableEpisode | Failure | None:
        """
        Play one episode.

        :param member: Whose.
        :param index: Number of the episode among that member's.
        :param seed: Seed of the environment.
        :param vector: (d,) the member's parameters.
        :param stop: The episode is given up when its first element becomes true.
        :param part: Number of the request.
        :return: The episode, or what went wrong, or None if it was given up.
        """
        rules = self.rules[part]
        try:
            made = self._copy(0 if rules.lanes is None else int(rules.lanes[member, index]))
            if self._bound is None or self._bound[0] != (part, member):
                self._bound = (part, member), rules.player.bind(vector)
            job = Job(member, index, seed, rules.recording, rules.max_episode_steps)
            return made.lane.play(self._bound[1], job, stop)
        # Also what is meant to end the process: the environment is not asked to decide that.
        except BaseException as error:
            where = f"Member {member}, episode {index} (seed {seed}): the worker's environment or policy raised "
            text = f"{where}{type(error).__name__}: {error}\n\n{traceback.format_exc()}"
            return Failure(text + self.recipe.advice)

    def _copy(self, number: int) -> _Copy:
        """The copy of a lane, in the state in which the user's is."""
        made = self.copies.get(number)
        if made is None:
            made = self.copies[number] = _Copy(self.recipe, number)
            self._prepare(made)
        made.follow(self.rules[0].calls)
        return made


def _forget_episodes(env: gym.Env) -> None:
    """Empty the lists in which ``Monitor`` remembers all episodes, so that a long run does not fill the memory."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, Monitor):
            for numbers in (env.episode_returns, env.episode_lengths, env.episode_times):
                numbers.clear()
        env = env.env


@dataclass(frozen=True)
class Task:
    """
    A generation as a worker is told of it.

    :param number: Number of the generation, to tell it from others.
    :param path: Path of the shared block.
    :param layout: What stands where in the block.
    :param numbering: How episodes are numbered.
    :param rules: Pickled :class:`Rules` of each request.
    """

    number: int
    path: str
    layout: Layout
    numbering: Numbering
    rules: bytes


class WorkerEnv(gym.Wrapper):
    """
    An environment whose method :meth:`play_slice` plays whole episodes; everything else stays as it is.

    :param recipe: How the lane is built.
    :param slots: Shared with the parent.
    :param slot: Number of the worker.
    """

    def __init__(self, recipe: LaneRecipe, slots: WorkerSlots, slot: int) -> None:
        self.player = LanePlayer(recipe)
        super().__init__(self.player.env)
        self.slots, self.slot = slots, slot
        self.task: Task | None = None
        self.jobs: SharedJobs | None = None

    def close(self) -> None:
        """End. A copy of an object of the user's may share a connection or a folder with it, which is not ours to close."""
        if not self.player.recipe.is_copy:
            for made in self.player.copies.values():
                made.env.close()
        _kept.append(self.player)

    def play_slice(self, task: Task | None = None) -> bytes:
        """
        Take and play jobs until none is left or it is time to report.

        :param task: The generation, None if it is still the same.
        :return: Pickled list of (number of the job, outcome), and whether no job is left.
        """
        if task is not None and (self.task is None or task.number != self.task.number):
            self.task, self.jobs = task, SharedJobs(SharedMemory(path=task.path), task.layout)
            self.player.begin(*pickle.loads(task.rules))
        outcomes: Outcomes = []
        deadline = time.monotonic() + SLICE_SECONDS
        finished = False
        while not finished and time.monotonic() < deadline:
            finished = not self._play_next(outcomes)
        return _dumps(outcomes, finished)

    def _play_next(self, outcomes: Outcomes) -> bool:
        """Play one more job; False if there is none."""
        assert self.task is not None and self.jobs is not None
        _end_with_parent()
        number = None if self.slots.stop[0] else self.jobs.take(self.slot)
        if number is None:
            return False
        self.slots.started[self.slot] = time.monotonic()
        self.slots.jobs[self.slot] = number
        place, seed = self.task.numbering.place(number), int(self.jobs.seeds[number])
        vector = self.jobs.parameters[place.row]
        outcome = self.player.play(place.member, place.index, seed, vector, self.slots.stop, place.part)
        self.slots.jobs[self.slot] = FREE
        if outcome is not None:
            outcomes.append((number, outcome))
        return outcome is not None and not isinstance(outcome, Failure)


_kept: list[LanePlayer] = []
"""Until the process is gone, so that no environment closes itself as it is collected."""


def _dumps(outcomes: Outcomes, finished: bool) -> bytes:
    """Pickle here, where an object that cannot be pickled is still a failure and not the end of the process."""
    try:
        return pickle.dumps((outcomes, finished), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        text = f"An episode's `info` cannot be sent to the parent process: {type(error).__name__}: {error}"
        return pickle.dumps(([(outcomes[0][0], Failure(text))], True))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():
        os._exit(1)


def unbuilt(where: str, error: Exception, advice: str) -> str:
    """
    Say that an environment could not be built; to be called where the exception is handled.

    :param where: In what.
    :param error: Why.
    :param advice: What to do about it.
    """
    what = f"The environment could not be built in {where}: {type(error).__name__}: {error}"
    return f"{what}\n\n{traceback.format_exc()}{advice}"


class Unbuilt(gym.Env):
    """
    Stands where an environment could not be built.

    :param text: Why.
    """

    observation_space = gym.spaces.Discrete(1)
    action_space = gym.spaces.Discrete(1)

    def __init__(self, text: str) -> None:
        self.text = text

    def play_slice(self, task: Task | None = None) -> bytes:
        """Say why there is no environment."""
        return _dumps([(0, Failure(self.text))], True)


@dataclass(frozen=True)
class WorkerFactory:
    """
    What a ``SubprocVecEnv`` is given to run.

    :param recipe: Pickled :class:`LaneRecipe`; unpickled only when the process is prepared.
    :param slots_path: Path of the block with the slots.
    :param n_workers: Number of slots.
    :param slot: This worker's.
    :param advice: What to tell of an environment that cannot be built.
    """

    recipe: bytes
    slots_path: str
    n_workers: int
    slot: int
    advice: str = ""

    def __call__(self) -> gym.Env:
        slots = WorkerSlots(SharedMemory(path=self.slots_path), self.n_workers)
        slots.pids[self.slot] = os.getpid()
        try:
            prepare_process()
            return WorkerEnv(cloudpickle.loads(self.recipe), slots, self.slot)
        except Exception as error:
            return Unbuilt(unbuilt("a worker process", error, self.advice))
