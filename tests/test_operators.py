"""The operators: exact values, degenerate inputs, properties."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution import operators

NAN, INF = float("nan"), float("inf")

# The machine may be busy: no deadline per example
prop = settings(deadline=None, max_examples=100)

ANY_RETURNS = st.lists(st.floats(width=32) | st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0]), max_size=30).map(np.array)
SOME_FINITE = st.lists(st.integers(-1000, 1000).map(float), min_size=2, max_size=30).map(np.array)


def ranks_by_counting(returns: np.ndarray) -> np.ndarray:
    """Centered ranks by their definition: count who is worse, and half of who is equal."""

    def worse(x: float, y: float) -> bool:
        return x < y or (math.isnan(x) and not math.isnan(y))

    def equal(x: float, y: float) -> bool:
        return x == y or (math.isnan(x) and math.isnan(y))

    n = len(returns)
    if n < 2:
        return np.zeros(n)
    ranks = [sum(worse(y, x) for y in returns) + (sum(equal(y, x) for y in returns) - 1) / 2 for x in returns]
    return np.array(ranks) / (n - 1) - 0.5


# -- centered_ranks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "returns, expected",
    [
        ([], []),
        ([7.0], [0.0]),
        ([NAN], [0.0]),
        ([-INF], [0.0]),
        ([2.0, 1.0], [0.5, -0.5]),
        ([1.0, 2.0], [-0.5, 0.5]),
        ([3.0, 3.0], [0.0, 0.0]),
        ([NAN, NAN], [0.0, 0.0]),
        ([NAN, -5.0], [-0.5, 0.5]),
        ([-5.0, NAN], [0.5, -0.5]),
        ([10.0, 30.0, 20.0], [-0.5, 0.5, 0.0]),
        ([10.0, 30.0, 20.0, 40.0, 0.0], [-0.25, 0.25, 0.0, 0.5, -0.5]),
        # Ties share their mean rank: at the top, in the middle, at the bottom
        ([1.0, 5.0, 5.0], [-0.5, 0.25, 0.25]),
        ([1.0, 1.0, 5.0], [-0.25, -0.25, 0.5]),
        ([0.0, 2.0, 1.0, 1.0, 3.0], [-0.5, 0.25, -0.125, -0.125, 0.5]),
        ([4.0, 4.0, 4.0, 4.0], [0.0, 0.0, 0.0, 0.0]),
        ([0.0, -0.0, 1.0], [-0.25, -0.25, 0.5]),
        # NaN is below -inf, and several of them share a rank
        ([INF, -INF, NAN, 0.0, 1.0], [0.5, -0.25, -0.5, 0.0, 0.25]),
        ([INF, INF, -INF], [0.25, 0.25, -0.5]),
        ([NAN, 1.0, NAN], [-0.25, 0.5, -0.25]),
        ([NAN, NAN, -INF, NAN, 7.0], [-0.25, -0.25, 0.25, -0.25, 0.5]),
        # Far outliers and tiny differences count as much as any other
        ([1e300, 1.0, 1.0 + 1e-15], [0.5, -0.5, 0.0]),
    ],
)
def test_centered_ranks_values(returns, expected):
    ranks = operators.centered_ranks(np.array(returns))
    assert ranks.dtype == np.float64
    assert ranks.shape == (len(returns),)
    np.testing.assert_array_equal(ranks, expected)


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.float64])
def test_centered_ranks_takes_any_number_type(dtype):
    np.testing.assert_array_equal(operators.centered_ranks(np.array([3, 1, 2, 2], dtype=dtype)), [0.5, -0.5, 0.0, 0.0])


@prop
@given(ANY_RETURNS)
def test_centered_ranks_definition(returns):
    np.testing.assert_allclose(operators.centered_ranks(returns), ranks_by_counting(returns), rtol=0, atol=1e-12)


@prop
@given(ANY_RETURNS)
def test_centered_ranks_sum_to_zero_within_range(returns):
    ranks = operators.centered_ranks(returns)
    assert math.fsum(ranks) == pytest.approx(0.0, abs=1e-12)
    assert np.all(np.abs(ranks) <= 0.5)


@prop
@given(ANY_RETURNS, st.randoms(use_true_random=False))
def test_centered_ranks_permutation(returns, random):
    order = list(range(len(returns)))
    random.shuffle(order)
    np.testing.assert_array_equal(operators.centered_ranks(returns[order]), operators.centered_ranks(returns)[order])


# Whole numbers and powers of two: the shifted and scaled returns are exact, so that ties stay ties.
@prop
@given(SOME_FINITE, st.integers(-(10**6), 10**6), st.integers(-20, 20))
def test_centered_ranks_shift_and_scale(returns, shift, exponent):
    expected = operators.centered_ranks(returns)
    np.testing.assert_array_equal(operators.centered_ranks((returns + shift) * 2.0**exponent), expected)
    # Turning the order round turns the utilities round
    np.testing.assert_allclose(operators.centered_ranks(-returns), -expected, rtol=0, atol=1e-12)


@prop
@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=30, unique=True))
def test_centered_ranks_distinct_returns_span_the_range(returns):
    ranks = operators.centered_ranks(np.array(returns))
    np.testing.assert_allclose(np.sort(ranks), np.linspace(-0.5, 0.5, len(returns)), rtol=0, atol=1e-12)
    assert ranks.max() == 0.5 and ranks.min() == -0.5


@prop
@given(ANY_RETURNS)
def test_rank_and_selection_leave_returns_alone(returns):
    before = returns.copy()
    operators.centered_ranks(returns)
    operators.select_winners(returns, 3)
    operators.amt_statistics(returns, "rank")
    operators.amt_statistics(returns, "normalized")
    np.testing.assert_array_equal(returns, before)


# -- winner_count and select_winners --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "population_size, winner_fraction, expected",
    [
        (50, 0.4, 20),
        (40, 0.2, 8),
        (10, 0.01, 1),
        (10, 1.0, 10),
        (10, 0.49, 4),
        (10, 0.99, 9),
        (3, 0.5, 1),
        (1, 0.9, 1),
        (3, 0.333, 1),
        (10, 0.399999, 3),
        # The product falls just below the whole number
        (100, 0.29, 29),
        (100, 0.57, 57),
        (100, 0.58, 58),
        (1000, 0.001, 1),
    ],
)
def test_winner_count_values(population_size, winner_fraction, expected):
    count = operators.winner_count(population_size, winner_fraction)
    assert count == expected
    assert isinstance(count, int)


def test_some_of_those_fractions_are_pitfalls():
    assert int(100 * 0.29) == 28 and int(100 * 0.57) == 56 and int(100 * 0.58) == 57


@prop
@given(st.integers(1, 1000), st.integers(0, 1000))
def test_winner_count_is_exact_for_written_fractions(population_size, thousandths):
    exact = max(1, math.floor(Fraction(thousandths, 1000) * population_size))
    assert operators.winner_count(population_size, thousandths / 1000) == exact


@prop
@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))))
def test_winner_count_inverts_a_quotient(size_and_winners):
    population_size, n_winners = size_and_winners
    assert operators.winner_count(population_size, n_winners / population_size) == n_winners


@pytest.mark.parametrize(
    "returns, n_winners, expected",
    [
        ([1.0, 3.0, 2.0, 0.0], 2, [1, 2]),
        ([1.0, 3.0, 2.0, 0.0], 4, [1, 2, 0, 3]),
        ([1.0, 3.0], 0, []),
        ([], 0, []),
        ([], 2, []),
        ([1.0, 2.0], 5, [1, 0]),
        # Ties by index
        ([5.0, 5.0, 5.0], 2, [0, 1]),
        ([0.0, 7.0, 1.0, 7.0, 7.0], 3, [1, 3, 4]),
        ([-0.0, 0.0], 1, [0]),
        ([0.0, -0.0], 1, [0]),
        # NaN is last, after -inf, whatever its index
        ([NAN, 1.0, 2.0], 3, [2, 1, 0]),
        ([NAN, -INF, 2.0], 3, [2, 1, 0]),
        ([-INF, NAN, -INF, INF, NAN], 5, [3, 0, 2, 1, 4]),
        ([NAN, NAN], 2, [0, 1]),
    ],
)
def test_select_winners_values(returns, n_winners, expected):
    winners = operators.select_winners(np.array(returns), n_winners)
    assert np.issubdtype(winners.dtype, np.integer)
    np.testing.assert_array_equal(winners, expected)


@prop
@given(ANY_RETURNS, st.integers(0, 30))
def test_select_winners_definition(returns, n_winners):
    def key(index: int) -> tuple[bool, float, int]:
        value = returns[index]
        return (math.isnan(value), 0.0 if math.isnan(value) else -value, index)

    expected = sorted(range(len(returns)), key=key)[:n_winners]
    assert operators.select_winners(returns, n_winners).tolist() == expected


@prop
@given(ANY_RETURNS)
def test_winners_have_the_highest_ranks(returns):
    ranks = operators.centered_ranks(returns)[operators.select_winners(returns, len(returns))]
    assert np.all(np.diff(ranks) <= 0)


# -- es_gradient ----------------------------------------------------------------------------------------------------------


def test_es_gradient_values():
    utilities = np.array([0.5, -0.5])
    displacements = np.array([[1.0, 0.0, 3.0], [0.0, 2.0, 3.0]])
    # 1 / (2 * 0.1) * (0.5 * first - 0.5 * second)
    np.testing.assert_allclose(operators.es_gradient(utilities, displacements, 0.1), [2.5, -5.0, 0.0], rtol=1e-14)


@pytest.mark.parametrize("size, dimension", [(1, 1), (1, 5), (7, 3), (40, 11)])
def test_es_gradient_is_the_explicit_sum(size, dimension):
    rng = np.random.default_rng(size)
    utilities, displacements, sigma = rng.normal(size=size), rng.normal(size=(size, dimension)).astype(np.float32), 0.03
    expected = np.zeros(dimension)
    for utility, displacement in zip(utilities, displacements, strict=True):
        expected += utility * displacement
    expected /= size * sigma
    gradient = operators.es_gradient(utilities, displacements, sigma)
    assert gradient.dtype == np.float64
    assert gradient.shape == (dimension,)
    np.testing.assert_allclose(gradient, expected, rtol=1e-10)


@prop
@given(st.floats(1e-4, 10), st.floats(1e-4, 10), st.integers(0, 1000))
def test_es_gradient_scales_with_sigma(sigma, other_sigma, seed):
    rng = np.random.default_rng(seed)
    utilities, displacements = rng.normal(size=6), rng.normal(size=(6, 4))
    gradient = operators.es_gradient(utilities, displacements, sigma)
    other_gradient = operators.es_gradient(utilities, displacements, other_sigma)
    np.testing.assert_allclose(gradient * sigma, other_gradient * other_sigma, rtol=1e-9)


def test_es_gradient_is_a_mean_over_members():
    rng = np.random.default_rng(0)
    utilities, displacements = rng.normal(size=6), rng.normal(size=(6, 4))
    twice = operators.es_gradient(np.tile(utilities, 2), np.tile(displacements, (2, 1)), 0.1)
    np.testing.assert_allclose(twice, operators.es_gradient(utilities, displacements, 0.1), rtol=1e-12)


def test_es_gradient_estimates_the_slope():
    """Of a linear function, with its plain values as fitness, the estimate converges to the gradient itself."""
    slope, sigma = np.array([1.0, -2.0, 0.5]), 0.02
    noise = np.random.default_rng(0).standard_normal((50_000, 3))
    np.testing.assert_allclose(operators.es_gradient(sigma * noise @ slope, noise, sigma), slope, atol=0.05)


def test_es_gradient_of_equal_returns_is_zero():
    displacements = np.random.default_rng(0).normal(size=(5, 3))
    assert not operators.es_gradient(operators.centered_ranks(np.full(5, 3.0)), displacements, 0.1).any()
    assert not operators.es_gradient(operators.centered_ranks(np.full(5, NAN)), displacements, 0.1).any()


def test_es_gradient_sums_in_double_precision():
    # 2**24 + 1 is the first whole number that single precision does not have
    displacements = np.array([[2.0**24], [1.0]], dtype=np.float32)
    np.testing.assert_array_equal(operators.es_gradient(np.ones(2, dtype=np.float32), displacements, 0.5), [2.0**24 + 1])


# -- log_weights and recombine --------------------------------------------------------------------------------------------


def test_log_weights_values():
    np.testing.assert_allclose(operators.log_weights(1), [1.0])
    raw = [math.log(2.5), math.log(2.5 / 2)]
    np.testing.assert_allclose(operators.log_weights(2), [raw[0] / sum(raw), raw[1] / sum(raw)], rtol=1e-14)
    np.testing.assert_allclose(operators.log_weights(2), [0.80416, 0.19584], atol=1e-5)
    np.testing.assert_allclose(operators.log_weights(3), [0.637042, 0.284570, 0.078388], atol=1e-6)


@prop
@given(st.integers(1, 200))
def test_log_weights_properties(n_winners):
    weights = operators.log_weights(n_winners)
    assert weights.shape == (n_winners,)
    assert math.fsum(weights) == pytest.approx(1.0, abs=1e-12)
    assert np.all(weights > 0)
    assert np.all(np.diff(weights) < 0)
    # Differences do not depend on the normalisation's numerator: w_1 - w_i ~ ln(i)
    if n_winners >= 3:
        assert (weights[0] - weights[2]) / (weights[0] - weights[1]) == pytest.approx(math.log(3) / math.log(2))


def test_recombine_values():
    winners = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(operators.recombine(winners), operators.log_weights(2), rtol=1e-14)
    np.testing.assert_array_equal(operators.recombine(np.array([[3.0, -4.0]])), [3.0, -4.0])


@prop
@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 1000))
def test_recombine_stays_among_the_winners(n_winners, dimension, seed):
    winners = np.random.default_rng(seed).normal(size=(n_winners, dimension)).astype(np.float32)
    before = winners.copy()
    mean = operators.recombine(winners)
    assert mean.shape == (dimension,) and mean.dtype == np.float64
    assert np.all(mean <= winners.max(axis=0) + 1e-6) and np.all(mean >= winners.min(axis=0) - 1e-6)
    weights = operators.log_weights(n_winners)
    expected = sum(weight * winner.astype(np.float64) for weight, winner in zip(weights, winners, strict=True))
    np.testing.assert_allclose(mean, expected, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(winners, before)


# -- crossover ------------------------------------------------------------------------------------------------------------


@st.composite
def group_layouts(draw: st.DrawFn) -> np.ndarray:
    """Groups of any size, in any order, numbered from 0 without a gap."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=20))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    return np.array(draw(st.permutations(groups.tolist())))


