"""
Train ESAC on one task, evaluate what it deploys and draw the learning curve.

Example: ``python examples/train.py --env InvertedDoublePendulum-v5 --steps 6e4 --seed 0 --set population_size=20``
"""

import argparse
import ast
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

from sb3_esac import ESAC
from sb3_esac.plotting import plot_run
from sb3_esac.quiet import quieten_mujoco

# Training, evaluation during it and the final evaluation start from different states
EVAL_SEED_OFFSET = 10_000
FINAL_SEED_OFFSET = 20_000


def integer(text: str) -> int:
    """
    Read a count, also when it is written as a float such as ``3e5``.

    :param text: what stands on the command line
    :return: the count
    """
    value = float(text)
    if value != int(value) or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a positive whole number, not {text}")
    return int(value)


def option(text: str) -> tuple[str, Any]:
    """
    Read one constructor argument, ``name=value``.

    :param text: what stands on the command line
    :return: name, and value as a Python literal (as text where it is none)
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be name=value, not {text}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def parse_arguments() -> argparse.Namespace:
    """
    Read the command line.

    :return: the options, with defaults filled in
    """
    parser = argparse.ArgumentParser(description="Train ESAC, evaluate what it deploys, draw the learning curve.")
    parser.add_argument("--env", default="InvertedDoublePendulum-v5", help="id of a Gymnasium environment with Box actions")
    parser.add_argument("--steps", type=integer, default=60_000, help="true environment steps, agent and population together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="run folder, default: runs/<env>_<seed>")
    parser.add_argument("--eval-freq", type=integer, help="steps between evaluations, default: a twentieth of the run")
    parser.add_argument("--eval-episodes", type=integer, default=5, help="episodes per evaluation")
    parser.add_argument("--final-episodes", type=integer, default=20, help="episodes of the final evaluation")
    parser.add_argument("--no-progress-bar", action="store_true")
    parser.add_argument(
        "--set",
        type=option,
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="constructor arguments of ESAC, e.g. sigma=0.02",
    )
    arguments = parser.parse_args()
    arguments.output = (arguments.output or Path("runs") / f"{arguments.env.replace('/', '_')}_{arguments.seed}").resolve()
    arguments.eval_freq = arguments.eval_freq or max(arguments.steps // 20, 1)
    return arguments


def train(arguments: argparse.Namespace) -> tuple[ESAC, float]:
    """
    Train one model, with evaluations on an environment of their own, and save it.

    :param arguments: the command line
    :return: the trained model, and how many seconds ``learn`` took
    """
    folder = arguments.output
    env = make_vec_env(arguments.env, n_envs=1, seed=arguments.seed)
    eval_env = make_vec_env(arguments.env, n_envs=1, seed=arguments.seed + EVAL_SEED_OFFSET)
    model = ESAC("MlpPolicy", env, seed=arguments.seed, verbose=0, **dict(arguments.set))
    model.set_logger(configure(str(folder), ["csv"] + ["tensorboard"] * (find_spec("tensorboard") is not None)))
    evaluation = EvalCallback(
        eval_env,
        n_eval_episodes=arguments.eval_episodes,
        eval_freq=arguments.eval_freq,
        log_path=str(folder),
        best_model_save_path=str(folder),
        deterministic=True,
        verbose=0,
    )
    start = time.perf_counter()
    model.learn(arguments.steps, callback=evaluation, progress_bar=not arguments.no_progress_bar)
    elapsed = time.perf_counter() - start
    model.save(folder / "model.zip")
    eval_env.close()
    return model, elapsed


def report(model: ESAC, elapsed: float) -> str:
    """
    Sum up where steps and time went.

    :param model: the trained model
    :param elapsed: seconds that ``learn`` took
    :return: a table
    """
    rows = [
        ("environment steps", f"{model.num_timesteps:,}"),
        ("  by the agent", f"{model.agent_timesteps:,}"),
        ("  by the population", f"{model.population_timesteps:,}"),
        ("gradient updates", f"{model._n_updates:,}"),
        ("seconds", f"{elapsed:,.1f}"),
        ("  population", f"{model.seconds['population']:,.1f}"),
        ("  agent", f"{model.seconds['agent']:,.1f}"),
        ("  gradients", f"{model.seconds['gradient']:,.1f}"),
        ("  callbacks, evaluations", f"{model.seconds['callback']:,.1f}"),
        ("  elsewhere", f"{elapsed - sum(model.seconds.values()):,.1f}"),
    ]
    return "\n".join(f"{name:<30}{value:>14}" for name, value in rows)


def main() -> None:
    """Train, evaluate, draw, and say where everything went."""
    arguments = parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    start_folder = Path.cwd()
    # MuJoCo writes its log into the working directory
    os.chdir(arguments.output)
    quieten_mujoco()

    print(f"ESAC on {arguments.env}, {arguments.steps:,} steps, seed {arguments.seed}")
    model, elapsed = train(arguments)
    final_env = make_vec_env(arguments.env, n_envs=1, seed=arguments.seed + FINAL_SEED_OFFSET)
    returns, lengths = evaluate_policy(
        model, final_env, n_eval_episodes=arguments.final_episodes, deterministic=True, return_episode_rewards=True
    )
    final_env.close()
    # The layout of an EvalCallback's file
    np.savez(
        arguments.output / "final_evaluation.npz", timesteps=[model.num_timesteps], results=[returns], ep_lengths=[lengths]
    )

    print(report(model, elapsed))
    print(f"\nreturn over {arguments.final_episodes} episodes: {np.mean(returns):.2f} +/- {np.std(returns):.2f}")
    written = [arguments.output / "model.zip"]
    if find_spec("matplotlib") is None:
        print("no learning curve: it needs the extra `plots`")
    else:
        written.append(plot_run(arguments.output))
    for path in written:
        print(os.path.relpath(path, start_folder))


if __name__ == "__main__":
    main()
