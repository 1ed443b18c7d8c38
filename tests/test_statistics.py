"""Statistics of the experiments on data whose answer is known."""

import csv
import os
from dataclasses import fields

import numpy as np
import pytest

statistics = pytest.importorskip("experiments.statistics", reason="the experiments are not part of the package")
stats = pytest.importorskip("scipy.stats", reason="an extra")
from experiments import comparison, references, report, speed  # noqa: E402
from experiments.jobs import Row  # noqa: E402
from experiments.statistics import Curve  # noqa: E402
from experiments.tables import read_csv, write_csv  # noqa: E402

DRAWN = np.random.RandomState(3)
DRAWN = {"x": DRAWN.normal(0.8, 0.3, (5, 4)).round(2), "y": DRAWN.normal(0.6, 0.3, (4, 4)).round(2)}
"""Scores of two algorithms, with five seeds and with four."""

STRAIGHT = Curve(np.arange(1.0, 11.0), np.arange(10.0, 110.0, 10.0))
"""Ten evaluations, 10 at 1 to 100 at 10."""


def results(path, algorithms, tasks=("Hopper-v5", "Swimmer-v5"), seeds=3, budget=1000):
    """
    Write results of runs whose return rises with a straight line.

    :param algorithms: By name: slope of the return per step, seconds per step, updates per step.
    """
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        for task in tasks:
            for name, (slope, seconds, updates) in algorithms.items():
                for seed in range(seeds):
                    for steps in range(budget // 10, budget + 1, budget // 10):
                        row = dict.fromkeys(writer.fieldnames, 0)
                        row.update(
                            task=task, algorithm=name, seed=seed, budget=budget, total_steps=steps, is_last=steps == budget
                        )
                        row.update(cpu_seconds=seconds * steps, wall_seconds=2 * seconds * steps, updates=int(updates * steps))
                        writer.writerow(row | {"deployed": slope * steps * (1 + 0.1 * seed), "agent": "", "versions": ""})
    return path


def test_normalised_returns():
    assert statistics.normalise(np.array([10.0, 60.0, 110.0, 210.0]), 10.0, 110.0).tolist() == [0.0, 0.5, 1.0, 2.0]
    with pytest.raises(ValueError, match="`reference` must be more than random play's 5, not 5"):
        statistics.normalise(1.0, 5, 5)


def test_interquartile_mean_of_known_numbers():
    assert statistics.iqm(np.array([[-1000.0, 2.0], [4.0, 1000.0]])) == 3.0
    assert statistics.iqm(np.arange(8.0)) == 3.5
    for shape in [(1, 1), (3, 2), (5, 7), (10, 8)]:
        scores = np.random.default_rng(0).normal(size=shape)
        assert statistics.iqm(scores) == stats.trim_mean(scores, 0.25, axis=None)


def test_improvement_is_that_of_mann_and_whitney():
    """The mean over tasks of their statistic over n m is what rliable's `probability_of_improvement` computes."""
    from scipy.stats import mannwhitneyu

    generator = np.random.default_rng(0)
    x, y = generator.integers(0, 5, (6, 3)).astype(float), generator.integers(0, 5, (4, 3)).astype(float)
    each = [mannwhitneyu(x[:, task], y[:, task]).statistic / (6 * 4) for task in range(3)]
    assert statistics.improvement(x, y) == pytest.approx(np.mean(each))
    assert statistics.improvement(x + 10, y) == 1.0 and statistics.improvement(x, x) == 0.5


def test_the_bootstraps_interval_contains_what_was_drawn_from():
    generator = np.random.default_rng(1)
    scores = {"low": generator.normal(0.2, 0.1, (10, 4)), "high": generator.normal(0.8, 0.1, (10, 4))}
    state = np.random.get_state()[1].tolist()
    found = statistics.intervals(scores, statistics.iqm, n_samples=300)
    assert np.random.get_state()[1].tolist() == state
    assert found["low"].low < 0.2 < found["low"].high < found["high"].low < 0.8 < found["high"].high
    assert found == statistics.intervals(scores, statistics.iqm, n_samples=300)
    (pair,) = statistics.intervals({"a": [scores["high"], scores["low"]]}, statistics.improvement, n_samples=100).values()
    assert (pair.value, pair.low, pair.high) == (1.0, 1.0, 1.0)


def test_the_bootstrap_is_stratified_over_tasks():
    """Tasks that differ do not widen the interval when seeds agree."""
    found = statistics.intervals({"a": np.tile([0.0, 1.0, 2.0, 3.0], (5, 1))}, statistics.iqm, n_samples=50)["a"]
    assert (found.value, found.low, found.high) == (1.5, 1.5, 1.5)


def test_intervals_are_rliables():
    """
    Numbers of rliable 1.2.0 with arch 7.2.0, to their last digits: `get_interval_estimates(..., reps=500)` after
    `numpy.random.seed(7)`, for `aggregate_iqm` of both and for the probability of improvement.
    """
    found = statistics.intervals(DRAWN, statistics.iqm, n_samples=500, seed=7)
    found |= statistics.intervals({"pair": [DRAWN["x"], DRAWN["y"]]}, statistics.improvement, n_samples=500, seed=7)
    assert {name: (each.value, each.low, each.high) for name, each in found.items()} == {
        "x": pytest.approx((0.754, 0.646475, 0.90105), abs=1e-12),
        "y": pytest.approx((0.4775, 0.37809375, 0.59940625), abs=1e-12),
        "pair": pytest.approx((0.71875, 0.5434375, 0.875), abs=1e-12),
    }


def test_profiles_are_rliables():
    """Numbers of rliable 1.2.0: `create_performance_profile(..., reps=500)` after `numpy.random.seed(7)`."""
    found = statistics.profiles(DRAWN, np.array([0.25, 0.5, 0.75, 1.0]), n_samples=500, seed=7)
    assert found["x"][0] == pytest.approx([0.95, 0.8, 0.5, 0.25])
    assert found["x"][1] == pytest.approx([0.85, 0.65, 0.3, 0.1])
    assert found["x"][2] == pytest.approx([1.0, 0.95, 0.7, 0.45])
    assert found["y"][0] == pytest.approx([0.8125, 0.5, 0.25, 0.125])
    assert found["y"][1] == pytest.approx([0.625, 0.3125, 0.0921875, 0.0])
    assert found["y"][2] == pytest.approx([0.9375, 0.6875, 0.375, 0.3125])


def test_profiles():
    levels = np.array([0.1, 0.5, 0.9])
    middle, low, high = statistics.profiles({"a": np.array([[0.2, 0.6], [0.2, 1.0]])}, levels, n_samples=50)["a"]
    assert middle.tolist() == [1.0, 0.5, 0.25]
    assert (low <= middle).all() and (middle <= high).all()


def test_area_under_a_learning_curve():
    assert statistics.area(STRAIGHT, 10.0) == pytest.approx(50.0)
    assert statistics.area(STRAIGHT, 5.0) == pytest.approx(25.0)
    assert statistics.area(STRAIGHT, 5.5) == pytest.approx(27.5), "the end is between two evaluations"
    assert statistics.area(STRAIGHT, 20.0) == pytest.approx(75.0), "what is deployed stays deployed"
    assert statistics.area(Curve(np.array([1.0, 2.0]), np.array([3.0, 3.0])), 2.0, start=3.0) == pytest.approx(3.0)


def test_worst_dip_counts_in_the_second_half_only():
    x = np.arange(1.0, 9.0)
    assert statistics.worst_dip(Curve(x, np.array([0.0, 50, 10, 60, 60, 45, 70, 65]))) == 15.0
    assert statistics.worst_dip(Curve(x, np.array([0.0, 90, 10, 60, 60, 45, 70, 65]))) == 45.0, "from what was there before"
    assert statistics.worst_dip(Curve(x, x)) == 0.0


def test_first_passage():
    assert statistics.first_passage(STRAIGHT, 55.0) == pytest.approx(5.5)
    assert statistics.first_passage(STRAIGHT, 3.0) == 1.0, "of the time before the first evaluation nothing is known"
    assert statistics.first_passage(STRAIGHT, 101.0) == np.inf
    wave = Curve(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 10.0, 0.0, 20.0]))
    assert statistics.first_passage(wave, 5.0) == 1.5


