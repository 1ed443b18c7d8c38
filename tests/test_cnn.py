"""Image observations."""

import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from helpers import ALGORITHMS, DEVICE, HYBRIDS, arguments_for
from stable_baselines3 import TD3
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import NatureCNN
from stable_baselines3.common.utils import zip_strict
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage, is_vecenv_wrapped
from support import is_finite, tiny

from sb3_esac import ES, ESAC
from sb3_esac.es_policies import CnnPolicy
from sb3_esac.evaluation.numpy_cnn import NumpyCnn
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.vectors import to_vector

SMALL = dict(
    buffer_size=80,
    batch_size=4,
    learning_starts=5,
    policy_kwargs=dict(net_arch=[8], features_extractor_kwargs=dict(features_dim=8)),
)


def images(n_envs=1, channel_first=False, n_channels=1, n_stack=None):
    def make():
        env = FakeImageEnv(
            screen_height=36, screen_width=36, n_channels=n_channels, discrete=False, channel_first=channel_first
        )
        return Monitor(TimeLimit(env, 5))

    env = DummyVecEnv([make for _ in range(n_envs)])
    return env if n_stack is None else VecFrameStack(env, n_stack)


@pytest.mark.parametrize("kwargs", [{}, dict(agent_class=TD3), dict(algorithm=ES)], ids=["ESAC", "TD3", "ES"])
@pytest.mark.parametrize("channel_first", [False, True])
def test_learn_save_load_predict(kwargs, channel_first, tmp_path):
    algorithm = kwargs.get("algorithm", ESAC)
    model = tiny(images(channel_first=channel_first), "CnnPolicy", **SMALL, **kwargs).learn(80)
    assert is_vecenv_wrapped(model.get_env(), VecTransposeImage) is not channel_first
    assert model.observation_space.shape == (1, 36, 36)
    assert model.population.generation > 0 and is_finite(model)
    if algorithm in HYBRIDS:
        assert model._n_updates > 0
        for store in (model.replay_buffer, model.replay_buffer.population_store):
            assert store.observations.dtype == np.uint8 and store.size() > 0
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", device=DEVICE)
    observation = model.get_env().reset()
    for deploy in ("best", "agent", "population") if algorithm in HYBRIDS else ("best", "population"):
        model.deploy = loaded.deploy = deploy
        actions = model.predict(observation, deterministic=True)[0]
        np.testing.assert_array_equal(actions, loaded.predict(observation, deterministic=True)[0])
        assert model.action_space.contains(actions[0])
    # Also with the channels where the environment has them.
    raw = images(channel_first=channel_first).reset()
    assert loaded.predict(raw[0])[0].shape == loaded.action_space.shape


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_stacked_frames(algorithm):
    model = tiny(images(2, n_stack=2), "CnnPolicy", algorithm=algorithm, **SMALL).learn(60)
    assert model.observation_space.shape == (2, 36, 36) and is_finite(model)
    if algorithm in HYBRIDS:
        assert model.replay_buffer.population_store.observations.shape[-3:] == (2, 36, 36)


def test_the_population_searches_the_actors_own_extractor():
    model = tiny(images(), "CnnPolicy", **SMALL)
    actor, critic = model.actor, model.critic
    assert actor.features_extractor is not critic.features_extractor
    extractor = sum(parameter.numel() for parameter in actor.features_extractor.parameters())
    assert extractor > 0 and model.population.mean.size > extractor
    before = [parameter.clone() for parameter in critic.parameters()]
    model.set_parameters({"population": {"mean": th.as_tensor(model.population.mean + 1)}}, exact_match=False)
    model.deploy = "population"
    model.predict(model.get_env().reset())
    model.learn(20)
    for old, new in zip_strict(before, critic.parameters()):
        if model._n_updates == 0:
            assert th.equal(old, new)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_offspring_play_what_predict_plays(algorithm):
    model = tiny(images(), "CnnPolicy", algorithm=algorithm, **SMALL)
    player = make_player(model.actor)
    assert isinstance(player, NumpyCnn)
    observation = model.get_env().reset()[0]
    expected = model.policy.predict(observation, deterministic=True)[0]
    np.testing.assert_allclose(player.bind(to_vector(model.actor))(observation), expected, atol=1e-5)


PICTURES = spaces.Box(0, 255, (4, 84, 60), np.uint8)
CHOICES = [spaces.Discrete(6), spaces.Box(-2.0, 1.0, (3,), np.float32)]


@pytest.mark.parametrize("net_arch", [[], [16, 8]])
@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("space", CHOICES, ids=str)
def test_pictures_in_numpy_are_those_of_torch(space, normalized, net_arch):
    """Of any shape, divided by 255 or not, with all that comes behind the convolutions."""
    policy = CnnPolicy(PICTURES, space, net_arch=net_arch, normalize_images=normalized)
    player, rng = make_player(policy), np.random.default_rng(0)
    assert isinstance(player, NumpyCnn)
    vector = to_vector(policy) + 0.05 * rng.standard_normal(to_vector(policy).size).astype(np.float32)
    act, other, reference = player.bind(vector), player.bind(-vector), TorchActor(policy).bind(vector)
    vector[:] = np.nan
    for _ in range(20):
        picture = rng.integers(256, size=PICTURES.shape, dtype=np.uint8)
        other(picture)
        np.testing.assert_allclose(act(picture), reference(picture), rtol=1e-4, atol=1e-4)
    assert pickle.loads(pickle.dumps(player)).bind(to_vector(policy))(picture) is not None


class Padded(NatureCNN):
    """Another network of the same name."""


@pytest.mark.parametrize("what", ["class", "padding", "activation", "forward"])
def test_other_convolutions_are_torchs(what, monkeypatch):
    kwargs = {"features_extractor_class": Padded} if what == "class" else {}
    policy = CnnPolicy(PICTURES, CHOICES[0], net_arch=[8], **kwargs)
    cnn = policy.features_extractor.cnn
    if what == "padding":
        cnn[0].padding, cnn[2].padding = (0, 0), (0, 0)
        cnn[0].dilation = (2, 2)
        policy.features_extractor.linear[0] = th.nn.Linear(64 * 6 * 3, 512)
    elif what == "activation":
        cnn[1] = th.nn.Tanh()
    elif what == "forward":
        monkeypatch.setattr(policy.features_extractor, "forward", lambda pictures: -NatureCNN.forward(extractor, pictures))
        extractor = policy.features_extractor
    assert isinstance(make_player(policy), TorchActor)


@pytest.mark.parametrize("agent_class", [None, TD3])
def test_a_shared_extractor_is_refused(agent_class):
    kwargs = {} if agent_class is None else dict(agent_class=agent_class)
    policy_kwargs = dict(SMALL["policy_kwargs"], share_features_extractor=True)
    with pytest.raises(ValueError, match=r"share_features_extractor=True.*pass.*share_features_extractor=False"):
        tiny(images(), "CnnPolicy", **{**SMALL, "policy_kwargs": policy_kwargs}, **kwargs)


def test_sharing_an_extractor_without_parameters_does_no_harm():
    from support import vec

    model = tiny(vec(1), policy_kwargs=dict(net_arch=[8], share_features_extractor=True)).learn(60)
    assert model.actor.features_extractor is model.critic.features_extractor


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_images_are_not_normalised_by_default(algorithm):
    arguments = dict(population_size=4, device=DEVICE, champion_episodes=1, seed=0, backend="lockstep", **SMALL)
    model = algorithm("CnnPolicy", images(), **arguments_for(algorithm, arguments))
    assert not model.normalize_observations
    model.learn(30)
