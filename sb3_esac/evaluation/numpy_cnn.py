"""Forward of SB3's convolutional network for images in numpy, for one picture at a time."""

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac.evaluation.convolutions import Convolution, bound_convolution
from sb3_esac.evaluation.numpy_mlp import NumpyMlp
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies
from sb3_esac.evaluation.virtual_batch_norm import Normalization


class NumpyCnn:
    """
    Deterministic forward of convolutions and a perceptron, twice as fast as torch on single pictures.

    :param image: (channels, height, width) of the pictures.
    :param scale: What pixels are divided by.
    :param convolutions: First to last.
    :param head: The perceptron, from what the last one gives, channel by channel, to the action.
    :param normalization: What of it is normalised on a batch of pictures, None for nothing.
    """

    def __init__(
        self,
        image: tuple[int, int, int],
        scale: float,
        convolutions: list[Convolution],
        head: NumpyMlp,
        normalization: Normalization | None = None,
    ) -> None:
        self.image, self.scale, self.convolutions, self.head = image, scale, convolutions, head
        self.normalization = normalization
        self.low, self.high, self.output = head.low, head.high, head.output

    def bind(self, vector: np.ndarray) -> Act:
        """
        Make the policy of one member.

        :param vector: (d,) parameters; copied.
        :return: Function from one picture to one action; its buffers are its own, so one thread at a time.
        """
        if self.normalization is not None:
            vector = self.normalization.folded(vector)
        channels, height, width = self.image
        pixels = np.zeros((height, width, channels), dtype=np.float32)
        steps: list[Callable[[], None]] = []
        values, scale = pixels, self.scale
        for convolution in self.convolutions:
            step, values = bound_convolution(convolution, vector, values, scale)
            steps.append(step)
            scale = 1.0
        # Torch flattens channel by channel.
        features = np.zeros(values.shape[::-1][:1] + values.shape[:2], dtype=np.float32)
        last, flat = values.transpose(2, 0, 1), features.reshape(-1)
        play = self.head.bind(vector)

        def act(picture: np.ndarray) -> Any:
            np.copyto(pixels, picture.transpose(1, 2, 0))
            for step in steps:
                step()
            np.copyto(features, last)
            return play(flat)

        return act

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        """
        Make the policies of all lanes, which act one by one.

        :param env: The lanes.
        :param together: Not used.
        """
        return SinglePolicies(self.bind, env)