def test_the_mean_of_seeds_that_were_evaluated_at_different_times():
    found = statistics.mean_curve(
        [Curve(np.array([1.0, 3.0]), np.array([0.0, 2.0])), Curve(np.array([2.0, 4.0]), np.array([4.0, 6.0]))]
    )
    assert found.x.tolist() == [2.0, 3.0, 4.0]
    assert found.y.tolist() == [2.5, 3.5, 4.0]


def test_time_ratio_of_a_curve_that_is_three_times_as_fast():
    fast = statistics.time_ratios(STRAIGHT, Curve(STRAIGHT.x / 3, STRAIGHT.y))
    assert fast.ratios == pytest.approx(np.full(50, 1 / 3))
    assert (fast.worst, fast.median) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (fast.levels[0], fast.levels[-1]) == (pytest.approx(11.8), 100.0)
    same = statistics.time_ratios(STRAIGHT, STRAIGHT)
    assert same.worst == same.median == 1.0


def test_worst_ratio_without_the_highest_levels():
    levels, ratios = np.arange(40.0), np.full(40, 0.5)
    # 38 of 40 are kept.
    ratios[[3, 37, 38]] = 0.75, 0.9, np.inf
    found = statistics.Ratios(levels, ratios)
    assert found.worst == np.inf and found.worst_but_the_highest == 0.9
    ratios[37] = 0.5
    assert found.worst_but_the_highest == 0.5 + 0.25
    # Of fifty, two and a half are to be left out: two are.
    fifty = np.full(50, 0.5)
    fifty[47:] = 0.8, 0.9, 0.9
    assert statistics.Ratios(np.arange(50.0), fifty).worst_but_the_highest == 0.8
    assert statistics.Ratios(levels[:1], ratios[:1]).worst_but_the_highest == 0.5
    assert np.isnan(statistics.Ratios(levels[:0], ratios[:0]).worst_but_the_highest)


