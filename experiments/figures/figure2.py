"""
Figure 2 of ESAC: evolution strategies (ES) on the cyclic MDP.

Left: return of the deterministic policy over training episodes, for ES with 50 members, PPO, and DDPG through a
3-dimensional ``Box`` whose argmax is the action; 3 runs. Every member's episode is counted. Centre: seconds per episode of an
ES all of whose members play 2000 steps, against the number of worker processes and of members: measured up to the cores that
the machine has, and predicted beyond by ``benchmarks/scaling.py`` from what was measured with one worker. Right: ES with
different mutation rates sigma. Small: 3 generations of the ES, 10,240 steps of PPO, 3000 of DDPG; 3 generations per sigma;
paper: 1000 episodes, 100 generations.

A machine that was doing something else meanwhile is told in the data by its load average; without
``experiments/results/figure2_centre.csv``, ``--run`` measures again.
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DDPG, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import NormalActionNoise

from benchmarks import scaling
from benchmarks.tasks import Setting
from experiments.drawing import COLORS, MARKERS, finish, new_figure
from experiments.figures.study import Outcome, Rows, Study, command
from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.parameters import load_vector, make_player, to_vector
from sb3_esac.evaluation.rollout import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK, CONTINUOUS = "CyclicMDP-v0", "CyclicMDPContinuous-v0"
SOLVED = 2000.0
MEMBERS = 50
WORKERS = [1, 2, 4, 8, 16, 32, 64]
BANDWIDTH, MACHINE_CORES = 1.25e9, 64
"""Of the machines that are predicted for, as in ``benchmarks/scaling.py``."""

CLAIM_EPISODES = 100
CHECKPOINTS = np.unique(np.geomspace(1, 10_000, 60).astype(int))
"""Training episodes after which the deterministic policy is played."""


# -- left: learning --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Learning:
    """
    One run.

    :param algorithm: "ES", "PPO" or "DDPG".
    :param seed: Seed of the run.
    :param episodes: Training ends after so many,
    :param steps: or after so many steps.
    """

    algorithm: str
    seed: int
    episodes: int
    steps: int


def make(algorithm: str, seed: int) -> Any:
    """
    Make a model with the defaults of its library.

    :param algorithm: Its name.
    :param seed: Seed of the run.
    """
    if algorithm == "ES":
        return ES("MlpPolicy", gym.make(TASK), population_size=MEMBERS, seed=seed)
    if algorithm == "PPO":
        return PPO("MlpPolicy", gym.make(TASK), seed=seed, device="cpu")
    noise = NormalActionNoise(np.zeros(3), 0.1 * np.ones(3))
    return DDPG("MlpPolicy", gym.make(CONTINUOUS), action_noise=noise, seed=seed, device="cpu")


def play_once(model: Any, continuous: bool) -> float:
    """
    Play an episode with the deterministic policy: nothing in this MDP is random.

    :param model: What is played.
    :param continuous: Whether actions are vectors.
    :return: Undiscounted return.
    """
    env = gym.make(CONTINUOUS if continuous else TASK)
    observation, _ = env.reset()
    # There are three observations, and the policy is a function of them
    actions: dict[bytes, Any] = {}
    total, ended = 0.0, False
    while not ended:
        key = observation.tobytes()
        if key not in actions:
            actions[key] = model.predict(observation, deterministic=True)[0]
        observation, reward, terminated, truncated, _ = env.step(actions[key])
        total += float(reward)
        ended = terminated or truncated
    return total


class Episodes(BaseCallback):
    """
    Counts training episodes, and plays the deterministic policy now and then.

    :param job: The run.
    """

    def __init__(self, job: Learning) -> None:
        super().__init__()
        self.job, self.rows, self.episodes, self.next = job, list[dict[str, Any]](), 0, 0
        self.lengths: list[int] = []

    def _on_step(self) -> bool:
        dones = self.locals["dones"]
        self.episodes += int(np.sum(dones))
        if np.any(dones) and self.episodes >= CHECKPOINTS[self.next]:
            self.take_down()
            self.next = int(np.searchsorted(CHECKPOINTS, self.episodes, side="right"))
        return self.episodes < self.job.episodes

    def take_down(self) -> None:
        """Write down where training is."""
        generation = self.model.population.generation if isinstance(self.model, ES) else ""
        result = play_once(self.model, self.job.algorithm == "DDPG")
        row = {"episode": self.episodes, "generation": generation, "step": self.num_timesteps, "return": result}
        self.rows.append(row)


def learn(job: Learning) -> Rows:
    """
    Train once.

    :param job: The run.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    episodes = Episodes(job)
    make(job.algorithm, job.seed).learn(job.steps, callback=episodes)
    episodes.take_down()
    return episodes.rows


