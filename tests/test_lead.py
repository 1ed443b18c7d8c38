"""Who leads: decisions are functions of returns alone, and noise does not fool them."""

from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch as th
from helpers import Drift, drift, make_model, pendulum

from sb3_esac import ESAC
from sb3_esac.agent.learner import Learner
from sb3_esac.budget import lead
from sb3_esac.budget import rule as rules
from sb3_esac.budget.lead import FOLLOWER, MEANINGFUL, MIN_SEARCH, PIECE, ROOM, SEARCH_PATIENCE, WINDOW, Lead
from sb3_esac.budget.rule import TURN_EPISODES
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.improvement import Returns
from sb3_esac.evolution.trend import Trend

LENGTH = 200
"""Steps of an episode."""
MEMBERS = 10
MIN_WINDOW = 20_000


@pytest.fixture(autouse=True)
def as_in_the_package(monkeypatch):
    """Other tests may have made it impatient."""
    monkeypatch.setattr(lead, "MIN_WINDOW", MIN_WINDOW)
    monkeypatch.setattr(rules, "TURN_STEPS", 1000)


class Run:
    """A run without networks: the rule is told what both halves return, and says who plays."""

    def __init__(self, agent, search, total=200_000, length=LENGTH):
        self.length = length
        self.rule, self.agent, self.search = Lead(), agent, search
        self.progress = Progress(0, 0, 0, 0, total, 0.0, MEMBERS)
        self.turns, self.news = [], []

    def play(self):
        while not self.progress.is_spent:
            self.news += filter(None, [self.rule.advance(self.progress)])
            searches = self.rule.has_generation(self.progress)
            self.turns.append((self.progress.timesteps, searches))
            if searches:
                found = np.array(
                    [self.search(self.progress.timesteps - self.progress.agent_timesteps) for _ in range(MEMBERS)]
                )
                self.step(MEMBERS * self.length, 0)
                self.progress = replace(self.progress, generation_timesteps=MEMBERS * self.length)
                self.rule.note_generation(found, 4)
                best = self.agent(self.progress.agent_timesteps) >= found.max()
                self.progress = replace(self.progress, agent_is_champion=bool(best))
            if not self.progress.is_spent and self.rule.begins(self.progress):
                self.interval()
        return self

    def interval(self):
        episodes = []
        while not self.progress.is_spent and self.rule.goes_on(replace(self.progress, n_agent_episodes=len(episodes))):
            self.step(self.length, self.length)
            episodes.append((self.agent(self.progress.agent_timesteps), self.length))
        self.rule.note_interval(episodes)

    def step(self, n_steps, of_the_agent):
        timesteps, agent_timesteps = self.progress.timesteps + n_steps, self.progress.agent_timesteps + of_the_agent
        self.progress = replace(self.progress, timesteps=timesteps, agent_timesteps=agent_timesteps)

    @property
    def handed_over(self):
        """Steps at which another half takes the lead."""
        return [at for (at, now), (_, before) in zip(self.turns[1:], self.turns, strict=False) if now != before]


def noisy(curve, noise, seed):
    rng = np.random.default_rng(seed)
    return lambda steps: curve(steps) + noise * rng.standard_normal()


NOTHING = lambda steps: -1000.0  # noqa: E731


def test_an_agent_that_improves_keeps_all_steps():
    for seed in range(20):
        run = Run(noisy(lambda steps: steps / 1000, 3, seed), NOTHING).play()
        assert run.handed_over == [] and run.progress.agent_timesteps == run.progress.timesteps == 200_000


@pytest.mark.parametrize("noise", [0, 1, 100])
def test_one_that_does_not_is_found_out_in_spite_of_noise(noise):
    first = [Run(noisy(lambda steps: 5.0, noise, seed), NOTHING, 400_000).play().handed_over[0] for seed in range(40)]
    # Two windows have to be full before they can be compared.
    earliest = 2 * MIN_WINDOW
    assert min(first) >= earliest
    assert np.median(first) <= 2 * earliest and max(first) <= 5 * earliest


def test_pieces_of_a_search_that_finds_nothing_double_and_the_agent_gets_as_long_as_it_is_stuck():
    total = 600_000
    run = Run(lambda steps: 5.0, NOTHING, total).play()
    at = run.handed_over
    searches = [end - begin for begin, end in zip(at[::2], at[1::2], strict=False)]
    for number, length in enumerate(searches[:3]):
        begun = at[2 * number]
        windows = PIECE * max(MIN_WINDOW, WINDOW * begun, MIN_SEARCH * MEMBERS * LENGTH) * 2**number
        piece = min(windows, (total - begun) / ROOM)
        # A turn is a generation and at most an episode of the agent's.
        assert piece <= length <= piece + MEMBERS * LENGTH + LENGTH
    for begin, end in zip(at[1:6:2], at[2:6:2], strict=False):
        assert end - begin >= 2 * max(MIN_WINDOW, WINDOW * begin)


