"""Checks of constructor arguments: each error quotes the value and says what would be right."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_esac.agent.sharing import has_own_add, reads_infos
from sb3_esac.arguments import check_train_freq, defaults_of, same
from sb3_esac.evaluation.backends import BACKENDS, asks_for_workers, is_backend, may_make_workers
from sb3_esac.evaluation.episode_caps import cap_of
from sb3_esac.evolution.arguments import (
    check_population,
    is_count,
    is_number,
    require,
    require_count,
    require_not_negative,
    require_option,
    require_positive,
)
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.strategies import STRATEGIES, is_mirrored


def require_schedule(name: str, schedule: Callable[[float], Any], is_right: Callable[[Any], bool], expected: str) -> None:
    """A function of the remaining progress must give what is expected, at the start and at the end."""
    ends = [schedule(progress_remaining) for progress_remaining in (1.0, 0.0)]
    way = f"(it goes from {ends[0]!r} to {ends[1]!r})"
    require(all(map(is_right, ends)), name, schedule, f"{expected} from the start to the end of training {way}")


def require_fraction(name: str, value: Any, *others: str | None) -> None:
    """The argument must be in [0, 1], a schedule of such numbers, or one of the others."""
    if callable(value):
        require_schedule(name, value, lambda end: is_number(end) and 0 <= end <= 1, "in [0, 1]")
        return
    is_another = (value is None or isinstance(value, str)) and value in others
    if not is_another:
        expected = ["in [0, 1]", "a function of the remaining progress", *map(repr, others)]
        require(is_number(value) and 0 <= value <= 1, name, value, f"{', '.join(expected[:-1])} or {expected[-1]}")


def check_policy(policy: Any, policy_kwargs: Any) -> None:
    """The policy must be a name or a class, its arguments a dict."""
    is_policy = isinstance(policy, str) or (isinstance(policy, type) and issubclass(policy, BasePolicy))
    require(is_policy, "policy", policy, "a name such as 'MlpPolicy', or a class of policies")
    require(policy_kwargs is None or isinstance(policy_kwargs, Mapping), "policy_kwargs", policy_kwargs, "a dict or None")


def check_agent_class(agent_class: Any) -> None:
    """The agent must be an off-policy algorithm for continuous actions."""
    is_off_policy = isinstance(agent_class, type) and issubclass(agent_class, OffPolicyAlgorithm)
    expected = "an off-policy algorithm for continuous actions, such as SAC, TD3, TQC or CrossQ"
    require(is_off_policy and not issubclass(agent_class, DQN), "agent_class", agent_class, expected)


def check_action_space(env: gym.Env | VecEnv, *, discrete: bool = False) -> None:
    """
    Actions must be a ``Box`` with finite bounds.

    :param env: The environment.
    :param discrete: Whether they may be ``Discrete`` instead.
    """
    expected = "an environment of Gymnasium, its registered name, or a VecEnv (`make_vec_env` makes one of functions)"
    require(isinstance(getattr(env, "action_space", None), spaces.Space), "env", env, expected)
    space = env.action_space
    if discrete and isinstance(space, spaces.Discrete):
        return
    kind = "a Box or Discrete" if discrete else "a Box: ESAC is for continuous actions"
    require(isinstance(space, spaces.Box), "env.action_space", space, kind)
    bounds = np.concatenate([space.low.ravel(), space.high.ravel()])  # type: ignore[attr-defined]
    expected = "a Box with finite bounds: wrap the environment with `gymnasium.wrappers.RescaleAction` or clip its actions"
    require(bool(np.isfinite(bounds).all()), "env.action_space", space, expected)


def check_learning_rate(learning_rate: Any) -> None:
    """
    The agent's learning rate must be positive or a schedule.

    Not checked when a model is loaded: rl-zoo3 puts zero in its place to watch one.

    :param learning_rate: The argument.
    """
    if not callable(learning_rate):
        require_positive("learning_rate", learning_rate)


COUNTS = {
    "gradient_interval": 1,
    "agent_episodes": 1,
    "batch_size": 1,
    "buffer_size": 1,
    "gradient_steps": -1,
    "n_steps": 1,
    "target_update_interval": 1,
}
"""Arguments of ESAC that are integers, and the least that they may be."""

OPTIONS = {
    "strategy": tuple(STRATEGIES),
    "mirrored": (True, False),
    "crossover": (None, "row", "element"),
    "amt_input": ("raw", "rank", "normalized"),
    "deploy": ("best", "agent", "population"),
    "overlap": (True, False),
    "updates": ("auto", "stock"),
}
"""Arguments of ESAC that are one of several words."""


def check_common_arguments(model: Any) -> None:
    """
    Check the arguments that every algorithm with a population has.

    :param model: The model, whose attributes they are.
    """
    require_positive("es_learning_rate", model.es_learning_rate)
    for name, least in (("n_eval_episodes", 1), ("champion_episodes", 0), ("max_worker_restarts", 0)):
        require_count(name, getattr(model, name), least)
    require_option("es_optimizer", model.es_optimizer, ("adam", "sgd"))
    require(model.seed is None or is_count(model.seed, 0), "seed", model.seed, "an integer >= 0 or None")
    expected = "a function that makes a copy of the environment, or None"
    require(model.env_fn is None or callable(model.env_fn), "env_fn", model.env_fn, expected)
    offset, lengths, normalize = model.alive_bonus_offset, model.episode_length_schedule, model.normalize_observations
    require(is_number(offset), "alive_bonus_offset", offset, "a finite number")
    expected = "a function of the remaining progress, a ProgressiveEpisodeLength (or a dict of its arguments) or None"
    is_schedule = lengths is None or callable(lengths) or isinstance(lengths, ProgressiveEpisodeLength | dict)
    require(is_schedule, "episode_length_schedule", lengths, expected)
    if callable(lengths):
        for progress_remaining in (1.0, 0.0):
            cap_of(lengths, progress_remaining)
    require(normalize in (None, True, False), "normalize_observations", normalize, "True, False or None")
    check_workers(model.backend, model.n_workers, model.episode_timeout)


def check_arguments(model: Any) -> None:
    """
    Check the arguments of ESAC that need no environment.

    :param model: The model, whose attributes they are.
    """
    check_agent_class(model.agent_class)
    for name, options in OPTIONS.items():
        require_option(name, getattr(model, name), options)
    mirrored = is_mirrored(model.strategy, model.mirrored)
    check_population(model.population_size, mirrored, model.winner_fraction, model.n_agent_members)
    check_common_arguments(model)
    require_positive("sigma", model.sigma)
    for name, least in COUNTS.items():
        require_count(name, getattr(model, name), least)
    require_fraction("agent_fraction", model.agent_fraction, "auto", None)
    require_fraction("agent_probability", model.agent_probability, None)
    decides = model.champion_episodes > 0 or model.agent_fraction != "auto"
    expected = "an integer >= 1 beside `agent_fraction='auto'`, as the champion's episodes decide who leads"
    require(decides, "champion_episodes", model.champion_episodes, expected)
    share = model.share_experience
    is_given = is_number(share) and 0 <= share <= 1
    require(is_given or share == "auto", "share_experience", share, "in [0, 1] or 'auto'")
    check_sharing(share, model.replay_buffer_class, model.replay_buffer_kwargs)
    window = model.agent_average
    require(is_number(window) and 0 <= window <= 1, "agent_average", window, "in [0, 1]")
    require_not_negative("amt_clip", model.amt_clip)
    check_agent_arguments(model)
    check_train_freq(model.train_freq, model.n_envs)


def check_agent_arguments(model: Any) -> None:
    """
    Check what is the agent's and no count: SB3 does not, and fails while it learns.

    :param model: The model, whose attributes they are.
    """
    require_not_negative("learning_starts", model.learning_starts)
    for name in ("tau", "gamma"):
        value = getattr(model, name)
        require(is_number(value) and 0 <= value <= 1, name, value, "in [0, 1]")
    coefficient = model.ent_coef
    is_learned = isinstance(coefficient, str) and coefficient.startswith("auto")
    expected = "a finite number >= 0, 'auto', or 'auto_' and the number to begin with"
    require(is_learned or (is_number(coefficient) and coefficient >= 0), "ent_coef", coefficient, expected)
    noise, further = model.action_noise, model.agent_kwargs
    require(noise is None or isinstance(noise, ActionNoise), "action_noise", noise, "an ActionNoise or None")
    require(isinstance(further, Mapping), "agent_kwargs", further, "a dict of arguments of `agent_class`, or None")


def check_sharing(share: float | str, kind: type[ReplayBuffer] | None, arguments: Mapping[str, Any] | None) -> None:
    """
    Only what the population's episodes have can be shared.

    :param share: ``share_experience``, which is one of its values.
    :param kind: Class of the replay buffer, or None.
    :param arguments: Its arguments.
    """
    if share not in (0, "auto") and reads_infos(kind, arguments):
        assert kind is not None
        reader = f"the `add` of `replay_buffer_class={kind.__name__}`" if has_own_add(kind) else "`copy_info_dict=True`"
        expected = f"0 or 'auto', as {reader} reads every `info` of a step, and the population's episodes keep none"
        require(False, "share_experience", share, expected)


def check_es_arguments(model: Any) -> None:
    """
    Check the arguments of ES that need no environment.

    :param model: The model, whose attributes they are.
    """
    require_option("strategy", model.strategy, tuple(STRATEGIES))
    require_option("mirrored", model.mirrored, (True, False, None))
    require_option("deploy", model.deploy, ("best", "population"))
    check_common_arguments(model)
    if STRATEGIES[model.strategy].adapts_sigma:
        expected = f"a positive finite number, where to start from: `strategy={model.strategy!r}` adapts it"
        require(is_number(model.sigma) and model.sigma > 0, "sigma", model.sigma, expected)
    _check_sigma_schedule(model.sigma)
    require_not_negative("weight_decay", model.weight_decay)
    check_population(model.population_size, is_mirrored(model.strategy, model.mirrored), model.winner_fraction)


def _check_sigma_schedule(sigma: Any) -> None:
    if not callable(sigma):
        require_positive("sigma", sigma)
        return
    require_schedule("sigma", sigma, lambda end: is_number(end) and end > 0, "positive")


def check_workers(backend: Any, n_workers: Any, episode_timeout: Any) -> None:
    """
    Check what is said about workers.

    :param backend: Who plays offspring.
    :param n_workers: Number of processes, or None.
    :param episode_timeout: Seconds, or None.
    """
    expected = ", ".join(map(repr, BACKENDS)) + ", 'ray:' with an address or an `Evaluator`"
    require(is_backend(backend), "backend", backend, expected)
    if n_workers is not None:
        require_count("n_workers", n_workers, 1)
    if episode_timeout is not None:
        require_positive("episode_timeout", episode_timeout)


def check_vec_normalize(
    vec_normalize: VecNormalize | None, space: spaces.Space[Any], normalize_observations: bool | None
) -> None:
    """
    Observations are normalised in one place, and nothing beyond ``VecNormalize`` changes their shape.

    :param vec_normalize: The wrapper, None if there is none.
    :param space: Observation space of the policy.
    :param normalize_observations: Whether the policy normalises.
    """
    if vec_normalize is None:
        return
    both = bool(normalize_observations) and vec_normalize.norm_obs
    expected = (
        "False with `VecNormalize(norm_obs=True)`, since one of the two is enough (a model that has been made to normalise "
        "observations itself goes on with `VecNormalize(norm_obs=False)`)"
    )
    require(not both, "normalize_observations", normalize_observations, expected)
    # Replay buffers hold what came into VecNormalize.
    expected = f"wrapped by `VecNormalize` last, after `VecFrameStack` and `VecTransposeImage` (the policy sees {space})"
    require(_shapes(vec_normalize.observation_space) == _shapes(space), "env", vec_normalize.observation_space, expected)


def _shapes(space: spaces.Space[Any]) -> Any:
    return {key: part.shape for key, part in space.spaces.items()} if isinstance(space, spaces.Dict) else space.shape


@dataclass(frozen=True)
class Effect:
    """
    When an argument has an effect.

    :param argument: Its name.
    :param holds: Tells from the arguments, as attributes, whether it has one.
    :param beside: Names of the arguments that decide.
    :param instead: What to pass for it to have one.
    """

    argument: str
    holds: Callable[[Any], bool]
    beside: tuple[str, ...]
    instead: str


def _has_workers(model: Any) -> bool:
    if getattr(model, "env", None) is None:
        # What it will learn from is not known yet.
        return may_make_workers(model.backend)
    return asks_for_workers(model.env, model.backend, model.n_workers)


_WORKERS = (
    Effect("env_fn", _has_workers, ("backend", "n_workers"), "`backend='subproc'`"),
    Effect(
        "n_workers",
        lambda m: may_make_workers(m.backend) or (m.backend == "lockstep" and m.n_workers in (None, 1)),
        ("backend",),
        "`backend='auto'` or `'subproc'`",
    ),
    *(
        Effect(name, _has_workers, ("backend", "n_workers"), "`backend='subproc'`")
        for name in ("episode_timeout", "max_worker_restarts")
    ),
)


def _of_strategies(name: str) -> Effect:
    """An argument that some strategies have a use for."""
    takers = " or ".join(repr(strategy) for strategy, kind in STRATEGIES.items() if name in kind.arguments)
    return Effect(name, lambda m: name in STRATEGIES[m.strategy].arguments, ("strategy",), f"`strategy={takers}`")


def _shares(model: Any) -> bool:
    """Whether the agent may learn from the winners."""
    share = model.share_experience
    if share != "auto":
        return bool(share > 0)
    return bool(model.agent_fraction == "auto") and not reads_infos(model.replay_buffer_class, model.replay_buffer_kwargs)


EFFECTS = (
    *(
        Effect(name, lambda m: m.agent_fraction is None, ("agent_fraction",), "`agent_fraction=None`")
        for name in ("gradient_interval", "agent_episodes", "agent_probability")
    ),
    _of_strategies("es_optimizer"),
    _of_strategies("mirrored"),
    Effect(
        "es_learning_rate",
        lambda m: "es_learning_rate" in STRATEGIES[m.strategy].arguments or m.amt_clip > 0,
        ("strategy", "amt_clip"),
        "`strategy='openai'` or an `amt_clip` above 0",
    ),
    Effect(
        "winner_fraction",
        # A strategy with a fraction of its own has these winners everywhere.
        lambda m: (
            "winner_fraction" in STRATEGIES[m.strategy].arguments
            or (STRATEGIES[m.strategy].winner_fraction is None and (m.crossover is not None or _shares(m)))
        ),
        ("strategy", "crossover", "share_experience"),
        "`strategy='canonical'`, or beside `strategy='openai'` a `crossover` or a `share_experience` above 0",
    ),
    Effect("amt_input", lambda m: m.amt_clip > 0, ("amt_clip",), "an `amt_clip` above 0"),
    Effect(
        "agent_average",
        lambda m: m.deploy != "population" or m.champion_episodes > 0,
        ("deploy", "champion_episodes"),
        "`deploy='best'` or `'agent'`, or `champion_episodes` above 0",
    ),
    *(Effect(name, lambda m: m.use_sde, ("use_sde",), "`use_sde=True`") for name in ("sde_sample_freq", "use_sde_at_warmup")),
    Effect("target_entropy", lambda m: isinstance(m.ent_coef, str), ("ent_coef",), "`ent_coef='auto'`"),
    Effect(
        "n_steps",
        lambda m: m.replay_buffer_class is None,
        ("replay_buffer_class",),
        "`replay_buffer_class=None`, or say it in `replay_buffer_kwargs`",
    ),
    *_WORKERS,
)
"""
Arguments of ESAC that have no effect beside certain values of others. All others always have one.

