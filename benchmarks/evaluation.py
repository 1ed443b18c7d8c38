"""
Steps per second of offspring evaluation, beside the bare simulator and other libraries: ``python -m benchmarks.evaluation``.

All ways of a cell are opened together and take turns, so that a change of the machine's load meets all of them; medians are
reported. Everybody has one thread per process. Ways whose library is not installed are left out, with a line that says so.
"""

import argparse
import csv
import logging
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would have its processes stand back behind everybody else's.
os.environ.setdefault("RAY_worker_niceness", "0")
os.environ.setdefault("MUJOCO_GL", "disable")

from benchmarks.tasks import CNN, MEMBERS, NETS, Setting, nets  # noqa: E402
from benchmarks.ways import QUICK, WAYS, Run, Work  # noqa: E402
from experiments.tables import Tables, markdown, read_csv  # noqa: E402

NEEDED = ["simulator", "simulator + forward", "workers"]
"""What all others are compared with."""

RESULTS = Path(__file__).parent / "results"
FIELDS = [
    "env",
    "net",
    "workers",
    "way",
    "rate",
    "slowest",
    "fastest",
    "per_core",
    "steps",
    "episodes",
    "seconds",
    "overhead_ms",
]


def measure(run: Run) -> tuple[float, Work]:
    """
    Time one run.

    :param run: What to do.
    :return: Seconds, and what was done.
    """
    start = time.perf_counter()
    work = run()
    return time.perf_counter() - start, work


def measure_cell(setting: Setting, names: list[str], n_rounds: int) -> list[dict[str, Any]]:
    """
    Measure all ways of one cell by turns.

    :param setting: The cell.
    :param names: Names of the ways.
    :param n_rounds: How often each is measured.
    :return: One row for each way.
    """
    with ExitStack() as stack:
        runs: dict[str, Run] = {}
        for name in names:
            try:
                run = stack.enter_context(WAYS[name](setting))
                run()  # processes start, caches fill
                runs[name] = run
            except Exception as error:
                if name in NEEDED:
                    raise
                # Not installed, or not able to start.
                reason = next(iter(str(error).splitlines()), "")
                print(f"  without {name}: {type(error).__name__}: {reason}", flush=True)
        times: dict[str, list[tuple[float, Work]]] = {name: [] for name in runs}
        for _ in range(n_rounds):
            for name, run in runs.items():
                times[name].append(measure(run))
    return summarize(setting, times)


def summarize(setting: Setting, times: dict[str, list[tuple[float, Work]]]) -> list[dict[str, Any]]:
    """
    Make rows of measurements.

    ``per_core`` is the rate in terms of the bare simulator's on the same number of processes, ``overhead_ms`` the milliseconds
    of one core that an episode takes beyond simulator and forward.

    :param setting: The cell.
    :param times: Seconds and work by way.
    """
    rates = {name: [work.n_steps / seconds for seconds, work in runs] for name, runs in times.items()}
    bare = median(rates["simulator"])
    least = median(rates["simulator + forward"])
    rows = []
    for name, runs in times.items():
        seconds, work = median(seconds for seconds, _ in runs), runs[0][1]
        beyond = (seconds - work.n_steps / least) * setting.n_workers
        rows.append(
            {
                "env": setting.env,
                "net": setting.net,
                "workers": setting.n_workers,
                "way": name,
                "rate": round(median(rates[name])),
                "slowest": round(min(rates[name])),
                "fastest": round(max(rates[name])),
                "per_core": round(median(rates[name]) / bare, 3),
                "steps": work.n_steps,
                "episodes": work.n_episodes,
                "seconds": round(seconds, 4),
                "overhead_ms": round(1000 * beyond / work.n_episodes, 3) if work.n_episodes else "",
            }
        )
    return rows


def show(rows: list[dict[str, Any]], names: list[str]) -> None:
    """
    Print one line for each cell: thousands of steps per second by way.

    :param rows: Rows of :func:`summarize`.
    :param names: Ways, in the order of the columns.
    """
    width = max(len(row["env"]) for row in rows)
    print(f"\nthousand steps per second\n{'environment':{width}}  net      workers  " + "  ".join(names))
    for (env, net, workers), cell in _cells(rows):
        rates = [f"{cell[name]['rate'] / 1000:{len(name)}.1f}" if name in cell else " " * len(name) for name in names]
        print(f"{env:{width}}  {net:7}  {workers:7}  " + "  ".join(rates))
    print(f"\nworkers against\n{'environment':{width}}  net      workers  simulator  sharing  ARS  overhead, ms per episode")
    for (env, net, workers), cell in _cells(rows):
        ours = cell["workers"]
        sharing = _ratio(cell, "workers, sharing", "workers")
        others = _ratio(cell, "workers", "ARS + AsyncEval")
        line = f"{ours['per_core']:9.3f}  {sharing:>7}  {others:>3}  {ours['overhead_ms']:24}"
        print(f"{env:{width}}  {net:7}  {workers:7}  {line}")


