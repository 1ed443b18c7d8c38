"""The papers' tables and figures: claims are judged by the data, pictures are drawn from them, small runs run."""

import csv
import re
from dataclasses import dataclass

import numpy as np
import pytest

study = pytest.importorskip("experiments.figures.study", reason="the experiments are not part of the package")
pytest.importorskip("scipy", reason="an extra")
pytest.importorskip("matplotlib", reason="an extra")
from test_statistics import results  # noqa: E402

from experiments import comparison, cost, drawing, parts  # noqa: E402
from experiments.algorithms import exchange_of  # noqa: E402
from experiments.figures import (  # noqa: E402  # noqa: E402, I001
    clock,
    default_clock,
    figure2,
    figure2_centre,
    figure2_left,
    figure2_right,
    figure4,
    figure5,
    figure6,
    figure7,
    figure8,
    paper_scale,
    pel,
    steps,
    table1,
)
from experiments.matrices import MATRICES, TABLE1  # noqa: E402
from experiments.references import REFERENCES, Reference, random_returns  # noqa: E402
from experiments.tables import read_csv, write_csv  # noqa: E402

CLOCKED = ["Swimmer-v5", "HalfCheetah-v5"]


def is_drawn(folder, name):
    return (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


# -- what all commands share -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Toss:
    """A job for the test."""

    seed: int
    size: float


def toss(job):
    if job.seed == 1:
        raise RuntimeError("on its edge")
    return [{"value": job.seed + job.size}]


def test_a_study_goes_on_where_it_was(tmp_path, capsys):
    def jobs(paper):
        return [Toss(seed, 1e-6) for seed in range(4 if paper else 3)]

    def check(data):
        return [study.Outcome("it runs", len(data["toss"]) > 2, f"{len(data['toss'])} rows")]

    def draw(data):
        return drawing.new_figure(1.0, 1.0)

    def command(*arguments):
        folders = ["--results", str(tmp_path), "--pictures", str(tmp_path)]
        return study.command("", "toss", [study.Study("toss", jobs, toss)], check, draw, [*arguments, *folders])

    with pytest.raises(SystemExit, match="no data"):
        command()
    with pytest.raises(SystemExit, match="failed runs: 1;"):
        command("--run")
    printed = capsys.readouterr().out
    assert "toss: 3 runs, 0 done before" in printed and "FAILED Toss(seed=1, size=1e-06): RuntimeError: on its edge" in printed
    assert "Claim: it runs\n  does NOT hold here: 2 rows" in printed
    with pytest.raises(SystemExit, match="failed runs: 1;"):
        command("--run", "--paper")
    printed = capsys.readouterr().out
    assert "toss: 4 runs, 2 done before" in printed and "Claim: it runs\n  holds here: 3 rows" in printed
    (outcome,) = command()
    assert outcome.holds and is_drawn(tmp_path, "toss")


def test_pictures_are_the_same_for_the_same_data(tmp_path):
    for name in ("a", "b"):
        figure = drawing.new_figure(2.0, 2.0)
        drawing.finish(figure.subplots(), "x", "y", "title")
        (tmp_path / name).mkdir()
        drawing.save(figure, tmp_path / name / "figure")
    assert (tmp_path / "a" / "figure.png").read_bytes() == (tmp_path / "b" / "figure.png").read_bytes()


# -- table 1 ---------------------------------------------------------------------------------------------------------------


def test_the_papers_table():
    assert tuple(table1.PAPER) == TABLE1 and len(TABLE1) == 21
    bold = [task for task, paper in table1.PAPER.items() if paper.best == "ESAC"]
    assert len(bold) == 16, "the paper counts 16"
    jobs = MATRICES["table1"]()
    assert len(jobs) == 21 * 4 * 10 and {job.total_timesteps for job in jobs} == {1_000_000}


def test_table_1_with_what_there_is(tmp_path, capsys):
    results(tmp_path / "table1.csv", {"ESAC": (2.0, 1, 1), "SAC": (1.0, 1, 1), "ES": (0.5, 1, 0)}, ["Hopper-v5"])
    paper, defaults = table1.main(["--results", str(tmp_path)])
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "| Hopper-v5 |" in line)
    assert "| Hopper-v2 | 3461.63 | 3048.69 | 3255.27 | 1296.17 | 1205.73 | Hopper-v5 | 1,000 | missing | 2200 ± 2e+02" in line
    assert "3 of 10 seeds" in line
    assert printed.count("missing") == 1 + 20 * 4
    assert paper.holds is None and defaults.holds is None and "on 1 of 1 tasks" in defaults.evidence


