"""Evolution-based Soft Actor-Critic."""

import copy
import io
import pathlib
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import maybe_make_env
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TensorDict
from stable_baselines3.sac.policies import SACPolicy

from sb3_esac import saving, validation
from sb3_esac.agent.building import AGENT_DEFAULTS, AgentSpec, can_fold, make_agent
from sb3_esac.agent.learner import NO_INTERVAL, IntervalReport, Learner
from sb3_esac.agent.sharing import reads_infos
from sb3_esac.algorithm import PopulationAlgorithm, Selection
from sb3_esac.arguments import collect_arguments, delegate_arguments
from sb3_esac.boundary import AVERAGE
from sb3_esac.budget import Budget, make_budget
from sb3_esac.callbacks import (
    Generation,
    apply_operators,
    are_same,
    brought_up_to_date,
    check_operators,
    default_operators,
    pack,
    start,
    unpack,
)
from sb3_esac.changes import Applied, use_for_agent
from sb3_esac.counters import Counters, handed_on
from sb3_esac.deployment import MeanPolicy
from sb3_esac.environments import check_lanes, warn_of_resets
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evaluation.episode_caps import EpisodeLengthSchedule
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, Pending
from sb3_esac.evaluation.observations import can_normalize
from sb3_esac.evaluation.vec_normalize import merge_episodes, moments_of
from sb3_esac.evaluation.vectors import row_groups, to_vector
from sb3_esac.evolution.population import Origin, PopulationConfig
from sb3_esac.evolution.strategies import strategy_config
from sb3_esac.evolution.strategies.protocol import known_winners
from sb3_esac.removed import REMOVED, explain_removed
from sb3_esac.warm_start import begin_from_agent

SelfESAC = TypeVar("SelfESAC", bound="ESAC")


