"""Arguments of a model: their names and defaults, which of them the agent holds, and when two values are the same."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_esac.evaluation.evaluator import Evaluator
from sb3_esac.evaluation.observations import parameters_of
from sb3_esac.evolution.arguments import is_number, require

Algorithm = TypeVar("Algorithm", bound=type)

OF_THE_AGENT = (
    "learning_rate",
    "lr_schedule",
    "learning_starts",
    "batch_size",
    "tau",
    "gamma",
    "train_freq",
    "gradient_steps",
    "action_noise",
    "target_update_interval",
    "target_entropy",
    "sde_sample_freq",
    "use_sde_at_warmup",
)
"""What SAC reads while it learns. Once there is an agent, the model's are the agent's."""


@functools.cache
def defaults_of(algorithm: type) -> dict[str, Any]:
    """
    Look up the arguments that an algorithm of this package keeps under their names, and their defaults.

    :param algorithm: ESAC, ES or a class that is derived from one of them, whatever its own constructor takes.
    """
    package = __name__.partition(".")[0]
    own = next(kind for kind in algorithm.__mro__ if kind.__module__.startswith(package) and "__init__" in vars(kind))
    parameters = inspect.signature(own.__init__).parameters  # type: ignore[misc]
    elsewhere = ("self", "policy", "env", "_init_setup_model")
    return {name: parameter.default for name, parameter in parameters.items() if name not in elsewhere}


_TAKEN: dict[type, frozenset[str]] = {}


def _taken_by(agent_class: type) -> frozenset[str]:
    """Arguments that a class takes: what it has for reasons of its own (``tau`` of CrossQ) is not the user's."""
    if agent_class not in _TAKEN:
        _TAKEN[agent_class] = frozenset(["lr_schedule", *parameters_of(agent_class)])
    return _TAKEN[agent_class]


class AgentArgument:
    """
    An argument that the agent holds: reading or writing the model's is reading or writing the agent's.

    Before there is an agent it is in the ``__dict__`` of the model, where it stays: SB3 saves that, and loads into it.

    :param name: Its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, model: Any, owner: type | None = None) -> Any:
        if model is None:
            return self
        own = vars(model)
        agent = None if model.learner is None else model.learner.agent
        if agent is not None and self.name in _taken_by(type(agent)) and hasattr(agent, self.name):
            return getattr(agent, self.name)
        if self.name not in own:
            raise AttributeError(f"{type(model).__name__!r} has no attribute {self.name!r} yet")
        return own[self.name]

    def __set__(self, model: Any, value: Any) -> None:
        agent = None if model.learner is None else model.learner.agent
        # Which arguments an agent of another class does not take is said when they are applied.
        if agent is not None and self.name in _taken_by(type(agent)) and hasattr(agent, self.name):
            convert = CONVERSIONS.get(self.name)
            value = value if convert is None else convert(agent, value)
            setattr(agent, self.name, value)
        vars(model)[self.name] = value


def delegate_arguments(algorithm: Algorithm) -> Algorithm:
    """
    Let the agent hold those arguments that it reads while it learns.

    :param algorithm: A class whose instances have a ``learner``.
    :return: The same class.
    """
    for name in OF_THE_AGENT:
        setattr(algorithm, name, AgentArgument(name))
    return algorithm


def collect_arguments(model: Any) -> None:
    """
    Put what the agent holds in the model's ``__dict__``, for SB3 to save it.

    :param model: A model with a learner.
    """
    vars(model).update({name: getattr(model, name) for name in OF_THE_AGENT if hasattr(model, name)})


def check_train_freq(train_freq: Any, n_envs: int) -> None:
    """
    Check what SAC checks as it learns: something is played between updates, and episodes are waited for in one lane alone.

    :param train_freq: The argument, in any form in which SAC's constructor takes or keeps it, or refuses it itself.
    :param n_envs: Number of lanes.
    :raises ValueError: If nothing is played, or lanes would have to end their episodes together.
    """
    parts = tuple(train_freq) if isinstance(train_freq, tuple | list) else (train_freq, "step")
    if len(parts) != 2:
        return
    frequency, unit = parts
    expected = "an integer >= 1, or a tuple of such a number and 'step' or 'episode'"
    require(not is_number(frequency) or frequency > 0, "train_freq", train_freq, expected)
    counts_episodes = getattr(unit, "value", unit) == "episode"
    expected = f"a number of steps with {n_envs} environments, whose episodes do not end together"
    require(not counts_episodes or n_envs == 1, "train_freq", train_freq, expected)


def _to_train_freq(agent: OffPolicyAlgorithm, value: Any) -> Any:
    """Convert as SAC's constructor does; what cannot be is an error and changes nothing."""
    check_train_freq(value, agent.n_envs)
    before = agent.train_freq
    agent.train_freq = tuple(value) if isinstance(value, list) else value
    try:
        agent._convert_train_freq()
        return agent.train_freq
    finally:
        agent.train_freq = before


def _to_target_entropy(agent: OffPolicyAlgorithm, value: Any) -> float:
    shape = agent.action_space.shape
    assert shape is not None
    return float(-np.prod(shape)) if isinstance(value, str) and value == "auto" else float(value)


def _to_gamma(agent: OffPolicyAlgorithm, value: Any) -> Any:
    """N-step returns are summed up where transitions are kept."""
    for store in (agent.replay_buffer, getattr(agent.replay_buffer, "population_store", None)):
        if store is not None and hasattr(store, "gamma"):
            store.gamma = value
    # Those that are still to be made, too.
    if "gamma" in (agent.replay_buffer_kwargs or {}):
        agent.replay_buffer_kwargs = {**agent.replay_buffer_kwargs, "gamma": value}
    return value


def _to_noise(agent: OffPolicyAlgorithm, value: Any) -> Any:
    is_single = value is not None and agent.n_envs > 1 and not isinstance(value, VectorizedActionNoise)
    return VectorizedActionNoise(value, agent.n_envs) if is_single else value


CONVERSIONS: dict[str, Callable[[OffPolicyAlgorithm, Any], Any]] = {
    "train_freq": _to_train_freq,
    "target_entropy": _to_target_entropy,
    "gamma": _to_gamma,
    "action_noise": _to_noise,
}
"""What SAC makes of a value as it is built."""


def same(one: Any, other: Any) -> bool:
    """
    Whether two values of an argument are the same; containers are looked into, evaluators are not.

    :param one: A value.
    :param other: Another one.
    """
    if one is other:
        return True
    if is_number(one) and is_number(other):
        return bool(one == other)
    if type(one) is not type(other) or isinstance(one, Evaluator):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    try:
        return bool(one == other)
    except Exception:
        # Whatever cannot be compared, as an array, is not the same.
        return False


def copied(value: Any) -> Any:
    """
    Copy containers, so that a change in one is seen, and nothing else.

    :param value: A value of an argument.
    """
    if isinstance(value, dict):
        return {key: copied(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(part) for part in value)
    return value
