"""Models that version 0.1 has saved have another form: they are refused by name, and left alone."""

import warnings
from pathlib import Path

import pytest
from helpers import ALGORITHMS, drift, make_model
from stable_baselines3 import SAC

from sb3_esac import ES, ESAC

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("algorithm, name", [(ESAC, "esac"), (ES, "es"), (ES, "es_canonical")])
@pytest.mark.parametrize("with_env", [False, True])
def test_files_of_version_0_1(algorithm, name, with_env):
    """Whether they are to learn or to be watched. The message says which version wrote them, and what can be done."""
    path = DATA / f"{name}_without_strategies.zip"
    content = path.read_bytes()
    with warnings.catch_warnings():
        # One error says it all.
        warnings.simplefilter("error")
        with pytest.raises(ValueError) as error:
            algorithm.load(path, device="cpu", **(dict(env=drift()) if with_env else {}))
    message = str(error.value)
    assert message.startswith("The file was saved by sb3_esac 0.1, ")
    assert "`pip install sb3_esac==0.1.0`" in message
    assert ("`ESAC.from_agent`" in message) is (algorithm is ESAC), "ES has no agent to go on with"
    assert path.read_bytes() == content


def test_an_argument_that_is_gone_does_not_hide_it():
    with pytest.raises(ValueError, match=r"saved by sb3_esac 0\.1"):
        ESAC.load(DATA / "esac_without_strategies", sigma_max=0.5)


def test_an_agent_of_then_is_a_warm_start(tmp_path):
    """What the message says to do: what ``model.agent.save`` writes is a plain agent, whichever version calls it."""
    donor = SAC("MlpPolicy", drift(), policy_kwargs=dict(net_arch=[8]), buffer_size=100, learning_starts=10).learn(30)
    donor.save(tmp_path / "agent")
    ESAC.from_agent(tmp_path / "agent", drift(), population_size=4).learn(60)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_files_of_now_are_no_files_of_then(algorithm, tmp_path):
    model = make_model(algorithm, drift(), seed=0).learn(60)
    model.save(tmp_path / "model")
    assert algorithm.load(tmp_path / "model").population_timesteps == model.population_timesteps > 0
