"""
Whether the population pays, from what has been played of the suites: ``python -m experiments.population``.

For the dense suite it prints interquartile means, and what ESAC keeps of the agent alone with its interval; for the stuck one
how many seeds of each task were solved, with Wilson's interval, and after how many steps and seconds.
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import comparison, statistics
from experiments.comparison import Runs
from experiments.references import random_returns
from experiments.suites import ALONE, DENSE, ESAC, LEVELS, RIVALS, STUCK
from experiments.tables import Tables, markdown

RESULTS = Path(__file__).parent / "results"
N_SAMPLES = 2000
"""Samples of the bootstrap."""


def wilson(n_solved: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """
    Compute the interval of a probability by Wilson (1927), which holds for few trials, and at 0 and 1.

    :param n_solved: Successes.
    :param n: Trials, at least 1.
    :param z: Quantile of the normal distribution; this one is for 95%.
    :return: Both ends.
    """
    share = n_solved / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def solved(runs: Runs, task: str, algorithm: str) -> tuple[int, int]:
    """
    Count the seeds that solve a task.

    :param runs: All runs.
    :param task: One of :data:`STUCK`.
    :param algorithm: Its name.
    :return: How many are at the threshold at their end, and how many there are.
    """
    seeds = runs.get((task, algorithm), {})
    return sum(float(rows[-1]["deployed"]) >= STUCK[task][1] for rows in seeds.values()), len(seeds)


def stuck_table(runs: Runs) -> str:
    """
    Make the table of tasks that are solved or not.

    :param runs: All runs.
    """
    lines = []
    for task in STUCK:
        for algorithm in RIVALS:
            n_solved, n = solved(runs, task, algorithm)
            if not n:
                continue
            low, high = wilson(n_solved, n)
            curves = (comparison.curves_of(runs, task, algorithm, axis) for axis in ("total_steps", "cpu_seconds"))
            medians = [
                float(np.median([statistics.first_passage(curve, STUCK[task][1]) for curve in each])) for each in curves
            ]
            shown = [f"{value:,.0f}" if math.isfinite(value) else "never" for value in medians]
            lines.append([task, algorithm, f"{n_solved} of {n}", f"{low:.2f} to {high:.2f}", *shown])
    header = ["task", "algorithm", "solved", "95% of the share", "median steps to the threshold", "median seconds of CPU"]
    return markdown(header, lines)


def dense_table(runs: Runs) -> str:
    """
    Make the table of returns, and of the share of the agent's alone.

    :param runs: All runs.
    """
    lines = []
    for task in DENSE:
        for algorithm in RIVALS:
            seeds = runs.get((task, algorithm), {})
            if seeds:
                last = [float(rows[-1]["deployed"]) for rows in seeds.values()]
                lines.append([task, algorithm, len(last), f"{statistics.iqm(np.array(last)[:, None]):.0f}", *_ends(last)])
    return markdown(["task", "algorithm", "seeds", "IQM", "lowest", "highest"], lines)


def in_short(dense: Runs, stuck: Runs) -> str:
    """
    Make a table of one line per task of both suites: interquartile means of returns on dense tasks, and how many seeds solve a
    task on the others.

    :param dense: Runs of the first.
    :param stuck: Runs of the second.
    """
    shown = [name for name in RIVALS if any(name == algorithm for _, algorithm in (*dense, *stuck))]
    lines = []
    for task, budget in {**DENSE, **{task: budget for task, (budget, _) in STUCK.items()}}.items():
        runs = dense if task in DENSE else stuck
        if (task, ESAC) not in runs:
            continue
        cells = []
        for name in shown:
            last = [[float(rows[-1]["deployed"])] for rows in runs.get((task, name), {}).values()]
            n_solved, n = solved(runs, task, name) if task in STUCK else (0, 0)
            cells.append(f"{n_solved} of {n}" if n else f"{statistics.iqm(np.array(last)):.4g}" if last else "")
        searched = [float(rows[-1]["population_steps"]) > 0 for rows in runs[task, ESAC].values()]
        threshold = f"{STUCK[task][1]:g}" if task in STUCK else ""
        lines.append([task, f"{budget:,}", threshold, *cells, f"{sum(searched)} of {len(searched)}"])
    return markdown(["task", "true steps", "solved at", *shown, "searches"], lines)


def _ends(values: Sequence[float]) -> list[str]:
    return [f"{min(values):.0f}", f"{max(values):.0f}"]


def insurance(runs: Runs, n_samples: int = N_SAMPLES) -> statistics.Estimate | None:
    """
    Estimate what ESAC keeps of the agent alone: the ratio of their interquartile means over tasks and seeds. On each task
    random play is 0, for returns below zero have no ratio, and the agent's mean is 1.

    The bootstrap draws seeds, with both of their runs: until a search begins, these are one and the same.

    :param runs: All runs.
    :param n_samples: Samples of the bootstrap, in which each task's seeds are drawn anew.
    :return: The ratio and its interval; None if nothing was played by both.
    """
    zero, pairs = random_returns(), []
    for task in DENSE:
        ours, alone = (runs.get((task, name), {}) for name in (ESAC, ALONE))
        both = [[float(rows[seed][-1]["deployed"]) for seed in ours if seed in alone] for rows in (ours, alone)]
        if both[0]:
            low = zero.get(task, 0.0)
            pairs.append((np.array(both) - low) / (np.mean(both[1]) - low))
    if not pairs:
        return None

    def kept(given: list[np.ndarray]) -> float:
        ours, alone = np.concatenate(given, axis=1)
        return statistics.iqm(ours) / statistics.iqm(alone)

    generator = np.random.default_rng(0)
    samples = [
        kept([pair[:, generator.integers(pair.shape[1], size=pair.shape[1])] for pair in pairs]) for _ in range(n_samples)
    ]
    return statistics.Estimate(kept(pairs), *map(float, np.quantile(samples, (0.025, 0.975))))


def searches_table(runs: Runs) -> str:
    """
    Make the table of how often the population searched.

    :param runs: All runs.
    """
    lines = []
    for task in (*DENSE, *STUCK):
        seeds = runs.get((task, ESAC), {})
        if seeds:
            shares = [float(rows[-1]["population_steps"]) / float(rows[-1]["total_steps"]) for rows in seeds.values()]
            n = sum(share > 0 for share in shares)
            lines.append([task, f"{n} of {len(shares)}", f"{100 * float(np.mean(shares)):.0f}%"])
    return markdown(["task", "seeds in which the population searched", "its share of all steps"], lines)


def levels_table(runs: Runs) -> str:
    """
    Make the table of levels that were to be reached.

    :param runs: All runs.
    """
    lines = []
    for task, target in LEVELS.items():
        seeds = runs.get((task, ESAC), {})
        if seeds:
            last = np.array([[float(rows[-1]["deployed"])] for rows in seeds.values()])
            estimate = statistics.intervals({task: last}, statistics.iqm, N_SAMPLES)[task]
            interval = f"{estimate.low:.0f} to {estimate.high:.0f}"
            answer = "yes" if estimate.value >= target else "no"
            lines.append([task, len(last), f"{target:.0f}", f"{estimate.value:.0f}", interval, answer])
    return markdown(["task", "seeds", "target", "IQM", "95%", "reached"], lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Print the tables.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    dense, stuck = (comparison.read(options.results / f"{name}.csv") for name in ("dense", "stuck"))
    if dense:
        kept = insurance(dense)
        print(dense_table(dense), *([f"\nESAC over the agent alone: {kept}\n"] if kept else []), levels_table(dense), sep="\n")
    if stuck:
        print("", stuck_table(stuck), sep="\n")
    if dense or stuck:
        print("", searches_table({**dense, **stuck}), sep="\n")
    if not dense and not stuck:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run dense` and `stuck`")


def _kept(runs: Runs) -> str:
    kept = insurance(runs)
    return markdown(
        ["ESAC over the agent alone", "95%"], [[f"{kept.value:.3f}", f"{kept.low:.3f} to {kept.high:.3f}"]] if kept else []
    )


def _read(name: str) -> Runs:
    return comparison.read(RESULTS / f"{name}.csv")


TABLES: Tables = {
    "dense": lambda: dense_table(_read("dense")),
    "insurance": lambda: _kept(_read("dense")),
    "levels": lambda: levels_table(_read("dense")),
    "stuck": lambda: stuck_table(_read("stuck")),
    "population in short": lambda: in_short(_read("dense"), _read("stuck")),
    "searches": lambda: searches_table({**_read("dense"), **_read("stuck")}),
}


if __name__ == "__main__":
    main()
