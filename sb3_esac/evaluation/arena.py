"""The arena: where parameter vectors play, and the ledger of every step that they take there."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_esac.evaluation.backends import asks_for_workers, lanes_differ, make_evaluator, prepare_workers
from sb3_esac.evaluation.clock import without_callbacks
from sb3_esac.evaluation.episode_caps import EpisodeCaps, EpisodeLengthSchedule, horizon_of
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, OnStep, Pending
from sb3_esac.evaluation.finite import warn_non_finite
from sb3_esac.evaluation.players import Player
from sb3_esac.evaluation.random_play import random_pictures, random_play
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.seeded_episodes import SeededEpisodes, adopt
from sb3_esac.evaluation.vec_envs import can_postpone_resets, task_name
from sb3_esac.evaluation.vec_normalize import frozen, recording_for
from sb3_esac.evaluation.virtual_batch_norm import VirtualBatchNormCNN
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength


@dataclass(frozen=True)
class ArenaSettings:
    """
    Who plays, and how often; the names are explained in :class:`sb3_esac.ES`.

    :param env_id: Name of the environment, where that is what the user gave.
    """

    backend: str | Evaluator = "auto"
    n_workers: int | None = None
    env_fn: Callable[[], gym.Env] | None = None
    env_id: str | None = None
    episode_timeout: float | None = None
    max_worker_restarts: int = 3
    n_eval_episodes: int = 1


class Arena:
    """
    The user's environment, the workers that play copies of it, and counts of what has been played.

    To be read: ``timesteps`` of the population, ``probe_timesteps`` and ``random_timesteps`` among them, ``paper_timesteps``
    (a generation counts as its mean episode), ``n_episodes``, ``mean_length`` of the last generation's episodes, ``caps``, and
    ``seconds`` by phase, which are logged and never saved.
    """

    env: VecEnv
    base: SeededEpisodes
    vec_normalize: VecNormalize | None = None

    def __init__(self) -> None:
        self.settings = ArenaSettings()
        self.caps = EpisodeCaps()
        self.lanes_differ = self.quiet = False
        self._evaluator: Evaluator | None = None
        # Whether it is another one that should play the next generation.
        self._is_outdated = False
        # Whether the environment is one whose time limit has not been looked at.
        self._is_new = True
        self._learned_task: str | None = None
        self.start_count()

    def start_count(self) -> None:
        """Count from zero."""
        self.timesteps, self.probe_timesteps, self.random_timesteps = 0, 0, 0
        self.paper_timesteps, self.n_episodes = 0.0, 0
        self.mean_length = 0.0
        # What is missing from the whole is bookkeeping.
        self.seconds = {"population": 0.0, "callback": 0.0}
        self.caps.start_count()

    # -- environment and workers ---------------------------------------------------------------------------------------

    def adopt(self, env: VecEnv, settings: ArenaSettings) -> None:
        """
        Play on an environment; workers get ready in the background. The present evaluator stays until :meth:`configure` is
        called.

        :param env: The user's ``VecEnv``.
        :param settings: Who plays.
        """
        self.env, self.base, self.vec_normalize = env, adopt(env), unwrap_vec_normalize(env)
        self._prepare(settings)
        self._is_outdated = self._is_new = True

    def _prepare(self, settings: ArenaSettings) -> None:
        """Get ready for settings, if the environment allows them."""
        wants_workers = asks_for_workers(self.env, settings.backend, settings.n_workers)
        self.lanes_differ = lanes_differ(self.env, settings.n_eval_episodes, settings.env_fn, wants_workers=wants_workers)
        prepare_workers(self.env, settings.backend, settings.n_workers)
        self.settings = settings

    def configure(self, settings: ArenaSettings) -> None:
        """
        Let others play from now on, between two generations.

        :param settings: Who plays; the same ones on the same environment change nothing.
        """
        self._is_outdated |= settings != self.settings
        if hasattr(self, "env"):
            self._prepare(settings)
        self.settings = settings
        if self._is_outdated and self._evaluator is not None:
            self.close()
            self.open()

    def open(self, *, quiet: bool | None = None) -> None:
        """
        Begin to play; to be followed by :meth:`close`.

        :param quiet: Whether single steps need no report; None for as before.
        """
        self.quiet = self.quiet if quiet is None else quiet
        wanted, self._is_outdated = self.settings, False
        self._evaluator = make_evaluator(
            self.env,
            backend=wanted.backend,
            n_workers=wanted.n_workers,
            env_fn=wanted.env_fn,
            env_id=wanted.env_id,
            episode_timeout=wanted.episode_timeout,
            max_worker_restarts=wanted.max_worker_restarts,
            lanes_differ=self.lanes_differ,
        )

    def close(self) -> None:
        """Give back processes and memory."""
        if self._evaluator is not None:
            self._evaluator.close()
            self._evaluator = None

    def begins_other_task(self) -> bool:
        """Whether the environment calls itself otherwise than that of the last call of ``learn``, so that returns differ."""
        known, self._learned_task = self._learned_task, task_name(self.env)
        if known is None or self._learned_task in (None, known):
            return False
        self.mean_length = 0.0
        return True

    @contextmanager
    def without_reset(self) -> Iterator[None]:
        """Leave out a reset within, whose observations are not used, where no wrapper needs it."""
        self.base.reset_is_postponed = can_postpone_resets(self.env)
        try:
            with frozen(self.vec_normalize):
                yield
        finally:
            self.base.reset_is_postponed = False

    # -- playing -------------------------------------------------------------------------------------------------------

    def request(
        self,
        parameters: np.ndarray,
        seeds: np.ndarray,
        player: Player,
        *,
        numbers: Sequence[int] | None = None,
        whole: bool = False,
        transitions: bool = False,
        moments: bool = False,
    ) -> EvaluationRequest:
        """
        Say what is to be played. Where lanes differ, members play the same tasks one after the other.

        :param parameters: (n, d) one vector per member.
        :param seeds: (n, k) seeds of their episodes.
        :param player: How a vector plays.
        :param numbers: (k,) numbers of each member's episodes, None for 0 to k - 1.
        :param whole: Whether episodes are whole: no cap, and nothing is written down.
        :param transitions: Whether transitions are written down.
        :param moments: Whether moments of the observations are.
        """
        request = EvaluationRequest(parameters, seeds, player, Recording(), quiet=self.quiet)
        if not whole:
            recording = replace(recording_for(self.vec_normalize), transitions=transitions)
            recording = replace(recording, observation_moments=True) if moments else recording
            request = replace(request, recording=recording, max_episode_steps=self.caps.cap)
        if not self.lanes_differ:
            return request
        lanes = np.asarray(range(seeds.shape[1]) if numbers is None else numbers) % self.env.num_envs
        return replace(request, lanes=np.broadcast_to(lanes, seeds.shape).copy())

    def begin(self, request: EvaluationRequest) -> Pending:
        """
        Begin to play, see :meth:`Evaluator.begin() <sb3_esac.evaluation.evaluator.Evaluator.begin>`.

        :param request: What to play.
        """
        assert self._evaluator is not None
        return self._evaluator.begin(request)

    def play(
        self, request: EvaluationRequest, on_step: OnStep, pending: Pending | None = None, *, is_random: bool = False
    ) -> EvaluationResult | None:
        """
        Play, and count every step before it is told.

        :param request: What to play.
        :param on_step: Told of every step; False stops.
        :param pending: The same request, begun earlier.
        :param is_random: Whether it is random play.
        :return: The result, None if ``on_step`` asked to stop.
        """
        assert self._evaluator is not None
        count = self._counting(on_step, is_random=is_random)
        with without_callbacks(self.seconds, "population"):
            result = self._evaluator.evaluate(request, count) if pending is None else pending.finish(count)
        return None if result is None else self._noted(result)

    def play_with_probes(
        self, request: EvaluationRequest | None, probes: Sequence[EvaluationRequest], on_step: OnStep
    ) -> tuple[EvaluationResult | None, list[EvaluationResult]] | None:
        """
        Play a generation and the champion's probes, together where there are workers.

        :param request: What the generation plays, None for the probes alone.
        :param probes: The probes, which are played and told first.
        :param on_step: Told of every step; False stops.
        :return: Both results, None if ``on_step`` asked to stop.
        """
        assert self._evaluator is not None
        plays = [(probe, self._counting(on_step, is_probe=True)) for probe in probes]
        if request is not None:
            plays.append((request, self._counting(on_step)))
        with without_callbacks(self.seconds, "population"):
            results = self._evaluator.evaluate_all(plays)
        if results is None:
            return None
        noted = [self._noted(result) for result in results]
        probed = noted[: len(probes)]
        if probed:
            self.caps.whole_length = float(np.concatenate([result.lengths.ravel() for result in probed]).mean())
        return (None if request is None else noted[-1]), probed

    def _counting(self, on_step: OnStep, *, is_probe: bool = False, is_random: bool = False) -> OnStep:
        """Count every step before it is told."""

        def count_and_tell(variables: dict[str, Any]) -> bool:
            # Workers do not say: a row of theirs is as long as it is.
            n_steps = variables.get("n_steps", len(variables["dones"]))
            self.timesteps += n_steps
            self.probe_timesteps += n_steps * is_probe
            self.random_timesteps += n_steps * is_random
            return on_step(variables)

        return count_and_tell

    def _noted(self, result: EvaluationResult) -> EvaluationResult:
        self.n_episodes += len(result.episodes)
        if np.isnan(result.returns).any():
            warn_non_finite("an offspring")
        return result

    def note_generation(self, result: EvaluationResult) -> None:
        """
        Take note of what a generation has played.

        :param result: The result of its episodes.
        """
        self.mean_length = float(result.lengths.mean())
        self.caps.note(result.lengths)
        self.paper_timesteps += self.mean_length

    @property
    def probe_length(self) -> float:
        """Steps that an episode of a probe is expected to take."""
        return self.caps.probe_length(self.mean_length)

    def lay_out(self, schedule: EpisodeLengthSchedule | None, seed: int, generation: int, on_step: OnStep) -> bool:
        """
        Lay out the phases of a schedule of episode lengths, unless that has been done; random play may have to tell.

        :param schedule: The model's ``episode_length_schedule``.
        :param seed: Seed of the run.
        :param generation: Number of the generation.
        :param on_step: Told of every step; False stops.
        :return: False if ``on_step`` asked to stop.
        """
        is_new, self._is_new = self._is_new, False
        if isinstance(schedule, ProgressiveEpisodeLength) and is_new:
            self.caps.forget_other_horizon(horizon_of(schedule, self.env))
        if not self.caps.must_start(schedule):
            return True
        assert isinstance(schedule, ProgressiveEpisodeLength)
        horizon = horizon_of(schedule, self.env)
        if schedule.is_measured:
            request = random_play(self.env.action_space, schedule.n_random_episodes, seed, generation, horizon)
            result = self._play_at_random(request, on_step)
            if result is None:
                return False
            self.caps.whole_length = float(result.lengths.mean())
        self.caps.phases = schedule.phases(horizon, self.caps.whole_length)
        return True

    def fill(self, extractors: Sequence[VirtualBatchNormCNN], seed: int, generation: int, on_step: OnStep) -> bool:
        """
        Fill the batch of virtual batch normalisation by random play.

        :param extractors: What has no batch yet.
        :param seed: Seed of the run.
        :param generation: Number of the generation.
        :param on_step: Told of every step; False stops.
        :return: False if ``on_step`` asked to stop.
        """
        result = self._play_at_random(random_pictures(self.env.action_space, seed, generation), on_step)
        if result is None:
            return False
        seen = [np.asarray(each.transitions.observations)[:-1] for each in result.episodes if each.transitions is not None]
        for extractor in extractors if seen else ():
            extractor.fill(np.concatenate(seen))
        return True

    def _play_at_random(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        if self.lanes_differ:
            # Each plays one episode, and they are not compared.
            request = replace(request, lanes=np.arange(len(request.seeds))[:, None] % self.env.num_envs)
        return self.play(request, on_step, is_random=True)

    # -- state ---------------------------------------------------------------------------------------------------------

    COUNTS = (
        "timesteps",
        "probe_timesteps",
        "random_timesteps",
        "paper_timesteps",
        "n_episodes",
        "mean_length",
        "_learned_task",
    )

    def state_dict(self) -> dict[str, Any]:
        """Counters, and where the caps stand in their schedule."""
        return {**{name: getattr(self, name) for name in self.COUNTS}, "caps": copy.copy(self.caps)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        for name, value in state.items():
            setattr(self, name, copy.copy(value))
