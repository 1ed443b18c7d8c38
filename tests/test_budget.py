"""Who plays next: rules decide from a frozen account of where the run stands, and from nothing else."""

import dataclasses
import inspect
import math
from dataclasses import replace

import numpy as np
import pytest
from helpers import ALGORITHMS, Tell, make_model, pendulum

from sb3_esac import ESAC
from sb3_esac.budget import AgentShare, Annealed, Budget, make_budget
from sb3_esac.budget import rule as rules
from sb3_esac.budget.share import ENDING_FRACTION, SCALING_FRACTION
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.noise import Stream, generator

INF = float("inf")
START = Progress(run_seed=7, generation=0, timesteps=0, agent_timesteps=0, total_timesteps=10_000, generation_timesteps=100.0)
MIDDLE = replace(START, generation=5, timesteps=1000, agent_timesteps=400)
END = replace(START, generation=90, timesteps=9901, agent_timesteps=9901)
"""There is no room for another generation, and the agent has had more than any share."""


def just_below(value):
    return float(np.nextafter(value, -np.inf))


def just_above(value):
    return float(np.nextafter(value, np.inf))


# -- where the run stands ----------------------------------------------------------------------------------------------


def test_nobody_changes_it():
    for field in dataclasses.fields(START):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(START, field.name, 1)


def test_remaining_progress():
    assert (START.remaining, MIDDLE.remaining, replace(START, timesteps=10_000).remaining) == (1.0, 0.9, 0.0)
    assert replace(MIDDLE, total_timesteps=INF).remaining == 1.0
    assert not replace(START, timesteps=9999).is_spent and replace(START, timesteps=10_000).is_spent
    assert replace(START, timesteps=10_001).is_spent and not replace(END, total_timesteps=INF).is_spent


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_it_is_what_the_model_counts(algorithm):
    model = make_model(algorithm, pendulum(20), seed=3, n_eval_episodes=2, champion_episodes=3, overlap=True)
    seen = []
    model.learn(700, callback=Tell(lambda model: seen.append((model._progress(), model.num_timesteps, model.agent_timesteps))))
    for progress, timesteps, agent_timesteps in seen:
        assert (progress.timesteps, progress.agent_timesteps, progress.total_timesteps) == (timesteps, agent_timesteps, 700)
        assert (progress.run_seed, progress.n_agent_episodes, progress.overlaps) == (3, 0, algorithm is ESAC)
    assert {progress.generation for progress, *_ in seen} >= {0, 1, 2}
    # 4 members with 2 episodes each, and 3 of a probe, 20 steps each; nobody knows before the first generation
    assert seen[0][0].generation_timesteps == 0 and seen[-1][0].generation_timesteps == (4 * 2 + 3) * 20
    ahead = model._progress(2, 5)
    now = model._progress()
    assert ahead == replace(now, n_agent_episodes=2, timesteps=now.timesteps + 5, agent_timesteps=now.agent_timesteps + 5)


# -- the agent's share -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fraction, agent_timesteps, expected",
    [
        (0.4, 399, True),
        (0.4, 400, False),
        (0.4, 401, False),
        (0.0, 0, False),
        (0.8, 799, True),
        (0.8, 800, False),
    ],
)
def test_share(fraction, agent_timesteps, expected):
    """It plays when it has played less than its share, and goes on for as long."""
    progress = replace(MIDDLE, agent_timesteps=agent_timesteps)
    assert AgentShare(fraction).begins(progress) is AgentShare(fraction).goes_on(progress) is expected
    # However many episodes that takes, and whatever seed and generation
    other = replace(progress, n_agent_episodes=1000, run_seed=8, generation=6)
    assert AgentShare(fraction).goes_on(other) is expected


def test_nobody_begins_before_the_first_step():
    assert not AgentShare(0.99).begins(START)


def test_the_agent_alone_has_turns_of_its_own():
    """With all of the steps there is no generation that could end a turn: it has four episodes and 1000 steps at least."""
    rule = AgentShare(1.0)
    assert not rule.has_generation(START) and AgentShare(just_below(1.0)).has_generation(START)
    for begun in (START, MIDDLE):
        assert rule.begins(begun)
        agent_timesteps = begun.agent_timesteps + rules.TURN_STEPS
        for n_episodes, played, expected in ((4, -1, True), (3, 0, True), (4, 0, False)):
            progress = replace(begun, n_agent_episodes=n_episodes, agent_timesteps=agent_timesteps + played)
            assert rule.goes_on(progress) is expected


def test_it_is_alone_for_as_long_as_the_schedule_says():
    rule = AgentShare(lambda remaining: min(1.0, 2.0 * remaining))
    assert not rule.has_generation(replace(START, timesteps=5000)) and rule.has_generation(replace(START, timesteps=5001))


def test_share_follows_a_schedule():
    rule = AgentShare(lambda remaining: 1.0 - remaining)
    assert rule.begins(replace(START, timesteps=2000, agent_timesteps=399))
    assert not rule.begins(replace(START, timesteps=2000, agent_timesteps=400))
    assert rule.begins(replace(START, timesteps=4000, agent_timesteps=1599))
    assert not rule.begins(replace(START, timesteps=4000, agent_timesteps=1600))


