"""Whole episodes on the user's own environments: what lockstep gives and tells, to the bit."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_envs import Point
from helpers import ALGORITHMS, Drift, make_model
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecCheckNan, VecNormalize
from test_evaluation import KINDS, RECORDINGS, assert_same, lanes, make_request

from sb3_esac.evaluation.backends import make_evaluator
from sb3_esac.evaluation.direct import DirectEvaluator, can_play_directly
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.vectors import to_vector

DIRECT = ["plain", "single", "other type", "nan reward", "nan observation", "inf last", "nan first"]
NORMALIZED = ["normalize", "normalize rewards", "nan normalize"]


@pytest.fixture(autouse=True)
def one_lane(monkeypatch):
    """Kinds of environments with one lane, not three."""
    monkeypatch.setattr("test_evaluation.lanes", partial(lanes, n_lanes=1))


def one(kind: str) -> Any:
    return KINDS[kind]()


@pytest.mark.parametrize("kind", DIRECT + NORMALIZED)
@pytest.mark.parametrize("limit", [None, 7])
def test_same_episodes_as_in_lockstep(kind, limit):
    env = KINDS[kind]()
    assert can_play_directly(env)
    request = make_request(env, n_episodes=4, limit=limit)
    lockstep = LockstepEvaluator(env).evaluate(request, lambda _: True)
    assert_same(DirectEvaluator(env).evaluate(request, lambda _: True), lockstep)


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "normalize"])
def test_recordings(kind, recording):
    env = KINDS[kind]()
    request = make_request(env, recording)
    lockstep = LockstepEvaluator(env).evaluate(request, lambda _: True)
    assert_same(DirectEvaluator(env).evaluate(request, lambda _: True), lockstep)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in DIRECT + NORMALIZED])
def test_what_cannot_be_played_directly(kind):
    assert not can_play_directly(KINDS[kind]())


class Listener:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def __call__(self, variables: dict[str, Any]) -> bool:
        copied = {name: np.array(variables[name]) for name in ("new_obs", "rewards", "dones", "actions")}
        self.steps.append({**copied, "info": dict(variables["infos"][0])})
        return True


@pytest.mark.filterwarnings("ignore:The environment gave")
@pytest.mark.parametrize("kind", ["plain", "nan observation", "normalize", "normalize rewards"])
def test_same_steps_are_told(kind):
    """But for the observation behind an episode's last step, which lockstep has of the next episode already."""
    env = one(kind)
    request = make_request(env, n_episodes=3, limit=9)
    expected, told = Listener(), Listener()
    LockstepEvaluator(env).evaluate(request, expected)
    DirectEvaluator(env).evaluate(request, told)
    assert len(told.steps) == len(expected.steps)
    for left, right in zip(told.steps, expected.steps, strict=True):
        for name in ("rewards", "dones", "actions"):
            np.testing.assert_array_equal(left[name], right[name])
            assert left[name].dtype == right[name].dtype
        assert left["info"].keys() == right["info"].keys()
        for name in left["info"].keys() - {"episode"}:
            np.testing.assert_array_equal(left["info"][name], right["info"][name])
        if not left["dones"][0]:
            np.testing.assert_array_equal(left["new_obs"], right["new_obs"])


def test_callbacks_get_copies():
    """What they do to the arrays of a step changes nothing."""

    def spoil(variables: dict[str, Any]) -> bool:
        for name in ("new_obs", "rewards", "actions"):
            variables[name][...] = 7.0
        variables["infos"][0].clear()
        return True

    env = one("plain")
    request = make_request(env)
    assert_same(DirectEvaluator(env).evaluate(request, spoil), LockstepEvaluator(env).evaluate(request, lambda _: True))


class Nobody(BaseCallback):
    """Hears, and does nothing."""

    def _on_step(self) -> bool:
        return True


