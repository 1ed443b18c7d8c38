"""The gradient agent: a stock off-policy algorithm of SB3, built from ESAC's arguments, saved as if ESAC were not there."""

import copy
import inspect
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch as th
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_esac.agent.sharing import SharedExperience, shared
from sb3_esac.evaluation.first_layers import fold
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evaluation.observations import normalized_policy_kwargs, parameters_of

if TYPE_CHECKING:
    from sb3_esac.hybrid import HybridAlgorithm

AGENT_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(SAC.__init__).parameters.items()
    if name not in ("self", "policy", "env", "_init_setup_model")
} | {"learning_rate": 1e-3, "batch_size": 128, "tau": 0.01}
"""The first arguments of ESAC, which are SAC's, and their defaults. Three differ from SAC's (docs/defaults.md)."""

POPULATION_STORE_SIZE = 300_000
"""Most transitions of the population that are kept; older ones come from worse policies."""


DEFAULT_NETWORK: dict[str, Any] = {"net_arch": {"pi": [64, 64], "qf": [128, 128]}, "activation_fn": th.nn.ReLU}
"""Networks of SAC's ``MlpPolicy`` unless the user says something else: an actor small enough for evolution to search."""


def make_agent(model: "HybridAlgorithm") -> OffPolicyAlgorithm:
    """
    Build the agent from the arguments of an ESAC model.

    :param model: The model; its spaces and ``n_envs`` are known, its ``env`` may be None.
    :return: An agent on the model's environment, with networks and replay buffer.
    """
    arguments = _accepted_arguments(model)
    if isinstance(arguments["train_freq"], list):
        # A zip file knows no tuples.
        arguments["train_freq"] = tuple(arguments["train_freq"])
    arguments["policy_kwargs"] = _agent_policy_kwargs(model)
    # SB3 adds to it.
    arguments["replay_buffer_kwargs"] = copy.copy(arguments["replay_buffer_kwargs"])
    arguments.update(verbose=0, tensorboard_log=None, seed=None, device=model.device)
    own = _own_arguments(model.agent_class)
    for name in model.agent_kwargs:
        if name not in own:
            raise ValueError(
                f"`agent_kwargs` has {name!r}, which `agent_class={model.agent_class.__name__}` does not take beside SAC's "
                f"arguments: it takes {', '.join(map(repr, own)) or 'no others'}"
            )
    arguments.update(model.agent_kwargs)
    if model.env is None:
        # A model that was loaded to be watched needs no memory; `make_room` follows if it is to learn.
        arguments["buffer_size"] = model.n_envs
    agent_class = cast(Any, model.agent_class)
    agent: OffPolicyAlgorithm = agent_class(model.policy_class, model.env, **arguments, _init_setup_model=False)
    agent.observation_space, agent.action_space, agent.n_envs = model.observation_space, model.action_space, model.n_envs
    agent.verbose, agent.seed = model.verbose, None
    if getattr(agent, "target_entropy", None) == "auto":
        # SAC reads the action space from `env`, which a model loaded without one has not.
        agent.target_entropy = float(-np.prod(model.action_space.shape))  # type: ignore[attr-defined, arg-type]
    agent._setup_model()
    _check_extractor(agent)
    share_experience(model, agent).is_placeholder = model.env is None
    agent.buffer_size = model.buffer_size
    return agent


def make_room(model: "HybridAlgorithm", agent: OffPolicyAlgorithm) -> None:
    """
    Give an agent that was made without environment the replay buffer it would have had, unless one has been loaded.

    :param model: The model, which has an environment now.
    :param agent: Its agent.
    """
    buffer = agent.replay_buffer
    if not (isinstance(buffer, SharedExperience) and buffer.is_placeholder):
        return
    agent.replay_buffer = _new_buffer(agent, agent.buffer_size, agent.n_envs)
    share_experience(model, agent)


def check_accepted(model: "HybridAlgorithm") -> None:
    """
    Check that nothing was said to the agent that it does not take.

    :param model: The model, whose attributes the arguments are.
    :raises ValueError: If an argument of SAC's that is none of the agent's is not at its default.
    """
    _accepted_arguments(model)