@delegate_arguments
class ESAC(PopulationAlgorithm):
    """
    Evolution-based Soft Actor-Critic (ESAC): a population explores in weight space, a stock SAC exploits with gradients.

    Paper: K. Suri, X. Q. Shi, K. Plataniotis, Y. Lawryshyn, "Evolve To Control: Evolution-based Soft Actor-Critic for Scalable
    Reinforcement Learning". One call of ``_run_generation`` is one turn of its Algorithm 1.

    The first arguments are SAC's, with SAC's names, order and meaning; they configure the agent, ``model.agent``. Defaults are
    SAC's except for ``learning_rate``, ``learning_starts``, ``batch_size`` and ``tau``.
    ``total_timesteps`` and ``num_timesteps`` count every step of every training environment, the offspring's included.

    Deviations from the paper, each an argument that can be set back: ``agent_fraction`` instead of the annealed intervals,
    ``strategy="canonical"``, no ``crossover``, ``amt_input``, Adam for the mean, the champion as what ``predict`` plays.

    :param policy: The policy model to use (MlpPolicy, CnnPolicy, MultiInputPolicy, or a class).
    :param env: The environment to learn from (if registered in Gym, can be str).
    :param learning_rate: Learning rate of the agent's optimisers, a number or a function of the remaining progress.
    :param buffer_size: Size of the agent's replay buffer.
    :param learning_starts: Random steps that the agent itself plays before its first gradient step.
    :param batch_size: Minibatch size of a gradient step.
    :param tau: Soft update coefficient (Polyak update, between 0 and 1).
    :param gamma: Discount factor.
    :param train_freq: Update the agent every ``train_freq`` of its steps, or a tuple of frequency and unit.
    :param gradient_steps: Gradient steps after each rollout of the agent; -1 for as many as steps were played. The dial
        between wall-clock and sample efficiency.
    :param action_noise: Action noise of the agent.
    :param replay_buffer_class: Replay buffer class, for instance ``HerReplayBuffer``. Chosen automatically if None.
    :param replay_buffer_kwargs: Its arguments.
    :param optimize_memory_usage: Memory-efficient variant of the replay buffer.
    :param n_steps: n-step returns of the critic's targets.
    :param ent_coef: Entropy coefficient, "auto" to learn it.
    :param target_update_interval: Gradient steps between updates of the target network.
    :param target_entropy: Target entropy for ``ent_coef="auto"``.
    :param use_sde: Whether the agent explores with gSDE.
    :param sde_sample_freq: Sample a new gSDE noise matrix every so many steps, -1 for once per rollout.
    :param use_sde_at_warmup: Whether to use gSDE during the agent's warm-up.
    :param stats_window_size: Number of episodes that ``rollout/*`` averages over.
    :param tensorboard_log: Log location for TensorBoard, None for none.
    :param policy_kwargs: Additional arguments of the policy.
    :param verbose: 0 for no output, 1 for info messages, 2 for debug messages.
    :param seed: Seed of everything; None draws one (see ``model.run_seed``).
    :param device: Device of the agent's networks. Offspring always play on the CPU.
    :param _init_setup_model: Whether to build the networks when the instance is created.
    :param population_size: Rollouts per generation, n. Even if ``mirrored``.
    :param sigma: Initial mutation rate.
    :param es_learning_rate: alpha_es, for the mean (``strategy="openai"``) and in mutation tuning.
    :param es_optimizer: "adam" or, as in the paper, "sgd".
    :param mirrored: Whether perturbations come in pairs of opposite sign.
    :param strategy: How the mean moves: "openai" by the gradient estimate of line 11, "canonical" to the log-weighted mean of
        the winners, "cem" and "sep_cma_es" as in :class:`~sb3_esac.ES`.
    :param winner_fraction: e, the fraction of members that become winners.
    :param crossover: What hindsight crossover inherits together: a "row" of a layer or each "element"; None for no crossover.
    :param n_agent_members: Members of each new population that start from the agent.
    :param share_experience: Fraction of each gradient batch that comes from winners, none in the paper; "auto" for a half as
        long as the champion is the population's, with ``agent_fraction="auto"`` only. The population's episodes keep no
        ``info``: where the replay buffer reads it (a class with an ``add`` of its own, ``copy_info_dict``), "auto" shares
        nothing, and a number above 0 is an error.
    :param gradient_interval: g, generations between gradient intervals. Only without ``agent_fraction``.
    :param agent_episodes: Whole episodes that the agent plays in an interval. Only without ``agent_fraction``.
    :param agent_probability: p_sac, a number or a function of the remaining progress; None for the paper's exponential
        annealing. Only without ``agent_fraction``.
    :param agent_fraction: Fraction of all steps that the agent plays, a number or a function of the remaining progress; "auto"
        for all of them while it improves, and a tenth while the population leads (:class:`~sb3_esac.budget.lead.Lead`).
        None for the paper's rule (the three arguments above). With 1 there are no generations, and the agent is all there is.
    :param amt_clip: zeta, the largest step of automatic mutation tuning.
    :param amt_input: What tuning sees as fitness: "raw", "rank" or "normalized".
    :param deploy: What ``predict`` plays: "best" is the champion, "agent" the agent's mean policy, "population" the mean.
    :param champion_episodes: Noise-free episodes that decide who is champion, and with ``agent_fraction="auto"`` who leads;
        0 for no champion, which needs another ``agent_fraction``.
    :param agent_average: Fraction of the agent's updates, the latest ones, over which its actor is averaged before it is
        probed or deployed; 0 for the actor as it is, which is what explores and joins the population in any case.
    :param n_eval_episodes: Episodes of each member in a generation.
    :param alive_bonus_offset: Subtracted from each reward in the fitness (not in what is reported).
    :param normalize_observations: Running normalisation of observations inside the policy. None means: yes, if observations
        are plain vectors, the features extractor is SB3's, its features are read by linear layers (those of ``CrossQ`` are
        normalised there anyway), and no ``VecNormalize`` does it already. Statistics are those of what the agent sees from
        ``agent_fraction=0.1`` on, else of all observations.
    :param episode_length_schedule: Longest episode that an offspring plays: a
        :class:`~sb3_esac.evolution.episode_lengths.ProgressiveEpisodeLength` (or a dict of its arguments), or a function from
        the remaining progress to steps; it is asked once per generation. A cut is a truncation. The agent and the champion's
        probes play whole episodes. None for no limit except the environment's.
    :param agent_class: Any off-policy algorithm with a ``Box`` actor (SAC, TD3, TQC, CrossQ, ...).
    :param agent_kwargs: Arguments of ``agent_class`` that SAC does not have.
    :param updates: "auto" computes the updates of a plain ``SAC`` with ``MlpPolicy`` by hand, in a third of the time with the
        default networks, and on a GPU as one graph; both do what SB3 does except for the last digits. numpy also plays
        the steps of such an agent, with its own exploration noise. SB3 makes the updates and steps of any other agent,
        and of all with "stock".
    :param env_fn: Makes a copy of the environment (one of a ``VecEnv``'s) for a worker. Needed if no copy can be made
        otherwise, as of a ``SubprocVecEnv``; a name, or an environment that can be pickled, needs none.
    :param n_workers: Processes that play offspring. None means one for each environment of a ``SubprocVecEnv``, else none.
    :param backend: "auto" (whole episodes in this process, or in workers where there are any), "lockstep" (all lanes of the
        environment together), "subproc" (whole episodes in worker processes), "ray" (on a cluster that is started for the
        run), "ray:auto" or "ray://host:port" (on one that is there), or an
        :class:`~sb3_esac.evaluation.evaluator.Evaluator` of your own, which is not saved. The result is the same.
    :param overlap: Let the agent play and learn while the population of the same generation is evaluated, so that it learns
        from offspring one generation later. Saves time with workers. The result does not depend on who is faster.
    :param episode_timeout: Seconds after which an episode in a worker is taken for one that hangs, None to wait for ever.
    :param max_worker_restarts: How many dead or hanging workers are replaced in one generation.
    :raises ValueError: If an argument is not what it may be; the message quotes it and says what would be right.
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = SAC.policy_aliases
    learner: Learner
    budget: Budget
    """Decides who plays."""
    operators: list[BaseCallback]
    """What changes the population after selection, in this order: see :mod:`sb3_esac.callbacks`."""

    @explain_removed(REMOVED)
    def __init__(
        self,
        policy: str | type[SACPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 1_000_000,
        learning_starts: int = 2000,
        batch_size: int = 128,
        tau: float = 0.01,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        action_noise: ActionNoise | None = None,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        ent_coef: str | float = "auto",
        target_update_interval: int = 1,
        target_entropy: str | float = "auto",
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        use_sde_at_warmup: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        population_size: int = 10,
        sigma: float = 0.1,
        es_learning_rate: float = 0.02,
        es_optimizer: str = "adam",
        mirrored: bool = True,
        strategy: str = "canonical",
        winner_fraction: float = 0.2,
        crossover: str | None = None,
        n_agent_members: int = 1,
        share_experience: float | str = "auto",
        gradient_interval: int = 5,
        agent_episodes: int = 1,
        agent_probability: float | Schedule | None = None,
        agent_fraction: float | Schedule | str | None = "auto",
        amt_clip: float = 1e-4,
        amt_input: str = "rank",
        deploy: str = "best",
        champion_episodes: int = 5,
        agent_average: float = 0.03,
        n_eval_episodes: int = 1,
        alive_bonus_offset: float = 0.0,
        normalize_observations: bool | None = None,
        episode_length_schedule: EpisodeLengthSchedule | dict[str, Any] | None = None,
        agent_class: type[OffPolicyAlgorithm] = SAC,
        agent_kwargs: dict[str, Any] | None = None,
        updates: str = "auto",
        env_fn: Callable[[], gym.Env] | None = None,
        n_workers: int | None = None,
        backend: str | Evaluator = "auto",
        overlap: bool = False,
        episode_timeout: float | None = None,
        max_worker_restarts: int = 3,
    ) -> None:
        validation.check_policy(policy, policy_kwargs)
        validation.check_agent_class(agent_class)
        # Needed before the policy's name is looked up.
        self.agent_class = agent_class
        self._env_id = env if isinstance(env, str) else None
        if env is not None:
            env = maybe_make_env(env, verbose)
            validation.check_action_space(env)
        super().__init__(
            policy,
            env,
            learning_rate,
            policy_kwargs=copy.copy(policy_kwargs),
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
        )
        self.buffer_size, self.learning_starts, self.batch_size = buffer_size, learning_starts, batch_size
        self.tau, self.gamma = tau, gamma
        self.train_freq, self.gradient_steps = train_freq, gradient_steps
        self.action_noise = action_noise
        self.replay_buffer_class, self.replay_buffer_kwargs = replay_buffer_class, replay_buffer_kwargs
        self.optimize_memory_usage, self.n_steps = optimize_memory_usage, n_steps
        self.ent_coef, self.target_entropy, self.target_update_interval = ent_coef, target_entropy, target_update_interval
        self.use_sde_at_warmup, self.stats_window_size = use_sde_at_warmup, stats_window_size

        self.population_size, self.sigma = population_size, sigma
        self.es_learning_rate, self.es_optimizer = es_learning_rate, es_optimizer
        self.mirrored, self.winner_fraction, self.strategy = mirrored, winner_fraction, strategy
        self.crossover, self.n_agent_members = crossover, n_agent_members
        self.share_experience = share_experience
        self.gradient_interval, self.agent_episodes = gradient_interval, agent_episodes
        self.agent_probability, self.agent_fraction = agent_probability, agent_fraction
        self.amt_clip, self.amt_input = amt_clip, amt_input
        self.deploy, self.champion_episodes, self.agent_average = deploy, champion_episodes, agent_average
        self.n_eval_episodes, self.alive_bonus_offset = n_eval_episodes, alive_bonus_offset
        self.normalize_observations, self.agent_kwargs = normalize_observations, {} if agent_kwargs is None else agent_kwargs
        self.updates = updates
        self.env_fn, self.n_workers, self.backend = env_fn, n_workers, backend
        self.overlap = overlap
        self.episode_length_schedule = episode_length_schedule
        self.episode_timeout, self.max_worker_restarts = episode_timeout, max_worker_restarts

        if _init_setup_model:
            self._check_arguments(None)
            self._setup_model()

    # -- construction --------------------------------------------------------------------------------------------------

    @property
    def _known_policies(self) -> dict[str, type[BasePolicy]]:
        return self.agent_class.policy_aliases

    def _setup_model(self) -> None:
        # Whatever is given to `load` is an attribute by now.
        validation.check_arguments(self)
        is_undecided = self.normalize_observations is None
        if is_undecided:
            self.normalize_observations = can_normalize(
                self.policy_class, self.policy_kwargs, self.observation_space, self._vec_normalize_env
            )
        validation.check_vec_normalize(self._vec_normalize_env, self.observation_space, self.normalize_observations)
        if self.env is not None:
            self.arena.adopt(self.env, self._arena_settings())
        self._setup_lr_schedule()
        agent = self._make_agent()
        if is_undecided and self.normalize_observations and not can_fold(agent):
            # It could not be saved as a plain agent.
            self.normalize_observations = False
            agent = self._make_agent()
        share = 0.0 if isinstance(self.share_experience, str) else self.share_experience
        self.learner = Learner(agent, share=share, average=self.agent_average, updates=self.updates)
        self.counters = Counters(self.arena, self.learner)
        assert not callable(self.sigma)
        self._setup_population(to_vector(self.actor), self.sigma)
        packed = vars(self).pop(saving.OPERATORS, None)
        self.operators = [*default_operators(vars(self))] if packed is None else unpack(packed)
        self._setup_budget()
        self._mean_policy = MeanPolicy()
        if self.env is not None:
            self._let_agent_adopt_env()
        self._applied = Applied(self)
        if self.verbose >= 1 and isinstance(self.share_experience, str) and self.budget.teaches and not self._can_share:
            print("Shared experience: none (the replay buffer reads every `info`, and the population's episodes keep none)")

    def _make_agent(self) -> OffPolicyAlgorithm:
        self.set_random_seed(self.seed)
        return make_agent(self._agent_spec())

    def _agent_spec(self) -> AgentSpec:
        assert self.normalize_observations is not None
        return AgentSpec(
            agent_class=self.agent_class,
            agent_kwargs=self.agent_kwargs,
            policy_class=self.policy_class,
            arguments={name: getattr(self, name) for name in AGENT_DEFAULTS},
            normalize_observations=self.normalize_observations,
            observation_space=self.observation_space,
            action_space=self.action_space,
            env=self.env,
            n_envs=self.n_envs,
            device=self.device,
        )

    def _setup_budget(self) -> None:
        interval, n_episodes = self.gradient_interval, self.agent_episodes
        self.budget = make_budget(self.agent_fraction, self.agent_probability, interval, n_episodes)

    @property
    def _keeps_transitions(self) -> bool:
        """Whether the agent may learn from offspring."""
        share = self.share_experience
        return self.budget.teaches and self._can_share if isinstance(share, str) else share > 0

    @property
    def _can_share(self) -> bool:
        """Whether the replay buffer can do with what offspring's episodes have."""
        return not reads_infos(self.replay_buffer_class, self.replay_buffer_kwargs)

    def _shared(self) -> float:
        """Fraction of each of the agent's batches that comes from winners now."""
        share = self.share_experience
        if not isinstance(share, str):
            return share
        return self.budget.shared(self._progress()) if self._can_share else 0.0

    def _adopt_env(self) -> None:
        super()._adopt_env()
        self._let_agent_adopt_env()

    def _let_agent_adopt_env(self) -> None:
        assert self.env is not None
        validation.check_vec_normalize(self._vec_normalize_env, self.observation_space, self.normalize_observations)
        self.learner.adopt(self.env)
        check_lanes(self)
        warn_of_resets(self.env)

    def _check_arguments(self, changed: Collection[str] | None) -> None:
        if changed is None or "learning_rate" in changed:
            validation.check_learning_rate(self.learning_rate)
        validation.check_arguments(self)
        validation.check_effects(self, validation.EFFECTS, changed)

    def _population_config(self) -> PopulationConfig:
        config = strategy_config(
            self.strategy,
            self.population_size,
            winner_fraction=self.winner_fraction,
            es_learning_rate=self.es_learning_rate,
            es_optimizer=self.es_optimizer,
            mirrored=self.mirrored,
        )
        return replace(config, n_agent_members=self.n_agent_members)

    def _use_arguments(self, changed: set[str]) -> None:
        super()._use_arguments(changed)
        use_for_agent(self, changed)
        if changed & {"agent_fraction", "agent_probability", "gradient_interval", "agent_episodes"}:
            self._setup_budget()
        before, now = default_operators(self._applied.values), default_operators(vars(self))
        self.operators = brought_up_to_date(self.operators, before, now)

    @classmethod
    def from_agent(
        cls: type[SelfESAC],
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | str,
        agent_class: type[OffPolicyAlgorithm] = SAC,
        **kwargs: Any,
    ) -> SelfESAC:
        """
        Start from a trained plain agent: its networks and optimisers become the agent's, its actor the population's mean.

        :param path: Zip file that ``agent_class.save`` wrote.
        :param env: Environment to go on with.
        :param agent_class: What the file holds.
        :param kwargs: Arguments of ESAC; those of the agent are taken from the file unless they are given here.
        :return: A new model.
        :raises ValueError: If ``normalize_observations`` is asked for, or an argument is not what it may be.
        """
        return begin_from_agent(cls, path, env, agent_class, kwargs)

    # -- what is the agent's -------------------------------------------------------------------------------------------

    @property
    def agent(self) -> OffPolicyAlgorithm:
        """The gradient agent, a stock algorithm of SB3: the one truth for its networks, buffer, counters and arguments."""
        return self.learner.agent

    def _policy_of_mean(self) -> BasePolicy:
        return self._mean_policy.of(self.population.mean, self.learner)

    policy: Any = handed_on(
        "agent.policy", "The agent's policy: actor, critic and target. What ``predict`` plays is ``deployed_policy``."
    )
    actor: Any = handed_on("agent.actor", "The agent's actor.")
    critic: Any = handed_on("agent.critic", "The agent's critic.")
    critic_target: Any = handed_on("agent.critic_target", "The agent's target critic.")
    log_ent_coef: th.Tensor | None = handed_on(
        "agent.log_ent_coef", "Logarithm of the agent's entropy coefficient, None if it learns none.", optional=True
    )
    ent_coef_optimizer: th.optim.Optimizer | None = handed_on(
        "agent.ent_coef_optimizer", "Optimiser of the agent's entropy coefficient, None if it learns none.", optional=True
    )

    @property
    def replay_buffer(self) -> ReplayBuffer | None:
        """The agent's replay buffer; the population's store is its ``population_store``."""
        return self.agent.replay_buffer

    @replay_buffer.setter
    def replay_buffer(self, buffer: ReplayBuffer) -> None:
        self.learner.take_buffer(buffer)

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
        :raises ValueError: If version 0.1 of this package has written it.
        """
        self.learner.load_buffer(path, truncate_last_traj)

    # -- one generation ------------------------------------------------------------------------------------------------

    def learn(
        self: SelfESAC,
        total_timesteps: float,
        callback: MaybeCallback = None,
        log_interval: int | None = 1,
        tb_log_name: str = "ESAC",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfESAC:
        """
        Train until ``total_timesteps`` true steps have been taken; a generation that has begun is finished, with its probe of
        the champion. After it an agent that plays half of the steps or more plays the rest when no other one fits in.

        :param total_timesteps: Steps of all training environments together, the offspring's included; may be a float.
        :param callback: Called at every step.
        :param log_interval: Generations between log entries, None for none.
        :param tb_log_name: Name of the run in TensorBoard.
        :param reset_num_timesteps: Whether to count from zero; population, agent and buffers are kept either way.
        :param progress_bar: Show a progress bar.
        :return: The trained model.
        """
        self._learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        return self

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        total, callback = super()._setup_learn(*args, **kwargs)
        self.learner.start(self.logger, total, self.start_time)
        self._share_episode_buffers()
        # What was given to the constructor has not been told how many lanes there are.
        self.action_noise = self.agent.action_noise
        check_operators(self.operators)
        for operator in self.operators:
            start(operator, self)
        return total, callback

    def _forget_returns(self) -> None:
        super()._forget_returns()
        self.learner.level = float("nan")
        self._setup_budget()

    def _share_episode_buffers(self) -> None:
        self.agent.ep_info_buffer, self.agent.ep_success_buffer = self.ep_info_buffer, self.ep_success_buffer

    def _take_turn(self, callback: StepListener) -> bool:
        news = self.budget.advance(self._progress())
        if news and self.verbose >= 1:
            print(news)
        if self.budget.has_generation(self._progress()):
            return self._run_generation(callback)
        if not self._play_interval(callback).goes_on:
            return False
        self._log_budget()
        self.population.form(to_vector(self.actor))
        return True

    def _run_generation(self, callback: StepListener) -> bool:
        offspring = self._mutate()  # lines 5-6
        # With overlap the agent learns from what there is while members play: neither knows what the other is doing.
        pending = self.arena.begin(offspring) if self.overlap else None
        selection = None if self.overlap else self._play_and_select(offspring, callback)  # lines 7-11
        if selection is None and not self.overlap:
            return False
        interval = self._play_interval(callback)  # lines 12-23
        if not interval.goes_on:
            return False
        selection = selection or self._play_and_select(offspring, callback, pending)  # lines 7-11
        if selection is None or not self._probe(callback):
            return False
        if not self._operate(selection.fitness, interval.was_played):  # lines 24 and 26
            return False
        self._log_population(selection.result)
        self.population.form(to_vector(self.actor))  # line 27
        return True

    def _play_interval(self, callback: StepListener) -> IntervalReport:
        """Let the agent play and learn (Algorithm 1, lines 12-23), if it is its turn."""
        progress = self._progress()
        if progress.is_spent or not self.budget.begins(progress):
            return NO_INTERVAL
        self.learner.share(self._shared())
        interval = self.learner.play_interval(self.budget, self._progress, callback)
        self.budget.note_interval(interval.own)
        if interval.returns:
            self.logger.record("agent/return_mean", float(sum(interval.returns) / len(interval.returns)))
        return interval

    def _play_and_select(
        self, offspring: EvaluationRequest, callback: StepListener, pending: Pending | None = None
    ) -> Selection | None:
        selection = super()._play_and_select(offspring, callback, pending)
        if selection is not None:
            self.budget.note_generation(selection.fitness, self.population.config.n_winners)
        if selection is not None and self._keeps_transitions:
            winners = set(known_winners(selection.fitness, self.population.config.n_winners))
            self.learner.take_episodes([episode for episode in selection.result.episodes if episode.member in winners])
        return selection

    def _operate(self, fitness: np.ndarray, agent_trained: bool) -> bool:
        """Let operators change the population; False if one asked to stop."""
        population, number = self.population, self.population.generation
        generation = Generation(number, self.run_seed, population, fitness, agent_trained, partial(row_groups, self.actor))
        return apply_operators(self.operators, generation, self)

    def _candidates(self) -> dict[str, np.ndarray]:
        return {"agent": self.learner.vector, **super()._candidates()}

    def _merge_statistics(self, result: EvaluationResult) -> None:
        # What plays next to nothing sees little of the world: inputs on the scale of that would saturate an agent that
        # explores. A wrapper may have come with statistics, so that nothing is forgotten when the agent begins.
        scales = self.budget.scales_observations(self._progress())
        if not scales:
            merge_episodes(self._vec_normalize_env, result.episodes)
        fresh = moments_of(result.episodes) if self.normalize_observations else None
        if fresh is not None and not (scales and self.learner.has_begun):
            self.learner.scale.merge(fresh, self.learner.averaged, of_the_agent=scales)

    def _log_population(self, result: EvaluationResult) -> None:
        super()._log_population(result)
        origins = self.population.winner_origins
        for name, origin in (("mean", Origin.MEAN), ("winners", Origin.WINNER), ("agent", Origin.AGENT)):
            self.logger.record(f"population/winners_from_{name}", int((origins == origin).sum()))
        self._log_budget()

    def _log_budget(self) -> None:
        for key, value in self.budget.logged(self._progress()).items():
            self.logger.record(key, value)

    # -- saving --------------------------------------------------------------------------------------------------------

    _AFTER_LOADING = ("agent_average",)

    @property
    def parts(self) -> dict[str, saving.Part]:
        return {**super().parts, "budget": self.budget}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "operators", "_mean_policy"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        agent_dicts, agent_tensors = self.agent._get_torch_save_params()
        averages = [] if self.learner.averaged is None else [AVERAGE]
        return [*(f"agent.{name}" for name in agent_dicts), *averages, *state_dicts], [
            *(f"agent.{name}" for name in agent_tensors),
            *tensors,
        ]

    def set_parameters(
        self, load_path_or_dict: str | TensorDict, exact_match: bool = True, device: th.device | str = "auto"
    ) -> None:
        """
        Load parameters from a zip file or a nested dictionary. If the agent's come without an average, averaging starts anew.

        What the champion has returned is no parameter: with ``deploy="best"`` a model whose population has played chooses by
        its own record whether agent or champion is deployed, and a new one deploys the agent. :meth:`load` restores both.

        :param load_path_or_dict: As in SB3, with the names of ``get_parameters``.
        :param exact_match: As in SB3.
        :param device: As in SB3.
        """
        with self.learner.given_parameters():
            super().set_parameters(load_path_or_dict, exact_match, device)

    def _prepare_to_save(self) -> None:
        collect_arguments(self)
        if not are_same(self.operators, default_operators(vars(self))):
            setattr(self, saving.OPERATORS, pack(self.operators))
