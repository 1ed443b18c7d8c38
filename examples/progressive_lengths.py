"""
Progressive episode lengths (PEL): offspring play short episodes first, and longer ones as the budget is spent.

One object serves ES and ESAC. What is evaluated and deployed always plays whole episodes.
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure

from sb3_esac import ES
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.plotting import read_progress

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=200_000)
steps = parser.parse_args().steps

# Pendulum never ends early, so the first length must be said: an eighth of its 200 steps.
schedule = ProgressiveEpisodeLength("doubling", first_length=0.125)
model = ES("MlpPolicy", "Pendulum-v1", episode_length_schedule=schedule, seed=0)
model.set_logger(configure("runs/progressive_lengths", ["csv"]))
model.learn(steps)

caps = read_progress("runs/progressive_lengths/progress.csv")["population/episode_length_cap"]
for cap in sorted(set(caps)):
    print(f"at most {cap:3.0f} steps: {(caps == cap).sum()} generations")
mean, std = evaluate_policy(model, make_vec_env("Pendulum-v1", seed=1), n_eval_episodes=10)
print(f"return: {mean:.1f} +/- {std:.1f}")
print("wrote runs/progressive_lengths/progress.csv")
