"""
What the commands of all figures share.

``python -m experiments.figures.NAME`` prints what the paper claims and whether it holds in the data in
``experiments/results/``, and draws the picture from them as PNG and SVG. With ``--run`` the data are made first, in a size
of minutes; ``--paper`` asks for the paper's size, which is for a cluster (``--ray ADDRESS``). What is in the file is not run
again.
"""

import argparse
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.drawing import PICTURES, save
from experiments.run import on_ray, on_this_machine
from experiments.tables import markdown, read_csv, write_csv
from sb3_esac.quiet import quieten_mujoco

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = Path(__file__).resolve().parent.parent / "results"
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Study:
    """
    Data of a figure.

    :param name: Of its file.
    :param jobs: What is to be run, frozen dataclasses: the paper's size if True, else a small one.
    :param measure: Runs one job; what it gives is written beside the job's own fields.
    """

    name: str
    jobs: Callable[[bool], Sequence[Any]]
    measure: Callable[[Any], Rows]


@dataclass(frozen=True)
class Outcome:
    """
    A claim, and what the data say of it.

    :param claim: What the paper says.
    :param holds: Whether it holds here; None where the data cannot tell.
    :param evidence: What was seen.
    """

    claim: str
    holds: bool | None
    evidence: str

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "holds here", False: "does NOT hold here", None: "cannot be told from these data"}[self.holds]

    @property
    def answer(self) -> str:
        """In one word, for what is not a paper's claim."""
        return {True: "yes", False: "no", None: "unknown"}[self.holds]

    def __str__(self) -> str:
        return f"Claim: {self.claim}\n  {self.verdict}: {self.evidence}"


@dataclass(frozen=True)
class Work:
    """
    A job and how it is measured, in one thing that can be sent to a process.

    :param measure: The function.
    :param job: Its argument.
    """

    measure: Callable[[Any], Rows]
    job: Any


def work(item: Work) -> Rows:
    """
    Measure, in whatever process.

    :param item: The job.
    :return: Rows with the job's fields in front.
    """
    quieten_mujoco()
    return [{**asdict(item.job), **row} for row in item.measure(item.job)]


def key_of(fields: Iterable[Any]) -> tuple[str, ...]:
    """What tells a job from the others, as it reads in a file."""
    return tuple(str(value) for value in fields)


def one_by_one(items: list[Work]) -> Iterator[tuple[Work, Rows | Exception]]:
    """
    Measure in this process, which has loaded all it needs.

    :param items: The jobs.
    :return: Each with its rows or what went wrong.
    """
    for item in items:
        try:
            outcome: Rows | Exception = work(item)
        except Exception as error:
            outcome = error
        yield item, outcome


def run(study: Study, options: argparse.Namespace, path: Path) -> int:
    """
    Run what is missing.

    :param study: What is to be run.
    :param options: The command line.
    :param path: File of the results.
    :return: How many runs failed, for :func:`complain`.
    """
    n_failed = 0
    rows: Rows = list(read_csv(path))
    jobs = list(study.jobs(options.paper))
    names = list(asdict(jobs[0]))
    known = {key_of(row[name] for name in names) for row in rows}
    missing = [Work(study.measure, job) for job in jobs if key_of(asdict(job).values()) not in known]
    print(f"{study.name}: {len(jobs)} runs, {len(jobs) - len(missing)} done before", flush=True)
    if options.ray:
        outcomes = on_ray(missing, options.ray, work)
    else:
        outcomes = one_by_one(missing) if options.processes == 1 else on_this_machine(missing, options.processes, work)
    for item, outcome in outcomes:
        if isinstance(outcome, Exception):
            n_failed += 1
            print(f"FAILED {item.job}: {type(outcome).__name__}: {outcome}", flush=True)
            continue
        rows += outcome
        write_csv(path, rows)
        print(f"  {item.job}", flush=True)
    return n_failed


