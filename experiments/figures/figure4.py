"""
Figure 4 of ESAC: seconds per episode against worker processes and population size, for ESAC and ES by the paper's rules.

A generation is timed whole, in training (``esac_paper.yml``: 2 x 512 networks; ES is the same without the agent): members
that play, and for ESAC a gradient interval, which comes every g-th generation with probability p_sac. What is measured once is
an interval; its share of a generation is p_sac / g of it, drawn for p_sac = 1, where training begins, and for the mean of the
paper's annealing over a run. Measured up to the cores that the machine has; beyond, the members' part is predicted by
``benchmarks/generations.py`` from parts that were measured with one worker, and the interval stays what it is, for it has one
agent.

Small: Swimmer-v5. Paper: the nine MuJoCo and LunarLander tasks. A machine that was doing something else meanwhile is told in
the data by its load average; without ``experiments/results/figure4.csv``, ``--run`` measures again.
"""

import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from benchmarks import generations
from benchmarks.tasks import Setting
from experiments.algorithms import from_file, make_task
from experiments.drawing import COLORS, MARKERS, finish, new_figure
from experiments.figures.study import Outcome, Rows, Study, command, machine, was_busy
from experiments.figures.table1 import MUJOCO
from sb3_esac import ES
from sb3_esac.evolution.schedules import ExponentialAnnealing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORKERS = [1, 2, 4, 8, 16, 32, 64]
MEMBERS = 50
INTERVAL = 5
"""The paper's g."""

ANNEALED = float(np.mean([ExponentialAnnealing()(progress) for progress in np.linspace(0.0, 1.0, 101)]))
"""Mean of p_sac over a run."""

BANDWIDTH, MACHINE_CORES = 1.25e9, 64
"""Of the machines that are predicted for, as in ``benchmarks/generations.py``."""

CLAIMED = 0.6


@dataclass(frozen=True)
class Timing:
    """
    What is timed.

    :param task: Environment.
    :param algorithm: "ESAC" or "ES".
    :param members: Size of the population.
    :param workers: Number of worker processes.
    :param measured: Whether it is measured, or the members' part is predicted.
    """

    task: str
    algorithm: str
    members: int
    workers: int
    measured: bool


class Stopwatch(BaseCallback):
    """
    Times two generations, after one that warms up; an interval comes in the first of them.

    Their first steps are seen when their first episode has come in, which is the same delay at both ends.
    """

    FIRST, LAST = 1, 3

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[float, float, float, int]] = {}

    def _on_step(self) -> bool:
        model: Any = self.model
        number: int = model.population.generation
        if number not in self.seen:
            updates = getattr(model, "_n_updates", 0)
            self.seen[number] = (time.perf_counter(), model.seconds["population"], time.process_time(), updates)
        return number < self.LAST

    @property
    def differences(self) -> tuple[float, float, float, int]:
        """Seconds, seconds of evaluation, this process's seconds of CPU, and updates, between the two ends."""
        first, last = self.seen[self.FIRST], self.seen[self.LAST]
        return last[0] - first[0], last[1] - first[1], last[2] - first[2], last[3] - first[3]


def make(job: Timing) -> Any:
    """
    Make a model by the paper's rules.

    :param job: What is timed.
    """
    common: dict[str, Any] = {"population_size": job.members, "n_workers": job.workers, "backend": "subproc"}
    common["champion_episodes"] = 0
    if job.algorithm == "ESAC":
        # An interval in the first generation that is timed, and updates from its first step on, as in later ones
        common |= {"gradient_interval": 2, "agent_probability": 1.0, "learning_starts": 0}
        return from_file("esac_paper", job.task, 0, 0, **common)
    network = {"net_arch": [512, 512], "activation_fn": th.nn.ReLU}
    rules: dict[str, Any] = {"sigma": 0.005, "mirrored": False}
    env = make_task(job.task, 0)
    return ES("MlpPolicy", env, seed=0, normalize_observations=False, policy_kwargs=network, **rules, **common)


def measure_training(job: Timing) -> dict[str, Any]:
    """
    Time generations of a training run.

    :param job: What is timed.
    :return: Seconds of the members' part of a generation; seconds, seconds of CPU and updates of an interval.
    """
    model, watch = make(job), Stopwatch()
    model.learn(10**9, callback=watch)
    seconds, playing, cpu, updates = watch.differences
    n = watch.LAST - watch.FIRST
    if job.algorithm == "ES":
        return _columns(job.workers, seconds / n, 0.0, 0.0, 0)
    if updates == 0:
        raise RuntimeError(f"no gradient interval came while {job} was timed")
    return _columns(job.workers, playing / n, seconds - playing, cpu, updates)


