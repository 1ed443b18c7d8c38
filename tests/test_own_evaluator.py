"""An evaluator of the user's as ``backend``: the run is the built-in one's, bit for bit, and it is looked after."""

import threading

import numpy as np
import pytest
from helpers import ALGORITHMS, Drift, drift, make_model
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ESAC
from sb3_esac.arguments import same
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, OnStep
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.rollout import EpisodeRecorder
from sb3_esac.evaluation.subproc import SubprocEvaluator


class OneByOne(Evaluator):
    """Plays one episode after the other, in an environment of its own."""

    def __init__(self) -> None:
        self.env = Monitor(Drift())
        self.lock = threading.Lock()
        self.n_requests = self.n_closed = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OneByOne)

    __hash__ = None

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        self.n_requests += 1
        episodes = []
        for member, index in request.jobs:
            act = request.player.bind(request.parameters[member])
            recorder = EpisodeRecorder(member, index, request.recording)
            observation, _ = self.env.reset(seed=int(request.seeds[member, index]))
            done = False
            while not done:
                action = act(observation if self.vec_normalize is None else self.vec_normalize.normalize_obs(observation))
                following, reward, terminated, truncated, info = self.env.step(action)
                recorder.add(observation, action, reward)
                observation, done = following, terminated or truncated
                step = {"rewards": [reward], "dones": [done], "infos": [info], "new_obs": following[None]}
                if not on_step({name: np.array(value) if name != "infos" else value for name, value in step.items()}):
                    return None
            episodes.append(recorder.finish(observation, terminated, info.get("episode")))
        return EvaluationResult(episodes, request.seeds.shape)

    def close(self) -> None:
        self.n_closed += 1


def assert_same_run(one, other):
    assert one.num_timesteps == other.num_timesteps and one.population.generation == other.population.generation > 2
    np.testing.assert_array_equal(one.population.mean, other.population.mean)
    np.testing.assert_array_equal(one.champion.record.returns, other.champion.record.returns)
    for ours, theirs in zip(one.policy.parameters(), other.policy.parameters(), strict=True):
        assert ours.equal(theirs)


@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize], ids=["plain", "normalize"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_run_is_that_of_the_built_in_one(algorithm, wrap):
    own = OneByOne()
    model = make_model(algorithm, wrap(drift()), backend=own, seed=1).learn(300)
    assert own.n_requests > 2 and own.vec_normalize is model.get_vec_normalize_env()
    assert_same_run(model, make_model(algorithm, wrap(drift()), seed=1).learn(300))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_closed_when_learning_ends_and_used_again(algorithm):
    own = OneByOne()
    model = make_model(algorithm, drift(), backend=own, seed=1)
    assert own.n_requests == own.n_closed == 0
    model.learn(150)
    assert own.n_closed == 1 and model.backend is own
    model.learn(150, reset_num_timesteps=False, callback=StopTrainingOnMaxEpisodes(3))
    assert own.n_closed == 2, "stopped by a callback"
    n_requests = own.n_requests
    model.learn(300, reset_num_timesteps=False)
    assert own.n_closed == 3 and own.n_requests > n_requests


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_built_in_evaluators_can_be_passed_too(algorithm):
    built_in = make_model(algorithm, drift(), seed=1).learn(200)
    env = drift()
    assert_same_run(make_model(algorithm, env, backend=LockstepEvaluator(env), seed=1).learn(200), built_in)
    workers = SubprocEvaluator(Drift, 2)
    assert_same_run(make_model(algorithm, drift(), backend=workers, seed=1).learn(200), built_in)
    assert not workers.workers, "a process is left"


def test_a_generation_may_be_played_beside_the_agent():
    own = OneByOne()
    beside = make_model(ESAC, drift(), backend=own, overlap=True, seed=1).learn(300)
    assert_same_run(beside, make_model(ESAC, drift(), overlap=True, seed=1).learn(300))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_not_saved(algorithm, tmp_path):
    whole = make_model(algorithm, drift(), seed=1).learn(200).learn(200, reset_num_timesteps=False)
    model = make_model(algorithm, drift(), backend=OneByOne(), seed=1).learn(200)
    if algorithm is ESAC:
        model.save_replay_buffer(tmp_path / "buffer")
    model.save(tmp_path / "model")
    assert isinstance(model.backend, OneByOne)
    assert algorithm.load(tmp_path / "model").backend == "auto"
    own = OneByOne()
    for given, expected in (({}, "auto"), ({"backend": own}, own)):
        loaded = algorithm.load(tmp_path / "model", env=drift(), **given)
        assert loaded.backend == expected
        if algorithm is ESAC:
            loaded.load_replay_buffer(tmp_path / "buffer")
        assert_same_run(loaded.learn(200, reset_num_timesteps=False), whole)
    assert own.n_requests > 0 and own.n_closed == 1


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_one_is_taken_up_by_the_next_generation(algorithm):
    one, other = OneByOne(), OneByOne()
    assert one == other and not same(one, other) and same(one, one)
    model = make_model(algorithm, drift(), backend=one, seed=1).learn(100)
    model.backend = other
    n_requests = one.n_requests
    model.learn(200, reset_num_timesteps=False)
    assert one.n_requests == n_requests and other.n_requests > 0
    model.backend = "threads"
    with pytest.raises(ValueError, match="`backend` must be"):
        model.learn(100)
