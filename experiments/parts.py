"""
What the parts of ESAC are worth: ``python -m experiments.parts``, from the experiments of :data:`UNCHANGED`.

Compared are runs of the unchanged file with runs of the same task and seed in which one part is changed, taken away or added,
on the normalised scale of ``python -m experiments.report``. What is lost by the change, more than 0, speaks against it.
"""

from functools import partial
from pathlib import Path

import numpy as np

from experiments import comparison, report, statistics
from experiments.algorithms import exchange_of
from experiments.comparison import Measures, Runs
from experiments.tables import Tables, markdown

RESULTS = Path(__file__).parent / "results"
UNCHANGED = {
    "ablations_fast": "ESAC, fast, in sequence",
    "ablations": "ESAC, with exchange",
    "ablations_long": "ESAC, with exchange",
    "exchange": "ESAC, without exchange",
}
"""Who is compared with, by experiment."""

LOST = {"last": "return lost at the budget", "area in steps": "area under the curve lost, in steps"}
"""Measures that are compared, and what the difference is called."""

MANY = 5
"""Pairs from which on an interval is shown."""


def pairs(measured: Measures, unchanged: str, changed: str, measure: str) -> dict[tuple[str, int], float]:
    """
    Compare runs of the same task and seed.

    :param measured: Measures of all runs.
    :param unchanged: Name of the algorithm that others are compared with.
    :param changed: Name of the other.
    :param measure: A name in :data:`experiments.comparison.MEASURES`.
    :return: By task and seed, how much more the unchanged one has.
    """
    found = {}
    for task, by_algorithm in measured.items():
        ours, others = by_algorithm.get(unchanged, {}), by_algorithm.get(changed, {})
        for seed in ours:
            if seed in others:
                found[task, seed] = ours[seed][measure] - others[seed][measure]
    return found


def played(experiment: str, results: Path = RESULTS) -> Runs:
    """
    Read the runs of an experiment. *ablations_long* has those of the benchmark's ESAC, too, by the name of what they lack, and
    *exchange* has other seeds of what is in *ablations_long*.

    :param experiment: Its name.
    :param results: Folder of the results.
    """
    runs = comparison.read(results / f"{experiment}.csv")
    if experiment == "ablations_long":
        benchmark = comparison.read(results / "benchmark.csv")
        runs |= {(task, exchange_of(task)): seeds for (task, name), seeds in benchmark.items() if name == "ESAC"}
    if experiment == "exchange":
        others = played("ablations_long", results)
        runs = {key: others.get(key, {}) | seeds for key, seeds in runs.items()}
    return runs


def table(experiment: str, results: Path = RESULTS) -> str:
    """
    Make a table of mean differences, one line for each change, with 95% intervals of a bootstrap over all pairs.

    :param experiment: Name of the experiment.
    :param results: Folder of the results.
    """
    runs = played(experiment, results)
    measured = comparison.all_measures(runs, comparison.scales(runs), "cpu_seconds")
    unchanged, lines = UNCHANGED[experiment], []
    for changed in comparison.names(runs)[1]:
        differences = {measure: pairs(measured, unchanged, changed, measure) for measure in LOST}
        n_pairs = len(differences["last"])
        if changed == unchanged or n_pairs == 0:
            continue
        cells: list[object] = [changed, len({task for task, _ in differences["last"]}), n_pairs]
        for found in differences.values():
            values = np.array([list(found.values())]).T
            mean = statistics.intervals({changed: values}, lambda scores: float(np.mean(scores)))[changed]
            cells.append(str(mean) if n_pairs >= MANY else f"{mean.value:.2f}")
            cells.append(f"{int((values > 0).sum())} of {n_pairs}")
        lines.append(cells)
    header = ["changed", "tasks", "pairs of runs"]
    for measure in LOST.values():
        header += [measure, "pairs that lose"]
    return markdown(header, lines)


def measures(name: str) -> str:
    """
    Normalised returns, areas and dips of all who have played a task.

    :param name: Name of the experiment.
    """
    return report.by_task(report.summarise(played(name), "cpu_seconds").measured)


TABLES: Tables = {
    "measures of benchmark": lambda: measures("benchmark"),
    **{f"measures of {name}": partial(measures, name) for name in ("ablations", "ablations_fast", "ablations_long")},
    **{f"parts of {name}": partial(table, name) for name in UNCHANGED},
}


if __name__ == "__main__":
    for name in UNCHANGED:
        print(f"{name}\n\n{table(name)}\n")
