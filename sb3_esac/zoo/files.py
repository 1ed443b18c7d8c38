"""Where the hyperparameters are: in the wheel beside this module, in a checkout at its top."""

from pathlib import Path

FOLDERS = (Path(__file__).parent / "hyperparams", Path(__file__).parents[2] / "hyperparams")


def hyperparameter_file(name: str) -> Path:
    """
    Find a file of hyperparameters.

    :param name: Its name without the ending: "esac", "esac_paper", "es".
    :return: The YAML file, in the form of rl-zoo3.
    :raises FileNotFoundError: If there is none; the message lists those that there are.
    """
    for folder in FOLDERS:
        path = folder / f"{name}.yml"
        if path.is_file():
            return path
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yml")})
    raise FileNotFoundError(f"There are no hyperparameters called {name!r}: there are {', '.join(known) or 'none'}")
