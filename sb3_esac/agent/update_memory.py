"""Memory that torch's parameters and Adam's moments share with the arithmetic: one array for each network."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from stable_baselines3 import SAC

from sb3_esac.agent.attachments import has_attachments, has_gradient_hooks, is_patched

ALIGNMENT = 16
"""Blocks begin at multiples of so many numbers."""

PLAIN = dict.fromkeys(("weight_decay", "amsgrad", "maximize", "capturable", "differentiable", "decoupled_weight_decay"), 0)
"""Settings of Adam's that :class:`FlatAdam` knows."""

STOCK_TRAIN = SAC.train


class Layout:
    """
    Tensors in one array, in blocks that can be seen as one matrix or one stack of them.

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
        return th.zeros(self.size, dtype=self.tensors[0].dtype, device=self.tensors[0].device)

    def views(self, flat: th.Tensor) -> list[th.Tensor]:
        """
        Find the tensors in an array.

        :param flat: The array.
        :return: For each tensor a view of its shape.
        """
        pairs = zip(self.tensors, self._places, strict=True)
        return [flat[start:end].view(tensor.shape) for tensor, (start, end) in pairs]

    def matrices(self, flat: th.Tensor, n_stacked: int, n_rows: Sequence[int]) -> list[th.Tensor]:
        """
        Find the blocks in an array.

        :param flat: The array.
        :param n_stacked: Length n of each stack.
        :param n_rows: For each block the rows of one matrix.
        :return: For each block (n, rows, columns), a view.
        """
        pairs = zip(self.blocks, n_rows, strict=True)
        return [flat[start:end].view(n_stacked, rows, -1) for (start, end), rows in pairs]


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


class PerceptronMemory(SharedParameters):
    """
    The memory of perceptrons of one shape.

    :param stacks: For each perceptron its modules, first to last.
    :param heads: Linear layers that follow them all, side by side.
    """

    def __init__(self, stacks: Sequence[Sequence[th.nn.Module]], heads: Sequence[th.nn.Linear] = ()) -> None:
        layers: list[list[Any]] = [list(layer) for layer in zip(*(stack[::2] for stack in stacks), strict=True)]
        layers += [list(heads)] if heads else []
        self._n, n_rows = len(stacks), [sum(each.out_features for each in layer) // len(stacks) for layer in layers]
        # A bias is one row.
        self._n_rows = [rows for width in n_rows for rows in (width, 1)]
        self.tanh = any(type(module) is th.nn.Tanh for module in stacks[0])
        super().__init__(Layout([[getattr(each, name) for each in layer] for layer in layers for name in ("weight", "bias")]))

    def split(self, flat: th.Tensor) -> tuple[list[th.Tensor], list[th.Tensor]]:
        """
        Find weights and biases.

        :param flat: An array like that of the parameters.
        :return: For each layer (n, out, in) and (n, 1, out).
        """
        matrices = self.layout.matrices(flat, self._n, self._n_rows)
        return matrices[::2], matrices[1::2]


class FlatAdam:
    """
    Adam on one array. Moments and steps stay in the state of torch's optimiser, which goes on from them if it has to.

    :param optimizer: Torch's, which :func:`plain_adam` accepts.
    :param parameters: Its parameters.
    """

    def __init__(self, optimizer: th.optim.Optimizer, parameters: SharedParameters) -> None:
        self._layout = layout = parameters.layout
        self.optimizer, self.parameters, self.tensors = optimizer, parameters.flat, layout.tensors
        self.gradient, self._mean, self._square, self._scratch = (layout.new() for _ in range(4))
        self.is_fused = bool(optimizer.param_groups[0].get("fused"))
        # Where torch keeps them.
        self._steps = th.zeros(len(layout.tensors), device=self.parameters.device if self.is_fused else "cpu")
        self._blocks = [slice(*block) for block in layout.blocks]
        self._names = {"exp_avg": layout.views(self._mean), "exp_avg_sq": layout.views(self._square)}
        self._names["step"] = list(self._steps.unbind())
        self._numbers: list[np.ndarray] | None = None
        if self.parameters.numel() == 1 and self.parameters.device.type == "cpu":
            self._numbers = [each.numpy() for each in (self.parameters, self._mean, self._square, self.gradient)]
        self._clock = self._steps.numpy() if self._steps.device.type == "cpu" else None
        self._share()
        self._addresses = self._find_addresses()

    def _share(self) -> None:
        for name, views in self._names.items():
            for tensor, view in zip(self.tensors, views, strict=True):
                state = self.optimizer.state[tensor]
                if name in state:
                    view.copy_(state[name])
                state[name] = view

    def show_gradients(self) -> None:
        """Let ``.grad`` of each parameter be the latest gradient: torch lets go of it when SB3 takes over."""
        for tensor, view in zip(self.tensors, self._layout.views(self.gradient), strict=True):
            tensor.grad = view

    def _find_addresses(self) -> list[int]:
        states = [self.optimizer.state.get(tensor) or {} for tensor in self.tensors]
        return [state[name].data_ptr() if name in state else 0 for state in states for name in self._names]

    def is_theirs(self) -> bool:
        """Whether the optimiser's moments are still in this memory, and its settings are known."""
        return plain_adam(self.optimizer) and self._find_addresses() == self._addresses

    def step(self) -> None:
        """Move the parameters along ``gradient``: torch's kernel, or its ``_single_tensor_adam``, for all at once."""
        group: dict[str, Any] = self.optimizer.param_groups[0]
        (beta1, beta2), rate, mean, square = group["betas"], group["lr"], self._mean, self._square
        assert self._clock is not None
        self._clock += 1
        if self.is_fused:
            plain = dict(weight_decay=0.0, amsgrad=False, maximize=False)
            options = dict(lr=rate, beta1=beta1, beta2=beta2, eps=group["eps"], **plain)
            th._fused_adam_([self.parameters], [self.gradient], [mean], [square], [], self._names["step"][:1], **options)
            return
        n_steps = float(self._clock[0])
        mean.lerp_(self.gradient, 1 - beta1)
        square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        deviation = th.sqrt(square, out=self._scratch).div_((1 - beta2**n_steps) ** 0.5).add_(group["eps"])
        self.parameters.addcdiv_(mean, deviation, value=-rate / (1 - beta1**n_steps))

    def step_number(self, gradient: float) -> None:
        """
        Do the same with a single parameter, for which calls of torch take longer than the arithmetic.

        :param gradient: By the parameter.
        """
        if self._numbers is None or self._clock is None or self.is_fused:
            self.gradient.fill_(gradient)
            self.step()
            return
        group: dict[str, Any] = self.optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        self._clock += 1
        n_steps, (value, mean, square) = float(self._clock[0]), (float(array[0]) for array in self._numbers[:3])
        mean += (1 - beta1) * (gradient - mean)
        square = beta2 * square + (1 - beta2) * gradient * gradient
        deviation = (square / (1 - beta2**n_steps)) ** 0.5 + group["eps"]
        value -= group["lr"] / (1 - beta1**n_steps) * mean / deviation
        for array, number in zip(self._numbers, (value, mean, square, gradient), strict=True):
            array[0] = number

    @property
    def changed(self) -> list[th.Tensor]:
        """What :meth:`step_from` changes."""
        return [self.parameters, self._mean, self._square, *([self._steps] if self.is_fused else [])]

    def factors(self, n_ahead: int) -> tuple[float, float]:
        """
        Compute what :meth:`step_from` multiplies and divides by.

        :param n_ahead: Steps of a call that come before it.
        :return: Step size, and the second moment's correction; if torch's kernel computes them, learning rate and 1.
        """
        group: dict[str, Any] = self.optimizer.param_groups[0]
        (beta1, beta2), rate = group["betas"], float(group["lr"])
        if self.is_fused:
            return rate, 1.0
        n_steps = float(self._steps[0]) + n_ahead + 1
        return rate / (1 - beta1**n_steps), float((1 - beta2**n_steps) ** 0.5)

    def count(self, n_steps: int) -> None:
        """
        Count steps that :meth:`step_from` has made, unless they are counted on the device.

        :param n_steps: How many.
        """
        if not self.is_fused:
            self._steps.add_(n_steps)

    def step_from(self, gradients: Sequence[th.Tensor], factors: th.Tensor) -> None:
        """
        Do what :meth:`step` does, but with all that changes in tensors, and by torch's kernel if that is what torch would do.

        :param gradients: Those of each block.
        :param factors: (2,), see :meth:`factors`.
        """
        group: dict[str, Any] = self.optimizer.param_groups[0]
        (beta1, beta2), size = group["betas"], factors[0]
        parameters, means, squares = ([array[block] for block in self._blocks] for array in self.changed[:3])
        rows = [gradient.reshape(-1) for gradient in gradients]
        if self.is_fused:
            # That kernel rounds 1 - beta2 to single precision, which the others do not.
            self._steps.add_(1)
            clocks, plain = [self._steps[0]] * len(rows), dict(weight_decay=0.0, amsgrad=False, maximize=False)
            options = dict(lr=size, beta1=beta1, beta2=beta2, eps=group["eps"], **plain)
            th._fused_adam_(parameters, rows, means, squares, [], clocks, **options)
            return
        th._foreach_lerp_(means, rows, 1 - beta1)
        th._foreach_mul_(squares, beta2)
        th._foreach_addcmul_(squares, rows, rows, 1 - beta2)
        deviation = th.sqrt(self._square).div_(factors[1]).add_(group["eps"])
        self.parameters.addcmul_(self._mean / deviation, size, value=-1)


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
    return is_plain and betas_are_numbers and not hooks and not is_patched(optimizer)


