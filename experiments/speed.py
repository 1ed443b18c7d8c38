"""
What a step and an update of stock SAC cost on an idle machine: ``python -m experiments.speed``. Where ``sbx`` can be imported,
what they cost SBX's SAC (JAX) with the same arguments is measured, too, in the same turns.

Long runs are played beside each other, which makes their own clocks useless for comparisons. How many steps and updates
they took is exact. So ``python -m experiments.report NAME --seconds idle`` takes SAC's time from these numbers, with as many
threads as were fastest; everybody else's is the clock of a run that was alone on the machine.
"""

import argparse
import importlib
import os
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm

from experiments.algorithms import SAC_ARGUMENTS, make_task, sac
from experiments.jobs import versions
from experiments.matrices import SHORT_TASKS
from experiments.tables import Tables, columns, markdown, read_csv, write_csv
from sb3_esac.quiet import quieten_mujoco

SPEED = Path(__file__).parent / "results" / "speed.csv"
SBX = "SBX's SAC"
N_STEPS, N_REPEATS, N_WARMUP = 300, 5, 400
BASELINE = "SAC"
TIMED = (BASELINE, "SAC, ESAC's updates")
"""Algorithms whose steps and updates are those that are measured."""


def time_steps(model: BaseAlgorithm, gradient_steps: int, n_steps: int) -> float:
    """
    Time training.

    :param model: A SAC that is through with its random steps.
    :param gradient_steps: Updates after each step.
    :param n_steps: Steps.
    :return: Seconds of a step.
    """
    model.gradient_steps = gradient_steps  # type: ignore[attr-defined]
    start = time.perf_counter()
    model.learn(n_steps, log_interval=None, reset_num_timesteps=False)  # type: ignore[arg-type]
    return (time.perf_counter() - start) / n_steps


def measure(task: str) -> list[dict[str, Any]]:
    """
    Measure a task with every number of threads, in turns.

    :param task: Environment.
    :return: A row for each number of threads.
    """
    model, peer = sac(task, 0, N_WARMUP, learning_starts=0), sbx(task)
    all_threads = range(1, (os.cpu_count() or 1) + 1)
    ways: dict[tuple[str, int], BaseAlgorithm] = {(BASELINE, threads): model for threads in all_threads}
    if peer is not None:
        # JAX takes the cores that it finds.
        ways[SBX, len(all_threads)] = peer
    for each in dict.fromkeys(ways.values()):
        each.learn(N_WARMUP, log_interval=None)  # type: ignore[arg-type]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(N_REPEATS):
        for way, times in found.items():
            th.set_num_threads(way[1])
            step = time_steps(ways[way], 0, N_STEPS)
            times.append((step, time_steps(ways[way], 1, N_STEPS) - step))
    rows = []
    for (algorithm, threads), times in found.items():
        step, update = np.median(times, axis=0)
        rows.append(
            {
                "task": task,
                "algorithm": algorithm,
                "threads": threads,
                "step_ms": round(1e3 * step, 3),
                "update_ms": round(1e3 * update, 3),
                "load": round(os.getloadavg()[0], 2),
                "versions": versions(),
            }
        )
    return rows


def sbx(task: str) -> BaseAlgorithm | None:
    """
    Make SBX's SAC with the arguments that SB3's has.

    :param task: Environment.
    :return: None if it cannot be imported.
    """
    try:
        peer = importlib.import_module("sbx")
    except ImportError:
        return None
    arguments = {name: value for name, value in SAC_ARGUMENTS.get(task, {}).items() if name != "learning_starts"}
    made: BaseAlgorithm = peer.SAC("MlpPolicy", make_task(task, 0), seed=0, learning_starts=0, **arguments)
    return made


def speeds(path: Path = SPEED, algorithm: str = BASELINE) -> dict[str, tuple[float, float]]:
    """
    Read what was measured.

    :param path: The file.
    :param algorithm: Whose speed.
    :return: Seconds of a step and of an update by task, with the number of threads of which one of each is fastest.
    """
    fastest: dict[str, tuple[float, float]] = {}
    for row in read_csv(path):
        if row["algorithm"] != algorithm:
            continue
        found = float(row["step_ms"]) / 1e3, float(row["update_ms"]) / 1e3
        if row["task"] not in fastest or sum(found) < sum(fastest[row["task"]]):
            fastest[row["task"]] = found
    return fastest


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Measure, write, print.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(SHORT_TASKS), help="only these; others of the file stay")
    parser.add_argument("--output", type=Path, default=SPEED, help="the file")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    quieten_mujoco()
    rows: list[dict[str, Any]] = [row for row in read_csv(options.output) if row["task"] not in options.tasks]
    for task in options.tasks:
        rows += measure(task)
        write_csv(options.output, rows)
    header = [name for name in rows[0] if name != "versions"]
    print(markdown(header, [[row[name] for name in header] for row in rows]))
    return 0


TABLES: Tables = {"speed": lambda: columns(SPEED, "task", "algorithm", "threads", "step_ms", "update_ms", "load")}


if __name__ == "__main__":
    sys.exit(main())
