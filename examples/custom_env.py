"""
An environment of one's own: a cart is to be brought to rest at a place that changes with each episode.

A class is enough. Give `gymnasium.register` a name for it to train by name.
"""

import argparse

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ESAC


class Parking(gym.Env):
    """A cart on a line: the observation is (distance to the place, speed), the action its acceleration."""

    def __init__(self) -> None:
        self.observation_space = gym.spaces.Box(-10.0, 10.0, (2,), np.float32)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        # Everything random comes from here, so that a seed decides it.
        self.state = np.array([self.np_random.uniform(-1.0, 1.0), 0.0])
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        distance, speed = self.state
        speed = np.clip(speed + 0.1 * float(action[0]), -2.0, 2.0)
        self.state = np.array([distance + 0.1 * speed, speed])
        terminated = bool(abs(self.state[0]) > 3.0)
        return self.state.astype(np.float32), -float(abs(self.state[0])) - 100.0 * terminated, terminated, False, {}


gym.register("Parking-v0", Parking, max_episode_steps=100)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=10_000)
steps = parser.parse_args().steps

check_env(Parking())
model = ESAC("MlpPolicy", gym.make("Parking-v0"), seed=0)
eval_env = Monitor(gym.make("Parking-v0"))
eval_env.reset(seed=1)
untrained, _ = evaluate_policy(model, eval_env, n_eval_episodes=10)
model.learn(steps)
trained, _ = evaluate_policy(model, eval_env, n_eval_episodes=10)
print(f"return: {untrained:.1f} untrained, {trained:.1f} after {model.num_timesteps} steps")
