"""
Environments. Importing this registers ``CyclicMDP-v0``, ``CyclicMDPContinuous-v0`` and ``HalfCheetahRewardAtEnd-v5`` with
gymnasium.
"""

from sb3_esac.envs.cyclic_mdp import CyclicMDP
from sb3_esac.envs.reward_at_end import RewardAtEnd

__all__ = ["CyclicMDP", "RewardAtEnd"]
