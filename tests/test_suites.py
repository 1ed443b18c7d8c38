"""The suites that are to tell whether the population pays, and what is made of their runs."""

import inspect
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml

experiments = pytest.importorskip("experiments")

from stable_baselines3 import SAC  # noqa: E402

from experiments import comparison, population, suites, twins  # noqa: E402
from experiments.algorithms import ALGORITHMS, SAC_ARGUMENTS  # noqa: E402
from experiments.fast_sac import FastSAC  # noqa: E402
from experiments.figures import tasks21  # noqa: E402
from experiments.jobs import Job, make_env  # noqa: E402
from experiments.matrices import MATRICES, TABLE1  # noqa: E402
from experiments.tables import write_csv  # noqa: E402


def test_what_is_declared():
    assert set(suites.REPORT) == set(range(10)) > set(suites.FEW)
    assert {(job.task, job.algorithm, job.seed) for job in MATRICES["dense"]()} == {
        (task, name, seed)
        for task in suites.DENSE
        for name in (suites.ESAC, suites.ALONE)
        for seed in range(10 if task in suites.LEVELS else 5)
    }
    jobs = MATRICES["stuck"]()
    assert {(job.task, job.algorithm, job.seed) for job in jobs} == {
        (task, name, seed) for task in suites.STUCK for name in suites.RIVALS for seed in range(5)
    }
    assert {job.algorithm for job in jobs[-3 * 8 * 5 :]} == set(suites.GRADIENTS)
    shorter = {(job.task, job.algorithm) for job in jobs if job.total_timesteps != suites.STUCK[job.task][0]}
    assert shorter == {("MountainCarContinuous-v0", "SAC, fast")}
    assert set(suites.RIVALS) <= ALGORITHMS.keys() and set(suites.LEVELS) <= suites.DENSE.keys()


def ended(population_steps, **changes):
    row = dict(task="Hopper-v5", algorithm=suites.ESAC, seed=3, budget=100, population_steps=0, deployed=1.5, is_last=False)
    return [{**row, **changes}, {**row, "population_steps": population_steps, "is_last": True, **changes}]


def test_a_run_without_a_search_is_the_agents_run_too(tmp_path):
    path = tmp_path / "dense.csv"
    job = Job("dense", "Hopper-v5", suites.ALONE, 3, 100)
    assert twins.twin(job, path) == []
    write_csv(path, [*ended(0, seed=2), *ended(40, seed=1), *ended(0), *ended(0, seed=3, budget=200)])
    rows = twins.twin(job, path)
    assert [(row["algorithm"], row["seed"], row["budget"], row["deployed"]) for row in rows] == [
        (suites.ALONE, "3", "100", "1.5")
    ] * 2
    # The population has played, another rival, a run that has not ended, no such seed.
    assert twins.twin(replace(job, seed=1), path) == twins.twin(replace(job, algorithm=suites.ES), path) == []
    write_csv(path, ended(0)[:1])
    assert twins.twin(job, path) == [] == twins.twin(replace(job, seed=4), path)


def test_esac_is_played_before_what_it_may_spare():
    jobs = [Job("dense", "Hopper-v5", name, seed, 100) for seed in (0, 1) for name in (suites.ALONE, suites.ESAC)]
    assert [(job.algorithm, job.seed) for job in twins.esac_first(jobs)] == [
        (name, seed) for name in (suites.ESAC, suites.ALONE) for seed in (0, 1)
    ]


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
    return [
        {"deployed": each, "total_steps": at, "cpu_seconds": at / 1000, "population_steps": 0}
        for each, at in zip(returns, steps, strict=True)
    ]


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
    # Seeds that only one of them has do not count.
    runs["Hopper-v5", suites.ESAC][4] = run_of([0.0, 0.0])
    assert population.insurance(runs, 50) == found and population.insurance({}) is None


def test_runs_that_are_the_same_have_no_interval(monkeypatch):
    """Seeds are drawn with both of their runs: that they differ among each other is no doubt of what is kept."""
    monkeypatch.setattr(population, "random_returns", lambda: {})
    alone = {seed: run_of([0.0, 100.0 * (seed + 1)]) for seed in range(10)}
    runs = {("Hopper-v5", name): dict(alone) for name in (suites.ESAC, suites.ALONE)}
    found = population.insurance(runs, 50)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)
    runs["Hopper-v5", suites.ESAC][9] = run_of([0.0, 0.0])
    assert population.insurance(runs, 50).low < 1.0


