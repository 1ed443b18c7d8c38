"""
A training process is killed, and another one goes on from its last save, as if nothing had happened: bit for bit.

A callback saves model and replay buffer whenever a generation begins. The folder gets its name when all is in it, so a process
that dies while it saves leaves the save before untouched.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback

from sb3_esac import ESAC

SAVES = Path("runs/crash")


class SaveGenerations(BaseCallback):
    """Save between two generations; the two latest saves are kept."""

    generation = -1

    def _on_rollout_start(self) -> None:
        model = self.model
        # The agent's rollouts begin here as well.
        if model.population.generation == self.generation:
            return
        self.generation = model.population.generation
        draft = SAVES / "draft"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        model.save(draft / "model")
        model.save_replay_buffer(draft / "buffer")
        os.replace(draft, SAVES / f"{self.generation:06d}")
        for old in sorted(SAVES.glob("[0-9]*"))[:-2]:
            shutil.rmtree(old)

    def _on_step(self) -> bool:
        return True


def make_model() -> ESAC:
    """A new run."""
    # The population plays half of the steps, by default only those for which the agent is stuck. Generations are short.
    options = {"agent_fraction": 0.5, "population_size": 4, "buffer_size": 50_000, "batch_size": 64, "train_freq": 4}
    return ESAC("MlpPolicy", "Pendulum-v1", seed=0, device="cpu", **options)


def train(steps: int) -> ESAC:
    """Train, from the last save if there is one."""
    saves = sorted(SAVES.glob("[0-9]*"))
    if not saves:
        return make_model().learn(steps, callback=SaveGenerations())
    model = ESAC.load(saves[-1] / "model", env=gym.make("Pendulum-v1"), device="cpu")
    model.load_replay_buffer(saves[-1] / "buffer")
    print(f"going on from generation {model.population.generation}, step {model.num_timesteps}")
    callback = SaveGenerations()
    # That one is there.
    callback.generation = model.population.generation
    return model.learn(steps - model.num_timesteps, callback=callback, reset_num_timesteps=False)


def main() -> None:
    """Train in a process, kill it, go on, and compare with a run that nobody killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=float, default=20_000)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    steps = int(arguments.steps)
    if arguments.child:
        train(steps)
        return

    shutil.rmtree(SAVES, ignore_errors=True)
    child = subprocess.Popen([sys.executable, __file__, "--child", "--steps", str(steps)])
    while child.poll() is None and len(list(SAVES.glob("[0-9]*"))) < 2:
        time.sleep(0.01)
    child.kill()
    print(f"killed: {child.wait() < 0}")
    resumed = train(steps)
    whole = make_model().learn(steps)
    print(f"resumed: {resumed.num_timesteps} steps, without interruption: {whole.num_timesteps} steps")
    print(f"the population's mean is the same: {(resumed.population.mean == whole.population.mean).all()}")
    actors = [model.agent.actor.state_dict().values() for model in (resumed, whole)]
    print(f"the agent's actor is the same: {all((one == other).all() for one, other in zip(*actors, strict=True))}")
    resumed.save(SAVES / "final")
    print(f"wrote {SAVES / 'final.zip'}")


if __name__ == "__main__":
    main()
