"""
Whether the tests notice when a line is wrong: ``python -m tests.mutants MODULE... [--jobs N]``, at the top of the repository.

One mutant at a time: a comparison, an operator, a constant or a return of a module (``evolution/operators``, a folder such as
``evolution/strategies``) is changed in a copy of the package, and the tests of that module run against the copy. What no test
notices is listed. It is either another way to write the same thing, or a test that is missing.
"""

import argparse
import ast
import contextlib
import copy
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import cache_from_source
from multiprocessing.context import ForkServerContext
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "sb3_esac"

TESTS = {
    "evolution/operators": ("operators", "optimizers", "strategies", "population"),
    "evolution/optimizers": ("optimizers", "strategies"),
    "evolution/noise": ("noise", "population"),
    "evolution/schedules": ("schedules",),
    "evolution/episode_lengths": ("episode_length",),
    "evolution/arguments": ("strategies", "cem", "sep_cma_es", "arguments"),
    "evolution/population": ("population", "protocol", "old_files"),
    "evolution/strategies/__init__": ("strategies", "protocol"),
    "evolution/strategies/ask_tell": ("strategies", "protocol", "cem"),
    "evolution/strategies/canonical": ("strategies", "protocol"),
    "evolution/strategies/openai": ("strategies", "protocol", "population"),
    "evolution/strategies/protocol": ("protocol", "strategies", "population"),
    "evolution/strategies/cem": ("cem", "protocol", "strategies"),
    "evolution/strategies/sep_cma_es": ("sep_cma_es", "protocol", "strategies"),
    "agent/sharing": ("buffers", "undo"),
    "champion": ("champion_rule",),
}
"""Test files by module, those that fail first at the front; ``test_NAME.py`` for a module that is not here."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
}
NAMES = {
    "min": "max",
    "minimum": "maximum",
    "zeros": "ones",
    "zeros_like": "ones_like",
    "any": "all",
    "ceil": "floor",
    "argmin": "argmax",
}
NAMES |= {other: name for name, other in NAMES.items()}
SWAPPED = {"where": (1, 2), "lexsort": (0, 1), "subtract": (0, 1), "divide": (0, 1), "clip": (1, 2)}
"""Functions by the arguments that change places; of an only argument that is a tuple, its elements do."""


def of_expression(node: ast.AST) -> Iterator[ast.AST]:
    """
    Give what an expression is turned into.

    :param node: An expression; it is left alone.
    """
    if isinstance(node, ast.Compare):
        for i, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1 :]], node.comparators)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield ast.BinOp(node.left, OPERATORS[type(node.op)](), node.right)
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub | ast.Invert):
        yield node.operand
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Constant):
        yield from map(ast.Constant, of_constant(node.value))
    elif isinstance(node, ast.Call):
        yield from of_call(node)


def of_constant(value: object) -> list[object]:
    """
    Give what a constant is turned into; strings stay.

    :param value: Its value.
    """
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, float) and value:
        return [2 * value]
    return [value + 1] if isinstance(value, int | float) else []


def of_call(node: ast.Call) -> Iterator[ast.AST]:
    """
    Give what a call is turned into: of a function that is taken for another, or with arguments in another order.

    :param node: The call; it is left alone.
    """
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    twin = copy.deepcopy(node)
    if name in NAMES:
        if isinstance(twin.func, ast.Attribute):
            twin.func.attr = NAMES[name]
        else:
            twin.func = ast.Name(NAMES[name], ast.Load())
        yield twin
    elif name in SWAPPED:
        one, other = SWAPPED[name]
        values = twin.args[0].elts if len(twin.args) == 1 and isinstance(twin.args[0], ast.Tuple) else twin.args
        if len(values) > other:
            values[one], values[other] = values[other], values[one]
            yield twin


def of_statement(node: ast.stmt) -> Iterator[ast.stmt]:
    """
    Give what a statement is turned into.

    :param node: The statement; it is left alone.
    """
    if isinstance(node, ast.Return) and node.value is not None and ast.unparse(node.value) != "None":
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield ast.AugAssign(node.target, OPERATORS[type(node.op)](), node.value)


# Types, decorators, what is said in an error, and what cannot be.
LEFT_ALONE = {"annotation", "returns", "decorator_list", "bases", "type_comment", "exc", "msg"}


def places(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """
    Walk the places in which a node stands: its parent, the field, and the index if that is a list.

    :param node: Where to begin.
    """
    for field, value in ast.iter_fields(node):
        if field in LEFT_ALONE or isinstance(node, ast.Assert | ast.JoinedStr):
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if isinstance(child, ast.AST):
                yield node, field, index
                yield from places(child)


@dataclass(frozen=True)
class Mutant:
    """
    A module with one thing changed.

    :param path: Of the module, from the top of the repository.
    :param line: Line number.
    :param before: What stood there.
    :param after: What stands there now.
    :param source: The whole module.
    """

    path: str
    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before}  ->  {self.after}"


def mutants_of(path: str, source: str) -> Iterator[Mutant]:
    """
    Make the mutants of a module.

    :param path: Its path.
    :param source: Its text.
    """
    tree = ast.parse(source)
    for parent, field, index in list(places(tree)):
        held = getattr(parent, field)
        node = held if index is None else held[index]
        kinds = of_statement(node) if isinstance(node, ast.stmt) else of_expression(node)
        for other in kinds:
            put(parent, field, index, other)
            text = ast.unparse(ast.fix_missing_locations(tree))
            put(parent, field, index, node)
            yield Mutant(path, node.lineno, ast.unparse(node), ast.unparse(other), text)


def put(parent: ast.AST, field: str, index: int | None, node: ast.AST) -> None:
    """
    Put a node in a place.

    :param parent: Its parent.
    :param field: The field.
    :param index: The index in it, if it is a list.
    :param node: The node.
    """
    if index is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[index] = node


# -- running tests --------------------------------------------------------------------------------------------------------

# What pytest does at its end to find objects that were not closed takes longer than most tests.
OPTIONS = ["-x", "-q", "--tb=line", *"-p no:cacheprovider -p no:unraisableexception -p pytest_timeout".split()]
# Nor is the comparison with another package one that a mutant would fail first.
OPTIONS += ["-k", "not as_fast_as"]


def copy_repository(folder: Path) -> Path:
    """
    Copy what is changed or run, and link to the rest.

    :param folder: Where to.
    :return: The same folder.
    """
    for path in ROOT.iterdir():
        if path.name in (PACKAGE, "tests"):
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (folder / path.name).symlink_to(path)
    return folder


def run_tests(folder: Path, files: list[str], keep_bytecode: bool) -> None:
    """
    Run tests in this process, which ends with pytest's exit status.

    :param folder: A copy of the repository.
    :param files: Names of test files.
    :param keep_bytecode: Whether what is compiled is kept for later runs.
    """
    import hypothesis
    import pytest

    # To be killed with whatever the tests start.
    os.setsid()
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    # Looking for plugins takes longer than most tests.
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # Two mutants of one second and one size would be taken for the same.
    sys.dont_write_bytecode = not keep_bytecode
    os.environ["PYTHONDONTWRITEBYTECODE"] = "" if keep_bytecode else "1"
    sys.path[:] = [str(folder), *(path for path in sys.path if Path(path or ".").resolve() != ROOT)]
    # An example that fails is enough, it need not be the simplest.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile("mutants", phases=phases, database=None, derandomize=True, deadline=None)
    hypothesis.settings.load_profile("mutants")
    with (folder / "output.txt").open("w") as output, contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main([*OPTIONS, *(f"tests/{file}" for file in files)])
    os._exit(int(status))


def outcome(
    context: ForkServerContext, folder: Path, files: list[str], timeout: float, keep_bytecode: bool = False
) -> int | None:
    """
    Run tests in a process of their own.

    :param context: How to start one: it comes with what takes long to import.
    :param folder: A copy of the repository.
    :param files: Names of test files.
    :param timeout: Seconds.
    :param keep_bytecode: Whether what is compiled is kept for later runs.
    :return: Exit status of pytest, None if it took too long.
    """
    process = context.Process(target=run_tests, args=(folder, files, keep_bytecode))
    process.start()
    process.join(timeout)
    late = process.is_alive()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid or 0, signal.SIGKILL)
    process.join()
    return None if late else process.exitcode


def survivors(context: ForkServerContext, folders: "SimpleQueue[Path]", path: Path, jobs: int) -> list[Mutant]:
    """
    Find what the tests of a module do not notice.

    :param context: How to start processes.
    :param folders: A copy of the repository for each job.
    :param path: The module.
    :param jobs: How many mutants are tried at a time.
    """
    name = path.relative_to(ROOT / PACKAGE).with_suffix("").as_posix()
    files = [f"test_{stem}.py" for stem in TESTS.get(name, (path.stem,))]
    here, source = path.relative_to(ROOT).as_posix(), path.read_text()
    folder, start = folders.get(), time.perf_counter()
    # Comments are no part of a mutant, so they are none of this either.
    (folder / here).write_text(ast.unparse(ast.parse(source)))
    if outcome(context, folder, files, 600.0, keep_bytecode=True) != 0:
        raise SystemExit(f"The tests of {name} fail as they are:\n{(folder / 'output.txt').read_text()}")
    Path(cache_from_source(str(folder / here))).unlink(missing_ok=True)
    folders.put(folder)
    timeout = 20 + 3 * (time.perf_counter() - start)

    def survives(mutant: Mutant) -> bool:
        folder = folders.get()
        (folder / here).write_text(mutant.source)
        status = outcome(context, folder, files, timeout)
        (folder / here).write_text(source)
        folders.put(folder)
        return status == 0

    mutants = list(mutants_of(here, source))
    with ThreadPoolExecutor(jobs) as pool:
        found = [mutant for mutant, lives in zip(mutants, pool.map(survives, mutants), strict=True) if lives]
    print(f"{name}: {len(found)} of {len(mutants)} survive, {time.perf_counter() - start:.0f} s", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Whether the tests notice when a line is wrong.")
    parser.add_argument("modules", nargs="+", help="as evolution/operators, or a folder of them")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are tried at a time")
    arguments = parser.parse_args()
    paths: list[Path] = []
    for module in arguments.modules:
        place = ROOT / PACKAGE / module.removesuffix(".py")
        paths += sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "stable_baselines3", "hypothesis", "pytest", "gymnasium"])
    folders: SimpleQueue[Path] = SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        for job in range(arguments.jobs):
            (Path(folder) / str(job)).mkdir()
            folders.put(copy_repository(Path(folder) / str(job)))
        for path in paths:
            for mutant in survivors(context, folders, path, arguments.jobs):
                print(f"  {mutant}", flush=True)


if __name__ == "__main__":
    main()
