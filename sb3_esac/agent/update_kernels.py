"""Arithmetic of SAC's update in numpy, over arrays that are made once: layers, the squashed Gaussian, and its gradients."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch as th

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0
"""Between which SB3's actor clamps the logarithm of the standard deviation."""

SQUASH_EPSILON = 1e-6
"""What SB3 adds in the logarithm of the squashing's derivative."""

LOG_SQRT_2_PI = 0.5 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Tape:
    """
    What layers compute for a batch, kept for the way back.

    :param outputs: For each layer (n, B, width), after its activation.
    :param gradients: For each layer (n, B, width), of the loss by what the layer gives before its activation.
    :param positive: For each layer but the last (n, B, width), where a ReLU is on; scratch.
    :param zeros: For each layer but the last (n, B, width): the maximum with an array takes a third of that with a number.
    :param ones: (1, B), which sums over a batch.
    """

    outputs: list[np.ndarray]
    gradients: list[np.ndarray]
    positive: list[np.ndarray]
    zeros: list[np.ndarray]
    ones: np.ndarray

    def first(self, n_rows: int) -> "Tape":
        """
        Take the first rows alone, without a copy.

        :param n_rows: How many.
        """
        outputs, gradients, positive, zeros = (
            [each[:, :n_rows] for each in kind] for kind in (self.outputs, self.gradients, self.positive, self.zeros)
        )
        return Tape(outputs, gradients, positive, zeros, self.ones[:, :n_rows])


class Layers:
    """
    Perceptrons of one shape beside each other; their last layer is linear.

    :param weights: For each layer (n, out, in), of the n perceptrons.
    :param biases: For each layer (n, 1, out).
    :param tanh: Whether hidden units are tanh, not ReLU.
    """

    def __init__(self, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray], *, tanh: bool) -> None:
        self.weights, self.biases, self.tanh = list(weights), list(biases), tanh
        self._transposed = [weight.transpose(0, 2, 1) for weight in self.weights]

    def new_tape(self, n_rows: int) -> Tape:
        """
        Make room for a batch.

        :param n_rows: Its size B.
        """
        shapes = [(len(weight), n_rows, weight.shape[1]) for weight in self.weights]
        dtype = self.weights[0].dtype
        outputs, gradients = ([np.zeros(shape, dtype) for shape in shapes] for _ in range(2))
        positive, zeros = ([np.zeros(shape, kind) for shape in shapes[:-1]] for kind in (bool, dtype))
        return Tape(outputs, gradients, positive, zeros, np.ones((1, n_rows), dtype))

    def forward(self, inputs: np.ndarray, tape: Tape) -> np.ndarray:
        """
        Compute what the perceptrons give.

        :param inputs: (B, in), the same for all.
        :param tape: Where everything is kept.
        :return: (n, B, out), which is in the tape.
        """
        values, last = inputs, len(self.weights) - 1
        for index, (weight, bias, output) in enumerate(zip(self._transposed, self.biases, tape.outputs, strict=True)):
            np.matmul(values, weight, out=output)
            np.add(output, bias, out=output)
            if index < last:
                _tanh(output) if self.tanh else np.maximum(output, tape.zeros[index], out=output)
            values = output
        return values

    def backward(self, tape: Tape) -> None:
        """
        Compute gradients by what each layer gives from those of the last one.

        :param tape: Of the forward pass; its last ``gradients`` are given.
        """
        for index in range(len(self.weights) - 1, 0, -1):
            above, below, weight = tape.gradients[index], tape.gradients[index - 1], self.weights[index]
            if weight.shape[1] == 1:
                np.multiply(above, weight, out=below)
            else:
                np.matmul(above, weight, out=below)
            self._through_activation(below, tape.outputs[index - 1], tape.positive[index - 1])

    def _through_activation(self, gradient: np.ndarray, output: np.ndarray, positive: np.ndarray) -> None:
        if self.tanh:
            # d tanh(x) / dx = 1 - tanh(x)^2
            gradient *= 1 - output * output
        else:
            np.greater(output, 0, out=positive)
            np.multiply(gradient, positive, out=gradient)

    def parameter_gradients(
        self, inputs: np.ndarray, tape: Tape, weights: Sequence[np.ndarray], biases: Sequence[np.ndarray]
    ) -> None:
        """
        Compute gradients by the parameters, after :meth:`backward`.

        :param inputs: (B, in), as they were.
        :param tape: The tape.
        :param weights: Where those of the weights go, shaped as these.
        :param biases: Where those of the biases go.
        """
        values = inputs
        for gradient, output, of_weight, of_bias in zip(tape.gradients, tape.outputs, weights, biases, strict=True):
            np.matmul(gradient.transpose(0, 2, 1), values, out=of_weight)
            np.matmul(tape.ones, gradient, out=of_bias)
            values = output

    def input_gradients(self, tape: Tape, columns: slice) -> np.ndarray:
        """
        Compute gradients by inputs, after :meth:`backward`.

        :param tape: The tape.
        :param columns: Which inputs, k of them.
        :return: (B, k), summed over the perceptrons.
        """
        summed: np.ndarray = np.matmul(tape.gradients[0], self.weights[0][:, :, columns]).sum(axis=0)
        return summed


