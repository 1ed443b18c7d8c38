"""The operators of ESAC as pure functions: arrays in, new arrays out, nothing remembered."""

import numpy as np


def centered_ranks(returns: np.ndarray) -> np.ndarray:
    """
    Rank returns into [-0.5, 0.5] (Algorithm 1, line 9).

    :param returns: (n,) returns, higher is better. Equal returns share their mean rank; NaN ranks below everything else.
    :return: (n,) float64 utilities that sum to zero; a single return, or equal ones, give zeros.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.size < 2:
        return np.zeros(values.shape)
    missing = np.isnan(values)
    codes = np.zeros(values.shape, dtype=np.int64)
    codes[~missing] = 1 + np.unique(values[~missing], return_inverse=True)[1]
    counts = np.bincount(codes)
    mean_ranks = np.cumsum(counts) - (counts + 1) / 2.0
    return mean_ranks[codes] / (values.size - 1) - 0.5


def winner_count(population_size: int, winner_fraction: float) -> int:
    """
    Number of winners, w = int(n * e) (Algorithm 1, line 10), at least one.

    :param population_size: n.
    :param winner_fraction: e, in (0, 1].
    :return: w.
    """
    # A fraction such as 0.29 * 100 = 28.999... means 29.
    return max(1, int(population_size * winner_fraction + 1e-9))


def select_winners(returns: np.ndarray, n_winners: int) -> np.ndarray:
    """
    Select the members with the highest returns (soft winner selection, Algorithm 1, line 10).

    :param returns: (n,) returns; NaN is never selected before a number.
    :param n_winners: How many to select.
    :return: (n_winners,) indices, best first; among equals the lower index comes first.
    """
    values = np.where(np.isnan(returns), -np.inf, np.asarray(returns, dtype=np.float64))
    # Primary key last: numbers before NaN, then by return.
    order = np.lexsort((-values, np.isnan(returns)))
    return order[:n_winners]


def es_gradient(utilities: np.ndarray, displacements: np.ndarray, sigma: float) -> np.ndarray:
    """
    Estimate the gradient of the expected utility, 1 / (n sigma) * sum_i F_i eps_i (Algorithm 1, line 11).

    :param utilities: (n,) shaped fitness F.
    :param displacements: (n, d) distances of the members from the mean in units of sigma: eps_i for members centred on the
        mean, ``(x_i - mean) / sigma`` for guests.
    :param sigma: Mutation rate.
    :return: (d,) float64 direction of ascent.
    """
    return utilities.astype(np.float64) @ displacements.astype(np.float64) / (len(utilities) * sigma)


def decay(gradient: np.ndarray, mean: np.ndarray, sigma: float, weight_decay: float) -> np.ndarray:
    """
    Take the gradient of an L2 penalty from a gradient estimate.

    The penalty is relative to the estimate before its division by sigma, as in the code of Salimans et al. (2017), so that
    their 0.005 means here what it means there.

    :param gradient: (d,) what :func:`es_gradient` gave.
    :param mean: (d,) parameters.
    :param sigma: Mutation rate.
    :param weight_decay: Coefficient of the penalty, 0 for none.
    :return: (d,) direction of ascent.
    """
    return gradient - weight_decay / sigma * mean.astype(np.float64)


def log_weights(n_winners: int) -> np.ndarray:
    """
    Recombination weights of the canonical ES, w_i ~ ln(mu + 0.5) - ln(i), normalised to sum to one.

    :param n_winners: mu, the number of parents.
    :return: (n_winners,) float64 weights, best parent first.
    """
    weights: np.ndarray = np.log(n_winners + 0.5) - np.log(np.arange(1, n_winners + 1))
    weights /= weights.sum()
    return weights


def recombine(winners: np.ndarray) -> np.ndarray:
    """
    Log-weighted mean of the winners (Chrabaszcz et al., 2018).

    :param winners: (w, d) parameter vectors, best first.
    :return: (d,) float64 vector.
    """
    return log_weights(len(winners)) @ winners.astype(np.float64)


def crossover(winner: np.ndarray, mean: np.ndarray, groups: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """
    Replace groups of weights of one parent by those of the other at random (Algorithm 1, line 26).

    :param winner: (d,) a winner of the previous generation.
    :param mean: (d,) the current mean.
    :param groups: (d,) integers from 0; weights with the same number are inherited together (a row of a layer with its bias).
    :param rng: Source of the random choice.
    :return: (d,) child; each group comes from the winner with probability 1/2.
    """
    from_winner = rng.random(int(groups.max()) + 1) < 0.5
    return np.where(from_winner[groups], winner, mean)


def smooth_l1(x: float, y: float) -> float:
    """
    SmoothL1 (Huber) distance of two numbers (equation 1).

    :param x: A number.
    :param y: Another one.
    :return: Half of the squared difference where that is below 1, otherwise the difference less 1/2; never negative.
    """
    distance = abs(x - y)
    return 0.5 * distance**2 if distance < 1.0 else distance - 0.5


def amt_statistics(returns: np.ndarray, amt_input: str) -> tuple[float, float]:
    """
    Best and mean fitness as automatic mutation tuning sees them.

    :param returns: (n,) returns; NaN is left out.
    :param amt_input: "raw" returns, their centered "rank", or "normalized" to zero mean and unit variance.
    :return: (F_max, F_avg); equal numbers if no return is finite.
    """
    finite = np.asarray(returns, dtype=np.float64)[np.isfinite(returns)]
    if finite.size == 0:
        return 0.0, 0.0
    if amt_input == "rank":
        finite = centered_ranks(finite)
    elif amt_input == "normalized":
        spread = finite.std()
        finite = (finite - finite.mean()) / spread if spread > 0 else np.zeros_like(finite)
    return float(finite.max()), float(finite.mean())


def tune_sigma(
    sigma: float,
    f_max: float,
    f_avg: float,
    *,
    es_learning_rate: float,
    population_size: int,
    clip: float,
) -> float:
    """
    Automatic mutation tuning, sigma + clip(alpha / (n sigma) * SmoothL1(F_max, F_avg), 0, zeta) (equation 3).

    :param sigma: Mutation rate.
    :param f_max: Best fitness of the generation.
    :param f_avg: Mean fitness of the generation.
    :param es_learning_rate: alpha_es.
    :param population_size: n.
    :param clip: zeta, the largest change.
    :return: The new mutation rate, positive.
    """
    return sigma + min(max(es_learning_rate / (population_size * sigma) * smooth_l1(f_max, f_avg), 0.0), clip)
