"""How a vector plays: the fastest forward that gives what ``predict`` would give."""

import copy
from typing import Any, Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor, NatureCNN
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.numpy_cnn import NumpyCnn
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies
from sb3_esac.evaluation.vec_envs import is_image
from sb3_esac.evaluation.vectors import copy_actor, load_vector, searched_parameters, to_vector
from sb3_esac.evaluation.virtual_batch_norm import VirtualBatchNormCNN, convolution_at


class Player(Protocol):
    """How a vector plays. It is pickled on its way to workers."""

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one observation to one action.
        """

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes.

        :param env: The lanes.
        :param together: Whether one forward for all lanes, if there is one, is worth its last digits, which are not those of a
            single one.
        """


def _output(actor: BasePolicy) -> tuple[str, np.ndarray, np.ndarray] | None:
    """What SB3 does with an actor's output, and the bounds of its actions; None if that is not known."""
    space = actor.action_space
    if isinstance(space, spaces.Discrete):
        return "argmax", np.array(space.start), np.array(space.start + space.n)
    if isinstance(space, spaces.Box):
        return "scale" if actor.squash_output else "clip", space.low, space.high
    return None


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

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes, which act one by one.

        :param env: The lanes.
        :param together: Not used.
        """
        return SinglePolicies(self.bind, env)


def make_player(actor: BasePolicy, like: Player | None = None) -> Player:
    """
    Choose the fastest forward that plays what ``predict(deterministic=True)`` would play.

    :param actor: Actor; its statistics (normalisation, batch norm) are taken as they are now.
    :param like: Player of an actor that this one copies, except for parameters and statistics: nothing is compared again.
    :return: A picklable player.
    """
    candidate = None if isinstance(like, TorchActor) else _numpy_mlp(actor) or _numpy_cnn(actor)
    if candidate is None or (like is None and not _agrees(candidate, actor)):
        return TorchActor(actor)
    return candidate


N_DRAWS = 30
"""Networks of discrete actions that are drawn for a comparison, in which a wrong one passes by chance."""

SCALES = (0.05, 0.05, 0.5)
"""Of the weights of networks of continuous actions that are drawn: a limit, or a term that is zero at birth, shows then."""


def _agrees(candidate: NumpyMlp | NumpyCnn, actor: BasePolicy) -> bool:
    """Compare with the torch actor, so that a subclass with another forward is not mistaken for a plain one."""
    reference = copy_actor(actor)
    rng = np.random.Generator(np.random.Philox(0))
    vector = to_vector(reference)
    act, span = candidate.bind(vector), candidate.high - candidate.low
    scales: tuple[float, ...] = (0.0, *SCALES) if isinstance(candidate, NumpyMlp) else (0.0, *SCALES[:2])
    if candidate.output == "argmax":
        # A network as it is born says the same to all observations.
        scales = (SCALES[0],) * (N_DRAWS if vector.size < 100_000 else N_DRAWS // 3)
    n_looks = 1
    if isinstance(candidate, NumpyCnn) and candidate.normalization is not None:
        # Each network has its batch to go through first.
        scales, n_looks = (SCALES[0],) * 2, N_DRAWS // 6
    for scale in scales:
        if scale > 0:
            vector = scale * rng.standard_normal(vector.size, dtype=np.float32)
            load_vector(reference, vector)
            act = candidate.bind(vector)
        for observation in [_some_observation(actor.observation_space, rng) for _ in range(n_looks)]:
            expected = reference.predict(observation, deterministic=True)[0]
            if not np.allclose((act(observation) - expected) / span, 0.0, atol=1e-4):
                return False
    return True


def _some_observation(space: Any, rng: np.random.Generator) -> np.ndarray:
    if is_image(space):
        pixels: np.ndarray = rng.integers(256, size=space.shape, dtype=np.uint8)
        return pixels
    drawn: np.ndarray = rng.standard_normal(space.shape).astype(space.dtype)
    return drawn


def _numpy_mlp(actor: BasePolicy) -> NumpyMlp | None:
    space = actor.observation_space
    if not isinstance(space, spaces.Box) or is_image(space):
        return None
    shift, scale = None, None
    extractor = getattr(actor, "features_extractor", None)
    if isinstance(extractor, ObservationNormalizer):
        shift, scale = extractor.shift_and_scale()
        extractor = extractor.extractor
    if type(extractor) is not FlattenExtractor:
        return None
    return _perceptron(actor, [], shift, scale)


def _numpy_cnn(actor: BasePolicy) -> NumpyCnn | None:
    extractor: Any = getattr(actor, "features_extractor", None)
    if type(extractor) not in (NatureCNN, VirtualBatchNormCNN) or not is_image(actor.observation_space):
        return None
    *layers, last = extractor.cnn
    convolutions = layers[::2]
    plain = all(
        type(each) is th.nn.Conv2d
        and each.bias is not None
        and {each.padding, each.dilation, each.groups} <= {(0, 0), (1, 1), 1}
        for each in convolutions
    )
    if not plain or any(type(each) is not th.nn.ReLU for each in layers[1::2]) or type(last) is not th.nn.Flatten:
        return None
    head = _perceptron(actor, _flatten_modules(extractor.linear), None, None)
    if head is None:
        return None
    at = _positions(actor)
    if any(id(each) not in at for each in extractor.parameters()):
        return None
    image: Any = actor.observation_space.shape
    planned = [convolution_at(each, at) for each in convolutions]
    normalization = extractor.normalization(at) if isinstance(extractor, VirtualBatchNormCNN) else None
    return NumpyCnn(image, 255.0 if getattr(actor, "normalize_images", True) else 1.0, planned, head, normalization)


def _positions(actor: BasePolicy) -> dict[int, int]:
    """Where each parameter begins in the vector, by its id."""
    positions, position = {}, 0
    for _, parameter in searched_parameters(actor):
        positions[id(parameter)] = position
        position += parameter.numel()
    return positions


def _perceptron(
    actor: BasePolicy, before: list[th.nn.Module], shift: np.ndarray | None, scale: np.ndarray | None
) -> NumpyMlp | None:
    """
    Plan an actor's perceptron.

    :param actor: The actor.
    :param before: Modules that come before its own.
    :param shift: Subtracted from inputs.
    :param scale: What they are divided by then.
    :return: None if something is not understood.
    """
    modules = [*before, *_flatten_modules(getattr(actor, "latent_pi", None)), *_flatten_modules(getattr(actor, "mu", None))]
    plan, output, positions = _plan(modules, squash_mean=hasattr(actor, "latent_pi")), _output(actor), _positions(actor)
    if plan is None or output is None or any(id(each) not in positions for linear, _ in plan for each in linear.parameters()):
        return None
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
