"""Where the seconds of a run go. They are logged and never saved: a run that is taken up again must not depend on them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback

from sb3_esac.evaluation.seeded_episodes import SeededEpisodes


class Training(Protocol):
    """What a listener asks of the arena."""

    seconds: dict[str, float]
    base: SeededEpisodes


class StepListener(BaseCallback):
    """
    Hands everything on to a callback and counts the seconds that it takes: evaluations happen there. Meanwhile the training
    environment is the callback's.

    :param callback: The user's callbacks.
    :param model: The model that learns, which callbacks always find in ``locals["self"]``.
    :param arena: Where it learns.
    """

    def __init__(self, callback: BaseCallback, model: BaseAlgorithm, arena: Training) -> None:
        super().__init__()
        self.inner, self.learning_model, self.arena = callback, model, arena

    @property
    def hears_steps(self) -> bool:
        """Whether anybody is there who could tell a step from another."""
        return not (type(self.inner) is ConvertCallback and self.inner.callback is None)

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase; those of "callback" grow."""
        return self.arena.seconds

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
        with self.arena.base.lent_out():
            goes_on = self.inner.on_step()
        self.seconds["callback"] += time.perf_counter() - start
        return goes_on

    def on_rollout_start(self) -> None:
        """Hand on the start of a rollout."""
        with self.arena.base.lent_out():
            self.inner.on_rollout_start()

    def on_rollout_end(self) -> None:
        """Hand on the end of a rollout."""
        with self.arena.base.lent_out():
            self.inner.on_rollout_end()

    def tell(self, variables: dict[str, Any]) -> bool:
        """
        Tell of a step of the population's: an :data:`~sb3_esac.evaluation.evaluator.OnStep`.

        :param variables: Variables of the step.
        :return: False to stop training.
        """
        self.update_locals(variables)
        goes_on = self.on_step()
        if goes_on and variables["dones"].any():
            self.learning_model._update_info_buffer(variables["infos"], variables["dones"])
        return goes_on

    def _on_step(self) -> bool:
        return True


@contextmanager
def without_callbacks(seconds: dict[str, float], phase: str, callback: dict[str, float] | None = None) -> Iterator[None]:
    """
    Count what happens within to a phase, less what callbacks take meanwhile.

    :param seconds: Seconds by phase.
    :param phase: Name of the phase.
    :param callback: Where the seconds of "callback" are counted, None for among the others.
    """
    elsewhere = seconds if callback is None else callback
    start, before = time.perf_counter(), elsewhere["callback"]
    try:
        yield
    finally:
        seconds[phase] += time.perf_counter() - start - (elsewhere["callback"] - before)
