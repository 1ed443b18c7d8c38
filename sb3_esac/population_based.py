"""What ES and ESAC have in common: the loop over generations, logs, what is deployed, saving."""

import io
import pathlib
import sys
import time
from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common import utils
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback

from sb3_esac.champion import FINAL_PROBE_FRACTION
from sb3_esac.dashboard import write_layout
from sb3_esac.episode_caps import horizon_of
from sb3_esac.evaluation.evaluator import EvaluationResult
from sb3_esac.evaluation.parameters import copy_actor, load_vector
from sb3_esac.evaluation.random_play import random_play
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.playing import PlayingAlgorithm


class PopulationBasedAlgorithm(PlayingAlgorithm):
    """
    A ``BaseAlgorithm`` that evaluates a population of perturbed actors, generation by generation.

    A subclass gives the actor whose parameters are searched and says what happens in a generation.
    """

    @abstractmethod
    def _run_generation(self, callback: BaseCallback) -> bool:
        """
        Play one generation.

        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
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
        total, callback = self._setup_learn(int(total_timesteps), callback, reset_num_timesteps, tb_log_name, progress_bar)
        # Callbacks such as the progress bar read this name from the locals.
        total_timesteps = total
        write_layout(self.logger, has_agent="agent" in self.seconds)
        callback.on_training_start(locals(), globals())
        self._evaluator = self._make_evaluator()
        self._episode_caps.start_clock()
        try:
            while self.num_timesteps < total:
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
                # Whoever deploys the model now should get the best that there is.
                candidates = self._candidates()
                n_episodes = self._n_probe_episodes(len(candidates), FINAL_PROBE_FRACTION)
                if n_episodes > 0:
                    self._probe(candidates, n_episodes, callback)
        finally:
            self._evaluator.close()
            self._evaluator = None
            if self._generation_start is not None:
                # Cut short, it will be played again, whether this model goes on or one that is loaded from a file.
                self._population, self._generation_start = self._generation_start, None
        callback.on_training_end()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        vec_normalize = self._vec_normalize_env
        if vec_normalize is None:
            return super()._setup_learn(*args, **kwargs)
        # SB3 resets the environment here. Nobody acts upon what it shows then, and a resumed run would count it once more.
        training, vec_normalize.training = vec_normalize.training, False
        try:
            return super()._setup_learn(*args, **kwargs)
        finally:
            vec_normalize.training = training

    def _set_episode_cap(self, callback: BaseCallback) -> bool:
        """Decide how long offspring may play in the coming generation; False if a callback asked to stop."""
        caps, schedule = self._episode_caps, self.episode_length_schedule
        assert not isinstance(schedule, dict)
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
        hidden = ["env_fn", "_env_id", "_evaluator", "_generation_start", "_mean_actor", "champion", "seconds"]
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

        In mid-generation the population is saved as it was when the generation began, and plays it again after loading.

        :param path: Path of the file.
        :param exclude: Names of attributes to leave out.
        :param include: Names of attributes to put in although they are left out by default.
        """
        self._champion_state = (self.champion.record, dict(self.champion.trends))
        current = self._population
        if self._generation_start is not None:
            self._population = self._generation_start
        try:
            super().save(path, exclude, include)
        finally:
            self._population = current

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Train on another environment with the same spaces and number of lanes.

        :param env: The environment.
        :param force_reset: As in SB3; generations always begin with a reset.
        """
        super().set_env(env, force_reset)
        self._env_id = None
        self._adopt_env()

    def _adopt_env(self) -> None:
        """Tell the parts that hold an environment of a new one."""
