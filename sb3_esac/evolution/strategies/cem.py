"""The cross-entropy method with a diagonal covariance, as in CEM-RL."""

import numpy as np

from sb3_esac.evolution.arguments import is_number, require, require_not_negative
from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.strategies.ask_tell import AskTell, search_config
from sb3_esac.evolution.strategies.protocol import Strategy

FINAL_NOISE = 0.1
NOISE_DECAY = 0.95


def elite_weights(n_elites: int) -> np.ndarray:
    """
    Weights of the elites in the code of CEM-RL, w_i ~ ln(1 + K) - ln(i), normalised to sum to one.

    :param n_elites: K.
    :return: (n_elites,) float64 weights, best first.
    """
    weights: np.ndarray = np.log(n_elites + 1.0) - np.log(np.arange(1, n_elites + 1))
    weights /= weights.sum()
    return weights


class CrossEntropy(Strategy):
    """
    Mean and variances become those of the elites, and noise that decays is added to the variances (Pourchot and Sigaud,
    2019, equations 1 and 2).

    The variance is taken about the mean that the elites were drawn from, not the new one, as there.

    :param mean: (d,) initial mean.
    :param sigma: Initial standard deviation.
    :param config: What stays the same.
    :param initial_noise: Root of what is added to the variances at first, None for ``sigma``.
    :param final_noise: Root of what is added in the end, None for a tenth of ``sigma``.
    :param noise_decay: Factor by which what is added approaches its final value in each generation, in [0, 1].
    """

    adapts_sigma = True
    dtype = np.float64
    state_names = ("mean", "variance", "noise", "final_noise")

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        config: PopulationConfig,
        initial_noise: float | None = None,
        final_noise: float | None = None,
        noise_decay: float = NOISE_DECAY,
    ) -> None:
        super().__init__(mean, sigma, config)
        self.variance = np.full(self.mean.shape, float(sigma) ** 2)
        self.noise = float(sigma if initial_noise is None else initial_noise) ** 2
        self.final_noise = float(FINAL_NOISE * sigma if final_noise is None else final_noise) ** 2
        self.noise_decay = noise_decay

    @property
    def sigma(self) -> float:
        return float(np.sqrt(self.variance.mean()))

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        present = self.variance.mean()
        shape = self.variance / present if present > 0 else np.ones_like(self.variance)
        self.variance = shape * sigma**2

    @property
    def deviations(self) -> np.ndarray:
        deviations: np.ndarray = np.sqrt(self.variance)
        return deviations

    def move(self, offspring: np.ndarray, returns: np.ndarray, winners: np.ndarray) -> None:
        weights = elite_weights(len(winners))
        steps = offspring[winners].astype(self.dtype) - self.mean
        self.variance = weights @ steps**2 + self.noise
        self.mean = self.mean + weights @ steps
        self.noise = self.noise_decay * self.noise + (1 - self.noise_decay) * self.final_noise


class CEM(AskTell):
    """
    The cross-entropy method with a diagonal covariance, as in Pourchot and Sigaud (2019), "CEM-RL": mean and variances become
    those of the elites, weighted by ln(1 + K) - ln(i), and noise that decays is added to the variances. Vectors are float64.

    :param mean: (d,) initial vector.
    :param sigma: Initial standard deviation.
    :param population_size: Vectors per generation.
    :param winner_fraction: Fraction of them that are elites, a half in CEM-RL.
    :param mirrored: Whether perturbations come in pairs of opposite sign.
    :param initial_noise: Standard deviation whose square is added to the variances at first. None for ``sigma``, as in CEM-RL.
    :param final_noise: The same in the end, 0 for none. None for a tenth of ``sigma``, as in CEM-RL.
    :param noise_decay: Factor by which what is added approaches its final value in each generation, in [0, 1].
    :param seed: Seed, an integer >= 0.
    :raises ValueError: If an argument is not what it may be.
    """

    def __init__(
        self,
        mean: np.ndarray,
        sigma: float,
        population_size: int = 40,
        winner_fraction: float = 0.5,
        mirrored: bool = False,
        initial_noise: float | None = None,
        final_noise: float | None = None,
        noise_decay: float = NOISE_DECAY,
        seed: int = 0,
    ) -> None:
        config = search_config("cem", mean, sigma, population_size, winner_fraction, mirrored)
        for name, noise in (("initial_noise", initial_noise), ("final_noise", final_noise)):
            if noise is not None:
                require_not_negative(name, noise)
        require(is_number(noise_decay) and 0 <= noise_decay <= 1, "noise_decay", noise_decay, "in [0, 1]")
        super().__init__(CrossEntropy(mean, sigma, config, initial_noise, final_noise, noise_decay), seed)
