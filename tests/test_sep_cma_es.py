"""Separable CMA-ES: the update by hand, and evaluations to an optimum beside the package ``cma``."""

import numpy as np
import pytest
from functions import NOT_FINITE_RETURNS, search, sphere
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.config import PopulationConfig
from sb3_esac.evolution.strategies import SeparableCMAES
from sb3_esac.evolution.strategies.sep_cma_es import (
    Rates,
    SeparableCMA,
    default_size,
    expected_length,
    has_settled,
    loser_weights,
    parent_weights,
)


def ellipsoid(points):
    """Of condition 1e4."""
    d = points.shape[-1]
    return -(1e4 ** (np.arange(d) / (d - 1)) * points**2).sum(axis=-1)


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
def test_rates_are_shares(dimension, mu_eff):
    rates = Rates.of(dimension, mu_eff)
    assert 0 <= rates.c_1 <= 1 and 0 <= rates.c_mu <= 1 - rates.c_1


@pytest.mark.parametrize(
    "dimension, c_1, c_mu, total",
    [
        # 1 + c_1 / c_mu, equation 50
        (10, 0.001, 0.01, 1.1),
        # 1 + 2 mu_eff_minus / (mu_eff + 2), equation 51, with mu_eff_minus = 1.79318^2 / 0.80607 = 3.98912
        (10, 0.05, 0.005, 1 + 2 * 3.98912 / 5.16730),
        # (1 - c_1 - c_mu) / (d c_mu), equation 52
        (10, 0.06, 0.25, 0.69 / 2.5),
    ],
)
def test_weights_of_losers(dimension, c_1, c_mu, total):
    """For lambda = 10: ln(5.5) - ln(i) for i = 6 to 10, with the smallest of three sums."""
    raw = np.log(5.5 / np.arange(6, 11))
    weights = loser_weights(10, dimension, Rates(0.3, 1.3, 0.3, c_1, c_mu))
    np.testing.assert_allclose(weights, total * raw / -raw.sum(), rtol=1e-4)
    assert np.all(weights < 0) and np.all(np.diff(weights) < 0)


