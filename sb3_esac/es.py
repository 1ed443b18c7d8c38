"""Evolution strategies."""

import copy
from collections.abc import Callable, Collection
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TensorDict

from sb3_esac import validation
from sb3_esac.algorithm import PopulationAlgorithm
from sb3_esac.changes import Applied
from sb3_esac.environments import check_lanes, warn_of_resets
from sb3_esac.es_policies import CnnPolicy, ESPolicy, LinearPolicy, MlpPolicy, MultiInputPolicy
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evaluation.episode_caps import EpisodeLengthSchedule
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, Pending
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.observations import can_normalize, normalized_policy_kwargs
from sb3_esac.evaluation.vec_normalize import merge_episodes, moments_of
from sb3_esac.evaluation.vectors import fix_searched, load_vector, to_vector
from sb3_esac.evaluation.virtual_batch_norm import VirtualBatchNormCNN
from sb3_esac.evolution.population import PopulationConfig
from sb3_esac.evolution.strategies import strategy_config

SelfES = TypeVar("SelfES", bound="ES")


class ES(PopulationAlgorithm):
    """
    Evolution strategies (ES): a population of perturbed policies whose mean moves by their returns, without back-propagation.

    ``strategy="openai"`` is Salimans et al. (2017), "Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning": mirrored perturbations, centered ranks, Adam. ``strategy="canonical"`` is Chrabaszcz et al. (2018), "Back to
    Basics": the mean moves to the log-weighted mean of the winners. ``strategy="cem"`` is the cross-entropy method of Pourchot
    and Sigaud (2019), "CEM-RL", and ``strategy="sep_cma_es"`` the separable CMA-ES of Ros and Hansen (2008): these two adapt a
    standard deviation for each parameter.

    ``total_timesteps`` and ``num_timesteps`` count every step of every training environment.

    Deviations from the papers: the defaults of ``sigma`` and ``es_learning_rate``, no weight decay unless asked for, the
    champion as what ``predict`` plays.

    :param policy: The policy model to use (MlpPolicy, LinearPolicy, CnnPolicy, MultiInputPolicy, or a class).
    :param env: The environment to learn from (if registered in Gym, can be str). Actions are ``Box`` or ``Discrete``.
    :param population_size: Rollouts per generation, n. Even if ``mirrored``.
    :param sigma: Mutation rate: standard deviation of the perturbations, a number or a function of the remaining progress.
        With "cem" and "sep_cma_es" a number: where they start from.
    :param es_learning_rate: Step size of the mean's optimiser ("openai" only).
    :param es_optimizer: "adam" or "sgd" ("openai" only).
    :param mirrored: Whether perturbations come in pairs of opposite sign. None means: as published, which is True for
        "openai" only; "sep_cma_es" takes no such pairs.
    :param strategy: How the mean moves: "openai", "canonical", "cem" or "sep_cma_es".
    :param winner_fraction: mu / lambda, the fraction of members whose mean "canonical" moves to, and the elites of "cem".
    :param weight_decay: L2 penalty on the mean, 0.005 in the code of Salimans et al. ("openai" only).
    :param deploy: What ``predict`` plays: "best" is the champion, "population" the mean.
    :param champion_episodes: Noise-free episodes that decide who is champion, 0 for no champion.
    :param n_eval_episodes: Episodes of each member in a generation.
    :param alive_bonus_offset: Subtracted from each reward in the fitness (not in what is reported).
    :param normalize_observations: Running normalisation of observations inside the policy. None means: yes, if observations
        are plain vectors, the features extractor is SB3's, and no ``VecNormalize`` does it already.
    :param episode_length_schedule: Longest episode that a member plays: a
        :class:`~sb3_esac.evolution.episode_lengths.ProgressiveEpisodeLength` (or a dict of its arguments), or a function from
        the remaining progress to steps; it is asked once per generation. A cut is a truncation. The champion's probes play
        whole episodes. None for no limit except the environment's.
    :param env_fn: Makes a copy of the environment (one of a ``VecEnv``'s) for a worker. Needed if no copy can be made
        otherwise, as of a ``SubprocVecEnv``; a name, or an environment that can be pickled, needs none.
    :param n_workers: Processes that play members. None means one for each environment of a ``SubprocVecEnv``, else none.
    :param backend: "auto" (whole episodes in this process, or in workers where there are any), "lockstep" (all lanes of the
        environment together), "subproc" (whole episodes in worker processes), "ray" (on a cluster that is started for the
        run), "ray:auto" or "ray://host:port" (on one that is there), or an
        :class:`~sb3_esac.evaluation.evaluator.Evaluator` of your own, which is not saved. The result is the same.
    :param episode_timeout: Seconds after which an episode in a worker is taken for one that hangs, None to wait for ever.
    :param max_worker_restarts: How many dead or hanging workers are replaced in one generation.
    :param stats_window_size: Number of episodes that ``rollout/*`` averages over.
    :param tensorboard_log: Log location for TensorBoard, None for none.
    :param policy_kwargs: Additional arguments of the policy.
    :param verbose: 0 for no output, 1 for info messages, 2 for debug messages.
    :param seed: Seed of everything; None draws one (see ``model.run_seed``).
    :param device: Device of ``model.policy``. Members always play on the CPU.
    :param _init_setup_model: Whether to build the networks when the instance is created.
    :raises ValueError: If an argument is not what it may be; the message quotes it and says what would be right.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "LinearPolicy": LinearPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }

    _held_mean: np.ndarray | None = None
    """The mean that ``policy`` has as its parameters."""

    def __init__(
        self,
        policy: str | type[ESPolicy],
        env: GymEnv | str,
        population_size: int = 40,
        sigma: float | Schedule = 0.1,
        es_learning_rate: float = 0.02,
        es_optimizer: str = "adam",
        mirrored: bool | None = None,
        strategy: str = "canonical",
        winner_fraction: float = 0.2,
        weight_decay: float = 0.0,
        deploy: str = "best",
        champion_episodes: int = 5,
        n_eval_episodes: int = 1,
        alive_bonus_offset: float = 0.0,
        normalize_observations: bool | None = None,
        episode_length_schedule: EpisodeLengthSchedule | dict[str, Any] | None = None,
        env_fn: Callable[[], gym.Env] | None = None,
        n_workers: int | None = None,
        backend: str | Evaluator = "auto",
        episode_timeout: float | None = None,
        max_worker_restarts: int = 3,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "cpu",
        _init_setup_model: bool = True,
    ) -> None:
        validation.check_policy(policy, policy_kwargs)
        self._env_id = env if isinstance(env, str) else None
        if env is not None:
            env = maybe_make_env(env, verbose)
            validation.check_action_space(env, discrete=True)
            if policy == "LinearPolicy" and isinstance(env.observation_space, spaces.Dict):
                raise ValueError("You must use `MultiInputPolicy` when working with dict observation space, not LinearPolicy")
        super().__init__(
            policy,
            env,
            learning_rate=es_learning_rate,
            policy_kwargs=copy.copy(policy_kwargs),
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
        )
        self.population_size, self.sigma, self.strategy = population_size, sigma, strategy
        self.es_learning_rate, self.es_optimizer = es_learning_rate, es_optimizer
        self.mirrored, self.winner_fraction, self.weight_decay = mirrored, winner_fraction, weight_decay
        self.deploy, self.champion_episodes = deploy, champion_episodes
        self.n_eval_episodes, self.alive_bonus_offset = n_eval_episodes, alive_bonus_offset
        self.normalize_observations, self.episode_length_schedule = normalize_observations, episode_length_schedule
        self.env_fn, self.n_workers, self.backend = env_fn, n_workers, backend
        self.episode_timeout, self.max_worker_restarts = episode_timeout, max_worker_restarts
        self.stats_window_size = stats_window_size

        if _init_setup_model:
            self._check_arguments(None)
            self._setup_model()

    # -- construction --------------------------------------------------------------------------------------------------

    def _setup_model(self) -> None:
        validation.check_es_arguments(self)
        if self.normalize_observations is None:
            self.normalize_observations = can_normalize(
                self.policy_class, self.policy_kwargs, self.observation_space, self._vec_normalize_env
            )
        if self.env is not None:
            self._adopt_env()
        # Nothing reads it but callbacks that were written for other algorithms.
        self.learning_rate = self.es_learning_rate
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        kwargs = self.policy_kwargs
        if self.normalize_observations:
            kwargs = normalized_policy_kwargs(self.policy_class, kwargs, self.observation_space)
        self._policy = self.policy_class(self.observation_space, self.action_space, **kwargs).to(self.device)
        fix_searched(self._policy)
        self._setup_population(to_vector(self._policy), self.sigma(1.0) if callable(self.sigma) else self.sigma)
        self._applied = Applied(self)

    def _check_arguments(self, changed: Collection[str] | None) -> None:
        validation.check_es_arguments(self)
        validation.check_effects(self, validation.ES_EFFECTS, changed)
        if changed is not None and "learning_rate" in changed:
            raise ValueError(
                f"`learning_rate={self.learning_rate!r}` has no effect on ES, which has no gradient agent: set "
                f"`es_learning_rate`, which is {self.es_learning_rate!r}"
            )

    def _population_config(self) -> PopulationConfig:
        return strategy_config(
            self.strategy,
            self.population_size,
            winner_fraction=self.winner_fraction,
            es_learning_rate=self.es_learning_rate,
            es_optimizer=self.es_optimizer,
            mirrored=self.mirrored,
            weight_decay=self.weight_decay,
        )

    def _use_arguments(self, changed: set[str]) -> None:
        super()._use_arguments(changed)
        self.learning_rate = self.es_learning_rate
        self._setup_lr_schedule()

    def _adopt_env(self) -> None:
        super()._adopt_env()
        assert self.env is not None
        check_lanes(self)
        warn_of_resets(self.env)
        validation.check_vec_normalize(self._vec_normalize_env, self.observation_space, self.normalize_observations)

    # -- the policy is the mean ----------------------------------------------------------------------------------------

    @property
    def policy(self) -> Any:  # type: ignore[override]
        """The policy, unperturbed: its parameters are the mean of the population."""
        # Vectors are replaced, never changed in place, so this sees every change.
        if self._held_mean is not self.population.mean:
            load_vector(self._policy, self.population.mean)
            self._held_mean = self.population.mean
        return self._policy

    @property
    def actor(self) -> Any:
        """The policy, which is an actor and nothing else."""
        return self.policy

    def _policy_of_mean(self) -> BasePolicy:
        policy: BasePolicy = self.policy
        return policy

    def _take_policy(self) -> None:
        """Go on from the policy's parameters if somebody has put others there."""
        vector = to_vector(self.policy)
        if not np.array_equal(vector, self.population.mean):
            self.population.set_mean(vector)
            self._held_mean = self.population.mean

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        Load parameters from a zip file or a nested dictionary; the policy's become the mean of the population.

        What the champion has returned is no parameter: a model that has probed none deploys the mean. :meth:`load` restores
        both.

        :param load_path_or_dict: As in SB3.
        :param exact_match: As in SB3.
        :param device: As in SB3.
        """
        try:
            super().set_parameters(load_path_or_dict, exact_match, device)
        finally:
            self._take_policy()

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._take_policy()
        return super()._setup_learn(*args, **kwargs)

    # -- one generation ------------------------------------------------------------------------------------------------

    def learn(
        self: SelfES,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "ES",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfES:
        """
        Train until ``total_timesteps`` true steps have been taken; a generation that has begun is finished.

        :param total_timesteps: Steps of all training environments together; may be a float.
        :param callback: Called at every step.
        :param log_interval: Generations between log entries, None for none.
        :param tb_log_name: Name of the run in TensorBoard.
        :param reset_num_timesteps: Whether to count from zero; the population is kept either way.
        :param progress_bar: Show a progress bar.
        :return: The trained model.
        """
        self._learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        return self

    def _prepare_generation(self, callback: StepListener) -> bool:
        blind = [each for each in self._policy.modules() if isinstance(each, VirtualBatchNormCNN) and not each.is_filled]
        return not blind or self.arena.fill(blind, self.run_seed, self.population.generation, callback.tell)

    def _run_generation(self, callback: StepListener) -> bool:
        population, before = self.population, self.population.mean
        selection = self._play_and_select(self._mutate(), callback)
        if selection is None:
            return False
        self._log_population(selection.result)
        self.logger.record("es/mean_norm", float(np.linalg.norm(population.mean)))
        self.logger.record("es/step_norm", float(np.linalg.norm(population.mean - before)))
        population.form(None)
        return True

    def _play(self, offspring: EvaluationRequest, callback: StepListener, pending: Pending | None) -> EvaluationResult | None:
        # The last generation's candidates are probed beside this one's members: otherwise all workers but a few would wait.
        played = self.arena.play_with_probes(offspring, self._probes(offspring.player), callback.tell)
        if played is None:
            return None
        result, probed = played
        self._judge(probed)
        return result

    def _merge_statistics(self, result: EvaluationResult) -> None:
        merge_episodes(self._vec_normalize_env, result.episodes)
        fresh = moments_of(result.episodes) if self.normalize_observations else None
        if fresh is not None:
            update_normalizers(self.policy, fresh)

    def _end(self, callback: StepListener) -> None:
        self._probe(callback)

    # -- saving --------------------------------------------------------------------------------------------------------

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_policy", "_held_mean"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        # The population's mean is the policy.
        return ["policy", "champion.actor"], []

    def _prepare_to_save(self) -> None:
        if self._boundary is None:
            self._take_policy()
