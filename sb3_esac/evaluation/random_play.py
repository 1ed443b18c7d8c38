"""Random play, and the time limit of an environment: what progressive episode lengths have to know before they begin."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.vec_envs import base_vec_env
from sb3_esac.evolution.noise import Stream, episode_seed

TIME_LIMIT_ATTRIBUTE = "_max_episode_steps"
"""Where ``gymnasium.wrappers.TimeLimit`` keeps its limit."""


def time_limit(env: VecEnv) -> int | None:
    """
    Find out after how many steps an environment cuts its episodes.

    :param env: Any ``VecEnv``.
    :return: The limit of the outermost ``TimeLimit``; None if none is seen.
    """
    base = base_vec_env(env)
    # A worker that is asked for what it does not have ends, and so does one whose `spec` cannot be pickled (dm_control). These
    # two answer safely whether an attribute is there, and a number can always be sent.
    if not isinstance(base, DummyVecEnv | SubprocVecEnv) or not base.has_attr(TIME_LIMIT_ATTRIBUTE):
        return None
    limit = base.get_attr(TIME_LIMIT_ATTRIBUTE, indices=[0])[0]
    return int(limit) if isinstance(limit, int | np.integer) and limit >= 1 else None


PICTURE_EPISODES, PICTURE_STEPS = 2, 500
"""Episodes of random play from which a batch of pictures is taken, and the steps after which they are cut."""


class RandomPlayer:
    """
    Plays actions drawn from the action space. A "parameter vector" is the seed of the draws.

    :param space: Action space of the environment.
    """

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.space = space

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one episode.

        :param vector: (1,) the seed.
        :return: Function from an observation, which it does not look at, to an action.
        """
        space = copy.deepcopy(self.space)
        space.seed(int(vector[0]))

        def act(observation: Any) -> np.ndarray:
            # A scalar where an action has no dimension, as an environment of a `VecEnv` gets it.
            return np.asarray(space.sample())[()]

        return act

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes, each with draws of its own.

        :param env: The lanes.
        :param together: Not used.
        """
        return SinglePolicies(self.bind, env)


def random_pictures(space: spaces.Space[Any], run_seed: int, generation: int) -> EvaluationRequest:
    """
    Ask for the pictures that virtual batch normalisation needs.

    :param space: Action space of the environment.
    :param run_seed: Seed of the run.
    :param generation: Number of the generation that they come before.
    """
    request = random_play(space, PICTURE_EPISODES, run_seed, generation, PICTURE_STEPS)
    return replace(request, recording=Recording(transitions=True))


def random_play(
    space: spaces.Space[Any], n_episodes: int, run_seed: int, generation: int, max_episode_steps: int | None = None
) -> EvaluationRequest:
    """
    Ask for episodes of random play.

    :param space: Action space of the environment.
    :param n_episodes: How many.
    :param run_seed: Seed of the run.
    :param generation: Number of the generation that they come before.
    :param max_episode_steps: Longer episodes are cut.
    :return: The request; its result depends on the arguments alone.
    """
    starts, draws = (
        [episode_seed(run_seed, generation, stream, index) for index in range(n_episodes)]
        for stream in (Stream.RANDOM_EPISODE, Stream.RANDOM_ACTIONS)
    )
    # Double precision holds every seed exactly.
    parameters, seeds = np.array(draws, dtype=np.float64)[:, None], np.array(starts)[:, None]
    return EvaluationRequest(parameters, seeds, RandomPlayer(space), max_episode_steps=max_episode_steps)
