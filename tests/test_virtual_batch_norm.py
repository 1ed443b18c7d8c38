"""Virtual batch normalisation: what the network of ES's ``CnnPolicy`` computes, and where its batch of pictures comes from."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.torch_layers import NatureCNN
from support import tiny
from test_cnn import PICTURES, SMALL

from sb3_esac import ES
from sb3_esac.es_policies import CnnPolicy
from sb3_esac.evaluation.numpy_cnn import NumpyCnn
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.random_play import PICTURE_EPISODES
from sb3_esac.evaluation.vectors import load_vector, to_vector
from sb3_esac.evaluation.virtual_batch_norm import EPSILON

RNG_SEED = 0


class Pictures(gym.Env):
    """Five random pictures, which the seed decides; bright ones ask for large actions."""

    observation_space = spaces.Box(0, 255, (1, 36, 36), np.uint8)
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def see(self):
        self.seen = self.np_random.integers(self.np_random.integers(50, 256), size=(1, 36, 36), dtype=np.uint8)
        return self.seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.see(), {}

    def step(self, action):
        self.t += 1
        reward = -float(np.abs(action - (self.seen.mean() / 64 - 1)).sum())
        return self.see(), reward, False, self.t >= 5, {}


def some_pictures(n, space=PICTURES):
    return np.random.default_rng(RNG_SEED).integers(256, size=(n, *space.shape), dtype=np.uint8)


ACTIONS = spaces.Discrete(6)


def policy_with_batch(space=ACTIONS, **kwargs):
    th.manual_seed(0)
    policy = CnnPolicy(PICTURES, space, **kwargs)
    policy.features_extractor.fill(some_pictures(200))
    return policy


def normalized(layer, values, reference):
    """A layer by the book: on the batch of a batch norm with bias and without gain."""
    without = copy.deepcopy(layer)
    bias = without.bias.data.clone()
    without.bias.data.zero_()
    seen = without(reference)
    over = [0, 2, 3] if seen.dim() == 4 else [0]
    mean, variance = seen.mean(over, keepdim=True), seen.var(over, unbiased=False, keepdim=True)
    bias = bias.view(mean.shape)
    return tuple(th.relu((without(each) - mean) / th.sqrt(variance + EPSILON) + bias) for each in (values, reference))


@pytest.mark.parametrize("normalize_images", [True, False])
def test_layers_are_normalised_on_the_batch(normalize_images):
    policy = policy_with_batch(normalize_images=normalize_images)
    extractor = policy.features_extractor
    with th.no_grad():
        for parameter in extractor.parameters():
            parameter.add_(0.02 * th.randn_like(parameter))
        divisor = 255.0 if normalize_images else 1.0
        chosen = some_pictures(200)[np.linspace(0, 199, 128).round().astype(int)]
        np.testing.assert_array_equal(extractor.pictures.numpy(), chosen)
        values, reference = th.as_tensor(some_pictures(3)) / divisor, th.as_tensor(chosen) / divisor
        found = extractor(values)
        for layer in extractor.cnn[:-1:2]:
            values, reference = normalized(layer, values, reference)
        values, reference = normalized(extractor.linear[0], values.flatten(1), reference.flatten(1))
    np.testing.assert_allclose(found, values, atol=2e-3)


@pytest.mark.parametrize("space", [spaces.Discrete(6), spaces.Box(-2.0, 1.0, (3,), np.float32)], ids=str)
def test_numpy_plays_what_torch_plays(space):
    policy = policy_with_batch(space)
    player = make_player(policy)
    assert isinstance(player, NumpyCnn) and player.normalization is not None
    vector = to_vector(policy) + np.random.default_rng(1).normal(0, 0.05, to_vector(policy).size).astype(np.float32)
    acts = [each.bind(vector) for each in (player, pickle.loads(pickle.dumps(player)), TorchActor(policy))]
    for picture in some_pictures(10):
        numpys, again, torchs = (act(picture) for act in acts)
        np.testing.assert_allclose(numpys, torchs, atol=1e-4)
        np.testing.assert_array_equal(numpys, again)


def test_statistics_follow_the_parameters():
    policy = policy_with_batch()
    pictures = th.as_tensor(some_pictures(2)) / 255.0
    with th.no_grad():
        first = policy.features_extractor(pictures)
        vector = to_vector(policy)
        load_vector(policy, -vector)
        assert not th.equal(policy.features_extractor(pictures), first)
        load_vector(policy, vector)
        assert th.equal(policy.features_extractor(pictures), first)
        twin = copy.deepcopy(policy)
        twin.features_extractor.fill(some_pictures(300)[200:])
        second = twin.features_extractor(pictures)
        assert not th.equal(second, first)
        # Another batch for the same parameters
        third = copy.deepcopy(policy)
        third.features_extractor(pictures)
        third.load_state_dict(twin.state_dict())
        assert th.equal(third.features_extractor(pictures), second)
        # The scale of a layer's weights is of no consequence.
        policy.features_extractor.cnn[2].weight.mul_(3)
        np.testing.assert_allclose(policy.features_extractor(pictures), first, atol=1e-3)


def n_actions_of(policy, sigma, n_networks=8):
    rng, vector, player = np.random.default_rng(2), to_vector(policy), make_player(policy)
    counts = []
    for _ in range(n_networks):
        act = player.bind(vector + sigma * rng.standard_normal(vector.size, dtype=np.float32))
        counts.append(len({int(act(picture)) for picture in some_pictures(30)}))
    return counts


def test_perturbed_networks_look_at_the_picture():
    assert min(n_actions_of(policy_with_batch(), 0.02)) > 1
    plain = CnnPolicy(PICTURES, spaces.Discrete(6), features_extractor_class=NatureCNN)
    assert min(n_actions_of(plain, 0.02)) == 1


ARGUMENTS = {**SMALL, "policy_kwargs": dict(net_arch=[8], features_extractor_kwargs=dict(features_dim=8, n_pictures=6))}


def test_the_batch_is_played_at_random_and_counted():
    model = tiny(Pictures(), "CnnPolicy", algorithm=ES, **ARGUMENTS, population_size=4, champion_episodes=0)
    extractor = model.policy.features_extractor
    assert not extractor.is_filled and not extractor.pictures.any()
    model.learn(5 * PICTURE_EPISODES + 1)
    assert extractor.is_filled and len({picture.tobytes() for picture in extractor.pictures.numpy()}) == 6
    # Five steps in each episode.
    assert model.num_timesteps == 5 * (PICTURE_EPISODES + 4) and model.population.generation == 1
    assert model.arena.random_timesteps == 5 * PICTURE_EPISODES
    pictures = extractor.pictures.clone()
    model.learn(1, reset_num_timesteps=False)
    assert th.equal(extractor.pictures, pictures) and model.num_timesteps == 5 * (PICTURE_EPISODES + 8)


def test_workers_play_the_same(tmp_path):
    means = []
    for kwargs in ({}, {"n_workers": 2, "backend": "subproc"}):
        model = tiny(Pictures(), "CnnPolicy", algorithm=ES, **{**ARGUMENTS, "backend": "auto", **kwargs}).learn(80)
        means.append(model.population.mean)
    np.testing.assert_array_equal(*means)


def test_saved_and_resumed(tmp_path):
    model = tiny(Pictures(), "CnnPolicy", algorithm=ES, **ARGUMENTS)
    model.learn(120, callback=CheckpointCallback(1, tmp_path, "at"))
    observation = model.get_env().reset()
    for step in (3, 12, 30, 60):
        loaded = ES.load(tmp_path / f"at_{step}_steps", env=Pictures(), device="cpu")
        loaded.learn(120 - loaded.num_timesteps, reset_num_timesteps=False)
        assert loaded.num_timesteps == model.num_timesteps
        np.testing.assert_array_equal(loaded.population.mean, model.population.mean)
        np.testing.assert_array_equal(loaded.predict(observation)[0], model.predict(observation)[0])


def test_a_callback_may_stop_it():
    model = tiny(Pictures(), "CnnPolicy", algorithm=ES, **ARGUMENTS)
    model.learn(100, callback=lambda variables, globals: False)
    assert model.num_timesteps == 1 and not model.policy.features_extractor.is_filled
