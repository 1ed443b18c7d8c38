"""Explorers: copies of the agent with noise on their parameters, from whose episodes it learns as from its own."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import Tell, make_model, pendulum
from stable_baselines3.common.env_util import make_vec_env

from sb3_esac import ESAC
from sb3_esac.agent.explorers import explorers
from sb3_esac.budget import AgentShare, WithExplorers, make_budget
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evaluation.vectors import to_vector

MIDDLE = Progress(7, 5, timesteps=1000, agent_timesteps=700, total_timesteps=10_000, generation_timesteps=100.0)


def explored(**kwargs):
    return make_model(ESAC, pendulum(20), seed=0, n_explorers=2, agent_fraction=0.8, **kwargs)


def test_two_episodes_of_the_agents_for_each():
    model = explored().learn(240)
    # Four episodes of the agent's, two of explorers; there is no room for a generation of the population yet.
    assert (model.agent_timesteps, model.arena.explorer_timesteps, model.population.generation) == (160, 80, 2)
    assert model.num_timesteps == 240 == model.agent_timesteps + model.population_timesteps


def test_the_population_plays_when_a_generation_fits_into_its_share():
    model = explored(champion_episodes=0).learn(1200)
    search = model.population_timesteps - model.arena.explorer_timesteps
    assert search > 0 and search % 80 == 0 and search <= 0.2 * model.num_timesteps
    assert search + 80 > 0.2 * (model.num_timesteps - 120 - 80)


@pytest.mark.parametrize("n_lanes", [1, 2])
def test_their_episodes_are_in_the_agents_buffer(n_lanes):
    model = make_model(ESAC, make_vec_env(pendulum, n_lanes), seed=0, n_explorers=2, agent_fraction=0.8).learn(240 * n_lanes)
    assert model.replay_buffer.size() * n_lanes == model.agent_timesteps + model.arena.explorer_timesteps


def test_updates_are_due_for_their_steps():
    model = explored(train_freq=2, gradient_steps=3, learning_starts=0, share_experience=0.0).learn(120)
    assert model._n_updates == 3 * 120 // 2
    assert explored(train_freq=1, gradient_steps=-1, learning_starts=0).learn(120)._n_updates == 120


def test_pairs_of_opposite_sign_around_the_agent():
    model = explored()
    model.arena.open()
    request = explorers(model.actor, 2, model.arena, 3, 5, moments=False)
    middle = to_vector(model.actor)
    np.testing.assert_allclose(request.parameters.mean(axis=0), middle, atol=1e-6)
    assert np.std(request.parameters[0] - middle) == pytest.approx(0.05, rel=0.3)
    other = explorers(model.actor, 2, model.arena, 3, 6, moments=False)
    assert not np.allclose(other.parameters, request.parameters) and not np.array_equal(other.seeds, request.seeds)
    model.arena.close()


def test_resumed_is_uninterrupted(tmp_path):
    whole = explored().learn(700)
    model = explored().learn(360)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    again = ESAC.load(tmp_path / "model", env=pendulum(20))
    again.load_replay_buffer(tmp_path / "buffer")
    again.learn(700 - 360, reset_num_timesteps=False)
    # The total is another one while the first half is played, which nothing here depends on.
    np.testing.assert_array_equal(to_vector(again.actor), to_vector(whole.actor))
    assert again.arena.explorer_timesteps == whole.arena.explorer_timesteps


def test_counted_from_zero_with_the_others():
    model = explored(champion_episodes=0).learn(360)
    model.learn(240)
    assert (model.num_timesteps, model.agent_timesteps, model.arena.explorer_timesteps) == (240, 160, 80)


def test_workers_make_no_difference():
    models = [explored(n_workers=n, backend=backend).learn(400) for n, backend in ((None, "auto"), (2, "subproc"))]
    np.testing.assert_array_equal(*[to_vector(model.actor) for model in models])


def test_a_callback_stops_while_they_play():
    model = explored()
    model.learn(1000, callback=Tell(lambda model: model.num_timesteps < 110))
    assert model.num_timesteps == 110 and model.replay_buffer.size() == 80


@pytest.mark.parametrize("value", [1, 3, -2, 2.0, True, None])
def test_wrong_numbers(value):
    with pytest.raises(ValueError, match="n_explorers"):
        make_model(ESAC, pendulum(20), n_explorers=value)


def test_no_effect_beside_the_papers_rule():
    with pytest.raises(ValueError, match="n_explorers"):
        make_model(ESAC, pendulum(20), n_explorers=2, agent_fraction=None)


def test_rule():
    rule = make_budget(0.75, None, 5, 1, 2)
    assert isinstance(rule, WithExplorers) and rule.begins(MIDDLE)
    assert not isinstance(make_budget(0.8, None, 5, 1, 0), WithExplorers)
    assert AgentShare(0.8).searches(MIDDLE)
    for before, expected in ((174, True), (175, True), (176, False)):
        assert rule.searches(replace(MIDDLE, search_timesteps=before)) is expected
    assert not rule.searches(replace(MIDDLE, generation_timesteps=0.0))
    goes_on = [rule.goes_on(replace(MIDDLE, n_agent_episodes=number)) for number in range(6)]
    assert goes_on == [True] * 4 + [False] * 2
