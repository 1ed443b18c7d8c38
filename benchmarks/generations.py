"""
Seconds per generation for more workers than this machine has cores, from measured parts: ``python -m benchmarks.generations``.

What is measured with one worker: seconds of a step and of an episode (simulator, forward and recording), what the parent
needs to send parameters out, and its time for taking an episode in (its transitions, if they are shared, and telling callbacks
of its steps). What is computed: members are taken in order by whoever is free, with the episode lengths that were seen; a
generation ends when the last one has ended, and not before the parent has taken everything in. To and from other machines
parameters and transitions go through a network of the given bandwidth, which is assumed and not measured, as is that a core
there is as fast as here. One and two workers are measured as well, beside their prediction.
"""

import argparse
import heapq
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.evaluation import RESULTS, write
from benchmarks.tasks import NETS, Setting, make_monitored
from experiments.tables import Tables, columns
from sb3_esac.evaluation.evaluator import EvaluationRequest, Evaluator
from sb3_esac.evaluation.subproc import SubprocEvaluator

ENVIRONMENTS = ["HalfCheetah-v5", "Hopper-v5", "Humanoid-v5"]
SHORT = 20
"""Steps of the short episodes that tell what an episode costs apart from its steps."""


@dataclass(frozen=True)
class Parts:
    """
    What a generation is made of.

    :param step: Seconds of one worker for a step.
    :param episode: Seconds of one worker for an episode apart from its steps.
    :param out: Seconds of the parent per byte of parameters.
    :param taking_in: Seconds of the parent for an episode of mean length.
    :param bytes_in: Bytes that come back of such an episode.
    :param lengths: (n,) lengths of the episodes.
    :param n_parameters: Length of a parameter vector.
    """

    step: float
    episode: float
    out: float
    taking_in: float
    bytes_in: float
    lengths: np.ndarray
    n_parameters: int


