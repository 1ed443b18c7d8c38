"""The champion's rule, by episodes whose returns are made up."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from support import tiny, vec

from sb3_esac.champion import Challenge, Champion, ChampionRecord
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.vectors import copy_actor, to_vector
from sb3_esac.evolution.noise import Stream, episode_seed


class MadeUp:
    """
    An arena whose episodes last one step, and whose returns are made up.

    A vector's return is its first entry and the luck of the episode, which all have in common.
    """

    mean_length, probe_length, probe_timesteps = 1.0, 1.0, 0

    def __init__(self, luck=lambda number: 0.0, own=lambda skill, number: 0.0):
        self.luck, self.own = luck, own
        self.played = []
        self.numbers = {episode_seed(0, 0, Stream.PROBE_EPISODE, number): number for number in range(300)}

    def request(self, vectors, seeds, player, *, numbers, whole):
        assert whole and seeds.shape == (len(vectors), len(numbers))
        played = np.vectorize(self.numbers.__getitem__)(seeds)
        assert (played == np.array(numbers)).all(), "lanes that differ go by the numbers"
        return vectors[:, 0], played

    def play(self, request):
        skills, numbers = request
        self.played += [(float(skill), [int(n) for n in row]) for skill, row in zip(skills, numbers, strict=True)]
        self.probe_timesteps += numbers.size
        returns = [[s + self.luck(n) + self.own(s, n) for n in row] for s, row in zip(skills, numbers, strict=True)]
        return SimpleNamespace(returns=np.array(returns))


@pytest.fixture(scope="module")
def trained_actor():
    return tiny(vec(1)).actor


@pytest.fixture
def actor(trained_actor):
    return copy_actor(trained_actor)


@pytest.fixture
def champion(actor):
    return Champion(actor)


def challenge(actor, generation, n_episodes=5, timesteps=10**6, **skills):
    vectors = {source: np.full(to_vector(actor).size, skill, np.float32) for source, skill in skills.items()}
    return Challenge(vectors, actor, make_player(actor), generation, 0, n_episodes, timesteps)


def play(champion, challenge, arena):
    """Play one round; source of who was defeated in it, None if nothing was asked for either."""
    requests = champion.ask(challenge, arena)
    return champion.tell([arena.play(request) for request in requests]) if requests else None


def step(champion, challenge, arena):
    """Play until it is decided, as ESAC does."""
    defeated = None
    while requests := champion.ask(challenge, arena):
        defeated = champion.tell([arena.play(request) for request in requests]) or defeated
    return defeated


def crown(champion, actor, skill, arena, generation=0):
    """Make a champion that has played five episodes, from 0 on."""
    step(champion, challenge(actor, generation, agent=skill), arena)
    champion.record = replace(
        champion.record,
        returns=np.array([skill + arena.luck(n) + arena.own(skill, n) for n in range(5)]),
        numbers=np.arange(5),
    )
    champion.n_numbers = 5


def test_the_first_candidate_becomes_champion(champion, actor):
    arena = MadeUp(luck=float)
    assert step(champion, challenge(actor, 0, agent=2.0), arena) is None
    assert champion.record.source == "agent" and champion.record.generation == 0
    assert champion.record.returns.tolist() == [2.0] and champion.record.numbers.tolist() == [0]
    assert (to_vector(champion.actor) == 2.0).all() and arena.played == [(2.0, [0])]
    # It plays one more at each probe, and whoever takes its place all of them.
    assert step(champion, challenge(actor, 1, mean=-5.0), arena) == "mean"
    assert champion.record.returns.tolist() == [2.0, 3.0] and champion.record.numbers.tolist() == [0, 1]
    step(champion, challenge(actor, 2, mean=2.0), arena)
    assert sorted(champion.record.numbers) == [0, 1, 2, 3, 4] and champion.record.generation == 2
    assert sorted(champion.record.returns) == [2.0, 3.0, 4.0, 5.0, 6.0] and champion.record.return_mean == 4.0
    step(champion, challenge(actor, 3, mean=-9.0), arena)
    assert champion.record.numbers.max() == 5, "one that nobody has played"


def test_all_open_and_the_best_plays_what_the_champion_has_played(champion, actor):
    arena = MadeUp(luck=lambda number: 10.0 * (number % 2))
    crown(champion, actor, 2.0, arena)
    arena.played.clear()
    defeated = step(champion, challenge(actor, 1, agent=1.0, mean=3.0, winner=2.5), arena)
    # A new episode for the champion and all candidates, then the rest of the best one's.
    assert arena.played == [(2.0, [5]), (1.0, [5]), (3.0, [5]), (2.5, [5]), (3.0, [1, 2, 3, 4])]
    assert defeated is None and champion.record.source == "mean" and champion.record.generation == 1
    assert champion.record.numbers.tolist() == [1, 2, 3, 4, 5]
    assert champion.record.returns.tolist() == [13.0, 3.0, 13.0, 3.0, 13.0], "the luck of an episode is the same for both"


def test_among_equals_the_most_trusted_one_challenges(champion, actor):
    step(champion, challenge(actor, 0, agent=2.0, mean=2.0, winner=2.0), MadeUp())
    assert champion.record.source == "agent"


def test_worse_does_not_replace(champion, actor):
    arena = MadeUp(luck=lambda number: 0.1 * number)
    crown(champion, actor, 5.0, arena)
    defeated = step(champion, challenge(actor, 1, agent=4.99, mean=0.0), arena)
    assert defeated == "agent" and champion.record.generation == 0


def test_one_lucky_episode_is_not_enough(champion, actor):
    arena = MadeUp(own=lambda skill, number: 2.0 if skill == 1.0 and number == 5 else 0.0)
    crown(champion, actor, 2.0, arena)
    # 3 in the new one of five, and 1 in the others.
    assert step(champion, challenge(actor, 1, agent=0.0, mean=1.0), arena) == "mean"
    assert arena.played[-1] == (1.0, [1, 2, 3, 4])


@pytest.mark.parametrize(("errors_behind", "better"), [(0.49, False), (0.51, True), (0.0, False), (-3.0, False), (5.0, True)])
def test_as_good_is_within_half_of_the_standard_error_of_the_difference(champion, errors_behind, better):
    difference = np.array([1.0, -1.0, 2.0, -2.0, 0.0])
    error = difference.std() / np.sqrt(5)
    champion.record = ChampionRecord("mean", np.array([100.0, 10.0, -50.0, 3.0, 0.0]), 0, np.arange(5))
    # What both have in common, the luck of an episode, does not count.
    assert champion.is_clearly_better(np.arange(5), champion.record.returns - difference - errors_behind * error) == better


def test_only_what_both_have_played_is_compared(champion):
    champion.record = ChampionRecord("mean", np.array([1.0, 2.0, 3.0]), 0, np.array([7, 9, 4]))
    assert not champion.is_clearly_better(np.array([4, 7, 9, 5]), np.array([3.0, 1.0, 2.0, -1e9]))
    assert champion.is_clearly_better(np.array([7, 9]), np.array([0.0, 1.5]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_never_wins(champion, actor, bad):
    broken = MadeUp(own=lambda skill, number: bad if skill == 9.0 else 0.0)
    assert step(champion, challenge(actor, 0, agent=9.0), broken) == "agent" and champion.record is None
    step(champion, challenge(actor, 1, agent=9.0, mean=1.0), broken)
    assert champion.record.source == "mean"
    late = MadeUp(own=lambda skill, number: bad if skill == 9.0 and number == 1 else 0.0)
    assert step(champion, challenge(actor, 2, agent=9.0), late) == "agent" and late.played[-1] == (9.0, [1, 3, 4, 5])
    assert champion.record.source == "mean"


def test_an_episode_of_the_champion_that_is_not_finite_changes_nothing(champion, actor):
    step(champion, challenge(actor, 0, agent=2.0), MadeUp())
    before = champion.record
    step(champion, challenge(actor, 1, agent=0.0), MadeUp(own=lambda skill, number: np.nan if number == 1 else 0.0))
    assert champion.record is before


def test_who_opens_below_the_champions_worst_plays_no_more(champion, actor):
    champion.record, champion.n_numbers = ChampionRecord("mean", np.array([5.0, 7.0, 6.0]), 0, np.arange(3)), 3
    arena = MadeUp()
    assert step(champion, challenge(actor, 1, n_episodes=3, agent=-4.0, mean=-9.0), arena) == "agent"
    assert [numbers for _, numbers in arena.played] == [[3], [3], [3]]
    for skill, plays_on in ((5.99, False), (6.0, True)):
        champion.record, champion.n_numbers = ChampionRecord("mean", np.array([5.0, 7.0, 6.0]), 0, np.arange(3)), 3
        # The champion's new episode is a 6, in place of the 5.
        arena = MadeUp(own=lambda skill, number: 6.0 - skill if number == 3 and skill < 5 else 0.0)
        champion._probed_generation = -1
        step(champion, challenge(actor, 2, n_episodes=3, agent=skill), arena)
        assert (arena.played[-1][1] == [1, 2]) == plays_on


def test_a_champion_by_luck_does_not_stay_one(champion, actor):
    lucky = MadeUp(own=lambda skill, number: 4.0 if number < 5 else 0.0)
    crown(champion, actor, 5.0, lucky)
    assert champion.record.returns.tolist() == [9.0] * 5
    for generation in range(1, 6):
        step(champion, challenge(actor, generation, mean=-50.0), lucky)
        assert champion.record.returns.tolist() == [9.0] * (5 - generation) + [5.0] * generation
        assert champion.record.numbers.tolist() == [*range(generation, generation + 5)]
    step(champion, challenge(actor, 7, mean=6.0), MadeUp())
    assert champion.record.source == "mean"


@pytest.mark.parametrize(("n_episodes", "kept"), [(2, 2), (3, 3), (8, 4)])
def test_the_number_of_episodes_may_change(champion, actor, n_episodes, kept):
    champion.record, champion.n_numbers = ChampionRecord("mean", np.zeros(3), 0, np.array([4, 5, 6])), 7
    step(champion, challenge(actor, 1, n_episodes=n_episodes, mean=-1.0), MadeUp())
    # It has played the episodes 4, 5, 6, and now 7.
    assert champion.record.returns.size == kept and champion.record.numbers.tolist() == [*range(8 - kept, 8)]


@pytest.mark.parametrize(("skill", "source"), [(1.9, "agent"), (2.0, "mean"), (2.1, "mean")])
def test_one_episode_may_decide(champion, actor, skill, source):
    arena = MadeUp()
    step(champion, challenge(actor, 0, n_episodes=1, agent=2.0), arena)
    step(champion, challenge(actor, 1, n_episodes=1, mean=skill), arena)
    assert arena.played == [(2.0, [0]), (2.0, [1]), (pytest.approx(skill), [1])]
    assert (
        champion.record.source == source and champion.record.returns.shape == (1,) and champion.record.numbers.tolist() == [1]
    )


def test_probes_take_a_fraction_of_all_steps(champion, actor):
    def is_played(timesteps, probed, record=None, **skills):
        champion.record, arena = record, MadeUp()
        arena.probe_timesteps = probed
        champion._probed_generation = -1
        step(champion, challenge(actor, 1, timesteps=timesteps, **skills), arena)
        return bool(arena.played)

    # One episode of each for the first champion: 3 / (3 + 17) is 0.15.
    assert not is_played(16, 0, agent=1.0, mean=1.0, winner=1.0) and is_played(17, 0, agent=1.0, mean=1.0, winner=1.0)
    # Later one of the champion, one of each, and four of the best.
    record = ChampionRecord("mean", np.zeros(5), 0, np.arange(5))
    assert not is_played(33, 0, record, agent=1.0) and is_played(34, 0, record, agent=1.0)
    assert not is_played(1000, 150, record, agent=1.0) and is_played(1000, 140, record, agent=1.0)


def test_a_generation_is_probed_once_and_not_before_it_has_played(champion, actor):
    arena = MadeUp()
    step(champion, challenge(actor, 3, agent=1.0), arena)
    n_played = len(arena.played)
    assert step(champion, challenge(actor, 3, agent=9.0), arena) is None
    assert len(arena.played) == n_played
    arena.mean_length = 0.0
    step(champion, challenge(actor, 4, agent=9.0), arena)
    assert len(arena.played) == n_played and champion.record.return_mean == 1.0
    step(champion, challenge(actor, 4, n_episodes=0, agent=9.0), arena)
    assert len(arena.played) == n_played and champion.record is None


def test_what_was_asked_for_and_not_played_is_asked_for_again(champion, actor):
    """A callback may stop at each point."""
    step(champion, challenge(actor, 0, agent=1.0), MadeUp())
    arena, again = MadeUp(), challenge(actor, 1, agent=2.0)
    for _ in range(2):
        assert len(champion.ask(again, arena)) == 2
    play(champion, again, arena)
    assert champion.record.generation == 0 and champion.challenger.source == "agent"
    for _ in range(2):
        assert len(champion.ask(again, arena)) == 1
    play(champion, again, arena)
    assert champion.record.generation == 1 and champion.ask(again, arena) == []


def test_rounds_may_overlap(champion, actor):
    """As in ES: the rest of one generation's challenger is played together with the next one's opening."""
    arena = MadeUp(luck=lambda number: 10.0 * (number % 2))
    crown(champion, actor, 2.0, arena)
    arena.played.clear()
    play(champion, challenge(actor, 1, mean=3.0, winner=1.0), arena)
    assert arena.played == [(2.0, [5]), (3.0, [5]), (1.0, [5])] and champion.record.generation == 0
    arena.played.clear()
    play(champion, challenge(actor, 2, mean=4.0), arena)
    assert arena.played == [(3.0, [1, 2, 3, 4]), (2.0, [6]), (4.0, [6])]
    # What the old champion has played last says nothing of the new one.
    assert champion.record.generation == 1 and champion.record.numbers.tolist() == [1, 2, 3, 4, 5]
    arena.played.clear()
    assert play(champion, challenge(actor, 3, mean=-9.0), arena) == "mean"
    assert arena.played == [(4.0, [1, 2, 3, 4, 5]), (3.0, [7]), (-9.0, [7])]
    assert champion.record.generation == 2 and champion.record.numbers.tolist() == [1, 2, 3, 4, 5, 6]
    assert champion.record.returns.tolist() == [14.0, 4.0, 14.0, 4.0, 14.0, 4.0]
    play(champion, challenge(actor, 4, mean=-9.0), arena)
    assert champion.record.numbers.tolist() == [3, 4, 5, 6, 8]


def test_a_challenger_is_saved(champion, actor):
    arena = MadeUp()
    crown(champion, actor, 2.0, arena)
    play(champion, challenge(actor, 1, mean=3.0), arena)
    other = Champion(actor)
    other.load_state_dict(champion.state_dict())
    assert other.challenger.rest == (1, 2, 3, 4) and (to_vector(other.challenger.actor) == 3.0).all()
    play(other, challenge(actor, 1, mean=3.0), arena)
    assert other.record.generation == 1 and (to_vector(other.actor) == 3.0).all()
    assert champion.challenger is not None and champion.record.generation == 0
    assert champion.ask(challenge(actor, 2, n_episodes=0, mean=9.0), arena) == [] and champion.challenger is None


def test_the_agent_stands_in_with_as_much_as_the_champion(champion):
    assert not champion.is_overtaken(1e9)
    champion.record = ChampionRecord("mean", np.array([1.0, 3.0]), 0, np.arange(2))
    assert champion.is_overtaken(2.0) and not champion.is_overtaken(1.999) and not champion.is_overtaken(float("nan"))


def test_the_champion_is_a_copy(champion, actor):
    vector = to_vector(actor)
    step(champion, Challenge({"agent": vector}, actor, make_player(actor), 0, 0, 2, 10**6), MadeUp())
    with th.no_grad():
        for parameter in actor.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(to_vector(champion.actor), vector)
    assert not hasattr(champion.actor, "optimizer") or champion.actor.optimizer is None
