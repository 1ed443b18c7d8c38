"""The population: who starts where, how the mean moves, and that a resumed run is the uninterrupted one."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution import operators
from sb3_esac.evolution.noise import Stream, generator, perturbations
from sb3_esac.evolution.population import Origin, Population, PopulationConfig

prop = settings(deadline=None, max_examples=50)
MEAN, WINNER, AGENT = Origin.MEAN, Origin.WINNER, Origin.AGENT
NAN, INF = float("nan"), float("inf")

# float32 vectors of this size around 1: one rounding is 6e-8, in units of sigma = 0.1 it is 6e-7
DIMENSION = 5
THETA = np.linspace(-1, 1, DIMENSION).astype(np.float32)


def make(sigma: float = 0.1, mean: np.ndarray = THETA, **changes) -> Population:
    return Population(mean, sigma, PopulationConfig(**{"size": 6, "n_winners": 2, "es_optimizer": "sgd", **changes}))


def make_mixed(n_crossed: int, n_agent: int, size: int, **changes) -> Population:
    """Generation 1 of a population that has guests: crossed[k] is all 10 + k, the agent all 20."""
    population = make(size=size, n_agent_members=n_agent, **changes)
    population.children = np.repeat(10.0 + np.arange(n_crossed, dtype=np.float32)[:, None], DIMENSION, axis=1)
    population.form(np.full(DIMENSION, 20.0, dtype=np.float32))
    return population


# -- the start ------------------------------------------------------------------------------------------------------------


def test_first_generation_starts_from_the_mean():
    mean = THETA.astype(np.float64)
    population = Population(mean, 0.1, PopulationConfig(size=6, n_winners=2))
    mean[:] = 99
    assert population.generation == 0
    assert population.sigma == 0.1
    assert population.mean.dtype == population.members.dtype == np.float32
    np.testing.assert_array_equal(population.mean, THETA)
    np.testing.assert_array_equal(population.members, np.tile(THETA, (6, 1)))
    assert population.origins.tolist() == [MEAN] * 6
    for name in ("winners", "previous_winners", "children"):
        assert getattr(population, name).shape == (0, DIMENSION)
    assert population.winner_origins.shape == (0,)
    # The members do not follow the mean before the next generation is formed
    population.mean[:] = 99
    np.testing.assert_array_equal(population.members, np.tile(THETA, (6, 1)))


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().config.size = 8


def test_origins_are_three():
    """Saved models hold these numbers."""
    assert {origin.name: int(origin) for origin in Origin} == {"MEAN": 0, "WINNER": 1, "AGENT": 2}


# -- perturb --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("generation", [0, 3])
def test_perturb_adds_sigma_times_noise(mirrored, generation):
    population = make(mirrored=mirrored)
    population.generation = generation
    noise = perturbations(11, generation, 6, DIMENSION, mirrored=mirrored)
    offspring = population.perturb(11)
    assert offspring.dtype == np.float32
    np.testing.assert_allclose(offspring, THETA + 0.1 * noise, atol=1e-6)


def test_perturb_uses_the_current_sigma():
    population = make(sigma=0.1)
    narrow = population.perturb(0) - population.members
    population.sigma = 0.3
    np.testing.assert_allclose(population.perturb(0) - population.members, 3 * narrow, atol=1e-6)


def test_perturb_changes_nothing_and_repeats_itself():
    population = make_mixed(n_crossed=2, n_agent=1, size=6)
    before = pickle.dumps(population)
    offspring = population.perturb(5)
    np.testing.assert_array_equal(population.perturb(5), offspring)
    assert pickle.dumps(population) == before
    offspring[:] = 0
    assert pickle.dumps(population) == before
    assert np.any(population.perturb(6) != population.perturb(5))
    population.generation += 1
    assert np.all(population.perturb(5)[0] != pickle.loads(before).perturb(5)[0])


def test_perturb_moves_every_member():
    """Winners are not shielded from mutation, nor is the agent."""
    population = make_mixed(n_crossed=2, n_agent=2, size=8)
    displacements = (population.perturb(0) - population.members) / population.sigma
    noise = perturbations(0, 1, 8, DIMENSION, mirrored=True)
    # Guests are as large as 20: float32 rounds them to 2e-6
    np.testing.assert_allclose(displacements, noise, atol=1e-4)


# -- form: who starts where -----------------------------------------------------------------------------------------------


def test_form_layout():
    population = make(size=8, n_agent_members=2)
    population.mean = THETA + 1
    population.children = np.stack([np.full(DIMENSION, 10.0), np.full(DIMENSION, 11.0)]).astype(np.float32)
    population.form(np.full(DIMENSION, 20.0))
    assert population.generation == 1
    assert population.origins.tolist() == [MEAN, MEAN, MEAN, MEAN, WINNER, WINNER, AGENT, AGENT]
    assert population.members.dtype == np.float32
    np.testing.assert_array_equal(population.members[:4], np.tile(THETA + 1, (4, 1)))
    np.testing.assert_array_equal(population.members[4:, 0], [10, 11, 20, 20])
    np.testing.assert_array_equal(population.members[4:], np.tile(population.members[4:, :1], (1, DIMENSION)))
    # The crossed-over members are used once
    assert population.children.shape == (0, DIMENSION)
    population.form(None)
    assert population.origins.tolist() == [MEAN] * 8


@pytest.mark.parametrize("n_agent_members, agent, expected", [(2, None, 0), (0, np.full(DIMENSION, 20.0), 0), (0, None, 0)])
def test_form_without_the_agent(n_agent_members, agent, expected):
    population = make(size=6, n_agent_members=n_agent_members)
    population.children = np.full((2, DIMENSION), 10.0, dtype=np.float32)
    population.form(agent)
    assert (population.origins == AGENT).sum() == expected
    assert population.origins.tolist() == [MEAN] * 4 + [WINNER] * 2
    np.testing.assert_array_equal(population.members[:, 0], [THETA[0]] * 4 + [10] * 2)


def test_form_takes_the_agent_back_out():
    population = make_mixed(n_crossed=0, n_agent=2, size=6)
    assert (population.origins == AGENT).sum() == 2
    population.form(None)
    assert (population.origins == AGENT).sum() == 0
    np.testing.assert_array_equal(population.members, np.tile(THETA, (6, 1)))


def test_form_copies_what_it_is_given():
    population = make(size=6, n_agent_members=1)
    agent, crossed = np.full(DIMENSION, 20.0, dtype=np.float32), np.full((2, DIMENSION), 10.0, dtype=np.float32)
    population.children = crossed
    population.form(agent)
    before = population.members.copy()
    agent[:], crossed[:], population.mean[:] = 0, 0, 0
    np.testing.assert_array_equal(population.members, before)


def test_form_keeps_the_best_of_too_many_crossed():
    population = make_mixed(n_crossed=6, n_agent=2, size=6)
    assert population.origins.tolist() == [WINNER] * 4 + [AGENT] * 2
    np.testing.assert_array_equal(population.members[:, 0], [10, 11, 12, 13, 20, 20])


@st.composite
def layouts(draw: st.DrawFn) -> tuple[int, int, int]:
    size = 2 * draw(st.integers(1, 12))
    return draw(st.integers(0, size)), draw(st.integers(0, size)), size


@prop
@given(layouts(), st.integers(0, 2**32 - 1))
def test_mirrored_pairs_of_the_mean_share_their_start(layout, seed):
    n_crossed, n_agent, size = layout
    population = make_mixed(n_crossed, n_agent, size)
    n_winners = min(n_crossed, size - n_agent)
    n_mean = size - n_winners - n_agent
    assert population.origins.tolist() == [MEAN] * n_mean + [WINNER] * n_winners + [AGENT] * n_agent
    offspring = population.perturb(seed)
    assert offspring.shape == (size, DIMENSION)
    # Members of the mean fill whole pairs; of an odd number, the last one has a guest for a partner
    pairs = offspring[: n_mean // 2 * 2].reshape(-1, 2, DIMENSION)
    np.testing.assert_allclose(pairs.mean(axis=1), np.tile(THETA, (n_mean // 2, 1)), atol=1e-6)
    assert np.all(np.any(pairs[:, 0] != pairs[:, 1], axis=1))


# -- update: winners ------------------------------------------------------------------------------------------------------


def offspring_for(population: Population) -> np.ndarray:
    """Any parameters will do: row i is all i, away from every member."""
    size = population.config.size
    return np.repeat(np.arange(size, dtype=np.float32)[:, None], population.mean.size, axis=1)


@pytest.mark.parametrize("strategy", ["openai", "canonical"])
def test_winners_are_what_was_played(strategy):
    population = make(strategy=strategy, n_winners=3)
    offspring = population.perturb(0)
    population.update(offspring, np.array([0.0, 5.0, 3.0, 5.0, -1.0, 4.0]))
    np.testing.assert_array_equal(population.winners, offspring[[1, 3, 5]])
    assert np.all(population.winners != THETA)
    assert population.previous_winners.shape == (0, DIMENSION)
    offspring[:] = 0
    assert population.winners.any()


def test_previous_winners_are_those_of_the_generation_before():
    population = make()
    for generation, returns in enumerate([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0], [0, 0, 9, 8, 0, 0]]):
        before = population.winners.copy()
        population.update(offspring_for(population) + 10 * generation, np.array(returns, dtype=float))
        np.testing.assert_array_equal(population.previous_winners, before)
        population.form(None)
        np.testing.assert_array_equal(population.previous_winners, before)
    np.testing.assert_array_equal(population.previous_winners[:, 0], [10, 11])
    np.testing.assert_array_equal(population.winners[:, 0], [22, 23])


def test_winners_remember_their_origins():
    population = make_mixed(n_crossed=2, n_agent=1, size=6, n_winners=4)
    assert population.origins.tolist() == [MEAN, MEAN, MEAN, WINNER, WINNER, AGENT]
    population.update(offspring_for(population), np.array([1.0, 0.0, 0.0, 0.0, 3.0, 2.0]))
    np.testing.assert_array_equal(population.winners[:, 0], [4, 5, 0, 1])
    assert population.winner_origins.tolist() == [WINNER, AGENT, MEAN, MEAN]
    # The next generation's lineage does not change this one's
    population.form(None)
    assert population.winner_origins.tolist() == [WINNER, AGENT, MEAN, MEAN]


@pytest.mark.parametrize("unknown", [NAN, INF, -INF])
def test_winners_have_finite_returns(unknown):
    population = make(n_winners=3)
    population.update(offspring_for(population), np.array([unknown, 2.0, unknown, unknown, 1.0, unknown]))
    # An infinite return takes a place, but nobody starts from it
    assert set(population.winners[:, 0]) <= {1, 4}
    assert len(population.winner_origins) == len(population.winners)


def test_no_winners_at_all():
    population = make(n_winners=0)
    population.update(offspring_for(population), np.arange(6.0))
    assert population.winners.shape == (0, DIMENSION)
    population.form(None)
    assert np.isfinite(population.members).all()


# -- update: the mean -----------------------------------------------------------------------------------------------------


def test_recombination_of_winners_values():
    population = make(strategy="canonical", n_winners=3)
    population.update(offspring_for(population), np.array([0.0, 50.0, 1.0, 2.0, 60.0, 40.0]))
    raw = [math.log(3.5), math.log(3.5 / 2), math.log(3.5 / 3)]
    expected = (raw[0] * 4 + raw[1] * 1 + raw[2] * 5) / sum(raw)
    assert population.mean.dtype == np.float32
    np.testing.assert_allclose(population.mean, np.full(DIMENSION, expected), rtol=1e-6)


def test_recombination_weighs_the_winners_that_there_are():
    population = make(strategy="canonical", n_winners=3)
    population.update(offspring_for(population), np.array([NAN, 50.0, NAN, NAN, 60.0, NAN]))
    raw = [math.log(2.5), math.log(2.5 / 2)]
    np.testing.assert_allclose(population.mean, np.full(DIMENSION, (raw[0] * 4 + raw[1] * 1) / sum(raw)), rtol=1e-6)


def test_recombination_of_winners_follows_a_guest():
    """The canonical rule goes where the winners are, whatever they started from."""
    population = make_mixed(n_crossed=0, n_agent=2, size=6, strategy="canonical", n_winners=2)
    population.update(population.perturb(0), np.array([0.0, 0.0, 0.0, 0.0, 1.0, 1.0]))
    np.testing.assert_allclose(population.mean, 20.0, atol=0.5)


@pytest.mark.parametrize("mirrored", [True, False])
def test_es_update_is_the_papers(mirrored):
    """theta + alpha / (n sigma) sum_i F_i eps_i, summed here one by one."""
    population = make(sigma=0.05, es_learning_rate=0.02, mirrored=mirrored, size=8, n_winners=3)
    offspring, returns = population.perturb(3), np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0])
    noise = perturbations(3, 0, 8, DIMENSION, mirrored=mirrored)
    ranks = np.array([3, 0.5, 4, 0.5, 5, 7, 2, 6])
    expected = THETA.astype(np.float64)
    for rank, eps in zip(ranks, noise, strict=True):
        expected = expected + 0.02 / (8 * 0.05) * (rank / 7 - 0.5) * eps
    population.update(offspring, returns)
    assert population.mean.dtype == np.float32
    np.testing.assert_allclose(population.mean, expected, atol=1e-6)
    assert np.abs(expected - THETA).max() > 1e-3


def test_es_update_goes_through_the_optimizer():
    population = make(es_optimizer="adam", es_learning_rate=0.02)
    population.update(population.perturb(0), np.arange(6.0))
    # Adam's first step is the learning rate in every direction
    np.testing.assert_allclose(np.abs(population.mean - THETA), 0.02, rtol=1e-3)


def test_guests_contribute_their_true_displacement():
    population = make_mixed(n_crossed=1, n_agent=1, size=4, es_learning_rate=0.01)
    assert population.origins.tolist() == [MEAN, MEAN, WINNER, AGENT]
    noise = perturbations(7, 1, 4, DIMENSION, mirrored=True)
    population.update(population.perturb(7), np.array([1.0, 0.0, 3.0, 2.0]))
    utilities = np.array([1, 0, 3, 2]) / 3 - 0.5
    # From the mean: eps; from a guest: (guest + sigma eps - mean) / sigma
    guests = np.array([10.0, 20.0])[:, None] + 0.1 * noise[2:]
    displacements = np.vstack([noise[:2], (guests - THETA) / 0.1])
    expected = THETA + 0.01 / (4 * 0.1) * utilities @ displacements
    np.testing.assert_allclose(population.mean, expected, rtol=1e-5)
    # As if they were centred on the mean (the authors' code) would be far from it
    assert np.abs(population.mean - (THETA + 0.01 / (4 * 0.1) * utilities @ noise)).min() > 0.1


def test_guests_displacement_leads_the_mean_towards_a_better_guest():
    """Plain ascent towards an agent that beats every member of the mean."""
    population = make_mixed(n_crossed=0, n_agent=2, size=6)
    population.update(population.perturb(0), np.array([0.0, 0.1, 0.2, 0.3, 1.0, 1.1]))
    assert np.all(population.mean > THETA)


def test_update_leaves_its_inputs_and_the_members_alone():
    population = make_mixed(n_crossed=1, n_agent=1, size=6)
    offspring, returns = population.perturb(0), np.array([1.0, NAN, 3.0, INF, 0.0, 2.0])
    copies, members = (offspring.copy(), returns.copy()), population.members.copy()
    population.update(offspring, returns)
    np.testing.assert_array_equal(offspring, copies[0])
    np.testing.assert_array_equal(returns, copies[1])
    # The mean has moved, the members still stand where they were played from
    assert np.any(population.mean != THETA)
    np.testing.assert_array_equal(population.members, members)
    assert population.generation == 1
    assert population.sigma == 0.1


# -- unknown returns ------------------------------------------------------------------------------------------------------


def assert_all_finite(population: Population) -> None:
    for name in ("mean", "members", "winners", "previous_winners"):
        assert np.isfinite(getattr(population, name)).all(), name
    assert np.isfinite(population.perturb(0)).all()
    for name, value in population.strategy.state_dict().items():
        assert value is None or np.isfinite(value).all(), name


MODES = pytest.mark.parametrize(
    "changes",
    [
        {"es_optimizer": es_optimizer, "strategy": strategy}
        for es_optimizer in ("adam", "sgd")
        for strategy in ("openai", "canonical")
    ],
    ids=lambda changes: "-".join(changes.values()),
)


@MODES
@pytest.mark.parametrize("unknown", [NAN, INF, -INF])
def test_no_finite_return_moves_nothing(changes, unknown):
    population = make(**changes)
    population.update(population.perturb(0), np.full(6, unknown))
    np.testing.assert_array_equal(population.mean, THETA)
    assert population.winners.shape == (0, DIMENSION)
    assert population.winner_origins.shape == (0,)
    population.form(None)
    assert_all_finite(population)
    # And the run goes on
    population.update(population.perturb(0), np.arange(6.0))
    assert np.any(population.mean != THETA)
    assert len(population.winners) == 2
    assert_all_finite(population)


@MODES
def test_unknown_return_is_the_worst_return(changes):
    population, other = make(**changes), make(**changes)
    offspring = population.perturb(0)
    population.update(offspring, np.array([1.0, NAN, 3.0, 2.0, 0.0, -7.0]))
    other.update(offspring, np.array([1.0, -1e9, 3.0, 2.0, 0.0, -7.0]))
    np.testing.assert_array_equal(population.mean, other.mean)
    np.testing.assert_array_equal(population.winners, other.winners)
    assert np.any(population.mean != THETA)
    assert_all_finite(population)


@MODES
@pytest.mark.parametrize("returns", [[NAN, NAN, 1, NAN, NAN, NAN], [NAN, 3, NAN, INF, -INF, NAN], [INF, -INF] * 3])
def test_some_unknown_returns_spoil_nothing(changes, returns):
    population = make(**changes)
    for _ in range(3):
        population.update(population.perturb(0), np.array(returns, dtype=float))
        population.form(None)
        assert_all_finite(population)


# -- other rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, origins, first",
    [
        (8, [MEAN] * 5 + [WINNER, WINNER, AGENT], [-1] * 5 + [10, 11, 20]),
        (6, [MEAN] * 3 + [WINNER, WINNER, AGENT], [-1] * 3 + [10, 11, 20]),
        (4, [MEAN, WINNER, WINNER, AGENT], [-1, 10, 11, 20]),
        (2, [WINNER, WINNER], [10, 11]),
    ],
)
def test_another_size(size, origins, first):
    """Guests stay for as long as there is room; members of the mean come and go."""
    population = make_mixed(n_crossed=2, n_agent=1, size=6)
    population.configure(dataclasses.replace(population.config, size=size))
    assert population.origins.tolist() == origins
    np.testing.assert_array_equal(population.members[:, 0], first)
    assert population.perturb(0).shape == (size, DIMENSION)


# -- set_mean and state dict ----------------------------------------------------------------------------------------------


def test_set_mean():
    population = make_mixed(n_crossed=1, n_agent=1, size=6)
    mean = np.full(DIMENSION, 3.0)
    population.set_mean(mean)
    mean[:] = 0
    assert population.mean.dtype == np.float32
    np.testing.assert_array_equal(population.mean, 3.0)
    np.testing.assert_array_equal(population.members[:, 0], [3, 3, 3, 3, 10, 20])
    # Neither of the two is a view of the other
    population.mean[:] = 5
    np.testing.assert_array_equal(population.members[:, 0], [3, 3, 3, 3, 10, 20])


def test_set_mean_is_where_the_optimizer_goes_on():
    population = make(es_learning_rate=0.02)
    population.set_mean(THETA + 7)
    offspring = population.perturb(0)
    np.testing.assert_allclose(offspring.mean(axis=0), THETA + 7, atol=1e-5)
    population.update(offspring, np.arange(6.0))
    np.testing.assert_allclose(population.mean, THETA + 7, atol=0.5)


def test_state_dict_is_a_copy():
    population = make()
    state = population.state_dict()
    assert set(state) == {"mean", "strategy", *Population.STATE}
    np.testing.assert_array_equal(state["mean"].numpy(), THETA)
    # Neither follows the other
    population.mean[:] = 99
    np.testing.assert_array_equal(state["mean"].numpy(), THETA)
    state["mean"][:] = 7
    np.testing.assert_array_equal(population.mean, 99)


@pytest.mark.parametrize("strict", [True, False])
def test_load_state_dict_sets_the_mean(strict):
    population = make_mixed(n_crossed=1, n_agent=1, size=6)
    state = {"mean": th.full((DIMENSION,), 3.0, dtype=th.float64, requires_grad=True)}
    state = {**population.state_dict(), **state} if strict else state
    population.load_state_dict(state, strict=strict)
    with th.no_grad():
        state["mean"][:] = 0
    assert population.mean.dtype == np.float32
    np.testing.assert_array_equal(population.mean, 3)
    np.testing.assert_array_equal(population.members[:, 0], [3, 3, 3, 3, 10, 20])


@pytest.mark.parametrize(
    "state, strict",
    [
        ({}, True),
        ({"mean": th.zeros(DIMENSION)}, True),
        ({**make().state_dict(), "sigma": th.zeros(1)}, True),
        ({"mean": th.zeros(DIMENSION), "sigma": th.zeros(1)}, True),
        ({"median": th.zeros(DIMENSION)}, True),
        ({"mean": th.zeros(DIMENSION + 1)}, True),
        ({"mean": th.zeros(DIMENSION + 1)}, False),
        ({"mean": th.zeros(1)}, False),
        ({"mean": th.zeros(1, DIMENSION)}, True),
    ],
)
def test_load_state_dict_refuses_what_does_not_fit(state, strict):
    population = make()
    with pytest.raises(RuntimeError, match="population"):
        population.load_state_dict(state, **({} if strict else {"strict": False}))
    np.testing.assert_array_equal(population.mean, THETA)


def test_load_state_dict_may_be_lenient():
    population = make()
    population.load_state_dict({}, strict=False)
    np.testing.assert_array_equal(population.mean, THETA)
    population.load_state_dict({"mean": th.ones(DIMENSION), "sigma": th.zeros(1)}, strict=False)
    np.testing.assert_array_equal(population.mean, 1)
    assert population.sigma == 0.1


# -- whole runs -----------------------------------------------------------------------------------------------------------

TARGET = np.linspace(-1, 1, 10).astype(np.float32)


def bowl(parameters: np.ndarray) -> np.ndarray:
    """Return of each row: minus the squared distance to the target, which makes the best return zero."""
    return -((parameters.astype(np.float64) - TARGET) ** 2).sum(axis=-1)


def run(population: Population, n_generations: int, seed: int) -> list[float]:
    """The whole of an ESAC generation but for the gradients: the agent is a point near the target that comes and goes."""
    losses = []
    for _ in range(n_generations):
        offspring = population.perturb(seed)
        returns = bowl(offspring)
        population.update(offspring, returns)
        population.sigma = operators.tune_sigma(
            population.sigma,
            *operators.amt_statistics(returns, "normalized"),
            es_learning_rate=population.config.es_learning_rate,
            population_size=population.config.size,
            clip=1e-3,
        )
        rng = generator(seed, population.generation, Stream.CROSSOVER)
        groups = np.repeat(np.arange(5), 2)
        population.children = np.array(
            [operators.crossover(winner, population.mean, groups, rng) for winner in population.previous_winners]
        ).reshape(-1, 10)
        population.form(TARGET + 0.5 if population.generation % 2 else None)
        losses.append(-float(bowl(population.mean)))
    return losses


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("es_optimizer, es_learning_rate", [("adam", 0.1), ("sgd", 0.15)])
@pytest.mark.parametrize("strategy", ["openai", "canonical"])
def test_es_alone_descends(es_optimizer, es_learning_rate, strategy, seed):
    """Ten generations on a quadratic bowl, by the members of the mean alone."""
    config = PopulationConfig(
        size=40, n_winners=10, es_learning_rate=es_learning_rate, es_optimizer=es_optimizer, strategy=strategy
    )
    population = Population(np.zeros(10), 0.2, config)
    losses = [-float(bowl(population.mean))]
    for _ in range(10):
        offspring = population.perturb(seed)
        population.update(offspring, bowl(offspring))
        population.form(None)
        losses.append(-float(bowl(population.mean)))
    assert population.generation == 10
    assert losses[0] == pytest.approx((TARGET**2).sum())
    assert np.all(np.diff(losses) < 0)
    assert losses[-1] < 0.1 * losses[0]


def assert_same(population: Population, expected: Population) -> None:
    """Bit for bit, with everything that the next generation depends on."""
    assert population.config == expected.config
    assert population.sigma == expected.sigma
    assert population.generation == expected.generation
    for name in ("mean", "members", "origins", "winners", "winner_origins", "previous_winners", "children"):
        value, expected_value = getattr(population, name), getattr(expected, name)
        assert value.dtype == expected_value.dtype
        np.testing.assert_array_equal(value, expected_value, err_msg=name)
    np.testing.assert_array_equal(population.perturb(5), expected.perturb(5))
    state, expected_state = population.strategy.state_dict(), expected.strategy.state_dict()
    assert state.keys() == expected_state.keys()
    for name in state:
        np.testing.assert_array_equal(state[name], expected_state[name], err_msg=name)


WHOLE_RUN = {"size": 20, "n_winners": 4, "n_agent_members": 2, "es_learning_rate": 0.02}


@MODES
def test_interrupted_run_equals_an_uninterrupted_one(changes):
    config = PopulationConfig(**WHOLE_RUN, **changes)
    uninterrupted = Population(np.zeros(10), 0.1, config)
    run(uninterrupted, 10, seed=5)

    first = Population(np.zeros(10), 0.1, config)
    run(first, 4, seed=5)
    saved = pickle.dumps(first)
    run(first, 3, seed=5)  # nothing that happens after saving may reach what was saved
    resumed = pickle.loads(saved)
    assert resumed.generation == 4
    assert resumed.sigma > 0.1
    assert len(resumed.previous_winners) == 4 and WINNER in resumed.origins
    run(resumed, 6, seed=5)

    assert_same(resumed, uninterrupted)


@MODES
def test_snapshot_is_left_alone_by_what_follows(changes):
    """A snapshot of a run is the run at that moment, and going on from it is going on from there."""
    population, other = (Population(np.zeros(10), 0.1, PopulationConfig(**WHOLE_RUN, **changes)) for _ in range(2))
    run(population, 4, seed=5)
    saved = pickle.dumps(population)
    snapshot = population.snapshot()
    assert snapshot is not population
    assert_same(snapshot, population)
    population.set_mean(np.ones(10))
    population.sigma = 0.5
    run(population, 6, seed=6)
    assert_same(snapshot, pickle.loads(saved))

    # Nor does the run feel what becomes of its snapshot
    saved = pickle.dumps(population)
    run(snapshot, 6, seed=5)
    assert_same(population, pickle.loads(saved))
    run(other, 10, seed=5)
    assert_same(snapshot, other)


@MODES
def test_run_with_guests_is_seeded_and_descends(changes):
    runs = [Population(np.zeros(10), 0.1, PopulationConfig(**WHOLE_RUN, **changes)) for _ in range(3)]
    losses = [run(population, 10, seed) for population, seed in zip(runs, [5, 5, 6], strict=True)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0][-1] < 0.75 * (TARGET**2).sum()
