"""
Canonical ES on Atari games, with progressive episode lengths (PEL) and without: what a run is, and what comes before the
comparison of ``python -m experiments.figures.atari``.

``python -m experiments.games rates --run`` plays each of the nine games at random and measures how many steps of training a
core makes in a second. ``python -m experiments.games search --run`` trains on a game that is not compared, with seeds that are
not reported, to choose population size and mutation rate for everybody; its winner is to be written into this file. What is in
the files of results is not run again.

A run is trained by the entry of ``hyperparams/es.yml`` for games, in one process. The mean of the population is what is
deployed: a champion would be chosen by whole games, so that a policy of short episodes would owe something to long ones.
"""

import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, ClassVar

# Before numpy is there: products of matrices are too small for two threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402
import torch as th  # noqa: E402
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.vec_env import VecEnv, VecTransposeImage  # noqa: E402

from experiments.algorithms import GAME, from_file  # noqa: E402
from experiments.figures.study import RESULTS, Rows, Study, complain, make_parser, run  # noqa: E402
from experiments.jobs import SEED_OFFSET, versions  # noqa: E402
from experiments.tables import Tables, markdown, read_csv  # noqa: E402
from sb3_esac.envs.atari import GAMES, MAX_EPISODE_STEPS, make_atari_vec_env  # noqa: E402
from sb3_esac.evaluation.players import make_player  # noqa: E402
from sb3_esac.evaluation.vectors import to_vector  # noqa: E402
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength  # noqa: E402

BUDGETS = {"Pong": 150_000, "Breakout": 150_000, "SpaceInvaders": 150_000, "Enduro": 400_000}
"""
Games of the comparison, and steps of the policy in each run; the paper plays for ten hours on many cores. A million was meant,
and cut for what two cores play in two hours. A game of Enduro lasts 3,320 steps: fewer would not be a generation of canonical
ES until the first score.
"""

COMPARED, BUDGET = tuple(BUDGETS), 150_000
"""Their names, and the budget of the paper's other games."""

ARMS: dict[str, ProgressiveEpisodeLength | None] = {
    "canonical ES": None,
    "T_c": ProgressiveEpisodeLength("constant", n_random_episodes=3, phase_steps=1 / 10),
    "T_d": ProgressiveEpisodeLength("doubling", n_random_episodes=3, phase_steps=1 / 30),
}
"""
Episode lengths by name: the paper's hour, and its 20 minutes that double, of ten hours. E(0) is half of what random play
lasts, which three games tell well enough: each of them costs as much as a member that plays whole games.
"""

SEEDS = (0, 1, 2)

FIFTH, END = "a fifth", "the end"
SHARES = {FIFTH: 0.2, END: 1.0}
"""When a run is scored, by the share of its budget: the paper's two and ten hours."""

N_EARLY = 1
"""
First phases of T_c after which it is scored as well: a policy that has seen nothing but the shortest episodes. The second one
ends with the fifth.
"""

N_GAMES = 30
"""Whole games of a score."""

COURSE = tuple(int(step) for step in np.geomspace(50, MAX_EPISODE_STEPS, 28))
"""Steps of a game after which the score so far is written down."""

SEARCHED, SEARCH_SEEDS, SEARCH_BUDGET = "BankHeist", (10, 11), 100_000
SIGMAS, SIZES = (0.01, 0.02, 0.05), (10, 20)
"""Larger generations would be too few: one of 40 whole games takes a tenth to a half of a run's budget."""

SEARCH_LENGTH, SEARCH_GAMES = 1000, 10
"""
Longest episode of the search, in training and in scores, and games of a score. Random play lasts some 600 steps; a policy that
stands still would wait for all of the 25,000, so that not one generation could end within the budget.
"""

POPULATION_SIZE, SIGMA = 20, 0.01
"""Of all runs that are compared: the search's best, as the tests check. Two seeds do not tell it from the next one."""

RATE_STEPS, RATE_LENGTH = 10_000, 500
"""Steps of training whose seconds are measured, and the longest episode among them."""


