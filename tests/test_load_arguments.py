"""Arguments that are given to ``load`` in the place of the saved ones."""

import numpy as np
import pytest
from helpers import Drift, make_model
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback

from sb3_esac import ESAC
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


def test_normalisation_of_observations(tmp_path):
    make_model(ESAC, Drift(), normalize_observations=True).save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"normalize_observations=False.*belong to True"):
        ESAC.load(tmp_path / "model", env=Drift(), normalize_observations=False)
    assert ESAC.load(tmp_path / "model", env=Drift(), normalize_observations=True).normalize_observations


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
