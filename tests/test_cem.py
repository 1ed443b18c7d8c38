"""The cross-entropy method: elites, the noise that is added to variances, and what it comes to on functions."""

import numpy as np
import pytest
from functions import NOT_FINITE_RETURNS, search, sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.strategies import CEM
from sb3_esac.evolution.strategies.cem import elite_weights

NAN = float("nan")


def test_weights_by_hand():
    """ln(4) - ln(i) for three elites, normalised."""
    np.testing.assert_allclose(elite_weights(3), np.log([4, 2, 4 / 3]) / np.log(4 * 2 * 4 / 3), rtol=1e-12)
    np.testing.assert_array_equal(elite_weights(1), [1.0])


def test_a_generation_by_hand():
    """Mean of the elites; their spread about the mean that they were drawn from, and the noise."""
    strategy = CEM(np.array([10.0, -10.0]), sigma=0.5, population_size=4, seed=3)
    asked = strategy.ask()
    np.testing.assert_array_equal(strategy.ask(), asked)
    assert asked.dtype == np.float64
    strategy.tell([1.0, 7.0, -2.0, 5.0])
    weights = np.log([3, 1.5]) / np.log(4.5)
    np.testing.assert_allclose(strategy.mean, weights @ asked[[1, 3]], rtol=1e-12)
    variance = weights @ (asked[[1, 3]] - [10.0, -10.0]) ** 2 + 0.5**2
    np.testing.assert_allclose(strategy.strategy.variance, variance, rtol=1e-12)
    assert strategy.sigma == pytest.approx(np.sqrt(variance.mean()))
    assert strategy.ask()[0, 0] != asked[0, 0]


def test_noise_decays():
    """From the square of sigma to the square of a tenth of it, by a factor of 0.95."""
    strategy = CEM(np.zeros(2), sigma=2.0, population_size=4)
    found = []
    for _ in range(200):
        found.append(strategy.strategy.noise)
        strategy.ask()
        strategy.tell(np.arange(4))
    expected = 0.04 + (4 - 0.04) * 0.95 ** np.arange(200)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_noise_that_is_said():
    strategy = CEM(np.zeros(2), 2.0, population_size=4, initial_noise=0.3, final_noise=0.1, noise_decay=0.5)
    strategy.ask()
    strategy.tell(np.arange(4))
    assert strategy.strategy.noise == pytest.approx(0.5 * 0.09 + 0.5 * 0.01)


@pytest.mark.parametrize("noise_decay, expected", [(0, 0.01), (1, 0.09)])
def test_noise_at_once_or_never(noise_decay, expected):
    strategy = CEM(np.zeros(2), 2.0, population_size=4, initial_noise=0.3, final_noise=0.1, noise_decay=noise_decay)
    strategy.ask()
    strategy.tell(np.arange(4))
    assert strategy.strategy.noise == pytest.approx(expected)


def test_sigma_of_what_has_collapsed():
    """Variances that are zero have no proportions to keep."""
    strategy = CEM(np.zeros(2), 2.0).strategy
    strategy.variance = np.zeros(2)
    strategy.sigma = 0.5
    np.testing.assert_array_equal(strategy.deviations, 0.5)


def test_finds_an_optimum():
    """With no noise in the end, to the last digit that a float has."""
    strategy = CEM(np.full(5, 3.0), sigma=1.0, final_noise=0.0, noise_decay=0.7)
    assert sphere(search(strategy, sphere, 300)) > -1e-8


def test_noise_keeps_it_searching():
    without = CEM(np.full(5, 3.0), sigma=1.0, initial_noise=0.0, final_noise=0.0)
    kept = CEM(np.full(5, 3.0), sigma=1.0)
    for strategy in (without, kept):
        search(strategy, sphere, 300)
    assert without.sigma < 1e-3 < 0.1 <= kept.sigma


def test_variances_follow_the_function():
    """What matters more is searched more finely."""
    strategy = CEM(np.zeros(2), sigma=1.0, initial_noise=0.0, final_noise=0.01)
    search(strategy, lambda points: -(points[..., 0] ** 2 + 1e4 * points[..., 1] ** 2), 10)
    assert strategy.strategy.variance[0] > 10 * strategy.strategy.variance[1]


@settings(deadline=None, max_examples=30)
@given(st.lists(NOT_FINITE_RETURNS, min_size=6, max_size=6))
def test_any_returns(returns):
    strategy = CEM(np.zeros(3), 0.1, population_size=6)
    for _ in range(3):
        strategy.ask()
        strategy.tell(returns)
    assert np.isfinite(strategy.mean).all() and np.isfinite(strategy.ask()).all() and strategy.sigma > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(winner_fraction=0.0), "`winner_fraction` must be in (0, 1], not 0.0"),
        (dict(population_size=5, mirrored=True), "`population_size` must be an even integer >= 2 (perturbations are"),
        (dict(initial_noise=-0.1), "`initial_noise` must be a finite number >= 0, not -0.1"),
        (dict(final_noise=NAN), "`final_noise` must be a finite number >= 0, not nan"),
        (dict(noise_decay=1.5), "`noise_decay` must be in [0, 1], not 1.5"),
        (dict(noise_decay="slow"), "`noise_decay` must be in [0, 1], not 'slow'"),
        (dict(sigma=0), "`sigma` must be a positive finite number, not 0"),
        (dict(seed=-1), "`seed` must be an integer >= 0, not -1"),
        (dict(mean=[NAN]), "`mean` must be a vector of finite numbers"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        CEM(**{"mean": np.zeros(3), "sigma": 0.1, **arguments})
    assert message in str(error.value)
