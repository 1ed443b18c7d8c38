"""
The default on all tasks of ESAC's Table 1, 100,000 true steps each, beside SAC with rl-zoo3's arguments and published returns.

From the experiment "tasks21" (``python -m experiments.run``), and from "dense" and "benchmark" where they have runs of the
same task, seeds and budget. In "benchmark" SAC's updates are SB3's, which give the same except for the last digits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from experiments import comparison, drawing
from experiments.comparison import Runs
from experiments.figures.study import RESULTS
from experiments.matrices import TABLE1
from experiments.suites import ESAC
from experiments.tables import Tables, markdown

SAC, LEGEND = "SAC, fast", "SAC, rl-zoo3's arguments"
N_SEEDS = {ESAC: 3, SAC: 2}
"""Other experiments have more, which are left out."""

SOURCES = {"tasks21": (ESAC, SAC), "dense": (ESAC,), "benchmark": ("SAC",)}
"""What is taken of each experiment."""

TRUE_STEPS = 100_000
"""Budget of a run."""

PUBLISHED = {
    "HalfCheetah-v5": (6156, 8112, 9815),
    "Hopper-v5": (1103, 2764, 2121),
    "Walker2d-v5": (690, 3914, 3299),
    "Ant-v5": (747, 2299, 3196),
    "Humanoid-v5": (632, 2603, 6138),
}
"""SAC's, CrossQ's and FlashSAC's after 100,000 steps of version 4, means over ten seeds (FlashSAC: five)."""

VERDICTS = ABOVE, OVERLAP, BELOW, NEITHER, NOT_RUN = (
    "every seed of ESAC's above every seed of SAC's",
    "seeds overlap",
    "every seed of ESAC's below every seed of SAC's",
    "neither learns",
    "not run",
)

NOT_LEARNED = 10.0
"""A task of the DeepMind Control suite, where a return is at most 1000, is not learned below this mean."""


def read(results: Path = RESULTS) -> Runs:
    """
    Read the runs of all experiments.

    :param results: Folder of the data.
    """
    runs: Runs = {}
    for name, wanted in SOURCES.items():
        for (task, algorithm), seeds in comparison.read(results / f"{name}.csv").items():
            if task not in TABLE1 or algorithm not in wanted:
                continue
            shown = SAC if algorithm == "SAC" else algorithm
            few = {
                seed: rows for seed, rows in seeds.items() if seed < N_SEEDS[shown] and int(rows[-1]["budget"]) == TRUE_STEPS
            }
            if few:
                runs.setdefault((task, shown), {}).update(few)
    return runs


def last_returns(runs: Runs, task: str, algorithm: str) -> list[float]:
    """
    Give the last return of each seed.

    :param runs: All runs.
    :param task: Whose.
    :param algorithm: Whose.
    :return: What the evaluated policy got at the end, by seed; empty if nothing was run.
    """
    return [float(rows[-1]["deployed"]) for rows in runs.get((task, algorithm), {}).values()]


def table(runs: Runs) -> str:
    """
    Make a table of the last returns of all seeds.

    :param runs: All runs.
    """
    lines = []
    for task in TABLE1:
        cells = []
        for algorithm in (ESAC, SAC):
            last = last_returns(runs, task, algorithm)
            cells += [f"{sum(last) / len(last):.4g}" if last else "not run", ", ".join(f"{value:.4g}" for value in last)]
        lines.append([task, *cells, *PUBLISHED.get(task, ("", "", ""))])
    published = [f"{name}, published" for name in ("SAC", "CrossQ", "FlashSAC")]
    return markdown(["task", "ESAC", "its seeds", LEGEND, "its seeds", *published], lines)


def in_short(runs: Runs) -> str:
    """
    Sort the tasks by who ends higher, where every seed says the same.

    :param runs: All runs.
    """
    tasks: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for task in TABLE1:
        ours, theirs = (last_returns(runs, task, algorithm) for algorithm in (ESAC, SAC))
        if not ours or not theirs:
            verdict = NOT_RUN
        elif task.startswith("dm_control") and max(mean(ours), mean(theirs)) < NOT_LEARNED:
            verdict = NEITHER
        elif min(ours) > max(theirs):
            verdict = ABOVE
        elif max(ours) < min(theirs):
            verdict = BELOW
        else:
            verdict = OVERLAP
        tasks[verdict].append(task.removeprefix("dm_control/").rpartition("-v")[0])
    lines = [(verdict, len(few), ", ".join(few)) for verdict, few in tasks.items() if few]
    return markdown(["after 100,000 steps", "tasks", "which"], lines)


def searched(runs: Runs) -> str:
    """
    Say in how many runs the population played.

    :param runs: All runs.
    """
    steps = [int(rows[-1]["population_steps"]) for (_, name), seeds in runs.items() if name == ESAC for rows in seeds.values()]
    return f"The population played in {sum(map(bool, steps))} of ESAC's {len(steps)} runs."


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="of the data")
    parser.add_argument("--pictures", type=Path, default=drawing.PICTURES, metavar="FOLDER")
    options = parser.parse_args(arguments)
    runs = read(options.results)
    if not runs:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run tasks21`")
    print(table(runs), in_short(runs), searched(runs), sep="\n\n")
    # SAC first, so that the colors are those of the picture on the clock
    ordered = sorted(runs.items(), key=lambda item: item[0][1] == ESAC)
    drawn = {(task, LEGEND if name == SAC else name): seeds for (task, name), seeds in ordered}
    tasks = [task for task in TABLE1 if any((task, name) in runs for name in (ESAC, SAC))]
    for file in drawing.save(drawing.curve_grid(drawn, tasks, "total_steps"), options.pictures / "tasks21"):
        print(file)


TABLES: Tables = {"21 tasks": lambda: table(read()), "21 tasks in short": lambda: in_short(read())}


if __name__ == "__main__":
    main()
