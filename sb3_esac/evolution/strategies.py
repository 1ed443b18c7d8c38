"""
Evolution strategies with an ask / tell interface: for any function, no environment needed. They maximise.

Each is a choice of rules for a :class:`~sb3_esac.evolution.population.Population`, which does the work, here as in the
algorithms of this package.
"""

import numpy as np

from sb3_esac.evolution.arguments import (
    check_population,
    require,
    require_count,
    require_not_negative,
    require_option,
    require_positive,
)
from sb3_esac.evolution.operators import winner_count
from sb3_esac.evolution.optimizers import OPTIMIZERS
from sb3_esac.evolution.population import Population, PopulationConfig

STRATEGIES: dict[str, str] = {"openai": "es", "canonical": "winners"}
"""How the mean moves (``PopulationConfig.recombination``) under each strategy."""


def is_mirrored(strategy: str, mirrored: bool | None) -> bool:
    """
    Whether perturbations come in pairs of opposite sign.

    :param strategy: "openai" or "canonical".
    :param mirrored: What was asked for; None for what was published.
    :return: Salimans et al. (2017) mirror, Chrabaszcz et al. (2018) do not.
    """
    return strategy == "openai" if mirrored is None else mirrored


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

    :param strategy: "openai" or "canonical".
    :param population_size: n.
    :param winner_fraction: e, in (0, 1].
    :param es_learning_rate: Step size of the optimiser.
    :param es_optimizer: "adam" or "sgd".
    :param mirrored: Whether perturbations come in pairs of opposite sign; None for what was published.
    :param weight_decay: L2 penalty on the mean.
    :return: Rules for a :class:`~sb3_esac.evolution.population.Population`.
    """
    return PopulationConfig(
        size=population_size,
        n_winners=winner_count(population_size, winner_fraction),
        es_learning_rate=es_learning_rate,
        es_optimizer=es_optimizer,
        mirrored=is_mirrored(strategy, mirrored),
        recombination=STRATEGIES[strategy],
        weight_decay=weight_decay,
    )


class AskTell:
    """
    A population that is asked for vectors and told what they are worth, turn by turn.

    :param mean: (d,) initial vector.
    :param sigma: Standard deviation of the perturbations.
    :param config: How the mean moves.
    :param seed: Seed; perturbations are a function of seed, generation and row.
    :raises ValueError: If an argument is not what it may be.
    """

    def __init__(self, mean: np.ndarray, sigma: float, config: PopulationConfig, seed: int) -> None:
        vector = np.asarray(mean)
        require(vector.ndim == 1 and vector.size > 0, "mean", mean, "a vector")
        require(bool(np.isfinite(vector).all()), "mean", mean, "a vector of finite numbers")
        require_positive("sigma", sigma)
        require_count("seed", seed, 0)
        self.seed = seed
        self.population = Population(vector, sigma, config)
        self._asked: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """(d,) float32, what the search has come to."""
        return self.population.mean

    def ask(self) -> np.ndarray:
        """
        Give the vectors of this generation.

        :return: (n, d) float32; the same ones until :meth:`tell` is called.
        """
        if self._asked is None:
            self._asked = self.population.perturb(self.seed)
        return self._asked.copy()

    def tell(self, returns: np.ndarray) -> None:
        """
        Move the mean, and go on to the next generation.

        :param returns: (n,) what each vector is worth, more is better; NaN for one of which it is unknown.
        :raises ValueError: If there are not n of them.
        :raises RuntimeError: If nothing was asked for since the last time.
        """
        values = np.asarray(returns, dtype=np.float64)
        size = self.population.config.size
        require(values.shape == (size,), "returns", values.shape, f"of shape {(size,)}")
        if self._asked is None:
            raise RuntimeError("`ask` comes before `tell`: nobody knows which vectors these returns belong to")
        self.population.update(self._asked, values)
        self.population.form(None)
        self._asked = None


class OpenAIES(AskTell):
    """
    The evolution strategy of Salimans et al. (2017), "Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning": centered ranks weigh (mirrored) perturbations, and Adam ascends the gradient estimate.

    :param mean: (d,) initial vector.
    :param sigma: Standard deviation of the perturbations.
    :param population_size: Vectors per generation, n. Even if ``mirrored``.
    :param es_learning_rate: Step size of the optimiser.
    :param es_optimizer: "adam" or "sgd".
    :param mirrored: Whether perturbations come in pairs of opposite sign.
    :param weight_decay: L2 penalty on the mean, 0.005 in their code.
    :param seed: Seed, an integer >= 0.
    :raises ValueError: If an argument is not what it may be.
    """

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        population_size: int = 40,
        es_learning_rate: float = 0.02,
        es_optimizer: str = "adam",
        mirrored: bool = True,
        weight_decay: float = 0.0,
        seed: int = 0,
    ) -> None:
        check_population(population_size, mirrored, 1.0)
        require_positive("es_learning_rate", es_learning_rate)
        require_option("es_optimizer", es_optimizer, tuple(OPTIMIZERS))
        require_not_negative("weight_decay", weight_decay)
        config = strategy_config(
            "openai",
            population_size,
            winner_fraction=1.0,
            es_learning_rate=es_learning_rate,
            es_optimizer=es_optimizer,
            mirrored=mirrored,
            weight_decay=weight_decay,
        )
        super().__init__(mean, sigma, config, seed)


class CanonicalES(AskTell):
    """
    The (mu, lambda) evolution strategy of Chrabaszcz et al. (2018), "Back to Basics": the mean moves to the log-weighted
    mean of the winners, theta + sigma * sum_i w_i eps_i with w_i ~ ln(mu + 0.5) - ln(i).

    :param mean: (d,) initial vector.
    :param sigma: Standard deviation of the perturbations.
    :param population_size: Vectors per generation, lambda.
    :param winner_fraction: mu / lambda.
    :param mirrored: Whether perturbations come in pairs of opposite sign; not so in the paper.
    :param seed: Seed, an integer >= 0.
    :raises ValueError: If an argument is not what it may be.
    """

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        population_size: int = 40,
        winner_fraction: float = 0.4,
        mirrored: bool = False,
        seed: int = 0,
    ) -> None:
        check_population(population_size, mirrored, winner_fraction)
        config = strategy_config("canonical", population_size, winner_fraction=winner_fraction, mirrored=mirrored)
        super().__init__(mean, sigma, config, seed)
