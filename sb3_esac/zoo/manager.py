"""rl-zoo3's experiment manager, taught what the algorithms of this package need."""

import copy
import sys
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import optuna
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt
from gymnasium.envs.registration import EnvSpec
from rl_zoo3.utils import get_class_by_name
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.logger import CSVOutputFormat
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, VecNormalize
from stable_baselines3.her import HerReplayBuffer

from sb3_esac import ES, ESAC
from sb3_esac.arguments import defaults_of
from sb3_esac.evaluation.backends import asks_for_workers
from sb3_esac.evaluation.monitor_files import OffspringFile
from sb3_esac.evaluation.vec_envs import base_vec_env
from sb3_esac.validation import EFFECTS, ES_EFFECTS, Effect, effective
from sb3_esac.zoo.checkpoints import Unfinished, is_unfinished, part_of
from sb3_esac.zoo.files import hyperparameter_file, linear_schedule

ALGORITHMS = ("esac", "es")
"""Names on the command line."""

KINDS: dict[str, tuple[type[BaseAlgorithm], Collection[Effect]]] = {"esac": (ESAC, EFFECTS), "es": (ES, ES_EFFECTS)}
"""What they stand for, and when its arguments have an effect."""

FLATTENED = "sb3_esac.envs.dm_control.FlatObservation"
"""Wrapper that DM Control tasks need, whose observations are dicts with scalars in them."""

SCHEDULES = {"esac": ("agent_fraction", "agent_probability", "learning_rate"), "es": ("sigma",)}
"""Arguments that may be written as ``lin_0.5``, as the zoo writes learning rates, or ``lin_0.5_0.1`` with the end as well."""


@dataclass(frozen=True)
class LaneFactory:
    """
    Makes an environment as the zoo makes those that it trains on, in whatever process.

    :param spec: What is registered.
    :param env_kwargs: Arguments of the environment.
    :param monitor_kwargs: Arguments of the ``Monitor``.
    :param wrapper: The zoo's ``env_wrapper``.
    :param offspring_file: Where the process that trains writes down what workers play.
    """

    spec: EnvSpec
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    monitor_kwargs: dict[str, Any] = field(default_factory=dict)
    wrapper: Callable[[gym.Env], gym.Env] | None = None
    offspring_file: OffspringFile | None = None

    def __call__(self) -> gym.Env:
        env: gym.Env = Monitor(self.spec.make(**self.env_kwargs), **self.monitor_kwargs)
        return env if self.wrapper is None else self.wrapper(env)