def fingerprint(model: Any) -> tuple[Any, ...]:
    return (
        to_vector(model.actor).tobytes(),
        model.population.mean.tobytes(),
        model.num_timesteps,
        model.probe_timesteps,
        model._episode_num,
        [(info["r"], info["l"]) for info in model.ep_info_buffer],
    )


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("normalize", [False, True])
def test_a_run_is_the_same_whoever_listens(algorithm, normalize):
    """With nobody to hear of steps, with somebody, and in lockstep."""
    found = []
    for backend, callback in [("auto", None), ("auto", Nobody()), ("lockstep", None), ("lockstep", Nobody())]:
        env: Any = make_vec_env(Drift, 1, seed=0)
        env = VecNormalize(env) if normalize else env
        model = make_model(algorithm, env, backend=backend, seed=3)
        found.append(fingerprint(model.learn(200, callback=callback)))
        if callback is not None:
            assert callback.num_timesteps == callback.n_calls == model.num_timesteps
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("n_lanes", [1, 3])
def test_who_plays(n_lanes):
    """Several lanes step together, as SB3 lets them."""

    def kind(env: Any, **kwargs: Any) -> type:
        return type(make_evaluator(env, **kwargs))

    expected = DirectEvaluator if n_lanes == 1 else LockstepEvaluator
    assert kind(lanes(Point, n_lanes)) is expected
    assert kind(VecNormalize(lanes(Point, n_lanes))) is expected
    assert kind(lanes(Point, n_lanes), backend="lockstep") is LockstepEvaluator
    assert kind(VecCheckNan(lanes(Point, n_lanes), raise_exception=True)) is LockstepEvaluator


def test_lanes_of_other_processes_play_in_lockstep():
    env = SubprocVecEnv([Drift])
    try:
        assert not can_play_directly(env)
    finally:
        env.close()


class StepsItself(DummyVecEnv):
    def step_wait(self) -> Any:
        return super().step_wait()


def test_a_vec_env_with_steps_of_its_own_is_left_to_itself():
    assert not can_play_directly(StepsItself([Point]))


@pytest.mark.parametrize("n_steps", [1, 5, 30])
def test_a_callback_stops_at_once(n_steps):
    """And no step is taken behind its back."""
    env = lanes(Counts, 1)
    told = 0

    def stop(variables: dict[str, Any]) -> bool:
        nonlocal told
        told += 1
        return told < n_steps

    assert DirectEvaluator(env).evaluate(make_request(env, n_episodes=8), stop) is None
    assert told == n_steps == env.envs[0].unwrapped.n_steps


class Counts(Point):
    """Counts its steps; the twentieth can be its last."""

    n_steps, breaks, options = 0, False, None

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.options = options or self.options
        return super().reset(seed=seed)

    def step(self, action: np.ndarray) -> Any:
        self.n_steps += 1
        if self.breaks and self.n_steps == 20:
            raise ConnectionError("the simulator is gone")
        return super().step(action)


@pytest.mark.parametrize("listener", [None, Nobody()], ids=["nobody", "somebody"])
def test_steps_before_an_error_are_counted(listener):
    env = gym.wrappers.TimeLimit(Counts(), 50)
    env.unwrapped.breaks = True
    model = make_model(ALGORITHMS[1], env, seed=0)
    with pytest.raises(ConnectionError, match="the simulator is gone"):
        model.learn(1000, callback=listener)
    # The one that failed was none.
    assert model.num_timesteps == 19


def test_options_are_for_the_first_reset():
    env = lanes(Counts, 1)
    env.set_options({"level": 3})
    DirectEvaluator(env).evaluate(make_request(env), lambda _: True)
    assert env.envs[0].unwrapped.options == {"level": 3} and env._options == [{}]


def test_options_do_not_make_another_task_for_some_members():
    env = lanes(Counts, 1)
    model = make_model(ALGORITHMS[1], env, seed=0)
    env.set_options({"level": 3})
    with pytest.warns(UserWarning, match="`set_options` are for one reset.*left out"):
        model.learn(60)
    assert not env.envs[0].unwrapped.options and env._options == [{}]


def test_an_episode_that_a_callback_has_disturbed_is_played_again():
    env = one("plain")
    request = make_request(env)
    disturbed = False

    def reset_once(variables: dict[str, Any]) -> bool:
        nonlocal disturbed
        if not variables["dones"][0] and not disturbed:
            disturbed = True
            with evaluator.base.lent_out():
                env.reset()
        return True

    evaluator = DirectEvaluator(env)
    with pytest.warns(UserWarning, match="reset or stepped the training environment"):
        result = evaluator.evaluate(request, reset_once)
    assert disturbed
    assert_same(result, LockstepEvaluator(env).evaluate(request, lambda _: True))