@prop
@given(group_layouts(), st.integers(0, 2**32 - 1))
def test_crossover_inherits_whole_groups(groups, seed):
    dimension = len(groups)
    winner = np.arange(1, dimension + 1, dtype=np.float32)
    mean = -winner
    child = operators.crossover(winner, mean, groups, np.random.default_rng(seed))
    assert child.shape == (dimension,) and child.dtype == np.float32
    # Every weight is a parent's weight of the same place
    np.testing.assert_array_equal(np.abs(child), winner)
    for group in np.unique(groups):
        assert len(set(np.sign(child[groups == group]))) == 1
    # Inputs are left alone, and the child shares no memory with them
    np.testing.assert_array_equal(winner, np.arange(1, dimension + 1))
    np.testing.assert_array_equal(mean, -winner)
    assert not np.shares_memory(child, winner) and not np.shares_memory(child, mean)


def test_crossover_by_its_draws():
    """A number below a half is the winner's, one number for each group: seeded runs depend on it."""
    groups, rng = np.array([0, 1, 2, 1]), np.random.default_rng(1)
    child = operators.crossover(np.ones(4), np.zeros(4), groups, rng)
    twin = np.random.default_rng(1)
    draws = twin.random(3)
    np.testing.assert_array_equal(child, (draws < 0.5)[groups])
    assert rng.random() == twin.random() and 0 < child.sum() < 4


