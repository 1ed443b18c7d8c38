"""
`VecNormalize`: save its statistics beside the model, and load both.

ESAC can also normalise observations inside the policy (`normalize_observations`, on by default without such a wrapper): then
there is one file and nothing to forget.
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ESAC

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps

env = VecNormalize(make_vec_env("Pendulum-v1", seed=0), norm_reward=False)
model = ESAC("MlpPolicy", env, seed=0)
model.learn(steps)
model.save("normalized")
env.save("normalized_statistics.pkl")


def evaluate(model: ESAC, statistics: str) -> float:
    """Play ten episodes with statistics from a file, which stay as they are."""
    eval_env = VecNormalize.load(statistics, make_vec_env("Pendulum-v1", seed=1))
    eval_env.training = False
    return evaluate_policy(model, eval_env, n_eval_episodes=10)[0]


before = evaluate(model, "normalized_statistics.pkl")
after = evaluate(ESAC.load("normalized"), "normalized_statistics.pkl")
print(f"return: {before:.4f} before saving, {after:.4f} after loading")
print("wrote normalized.zip")
print("wrote normalized_statistics.pkl")
