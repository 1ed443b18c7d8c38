"""What every strategy promises, whatever its rule."""

import copy
import pickle

import numpy as np
import pytest
from helpers import drift, make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac import ES
from sb3_esac.evolution.noise import perturbations
from sb3_esac.evolution.population import Population
from sb3_esac.evolution.strategies import STRATEGIES, strategy_config

N, D = 8, 3
RETURNS = st.permutations(list(range(N))).map(lambda order: np.array(order, dtype=float))
ALL = pytest.mark.parametrize("name", STRATEGIES)
prop = settings(deadline=None, max_examples=20)


def make(name, sigma=0.3):
    return STRATEGIES[name](np.arange(1.0, D + 1), sigma, strategy_config(name, N, winner_fraction=0.5))


def noise(strategy, generation=0):
    drawn = perturbations(7, generation, N, D, mirrored=strategy.config.mirrored)
    return drawn.astype(strategy.dtype)


def play(strategy, n_generations, first=0):
    for generation in range(first, first + n_generations):
        asked = strategy.ask(noise(strategy, generation))
        strategy.tell(asked, -(asked**2).sum(axis=1))
    return strategy


def assert_same(one, other):
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name], err_msg=name)


@ALL
@prop
@given(returns=RETURNS, shift=st.integers(-1000, 1000), scale=st.sampled_from([0.5, 1.0, 8.0]))
def test_only_the_order_of_returns_counts(name, returns, shift, scale):
    one, other = make(name), make(name)
    asked = one.ask(noise(one))
    one.tell(asked, returns)
    other.tell(asked, scale * returns + shift)
    assert_same(one, other)


@ALL
@prop
@given(returns=RETURNS, order=st.permutations(list(range(N))))
def test_the_order_of_members_does_not_count(name, returns, order):
    one, other = make(name), make(name)
    asked = one.ask(noise(one))
    one.tell(asked, returns)
    other.tell(asked[order], returns[order])
    for key, value in one.state_dict().items():
        if value is not None:
            np.testing.assert_allclose(other.state_dict()[key], value, rtol=1e-5, atol=1e-5)


@ALL
def test_inputs_are_left_alone(name):
    strategy = make(name)
    drawn, returns = noise(strategy), np.arange(N, dtype=float)
    before = drawn.copy()
    asked = strategy.ask(drawn)
    kept = asked.copy()
    strategy.tell(asked, returns)
    np.testing.assert_array_equal(drawn, before)
    np.testing.assert_array_equal(asked, kept)
    np.testing.assert_array_equal(returns, np.arange(N))


@ALL
@pytest.mark.parametrize("unknown", [np.nan, np.inf, -np.inf])
def test_nothing_known_moves_nothing(name, unknown):
    strategy = play(make(name), 3)
    before = copy.deepcopy(strategy)
    strategy.tell(strategy.ask(noise(strategy)), np.full(N, unknown))
    assert_same(strategy, before)


@ALL
def test_arrays_are_replaced(name):
    """So that a snapshot copies nothing, and is left alone all the same."""
    strategy = play(make(name), 2)
    twin, expected = strategy.snapshot(), copy.deepcopy(strategy)
    play(strategy, 3, first=2)
    strategy.sigma = 5.0
    assert_same(twin, expected)
    assert not np.array_equal(strategy.mean, twin.mean)


@ALL
@pytest.mark.parametrize("way", ["pickle", "state", "snapshot"])
def test_state_is_complete(name, way):
    strategy = play(make(name), 3)
    if way == "pickle":
        again = pickle.loads(pickle.dumps(strategy))
    elif way == "snapshot":
        again = strategy.snapshot()
    else:
        again = make(name)
        again.load_state_dict(strategy.state_dict())
    assert_same(play(again, 3, first=3), play(strategy, 3, first=3))


@ALL
def test_a_state_of_another_strategy(name):
    with pytest.raises(ValueError, match="`state` must have the keys"):
        make(name).load_state_dict({"mean": np.zeros(D)})


@ALL
def test_sigma_can_be_set(name):
    """The proportions of the standard deviations stay."""
    strategy = play(make(name), 5)
    before = np.array(strategy.deviations)
    strategy.sigma = 0.7
    assert strategy.sigma == pytest.approx(0.7)
    np.testing.assert_allclose(strategy.deviations / before, np.full(before.shape, 0.7 / np.sqrt((before**2).mean())))


@ALL
def test_sigma_is_adapted_or_not(name):
    """As the strategy says: a schedule, or a sigma that stays, is for those that leave it alone."""
    assert (play(make(name), 3).sigma != 0.3) is STRATEGIES[name].adapts_sigma


@ALL
def test_in_a_population(name):
    """Members are float32, and the mean is the same array for as long as it is the same."""
    population = Population(np.ones(D), 0.2, strategy_config(name, N))
    played = population.perturb(3)
    assert played.dtype == population.mean.dtype == np.float32
    population.update(played, np.arange(N, dtype=float))
    mean = population.mean
    assert mean is population.mean and np.any(mean != 1)
    population.form(None)
    np.testing.assert_array_equal(population.members, np.repeat(mean[None], N, axis=0))
    population.update(population.perturb(3), np.full(N, np.nan))
    assert population.mean is mean
    population.set_mean(np.full(D, 4.0))
    np.testing.assert_array_equal(population.strategy.mean, 4.0)


@ALL
@pytest.mark.parametrize("other", STRATEGIES)
def test_from_one_to_another(name, other):
    """Mean and sigma stay."""
    population = Population(np.ones(D), 0.2, strategy_config(name, N))
    population.update(population.perturb(3), np.arange(N, dtype=float))
    mean, sigma = population.mean, population.sigma
    population.configure(strategy_config(other, N))
    np.testing.assert_array_equal(population.mean, mean)
    assert type(population.strategy) is STRATEGIES[other] and population.sigma == pytest.approx(sigma)
    population.update(population.perturb(3), np.arange(N, dtype=float))


@pytest.mark.parametrize("name", [name for name, kind in STRATEGIES.items() if kind.adapts_sigma])
def test_no_schedule_for_what_is_adapted(name):
    with pytest.raises(
        ValueError, match=f"`sigma` must be a positive finite number.*`strategy='{name}'` adapts it, not <func"
    ):
        make_model(ES, drift(), strategy=name, sigma=lambda remaining: 0.1)
    model = make_model(ES, drift(), strategy=name, sigma=0.2, seed=0).learn(100)
    assert model.population.sigma != 0.2