@pytest.mark.parametrize("fraction, expected", [(0.5, True), (just_below(0.5), False), (0.99, True), (0.4, False)])
def test_the_rest_is_the_agents_from_the_ending_fraction_on(fraction, expected):
    assert ENDING_FRACTION == 0.5
    assert AgentShare(fraction).begins(END) is AgentShare(fraction).goes_on(END) is expected
    assert AgentShare(lambda remaining: fraction).begins(END) is expected
    for not_at_the_end in (
        # 100 steps are left, just enough for a generation
        replace(END, timesteps=9900),
        # A generation is under way already
        replace(END, overlaps=True),
        replace(END, total_timesteps=INF),
    ):
        assert not AgentShare(fraction).begins(not_at_the_end)
    assert AgentShare(fraction).begins(replace(END, timesteps=9900, generation_timesteps=just_above(100.0))) is expected


@pytest.mark.parametrize("fraction, expected", [(0.1, True), (just_below(0.1), False), (1.0, True), (0.0, False)])
def test_scales_are_the_agents_from_the_scaling_fraction_on(fraction, expected):
    assert SCALING_FRACTION == 0.1
    for progress in (START, MIDDLE, END):
        assert AgentShare(fraction).scales_observations(progress) is expected


def test_scales_follow_a_schedule():
    rule = AgentShare(lambda remaining: remaining)
    assert rule.scales_observations(replace(START, timesteps=8999))
    assert not rule.scales_observations(replace(START, timesteps=9001))


# -- the paper's rule --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_intervals(interval):
    rule = Annealed(1.0, interval, 1)
    begun = [number for number in range(20) if rule.begins(replace(MIDDLE, generation=number))]
    assert begun == list(range(interval - 1, 20, interval))


def test_coin():
    """It is a function of run and generation, and compared with p_sac."""
    for generation in range(20):
        coin = generator(7, generation, Stream.GRADIENT_INTERVAL).random()
        progress = replace(MIDDLE, generation=generation)
        assert Annealed(just_above(coin), 1, 1).begins(progress) and not Annealed(coin, 1, 1).begins(progress)
        assert Annealed(coin, 1, 1).begins(progress) == Annealed(coin, 1, 1).begins(replace(progress, timesteps=3))
    rule = Annealed(0.5, 1, 1)
    of_runs = [[rule.begins(replace(MIDDLE, run_seed=seed, generation=n)) for n in range(64)] for seed in (0, 1)]
    assert of_runs[0] != of_runs[1] and all(16 < sum(begun) < 48 for begun in of_runs)
    assert not any(Annealed(0.0, 1, 1).begins(replace(MIDDLE, generation=number)) for number in range(64))


def test_annealing_of_the_paper():
    schedule = Annealed(None, 1, 1).schedule
    for elapsed in (0.0, 0.3, 1.0):
        assert schedule(1.0 - elapsed) == pytest.approx(0.1 + 0.9 * math.exp(-elapsed / 1.2), rel=1e-12)
    asked = []
    Annealed(lambda remaining: asked.append(remaining) or 1.0, 1, 1).begins(MIDDLE)
    assert asked == [0.9]


def test_episodes_of_an_interval():
    rule = Annealed(0.0, 1, 3)
    assert [rule.goes_on(replace(MIDDLE, n_agent_episodes=number)) for number in range(5)] == [True] * 3 + [False] * 2
    # Whoever has begun goes on, whatever the share and however few steps are left
    assert rule.goes_on(replace(END, n_agent_episodes=2)) and rule.goes_on(START)


def test_scales_are_never_the_agents():
    assert not any(Annealed(1.0, 1, 1).scales_observations(progress) for progress in (START, MIDDLE, END))


# -- both --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [AgentShare(0.5), AgentShare(lambda r: r), Annealed(0.5, 2, 3), Annealed(None, 1, 1)])
def test_nothing_is_remembered(rule):
    """Whatever it was asked before, and in whatever order."""
    places = [replace(MIDDLE, generation=n, timesteps=100 * n, agent_timesteps=40 * n, n_agent_episodes=n) for n in range(99)]
    before = dict(vars(rule))

    def answers(order):
        return {n: (rule.begins(places[n]), rule.goes_on(places[n]), rule.scales_observations(places[n])) for n in order}

    assert answers(range(99)) == answers(reversed(range(99))) and vars(rule) == before
    assert len(set(answers(range(99)).values())) > 1


def test_choice():
    assert type(make_budget(0.3, None, 5, 1)) is AgentShare and type(make_budget(0, 0.5, 5, 1)) is AgentShare
    paper = make_budget(None, 0.25, 5, 2)
    assert type(paper) is Annealed and (paper.interval, paper.n_episodes, paper.schedule(0.5)) == (5, 2, 0.25)
    assert make_budget(0.3, None, 5, 1).schedule(0.7) == 0.3
    assert {rule.name for rule in (AgentShare, Annealed)} == {"fraction", "probability"}
    assert inspect.isabstract(Budget)
