"""What an exception or Ctrl-C in the middle of the agent's episodes leaves behind."""

import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from helpers import Drift, make_model
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ESAC


class Interrupt(BaseCallback):
    """
    Raise at a step.

    :param step: The step.
    """

    def __init__(self, step):
        super().__init__()
        self.step = step

    def _on_step(self):
        if self.num_timesteps >= self.step:
            raise KeyboardInterrupt
        return True


def interrupted(step=30, **kwargs):
    model = make_model(ESAC, Monitor(Drift(n_steps=20, edge=np.inf)), seed=0, agent_fraction="auto", **kwargs)
    with pytest.raises(KeyboardInterrupt):
        model.learn(1000, callback=Interrupt(step))
    return model


def test_the_environment_is_the_users_again():
    model = interrupted()
    base = model.learner.base
    assert base.seed_source is None and model.learner.buffer.fresh_observations is None
    assert model.learner.n_episodes == 1
    returns, lengths = evaluate_policy(model, model.get_env(), n_eval_episodes=4, return_episode_rewards=True)
    assert lengths == [20] * 4 and len(set(returns)) == 4


def test_no_transition_joins_two_episodes():
    model = interrupted(n_steps=3)
    last = model.replay_buffer.pos - 1
    model.learn(40, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert buffer.dones[last, 0] == 1 and buffer.timeouts[last, 0] == 1
    sample = buffer._get_samples(np.array([last - 1]))
    np.testing.assert_allclose(sample.next_observations[0], buffer.next_observations[last, 0])


class Level(Drift):
    """A point whose observations are far from zero."""

    def _observe(self):
        return super()._observe() + np.float32(50.0)


def test_statistics_that_were_given_are_kept():
    def make(seed):
        env = TimeLimit(Level(n_steps=20), 20)
        return make_model(ESAC, env, seed=seed, normalize_observations=True, agent_fraction="auto")

    model, other = make(0).learn(400), make(1)
    other.set_parameters(model.get_parameters())
    before = float(other.actor.features_extractor.count)
    other.learn(100)
    assert float(other.actor.features_extractor.count) > before, "they would begin at nothing"


def test_statistics_of_a_population_that_began_are_kept():
    env = TimeLimit(Level(n_steps=20), 20)

    def late(remaining):
        return 0.0 if remaining > 0.5 else 0.5

    counts = []

    class Watch(BaseCallback):
        def _on_step(self):
            counts.append(float(self.model.actor.features_extractor.count))
            return True

    make_model(ESAC, env, seed=0, normalize_observations=True, agent_fraction=late).learn(1500, callback=Watch())
    assert max(counts) > 500 and (np.diff(counts) >= 0).all()


def test_a_schedule_sees_no_remaining_progress_below_zero():
    seen = []

    def share(remaining):
        seen.append(remaining)
        return 0.5 * remaining**0.5

    model = make_model(ESAC, Drift(), seed=0, agent_fraction=share)
    model.learn(203)
    assert model.num_timesteps > 203 and min(seen) == 0.0 and model._current_progress_remaining == 0.0
