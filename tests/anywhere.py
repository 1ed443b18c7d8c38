"""
Runs that are saved at any step, and go on from there.

As a script: ``python anywhere.py die FOLDER NAME STEP`` plays a run with ``CheckpointCallback`` and is killed at a step;
``python anywhere.py resume FOLDER NAME`` takes up the last checkpoint.
"""

import os
import pickle
import signal
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from helpers import HYBRIDS, Drift, Tell, drift, make_model, state_of
from stable_baselines3 import TD3, HerReplayBuffer
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from support import DictWalk, vec

from sb3_esac import ES, ESAC
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.strategies import STRATEGIES

TOTAL = 420
"""Steps of a whole run: about eight generations."""


def bits() -> VecEnv:
    """An environment with goals."""
    return DummyVecEnv([lambda: Monitor(BitFlippingEnv(n_bits=4, continuous=True, max_steps=4))])


@dataclass(frozen=True)
class Case:
    """
    A run.

    :param options: Arguments of the algorithm.
    :param make_env: Makes its environment.
    :param vec_normalize: Whether that is wrapped in ``VecNormalize``.
    :param algorithm: The algorithm.
    :param policy: The policy.
    """

    options: dict[str, Any] = field(default_factory=dict)
    make_env: Callable[[], VecEnv] = drift
    vec_normalize: bool = False
    algorithm: type = ESAC
    policy: str = "MlpPolicy"

    def new_model(self) -> Any:
        """The model of a new run."""
        env = VecNormalize(self.make_env()) if self.vec_normalize else self.make_env()
        return make_model(self.algorithm, env, self.policy, seed=5, **{"agent_fraction": 0.4, **self.options})

    def load(self, folder: Path, steps: int) -> Any:
        """
        Load a checkpoint, in the usual lines.

        :param folder: Where ``CheckpointCallback`` has left it.
        :param steps: The number in its name.
        """
        env = self.make_env()
        if self.vec_normalize:
            env = VecNormalize.load(str(folder / f"run_vecnormalize_{steps}_steps.pkl"), env)
        model = self.algorithm.load(folder / f"run_{steps}_steps", env=env)
        if self.algorithm in HYBRIDS:
            model.load_replay_buffer(folder / f"run_replay_buffer_{steps}_steps")
        return model


WRAPPED = dict(winner_fraction=0.75, buffer_size=60)
HINDSIGHT = dict(
    replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs=dict(n_sampled_goal=2), learning_starts=20, winner_fraction=0.75
)
TWO = dict(make_env=lambda: drift(2))

CASES = {
    "plain": Case(),
    "normalized": Case(dict(normalize_observations=True)),
    "wrapped": Case(WRAPPED),
    "wrapped_lanes": Case(WRAPPED, **TWO),
    "memory": Case(dict(WRAPPED, optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False))),
    "memory_not_full": Case(
        dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False)), **TWO
    ),
    "n_step": Case(dict(WRAPPED, n_steps=3)),
    "overlap": Case(dict(overlap=True, normalize_observations=True)),
    "overlap_workers": Case(dict(WRAPPED, overlap=True, backend="subproc", n_workers=2)),
    "workers": Case(dict(WRAPPED, backend="auto"), lambda: SubprocVecEnv([Drift, Drift])),
    "vec_normalize": Case(vec_normalize=True),
    "vec_normalize_overlap": Case(dict(overlap=True), vec_normalize=True, **TWO),
    "lengths": Case(dict(episode_length_schedule=ProgressiveEpisodeLength(horizon=12))),
    "who_leads": Case(dict(agent_fraction="auto")),
    "taught_while_it_is_behind": Case(dict(agent_fraction="auto", share_experience="auto")),
    "paper": Case(dict(agent_fraction=None, gradient_interval=1, amt_clip=0.01)),
    "es_adam": Case(dict(strategy="openai", es_optimizer="adam", n_eval_episodes=2)),
    "fixed_entropy": Case(dict(ent_coef=0.1, agent_average=0.0)),
    "td3": Case(
        dict(agent_class=TD3, ent_coef="auto", action_noise=OrnsteinUhlenbeckActionNoise(np.zeros(1), np.full(1, 0.1)))
    ),
    "sde": Case(dict(use_sde=True)),
    "hindsight": Case(HINDSIGHT, bits, policy="MultiInputPolicy"),
    "hindsight_wrapped": Case(dict(HINDSIGHT, buffer_size=40), bits, policy="MultiInputPolicy"),
    "hindsight_infos": Case(
        dict(HINDSIGHT, buffer_size=40, replay_buffer_kwargs=dict(copy_info_dict=True), share_experience=0.0),
        bits,
        policy="MultiInputPolicy",
    ),
    "dict": Case(WRAPPED, lambda: vec(1, DictWalk), policy="MultiInputPolicy"),
    "es": Case(dict(normalize_observations=True, champion_episodes=3), algorithm=ES),
    **{f"es_{name}": Case(dict(strategy=name, n_eval_episodes=2), algorithm=ES) for name in STRATEGIES},
    "es_canonical": Case(dict(strategy="canonical", population_size=5), algorithm=ES, **TWO),
    "es_workers": Case(dict(backend="subproc", n_workers=2), algorithm=ES),
    "es_vec_normalize": Case(dict(sigma=lambda remaining: 0.1 * remaining + 0.01), vec_normalize=True, algorithm=ES),
    "es_lengths": Case(dict(episode_length_schedule=ProgressiveEpisodeLength(horizon=12)), algorithm=ES),
}


