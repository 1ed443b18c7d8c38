"""
Evolution alone, on the cyclic MDP of the paper: 2000 steps in which one mistake ends the episode, and discrete actions.

A return of 2000 is the solution.
"""

import argparse

import gymnasium as gym
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ES

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=100_000)
steps = parser.parse_args().steps

model = ES(
    "MlpPolicy", "CyclicMDP-v0", strategy="canonical", population_size=10, sigma=0.3, normalize_observations=False, seed=0
)
model.learn(steps)
mean, _ = evaluate_policy(model, Monitor(gym.make("CyclicMDP-v0")), n_eval_episodes=1)
print(f"{model.population.generation} generations, return: {mean:.0f}{', solved' if mean == 2000 else ''}")
