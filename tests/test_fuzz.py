"""
What users do with a model, in any order: learn a little, stop, evaluate on the training environment, save, load, change an
argument, set parameters, take another environment, learn again.

``SB3_ESAC_FUZZ_EXAMPLES=500 python -m pytest tests/test_fuzz.py`` tries more orders.
"""

import os
import tempfile
from multiprocessing import active_children
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from helpers import HYBRIDS, Drift, make_model
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from stable_baselines3.common.callbacks import BaseCallback, EvalCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from support import is_finite

from sb3_esac import ES, ESAC

pytestmark = pytest.mark.filterwarnings("ignore")

EXAMPLES = int(os.environ.get("SB3_ESAC_FUZZ_EXAMPLES", 6))

CHANGES = {
    ESAC: [
        ("gamma", 0.5),
        ("tau", 0.5),
        ("batch_size", 4),
        ("gradient_steps", 2),
        ("learning_starts", 20),
        ("target_entropy", -2.0),
        ("train_freq", 3),
        ("train_freq", 1),
        ("overlap", True),
        ("overlap", False),
        ("n_agent_members", 2),
        ("agent_average", 0.5),
        ("agent_fraction", 0.7),
        ("agent_fraction", 0.2),
        ("agent_fraction", "auto"),
        ("amt_clip", 0.01),
        ("share_experience", 0.25),
    ],
    ES: [],
}
"""Arguments that may be changed between two calls of ``learn``, and values for them; :data:`COMMON` as well."""

COMMON = [
    ("population_size", 6),
    ("population_size", 4),
    ("sigma", 0.2),
    ("n_eval_episodes", 2),
    ("n_eval_episodes", 1),
    ("champion_episodes", 2),
    ("alive_bonus_offset", 0.5),
    ("deploy", "population"),
    ("deploy", "best"),
]


class Steps:
    """Counts the steps of all environments of a machine, those of training apart from others."""

    def __init__(self) -> None:
        self.training, self.others, self.is_training = 0, 0, True

    def count(self) -> None:
        if self.is_training:
            self.training += 1
        else:
            self.others += 1


class Counting(gym.Wrapper):
    """Tells its :class:`Steps` of each one."""

    def __init__(self, env: gym.Env, steps: Steps) -> None:
        super().__init__(env)
        self.steps = steps

    def step(self, action):
        self.steps.count()
        return super().step(action)


class Then(BaseCallback):
    """Does something at one step, and goes on unless that returns False."""

    def __init__(self, at, what):
        super().__init__()
        self.at, self.what = at, what

    def _on_step(self):
        return self.n_calls != self.at or self.what(self.model) is not False


class Uncounted(EvalCallback):
    """An evaluation on the training environment: what is stepped there is no training."""

    def __init__(self, env, steps, **kwargs):
        super().__init__(env, verbose=0, warn=False, **kwargs)
        self.steps = steps

    def _on_step(self):
        self.steps.is_training = False
        try:
            return super()._on_step()
        finally:
            self.steps.is_training = True