@dataclass(frozen=True)
class Training:
    """
    One run.

    :param game: Its name.
    :param arm: A name in :data:`ARMS`.
    :param seed: Seed of the run.
    :param budget: Steps of the policy, those of random play among them.
    :param population_size: Members of a generation.
    :param sigma: Mutation rate.
    """

    game: str
    arm: str
    seed: int
    budget: int
    population_size: int
    sigma: float

    shares: ClassVar[dict[str, float]] = SHARES
    """When it is scored, by the share of its budget."""

    n_games: ClassVar[int] = N_GAMES
    """Games of a score."""

    max_steps: ClassVar[int] = MAX_EPISODE_STEPS
    """Of each of them."""

    @property
    def lengths(self) -> ProgressiveEpisodeLength | None:
        """Episode lengths."""
        return ARMS[self.arm]

    @property
    def task(self) -> str:
        """The game, as other experiments call it."""
        return self.game

    @property
    def algorithm(self) -> str:
        """The arm, likewise."""
        return self.arm

    @property
    def total_timesteps(self) -> int:
        """The budget, likewise."""
        return self.budget

    @property
    def n_early(self) -> int:
        """After how many phases it is scored."""
        return N_EARLY if self.lengths is not None and self.lengths.time_schedule == "constant" else 0

    @property
    def n_scores(self) -> int:
        """How often it is scored, at most."""
        return len(self.shares) + self.n_early


@dataclass(frozen=True)
class Trial(Training):
    """A run of the search."""

    shares: ClassVar[dict[str, float]] = {END: 1.0}
    n_games: ClassVar[int] = SEARCH_GAMES
    max_steps: ClassVar[int] = SEARCH_LENGTH

    @property
    def lengths(self) -> ProgressiveEpisodeLength:
        """The same length throughout."""
        return ProgressiveEpisodeLength(first_length=SEARCH_LENGTH, horizon=SEARCH_LENGTH)


def comparison(games: Sequence[str] = COMPARED, seeds: Sequence[int] = SEEDS, budget: int | None = None) -> list[Training]:
    """
    List the runs that are compared, seed by seed, so that a part of them is a comparison already.

    :param games: Which games.
    :param seeds: Which seeds.
    :param budget: Of each run; None for the game's.
    """
    budgets = {game: BUDGETS.get(game, BUDGET) if budget is None else budget for game in games}
    return [
        Training(game, arm, seed, budgets[game], POPULATION_SIZE, SIGMA) for seed in seeds for game in games for arm in ARMS
    ]


def search(seeds: Sequence[int] = SEARCH_SEEDS, budget: int = SEARCH_BUDGET) -> list[Trial]:
    """
    List the runs that choose population size and mutation rate. The length of episodes is always the same: if that favours
    anybody, it is the canonical ES.

    :param seeds: Which seeds.
    :param budget: Of each run.
    """
    return [Trial(SEARCHED, "canonical ES", seed, budget, size, sigma) for seed in seeds for sigma in SIGMAS for size in SIZES]


