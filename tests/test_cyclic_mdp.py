"""The cyclic MDP of section 4."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from gymnasium.utils.env_checker import check_env as check_gymnasium_env
from helpers import ALGORITHMS, make_model
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_esac import ES
from sb3_esac.envs import CyclicMDP
from sb3_esac.envs.cyclic_mdp import ANTICLOCKWISE, CLOCKWISE, STAY

ROOT = Path(__file__).parent.parent
IDS = {"CyclicMDP-v0": gym.spaces.Discrete, "CyclicMDPContinuous-v0": gym.spaces.Box}


def one_hot(action):
    return np.eye(3, dtype=np.float32)[action]


@pytest.mark.parametrize("name", IDS)
@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_checkers_have_nothing_to_say(name):
    env = gym.make(name, disable_env_checker=True, render_mode="rgb_array").unwrapped
    assert isinstance(env.action_space, IDS[name])
    check_env(env, warn=True)
    check_gymnasium_env(env, skip_close_check=True)


@pytest.mark.parametrize("name, act", [("CyclicMDP-v0", int), ("CyclicMDPContinuous-v0", one_hot)])
def test_clockwise_for_the_whole_horizon_solves_it(name, act):
    env = gym.make(name)
    observation, _ = env.reset(seed=1)
    rewards, seen = [], [int(observation.argmax())]
    over = False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(act(CLOCKWISE))
        assert observation.sum() == 1 and observation.dtype == np.float32
        rewards.append(reward)
        seen.append(int(observation.argmax()))
        over = terminated or truncated
    assert seen[:7] == [0, 1, 2, 0, 1, 2, 0]
    assert sum(rewards) == len(rewards) == 2000 == env.spec.reward_threshold
    assert truncated and not terminated


@pytest.mark.parametrize("name, act", [("CyclicMDP-v0", int), ("CyclicMDPContinuous-v0", one_hot)])
@pytest.mark.parametrize("mistake, state", [(ANTICLOCKWISE, 0), (STAY, 1)])
def test_a_mistake_costs_one_and_ends_the_episode(name, act, mistake, state):
    env = gym.make(name)
    env.reset()
    env.step(act(CLOCKWISE))
    observation, reward, terminated, truncated, _ = env.step(act(mistake))
    assert (reward, terminated, truncated) == (-1.0, True, False)
    np.testing.assert_array_equal(observation, one_hot(state))


def test_anticlockwise_from_the_start_is_the_last_state():
    env = CyclicMDP(n_states=5)
    env.reset()
    observation, *_ = env.step(ANTICLOCKWISE)
    assert observation.shape == (5,) and observation.argmax() == 4


@pytest.mark.parametrize("horizon", [1, 7, 3000])
def test_horizon_is_an_argument(horizon):
    env = gym.make("CyclicMDP-v0", horizon=horizon)
    for _ in range(2):
        env.reset()
        ends = [env.step(CLOCKWISE)[2:4] for _ in range(horizon)]
        assert ends[:-1] == [(False, False)] * (horizon - 1) and ends[-1] == (False, True)


def test_a_mistake_at_the_horizon_is_terminal():
    env = CyclicMDP(horizon=1)
    env.reset()
    assert env.step(STAY)[1:4] == (-1.0, True, False)


def test_the_largest_element_is_the_action():
    env = CyclicMDP(continuous=True)
    for action, reward in (([-0.2, -0.3, -0.9], 1.0), ([0.1, 0.11, 0.0], -1.0), ([0.0, 0.0, 0.0], 1.0)):
        env.reset()
        assert env.step(np.array(action, np.float32))[1] == reward


@pytest.mark.parametrize(
    "kwargs, message",
    [
        (dict(horizon=0), r"`horizon` must be an integer >= 1, not 0"),
        (dict(horizon=2.5), r"`horizon` must be an integer >= 1, not 2\.5"),
        (dict(n_states=1), r"`n_states` must be an integer >= 2, not 1"),
        (dict(render_mode="human"), r"`render_mode` must be .*, not 'human'"),
    ],
)
def test_wrong_arguments_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        CyclicMDP(**kwargs)


def test_an_action_that_is_none_is_refused():
    env = CyclicMDP()
    env.reset()
    with pytest.raises(ValueError, match=r"`action` must be in Discrete\(3\), not 3"):
        env.step(3)


def test_text_shows_where_we_are():
    env = CyclicMDP(render_mode="ansi", horizon=9)
    env.reset()
    assert env.render() == "[S0]  S1   S2   step 0/9, start\n"
    env.step(CLOCKWISE)
    assert env.render() == " S0  [S1]  S2   step 1/9, clockwise\n"


def test_picture_shows_where_we_are():
    env = CyclicMDP(render_mode="rgb_array")
    env.reset()
    first = env.render()
    env.step(CLOCKWISE)
    second = env.render()
    env.step(STAY)
    third = env.render()
    assert first.shape == (160, 160, 3) and first.dtype == np.uint8
    # One disc of three changes its colour as a mistake is made, two as we move.
    assert 0 < (second != third).any(axis=2).sum() < (first != second).any(axis=2).sum()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_learned(algorithm):
    env = gym.make("CyclicMDPContinuous-v0", horizon=20)
    models = (make_model(algorithm, env, seed=seed, population_size=10, sigma=0.3) for seed in range(10))
    model = next(model for model in models if evaluate_policy(model, env, 1, warn=False)[0] < 20)
    model.learn(1500)
    assert evaluate_policy(model, env, 1, warn=False)[0] == 20


@pytest.mark.parametrize("seed", range(5))
def test_es_solves_it_within_a_hundred_episodes(seed):
    """By the entry of ``es.yml``: ten generations of ten episodes, the champion's probes beside them."""
    entry = yaml.safe_load((ROOT / "hyperparams" / "es.yml").read_text())["CyclicMDP-v0"]
    entry.pop("n_timesteps")
    model = ES(entry.pop("policy"), "CyclicMDP-v0", seed=seed, **entry)
    env = gym.make("CyclicMDP-v0")
    assert evaluate_policy(model, env, 1, warn=False)[0] < 2000
    for _ in range(10):
        # One generation at a time
        model.learn(1, reset_num_timesteps=False)
        if evaluate_policy(model, env, 1, warn=False)[0] == 2000:
            break
    assert evaluate_policy(model, env, 1, warn=False)[0] == 2000
    assert model.population.generation <= 10
