"""
All cores: whole episodes of the offspring are played in the processes of a `SubprocVecEnv`.

The agent steps the environments together, as SAC does. `env_fn` tells how to make a copy for the offspring. Results do not
depend on the number of processes; a script that starts some needs the guard at its end.
"""

import argparse
import time

import gymnasium as gym
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_esac import ESAC


def make_env() -> gym.Env:
    """Make one environment."""
    return gym.make("Pendulum-v1")


def main() -> None:
    """Train, and say how fast it was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=30_000)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()

    env = make_vec_env(make_env, n_envs=arguments.processes, seed=0, vec_env_cls=SubprocVecEnv)
    # By default the population plays only when the agent is stuck; here it has half of the steps, in as many processes.
    model = ESAC("MlpPolicy", env, env_fn=make_env, seed=0, agent_fraction=0.5)
    start = time.perf_counter()
    model.learn(arguments.steps)
    seconds = time.perf_counter() - start
    env.close()
    print(f"{model.population_timesteps / model.seconds['population']:,.0f} steps of offspring per second")
    print(f"{model.num_timesteps / seconds:,.0f} steps per second with everything else")
    mean, std = evaluate_policy(model, make_vec_env(make_env, seed=1), n_eval_episodes=10)
    print(f"return: {mean:.1f} +/- {std:.1f}")


if __name__ == "__main__":
    main()
