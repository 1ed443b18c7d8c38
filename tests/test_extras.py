"""What an extra promises is there in an environment that has nothing else."""

import ast
from configparser import ConfigParser
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import rl_zoo3
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def brought_by(*extras):
    """Names of all distributions that pip installs for these extras."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = [config["options"]["install_requires"], *(config["options.extras_require"][extra] for extra in extras)]
    waiting = [Requirement(line) for text in texts for line in text.split("\n") if line]
    found = set()
    while waiting:
        requirement = waiting.pop()
        wanted = [{"extra": extra} for extra in ("", *requirement.extras)]
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name in found and not requirement.extras:
            continue
        found.add(name)
        try:
            further = map(Requirement, requires(name) or [])
        except PackageNotFoundError:
            continue
        for each in further:
            if each.marker is None or any(each.marker.evaluate(extra) for extra in wanted):
                each.marker = None
                waiting.append(each)
    return found


def imported_by(package):
    """Names of the packages that the modules of a package import before anything else, whatever happens."""
    for path in Path(package.__path__[0]).rglob("*.py"):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.Import):
                yield from (alias.name.split(".")[0] for alias in statement.names)
            elif isinstance(statement, ast.ImportFrom) and not statement.level:
                yield statement.module.split(".")[0]


def test_the_manual_lists_every_extra():
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    for page in ("README.md", "docs/install.md"):
        text = (ROOT / page).read_text()
        assert [extra for extra in config["options.extras_require"] if f"`{extra}`" not in text] == [], page


def test_what_the_zoos_commands_import_comes_with_the_zoo():
    there, owners = brought_by("zoo"), packages_distributions()
    missing = {
        name
        for name in set(imported_by(rl_zoo3)) & owners.keys()
        if not {canonicalize_name(owner) for owner in owners[name]} & there
    }
    assert missing == set()
    # Windows and videos of Pendulum, which the zoo's commands open.
    assert "pygame-ce" in there
