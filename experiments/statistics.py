"""
Statistics of a comparison: aggregates over tasks with their intervals, and what a learning curve says of a run.

Aggregates are those of Agarwal et al. (2021), "Deep Reinforcement Learning at the Edge of the Statistical Precipice", which
their library ``rliable`` made usual: the interquartile mean, the probability of improvement and performance profiles, with
intervals of a bootstrap that is stratified over tasks. Scores are (n_seeds, n_tasks) arrays of normalised returns. Everything
here is a function of numbers: no files, no pictures.
"""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)

Scores = Mapping[str, np.ndarray]
"""(n_seeds, n_tasks) normalised returns by algorithm."""

N_SAMPLES = 2000
"""Samples of a bootstrap."""

ENDS = (2.5, 97.5)
"""Percentiles of a statistic's samples that are the ends of its interval."""

N_LEVELS = 50
"""Return levels at which two learning curves are compared."""


@dataclass(frozen=True)
class Estimate:
    """
    A number and its 95% interval.

    :param value: What the data say.
    :param low: Lower end.
    :param high: Upper end.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Curve:
    """
    A learning curve.

    :param x: (k,) steps, updates or seconds, rising.
    :param y: (k,) returns.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Ratios:
    """
    How much of the baseline's time another algorithm needs.

    :param levels: (k,) returns that the baseline passes.
    :param ratios: (k,) time of the other over time of the baseline; infinite where the other never gets there.
    """

    levels: np.ndarray
    ratios: np.ndarray

    @property
    def worst(self) -> float:
        """The largest ratio, NaN without levels."""
        return float(self.ratios.max()) if self.ratios.size else float("nan")

    @property
    def worst_but_the_highest(self) -> float:
        """
        The largest ratio below the highest twentieth of the levels: a best mean of many evaluations has some luck in it. NaN
        without levels.
        """
        kept = self.ratios[: math.ceil(0.95 * self.ratios.size)]
        return float(kept.max()) if kept.size else float("nan")

    @property
    def median(self) -> float:
        """The median ratio, the upper one where there are two."""
        return float(np.quantile(self.ratios, 0.5, method="higher")) if self.ratios.size else float("nan")


# -- aggregates over tasks -------------------------------------------------------------------------------------------------


def normalise(returns: np.ndarray | float, random: float, reference: float) -> np.ndarray:
    """
    Put returns on the scale on which random play is 0 and the reference 1.

    :param returns: Undiscounted returns.
    :param random: Mean return of random play.
    :param reference: Return of the reference.
    :return: Array of the same shape, not clipped.
    """
    if reference <= random:
        raise ValueError(f"`reference` must be more than random play's {random!r}, not {reference!r}")
    return (np.asarray(returns, dtype=np.float64) - random) / (reference - random)


def iqm(scores: np.ndarray) -> float:
    """
    Interquartile mean: the mean of what is left without the lowest and the highest quarter.

    :param scores: Array of any shape; seeds and tasks are taken together.
    """
    # As `scipy.stats.trim_mean`, whose checks take a hundred times as long as its arithmetic.
    flat = np.ravel(scores)
    cut = flat.size // 4
    kept = np.partition(flat, (cut, flat.size - cut - 1))[cut : flat.size - cut]
    return float(kept.mean())


def improvement(x: np.ndarray, y: np.ndarray) -> float:
    """
    Probability that a run of one algorithm is better than a run of another on the same task; ties count half.

    :param x: (n, n_tasks) scores of the one.
    :param y: (m, n_tasks) scores of the other.
    :return: Mean over tasks of the Mann-Whitney statistic over n m.
    """
    above = np.sign(x[:, None, :] - y[None, :, :])
    return float(np.mean((above + 1.0) / 2.0))


def _bootstrap(
    groups: Mapping[Name, Sequence[np.ndarray]], statistic: Callable[..., Any], n_samples: int, seed: int
) -> dict[Name, np.ndarray]:
    """
    Find 95% intervals by percentiles. Not ``scipy.stats.bootstrap``, which resamples along one axis and would draw the same
    seeds for all tasks.

    :param groups: (n_seeds, n_tasks) arrays by name, drawn one after the other. They may have different numbers of seeds.
    :param statistic: Of the arrays of a group: a number, or (k,) numbers.
    :param n_samples: Samples, in which each array has seeds of its own, drawn anew for each task.
    :param seed: Of numpy's ``RandomState``, whose stream is the same in every version.
    :return: Lower and upper ends by name, (2,) or (2, k).
    """
    generator = np.random.RandomState(seed)

    def draw(scores: np.ndarray) -> np.ndarray:
        # Each task has seeds of its own.
        drawn: np.ndarray = scores[generator.randint(len(scores), size=scores.shape), np.arange(scores.shape[1])]
        return drawn

    found = {}
    for name, group in groups.items():
        samples = [statistic(*[draw(scores) for scores in group]) for _ in range(n_samples)]
        found[name] = np.percentile(samples, ENDS, axis=0)
    return found


