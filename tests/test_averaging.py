"""The agent's actor, averaged over its latest updates: what is probed and deployed of it."""

import numpy as np
import pytest
import torch as th
from sb3_contrib import CrossQ
from stable_baselines3 import SAC, TD3
from support import tiny, vec

from sb3_esac import ESAC
from sb3_esac.agent.averaging import AveragedActor
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evaluation.vectors import load_vector, to_vector

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def deterministic(policy):
    return policy.predict(OBSERVATIONS, deterministic=True)[0]


@pytest.mark.parametrize("n_new", [1, 4])
def test_window_grows_with_the_number_of_updates(n_new):
    actor = tiny(vec(1)).actor
    average, expected = AveragedActor(actor, 0.1), to_vector(actor)
    rng = np.random.default_rng(0)
    for n_updates in range(n_new, 100, n_new):
        now = rng.normal(size=expected.shape).astype(np.float32)
        load_vector(actor, now)
        average.update(n_new, n_updates)
        for _ in range(n_new):
            expected = expected + (now - expected) / max(1.0, 0.1 * n_updates)
        if n_updates <= 10:
            np.testing.assert_allclose(to_vector(average.actor), now, rtol=1e-5)
        np.testing.assert_allclose(to_vector(average.actor), expected, rtol=1e-3, atol=1e-5)
    assert not np.allclose(expected, now)


def test_average_is_a_policy_of_its_own():
    actor = tiny(vec(1)).actor
    average = AveragedActor(actor, 0.5)
    before = deterministic(average.actor)
    load_vector(actor, to_vector(actor) + 1)
    np.testing.assert_array_equal(deterministic(average.actor), before)
    average.restart()
    np.testing.assert_array_equal(deterministic(average.actor), deterministic(actor))


@pytest.mark.parametrize("normalize_observations", [False, True])
@pytest.mark.parametrize("agent_fraction", [0.05, 0.8])
def test_all_updates_count_and_statistics_are_the_agents(normalize_observations, agent_fraction, monkeypatch):
    updates = []
    update = AveragedActor.update

    def spy(average, n_new, n_updates):
        updates.append((n_new, n_updates))
        update(average, n_new, n_updates)

    monkeypatch.setattr(AveragedActor, "update", spy)
    model = tiny(vec(1), normalize_observations=normalize_observations, agent_fraction=agent_fraction, agent_average=0.3)
    model.learn(600)
    numbers = np.cumsum([n_new for n_new, _ in updates])
    assert numbers.size > 5 and list(numbers) == [n_updates for _, n_updates in updates] and numbers[-1] == model._n_updates
    pairs = list(zip(normalizers(model.learner.averaged.actor), normalizers(model.actor), strict=True))
    assert len(pairs) == normalize_observations
    for ours, its in pairs:
        for key, moments in its.moments().items():
            assert ours.moments()[key].count == moments.count > 0
            np.testing.assert_array_equal(ours.moments()[key].mean, moments.mean)


def test_a_window_of_one_update_is_the_agent():
    """Whatever happens to the statistics, and to the layers that take it upon themselves."""
    for agent_fraction in (0.05, 0.8):
        model = tiny(vec(1), normalize_observations=True, agent_fraction=agent_fraction, agent_average=1e-9).learn(600)
        np.testing.assert_array_equal(deterministic(model.learner.averaged.actor), deterministic(model.actor))


def test_it_is_what_is_deployed_and_probed_of_the_agent():
    model = tiny(vec(1), deploy="agent", agent_average=1.0)
    assert model.deployed_policy is model.policy, "parameters may have come from the user"
    model.learn(300)
    assert model.deployed_policy is model.learner.averaged.actor
    assert not np.allclose(deterministic(model.learner.averaged.actor), deterministic(model.actor))
    np.testing.assert_array_equal(
        model.predict(OBSERVATIONS, deterministic=True)[0], deterministic(model.learner.averaged.actor)
    )
    np.testing.assert_array_equal(model._candidates()["agent"], to_vector(model.learner.averaged.actor))
    model.deploy = "best"
    model.learner.level = model.champion.record.return_mean + 1
    assert model.deployed_policy is model.learner.averaged.actor, "it stands in"


def test_what_explores_and_joins_the_population_is_the_agent():
    model = tiny(vec(1), agent_average=1.0, champion_episodes=0, seed=1).learn(400)
    plain = tiny(vec(1), agent_average=0.0, champion_episodes=0, seed=1).learn(400)
    assert plain.learner.averaged is None and plain.deployed_policy is plain.policy
    np.testing.assert_array_equal(to_vector(model.actor), to_vector(plain.actor))
    np.testing.assert_array_equal(model.population.mean, plain.population.mean)


@pytest.mark.parametrize("agent_class", [TD3, CrossQ])
def test_other_agents(agent_class):
    model = tiny(vec(1), agent_class=agent_class, agent_average=0.5, deploy="agent").learn(200)
    assert np.isfinite(model.predict(OBSERVATIONS, deterministic=True)[0]).all()
    statistics, average = dict(model.actor.named_buffers()), dict(model.learner.averaged.actor.named_buffers())
    assert (agent_class is CrossQ) == any(name.endswith("ra_mean") and value.any() for name, value in statistics.items())
    for name in statistics:
        assert th.equal(statistics[name], average[name]), name


def test_saved_and_resumed(tmp_path):
    whole = tiny(vec(1), seed=2, agent_average=0.5)
    whole.learn(300)
    whole.save(tmp_path / "model")
    whole.save_replay_buffer(tmp_path / "buffer")
    loaded = ESAC.load(tmp_path / "model", env=vec(1))
    np.testing.assert_array_equal(to_vector(loaded.learner.averaged.actor), to_vector(whole.learner.averaged.actor))
    assert loaded.learner.averaged.window == 0.5
    loaded.load_replay_buffer(tmp_path / "buffer")
    for model in (whole, loaded):
        model.learn(300, reset_num_timesteps=False)
    np.testing.assert_array_equal(to_vector(loaded.learner.averaged.actor), to_vector(whole.learner.averaged.actor))


def test_begun_from_a_trained_agent(tmp_path):
    donor = SAC("MlpPolicy", vec(1), policy_kwargs=dict(net_arch=[8]), learning_starts=10, batch_size=8, seed=0).learn(50)
    donor.save(tmp_path / "donor")
    model = ESAC.from_agent(tmp_path / "donor", vec(1), population_size=4)
    np.testing.assert_array_equal(to_vector(model.learner.averaged.actor), to_vector(donor.actor))
