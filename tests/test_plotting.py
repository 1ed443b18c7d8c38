"""Learning curves of a run folder."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import Drift, make_model
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ES, ESAC
from sb3_esac.plot import main
from sb3_esac.plotting import gradient_intervals, plot_comparison, plot_run, read_progress, read_run
from sb3_esac.plotting.figure import watch
from sb3_esac.plotting.panels import running_mean, without_restarts

pytest.importorskip("matplotlib")

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = make_model(ESAC, Drift(), seed=0)
    model.set_logger(configure(str(folder), ["csv"]))
    evaluate = EvalCallback(Monitor(Drift()), n_eval_episodes=2, eval_freq=100, log_path=str(folder), verbose=0)
    model.learn(500, callback=evaluate)
    model.logger.close()
    return folder, model


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_a_picture_of_a_run(run_folder, tmp_path, ending, magic):
    folder, _ = run_folder
    written = plot_run(folder, tmp_path / f"curve.{ending}")
    assert written.read_bytes().startswith(magic)


STACKED = ("winners", "champion's probes", "gradients", "callbacks", "generation", "target share")


def test_labels_and_series(run_folder, tmp_path):
    text = plot_run(run_folder[0], tmp_path / "curve.svg").read_text()
    for label in (
        "population, best",
        "population, mean",
        "agent",
        "champion",
        "deployed, evaluated",
        "sigma",
        *STACKED,
        "seconds",
    ):
        assert f"<!-- {label} -->" in text, label


def test_seconds_that_no_phase_has_counted(run_folder, tmp_path):
    lines = (run_folder[0] / "progress.csv").read_text().splitlines()
    column = lines[0].split(",").index("time/time_elapsed")
    rows = [line.split(",") for line in lines[1:]]
    later = [",".join([*row[:column], str(100 * (n + 1)), *row[column + 1 :]]) for n, row in enumerate(rows)]
    (tmp_path / "progress.csv").write_text("\n".join([lines[0], *later]))
    assert "<!-- elsewhere -->" in plot_run(tmp_path, tmp_path / "curve.svg").read_text()


def test_the_picture_stands_in_the_folder(run_folder):
    assert plot_run(run_folder[0]) == run_folder[0] / "learning_curve.png"


def test_intervals_are_the_agents_steps(run_folder):
    folder, model = run_folder
    progress = read_progress(folder / "progress.csv")
    intervals = gradient_intervals(progress)
    assert len(intervals) > 0
    assert intervals[:, 1].sum() == model.agent_timesteps
    assert (intervals[:, 0] >= 0).all() and (intervals.sum(axis=1) <= model.num_timesteps).all()


def test_columns_that_begin_late_are_nan(tmp_path):
    (tmp_path / "progress.csv").write_text("a,b\n1,\n2,3.5\n")
    progress = read_progress(tmp_path / "progress.csv")
    assert progress["a"].tolist() == [1.0, 2.0]
    assert np.isnan(progress["b"][0]) and progress["b"][1] == 3.5


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"progress\.csv"):
        plot_run(tmp_path)


def test_evolution_alone(tmp_path):
    """No agent, so nothing is said of one, and no winners that could have come from it."""
    model = make_model(ES, Drift(), seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(300)
    text = plot_run(tmp_path, tmp_path / "curve.svg").read_text()
    for label in ("population, mean", "champion", "step of the mean", "champion's probes"):
        assert f"<!-- {label} -->" in text, label
    assert "agent's" not in text and "winners" not in text
    assert read_run(tmp_path).missing() == [note for note in read_run(tmp_path).missing() if "evaluations" in note]


def test_an_agent_alone(tmp_path):
    """By default the agent plays first. A legend does not promise areas of a population that has not played."""
    model = make_model(ESAC, Drift(), seed=0, agent_fraction=1.0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(300)
    text = plot_run(tmp_path, tmp_path / "curve.svg").read_text()
    assert "<!-- agent -->" in text and "<!-- gradients -->" in text
    assert "<!-- population -->" not in text and "champion's probes" not in text


def test_tensorboard_events_say_the_same(tmp_path):
    pytest.importorskip("tensorboard")
    model = make_model(ESAC, Drift(), seed=0)
    model.set_logger(configure(str(tmp_path / "run"), ["csv", "tensorboard"]))
    model.learn(300)
    model.logger.close()
    table = read_run(tmp_path / "run")
    (tmp_path / "run" / "progress.csv").unlink()
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo" / "0.monitor.csv").write_text('#{"t_start": 5.0}\nr,l,t\n1.0,10,0.5\n3.0,30,1.5\n')
    for folder, events in ((tmp_path / "run", None), (tmp_path / "zoo", tmp_path)):
        run = read_run(folder, events)
        assert "TensorBoard events" in run.found
        for key in ("population/return_mean", "population/winners_from_mean", "time/gradient_seconds", "population/sigma"):
            for one, other in zip(run.rows("time/total_timesteps", key), table.rows("time/total_timesteps", key), strict=True):
                assert np.allclose(one, other), key
    assert read_run(tmp_path / "zoo").episodes.tolist() == [[10, 1.0], [40, 3.0]]
    with pytest.raises(FileNotFoundError, match=r"events"):
        read_run(tmp_path / "zoo", tmp_path / "zoo")


def test_monitor_files_of_several_environments_are_merged_in_time(tmp_path):
    (tmp_path / "0.monitor.csv").write_text('#{"t_start": 5.0}\nr,l,t\n1.0,10,0.5\n3.0,30,1.5\n')
    (tmp_path / "1.monitor.csv").write_text('#{"t_start": 5.2}\nr,l,t\n2.0,20,0.5\n4.0,40,9')
    assert read_run(tmp_path).episodes.tolist() == [[10, 1.0], [30, 2.0], [60, 3.0]], "the last line is only half there"
    assert plot_run(tmp_path).read_bytes().startswith(PNG)


def test_a_log_that_is_being_written(run_folder, tmp_path):
    """Wherever it has been cut off so far, there is a picture or a clear word."""
    text = (run_folder[0] / "progress.csv").read_text()
    path, whole = tmp_path / "progress.csv", len(text.splitlines()) - 1
    for end in (0, 10, len(text) // 2, len(text) - 2, len(text)):
        path.write_text(text[:end])
        rows = text[:end].count("\n") - 1
        if rows <= 0:
            with pytest.raises(ValueError, match="nothing to draw yet"):
                plot_run(tmp_path)
            continue
        table = read_progress(path)["time/total_timesteps"]
        assert len(table) == rows <= whole
        assert table.tolist() == read_progress(run_folder[0] / "progress.csv")["time/total_timesteps"][:rows].tolist()
        assert plot_run(tmp_path).read_bytes().startswith(PNG)


def test_an_evaluation_file_that_is_being_written(run_folder, tmp_path):
    for name in ("progress.csv", "evaluations.npz"):
        (tmp_path / name).write_bytes((run_folder[0] / name).read_bytes())
    assert "evaluations.npz" in read_run(tmp_path).found
    (tmp_path / "evaluations.npz").write_bytes((run_folder[0] / "evaluations.npz").read_bytes()[:100])
    run = read_run(tmp_path)
    assert "evaluations.npz" not in run.found and run.evaluations is not None, "it is in the log as well"


def test_live(run_folder, tmp_path):
    """The file follows the log, and is whole whenever somebody looks."""
    lines = (run_folder[0] / "progress.csv").read_text().splitlines(keepends=True)
    run, output = tmp_path / "run", tmp_path / "live.svg"
    sizes, stop = set(), threading.Event()

    def look():
        while not stop.is_set():
            if output.exists():
                text = output.read_text()
                assert text.startswith("<?xml") and text.rstrip().endswith("</svg>")
                sizes.add(len(text))
            time.sleep(0.01)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            watch(tmp_path / "nowhere", [output], 0.01, n_redraws=1)
            assert not output.exists(), "nothing to draw yet"
            run.mkdir()
            for end in (len(lines) // 2, len(lines)):
                (run / "progress.csv").write_text("".join(lines[:end]))
                watch(run, [output], 0.1, n_redraws=1)
        finally:
            stop.set()
        looking.result(10)
    assert len(sizes) == 2
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["live.svg"]


def test_live_ends_with_an_interrupt(run_folder, tmp_path):
    environment = {name: value for name, value in os.environ.items() if "DISPLAY" not in name}
    command = [sys.executable, "-m", "sb3_esac.plot", str(run_folder[0]), "--live", "0.1", "-o", str(tmp_path / "live.png")]

    def heed_interrupts():
        # Whoever started the tests in the background may have left them ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts) as process:
        try:
            deadline = time.monotonic() + 120
            while not (tmp_path / "live.png").exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 0 and errors == ""
    assert (tmp_path / "live.png").read_bytes().startswith(PNG)


def test_command(run_folder, tmp_path, capsys):
    main(["-o", str(tmp_path / "a.png"), str(run_folder[0]), "-o", str(tmp_path / "deep" / "a.svg")])
    printed = capsys.readouterr().out
    assert "Drawn from progress.csv, evaluations.npz" in printed and "Not found" not in printed
    assert (tmp_path / "a.png").exists() and (tmp_path / "deep" / "a.svg").exists()


def test_command_says_what_it_did_not_find(run_folder, tmp_path, capsys):
    (tmp_path / "evaluations.npz").write_bytes((run_folder[0] / "evaluations.npz").read_bytes())
    main([str(tmp_path)])
    printed = capsys.readouterr().out
    assert "Drawn from evaluations.npz" in printed
    assert "Not found: no log, so no population" in printed and "--events" in printed
    assert (tmp_path / "learning_curve.png").exists()


def test_several_runs(run_folder, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "monitor.csv").write_text('#{"t_start": 5.0}\nr,l,t\n1.0,10,0.5\n3.0,30,1.5\n')
    main([str(run_folder[0]), str(tmp_path / "other"), "--labels", "first", "second", "-o", str(tmp_path / "both.svg")])
    text = (tmp_path / "both.svg").read_text()
    assert "<!-- first -->" in text and "<!-- second (training episodes) -->" in text
    with pytest.raises(ValueError, match="`labels` must have one entry for each of 1 folders, not 2"):
        plot_comparison([run_folder[0]], tmp_path / "no.png", ["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "There is no folder nowhere"),
        ([".", "-o", "x.docx"], r"must end with one of .*\.png.*, not 'x\.docx'"),
        ([".", "--live", "-1"], "must be a number of seconds > 0, not -1"),
        ([".", ".", "--live"], "take one folder"),
        ([".", "--events", "nowhere"], "nothing|no TensorBoard events"),
    ],
    ids=["folder", "ending", "seconds", "folders", "events"],
)
def test_clear_errors(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    if "--events" not in arguments:
        (tmp_path / "monitor.csv").write_text('#{"t_start": 5.0}\nr,l,t\n1.0,10,0.5\n')
    with pytest.raises(SystemExit, match=message):
        main(arguments)


def test_without_matplotlib(run_folder, monkeypatch):
    monkeypatch.setattr("sb3_esac.plot.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"sb3_esac\[plots\]"):
        main([str(run_folder[0])])


def test_counters_that_begin_anew_are_added_up():
    assert without_restarts(np.array([1.0, 3.0, 0.5, 2.0])).tolist() == [1.0, 3.0, 3.5, 5.0]


def test_running_mean():
    assert running_mean(np.array([1.0, 2.0, 3.0, 4.0]), 2).tolist() == [1.0, 1.5, 2.5, 3.5]
    assert running_mean(np.array([1.0, 2.0]), 10).tolist() == [1.0, 1.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--labels", "name"], "`--labels` are for several folders"),
        (["--events", "nowhere"], "nowhere has no TensorBoard events"),
    ],
)
def test_what_would_be_ignored(run_folder, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main([str(run_folder[0]), *arguments])


def test_a_folder_after_live(run_folder, capsys):
    with pytest.raises(SystemExit):
        main(["--live", str(run_folder[0])])
    assert "is no number of seconds: write folders before --live" in capsys.readouterr().err
