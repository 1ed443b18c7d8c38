"""What ES and ESAC have in common: the loop over generations, logs, what is deployed, saving."""

import io
import pathlib
import sys
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common import utils
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_esac.arguments import OF_THE_EVALUATOR, Applied
from sb3_esac.boundary import SAVED_AS, Boundary, Pending, forget
from sb3_esac.champion import FINAL_PROBE_FRACTION
from sb3_esac.dashboard import write_layout
from sb3_esac.episode_caps import check_budget, horizon_of
from sb3_esac.evaluation.evaluator import EvaluationResult
from sb3_esac.evaluation.random_play import random_play
from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.vec_envs import can_postpone_resets
from sb3_esac.evaluation.vec_normalize import frozen
from sb3_esac.evaluation.vectors import copy_actor, load_vector
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.population import PopulationConfig
from sb3_esac.playing import PlayingAlgorithm

SelfPopulation = TypeVar("SelfPopulation", bound="PopulationBasedAlgorithm")


class PopulationBasedAlgorithm(PlayingAlgorithm):
    """
    A ``BaseAlgorithm`` that evaluates a population of perturbed actors, generation by generation.

    A subclass gives the actor whose parameters are searched and says what happens in a generation.
    """

    _boundary: Boundary | None = None
    """Where the present generation began, while it is played."""
    _pending: Pending | None = None
    """Where the generation began in which a loaded model was saved, until it learns."""

    @abstractmethod
    def _run_generation(self, callback: BaseCallback) -> bool:
        """
        Play one generation.

        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """

    @abstractmethod
    def _population_config(self) -> PopulationConfig:
        """Say what the arguments mean for the population."""

    @abstractmethod
    def _check_arguments(self, changed: Collection[str] | None) -> None:
        """
        Check the arguments as they are now.

        :param changed: Names of those that were changed, which must not be without effect; None for a new model.
        :raises ValueError: If one is not what it may be.
        """

    @property
    def _known_policies(self) -> dict[str, type[BasePolicy]]:
        return self.policy_aliases

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        known = self._known_policies
        if policy_name not in known:
            raise ValueError(f"Policy {policy_name!r} unknown: use one of {', '.join(map(repr, known))}, or a class")
        return known[policy_name]

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _learn(
        self,
        total_timesteps: float,
        callback: MaybeCallback,
        log_interval: int | None,
        tb_log_name: str,
        reset_num_timesteps: bool,
        progress_bar: bool,
    ) -> None:
        self._apply_arguments()
        budget = check_budget(total_timesteps, self.episode_length_schedule)
        total, callback = self._setup_learn(budget, callback, reset_num_timesteps, tb_log_name, progress_bar)
        # Callbacks such as the progress bar read this name from the locals.
        total_timesteps = total
        write_layout(self.logger, has_agent="agent" in self.seconds)
        callback.on_training_start(locals(), globals())
        self._apply_arguments()
        self._evaluator = self._make_evaluator()
        self._episode_caps.start_clock()
        try:
            while self.num_timesteps < total:
                self._apply_arguments()
                self._boundary = Boundary.of(self)
                if not self._set_episode_cap(callback):
                    break
                if self.num_timesteps >= total:
                    # Random play has taken all there was.
                    continue
                self._begin_generation()
                if not self._run_generation(callback):
                    break
                self._generation_start = None
                if log_interval is not None and self.population.generation % log_interval == 0:
                    self.dump_logs()
            else:
                self._boundary = Boundary.of(self)
                # Whoever deploys the model now should get the best that there is.
                candidates = self._candidates()
                n_episodes = self._n_probe_episodes(len(candidates), FINAL_PROBE_FRACTION)
                if n_episodes > 0:
                    self._probe(candidates, n_episodes, callback)
        finally:
            self._evaluator.close()
            self._evaluator = None
            forget(self)
            if self._generation_start is not None:
                # Cut short, it will be played again, whether this model goes on or one that is loaded from a file.
                self._population, self._generation_start = self._generation_start, None
        callback.on_training_end()

    def _setup_learn(  # type: ignore[override]
        self, total_timesteps: int, callback: MaybeCallback, reset_num_timesteps: bool, *args: Any
    ) -> tuple[int, BaseCallback]:
        # The total is counted from the steps that the user sees.
        total, callback = self._setup_call(total_timesteps, callback, reset_num_timesteps, *args)
        pending, self._pending = self._pending, None
        if pending is not None:
            if not reset_num_timesteps and pending.is_untouched(self):
                pending.go_back(self)
                self._num_timesteps_at_start = self.num_timesteps
            else:
                pending.begin_again(self)
        return total, callback

    def _setup_call(self, *args: Any) -> tuple[int, BaseCallback]:
        # SB3 resets the environment here. Nobody acts upon what it shows then, and a resumed run would count it once more.
        assert self.env is not None
        self._base_env.reset_is_postponed = can_postpone_resets(self.env)
        try:
            with frozen(self._vec_normalize_env):
                return super()._setup_learn(*args)
        finally:
            self._base_env.reset_is_postponed = False

    def _apply_arguments(self) -> None:
        """Go by the arguments as they are on the model now: whoever changed one since the last time meant it."""
        changed = self._applied.changed(self)
        if not changed:
            return
        self._applied.refuse_fixed(self, changed)
        self._check_arguments(changed)
        self._use_arguments(changed)
        self._applied = Applied(self)

    def _use_arguments(self, changed: set[str]) -> None:
        """
        Tell the parts of arguments that were changed; others are looked up where they are needed.

        :param changed: Their names, "env" if there is another environment.
        """
        if self.env is not self._applied.adopted_env:
            # Whoever put it there did not say so.
            assert self.env is not None
            self.set_env(self.env)
        self._configure_population(self._population_config())
        if "seed" in changed and self.seed != self.run_seed:
            self.set_random_seed(np.random.randint(2**31) if self.seed is None else self.seed)
        if "stats_window_size" in changed and self.ep_info_buffer is not None and self.ep_success_buffer is not None:
            self._stats_window_size = self.stats_window_size
            self.ep_info_buffer = deque(self.ep_info_buffer, maxlen=self.stats_window_size)
            self.ep_success_buffer = deque(self.ep_success_buffer, maxlen=self.stats_window_size)
        if self._evaluator is not None and not changed.isdisjoint([*OF_THE_EVALUATOR, "env"]):
            self._evaluator.close()
            self._evaluator = self._make_evaluator()

    def _set_episode_cap(self, callback: BaseCallback) -> bool:
        """Decide how long offspring may play in the coming generation; False if a callback asked to stop."""
        caps, schedule = self._episode_caps, self.episode_length_schedule
        assert not isinstance(schedule, dict)
        check_budget(self._total_timesteps, schedule)
        if caps.must_start(schedule):
            assert isinstance(schedule, ProgressiveEpisodeLength) and self.env is not None
            horizon = horizon_of(schedule, self.env)
            if schedule.is_measured:
                number = self.population.generation
                request = random_play(self.action_space, schedule.n_random_episodes, self.run_seed, number, horizon)
                result = self._play(self._on_lanes_in_turn(request), callback)
                if result is None:
                    return False
                caps.whole_length = float(result.lengths.mean())
            caps.phases = schedule.phases(horizon, caps.whole_length)
        if caps.advance(schedule, self._current_progress_remaining, self.num_timesteps, self._total_timesteps):
            # Offspring's returns will be of other lengths. Members that start from winners are played anew in any case, and
            # the champion's record is of whole episodes.
            self.champion.forget("mean", "winner")
        return True

    def _begin_generation(self) -> None:
        """Make all that follows a function of seed and generation; remember where a checkpoint has to start from."""
        seed = episode_seed(self.run_seed, self.population.generation, Stream.GLOBAL, 0)
        utils.set_random_seed(seed, using_cuda=self.device.type == th.device("cuda").type)
        self.action_space.seed(seed)
        self._generation_start = self.population.snapshot()

    def _log_population(self, result: EvaluationResult) -> None:
        returns = result.returns.mean(axis=1)
        finite = returns[np.isfinite(returns)]
        if finite.size:
            self.logger.record("population/return_mean", float(finite.mean()))
            self.logger.record("population/return_max", float(finite.max()))
            self.logger.record("population/return_std", float(finite.std()))
        self.logger.record("population/length_mean", float(result.lengths.mean()))
        self.logger.record("population/sigma", self.population.sigma)
        if self._episode_caps.cap is not None:
            self.logger.record("population/episode_length_cap", self._episode_caps.cap)
        if self.champion.record is not None:
            self.logger.record("champion/return_mean", self.champion.record.return_mean)

    def dump_logs(self) -> None:
        """Write what has been recorded since the last time."""
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        elapsed = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        if len(self.ep_info_buffer) > 0 and len(self.ep_info_buffer[0]) > 0:
            self.logger.record("rollout/ep_rew_mean", utils.safe_mean([info["r"] for info in self.ep_info_buffer]))
            self.logger.record("rollout/ep_len_mean", utils.safe_mean([info["l"] for info in self.ep_info_buffer]))
        if len(self.ep_success_buffer) > 0:
            self.logger.record("rollout/success_rate", utils.safe_mean(self.ep_success_buffer))
        self.logger.record("time/generations", self.population.generation)
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / elapsed))
        self.logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.record("time/agent_timesteps", self.agent_timesteps)
        self.logger.record("time/population_timesteps", self.population_timesteps)
        self.logger.record("time/probe_timesteps", self.probe_timesteps)
        self.logger.record("time/paper_timesteps", int(self.paper_timesteps))
        for phase, seconds in self.seconds.items():
            self.logger.record(f"time/{phase}_seconds", round(seconds, 3))
        self.logger.dump(step=self.num_timesteps)

    # -- acting --------------------------------------------------------------------------------------------------------

    @property
    def deployed_policy(self) -> BasePolicy:
        """What ``predict`` plays, as ``deploy`` says: the champion, the agent or the mean of the population."""
        if self.deploy == "population":
            return self._policy_of_mean()
        if self.deploy == "best" and self.champion.record is not None and not self._is_overtaken():
            return self.champion.actor
        return self._policy_of_agent()

    def _policy_of_agent(self) -> BasePolicy:
        return self.policy

    def _policy_of_mean(self) -> BasePolicy:
        if self._mean_actor is None or self._mean_actor[0] is not self.population.mean:
            actor = copy_actor(self.actor)
            load_vector(actor, self.population.mean)
            self._mean_actor = (self.population.mean, actor)
        return self._mean_actor[1]

    def predict(
        self,
        observation: np.ndarray | dict[str, np.ndarray],
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """
        Action of the deployed policy (see ``deploy``).

        :param observation: One observation or a batch.
        :param state: Not used, for compatibility with recurrent policies.
        :param episode_start: Not used, likewise.
        :param deterministic: Play the mean action. What population and champion were chosen for is this.
        :return: The action or actions, and ``state``.
        """
        return self.deployed_policy.predict(observation, state, episode_start, deterministic)

    # -- saving --------------------------------------------------------------------------------------------------------

    def _excluded_save_params(self) -> list[str]:
        hidden = ["env_fn", "_env_id", "_base_env", "_evaluator", "_applied"]
        hidden += ["_generation_start", "_mean_actor", "champion", "seconds"]
        hidden += ["_boundary", "_pending"]
        return [*super()._excluded_save_params(), *hidden]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["population", "champion.actor"], []

    def save(
        self,
        path: str | pathlib.Path | io.BufferedIOBase,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
    ) -> None:
        """
        Save everything but environment and replay buffer in a zip file.

        Within a generation the file holds the model as it is, and beside that how it was when the generation began:
        ``learn(..., reset_num_timesteps=False)`` goes on from there after loading, and plays the generation again.

        :param path: Path of the file.
        :param exclude: Names of attributes to leave out.
        :param include: Names of attributes to put in although they are left out by default.
        """
        self._champion_state = (self.champion.record, dict(self.champion.trends))
        current, pending = self._population, self._pending
        if self._boundary is not None:
            setattr(self, SAVED_AS, self._boundary.dump(self, exclude or ()))
        elif pending is not None and pending.is_untouched(self):
            setattr(self, SAVED_AS, pending.content)
        elif pending is not None:
            pending.begin_again(self)
        try:
            super().save(path, exclude, include)
        finally:
            self._population = current
            self.__dict__.pop(SAVED_AS, None)

    @classmethod
    def load(cls: type[SelfPopulation], path: Any, *args: Any, **kwargs: Any) -> SelfPopulation:
        """
        Load a model, as in SB3. It is what it was when it was saved; if that was within a generation, ``learn`` goes back to
        where that began.

        :param path: Zip file that ``save`` wrote.
        :param args: As in SB3.
        :param kwargs: As in SB3: ``env``, ``device``, ..., and arguments that take the place of the saved ones.
        :return: The model.
        """
        model = super().load(path, *args, **kwargs)
        model._pending = Pending.of(model)
        return model

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Train on another environment with the same spaces and number of lanes.

        :param env: The environment.
        :param force_reset: As in SB3; generations always begin with a reset.
        """
        super().set_env(env, force_reset)
        self._env_id = None
        self._adopt_env()
        self._applied.adopted_env = self.env

    def _adopt_env(self) -> None:
        """Tell the parts that hold an environment of a new one."""
        assert self.env is not None
        self._base_env = adopt(self.env)
