"""What is logged, where, and how often."""

import json
import time

import numpy as np
import pandas
import pytest
from helpers import ALGORITHMS, DEVICE, HYBRIDS, Counted, Drift, Tell, drift, keep_log, keep_selections, make_model
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure

from sb3_esac import ES, ESAC

EVERY_GENERATION = {
    "rollout/ep_rew_mean",
    "rollout/ep_len_mean",
    "time/generations",
    "time/episodes",
    "time/fps",
    "time/time_elapsed",
    "time/total_timesteps",
    "time/agent_timesteps",
    "time/population_timesteps",
    "time/probe_timesteps",
    "time/paper_timesteps",
    "time/population_seconds",
    "time/callback_seconds",
    "population/return_mean",
    "population/return_max",
    "population/return_std",
    "population/sigma",
}
ORIGINS = ("mean", "winners", "agent")
OWN = {
    ESAC: {
        *(f"population/winners_from_{origin}" for origin in ORIGINS),
        "agent/probability",
        "time/agent_seconds",
        "time/gradient_seconds",
    },
    ES: {"es/mean_norm", "es/step_norm"},
}
AFTER_TRAINING = {
    "agent/return_mean",
    "train/actor_loss",
    "train/critic_loss",
    "train/ent_coef",
    "train/ent_coef_loss",
    "train/learning_rate",
    "train/n_updates",
}
INTERVALS = dict(agent_fraction=None, gradient_interval=2, agent_probability=1.0, agent_episodes=2)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_keys(algorithm):
    model = make_model(algorithm, drift(), seed=0, learning_starts=0, **INTERVALS)
    log = keep_log(model)
    model.learn(400)
    assert len(log) == model.population.generation > 5
    for number, entry in enumerate(log, start=1):
        assert set(entry) >= EVERY_GENERATION | OWN[algorithm]
        # No interval begins after the budget is spent.
        has_trained = algorithm in HYBRIDS and number % 2 == 0 and entry is not log[-1]
        assert (set(entry) >= AFTER_TRAINING) is has_trained
        assert all(len(key) < 36 for key in entry)
    assert "champion/return_mean" in log[-1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_values(algorithm):
    env = make_vec_env(lambda: Counted(Drift()), 1)
    model = make_model(algorithm, env, seed=0, learning_starts=0, **INTERVALS)
    log = keep_log(model)
    selections = keep_selections(model)
    model.learn(400)
    fitness = [selection.fitness for selection in selections]
    for number, entry in enumerate(log):
        assert entry["time/generations"] == number + 1
        assert entry["time/total_timesteps"] == entry["time/agent_timesteps"] + entry["time/population_timesteps"]
        assert entry["population/return_mean"] == pytest.approx(fitness[number].mean())
        assert entry["population/return_max"] == pytest.approx(fitness[number].max())
        assert entry["population/return_std"] == pytest.approx(fitness[number].std())
    assert log[-1]["time/total_timesteps"] <= model.num_timesteps == env.get_attr("n_steps")[0]
    assert log[-1]["population/sigma"] == model.population.sigma
    if algorithm in HYBRIDS:
        updates = [entry["train/n_updates"] for entry in log if "train/n_updates" in entry]
        assert updates == sorted(updates) and updates[-1] == model._n_updates > 0
    else:
        assert log[-1]["es/mean_norm"] == pytest.approx(np.linalg.norm(model.population.mean))
        assert all(entry["es/step_norm"] > 0 for entry in log)
    # The window of 100 episodes is not full, so the mean is that of all.
    assert len(model.ep_info_buffer) < 100
    assert log[0]["rollout/ep_rew_mean"] == pytest.approx(fitness[0].mean(), abs=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3, 6])
