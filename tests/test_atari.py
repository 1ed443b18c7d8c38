"""Atari games with the pre-processing of the PEL paper."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.atari_wrappers import (
    ClipRewardEnv,
    EpisodicLifeEnv,
    MaxAndSkipEnv,
    NoopResetEnv,
    StickyActionEnv,
    WarpFrame,
)
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import is_wrapped, unwrap_wrapper

pytest.importorskip("ale_py", reason="ale-py is not installed")

from sb3_esac import ES
from sb3_esac.envs.atari import GAMES, make_atari, make_atari_vec_env
from sb3_esac.evaluation.random_play import time_limit
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength


@pytest.mark.parametrize("game", GAMES)
def test_each_game_of_the_paper_is_wrapped_as_it_says(game):
    env = make_atari(game)
    assert env.observation_space == gym.spaces.Box(0, 255, (84, 84, 1), np.uint8)
    assert unwrap_wrapper(env, NoopResetEnv).noop_max == 30
    assert unwrap_wrapper(env, MaxAndSkipEnv)._skip == (3 if game == "SpaceInvaders" else 4)
    assert is_wrapped(env, WarpFrame)
    assert not any(is_wrapped(env, wrapper) for wrapper in (EpisodicLifeEnv, ClipRewardEnv, StickyActionEnv))
    observation, _ = env.reset(seed=0)
    assert observation.shape == (84, 84, 1) and observation.dtype == np.uint8 and observation.max() > 0
    env.close()


def test_the_cap_counts_steps_of_the_policy():
    env = make_atari("Pong", max_episode_steps=5)
    env.reset(seed=0)
    begin = env.unwrapped.ale.getEpisodeFrameNumber()
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    assert env.unwrapped.ale.getEpisodeFrameNumber() - begin == 5 * 4
    assert make_atari("Pong").get_wrapper_attr("_max_episode_steps") == 25_000


def test_the_seed_decides_how_an_episode_begins():
    env = make_atari("Breakout")

    def begin(seed):
        env.reset(seed=seed)
        return env.unwrapped.ale.getEpisodeFrameNumber(), env.step(1)[0]

    frames = {}
    for seed in (1, 2, 3, 4):
        (number, observation), (again, same) = begin(seed), begin(seed)
        assert number == again
        np.testing.assert_array_equal(observation, same)
        frames[seed] = number
    assert len(set(frames.values())) > 1


def test_rewards_and_lives_are_those_of_the_game():
    env = make_atari("SpaceInvaders")
    env.reset(seed=0)
    env.action_space.seed(0)
    rewards, lives, over = [], set(), False
    while not over and len(rewards) < 3000:
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        rewards.append(reward)
        lives.add(info["lives"])
        over = terminated or truncated
    # Aliens are worth 5 to 30 points, and losing a life does not end the game.
    assert max(rewards) >= 5 and {1, 2, 3} <= lives


def test_the_policy_sees_four_frames():
    venv = make_atari_vec_env("Pong", n_envs=2, seed=0)
    assert venv.observation_space.shape == (84, 84, 4)
    observations = [venv.reset()] + [venv.step(np.zeros(2, int))[0] for _ in range(4)]
    np.testing.assert_array_equal(observations[-1][..., 0], observations[-4][..., -1])
    assert (observations[0][..., :3] == 0).all()
    assert time_limit(venv) == 25_000
    venv.close()


def test_episodes_are_monitored_in_steps_of_the_policy():
    venv = make_atari_vec_env("Pong", max_episode_steps=6)
    venv.reset()
    infos = [venv.step(np.zeros(1, int))[2:] for _ in range(6)]
    dones, last = infos[-1]
    assert dones[0] and last[0]["episode"]["l"] == 6 and last[0]["TimeLimit.truncated"]
    venv.close()


def test_what_is_no_game_is_refused():
    with pytest.raises(ValueError, match=r"`game` must be the name of an Atari game.*, not 'Chess'"):
        make_atari("Chess")


class Lengths(BaseCallback):
    """Writes down how long offspring's episodes were, under the cap that they were played with."""

    def __init__(self):
        super().__init__()
        self.lengths: dict[int, list[int]] = {}
        self.length = 0

    def _on_step(self):
        for done in self.locals["dones"]:
            self.length += 1
            if done:
                # Random play comes before there is a cap.
                self.lengths.setdefault(self.model.arena.caps.cap, []).append(self.length)
                self.length = 0
        return True


@pytest.mark.expensive
@pytest.mark.timeout(1800)
def test_canonical_es_plays_pong_with_progressive_lengths(tmp_path):
    """A short real run: E(0) by random play, lengths that double, all steps counted, and a model that can be played."""
    venv = make_atari_vec_env("Pong", seed=0)
    lengths = Lengths()
    model = ES(
        "CnnPolicy",
        venv,
        population_size=8,
        strategy="canonical",
        winner_fraction=0.5,
        champion_episodes=0,
        n_workers=2,
        episode_length_schedule=ProgressiveEpisodeLength("constant", n_random_episodes=4),
        seed=0,
    )
    budget = 80_000
    begin = model.population.mean
    model.learn(budget, callback=lengths)
    phases = model.arena.caps.phases
    assert phases is not None and phases.is_last and phases.lengths[-1] == 25_000
    # Random play of Pong lasts about 900 steps: 0:21 takes as long as the opponent needs to score.
    assert 350 < phases.lengths[0] < 600
    played = lengths.lengths
    assert played.pop(None) and sorted(played) == list(phases.lengths), "each phase was played"
    assert all(len(episodes) % 8 == 0 and max(episodes) <= cap for cap, episodes in played.items())
    assert max(played[phases.lengths[0]]) == phases.lengths[0], "in the first phase games are cut"
    assert max(played[25_000]) < 25_000, "in the last one they end by themselves"
    assert budget <= model.num_timesteps < budget + 8 * 8000
    assert not np.array_equal(model.population.mean, begin)
    model.save(tmp_path / "pong")
    loaded = ES.load(tmp_path / "pong", env=venv)
    observation, score, done = venv.reset(), 0.0, False
    while not done:
        observation, reward, dones, _ = venv.step(loaded.predict(observation, deterministic=True)[0])
        score, done = score + float(reward[0]), bool(dones[0])
    assert -21 <= score <= 21
    venv.close()