# -- playing whole games ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """
    Whole games.

    :param rewards: Of each game, step by step.
    """

    rewards: list[np.ndarray]

    @property
    def scores(self) -> np.ndarray:
        """(n,) final scores."""
        return np.array([game.sum() for game in self.rewards])

    @property
    def length(self) -> float:
        """Mean steps of a game."""
        return float(np.mean([len(game) for game in self.rewards]))

    def after(self, n_steps: int) -> float:
        """
        Mean score when so many steps have been played; a game that is over keeps its score.

        :param n_steps: How many.
        """
        return float(np.mean([game[:n_steps].sum() for game in self.rewards]))


def make_games(game: str, seed: int, max_steps: int = MAX_EPISODE_STEPS) -> VecEnv:
    """
    Make a game as policies see it.

    :param game: Its name.
    :param seed: Seed of the first of the games that are played.
    :param max_steps: Longest game.
    """
    return VecTransposeImage(make_atari_vec_env(game, seed=seed, max_episode_steps=max_steps))


def play_games(act: Callable[[np.ndarray], Any], games: VecEnv, n_games: int) -> Played:
    """
    Play whole games.

    :param act: Function from a picture, channels first, to an action.
    :param games: From :func:`make_games`.
    :param n_games: How many.
    """
    played: list[np.ndarray] = []
    rewards: list[float] = []
    observations: Any = games.reset()
    while len(played) < n_games:
        observations, reward, dones, _ = games.step(np.array([act(observations[0])]))
        rewards.append(float(reward[0]))
        if dones[0]:
            played.append(np.array(rewards))
            rewards = []
    return Played(played)


# -- one run ---------------------------------------------------------------------------------------------------------------


def make_model(job: Training, **changes: Any) -> Any:
    """
    Make the ES of a run.

    :param job: The run.
    :param changes: Further arguments that differ from the file's.
    """
    arguments: dict[str, Any] = {
        "population_size": job.population_size,
        "sigma": job.sigma,
        "champion_episodes": 0,
        "episode_length_schedule": job.lengths,
    }
    return from_file("es", job.game + GAME, job.seed, job.budget, **{**arguments, **changes})


class Scores(BaseCallback):
    """
    Scores the deployed policy off the clock, and stops when the budget is spent. A generation that has begun by then does not
    count: what is scored was learned from no more steps than the budget has.

    :param job: The run.
    """

    def __init__(self, job: Training) -> None:
        super().__init__()
        self.job, self.rows = job, list[dict[str, Any]]()
        self.due = {name: share * job.budget for name, share in job.shares.items()}
        self.n_ended = self.generation = self.longest = self.playing = 0
        self.away = np.zeros(2)

    def _on_training_start(self) -> None:
        self.begun = np.array([time.process_time(), time.perf_counter()])

    def _on_step(self) -> bool:
        caps, generation = self.model.arena.caps, self.model.population.generation  # type: ignore[attr-defined]
        if generation > self.generation:
            self.generation, self.longest = generation, max(self.longest, self.playing)
        self.playing = caps.cap or MAX_EPISODE_STEPS
        while self.n_ended < len(caps.begun) - 1:
            self.n_ended += 1
            if self.n_ended <= self.job.n_early:
                self.score(f"phase {self.n_ended}")
        for name in [name for name, steps in self.due.items() if self.num_timesteps >= steps]:
            del self.due[name]
            self.score(name)
        return bool(self.due)

    def score(self, point: str) -> None:
        """
        Play whole games with the policy as it is now.

        :param point: What to call this moment.
        """
        start = np.array([time.process_time(), time.perf_counter()])
        self.rows.append(self._measure(point, *(start - self.begun - self.away).tolist()))
        self.away += np.array([time.process_time(), time.perf_counter()]) - start
        job, row = self.job, self.rows[-1]
        what = f"{job.game}, {job.arm}, seed {job.seed}, {row['total_steps']:,} steps ({point})"
        print(
            f"    {what}: score {row['score']:g}, {row['generations']} generations, phases {row['phases'] or 'none'}",
            flush=True,
        )

    def _measure(self, point: str, cpu: float, wall: float) -> dict[str, Any]:
        model: Any = self.model
        policy = model.deployed_policy
        games = make_games(self.job.game, SEED_OFFSET + 1000 * self.job.seed, self.job.max_steps)
        played = play_games(make_player(policy).bind(to_vector(policy)), games, self.job.n_games)
        games.close()
        phases = model.arena.caps.steps_by_cap(model.num_timesteps)
        return {
            "point": point,
            "total_steps": model.num_timesteps,
            "random_steps": model.arena.random_timesteps,
            "phases": " ".join(f"{cap}:{steps}" for cap, steps in phases.items()),
            "generations": model.population.generation,
            "longest": self.longest,
            "score": round(float(played.scores.mean()), 2),
            "score_std": round(float(played.scores.std(ddof=1)), 2) if self.job.n_games > 1 else 0.0,
            "score_at_longest": round(played.after(self.longest), 2),
            "length": round(played.length, 1),
            "cpu_seconds": round(cpu, 1),
            "wall_seconds": round(wall, 1),
            "scores": " ".join(f"{score:g}" for score in played.scores),
            "course": " ".join(f"{played.after(step):.2f}" for step in COURSE),
            "versions": f"{versions()} ale_py={version('ale_py')}",
        }


def train(job: Training) -> Rows:
    """
    Train once.

    :param job: The run.
    :return: A row for each score.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    scores = Scores(job)
    make_model(job).learn(job.budget, callback=scores)
    return scores.rows


