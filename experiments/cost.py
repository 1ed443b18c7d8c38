"""
What an experiment costs in core-hours: ``python -m experiments.cost [NAME]`` ("table1" by default), from measured rates.

Where the results of "benchmark", "dense", "tasks21", "table1" or "paper_scale" have the algorithm on the task, seconds of CPU
per true step are theirs. The default, and SAC with fast updates, cost the median of those elsewhere. Otherwise a run costs
its steps times the seconds of a step (``benchmarks/results/evaluation.csv``: whole episodes in workers, by environment and
network) and its updates times the seconds of an update (``experiments/results/learning_check.csv`` for 256 units,
``figure4.csv`` for 512). Environments that were not measured cost what the slowest measured one of their kind
does; which one that is, is printed. Games cost what training on them does (``atari_games.csv``, by ``python -m
experiments.games rates --run``) or did in ``atari.csv``, with the budget that is declared for each game, and their scores
whole games that last as long as random play's do: a policy that lives longer, or waits for ever, plays up to 25,000 steps.
Rates are those of the machine that they were measured on, all other evaluations during training are left out, and both are
cores, whatever the number of them.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from experiments import games, suites
from experiments.algorithms import HYPERPARAMS
from experiments.comparison import read
from experiments.matrices import MATRICES
from experiments.tables import markdown, read_csv
from sb3_esac.evolution.schedules import ExponentialAnnealing

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "experiments" / "results"
CNN = "Nature CNN"
"""The network of games."""

STAND_INS = {"humanoid": "Humanoid-v5", "quadruped": "Humanoid-v5", "dm_control": "cheetah-run", "": "Hopper-v5"}
"""By the first of these words in a task's name: which measured environment it is taken for."""

SCORES = "scores"
"""What stands for an algorithm where games are played to know what a policy is worth."""

JOBS: dict[str, Callable[[], Sequence[Any]]] = {**MATRICES, **games.JOBS}
"""Runs by the name of the experiment."""

ESAC_UPDATES = 0.8
"""Updates per true step of ESAC with arguments by task: the agent's share of the steps, one update for each."""

FAST = (suites.ESAC, "SAC, fast")
"""Whose updates are made by hand. The seconds of an update below are those of SB3's."""

INTERVAL = 5
MEMBERS = {"ESAC, paper": 50, "ESAC, paper, n = 10": 20}
"""Of those who play by the paper's rules: episodes of a generation."""


@dataclass(frozen=True)
class Shape:
    """
    What a true step of an algorithm consists of.

    :param network: Of the actor, as the benchmark of evaluation names it.
    :param updates: Gradient updates per true step.
    :param units: Of the critics' layers.
    """

    network: str
    updates: float
    units: int


@dataclass(frozen=True)
class Rates:
    """
    Measured seconds.

    :param step: Seconds of a step by environment and network.
    :param update: Seconds of an update by units of a layer.
    :param runs: Seconds of CPU per true step by task and algorithm, where whole runs were measured.
    :param random_length: Steps of a game of random play, by game.
    """

    step: dict[tuple[str, str], float]
    update: dict[int, float]
    runs: dict[tuple[str, str], float]
    random_length: dict[str, float] = field(default_factory=dict)


def shape_of(task: str, algorithm: str) -> Shape:
    """
    Say what a step of an algorithm consists of.

    :param task: Environment.
    :param algorithm: Its name.
    """
    if algorithm in (*games.ARMS, SCORES):
        return Shape(CNN, 0.0, 512)
    if algorithm in MEMBERS:
        content = yaml.safe_load((HYPERPARAMS / "esac_paper.yml").read_text())
        episodes = content.get(task, content["default"])["agent_episodes"]
        probability = np.mean([ExponentialAnnealing()(progress) for progress in np.linspace(0.0, 1.0, 101)])
        # Of an interval's steps, by equally long episodes
        agent = probability * episodes
        return Shape("2 x 512", float(agent / (MEMBERS[algorithm] * INTERVAL + agent)), 512)
    if algorithm.startswith("SAC"):
        return Shape("2 x 256", 1.0, 256)
    if algorithm.startswith("ESAC") and not algorithm.startswith("ESAC, fast"):
        return Shape("2 x 64", ESAC_UPDATES, 256)
    return Shape("2 x 64", 0.0, 256)


