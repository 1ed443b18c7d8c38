"""Counter-based random numbers: every draw is a function of (seed, generation, stream, index) and of nothing else."""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random number is used for; different streams never share a number."""

    PERTURBATION = 0
    CROSSOVER = 1
    POPULATION_EPISODE = 2
    PROBE_EPISODE = 3
    AGENT_EPISODE = 4
    GRADIENT_INTERVAL = 5
    GLOBAL = 6
    RANDOM_EPISODE = 7
    RANDOM_ACTIONS = 8
    AGENT_NOISE = 9


def generator(seed: int, generation: int, stream: Stream, index: int = 0) -> np.random.Generator:
    """
    Make the random generator of one purpose in one generation.

    :param seed: Seed of the run.
    :param generation: Number of the generation.
    :param stream: What the numbers are for.
    :param index: Member, pair or episode within the generation.
    :return: A Philox generator; its draws depend on the four arguments alone, so no order of evaluation can change them.
    """
    # Philox counts in the lowest word; the upper words tell the streams apart.
    return np.random.Generator(np.random.Philox(key=[seed, generation], counter=[0, 0, int(stream), index]))


def episode_seed(seed: int, generation: int, stream: Stream, index: int) -> int:
    """
    Seed for the ``reset`` that begins an episode.

    :param seed: Seed of the run.
    :param generation: Number of the generation.
    :param stream: Whose episode it is.
    :param index: Number of the episode within the generation and stream.
    :return: An integer in [0, 2**31).
    """
    return int(generator(seed, generation, stream, index).integers(2**31))


def perturbations(seed: int, generation: int, size: int, dimension: int, *, mirrored: bool) -> np.ndarray:
    """
    Draw the generation's noise vectors (Algorithm 1, line 6).

    :param seed: Seed of the run.
    :param generation: Number of the generation.
    :param size: Number of vectors, even if ``mirrored``.
    :param dimension: Length of a vector.
    :param mirrored: Whether members 2j and 2j + 1 get +eps and -eps (antithetic sampling).
    :return: float32 array (size, dimension); row i depends on (seed, generation, i) alone.
    """
    noise = np.empty((size, dimension), dtype=np.float32)
    step = 2 if mirrored else 1
    for row in range(0, size, step):
        rng = generator(seed, generation, Stream.PERTURBATION, row // step)
        rng.standard_normal(dtype=np.float32, out=noise[row])
    if mirrored:
        np.negative(noise[0::2], out=noise[1::2])
    return noise
