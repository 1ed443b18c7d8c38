"""The learner: a stock agent of SB3, its average, its buffer, and the intervals in which it plays and learns."""

import copy
import io
import pathlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import numpy as np
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_esac.agent.acting import Acting
from sb3_esac.agent.averaging import AveragedActor
from sb3_esac.agent.building import add_store, make_room, share_experience
from sb3_esac.agent.observation_scale import ObservationScale
from sb3_esac.agent.sharing import SharedExperience, add_episode
from sb3_esac.agent.updates import Updates
from sb3_esac.evaluation.clock import StepListener, without_callbacks
from sb3_esac.evaluation.disturbance import Patience
from sb3_esac.evaluation.evaluator import UNBOUNDED_EPISODE_STEPS
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evaluation.rollout import EpisodeResult
from sb3_esac.evaluation.seeded_episodes import ASLEEP, Asleep, SeededEpisodes, adopt
from sb3_esac.evaluation.vec_envs import forbids_early_resets
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

LEVEL_EPISODES = 5
"""What the agent is worth is judged by so many of its last episodes in an interval: as many as the champion's by default."""

COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")
"""Of the agent, beside its networks and optimisers."""

ProgressAfter = Callable[[int, int], Progress]
"""Tells where the run stands with so many episodes of the agent in this interval, so many steps further."""


class IntervalRule(Protocol):
    """Decides how long an interval is."""

    def goes_on(self, progress: Progress) -> bool:
        """
        Decide whether the agent plays another episode.

        :param progress: Where the run stands; its budget is not spent.
        """

    def scales_observations(self, progress: Progress) -> bool:
        """
        Decide whether statistics of observations are those of what the agent sees.

        :param progress: Where the run stands.
        """


@dataclass(frozen=True)
class IntervalReport:
    """
    What came of an interval.

    :param goes_on: False if a callback asked to stop.
    :param returns: Of the whole episodes that were played.
    :param own: Returns and lengths of those that were not random play.
    :param was_played: Whether it was the agent's turn.
    """

    goes_on: bool = True
    returns: Sequence[float] = ()
    own: Sequence[tuple[float, int]] = ()
    was_played: bool = True


NO_INTERVAL = IntervalReport(was_played=False)
"""It was not the agent's turn."""