def read_rates(results: Path = RESULTS, evaluation: Path = ROOT / "benchmarks" / "results" / "evaluation.csv") -> Rates:
    """
    Read what was measured.

    :param results: Folder of the experiments' results.
    :param evaluation: Results of the benchmark of evaluation.
    """
    step = {
        (row["env"], row["net"]): 1.0 / float(row["rate"])
        for row in read_csv(evaluation)
        if row["way"] == "workers" and row["workers"] == "1"
    }
    measured = read_csv(results / f"{games.RATES.name}.csv")
    step |= {(row["game"], CNN): 1.0 / float(row["rate"]) for row in measured}
    update: dict[int, float] = {}
    checks = [row for row in read_csv(results / "learning_check.csv") if row["cpu_seconds"]]
    if checks:
        update[256] = float(np.median([float(row["cpu_seconds"]) / float(row["gradient_updates"]) for row in checks]))
    intervals = [row for row in read_csv(results / "figure4.csv") if float(row["updates_interval"] or 0) > 0]
    if intervals:
        update[512] = float(np.median([float(row["cpu_interval"]) / float(row["updates_interval"]) for row in intervals]))
    runs = {}
    for name in ("benchmark", "dense", "tasks21", "table1", "paper_scale"):
        for key, seeds in read(results / f"{name}.csv").items():
            if name == "benchmark" and key[1] in MEMBERS:
                # Budgets so short that the agent, in every fifth generation, hardly joins
                continue
            last = [rows[-1] for rows in seeds.values()]
            runs[key] = float(np.mean([row["cpu_seconds"] / row["total_steps"] for row in last]))
    played: dict[tuple[str, str], list[float]] = {}
    for row in read_csv(results / "atari.csv"):
        if row["point"] == games.END:
            seconds = float(row["cpu_seconds"]) / float(row["total_steps"])
            played.setdefault((row["game"], row["arm"]), []).append(seconds)
    runs |= {key: float(np.mean(seconds)) for key, seconds in played.items()}
    return Rates(step, update, runs, {row["game"]: float(row["random_length"]) for row in measured})


def stand_in(task: str) -> str:
    """
    Name the measured environment that a task is taken for.

    :param task: Environment.
    """
    return next(name for word, name in STAND_INS.items() if word in task.lower())


def seconds_per_step(task: str, algorithm: str, rates: Rates) -> tuple[float, str]:
    """
    Estimate seconds of CPU per true step.

    :param task: Environment.
    :param algorithm: Its name.
    :param rates: What was measured.
    :return: Seconds, and where they are from.
    """
    if (task, algorithm) in rates.runs:
        return rates.runs[task, algorithm], "measured runs"
    if algorithm in FAST:
        elsewhere = [seconds for (_, name), seconds in rates.runs.items() if name == algorithm]
        return (float(np.median(elsewhere)), "runs on other tasks") if elsewhere else (float("nan"), "no rate")
    shape = shape_of(task, algorithm)
    known = {name for name, _ in rates.step}
    name = task if task in known or shape.network == CNN else stand_in(task)
    if (name, shape.network) not in rates.step or (shape.updates > 0 and shape.units not in rates.update):
        return float("nan"), "no rate"
    seconds = rates.step[name, shape.network] + shape.updates * rates.update.get(shape.units, 0.0)
    return seconds, "rates" if name == task else f"rates, steps as {name}'s"


def estimate(name: str, rates: Rates) -> tuple[list[list[str]], float]:
    """
    Estimate the cost of an experiment.

    :param name: Of the experiment.
    :param rates: What was measured.
    :return: A line for each task and algorithm, and core-hours of all that have a rate.
    """
    steps: dict[tuple[str, str], float] = {}
    for job in JOBS[name]():
        key = job.task, job.algorithm
        steps[key] = steps.get(key, 0) + job.total_timesteps
        if isinstance(job, games.Training):
            key, length = (job.task, SCORES), rates.random_length.get(job.game, float("nan"))
            steps[key] = steps.get(key, 0) + job.n_scores * job.n_games * min(length, job.max_steps)
    lines, total = [], 0.0
    for (task, algorithm), number in steps.items():
        seconds, source = seconds_per_step(task, algorithm, rates)
        hours = number * seconds / 3600
        total += 0.0 if np.isnan(hours) else hours
        lines.append([task, algorithm, f"{number / 1e6:g}", f"{1e6 * seconds:.0f}", f"{hours:.1f}", source])
    return lines, total


def main(arguments: Sequence[str] | None = None) -> float:
    """
    Print the cost.

    :param arguments: Words of the command line.
    :return: Core-hours.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", default="table1", choices=list(JOBS))
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER")
    options = parser.parse_args(arguments)
    rates = read_rates(options.results)
    lines, total = estimate(options.name, rates)
    print(markdown(["task", "algorithm", "million steps", "microseconds of CPU per step", "core-hours", "from"], lines))
    for units, seconds in rates.update.items():
        print(f"an update with {units} units: {1000 * seconds:.1f} ms of CPU")
    by_algorithm: dict[str, float] = {}
    for _, algorithm, _, _, hours, _ in lines:
        by_algorithm[algorithm] = by_algorithm.get(algorithm, 0.0) + float(hours)
    unknown = sum(hours == "nan" for _, _, _, _, hours, _ in lines)
    print("; ".join(f"{algorithm}: {hours:.1f} core-hours" for algorithm, hours in by_algorithm.items()))
    print(
        f"{options.name}: {total:.1f} core-hours" + (f", without {unknown} lines that have no rate" if unknown else " in all")
    )
    return total


if __name__ == "__main__":
    main()
