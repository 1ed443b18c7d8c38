"""Pictures of a comparison, in colours that survive the common kinds of colour blindness."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments import statistics
from experiments.comparison import Runs, curves_of, names
from experiments.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = Path(__file__).parent / "pictures"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000", "#999999", "#8B4513")
"""Okabe and Ito's palette, in an order in which neighbours differ in brightness too, and a brown."""

MARKERS = "osD^vPX*"
AXES = {
    "total_steps": "true environment steps",
    "updates": "gradient updates",
    "cpu_seconds": "seconds of CPU",
    "wall_seconds": "seconds on the clock",
    "idle_seconds": "seconds on two idle cores",
    "computing_seconds": "seconds of computing",
}
N_POINTS = 50
"""Points of a drawn learning curve."""


def color(index: int) -> str:
    """Color of the so-manyth algorithm."""
    return COLORS[index % len(COLORS)]


def new_figure(width: float, height: float) -> "Figure":
    """
    Make an empty figure.

    :param width: In inches.
    :param height: Likewise.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def finish(panel: "Axes", xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """
    Label a panel and take away what is not data.

    :param panel: The panel.
    :param xlabel: What is on the x axis.
    :param ylabel: What is on the y axis.
    :param title: Above it.
    """
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(alpha=0.3, linewidth=0.5)
    panel.set(xlabel=xlabel, ylabel=ylabel)
    panel.set_title(title, fontsize="medium")


def thousands(panel: "Axes") -> None:
    """
    Write 20k in place of 20000 on the x axis.

    :param panel: The panel.
    """
    from matplotlib.ticker import EngFormatter

    panel.xaxis.set_major_formatter(EngFormatter(sep=""))


def save(figure: "Figure", stem: Path) -> list[Path]:
    """
    Write a figure as PNG, the same bytes for the same data.

    :param figure: The figure.
    :param stem: File without its ending.
    :return: The file.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    file = stem.with_name(f"{stem.name}.png")
    figure.savefig(file, dpi=110, metadata={"Software": None})
    return [file]


def legend(figure: "Figure", panels: Sequence["Axes"]) -> None:
    """
    Draw one legend for all panels, above them.

    :param figure: The figure.
    :param panels: Its panels.
    """
    found = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if found:
        figure.legend(list(found.values()), list(found), loc="outside upper center", ncols=4, frameon=False)


def draw_curves(panel: "Axes", runs: Runs, task: str, algorithms: Sequence[str], axis: str) -> None:
    """
    Draw the mean over seeds with the range of the seeds.

    :param panel: Where to.
    :param runs: All runs.
    :param task: Environment.
    :param algorithms: Their names, whose order decides the colors.
    :param axis: Column that is the axis; algorithms that have nothing there are left out.
    """
    from matplotlib.ticker import NullFormatter

    for number, algorithm in enumerate(algorithms):
        curves = curves_of(runs, task, algorithm, axis)
        if not curves or all(curve.x[-1] == 0 for curve in curves):
            continue
        mean = statistics.mean_curve(curves)
        begin, end = mean.x[0], min(curve.x[-1] for curve in curves)
        logarithmic = "seconds" in axis and begin > 0
        points = (
            np.geomspace(begin, max(begin, end), N_POINTS) if logarithmic else np.linspace(begin, max(begin, end), N_POINTS)
        )
        heights = np.stack([np.interp(points, curve.x, curve.y) for curve in curves])
        panel.plot(points, heights.mean(axis=0), color=color(number), label=algorithm)
        panel.fill_between(points, heights.min(axis=0), heights.max(axis=0), color=color(number), alpha=0.15, linewidth=0)
    if "seconds" in axis:
        # An ES is through before SAC is evaluated once
        panel.set_xscale("log")
        panel.xaxis.set_minor_formatter(NullFormatter())
    else:
        thousands(panel)


def curves(runs: Runs, axes: Sequence[str]) -> "Figure":
    """
    Draw one row of panels for each task: learning curves of the deployed policy against all axes.

    :param runs: All runs.
    :param axes: Names in :data:`AXES`.
    """
    tasks, algorithms = names(runs)
    figure = new_figure(3.6 * len(axes), 0.6 + 2.5 * len(tasks))
    panels = figure.subplots(len(tasks), len(axes), squeeze=False, sharey="row")
    for line, task in zip(panels, tasks, strict=True):
        for panel, axis in zip(line, axes, strict=True):
            draw_curves(panel, runs, task, algorithms, axis)
            finish(panel, AXES[axis])
        line[0].set_ylabel(f"{task.removeprefix('dm_control/')}\nreturn")
    legend(figure, list(panels.flat))
    return figure


