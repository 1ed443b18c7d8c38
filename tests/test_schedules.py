"""Schedules of the remaining progress."""

import math
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.schedules import ExponentialAnnealing, as_schedule

prop = settings(deadline=None, max_examples=100)


@pytest.mark.parametrize("steps", [0, 1, 200_000, 500_000, 1_000_000])
def test_annealing_is_the_authors_by_default(steps):
    """0.1 + 0.9 exp(-t / 1.2e6), for a run of 1e6 steps."""
    expected = 0.1 + 0.9 * math.exp(-steps / 1.2e6)
    assert ExponentialAnnealing()(1.0 - steps / 1e6) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "final, time_constant, progress_remaining, expected",
    [
        (0.1, 1.2, 1.0, 1.0),
        (0.1, 1.2, 0.0, 0.4911384),
        (0.0, 1.0, 0.0, math.exp(-1)),
        (0.5, 0.25, 0.75, 0.5 + 0.5 * math.exp(-1)),
        (0.5, 0.25, 0.5, 0.5 + 0.5 * math.exp(-2)),
        (1.0, 0.3, 0.2, 1.0),
        (0.2, 1e-3, 0.0, 0.2),
    ],
)
def test_annealing_values(final, time_constant, progress_remaining, expected):
    probability = ExponentialAnnealing(final, time_constant)(progress_remaining)
    assert type(probability) is float
    assert probability == pytest.approx(expected, rel=1e-7)


@prop
@given(st.floats(0, 1), st.floats(0.01, 100), st.floats(0, 1), st.floats(0, 1))
def test_annealing_falls_from_one_towards_the_final_value(final, time_constant, progress, other_progress):
    annealing = ExponentialAnnealing(final, time_constant)
    earlier, later = annealing(max(progress, other_progress)), annealing(min(progress, other_progress))
    # Half an ulp of rounding
    assert final - 1e-15 <= later <= earlier + 1e-15 <= 1.0 + 2e-15
    assert annealing(1.0) == pytest.approx(1.0, rel=1e-15)


def test_annealing_is_a_value():
    """Schedules are saved with the model: they pickle, and an equal one compares equal."""
    annealing = ExponentialAnnealing(0.2, 0.7)
    copy = pickle.loads(pickle.dumps(annealing))
    assert copy == annealing != ExponentialAnnealing(0.2, 0.8)
    assert copy(0.3) == annealing(0.3)


@pytest.mark.parametrize("value", [0, 1, 0.25, -3])
def test_number_becomes_a_constant_schedule(value):
    schedule = as_schedule(value)
    assert [schedule(progress) for progress in (1.0, 0.5, 0.0)] == [value] * 3
    assert type(schedule(0.5)) is float


def test_schedule_stays_what_it_is():
    annealing = ExponentialAnnealing()
    assert as_schedule(annealing) is annealing

    def half(progress_remaining: float) -> float:
        return progress_remaining / 2

    assert as_schedule(half) is half
    assert as_schedule(half)(0.5) == 0.25
