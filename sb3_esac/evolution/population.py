"""The population: a mean, a mutation rate, and where each member starts from."""

import copy
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
import torch as th

from sb3_esac.evolution.config import PopulationConfig as PopulationConfig
from sb3_esac.evolution.noise import perturbations
from sb3_esac.evolution.strategies import STRATEGIES
from sb3_esac.evolution.strategies.protocol import known_winners


class Origin(IntEnum):
    """Lineage of a member: what its parameters were before the perturbation."""

    MEAN = 0
    WINNER = 1
    AGENT = 2


class Population:
    """
    Mean, mutation rate, members and winners: the state of the evolutionary half of ESAC.

    How the mean moves, and how far members are from what they start from, is what its ``strategy`` says: a
    :class:`~sb3_esac.evolution.strategies.protocol.Strategy`.

    A generation is ``perturb`` (lines 5-6), evaluation elsewhere, ``update`` (lines 9-11) and ``form`` (line 27).

    To be read: ``mean`` (d,), ``sigma``, ``generation`` (from 0), ``members`` (n, d), ``origins`` (n,) of :class:`Origin`,
    ``winners`` (w, d) of the last generation that was played, best first, with ``winner_origins`` (w,), and
    ``previous_winners`` (w, d) of the one before. ``children`` (c, d) are members that operators want in the next population.
    Vectors are float32, and are replaced rather than changed in place.

    :param mean: (d,) initial parameters, theta_es.
    :param sigma: Initial mutation rate.
    :param config: What stays the same.
    """

    def __init__(self, mean: np.ndarray, sigma: float, config: PopulationConfig) -> None:
        self.config = config
        self.strategy = STRATEGIES[config.strategy](mean, sigma, config)
        # What is played is float32, whatever the strategy reckons in.
        self.mean = self.strategy.mean.astype(np.float32, copy=False)
        self.generation = 0
        # Members share their starting points: row 0 is the mean, then the distinct guests.
        self._bases = self.mean[None].copy()
        self._base_of = np.zeros(config.size, dtype=np.int64)
        self.origins = np.full(config.size, Origin.MEAN, dtype=np.int64)
        self.winners = self._no_members()
        self.winner_origins = np.zeros(0, dtype=np.int64)
        self.previous_winners = self._no_members()
        self.children = self._no_members()

    def _no_members(self) -> np.ndarray:
        return np.empty((0, self.mean.size), dtype=np.float32)

    @property
    def sigma(self) -> float:
        """Mutation rate: the root mean square of the standard deviations, where they differ."""
        return self.strategy.sigma

    @sigma.setter
    def sigma(self, sigma: float) -> None:
        self.strategy.sigma = sigma

    @property
    def members(self) -> np.ndarray:
        """(n, d) members before their perturbation, pop_n."""
        return self._bases[self._base_of]

    def perturb(self, seed: int) -> np.ndarray:
        """
        Mutate every member, pop_n[i] + sigma * eps_i (lines 5-6).

        :param seed: Seed of the run.
        :return: (n, d) float32 parameters to play; the same for the same seed and generation.
        """
        config = self.config
        # The noise is not held while members are added: vectors may be long.
        offspring = self.strategy.displace(
            perturbations(seed, self.generation, config.size, self.mean.size, mirrored=config.mirrored)
        )
        offspring += self.members
        return offspring

    def update(self, offspring: np.ndarray, returns: np.ndarray) -> None:
        """
        Select winners and move the mean (lines 9-11).

        :param offspring: (n, d) parameters that were played, as ``perturb`` gave them.
        :param returns: (n,) their returns; NaN for a member whose return is unknown.
        """
        indices = known_winners(returns, self.config.n_winners)
        self.previous_winners = self.winners
        self.winners = offspring[indices].copy()
        self.winner_origins = self.origins[indices].copy()
        before = self.strategy.mean
        self.strategy.tell(offspring, returns)
        if self.strategy.mean is not before:
            self.mean = self.strategy.mean.astype(np.float32, copy=False)

    def form(self, agent: np.ndarray | None) -> None:
        """
        Form the next generation from the mean, the operators' children and the agent (line 27).

        Members that start from the mean come first, so that mirrored pairs share their starting point.

        :param agent: (d,) parameters of the agent, or None to invite none.
        """
        n_agent = self.config.n_agent_members if agent is not None else 0
        n_winners = min(len(self.children), self.config.size - n_agent)
        n_mean = self.config.size - n_agent - n_winners
        guests = [*self.children[:n_winners]] + ([agent] if agent is not None and n_agent else [])
        self._bases = np.stack([self.mean, *guests]).astype(np.float32)
        self._base_of = np.concatenate(
            [np.zeros(n_mean, np.int64), 1 + np.arange(n_winners), np.full(n_agent, len(guests), np.int64)]
        ).astype(np.int64)
        self.origins = np.repeat([Origin.MEAN, Origin.WINNER, Origin.AGENT], [n_mean, n_winners, n_agent]).astype(np.int64)
        self.children = self._no_members()
        self.generation += 1

    def set_mean(self, mean: np.ndarray) -> None:
        """
        Replace the mean by another vector, for the members that start from it as well.

        :param mean: (d,) parameters.
        """
        self.strategy.mean = np.array(mean, dtype=self.strategy.dtype)
        self.mean = self.strategy.mean.astype(np.float32, copy=False)
        self._bases = np.concatenate([self.mean[None], self._bases[1:]])

    def configure(self, config: PopulationConfig) -> None:
        """
        Go on under other rules, from the same mean, mutation rate and guests.

        :param config: The new rules; the same ones change nothing.
        """
        if config.strategy != self.config.strategy:
            self.strategy = STRATEGIES[config.strategy](self.mean, self.sigma, config)
        self.strategy.configure(config)
        self._resize(config.size)
        self.config = config

    def _resize(self, size: int) -> None:
        """Go on with more or fewer members, guests among them."""
        if size != len(self._base_of):
            guests = np.flatnonzero(self._base_of)[:size]
            n_mean = size - len(guests)
            self._base_of = np.concatenate([np.zeros(n_mean, np.int64), self._base_of[guests]])
            self.origins = np.concatenate([np.full(n_mean, Origin.MEAN, np.int64), self.origins[guests]])

    def snapshot(self) -> "Population":
        """A copy that later generations leave alone."""
        # Arrays are replaced, never changed in place, so they can be shared.
        twin = copy.copy(self)
        twin.strategy = self.strategy.snapshot()
        return twin

    STATE = ("generation", "origins", "winners", "winner_origins", "previous_winners", "children", "_bases", "_base_of")

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next generation depends on, as tensors, numbers and strings; "mean" is theta_es."""
        state = {name: getattr(self, name) for name in self.STATE}
        # Its sigma is for a population with another strategy, whose own state knows it by another name.
        strategy = {"name": self.config.strategy, "rate": self.sigma, **self.strategy.state_dict()}
        tensors: dict[str, Any] = _each(_to_tensor, {"mean": self.mean, **state, "strategy": strategy})
        return tensors

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """
        Go on from a state, under the rules that this population has; or from another mean alone.

        :param state: What :meth:`state_dict` gave, or a part of it.
        :param strict: Whether anything missing or unknown is an error.
        :raises RuntimeError: If it does not fit.
        """
        known = {"mean", "strategy", *self.STATE}
        if strict and set(state) != known:
            raise RuntimeError(f"A population has the keys {sorted(known)}, not {sorted(state)}")
        values = _each(_to_array, dict(state))
        mean = np.asarray(values.pop("mean", self.mean))
        if mean.shape != self.mean.shape:
            raise RuntimeError(f"A mean of shape {mean.shape} does not fit a population of shape {self.mean.shape}")
        strategy = values.pop("strategy", None)
        for name in values.keys() & set(self.STATE):
            setattr(self, name, values[name])
        self._resize(self.config.size)
        if strategy is not None:
            name, rate = strategy.pop("name"), strategy.pop("rate")
            own = self.strategy.state_dict()
            # Another optimiser has another state. Files of before lack what is left of the noise of "cem".
            if name == self.config.strategy and strategy.keys() | {"final_noise"} == own.keys() | {"final_noise"}:
                self.strategy.load_state_dict({**own, **strategy})
            else:
                self.strategy = STRATEGIES[self.config.strategy](mean, rate, self.config)
            self.mean = self.strategy.mean.astype(np.float32, copy=False)
        if not np.array_equal(mean, self.mean):
            self.set_mean(mean)


def _each(change: Callable[[Any], Any], value: Any) -> Any:
    """Change everything in nested dicts."""
    return {key: _each(change, part) for key, part in value.items()} if isinstance(value, dict) else change(value)


def _to_tensor(value: Any) -> Any:
    # A change of the tensor does not change the population.
    return th.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value


def _to_array(value: Any) -> Any:
    return value.detach().cpu().numpy().copy() if isinstance(value, th.Tensor) else value
