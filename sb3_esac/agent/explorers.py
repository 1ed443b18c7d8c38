"""Explorers: the agent's actor with noise on its parameters, which explores in one direction for a whole episode."""

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed, perturbations

SIGMA = 0.05
"""Standard deviation of the noise on each parameter."""


def explorers(actor: BasePolicy, n: int, arena: Arena, run_seed: int, generation: int, *, moments: bool) -> EvaluationRequest:
    """
    Say what explorers play: an episode each, with noise on the parameters (Plappert et al., 2018, "Parameter Space Noise for
    Exploration") in pairs of opposite sign, and no noise on the actions.

    :param actor: The agent's actor.
    :param n: How many, an even number.
    :param arena: Where they play.
    :param run_seed: Seed of the run.
    :param generation: Number of the generation.
    :param moments: Whether moments of their observations are asked for.
    """
    vector = to_vector(actor)
    noise = perturbations(run_seed, generation, n, vector.size, mirrored=True, stream=Stream.EXPLORATION)
    seeds = [[episode_seed(run_seed, generation, Stream.EXPLORER_EPISODE, number)] for number in range(n)]
    return arena.request(vector + SIGMA * noise, np.array(seeds), make_player(actor), transitions=True, moments=moments)
