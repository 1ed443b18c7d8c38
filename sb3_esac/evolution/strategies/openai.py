"""Salimans et al. (2017): an optimiser ascends the gradient estimate."""

import copy
from typing import Any

import numpy as np

from sb3_esac.evolution import operators
from sb3_esac.evolution.arguments import require_not_negative, require_option, require_positive
from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.optimizers import OPTIMIZERS
from sb3_esac.evolution.strategies.ask_tell import AskTell, search_config
from sb3_esac.evolution.strategies.protocol import Strategy


class OpenAI(Strategy):
    """
    Centered ranks weigh perturbations, and the optimiser ascends their sum (Algorithm 1 of ESAC, line 11).

    :param mean: (d,) initial mean.
    :param sigma: Standard deviation.
    :param config: What stays the same.
    """

    arguments = frozenset({"es_learning_rate", "es_optimizer", "weight_decay", "mirrored"})
    mirrors = True

    def __init__(self, mean: np.ndarray, sigma: float, config: PopulationConfig) -> None:
        super().__init__(mean, sigma, config)
        self.optimizer = OPTIMIZERS[config.es_optimizer](config.es_learning_rate)

    def move(self, offspring: np.ndarray, returns: np.ndarray, winners: np.ndarray) -> None:
        utilities = operators.centered_ranks(returns)
        gradient = operators.es_gradient(utilities, (offspring - self.mean) / self.sigma, self.sigma)
        if self.config.weight_decay:
            gradient = operators.decay(gradient, self.mean, self.sigma, self.config.weight_decay)
        self.mean = self.optimizer.step(self.mean, gradient)

    def configure(self, config: PopulationConfig) -> None:
        if config.es_optimizer != self.config.es_optimizer:
            self.optimizer = OPTIMIZERS[config.es_optimizer](config.es_learning_rate)
        self.optimizer.learning_rate = config.es_learning_rate
        super().configure(config)

    def snapshot(self) -> "OpenAI":
        twin = super().snapshot()
        twin.optimizer = copy.copy(self.optimizer)
        return twin

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), **self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state)


class OpenAIES(AskTell):
    """
    The evolution strategy of Salimans et al. (2017), "Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning": centered ranks weigh (mirrored) perturbations, and Adam ascends the gradient estimate. Vectors are float32.

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
        require_positive("es_learning_rate", es_learning_rate)
        require_option("es_optimizer", es_optimizer, tuple(OPTIMIZERS))
        require_not_negative("weight_decay", weight_decay)
        options: dict[str, Any] = dict(es_learning_rate=es_learning_rate, es_optimizer=es_optimizer, weight_decay=weight_decay)
        config = search_config("openai", mean, sigma, population_size, mirrored=mirrored, **options)
        super().__init__(OpenAI(mean, sigma, config), seed)
