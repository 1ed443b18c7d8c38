"""Episodes in Ray actors: the result of lockstep, and faults as in worker processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_envs import Troubled, slow_point, unbuildable
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize
from test_evaluation import ALL, KINDS, assert_same, lanes, make_request
from test_faults import descendants

from sb3_esac.evaluation.factories import lane_recipe
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.worker import EvaluationError

ray = pytest.importorskip("ray")

from sb3_esac.evaluation.ray import RayEvaluator  # noqa: E402


def listen(variables: dict[str, Any]) -> bool:
    return True


def count(heard: list[int], variables: dict[str, Any]) -> bool:
    heard.append(len(variables["dones"]))
    return True


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all tests: evaluators join what is there, and leave it alone when they are closed."""
    blocks = set(os.listdir("/dev/shm"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
    assert set(os.listdir("/dev/shm")) <= blocks


def evaluator_of(env: VecEnv, n_workers: int = 2, **kwargs: Any) -> RayEvaluator:
    recipe = lane_recipe(env)
    return RayEvaluator(recipe, n_workers, vec_normalize=unwrap_vec_normalize(env), **kwargs)


def no_actor_is_left(seconds: float = 10.0) -> bool:
    """Whether all processes that play in lanes are gone, or will soon be."""
    deadline = time.monotonic() + seconds
    while any("LaneActor" in command_of(pid) for pid in descendants(os.getpid())):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(("kind", "n_workers"), [("plain", 1), ("plain", 3), ("normalize", 2), ("stack image", 1)])
def test_actors_agree_with_lockstep(kind: str, n_workers: int) -> None:
    env = KINDS[kind]()
    evaluator = evaluator_of(env, n_workers)
    for recording, n_members in ((ALL, 9), (Recording(), 1)):
        request = make_request(env, recording, n_members=n_members)
        heard: list[int] = []
        result = evaluator.evaluate(request, partial(count, heard))
        assert any("LaneActor" in command_of(pid) for pid in descendants(os.getpid()))
        assert_same(result, LockstepEvaluator(env).evaluate(request, listen))
        assert result is not None and sum(heard) == result.lengths.sum()
    evaluator.close()
    assert no_actor_is_left()


@pytest.mark.usefixtures("cluster")
def test_dead_and_hanging_actors_are_replaced(tmp_path: Path) -> None:
    for trouble in ("kill", "hang"):
        env = lanes(partial(Troubled, trouble, marker=str(tmp_path / trouble)))
        request = make_request(env)
        evaluator = evaluator_of(env, episode_timeout=2.0)
        result = evaluator.evaluate(request, listen)
        evaluator.close()
        assert (tmp_path / trouble).exists()
        assert_same(result, LockstepEvaluator(lanes(Troubled)).evaluate(request, listen))


@pytest.mark.usefixtures("cluster")
def test_actors_killed_from_outside() -> None:
    env = lanes(slow_point)
    request = make_request(env)
    evaluator = evaluator_of(env)
    expected = evaluator.evaluate(request, listen)
    pids = [ray.get(actor.pid.remote()) for actor in evaluator.actors]

    def kill(variables: dict[str, Any]) -> bool:
        if pids:
            os.kill(pids.pop(), signal.SIGKILL)
        return True

    assert_same(evaluator.evaluate(request, kill), expected)
    evaluator.close()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("trouble", "what"),
    [
        ("raise", r"Member 2, episode 1 \(seed 5\)[^\0]*ArithmeticError[^\0]*Traceback"),
        ("hang", r"longer than 1.0 s.*`max_worker_restarts`"),
    ],
)
def test_errors_leave_no_actor(trouble: str, what: str) -> None:
    evaluator = RayEvaluator(partial(Troubled, trouble), 1, max_worker_restarts=1, episode_timeout=1.0)
    with pytest.raises(EvaluationError, match=what):
        evaluator.evaluate(make_request(lanes(Troubled)), listen)
    assert no_actor_is_left()


@pytest.mark.usefixtures("cluster")
def test_an_environment_that_cannot_be_built() -> None:
    with pytest.raises(EvaluationError, match=r"could not be built.*no such robot"):
        RayEvaluator(unbuildable, 1).evaluate(make_request(KINDS["plain"]()), listen)


@pytest.mark.usefixtures("cluster")
def test_a_callback_stops_the_evaluation() -> None:
    env = lanes(slow_point)
    evaluator, request = evaluator_of(env, 1), make_request(env)
    heard: list[int] = []
    assert evaluator.evaluate(request, lambda variables: count(heard, variables) and len(heard) < 3) is None
    assert len(heard) == 3
    assert_same(evaluator.evaluate(request, listen), LockstepEvaluator(env).evaluate(request, listen))
    evaluator.close()


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import ray
from test_evaluation import *
from sb3_esac.evaluation.ray import RayEvaluator

if __name__ == "__main__":
    env = KINDS["plain"]()
    evaluator = RayEvaluator(lane_recipe(env), 1)
    result = evaluator.evaluate(make_request(env), listen)
    assert_same(result, LockstepEvaluator(env).evaluate(make_request(env), listen))
    evaluator.close()
    assert not ray.is_initialized()
    print("agreed")
"""


def test_a_local_cluster_is_started_and_ended(tmp_path: Path) -> None:
    blocks = set(os.listdir("/dev/shm"))
    tests = Path(__file__).parent
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(tests)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests.parent), str(tests)])}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=environment, timeout=120)
    assert done.stdout == "agreed\n", done.stderr
    assert set(os.listdir("/dev/shm")) <= blocks


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"`n_workers`.*0"):
        RayEvaluator(Troubled, 0)
    assert np.isfinite(RayEvaluator(Troubled, 1).n_workers)


def test_actors_for_which_there_is_no_room(cluster: None) -> None:
    env = KINDS["plain"]()
    request = make_request(env)
    evaluator = evaluator_of(env, n_workers=5)
    with pytest.warns(UserWarning, match="5 workers take a CPU each, and the Ray cluster has 3"):
        results = [evaluator.evaluate(request, listen) for _ in range(3)]
    evaluator.close()
    for result in results:
        assert_same(result, LockstepEvaluator(env).evaluate(request, listen))
    assert no_actor_is_left()
