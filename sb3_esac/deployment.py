"""What ``predict`` plays."""

from collections.abc import Callable

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.agent.learner import Learner
from sb3_esac.champion import Champion
from sb3_esac.evaluation.vectors import copy_actor, load_vector


def deployed(deploy: str, champion: Champion, learner: Learner | None, mean: Callable[[], BasePolicy]) -> BasePolicy:
    """
    Choose the policy that is deployed.

    :param deploy: "best" for the champion while the agent, exploring, does not do better; "agent" or "population".
    :param champion: The champion.
    :param learner: The gradient half, None without one: then the mean stands in for the agent.
    :param mean: Makes a policy of the population's mean.
    """
    if deploy == "population":
        return mean()
    level = float("nan") if learner is None else learner.level
    if deploy == "best" and champion.record is not None and not champion.is_overtaken(level):
        return champion.actor
    return mean() if learner is None else learner.deployed_actor


class MeanPolicy:
    """The agent's actor with the population's mean for parameters, made anew when mean or statistics have changed."""

    def __init__(self) -> None:
        self._made: tuple[np.ndarray, tuple[int, int], BasePolicy] | None = None

    def of(self, mean: np.ndarray, learner: Learner) -> BasePolicy:
        """
        Make the policy, or find it.

        :param mean: (d,) the mean, which is replaced and never changed in place.
        :param learner: Has actor and statistics.
        """
        # An update may change statistics of batch normalisation.
        version = (learner.scale.version, learner.agent._n_updates)
        if self._made is None or self._made[0] is not mean or self._made[1] != version:
            actor = copy_actor(learner.actor)
            load_vector(actor, mean)
            self._made = (mean, version, actor)
        return self._made[2]
