"""The champion: the best policy so far, found by noise-free paired episodes, and what ``predict`` plays."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from helpers import DEVICE
from stable_baselines3.common.callbacks import BaseCallback
from support import Walk, tiny, vec, walks

from sb3_esac import ESAC
from sb3_esac.agent.learner import LEVEL_EPISODES
from sb3_esac.champion import PROBE_FRACTION, Challenge, Champion, ChampionRecord
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def deterministic(policy):
    return policy.predict(OBSERVATIONS, deterministic=True)[0]


def probe_seeds(model, first=0, n_episodes=None):
    numbers = range(first, first + (n_episodes or model.champion_episodes))
    return [episode_seed(model.run_seed, 0, Stream.PROBE_EPISODE, k) for k in numbers]


def play(policy, seed, **kwargs):
    """Return of one episode without noise."""
    env = Walk(**kwargs)
    observation, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.predict(observation, deterministic=True)[0])
        total, over = total + reward, terminated or truncated
    return total


# -- the rule -----------------------------------------------------------------------------------------------------------


class MadeUp:
    """
    An arena whose episodes last one step, and whose returns are made up.

    A vector's return is its first entry and the luck of the episode, which all have in common.
    """

    mean_length, probe_length, probe_timesteps = 1.0, 1.0, 0

    def __init__(self, luck=lambda number: 0.0, own=lambda skill, number: 0.0):
        self.luck, self.own = luck, own
        self.played = []
        self.caps = SimpleNamespace(whole_length=0.0)
        self.numbers = {episode_seed(0, 0, Stream.PROBE_EPISODE, number): number for number in range(300)}

    def request(self, vectors, seeds, player, *, first, whole):
        assert whole and seeds.shape[0] == len(vectors)
        return vectors[:, 0], np.vectorize(self.numbers.__getitem__)(seeds)

    def play(self, request, on_step, *, is_probe):
        assert is_probe
        skills, numbers = request
        self.played += [(float(skill), [int(n) for n in row]) for skill, row in zip(skills, numbers, strict=True)]
        self.probe_timesteps += numbers.size
        returns = [[s + self.luck(n) + self.own(s, n) for n in row] for s, row in zip(skills, numbers, strict=True)]
        return SimpleNamespace(returns=np.array(returns), lengths=np.ones(numbers.shape)) if on_step({}) else None


@pytest.fixture
def actor():
    return tiny(vec(1)).actor


@pytest.fixture
def champion(actor):
    return Champion(actor)


def challenge(actor, generation, n_episodes=5, timesteps=10**6, **skills):
    vectors = {source: np.full(to_vector(actor).size, skill, np.float32) for source, skill in skills.items()}
    return Challenge(vectors, actor, generation, 0, n_episodes, timesteps)


def yes(variables):
    return True


def crown(champion, actor, skill, arena, generation=0):
    """Make a champion that has played five episodes, from 0 on."""
    champion.step(challenge(actor, generation, agent=skill), arena, yes)
    champion.record = replace(
        champion.record, returns=np.array([skill + arena.luck(n) + arena.own(skill, n) for n in range(5)])
    )


def test_the_first_candidate_becomes_champion(champion, actor):
    arena = MadeUp(luck=float)
    assert champion.step(challenge(actor, 0, agent=2.0), arena, yes).defeated is None
    assert champion.record.source == "agent" and champion.record.generation == 0 and champion.record.first == 0
    assert champion.record.returns.tolist() == [2.0] and champion.record.return_mean == 2.0
    assert (to_vector(champion.actor) == 2.0).all() and arena.played == [(2.0, [0])]
    # It plays one more at each probe, and whoever takes its place all of them.
    assert champion.step(challenge(actor, 1, mean=-5.0), arena, yes).defeated == "mean"
    assert champion.record.returns.tolist() == [2.0, 3.0] and champion.record.first == 0
    champion.step(challenge(actor, 2, mean=2.0), arena, yes)
    assert champion.record.returns.tolist() == [2.0, 3.0, 4.0, 5.0, 6.0] and champion.record.return_mean == 4.0


def test_all_open_and_the_best_plays_what_the_champion_has_played(champion, actor):
    arena = MadeUp(luck=lambda number: 10.0 * (number % 2))
    crown(champion, actor, 2.0, arena)
    arena.played.clear()
    verdict = champion.step(challenge(actor, 1, agent=1.0, mean=3.0, winner=2.5), arena, yes)
    # The champion's new episode, then one of each candidate, then the rest of the best one's.
    assert arena.played == [(2.0, [5]), (1.0, [1]), (3.0, [1]), (2.5, [1]), (3.0, [2, 3, 4, 5])]
    assert verdict.defeated is None and champion.record.source == "mean" and champion.record.generation == 1
    assert champion.record.returns.tolist() == [13.0, 3.0, 13.0, 3.0, 13.0], "the luck of an episode is the same for both"


def test_among_equals_the_most_trusted_one_challenges(champion, actor):
    champion.step(challenge(actor, 0, agent=2.0, mean=2.0, winner=2.0), MadeUp(), yes)
    assert champion.record.source == "agent"


def test_worse_does_not_replace(champion, actor):
    arena = MadeUp(luck=lambda number: 0.1 * number)
    crown(champion, actor, 5.0, arena)
    verdict = champion.step(challenge(actor, 1, agent=4.99, mean=0.0), arena, yes)
    assert verdict.goes_on and verdict.defeated == "agent" and champion.record.generation == 0


def test_one_lucky_episode_is_not_enough(champion, actor):
    arena = MadeUp(own=lambda skill, number: 2.0 if skill == 1.0 and number == 1 else 0.0)
    crown(champion, actor, 2.0, arena)
    # 3 in the first of five, and 1 in the others.
    assert champion.step(challenge(actor, 1, agent=0.0, mean=1.0), arena, yes).defeated == "mean"
    assert arena.played[-1] == (1.0, [2, 3, 4, 5])


@pytest.mark.parametrize(("errors_behind", "better"), [(0.49, False), (0.51, True), (0.0, False), (-3.0, False), (5.0, True)])
def test_as_good_is_within_half_of_the_standard_error_of_the_difference(champion, errors_behind, better):
    difference = np.array([1.0, -1.0, 2.0, -2.0, 0.0])
    error = difference.std() / np.sqrt(5)
    champion.record = ChampionRecord("mean", np.array([100.0, 10.0, -50.0, 3.0, 0.0]), 0, 0)
    # What both have in common, the luck of an episode, does not count.
    assert champion.is_clearly_better(champion.record.returns - difference - errors_behind * error) == better


def test_only_what_both_have_played_is_compared(champion):
    champion.record = ChampionRecord("mean", np.array([1.0, 2.0, 3.0]), 0, 0)
    assert not champion.is_clearly_better(np.array([1.0, 2.0, 3.0, -1e9]))
    assert champion.is_clearly_better(np.array([0.0, 1.5]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_never_wins(champion, actor, bad):
    broken = MadeUp(own=lambda skill, number: bad if skill == 9.0 else 0.0)
    assert champion.step(challenge(actor, 0, agent=9.0), broken, yes).defeated == "agent" and champion.record is None
    champion.step(challenge(actor, 1, agent=9.0, mean=1.0), broken, yes)
    assert champion.record.source == "mean"
    late = MadeUp(own=lambda skill, number: bad if skill == 9.0 and number == 3 else 0.0)
    assert champion.step(challenge(actor, 2, agent=9.0), late, yes).defeated == "agent"
    assert champion.record.source == "mean"


def test_an_episode_of_the_champion_that_is_not_finite_changes_nothing(champion, actor):
    champion.step(challenge(actor, 0, agent=2.0), MadeUp(), yes)
    before = champion.record
    champion.step(challenge(actor, 1, agent=0.0), MadeUp(own=lambda skill, number: np.nan if number == 1 else 0.0), yes)
    assert champion.record is before


def test_who_opens_below_the_champions_worst_plays_no_more(champion, actor):
    champion.record = ChampionRecord("mean", np.array([5.0, 7.0, 6.0]), 0, 0)
    arena = MadeUp()
    assert champion.step(challenge(actor, 1, n_episodes=3, agent=-4.0, mean=-9.0), arena, yes).defeated == "agent"
    assert [numbers for _, numbers in arena.played] == [[3], [1], [1]]
    for skill, plays_on in ((5.99, False), (6.0, True)):
        champion.record = ChampionRecord("mean", np.array([5.0, 7.0, 6.0]), 0, 0)
        # The champion's new episode is a 6, in place of the 5.
        arena = MadeUp(own=lambda skill, number: 6.0 - skill if number == 3 and skill < 5 else 0.0)
        champion._probed_generation = -1
        champion.step(challenge(actor, 2, n_episodes=3, agent=skill), arena, yes)
        assert (arena.played[-1][1] == [2, 3]) == plays_on


def test_a_champion_by_luck_does_not_stay_one(champion, actor):
    lucky = MadeUp(own=lambda skill, number: 4.0 if number < 5 else 0.0)
    crown(champion, actor, 5.0, lucky)
    assert champion.record.returns.tolist() == [9.0] * 5
    for generation in range(1, 6):
        champion.step(challenge(actor, generation, mean=-50.0), lucky, yes)
        assert champion.record.returns.tolist() == [9.0] * (5 - generation) + [5.0] * generation
        assert champion.record.first == generation
    champion.step(challenge(actor, 7, mean=6.0), MadeUp(), yes)
    assert champion.record.source == "mean"


@pytest.mark.parametrize(("n_episodes", "kept"), [(2, 2), (3, 3), (8, 4)])
def test_the_number_of_episodes_may_change(champion, actor, n_episodes, kept):
    champion.record = ChampionRecord("mean", np.array([0.0, 0.0, 0.0]), 0, 4)
    champion.step(challenge(actor, 1, n_episodes=n_episodes, mean=-1.0), MadeUp(), yes)
    # It has played the episodes 4, 5, 6, and now 7.
    assert champion.record.returns.size == kept and champion.record.first == 8 - kept


def test_probes_take_a_fraction_of_all_steps(champion, actor):
    def is_played(timesteps, probed, record=None, **skills):
        champion.record, arena = record, MadeUp()
        arena.probe_timesteps = probed
        champion._probed_generation = -1
        champion.step(challenge(actor, 1, timesteps=timesteps, **skills), arena, yes)
        return bool(arena.played)

    # One episode of each for the first champion: 3 / (3 + 17) is 0.15.
    assert not is_played(16, 0, agent=1.0, mean=1.0, winner=1.0) and is_played(17, 0, agent=1.0, mean=1.0, winner=1.0)
    # Later one of the champion, one of each, and four of the best.
    record = ChampionRecord("mean", np.zeros(5), 0, 0)
    assert not is_played(33, 0, record, agent=1.0) and is_played(34, 0, record, agent=1.0)
    assert not is_played(1000, 150, record, agent=1.0) and is_played(1000, 140, record, agent=1.0)


def test_a_generation_is_probed_once_and_not_before_it_has_played(champion, actor):
    arena = MadeUp()
    champion.step(challenge(actor, 3, agent=1.0), arena, yes)
    n_played = len(arena.played)
    champion.step(challenge(actor, 3, agent=9.0), arena, yes)
    assert len(arena.played) == n_played
    champion.step(challenge(actor, 4, n_episodes=0, agent=9.0), arena, yes)
    arena.mean_length = 0.0
    champion.step(challenge(actor, 4, agent=9.0), arena, yes)
    assert len(arena.played) == n_played and champion.record.return_mean == 1.0


@pytest.mark.parametrize("n_calls", range(3))
def test_a_callback_may_stop_at_each_point_of_a_probe(champion, actor, n_calls):
    champion.step(challenge(actor, 0, agent=1.0), MadeUp(), yes)
    answers = iter([True] * n_calls + [False])
    assert not champion.step(challenge(actor, 1, agent=2.0), MadeUp(), lambda variables: next(answers)).goes_on
    assert champion.record.generation == 0


def test_the_agent_stands_in_with_as_much_as_the_champion(champion):
    assert not champion.is_overtaken(1e9)
    champion.record = ChampionRecord("mean", np.array([1.0, 3.0]), 0, 0)
    assert champion.is_overtaken(2.0) and not champion.is_overtaken(1.999) and not champion.is_overtaken(float("nan"))


def test_the_champion_is_a_copy(champion, actor):
    vector = to_vector(actor)
    champion.step(Challenge({"agent": vector}, actor, 0, 0, 2, 10**6), MadeUp(), yes)
    with th.no_grad():
        for parameter in actor.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(to_vector(champion.actor), vector)
    assert not hasattr(champion.actor, "optimizer") or champion.actor.optimizer is None


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_probes_share_their_seeds():
    env = vec(1)
    model = tiny(env, champion_episodes=3).learn(1500)
    numbers = {seed: number for number, seed in enumerate(probe_seeds(model, n_episodes=1000))}
    probes = [numbers[seed] for seed in walks(env)[0].episode_seeds if seed in numbers]
    # Agent, mean and winner open; then the champion's new one, and others begin where its record begins.
    assert probes[:7] == [0, 0, 0, 1, 0, 0, 0]
    assert max(probes) >= 4 and sorted(set(probes)) == list(range(max(probes) + 1))


def test_record_is_what_the_champion_plays():
    model = tiny(vec(1), champion_episodes=4).learn(1500)
    assert model.champion.record.source in ("agent", "mean", "winner")
    assert model.champion.record.returns.shape == (4,), "not the return of one episode"
    played = [play(model.champion.actor, seed) for seed in probe_seeds(model, model.champion.record.first)]
    np.testing.assert_allclose(model.champion.record.returns, played, rtol=1e-4, atol=1e-4)


def test_champion_is_not_the_luckiest_member(monkeypatch):
    """Fitness from one noisy episode is inflated by luck, the champion's return is not."""
    seen = []
    original = ESAC._play_and_select

    def watch(self, *args):
        selection = original(self, *args)
        seen.append(selection.fitness)
        return selection

    monkeypatch.setattr(ESAC, "_play_and_select", watch)
    model = tiny(vec(1), champion_episodes=5, agent_fraction=0.1).learn(800)
    best_of_all = np.concatenate(seen).max()
    assert len(np.concatenate(seen)) > 50
    returns = [play(model.champion.actor, 10_000 + k) for k in range(30)]
    assert best_of_all > model.champion.record.return_mean
    assert abs(model.champion.record.return_mean - np.mean(returns)) < 3 * np.std(returns) / np.sqrt(5)