def _accepted_arguments(model: "HybridAlgorithm") -> dict[str, Any]:
    accepted = parameters_of(model.agent_class)
    arguments = {}
    for name, default in AGENT_DEFAULTS.items():
        value = getattr(model, name)
        if name in accepted:
            arguments[name] = value
        elif value != default and name not in ("policy_kwargs", "device"):
            raise ValueError(
                f"`{name}={value!r}` is not an argument of `agent_class={model.agent_class.__name__}`: leave it at {default!r}"
            )
    return arguments


def arguments_of(donor: OffPolicyAlgorithm) -> dict[str, Any]:
    """
    Read back the arguments that an agent was made with.

    :param donor: A plain agent.
    :return: Those of its arguments that ESAC knows.
    """
    names = AGENT_DEFAULTS.keys() & parameters_of(type(donor)).keys() - {"seed", "device"}
    arguments = {name: getattr(donor, name) for name in names if hasattr(donor, name)}
    assert isinstance(donor.train_freq, TrainFreq)
    arguments["train_freq"] = (donor.train_freq.frequency, donor.train_freq.unit.value)
    arguments["stats_window_size"] = donor._stats_window_size
    if donor.replay_buffer_class in (ReplayBuffer, DictReplayBuffer) or donor.n_steps > 1:
        arguments["replay_buffer_class"] = None
    # Its networks, not ESAC's own default.
    networks = {name: getattr(donor.policy, name) for name in ("net_arch", "activation_fn") if hasattr(donor.policy, name)}
    arguments["policy_kwargs"] = {**networks, **donor.policy_kwargs}
    arguments["agent_kwargs"] = {name: getattr(donor, name) for name in _own_arguments(type(donor)) if hasattr(donor, name)}
    return arguments


def _own_arguments(agent_class: type[OffPolicyAlgorithm]) -> list[str]:
    """Arguments of an algorithm that SAC does not have."""
    return [
        name
        for name in parameters_of(agent_class)
        if name not in ("self", "policy", "env", "_init_setup_model", *AGENT_DEFAULTS)
    ]


def _agent_policy_kwargs(model: "HybridAlgorithm") -> dict[str, Any]:
    kwargs = copy.copy(model.policy_kwargs)
    if model.policy_class is SAC.policy_aliases["MlpPolicy"]:
        if not {"net_arch", "activation_fn"} & kwargs.keys():
            kwargs.update(DEFAULT_NETWORK)
        if not {"optimizer_class", "optimizer_kwargs"} & kwargs.keys():
            # Adam in one kernel: small networks wait for the interpreter otherwise.
            kwargs["optimizer_kwargs"] = {"fused": True}
    return normalized_policy_kwargs(model, kwargs)


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


def share_experience(model: "HybridAlgorithm", agent: OffPolicyAlgorithm) -> SharedExperience:
    """
    Give the agent's replay buffer the population's store.

    :param model: The model.
    :param agent: Its agent, whose ``replay_buffer`` is the one that is used.
    :return: The buffer.
    """
    assert agent.replay_buffer is not None
    buffer = agent.replay_buffer
    has_store = isinstance(buffer, SharedExperience) and buffer.population_store is not None
    store = None if has_store or model.share_experience == 0 else _population_store(agent)
    return shared(buffer, store, model.share_experience)


def _population_store(agent: OffPolicyAlgorithm) -> ReplayBuffer:
    return _new_buffer(agent, min(agent.buffer_size, POPULATION_STORE_SIZE), 1)


def _new_buffer(agent: OffPolicyAlgorithm, size: int, n_envs: int) -> ReplayBuffer:
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


def plain_agent(agent: OffPolicyAlgorithm) -> OffPolicyAlgorithm:
    """
    Copy an agent into one that needs no ``sb3_esac``: observation statistics are folded into the first layers.

    :param agent: The agent of an ESAC model.
    :return: The same agent if it normalises nothing, otherwise a new one that acts and judges alike.
    """
    if not normalizers(agent.policy):
        return agent
    extractor_kwargs = agent.policy_kwargs["features_extractor_kwargs"]
    twin = copy.copy(agent)
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


def _optimizer_pairs(agent: Any, twin: Any) -> list[tuple[th.optim.Optimizer, th.optim.Optimizer]]:
    return [(agent.actor.optimizer, twin.actor.optimizer), (agent.critic.optimizer, twin.critic.optimizer)]
