"""What a run folder holds, written by any program: your own script, ``examples/train.py`` or rl-zoo3."""

import csv
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

STEPS = "time/total_timesteps"
AGENT_STEPS = "time/agent_timesteps"
POPULATION_STEPS = "time/population_timesteps"
AGENT_RETURN = "agent/return_mean"

KNOWN_FILES = "progress.csv, events.out.tfevents.*, evaluations.npz, *.monitor.csv"


@dataclass(frozen=True)
class Evaluations:
    """
    Evaluations of the policy that is deployed.

    :param steps: (n,) true steps at which it was evaluated.
    :param mean: (n,) mean return over the episodes of each.
    :param std: (n,) their standard deviation; NaN if that is not known.
    """

    steps: FloatArray
    mean: FloatArray
    std: FloatArray


@dataclass(frozen=True)
class Run:
    """
    What was found in a run folder.

    :param name: Name of the folder.
    :param progress: What was logged: one float array per key, all of one length; NaN where a row has no value.
    :param evaluations: What an ``EvalCallback`` wrote or logged, None if there was none.
    :param final: Evaluation at the end, None if there was none.
    :param episodes: Steps at which training episodes ended, and their returns, shape ``(n, 2)``; None without monitor files.
    :param found: Names of the files that were read.
    """

    name: str
    progress: dict[str, FloatArray] = field(default_factory=dict)
    evaluations: Evaluations | None = None
    final: Evaluations | None = None
    episodes: FloatArray | None = None
    found: tuple[str, ...] = ()

    def has(self, *keys: str) -> bool:
        """
        Say whether quantities were logged.

        :param keys: Their names.
        :return: Whether some row has all of them.
        """
        return len(self.rows(*keys)[0]) > 0

    def rows(self, *keys: str) -> list[FloatArray]:
        """
        Take the rows in which all of some quantities were logged.

        :param keys: Their names.
        :return: One array per name, all of one length; empty ones if there is no such row.
        """
        if not all(key in self.progress for key in keys):
            return [np.empty(0) for _ in keys]
        whole = np.logical_and.reduce([np.isfinite(self.progress[key]) for key in keys])
        return [self.progress[key][whole] for key in keys]

    def missing(self) -> list[str]:
        """
        Say what could not be drawn, and what would have to be there.

        :return: One sentence for each.
        """
        notes = []
        if not self.has(STEPS):
            notes.append(
                "no log, so no population, sigma, winners, steps or seconds: log into the folder with "
                '`model.set_logger(configure(folder, ["csv"]))`, or name a folder of TensorBoard events with --events'
            )
        else:
            wanted = {
                "population/winners_from_mean": "winners by origin: the population has played no generation",
                "time/population_seconds": "seconds by phase: `time/population_seconds` was not logged",
                AGENT_STEPS: f"steps by phase: `{AGENT_STEPS}` was not logged",
            }
            is_es = self.has("es/step_norm")
            notes += [f"no {what}" for key, what in wanted.items() if not self.has(key) and not (is_es and "winners" in key)]
        if self.evaluations is None:
            notes.append("no evaluations: train with an `EvalCallback` that has this folder as its `log_path`")
        return notes