def test_later_training_leaves_the_champion_alone(monkeypatch):
    model = tiny(vec(1)).learn(400)
    assert model.champion.record is not None
    before, generation = deterministic(model.champion.actor), model.champion.record.generation
    agent = to_vector(model.actor)
    monkeypatch.setattr(Champion, "is_clearly_better", lambda self, returns: True)
    model.learn(600, reset_num_timesteps=False)
    assert not np.array_equal(to_vector(model.actor), agent)
    np.testing.assert_array_equal(deterministic(model.champion.actor), before)
    assert model.champion.record.generation == generation and model.champion.record.first > 0


@pytest.mark.parametrize("n_envs", [1, 2])
def test_probe_steps_are_counted(n_envs):
    env = vec(n_envs)
    model = tiny(env, champion_episodes=3).learn(700)
    assert sum(walk.n_steps for walk in walks(env)) == model.num_timesteps
    assert model.num_timesteps == model.agent_timesteps + model.population_timesteps
    if n_envs == 1:
        seeds = set(probe_seeds(model, n_episodes=1000))
        played = [
            rewards for seed, rewards in zip(walks(env)[0].episode_seeds, walks(env)[0].rewards, strict=True) if seed in seeds
        ]
        assert 0 < model.probe_timesteps == sum(map(len, played))
    assert 0 < model.probe_timesteps < model.population_timesteps


