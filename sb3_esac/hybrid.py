"""A population beside a gradient agent: what is delegated to the agent, its intervals, and what the two share."""

import io
import pathlib
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_esac.agent.averaging import AveragedActor
from sb3_esac.agent.building import check_accepted, make_agent, make_room, plain_agent, share_experience
from sb3_esac.agent.sharing import SharedExperience, add_episode
from sb3_esac.agent.updates import Updates
from sb3_esac.arguments import collect_arguments, delegate_arguments
from sb3_esac.champion import Candidate
from sb3_esac.clock import ClockedCallback, without_callbacks
from sb3_esac.environments import check_lanes
from sb3_esac.evaluation.disturbance import Patience
from sb3_esac.evaluation.evaluator import EvaluationResult
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evaluation.rollout import Recording, stack
from sb3_esac.evaluation.seeded_episodes import ASLEEP
from sb3_esac.evaluation.statistics import ObservationMoments, observation_moments
from sb3_esac.evaluation.vec_envs import forbids_early_resets
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.population import Origin
from sb3_esac.population_based import PopulationBasedAlgorithm
from sb3_esac.validation import check_vec_normalize

FRESH_FRACTION = 0.01
"""Statistics follow the agent in steps of this size: often while nothing has been learned, and never by a jump."""


LEVEL_EPISODES = 5
"""What the agent is worth is judged by so many of its last episodes in an interval."""


