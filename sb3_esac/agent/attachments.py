"""What users attach to networks and optimisers, and only SB3's updates heed: hooks, and methods in place of their class's."""

from collections.abc import Iterable
from typing import Any

import torch as th

OF_MODULES = ("forward", "action_log_prob", "get_action_dist_params", "extract_features", "q1_forward", "set_training_mode")
OF_POLICIES = ("predict", "_predict", "scale_action", "unscale_action")
METHODS = frozenset((*OF_MODULES, *OF_POLICIES, "step", "zero_grad"))
"""Of modules and optimisers: what SB3 calls to act and to learn."""


def is_patched(thing: Any) -> bool:
    """
    Whether an object has one of :data:`METHODS` in place of its class's.

    :param thing: A module, a policy, an optimiser.
    """
    return not vars(thing).keys().isdisjoint(METHODS)


def has_gradient_hooks(tensors: Iterable[th.Tensor]) -> bool:
    """
    Whether anybody wants to see or change the gradients of tensors.

    :param tensors: Parameters.
    """
    return any(tensor._backward_hooks or tensor._post_accumulate_grad_hooks for tensor in tensors)


def has_attachments(modules: Iterable[th.nn.Module]) -> bool:
    """
    Whether modules have hooks, or a method in place of their class's.

    :param modules: Modules, each without its children.
    """
    return any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or is_patched(module)
        for module in modules
    )
