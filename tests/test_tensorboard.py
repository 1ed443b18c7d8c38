"""TensorBoard's files, as SAC writes them."""

import re

import pytest
from helpers import ALGORITHMS, HYBRIDS, drift, make_model
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.logger import HParam, TensorBoardOutputFormat, configure

from sb3_esac import ES

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2, metadata


class Hyperparameters(BaseCallback):
    """Logs hyperparameters and a metric, as in SB3's documentation."""

    def _on_training_start(self):
        parameters = {"algorithm": type(self.model).__name__, "learning rate": self.model.learning_rate}
        metrics = {"rollout/ep_len_mean": 0, "custom": 0.0}
        self.logger.record("hparams", HParam(parameters, metrics), exclude=("stdout", "log", "json", "csv"))

    def _on_step(self):
        self.logger.record("custom", 1.5)
        return True


def read(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return events


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_tensorboard(tmp_path, algorithm):
    name = algorithm.__name__
    options = dict(agent_fraction=None, gradient_interval=1, agent_probability=1.0, learning_starts=0)
    model = make_model(algorithm, drift(), seed=0, tensorboard_log=str(tmp_path), **options)
    model.learn(100, callback=Hyperparameters())
    first = model.num_timesteps
    model.learn(100, reset_num_timesteps=False)

    # Going on writes into the same folder.
    assert [folder.name for folder in tmp_path.iterdir()] == [f"{name}_1"]
    events = read(tmp_path / f"{name}_1")
    tags = set(events.Tags()["scalars"])
    assert tags >= {
        "rollout/ep_rew_mean",
        "rollout/ep_len_mean",
        "time/fps",
        "time/agent_timesteps",
        "time/population_timesteps",
        "time/paper_timesteps",
        "time/generations",
        "population/return_mean",
        "population/sigma",
        "train/actor_loss" if algorithm in HYBRIDS else "es/step_norm",
        "custom",
    }
    # As for SAC, these are the axis or belong to the console.
    assert not tags & {"time/total_timesteps", "time/time_elapsed", "time/episodes"}
    # Two files of one second are read in the order of their names, "9" after "10".
    generations = sorted(events.Scalars("time/generations"), key=lambda event: event.step)
    assert [event.value for event in generations] == list(range(1, model.population.generation + 1))
    steps = [event.step for event in generations]
    assert steps == sorted(set(steps)) and steps[0] > 0 and first < steps[-1] <= model.num_timesteps


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_runs(tmp_path, algorithm):
    model = make_model(algorithm, drift(), seed=0, tensorboard_log=str(tmp_path))
    model.learn(40)
    model.learn(40)
    model.learn(40, tb_log_name="other")
    assert {folder.name for folder in tmp_path.iterdir()} == {f"{algorithm.__name__}_1", f"{algorithm.__name__}_2", "other_1"}
    assert any(isinstance(output, TensorBoardOutputFormat) for output in model.logger.output_formats)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_name_with_glob_characters(tmp_path, algorithm):
    model = make_model(algorithm, drift(), seed=0, tensorboard_log=str(tmp_path))
    for _ in range(2):
        model.learn(40, tb_log_name="[run]")
    assert {folder.name for folder in tmp_path.iterdir()} == {"[run]_1", "[run]_2"}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_page_groups_what_is_logged(tmp_path, algorithm):
    """The layout stands in the event file, and its charts show tags that the run has."""
    model = make_model(algorithm, drift(), seed=0, tensorboard_log=str(tmp_path), learning_starts=0)
    model.learn(300, callback=EvalCallback(drift(), eval_freq=50, n_eval_episodes=1, verbose=0))
    model.learn(100, reset_num_timesteps=False)
    events = read(tmp_path / f"{algorithm.__name__}_1")
    contents = events.Tensors(metadata.CONFIG_SUMMARY_TAG)[-1].tensor_proto.string_val[0]
    page = layout_pb2.Layout.FromString(contents).category[0]
    charts = {chart.title: list(chart.multiline.tag) for chart in page.chart}
    assert page.title == "sb3_esac"
    assert {"return", "sigma", "steps", "seconds"} <= set(charts)
    assert ({"winners from", "agent: share or probability of an interval"} <= set(charts)) is (algorithm in HYBRIDS)
    tags = events.Tags()["scalars"]
    shown = {
        title: [tag for tag in tags if any(re.match(pattern, tag) for pattern in patterns)]
        for title, patterns in charts.items()
    }
    assert all(shown.values()), shown
    n_returns, n_phases = (5, 4) if algorithm in HYBRIDS else (4, 2)
    assert (len(shown["return"]), len(shown["seconds"])) == (n_returns, n_phases)


def test_no_page_without_tensorboard(tmp_path):
    model = make_model(ES, drift(), seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(40)
    assert [path.name for path in tmp_path.iterdir()] == ["progress.csv"]
