"""
Tables and figures of an experiment: ``python -m experiments.report NAME``, from ``experiments/results/NAME.csv`` alone.

Prints Markdown: the last return of every seed; aggregates over tasks of normalised returns (random play is 0, the reference
of ``python -m experiments.references`` is 1) with 95% intervals; areas under the learning curves, the worst dip and the spread
over seeds for each task; the time to every return level that the baseline passes, as a fraction of the baseline's time; and
the probability of improvement. Draws, as PNG and SVG, learning curves, interquartile means, performance profiles and
probabilities of improvement.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from experiments import comparison, drawing, statistics
from experiments.comparison import MEASURES, SECONDS, Measures, Rectangle, Runs, names
from experiments.speed import BASELINE
from experiments.statistics import Estimate
from experiments.tables import Tables, markdown, read_csv

RESULTS = Path(__file__).parent / "results"
COLUMNS = {"total_steps": "true steps", "updates": "updates", "cpu_seconds": "seconds of CPU"}


def last_returns(runs: Runs) -> str:
    """
    Make a table of last returns: every seed, and the mean.

    :param runs: All runs.
    """
    lines = []
    for task in names(runs)[0]:
        for algorithm in names(runs)[1]:
            last = [rows[-1] for rows in runs.get((task, algorithm), {}).values()]
            if last:
                returns = [row["deployed"] for row in last]
                cells = [f"{np.mean([row[name] for row in last]):,.0f}" for name in COLUMNS]
                each = ", ".join(f"{value:.0f}" for value in returns)
                lines.append([task, algorithm, *cells, f"{np.mean(returns):.0f}", each])
    return markdown(["task", "algorithm", *COLUMNS.values(), "mean", "seeds"], lines)


@dataclass(frozen=True)
class Summary:
    """
    Statistics of a comparison.

    :param measured: Measures of all runs.
    :param algorithms: Names of all algorithms.
    :param found: What all of them have, of last returns.
    :param means: Interquartile means by measure and algorithm.
    :param improvements: Probability that a run of the one ends higher than a run of the other, for each ordered pair.
    """

    measured: Measures
    algorithms: list[str]
    found: Rectangle
    means: dict[str, dict[str, Estimate]]
    improvements: dict[tuple[str, str], Estimate]


def summarise(runs: Runs, seconds: str, baseline: str = BASELINE) -> Summary:
    """
    Compute the statistics over tasks.

    :param runs: All runs.
    :param seconds: Column of time.
    :param baseline: Name of the baseline.
    """
    algorithms = names(runs)[1]
    measured = comparison.all_measures(runs, comparison.scales(runs, baseline), seconds)
    cuts = {measure: comparison.rectangle(measured, algorithms, measure) for measure in MEASURES}
    means = {measure: statistics.intervals(cut.scores, statistics.iqm) for measure, cut in cuts.items()}
    scores = cuts["last"].scores
    pairs = {(one, other): [scores[one], scores[other]] for one, other in permutations(scores, 2)}
    improvements = statistics.intervals(pairs, statistics.improvement)
    return Summary(measured, algorithms, cuts["last"], means, improvements)


def aggregates(summary: Summary) -> str:
    """
    Make a table of interquartile means over tasks and seeds, with 95% intervals.

    :param summary: The statistics.
    """
    lines = [[name, *(str(found.get(name, "")) for found in summary.means.values())] for name in summary.algorithms]
    return markdown(["algorithm", *MEASURES.values()], lines)


def by_task(measured: Measures) -> str:
    """
    Make a table of means over seeds, and of the spread of last returns, for each task.

    :param measured: Measures of all runs.
    """
    lines = []
    for task, by_algorithm in measured.items():
        for algorithm, seeds in by_algorithm.items():
            cells = [f"{np.mean([run[measure] for run in seeds.values()]):.2f}" for measure in MEASURES]
            last = [run["last"] for run in seeds.values()]
            spread = [f"{np.std(last, ddof=1):.2f}" if len(last) > 1 else "", f"{np.ptp(last):.2f}"]
            lines.append([task, algorithm, len(last), *cells, *spread])
    return markdown(["task", "algorithm", "seeds", *MEASURES.values(), "std over seeds", "range over seeds"], lines)


def _ratio(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}" if np.isfinite(value) else "never"


def times(runs: Runs, axis: str, baseline: str = BASELINE) -> str:
    """
    Make a table of times to the baseline's levels, as fractions of the baseline's time.

    :param runs: All runs.
    :param axis: Column of the time.
    :param baseline: Name of the baseline.
    """
    tasks, algorithms = names(runs)
    lines = []
    for task in tasks:
        for algorithm in algorithms:
            if algorithm == baseline or (task, baseline) not in runs or (task, algorithm) not in runs:
                continue
            mean, seeds = comparison.ratios(runs, task, algorithm, baseline, axis)
            passed = f"{int(np.isfinite(mean.ratios).sum())} of {len(mean.levels)}"
            each = [", ".join(_ratio(getattr(found, name)) for found in seeds.values()) for name in ("worst", "median")]
            top = f"{mean.levels[-1]:.4g}" if mean.levels.size else ""
            of_mean = [_ratio(ratio) for ratio in (mean.worst, mean.worst_but_the_highest, mean.median)]
            lines.append([task, algorithm, top, passed, *of_mean, *each])
    header = ["task", "algorithm", f"{baseline}'s best mean return", "levels passed"]
    ratios = ["worst ratio", "worst below the highest 5%", "median ratio", "worst, seed by seed", "median, seed by seed"]
    return markdown([*header, *ratios], lines)


def improvement_table(summary: Summary) -> str:
    """
    Make a table of probabilities of improvement, of the line's algorithm over the column's.

    :param summary: The statistics.
    """
    shown = list(summary.found.scores)
    lines = [[one, *(str(summary.improvements.get((one, other), "")) for other in shown)] for one in shown]
    return markdown(["P(line > column)", *shown], lines)


def tables(runs: Runs, summary: Summary, seconds: str, baseline: str = BASELINE) -> str:
    """
    Make all tables.

    :param runs: All runs.
    :param summary: Their statistics.
    :param seconds: Column of time.
    :param baseline: Name of the baseline.
    """
    parts = ["## Last returns", last_returns(runs)]
    unscaled = [task for task in names(runs)[0] if task not in summary.measured]
    if unscaled:
        parts.append(f"Not normalised, for want of a random return or a reference: {', '.join(unscaled)}.")
    if summary.measured:
        parts += [f"## Normalised: interquartile mean and 95% interval\n\nOver {summary.found}.", aggregates(summary)]
        parts += ["## Normalised: by task, mean over seeds", by_task(summary.measured)]
    if summary.improvements:
        parts += ["## Probability of improvement", improvement_table(summary)]
    if any(algorithm == baseline for _, algorithm in runs):
        clock = seconds.replace("_", " ")
        parts += [
            f"## Time to {baseline}'s return levels, in {clock}, as a fraction of its time",
            times(runs, seconds, baseline),
        ]
        parts += ["## Updates to those levels, likewise", times(with_updates(runs), "updates", baseline)]
    return "\n\n".join(parts)


def with_updates(runs: Runs) -> Runs:
    """
    Leave out algorithms without gradients.

    :param runs: All runs.
    """
    return {key: seeds for key, seeds in runs.items() if all(rows[-1]["updates"] > 0 for rows in seeds.values())}


def draw(runs: Runs, summary: Summary, seconds: str, folder: Path, name: str) -> list[Path]:
    """
    Draw all figures.

    :param runs: All runs.
    :param summary: Their statistics.
    :param seconds: Column of time.
    :param folder: Where to.
    :param name: What file names begin with.
    :return: The files.
    """
    files = drawing.save(drawing.curves(runs, ("total_steps", "updates", seconds)), folder / f"{name}_curves")
    found, scores = summary.found, summary.found.scores
    if not scores:
        return files
    note = f"{len(found.tasks)} tasks, {found.n_seeds} seeds"
    titled = {MEASURES[measure]: estimates for measure, estimates in summary.means.items()}
    files += drawing.save(drawing.aggregates(titled, summary.algorithms, note), folder / f"{name}_iqm")
    levels = np.linspace(0.0, max(1.0, *(float(each.max()) for each in scores.values())), 101)
    profiles = statistics.profiles(scores, levels)
    files += drawing.save(drawing.profiles(levels, profiles, summary.algorithms, note), folder / f"{name}_profiles")
    first = next(iter(scores))
    pairs = {pair: value for pair, value in summary.improvements.items() if pair[0] == first}
    if pairs:
        files += drawing.save(drawing.improvements(pairs, note), folder / f"{name}_improvement")
    return files


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Print the tables, draw the figures.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help="an experiment, or a CSV file; several are put together")
    parser.add_argument("--seconds", choices=list(SECONDS), default="cpu", help="the clock of areas and ratios")
    parser.add_argument("--baseline", default=BASELINE, help="what times are compared with")
    parser.add_argument("--pictures", type=Path, default=drawing.PICTURES, metavar="FOLDER", help="where to draw")
    parser.add_argument("--no-pictures", action="store_true")
    options = parser.parse_args(arguments)
    paths = [Path(name) if name.endswith(".csv") else RESULTS / f"{name}.csv" for name in options.names]
    runs: Runs = {}
    for path in paths:
        for key, seeds in comparison.read(path).items():
            runs.setdefault(key, {}).update(seeds)
    if not runs:
        parser.error(f"no run that has ended in {', '.join(map(str, paths))}")
    summary = summarise(runs, SECONDS[options.seconds], options.baseline)
    print(tables(runs, summary, SECONDS[options.seconds], options.baseline))
    if not options.no_pictures:
        for file in draw(runs, summary, SECONDS[options.seconds], options.pictures, "_".join(path.stem for path in paths)):
            print(file)


def ends(name: str, clock: str = "cpu") -> str:
    """
    What ``python -m experiments.run NAME`` has come to: the last evaluation of every run that has ended.

    :param name: Name of the experiment.
    :param clock: "cpu" or "wall".
    """
    seconds = {"cpu": "seconds of CPU", "wall": "seconds"}[clock]
    columns = ["task", "algorithm", "true steps", "updates", seconds, "mean return", "return of each seed"]
    runs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read_csv(RESULTS / f"{name}.csv"):
        if row["is_last"] == "True":
            runs.setdefault((row["task"], row["algorithm"]), []).append(row)
    lines = []
    for key, rows in runs.items():
        rows.sort(key=lambda row: int(row["seed"]))
        means = {
            column: sum(float(row[column]) for row in rows) / len(rows)
            for column in ("total_steps", "updates", f"{clock}_seconds")
        }
        returns = [float(row["deployed"]) for row in rows]
        each = ", ".join(f"{value:.0f}" for value in returns)
        cells = [f"{value:,.0f}" for value in means.values()]
        lines.append([*key, *cells, f"{sum(returns) / len(returns):.0f}", each])
    return markdown(columns, lines or [["no runs yet", *[""] * (len(columns) - 1)]])


def benchmark_in_short(shown: Sequence[str] = ("ESAC", "SAC", "SAC, ESAC's arguments", "ESAC, paper", "ES", "ARS")) -> str:
    """
    Make a table of mean final returns of the benchmark, the number of seeds in brackets.

    :param shown: The algorithms.
    """
    runs = comparison.read(RESULTS / "benchmark.csv")
    lines = []
    for task in names(runs)[0]:
        found = [[rows[-1] for rows in runs.get((task, algorithm), {}).values()] for algorithm in shown]
        budget = max(float(row["budget"]) for last in found for row in last)
        cells = [f"{np.mean([row['deployed'] for row in last]):.4g} ({len(last)})" if last else "" for last in found]
        lines.append([task, f"{budget:,.0f}", *cells])
    return markdown(["task", "true steps", *shown], lines)


def course_of_benchmark() -> str:
    """Return of what is deployed after each tenth of the budget, the agent's in brackets where another is deployed."""
    runs = comparison.read(RESULTS / "benchmark.csv")
    lines = []
    for (task, algorithm), seeds in runs.items():
        for seed, rows in seeds.items():
            course = []
            for tenth in range(1, 11):
                # An evaluation comes with the first step from its position on, the last one after the end.
                row = next((row for row in rows if row["total_steps"] >= tenth / 10 * float(row["budget"])), rows[-1])
                agent = f" ({float(row['agent']):.4g})" if row["agent"] and float(row["agent"]) != row["deployed"] else ""
                course.append(f"{row['deployed']:.4g}{agent}")
            lines.append([task, algorithm, seed, *course])
    return markdown(["task", "algorithm", "seed", *(f"{tenth}0%" for tenth in range(1, 11))], lines)


def updates_of_benchmark() -> str:
    """How many updates it takes to reach SAC's returns."""
    return times(with_updates(comparison.read(RESULTS / "benchmark.csv")), "updates")


TABLES: Tables = {
    "benchmark in short": benchmark_in_short,
    "runs of benchmark": lambda: ends("benchmark"),
    "runs of ablations_long": lambda: ends("ablations_long"),
    "runs of exchange": lambda: ends("exchange"),
    "updates of benchmark": updates_of_benchmark,
    "course of benchmark": course_of_benchmark,
}


if __name__ == "__main__":
    main()
