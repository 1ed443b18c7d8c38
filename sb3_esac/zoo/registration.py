"""Makes the algorithms of this package known to rl-zoo3."""

import sys
from importlib.util import find_spec

import rl_zoo3
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt

from sb3_esac import ES, ESAC
from sb3_esac.zoo.manager import ExperimentManager
from sb3_esac.zoo.samplers import convert_es_params, convert_esac_params, sample_es_params, sample_esac_params


def register() -> None:
    """
    Add ``esac`` and ``es`` to the algorithms of rl-zoo3, with their hyperparameters and samplers for optuna.

    To be called before the zoo reads its command line, once or several times:

    .. code-block:: python

        import sb3_esac.zoo
        from rl_zoo3.train import train

        sb3_esac.zoo.register()

        if __name__ == "__main__":
            train()
    """
    rl_zoo3.ALGOS.update({"esac": ESAC, "es": ES})
    rl_zoo3.hyperparams_opt.HYPERPARAMS_SAMPLER.update({"esac": sample_esac_params, "es": sample_es_params})
    rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER.update({"esac": convert_esac_params, "es": convert_es_params})
    plain = ExperimentManager.__mro__[1]
    # The scripts hold a name of their own for the class.
    for name in ("rl_zoo3.exp_manager", "rl_zoo3.train", "rl_zoo3.enjoy"):
        module = sys.modules.get(name)
        if module is not None and getattr(module, "ExperimentManager", None) is plain:
            module.ExperimentManager = ExperimentManager  # type: ignore[attr-defined]
    if find_spec("shimmy") is not None and find_spec("dm_control") is not None:
        # Registers dm_control/*.
        import shimmy  # noqa: F401
