"""Workers that die, hang or raise, and callers that do: the real thing, and nothing may be left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from evaluation_envs import Point, Troubled, slow_point, unbuildable
from helpers import Drift, make_model

from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evaluation.worker import EvaluationError

TESTS = Path(__file__).parent


def descendants(root: int) -> dict[int, int]:
    """Processes that descend from one, by their parents; without the servers that multiprocessing keeps for itself."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found, new = {}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new}
        found.update({pid: parents[pid] for pid in new})
    return {pid: parent for pid, parent in found.items() if not (parent == root and _is_server(pid))}


def _is_server(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return True
    return "multiprocessing.forkserver" in command or "multiprocessing.resource_tracker" in command


def new_processes(before: dict[int, int], seconds: float = 2.0) -> set[int]:
    """Descendants of this process that were not there before, and do not go away within some seconds."""
    deadline = time.monotonic() + seconds
    while (new := set(descendants(os.getpid())) - set(before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return new


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process, thread, block of shared memory or open file is left when a test is over."""
    blocks, threads, files = set(os.listdir("/dev/shm")), set(threading.enumerate()), _open_blocks()
    processes, children = descendants(os.getpid()), set(multiprocessing.active_children())
    yield
    assert not new_processes(processes)
    assert set(os.listdir("/dev/shm")) <= blocks
    assert _open_blocks() <= files
    assert not [thread for thread in set(threading.enumerate()) - threads if thread.name.startswith("esac")]
    assert set(multiprocessing.active_children()) <= children


def _open_blocks() -> int:
    """Number of blocks of shared memory that this process has open."""
    n_blocks = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            n_blocks += "sb3_esac" in os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return n_blocks


def make_request(n_members: int = 5, n_episodes: int = 2) -> EvaluationRequest:
    low, high = np.array([-1.0, -0.5], np.float32), np.array([1.0, 2.0], np.float32)
    player = NumpyMlp([((2, 3), 0, 6)], ["tanh"], low, high)
    parameters = np.random.default_rng(0).standard_normal((n_members, 8)).astype(np.float32)
    seeds = np.arange(n_members * n_episodes).reshape(n_members, n_episodes)
    return EvaluationRequest(parameters, seeds, player, Recording(transitions=True))


def listen(variables: dict[str, Any]) -> bool:
    return True


def evaluate(
    env_fn: Callable[[], gym.Env], on_step: Callable[[dict[str, Any]], bool] = listen, **kwargs: Any
) -> EvaluationResult:
    arguments = {"n_workers": 2, "start_method": "fork", **kwargs}
    evaluator = SubprocEvaluator(env_fn, **arguments)
    before = descendants(os.getpid())
    try:
        result = evaluator.evaluate(make_request(), on_step)
    finally:
        # What an exception leaves behind is looked at before anybody tidies up.
        left = new_processes(before, 0.5) if sys.exc_info()[0] is not None else set()
        evaluator.close()
    assert not left
    assert result is not None
    return result


@pytest.fixture(scope="module")
def undisturbed() -> EvaluationResult:
    return evaluate(Point)


def assert_same(result: EvaluationResult, expected: EvaluationResult) -> None:
    np.testing.assert_array_equal(result.returns, expected.returns)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    for one, other in zip(result.episodes, expected.episodes, strict=True):
        assert one.transitions is not None and other.transitions is not None
        np.testing.assert_array_equal(one.transitions.observations, other.transitions.observations)


# -- workers that die or hang ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start_method", ["fork", None])
def test_a_worker_that_dies_is_replaced(undisturbed: EvaluationResult, tmp_path: Path, start_method: str | None) -> None:
    env_fn = partial(Troubled, "kill", marker=str(tmp_path / "killed"))
    assert_same(evaluate(env_fn, start_method=start_method), undisturbed)
    assert (tmp_path / "killed").exists()


def test_every_worker_is_killed_from_outside(undisturbed: EvaluationResult) -> None:
    evaluator = SubprocEvaluator(slow_point, 2, start_method="fork")
    killed: list[int] = []
    heard: list[dict[str, Any]] = []

    def kill_all_once(variables: dict[str, Any]) -> bool:
        heard.append(variables)
        if not killed and evaluator.slots is not None:
            killed.extend(evaluator.slots.pids.tolist())
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
        return True

    result = evaluator.evaluate(make_request(), kill_all_once)
    assert result is not None and len(killed) == 2
    assert_same(result, undisturbed)
    assert len(heard) == undisturbed.lengths.sum(), "no step is told twice"
    again = evaluator.evaluate(make_request(), listen)
    evaluator.close()
    assert again is not None
    assert_same(again, undisturbed)


def test_a_hanging_episode_is_played_again(undisturbed: EvaluationResult, tmp_path: Path) -> None:
    env_fn = partial(Troubled, "hang", marker=str(tmp_path / "hung"))
    assert_same(evaluate(env_fn, episode_timeout=1.0), undisturbed)
    assert (tmp_path / "hung").exists()


def test_slow_is_not_hanging(undisturbed: EvaluationResult) -> None:
    assert_same(evaluate(slow_point, episode_timeout=20.0, max_worker_restarts=0), undisturbed)


@pytest.mark.parametrize(("trouble", "what"), [("kill", "died"), ("hang", "longer than 1.0 s")])
def test_too_many_deaths(trouble: str, what: str) -> None:
    with pytest.raises(EvaluationError, match="`max_worker_restarts`") as caught:
        evaluate(partial(Troubled, trouble), max_worker_restarts=1, episode_timeout=1.0)
    assert "episode 1 of member 2 (seed 5)" in str(caught.value) and what in str(caught.value)


# -- exceptions ------------------------------------------------------------------------------------------------------------


def test_an_environment_that_raises() -> None:
    with pytest.raises(EvaluationError) as caught:
        evaluate(partial(Troubled, "raise"))
    text = str(caught.value)
    assert "Member 2, episode 1 (seed 5)" in text
    assert "ArithmeticError: the point fell off the plane" in text
    assert "Traceback" in text and "evaluation_envs.py" in text


def test_an_environment_that_wants_to_exit() -> None:
    with pytest.raises(EvaluationError, match="SystemExit"):
        evaluate(partial(Troubled, "exit"))


def test_an_environment_that_cannot_be_built() -> None:
    with pytest.raises(EvaluationError, match=r"could not be built.*no such robot"):
        evaluate(unbuildable)


class _OddInfo(Point):
    def step(self, action: np.ndarray) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        *outcome, _ = super().step(action)
        return (*outcome, {"episode": {"r": 0.0, "l": 1, "t": 0.0, "lock": threading.Lock()}})  # type: ignore[return-value]


def test_an_info_that_cannot_be_sent() -> None:
    with pytest.raises(EvaluationError, match="cannot be sent"):
        evaluate(_OddInfo)


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_a_callback_that_raises(error: type[BaseException]) -> None:
    def on_step(variables: dict[str, Any]) -> bool:
        raise error("in a callback")

    with pytest.raises(error):
        evaluate(slow_point, on_step)


def test_close_does_not_wait_for_what_hangs(undisturbed: EvaluationResult) -> None:
    def on_step(variables: dict[str, Any]) -> bool:
        raise ZeroDivisionError

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        evaluate(partial(Troubled, "hang", pause=0.02), on_step, n_workers=1)
    assert time.monotonic() - start < 15.0


def test_an_evaluator_can_be_used_after_an_error(undisturbed: EvaluationResult, tmp_path: Path) -> None:
    marker = tmp_path / "raised"
    evaluator = SubprocEvaluator(partial(Troubled, "raise", marker=str(marker)), 2, start_method="fork")
    with pytest.raises(EvaluationError):
        evaluator.evaluate(make_request(), listen)
    result = evaluator.evaluate(make_request(), listen)
    evaluator.close()
    evaluator.close()
    assert result is not None
    assert_same(result, undisturbed)


# -- scripts ---------------------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from evaluation_envs import slow_point
from sb3_esac.evaluation.subproc import SubprocEvaluator
from test_faults import make_request

def main():
    evaluator = SubprocEvaluator(slow_point, 2)
    while True:
        result = evaluator.evaluate(make_request(), lambda variables: print("step", flush=True) is None)

{call}
"""

GUARDED = 'if __name__ == "__main__":\n    main()'


def start_script(tmp_path: Path, call: str, **variables: str) -> "subprocess.Popen[str]":
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(TESTS), call=call))
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **variables}
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        # A test run that was put in the background ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def session_is_empty(session: int, seconds: float = 10.0) -> bool:
    """Whether no process of a session is left, or will soon be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_session_of(int(name)) == session for name in os.listdir("/proc") if name.isdigit()):
            return True
        time.sleep(0.05)
    return False


def _session_of(pid: int) -> int | None:
    try:
        state, _, _, session = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except OSError:
        return None
    return None if state == "Z" else int(session)


def test_a_script_without_a_guard_is_told_so(tmp_path: Path) -> None:
    process = start_script(tmp_path, "main()")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    last = errors[errors.rindex("EvaluationError") :]
    assert "`__main__` guard" in last and 'if __name__ == "__main__":' in last
    assert "leaked" not in errors
    assert session_is_empty(process.pid)


def in_a_daemon() -> str:
    try:
        make_model(ES, Drift(), n_workers=2, seed=0).learn(100)
    except EvaluationError as error:
        return str(error)
    return "no error"


def test_workers_of_a_daemon() -> None:
    """Processes of a ``multiprocessing.Pool`` may not have children: they are told so, and not to guard their script."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        message = pool.apply(in_a_daemon)
    assert "daemonic processes are not allowed to have children" in message
    assert "`n_workers=1`" in message and "guard" not in message


