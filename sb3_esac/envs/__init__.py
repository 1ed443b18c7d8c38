"""Environments of the papers. Importing this registers ``CyclicMDP-v0`` and ``CyclicMDPContinuous-v0`` with gymnasium."""

from sb3_esac.envs.cyclic_mdp import CyclicMDP

__all__ = ["CyclicMDP"]
