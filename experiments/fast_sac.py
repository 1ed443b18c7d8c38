"""SB3's SAC with the updates that ESAC's agent has."""

from stable_baselines3 import SAC

from sb3_esac.agent.updates import FastUpdates


class FastSAC(SAC):
    """SAC whose updates are made by hand: on the CPU, with ``MlpPolicy`` and without gSDE."""

    _fast: FastUpdates | None = None

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """
        Do what ``SAC.train`` does.

        :param gradient_steps: How many.
        :param batch_size: Transitions for each.
        """
        if self._fast is None:
            self._fast = FastUpdates(self)
        self._fast.train(gradient_steps, batch_size)
