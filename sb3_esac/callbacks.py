"""
The evolutionary operators that fire once per generation, as SB3 callbacks: add to them, replace them or leave them out.

They are the list ``model.operators``. After selection ESAC calls ``on_step`` of each, after ``update_locals`` with
``generation``, a :class:`Generation`. Those that are not as the arguments say are saved with the model.
"""

import copy
import io
import pickle
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cloudpickle
import numpy as np
from gymnasium import Env
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evolution.arguments import require
from sb3_esac.evolution.noise import Stream, generator
from sb3_esac.evolution.operators import amt_statistics, crossover, tune_sigma
from sb3_esac.evolution.population import Population


@dataclass(frozen=True)
class Generation:
    """
    What operators are given.

    :param number: Number of the generation, from 0.
    :param run_seed: Seed of the run, for random numbers (:func:`sb3_esac.evolution.noise.generator`).
    :param population: The population, whose ``sigma`` may be set and whose ``children`` may be added to. Its ``winners`` and
        ``previous_winners`` are (w, d), best first.
    :param fitness: (n,) fitness of each member; NaN where it is unknown.
    :param agent_trained: Whether the agent has had a gradient interval in this generation.
    :param row_groups: Gives (d,) numbers of the rows of the weight matrices, see
        :func:`sb3_esac.evaluation.vectors.row_groups`.
    """

    number: int
    run_seed: int
    population: Population
    fitness: np.ndarray
    agent_trained: bool
    row_groups: Callable[[], np.ndarray]


class Operator(BaseCallback):
    """An operator: a callback that says what it does to a generation."""

    @abstractmethod
    def apply(self, generation: Generation) -> None:
        """
        Change the population.

        :param generation: The generation that has just been selected from.
        """

    @property
    def settings(self) -> tuple[Any, ...]:
        """What it was made with: two of a class with equal settings do the same."""
        return ()

    def _on_step(self) -> bool:
        self.apply(self.locals["generation"])
        return True


class AutomaticMutationTuning(Operator):
    """
    Automatic mutation tuning (AMT): sigma grows by a clipped step after a gradient interval (Algorithm 1, line 24; eq. 1-3).

    :param clip: zeta >= 0, the largest change of sigma, in the unit of the weights as sigma itself.
    :param amt_input: What F is: "raw" returns, their "rank", or returns "normalized" over the generation.
    """

    def __init__(self, clip: float = 1e-4, amt_input: str = "rank") -> None:
        super().__init__()
        self.clip, self.amt_input = clip, amt_input

    @property
    def settings(self) -> tuple[Any, ...]:
        return self.clip, self.amt_input

    def apply(self, generation: Generation) -> None:
        if not generation.agent_trained:
            return
        population = generation.population
        f_max, f_avg = amt_statistics(generation.fitness, self.amt_input)
        config = population.config
        population.sigma = tune_sigma(
            population.sigma,
            f_max,
            f_avg,
            es_learning_rate=config.es_learning_rate,
            population_size=config.size,
            clip=self.clip,
        )


class HindsightCrossover(Operator):
    """
    Crossover of the previous generation's winners with the current mean (Algorithm 1, line 26).

    :param unit: What is inherited together: a "row" of a layer with its bias, or each "element".
    """

    def __init__(self, unit: str = "row") -> None:
        super().__init__()
        self.unit = unit
        self._groups: np.ndarray | None = None

    @property
    def settings(self) -> tuple[Any, ...]:
        return (self.unit,)

    def apply(self, generation: Generation) -> None:
        population = generation.population
        mean = population.mean
        if self._groups is None or len(self._groups) != mean.size:
            self._groups = generation.row_groups() if self.unit == "row" else np.arange(mean.size)
        for number, winner in enumerate(population.previous_winners):
            rng = generator(generation.run_seed, generation.number, Stream.CROSSOVER, number)
            child = crossover(winner, mean, self._groups, rng)[None]
            population.children = np.concatenate([population.children, child])


def start(operator: BaseCallback, model: BaseAlgorithm) -> None:
    """
    Get an operator ready, as SB3 does for callbacks.

    :param operator: The operator.
    :param model: The model that learns.
    """
    operator.init_callback(model)
    operator.on_training_start({}, {})