@prop
@given(st.integers(0, 2**32 - 1), st.integers(60, 90))
def test_crossover_takes_from_both_parents(seed, n_groups):
    groups = np.repeat(np.arange(n_groups), 3)
    child = operators.crossover(np.ones(len(groups)), np.zeros(len(groups)), groups, np.random.default_rng(seed))
    # One parent alone has a probability below 1e-17
    assert 0 < child.sum() < len(groups)


@prop
@given(st.integers(0, 2**32 - 1))
def test_crossover_depends_on_the_generator_alone(seed):
    groups = np.arange(64)
    winner, mean = np.ones(64), np.zeros(64)
    child = operators.crossover(winner, mean, groups, np.random.default_rng(seed))
    np.testing.assert_array_equal(child, operators.crossover(winner, mean, groups, np.random.default_rng(seed)))
    assert np.any(child != operators.crossover(winner, mean, groups, np.random.default_rng(seed + 1)))


def test_crossover_is_fair():
    """Each group comes from the winner with probability 1/2, independently of the others."""
    rng, groups = np.random.default_rng(0), np.array([0, 0, 1, 2])
    children = np.array([operators.crossover(np.ones(4), np.zeros(4), groups, rng) for _ in range(4000)])
    # Five standard errors
    np.testing.assert_allclose(children.mean(axis=0), 0.5, atol=0.04)
    np.testing.assert_allclose(np.corrcoef(children[:, 1:].T), np.eye(3), atol=0.08)


