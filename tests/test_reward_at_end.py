"""Rewards that come when an episode ends."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env
from support import Walk

from sb3_esac.envs import RewardAtEnd


@pytest.mark.parametrize("terminal", [False, True])
def test_an_episode_pays_what_it_paid_before_and_all_at_once(terminal):
    plain, env = (
        wrap(gym.wrappers.TimeLimit(Walk(length=50, terminal=terminal), 8)) for wrap in (lambda env: env, RewardAtEnd)
    )
    actions = np.random.default_rng(0)
    for seed in range(5):
        assert np.array_equal(plain.reset(seed=seed)[0], env.reset(seed=seed)[0])
        paid, owed, over = [], [], False
        while not over:
            action = actions.uniform(-1, 1, plain.action_space.shape)
            expected, found = plain.step(action), env.step(action)
            assert np.array_equal(expected[0], found[0]) and expected[2:4] == found[2:4]
            owed.append(expected[1])
            paid.append(found[1])
            over = expected[2] or expected[3]
        assert paid[:-1] == [0.0] * (len(paid) - 1) and paid[-1] == pytest.approx(sum(owed)) != 0.0


def test_what_was_owed_is_lost_with_a_reset():
    env = RewardAtEnd(gym.wrappers.TimeLimit(Walk(length=50), 3))
    env.reset(seed=0)
    env.step(env.action_space.sample())
    env.reset(seed=0)
    rewards = [env.step(np.zeros(env.action_space.shape, np.float32))[1] for _ in range(3)]
    env.reset(seed=0)
    assert rewards == [env.step(np.zeros(env.action_space.shape, np.float32))[1] for _ in range(3)]


def test_half_cheetah_has_a_name():
    pytest.importorskip("mujoco")
    env = gym.make("HalfCheetahRewardAtEnd-v5")
    assert type(env) is RewardAtEnd and env.spec.max_episode_steps == 1000
    check_env(env.unwrapped, skip_render_check=True)
    venv, plain = make_vec_env("HalfCheetahRewardAtEnd-v5", seed=0), make_vec_env("HalfCheetah-v5", seed=0)
    venv.reset(), plain.reset()
    total = 0.0
    for step in range(1000):
        action = plain.action_space.sample()[None]
        _, reward, done, info = venv.step(action)
        total += float(plain.step(action)[1][0])
        assert done[0] == (step == 999) and (reward[0] != 0) == done[0]
    assert reward[0] == pytest.approx(total, rel=1e-4) and info[0]["TimeLimit.truncated"]
