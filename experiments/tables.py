"""Tables in Markdown, and rows of CSV files."""

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

Tables = dict[str, Callable[[], str]]
"""Tables of the documentation by name, and what makes each. A module that owns some has a constant ``TABLES`` of this type."""


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """
    Make a table.

    :param header: Titles of the columns.
    :param rows: What stands under them.
    """
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def read_csv(path: Path) -> list[dict[str, str]]:
    """
    Read a file.

    :param path: The file.
    :return: Its rows, none if there is no such file.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """
    Write a file, all of it or nothing: what was there is replaced when the new one is complete.

    :param path: The file.
    :param rows: All of one form, at least one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def columns(path: Path, *names: str) -> str:
    """
    Make a table of some columns of a file.

    :param path: The file.
    :param names: The columns.
    """
    return markdown(names, [[row[name] for name in names] for row in read_csv(path)])