def test_a_search_takes_at_most_half_of_what_is_left():
    run = Run(lambda steps: 5.0, NOTHING, 100_000).play()
    (begin, end) = run.handed_over
    assert MIN_WINDOW < (100_000 - begin) / ROOM <= end - begin < 100_000 - begin - MIN_WINDOW


def test_where_a_generation_is_dear_the_agent_gets_longer():
    for length in (100, 1000, 4000):
        run = Run(lambda steps: 5.0, NOTHING, 400_000, length).play()
        stuck = 2 * max(MIN_WINDOW, MIN_SEARCH * MEMBERS * length)
        assert stuck <= run.handed_over[0] <= stuck + TURN_EPISODES * length


def test_a_search_that_is_ahead_and_improves_keeps_the_lead_and_leaves_a_tenth():
    run = Run(lambda steps: 5.0, lambda steps: 10 + steps / 1000).play()
    assert len(run.handed_over) <= 2
    begin = run.handed_over[0]
    agent = run.progress.agent_timesteps - begin
    rest = run.progress.timesteps - begin
    # At the end no other generation fits.
    assert FOLLOWER * rest - LENGTH <= agent <= FOLLOWER * rest + LENGTH + MEMBERS * LENGTH


def test_one_that_is_ahead_and_does_not_improve_gives_the_agent_another_chance():
    run = Run(lambda steps: 5.0, lambda steps: 10.0).play()
    begin, end = run.handed_over[:2]
    generations = SEARCH_PATIENCE * MEMBERS * LENGTH
    assert generations <= end - begin <= 1.2 * generations + MEMBERS * LENGTH and len(run.handed_over) > 2


def test_whoever_takes_the_lead_says_why():
    run = Run(lambda steps: 5.0, lambda steps: 10.0).play()
    assert run.news[0] == (
        "Step 40,000: the population leads and plays 90% of the steps, since the agent's mean return over 20,000 steps (5)"
        " is no better than over as many before (5)."
    )
    assert run.news[1].endswith(
        "the agent leads and plays 100% of the steps, since the winners have not improved for 10 generations (best 10)."
    )
    # The last one may come when no other generation fits.
    assert len(run.news) - len(run.handed_over) in (0, 1)
    run = Run(lambda steps: 5.0, NOTHING).play()
    assert run.news[1].endswith("since the search has found nothing that is ahead of the agent.")


def test_an_agent_that_overtakes_takes_the_lead():
    run = Run(lambda steps: 5.0 if steps < 20_000 else steps / 1000, lambda steps: 10.0, 400_000).play()
    assert not run.turns[-1][1] and run.progress.agent_timesteps > 200_000


def test_it_goes_on_from_its_state():
    whole = Run(noisy(lambda steps: 5.0, 3, 1), NOTHING).play()
    for stop in (30_000, 45_000, 90_000):
        first = Run(noisy(lambda steps: 5.0, 3, 1), NOTHING, 200_000)
        plain = first.rule.advance

        def reloaded(progress, first=first, plain=plain, stop=stop):
            if progress.timesteps >= stop and first.rule.advance is not plain:
                state, first.rule = first.rule.state_dict(), Lead()
                first.rule.load_state_dict(state)
            return first.rule.advance(progress) if first.rule.advance is not reloaded else plain(progress)

        first.rule.advance = reloaded
        assert first.play().turns == whole.turns


def test_no_search_begins_that_the_rest_could_not_pay_back():
    for spare, expected in ((-1000, 0), (1000, 1)):
        run = Run(lambda steps: 5.0, NOTHING, 2 * MIN_WINDOW + ROOM * MIN_WINDOW + spare).play()
        assert len([searches for _, searches in run.turns if searches][:1]) == expected


def test_agents_that_learn_in_the_end_are_left_alone():
    """By the recorded episodes of agents that have stood still for a while, and walked then."""
    leads = pytest.importorskip("experiments.leads")
    assert (leads.MIN_WINDOW, leads.ROOM) == (MIN_WINDOW, ROOM)
    runs = leads.read()
    assert len(runs) == 11
    assert {key: leads.first_search(episodes, leads.BUDGET) for key, episodes in runs.items()} == dict.fromkeys(runs)
    # Unlike one that is stuck.
    assert leads.first_search([(200 * n, 5.0, 200) for n in range(1, 500)], leads.BUDGET) == 2 * MIN_WINDOW


