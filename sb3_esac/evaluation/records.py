"""What the lanes of a ``VecEnv`` play, written down together: no lane is spoken to but where an episode begins or ends."""

from typing import Any

import numpy as np

from sb3_esac.evaluation.rollout import EpisodeResult, Recording, Steps, conclude, enlarged
from sb3_esac.evaluation.statistics import Observation


class LaneRecords:
    """
    One episode per lane, step by step.

    :param n_lanes: Number of lanes.
    :param recording: What to write down.
    """

    def __init__(self, n_lanes: int, recording: Recording) -> None:
        self.recording = recording
        self.lengths = np.zeros(n_lanes, dtype=np.int64)
        """(n_lanes,) steps of the episode under way, 0 where there is none."""
        self._active = np.zeros(n_lanes, dtype=bool)
        self._finite = np.ones(n_lanes, dtype=bool)
        self._lanes = np.arange(n_lanes)
        self._n_added = 0
        self._rewards = np.empty((0, n_lanes), dtype=np.float32)
        self._observations: Observation = np.empty(0)
        self._actions = np.empty(0)

    def begin(self, lane: int, active: bool) -> None:
        """
        Begin a new record in a lane.

        :param lane: Which one.
        :param active: Whether it plays something that is to be written down.
        """
        self.lengths[lane], self._active[lane], self._finite[lane] = 0, active, True

    def add(self, observations: Any, actions: np.ndarray, rewards: np.ndarray, useless: np.ndarray) -> None:
        """
        Write a step of all lanes down.

        :param observations: Batch that was acted upon; copied.
        :param actions: (n_lanes, ...) what was played; copied.
        :param rewards: (n_lanes,) what followed.
        :param useless: (n_lanes,) where something was not finite.
        """
        # Never less than the longest episode.
        self._n_added += 1
        if self._n_added + 1 >= len(self._rewards):
            self._n_added = int(self.lengths.max()) + 1
            if self._n_added + 1 >= len(self._rewards):
                self._grow(observations, actions)
        at = self.lengths, self._lanes
        self._rewards[at] = rewards
        if self.recording.observations:
            if isinstance(self._observations, dict):
                for key, part in self._observations.items():
                    part[at] = observations[key]
            else:
                self._observations[at] = observations
        if self.recording.transitions:
            self._actions[at] = actions
        np.logical_and(self._finite, ~useless, out=self._finite)
        self.lengths += self._active

    def finish(
        self, lane: int, member: int, index: int, last_observation: Any, terminated: bool, info: dict[str, Any] | None
    ) -> EpisodeResult:
        """
        Close the episode of a lane.

        :param lane: Which one.
        :param member: Whose episode it is.
        :param index: Number of the episode among that member's.
        :param last_observation: Raw observation after the last step.
        :param terminated: Whether it is terminal.
        :param info: ``Monitor``'s summary.
        """
        length = int(self.lengths[lane])
        steps = None
        if self._finite[lane] and self.recording.observations:
            if self.recording.transitions:
                self._write_last(lane, length, last_observation)
            steps = Steps(
                self._column(lane, length + 1), self._actions[:length, lane] if self.recording.transitions else np.empty(0)
            )
        rewards = self._rewards[:length, lane].copy() if self._finite[lane] else None
        return conclude(member, index, self.recording, length, rewards, steps, terminated, info)

    def _write_last(self, lane: int, length: int, observation: Any) -> None:
        if isinstance(self._observations, dict):
            for key, part in self._observations.items():
                part[length, lane] = observation[key]
        else:
            self._observations[length, lane] = observation

    def _column(self, lane: int, length: int) -> Observation:
        # In one piece, so that sums over it do not depend on the number of lanes.
        if isinstance(self._observations, dict):
            return {key: np.ascontiguousarray(part[:length, lane]) for key, part in self._observations.items()}
        return np.ascontiguousarray(self._observations[:length, lane])

    def _grow(self, observations: Any, actions: np.ndarray) -> None:
        capacity = max(256, 2 * len(self._rewards))
        self._rewards = enlarged(self._rewards, capacity, np.empty(self._rewards.shape[1:], np.float32))
        if self.recording.observations:
            if isinstance(observations, dict):
                old = self._observations if isinstance(self._observations, dict) else dict.fromkeys(observations, np.empty(0))
                self._observations = {key: enlarged(old[key], capacity, part) for key, part in observations.items()}
            else:
                assert isinstance(self._observations, np.ndarray)
                self._observations = enlarged(self._observations, capacity, observations)
        if self.recording.transitions:
            self._actions = enlarged(self._actions, capacity, actions)
