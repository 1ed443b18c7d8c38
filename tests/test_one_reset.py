"""What an environment does once per reset happens once per episode."""

from collections import Counter

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import ALGORITHMS, HYBRIDS, Drift, make_model
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecCheckNan, VecFrameStack, VecMonitor, VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evaluation.vectors import to_vector

FIXED = dict(n_steps=10, edge=1e6)


class Days(gym.Wrapper):
    """Each episode is the next of five days; the resets that nobody plays from are counted."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.n_resets, self.n_wasted, self.fresh = 0, 0, False
        self.played = Counter()

    def reset(self, **kwargs):
        self.n_resets += 1
        self.n_wasted += self.fresh
        self.fresh = True
        return super().reset(**kwargs)

    def step(self, action):
        if self.fresh:
            self.played[self.n_resets % 5] += 1
        self.fresh = False
        return super().step(action)


def days(n_envs=1, cls=DummyVecEnv, **kwargs):
    return cls([lambda: Days(Monitor(Drift(**FIXED)))] * n_envs, **kwargs)


WRAPS = {
    "plain": lambda env: env,
    "normalize": VecNormalize,
    "stack": lambda env: VecFrameStack(env, 2),
    "monitor": lambda env: VecMonitor(env),
    "check": lambda env: VecCheckNan(env, raise_exception=True),
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("wrap", WRAPS)
@pytest.mark.filterwarnings("ignore:The environment is already wrapped")
def test_every_reset_is_an_episode(algorithm, wrap):
    env = WRAPS[wrap](days())
    model = make_model(algorithm, env, seed=0, agent_fraction=0.5, train_freq=1, champion_episodes=2)
    model.learn(400)
    model.learn(200, reset_num_timesteps=False)
    model.learn(200)
    (day,) = env.unwrapped.envs
    assert day.n_wasted == 0 and day.n_resets == sum(day.played.values()) >= 80
    assert len(day.played) == 5 and max(day.played.values()) - min(day.played.values()) <= 1
    assert (model.agent_timesteps > 0) is (algorithm in HYBRIDS)


@pytest.mark.parametrize("kind", ["dummy", "subproc"])
def test_lanes_rest_until_they_have_something_to_play(kind):
    """Four members on three lanes: no lane plays for nothing, and none is reset for nothing."""
    env = days(3) if kind == "dummy" else days(3, SubprocVecEnv, start_method="fork")
    try:
        model = make_model(ES, env, seed=0, champion_episodes=0).learn(400)
        assert model.num_timesteps == 10 * 4 * model.population.generation == 400
        assert sum(env.get_attr("n_resets")) == 40 and sum(env.get_attr("n_wasted")) == 0
        # Whoever steps a lane afterwards finds an episode there.
        observations, *_ = env.step(np.zeros((3, 1), dtype=np.float32))
        assert np.abs(observations[:, 0]).max() > 0
    finally:
        env.close()


def test_lanes_of_processes_are_those_of_this_process():
    results = []
    for cls, kwargs in ((DummyVecEnv, {}), (SubprocVecEnv, dict(start_method="fork"))):
        env = cls([lambda: Monitor(Drift())] * 2, **kwargs)
        try:
            model = make_model(ESAC, env, seed=0, agent_fraction=0.5).learn(300)
            results.append((model.num_timesteps, model.population.mean, to_vector(model.actor)))
        finally:
            env.close()
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    np.testing.assert_array_equal(results[0][2], results[1][2])


# -- Monitor(allow_early_resets=False) ----------------------------------------------------------------------------------


def strict(n_envs=1, **kwargs):
    return DummyVecEnv([lambda: Monitor(Drift(**{**FIXED, **kwargs}), allow_early_resets=False)] * n_envs)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("total", [100, 233, 234, 235, 236, 400])
@pytest.mark.parametrize("train_freq", [1, (1, "episode")])
def test_no_episode_is_left_before_its_end(algorithm, total, train_freq):
    env = strict()
    model = make_model(algorithm, env, seed=0, agent_fraction=0.7, train_freq=train_freq, champion_episodes=2)
    model.learn(total)
    model.learn(100)
    assert model.num_timesteps % 10 == 0 and env.envs[0].needs_reset


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_lanes_are_refused_where_an_agent_has_to_leave_them(algorithm):
    if algorithm is ES:
        make_model(ES, strict(3), seed=0).learn(300)
        return
    with pytest.raises(ValueError, match=r"3 environments.*allow_early_resets=False.*one environment"):
        make_model(ESAC, strict(3), train_freq=1)
    with pytest.raises(ValueError, match=r"train_freq=\(4, 'step'\).*allow_early_resets=False"):
        make_model(ESAC, strict(), train_freq=4)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_cuts_are_refused(algorithm):
    with pytest.raises(ValueError, match=r"episode_length_schedule=.*allow_early_resets=False"):
        make_model(algorithm, strict(), train_freq=1, episode_length_schedule=lambda progress: 5)


# -- an array that is used again ----------------------------------------------------------------------------------------


class Reused(gym.Env):
    """Returns the same array and the same dict at each step, changed in place."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        self.array, self.info = np.zeros(2, dtype=np.float32), {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.array[:] = self.np_random.uniform(-1, 1), 0
        return self.array, self.info

    def step(self, action):
        self.array += 0.1 * action[0], 1
        return self.array, float(self.array[0]), False, bool(self.array[1] >= 5), self.info


def test_an_array_that_an_environment_uses_again():
    """Lanes give what workers give: the last observation of an episode is not the first of the next."""
    env = DummyVecEnv([lambda: Monitor(Reused())])
    model = make_model(ES, env, seed=0)
    vectors = np.stack([to_vector(model.actor) + i for i in range(3)])
    request = EvaluationRequest(vectors, np.arange(6).reshape(3, 2), make_player(model.actor), Recording(transitions=True))
    lanes = LockstepEvaluator(env).evaluate(request, lambda _: True)
    pool = SubprocEvaluator(LaneRecipe(lambda: Monitor(Reused())), 2, start_method="fork")
    try:
        workers = pool.evaluate(request, lambda _: True)
    finally:
        pool.close()
    for one, other in zip(lanes.episodes, workers.episodes, strict=True):
        np.testing.assert_array_equal(one.transitions.observations, other.transitions.observations)
        assert one.transitions.observations[-1, 1] == 5 and one.transitions.observations[0, 1] == 0
        assert one.episode_return == other.episode_return


def test_the_agents_buffer_has_the_last_observations():
    model = make_model(ESAC, DummyVecEnv([lambda: Monitor(Reused())]), seed=0, agent_fraction=0.8, train_freq=1)
    model.learn(200)
    buffer = model.replay_buffer
    assert buffer.pos > 50
    np.testing.assert_array_equal(buffer.next_observations[: buffer.pos, 0, 1], buffer.observations[: buffer.pos, 0, 1] + 1)


# -- whoever asked to be told of NaN ------------------------------------------------------------------------------------


class Breaks(Drift):
    def step(self, action):
        observation, *rest = super().step(action)
        return observation * (np.nan if self.t == 4 else 1.0), *rest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.filterwarnings("ignore:The environment gave")
def test_vec_check_nan(algorithm):
    env = VecCheckNan(DummyVecEnv([lambda: Monitor(Breaks())]), raise_exception=True)
    with pytest.raises(ValueError, match="found nan in observations"):
        make_model(algorithm, env, seed=0).learn(100)
    env = VecCheckNan(DummyVecEnv([lambda: Monitor(Breaks())]))
    make_model(algorithm, env, seed=0).learn(100)
