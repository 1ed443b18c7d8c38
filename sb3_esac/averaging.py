"""The agent's actor, averaged over its latest updates: what is deployed of it."""

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import get_parameters_by_name, polyak_update

from sb3_esac.evaluation.parameters import copy_actor


class AveragedActor:
    """
    An exponential moving average of an actor's parameters (Polyak and Ruppert's averaging with a window that grows).

    Gradients with a high learning rate carry a policy to and fro around a good one, and what is deployed would be where it
    happens to be. The mean over a small part of its past is steadier, and often better than each of the policies in it. As the
    window is a fraction of all updates, it does not hold back an agent that has just begun.

    :param actor: Actor that learns. A copy is made, on its device.
    :param window: Updates that the average remembers, as a fraction of all that there have been.
    """

    def __init__(self, actor: BasePolicy, window: float) -> None:
        self.window = window
        self.actor = copy_actor(actor).to(actor.device)

    def update(self, actor: BasePolicy, n_new: int, n_updates: int) -> None:
        """
        Take in the actor as it is now.

        :param actor: Actor that learns.
        :param n_new: Updates since the last time.
        :param n_updates: Updates in all.
        """
        weight = 1.0 - (1.0 - 1.0 / max(1.0, self.window * n_updates)) ** n_new
        with th.no_grad():
            polyak_update(actor.parameters(), self.actor.parameters(), weight)
            # Statistics of batch normalisation are copied, as SB3 does for target networks.
            statistics, copied = (get_parameters_by_name(module, ["running_"]) for module in (actor, self.actor))
            polyak_update(statistics, copied, 1.0)

    def restart(self, actor: BasePolicy) -> None:
        """
        Forget the past.

        :param actor: Actor that learns.
        """
        self.actor.load_state_dict(actor.state_dict())
