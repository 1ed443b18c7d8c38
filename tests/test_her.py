"""Hindsight experience replay."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import DEVICE
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.her.goal_selection_strategy import GoalSelectionStrategy
from support import is_finite, tiny

from sb3_esac import ESAC
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.recording.loading import load_model


def bits(n_envs=1, **kwargs):
    def make():
        return Monitor(BitFlippingEnv(**{"n_bits": 4, "continuous": True, "max_steps": 4, **kwargs}))

    return DummyVecEnv([make for _ in range(n_envs)])


def hindsight(env, strategy="future", **kwargs):
    settings = dict(learning_starts=20, buffer_size=400, gamma=0.95)
    arguments = dict(n_sampled_goal=2, goal_selection_strategy=strategy)
    return tiny(
        env,
        "MultiInputPolicy",
        replay_buffer_class=HerReplayBuffer,
        replay_buffer_kwargs=arguments,
        **{**settings, **kwargs},
    )


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("strategy", ["future", GoalSelectionStrategy.FINAL])
def test_learn(n_envs, share, strategy):
    model = hindsight(bits(n_envs), strategy, share_experience=share).learn(160)
    buffer = model.replay_buffer
    assert isinstance(buffer, HerReplayBuffer) and buffer.n_envs == n_envs
    assert (
        buffer.n_sampled_goal == 2
        and buffer.goal_selection_strategy is GoalSelectionStrategy[str(strategy).split(".")[-1].upper()]
    )
    assert model._n_updates > 0 and is_finite(model)
    if share == 0:
        assert buffer.population_store is None
        return
    store = buffer.population_store
    assert type(store) is HerReplayBuffer and store.n_envs == 1 and store.size() > 0
    assert store.her_ratio == buffer.her_ratio
    lengths = store.ep_length[: store.size(), 0]
    assert (lengths > 0).all(), "whole episodes can be sampled from"


@pytest.mark.parametrize("n_envs", [1, 2])
def test_goals_come_from_the_same_episode(n_envs):
    """Virtual goals were achieved later in the episode of the transition, in both stores."""
    model = hindsight(bits(n_envs), gradient_steps=0, agent_fraction=0.5).learn(200)
    buffer = model.replay_buffer
    for store in (buffer, buffer.population_store):
        episodes = {}
        for lane in range(store.n_envs):
            for at in range(store.size()):
                key = (lane, int(store.ep_start[at, lane]))
                episodes.setdefault(key, set()).add(store.next_observations["achieved_goal"][at, lane].tobytes())
        at, lanes = np.nonzero(store.ep_length > 0)
        goals = store._sample_goals(at, lanes)
        for index, lane, goal in zip(at, lanes, goals, strict=True):
            assert goal.tobytes() in episodes[lane, int(store.ep_start[index, lane])]


def test_share_of_a_batch():
    model = hindsight(bits(), share_experience=0.25, gradient_steps=0, agent_fraction=0.4).learn(200)
    buffer = model.replay_buffer
    # Actions tell which store a transition comes from.
    own, shared = ({row.tobytes() for row in store.actions[: store.size(), 0]} for store in (buffer, buffer.population_store))
    assert not own & shared
    batch = buffer.sample(40)
    from_population = [row.cpu().numpy().tobytes() in shared for row in batch.actions]
    assert sum(from_population) == 10
    assert set(batch.observations) == {"observation", "achieved_goal", "desired_goal"}
    rewards = -(batch.next_observations["achieved_goal"] != batch.observations["desired_goal"]).any(dim=1).float()
    np.testing.assert_array_equal(batch.rewards[:, 0].cpu().numpy(), rewards.cpu().numpy())


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_save_and_load_the_replay_buffer(n_envs, share, tmp_path, recwarn):
    model = hindsight(bits(n_envs), share_experience=share).learn(120)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    env = bits(n_envs)
    loaded = ESAC.load(tmp_path / "model.zip", env=env, device=DEVICE)
    recwarn.clear()
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert not [warning for warning in recwarn if "truncated" in str(warning.message)], "no episode had been left open"
    assert loaded.replay_buffer.env is env
    pairs = [(model.replay_buffer, loaded.replay_buffer)]
    if share > 0:
        pairs.append((model.replay_buffer.population_store, loaded.replay_buffer.population_store))
        assert loaded.replay_buffer.population_store.env is env
    for ours, theirs in pairs:
        assert (ours.pos, ours.full) == (theirs.pos, theirs.full) and ours.size() > 0
        for name in ("actions", "rewards", "dones", "ep_start", "ep_length", "_current_ep_start"):
            np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
        for key in ours.observations:
            np.testing.assert_array_equal(ours.observations[key], theirs.observations[key])
    observation = env.reset()
    np.testing.assert_array_equal(
        model.predict(observation, deterministic=True)[0], loaded.predict(observation, deterministic=True)[0]
    )
    size = loaded.replay_buffer.size()
    loaded.learn(300, reset_num_timesteps=False)
    assert loaded.replay_buffer.size() > size


def test_full_buffers_wrap_around():
    model = hindsight(bits(2), buffer_size=30, gradient_steps=1, agent_fraction=0.4).learn(400)
    buffer = model.replay_buffer
    assert buffer.full and buffer.population_store.full
    assert model._n_updates > 10 and is_finite(model)
    for store in (buffer, buffer.population_store):
        assert store.ep_length.max() <= 4


def test_image_observations():
    env = bits(image_obs_space=True, channel_first=True)
    kwargs = dict(net_arch=[8], features_extractor_kwargs=dict(cnn_output_dim=8))
    model = hindsight(env, buffer_size=80, batch_size=4, learning_starts=8, policy_kwargs=kwargs).learn(60)
    assert model._n_updates > 0


class Reach(gym.Env):
    """
    A point that is to be moved to a goal.

    :param bad_seeds: Seeds of episodes whose third observation is NaN.
    """

    def __init__(self, bad_seeds=()):
        goal = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.observation_space = spaces.Dict(
            {"observation": spaces.Box(-np.inf, np.inf, (2,), np.float32), "achieved_goal": goal, "desired_goal": goal}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.bad_seeds = bad_seeds

    def observe(self):
        x = np.array([np.nan if self.seed in self.bad_seeds and self.t == 3 else self.x], dtype=np.float32)
        observation = np.array([x[0], 1.0], dtype=np.float32)
        return {"observation": observation, "achieved_goal": x, "desired_goal": self.goal.copy()}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.t, self.x = seed, 0, float(self.np_random.normal(20.0, 5.0))
        self.goal = self.np_random.normal(20.0, 5.0, 1).astype(np.float32)
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        self.x += float(action[0])
        observation = self.observe()
        reward = self.compute_reward(np.array([self.x]), self.goal, {})
        return observation, float(reward), False, self.t >= 6, {}

    def compute_reward(self, achieved_goal, desired_goal, info):
        return -np.abs(achieved_goal - desired_goal)[..., 0]


@pytest.mark.parametrize("n_envs", [1, 2])
def test_vec_normalize(n_envs):
    env = VecNormalize(DummyVecEnv([lambda: Monitor(Reach()) for _ in range(n_envs)]), norm_reward=False)
    model = hindsight(env).learn(160)
    assert model._n_updates > 0 and is_finite(model)
    assert env.obs_rms["achieved_goal"].mean[0] == pytest.approx(20, abs=3)
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        assert store.observations["achieved_goal"][: store.size()].mean() > 10, "raw observations are stored"
    batch = model.replay_buffer.sample(64, env=env)
    assert float(batch.observations["achieved_goal"].abs().mean()) < 3


@pytest.mark.filterwarnings("ignore:The environment gave")
@pytest.mark.parametrize("n_envs", [1, 2])
def test_nan_is_not_stored(n_envs):
    bad = {
        episode_seed(1, generation, stream, index)
        for stream in (Stream.AGENT_EPISODE, Stream.POPULATION_EPISODE)
        for generation in range(30)
        for index in (0, 3)
    }
    env = DummyVecEnv([lambda: Monitor(Reach(bad)) for _ in range(n_envs)])
    model = hindsight(env, agent_fraction=0.5, train_freq=4).learn(300)
    assert model._n_updates > 0 and is_finite(model)
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        size = store.size()
        assert 0 < size < model.agent_timesteps
        for part in (store.observations, store.next_observations):
            assert all(np.isfinite(value[:size]).all() for value in part.values())
            assert (part["achieved_goal"][:size] != 0).all(), "a cleared observation was stored"
        # Episodes that were cut at the gap are whole for the buffer: goals come from before it.
        assert (store._current_ep_start == store.pos).all()
        at = np.arange(size)
        for lane in range(store.n_envs):
            starts, lengths = store.ep_start[:size, lane], store.ep_length[:size, lane]
            assert (lengths > 0).all() and ((starts <= at) & (at < starts + lengths)).all()


class Informed(BitFlippingEnv):
    """Tells in ``info`` what its reward depends on."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "cost": 0.5}

    def compute_reward(self, achieved_goal, desired_goal, info):
        if info is None:
            return super().compute_reward(achieved_goal, desired_goal, info)
        costs = np.array([each["cost"] for each in info])
        return super().compute_reward(achieved_goal, desired_goal, None) - costs


