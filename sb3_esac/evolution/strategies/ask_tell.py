"""Ask and tell: a strategy for any function, no environment needed."""

from typing import Any

import numpy as np

from sb3_esac.evolution.arguments import check_population, require, require_count, require_positive
from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.noise import perturbations
from sb3_esac.evolution.operators import winner_count
from sb3_esac.evolution.strategies.protocol import Strategy


def search_config(
    strategy: str,
    mean: np.ndarray,
    sigma: float,
    population_size: int,
    winner_fraction: float = 1.0,
    mirrored: bool = False,
    **options: Any,
) -> PopulationConfig:
    """
    Check what every search is given, and say what stays the same in it.

    :param strategy: Name of the strategy.
    :param mean: (d,) initial vector.
    :param sigma: Initial standard deviation.
    :param population_size: Vectors per generation.
    :param winner_fraction: Fraction of them that win.
    :param mirrored: Whether perturbations come in pairs of opposite sign.
    :param options: Other fields of the config; they are not checked.
    :raises ValueError: If an argument is not what it may be.
    """
    vector = np.asarray(mean)
    require(vector.ndim == 1 and vector.size > 0, "mean", mean, "a vector")
    require(bool(np.isfinite(vector).all()), "mean", mean, "a vector of finite numbers")
    require_positive("sigma", sigma)
    check_population(population_size, mirrored, winner_fraction)
    n_winners = winner_count(population_size, winner_fraction)
    return PopulationConfig(population_size, n_winners, mirrored=mirrored, strategy=strategy, **options)


class AskTell:
    """
    A strategy that is asked for vectors and told what they are worth, turn by turn. It maximises.

    :param strategy: How the distribution moves.
    :param seed: Seed; perturbations are a function of seed, generation and row.
    """

    def __init__(self, strategy: Strategy, seed: int = 0) -> None:
        require_count("seed", seed, 0)
        self.strategy = strategy
        self.seed = seed
        self.generation = 0
        self._asked: np.ndarray | None = None

    @property
    def mean(self) -> np.ndarray:
        """(d,) what the search has come to, of the strategy's dtype."""
        return self.strategy.mean

    @property
    def sigma(self) -> float:
        """Root mean square of the standard deviations."""
        return self.strategy.sigma

    def ask(self) -> np.ndarray:
        """
        Give the vectors of this generation.

        :return: (n, d) of the strategy's dtype; the same ones until :meth:`tell` is called.
        """
        if self._asked is None:
            config, dimension = self.strategy.config, self.strategy.mean.size
            noise = perturbations(self.seed, self.generation, config.size, dimension, mirrored=config.mirrored)
            self._asked = self.strategy.ask(noise.astype(self.strategy.dtype, copy=False))
        return self._asked.copy()

    def tell(self, returns: np.ndarray) -> None:
        """
        Move the distribution, and go on to the next generation.

        :param returns: (n,) what each vector is worth, more is better; NaN for one of which it is unknown.
        :raises ValueError: If there are not n of them.
        :raises RuntimeError: If nothing was asked for since the last time.
        """
        values = np.asarray(returns, dtype=np.float64)
        size = self.strategy.config.size
        require(values.shape == (size,), "returns", values.shape, f"of shape {(size,)}")
        if self._asked is None:
            raise RuntimeError("`ask` comes before `tell`: these returns belong to no vectors")
        self.strategy.tell(self._asked, values)
        self.generation += 1
        self._asked = None
