"""The suites that are to tell whether the population pays, and what is made of their runs."""

import gymnasium as gym
import numpy as np
import pytest

experiments = pytest.importorskip("experiments")

from stable_baselines3 import SAC  # noqa: E402

from experiments import comparison, population, suites  # noqa: E402
from experiments.algorithms import ALGORITHMS  # noqa: E402
from experiments.fast_sac import FastSAC  # noqa: E402
from experiments.jobs import make_env  # noqa: E402
from experiments.matrices import MATRICES  # noqa: E402


def test_seeds_for_decisions_are_not_those_of_the_report():
    assert not set(suites.REPORT) & set(suites.DECIDE) and len(suites.REPORT) == len(suites.DECIDE) == 10
    for name, seeds in (("dense", suites.REPORT), ("stuck_decide", suites.DECIDE)):
        jobs = MATRICES[name]()
        assert {job.seed for job in jobs} == set(seeds) and {job.algorithm for job in jobs} == set(suites.RIVALS)
        assert len(jobs) == 10 * 8 * len(suites.RIVALS)
    assert set(suites.RIVALS) <= ALGORITHMS.keys()


@pytest.mark.parametrize("task", [*suites.DENSE, *suites.STUCK])
def test_all_tasks_are_there(task):
    pytest.importorskip("mujoco")
    if task.startswith("dm_control/"):
        pytest.importorskip("shimmy")
    env = make_env(task)
    assert isinstance(env.action_space, gym.spaces.Box) and len(env.observation_space.shape) == 1
    env.reset(seed=0)
    assert np.isfinite(env.step(env.action_space.sample())[1])


@pytest.mark.parametrize(
    ("n_solved", "n", "low", "high"), [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (1, 2, 0.095, 0.905)]
)
def test_wilsons_interval(n_solved, n, low, high):
    assert population.wilson(n_solved, n) == pytest.approx((low, high), abs=1e-3)


def run_of(returns, steps=(50_000, 100_000)):
    return [{"deployed": each, "total_steps": at, "cpu_seconds": at / 1000} for each, at in zip(returns, steps, strict=True)]


def test_solved_is_what_the_last_evaluation_says():
    key = "MountainCarContinuous-v0", suites.ESAC
    runs = {key: {0: run_of([95.0, 91.0]), 1: run_of([95.0, 89.9]), 2: run_of([0.0, 90.0])}}
    assert population.solved(runs, *key) == (2, 3) and population.solved({}, *key) == (0, 0)
    (line,) = population.stuck_table(runs).splitlines()[2:]
    assert "| 2 of 3 |" in line and "| 50,000 | 50 |" in line


def test_insurance_is_the_share_of_the_agents_return(monkeypatch):
    monkeypatch.setattr(population, "random_returns", lambda: {"Reacher-v5": -40.0})
    runs = {}
    for task, alone, kept in (("Hopper-v5", 1000.0, 900.0), ("Reacher-v5", -4.0, -7.6)):
        # 0.9 of the way from random play, on both.
        runs[task, suites.ALONE] = {seed: run_of([0.0, alone]) for seed in range(4)}
        runs[task, suites.ESAC] = {seed: run_of([0.0, kept]) for seed in range(4)}
    found = population.insurance(runs, 50)
    assert (found.value, found.low, found.high) == pytest.approx((0.9, 0.9, 0.9))
    del runs["Hopper-v5", suites.ESAC][3]
    assert population.insurance(runs) is None and population.insurance({}) is None


def test_tables_of_what_was_played(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="no data"):
        population.main(["--results", str(tmp_path)])
    runs = {("Hopper-v5", name): {seed: run_of([0.0, 100.0 * seed]) for seed in range(5)} for name in suites.RIVALS}
    monkeypatch.setattr(comparison, "read", lambda path: runs if path.name == "dense_decide.csv" else {})
    population.main(["--results", str(tmp_path), "--decide"])
    printed = capsys.readouterr().out
    assert "| Hopper-v5 | ESAC, by default | 5 | 200 | 0 | 400 |" in printed and "over the agent alone: 1.00 [" in printed


def test_fast_sac_learns_what_sac_learns():
    options = dict(seed=0, learning_starts=50, batch_size=16, policy_kwargs={"net_arch": [16]}, device="cpu")
    one, other = (kind("MlpPolicy", "Pendulum-v1", **options).learn(120) for kind in (SAC, FastSAC))
    assert other._n_updates == one._n_updates > 50
    for expected, found in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-3)
