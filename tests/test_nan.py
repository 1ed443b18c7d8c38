"""Environments that give NaN or infinity, and episodes that never end."""

import warnings

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from helpers import ALGORITHMS
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecNormalize
from support import DictWalk, Walk, is_finite, tiny, vec, walks

from sb3_esac import ES, ESAC
from sb3_esac.agent import learner
from sb3_esac.evaluation import finite, lane, lockstep
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.population import Population

SEED = 1
FEW_UPDATES = dict(seed=SEED, train_freq=4)
GENERATIONS = range(60)
BAD_MEMBER = 1

NORMALIZED = [(ESAC, kind) for kind in ("observation", "reset", "terminal", "reward")] + [(ES, "observation"), (ES, "reward")]

# The steps of an episode that are useless: those that end, and those that begin, with what is not finite.
USELESS = {"reward": 1, "infinite reward": 1, "observation": 2, "infinity": 2, "reset": 1, "terminal": 1}


def seeds_of_the_population():
    return {episode_seed(SEED, generation, Stream.POPULATION_EPISODE, BAD_MEMBER) for generation in GENERATIONS}


def seeds_of_the_agent():
    """Every other episode of the agent."""
    return {
        episode_seed(SEED, generation, Stream.AGENT_EPISODE, index)
        for generation in GENERATIONS
        for index in range(20)
        if (generation + index) % 2 == 0
    }


class Poisoned(Walk):
    """
    Gives something that is not finite in the episodes with certain seeds.

    The first component of a real observation is never zero, so one that was cleared can be told from it.

    :param kind: A key of ``USELESS``.
    :param seeds: Seeds of the bad episodes.
    """

    def __init__(self, kind, seeds, **kwargs):
        super().__init__(**kwargs)
        self.kind, self.seeds = kind, seeds
        self.n_useless = 0

    def is_bad(self):
        return self.seed in self.seeds

    def reset(self, **kwargs):
        observation, info = super().reset(**kwargs)
        if self.is_bad() and self.kind == "reset":
            observation[:] = np.nan
        return observation, info

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        if not self.is_bad():
            return observation, reward, terminated, truncated, info
        if self.t == 1:
            self.n_useless += USELESS[self.kind]
        if self.kind == "terminal" and (terminated or truncated):
            observation[0] = np.nan
        if self.t == 3:
            if self.kind == "observation":
                observation[:] = np.nan
            elif self.kind == "infinity":
                observation[0] = -np.inf
            elif self.kind == "reward":
                reward = float("nan")
            elif self.kind == "infinite reward":
                reward = float("inf")
        return observation, reward, terminated, truncated, info


def poisoned(kind, seeds, n_envs=1, wrapper=None, **kwargs):
    def make():
        env = Poisoned(kind, seeds, **kwargs)
        return Monitor(wrapper(env) if wrapper is not None else env)

    return DummyVecEnv([make for _ in range(n_envs)])


@pytest.fixture(autouse=True)
def fresh_warnings(monkeypatch):
    monkeypatch.setattr(finite, "_warned", set())


@pytest.fixture
def fitness(monkeypatch):
    """Fitness of each generation, and which offspring became winners."""
    seen = []
    original = Population.update

    def update(self, offspring, returns):
        original(self, offspring, returns)
        winners = [int(np.flatnonzero((offspring == winner).all(axis=1))[0]) for winner in self.winners]
        seen.append((returns.copy(), winners))

    monkeypatch.setattr(Population, "update", update)
    return seen