class At(CheckpointCallback):
    """
    ``CheckpointCallback`` at chosen calls, saving all that it can.

    :param calls: Which calls.
    :param folder: Where to.
    :param look: Called with the model after each.
    """

    def __init__(self, calls: Collection[int], folder: Path, look: Callable[[Any], None] = lambda model: None) -> None:
        super().__init__(1, str(folder), "run", save_replay_buffer=True, save_vecnormalize=True)
        self.calls, self.look = calls, look

    def _on_step(self) -> bool:
        if self.n_calls in self.calls:
            super()._on_step()
            self.look(self.model)
        return True


def whole_state(model: Any) -> dict[str, Any]:
    """
    Everything that a run leaves behind.

    :param model: The model.
    """
    vec_normalize = model.get_vec_normalize_env()
    state = state_of(model)
    if vec_normalize is not None:
        parts = (vec_normalize.obs_rms, vec_normalize.ret_rms)
        state["vec_normalize"] = [(np.array(rms.mean), np.array(rms.var), rms.count) for rms in parts]
    return state


def go_on(model: Any) -> dict[str, Any]:
    """
    Play the rest of a run.

    :param model: A loaded model.
    :return: What it leaves behind.
    """
    # Nothing may depend on what these have been used for.
    np.random.seed(77)
    th.manual_seed(77)
    model.learn(TOTAL - model.num_timesteps, reset_num_timesteps=False)
    return whole_state(model)


def die(case: Case, folder: Path, step: int) -> None:
    """
    Play a run until it is killed.

    :param case: The run.
    :param folder: Where checkpoints go to.
    :param step: Steps after which the process is killed.
    """

    def kill(model: Any) -> None:
        if model.num_timesteps >= step:
            os.kill(os.getpid(), signal.SIGKILL)

    saving = CheckpointCallback(5, str(folder), "run", save_replay_buffer=True, save_vecnormalize=True)
    case.new_model().learn(TOTAL, callback=[saving, Tell(kill)])


def resume(case: Case, folder: Path) -> dict[str, Any]:
    """
    Take up the last checkpoint.

    :param case: The run.
    :param folder: Where it is.
    :return: Steps of the checkpoint, and what the run leaves behind.
    """
    steps = max(int(path.stem.split("_")[1]) for path in folder.glob("run_*_steps.zip"))
    return {"steps": steps, "final": go_on(case.load(folder, steps))}


if __name__ == "__main__":
    th.set_num_threads(1)
    what, where, name = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if what == "die":
        die(CASES[name], where, int(sys.argv[4]))
    else:
        (where / "resumed.pkl").write_bytes(pickle.dumps(resume(CASES[name], where)))
