"""``VecNormalize``, ``VecFrameStack`` and ``VecTransposeImage`` around the training environment."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, DEVICE, HYBRIDS, keep_selections
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecFrameStack,
    VecNormalize,
    VecTransposeImage,
    is_vecenv_wrapped,
    sync_envs_normalization,
    unwrap_vec_normalize,
)
from support import DictWalk, is_finite, tiny, vec, walks


def stores_of(model):
    """Where transitions are kept, if they are."""
    return [model.replay_buffer, model.replay_buffer.population_store] if hasattr(model, "agent") else []


POPULATION_ONLY = dict(agent_fraction=0.0, champion_episodes=0)


class Statistics(BaseCallback):
    """Writes the statistics down at every step, with the generation and whether the agent was playing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, bool, float, np.ndarray]] = []

    def _on_step(self) -> bool:
        normalize = self.model.get_vec_normalize_env()
        assert normalize is not None
        has_agent = hasattr(self.model, "agent")
        agent_plays = has_agent and self.model.arena.base.seed_source is not None and normalize.training
        rms, generation = normalize.obs_rms, self.model.population.generation
        self.seen.append((generation, agent_plays, rms.count, rms.mean.copy()))
        return True


def expected_moments(observations: np.ndarray) -> RunningMeanStd:
    """What a running estimate is after it has seen all these at once."""
    rms = RunningMeanStd(shape=observations.shape[1:])
    rms.update(observations.astype(np.float64))
    return rms


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_observation_statistics_are_those_of_the_population(algorithm, n_envs):
    env = VecNormalize(vec(n_envs, scale=30.0))
    model = tiny(env, algorithm=algorithm, **POPULATION_ONLY).learn(120)
    seen = np.concatenate([walk.acted_upon for walk in walks(env)])
    assert len(seen) == model.num_timesteps == 120
    expected = expected_moments(seen)
    assert env.obs_rms.count == pytest.approx(expected.count, rel=1e-12)
    np.testing.assert_allclose(env.obs_rms.mean, expected.mean, rtol=1e-9)
    np.testing.assert_allclose(env.obs_rms.var, expected.var, rtol=1e-9)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reward_statistics_are_those_of_the_population(algorithm):
    env = VecNormalize(vec(2), gamma=0.9)
    tiny(env, algorithm=algorithm, **POPULATION_ONLY).learn(120)
    sums = []
    for rewards in (episode for walk in walks(env) for episode in walk.rewards):
        total = 0.0
        for reward in rewards:
            total = total * 0.9 + np.float32(reward)
            sums.append(total)
    expected = expected_moments(np.array(sums))
    assert env.ret_rms.count == pytest.approx(expected.count, rel=1e-12)
    assert env.ret_rms.mean == pytest.approx(expected.mean, rel=1e-6)
    assert env.ret_rms.var == pytest.approx(expected.var, rel=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dict_statistics_of_the_population(algorithm):
    env = VecNormalize(vec(2, DictWalk, scale=5.0), norm_obs_keys=["place", "step"])
    tiny(env, "MultiInputPolicy", algorithm, **POPULATION_ONLY).learn(80)
    seen = np.concatenate([walk.acted_upon for walk in walks(env)])
    for key, part in {"place": seen[:, [0, 2]], "step": seen[:, [1]]}.items():
        expected = expected_moments(part)
        np.testing.assert_allclose(env.obs_rms[key].mean, expected.mean, rtol=1e-9)
        np.testing.assert_allclose(env.obs_rms[key].var, expected.var, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_do_not_depend_on_the_number_of_environments(algorithm):
    results = []
    for n_envs in (1, 2, 4):
        env = VecNormalize(vec(n_envs))
        tiny(env, algorithm=algorithm, n_agent_members=0, **POPULATION_ONLY).learn(80)
        results.append((env.obs_rms.mean, env.obs_rms.var, env.ret_rms.var))
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_are_frozen_within_a_generation(algorithm):
    env = VecNormalize(vec(2))
    watch = Statistics()
    model = tiny(env, algorithm=algorithm, agent_fraction=0.3).learn(300, callback=watch)
    of_population = [(generation, count, mean) for generation, agent, count, mean in watch.seen if not agent]
    assert any(agent for _, agent, _, _ in watch.seen) is (algorithm in HYBRIDS), "the agent has not played"
    # Each generation's first evaluation is played with one set of statistics; the next generation has another one.
    first_counts = {}
    for generation, count, mean in of_population:
        if generation not in first_counts:
            first_counts[generation] = (count, mean)
    for generation in range(model.population.generation):
        played = [(count, mean) for number, count, mean in of_population if number == generation]
        steps = 4 * 10 // 2
        assert len(played) >= steps
        for count, mean in played[:steps]:
            assert count == first_counts[generation][0]
            np.testing.assert_array_equal(mean, first_counts[generation][1])
    counts = [first_counts[generation][0] for generation in range(model.population.generation)]
    assert all(later > earlier for earlier, later in pairwise(counts))
    assert env.training


@pytest.mark.parametrize("algorithm", HYBRIDS)
@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_statistics_follow_the_agent_once_it_plays_a_tenth_of_the_steps(algorithm, fraction):
    env = VecNormalize(vec(2))
    watch = Statistics()
    model = tiny(env, algorithm=algorithm, agent_fraction=fraction).learn(400, callback=watch)
    changes = [count > before for (_, _, before, _), (_, agent, count, _) in pairwise(watch.seen) if not agent]
    assert any(changes) == (fraction < 0.1)
    if fraction >= 0.1:
        # Each of its intervals begins with a reset of two environments.
        assert model.agent_timesteps < env.obs_rms.count <= model.agent_timesteps + 2 * model.population.generation + 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_stay_as_they_are_without_training(algorithm):
    env = VecNormalize(vec(2), training=False)
    tiny(env, algorithm=algorithm).learn(120)
    assert env.obs_rms.count == pytest.approx(1e-4)
    np.testing.assert_array_equal(env.obs_rms.mean, 0.0)
    assert not env.training


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fitness_is_the_raw_reward(algorithm):
    env = VecNormalize(vec(1))
    model = tiny(env, algorithm=algorithm, n_agent_members=0, **POPULATION_ONLY)
    selections = keep_selections(model)
    model.learn(120)
    played = np.array([sum(np.float64(np.float32(reward)) for reward in episode) for episode in walks(env)[0].rewards])
    np.testing.assert_allclose(np.concatenate([selection.fitness for selection in selections]), played, rtol=1e-6)
    assert abs(played).max() > 1, "raw rewards could not be told from normalised ones"


def test_the_agents_buffer_holds_raw_observations_and_rewards():
    env = VecNormalize(vec(1, scale=50.0))
    model = tiny(env, agent_fraction=0.5).learn(200)
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        size = store.size()
        assert size > 0
        raw = np.array(walks(env)[0].acted_upon)
        rewards = np.concatenate(walks(env)[0].rewards).astype(np.float32)
        stored = store.observations[:size, 0]
        # Every stored observation is one that the environment gave, with the reward that followed.
        distances = np.abs(stored[:, None] - raw[None]).sum(axis=-1)
        assert distances.min(axis=1).max() == 0
        np.testing.assert_allclose(store.rewards[:size, 0], rewards[distances.argmin(axis=1)], rtol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_get_vec_normalize_env(algorithm):
    env = VecNormalize(vec(1))
    model = tiny(env, algorithm=algorithm)
    agent = model.agent if algorithm in HYBRIDS else model
    assert model.get_vec_normalize_env() is env
    assert agent.get_vec_normalize_env() is env
    assert tiny(vec(1), algorithm=algorithm).get_vec_normalize_env() is None
    other = VecNormalize(vec(1))
    model.set_env(other)
    assert model.get_vec_normalize_env() is agent.get_vec_normalize_env() is other


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sync_with_the_environment_of_eval_callback(algorithm):
    env, eval_env = VecNormalize(vec(2)), VecNormalize(vec(1), training=False, norm_reward=False)
    callback = EvalCallback(eval_env, eval_freq=20, n_eval_episodes=1, verbose=0, warn=False)
    model = tiny(env, algorithm=algorithm).learn(200, callback=callback)
    assert model.num_timesteps >= 200 and np.isfinite(callback.last_mean_reward)
    sync_envs_normalization(model.get_env(), eval_env)
    np.testing.assert_array_equal(env.obs_rms.mean, eval_env.obs_rms.mean)
    assert eval_env.obs_rms.count == env.obs_rms.count
    assert env.training and not eval_env.training


def test_evaluation_sees_the_statistics_of_the_moment(tmp_path):
    env, eval_env = VecNormalize(vec(1)), VecNormalize(vec(1), training=False, norm_reward=False)
    counts = []

    class Watch(EvalCallback):
        def _on_step(self):
            goes_on = super()._on_step()
            if self.n_calls % self.eval_freq == 0:
                counts.append((env.obs_rms.count, eval_env.obs_rms.count))
            return goes_on

    tiny(env).learn(200, callback=Watch(eval_env, eval_freq=50, n_eval_episodes=1, verbose=0, log_path=str(tmp_path)))
    assert len(counts) >= 3 and counts[-1][0] > counts[0][0]
    assert all(training == evaluation for training, evaluation in counts)
    assert (tmp_path / "evaluations.npz").is_file()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_save_and_load_beside_the_model(algorithm, tmp_path):
    env = VecNormalize(vec(1))
    model = tiny(env, algorithm=algorithm).learn(150)
    model.save(tmp_path / "model.zip")
    env.save(str(tmp_path / "normalize.pkl"))
    again = VecNormalize.load(str(tmp_path / "normalize.pkl"), vec(1))
    np.testing.assert_array_equal(again.obs_rms.mean, env.obs_rms.mean)
    np.testing.assert_array_equal(again.ret_rms.var, env.ret_rms.var)
    loaded = algorithm.load(tmp_path / "model.zip", env=again, device=DEVICE)
    assert loaded.get_vec_normalize_env() is again
    observation = again.normalize_obs(np.array([[0.3, 4.0, 1.0]], dtype=np.float32))
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    count = again.obs_rms.count
    loaded.learn(60)
    assert again.obs_rms.count > count


def test_checkpoints_hold_the_statistics(tmp_path):
    env = VecNormalize(vec(1))
    tiny(env).learn(100, callback=CheckpointCallback(40, str(tmp_path), save_vecnormalize=True))
    files = sorted(tmp_path.glob("*vecnormalize*.pkl"))
    assert len(files) >= 2
    assert VecNormalize.load(str(files[-1]), vec(1)).obs_rms.mean.shape == (3,)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_both_normalisations_are_refused(algorithm):
    with pytest.raises(ValueError, match=r"normalize_observations.*VecNormalize"):
        tiny(VecNormalize(vec(1)), algorithm=algorithm, normalize_observations=True)
    # Rewards alone may be normalised outside.
    env = VecNormalize(vec(1), norm_obs=False)
    tiny(env, algorithm=algorithm, normalize_observations=True).learn(80)
    assert env.ret_rms.count > 1
    model = tiny(vec(1), algorithm=algorithm, normalize_observations=True)
    with pytest.raises(ValueError, match=r"normalize_observations.*VecNormalize"):
        model.set_env(VecNormalize(vec(1)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_frame_stack(algorithm, n_envs, tmp_path):
    env = VecFrameStack(vec(n_envs), 3)
    model = tiny(env, algorithm=algorithm).learn(150)
    assert model.observation_space.shape == (9,)
    for store in stores_of(model):
        assert store.observations.shape[-1] == 9
        rows = store.observations[: store.size()].reshape(-1, 9)
        steps = rows[:, [1, 4, 7]]
        # No stack reaches back into the episode before: frames before the first are empty.
        np.testing.assert_array_equal(steps[:, 1], np.maximum(steps[:, 2] - 1, 0))
        np.testing.assert_array_equal(rows[steps[:, 2] == 0][:, :6], 0.0)
        following = store.next_observations[: store.size()].reshape(-1, 9)
        np.testing.assert_array_equal(following[:, 7], steps[:, 2] + 1)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=VecFrameStack(vec(n_envs), 3), device=DEVICE)
    observation = env.reset()
    np.testing.assert_array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )


@pytest.mark.parametrize("n_envs", [1, 2])
def test_normalised_frame_stack(n_envs):
    env = VecNormalize(VecFrameStack(vec(n_envs), 2))
    model = tiny(env).learn(150)
    assert env.obs_rms.mean.shape == (6,) and is_finite(model)
    assert model.replay_buffer.observations.shape[-1] == model.replay_buffer.population_store.observations.shape[-1] == 6
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        rows = store.observations[: store.size()].reshape(-1, 6)
        np.testing.assert_array_equal(rows[:, 5], 1.0)
    assert env.obs_rms.count > model.agent_timesteps > 20


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_normalised_frame_stack_gives_the_same_fitness_on_any_number_of_environments(algorithm):
    means = []
    for n_envs in (1, 2):
        env = VecNormalize(VecFrameStack(vec(n_envs), 2))
        model = tiny(env, algorithm=algorithm, n_agent_members=0, **POPULATION_ONLY).learn(120)
        means.append((model.population.mean, env.obs_rms.mean))
    np.testing.assert_array_equal(means[0][0], means[1][0])
    np.testing.assert_array_equal(means[0][1], means[1][1])


def image_env(**kwargs):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False, **kwargs)
    return Monitor(gym.wrappers.TimeLimit(env, 5))


IMAGES = dict(
    policy_kwargs=dict(net_arch=[8], features_extractor_kwargs=dict(features_dim=8)),
    buffer_size=60,
    learning_starts=5,
    batch_size=4,
)


def test_images_are_transposed():
    model = tiny(image_env(), "CnnPolicy", **IMAGES).learn(60)
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage)
    assert model.observation_space.shape == (1, 36, 36)
    assert model.replay_buffer.population_store.observations.shape[-3:] == (1, 36, 36)


def test_stacked_images_with_normalised_rewards():
    env = VecTransposeImage(VecFrameStack(DummyVecEnv([image_env]), 2, channels_order="last"))
    env = VecNormalize(env, norm_obs=False)
    model = tiny(env, "CnnPolicy", **IMAGES).learn(60)
    assert unwrap_vec_normalize(model.get_env()) is env
    assert model.observation_space.shape == (2, 36, 36)
    assert model.replay_buffer.observations.shape[-3:] == (2, 36, 36)
    assert model.replay_buffer.population_store.observations.shape[-3:] == (2, 36, 36)
    assert env.ret_rms.count > 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_change_of_shape_beyond_vec_normalize_is_refused(algorithm):
    with pytest.raises(ValueError, match=r"VecNormalize.* last"):
        tiny(VecFrameStack(VecNormalize(vec(1)), 2), algorithm=algorithm)
    with pytest.raises(ValueError, match=r"VecNormalize.* last"):
        tiny(VecNormalize(DummyVecEnv([image_env]), norm_obs=False), "CnnPolicy", algorithm, **IMAGES)
