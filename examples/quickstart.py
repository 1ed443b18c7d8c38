"""
Train ESAC, look at what it deploys, save it, load it, go on.

The interface is Stable-Baselines3's: whoever has written ``SAC("MlpPolicy", env)`` knows the rest.
"""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_esac import ESAC

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps

model = ESAC("MlpPolicy", "Pendulum-v1", seed=0, verbose=1)
# Every step counts: the population's as well as the agent's.
model.learn(steps)
model.save("quickstart")

model = ESAC.load("quickstart", env=model.get_env())
model.learn(steps / 10, reset_num_timesteps=False)
# Evaluation has an environment of its own.
mean, std = evaluate_policy(model, make_vec_env("Pendulum-v1", seed=1), n_eval_episodes=10)
print(f"{model.num_timesteps} steps, {model.agent_timesteps} of them by the agent")
print(f"return: {mean:.1f} +/- {std:.1f}")
print("wrote quickstart.zip")
