"""Progressive episode lengths (PEL): offspring play short episodes first, and longer ones as the budget is spent."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Integral
from typing import Any

from sb3_esac.evolution.arguments import is_count, is_number, require, require_count, require_positive

TIME_SCHEDULES = ("constant", "doubling")
FIRST_LENGTH = "an integer >= 1 (steps), a float in (0, 1] (of the horizon) or None"
PHASE_STEPS = "an integer >= 1 (steps), a float in (0, 1) (of the budget) or None"


@dataclass(frozen=True)
class ProgressiveEpisodeLength:
    """
    Episode lengths that double from phase to phase, for ``episode_length_schedule`` of ``ES`` and ``ESAC``.

    Paper: "A framework of ES-based limited episode's length". The cap of phase k is ``E_k = min(T, E(0) 2^k)``, where T is the
    horizon; there are ``K = ceil(log2(T / E(0))) + 1`` phases, so the last one plays whole episodes. E(0) is what random play
    lasts on average, divided by 2, unless ``first_length`` gives it. A phase ends between generations; a cut is a truncation.

    Deviations from the paper: the budget that the phases share is ``total_timesteps`` of ``learn``, not wall-clock time, so
    that a seeded run can be repeated; ``phase_seconds`` is the paper's clock. E(0) is rounded to whole steps. All
    phases from E(0) to T have a share; in the paper the first one has a length, from which the others follow. Where T is far
    beyond E(0) that differs a lot: ``phase_steps`` is the paper's way, in steps.

    The object is a constant: what a run has come to is saved with the model. Phases never go back: a second ``learn`` with
    ``reset_num_timesteps=False`` goes on at the length that was reached, one that counts from zero begins with E(0) again.

    :param time_schedule: How the budget B is shared: "constant" (T_c) gives each phase B / K, "doubling" (T_d) gives phase k
        B 2^k / (2^K - 1), so that the last one has at least half of it.
    :param first_length: E(0) in steps (an integer), or as a fraction of the horizon (a float in (0, 1]). None measures it by
        random play, whose steps count. A task that never ends early needs it: random play lasts the whole horizon there, and
        E(0) would be half of it.
    :param horizon: T, the steps after which the environment ends every episode; a smaller number goes on cutting in the last
        phase. None takes it from the environment's ``TimeLimit``. Needed where that cannot be seen (dm_control) or counts
        other steps than the policy's (a wrapper outside of it that skips frames).
    :param divisor: What the mean length of random play is divided by.
    :param n_random_episodes: Episodes of random play.
    :param phase_seconds: Length of the first phase in seconds of wall-clock time, as in the paper (3600 with "constant", 1200
        with "doubling"); the last phase then lasts as long as training does. Such a run cannot be repeated exactly. None for
        the shares above.
    :param phase_steps: Length of the first phase in true steps (an integer), or as a fraction of the budget (a float in
        (0, 1)); the paper's, of ten hours, are 1/10 with "constant" and 1/30 with "doubling". Later phases are as long, or
        twice as long each time, and the last one that is reached lasts as long as training does, even if it does not play
        whole episodes. They begin when random play is over, and the fraction is of what that has left. None for the shares
        above.
    :raises ValueError: If an argument is not what it may be, ``first_length`` is beyond ``horizon``, or both ``phase_seconds``
        and ``phase_steps`` are given.
    """

    time_schedule: str = "doubling"
    first_length: int | float | None = None
    horizon: int | None = None
    divisor: float = 2.0
    n_random_episodes: int = 10
    phase_seconds: float | None = None
    phase_steps: int | float | None = None

    def __post_init__(self) -> None:
        names = " or ".join(map(repr, TIME_SCHEDULES))
        require(self.time_schedule in TIME_SCHEDULES, "time_schedule", self.time_schedule, names)
        first, horizon = self.first_length, self.horizon
        require(_is_count_or_fraction(first) or (is_number(first) and first == 1), "first_length", first, FIRST_LENGTH)
        require(horizon is None or is_count(horizon, 1), "horizon", horizon, "an integer >= 1 or None")
        require_positive("divisor", self.divisor)
        require_count("n_random_episodes", self.n_random_episodes, 1)
        seconds = self.phase_seconds
        is_time = seconds is None or (is_number(seconds) and seconds > 0)
        require(is_time, "phase_seconds", seconds, "a positive finite number or None")
        require(_is_count_or_fraction(self.phase_steps), "phase_steps", self.phase_steps, PHASE_STEPS)
        both = seconds is not None and self.phase_steps is not None
        require(not both, "phase_steps", self.phase_steps, f"None beside `phase_seconds={seconds!r}`")
        if horizon is not None:
            self.check_horizon(horizon)

    def check_horizon(self, horizon: int) -> None:
        """
        Check that the first length is not beyond the horizon.

        :param horizon: T in steps.
        :raises ValueError: If it is.
        """
        within = not isinstance(self.first_length, Integral) or self.first_length <= horizon
        require(within, "first_length", self.first_length, f"at most the horizon, {horizon}")

    @property
    def is_measured(self) -> bool:
        """Whether E(0) is to be found out by random play."""
        return self.first_length is None

    @property
    def needs_budget(self) -> bool:
        """Whether phases depend on the steps of the whole run."""
        return self.phase_seconds is None and not isinstance(self.phase_steps, Integral)

    def phases(self, horizon: int, random_length: float | None = None) -> "LengthPhases":
        """
        Lay out the phases.

        :param horizon: T in steps.
        :param random_length: Mean length of random play in steps, if ``is_measured``.
        :return: The beginning of a run.
        """
        if self.first_length is None:
            assert random_length is not None
            first = random_length / self.divisor
        else:
            first = self.first_length if isinstance(self.first_length, Integral) else self.first_length * horizon
        return LengthPhases(self, doubled_lengths(int(first + 0.5), horizon))


@dataclass(frozen=True)
class LengthPhases:
    """
    How far a run has come in its schedule.

    :param schedule: The schedule.
    :param lengths: (K,) caps of the phases, E_k, in steps.
    :param phase: k, the current one.
    :param seconds: Seconds of training so far, counted only if ``phase_seconds`` is set.
    :param begin: True steps before the first phase, noted only if ``phase_steps`` is set.
    """

    schedule: ProgressiveEpisodeLength
    lengths: tuple[int, ...]
    phase: int = 0
    seconds: float = 0.0
    begin: int | None = None

    @property
    def cap(self) -> int:
        """Longest episode of an offspring in this phase."""
        return self.lengths[self.phase]

    @property
    def is_last(self) -> bool:
        """Whether episodes are whole now."""
        return self.phase == len(self.lengths) - 1

    def advance(self, timesteps: int, budget: int, seconds: float = 0.0) -> "LengthPhases":
        """
        Go on to the phase that the budget is in.

        :param timesteps: True steps so far.
        :param budget: B, steps of the whole run.
        :param seconds: Seconds since the last call.
        :return: The same phase or a later one.
        """
        schedule, passed, spent, begin = self.schedule, self.seconds + seconds, float(timesteps), self.begin
        weights = phase_weights(schedule.time_schedule, len(self.lengths))
        if schedule.phase_seconds is not None:
            ends: Sequence[float] = [schedule.phase_seconds * weight for weight in accumulate(weights)]
            spent = passed
        elif schedule.phase_steps is not None:
            begin = timesteps if begin is None else begin
            first = first_phase(schedule.phase_steps, budget - begin)
            ends, spent = [first * weight for weight in accumulate(weights)], timesteps - begin
        else:
            ends = phase_ends(weights, budget)
        return replace(self, phase=max(self.phase, bisect_right(ends[:-1], spent)), seconds=passed, begin=begin)


def _is_count_or_fraction(value: Any) -> bool:
    """Whether something is an integer >= 1, a float between 0 and 1, or None."""
    if value is None or isinstance(value, Integral):
        return value is None or is_count(value, 1)
    return is_number(value) and 0 < value < 1


def first_phase(phase_steps: int | float, budget: float) -> int:
    """
    Find out how long the first phase is.

    :param phase_steps: Its steps (an integer), or its share of the budget.
    :param budget: Steps that are left for all phases.
    :return: True steps, at least one.
    """
    return int(phase_steps) if isinstance(phase_steps, Integral) else max(1, int(phase_steps * budget + 0.5))


def doubled_lengths(first_length: int, horizon: int) -> tuple[int, ...]:
    """
    Double a length until the horizon is reached, ``E_k = min(T, E(0) 2^k)``.

    :param first_length: E(0) in steps; less than 1 is taken for 1, more than the horizon for the horizon.
    :param horizon: T in steps.
    :return: (K,) lengths in steps, the last one is T.
    """
    lengths = [min(max(first_length, 1), horizon)]
    while lengths[-1] < horizon:
        lengths.append(min(2 * lengths[-1], horizon))
    return tuple(lengths)


def phase_weights(time_schedule: str, n_phases: int) -> list[int]:
    """
    Give each phase its share of the budget.

    :param time_schedule: "constant" or "doubling".
    :param n_phases: K.
    :return: (K,) shares, the first one is 1.
    """
    return [1 if time_schedule == "constant" else 2**k for k in range(n_phases)]


def phase_ends(weights: Sequence[int], budget: int) -> list[int]:
    """
    Share a budget out, to the step.

    :param weights: (K,) shares.
    :param budget: B.
    :return: (K,) steps after which each phase ends, rounded down; the last one is B.
    """
    return [budget * weight // sum(weights) for weight in accumulate(weights)]
