"""The champion: the best policy so far, found by noise-free re-evaluation, and what ``predict`` plays."""

from dataclasses import replace

import numpy as np
import pytest
import torch as th
from helpers import DEVICE
from sb3_esac.hybrid import LEVEL_EPISODES, HybridAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from support import Walk, tiny, vec, walks

from sb3_esac import ESAC
from sb3_esac.champion import FINAL_PROBE_FRACTION, PROBE_FRACTION, TREND_MEMORY, Candidate, Champion, ChampionRecord
from sb3_esac.evaluation.vectors import load_vector, to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def record(*returns, source="agent", generation=0):
    return ChampionRecord(source, np.array(returns, dtype=float), generation)


def challenge(champion, actor, vector, record):
    """Take the champion's place unless it is clearly better; whether that was done."""
    if champion.is_clearly_better(record):
        return False
    champion.crown(actor, vector, record)
    return True


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


@pytest.fixture
def actor():
    return tiny(vec(1)).actor


def test_first_candidate_becomes_champion(actor):
    champion = Champion(actor)
    assert champion.record is None and champion.deserves_probe(record(-1e9))
    vector = to_vector(actor) + 1
    assert challenge(champion, actor, vector, record(1.0, 2.0))
    np.testing.assert_array_equal(to_vector(champion.actor), vector)
    assert champion.record.return_mean == 1.5


def test_who_has_improved_is_worth_a_probe_unless_out_of_reach(actor):
    champion = Champion(actor)
    candidate = Candidate(to_vector(actor), 1.0, 9.0)

    def is_promising(generation=3, **changes):
        return bool(champion.promising({"mean": replace(candidate, **changes)}, generation))

    assert is_promising()
    challenge(champion, actor, to_vector(actor), record(5.0, 5.0))
    champion.trends["mean"] = (1.0, 2)
    assert not is_promising()
    # The population gets better while its best member stays where luck had it long ago
    assert is_promising(trend=2.0)
    assert not is_promising(trend=2.0, bound=4.0) and not is_promising(trend=float("nan"))
    # What was seen may have been luck as well
    assert not is_promising(1 + TREND_MEMORY) and is_promising(2 + TREND_MEMORY)
    champion.forget("mean")
    assert is_promising()


def test_the_agent_is_looked_at_in_every_generation(actor):
    champion = Champion(actor)
    candidates = {source: Candidate(to_vector(actor), 1.0) for source in ("agent", "mean")}
    challenge(champion, actor, to_vector(actor), record(5.0, 5.0))
    assert set(champion.promising(candidates, 3)) == {"agent", "mean"}
    champion.remember(candidates, 3)
    assert set(champion.promising(candidates, 4)) == {"agent"}
    # It has been defeated, and nothing has come of it since.
    candidates["agent"] = replace(candidates["agent"], trend=float("nan"))
    assert not champion.promising(candidates, 5)


def test_the_typical_member_is_the_trend_and_the_best_the_bound():
    model = tiny(vec(1), champion_episodes=0)
    model.learn(200)
    typical, best = model.arena.member_returns
    assert typical < best
    assert {(c.trend, c.bound) for s, c in model._candidates().items() if s != "agent"} == {(typical, best)}


def test_better_replaces_and_worse_does_not(actor):
    champion = Champion(actor)
    vector = to_vector(actor)
    challenge(champion, actor, vector, record(5.0, 6.0, 7.0))
    assert not challenge(champion, actor, vector + 1, record(1.0, 2.0, 3.0, source="mean"))
    np.testing.assert_array_equal(to_vector(champion.actor), vector)
    assert champion.record.source == "agent"
    assert challenge(champion, actor, vector + 2, record(8.0, 9.0, 10.0, source="winner", generation=4))
    np.testing.assert_array_equal(to_vector(champion.actor), vector + 2)
    assert (champion.record.source, champion.record.generation) == ("winner", 4)


def test_one_lucky_episode_is_not_enough(actor):
    champion = Champion(actor)
    vector = to_vector(actor)
    challenge(champion, actor, vector, record(5.0, 5.1, 4.9))
    # Its best episode is far better than anything that the champion has played.
    assert not challenge(champion, actor, vector + 1, record(20.0, -40.0, -41.0))
    np.testing.assert_array_equal(to_vector(champion.actor), vector)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_return_that_is_not_finite_never_wins(actor, bad):
    champion = Champion(actor)
    assert not champion.deserves_probe(record(bad))
    assert not challenge(champion, actor, to_vector(actor), record(1.0, bad))
    assert champion.record is None


