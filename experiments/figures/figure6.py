"""
Figures 6 and 9 of ESAC: back-propagation updates of ESAC against SAC.

Drawn is the return of the deployed policy against gradient updates, from the experiments "benchmark" and "table1", whatever
there is of them (``python -m experiments.run benchmark``). An update is one call for a minibatch: critics, actor and, where it
is learned, the entropy coefficient.
"""

from collections.abc import Sequence

import numpy as np

from experiments import comparison, drawing
from experiments.comparison import Runs, names
from experiments.figures.study import Outcome, parse, show
from experiments.figures.table1 import OURS, runs_in
from experiments.report import times, with_updates
from experiments.speed import BASELINE


def check(runs: Runs) -> list[Outcome]:
    """
    Compare with "ESAC executes lesser number of updates".

    :param runs: All runs.
    """
    outcomes = []
    for algorithm in [name for name in names(with_updates(runs))[1] if name in OURS]:
        fewer, sooner, tasks = 0, [], []
        for task in names(runs)[0]:
            if (task, algorithm) in runs and (task, BASELINE) in runs:
                tasks.append(task)
                mean = {
                    name: np.mean([rows[-1]["updates"] for rows in runs[task, name].values()])
                    for name in (algorithm, BASELINE)
                }
                fewer += bool(mean[algorithm] < mean[BASELINE])
                if comparison.ratios(runs, task, algorithm, BASELINE, "updates")[0].worst < 1:
                    sooner.append(task)
        if not tasks:
            continue
        evidence = f"fewer at the same number of true steps on {fewer} of {len(tasks)} tasks"
        outcomes.append(Outcome(f"{algorithm} executes fewer updates than SAC", fewer == len(tasks), evidence))
        evidence = f"on {len(sooner)} of {len(tasks)} tasks" + (f" ({', '.join(sooner)})" if sooner else "")
        claim = f"{algorithm} reaches every return that SAC reaches with fewer updates"
        outcomes.append(Outcome(claim, len(sooner) == len(tasks), evidence))
    return outcomes


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Print, and draw.

    :param arguments: Words of the command line.
    """
    options = parse(__doc__, arguments, can_run=False)
    runs = with_updates(runs_in(options.results))
    print(times(runs, "updates"))
    return show(check(runs), drawing.curve_grid(runs, names(runs)[0], "updates"), options.pictures / "figure6")


if __name__ == "__main__":
    main()
