"""The comparison on Atari games: what is declared, what a run writes down, and what is said of the rows."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest

games = pytest.importorskip("experiments.games", reason="the experiments are not part of the package")
pytest.importorskip("matplotlib", reason="an extra")
from test_figures import is_drawn  # noqa: E402

from experiments import claims, cost  # noqa: E402
from experiments.figures import atari  # noqa: E402
from experiments.games import ARMS, COMPARED, COURSE, END, FIFTH, SEEDS, Played, Training  # noqa: E402
from experiments.tables import read_csv, write_csv  # noqa: E402
from sb3_esac import ES  # noqa: E402
from sb3_esac.envs.atari import GAMES  # noqa: E402
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength  # noqa: E402

BASE, CONSTANT, DOUBLING = ARMS


# -- what is declared ------------------------------------------------------------------------------------------------------


def test_the_comparison_is_the_same_for_all_arms():
    jobs = games.comparison()
    assert len(jobs) == len(set(jobs)) == 4 * 3 * 3 and {job.seed for job in jobs} == {0, 1, 2}
    budgets = {job.game: {other.budget for other in jobs if other.game == job.game} for job in jobs}
    short = {150_000}
    assert budgets == {"Pong": short, "Breakout": short, "SpaceInvaders": short, "Enduro": {400_000}}
    assert len({(job.population_size, job.sigma) for job in jobs}) == 1
    assert [job.seed for job in jobs] == sorted(job.seed for job in jobs), "a part of it is a comparison"
    assert games.comparison(["Pong"], [7], 10) == [
        Training("Pong", arm, 7, 10, games.POPULATION_SIZE, games.SIGMA) for arm in ARMS
    ]
    assert {job.budget for job in games.comparison(GAMES[:4])} == {150_000}, "games that are not compared"
    assert {job.budget for job in games.comparison(budget=10)} == {10}


def test_what_is_searched_is_not_reported():
    jobs = games.search()
    assert {job.game for job in jobs} == {"BankHeist"} and "BankHeist" not in COMPARED
    assert min(job.seed for job in jobs) >= 10 and not {job.seed for job in jobs} & set(SEEDS)
    assert {job.arm for job in jobs} == {BASE} and {job.n_scores for job in jobs} == {1}
    assert (games.POPULATION_SIZE, games.SIGMA) in {(job.population_size, job.sigma) for job in jobs}
    # In core-seconds, at 480 steps of training and 600 of games in one of them.
    steps = [(job.budget, job.n_scores * job.n_games * job.max_steps) for job in jobs]
    assert sum(training / 480 + scores / 600 for training, scores in steps) < 3600


def test_what_is_compared_has_the_setting_that_the_search_found():
    rows = read_csv(games.RESULTS / "atari_search.csv")
    names = ("game", "seed", "budget", "population_size", "sigma")
    declared = {tuple(str(getattr(job, name)) for name in names) for job in games.search()}
    played = {tuple(row[name] for name in names) for row in rows}
    assert played == declared, "the search that is declared, and all of it"
    assert (games.POPULATION_SIZE, games.SIGMA) == games.chosen(rows)[0][1:3]


def test_the_best_setting_comes_first():
    def row(size, sigma, point, score):
        return {"population_size": str(size), "sigma": str(sigma), "point": point, "score": str(score)}

    rows = [
        row(20, 0.02, END, 10),
        row(40, 0.1, END, 30),
        row(20, 0.02, END, 60),
        row(40, 0.1, FIFTH, 900),
        row(40, 0.1, END, 20),
    ]
    assert games.chosen(rows) == [(35.0, 20, 0.02, [10.0, 60.0]), (25.0, 40, 0.1, [30.0, 20.0])]
    assert games.search_table(rows).splitlines()[2] == "| 20 | 0.02 | 35.0 | 10, 60 |"
    assert games.search_table([]).splitlines()[2] == "| not searched yet |  |  |  |"


# -- a run -----------------------------------------------------------------------------------------------------------------


def test_a_game_that_is_over_keeps_its_score():
    played = Played([np.array([1.0, 0.0, 2.0]), np.array([0.0, -1.0, 0.0, 0.0, 5.0])])
    assert played.scores.tolist() == [3.0, 4.0] and played.length == 4.0
    assert [played.after(steps) for steps in (0, 1, 2, 3, 5, 100)] == [0.0, 0.5, 0.0, 1.0, 3.5, 3.5]


@pytest.fixture
def tame(monkeypatch):
    """Games of one step, which score 1."""
    monkeypatch.setattr(games, "make_games", lambda game, seed, max_steps: SimpleNamespace(close=lambda: None))
    monkeypatch.setattr(games, "play_games", lambda act, env, n_games: Played([np.ones(1)] * n_games))


@pytest.mark.parametrize("arm", ARMS)
def test_a_run_is_scored_on_its_way(arm, tame, capsys):
    declared = ARMS[arm]
    lengths = declared and ProgressiveEpisodeLength(declared.time_schedule, first_length=4, horizon=16)
    model = ES(
        "MlpPolicy", "CartPole-v1", population_size=4, champion_episodes=0, seed=0, episode_length_schedule=lengths, verbose=1
    )
    job = Training("Pong", arm, 0, 900, 4, 0.1)
    scores = games.Scores(job)
    model.learn(job.budget, callback=scores, log_interval=None)
    rows = scores.rows
    # The fifth of 900 steps comes before a third of them, where T_c goes on to longer episodes.
    early = ["phase 1"] if arm == CONSTANT else []
    assert [row["point"] for row in rows] == [FIFTH, *early, END]
    assert len(rows) == job.n_scores
    assert rows[0]["total_steps"] == 180 and rows[-1]["total_steps"] == 900 == model.num_timesteps
    assert all(row["score"] == 1 and len(row["course"].split()) == len(COURSE) for row in rows)
    assert [row["generations"] for row in rows] == sorted(row["generations"] for row in rows)
    seen = {
        BASE: [25_000, 25_000],
        CONSTANT: [4, 4, 16],
        # A seventh and three sevenths of the budget: a fifth is in the second phase.
        DOUBLING: [8, 16],
    }
    assert [row["longest"] for row in rows] == seen[arm]
    phases = dict(pair.split(":") for pair in rows[-1]["phases"].split())
    if arm == BASE:
        assert not phases
    else:
        assert list(phases) == ["4", "8", "16"] and sum(map(int, phases.values())) == 900 and rows[-1]["random_steps"] == 0
        shares = [300, 300, 300] if declared.time_schedule == "constant" else [900 / 7, 1800 / 7, 3600 / 7]
        assert np.allclose([int(steps) for steps in phases.values()], shares, atol=4 * 16)
        assert f"Episodes of at most 8 steps from step {phases['4']} on (phase 2 of 3)" in capsys.readouterr().out


def scored(arm, budget, **arguments):
    """Rows of a run on CartPole, whose first length is measured by random play."""
    schedule = ProgressiveEpisodeLength(ARMS[arm].time_schedule, horizon=64, **arguments)
    model = ES("MlpPolicy", "CartPole-v1", population_size=4, champion_episodes=0, seed=0, episode_length_schedule=schedule)
    scores = games.Scores(Training("Pong", arm, 0, budget, 4, 0.1))
    model.learn(budget, callback=scores, log_interval=None)
    return scores.rows, model


@pytest.mark.parametrize("arm", [CONSTANT, DOUBLING])
def test_steps_of_random_play_are_written_down(arm, tame):
    rows, model = scored(arm, 2000, n_random_episodes=3, phase_steps=ARMS[arm].phase_steps)
    random_steps = {row["random_steps"] for row in rows}
    assert random_steps == {model.arena.caps.begun[0][1]} and 20 < random_steps.pop() < 200
    for row in rows:
        phases = [int(pair.split(":")[1]) for pair in row["phases"].split()]
        assert row["random_steps"] + sum(phases) == row["total_steps"]


def test_a_score_may_fall_into_random_play(tame):
    rows, model = scored(CONSTANT, 200, n_random_episodes=4)
    first, *_, last = rows
    assert (first["point"], first["total_steps"], first["generations"]) == (FIFTH, 40, 0)
    assert first["random_steps"] == 40 < model.arena.caps.begun[0][1] == last["random_steps"]


def test_phases_are_the_papers():
    """Of ten hours: an hour each, or 20 minutes that double, so that half of the time is left for the last phase."""
    for arm, shares in ((CONSTANT, [1, 1, 1, 1, 1, 1, 4]), (DOUBLING, [1 / 3, 2 / 3, 4 / 3, 8 / 3, 5])):
        schedule, random_steps = ARMS[arm], 1500
        assert schedule.is_measured and schedule.divisor == 2 and schedule.n_random_episodes == 3
        phases, spent = schedule.phases(25_000, random_length=1000.0), dict.fromkeys(range(10), 0)
        for steps in range(0, 300_000, 100):
            phases = phases.advance(random_steps + steps, 300_000 + random_steps)
            spent[phases.phase] += 100
        np.testing.assert_allclose([steps for steps in spent.values() if steps], [30_000 * share for share in shares])


def test_a_policy_is_scored_that_the_budget_has_paid_for(tame):
    """A generation that takes more than there is left changes nothing."""
    model = ES("MlpPolicy", "CartPole-v1", population_size=40, champion_episodes=0, seed=0)
    scores, before = games.Scores(Training("Pong", BASE, 0, 100, 40, 0.1)), model.population.mean.copy()
    model.learn(100, callback=scores)
    assert [(row["point"], row["generations"], row["longest"]) for row in scores.rows] == [(FIFTH, 0, 0), (END, 0, 0)]
    np.testing.assert_array_equal(model.population.mean, before)


def test_a_trial_is_scored_once_by_short_games(monkeypatch, tame):
    """And its members play no longer ones."""
    job, asked = games.search()[0], []
    games_of_one_step = games.play_games
    monkeypatch.setattr(
        games, "make_games", lambda game, seed, max_steps: SimpleNamespace(close=lambda: asked.append((game, max_steps)))
    )
    monkeypatch.setattr(
        games, "play_games", lambda act, env, n_games: asked.append(n_games) or games_of_one_step(act, env, n_games)
    )
    model = ES("MlpPolicy", "CartPole-v1", champion_episodes=0, seed=0, episode_length_schedule=job.lengths)
    scores = games.Scores(games.Trial(**{**vars(job), "budget": 900}))
    model.learn(900, callback=scores)
    assert asked == [10, ("BankHeist", 1000)]
    assert [(row["point"], row["random_steps"]) for row in scores.rows] == [(END, 0)]
    assert model.arena.caps.cap == scores.rows[0]["longest"] == 1000


def test_models_are_those_of_the_file_but_for_what_is_declared():
    pytest.importorskip("ale_py", reason="ale-py is not installed")
    for arm, lengths in ARMS.items():
        model = games.make_model(Training("Pong", arm, 3, 1000, 6, 0.07))
        assert (model.population_size, model.sigma, model.seed, model.champion_episodes) == (6, 0.07, 3, 0)
        assert model.strategy == "canonical" and model.winner_fraction == 0.5 and model.observation_space.shape == (4, 84, 84)
        assert model.episode_length_schedule == lengths
        model.env.close()


def test_games_may_be_cut():
    pytest.importorskip("ale_py", reason="ale-py is not installed")
    env = games.make_games("Pong", seed=0, max_steps=20)
    assert games.play_games(lambda picture: 0, env, 2).length == 20
    env.close()


def test_whole_games_are_played():
    pytest.importorskip("ale_py", reason="ale-py is not installed")
    env = games.make_games("Pong", seed=0)
    shapes = set()

    def stand_still(picture):
        shapes.add(picture.shape)
        return 0

    played = games.play_games(stand_still, env, 1)
    env.close()
    assert played.scores.tolist() == [-21.0] and 500 < played.length < 1500 and shapes == {(4, 84, 84)}


# -- what is said of the rows ----------------------------------------------------------------------------------------------


def rows_of(scores, names=COMPARED, seeds=SEEDS, budget=1000, sigma=None, points=(FIFTH, END)):
    """Rows of a comparison as a file has them: every seed scores as its arm does, 1 more or less by its number."""
    rows = []
    for game in names:
        for arm, score in scores.items():
            for seed in seeds:
                for point in points:
                    value = score[game] if isinstance(score, dict) else score
                    row = {
                        **vars(Training(game, arm, seed, budget, games.POPULATION_SIZE, sigma or games.SIGMA)),
                        "point": point,
                        "total_steps": budget // 5 if point == FIFTH else budget,
                        "random_steps": 0 if arm == BASE else 900 + seed,
                        "phases": "" if arm == BASE else f"100:{budget // 2} 200:{budget // 2}",
                        "generations": 3 + seed,
                        "longest": 25_000 if arm == BASE else 200,
                        "score": value + seed - 1,
                        "score_at_longest": value / 2,
                        "wall_seconds": 10.0,
                        "cpu_seconds": 20.0,
                        "course": " ".join(["1.5"] * len(COURSE)),
                    }
                    rows.append({name: str(cell) for name, cell in row.items()})
    return rows


def random_rows(score=0.0, names=GAMES, std=10.0):
    row = {"random_score": str(score), "random_score_std": str(std), "random_length": "600", "rate": "500"}
    return [{"game": game, **row} for game in names]


def judged(rows, random=None):
    return atari.check({"atari": rows, "atari_games": random_rows() if random is None else random})


GOOD = {BASE: 100, CONSTANT: 150, DOUBLING: 200}


def test_claims_on_four_games_that_hold():
    outcomes = judged(rows_of(GOOD))
    assert len(outcomes) == 4 * 2 + 2 + 1 and all(outcome.holds for outcome in outcomes)
    assert outcomes[0].claim == "at a fifth of the budget T_c beats canonical ES on 5 of 9 games"
    assert outcomes[0].evidence == "better on 4 of 4 games (Pong, Breakout, SpaceInvaders, Enduro)"
    each = "Pong +50%, Breakout +50%, SpaceInvaders +50%, Enduro +50%"
    assert outcomes[1].evidence == f"+50% of what separates canonical ES from random play ({each})"
    assert "Pong 75 after 200 steps, 150 at its end, random play 0" in outcomes[-1].evidence


def test_improvements_are_measured_from_random_play():
    # From 100 to 150 where random play has 50: twice as much is left of it.
    assert "+100% of" in judged(rows_of(GOOD), random_rows(50.0))[1].evidence
    unknown = judged(rows_of(GOOD), random_rows(names=["Pong", "Breakout", "Enduro"]))
    for outcome in (unknown[1], unknown[-1]):
        assert outcome.holds is None and "random play was not measured on SpaceInvaders" in outcome.evidence
    assert unknown[0].holds, "who is ahead can be told"
    assert judged(rows_of(GOOD), [])[1].evidence.endswith("measured on Pong, Breakout, SpaceInvaders, Enduro")


def test_no_game_is_left_out_where_canonical_es_plays_like_chance():
    """A gain is compared with how far games of random play are apart, or with a point."""
    # Pong below random play, Breakout exactly there, Enduro where random play always has the same.
    scores = {
        BASE: {"Pong": -21, "Breakout": 2, "SpaceInvaders": 200, "Enduro": 0},
        CONSTANT: {"Pong": -20, "Breakout": 3, "SpaceInvaders": 250, "Enduro": 2},
        DOUBLING: {"Pong": -22, "Breakout": 2, "SpaceInvaders": 100, "Enduro": 0},
    }
    random = [
        *random_rows(-20.5, ["Pong"], 0.8),
        *random_rows(2.0, ["Breakout"], 4.0),
        *random_rows(150.0, ["SpaceInvaders"], 40.0),
        *random_rows(0.0, ["Enduro"], 0.0),
    ]
    constant, doubling = (judged(rows_of(scores), random)[number] for number in (1, 3))
    assert constant.evidence.endswith("(Pong +100%, Breakout +25%, SpaceInvaders +100%, Enduro +200%)")
    assert constant.evidence.startswith("+106%") and constant.holds
    assert doubling.evidence.endswith("(Pong -100%, Breakout +0%, SpaceInvaders -200%, Enduro +0%)") and not doubling.holds


def test_half_of_the_games_is_not_enough_and_a_tie_is_no_win():
    mixed = {"Pong": 150, "Breakout": 150, "SpaceInvaders": 100, "Enduro": 40}
    outcomes = judged(rows_of({BASE: 100, CONSTANT: mixed, DOUBLING: mixed}))
    assert outcomes[0].holds is False and outcomes[0].evidence == "better on 2 of 4 games (Pong, Breakout)"
    assert outcomes[1].holds is False and "+10% of" in outcomes[1].evidence
    assert outcomes[8].holds is False and outcomes[8].evidence == "better on 0 of 4 games (none)"
    # Five of nine are three of four, seven of nine four of four.
    three = {**mixed, "SpaceInvaders": 150}
    first, _, _, _, last, *_ = judged(rows_of({BASE: 100, CONSTANT: three, DOUBLING: three}))
    assert first.holds is True and last.holds is False and "at the end" in last.claim


def test_policies_of_short_games_have_to_be_better_than_chance():
    outcome = judged(rows_of(GOOD), random_rows(500.0))[-1]
    assert outcome.holds is False and "policies that T_c has found on short games" in outcome.claim


def test_what_has_not_been_trained_yet_has_found_nothing():
    rows = rows_of(GOOD)
    early = [row for row in rows if (row["game"], row["arm"], row["seed"], row["point"]) == ("Enduro", CONSTANT, "1", FIFTH)]
    early[0]["generations"] = "0"
    outcomes = judged(rows)
    assert outcomes[-1].holds is None and all(outcome.holds for outcome in outcomes[:-1])
    assert outcomes[-1].evidence.startswith("not decided: not a single generation until then on Enduro; so far Pong 75 after")


def test_nothing_is_decided_while_a_run_is_missing():
    rows = rows_of(GOOD)
    lacking = [row for row in rows if (row["game"], row["arm"], row["seed"]) != ("Enduro", "T_d", "2")]
    assert atari.missing(lacking, "Enduro", 1000) == 1 and list(atari.complete(lacking)) == [
        "Pong",
        "Breakout",
        "SpaceInvaders",
    ]
    outcomes = judged(lacking)
    assert all(outcome.holds is None for outcome in outcomes)
    assert outcomes[0].evidence.startswith("not decided: of 9 runs each, Enduro 1 are missing; so far better on 3 of 3 games")
    assert outcomes[0].verdict == "cannot be told from these data"
    nothing = judged([])
    assert len(nothing) == len(outcomes) and all(outcome.holds is None for outcome in nothing)
    assert nothing[0].evidence == "not decided: no runs yet"


def test_runs_that_were_scored_once_have_not_ended():
    assert atari.complete(rows_of(GOOD, points=(FIFTH,))) == {}


def test_the_longest_runs_that_all_have_are_compared():
    bad = dict.fromkeys(ARMS, 7)
    both = rows_of(GOOD, budget=1000) + rows_of(bad, budget=5000)
    assert {scored.budget for scored in atari.complete(both).values()} == {5000} and judged(both)[0].holds is False
    some = rows_of(GOOD, budget=1000) + rows_of(bad, seeds=[0, 1], budget=5000)
    assert {scored.budget for scored in atari.complete(some).values()} == {1000} and judged(some)[0].holds
    # Further seeds are not mixed in.
    assert judged(rows_of(GOOD) + rows_of(bad, seeds=[5, 6, 7, 8])) == judged(rows_of(GOOD))


def test_runs_with_another_mutation_rate_are_left_out(tmp_path):
    write_csv(tmp_path / "atari.csv", rows_of(GOOD, sigma=0.9) + rows_of(GOOD, ["Pong"]))
    assert {row["sigma"] for row in atari.read(tmp_path)["atari"]} == {str(games.SIGMA)}
    assert atari.read(tmp_path / "nowhere") == {"atari": [], "atari_games": []}


def test_the_table_has_every_seed():
    assert "| no runs yet |" in atari.table([])
    rows = rows_of(GOOD, ["Enduro", "Pong"])
    # Whoever came first in the file.
    lines = atari.table(rows[::-1]).splitlines()[2:]
    assert [line.split(" | ")[:4] for line in lines[:3]] == [
        ["| Pong", "canonical ES", "1,000", "a fifth"],
        ["| Pong", "canonical ES", "1,000", "the end"],
        ["| Pong", "T_c", "1,000", "a fifth"],
    ]
    assert len(lines) == 2 * 3 * 2 and lines[-1].startswith("| Enduro | T_d |")
    assert lines[1].endswith(
        "| 3 to 5 | 25000 | 100 | 0: 99, 1: 100, 2: 101 | 0 | whole games; whole games; whole games | 20 |"
    )
    assert "| 0: 149, 1: 150, 2: 151 | 900 to 902 | 100:500 200:500; 100:500 200:500; 100:500 200:500 |" in lines[3]


def test_the_summary_is_of_medians_of_games_that_are_complete():
    assert "| no runs yet |" in atari.summary([], random_rows())
    rows = rows_of(GOOD, ["Enduro"])
    # One seed falls far behind, which a mean would show.
    for row in rows:
        if (row["arm"], row["seed"]) == (DOUBLING, "0"):
            row["score"] = "20"
    lines = atari.summary((rows + rows_of(GOOD, ["Pong"], seeds=(0, 1)))[::-1], random_rows(score=7)).splitlines()[2:]
    assert lines == [
        f"| Enduro | 1,000 | {point} | 7 | 100 (99, 100, 101) | 150 (149, 150, 151) | 200 (20, 200, 201) |"
        for point in (FIFTH, END)
    ]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "rows.csv"
    write_csv(path, [{"a": 1}, {"a": 2}])
    assert read_csv(path) == [{"a": "1"}, {"a": "2"}]
    with pytest.raises(ValueError, match="not in fieldnames"):
        write_csv(path, [{"a": 3}, {"b": 4}])
    assert read_csv(path) == [{"a": "1"}, {"a": "2"}] and list(path.parent.iterdir()) == [path]
    write_csv(path, [{"a": 5}])
    assert read_csv(path) == [{"a": "5"}]


def test_what_the_paper_says_of_games_is_judged_by_games(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "RESULTS", tmp_path)
    monkeypatch.setattr(claims, "SOURCES", {name: each for name, each in claims.SOURCES.items() if "PEL" in name})
    shutil.copy(games.RESULTS / "pel.csv", tmp_path)
    write_csv(tmp_path / "atari.csv", rows_of(GOOD))
    write_csv(tmp_path / "atari_games.csv", random_rows())
    lines = [line.strip("| ").split(" | ") for line in claims.table().splitlines()[2:]]
    papers = [line for line in lines if line[0] == "PEL, figures 3 and 5"]
    others = [line for line in lines if line not in papers]
    assert {line[2] for line in papers} == {"holds here"} and len(papers) == 11
    assert sum("of 9 games" in line[1] for line in papers) == 6
    assert len(others) == 8 and all("on MuJoCo, too" in line[1] and "games" not in line[1] for line in others)
    assert {line[0] for line in others} == {"none, a transfer of PEL to MuJoCo"}


# -- the command -----------------------------------------------------------------------------------------------------------


def test_what_was_played_is_not_played_again(tmp_path, monkeypatch, capsys):
    played = []

    def train(job):
        played.append((job.game, job.arm, job.seed))
        if (job.arm, job.seed, len(played)) == (DOUBLING, 0, 3):
            raise RuntimeError("unplugged")
        found = rows_of(GOOD, [job.game], [job.seed], job.budget)
        return [{k: v for k, v in row.items() if k not in vars(job)} for row in found if row["arm"] == job.arm]

    monkeypatch.setattr(atari, "train", train)

    def command(*arguments):
        return atari.main([*arguments, "--results", str(tmp_path), "--pictures", str(tmp_path)])

    with pytest.raises(SystemExit, match="no data"):
        command()
    # The command fails at its end, when all others are played, and drawn.
    with pytest.raises(SystemExit, match="failed runs: 1;"):
        command("--run", "--games", "Pong", "--seeds", "0", "--budget", "1000")
    assert played == [("Pong", arm, 0) for arm in ARMS] and is_drawn(tmp_path, "atari")
    said = capsys.readouterr().out
    assert "FAILED" in said and "unplugged" in said and "not decided: of 9 runs each, Pong 7" in said
    assert all(outcome.holds is None for outcome in command())
    # What failed is played again, with what was not asked for then.
    command("--run", "--games", "Pong", "--budget", "1000")
    assert played[3:] == [("Pong", DOUBLING, 0)] + [("Pong", arm, seed) for seed in (1, 2) for arm in ARMS]
    assert "atari: 9 runs, 2 done before" in capsys.readouterr().out
    n_played = len(played)
    command("--run", "--games", "Pong", "--budget", "1000")
    assert len(played) == n_played
    write_csv(tmp_path / "atari_games.csv", random_rows())
    outcomes = command("--run", "--budget", "1000")
    assert len(played) == n_played + 27 and all(outcome.holds for outcome in outcomes)
    # Another budget is another run.
    command("--run", "--games", "Pong", "--seeds", "0", "--budget", "2000")
    assert len(played) == n_played + 30 and is_drawn(tmp_path, "atari")
    with pytest.raises(SystemExit):
        command("--games", "Chess")


def test_what_comes_before_is_printed(tmp_path, capsys):
    with pytest.raises(SystemExit, match="no data"):
        games.main(["rates", "--results", str(tmp_path)])
    rows = [{**row, "random_score_std": "1", "random_rate": "900"} for row in random_rows()]
    write_csv(tmp_path / "atari_games.csv", rows)
    games.main(["rates", "--results", str(tmp_path)])
    assert "| Pong | 0.0 | 1 | 600 | 900 | 500 |" in capsys.readouterr().out


def test_what_it_costs(tmp_path, capsys):
    write_csv(tmp_path / "atari_games.csv", random_rows())
    rates = cost.read_rates(tmp_path)
    assert cost.seconds_per_step("Pong", BASE, rates) == (1 / 500, "rates")
    lines, total = cost.estimate("atari", rates)
    assert len(lines) == 4 * (3 + 1) and {line[-1] for line in lines} == {"rates"}
    # Three runs each; seven scores of each seed, of thirty games, which last 600 steps.
    for number, steps in ((0, "0.45"), (12, "1.2")):
        assert [line[1:3] for line in lines[number : number + 4]] == [
            [BASE, steps],
            ["scores", "0.378"],
            [CONSTANT, steps],
            [DOUBLING, steps],
        ]
    assert total == pytest.approx((9 * (3 * 150_000 + 400_000) + 4 * 3 * 7 * 30 * 600) / 500 / 3600)
    assert cost.main(["atari", "--results", str(tmp_path)]) == total
    assert "\natari: 5.1 core-hours in all\n" in capsys.readouterr().out
    # Two seeds, six settings; games of the search are cut.
    long = cost.read_rates(tmp_path)
    long.random_length["BankHeist"] = 3000.0
    lines, total = cost.estimate("atari_search", long)
    assert [line[1:3] for line in lines] == [[BASE, "1.2"], ["scores", "0.12"]] and 0.7 < total < 0.8
    write_csv(tmp_path / "atari.csv", rows_of(GOOD, ["Pong"]))
    measured = cost.read_rates(tmp_path)
    assert cost.seconds_per_step("Pong", BASE, measured) == (20.0 / 1000, "measured runs")
    (tmp_path / "atari_games.csv").unlink()
    lines, _ = cost.estimate("atari_search", cost.read_rates(tmp_path))
    assert {line[-1] for line in lines} == {"no rate"}
