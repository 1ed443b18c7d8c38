"""Which Pythons are supported is said in several places, and each says the same."""

import configparser
import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg")
PYTHONS = re.findall(r"Programming Language :: Python :: (3\.\d+)$", CONFIG["metadata"]["classifiers"], re.MULTILINE)
"""Those of the classifiers, which the other places are compared with."""
MINORS = [int(version.removeprefix("3.")) for version in PYTHONS]


def test_the_classifiers_have_no_gap_and_this_python():
    assert list(range(MINORS[0], MINORS[-1] + 1)) == MINORS
    assert sys.version_info.minor in MINORS


def test_what_may_be_installed_on():
    assert CONFIG["options"]["python_requires"] == f">=3.{MINORS[0]},<3.{MINORS[-1] + 1}"


def test_the_hosted_checks_run_on_each():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    (job,) = jobs.values()
    assert job["strategy"]["matrix"]["python"] == PYTHONS
    assert "bash .ci/run" in [step.get("run") for step in job["steps"]]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "Makefile", "docs/install.md"])
def test_pages_name_them(page):
    named = re.findall(r"Python (3\.\d+) to (3\.\d+)", (ROOT / page).read_text())
    assert named and set(named) == {(PYTHONS[0], PYTHONS[-1])}


def test_style_is_that_of_the_oldest():
    assert f'target-version = "py3{MINORS[0]}"' in (ROOT / "pyproject.toml").read_text()
