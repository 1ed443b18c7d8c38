"""Workers play the user's environment as it is now, give it what lanes give, and bring home what lanes bring home."""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_envs import Lesson, RebuiltLesson, SharedFolder
from gymnasium import spaces
from helpers import ALGORITHMS, Tell, keep_log, make_model
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecMonitor
from test_spaces import ACTION_SPACES, OBSERVATION_SPACES, Anything

from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.factories import lane_recipe
from sb3_esac.evaluation.lane import ReplayableEpisode
from sb3_esac.evaluation.layers import lane_difference
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.random_play import RandomPlayer, random_play
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.worker import EvaluationError, LanePlayer, Rules

WORKERS: dict[str, Any] = dict(n_workers=2, backend="subproc", seed=0, agent_fraction=0.3)


class Heard(BaseCallback):
    """Keeps the returns of all episodes."""

    def __init__(self) -> None:
        super().__init__()
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        self.returns += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        return True


def lessons(n: int = 1, cls: type[gym.Env] = Lesson, **kwargs: Any) -> DummyVecEnv:
    return DummyVecEnv([lambda: Monitor(cls(**kwargs)) for _ in range(n)])


# -- what is done to the training environment ---------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("cls", [Lesson, RebuiltLesson])
def test_a_curriculum_reaches_workers(algorithm: type, cls: type[gym.Env]) -> None:
    heard, done = Heard(), list[bool]()

    def teach(model: Any) -> None:
        if model.num_timesteps >= 60 and not done:
            done.append(True)
            model.env.env_method("set_level", 2)

    make_model(algorithm, lessons(cls=cls), **WORKERS).learn(300, [Tell(teach), heard])
    assert heard.returns[0] == 0.0 and set(heard.returns[-6:]) == {10.0}


@pytest.mark.parametrize("way", ["pickled", "rebuilt", "env_fn"])
def test_what_was_done_before_learning(way: str) -> None:
    env = lessons(cls=RebuiltLesson if way == "rebuilt" else Lesson)
    given: dict[str, Any] = dict(env_fn=Lesson) if way == "env_fn" else {}
    model, heard = make_model(ES, env, **WORKERS, **given), Heard()
    model.get_env().env_method("set_level", 1)
    model.learn(40, heard)
    assert set(heard.returns) == {5.0}


def test_attributes_of_what_is_built_anew() -> None:
    env = lessons(cls=RebuiltLesson)
    model, heard = make_model(ES, env, **WORKERS), Heard()
    lesson: Any = env.envs[0].unwrapped
    lesson.level = 3
    model.learn(40, heard)
    assert set(heard.returns) == {15.0}


def test_what_cannot_be_passed_on_is_said_once() -> None:
    env = lessons()
    model = make_model(ES, env, **WORKERS)

    def teach(model: Any) -> None:
        env.env_method("set_anything", (number for number in range(3)))

    with pytest.warns(UserWarning, match=r"env_method\('set_anything'.*`env_fn`") as caught:
        model.learn(60, Tell(on_generation=teach))
    assert len([warning for warning in caught if "set_anything" in str(warning.message)]) == 1


def test_a_call_for_some_lanes_only() -> None:
    env = lessons(2)
    model, heard = make_model(ES, env, **WORKERS), Heard()
    env_calls = Tell(on_generation=lambda model: env.env_method("set_level", 1, indices=[1]))
    with pytest.warns(UserWarning, match="workers follow lane 0"):
        model.learn(60, [env_calls, heard])
    assert set(heard.returns) == {0.0}


def test_questions_and_playing_are_not_written_down() -> None:
    base = adopt(lessons())
    base.journal.is_open = True
    base.env_method("reset", seed=1)
    base.env_method("get_level")
    assert base.journal.calls == []
    for value in range(5):
        base.set_attr("level", value)
    assert len(base.journal.calls) == 1, "the last value counts"
    base.journal.since(0, 1, lanes_differ=False)
    base.set_attr("level", 7)
    assert len(base.journal.calls) == 2, "workers have been told of the last one"


