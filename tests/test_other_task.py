"""A model that goes on with another task: what it knew of the returns of the first one tells nothing of the second."""

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, Counted, Drift, make_model
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.budget.rule import TURN_EPISODES, TURN_STEPS, TurnOfItsOwn
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.vec_envs import task_name
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength


class Poor(gym.RewardWrapper):
    """The same world, in which everything returns less."""

    def reward(self, reward: Any) -> float:
        return float(reward) - 1000.0


def environments(n_envs: int, *, poor: bool) -> DummyVecEnv:
    return make_vec_env(lambda: Poor(Drift()) if poor else Drift(), n_envs=n_envs, seed=0)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_model_that_was_refused_an_environment_stays_on_its_own(algorithm):
    env = make_vec_env(Drift, 2)
    model = make_model(algorithm, env, normalize_observations=True, seed=0).learn(60)
    with pytest.raises(ValueError, match=r"goes on with `VecNormalize\(norm_obs=False\)`"):
        model.set_env(VecNormalize(make_vec_env(Drift, 2)))
    assert model.env is env and model.get_vec_normalize_env() is None and model.arena.env is env
    n_steps = model.num_timesteps
    model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps > n_steps
    model.set_env(VecNormalize(make_vec_env(Drift, 2), norm_obs=False))
    model.learn(60)


@pytest.mark.parametrize("way", ["set_env", "load"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_champion_of_another_task_is_not_kept(algorithm, way, tmp_path):
    model = make_model(algorithm, environments(1, poor=False), seed=1, learning_starts=1000).learn(1500)
    assert model.champion.record.return_mean > 0
    if way == "set_env":
        model.set_env(environments(1, poor=True))
        assert model.deployed_policy is model.champion.actor, "until it learns"
    else:
        model.save(tmp_path / "model")
        model = algorithm.load(tmp_path / "model", env=environments(1, poor=True))
    generation = model.population.generation
    model.learn(1500, reset_num_timesteps=False)
    assert model.champion.record.return_mean < 0 and model.champion.record.generation >= generation


def test_nor_is_the_level_of_the_agent_and_who_leads():
    model = make_model(ESAC, environments(1, poor=False), seed=1, agent_fraction="auto").learn(1500)
    model.budget.searches, model.learner.level = True, 10.0
    model.set_env(environments(1, poor=True))
    model.learn(20, reset_num_timesteps=False)
    assert not model.budget.searches and not model.learner.level > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_champion_of_the_same_task_is(algorithm, tmp_path):
    model = make_model(algorithm, environments(1, poor=False), seed=1).learn(500)
    record = model.champion.record
    model.set_env(environments(1, poor=False))
    model.save(tmp_path / "model")
    # A monitor changes nothing of the task, nor do statistics of `learn`.
    for again in (model, algorithm.load(tmp_path / "model", env=Monitor(Drift()))):
        again.learn(1, reset_num_timesteps=False)
        assert again.champion.record.generation == record.generation or record.returns[-1] in again.champion.record.returns


@pytest.mark.parametrize("way", ["set_env", "load"])
def test_phases_of_another_horizon_are_laid_out_anew(way, tmp_path):
    def limited(n_steps: int) -> gym.Env:
        return gym.wrappers.TimeLimit(Drift(n_steps=1000, edge=np.inf), n_steps)

    model = make_model(ES, limited(8), episode_length_schedule=ProgressiveEpisodeLength(first_length=4)).learn(200)
    assert model.arena.caps.phases.lengths == (4, 8)
    model.set_env(limited(8))
    model.learn(100, reset_num_timesteps=False)
    assert model.arena.caps.phases.lengths == (4, 8)
    if way == "set_env":
        model.set_env(limited(32))
    else:
        model.save(tmp_path / "model")
        model = ES.load(tmp_path / "model", env=limited(32))
    model.learn(1000, reset_num_timesteps=False)
    assert model.arena.caps.phases.lengths == (4, 8, 16, 32) and model.arena.caps.phases.is_last


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_workers_that_go_on_with_env_fn(algorithm):
    model = make_model(algorithm, Drift(), backend="subproc", env_fn=Drift)
    with pytest.warns(UserWarning, match=r"what `env_fn` makes.*set `model.env_fn`"):
        model.set_env(Drift(n_steps=50))
    model.env_fn = lambda: Drift(n_steps=50)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.set_env(Drift(n_steps=50))


@pytest.mark.parametrize("kind", [DummyVecEnv, SubprocVecEnv])
def test_what_a_task_calls_itself(kind):
    venv = kind([lambda: Counted(gym.make("Pendulum-v1"))] * 2)
    base = adopt(venv)
    base.journal.is_open = True
    name = task_name(venv)
    assert name is not None and "Counted" in name and "Pendulum-v1" in name and "Checker" not in name
    assert task_name(kind([lambda: Monitor(Counted(gym.make("Pendulum-v1", disable_env_checker=True)))])) == name
    assert task_name(kind([lambda: gym.make("Pendulum-v1")])) != name
    assert not base.journal.calls, "copies of the environment are asked nothing"
    venv.close()


def test_a_turn_is_as_long_for_each_lane():
    def goes_on(**told: int) -> bool:
        turn = TurnOfItsOwn()
        now = dict(run_seed=0, generation=0, timesteps=0, total_timesteps=np.inf, generation_timesteps=0.0)
        turn.begin(Progress(agent_timesteps=0, **now))
        return turn.goes_on(Progress(**now, **told))

    for n_lanes in (1, 4):
        enough = dict(n_lanes=n_lanes, n_agent_episodes=TURN_EPISODES * n_lanes, agent_timesteps=TURN_STEPS * n_lanes)
        assert not goes_on(**enough)
        assert goes_on(**{**enough, "n_agent_episodes": TURN_EPISODES * n_lanes - 1})
        assert goes_on(**{**enough, "agent_timesteps": TURN_STEPS * n_lanes - 1})


def test_of_all_lanes():
    model = make_model(ES, environments(2, poor=False))
    assert model._progress().n_lanes == 2
