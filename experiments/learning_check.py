"""
Does it learn, with default arguments? Three tasks, each with the return and the number of true steps that it has to meet.

Training stops when an evaluation on a separate environment (5 episodes, of what ``predict`` plays) passes a threshold somewhat
above the target, or at the budget. What is reported comes from a last evaluation on other episodes.

    python -m experiments.learning_check                     # all tasks, seeds 0-2
    python -m experiments.learning_check --env Pendulum-v1 --seeds 0

Prints one line per run and appends it to ``experiments/results/learning_check.csv``.
"""

import argparse
import csv
import os
import platform
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import gymnasium as gym
import stable_baselines3
import torch as th
from stable_baselines3.common.callbacks import EvalCallback, StopTrainingOnRewardThreshold
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from experiments.tables import Tables, columns, markdown, read_csv
from sb3_esac import ESAC, __version__

RESULTS = Path(__file__).parent / "results" / "learning_check.csv"


@dataclass(frozen=True)
class Task:
    """
    What has to be reached.

    :param total_timesteps: Budget given to ``learn``; the last generation is finished, so a little more may be played.
    :param limit: True steps within which the return has to be reached.
    :param target: Mean return of ``model.predict`` over the evaluation episodes.
    :param threshold: Mean return at which training stops.
    """

    total_timesteps: int
    limit: int
    target: float
    threshold: float


TASKS = {
    "Pendulum-v1": Task(16_500, 20_000, -200.0, -120.0),
    "InvertedDoublePendulum-v5": Task(80_000, 100_000, 9000.0, 9300.0),
    "HalfCheetah-v5": Task(280_000, 300_000, 4000.0, 4300.0),
}


@dataclass(frozen=True)
class Row:
    """One run."""

    env: str
    seed: int
    target: float
    return_mean: float
    return_std: float
    episodes: int
    reached: bool
    total_steps: int
    agent_steps: int
    population_steps: int
    gradient_updates: int
    seconds: float
    cpu_seconds: float
    evaluation_seconds: float
    gradient_seconds: float
    champion: str
    threads: int
    sb3_esac: str
    stable_baselines3: str
    torch: str
    machine: str


def _stop_at(task: Task, name: str) -> EvalCallback:
    stop = StopTrainingOnRewardThreshold(task.threshold)
    frequency = task.total_timesteps // 20
    return EvalCallback(Monitor(gym.make(name)), callback_on_new_best=stop, eval_freq=frequency, n_eval_episodes=5, verbose=0)


def run(name: str, seed: int, n_episodes: int) -> Row:
    """
    Train with default arguments and evaluate what ``predict`` plays on a separate environment.

    :param name: Task.
    :param seed: Seed of the run.
    :param n_episodes: Episodes of the evaluation.
    :return: The outcome.
    """
    task = TASKS[name]
    model = ESAC("MlpPolicy", name, seed=seed)
    start, cpu_start = time.perf_counter(), time.process_time()
    model.learn(task.total_timesteps, callback=_stop_at(task, name))
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    evaluation_env = Monitor(gym.make(name))
    evaluation_env.reset(seed=1_000_000 + seed)
    played = evaluate_policy(model, evaluation_env, n_eval_episodes=n_episodes, deterministic=True)
    mean, std = cast(tuple[float, float], played)
    record = model.champion.record
    return Row(
        env=name,
        seed=seed,
        target=task.target,
        return_mean=round(float(mean), 2),
        return_std=round(float(std), 2),
        episodes=n_episodes,
        reached=bool(mean >= task.target and model.num_timesteps <= task.limit),
        total_steps=model.num_timesteps,
        agent_steps=model.agent_timesteps,
        population_steps=model.population_timesteps,
        gradient_updates=model._n_updates,
        seconds=round(seconds, 1),
        cpu_seconds=round(cpu_seconds, 1),
        evaluation_seconds=round(model.seconds["population"], 1),
        gradient_seconds=round(model.seconds["gradient"], 1),
        champion=record.source if record is not None else "",
        threads=th.get_num_threads(),
        sb3_esac=__version__,
        stable_baselines3=stable_baselines3.__version__,
        torch=th.__version__,
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
    )


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=20, help="evaluation episodes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    RESULTS.parent.mkdir(exist_ok=True)
    for name in arguments.env:
        for seed in arguments.seeds:
            row = asdict(run(name, seed, arguments.episodes))
            is_new = not RESULTS.exists()
            with RESULTS.open("a", newline="") as file:
                writer = csv.DictWriter(file, row)
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
            verdict = "reached" if row["reached"] else "MISSED"
            print(
                f"{name} seed {seed}: {row['return_mean']:.0f} +- {row['return_std']:.0f} ({verdict} {row['target']:.0f}) "
                f"after {row['total_steps']} true steps, {row['gradient_updates']} updates, {row['seconds']:.0f} s "
                f"({row['cpu_seconds']:.0f} s of CPU)",
                flush=True,
            )


def update_cost() -> str:
    """What a gradient update takes, by the learning check."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in read_csv(RESULTS):
        cost = 1000 * float(row["gradient_seconds"]) / float(row["gradient_updates"])
        cells.setdefault((row["env"], row["threads"]), []).append(cost)
    lines = [[*key, len(costs), f"{min(costs):.1f}", f"{max(costs):.1f}"] for key, costs in cells.items()]
    return markdown(["env", "threads", "runs", "fastest", "slowest"], lines)


TABLES: Tables = {
    "learning check": lambda: columns(
        RESULTS, "env", "seed", "target", "return_mean", "total_steps", "gradient_updates", "seconds", "threads"
    ),
    "cost of an update": update_cost,
}


if __name__ == "__main__":
    main()
