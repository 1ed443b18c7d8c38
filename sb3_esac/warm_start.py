"""A model that begins where a trained plain agent ended."""

import io
import pathlib
from collections.abc import Callable
from typing import Any, TypeVar

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv

from sb3_esac import validation
from sb3_esac.agent.building import arguments_of
from sb3_esac.arguments import defaults_of
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.saving import STATE, read_attributes

Model = TypeVar("Model")

NO_BUFFER = "a donor needs none"
"""Instead of a replay buffer: SB3 makes one where there is none, and a ``HerReplayBuffer`` only beside an environment."""


def begin_from_agent(
    model_class: Callable[..., Model],
    path: str | pathlib.Path | io.BufferedIOBase,
    env: GymEnv | str,
    agent_class: type[OffPolicyAlgorithm],
    kwargs: dict[str, Any],
) -> Model:
    """
    Make a model whose agent and mean are a trained agent: see :meth:`sb3_esac.ESAC.from_agent`.

    :param model_class: What is made.
    :param path: Zip file that ``agent_class.save`` wrote.
    :param env: Environment to go on with.
    :param agent_class: What the file holds.
    :param kwargs: Arguments of the model, which come before those of the file.
    :return: The model.
    :raises ValueError: If the file holds no model of ``agent_class``, an argument is not what it may be, or
        ``normalize_observations`` is asked for.
    """
    if kwargs.get("normalize_observations"):
        raise ValueError("`normalize_observations` must be False for a plain agent, whose networks expect raw observations")
    kwargs["normalize_observations"] = False
    if STATE in read_attributes(path):
        raise ValueError("The file holds a model of this package, not an agent: load it, or save its `model.agent`")
    try:
        donor = agent_class.load(path, device=kwargs.get("device", "auto"), replay_buffer=NO_BUFFER)
    except (AttributeError, KeyError, RuntimeError, TypeError) as error:
        name = agent_class.__name__
        raise ValueError(
            f"`{name}.load` cannot load the file ({error}): pass the class that saved it as `agent_class`"
        ) from error
    donated = validation.effective(validation.EFFECTS, defaults_of(model_class), arguments_of(donor), kwargs)
    model: Any = model_class(donor.policy_class, env, agent_class=agent_class, **{**donated, **kwargs})
    model.agent.set_parameters(donor.get_parameters())
    for name in donor._get_torch_save_params()[1]:
        if getattr(donor, name, None) is not None:
            getattr(model.agent, name).data = getattr(donor, name).data
    model.learner.restart_average()
    model.population.set_mean(to_vector(model.actor))
    made: Model = model
    return made