def test_rewards_that_are_computed_from_infos():
    """The population's episodes have none, so the agent learns from its own."""
    env = DummyVecEnv([lambda: Monitor(Informed(n_bits=4, continuous=True, max_steps=4))])
    arguments = dict(replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs=dict(copy_info_dict=True), learning_starts=20)
    expected = r"`share_experience` must be 0 or 'auto', as `copy_info_dict=True` reads.* not 0\.5"
    with pytest.raises(ValueError, match=expected):
        tiny(env, "MultiInputPolicy", **arguments)
    model = tiny(env, "MultiInputPolicy", agent_fraction="auto", share_experience="auto", **arguments).learn(400)
    assert model.population_timesteps > 0 and model._n_updates > 0 and model.replay_buffer.population_store is None


def test_loading_without_an_environment(tmp_path):
    hindsight(bits()).learn(40).save(tmp_path / "model.zip")
    # As SAC: the buffer computes rewards with the environment.
    with pytest.raises(AssertionError, match="You must pass an environment"):
        ESAC.load(tmp_path / "model.zip")


def test_a_model_is_loaded_to_be_filmed(tmp_path):
    """Without an environment, and without a buffer."""
    model = hindsight(bits()).learn(40)
    model.save(tmp_path / "model")
    observation = model.get_env().reset()
    loaded = load_model(tmp_path / "model.zip")
    actions = [player.predict(observation, deterministic=True)[0] for player in (model, loaded)]
    np.testing.assert_array_equal(*actions)
