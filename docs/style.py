"""
Check the English of README and manual with proselint: ``python docs/style.py [FILE ...]``.

Beside some of proselint's own checks run the rules below, which name what was common here. Headings, code, tables of
results, links and comments are hidden from it.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from proselint.checks import __register__
from proselint.config import Config
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, types
from proselint.tools import LintFile

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "experiments" / "notebook").glob("*.md")),
]
OWN = {
    r"but\s+for": "except",
    r"(?:nobody|no\s+one|whoever)": "a sentence with a subject",
    r"what\s+(?:is|are|was|were)\s+\w+\s+(?:is|are|was|were)": "the noun",
    r"likewise": "also",
    r"(?:do|does|did)\s+not\s+pay": "does not help",
    r"in\s+(?:the\s+)?place\s+of": "instead of",
    r"(?:is|are|much|and)\s+sooner": "faster, or earlier",
    r"so\s+(?:does|do|did)\s+(?:it|they)": "also",
    r"(?:to|but\s+for|except)\s+the\s+last\s+bit": "bit for bit",
    r"each\s+feeds\s+the\s+other": "what the default does",
    r"told\s+of": "described",
}
"""Patterns, and what to write instead."""

CHECKS = {
    "own": True,
    "archaism": True,
    "cliches": True,
    "lexical_illusions": True,
    "malapropisms": True,
    "needless_variants": True,
    "nonwords": True,
    "redundancy": True,
    "weasel_words": True,
}
HIDDEN = re.compile(
    r"^```.*?^```$|^#+ .*?$|^:::.*?$|<!-- table: .*?<!-- end of table -->|<!--.*?-->|``.+?``|`[^`\n]*`|(?<=\])\([^)\n]*\)|<[^>\n]+>|https?://\S+",
    re.DOTALL | re.MULTILINE,
)


def prose(text: str) -> str:
    """
    Hide what is not prose, so that places stay what they are.

    :param text: A page.
    """
    return HIDDEN.sub(lambda found: re.sub(r"[^\n]", "~", found[0]), text)


def check(page: Path) -> list[str]:
    """
    Check a page.

    :param page: The file.
    :return: A line for each finding.
    """
    lines = []
    for found in LintFile(str(page), prose(page.read_text())).lint(Config(max_errors=1000, checks=CHECKS)):
        (line, column), result = found.pos, found.check_result
        lines.append(f"{page}:{line}:{column}: {result.check_path}: {result.message}")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Check pages.

    :param arguments: The files, all pages if there are none.
    :return: How many findings there are.
    """
    pages = [Path(name) for name in (sys.argv[1:] if arguments is None else arguments)] or PAGES
    registry = CheckRegistry()
    if not registry.checks:
        registry.register_many(__register__)
        registry.register(Check(types.PreferredForms(OWN), path="own", message="write {}, not '{}'"))
    findings = [line for page in pages for line in check(page)]
    print("\n".join(findings) or f"{len(pages)} pages, nothing found")
    return len(findings)


if __name__ == "__main__":
    sys.exit(min(main(), 1))
