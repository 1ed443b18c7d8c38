"""
Figure 2 of ESAC: evolution strategies (ES) on the cyclic MDP.

Left: return of the deterministic policy over training episodes, for ES with 50 members, PPO, and DDPG through a
3-dimensional ``Box`` whose argmax is the action; 3 runs. Every member's episode is counted. Centre: seconds per episode of an
ES all of whose members play 2000 steps, against the number of worker processes and of members: measured up to the cores that
the machine has, and predicted beyond by ``benchmarks/generations.py`` from what was measured with one worker. Right: ES with
different mutation rates sigma. Small: 1000 episodes of the ES, 10,240 steps of PPO, 1500 of DDPG; 6 generations for each
sigma. Paper: 5000 episodes or more, 100 generations.

A machine that was doing something else meanwhile is told in the data by its load average; without
``experiments/results/figure2_centre.csv``, ``--run`` measures again.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.drawing import new_figure
from experiments.figures import figure2_centre, figure2_left, figure2_right
from experiments.figures.study import Outcome, Rows, command

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARTS = (figure2_left, figure2_centre, figure2_right)
STUDIES = [part.STUDY for part in PARTS]


def check(data: dict[str, Rows]) -> list[Outcome]:
    """
    Compare with the paper.

    :param data: Rows by study.
    """
    return [outcome for part in PARTS for outcome in part.check(data[part.STUDY.name])]


def draw(data: dict[str, Rows]) -> "Figure":
    """
    Draw the three parts.

    :param data: Rows by study.
    """
    figure = new_figure(14.0, 4.0)
    panels = figure.subplots(1, 3)
    for panel, part in zip(panels, PARTS, strict=True):
        part.draw(panel, data[part.STUDY.name])
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Do what the command line asks for.

    :param arguments: Its words.
    """
    return command(__doc__, "figure2", STUDIES, check, draw, arguments)


if __name__ == "__main__":
    main()
