"""Forward of SB3's convolutional network for images in numpy, for one picture at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies


@dataclass(frozen=True)
class Convolution:
    """
    A convolution without padding, followed by a ReLU.

    :param shape: (out, in, height, width) of its weight.
    :param stride: Vertical and horizontal.
    :param weight_at: Position of the weight in the vector.
    :param bias_at: Position of the bias.
    """

    shape: tuple[int, int, int, int]
    stride: tuple[int, int]
    weight_at: int
    bias_at: int


class NumpyCnn:
    """
    Deterministic forward of convolutions and a perceptron, twice as fast as torch on single pictures: each convolution is one
    product of a matrix, whose rows are the patches that its kernels see.

    :param image: (channels, height, width) of the pictures.
    :param scale: What pixels are divided by.
    :param convolutions: First to last.
    :param head: The perceptron, from what the last one gives, channel by channel, to the action.
    """

    def __init__(self, image: tuple[int, int, int], scale: float, convolutions: list[Convolution], head: NumpyMlp) -> None:
        self.image, self.scale, self.convolutions, self.head = image, scale, convolutions, head
        self.low, self.high, self.output = head.low, head.high, head.output

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one picture to one action; its buffers are its own, so one thread at a time.
        """
        channels, height, width = self.image
        pixels = np.zeros((height, width, channels), dtype=np.float32)
        steps: list[Callable[[], None]] = []
        values, scale = pixels, self.scale
        for convolution in self.convolutions:
            step, values = _bound(convolution, vector, values, scale)
            steps.append(step)
            scale = 1.0
        # Torch flattens channel by channel.
        features = np.zeros(values.shape[::-1][:1] + values.shape[:2], dtype=np.float32)
        last, flat = values.transpose(2, 0, 1), features.reshape(-1)
        play = self.head.bind(vector)

        def act(picture: np.ndarray) -> Any:
            np.copyto(pixels, picture.transpose(1, 2, 0))
            for step in steps:
                step()
            np.copyto(features, last)
            return play(flat)

        return act

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes, which act one by one.

        :param env: The lanes.
        :param together: Not used.
        """
        return SinglePolicies(self.bind, env)


def _bound(
    convolution: Convolution, vector: np.ndarray, values: np.ndarray, scale: float
) -> tuple[Callable[[], None], np.ndarray]:
    """
    Make the function that computes a convolution from one array into another.

    :param convolution: The convolution.
    :param vector: (d,) parameters; copied.
    :param values: (height, width, in) where its inputs will be.
    :param scale: What they are to be divided by.
    :return: The function, and (height, width, out) where it puts its outputs.
    """
    n_out, n_in, kernel_height, kernel_width = convolution.shape
    down, right = convolution.stride
    height = (values.shape[0] - kernel_height) // down + 1
    width = (values.shape[1] - kernel_width) // right + 1
    size = n_out * n_in * kernel_height * kernel_width
    weight = vector[convolution.weight_at : convolution.weight_at + size].reshape(convolution.shape) / np.float32(scale)
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, n_out))
    bias = vector[convolution.bias_at : convolution.bias_at + n_out].copy()
    by_row, by_column, by_channel = values.strides
    seen = as_strided(
        values,
        (height, width, kernel_height, kernel_width, n_in),
        (down * by_row, right * by_column, by_row, by_column, by_channel),
    )
    patches = np.zeros(seen.shape, dtype=np.float32)
    rows = patches.reshape(height * width, -1)
    output = np.zeros((height * width, n_out), dtype=np.float32)
    zeros = np.zeros_like(output)

    def step() -> None:
        np.copyto(patches, seen)
        np.matmul(rows, matrix, out=output)
        np.add(output, bias, out=output)
        np.maximum(output, zeros, out=output)

    return step, output.reshape(height, width, n_out)