def curve_grid(runs: Runs, tasks: Sequence[str], axis: str, n_columns: int = 3) -> "Figure":
    """
    Draw one panel for each task. The axes are labelled at the left and at the foot of each column.

    :param runs: All runs.
    :param tasks: Which.
    :param axis: A name in :data:`AXES`.
    :param n_columns: Panels beside each other.
    """
    n_columns = min(n_columns, len(tasks))
    n_lines = math.ceil(len(tasks) / n_columns)
    figure = new_figure(3.2 * n_columns, 0.6 + 2.2 * n_lines)
    panels = figure.subplots(n_lines, n_columns, squeeze=False).ravel().tolist()
    for number, (panel, task) in enumerate(zip(panels, tasks, strict=False)):
        draw_curves(panel, runs, task, names(runs)[1], axis)
        below, left = number + n_columns < len(tasks), number % n_columns == 0
        finish(panel, "" if below else AXES[axis], "return" if left else "", task.removeprefix("dm_control/"))
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    legend(figure, panels)
    return figure


def aggregates(estimates: Mapping[str, Mapping[str, Estimate]], algorithms: Sequence[str], note: str) -> "Figure":
    """
    Draw estimates with their intervals, one panel for each measure.

    :param estimates: By measure and algorithm.
    :param algorithms: Their names, whose order decides the colors.
    :param note: What they are over.
    """
    rows = [name for name in algorithms if any(name in by_algorithm for by_algorithm in estimates.values())]
    figure = new_figure(3.0 * len(estimates), 1.2 + 0.35 * len(rows))
    panels = figure.subplots(1, len(estimates), squeeze=False, sharey=True)[0]
    for panel, (measure, by_algorithm) in zip(panels, estimates.items(), strict=True):
        for row, name in enumerate(rows):
            if name in by_algorithm:
                found, hue = by_algorithm[name], color(algorithms.index(name))
                panel.barh(row, found.high - found.low, left=found.low, height=0.6, color=hue, alpha=0.4)
                panel.vlines(found.value, row - 0.3, row + 0.3, color=hue, linewidth=2.5)
        finish(panel, "normalised return", title=measure)
    panels[0].set_yticks(range(len(rows)), rows)
    panels[0].invert_yaxis()
    figure.suptitle(f"interquartile mean, 95% interval; {note}", fontsize="medium")
    return figure


def profiles(
    levels: np.ndarray,
    fractions: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    algorithms: Sequence[str],
    note: str,
) -> "Figure":
    """
    Draw performance profiles.

    :param levels: (k,) normalised returns.
    :param fractions: Fractions of runs above them, with their intervals, by algorithm.
    :param algorithms: Their names, whose order decides the colors.
    :param note: What they are over.
    """
    figure = new_figure(6.0, 4.0)
    panel = figure.subplots()
    for number, name in enumerate(algorithms):
        if name in fractions:
            middle, low, high = fractions[name]
            panel.plot(levels, middle, color=color(number), label=name)
            panel.fill_between(levels, low, high, color=color(number), alpha=0.15, linewidth=0)
    finish(panel, "normalised last return", "fraction of runs above", note)
    panel.set_ylim(-0.02, 1.02)
    panel.legend(frameon=False)
    return figure


def improvements(estimates: Mapping[tuple[str, str], Estimate], note: str) -> "Figure":
    """
    Draw probabilities of improvement with their intervals.

    :param estimates: By pair.
    :param note: What they are over.
    """
    figure = new_figure(6.5, 1.2 + 0.4 * len(estimates))
    panel = figure.subplots()
    for number, found in enumerate(estimates.values()):
        panel.barh(number, found.high - found.low, left=found.low, height=0.5, color=COLORS[0], alpha=0.4)
        panel.vlines(found.value, number - 0.25, number + 0.25, color=COLORS[0], linewidth=2.5)
    panel.axvline(0.5, color="black", linestyle=":", linewidth=1.0)
    panel.set_xlim(-0.02, 1.02)
    panel.set_yticks(range(len(estimates)), [f"{one} > {other}" for one, other in estimates])
    panel.invert_yaxis()
    finish(panel, "probability of a higher last return, 95% interval", title=note)
    return figure
