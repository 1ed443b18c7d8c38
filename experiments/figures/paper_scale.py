"""
Table 1 of ESAC at its own scale: learning curves against steps as the paper counts them, over the numbers of its table.

From the experiment "paper_scale" (``python -m experiments.run paper_scale``): the paper's rules with ten mirrored pairs and 20
million true steps. The paper counts one mean episode for each generation, so these are about its 1e6 steps. One seed; the
paper shows the mean of the best 5 of 10.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import comparison
from experiments.comparison import Runs
from experiments.drawing import COLORS, color, finish, new_figure, thousands
from experiments.figures.study import Outcome, parse, show
from experiments.figures.table1 import PAPER
from experiments.references import random_returns

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "paper_scale"
ALGORITHM = "ESAC, paper, n = 10"
CURVES = {"deployed": "deployed", "agent": "agent", "mean": "population's mean"}
"""Columns of returns, and what they are called."""

TOLERANCE = 0.05
"""By how much of the paper's distance from random play a return may fall short of the paper's."""


def check(runs: Runs) -> list[Outcome]:
    """
    Compare the last returns with Table 1.

    :param runs: All runs.
    """
    outcomes = []
    play_at_random = random_returns()
    for task, algorithm in runs:
        paper = PAPER[task].esac
        last = [rows[-1]["deployed"] for rows in runs[task, algorithm].values()]
        steps = max(float(rows[-1]["paper_timesteps"]) for rows in runs[task, algorithm].values())
        random = play_at_random[task]
        holds = (np.mean(last) - random) / (paper - random) >= 1 - TOLERANCE
        evidence = f"{', '.join(f'{value:.4g}' for value in last)} after {steps:,.0f} of the paper's steps"
        outcomes.append(Outcome(f"ESAC has {paper:g} on {task} after 1e6 steps", bool(holds), evidence))
    return outcomes


def draw(runs: Runs) -> "Figure":
    """
    Draw a panel for each task.

    :param runs: All runs.
    """
    figure = new_figure(4.5 * len(runs), 3.6)
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for panel, ((task, _), seeds) in zip(panels, runs.items(), strict=True):
        for rows in seeds.values():
            steps = [float(row["paper_timesteps"]) for row in rows]
            for number, (column, label) in enumerate(CURVES.items()):
                panel.plot(steps, [float(row[column]) for row in rows], color=color(number), label=label)
        for number, (label, value) in enumerate(
            {"ESAC": PAPER[task].esac, "SAC": PAPER[task].sac, "ES": PAPER[task].es}.items()
        ):
            panel.axhline(
                value, color=COLORS[-1], linestyle=("--", ":", "-.")[number], linewidth=1.0, label=f"Table 1: {label}"
            )
        finish(panel, "steps as the paper counts them", "return", task.removeprefix("dm_control/"))
        thousands(panel)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = comparison.read(options.results / f"{NAME}.csv")
    if not runs:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run {NAME}`")
    return show(check(runs), draw(runs), options.pictures / NAME)


if __name__ == "__main__":
    main()
