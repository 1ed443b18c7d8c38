"""
Does it learn, by the zoo's commands? Trains with ``python -m sb3_esac.zoo train``, evaluates the saved model, appends a row.

    python -m experiments.zoo_check --algo es --env Swimmer-v5 --seeds 0 1 2
    python -m experiments.zoo_check --algo esac --env dm_control/cartpole-swingup-v0

Prints the command, and one line per run, which goes to ``experiments/results/zoo_check.csv`` as well. Runs stay in the folder
that ``--logs`` names. What is reported comes from 20 episodes of the last model on an environment of their own.
"""

import argparse
import csv
import os
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import yaml
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from experiments.tables import Tables, markdown, read_csv
from sb3_esac import ES, ESAC

RESULTS = Path(__file__).parent / "results" / "zoo_check.csv"
HYPERPARAMS = Path(__file__).parents[1] / "hyperparams"
ANCHORS = {"defaults", "mujoco", "dm_control", "continuous"}
"""Entries of hyperparameter files that are there to be referred to."""
ROOT = Path(__file__).resolve().parent.parent
CLASSES: dict[str, Any] = {"esac": ESAC, "es": ES}
TARGETS = {
    ("es", "CartPole-v1"): 500.0,
    ("es", "Swimmer-v5"): 340.0,
    ("es", "HalfCheetah-v5"): 5000.0,
    ("es", "Hopper-v5"): 2300.0,
    ("es", "CyclicMDP-v0"): 2000.0,
}
"""Returns that are to be reached."""


def train(algo: str, env: str, seed: int, logs: Path, extra: list[str]) -> tuple[str, float, Path]:
    """
    Run the zoo's command.

    :param algo: Algorithm.
    :param env: Environment.
    :param seed: Seed.
    :param logs: Folder of the zoo's logs.
    :param extra: More words of the command.
    :return: The command, how many seconds it took, and the folder of the run.
    """
    words = ["train", "--algo", algo, "--env", env, "--seed", str(seed), "--eval-freq", "-1", "-f", str(logs), *extra]
    before = set((logs / algo).glob(f"**/{Path(env).name}*.zip")) if (logs / algo).exists() else set()
    start = time.perf_counter()
    with (logs / f"{algo}_{env.replace('/', '-')}_{seed}.log").open("w") as log:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "-m", "sb3_esac.zoo", *words], check=True, stdout=log, stderr=log, env=environment)
    seconds = time.perf_counter() - start
    new = sorted(set((logs / algo).glob("*/*.zip")) - before, key=lambda path: path.stat().st_mtime)
    return f"python -m sb3_esac.zoo {' '.join(words)}", seconds, new[-1].parent


def evaluate(algo: str, env: str, seed: int, run: Path) -> dict[str, Any]:
    """
    Play what the run has left.

    :param algo: Algorithm.
    :param env: Environment.
    :param seed: Seed of the run.
    :param run: Its folder.
    """
    model_path = run / f"{env.replace('/', '-')}.zip"
    model = CLASSES[algo].load(model_path, device="cpu")
    made: gym.Env = Monitor(gym.make(env))
    if env.startswith("dm_control/"):
        from sb3_esac.envs.dm_control import FlatObservation

        made = FlatObservation(made)
    made.reset(seed=1_000_000 + seed)
    mean, std = cast(tuple[float, float], evaluate_policy(model, made, n_eval_episodes=20, deterministic=True))
    return {
        "return_mean": round(float(mean), 1),
        "return_std": round(float(std), 1),
        "total_steps": model.num_timesteps,
        "agent_steps": model.agent_timesteps,
        "gradient_updates": model._n_updates if algo == "esac" else 0,
    }


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--algo", default="es", choices=list(CLASSES))
    parser.add_argument("--env", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--logs", type=Path, default=Path("logs"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments, extra = parser.parse_known_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("MUJOCO_GL", "disable")
    if any(env.startswith("dm_control") for env in arguments.env):
        import shimmy  # noqa: F401
    arguments.logs.mkdir(parents=True, exist_ok=True)
    for env in arguments.env:
        for seed in arguments.seeds:
            command, seconds, run = train(arguments.algo, env, seed, arguments.logs.resolve(), extra)
            result = evaluate(arguments.algo, env, seed, run)
            target = TARGETS.get((arguments.algo, env))
            row = {"algo": arguments.algo, "env": env, "seed": seed, "target": "" if target is None else target, **result}
            row |= {"seconds": round(seconds), "cores": os.cpu_count(), "extra": " ".join(extra)}
            row |= {name: version(name) for name in ("sb3_esac", "stable_baselines3", "torch", "mujoco")}
            reached = "" if target is None else "reached, " if result["return_mean"] >= target else f"MISSED {target}, "
            print(
                f"{env} seed {seed}: {result['return_mean']} +- {result['return_std']}, {reached}{row['seconds']} s",
                flush=True,
            )
            is_new = not arguments.output.exists()
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            with arguments.output.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
            print(f"  {command}", flush=True)


def tasks(algorithm: str) -> str:
    """
    Tasks of a hyperparameter file, with the command that trains each and its budget.

    :param algorithm: Its name in the zoo, which is that of the file.
    """
    content = yaml.safe_load((HYPERPARAMS / f"{algorithm}.yml").read_text())
    rows = []
    for task, values in content.items():
        if task not in ANCHORS:
            name = "any other" if task == "default" else "every other game" if task == "atari" else task
            example = {"default": "TASK", "atari": "PongNoFrameskip-v4"}.get(task, task)
            command = f"python -m sb3_esac.zoo train --algo {algorithm} --env {example}"
            rows.append([name, f"`{command}`", f"{float(values['n_timesteps']):,.0f}"])
    return markdown(["task", "command", "true steps"], rows)


def table(algorithm: str, latest: bool = True) -> str:
    """
    What the zoo's commands have learned.

    :param algorithm: "es" or "esac".
    :param latest: Whether a later run of the same task and seed, by another entry of the file, replaces an earlier one.
    """
    rows = [row for row in read_csv(RESULTS) if row["algo"] == algorithm]
    if latest:
        rows = list({(row["env"], row["seed"]): row for row in rows}.values())
    columns = ["env", "seed", "target", "return_mean", "return_std", "total_steps", "gradient_updates", "seconds", "cores"]
    return markdown(columns, [[row[name] for name in columns] for row in rows])


TABLES: Tables = {
    "tasks of esac": lambda: tasks("esac"),
    "tasks of es": lambda: tasks("es"),
    "zoo check of esac": lambda: table("esac"),
    "zoo check of es": lambda: table("es"),
    "zoo check of es, every run": lambda: table("es", latest=False),
}


if __name__ == "__main__":
    main()
