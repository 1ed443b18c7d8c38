"""
Figures 3 and 5 of PEL (progressive episode lengths) on Atari games: canonical ES with T_c, with T_d and without.

``--run`` plays what is missing: every game and seed with all three, 150,000 steps of the policy each, or 400,000 of Enduro.
The paper plays for ten hours on hundreds of cores, and its two hours are a fifth of our budget. Scores are means of 30 whole
games of the deployed policy, at most 25,000 steps each, at a fifth of the budget and at its end, with T_c also after the first
phase. There are four games by default; ``--games`` takes any of the paper's nine, ``--seeds`` and ``--budget`` cut it down.
One command at a time may write to a file. How population size and mutation rate are chosen, and what random play scores:
:mod:`experiments.games`.

The paper's claims are judged by medians over seeds, as there, of games that all three arms have played with all seeds, at the
largest budget for which that is so; where a game of the comparison lacks runs, nothing is decided. Improvements are in percent
of the distance between canonical ES and random play, or of the standard deviation of random play's scores, or of one point,
whichever is largest: scores may be negative, and a policy that has learned nothing plays like chance.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before numpy is there: products of matrices are too small for two threads.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np  # noqa: E402

from experiments.drawing import COLORS, finish, legend, new_figure, thousands  # noqa: E402
from experiments.figures.study import RESULTS, Outcome, Rows, Study, complain, make_parser, run, show  # noqa: E402
from experiments.games import (  # noqa: E402
    ARMS,
    BUDGETS,
    COMPARED,
    COURSE,
    END,
    FIFTH,
    POPULATION_SIZE,
    RATES,
    SEEDS,
    SHARES,
    SIGMA,
    comparison,
    train,
)
from experiments.tables import Tables, markdown, read_csv  # noqa: E402
from sb3_esac.envs.atari import GAMES  # noqa: E402

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "atari"
BASE, CONSTANT, DOUBLING = ARMS
N_GAMES = 9
"""Of the paper."""

CLAIMS = {
    (CONSTANT, FIFTH): (5, 49),
    (DOUBLING, FIFTH): (6, 80),
    (CONSTANT, END): (7, 28),
    (DOUBLING, END): (7, 32),
}
"""Of 9 games, and mean improvement of the score in percent, beside canonical ES."""

BETTER = 6
"""Games of 9 on which T_d is ahead of T_c, after two hours and after ten."""


LEAST = 1.0
"""Points that two scores are taken to be apart, at the least."""


@dataclass(frozen=True)
class Chance:
    """
    Scores of random play.

    :param mean: Mean score of a game.
    :param std: Its standard deviation.
    """

    mean: float
    std: float

    def distance(self, score: float) -> float:
        """
        Measure how far a score is from random play. What is no farther than games of random play are from each other, or than
        ``LEAST``, is taken to be as far as that: a policy that has learned nothing would divide by next to nothing.

        :param score: The score, above or below.
        """
        return max(abs(score - self.mean), self.std, LEAST)


@dataclass(frozen=True)
class Scored:
    """
    What all runs of a game have come to.

    :param budget: The largest one that all arms and seeds have.
    :param rows: By arm and moment, one for each seed.
    """

    budget: int
    rows: dict[tuple[str, str], Rows]

    def median(self, arm: str, point: str) -> float:
        """Median score over seeds."""
        return float(np.median([float(row["score"]) for row in self.rows[arm, point]]))


def read(results: Path = RESULTS) -> dict[str, Rows]:
    """
    Read what was played with the population size and the mutation rate that everybody has, and random play.

    :param results: Folder of the data.
    :return: Rows by study.
    """
    rows = [
        row
        for row in read_csv(results / f"{NAME}.csv")
        if (int(row["population_size"]), float(row["sigma"])) == (POPULATION_SIZE, SIGMA)
    ]
    return {NAME: list(rows), RATES.name: list(read_csv(results / f"{RATES.name}.csv"))}


def missing(rows: Rows, game: str, budget: int) -> int:
    """
    Count the runs of a game that are not there.

    :param rows: Of the comparison.
    :param game: Its name.
    :param budget: Of the runs.
    """
    wanted = {(arm, seed) for arm in ARMS for seed in SEEDS}
    found = {
        (row["arm"], int(row["seed"]))
        for row in rows
        if row["game"] == game and int(row["budget"]) == budget and row["point"] == END
    }
    return len(wanted - found)


def complete(rows: Rows) -> dict[str, Scored]:
    """
    Find the games that everybody has played.

    :param rows: Of the comparison.
    """
    found = {}
    for game in dict.fromkeys(row["game"] for row in rows):
        budgets = {int(row["budget"]) for row in rows if row["game"] == game}
        full = [budget for budget in budgets if missing(rows, game, budget) == 0]
        if not full:
            continue
        here: dict[tuple[str, str], Rows] = {}
        for row in rows:
            if row["game"] == game and int(row["budget"]) == max(full) and int(row["seed"]) in SEEDS:
                here.setdefault((row["arm"], row["point"]), []).append(row)
        found[game] = Scored(max(full), here)
    return found


def undecided(rows: Rows, games: dict[str, Scored]) -> str:
    """
    Say what is missing, "" if nothing is.

    :param rows: Of the comparison.
    :param games: Those that are complete.
    """
    lacking = [game for game in COMPARED if game not in games]
    if not lacking:
        return ""
    if not rows:
        return "not decided: no runs yet"
    numbers = []
    for game in lacking:
        budgets = {int(row["budget"]) for row in rows if row["game"] == game} or {BUDGETS[game]}
        numbers.append(f"{game} {min(missing(rows, game, budget) for budget in budgets)}")
    return f"not decided: of {len(ARMS) * len(SEEDS)} runs each, {', '.join(numbers)} are missing"


def chance(rows: Rows) -> dict[str, Chance]:
    """
    Read how random play does, by game.

    :param rows: Of the study.
    """
    return {row["game"]: Chance(float(row["random_score"]), float(row["random_score_std"])) for row in rows}


def better(games: dict[str, Scored], arm: str, base: str, point: str) -> list[str]:
    """
    List the games on which an arm is better than another one.

    :param games: Those that are complete.
    :param arm: The one.
    :param base: The other.
    :param point: When.
    """
    return [game for game, scored in games.items() if scored.median(arm, point) > scored.median(base, point)]


def gains(games: dict[str, Scored], random: dict[str, Chance], arm: str, point: str) -> dict[str, float]:
    """
    Measure by how much an arm is better than canonical ES, game by game.

    :param games: Those that are complete.
    :param random: Random play of each of them.
    :param arm: The arm.
    :param point: When.
    :return: Percent of :meth:`Chance.distance` between canonical ES and random play.
    """
    found = {}
    for game, scored in games.items():
        before = scored.median(BASE, point)
        found[game] = 100 * (scored.median(arm, point) - before) / random[game].distance(before)
    return found


def judge(claim: str, holds: bool, evidence: str, reason: str) -> Outcome:
    """
    Make an outcome, undecided if there is a reason for that.

    :param claim: What the paper says.
    :param holds: Whether it holds in what there is.
    :param evidence: What was seen.
    :param reason: Why nothing is decided, "" if it is.
    """
    return (
        Outcome(claim, None, f"{reason}; so far {evidence}" if evidence else reason)
        if reason
        else Outcome(claim, holds, evidence)
    )


def check(data: dict[str, Rows]) -> list[Outcome]:
    """
    Compare with what the paper says of its games.

    :param data: Rows by study.
    """
    rows, random = data[NAME], chance(data[RATES.name])
    games = complete(rows)
    reason = undecided(rows, games)
    unknown = reason or not_measured(games, random)
    outcomes = []
    for (arm, point), (n_games, percent) in CLAIMS.items():
        claim = f"at {point} of the budget {arm} beats canonical ES on {n_games} of {N_GAMES} games"
        outcomes.append(_is_often_better(claim, n_games, games, (arm, BASE, point), reason))
        claim = f"at {point} of the budget {arm} improves the scores of canonical ES by {percent}% on average"
        found = gains({game: scored for game, scored in games.items() if game in random}, random, arm, point)
        mean = float(np.mean(list(found.values()))) if found else 0.0
        each = ", ".join(f"{game} {gain:+.0f}%" for game, gain in found.items())
        seen = f"{mean:+.0f}% of what separates canonical ES from random play ({each})"
        outcomes.append(judge(claim, mean >= percent, seen if found else "", unknown))
    for point in SHARES:
        claim = f"at {point} of the budget {DOUBLING} beats {CONSTANT} on {BETTER} of {N_GAMES} games"
        outcomes.append(_is_often_better(claim, BETTER, games, (DOUBLING, CONSTANT, point), reason))
    return [*outcomes, _plays_on(games, random, unknown)]


def not_measured(games: dict[str, Scored], random: dict[str, Chance]) -> str:
    """
    Say of which games random play is not known, "" if of none.

    :param games: Those that are complete.
    :param random: Random play of those that it was measured on.
    """
    lacking = [game for game in games if game not in random]
    return f"not decided: random play was not measured on {', '.join(lacking)}" if lacking else ""


def _is_often_better(claim: str, n_games: int, games: dict[str, Scored], who: tuple[str, str, str], reason: str) -> Outcome:
    """Whether one arm is better than another, at some time, on as many games as the paper says, or as large a part of them."""
    won = better(games, *who)
    evidence = f"better on {len(won)} of {len(games)} games ({', '.join(won) or 'none'})" if games else ""
    return judge(claim, bool(games) and len(won) / len(games) >= n_games / N_GAMES, evidence, reason)


def _plays_on(games: dict[str, Scored], random: dict[str, Chance], reason: str) -> Outcome:
    """Figure 5: whether policies of short episodes score in whole games what random play does not."""
    cells, n_above, untrained = [], 0, []
    known = {game: scored for game, scored in games.items() if game in random}
    for game, scored in known.items():
        rows, chance_score = scored.rows[CONSTANT, FIFTH], random[game].mean
        if any(int(row["generations"]) == 0 for row in rows):
            untrained.append(game)
        longest = max(int(row["longest"]) for row in rows)
        short, whole = (float(np.median([float(row[name]) for row in rows])) for name in ("score_at_longest", "score"))
        n_above += whole > chance_score
        cells.append(f"{game} {short:.4g} after {longest} steps, {whole:.4g} at its end, random play {chance_score:.4g}")
    claim = f"policies that {CONSTANT} has found on short games at {FIFTH} of the budget play whole games well"
    # What has not learned yet has found nothing.
    why = f"not decided: not a single generation until then on {', '.join(untrained)}" if untrained else ""
    return judge(claim, n_above > len(known) / 2, "; ".join(cells), reason or why)


def table(rows: Rows) -> str:
    """
    Make a table of all that was played: a line for each game, arm, budget and moment.

    :param rows: Of the comparison.
    """
    columns = [
        "game",
        "episodes",
        "budget",
        "scored at",
        "generations",
        "longest episode until then",
        "mean score",
        "score of each seed",
        "random steps",
        "steps per phase",
        "seconds of CPU",
    ]
    cells: dict[tuple[str, str, int, str], Rows] = {}
    for row in sorted(rows, key=lambda row: int(row["seed"])):
        cells.setdefault((row["game"], row["arm"], int(row["budget"]), row["point"]), []).append(row)
    lines = []
    for (game, arm, budget, point), seeds in sorted(cells.items(), key=lambda cell: _place(cell[0], cell[1])):
        scores = [float(row["score"]) for row in seeds]
        generations, longest, random_steps = (
            _span([int(row[name]) for row in seeds]) for name in ("generations", "longest", "random_steps")
        )
        each = ", ".join(f"{int(row['seed'])}: {score:.4g}" for row, score in zip(seeds, scores, strict=True))
        phases = "; ".join(row["phases"] or "whole games" for row in seeds) if point == END else ""
        seconds = f"{np.mean([float(row['cpu_seconds']) for row in seeds]):.0f}"
        played = [generations, longest, f"{np.mean(scores):.4g}", each, random_steps, phases]
        lines.append([game, arm, f"{budget:,}", point, *played, seconds])
    return markdown(columns, lines or [["no runs yet", *[""] * (len(columns) - 1)]])


def summary(rows: Rows, random: Rows) -> str:
    """
    Make a table of medians, with the score of each seed: a line for each game that is complete and each moment.

    :param rows: Of the comparison.
    :param random: Of the study of random play.
    """
    by_chance = chance(random)
    lines = []
    for game, scored in complete(rows).items():
        for point in SHARES:
            cells = []
            for arm in ARMS:
                seeds = sorted(scored.rows[arm, point], key=lambda row: int(row["seed"]))
                each = ", ".join(f"{float(row['score']):.4g}" for row in seeds)
                cells.append(f"{scored.median(arm, point):.4g} ({each})")
            chance_score = f"{by_chance[game].mean:.4g}" if game in by_chance else ""
            lines.append([game, f"{scored.budget:,}", point, chance_score, *cells])
    header = ["game", "budget", "scored at", "random play", *ARMS]
    return markdown(header, lines or [["no runs yet", *[""] * (len(header) - 1)]])


def _place(key: tuple[str, str, int, str], rows: Rows) -> tuple[Any, ...]:
    """Where a line of the table belongs: games, budgets and arms as declared, moments as they came."""
    game, arm, budget, _ = key
    return GAMES.index(game), budget, list(ARMS).index(arm), float(rows[0]["total_steps"])


def _span(numbers: list[int]) -> str:
    """The smallest and the largest, once if they are the same."""
    low, high = min(numbers), max(numbers)
    return f"{low}" if low == high else f"{low} to {high}"


def draw(data: dict[str, Rows]) -> "Figure":
    """
    Draw a column for each game: scores over the budget, and the course of whole games that T_c's policy plays at a fifth.

    :param data: Rows by study.
    """
    rows, random = data[NAME], chance(data[RATES.name])
    names = [game for game in GAMES if any(row["game"] == game for row in rows)]
    figure = new_figure(3.6 * len(names), 6.0)
    panels = figure.subplots(2, len(names), squeeze=False)
    for column, game in enumerate(names):
        here = [row for row in rows if row["game"] == game]
        # Of runs that differ in their budgets only the longest.
        here = [row for row in here if int(row["budget"]) == max(int(other["budget"]) for other in here)]
        above, below = panels[:, column]
        for number, arm in enumerate(ARMS):
            _draw_scores(above, [row for row in here if row["arm"] == arm], number, arm)
        if game in random:
            above.axhline(random[game].mean, color="black", linestyle=":", linewidth=1.0, label="random play")
        finish(above, "steps of the policy", "score of a whole game", game)
        thousands(above)
        courses = [row for row in here if row["arm"] == CONSTANT and row["point"] == FIFTH]
        for row in courses:
            below.plot(COURSE, [float(value) for value in row["course"].split()], color=COLORS[1])
        if courses:
            longest = max(int(row["longest"]) for row in courses)
            below.axvline(longest, color="black", linestyle="--", linewidth=1.0, label="longest episode until then")
        below.set_xscale("log")
        finish(below, "steps of a game", f"score so far, {CONSTANT} at {FIFTH}")
    legend(figure, panels.ravel().tolist())
    return figure


def _draw_scores(panel: Any, rows: Rows, number: int, arm: str) -> None:
    """Draw the score of each seed, and a line through the medians."""
    medians = []
    for point in SHARES:
        moment = np.array([[float(row["total_steps"]), float(row["score"])] for row in rows if row["point"] == point])
        if moment.size:
            panel.plot(moment[:, 0], moment[:, 1], "o", color=COLORS[number], alpha=0.4, markersize=4)
            medians.append(np.median(moment, axis=0))
    if medians:
        panel.plot(*np.array(medians).T, color=COLORS[number], label=arm)


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Do what the command line asks for.

    :param arguments: Its words.
    """
    parser = make_parser(__doc__, has_sizes=False)
    parser.add_argument("--games", nargs="+", choices=GAMES, default=list(COMPARED), help="only these")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), help="only these")
    parser.add_argument("--budget", type=int, help="steps of each run, instead of the game's own")
    options = parser.parse_args(arguments)
    n_failed = 0
    if options.run:
        wanted = comparison(options.games, options.seeds, options.budget)
        n_failed = run(Study(NAME, lambda paper: wanted, train), options, options.results / f"{NAME}.csv")
    data = read(options.results)
    if not data[NAME]:
        raise SystemExit(f"no data in {options.results}: make them with --run")
    print(table(data[NAME]))
    outcomes = show(check(data), draw(data), options.pictures / NAME)
    complain(n_failed)
    return outcomes


TABLES: Tables = {
    "games of pel": lambda: table(read()[NAME]),
    "games of pel, summary": lambda: summary(read()[NAME], read()[RATES.name]),
}


if __name__ == "__main__":
    main()
