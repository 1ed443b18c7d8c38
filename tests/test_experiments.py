"""The machinery of the experiments: what is run, skipped, written down, and counted."""

import csv
import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

jobs = pytest.importorskip("experiments.jobs", reason="the experiments are not part of the package")
run = pytest.importorskip("experiments.run")
from experiments.algorithms import ALGORITHMS  # noqa: E402
from experiments.matrices import MATRICES, grid  # noqa: E402
from sb3_esac.callbacks import HindsightCrossover  # noqa: E402


@pytest.fixture
def tiny(monkeypatch):
    """A matrix of two runs, played in this process."""
    monkeypatch.setitem(MATRICES, "tiny", lambda: grid("tiny", {"CartPole-v1": 300}, ["ES"], [0, 1], 2))
    monkeypatch.setattr(jobs, "N_EPISODES", 1)
    played = []

    def here(wanted, n_processes, function):
        for job in wanted:
            played.append(job.seed)
            yield job, function(job)

    monkeypatch.setattr(run, "on_this_machine", here)
    return played


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_what_is_done_is_skipped(tiny, tmp_path, capsys):
    path = tmp_path / "tiny.csv"
    assert run.main(["tiny", "--seeds", "1", "--output", str(path)]) == 0
    assert tiny == [1]
    assert run.main(["tiny", "--output", str(path)]) == 0
    assert tiny == [1, 0]
    assert run.main(["tiny", "--output", str(path)]) == 0
    assert tiny == [1, 0]
    assert "2 runs, 2 done before" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no run with these seeds"):
        run.main(["tiny", "--seeds", "9", "--output", str(path)])
    rows = read(path)
    assert [(row["seed"], row["is_last"]) for row in rows] == [("1", "False"), ("1", "True"), ("0", "False"), ("0", "True")]
    assert all(int(row["total_steps"]) == int(row["agent_steps"]) + int(row["population_steps"]) for row in rows)
    assert all("stable_baselines3=" in row["versions"] and "commit=" in row["versions"] for row in rows)


def test_long_runs_say_how_far_they_are(tiny, tmp_path, capsys, monkeypatch):
    job = MATRICES["tiny"]()[0]
    jobs.play(job)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(jobs, "REPORT_SECONDS", 0.0)
    row = jobs.play(job)[0]
    said = (
        f"CartPole-v1, ES, seed 0: {row['deployed']:g} after {row['total_steps'] / 300:.0%} of 300 steps, about 0 min left\n"
    )
    assert capsys.readouterr().out.strip() == said.strip()


def test_a_run_that_was_cut_short_is_run_again(tiny, tmp_path):
    path = tmp_path / "tiny.csv"
    rows = jobs.play(MATRICES["tiny"]()[0])
    run.append(path, rows[:-1])
    assert run.done(path) == set()
    run.append(path, rows)
    assert run.done(path) == {("CartPole-v1", "ES", 0, 300)}


def test_a_run_that_fails_is_told_and_not_written(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "on_this_machine", lambda wanted, n, function: ((job, RuntimeError("too bad")) for job in wanted))
    path = tmp_path / "tiny.csv"
    assert run.main(["tiny", "--output", str(path)]) == 2
    assert "FAILED CartPole-v1, ES, seed 0: RuntimeError: too bad" in capsys.readouterr().out
    assert not path.exists()


def test_experiments_are_listed(capsys):
    assert run.main(["--list"]) == 0
    assert "benchmark: 215 runs" in capsys.readouterr().out


def test_what_is_changed_is_changed():
    paper = ALGORITHMS["ESAC, paper, n = 10"]("Pendulum-v1", 0, 1)
    assert (paper.population.config.size, paper.mirrored, paper.sigma) == (20, True, 5e-3)
    mean = ALGORITHMS["ESAC, fast, without champion"]("Swimmer-v5", 0, 1)
    assert (mean.champion_episodes, mean.deploy, mean.overlap) == (0, "population", False)
    alone = ALGORITHMS["ESAC, fast, one winner"]("Swimmer-v5", 0, 1)
    assert (alone.population.config.n_winners, alone.population.config.size) == (1, 40)
    by_the_clock = ALGORITHMS["ESAC, fast"]
    assert [by_the_clock(task, 0, 1).n_workers for task in ("Swimmer-v5", "Pendulum-v1")] == [2, 1], "as the file has it"
    as_then = ALGORITHMS["ESAC, fast, in sequence"]("Swimmer-v5", 0, 1)
    assert as_then.population.config.n_winners == 16, "what the file had when the parts were compared"
    crossed = ALGORITHMS["ESAC, with crossover"]("Pendulum-v1", 0, 1)
    assert any(isinstance(operator, HindsightCrossover) for operator in crossed.operators)
    assert not any(isinstance(operator, HindsightCrossover) for operator in ALGORITHMS["ESAC"]("Pendulum-v1", 0, 1).operators)
    untuned = ALGORITHMS["ESAC, fast, without AMT"]("Pendulum-v1", 0, 1)
    assert any(isinstance(operator, HindsightCrossover) for operator in untuned.operators)
    sigma = untuned.population.sigma
    untuned.learn(1000)
    assert untuned.agent_timesteps > 0 and untuned.population.sigma == sigma


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.startswith("ESAC, paper")])
def test_every_algorithm_is_evaluated(name, monkeypatch):
    monkeypatch.setattr(jobs, "N_EPISODES", 1)
    rows = jobs.play(jobs.Job("smoke", "Pendulum-v1", name, 0, 300, 2))
    assert [row["is_last"] for row in rows] == [False, True]
    assert rows[-1]["total_steps"] >= 300 and -2000 < rows[-1]["deployed"] < 0
    has_agent, has_population = name.startswith(("ESAC", "SAC", "the agent")), not name.startswith(("SAC", "ARS"))
    assert (rows[-1]["agent"] != "") == has_agent
    assert (rows[-1]["mean"] != "") == (has_population and rows[-1]["population_steps"] > 0)