def test_probe_steps_are_bounded():
    model = tiny(vec(1), champion_episodes=5).learn(3000)
    # An episode may be longer than the generation's were.
    assert 0.05 < model.probe_timesteps / model.num_timesteps <= PROBE_FRACTION + 0.02


def test_an_unchanged_population_is_not_probed_again():
    env = vec(1)
    model = tiny(env).learn(300)
    steps = model.num_timesteps
    model.learn(0, reset_num_timesteps=False)
    assert model.num_timesteps == steps == walks(env)[0].n_steps


def test_no_champion():
    model = tiny(vec(1), champion_episodes=0).learn(200)
    assert model.champion.record is None and model.probe_timesteps == 0
    played, _ = model.predict(OBSERVATIONS, deterministic=True)
    np.testing.assert_array_equal(played, deterministic(model.learner.averaged.actor))


def test_callback_may_stop_in_the_middle_of_a_probe():
    class Stop(BaseCallback):
        def _on_step(self):
            return not (self.model.num_timesteps > 100 and self.model.champion._probed_generation >= 0)

    env = vec(1)
    model = tiny(env).learn(2000, callback=Stop())
    assert 100 < model.num_timesteps < 800
    assert model.num_timesteps == walks(env)[0].n_steps


# -- deploy -------------------------------------------------------------------------------------------------------------


