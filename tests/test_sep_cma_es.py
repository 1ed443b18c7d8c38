"""Separable CMA-ES: the update by hand, and evaluations to an optimum beside the package ``cma``."""

import numpy as np
import pytest
from functions import NOT_FINITE_RETURNS, search, sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.strategies import SeparableCMAES
from sb3_esac.evolution.strategies.sep_cma_es import Rates, SeparableCMA, default_size, parent_weights

TARGET = -1e-8


def ellipsoid(points):
    """Of condition 1e4."""
    d = points.shape[-1]
    return -(1e4 ** (np.arange(d) / (d - 1)) * points**2).sum(axis=-1)


def rosenbrock(points):
    return -(100 * (points[..., 1:] - points[..., :-1] ** 2) ** 2 + (1 - points[..., :-1]) ** 2).sum(axis=-1)


# -- by hand ------------------------------------------------------------------------------------------------------------


def test_constants_of_the_tutorial():
    """For d = 10 and lambda = 10, worked out from table 1."""
    assert default_size(10) == 10
    weights = parent_weights(10)
    np.testing.assert_allclose(weights, [0.45627265, 0.27075243, 0.16223091, 0.08523223, 0.02551178], rtol=1e-4)
    mu_eff = 1 / (weights**2).sum()
    assert mu_eff == pytest.approx(3.1672991, rel=1e-5)
    rates = Rates.of(10, mu_eff)
    assert rates.c_sigma == pytest.approx(5.1672991 / 18.1672991, rel=1e-5)
    assert rates.d_sigma == pytest.approx(1 + rates.c_sigma)
    assert rates.c_c == pytest.approx(4.31672991 / 14.63345982, rel=1e-5)
    assert rates.c_1 == pytest.approx(4 * 2 / (11.3**2 + 3.1672991), rel=1e-5)
    assert rates.c_mu == pytest.approx(4 * 2 * (0.25 + 3.1672991 + 1 / 3.1672991 - 2) / (144 + 3.1672991), rel=1e-5)


def test_damping_grows_with_the_population():
    assert Rates.of(3, 100.0).d_sigma == pytest.approx(1 + 2 * (np.sqrt(99 / 4) - 1) + 102 / 108)


@pytest.mark.parametrize("dimension, mu_eff", [(1, 1.0), (1, 500.0), (2, 1.0), (2, 500.0), (10_000, 3.0)])
def test_variances_stay_positive(dimension, mu_eff):
    rates = Rates.of(dimension, mu_eff)
    assert 0 <= rates.c_1 <= 1 and 0 <= rates.c_mu <= 1 - rates.c_1


def test_a_generation_by_hand():
    """Equations of the tutorial, written out for the first generation, whose paths start from zero."""
    strategy = SeparableCMAES(np.array([10.0, -10.0]), sigma=0.5, population_size=4, seed=5)
    asked = strategy.ask()
    assert asked.dtype == np.float64
    strategy.tell([1.0, 7.0, -2.0, 5.0])
    weights, rates = parent_weights(4), Rates.of(2, 1 / (parent_weights(4) ** 2).sum())
    steps = (asked[[1, 3]] - [10.0, -10.0]) / 0.5
    step, mu_eff = weights @ steps, 1 / (weights**2).sum()
    np.testing.assert_allclose(strategy.mean, weights @ asked[[1, 3]], rtol=1e-12)
    step_path = np.sqrt(rates.c_sigma * (2 - rates.c_sigma) * mu_eff) * step
    path = np.sqrt(rates.c_c * (2 - rates.c_c) * mu_eff) * step
    expected = np.sqrt(2) * (1 - 1 / 8 + 1 / 84)
    length = np.linalg.norm(step_path)
    assert length / np.sqrt(1 - (1 - rates.c_sigma) ** 2) < (1.4 + 2 / 3) * expected, "the path does not stall here"
    size = 0.5 * np.exp(rates.c_sigma / rates.d_sigma * (length / expected - 1))
    variance = (1 - rates.c_1 - rates.c_mu) + rates.c_1 * path**2 + rates.c_mu * weights @ steps**2
    state = strategy.strategy.state_dict()
    np.testing.assert_allclose(state["step_path"], step_path, rtol=1e-12)
    np.testing.assert_allclose(state["path"], path, rtol=1e-12)
    np.testing.assert_allclose(state["variance"], variance, rtol=1e-12)
    assert state["step_size"] == pytest.approx(size)
    assert strategy.sigma == pytest.approx(size * np.sqrt(variance.mean()))


def test_the_path_stalls():
    """While steps are much longer than expected the path of the covariance shrinks, and variances lose less."""
    strategy = SeparableCMA(np.zeros(2), 1.0, PopulationConfig(size=4, n_winners=2, strategy="sep_cma_es"))
    strategy.move(np.full((4, 2), 100.0), np.arange(4.0), np.array([3, 2]))
    np.testing.assert_array_equal(strategy.path, 0.0)
    weights = parent_weights(4)
    rates = Rates.of(2, 1 / (weights**2).sum())
    kept = 1 - rates.c_1 * (1 - rates.c_c * (2 - rates.c_c)) - rates.c_mu
    np.testing.assert_allclose(strategy.variance, kept + rates.c_mu * 100.0**2)
    assert strategy.step_size == pytest.approx(np.e), "sigma grows by no more than this in a generation"


