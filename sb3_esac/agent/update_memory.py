"""Memory that torch's parameters and Adam's moments share with numpy: one array for each network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th

ALIGNMENT = 16
"""Blocks begin at multiples of so many numbers."""

PLAIN = dict.fromkeys(("weight_decay", "amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay"), 0)
"""Settings of Adam's that :class:`FlatAdam` knows."""


class Layout:
    """
    Tensors in one array, in blocks that numpy can see as one matrix or one stack of them.

    :param blocks: Tensors of a block stand one behind the other.
    """

    def __init__(self, blocks: Sequence[Sequence[th.Tensor]]) -> None:
        self.tensors: list[th.Tensor] = []
        self._places: list[tuple[int, int]] = []
        self.blocks: list[tuple[int, int]] = []
        at = 0
        for block in blocks:
            start = at = -(-at // ALIGNMENT) * ALIGNMENT
            for tensor in block:
                self.tensors.append(tensor)
                self._places.append((at, at + tensor.numel()))
                at += tensor.numel()
            self.blocks.append((start, at))
        self.size = at

    def new(self) -> th.Tensor:
        """Make an array of zeros."""
        return th.zeros(self.size, dtype=self.tensors[0].dtype)

    def views(self, flat: th.Tensor) -> list[th.Tensor]:
        """
        Find the tensors in an array.

        :param flat: The array.
        :return: For each tensor a view of its shape.
        """
        pairs = zip(self.tensors, self._places, strict=True)
        return [flat[start:end].view(tensor.shape) for tensor, (start, end) in pairs]

    def matrices(self, flat: th.Tensor, n_stacked: int, n_rows: Sequence[int]) -> list[np.ndarray]:
        """
        Find the blocks in an array.

        :param flat: The array.
        :param n_stacked: Length n of each stack.
        :param n_rows: For each block the rows of one matrix.
        :return: For each block (n, rows, columns), a view.
        """
        array = flat.numpy()
        pairs = zip(self.blocks, n_rows, strict=True)
        return [array[start:end].reshape(n_stacked, rows, -1) for (start, end), rows in pairs]


class SharedParameters:
    """
    Parameters that stay torch's, moved into one array.

    :param layout: The parameters.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout, self.flat = layout, layout.new()
        for tensor, view in zip(layout.tensors, layout.views(self.flat), strict=True):
            view.copy_(tensor.data)
            tensor.data = view
        self._addresses = [tensor.data_ptr() for tensor in layout.tensors]

    def is_theirs(self) -> bool:
        """Whether the parameters are still in this memory: ``load`` and others put new tensors in their place."""
        return [tensor.data_ptr() for tensor in self.layout.tensors] == self._addresses


class FlatAdam:
    """
    Adam on one array. Moments and steps stay in the state of torch's optimiser, which goes on from them if it has to.

    :param optimizer: Torch's, which :func:`plain_adam` accepts.
    :param parameters: Its parameters.
    """

    def __init__(self, optimizer: th.optim.Optimizer, parameters: SharedParameters) -> None:
        layout = parameters.layout
        self.optimizer, self.parameters, self.tensors = optimizer, parameters.flat, layout.tensors
        self.gradient, self._mean, self._square, self._scratch = (layout.new() for _ in range(4))
        self._steps = th.zeros(len(layout.tensors), dtype=th.float32)
        self._names = {"exp_avg": layout.views(self._mean), "exp_avg_sq": layout.views(self._square)}
        self._names["step"] = list(self._steps.unbind())
        self._share()
        self._addresses = self._find_addresses()

    def _share(self) -> None:
        for name, views in self._names.items():
            for tensor, view in zip(self.tensors, views, strict=True):
                state = self.optimizer.state[tensor]
                if name in state:
                    view.copy_(state[name])
                state[name] = view

    def _find_addresses(self) -> list[int]:
        states = [self.optimizer.state.get(tensor) or {} for tensor in self.tensors]
        return [state[name].data_ptr() if name in state else 0 for state in states for name in self._names]

    def is_theirs(self) -> bool:
        """Whether the optimiser's moments are still in this memory, and its settings are known."""
        return plain_adam(self.optimizer) and self._find_addresses() == self._addresses

    def step(self) -> None:
        """Move the parameters along ``gradient``: the lines of torch's ``_single_tensor_adam``, for all at once."""
        group: dict[str, Any] = self.optimizer.param_groups[0]
        (beta1, beta2), rate, mean, square = group["betas"], group["lr"], self._mean, self._square
        self._steps.add_(1)
        n_steps = float(self._steps[0])
        mean.lerp_(self.gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        deviation = th.sqrt(square, out=self._scratch).div_((1 - beta2**n_steps) ** 0.5).add_(group["eps"])
        self.parameters.addcdiv_(mean, deviation, value=-rate / (1 - beta1**n_steps))


def plain_adam(optimizer: Any) -> bool:
    """
    Whether this is Adam with nothing added to it, and all its parameters are at the same step.

    :param optimizer: An optimiser of torch.
    """
    if type(optimizer) is not th.optim.Adam or len(optimizer.param_groups) != 1:
        return False
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    group = optimizer.param_groups[0]
    is_plain = not any(group.get(name, wanted) != wanted for name, wanted in PLAIN.items())
    betas_are_numbers = not any(isinstance(value, th.Tensor) for value in (group["lr"], *group["betas"]))
    return is_plain and betas_are_numbers and not hooks


def same_steps(optimizer: th.optim.Optimizer) -> bool:
    """
    Whether all parameters of an optimiser have taken the same number of steps.

    :param optimizer: The optimiser.
    """
    states = [optimizer.state.get(tensor) or {} for tensor in optimizer.param_groups[0]["params"]]
    return len({float(state.get("step", 0)) for state in states}) == 1