@delegate_arguments
class HybridAlgorithm(PopulationBasedAlgorithm):
    """
    A population and a gradient agent, ``self.agent``: a stock off-policy algorithm on the same environment.

    The agent is the one truth for its networks, buffer, counters and for the arguments that it reads while it learns (see
    :data:`~sb3_esac.arguments.OF_THE_AGENT`); the properties here read them.
    """

    agent: OffPolicyAlgorithm
    agent_class: type[OffPolicyAlgorithm]
    agent_kwargs: dict[str, Any]
    buffer_size: int
    gradient_steps: int
    batch_size: int
    learning_starts: int
    action_noise: ActionNoise | None
    share_experience: float
    share_from: str
    agent_average: float
    updates: str
    averaged: AveragedActor | None = None

    def _setup_agent(self) -> None:
        """Build the agent; its counters have come with the rest of the state if a model is being loaded."""
        self.agent = make_agent(self)
        for name, value in getattr(self, "_agent_counters", {}).items():
            setattr(self.agent, name, value)
        self._updates = Updates(self.agent, self.updates)
        if self.agent_average > 0:
            self.averaged = AveragedActor(self.actor, self.agent_average)
        if normalizers(self.policy):
            self.agent.save = partial(_save_plain_agent, self.agent)  # type: ignore[method-assign]

    def _adopt_env(self) -> None:
        super()._adopt_env()
        assert self.env is not None
        check_vec_normalize(self._vec_normalize_env, self.observation_space, self.normalize_observations)
        if self.agent.env is not self.env:
            self.agent.set_env(self.env)
        make_room(self, self.agent)
        assert isinstance(self.agent.train_freq, TrainFreq)
        check_lanes(self, self.agent.train_freq)
        self._ends_episodes = forbids_early_resets(self.env)

    # -- what is delegated to the agent --------------------------------------------------------------------------------

    @property
    def policy(self) -> Any:  # type: ignore[override]
        """The agent's policy: actor, critic and target. What ``predict`` plays is ``deployed_policy``."""
        return self.agent.policy

    @property
    def actor(self) -> Any:
        """The agent's actor."""
        return self.agent.actor

    @property
    def critic(self) -> Any:
        """The agent's critic."""
        return self.agent.critic  # type: ignore[attr-defined]

    @property
    def critic_target(self) -> Any:
        """The agent's target critic."""
        return self.agent.critic_target  # type: ignore[attr-defined]

    @property
    def log_ent_coef(self) -> th.Tensor | None:
        """Logarithm of the agent's entropy coefficient, None if it is fixed or the agent has none."""
        return getattr(self.agent, "log_ent_coef", None)

    @property
    def ent_coef_optimizer(self) -> th.optim.Optimizer | None:
        """Optimiser of the agent's entropy coefficient, None if it is fixed or the agent has none."""
        return getattr(self.agent, "ent_coef_optimizer", None)

    @property
    def replay_buffer(self) -> ReplayBuffer | None:
        """The agent's replay buffer; the population's store is its ``population_store``."""
        return self.agent.replay_buffer

    @replay_buffer.setter
    def replay_buffer(self, buffer: ReplayBuffer) -> None:
        self.agent.replay_buffer = buffer
        share_experience(self, self.agent)

    @property
    def agent_timesteps(self) -> int:
        """Steps of the agent."""
        agent = self.__dict__.get("agent")
        return 0 if agent is None else agent.num_timesteps

    @property
    def _n_updates(self) -> int:
        agent = self.__dict__.get("agent")
        return 0 if agent is None else agent._n_updates

    @_n_updates.setter
    def _n_updates(self, value: int) -> None:
        if "agent" in self.__dict__:
            self.agent._n_updates = value

    def _reset_counters(self) -> None:
        super()._reset_counters()
        self.seconds.update(agent=0.0, gradient=0.0)
        self._agent_level, self._agent_error = float("nan"), 0.0
        self._n_random_episodes = 0
        self._random_returns: list[float] = []
        if "agent" in self.__dict__:
            self.agent.num_timesteps = 0

    def save_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase) -> None:
        """
        Save the replay buffer, the population's store included.

        :param path: Path of the file.
        """
        self.agent.save_replay_buffer(path)

    def load_replay_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """
        Load a replay buffer, one that a plain agent saved as well.

        :param path: Path of the file.
        :param truncate_last_traj: As in SB3, for ``HerReplayBuffer``.
        """
        self.agent.load_replay_buffer(path, truncate_last_traj)
        buffer = share_experience(self, self.agent)
        store = buffer.population_store
        if store is not None:
            store.device = self.agent.device
            if isinstance(store, HerReplayBuffer) and store.env is None and self.env is not None:
                store.set_env(self.env)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total, callback = super()._setup_learn(*args, **kwargs)
        agent = self.agent
        agent.ep_info_buffer, agent.ep_success_buffer = self.ep_info_buffer, self.ep_success_buffer
        agent._logger, agent._total_timesteps = self.logger, total
        agent.start_time = self.start_time
        # What was given to the constructor has not been told how many lanes there are.
        self.action_noise = agent.action_noise
        return total, callback

    def _use_arguments(self, changed: set[str]) -> None:
        super()._use_arguments(changed)
        agent = self.agent
        check_accepted(self)
        if "learning_rate" in changed and "lr_schedule" not in changed:
            # SAC needs `_setup_lr_schedule` to be called; nobody who changes the one means to keep the other.
            self._setup_lr_schedule()
        agent.verbose = self.verbose
        agent.ep_info_buffer, agent.ep_success_buffer = self.ep_info_buffer, self.ep_success_buffer
        share_experience(self, agent)
        if "updates" in changed:
            self._updates = Updates(agent, self.updates)
        if self.averaged is not None and self.agent_average > 0:
            self.averaged.window = self.agent_average
        elif "agent_average" in changed:
            self.averaged = AveragedActor(self.actor, self.agent_average) if self.agent_average > 0 else None

    # -- experience ----------------------------------------------------------------------------------------------------

    def _recording(self) -> Recording:
        return replace(super()._recording(), transitions=self.share_experience > 0)

    def _share(self, result: EvaluationResult, fitness: np.ndarray) -> None:
        """Put offspring's transitions, the winners' or all, into the population's store."""
        buffer = self.agent.replay_buffer
        assert isinstance(buffer, SharedExperience)
        store = buffer.population_store
        if store is None or self.share_experience == 0:
            return
        order = np.argsort(-np.where(np.isfinite(fitness), fitness, -np.inf), kind="stable")
        record = None if buffer.undo is None else buffer.undo.population
        sharing = set(order[: self.population.config.n_winners] if self.share_from == "winners" else order)
        for episode in result.episodes:
            if episode.member in sharing and episode.transitions is not None:
                actions = self.policy.scale_action(episode.transitions.actions)
                add_episode(store, episode.transitions, actions, record)

    def _merge_into_vec_normalize(self, result: EvaluationResult) -> None:
        # As below. The wrapper may have come with statistics, so that nothing is forgotten when the agent begins.
        if not self._agent_scales_observations():
            super()._merge_into_vec_normalize(result)

    def _take_observations(self, fresh: ObservationMoments) -> None:
        # An early population does next to nothing and sees little of the world: inputs on the scale of that would saturate an
        # agent that explores.
        if not (self._agent_scales_observations() and self._agent_has_begun()):
            self._update_normalizers(fresh)

    def _agent_has_begun(self) -> bool:
        # A new call of `learn` counts steps from zero, but not updates.
        return self.agent_timesteps > 0 or self._n_updates > 0

    def _update_normalizers(self, fresh: ObservationMoments) -> None:
        # What the agent has learned must not jump with what others see. What it was born with has nothing to keep, and its own
        # observations change it bit by bit, while weights that had to keep up would grow out of scale.
        keep_functions = self._n_updates > 0 and not self._agent_scales_observations()
        beside = [] if self.averaged is None else [self.averaged.actor]
        update_normalizers(self.policy, fresh, keep_functions=keep_functions, beside=beside)
        # A copy that was made to play the mean has the statistics of before.
        self._mean_actor = None

    def _candidates(self) -> dict[str, Candidate]:
        # Without updates both are the same.
        actor = self.actor if self.averaged is None else self.averaged.actor
        agent = Candidate(to_vector(actor), self._agent_level)
        return {"agent": agent, **super()._candidates()}

    def _policy_of_agent(self) -> BasePolicy:
        # Before the first update parameters may have come from the user.
        return self.policy if self.averaged is None or self._n_updates == 0 else self.averaged.actor

    def _restart_average(self) -> None:
        if self.averaged is not None:
            self.averaged.restart()

    def _is_overtaken(self) -> bool:
        # Who explores as random play does has shown nothing: its mean policy may be far worse than the noise around it.
        if self._random_returns and self._agent_level - self._agent_error <= np.mean(self._random_returns):
            return False
        return self.champion.is_overtaken(self._agent_level, self._agent_error)

    def _note_defeat(self, source: str) -> None:
        # Without noise it plays worse than its last episodes promised: it does not stand in for the champion any longer.
        if source == "agent":
            self.champion.note_defeat(self._agent_level)
            self._agent_level = float("nan")

    # -- gradient interval ---------------------------------------------------------------------------------------------

    @abstractmethod
    def _agent_scales_observations(self) -> bool:
        """Whether observations are normalised by what the agent sees, not by what everybody sees."""

    @abstractmethod
    def _interval_goes_on(self, n_episodes: int) -> bool:
        """
        Whether the agent begins another episode.

        :param n_episodes: Episodes that it has finished in this interval.
        """

    def _gradient_interval(self, callback: BaseCallback) -> bool:
        """The agent plays whole episodes and learns between its steps (lines 12-23); False if a callback asked to stop."""
        agent, buffer = self.agent, self.agent.replay_buffer
        assert isinstance(buffer, SharedExperience) and isinstance(agent.train_freq, TrainFreq)
        number = self.population.generation
        seeds = (episode_seed(self.run_seed, number, Stream.AGENT_EPISODE, index) for index in count())
        patience = Patience("an episode of the agent")
        self._base_env.finished.clear()
        self._reset_agent_episodes(seeds)
        buffer.fresh_observations = [] if self.normalize_observations else None
        if self._agent_scales_observations() and not self._agent_has_begun():
            for normalizer in normalizers(self.policy):
                normalizer.forget()
            self._restart_average()
        goes_on = True
        ended = True
        enough = FRESH_FRACTION * self._n_observations_known()
        self._n_random_episodes = 0
        # In the middle of an episode the interval always goes on: what the agent plays are whole episodes.
        while goes_on and (not ended or self._interval_goes_on(len(self._base_env.finished))):
            n_episodes = len(self._base_env.finished)
            if self._base_env.disturbed:
                patience.lose(n_episodes)
                buffer.truncate_open_episodes()
                self._reset_agent_episodes(seeds)
            goes_on = self._agent_step(callback)
            n_finished = len(self._base_env.finished)
            ended = n_finished > n_episodes or (self.num_timesteps >= self._total_timesteps and not self._ends_episodes)
            if agent.num_timesteps <= self.learning_starts:
                # They tell nothing of the agent.
                self._n_random_episodes = n_finished
                self._random_returns += [episode_return for episode_return, _ in self._base_env.finished[n_episodes:]]
            if n_finished > n_episodes and n_finished >= LEVEL_EPISODES:
                self._note_agent_level()
            if buffer.fresh_observations and len(buffer.fresh_observations) * self.n_envs > enough:
                self._merge_fresh_observations(buffer)
                enough = FRESH_FRACTION * self._n_observations_known()
        self._base_env.seed_source = None
        buffer.truncate_open_episodes()
        self._close_interval(buffer)
        return goes_on

    def _reset_agent_episodes(self, seeds: Iterator[int]) -> None:
        """
        Begin new episodes in every lane; when one ends, the next follows if the interval goes on.

        :param seeds: Of the episodes, by generation and number of the episode.
        """
        assert self.env is not None
        agent, base = self.agent, self._base_env
        assert isinstance(agent.train_freq, TrainFreq)
        base.seed_source = lambda _: next(seeds)
        agent._last_obs = self.env.reset()
        agent._last_episode_starts = np.ones((self.n_envs,), dtype=bool)
        if self._vec_normalize_env is not None:
            agent._last_original_obs = self._vec_normalize_env.get_original_obs()
        if agent.action_noise is not None:
            agent.action_noise.reset()
        if agent.train_freq.frequency == 1:
            # Otherwise SB3 plays on before the interval can end.
            base.seed_source = lambda _: next(seeds) if self._another_episode_follows() else ASLEEP

    def _another_episode_follows(self) -> bool:
        """Whether the interval will go on when the step is counted that has just been taken."""
        progress = self._current_progress_remaining
        self.agent.num_timesteps += self.n_envs
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        try:
            return self._interval_goes_on(len(self._base_env.finished))
        finally:
            self.agent.num_timesteps -= self.n_envs
            self._current_progress_remaining = progress

    def _agent_step(self, callback: BaseCallback) -> bool:
        """Play ``train_freq``, then take gradient steps; False if a callback asked to stop."""
        agent = self.agent
        assert self.env is not None and agent.replay_buffer is not None
        with without_callbacks(self.seconds, "agent"):
            rollout = agent.collect_rollouts(
                self.env,
                train_freq=agent.train_freq,  # type: ignore[arg-type]
                action_noise=agent.action_noise,
                callback=ClockedCallback(callback, self.seconds, self, self._base_env),
                learning_starts=self.learning_starts,
                replay_buffer=agent.replay_buffer,
                log_interval=None,
            )
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        if not rollout.continue_training:
            return False
        n_steps = self.gradient_steps if self.gradient_steps >= 0 else rollout.episode_timesteps
        if n_steps > 0 and agent.num_timesteps > self.learning_starts and agent.replay_buffer.size() > 0:
            # The schedule of the learning rate follows the whole budget, not the agent's part of it.
            agent._current_progress_remaining = self._current_progress_remaining
            with without_callbacks(self.seconds, "gradient"):
                self._updates.train(n_steps, self.batch_size)
                if self.averaged is not None:
                    self.averaged.update(n_steps, agent._n_updates)
        return True

    def _close_interval(self, buffer: SharedExperience) -> None:
        finished = self._base_env.finished
        self._episode_num += len(finished)
        if finished:
            self._note_agent_level()
            self.logger.record("agent/return_mean", float(np.mean([episode_return for episode_return, _ in finished])))
        self._merge_fresh_observations(buffer)
        buffer.fresh_observations = None

    def _note_agent_level(self) -> None:
        """Remember what the agent, exploring, returns by now: where the champion is hardly better, it is deployed."""
        own = self._base_env.finished[self._n_random_episodes :]
        if not own:
            return
        last = [episode_return for episode_return, _ in own[-LEVEL_EPISODES:]]
        self._agent_level = float(np.mean(last))
        self._agent_error = float(np.std(last) / np.sqrt(len(last))) if np.isfinite(last).all() else 0.0

    def _n_observations_known(self) -> float:
        """How many observations the normalisation is made from, 0 if there is none."""
        found = normalizers(self.policy)
        return min((moments.count for moments in found[0].moments().values()), default=0.0) if found else 0.0

    def _merge_fresh_observations(self, buffer: SharedExperience) -> None:
        """Merge what the agent has seen since the last time."""
        if not buffer.fresh_observations:
            return
        seen = stack(buffer.fresh_observations)
        flat = (
            {key: value.reshape(-1, *value.shape[2:]) for key, value in seen.items()}
            if isinstance(seen, dict)
            else seen.reshape(-1, *seen.shape[2:])
        )
        self._update_normalizers(observation_moments(flat))
        buffer.fresh_observations = []

    def _log_population(self, result: EvaluationResult) -> None:
        super()._log_population(result)
        origins = self.population.winner_origins
        for name, origin in (("mean", Origin.MEAN), ("winners", Origin.WINNER), ("agent", Origin.AGENT)):
            self.logger.record(f"population/winners_from_{name}", int((origins == origin).sum()))

    # -- saving --------------------------------------------------------------------------------------------------------

    def _excluded_save_params(self) -> list[str]:
        hidden = ["agent", "averaged", "_updates"]
        return [*super()._excluded_save_params(), *hidden]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        agent_dicts, agent_tensors = self.agent._get_torch_save_params()
        averages = [] if self.averaged is None else ["averaged.actor"]
        return [*(f"agent.{name}" for name in agent_dicts), *averages, *state_dicts], [
            *(f"agent.{name}" for name in agent_tensors),
            *tensors,
        ]

    def save(self, path: str | pathlib.Path | io.BufferedIOBase, *args: Any, **kwargs: Any) -> None:
        counters = ("num_timesteps", "_n_updates", "_episode_num")
        self._agent_counters = {name: getattr(self.agent, name) for name in counters}
        collect_arguments(self)
        super().save(path, *args, **kwargs)

    save.__doc__ = PopulationBasedAlgorithm.save.__doc__


def _save_plain_agent(agent: OffPolicyAlgorithm, *args: Any, **kwargs: Any) -> None:
    """What ``model.agent.save`` is while observations are normalised: the file must not need this package."""
    twin = plain_agent(agent)
    twin.__dict__.pop("save", None)
    type(twin).save(twin, *args, **kwargs)
