"""
Figures 3 and 4 of PEL (progressive episode lengths), a transfer to MuJoCo: score over time, with T_c, with T_d and without.

From the experiment "pel" (``python -m experiments.run pel``), whatever there is of it: median over seeds, and quartiles, as in
the paper. Two families: the canonical ES that the paper builds on, and OpenAI's. The paper plays Atari games for hours on
hundreds of cores and says nothing of other tasks; these are MuJoCo's, with a budget of true steps. What it claims is judged
where it was claimed, on games, by ``python -m experiments.figures.atari``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from experiments import comparison, drawing
from experiments.comparison import Runs, Scale, curves_of, names
from experiments.figures.study import Outcome, parse, show
from experiments.report import ends
from experiments.tables import Tables, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAMILIES = ("canonical ES", "OpenAI ES")
SCHEDULES = {"": "without", ", T_c": "T_c", ", T_d": "T_d"}
CLAIMS = {", T_c": (5, 49), ", T_d": (6, 80)}
"""Of 9 games, and mean improvement in percent, after 2 hours."""

N_GAMES = 9


def median_at(runs: Runs, task: str, algorithm: str, share: float) -> float:
    """
    Median over seeds of the return after a share of the budget.

    :param runs: All runs.
    :param task: Environment.
    :param algorithm: Its name.
    :param share: Of the budget.
    """
    budget = max(int(rows[-1]["budget"]) for rows in runs[task, algorithm].values())
    return float(np.median([np.interp(share * budget, curve.x, curve.y) for curve in curves_of(runs, task, algorithm)]))


def tasks_of(runs: Runs, family: str) -> list[str]:
    """
    Find tasks that have all three.

    :param runs: All runs.
    :param family: Of strategies.
    """
    return [task for task in names(runs)[0] if all((task, family + schedule) in runs for schedule in SCHEDULES)]


def table(runs: Runs) -> str:
    """
    Make a table of medians at the quarters of the budget.

    :param runs: All runs.
    """
    lines = []
    for family in FAMILIES:
        for task in tasks_of(runs, family):
            for schedule, name in SCHEDULES.items():
                medians = [f"{median_at(runs, task, family + schedule, share):.1f}" for share in (0.25, 0.5, 0.75, 1.0)]
                lines.append([task, family, name, len(runs[task, family + schedule]), *medians])
    return markdown(["task", "strategy", "episode lengths", "seeds", "25%", "50%", "75%", "100% of the budget"], lines)


def check(runs: Runs, scaling: dict[str, Scale]) -> list[Outcome]:
    """
    Ask whether "outperformed the canonical ES in 5 and 6 games out of 9 and improved the scores by 49% and 80%" carries over.
    The paper says so of games alone, so that neither answer is a verdict on it.

    :param runs: All runs.
    :param scaling: Scale of each task: improvements are of normalised returns, since some returns are negative.
    """
    outcomes = []
    for family in FAMILIES:
        tasks = tasks_of(runs, family)
        for schedule, (n_games, percent) in CLAIMS.items():
            if not tasks:
                continue
            won, gains = [], []
            for task in tasks:
                before, after = (median_at(runs, task, family + lengths, 1.0) for lengths in ("", schedule))
                if after > before:
                    won.append(task)
                if task in scaling and scaling[task](before) > 0:
                    gains.append(100 * float(scaling[task](after) / scaling[task](before) - 1))
            name = SCHEDULES[schedule]
            evidence = f"better on {len(won)} of {len(tasks)} tasks ({', '.join(won) or 'none'})"
            is_often = len(won) / len(tasks) >= n_games / N_GAMES
            claim = f"on MuJoCo, too, {name} beats {family} on as large a part of the tasks as {n_games} of {N_GAMES}"
            outcomes.append(Outcome(claim, is_often, evidence))
            if gains:
                evidence = f"normalised returns change by {np.mean(gains):+.0f}% on average"
                claim = f"on MuJoCo, too, {name} improves {family} by {percent}% on average"
                outcomes.append(Outcome(claim, bool(np.mean(gains) >= percent), evidence))
    return outcomes


def draw(runs: Runs) -> "Figure":
    """
    Draw one row for each family, one panel for each task.

    :param runs: All runs.
    """
    tasks = names(runs)[0]
    figure = drawing.new_figure(4.0 * len(tasks), 6.0)
    panels = figure.subplots(len(FAMILIES), len(tasks), squeeze=False)
    for line, family in zip(panels, FAMILIES, strict=True):
        for panel, task in zip(line, tasks, strict=True):
            for number, (schedule, name) in enumerate(SCHEDULES.items()):
                curves = curves_of(runs, task, family + schedule)
                if not curves:
                    continue
                begin, end = max(curve.x[0] for curve in curves), min(curve.x[-1] for curve in curves)
                points = np.linspace(begin, max(begin, end), drawing.N_POINTS)
                heights = np.stack([np.interp(points, curve.x, curve.y) for curve in curves])
                low, middle, high = np.quantile(heights, [0.25, 0.5, 0.75], axis=0)
                panel.plot(points, middle, color=drawing.COLORS[number], label=name)
                panel.fill_between(points, low, high, color=drawing.COLORS[number], alpha=0.15, linewidth=0)
            drawing.finish(panel, drawing.AXES["total_steps"], "return", f"{task}: {family}")
            drawing.thousands(panel)
    figure.legend(*panels[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = comparison.read(options.results / "pel.csv")
    if not runs:
        raise SystemExit(f"no data in {options.results}: make them with `python -m experiments.run pel`")
    print(table(runs))
    return show(check(runs, comparison.scales(runs, "OpenAI ES")), draw(runs), options.pictures / "pel")


TABLES: Tables = {"runs of pel": lambda: ends("pel")}


if __name__ == "__main__":
    main()