class Use(RuleBasedStateMachine):
    """A model, its environment, and the count of steps that there should be."""

    algorithm: type
    workers: bool

    @initialize(n_envs=st.sampled_from([1, 2]), normalize=st.sampled_from([None, "policy", "wrapper"]), seed=st.integers(0, 3))
    def start(self, n_envs, normalize, seed):
        self.folder = tempfile.TemporaryDirectory()
        self.steps, self.counted, self.n_envs, self.normalize = Steps(), 0, n_envs, normalize
        options = dict(backend="subproc", n_workers=2) if self.workers else {}
        options["normalize_observations"] = normalize == "policy"
        self.model = make_model(self.algorithm, self.make_env(), seed=seed, **options)

    def make_env(self):
        env = DummyVecEnv([lambda: Monitor(Counting(Drift(), self.steps))] * self.n_envs)
        return VecNormalize(env, norm_reward=False) if self.normalize == "wrapper" else env

    def learn(self, n_steps, callback=None, reset=False):
        before = 0 if reset else self.starts_at()
        played = self.steps.training
        self.model.learn(n_steps, callback=callback, reset_num_timesteps=reset)
        if not self.workers:
            # Every step is counted, whoever took it.
            assert self.model.num_timesteps - before == self.steps.training - played

    def starts_at(self):
        """Steps that are behind the model; one that was saved within a generation goes back to where that began."""
        pending = self.model._pending
        goes_back = pending is not None and pending.is_untouched(self.model)
        return cloudpickle.loads(pending.content)["key"][2] if goes_back else self.model.num_timesteps

    def actions(self, model):
        observations = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
        return model.predict(observations, deterministic=True)[0]

    @rule(n_steps=st.integers(1, 120), reset=st.booleans())
    def learn_a_little(self, n_steps, reset):
        self.learn(n_steps, reset=reset)

    @rule(n_steps=st.integers(1, 120), at=st.integers(1, 60))
    def stop_by_callback(self, n_steps, at):
        self.learn(n_steps, Then(at, lambda model: False))

    @rule(n_steps=st.integers(30, 120), every=st.integers(25, 60))
    def evaluate_by_callback_on_the_training_environment(self, n_steps, every):
        self.learn(n_steps, Uncounted(self.model.get_env(), self.steps, eval_freq=every, n_eval_episodes=1))

    @rule()
    def evaluate_on_the_training_environment(self):
        self.steps.is_training = False
        evaluate_policy(self.model, self.model.get_env(), n_eval_episodes=1, warn=False)
        self.steps.is_training = True

    @rule(buffer=st.booleans(), env=st.booleans())
    def save_and_load(self, buffer, env):
        before = self.actions(self.model)
        self.save(self.model, buffer)
        self.load(buffer, before, self.model.num_timesteps)
        if env:
            self.model.set_env(self.make_env())

    @rule(n_steps=st.integers(10, 120), at=st.integers(1, 60), buffer=st.booleans())
    def save_within_a_generation(self, n_steps, at, buffer):
        seen = []

        def save(model):
            self.save(model, buffer)
            seen.append((self.actions(model), model.num_timesteps))

        self.learn(n_steps, Then(at, save))
        if seen:
            self.load(buffer, *seen[0])

    def save(self, model, buffer):
        model.save(Path(self.folder.name) / "model")
        if buffer and self.algorithm in HYBRIDS:
            model.save_replay_buffer(Path(self.folder.name) / "buffer")

    def load(self, buffer, actions, num_timesteps):
        self.model = self.algorithm.load(Path(self.folder.name) / "model", env=self.model.get_env())
        if buffer and self.algorithm in HYBRIDS:
            self.model.load_replay_buffer(Path(self.folder.name) / "buffer")
        np.testing.assert_array_equal(self.actions(self.model), actions)
        assert self.model.num_timesteps == num_timesteps

    @rule()
    def take_another_environment(self):
        self.model.set_env(self.make_env())

    @rule(data=st.data())
    def change_an_argument(self, data):
        name, value = data.draw(st.sampled_from([*COMMON, *CHANGES[self.algorithm]]))
        setattr(self.model, name, value)

    @rule()
    def set_parameters(self):
        before = self.model.get_parameters()
        self.model.set_parameters(before)

    @invariant()
    def nothing_is_broken(self):
        if not hasattr(self, "model"):
            return
        assert is_finite(self.model) and np.isfinite(self.actions(self.model)).all()
        assert self.model.num_timesteps == self.model.agent_timesteps + self.model.population_timesteps

    @invariant()
    def nothing_is_left(self):
        assert not active_children()
        assert not [fd for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink() and "sb3_esac" in os.readlink(fd)]

    def teardown(self):
        if hasattr(self, "folder"):
            self.folder.cleanup()


@pytest.mark.parametrize("workers", [False, pytest.param(True, marks=pytest.mark.expensive)])
@pytest.mark.parametrize("algorithm", [ESAC, ES])
def test_any_order(algorithm, workers):
    machine = type(f"Use{algorithm.__name__}", (Use,), {"algorithm": algorithm, "workers": workers})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=8, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize(("name", "value"), [("population_size", 6), ("sigma", 0.2)])
@pytest.mark.parametrize("algorithm", [ESAC, ES])
def test_a_model_goes_back_although_an_argument_of_its_population_was_changed(algorithm, name, value):
    """Found by the test above: as if the user had given it other weights, it went on within the generation."""
    machine = type(f"Use{algorithm.__name__}", (Use,), {"algorithm": algorithm, "workers": False})()
    machine.start(n_envs=1, normalize=None, seed=0)
    machine.save_within_a_generation(at=1, buffer=False, n_steps=10)
    setattr(machine.model, name, value)
    machine.learn(60)
    assert name != "sigma" or machine.model.population.sigma == pytest.approx(value, rel=0.01)
    machine.teardown()
