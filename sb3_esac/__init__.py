"""Evolution-based Soft Actor-Critic for Stable-Baselines3."""

from pathlib import Path

from sb3_esac import envs
from sb3_esac.es import ES
from sb3_esac.esac import ESAC

__version__ = (Path(__file__).parent / "version.txt").read_text().strip()

__all__ = ["ES", "ESAC", "__version__", "envs"]