def test_crossover_of_equal_parents_is_the_parent():
    parent = np.arange(6.0)
    child = operators.crossover(parent, parent.copy(), np.array([0, 1, 0, 1, 2, 2]), np.random.default_rng(0))
    np.testing.assert_array_equal(child, parent)


def test_crossover_of_one_group_is_one_parent():
    children = {
        tuple(operators.crossover(np.ones(3), np.zeros(3), np.zeros(3, dtype=np.int64), np.random.default_rng(seed)))
        for seed in range(30)
    }
    assert children == {(0.0, 0.0, 0.0), (1.0, 1.0, 1.0)}


# -- automatic mutation tuning --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "x, y, expected",
    [
        (0.0, 0.0, 0.0),
        (0.5, 0.0, 0.125),
        (0.25, -0.25, 0.125),
        (1.0, 0.0, 0.5),
        (3.0, 1.0, 1.5),
        (-1000.0, 1000.0, 1999.5),
    ],
)
def test_smooth_l1_values(x, y, expected):
    assert operators.smooth_l1(x, y) == expected
    assert operators.smooth_l1(y, x) == expected


@prop
@given(st.floats(-1e6, 1e6) | st.floats(-2, 2), st.floats(-1e6, 1e6) | st.floats(-2, 2))
def test_smooth_l1_is_torchs(x, y):
    expected = th.nn.functional.smooth_l1_loss(th.tensor(x, dtype=th.float64), th.tensor(y, dtype=th.float64)).item()
    assert operators.smooth_l1(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "returns, amt_input, f_max, f_avg",
    [
        ([1.0, 2.0, 6.0], "raw", 6.0, 3.0),
        ([1.0, 2.0, 6.0], "rank", 0.5, 0.0),
        ([3.0, 3.0, 0.0], "rank", 0.25, 0.0),
        # Standard deviation 2 over the generation (divided by n)
        ([1.0, 5.0], "normalized", 1.0, 0.0),
        ([-1.0, -1.0, -1.0, 3.0], "normalized", math.sqrt(3.0), 0.0),
        # What is not finite is left out
        ([NAN, 1.0, 2.0, 6.0, INF, -INF], "raw", 6.0, 3.0),
        ([NAN, 1.0, 2.0, 6.0, INF, -INF], "rank", 0.5, 0.0),
        ([NAN, 1.0, 5.0, INF, -INF], "normalized", 1.0, 0.0),
        ([-7.0], "raw", -7.0, -7.0),
        ([-7.0], "rank", 0.0, 0.0),
        ([-7.0], "normalized", 0.0, 0.0),
        ([2.0, 2.0], "normalized", 0.0, 0.0),
    ],
)
def test_amt_statistics_values(returns, amt_input, f_max, f_avg):
    assert operators.amt_statistics(np.array(returns), amt_input) == pytest.approx((f_max, f_avg), abs=1e-12)