def makespan(durations: np.ndarray, n_workers: int) -> float:
    """
    Time until the last of some jobs is done, when each is taken in order by the worker that is free first.

    :param durations: (n,) seconds.
    :param n_workers: Number of workers.
    :return: Seconds.
    """
    free_at = [0.0] * n_workers
    for duration in durations.tolist():
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def predict(parts: Parts, n_members: int, n_workers: int, bandwidth: float, cores: int) -> dict[str, float]:
    """
    Predict the seconds of a generation.

    :param parts: What was measured.
    :param n_members: Members, an episode each.
    :param n_workers: Number of workers.
    :param bandwidth: Bytes per second of the network of the parent's machine.
    :param cores: Cores of a machine; workers beyond it are on others.
    :return: The parts and the whole.
    """
    lengths = np.resize(parts.lengths, n_members)
    size = 4.0 * parts.n_parameters * n_members
    n_used = min(n_workers, n_members)
    elsewhere = max(0.0, 1.0 - cores / n_used)
    n_machines = -(-n_used // cores)
    out = size * parts.out + size * (n_machines - 1) / bandwidth
    played = makespan(parts.step * lengths + parts.episode, n_workers)
    taken_in = n_members * (parts.taking_in + elsewhere * parts.bytes_in / bandwidth)
    even = float((parts.step * lengths + parts.episode).sum()) / n_workers
    return {"out": out, "play": played, "stragglers": played - even, "in": taken_in, "seconds": out + max(played, taken_in)}


# -- measuring -------------------------------------------------------------------------------------------------------------


def open_evaluator(setting: Setting, backend: str) -> Evaluator:
    """
    Make an evaluator.

    :param setting: Environment and number of workers.
    :param backend: "subproc" or "ray".
    """
    make = partial(make_monitored, setting.env)
    if backend == "subproc":
        return SubprocEvaluator(make, setting.n_workers)
    from sb3_esac.evaluation.ray import RayEvaluator

    return RayEvaluator(make, setting.n_workers)


def _send(evaluator: Evaluator, request: EvaluationRequest) -> float:
    """Seconds for putting parameters where workers of this machine find them."""
    start = time.perf_counter()
    if isinstance(evaluator, SubprocEvaluator):
        evaluator.publish([request])
    else:
        import ray

        ray.put(request.parameters)
    return time.perf_counter() - start


def _evaluate(evaluator: Evaluator, request: EvaluationRequest) -> tuple[float, float, Any]:
    """Seconds on the clock, seconds of this process, and the result."""
    start, cpu = time.perf_counter(), time.process_time()
    result = evaluator.evaluate(request, lambda variables: True)
    return time.perf_counter() - start, time.process_time() - cpu, result


def _median_of(n_rounds: int, function: Callable[[], float]) -> float:
    return median(function() for _ in range(n_rounds))


def measure_parts(setting: Setting, sharing: bool, backend: str, n_rounds: int) -> Parts:
    """
    Measure what a generation is made of, with one worker.

    :param setting: Environment, network and members.
    :param sharing: Whether transitions come back.
    :param backend: "subproc" or "ray".
    :param n_rounds: How often.
    """
    request = setting.sharing if sharing else setting.request
    short = replace(request, max_episode_steps=SHORT)
    evaluator = open_evaluator(setting, backend)
    with closing(evaluator):
        result = evaluator.evaluate(request, lambda variables: True)
        assert result is not None
        runs = [(_evaluate(evaluator, request), _evaluate(evaluator, short)) for _ in range(n_rounds)]
        out = _median_of(n_rounds, partial(_send, evaluator, request))
    n = setting.n_members
    lengths = result.lengths.reshape(-1)
    full, brief = median(long[0] for long, _ in runs), median(quick[0] for _, quick in runs)
    n_brief = float(np.minimum(lengths, SHORT).sum())
    step = (full - brief) / max(float(lengths.sum()) - n_brief, 1.0)
    episode = max(0.0, (brief - out - n_brief * step) / n)
    transitions = result.episodes[0].transitions
    bytes_in = 4.0 * lengths.mean()
    if transitions is not None:
        assert isinstance(transitions.observations, np.ndarray)
        row = transitions.observations[0].nbytes + transitions.actions[0].nbytes + 4
        bytes_in += row * lengths.mean()
    size = request.parameters.nbytes
    taking_in = max(0.0, median(long[1] for long, _ in runs) - out) / n
    return Parts(step, episode, out / size, taking_in, float(bytes_in), lengths, request.parameters.shape[1])


def measure_generation(setting: Setting, sharing: bool, backend: str, n_rounds: int) -> float:
    """
    Measure the seconds of a generation.

    :param setting: What is played, by how many workers.
    :param sharing: Whether transitions come back.
    :param backend: "subproc" or "ray".
    :param n_rounds: How often; the median is returned.
    """
    request = setting.sharing if sharing else setting.request
    with closing(open_evaluator(setting, backend)) as evaluator:
        _evaluate(evaluator, request)
        return _median_of(n_rounds, lambda: _evaluate(evaluator, request)[0])


# -- the command -----------------------------------------------------------------------------------------------------------


def rows_of(setting: Setting, sharing: bool, options: argparse.Namespace) -> list[dict[str, Any]]:
    """
    Measure one environment and predict.

    :param setting: Environment, network and members.
    :param sharing: Whether transitions come back.
    :param options: The command line.
    """
    parts = measure_parts(setting, sharing, options.backend, options.rounds)
    rows = []
    for n_members in options.members:
        for n_workers in options.workers:
            prediction = predict(parts, n_members, n_workers, options.bandwidth, options.cores)
            row: dict[str, Any] = {"backend": options.backend, "env": setting.env, "sharing": sharing}
            row.update(members=n_members, workers=n_workers)
            row.update({name: round(abs(seconds), 4) for name, seconds in prediction.items()})
            row["measured"] = ""
            if n_members == setting.n_members and n_workers <= options.measure_up_to:
                measured = measure_generation(replace(setting, n_workers=n_workers), sharing, options.backend, options.rounds)
                row["measured"] = round(measured, 4)
            rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """
    Print a table.

    :param rows: Rows of :func:`rows_of`.
    """
    names = list(rows[0])
    widths = [max(len(str(value)) for value in [name, *(row[name] for row in rows)]) for name in names]
    for values in [names, *(list(row.values()) for row in rows)]:
        print("  ".join(f"{value!s:>{width}}" for value, width in zip(values, widths, strict=True)))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """
    Read the command line.

    :param arguments: Its words, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--backend", default="subproc", choices=["subproc", "ray"])
    parser.add_argument("--net", default="2 x 256", choices=list(NETS))
    parser.add_argument("--members", nargs="+", type=int, default=[50, 1024], help="the first is what is measured")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 8, 64, 512])
    parser.add_argument("--bandwidth", type=float, default=1.25e9, help="bytes per second between machines (10 Gbit/s)")
    parser.add_argument("--cores", type=int, default=64, help="cores of a machine")
    parser.add_argument("--measure-up-to", type=int, default=2, help="workers that this machine has cores for")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one small case, to see that everything runs")
    parser.add_argument("--output", type=Path, default=RESULTS / "generations.csv")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, predict, print and save.

    :param arguments: Words of the command line.
    :return: All rows.
    """
    options = parse(arguments)
    if options.quick:
        options.envs, options.net, options.members, options.rounds = ["Pendulum-v1"], "2 x 64", [4, 64], 1
        options.measure_up_to = 1
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for env in options.envs:
        for sharing in (False, True):
            rows += rows_of(Setting(env, options.net, 1, options.members[0]), sharing, options)
            write(rows, list(rows[0]), options.output)
    show(rows)
    return rows


TABLES: Tables = {
    "generations": lambda: columns(
        RESULTS / "generations.csv",
        "backend",
        "env",
        "sharing",
        "members",
        "workers",
        "out",
        "play",
        "stragglers",
        "in",
        "seconds",
        "measured",
    )
}


if __name__ == "__main__":
    main()