def test_hopeless_candidates_are_not_probed_further(actor):
    champion = Champion(actor)
    challenge(champion, actor, to_vector(actor), record(5.0, 6.0, 7.0))
    assert champion.deserves_probe(record(6.5)) and not champion.deserves_probe(record(-100.0))


def test_champion_is_a_copy(actor):
    champion = Champion(actor)
    challenge(champion, actor, to_vector(actor), record(1.0))
    before = to_vector(champion.actor)
    with th.no_grad():
        for parameter in actor.parameters():
            parameter.add_(1.0)
    np.testing.assert_array_equal(to_vector(champion.actor), before)
    load_vector(champion.actor, before + 3)
    assert not np.allclose(to_vector(actor), before + 3)
    assert not hasattr(champion.actor, "optimizer") or champion.actor.optimizer is None


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_probes_share_their_seeds():
    env = vec(1)
    model = tiny(env, champion_episodes=3).learn(1500)
    numbers = {seed: number for number, seed in enumerate(probe_seeds(model, n_episodes=1000))}
    probes = [numbers[seed] for seed in walks(env)[0].episode_seeds if seed in numbers]
    # Agent, mean and winner begin with the same episode, which is all that there are steps for. In each later probe the
    # champion first plays an episode that is new, and others begin where its record begins: at the first until it is full.
    assert probes[:9] == [0, 0, 0, 1, 0, 2, 0, 1, 2] and probes[9:11] == [3, 1]
    assert max(probes) >= 4 and sorted(set(probes)) == list(range(max(probes) + 1))
    assert [number for index, number in enumerate(probes) if number not in probes[:index]] == sorted(set(probes))


def test_a_champion_by_luck_does_not_stay_one(actor):
    champion = Champion(actor)
    assert champion.n_defences(10) == 0
    challenge(champion, actor, to_vector(actor), record(9.0, 9.0, 9.0, 9.0, 9.0))
    assert [champion.n_defences(n) for n in (1, 5, 9, 10)] == [1, 1, 1, 2]
    ordinary = record(6.0, 6.0, 6.0, 6.0, 6.0)
    assert champion.is_clearly_better(ordinary)
    for left in (4, 3, 2, 1, 0):
        champion.defend(np.array([5.0]), 5)
        assert champion.record.returns.tolist() == [9.0] * left + [5.0] * (5 - left)
    assert champion.record.first == 5 and not champion.is_clearly_better(ordinary)
    champion.defend(np.array([np.nan]), 5)
    assert champion.record.first == 5 and champion.record.return_mean == 5.0


def test_a_short_record_loses_nothing_until_it_is_full(actor):
    champion = Champion(actor)
    challenge(champion, actor, to_vector(actor), record(1.0, 2.0))
    champion.defend(np.array([3.0]), 3)
    assert champion.record.returns.tolist() == [1.0, 2.0, 3.0] and champion.record.first == 0
    champion.defend(np.array([4.0, 5.0]), 3)
    assert champion.record.returns.tolist() == [3.0, 4.0, 5.0] and champion.record.first == 2
    # A record that was made with more episodes keeps its size.
    champion.defend(np.array([6.0]), 1)
    assert champion.record.returns.tolist() == [4.0, 5.0, 6.0] and champion.record.first == 3


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_one_percent_counts_for_the_agent(actor, sign):
    champion = Champion(actor)
    challenge(champion, actor, to_vector(actor), record(*[sign * 1000.0] * 5, source="mean"))
    nearly, behind = [sign * 1000.0 - 9.0] * 5, [sign * 1000.0 - 11.0] * 5
    for source, returns, deserves in (("agent", nearly, True), ("agent", behind, False), ("winner", nearly, False)):
        assert champion.deserves_probe(record(returns[0], source=source)) == deserves
        assert champion.is_clearly_better(record(*returns, source=source)) != deserves
    challenge(champion, actor, to_vector(actor), record(*[sign * 1000.0] * 5, source="agent"))
    for source, ahead, wins in (("mean", 9.0, False), ("mean", 11.0, True), ("agent", 1.0, True)):
        challenger = record(*[sign * 1000.0 + ahead] * 5, source=source)
        assert champion.deserves_probe(challenger) and champion.is_clearly_better(challenger) != wins


