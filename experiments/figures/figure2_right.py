"""Right part of figure 2: sensitivity of ES to its mutation rate sigma on the cyclic MDP."""

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from experiments.drawing import COLORS, MARKERS, finish
from experiments.figures.figure2_left import SOLVED, TASK, play_once
from experiments.figures.study import Outcome, Rows, Study
from sb3_esac import ES
from sb3_esac.evaluation.vectors import load_vector, to_vector


@dataclass(frozen=True)
class Mutation:
    """
    One run.

    :param sigma: Mutation rate.
    :param members: Size of the population.
    :param seed: Seed of the run.
    :param generations: How many.
    """

    sigma: float
    members: int
    seed: int
    generations: int


class Generations(BaseCallback):
    """
    Stops after some generations.

    :param number: How many.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def _on_step(self) -> bool:
        model: Any = self.model
        return bool(model.population.generation < self.number)


def measure(job: Mutation) -> Rows:
    """
    Train once and see what the mean and its perturbed members return.

    :param job: The run.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    # The step of the mean is as it is by default, whatever sigma is: sigma alone is varied
    model = ES("MlpPolicy", gym.make(TASK), population_size=job.members, sigma=job.sigma, seed=job.seed, deploy="population")
    first = play_once(model, False)
    model.learn(10**9, callback=Generations(job.generations))
    steps = model.num_timesteps
    mean = play_once(model, False)
    generator, center = np.random.default_rng(job.seed), to_vector(model.policy)
    members = []
    for _ in range(20):
        load_vector(model.policy, center + job.sigma * generator.standard_normal(len(center), dtype=np.float32))
        members.append(play_once(model, False))
    numbers = {"return_first": first, "return_mean": mean, "return_members": round(float(np.mean(members)), 1)}
    return [{"steps": steps, **numbers}]


def jobs(paper: bool) -> list[Mutation]:
    """
    List the runs.

    :param paper: Whether in the paper's size.
    """
    populations, seeds, generations = ([10, 50, 100], 10, 100) if paper else ([50], 3, 6)
    sigmas = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0]
    return [Mutation(s, members, seed, generations) for seed in range(seeds) for members in populations for s in sigmas]


STUDY = Study("figure2_right", jobs, measure)


def check(rows: Rows) -> list[Outcome]:
    """
    Compare the right part with the paper.

    :param rows: Its rows.
    """
    if not rows:
        return []
    sigmas = sorted({float(row["sigma"]) for row in rows})
    means = [float(np.mean([float(row["return_mean"]) for row in rows if float(row["sigma"]) == sigma])) for sigma in sigmas]
    numbers = ", ".join(f"{sigma:g}: {value:.0f}" for sigma, value in zip(sigmas, means, strict=True))
    sensitive = max(means) - min(means) > 0.5 * SOLVED
    return [
        Outcome("ES is sensitive to sigma", sensitive, f"return of the mean by sigma, over seeds and populations: {numbers}")
    ]


def draw(panel: Any, rows: Rows) -> None:
    """
    Draw the mean's return and that of its perturbed members against sigma: each seed, and the mean over seeds.

    :param panel: Where to.
    :param rows: Rows of the right part.
    """
    styles = {"return_mean": ("the mean", "-", 0), "return_members": ("its perturbed members", "--", 1)}
    for number, members in enumerate(sorted({int(row["members"]) for row in rows})):
        here = [row for row in rows if int(row["members"]) == members]
        for column, (name, style, offset) in styles.items():
            index = 2 * number + offset
            points = np.array([[float(row["sigma"]), float(row[column])] for row in here])
            sigmas = np.unique(points[:, 0])
            means = [points[points[:, 0] == sigma, 1].mean() for sigma in sigmas]
            color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
            panel.plot(sigmas, means, style, color=color, label=f"n = {members}, {name}")
            panel.plot(points[:, 0] * 1.08 ** (offset - 0.5), points[:, 1], marker, color=color, alpha=0.6)
    if rows:
        panel.set_xscale("log")
        panel.set_ylim(top=1.3 * SOLVED)
        panel.legend(frameon=False, fontsize="small", loc="upper left")
    finish(panel, "sigma", "return", "ES after its last generation, each seed and the mean")
