"""
Run an experiment: ``python -m experiments.run NAME``, on this machine's cores or, with ``--ray ADDRESS``, on a cluster.

Runs that are in ``experiments/results/NAME.csv`` are skipped, and a run is written there only when it has ended: an experiment
that was killed goes on where it was, and nothing is counted twice. ``--list`` names the experiments.
"""

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MUJOCO_GL", "disable")

from experiments.jobs import Job, Row, play  # noqa: E402
from experiments.matrices import MATRICES  # noqa: E402
from experiments.twins import esac_first, twin  # noqa: E402
from sb3_esac.quiet import quieten_mujoco  # noqa: E402

RESULTS = Path(__file__).parent / "results"
COLUMNS = [field.name for field in fields(Row)]


def done(path: Path) -> set[tuple[str, str, int, int]]:
    """
    Which runs a file of results has.

    :param path: The file.
    :return: Their keys.
    """
    if not path.exists():
        return set()
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return {(row["task"], row["algorithm"], int(row["seed"]), int(row["budget"])) for row in rows if row["is_last"] == "True"}


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """
    Write a run down, all of its rows at once. A file that was begun before there was a column goes on without it.

    :param path: The file.
    :param rows: What :func:`experiments.jobs.play` gave.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    is_new, columns = not path.exists(), COLUMNS
    if not is_new:
        with path.open(newline="") as file:
            columns = next(csv.reader(file), COLUMNS)
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def quietly(job: Job, path: Path | None = None) -> list[dict[str, Any]]:
    """
    Play a run in a process of its own, unless another one tells how it ends.

    :param job: The run.
    :param path: File of results that may have the other.
    """
    if path is not None and (rows := twin(job, path)):
        return rows
    quieten_mujoco()
    return play(job)


def end_with_parent() -> None:
    """End this process when the one that started it does: what a killed runner leaves behind plays for nobody."""
    parent = parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=wait, daemon=True).start()


def on_this_machine(
    jobs: list[Any], n_processes: int, function: Callable[[Any], list[dict[str, Any]]] = quietly
) -> Iterator[tuple[Any, list[dict[str, Any]] | Exception]]:
    """
    Play runs in processes.

    :param jobs: The runs.
    :param n_processes: How many at once.
    :param function: What plays one.
    :return: Each run as it ends, with its rows or what went wrong.
    """
    with ProcessPoolExecutor(n_processes, get_context("spawn"), end_with_parent, max_tasks_per_child=1) as pool:
        futures = {pool.submit(function, job): job for job in jobs}
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield futures[future], error if isinstance(error, Exception) else future.result()


def on_ray(
    jobs: list[Any], address: str, function: Callable[[Any], list[dict[str, Any]]] = quietly
) -> Iterator[tuple[Any, list[dict[str, Any]] | Exception]]:
    """
    Play runs on a cluster, one core each.

    :param jobs: The runs.
    :param address: Of the cluster; "local" starts one here.
    :param function: What plays one.
    :return: Each run as it ends, with its rows or what went wrong.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    ray.init(address=None if address == "local" else address, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1, max_calls=1)(function)
    waiting = {remote.remote(job): job for job in jobs}
    try:
        while waiting:
            (ready,), _ = ray.wait(list(waiting))
            job = waiting.pop(ready)
            try:
                yield job, ray.get(ready)
            except ray.exceptions.RayError as error:
                yield job, error
    finally:
        ray.shutdown()


def clock(seconds: float) -> str:
    """Hours and minutes."""
    return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d} h"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """
    Read the command line.

    :param arguments: Its words, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", choices=list(MATRICES))
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--ray", metavar="ADDRESS", help='a Ray cluster, "auto" for the one of this machine, "local" to start one'
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="only these")
    parser.add_argument("--tasks", nargs="+", help="only these")
    parser.add_argument("--algorithms", nargs="+", help="only these")
    parser.add_argument("--device", default="cpu", help="of the networks that learn, cpu or cuda")
    parser.add_argument("--output", type=Path, help="file of the results")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run what is missing.

    :param arguments: Words of the command line.
    :return: How many runs failed.
    """
    options = parse(arguments)
    if options.list or options.name is None:
        for name, make in MATRICES.items():
            jobs = make()
            print(f"{name}: {len(jobs)} runs, {sum(job.total_timesteps for job in jobs) / 1e6:.1f} million steps")
        return 0
    path = options.output or RESULTS / f"{options.name}.csv"
    known = done(path)
    wanted = [
        job
        for job in MATRICES[options.name]()
        if (options.seeds is None or job.seed in options.seeds)
        and (options.tasks is None or job.task in options.tasks)
        and (options.algorithms is None or job.algorithm in options.algorithms)
    ]
    if not wanted:
        raise SystemExit(f"{options.name} has no run with these seeds, tasks and algorithms: --list names experiments")
    jobs = esac_first([replace(job, device=options.device) for job in wanted if job.key not in known])
    print(f"{options.name}: {len(wanted)} runs, {len(wanted) - len(jobs)} done before", flush=True)
    start, n_failed = time.monotonic(), 0
    # Workers of a cluster do not see this machine's files, and play everything.
    alone = partial(quietly, path=path)
    outcomes = on_ray(jobs, options.ray) if options.ray else on_this_machine(jobs, options.processes, alone)
    for n, (job, outcome) in enumerate(outcomes, 1):
        what = f"{job.task}, {job.algorithm}, seed {job.seed}"
        if isinstance(outcome, Exception):
            n_failed += 1
            print(f"FAILED {what}: {type(outcome).__name__}: {outcome}", flush=True)
        else:
            append(path, outcome)
            last = outcome[-1]
            what += f": {last['deployed']} after {last['total_steps']} steps, {last['updates']} updates"
            print(f"{what}, {last['cpu_seconds']} s of CPU", flush=True)
        elapsed = time.monotonic() - start
        print(f"  {n} of {len(jobs)}, {clock(elapsed)} gone, about {clock(elapsed / n * (len(jobs) - n))} left", flush=True)
    return n_failed


if __name__ == "__main__":
    sys.exit(main())