def intervals(
    scores: Mapping[Name, np.ndarray] | Mapping[Name, list[np.ndarray]],
    statistic: Callable[..., float],
    n_samples: int | None = None,
    seed: int = 0,
) -> dict[Name, Estimate]:
    """
    Estimate a statistic of each algorithm, or of each pair.

    :param scores: (n_seeds, n_tasks) scores by algorithm, or lists of two such arrays by pair.
    :param statistic: Of one array, or of two.
    :param n_samples: Samples of the bootstrap, in which each task's seeds are drawn anew; :data:`N_SAMPLES` by default.
    :param seed: Of the bootstrap, so that a table is the same each time it is made.
    """
    groups = {name: [given] if isinstance(given, np.ndarray) else given for name, given in scores.items()}
    bounds = _bootstrap(groups, statistic, n_samples or N_SAMPLES, seed)
    return {name: Estimate(float(statistic(*group)), *map(float, bounds[name])) for name, group in groups.items()}


def profiles(
    scores: Scores, levels: np.ndarray, n_samples: int | None = None, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """
    Make performance profiles: which fraction of all runs is above a level.

    :param scores: By algorithm.
    :param levels: (k,) normalised returns.
    :param n_samples: Samples of the bootstrap, :data:`N_SAMPLES` by default.
    :param seed: Of the bootstrap.
    :return: (k,) fractions, and lower and upper ends of their intervals, by algorithm.
    """

    def profile(given: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean(given[..., None] > levels, axis=(0, 1)))

    bounds = _bootstrap({name: [given] for name, given in scores.items()}, profile, n_samples or N_SAMPLES, seed)
    return {name: (profile(given), bounds[name][0], bounds[name][1]) for name, given in scores.items()}


# -- learning curves -------------------------------------------------------------------------------------------------------


def area(curve: Curve, end: float, start: float = 0.0) -> float:
    """
    Mean height of a learning curve from zero to an end, which is the area below it over the width.

    :param curve: Evaluations of a run.
    :param end: Where to stop. A run that ended before keeps what it had: its policy is still there.
    :param start: Return at zero, before anything was learned.
    """
    x, y = np.concatenate([[0.0], curve.x]), np.concatenate([[start], curve.y])
    inside = x[x < end]
    points = np.append(inside, end)
    heights = np.interp(points, x, y)
    return float(np.trapezoid(heights, points) / end)


def worst_dip(curve: Curve) -> float:
    """
    Largest fall below what had been reached before, at evaluations in the second half of a run.

    :param curve: Evaluations of a run.
    :return: A number >= 0, in units of the returns.
    """
    falls = np.maximum.accumulate(curve.y) - curve.y
    return float(falls[curve.x > curve.x[-1] / 2].max())


def first_passage(curve: Curve, level: float) -> float:
    """
    Where a curve first reaches a level, between evaluations by a straight line.

    :param curve: Evaluations.
    :param level: A return.
    :return: Position; that of the first evaluation if it is there already, since nothing is known of before; infinite if the
        curve never gets there.
    """
    reached = np.flatnonzero(curve.y >= level)
    if not reached.size:
        return float("inf")
    after = int(reached[0])
    if after == 0:
        return float(curve.x[0])
    low, high = curve.y[after - 1], curve.y[after]
    share = (level - low) / (high - low)
    return float(curve.x[after - 1] + share * (curve.x[after] - curve.x[after - 1]))


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """
    Mean over seeds, at every position where one of them was evaluated.

    :param curves: One for each seed. Between evaluations a straight line, after its end what it had there.
    :return: From where all have been evaluated once.
    """
    begin = max(curve.x[0] for curve in curves)
    points = np.unique(np.concatenate([curve.x for curve in curves]))
    points = points[points >= begin]
    return Curve(points, np.mean([np.interp(points, curve.x, curve.y) for curve in curves], axis=0))


def time_ratios(baseline: Curve, other: Curve, n_levels: int = N_LEVELS) -> Ratios:
    """
    Compare when two curves reach every level that the baseline reaches.

    :param baseline: Learning curve of the baseline.
    :param other: That of the other.
    :param n_levels: Levels, evenly from above the baseline's first evaluation to its highest. When it reached the return of
        its first evaluation is not known; often that is what it had before its first update. Levels that it passes at zero
        are left out: they cost it nothing.
    """
    first, highest = baseline.y[0], baseline.y.max()
    levels = np.linspace(first, highest, n_levels + 1)[1:] if highest > first else np.array([first])
    theirs = np.array([first_passage(baseline, level) for level in levels])
    levels, theirs = levels[theirs > 0], theirs[theirs > 0]
    ours = np.array([first_passage(other, level) for level in levels])
    return Ratios(levels, ours / theirs)
