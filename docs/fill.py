"""
Fill the tables of the documentation from data in the repository: ``python docs/fill.py``, with ``--check`` only to compare.

A table stands in a page between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. The module that owns it has its name
in a constant ``TABLES``; the modules are named here.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from experiments.tables import Tables  # noqa: E402

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "experiments" / "notebook").glob("*.md"))]
BLOCK = re.compile(r"(<!-- table: (?P<name>[\w ,.-]+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
OWNERS = {
    "benchmarks": "evaluation generations loop overlap pictures render_mode scaling simulators strategies updates",
    "experiments": "claims either_update games leads learning_check parts population report searches speed zoo_check",
    "experiments.figures": "atari clock default_clock pel steps tasks21",
}
"""Modules that own tables, by package."""


def collect() -> Tables:
    """Ask every owner for its tables."""
    tables: Tables = {}
    for package, modules in OWNERS.items():
        for module in modules.split():
            owned: Tables = import_module(f"{package}.{module}").TABLES
            assert not owned.keys() & tables.keys(), f"{package}.{module} owns a table that another module owns"
            tables |= owned
    return tables


TABLES = collect()
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
