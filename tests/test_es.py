"""What ES has of its own: its policies, its strategies in a run, its champion."""

import inspect
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import Drift, Tell, differences, drift, make_model, state_of
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack
from support import Walk, is_finite, tiny, vec, walks

from sb3_esac import ES, ESAC
from sb3_esac.champion import PROBE_FRACTION
from sb3_esac.es_policies import CnnPolicy, ESPolicy, LinearPolicy, MlpPolicy, MultiInputPolicy
from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.numpy_cnn import NumpyCnn
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.vectors import searched_parameters, to_vector
from sb3_esac.evaluation.virtual_batch_norm import VirtualBatchNormCNN
from sb3_esac.evolution.noise import Stream, episode_seed
from sb3_esac.evolution.operators import centered_ranks, log_weights

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def plays_what_predict_plays(model):
    """Compare a member without noise with ``predict``."""
    player = make_player(model.actor)
    act = player.bind(to_vector(model.actor))
    expected = model.policy.predict(OBSERVATIONS, deterministic=True)[0]
    np.testing.assert_allclose([act(observation) for observation in OBSERVATIONS], expected, atol=1e-5)
    return player


# -- policies -----------------------------------------------------------------------------------------------------------


def test_defaults():
    model = ES("MlpPolicy", Drift())
    assert type(model.policy) is MlpPolicy is ESPolicy and model.policy.net_arch == [64, 64]
    assert [type(module) for module in model.policy.mu] == [th.nn.Linear, th.nn.Tanh] * 3
    assert model.population.mean.size == 4 * 64 + 65 * 64 + 65
    assert model.normalize_observations and type(model.policy.features_extractor) is ObservationNormalizer
    assert model.policy.squash_output and isinstance(make_player(model.actor), NumpyMlp)
    assert model.device == th.device("cpu")
    assert model.population.config.strategy == "canonical" and not model.population.config.mirrored
    assert (model.population.sigma, model.population.config.n_winners) == (0.1, 8)


def test_names_are_those_of_esac():
    """What the two have in common means the same and stands in the same order."""
    ours, theirs = (list(inspect.signature(algorithm.__init__).parameters) for algorithm in (ES, ESAC))
    own = [name for name in ours if name not in theirs]
    assert own == ["weight_decay"]
    search = ["population_size", "sigma", "es_learning_rate", "es_optimizer", "mirrored", "strategy", "winner_fraction"]
    assert all([name for name in names if name in search] == search for names in (ours, theirs))
    learn, sb3_learn = (inspect.signature(algorithm.learn).parameters for algorithm in (ES, BaseAlgorithm))
    assert list(learn) == list(sb3_learn)
    # What SB3's `load` puts back, and what tuned hyperparameters are read into
    model = make_model(ES, drift())
    for name in ours[3:-1]:
        assert hasattr(model, name), name


@pytest.mark.parametrize("net_arch", [[], [12], (4, 6, 5)], ids=str)
@pytest.mark.parametrize("with_bias", [True, False])
def test_net_arch(net_arch, with_bias):
    model = tiny(vec(1), algorithm=ES, policy_kwargs=dict(net_arch=net_arch, with_bias=with_bias))
    assert model.population.mean.size == sum((a + with_bias) * b for a, b in pairwise([3, *net_arch, 1]))
    assert [name for name, _ in searched_parameters(model.actor)] == [name for name, _ in model.policy.named_parameters()]
    assert isinstance(plays_what_predict_plays(model), NumpyMlp)
    model.learn(40)
    assert is_finite(model)


@pytest.mark.parametrize("activation, fast", [(th.nn.ReLU, True), (th.nn.Tanh, True), (th.nn.ELU, False)])
def test_activation(activation, fast, tmp_path):
    model = tiny(vec(1), algorithm=ES, policy_kwargs=dict(net_arch=[8, 8], activation_fn=activation)).learn(40)
    assert isinstance(plays_what_predict_plays(model), NumpyMlp if fast else TorchActor)
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model")
    assert loaded.policy.activation_fn is activation
    np.testing.assert_array_equal(loaded.predict(OBSERVATIONS)[0], model.predict(OBSERVATIONS)[0])


