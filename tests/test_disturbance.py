"""Callbacks that reset, step or evaluate on the environment that is being trained on."""

import numpy as np
import pytest
from helpers import ALGORITHMS, HYBRIDS, Counted, Drift, Tell, keep_log, make_model
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.disturbance import PATIENCE

pytestmark = pytest.mark.filterwarnings("ignore:A callback has reset or stepped", "ignore:Training and eval env")

FIXED = dict(n_steps=20, edge=1e6)
"""Every episode takes 20 steps."""


def lanes(n_envs=1, wrap=lambda env: env, **kwargs):
    return wrap(make_vec_env(lambda: Counted(Drift(**FIXED)), n_envs, **kwargs))


class Every(BaseCallback):
    """Does something to the training environment every so many calls."""

    def __init__(self, n_calls, what, stop_after=None):
        super().__init__()
        self.every, self.what, self.times, self.stop_after = n_calls, what, 0, stop_after

    def _on_step(self):
        if self.n_calls % self.every == 0 and (self.stop_after is None or self.times < self.stop_after):
            self.times += 1
            self.what(self.training_env)
        return True


def reset(env):
    env.reset()


def step(env):
    env.step(np.array([env.action_space.sample() for _ in range(env.num_envs)]))


def steps_after_reset(env):
    env.reset()
    for _ in range(27):
        step(env)


@pytest.mark.parametrize("what", [reset, step, steps_after_reset])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(
    "wrap", [lambda env: env, lambda env: VecNormalize(env, norm_reward=False)], ids=["plain", "normalized"]
)
def test_the_population_is_played_as_if_nothing_had_happened(what, n_envs, wrap):
    """Members that were under way are played again: the same fitness, and the same mean ever after."""
    means = []
    for callback in (None, Every(33, what)):
        seen = {}
        model = make_model(ES, lanes(n_envs, wrap), seed=0, champion_episodes=0)
        note = Tell(on_generation=lambda model, seen=seen: seen.update({model.population.generation: model.population.mean}))
        model.learn(1500, callback=[note, *([callback] if callback else [])])
        means.append(seen)
    assert callback.times > 5
    common = sorted(means[0].keys() & means[1].keys())
    assert len(common) > 3 and not np.array_equal(means[0][0], means[0][1])
    for generation in common:
        np.testing.assert_array_equal(means[0][generation], means[1][generation])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kind", ["dummy", "subproc"])
def test_evaluation_on_the_training_environment(algorithm, n_envs, kind):
    options = dict(vec_env_cls=SubprocVecEnv, vec_env_kwargs=dict(start_method="fork")) if kind == "subproc" else {}
    env = lanes(n_envs, **options)
    try:
        model = make_model(algorithm, env, seed=0, agent_fraction=0.5, train_freq=1)
        rows = keep_log(model)
        callback = EvalCallback(env, eval_freq=50, n_eval_episodes=2, verbose=0)
        with pytest.warns(UserWarning, match="A callback has reset or stepped the training environment"):
            model.learn(900, callback=callback)
        assert callback.n_calls > 100 and np.isfinite(callback.last_mean_reward)
        assert {row.get("population/length_mean", 20.0) for row in rows} == {20.0} and len(rows) > 5
        # Evaluation is no training, and is not counted.
        assert model.num_timesteps < sum(env.get_attr("n_steps"))
        assert 900 <= model.num_timesteps < 900 + 20 * 20
    finally:
        env.close()


@pytest.mark.parametrize("train_freq", [1, 7, (1, "episode")])
def test_the_agent_learns_from_no_step_that_did_not_happen(train_freq):
    """Each transition leads from its observation to the next by its action, whatever callbacks do between."""
    model = make_model(
        ESAC,
        lanes(),
        seed=0,
        agent_fraction=0.8,
        share_experience=0.0,
        train_freq=train_freq,
        gradient_steps=1,
        buffer_size=3000,
    )
    callback = Every(37, steps_after_reset)
    model.learn(1500, callback=callback)
    buffer = model.replay_buffer
    assert callback.times > 10 and buffer.pos > 500 and not buffer.full
    here, there = buffer.observations[: buffer.pos, 0], buffer.next_observations[: buffer.pos, 0]
    speed = here[:, 1] + 0.1 * 2.0 * buffer.actions[: buffer.pos, 0, 0]
    np.testing.assert_allclose(there[:, 1], speed, atol=1e-5)
    np.testing.assert_allclose(there[:, 0], here[:, 0] + speed, atol=1e-5)
    # Where the following row is of another episode, the row is marked as the last of its own.
    jumps = np.abs(there[:-1] - here[1:]).max(axis=1) > 1e-6
    assert jumps.sum() > 20 and buffer.dones[: buffer.pos - 1, 0][jumps].all()


@pytest.mark.parametrize("train_freq", [1, 25])
def test_episodes_of_callbacks_are_not_the_agents(train_freq):
    model = make_model(ESAC, lanes(), seed=0, agent_fraction=0.8, train_freq=train_freq, gradient_steps=0)
    lengths = set()
    model.learn(
        600, callback=[Every(31, steps_after_reset), Tell(lambda m: lengths.update(n for _, n in m.arena.base.finished))]
    )
    assert lengths == {20}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_never_to_the_end_is_an_error(algorithm):
    model = make_model(algorithm, lanes(), seed=0)
    callback = Every(3, reset)
    with pytest.raises(RuntimeError, match=f"training environment.*{PATIENCE} times before .* could end"):
        model.learn(10_000, callback=callback)


def test_the_agents_turn_is_not_endless_either():
    model = make_model(ESAC, lanes(), seed=0, agent_fraction=0.9, train_freq=1, gradient_steps=0)
    in_the_interval = Every(3, lambda env: env.reset() if model.agent_timesteps > 0 else None)
    with pytest.raises(RuntimeError, match="before an episode of the agent could end"):
        model.learn(10_000, callback=in_the_interval)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_callbacks_find_the_environment_as_it_would_be_without_us(algorithm):
    """As training starts and ends a reset is a reset, with observations of its own, and steps need none of ours."""
    seen = []

    class Look(BaseCallback):
        def _on_training_start(self):
            seen.append(self.training_env.reset())

        def _on_step(self):
            return True

        def _on_training_end(self):
            seen.append(self.training_env.step(np.zeros((1, 1), np.float32))[0])
            seen.append(self.training_env.reset())

    env = lanes()
    model = make_model(algorithm, env, seed=0).learn(150, callback=Look())
    assert len(seen) == 3 and all(np.abs(observation).max() > 0 for observation in seen)
    assert model.arena.base.seed_source is None and (algorithm not in HYBRIDS or model.agent_timesteps > 0)
