"""Rewards that come only when an episode ends: what a search has to do without if it learns from steps."""

from typing import Any, SupportsFloat

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs


class RewardAtEnd(gym.Wrapper, RecordConstructorArgs):
    """
    Pays an episode's rewards as one sum when it ends, by itself or by its time limit, and nothing before. Returns are the
    same.

    :param env: An environment whose time limit, if it has one, is below this wrapper.
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._owed = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """
        Begin an episode; what was owed is lost.

        :param seed: As in gymnasium.
        :param options: As in gymnasium.
        """
        self._owed = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """
        Step.

        :param action: As in gymnasium.
        :return: As in gymnasium; the reward is 0 except for the last step.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._owed += float(reward)
        return observation, self._owed if terminated or truncated else 0.0, terminated, truncated, info


def register() -> None:
    """Register ``HalfCheetahRewardAtEnd-v5``, which is ``HalfCheetah-v5`` with its time limit and this wrapper above."""
    name = "HalfCheetahRewardAtEnd-v5"
    if name not in gym.registry:
        gym.register(
            name,
            entry_point="gymnasium.envs.mujoco.half_cheetah_v5:HalfCheetahEnv",
            max_episode_steps=1000,
            additional_wrappers=(RewardAtEnd.wrapper_spec(),),
        )


register()
