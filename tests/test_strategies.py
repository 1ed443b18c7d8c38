"""Evolution strategies that are asked and told, on functions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.noise import perturbations
from sb3_esac.evolution.operators import decay, log_weights
from sb3_esac.evolution.optimizers import Adam, Sgd
from sb3_esac.evolution.population import Population, PopulationConfig
from sb3_esac.evolution.strategies import (
    CEM,
    STRATEGIES,
    AskTell,
    CanonicalES,
    OpenAIES,
    SeparableCMAES,
    is_mirrored,
    strategy_config,
)
from sb3_esac.evolution.strategies.openai import OpenAI

NAN, INF = float("nan"), float("inf")


def quadratic(points):
    """Highest, 0, at (1, 2, ..., d)."""
    return -((points - np.arange(1, points.shape[-1] + 1)) ** 2).sum(axis=-1)


def rosenbrock(points):
    """Highest, 0, at (1, 1), at the end of a narrow bent ridge."""
    x, y = points[..., 0], points[..., 1]
    return -((1 - x) ** 2 + 100 * (y - x**2) ** 2)


def search(strategy, function, n_generations):
    for _ in range(n_generations):
        strategy.tell(function(strategy.ask()))
    return strategy.mean


# -- by hand ------------------------------------------------------------------------------------------------------------


def test_canonical_by_hand():
    """theta + sigma * sum_i w_i eps_i over the best two of four, w_1 = ln(2.5) and w_2 = ln(2.5) - ln(2), normalised."""
    strategy = CanonicalES(np.array([10.0, -10.0]), sigma=0.5, population_size=4, winner_fraction=0.5, seed=3)
    noise = (strategy.ask() - [10.0, -10.0]) / 0.5
    strategy.tell([1.0, 7.0, -2.0, 5.0])
    first, second = np.log(2.5), np.log(2.5) - np.log(2.0)
    expected = [10.0, -10.0] + 0.5 * (first * noise[1] + second * noise[3]) / (first + second)
    np.testing.assert_allclose(strategy.mean, expected, rtol=1e-6)
    np.testing.assert_allclose(log_weights(2), [first / (first + second), second / (first + second)], rtol=1e-12)


def test_openai_by_hand():
    """theta + alpha / (n sigma) * sum_i F_i eps_i with F = (-1/6, 1/2, -1/2, 1/6) for returns in this order."""
    strategy = OpenAIES(
        np.zeros(3), sigma=0.5, population_size=4, es_learning_rate=0.1, es_optimizer="sgd", mirrored=False, seed=3
    )
    noise = strategy.ask() / 0.5
    strategy.tell([1.0, 7.0, -2.0, 5.0])
    gradient = (-noise[0] / 6 + noise[1] / 2 - noise[2] / 2 + noise[3] / 6) / (4 * 0.5)
    np.testing.assert_allclose(strategy.mean, 0.1 * gradient, rtol=1e-5)


def test_openai_mirrored_by_hand():
    """Each pair adds the difference of its utilities times its noise."""
    strategy = OpenAIES(np.zeros(2), sigma=0.1, population_size=4, es_learning_rate=0.1, es_optimizer="sgd", seed=1)
    noise = strategy.ask() / 0.1
    np.testing.assert_allclose(noise[[1, 3]], -noise[[0, 2]])
    strategy.tell([4.0, 3.0, 1.0, 2.0])
    gradient = ((1 / 2 - 1 / 6) * noise[0] + (-1 / 2 + 1 / 6) * noise[2]) / (4 * 0.1)
    np.testing.assert_allclose(strategy.mean, 0.1 * gradient, rtol=1e-5)


def test_weight_decay_by_hand():
    """Equal returns leave the penalty alone: -0.005 / sigma * theta, so that the mean shrinks by alpha * 0.005 / sigma."""
    mean = np.array([2.0, -4.0])
    strategy = OpenAIES(mean, sigma=0.1, population_size=4, es_learning_rate=0.2, es_optimizer="sgd", weight_decay=0.005)
    strategy.ask()
    strategy.tell(np.zeros(4))
    np.testing.assert_allclose(strategy.mean, mean * (1 - 0.2 * 0.005 / 0.1), rtol=1e-6)
    gradient = np.array([1.0, 1.0])
    np.testing.assert_allclose(decay(gradient, mean, 0.1, 0.005), [1 - 0.1, 1 + 0.2])
    np.testing.assert_array_equal(gradient, [1.0, 1.0])


def test_weight_decay_is_that_of_salimans():
    """Their update: Adam over the sum of utilities times noise, divided by n, less 0.005 theta; no sigma anywhere."""
    mean = np.array([3.0, -1.0, 2.0])
    strategy = OpenAIES(mean, sigma=0.02, population_size=6, es_learning_rate=0.01, weight_decay=0.005, seed=2)
    reference, theta = Adam(0.01, epsilon=1e-12), mean.astype(np.float64)
    for generation in range(5):
        noise = perturbations(2, generation, 6, 3, mirrored=True).astype(np.float64)
        returns = np.array([5.0, 1.0, 3.0, 2.0, 6.0, 4.0]) * (-1) ** generation
        theta = reference.step(theta, (returns.argsort().argsort() / 5 - 0.5) @ noise / 6 - 0.005 * theta)
        strategy.ask()
        strategy.tell(returns)
    np.testing.assert_allclose(strategy.mean, theta, rtol=1e-5)


# -- on functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy",
    [
        OpenAIES(np.zeros(5), sigma=0.1, es_learning_rate=0.05),
        OpenAIES(np.zeros(5), sigma=0.1, es_learning_rate=0.1, es_optimizer="sgd"),
        OpenAIES(np.zeros(5), sigma=0.1, population_size=41, es_learning_rate=0.05, mirrored=False),
        CanonicalES(np.zeros(5), sigma=0.1),
        CanonicalES(np.zeros(5), sigma=0.1, mirrored=True, population_size=20),
    ],
    ids=["adam", "sgd", "not mirrored", "canonical", "canonical mirrored"],
)
def test_quadratic(strategy):
    assert quadratic(strategy.mean) == -55
    assert quadratic(search(strategy, quadratic, 300)) > -0.5


@pytest.mark.parametrize(
    "strategy",
    [
        OpenAIES(np.array([-1.0, 1.0]), sigma=0.02, population_size=20, es_learning_rate=0.02),
        CanonicalES(np.array([-1.0, 1.0]), sigma=0.02, population_size=20),
    ],
    ids=["openai", "canonical"],
)
def test_rosenbrock(strategy):
    assert rosenbrock(strategy.mean) == -4
    np.testing.assert_allclose(search(strategy, rosenbrock, 1000), [1.0, 1.0], atol=0.15)


@pytest.mark.parametrize("kind", [OpenAIES, CanonicalES])
def test_only_the_order_of_returns_counts(kind):
    """As it should be with ranks: any increasing function of the returns gives the same search."""
    plain, bent = (kind(np.zeros(3), sigma=0.3, population_size=10) for _ in range(2))
    search(plain, quadratic, 20)
    search(bent, lambda points: np.exp(quadratic(points) / 10) - 5, 20)
    np.testing.assert_array_equal(plain.mean, bent.mean)


@pytest.mark.parametrize("kind", [OpenAIES, CanonicalES])
def test_seeds(kind):
    one, same, other = (kind(np.zeros(3), sigma=0.3, seed=seed) for seed in (1, 1, 2))
    assert not np.isin(one.ask(), other.ask()).any()
    np.testing.assert_array_equal(search(one, quadratic, 5), search(same, quadratic, 5))
    assert not np.array_equal(one.mean, search(other, quadratic, 5))


# -- degenerate returns -------------------------------------------------------------------------------------------------


def test_nan_is_the_worst_return():
    """For the gradient estimate it is a return below all others, for recombination no winner."""
    unknown, lowest = (OpenAIES(np.zeros(4), sigma=0.1, population_size=6) for _ in range(2))
    for strategy, worst in ((unknown, NAN), (lowest, -1e9)):
        strategy.ask()
        strategy.tell([3.0, worst, 2.0, 5.0, worst, 1.0])
    np.testing.assert_array_equal(unknown.mean, lowest.mean)

    canonical = CanonicalES(np.zeros(4), sigma=0.1, population_size=6, winner_fraction=0.5)
    asked = canonical.ask()
    canonical.tell([NAN, 3.0, NAN, NAN, 9.0, NAN])
    np.testing.assert_allclose(canonical.mean, log_weights(2) @ asked[[4, 1]], rtol=1e-5)


@pytest.mark.parametrize("kind", [OpenAIES, CanonicalES])
def test_a_generation_of_which_nothing_is_known_changes_nothing(kind):
    """Not even by the momentum of what was learned before."""
    strategy = kind(np.zeros(3), sigma=0.3, population_size=10)
    before = search(strategy, quadratic, 5)
    first = strategy.ask()
    strategy.tell(np.full(10, NAN))
    np.testing.assert_array_equal(strategy.mean, before)
    assert not np.isin(strategy.ask(), first).any(), "the next generation plays other perturbations"


@pytest.mark.parametrize("strategy", [OpenAIES(np.ones(4), 0.1), CanonicalES(np.ones(4), 0.1)], ids=["openai", "canonical"])
def test_nothing_is_known(strategy):
    strategy.ask()
    strategy.tell(np.full(40, NAN))
    np.testing.assert_array_equal(strategy.mean, 1.0)
    assert strategy.generation == 1
    assert np.isfinite(search(strategy, quadratic, 3)).all()


def test_ties():
    """Equal returns have no direction, and among them the earlier ones win."""
    openai = OpenAIES(np.ones(4), sigma=0.1, population_size=6)
    openai.ask()
    openai.tell(np.full(6, 3.0))
    np.testing.assert_array_equal(openai.mean, 1.0)
    canonical = CanonicalES(np.ones(4), sigma=0.1, population_size=6, winner_fraction=0.5)
    asked = canonical.ask()
    canonical.tell(np.full(6, 3.0))
    np.testing.assert_allclose(canonical.mean, log_weights(3) @ asked[:3], rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0.0, 1.0, -3.5, 1e30, -1e30, NAN, INF, -INF]), min_size=6, max_size=6), st.integers(0, 9))
def test_any_returns_keep_the_mean_finite(returns, seed):
    for strategy in (OpenAIES(np.zeros(3), 0.1, population_size=6, seed=seed), CanonicalES(np.zeros(3), 0.1, 6, seed=seed)):
        for _ in range(2):
            strategy.ask()
            strategy.tell(returns)
        assert np.isfinite(strategy.mean).all()


# -- ask and tell -------------------------------------------------------------------------------------------------------


def test_ask():
    strategy = OpenAIES(np.zeros(3), sigma=0.5, population_size=8)
    asked = strategy.ask()
    assert asked.shape == (8, 3) and asked.dtype == np.float32
    expected = asked.copy()
    asked[:] = 0.0
    np.testing.assert_array_equal(strategy.ask(), expected)
    strategy.tell(quadratic(expected))
    assert not np.isin(strategy.ask(), expected).any()
    # A search is what it is told, whatever the caller does with the vectors.
    other = OpenAIES(np.zeros(3), sigma=0.5, population_size=8)
    other.ask()
    other.tell(quadratic(expected))
    np.testing.assert_array_equal(other.mean, strategy.mean)


def test_tell_needs_to_have_been_asked():
    strategy = CanonicalES(np.zeros(3), sigma=0.5, population_size=4)
    with pytest.raises(RuntimeError, match="`ask` comes before `tell`"):
        strategy.tell(np.zeros(4))
    strategy.ask()
    strategy.tell(np.zeros(4))
    with pytest.raises(RuntimeError, match="`ask` comes before `tell`"):
        strategy.tell(np.zeros(4))


def test_the_initial_mean_is_left_alone():
    mean = np.ones(3)
    search(OpenAIES(mean, sigma=0.5), quadratic, 3)
    np.testing.assert_array_equal(mean, 1.0)


WRONG = [
    (OpenAIES, dict(population_size=5), "`population_size` must be an even integer >= 2 (perturbations are mirrored), not 5"),
    (OpenAIES, dict(population_size=1, mirrored=False), "`population_size` must be an integer >= 2, not 1"),
    (CanonicalES, dict(population_size=5, mirrored=True), "`population_size` must be an even integer >= 2 (perturbations are"),
    (CanonicalES, dict(winner_fraction=0.0), "`winner_fraction` must be in (0, 1], not 0.0"),
    (CanonicalES, dict(population_size=4, winner_fraction=0.0), "`winner_fraction` must be in (0, 1], not 0.0"),
    (OpenAIES, dict(es_optimizer="lion"), "`es_optimizer` must be one of 'adam', 'sgd', not 'lion'"),
    (OpenAIES, dict(es_learning_rate=0), "`es_learning_rate` must be a positive finite number, not 0"),
    (OpenAIES, dict(weight_decay=-1), "`weight_decay` must be a finite number >= 0, not -1"),
    *[
        (kind, dict([(name, value)]), f"`{name}` must be {expected}, not {value!r}")
        for kind in (OpenAIES, CanonicalES)
        for name, value, expected in (
            ("sigma", -0.1, "a positive finite number"),
            ("sigma", NAN, "a positive finite number"),
            ("seed", -1, "an integer >= 0"),
            ("seed", 0.5, "an integer >= 0"),
            ("mean", [[1.0]], "a vector"),
            ("mean", [], "a vector"),
            ("mean", [1.0, NAN], "a vector of finite numbers"),
        )
    ],
]


@pytest.mark.parametrize("kind, arguments, message", WRONG, ids=lambda part: str(part)[:50])
def test_wrong_arguments(kind, arguments, message):
    with pytest.raises(ValueError) as error:
        kind(**{"mean": np.zeros(3), "sigma": 0.1, **arguments})
    assert message in str(error.value)


def test_wrong_number_of_returns():
    strategy = OpenAIES(np.zeros(3), sigma=0.1, population_size=4)
    strategy.ask()
    for returns in (np.zeros(3), np.zeros((4, 1)), 1.0):
        with pytest.raises(ValueError, match=r"`returns` must be of shape \(4,\)"):
            strategy.tell(returns)


@pytest.mark.parametrize(
    "kind, expected",
    [
        (OpenAIES, PopulationConfig(40, 40, es_learning_rate=0.02, es_optimizer="adam", mirrored=True, strategy="openai")),
        (CanonicalES, PopulationConfig(40, 16, mirrored=False, strategy="canonical")),
        (CEM, PopulationConfig(40, 20, mirrored=False, strategy="cem")),
        (SeparableCMAES, PopulationConfig(10, 5, mirrored=False, strategy="sep_cma_es")),
    ],
)
def test_defaults(kind, expected):
    search = kind(np.zeros(10), 0.1)
    assert search.strategy.config == expected and search.sigma == pytest.approx(0.1)
    np.testing.assert_array_equal(search.ask(), kind(np.zeros(10), 0.1, seed=0).ask())
    np.testing.assert_array_equal(search.ask(), AskTell(STRATEGIES[expected.strategy](np.zeros(10), 0.1, expected)).ask())


def test_one_dimension():
    assert SeparableCMAES([2.0], 0.1).ask().shape == (4, 1) and CanonicalES([2.0], 0.1).ask().shape == (40, 1)


def test_another_optimizer():
    """It begins anew; the same one keeps what it knows, and takes another learning rate."""
    strategy = OpenAI(np.zeros(3), 0.1, strategy_config("openai", 4))
    strategy.tell(np.eye(4, 3), np.arange(4.0))
    strategy.configure(strategy_config("openai", 4, es_learning_rate=0.5))
    assert strategy.optimizer.steps == 1 and strategy.optimizer.learning_rate == 0.5
    strategy.configure(strategy_config("openai", 4, es_learning_rate=0.25, es_optimizer="sgd"))
    assert type(strategy.optimizer) is Sgd and strategy.optimizer.learning_rate == 0.25


# -- one mathematics ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["openai", "canonical"])
def test_strategies_are_populations(strategy):
    """Asking and telling is what the algorithms do with their population, with the rules that the algorithm ES uses."""
    config = strategy_config(strategy, 6, winner_fraction=0.5, weight_decay=0.1 if strategy == "openai" else 0.0)
    population, asked = Population(np.ones(3), 0.2, config), AskTell(STRATEGIES[strategy](np.ones(3), 0.2, config), seed=4)
    kind, options = (OpenAIES, dict(weight_decay=0.1)) if strategy == "openai" else (CanonicalES, dict(winner_fraction=0.5))
    named = kind(np.ones(3), 0.2, population_size=6, seed=4, **options)
    for _ in range(4):
        offspring = population.perturb(4)
        np.testing.assert_array_equal(asked.ask(), offspring)
        np.testing.assert_array_equal(named.ask(), offspring)
        population.update(offspring, quadratic(offspring))
        population.form(None)
        for each in (asked, named):
            each.tell(quadratic(offspring))
            np.testing.assert_array_equal(each.mean, population.mean)


def test_what_was_published_is_the_default():
    assert is_mirrored("openai", None) and not is_mirrored("canonical", None)
    assert is_mirrored("canonical", True) and not is_mirrored("openai", False)
    openai, canonical = strategy_config("openai", 10), strategy_config("canonical", 10)
    rates = dict(es_learning_rate=0.02, es_optimizer="adam", weight_decay=0.0)
    assert openai == PopulationConfig(10, 4, mirrored=True, strategy="openai", **rates)
    assert canonical == PopulationConfig(10, 4, mirrored=False, strategy="canonical", **rates)
