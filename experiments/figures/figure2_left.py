"""Left part of figure 2: return over training episodes on the cyclic MDP, for ES, PPO and DDPG."""

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

from experiments.drawing import COLORS, finish
from experiments.figures.study import Outcome, Rows, Study
from sb3_esac import ES

TASK, CONTINUOUS = "CyclicMDP-v0", "CyclicMDPContinuous-v0"
SOLVED = 2000.0
MEMBERS = 50
CLAIM_EPISODES = 100
CHECKPOINTS = np.unique(np.geomspace(1, 10_000, 60).astype(int))
"""Training episodes after which the deterministic policy is played."""


@dataclass(frozen=True)
class Learning:
    """
    One run.

    :param algorithm: "ES", "PPO" or "DDPG".
    :param seed: Seed of the run.
    :param episodes: Training ends after so many,
    :param steps: or after so many steps.
    """

    algorithm: str
    seed: int
    episodes: int
    steps: int


def make(algorithm: str, seed: int) -> Any:
    """
    Make a model with the defaults of its library.

    :param algorithm: Its name.
    :param seed: Seed of the run.
    """
    if algorithm == "ES":
        return ES("MlpPolicy", gym.make(TASK), population_size=MEMBERS, seed=seed)
    if algorithm == "PPO":
        return PPO("MlpPolicy", gym.make(TASK), seed=seed, device="cpu")
    noise = NormalActionNoise(np.zeros(3), 0.1 * np.ones(3))
    return DDPG("MlpPolicy", gym.make(CONTINUOUS), action_noise=noise, seed=seed, device="cpu")


def play_once(model: Any, continuous: bool) -> float:
    """
    Play an episode with the deterministic policy: nothing in this MDP is random.

    :param model: What is played.
    :param continuous: Whether actions are vectors.
    :return: Undiscounted return.
    """
    env = gym.make(CONTINUOUS if continuous else TASK)
    observation, _ = env.reset()
    # There are three observations, and the policy is a function of them
    actions: dict[bytes, Any] = {}
    total, ended = 0.0, False
    while not ended:
        key = observation.tobytes()
        if key not in actions:
            actions[key] = model.predict(observation, deterministic=True)[0]
        observation, reward, terminated, truncated, _ = env.step(actions[key])
        total += float(reward)
        ended = terminated or truncated
    return total


