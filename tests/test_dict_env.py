"""``Dict`` observations."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import ALGORITHMS, DEVICE, HYBRIDS
from stable_baselines3 import TD3
from stable_baselines3.common.buffers import DictReplayBuffer
from stable_baselines3.common.envs import SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from support import DictWalk, is_finite, tiny, vec, walks

from sb3_esac import ES


class Mixed(gym.Env):
    """
    Every kind of part that a ``Dict`` observation can have.

    :param channel_last: Whether the image has its channels last.
    """

    def __init__(self, channel_last=False):
        shape = (36, 36, 1) if channel_last else (1, 36, 36)
        self.observation_space = spaces.Dict(
            {
                "img": spaces.Box(0, 255, shape, np.uint8),
                "vec": spaces.Box(-1.0, 1.0, (5,), np.float32),
                "matrix": spaces.Box(-1.0, 1.0, (2, 3), np.float64),
                "discrete": spaces.Discrete(4),
                "multi": spaces.MultiDiscrete([2, 3]),
                "bits": spaces.MultiBinary(3),
            }
        )
        self.action_space = spaces.Box(-2.0, 2.0, (3,), np.float32)
        self.t = 0

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), -float(np.square(action).sum()), self.t % 3 == 0, self.t >= 5, {}


SMALL = dict(
    buffer_size=100,
    batch_size=4,
    learning_starts=5,
    policy_kwargs=dict(net_arch=[8], features_extractor_kwargs=dict(cnn_output_dim=8)),
)


def check_stores(model):
    """Every part of an observation is kept as it is."""
    buffer, store = model.replay_buffer, model.replay_buffer.population_store
    assert isinstance(buffer, DictReplayBuffer) and type(store) is DictReplayBuffer
    for kept in (buffer, store):
        size = kept.size()
        assert size > 0
        for key, space in model.observation_space.spaces.items():
            assert kept.observations[key].dtype == space.dtype
            flat = kept.next_observations[key][:size].reshape(-1, *kept.obs_shape[key])
            if isinstance(space, spaces.Box):
                assert all(space.contains(row) for row in flat), key
            assert flat.astype(float).std() > 0, f"{key} was not recorded"
    assert model._n_updates > 0


@pytest.mark.parametrize("channel_last", [False, True])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_kind_of_part(algorithm, channel_last, n_envs, tmp_path):
    env = DummyVecEnv([lambda: Monitor(Mixed(channel_last)) for _ in range(n_envs)])
    model = tiny(env, "MultiInputPolicy", algorithm=algorithm, **SMALL)
    begin = model.population.mean
    model.learn(80)
    assert model.observation_space["img"].shape == (1, 36, 36)
    assert not np.array_equal(model.population.mean, begin) and is_finite(model)
    if algorithm in HYBRIDS:
        check_stores(model)
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=env, device=DEVICE)
    observation = env.observation_space.sample()
    for each in (observation, {key: np.stack([value, value]) for key, value in observation.items()}):
        np.testing.assert_array_equal(model.predict(each, deterministic=True)[0], loaded.predict(each, deterministic=True)[0])
    assert model.predict(observation)[0].shape == (3,)
    evaluate_policy(loaded, loaded.get_env(), n_eval_episodes=2)
    loaded.learn(30)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_policies_for_dict_observations_only(algorithm):
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        tiny(vec(1, DictWalk), "MlpPolicy", algorithm=algorithm)


def test_transitions_of_the_population_are_those_that_were_played():
    env = vec(1, DictWalk)
    model = tiny(env, "MultiInputPolicy", agent_fraction=0.0, champion_episodes=0, winner_fraction=1.0, n_agent_members=0)
    model.learn(80)
    store, walk = model.replay_buffer.population_store, walks(env)[0]
    size = store.size()
    assert size == model.num_timesteps == walk.n_steps
    played = np.array(walk.acted_upon)
    np.testing.assert_array_equal(store.observations["place"][:size, 0], played[:, [0, 2]])
    np.testing.assert_array_equal(store.observations["step"][:size, 0], played[:, [1]])
    np.testing.assert_array_equal(store.observations["side"][:size, 0, 0], played[:, 0] > 0)
    np.testing.assert_array_equal(store.next_observations["step"][:size], store.observations["step"][:size] + 1)
    np.testing.assert_allclose(store.rewards[:size, 0], np.concatenate(walk.rewards), rtol=1e-6)
    ends = (np.arange(size) + 1) % 10 == 0
    np.testing.assert_array_equal(store.dones[:size, 0], ends)
    np.testing.assert_array_equal(store.timeouts[:size, 0], ends)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_fitness_does_not_depend_on_the_number_of_environments(algorithm):
    arguments = dict(algorithm=algorithm, agent_fraction=0.0, champion_episodes=0)
    means = [tiny(vec(n_envs, DictWalk), "MultiInputPolicy", **arguments).learn(80).population.mean for n_envs in (1, 2)]
    np.testing.assert_array_equal(*means)


def test_other_agents():
    model = tiny(vec(2, DictWalk), "MultiInputPolicy", agent_class=TD3).learn(100)
    assert model._n_updates > 0 and is_finite(model)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_multi_observations_of_sb3(algorithm):
    env = gym.wrappers.TimeLimit(SimpleMultiObsEnv(discrete_actions=False, random_start=False), 6)
    model = tiny(env, "MultiInputPolicy", algorithm=algorithm, **SMALL).learn(60)
    assert model.population.generation > 0 and is_finite(model)


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_vec_normalize(algorithm, n_envs, tmp_path):
    env = VecNormalize(vec(n_envs, DictWalk, scale=20.0), norm_obs_keys=["place", "step"])
    model = tiny(env, "MultiInputPolicy", algorithm=algorithm).learn(120)
    assert set(env.obs_rms) == {"place", "step"}
    assert abs(env.obs_rms["step"].mean[0] - 4.5) < 0.5
    if algorithm in HYBRIDS:
        for store in (model.replay_buffer, model.replay_buffer.population_store):
            steps = store.observations["step"][: store.size()]
            assert set(np.unique(steps)) == set(range(10)), "raw observations are stored"
        batch = model.replay_buffer.sample(64, env=env)
        assert float(batch.observations["step"].abs().max()) < 3
    env.save(str(tmp_path / "normalize.pkl"))
    again = VecNormalize.load(str(tmp_path / "normalize.pkl"), vec(n_envs, DictWalk))
    np.testing.assert_array_equal(again.obs_rms["place"].var, env.obs_rms["place"].var)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_frame_stack(algorithm):
    class Boxes(gym.ObservationWrapper):
        """Without the discrete part, which cannot be stacked."""

        def __init__(self, env):
            super().__init__(env)
            parts = env.observation_space.spaces
            self.observation_space = spaces.Dict({key: part for key, part in parts.items() if key != "side"})

        def observation(self, observation):
            return {key: value for key, value in observation.items() if key != "side"}

    env = VecFrameStack(vec(2, lambda env: Boxes(DictWalk(env))), 3)
    model = tiny(env, "MultiInputPolicy", algorithm=algorithm).learn(100)
    assert model.observation_space["step"].shape == (3,) and is_finite(model)
    if algorithm is ES:
        return
    store = model.replay_buffer.population_store
    rows = store.observations["step"][: store.size(), 0]
    assert rows.shape[1] == 3
    np.testing.assert_array_equal(rows[:, 1], np.maximum(rows[:, 2] - 1, 0))
