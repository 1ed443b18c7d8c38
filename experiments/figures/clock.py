"""
How long it takes on two cores: ESAC and ES (``experiments/entries/clock.yml``, ``hyperparams/es.yml``) against SAC.

From the experiments "clock" (one run at a time on an idle machine) and "benchmark" (SAC, whose seconds are its steps and
updates at the speeds of ``python -m experiments.speed``, with as many threads as are fastest). SBX's SAC is the second
yardstick: SAC's steps at SBX's speed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments import comparison, drawing, statistics
from experiments.comparison import SECONDS, Runs, names
from experiments.figures.study import RESULTS, Outcome, judged, parse, show
from experiments.report import ends, times
from experiments.speed import BASELINE, SBX, SPEED, speeds
from experiments.tables import Tables

AXIS = SECONDS["idle"]
FAST = "ESAC, fast"
SHOWN = (BASELINE, FAST, "ES, two workers")
GOALS = {"Swimmer-v5": (340.0, 60.0), "HalfCheetah-v5": (5000.0, 90.0)}
"""Return and seconds by task: what every seed is to reach."""


def collect(results: Path = RESULTS) -> Runs:
    """
    Put experiments together, without tasks that were not timed and algorithms that do not belong here. Where the baseline has
    every seed that ESAC has, its other seeds are left out: each seed is evaluated on episodes of its own, and on some tasks
    these differ by more than the algorithms do.

    :param results: Folder of the data.
    :return: Runs of both experiments, the baseline first.
    """
    found = [comparison.read(results / f"{name}.csv", results / SPEED.name) for name in ("benchmark", "clock")]
    runs = {key: seeds for each in found for key, seeds in each.items() if key[1] in SHOWN}
    timed = {task for task, algorithm in runs if algorithm == FAST}
    for task in timed:
        ours, theirs = runs[task, FAST], runs.get((task, BASELINE), {})
        if set(ours) <= set(theirs):
            runs[task, BASELINE] = {seed: theirs[seed] for seed in ours}
    return {key: runs[key] for key in sorted(runs, key=lambda key: SHOWN.index(key[1])) if key[0] in timed}


def at_sbxs_speed(runs: Runs, speed_path: Path = RESULTS / SPEED.name) -> Runs:
    """
    Add SBX's SAC where its speed was measured: SAC's runs at that speed.

    :param runs: All runs.
    :param speed_path: File of measured speeds.
    """
    added: Runs = {}
    for task, (step, update) in speeds(speed_path, SBX).items():
        for seed, rows in runs.get((task, BASELINE), {}).items():
            seconds = [row["total_steps"] * step + row["updates"] * update for row in rows]
            timed = [{**row, AXIS: value} for row, value in zip(rows, seconds, strict=True)]
            added.setdefault((task, SBX), {})[seed] = timed
    return {**runs, **added}


def table(runs: Runs, speed_path: Path = RESULTS / SPEED.name) -> str:
    """
    Make the table of ratios to both yardsticks.

    :param runs: All runs.
    :param speed_path: File of measured speeds.
    """
    both = at_sbxs_speed(runs, speed_path)
    lines = times(runs, AXIS).split("\n")
    named = ["worst of SBX's", "median of SBX's"]
    lines[0], lines[1] = f"{lines[0]} {' | '.join(named)} |", f"{lines[1]} --- | --- |"
    for number, line in enumerate(lines[2:], 2):
        task, algorithm = (cell.strip() for cell in line.split("|")[1:3])
        cells = ["", ""]
        if (task, SBX) in both:
            found = comparison.ratios(both, task, algorithm, SBX, AXIS)[0]
            cells = [shown(found.worst, ".2f"), shown(found.median, ".2f")]
        lines[number] = f"{line} {' | '.join(cells)} |"
    return "\n".join(lines)


def shown(value: float, form: str = ".2f") -> str:
    """A number, or that it was never reached."""
    return f"{value:{form}}" if np.isfinite(value) else "never"


def within(worst: Mapping[str, float], fraction: float, enough: int, n_tasks: int) -> Outcome:
    """
    Judge whether every return that SAC passes was passed in a fraction of its time.

    :param worst: The worst ratio of each task.
    :param fraction: Of SAC's time.
    :param enough: On how many tasks it is to be so.
    :param n_tasks: Of how many.
    """
    passed = [task for task, ratio in worst.items() if ratio <= fraction]
    missed = [f"{task} ({shown(ratio)})" for task, ratio in worst.items() if ratio > fraction]
    claim = f"every mean return that SAC passes within {fraction:.2f} of its time on {enough} of {n_tasks} tasks"
    evidence = f"on {len(passed)} ({', '.join(passed) or 'none'}); not on {', '.join(missed) or 'none'}"
    return Outcome(claim, len(passed) >= enough, evidence)


def check(runs: Runs) -> list[Outcome]:
    """
    Compare with what the package is meant to do.

    :param runs: All runs.
    """
    outcomes = []
    tasks = [task for task in names(runs)[0] if (task, BASELINE) in runs and (task, FAST) in runs]
    worst = {task: comparison.ratios(runs, task, FAST, BASELINE, AXIS)[0].worst for task in tasks}
    for fraction, enough in ((1 / 5, min(7, len(tasks))), (1 / 3, len(tasks))):
        outcomes.append(within(worst, fraction, enough, len(tasks)))
    for task, (level, seconds) in GOALS.items():
        seeds = runs.get((task, FAST), {})
        reached = {seed: statistics.first_passage(comparison.curve_of(rows, AXIS), level) for seed, rows in seeds.items()}
        if reached:
            evidence = ", ".join(f"seed {seed}: {shown(value, '.0f')}" for seed, value in reached.items())
            holds = all(value <= seconds for value in reached.values())
            claim = f"{task} at {level:.0f} within {seconds:.0f} seconds with every seed"
            outcomes.append(Outcome(claim, holds, evidence))
    return outcomes


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = collect(options.results)
    if not runs:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run clock --processes 1`")
    print(table(runs, options.results / SPEED.name))
    return show(check(runs), drawing.curve_grid(runs, names(runs)[0], AXIS), options.pictures / "clock")


TABLES: Tables = {
    "on the clock": lambda: table(collect()),
    "targets on the clock": lambda: judged(check(collect())),
    "runs of clock": lambda: ends("clock", "wall"),
}


if __name__ == "__main__":
    main()
