"""Layers that behave differently while training do so in gradient steps alone."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from helpers import ALGORITHMS, DEPLOYED, HYBRIDS, drift, make_model
from stable_baselines3.common.preprocessing import get_flattened_obs_dim
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from sb3_esac import ES
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import to_vector


class BatchNormDropout(BaseFeaturesExtractor):
    """A features extractor whose outcome depends on its mode."""

    def __init__(self, observation_space: gym.Space) -> None:
        super().__init__(observation_space, get_flattened_obs_dim(observation_space))
        self.flatten = th.nn.Flatten()
        self.batch_norm = th.nn.BatchNorm1d(self._features_dim)
        self.dropout = th.nn.Dropout(0.5)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        return self.dropout(self.batch_norm(self.flatten(observations)))


KWARGS = dict(policy_kwargs=dict(net_arch=[8], features_extractor_class=BatchNormDropout), seed=1)
OBSERVATIONS = np.random.Generator(np.random.Philox(1)).standard_normal((6, 3)).astype(np.float32)


def statistics(model):
    """Running statistics of the actor's and the critics' batch normalisation."""
    return {
        name: value.clone()
        for name, value in model.policy.state_dict().items()
        if name.endswith(("running_mean", "running_var", "num_batches_tracked"))
    }


def changed(before, after, part):
    return any(not th.equal(before[name], after[name]) for name in before if name.startswith(f"{part}."))


def test_statistics_of_layers_never_move_without_gradients():
    """Batch normalisation is of no use to ES, but does no harm either."""
    model = make_model(ES, drift(), **KWARGS)
    before = statistics(model)
    model.policy.set_training_mode(True)
    model.learn(120)
    assert before and not any(changed(before, statistics(model), part) for part in ("features_extractor", "mu"))
    assert model.population.strategy.optimizer.steps > 0


@pytest.mark.parametrize("algorithm", HYBRIDS)
def test_statistics_move_in_gradient_steps_alone(algorithm):
    model = make_model(algorithm, drift(), learning_starts=0, **KWARGS)
    before = statistics(model)
    assert before
    model.predict(OBSERVATIONS)
    assert not any(changed(before, statistics(model), part) for part in ("actor", "critic", "critic_target"))

    # Population and agent play, but there is no gradient step.
    model.gradient_steps = 0
    model.learn(120)
    assert model.agent_timesteps > 0 and model._n_updates == 0
    assert not any(changed(before, statistics(model), part) for part in ("actor", "critic", "critic_target"))

    model.gradient_steps = 1
    model.learn(120)
    assert model._n_updates > 0
    assert all(changed(before, statistics(model), part) for part in ("actor", "critic"))

    before = statistics(model)
    model.predict(OBSERVATIONS)
    assert not any(changed(before, statistics(model), part) for part in ("actor", "critic", "critic_target"))


@pytest.mark.parametrize("algorithm, deploy", DEPLOYED)
def test_predict_is_in_evaluation_mode(algorithm, deploy):
    model = make_model(algorithm, drift(), deploy=deploy, **KWARGS).learn(100)
    model.policy.set_training_mode(True)
    model.deployed_policy.set_training_mode(True)
    actions = [model.predict(OBSERVATIONS, deterministic=True)[0] for _ in range(3)]
    assert np.array_equal(actions[0], actions[1]) and np.array_equal(actions[0], actions[2])
    # Each observation by itself, so no statistics of the batch came in.
    single = np.stack([model.predict(observation, deterministic=True)[0] for observation in OBSERVATIONS])
    assert np.allclose(actions[0], single, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_offspring_play_in_evaluation_mode(algorithm):
    model = make_model(algorithm, drift(), **KWARGS).learn(100)
    model.policy.set_training_mode(True)
    act = make_player(model.actor).bind(to_vector(model.actor))
    expected = model.policy.predict(OBSERVATIONS, deterministic=True)[0]
    for _ in range(2):
        assert np.allclose(np.stack([act(observation) for observation in OBSERVATIONS]), expected, atol=1e-6)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_evaluating_leaves_the_policys_mode_alone(algorithm):
    """The actor that is copied for the offspring may be in training mode."""
    model = make_model(algorithm, drift(), **KWARGS)
    for mode in (True, False):
        model.policy.set_training_mode(mode)
        make_player(model.actor)
        assert model.actor.training is mode
