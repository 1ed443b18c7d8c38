"""Episodes that come back from workers: put in order, and told to callbacks step by step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sb3_esac.evaluation.evaluator import EvaluationResult, OnStep, Pending
from sb3_esac.evaluation.lane import ReplayableEpisode
from sb3_esac.evaluation.monitor_files import MonitorFiles
from sb3_esac.evaluation.numbering import Numbering
from sb3_esac.evaluation.rollout import EpisodeResult, Transitions, stack
from sb3_esac.evaluation.statistics import at_step
from sb3_esac.evaluation.vec_envs import take
from sb3_esac.evaluation.worker import EvaluationError, Failure, Outcomes


class Replayer:
    """
    Calls ``on_step`` for the steps of episodes that workers have played.

    A call stands for ``len(dones)`` single steps, and all calls together for exactly the steps that were played. Each is a row
    of ``lanes`` steps that follow one another, the last may be shorter, so that callbacks that multiply their calls by
    ``num_envs`` count right. ``rewards`` are raw. ``infos`` are empty but at the end of an episode, where there are
    ``Monitor``'s summary, ``is_success`` and ``TimeLimit.truncated``. ``new_obs`` and ``actions`` are None unless transitions
    were recorded; ``new_obs`` is raw too, and at the end of an episode it is the last observation of that episode.

    :param on_step: Called once per row; False ends the replay.
    :param lanes: Steps in a row.
    :param files: Where episodes are written down when their last step is told.
    :param quiet: Whether ``on_step`` is called once for each episode.
    """

    def __init__(self, on_step: OnStep, lanes: int = 1, files: MonitorFiles | None = None, *, quiet: bool = False) -> None:
        self.on_step, self.lanes, self.quiet = on_step, lanes, quiet
        self.files = MonitorFiles() if files is None else files
        self._row: list[tuple[ReplayableEpisode, int]] = []

    def add(self, played: ReplayableEpisode) -> bool:
        """
        Replay one more episode, up to what does not fill a row.

        :param played: The episode.
        :return: False if ``on_step`` asked to stop.
        """
        if self.quiet:
            return self.tell_of(played)
        if self.lanes == 1:
            return self._one_by_one(played)
        for step in range(len(played.rewards)):
            self._row.append((played, step))
            if len(self._row) == self.lanes and not self.flush():
                return False
        return True

    def tell_of(self, played: ReplayableEpisode) -> bool:
        """
        Tell of a whole episode in one call, whose variables are those of its last step.

        :param played: The episode.
        :return: False if ``on_step`` asked to stop.
        """
        variables = {
            "new_obs": None,
            "rewards": played.rewards[-1:],
            "dones": np.array([True]),
            "infos": [self._last_info(played)],
            "actions": None,
            "n_steps": len(played.rewards),
        }
        return self.on_step(variables)

    def _one_by_one(self, played: ReplayableEpisode) -> bool:
        """The common case without anything that is not needed."""
        on_step, transitions = self.on_step, played.episode.transitions
        last = len(played.rewards) - 1
        running, ended = np.array([False]), np.array([True])
        new_obs, actions = None, None
        for step, rewards in enumerate(played.rewards[:, None]):
            if transitions is not None:
                new_obs = at_step(transitions.observations, step + 1)
                actions = transitions.actions[step : step + 1]
            variables = {
                "new_obs": new_obs,
                "rewards": rewards,
                "dones": ended if step == last else running,
                "infos": [self._last_info(played) if step == last else {}],
                "actions": actions,
            }
            if not on_step(variables):
                return False
        return True

    def flush(self) -> bool:
        """
        Replay the row as far as it is filled.

        :return: False if ``on_step`` asked to stop.
        """
        row, self._row = self._row, []
        if not row:
            return True
        dones = [step == len(played.rewards) - 1 for played, step in row]
        transitions = [played.episode.transitions for played, _ in row]
        known = [part for part in transitions if part is not None]
        complete = len(known) == len(row)
        steps = [(part, step) for part, (_, step) in zip(known, row, strict=True)] if complete else None
        variables = {
            "new_obs": stack([take(part.observations, step + 1) for part, step in steps]) if steps else None,
            "rewards": np.array([played.rewards[step] for played, step in row]),
            "dones": np.array(dones),
            "infos": [self._last_info(played) if done else {} for (played, _), done in zip(row, dones, strict=True)],
            "actions": np.stack([part.actions[step] for part, step in steps]) if steps else None,
        }
        return self.on_step(variables)

    def _last_info(self, played: ReplayableEpisode) -> dict[str, Any]:
        info: dict[str, Any] = {"TimeLimit.truncated": not played.terminated, **played.last_info}
        if played.episode.info is not None:
            info["episode"] = played.episode.info
        self.files.write(info)
        transitions: Transitions | None = played.episode.transitions
        if transitions is not None:
            info["terminal_observation"] = take(transitions.observations, -1)
        return info


@dataclass(frozen=True)
class NothingToPlay(Pending):
    """
    The answer to a request without episodes, for which no worker is needed.

    :param shape: (n, k), one of them 0.
    """

    shape: tuple[int, int]

    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        return EvaluationResult([], self.shape)


class Collection:
    """
    What has come back of some requests so far, in whatever order.

    :param numbering: How their episodes are numbered.
    """

    def __init__(self, numbering: Numbering) -> None:
        self.numbering, self.n_missing = numbering, len(numbering)
        self.episodes: list[EpisodeResult | None] = [None] * self.n_missing
        self._waiting: dict[int, ReplayableEpisode] = {}
        self._n_replayed = 0

    @property
    def done(self) -> set[int]:
        """Numbers of the jobs that need not be played again."""
        return {number for number, episode in enumerate(self.episodes) if episode is not None}

    def add(self, outcomes: Outcomes) -> None:
        """
        Take what a worker has sent.

        :param outcomes: Number and outcome of each job.
        :raises EvaluationError: There is a failure among them.
        """
        for number, outcome in outcomes:
            if isinstance(outcome, Failure):
                raise EvaluationError(outcome.text)
            if self.episodes[number] is None:
                self.episodes[number], self._waiting[number] = outcome.episode, outcome
                self.n_missing -= 1

    def replay(self, replayers: Sequence[Replayer]) -> bool:
        """
        Tell callbacks of the episodes that are next in the order of the requests.

        :param replayers: Tell of each request's.
        :return: False if they asked to stop.
        """
        while self._n_replayed in self._waiting:
            played = self._waiting.pop(self._n_replayed)
            replayer = replayers[self.numbering.local(self._n_replayed)[0]]
            self._n_replayed += 1
            if not replayer.add(played):
                return False
            is_last = self._n_replayed == len(self.numbering) or self.numbering.local(self._n_replayed)[1] == 0
            if is_last and not replayer.flush():
                return False
        return True

    def results(self) -> list[EvaluationResult]:
        """Everything, once nothing is missing."""
        found = iter([episode for episode in self.episodes if episode is not None])
        return [EvaluationResult([next(found) for _ in range(n * k)], (n, k)) for n, k in self.numbering.shapes]
