"""
Microseconds of CPU that a step of LunarLander takes with the render mode that SB3 gives environments made by name, and with
none: ``python -m benchmarks.render_mode``. A lander that hovers; the same actions, and the returns are compared.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np

from benchmarks.evaluation import RESULTS, write
from experiments.tables import Tables, columns

ENV = "LunarLanderContinuous-v3"
FIELDS = ["env", "render_mode", "steps", "us_per_step", "fastest", "slowest", "mean_return"]


def hover(observation: np.ndarray) -> np.ndarray:
    """
    Hold the lander upright and above the pad.

    :param observation: (8,) position, velocity, angle, angular velocity, contacts.
    :return: (2,) throttles.
    """
    x, y, x_speed, y_speed, angle, turning = observation[:6]
    lean = np.clip(0.5 * x + x_speed, -0.4, 0.4)
    main, side = 10.0 * (0.3 - y) - 10.0 * y_speed - 1.0, 20.0 * turning - 10.0 * (lean - angle)
    action: np.ndarray = np.clip([main, side], -1.0, 1.0).astype(np.float32)
    return action


def play(env: gym.Env, seed: int) -> tuple[int, float, float]:
    """
    Play an episode.

    :param env: Where to.
    :param seed: Of the episode.
    :return: Steps, seconds of CPU for a step, return.
    """
    observation, _ = env.reset(seed=seed)
    steps, total, ended, start = 0, 0.0, False, time.process_time()
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(hover(observation))
        steps, total, ended = steps + 1, total + float(reward), terminated or truncated
    return steps, (time.process_time() - start) / steps, total


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, and write a table.

    :param arguments: Words of the command line, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULTS / "render_mode.csv")
    options = parser.parse_args(arguments)
    envs = {mode: gym.make(ENV, render_mode=mode) for mode in ("rgb_array", None)}
    played: dict[str | None, list[tuple[int, float, float]]] = {mode: [] for mode in envs}
    for seed in range(options.episodes):
        for mode, env in envs.items():
            played[mode].append(play(env, seed))
    rows = []
    for mode, episodes in played.items():
        times = [1e6 * seconds for _, seconds, _ in episodes]
        rows.append(
            {
                "env": ENV,
                "render_mode": mode or "None",
                "steps": sum(steps for steps, _, _ in episodes),
                "us_per_step": round(median(times)),
                "fastest": round(min(times)),
                "slowest": round(max(times)),
                "mean_return": round(float(np.mean([total for _, _, total in episodes])), 3),
            }
        )
        print(*rows[-1].values(), sep="  ")
    write(rows, FIELDS, options.output)
    return rows


TABLES: Tables = {
    "render mode": lambda: columns(
        RESULTS / "render_mode.csv", "env", "render_mode", "us_per_step", "fastest", "slowest", "mean_return"
    )
}


if __name__ == "__main__":
    main()
