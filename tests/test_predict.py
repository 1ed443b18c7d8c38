"""``predict`` takes what SAC's takes, and plays what ``deploy`` says."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ALGORITHMS, DEPLOYED, DEVICE, HYBRIDS, Drift, Tell, drift, make_model, pendulum
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import load_vector, to_vector

OBSERVATIONS = np.random.Generator(np.random.Philox(0)).standard_normal((7, 3)).astype(np.float32)


class Unscaled(Drift):
    """Actions of several components between bounds of their own."""

    def __init__(self):
        super().__init__(n_actions=2)
        self.action_space = spaces.Box(np.array([-3.0, 1.0], np.float32), np.array([-1.0, 9.0], np.float32))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("make_env", [Drift, pendulum, Unscaled])
@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("steps", [0, 60])
def test_predict(algorithm, make_env, deterministic, steps):
    model = make_model(algorithm, make_env(), seed=0).learn(steps)
    assert model.policy.device.type == DEVICE
    env, venv = make_env(), DummyVecEnv([make_env, make_env])

    observation, _ = env.reset()
    action, state = model.predict(observation, deterministic=deterministic)
    assert isinstance(action, np.ndarray) and state is None
    assert action.shape == env.action_space.shape and action.dtype == env.action_space.dtype
    assert env.action_space.contains(action)
    env.step(action)

    actions, _ = model.predict(venv.reset(), deterministic=deterministic)
    assert actions.shape == (2, *env.action_space.shape)
    assert all(env.action_space.contains(action) for action in actions)
    venv.step(actions)

    # A list is an observation too, and a batch of one stays a batch.
    assert model.predict(observation.tolist(), deterministic=deterministic)[0].shape == env.action_space.shape
    assert model.predict(observation[None], deterministic=deterministic)[0].shape == (1, *env.action_space.shape)


@pytest.mark.parametrize("algorithm, deploy", DEPLOYED)
def test_deterministic(algorithm, deploy):
    """One by one and as a batch, again and again, under whatever state of the generators."""
    model = make_model(algorithm, drift(), seed=0, deploy=deploy).learn(150)
    batch = model.predict(OBSERVATIONS, deterministic=True)[0]
    th.manual_seed(3)
    assert np.array_equal(batch, model.predict(OBSERVATIONS, deterministic=True)[0])
    single = [model.predict(observation, deterministic=True)[0] for observation in OBSERVATIONS]
    assert np.allclose(batch, np.stack(single), atol=1e-6)
    stochastic = [model.predict(OBSERVATIONS)[0] for _ in range(2)]
    # Without an agent there is nothing that could be drawn from.
    assert np.allclose(stochastic[0], stochastic[1]) is (algorithm not in HYBRIDS)


@pytest.mark.parametrize("algorithm", HYBRIDS)
@pytest.mark.parametrize("normalized", [False, True])
def test_what_is_deployed(algorithm, normalized):
    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.5, normalize_observations=normalized).learn(300)
    record, champion = model.champion.record, to_vector(model.champion.actor)
    assert record is not None
    # Let the champion be ahead, and the three differ for certain.
    model.champion.record = replace(record, returns=record.returns + 100.0)
    load_vector(model.champion.actor, champion + 0.3)
    model.population.set_mean(model.population.mean - 0.3)
    actions = {}
    for deploy in ("best", "agent", "population"):
        model.deploy = deploy
        actions[deploy] = model.predict(OBSERVATIONS, deterministic=True)[0]
    player = make_player(model.actor)
    for deploy, vector in (("agent", to_vector(model.learner.averaged.actor)), ("population", model.population.mean)):
        act = player.bind(vector)
        expected = np.stack([act(observation) for observation in OBSERVATIONS])
        assert np.allclose(actions[deploy], expected, atol=1e-4)
    act = make_player(model.champion.actor).bind(champion + np.float32(0.3))
    assert np.allclose(actions["best"], np.stack([act(observation) for observation in OBSERVATIONS]), atol=1e-4)
    assert np.array_equal(actions["agent"], model.learner.averaged.actor.predict(OBSERVATIONS, deterministic=True)[0])
    for one, other in (("best", "agent"), ("best", "population"), ("agent", "population")):
        assert not np.allclose(actions[one], actions[other], atol=1e-3)


@pytest.mark.parametrize("normalized", [False, True])
def test_what_is_deployed_without_an_agent(normalized):
    model = make_model(ES, drift(), seed=0, normalize_observations=normalized).learn(300)
    champion, mean = to_vector(model.champion.actor), model.population.mean
    load_vector(model.champion.actor, champion + 0.3)
    model.population.set_mean(mean - 0.3)
    for deploy, actor, vector in (
        ("best", model.champion.actor, champion + np.float32(0.3)),
        ("population", model.actor, mean - np.float32(0.3)),
    ):
        model.deploy = deploy
        act = make_player(actor).bind(vector)
        expected = np.stack([act(observation) for observation in OBSERVATIONS])
        assert np.allclose(model.predict(OBSERVATIONS, deterministic=True)[0], expected, atol=1e-4)
    assert np.array_equal(to_vector(model.policy), mean - np.float32(0.3))


def test_the_mean_sees_what_the_agent_sees(tmp_path):
    """Its normalisation is the agent's, also if it was asked for before the agent's last interval ended."""
    ask = Tell(lambda model: model.predict(OBSERVATIONS, deterministic=True))
    options = dict(deploy="population", normalize_observations=True, agent_fraction=0.5)
    model = make_model(ESAC, drift(), seed=0, **options).learn(200, callback=ask)
    model.save(tmp_path / "model")
    loaded = ESAC.load(tmp_path / "model")
    actions = [m.predict(OBSERVATIONS, deterministic=True)[0] for m in (model, loaded)]
    assert np.array_equal(*actions)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_best_is_the_policy_until_there_is_a_champion(algorithm):
    model = make_model(algorithm, drift(), seed=0, champion_episodes=0)
    assert model.deployed_policy is model.policy
    model.learn(60)
    assert model.champion.record is None
    assert model.deployed_policy is (model.learner.averaged.actor if algorithm in HYBRIDS else model.policy)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_champion_plays_what_it_was_chosen_for(algorithm):
    """Its record can be played again, episode by episode."""
    from sb3_esac.evolution.noise import Stream, episode_seed

    model = make_model(algorithm, drift(), seed=0, champion_episodes=3, agent_fraction=0.4).learn(600)
    record, env = model.champion.record, Drift()
    assert record is not None and len(record.returns) == 3
    for number, expected in zip(record.numbers, record.returns, strict=True):
        observation, _ = env.reset(seed=episode_seed(model.run_seed, 0, Stream.PROBE_EPISODE, number))
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(model.predict(observation, deterministic=True)[0])
            total, over = total + reward, terminated or truncated
        assert total == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_wrong_observations(algorithm):
    model = make_model(algorithm, drift(), seed=0)
    for wrong in (np.zeros(4), np.zeros((2, 4)), np.zeros((1, 2, 3))):
        with pytest.raises(ValueError, match="observation shape"):
            model.predict(wrong)
    with pytest.raises(ValueError, match="mixing Gym API"):
        model.predict(Drift().reset())


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluate_policy(algorithm):
    model = make_model(algorithm, drift(), seed=0).learn(60)
    for env in (drift(), drift(2), model.get_env()):
        returns, lengths = evaluate_policy(model, env, n_eval_episodes=3, return_episode_rewards=True)
        assert len(returns) == len(lengths) == 3
    # It is the training environment that was played last: training goes on all the same.
    steps = model.num_timesteps
    model.learn(60, reset_num_timesteps=False)
    assert model.num_timesteps >= steps + 60


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_environment_is_wrapped(algorithm):
    for env in (Drift(), gym.make("Pendulum-v1"), DummyVecEnv([Drift])):
        assert isinstance(make_model(algorithm, env).get_env(), DummyVecEnv)


def test_predict_with_the_agent_in_training_mode():
    model = make_model(ESAC, drift(), seed=0).learn(60)
    model.policy.set_training_mode(True)
    assert model.predict(OBSERVATIONS, deterministic=True)[0].shape == (7, 1)