def test_without_squashing_actions_are_clipped():
    model = tiny(vec(1), algorithm=ES, policy_kwargs=dict(net_arch=[], squash_output=False))
    model.set_parameters(
        {"policy": {"mu.0.weight": th.tensor([[0.5, 0.0, 0.0]]), "mu.0.bias": th.zeros(1)}}, exact_match=False
    )
    observations = np.array([[0.6, 1, 1], [-8, 1, 1], [9, 1, 1]], dtype=np.float32)
    np.testing.assert_allclose(model.policy.predict(observations)[0], [[0.3], [-1.0], [1.0]], rtol=1e-6)
    player = plays_what_predict_plays(model)
    assert isinstance(player, NumpyMlp) and player.output == "clip"
    act = player.bind(model.population.mean)
    first, second = act(observations[0]), act(observations[1])
    assert first == pytest.approx(0.3) and second == -1.0, "an action is not changed by the next one"


def test_linear_policy():
    """As in ARS: a matrix of zeros, no bias, no tanh; both can be had."""
    model = ES("LinearPolicy", vec(1), population_size=5, seed=0)
    assert type(model.policy) is LinearPolicy and not model.policy.squash_output
    np.testing.assert_array_equal(model.population.mean, np.zeros(3))
    model.learn(100)
    assert model.population.mean.all()
    model = ES("LinearPolicy", vec(1), policy_kwargs=dict(with_bias=True, squash_output=True))
    assert model.population.mean.size == 4 and model.policy.squash_output


class Squares(BaseFeaturesExtractor):
    """Has parameters of its own."""

    def __init__(self, observation_space, features_dim=6):
        super().__init__(observation_space, features_dim)
        self.linear = th.nn.Linear(observation_space.shape[0], features_dim)

    def forward(self, observations):
        return self.linear(observations) ** 2


@pytest.mark.parametrize("normalized", [False, True])
def test_features_extractor(normalized, tmp_path):
    policy_kwargs = dict(net_arch=[4], features_extractor_class=Squares, features_extractor_kwargs=dict(features_dim=5))
    model = tiny(vec(1), algorithm=ES, policy_kwargs=policy_kwargs, normalize_observations=normalized).learn(80)
    assert model.population.mean.size == 4 * 5 + 6 * 4 + 5
    assert isinstance(plays_what_predict_plays(model), TorchActor)
    assert policy_kwargs["features_extractor_kwargs"] == dict(features_dim=5) and len(policy_kwargs) == 3
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=vec(1)).learn(40)
    assert is_finite(loaded)


def test_extractors_by_policy():
    kinds = {MlpPolicy: FlattenExtractor, CnnPolicy: VirtualBatchNormCNN, MultiInputPolicy: CombinedExtractor}
    spaces_of = {
        MlpPolicy: spaces.Box(-1, 1, (3,)),
        CnnPolicy: spaces.Box(0, 255, (1, 36, 36), np.uint8),
        MultiInputPolicy: spaces.Dict({"x": spaces.Box(-1, 1, (3,))}),
    }
    for kind, extractor in kinds.items():
        policy = kind(spaces_of[kind], spaces.Discrete(4))
        assert type(policy.features_extractor) is extractor
        assert policy.net_arch == ([] if kind is CnnPolicy else [64, 64])


class Doubled(ESPolicy):
    """A policy that is no plain multi-layer perceptron, though it looks like one."""

    def forward(self, obs):
        return th.tanh(2 * super().forward(obs) + 0.3)


class Opposite(ESPolicy):
    """The same with discrete actions."""

    def forward(self, obs):
        return -super().forward(obs)


def test_policy_class(tmp_path):
    model = tiny(vec(1), Doubled, ES).learn(60)
    assert type(model.policy) is Doubled and isinstance(plays_what_predict_plays(model), TorchActor)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(ES.load(tmp_path / "model").predict(OBSERVATIONS)[0], model.predict(OBSERVATIONS)[0])
    env = Drift()
    env.action_space = spaces.Discrete(2)
    model = tiny(env, Opposite, ES)
    player = make_player(model.actor)
    assert isinstance(player, TorchActor), "it was taken for a plain perceptron"


def test_a_policy_of_sb3_contribs_ars():
    """Any actor that SB3 can build from two spaces will do."""
    from sb3_contrib.ars.policies import LinearPolicy as LinearOfArs

    model = tiny(vec(1), LinearOfArs, ES, policy_kwargs=dict(with_bias=True)).learn(80)
    assert type(model.policy) is LinearOfArs and model.population.mean.size == 4
    assert isinstance(plays_what_predict_plays(model), TorchActor) and not model.normalize_observations


# -- observations and actions -------------------------------------------------------------------------------------------