def test_tables_of_what_was_played(tmp_path, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="no data"):
        population.main(["--results", str(tmp_path)])
    runs = {("Hopper-v5", name): {seed: run_of([0.0, 100.0 * seed]) for seed in range(5)} for name in suites.RIVALS}
    monkeypatch.setattr(comparison, "read", lambda path: runs if path.name == "dense.csv" else {})
    population.main(["--results", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| Hopper-v5 | ESAC, by default | 5 | 200 | 0 | 400 |" in printed and "over the agent alone: 1.00 [" in printed


def test_fast_sac_learns_what_sac_learns():
    options = dict(seed=0, learning_starts=50, batch_size=16, policy_kwargs={"net_arch": [16]}, device="cpu")
    one, other = (kind("MlpPolicy", "Pendulum-v1", **options).learn(120) for kind in (SAC, FastSAC))
    assert other._n_updates == one._n_updates > 50
    for expected, found in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        np.testing.assert_allclose(found.detach(), expected.detach(), atol=1e-3)


@pytest.mark.parametrize("task", ["Pendulum-v1", "MountainCarContinuous-v0", "LunarLanderContinuous-v3"])
def test_sacs_arguments_are_the_zoos(task):
    zoo = pytest.importorskip("rl_zoo3")
    theirs = yaml.safe_load((Path(zoo.__file__).parent / "hyperparams" / "sac.yml").read_text())[task]
    theirs["policy_kwargs"] = eval(theirs.get("policy_kwargs", "None"))
    defaults = {name: parameter.default for name, parameter in inspect.signature(SAC).parameters.items()}
    expected = {name: value for name, value in theirs.items() if name in defaults and value != defaults[name]}
    found = {"policy": "MlpPolicy"} | {name: value for name, value in SAC_ARGUMENTS[task].items() if value != defaults[name]}
    if isinstance(expected.get("learning_rate"), str):
        start = float(expected.pop("learning_rate").removeprefix("lin_"))
        schedule = found.pop("learning_rate")
        assert [schedule(1.0), schedule(0.5), schedule(0.0)] == [start, start / 2, 0.0]
    assert found == expected


def test_sac_explores_as_in_the_zoo():
    make = ALGORITHMS["SAC, fast"]
    assert make("MountainCarContinuous-v0", 0, 100).use_sde
    assert type(make("Pendulum-v1", 0, 100)) is FastSAC


def row_of(task, algorithm, seed, deployed, budget=100_000):
    numbers = dict(total_steps=budget, agent_steps=budget, population_steps=0, updates=1, cpu_seconds=1.0, wall_seconds=1.0)
    return dict(task=task, algorithm=algorithm, seed=seed, budget=budget, deployed=deployed, is_last=True, **numbers)


def test_the_21_tasks(tmp_path, capsys):
    jobs = {(job.task, job.algorithm, job.seed) for job in MATRICES["tasks21"]()}
    dense = {(job.task, job.algorithm, job.seed) for job in MATRICES["dense"]()}
    before = {
        (job.task, job.algorithm, job.seed)
        for job in MATRICES["benchmark"]()
        if job.total_timesteps == 100_000 and job.seed < 2
    }
    for task in TABLE1:
        ours = {seed for seed in range(3) if (task, suites.ESAC, seed) in jobs | dense}
        theirs = {seed for seed in range(3) if (task, tasks21.SAC, seed) in jobs or (task, "SAC", seed) in before}
        assert (ours, theirs) == ({0, 1, 2}, {0} if "umanoid" in task else {0, 1}), task
    assert not jobs & dense and all(suites.DENSE[task] == 100_000 for task in suites.DENSE)

    with pytest.raises(SystemExit, match="no data"):
        tasks21.main(["--results", str(tmp_path)])
    hopper, fish = "Hopper-v5", "dm_control/fish-swim-v0"
    write_csv(tmp_path / "dense.csv", [row_of(hopper, suites.ESAC, seed, 100.0 * seed) for seed in range(5)])
    write_csv(
        tmp_path / "tasks21.csv",
        [row_of(hopper, tasks21.SAC, 0, 50.0), row_of(fish, suites.ESAC, 1, 70.0) | {"population_steps": 9}],
    )
    cartpole, sac = "dm_control/cartpole-swingup-v0", "SAC"
    played = [row_of(cartpole, sac, seed, 800.0 + seed) for seed in range(3)] + [row_of(hopper, sac, 1, 60.0, budget=20_000)]
    write_csv(tmp_path / "benchmark.csv", played)
    tasks21.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert "| Hopper-v5 | 100 | 0, 100, 200 | 50 | 50 | 1103 | 2764 | 2121 |" in lines, "of ten seeds the first three"
    assert f"| {cartpole} | not run |  | 800.5 | 800, 801 |  |  |  |" in lines
    assert "| dm_control/fish-swim-v0 | 70 | 70 | not run |  |  |  |  |" in lines
    assert "The population played in 1 of ESAC's 4 runs." in lines
    assert "| seeds overlap | 1 | Hopper |" in lines and any(line.startswith("| not run | 20 | HalfC") for line in lines)
    assert sum(line.startswith("| ") for line in lines) == 21 + 2 + 4 and (tmp_path / "tasks21.png").is_file()


@pytest.mark.parametrize(
    ("task", "ours", "theirs", "verdict"),
    [
        ("Hopper-v5", (9.0, 12.0), (7.0, 8.0), tasks21.ABOVE),
        ("Hopper-v5", (9.0, 12.0), (7.0, 9.0), tasks21.OVERLAP),
        ("Hopper-v5", (1.0, 2.0), (3.0,), tasks21.BELOW),
        ("dm_control/fish-swim-v0", (8.0, 9.0), (7.0,), tasks21.NEITHER),
        ("dm_control/fish-swim-v0", (8.0, 9.0), (30.0,), tasks21.BELOW),
    ],
)
def test_the_21_tasks_in_short(task, ours, theirs, verdict):
    returns = {suites.ESAC: ours, tasks21.SAC: theirs}
    runs = {
        (task, name): {seed: [row_of(task, name, seed, value)] for seed, value in enumerate(values)}
        for name, values in returns.items()
    }
    name = task.removeprefix("dm_control/").rpartition("-v")[0]
    assert f"| {verdict} | 1 | {name} |" in tasks21.in_short(runs).splitlines()


def test_levels_and_searches():
    rows = {seed: [row_of("Hopper-v5", suites.ESAC, seed, 2000.0 + 200 * seed)] for seed in range(10)}
    runs = {("Hopper-v5", suites.ESAC): rows}
    (line,) = population.levels_table(runs).splitlines()[2:]
    # Without the lowest two and the highest two of ten
    assert line.startswith("| Hopper-v5 | 10 | 2750 | 2900 | 2") and line.endswith("| yes |")
    rows[3][-1]["population_steps"] = 50_000
    assert "| Hopper-v5 | 1 of 10 | 5% |" in population.searches_table(runs)


def test_both_suites_in_one_table():
    alone = {seed: run_of([0.0, 100.0 * seed]) for seed in range(5)}
    ours = {**alone, 4: run_of([0.0, 0.0])}
    ours[4][-1]["population_steps"] = 9
    task = "MountainCarContinuous-v0"
    stuck = {(task, suites.ESAC): {0: run_of([0.0, 90.0]), 1: run_of([0.0, 0.0])}, (task, suites.ES): {0: run_of([0.0, 95.0])}}
    dense = {("Hopper-v5", suites.ESAC): ours, ("Hopper-v5", suites.ALONE): alone, ("Ant-v5", suites.ALONE): alone}
    header, _, hopper, car = population.in_short(dense, stuck).splitlines()
    assert header.endswith("| ESAC, by default | the agent alone | ES, by default | searches |")
    assert hopper == "| Hopper-v5 | 100,000 |  | 100 | 200 |  | 1 of 5 |"
    assert car == f"| {task} | 150,000 | 90 | 1 of 2 |  | 1 of 1 | 0 of 2 |"
