"""
Where a generation began: what it changes, as it was before, in memory and as a part of a model's file.

A generation that was cut short is played again from there, by the same model or by one that was loaded.
"""

import copy
import hashlib
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
import torch as th
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.evolution.population import Population

AVERAGE = "learner.averaged.actor"
"""Name of the parameters of the agent's average, if there is one."""

LASTING = {
    "policy_class", "policy_kwargs", "observation_space", "action_space", "n_envs", "learning_rate", "lr_schedule", "use_sde",
    "sde_sample_freq", "run_seed", "_stats_window_size", "operators",
}  # fmt: skip
"""Attributes that a generation does not change: constructor arguments in another form."""

OF_A_CALL = {
    "start_time", "_total_timesteps", "_num_timesteps_at_start", "_last_obs", "_last_episode_starts", "_last_original_obs",
}  # fmt: skip
"""Attributes that ``learn`` sets as it begins."""

NOISE = "action_noise"
"""Argument of ESAC that may have a state of its own."""

REPLACED = object()
"""Instead of the action noise of a file, when the user has given another one."""


@dataclass
class Boundary:
    """
    Everything that a generation changes, as it was before: arguments are no part of it, and random numbers start anew in each.

    :param key: Run, generation and steps.
    :param attributes: Attributes of the model.
    :param population: A snapshot.
    :param parts: States of the other parts.
    :param champion: The champion's actor, which is replaced and never changed.
    :param parameters: Parameters, statistics and optimisers by name, as in ``get_parameters``.
    :param tensors: Other variables by name.
    :param noise: The agent's action noise, None if there is none.
    :param noise_then: A copy of it.
    :param vec_normalize: Statistics of the user's ``VecNormalize``, None if there is none.
    """

    key: tuple[int, int, int]
    attributes: dict[str, Any]
    population: Population
    parts: dict[str, dict[str, Any]]
    champion: BasePolicy
    parameters: dict[str, Any]
    tensors: dict[str, th.Tensor]
    noise: ActionNoise | None
    noise_then: ActionNoise | None
    vec_normalize: dict[str, Any] | None

    @classmethod
    def of(cls, model: Any) -> "Boundary":
        """
        Take a snapshot; nothing is serialised.

        :param model: A model between two generations.
        """
        key = (model.run_seed, model.population.generation, model.num_timesteps)
        if model.learner is not None:
            model.learner.keep_way_back(key)
        names, others = model._get_torch_save_params()
        return cls(
            key=key,
            attributes={name: _shallow(value) for name, value in _volatile(model).items()},
            population=model.population.snapshot(),
            parts={name: part.state_dict() for name, part in model.parts.items() if name != "population"},
            champion=model.champion.actor,
            parameters={
                name: _each_tensor(th.Tensor.clone, _state(model, name))
                for name in names
                if name not in ("population", "champion.actor")
            },
            tensors={name: value.detach().clone() for name in others if (value := recursive_getattr(model, name)) is not None},
            noise=_noise(model),
            noise_then=_copied_noise(model),
            vec_normalize=_statistics(model._vec_normalize_env),
        )

    def end(self, model: Any) -> None:
        """
        Keep it no longer. A generation that was cut short will be played again, by this model or one from a file.

        :param model: The model.
        """
        if model.population.generation == self.population.generation:
            model.population = self.population
        model._boundary = None
        if model.learner is not None:
            model.learner.forget_way_back()

    def dump(self, model: Any, exclude: Iterable[str]) -> bytes:
        """
        Make it a part of a file.

        :param model: The model as it is now.
        :param exclude: Attributes that are not saved.
        :return: Everything, with tensors in the memory of the CPU.
        """
        excluded = set(exclude)
        has_noise = _noise(model) is self.noise and NOISE not in excluded
        content = {
            "key": self.key,
            "attributes": {name: value for name, value in self.attributes.items() if name not in excluded},
            "parts": {"population": self.population.state_dict(), **self.parts},
            "champion": self.champion.state_dict(),
            "parameters": self.parameters,
            "tensors": self.tensors,
            "noise": self.noise_then if has_noise else None,
            "vec_normalize": self.vec_normalize,
            "sigma": None if callable(model.sigma) else model.sigma,
            "present_vec_normalize": _statistics(model._vec_normalize_env),
        }
        return bytes(cloudpickle.dumps(_each_tensor(th.Tensor.cpu, content)))


