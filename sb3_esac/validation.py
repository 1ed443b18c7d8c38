"""Checks of constructor arguments: each error quotes the value and says what would be right."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_esac.evaluation.backends import BACKENDS, is_backend
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.evolution.operators import winner_count


def require(condition: bool, name: str, value: Any, expected: str) -> None:
    """
    Raise a ``ValueError`` unless a condition holds.

    :param condition: What has to hold.
    :param name: Name of the argument.
    :param value: Its value.
    :param expected: What would be right.
    """
    if not condition:
        raise ValueError(f"`{name}` must be {expected}, not {value!r}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (a bool is none)."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def is_count(value: Any, least: int) -> bool:
    """Whether a value is an integer of at least ``least``."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def require_positive(name: str, value: Any) -> None:
    """The argument must be a positive finite number."""
    require(is_number(value) and value > 0, name, value, "a positive finite number")


def require_count(name: str, value: Any, least: int) -> None:
    """The argument must be an integer of at least ``least``."""
    require(is_count(value, least), name, value, f"an integer >= {least}")


def require_fraction(name: str, value: Any) -> None:
    """The argument must be in [0, 1] or a schedule."""
    if not callable(value):
        require(is_number(value) and 0 <= value <= 1, name, value, "in [0, 1] or a function of the remaining progress")


def require_option(name: str, value: Any, options: Sequence[str]) -> None:
    """The argument must be one of the options."""
    require(value in options, name, value, "one of " + ", ".join(repr(option) for option in options))


def check_population(size: Any, mirrored: bool, winner_fraction: Any, n_agent_members: Any) -> None:
    """
    Check the sizes of a population and its parts.

    :param size: n.
    :param mirrored: Whether perturbations come in pairs.
    :param winner_fraction: e.
    :param n_agent_members: Members that start from the agent.
    """
    kind = "an even integer >= 2 (perturbations are mirrored)" if mirrored else "an integer >= 2"
    require(is_count(size, 2) and not (mirrored and size % 2), "population_size", size, kind)
    fraction_is_right = is_number(winner_fraction) and 0 < winner_fraction <= 1
    require(fraction_is_right, "winner_fraction", winner_fraction, "in (0, 1]")
    n_winners = winner_count(size, winner_fraction)
    least = f"at least 1 / population_size = {1 / size:g}, so that there is a winner"
    require(n_winners >= 1, "winner_fraction", winner_fraction, least)
    require_count("n_agent_members", n_agent_members, 0)
    room = size - n_winners
    require(
        n_agent_members <= room, "n_agent_members", n_agent_members, f"at most {room} beside {n_winners} winners of {size}"
    )


def check_agent_class(agent_class: Any) -> None:
    """The agent must be an off-policy algorithm for continuous actions."""
    is_off_policy = isinstance(agent_class, type) and issubclass(agent_class, OffPolicyAlgorithm)
    expected = "an off-policy algorithm for continuous actions, such as SAC, TD3, TQC or CrossQ"
    require(is_off_policy and not issubclass(agent_class, DQN), "agent_class", agent_class, expected)


def check_action_space(env: gym.Env | VecEnv) -> None:
    """Actions must be a ``Box`` with finite bounds."""
    space = env.action_space
    require(isinstance(space, spaces.Box), "env.action_space", space, "a Box: ESAC is for continuous actions")
    bounds = np.concatenate([space.low.ravel(), space.high.ravel()])  # type: ignore[attr-defined]
    expected = "a Box with finite bounds: wrap the environment with `gymnasium.wrappers.RescaleAction` or clip its actions"
    require(bool(np.isfinite(bounds).all()), "env.action_space", space, expected)


COUNTS = {
    "gradient_interval": 1,
    "agent_episodes": 1,
    "n_eval_episodes": 1,
    "champion_episodes": 0,
    "max_worker_restarts": 0,
}
"""Arguments that are integers, and the least that they may be."""