def complain(n_failed: int) -> None:
    """
    End a command, after all else that it does, with an exit status that tells of failed runs.

    :param n_failed: How many there were.
    :raises SystemExit: If there were any.
    """
    if n_failed:
        raise SystemExit(f"failed runs: {n_failed}; the same command plays them again")


def machine(rows: Rows) -> str:
    """
    Say how busy the machine was while time was measured.

    :param rows: With columns ``load_average`` and ``cores``.
    """
    loads = sorted(float(row["load_average"]) for row in rows)
    return f"load average {loads[0]:g} to {loads[-1]:g} on {rows[0]['cores']} cores" if rows else ""


def was_busy(rows: Rows) -> bool:
    """
    Say whether somebody else had a core while time was measured, so that nothing can be told from it.

    :param rows: With columns ``load_average`` and ``cores``.
    """
    return any(float(row["load_average"]) > int(row["cores"]) + 1 for row in rows)


def make_parser(doc: str | None, can_run: bool = True, has_sizes: bool = True, can_draw: bool = True) -> ArgumentParser:
    """
    Prepare a command line.

    :param doc: What the command does.
    :param can_run: Whether the command makes data of its own.
    :param has_sizes: Whether these come in the paper's size, too.
    :param can_draw: Whether it draws.
    """
    parser = ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if can_run:
        parser.add_argument("--run", action="store_true", help="make the data first")
        parser.add_argument("--processes", type=int, default=1, help="runs at once; 1 where time is measured")
        parser.add_argument("--ray", metavar="ADDRESS", help='a Ray cluster, "auto" for the one of this machine')
    if can_run and has_sizes:
        parser.add_argument("--paper", action="store_true", help="in the paper's size")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FOLDER", help="of the data")
    if can_draw:
        parser.add_argument("--pictures", type=Path, default=PICTURES, metavar="FOLDER", help="where to draw")
    parser.set_defaults(paper=False)
    return parser


def parse(doc: str | None, arguments: Sequence[str] | None, can_run: bool = True) -> argparse.Namespace:
    """
    Read the command line.

    :param doc: What the command does.
    :param arguments: Its words, None for those of the process.
    :param can_run: Whether the command makes data of its own.
    """
    return make_parser(doc, can_run).parse_args(arguments)


def judged(outcomes: list[Outcome]) -> str:
    """
    Make a table of what was to be reached, and whether it was.

    :param outcomes: The claims.
    """
    return markdown(["target", "reached", "evidence"], [[each.claim, each.answer, each.evidence] for each in outcomes])


def show(outcomes: list[Outcome], figure: "Figure", path: Path) -> list[Outcome]:
    """
    Print what the data say of the claims, and save the picture.

    :param outcomes: The claims.
    :param figure: The picture.
    :param path: Where to, without an ending.
    :return: The outcomes.
    """
    for outcome in outcomes:
        print(outcome)
    for file in save(figure, path):
        print(file)
    return outcomes


def command(
    doc: str | None,
    name: str,
    studies: Sequence[Study],
    check: Callable[[dict[str, Rows]], list[Outcome]],
    draw: Callable[[dict[str, Rows]], "Figure"],
    arguments: Sequence[str] | None,
) -> list[Outcome]:
    """
    Do what the command line asks for.

    :param doc: What the command does.
    :param name: Of the picture.
    :param studies: Where its data are from.
    :param check: Compares the data with the paper's claims.
    :param draw: Draws them.
    :param arguments: Words of the command line.
    :return: The outcomes.
    """
    options = parse(doc, arguments)
    n_failed = sum(run(study, options, options.results / f"{study.name}.csv") for study in studies) if options.run else 0
    data = {study.name: read_csv(options.results / f"{study.name}.csv") for study in studies}
    if not any(data.values()):
        raise SystemExit(f"no data in {options.results}: make them with --run")
    outcomes = show(check(data), draw(data), options.pictures / name)
    complain(n_failed)
    return outcomes
