"""A population that plays: counters, evaluation with callbacks, statistics, and the champion's probes."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_esac.arguments import Applied
from sb3_esac.champion import PROBE_FRACTION, STAGES, Candidate, Champion, ChampionRecord, most_trusted
from sb3_esac.clock import ClockedCallback, without_callbacks
from sb3_esac.episode_caps import EpisodeCaps, EpisodeLengthSchedule, horizon_of
from sb3_esac.evaluation.backends import asks_for_workers, lanes_differ, make_evaluator, prepare_workers
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, Pending
from sb3_esac.evaluation.finite import warn_non_finite
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.players import Player, make_player
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.seeded_episodes import SeededEpisodes
from sb3_esac.evaluation.statistics import ObservationMoments
from sb3_esac.evaluation.vec_normalize import merge_episodes, moments_of, recording_for
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.population import Population, PopulationConfig


class PlayingAlgorithm(BaseAlgorithm):
    """
    A ``BaseAlgorithm`` with a population: who plays which episodes, and how every step of them is counted and told.

    A subclass gives the actor whose parameters are searched.
    """

    # Set by the constructors of the subclasses.
    sigma: float | Schedule
    n_eval_episodes: int
    champion_episodes: int
    alive_bonus_offset: float
    normalize_observations: bool | None
    episode_length_schedule: EpisodeLengthSchedule | dict[str, Any] | None
    deploy: str
    env_fn: Callable[[], gym.Env] | None
    n_workers: int | None
    backend: str
    episode_timeout: float | None
    max_worker_restarts: int
    stats_window_size: int
    _env_id: str | None

    # Set by `_setup_model`.
    champion: Champion
    run_seed: int
    _base_env: SeededEpisodes
    _applied: Applied

    @property
    @abstractmethod
    def actor(self) -> Any:
        """Actor that decides what is searched; never perturbed."""

    def _candidates(self) -> dict[str, Candidate]:
        """Policies that could be the champion, by source."""
        # The best member's return is more than the mean or the winner will show again, so it rules out what has no chance. It
        # is no trend: luck has it near the task's maximum long before the mean is there.
        typical, best = self._member_returns
        bound = np.inf if self._episode_caps.cut else best
        candidates = {"mean": Candidate(self.population.mean, typical, bound)}
        if len(self.population.winners):
            candidates["winner"] = Candidate(self.population.winners[0], typical, bound)
        return candidates

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def population(self) -> Population:
        """Mean, members, origins, sigma and generation of the evolutionary half."""
        return self._population

    @property
    def num_timesteps(self) -> int:
        """Every environment step that training took, the agent's and the population's."""
        return self.agent_timesteps + self.population_timesteps

    @num_timesteps.setter
    def num_timesteps(self, value: int) -> None:
        if value == 0:
            self._reset_counters()
        self.population_timesteps = value - self.agent_timesteps

    @property
    def agent_timesteps(self) -> int:
        """Steps of the gradient agent."""
        return 0

    def _reset_counters(self) -> None:
        self.population_timesteps, self.probe_timesteps, self.paper_timesteps = 0, 0, 0.0
        self._mean_length, self._probed_generation = 0.0, -1
        # Median and maximum over the last generation
        self._member_returns = (float("nan"), float("nan"))
        # Where the time goes; what is missing from the whole is bookkeeping.
        self.seconds = {"population": 0.0, "callback": 0.0}
        if not hasattr(self, "_episode_caps"):
            self._episode_caps = EpisodeCaps()
        self._episode_caps.start_count()

    def _setup_population(self, population: Population) -> None:
        """Take a new population unless a saved one is there; make champion and seed."""
        if not hasattr(self, "run_seed"):
            self.run_seed = int(np.random.randint(2**31)) if self.seed is None else self.seed
        if not hasattr(self, "_population"):
            self._population = population
        # A model that is loaded may have been given other arguments than it was saved with.
        self._configure_population(population.config)
        self._generation_start: Population | None = None
        self._evaluator: Evaluator | None = None
        self._mean_actor: tuple[np.ndarray, BasePolicy] | None = None
        self.champion = Champion(self.actor)
        self.champion.record, self.champion.trends = getattr(self, "_champion_state", (None, {}))

    def _configure_population(self, config: PopulationConfig) -> None:
        """Go on by the arguments as they are, from where the population is."""
        # Files of hyperparameters can name its arguments, but make no object.
        if isinstance(self.episode_length_schedule, dict):
            self.episode_length_schedule = ProgressiveEpisodeLength(**self.episode_length_schedule)
        if isinstance(self.episode_length_schedule, ProgressiveEpisodeLength) and self.env is not None:
            horizon_of(self.episode_length_schedule, self.env)
        self._population.configure(config)
        if not callable(self.sigma) and self.sigma != getattr(self, "_initial_sigma", self.sigma):
            self._population.sigma = self.sigma
        self._initial_sigma = self.sigma

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything that follows, perturbations and episodes included.

        :param seed: The seed; None changes nothing.
        """
        super().set_random_seed(seed)
        if seed is not None:
            self.seed = self.run_seed = seed

    # -- playing -------------------------------------------------------------------------------------------------------

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        super().set_env(env, force_reset)
        self._prepare_workers()

    def _prepare_workers(self) -> None:
        """Look at the lanes, and let worker processes get ready while networks are built."""
        self._lanes_differ = False
        if self.env is not None:
            wants_workers = asks_for_workers(self.env, self.backend, self.n_workers)
            self._lanes_differ = lanes_differ(self.env, self.n_eval_episodes, self.env_fn, wants_workers=wants_workers)
            prepare_workers(self.env, self.backend, self.n_workers)

    def _on_lanes(self, request: EvaluationRequest, first: int = 0) -> EvaluationRequest:
        """
        Say on which lanes episodes are played, where lanes differ: one after the other, so that members play the same tasks.

        :param request: What to play.
        :param first: Number of each member's first episode.
        """
        if not self._lanes_differ:
            return request
        numbers = first + np.arange(request.seeds.shape[1])
        return replace(request, lanes=np.broadcast_to(numbers % self.n_envs, request.seeds.shape).copy())

    def _on_lanes_in_turn(self, request: EvaluationRequest) -> EvaluationRequest:
        """
        The same where each member plays one episode, and they are not compared.

        :param request: What to play.
        """
        if not self._lanes_differ:
            return request
        return replace(request, lanes=np.arange(len(request.seeds))[:, None] % self.n_envs)

    def _make_evaluator(self) -> Evaluator:
        assert self.env is not None
        return make_evaluator(
            self.env,
            backend=self.backend,
            n_workers=self.n_workers,
            env_fn=self.env_fn,
            env_id=self._env_id,
            episode_timeout=self.episode_timeout,
            max_worker_restarts=self.max_worker_restarts,
            lanes_differ=self._lanes_differ,
        )

    def _recording(self) -> Recording:
        """What has to be written down of the population's episodes."""
        recording = recording_for(self._vec_normalize_env)
        return replace(recording, observation_moments=True) if self.normalize_observations else recording

    def _play(
        self,
        request: EvaluationRequest,
        callback: BaseCallback,
        pending: Pending | None = None,
    ) -> EvaluationResult | None:
        """Evaluate parameter vectors, telling the callbacks of every step; None if one asked to stop."""
        clocked = ClockedCallback(callback, self.seconds, self, self._base_env)

        def on_step(variables: dict[str, Any]) -> bool:
            # Workers do not say: a row of theirs is as long as it is.
            self.population_timesteps += variables.get("n_steps", len(variables["dones"]))
            clocked.update_locals(variables)
            goes_on = clocked.on_step()
            if goes_on and variables["dones"].any():
                self._update_info_buffer(variables["infos"], variables["dones"])
            return goes_on

        assert self._evaluator is not None
        with without_callbacks(self.seconds, "population"):
            result = pending.finish(on_step) if pending is not None else self._evaluator.evaluate(request, on_step)
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        if result is not None:
            self._episode_num += len(result.episodes)
            if np.isnan(result.returns).any():
                warn_non_finite("an offspring")
        return result

    def _population_request(self) -> EvaluationRequest:
        """Perturb every member (Algorithm 1, lines 5-6) and say which episodes it plays."""
        population = self.population
        size, k = population.config.size, self.n_eval_episodes
        seeds = [
            episode_seed(self.run_seed, population.generation, Stream.POPULATION_EPISODE, index) for index in range(size * k)
        ]
        request = EvaluationRequest(
            population.perturb(self.run_seed),
            np.array(seeds).reshape(size, k),
            make_player(self.actor),
            self._recording(),
            max_episode_steps=self._episode_caps.cap,
        )
        return self._on_lanes(request)

    def _evaluate_population(
        self, request: EvaluationRequest, callback: BaseCallback, pending: Pending | None = None
    ) -> EvaluationResult | None:
        """Evaluate every member (Algorithm 1, lines 7-8); None if a callback asked to stop."""
        callback.on_rollout_start()
        result = self._play(request, callback, pending)
        if result is None:
            return None
        callback.on_rollout_end()
        self._mean_length = float(result.lengths.mean())
        self._episode_caps.note(result.lengths)
        returns = result.returns.mean(axis=1)
        returns = returns[np.isfinite(returns)]
        self._member_returns = (float(np.median(returns)), float(returns.max())) if returns.size else (-np.inf, -np.inf)
        self.paper_timesteps += self._mean_length
        self._merge_statistics(result)
        return result

    def _evaluate_mean(self, callback: BaseCallback) -> EvaluationResult | None:
        """Play the mean that was perturbed, from where the generation's first member began."""
        assert self._generation_start is not None
        mean = self._generation_start.mean
        seed = episode_seed(self.run_seed, self.population.generation, Stream.POPULATION_EPISODE, 0)
        request = EvaluationRequest(
            mean[None], np.array([[seed]]), make_player(self.actor), max_episode_steps=self._episode_caps.cap
        )
        return self._play(self._on_lanes(request), callback)

    def _fitness(self, result: EvaluationResult) -> np.ndarray:
        """(n,) mean return of each member, the alive bonus taken out."""
        means: np.ndarray = (result.returns - self.alive_bonus_offset * result.lengths).mean(axis=1)
        return means

    def _merge_statistics(self, result: EvaluationResult) -> None:
        """Merge what the generation saw into the statistics that were frozen meanwhile."""
        self._merge_into_vec_normalize(result)
        fresh = moments_of(result.episodes) if self.normalize_observations else None
        if fresh is not None:
            self._take_observations(fresh)

    def _merge_into_vec_normalize(self, result: EvaluationResult) -> None:
        """Let offspring's episodes count in the user's ``VecNormalize``."""
        merge_episodes(self._vec_normalize_env, result.episodes)

    def _take_observations(self, fresh: ObservationMoments) -> None:
        """Take in what offspring have seen."""
        update_normalizers(self.policy, fresh)

    def _probe_if_due(self, callback: BaseCallback) -> bool:
        """Probe what might be better than the champion; False if a callback asked to stop."""
        if self.num_timesteps >= self._total_timesteps:
            # Another probe ends the run.
            return True
        candidates = self.champion.promising(self._candidates(), self.population.generation)
        if not candidates and not self._is_overtaken():
            return True
        n_episodes = self._n_probe_episodes(max(1, len(candidates)), PROBE_FRACTION)
        return n_episodes == 0 or self._probe(candidates, n_episodes, callback)

    def _n_probe_episodes(self, n_candidates: int, fraction: float) -> int:
        """
        Say how many episodes may decide now, 0 for no probe: if nothing has changed since the last one, or another one would
        take too many of the steps. The first champion needs no more than what there is to play it.

        :param n_candidates: Who plays one episode.
        :param fraction: Largest fraction of all steps that probes may take.
        """
        nothing_new = self._mean_length == 0 or self._probed_generation == self.population.generation
        if self.champion_episodes == 0 or nothing_new:
            return 0
        length = self._episode_caps.probe_length(self._mean_length)
        affordable = (fraction * self.num_timesteps - self.probe_timesteps) / ((1 - fraction) * length)
        n_deciding = int(affordable) - n_candidates + 1 - self.champion.n_defences(self.champion_episodes)
        if n_deciding >= self.champion_episodes:
            return self.champion_episodes
        return max(0, n_deciding) if self.champion.record is None else 0

    def _probe(self, candidates: dict[str, Candidate], n_episodes: int, callback: BaseCallback) -> bool:
        """
        Play candidates without noise and let the best of them challenge the champion.

        :param candidates: Policies by source ("mean", "winner", "agent").
        :param n_episodes: Episodes that decide.
        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """
        self._probed_generation = generation = self.population.generation
        if not self._defend(callback):
            return False
        if self._is_overtaken():
            candidates = {"agent": self._candidates()["agent"], **candidates}
        if not candidates:
            return True
        number = 0 if self.champion.record is None else self.champion.record.first
        seeds = self._probe_seeds(number, n_episodes)
        player = make_player(self.actor)
        vectors = np.stack([candidate.vector for candidate in candidates.values()])
        self.champion.remember(candidates, generation)
        screen = EvaluationRequest(vectors, np.repeat(seeds[:, :1], len(vectors), axis=0), player)
        screening = self._play_probe(screen, number, callback)
        if screening is None:
            return False
        self._episode_caps.whole_length = float(screening.lengths.mean())
        first = dict(zip(candidates, screening.returns[:, 0].tolist(), strict=True))
        # Who stands in for the champion is judged before anybody else.
        source = "agent" if self._is_overtaken() else most_trusted(first)
        record = ChampionRecord(source, np.array([first[source]]), generation, number, candidates[source].trend)
        return self._challenge(record, candidates[source].vector, seeds, player, callback)

    def _challenge(
        self, record: ChampionRecord, vector: np.ndarray, seeds: np.ndarray, player: Player, callback: BaseCallback
    ) -> bool:
        """
        Let a candidate take the champion's place, unless the champion is clearly better.

        :param record: What the candidate has played: the first of the episodes.
        :param vector: (d,) its parameters.
        :param seeds: (1, k) seeds of all episodes that decide.
        :param player: What plays the parameters.
        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """
        if not self.champion.deserves_probe(record):
            self._note_defeat(record.source)
            return True
        for start, end in pairwise([*(stage for stage in STAGES if stage < seeds.size), seeds.size]):
            request = EvaluationRequest(vector[None], seeds[:, start:end], player)
            result = self._play_probe(request, record.first + start, callback)
            if result is None:
                return False
            record = replace(record, returns=np.concatenate([record.returns, result.returns[0]]))
            if self.champion.is_clearly_better(record):
                self._note_defeat(record.source)
                return True
        self.champion.crown(self.actor, vector, record)
        return True

    def _is_overtaken(self) -> bool:
        """Whether the agent has shown as much as the champion, exploring, and is deployed until it is probed."""
        return False

    def _note_defeat(self, source: str) -> None:
        """
        Take note of a candidate that was probed and is no better than the champion.

        :param source: "agent", "mean" or "winner".
        """

    def _defend(self, callback: BaseCallback) -> bool:
        """Let the champion play episodes that nobody has played; False if a callback asked to stop."""
        champion = self.champion
        n_episodes = champion.n_defences(self.champion_episodes)
        if n_episodes == 0:
            return True
        assert champion.record is not None
        number = champion.record.first + champion.record.returns.size
        seeds = self._probe_seeds(number, n_episodes)
        request = EvaluationRequest(to_vector(champion.actor)[None], seeds, make_player(champion.actor))
        result = self._play_probe(request, number, callback)
        if result is None:
            return False
        champion.defend(result.returns[0], self.champion_episodes)
        return True

    def _probe_seeds(self, first: int, n_episodes: int) -> np.ndarray:
        """(1, n) seeds of the probe episodes from a number on."""
        numbers = range(first, first + n_episodes)
        return np.array([[episode_seed(self.run_seed, 0, Stream.PROBE_EPISODE, number) for number in numbers]])

    def _play_probe(self, request: EvaluationRequest, first: int, callback: BaseCallback) -> EvaluationResult | None:
        """
        Play probe episodes.

        :param request: Which.
        :param first: Number of the first of them among all probe episodes of the run.
        :param callback: The user's callbacks.
        :return: The result, or None if a callback asked to stop.
        """
        steps_before = self.population_timesteps
        result = self._play(self._on_lanes(request, first), callback)
        if result is not None:
            self.probe_timesteps += self.population_timesteps - steps_before
        return result