def _cells(rows: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, str, int], dict[str, dict[str, Any]]]]:
    cells: dict[tuple[str, str, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        cells.setdefault((row["env"], row["net"], row["workers"]), {})[row["way"]] = row
    yield from cells.items()


def _ratio(cell: dict[str, dict[str, Any]], above: str, below: str) -> str:
    if above not in cell or below not in cell:
        return "-"
    return f"{cell[above]['rate'] / cell[below]['rate']:.2f}"


def write(rows: list[dict[str, Any]], names: list[str], path: Path) -> None:
    """
    Write a CSV file.

    :param rows: What stands in it.
    :param names: Its columns.
    :param path: Where to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def others(path: Path, settings: list[Setting]) -> list[dict[str, Any]]:
    """
    Rows of a file that stay when some cells are measured again.

    :param path: The file.
    :param settings: The cells.
    """
    if not path.exists():
        return []
    again = {(setting.env, setting.net, str(setting.n_workers)) for setting in settings}
    with path.open() as file:
        return [row for row in csv.DictReader(file) if (row["env"], row["net"], row["workers"]) not in again]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """
    Read the command line.

    :param arguments: Its words, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=list(MEMBERS), choices=list(MEMBERS))
    parser.add_argument("--nets", nargs="+", default=[*NETS, CNN], choices=[*NETS, CNN])
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one small cell, to see that everything runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "evaluation.csv", help="other cells in it are kept")
    return parser.parse_args(arguments)


def start_ray(names: list[str]) -> list[str]:
    """
    Start one cluster for all that use Ray, large enough that nobody waits for anybody.

    :param names: Ways that are to be measured.
    :return: Those that can be.
    """
    on_ray = {"Ray", "EvoTorch GymNE"}
    if not on_ray & set(names):
        return names
    try:
        import ray

        ray.init(num_cpus=8, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        return names
    except Exception as error:
        print(f"without Ray: {type(error).__name__}: {error}")
        return [name for name in names if name not in on_ray]


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, print and save.

    :param arguments: Words of the command line.
    :return: All rows.
    """
    options = parse(arguments)
    settings = [
        Setting(env, net, n_workers, MEMBERS[env])
        for env in options.envs
        for net in nets(env)
        if net in options.nets
        for n_workers in options.workers
    ]
    if options.quick:
        settings, options.ways, options.rounds = [Setting("Pendulum-v1", "2 x 64", 1, 4)], QUICK, 1
    warnings.simplefilter("ignore")
    options.ways = start_ray(options.ways)
    rows: list[dict[str, Any]] = []
    kept = others(options.output, settings)
    for setting in settings:
        print(f"{setting.env}, {setting.net}, {setting.n_workers} workers", flush=True)
        names = list(dict.fromkeys([*NEEDED, *options.ways]))
        rows += measure_cell(setting, names, options.rounds)
        write(kept + rows, FIELDS, options.output)
    show(rows, names)
    return rows


def rates(name: str = "evaluation") -> str:
    """Steps per second of each way of evaluating offspring, one row per environment, network and number of workers."""
    rows = read_csv(RESULTS / f"{name}.csv")
    ways = list(dict.fromkeys(row["way"] for row in rows))
    cells: dict[tuple[str, str, str], dict[str, str]] = {}
    for row in rows:
        cells.setdefault((row["env"], row["net"], row["workers"]), {})[row["way"]] = f"{float(row['rate']) / 1000:.1f}"
    lines = [[*key, *[cell.get(way, "") for way in ways]] for key, cell in sorted(cells.items())]
    return markdown(["environment", "network", "workers", *ways], lines)


def ratios() -> str:
    """What the evaluation engine is held to, for each cell of the benchmark."""
    rows = read_csv(RESULTS / "evaluation.csv")
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


TABLES: Tables = {
    "evaluation rates": rates,
    "evaluation ratios": ratios,
    "rates in the process": lambda: rates("in_process"),
}


if __name__ == "__main__":
    main()
