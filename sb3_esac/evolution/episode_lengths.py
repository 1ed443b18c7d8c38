"""Progressive episode lengths (PEL): offspring play short episodes first, and longer ones as the budget is spent."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from numbers import Integral

from sb3_esac.evolution.arguments import is_count, is_number, require, require_count, require_positive

TIME_SCHEDULES = ("constant", "doubling")
FIRST_LENGTH = "an integer >= 1 (steps), a float in (0, 1] (of the horizon) or None"


@dataclass(frozen=True)
class ProgressiveEpisodeLength:
    """
    Episode lengths that double from phase to phase, for ``episode_length_schedule`` of ``ES`` and ``ESAC``.

    Paper: "A framework of ES-based limited episode's length". The cap of phase k is ``E_k = min(T, E(0) 2^k)``, where T is the
    horizon; there are ``K = ceil(log2(T / E(0))) + 1`` phases, so the last one plays whole episodes. E(0) is what random play
    lasts on average, divided by 2, unless ``first_length`` gives it. A phase ends between generations; a cut is a truncation.

    Deviations from the paper: the budget that the phases share is ``total_timesteps`` of ``learn``, not wall-clock time, so
    that a seeded run can be repeated; ``phase_seconds`` is the paper's clock. E(0) is rounded to whole steps.

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
    :raises ValueError: If an argument is not what it may be, or ``first_length`` is beyond ``horizon``.
    """

    time_schedule: str = "doubling"
    first_length: int | float | None = None
    horizon: int | None = None
    divisor: float = 2.0
    n_random_episodes: int = 10
    phase_seconds: float | None = None

    def __post_init__(self) -> None:
        names = " or ".join(map(repr, TIME_SCHEDULES))
        require(self.time_schedule in TIME_SCHEDULES, "time_schedule", self.time_schedule, names)
        first, horizon = self.first_length, self.horizon
        is_first = first is None or is_count(first, 1)
        if first is not None and not isinstance(first, Integral):
            is_first = is_number(first) and 0 < first <= 1
        require(is_first, "first_length", first, FIRST_LENGTH)
        require(horizon is None or is_count(horizon, 1), "horizon", horizon, "an integer >= 1 or None")
        require_positive("divisor", self.divisor)
        require_count("n_random_episodes", self.n_random_episodes, 1)
        seconds = self.phase_seconds
        is_time = seconds is None or (is_number(seconds) and seconds > 0)
        require(is_time, "phase_seconds", seconds, "a positive finite number or None")
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
    """

    schedule: ProgressiveEpisodeLength
    lengths: tuple[int, ...]
    phase: int = 0
    seconds: float = 0.0

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
        passed, spent = self.seconds + seconds, float(timesteps)
        shares = phase_weights(self.schedule.time_schedule, len(self.lengths))
        if self.schedule.phase_seconds is None:
            ends: Sequence[float] = phase_ends(shares, budget)
        else:
            ends, spent = [self.schedule.phase_seconds * weight for weight in accumulate(shares)], passed
        return replace(self, phase=max(self.phase, bisect_right(ends[:-1], spent)), seconds=passed)


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
