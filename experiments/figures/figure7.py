"""
Figure 7 of ESAC: learning curves, from the experiments "benchmark" and "table1", whatever there is of them.

The x axis counts every step of training, offspring's included; the paper counts one episode per generation.
"""

from collections.abc import Sequence

import numpy as np

from experiments import drawing
from experiments.comparison import Runs, names
from experiments.figures.study import Outcome, parse, show
from experiments.figures.table1 import OURS, PAPER, runs_in
from experiments.speed import BASELINE


def check(runs: Runs) -> list[Outcome]:
    """
    Compare with "ESAC demonstrates improved returns on 16 out of 21 tasks".

    :param runs: All runs.
    """
    outcomes = []
    for algorithm in [name for name in names(runs)[1] if name in OURS]:
        tasks = [task for task in names(runs)[0] if (task, algorithm) in runs and (task, BASELINE) in runs]
        ahead = []
        for task in tasks:
            last = {
                name: np.mean([rows[-1]["deployed"] for rows in runs[task, name].values()]) for name in (algorithm, BASELINE)
            }
            if last[algorithm] > last[BASELINE]:
                ahead.append(task)
        if tasks:
            evidence = f"{algorithm} ends above our SAC on {len(ahead)} of {len(tasks)} tasks: {', '.join(ahead) or 'none'}"
            whole = set(PAPER) <= set(tasks)
            claim = f"improved returns on 16 of 21 tasks ({algorithm}, at equal true steps)"
            outcomes.append(Outcome(claim, len(set(ahead) & set(PAPER)) >= 16 if whole else None, evidence))
    return outcomes


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = runs_in(options.results)
    return show(check(runs), drawing.curve_grid(runs, names(runs)[0], "total_steps"), options.pictures / "figure7")


if __name__ == "__main__":
    main()