def test_time_ratio_where_the_other_never_gets_there():
    half = statistics.time_ratios(STRAIGHT, Curve(STRAIGHT.x, STRAIGHT.y / 2))
    assert half.worst == half.ratios[-1] == np.inf
    assert np.isfinite(half.ratios).sum() == 22, "levels of 11.8 to 50, in steps of 1.8"
    assert statistics.time_ratios(STRAIGHT, Curve(STRAIGHT.x / 2, STRAIGHT.y - 50)).median == np.inf


def test_levels_that_cost_the_baseline_nothing_are_left_out():
    late = Curve(np.array([0.0, 0.0, 10.0]), np.array([0.0, 5.0, 10.0]))
    found = statistics.time_ratios(late, Curve(np.array([0.0, 5.0]), np.array([0.0, 10.0])), n_levels=10)
    assert found.levels.tolist() == [6.0, 7.0, 8.0, 9.0, 10.0]
    assert found.ratios == pytest.approx(np.array([3.0, 3.5, 4.0, 4.5, 5.0]) / np.array([2.0, 4.0, 6.0, 8.0, 10.0]))
    nothing = statistics.time_ratios(Curve(np.array([0.0, 1.0]), np.array([2.0, 1.0])), late)
    assert nothing.levels.size == 0 and np.isnan(nothing.worst) and np.isnan(nothing.median)


def test_a_baseline_that_only_falls_has_one_level():
    falling = Curve(STRAIGHT.x, -STRAIGHT.y)
    assert statistics.time_ratios(falling, Curve(falling.x / 2, falling.y)).ratios.tolist() == [0.5]


def test_of_two_budgets_the_longer_is_read(tmp_path):
    short = results(tmp_path / "short.csv", {"SAC": (1.0, 1.0, 1.0)}, budget=100)
    long = results(tmp_path / "long.csv", {"SAC": (1.0, 1.0, 1.0)}, budget=1000)
    whole, rows = tmp_path / "both.csv", long.read_text().splitlines()
    whole.write_text("\n".join([*rows, *short.read_text().splitlines()[1:]]) + "\n")
    runs = comparison.read(whole)
    assert [run[-1]["total_steps"] for run in runs["Hopper-v5", "SAC"].values()] == [1000.0] * 3
    whole.write_text("\n".join(rows[:5]) + "\n")
    assert comparison.read(whole) == {}, "a run that has not ended is none"
    assert comparison.read(tmp_path / "missing.csv") == {}


