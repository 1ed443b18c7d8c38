"""Evaluators agree bit for bit, whoever plays; the fast forward plays what torch plays; callbacks hear of every step."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from evaluation_envs import DictPoint, FaultyPoint, PixelPoint, Point
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    unwrap_vec_normalize,
)

from sb3_esac import ES, ESAC
from sb3_esac.evaluation import backends
from sb3_esac.evaluation import lane as lane_module
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult
from sb3_esac.evaluation.factories import LaneRecipe, NoRecipeError, lane_recipe
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.lane import DirectLane, ReplayableEpisode
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.numpy_cnn import NumpyCnn
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.players import TorchActor, make_player
from sb3_esac.evaluation.replay import Replayer
from sb3_esac.evaluation.rollout import EpisodeResult, Recording
from sb3_esac.evaluation.statistics import Moments, Observation, observation_moments
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evaluation.worker import LanePlayer, Rules

ALL = Recording(transitions=True, observation_moments=True, return_discount=0.9)
RECORDINGS = [
    Recording(),
    Recording(transitions=True),
    Recording(observation_moments=True),
    Recording(return_discount=0.99),
    ALL,
]


def listen(variables: dict[str, Any]) -> bool:
    return True


def lanes(env_fn: Callable[[], gym.Env], n_lanes: int = 3) -> VecEnv:
    return DummyVecEnv([lambda: Monitor(env_fn()) for _ in range(n_lanes)])


def seen(env: VecNormalize) -> VecNormalize:
    """Let the statistics differ from zero and one, enough for the clipping to matter."""
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(20):
        env.step(np.stack([rng.uniform(env.action_space.low, env.action_space.high) for _ in range(env.num_envs)]))
    return env


KINDS: dict[str, Callable[[], VecEnv]] = {
    "plain": lambda: lanes(Point),
    "single": lambda: lanes(partial(Point, np.float32)),
    "other type": lambda: lanes(partial(Point, np.float32, np.float64)),
    "nan reward": lambda: lanes(partial(FaultyPoint, "nan_reward")),
    "nan observation": lambda: lanes(partial(FaultyPoint, "nan_observation")),
    "inf last": lambda: lanes(partial(FaultyPoint, "inf_last")),
    "nan first": lambda: lanes(partial(FaultyPoint, "nan_first")),
    "dict": lambda: lanes(DictPoint),
    "image": lambda: VecTransposeImage(lanes(PixelPoint)),
    "normalize": lambda: seen(VecNormalize(lanes(Point), clip_obs=1.5)),
    "normalize rewards": lambda: seen(VecNormalize(lanes(Point), norm_obs=False)),
    "normalize dict": lambda: seen(VecNormalize(lanes(DictPoint), norm_obs_keys=["place"])),
    "nan normalize": lambda: seen(VecNormalize(lanes(partial(FaultyPoint, "nan_observation")))),
    "stack": lambda: VecFrameStack(lanes(Point), 3),
    "stack dict": lambda: VecFrameStack(lanes(DictPoint), 2),
    "stack image": lambda: VecTransposeImage(VecFrameStack(lanes(PixelPoint), 2)),
    "normalize stack": lambda: seen(VecNormalize(VecFrameStack(lanes(Point), 2))),
    "monitor": lambda: VecMonitor(lanes(Point)),
}


def make_request(
    env: VecEnv, recording: Recording = ALL, n_members: int = 4, n_episodes: int = 2, limit: int | None = None
) -> EvaluationRequest:
    policy = {True: "MultiInputPolicy", False: "MlpPolicy"}[isinstance(env.observation_space, gym.spaces.Dict)]
    image = len(env.observation_space.shape or ()) == 3
    model = TD3("CnnPolicy" if image else policy, env, buffer_size=10, seed=0, policy_kwargs={"net_arch": [16, 16]})
    center = to_vector(model.actor)
    noise = np.random.default_rng(1).standard_normal((n_members, len(center))).astype(np.float32)
    seeds = np.arange(n_members * n_episodes).reshape(n_members, n_episodes)
    return EvaluationRequest(center + 0.1 * noise, seeds, make_player(model.actor), recording, limit)


def play_in_one_lane(env: VecEnv, request: EvaluationRequest) -> EvaluationResult:
    """What a worker does, in this process."""
    recipe = lane_recipe(env)
    player = LanePlayer(recipe)
    vec_normalize = unwrap_vec_normalize(env)
    statistics = vec_normalize.obs_rms if vec_normalize is not None and vec_normalize.norm_obs else None
    player.begin(Rules(request.player, request.recording, request.max_episode_steps, statistics))
    episodes = []
    for member, index in request.jobs:
        outcome = player.play(member, index, int(request.seeds[member, index]), request.parameters[member], [0])
        assert isinstance(outcome, ReplayableEpisode), outcome
        assert len(outcome.rewards) == outcome.episode.length
        episodes.append(outcome.episode)
    return EvaluationResult(episodes, request.seeds.shape)


def assert_same_arrays(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same_arrays(one[key], other[key])
    elif isinstance(one, Moments):
        assert one.count == other.count
        assert_same_arrays(one.mean, other.mean)
        assert_same_arrays(one.var, other.var)
    elif one is not None:
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def assert_same_episode(one: EpisodeResult, other: EpisodeResult) -> None:
    assert (one.member, one.index, one.length) == (other.member, other.index, other.length)
    np.testing.assert_array_equal(one.episode_return, other.episode_return)
    assert_same_arrays(one.observation_moments, other.observation_moments)
    assert_same_arrays(one.return_moments, other.return_moments)
    assert (one.info is None) == (other.info is None)
    if one.info is not None and other.info is not None:
        assert (one.info["r"], one.info["l"]) == (other.info["r"], other.info["l"]) or np.isnan(one.info["r"])
    assert (one.transitions is None) == (other.transitions is None)
    if one.transitions is not None and other.transitions is not None:
        assert_same_arrays(one.transitions.observations, other.transitions.observations)
        assert_same_arrays(one.transitions.actions, other.transitions.actions)
        assert_same_arrays(one.transitions.rewards, other.transitions.rewards)
        assert one.transitions.terminated == other.transitions.terminated


def assert_same(one: EvaluationResult | None, other: EvaluationResult | None) -> None:
    assert one is not None and other is not None
    assert one.shape == other.shape
    np.testing.assert_array_equal(one.returns, other.returns)
    np.testing.assert_array_equal(one.lengths, other.lengths)
    for left, right in zip(one.episodes, other.episodes, strict=True):
        assert_same_episode(left, right)


# -- one lane against lockstep on three ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("limit", [None, 7])
def test_a_lane_plays_what_lockstep_plays(kind: str, limit: int | None) -> None:
    env = KINDS[kind]()
    request = make_request(env, n_episodes=2 if "image" in kind else 4, limit=limit)
    lockstep = LockstepEvaluator(env).evaluate(request, listen)
    assert_same(play_in_one_lane(env, request), lockstep)
    assert lockstep is not None
    assert len(set(lockstep.lengths.reshape(-1).tolist())) > 1, "episodes of different lengths"
    if limit is not None and "image" not in kind:
        assert lockstep.lengths.max() == limit
    if limit is None:
        faulty = request.seeds % 3 == 0 if kind.startswith(("nan", "inf")) else np.zeros_like(request.seeds, dtype=bool)
        np.testing.assert_array_equal(np.isnan(lockstep.returns), faulty)


@pytest.mark.parametrize("recording", RECORDINGS, ids=str)
@pytest.mark.parametrize("kind", ["plain", "dict", "normalize"])
def test_recordings(kind: str, recording: Recording) -> None:
    env = KINDS[kind]()
    request = make_request(env, recording)
    result = play_in_one_lane(env, request)
    assert_same(result, LockstepEvaluator(env).evaluate(request, listen))
    for episode in result.episodes:
        assert (episode.transitions is not None) == recording.transitions
        assert (episode.observation_moments is not None) == recording.observation_moments
        assert (episode.return_moments is not None) == (recording.return_discount is not None)


def test_the_same_array_again_and_again_is_copied() -> None:
    request = make_request(KINDS["plain"]())
    in_place = play_in_one_lane(lanes(partial(Point, in_place=True)), request)
    assert_same(in_place, play_in_one_lane(lanes(Point), request))


def test_the_usual_wrappers_are_played_without_a_vec_env() -> None:
    for kind, direct in {"plain": True, "normalize": True, "stack": False, "dict": False, "monitor": False}.items():
        recipe = lane_recipe(KINDS[kind]())
        assert isinstance(LanePlayer(recipe).lane, DirectLane) == direct, kind


def test_an_episode_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_module, "UNBOUNDED_EPISODE_STEPS", 3)
    recipe = lane_recipe(KINDS["plain"]())
    player = LanePlayer(recipe)
    request = make_request(KINDS["plain"]())
    player.begin(Rules(request.player, Recording(), None))
    outcomes = [player.play(7, 0, seed, request.parameters[0], [0]) for seed in range(4)]
    texts = [outcome.text for outcome in outcomes if not isinstance(outcome, ReplayableEpisode) and outcome is not None]
    assert texts and all("member 7 has not ended after 3 steps" in text and "TimeLimit" in text for text in texts)


# -- worker processes ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subprocs() -> Iterator[Callable[[str, int], tuple[VecEnv, SubprocEvaluator]]]:
    """Evaluators by kind of environment and number of workers; processes are expensive, so each is made once."""
    made: dict[tuple[str, int], tuple[VecEnv, SubprocEvaluator]] = {}

    def get(kind: str, n_workers: int) -> tuple[VecEnv, SubprocEvaluator]:
        if (kind, n_workers) not in made:
            env = KINDS[kind]()
            recipe = lane_recipe(env)
            made[kind, n_workers] = env, SubprocEvaluator(recipe, n_workers, vec_normalize=unwrap_vec_normalize(env))
        return made[kind, n_workers]

    yield get
    for _, evaluator in made.values():
        evaluator.close()


@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize("recording", [Recording(), ALL], ids=str)
def test_workers_agree_with_lockstep(subprocs: Any, n_workers: int, recording: Recording) -> None:
    env, evaluator = subprocs("plain", n_workers)
    request = make_request(env, recording, n_members=9, n_episodes=3)
    lockstep = LockstepEvaluator(env).evaluate(request, listen)
    assert_same(evaluator.evaluate(request, listen), lockstep)
    smaller = make_request(env, recording, n_members=1, n_episodes=1, limit=3)
    assert_same(evaluator.evaluate(smaller, listen), LockstepEvaluator(env).evaluate(smaller, listen))


def test_workers_get_the_statistics_of_the_moment(subprocs: Any) -> None:
    env, evaluator = subprocs("normalize", 1)
    request = make_request(env)
    first = evaluator.evaluate(request, listen)
    assert_same(first, LockstepEvaluator(env).evaluate(request, listen))
    env.obs_rms.update(np.full((50, 3), 3.0))
    second = evaluator.evaluate(request, listen)
    assert_same(second, LockstepEvaluator(env).evaluate(request, listen))
    assert not np.array_equal(first.returns, second.returns)


@pytest.mark.parametrize("kind", [TorchActor, NumpyCnn])
def test_workers_with_images(subprocs: Any, kind: Any) -> None:
    env, evaluator = subprocs("stack image", 1)
    request = make_request(env, n_members=2)
    assert isinstance(request.player, NumpyCnn)
    if kind is TorchActor:
        actor = TD3("CnnPolicy", env, buffer_size=10, seed=0, policy_kwargs={"net_arch": [16, 16]}).actor
        request = replace(request, player=TorchActor(actor))
    assert_same(evaluator.evaluate(request, listen), LockstepEvaluator(env).evaluate(request, listen))


def test_callbacks_hear_of_every_step(subprocs: Any) -> None:
    env, evaluator = subprocs("plain", 1)
    heard: list[dict[str, Any]] = []
    result = evaluator.evaluate(make_request(env), lambda variables: heard.append(variables) or True)
    assert len(heard) == result.lengths.sum()
    ends = np.flatnonzero([variables["dones"][0] for variables in heard])
    np.testing.assert_array_equal(np.diff(ends, prepend=-1), result.lengths.reshape(-1))
    for end, episode in zip(ends, result.episodes, strict=True):
        info = heard[end]["infos"][0]
        assert info["episode"]["l"] == episode.length
        assert info["TimeLimit.truncated"] == (not episode.transitions.terminated)
        np.testing.assert_array_equal(heard[end]["new_obs"][0], episode.transitions.observations[-1])
    steps = np.concatenate([variables["rewards"] for variables in heard])
    np.testing.assert_array_equal(steps, np.concatenate([e.transitions.rewards for e in result.episodes]))
    assert all(variables["infos"] == [{}] for i, variables in enumerate(heard) if i not in ends)


@pytest.mark.parametrize("n_workers", [1, 3])
def test_several_requests_at_once(subprocs: Any, n_workers: int) -> None:
    """Of other numbers, recordings and limits, and by other actors: each is what it is alone, told in its turn."""
    env, evaluator = subprocs("plain", n_workers)
    requests = [
        make_request(env, Recording(), n_members=1, n_episodes=4),
        make_request(env, ALL, n_members=5, n_episodes=2, limit=3),
        make_request(env, Recording(transitions=True), n_members=3, n_episodes=1),
    ]
    alone = [LockstepEvaluator(env).evaluate(request, listen) for request in requests]
    heard: list[int] = []

    def hear(part: int) -> Callable[[dict[str, Any]], bool]:
        return lambda variables: heard.append(part) or True

    together = evaluator.evaluate_all([(request, hear(part)) for part, request in enumerate(requests)])
    for one, other in zip(together, alone, strict=True):
        assert_same(one, other)
    assert heard == [part for part, result in enumerate(alone) for _ in range(int(result.lengths.sum()))]
    for n_steps in (3, len(heard) - 2):
        answers = iter([True] * n_steps + [False])
        assert (
            evaluator.evaluate_all([(request, partial(lambda answers, _: next(answers), answers)) for request in requests])
            is None
        )
        assert next(answers, None) is None, "it was told of nothing more, and of nothing less"
    assert_same(evaluator.evaluate(requests[1], listen), alone[1])


@pytest.mark.parametrize("transitions", [False, True])
@pytest.mark.parametrize("kind", ["plain", "dict"])
def test_replay_in_rows(kind: str, transitions: bool) -> None:
    env = KINDS[kind]()
    request = make_request(env, Recording(transitions=transitions))
    episodes = play_in_one_lane(env, request).episodes
    rows: list[dict[str, Any]] = []
    replayer = Replayer(lambda variables: rows.append(variables) or True, lanes=4)
    for episode in episodes:
        rewards = np.arange(episode.length, dtype=np.float32)
        assert replayer.add(ReplayableEpisode(episode, rewards, terminated=True))
    assert replayer.flush()
    n_steps = sum(episode.length for episode in episodes)
    assert [len(row["dones"]) for row in rows] == [4] * (n_steps // 4) + [n_steps % 4] * (n_steps % 4 > 0)
    assert sum(row["dones"].sum() for row in rows) == len(episodes)
    assert sum("episode" in info for row in rows for info in row["infos"]) == len(episodes)
    np.testing.assert_array_equal(
        np.concatenate([row["rewards"] for row in rows]), np.concatenate([np.arange(e.length) for e in episodes])
    )
    if not transitions:
        assert all(row["new_obs"] is None and row["actions"] is None for row in rows)
        return
    following = [_place(episode.transitions.observations)[1:] for episode in episodes if episode.transitions is not None]
    np.testing.assert_array_equal(np.concatenate([_place(row["new_obs"]) for row in rows]), np.concatenate(following))


def _place(observations: Observation) -> np.ndarray:
    return observations["place"] if isinstance(observations, dict) else observations


@pytest.mark.parametrize("n_steps", [0, 5])
def test_a_callback_stops_the_evaluation(subprocs: Any, n_steps: int) -> None:
    env, evaluator = subprocs("plain", 3)
    request = make_request(env, n_members=9)
    heard: list[int] = []
    assert evaluator.evaluate(request, lambda variables: heard.append(1) or len(heard) <= n_steps) is None
    assert len(heard) == n_steps + 1
    assert_same(evaluator.evaluate(request, listen), LockstepEvaluator(env).evaluate(request, listen))


def test_nothing_to_play() -> None:
    env = KINDS["plain"]()
    recipe = lane_recipe(env)
    evaluator = SubprocEvaluator(recipe, 1)
    result = evaluator.evaluate(make_request(env, n_members=0), listen)
    assert result is not None and result.returns.shape == (0, 2)
    assert not evaluator.workers and evaluator.slots is None, "no process for nothing"


def test_begin_now_and_finish_later(subprocs: Any) -> None:
    env, evaluator = subprocs("normalize", 1)
    request = make_request(env)
    expected = LockstepEvaluator(env).evaluate(request, listen)
    pending = evaluator.begin(request)
    env.obs_rms.update(np.full((50, 3), -3.0))
    request.parameters[:] = 0.0
    heard: list[int] = []
    result = pending.finish(lambda variables: heard.append(1) or True)
    assert_same(result, expected)
    assert len(heard) == result.lengths.sum()


@pytest.mark.parametrize(
    ("name", "value"),
    [("n_workers", 0), ("lanes", 0), ("episode_timeout", 0.0), ("episode_timeout", -1.0), ("max_worker_restarts", -1)],
)
def test_bad_arguments(name: str, value: float) -> None:
    arguments: dict[str, Any] = {"n_workers": 1, name: value}
    with pytest.raises(ValueError, match=f"`{name}`.*{value}"):
        SubprocEvaluator(Point, **arguments)


# -- how lanes are built again ---------------------------------------------------------------------------------------------


def test_env_fn_comes_first_and_is_monitored() -> None:
    recipe = lane_recipe(KINDS["plain"](), env_fn=Point, env_id="Pendulum-v1")
    env = recipe.build()
    assert isinstance(env, Monitor) and isinstance(env.unwrapped, Point)
    recipe = lane_recipe(KINDS["plain"](), env_fn=lambda: Monitor(Point()))
    monitored = recipe.build()
    assert isinstance(monitored, Monitor) and not isinstance(monitored.env, Monitor)


def test_an_id_is_made_again() -> None:
    env = make_vec_env("Pendulum-v1")
    recipe = lane_recipe(env, env_id="Pendulum-v1")
    built = recipe.build()
    assert isinstance(built, Monitor) and built.spec is not None and built.spec.id == "Pendulum-v1"


def test_a_copy_writes_no_monitor_file(tmp_path: Path) -> None:
    env = make_vec_env(Point, n_envs=1, monitor_dir=str(tmp_path))
    assert isinstance(env, DummyVecEnv)
    file = tmp_path / "0.monitor.csv"
    before = file.read_text()
    recipe = lane_recipe(env)
    copied = recipe.build()
    copied.reset(seed=0)
    while not any(copied.step(copied.action_space.sample())[2:4]):
        pass
    copied.close()
    assert file.read_text() == before and isinstance(copied, Monitor)
    env.reset()
    while not env.step(np.zeros((1, 2)))[2][0]:
        pass
    assert len(file.read_text()) > len(before), "the original still writes"
    env.close()


class _Unpicklable(Point):
    def __reduce__(self) -> Any:
        raise TypeError("cannot pickle the connection to the robot")


class _OtherWrapper(VecFrameStack):
    pass


def test_no_recipe() -> None:
    for env, env_fn, why in (
        (lanes(_Unpicklable), None, "no copy of the environment can be made: pass `env_fn`"),
        (VecCheckNan(lanes(Point)), Point, "what the wrapper VecCheckNan does: leave it out"),
        (_OtherWrapper(lanes(Point), 2), Point, "what the wrapper _OtherWrapper does"),
        (VecNormalize(VecNormalize(lanes(Point))), Point, "what several VecNormalize do"),
    ):
        with pytest.raises(NoRecipeError, match=why):
            lane_recipe(env, env_fn=env_fn)
    with_env_fn = lane_recipe(lanes(_Unpicklable), env_fn=Point)
    assert isinstance(with_env_fn, LaneRecipe)


def test_what_env_fn_makes_has_the_spaces_of_the_environment() -> None:
    recipe = lane_recipe(lanes(Point), env_fn=lambda: gym.wrappers.RescaleAction(Point(), -0.5, 0.5))
    with pytest.raises(RuntimeError, match=r"what `env_fn` makes has the spaces .*Box\(-0.5, 0.5.* the original"):
        recipe.build()


def test_lanes_of_other_processes_are_not_asked() -> None:
    class Silent(SubprocVecEnv):
        def __init__(self) -> None:
            pass

    with pytest.raises(NoRecipeError, match="no copy of the environment"):
        lane_recipe(Silent())


# -- the fast forward ------------------------------------------------------------------------------------------------------

PLAYERS: dict[str, tuple[type[SAC] | type[TD3], dict[str, Any]]] = {
    "SAC relu": (SAC, {}),
    "SAC tanh": (SAC, {"activation_fn": th.nn.Tanh}),
    "SAC gSDE": (SAC, {"use_sde": True}),
    "SAC normalized": (SAC, {"features_extractor_class": ObservationNormalizer}),
    "SAC linear": (SAC, {"net_arch": []}),
    "SAC odd sizes": (SAC, {"net_arch": [15, 17, 33]}),
    "TD3 relu": (TD3, {}),
    "TD3 tanh": (TD3, {"activation_fn": th.nn.Tanh}),
    "TD3 normalized": (TD3, {"features_extractor_class": ObservationNormalizer}),
}


@pytest.mark.parametrize("name", PLAYERS)
@pytest.mark.parametrize("scale", [0.05, 1.0])
def test_player_plays_what_predict_plays(name: str, scale: float) -> None:
    algorithm, kwargs = PLAYERS[name]
    kwargs = {"net_arch": [32, 24], **kwargs}
    model = algorithm("MlpPolicy", lanes(Point, 1), buffer_size=10, seed=0, policy_kwargs=kwargs)
    rng = np.random.default_rng(0)
    if "normalized" in name:
        update_normalizers(model.policy, observation_moments(rng.normal(2.0, 3.0, (100, 3))))
    player = make_player(model.actor)
    assert isinstance(player, NumpyMlp)
    center = to_vector(model.actor)
    vector = center + scale * rng.standard_normal(len(center)).astype(np.float32)
    act, reference = player.bind(vector), TorchActor(model.actor).bind(vector)
    # Large weights enlarge what the order of a sum makes of a float, which depends on the processor.
    tolerance = 5e-5 if scale == 1.0 else 1e-5
    for _ in range(50):
        observation = rng.normal(1.0, 3.0, 3)
        action = act(observation)
        np.testing.assert_allclose(action, reference(observation), atol=tolerance)
        assert action.dtype == np.float32
    np.testing.assert_allclose(player.bind(center)(observation), model.predict(observation, deterministic=True)[0], atol=1e-5)


def test_bound_players_share_nothing() -> None:
    model = SAC("MlpPolicy", lanes(Point, 1), buffer_size=10, seed=0, policy_kwargs={"net_arch": [8]})
    vector = to_vector(model.actor)
    player = make_player(model.actor)
    one, other = player.bind(vector), player.bind(vector + 0.5)
    observation = np.array([0.1, -0.2, 0.3])
    first, second = one(observation), other(observation)
    vector += 1.0
    np.testing.assert_array_equal(one(observation), first)
    np.testing.assert_array_equal(other(observation), second)
    assert not np.array_equal(first, second)


def test_many_actions_are_squashed_as_few_are() -> None:
    weights = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    vector = np.concatenate([weights.reshape(-1), np.zeros(40, np.float32)])
    bounds = np.ones(40, np.float32)
    many = NumpyMlp([((40, 3), 0, 120)], ["tanh"], -bounds, bounds).bind(vector)
    few = NumpyMlp([((5, 3), 0, 15)], ["tanh"], -bounds[:5], bounds[:5]).bind(np.concatenate([vector[:15], vector[-5:]]))
    observation = np.array([0.3, -1.0, 0.5])
    np.testing.assert_allclose(many(observation)[:5], few(observation), atol=1e-6)


# -- the fork server ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, is_started",
    [({"n_workers": 2}, True), ({"backend": "subproc"}, True), ({}, False), ({"n_workers": 1, "backend": "lockstep"}, False)],
)
@pytest.mark.parametrize("algorithm", [ES, ESAC])
def test_the_server_starts_with_the_model(
    monkeypatch: pytest.MonkeyPatch, algorithm: type[ES | ESAC], arguments: dict[str, Any], is_started: bool
) -> None:
    started = list[bool]()
    monkeypatch.setattr(backends, "start_server", lambda: started.append(True))
    algorithm("MlpPolicy", "Pendulum-v1", **arguments)
    assert started == [True] * is_started


SERVED = """
import multiprocessing
from sb3_esac.evaluation.subproc import start_server

if __name__ == "__main__":
    start_server()
    start_server()
    process = multiprocessing.get_context("forkserver").Process(target=print, args=("ran",))
    process.start()
    process.join()
else:
    print("sb3_esac.evaluation.worker" in already, flush=True)
"""


def test_workers_find_everything_imported(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    # What is there before the script is imported by the worker.
    script.write_text("import sys\n\nalready = set(sys.modules)\n" + SERVED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "ran"], done.stderr
