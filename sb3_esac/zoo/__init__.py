"""rl-zoo3: the commands that its users know, for the algorithms of this package."""

from sb3_esac.zoo.files import hyperparameter_file
from sb3_esac.zoo.manager import ExperimentManager
from sb3_esac.zoo.registration import register

__all__ = ["ExperimentManager", "hyperparameter_file", "register"]