class SquashedGaussian:
    """
    Actions tanh(u), u = mean + std * noise, and their log-probabilities, as SB3 computes them.

    :param n_rows: Batch size B.
    :param n_actions: Dimensions a of an action.
    :param dtype: Type of the numbers.
    """

    def __init__(self, n_rows: int, n_actions: int, dtype: np.dtype) -> None:
        self.log_std, self.std, self.actions, self.slope, self._u, self._scratch = (
            np.zeros((n_rows, n_actions), dtype) for _ in range(6)
        )
        self.log_prob = np.zeros(n_rows, dtype)

    def forward(self, head: np.ndarray, noise: np.ndarray) -> None:
        """
        Compute ``actions`` (B, a) and ``log_prob`` (B,).

        :param head: (B, 2a) means, and logarithms of standard deviations before they are clamped.
        :param noise: (B, a) standard normal.
        """
        mean, u, scratch = head[:, : noise.shape[1]], self._u, self._scratch
        np.clip(head[:, noise.shape[1] :], LOG_STD_MIN, LOG_STD_MAX, out=self.log_std)
        np.exp(self.log_std, out=self.std)
        np.multiply(self.std, noise, out=u)
        np.add(u, mean, out=u)
        np.copyto(self.actions, u)
        _tanh(self.actions)
        # log N(u) = -(u - mean)^2 / (2 std^2) - log std - log sqrt(2 pi)
        np.subtract(u, mean, out=u)
        np.divide(u, self.std, out=u)
        np.multiply(u, u, out=u)
        np.multiply(u, 0.5, out=u)
        np.add(u, self.log_std, out=u)
        # log pi(a) = log N(u) - sum log(1 - a^2 + epsilon)
        np.multiply(self.actions, self.actions, out=scratch)
        np.subtract(1, scratch, out=self.slope)
        np.add(self.slope, SQUASH_EPSILON, out=scratch)
        np.log(scratch, out=scratch)
        np.add(u, scratch, out=u)
        np.sum(u, axis=1, out=self.log_prob)
        np.add(self.log_prob, noise.shape[1] * LOG_SQRT_2_PI, out=self.log_prob)
        np.negative(self.log_prob, out=self.log_prob)

    def backward(
        self, head: np.ndarray, noise: np.ndarray, by_actions: np.ndarray, by_log_prob: float, by_head: np.ndarray
    ) -> None:
        """
        Compute gradients by means and standard deviations, for the first n rows.

        :param head: (n, 2a), as it was.
        :param noise: (n, a), as it was.
        :param by_actions: (n, a) gradient of the loss by the actions, without log-probabilities; is overwritten.
        :param by_log_prob: Gradient by each log-probability.
        :param by_head: (n, 2a), where the result goes.
        """
        n_rows, n_actions = noise.shape
        slope, raw = self.slope[:n_rows], head[:, n_actions:]
        # d log pi / da = 2a / (1 - a^2 + epsilon); the Gaussian itself does not change with u, which moves along with its mean
        tilt = self.actions[:n_rows] * (2 * by_log_prob)
        tilt /= slope + SQUASH_EPSILON
        tilt += by_actions
        by_mean, by_log_std = by_head[:, :n_actions], by_head[:, n_actions:]
        np.multiply(tilt, slope, out=by_mean)
        # du / d log std = std * noise, d log N / d log std = -1
        np.multiply(self.std[:n_rows], noise, out=by_log_std)
        by_log_std *= by_mean
        by_log_std -= by_log_prob
        by_log_std *= (raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX)


