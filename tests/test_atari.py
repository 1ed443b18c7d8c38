"""Atari games with the pre-processing of the PEL paper."""

import pickle
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import yaml
from stable_baselines3.common.atari_wrappers import (
    AtariWrapper,
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
from sb3_esac.envs.atari import GAMES, N_STACK, FireAfterLife, QuickReset, make_atari, make_atari_vec_env
from sb3_esac.evaluation import random_play
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


def course(env, seed, n_steps=60):
    """All that is seen of a game, and the emulator's memory at the end."""
    observation, info = env.reset(seed=seed)
    rng, seen = np.random.default_rng(0), [observation, info["frame_number"], info.get("seeds")]
    for _ in range(n_steps):
        observation, reward, terminated, truncated, info = env.step(int(rng.integers(env.action_space.n)))
        seen += [observation, reward, terminated, truncated, info["episode_frame_number"], info["lives"]]
    return [*seen, env.unwrapped.ale.getRAM().copy(), env.unwrapped.np_random.integers(1000)]


@pytest.mark.parametrize("game", GAMES)
def test_a_quick_reset_is_a_reset(game):
    plain, quick = (wrapper(gym.make(f"{game}NoFrameskip-v4")) for wrapper in (lambda env: env, QuickReset))
    course(quick, 5, 200)
    for seed in (0, 1):
        for one, other in zip(course(plain, seed), course(quick, seed), strict=True):
            np.testing.assert_array_equal(one, other)
    plain.close()
    quick.close()


def test_where_actions_stick_a_game_is_loaded_anew(monkeypatch):
    loaded = []
    for probability in (0.25, 0.0):
        env = QuickReset(gym.make("PongNoFrameskip-v4", repeat_action_probability=probability))
        monkeypatch.setattr(env.unwrapped, "load_game", lambda probability=probability: loaded.append(probability))
        for seed in (0, 1, None):
            env.reset(seed=seed)
        env.close()
    assert loaded == [0.25, 0.25, 0.0]


# -- FIRE ------------------------------------------------------------------------------------------------------------------


class Scripted(gym.Env):
    """
    A game that goes through a script whatever is played, and writes down what that was.

    :param script: Reward, lives that are left and whether the game is over, step by step.
    :param meanings: Of its actions.
    """

    observation_space = gym.spaces.Box(0, 255, (1,))

    def __init__(self, script, meanings=("NOOP", "FIRE", "RIGHT")):
        self.script, self.meanings, self.played = script, meanings, []
        self.action_space = gym.spaces.Discrete(len(meanings))
        self.ale = SimpleNamespace(lives=lambda: self.left)

    def get_action_meanings(self):
        return list(self.meanings)

    def reset(self, *, seed=None, options=None):
        self.left, self.played = 3, []
        return np.zeros(1), {"seed": seed}

    def step(self, action):
        reward, self.left, over = self.script[len(self.played)]
        self.played.append(action)
        return np.full(1, len(self.played)), reward, over, False, {"step": len(self.played)}


def test_fire_follows_a_lost_life_in_the_same_step():
    env = FireAfterLife(Scripted([(1, 3, False), (2, 2, False), (4, 2, False), (8, 2, False), (16, 0, True)]))
    for seed in (3, 4):
        assert env.reset(seed=seed)[1] == {"seed": seed}
        steps = [env.step(2) for _ in range(4)]
        assert env.unwrapped.played == [2, 2, 1, 2, 2]
        assert [reward for _, reward, *_ in steps] == [1, 2 + 4, 8, 16]
        # What the policy sees, and what is said of it, comes after FIRE.
        assert [observation[0] for observation, *_ in steps] == [info["step"] for *_, info in steps] == [1, 3, 4, 5]
        assert [terminated for _, _, terminated, *_ in steps] == [False, False, False, True]


def test_a_game_may_end_while_fire_is_pressed():
    env = FireAfterLife(Scripted([(0, 2, False), (5, 0, True)]))
    env.reset()
    assert env.step(0)[1:3] == (5, True) and env.unwrapped.played == [0, 1]


@pytest.mark.parametrize(
    "script, meanings",
    [
        ([(0, 2, False)] * 3, ("NOOP", "UP", "FIRE")),
        ([(0, 2, False)] * 3, ("NOOP", "FIRE")),
        ([(0, 4, False), (0, 4, False), (0, 5, False)], ("NOOP", "FIRE", "UP")),
        ([(0, 0, False)] * 3, ("NOOP", "FIRE", "UP")),
    ],
    ids=["another action", "two actions", "lives are won", "the last life"],
)
def test_fire_is_pressed_only_where_that_helps(script, meanings):
    env = FireAfterLife(Scripted(script, meanings))
    env.reset()
    for _ in range(3):
        env.step(0)
    assert env.unwrapped.played == [0, 0, 0]


def lengths_of(env, n_steps):
    """How many steps two games of one seed last in which nothing is played, None if more than so many."""
    lengths = []
    for _ in range(2):
        env.reset(seed=0)
        ends = (any(env.step(0)[2:4]) for _ in range(n_steps))
        lengths.append(next((number for number, over in enumerate(ends, 1) if over), None))
    return lengths


def test_breakout_does_not_wait_for_ever():
    """Five balls, each of which falls within some twenty steps if the paddle does not move."""
    for env in (make_atari("Breakout"), pickle.loads(pickle.dumps(make_atari("Breakout")))):
        once, again = lengths_of(env, 300)
        assert once == again and 50 < once < 300
        env.close()


def test_a_game_without_lives_is_the_same_game():
    """Pong: the same pictures, rewards and frames as without the wrapper."""
    ours = make_atari("Pong")
    theirs = AtariWrapper(QuickReset(gym.make("PongNoFrameskip-v4")), terminal_on_life_loss=False, clip_reward=False)
    for env in (ours, theirs):
        env.reset(seed=0)
    for _ in range(60):
        one, other = ours.step(3), theirs.step(3)
        np.testing.assert_array_equal(one[0], other[0])
        assert one[1:4] == other[1:4] and one[4]["frame_number"] == other[4]["frame_number"]


# -- environments ----------------------------------------------------------------------------------------------------------


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


MEASURED = "Breakout"
"""The game whose E(0) is found out by random play."""

MOST_STEPS = 200
"""Of a game that is played with what was deployed: to its end it would take up to 25,000."""


@pytest.mark.parametrize("game", GAMES)
def test_the_zoos_entry_of_each_game_makes_the_same_environment(game):
    algorithms = pytest.importorskip("experiments.algorithms", reason="the experiments are not part of the package")
    content = yaml.safe_load((algorithms.HYPERPARAMS / "es.yml").read_text())
    entry = content.get(f"{game}NoFrameskip-v4", content["atari"])
    (quick, pixels, fire, limit), ours = entry["env_wrapper"], make_atari(game)
    ((name, arguments),) = pixels.items()
    assert name == "stable_baselines3.common.atari_wrappers.AtariWrapper"
    assert (quick, fire) == ("sb3_esac.envs.atari.QuickReset", "sb3_esac.envs.atari.FireAfterLife")
    theirs = FireAfterLife(AtariWrapper(QuickReset(gym.make(f"{game}NoFrameskip-v4")), **arguments))
    wrappers = []
    for env in (theirs, ours.env):
        found = []
        while isinstance(env, gym.Wrapper):
            found.append((type(env), getattr(env, "noop_max", None), getattr(env, "_skip", None)))
            env = env.env
        wrappers.append(found)
    assert wrappers[0] == wrappers[1]
    assert limit == {"gymnasium.wrappers.TimeLimit": {"max_episode_steps": ours._max_episode_steps}}
    assert entry["frame_stack"] == N_STACK


@pytest.mark.parametrize("time_schedule", ["constant", "doubling"])
@pytest.mark.parametrize("game", GAMES)
def test_each_game_is_trained_by_its_entry_and_played(game, time_schedule, capsys, monkeypatch):
    """A generation or more under each cap, and the beginning of a game with what is deployed then."""
    algorithms = pytest.importorskip("experiments.algorithms", reason="the experiments are not part of the package")
    monkeypatch.setattr(random_play, "PICTURE_STEPS", 8)
    n_of_pictures = 8 * random_play.PICTURE_EPISODES
    first, horizon = (None, 200) if game == MEASURED else (16, 32)
    lengths = ProgressiveEpisodeLength(time_schedule, first, horizon, n_random_episodes=1, phase_steps=horizon)
    # Without a champion, whose probes are whole games.
    changes = dict(population_size=4, champion_episodes=0, episode_length_schedule=lengths, verbose=1)
    budget = n_of_pictures + 3 * 4 * horizon // 2
    model = algorithms.from_file("es", f"{game}NoFrameskip-v4", 0, budget, **changes)
    assert (model.strategy, model.winner_fraction, model.sigma) == ("canonical", 0.5, 0.05)
    begin = model.population.mean
    model.learn(budget, log_interval=None)
    caps = model.arena.caps
    steps, phases = caps.steps_by_cap(model.num_timesteps), caps.phases.lengths
    n_of_random_play = model.num_timesteps - sum(steps.values()) - n_of_pictures
    assert model.arena.random_timesteps == n_of_random_play + n_of_pictures
    if game == MEASURED:
        # E(0): half of what random play lasts.
        assert phases[0] == int(n_of_random_play / 2 + 0.5) and phases[-1] == horizon
    else:
        assert phases == (16, 32) and n_of_random_play == 0
    assert tuple(steps) == phases
    said = capsys.readouterr().out
    for number, (cap, begun) in enumerate(caps.begun, 1):
        assert f"Episodes of at most {cap} steps from step {begun} on (phase {number} of {len(phases)})" in said
    assert model.population.generation >= 2 and not np.array_equal(model.population.mean, begin)
    venv = model.get_env()
    observation, n_steps, done = venv.reset(), 0, False
    while not done and n_steps < MOST_STEPS:
        actions = model.predict(observation, deterministic=True)[0]
        assert model.action_space.contains(actions[0])
        observation, _, dones, infos = venv.step(actions)
        n_steps, done = n_steps + 1, bool(dones[0])
    assert n_steps == MOST_STEPS or infos[0]["episode"]["l"] == n_steps
    venv.close()


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