def test_episodes_are_those_of_members(algorithm, n_envs):
    """A lane that has nothing to play while the others finish is no episode of the rollout."""
    env = drift(n_envs, n_steps=10, edge=1e6)
    model = make_model(algorithm, env, seed=0, agent_fraction=0.0, champion_episodes=0)
    log = keep_log(model)
    selections = keep_selections(model)
    model.learn(100)
    returns = np.concatenate([selection.result.returns.ravel() for selection in selections]).tolist()
    assert log[-1]["time/episodes"] == len(returns)
    assert sorted(episode["r"] for episode in model.ep_info_buffer) == pytest.approx(sorted(returns), abs=1e-5)
    assert log[-1]["rollout/ep_rew_mean"] == pytest.approx(np.mean(returns), abs=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("log_interval", [1, 3, None])
def test_interval(algorithm, log_interval):
    model = make_model(algorithm, drift(), seed=0)
    log = keep_log(model)
    model.learn(250, log_interval=log_interval)
    generations = model.population.generation
    assert generations > 3
    expected = [] if log_interval is None else [n for n in range(1, generations + 1) if n % log_interval == 0]
    assert [entry["time/generations"] for entry in log] == expected


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_files(tmp_path, algorithm, capsys):
    model = make_model(algorithm, drift(), seed=0, learning_starts=0, **INTERVALS)
    model.set_logger(configure(str(tmp_path), ["stdout", "log", "csv", "json"]))
    model.learn(150)
    table = pandas.read_csv(tmp_path / "progress.csv")
    lines = [json.loads(line) for line in (tmp_path / "progress.json").read_text().splitlines()]
    assert len(table) == len(lines) == model.population.generation
    # Columns that appear later are added to the file.
    assert set(table.columns) >= EVERY_GENERATION | OWN[algorithm] | (AFTER_TRAINING if algorithm in HYBRIDS else set())
    assert table["time/total_timesteps"].is_monotonic_increasing
    assert table["time/total_timesteps"].tolist() == [line["time/total_timesteps"] for line in lines]
    assert table["population/sigma"].iloc[-1] == pytest.approx(model.population.sigma)
    printed = capsys.readouterr().out
    for text in (printed, (tmp_path / "log.txt").read_text()):
        for word in ("rollout/", "ep_rew_mean", "agent_timesteps", "population_timesteps", "sigma"):
            assert word in text
        assert ("actor_loss" in text) is (algorithm in HYBRIDS)
        # Nothing had to be cut short to fit the table.
        assert "..." not in text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("verbose", [0, 1])
def test_verbose(algorithm, verbose, capsys):
    make_model(algorithm, Drift(), seed=0, verbose=verbose).learn(50)
    printed = capsys.readouterr().out
    assert ("time/" in printed and f"Using {DEVICE} device" in printed) is bool(verbose)
    if not verbose:
        assert printed == ""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_given_logger_is_kept(tmp_path, algorithm):
    model = make_model(algorithm, drift(), seed=0)
    log = keep_log(model)
    logger = model.logger
    model.learn(50)
    entries = len(log)
    model.learn(50)
    assert model.logger is logger and (algorithm not in HYBRIDS or model.agent.logger is logger)
    assert len(log) > entries > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 3])
def test_success_rate(algorithm, n_envs):
    """Where an environment says so, as with SAC."""

    class Successful(Drift):
        def step(self, action):
            observation, reward, terminated, truncated, info = super().step(action)
            return observation, reward, terminated, truncated, {**info, "is_success": truncated}

    env = make_vec_env(Successful, n_envs, env_kwargs=dict(n_steps=8, edge=1e6))
    model = make_model(algorithm, env, seed=0, agent_fraction=0.0, champion_episodes=0)
    log = keep_log(model)
    model.learn(60)
    assert log[-1]["rollout/success_rate"] == 1.0
    assert len(model.ep_success_buffer) == log[-1]["time/episodes"]


def test_where_winners_come_from():
    model = make_model(ESAC, drift(), seed=0, learning_starts=0, winner_fraction=0.5, **INTERVALS)
    log = keep_log(model)
    model.learn(400)
    won = [[entry[f"population/winners_from_{origin}"] for origin in ORIGINS] for entry in log]
    assert won[0] == [2, 0, 0], "the first members all start from the mean"
    assert all(sum(counts) == 2 for counts in won)
    assert sum(counts[1] + counts[2] for counts in won) > 0


@pytest.mark.parametrize("fraction", [0.25, lambda remaining: 0.5 * remaining, None], ids=["number", "schedule", "paper"])
def test_how_much_the_agent_is_to_play(fraction):
    rule = dict(agent_fraction=fraction) if fraction is not None else {**INTERVALS, "agent_probability": 0.7}
    model = make_model(ESAC, drift(), seed=0, **rule)
    log = keep_log(model)
    model.learn(300)
    if fraction is None:
        assert all(entry["agent/probability"] == 0.7 and "agent/fraction" not in entry for entry in log)
        return
    shown = [entry["agent/fraction"] for entry in log]
    assert all("agent/probability" not in entry for entry in log)
    if fraction == 0.25:
        assert set(shown) == {0.25}
    else:
        remaining = [max(1 - entry["time/total_timesteps"] / 300, 0.0) for entry in log]
        assert shown == pytest.approx([0.5 * value for value in remaining], abs=0.1)
        assert shown == sorted(shown, reverse=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_seconds(algorithm):
    """They add up to no more than the whole, and what a callback takes is not the population's or the agent's."""
    model = make_model(algorithm, drift(), seed=0, learning_starts=0, **INTERVALS)
    log = keep_log(model)
    start = time.perf_counter()
    model.learn(200, callback=Tell(on_step=lambda _: time.sleep(0.002)))
    whole = time.perf_counter() - start
    assert set(model.seconds) == {"population", "callback", *(("agent", "gradient") if algorithm in HYBRIDS else ())}
    assert all(seconds > 0 for seconds in model.seconds.values()) and sum(model.seconds.values()) <= whole
    assert 0.4 <= model.seconds["callback"]
    for phase, seconds in model.seconds.items():
        logged = [entry[f"time/{phase}_seconds"] for entry in log]
        assert logged == sorted(logged) and logged[-1] <= seconds + 1e-3
    model.learn(10)
    assert model.seconds["callback"] < 0.4, "a run that starts anew counts anew"
