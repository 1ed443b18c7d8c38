"""What is drawn on one pair of axes each. Colours, line styles and hatches say the same, so one of them is enough."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_esac.plotting.reading import (
    AGENT_RETURN,
    AGENT_STEPS,
    POPULATION_STEPS,
    STEPS,
    Evaluations,
    FloatArray,
    Run,
    gradient_intervals,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's palette, which survives the common kinds of colour blindness
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#BBBBBB"

GENERATIONS = "time/generations"
SIGMA = "population/sigma"

MAX_SHADED = 60
"""So many gradient intervals are shaded; more are drawn as ticks."""

MAX_POINTS = 400
"""Longer curves are drawn faintly, with a running mean on top."""

N_MARKERS = 8
"""Markers on a curve."""

CURVES = (
    ("population/return_max", "population, best", SKY, "-", "^"),
    ("population/return_mean", "population, mean", BLUE, "-", "v"),
    (AGENT_RETURN, "agent", ORANGE, "-.", "s"),
    ("champion/return_mean", "champion", GREEN, "--", "D"),
)
"""Logged key, label, colour, line style, marker."""

ORIGINS = (("mean", BLUE, ""), ("winners", SKY, "///"), ("agent", ORANGE, "..."))
"""Where winners come from, colour, hatch."""

PHASES = (
    ("time/population_seconds", "population", BLUE, ""),
    ("time/agent_seconds", "agent's episodes", ORANGE, "..."),
    ("time/gradient_seconds", "gradients", VERMILION, "xxx"),
    ("time/callback_seconds", "callbacks", PURPLE, "///"),
)
"""Logged key, label, colour, hatch."""

Band = tuple[str, FloatArray, str, str]
"""Label, heights, colour, hatch."""


@dataclass(frozen=True)
class Panel:
    """
    One pair of axes.

    :param draw: Draws a run on them.
    :param is_wanted: Whether a run has what it needs.
    :param height: Its height, relative to the others of its column.
    """

    draw: Callable[["Axes", Run], None]
    is_wanted: Callable[[Run], bool]
    height: float = 1.0


def draw_returns(axes: "Axes", run: Run) -> None:
    """
    Draw learning curves: population, agent, champion and the deployed policy's evaluations.

    :param axes: Where to draw.
    :param run: The run.
    """
    for key, label, color, linestyle, marker in CURVES:
        draw_curve(axes, run.rows(STEPS, key), label=label, color=color, linestyle=linestyle, marker=marker)
    if not run.has(STEPS) and run.episodes is not None:
        draw_curve(axes, (run.episodes[:, 0], run.episodes[:, 1]), label="training episodes", color=SKY)
    draw_evaluations(axes, run.evaluations, "deployed, evaluated", marker="o", size=3)
    draw_evaluations(axes, run.final, "deployed, at the end", marker="*", size=10)
    mark_intervals(axes, gradient_intervals(run.progress))
    axes.set_ylabel("undiscounted return")


def draw_sigma(axes: "Axes", run: Run) -> None:
    """
    Draw the mutation rate.

    :param axes: Where to draw.
    :param run: The run.
    """
    draw_curve(axes, run.rows(STEPS, SIGMA), label="mutation rate", color=VERMILION, marker="d")
    axes.set_ylabel("sigma")


def draw_share(axes: "Axes", run: Run) -> None:
    """
    Draw the share of the steps that the agent has had, and what rule gives it to it.

    :param axes: Where to draw.
    :param run: The run.
    """
    steps, agent = run.rows(STEPS, AGENT_STEPS)
    taken = steps > 0
    draw_curve(axes, (steps[taken], agent[taken] / steps[taken]), label="agent's share of all steps", color=ORANGE, marker="s")
    for key, label in (("agent/fraction", "target share"), ("agent/probability", "probability of an interval")):
        draw_curve(axes, run.rows(STEPS, key), label=label, color=BLACK, linestyle=":")
    axes.set_ylim(0, min(1.05, 1.15 * max(axes.dataLim.y1, 0.05)))
    axes.set_ylabel("agent")


def draw_step_norm(axes: "Axes", run: Run) -> None:
    """
    Draw how far the mean of an evolution strategy moves in a generation.

    :param axes: Where to draw.
    :param run: The run.
    """
    draw_curve(axes, run.rows(STEPS, "es/step_norm"), label="step of the mean", color=PURPLE, marker="x")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("norm")


def draw_winners(axes: "Axes", run: Run) -> None:
    """
    Draw who wins: where the winners of each generation had started from.

    :param axes: Where to draw.
    :param run: The run.
    """
    x, *counts = run.rows(GENERATIONS, *(f"population/winners_from_{name}" for name, _, _ in ORIGINS))
    width = max(1, len(x) // 20)
    smooth = [running_mean(count, width) for count in counts]
    total = np.maximum(np.sum(smooth, axis=0), 1e-9)
    stack(axes, x, [(name, part / total, color, hatch) for (name, color, hatch), part in zip(ORIGINS, smooth, strict=True)])
    axes.set_ylim(0, 1)
    axes.set_ylabel("winners from" if width == 1 else f"winners from\n(mean of {width})")


def draw_steps(axes: "Axes", run: Run) -> None:
    """
    Draw who has taken how many steps.

    :param axes: Where to draw.
    :param run: The run.
    """
    has_probes = run.has(GENERATIONS, "time/probe_timesteps")
    x, population, agent = run.rows(GENERATIONS, POPULATION_STEPS, AGENT_STEPS)
    probes = run.rows(GENERATIONS, POPULATION_STEPS, AGENT_STEPS, "time/probe_timesteps")[-1] if has_probes else 0 * x
    bands: list[Band] = [("population", population - probes, BLUE, "")]
    bands += [("champion's probes", probes, GREEN, "///")] * has_probes
    stack(axes, x, [*bands, ("agent", agent, ORANGE, "...")])
    axes.yaxis.set_major_formatter(short_numbers())
    axes.set_ylabel("steps")


def draw_seconds(axes: "Axes", run: Run) -> None:
    """
    Draw what took how long. What a run had counted before it was taken up again is added.

    :param axes: Where to draw.
    :param run: The run.
    """
    phases = [phase for phase in PHASES if run.has(GENERATIONS, phase[0])]
    clock = ["time/time_elapsed"] * run.has("time/time_elapsed")
    x, *counted = run.rows(GENERATIONS, *(key for key, _, _, _ in phases), *clock)
    totals = [without_restarts(column) for column in counted]
    bands: list[Band] = [(label, total, c, hatch) for (_, label, c, hatch), total in zip(phases, totals, strict=False)]
    if clock:
        # It is logged in whole seconds.
        rest = np.maximum(totals[-1] - np.sum(totals[:-1], axis=0), 0.0)
        bands.append(("elsewhere", np.maximum.accumulate(rest), GREY, ""))
    stack(axes, x, bands)
    if axes.get_ylim()[1] > 1000:
        axes.yaxis.set_major_formatter(short_numbers())
    axes.set_ylabel("seconds")


OVER_STEPS = (
    Panel(draw_returns, lambda run: True, 3.0),
    Panel(draw_sigma, lambda run: run.has(STEPS, SIGMA)),
    Panel(draw_share, lambda run: AGENT_STEPS in run.progress and bool(run.rows(STEPS, AGENT_STEPS)[1].any())),
    Panel(draw_step_norm, lambda run: run.has(STEPS, "es/step_norm")),
)
"""Panels whose axis is true steps."""

OVER_GENERATIONS = (
    Panel(draw_winners, lambda run: run.has(GENERATIONS, *(f"population/winners_from_{name}" for name, _, _ in ORIGINS))),
    Panel(draw_steps, lambda run: run.has(GENERATIONS, POPULATION_STEPS, AGENT_STEPS)),
    Panel(draw_seconds, lambda run: run.has(GENERATIONS, PHASES[0][0])),
)
"""Panels whose axis is generations."""


# -- what they are made of -------------------------------------------------------------------------------------------------


def draw_curve(
    axes: "Axes", curve: Sequence[FloatArray], label: str, color: str, linestyle: str = "-", marker: str = ""
) -> None:
    """
    Draw a curve with a few markers; a long one faintly, with its running mean on top.

    :param axes: Where to draw.
    :param curve: (n,) true steps and (n,) values; nothing is drawn where there are none.
    :param label: Its name in the legend.
    :param color: Its colour.
    :param linestyle: Matplotlib's line style.
    :param marker: Matplotlib's marker.
    """
    x, y = curve
    if len(x) == 0:
        return
    if len(x) > MAX_POINTS:
        axes.plot(x, y, color=color, alpha=0.25, linewidth=0.5, zorder=1.5)
        y = running_mean(y, len(x) // (MAX_POINTS // 4))
    # A lone point makes no line
    look: dict[str, Any] = dict(marker=marker or "o" if len(x) == 1 else marker, markersize=3.5, markevery=_some(len(x)))
    axes.plot(x, y, label=label, color=color, linestyle=linestyle, linewidth=1.2, **look)


def draw_evaluations(
    axes: "Axes",
    evaluations: Evaluations | None,
    label: str,
    marker: str,
    size: float,
    color: str = BLACK,
    linestyle: str = "-",
) -> None:
    """
    Draw evaluations, mean with one standard deviation over episodes.

    :param axes: Where to draw.
    :param evaluations: The evaluations; nothing is drawn where there are none.
    :param label: Their name in the legend.
    :param marker: Matplotlib's marker.
    :param size: Size of the marker in points.
    :param color: Their colour.
    :param linestyle: Matplotlib's line style.
    """
    if evaluations is None:
        return
    steps, mean, std = evaluations.steps, evaluations.mean, np.nan_to_num(evaluations.std)
    axes.plot(steps, mean, label=label, color=color, linestyle=linestyle, linewidth=1.6, marker=marker, markersize=size)
    if len(steps) > 1:
        axes.fill_between(steps, mean - std, mean + std, color=color, alpha=0.12, linewidth=0)
    else:
        # A lone band would have no width
        axes.errorbar(steps, mean, std, color=color, linewidth=1.0, capsize=3)


def mark_intervals(axes: "Axes", intervals: FloatArray) -> None:
    """
    Mark gradient intervals.

    :param axes: Where to draw.
    :param intervals: Start and width of each, shape ``(n_intervals, 2)``.
    """
    if len(intervals) == 0:
        return
    pairs = [(float(start), float(width)) for start, width in intervals]
    # A few are shaded over the full height; many would tint the whole panel, so they become ticks along its lower edge
    few = len(pairs) <= MAX_SHADED
    height, alpha, linewidth = (1.0, 0.2, 0.4) if few else (0.04, 0.8, 0.0)
    look: dict[str, Any] = dict(color=ORANGE, alpha=alpha, linewidth=linewidth, zorder=0, label="gradient interval")
    axes.broken_barh(pairs, (0, height), transform=axes.get_xaxis_transform(), **look)


def stack(axes: "Axes", x: FloatArray, bands: Sequence[Band]) -> None:
    """
    Stack areas, the first one at the bottom. What is zero throughout has no place in the legend either.

    :param axes: Where to draw.
    :param x: (n,) generations.
    :param bands: Label, heights, colour and hatch of each.
    """
    bands = [band for band in bands if band[1].any()]
    if len(x) == 1:
        # An area needs two points
        x, bands = np.array([x[0] - 1, x[0]]), [(label, np.repeat(y, 2), *look) for label, y, *look in bands]  # type: ignore[misc]
    low = np.zeros_like(x)
    for label, heights, color, hatch in bands:
        axes.fill_between(x, low, low + heights, label=label, facecolor=color, edgecolor="white", hatch=hatch, linewidth=0.0)
        axes.plot(x, low + heights, color="white", linewidth=0.6)
        low = low + heights
    axes.set_ylim(bottom=0)


def running_mean(values: FloatArray, width: int) -> FloatArray:
    """
    Average over a window that ends at each value.

    :param values: (n,) values.
    :param width: Length of the window, shorter at the beginning.
    :return: (n,) averages.
    """
    sums = np.cumsum(np.concatenate([[0.0], values]))
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - width, 0)
    averages: FloatArray = (sums[end] - sums[start]) / (end - start)
    return averages


def without_restarts(counter: FloatArray) -> FloatArray:
    """
    Add up a counter that begins at zero whenever a run is taken up again.

    :param counter: (n,) what it showed.
    :return: (n,) what it would have shown without interruption.
    """
    growth = np.diff(counter, prepend=0.0)
    return np.cumsum(np.where(growth < 0, counter, growth))


def short_numbers() -> Any:
    """
    Make the formatter of axes that count: 20k, 1.5M.

    :return: A formatter of matplotlib.
    """
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _some(n_points: int) -> int:
    """Every how manyth point of a curve has a marker."""
    return max(1, n_points // N_MARKERS)
