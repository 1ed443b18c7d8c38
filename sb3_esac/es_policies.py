"""Policies of ES: an actor and nothing else, which plays the same action for the same observation."""

from typing import Any

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, is_image_space
from stable_baselines3.common.torch_layers import (
    BaseFeaturesExtractor,
    CombinedExtractor,
    FlattenExtractor,
    NatureCNN,
    create_mlp,
)
from stable_baselines3.common.type_aliases import PyTorchObs
from torch import nn

from sb3_esac.evaluation.virtual_batch_norm import VirtualBatchNormCNN, init_weights
from sb3_esac.evolution.arguments import is_count, require


class ESPolicy(BasePolicy):
    """
    Deterministic actor: features extractor, then a multi-layer perceptron.

    Its values are continuous actions, or the scores of discrete ones, of which the highest is played.

    :param observation_space: Observation space.
    :param action_space: ``Box`` or ``Discrete`` action space.
    :param net_arch: Sizes of the hidden layers. None means two of 64, and none after ``NatureCNN``.
    :param activation_fn: What follows each hidden layer. Evolution finds its way better through tanh than through ReLU.
    :param with_bias: Whether layers add a bias.
    :param squash_output: Continuous actions only: whether tanh squashes what is then scaled to the bounds, as SAC's mean
        is. Otherwise what the network says is the action, clipped at the bounds.
    :param features_extractor_class: Features extractor.
    :param features_extractor_kwargs: Its arguments.
    :param normalize_images: Whether to divide images by 255.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        with_bias: bool = True,
        squash_output: bool = True,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            # SB3 adds to it.
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=dict(features_extractor_kwargs or {}),
            normalize_images=normalize_images,
            squash_output=isinstance(action_space, spaces.Box) and squash_output,
        )
        if net_arch is None:
            net_arch = [] if issubclass(features_extractor_class, NatureCNN) else [64, 64]
        sizes_are_right = isinstance(net_arch, list | tuple) and all(is_count(size, 1) for size in net_arch)
        require(sizes_are_right, "net_arch", net_arch, "a list of the sizes of the hidden layers")
        self.net_arch, self.activation_fn, self.with_bias = list(net_arch), activation_fn, with_bias
        self.features_extractor = self.make_features_extractor()
        self.features_dim = self.features_extractor.features_dim
        n_outputs = int(action_space.n) if isinstance(action_space, spaces.Discrete) else get_action_dim(action_space)
        layers = create_mlp(
            self.features_dim,
            n_outputs,
            self.net_arch,
            activation_fn,
            squash_output=self.squash_output,
            with_bias=with_bias,
        )
        self.mu = nn.Sequential(*layers)
        if isinstance(self.features_extractor, VirtualBatchNormCNN):
            init_weights(self.mu)
            self.features_extractor.divisor = 255.0 if normalize_images and is_image_space(observation_space) else 1.0

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {
            **super()._get_constructor_parameters(),
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "with_bias": self.with_bias,
            "squash_output": self._squash_output,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
        }

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """
        What the network says.

        :param obs: Batch of observations.
        :return: (N, a) actions before they are scaled or clipped, or scores of discrete actions.
        """
        values: th.Tensor = self.mu(self.extract_features(obs, self.features_extractor))
        return values

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        values: th.Tensor = self(observation)
        if isinstance(self.action_space, spaces.Discrete):
            return values.argmax(dim=1) + int(self.action_space.start)
        return values


class ESLinearPolicy(ESPolicy):
    """
    Linear policy, as in ARS: no hidden layer, by default no bias and no tanh, and all weights are zero at first.

    :param observation_space: Observation space.
    :param action_space: ``Box`` or ``Discrete`` action space.
    :param with_bias: Whether to add a bias.
    :param squash_output: As in :class:`ESPolicy`.
    :param features_extractor_class: Features extractor.
    :param features_extractor_kwargs: Its arguments.
    :param normalize_images: Whether to divide images by 255.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        with_bias: bool = False,
        squash_output: bool = False,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            net_arch=[],
            with_bias=with_bias,
            squash_output=squash_output,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            normalize_images=normalize_images,
        )
        for parameter in self.mu.parameters():
            nn.init.zeros_(parameter)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        known = super()._get_constructor_parameters()
        return {name: value for name, value in known.items() if name not in ("net_arch", "activation_fn")}


class ESCnnPolicy(ESPolicy):
    """
    :class:`ESPolicy` for images.

    :param observation_space: Observation space.
    :param action_space: ``Box`` or ``Discrete`` action space.
    :param features_extractor_class: Features extractor; by default the CNN of the DQN paper with virtual batch normalisation,
        without which most perturbed networks play one action whatever they see.
    :param kwargs: Other arguments of :class:`ESPolicy`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        features_extractor_class: type[BaseFeaturesExtractor] = VirtualBatchNormCNN,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space, features_extractor_class=features_extractor_class, **kwargs)


class ESMultiInputPolicy(ESPolicy):
    """
    :class:`ESPolicy` for ``Dict`` observations.

    :param observation_space: Observation space.
    :param action_space: ``Box`` or ``Discrete`` action space.
    :param features_extractor_class: Features extractor.
    :param kwargs: Other arguments of :class:`ESPolicy`.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(observation_space, action_space, features_extractor_class=features_extractor_class, **kwargs)


MlpPolicy = ESPolicy
LinearPolicy = ESLinearPolicy
CnnPolicy = ESCnnPolicy
MultiInputPolicy = ESMultiInputPolicy
