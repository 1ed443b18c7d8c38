"""The champion: the best policy so far, found by noise-free paired episodes, and what ``predict`` plays."""

import numpy as np
import pytest
from helpers import DEVICE
from stable_baselines3.common.callbacks import BaseCallback
from support import Walk, tiny, vec, walks

from sb3_esac import ESAC
from sb3_esac.agent.learner import LEVEL_EPISODES
from sb3_esac.champion import PROBE_FRACTION, Champion
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def deterministic(policy):
    return policy.predict(OBSERVATIONS, deterministic=True)[0]


def probe_seeds(model, numbers):
    return [episode_seed(model.run_seed, 0, Stream.PROBE_EPISODE, k) for k in numbers]


def play(policy, seed, **kwargs):
    """Return of one episode without noise."""
    env = Walk(**kwargs)
    observation, total, over = env.reset(seed=seed)[0], 0.0, False
    while not over:
        observation, reward, terminated, truncated, _ = env.step(policy.predict(observation, deterministic=True)[0])
        total, over = total + reward, terminated or truncated
    return total


# -- in a run -----------------------------------------------------------------------------------------------------------


def test_probes_share_their_seeds():
    env = vec(1)
    model = tiny(env, champion_episodes=3).learn(1500)
    numbers = {seed: number for number, seed in enumerate(probe_seeds(model, range(1000)))}
    probes = [numbers[seed] for seed in walks(env)[0].episode_seeds if seed in numbers]
    # Agent, mean and winner open; next time the champion and they play a new one, and the best of them the rest.
    assert probes[:7] == [0, 0, 0, 1, 1, 1, 1] and probes[7] in (0, 2)
    assert max(probes) >= 4 and sorted(set(probes)) == list(range(max(probes) + 1))


def test_record_is_what_the_champion_plays():
    model = tiny(vec(1), champion_episodes=4).learn(1500)
    assert model.champion.record.source in ("agent", "mean", "winner")
    assert model.champion.record.returns.shape == (4,), "not the return of one episode"
    played = [play(model.champion.actor, seed) for seed in probe_seeds(model, model.champion.record.numbers)]
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
    monkeypatch.setattr(Champion, "is_clearly_better", lambda self, numbers, returns: True)
    model.learn(600, reset_num_timesteps=False)
    assert not np.array_equal(to_vector(model.actor), agent)
    np.testing.assert_array_equal(deterministic(model.champion.actor), before)
    assert model.champion.record.generation == generation and model.champion.record.numbers.min() > 0


@pytest.mark.parametrize("n_envs", [1, 2])
def test_probe_steps_are_counted(n_envs):
    env = vec(n_envs)
    model = tiny(env, champion_episodes=3).learn(700)
    assert sum(walk.n_steps for walk in walks(env)) == model.num_timesteps
    assert model.num_timesteps == model.agent_timesteps + model.population_timesteps
    if n_envs == 1:
        seeds = set(probe_seeds(model, range(1000)))
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
            return not (self.model.num_timesteps > 100 and self.model.probe_timesteps > 0)

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
    monkeypatch.setattr(Champion, "is_clearly_better", lambda self, numbers, returns: True)
    levels = []
    original = Champion.tell

    def promise(self, *args):
        model.learner.level = 1e9
        defeated = original(self, *args)
        levels.append((defeated, model.deployed_policy is model.champion.actor))
        return defeated

    monkeypatch.setattr(Champion, "tell", promise)

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
