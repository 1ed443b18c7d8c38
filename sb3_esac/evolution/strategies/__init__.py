"""
Evolution strategies, one file each: how a distribution moves by the returns of what was drawn from it. They maximise.

:data:`STRATEGIES` are what ``ES(strategy=...)`` and a :class:`~sb3_esac.evolution.population.Population` hold. For any
function, no environment needed, there are classes with ``ask`` and ``tell``.
"""

from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.operators import winner_count
from sb3_esac.evolution.strategies.ask_tell import AskTell as AskTell
from sb3_esac.evolution.strategies.canonical import Canonical
from sb3_esac.evolution.strategies.canonical import CanonicalES as CanonicalES
from sb3_esac.evolution.strategies.cem import CEM as CEM
from sb3_esac.evolution.strategies.cem import CrossEntropy
from sb3_esac.evolution.strategies.openai import OpenAI
from sb3_esac.evolution.strategies.openai import OpenAIES as OpenAIES
from sb3_esac.evolution.strategies.protocol import Strategy as Strategy
from sb3_esac.evolution.strategies.sep_cma_es import SeparableCMA
from sb3_esac.evolution.strategies.sep_cma_es import SeparableCMAES as SeparableCMAES

STRATEGIES: dict[str, type[Strategy]] = {
    "openai": OpenAI,
    "canonical": Canonical,
    "cem": CrossEntropy,
    "sep_cma_es": SeparableCMA,
}
"""Strategies by name."""


def is_mirrored(strategy: str, mirrored: bool | None) -> bool:
    """
    Whether perturbations come in pairs of opposite sign.

    :param strategy: A name in :data:`STRATEGIES`.
    :param mirrored: What was asked for; None for what was published.
    :return: Salimans et al. (2017) mirror, Chrabaszcz et al. (2018) do not.
    """
    kind = STRATEGIES[strategy]
    return kind.mirrors if mirrored is None or "mirrored" not in kind.arguments else mirrored


def strategy_config(
    strategy: str,
    population_size: int,
    *,
    winner_fraction: float = 0.4,
    es_learning_rate: float = 0.02,
    es_optimizer: str = "adam",
    mirrored: bool | None = None,
    weight_decay: float = 0.0,
) -> PopulationConfig:
    """
    Say what a strategy means for a population without guests; the names are explained in :class:`sb3_esac.ES`.

    :param strategy: A name in :data:`STRATEGIES`.
    :param population_size: n.
    :param winner_fraction: e, in (0, 1].
    :param es_learning_rate: Step size of the optimiser.
    :param es_optimizer: "adam" or "sgd".
    :param mirrored: Whether perturbations come in pairs of opposite sign; None for what was published.
    :param weight_decay: L2 penalty on the mean.
    :return: Rules for a :class:`~sb3_esac.evolution.population.Population`.
    """
    own = STRATEGIES[strategy].winner_fraction
    return PopulationConfig(
        size=population_size,
        n_winners=winner_count(population_size, winner_fraction if own is None else own),
        es_learning_rate=es_learning_rate,
        es_optimizer=es_optimizer,
        mirrored=is_mirrored(strategy, mirrored),
        strategy=strategy,
        weight_decay=weight_decay,
    )