def images(n_envs=1, discrete=False):
    def make():
        return Monitor(
            gym.wrappers.TimeLimit(FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=discrete), 5)
        )

    return DummyVecEnv([make for _ in range(n_envs)])


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("n_stack", [1, 2])
def test_images(discrete, n_stack, tmp_path):
    env = VecFrameStack(images(2, discrete), n_stack)
    policy_kwargs = dict(features_extractor_kwargs=dict(features_dim=8))
    model = ES("CnnPolicy", env, population_size=5, champion_episodes=1, seed=0, policy_kwargs=policy_kwargs).learn(60)
    assert model.observation_space.shape == (n_stack, 36, 36) and not model.normalize_observations
    assert isinstance(make_player(model.actor), NumpyCnn) and is_finite(model)
    # The convolutions are searched too.
    assert model.population.mean.size == sum(parameter.numel() for parameter in model.policy.parameters()) > 50_000
    model.save(tmp_path / "model")
    loaded, observation = ES.load(tmp_path / "model"), model.get_env().reset()
    actions = model.predict(observation)[0]
    np.testing.assert_array_equal(actions, loaded.predict(observation)[0])
    assert all(model.action_space.contains(action) for action in actions)
    assert policy_kwargs == dict(features_extractor_kwargs=dict(features_dim=8))


@pytest.mark.parametrize("discrete", [False, True])
def test_dict_observations(discrete, tmp_path):
    def make():
        return gym.wrappers.TimeLimit(SimpleMultiObsEnv(discrete_actions=discrete, random_start=False), 6)

    policy_kwargs = dict(net_arch=[8], features_extractor_kwargs=dict(cnn_output_dim=8))
    model = ES("MultiInputPolicy", make(), population_size=5, seed=0, policy_kwargs=policy_kwargs).learn(60)
    assert is_finite(model)
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=make())
    assert np.array_equal(to_vector(loaded.policy), to_vector(model.policy))
    assert np.isfinite(evaluate_policy(loaded, loaded.get_env(), n_eval_episodes=2)[0])
    loaded.learn(30)


def test_discrete_actions_through_everything(tmp_path):
    """Save, load, resume, predict, evaluate: as with continuous ones."""
    model = make_model(ES, "CartPole-v1", seed=0, normalize_observations=True, champion_episodes=2).learn(400)
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=gym.make("CartPole-v1"))
    assert differences(state_of(model), state_of(loaded)) == []
    for each in (model, loaded):
        each.learn(200, reset_num_timesteps=False)
    assert differences(state_of(model), state_of(loaded)) == []
    observation = model.get_env().reset()
    assert model.predict(observation)[0].shape == (1,) and model.predict(observation[0])[0].shape == ()
    assert model.predict(observation[0].tolist())[0] in (0, 1)
    assert evaluate_policy(model, model.get_env(), n_eval_episodes=2)[0] >= 8


def test_sigma_follows_its_schedule(tmp_path):
    """From start to end, and on from where it was after loading."""
    sigmas = []

    class Note(BaseCallback):
        def _on_step(self):
            sigmas.append((self.model.population.generation, self.model.population.sigma))
            return True

    schedule = LinearSchedule(0.2, 0.05, 1.0)
    model = make_model(ES, "Pendulum-v1", seed=0, sigma=schedule, champion_episodes=0, n_workers=None)
    assert model.population.sigma == 0.2
    model.learn(4000, callback=Note())
    by_generation = dict(sigmas)
    # Four members of 200 steps each.
    np.testing.assert_allclose([by_generation[number] for number in range(5)], [0.2, 0.17, 0.14, 0.11, 0.08])
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=gym.make("Pendulum-v1"))
    for each in (model, loaded):
        each.learn(4000, reset_num_timesteps=False)
    np.testing.assert_allclose(model.population.sigma, 0.2 - 0.15 * 7200 / 8000)
    assert differences(state_of(model), state_of(loaded)) == []


def test_a_schedule_of_sigma_that_ends_at_nothing_is_refused():
    with pytest.raises(ValueError, match=r"`sigma` must be positive from the start to the end of training .*0\.1 to 0\.0"):
        make_model(ES, "Pendulum-v1", sigma=LinearSchedule(0.1, 0.0, 1.0))
    with pytest.raises(ValueError, match="`sigma` must be a positive finite number"):
        make_model(ESAC, "Pendulum-v1", sigma=LinearSchedule(0.1, 0.05, 1.0))


