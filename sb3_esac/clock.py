"""Where the seconds of a run go. They are logged and never saved: a run that is taken up again must not depend on them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_esac.evaluation.seeded_episodes import SeededEpisodes


class ClockedCallback(BaseCallback):
    """
    Hands everything on to a callback and counts the seconds that it takes: evaluations happen there. Meanwhile the training
    environment is the callback's.

    :param callback: The user's callbacks.
    :param seconds: Seconds by phase; those of "callback" grow.
    :param model: The model that learns, which callbacks find in ``locals["self"]`` whoever plays.
    :param env: The training environment.
    """

    def __init__(self, callback: BaseCallback, seconds: dict[str, float], model: BaseAlgorithm, env: SeededEpisodes) -> None:
        super().__init__()
        self.inner, self.seconds, self.learning_model, self.env = callback, seconds, model, env

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """
        Hand on the variables of the caller.

        :param locals_: The variables.
        """
        start = time.perf_counter()
        self.inner.update_locals({**locals_, "self": self.learning_model})
        self.seconds["callback"] += time.perf_counter() - start

    def on_step(self) -> bool:
        """
        Hand on a step.

        :return: False to stop training.
        """
        start = time.perf_counter()
        with self.env.lent_out():
            goes_on = self.inner.on_step()
        self.seconds["callback"] += time.perf_counter() - start
        return goes_on

    def on_rollout_start(self) -> None:
        """Hand on the start of a rollout."""
        with self.env.lent_out():
            self.inner.on_rollout_start()

    def on_rollout_end(self) -> None:
        """Hand on the end of a rollout."""
        with self.env.lent_out():
            self.inner.on_rollout_end()

    def _on_step(self) -> bool:
        return True


@contextmanager
def without_callbacks(seconds: dict[str, float], phase: str) -> Iterator[None]:
    """
    Count what happens within to a phase, less what callbacks take meanwhile.

    :param seconds: Seconds by phase, "callback" among them.
    :param phase: Name of the phase.
    """
    start, before = time.perf_counter(), seconds["callback"]
    try:
        yield
    finally:
        seconds[phase] += time.perf_counter() - start - (seconds["callback"] - before)
