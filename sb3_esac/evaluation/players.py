"""How a vector plays: the fastest forward that gives what ``predict`` would give."""

import copy
from typing import Protocol

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies
from sb3_esac.evaluation.vec_envs import is_image
from sb3_esac.evaluation.vectors import copy_actor, load_vector, searched_parameters, to_vector


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
    :param like: Player of an actor that this one is a copy of, but for parameters and statistics: nothing is compared again.
    :return: A picklable player.
    """
    candidate = None if isinstance(like, TorchActor) else _numpy_mlp(actor)
    if candidate is None or (like is None and not _agrees(candidate, actor)):
        return TorchActor(actor)
    return candidate


def _agrees(candidate: NumpyMlp, actor: BasePolicy) -> bool:
    """Compare with the torch actor, so that a subclass with another forward is not mistaken for a plain one."""
    reference = copy_actor(actor)
    act = candidate.bind(to_vector(reference))
    rng = np.random.Generator(np.random.Philox(0))
    span = candidate.high - candidate.low
    # Discrete actions agree by chance.
    for _ in range(30 if candidate.output == "argmax" else 3):
        observation = rng.standard_normal(actor.observation_space.shape).astype(actor.observation_space.dtype)
        expected = reference.predict(observation, deterministic=True)[0]
        if not np.allclose((act(observation) - expected) / span, 0.0, atol=1e-4):
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