def check_operators(operators: Any) -> None:
    """
    Check what was set as ``model.operators``.

    :param operators: A list of callbacks.
    :raises ValueError: If it is something else.
    """
    is_list = isinstance(operators, list | tuple) and all(isinstance(operator, BaseCallback) for operator in operators)
    require(is_list, "model.operators", operators, "a list of operators, which are callbacks of Stable-Baselines3")


def apply_operators(operators: Sequence[BaseCallback], generation: Generation, model: BaseAlgorithm) -> bool:
    """
    Let operators change a generation, one after the other.

    :param operators: The operators.
    :param generation: What they are given.
    :param model: The model that learns.
    :return: False if one asked to stop.
    """
    for operator in operators:
        if getattr(operator, "model", None) is not model:
            # It has come while the model learns.
            start(operator, model)
        operator.update_locals({"generation": generation, "self": model})
        if not operator.on_step():
            return False
    return True


def default_operators(arguments: Mapping[str, Any]) -> list[Operator]:
    """
    Make the operators that the arguments of a model ask for.

    :param arguments: Arguments of ESAC by name.
    """
    tuning: list[Operator] = [AutomaticMutationTuning(arguments["amt_clip"], arguments["amt_input"])]
    return tuning if arguments["crossover"] is None else [*tuning, HindsightCrossover(arguments["crossover"])]


def are_same(one: Sequence[BaseCallback], other: Sequence[BaseCallback]) -> bool:
    """
    Whether two lists of operators do the same.

    :param one: A list.
    :param other: Another one.
    """
    return len(one) == len(other) and all(map(_is_same, one, other))


def _is_same(one: BaseCallback, other: BaseCallback) -> bool:
    if not (isinstance(one, Operator) and isinstance(other, Operator) and type(one) is type(other)):
        return False
    return type(one).__module__ == __name__ and one.settings == other.settings


def brought_up_to_date(
    operators: Sequence[BaseCallback], before: Sequence[Operator], now: Sequence[Operator]
) -> list[BaseCallback]:
    """
    Let operators follow the arguments of their model; those that the user has made or set otherwise stay.

    :param operators: Those that are there.
    :param before: The default ones by the arguments of before.
    :param now: The default ones by those of now.
    """
    check_operators(operators)
    gone = [old for old in before if not any(_is_same(old, new) for new in now)]
    new = [operator for operator in now if not any(_is_same(old, operator) for old in before)]
    kept: list[BaseCallback] = []
    for operator in operators:
        if not any(_is_same(operator, old) for old in gone):
            kept.append(operator)
            continue
        successor = next((other for other in new if type(other) is type(operator)), None)
        if successor is not None:
            kept.append(successor)
            new.remove(successor)
    known = {type(old) for old in before}
    return [*kept, *(operator for operator in new if type(operator) not in known)]


class _WithoutTheModel(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves out the model that a callback hangs on, wherever it refers to it."""

    def persistent_id(self, obj: Any) -> str | None:
        return type(obj).__name__ if isinstance(obj, BaseAlgorithm | VecEnv | Env | Logger) else None


class _Unpickler(pickle.Unpickler):
    """Puts None where something was left out."""

    def persistent_load(self, pid: Any) -> None:
        return None


def pack(operators: Sequence[BaseCallback]) -> bytes:
    """
    Make operators a part of a file, without the model, its environment and its logger.

    :param operators: The operators. One that cannot be pickled is left out with a warning.
    """
    packed = []
    for operator in operators:
        twin = copy.copy(operator)
        twin.locals, twin.globals = {}, {}
        file = io.BytesIO()
        try:
            _WithoutTheModel(file, protocol=4).dump(twin)
        except Exception as error:
            name = type(operator).__name__
            warnings.warn(
                f"{name} cannot be saved with the model: set `model.operators` after loading ({error})", stacklevel=2
            )
            continue
        packed.append(file.getvalue())
    # SB3 writes a description of everything but bytes.
    return pickle.dumps(packed)


def unpack(packed: bytes) -> list[BaseCallback]:
    """
    Bring operators back.

    :param packed: What :func:`pack` gave. One whose class is not there any more is left out with a warning.
    """
    operators = []
    for content in pickle.loads(packed):
        try:
            operators.append(_Unpickler(io.BytesIO(content)).load())
        except Exception as error:
            warnings.warn(f"An operator of the file cannot be loaded: set `model.operators` ({error})", stacklevel=2)
    return operators
