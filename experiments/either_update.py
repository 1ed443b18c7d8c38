"""Whether updates by hand learn as SB3's do: a table of the experiment "updates"."""

from pathlib import Path

import numpy as np
import scipy.stats

from experiments.tables import Tables, markdown, read_csv

RESULTS = Path(__file__).parent / "results"


def table() -> str:
    """Areas under learning curves with SB3's updates and with those by hand, seed by seed."""
    runs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in read_csv(RESULTS / "updates.csv"):
        runs.setdefault((row["task"], row["algorithm"]), {}).setdefault(row["seed"], []).append(float(row["deployed"]))
    lines = []
    for task in dict.fromkeys(task for task, _ in runs):
        stock, fast = runs[task, "ESAC, updates by SB3"], runs[task, "ESAC, updates by hand"]
        seeds = sorted(set(stock) & set(fast))
        areas = np.array([[np.mean(each[seed]) for seed in seeds] for each in (stock, fast)])
        ends = [np.mean([each[seed][-1] for seed in seeds]) for each in (stock, fast)]
        test = scipy.stats.ttest_rel(areas[1], areas[0])
        low, high = test.confidence_interval(0.95)
        numbers = [*areas.mean(axis=1), *ends]
        better = f"{int((areas[1] > areas[0]).sum())} of {len(seeds)}"
        lines.append([task, *(f"{number:.0f}" for number in numbers), better, f"{low:.0f} to {high:.0f}"])
    header = [
        "task",
        "area, SB3's",
        "area, by hand",
        "end, SB3's",
        "end, by hand",
        "larger area by hand",
        "95% of the difference",
    ]
    return markdown(header, lines)


TABLES: Tables = {"learning with either update": table}
