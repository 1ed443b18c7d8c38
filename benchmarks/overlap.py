"""
Wall-clock of ``overlap=True`` against the sequential schedule, on one worker and one thread: ``python -m benchmarks.overlap``.

The two take turns, each going on with its own run. A setting says how long the population plays beside how long the agent
learns; no more can be saved than the shorter of the two takes.
"""

import argparse
import os
import time
import warnings
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import torch as th  # noqa: E402

from benchmarks.evaluation import RESULTS, write  # noqa: E402
from experiments.tables import Tables, columns  # noqa: E402
from sb3_esac import ESAC  # noqa: E402

SETTINGS: dict[str, dict[str, Any]] = {
    "population of 200, 0.5 % agent": {"population_size": 200, "agent_fraction": 0.005},
}
FIELDS = ["env", "setting", "overlap", "generations", "seconds", "slowest", "fastest", "ratio"]


def run(name: str, overlap: bool, n_generations: int, env: str, arguments: dict[str, Any]) -> float:
    """
    Train for some generations, without the start of the worker and the agent's warm-up.

    :param name: For the log.
    :param overlap: Which schedule.
    :param n_generations: How many generations are timed.
    :param env: Environment.
    :param arguments: Those of ESAC.
    :return: Seconds per generation.
    """
    model = ESAC("MlpPolicy", env, seed=0, overlap=overlap, n_workers=1, backend="subproc", champion_episodes=0, **arguments)
    marks: list[float] = []
    write_log = model.dump_logs

    def mark() -> None:
        marks.append(time.perf_counter())
        write_log()

    model.dump_logs = mark  # type: ignore[method-assign]
    steps = (n_generations + 2) * model.population_size * 1000
    fraction = model.agent_fraction
    assert isinstance(fraction, float)
    model.learn(steps / (1 - fraction))
    seconds = [later - earlier for earlier, later in pairwise(marks[1:])]
    print(f"  {name}, {'overlap' if overlap else 'sequential'}: {median(seconds):.2f} s per generation", flush=True)
    return sum(seconds) / len(seconds)


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--generations", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS / "overlap.csv")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    rows = []
    for name, arguments in SETTINGS.items():
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(options.rounds):
            for overlap in seconds:
                seconds[overlap].append(run(name, overlap, options.generations, options.env, arguments))
        for overlap, values in seconds.items():
            rows.append(
                {
                    "env": options.env,
                    "setting": name,
                    "overlap": overlap,
                    "generations": options.generations,
                    "seconds": round(median(values), 3),
                    "slowest": round(max(values), 3),
                    "fastest": round(min(values), 3),
                    "ratio": round(median(values) / median(seconds[False]), 3),
                }
            )
        print(f"{name}: overlap takes {rows[-1]['ratio']} of the time")
    write(rows, FIELDS, options.output)


TABLES: Tables = {
    "overlap": lambda: columns(RESULTS / "overlap.csv", "env", "setting", "overlap", "seconds", "slowest", "fastest", "ratio")
}


if __name__ == "__main__":
    main()
