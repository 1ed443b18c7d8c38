"""
Fill the tables of the documentation from data in the repository: ``python docs/fill.py``, with ``--check`` only to compare.

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``.
"""

import argparse
import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.tables import markdown  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w ,.-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
ANCHORS = {"defaults", "mujoco", "dm_control", "continuous"}
"""Entries of hyperparameter files that are there to be referred to."""


def read(path: str) -> list[dict[str, str]]:
    """
    Read a CSV file.

    :param path: Where it is, from the root of the repository.
    """
    with (ROOT / path).open() as file:
        return list(csv.DictReader(file))


def tasks(algorithm: str) -> str:
    """
    Tasks of a hyperparameter file, with the command that trains each and its budget.

    :param algorithm: Its name in the zoo, which is that of the file.
    """
    content = yaml.safe_load((ROOT / "hyperparams" / f"{algorithm}.yml").read_text())
    rows = []
    for task, values in content.items():
        if task not in ANCHORS:
            name = "any other" if task == "default" else "every other game" if task == "atari" else task
            example = {"default": "TASK", "atari": "PongNoFrameskip-v4"}.get(task, task)
            command = f"python -m sb3_esac.zoo train --algo {algorithm} --env {example}"
            rows.append([name, f"`{command}`", f"{float(values['n_timesteps']):,.0f}"])
    return markdown(["task", "command", "true steps"], rows)


def evaluation_rates(name: str = "evaluation") -> str:
    """Steps per second of each way of evaluating offspring, one row per environment, network and number of workers."""
    rows = read(f"benchmarks/results/{name}.csv")
    ways = list(dict.fromkeys(row["way"] for row in rows))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["env"], row["net"], row["workers"]), {})[row["way"]] = f"{float(row['rate']) / 1000:.1f}"
    lines = [[*key, *[cell.get(way, "") for way in ways]] for key, cell in sorted(cells.items())]
    return markdown(["environment", "network", "workers", *ways], lines)


def evaluation_ratios() -> str:
    """What the evaluation engine is held to, for each cell of the benchmark."""
    rows = read("benchmarks/results/evaluation.csv")
    cells: dict[tuple[str, str, str], dict[str, dict[str, str]]] = {}
    for row in rows:
        cells.setdefault((row["env"], row["net"], row["workers"]), {})[row["way"]] = row
    lines = []
    for key, cell in sorted(cells.items()):
        alone = cells.get((key[0], key[1], "1"), {})
        rate = {way: float(row["rate"]) for way, row in cell.items()}

        def ratio(above: float | None, below: float | None) -> str:
            return "" if not above or not below else f"{above / below:.2f}"

        ours, one = rate.get("workers"), alone.get("workers")
        sharing = rate.get("workers, sharing")
        cost = "" if ours is None or sharing is None else f"{100 * (1 - sharing / ours):.0f} %"
        twice = ratio(ours, float(one["rate"])) if one is not None and key[2] != "1" else ""
        per_core = cell["workers"]["per_core"] if "workers" in cell else ""
        overhead = cell["workers"]["overhead_ms"] if "workers" in cell else ""
        lines.append([*key, per_core, ratio(ours, rate.get("ARS + AsyncEval")), twice, cost, overhead])
    header = ["environment", "network", "workers", "of the simulator", "times ARS", "times one worker", "sharing costs"]
    return markdown([*header, "ms beyond simulator and forward, per episode"], lines)


