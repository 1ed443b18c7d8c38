"""
Steps per second of whole runs of ES, beside the bare simulator, and for more workers than this machine has cores:
``python -m benchmarks.scaling``.

A run is ``learn`` with its mutation, updates, probes and logs, from its second generation to its last but one. As many
workers as there are cores are measured. For more of them the time of a generation is put together from the run with one
worker: what the parent does between two generations, and the time until the last episode has ended, when each is taken in
order by the worker that is free first; the champion's probes are among them, since they ride along. A core is taken to be as
fast as one here, and the bare simulator to scale with them.
"""

import argparse
import os
import time
import warnings
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from benchmarks.evaluation import RESULTS, write
from benchmarks.generations import makespan, show
from benchmarks.tasks import NETS, Setting, make_monitored
from benchmarks.ways import WAYS
from experiments.tables import Tables, columns, markdown, read_csv
from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, OnStep
from sb3_esac.evaluation.subproc import SubprocEvaluator

ENVIRONMENTS = ["HalfCheetah-v5", "Swimmer-v5"]

FIELDS = ["env", "members", "workers", "kind", "serial_ms", "generation_ms", "rate", "simulator", "of_simulator"]


@dataclass(frozen=True)
class Played:
    """
    A generation that has been played.

    :param start: When it began, in seconds.
    :param end: When its last episode had been taken in.
    :param lengths: Steps of its episodes, those of probes first.
    """

    start: float
    end: float
    lengths: np.ndarray


class WatchedEvaluator(SubprocEvaluator):
    """Workers, and a clock beside them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.played: list[Played] = []

    def evaluate_all(self, plays: Sequence[tuple[EvaluationRequest, OnStep]]) -> list[EvaluationResult] | None:
        """
        Play, and look at the clock.

        :param plays: As in :class:`SubprocEvaluator`.
        """
        start = time.perf_counter()
        results = super().evaluate_all(plays)
        assert results is not None
        lengths = np.concatenate([result.lengths.reshape(-1) for result in results])
        self.played.append(Played(start, time.perf_counter(), lengths))
        return results


def play_run(env: str, n_members: int, n_workers: int, n_generations: int) -> list[Played]:
    """
    Let ES learn.

    :param env: Name of the environment.
    :param n_members: Members of a generation.
    :param n_workers: Number of processes.
    :param n_generations: How many generations are looked at, about.
    :return: What was played, without the first generation, in which workers start, and without the last.
    """
    make = partial(make_monitored, env)
    with closing(WatchedEvaluator(make, n_workers)) as evaluator, closing(DummyVecEnv([make])) as venv:
        net = {"net_arch": NETS["2 x 64"]}
        model = ES("MlpPolicy", venv, population_size=n_members, seed=0, backend=evaluator, policy_kwargs=net)
        model.learn(1)
        steps = int(evaluator.played[0].lengths.sum()) * n_generations
        evaluator.played.clear()
        model.learn(steps, reset_num_timesteps=False)
        generations = [played for played in evaluator.played if played.lengths.size >= n_members]
    # In the first one workers start.
    return generations[1:]


def rate_of(played: Sequence[Played]) -> tuple[float, float, float]:
    """
    Say how fast a run was.

    :param played: Generations that follow one another; the last one ends the measurement as it begins.
    :return: Steps per second; seconds of a generation, and of the parent between two, both medians.
    """
    n_steps = sum(int(one.lengths.sum()) for one in played[:-1])
    between = [after.start - one.end for one, after in pairwise(played)]
    whole = [after.start - one.start for one, after in pairwise(played)]
    return n_steps / (played[-1].start - played[0].start), median(whole), median(between)


def predicted_rate(played: Sequence[Played], n_workers: int) -> tuple[float, float]:
    """
    Predict how fast a run is.

    :param played: Generations of a run with one worker.
    :param n_workers: Number of workers.
    :return: Steps per second, and the seconds of a generation.
    """
    _, _, serial = rate_of(played)
    step = sum(one.end - one.start for one in played) / sum(int(one.lengths.sum()) for one in played)
    seconds = [serial + makespan(step * one.lengths, n_workers) for one in played]
    return sum(int(one.lengths.sum()) for one in played) / sum(seconds), median(seconds)


def simulator_rate(env: str, n_workers: int, n_rounds: int) -> float:
    """
    Steps per second of the bare simulator.

    :param env: Name of the environment.
    :param n_workers: Number of processes.
    :param n_rounds: How often; the median counts.
    """
    rates: list[float] = []
    with WAYS["simulator"](Setting(env, "2 x 64", n_workers, 8 * n_workers)) as run:
        run()
        for _ in range(n_rounds):
            start = time.perf_counter()
            rates.append(run().n_steps / (time.perf_counter() - start))
    return median(rates)


def rows_of(env: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """
    Measure one environment, by turns, and predict.

    :param env: Its name.
    :param options: The command line.
    """
    measured = [n for n in options.workers if n <= options.cores]
    bare: dict[int, list[float]] = {n: [] for n in measured}
    runs: dict[int, list[list[Played]]] = {n: [] for n in measured}
    for _ in range(options.turns):
        for n in measured:
            before = simulator_rate(env, n, 3)
            runs[n].append(play_run(env, options.members, n, options.generations))
            # Machines are not as fast from one minute to the next.
            bare[n].append((before + simulator_rate(env, n, 3)) / 2)
    rows = []

    def add(n: int, kind: str, rate: float, seconds: float, serial: float, simulated: float) -> None:
        row = {"env": env, "members": options.members, "workers": n, "kind": kind, "serial_ms": round(1e3 * serial, 2)}
        row |= {"generation_ms": round(1e3 * seconds, 1), "rate": round(rate), "simulator": round(simulated)}
        rows.append({**row, "of_simulator": round(rate / simulated, 3)})

    for n in measured:
        turns = [rate_of(played) for played in runs[n]]
        ratios = [rate / simulated for (rate, _, _), simulated in zip(turns, bare[n], strict=True)]
        chosen = int(np.argsort(ratios)[len(ratios) // 2])
        add(n, "measured", *turns[chosen], bare[n][chosen])
    if 1 in measured:
        one = median(bare[1])
        played = runs[1][len(runs[1]) // 2]
        for n in options.workers:
            add(n, "predicted", *predicted_rate(played, n), rate_of(played)[2], n * one)
    return rows


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """
    Read the command line.

    :param arguments: Its words, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--members", type=int, default=40)
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 8, 16, 64])
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="as many workers are measured")
    parser.add_argument("--generations", type=int, default=5)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "scaling.csv")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, predict, print and save.

    :param arguments: Words of the command line.
    :return: All rows.
    """
    options = parse(arguments)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for env in options.envs:
        rows += rows_of(env, options)
        write(rows, FIELDS, options.output)
    show(rows)
    return rows


def in_short() -> str:
    """Steps per second of whole runs: what was measured, and predictions for more workers."""
    rows = [row for row in read_csv(RESULTS / "scaling.csv") if row["kind"] == "measured" or int(row["workers"]) > 2]
    cells = [[row["env"], row["workers"], row["kind"], row["rate"], row["of_simulator"]] for row in rows]
    return markdown(["environment", "workers", "", "steps per second", "of the bare simulator"], cells)


TABLES: Tables = {
    "scaling in short": in_short,
    "scaling": lambda: columns(
        RESULTS / "scaling.csv",
        "env",
        "members",
        "workers",
        "kind",
        "serial_ms",
        "generation_ms",
        "rate",
        "simulator",
        "of_simulator",
    ),
}


if __name__ == "__main__":
    main()
