"""Whether a policy normalises its observations, and what has to be said to its class for that."""

import inspect
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.evaluation.normalization import ObservationNormalizer, normalized_keys


def parameters_of(kind: type) -> dict[str, inspect.Parameter]:
    """Arguments of a class; what it hands on as ``**kwargs`` is looked up in its base classes."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        named = {name: p for name, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        found = {**named, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return found


def can_normalize(
    policy_class: type, policy_kwargs: dict[str, Any], space: spaces.Space[Any], vec_normalize: VecNormalize | None
) -> bool:
    """
    Whether observations can be normalised in the policy without anybody having to know of it.

    :param policy_class: Class of the policy.
    :param policy_kwargs: Its arguments.
    :param space: Observation space.
    :param vec_normalize: The user's wrapper, None if there is none.
    :return: True for plain vectors that SB3's own extractor reads and that ``VecNormalize`` leaves alone.
    """
    elsewhere = vec_normalize is not None and vec_normalize.norm_obs
    own_extractor = "features_extractor_class" in policy_kwargs or "share_features_extractor" in policy_kwargs
    default = parameters_of(policy_class).get("features_extractor_class")
    flat = default is not None and default.default is FlattenExtractor and normalized_keys(space) == [""]
    return flat and not elsewhere and not own_extractor


def normalized_policy_kwargs(policy_class: type, kwargs: dict[str, Any], space: spaces.Space[Any]) -> dict[str, Any]:
    """
    Put an :class:`ObservationNormalizer` before the features extractor.

    :param policy_class: Class of the policy.
    :param kwargs: Its arguments.
    :param space: Observation space.
    :return: A copy of the arguments with the normaliser.
    :raises ValueError: If there is nothing to normalise.
    """
    if not normalized_keys(space):
        raise ValueError(
            f"`normalize_observations=True` has nothing to normalise in {space}: leave it False for images and discrete "
            "observations"
        )
    default = parameters_of(policy_class).get("features_extractor_class")
    extractor_kwargs = {
        "extractor_class": kwargs.get("features_extractor_class", default.default if default else FlattenExtractor),
        "extractor_kwargs": kwargs.get("features_extractor_kwargs"),
    }
    return {**kwargs, "features_extractor_class": ObservationNormalizer, "features_extractor_kwargs": extractor_kwargs}