# -- lanes that differ --------------------------------------------------------------------------------------------------


def two_levels() -> DummyVecEnv:
    return DummyVecEnv([partial(_at_level, level) for level in (0, 1)])


def _at_level(level: int) -> gym.Env:
    return Monitor(Lesson(level))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lanes_that_differ_are_refused_or_all_played(algorithm: type) -> None:
    with pytest.raises(ValueError, match=r"`n_eval_episodes`.*not 1.*lane 1 has level=1, lane 0 level=0"):
        make_model(algorithm, two_levels(), n_eval_episodes=1)
    with pytest.raises(ValueError, match="`env_fn` must be None"):
        make_model(algorithm, two_levels(), n_eval_episodes=2, env_fn=Lesson, **WORKERS)
    model, means = make_model(algorithm, two_levels(), n_eval_episodes=2, **WORKERS), list[Any]()
    note = model.arena.note_generation

    def spy(result: Any) -> None:
        means.append(result.returns)
        note(result)

    model.arena.note_generation = spy
    model.learn(60)
    np.testing.assert_array_equal(means[0], [[0.0, 5.0]] * 4)


def test_no_false_alarm() -> None:
    assert lane_difference(make_vec_env("Pendulum-v1", 3, seed=4)) is None
    assert lane_difference(DummyVecEnv([partial(Lesson, 0, number) for number in range(3)])) is None
    used = two_levels()
    used.reset()
    assert lane_difference(used) is None, "what was played says nothing"
    assert "level" in str(lane_difference(two_levels()))


# -- whose environment it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_users_folder_is_left_alone(algorithm: type, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    env = SharedFolder(str(folder))
    make_model(algorithm, env, **WORKERS).learn(40)
    assert folder.exists()


def test_a_copy_that_does_not_work_points_to_env_fn() -> None:
    env = Lesson()
    env.broken = True
    with pytest.raises(EvaluationError, match=r"could not be built[^\0]*cannot be copied[^\0]*`env_fn`"):
        make_model(ES, env, **WORKERS).learn(20)


@pytest.mark.parametrize("verbose", [0, 1])
def test_own_lanes_instead_of_workers_are_said(verbose: int) -> None:
    env = SubprocVecEnv([Lesson])
    try:
        with pytest.warns(UserWarning, match="own lanes.*`env_fn`"):
            make_model(ES, env, backend="auto", verbose=verbose).learn(20)
    finally:
        env.close()


# -- actions ---------------------------------------------------------------------------------------------------------------

ODD_ACTIONS = [
    spaces.Box(-1.0, 1.0, (), np.float32),
    spaces.Box(-1.0, 1.0, (2, 3), np.float32),
    spaces.Box(-1.0, 1.0, (2,), np.float16),
    spaces.Box(-5, 5, (2,), np.int64),
    spaces.Box(0, 255, (2,), np.uint8),
    spaces.Discrete(4),
    spaces.Discrete(3, start=5),
]


class Writes(Anything):
    """Keeps what ``step`` got, just as it came."""

    def step(self, action: Any) -> Any:
        self.got = [*getattr(self, "got", []), (type(action), action.dtype, action.shape, np.array(action))]
        return super().step(np.asarray(action))


def same(one: list[Any], other: list[Any]) -> None:
    assert len(one) == len(other) > 0
    for left, right in zip(one, other, strict=True):
        assert left[:3] == right[:3]
        np.testing.assert_array_equal(left[3], right[3])


PAIRS = [(None, space) for space in [*ACTION_SPACES, *ODD_ACTIONS]] + [(space, None) for space in OBSERVATION_SPACES]


