"""Whether a policy normalises its observations, and what has to be said to its class for that."""

import inspect
from typing import TYPE_CHECKING, Any

from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_esac.evaluation.normalization import ObservationNormalizer, normalized_keys

if TYPE_CHECKING:
    from sb3_esac.population_based import PopulationBasedAlgorithm


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


def can_normalize(model: "PopulationBasedAlgorithm") -> bool:
    """
    Whether observations can be normalised in the policy without anybody having to know of it.

    :param model: The model.
    :return: True for plain vectors that SB3's own extractor reads and that ``VecNormalize`` leaves alone.
    """
    vec_normalize = model._vec_normalize_env
    elsewhere = vec_normalize is not None and vec_normalize.norm_obs
    own_extractor = "features_extractor_class" in model.policy_kwargs or "share_features_extractor" in model.policy_kwargs
    default = parameters_of(model.policy_class).get("features_extractor_class")
    flat = default is not None and default.default is FlattenExtractor and normalized_keys(model.observation_space) == [""]
    return flat and not elsewhere and not own_extractor


def normalized_policy_kwargs(model: "PopulationBasedAlgorithm", kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    Put an :class:`ObservationNormalizer` before the features extractor, if the model says so.

    :param model: The model.
    :param kwargs: Arguments of its policy.
    :return: The same arguments, or a copy with the normaliser.
    """
    if not model.normalize_observations:
        return kwargs
    if not normalized_keys(model.observation_space):
        raise ValueError(
            f"`normalize_observations=True` has nothing to normalise in {model.observation_space}: leave it False for images "
            "and discrete observations"
        )
    default = parameters_of(model.policy_class).get("features_extractor_class")
    extractor_kwargs = {
        "extractor_class": kwargs.get("features_extractor_class", default.default if default else FlattenExtractor),
        "extractor_kwargs": kwargs.get("features_extractor_kwargs"),
    }
    return {**kwargs, "features_extractor_class": ObservationNormalizer, "features_extractor_kwargs": extractor_kwargs}
