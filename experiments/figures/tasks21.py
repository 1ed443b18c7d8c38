"""
The default on all tasks of ESAC's Table 1, 100,000 true steps each, beside SAC with rl-zoo3's arguments and published returns.

From the experiment "tasks21" (``python -m experiments.run``), and from "dense" and "benchmark" where they have runs of the
same task, seeds and budget. In "benchmark" SAC's updates are SB3's, which give the same except for the last digits.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from experiments import comparison, drawing
from experiments.comparison import Runs
from experiments.figures.study import RESULTS
from experiments.matrices import TABLE1
from experiments.suites import ESAC
from experiments.tables import Tables, markdown

SAC = "SAC, fast"
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


def table(runs: Runs) -> str:
    """
    Make a table of the last returns of all seeds.

    :param runs: All runs.
    """
    lines = []
    for task in TABLE1:
        cells = []
        for algorithm in (ESAC, SAC):
            last = [float(rows[-1]["deployed"]) for rows in runs.get((task, algorithm), {}).values()]
            cells += [f"{sum(last) / len(last):.4g}" if last else "not run", ", ".join(f"{value:.4g}" for value in last)]
        lines.append([task, *cells, *PUBLISHED.get(task, ("", "", ""))])
    published = [f"{name}, published" for name in ("SAC", "CrossQ", "FlashSAC")]
    return markdown(["task", "ESAC", "its seeds", "SAC, rl-zoo3's arguments", "its seeds", *published], lines)


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
    print(table(runs))
    tasks = [task for task in TABLE1 if any((task, name) in runs for name in (ESAC, SAC))]
    for file in drawing.save(drawing.curve_grid(runs, tasks, "total_steps", 4), options.pictures / "tasks21"):
        print(file)


TABLES: Tables = {"21 tasks": lambda: table(read())}


if __name__ == "__main__":
    main()
