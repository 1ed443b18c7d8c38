"""Which parameters are searched, how they become a vector and back, and how a vector plays."""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor

from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.seeding import is_image

Act = Callable[[Any], np.ndarray]
"""Maps one observation to one action of the environment, just as it is to be given to ``step``."""


def searched_parameters(actor: th.nn.Module) -> list[tuple[str, th.nn.Parameter]]:
    """
    Parameters that decide the deterministic action: features extractor, latent network and mean, not ``log_std``.

    :param actor: Actor of an SB3 off-policy algorithm.
    :return: Names and parameters, in the order of the vector.
    """
    return [(name, parameter) for name, parameter in actor.named_parameters() if name.split(".")[0] != "log_std"]


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


class Player(Protocol):
    """How a vector plays. It is pickled on its way to workers."""

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one observation to one action.
        """


class NumpyMlp:
    """
    Deterministic forward of a multi-layer perceptron in numpy, four times as fast as torch on single observations.

    :param layers: For each layer, its shape (out, in) and the positions of weight and bias (None without) in the vector.
    :param activations: For each layer, the name of what follows it.
    :param low: Lower bounds of the actions; of discrete ones the first.
    :param high: Upper bounds of the actions, likewise.
    :param shift: (in,) subtracted from observations, None for none.
    :param scale: (in,) what they are divided by then.
    :param output: How the last layer's values become an action, see :func:`_finish`.
    """

    def __init__(
        self,
        layers: list[tuple[tuple[int, int], int, int | None]],
        activations: list[str],
        low: np.ndarray,
        high: np.ndarray,
        shift: np.ndarray | None = None,
        scale: np.ndarray | None = None,
        output: str = "scale",
    ) -> None:
        self.layers, self.activations = layers, activations
        self.low, self.high, self.output = low, high, output
        self.shift, self.scale = shift, scale

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one observation to one action; its buffers are its own, so one thread at a time.
        """
        steps = self._steps(vector)
        inputs = steps[0][1][: self.layers[0][0][1]]
        finish = _finish(self.output, self.low, self.high)

        def act(observation: np.ndarray) -> np.ndarray:
            inputs[...] = observation if observation.ndim == 1 else observation.reshape(-1)
            for dot, source, target, activate in steps:
                dot(source, target)
                activate(target)
            return finish(target)

        return act

    def weights(self, vector: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """
        Weight and bias of each layer, what is done to observations taken into the first.

        :param vector: (d,) parameters.
        """
        for number, ((rows, columns), weight_at, bias_at) in enumerate(self.layers):
            weight = vector[weight_at : weight_at + rows * columns].reshape(rows, columns)
            bias = np.zeros(rows, dtype=np.float32) if bias_at is None else vector[bias_at : bias_at + rows]
            if number == 0 and self.shift is not None and self.scale is not None:
                weight = weight / self.scale
                bias = bias - weight @ self.shift
            yield weight, bias

    def finish_batch(self, values: np.ndarray) -> np.ndarray:
        """
        Make actions of the last layer's values.

        :param values: (n, a) one row per observation.
        :return: (n, ...) actions.
        """
        if self.output == "argmax":
            chosen: np.ndarray = self.low.reshape(-1)[0] + values.argmax(axis=1)
            return chosen
        low, high = self.low.reshape(-1), self.high.reshape(-1)
        half = 0.5 * (high - low)
        actions: np.ndarray = values * half + (low + half) if self.output == "scale" else np.clip(values, low, high)
        return actions.reshape(len(values), *self.low.shape)

    def _steps(self, vector: np.ndarray) -> list[tuple[Callable[..., Any], np.ndarray, np.ndarray, Callable[..., Any]]]:
        """Product, its input and output buffers, and what follows it, for each layer."""
        steps: list[tuple[Callable[..., Any], np.ndarray, np.ndarray, Callable[..., Any]]] = []
        source = _buffer(self.layers[0][0][1])
        doubled = False
        for number, (weight, bias) in enumerate(self.weights(vector)):
            rows, columns = weight.shape
            # The bias is one more column, for an input that is always 1: one pass instead of two.
            matrix = np.zeros((rows, len(source)), dtype=np.float32)
            matrix[:, :columns] = weight * np.float32(0.5) if doubled else weight
            matrix[:, columns] = bias
            last = number == len(self.layers) - 1
            following = _buffer(rows)
            target = following[:rows]
            steps.append((matrix.dot, source, target, _activation(self.activations[number], rows, last=last)))
            source, doubled = following, self.activations[number] == "relu"
        return steps


def _finish(output: str, low: np.ndarray, high: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """
    Make the function from the last layer's values to an action, which shares no memory with them.

    :param output: "scale" from [-1, 1] to the bounds, "clip" at the bounds, or "argmax" for discrete actions.
    :param low: Lower bounds, or the first action.
    :param high: Upper bounds.
    :return: The function. What it gives has shape and dtype of one of the actions that ``predict`` gives for a batch: a scalar
        of numpy where an action has no dimension.
    """
    if output == "argmax":
        first: Any = np.int64(low)
        return lambda values: first + values.argmax()
    multiply, add, clip = np.multiply, np.add, np.clip
    # As in `predict`: what comes out of the network is in single precision, and bounds may ask for more.
    dtype = np.result_type(np.float32, low.dtype)
    flat_low, flat_high = low.reshape(-1).astype(dtype), high.reshape(-1).astype(dtype)
    half = np.asarray(high - low).reshape(-1).astype(dtype) * dtype.type(0.5)
    middle = flat_low + half

    def scaled(values: np.ndarray) -> Any:
        return add(multiply(values, half), middle)

    def clipped(values: np.ndarray) -> Any:
        return clip(values, flat_low, flat_high)

    finish = scaled if output == "scale" else clipped
    if low.ndim == 1:
        return finish
    if low.ndim == 0:
        return lambda values: finish(values)[0]
    return lambda values: finish(values).reshape(low.shape)


def _output(actor: BasePolicy) -> tuple[str, np.ndarray, np.ndarray] | None:
    """What SB3 does with an actor's output, and the bounds of its actions; None if that is not known."""
    space = actor.action_space
    if isinstance(space, spaces.Discrete):
        return "argmax", np.array(space.start), np.array(space.start + space.n)
    if isinstance(space, spaces.Box):
        return "scale" if actor.squash_output else "clip", space.low, space.high
    return None


def _buffer(size: int) -> np.ndarray:
    """A layer's input: its values, a 1 for the bias, zeros up to a whole number of cache lines."""
    buffer = np.zeros(16 * (size // 16 + 1), dtype=np.float32)
    buffer[size] = 1.0
    return buffer


def _activation(name: str, size: int, *, last: bool) -> Callable[[np.ndarray], None]:
    """
    Make the function that is applied in place to a layer's output.

    ``relu`` gives twice the value: ``x + |x|`` takes a sixth of the time of ``np.maximum``, whose caches are cold after a step
    of a simulator, and the weights of the next layer take the factor back without rounding. For the same reason a handful of
    actions goes through ``math.tanh``.

    :param name: What to apply.
    :param size: Number of units.
    :param last: Whether no layer follows.
    """
    scratch = np.empty(size, dtype=np.float32)

    def double_relu(x: np.ndarray) -> None:
        np.absolute(x, scratch)
        np.add(x, scratch, x)

    def relu(x: np.ndarray) -> None:
        np.maximum(x, 0.0, out=x)

    def tanh(x: np.ndarray) -> None:
        np.tanh(x, x)

    def tanh_few(x: np.ndarray) -> None:
        x[:] = list(map(math.tanh, x.tolist()))

    squash = tanh_few if last and size <= FEW_ACTIONS else tanh

    def clip_tanh(x: np.ndarray) -> None:
        np.clip(x, -2.0, 2.0, out=x)
        squash(x)

    def identity(x: np.ndarray) -> None:
        pass

    table = {"relu": relu if last else double_relu, "tanh": squash, "clip_tanh": clip_tanh, "identity": identity}
    return table[name]


FEW_ACTIONS = 16
"""Up to so many values ``math.tanh`` one by one is faster than ``np.tanh``."""


class TorchActor:
    """
    Deterministic forward of any actor.

    :param actor: Actor; a copy of it on the CPU is kept.
    """

    def __init__(self, actor: BasePolicy) -> None:
        self.actor = copy_actor(actor)

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one observation to one action.
        """
        actor = copy.deepcopy(self.actor)
        load_vector(actor, vector)
        # An action without dimensions is a scalar, as it is for an environment of a `VecEnv`.
        return lambda observation: actor.predict(observation, deterministic=True)[0][()]


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


def make_player(actor: BasePolicy) -> Player:
    """
    Choose the fastest forward that plays what ``predict(deterministic=True)`` would play.

    :param actor: Actor; its statistics (normalisation, batch norm) are taken as they are now.
    :return: A picklable player.
    """
    candidate = _numpy_mlp(actor)
    return candidate if candidate is not None and _agrees(candidate, actor) else TorchActor(actor)


def _agrees(candidate: NumpyMlp, actor: BasePolicy) -> bool:
    """Compare with the torch actor, so that a subclass with another forward is not mistaken for a plain one."""
    reference = TorchActor(actor)
    vector = to_vector(reference.actor)
    rng = np.random.Generator(np.random.Philox(0))
    act, expected = candidate.bind(vector), reference.bind(vector)
    span = candidate.high - candidate.low
    # Discrete actions agree by chance.
    for _ in range(30 if candidate.output == "argmax" else 3):
        observation = rng.standard_normal(actor.observation_space.shape).astype(actor.observation_space.dtype)
        if not np.allclose((act(observation) - expected(observation)) / span, 0.0, atol=1e-4):
            return False
    return True


def _numpy_mlp(actor: BasePolicy) -> NumpyMlp | None:
    space, output = actor.observation_space, _output(actor)
    if output is None or not isinstance(space, spaces.Box) or is_image(space):
        return None
    shift, scale = None, None
    extractor = getattr(actor, "features_extractor", None)
    if isinstance(extractor, ObservationNormalizer):
        shift, scale = extractor.shift_and_scale()
        extractor = extractor.extractor
    if type(extractor) is not FlattenExtractor:
        return None
    modules = _flatten_modules(getattr(actor, "latent_pi", None)) + _flatten_modules(getattr(actor, "mu", None))
    plan = _plan(modules, squash_mean=hasattr(actor, "latent_pi"))
    if plan is None:
        return None
    positions, position = {}, 0
    for _, parameter in searched_parameters(actor):
        positions[id(parameter)] = position
        position += parameter.numel()
    layers: list[tuple[tuple[int, int], int, int | None]] = [
        (
            (linear.out_features, linear.in_features),
            positions[id(linear.weight)],
            None if linear.bias is None else positions[id(linear.bias)],
        )
        for linear, _ in plan
    ]
    kind, low, high = output
    return NumpyMlp(layers, [name for _, name in plan], low, high, shift, scale, kind)


def _flatten_modules(module: th.nn.Module | None) -> list[th.nn.Module]:
    if module is None:
        return []
    if isinstance(module, th.nn.Sequential):
        return [leaf for child in module for leaf in _flatten_modules(child)]
    return [module]


def _plan(modules: list[th.nn.Module], *, squash_mean: bool) -> list[tuple[th.nn.Linear, str]] | None:
    """Pair each linear layer with what follows it, None if something is not understood."""
    plan: list[tuple[th.nn.Linear, str]] = []
    names = {th.nn.ReLU: "relu", th.nn.Tanh: "tanh"}
    for module in modules:
        if type(module) is th.nn.Linear:
            plan.append((module, "identity"))
        elif type(module) in names and plan and plan[-1][1] == "identity":
            plan[-1] = (plan[-1][0], names[type(module)])
        elif type(module) is th.nn.Hardtanh and (module.min_val, module.max_val) == (-2.0, 2.0) and squash_mean:
            plan[-1] = (plan[-1][0], "clip_tanh")
        else:
            return None
    if not plan:
        return None
    if squash_mean and plan[-1][1] == "identity":
        plan[-1] = (plan[-1][0], "tanh")
    return plan
