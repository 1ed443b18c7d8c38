"""
The default on the clock, beside SAC with rl-zoo3's arguments: ``python -m experiments.figures.default_clock``.

ESAC's runs are those of the suites (``python -m experiments.run dense``, ``stuck``), and on Pendulum of "default_clock". They
were played beside other work and in one thread, so their seconds are those of the CPU. SAC's are those of "benchmark"; its
seconds are its steps and updates at the speeds that ``python -m experiments.speed --output FILE`` measured on the idle machine
in the same days, with one or two threads. Seeds are those that both have. "default_clock" evaluates the first tenth of a run
more often: a short run is the beginning of a long one.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import comparison, drawing
from experiments.comparison import Rows, Runs
from experiments.figures.clock import shown, within
from experiments.figures.study import RESULTS, Outcome, judged, parse, show
from experiments.matrices import SHORT_TASKS
from experiments.report import times
from experiments.speed import BASELINE, speeds
from experiments.suites import DENSE, ESAC, STUCK
from experiments.tables import Tables, markdown

AXIS = "computing_seconds"
SPEED = "speed_default.csv"
BUDGETS = "true steps, ESAC / SAC"
FRACTION, ENOUGH = 0.25, 7
"""Of SAC's time, and on how many of its tasks every level is to be passed within it."""


def collect(results: Path = RESULTS) -> Runs:
    """
    Put runs of both together, SAC's first.

    :param results: Folder of the data.
    :return: Runs of the tasks that both have played.
    """
    measured = results / SPEED
    theirs = comparison.read(results / "benchmark.csv", measured)
    ours: Runs = {}
    for name in ("dense", "stuck"):
        ours |= comparison.read(results / f"{name}.csv", measured)
    for key, seeds in comparison.read(results / "default_clock.csv", measured).items():
        for seed, rows in seeds.items():
            rest = ours.get(key, {}).get(seed, [])
            if not rest and key[0] in (*DENSE, *STUCK):
                # A beginning whose run has not been played yet.
                continue
            ours.setdefault(key, {})[seed] = beginning(rows, rest) + rest
    for row in (row for seeds in theirs.values() for rows in seeds.values() for row in rows):
        row[AXIS] = row["idle_seconds"]
    for row in (row for seeds in ours.values() for rows in seeds.values() for row in rows):
        row[AXIS] = row["cpu_seconds"]
    runs: Runs = {}
    for task in SHORT_TASKS:
        pair = theirs.get((task, BASELINE), {}), ours.get((task, ESAC), {})
        both = [seed for seed in pair[0] if seed in pair[1]]
        if both and task in speeds(measured):
            for name, seeds in zip((BASELINE, ESAC), pair, strict=True):
                runs[task, name] = {seed: seeds[seed] for seed in both}
    return runs


def beginning(rows: Rows, rest: Rows) -> Rows:
    """
    Find what a short run has before the first evaluation of a long one, on the clock of the long one: the two were played at
    different times, so that the same steps took other seconds.

    :param rows: Of the short run.
    :param rest: Of the long run, whose first evaluation is at a step at which the short one was evaluated, too. Without any,
        all of the short run is the beginning.
    """
    if not rest:
        return rows
    same = next(row for row in rows if row["total_steps"] >= rest[0]["total_steps"])
    pace = rest[0]["cpu_seconds"] / same["cpu_seconds"] * same["total_steps"] / rest[0]["total_steps"]
    early = [row for row in rows if row["total_steps"] < rest[0]["total_steps"]]
    return [{**row, "cpu_seconds": row["cpu_seconds"] * pace} for row in early]


def budgets(runs: Runs, task: str) -> str:
    """
    Say how many steps the runs of a task have.

    :param runs: All runs.
    :param task: Whose.
    """
    given = [{int(rows[-1]["budget"]) for rows in runs[task, name].values()} for name in (ESAC, BASELINE)]
    return " / ".join(", ".join(f"{steps // 1000}k" for steps in sorted(each)) for each in given)


def in_short(runs: Runs) -> str:
    """
    Make a table of one line per task.

    :param runs: All runs.
    """
    lines = []
    for task in SHORT_TASKS:
        if (task, ESAC) not in runs:
            continue
        line = [task, str(len(runs[task, ESAC])), budgets(runs, task)]
        for algorithm in (ESAC, BASELINE):
            last = [rows[-1] for rows in runs[task, algorithm].values()]
            line += [f"{np.mean([row[column] for row in last]):.{digits}f}" for column, digits in (("deployed", 1), (AXIS, 0))]
        found = comparison.ratios(runs, task, ESAC, BASELINE, AXIS)[0]
        lines.append([*line, *(shown(ratio) for ratio in (found.median, found.worst_but_the_highest, found.worst))])
    ends = [f"{who}, {what}" for who in ("ESAC", BASELINE) for what in ("final return", "after (s)")]
    return markdown(["task", "seeds", BUDGETS, *ends, "time ratio, median", "worst below the highest 5%", "worst"], lines)


def on_one_screen(runs: Runs) -> str:
    """
    Make the table of the README.

    :param runs: All runs.
    """
    lines = []
    for task in SHORT_TASKS:
        if (task, ESAC) not in runs:
            continue
        line = [task, budgets(runs, task)]
        for algorithm in (ESAC, BASELINE):
            last = [rows[-1] for rows in runs[task, algorithm].values()]
            level, seconds = (float(np.mean([row[column] for row in last])) for column in ("deployed", AXIS))
            line.append(f"{level:.{1 if abs(level) < 10 else 0}f} / {seconds:.0f}")
        found = comparison.ratios(runs, task, ESAC, BASELINE, AXIS)[0]
        lines.append([*line, shown(found.median), shown(found.worst_but_the_highest)])
    ends = [f"{who}: return / seconds" for who in ("ESAC", BASELINE)]
    return markdown(["task", BUDGETS, *ends, "time ratio, median", "worst"], lines)


def check(runs: Runs) -> list[Outcome]:
    """
    Compare with what the default was to reach.

    :param runs: All runs.
    """
    worst = {
        task: comparison.ratios(runs, task, ESAC, BASELINE, AXIS)[0].worst for task in SHORT_TASKS if (task, ESAC) in runs
    }
    return [within(worst, FRACTION, ENOUGH, len(SHORT_TASKS))]


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = collect(options.results)
    if not runs:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run dense` and `stuck`")
    print(in_short(runs), times(runs, AXIS), sep="\n\n")
    tasks = [task for task in SHORT_TASKS if (task, ESAC) in runs]
    return show(check(runs), drawing.curve_grid(runs, tasks, AXIS), options.pictures / "default_clock")


TABLES: Tables = {
    "default on the clock": lambda: in_short(collect()),
    "default on one screen": lambda: on_one_screen(collect()),
    "target of the default on the clock": lambda: judged(check(collect())),
    "levels of the default on the clock": lambda: times(collect(), AXIS),
}


if __name__ == "__main__":
    main()
