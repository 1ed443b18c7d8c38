"""The policies of all lanes of a ``VecEnv``, each lane's its own: one after the other, or in one batched forward."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.numpy_mlp import Act, NumpyMlp
from sb3_esac.evaluation.players import Player
from sb3_esac.evaluation.vec_envs import take


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


def make_policies(player: Player, env: VecEnv, *, together: bool) -> LanePolicies:
    """
    Choose how the lanes act.

    :param player: How a vector plays.
    :param env: The lanes.
    :param together: Whether one forward for all lanes is worth its last digits, which are not those of a single one.
    """
    if together and isinstance(player, NumpyMlp):
        return StackedPolicies(player, env.num_envs)
    return SinglePolicies(player, env)


class SinglePolicies:
    """
    Lanes that act one by one, exactly as they would in a worker process.

    :param player: How a vector plays.
    :param env: The lanes.
    """

    def __init__(self, player: Player, env: VecEnv) -> None:
        self.player, self.idle = player, idle_action(env.action_space)
        self.acts: list[Act | None] = [None] * env.num_envs

    def set(self, lane: int, vector: np.ndarray | None) -> None:
        self.acts[lane] = None if vector is None else self.player.bind(vector)

    def act(self, observations: Any) -> np.ndarray:
        chosen = [None if act is None else act(take(observations, lane)) for lane, act in enumerate(self.acts)]
        known = [action for action in chosen if action is not None]
        # In the precision that the policy has, whatever the space says.
        dtype = np.asarray(known[0]).dtype if known else self.idle.dtype
        actions = np.empty((len(chosen), *self.idle.shape), dtype=dtype)
        for lane, action in enumerate(chosen):
            actions[lane] = self.idle if action is None else action
        return actions


class StackedPolicies:
    """
    Lanes that act together: the weights of all stand in one array for each layer.

    :param player: A multi-layer perceptron.
    :param n_lanes: Number of lanes.
    """

    def __init__(self, player: NumpyMlp, n_lanes: int) -> None:
        self.player = player
        shapes = [shape for shape, _, _ in player.layers]
        self.weights = [np.zeros((n_lanes, *shape), dtype=np.float32) for shape in shapes]
        self.biases = [np.zeros((n_lanes, rows), dtype=np.float32) for rows, _ in shapes]

    def set(self, lane: int, vector: np.ndarray | None) -> None:
        if vector is None:
            return
        for number, (weight, bias) in enumerate(self.player.weights(vector)):
            self.weights[number][lane], self.biases[number][lane] = weight, bias

    def act(self, observations: Any) -> np.ndarray:
        values = np.asarray(observations, dtype=np.float32).reshape(len(observations), -1)
        for weight, bias, name in zip(self.weights, self.biases, self.player.activations, strict=True):
            values = np.matmul(weight, values[:, :, None])[:, :, 0]
            values += bias
            ACTIVATIONS[name](values)
        return self.player.finish_batch(values)


def _clip_tanh(values: np.ndarray) -> None:
    np.clip(values, -2.0, 2.0, out=values)
    np.tanh(values, out=values)


ACTIVATIONS: dict[str, Callable[[np.ndarray], Any]] = {
    "relu": lambda values: np.maximum(values, 0.0, out=values),
    "tanh": lambda values: np.tanh(values, out=values),
    "clip_tanh": _clip_tanh,
    "identity": lambda values: None,
}
"""What follows a layer, by the names that ``NumpyMlp`` has for it; applied in place."""


def idle_action(space: spaces.Space[Any]) -> np.ndarray:
    """
    What a lane plays that has nothing to play.

    :param space: Action space.
    """
    if isinstance(space, spaces.Discrete):
        return np.array(space.start, dtype=space.dtype)
    assert isinstance(space, spaces.Box)
    return np.asarray((space.low + space.high) / 2.0)
