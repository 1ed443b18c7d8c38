"""Counter-based random numbers: a draw depends on what it is for, and on nothing else."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.noise import Stream, episode_seed, generator, perturbations

prop = settings(deadline=None, max_examples=50)

SEEDS = st.integers(0, 2**32 - 1)
GENERATIONS = st.integers(0, 2**40)


def draw(seed: int = 0, generation: int = 0, stream: Stream = Stream.PERTURBATION, index: int = 0) -> tuple[int, ...]:
    """Two 64-bit words of a generator: equal by chance once in 2**128."""
    return tuple(generator(seed, generation, stream, index).integers(2**64, size=2, dtype=np.uint64).tolist())


@prop
@given(SEEDS, GENERATIONS, st.sampled_from(Stream), st.integers(0, 10**6))
def test_generator_depends_on_its_arguments_alone(seed, generation, stream, index):
    first = draw(seed, generation, stream, index)
    # Neither the global state nor what was drawn in between matters
    np.random.seed(1)
    draw(seed, generation, stream, index + 1)
    assert draw(seed, generation, stream, index) == first


def test_every_argument_makes_another_generator():
    seeds = [0, 1, 2, 2**31, 2**32 - 1]
    generations = [0, 1, 2, 10**6, 2**40]
    indices = [0, 1, 2, 49, 10**6]
    draws = [draw(*arguments) for arguments in itertools.product(seeds, generations, Stream, indices)]
    assert len(set(draws)) == len(draws) == 5 * 5 * len(Stream) * 5


def test_seed_and_generation_cannot_be_exchanged():
    assert draw(seed=3, generation=5) != draw(seed=5, generation=3)
    assert draw(stream=Stream(2), index=3) != draw(stream=Stream(3), index=2)


def test_streams_do_not_overlap_in_a_long_draw():
    """Neighbours would overlap if a stream began where the one before it is after a few draws."""
    generators = [generator(0, 0, stream, index) for stream in Stream for index in (0, 1)]
    words = [each.integers(2**64, size=2000, dtype=np.uint64) for each in generators]
    everything = np.concatenate(words)
    assert len(np.unique(everything)) == len(everything)


def test_numpy_integers_are_seeds_too():
    assert draw(seed=np.int64(7), generation=np.int64(3), index=np.int64(2)) == draw(seed=7, generation=3, index=2)


@prop
@given(SEEDS, GENERATIONS, st.sampled_from(Stream), st.integers(0, 1000))
def test_episode_seed_range(seed, generation, stream, index):
    value = episode_seed(seed, generation, stream, index)
    assert type(value) is int
    assert 0 <= value < 2**31
    assert value == episode_seed(seed, generation, stream, index)


def test_episode_seeds_differ_and_fill_the_range():
    arguments = itertools.product([0, 1], range(10), [Stream.POPULATION_EPISODE, Stream.AGENT_EPISODE], range(10))
    values = [episode_seed(*each) for each in arguments]
    # The chance of one collision among 400 is 4e-5, and the numbers are fixed
    assert len(set(values)) == 400
    assert min(values) < 2**31 * 0.05 and max(values) > 2**31 * 0.95


# -- perturbations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("size, dimension", [(0, 3), (2, 1), (6, 5), (50, 3)])
def test_perturbations_shape(size, dimension, mirrored):
    noise = perturbations(0, 0, size, dimension, mirrored=mirrored)
    assert noise.shape == (size, dimension)
    assert noise.dtype == np.float32
    assert np.isfinite(noise).all()


@prop
@given(SEEDS, GENERATIONS, st.integers(0, 10), st.integers(0, 10), st.booleans())
def test_perturbations_prefix(seed, generation, half, more, mirrored):
    """Row i is the same however many rows there are."""
    small = perturbations(seed, generation, 2 * half, 7, mirrored=mirrored)
    large = perturbations(seed, generation, 2 * (half + more), 7, mirrored=mirrored)
    np.testing.assert_array_equal(small, large[: 2 * half])


@prop
@given(SEEDS, GENERATIONS, st.integers(1, 10), st.integers(1, 9))
def test_perturbations_mirrored_pairs(seed, generation, n_pairs, dimension):
    noise = perturbations(seed, generation, 2 * n_pairs, dimension, mirrored=True)
    np.testing.assert_array_equal(noise[0::2], -noise[1::2])
    assert noise.any()
    assert not noise.sum(axis=0).any()


def test_perturbations_mirrored_size_is_even():
    with pytest.raises(ValueError):
        perturbations(0, 0, 5, 3, mirrored=True)


@pytest.mark.parametrize("mirrored", [False, True])
def test_perturbations_all_differ(mirrored):
    """No two pairs, generations or seeds share a vector, nor one with the opposite sign."""
    seen = set()
    for seed, generation in itertools.product([0, 1, 2**32 - 1], [0, 1, 2**40]):
        noise = perturbations(seed, generation, 20, 4, mirrored=mirrored)
        seen |= {tuple(np.abs(row)) for row in noise}
    assert len(seen) == 9 * (10 if mirrored else 20)


@pytest.mark.parametrize("mirrored", [False, True])
def test_perturbations_are_not_the_same_for_both_halves(mirrored):
    noise = perturbations(0, 0, 40, 100, mirrored=mirrored)
    rows = noise[0::2] if mirrored else noise
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    # Five standard errors of 0.1
    assert np.abs(correlation).max() < 0.5


@pytest.mark.parametrize("seed, generation", [(0, 0), (2**32 - 1, 0), (0, 2**40), (2**32 - 1, 2**63 - 1)])
def test_perturbations_are_normal(seed, generation):
    noise = perturbations(seed, generation, 200, 500, mirrored=False).astype(np.float64)
    # Standard errors of 1e5 draws: 0.0032, 0.0022, 0.0077, 0.0155
    assert abs(noise.mean()) < 0.015
    assert abs(noise.std() - 1) < 0.012
    assert abs((noise**3).mean()) < 0.06
    assert abs((noise**4).mean() - 3) < 0.15
    # 68, 95 and 99.7 percent
    for bound, share in [(1, 0.6827), (2, 0.9545), (3, 0.9973)]:
        assert abs((np.abs(noise) < bound).mean() - share) < 0.008
    # Neither a row nor a column stands out
    assert np.abs(noise.mean(axis=1)).max() < 5 / np.sqrt(500)
    assert np.abs(noise.mean(axis=0)).max() < 5 / np.sqrt(200)


def test_perturbations_do_not_touch_the_global_generator():
    np.random.seed(3)
    expected = np.random.random(4)
    np.random.seed(3)
    perturbations(0, 0, 4, 4, mirrored=True)
    np.testing.assert_array_equal(np.random.random(4), expected)


def test_perturbations_are_what_they_were():
    """A change of these numbers changes the result of every seeded run."""
    noise = perturbations(1, 2, 4, 3, mirrored=True)
    np.testing.assert_allclose(noise[0], [-0.36082658, -0.20863281, -0.12069435], rtol=1e-6)
    np.testing.assert_allclose(noise[2], [-0.53842753, -1.02200055, 0.44709975], rtol=1e-6)


def test_every_stream_has_numbers_of_its_own():
    """And the same ones in every version: they decide what a seeded run is."""
    names = (
        "PERTURBATION",
        "CROSSOVER",
        "POPULATION_EPISODE",
        "PROBE_EPISODE",
        "AGENT_EPISODE",
        "GRADIENT_INTERVAL",
        "GLOBAL",
        "RANDOM_EPISODE",
        "RANDOM_ACTIONS",
        "AGENT_NOISE",
    )
    assert {name: int(stream) for name, stream in Stream.__members__.items()} == {name: k for k, name in enumerate(names)}
    one, other = generator(3, 4, Stream.CROSSOVER), generator(3, 4, Stream.CROSSOVER, 0)
    assert one.random() == other.random(), "the first is number 0"
