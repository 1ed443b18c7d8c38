"""
Leave out or add one part of the algorithm at a time, replace one by something else, and watch a run by callbacks.

Mutation tuning and crossover are operators: callbacks that fire once per generation, in the list `model.operators`. All
callbacks of Stable-Baselines3 work as well; their cadence is in true steps.
"""

import argparse

from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_esac import ESAC
from sb3_esac.callbacks import Generation, Operator


class Cooling(Operator):
    """A rule of one's own: sigma shrinks by one percent after each gradient interval."""

    def apply(self, generation: Generation) -> None:
        if generation.agent_trained:
            generation.population.sigma *= 0.99


class CountGenerations(BaseCallback):
    """What any callback of Stable-Baselines3 can do: `self.model` is the ESAC model."""

    generations = 0

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        self.generations = self.model.population.generation


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=float, default=15_000)
steps = parser.parse_args().steps

variants = {
    "ESAC": {},
    "no agent": {"agent_fraction": 0.0},
    "shared experience": {"share_experience": 0.1},
    "crossover": {"crossover": "row"},
    "no mutation tuning": {"operators": []},
    "cooling": {"operators": [Cooling()]},
}
print(f"{'variant':<22}{'return':>10}{'sigma':>9}{'generations':>13}")
for name, change in variants.items():
    arguments = {key: value for key, value in change.items() if key != "operators"}
    # By default the population plays only when the agent is stuck; here there is to be something to compare.
    arguments = {"agent_fraction": 0.8, **arguments}
    model = ESAC("MlpPolicy", make_vec_env("Pendulum-v1", seed=0), seed=0, **arguments)
    # Those that the arguments ask for, unless something else is said.
    model.operators = change.get("operators", model.operators)
    eval_env = make_vec_env("Pendulum-v1", seed=1)
    evaluation = EvalCallback(eval_env, n_eval_episodes=3, eval_freq=int(steps / 2), verbose=0)
    counter = CountGenerations()
    model.learn(steps, callback=[evaluation, counter])
    print(f"{name:<22}{evaluation.best_mean_reward:>10.1f}{model.population.sigma:>9.4f}{counter.generations:>13}")