What is asked is whether a part of the algorithm is there at all. An agent that plays nothing (``agent_fraction=0``) or learns
nothing (``gradient_steps=0``) is there: these are the ends of scales, where schedules begin and ablations are made.
"""

ES_EFFECTS = (
    *map(_of_strategies, ("es_learning_rate", "es_optimizer", "weight_decay", "winner_fraction", "mirrored")),
    *_WORKERS,
)
"""Arguments of ES that have no effect beside certain values of others. All others always have one."""


def check_effects(model: Any, effects: Collection[Effect], changed: Collection[str] | None) -> None:
    """
    Check that nothing was said in vain. Not for a model that is loaded: its file has all of its arguments.

    :param model: The model, whose attributes the arguments are.
    :param effects: When they have an effect.
    :param changed: Names of those that were set; None for all that are not at their defaults.
    :raises ValueError: If one has no effect beside the others.
    """
    defaults = defaults_of(model.__class__)
    for effect in effects:
        name, value = effect.argument, getattr(model, effect.argument)
        is_set = (changed is None or name in changed) and not same(value, defaults[name])
        if is_set and not effect.holds(model):
            others = ", ".join(f"`{other}={getattr(model, other)!r}`" for other in effect.beside)
            raise ValueError(
                f"`{name}={value!r}` has no effect beside {others}: pass {effect.instead}, or leave it at {defaults[name]!r}"
            )


def effective(
    effects: Collection[Effect], defaults: Mapping[str, Any], donated: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """
    Choose from what a donor was made with what has an effect beside what the user says.

    :param effects: When arguments have an effect.
    :param defaults: Defaults of all arguments.
    :param donated: Arguments of the donor.
    :param given: Arguments of the user.
    :return: Part of ``donated``.
    """
    together = SimpleNamespace(**{**defaults, **donated, **given})
    idle = {effect.argument for effect in effects if not effect.holds(together)}
    return {name: value for name, value in donated.items() if name not in idle}
