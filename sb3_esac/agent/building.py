"""The gradient agent: a stock off-policy algorithm of SB3, built from ESAC's arguments, saved as if ESAC were not there."""

import copy
import functools
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_esac.agent.sharing import SharedExperience, shared
from sb3_esac.evaluation.first_layers import first_layers, fold
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evaluation.observations import normalized_policy_kwargs, parameters_of
from sb3_esac.evaluation.vectors import fix_searched

AGENT_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(SAC.__init__).parameters.items()
    if name not in ("self", "policy", "env", "_init_setup_model")
} | {"learning_rate": 1e-3, "learning_starts": 2000, "batch_size": 128, "tau": 0.01}
"""The first arguments of ESAC, which are SAC's, and their defaults. Four differ from SAC's (docs/defaults.md)."""

POPULATION_STORE_SIZE = 300_000
"""Most transitions of the population that are kept; older ones come from worse policies."""


DEFAULT_NETWORK: dict[str, Any] = {"net_arch": {"pi": [64, 64], "qf": [128, 128]}, "activation_fn": th.nn.ReLU}
"""Networks of SAC's ``MlpPolicy`` unless the user says something else: an actor small enough for evolution to search."""


@dataclass(frozen=True)
class AgentSpec:
    """
    What an agent is made of.

    :param agent_class: Off-policy algorithm of SB3.
    :param agent_kwargs: Its arguments that SAC does not have.
    :param policy_class: Class of its policy.
    :param arguments: ESAC's first arguments by name, which are SAC's.
    :param normalize_observations: Whether the policy normalises.
    :param observation_space: Observation space.
    :param action_space: Action space.
    :param env: Environment; None for a model that is loaded to be watched.
    :param n_envs: Number of its lanes.
    :param device: Device of the networks.
    """

    agent_class: type[OffPolicyAlgorithm]
    agent_kwargs: dict[str, Any]
    policy_class: type[BasePolicy]
    arguments: dict[str, Any]
    normalize_observations: bool
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    env: VecEnv | None
    n_envs: int
    device: th.device


def make_agent(spec: AgentSpec) -> OffPolicyAlgorithm:
    """
    Build an agent.

    :param spec: What it is made of.
    :return: An agent on the environment, with networks and replay buffer; without an environment the buffer is a placeholder.
    """
    accepted = accepted_arguments(spec.agent_class, spec.arguments)
    buffer_size = accepted["buffer_size"]
    if isinstance(accepted["train_freq"], list):
        # A zip file knows no tuples.
        accepted["train_freq"] = tuple(accepted["train_freq"])
    accepted["policy_kwargs"] = _agent_policy_kwargs(spec)
    # SB3 adds to it.
    accepted["replay_buffer_kwargs"] = copy.copy(accepted["replay_buffer_kwargs"])
    accepted.update(verbose=0, tensorboard_log=None, seed=None, device=spec.device)
    _check_own_arguments(spec)
    accepted.update(spec.agent_kwargs)
    if spec.env is None:
        # It needs no memory; `make_room` follows if it is to learn.
        accepted["buffer_size"] = spec.n_envs
    agent_class = cast(Any, saved_as_plain(spec.agent_class) if spec.normalize_observations else spec.agent_class)
    agent: OffPolicyAlgorithm = agent_class(spec.policy_class, spec.env, **accepted, _init_setup_model=False)
    agent.observation_space, agent.action_space, agent.n_envs = spec.observation_space, spec.action_space, spec.n_envs
    agent.verbose, agent.seed = spec.arguments["verbose"], None
    if getattr(agent, "target_entropy", None) == "auto":
        # SAC reads the action space from `env`, which a model loaded without one has not.
        agent.target_entropy = float(-np.prod(spec.action_space.shape))  # type: ignore[attr-defined, arg-type]
    agent._setup_model()
    _check_extractor(agent)
    fix_searched(cast(Any, agent).actor)
    agent.buffer_size = buffer_size
    return agent


def make_room(agent: OffPolicyAlgorithm) -> None:
    """
    Give an agent that was made without environment the replay buffer it would have had, unless one has been loaded.

    :param agent: The agent, which has an environment now.
    """
    buffer = agent.replay_buffer
    if not isinstance(buffer, SharedExperience):
        return
    if buffer.is_placeholder:
        agent.replay_buffer = new_buffer(agent, agent.buffer_size, agent.n_envs)
    elif buffer.population_store is not None and buffer.population_store.buffer_size == 1:
        # A buffer has been loaded, but no store with it.
        buffer.population_store = None


