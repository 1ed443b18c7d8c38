"""How the mean of the population moves: optimisers of the ES gradient."""

from typing import Any

import numpy as np


class Sgd:
    """
    Plain gradient ascent, theta + alpha * g (Algorithm 1, line 11).

    :param learning_rate: Step size, alpha_es.
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = learning_rate

    def step(self, mean: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """
        Ascend once.

        :param mean: (d,) parameters.
        :param gradient: (d,) direction of ascent.
        :return: (d,) new parameters, of the dtype of ``mean``.
        """
        return (mean + self.learning_rate * gradient).astype(mean.dtype)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a saved state.

        :param state: What ``state_dict`` gave.
        """


class Adam(Sgd):
    """
    Adam (Kingma and Ba, 2015), ascending.

    :param learning_rate: Step size.
    :param beta_1: Decay of the first moment.
    :param beta_2: Decay of the second moment.
    :param epsilon: Added to the root of the second moment.
    """

    def __init__(self, learning_rate: float, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8) -> None:
        super().__init__(learning_rate)
        self.beta_1, self.beta_2, self.epsilon = beta_1, beta_2, epsilon
        self.steps = 0
        self.first_moment: np.ndarray | None = None
        self.second_moment: np.ndarray | None = None

    def step(self, mean: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        if self.first_moment is None or self.second_moment is None:
            self.first_moment, self.second_moment = np.zeros_like(gradient), np.zeros_like(gradient)
        self.steps += 1
        self.first_moment = self.beta_1 * self.first_moment + (1 - self.beta_1) * gradient
        self.second_moment = self.beta_2 * self.second_moment + (1 - self.beta_2) * gradient**2
        first = self.first_moment / (1 - self.beta_1**self.steps)
        second = self.second_moment / (1 - self.beta_2**self.steps)
        return (mean + self.learning_rate * first / (np.sqrt(second) + self.epsilon)).astype(mean.dtype)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "first_moment": self.first_moment, "second_moment": self.second_moment}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        self.first_moment, self.second_moment = state["first_moment"], state["second_moment"]


OPTIMIZERS: dict[str, type[Sgd]] = {"adam": Adam, "sgd": Sgd}
