"""Models that were saved by earlier versions: they load, and go on as they would have."""

from pathlib import Path

import numpy as np
import pytest
from helpers import drift

from sb3_esac import ES, ESAC

DATA = Path(__file__).parent / "data"
OBSERVATIONS = np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("algorithm, name", [(ESAC, "esac"), (ES, "es"), (ES, "es_canonical")])
def test_before_strategies_were_files(algorithm, name):
    """Saved when a population had an optimiser of its own; ``without_strategies.npz`` has what the models of then did."""
    known = np.load(DATA / "without_strategies.npz")
    model = algorithm.load(DATA / f"{name}_without_strategies", env=drift(), device="cpu")
    np.testing.assert_allclose(model.predict(OBSERVATIONS, deterministic=True)[0], known[name], atol=1e-5)
    np.testing.assert_array_equal(model.population.mean, known[f"{name}_mean"])
    assert model.population.sigma == known[f"{name}_sigma"]
    if algorithm is ES:
        model.learn(60, reset_num_timesteps=False)
        np.testing.assert_allclose(model.population.mean, known[f"{name}_after"], atol=1e-4)
