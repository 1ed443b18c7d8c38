"""
Tables and curves of an experiment: ``python -m experiments.report NAME``, from ``experiments/results/NAME.csv`` alone.

Prints, for each task, the last return of every seed and their mean, and with ``--figure FILE`` draws the returns of what
``predict`` plays against true steps, gradient updates and seconds of CPU: one line for each algorithm, the mean over seeds,
with the range of the seeds.
"""

import argparse
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#999999")
"""Okabe and Ito's palette, which survives the common kinds of colour blindness."""

AXES = {"total_steps": "environment steps", "updates": "gradient updates", "cpu_seconds": "seconds of CPU"}

Runs = dict[tuple[str, str], dict[int, list[dict[str, Any]]]]
"""Rows of each seed, by task and algorithm."""


def read(path: Path) -> Runs:
    """
    Read the rows of all runs that have ended.

    :param path: File of the results.
    """
    runs: Runs = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            numbers = {name: float(row[name]) for name in ("total_steps", "updates", "cpu_seconds", "deployed")}
            runs.setdefault((row["task"], row["algorithm"]), {}).setdefault(int(row["seed"]), []).append({**row, **numbers})
    return runs


def names(runs: Runs) -> tuple[list[str], list[str]]:
    """Tasks and algorithms, in the order in which they appear."""
    return list(dict.fromkeys(task for task, _ in runs)), list(dict.fromkeys(algorithm for _, algorithm in runs))


def table(runs: Runs) -> str:
    """
    Make a Markdown table of last returns: every seed, and the mean.

    :param runs: What :func:`read` gave.
    """
    lines = ["| task | algorithm | true steps | updates | seconds of CPU | mean | seeds |", "|---|---|---|---|---|---|---|"]
    tasks, algorithms = names(runs)
    for task in tasks:
        for algorithm in algorithms:
            seeds = runs.get((task, algorithm), {})
            if not seeds:
                continue
            last = [rows[-1] for _, rows in sorted(seeds.items())]
            returns = [row["deployed"] for row in last]
            cells = [f"{np.mean([row[name] for row in last]):,.0f}" for name in AXES]
            each = ", ".join(f"{value:.0f}" for value in returns)
            lines.append(f"| {task} | {algorithm} | {' | '.join(cells)} | {np.mean(returns):.0f} | {each} |")
    return "\n".join(lines)


def curve(seeds: dict[int, list[dict[str, Any]]], axis: str) -> tuple[np.ndarray, np.ndarray]:
    """
    Put the evaluations of all seeds on one axis.

    :param seeds: Rows of each seed.
    :param axis: Column that is the axis.
    :return: (k,) positions that every seed has reached, and (n_seeds, k) returns there.
    """
    series = [(np.array([row[axis] for row in rows]), np.array([row["deployed"] for row in rows])) for rows in seeds.values()]
    begin, end = max(x[0] for x, _ in series), min(x[-1] for x, _ in series)
    grid = np.linspace(begin, max(begin, end), 50)
    return grid, np.stack([np.interp(grid, x, y) for x, y in series])


def draw(runs: Runs, output: Path) -> None:
    """
    Draw one row of panels for each task.

    :param runs: What :func:`read` gave.
    :param output: File whose ending decides the format.
    """
    from matplotlib.figure import Figure

    tasks, algorithms = names(runs)
    figure = Figure(figsize=(12, 2.8 * len(tasks)), layout="constrained")
    panels = figure.subplots(len(tasks), len(AXES), squeeze=False, sharey="row")
    for line, task in zip(panels, tasks, strict=True):
        for panel, (axis, label) in zip(line, AXES.items(), strict=True):
            for color, algorithm in zip(COLORS * 3, algorithms, strict=False):
                seeds = runs.get((task, algorithm))
                if not seeds or (axis == "updates" and all(rows[-1]["updates"] == 0 for rows in seeds.values())):
                    continue
                x, returns = curve(seeds, axis)
                panel.plot(x, returns.mean(axis=0), color=color, label=algorithm)
                panel.fill_between(x, returns.min(axis=0), returns.max(axis=0), color=color, alpha=0.15, linewidth=0)
            panel.spines[["top", "right"]].set_visible(False)
            panel.set_xlabel(label)
        line[0].set_ylabel(f"{task}\nreturn")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Print the table, draw the figure.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(arguments)
    path = Path(options.name) if options.name.endswith(".csv") else RESULTS / f"{options.name}.csv"
    runs = read(path)
    print(table(runs))
    if options.figure is not None:
        draw(runs, options.figure)
        print(options.figure)


if __name__ == "__main__":
    main()
