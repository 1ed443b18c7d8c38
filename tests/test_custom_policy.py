"""Architectures, activations, extractors, optimisers and policies of the user's."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch as th
from helpers import DEVICE, Drift, make_model
from stable_baselines3 import TD3
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor
from stable_baselines3.sac.policies import Actor, MultiInputPolicy, SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from support import DictWalk, is_finite, tiny, vec

from sb3_esac import ES, ESAC
from sb3_esac.es_policies import LinearPolicy, MlpPolicy
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.vectors import load_vector, to_vector

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def plays_what_predict_plays(model):
    """Compare an offspring without noise with the agent."""
    player = make_player(model.actor)
    act = player.bind(to_vector(model.actor))
    expected = model.agent.predict(OBSERVATIONS, deterministic=True)[0]
    np.testing.assert_allclose([act(observation) for observation in OBSERVATIONS], expected, atol=1e-5)
    return player


def roundtrip(model, path, env=None, **kwargs):
    model.save(path)
    loaded = ESAC.load(path, env=vec(1) if env is None else env, device=DEVICE, **kwargs)
    observations = loaded.get_env().reset() if env is not None else OBSERVATIONS
    for deploy in ("best", "agent", "population"):
        model.deploy = loaded.deploy = deploy
        np.testing.assert_array_equal(
            model.predict(observations, deterministic=True)[0], loaded.predict(observations, deterministic=True)[0]
        )
    return loaded


@pytest.mark.parametrize("agent_class", [None, TD3])
@pytest.mark.parametrize(
    "net_arch", [[], [12], [4, 6, 5], dict(pi=[4, 4], qf=[12, 10]), dict(pi=[], qf=[5]), dict(pi=[7], qf=[])]
)
def test_net_arch(net_arch, agent_class, tmp_path):
    kwargs = {} if agent_class is None else dict(agent_class=agent_class)
    model = tiny(vec(1), policy_kwargs=dict(net_arch=net_arch), **kwargs)
    widths = net_arch["pi"] if isinstance(net_arch, dict) else net_arch
    sizes = [3, *widths, 1]
    assert model.population.mean.size == sum((a + 1) * b for a, b in pairwise(sizes))
    assert isinstance(plays_what_predict_plays(model), NumpyMlp)
    model.learn(80)
    assert is_finite(model)
    roundtrip(model, tmp_path / "model.zip")


@pytest.mark.parametrize("activation, fast", [(th.nn.ReLU, True), (th.nn.Tanh, True), (th.nn.ELU, False), (th.nn.SiLU, False)])
def test_activation(activation, fast, tmp_path):
    model = tiny(vec(1), policy_kwargs=dict(net_arch=[8, 8], activation_fn=activation)).learn(60)
    assert isinstance(plays_what_predict_plays(model), NumpyMlp if fast else TorchActor)
    loaded = roundtrip(model, tmp_path / "model.zip")
    assert loaded.policy.activation_fn is activation


class Squares(BaseFeaturesExtractor):
    """Has parameters of its own and a batch norm, whose statistics are no parameters."""

    def __init__(self, observation_space, features_dim=6, with_norm=False):
        super().__init__(observation_space, features_dim)
        self.linear = th.nn.Linear(observation_space.shape[0], features_dim)
        self.norm = th.nn.BatchNorm1d(features_dim) if with_norm else th.nn.Identity()

    def forward(self, observations):
        return self.norm(self.linear(observations)) ** 2


@pytest.mark.parametrize("with_norm", [False, True])
def test_features_extractor(with_norm, tmp_path):
    policy_kwargs = dict(
        net_arch=[8], features_extractor_class=Squares, features_extractor_kwargs=dict(features_dim=5, with_norm=with_norm)
    )
    model = tiny(vec(1), policy_kwargs=policy_kwargs).learn(100)
    assert type(model.actor.features_extractor) is Squares and model.actor.features_extractor.features_dim == 5
    assert isinstance(plays_what_predict_plays(model), TorchActor)
    extractor = sum(parameter.numel() for parameter in model.actor.features_extractor.parameters())
    assert model.population.mean.size == extractor + (5 + 1) * 8 + (8 + 1)
    assert model._n_updates > 0 and is_finite(model)
    if with_norm:
        # SAC's own two passes per update; playing does not change them.
        assert int(model.actor.features_extractor.norm.num_batches_tracked) == 2 * model._n_updates
    assert "features_extractor_class" in policy_kwargs and len(policy_kwargs) == 3, "what the user gave is left alone"
    loaded = roundtrip(model, tmp_path / "model.zip")
    loaded.learn(60)


class Small(SACPolicy):
    """A policy with a default of its own, that hands the rest on."""

    def __init__(self, *args, **kwargs):
        kwargs.setdefault("net_arch", [6])
        super().__init__(*args, **kwargs)


class Doubled(Actor):
    """An actor that is no plain multi-layer perceptron, though it looks like one."""

    def get_action_dist_params(self, obs):
        mean, log_std, kwargs = super().get_action_dist_params(obs)
        return 2 * mean + 0.3, log_std, kwargs


class WithDoubledActor(SACPolicy):
    def make_actor(self, features_extractor=None):
        kwargs = self._update_features_extractor(self.actor_kwargs, features_extractor)
        return Doubled(**kwargs).to(self.device)


def test_policy_class(tmp_path):
    model = tiny(vec(1), Small, policy_kwargs=None)
    assert type(model.policy) is Small and model.population.mean.size == 4 * 6 + 7
    assert isinstance(plays_what_predict_plays(model), NumpyMlp)
    model.learn(100)
    loaded = roundtrip(model, tmp_path / "model.zip")
    assert type(loaded.policy) is Small


def test_actor_with_another_forward(tmp_path):
    model = tiny(vec(1), WithDoubledActor)
    assert isinstance(plays_what_predict_plays(model), TorchActor), "it was taken for a plain perceptron"
    model.learn(100)
    assert is_finite(model)
    roundtrip(model, tmp_path / "model.zip")


class SmallMultiInput(MultiInputPolicy):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)


def test_policy_class_for_dict_observations(tmp_path):
    env = vec(1, DictWalk)
    model = tiny(env, SmallMultiInput, normalize_observations=True).learn(80)
    roundtrip(model, tmp_path / "model.zip", env)


def test_policy_class_of_another_agent():
    class Tiny(TD3Policy):
        pass

    model = tiny(vec(1), Tiny, agent_class=TD3).learn(80)
    assert type(model.policy) is Tiny


def test_unknown_policy():
    with pytest.raises(ValueError, match=r"Policy 'MplPolicy' unknown.*'MlpPolicy'"):
        tiny(vec(1), "MplPolicy")


@pytest.mark.parametrize(
    "optimizer, arguments",
    [(th.optim.AdamW, dict(weight_decay=0.1)), (th.optim.RMSprop, dict(alpha=0.9)), (th.optim.SGD, dict(momentum=0.5))],
)
def test_optimizer(optimizer, arguments, tmp_path):
    policy_kwargs = dict(net_arch=[8], optimizer_class=optimizer, optimizer_kwargs=arguments)
    model = tiny(vec(1), policy_kwargs=policy_kwargs).learn(100)
    ((name, value),) = arguments.items()
    for part in (model.actor, model.critic):
        assert type(part.optimizer) is optimizer and part.optimizer.param_groups[0][name] == value
    loaded = roundtrip(model, tmp_path / "model.zip")
    ours, theirs = model.critic.optimizer.state_dict(), loaded.critic.optimizer.state_dict()
    assert ours["state"] and ours["state"].keys() == theirs["state"].keys()
    for key, moments in ours["state"].items():
        assert all(
            th.equal(th.as_tensor(v).cpu(), th.as_tensor(theirs["state"][key][n]).cpu())
            for n, v in moments.items()
            if v is not None
        )
    updates = loaded._n_updates
    loaded.learn(200, reset_num_timesteps=False)
    assert loaded._n_updates > updates


def test_number_of_critics():
    assert len(tiny(vec(1), policy_kwargs=dict(net_arch=[8], n_critics=3)).critic.q_networks) == 3


def test_policy_kwargs_are_left_alone():
    policy_kwargs = dict(net_arch=[8])
    tiny(vec(1), policy_kwargs=policy_kwargs, normalize_observations=True)
    tiny(vec(1), policy_kwargs=policy_kwargs, use_sde=True)
    assert policy_kwargs == dict(net_arch=[8])


def test_default_extractor_is_the_flat_one():
    assert type(tiny(vec(1)).actor.features_extractor) is FlattenExtractor


# -- in both algorithms: what is played is the policy, and what is frozen in it stays ------------------------------------


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