def _columns(workers: int, playing: float, interval: float | str, cpu: float | str, updates: int | str) -> dict[str, Any]:
    numbers = {"seconds_playing": playing, "seconds_interval": interval, "cpu_interval": cpu}
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in numbers.items()}
    machine = {"load_average": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    return {"workers": workers, **rounded, "updates_interval": updates, **machine}


def measure(job: Timing) -> Rows:
    """
    Measure one number of workers, or predict the members' part for all.

    :param job: What is timed.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    if job.measured:
        return [measure_training(job)]
    parts = generations.measure_parts(Setting(job.task, "2 x 512", 1, job.members), False, "subproc", 1)
    seconds = {n: generations.predict(parts, job.members, n, BANDWIDTH, MACHINE_CORES)["seconds"] for n in WORKERS}
    # Of the interval is known what was measured
    return [_columns(workers, playing, "", "", "") for workers, playing in seconds.items()]


def jobs(paper: bool) -> list[Timing]:
    """
    List what is measured and what is predicted.

    :param paper: Whether in the paper's size.
    """
    tasks = MUJOCO if paper else ["Swimmer-v5"]
    cores = os.cpu_count() or 1
    populations = [10, 25, 50, 100] if paper else [10, 50]
    found = []
    for task in tasks:
        for algorithm in ("ES", "ESAC"):
            found += [Timing(task, algorithm, MEMBERS, workers, True) for workers in WORKERS if workers <= cores]
            found += [Timing(task, algorithm, n, min(2, cores), True) for n in populations if n != MEMBERS]
        # The members of both are the same networks
        found.append(Timing(task, "members", MEMBERS, 1, False))
    return found


STUDY = Study("figure4", jobs, measure)


def seconds_per_episode(rows: Rows, task: str, algorithm: str, probability: float) -> dict[tuple[bool, int, int], float]:
    """
    Put generations together.

    :param rows: All rows.
    :param task: Environment.
    :param algorithm: "ESAC" or "ES".
    :param probability: p_sac; without effect on ES.
    :return: Seconds of a generation over its members, by whether it was measured, members, and workers.
    """
    here = [row for row in rows if row["task"] == task]
    measured = [row for row in here if row["algorithm"] == algorithm]
    if not measured:
        return {}
    intervals = [float(row["seconds_interval"]) for row in measured]
    found = {}
    for row in measured:
        seconds = float(row["seconds_playing"]) + probability / INTERVAL * float(row["seconds_interval"])
        found[True, int(row["members"]), int(row["workers"])] = seconds / int(row["members"])
    for row in here:
        if row["algorithm"] == "members":
            seconds = float(row["seconds_playing"]) + probability / INTERVAL * float(np.mean(intervals))
            found[False, int(row["members"]), int(row["workers"])] = seconds / int(row["members"])
    return found


def check(data: dict[str, Rows]) -> list[Outcome]:
    """
    Compare with the claim of 60 percent.

    :param data: Rows by study.
    """
    rows = data[STUDY.name]
    outcomes = []
    for task in dict.fromkeys(row["task"] for row in rows):
        for algorithm, probability in (("ES", 0.0), ("ESAC", 1.0), ("ESAC", ANNEALED)):
            found = seconds_per_episode(rows, task, algorithm, probability)
            one, two = found.get((True, MEMBERS, 1)), found.get((True, MEMBERS, 2))
            if one is None or two is None:
                continue
            name = algorithm if algorithm == "ES" else f"ESAC, p_sac {probability:.2f}"
            last = max(workers for _, members, workers in found if members == MEMBERS)
            note = f"two workers take {1 - two / one:.0%} off one worker's {one:.3f} s per episode (measured)"
            reduction = 1 - two / one
            if (False, MEMBERS, last) in found:
                reduction = 1 - found[False, MEMBERS, last] / found[False, MEMBERS, 1]
                note += f", {last} take {reduction:.0%} off (PREDICTED)"
            note += f"; {machine(rows)}"
            claim = f"CPUs take about 60% off the seconds per episode ({task}, {name})"
            outcomes.append(Outcome(claim, None if was_busy(rows) else reduction >= CLAIMED, note))
    return outcomes


def draw(data: dict[str, Rows]) -> "Figure":
    """
    Draw seconds per episode against workers, and seconds per generation against members.

    :param data: Rows by study.
    """
    rows = data[STUDY.name]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = new_figure(11.0, 0.8 + 3.4 * len(tasks))
    panels = figure.subplots(len(tasks), 2, squeeze=False)
    settings = (("ES", 0.0, "ES"), ("ESAC", 1.0, "ESAC, p_sac = 1"), ("ESAC", ANNEALED, f"ESAC, p_sac = {ANNEALED:.2f}"))
    for line, task in zip(panels, tasks, strict=True):
        for number, (algorithm, probability, name) in enumerate(settings):
            found = seconds_per_episode(rows, task, algorithm, probability)
            for measured in (True, False):
                style = {"color": COLORS[number], "marker": MARKERS[number], "linestyle": "-" if measured else ":"}
                points = sorted((w, value) for (was, n, w), value in found.items() if was == measured and n == MEMBERS)
                label = f"{name}, {'measured' if measured else 'PREDICTED'}"
                if points:
                    line[0].plot(*zip(*points, strict=True), label=label, **style)
                sizes = sorted((n, n * value) for (was, n, w), value in found.items() if was == measured and w == 2)
                if sizes and measured:
                    line[1].plot(*zip(*sizes, strict=True), **style)
        line[0].set_xscale("log", base=2)
        line[0].set_yscale("log")
        line[1].set_ylim(bottom=0)
        finish(line[0], "worker processes", "seconds per episode", f"{task}, {MEMBERS} members; {machine(rows)}")
        finish(line[1], "members", "seconds per generation", f"{task}, two workers, measured")
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Do what the command line asks for.

    :param arguments: Its words.
    """
    return command(__doc__, "figure4", [STUDY], check, draw, arguments)


if __name__ == "__main__":
    main()
