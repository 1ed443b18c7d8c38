"""The commands that measure run, and what they compute is right."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

evaluation = pytest.importorskip("benchmarks.evaluation", reason="the benchmarks are not part of the package")
generations = pytest.importorskip("benchmarks.generations")
scaling = pytest.importorskip("benchmarks.scaling")
loop = pytest.importorskip("benchmarks.loop")
updates = pytest.importorskip("benchmarks.updates")
render_mode = pytest.importorskip("benchmarks.render_mode")
simulators = pytest.importorskip("benchmarks.simulators")
pictures = pytest.importorskip("benchmarks.pictures")


def test_the_evaluation_benchmark_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = evaluation.main(["--quick", "--output", str(tmp_path / "evaluation.csv")])
    assert [row["way"] for row in rows] == ["simulator", "simulator + forward", "workers", "workers, sharing"]
    assert all(row["rate"] > 0 and row["steps"] == 800 for row in rows)
    assert rows[0]["per_core"] == 1.0
    with (tmp_path / "evaluation.csv").open() as file:
        assert [row["way"] for row in csv.DictReader(file)] == [row["way"] for row in rows]
    assert "Pendulum-v1" in capsys.readouterr().out


def test_the_benchmark_of_generations_runs(tmp_path: Path) -> None:
    rows = generations.main(["--quick", "--output", str(tmp_path / "generations.csv")])
    assert {row["workers"] for row in rows} == {1, 2, 8, 64, 512}
    assert all(row["measured"] != "" for row in rows if row["members"] == 4 and row["workers"] == 1)
    assert (tmp_path / "generations.csv").exists()


def test_the_scaling_benchmark_runs(tmp_path: Path) -> None:
    few = ["--envs", "Pendulum-v1", "--members", "8", "--generations", "12", "--turns", "1", "--cores", "2"]
    rows = scaling.main([*few, "--output", str(tmp_path / "scaling.csv")])
    kinds = [(row["kind"], row["workers"]) for row in rows]
    assert kinds == [("measured", 1), ("measured", 2), *(("predicted", n) for n in (1, 2, 8, 16, 64))]
    assert all(row["rate"] > 0 and row["simulator"] > 0 for row in rows)
    assert rows[2]["rate"] == pytest.approx(rows[0]["rate"], rel=0.3), "one worker is what predictions are made from"
    assert (tmp_path / "scaling.csv").read_text().startswith(",".join(scaling.FIELDS))


def test_the_rate_of_a_known_run() -> None:
    lengths = np.array([100, 100, 100, 100])
    played = [scaling.Played(float(start), start + 4.0, lengths) for start in (0, 5, 10)]
    assert scaling.rate_of(played) == (80.0, 5.0, 1.0)
    # A second of the parent's, and 0.01 a step.
    assert scaling.predicted_rate(played, 1) == pytest.approx((80.0, 5.0))
    assert scaling.predicted_rate(played, 3) == pytest.approx((400 / 3, 3.0))
    assert scaling.predicted_rate(played, 64) == pytest.approx((200.0, 2.0))


def test_the_benchmark_of_the_loop_runs(tmp_path: Path) -> None:
    path = tmp_path / "loop.csv"
    rows = loop.main(
        ["--env", "Pendulum-v1", "--steps", "200", "--turns", "1", "--warm-up", "200", "--no-sbx", "--output", str(path)]
    )
    assert [row["agent"] for row in rows] == [loop.FAST, loop.STOCK, "SB3's SAC, same arguments"]
    assert all(row["rate"] > 0 for row in rows) and all(row["gradient_ms"] > 0 for row in rows[:2])
    assert path.read_text().startswith(",".join(loop.FIELDS))


def test_the_benchmark_of_updates_runs(tmp_path: Path) -> None:
    path = tmp_path / "updates.csv"
    rows = updates.main(["--env", "Pendulum-v1", "--updates", "2", "--turns", "3", "--output", str(path)])
    assert [row["agent"] for row in rows] == ["ESAC's, by hand", "ESAC's", "ESAC's, Adam not fused", "SAC, by hand", "SAC"]
    assert all(0 < row["fastest"] <= row["ms_per_update"] <= row["slowest"] for row in rows)
    assert path.exists()


def test_the_benchmark_of_simulators_runs(tmp_path: Path) -> None:
    rows = simulators.main(["--turns", "1", "--steps", "5000", "--output", str(tmp_path / "simulators.csv")])
    rates = {row["way"]: row["rate"] for row in rows if row["simulator"] == "toy"}
    assert rates["simulator"] > rates["together"] > rates["one after the other"] > 0


def test_the_benchmark_of_render_modes_runs(tmp_path: Path) -> None:
    pytest.importorskip("Box2D")
    with_particles, without = render_mode.main(["--episodes", "1", "--output", str(tmp_path / "render_mode.csv")])
    assert without["us_per_step"] < with_particles["us_per_step"]
    assert (without["steps"], without["mean_return"]) == (with_particles["steps"], with_particles["mean_return"])


def test_the_benchmark_of_pictures_runs(tmp_path: Path) -> None:
    pytest.importorskip("ale_py", reason="ale-py is not installed")
    rows = pictures.main(["--calls", "2", "--output", str(tmp_path / "pictures.csv")])
    found = {(row["what"], row["way"]): row for row in rows}
    assert {what for what, _ in found} == {"forward", "first convolution", "step of Pong", "reset by a seed"}
    # The network says different things to different pictures, and what is in use says what torch does.
    assert all(found["forward", way]["equal"] == "50 of 50" for way in ("torch", "numpy, as members have it", "predict"))
    assert found["first convolution", "blocks of bytes"]["equal"] == "yes"
    assert all(row["of_first"] == 1 for row in {row["what"]: row for row in rows[::-1]}.values())


@given(st.lists(st.floats(0.0, 10.0), min_size=1, max_size=30), st.integers(1, 40))
def test_makespan_is_within_its_bounds(durations: list[float], n_workers: int) -> None:
    seconds = generations.makespan(np.array(durations), n_workers)
    even, longest = sum(durations) / n_workers, max(durations)
    assert max(even, longest) - 1e-9 <= seconds <= even + longest + 1e-9


def test_makespan_of_a_known_case() -> None:
    assert generations.makespan(np.array([3.0, 1.0, 1.0, 1.0]), 2) == 3.0
    assert generations.makespan(np.array([1.0, 1.0, 1.0, 3.0]), 2) == 4.0


def test_other_machines_are_reached_through_the_network() -> None:
    parts = generations.Parts(1e-5, 1e-4, 1e-10, 1e-3, 1e6, np.array([100, 200]), 1000)
    here = generations.predict(parts, 1000, 64, 1e9, 64)
    there = generations.predict(parts, 1000, 128, 1e9, 64)
    assert there["out"] == pytest.approx(here["out"] + 4e6 / 1e9)
    assert there["in"] == pytest.approx(here["in"] + 1000 * 0.5 * 1e6 / 1e9)
    assert generations.predict(parts, 10, 512, 1e9, 64)["out"] == pytest.approx(4e4 * 1e-10), (
        "nobody sends to who has nothing to do"
    )
