"""
Another gradient agent than SAC: TD3, or TQC if sb3-contrib is installed.

Any off-policy algorithm of Stable-Baselines3 with an actor will do; arguments that SAC does not have go into `agent_kwargs`.
"""

import argparse
from importlib.util import find_spec

from stable_baselines3 import TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_esac import ESAC

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps

agents: dict[type, dict] = {TD3: {"policy_delay": 2, "target_policy_noise": 0.1}}
if find_spec("sb3_contrib") is not None:
    from sb3_contrib import TQC

    agents[TQC] = {"top_quantiles_to_drop_per_net": 2}

for agent_class, agent_kwargs in agents.items():
    model = ESAC("MlpPolicy", "Pendulum-v1", agent_class=agent_class, agent_kwargs=agent_kwargs, seed=0)
    model.learn(steps)
    mean, std = evaluate_policy(model, make_vec_env("Pendulum-v1", seed=1), n_eval_episodes=10)
    print(f"{agent_class.__name__} as the agent, return: {mean:.1f} +/- {std:.1f}")
