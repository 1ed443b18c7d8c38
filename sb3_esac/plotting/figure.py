"""Whole pictures: one run, several runs side by side, one run while it is being trained."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_esac.plotting import panels
from sb3_esac.plotting.reading import STEPS, Evaluations, Run, read_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, FigureBase

DEFAULT_NAME = "learning_curve.png"

LOOKS = (
    (panels.BLACK, "-", "o"),
    (panels.ORANGE, "--", "s"),
    (panels.BLUE, "-.", "v"),
    (panels.GREEN, ":", "D"),
    (panels.VERMILION, "-", "^"),
    (panels.SKY, "--", "x"),
    (panels.PURPLE, "-.", "P"),
)
"""Colour, line style and marker of the runs of a comparison."""

N_LEGEND_COLUMNS = {True: 4, False: 3}
"""Over steps, and over generations, where there is less room."""


def plot_run(folder: str | Path, output: str | Path | None = None, events: str | Path | None = None) -> Path:
    """
    Draw one run.

    :param folder: Run folder with ``progress.csv``, TensorBoard events, ``evaluations.npz`` or monitor files.
    :param output: File to write, its ending decides the format; ``learning_curve.png`` in the folder by default.
    :param events: Folder of TensorBoard events that stand elsewhere.
    :return: The file that was written.
    """
    output = Path(folder) / DEFAULT_NAME if output is None else Path(output)
    run = read_run(folder, events)
    figure = new_figure()
    draw_run(figure, run)
    return write(figure, output)


def draw_run(figure: "Figure", run: Run) -> None:
    """
    Draw a run on an empty figure: over steps on the left, over generations on the right.

    :param figure: The figure; its size is set.
    :param run: The run.
    """
    left = [panel for panel in panels.OVER_STEPS if panel.is_wanted(run)]
    right = [panel for panel in panels.OVER_GENERATIONS if panel.is_wanted(run)]
    # Where only returns are known, half of the height is enough
    figure.set_size_inches(13.0 if right else 8.5, 7.5 if len(left) > 1 or right else 4.5)
    figure.suptitle(run.name, fontsize="large")
    columns: Any = figure.subfigures(1, 2 if right else 1, width_ratios=(3, 2) if right else None, squeeze=False)[0]
    _draw_column(columns[0], left, run, over_steps=True)
    if right:
        _draw_column(columns[1], right, run, over_steps=False)


def plot_comparison(
    folders: Sequence[str | Path], output: str | Path, labels: Sequence[str] | None = None, title: str = ""
) -> Path:
    """
    Draw several runs, whatever algorithm they are of, on one pair of axes: evaluations, or else what training showed.

    :param folders: Run folders.
    :param output: File to write; its ending decides the format.
    :param labels: Their names; those of the folders by default.
    :param title: Title of the picture.
    :return: The file that was written.
    """
    if labels is not None and len(labels) != len(folders):
        raise ValueError(f"`labels` must have one entry for each of {len(folders)} folders, not {len(labels)}")
    runs = [read_run(folder) for folder in folders]
    figure = new_figure()
    figure.set_size_inches(8.5, 5.0)
    axes = figure.add_subplot()
    for number, run in enumerate(runs):
        color, linestyle, marker = LOOKS[number % len(LOOKS)]
        label = run.name if labels is None else labels[number]
        if run.evaluations is None:
            label += " (training episodes)"
        panels.draw_evaluations(axes, _curve_of(run), label, marker, 4, color, linestyle)
    axes.set_title(title)
    axes.set_ylabel("undiscounted return")
    _label_steps(axes, "environment steps")
    _finish(axes, loc="best")
    return write(figure, Path(output))


def watch(
    folder: str | Path,
    outputs: Sequence[Path],
    seconds: float,
    events: str | Path | None = None,
    n_redraws: int | None = None,
) -> None:
    """
    Draw a run again and again while it is being trained: in a window where there is a screen, and into files.

    :param folder: Run folder; it may still be empty.
    :param outputs: Files to write.
    :param seconds: Time between two pictures.
    :param events: Folder of TensorBoard events that stand elsewhere.
    :param n_redraws: How often; None for until it is interrupted or the window is closed.
    """
    window = _open_window()
    figure = new_figure() if window is None else window.figure(layout="constrained")
    count, note = 0, ""
    while n_redraws is None or count < n_redraws:
        count += 1
        try:
            run = read_run(folder, events)
        except (FileNotFoundError, ValueError) as error:
            if str(error) != note:
                note = str(error)
                print(f"Waiting: {note}", file=sys.stderr)
        else:
            figure.clear()
            draw_run(figure, run)
            for output in outputs:
                write(figure, output)
        if window is None:
            time.sleep(seconds)
            continue
        window.pause(seconds)
        if not window.fignum_exists(figure.number):
            return


def new_figure() -> "Figure":
    """
    Make a figure that no window belongs to.

    :return: The figure.
    """
    from matplotlib.figure import Figure

    return Figure(dpi=150, layout="constrained")


def write(figure: "Figure", output: Path) -> Path:
    """
    Write a figure so that the file always holds a whole picture, the old one or the new one.

    :param figure: The figure.
    :param output: The file; its ending decides the format.
    :return: The file.
    """
    known = figure.canvas.get_supported_filetypes()
    ending = output.suffix.lower().removeprefix(".")
    if ending not in known:
        raise ValueError(f"`output` must end with one of .{', .'.join(sorted(known))}, not {output.name!r}")
    output.parent.mkdir(parents=True, exist_ok=True)
    draft = output.with_name(f".{output.stem}.{os.getpid()}{output.suffix}")
    try:
        figure.savefig(draft, dpi=150)
        draft.replace(output)
    finally:
        draft.unlink(missing_ok=True)
    return output


def _open_window() -> Any:
    """Matplotlib's pyplot if it can open windows here, else None."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    from matplotlib import pyplot as plt
    from matplotlib.backends.registry import BackendFilter, backend_registry

    interactive = backend_registry.list_builtin(BackendFilter.INTERACTIVE)
    return plt if plt.get_backend().lower() in interactive else None


def _draw_column(figure: "FigureBase", column: Sequence[panels.Panel], run: Run, over_steps: bool) -> None:
    """Draw panels one below the other, over one axis."""
    heights = [panel.height for panel in column]
    grid: Any = figure.subplots(len(column), 1, sharex=True, height_ratios=heights, squeeze=False)
    for axes, panel in zip(grid[:, 0], column, strict=True):
        panel.draw(axes, run)
        _finish(axes, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=N_LEGEND_COLUMNS[over_steps], borderaxespad=0.1)
    if over_steps:
        _label_steps(grid[-1, 0], "environment steps, agent and population together")
    else:
        grid[-1, 0].set_xlabel("generation")
        grid[-1, 0].xaxis.get_major_locator().set_params(integer=True)


def _label_steps(axes: "Axes", label: str) -> None:
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(panels.short_numbers())


def _curve_of(run: Run) -> Evaluations:
    """What a comparison shows of a run."""
    if run.evaluations is not None:
        return run.evaluations
    steps, mean = run.rows(STEPS, "rollout/ep_rew_mean")
    if len(steps) == 0 and run.episodes is not None:
        steps, mean = run.episodes[:, 0], panels.running_mean(run.episodes[:, 1], 100)
    if len(steps) == 0:
        raise ValueError(f"{run.name} has neither evaluations nor returns of training episodes")
    return Evaluations(steps, mean, 0 * mean)


def _finish(axes: "Axes", **legend: Any) -> None:
    """Add grid and legend."""
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0.01)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize="small", handlelength=2.2, columnspacing=1.2, **legend)