def read_run(folder: str | Path, events: str | Path | None = None) -> Run:
    """
    Read whatever a run has left in its folder, also while it is still running.

    :param folder: Run folder with ``progress.csv``, TensorBoard events, ``evaluations.npz``, ``final_evaluation.npz`` or
        ``*.monitor.csv``, or some of them.
    :param events: Folder of TensorBoard events that stand elsewhere, which are read instead of ``progress.csv``.
    :return: What was found.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}")
    progress_path, found = folder / "progress.csv", []
    progress: dict[str, FloatArray] = {}
    if progress_path.is_file() and events is None:
        progress = read_progress(progress_path)
        found.append(progress_path.name)
    else:
        source = _event_folder(folder if events is None else Path(events))
        if source is not None:
            progress = read_events(source)
            found.append("TensorBoard events")
        elif events is not None:
            raise FileNotFoundError(f"{events} has no TensorBoard events (events.out.tfevents.*), nor has a folder in it")
    evaluations, final = (read_evaluations(folder / f"{name}.npz") for name in ("evaluations", "final_evaluation"))
    found += [f"{name}.npz" for name, what in (("evaluations", evaluations), ("final_evaluation", final)) if what is not None]
    evaluations = evaluations or _logged_evaluations(progress)
    episodes = read_monitors(folder)
    found += ["*.monitor.csv"] * (episodes is not None)
    if not found:
        raise FileNotFoundError(
            f"{folder} is not a run folder: it has none of {KNOWN_FILES}. Train with the `csv` logger format: "
            '`model.set_logger(configure(folder, ["csv"]))`'
        )
    if not any(len(column) for column in progress.values()) and evaluations is None and final is None and episodes is None:
        raise ValueError(f"{folder} has nothing to draw yet: no generation has been logged in {', '.join(found)}")
    return Run(folder.resolve().name, progress, evaluations, final, episodes, tuple(found))


def read_progress(path: str | Path) -> dict[str, FloatArray]:
    """
    Read the ``progress.csv`` of Stable-Baselines3's CSV logger, also while it is being written.

    :param path: The file.
    :return: One float array per column, all of one length; NaN where a row has no value.
    """
    with open(path, newline="") as file:
        # What does not end with a line break is only half there, and half a number is another number.
        lines = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(lines)
    rows = list(reader)
    names = reader.fieldnames or []
    return {name: np.array([_number(row.get(name)) for row in rows], dtype=np.float64) for name in names}


def read_events(folder: str | Path) -> dict[str, FloatArray]:
    """
    Read TensorBoard's event files as if they were a ``progress.csv``; true steps are the axis there.

    :param folder: Folder with event files.
    :return: As :func:`read_progress`.
    """
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError as error:
        raise ImportError(f"The TensorBoard events in {folder} need tensorboard: pip install tensorboard") from error
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    scalars = {tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]}
    steps = sorted({step for values in scalars.values() for step in values})
    columns = {tag: np.array([values.get(step, np.nan) for step in steps]) for tag, values in scalars.items()}
    return {STEPS: np.array(steps, dtype=np.float64), **columns}


def read_evaluations(path: str | Path) -> Evaluations | None:
    """
    Read what an ``EvalCallback`` wrote.

    :param path: ``evaluations.npz``, or a file of that form.
    :return: Its content; None if there is no file, or none that is complete.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        with np.load(path) as archive:
            steps, results = archive["timesteps"], archive["results"]
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError):
        # It is being written at this moment.
        return None
    results = np.asarray(results, dtype=np.float64).reshape(len(steps), -1)
    return Evaluations(np.asarray(steps, dtype=np.float64), results.mean(axis=1), results.std(axis=1))


def read_monitors(folder: str | Path) -> FloatArray | None:
    """
    Read the files of ``Monitor``, one per environment.

    :param folder: Folder with ``*.monitor.csv``.
    :return: (n, 2) steps of all environments after which an episode had ended, and its return; None if there is none.
    """
    rows = []
    for path in sorted(Path(folder).glob("*monitor.csv")):
        with open(path, newline="") as file:
            lines = [line for line in file if line.endswith("\n")]
        header = lines[0] if lines else ""
        start = float(json.loads(header[1:]).get("t_start", 0.0)) if header.startswith("#") else 0.0
        for row in csv.DictReader(line for line in lines if not line.startswith("#")):
            rows.append((start + _number(row.get("t")), _number(row.get("l")), _number(row.get("r"))))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    table = table[np.isfinite(table).all(axis=1)]
    table = table[np.argsort(table[:, 0], kind="stable")]
    return np.column_stack([np.cumsum(table[:, 1]), table[:, 2]]) if len(table) else None


def gradient_intervals(progress: dict[str, FloatArray]) -> FloatArray:
    """
    Find the stretches of true steps in which the agent played and learned.

    :param progress: Columns of ``progress.csv``; a generation with an interval is one in which the agent's steps rose. It may
        have finished no episode, where the budget ended.
    :return: Start and width of each interval in true steps, shape ``(n_intervals, 2)``.
    """
    steps = progress.get(STEPS, np.empty(0))
    empty = np.full_like(steps, np.nan)
    agent_steps = progress.get(AGENT_STEPS, empty)
    whole = np.isfinite(steps) & np.isfinite(agent_steps)
    widths = np.diff(agent_steps[whole], prepend=0.0)
    return np.column_stack([steps[whole] - widths, widths])[widths > 0]


def _logged_evaluations(progress: dict[str, FloatArray]) -> Evaluations | None:
    """Evaluations that were logged and not kept in a file of their own."""
    steps, mean = Run("", progress).rows(STEPS, "eval/mean_reward")
    return Evaluations(steps, mean, np.full_like(mean, np.nan)) if len(steps) else None


def _event_folder(folder: Path) -> Path | None:
    """The folder itself if it has event files, else the last one in it that has some."""
    if any(folder.glob("events.out.tfevents.*")):
        return folder
    files = sorted(folder.glob("*/events.out.tfevents.*"), key=lambda path: path.stat().st_mtime)
    return files[-1].parent if files else None


def _number(text: str | None) -> float:
    """
    Convert one cell of a CSV file.

    :param text: The cell, None where a row ends early.
    :return: Its value, NaN for a blank and for text that is no number.
    """
    try:
        return float(text) if text else np.nan
    except ValueError:
        return np.nan