@pytest.mark.parametrize("amt_input", ["raw", "rank", "normalized"])
@pytest.mark.parametrize("returns", [[], [NAN, NAN], [INF, -INF, NAN]])
def test_amt_statistics_without_a_finite_return(returns, amt_input):
    f_max, f_avg = operators.amt_statistics(np.array(returns), amt_input)
    assert f_max == f_avg
    assert math.isfinite(f_max)


@prop
@given(SOME_FINITE, st.integers(-1000, 1000), st.integers(-5, 5))
def test_amt_statistics_normalized_has_no_scale(returns, shift, exponent):
    expected = operators.amt_statistics(returns, "normalized")
    moved = operators.amt_statistics((returns + shift) * 2.0**exponent, "normalized")
    assert moved == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert expected[1] == pytest.approx(0.0, abs=1e-9)
    assert expected[0] >= -1e-9


@prop
@given(st.lists(st.integers(-(10**6), 10**6), min_size=2, max_size=30, unique=True))
def test_amt_on_ranks_is_a_constant(returns):
    """Whatever the returns were, ranks give SmoothL1(0.5, 0) = 0.125 as long as there is one best member."""
    assert operators.smooth_l1(*operators.amt_statistics(np.array(returns), "rank")) == pytest.approx(0.125, rel=1e-12)