def accepted_arguments(agent_class: type[OffPolicyAlgorithm], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Choose the arguments that an agent takes.

    :param agent_class: Its class.
    :param arguments: ESAC's first arguments by name, which are SAC's.
    :raises ValueError: If an argument of SAC's that is none of the agent's is not at its default.
    """
    accepted = parameters_of(agent_class)
    chosen = {}
    for name, default in AGENT_DEFAULTS.items():
        value = arguments[name]
        if name in accepted:
            chosen[name] = value
        elif value != default and name not in ("policy_kwargs", "device"):
            raise ValueError(
                f"`{name}={value!r}` is not an argument of `agent_class={agent_class.__name__}`: leave it at {default!r}"
            )
    return chosen


def _check_own_arguments(spec: AgentSpec) -> None:
    own = _own_arguments(spec.agent_class)
    for name in spec.agent_kwargs:
        if name not in own:
            raise ValueError(
                f"`agent_kwargs` has {name!r}, which `agent_class={spec.agent_class.__name__}` does not take beside SAC's "
                f"arguments: it takes {', '.join(map(repr, own)) or 'no others'}"
            )


def arguments_of(donor: OffPolicyAlgorithm) -> dict[str, Any]:
    """
    Read back the arguments that an agent was made with.

    :param donor: A plain agent.
    :return: Those of its arguments that ESAC knows.
    """
    names = AGENT_DEFAULTS.keys() & parameters_of(class_of(donor)).keys() - {"seed", "device"}
    arguments = {name: getattr(donor, name) for name in names if hasattr(donor, name)}
    assert isinstance(donor.train_freq, TrainFreq)
    arguments["train_freq"] = (donor.train_freq.frequency, donor.train_freq.unit.value)
    arguments["stats_window_size"] = donor._stats_window_size
    if donor.replay_buffer_class in (ReplayBuffer, DictReplayBuffer) or donor.n_steps > 1:
        arguments["replay_buffer_class"] = None
    # Its networks, not ESAC's own default.
    networks = {name: getattr(donor.policy, name) for name in ("net_arch", "activation_fn") if hasattr(donor.policy, name)}
    arguments["policy_kwargs"] = {**networks, **donor.policy_kwargs}
    arguments["agent_kwargs"] = {
        name: getattr(donor, name) for name in _own_arguments(class_of(donor)) if hasattr(donor, name)
    }
    return arguments


def _own_arguments(agent_class: type[OffPolicyAlgorithm]) -> list[str]:
    """Arguments of an algorithm that SAC does not have."""
    return [
        name
        for name in parameters_of(agent_class)
        if name not in ("self", "policy", "env", "_init_setup_model", *AGENT_DEFAULTS)
    ]


def _agent_policy_kwargs(spec: AgentSpec) -> dict[str, Any]:
    kwargs = copy.copy(spec.arguments["policy_kwargs"])
    if spec.policy_class is SAC.policy_aliases["MlpPolicy"]:
        if not {"net_arch", "activation_fn"} & kwargs.keys():
            kwargs.update(DEFAULT_NETWORK)
        if not {"optimizer_class", "optimizer_kwargs"} & kwargs.keys():
            # Adam in one kernel: small networks wait for the interpreter otherwise.
            kwargs["optimizer_kwargs"] = {"fused": True}
    if not spec.normalize_observations:
        return cast(dict[str, Any], kwargs)
    return normalized_policy_kwargs(spec.policy_class, kwargs, spec.observation_space)


def _check_extractor(agent: OffPolicyAlgorithm) -> None:
    actor = getattr(agent, "actor", None)
    if actor is None:
        raise ValueError(f"`agent_class={type(agent).__name__}` has no actor: use SAC, TD3, DDPG, TQC or CrossQ")
    extractor = getattr(actor, "features_extractor", None)
    is_shared = getattr(agent.policy, "share_features_extractor", False)
    if is_shared and extractor is not None and any(True for _ in extractor.parameters()):
        raise ValueError(
            "`share_features_extractor=True` would let the population change the critic's features extractor: "
            "pass `policy_kwargs=dict(share_features_extractor=False)`"
        )


def share_experience(agent: OffPolicyAlgorithm, share: float) -> SharedExperience:
    """
    Give the agent's replay buffer the population's store.

    :param agent: The agent; its ``replay_buffer`` becomes one with a store.
    :param share: Fraction of each batch that comes from the population, in [0, 1].
    :return: The buffer.
    """
    assert agent.replay_buffer is not None
    agent.replay_buffer = buffer = shared(agent.replay_buffer, None, share)
    if share > 0:
        add_store(agent, buffer)
    return buffer


def add_store(agent: OffPolicyAlgorithm, buffer: SharedExperience) -> ReplayBuffer:
    """
    Make the population's store unless it is there.

    :param agent: The agent.
    :param buffer: Its replay buffer.
    :return: The store.
    """
    if buffer.population_store is None:
        # A model that was loaded to be watched needs no memory.
        size = 1 if agent.env is None else min(agent.buffer_size, POPULATION_STORE_SIZE)
        buffer.population_store = new_buffer(agent, size, 1)
    return buffer.population_store


def new_buffer(agent: OffPolicyAlgorithm, size: int, n_envs: int) -> ReplayBuffer:
    """
    Make a buffer as the agent's arguments say.

    :param agent: The agent.
    :param size: Transitions that it holds.
    :param n_envs: Number of lanes.
    """
    assert agent.replay_buffer_class is not None
    kwargs = dict(agent.replay_buffer_kwargs)
    if issubclass(agent.replay_buffer_class, HerReplayBuffer):
        kwargs["env"] = agent.env
    return agent.replay_buffer_class(
        size,
        agent.observation_space,
        agent.action_space,
        device=agent.device,
        n_envs=n_envs,
        optimize_memory_usage=agent.optimize_memory_usage,
        **kwargs,
    )


class SavedAsPlain(OffPolicyAlgorithm):
    """Mixin that :func:`saved_as_plain` puts before an agent's class: what it saves is an agent that normalises nothing."""

    def save(self, *args: Any, **kwargs: Any) -> None:
        twin = plain_agent(self)
        type(twin).save(twin, *args, **kwargs)

    save.__doc__ = OffPolicyAlgorithm.save.__doc__

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Copy and pickle as an instance of the agent's class, which can be found by its name."""
        reduced: Any = super().__reduce_ex__(2)
        return _unpickled, (class_of(self),), *reduced[2:]


@functools.cache
def saved_as_plain(agent_class: type[OffPolicyAlgorithm]) -> type[OffPolicyAlgorithm]:
    """
    Derive the class of an agent that normalises observations: the files that it saves must not need this package.

    :param agent_class: Class of the agent.
    """
    return type(agent_class.__name__, (SavedAsPlain, agent_class), {"__module__": agent_class.__module__})


def _unpickled(agent_class: type[OffPolicyAlgorithm]) -> OffPolicyAlgorithm:
    return object.__new__(saved_as_plain(agent_class))


def class_of(agent: OffPolicyAlgorithm) -> type[OffPolicyAlgorithm]:
    """
    Tell the class that an agent was asked to be of.

    :param agent: The agent.
    """
    return type(agent).__mro__[2] if isinstance(agent, SavedAsPlain) else type(agent)


def plain_agent(agent: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    """
    Copy an agent into one that needs no ``sb3_esac``: observation statistics are folded into the first layers.

    :param agent: The agent of an ESAC model.
    :return: The same agent if it normalises nothing, otherwise a new one that acts and judges alike.
    """
    if not normalizers(agent.policy):
        return agent
    extractor_kwargs = agent.policy_kwargs["features_extractor_kwargs"]
    kind = class_of(agent)
    twin = kind.__new__(kind)
    twin.__dict__.update(agent.__dict__)
    twin.policy_kwargs = {k: v for k, v in agent.policy_kwargs.items() if not k.startswith("features_extractor_")}
    twin.policy_kwargs["features_extractor_class"] = extractor_kwargs["extractor_class"]
    if extractor_kwargs["extractor_kwargs"]:
        twin.policy_kwargs["features_extractor_kwargs"] = extractor_kwargs["extractor_kwargs"]
    twin.policy = agent.policy_class(agent.observation_space, agent.action_space, agent.lr_schedule, **twin.policy_kwargs)
    twin.policy = twin.policy.to(agent.device)
    inner, outer = "features_extractor.extractor.", "features_extractor."
    state = {name.replace(inner, outer): value for name, value in agent.policy.state_dict().items()}
    known = twin.policy.state_dict().keys()
    twin.policy.load_state_dict({name: value for name, value in state.items() if name in known})
    twin._create_aliases()  # type: ignore[attr-defined]
    for source, target in _optimizer_pairs(agent, twin):
        target.load_state_dict(source.state_dict())
    for part in ("actor", "critic", "critic_target", "actor_target"):
        if getattr(twin, part, None) is not None:
            fold(getattr(agent, part), getattr(twin, part))
    return twin


def can_fold(agent: OffPolicyAlgorithm) -> bool:
    """
    Whether :func:`plain_agent` can do without the normaliser of an agent.

    :param agent: An agent, trained or not.
    :return: False if something else than a linear layer reads features, as the batch normalisation of ``CrossQ``.
    """
    try:
        for part in ("actor", "critic"):
            if getattr(agent, part, None) is not None:
                first_layers(getattr(agent, part))
    except ValueError:
        return False
    return True


def _optimizer_pairs(agent: Any, twin: Any) -> list[tuple[th.optim.Optimizer, th.optim.Optimizer]]:
    return [(agent.actor.optimizer, twin.actor.optimizer), (agent.critic.optimizer, twin.critic.optimizer)]
