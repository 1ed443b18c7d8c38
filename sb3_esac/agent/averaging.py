"""The agent's actor, averaged over its latest updates: what is deployed of it."""

import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.agent.threads import one_torch_thread
from sb3_esac.evaluation.vectors import copy_actor


class AveragedActor:
    """
    An exponential moving average of an actor's parameters (Polyak and Ruppert's averaging with a window that grows).

    Gradients with a high learning rate carry a policy around a good one, and what is deployed would be where it
    happens to be. The mean over a small part of its past is steadier, and often better than each of the policies in it. As the
    window is a fraction of all updates, it does not hold back an agent that has just begun.

    :param learner: Actor that learns. A copy is made, on its device.
    :param window: Updates that the average remembers, as a fraction of all that there have been.
    """

    def __init__(self, learner: BasePolicy, window: float) -> None:
        self.learner, self.window = learner, window
        self.is_learner = True
        """Whether there is no past: it is the learner itself, whatever parameters that is given."""
        self.actor = copy_actor(learner, learner.device)
        # Statistics (of batch normalisation, of observations) are no parameters: they are copied, whatever their names are.
        self._statistics: list[list[th.Tensor]] = [[*actor.buffers()] for actor in (self.actor, learner)]
        self._parameters: list[list[th.Tensor]] = [[*actor.parameters()] for actor in (self.actor, learner)]

    def update(self, n_new: int, n_updates: int) -> None:
        """
        Take in the learner as it is now.

        :param n_new: Its updates since the last time.
        :param n_updates: Its updates in all.
        """
        decay = (1.0 - 1.0 / max(1.0, self.window * n_updates)) ** n_new
        self.is_learner = False
        averaged, learned = self._parameters
        with th.no_grad(), one_torch_thread():
            # As `torch.optim.swa_utils.get_ema_multi_avg_fn`, which makes a function each time.
            th._foreach_lerp_(averaged, learned, 1 - decay)
            copied, statistics = self._statistics
            if copied:
                th._foreach_copy_(copied, statistics)

    def restart(self) -> None:
        """Forget the past."""
        self.actor.load_state_dict(self.learner.state_dict())
        self.is_learner = True
