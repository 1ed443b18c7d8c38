"""What each experiment consists of."""

from collections.abc import Callable, Sequence
from functools import partial

from experiments.jobs import Job

TABLE1 = (
    "HalfCheetah-v5",
    "Humanoid-v5",
    "Ant-v5",
    "Walker2d-v5",
    "Swimmer-v5",
    "Hopper-v5",
    "LunarLanderContinuous-v3",
    "Reacher-v5",
    "InvertedDoublePendulum-v5",
    "dm_control/humanoid-stand-v0",
    "dm_control/humanoid-walk-v0",
    "dm_control/humanoid-run-v0",
    "dm_control/cheetah-run-v0",
    "dm_control/cartpole-swingup-v0",
    "dm_control/acrobot-swingup-v0",
    "dm_control/quadruped-walk-v0",
    "dm_control/quadruped-run-v0",
    "dm_control/walker-walk-v0",
    "dm_control/walker-run-v0",
    "dm_control/fish-upright-v0",
    "dm_control/fish-swim-v0",
)
"""The tasks of ESAC's Table 1, in its order."""


def grid(
    experiment: str, tasks: dict[str, int], algorithms: Sequence[str], seeds: Sequence[int], n_evaluations: int = 10
) -> list[Job]:
    """
    Every algorithm on every task with every seed, seed by seed, so that a part of the experiment is a comparison already.

    :param experiment: Its name.
    :param tasks: Budgets in true steps by task.
    :param algorithms: Names of :data:`experiments.algorithms.ALGORITHMS`.
    :param seeds: Seeds.
    :param n_evaluations: Evaluations of each run.
    """
    return [
        Job(experiment, task, algorithm, seed, budget, n_evaluations)
        for seed in seeds
        for task, budget in tasks.items()
        for algorithm in algorithms
    ]


MATRICES: dict[str, Callable[[], list[Job]]] = {
    "smoke": partial(grid, "smoke", {"Pendulum-v1": 1000}, ["ESAC", "SAC", "ES", "ARS"], [0], 2),
    "benchmark": partial(
        grid,
        "benchmark",
        {
            "Pendulum-v1": 16_500,
            "InvertedDoublePendulum-v5": 60_000,
            "Reacher-v5": 100_000,
            "Swimmer-v5": 100_000,
            "LunarLanderContinuous-v3": 100_000,
            "Hopper-v5": 100_000,
            "HalfCheetah-v5": 100_000,
            "dm_control/cartpole-swingup-v0": 100_000,
        },
        ["ESAC", "SAC", "ES", "ARS"],
        [0, 1, 2],
    ),
    "pel": partial(
        grid,
        "pel",
        {"HalfCheetah-v5": 300_000, "Swimmer-v5": 300_000, "Hopper-v5": 300_000},
        ["ES", "ES, T_c", "ES, T_d", "canonical ES", "canonical ES, T_c", "canonical ES, T_d"],
        [0, 1, 2, 3, 4],
        4,
    ),
    "table1": partial(
        grid, "table1", dict.fromkeys(TABLE1, 1_000_000), ["ESAC, paper", "ESAC", "SAC", "ES"], list(range(10)), 20
    ),
}
"""By name."""
