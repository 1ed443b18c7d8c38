"""Where the present generation began: kept in memory while it is played, saved beside the present, gone back to on resume."""

import copy
import hashlib
import inspect
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.save_util import recursive_getattr
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.agent.sharing import SharedExperience
from sb3_esac.champion import ChampionRecord
from sb3_esac.episode_caps import EpisodeCaps
from sb3_esac.evolution.population import Population

if TYPE_CHECKING:
    from sb3_esac.population_based import PopulationBasedAlgorithm

SAVED_AS = "_boundary_state"
"""Attribute of a saved model that was in the middle of a generation."""

LASTING = {
    "policy_class", "policy_kwargs", "observation_space", "action_space", "n_envs", "learning_rate", "lr_schedule", "use_sde",
    "sde_sample_freq", "action_noise", "run_seed", "_initial_sigma", "_stats_window_size",
}  # fmt: skip
"""Attributes that a generation does not change: constructor arguments in another form."""

OF_A_CALL = {
    "start_time", "_total_timesteps", "_num_timesteps_at_start", "_last_obs", "_last_episode_starts", "_last_original_obs",
}  # fmt: skip
"""Attributes that ``learn`` sets as it begins."""

ELSEWHERE = {"_population", "_champion_state", "_agent_counters", "_operators", SAVED_AS}
"""Attributes that are looked after by others than :meth:`Boundary.attributes`."""

AGENT_COUNTERS = ("num_timesteps", "_n_updates", "_episode_num")


@dataclass
class Boundary:
    """
    Everything that a generation changes, as it was before: arguments are no part of it, and random numbers start anew in each.

    :param key: Run, generation and steps.
    :param attributes: Attributes of the model.
    :param population: A snapshot.
    :param champion: Its record, its trends and its actor, which is replaced and never changed.
    :param counters: Those of the agent.
    :param states: Parameters, statistics and optimisers by name, as in ``get_parameters``.
    :param tensors: Other variables by name.
    :param vec_normalize: Statistics of the user's ``VecNormalize``, None if there is none.
    """

    key: tuple[int, int, int]
    attributes: dict[str, Any]
    population: Population
    champion: tuple[ChampionRecord | None, dict[str, tuple[float, int]], BasePolicy]
    counters: dict[str, int]
    states: dict[str, Any]
    tensors: dict[str, th.Tensor]
    vec_normalize: dict[str, Any] | None

    @classmethod
    def of(cls, model: "PopulationBasedAlgorithm") -> "Boundary":
        """
        Take a snapshot; nothing is serialised.

        :param model: A model between two generations.
        """
        key = (model.run_seed, model.population.generation, model.num_timesteps)
        agent = model.__dict__.get("agent")
        buffer = getattr(agent, "replay_buffer", None)
        if isinstance(buffer, SharedExperience):
            buffer.keep_way_back(key)
        names, others = model._get_torch_save_params()
        champion = model.champion
        return cls(
            key=key,
            attributes={name: _shallow(value) for name, value in _volatile(model).items()},
            population=model.population.snapshot(),
            champion=(champion.record, dict(champion.trends), champion.actor),
            counters={} if agent is None else {name: getattr(agent, name) for name in AGENT_COUNTERS},
            states={
                name: _each_tensor(th.Tensor.clone, _state(model, name))
                for name in names
                if name not in ("population", "champion.actor")
            },
            tensors={name: value.detach().clone() for name in others if (value := recursive_getattr(model, name)) is not None},
            vec_normalize=_statistics(model._vec_normalize_env),
        )

    def dump(self, model: "PopulationBasedAlgorithm", exclude: Iterable[str]) -> bytes:
        """
        Make it a part of a file.

        :param model: The model as it is now.
        :param exclude: Attributes that are not saved.
        :return: Everything, with tensors in the memory of the CPU.
        """
        record, trends, actor = self.champion
        excluded = set(exclude)
        content = {
            "key": self.key,
            "attributes": {name: value for name, value in self.attributes.items() if name not in excluded},
            "population": self.population,
            "champion": (record, trends, actor.state_dict()),
            "counters": self.counters,
            "states": self.states,
            "tensors": self.tensors,
            "vec_normalize": self.vec_normalize,
            "initial_sigma": None if callable(model.sigma) else model.sigma,
            "present_vec_normalize": _statistics(model._vec_normalize_env),
        }
        # As bytes, because SB3 writes a description of everything else.
        return bytes(cloudpickle.dumps(_each_tensor(th.Tensor.cpu, content)))


