"""
The scripts of rl-zoo3, with the algorithms of this package: ``python -m sb3_esac.zoo train --algo esac --env HalfCheetah-v5``.

All flags are the zoo's. ``train --paper`` takes the hyperparameters of the paper.
"""

import argparse
import importlib
import os
import runpy
import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

from sb3_esac.quiet import quieten_mujoco
from sb3_esac.zoo.files import hyperparameter_file

SCRIPTS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "record_video": "rl_zoo3.record_video",
    "all_plots": "rl_zoo3.plots",
    "plot_train": "rl_zoo3.plots",
    "plot_from_file": "rl_zoo3.plots",
    "load_from_hub": "rl_zoo3.load_from_hub",
}
"""Where each script is."""

PAPER = "--paper"
"""Stands for a file of hyperparameters."""

PLOTS = ("all_plots", "plot_train", "plot_from_file")


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run one of the zoo's scripts.

    :param arguments: Name of the script and its arguments; None for the command line.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in SCRIPTS:
        names = ", ".join(SCRIPTS)
        if given and given[0] not in ("-h", "--help"):
            sys.exit(f"esac-zoo: unknown script {given[0]!r}, it must be one of {names}")
        print(f"{__doc__}\nScripts: {names}. Each has a --help of its own.")
        return
    script, rest = given[0], given[1:]
    if find_spec("rl_zoo3") is None:
        sys.exit('esac-zoo: rl_zoo3 is needed: pip install "sb3_esac[zoo]"')
    _prepare_rendering(script, rest)
    quieten_mujoco()

    from sb3_esac.zoo import register

    register()
    if script == "train":
        rest = _with_preset(rest)
    if script == "record_video":
        rest = _with_camera(rest)
    _check_dm_control(rest)
    before = sys.argv
    sys.argv = [f"esac-zoo {script}", *rest]
    try:
        _run(script)
    finally:
        sys.argv = before


def _run(script: str) -> None:
    if script in PLOTS and os.environ.get("MPLBACKEND") == "Agg":
        _save_instead_of_showing(script)
    # A function where there is one: worker processes import the main module once more, and this one is light.
    if script in ("train", "enjoy", *PLOTS):
        getattr(importlib.import_module(SCRIPTS[script]), script)()
        return
    with warnings.catch_warnings():
        # That the module is imported already does no harm.
        warnings.filterwarnings("ignore", message=".*found in sys.modules.*", category=RuntimeWarning)
        runpy.run_module(SCRIPTS[script], run_name="__main__", alter_sys=True)


def _save_instead_of_showing(script: str) -> None:
    """Where there is no screen, write figures that would be shown into the working directory."""
    from matplotlib import pyplot as plt

    def show(*args: object, **kwargs: object) -> None:
        for number in plt.get_fignums():
            plt.figure(number).savefig(f"{script}_{number}.png", dpi=120, bbox_inches="tight")
            print(f"No display: figure saved to {script}_{number}.png")
        plt.close("all")

    plt.show = show


def _value_of(flag: str, arguments: list[str]) -> str:
    """Find what a command line says after a flag, "" if it does not."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, default="", dest="value")
    value: str = parser.parse_known_args(arguments)[0].value
    return value


def _with_preset(arguments: list[str]) -> list[str]:
    """Replace ``--paper`` by the file that it stands for."""
    if PAPER not in arguments:
        return arguments
    rest = [argument for argument in arguments if argument != PAPER]
    algorithm = _value_of("--algo", rest)
    if algorithm != "esac":
        sys.exit(f"esac-zoo: {PAPER} is for --algo esac, not {algorithm!r}")
    if {"-conf", "--conf-file"} & {argument.partition("=")[0] for argument in rest}:
        sys.exit(f"esac-zoo: {PAPER} stands for a file of hyperparameters: leave out either {PAPER} or -conf")
    return [*rest, "-conf", str(hyperparameter_file("esac_paper"))]


def _with_camera(arguments: list[str]) -> list[str]:
    """Let the camera follow the one robot of gymnasium that would run out of the picture."""
    if _value_of("--env", arguments) == "HalfCheetah-v5" and not _value_of("--env-kwargs", arguments):
        return [*arguments, "--env-kwargs", "camera_name:'track'"]
    return arguments


def _prepare_rendering(script: str, arguments: list[str]) -> None:
    """Choose how MuJoCo renders, before anybody imports it: not at all while training, without a screen for videos."""
    if script == "record_video":
        _choose_renderer(arguments)
    elif script in ("train", *PLOTS) or "--no-render" in arguments:
        os.environ.setdefault("MUJOCO_GL", "disable")
    if script in PLOTS and not os.environ.get("DISPLAY"):
        os.environ.setdefault("MPLBACKEND", "Agg")


def _choose_renderer(arguments: list[str]) -> None:
    """By EGL or OSMesa, whichever works here, unless ``MUJOCO_GL`` says otherwise."""
    from sb3_esac.recording.rendering import NoRendererError, choose_renderer

    try:
        choose_renderer(_value_of("--env", arguments))
    except NoRendererError as error:
        sys.exit(f"esac-zoo: {error}")


def _check_dm_control(arguments: list[str]) -> None:
    wants = any(argument.removeprefix("--env=").startswith("dm_control/") for argument in arguments)
    if wants and (find_spec("shimmy") is None or find_spec("dm_control") is None):
        sys.exit('esac-zoo: DM Control is needed: pip install "sb3_esac[dmc]"')