def learning_jobs(paper: bool) -> list[Learning]:
    """
    List the runs.

    :param paper: Whether in the paper's size. An ES whose members all play 2000 steps takes more of them, and they are cheap.
    """
    budgets = {"ES": (1000, 2_000_000), "PPO": (1000, 2_000_000), "DDPG": (1000, 2_000_000)}
    small = {"ES": (150, 300_000), "PPO": (500, 10_240), "DDPG": (500, 3_000)}
    chosen = budgets if paper else small
    return [Learning(name, seed, *chosen[name]) for seed in range(3) for name in chosen]


# -- centre: time ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Timing:
    """
    Members and workers of which a generation is timed.

    :param members: Number of members.
    :param workers: Number of worker processes.
    :param measured: Whether it is measured, or predicted.
    """

    members: int
    workers: int
    measured: bool


@dataclass(frozen=True)
class WholeEpisodes(Setting):
    """An ES on the cyclic MDP whose members make no mistake, so that each plays 2000 steps."""

    @cached_property
    def request(self) -> EvaluationRequest:
        """A generation around a mean that moves clockwise whatever it sees."""
        model = ES("MlpPolicy", gym.make(TASK), seed=0, normalize_observations=False)
        actor = model.actor
        with th.no_grad():
            last = [layer for layer in actor.modules() if isinstance(layer, th.nn.Linear)][-1]
            last.weight.zero_()
            last.bias.copy_(th.tensor([10.0, 0.0, 0.0]))
        center = to_vector(actor)
        noise = np.random.default_rng(0).standard_normal((self.n_members, len(center)), dtype=np.float32)
        seeds = np.arange(self.n_members).reshape(-1, 1)
        return EvaluationRequest(center + 0.02 * noise, seeds, make_player(actor))

    @cached_property
    def sharing(self) -> EvaluationRequest:
        """The same generation with its transitions wanted."""
        return replace(self.request, recording=Recording(transitions=True))


def time_generation(job: Timing) -> Rows:
    """
    Measure the seconds of a generation, or predict them for all numbers of workers.

    :param job: Members and workers.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    setting = WholeEpisodes(TASK, "2 x 64", job.workers, job.members)
    if job.measured:
        seconds = {job.workers: scaling.measure_generation(setting, False, "subproc", 3)}
    else:
        parts = scaling.measure_parts(setting, False, "subproc", 1)
        seconds = {n: scaling.predict(parts, job.members, n, BANDWIDTH, MACHINE_CORES)["seconds"] for n in WORKERS}
    return [
        {
            "workers": workers,
            "seconds_per_generation": round(value, 5),
            "seconds_per_episode": round(value / job.members, 7),
            "load_average": round(os.getloadavg()[0], 1),
            "cores": os.cpu_count(),
        }
        for workers, value in seconds.items()
    ]


def timing_jobs(paper: bool) -> list[Timing]:
    """
    List what is measured, and what is predicted (from one worker, for all numbers of them).

    :param paper: Whether with the paper's sizes of the population.
    """
    cores = os.cpu_count() or 1
    populations = [10, 25, 50, 100] if paper else [10, 50]
    jobs = [Timing(members, workers, True) for members in populations for workers in WORKERS if workers <= cores]
    return [*jobs, Timing(MEMBERS, 1, False)]


# -- right: sensitivity ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutation:
    """
    One run.

    :param sigma: Mutation rate.
    :param members: Size of the population.
    :param seed: Seed of the run.
    :param generations: How many.
    """

    sigma: float
    members: int
    seed: int
    generations: int


class Generations(BaseCallback):
    """
    Stops after some generations.

    :param number: How many.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def _on_step(self) -> bool:
        return self.model.population.generation < self.number