def test_table_1_when_all_is_there(tmp_path):
    algorithms = {"ESAC": (2.0, 1, 1), "ESAC, paper": (0.1, 1, 1), "SAC": (1.0, 1, 1), "ES": (0.5, 1, 0)}
    results(tmp_path / "table1.csv", algorithms, TABLE1, seeds=1)
    paper, defaults = table1.main(["--results", str(tmp_path)])
    assert (paper.holds, defaults.holds) == (False, True)


def test_tasks_that_table_1_has_not_been_played_on_are_from_the_benchmark(tmp_path, capsys):
    results(tmp_path / "benchmark.csv", {"ESAC": (1.0, 1, 1)}, ["Hopper-v5", "Swimmer-v5"], seeds=1)
    results(tmp_path / "table1.csv", {"ESAC": (2.0, 1, 1)}, ["Hopper-v5"], seeds=1)
    table1.main(["--results", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    shown = {
        task: next(line for line in lines if f"| {task} |" in line).split("|")[8:11] for task in ("Hopper-v5", "Swimmer-v5")
    }
    assert shown == {
        "Hopper-v5": [" 1,000 ", " missing ", " 2000, 1 of 10 seeds "],
        "Swimmer-v5": [" 1,000 ", " missing ", " 1000, 1 of 10 seeds "],
    }
    with pytest.raises(SystemExit, match="no data"):
        table1.main(["--results", str(tmp_path / "nowhere")])


# -- figure 2 --------------------------------------------------------------------------------------------------------------


def test_figure_2_learns(monkeypatch):
    monkeypatch.setattr(figure2_left, "MEMBERS", 4)
    rows = figure2_left.learn(figure2_left.Learning("ES", 0, 8, 20_000))
    assert [row["episode"] for row in rows] == sorted(row["episode"] for row in rows) and rows[-1]["episode"] >= 8
    assert all(-2 <= row["return"] <= 2000 for row in rows)
    for algorithm in ("PPO", "DDPG"):
        rows = figure2_left.learn(figure2_left.Learning(algorithm, 0, 5, 110))
        assert rows and rows[-1]["generation"] == ""


def test_figure_2_times_members_that_make_no_mistake():
    setting = figure2_centre.WholeEpisodes(figure2_left.TASK, "2 x 64", 1, 2)
    evaluator = figure2_centre.generations.open_evaluator(setting, "subproc")
    try:
        result = evaluator.evaluate(setting.request, lambda variables: True)
    finally:
        evaluator.close()
    assert result.lengths.tolist() == [[2000], [2000]] and result.returns.tolist() == [[2000.0], [2000.0]]


def test_figure_2_perturbs_the_members():
    (row,) = figure2_right.measure(figure2_right.Mutation(0.05, 4, 0, 1))
    assert {"steps", "return_first", "return_mean", "return_members"} == set(row) and row["steps"] > 0


def test_figure_2_is_judged_by_its_data(tmp_path, capsys):
    left = [
        dict(algorithm=name, seed=seed, episodes=9, steps=9, episode=episode, generation=episode // 50, step=1, best=value)
        | {"return": value}
        for name, run in {"ES": [(50, -1), (100, 2000)], "DDPG": [(50, 5), (300, 2000)], "PPO": [(50, -1), (900, 7)]}.items()
        for seed in range(3)
        for episode, value in run
    ]
    machine = {"load_average": 1.5, "cores": 2}
    centre = [
        dict(members=50, workers=workers, measured=measured, seconds_per_generation=1, seconds_per_episode=0.08 / workers)
        | machine
        for measured, number in ((True, [1, 2]), (False, [1, 2, 64]))
        for workers in number
    ]
    right = [
        dict(sigma=sigma, members=50, seed=seed, generations=1, steps=1, return_first=0, return_mean=mean, return_members=9)
        for sigma, mean in ((0.01, 0), (0.1, 2000))
        for seed in range(2)
    ]
    for part, rows in zip(figure2.STUDIES, (left, centre, right), strict=True):
        study.write_csv(tmp_path / f"{part.name}.csv", rows)
    outcomes = figure2.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert [outcome.holds for outcome in outcomes] == [True] * 6
    assert "0.0013 with 64 (predicted)" in outcomes[4].evidence and "load average 1.5" in outcomes[4].evidence
    assert is_drawn(tmp_path, "figure2")
    assert figure2_left.solved_after(study.read_csv(tmp_path / "figure2_left.csv"), "PPO") == [np.inf] * 3


# -- figure 4 --------------------------------------------------------------------------------------------------------------


def test_figure_4_times_an_interval(monkeypatch):
    real = figure4.from_file
    small = {"policy_kwargs": {"net_arch": [8]}, "agent_episodes": 1, "train_freq": 10}
    monkeypatch.setattr(figure4, "from_file", lambda *given, **changes: real(*given, **changes, **small))
    (row,) = figure4.measure(figure4.Timing("Pendulum-v1", "ESAC", 4, 1, True))
    assert row["seconds_playing"] > 0 and row["seconds_interval"] > 0
    assert row["updates_interval"] == 20, "one interval of one episode"
    (row,) = figure4.measure(figure4.Timing("Pendulum-v1", "ES", 4, 1, True))
    assert row["seconds_playing"] > 0 and row["seconds_interval"] == 0


def test_figure_4_is_judged_by_its_data(tmp_path):
    common = {"task": "Swimmer-v5", "members": 50, "load_average": 0.5, "cores": 2, "cpu_interval": 5}
    rows = [
        dict(algorithm=name, measured=True, workers=workers, seconds_playing=10 / workers, seconds_interval=interval, **common)
        | {"updates_interval": 500 if interval else 0}
        for name, interval in (("ES", 0.0), ("ESAC", 100.0))
        for workers in (1, 2)
    ]
    rows += [
        dict(algorithm="members", measured=False, workers=workers, seconds_playing=10 / workers, **common)
        | {"seconds_interval": "", "updates_interval": ""}
        for workers in (1, 2, 64)
    ]
    study.write_csv(tmp_path / "figure4.csv", [{name: row[name] for name in rows[0]} for row in rows])
    es, begin, annealed = figure4.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert (es.holds, begin.holds, annealed.holds) == (True, False, False)
    assert "two workers take 50% off one worker's 0.200 s" in es.evidence and "64 take 98% off (PREDICTED)" in es.evidence
    # 10 s of members and a fifth of 100 s: 64 workers leave 20.16 of 30
    assert "64 take 33% off (PREDICTED)" in begin.evidence
    assert is_drawn(tmp_path, "figure4")
    study.write_csv(
        tmp_path / "figure4.csv", [{**row, "load_average": 5.0} for row in study.read_csv(tmp_path / "figure4.csv")]
    )
    busy = figure4.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert [outcome.holds for outcome in busy] == [None] * 3 and "load average 5 to 5 on 2 cores" in busy[0].evidence
    assert cost.read_rates(tmp_path).update[512] == pytest.approx(0.01)


# -- figure 5 --------------------------------------------------------------------------------------------------------------


def test_figure_5_runs_small():
    job = figure5.Sensitivity("InvertedDoublePendulum-v5", "rank", 1e-2, 0, 1_000, True)
    (row,) = figure5.measure(job)
    assert row["generations"] >= 2 and row["sigma_last"] > 0.1
    assert all(0 < row[name] < 9400 for name in ("population", "mean", "agent", "deployed"))


@pytest.mark.parametrize(
    "best, worst, large, holds",
    [
        (-400.0, -1200.0, 0.09, True),
        (-400.0, -1200.0, 0.009, False),  # a hundredth is sensitive, too
        (-400.0, -420.0, 0.09, False),  # nothing is
        (-400.0, -200.0, 0.09, False),
        (-1300.0, -1500.0, 0.09, None),
    ],
)
def test_figure_5_is_judged_by_its_data(best, worst, large, holds, tmp_path):
    rows = [
        dict(task="Pendulum-v1", amt_input="raw", zeta=zeta, seed=seed, total_timesteps=1, small=True, sigma_last=1.0)
        | {"mean": worst if zeta > large else best, "deployed": -200.0}
        for zeta in figure5.ZETAS
        for seed in range(2)
    ]
    study.write_csv(tmp_path / "figure5.csv", rows)
    (outcome,) = figure5.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert outcome.holds is holds and is_drawn(tmp_path, "figure5")


# -- figures 6 to 9, PEL, cost ---------------------------------------------------------------------------------------------


def test_updates_and_curves(tmp_path, capsys):
    algorithms = {"ESAC": (1.5, 0.5, 0.5), "SAC": (1.0, 1.0, 1.0), "ES": (0.5, 0.01, 0.0)}
    results(tmp_path / "benchmark.csv", algorithms)
    folders = ["--results", str(tmp_path), "--pictures", str(tmp_path)]
    fewer, sooner = figure6.main(folders)
    assert fewer.holds and sooner.holds and "on 2 of 2 tasks" in sooner.evidence
    assert "| Hopper-v5 | ESAC | 1100 | 50 of 50 | 0.42 | 0.42 | 0.33 |" in capsys.readouterr().out
    (ahead,) = figure7.main(folders)
    assert ahead.holds is None and "2 of 2 tasks: Hopper-v5, Swimmer-v5" in ahead.evidence
    assert is_drawn(tmp_path, "figure6") and is_drawn(tmp_path, "figure7")


@pytest.mark.parametrize("slope, holds", [(0.34, True), (0.2, False)])
def test_table_1_at_its_own_scale(slope, holds, tmp_path):
    path = results(tmp_path / "paper_scale.csv", {paper_scale.ALGORITHM: (slope, 1, 0)}, ["Swimmer-v5"], seeds=1)
    with path.open() as file:
        rows = [row | {"agent": 1.0, "mean": 2.0, "paper_timesteps": row["total_steps"]} for row in csv.DictReader(file)]
    write_csv(path, rows)
    (outcome,) = paper_scale.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert outcome.holds is holds and outcome.claim == "ESAC has 345.44 on Swimmer-v5 after 1e6 steps"
    assert outcome.evidence == f"{1000 * slope:g} after 1,000 of the paper's steps" and is_drawn(tmp_path, "paper_scale")
    (job,) = [job for job in MATRICES["paper_scale"]() if job.task == "Swimmer-v5"]
    assert job.total_timesteps == 2 * 10 * 1_000_000 and job.algorithm == paper_scale.ALGORITHM


def test_what_parts_are_worth(tmp_path):
    slopes = {"ESAC, fast, in sequence": 2.0, "ESAC, fast, one winner": 1.0, "ESAC, fast, without AMT": 2.5}
    results(tmp_path / "ablations_fast.csv", {name: (slope, 1, 0) for name, slope in slopes.items()})
    random = random_returns()
    # Runs end at 1000 times their slope, and at 10 per cent more with each seed.
    scales = {task: REFERENCES[task].value - random[task] for task in ("Hopper-v5", "Swimmer-v5")}
    lost = np.mean([1000.0 * factor / scale for scale in scales.values() for factor in (1.0, 1.1, 1.2)])
    header, _, winner, tuning = parts.table("ablations_fast", tmp_path).splitlines()
    assert header.startswith("| changed | tasks | pairs of runs | return lost at the budget | pairs that lose |")
    assert winner.startswith(f"| ESAC, fast, one winner | 2 | 6 | {lost:.2f} [")
    assert winner.count("6 of 6") == 2 and tuning.count("0 of 6") == 2


def test_the_benchmarks_own_runs_are_among_those_without_parts(tmp_path):
    results(tmp_path / "benchmark.csv", {"SAC": (1.0, 1, 1), "ESAC": (3.0, 1, 0)}, ["Reacher-v5", "Hopper-v5"])
    results(tmp_path / "ablations_long.csv", {"ESAC, with exchange": (2.0, 1, 0)}, ["Reacher-v5", "Hopper-v5"])
    names = {name for _, name in parts.played("ablations_long", tmp_path)}
    assert names == {"ESAC, with exchange", exchange_of("Reacher-v5"), exchange_of("Hopper-v5")}, "not of everybody"
    lines = parts.table("ablations_long", tmp_path).splitlines()[2:]
    assert len(lines) == len(names) - 1 and all(" | -" in line for line in lines)
    results(tmp_path / "exchange.csv", {exchange_of("Hopper-v5"): (2.0, 1, 0)}, ["Hopper-v5"], seeds=5)
    runs = parts.played("exchange", tmp_path)
    assert {key: sorted(seeds) for key, seeds in runs.items()} == {("Hopper-v5", exchange_of("Hopper-v5")): [0, 1, 2, 3, 4]}


def test_progressive_episode_lengths(tmp_path, capsys):
    slopes = {
        "OpenAI ES": 1.0,
        "OpenAI ES, T_c": 0.5,
        "OpenAI ES, T_d": 2.0,
        "canonical ES": 1.0,
        "canonical ES, T_c": 3.0,
        "canonical ES, T_d": 3.0,
    }
    results(tmp_path / "pel.csv", {name: (slope, 1.0, 0) for name, slope in slopes.items()})
    outcomes = pel.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    # For each family: how often T_c is better and by how much, then T_d.
    assert [outcome.holds for outcome in outcomes] == [True, True, True, True, False, False, True, True]
    assert "| Hopper-v5 | canonical ES | T_c | 3 | 825.0 | 1650.0 |" in capsys.readouterr().out
    assert is_drawn(tmp_path, "pel")


def test_frames_are_taken_where_the_walker_is_lowest():
    heights = np.full(100, 1.2)
    heights[:5], heights[60] = 0.2, 0.7
    assert figure8.moments(heights, 5, 4).tolist() == [52, 56, 60, 64, 68]
    heights[60], heights[98] = 1.2, 0.7
    assert figure8.moments(heights, 5, 4).tolist() == [83, 87, 91, 95, 99]
    outcome = figure8.check(np.ones(100), heights)
    assert outcome.holds and "lowest after it had stood up: 0.70 m" in outcome.evidence
    assert figure8.stood_up(heights) == 5 + 24
    falling = np.linspace(1.3, 0.0, 50)
    assert figure8.stood_up(falling) is None and figure8.check(np.ones(50), falling).holds is None
    assert figure8.stood_up(falling[:9]) is None
    heights[70] = 0.3
    assert figure8.check(np.ones(100), heights).holds is False


def test_cost_of_known_rates(tmp_path):
    networks = ("2 x 64", "2 x 256", "2 x 512")
    step = {(env, net): 1e-4 for env in ("HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "cheetah-run") for net in networks}
    rates = cost.Rates(step, {256: 0.01, 512: 0.02}, {("Hopper-v5", "SAC"): 0.5})
    assert cost.seconds_per_step("Hopper-v5", "SAC", rates) == (0.5, "measured runs")
    assert cost.seconds_per_step("HalfCheetah-v5", "SAC", rates) == (pytest.approx(0.0101), "rates")
    assert cost.seconds_per_step("dm_control/fish-swim-v0", "ES", rates) == (
        pytest.approx(1e-4),
        "rates, steps as cheetah-run's",
    )
    assert cost.stand_in("dm_control/quadruped-run-v0") == "Humanoid-v5"
    lines, total = cost.estimate("table1", rates)
    assert len(lines) == 21 * 4 and np.isfinite(total)
    share = cost.shape_of("Swimmer-v5", "ESAC, paper, n = 10").updates / cost.shape_of("Swimmer-v5", "ESAC, paper").updates
    assert share == pytest.approx(50 / 20, rel=0.01), "as many intervals of the agent among fewer members"
    assert cost.seconds_per_step("Hopper-v5", "ESAC", cost.Rates(step, {}, {}))[1] == "no rate"
    assert cost.seconds_per_step("Hopper-v5", "SAC, fast", rates)[1] == "no rate"
    few = cost.Rates(step, {}, {(task, "SAC, fast"): seconds for task, seconds in (("A", 1.0), ("B", 2.0), ("C", 9.0))})
    assert cost.seconds_per_step("Hopper-v5", "SAC, fast", few) == (2.0, "runs on other tasks")
    lines, total = cost.estimate("tasks21_million", few)
    assert total == pytest.approx((17 * 2 + 4) * 1e6 * 2 / 3600) and len(lines) == 21 * 2


def test_cost_from_the_repositorys_rates(capsys):
    cost.main(["pel"])
    assert "pel: " in capsys.readouterr().out
    # In the short runs of the benchmark the paper's agent hardly plays
    assert not any(algorithm == "ESAC, paper" for _, algorithm in cost.read_rates().runs)
    assert cost.shape_of("Hopper-v5", "ESAC, one winner") == cost.shape_of("Hopper-v5", "ESAC")
    assert cost.shape_of("Hopper-v5", "ESAC, fast, one winner").updates == 0


def test_a_file_of_results_keeps_its_columns(tmp_path):
    from experiments import run

    path = tmp_path / "old.csv"
    path.write_text("task,seed\nA,0\n")
    run.append(path, [{"task": "B", "seed": 1, "paper_timesteps": 5}])
    with path.open() as file:
        assert list(csv.DictReader(file)) == [{"task": "A", "seed": "0"}, {"task": "B", "seed": "1"}]


# -- on the clock ----------------------------------------------------------------------------------------------------------


def test_targets_on_the_clock(tmp_path, capsys):
    row = {"algorithm": "SAC", "threads": 1, "step_ms": 1.0, "update_ms": 9.0, "load": 0, "versions": ""}
    peer = {"task": CLOCKED[0], **row, "algorithm": "SBX's SAC", "update_ms": 4.0}
    write_csv(tmp_path / "speed.csv", [*({"task": task, **row} for task in CLOCKED), peer])
    results(tmp_path / "benchmark.csv", {"SAC": (1.0, 5.0, 1.0), "ARS": (1.0, 1.0, 0.0)}, CLOCKED)
    results(tmp_path / "clock.csv", {"ESAC, fast": (6.0, 0.0005, 0.1), "ES, two workers": (0.5, 0.001, 0.0)}, CLOCKED)
    folders = ["--results", str(tmp_path), "--pictures", str(tmp_path)]
    third, half, swimmer, cheetah = clock.main(folders)
    # What SAC has a little after a second, ESAC has at its first evaluation: after a tenth of it
    assert third.holds and half.holds and "on 2 (Swimmer-v5, HalfCheetah-v5); not on none" in third.evidence
    assert swimmer.holds and cheetah.holds and "seed 1: " in swimmer.evidence
    printed = capsys.readouterr().out
    assert is_drawn(tmp_path, "clock") and "| 0.08 |" in printed
    # SBX takes half of SAC's time, where its speed was measured.
    cells = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines() if "ESAC, fast" in line]
    assert {line[1]: line[-3] for line in cells} == {CLOCKED[0]: "0.17", CLOCKED[1]: ""}
    results(tmp_path / "clock.csv", {"ESAC, fast": (0.2, 0.005, 0.1)}, CLOCKED)
    third, half, swimmer, cheetah = clock.main(folders)
    assert not third.holds and not half.holds and "HalfCheetah-v5 (never)" in half.evidence
    assert not swimmer.holds and "never" in swimmer.evidence
    (tmp_path / "clock.csv").unlink()
    with pytest.raises(SystemExit, match="no data"):
        clock.main(folders)


def test_on_the_clock_seeds_are_compared_with_the_same(tmp_path):
    results(tmp_path / "benchmark.csv", {"SAC": (1.0, 5.0, 1.0)}, CLOCKED, seeds=3)
    for seeds, compared in ((2, [0, 1]), (4, [0, 1, 2])):
        results(tmp_path / "clock.csv", {"ESAC, fast": (6.0, 0.0005, 0.1)}, CLOCKED, seeds=seeds)
        runs = clock.collect(tmp_path)
        assert {task: list(runs[task, "SAC"]) for task in CLOCKED} == dict.fromkeys(CLOCKED, compared)


def test_the_default_on_the_clock(tmp_path, capsys):
    row = {"algorithm": "SAC", "threads": 1, "step_ms": 1.0, "update_ms": 9.0, "load": 0, "versions": ""}
    write_csv(tmp_path / "speed_default.csv", [{"task": task, **row} for task in (*CLOCKED, "Pendulum-v1")])
    results(tmp_path / "benchmark.csv", {"SAC": (1.0, 5.0, 1.0)}, [*CLOCKED, "Pendulum-v1"], seeds=3)
    results(
        tmp_path / "dense.csv", {"ESAC, by default": (6.0, 0.0005, 0.1), "the agent alone": (9.0, 0.0001, 0.1)}, CLOCKED[:1]
    )
    results(tmp_path / "stuck.csv", {"ESAC, by default": (0.2, 0.0005, 0.1)}, CLOCKED[1:], seeds=5)
    (target,) = default_clock.main(["--results", str(tmp_path), "--pictures", str(tmp_path)])
    assert not target.holds and "on 1 (Swimmer-v5); not on HalfCheetah-v5 (never)" in target.evidence
    lines = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.split("\n\n")[0].splitlines()[2:]]
    # SAC takes its steps and updates at the speed of the idle machine, and has three seeds of ESAC's five.
    steps = "1k / 1k"
    assert [(line[1], line[2], line[3], line[7]) for line in lines] == [(task, "3", steps, "10") for task in CLOCKED]
    assert is_drawn(tmp_path, "default_clock")
    # What was evaluated before the first tenth of a run comes before it.
    runs = default_clock.collect(tmp_path)
    first = runs[CLOCKED[1], "ESAC, by default"][0][0]["total_steps"]
    results(
        tmp_path / "default_clock.csv",
        {"ESAC, by default": (0.2, 0.0005, 0.1)},
        ["Pendulum-v1", CLOCKED[1]],
        budget=int(first),
    )
    # The short run was played on a slower day.
    path = tmp_path / "default_clock.csv"
    write_csv(path, [{**row, "cpu_seconds": 3 * float(row["cpu_seconds"])} for row in read_csv(path)])
    more = default_clock.collect(tmp_path)
    steps = [row["total_steps"] for row in more[CLOCKED[1], "ESAC, by default"][0]]
    seconds = [row[default_clock.AXIS] for row in more[CLOCKED[1], "ESAC, by default"][0]]
    assert seconds == sorted(seconds) and seconds[0] == pytest.approx(seconds[-1] * steps[0] / steps[-1])
    assert steps == sorted(set(steps)) and len(steps) > len(runs[CLOCKED[1], "ESAC, by default"][0])
    assert list(more[CLOCKED[1], "ESAC, by default"]) == [0, 1, 2], "of seeds 3 and 4 SAC has none"
    (tmp_path / "stuck.csv").unlink()
    (tmp_path / "dense.csv").unlink()
    assert {task for task, _ in default_clock.collect(tmp_path)} == {"Pendulum-v1"}, "a beginning is no run"
    mixed = [*more[CLOCKED[1], "ESAC, by default"][0], *more[CLOCKED[1], "ESAC, by default"][0]]
    with pytest.raises(ValueError, match="rows of several runs are mixed"):
        comparison.curve_of(mixed, default_clock.AXIS)
    assert ("Pendulum-v1", "ESAC, by default") in more and ("Pendulum-v1", "ESAC, by default") not in runs
    (tmp_path / "speed_default.csv").unlink()
    with pytest.raises(SystemExit, match="no data"):
        default_clock.main(["--results", str(tmp_path)])


# -- at equal steps --------------------------------------------------------------------------------------------------------


def test_targets_in_steps(tmp_path, capsys):
    tasks = ["Hopper-v5", "HalfCheetah-v5"]
    results(tmp_path / "benchmark.csv", {"ESAC": (1.5, 1.0, 1.0), "SAC": (1.0, 1.0, 1.0), "ES": (9.0, 1.0, 0.0)}, tasks)
    last, area, dip, spread = steps.main(["--results", str(tmp_path)])
    assert last.holds and area.holds and dip.holds and not spread.holds
    assert "over 1 tasks (Hopper-v5), 3 seeds" in last.evidence and "too little: HalfCheetah-v5" in last.evidence
    assert "against SAC: IQM" in capsys.readouterr().out
    # On the first scale what SAC has learned is 1, on the other what published runs have.
    here, _, published = (float(number) for number in re.findall(r"\d\.\d{3}", spread.evidence)[:3])
    runs = comparison.read(tmp_path / "benchmark.csv")
    scale = comparison.scales(runs)["Hopper-v5"]
    learned = np.mean([rows[-1]["deployed"] for rows in runs["Hopper-v5", "SAC"].values()]) - scale.random
    assert published == pytest.approx(here * learned / scale.width, abs=0.001)
    results(tmp_path / "benchmark.csv", {"ESAC": (0.95, 1.0, 1.0), "SAC, ESAC's updates": (1.0, 1.0, 1.0)}, ["Hopper-v5"])
    last, area, _, spread = steps.main(["--results", str(tmp_path)])
    assert "against SAC, ESAC's updates" in last.claim and not last.holds and not area.holds and spread.holds


def test_a_return_at_the_budget_is_no_later_one(tmp_path):
    runs = comparison.read(results(tmp_path / "r.csv", {"SAC": (1.0, 1.0, 1.0)}, ["Hopper-v5"], seeds=1))
    for row in runs["Hopper-v5", "SAC"][0]:
        row["budget"] = "750"
    scale = comparison.Scale(0.0, Reference(1000.0, "made up"))
    assert comparison.measures(runs, "Hopper-v5", scale, "cpu_seconds")["SAC"][0]["last"] == pytest.approx(0.75)
