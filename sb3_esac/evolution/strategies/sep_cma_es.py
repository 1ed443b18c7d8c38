"""Separable CMA-ES: covariance matrix adaptation of a diagonal covariance, in linear time and space."""

from dataclasses import dataclass

import numpy as np

from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.operators import select_winners
from sb3_esac.evolution.strategies.ask_tell import AskTell, search_config
from sb3_esac.evolution.strategies.protocol import Strategy


def default_size(dimension: int) -> int:
    """
    Population size of Hansen's tutorial, 4 + floor(3 ln d).

    :param dimension: d.
    """
    return 4 + int(3 * np.log(dimension))


def parent_weights(size: int) -> np.ndarray:
    """
    Weights of the parents in Hansen's tutorial (equation 49), ln((lambda + 1) / 2) - ln(i) where positive, normalised.

    :param size: lambda.
    :return: (mu,) float64 weights that sum to one, best first, with mu = floor(lambda / 2).
    """
    weights: np.ndarray = np.log((size + 1) / 2) - np.log(np.arange(1, size // 2 + 1))
    weights /= weights.sum()
    return weights


def effective(weights: np.ndarray) -> float:
    """
    Variance-effective number of what is weighted, mu_eff = (sum w)^2 / sum w^2.

    :param weights: All of one sign.
    """
    return float(weights.sum() ** 2 / (weights**2).sum())


@dataclass(frozen=True)
class Rates:
    """
    Constants of Hansen's tutorial (2016, table 1), c_1 and c_mu times (d + 2) / 3 for a diagonal covariance (Ros and Hansen,
    2008, section 3).

    :param c_sigma: Of the step-size path.
    :param d_sigma: Damping of the step size.
    :param c_c: Of the path of the covariance.
    :param c_1: Of the rank-one update.
    :param c_mu: Of the rank-mu update.
    """

    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float

    @classmethod
    def of(cls, dimension: int, mu_eff: float) -> "Rates":
        """
        Look the constants up.

        :param dimension: d.
        :param mu_eff: Variance-effective number of parents.
        """
        separable = (dimension + 2) / 3
        c_sigma = (mu_eff + 2) / (dimension + mu_eff + 5)
        c_1 = separable * 2 / ((dimension + 1.3) ** 2 + mu_eff)
        c_mu = separable * 2 * (0.25 + mu_eff + 1 / mu_eff - 2) / ((dimension + 2) ** 2 + mu_eff)
        return cls(
            c_sigma=c_sigma,
            d_sigma=1 + 2 * max(0.0, np.sqrt((mu_eff - 1) / (dimension + 1)) - 1) + c_sigma,
            c_c=(4 + mu_eff / dimension) / (dimension + 4 + 2 * mu_eff / dimension),
            c_1=c_1,
            c_mu=min(1 - c_1, c_mu),
        )


def loser_weights(size: int, dimension: int, rates: Rates) -> np.ndarray:
    """
    Negative weights of Hansen's tutorial (equations 49 to 53): variances shrink where the worse half went.

    Their sum is the least of three bounds: what makes up for all that the parents and the path add, so that nothing decays
    (50); what is learned about as fast as from the parents (51); what leaves the variances positive (52).

    :param size: lambda.
    :param dimension: d.
    :param rates: c_1 and c_mu.
    :return: (floor(lambda / 2),) float64 weights, the worst last.
    """
    weights: np.ndarray = np.log((size + 1) / 2) - np.log(np.arange(size - size // 2 + 1, size + 1))
    balanced = 1 + rates.c_1 / rates.c_mu
    as_fast = 1 + 2 * effective(weights) / (effective(parent_weights(size)) + 2)
    positive = (1 - rates.c_1 - rates.c_mu) / (dimension * rates.c_mu)
    weights *= min(balanced, as_fast, positive) / -weights.sum()
    return weights


def expected_length(dimension: int) -> float:
    """
    Length that is expected of a standard normal vector, as the tutorial approximates it.

    :param dimension: d.
    """
    return float(np.sqrt(dimension) * (1 - 1 / (4 * dimension) + 1 / (21 * dimension**2)))


def has_settled(length: float, n_updates: int, c_sigma: float, dimension: int) -> bool:
    """
    Decide whether the step size need not grow much any more (the tutorial's h_sigma).

    :param length: Of the step size's path.
    :param n_updates: Generations that the path is made of, at least 1.
    :param c_sigma: Its rate.
    :param dimension: d.
    """
    unbiased = length / np.sqrt(1 - (1 - c_sigma) ** (2 * n_updates))
    return bool(unbiased < (1.4 + 2 / (dimension + 1)) * expected_length(dimension))


class SeparableCMA(Strategy):
    """
    Mean, step size by a cumulative path, and diagonal covariance by rank-one and rank-mu updates (Ros and Hansen, 2008), the
    latter with the negative weights of Hansen's tutorial.

    The better half are parents.

    :param mean: (d,) initial mean.
    :param sigma: Initial standard deviation.
    :param config: What stays the same.
    """

    arguments = frozenset()
    adapts_sigma = True
    winner_fraction = 0.5
    dtype = np.float64
    state_names = ("mean", "step_size", "variance", "step_path", "path", "n_updates")

    def __init__(self, mean: np.ndarray, sigma: float, config: PopulationConfig) -> None:
        super().__init__(mean, sigma, config)
        self.step_size = float(sigma)
        self.variance = np.ones_like(self.mean)
        self.step_path, self.path = np.zeros_like(self.mean), np.zeros_like(self.mean)
        self.n_updates = 0

    @property
    def sigma(self) -> float:
        return float(self.step_size * np.sqrt(self.variance.mean()))

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self.step_size = float(sigma / np.sqrt(self.variance.mean()))

    @property
    def deviations(self) -> np.ndarray:
        deviations: np.ndarray = self.step_size * np.sqrt(self.variance)
        return deviations

    def move(self, offspring: np.ndarray, returns: np.ndarray, winners: np.ndarray) -> None:
        dimension, weights = self.mean.size, parent_weights(self.config.size)
        rates = Rates.of(dimension, effective(weights))
        # Where returns are unknown parents may be missing; the path is as long without them.
        weights = weights[: len(winners)] / weights[: len(winners)].sum()
        scale = np.sqrt(effective(weights))
        steps = (offspring.astype(self.dtype) - self.mean) / self.step_size
        step = weights @ steps[winners]
        self.mean = self.mean + self.step_size * step
        self.n_updates += 1

        c = rates.c_sigma
        self.step_path = (1 - c) * self.step_path + np.sqrt(c * (2 - c)) * scale * step / np.sqrt(self.variance)
        length = float(np.linalg.norm(self.step_path))
        expected = expected_length(dimension)
        # The path of the covariance stalls while the step size has yet to grow.
        settled = has_settled(length, self.n_updates, c, dimension)

        self.path = (1 - rates.c_c) * self.path + settled * np.sqrt(rates.c_c * (2 - rates.c_c)) * scale * step
        lost = 0.0 if settled else rates.c_c * (2 - rates.c_c)
        losses, squares = self._losers(steps, returns, rates)
        kept = 1 - rates.c_1 * (1 - lost) - rates.c_mu * (1 + losses.sum())
        learned = weights @ steps[winners] ** 2 + losses @ squares
        self.variance = kept * self.variance + rates.c_1 * self.path**2 + rates.c_mu * learned
        self.step_size *= float(np.exp(min(1.0, c / rates.d_sigma * (length / expected - 1))))

    def _losers(self, steps: np.ndarray, returns: np.ndarray, rates: Rates) -> tuple[np.ndarray, np.ndarray]:
        """
        Find the worse half, as far as it is known what they are worth.

        :param steps: (n, d) steps from the mean, in units of the step size.
        :param returns: (n,) returns, NaN among them.
        :param rates: The constants.
        :return: (k,) negative weights, and (k, d) squares of steps, each made as long as is expected of one (equation 46).
        """
        size, dimension = self.config.size, self.mean.size
        losers = select_winners(returns, size)[size - size // 2 :]
        known = np.isfinite(returns[losers])
        squares = steps[losers[known]] ** 2
        lengths = (squares / self.variance).sum(axis=1, keepdims=True)
        # A step that is lost in rounding has no direction.
        return loser_weights(size, dimension, rates)[known], squares * dimension / np.maximum(lengths, 1e-10)


class SeparableCMAES(AskTell):
    """
    The separable CMA-ES of Ros and Hansen (2008), "A Simple Modification in CMA-ES Achieving Linear Time and Space
    Complexity", with the weights and constants of Hansen's tutorial (2016), "The CMA Evolution Strategy: A Tutorial", the
    negative weights of the worse half among them, which are younger than the paper. Vectors are float64.

    :param mean: (d,) initial vector.
    :param sigma: Initial standard deviation.
    :param population_size: Vectors per generation, lambda; None for 4 + floor(3 ln d).
    :param seed: Seed, an integer >= 0.
    :raises ValueError: If an argument is not what it may be.
    """

    def __init__(self, mean: np.ndarray, sigma: float, population_size: int | None = None, seed: int = 0) -> None:
        size = default_size(max(1, np.size(mean))) if population_size is None else population_size
        config = search_config("sep_cma_es", mean, sigma, size, winner_fraction=0.5)
        super().__init__(SeparableCMA(mean, sigma, config), seed)
