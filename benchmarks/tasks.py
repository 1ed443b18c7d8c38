"""What is measured: environments, networks, and a generation of members to play."""

import warnings
from dataclasses import dataclass
from functools import cached_property, partial

import gymnasium as gym
import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecTransposeImage

from sb3_esac import ES
from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.players import make_player
from sb3_esac.evaluation.rollout import Recording
from sb3_esac.evaluation.vectors import to_vector

MEMBERS = {
    "HalfCheetah-v5": 8,
    "Hopper-v5": 200,
    "Humanoid-v5": 100,
    "Pendulum-v1": 40,
    "cheetah-run": 8,
    "HalfCheetah-v5, 20 steps": 400,
    "Pong": 4,
}
"""Environments, and how many members make about 8000 steps (2500 of Humanoid, 4000 of Pong) with random networks."""

NETS = {"2 x 64": [64, 64], "2 x 256": [256, 256], "2 x 512": [512, 512]}
CNN = "Nature CNN"
"""The network for images."""


def nets(env: str) -> list[str]:
    """
    Networks that an environment is measured with.

    :param env: One of ``MEMBERS``.
    """
    return [CNN] if env == "Pong" else list(NETS)


def make_env(name: str) -> gym.Env:
    """
    Make an environment as its users would, without ``Monitor``.

    :param name: One of ``MEMBERS``.
    """
    if name == "cheetah-run":
        import shimmy  # noqa: F401  (registers the environments)

        return gym.wrappers.FlattenObservation(gym.make("dm_control/cheetah-run-v0"))
    if name == "Pong":
        # What VecFrameStack and VecTransposeImage make, without them.
        from sb3_esac.envs.atari import N_STACK, make_atari

        return gym.wrappers.ReshapeObservation(
            gym.wrappers.FrameStackObservation(make_atari(name), N_STACK), (N_STACK, 84, 84)
        )
    import mujoco

    mujoco.set_mju_user_warning(lambda message: None)
    name, _, steps = name.partition(", ")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gym.make(name, max_episode_steps=int(steps.split()[0])) if steps else gym.make(name)


def make_monitored(name: str) -> gym.Env:
    """
    Make an environment as one lane of ``make_vec_env`` has it.

    :param name: One of ``MEMBERS``.
    """
    return Monitor(make_env(name))


def make_single_frames() -> gym.Env:
    """Make Pong as one lane of ``make_vec_env`` has it, under ``VecFrameStack``."""
    from sb3_esac.envs.atari import make_atari

    return Monitor(make_atari("Pong"))


@dataclass(frozen=True)
class Setting:
    """
    One cell of the table.

    :param env: Name of the environment.
    :param net: Name of the network.
    :param n_workers: Number of processes.
    :param n_members: Number of members, an episode each.
    """

    env: str
    net: str
    n_workers: int
    n_members: int

    @property
    def recipe(self) -> LaneRecipe:
        """What a worker builds for a user of that environment."""
        if self.net != CNN:
            return LaneRecipe(partial(make_monitored, self.env))
        return LaneRecipe(make_single_frames, (partial(VecFrameStack, n_stack=4), VecTransposeImage))

    @cached_property
    def model(self) -> BaseAlgorithm:
        """A model with a network of that size."""
        if self.net == CNN:
            return ES("CnnPolicy", self.recipe.wrap(self.recipe.build()), seed=0)
        lane = DummyVecEnv([partial(make_monitored, self.env)])
        return SAC("MlpPolicy", lane, buffer_size=10, seed=0, device="cpu", policy_kwargs={"net_arch": NETS[self.net]})

    @cached_property
    def request(self) -> EvaluationRequest:
        """A generation: a random network and small perturbations of it."""
        actor = getattr(self.model, "actor", self.model.policy)
        center = to_vector(actor)
        noise = np.random.default_rng(0).standard_normal((self.n_members, len(center)), dtype=np.float32)
        seeds = np.arange(self.n_members).reshape(-1, 1)
        return EvaluationRequest(center + 0.02 * noise, seeds, make_player(actor))

    @cached_property
    def sharing(self) -> EvaluationRequest:
        """The same generation with its transitions wanted."""
        request = self.request
        return EvaluationRequest(request.parameters, request.seeds, request.player, Recording(transitions=True))