def test_sigma_stays_without_selection():
    """Under returns that say nothing the step size has no trend."""
    found = []
    for seed in range(10):
        strategy, rng = SeparableCMAES(np.zeros(10), 1.0, seed=seed), np.random.default_rng(seed)
        search(strategy, lambda points, rng=rng: rng.random(len(points)), 100)
        found.append(np.log(strategy.strategy.step_size))
    assert abs(np.mean(found)) < 1.0


def test_unknown_parents_are_missing():
    """The one parent of which something is known has all the weight."""
    strategy = SeparableCMAES(np.zeros(3), 0.1, population_size=6)
    asked = strategy.ask()
    strategy.tell([np.nan, 3.0, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_allclose(strategy.mean, asked[1], rtol=1e-12)


# -- on functions -------------------------------------------------------------------------------------------------------


def evaluations(function, dimension, start, seed, limit=200_000):
    strategy, n = SeparableCMAES(np.full(dimension, start), 0.5, seed=seed), 0
    while n < limit:
        values = function(strategy.ask())
        n += len(values)
        if values.max() > TARGET:
            return n
        strategy.tell(values)
    return n


def evaluations_of_cma(function, dimension, start, seed, **options):
    cma = pytest.importorskip("cma")
    never = {"tolfun": 0, "tolfunhist": 0, "tolx": 0, "tolstagnation": 10**9, "tolflatfitness": 10**9, "maxiter": 10**9}
    options = {"CMA_diagonal": True, "seed": seed + 1, "verbose": -9, "ftarget": -TARGET, **never, **options}
    search = cma.CMAEvolutionStrategy(dimension * [start], 0.5, options)
    while not search.stop():
        candidates = search.ask()
        search.tell(candidates, (-function(np.asarray(candidates))).tolist())
    assert search.result.fbest < -TARGET
    return search.result.evaluations


@pytest.mark.parametrize("active", [True, False], ids=["active", "passive"])
@pytest.mark.parametrize("function", [sphere, ellipsoid], ids=lambda function: function.__name__)
def test_as_fast_as_cma(function, active):
    """Evaluations to 1e-8, within a factor of 1.5, whether or not ``cma`` uses its negative weights."""
    ours = np.median([evaluations(function, 10, 1.0, seed) for seed in range(5)])
    theirs = np.median([evaluations_of_cma(function, 10, 1.0, seed, CMA_active=active) for seed in range(5)])
    assert 1 / 1.5 < ours / theirs < 1.5 or ours < theirs


@pytest.mark.expensive
def test_rosenbrock():
    """
    As fast as ``cma`` without negative weights, which the separable CMA-ES of the paper does not have.

    With them and its own update of the diagonal, which is another, ``cma`` takes 0.4 as many.
    """
    ours = np.median([evaluations(rosenbrock, 5, 0.0, seed) for seed in range(3)])
    theirs = np.median([evaluations_of_cma(rosenbrock, 5, 0.0, seed, CMA_active=False) for seed in range(3)])
    assert 1 / 1.5 < ours / theirs < 1.5


def test_scales_are_found():
    """On the ellipsoid variances become the inverse of its curvatures."""
    strategy = SeparableCMAES(np.ones(5), 0.5)
    search(strategy, ellipsoid, 120)
    ratios = strategy.strategy.variance * 1e4 ** (np.arange(5) / 4)
    assert ratios.max() / ratios.min() < 30


@settings(deadline=None, max_examples=30)
@given(st.lists(NOT_FINITE_RETURNS, min_size=6, max_size=6))
def test_any_returns(returns):
    strategy = SeparableCMAES(np.zeros(3), 0.1, population_size=6)
    for _ in range(3):
        strategy.ask()
        strategy.tell(returns)
    assert np.isfinite(strategy.mean).all() and np.isfinite(strategy.ask()).all() and strategy.sigma > 0


@pytest.mark.parametrize("dimension, size", [(1, 2), (1, 50), (2, 3)])
def test_small_ones(dimension, size):
    strategy = SeparableCMAES(np.full(dimension, 2.0), 1.0, population_size=size)
    assert np.isfinite(search(strategy, sphere, 50)).all() and np.isfinite(strategy.sigma)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(population_size=1), "`population_size` must be an integer >= 2, not 1"),
        (dict(population_size=4.0), "`population_size` must be an integer >= 2, not 4.0"),
        (dict(sigma=-1.0), "`sigma` must be a positive finite number, not -1.0"),
        (dict(seed=0.5), "`seed` must be an integer >= 0, not 0.5"),
        (dict(mean=[]), "`mean` must be a vector, not []"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError) as error:
        SeparableCMAES(**{"mean": np.zeros(3), "sigma": 0.1, **arguments})
    assert message in str(error.value)
