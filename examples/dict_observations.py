"""
Observations of several parts: `MultiInputPolicy` takes a `Dict` space, images included.

Only parameters that decide the action are evolved; a features extractor of the actor's is one of them.
"""

import argparse

import gymnasium as gym
import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ESAC


class InParts(gym.ObservationWrapper):
    """Pendulum, with angle and speed told apart."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = gym.spaces.Dict(
            {"angle": gym.spaces.Box(-1.0, 1.0, (2,), np.float32), "speed": gym.spaces.Box(-8.0, 8.0, (1,), np.float32)}
        )

    def observation(self, observation: np.ndarray) -> dict[str, np.ndarray]:
        return {"angle": observation[:2], "speed": observation[2:]}


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps

model = ESAC("MultiInputPolicy", Monitor(InParts(gym.make("Pendulum-v1"))), seed=0, policy_kwargs=dict(net_arch=[64, 64]))
model.learn(steps)
mean, std = evaluate_policy(model, Monitor(InParts(gym.make("Pendulum-v1"))), n_eval_episodes=10)
print(model.observation_space)
print(f"return: {mean:.1f} +/- {std:.1f}")