def test_measures_of_known_runs(tmp_path):
    runs = comparison.read(
        results(tmp_path / "r.csv", {"SAC": (1.0, 0.4, 1.0), "ES": (0.5, 0.1, 0.0)}, ["Hopper-v5"], seeds=1)
    )
    scale = comparison.Scale(0.0, references.Reference(1000.0, "made up"))
    measured = comparison.measures(runs, "Hopper-v5", scale, "cpu_seconds")
    assert measured["SAC"][0] == pytest.approx({"last": 1.0, "area in steps": 0.5, "area in seconds": 0.5, "dip": 0.0})
    # The ES is at 0.5 after 100 of 400 seconds and stays there
    assert measured["ES"][0] == pytest.approx({"last": 0.5, "area in steps": 0.25, "area in seconds": 0.4375, "dip": 0.0})


def test_only_what_all_have_is_compared(tmp_path):
    path = results(tmp_path / "r.csv", {"SAC": (1.0, 1.0, 1.0), "ES": (2.0, 1.0, 0.0)}, ["Hopper-v5", "Swimmer-v5", "Ant-v5"])
    runs = comparison.read(path)
    del runs["Swimmer-v5", "ES"], runs["Hopper-v5", "ES"][2]
    runs["Hopper-v5", "few"] = runs["Hopper-v5", "SAC"]
    scaling = {task: comparison.Scale(0.0, references.Reference(1000.0, "")) for task in ("Hopper-v5", "Swimmer-v5", "Ant-v5")}
    found = comparison.rectangle(comparison.all_measures(runs, scaling, "cpu_seconds"), ["SAC", "ES", "few"], "last")
    assert (found.tasks, found.n_seeds, found.left_out) == (["Hopper-v5", "Ant-v5"], 2, ["few"])
    assert found.scores["ES"] == pytest.approx(np.array([[2.0, 2.0], [2.2, 2.2]]))
    # One seed on two tasks, or two seeds on one: more tasks. Three seeds on one are more runs than that.
    del runs["Ant-v5", "ES"][1], runs["Ant-v5", "ES"][2]
    found = comparison.rectangle(comparison.all_measures(runs, scaling, "cpu_seconds"), ["SAC", "ES"], "last")
    assert (found.tasks, found.n_seeds) == (["Hopper-v5", "Ant-v5"], 1)
    runs["Hopper-v5", "ES"] = runs["Hopper-v5", "SAC"]
    found = comparison.rectangle(comparison.all_measures(runs, scaling, "cpu_seconds"), ["SAC", "ES"], "last")
    assert (found.tasks, found.n_seeds) == (["Hopper-v5"], 3)


def test_a_task_without_reference_is_scaled_by_the_baseline(tmp_path):
    runs = comparison.read(results(tmp_path / "r.csv", {"SAC": (1.0, 1.0, 1.0)}, ["Made-v0", "Unknown-v0"]))
    (tmp_path / "random.csv").write_text("task,return_mean\nMade-v0,100\n")
    (task, scale), *others = comparison.scales(runs, "SAC", tmp_path / "random.csv").items()
    assert task == "Made-v0" and not others
    assert scale.reference.value == pytest.approx(1100.0) and scale(600.0) == pytest.approx(0.5)


def test_every_reference_is_above_the_measured_random_play():
    random = references.random_returns()
    assert set(random) == set(references.REFERENCES)
    assert all(random[task] < reference.value for task, reference in references.REFERENCES.items())


def test_random_play_is_measured_once(tmp_path, capsys):
    path = tmp_path / "random.csv"
    for _ in range(2):
        references.main(["--run", "--tasks", "CartPole-v1", "--episodes", "5", "--output", str(path)])
    assert len(path.read_text().splitlines()) == 2
    assert 8 < references.random_returns(path)["CartPole-v1"] < 60
    assert "| CartPole-v1 | " in capsys.readouterr().out


