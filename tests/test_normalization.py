"""Observation normalisation that lives in the policy."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import ALGORITHMS, DEVICE, HYBRIDS
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv, IdentityEnvBox
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor
from support import DictWalk, in_plain_process, is_finite, judgements, tiny, vec, walks

from sb3_esac import ES, ESAC
from sb3_esac.agent.observation_scale import FRESH_FRACTION
from sb3_esac.budget.share import SCALING_FRACTION
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.normalization import (
    PRIOR_COUNT,
    ObservationNormalizer,
    normalized_keys,
    normalizers,
)
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.statistics import Moments, observation_moments
from sb3_esac.evaluation.vectors import to_vector


def with_prior(observations):
    """Mean and variance of observations and of the prior, computed at once."""
    values = np.asarray(observations, dtype=np.float64)
    total = PRIOR_COUNT + len(values)
    mean = values.sum(axis=0) / total
    var = (PRIOR_COUNT + (values**2).sum(axis=0)) / total - mean**2
    return total, mean, var


def some_observations(n=200, scale=30.0):
    rng = np.random.default_rng(0)
    columns = [scale * rng.normal(size=n), rng.integers(0, 10, n), np.ones(n)]
    return np.stack(columns, axis=1).astype(np.float32)


# -- statistics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 1, 94), (100,)])
def test_moments_merge_exactly(sizes):
    batch = np.random.default_rng(1).normal(3.0, 20.0, size=(sum(sizes), 4))
    merged = None
    start = 0
    for size in sizes:
        part = Moments.of(batch[start : start + size])
        merged = part if merged is None else merged.merge(part)
        start += size
    assert merged.count == len(batch)
    np.testing.assert_allclose(merged.mean, batch.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.var, batch.var(axis=0), rtol=1e-12)


def test_moments_far_from_zero_keep_their_variance():
    batch = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))
    halves = Moments.of(batch[:500]).merge(Moments.of(batch[500:]))
    np.testing.assert_allclose(halves.var, batch.var(axis=0), rtol=1e-6)


def test_normalizer_starts_with_its_prior():
    normalizer = ObservationNormalizer(spaces.Box(-1, 1, (3,)))
    x = th.randn(5, 3)
    assert th.equal(normalizer(x), x)
    assert normalizer.moments()[""].count == PRIOR_COUNT


def test_normalizer_takes_what_it_is_given():
    observations = some_observations()
    normalizer = ObservationNormalizer(spaces.Box(-np.inf, np.inf, (3,)))
    known = normalizer.moments()[""]
    for chunk in np.array_split(observations, 7):
        known = known.merge(observation_moments(chunk)[""])
    normalizer.set_moments({"": known})
    total, mean, var = with_prior(observations)
    assert float(normalizer.count) == total
    np.testing.assert_allclose(normalizer.mean.cpu().numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(normalizer.var.cpu().numpy(), var, rtol=1e-12)
    expected = (observations - mean) / np.sqrt(var)
    np.testing.assert_allclose(normalizer(th.as_tensor(observations)).numpy(), expected, atol=1e-5)


def test_statistics_are_no_parameters():
    normalizer = ObservationNormalizer(spaces.Box(-1, 1, (3,)))
    assert not list(normalizer.parameters())
    assert set(normalizer.state_dict()) == {"count", "mean", "var"}


def test_parts_of_a_space_that_are_normalised():
    image = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    assert normalized_keys(spaces.Box(-1, 1, (2,))) == [""]
    assert normalized_keys(image) == normalized_keys(spaces.Discrete(3)) == []
    mixed = spaces.Dict({"image": image, "place": spaces.Box(-1, 1, (2,)), "side": spaces.Discrete(2)})
    assert normalized_keys(mixed) == ["place"]


# -- while it learns ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("algorithm, agent_fraction", [(ESAC, 0.0), (ESAC, 0.05), (ES, 0.0)])
def test_statistics_are_those_of_all_that_was_acted_upon(n_envs, algorithm, agent_fraction):
    env = vec(n_envs, scale=30.0)
    options = dict(normalize_observations=True, agent_fraction=agent_fraction, champion_episodes=0)
    model = tiny(env, algorithm=algorithm, **options).learn(160)
    assert (model.agent_timesteps > 0) == (agent_fraction > 0)
    seen = np.concatenate([walk.acted_upon for walk in walks(env)])
    assert len(seen) == model.num_timesteps
    total, mean, var = with_prior(seen)
    found = normalizers(model.policy)
    assert len(found) == (3 if algorithm in HYBRIDS else 1), "actor, critic and target critic"
    for normalizer in found:
        assert float(normalizer.count) == total
        np.testing.assert_allclose(normalizer.mean.cpu().numpy(), mean, rtol=1e-9)
        np.testing.assert_allclose(normalizer.var.cpu().numpy(), var, rtol=1e-9)


class Counts(BaseCallback):
    """Notes, for each step, whose it is and how many observations the statistics are of."""

    def _on_training_start(self):
        self.seen = []

    def _on_step(self):
        count = float(normalizers(self.model.policy)[0].count)
        self.seen.append((self.model.population.generation, self.model.agent_timesteps, count))
        return True

    def of_population(self):
        """Counts by generation."""
        agent_steps_before, counts = 0, {}
        for generation, agent_steps, count in self.seen:
            if agent_steps == agent_steps_before:
                counts.setdefault(generation, set()).add(count)
            agent_steps_before = agent_steps
        return counts

    def of_agent(self):
        """Counts in order, one for each of its steps."""
        return list({agent_steps: count for _, agent_steps, count in reversed(self.seen) if agent_steps}.values())[::-1]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_are_frozen_while_the_population_plays(algorithm):
    watch = Counts()
    options = dict(normalize_observations=True, champion_episodes=0)
    model = tiny(vec(1), algorithm=algorithm, **options).learn(300, callback=watch)
    assert (model.agent_timesteps > 0) is (algorithm in HYBRIDS)
    counts = watch.of_population()
    assert all(len(of_generation) == 1 for of_generation in counts.values())
    in_order = [count for _, (count,) in sorted(counts.items())]
    assert len(set(in_order)) == len(in_order) and in_order == sorted(in_order)


@pytest.mark.parametrize("agent_fraction", [0.05, 0.8])
def test_statistics_follow_the_agent_in_small_steps(agent_fraction):
    watch = Counts()
    options = dict(normalize_observations=True, champion_episodes=0, agent_fraction=agent_fraction)
    tiny(vec(1), **options).learn(1500, callback=watch)
    counts = watch.of_agent()
    leads = agent_fraction >= SCALING_FRACTION
    if leads:
        assert counts[0] == PRIOR_COUNT, "What the population has seen before is forgotten"
    steps = np.diff(counts)
    assert steps.min() >= 0 and 0 < (steps > 0).sum() < len(steps)
    if leads:
        assert (steps <= np.maximum(1.0, FRESH_FRACTION * np.array(counts[:-1]) + 1)).all()


def test_statistics_are_of_whoever_leads():
    for agent_fraction in (0.05, 0.2, 0.8):
        env = vec(1, scale=30.0)
        model = tiny(env, normalize_observations=True, champion_episodes=0, agent_fraction=agent_fraction).learn(400)
        steps = model.agent_timesteps if agent_fraction >= SCALING_FRACTION else model.num_timesteps
        assert 0 < steps and float(normalizers(model.policy)[0].count) == PRIOR_COUNT + steps


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_dict_observations(algorithm):
    env = vec(2, DictWalk, scale=30.0)
    options = dict(normalize_observations=True, champion_episodes=0, agent_fraction=0.05)
    model = tiny(env, "MultiInputPolicy", algorithm, **options).learn(160)
    seen = np.concatenate([walk.acted_upon for walk in walks(env)])
    for normalizer in normalizers(model.policy):
        assert type(normalizer.extractor) is CombinedExtractor
        assert sorted(normalizer.keys) == ["place", "step"]
        for key, part in {"place": seen[:, [0, 2]], "step": seen[:, [1]]}.items():
            total, mean, var = with_prior(part)
            moments = normalizer.moments()[key]
            assert moments.count == total
            np.testing.assert_allclose(moments.mean, mean, rtol=1e-9)
            np.testing.assert_allclose(moments.var, var, rtol=1e-9)
    assert is_finite(model)


class Narrow(BaseFeaturesExtractor):
    """A custom features extractor with an argument."""

    def __init__(self, observation_space, features_dim=4):
        super().__init__(observation_space, features_dim)
        self.linear = th.nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations):
        return th.tanh(self.linear(observations))


def test_custom_features_extractor_sees_normalised_observations(tmp_path):
    policy_kwargs = dict(net_arch=[8], features_extractor_class=Narrow, features_extractor_kwargs=dict(features_dim=5))
    model = tiny(vec(1, scale=30.0), policy_kwargs=policy_kwargs, normalize_observations=True).learn(80)
    extractor = model.actor.features_extractor
    assert type(extractor.extractor) is Narrow and extractor.features_dim == 5
    x = th.as_tensor(some_observations(4), device=DEVICE)
    mean, scale = extractor.mean.float(), extractor.var.sqrt().float()
    assert th.allclose(extractor(x), extractor.extractor((x - mean) / scale), atol=1e-6)
    assert isinstance(make_player(model.actor), TorchActor)
    with pytest.raises(ValueError, match=r"cannot be folded through Narrow"):
        model.agent.save(tmp_path / "agent.zip")


# -- playing ------------------------------------------------------------------------------------------------------------


def with_statistics(model, scale=30.0):
    """Give a model statistics far from the prior."""
    update_normalizers(model.policy, observation_moments(some_observations(1000, scale) + 5.0))
    return model


@pytest.mark.parametrize("activation", [th.nn.ReLU, th.nn.Tanh])
@pytest.mark.parametrize("agent_class", [SAC, TD3])
def test_folded_forward_plays_what_predict_plays(activation, agent_class):
    policy_kwargs = dict(net_arch=[16, 16], activation_fn=activation)
    model = with_statistics(tiny(vec(1), agent_class=agent_class, policy_kwargs=policy_kwargs, normalize_observations=True))
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp) and player.shift is not None
    act = player.bind(to_vector(model.actor))
    observations = some_observations()
    expected = model.agent.predict(observations, deterministic=True)[0]
    played = np.array([act(observation) for observation in observations])
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(played, expected, atol=1e-5)


@pytest.mark.parametrize("policy", ["MlpPolicy", "LinearPolicy"])
def test_folded_forward_of_es(policy):
    """Also where there is no bias that the shift could be folded into."""
    model = with_statistics(ES(policy, vec(1), seed=1, normalize_observations=True, device=DEVICE))
    vector = model.population.perturb(0)[0]
    vector[0] = 0.2
    model.population.set_mean(vector)
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp) and player.shift is not None
    act, observations = player.bind(model.population.mean), some_observations()
    expected = model.policy.predict(observations)[0]
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose([act(observation) for observation in observations], expected, atol=1e-5)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_offspring_play_with_the_statistics_of_their_generation(algorithm):
    model = tiny(vec(1), algorithm=algorithm, normalize_observations=True)
    before = make_player(model.actor)
    with_statistics(model)
    after = make_player(model.actor)
    vector, observation = to_vector(model.actor), some_observations(1)[0]
    assert not np.allclose(before.bind(vector)(observation), after.bind(vector)(observation))


# -- saving -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_statistics_are_saved_and_loaded(algorithm, tmp_path):
    model = tiny(vec(1, scale=30.0), algorithm=algorithm, normalize_observations=True).learn(400)
    assert model.champion.record is not None
    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", device=DEVICE)
    for ours, theirs in zip(normalizers(model.policy), normalizers(loaded.policy), strict=True):
        assert float(ours.count) == float(theirs.count) > PRIOR_COUNT
        assert th.equal(ours.mean, theirs.mean) and th.equal(ours.var, theirs.var)
    champion = normalizers(model.champion.actor)[0]
    assert th.equal(champion.mean, normalizers(loaded.champion.actor)[0].mean)
    observations = some_observations()
    np.testing.assert_array_equal(
        model.predict(observations, deterministic=True)[0], loaded.predict(observations, deterministic=True)[0]
    )
    loaded.set_env(vec(1, scale=30.0))
    loaded.learn(200)
    assert float(normalizers(loaded.policy)[0].count) > float(normalizers(model.policy)[0].count), "Nothing was forgotten"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_champion_keeps_the_statistics_that_it_won_with(algorithm):
    model = tiny(vec(1, scale=30.0), algorithm=algorithm, normalize_observations=True).learn(160)
    observations = some_observations()
    before = model.champion.actor.predict(observations, deterministic=True)[0]
    with_statistics(model, scale=100.0)
    np.testing.assert_array_equal(model.champion.actor.predict(observations, deterministic=True)[0], before)


def test_exported_agent_needs_no_esac(tmp_path):
    observations = some_observations(50)
    models, files = {}, {}
    for name, kind, kwargs in (
        ("SAC", SAC, dict()),
        ("sde", SAC, dict(use_sde=True)),
        ("linear", SAC, dict(policy_kwargs=dict(net_arch=dict(pi=[], qf=[8])))),
        ("two critics", SAC, dict(policy_kwargs=dict(net_arch=[8], n_critics=3))),
        ("TD3", TD3, dict()),
        ("TQC", TQC, dict()),
    ):
        model = with_statistics(tiny(vec(1, scale=30.0), agent_class=kind, normalize_observations=True, **kwargs).learn(120))
        assert model._n_updates > 0
        model.agent.save(tmp_path / name)
        models[name], files[name] = model, (kind, str(tmp_path / name))
    answers = in_plain_process(tmp_path, files, observations)
    for name, (actions, judged) in answers.items():
        agent = models[name].agent
        expected = agent.predict(observations, deterministic=True)[0]
        assert np.ptp(expected) > 1e-3, name
        np.testing.assert_allclose(actions, expected, atol=1e-5, err_msg=name)
        ours = judgements(agent, observations)
        assert len(ours) == len(judged) == 2
        for one, other in zip(ours, judged, strict=True):
            np.testing.assert_allclose(other, one, atol=2e-5, rtol=1e-5, err_msg=name)


def test_export_leaves_the_model_as_it_is(tmp_path):
    model = tiny(vec(1, scale=30.0), normalize_observations=True).learn(120)
    observations = some_observations()
    before = model.agent.predict(observations, deterministic=True)[0]
    state = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.agent.save(tmp_path / "agent.zip")
    assert len(normalizers(model.policy)) == 3
    assert all(th.equal(value, state[name]) for name, value in model.policy.state_dict().items())
    np.testing.assert_array_equal(model.agent.predict(observations, deterministic=True)[0], before)
    model.learn(200, reset_num_timesteps=False)
    model.save(tmp_path / "model.zip")
    assert normalizers(ESAC.load(tmp_path / "model.zip", device=DEVICE).policy)


def test_exported_agent_trains_on_from_its_moments(tmp_path):
    model = tiny(vec(1, scale=30.0), normalize_observations=True).learn(160)
    model.agent.save(tmp_path / "agent.zip")
    plain = SAC.load(tmp_path / "agent.zip", env=vec(1, scale=30.0), device=DEVICE)
    ours, theirs = model.actor.optimizer.state_dict()["state"], plain.actor.optimizer.state_dict()["state"]
    assert ours and all(th.equal(ours[key]["exp_avg_sq"], theirs[key]["exp_avg_sq"]) for key in ours)
    assert th.equal(plain.log_ent_coef, model.log_ent_coef)
    before = to_vector(plain.actor)
    plain.learn(40)
    assert not np.array_equal(to_vector(plain.actor), before)
    assert not normalizers(plain.policy)


def test_agent_with_dict_observations_can_be_exported(tmp_path):
    model = tiny(vec(1, DictWalk), "MultiInputPolicy", normalize_observations=True).learn(120)
    observation = model.env.observation_space.sample()
    before = model.agent.predict(observation, deterministic=True)[0]
    model.agent.save(tmp_path / "agent.zip")
    plain = SAC.load(tmp_path / "agent.zip", device=DEVICE)
    assert not normalizers(plain.policy)
    np.testing.assert_allclose(plain.predict(observation, deterministic=True)[0], before, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded_is_refused(tmp_path):
    model = tiny(vec(1), agent_class=CrossQ, normalize_observations=True)
    with pytest.raises(ValueError, match=r"cannot be folded"):
        model.agent.save(tmp_path / "agent.zip")
    assert not (tmp_path / "agent.zip").exists()


OTHER_FORMS = [dict(agent_class=CrossQ), dict(use_sde=True, policy_kwargs=dict(net_arch=dict(pi=[], qf=[8])))]
"""Arguments of agents whose features are not read by linear layers."""


@pytest.mark.parametrize("changes", OTHER_FORMS)
def test_what_cannot_be_folded_is_not_normalised_by_default(changes, tmp_path):
    model = tiny(vec(1), normalize_observations=None, **changes)
    assert model.normalize_observations is False and not normalizers(model.policy)
    told = tiny(vec(1), normalize_observations=False, **changes)
    np.testing.assert_array_equal(to_vector(model.actor), to_vector(told.actor))
    model.learn(60).agent.save(tmp_path / "agent.zip")
    loaded = changes.get("agent_class", SAC).load(tmp_path / "agent.zip", device=DEVICE)
    np.testing.assert_array_equal(to_vector(loaded.actor), to_vector(model.actor))
    assert tiny(vec(1), normalize_observations=None).normalize_observations is True


# -- new statistics -----------------------------------------------------------------------------------------------------


def values_of(agent, observations):
    """Mean actions and, of each critic, values."""
    observations = observations.to(agent.device)
    with th.no_grad():
        actions = agent.actor(observations, deterministic=True) if isinstance(agent, SAC | TQC) else agent.actor(observations)
        return [actions, *agent.critic(observations, actions), *agent.critic_target(observations, actions)]


@pytest.mark.parametrize(
    ("agent_class", "net_arch"), [(SAC, [8]), (TD3, [8, 8]), (TQC, [8]), (SAC, {"pi": [], "qf": [8]})], ids=str
)
def test_new_statistics_do_not_change_what_the_agent_computes(agent_class, net_arch):
    model = tiny(vec(1), agent_class=agent_class, policy_kwargs=dict(net_arch=net_arch), normalize_observations=True)
    model = with_statistics(model.learn(100))
    observations = th.as_tensor(some_observations(50))
    weights, before = to_vector(model.actor), values_of(model.agent, observations)
    fresh = observation_moments(3.0 * some_observations(500) - 70.0)
    update_normalizers(model.policy, fresh, keep_functions=True)
    assert not np.allclose(to_vector(model.actor), weights)
    for old, new in zip(before, values_of(model.agent, observations), strict=True):
        assert th.allclose(old, new, rtol=1e-3, atol=1e-3)
    update_normalizers(model.policy, observation_moments(some_observations(500)), keep_functions=False)
    assert not th.allclose(before[0], values_of(model.agent, observations)[0], rtol=1e-3, atol=1e-3)


def test_new_statistics_do_not_change_what_the_agent_computes_from_dicts():
    model = tiny(vec(1, DictWalk), "MultiInputPolicy", normalize_observations=True).learn(120)
    observations = [model.env.observation_space.sample() for _ in range(5)]
    before = [model.agent.predict(observation, deterministic=True)[0] for observation in observations]
    statistics = normalizers(model.actor)[0].moments()
    fresh = {key: Moments(500.0, known.mean + 3.0, 4.0 * known.var + 1.0) for key, known in statistics.items()}
    update_normalizers(model.policy, fresh, keep_functions=True)
    after = [model.agent.predict(observation, deterministic=True)[0] for observation in observations]
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("changes", OTHER_FORMS)
def test_networks_of_other_forms_get_new_statistics_all_the_same(changes):
    model = tiny(vec(1), normalize_observations=True, **changes).learn(60)
    counts = [normalizer.moments()[""].count for normalizer in normalizers(model.policy)]
    update_normalizers(model.policy, observation_moments(some_observations(100)), keep_functions=True)
    assert [n.moments()[""].count for n in normalizers(model.policy)] == [count + 100 for count in counts]


@pytest.mark.parametrize("agent_fraction", [0.05, 0.8])
def test_what_was_learned_is_kept_when_statistics_jump(monkeypatch, agent_fraction):
    """From the first update on; before, there is nothing to keep, and where the agent leads there is no jump."""
    kept = []
    monkeypatch.setattr(
        "sb3_esac.agent.observation_scale.update_normalizers",
        lambda policy, fresh, *, keep_functions, beside: kept.append((model.agent._n_updates > 0, keep_functions)),
    )
    model = tiny(vec(1), normalize_observations=True, agent_fraction=agent_fraction)
    model.learn(800)
    assert {(False, False), (True, agent_fraction < SCALING_FRACTION)} == set(kept)


def test_nothing_to_normalise_is_refused():
    images = gym.wrappers.TimeLimit(FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=False), 5)
    with pytest.raises(ValueError, match=r"normalize_observations=True.*nothing to normalise"):
        tiny(images, "CnnPolicy", normalize_observations=True, buffer_size=20)

    class Numbered(gym.ObservationWrapper):
        observation_space = spaces.Discrete(4)

        def observation(self, observation):
            return 0

    with pytest.raises(ValueError, match=r"normalize_observations=True.*nothing to normalise"):
        tiny(Numbered(IdentityEnvBox()), normalize_observations=True)
