"""
What returns are worth: for each task, random play is 0 and a declared reference is 1.

``python -m experiments.references`` prints the table; with ``--run`` random play is measured first, for tasks that
``experiments/results/random_returns.csv`` does not have yet.
"""

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.jobs import make_env, versions
from experiments.tables import markdown
from sb3_esac.quiet import quieten_mujoco

RESULTS = Path(__file__).parent / "results"
RANDOM_RETURNS = RESULTS / "random_returns.csv"
SEED = 2_000_000
"""Seed of the first random episode: far from those that anything is trained or evaluated on."""

ZOO = "rl-zoo3's benchmark.md, SAC"
BOUND = "the most that the task can pay: 1 for each of 1000 steps"


@dataclass(frozen=True)
class Reference:
    """
    A return that is worth 1.

    :param value: Undiscounted return.
    :param source: Where it is from.
    """

    value: float
    source: str


REFERENCES: dict[str, Reference] = {
    "Pendulum-v1": Reference(-156.995, f"{ZOO}, 20k steps"),
    "InvertedDoublePendulum-v5": Reference(9359.35, "ESAC's Table 1 (ESAC, v2); the most possible is a little more"),
    "Reacher-v5": Reference(-3.75, "gymnasium's reward threshold"),
    "Swimmer-v5": Reference(345.568, f"{ZOO} (v3, gamma 0.9999), 1M steps"),
    "LunarLanderContinuous-v3": Reference(260.390, f"{ZOO} (v2), 500k steps"),
    "Hopper-v5": Reference(2325.547, f"{ZOO} (v3), 1M steps"),
    "HalfCheetah-v5": Reference(9535.451, f"{ZOO} (v3), 1M steps"),
    "Walker2d-v5": Reference(3863.203, f"{ZOO} (v3), 1M steps"),
    "Ant-v5": Reference(4615.791, f"{ZOO} (v3), 1M steps"),
    "Humanoid-v5": Reference(6232.287, f"{ZOO} (v3), 2M steps"),
    "CartPole-v1": Reference(500.0, "the most that the task can pay: 1 for each of 500 steps"),
    **{
        f"dm_control/{name}-v0": Reference(1000.0, BOUND)
        for name in (
            "humanoid-stand",
            "humanoid-walk",
            "humanoid-run",
            "cheetah-run",
            "cartpole-swingup",
            "acrobot-swingup",
            "quadruped-walk",
            "quadruped-run",
            "walker-walk",
            "walker-run",
            "fish-upright",
            "fish-swim",
        )
    },
}
"""
By task. v5's rewards differ in details from v3's, on which rl-zoo3 published (one run each): 1 means "about what a tuned SAC
ends at", not a record.
"""


def measure(task: str, n_episodes: int) -> np.ndarray:
    """
    Play at random.

    :param task: Environment.
    :param n_episodes: How many episodes.
    :return: (n_episodes,) returns.
    """
    env = make_env(task)
    env.action_space.seed(SEED)
    returns = np.zeros(n_episodes)
    for episode in range(n_episodes):
        env.reset(seed=SEED + episode)
        ended = False
        while not ended:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            returns[episode] += float(reward)
            ended = terminated or truncated
    env.close()
    return returns


def random_returns(path: Path = RANDOM_RETURNS) -> dict[str, float]:
    """
    Read mean returns of random play.

    :param path: File that ``--run`` wrote.
    """
    if not path.exists():
        return {}
    with path.open() as file:
        return {row["task"]: float(row["return_mean"]) for row in csv.DictReader(file)}


def run(tasks: Sequence[str], n_episodes: int, path: Path) -> None:
    """
    Measure what is missing.

    :param tasks: Environments.
    :param n_episodes: Episodes of each.
    :param path: File of the results.
    """
    known = random_returns(path)
    for task in tasks:
        if task in known:
            continue
        returns = measure(task, n_episodes)
        is_new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(["task", "return_mean", "return_std", "episodes", "versions"])
            numbers = [f"{value:.4g}" for value in (returns.mean(), returns.std(ddof=1))]
            writer.writerow([task, *numbers, n_episodes, versions()])


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Measure if asked to, and print the table.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", action="store_true", help="measure random play")
    parser.add_argument("--tasks", nargs="+", default=list(REFERENCES))
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--output", type=Path, default=RANDOM_RETURNS)
    options = parser.parse_args(arguments)
    if options.run:
        quieten_mujoco()
        run(options.tasks, options.episodes, options.output)
    random = random_returns(options.output)
    rows = []
    for task in options.tasks:
        reference = REFERENCES.get(task)
        shown = ("", "the mean last return of the baseline") if reference is None else (reference.value, reference.source)
        rows.append([task, f"{random[task]:.4g}" if task in random else "not measured", *shown])
    print(markdown(["task", "random play", "reference", "source of the reference"], rows))


if __name__ == "__main__":
    main()