class Learner:
    """
    A stock off-policy algorithm, which is the one truth for its networks, buffer and counters, and what ESAC does with it.

    To be read: ``agent``, ``averaged`` (None without averaging), ``n_episodes``, ``level``, what the agent, exploring, has
    returned in its last episodes (NaN if nothing is known), and ``scale``, the statistics of observations.

    :param agent: The agent.
    :param share: Fraction of each batch that comes from the population's store.
    :param average: Fraction of the updates over which the actor is averaged, 0 for no average.
    :param updates: "auto" or "stock", see :class:`~sb3_esac.agent.updates.Updates`.
    """

    def __init__(self, agent: OffPolicyAlgorithm, *, share: float, average: float, updates: str) -> None:
        self.agent = agent
        self.averaged: AveragedActor | None = None
        self._is_given = False
        self.scale = ObservationScale(agent)
        self.share(share)
        self.buffer.is_placeholder = agent.env is None
        self.set_updates(updates)
        self.set_average(average)
        self.start_count()

    def start_count(self) -> None:
        """Count from zero."""
        self.agent.num_timesteps = 0
        self.n_episodes, self._n_random_episodes = 0, 0
        self.level = float("nan")
        self.seconds = {"agent": 0.0, "gradient": 0.0}

    # -- what it is made of --------------------------------------------------------------------------------------------

    @property
    def actor(self) -> Any:
        """The actor that explores and learns."""
        return self.agent.actor

    @property
    def deployed_actor(self) -> BasePolicy:
        """What is deployed of the agent: its average, or all of the policy while there is none."""
        return self.agent.policy if self.averaged is None or self.averaged.is_learner else self.averaged.actor

    @property
    def vector(self) -> np.ndarray:
        """(d,) parameters of the average."""
        return to_vector(self.actor if self.averaged is None or self.averaged.is_learner else self.averaged.actor)

    @property
    def buffer(self) -> SharedExperience:
        """The agent's replay buffer."""
        assert isinstance(self.agent.replay_buffer, SharedExperience)
        return self.agent.replay_buffer

    def withdraw(self) -> None:
        """Forget its level: without noise it plays worse than its last episodes promised."""
        self.level = float("nan")

    @property
    def has_begun(self) -> bool:
        """Whether it has played or learned anything, or was given what others have learned."""
        # A new call of `learn` counts steps from zero, but not updates.
        return self.agent.num_timesteps > 0 or self.agent._n_updates > 0 or self._is_given

    def adopt(self, env: VecEnv) -> None:
        """
        Play on an environment.

        :param env: The user's ``VecEnv``.
        """
        self.base: SeededEpisodes = adopt(env)
        if self.agent.env is not env:
            self.agent.set_env(env)
        make_room(self.agent)
        self.share(self._share)
        self._ends_episodes = forbids_early_resets(env)

    def share(self, share: float) -> None:
        """
        Let batches come from the population's store.

        :param share: The fraction, in [0, 1].
        """
        self._share = share
        share_experience(self.agent, share)

    def set_average(self, average: float) -> None:
        """
        Average the actor over another window.

        :param average: Fraction of all updates, 0 for no average.
        """
        if average == 0:
            self.averaged = None
        elif self.averaged is None:
            self.averaged = AveragedActor(self.actor, average)
        else:
            self.averaged.window = average

    def restart_average(self) -> None:
        """Forget the actor's past."""
        if self.averaged is not None:
            self.averaged.restart()

    @contextmanager
    def given_parameters(self) -> Iterator[None]:
        """Let the user set parameters: an average that comes with them is kept, that of other parameters is forgotten."""
        actors = [self.actor] if self.averaged is None else [self.actor, self.averaged.actor]
        before = [to_vector(actor) for actor in actors]
        yield
        self.scale.note_change()
        changed = [not np.array_equal(one, to_vector(actor)) for one, actor in zip(before, actors, strict=True)]
        self._is_given |= any(changed)
        if any(changed):
            self.note_parameters(of_average=changed[-1])

    def note_parameters(self, *, of_average: bool) -> None:
        """
        Take note of parameters from elsewhere.

        :param of_average: Whether the average's are among them; otherwise it begins anew.
        """
        if of_average and self.averaged is not None:
            self.averaged.is_learner = np.array_equal(to_vector(self.averaged.actor), to_vector(self.actor))
        else:
            self.restart_average()

    def set_updates(self, updates: str) -> None:
        """
        Compute gradient steps in another way.

        :param updates: "auto" or "stock".
        """
        self._updates = Updates(self.agent, updates)
        self._acting = Acting(self.agent, self._updates)

    @property
    def updates_are_fast(self) -> bool:
        """Whether gradient steps are made by hand."""
        return self._updates.is_fast

    def start(self, logger: Logger, total_timesteps: int, start_time: float) -> None:
        """
        Get ready for a call of ``learn``.

        :param logger: The run's.
        :param total_timesteps: Its budget.
        :param start_time: When it began, in nanoseconds.
        """
        self.agent._logger, self.agent._total_timesteps, self.agent.start_time = logger, total_timesteps, start_time

    # -- experience ----------------------------------------------------------------------------------------------------

    def take_episodes(self, episodes: Sequence[EpisodeResult]) -> None:
        """
        Put episodes of offspring into the population's store.

        :param episodes: Episodes with their transitions; others have nothing to give.
        """
        store, undo = add_store(self.agent, self.buffer), self.buffer.undo
        for episode in episodes:
            if episode.transitions is not None:
                actions = self.agent.policy.scale_action(episode.transitions.actions)
                add_episode(store, episode.transitions, actions, None if undo is None else undo.population)

    def take_buffer(self, buffer: ReplayBuffer) -> None:
        """
        Go on with another buffer, from a file or the user's.

        :param buffer: Of the agent's kind, with a store of the population's or without.
        """
        self.agent.replay_buffer = buffer
        self.share(self._share)
        store = self.buffer.population_store
        for kept in (buffer, store):
            # Sums of several rewards are made where transitions are kept.
            if kept is not None and hasattr(kept, "gamma"):
                kept.gamma = self.agent.gamma
        if store is not None:
            store.device = self.agent.device
            if isinstance(store, HerReplayBuffer) and store.env is None and self.agent.env is not None:
                store.set_env(self.agent.env)

    def load_buffer(self, path: str | pathlib.Path | io.BufferedIOBase, truncate_last_traj: bool) -> None:
        """
        Go on with a buffer from a file.

        :param path: Path of the file.
        :param truncate_last_traj: As in SB3, for ``HerReplayBuffer``.
        :raises ValueError: If version 0.1 of this package has written it.
        """
        try:
            self.agent.load_replay_buffer(path, truncate_last_traj)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"{path} was saved by sb3_esac 0.1, whose buffers have another form: begin with an empty one"
            ) from error
        assert self.agent.replay_buffer is not None
        self.take_buffer(self.agent.replay_buffer)

    # -- an interval ---------------------------------------------------------------------------------------------------

    def play_interval(self, rule: IntervalRule, progress_after: ProgressAfter, callback: StepListener) -> IntervalReport:
        """
        Play whole episodes, and learn between the steps (Algorithm 1, lines 12-23).

        :param rule: How long.
        :param progress_after: Where the run stands.
        :param callback: Told of every step.
        :return: What came of it.
        :raises RuntimeError: If an episode does not end.
        """
        base, buffer = self.base, self.buffer
        patience = Patience("an episode of the agent")
        goes_on, ended, n_finished = True, True, 0
        # Of a buffer from elsewhere, whose last episode does not go on here.
        buffer.truncate_open_episodes()
        try:
            begin = self._start_interval(rule, progress_after)
            # In the middle of an episode the interval always goes on: what the agent plays are whole episodes.
            while goes_on and (not ended or _wants_another(rule, progress_after(n_finished, 0))):
                if base.disturbed:
                    patience.lose(n_finished)
                    buffer.truncate_open_episodes()
                    begin()
                n_before = n_finished
                goes_on = self._step(callback, lambda: progress_after(len(base.finished), 0))
                n_finished = len(base.finished)
                progress = progress_after(n_finished, 0)
                ended = n_finished > n_before or (progress.is_spent and not self._ends_episodes)
                self._note_episodes(n_before)
                if self.scale.is_due:
                    self.scale.merge_own(self.averaged, of_the_agent=rule.scales_observations(progress))
            self.scale.merge_own(self.averaged, of_the_agent=rule.scales_observations(progress_after(n_finished, 0)))
        finally:
            # After Ctrl-C, or an error of a callback's, the environment and the buffer are to be used again.
            base.seed_source = base.endless_after = None
            buffer.truncate_open_episodes()
            self.n_episodes += len(base.finished)
            self.scale.end()
        if base.finished:
            self._note_level()
        own = base.finished[self._n_random_episodes :]
        return IntervalReport(goes_on, [episode_return for episode_return, _ in base.finished], own)

    def _start_interval(self, rule: IntervalRule, progress_after: ProgressAfter) -> Callable[[], None]:
        """Begin episodes in all lanes; what is returned begins others in their place."""
        progress = progress_after(0, 0)
        seeds = (episode_seed(progress.run_seed, progress.generation, Stream.AGENT_EPISODE, number) for number in count())

        def next_seed(lane: int) -> int | Asleep:
            # The step that ended the last episode is not counted yet.
            after = progress_after(len(self.base.finished), self.agent.n_envs)
            return next(seeds) if _wants_another(rule, after) else ASLEEP

        def begin() -> None:
            self._begin_episodes(seeds, next_seed)

        self.base.finished.clear()
        self.base.endless_after = UNBOUNDED_EPISODE_STEPS
        self._acting.begin(progress.run_seed, progress.generation)
        self._is_trusted = False
        begin()
        # Later what the population has found depends on the statistics that there are.
        if rule.scales_observations(progress) and not self.has_begun and progress.generation == 0:
            self.scale.forget()
            self.restart_average()
        self.scale.begin()
        self._n_random_episodes = 0
        return begin

    def _begin_episodes(self, seeds: Iterator[int], next_seed: Callable[[int], int | Asleep]) -> None:
        """
        Begin new episodes in every lane; when one ends, the next follows if the interval goes on.

        :param seeds: Of the episodes, by generation and number of the episode.
        :param next_seed: Seed of an episode that follows.
        """
        agent, base = self.agent, self.base
        assert agent.env is not None and isinstance(agent.train_freq, TrainFreq)
        base.seed_source = lambda _: next(seeds)
        agent._last_obs = agent.env.reset()
        agent._last_episode_starts = np.ones((agent.n_envs,), dtype=bool)
        vec_normalize = unwrap_vec_normalize(agent.env)
        if vec_normalize is not None:
            agent._last_original_obs = vec_normalize.get_original_obs()
        if agent.action_noise is not None:
            agent.action_noise.reset()
        if agent.train_freq.frequency == 1:
            # Otherwise SB3 plays on before the interval can end.
            base.seed_source = next_seed

    def _step(self, callback: StepListener, progress: Callable[[], Progress]) -> bool:
        """Play ``train_freq``, then take gradient steps; False if a callback asked to stop."""
        agent: Any = self.agent
        with without_callbacks(self.seconds, "agent", callback.seconds):
            rollout = self._acting.collect(callback, trusted=self._is_trusted)
        if not rollout.continue_training:
            return False
        n_steps = agent.gradient_steps if agent.gradient_steps >= 0 else rollout.episode_timesteps
        if n_steps > 0 and agent.num_timesteps > agent.learning_starts and agent.replay_buffer.size() > 0:
            # The schedule of the learning rate follows the whole budget, not the agent's part of it.
            agent._current_progress_remaining = progress().remaining
            with without_callbacks(self.seconds, "gradient", callback.seconds):
                self._updates.train(n_steps, agent.batch_size, trusted=self._is_trusted)
                self._is_trusted = not callback.hears_steps
                if self.averaged is not None:
                    self.averaged.update(n_steps, agent._n_updates)
        return True

    def _note_episodes(self, n_before: int) -> None:
        """Look at the episodes that have been finished since."""
        finished = self.base.finished
        if self.agent.num_timesteps <= self.agent.learning_starts:
            # They tell nothing of the agent.
            self._n_random_episodes = len(finished)
        if n_before < len(finished) >= LEVEL_EPISODES:
            self._note_level()

    def _note_level(self) -> None:
        """Remember what the agent, exploring, returns by now."""
        own = self.base.finished[self._n_random_episodes :]
        if own:
            last = [episode_return for episode_return, _ in own[-LEVEL_EPISODES:]]
            self.level = float(np.mean(last))

    # -- state ---------------------------------------------------------------------------------------------------------

    COUNTS = ("n_episodes", "level", "_n_random_episodes", "_is_given")

    def state_dict(self) -> dict[str, Any]:
        """Counters and level; networks and optimisers are parameters of the model."""
        own = {name: copy.copy(getattr(self, name)) for name in self.COUNTS}
        return {**own, "agent": {name: getattr(self.agent, name) for name in COUNTERS}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        for name in self.COUNTS:
            # Files of before do not know whether parameters were given.
            setattr(self, name, copy.copy({"_is_given": False, **state}[name]))
        for name, value in state["agent"].items():
            setattr(self.agent, name, value)

    def keep_way_back(self, key: tuple[int, int, int]) -> None:
        """
        Be able to come back to what the buffer holds now.

        :param key: Names this moment.
        """
        self.buffer.keep_way_back(key)

    def forget_way_back(self) -> None:
        """Not to be able any longer."""
        self.buffer.undo = None


def _wants_another(rule: IntervalRule, progress: Progress) -> bool:
    """Whether the agent plays another episode, if steps are left."""
    return not progress.is_spent and rule.goes_on(progress)