def test_a_report_of_known_runs(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(statistics, "N_SAMPLES", 20)
    algorithms = {"ESAC": (1.5, 0.5, 0.5), "SAC": (1.0, 1.0, 1.0), "ES": (0.5, 0.01, 0.0)}
    path = results(tmp_path / "known.csv", algorithms)
    report.main([str(path), "--pictures", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "| Hopper-v5 | SAC | 1,000 | 1,000 | 1,000 | 1100 | 1000, 1100, 1200 |" in printed
    assert "Over 2 tasks (Hopper-v5, Swimmer-v5), 3 seeds." in printed
    # Half of the seconds per step and two thirds of the steps; the first levels are passed before ESAC's first evaluation
    assert "| Hopper-v5 | ESAC | 1100 | 50 of 50 | 0.42 | 0.42 | 0.33 | 0.42, 0.42, 0.42 | 0.33, 0.33, 0.33 |" in printed
    assert "| Hopper-v5 | ES | 1100 | 22 of 50 | never | never |" in printed
    assert "| ESAC |  | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |" in printed
    for picture in ("curves", "iqm", "profiles", "improvement"):
        assert (tmp_path / f"known_{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_the_clock_can_be_chosen(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(statistics, "N_SAMPLES", 20)
    path = results(tmp_path / "known.csv", {"SAC": (1.0, 1.0, 1.0), "ES": (1.0, 0.1, 0.0)}, ["Hopper-v5"], seeds=1)
    report.main([str(path), "--seconds", "wall", "--no-pictures"])
    assert "in wall seconds" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        report.main([str(tmp_path / "missing.csv")])


def test_seconds_of_an_idle_machine(tmp_path, monkeypatch):
    for name, value in {"N_WARMUP": 20, "N_STEPS": 10, "N_REPEATS": 2}.items():
        monkeypatch.setattr(speed, name, value)
    path = tmp_path / "speed.csv"
    assert speed.main(["--tasks", "Pendulum-v1", "--output", str(path)]) == 0
    assert len([row for row in read_csv(path) if row["algorithm"] == "SAC"]) == os.cpu_count()
    row = {
        "task": "Hopper-v5",
        "algorithm": "SAC",
        "threads": 1,
        "step_ms": 1.0,
        "update_ms": 5.0,
        "load": 0.0,
        "versions": "",
    }
    write_csv(
        path,
        [
            *read_csv(path),
            row,
            row | {"threads": 2, "step_ms": 2.0, "update_ms": 3.0},
            row | {"algorithm": "SBX's SAC", "step_ms": 0.5},
        ],
    )
    assert speed.main(["--tasks", "Pendulum-v1", "--output", str(path)]) == 0
    found = speed.speeds(path)
    assert speed.speeds(path, speed.SBX)["Hopper-v5"] == (0.0005, 0.005)
    assert found["Hopper-v5"] == (0.002, 0.003) and 0 < found["Pendulum-v1"][0] < found["Pendulum-v1"][1]
    algorithms = {"SAC, ESAC's updates": (1.0, 1.0, 1 / 3), "ES": (1.0, 1.0, 0.0)}
    runs = comparison.read(results(tmp_path / "known.csv", algorithms, ["Hopper-v5", "Swimmer-v5"], seeds=1), path)
    last = {key: seeds[0][-1] for key, seeds in runs.items()}
    assert last["Hopper-v5", "SAC, ESAC's updates"]["idle_seconds"] == pytest.approx(1000 * 0.002 + 333 * 0.003)
    assert last["Swimmer-v5", "SAC, ESAC's updates"]["idle_seconds"] == 2000  # not measured: its own clock
    assert last["Hopper-v5", "ES"]["idle_seconds"] == 2000


def test_experiments_are_put_together(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(statistics, "N_SAMPLES", 20)
    slow = results(tmp_path / "slow.csv", {"SAC": (1.0, 1.0, 1.0)}, ["Hopper-v5"], seeds=1)
    fast = results(tmp_path / "fast.csv", {"ES": (1.0, 0.01, 0.0)}, ["Hopper-v5"], seeds=1, budget=10_000)
    report.main([str(slow), str(fast), "--no-pictures"])
    assert "| Hopper-v5 | ES | 1000 | 50 of 50 | 0.08 | 0.08 | 0.02 |" in capsys.readouterr().out


def test_each_task_is_read_from_the_experiment_with_the_largest_budget(tmp_path):
    small = results(tmp_path / "small.csv", {"SAC": (1.0, 1.0, 1.0)}, ["Hopper-v5", "Swimmer-v5"], budget=100)
    large = results(tmp_path / "large.csv", {"SAC": (1.0, 1.0, 1.0)}, ["Hopper-v5"], budget=1000)
    runs = comparison.read_all([small, large, tmp_path / "missing.csv"])
    budgets = {task: seeds[0][-1]["total_steps"] for (task, _), seeds in runs.items()}
    assert budgets == {"Hopper-v5": 1000.0, "Swimmer-v5": 100.0}
