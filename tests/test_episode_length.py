"""Offspring whose episodes are cut short by a schedule."""

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, make_model
from stable_baselines3.common.callbacks import BaseCallback

from sb3_esac import ES, ESAC


class Count(gym.Env):
    """Ends after 20 steps and pays 1 for each."""

    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(2, self.steps / 20, np.float32), 1.0, self.steps == 20, False, {}


class Dones(BaseCallback):
    """Writes down who ended an episode after how many steps, and whether it was a truncation."""

    def __init__(self):
        super().__init__()
        self.episodes, self.length = [], 0

    def _on_step(self):
        self.length += 1
        if self.locals["dones"][0]:
            truncated = bool(self.locals["infos"][0]["TimeLimit.truncated"])
            self.episodes.append((self.model.agent_timesteps, self.length, truncated))
            self.length = 0
        return True


@pytest.mark.parametrize("overlap", [False, True])
def test_the_schedule_cuts_offspring_and_nobody_else(overlap):
    def schedule(remaining):
        return 5 if remaining > 0.5 else 50

    callback = Dones()
    options = dict(agent_fraction=0.5, champion_episodes=0, share_experience=0.5, share_from="all", overlap=overlap)
    model = make_model(ESAC, Count(), seed=0, episode_length_schedule=schedule, **options)
    model.learn(600, callback=callback)
    lengths = {(length, truncated) for _, length, truncated in callback.episodes}
    assert lengths == {(5, True), (20, False)}
    store = model.replay_buffer.population_store
    ends = store.dones[: store.size(), 0] == 1
    cut = store.timeouts[: store.size(), 0] == 1
    # An episode that was cut bootstraps, one that ended does not.
    assert (cut & ends).any() and (ends & ~cut).any() and not (cut & ~ends).any()
    own = model.replay_buffer
    agent_ends = np.flatnonzero(own.dones[: own.size(), 0] == 1)
    assert set(np.diff(agent_ends)) == {20}


def test_the_schedule_cuts_members_of_es():
    callback = Dones()
    model = make_model(
        ES, Count(), seed=0, episode_length_schedule=lambda remaining: 5 if remaining > 0.5 else 50, champion_episodes=0
    )
    model.learn(200, callback=callback)
    # Five generations of four, then as many as fill the rest.
    assert callback.episodes == [(0, 5, True)] * 20 + [(0, 20, False)] * 8
    assert model.population.generation == 7 and model.num_timesteps == 260


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_probes_are_whole(algorithm):
    model = make_model(algorithm, Count(), seed=0, episode_length_schedule=lambda remaining: 5, champion_episodes=2)
    model.learn(400)
    assert model.champion.record is not None and (model.champion.record.returns == 20).all()


def test_what_is_no_function_is_refused():
    with pytest.raises(ValueError, match=r"`episode_length_schedule` must be a function .* not 100"):
        make_model(ESAC, Count(), episode_length_schedule=100)
