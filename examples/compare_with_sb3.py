"""
ESAC beside SAC, TD3 and PPO: the same lines for each, the same number of true steps, one picture.

One seed says little about which algorithm is better; it shows that they are interchangeable. Needs the extra `plots`.
"""

import argparse

from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_esac import ESAC
from sb3_esac.plotting import plot_comparison

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="Pendulum-v1")
parser.add_argument("--steps", type=int, default=20_000)
parser.add_argument("--eval-freq", type=int, default=2_000)
arguments = parser.parse_args()

folders = []
for algorithm in (ESAC, SAC, TD3, PPO):
    folder = f"runs/compare/{algorithm.__name__}"
    model = algorithm("MlpPolicy", make_vec_env(arguments.env, seed=0), seed=0, device="cpu")
    eval_env = make_vec_env(arguments.env, seed=1)
    evaluation = EvalCallback(eval_env, n_eval_episodes=3, eval_freq=arguments.eval_freq, log_path=folder, verbose=0)
    model.learn(arguments.steps, callback=evaluation)
    print(f"{algorithm.__name__:<5} last return: {evaluation.last_mean_reward:.1f}")
    folders.append(folder)

print("wrote", plot_comparison(folders, "runs/compare/comparison.png", title=arguments.env))
