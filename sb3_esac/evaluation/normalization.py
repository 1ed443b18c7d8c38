"""Observation normalisation that lives in the policy: a features extractor with running mean and variance as buffers."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.common.type_aliases import PyTorchObs

from sb3_esac.evaluation.statistics import Moments, ObservationMoments

PRIOR_COUNT = 10.0
"""Weight of the prior (mean 0, variance 1): it keeps early variances away from zero, so that nothing has to be clipped."""


class ObservationNormalizer(BaseFeaturesExtractor):
    """
    Normalises ``Box`` observations to zero mean and unit variance before another features extractor sees them.

    The statistics are buffers: saved and loaded with the policy, moved with it to another device, never touched by an
    optimiser. :meth:`set_moments` changes them. Images and discrete parts pass unchanged.

    :param observation_space: Observation space.
    :param extractor_class: What follows, SB3's ``FlattenExtractor`` by default.
    :param extractor_kwargs: Its arguments.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        extractor_kwargs: dict[str, Any] | None = None,
    ) -> None:
        extractor = extractor_class(observation_space, **(extractor_kwargs or {}))
        super().__init__(observation_space, extractor.features_dim)
        self.extractor = extractor
        self.keys = normalized_keys(observation_space)
        for key in self.keys:
            part = observation_space[key] if isinstance(observation_space, spaces.Dict) else observation_space
            assert part.shape is not None
            shape = part.shape
            self.register_buffer(f"count{key}", th.tensor(PRIOR_COUNT, dtype=th.float64))
            self.register_buffer(f"mean{key}", th.zeros(shape, dtype=th.float64))
            self.register_buffer(f"var{key}", th.ones(shape, dtype=th.float64))

    def forward(self, observations: PyTorchObs) -> th.Tensor:
        if isinstance(observations, dict):
            parts = {key: self._normalize(value, key) for key, value in observations.items()}
            features: th.Tensor = self.extractor(parts)
        else:
            features = self.extractor(self._normalize(observations, ""))
        return features

    def _normalize(self, value: th.Tensor, key: str) -> th.Tensor:
        if key not in self.keys:
            return value
        mean: th.Tensor = getattr(self, f"mean{key}")
        scale: th.Tensor = getattr(self, f"var{key}").sqrt()
        return (value - mean.to(value.dtype)) / scale.to(value.dtype)

    def moments(self) -> ObservationMoments:
        """Current statistics, the prior included."""
        return {
            key: Moments(
                float(getattr(self, f"count{key}")),
                getattr(self, f"mean{key}").cpu().numpy().copy(),
                getattr(self, f"var{key}").cpu().numpy().copy(),
            )
            for key in self.keys
        }

    def set_moments(self, moments: ObservationMoments) -> None:
        """
        Replace the statistics.

        :param moments: New statistics, the prior included.
        """
        for key in self.keys:
            getattr(self, f"count{key}").fill_(moments[key].count)
            getattr(self, f"mean{key}").copy_(th.as_tensor(moments[key].mean))
            getattr(self, f"var{key}").copy_(th.as_tensor(moments[key].var))

    def forget(self) -> None:
        """Go back to the prior."""
        self.set_moments(
            {key: Moments(PRIOR_COUNT, np.zeros_like(m.mean), np.ones_like(m.var)) for key, m in self.moments().items()}
        )

    def shift_and_scale(self, key: str = "") -> tuple[np.ndarray, np.ndarray]:
        """
        What is subtracted and what is divided by, flattened.

        :param key: Key of a ``Dict`` observation.
        :return: Two float64 vectors.
        """
        moments = self.moments()[key]
        return moments.mean.reshape(-1), np.sqrt(moments.var).reshape(-1)


def normalized_keys(space: spaces.Space[Any]) -> list[str]:
    """
    Parts of an observation space that are normalised.

    :param space: Observation space.
    :return: Keys of a ``Dict`` space, ``[""]`` for a plain one; without images and discrete parts.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    return [key for key, part in parts.items() if isinstance(part, spaces.Box) and not is_image_space(part)]


def normalizers(policy: th.nn.Module) -> list[ObservationNormalizer]:
    """
    All normalisers of a policy (actor's, critic's, target's).

    :param policy: A policy or a part of one.
    """
    return [module for module in policy.modules() if isinstance(module, ObservationNormalizer)]
