"""What ES and ESAC have in common: an SB3 algorithm that is made of parts."""

import inspect
import io
import pathlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule

from sb3_esac import reporting, saving
from sb3_esac.agent.learner import Learner
from sb3_esac.arguments import defaults_of
from sb3_esac.boundary import Boundary, PendingBoundary
from sb3_esac.champion import Challenge, Champion
from sb3_esac.changes import Applied, use_changes, use_for_population
from sb3_esac.counters import Counters, handed_on
from sb3_esac.dashboard import write_layout
from sb3_esac.deployment import deployed
from sb3_esac.evaluation.arena import Arena, ArenaSettings
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evaluation.episode_caps import EpisodeLengthSchedule, check_budget, horizon_of, lengths_of
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, Pending
from sb3_esac.evaluation.players import Player, make_player
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.population import Population, PopulationConfig
from sb3_esac.loop import play_generations

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="PopulationAlgorithm")


@dataclass(frozen=True)
class Selection:
    """
    A generation that has been played and selected from.

    :param result: Its episodes.
    :param fitness: (n,) mean return of each member, the alive bonus taken out.
    """

    result: EvaluationResult
    fitness: np.ndarray


class PopulationAlgorithm(BaseAlgorithm):
    """
    A ``BaseAlgorithm`` of parts that own their state: ``population``, ``arena``, ``champion`` and, in ESAC, ``learner``.

    A subclass gives the actor whose parameters are searched, and says what happens in a generation.
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
    backend: str | Evaluator
    episode_timeout: float | None
    max_worker_restarts: int
    stats_window_size: int

    population: Population
    """Mean, members, origins, sigma and generation of the evolutionary half."""
    champion: Champion
    learner: Learner | None = None
    """The gradient half; ES has none, and what follows is as here."""
    overlap: bool = False
    run_seed: int = -1
    """Seed of everything, drawn if none was given."""

    _AFTER_LOADING: tuple[str, ...] = ()
    """Arguments that decide which parameters there are, so that those of a file are taken before they are changed."""
    _applied: Applied
    _env_id: str | None
    _boundary: Boundary | None = None
    """Where the present generation began, while it is played."""
    _pending: PendingBoundary | None = None
    """Where the generation began in which a loaded model was saved, until it learns."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arena = Arena()
        self.counters = Counters(self.arena)
        super().__init__(*args, **kwargs)

    @property
    def _keeps_transitions(self) -> bool:
        """Whether offspring's transitions are wanted."""
        return False

    @property
    @abstractmethod
    def actor(self) -> Any:
        """Actor that decides what is searched; never perturbed."""

    def _prepare_generation(self, callback: StepListener) -> bool:
        """
        Find out what has to be known before the first generation.

        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """
        return True

    @abstractmethod
    def _run_generation(self, callback: StepListener) -> bool:
        """
        Play one generation.

        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """

    def _take_turn(self, callback: StepListener) -> bool:
        """
        Play a generation, or what takes the place of one.

        :param callback: The user's callbacks.
        :return: False if a callback asked to stop.
        """
        return self._run_generation(callback)

    def _end(self, callback: StepListener) -> None:
        """
        Do what is left to do when the budget is spent.

        :param callback: The user's callbacks.
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

    # -- counters ------------------------------------------------------------------------------------------------------

    num_timesteps: int = handed_on(
        "counters.timesteps", "Every environment step that training took, the agent's and the population's.", settable=True
    )
    agent_timesteps: int = handed_on("counters.agent_timesteps", "Steps of the gradient agent.")
    population_timesteps: int = handed_on("arena.timesteps", "Steps of offspring and of the champion's probes.")
    probe_timesteps: int = handed_on("arena.probe_timesteps", "Steps of the champion's probes.")
    paper_timesteps: float = handed_on(
        "arena.paper_timesteps", "Steps as the paper counts them: of a generation, the length of its mean episode."
    )
    seconds: dict[str, float] = handed_on("counters.seconds", "Where the time goes, by phase; the rest is bookkeeping.")
    _episode_num: int = handed_on("counters.episodes", "Whole episodes of agent and population.", settable=True)
    _n_updates: int = handed_on("counters.updates", "Gradient steps.", settable=True)

    @property
    def _current_progress_remaining(self) -> float:
        total = getattr(self, "_total_timesteps", 0)
        return max(0.0, 1.0 - float(self.num_timesteps) / float(total)) if total else 1.0

    @_current_progress_remaining.setter
    def _current_progress_remaining(self, value: float) -> None:
        """SB3 sets it as it counts; here it is what the counters say."""

    def _progress(self, n_agent_episodes: int = 0, ahead: int = 0) -> Progress:
        """
        Say where the run stands.

        :param n_agent_episodes: Whole episodes that the agent has played in this interval.
        :param ahead: Steps of the agent that have been taken and are not counted yet.
        """
        arena, config = self.arena, self.population.config
        return Progress(
            run_seed=self.run_seed,
            generation=self.population.generation,
            timesteps=self.num_timesteps + ahead,
            agent_timesteps=self.agent_timesteps + ahead,
            total_timesteps=self._total_timesteps,
            generation_timesteps=config.size * self.n_eval_episodes * arena.mean_length
            + self.champion_episodes * arena.probe_length,
            generation_episodes=config.size * self.n_eval_episodes + self.champion_episodes,
            n_agent_episodes=n_agent_episodes,
            n_lanes=self.n_envs,
            agent_is_champion=self.champion.record is None or self.champion.record.source == "agent",
            overlaps=self.overlap,
        )

    # -- construction --------------------------------------------------------------------------------------------------

    @property
    def _known_policies(self) -> dict[str, type[BasePolicy]]:
        return self.policy_aliases

    def _get_policy_from_name(self, policy_name: str) -> type[BasePolicy]:
        known = self._known_policies
        if policy_name not in known:
            raise ValueError(f"Policy {policy_name!r} unknown: use one of {', '.join(map(repr, known))}, or a class")
        return known[policy_name]

    def set_random_seed(self, seed: int | None = None) -> None:
        """
        Seed everything that follows, perturbations and episodes included.

        :param seed: The seed; None changes nothing.
        """
        # Python's generator takes no number of numpy's
        seed = None if seed is None else index(seed)
        super().set_random_seed(seed)
        if seed is not None:
            self.seed = self.run_seed = seed

    def _setup_population(self, mean: np.ndarray, sigma: float) -> None:
        """Make population and champion; a saved state follows if a model is being loaded."""
        if self.run_seed < 0:
            self.run_seed = int(np.random.randint(2**31))
        self._configure_episode_lengths()
        self.population = Population(mean, sigma, self._population_config())
        self.champion = Champion(self.actor)

    def _configure_episode_lengths(self) -> None:
        # Files of hyperparameters can name its arguments, but make no object.
        if isinstance(self.episode_length_schedule, dict):
            self.episode_length_schedule = lengths_of(self.episode_length_schedule)
        if isinstance(self.episode_length_schedule, ProgressiveEpisodeLength) and self.env is not None:
            horizon_of(self.episode_length_schedule, self.env)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """
        Train on another environment with the same spaces and number of lanes.

        If it calls itself otherwise (``str(env)``: class, registered name, wrappers that are no monitors), it is another task:
        the next ``learn`` looks for a champion anew, and in ESAC decides anew who leads.

        :param env: The environment.
        :param force_reset: As in SB3; generations always begin with a reset.
        """
        before, env_id = self.env, self._env_id
        super().set_env(env, force_reset)
        self._env_id = None
        if self.env_fn is not None and before not in (None, self.env) and self.env_fn is self._applied.values["env_fn"]:
            warnings.warn(
                "Workers go on with what `env_fn` makes, on whatever environment the model is: set `model.env_fn`, too, if "
                "this is another one.",
                stacklevel=2,
            )
        try:
            self._adopt_env()
        except ValueError:
            # A model that was refused an environment stays on its own.
            if before is not None:
                super().set_env(before, force_reset)
                self._env_id = env_id
                self._adopt_env()
            raise
        self._applied.adopted_env = self.env

    def _adopt_env(self) -> None:
        """Tell the parts that hold an environment of a new one."""
        assert self.env is not None
        self.arena.adopt(self.env, self._arena_settings())

    def _arena_settings(self) -> ArenaSettings:
        return ArenaSettings(
            backend=self.backend,
            n_workers=self.n_workers,
            env_fn=self.env_fn,
            env_id=self._env_id,
            episode_timeout=self.episode_timeout,
            max_worker_restarts=self.max_worker_restarts,
            n_eval_episodes=self.n_eval_episodes,
        )

    def _use_arguments(self, changed: set[str]) -> None:
        """
        Go by arguments that were changed.

        :param changed: Their names, "env" if there is another environment.
        """
        use_for_population(self, changed)

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
        if self.env is None:
            raise ValueError("The model has no environment to learn on: pass `env` to `load`, or call `set_env` first")
        if self._pending is not None:
            # Arguments that were changed change the population, but not where it goes on.
            self._pending.goes_back = not reset_num_timesteps and self._pending.is_untouched(self)
        use_changes(self)
        budget = check_budget(total_timesteps, self.episode_length_schedule)
        total, callback = self._setup_learn(budget, callback, reset_num_timesteps, tb_log_name, progress_bar)
        # Callbacks such as the progress bar read this name from the locals.
        total_timesteps = total
        write_layout(self.logger, has_agent=self.learner is not None)
        callback.on_training_start(locals(), globals())
        use_changes(self)
        play_generations(self, StepListener(callback, self, self.arena), log_interval)
        callback.on_training_end()

    def _setup_learn(  # type: ignore[override]
        self, total_timesteps: int, callback: MaybeCallback, reset_num_timesteps: bool, *args: Any
    ) -> tuple[int, BaseCallback]:
        # SB3 resets the environment here. Its observations are not used, and a resumed run would count it once more.
        with self.arena.without_reset():
            # The total is counted from the steps that the user sees.
            total, callback = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args)
        pending, self._pending = self._pending, None
        if pending is not None:
            if pending.goes_back:
                pending.go_back(self)
                self._num_timesteps_at_start = self.num_timesteps
            else:
                pending.begin_again(self)
        if self.arena.begins_other_task():
            self._forget_returns()
        return total, callback

    def _forget_returns(self) -> None:
        """Returns of another task tell nothing of this one."""
        self.champion.forget()

    # -- what a generation is made of ----------------------------------------------------------------------------------

    def _mutate(self) -> EvaluationRequest:
        """Perturb every member (Algorithm 1, lines 5-6), and say which episodes it plays."""
        population = self.population
        size, k = population.config.size, self.n_eval_episodes
        numbers = range(size * k)
        seeds = [episode_seed(self.run_seed, population.generation, Stream.POPULATION_EPISODE, number) for number in numbers]
        return self.arena.request(
            population.perturb(self.run_seed),
            np.array(seeds).reshape(size, k),
            make_player(self.actor),
            transitions=self._keeps_transitions,
            moments=bool(self.normalize_observations),
        )

    def _play_and_select(
        self, offspring: EvaluationRequest, callback: StepListener, pending: Pending | None = None
    ) -> Selection | None:
        """
        Evaluate every member, select winners and move the mean (Algorithm 1, lines 7-11).

        :param offspring: What is played.
        :param callback: The user's callbacks.
        :param pending: The same, begun earlier.
        :return: None if a callback asked to stop.
        """
        callback.on_rollout_start()
        result = self._play(offspring, callback, pending)
        if result is None:
            return None
        callback.on_rollout_end()
        self.arena.note_generation(result)
        self._merge_statistics(result)
        fitness = (result.returns - self.alive_bonus_offset * result.lengths).mean(axis=1)
        self.population.update(offspring.parameters, fitness)
        return Selection(result, fitness)

    def _play(self, offspring: EvaluationRequest, callback: StepListener, pending: Pending | None) -> EvaluationResult | None:
        """Evaluate every member; None if a callback asked to stop."""
        return self.arena.play(offspring, callback.tell, pending)

    @abstractmethod
    def _merge_statistics(self, result: EvaluationResult) -> None:
        """
        Merge what the generation saw into the statistics that were frozen meanwhile.

        :param result: Its episodes.
        """

    # -- the champion --------------------------------------------------------------------------------------------------

    def _candidates(self) -> dict[str, np.ndarray]:
        """Parameters that could be the champion's, by source."""
        candidates = {"mean": self.population.mean}
        return {**candidates, "winner": self.population.winners[0]} if len(self.population.winners) else candidates

    def _probes(self, player: Player | None = None) -> list[EvaluationRequest]:
        """
        What has to be played next to find a better champion.

        :param player: Plays as the actor does now, if there is one already.
        """
        challenge = Challenge(
            candidates=self._candidates(),
            actor=self.actor,
            player=player or make_player(self.actor),
            generation=self.population.generation,
            run_seed=self.run_seed,
            n_episodes=self.champion_episodes,
            timesteps=self.num_timesteps,
        )
        return self.champion.ask(challenge, self.arena)

    def _judge(self, probed: Sequence[EvaluationResult]) -> None:
        """Let the champion know what came of :meth:`_probes`."""
        if probed and self.champion.tell(probed) == "agent" and self.learner is not None:
            self.learner.withdraw()

    def _probe(self, callback: StepListener) -> bool:
        """Let candidates challenge the champion until that is decided; False if a callback asked to stop."""
        while probes := self._probes():
            played = self.arena.play_with_probes(None, probes, callback.tell)
            if played is None:
                return False
            self._judge(played[1])
        return True

    # -- logs ----------------------------------------------------------------------------------------------------------

    def _log_population(self, result: EvaluationResult) -> None:
        reporting.record_population(self.logger, result, self.population, self.arena, self.champion)

    def dump_logs(self) -> None:
        """Write what has been recorded since the last time."""
        assert self.ep_info_buffer is not None and self.ep_success_buffer is not None
        reporting.record_episodes(self.logger, self.ep_info_buffer, self.ep_success_buffer)
        if getattr(self.actor, "use_sde", False):
            reporting.record_exploration(self.logger, self.actor)
        reporting.record_counters(self.logger, self.counters, self.population.generation)
        n_new = self.num_timesteps - self._num_timesteps_at_start
        reporting.record_seconds(self.logger, self.start_time, n_new, self.seconds)
        self.logger.dump(step=self.num_timesteps)

    # -- acting --------------------------------------------------------------------------------------------------------

    @property
    def deployed_policy(self) -> BasePolicy:
        """What ``predict`` plays, as ``deploy`` says: the champion, the agent or the mean of the population."""
        return deployed(self.deploy, self.champion, self.learner, self._policy_of_mean)

    @abstractmethod
    def _policy_of_mean(self) -> BasePolicy:
        """Make a policy of the population's mean."""

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
        :param episode_start: Not used, for the same reason.
        :param deterministic: Play the mean action. What population and champion were chosen for is this.
        :return: The action or actions, and ``state``.
        """
        return self.deployed_policy.predict(observation, state, episode_start, deterministic)

    # -- saving --------------------------------------------------------------------------------------------------------

    @property
    def parts(self) -> dict[str, saving.Part]:
        """Those that own the state of the run, by name."""
        parts: dict[str, saving.Part] = {"population": self.population, "arena": self.arena, "champion": self.champion}
        return parts if self.learner is None else {**parts, "learner": self.learner}

    def _excluded_save_params(self) -> list[str]:
        hidden = ["counters", "env_fn", "_env_id", "_applied", "_boundary", "_pending"]
        # An evaluator has processes and environments: after loading it is the default one's turn.
        own = ["backend"] if isinstance(self.backend, Evaluator) else []
        return [*super()._excluded_save_params(), *hidden, *own, *self.parts]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["population", "champion.actor"], []

    def _prepare_to_save(self) -> None:
        """Put what is elsewhere where SB3 finds it."""

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
        with saving.attached(self, exclude or ()):
            super().save(path, exclude, include)

    @classmethod
    def load(cls: type[SelfAlgorithm], path: Any, *args: Any, **kwargs: Any) -> SelfAlgorithm:
        """
        Load a model, as in SB3. It is what it was when it was saved; if that was within a generation, ``learn`` goes back to
        where that began.

        :param path: Zip file that ``save`` wrote.
        :param args: As in SB3.
        :param kwargs: As in SB3: ``env``, ``device``, ..., and arguments that take the place of the saved ones. An
            ``Evaluator`` that was passed as ``backend`` is not saved: the backend is "auto" unless one is passed here.
        :return: The model.
        :raises ValueError: If another version of this package has written the file in another form, or an argument is to be
            changed that the networks in the file depend on, or has no effect beside the others, or is unknown.
        """
        known = {*defaults_of(cls), *inspect.signature(BaseAlgorithm.load).parameters}
        saving.check_form(path, kwargs, known)
        later = {name: kwargs.pop(name) for name in cls._AFTER_LOADING if name in kwargs}
        model = super().load(path, *args, **kwargs)
        for name, value in later.items():
            setattr(model, name, value)
        if later:
            use_changes(model)
        model._check_arguments(kwargs.keys() & defaults_of(cls).keys())
        saving.restore(model, kwargs.keys())
        return model
