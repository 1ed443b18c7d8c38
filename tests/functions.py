"""Functions for strategies to search, and returns that are hard on them."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

NOT_FINITE_RETURNS = st.sampled_from([0.0, 1.0, -3.5, 1e30, -1e30, float("nan"), float("inf"), float("-inf")])
"""Returns that are far away, or none."""


def sphere(points: np.ndarray) -> np.ndarray:
    """Highest, 0, at zero."""
    return -(points**2).sum(axis=-1)


def search(strategy: Any, function: Callable[[np.ndarray], np.ndarray], n_generations: int) -> np.ndarray:
    """
    Ask and tell.

    :param strategy: With ``ask`` and ``tell``.
    :param function: What is maximised.
    :param n_generations: How often.
    :return: The mean.
    """
    for _ in range(n_generations):
        strategy.tell(function(strategy.ask()))
    return strategy.mean
