"""The policies of all lanes of a ``VecEnv``, each lane's its own."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.vec_envs import take

Act = Callable[[Any], np.ndarray]
"""Maps one observation to one action of the environment, just as it is to be given to ``step``."""


class LanePolicies(Protocol):
    """Acts in all lanes."""

    def set(self, lane: int, vector: np.ndarray | None) -> None:
        """
        Put a member's policy in a lane.

        :param lane: Which one.
        :param vector: (d,) parameters, copied; None for a lane that has nothing to play.
        """

    def act(self, observations: Any) -> np.ndarray:
        """
        Choose an action in every lane.

        :param observations: Batch, one row per lane.
        :return: (n_lanes, ...) actions.
        """


class SinglePolicies:
    """
    Lanes that act one by one, exactly as they would in a worker process.

    :param bind: Makes the policy of one member of a vector.
    :param env: The lanes.
    """

    def __init__(self, bind: Callable[[np.ndarray], Act], env: VecEnv) -> None:
        self.bind, self.idle = bind, idle_action(env.action_space)
        self.acts: list[Act | None] = [None] * env.num_envs

    def set(self, lane: int, vector: np.ndarray | None) -> None:
        self.acts[lane] = None if vector is None else self.bind(vector)

    def act(self, observations: Any) -> np.ndarray:
        chosen = [None if act is None else act(take(observations, lane)) for lane, act in enumerate(self.acts)]
        known = [action for action in chosen if action is not None]
        # In the precision that the policy has, whatever the space says.
        dtype = np.asarray(known[0]).dtype if known else self.idle.dtype
        actions = np.empty((len(chosen), *self.idle.shape), dtype=dtype)
        for lane, action in enumerate(chosen):
            actions[lane] = self.idle if action is None else action
        return actions


def idle_action(space: spaces.Space[Any]) -> np.ndarray:
    """
    What a lane plays that has nothing to play.

    :param space: Action space.
    """
    if isinstance(space, spaces.Discrete):
        return np.array(space.start, dtype=space.dtype)
    assert isinstance(space, spaces.Box)
    return np.asarray((space.low + space.high) / 2.0)
