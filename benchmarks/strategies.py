"""
Evaluations to 1e-8 of the separable CMA-ES, beside the package ``cma``: ``python -m benchmarks.strategies``.

``cma`` is run with its diagonal covariance, as it is (active) and without its negative weights (passive). It is not asked
whether it would stop: on Rosenbrock its step size grows beyond 1e20 and its variances shrink as much, so that its criteria
"tolupsigma" and "noeffectcoord" would end an active search at 1e-3, though what it draws is sound and gets there in the end.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.evaluation import RESULTS, write
from experiments.tables import Tables, columns
from sb3_esac.evolution.strategies import SeparableCMAES

TARGET = 1e-8
SIGMA = 0.5
LIMIT = 500_000
FIELDS = ["function", "dimension", "seeds", "sep_cma_es", "cma", "cma_passive", "ratio", "ratio_passive"]


def sphere(points: np.ndarray) -> Any:
    """Lowest, 0, at zero."""
    return (points**2).sum(axis=-1)


def ellipsoid(points: np.ndarray) -> Any:
    """Of condition 1e4."""
    dimension = points.shape[-1]
    return (1e4 ** (np.arange(dimension) / (dimension - 1)) * points**2).sum(axis=-1)


def rosenbrock(points: np.ndarray) -> Any:
    """Lowest, 0, at one, at the end of a narrow bent valley, along which variances say little."""
    return (100 * (points[..., 1:] - points[..., :-1] ** 2) ** 2 + (1 - points[..., :-1]) ** 2).sum(axis=-1)


def evaluations(function: Callable[[np.ndarray], Any], dimension: int, start: float, seed: int) -> int:
    """
    Count the evaluations of the separable CMA-ES.

    :param function: What is minimised.
    :param dimension: d.
    :param start: Every element of the initial mean.
    :param seed: Seed.
    :return: Evaluations to ``TARGET``, those of the last generation included; more than ``LIMIT`` if it is not reached.
    """
    search, n = SeparableCMAES(np.full(dimension, start), SIGMA, seed=seed), 0
    while n <= LIMIT:
        values = function(search.ask())
        n += len(values)
        if values.min() < TARGET:
            break
        search.tell(-values)
    return n


def evaluations_of_cma(
    function: Callable[[np.ndarray], Any], dimension: int, start: float, seed: int, active: bool = True
) -> int:
    """
    Count the evaluations of ``cma``.

    :param function: What is minimised.
    :param dimension: d.
    :param start: Every element of the initial mean.
    :param seed: Seed.
    :param active: Whether it has negative weights.
    :return: As above.
    """
    import cma

    options = {"CMA_diagonal": True, "CMA_active": active, "seed": seed + 1, "verbose": -9}
    search, n = cma.CMAEvolutionStrategy(dimension * [start], SIGMA, options), 0
    while n <= LIMIT:
        points = search.ask()
        values = function(np.asarray(points))
        n += len(values)
        if values.min() < TARGET:
            break
        search.tell(points, values.tolist())
    return n


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "strategies.csv")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for function, dimension, start in ((sphere, 10, 1.0), (ellipsoid, 10, 1.0), (rosenbrock, 2, 0.0), (rosenbrock, 5, 0.0)):
        seeds = range(options.seeds)
        ours = median(evaluations(function, dimension, start, seed) for seed in seeds)
        active, passive = (
            median(evaluations_of_cma(function, dimension, start, seed, active) for seed in seeds) for active in (True, False)
        )
        counts = dict(sep_cma_es=ours, cma=active, cma_passive=passive)
        ratios = dict(ratio=round(ours / active, 2), ratio_passive=round(ours / passive, 2))
        rows.append(dict(function=function.__name__, dimension=dimension, seeds=len(seeds), **counts, **ratios))
        print(rows[-1], flush=True)
    write(rows, FIELDS, options.output)


TABLES: Tables = {
    "separable CMA-ES": lambda: columns(
        RESULTS / "strategies.csv",
        "function",
        "dimension",
        "seeds",
        "sep_cma_es",
        "cma",
        "cma_passive",
        "ratio",
        "ratio_passive",
    )
}


if __name__ == "__main__":
    main()
