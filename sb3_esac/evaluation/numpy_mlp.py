"""Forward of a multi-layer perceptron in numpy: for one observation at a time, or for one of each of many members."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies


class NumpyMlp:
    """
    Deterministic forward of a multi-layer perceptron in numpy, four times as fast as torch on single observations.

    :param layers: For each layer, its shape (out, in) and the positions of weight and bias (None without) in the vector.
    :param activations: For each layer, the name of what follows it.
    :param low: Lower bounds of the actions; of discrete ones the first.
    :param high: Upper bounds of the actions, in the same form.
    :param shift: (in,) subtracted from observations, None for none.
    :param scale: (in,) what they are divided by then.
    :param output: How the last layer's values become an action, see ``_finish``.
    """

    def __init__(
        self,
        layers: list[tuple[tuple[int, int], int, int | None]],
        activations: list[str],
        low: np.ndarray,
        high: np.ndarray,
        shift: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        output: str = "scale",
    ) -> None:
        self.layers, self.activations = layers, activations
        self.low, self.high, self.output = low, high, output
        self.shift, self.scale = shift, scale

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one observation to one action; its buffers are its own, so one thread at a time.
        """
        steps: list[tuple[Callable[..., Any], np.ndarray, np.ndarray, Callable[[np.ndarray], None]]] = []
        width = self.layers[0][0][1]
        source, doubled = _buffer(width), False
        inputs = source[:width]
        for (weight, bias), name in zip(self.weights(vector), self.activations, strict=True):
            rows, columns = weight.shape
            # The bias is one more column, for an input that is always 1: one pass instead of two.
            matrix = np.zeros((rows, len(source)), dtype=np.float32)
            matrix[:, :columns] = weight * np.float32(0.5) if doubled else weight
            matrix[:, columns] = bias
            following, last = _buffer(rows), len(steps) == len(self.layers) - 1
            steps.append((matrix.dot, source, following[:rows], _activation(name, rows, last=last)))
            source, doubled = following, name == "relu"
        finish = _finish(self.output, self.low, self.high)

        def act(observation: np.ndarray) -> np.ndarray:
            inputs[...] = observation if observation.ndim == 1 else observation.reshape(-1)
            for dot, source, target, activate in steps:
                dot(source, target)
                activate(target)
            return finish(target)

        return act

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes.

        :param env: The lanes.
        :param together: Whether one forward for all lanes is worth its last digits, which are not those of a single one.
        """
        return StackedPolicies(self, env.num_envs) if together else SinglePolicies(self.bind, env)

    def weights(self, vector: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """
        Weight and bias of each layer, what is done to observations taken into the first.

        :param vector: (d,) parameters.
        """
        for number, ((rows, columns), weight_at, bias_at) in enumerate(self.layers):
            weight = vector[weight_at : weight_at + rows * columns].reshape(rows, columns)
            bias = np.zeros(rows, dtype=np.float32) if bias_at is None else vector[bias_at : bias_at + rows]
            if number == 0 and self.shift is not None and self.scale is not None:
                weight = weight / self.scale
                bias = bias - weight @ self.shift
            yield weight, bias

    def finish_batch(self, values: np.ndarray) -> np.ndarray:
        """
        Make actions of the last layer's values.

        :param values: (n, a) one row per observation.
        :return: (n, ...) actions.
        """
        if self.output == "argmax":
            chosen: np.ndarray = self.low.reshape(-1)[0] + values.argmax(axis=1)
            return chosen
        low, high = self.low.reshape(-1), self.high.reshape(-1)
        half = 0.5 * (high - low)
        actions: np.ndarray = values * half + (low + half) if self.output == "scale" else np.clip(values, low, high)
        return actions.reshape(len(values), *self.low.shape)


def _finish(output: str, low: np.ndarray, high: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """
    Make the function from the last layer's values to an action, which shares no memory with them.

    :param output: "scale" from [-1, 1] to the bounds, "clip" at the bounds, or "argmax" for discrete actions.
    :param low: Lower bounds, or the first action.
    :param high: Upper bounds.
    :return: The function. What it gives has shape and dtype of one of the actions that ``predict`` gives for a batch: a scalar
        of numpy where an action has no dimension.
    """
    if output == "argmax":
        first: Any = np.int64(low)
        return lambda values: first + values.argmax()
    multiply, add, clip = np.multiply, np.add, np.clip
    # As in `predict`: what comes out of the network is in single precision, and bounds may ask for more.
    dtype = np.result_type(np.float32, low.dtype)
    flat_low, flat_high = low.reshape(-1).astype(dtype), high.reshape(-1).astype(dtype)
    half = np.asarray(high - low).reshape(-1).astype(dtype) * dtype.type(0.5)
    middle = flat_low + half

    def scaled(values: np.ndarray) -> Any:
        return add(multiply(values, half), middle)

    def clipped(values: np.ndarray) -> Any:
        return clip(values, flat_low, flat_high)

    finish = scaled if output == "scale" else clipped
    if low.ndim == 1:
        return finish
    if low.ndim == 0:
        return lambda values: finish(values)[0]
    return lambda values: finish(values).reshape(low.shape)


def _buffer(size: int) -> np.ndarray:
    """A layer's input: its values, a 1 for the bias, zeros up to a whole number of cache lines."""
    buffer = np.zeros(16 * (size // 16 + 1), dtype=np.float32)
    buffer[size] = 1.0
    return buffer


def _activation(name: str, size: int, *, last: bool) -> Callable[[np.ndarray], None]:
    """
    Make the function that is applied in place to a layer's output.

    ``relu`` gives twice the value: ``x + |x|`` takes a sixth of the time of ``np.maximum``, whose caches are cold after a step
    of a simulator, and the weights of the next layer take the factor back without rounding. For the same reason a handful of
    actions goes through ``math.tanh``.

    :param name: What to apply.
    :param size: Number of units.
    :param last: Whether no layer follows.
    """
    scratch = np.empty(size, dtype=np.float32)

    def double_relu(x: np.ndarray) -> None:
        np.absolute(x, scratch)
        np.add(x, scratch, x)

    def relu(x: np.ndarray) -> None:
        np.maximum(x, 0.0, out=x)

    def tanh(x: np.ndarray) -> None:
        np.tanh(x, x)

    def tanh_few(x: np.ndarray) -> None:
        x[:] = list(map(math.tanh, x.tolist()))

    squash = tanh_few if last and size <= FEW_ACTIONS else tanh

    def clip_tanh(x: np.ndarray) -> None:
        np.clip(x, -2.0, 2.0, out=x)
        squash(x)

    def identity(x: np.ndarray) -> None:
        pass

    table = {"relu": relu if last else double_relu, "tanh": squash, "clip_tanh": clip_tanh, "identity": identity}
    return table[name]


FEW_ACTIONS = 16
"""Up to so many values ``math.tanh`` one by one is faster than ``np.tanh``."""


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
