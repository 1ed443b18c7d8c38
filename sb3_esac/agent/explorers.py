"""Explorers: the agent's actor with noise on its parameters, which explores in one direction for a whole episode."""

from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed, perturbations

SIGMA = 0.05
"""Standard deviation of the noise on each parameter."""


class Explorers:
    """
    Exploration by noise on the parameters (Plappert et al., 2018, "Parameter Space Noise for Exploration"), in pairs of
    opposite sign, without noise on the actions. The agent learns from their episodes as from its own.

    To be read: ``timesteps`` that they have played.

    :param n_explorers: How many play after each interval of the agent, an even number.
    """

    def __init__(self, n_explorers: int) -> None:
        self.n_explorers = n_explorers
        self.timesteps = 0

    def request(self, actor: BasePolicy, arena: Arena, run_seed: int, generation: int, *, moments: bool) -> EvaluationRequest:
        """
        Say what they play: an episode each.

        :param actor: The agent's actor.
        :param arena: Where they play.
        :param run_seed: Seed of the run.
        :param generation: Number of the generation.
        :param moments: Whether moments of their observations are asked for.
        """
        vector, n = to_vector(actor), self.n_explorers
        noise = perturbations(run_seed, generation, n, vector.size, mirrored=True, stream=Stream.EXPLORATION)
        seeds = [[episode_seed(run_seed, generation, Stream.EXPLORER_EPISODE, number)] for number in range(n)]
        player = make_player(actor)
        return arena.request(vector + SIGMA * noise, np.array(seeds), player, transitions=True, moments=moments)

    def note(self, result: EvaluationResult) -> None:
        """
        Count what they have played.

        :param result: Their episodes.
        """
        self.timesteps += int(result.lengths.sum())

    def state_dict(self) -> dict[str, Any]:
        """What has been counted."""
        return {"timesteps": self.timesteps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        self.timesteps = state["timesteps"]