OPTIONS = {
    "es_optimizer": ("adam", "sgd"),
    "recombination": ("winners", "es"),
    "crossover": ("row", "element", "none"),
    "guest_gradient": ("displacement", "exclude"),
    "share_from": ("winners", "all"),
    "amt_input": ("raw", "rank", "normalized"),
    "amt_rule": ("paper", "two_sided"),
    "deploy": ("best", "agent", "population"),
}
"""Arguments that are one of several words."""


def check_arguments(model: Any) -> None:
    """
    Check the arguments of ESAC that need no environment.

    :param model: The model, whose attributes they are.
    """
    check_agent_class(model.agent_class)
    check_population(model.population_size, model.mirrored, model.winner_fraction, model.n_agent_members)
    for name in ("sigma", "es_learning_rate"):
        require_positive(name, getattr(model, name))
    if not callable(model.learning_rate):
        require_positive("learning_rate", model.learning_rate)
    for name, least in COUNTS.items():
        require_count(name, getattr(model, name), least)
    for name, options in OPTIONS.items():
        require_option(name, getattr(model, name), options)
    for name in ("agent_fraction", "agent_probability"):
        if getattr(model, name) is not None:
            require_fraction(name, getattr(model, name))
    share, clip, offset, limit = model.share_experience, model.amt_clip, model.alive_bonus_offset, model.sigma_max
    require(is_number(share) and 0 <= share <= 1, "share_experience", share, "in [0, 1]")
    require(is_number(clip) and clip >= 0, "amt_clip", clip, "a finite number >= 0")
    require(is_number(offset), "alive_bonus_offset", offset, "a finite number")
    is_limit = (is_number(limit) or limit == float("inf")) and limit >= model.sigma
    require(is_limit, "sigma_max", limit, f"at least sigma = {model.sigma}")
    lengths = model.episode_length_schedule
    expected = "a function of the remaining progress, a ProgressiveEpisodeLength (or a dict of its arguments) or None"
    is_schedule = lengths is None or callable(lengths) or isinstance(lengths, ProgressiveEpisodeLength | dict)
    require(is_schedule, "episode_length_schedule", lengths, expected)
    check_workers(model.backend, model.n_workers, model.episode_timeout)


def check_workers(backend: Any, n_workers: Any, episode_timeout: Any) -> None:
    """
    Check what is said about workers.

    :param backend: Who plays offspring.
    :param n_workers: Number of processes, or None.
    :param episode_timeout: Seconds, or None.
    """
    expected = ", ".join(map(repr, BACKENDS)) + " or 'ray:' with an address"
    require(is_backend(backend), "backend", backend, expected)
    if n_workers is not None:
        require_count("n_workers", n_workers, 1)
    if episode_timeout is not None:
        require_positive("episode_timeout", episode_timeout)


def check_vec_normalize(vec_normalize: VecNormalize | None, space: spaces.Space, normalize_observations: bool | None) -> None:
    """
    Observations are normalised in one place, and nothing beyond ``VecNormalize`` changes their shape.

    :param vec_normalize: The wrapper, None if there is none.
    :param space: Observation space of the policy.
    :param normalize_observations: Whether the policy normalises.
    """
    if vec_normalize is None:
        return
    both = bool(normalize_observations) and vec_normalize.norm_obs
    expected = "False with `VecNormalize(norm_obs=True)`: one of the two is enough"
    require(not both, "normalize_observations", normalize_observations, expected)
    # Replay buffers hold what came into VecNormalize.
    expected = f"wrapped by `VecNormalize` last, after `VecFrameStack` and `VecTransposeImage` (the policy sees {space})"
    require(_shapes(vec_normalize.observation_space) == _shapes(space), "env", vec_normalize.observation_space, expected)


def _shapes(space: spaces.Space) -> Any:
    return {key: part.shape for key, part in space.spaces.items()} if isinstance(space, spaces.Dict) else space.shape
