"""
Virtual batch normalisation (Salimans et al. 2016, 2017): a network for images that evolution can search.

With plain layers, most perturbed networks play one action whatever they see. Here the outputs of each layer, before the ReLU,
are normalised by their mean and standard deviation on a fixed batch of pictures from random play. Both depend on the
parameters, so they are computed anew for each member; then they become part of weights and biases, and playing costs nothing
more.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from sb3_esac.evaluation.convolutions import Convolution, Layer, bound_product
from sb3_esac.evaluation.vectors import load_vector, to_vector

N_PICTURES = 128
"""In the batch."""

WEIGHT_STD = 0.05
"""
Of the first weights, as in canonical ES on Atari games. Normalisation makes the scale of a layer's weights irrelevant, so it
says how large sigma is beside them: the same for all layers, where PyTorch's depends on a layer's width.
"""

EPSILON = 1e-5
"""Added to variances."""


@dataclass(frozen=True)
class Normalization:
    """
    What is normalised, and on which pictures.

    :param pictures: (N, channels, height, width) the batch.
    :param divisor: What pixels are divided by.
    :param convolutions: First to last.
    :param dense: The linear layer behind them, followed by a ReLU; its shape is (out, in).
    """

    pictures: np.ndarray
    divisor: float
    convolutions: Sequence[Convolution]
    dense: Layer

    def folded(self, vector: np.ndarray) -> np.ndarray:
        """
        Make parameters of a plain network that computes what one with normalised layers does.

        A layer gives ``relu((W x - mean) / std + b)``, so that the bias is the shift behind the normalisation.

        :param vector: (d,) parameters.
        :return: (d,) others.
        """
        vector = vector.copy()
        values = np.ascontiguousarray(self.pictures.transpose(0, 2, 3, 1), dtype=np.float32) / np.float32(self.divisor)
        for convolution in self.convolutions:
            values = _fold(convolution, vector, _products(convolution, vector, values))
        # Torch flattens channel by channel.
        features = values.transpose(0, 3, 1, 2).reshape(len(values), -1)
        _fold(self.dense, vector, features @ self.dense.weight(vector).T)
        return vector


def _products(convolution: Convolution, vector: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(N, height, width, out) of a batch, picture by picture: the products are those of a network that plays."""
    picture = np.zeros(values.shape[1:], dtype=np.float32)
    multiply, output = bound_product(convolution, vector, picture)
    outputs = np.empty((len(values), *output.shape), dtype=np.float32)
    for each, target in zip(values, outputs, strict=True):
        np.copyto(picture, each)
        multiply()
        np.copyto(target, output)
    return outputs


def _fold(layer: Layer, vector: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Normalise a layer in place by its outputs on the batch, and say what follows it there."""
    weight, bias = layer.weight(vector), layer.bias(vector)
    flat = outputs.reshape(-1, outputs.shape[-1])
    mean = flat.mean(axis=0)
    inverse = 1 / np.sqrt(flat.var(axis=0) + np.float32(EPSILON))
    weight *= inverse.reshape(-1, *[1] * (weight.ndim - 1))
    bias -= mean * inverse
    outputs *= inverse
    outputs += bias
    result: np.ndarray = np.maximum(outputs, 0, out=outputs)
    return result


class VirtualBatchNormCNN(NatureCNN):
    """
    The CNN of the DQN paper with virtual batch normalisation after each layer: the features extractor of ES's ``CnnPolicy``.

    It has the parameters of ``NatureCNN``; the batch is a buffer, saved with the policy. ``ES`` fills it by random play before
    its first generation. Until then the network is plain.

    :param observation_space: Pictures, channels first.
    :param features_dim: Width of the layer behind the convolutions.
    :param normalized_image: As in ``NatureCNN``.
    :param n_pictures: Size of the batch.
    """

    pictures: th.Tensor
    is_filled: th.Tensor
    divisor = 1.0
    """What pixels have been divided by when they come here. The policy knows."""

    _plain: "tuple[np.ndarray, nn.Module, nn.Module] | None" = None
    """The parameters that were folded last, and the plain layers that came of it."""

    def __init__(
        self,
        observation_space: spaces.Box,
        features_dim: int = 512,
        normalized_image: bool = False,
        n_pictures: int = N_PICTURES,
    ) -> None:
        super().__init__(observation_space, features_dim, normalized_image)
        dtype = th.as_tensor(np.empty(0, observation_space.dtype)).dtype
        self.register_buffer("pictures", th.zeros((n_pictures, *observation_space.shape), dtype=dtype))
        self.register_buffer("is_filled", th.tensor(False))
        init_weights(self)

    def fill(self, pictures: np.ndarray) -> None:
        """
        Set the batch.

        :param pictures: (T, channels, height, width) of episodes; as many as are needed are taken, evenly spaced.
        """
        chosen = np.linspace(0, len(pictures) - 1, len(self.pictures)).round().astype(int)
        self.pictures.copy_(th.as_tensor(pictures[chosen]))
        self.is_filled.fill_(True)
        self._plain = None

    def normalization(self, at: dict[int, int]) -> Normalization | None:
        """
        Say what is normalised.

        :param at: Where each parameter begins in the vector, by its id.
        :return: None as long as there is no batch.
        """
        if not self.is_filled:
            return None
        dense: Any = self.linear[0]
        return Normalization(
            self.pictures.cpu().numpy(),
            self.divisor,
            [convolution_at(layer, at) for layer in self.cnn if isinstance(layer, nn.Conv2d)],
            Layer(tuple(dense.weight.shape), at[id(dense.weight)], at[id(dense.bias)]),
        )

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """
        Compute features.

        :param observations: (N, channels, height, width) pictures.
        :return: (N, features_dim).
        """
        cnn, linear = self._plain_layers() if self.is_filled else (self.cnn, self.linear)
        features: th.Tensor = linear(cnn(observations))
        return features

    def _plain_layers(self) -> tuple[nn.Module, nn.Module]:
        vector = to_vector(self)
        if self._plain is None or not np.array_equal(self._plain[0], vector):
            at, position = {}, 0
            for parameter in self.parameters():
                at[id(parameter)] = position
                position += parameter.numel()
            normalization = self.normalization(at)
            assert normalization is not None
            plain = nn.ModuleList([copy.deepcopy(self.cnn), copy.deepcopy(self.linear)])
            load_vector(plain, normalization.folded(vector))
            self._plain = vector, plain[0], plain[1]
        return self._plain[1:]

    def _apply(self, fn: Any, recurse: bool = True) -> "VirtualBatchNormCNN":
        # Another device or precision.
        self._plain = None
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        # Another batch, maybe, for the same parameters.
        self._plain = None
        super()._load_from_state_dict(*args, **kwargs)

    def __setattr__(self, name: str, value: Any) -> None:
        # What is kept in `_plain` is no part of the network.
        if name == "_plain":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_plain": None}


def init_weights(module: nn.Module) -> None:
    """
    Draw weights whose scale is the same in all layers; biases are zero.

    :param module: Any layers.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=WEIGHT_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def convolution_at(layer: nn.Conv2d, at: dict[int, int]) -> Convolution:
    """
    Describe a convolution.

    :param layer: The layer, which has a bias.
    :param at: Where each parameter begins in the vector, by its id.
    """
    module: Any = layer
    return Convolution(tuple(module.weight.shape), at[id(module.weight)], at[id(module.bias)], module.stride)