def test_early_evaluations_come_before_the_even_ones():
    job = jobs.Job("smoke", "CartPole-v1", "ES", 0, 1000, 4)
    assert job.positions == [250, 500, 750]
    assert replace(job, n_early=2).positions == [62.5, 125, 250, 500, 750]


def _count(counter):
    while True:
        counter.value += 1
        time.sleep(0.001)


def test_workers_rest_while_the_clock_stands_still():
    context = multiprocessing.get_context("fork")
    counter = context.Value("q", 0, lock=False)
    child = context.Process(target=_count, args=(counter,), daemon=True)
    child.start()

    def counted(seconds):
        before = counter.value
        time.sleep(seconds)
        return counter.value - before

    try:
        deadline = time.monotonic() + 30
        while counter.value == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        with jobs.workers_paused():
            time.sleep(0.05)
            assert counted(0.2) == 0
        assert counted(1.0) > 0
    finally:
        child.kill()
        child.join()


def test_processes(tmp_path):
    job = jobs.Job("smoke", "CartPole-v1", "ES", 0, 200, 1)
    ((played, rows),) = run.on_this_machine([job], 1)
    assert played == job and rows[-1]["is_last"]


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_process_ends_with_a_runner_that_is_killed(tmp_path):
    file = tmp_path / "pid"
    command = f"echo $PPID > {file}; sleep 30"
    script = f"import os; from experiments import run; list(run.on_this_machine([{command!r}], 1, os.system))"
    runner = subprocess.Popen([sys.executable, "-c", script])
    while not (file.exists() and file.read_text().strip()):
        assert runner.poll() is None
        time.sleep(0.05)
    runner.kill()
    runner.wait()
    deadline = time.monotonic() + 10.0
    while is_running(file.read_text().strip()):
        assert time.monotonic() < deadline, "still playing"
        time.sleep(0.05)


def test_a_report(tiny, tmp_path, capsys, monkeypatch):
    pytest.importorskip("scipy", reason="an extra")
    from experiments import report, statistics

    monkeypatch.setattr(statistics, "N_SAMPLES", 20)
    path = tmp_path / "tiny.csv"
    run.main(["tiny", "--output", str(path)])
    capsys.readouterr()
    report.main([str(path), "--pictures", str(tmp_path)])
    printed = capsys.readouterr().out
    last = [float(row["deployed"]) for row in read(path) if row["is_last"] == "True"]
    assert f"| {sum(last) / 2:.0f} | {last[0]:.0f}, {last[1]:.0f} |" in printed
    assert (tmp_path / "tiny_curves.png").read_bytes().startswith(b"\x89PNG")


def test_of_two_runs_by_the_zoo_the_later_one_is_in_the_manual(tmp_path, monkeypatch):
    columns = "algo,env,seed,target,return_mean,return_std,total_steps,gradient_updates,seconds,cores"
    runs = ["es,A,0,,1,0,9,0,1,2", "es,A,1,,2,0,9,0,1,2", "es,A,0,,3,0,9,0,1,2", "esac,A,0,,4,0,9,0,1,2"]
    (tmp_path / "runs.csv").write_text("\n".join([columns, *runs]) + "\n")
    monkeypatch.setattr("experiments.zoo_check.RESULTS", tmp_path / "runs.csv")
    from experiments.zoo_check import table

    def returns(text: str) -> list[str]:
        return [line.split(" | ")[3] for line in text.splitlines()[2:]]

    assert returns(table("es")) == ["3", "2"]
    assert returns(table("es", latest=False)) == ["1", "2", "3"]
