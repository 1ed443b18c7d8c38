"""Arguments that are given to ``load`` in the place of the saved ones."""

import subprocess
import sys

import numpy as np
import pytest
from helpers import Drift, make_model
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.vectors import to_vector


class SaveAt(BaseCallback):
    """Saves at a step, in the middle of a generation."""

    def __init__(self, step: int, path: str) -> None:
        super().__init__()
        self.step, self.path = step, path

    def _on_step(self) -> bool:
        if self.num_timesteps == self.step:
            self.model.save(self.path)
        return True


@pytest.mark.parametrize(("before", "after"), [(0.5, 0.0), (0.0, 0.5), (0.5, 0.2)])
@pytest.mark.parametrize("within", [False, True])
def test_the_average(before, after, within, tmp_path):
    path = str(tmp_path / "model")
    model = make_model(ESAC, Drift(), seed=1, agent_average=before, agent_fraction=0.5)
    model.learn(300, callback=SaveAt(251, path) if within else None)
    if not within:
        model.save(path)
    loaded = ESAC.load(path, env=Drift(), agent_average=after)
    assert loaded.agent_average == after and (loaded.learner.averaged is None) == (after == 0)
    assert loaded.num_timesteps == (251 if within else model.num_timesteps) and loaded.agent.actor is loaded.actor
    if after:
        assert loaded.learner.averaged.window == after
    if before == 0:
        np.testing.assert_array_equal(loaded.learner.vector, to_vector(loaded.actor))
    elif after and not within:
        np.testing.assert_array_equal(loaded.learner.vector, model.learner.vector)
    steps = loaded.num_timesteps
    loaded.learn(100, reset_num_timesteps=False)
    assert loaded.num_timesteps >= steps + 50 and loaded.agent_average == after
    assert (loaded.learner.averaged is None) == (after == 0)


@pytest.mark.parametrize(("saved", "given"), [("auto", 0.1), (0.1, "auto"), (0.1, 0.2), ("auto", "auto_0.5")])
def test_another_entropy_coefficient(saved, given, tmp_path):
    make_model(ESAC, Drift(), ent_coef=saved).save(tmp_path / "model")
    with pytest.raises(ValueError, match=f"`ent_coef={given!r}` cannot be given to `load`.* belong to {saved!r}"):
        ESAC.load(tmp_path / "model", env=Drift(), ent_coef=given)
    assert ESAC.load(tmp_path / "model", env=Drift(), ent_coef=saved).ent_coef == saved


def test_another_class_of_agent(tmp_path):
    make_model(ESAC, Drift()).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"`agent_class=.*TD3'>` cannot be given to `load`.* belong to .*SAC'>"):
        ESAC.load(tmp_path / "model", env=Drift(), agent_class=TD3)
    assert ESAC.load(tmp_path / "model", env=Drift(), agent_class=SAC).agent_class is SAC


def test_the_same_class_of_agent_in_another_process(tmp_path):
    """A class of a script or notebook is pickled whole, and another object in every process."""
    script = """
import sys
from stable_baselines3 import SAC
from sb3_esac import ESAC

class OfTheScript(SAC):
    pass

if sys.argv[1] == "save":
    ESAC("MlpPolicy", "Pendulum-v1", agent_class=OfTheScript, population_size=4).save(sys.argv[2])
else:
    assert issubclass(ESAC.load(sys.argv[2], agent_class=OfTheScript).agent_class, SAC)
"""
    (tmp_path / "script.py").write_text(script)
    for word in ("save", "load"):
        subprocess.run([sys.executable, tmp_path / "script.py", word, tmp_path / "model"], check=True)


def test_normalisation_of_observations(tmp_path):
    make_model(ESAC, Drift(), normalize_observations=True).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"normalize_observations=False.*belong to True"):
        ESAC.load(tmp_path / "model", env=Drift(), normalize_observations=False)
    assert ESAC.load(tmp_path / "model", env=Drift(), normalize_observations=True).normalize_observations


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(winner_fraction=0.9), "`winner_fraction=0.9` has no effect beside `strategy='openai'`"),
        (dict(learning_rate=1e-3), "`learning_rate=0.001` is no argument .*: pass `es_learning_rate`"),
        (dict(episode_timeout=5.0), "`episode_timeout=5.0` has no effect"),
        (
            dict(es_learning_rat=0.5),
            "`es_learning_rat=0.5` is no argument of the model in the file: pass `es_learning_rate`",
        ),
        (dict(gamma=0.9), "`gamma=0.9` is no argument"),
        (dict(sigma=-1.0), "`sigma` must be"),
    ],
)
def test_arguments_are_checked_as_on_a_model(given, message, tmp_path):
    make_model(ES, Drift()).save(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        ES.load(tmp_path / "model", env=Drift(), **given)


def test_arguments_that_work(tmp_path):
    make_model(ES, Drift()).save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=Drift(), sigma=0.3, backend="lockstep", es_learning_rate=0.5, verbose=0)
    assert loaded.sigma == 0.3 and loaded.backend == "lockstep" and loaded.learning_rate == 0.5


@pytest.mark.parametrize("value", [0, (0, "episode")])
def test_an_agent_that_would_never_play(value, tmp_path):
    make_model(ESAC, Drift()).save(tmp_path / "model")
    with pytest.raises(ValueError, match="`train_freq` must be an integer >= 1"):
        ESAC.load(tmp_path / "model", env=Drift(), train_freq=value)


def test_gamma_and_a_buffer(tmp_path):
    model = make_model(ESAC, Drift(), seed=1, n_steps=3, gamma=0.9).learn(200)
    assert isinstance(model.replay_buffer, NStepReplayBuffer)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = ESAC.load(tmp_path / "model", env=Drift(), gamma=0.5)
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.replay_buffer.gamma == loaded.replay_buffer.population_store.gamma == 0.5
    late = ESAC.load(tmp_path / "model", gamma=0.5)
    late.set_env(Drift())
    assert late.replay_buffer.gamma == 0.5


def test_a_buffer_before_the_environment(tmp_path):
    model = make_model(ESAC, Drift(), seed=1, share_experience=0.0).learn(100)
    assert model.replay_buffer.population_store is None
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "buffer")
    loaded = ESAC.load(tmp_path / "model", share_experience=0.5)
    loaded.load_replay_buffer(tmp_path / "buffer")
    n_own = loaded.replay_buffer.size()
    loaded.set_env(Drift())
    assert loaded.replay_buffer.population_store.buffer_size == 1000 and loaded.replay_buffer.size() == n_own


def test_what_is_left_of_the_noise_of_cem(tmp_path):
    model = make_model(ES, Drift(), seed=1, strategy="cem", sigma=0.1)
    model.sigma = 1.0
    model.learn(100)
    model.save(tmp_path / "model")
    loaded = ES.load(tmp_path / "model", env=Drift())
    assert loaded.population.strategy.final_noise == model.population.strategy.final_noise == pytest.approx(1e-4)
    for each in (model, loaded):
        each.learn(300, reset_num_timesteps=False)
    np.testing.assert_array_equal(loaded.population.mean, model.population.mean)
