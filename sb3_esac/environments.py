"""Whether a training environment lets episodes begin and end as a population has to."""

import warnings
from typing import Any

from stable_baselines3.common.type_aliases import TrainFreq

from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.vec_envs import base_vec_env, forbids_early_resets


def check_lanes(model: Any, train_freq: TrainFreq | None = None) -> None:
    """
    Check that a model's environment lets episodes begin and end as the model has to.

    :param model: The model; its environment has been adopted.
    :param train_freq: The agent's, None if there is no agent.
    """
    schedule, env = model.episode_length_schedule, model.env
    if forbids_early_resets(env):
        why = "`Monitor(allow_early_resets=False)` forbids: leave it True, or"
        if schedule is not None:
            raise ValueError(f"`episode_length_schedule={schedule!r}` cuts episodes, which {why} pass None")
        if train_freq is not None and (model.n_envs > 1 or train_freq.frequency != 1):
            raise ValueError(
                f"With {model.n_envs} environments and `train_freq={(train_freq.frequency, train_freq.unit.value)}` the "
                f"agent's turn ends within episodes, which {why} train on one environment with `train_freq=1`"
            )
    if adopt(env).driver is not None:
        return
    kind = type(base_vec_env(env)).__mro__[2].__name__
    if schedule is not None:
        raise ValueError(
            f"`episode_length_schedule={schedule!r}` cannot be used on {kind}, whose environments cannot be reset one by one: "
            "pass None"
        )
    warnings.warn(
        f"{kind} resets its environments by itself, so the seeds of episodes are its own: a run is not repeated exactly, and "
        "one that is resumed is not the one that was never stopped.",
        stacklevel=2,
    )