@dataclass
class PendingBoundary:
    """
    The boundary of a model that was loaded, until it learns.

    :param content: What :meth:`Boundary.dump` gave.
    :param marks: What the weights were as the model was loaded.
    :param mean: The population's mean then.
    :param noise: The action noise of the file, or :data:`REPLACED`.
    :param goes_back: Whether the call of ``learn`` that begins is to go on from there.
    """

    content: bytes
    marks: str
    mean: np.ndarray
    noise: object
    goes_back: bool = False

    @classmethod
    def of(cls, model: Any, content: bytes, has_other_noise: bool) -> "PendingBoundary":
        """
        Keep what a file has.

        :param model: The model, as it was loaded.
        :param content: What :meth:`Boundary.dump` gave.
        :param has_other_noise: Whether it was given another action noise than the file's.
        """
        return cls(content, _marks(model), model.population.mean, REPLACED if has_other_noise else _noise(model))

    @property
    def run_seed(self) -> int:
        """Seed of the run."""
        seed: int = cloudpickle.loads(self.content)["key"][0]
        return seed

    def is_untouched(self, model: Any) -> bool:
        """Whether the model still has the weights with which it was loaded."""
        return _marks(model) == self.marks

    def content_for(self, model: Any) -> bytes:
        """
        Hand the boundary on to another file.

        :param model: The model, which has not learned since.
        :return: What :meth:`Boundary.dump` gave, without the action noise if the model has another one by now.
        """
        if _noise(model) is self.noise:
            return self.content
        return bytes(cloudpickle.dumps({**cloudpickle.loads(self.content), "noise": None}))

    def begin_again(self, model: Any) -> None:
        """
        Let the population alone go back to where its generation began; a mean that the user has put there stays.

        :param model: The model.
        """
        content = cloudpickle.loads(self.content)
        self._restore_population(model, content)
        wanted = content["vec_normalize"] or {}
        training = {name: value for name, value in wanted.items() if name == "training"}
        _restore_statistics(model._vec_normalize_env, training, content["present_vec_normalize"])

    def go_back(self, model: Any) -> None:
        """
        Bring everything back to where the generation began, the replay buffer and ``VecNormalize`` if they are those that
        were saved with the model.

        :param model: The model, unchanged except for its arguments.
        """
        content = cloudpickle.loads(self.content)
        for name, value in content["attributes"].items():
            setattr(model, name, value)
        self._restore_population(model, content)
        for name, state in content["parts"].items():
            if name != "population":
                model.parts[name].load_state_dict(state)
        model.champion.actor.load_state_dict(content["champion"])
        # With another `agent_average` than the saved one there is an average more or less.
        present = content["parameters"].keys() & set(model._get_torch_save_params()[0])
        for name in present:
            recursive_getattr(model, name).load_state_dict(content["parameters"][name])
        for name, value in content["tensors"].items():
            variable = recursive_getattr(model, name)
            variable.data = value.to(variable.device)
        # Files of before have none.
        if (noise := content.get("noise")) is not None and _noise(model) is self.noise:
            setattr(model, NOISE, noise)
        if model.learner is not None:
            model.learner.note_parameters(of_average=AVERAGE in present)
            model.learner.buffer.go_back(content["key"])
        _restore_statistics(model._vec_normalize_env, content["vec_normalize"], content["present_vec_normalize"])

    def _restore_population(self, model: Any, content: dict[str, Any]) -> None:
        present = model.population.mean
        model.population.load_state_dict(content["parts"]["population"])
        heed_sigma(model, content["sigma"])
        if not np.array_equal(present, self.mean):
            model.population.set_mean(present)


def _volatile(model: Any) -> dict[str, Any]:
    """Attributes that are saved and are no arguments."""
    arguments = {name for kind in type(model).__mro__ for name in _parameters(kind)}
    hidden = {name.split(".")[0] for names in model._get_torch_save_params() for name in names}
    lasting = arguments | hidden | LASTING | OF_A_CALL | {NOISE} | set(model._excluded_save_params())
    return {name: value for name, value in model.__dict__.items() if name not in lasting}


_PARAMETERS: dict[type, tuple[str, ...]] = {}


