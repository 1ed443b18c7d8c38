"""Learning curves of a run folder."""

import numpy as np
import pytest
from helpers import Drift, make_model
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ESAC
from sb3_esac.plotting import gradient_intervals, plot_run, read_progress

pytest.importorskip("matplotlib")


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


def test_labels_and_series(run_folder, tmp_path):
    text = plot_run(run_folder[0], tmp_path / "curve.svg").read_text()
    for label in ("population, best", "population, mean", "agent", "champion", "deployed, evaluated", "sigma"):
        assert f"<!-- {label} -->" in text, label


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
