"""
Draw what a run folder holds: returns, sigma and gradient intervals against true environment steps.

matplotlib is an extra (``plots``) and is imported only when something is drawn.
"""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float64]

STEPS = "time/total_timesteps"
AGENT_STEPS = "time/agent_timesteps"
AGENT_RETURN = "agent/return_mean"
SIGMA = "population/sigma"

# So many gradient intervals are shaded; more are drawn as ticks
MAX_SHADED = 60

# Okabe and Ito's palette, which survives the common kinds of colour blindness
BLACK, ORANGE, SKY, GREEN, BLUE, VERMILION = "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00"

# Logged key, label, color, line style
CURVES = (
    ("population/return_max", "population, best", SKY, "-"),
    ("population/return_mean", "population, mean", BLUE, "-"),
    (AGENT_RETURN, "agent", ORANGE, "-"),
    ("champion/return_mean", "champion", GREEN, "--"),
)


def read_progress(path: str | Path) -> dict[str, FloatArray]:
    """
    Read the ``progress.csv`` of Stable-Baselines3's CSV logger.

    :param path: the file
    :return: one float array per column, all of one length; NaN where a row has no value
    """
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        names = reader.fieldnames or []
    return {name: np.array([_number(row.get(name)) for row in rows], dtype=np.float64) for name in names}


def gradient_intervals(progress: dict[str, FloatArray]) -> FloatArray:
    """
    Find the stretches of true steps in which the agent played and learned.

    :param progress: columns of ``progress.csv``; a generation with an interval is one that logged the agent's return
    :return: start and width of each interval in true steps, shape ``(n_intervals, 2)``
    """
    steps = progress.get(STEPS, np.empty(0))
    empty = np.full_like(steps, np.nan)
    agent_steps = progress.get(AGENT_STEPS, empty)
    whole = np.isfinite(steps) & np.isfinite(agent_steps)
    widths = np.diff(agent_steps[whole], prepend=0.0)
    marked = np.isfinite(progress.get(AGENT_RETURN, empty)[whole]) & (widths > 0)
    return np.column_stack([steps[whole] - widths, widths])[marked]


def plot_run(folder: str | Path, output: str | Path | None = None) -> Path:
    """
    Draw the learning curve of one run.

    :param folder: run folder with ``progress.csv``, and ``evaluations.npz`` and ``final_evaluation.npz`` if there are
    :param output: file to write, its ending decides the format; ``learning_curve.png`` in the folder by default
    :return: the file that was written
    """
    from matplotlib.figure import Figure

    folder = Path(folder)
    output = folder / "learning_curve.png" if output is None else Path(output)
    progress_path = folder / "progress.csv"
    if not progress_path.is_file():
        raise FileNotFoundError(f"{folder} is not a run folder: it has no progress.csv (train with the `csv` logger format)")
    progress = read_progress(progress_path)

    figure = Figure(figsize=(9.5, 6.0), dpi=150, layout="constrained")
    returns, sigma = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    for key, label, color, linestyle in CURVES:
        _draw_column(returns, progress, key, label, color, linestyle)
    _draw_evaluations(returns, folder / "evaluations.npz", label="deployed, evaluated", marker="o", size=3)
    _draw_evaluations(returns, folder / "final_evaluation.npz", label="deployed, at the end", marker="*", size=10)
    _draw_column(sigma, progress, SIGMA, "sigma", VERMILION)
    intervals = gradient_intervals(progress)
    _mark_intervals(returns, intervals, "gradient interval")
    _mark_intervals(sigma, intervals, None)
    for axes in (returns, sigma):
        _finish(axes)
    returns.set_title(folder.resolve().name)
    returns.set_ylabel("undiscounted return")
    sigma.set_ylabel("sigma")
    sigma.set_xlabel("environment steps, agent and population together")
    sigma.ticklabel_format(axis="x", style="sci", scilimits=(-3, 5), useMathText=True)
    figure.savefig(output)
    return output


def _number(text: str | None) -> float:
    """
    Convert one cell of a CSV file.

    :param text: the cell, None where a row ends early
    :return: its value, NaN for a blank and for text that is no number
    """
    try:
        return float(text) if text else np.nan
    except ValueError:
        return np.nan


def _draw_column(
    axes: "Axes", progress: dict[str, FloatArray], key: str, label: str, color: str, linestyle: str = "-"
) -> None:
    """
    Draw one logged quantity over the rows that have it.

    :param axes: where to draw
    :param progress: columns of ``progress.csv``
    :param key: name of the column; nothing is drawn where it was never logged
    :param label: its name in the legend
    :param color: its color
    :param linestyle: matplotlib's line style
    """
    if key not in progress or STEPS not in progress:
        return
    present = np.isfinite(progress[STEPS]) & np.isfinite(progress[key])
    # A lone point makes no line
    marker = "o" if present.sum() == 1 else ""
    if present.any():
        x, y = progress[STEPS][present], progress[key][present]
        axes.plot(x, y, label=label, color=color, linestyle=linestyle, marker=marker, linewidth=1.2)


def _draw_evaluations(axes: "Axes", path: Path, label: str, marker: str, size: float) -> None:
    """
    Draw the deployed policy's evaluations, mean with one standard deviation over episodes.

    :param axes: where to draw
    :param path: ``evaluations.npz`` of an ``EvalCallback``, or a file of that form; nothing is drawn where there is none
    :param label: its name in the legend
    :param marker: matplotlib's marker
    :param size: size of the marker in points
    """
    if not path.is_file():
        return
    with np.load(path) as archive:
        steps, results = archive["timesteps"], archive["results"]
    mean, std = results.mean(axis=1), results.std(axis=1)
    axes.plot(steps, mean, label=label, color=BLACK, linewidth=1.6, marker=marker, markersize=size)
    if len(steps) > 1:
        axes.fill_between(steps, mean - std, mean + std, color=BLACK, alpha=0.12, linewidth=0)
    else:
        # A lone band would have no width
        axes.errorbar(steps, mean, std, color=BLACK, linewidth=1.0, capsize=3)


def _mark_intervals(axes: "Axes", intervals: FloatArray, label: str | None) -> None:
    """
    Mark gradient intervals.

    :param axes: where to draw
    :param intervals: start and width of each, shape ``(n_intervals, 2)``
    :param label: their name in the legend, None for no entry
    """
    if len(intervals) == 0:
        return
    pairs = [(float(start), float(width)) for start, width in intervals]
    # A few are shaded over the full height; many would tint the whole panel, so they become ticks along its lower edge
    few = len(pairs) <= MAX_SHADED
    height, alpha, linewidth = (1.0, 0.2, 0.4) if few else (0.05, 0.8, 0.0)
    transform = axes.get_xaxis_transform()
    axes.broken_barh(
        pairs, (0, height), transform=transform, color=ORANGE, alpha=alpha, linewidth=linewidth, zorder=0, label=label
    )


def _finish(axes: "Axes") -> None:
    """
    Add grid and legend; the legend stands beside the data, never on it.

    :param axes: where to draw
    """
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0, frameon=False, fontsize="small")