@pytest.mark.parametrize(("observation", "action"), PAIRS, ids=lambda space: str(space).replace("\n", ""))
@pytest.mark.parametrize("random", [False, True])
def test_workers_give_what_lanes_and_predict_give(observation: Any, action: Any, random: bool) -> None:
    env = Writes(observation, action)
    venv = DummyVecEnv([lambda: env])
    model = make_model(ES, venv, seed=0)
    if random:
        request = random_play(env.action_space, 3, 0, 0)
        assert isinstance(request.player, RandomPlayer)
    else:
        vector = model.population.mean[None]
        request = EvaluationRequest(vector, np.array([[1, 2]]), make_player(model.actor), Recording(transitions=True))
    recipe = lane_recipe(venv)
    assert recipe is not None
    player = LanePlayer(recipe)
    player.begin(Rules(request.player, request.recording, None))
    episodes = []
    for member, index in request.jobs:
        played = player.play(member, index, int(request.seeds[member, index]), request.parameters[member], [0])
        assert isinstance(played, ReplayableEpisode), played
        episodes.append(played.episode)
    in_worker: Any = player.env.unwrapped
    if not random:
        for _, dtype, shape, _ in in_worker.got:
            wanted = model.policy.predict(np.stack([model.observation_space.sample()] * 2))[0][0]
            assert (dtype, shape) == (wanted.dtype, wanted.shape)
    result = LockstepEvaluator(venv).evaluate(request, lambda variables: True)
    assert result is not None
    same(env.got[: len(in_worker.got)], in_worker.got)
    assert [episode.episode_return for episode in episodes] == [episode.episode_return for episode in result.episodes]


# -- what an episode brings home -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_success_does_not_depend_on_who_plays(algorithm: type) -> None:
    rates = []
    for kwargs in (dict(backend="lockstep"), dict(backend="subproc", n_workers=2)):
        model = make_model(algorithm, Monitor(Lesson()), seed=0, **kwargs)
        log = keep_log(model)
        model.learn(120)
        rates.append([entry["rollout/success_rate"] for entry in log])
    assert rates[0] == rates[1] and 0 < rates[0][-1] < 1


class Measured(Lesson):
    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *others, info = super().step(action)
        info |= {"height": float(action[0]), "parts": {"feet": [np.uint8(self.n_steps), np.arange(2)]}, "body": object()}
        return *others, info


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_an_episode_ends_with_does_not_depend_on_who_plays(algorithm: type) -> None:
    """Callbacks find the environment's own measurements in the last ``info``; objects stay in the worker."""
    told: list[list[Any]] = []
    for kwargs in (dict(backend="lockstep"), dict(backend="subproc", n_workers=2)):
        ends: list[Any] = []

        def keep(variables: dict[str, Any], _: Any, ends: list[Any] = ends) -> bool:
            for done, info in zip(variables["dones"], variables["infos"], strict=True):
                if done:
                    ends.append((info["is_success"], info["height"], info["parts"]["feet"][0], *info["parts"]["feet"][1]))
            return True

        make_model(algorithm, Monitor(Measured()), seed=0, **kwargs).learn(120, callback=keep)
        told.append(ends)
    assert told[0] == told[1] and len(told[0]) > 10


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kind", ["Monitor", "VecMonitor"])
def test_monitor_files_hold_what_workers_play(algorithm: type, kind: str, tmp_path: Path) -> None:
    def monitored(number: int) -> Callable[[], gym.Env]:
        if kind == "VecMonitor":
            return Lesson
        return lambda: Monitor(Lesson(), str(tmp_path / str(number)), info_keywords=("is_success",))

    env: VecEnv = DummyVecEnv([monitored(0), monitored(1)])
    if kind == "VecMonitor":
        env = VecMonitor(env, str(tmp_path / "all"), info_keywords=("is_success",))
    model = make_model(algorithm, env, **WORKERS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(100)
    rows = load_results(str(tmp_path))
    assert rows["l"].sum() >= 0.9 * model.num_timesteps
    assert rows["is_success"].notna().all() and rows["t"].between(0, 600).all()
