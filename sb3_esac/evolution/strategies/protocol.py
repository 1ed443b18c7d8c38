"""What a strategy is: a distribution that is asked for offspring and told what they are worth."""

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, TypeVar

import numpy as np

from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.operators import select_winners

SelfStrategy = TypeVar("SelfStrategy", bound="Strategy")


def known_winners(returns: np.ndarray, n_winners: int) -> np.ndarray:
    """
    Select the winners of which it is known what they are worth.

    :param returns: (n,) returns; NaN for a member whose return is unknown.
    :param n_winners: How many there may be.
    :return: Indices, best first; among equals the lower index comes first.
    """
    indices = select_winners(returns, n_winners)
    known: np.ndarray = indices[np.isfinite(returns[indices])]
    return known


class Strategy(ABC):
    """
    A normal distribution, and how it moves by the returns of what was drawn from it.

    Its arrays are replaced, never changed in place. It has no random numbers of its own: noise comes from outside.

    :param mean: (d,) initial mean.
    :param sigma: Initial standard deviation.
    :param config: What stays the same.
    """

    arguments: ClassVar[frozenset[str]] = frozenset({"mirrored", "winner_fraction"})
    """Of ``es_learning_rate``, ``es_optimizer``, ``weight_decay``, ``mirrored``, ``winner_fraction``: what has an effect."""
    mirrors: ClassVar[bool] = False
    """Whether perturbations come in pairs of opposite sign, as published."""
    adapts_sigma: ClassVar[bool] = False
    """Whether the strategy changes sigma itself."""
    winner_fraction: ClassVar[float | None] = None
    """The fraction of members that win, if it is the strategy's own."""
    dtype: ClassVar[type] = np.float32
    """What it reckons in."""
    state_names: ClassVar[tuple[str, ...]] = ("mean", "sigma")
    """Attributes that the next generation depends on."""

    def __init__(self, mean: np.ndarray, sigma: float, config: PopulationConfig) -> None:
        self.config = config
        self.mean: np.ndarray = np.array(mean, dtype=self.dtype)
        self._sigma = float(sigma)

    @property
    def sigma(self) -> float:
        """Root mean square of the standard deviations; setting it keeps their proportions."""
        return self._sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self._sigma = float(sigma)

    @property
    def deviations(self) -> float | np.ndarray:
        """Standard deviations: (d,), or a number if they are all the same."""
        return self.sigma

    def displace(self, noise: np.ndarray) -> np.ndarray:
        """
        Say how far offspring are from what they start from.

        :param noise: (n, d) draws from the standard normal distribution.
        :return: (n, d) displacements of the same dtype.
        """
        displacements: np.ndarray = noise * np.asarray(self.deviations, dtype=noise.dtype)
        return displacements

    def ask(self, noise: np.ndarray) -> np.ndarray:
        """
        Give the offspring of this generation.

        :param noise: (n, d) draws from the standard normal distribution.
        :return: (n, d) vectors around the mean, of the dtype of the noise.
        """
        offspring = self.displace(noise)
        offspring += self.mean.astype(noise.dtype, copy=False)
        return offspring

    def tell(self, offspring: np.ndarray, returns: np.ndarray) -> None:
        """
        Move by what offspring are worth. Nothing moves, not even by momentum, if no return of a winner is known.

        :param offspring: (n, d) vectors that were evaluated, guests among them.
        :param returns: (n,) their returns; NaN for one of which it is unknown.
        """
        winners = known_winners(returns, self.config.n_winners)
        if len(winners):
            self.move(offspring, returns, winners)

    @abstractmethod
    def move(self, offspring: np.ndarray, returns: np.ndarray, winners: np.ndarray) -> None:
        """
        Replace the mean, and whatever else the strategy adapts.

        :param offspring: (n, d) vectors that were evaluated.
        :param returns: (n,) their returns, NaN among them.
        :param winners: (k,) indices of at most ``config.n_winners`` offspring with finite returns, best first; at least one.
        """

    def configure(self, config: PopulationConfig) -> None:
        """
        Go on under other arguments of the same strategy.

        :param config: The new ones; the same ones change nothing.
        """
        self.config = config

    def snapshot(self: SelfStrategy) -> SelfStrategy:
        """A copy that later generations leave alone."""
        return copy.copy(self)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next generation depends on."""
        return {name: copy.copy(getattr(self, name)) for name in self.state_names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a saved state.

        :param state: What :meth:`state_dict` gave.
        :raises ValueError: If it is of another strategy.
        """
        if state.keys() != self.state_dict().keys():
            raise ValueError(f"`state` must have the keys {sorted(self.state_dict())}, not {sorted(state)}")
        for name in self.state_names:
            setattr(self, name, copy.copy(state[name]))
