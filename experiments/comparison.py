"""From rows of runs to the numbers of a comparison: normalised scores of every run, and ratios of time to a baseline."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments import statistics
from experiments.references import RANDOM_RETURNS, REFERENCES, Reference, random_returns
from experiments.speed import BASELINE, SPEED, TIMED, speeds
from experiments.statistics import Curve, Ratios
from experiments.tables import read_csv

NUMBERS = ("total_steps", "agent_steps", "population_steps", "updates", "cpu_seconds", "wall_seconds", "deployed")

Rows = list[dict[str, Any]]
Runs = dict[tuple[str, str], dict[int, Rows]]
"""Rows of each seed, by task and algorithm."""

SECONDS = {"cpu": "cpu_seconds", "wall": "wall_seconds", "idle": "idle_seconds"}
"""
Columns of time, by the name of the clock. "idle" is the baseline's time by measured speeds (:mod:`experiments.speed`), and for
all others that of the wall.
"""


def read(path: Path, speed_path: Path = SPEED) -> Runs:
    """
    Read the rows of all runs that have ended; of runs that differ in nothing but their budget, the longest.

    :param path: File of the results. Without one there are no runs.
    :param speed_path: File of measured speeds, for the seconds of an idle machine.
    """
    by_budget: dict[tuple[str, str, int, int], Rows] = {}
    measured = speeds(speed_path)
    for row in read_csv(path):
        numbers = {name: float(row[name]) for name in NUMBERS if row.get(name)}
        numbers["idle_seconds"] = numbers["wall_seconds"]
        if row["algorithm"] in TIMED and row["task"] in measured:
            step, update = measured[row["task"]]
            numbers["idle_seconds"] = numbers["total_steps"] * step + numbers["updates"] * update
        key = row["task"], row["algorithm"], int(row["seed"]), int(row["budget"])
        by_budget.setdefault(key, []).append({**row, **numbers})
    runs: Runs = {}
    for task, algorithm, seed, budget in by_budget:
        rows = by_budget[task, algorithm, seed, budget]
        seeds = runs.setdefault((task, algorithm), {})
        if rows[-1]["is_last"] == "True" and (seed not in seeds or int(seeds[seed][-1]["budget"]) < budget):
            seeds[seed] = rows
    return {key: dict(sorted(seeds.items())) for key, seeds in runs.items() if seeds}


def read_all(paths: Sequence[Path]) -> Runs:
    """
    Read several experiments; each task from the one that gave it the largest budget.

    :param paths: Files of the results, which need not be there.
    """
    chosen: dict[str, tuple[int, Runs]] = {}
    for runs in map(read, paths):
        for task in names(runs)[0]:
            here = {key: seeds for key, seeds in runs.items() if key[0] == task}
            budget = max(int(rows[-1]["budget"]) for seeds in here.values() for rows in seeds.values())
            if task not in chosen or budget > chosen[task][0]:
                chosen[task] = budget, here
    return {key: seeds for _, here in chosen.values() for key, seeds in here.items()}


def names(runs: Runs) -> tuple[list[str], list[str]]:
    """Tasks and algorithms, in the order in which they appear."""
    return list(dict.fromkeys(task for task, _ in runs)), list(dict.fromkeys(algorithm for _, algorithm in runs))


def curve_of(rows: Rows, axis: str = "total_steps") -> Curve:
    """
    Make the learning curve of the deployed policy.

    :param rows: Of one run.
    :param axis: Column that is the axis.
    """
    x = np.array([row[axis] for row in rows])
    if (np.diff(x) < 0).any():
        raise ValueError(
            f"{axis} of a run of {rows[0]['algorithm']} on {rows[0]['task']} falls: rows of several runs are mixed"
        )
    return Curve(x, np.array([row["deployed"] for row in rows]))


def curves_of(runs: Runs, task: str, algorithm: str, axis: str = "total_steps") -> list[Curve]:
    """
    Make the learning curves of all seeds.

    :param runs: All runs.
    :param task: Environment.
    :param algorithm: Its name.
    :param axis: Column that is the axis.
    """
    return [curve_of(rows, axis) for rows in runs.get((task, algorithm), {}).values()]


@dataclass(frozen=True)
class Scale:
    """
    Where a task's returns count 0 and 1.

    :param random: Mean return of random play.
    :param reference: What counts 1, and where it is from.
    """

    random: float
    reference: Reference

    def __call__(self, returns: Any) -> np.ndarray:
        return statistics.normalise(returns, self.random, self.reference.value)

    @property
    def width(self) -> float:
        """Returns between 0 and 1."""
        return self.reference.value - self.random


def scales(runs: Runs, baseline: str = BASELINE, random_path: Path = RANDOM_RETURNS) -> dict[str, Scale]:
    """
    Find the scale of each task.

    :param runs: All runs.
    :param baseline: Whose mean last return is the reference of a task that has none declared.
    :param random_path: File of random returns.
    :return: By task; a task without what it takes has none.
    """
    random, found = random_returns(random_path), {}
    for task in names(runs)[0]:
        reference = REFERENCES.get(task)
        if reference is None and (task, baseline) in runs:
            last = [rows[-1]["deployed"] for rows in runs[task, baseline].values()]
            reference = Reference(float(np.mean(last)), f"mean last return of {baseline}")
        if reference is not None and task in random and reference.value > random[task]:
            found[task] = Scale(random[task], reference)
    return found


MEASURES = {
    "last": "return at the budget",
    "area in steps": "area under the curve, in steps",
    "area in seconds": "area under the curve, in seconds",
    "dip": "worst dip after half",
}
"""What is computed for each run, on the normalised scale."""


def measures(runs: Runs, task: str, scale: Scale, seconds: str) -> dict[str, dict[int, dict[str, float]]]:
    """
    Compute the measures of every run of a task.

    :param runs: All runs.
    :param task: Environment.
    :param scale: Its scale.
    :param seconds: Column of time.
    :return: By algorithm, seed and name in :data:`MEASURES`. Last returns are those at the smallest budget in steps, between
        evaluations by a straight line: ESAC goes on to the end of a generation. Areas go to the same budget in steps, and to
        the end of the longest run in seconds; a run that ends before keeps its last return.
    """
    here = {algorithm: seeds for (name, algorithm), seeds in runs.items() if name == task}
    every = [rows for seeds in here.values() for rows in seeds.values()]
    budget = min(int(rows[-1]["budget"]) for rows in every)
    longest = max(rows[-1][seconds] for rows in every)

    def of_run(rows: Rows) -> dict[str, float]:
        steps, clock = curve_of(rows), curve_of(rows, seconds)
        return {
            "last": float(np.interp(budget, steps.x, scale(steps.y))),
            "area in steps": statistics.area(Curve(steps.x, scale(steps.y)), budget),
            "area in seconds": statistics.area(Curve(clock.x, scale(clock.y)), longest),
            "dip": statistics.worst_dip(steps) / scale.width,
        }

    return {algorithm: {seed: of_run(rows) for seed, rows in seeds.items()} for algorithm, seeds in here.items()}


Measures = Mapping[str, dict[str, dict[int, dict[str, float]]]]
"""What :func:`measures` gave, by task."""


def all_measures(runs: Runs, scaling: Mapping[str, Scale], seconds: str) -> Measures:
    """
    Compute the measures of all tasks that have a scale.

    :param runs: All runs.
    :param scaling: By task.
    :param seconds: Column of time.
    """
    return {task: measures(runs, task, scale, seconds) for task, scale in scaling.items()}


@dataclass(frozen=True)
class Rectangle:
    """
    Scores that can be compared: the same tasks and as many seeds for all.

    :param tasks: Tasks that every algorithm has.
    :param n_seeds: Seeds that every algorithm has on each of them; more are left out.
    :param left_out: Algorithms that were left out because they share no task with the others.
    :param scores: (n_seeds, n_tasks) by algorithm.
    """

    tasks: list[str]
    n_seeds: int
    left_out: list[str]
    scores: dict[str, np.ndarray]

    def __str__(self) -> str:
        text = f"{len(self.tasks)} tasks ({', '.join(self.tasks)}), {self.n_seeds} seeds"
        return text + (f"; without {', '.join(self.left_out)}" if self.left_out else "")


def rectangle(measured: Measures, algorithms: Sequence[str], measure: str) -> Rectangle:
    """
    Cut out what all algorithms have: tasks, and as many seeds on each.

    :param measured: By task.
    :param algorithms: Their names. One that has less than half of the tasks of the one that has most is left out, so that a
        few runs of it do not take the other tasks away from all.
    :param measure: A name in :data:`MEASURES`.
    """
    n_tasks = {name: sum(name in by_algorithm for by_algorithm in measured.values()) for name in algorithms}
    most = max(n_tasks.values(), default=0)
    kept = [name for name in algorithms if n_tasks[name] > 0 and 2 * n_tasks[name] >= most]
    n_played = {
        task: min(len(by_algorithm[name]) for name in kept)
        for task, by_algorithm in measured.items()
        if kept and all(name in by_algorithm for name in kept)
    }
    # The largest one: tasks with fewer seeds are left out where that keeps more runs.
    n_seeds = max(n_played.values(), key=lambda n: (n * sum(other >= n for other in n_played.values()), -n), default=0)
    tasks = [task for task, n in n_played.items() if n >= n_seeds]
    left_out = [name for name in algorithms if name not in kept]
    scores = {
        name: np.array([[run[measure] for run in list(measured[task][name].values())[:n_seeds]] for task in tasks]).T
        for name in kept
    }
    return Rectangle(tasks, n_seeds, left_out, scores if tasks else {})


def ratios(runs: Runs, task: str, algorithm: str, baseline: str, axis: str) -> tuple[Ratios, dict[int, Ratios]]:
    """
    Compare when an algorithm and the baseline pass the levels that the baseline passes.

    :param runs: All runs.
    :param task: Environment.
    :param algorithm: Its name.
    :param baseline: Name of the baseline.
    :param axis: Column: seconds, steps or updates.
    :return: By the mean over seeds, and seed by seed.
    """
    theirs, ours = runs[task, baseline], runs[task, algorithm]
    mean = statistics.time_ratios(
        statistics.mean_curve(curves_of(runs, task, baseline, axis)),
        statistics.mean_curve(curves_of(runs, task, algorithm, axis)),
    )
    both = [seed for seed in ours if seed in theirs]
    return mean, {seed: statistics.time_ratios(curve_of(theirs[seed], axis), curve_of(ours[seed], axis)) for seed in both}