def _parameters(kind: type) -> tuple[str, ...]:
    if kind not in _PARAMETERS:
        _PARAMETERS[kind] = tuple(inspect.signature(kind.__init__).parameters) if "__init__" in vars(kind) else ()  # type: ignore[misc]
    return _PARAMETERS[kind]


def _shallow(value: Any) -> Any:
    """Copy what is changed in place; objects of the user's are theirs."""
    return copy.copy(value) if isinstance(value, dict | list | set | deque | np.ndarray) else value


def _noise(model: Any) -> ActionNoise | None:
    """The agent's action noise."""
    return None if model.learner is None else model.learner.agent.action_noise


def _copied_noise(model: Any) -> ActionNoise | None:
    """The agent's action noise as it is now."""
    noise, shared = _noise(model), (model, model.env, *(() if model.learner is None else (model.learner.agent,)))
    try:
        # What it may have been shown is no state of its own.
        return copy.deepcopy(noise, {id(part): part for part in shared})
    except Exception:
        return noise


def _state(model: Any, name: str) -> Any:
    part = recursive_getattr(model, name)
    return getattr(part, "_orig_mod", part).state_dict()


def _each_tensor(change: Callable[[th.Tensor], th.Tensor], value: Any) -> Any:
    """Change all tensors in nested dicts, lists and tuples, which are made anew."""
    if isinstance(value, th.Tensor):
        return change(value.detach())
    if isinstance(value, dict):
        return {key: _each_tensor(change, part) for key, part in value.items()}
    return type(value)(_each_tensor(change, part) for part in value) if type(value) in (list, tuple) else value


def _marks(model: Any) -> str:
    """Fingerprint of all weights, optimisers and of the population."""
    digest = hashlib.blake2b()

    def take(value: Any) -> None:
        if isinstance(value, th.Tensor):
            value = value.detach().cpu().numpy()
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
        elif isinstance(value, dict):
            for key, part in value.items():
                digest.update(str(key).encode())
                take(part)
        elif isinstance(value, list | tuple):
            for part in value:
                take(part)
        else:
            digest.update(repr(value).encode())

    take(model.get_parameters())
    take([recursive_getattr(model, name) for name in model._get_torch_save_params()[1]])
    take(model.population.state_dict())
    return digest.hexdigest()


def _statistics(vec_normalize: VecNormalize | None) -> dict[str, Any] | None:
    """Statistics of a ``VecNormalize``, which replaces its arrays, except those of the returns."""
    if vec_normalize is None:
        return None
    statistics: dict[str, Any] = {"returns": np.copy(vec_normalize.returns), "ret_rms": copy.copy(vec_normalize.ret_rms)}
    statistics["training"] = vec_normalize.training
    obs_rms = getattr(vec_normalize, "obs_rms", None)
    if obs_rms is not None:
        statistics["obs_rms"] = (
            {key: copy.copy(rms) for key, rms in obs_rms.items()} if isinstance(obs_rms, dict) else copy.copy(obs_rms)
        )
    return statistics


def _are_equal(one: Any, other: Any) -> bool:
    """Whether two lots of statistics are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_are_equal(one[key], other[key]) for key in one)
    if not (isinstance(one, RunningMeanStd) and isinstance(other, RunningMeanStd)):
        return False
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("mean", "var", "count"))


def _restore_statistics(
    vec_normalize: VecNormalize | None, wanted: dict[str, Any] | None, saved: dict[str, Any] | None
) -> None:
    """Set a ``VecNormalize`` back if it has the statistics that the one had with which the model was saved."""
    if vec_normalize is None or wanted is None or saved is None:
        return
    present = _statistics(vec_normalize)
    assert present is not None
    # Returns are not saved with the others, and every reset forgets them.
    if not _are_equal(*({name: lot[name] for name in lot.keys() & {"obs_rms", "ret_rms"}} for lot in (present, saved))):
        return
    for name, value in wanted.items():
        # While a population plays nothing is learned, and a file that is saved then says so. What the user says counts more.
        is_ours = name != "training" or present["training"] == saved["training"]
        if is_ours and (name != "returns" or np.shape(value) == np.shape(vec_normalize.returns)):
            setattr(vec_normalize, name, value)


def heed_sigma(model: Any, saved: float | None) -> None:
    """Other arguments may have been given to ``load``."""
    if not callable(model.sigma) and model.sigma != saved:
        model.population.sigma = model.sigma
