"""Which parameters are searched, and how they become a vector and back."""

import copy
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy


def searched_parameters(actor: th.nn.Module) -> list[tuple[str, th.nn.Parameter]]:
    """
    Parameters that decide the deterministic action: features extractor, latent network and mean, not ``log_std``.

    Those that were frozen (``requires_grad`` is False) as :func:`fix_searched` was called are not searched.

    :param actor: Actor of an SB3 off-policy algorithm.
    :return: Names and parameters, in the order of the vector.
    """
    frozen = getattr(actor, "frozen_names", ())
    return [(name, each) for name, each in actor.named_parameters() if name.split(".")[0] != "log_std" and name not in frozen]


def fix_searched(actor: th.nn.Module) -> None:
    """
    Leave what is frozen out of the search, once for all: what is frozen later, for a part of training, stays in it.

    :param actor: Actor that has just been built.
    """
    vars(actor)["frozen_names"] = frozenset(name for name, each in actor.named_parameters() if not each.requires_grad)


def to_vector(actor: th.nn.Module) -> np.ndarray:
    """
    Copy the searched parameters into one vector.

    :param actor: Actor.
    :return: (d,) float32 array that shares no memory with the actor.
    """
    parts = [parameter.detach().cpu().numpy().reshape(-1) for _, parameter in searched_parameters(actor)]
    return np.concatenate(parts).astype(np.float32)


def load_vector(actor: th.nn.Module, vector: np.ndarray) -> None:
    """
    Copy a vector into an actor; later changes of either leave the other alone.

    :param actor: Actor whose searched parameters are overwritten.
    :param vector: (d,) parameters.
    """
    position = 0
    with th.no_grad():
        for _, parameter in searched_parameters(actor):
            part = np.array(vector[position : position + parameter.numel()], dtype=np.float32)
            parameter.copy_(th.from_numpy(part).view_as(parameter))
            position += parameter.numel()
    assert position == len(vector), f"vector of length {len(vector)} for an actor of {position} parameters"


def row_groups(actor: th.nn.Module) -> np.ndarray:
    """
    Number the rows of the weight matrices: what hindsight crossover inherits together.

    :param actor: Actor.
    :return: (d,) integers; a row of a weight matrix (all that feeds one unit) and the unit's bias share a number.
    """
    offsets: dict[tuple[str, int], int] = {}
    groups, n_groups = [], 0
    for name, parameter in searched_parameters(actor):
        rows = parameter.shape[0] if parameter.dim() else 1
        key = (name.rpartition(".")[0], rows)
        if key not in offsets:
            offsets[key] = n_groups
            n_groups += rows
        groups.append(np.repeat(offsets[key] + np.arange(rows), parameter.numel() // rows))
    return np.concatenate(groups)


def copy_actor(actor: BasePolicy, device: th.device | str = "cpu") -> BasePolicy:
    """
    Copy an actor without its optimiser.

    :param actor: Actor.
    :param device: Where its copy is to live.
    :return: Its copy, in evaluation mode.
    """
    memo: dict[int, Any] = {}
    if hasattr(actor, "action_dist"):
        memo[id(actor.action_dist)] = _without_graph(actor.action_dist, device)
    optimizer = actor.__dict__.pop("optimizer", None)
    try:
        duplicate = copy.deepcopy(actor, memo).to(device)
    finally:
        if optimizer is not None:
            actor.optimizer = optimizer
    duplicate.set_training_mode(False)
    return duplicate


def _without_graph(distribution: Any, device: th.device | str) -> Any:
    """Copy an action distribution, which keeps the tensors of its last use with their graph (gSDE: a matrix that it needs)."""
    twin = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, th.Tensor):
            setattr(twin, name, value.detach().clone().to(device))
        elif isinstance(value, th.distributions.Distribution):
            setattr(twin, name, None)
    return twin
