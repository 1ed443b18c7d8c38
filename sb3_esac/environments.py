"""Whether a training environment lets episodes begin and end as a population has to."""

import warnings
from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.vec_envs import base_vec_env, forbids_early_resets


def check_lanes(model: Any) -> None:
    """
    Check that a model's environment lets episodes begin and end as its arguments say.

    :param model: The model; its environment has been adopted.
    :raises ValueError: If it does not.
    """
    schedule, env = model.episode_length_schedule, model.env
    train_freq: TrainFreq | None = None if model.learner is None else model.learner.agent.train_freq
    if forbids_early_resets(env):
        why = "`Monitor(allow_early_resets=False)` forbids: leave it True, or"
        if schedule is not None:
            raise ValueError(f"`episode_length_schedule={schedule!r}` cuts episodes, which {why} pass None")
        if train_freq is not None and (model.n_envs > 1 or train_freq.frequency != 1):
            raise ValueError(
                f"With {model.n_envs} environments and `train_freq={(train_freq.frequency, train_freq.unit.value)}` the "
                f"agent's turn ends within episodes, which {why} train on one environment with `train_freq=1`"
            )
    if schedule is not None and adopt(env).driver is None:
        raise ValueError(
            f"`episode_length_schedule={schedule!r}` cannot be used on {_kind(env)}, whose environments cannot be reset one "
            "by one: pass None"
        )


def warn_of_resets(env: VecEnv) -> None:
    """
    Say so if nobody can decide how the episodes of an environment begin.

    :param env: It has been adopted.
    """
    if adopt(env).driver is not None:
        return
    warnings.warn(
        f"{_kind(env)} resets its environments by itself, so the seeds of episodes are its own: a run is not repeated "
        "exactly, and one that is resumed is not the one that was never stopped.",
        stacklevel=2,
    )


def _kind(env: VecEnv) -> str:
    """Name of the user's class."""
    return type(base_vec_env(env)).__mro__[2].__name__