def test_amt_on_ranks_with_published_values_adds_zeta():
    f_max, f_avg = operators.amt_statistics(np.arange(50.0), "rank")
    # 0.005 / (50 * 0.005) * 0.125 = 0.0025, above zeta
    tuned = operators.tune_sigma(0.005, f_max, f_avg, es_learning_rate=0.005, population_size=50, clip=1e-4)
    assert tuned == pytest.approx(0.0051, rel=1e-12)


# 0.01 / (10 * 0.1) * SmoothL1(0.5, 0) = 0.00125
@pytest.mark.parametrize(
    "sigma, f_max, changes, expected",
    [
        (0.1, 0.5, {}, 0.10125),
        (0.1, 0.0, {}, 0.1),
        (0.1, 3.0, {}, 0.125),
        (0.2, 0.5, {}, 0.200625),
        (0.1, 0.5, {"es_learning_rate": 0.02}, 0.1025),
        (0.1, 0.5, {"population_size": 5}, 0.1025),
        # zeta bounds the step
        (0.1, 0.5, {"clip": 1e-4}, 0.1001),
        (0.1, 1e9, {"clip": 1e-4}, 0.1001),
        (0.1, 1e9, {"clip": 0.0}, 0.1),
    ],
)
def test_tune_sigma_values(sigma, f_max, changes, expected):
    options = {"es_learning_rate": 0.01, "population_size": 10, "clip": 1e6, **changes}
    assert operators.tune_sigma(sigma, f_max, 0.0, **options) == pytest.approx(expected, rel=1e-12)


@prop
@given(
    sigma=st.floats(1e-6, 10),
    f_max=st.floats(-1e9, 1e9),
    f_avg=st.floats(-1e9, 1e9),
    clip=st.floats(0, 10),
)
def test_tune_sigma_properties(sigma, f_max, f_avg, clip):
    tuned = operators.tune_sigma(sigma, f_max, f_avg, es_learning_rate=0.01, population_size=10, clip=clip)
    assert sigma <= tuned < INF
    assert tuned - sigma <= clip * (1 + 1e-9) + 1e-12
