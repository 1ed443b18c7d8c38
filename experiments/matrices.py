"""What each experiment consists of."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from experiments import suites
from experiments.algorithms import ABLATIONS, FAST_ABLATIONS
from experiments.jobs import Job
from experiments.suites import DENSE, FEW, LEVELS, REPORT, STUCK

SHORT_TASKS = {
    "Pendulum-v1": 20_000,
    "InvertedDoublePendulum-v5": 50_000,
    "Reacher-v5": 50_000,
    "Swimmer-v5": 100_000,
    "LunarLanderContinuous-v3": 100_000,
    "Hopper-v5": 100_000,
    "HalfCheetah-v5": 100_000,
    "dm_control/cartpole-swingup-v0": 100_000,
}
"""The tasks of the benchmark that fits two cores, with budgets in true steps."""


def grid(
    experiment: str,
    tasks: dict[str, int],
    algorithms: Sequence[str],
    seeds: Sequence[int],
    n_evaluations: int = 10,
    n_early: int = 0,
) -> list[Job]:
    """
    Every algorithm on every task with every seed, seed by seed, so that a part of the experiment is a comparison already.

    :param experiment: Its name.
    :param tasks: Budgets in true steps by task.
    :param algorithms: Names of :data:`experiments.algorithms.ALGORITHMS`.
    :param seeds: Seeds.
    :param n_evaluations: Evaluations of each run.
    :param n_early: Further ones at its beginning.
    """
    return [
        Job(experiment, task, algorithm, seed, budget, n_evaluations, n_early)
        for seed in seeds
        for task, budget in tasks.items()
        for algorithm in algorithms
    ]


def benchmark() -> list[Job]:
    """
    Everybody on all short tasks: three seeds, five of what takes less than five minutes. SAC with ESAC's arguments tells what
    those are worth without a population. It has one seed, three on HalfCheetah.
    """
    quick = ["ESAC, paper", "ES", "ARS"]
    everybody = ["ESAC", "SAC", "SAC, ESAC's updates", *quick]
    jobs = []
    for seed in (0, 1, 2):
        jobs += grid("benchmark", SHORT_TASKS, everybody, [seed], 20)
    for seed in (3, 4):
        for task, budget in SHORT_TASKS.items():
            jobs += grid("benchmark", {task: budget}, everybody if task == "Pendulum-v1" else quick, [seed], 20)
    alone = ["SAC, ESAC's arguments"]
    jobs += grid("benchmark", SHORT_TASKS, alone, [0], 20)
    jobs += grid("benchmark", {"HalfCheetah-v5": SHORT_TASKS["HalfCheetah-v5"]}, alone, [1, 2], 20)
    # Runs on the clock have seeds 1 to 3, and are compared with SAC's of the same seeds.
    jobs += grid(
        "benchmark", {task: budget for task, budget in SHORT_TASKS.items() if task != "Pendulum-v1"}, ["SAC"], [3], 20
    )
    return jobs


def ablations() -> list[Job]:
    """
    Where the agent leads: tasks whose episodes are short at first, so that there are many generations within a budget this
    small, and that are being learned when it ends. Three seeds, five on the quicker one.
    """
    everybody = [f"ESAC, {name}" for name in ABLATIONS]
    quick, slow = {"InvertedDoublePendulum-v5": 20_000}, {"Hopper-v5": 30_000}
    return [
        *grid("ablations", {**quick, **slow}, everybody, [0, 1, 2], 10),
        *grid("ablations", quick, everybody, [3, 4], 10),
    ]


def ablations_long() -> list[Job]:
    """
    The benchmark's budgets: with all that agent and population can exchange, and on the task on which agents go up and down
    most without other parts, too. How much of it ESAC has itself is told by the files' entries; its runs are the benchmark's.
    """
    changed = ["ESAC, without sharing", "ESAC, without champion", "ESAC, without exchange"]
    return [
        *grid("ablations_long", SHORT_TASKS, ["ESAC, with exchange"], [0, 1, 2], 20),
        *grid("ablations_long", {"Pendulum-v1": SHORT_TASKS["Pendulum-v1"]}, ["ESAC, with exchange"], [3, 4], 20),
        *grid("ablations_long", {"Hopper-v5": SHORT_TASKS["Hopper-v5"]}, changed, [0, 1, 2], 20),
    ]


CLOCK_TASKS = {
    "Pendulum-v1": 45_000,
    "InvertedDoublePendulum-v5": 14_000,
    "Reacher-v5": 80_000,
    "Swimmer-v5": 2_500_000,
    "Hopper-v5": 1_000_000,
    "HalfCheetah-v5": 2_300_000,
    "LunarLanderContinuous-v3": 200_000,
    "dm_control/cartpole-swingup-v0": 60_000,
}
"""Budgets of those who have the clock for a budget: what two workers play in half a minute to eight minutes."""


MATRICES: dict[str, Callable[[], list[Job]]] = {
    "smoke": partial(grid, "smoke", {"Pendulum-v1": 1000}, ["ESAC", "SAC", "ES", "ARS"], [0], 2),
    "benchmark": benchmark,
    # One run at a time, on an idle machine: these have processes of their own, and what counts is the clock. Entries of the
    # file were still changed when seed 0 had been seen.
    "clock": partial(grid, "clock", CLOCK_TASKS, ["ESAC, fast"], [1, 2, 3], 40, 4),
    "ablations": ablations,
    "ablations_long": ablations_long,
    # What Hopper's entry has of them, by other seeds than those that are reported.
    "exchange": partial(
        grid,
        "exchange",
        {"Hopper-v5": SHORT_TASKS["Hopper-v5"]},
        ["ESAC, with exchange", "ESAC, without sharing", "ESAC, without agent members", "ESAC, without exchange"],
        [10, 11, 12, 13],
        20,
    ),
    # Where the population leads, it has the time for all of its parts to act.
    "ablations_fast": partial(
        grid,
        "ablations_fast",
        {"InvertedDoublePendulum-v5": 300_000, "Hopper-v5": 500_000, "Swimmer-v5": 1_000_000},
        ["ESAC, fast, in sequence", *(f"ESAC, fast, {name}" for name in FAST_ABLATIONS)],
        [10, 11, 12],
        10,
    ),
    # Whether it makes a difference to learning who computes the updates. It decides a default, hence the seeds.
    "updates": partial(
        grid,
        "updates",
        {"InvertedDoublePendulum-v5": 20_000, "HalfCheetah-v5": 30_000, "Hopper-v5": 30_000},
        ["ESAC, updates by SB3", "ESAC, updates by hand"],
        list(range(10, 20)),
        10,
    ),
    # What the paper calls 1e6 steps: 1000 generations of 10 mirrored pairs.
    "paper_scale": partial(
        grid,
        "paper_scale",
        {"Swimmer-v5": 20_000_000, "dm_control/cheetah-run-v0": 20_000_000},
        ["ESAC, paper, n = 10"],
        [0],
        40,
    ),
    "pel": partial(
        grid,
        "pel",
        {"HalfCheetah-v5": 300_000, "Swimmer-v5": 300_000, "Hopper-v5": 300_000},
        ["OpenAI ES", "OpenAI ES, T_c", "OpenAI ES, T_d", "canonical ES", "canonical ES, T_c", "canonical ES, T_d"],
        [0, 1, 2, 3, 4],
        4,
    ),
}
"""By name."""


def dense() -> list[Job]:
    """ESAC and its agent alone; ten seeds where others have published what is to be reached."""
    jobs = grid("dense", DENSE, (suites.ESAC, suites.ALONE), REPORT)
    return [job for job in jobs if job.task in LEVELS or job.seed in FEW]


def stuck() -> list[Job]:
    """
    All rivals, those last that are played only where ESAC is ahead of its agent alone (``--tasks``). rl-zoo3's arguments for
    MountainCarContinuous are for a third of the steps, and one of SB3's updates with gSDE and batches of 512 costs three of
    the others'.
    """
    tasks = {task: budget for task, (budget, _) in STUCK.items()}
    first = (suites.ESAC, suites.ALONE, suites.ES)
    jobs = [*grid("stuck", tasks, first, FEW), *grid("stuck", tasks, suites.GRADIENTS, FEW)]
    zoos = {("MountainCarContinuous-v0", "SAC, fast"): 50_000}
    return [replace(job, total_timesteps=zoos.get((job.task, job.algorithm), job.total_timesteps)) for job in jobs]


def default_clock() -> list[Job]:
    """
    What the clock has and the suites have not: Pendulum, and more evaluations before the first one of a suite's run, for as
    many seeds as SAC has. Until a search begins, a run does not depend on its budget, so that a short one is the beginning of
    a long one.
    """
    budgets = {**DENSE, **{task: budget for task, (budget, _) in STUCK.items()}}
    firsts = {task: budgets[task] // 10 for task in SHORT_TASKS if task in budgets}
    pendulum = grid("default_clock", {"Pendulum-v1": SHORT_TASKS["Pendulum-v1"]}, [suites.ESAC], list(FEW), 20)
    return [*pendulum, *grid("default_clock", firsts, [suites.ESAC], range(4), 10)]


MATRICES |= {
    "dense": dense,
    "stuck": stuck,
    "default_clock": default_clock,
}

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

MATRICES["table1"] = partial(
    grid, "table1", dict.fromkeys(TABLE1, 1_000_000), ["ESAC, paper", "ESAC", "SAC", "ES"], list(range(10)), 20
)


def has_time(job: Job) -> bool:
    """Whether SAC is played: on the humanoids, which are slow, with one seed."""
    return job.seed == 0 or "umanoid" not in job.task


def tasks21() -> list[Job]:
    """
    The default on all of them, beside SAC with rl-zoo3's arguments: three seeds and two, one of SAC's on the humanoids. What
    "dense", and "benchmark" with SB3's updates, play with the same seeds and budgets is not played again.
    """
    budgets = dict.fromkeys(TABLE1, 100_000)
    ours = grid("tasks21", {task: budget for task, budget in budgets.items() if task not in DENSE}, [suites.ESAC], range(3))
    new = {task: budget for task, budget in budgets.items() if SHORT_TASKS.get(task) != budget}
    theirs = grid("tasks21", new, ["SAC, fast"], range(2))
    return [*ours, *filter(has_time, theirs)]


MATRICES["tasks21"] = tasks21


def tasks21_million() -> list[Job]:
    """The same at a million steps, all of it. ``python -m experiments.cost tasks21_million`` says what it costs."""
    budgets = dict.fromkeys(TABLE1, 1_000_000)
    theirs = grid("tasks21_million", budgets, ["SAC, fast"], range(2), 20)
    return [*grid("tasks21_million", budgets, [suites.ESAC], range(3), 20), *filter(has_time, theirs)]


MATRICES["tasks21_million"] = tasks21_million
