"""One training run of an experiment, and what is written down of it."""

import multiprocessing
import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor

from experiments.algorithms import ALGORITHMS
from sb3_esac.algorithm import PopulationAlgorithm
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import to_vector

N_EPISODES = 10
"""Episodes of an evaluation."""

REPORT_SECONDS = 60.0
"""Seconds between two lines that say how far a run is."""

SEED_OFFSET = 1_000_000
"""What is added to a run's seed for the episodes that it is evaluated on."""


@dataclass(frozen=True)
class Job:
    """
    One training run.

    :param experiment: Name of the experiment, and of the file of its results.
    :param task: Environment.
    :param algorithm: A name in :data:`experiments.algorithms.ALGORITHMS`.
    :param seed: Seed of the run.
    :param total_timesteps: Budget in true steps.
    :param n_evaluations: How often it is evaluated, evenly over the budget; the last one comes after the end.
    :param n_early: Evaluations before the first of these: at a half, a quarter, ... of its steps.
    :param device: Of the networks that learn.
    """

    experiment: str
    task: str
    algorithm: str
    seed: int
    total_timesteps: int
    n_evaluations: int = 10
    n_early: int = 0
    device: str = "cpu"

    @property
    def positions(self) -> list[float]:
        """Steps at which the run is evaluated, but for the evaluation after its end."""
        every = self.total_timesteps / self.n_evaluations
        early = [every / 2**power for power in range(self.n_early, 0, -1)]
        return early + [every * number for number in range(1, self.n_evaluations)]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells a run from the others of its experiment."""
        return self.task, self.algorithm, self.seed, self.total_timesteps


@dataclass(frozen=True)
class Row:
    """
    One evaluation. Returns are means over :data:`N_EPISODES` deterministic episodes of an environment of its own.

    :param task: Environment.
    :param algorithm: Name of the algorithm.
    :param seed: Seed of the run.
    :param budget: Budget of the run in true steps.
    :param total_steps: True steps so far.
    :param agent_steps: Those of the gradient agent.
    :param population_steps: Those of the population.
    :param updates: Gradient updates.
    :param cpu_seconds: CPU time of training, evaluations left out; that of worker processes does not count.
    :param wall_seconds: Time on the clock, likewise.
    :param deployed: Return of what ``predict`` plays.
    :param agent: Return of the agent's mean policy, if there is an agent.
    :param mean: Return of the population's mean, if there is a population that has played.
    :param is_last: Whether training has ended.
    :param versions: Packages and commit.
    :param paper_timesteps: Steps as ESAC's authors count them, one mean episode for each generation; 0 without a population.
    """

    task: str
    algorithm: str
    seed: int
    budget: int
    total_steps: int
    agent_steps: int
    population_steps: int
    updates: int
    cpu_seconds: float
    wall_seconds: float
    deployed: float
    agent: float | str
    mean: float | str
    is_last: bool
    versions: str
    paper_timesteps: int = 0


def commit() -> str:
    """The commit of the checkout, "unknown" without one."""
    head = Path(__file__).resolve().parent.parent / ".git"
    try:
        text = (head / "HEAD").read_text().strip()
        if not text.startswith("ref: "):
            return text[:10]
        reference = head / text[5:]
        if reference.exists():
            return reference.read_text().strip()[:10]
        packed = (head / "packed-refs").read_text().splitlines()
        return next(line[:10] for line in packed if line.endswith(text[5:]))
    except (OSError, StopIteration):
        return "unknown"


def versions() -> str:
    """Versions of what the numbers depend on."""
    names = ("sb3_esac", "stable_baselines3", "torch", "gymnasium", "mujoco")
    return " ".join([*(f"{name}={version(name)}" for name in names), f"commit={commit()}"])


def make_env(task: str) -> gym.Env:
    """
    Make an environment to be evaluated on.

    :param task: Its name.
    """
    if task.startswith("dm_control/"):
        import shimmy  # noqa: F401

        from sb3_esac.envs.dm_control import FlatObservation

        return FlatObservation(Monitor(gym.make(task)))
    return Monitor(gym.make(task))


def mean_return(policy: Any, env: gym.Env, seed: int, normalize: Any = None) -> float:
    """
    Play deterministic episodes.

    :param policy: An actor, or whatever has SB3's ``predict``.
    :param env: Where to.
    :param seed: Seed of the first episode.
    :param normalize: Applied to observations before they are shown, None for nothing.
    :return: Mean undiscounted return.
    """
    try:
        act = make_player(policy).bind(to_vector(policy))
    except (AttributeError, TypeError, ValueError, AssertionError):

        def act(observation: Any) -> Any:
            return policy.predict(observation, deterministic=True)[0]

    returns = []
    for episode in range(N_EPISODES):
        observation, _ = env.reset(seed=seed + episode)
        total, ended = 0.0, False
        while not ended:
            shown = observation if normalize is None else normalize(observation)
            observation, reward, terminated, truncated, _ = env.step(act(shown))
            total += float(reward)
            ended = terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


@contextmanager
def workers_paused() -> Iterator[None]:
    """Let no worker process go on meanwhile: what they play while the clock stands still would cost nothing."""
    workers = [child.pid for child in multiprocessing.active_children() if child.pid is not None]
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    try:
        yield
    finally:
        for worker in workers:
            os.kill(worker, signal.SIGCONT)


class Evaluations(BaseCallback):
    """
    Evaluates by the number of true steps, off the clock, and says how far a long run is.

    :param job: The run.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job, self.rows = job, list[Row]()
        self.env = make_env(job.task)
        self.positions = job.positions
        self.away = [0.0, 0.0]
        self.last_report = time.monotonic()
        self.versions = versions() if job.device == "cpu" else f"{versions()} device={job.device}"

    def _on_training_start(self) -> None:
        self.begun = (time.process_time(), time.perf_counter())

    def _on_step(self) -> bool:
        if len(self.rows) < len(self.positions) and self.num_timesteps >= self.positions[len(self.rows)]:
            self.evaluate(is_last=False)
        return True

    def evaluate(self, is_last: bool) -> None:
        """
        Evaluate the model as it is now.

        :param is_last: Whether training has ended.
        """
        start = (time.process_time(), time.perf_counter())
        cpu, wall = (now - begun - away for now, begun, away in zip(start, self.begun, self.away, strict=True))
        with workers_paused():
            self.rows.append(self._measure(cpu, wall, is_last))
        if not is_last and time.monotonic() - self.last_report >= REPORT_SECONDS:
            self.last_report = time.monotonic()
            self._report(self.rows[-1])
        self.away[0] += time.process_time() - start[0]
        self.away[1] += time.perf_counter() - start[1]

    def _report(self, row: Row) -> None:
        """Print a line on a run that goes on."""
        share = row.total_steps / row.budget
        left = max(0.0, row.wall_seconds / share * (1.0 - share)) / 60
        run = f"{row.task}, {row.algorithm}, seed {row.seed}"
        print(f"    {run}: {row.deployed:g} after {share:.0%} of {row.budget:,} steps, about {left:.0f} min left", flush=True)

    def _measure(self, cpu: float, wall: float, is_last: bool) -> Row:
        """Play the episodes of an evaluation."""
        model: Any = self.model
        seed = SEED_OFFSET + 1000 * self.job.seed
        vec_normalize = model.get_vec_normalize_env()
        normalize = None if vec_normalize is None else vec_normalize.normalize_obs
        has_population = isinstance(model, PopulationAlgorithm)
        learner = getattr(model.policy, "actor", None)
        agent: float | str = ""
        mean: float | str = ""
        if has_population and model.population_timesteps:
            mean = mean_return(model._policy_of_mean(), self.env, seed, normalize)
        if learner is not None:
            agent = mean_return(learner, self.env, seed, normalize)
        played = model.deployed_policy if has_population else model.policy
        if learner is not None and played is model.policy:
            deployed = float(agent)
        elif isinstance(mean, float) and played is model._policy_of_mean():
            deployed = mean
        else:
            deployed = mean_return(getattr(played, "actor", played), self.env, seed, normalize)
        population_steps = getattr(model, "population_timesteps", 0)
        row = Row(
            task=self.job.task,
            algorithm=self.job.algorithm,
            seed=self.job.seed,
            budget=self.job.total_timesteps,
            total_steps=model.num_timesteps,
            agent_steps=model.num_timesteps - population_steps,
            population_steps=population_steps,
            updates=getattr(model, "_n_updates", 0) if learner is not None else 0,
            cpu_seconds=round(cpu, 1),
            wall_seconds=round(wall, 1),
            deployed=deployed,
            agent=agent,
            mean=mean,
            is_last=is_last,
            versions=self.versions,
            paper_timesteps=int(getattr(model, "paper_timesteps", 0)),
        )
        rounded: dict[str, Any] = {name: round(value, 2) for name, value in asdict(row).items() if isinstance(value, float)}
        return replace(row, **rounded)


def play(job: Job) -> list[dict[str, Any]]:
    """
    Train once and evaluate on the way.

    :param job: The run.
    :return: Its rows.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    model = ALGORITHMS[job.algorithm](job.task, job.seed, job.total_timesteps, device=job.device)
    evaluations = Evaluations(job)
    model.learn(job.total_timesteps, callback=evaluations)
    evaluations.evaluate(is_last=True)
    return [asdict(row) for row in evaluations.rows]
