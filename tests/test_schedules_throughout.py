"""Schedules are asked at every generation: what they give in between is checked as the ends are."""

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, Drift, make_model

from sb3_esac import ES
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength


def test_sigma_that_is_zero_in_between():
    model = make_model(ES, Drift(), sigma=lambda remaining: 0.1 if remaining > 0.8 or remaining < 0.2 else 0.0)
    with pytest.raises(ValueError, match=r"`sigma` must be positive throughout training \(it gives 0.0 at 0"):
        model.learn(1000)
    assert np.isfinite(model.population.mean).all()


@pytest.mark.parametrize("no_limit", [None, np.inf])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_no_limit_for_a_part_of_training(algorithm, no_limit):
    env = Drift(edge=np.inf)
    model = make_model(algorithm, env, episode_length_schedule=lambda remaining: 5 if remaining > 0.5 else no_limit)
    model.learn(20)
    assert model.arena.caps.cap == 5
    model.learn(400)
    assert model.arena.caps.cap is None and model.arena.mean_length == env.n_steps


@pytest.mark.parametrize("length", [np.nan, -5, "all"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_episode_lengths_that_are_wrong_from_the_beginning(algorithm, length):
    with pytest.raises(ValueError, match=r"`episode_length_schedule` must be a function that gives a number of steps"):
        make_model(algorithm, Drift(), episode_length_schedule=lambda remaining: length)


def test_an_episode_length_that_is_wrong_in_between():
    model = make_model(ES, Drift(), episode_length_schedule=lambda remaining: -3 if 0.2 < remaining < 0.8 else 5)
    with pytest.raises(ValueError, match=r"`episode_length_schedule` must be .* it gives -3\)"):
        model.learn(400)


def test_random_play_that_takes_all_steps():
    env = gym.wrappers.TimeLimit(Drift(n_steps=1000, edge=np.inf), 50)
    model = make_model(ES, env, episode_length_schedule=ProgressiveEpisodeLength())
    with pytest.warns(UserWarning, match="has taken all of the 500 steps: nothing was learned"):
        model.learn(500)
    assert model.population.generation == 0
