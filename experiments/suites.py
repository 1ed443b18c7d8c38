"""
Whether the population pays: tasks, budgets, thresholds, rivals and seeds, declared before anything was tuned on them.

Seeds 0 to 9 are for the report and played once (``python -m experiments.run dense``, ``stuck``); 10 and above are for every
decision. ``python -m experiments.population`` makes the tables.

Two cores play four hours a day of this. So the suites were cut before a run of them was played: five seeds except on the four
tasks with published levels, 200,000 and 300,000 steps instead of 300,000 and 500,000, and a further gradient agent is played
only where ESAC solves more seeds than its agent alone: elsewhere the population has not paid whatever else is true.
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

LEVELS = {"HalfCheetah-v5": 8100.0, "Hopper-v5": 2750.0, "Walker2d-v5": 3900.0, "Ant-v5": 2300.0}
"""Interquartile means to be reached at their end: what others have published. These tasks have ten seeds, others five."""

STUCK = {
    "MountainCarContinuous-v0": (150_000, 90.0),
    "Swimmer-v5": (300_000, 300.0),
    "LunarLanderContinuous-v3": (200_000, 200.0),
    "dm_control/cartpole-swingup_sparse-v0": (200_000, 500.0),
    "dm_control/pendulum-swingup-v0": (200_000, 700.0),
    "dm_control/hopper-hop-v0": (200_000, 50.0),
    "dm_control/finger-turn_hard-v0": (200_000, 500.0),
    "HalfCheetahRewardAtEnd-v5": (300_000, 1000.0),
}
"""Budgets of tasks on which they do not, and the return that ``predict`` has to have at the end, the mean of ten episodes."""

ESAC = "ESAC, by default"
ALONE = "the agent alone"
ES = "ES, by default"
RIVALS = (ESAC, ALONE, "the agent alone, gSDE", "the agent alone, OU noise", "SAC, fast", ES)
"""In the order of the tables: ours, three gradient agents with ESAC's arguments, rl-zoo3's SAC, and no gradients at all."""

GRADIENTS = RIVALS[2:5]
"""What is played only where ESAC is ahead of its agent alone."""

REPORT, FEW = range(10), range(5)
"""Seeds."""