def mutate(job: Mutation) -> Rows:
    """
    Train once and see what the mean and its perturbed members return.

    :param job: The run.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    # The step of the mean is as it is by default, whatever sigma is: sigma alone is varied
    model = ES("MlpPolicy", gym.make(TASK), population_size=job.members, sigma=job.sigma, seed=job.seed, deploy="population")
    first = play_once(model, False)
    model.learn(10**9, callback=Generations(job.generations))
    steps = model.num_timesteps
    mean = play_once(model, False)
    generator, center = np.random.default_rng(job.seed), to_vector(model.policy)
    members = []
    for _ in range(20):
        load_vector(model.policy, center + job.sigma * generator.standard_normal(len(center), dtype=np.float32))
        members.append(play_once(model, False))
    return [{"steps": steps, "first": first, "mean": mean, "members": round(float(np.mean(members)), 1)}]


def mutation_jobs(paper: bool) -> list[Mutation]:
    """
    List the runs.

    :param paper: Whether in the paper's size.
    """
    populations, seeds, generations = ([10, 50, 100], 10, 100) if paper else ([50], 3, 3)
    sigmas = [0.001, 0.01, 0.03, 0.1, 0.3, 1.0]
    return [Mutation(s, members, seed, generations) for seed in range(seeds) for members in populations for s in sigmas]


STUDIES = [
    Study("figure2_left", learning_jobs, learn),
    Study("figure2_centre", timing_jobs, time_generation),
    Study("figure2_right", mutation_jobs, mutate),
]


# -- claims ----------------------------------------------------------------------------------------------------------------


def solved_after(rows: Rows, algorithm: str) -> list[float]:
    """
    Find after how many training episodes each run's policy solves the task.

    :param rows: Rows of the left part.
    :param algorithm: Its name.
    :return: For each seed; infinite where it never does.
    """
    found = {row["seed"]: float("inf") for row in rows if row["algorithm"] == algorithm}
    for row in rows:
        if row["algorithm"] == algorithm and float(row["return"]) >= SOLVED:
            found[row["seed"]] = min(found[row["seed"]], float(row["episode"]))
    return list(found.values())


def check_learning(rows: Rows) -> list[Outcome]:
    """
    Compare the left part with the paper.

    :param rows: Its rows.
    """
    after = {name: solved_after(rows, name) for name in ("ES", "DDPG", "PPO")}
    if not all(after.values()):
        return []
    seen = "; ".join(f"{name} after {', '.join(f'{n:g}' for n in numbers)} episodes" for name, numbers in after.items())
    first = max(after["ES"]) <= CLAIM_EPISODES
    later = np.isfinite(after["DDPG"]).all() and np.median(after["DDPG"]) > np.median(after["ES"])
    last = {row["seed"]: float(row["return"]) for row in rows if row["algorithm"] == "PPO"}
    never = bool(np.isinf(after["PPO"]).any())
    note = f"solved: {seen} (inf: not within the run)"
    stopped = f"{note}; PPO's deterministic policy ends at {', '.join(f'{value:g}' for value in last.values())}"
    return [
        Outcome(f"ES solves the task within the first {CLAIM_EPISODES} episodes", bool(first), note),
        Outcome("DDPG solves it as well, later than ES", bool(later), note),
        Outcome("PPO does not converge towards solving it", never, stopped),
    ]


def check_timing(rows: Rows) -> list[Outcome]:
    """
    Compare the centre with the paper.

    :param rows: Its rows.
    """
    seconds = {(row["measured"], int(row["members"]), int(row["workers"])): float(row["seconds_per_episode"]) for row in rows}
    one, two = seconds.get(("True", MEMBERS, 1)), seconds.get(("True", MEMBERS, 2))
    if one is None or two is None:
        return []
    last = max(workers for measured, members, workers in seconds if members == MEMBERS)
    loads = sorted({float(row["load_average"]) for row in rows})
    note = f"{MEMBERS} members: {one:.4f} s per episode with one worker, {two:.4f} with two (measured)"
    if ("False", MEMBERS, last) in seconds:
        note += f", {seconds['False', MEMBERS, last]:.4f} with {last} (predicted)"
    note += f"; load average {loads[0]:g} to {loads[-1]:g} on {rows[0]['cores']} cores"
    return [Outcome("more CPUs reduce the seconds per episode", two < 0.9 * one, note)]


def check_mutation(rows: Rows) -> list[Outcome]:
    """
    Compare the right part with the paper.

    :param rows: Its rows.
    """
    if not rows:
        return []
    sigmas = sorted({float(row["sigma"]) for row in rows})
    means = [float(np.mean([float(row["mean"]) for row in rows if float(row["sigma"]) == sigma])) for sigma in sigmas]
    numbers = ", ".join(f"{sigma:g}: {value:.0f}" for sigma, value in zip(sigmas, means, strict=True))
    sensitive = max(means) - min(means) > 0.5 * SOLVED
    return [
        Outcome("ES is sensitive to sigma", sensitive, f"return of the mean by sigma, over seeds and populations: {numbers}")
    ]


def check(data: dict[str, Rows]) -> list[Outcome]:
    """
    Compare with the paper.

    :param data: Rows by study.
    """
    left, centre, right = (data[study.name] for study in STUDIES)
    return check_learning(left) + check_timing(centre) + check_mutation(right)


# -- picture ---------------------------------------------------------------------------------------------------------------


def draw_learning(panel: Any, rows: Rows) -> None:
    """
    Draw each run, thin, and the median over runs.

    :param panel: Where to.
    :param rows: Rows of the left part.
    """
    for number, algorithm in enumerate(("ES", "DDPG", "PPO")):
        here = [row for row in rows if row["algorithm"] == algorithm]
        series = []
        for seed in dict.fromkeys(row["seed"] for row in here):
            run = [(float(row["episode"]), float(row["return"])) for row in here if row["seed"] == seed]
            series.append(run)
            panel.step(*zip(*run, strict=True), where="post", color=COLORS[number], linewidth=0.8, alpha=0.5)
        if series:
            end = min(run[-1][0] for run in series)
            points = np.unique([episode for run in series for episode, _ in run if episode <= end])
            heights = [[[y for x, y in run if x <= point or x == run[0][0]][-1] for point in points] for run in series]
            panel.step(points, np.median(heights, axis=0), where="post", color=COLORS[number], linewidth=2.0, label=algorithm)
    panel.set_xscale("log")
    panel.axhline(SOLVED, color="black", linestyle=":", linewidth=1.0)
    finish(panel, "training episodes (every member's)", "return, deterministic policy", "cyclic MDP, 3 runs and their median")
    panel.legend(frameon=False)


def draw_timing(panel: Any, rows: Rows) -> None:
    """
    Draw seconds per episode, measured and predicted.

    :param panel: Where to.
    :param rows: Rows of the centre.
    """
    for number, members in enumerate(sorted({int(row["members"]) for row in rows})):
        for measured, style in (("True", "-"), ("False", ":")):
            here = [row for row in rows if int(row["members"]) == members and row["measured"] == measured]
            if here:
                x, y = zip(*((int(row["workers"]), float(row["seconds_per_episode"])) for row in here), strict=True)
                label = f"{members} members, {'measured' if measured == 'True' else 'PREDICTED from one worker'}"
                panel.plot(x, y, style, color=COLORS[number], marker=MARKERS[number], label=label)
                panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    finish(panel, "worker processes", "seconds per episode", "2000 steps in every episode")
    if rows:
        panel.legend(frameon=False, fontsize="small")


def draw_mutation(panel: Any, rows: Rows) -> None:
    """
    Draw the mean's return and that of its perturbed members against sigma.

    :param panel: Where to.
    :param rows: Rows of the right part.
    """
    for number, members in enumerate(sorted({int(row["members"]) for row in rows})):
        sigmas = sorted({float(row["sigma"]) for row in rows if int(row["members"]) == members})
        for column, style in (("mean", "-"), ("members", "--")):
            values = [
                [float(row[column]) for row in rows if int(row["members"]) == members and float(row["sigma"]) == sigma]
                for sigma in sigmas
            ]
            heights = np.array([np.mean(each) for each in values])
            spread = np.array([(np.mean(each) - min(each), max(each) - np.mean(each)) for each in values]).T
            label = f"n = {members}, {'the mean' if column == 'mean' else 'its perturbed members'}"
            color, marker = COLORS[number], MARKERS[number]
            panel.errorbar(sigmas, heights, spread, linestyle=style, color=color, marker=marker, capsize=3, label=label)
    if rows:
        panel.set_xscale("log")
        panel.legend(frameon=False, fontsize="small")
    finish(panel, "sigma", "return", "ES after its last generation, range of seeds")


def draw(data: dict[str, Rows]) -> "Figure":
    """
    Draw the three parts.

    :param data: Rows by study.
    """
    figure = new_figure(14.0, 4.0)
    panels = figure.subplots(1, 3)
    for panel, function, study in zip(panels, (draw_learning, draw_timing, draw_mutation), STUDIES, strict=True):
        function(panel, data[study.name])
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Do what the command line asks for.

    :param arguments: Its words.
    """
    return command(__doc__, "figure2", STUDIES, check, draw, arguments)


if __name__ == "__main__":
    main()