class ProgressFile(BaseCallback):
    """
    Keeps what is logged in a ``progress.csv`` as well, which ``python -m sb3_esac.plot`` draws.

    :param path: The file; its folder has to be there as training starts.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self._output: CSVOutputFormat | None = None

    def _on_training_start(self) -> None:
        self._output = CSVOutputFormat(str(self.path))
        self.logger.output_formats.append(self._output)

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        # The zoo says so once more, also where Ctrl-C has come before training had started.
        if self._output is not None and self._output in self.logger.output_formats:
            self.logger.output_formats.remove(self._output)
            self._output.close()


class ExperimentManager(rl_zoo3.exp_manager.ExperimentManager):
    """
    The zoo's manager, for its own algorithms unchanged. For ours it

    - finds their hyperparameters without ``-conf``,
    - tells the algorithm how to make copies of the environment, so that offspring can play in processes,
    - flattens the observations of DM Control tasks that no file names,
    - saves checkpoints with the statistics of ``VecNormalize``, with ``--save-replay-buffer`` the replay buffer too, and
      finishes the run, to the last bit, if the same command is given one of them with ``-i``,
    - keeps what is logged beside the evaluations, and with ``--vec-env subproc`` the offspring's episodes in
      ``offspring.monitor.csv``,
    - leaves out, with ``-optimize`` and ``--trial-id``, what the file says in vain beside a trial's arguments,
    - saves the model after Ctrl-C, whatever has become of the environment's processes,
    - understands ``agent_class: sb3_contrib.TQC``, ``agent_fraction: lin_0.5`` and ``sigma: lin_0.1_0.02``.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        folder = Path(rl_zoo3.exp_manager.__file__).parent / "hyperparams"
        if self._is_ours() and Path(self.config) == folder / f"{self.algo}.yml":
            self.config = str(hyperparameter_file(self.algo))
        self._trial: dict[str, Any] = {}

    def _is_ours(self) -> bool:
        return self.algo in ALGORITHMS

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        if self.algo == "esac" and self._is_atari:
            sys.exit(f"esac-zoo: {self.env_name.gym_id} has discrete actions, ESAC is for continuous ones: pass --algo es")
        hyperparams, saved = super().read_hyperparameters()
        if self._is_ours() and self.env_name.gym_id.startswith("dm_control/") and "env_wrapper" not in hyperparams:
            print(f"Flattening the observations of {self.env_name.gym_id}")
            hyperparams["env_wrapper"] = saved["env_wrapper"] = FLATTENED
        if self._is_ours() and self._trial:
            asked_for = {name: hyperparams[name] for name in {*self._trial, *(self.custom_hyperparams or {})}}
            hyperparams = self._without_idle(hyperparams, asked_for)
            saved = {name: value for name, value in saved.items() if name in hyperparams}
        return hyperparams, saved

    def load_trial(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self._trial = super().load_trial(*args, **kwargs)
        return self._trial

    def objective(self, trial: optuna.Trial) -> float:
        if not self._is_ours():
            return super().objective(trial)
        hindsight = self._hyperparams.get("replay_buffer_class") == HerReplayBuffer
        about_her = {
            "using_her_replay_buffer": hindsight,
            "her_kwargs": self._hyperparams.get("replay_buffer_kwargs", {}),
        }
        # A trial that is asked again says the same. Trials may run at once, so each has a manager of its own.
        sample = rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER[self.algo](trial, self.n_actions, self.n_envs, about_her)
        manager = copy.copy(self)
        manager._hyperparams = self._without_idle(self._hyperparams, sample)
        return super(ExperimentManager, manager).objective(trial)

    def _without_idle(self, arguments: dict[str, Any], trial: dict[str, Any]) -> dict[str, Any]:
        """Leave out what has no effect beside a trial's arguments: a file was written for others."""
        kind, effects = KINDS[self.algo]
        others = {name: value for name, value in arguments.items() if name not in trial}
        return {**effective(effects, defaults_of(kind), others, trial), **{k: arguments[k] for k in trial if k in arguments}}

    def create_callbacks(self) -> None:
        super().create_callbacks()  # type: ignore[no-untyped-call]
        if self._is_ours():
            self.callbacks.append(ProgressFile(Path(self.save_path) / "progress.csv"))
            for callback in self.callbacks:
                if isinstance(callback, CheckpointCallback):
                    callback.save_replay_buffer, callback.save_vecnormalize = self.save_replay_buffer, True

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        statistics = part_of(self.trained_agent, "vecnormalize") if self._is_ours() else None
        if statistics is None:
            return super()._maybe_normalize(env, eval_env)
        normalized = VecNormalize.load(str(statistics), env)
        if eval_env:
            normalized.training = normalized.norm_reward = False
        return normalized

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        buffer = part_of(self.trained_agent, "replay_buffer") if self._is_ours() else None
        if self.algo == "esac" and buffer is None and is_unfinished(model, self.trained_agent, self.n_timesteps):
            print("No replay buffer was saved (--save-replay-buffer): the run goes on with an empty one, so not bit for bit")
        if buffer is not None and hasattr(model, "load_replay_buffer"):
            print("Loading replay buffer")
            model.load_replay_buffer(buffer, truncate_last_traj=self.truncate_last_trajectory)
        return model

    def learn(self, model: Any) -> None:
        goes_on = self._is_ours() and is_unfinished(model, self.trained_agent, self.n_timesteps)
        if goes_on:
            model.set_random_seed(model._pending.run_seed)
        try:
            # All that the zoo does with it is to call `learn` and to close `env`.
            super().learn(cast(BaseAlgorithm, Unfinished(model)) if goes_on else model)
        except (BrokenPipeError, ConnectionResetError, EOFError) as error:
            # Ctrl-C reaches the processes of the environment as well: none is left to be told to close, and the model
            # is still to be saved.
            if not _raised_while_closing(error):
                raise
            if error.__context__ is not None:
                raise error.__context__ from None

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        if self._is_ours():
            for name in SCHEDULES[self.algo]:
                value = hyperparams.get(name)
                if isinstance(value, str) and (name, value) != ("agent_fraction", "auto"):
                    hyperparams[name] = linear_schedule(name, value)
            if isinstance(hyperparams.get("agent_class"), str):
                hyperparams["agent_class"] = get_class_by_name(hyperparams["agent_class"])
        return super()._preprocess_hyperparams(hyperparams)

    @classmethod
    def _preprocess_schedules(cls, hyperparams: dict[str, Any]) -> dict[str, Any]:
        # The zoo reads schedules that end at zero, and refuses those that have been read already.
        read = {name: value for name, value in hyperparams.items() if isinstance(value, LinearSchedule)}
        others = {name: value for name, value in hyperparams.items() if name not in read}
        return {**super()._preprocess_schedules(others), **read}

    def _preprocess_action_noise(
        self, hyperparams: dict[str, Any], saved_hyperparams: dict[str, Any], env: VecEnv
    ) -> dict[str, Any]:
        # The last step before a model is made, and the first at which everything about the environment is known.
        hyperparams = super()._preprocess_action_noise(hyperparams, saved_hyperparams, env)
        # The environment's own lanes need no copy.
        if self._is_ours() and asks_for_workers(env, hyperparams.get("backend", "auto"), hyperparams.get("n_workers")):
            spec = gym.spec(self.env_name.gym_id)
            file = self._offspring_file(env)
            hyperparams["env_fn"] = LaneFactory(spec, self.env_kwargs, self.monitor_kwargs, self.env_wrapper, file)
        return hyperparams

    def _offspring_file(self, env: VecEnv) -> OffspringFile | None:
        """A file for what workers play, where the zoo's own files are written by other processes."""
        if self.optimize_hyperparameters or not isinstance(base_vec_env(env), SubprocVecEnv):
            return None
        path = str(Path(self.save_path) / "offspring.monitor.csv")
        return OffspringFile(path, tuple(self.monitor_kwargs.get("info_keywords", ())))


def _raised_while_closing(error: BaseException) -> bool:
    """Whether an exception comes from closing a ``VecEnv``."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(frame.f_code.co_name == "close" and isinstance(frame.f_locals.get("self"), VecEnv) for frame in frames)
