"""Episodes of a ``VecEnv`` that are seeded one by one, counted and cut."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    sync_envs_normalization,
)
from support import DictWalk, Walk, tiny, vec, walks

from sb3_esac.evaluation.seeded_episodes import SeededEpisodes, adopt
from sb3_esac.evaluation.vec_envs import base_vec_env
from sb3_esac.evolution.noise import Stream, episode_seed

RIGHT = np.array([[1.0]], dtype=np.float32)


def first_observation(seed, **kwargs):
    return Walk(**kwargs).reset(seed=seed)[0]


def seed_one_by_one(base, start=100):
    """Give every episode the next seed; return the list of (lane, seed) that fills as episodes begin."""
    given = []

    def source(lane):
        given.append((lane, start + len(given)))
        return given[-1][1]

    base.seed_source = source
    return given


# -- adopting -----------------------------------------------------------------------------------------------------------


def test_adopted_environment_stays_what_it_is():
    env = vec(2)
    base = adopt(env)
    assert base is env and isinstance(env, DummyVecEnv) and isinstance(env, SeededEpisodes)
    assert "DummyVecEnv" in type(env).__name__
    kind = type(env)
    base.n_env_steps = 7
    assert adopt(env) is env and type(env) is kind and base.n_env_steps == 7, "a second call changes nothing"
    assert not isinstance(vec(1), SeededEpisodes), "others of its class are left alone"


def test_wrappers_stay_in_their_place():
    inner = vec(1)
    env = VecNormalize(VecFrameStack(inner, 2))
    base = adopt(env)
    assert base is inner is base_vec_env(env) and env.venv.venv is inner
    assert type(env) is VecNormalize and type(env.venv) is VecFrameStack
    assert adopt(env.venv) is base


def test_without_seeds_nothing_changes():
    rows = []
    for adopted in (False, True):
        env = vec(2, varied=True)
        env.seed(5)
        if adopted:
            adopt(env)
        played = [env.reset()]
        for _ in range(40):
            observations, rewards, dones, infos = env.step(np.concatenate([RIGHT, -RIGHT]))
            last = [info.get("terminal_observation", np.zeros(3)) for info in infos]
            played += [observations, rewards, dones, np.array(last)]
        rows.append(played)
    for one, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(one, other)


# -- seeds --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_envs", [1, 3])
def test_every_episode_has_its_seed(n_envs):
    env = vec(n_envs, varied=True)
    given = seed_one_by_one(adopt(env))
    observations = env.reset()
    assert given == [(lane, 100 + lane) for lane in range(n_envs)]
    current = dict(given)
    for lane in range(n_envs):
        np.testing.assert_array_equal(observations[lane], first_observation(current[lane], varied=True))
    for _ in range(60):
        before = len(given)
        observations, _, dones, infos = env.step(np.tile(RIGHT, (n_envs, 1)))
        assert [lane for lane, _ in given[before:]] == list(np.flatnonzero(dones))
        for lane, seed in given[before:]:
            current[lane] = seed
            np.testing.assert_array_equal(observations[lane], first_observation(seed, varied=True))
            # The end of the old episode is still told.
            assert infos[lane]["terminal_observation"][1] >= 10 and infos[lane]["TimeLimit.truncated"]
    assert len(given) > n_envs
    for lane, walk in enumerate(walks(env)):
        played = [seed for number, seed in given if number == lane]
        assert walk.episode_seeds == played[: len(walk.episode_seeds)]


def test_episodes_depend_on_their_seed_alone():
    def play(n_envs, order):
        """Play the seeds in some order on some lanes; return the observations of each."""
        env, waiting, rows, current = vec(n_envs, varied=True), list(order), {}, {}

        def source(lane):
            current[lane] = waiting.pop(0) if waiting else None
            return current[lane]

        adopt(env).seed_source = source
        observations = env.reset()
        while any(seed is not None for seed in current.values()):
            for lane, seed in current.items():
                rows.setdefault(seed, []).append(observations[lane].copy())
            observations, _, _, _ = env.step(np.tile(RIGHT, (n_envs, 1)))
        return rows

    one, three = play(1, [3, 1, 4, 5]), play(3, [5, 4, 3, 1])
    for seed in (3, 1, 4, 5):
        np.testing.assert_array_equal(np.array(one[seed]), np.array(three[seed]))


def test_wrappers_above_see_the_seeded_observation():
    env = VecFrameStack(vec(1, length=4), 2)
    seed_one_by_one(adopt(env))
    env.reset()
    for _ in range(4):
        observations, _, dones, infos = env.step(RIGHT)
    assert dones[0]
    np.testing.assert_array_equal(observations[0], np.concatenate([np.zeros(3), first_observation(101)]).astype(np.float32))
    np.testing.assert_array_equal(infos[0]["terminal_observation"][[1, 4]], [3, 4])

    env = VecNormalize(vec(1, length=4), norm_reward=False)
    seed_one_by_one(adopt(env))
    env.reset()
    for _ in range(4):
        env.step(RIGHT)
    np.testing.assert_array_equal(env.get_original_obs()[0], first_observation(101))
    # Five observations went into the statistics: those of two resets and three steps.
    assert env.obs_rms.count == pytest.approx(5, abs=1e-3)


def test_dict_observations_are_put_in_their_place():
    env = vec(2, DictWalk, length=3)
    seed_one_by_one(adopt(env))
    env.reset()
    for _ in range(3):
        observations, _, dones, _ = env.step(np.tile(RIGHT, (2, 1)))
    assert dones.all()
    for lane, seed in enumerate((102, 103)):
        expected = DictWalk(Walk(length=3)).reset(seed=seed)[0]
        for key, value in expected.items():
            np.testing.assert_array_equal(observations[key][lane], value)


def test_subprocess_environments_are_seeded():
    env = SubprocVecEnv([lambda: Monitor(Walk(length=3)) for _ in range(2)], start_method="fork")
    try:
        base = adopt(env)
        assert isinstance(env, SubprocVecEnv)
        seed_one_by_one(base)
        observations = env.reset()
        np.testing.assert_array_equal(observations, [first_observation(100), first_observation(101)])
        for _ in range(3):
            observations, _, dones, infos = env.step(np.tile(RIGHT, (2, 1)))
        assert dones.all() and base.n_env_steps == 6
        np.testing.assert_array_equal(observations, [first_observation(102), first_observation(103)])
        assert [info["seed"] for info in env.reset_infos] == [102, 103]
        assert all(info["terminal_observation"][1] == 3 for info in infos)
    finally:
        env.close()


def test_reset_infos_are_those_of_the_seeded_reset():
    env = vec(1, length=2)
    given = seed_one_by_one(adopt(env))
    env.reset()
    assert env.reset_infos[0]["seed"] == 100
    env.step(RIGHT)
    env.step(RIGHT)
    assert given[-1] == (0, 101) and env.reset_infos[0]["seed"] == 101


# -- cuts and counts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeded", [True, False])
def test_a_cut_is_a_truncation(seeded):
    env = vec(2, length=10)
    base = adopt(env)
    base.max_episode_steps = 4
    if seeded:
        seed_one_by_one(base)
    env.reset()
    actions = np.concatenate([RIGHT, -RIGHT])
    for step in range(1, 13):
        observations, _, dones, infos = env.step(actions)
        assert dones.all() == dones.any() == (step % 4 == 0)
        for lane in range(2):
            assert infos[lane].get("TimeLimit.truncated", False) == dones[lane]
            assert not [key for key in infos[lane] if key.startswith("esac")]
            if dones[lane]:
                assert infos[lane]["terminal_observation"][1] == 4
                assert observations[lane][1] == 0, "the next episode has begun"
    assert all(len(rewards) == 4 for walk in walks(env) for rewards in walk.rewards)
    assert [length for _, length in base.finished] == [4] * 6
    if seeded:
        np.testing.assert_array_equal(observations[0], first_observation(106))


def test_a_terminal_step_at_the_limit_stays_terminal():
    env = vec(1, length=4, terminal=True)
    adopt(env).max_episode_steps = 4
    env.reset()
    for _ in range(4):
        _, _, dones, infos = env.step(RIGHT)
    assert dones[0] and not infos[0].get("TimeLimit.truncated", False)


def test_steps_and_episodes_are_counted():
    env = VecNormalize(vec(3, varied=True))
    base = adopt(env)
    env.reset()
    for _ in range(50):
        env.step(np.tile(RIGHT, (3, 1)))
    assert base.n_env_steps == 150 == sum(walk.n_steps for walk in walks(env))
    over = [rewards for walk in walks(env) for rewards in walk.rewards if len(rewards) >= 10]
    assert len(base.finished) >= 6
    # Raw returns, in spite of the normalisation above; an episode's sum may differ in its last digits.
    for episode_return, length in base.finished:
        assert any(len(rewards) == length and np.isclose(sum(rewards), episode_return, atol=1e-2) for rewards in over)


def test_monitor_tells_of_each_episode_once(tmp_path):
    env = DummyVecEnv([lambda: Monitor(Walk(varied=True), str(tmp_path / "0"))])
    seed_one_by_one(adopt(env))
    env.reset()
    told = []
    for _ in range(60):
        _, _, dones, infos = env.step(RIGHT)
        assert ("episode" in infos[0]) == dones[0]
        if dones[0]:
            told.append((infos[0]["episode"]["r"], infos[0]["episode"]["l"]))
    env.close()
    rewards = walks(env)[0].rewards
    assert len(told) >= 4
    for (total, length), played in zip(told, rewards, strict=False):
        assert length == len(played) and total == pytest.approx(sum(played), abs=1e-5)
    assert load_results(str(tmp_path))["l"].tolist() == [length for _, length in told]


def test_vec_monitor_above():
    env = VecMonitor(DummyVecEnv([lambda: Walk(length=5) for _ in range(2)]))
    seed_one_by_one(adopt(env))
    env.reset()
    for _ in range(5):
        _, _, dones, infos = env.step(np.tile(RIGHT, (2, 1)))
    assert dones.all()
    for lane, walk in enumerate(walks(env)):
        assert infos[lane]["episode"]["l"] == 5
        assert infos[lane]["episode"]["r"] == pytest.approx(sum(walk.rewards[0]), abs=1e-5)


def test_statistics_are_copied_from_an_adopted_environment():
    env, other = VecNormalize(vec(2)), VecNormalize(vec(1), training=False)
    adopt(env)
    env.reset()
    for _ in range(5):
        env.step(np.tile(RIGHT, (2, 1)))
    sync_envs_normalization(env, other)
    np.testing.assert_array_equal(env.obs_rms.mean, other.obs_rms.mean)
    assert other.ret_rms.var == env.ret_rms.var
    # And into one, as for an evaluation during the training of another model.
    sync_envs_normalization(other, env)


def test_observations_of_a_model_that_is_stopped_are_left_in_order():
    """Steps of another model, or of the user, on an environment that has been trained on."""
    env = vec(1)
    model = tiny(env, agent_fraction=0.0).learn(80)
    base = adopt(env)
    assert base.seed_source is None and base.max_episode_steps is None
    before = base.n_env_steps
    assert before == model.num_timesteps == walks(env)[0].n_steps
    env.reset()
    env.step(RIGHT)
    assert base.n_env_steps == before + 1 and model.num_timesteps == before


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_episodes_of_a_run_are_seeded_by_generation_and_number():
    env = vec(1)
    model = tiny(env, seed=3, champion_episodes=2, agent_fraction=0.4).learn(400)
    streams = (Stream.POPULATION_EPISODE, Stream.AGENT_EPISODE, Stream.PROBE_EPISODE)
    known = {
        episode_seed(3, generation, stream, index): (stream, generation)
        for stream in streams
        for generation in range(model.population.generation + 1)
        for index in range(30)
    }
    played = [known[seed] for seed in walks(env)[0].episode_seeds]
    assert {stream for stream, _ in played} == set(streams)
    for generation in range(model.population.generation):
        assert played.count((Stream.POPULATION_EPISODE, generation)) == 4


def test_an_environment_with_a_time_limit_of_gymnasium():
    env = DummyVecEnv([lambda: Monitor(gym.make("Pendulum-v1", max_episode_steps=5))])
    base = adopt(env)
    given = seed_one_by_one(base)
    env.reset()
    for _ in range(10):
        _, _, dones, infos = env.step(np.zeros((1, 1)))
    assert dones[0] and infos[0]["TimeLimit.truncated"] and [seed for _, seed in given] == [100, 101, 102]
