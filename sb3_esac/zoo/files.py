"""Where the hyperparameters are (in the wheel beside this module, in a checkout at its top), and how they write schedules."""

from pathlib import Path

from stable_baselines3.common.utils import LinearSchedule

FOLDERS = (Path(__file__).parent / "hyperparams", Path(__file__).parents[2] / "hyperparams")


def hyperparameter_file(name: str) -> Path:
    """
    Find a file of hyperparameters.

    :param name: Its name without the ending: "esac", "esac_paper", "es".
    :return: The YAML file, in the form of rl-zoo3.
    """
    for folder in FOLDERS:
        path = folder / f"{name}.yml"
        if path.is_file():
            return path
    known = sorted({path.stem for folder in FOLDERS for path in folder.glob("*.yml")})
    raise FileNotFoundError(f"There are no hyperparameters called {name!r}: there are {', '.join(known) or 'none'}")


def linear_schedule(name: str, text: str) -> LinearSchedule:
    """
    Read a schedule.

    :param name: Of the argument.
    :param text: "lin_0.5" goes from 0.5 to 0, "lin_0.5_0.1" from 0.5 to 0.1, over the whole of training.
    :return: A function of the remaining progress.
    """
    kind, *ends = text.split("_")
    try:
        start, end = map(float, ends if len(ends) > 1 else [*ends, "0"])
    except ValueError:
        kind = ""
    if kind != "lin":
        expected = "a number or, as in `lin_0.5` and `lin_0.5_0.1`, start and end of a linear schedule"
        raise ValueError(f"`{name}` must be {expected}, not {text!r}")
    return LinearSchedule(start, end, 1.0)
