"""Policies of the user's: they are played as they are, and what is frozen in them stays."""

from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import DEVICE, Drift, make_model
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_esac import ES, ESAC
from sb3_esac.es_policies import LinearPolicy, MlpPolicy
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.vectors import load_vector, to_vector


class Squared(LinearPolicy):
    """All weights are zero at birth, and then it says what a linear policy would."""

    def forward(self, obs: Any) -> th.Tensor:
        return self.mu(self.extract_features(obs, self.features_extractor) ** 2)


class Limited(MlpPolicy):
    """What a network says at birth is within the limit."""

    def forward(self, obs: Any) -> th.Tensor:
        return th.clamp(super().forward(obs), -0.3, 0.3)


@pytest.mark.parametrize("policy", [Squared, Limited])
def test_another_forward_is_played(policy):
    model = make_model(ES, Drift(), policy=policy, **({"policy_kwargs": {}} if policy is Squared else {}))
    player = make_player(model.actor)
    assert isinstance(player, TorchActor)
    vector = np.random.default_rng(0).standard_normal(len(model.population.mean)).astype(np.float32)
    observation = np.array([0.6, -0.8, 1.0], np.float32)
    played = player.bind(vector)(observation)
    load_vector(model.actor, vector)
    np.testing.assert_allclose(played, model.actor.predict(observation, deterministic=True)[0], rtol=1e-5)


@pytest.mark.parametrize("policy", ["MlpPolicy", "LinearPolicy"])
def test_plain_ones_are_played_fast(policy):
    for net_arch in ([8], [256, 256]):
        kwargs = {} if policy == "LinearPolicy" else dict(net_arch=net_arch)
        assert isinstance(make_player(make_model(ES, Drift(), policy=policy, policy_kwargs=kwargs).actor), NumpyMlp)


class Trained(BaseFeaturesExtractor):
    """A layer that others have trained."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 4)
        self.layer = th.nn.Linear(space.shape[0], 4)
        self.layer.requires_grad_(False)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return th.tanh(self.layer(observations))


@pytest.mark.parametrize("algorithm", [ES, ESAC])
def test_what_is_frozen_is_not_searched(algorithm, tmp_path):
    kwargs = dict(features_extractor_class=Trained, net_arch=[8])
    model = make_model(algorithm, Drift(), policy_kwargs=kwargs, seed=1)
    before = model.actor.features_extractor.layer.weight.clone()
    mean = model.population.mean.copy()
    assert len(mean) == 4 * 8 + 8 + 8 + 1
    model.learn(400)
    assert th.equal(model.actor.features_extractor.layer.weight, before) and not np.array_equal(model.population.mean, mean)
    assert th.equal(model.champion.actor.features_extractor.layer.weight.to(DEVICE), before)
    # As users do who let an actor rest at first: nobody asks the population.
    model.actor.requires_grad_(False)
    model.learn(100, reset_num_timesteps=False)
    assert len(model.population.mean) == len(mean)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=Drift())
    np.testing.assert_array_equal(to_vector(loaded.actor), to_vector(model.actor))
    assert th.equal(loaded.actor.features_extractor.layer.weight, before)
