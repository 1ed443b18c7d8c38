"""Keeps a simulator's notes away from terminal and working directory."""

import sys
from importlib.util import find_spec


def quieten_mujoco() -> None:
    """Drop MuJoCo's notes on outdated model files, one per environment; other warnings go to stderr, none to a file."""
    if find_spec("mujoco") is None:
        return
    import mujoco

    def warn(message: str) -> None:
        if "deprecated" not in message:
            print(f"MuJoCo: {message}", file=sys.stderr)

    mujoco.set_mju_user_warning(warn)
