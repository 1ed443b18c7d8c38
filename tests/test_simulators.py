"""A ``VecEnv`` that is a simulator itself: no environments to call methods of, seeds of its own, many lanes."""

import warnings

import numpy as np
import pytest
from helpers import ALGORITHMS, HYBRIDS, make_model
from simulators import Simulator
from stable_baselines3.common.vec_env import VecFrameStack, VecMonitor, VecNormalize

from sb3_esac import ES
from sb3_esac.evaluation import numpy_mlp
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.numpy_mlp import NumpyMlp, StackedPolicies
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.policies import SinglePolicies
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.vectors import to_vector

pytestmark = pytest.mark.filterwarnings("ignore:.*resets its environments by itself")


@pytest.mark.parametrize("tells_last", [True, False])
@pytest.mark.parametrize(
    "wrap", [VecMonitor, VecNormalize, lambda env: VecFrameStack(env, 2)], ids=["monitor", "normalize", "stack"]
)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_learns_on_a_simulator(algorithm, wrap, tells_last):
    env = wrap(Simulator(tells_last=tells_last))
    model = make_model(algorithm, env, seed=0).learn(400)
    assert model.num_timesteps == env.unwrapped.n_steps >= 400, "idle lanes step with the others, and their steps count"
    assert model.population.generation > 1 and np.isfinite(model.population.mean).all()
    assert (model.agent_timesteps > 0) is (algorithm in HYBRIDS)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_warning_says_what_it_costs(algorithm):
    with pytest.warns(UserWarning, match="Simulator resets its environments by itself.*resumed") as caught:
        make_model(algorithm, Simulator(), seed=0).learn(200)
    assert len([each for each in caught if "by itself" in str(each.message)]) == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_episodes_cannot_be_cut(algorithm):
    with pytest.raises(ValueError, match=r"episode_length_schedule.*Simulator.*one by one"):
        make_model(algorithm, Simulator(), episode_length_schedule=lambda progress: 5)


def test_256_lanes_without_a_call_per_lane(monkeypatch):
    """Single policies are never asked, and every member's episodes are written down as they were played."""
    monkeypatch.setattr(SinglePolicies, "act", None)
    env = Simulator(256)
    model = ES("MlpPolicy", env, population_size=256, seed=0, champion_episodes=0, policy_kwargs=dict(net_arch=[16]))
    model.learn(256 * 36)
    assert model.population.generation >= 2 and env.n_steps == model.num_timesteps
    # The best of them holds its point better than the mean of the first generation did.
    assert model.population.winners.shape[0] > 1


def test_what_is_written_down_is_what_was_played():
    env = Simulator(5)
    model = make_model(ES, env, seed=0, normalize_observations=True, policy_kwargs=dict(net_arch=[8]))
    vectors = to_vector(model.actor) + 0.3 * np.random.default_rng(0).standard_normal((7, model.population.mean.size))
    vectors = vectors.astype(np.float32)
    seeds = np.arange(14).reshape(7, 2)
    told = []
    request = EvaluationRequest(vectors, seeds, make_player(model.actor), Recording(transitions=True))
    result = LockstepEvaluator(env).evaluate(request, lambda variables: told.append(variables["rewards"].copy()) is None)
    assert result.returns.shape == (7, 2) and sum(map(len, told)) >= result.lengths.sum()
    for episode in result.episodes:
        steps, act = episode.transitions, make_player(model.actor).bind(vectors[episode.member])
        expected = np.array([act(observation) for observation in steps.observations[:-1]])
        np.testing.assert_allclose(steps.actions, expected, atol=1e-6)
        np.testing.assert_allclose(
            steps.observations[1:, 0], steps.observations[:-1, 0] + 0.3 * steps.actions[:, 0], atol=1e-5
        )
        np.testing.assert_allclose(steps.rewards, -np.abs(steps.observations[1:, 0]), atol=1e-5)
        assert episode.episode_return == pytest.approx(steps.rewards.sum(), abs=1e-4) and not steps.terminated


@pytest.mark.parametrize("n_layers", [0, 1, 3])
@pytest.mark.parametrize("normalize", [False, True])
def test_stacked_policies_act_as_single_ones(n_layers, normalize):
    env = Simulator(6)
    model = make_model(ES, env, seed=0, normalize_observations=normalize, policy_kwargs=dict(net_arch=[8] * n_layers))
    if normalize:
        model.learn(100)
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp)
    stacked, single = player.policies(env, together=True), player.policies(env, together=False)
    assert isinstance(stacked, StackedPolicies) and isinstance(single, SinglePolicies)
    rng = np.random.default_rng(1)
    for lane in range(6):
        vector = rng.standard_normal(model.population.mean.size).astype(np.float32)
        for each in (stacked, single):
            each.set(lane, vector)
    observations = rng.standard_normal((6, 3)).astype(np.float32)
    one, other = stacked.act(observations), single.act(observations)
    assert one.shape == other.shape == (6, 1) and one.dtype == other.dtype
    np.testing.assert_allclose(one, other, atol=1e-5)
    assert set(numpy_mlp.ACTIVATIONS) == {"relu", "tanh", "clip_tanh", "identity"}


def test_other_networks_act_one_by_one():
    env = Simulator(2)
    player = TorchActor(make_model(ES, env, seed=0).actor)
    assert isinstance(player.policies(env, together=True), SinglePolicies)


def test_lanes_of_single_environments_are_driven():
    """What reaches every lane by itself is neither warned of nor left to itself."""
    from helpers import drift

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = make_model(ES, drift(2), seed=0)
    assert model.arena.base.driver is not None