@pytest.mark.parametrize("victims", ["group", "parent"])
def test_ctrl_c(tmp_path: Path, victims: str) -> None:
    process = start_script(tmp_path, GUARDED)
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    if victims == "group":
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does
    else:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert errors.count("Traceback") == 1, errors
    assert "leaked" not in errors
    assert session_is_empty(process.pid)


def test_a_mujoco_that_cannot_be_imported_is_not_needed(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    process = start_script(tmp_path, GUARDED, MUJOCO_GL="nonsense")
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    process.kill()
    process.communicate(timeout=10)


def test_workers_do_not_survive_their_parent(tmp_path: Path) -> None:
    process = start_script(tmp_path, GUARDED)
    assert process.stdout is not None
    assert process.stdout.readline() == "step\n"
    process.kill()
    assert session_is_empty(process.pid)
    process.communicate(timeout=10)


# -- memory ----------------------------------------------------------------------------------------------------------------


def resident_kib(pid: int) -> int:
    """Resident memory that a process shares with nobody's files, in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


@pytest.mark.expensive
def test_memory_is_flat_over_a_thousand_generations() -> None:
    evaluator = SubprocEvaluator(Point, 2)
    request = make_request(20, 2)
    generations, memory = [], []
    for generation in range(1000):
        assert evaluator.evaluate(request, listen) is not None
        if generation % 20 == 0 and evaluator.slots is not None:
            generations.append(generation)
            memory.append([resident_kib(pid) for pid in [os.getpid(), *evaluator.slots.pids.tolist()]])
    evaluator.close()
    # The first generations fill pools and caches.
    settled = len(memory) // 4
    slopes = np.polyfit(generations[settled:], np.array(memory[settled:], dtype=float), 1)[0]
    print("KiB per generation, parent and workers:", slopes.round(3), "from", memory[settled], "to", memory[-1])
    assert (slopes < 0.5).all()
