"""Generalised state-dependent exploration of the agent."""

import numpy as np
import pytest
import torch as th
from helpers import DEVICE, keep_log
from sb3_contrib import TQC
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from support import is_finite, tiny, vec, walks

from sb3_esac import ESAC
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import copy_actor, searched_parameters, to_vector

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


@pytest.mark.parametrize("agent_class", [SAC, TQC])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("sde_sample_freq", [-1, 4])
def test_learn(agent_class, n_envs, sde_sample_freq, tmp_path):
    model = tiny(vec(n_envs), agent_class=agent_class, use_sde=True, sde_sample_freq=sde_sample_freq).learn(120)
    assert model.agent.use_sde and model.actor.use_sde and model.agent.sde_sample_freq == sde_sample_freq
    assert model._n_updates > 0 and is_finite(model)
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", env=vec(n_envs), device=DEVICE)
    assert loaded.agent.use_sde
    for deploy in ("best", "agent", "population"):
        model.deploy = loaded.deploy = deploy
        np.testing.assert_array_equal(
            model.predict(OBSERVATIONS, deterministic=True)[0], loaded.predict(OBSERVATIONS, deterministic=True)[0]
        )
        assert np.abs(model.predict(OBSERVATIONS)[0]).max() <= 1
    loaded.learn(60)


@pytest.mark.parametrize("use_sde_at_warmup", [False, True])
def test_warm_up(use_sde_at_warmup):
    model = tiny(vec(1), use_sde=True, use_sde_at_warmup=use_sde_at_warmup, learning_starts=1000, agent_fraction=0.5)
    model.learn(80)
    actions = model.replay_buffer.actions[: model.replay_buffer.size(), 0, 0]
    # Random actions cover the whole range, gSDE explores around the policy.
    assert (np.abs(actions).std() > 0.2) and model._n_updates == 0
    assert model.agent.use_sde_at_warmup is use_sde_at_warmup


def test_a_copy_has_its_noise_where_it_lives():
    model = tiny(vec(1), use_sde=True).learn(60)
    noise = copy_actor(model.actor, "meta").action_dist.exploration_mat
    assert noise.device.type == "meta" and model.actor.action_dist.exploration_mat.device.type == DEVICE


def test_exploration_is_not_searched():
    model = tiny(vec(1), use_sde=True)
    assert isinstance(model.actor.log_std, th.nn.Parameter)
    names = [name for name, _ in searched_parameters(model.actor)]
    assert names and not any("log_std" in name for name in names)


def test_offspring_play_without_noise():
    env = vec(1)
    model = tiny(env, use_sde=True)
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp)
    act = player.bind(to_vector(model.actor))
    expected = model.agent.predict(OBSERVATIONS, deterministic=True)[0]
    np.testing.assert_allclose([act(observation) for observation in OBSERVATIONS], expected, atol=1e-6)
    # The clipped mean as well, where it is clipped.
    with th.no_grad():
        model.actor.mu[0].bias.fill_(5.0)
    act = make_player(model.actor).bind(to_vector(model.actor))
    expected = model.agent.predict(OBSERVATIONS, deterministic=True)[0]
    np.testing.assert_allclose([act(observation) for observation in OBSERVATIONS], expected, atol=1e-6)
    assert expected == pytest.approx(np.tanh(2.0))
    assert walks(env)[0].n_steps == 0


def test_the_agents_noise_is_renewed():
    class Watch(BaseCallback):
        def __init__(self):
            super().__init__()
            self.matrices = []

        def _on_step(self):
            if self.model.agent_timesteps > len(self.matrices):
                self.matrices.append(self.model.actor.action_dist.exploration_mat.detach().clone())
            return True

    watch = Watch()
    tiny(vec(1), use_sde=True, sde_sample_freq=-1, train_freq=5, gradient_steps=0, agent_fraction=0.5).learn(
        100, callback=watch
    )
    changes = [not th.equal(one, other) for one, other in zip(watch.matrices, watch.matrices[1:], strict=False)]
    assert any(changes) and not all(changes), "one matrix for each rollout of five steps"


@pytest.mark.parametrize("agent_class", [SAC, TQC])
def test_the_width_of_the_noise_is_logged(agent_class):
    model = tiny(vec(1), agent_class=agent_class, use_sde=True, policy_kwargs=dict(net_arch=[8], log_std_init=-1.0))
    log = keep_log(model)
    model.learn(120)
    assert all("train/std" in entry for entry in log)
    assert log[-1]["train/std"] == pytest.approx(model.actor.get_std().mean().item()) == pytest.approx(np.exp(-1), rel=0.2)
    model = tiny(vec(1), agent_class=agent_class)
    log = keep_log(model)
    model.learn(120)
    assert log and not any("train/std" in entry for entry in log)


def test_the_same_seed_gives_the_same_run():
    means = [to_vector(tiny(vec(1), use_sde=True, seed=4).learn(120).actor) for _ in range(2)]
    np.testing.assert_array_equal(*means)


def test_agents_without_sde_refuse_it():
    with pytest.raises(ValueError, match="use_sde=True"):
        tiny(vec(1), agent_class=TD3, use_sde=True)
