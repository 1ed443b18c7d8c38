"""rl-zoo3: the commands that its users know, for the algorithms of this package."""

from importlib import import_module
from typing import Any

_HOMES = {"ExperimentManager": "manager", "hyperparameter_file": "files", "register": "registration"}

__all__ = ["ExperimentManager", "hyperparameter_file", "register"]


def __getattr__(name: str) -> Any:
    # Only who asks for something needs rl_zoo3: the entry point can say so in a line, and chooses how to render before.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
