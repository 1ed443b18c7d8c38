"""Observation statistics and the layers that read normalised observations: new statistics for the same function."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor

from sb3_esac.evaluation.normalization import ObservationNormalizer, normalizers
from sb3_esac.evaluation.statistics import ObservationMoments

PARTS = ("actor", "actor_target", "critic", "critic_target")
"""Networks of SB3's off-policy algorithms."""


def update_normalizers(
    policy: th.nn.Module, fresh: ObservationMoments, *, keep_functions: bool = False, beside: Sequence[th.nn.Module] = ()
) -> None:
    """
    Merge new observations into every normaliser of a policy.

    :param policy: Policy.
    :param fresh: Moments of the new observations.
    :param keep_functions: Whether networks compute for each observation what they did before: the layers that read normalised
        observations take the change upon themselves. Networks of a form that is not understood do not.
    :param beside: Networks that are no part of the policy and have the same statistics.
    """
    parts = [*(getattr(policy, name) for name in PARTS if getattr(policy, name, None) is not None), *beside]
    parts = parts if keep_functions else []
    before = [_shift_and_scale(part) for part in parts]
    for normalizer in chain.from_iterable(normalizers(module) for module in (policy, *beside)):
        known = normalizer.moments()
        normalizer.set_moments({key: known[key].merge(fresh[key]) for key in known})
    for part, old in zip(parts, before, strict=True):
        new = _shift_and_scale(part)
        try:
            layers = first_layers(part)
        except ValueError:
            continue
        if old is not None and new is not None:
            _absorb(layers, (new[0] - old[0]) / old[1], new[1] / old[1])


def fold(source: th.nn.Module, target: th.nn.Module) -> None:
    """
    Let a network without normaliser compute what one with it computes.

    :param source: Actor or critic with an :class:`~sb3_esac.evaluation.normalization.ObservationNormalizer`.
    :param target: The same network without, with the same weights; its first layers are changed.
    :raises ValueError: If that cannot be done to a network of this form.
    """
    statistics = _shift_and_scale(source)
    if statistics is None:
        extractor = type(source.features_extractor.extractor).__name__  # type: ignore[union-attr]
        raise ValueError(
            f"Observation statistics cannot be folded through {extractor}: save the ESAC model itself, or train with "
            "`VecNormalize` instead of `normalize_observations`"
        )
    shift, scale = statistics
    _absorb(first_layers(target), -shift / scale, 1 / scale)


def first_layers(module: th.nn.Module) -> list[th.nn.Linear]:
    """
    Find the layers that read features.

    :param module: Actor or critic of an SB3 off-policy algorithm.
    :return: Linear layers; their first columns are those of the features.
    :raises ValueError: If anything else reads them.
    """
    latent = getattr(module, "latent_pi", None)
    if latent is not None and list(latent.parameters()):
        heads = [latent]
    else:
        heads = [getattr(module, name) for name in ("mu", "log_std") if hasattr(module, name)]
    heads = heads or list(getattr(module, "q_networks", []))
    layers: list[th.nn.Linear] = []
    for head in heads:
        # The first module with parameters has to be the layer that reads the features.
        modules = head.modules() if isinstance(head, th.nn.Module) else []
        leaves = [leaf for leaf in modules if not list(leaf.children()) and list(leaf.parameters())]
        if not leaves or not isinstance(leaves[0], th.nn.Linear):
            raise ValueError(f"Observation statistics cannot be folded into a {type(module).__name__} of this form")
        layers.append(leaves[0])
    return layers


def _absorb(layers: list[th.nn.Linear], shift: np.ndarray, scale: np.ndarray) -> None:
    """Let layers that read ``scale * g + shift`` read ``g``, and give what they gave."""
    n_features = len(shift)
    with th.no_grad():
        for layer in layers:
            shift_, scale_ = (
                th.as_tensor(part, dtype=layer.weight.dtype, device=layer.weight.device) for part in (shift, scale)
            )
            if layer.bias is not None:
                layer.bias.add_(layer.weight[:, :n_features] @ shift_)
            layer.weight[:, :n_features] *= scale_


def _shift_and_scale(part: th.nn.Module) -> tuple[np.ndarray, np.ndarray] | None:
    """What is subtracted from each feature and what it is divided by; None if features are something else."""
    normalizer = getattr(part, "features_extractor", None)
    if not isinstance(normalizer, ObservationNormalizer):
        return None
    if type(normalizer.extractor) is FlattenExtractor:
        return normalizer.shift_and_scale()
    if type(normalizer.extractor) is not CombinedExtractor:
        return None
    space = normalizer.extractor._observation_space
    assert isinstance(space, spaces.Dict)
    shifts, scales = [], []
    for key, extractor in normalizer.extractor.extractors.items():
        if key in normalizer.keys:
            shift, scale = normalizer.shift_and_scale(key)
        else:
            width = getattr(extractor, "features_dim", None) or get_flattened_obs_dim(space[key])
            shift, scale = np.zeros(width), np.ones(width)
        shifts.append(shift)
        scales.append(scale)
    return np.concatenate(shifts), np.concatenate(scales)
