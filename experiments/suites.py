"""
Whether the population pays: tasks, budgets, thresholds, rivals and seeds, declared before anything was tuned on them.

Seeds 0 to 9 are for the report and played once (``python -m experiments.run dense``, ``stuck``); 10 to 19 are for every
decision (``dense_decide``, ``stuck_decide``). ``python -m experiments.population`` makes the tables.
"""

DENSE = {
    "HalfCheetah-v5": 100_000,
    "Hopper-v5": 100_000,
    "Walker2d-v5": 100_000,
    "Ant-v5": 100_000,
    "InvertedDoublePendulum-v5": 100_000,
    "Reacher-v5": 100_000,
    "dm_control/cartpole-swingup-v0": 100_000,
    "dm_control/walker-walk-v0": 100_000,
}
"""Budgets in true steps of tasks on which gradients get along."""

STUCK = {
    "MountainCarContinuous-v0": (150_000, 90.0),
    "Swimmer-v5": (500_000, 300.0),
    "LunarLanderContinuous-v3": (200_000, 200.0),
    "dm_control/cartpole-swingup_sparse-v0": (300_000, 500.0),
    "dm_control/pendulum-swingup-v0": (200_000, 700.0),
    "dm_control/hopper-hop-v0": (300_000, 50.0),
    "dm_control/finger-turn_hard-v0": (300_000, 500.0),
    "HalfCheetahRewardAtEnd-v5": (500_000, 1000.0),
}
"""Budgets of tasks on which they do not, and the return that ``predict`` has to have at the end, the mean of ten episodes."""

ESAC = "ESAC, by default"
ALONE = "the agent alone"
RIVALS = (ESAC, ALONE, "the agent alone, gSDE", "the agent alone, OU noise", "SAC, fast", "ES, by default")
"""In the order of the tables: ours, three gradient agents with ESAC's arguments, rl-zoo3's SAC, and no gradients at all."""

REPORT, DECIDE = range(10), range(10, 20)
"""Seeds."""
