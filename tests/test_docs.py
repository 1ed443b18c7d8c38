"""Tables in the documentation are what the data in the repository say."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def filler():
    spec = importlib.util.spec_from_file_location("fill", ROOT / "docs" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_up_to_date(filler, capsys):
    stale = filler.main(["--check"])
    assert stale == 0, f"run `python docs/fill.py`: {capsys.readouterr().out}"


def test_every_table_is_used_and_known(filler):
    named = {found["name"] for page in filler.PAGES for found in filler.BLOCK.finditer(page.read_text())}
    assert named == set(filler.TABLES)


def test_every_task_has_its_row(filler):
    table = filler.tasks("esac")
    assert "| dm_control/walker-run-v0 | `python -m sb3_esac.zoo train --algo esac --env dm_control/walker-run-v0` |" in table
    assert len(table.splitlines()) == 2 + 23
