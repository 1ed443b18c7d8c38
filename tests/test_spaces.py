"""Observation and action spaces."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ALGORITHMS, HYBRIDS, make_model
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player


class Anything(gym.Env):
    """Observations and rewards at random, whatever the spaces; keeps the actions that it got."""

    def __init__(self, observation_space=None, action_space=None, n_steps=6):
        self.observation_space = observation_space or spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = action_space or spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.n_steps, self.actions = n_steps, []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        self.actions.append(np.array(action))
        reward = -float(np.abs(action).sum())
        return self.observation_space.sample(), reward, False, self.t >= self.n_steps, {}


OBSERVATION_SPACES = [
    spaces.Box(-1.0, 1.0, (1,), np.float32),
    spaces.Box(-1.0, 1.0, (2, 3), np.float32),
    spaces.Box(0.0, 255.0, (4, 2, 2), np.float32),
    spaces.Box(-1.0, 1.0, (3,), np.float64),
    spaces.Box(-5, 5, (3,), np.int64),
    spaces.Box(-np.inf, np.inf, (3,), np.float32),
    spaces.Discrete(5),
    spaces.MultiDiscrete([3, 4]),
    spaces.MultiBinary(4),
    spaces.MultiBinary((2, 3)),
]

ACTION_SPACES = [
    spaces.Box(-1.0, 1.0, (3,), np.float32),
    spaces.Box(0.0, 2.0, (1,), np.float32),
    spaces.Box(np.array([-2.0, 5.0, -9.0], np.float32), np.array([3.0, 6.0, -8.5], np.float32)),
    spaces.Box(-1.0, 1.0, (2, 2), np.float32),
    spaces.Box(np.array([[-1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 3.0], [9.0, -1.0]]), dtype=np.float64),
    spaces.Box(-2.0, 1.0, (2,), np.float64),
]


def learn(algorithm, env, **kwargs):
    return make_model(algorithm, env, seed=0, learning_starts=0, batch_size=4, **kwargs).learn(90)


def name_of(space):
    return str(space).replace("\n", "")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", OBSERVATION_SPACES, ids=name_of)
def test_observation_spaces(algorithm, space):
    env = Anything(observation_space=space)
    model = learn(algorithm, env)
    if algorithm in HYBRIDS:
        assert model._n_updates > 0
        assert model.replay_buffer.population_store.size() > 0
    action, _ = model.predict(space.sample())
    assert env.action_space.contains(action)
    actions, _ = model.predict(np.stack([space.sample() for _ in range(3)]))
    assert actions.shape == (3, 1)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", ACTION_SPACES, ids=name_of)
@pytest.mark.parametrize("normalized", [False, True])
def test_action_spaces(algorithm, space, normalized):
    env = Anything(action_space=space)
    model = learn(algorithm, env, normalize_observations=normalized, n_agent_members=2)
    assert len(env.actions) >= 90
    for action in env.actions:
        assert action.shape == space.shape
        assert (action >= space.low - 1e-5).all() and (action <= space.high + 1e-5).all()
    # Both stores hold what was played, scaled to [-1, 1].
    for store in (model.replay_buffer, model.replay_buffer.population_store) if algorithm in HYBRIDS else ():
        scaled = store.actions[: store.size()]
        assert scaled.shape[-1] == np.prod(space.shape)
        assert np.abs(scaled).max() <= 1.0 + 1e-5 and scaled.std() > 0
    for deterministic in (False, True):
        action, _ = model.predict(env.observation_space.sample(), deterministic=deterministic)
        assert action.dtype == space.dtype and space.contains(action)


# The agent's actor always squashes.
@pytest.mark.parametrize(("algorithm", "squash_output"), [(ESAC, True), (ES, True), (ES, False)])
@pytest.mark.parametrize("space", ACTION_SPACES, ids=name_of)
def test_offspring_reach_the_whole_space(algorithm, space, squash_output):
    """What is played in numpy is what torch would play, up to the bounds of each dimension."""
    kwargs = {} if squash_output else dict(squash_output=False)
    model = make_model(algorithm, Anything(action_space=space), seed=0, policy_kwargs=dict(net_arch=[8], **kwargs))
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp)
    reference = TorchActor(model.actor)
    observation = np.ones(2, dtype=np.float32)
    for vector in (model.population.mean, 50 * model.population.mean):
        action, expected = player.bind(vector)(observation), reference.bind(vector)(observation)
        assert action.shape == expected.shape == space.shape
        assert np.allclose(action, expected, atol=1e-5)
    extremes = np.concatenate([np.abs(action - space.low).ravel(), np.abs(action - space.high).ravel()])
    assert np.isclose(extremes, 0, atol=1e-4).sum() >= np.prod(space.shape) / 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", [spaces.Box(-1.0, 1.0, (3,), np.float64), spaces.Discrete(3)], ids=name_of)
def test_double_precision_actions(algorithm, space):
    """As SB3's test of the same name: a float64 action space, and what is predicted has its dtype."""
    env = Anything(space, spaces.Box(-1.0, 1.0, (2,), np.float64))
    model = make_model(algorithm, env, seed=0)
    observation = env.reset()[0]
    for _ in range(2):
        action, _ = model.predict(observation, deterministic=False)
        assert action.dtype == np.float64
        model.learn(50)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 2]), spaces.MultiBinary(3)], ids=name_of)
