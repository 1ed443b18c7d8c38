"""
The evolutionary operators that fire once per generation, as SB3 callbacks: replace, subclass or leave them out.

They hang on ``model.amt_callback`` and ``model.crossover_callback`` (None leaves one out). ESAC calls their ``on_step``
once per generation, after ``update_locals`` with ``fitness`` (n,), ``winners`` (w, d) and ``mean_fitness`` (fitness of the
mean that was perturbed, None if it was not measured). Those that are not as the arguments say are saved with the model.
"""

import copy
import io
import pickle
import warnings
from collections.abc import Mapping
from typing import Any

import cloudpickle
import numpy as np
from gymnasium import Env
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.parameters import row_groups
from sb3_esac.evolution.noise import Stream, generator
from sb3_esac.evolution.operators import amt_statistics, crossover, tune_sigma


class AutomaticMutationTuning(BaseCallback):
    """
    Automatic mutation tuning (AMT): sigma grows by a clipped step after a gradient interval (Algorithm 1, line 24; eq. 1-3).

    Deviation: the paper's rule only ever raises sigma; ``rule="two_sided"`` lowers it when the generation's best member does
    not beat the unperturbed mean, and leaves it alone when the mean was not measured.

    :param clip: zeta >= 0, the largest change of sigma, in the unit of the weights as sigma itself.
    :param amt_input: What F is: "raw" returns, their "rank", or returns "normalized" over the generation.
    :param rule: "paper" or "two_sided".
    :param sigma_max: Upper bound of sigma; one that is already above stays where it is.
    """

    def __init__(self, clip: float = 1e-4, amt_input: str = "rank", rule: str = "paper", sigma_max: float = np.inf) -> None:
        super().__init__()
        self.clip, self.amt_input, self.rule, self.sigma_max = clip, amt_input, rule, sigma_max

    def _on_step(self) -> bool:
        population, fitness = self.model.population, self.locals["fitness"]  # type: ignore[attr-defined]
        mean_fitness, improved = self.locals.get("mean_fitness"), True
        if self.rule == "two_sided":
            if mean_fitness is None or not np.isfinite(fitness).any():
                return True
            improved = bool(np.nanmax(fitness) > mean_fitness)
        f_max, f_avg = amt_statistics(fitness, self.amt_input)
        population.sigma = tune_sigma(
            population.sigma,
            f_max,
            f_avg,
            es_learning_rate=population.config.es_learning_rate,
            population_size=population.config.size,
            clip=self.clip,
            sigma_max=self.sigma_max,
            improved=improved,
        )
        return True


class HindsightCrossover(BaseCallback):
    """
    Crossover of the previous generation's winners with the current mean (Algorithm 1, line 26).

    :param unit: What is inherited together: a "row" of a layer with its bias, or each "element"; "whole"
        takes winners as they are.
    """

    def __init__(self, unit: str = "row") -> None:
        super().__init__()
        self.unit = unit
        self._groups: np.ndarray | None = None

    def _on_step(self) -> bool:
        model = self.model
        population = model.population  # type: ignore[attr-defined]
        winners = population.previous_winners
        if self.unit == "whole":
            population.crossed = winners.copy()
            return True
        if self._groups is None or len(self._groups) != population.mean.size:
            actor = model.actor  # type: ignore[attr-defined]
            self._groups = row_groups(actor) if self.unit == "row" else np.arange(population.mean.size)
        for number, winner in enumerate(winners):
            rng = generator(model.run_seed, population.generation, Stream.CROSSOVER, number)  # type: ignore[attr-defined]
            child = crossover(winner, population.mean, self._groups, rng)[None]
            population.crossed = np.concatenate([population.crossed, child])
        return True


class _WithoutTheModel(cloudpickle.Pickler):
    """Leaves out the model that a callback hangs on, wherever it refers to it."""

    def persistent_id(self, obj: Any) -> str | None:
        return type(obj).__name__ if isinstance(obj, BaseAlgorithm | VecEnv | Env | Logger) else None


class _Unpickler(pickle.Unpickler):
    """Puts None where something was left out."""

    def persistent_load(self, pid: Any) -> None:
        return None


def _settings(operator: BaseCallback | None) -> dict[str, Any]:
    """Arguments of an operator of this module."""
    own = {name: value for name, value in vars(operator).items() if not name.startswith("_")} if operator is not None else {}
    return {name: value for name, value in own.items() if name in ("clip", "amt_input", "rule", "sigma_max", "unit")}


def pack(operators: Mapping[str, BaseCallback | None], defaults: Mapping[str, BaseCallback | None]) -> bytes:
    """
    Make operators a part of a file, without the model, its environment and its logger.

    :param operators: Operators by name, None for one that is left out.
    :param defaults: What the model's arguments say they are; those are left to the arguments.
    :return: The others. One that cannot be pickled is left out with a warning.
    """
    packed = {}
    for name, operator in operators.items():
        default = defaults[name]
        if type(operator) is type(default) and _settings(operator) == _settings(default):
            continue
        if operator is not None:
            operator = copy.copy(operator)
            operator.locals, operator.globals = {}, {}
        file = io.BytesIO()
        try:
            _WithoutTheModel(file, protocol=4).dump(operator)
        except Exception as error:
            warnings.warn(f"`{name}` cannot be saved with the model: set it again after loading ({error})", stacklevel=2)
            continue
        packed[name] = file.getvalue()
    # SB3 writes a description of everything but bytes.
    return pickle.dumps(packed)


def unpack(packed: bytes | None) -> dict[str, BaseCallback | None]:
    """
    Bring operators back.

    :param packed: What :func:`pack` gave, None if the file is older.
    :return: Operators by name. One whose class is not there any more is left out with a warning.
    """
    operators = {}
    for name, content in ({} if packed is None else pickle.loads(packed)).items():
        try:
            operators[name] = _Unpickler(io.BytesIO(content)).load()
        except Exception as error:
            warnings.warn(f"`{name}` of the file cannot be loaded: set it again ({error})", stacklevel=2)
    return operators