# -- what comes before -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Game:
    """
    A game that is played at random.

    :param game: Its name.
    """

    game: str


def measure_rates(job: Game) -> Rows:
    """
    Play at random, and train for a moment.

    :param job: The game.
    """
    warnings.simplefilter("ignore")
    th.set_num_threads(1)
    games = make_games(job.game, SEED_OFFSET)
    space = games.action_space
    space.seed(SEED_OFFSET)
    start = time.process_time()
    played = play_games(lambda picture: space.sample(), games, N_GAMES)
    seconds = time.process_time() - start
    games.close()
    model = make_model(
        Training(job.game, "canonical ES", 0, RATE_STEPS, RATE_STEPS // RATE_LENGTH, SIGMA),
        episode_length_schedule=lambda remaining: RATE_LENGTH,
    )
    start = time.process_time()
    model.learn(RATE_STEPS)
    training = time.process_time() - start
    row = {
        "random_score": round(float(played.scores.mean()), 2),
        "random_score_std": round(float(played.scores.std(ddof=1)), 2) if N_GAMES > 1 else 0.0,
        "random_length": round(played.length, 1),
        "random_rate": round(sum(map(len, played.rewards)) / seconds),
        "rate": round(model.num_timesteps / training),
        "versions": f"{versions()} ale_py={version('ale_py')}",
    }
    return [row]


RATES = Study("atari_games", lambda paper: [Game(game) for game in GAMES], measure_rates)
SEARCH = Study("atari_search", lambda paper: search(), train)


def rates_table(rows: Rows) -> str:
    """
    Make the table of random play and rates.

    :param rows: Of the study.
    """
    columns = ["game", "random_score", "random_score_std", "random_length", "random_rate", "rate"]
    lines = [[row[name] for name in columns] for row in rows]
    return markdown(columns, lines or [["not measured yet", *[""] * (len(columns) - 1)]])


def chosen(rows: Rows) -> list[tuple[float, int, float, list[float]]]:
    """
    Rank the settings of the search by the mean score at the end.

    :param rows: Of the study.
    :return: Mean score, population size, sigma and the score of each seed, best first.
    """
    found: dict[tuple[int, float], list[float]] = {}
    for row in rows:
        if row["point"] == END:
            found.setdefault((int(row["population_size"]), float(row["sigma"])), []).append(float(row["score"]))
    return sorted(((float(np.mean(scores)), *setting, scores) for setting, scores in found.items()), reverse=True)


def search_table(rows: Rows) -> str:
    """
    Make the table of the search, best setting first.

    :param rows: Of the study.
    """
    lines = [
        [size, sigma, f"{mean:.1f}", ", ".join(f"{score:.0f}" for score in scores)]
        for mean, size, sigma, scores in chosen(rows)
    ]
    columns = ["population_size", "sigma", "mean score", "score of each seed"]
    return markdown(columns, lines or [["not searched yet", *[""] * (len(columns) - 1)]])


STUDIES: dict[str, tuple[Study, Callable[[Rows], str]]] = {
    "rates": (RATES, rates_table),
    "search": (SEARCH, search_table),
}
"""By the word of the command line."""

JOBS: dict[str, Callable[[], Sequence[Training]]] = {"atari": partial(comparison), "atari_search": partial(search)}
"""What costs time, by the name of its file."""


def main(arguments: Sequence[str] | None = None) -> Rows:
    """
    Run what is missing if asked to, and print the table.

    :param arguments: Words of the command line.
    """
    parser = make_parser(__doc__, has_sizes=False, can_draw=False)
    parser.add_argument("study", choices=list(STUDIES))
    options = parser.parse_args(arguments)
    study, table = STUDIES[options.study]
    path = options.results / f"{study.name}.csv"
    n_failed = run(study, options, path) if options.run else 0
    rows = read_csv(path)
    if not rows:
        raise SystemExit(f"no data in {options.results}: make them with --run")
    print(table(rows))
    complain(n_failed)
    return rows


TABLES: Tables = {
    "games at random": lambda: rates_table(read_csv(RESULTS / f"{RATES.name}.csv")),
    "search of games": lambda: search_table(read_csv(RESULTS / f"{SEARCH.name}.csv")),
}


if __name__ == "__main__":
    main()
