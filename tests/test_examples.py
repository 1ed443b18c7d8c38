"""Every file in ``examples/`` runs, in a process and a folder of its own, and ends with what it promises."""

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

NUMBER = r"-?[\d,]+(\.\d+)?"
RETURN = rf"^return: {NUMBER} \+/- {NUMBER}$"

TINY = ["--steps", "700"]
"""Three episodes of the agent on Pendulum."""

WITH_GENERATION = ["--steps", "2200"]
"""And a generation before them, where the population has a share."""

ARGUMENTS = {
    "callbacks_and_ablation": WITH_GENERATION,
    "compare_with_sb3": ["--steps", "300", "--eval-freq", "300"],
    "custom_env": ["--steps", "1300"],
    "es_cyclic_mdp": ["--steps", "100000"],
    "progressive_lengths": ["--steps", "20000"],
    "record_video": ["--steps", "20000"],
    "resume_after_crash": ["--steps", "8000"],
    "subproc_vec_env": WITH_GENERATION,
    "train": ["--env", "Pendulum-v1", "--no-progress-bar", "--eval-episodes", "1", "--final-episodes", "2", *TINY],
}

PROMISES = {
    "callbacks_and_ablation": [
        rf"^ESAC +{NUMBER} +0\.1001 +1$",
        rf"^no agent +{NUMBER} +0\.1000 +2$",
        rf"^no mutation tuning +{NUMBER} +0\.1000 +1$",
        rf"^cooling +{NUMBER} +0\.0990 +1$",
    ],
    "compare_with_sb3": [rf"^{name} +last return: {NUMBER}$" for name in ("ESAC", "SAC", "TD3", "PPO")],
    "custom_env": [rf"^return: {NUMBER} untrained, {NUMBER} after \d+ steps$"],
    "dict_observations": [r"^Dict\('angle'", RETURN],
    "es_cyclic_mdp": [r"^\d+ generations, return: 2000, solved$"],
    "other_agent": [rf"^TD3 as the agent, return: {NUMBER}"],
    "progressive_lengths": [r"^at most  25 steps: \d+ generations$", r"^at most 200 steps: \d+ generations$", RETURN],
    "quickstart": [r"^\d+ steps, [1-9]\d* of them by the agent$", RETURN],
    "ray_cluster": ["^the same result: True$", RETURN],
    "record_video": [rf"^return: {NUMBER}$"],
    "resume_after_crash": [
        "^killed: True$",
        r"^going on from generation \d+, step \d+$",
        "^the population.s mean is the same: True$",
        "^the agent.s actor is the same: True$",
    ],
    "subproc_vec_env": [rf"^{NUMBER} steps of offspring per second$", RETURN],
    "train": [rf"^return over 2 episodes: {NUMBER}", r"^runs.Pendulum-v1_0.learning_curve\.png$"],
    "vec_normalize": [rf"^return: (?P<one>{NUMBER}) before saving, (?P=one) after loading$"],
    "warm_start": [
        rf"^SAC: (?P<one>{NUMBER})\nESAC that starts from it: (?P=one)$",
        rf"^its agent, as a plain SAC: {NUMBER}$",
    ],
}
"""What each prints."""

FILES = {
    "compare_with_sb3": {"runs/compare/comparison.png": b"\x89PNG"},
    "quickstart": {"quickstart.zip": b"PK"},
    "record_video": {"cartpole.mp4": b"\x00\x00\x00", "cartpole.png": b"\x89PNG"},
    "resume_after_crash": {"runs/crash/final.zip": b"PK"},
    "train": {
        f"runs/Pendulum-v1_0/{name}": magic for name, magic in (("model.zip", b"PK"), ("learning_curve.png", b"\x89PNG"))
    },
    "vec_normalize": {"normalized.zip": b"PK", "normalized_statistics.pkl": b""},
    "warm_start": {"agent_of_esac.zip": b"PK"},
}
"""What each writes, and how it begins."""

NEEDS = {
    "compare_with_sb3": ["matplotlib"],
    "ray_cluster": ["ray"],
    "record_video": ["moviepy", "pygame"],
    "train": ["matplotlib"],
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, tmp_path):
    for package in NEEDS.get(path.stem, []):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, str(path), *ARGUMENTS.get(path.stem, TINY)]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip(), "it shows nothing"
    for promise in PROMISES.get(path.stem, []):
        assert re.search(promise, process.stdout, re.MULTILINE), f"{promise} is not in\n{process.stdout}"
    for name, magic in FILES.get(path.stem, {}).items():
        content = (tmp_path / name).read_bytes()
        assert content and content.startswith(magic), name
    for name in re.findall(r"^wrote (.*)$", process.stdout, re.MULTILINE):
        assert (tmp_path / name).stat().st_size > 0, name


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_says_what_it_shows(path):
    """And its budget can be set."""
    source = path.read_text()
    assert len((ast.get_docstring(ast.parse(source)) or "").split()) > 10
    assert '"--steps"' in source


def test_all_that_is_promised_is_there():
    names = {path.stem for path in EXAMPLES}
    assert names == set(PROMISES)
    assert names >= set(ARGUMENTS) | set(FILES) | set(NEEDS)