class Episodes(BaseCallback):
    """
    Counts training episodes, and plays the deterministic policy now and then.

    :param job: The run.
    """

    def __init__(self, job: Learning) -> None:
        super().__init__()
        self.job, self.rows, self.episodes, self.next = job, list[dict[str, Any]](), 0, 0
        self.best = -float("inf")

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        self.episodes += int(np.sum(dones))
        ended = [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        self.best = max([self.best, *map(float, ended)])
        if np.any(dones) and self.episodes >= CHECKPOINTS[self.next]:
            self.take_down()
            self.next = int(np.searchsorted(CHECKPOINTS, self.episodes, side="right"))
        return self.episodes < self.job.episodes

    def take_down(self) -> None:
        """Write down where training is."""
        generation = self.model.population.generation if isinstance(self.model, ES) else ""
        result = play_once(self.model, self.job.algorithm == "DDPG")
        row = {"episode": self.episodes, "generation": generation, "step": self.num_timesteps, "best": self.best}
        self.rows.append({**row, "return": result})


def learn(job: Learning) -> Rows:
    """
    Train once.

    :param job: The run.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    episodes = Episodes(job)
    make(job.algorithm, job.seed).learn(job.steps, callback=episodes)
    episodes.take_down()
    return episodes.rows


def jobs(paper: bool) -> list[Learning]:
    """
    List the runs.

    :param paper: Whether in the paper's size. An ES whose members all play 2000 steps takes more of them, and they are cheap.
    """
    budgets = {"ES": (5000, 10_000_000), "PPO": (5000, 2_000_000), "DDPG": (1000, 2_000_000)}
    small = {"ES": (1000, 300_000), "PPO": (5000, 10_240), "DDPG": (5000, 1_500)}
    chosen = budgets if paper else small
    return [Learning(name, seed, *chosen[name]) for seed in range(3) for name in chosen]


STUDY = Study("figure2_left", jobs, learn)


def solved_after(rows: Rows, algorithm: str, column: str = "return", axis: str = "episode") -> list[float]:
    """
    Find after how many training episodes each run solves the task.

    :param rows: Rows of the left part.
    :param algorithm: Its name.
    :param column: "return" for the deterministic policy, "best" for the best training episode so far.
    :param axis: "episode", or "generation" of an ES.
    :return: For each seed; infinite where it never does.
    """
    found = {row["seed"]: float("inf") for row in rows if row["algorithm"] == algorithm}
    for row in rows:
        if row["algorithm"] == algorithm and float(row[column]) >= SOLVED:
            found[row["seed"]] = min(found[row["seed"]], float(row[axis]))
    return list(found.values())


def _listed(numbers: list[float]) -> str:
    return ", ".join("never" if np.isinf(number) else f"{number:g}" for number in numbers)


def check(rows: Rows) -> list[Outcome]:
    """
    Compare the left part with the paper.

    :param rows: Its rows.
    """
    after = {name: solved_after(rows, name) for name in ("ES", "DDPG", "PPO")}
    if not all(after.values()):
        return []
    note = "; ".join(f"{name}'s policy solves it after {_listed(numbers)} episodes" for name, numbers in after.items())
    member, generations = solved_after(rows, "ES", "best"), solved_after(rows, "ES", axis="generation")
    by_generation = (
        f"ES's policy solves it in generation {_listed(generations)}; a member does after {_listed(member)} episodes"
    )
    last = {row["seed"]: float(row["return"]) for row in rows if row["algorithm"] == "PPO"}
    within = f"within the first {CLAIM_EPISODES} episodes"
    later = np.isfinite(after["DDPG"]).all() and np.median(after["DDPG"]) > np.median(after["ES"])
    return [
        Outcome(f"ES solves the task {within}, every member's counted", max(after["ES"]) <= CLAIM_EPISODES, note),
        Outcome(f"ES solves the task {within}, one counted per generation", max(generations) <= CLAIM_EPISODES, by_generation),
        Outcome("DDPG solves it as well, later than ES, every member's episode counted", bool(later), note),
        Outcome(
            "PPO does not converge towards solving it",
            bool(np.isinf(after["PPO"]).any()),
            f"PPO's policy ends at {_listed(list(last.values()))}",
        ),
    ]


def draw(panel: Any, rows: Rows) -> None:
    """
    Draw each run, thin, and the median over runs; a run that ends keeps what it had.

    :param panel: Where to.
    :param rows: Rows of the left part.
    """
    points = np.unique([float(row["episode"]) for row in rows])
    for number, (algorithm, style) in enumerate({"ES": "-", "DDPG": "--", "PPO": ":"}.items()):
        here = [row for row in rows if row["algorithm"] == algorithm]
        heights = []
        for seed in dict.fromkeys(row["seed"] for row in here):
            run = {float(row["episode"]): float(row["return"]) for row in here if row["seed"] == seed}
            before = np.searchsorted(list(run), points, side="right") - 1
            heights.append(np.array(list(run.values()))[np.maximum(before, 0)])
            panel.step(points, heights[-1], where="post", color=COLORS[number], linewidth=0.8, alpha=0.6)
        if heights:
            median = np.median(heights, axis=0)
            panel.step(points, median, style, where="post", color=COLORS[number], linewidth=2.2, label=algorithm)
    panel.set_xscale("log")
    finish(panel, "training episodes (every member's)", "return, deterministic policy", "cyclic MDP, 3 runs and their median")
    panel.legend(frameon=False, loc="center left")