def test_a_run_ends_within_its_budget():
    run = Run(lambda steps: 5.0, lambda steps: 10 + steps / 1000, 100_300).play()
    assert run.progress.timesteps <= 100_300 + LENGTH


def test_returns():
    returns = Returns()
    assert returns.means(1) is None and returns.spread == 0
    for value in range(10):
        returns.note(float(value), 10)
    # Those that ended in steps 41 to 70, and 71 to 100.
    assert returns.means(30) == (5.0, 8.0)
    assert returns.means(50) == (2.0, 7.0) and returns.means(51) is None
    assert returns.spread == pytest.approx(0.9 * 9)
    other = copy(returns)
    other.note(float("nan"), 30)
    assert other.means(30) is None, "no episode ended in the latest window"
    assert returns.means(30) == (5.0, 8.0) and other.n_steps == 130
    other.note(3.0, 10)
    assert other.means(30) == (8.5, 3.0) and other.means(50) == (6.0, 6.0)


def test_small_steps_are_no_progress_beside_the_spread_of_all_returns():
    for gain, expected in ((0.5, 1), (2.0, 0)):
        # After 20,000 steps of a random policy's returns the agent gains so much of the least that is meant, every window.
        slope = gain * MEANINGFUL * 90 / MIN_WINDOW
        agent = lambda steps, slope=slope: -100 + steps / 200 if steps < 20_000 else slope * (steps - 20_000)  # noqa: E731
        run = Run(agent, NOTHING).play()
        assert bool(run.handed_over) is bool(expected)


def test_trend():
    trend = Trend()
    assert (trend.best, trend.stale) == (-np.inf, 0)
    trend.note(float("nan"))
    assert (trend.best, trend.stale) == (-np.inf, 1)
    trend.note(1.0)
    assert (trend.best, trend.stale) == (1.0, 0)
    trend.note(3.0)
    trend.note(2.0)
    assert (trend.best, trend.stale) == (3.0, 1)
    # A twentieth of the range of 2 is 0.1.
    trend.note(3.09)
    assert (trend.best, trend.stale) == (3.0, 2)
    trend.note(3.2)
    assert (trend.best, trend.stale) == (3.2, 0)


@pytest.mark.parametrize("env", [partial(pendulum, 50), Drift], ids=["lasts", "ends early"])
def test_until_a_search_begins_a_run_is_that_of_the_agent_alone(env):
    """To the last bit: this is what the default costs where the agent improves."""
    n_steps = 900
    kept = dict(buffer_size=2000, learning_starts=50, batch_size=16, policy_kwargs=dict(net_arch=[8]), seed=3, device="cpu")
    ours, alone = (ESAC("MlpPolicy", env(), agent_fraction=each, **kept).learn(n_steps) for each in ("auto", 1.0))
    assert ours._n_updates == alone._n_updates > 800
    for model in (ours, alone):
        assert (model.num_timesteps, model.agent_timesteps, model.population_timesteps) == (n_steps, n_steps, 0)
    for part in (lambda model: model.policy, lambda model: model.deployed_policy, lambda model: model.critic_target):
        for expected, found in zip(part(alone).state_dict().items(), part(ours).state_dict().items(), strict=True):
            assert expected[0] == found[0] and th.equal(expected[1], found[1]), expected[0]
    assert np.array_equal(ours.replay_buffer.rewards, alone.replay_buffer.rewards)


def test_the_agent_learns_from_winners_while_they_are_ahead(monkeypatch):
    monkeypatch.setattr(lead, "MIN_WINDOW", 15)
    monkeypatch.setattr(rules, "TURN_STEPS", 10)
    seen, play = [], Learner.play_interval

    def spy(learner, rule, progress, callback):
        seen.append((progress().agent_is_champion, learner.buffer.population_share, learner.buffer.population_store is None))
        return play(learner, rule, progress, callback)

    monkeypatch.setattr(Learner, "play_interval", spy)
    model = make_model(ESAC, drift(), seed=5, agent_fraction="auto", share_experience="auto").learn(600)
    assert {(is_champion, share) for is_champion, share, _ in seen} == {(True, 0.0), (False, 0.5)}
    assert seen[0][2] and model.replay_buffer.population_store.size() > 0, "the store is made when there is something for it"
    # As in the paper, and as it was, where the population plays whether or not the agent needs it.
    model = make_model(ESAC, drift(), seed=5, agent_fraction=0.4, share_experience="auto").learn(200)
    assert model.replay_buffer.population_store is None and model.replay_buffer.population_share == 0.0
    assert model.population_timesteps > 0 and not model._keeps_transitions
