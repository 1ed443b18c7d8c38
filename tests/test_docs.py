"""Tables in the documentation are what the data in the repository say, its code runs, its list of logged keys is complete."""

import csv
import importlib.util
import inspect
import re
from pathlib import Path

import gymnasium as gym
import pytest
import torch as th
from helpers import Drift, keep_log, make_model
from stable_baselines3 import SAC
from stable_baselines3.common.env_util import make_vec_env

from sb3_esac import ES, ESAC
from sb3_esac.agent.building import DEFAULT_NETWORK
from sb3_esac.evolution.strategies import STRATEGIES

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
    table = filler.TABLES["tasks of esac"]()
    assert "| dm_control/walker-run-v0 | `python -m sb3_esac.zoo train --algo esac --env dm_control/walker-run-v0` |" in table
    assert len(table.splitlines()) == 2 + 23


def test_the_first_claims_of_the_readme_are_those_of_the_data():
    assert "An update takes a third of SB3's time with the default networks" in (ROOT / "README.md").read_text()
    rows = list(csv.DictReader((ROOT / "benchmarks" / "results" / "updates.csv").open()))
    times = {row["agent"]: float(row["ms_per_update"]) for row in rows if row["env"] == "HalfCheetah-v5"}
    assert 0.25 < times["ESAC's, by hand"] / times["ESAC's"] < 0.4


def test_a_page_of_the_manual_has_one_table_of_results(filler):
    """The rest is in the lab notebook. Tables of tasks are commands."""
    for page in (ROOT / "docs").glob("*.md"):
        names = [found["name"] for found in filler.BLOCK.finditer(page.read_text())]
        results = [name for name in names if not name.startswith("tasks of")]
        assert len(results) <= 1, f"{page.name}: {results}"


def test_every_page_of_the_notebook_is_in_the_manual():
    written = {page.name for page in (ROOT / "experiments" / "notebook").glob("*.md")}
    index = (ROOT / "docs" / "notebook.md").read_text()
    for name in written:
        assert f"experiments/notebook/{name}" in (ROOT / "docs" / "notebook" / name).read_text()
        assert f"\nnotebook/{name.removesuffix('.md')}\n" in index
    assert {page.name for page in (ROOT / "docs" / "notebook").glob("*.md")} == written


# -- code in the pages -----------------------------------------------------------------------------------------------------

PYTHON = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n+)?```python\n(?P<code>.*?)```", re.DOTALL)

NOT_RUN = {
    "es.md": "shows an episode on a screen, without end; tests/test_es.py and tests/test_strategies.py run the rest",
    "zoo.md": "reads a command line; tests/test_zoo.py does",
}
"""Pages whose blocks are not run, with the reason. A single block has its reason in a comment before it."""

LARGEST_NUMBER = 640
"""Numbers such as 20_000 in a page are cut to this: it is enough for two generations of a small population."""

EPISODE_STEPS = 40
"""Time limit of Pendulum-v1."""

SMALL = {
    "population_size": 4,
    "batch_size": 8,
    "champion_episodes": 2,
    "train_freq": 16,
    "learning_starts": 50,
}
"""Defaults under which the blocks take seconds."""


def pages_with_code():
    return [page for page in sorted((ROOT / "docs").glob("*.md")) if PYTHON.search(page.read_text())]


def shrink(code):
    return re.sub(r"\b\d+_000\b", lambda found: str(min(int(found[0].replace("_", "")), LARGEST_NUMBER)), code)


def set_defaults(monkeypatch, kind, values):
    """Change the defaults of a constructor."""
    known = inspect.signature(kind).parameters.values()
    defaults = tuple(values.get(p.name, p.default) for p in known if p.default is not p.empty)
    init = inspect.unwrap(kind.__init__)
    assert len(defaults) == len(init.__defaults__)
    monkeypatch.setattr(init, "__defaults__", defaults)


@pytest.fixture
def small(monkeypatch, tmp_path):
    """Small networks and populations, one thread, and a folder where files may be left."""
    monkeypatch.chdir(tmp_path)
    for kind in (ESAC, ES, SAC):
        set_defaults(monkeypatch, kind, SMALL)
    monkeypatch.setattr(gym.registry["Pendulum-v1"], "max_episode_steps", EPISODE_STEPS)
    monkeypatch.setitem(DEFAULT_NETWORK, "net_arch", [8])
    # A page adds a strategy.
    known = dict(STRATEGIES)
    threads = th.get_num_threads()
    th.set_num_threads(1)
    yield
    STRATEGIES.clear()
    STRATEGIES.update(known)
    th.set_num_threads(threads)


def test_pages_that_are_not_run_exist():
    assert set(NOT_RUN) <= {page.name for page in pages_with_code()}


@pytest.mark.parametrize("page", [page for page in pages_with_code() if page.name not in NOT_RUN], ids=lambda page: page.name)
def test_code_runs(page, small):
    """Blocks of a page follow upon each other, as a reader would run them."""
    names = {"__name__": "page"}
    blocks = [found for found in PYTHON.finditer(page.read_text()) if found["reason"] is None]
    assert blocks
    for block in blocks:
        # Padded, so that a traceback has the line of the page.
        line = page.read_text()[: block.start("code")].count("\n")
        exec(compile("\n" * line + shrink(block["code"]), str(page), "exec"), names)


# -- logged keys ----------------------------------------------------------------------------------------------------------

KEY = re.compile(r"^\| `(?P<key>[\w/]+)` \|", re.MULTILINE)


class Succeeding(Drift):
    """Says whether it was a success."""

    def step(self, action):
        observation, reward, terminated, truncated, _ = super().step(action)
        return observation, reward, terminated, truncated, {"is_success": not terminated}


def documented_keys():
    """Keys of the page by section."""
    sections = re.split(r"^## ", (ROOT / "docs" / "logging.md").read_text(), flags=re.MULTILINE)
    return {section.partition("\n")[0]: [found["key"] for found in KEY.finditer(section)] for section in sections[1:]}


BY_THE_PAPER = dict(agent_fraction=None, gradient_interval=1, agent_probability=1.0)


@pytest.mark.parametrize("algorithm", [ESAC, ES])
def test_logged_keys_are_those_of_the_page(algorithm):
    keys = documented_keys()
    expected = [*keys["Both algorithms"], *keys[algorithm.__name__]]
    assert len(expected) == len(set(expected)) > 15
    logged = set()
    for rule in (dict(agent_fraction=0.3, use_sde=True), dict(agent_fraction="auto"), BY_THE_PAPER):
        schedule = dict(learning_starts=0, episode_length_schedule=lambda remaining: 10)
        model = make_model(algorithm, make_vec_env(Succeeding, 1), seed=0, **schedule, **rule)
        log = keep_log(model)
        model.learn(600)
        logged |= set().union(*log)
    assert logged == set(expected)
