"""
ESAC against SAC at equal true steps: what was to be reached, from the experiment "benchmark".

Returns are put on the scale on which random play is 0 and the mean of SAC's runs 1, task by task, so that all tasks count
alike: 0.9 is nine tenths of what SAC has learned. Taken are the tasks that both have played, with as many seeds on each, so
that most runs are kept. A task on which SAC has learned less than a fifth of what published runs reach says little, and would
count for five times as much as others; it is left out, by name.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import comparison, statistics
from experiments.comparison import Runs, Scale
from experiments.figures.study import RESULTS, Outcome, judged
from experiments.references import Reference
from experiments.speed import BASELINE
from experiments.tables import Tables

CHALLENGER = "ESAC"
OPPONENTS = (BASELINE, "SAC, ESAC's updates")
LEARNED = 0.2
"""Part of a published return that the baseline has to have learned."""

IQM, LOW, AREA, DIP = 1.0, 0.9, 1.2, 0.5
"""What is to be reached: IQM of returns, its lower bound, ratio of areas, ratio of dips."""


def scale_by(runs: Runs, opponent: str) -> tuple[dict[str, Scale], list[str]]:
    """
    Let an opponent's mean return count 1.

    :param runs: All runs.
    :param opponent: Its name.
    :return: Scales by task, and the tasks that were left out.
    """
    found, left_out = {}, []
    for task, scale in comparison.scales(runs).items():
        if (task, opponent) not in runs or (task, CHALLENGER) not in runs:
            continue
        measured = comparison.measures(runs, task, scale, "cpu_seconds")[opponent]
        learned = float(np.mean([run["last"] for run in measured.values()]))
        if learned < LEARNED:
            left_out.append(task)
            continue
        reference = scale.random + learned * scale.width
        found[task] = Scale(scale.random, Reference(reference, f"mean return of {opponent}"))
    return found, left_out


def check(runs: Runs) -> list[Outcome]:
    """
    Compare with what the package is meant to do.

    :param runs: All runs of the experiment.
    """
    outcomes = []
    for opponent in OPPONENTS:
        pair = [CHALLENGER, opponent]
        here = {key: seeds for key, seeds in runs.items() if key[1] in pair}
        scaling, left_out = scale_by(here, opponent)
        measured = comparison.all_measures(here, scaling, "cpu_seconds")
        cuts = {name: comparison.rectangle(measured, pair, name) for name in comparison.MEASURES}
        last, areas, dips = (cuts[name].scores for name in ("last", "area in steps", "dip"))
        if not last or cuts["last"].n_seeds == 0:
            continue
        what = f"{cuts['last']}" + (
            f"; left out, because {opponent} learned too little: {', '.join(left_out)}" if left_out else ""
        )
        estimate = statistics.intervals({CHALLENGER: last[CHALLENGER]}, statistics.iqm)[CHALLENGER]
        outcomes.append(
            Outcome(
                f"{CHALLENGER} against {opponent}: IQM at least {IQM:g}, its lower bound above {LOW:g}",
                estimate.value >= IQM and estimate.low > LOW,
                f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}], over {what}",
            )
        )
        ratio = float(areas[CHALLENGER].mean() / areas[opponent].mean())
        outcomes.append(
            Outcome(f"area under the learning curve at least {AREA:g} times that of {opponent}", ratio >= AREA, f"{ratio:.2f}")
        )
        ours, theirs = (float(dips[name].mean()) for name in pair)
        outcomes.append(
            Outcome(
                f"worst dip after half at most {DIP:g} of that of {opponent}",
                ours <= DIP * theirs,
                f"{ours:.2f}, {theirs:.2f}",
            )
        )
        if cuts["last"].n_seeds > 1:
            # Task by task: on the scale of published returns a task counts the less, the less the opponent has learned there.
            spreads = {name: last[name].std(axis=0, ddof=1) for name in pair}
            published = comparison.scales(here)
            weights = np.array([scaling[task].width / published[task].width for task in cuts["last"].tasks])
            ours, theirs = (float(spreads[name].mean()) for name in pair)
            also = ", ".join(f"{(spreads[name] * weights).mean():.3f}" for name in pair)
            outcomes.append(
                Outcome(
                    f"spread over seeds smaller than that of {opponent}",
                    ours < theirs,
                    f"mean of the tasks' standard deviations {ours:.3f}, {theirs:.3f}; were published returns 1: {also}",
                )
            )
    return outcomes


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print what was reached.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="of the data")
    options = parser.parse_args(arguments)
    outcomes = check(comparison.read(options.results / "benchmark.csv"))
    for outcome in outcomes:
        print(f"Target: {outcome.claim}\n  {outcome.answer}: {outcome.evidence}")
    return outcomes


TABLES: Tables = {"targets in steps": lambda: judged(check(comparison.read(RESULTS / "benchmark.csv")))}


if __name__ == "__main__":
    main()
