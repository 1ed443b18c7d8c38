"""Chrabaszcz et al. (2018): the mean moves to the winners."""

import numpy as np

from sb3_esac.evolution.operators import recombine
from sb3_esac.evolution.strategies.ask_tell import AskTell, search_config
from sb3_esac.evolution.strategies.protocol import Strategy


class Canonical(Strategy):
    """The mean moves to the log-weighted mean of the winners."""

    def move(self, offspring: np.ndarray, returns: np.ndarray, winners: np.ndarray) -> None:
        self.mean = recombine(offspring[winners]).astype(self.dtype)


class CanonicalES(AskTell):
    """
    The (mu, lambda) evolution strategy of Chrabaszcz et al. (2018), "Back to Basics": the mean moves to the log-weighted
    mean of the winners, theta + sigma * sum_i w_i eps_i with w_i ~ ln(mu + 0.5) - ln(i). Vectors are float32.

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
        config = search_config("canonical", mean, sigma, population_size, winner_fraction, mirrored)
        super().__init__(Canonical(mean, sigma, config), seed)