def same_steps(optimizer: th.optim.Optimizer) -> bool:
    """
    Whether all parameters of an optimiser have taken the same number of steps.

    :param optimizer: The optimiser.
    """
    states = [optimizer.state.get(tensor) or {} for tensor in optimizer.param_groups[0]["params"]]
    return len({float(state.get("step", 0)) for state in states}) == 1


class AgentMemory:
    """
    All that a SAC learns, in shared memory, and what its updates have to do beside the arithmetic.

    :param agent: A SAC with perceptrons and plain Adam.
    """

    def __init__(self, agent: Any) -> None:
        self.agent = agent
        self.actor = PerceptronMemory([list(agent.actor.latent_pi)], [agent.actor.mu, agent.actor.log_std])
        self.critic, self.target = (
            PerceptronMemory([list(network) for network in part.q_networks]) for part in (agent.critic, agent.critic_target)
        )
        self.actor_adam = FlatAdam(agent.actor.optimizer, self.actor)
        self.critic_adam = FlatAdam(agent.critic.optimizer, self.critic)
        self.entropy_adam: FlatAdam | None = None
        self.shared: list[SharedParameters] = [self.actor, self.critic, self.target]
        self.adams = [self.actor_adam, self.critic_adam]
        if agent.ent_coef_optimizer is not None:
            entropy = SharedParameters(Layout([[agent.log_ent_coef]]))
            self.entropy_adam = FlatAdam(agent.ent_coef_optimizer, entropy)
            self.shared.append(entropy)
            self.adams.append(self.entropy_adam)
        self._modules = list(agent.policy.modules())
        self._parts = self._find_parts()

    def _find_parts(self) -> list[Any]:
        agent = self.agent
        parts = [agent.policy, agent.actor, agent.critic, agent.critic_target]
        optimizers = [agent.actor.optimizer, agent.critic.optimizer, agent.ent_coef_optimizer]
        extractors = [part.features_extractor for part in parts[1:]]
        statistics = [buffer for extractor in extractors for buffer in extractor.buffers()]
        coefficients = [agent.log_ent_coef, getattr(agent, "ent_coef_tensor", None)]
        return [*parts, *optimizers, *coefficients, *extractors, *statistics]

    def is_in_use(self) -> bool:
        """Whether the agent still has the objects that this was made for, and all of them are to be learned."""
        parts = self._find_parts()
        return (
            "train" not in vars(self.agent)
            and SAC.train is STOCK_TRAIN
            and len(parts) == len(self._parts)
            and all(one is other for one, other in zip(self._parts, parts, strict=True))
            and all(memory.is_theirs() for memory in self.shared)
            and all(adam.is_theirs() for adam in self.adams)
            and all(tensor.requires_grad for adam in self.adams for tensor in adam.tensors)
            and not has_attachments(self._modules)
            and not any(has_gradient_hooks(adam.tensors) for adam in self.adams)
        )

    def begin(self) -> None:
        """Do what ``SAC.train`` does before its first update. Modules keep their mode, which makes no difference in these."""
        self.agent._update_learning_rate([adam.optimizer for adam in self.adams])

    def end(self, n_updates: int, logged: Sequence[float]) -> None:
        """
        Do what ``SAC.train`` does after its last update.

        :param n_updates: How many there were.
        :param logged: Means of the entropy coefficient and the actor's and critics' losses, and of the coefficient's own loss
            if it is learned.
        """
        self.agent._n_updates += n_updates
        self.agent.logger.record("train/n_updates", self.agent._n_updates, exclude="tensorboard")
        for name, value in zip(("ent_coef", "actor_loss", "critic_loss", "ent_coef_loss"), logged, strict=False):
            self.agent.logger.record(f"train/{name}", value)