@pytest.mark.parametrize("size", [2, 3, 7, 10])
def test_who_loses(size):
    """Of an odd number the one in the middle has no weight."""
    rates = Rates.of(4, 1.5)
    assert len(loser_weights(size, 4, rates)) == len(parent_weights(size)) == size // 2


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(2, 30), st.integers(0, 1000))
def test_variances_stay_positive(dimension, size, seed):
    """Even if all losers went along one axis, and the parents nowhere."""
    config = PopulationConfig(size=size, n_winners=size // 2, strategy="sep_cma_es")
    strategy = SeparableCMA(np.zeros(dimension), 1.0, config)
    strategy.variance = np.random.default_rng(seed).uniform(0.01, 5.0, dimension)
    offspring = np.zeros((size, dimension))
    offspring[: (size + 1) // 2, 0] = 3.0
    strategy.tell(offspring, np.arange(float(size)))
    assert np.all(strategy.variance >= 0) and (dimension == 1 or np.all(strategy.variance > 0))


def test_expected_length():
    """3.16228 (1 - 0.025 + 0.000476) in ten dimensions, 1.73205 (1 - 0.083333 + 0.005291) in three."""
    assert expected_length(10) == pytest.approx(3.0847271, rel=1e-6)
    assert expected_length(3) == pytest.approx(1.5968783, rel=1e-6)


@pytest.mark.parametrize("n_updates, share", [(1, np.sqrt(3) / 2), (2, np.sqrt(15) / 4), (50, 1.0)])
def test_when_a_path_has_settled(n_updates, share):
    """With c = 1/2 a path of one generation has sqrt(3) / 2 of its length in the end, of two sqrt(15) / 4: (1.4 + 1/2) E."""
    bound = share * 1.9 * expected_length(3)
    assert has_settled(bound * (1 - 1e-9), n_updates, 0.5, 3)
    assert not has_settled(bound * (1 + 1e-9), n_updates, 0.5, 3)


def test_generations_are_counted():
    strategy = SeparableCMAES(np.zeros(3), 1.0)
    assert strategy.strategy.n_updates == 0
    search(strategy, sphere, 2)
    assert strategy.strategy.n_updates == 2


def test_a_generation_by_hand():
    """Equations of the tutorial, written out for the first generation, whose paths start from zero."""
    strategy = SeparableCMAES(np.array([10.0, -10.0]), sigma=0.5, population_size=4, seed=5)
    asked = strategy.ask()
    assert asked.dtype == np.float64
    strategy.tell([1.0, 7.0, -2.0, 5.0])
    weights, rates = parent_weights(4), Rates.of(2, 1 / (parent_weights(4) ** 2).sum())
    steps, lost = (asked[[1, 3]] - [10.0, -10.0]) / 0.5, (asked[[0, 2]] - [10.0, -10.0]) / 0.5
    step, mu_eff = weights @ steps, 1 / (weights**2).sum()
    np.testing.assert_allclose(strategy.mean, weights @ asked[[1, 3]], rtol=1e-12)
    step_path = np.sqrt(rates.c_sigma * (2 - rates.c_sigma) * mu_eff) * step
    path = np.sqrt(rates.c_c * (2 - rates.c_c) * mu_eff) * step
    expected = np.sqrt(2) * (1 - 1 / 8 + 1 / 84)
    length = np.linalg.norm(step_path)
    assert length / np.sqrt(1 - (1 - rates.c_sigma) ** 2) < (1.4 + 2 / 3) * expected, "the path does not stall here"
    size = 0.5 * np.exp(rates.c_sigma / rates.d_sigma * (length / expected - 1))
    losses = loser_weights(4, 2, rates)
    # The squares of a loser's step add up to d, however long it was.
    learned = weights @ steps**2 + losses @ (2 * lost**2 / (lost**2).sum(axis=1, keepdims=True))
    variance = (1 - rates.c_1 - rates.c_mu * (1 + losses.sum())) + rates.c_1 * path**2 + rates.c_mu * learned
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
    # What the losers take away is what they leave: along both axes alike, each as much as is expected.
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


def test_unknown_losers_lose_nothing():
    """Variances shrink along the steps of those alone of which it is known that they were bad."""
    config = PopulationConfig(size=6, n_winners=3, strategy="sep_cma_es")
    one, other = (SeparableCMA(np.zeros(3), 1.0, config) for _ in range(2))
    offspring = np.random.default_rng(0).standard_normal((6, 3))
    moved = offspring.copy()
    moved[5] = [9.0, 0.0, 0.0]
    one.tell(offspring, np.array([5.0, 4.0, 3.0, 2.0, 1.0, np.nan]))
    other.tell(moved, np.array([5.0, 4.0, 3.0, 2.0, 1.0, np.nan]))
    np.testing.assert_array_equal(one.variance, other.variance)
    other = SeparableCMA(np.zeros(3), 1.0, config)
    other.tell(offspring, np.array([5.0, 4.0, 3.0, 2.0, 1.0, 0.0]))
    assert not np.any(one.variance == other.variance)


def test_a_step_that_is_lost_in_rounding():
    strategy = SeparableCMA(np.ones(2), 1.0, PopulationConfig(size=4, n_winners=2, strategy="sep_cma_es"))
    strategy.tell(np.array([[2.0, 2.0], [0.0, 2.0], [1.0, 1.0], [1.0, 1.0]]), np.arange(4.0)[::-1])
    assert np.all(strategy.variance > 0)


# -- on functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, dimension, start", [("sphere", 10, 1.0), ("ellipsoid", 10, 1.0), ("rosenbrock", 2, 0.0)])
def test_as_fast_as_cma(name, dimension, start):
    """Median of the evaluations to 1e-8, within a factor of 1.5 of ``cma`` with a diagonal covariance and all its defaults."""
    pytest.importorskip("cma")
    benchmark = pytest.importorskip("benchmarks.strategies", reason="the benchmarks are not part of the package")
    ways = (benchmark.evaluations, benchmark.evaluations_of_cma)
    ours, theirs = (np.median([way(getattr(benchmark, name), dimension, start, seed) for seed in range(5)]) for way in ways)
    assert ours < 1.5 * theirs and max(ours, theirs) < benchmark.LIMIT


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