def test_deploy():
    model = tiny(vec(1), deploy="best").learn(400)
    model.learner.withdraw()
    champion, agent = deterministic(model.champion.actor), deterministic(model.learner.averaged.actor)
    mean = deterministic(model._policy_of_mean())
    assert not np.allclose(agent, mean)
    np.testing.assert_array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], champion)
    assert model.deployed_policy is model.champion.actor
    model.deploy = "agent"
    np.testing.assert_array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], agent)
    model.deploy = "population"
    np.testing.assert_array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], mean)
    np.testing.assert_array_equal(to_vector(model.deployed_policy), model.population.mean)
    model.population.set_mean(model.population.mean + 1)
    assert not np.array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], mean), "the mean of the moment is played"
    with pytest.raises(ValueError, match=r"`deploy` must be one of .*'champion'"):
        tiny(vec(1), deploy="champion")


def test_agent_stands_in_when_it_has_overtaken_the_champion():
    model = tiny(vec(1), deploy="best").learn(400)
    for behind, standing_in in ((0.0, True), (-1.0, True), (0.01, False), (float("nan"), False)):
        model.learner.level = model.champion.record.return_mean - behind
        assert (model.deployed_policy is model.learner.averaged.actor) == standing_in


def test_random_episodes_tell_nothing_of_the_agent():
    """Before learning starts its actions are random."""
    model = tiny(vec(1), agent_fraction=0.9, learning_starts=400)
    steps = model.learn(300).agent_timesteps
    assert 0 < steps < 400 and np.isnan(model.learner.level)
    model.arena.base.finished[:] = [(9.0, 1), (1.0, 1)]
    model.learner._n_random_episodes = 2
    model.learner._note_level()
    assert np.isnan(model.learner.level)
    model.learner._n_random_episodes = 1
    model.learner._note_level()
    assert model.learner.level == 1.0
    assert np.isfinite(model.learn(1200).learner.level)


