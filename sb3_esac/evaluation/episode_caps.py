"""How long offspring may play: what ``episode_length_schedule`` says, generation by generation."""

import math
import time
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.random_play import time_limit
from sb3_esac.evolution.arguments import is_number, require
from sb3_esac.evolution.episode_lengths import LengthPhases, ProgressiveEpisodeLength

EpisodeLengthSchedule = Callable[[float], float | None] | ProgressiveEpisodeLength


def lengths_of(arguments: dict[str, Any]) -> ProgressiveEpisodeLength:
    """
    Make lengths of what a file of hyperparameters can name.

    :param arguments: Those of :class:`~sb3_esac.evolution.episode_lengths.ProgressiveEpisodeLength`.
    :raises ValueError: If it has no such argument, or one is not what it may be.
    """
    known = [field.name for field in fields(ProgressiveEpisodeLength)]
    expected = f"a dict of arguments of ProgressiveEpisodeLength ({', '.join(known)})"
    require(arguments.keys() <= set(known), "episode_length_schedule", arguments, expected)
    return ProgressiveEpisodeLength(**arguments)


def horizon_of(schedule: ProgressiveEpisodeLength, env: VecEnv) -> int:
    """
    Find the horizon, T.

    :param schedule: Its own horizon comes first.
    :param env: Its time limit is the other source.
    :return: T in steps of the policy.
    """
    horizon = schedule.horizon if schedule.horizon is not None else time_limit(env)
    if horizon is None:
        raise ValueError(
            "`horizon` of `episode_length_schedule` must be the steps after which the environment ends an episode, not None: "
            f"{env} shows no `TimeLimit` to take it from"
        )
    schedule.check_horizon(horizon)
    return horizon


def check_budget(total_timesteps: float, schedule: object) -> Any:
    """
    Check that a run of so many steps can be scheduled.

    :param total_timesteps: Steps of the whole run; infinity for one that a callback ends.
    :param schedule: The model's ``episode_length_schedule``.
    :return: The steps, an integer if they are finite.
    """
    if math.isfinite(total_timesteps):
        return int(total_timesteps)
    if math.isnan(total_timesteps):
        raise ValueError(f"`total_timesteps` must be a number of steps or infinity, not {total_timesteps!r}")
    if isinstance(schedule, ProgressiveEpisodeLength) and schedule.needs_budget:
        raise ValueError(
            f"`total_timesteps` must be finite, not {total_timesteps!r}, for a ProgressiveEpisodeLength: its phases share the "
            "budget, unless an integer `phase_steps`, or `phase_seconds`, gives them a length of their own"
        )
    return total_timesteps


def cap_of(schedule: Callable[[float], Any], progress_remaining: float) -> int | None:
    """
    Ask a user's schedule for the longest episode.

    :param schedule: A function of the remaining progress.
    :param progress_remaining: 1 at the start, 0 at the end.
    :return: Steps; None for no limit.
    :raises ValueError: If it gives anything but a number >= 1, infinity or None.
    """
    value = schedule(progress_remaining)
    if value is None or (isinstance(value, float | np.floating) and value == np.inf):
        return None
    expected = (
        f"a function that gives a number of steps >= 1, or None for no limit (at {progress_remaining:.3g} it gives {value!r})"
    )
    require(is_number(value) and value >= 1, "episode_length_schedule", schedule, expected)
    return int(value)


class EpisodeCaps:
    """
    The cap of offspring's episodes and where it stands in its schedule: a part of the model's saved state.

    Agent, probes and evaluation play whole episodes. So returns of offspring that were cut compare neither with those of
    probes nor with those under another cap.
    """

    begun: tuple[tuple[int, int], ...] = ()
    """Phases of a :class:`ProgressiveEpisodeLength` that have begun: the cap of each, and the true steps before it."""

    def __init__(self) -> None:
        self.cap: int | None = None
        self.phases: LengthPhases | None = None
        self.cut = False
        """Whether offspring of the last generation could have played on."""
        self.whole_length = 0.0
        """Mean length of the last whole episodes (random play, then probes), 0 if there were none."""
        self._tick: float | None = None

    def start_count(self) -> None:
        """Begin a schedule anew, as steps are counted from zero."""
        self.phases, self.begun, self.whole_length = None, (), 0.0

    def steps_by_cap(self, timesteps: int) -> dict[int, int]:
        """
        Tell how many true steps each phase has taken until now, those of probes among them.

        :param timesteps: True steps so far.
        :return: Steps by cap; what is missing from the whole is random play.
        """
        steps: dict[int, int] = {}
        ends = [begin for _, begin in self.begun[1:]] + [timesteps]
        for (cap, begin), end in zip(self.begun, ends, strict=False):
            steps[cap] = steps.get(cap, 0) + end - begin
        return steps

    def start_clock(self) -> None:
        """Do not count the time since the last generation, without training."""
        self._tick = None

    def forget_other_horizon(self, horizon: int) -> None:
        """
        Lay phases out anew if they end with another horizon.

        :param horizon: Steps of an episode of the environment as it is now.
        """
        if self.phases is not None and self.phases.lengths[-1] != horizon:
            self.phases = None

    def must_start(self, schedule: EpisodeLengthSchedule | None) -> bool:
        """
        Whether phases have to be laid out.

        :param schedule: The model's ``episode_length_schedule``.
        """
        if not isinstance(schedule, ProgressiveEpisodeLength):
            return False
        return self.phases is None or self.phases.schedule != schedule

    def advance(self, schedule: EpisodeLengthSchedule | None, progress_remaining: float, timesteps: int, budget: int) -> bool:
        """
        Decide how long the coming generation may play.

        :param schedule: The model's ``episode_length_schedule``.
        :param progress_remaining: 1 at the start, 0 at the end.
        :param timesteps: True steps so far.
        :param budget: Steps of the whole run.
        :return: Whether the cap is another one than before.
        """
        before = self.cap
        if isinstance(schedule, ProgressiveEpisodeLength):
            assert self.phases is not None
            self.phases = self.phases.advance(timesteps, budget, self._seconds(schedule))
            self.cap = self.phases.cap
            if not self.begun or self.begun[-1][0] != self.cap:
                self.begun = (*self.begun, (self.cap, timesteps))
        else:
            self.phases = None
            self.cap = None if schedule is None else cap_of(schedule, progress_remaining)
        return self.cap != before

    def note(self, lengths: np.ndarray) -> None:
        """
        Look at what a generation played.

        :param lengths: Lengths of its episodes.
        """
        is_whole = self.cap is None or (self.phases is not None and self.phases.is_last)
        self.cut = not is_whole and bool(lengths.max() >= self.cap)

    def probe_length(self, mean_length: float) -> float:
        """
        Estimate the length of a probe's episode.

        :param mean_length: Mean length of the last generation's episodes.
        """
        # Until a whole one has been played, it may last to the horizon.
        if self.cut and self.phases is not None and self.whole_length == 0:
            return float(self.phases.lengths[-1])
        # Without noise episodes are longer, or shorter, than the population's.
        return max(mean_length, self.whole_length)

    def _seconds(self, schedule: ProgressiveEpisodeLength) -> float:
        """Seconds since the last generation; 0 where nothing depends on them, so that they are not in what is saved."""
        if schedule.phase_seconds is None:
            return 0.0
        before, self._tick = self._tick, time.monotonic()
        return 0.0 if before is None else self._tick - before

    def __getstate__(self) -> dict[str, Any]:
        # Another process has another clock.
        return {**self.__dict__, "_tick": None}