@dataclass
class Pending:
    """
    The boundary of a model that was loaded, until it learns.

    :param content: What :meth:`Boundary.dump` gave.
    :param marks: What the weights were as the model was loaded.
    :param mean: The population's mean then.
    """

    content: bytes
    marks: str
    mean: np.ndarray

    @classmethod
    def of(cls, model: "PopulationBasedAlgorithm") -> "Pending | None":
        """
        Look for a boundary in a model that has just been loaded.

        :param model: The model.
        :return: None if the file was not saved within a generation.
        """
        content = model.__dict__.pop(SAVED_AS, None)
        return None if content is None else cls(content, _marks(model), model.population.mean)

    @property
    def run_seed(self) -> int:
        """Seed of the run."""
        seed: int = cloudpickle.loads(self.content)["key"][0]
        return seed

    def is_untouched(self, model: "PopulationBasedAlgorithm") -> bool:
        """Whether nobody has given the model other weights since it was loaded."""
        return _marks(model) == self.marks

    def begin_again(self, model: "PopulationBasedAlgorithm") -> None:
        """
        Let the population alone go back to where its generation began; a mean that the user has put there stays.

        :param model: The model.
        """
        content = cloudpickle.loads(self.content)
        self._restore_population(model, content)
        wanted = content["vec_normalize"] or {}
        training = {name: value for name, value in wanted.items() if name == "training"}
        _restore_statistics(model._vec_normalize_env, training, content["present_vec_normalize"])

    def go_back(self, model: "PopulationBasedAlgorithm") -> None:
        """
        Bring everything back to where the generation began, the replay buffer and ``VecNormalize`` if they are those that
        were saved with the model.

        :param model: The model, which nobody has changed but for its arguments.
        """
        content = cloudpickle.loads(self.content)
        for name, value in content["attributes"].items():
            setattr(model, name, value)
        self._restore_population(model, content)
        model.champion.record, model.champion.trends, actor = content["champion"]
        model.champion.actor.load_state_dict(actor)
        names, others = model._get_torch_save_params()
        for name in names:
            if name in content["states"]:
                recursive_getattr(model, name).load_state_dict(content["states"][name])
        for name in others:
            if name in content["tensors"]:
                variable = recursive_getattr(model, name)
                variable.data = content["tensors"][name].to(variable.device)
        agent = model.__dict__.get("agent")
        for name, value in content["counters"].items():
            setattr(agent, name, value)
        buffer = getattr(agent, "replay_buffer", None)
        if isinstance(buffer, SharedExperience):
            buffer.go_back(content["key"])
        _restore_statistics(model._vec_normalize_env, content["vec_normalize"], content["present_vec_normalize"])

    def _restore_population(self, model: "PopulationBasedAlgorithm", content: dict[str, Any]) -> None:
        present, population = model.population, content["population"]
        # Other arguments may have been given to `load`.
        population.configure(present.config)
        if not callable(model.sigma) and model.sigma != content["initial_sigma"]:
            population.sigma = model.sigma
        if not np.array_equal(present.mean, self.mean):
            population.set_mean(present.mean)
        model._population, model._mean_actor = population, None


def forget(model: "PopulationBasedAlgorithm") -> None:
    """
    Keep no boundary: the generation is over, or it will be played again.

    :param model: The model.
    """
    model._boundary = None
    buffer = getattr(model.__dict__.get("agent"), "replay_buffer", None)
    if isinstance(buffer, SharedExperience):
        buffer.undo = None


def _volatile(model: "PopulationBasedAlgorithm") -> dict[str, Any]:
    """Attributes that are saved and are no arguments."""
    arguments = {name for kind in type(model).__mro__ for name in _parameters(kind)}
    hidden = {name.split(".")[0] for names in model._get_torch_save_params() for name in names}
    lasting = arguments | hidden | LASTING | OF_A_CALL | ELSEWHERE | set(model._excluded_save_params())
    return {name: value for name, value in model.__dict__.items() if name not in lasting}


_PARAMETERS: dict[type, tuple[str, ...]] = {}


def _parameters(kind: type) -> tuple[str, ...]:
    if kind not in _PARAMETERS:
        _PARAMETERS[kind] = tuple(inspect.signature(kind.__init__).parameters) if "__init__" in vars(kind) else ()  # type: ignore[misc]
    return _PARAMETERS[kind]


def _shallow(value: Any) -> Any:
    """Copy what is changed in place; objects of the user's are theirs."""
    return copy.copy(value) if isinstance(value, dict | list | set | deque | np.ndarray | EpisodeCaps) else value


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


def _marks(model: "PopulationBasedAlgorithm") -> str:
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

    population = model.population
    take(model.get_parameters())
    take([recursive_getattr(model, name) for name in model._get_torch_save_params()[1]])
    take([population.mean, population.sigma, population.generation])
    return digest.hexdigest()


def _statistics(vec_normalize: VecNormalize | None) -> dict[str, Any] | None:
    """Statistics of a ``VecNormalize``, which replaces its arrays but for those of the returns."""
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
