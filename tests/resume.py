"""
Runs that are interrupted at the end of a generation and go on in another process.

As a script: ``python resume.py FOLDER NAME...`` takes up each run that :func:`interrupt` has left in the folder.
"""

import pickle
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from helpers import HYBRIDS, Tell, drift, keep_log, make_model, state_of, without_clock
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.evolution.strategies import STRATEGIES

TOTAL = 900
"""Steps of a whole run."""


@dataclass(frozen=True)
class Case:
    """
    A run.

    :param options: Arguments of the algorithm.
    :param n_envs: Number of environments.
    :param vec_normalize: Whether they are wrapped in ``VecNormalize``.
    :param algorithm: The algorithm.
    """

    options: dict[str, Any] = field(default_factory=dict)
    n_envs: int = 1
    vec_normalize: bool = False
    algorithm: type = ESAC

    def make_env(self) -> VecEnv:
        """The environment of a new run."""
        env = drift(self.n_envs)
        return VecNormalize(env) if self.vec_normalize else env


CASES = {
    "plain": Case(),
    "normalize_observations": Case(dict(normalize_observations=True)),
    "vec_normalize": Case(vec_normalize=True),
    "two_environments": Case(dict(share_experience=1.0), n_envs=2),
    "paper": Case(dict(agent_fraction=None, gradient_interval=1, amt_clip=0.01)),
    "es_adam": Case(dict(strategy="openai", es_optimizer="adam", n_eval_episodes=2)),
    "overlap": Case(dict(overlap=True, normalize_observations=True)),
    "schedules": Case(
        dict(learning_rate=lambda remaining: 1e-2 * remaining, agent_fraction=lambda remaining: 0.5 - 0.4 * remaining)
    ),
    **{name: Case(dict(strategy=name, n_eval_episodes=2), algorithm=ES) for name in STRATEGIES},
    "openai": Case(dict(normalize_observations=True, weight_decay=0.005, champion_episodes=3), algorithm=ES),
    "canonical": Case(dict(strategy="canonical", population_size=5, n_eval_episodes=2), n_envs=2, algorithm=ES),
    "es_vec_normalize": Case(dict(es_optimizer="sgd"), vec_normalize=True, algorithm=ES),
}


def interrupt(case: Case, folder: Path) -> dict[str, Any]:
    """
    Train without interruption, and leave in a folder what the end of a generation in the middle looked like.

    :param case: The run.
    :param folder: Where everything is written to.
    :return: Generation and steps of the checkpoint, states at the checkpoint and at the end, and what was logged after it.
    """
    folder.mkdir(parents=True)
    result: dict[str, Any] = {}

    def save(model: Any) -> None:
        if model.num_timesteps < TOTAL / 2 or result:
            return
        model.save(folder / "model")
        if case.algorithm in HYBRIDS:
            model.save_replay_buffer(folder / "buffer")
        if case.vec_normalize:
            model.get_vec_normalize_env().save(str(folder / "vec_normalize.pkl"))
        result.update(generation=model.population.generation, steps=model.num_timesteps, state=state_of(model))
        result["n_entries"] = len(log)

    model = make_model(case.algorithm, case.make_env(), seed=3, **case.options)
    log = keep_log(model)
    model.learn(TOTAL, callback=Tell(on_generation=save))
    return {**result, "final": state_of(model), "log": without_clock(log[result["n_entries"] :])}


def resume(case: Case, folder: Path) -> dict[str, Any]:
    """
    Take a run up again.

    :param case: The run.
    :param folder: Where :func:`interrupt` has left it.
    :return: States as it was taken up and at its end, and what was logged.
    """
    env: VecEnv = drift(case.n_envs)
    if case.vec_normalize:
        env = VecNormalize.load(str(folder / "vec_normalize.pkl"), env)
    # Nothing may depend on what these have been used for.
    np.random.seed(77)
    th.manual_seed(77)
    model = case.algorithm.load(folder / "model", env=env)
    if case.algorithm in HYBRIDS:
        model.load_replay_buffer(folder / "buffer")
    loaded = state_of(model)
    log = keep_log(model)
    model.learn(TOTAL - model.num_timesteps, reset_num_timesteps=False)
    statistics = env.obs_rms.mean if isinstance(env, VecNormalize) else None
    return {"state": loaded, "final": state_of(model), "log": without_clock(log), "statistics": statistics}


if __name__ == "__main__":
    th.set_num_threads(1)
    for name in sys.argv[2:]:
        here = Path(sys.argv[1]) / name
        (here / "resumed.pkl").write_bytes(pickle.dumps(resume(CASES[name], here)))
