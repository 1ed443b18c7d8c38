"""Checkpoints of the zoo's ``--save-freq``, and how a run is finished from one with ``-i``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm


def part_of(trained_agent: str, part: str) -> Path | None:
    """
    Find what ``CheckpointCallback`` has saved beside a model.

    :param trained_agent: What ``-i`` was given.
    :param part: "replay_buffer" or "vecnormalize".
    :return: None if the model is no checkpoint or there is no such file.
    """
    path = Path(trained_agent)
    match = re.fullmatch(r"(.+)_(\d+)_steps\.zip", path.name)
    found = None if match is None else path.with_name(f"{match[1]}_{part}_{match[2]}_steps.pkl")
    return found if found is not None and found.is_file() else None


def is_unfinished(model: Any, trained_agent: str, n_timesteps: int) -> bool:
    """
    Whether a model was saved by ``--save-freq`` in the middle of a run with that many steps.

    :param model: The model as it was loaded.
    :param trained_agent: What ``-i`` was given.
    :param n_timesteps: What ``-n`` was given.
    """
    is_checkpoint = re.fullmatch(r"rl_model_\d+_steps\.zip", Path(trained_agent).name) is not None
    return is_checkpoint and model._pending is not None and model._total_timesteps == n_timesteps


@dataclass
class Unfinished:
    """
    Goes on with a run where the zoo would start a new one.

    :param model: The model of a checkpoint.
    """

    model: BaseAlgorithm

    @property
    def env(self) -> Any:
        """The model's environment."""
        return self.model.env

    def learn(self, total_timesteps: int, **kwargs: Any) -> None:
        """
        Play what is left of a run.

        :param total_timesteps: Steps of the whole run.
        :param kwargs: Other arguments of ``learn``.
        """
        left = total_timesteps - self.model.num_timesteps
        print(f"Going on with the run at step {self.model.num_timesteps} of {total_timesteps}")
        self.model.learn(left, reset_num_timesteps=False, **kwargs)