def test_agent_that_was_probed_and_lost_stands_in_no_longer(monkeypatch):
    """Whatever its last episodes were worth."""
    model = tiny(vec(1), deploy="best", agent_fraction=0.5).learn(400)
    monkeypatch.setattr(ESAC, "_candidates", lambda self: {"agent": self.learner.vector})
    monkeypatch.setattr(Champion, "is_clearly_better", lambda self, returns: True)
    levels = []
    original = Champion.step

    def promise(self, *args):
        model.learner.level = 1e9
        verdict = original(self, *args)
        levels.append((verdict.defeated, model.deployed_policy is model.champion.actor))
        return verdict

    monkeypatch.setattr(Champion, "step", promise)

    class Watch(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_start(self):
            # The next generation begins: what the probe has shown is known.
            if levels and levels[-1][0] == "agent":
                assert np.isnan(model.learner.level) and model.deployed_policy is model.champion.actor
                levels.append(("seen", True))

    model.learn(1500, callback=Watch(), reset_num_timesteps=False)
    assert ("seen", True) in levels


def test_best_is_the_agent_until_there_is_a_champion():
    model = tiny(vec(1))
    assert model.champion.record is None
    np.testing.assert_array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], deterministic(model.agent.policy))


def test_champion_is_saved_and_loaded(tmp_path):
    model = tiny(vec(1)).learn(400)
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", device=DEVICE)
    assert loaded.champion.record.source == model.champion.record.source
    np.testing.assert_array_equal(loaded.champion.record.returns, model.champion.record.returns)
    np.testing.assert_array_equal(deterministic(loaded.champion.actor), deterministic(model.champion.actor))
    assert not np.array_equal(to_vector(loaded.champion.actor), to_vector(loaded.actor))
    assert loaded.probe_timesteps == model.probe_timesteps
    assert loaded.champion.state_dict()["_probed_generation"] == model.champion.state_dict()["_probed_generation"] >= 0


def test_the_agent_is_judged_by_its_last_episodes_while_it_plays():
    class Watch(BaseCallback):
        def _on_training_start(self):
            self.levels, self.agent_timesteps = [], 0

        def _on_step(self):
            model = self.model
            is_agent, self.agent_timesteps = model.agent_timesteps > self.agent_timesteps, model.agent_timesteps
            returns = [episode_return for episode_return, _ in model.arena.base.finished]
            if is_agent and len(returns) > LEVEL_EPISODES:
                # The step that ends an episode is told of before the episode is judged.
                values = [np.mean(returns[-LEVEL_EPISODES:]), np.mean(returns[-LEVEL_EPISODES - 1 : -1])]
                self.levels.append((model.learner.level, values))
            return True

    watch = Watch()
    model = tiny(vec(1), agent_fraction=0.9, learning_starts=0).learn(1200, callback=watch)
    assert len({level for level, _ in watch.levels}) > 10
    assert all(any(level == pytest.approx(value) for value in values) for level, values in watch.levels)
    assert np.isfinite(model.learner.level)
