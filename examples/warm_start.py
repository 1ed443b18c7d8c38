"""
Start from a SAC that has been trained, and give a plain SAC back.

The file that `model.agent.save` writes is read by `SAC.load`, with no need of sb3_esac.
"""

import argparse

from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_esac import ESAC

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps


def evaluate(model: SAC | ESAC) -> float:
    """Mean return of ten episodes."""
    return evaluate_policy(model, make_vec_env("Pendulum-v1", seed=1), n_eval_episodes=10)[0]


sac = SAC("MlpPolicy", "Pendulum-v1", policy_kwargs=dict(net_arch=[64, 64]), seed=0, device="cpu")
sac.learn(int(steps) // 4)
sac.save("plain_sac")

model = ESAC.from_agent("plain_sac", "Pendulum-v1", seed=0, device="cpu")
print(f"SAC: {evaluate(sac):.4f}")
print(f"ESAC that starts from it: {evaluate(model):.4f}")
model.learn(steps)
print(f"ESAC later: {evaluate(model):.1f}")

model.agent.save("agent_of_esac")
print(f"its agent, as a plain SAC: {evaluate(SAC.load('agent_of_esac', device='cpu')):.1f}")
print("wrote agent_of_esac.zip")