def learn(model, total=300):
    """Train; return the warnings about what is not finite. Any other warning of numpy is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.learn(total)
    assert not [str(warning.message) for warning in caught if issubclass(warning.category, RuntimeWarning)]
    return [str(warning.message) for warning in caught if "not finite" in str(warning.message)]


def stores(model):
    if not hasattr(model, "agent"):
        return []
    found = [model.replay_buffer, model.replay_buffer.population_store]
    return [store for store in found if store is not None]


def first_components(observations):
    return observations["place"][..., 0] if isinstance(observations, dict) else observations[..., 0]


def assert_clean(model):
    """Nothing that is not finite, and nothing that was cleared, has come anywhere."""
    assert is_finite(model)
    for store in stores(model):
        size = store.size()
        assert size > 0
        for observations in (store.observations, store.next_observations):
            parts = observations.values() if isinstance(observations, dict) else [observations]
            assert all(np.isfinite(part[:size]).all() for part in parts)
            assert (first_components(observations)[:size] != 0).all(), "a cleared observation was stored"
        assert np.isfinite(store.rewards[:size]).all() and np.isfinite(store.actions[:size]).all()


@pytest.mark.parametrize("kind", USELESS)
def test_offspring_that_meet_nan_rank_last(kind, fitness):
    env = poisoned(kind, seeds_of_the_population())
    model = tiny(env, **FEW_UPDATES, winner_fraction=0.75)
    said = learn(model)
    assert len(said) == 1, "one warning"
    assert len(fitness) >= 5
    for returns, winners in fitness:
        assert np.isnan(returns[BAD_MEMBER]) and np.isfinite(np.delete(returns, BAD_MEMBER)).all()
        assert len(winners) == model.population.config.n_winners and BAD_MEMBER not in winners
    assert_clean(model)
    assert model.num_timesteps == walks(env)[0].n_steps
    # Nothing of the bad episodes was shared, not even what was finite in them.
    bad_steps, at = [], 0
    for seed, rewards in zip(walks(env)[0].episode_seeds, walks(env)[0].rewards, strict=True):
        if seed in seeds_of_the_population():
            bad_steps += walks(env)[0].acted_upon[at : at + len(rewards)]
        at += len(rewards)
    store = model.replay_buffer.population_store
    shared = {tuple(row) for row in store.observations[: store.size(), 0].tolist()}
    assert bad_steps and not shared & {tuple(row.tolist()) for row in bad_steps}
    assert model.replay_buffer.size() == model.agent_timesteps


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", USELESS)
def test_the_agent_does_not_learn_from_nan(kind, n_envs, fitness):
    env = poisoned(kind, seeds_of_the_agent(), n_envs, varied=True)
    model = tiny(env, **FEW_UPDATES, agent_fraction=0.5)
    said = learn(model, 400)
    assert len(said) == 1, "one warning"
    assert all(np.isfinite(returns).all() for returns, _ in fitness), "the population has met nothing"
    assert_clean(model)
    assert model._n_updates > 0 and model.num_timesteps == sum(walk.n_steps for walk in walks(env))
    useless = sum(walk.n_useless for walk in walks(env))
    buffer = model.replay_buffer
    assert useless > 3
    if n_envs == 1:
        assert buffer.size() in (model.agent_timesteps - useless, model.agent_timesteps - useless + 1)
    else:
        assert buffer.size() < model.agent_timesteps / 2
    # Where a step is missing an episode was cut: nothing bootstraps or sums rewards over the gap.
    for number in range(n_envs):
        size = buffer.size()
        broken = (buffer.observations[1:size, number] != buffer.next_observations[: size - 1, number]).any(axis=-1)
        assert buffer.dones[: size - 1, number].astype(bool)[broken].all()


def test_everybody_meets_nan_and_is_warned_once(fitness):
    env = poisoned("observation", seeds_of_the_agent() | seeds_of_the_population())
    model = tiny(env, **FEW_UPDATES, agent_fraction=0.5)
    assert len(learn(model, 400)) == 1
    assert_clean(model)
    assert all(np.isnan(returns[BAD_MEMBER]) for returns, _ in fitness)


@pytest.mark.parametrize("kind", USELESS)
def test_members_of_es_that_meet_nan_rank_last(kind, fitness):
    model = tiny(poisoned(kind, seeds_of_the_population()), algorithm=ES, **FEW_UPDATES)
    assert len(learn(model)) == 1, "one warning"
    assert len(fitness) >= 5
    for returns, winners in fitness:
        assert np.isnan(returns[BAD_MEMBER]) and np.isfinite(np.delete(returns, BAD_MEMBER)).all()
        assert len(winners) == model.population.config.n_winners and BAD_MEMBER not in winners
    assert is_finite(model)


@pytest.mark.parametrize("algorithm, kind", NORMALIZED)
@pytest.mark.parametrize("n_envs", [1, 2])
def test_vec_normalize_stays_finite(algorithm, kind, n_envs):
    env = VecNormalize(poisoned(kind, seeds_of_the_agent() | seeds_of_the_population(), n_envs))
    model = tiny(env, algorithm=algorithm, **FEW_UPDATES, agent_fraction=0.5)
    learn(model, 400)
    rms = env.obs_rms
    assert np.isfinite(rms.mean).all() and np.isfinite(rms.var).all() and np.isfinite(env.ret_rms.var)
    assert env.ret_rms.var > 0 and rms.count > 100
    assert_clean(model)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["observation", "reset"])
def test_normalisation_in_the_policy_stays_finite(algorithm, kind):
    env = poisoned(kind, seeds_of_the_agent() | seeds_of_the_population())
    options = dict(agent_fraction=0.5, normalize_observations=True, champion_episodes=0)
    model = tiny(env, algorithm=algorithm, **FEW_UPDATES, **options)
    learn(model, 400)
    assert_clean(model)
    walk = walks(env)[0]
    for normalizer in normalizers(model.policy):
        assert np.isfinite(normalizer.mean.cpu().numpy()).all() and np.isfinite(normalizer.var.cpu().numpy()).all()
        # The last component is 1 in every real observation; with the prior's ten zeros its mean is n / (n + 10).
        count = float(normalizer.count)
        assert float(normalizer.mean[2]) == pytest.approx((count - 10) / count, rel=1e-12)
        assert count < 10 + walk.n_steps


@pytest.mark.parametrize("kind", ["observation", "reset", "terminal"])
def test_dict_observations(kind, fitness):
    env = poisoned(kind, seeds_of_the_agent() | seeds_of_the_population(), wrapper=DictWalk)
    model = tiny(env, "MultiInputPolicy", **FEW_UPDATES, agent_fraction=0.5)
    assert len(learn(model, 300)) == 1
    assert all(np.isnan(returns[BAD_MEMBER]) for returns, _ in fitness)
    assert_clean(model)


@pytest.mark.parametrize("kind", ["observation", "reset"])
@pytest.mark.parametrize("normalised", [False, True])
def test_frame_stack(kind, normalised):
    """A cleared frame is part of three observations, and no transition from any of them is stored."""
    env = VecFrameStack(poisoned(kind, seeds_of_the_agent() | seeds_of_the_population()), 3)
    env = VecNormalize(env) if normalised else env
    model = tiny(env, **FEW_UPDATES, agent_fraction=0.5)
    learn(model, 400)
    assert is_finite(model)
    for store in (model.replay_buffer, model.replay_buffer.population_store):
        size = store.size()
        assert size > 0
        for observations in (store.observations, store.next_observations):
            frames = observations[:size].reshape(-1, 3, 3)
            since = frames[:, 2, 1]  # steps since the episode began: so many frames are there
            for age in range(3):
                there = since >= age
                assert there.any() and (frames[there, 2 - age, 2] == 1).all(), "a cleared observation was stored"


@pytest.mark.parametrize("strategy", ["canonical", "openai", "cem", "sep_cma_es"])
def test_a_generation_without_any_return_changes_nothing(strategy, monkeypatch):
    lost = {episode_seed(SEED, generation, Stream.POPULATION_EPISODE, i) for generation in (2, 3) for i in range(4)}
    means = []
    original = Population.form

    def form(self, agent):
        means.append(self.mean.copy())
        original(self, agent)

    monkeypatch.setattr(Population, "form", form)
    # That one has a fraction of its own.
    own = {"winner_fraction": 0.2} if strategy == "sep_cma_es" else {}
    model = tiny(poisoned("reward", lost), **FEW_UPDATES, strategy=strategy, **own)
    assert len(learn(model, 400)) == 1
    assert len(means) > 5 and is_finite(model)
    assert not np.array_equal(means[1], means[0]) and not np.array_equal(means[4], means[3])
    if strategy != "openai":
        np.testing.assert_array_equal(means[2], means[1])
        np.testing.assert_array_equal(means[3], means[1])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_candidate_that_meets_nan_is_no_champion(algorithm):
    seeds = {episode_seed(SEED, 0, Stream.PROBE_EPISODE, 1)}
    model = tiny(poisoned("reward", seeds), algorithm=algorithm, **FEW_UPDATES, champion_episodes=2)
    learn(model)
    # The first champion had one episode to play. Nobody could take its place since, nor did it play another itself.
    assert model.champion.record.returns.size == 1 and np.isfinite(model.champion.record.returns).all()
    assert model.champion.record.generation < model.population.generation and model.probe_timesteps > 0
    assert np.isfinite(model.predict(np.zeros(3, dtype=np.float32))[0]).all()


def test_n_step_returns_do_not_reach_over_the_gap():
    env = poisoned("reward", seeds_of_the_agent())
    model = tiny(env, **FEW_UPDATES, agent_fraction=0.5, n_steps=3)
    learn(model, 300)
    assert_clean(model)


# -- episodes that never end --------------------------------------------------------------------------------------------


@pytest.fixture
def short_patience(monkeypatch):
    for module in (lockstep, learner):
        monkeypatch.setattr(module, "UNBOUNDED_EPISODE_STEPS", 50)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_an_episode_that_never_ends(short_patience, n_envs):
    model = tiny(vec(n_envs, length=10**9))
    with pytest.raises(RuntimeError, match=r"member \d has not ended after 50 steps.*TimeLimit"):
        model.learn(10_000)
    assert model.num_timesteps == 50 * n_envs


@pytest.mark.parametrize("train_freq", [1, 7, (1, "episode")])
@pytest.mark.parametrize("updates", ["auto", "stock"])
def test_an_episode_of_the_agent_that_never_ends(short_patience, train_freq, updates):
    model = tiny(vec(1, length=10**9), agent_fraction=1, train_freq=train_freq, updates=updates, gradient_steps=0)
    with pytest.raises(RuntimeError, match=r"episode in lane 0 has not ended after 50 steps.*TimeLimit"):
        model.learn(10_000)
    # The environment can be used again, for as long as one likes.
    assert model.replay_buffer.size() == 49
    model.env.reset()
    for _ in range(100):
        model.env.step(np.zeros((1, 1)))


@pytest.mark.parametrize("n_envs", [1, 2])
def test_members_may_play_as_long_as_the_agent(short_patience, monkeypatch, n_envs):
    monkeypatch.setattr(lane, "UNBOUNDED_EPISODE_STEPS", 50)
    assert tiny(vec(n_envs, length=50), agent_fraction=0, gradient_steps=0).learn(300).num_timesteps >= 300
    with pytest.raises(RuntimeError, match=r"member \d has not ended after 50 steps"):
        tiny(vec(n_envs, length=51), agent_fraction=0, gradient_steps=0).learn(300)


def test_each_lane_may_take_its_time(short_patience):
    model = tiny(vec(3, length=50), agent_fraction=1, gradient_steps=0).learn(300)
    assert model.num_timesteps >= 300
    with pytest.raises(RuntimeError, match="episode in lane 0 has not ended after 50 steps"):
        tiny(vec(3, length=51), agent_fraction=1, gradient_steps=0).learn(300)


def test_a_time_limit_helps(short_patience):
    for agent_fraction in (0.3, 1):
        model = tiny(vec(1, lambda env: TimeLimit(env, 20), length=10**9), agent_fraction=agent_fraction).learn(100)
        assert model.num_timesteps >= 100