def test_the_first_champion_needs_what_there_is_to_play_it(monkeypatch):
    found = []
    crown = Champion.crown

    def spy(champion, actor, vector, record):
        found.append((model.probe_timesteps, model.num_timesteps, record))
        crown(champion, actor, vector, record)

    monkeypatch.setattr(Champion, "crown", spy)
    model = tiny(vec(1), champion_episodes=30)
    model.learn(4000)
    (probed, played, first), *others = found
    assert 1 <= first.returns.size < 30 and probed <= PROBE_FRACTION * played
    assert all(record.returns.size == 30 for *_, record in others)
    # It plays as many as the others had to before anything of it is forgotten.
    assert first.first == 0 and model.champion.record.returns.size > first.returns.size


def test_record_is_what_the_champion_plays():
    model = tiny(vec(1), champion_episodes=4).learn(1000)
    assert model.champion.record.source in ("agent", "mean", "winner")
    assert model.champion.record.returns.shape == (4,), "not the return of one episode"
    played = [play(model.champion.actor, seed) for seed in probe_seeds(model, model.champion.record.first)]
    np.testing.assert_allclose(model.champion.record.returns, played, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("champion_episodes", [1, 4, 5, 7])
def test_who_has_lost_after_five_episodes_plays_no_more(monkeypatch, champion_episodes):
    env = vec(1)
    model = tiny(env, champion_episodes=champion_episodes)
    judged = []

    def watch(self, record):
        judged.append(record.returns.size)
        # The first champion had less to play: whoever comes second beats it.
        return champion_episodes in judged[:-1]

    monkeypatch.setattr(Champion, "is_clearly_better", watch)
    model.learn(3000)
    assert model.champion.record.returns.size == champion_episodes
    stages = {1: set(), 4: {4}, 5: {5}, 7: {5, 7}}[champion_episodes]
    assert set(judged) == stages
    if champion_episodes == 7:
        assert judged.count(5) > judged.count(7) == 1
        # Of later challengers none gets beyond its fifth episode: what is new there is played by the champion alone.
        last = model.champion.record.first + 6
        played = [walks(env)[0].episode_seeds.count(seed) for seed in probe_seeds(model, n_episodes=last + 2)]
        assert played[-3:] == [1, 1, 0]


def test_champion_is_not_the_luckiest_member(monkeypatch):
    """Fitness from one noisy episode is inflated by luck, the champion's return is not."""
    seen = []
    original = ESAC._fitness

    def watch(self, result):
        seen.append(original(self, result))
        return seen[-1]

    monkeypatch.setattr(ESAC, "_fitness", watch)
    model = tiny(vec(1), champion_episodes=5, agent_fraction=0.1).learn(800)
    best_of_all = np.concatenate(seen).max()
    assert len(np.concatenate(seen)) > 50
    returns = [play(model.champion.actor, 10_000 + k) for k in range(30)]
    assert best_of_all > model.champion.record.return_mean
    assert abs(model.champion.record.return_mean - np.mean(returns)) < 3 * np.std(returns) / np.sqrt(5)


def test_later_training_leaves_the_champion_alone(monkeypatch):
    model = tiny(vec(1)).learn(200)
    assert model.champion.record is not None
    before, generation = deterministic(model.champion.actor), model.champion.record.generation
    agent = to_vector(model.actor)
    monkeypatch.setattr(Champion, "deserves_probe", lambda self, first_return: False)
    model.learn(400, reset_num_timesteps=False)
    assert not np.array_equal(to_vector(model.actor), agent)
    np.testing.assert_array_equal(deterministic(model.champion.actor), before)
    assert model.champion.record.generation == generation and model.champion.record.first > 0


@pytest.mark.parametrize("n_envs", [1, 2])
def test_probe_steps_are_counted(n_envs):
    env = vec(n_envs)
    model = tiny(env, champion_episodes=3).learn(500)
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
    class Watch(BaseCallback):
        worst = 0.0

        def _on_step(self):
            # What ends the run may take more.
            if 40 <= self.num_timesteps < 1000:
                self.worst = max(self.worst, self.model.probe_timesteps / self.num_timesteps)
            return True

    watch = Watch()
    model = tiny(vec(1), champion_episodes=5).learn(1000, callback=watch)
    assert 0 < watch.worst <= PROBE_FRACTION + 1e-9
    assert model.probe_timesteps <= FINAL_PROBE_FRACTION * model.num_timesteps


def test_an_unchanged_population_is_not_probed_again():
    env = vec(1)
    model = tiny(env).learn(300)
    steps = model.num_timesteps
    model.learn(0, reset_num_timesteps=False)
    assert model.num_timesteps == steps == walks(env)[0].n_steps


def test_the_first_champion_comes_before_the_agents_first_interval(monkeypatch):
    """The agent has learned nothing until then, and its interval may be long; who it is by its end is probed, too."""
    events = []

    def spy(name):
        method = getattr(ESAC, name)

        def spied(model, *args):
            events.append((name, model.population.generation))
            return method(model, *args)

        monkeypatch.setattr(ESAC, name, spied)

    spy("_probe")
    spy("_gradient_interval")
    model = tiny(vec(1), population_size=20, agent_fraction=0.8, champion_episodes=2).learn(2500)
    first = ["_probe", "_gradient_interval", "_probe"]
    assert events[:4] == [*((name, 0) for name in first), ("_gradient_interval", 1)]
    assert model.num_timesteps == walks(model.env)[0].n_steps


def test_no_champion():
    model = tiny(vec(1), champion_episodes=0).learn(200)
    assert model.champion.record is None and model.probe_timesteps == 0
    np.testing.assert_array_equal(
        model.predict(OBSERVATIONS, deterministic=True)[0], deterministic(model.learner.averaged.actor)
    )


def test_callback_may_stop_in_the_middle_of_a_probe():
    class Stop(BaseCallback):
        def _on_step(self):
            return not (self.model.num_timesteps > 100 and self.model._probed_generation == self.model.population.generation)

    env = vec(1)
    model = tiny(env).learn(1000, callback=Stop())
    assert 100 < model.num_timesteps < 400
    assert model.num_timesteps == walks(env)[0].n_steps


# -- deploy -------------------------------------------------------------------------------------------------------------


def test_deploy(monkeypatch):
    model = tiny(vec(1), deploy="best").learn(300)
    monkeypatch.setattr(ESAC, "_is_overtaken", lambda self: False)
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
    model = tiny(vec(1), deploy="best").learn(300)
    # They were better here.
    model.learner._random_returns.clear()
    model.learner._level = model.champion.record.return_mean + 1
    assert model.deployed_policy is model.learner.averaged.actor
    # It explores, which costs something.
    mean = model.champion.record.return_mean
    for parts, standing_in in ((0.009, True), (0.011, False)):
        model.learner._level = mean - parts * abs(mean)
        assert (model.deployed_policy is model.learner.averaged.actor) == standing_in


def test_an_agent_that_shows_more_than_at_its_crowning_stands_in_for_it(actor):
    champion = Champion(actor)
    assert not champion.is_overtaken(1e9, 0.0)
    # Exploring, it had 80 when it had 100 without noise.
    crowned = replace(record(100.0, 100.0), trend=80.0)
    champion.crown(actor, to_vector(actor), crowned)
    for level, error, standing_in in ((81.0, 0.0, True), (84.0, 5.0, False), (86.0, 5.0, True), (80.0, 0.0, False)):
        assert champion.is_overtaken(level, error) == standing_in
    assert not champion.is_overtaken(float("nan"), 0.0)
    # It was probed at 90 and had become no better, so that 80 had been bad luck.
    champion.note_defeat(90.0)
    champion.note_defeat(85.0)
    champion.note_defeat(float("nan"))
    assert not champion.is_overtaken(89.0, 0.0) and champion.is_overtaken(91.0, 0.0)
    # With so much less than without noise, what is more than before tells nothing.
    champion.crown(actor, to_vector(actor), replace(crowned, trend=20.0))
    assert not champion.is_overtaken(70.0, 0.0) and champion.is_overtaken(76.0, 0.0)
    # What the agent shows compares with the return of others, not with what they have shown.
    for other in (replace(crowned, source="mean"), replace(crowned, trend=float("nan"))):
        champion.crown(actor, to_vector(actor), other)
        assert not champion.is_overtaken(98.0, 0.0) and champion.is_overtaken(99.5, 0.0)
    champion.crown(actor, to_vector(actor), replace(crowned, source="mean"))
    champion.note_defeat(90.0)
    assert champion.record.trend == 80.0, "what the mean had shown"


def test_the_agents_crowning_remembers_what_it_had_shown(monkeypatch):
    crowned = []
    crown = Champion.crown

    def spy(champion, actor, vector, record):
        crowned.append((record, model.learner._level))
        crown(champion, actor, vector, record)

    monkeypatch.setattr(Champion, "crown", spy)
    model = tiny(vec(1), agent_fraction=0.8)
    model.learn(1500)
    assert any(record.source == "agent" for record, _ in crowned)
    assert all(record.trend == level for record, level in crowned if record.source == "agent")
    model.arena.base.finished[:] = [(9.0, 1)] + [(value, 1) for value in (1.0, 1.0, 2.0, 3.0, 3.0)]
    model.learner._note_level()
    assert (model.learner._level, model.learner._error) == (2.0, pytest.approx(np.sqrt(0.8 / 5)))


def test_random_episodes_tell_nothing_of_the_agent():
    """Before learning starts its actions are random: neither does it stand in for the champion nor is it probed."""
    model = tiny(vec(1), agent_fraction=0.9, learning_starts=400)
    steps = model.learn(300).agent_timesteps
    assert 0 < steps < 400 and np.isnan(model.learner._level)
    assert "agent" not in model.champion.promising(model._candidates(), model.population.generation)
    model.arena.base.finished[:] = [(9.0, 1), (1.0, 1)]
    model.learner._n_random_episodes = 2
    model.learner._note_level()
    assert np.isnan(model.learner._level)
    model.learner._n_random_episodes = 1
    model.learner._note_level()
    assert model.learner._level == 1.0
    assert np.isfinite(model.learn(900).learner._level)
    assert len(model.learner._random_returns) >= 2 and np.isfinite(model.learner._random_returns).all()


def test_an_agent_that_explores_like_random_play_does_not_stand_in():
    model = tiny(vec(1), deploy="best", agent_fraction=0.9, learning_starts=100).learn(600)
    assert model.deployed_policy is model.champion.actor or model.learner._level > np.mean(model.learner._random_returns)
    model.learner._level, model.learner._error = model.champion.record.return_mean + 10, 2.0
    for random_return, standing_in in ((-13.0, True), (-8.0, True), (-7.9, True), (-2.1, True), (-2.0, False), (5.0, False)):
        model.learner._random_returns = [model.learner._level + random_return - 1, model.learner._level + random_return + 1]
        assert (model.deployed_policy is model.learner.averaged.actor) == standing_in


def test_agent_that_was_probed_and_lost_stands_in_no_longer(monkeypatch):
    """Whatever its last episodes were worth, and whoever had the better first episode in the probe."""
    model, judged = tiny(vec(1), deploy="best", agent_fraction=0.5), []

    def judge(self, record):
        judged.append((model._is_overtaken(), record.source))
        return self.record is not None

    monkeypatch.setattr(HybridAlgorithm, "learner._note_level", lambda self: setattr(self, "_agent_level", 1e9))
    monkeypatch.setattr(Champion, "is_clearly_better", judge)
    model.learn(600)
    assert {source for overtaken, source in judged if overtaken} == {"agent"}
    model.learner._level = 1e9
    model._note_defeat("mean")
    assert model.deployed_policy is model.learner.averaged.actor
    model._note_defeat("agent")
    assert model.deployed_policy is model.champion.actor


def test_best_is_the_agent_until_there_is_a_champion():
    model = tiny(vec(1))
    assert model.champion.record is None
    np.testing.assert_array_equal(model.predict(OBSERVATIONS, deterministic=True)[0], deterministic(model.agent.policy))


def test_champion_is_saved_and_loaded(tmp_path):
    model = tiny(vec(1)).learn(300)
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", device=DEVICE)
    assert loaded.champion.record.source == model.champion.record.source
    np.testing.assert_array_equal(loaded.champion.record.returns, model.champion.record.returns)
    np.testing.assert_array_equal(deterministic(loaded.champion.actor), deterministic(model.champion.actor))
    assert not np.array_equal(to_vector(loaded.champion.actor), to_vector(loaded.actor))
    assert loaded.probe_timesteps == model.probe_timesteps


@pytest.mark.parametrize("n_episodes", [1, 5])
def test_number_of_episodes_changes_on_load(n_episodes, tmp_path):
    tiny(vec(1), champion_episodes=3).learn(300).save(tmp_path / "model.zip")
    model = ESAC.load(tmp_path / "model.zip", env=vec(1), device=DEVICE, champion_episodes=n_episodes)
    model.champion.record = record(*[-1e6] * 3)
    model.learn(400, reset_num_timesteps=False)
    assert model.champion.record.returns.shape == (n_episodes,)
    assert model.champion.record.return_mean > -1e6


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
                self.levels.append((model.learner._level, values))
            return True

    watch = Watch()
    model = tiny(vec(1), agent_fraction=0.9, learning_starts=0).learn(1200, callback=watch)
    assert len({level for level, _ in watch.levels}) > 10
    assert all(any(level == pytest.approx(value) for value in values) for level, values in watch.levels)
    assert np.isfinite(model.learner._level)
