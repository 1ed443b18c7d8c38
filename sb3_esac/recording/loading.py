"""Loads a saved model without being told of what algorithm it is, for playing alone."""

import importlib
import inspect
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file

from sb3_esac import ES, ESAC

LIBRARIES = ("sb3_esac", "stable_baselines3", "sb3_contrib")


def load_model(path: str | Path, algorithm: str | None = None, deploy: str | None = None) -> BaseAlgorithm:
    """
    Load a model to play it; no replay buffer is made.

    :param path: Zip file that ``save`` wrote.
    :param algorithm: Name of the algorithm, such as "sac"; None to find out from the file.
    :param deploy: For ES and ESAC: what ``predict`` plays, None for what the model was trained with.
    :return: The model, on the CPU.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}")
    try:
        data = load_from_zip_file(path, device="cpu")[0]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a model that Stable-Baselines3 saved: {error}") from error
    if not data or "policy_class" not in data:
        raise ValueError(f"{path} is not a model that Stable-Baselines3 saved")
    cls = algorithm_of(data) if algorithm is None else algorithm_called(algorithm)
    arguments: dict[str, Any] = {}
    if deploy is not None:
        if cls not in (ES, ESAC):
            raise ValueError(f"`deploy` is an argument of ES and ESAC, and this is a model of {cls.__name__}")
        arguments["deploy"] = deploy
    elif "buffer_size" in data and cls is not ESAC:
        # It is not going to learn.
        arguments["buffer_size"] = 1
    if data.get("replay_buffer_class") is not None:
        # Hindsight needs an environment.
        arguments |= {"replay_buffer_class": None, "replay_buffer_kwargs": {}}
    return cls.load(path, device="cpu", **arguments)


def algorithm_of(data: dict[str, Any]) -> type[BaseAlgorithm]:
    """
    Find out what algorithm a file is of.

    :param data: What the file says of the model, as ``load_from_zip_file`` gives it.
    :return: The class.
    """
    if "agent_class" in data:
        return ESAC
    home = data["policy_class"].__module__
    if home.startswith("sb3_esac."):
        return ES
    if home == "stable_baselines3.common.policies":
        return algorithm_called("ppo" if "clip_range" in data else "a2c")
    if home.split(".")[0] in LIBRARIES:
        # An algorithm stands in one package with its policies.
        package = importlib.import_module(home.rpartition(".")[0])
        found = [value for value in vars(package).values() if inspect.isclass(value) and issubclass(value, BaseAlgorithm)]
        if len(found) == 1:
            return found[0]
    raise ValueError(f"The model's policy, {data['policy_class'].__name__} of {home}, does not tell the algorithm: name it")


def algorithm_called(name: str) -> type[BaseAlgorithm]:
    """
    Look an algorithm up by its name.

    :param name: Its name in whatever case, such as "sac" or "TQC".
    :return: The class.
    """
    known = {}
    for library in LIBRARIES:
        try:
            module = importlib.import_module(library)
        except ImportError:
            continue
        for key, value in vars(module).items():
            if inspect.isclass(value) and issubclass(value, BaseAlgorithm):
                known[key.lower()] = value
    if name.lower() not in known:
        raise ValueError(f"`algorithm` must be one of {', '.join(map(repr, sorted(known)))}, not {name!r}")
    return known[name.lower()]