# -- a generation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["openai", "canonical"])
def test_a_generation_is_the_update_of_the_paper(strategy):
    """From the parameters that were played and the returns that they got."""
    options: dict = dict(es_optimizer="sgd", es_learning_rate=0.1, sigma=0.2, weight_decay=0.01)
    options = options if strategy == "openai" else dict(winner_fraction=0.4)
    model = make_model(ES, drift(), seed=0, strategy=strategy, population_size=6, champion_episodes=0, **options)
    mean, sigma = model.population.mean.astype(np.float64), model.population.sigma
    noise = (model.population.perturb(model.run_seed) - mean) / sigma
    assert np.allclose(noise[0], -noise[1], atol=1e-4) is (strategy == "openai")
    seen, select = [], model._play_and_select
    model._play_and_select = lambda *args: seen.append(select(*args)) or seen[-1]
    model.learn(1)
    seen = [selection.fitness for selection in seen]
    assert model.population.generation == 1 and len(np.unique(seen[0])) == 6
    if strategy == "openai":
        expected = mean + 0.1 * (centered_ranks(seen[0]) @ noise / (6 * sigma) - 0.01 / sigma * mean)
    else:
        best = np.argsort(-seen[0])[:2]
        expected = mean + sigma * log_weights(2) @ noise[best]
    np.testing.assert_allclose(model.population.mean, expected, atol=1e-5)
    np.testing.assert_array_equal(to_vector(model.policy), model.population.mean)
    # Every member of the next generation starts from the mean, and sigma stays.
    np.testing.assert_array_equal(model.population.members, np.stack([model.population.mean] * 6))
    assert model.population.sigma == sigma and not model.population.origins.any()


# -- champion -----------------------------------------------------------------------------------------------------------


def play(policy, seed):
    env = Walk()
    observation, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.predict(observation)[0])
        total, over = total + reward, terminated or truncated
    return total


def test_champion():
    """Mean or best winner, by several episodes without noise, which can be played again."""
    model = tiny(vec(1), algorithm=ES, champion_episodes=4).learn(800)
    record = model.champion.record
    assert record.source in ("mean", "winner") and record.returns.shape == (4,)
    seeds = [episode_seed(model.run_seed, 0, Stream.PROBE_EPISODE, number) for number in record.numbers]
    np.testing.assert_allclose(record.returns, [play(model, seed) for seed in seeds], rtol=1e-4, atol=1e-4)
    assert model.deployed_policy is model.champion.actor
    model.deploy = "population"
    assert model.deployed_policy is model.policy


@pytest.mark.parametrize("n_envs", [1, 2])
def test_probes_are_counted_and_bounded(n_envs):
    fractions, env = [], vec(n_envs)

    def watch(model):
        if 40 <= model.num_timesteps < 1500:
            fractions.append(model.probe_timesteps / model.num_timesteps)

    model = tiny(env, algorithm=ES, champion_episodes=5).learn(1500, callback=Tell(watch))
    assert model.num_timesteps == sum(walk.n_steps for walk in walks(env)) and model.agent_timesteps == 0
    assert 0 < model.probe_timesteps
    assert PROBE_FRACTION <= 0.15 and max(fractions) <= PROBE_FRACTION + 0.02, "lengths are estimated"


def test_no_champion():
    model = tiny(vec(1), algorithm=ES, champion_episodes=0).learn(100)
    assert model.champion.record is None and model.probe_timesteps == 0
    assert model.deployed_policy is model.policy


# -- learning -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["openai", "canonical"])
@pytest.mark.parametrize("policy", ["MlpPolicy", "LinearPolicy"])
def test_learns_to_stand_still(strategy, policy):
    """The untrained policy runs away, for about -250 or, if it does nothing, -15; to go to zero and stay is about -1."""
    options = dict(population_size=12, sigma=0.2, champion_episodes=5)
    options |= dict(es_learning_rate=0.1, winner_fraction=0.2) if strategy == "openai" else {}
    kwargs = dict(net_arch=[16]) if policy == "MlpPolicy" else None
    model = tiny(vec(1, length=20), policy, ES, strategy=strategy, policy_kwargs=kwargs, **options).learn(8000)
    returns = []
    for seed in range(1000, 1030):
        env = Walk(length=20)
        observation, over = env.reset(seed=seed)[0], False
        while not over:
            observation, _, terminated, truncated, _ = env.step(model.predict(observation)[0])
            over = terminated or truncated
        returns.append(sum(env.rewards[-1]))
    assert np.mean(returns) > -6
