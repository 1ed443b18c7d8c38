"""Centre of figure 2: seconds per episode of an ES on the cyclic MDP, against worker processes and members."""

import os
import warnings
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th

from benchmarks import generations
from benchmarks.tasks import Setting
from experiments.drawing import COLORS, MARKERS, finish
from experiments.figures.figure2_left import MEMBERS, TASK
from experiments.figures.study import Outcome, Rows, Study, machine, was_busy
from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.vectors import to_vector

WORKERS = [1, 2, 4, 8, 16, 32, 64]
BANDWIDTH, MACHINE_CORES = 1.25e9, 64
"""Of the machines that are predicted for, as in ``benchmarks/generations.py``."""


@dataclass(frozen=True)
class Timing:
    """
    Members and workers of which a generation is timed.

    :param members: Number of members.
    :param workers: Number of worker processes.
    :param measured: Whether it is measured, or predicted.
    """

    members: int
    workers: int
    measured: bool


@dataclass(frozen=True)
class WholeEpisodes(Setting):
    """An ES on the cyclic MDP whose members make no mistake, so that each plays 2000 steps."""

    @cached_property
    def request(self) -> EvaluationRequest:
        """A generation around a mean that moves clockwise whatever it sees."""
        model = ES("MlpPolicy", gym.make(TASK), seed=0, normalize_observations=False)
        actor = model.actor
        with th.no_grad():
            last = [layer for layer in actor.modules() if isinstance(layer, th.nn.Linear)][-1]
            last.weight.zero_()
            last.bias.copy_(th.tensor([10.0, 0.0, 0.0]))
        center = to_vector(actor)
        noise = np.random.default_rng(0).standard_normal((self.n_members, len(center)), dtype=np.float32)
        seeds = np.arange(self.n_members).reshape(-1, 1)
        return EvaluationRequest(center + 0.02 * noise, seeds, make_player(actor))

    @cached_property
    def sharing(self) -> EvaluationRequest:
        """The same generation with its transitions wanted."""
        return replace(self.request, recording=Recording(transitions=True))


def measure(job: Timing) -> Rows:
    """
    Measure the seconds of a generation, or predict them for all numbers of workers.

    :param job: Members and workers.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    setting = WholeEpisodes(TASK, "2 x 64", job.workers, job.members)
    if job.measured:
        seconds = {job.workers: generations.measure_generation(setting, False, "subproc", 3)}
    else:
        parts = generations.measure_parts(setting, False, "subproc", 1)
        seconds = {n: generations.predict(parts, job.members, n, BANDWIDTH, MACHINE_CORES)["seconds"] for n in WORKERS}
    return [
        {
            "workers": workers,
            "seconds_per_generation": round(value, 5),
            "seconds_per_episode": round(value / job.members, 7),
            "load_average": round(os.getloadavg()[0], 1),
            "cores": os.cpu_count(),
        }
        for workers, value in seconds.items()
    ]


def jobs(paper: bool) -> list[Timing]:
    """
    List what is measured, and what is predicted (from one worker, for all numbers of them).

    :param paper: Whether with the paper's sizes of the population.
    """
    cores = os.cpu_count() or 1
    populations = [10, 25, 50, 100] if paper else [10, 50]
    found = [Timing(members, workers, True) for members in populations for workers in WORKERS if workers <= cores]
    return [*found, Timing(MEMBERS, 1, False)]


STUDY = Study("figure2_centre", jobs, measure)


def check(rows: Rows) -> list[Outcome]:
    """
    Compare the centre with the paper.

    :param rows: Its rows.
    """
    seconds = {(row["measured"], int(row["members"]), int(row["workers"])): float(row["seconds_per_episode"]) for row in rows}
    one, two = seconds.get(("True", MEMBERS, 1)), seconds.get(("True", MEMBERS, 2))
    if one is None or two is None:
        return []
    last = max(workers for measured, members, workers in seconds if members == MEMBERS)
    note = f"{MEMBERS} members: {one:.4f} s per episode with one worker, {two:.4f} with two (measured)"
    if ("False", MEMBERS, last) in seconds:
        note += f", {seconds['False', MEMBERS, last]:.4f} with {last} (predicted)"
    holds = None if was_busy(rows) else two < 0.9 * one
    return [Outcome("more CPUs reduce the seconds per episode", holds, f"{note}; {machine(rows)}")]


def draw(panel: Any, rows: Rows) -> None:
    """
    Draw seconds per episode, measured and predicted.

    :param panel: Where to.
    :param rows: Rows of the centre.
    """
    for number, members in enumerate(sorted({int(row["members"]) for row in rows})):
        for measured, style in (("True", "-"), ("False", ":")):
            here = [row for row in rows if int(row["members"]) == members and row["measured"] == measured]
            if here:
                x, y = zip(*((int(row["workers"]), float(row["seconds_per_episode"])) for row in here), strict=True)
                label = f"{members} members, {'measured' if measured == 'True' else 'PREDICTED from one worker'}"
                panel.plot(x, y, style, color=COLORS[number], marker=MARKERS[number], label=label)
                panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    finish(panel, "worker processes", "seconds per episode", f"2000 steps in every episode; {machine(rows)}")
    if rows:
        panel.legend(frameon=False, fontsize="small")
