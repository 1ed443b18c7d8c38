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

from sb3_esac.evaluation.vectors import row_groups
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

    @property
    def settings(self) -> tuple[Any, ...]:
        """What it was made with."""
        return self.clip, self.amt_input, self.rule, self.sigma_max

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

    @property
    def settings(self) -> tuple[Any, ...]:
        """What it was made with."""
        return (self.unit,)

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


def default_operators(arguments: Mapping[str, Any]) -> dict[str, AutomaticMutationTuning | HindsightCrossover | None]:
    """
    Make the operators that the arguments of a model ask for.

    :param arguments: Arguments of ESAC by name.
    :return: By the names that they have on the model.
    """
    tuning = AutomaticMutationTuning(*(arguments[name] for name in ("amt_clip", "amt_input", "amt_rule", "sigma_max")))
    crossover = None if arguments["crossover"] is None else HindsightCrossover(arguments["crossover"])
    return {"amt_callback": tuning, "crossover_callback": crossover}


def brought_up_to_date(
    operator: BaseCallback | None,
    before: AutomaticMutationTuning | HindsightCrossover | None,
    now: AutomaticMutationTuning | HindsightCrossover | None,
) -> BaseCallback | None:
    """
    Let an operator follow the arguments of its model, unless it is the user's own.

    :param operator: The one that is there, None for none.
    :param before: The default one by the arguments of before.
    :param now: The default one by those of now.
    :return: The one that is right.
    """
    if type(operator) is not type(before):
        return operator
    if isinstance(operator, AutomaticMutationTuning | HindsightCrossover) and before is not None:
        return now if operator.settings == before.settings and (now is None or operator.settings != now.settings) else operator
    return now


class _WithoutTheModel(cloudpickle.Pickler):  # type: ignore[misc]
    """Leaves out the model that a callback hangs on, wherever it refers to it."""

    def persistent_id(self, obj: Any) -> str | None:
        return type(obj).__name__ if isinstance(obj, BaseAlgorithm | VecEnv | Env | Logger) else None


class _Unpickler(pickle.Unpickler):
    """Puts None where something was left out."""

    def persistent_load(self, pid: Any) -> None:
        return None


def _is_default(operator: BaseCallback | None, default: AutomaticMutationTuning | HindsightCrossover | None) -> bool:
    if operator is None or default is None:
        return operator is default
    return type(operator) is type(default) and operator.settings == default.settings


def pack(
    operators: Mapping[str, BaseCallback | None], defaults: Mapping[str, AutomaticMutationTuning | HindsightCrossover | None]
) -> bytes:
    """
    Make operators a part of a file, without the model, its environment and its logger.

    :param operators: Operators by name, None for one that is left out.
    :param defaults: What the model's arguments say they are; those are left to the arguments.
    :return: The others. One that cannot be pickled is left out with a warning.
    """
    packed = {}
    for name, operator in operators.items():
        default = defaults[name]
        if _is_default(operator, default):
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
