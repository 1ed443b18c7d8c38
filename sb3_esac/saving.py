"""
A model in a file: what it holds, what is checked before it is loaded.

SB3 saves attributes, and parameters by name; beside them a file has ``state_dict`` of each part, and for a model that is in
the middle of a generation where that began (:mod:`sb3_esac.boundary`), to be gone back to on resume.
"""

import difflib
import io
import json
import pathlib
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import cloudpickle
from stable_baselines3.common.save_util import json_to_data, open_path

from sb3_esac.boundary import NOISE, PendingBoundary, heed_sigma
from sb3_esac.removed import REMOVED, refuse_removed

STATE = "_state"
"""Attribute of a saved model: the states of its parts."""

BOUNDARY = "_boundary_state"
"""Attribute of a saved model that was in the middle of a generation."""

OPERATORS = "_operators"
"""Attribute of a saved model whose operators are not those that its arguments ask for."""

OF_VERSION_0_1 = "population_timesteps"
"""Attribute of every model that version 0.1 has saved, and of no other."""

OF_PARAMETERS = ("agent_class", "ent_coef", "normalize_observations", "use_sde")
"""Arguments that decide which parameters there are, or are one themselves: those of a file stay."""


class Part(Protocol):
    """What a model is made of."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that it needs to go on as if it had never been saved."""

    def load_state_dict(self, state: Any) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """


def read_attributes(path: str | pathlib.Path | io.BufferedIOBase) -> dict[str, Any]:
    """
    Read how a file describes the attributes of its model, without unpickling them: they may need modules that are gone.

    :param path: The file.
    :return: By name; nothing if it is no zip file, or has none.
    """
    file = open_path(path, "r", suffix="zip")
    try:
        with zipfile.ZipFile(file) as archive:
            found: dict[str, Any] = json.loads(archive.read("data")) if "data" in archive.namelist() else {}
            return found
    except zipfile.BadZipFile:
        # SB3 says so.
        return {}
    finally:
        if file is path:
            file.seek(0)
        else:
            file.close()


def check_form(path: str | pathlib.Path | io.BufferedIOBase, arguments: Mapping[str, Any], known: Collection[str]) -> None:
    """
    Check that a file is not of another form.

    :param path: What is to be loaded.
    :param arguments: Those that are to take the place of the saved ones, by name.
    :param known: Names of the algorithm's arguments.
    :raises ValueError: If another algorithm or version 0.1 of this package has written it, its networks have been built with
        other arguments, or it knows nothing of one of the arguments.
    """
    saved = read_attributes(path)
    if OF_VERSION_0_1 in saved:
        way = " To go on with its agent here, save `model.agent` there, and use `ESAC.from_agent`."
        raise ValueError(
            "The file was saved by sb3_esac 0.1, whose models have another form: load it with `pip install sb3_esac==0.1.0`."
            + way * ("agent_class" in saved)
        )
    if saved and STATE not in saved:
        way = ": `ESAC.from_agent` begins a model with an agent of SB3's" * ("agent_class" in known)
        raise ValueError(f"The file holds a model of another package{way}")
    if saved and ("agent_class" in saved) != ("agent_class" in known):
        held, asked = ("ESAC", "ES") if "agent_class" in saved else ("ES", "ESAC")
        raise ValueError(f"The file holds a model of {held}, not of {asked}: load it with `{held}.load`")
    refuse_removed(REMOVED, arguments)
    # ES has one for SB3's sake, and overwrites it.
    attributes = saved.keys() - {"learning_rate"}
    for name in arguments.keys() - known - attributes if saved else ():
        near = ", ".join(f"`{other}`" for other in difflib.get_close_matches(name, known)) or "another name"
        raise ValueError(f"`{name}={arguments[name]!r}` is no argument of the model in the file: pass {near}, or leave it out")
    for name in OF_PARAMETERS:
        given = arguments.get(name)
        if name not in saved or given is None:
            continue
        held = json_to_data(json.dumps({name: saved[name]}))[name]
        # By name, as a class of `__main__` is another object after unpickling.
        if given != held and repr(given) != repr(held):
            raise ValueError(
                f"`{name}={given!r}` cannot be given to `load`, since the parameters in the file belong to "
                f"{held!r}: pass it to the constructor, and train anew"
            )


@contextmanager
def attached(model: Any, exclude: Iterable[str]) -> Iterator[None]:
    """
    Let a model have the states of its parts as attributes while it is saved.

    :param model: The model.
    :param exclude: Attributes that are not saved.
    """
    model._prepare_to_save()
    pending = model._pending
    if pending is not None and model._boundary is None and not pending.is_untouched(model):
        pending.begin_again(model)
    apart = set(model._get_torch_save_params()[0])
    content = {"sigma": None if callable(model.sigma) else model.sigma}
    content |= {name: part.state_dict() for name, part in model.parts.items() if name not in apart}
    # As bytes, because SB3 writes a description of everything else.
    setattr(model, STATE, cloudpickle.dumps(content))
    if model._boundary is not None:
        setattr(model, BOUNDARY, model._boundary.dump(model, exclude))
    elif model._pending is not None and model._pending.is_untouched(model):
        setattr(model, BOUNDARY, pending.content_for(model))
    try:
        yield
    finally:
        for name in (STATE, BOUNDARY, OPERATORS):
            vars(model).pop(name, None)


def restore(model: Any, given: Collection[str]) -> None:
    """
    Give the parts of a model that has just been loaded their states.

    :param model: The model, with the attributes of the file.
    :param given: Names of arguments that have taken the place of those of the file.
    """
    content = cloudpickle.loads(vars(model).pop(STATE))
    sigma = content.pop("sigma")
    for name, state in content.items():
        model.parts[name].load_state_dict(state)
    heed_sigma(model, sigma)
    boundary = vars(model).pop(BOUNDARY, None)
    if boundary is not None:
        model._pending = PendingBoundary.of(model, boundary, has_other_noise=NOISE in given)