def scaling() -> str:
    """Steps per second of whole runs, measured and predicted."""
    columns = ["env", "members", "workers", "kind", "serial_ms", "generation_ms", "rate", "simulator", "of_simulator"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/scaling.csv")])


def generations() -> str:
    """Predicted and measured seconds per generation."""
    columns = ["backend", "env", "sharing", "members", "workers", "out", "play", "stragglers", "in", "seconds", "measured"]
    rows = [[row[name] for name in columns] for row in read("benchmarks/results/generations.csv")]
    return markdown(columns, rows)


def updates() -> str:
    """Milliseconds of CPU for an update."""
    columns = ["env", "agent", "ms_per_update", "fastest", "slowest"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/updates.csv")])


def updates_gpu() -> str:
    """Milliseconds of CPU for an update on a GPU."""
    columns = ["env", "agent", "per_call", "ms_per_update", "fastest", "slowest"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/updates_gpu.csv")])


def simulators() -> str:
    """Steps per second on a ``VecEnv`` that is a simulator itself."""
    columns = ["simulator", "lanes", "way", "rate", "slowest", "fastest", "of_simulator"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/simulators.csv")])


def render_mode() -> str:
    """What a step of LunarLander costs with a render mode and without."""
    columns = ["env", "render_mode", "us_per_step", "fastest", "slowest", "mean_return"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/render_mode.csv")])


def pictures() -> str:
    """What was tried to play games faster."""
    columns = ["what", "way", "us", "fastest", "slowest", "of_first", "equal"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/pictures.csv")])


def separable_cma_es() -> str:
    """Evaluations of the separable CMA-ES and of the package ``cma``, medians over seeds."""
    columns = ["function", "dimension", "seeds", "sep_cma_es", "cma", "cma_passive", "ratio", "ratio_passive"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/strategies.csv")])


def overlap() -> str:
    """Seconds per generation, sequential and overlapping."""
    columns = ["env", "setting", "overlap", "seconds", "slowest", "fastest", "ratio"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/overlap.csv")])


def learning_check() -> str:
    """Whether default arguments learn."""
    rows = read("experiments/results/learning_check.csv")
    columns = ["env", "seed", "target", "return_mean", "total_steps", "gradient_updates", "seconds", "threads"]
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def update_cost() -> str:
    """What a gradient update takes, by the learning check."""
    cells: dict[tuple[str, str], list[float]] = {}
    for row in read("experiments/results/learning_check.csv"):
        cost = 1000 * float(row["gradient_seconds"]) / float(row["gradient_updates"])
        cells.setdefault((row["env"], row["threads"]), []).append(cost)
    lines = [[*key, len(costs), f"{min(costs):.1f}", f"{max(costs):.1f}"] for key, costs in cells.items()]
    return markdown(["env", "threads", "runs", "fastest", "slowest"], lines)


def zoo_check(algorithm: str) -> str:
    """
    What the zoo's commands have learned.

    :param algorithm: "es" or "esac".
    """
    rows = [row for row in read("experiments/results/zoo_check.csv") if row["algo"] == algorithm]
    columns = ["env", "seed", "target", "return_mean", "return_std", "total_steps", "gradient_updates", "seconds", "cores"]
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def experiment(name: str, clock: str = "cpu") -> str:
    """
    What ``python -m experiments.run NAME`` has come to: the last evaluation of every run that has ended.

    :param name: Name of the experiment.
    :param clock: "cpu" or "wall".
    """
    seconds = {"cpu": "seconds of CPU", "wall": "seconds"}[clock]
    columns = ["task", "algorithm", "true steps", "updates", seconds, "mean return", "return of each seed"]
    path = f"experiments/results/{name}.csv"
    runs: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in read(path) if (ROOT / path).exists() else []:
        if row["is_last"] == "True":
            runs.setdefault((row["task"], row["algorithm"]), []).append(row)
    lines = []
    for key, rows in runs.items():
        rows.sort(key=lambda row: int(row["seed"]))
        means = {
            column: sum(float(row[column]) for row in rows) / len(rows)
            for column in ("total_steps", "updates", f"{clock}_seconds")
        }
        returns = [float(row["deployed"]) for row in rows]
        each = ", ".join(f"{value:.0f}" for value in returns)
        cells = [f"{value:,.0f}" for value in means.values()]
        lines.append([*key, *cells, f"{sum(returns) / len(returns):.0f}", each])
    return markdown(columns, lines or [["no runs yet", *[""] * (len(columns) - 1)]])


def games() -> str:
    """Scores of canonical ES on games, with progressive episode lengths and without."""
    from experiments.figures import atari

    return atari.table(atari.read()[atari.NAME])


def games_at_random() -> str:
    """What random play scores, and steps per second."""
    from experiments.games import RATES, rates_table
    from experiments.tables import read_csv

    return rates_table(read_csv(ROOT / "experiments" / "results" / f"{RATES.name}.csv"))


def search() -> str:
    """Every evaluation of the search for defaults."""
    columns = [
        "task",
        "algorithm",
        "changes",
        "statistics",
        "seed",
        "total_steps",
        "agent_steps",
        "updates",
        "agent",
        "deployed",
    ]
    rows = sorted(
        read("experiments/results/search.csv"),
        key=lambda row: (row["task"] != "HalfCheetah-v5", row["task"], row["algorithm"], row["changes"], row["statistics"]),
    )
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def statistics_of_observations() -> str:
    """What the agent had after so many updates, by whose observations inputs were normalised; each run a line."""
    runs: dict[tuple[str, ...], dict[int, str]] = {}
    for row in read("experiments/results/search_statistics.csv"):
        key = tuple(row[name] for name in ("task", "statistics", "changes", "seed"))
        runs.setdefault(key, {})[round(int(row["updates"]) / 1000)] = row["agent"]
    lines = [[*key, ", ".join(f"{k}k: {value}" for k, value in values.items())] for key, values in sorted(runs.items())]
    return markdown(["task", "statistics", "changes", "seed", "return of the agent after updates"], lines)


def what_the_agent_needs() -> str:
    """What the agent had after so many of its own steps, by its arguments; each run a line."""
    columns = ["task", "file", "changes", "seed"]
    runs: dict[tuple[str, ...], list[str]] = {}
    steps: dict[tuple[str, ...], int] = {}
    for row in read("experiments/results/search_agent.csv"):
        point = f"{int(row['agent_steps']) / 1000:.1f}k: {float(row['agent']):.0f}"
        begins = int(row["agent_steps"]) < steps.get(key := tuple(row[name] for name in columns), 0)
        runs.setdefault(key, []).append(f"once more {point}" if begins else point)
        steps[key] = int(row["agent_steps"])
    lines = [[*key, ", ".join(points)] for key, points in sorted(runs.items())]
    return markdown([*columns, "return of the agent after its steps"], lines)


def averages() -> str:
    """
    What the agent was worth, and its averages over the last so many updates, or the last part of them: mean of all evaluations
    after the first update, and in brackets the worst of the second half; each run a line.
    """
    columns = ["task", "file", "changes", "seed"]
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read("experiments/results/averaging.csv"):
        runs.setdefault(tuple(row[name] for name in columns), []).append(row)
    policies = [name for name in row if name == "agent" or name.startswith("last ")]
    lines = []
    for key, rows in sorted(runs.items()):
        cells = []
        for name in policies:
            values = [float(row[name]) for row in rows if row[name]]
            cells.append(f"{sum(values) / len(values):.0f} ({min(values[len(values) // 2 :]):.0f})" if values else "")
        lines.append([*key, *cells])
    return markdown([*columns, *policies], lines)


def search_fast() -> str:
    """The last evaluation of each run of the search for the file of the clock."""
    columns = ["task", "algorithm", "network", "changes", "seed", "steps", "seconds", "mean", "deployed"]
    last = {tuple(row[name] for name in columns[:5]): row for row in read("experiments/results/search_fast.csv")}
    rows = sorted(last.values(), key=lambda row: (row["algorithm"] != "ES", row["task"]))
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def longer_budgets() -> str:
    """The last evaluation of runs for the clock with more steps than the file has, and the best one of their agents."""
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read("experiments/results/clock_longer.csv"):
        runs.setdefault((row["task"], row["budget"], row["champion"], row["seed"]), []).append(row)
    lines = []
    for key, rows in runs.items():
        columns = ("wall_seconds", "updates", "deployed", "mean", "agent")
        best = max(float(row["agent"]) for row in rows)
        lines.append([*key, *(f"{float(rows[-1][name]):.0f}" for name in columns), f"{best:.0f}"])
    header = ["task", "budget", "champion", "seed", "seconds", "updates", "deployed", "mean", "agent", "agent at its best"]
    return markdown(header, lines)


def speed() -> str:
    """What a step and an update of SAC cost."""
    columns = ["task", "algorithm", "threads", "step_ms", "update_ms", "load"]
    return markdown(columns, [[row[name] for name in columns] for row in read("experiments/results/speed.csv")])


def learning_with_either_update() -> str:
    """Areas under learning curves with SB3's updates and with those by hand, seed by seed."""
    import numpy as np
    import scipy.stats

    runs: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in read("experiments/results/updates.csv"):
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


def loop() -> str:
    """Steps per second of an agent's whole loop."""
    columns = ["env", "agent", "rate", "cpu_rate", "acting_ms", "gradient_ms", "simulator_ms"]
    return markdown(columns, [[row[name] for name in columns] for row in read("benchmarks/results/loop.csv")])


def on_the_clock() -> str:
    """How long it takes to reach SAC's returns."""
    from experiments.figures.clock import collect, table

    return table(collect())


def targets_on_the_clock() -> str:
    """What was to be reached on the clock, and whether it was."""
    from experiments.figures.clock import check, collect

    return markdown(["target", "reached", "evidence"], [[each.claim, each.answer, each.evidence] for each in check(collect())])


def targets_in_steps() -> str:
    """What was to be reached at equal true steps, and whether it was."""
    from experiments.comparison import read
    from experiments.figures.steps import check

    found = check(read(ROOT / "experiments" / "results" / "benchmark.csv"))
    return markdown(["target", "reached", "evidence"], [[each.claim, each.answer, each.evidence] for each in found])


def measures(name: str) -> str:
    """
    Normalised returns, areas and dips of all who have played a task.

    :param name: Name of the experiment.
    """
    from experiments import parts, report

    return report.by_task(report.summarise(parts.played(name), "cpu_seconds").measured)


def parts(name: str) -> str:
    """
    What is lost without the parts of ESAC.

    :param name: Name of the experiment.
    """
    from experiments.parts import table

    return table(name)


def course_of_benchmark() -> str:
    """Return of what is deployed after each tenth of the budget, the agent's in brackets where another is deployed."""
    from experiments import comparison

    runs = comparison.read(ROOT / "experiments" / "results" / "benchmark.csv")
    lines = []
    for (task, algorithm), seeds in runs.items():
        for seed, rows in seeds.items():
            course = []
            for tenth in range(1, 11):
                # An evaluation comes with the first step from its position on, the last one after the end.
                row = next((row for row in rows if row["total_steps"] >= tenth / 10 * float(row["budget"])), rows[-1])
                agent = f" ({float(row['agent']):.4g})" if row["agent"] and float(row["agent"]) != row["deployed"] else ""
                course.append(f"{row['deployed']:.4g}{agent}")
            lines.append([task, algorithm, seed, *course])
    return markdown(["task", "algorithm", "seed", *(f"{tenth}0%" for tenth in range(1, 11))], lines)


def updates_of_benchmark() -> str:
    """How many updates it takes to reach SAC's returns."""
    from experiments import comparison, report

    runs = comparison.read(ROOT / "experiments" / "results" / "benchmark.csv")
    return report.times(report.with_updates(runs), "updates")


def claims() -> str:
    """What the papers claim, and whether it holds in the data."""
    from experiments.claims import table

    return table()


TABLES: dict[str, Callable[[], str]] = {
    "claims": claims,
    "tasks of esac": lambda: tasks("esac"),
    "tasks of es": lambda: tasks("es"),
    "evaluation rates": evaluation_rates,
    "evaluation ratios": evaluation_ratios,
    "rates in the process": lambda: evaluation_rates("in_process"),
    "generations": generations,
    "scaling": scaling,
    "overlap": overlap,
    "separable CMA-ES": separable_cma_es,
    "updates": updates,
    "updates with a GPU": updates_gpu,
    "learning with either update": learning_with_either_update,
    "loop": loop,
    "render mode": render_mode,
    "simulators": simulators,
    "learning check": learning_check,
    "cost of an update": update_cost,
    "search": search,
    "statistics of observations": statistics_of_observations,
    "averages of the agent": averages,
    "what the agent needs": what_the_agent_needs,
    "networks": search_fast,
    "longer budgets": longer_budgets,
    "speed": speed,
    "on the clock": on_the_clock,
    "targets on the clock": targets_on_the_clock,
    "runs of clock": lambda: experiment("clock", "wall"),
    "runs of benchmark": lambda: experiment("benchmark"),
    "measures of benchmark": lambda: measures("benchmark"),
    "measures of ablations": lambda: measures("ablations"),
    "parts of ablations_fast": lambda: parts("ablations_fast"),
    "parts of ablations": lambda: parts("ablations"),
    "parts of ablations_long": lambda: parts("ablations_long"),
    "parts of exchange": lambda: parts("exchange"),
    "runs of ablations_long": lambda: experiment("ablations_long"),
    "runs of exchange": lambda: experiment("exchange"),
    "measures of ablations_long": lambda: measures("ablations_long"),
    "measures of ablations_fast": lambda: measures("ablations_fast"),
    "targets in steps": targets_in_steps,
    "updates of benchmark": updates_of_benchmark,
    "course of benchmark": course_of_benchmark,
    "games of pel": games,
    "games at random": games_at_random,
    "pictures": pictures,
    "runs of pel": lambda: experiment("pel"),
    "zoo check of es": lambda: zoo_check("es"),
    "zoo check of esac": lambda: zoo_check("esac"),
}
"""What may stand in a page, and what makes it."""


def fill(text: str) -> str:
    """
    Put every table where it belongs.

    :param text: A page.
    :return: The page with its tables made anew.
    """
    return BLOCK.sub(lambda found: f"{found[1]}{TABLES[found['name']]()}\n{found[3]}", text)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Fill or compare all pages.

    :param arguments: Words of the command line.
    :return: How many pages were not up to date.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    options = parser.parse_args(arguments)
    stale = 0
    for page in PAGES:
        before = page.read_text()
        after = fill(before)
        if after != before:
            stale += 1
            print(f"{page.relative_to(ROOT)}: {'not up to date' if options.check else 'filled'}")
            if not options.check:
                page.write_text(after)
    return stale if options.check else 0


if __name__ == "__main__":
    sys.exit(main())