def _tanh(values: np.ndarray) -> None:
    # Torch's, because 1 - tanh(u)^2 makes much of its last digit. It is the faster one, too.
    th.from_numpy(values).tanh_()


def critic_loss(q_values: np.ndarray, targets: np.ndarray, by_q: np.ndarray) -> float:
    """
    Compute half the sum of the critics' mean squared errors, and its gradient.

    :param q_values: (n, B, 1) of the critics.
    :param targets: (B, 1) of all.
    :param by_q: (n, B, 1), where the gradient goes.
    :return: The loss.
    """
    np.subtract(q_values, targets, out=by_q)
    errors = by_q.reshape(-1)
    loss = 0.5 * float(np.dot(errors, errors)) / len(targets)
    by_q /= len(targets)
    return loss


def actor_loss(q_values: np.ndarray, log_prob: np.ndarray, ent_coef: float, by_q: np.ndarray) -> float:
    """
    Compute the mean of ``ent_coef * log_prob - min(q_values)``, and its gradient by the critics.

    :param q_values: (n, B, 1) of the critics for the actor's actions.
    :param log_prob: (B,) of these actions.
    :param ent_coef: Entropy coefficient.
    :param by_q: (n, B, 1), where the gradient goes.
    :return: The loss.
    """
    share = -1 / len(log_prob)
    if len(q_values) == 2:
        np.multiply(q_values[1] < q_values[0], share, out=by_q[1])
        np.subtract(share, by_q[1], out=by_q[0])
    else:
        by_q.fill(0)
        np.put_along_axis(by_q, q_values.argmin(axis=0)[None], share, axis=0)
    return ent_coef * float(log_prob.mean()) - float(q_values.min(axis=0).mean())


def td_targets(
    next_q: np.ndarray,
    next_log_prob: np.ndarray,
    ent_coef: float,
    rewards: np.ndarray,
    dones: np.ndarray,
    discounts: np.ndarray | float,
) -> np.ndarray:
    """
    Compute ``rewards + (1 - dones) * discounts * (min(next_q) - ent_coef * next_log_prob)``.

    :param next_q: (n, B, 1) of the target critics.
    :param next_log_prob: (B,).
    :param ent_coef: Entropy coefficient.
    :param rewards: (B, 1).
    :param dones: (B, 1).
    :param discounts: (B, 1), or one for all.
    :return: (B, 1).
    """
    values = next_q.min(axis=0)
    values -= ent_coef * next_log_prob[:, None]
    targets: np.ndarray = rewards + (1 - dones) * discounts * values
    return targets


def entropy_loss(log_ent_coef: float, log_prob: np.ndarray, target_entropy: float) -> tuple[float, float]:
    """
    Compute the loss of the entropy coefficient, and its gradient by ``log_ent_coef``.

    :param log_ent_coef: Logarithm of the coefficient.
    :param log_prob: (B,) of the actor's actions.
    :param target_entropy: Where the entropy should be.
    :return: The loss, and its derivative.
    """
    slope = -(float(log_prob.mean()) + target_entropy)
    return log_ent_coef * slope, slope
