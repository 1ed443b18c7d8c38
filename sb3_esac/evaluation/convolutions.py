"""Convolutions in numpy, for one picture at a time: each is one product of a matrix, whose rows are what its kernels see."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided


@dataclass(frozen=True)
class Layer:
    """
    A layer whose parameters are parts of a vector.

    :param shape: (out, ...) of its weight.
    :param weight_at: Position of the weight in the vector.
    :param bias_at: Position of the bias.
    """

    shape: tuple[int, ...]
    weight_at: int
    bias_at: int

    def weight(self, vector: np.ndarray) -> np.ndarray:
        """
        Find its weight.

        :param vector: (d,) parameters.
        :return: (out, ...) view.
        """
        size = int(np.prod(self.shape))
        return vector[self.weight_at : self.weight_at + size].reshape(self.shape)

    def bias(self, vector: np.ndarray) -> np.ndarray:
        """
        Find its bias.

        :param vector: (d,) parameters.
        :return: (out,) view.
        """
        return vector[self.bias_at : self.bias_at + self.shape[0]]


@dataclass(frozen=True)
class Convolution(Layer):
    """
    A convolution without padding, followed by a ReLU; ``shape`` is (out, in, height, width).

    :param stride: Vertical and horizontal.
    """

    stride: tuple[int, int]


def bound_product(
    convolution: Convolution, vector: np.ndarray, values: np.ndarray, scale: float = 1.0
) -> tuple[Callable[[], None], np.ndarray]:
    """
    Make the function that computes a convolution, without bias and ReLU, from one array into another.

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
    weight = convolution.weight(vector) / np.float32(scale)
    matrix = np.ascontiguousarray(weight.transpose(2, 3, 1, 0).reshape(-1, n_out))
    by_row, by_column, by_channel = values.strides
    seen = as_strided(
        values,
        (height, width, kernel_height, kernel_width, n_in),
        (down * by_row, right * by_column, by_row, by_column, by_channel),
    )
    patches = np.zeros(seen.shape, dtype=np.float32)
    rows = patches.reshape(height * width, -1)
    output = np.zeros((height * width, n_out), dtype=np.float32)

    def multiply() -> None:
        np.copyto(patches, seen)
        np.matmul(rows, matrix, out=output)

    return multiply, output.reshape(height, width, n_out)


def bound_convolution(
    convolution: Convolution, vector: np.ndarray, values: np.ndarray, scale: float = 1.0
) -> tuple[Callable[[], None], np.ndarray]:
    """
    Make the function that computes a convolution, its bias and ReLU.

    :param convolution: The convolution.
    :param vector: (d,) parameters; copied.
    :param values: (height, width, in) where its inputs will be.
    :param scale: What they are to be divided by.
    :return: The function, and (height, width, out) where it puts its outputs.
    """
    multiply, output = bound_product(convolution, vector, values, scale)
    bias, zeros = convolution.bias(vector).copy(), np.zeros_like(output)

    def step() -> None:
        multiply()
        np.add(output, bias, out=output)
        np.maximum(output, zeros, out=output)

    return step, output