def test_actions_must_be_a_box(algorithm, space):
    """Or discrete, for an algorithm that needs no gradient of them."""
    if algorithm is ES and isinstance(space, spaces.Discrete):
        assert make_model(algorithm, Anything(action_space=space)).action_space == space
        return
    with pytest.raises(ValueError, match="Box or Discrete" if algorithm is ES else "a Box: ") as error:
        make_model(algorithm, Anything(action_space=space))
    assert str(space) in str(error.value)


@pytest.mark.parametrize("space", [spaces.Discrete(2), spaces.Discrete(4), spaces.Discrete(3, start=5)], ids=name_of)
@pytest.mark.parametrize("policy", ["MlpPolicy", "LinearPolicy"])
@pytest.mark.parametrize("n_envs", [1, 3])
def test_discrete_actions(space, policy, n_envs):
    envs = [Anything(action_space=space) for _ in range(n_envs)]
    venv = DummyVecEnv([lambda env=env: env for env in envs])
    options = dict(policy_kwargs=None if policy == "LinearPolicy" else dict(net_arch=[8]), normalize_observations=True)
    model = make_model(ES, venv, policy, seed=0, sigma=1.0, **options).learn(200)
    played = [action for env in envs for action in env.actions]
    assert len(played) == model.num_timesteps
    # As from any other algorithm, each environment gets a scalar of its space.
    assert all(space.contains(action) for action in played) and {action.dtype for action in played} == {space.dtype}
    assert {int(action) for action in played} == set(range(int(space.start), int(space.start + space.n)))
    observations = np.stack([model.observation_space.sample() for _ in range(50)])
    actions = model.predict(observations)[0]
    assert actions.shape == (50,) and actions.dtype == space.dtype
    assert all(space.contains(action) for action in actions)
    assert model.predict(observations[0])[0].shape == ()


def test_scores_become_actions():
    """The highest score is played, in numpy as in torch."""
    model = make_model(ES, Anything(action_space=spaces.Discrete(3, start=2)), "LinearPolicy", policy_kwargs=None)
    model.set_parameters({"policy": {"mu.0.weight": th.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])}}, exact_match=False)
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp)
    for act in (player.bind(model.population.mean), TorchActor(model.actor).bind(model.population.mean)):
        for observation, expected in (([2, 1], 2), ([1, 2], 3), ([-1, -2], 4), ([-9, 1], 4), ([0, 0], 2)):
            action = act(np.array(observation, dtype=np.float32))
            assert action == expected and action.shape == () and isinstance(action, np.generic)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("low, high", [(-np.inf, np.inf), (0.0, np.inf), (-np.inf, 0.0)])
def test_bounds_must_be_finite(algorithm, low, high):
    space = spaces.Box(np.array([low, -1.0], np.float32), np.array([high, 1.0], np.float32))
    with pytest.raises(ValueError, match="finite bounds") as error:
        make_model(algorithm, Anything(action_space=space))
    assert str(space) in str(error.value) and "RescaleAction" in str(error.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dict_observations_need_their_policy(algorithm):
    space = spaces.Dict({"one": spaces.Box(-1.0, 1.0, (2,)), "two": spaces.Discrete(3)})
    with pytest.raises(ValueError, match="MultiInputPolicy"):
        make_model(algorithm, Anything(space))
    model = make_model(algorithm, Anything(space), policy="MultiInputPolicy", seed=0).learn(60)
    assert model.action_space.contains(model.predict(space.sample())[0])
