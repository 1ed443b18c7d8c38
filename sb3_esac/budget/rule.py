"""A rule for the agent's turns: when it plays, and for how long (Algorithm 1, lines 12 and 13)."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sb3_esac.evaluation.progress import Progress

TURN_EPISODES, TURN_STEPS = 4, 1000
"""
Of the agent's in a turn of its own, at least, for each lane. What other lanes play as it ends is cut off: were turns shorter,
the long episodes would be missing.
"""


class TurnOfItsOwn:
    """A turn of the agent's without a generation, so long that it is worth a line of the log."""

    def __init__(self) -> None:
        self._began = 0

    def begin(self, progress: Progress) -> None:
        """
        Begin a turn.

        :param progress: Where the run stands.
        """
        self._began = progress.agent_timesteps

    def goes_on(self, progress: Progress) -> bool:
        """
        Decide whether the agent plays another episode.

        :param progress: Where the run stands; its budget is not spent.
        """
        played = progress.agent_timesteps - self._began
        return progress.n_agent_episodes < TURN_EPISODES * progress.n_lanes or played < TURN_STEPS * progress.n_lanes


class Budget(ABC):
    """A rule for the agent's intervals."""

    name: ClassVar[str]
    """Of its :meth:`value`, in the log."""

    teaches: ClassVar[bool] = False
    """Whether the agent may learn from the winners (``share_experience="auto"``)."""

    def advance(self, progress: Progress) -> str:
        """
        Look at the run before each turn.

        :param progress: Where it stands.
        :return: A sentence for the user, if something has changed.
        """
        return ""

    @abstractmethod
    def value(self, progress: Progress) -> float:
        """
        Say what the rule follows: the agent's share of the steps, or the probability of an interval.

        :param progress: Where the run stands.
        """

    def logged(self, progress: Progress) -> dict[str, float]:
        """
        Give the log what the rule follows.

        :param progress: Where the run stands.
        :return: Values by their keys.
        """
        return {f"agent/{self.name}": self.value(progress)}

    def note_interval(self, episodes: Sequence[tuple[float, int]]) -> None:  # noqa: B027
        """
        Take note of what the agent has played in an interval.

        :param episodes: Returns and lengths of its episodes but those of its random steps.
        """

    def note_generation(self, fitness: np.ndarray, n_winners: int) -> None:  # noqa: B027
        """
        Take note of a generation.

        :param fitness: (n,) fitness of each member.
        :param n_winners: How many were selected.
        """

    def has_generation(self, progress: Progress) -> bool:
        """
        Decide whether the population plays in this turn; otherwise it is the agent's alone.

        :param progress: Where the run stands; its budget is not spent.
        """
        return True

    @abstractmethod
    def begins(self, progress: Progress) -> bool:
        """
        Decide whether this turn has an interval of the agent's.

        :param progress: Where the run stands; its budget is not spent.
        """

    @abstractmethod
    def goes_on(self, progress: Progress) -> bool:
        """
        Decide whether the agent plays another episode in its interval.

        :param progress: Where the run stands; its budget is not spent.
        """

    def shared(self, progress: Progress) -> float:
        """
        Decide which fraction of each of the agent's batches comes from the winners, if that is left to the rule.

        :param progress: Where the run stands.
        """
        return 0.0

    def scales_observations(self, progress: Progress) -> bool:
        """
        Decide whether the agent plays enough for statistics of observations to be those of what it sees.

        :param progress: Where the run stands.
        """
        return False

    STATE: ClassVar[tuple[str, ...]] = ()
    """Names of what it has decided until now."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on as if it had never been saved."""
        return {name: copy.copy(getattr(self, name)) for name in self.STATE}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave; that of another rule is passed over.
        """
        if state.keys() == set(self.STATE):
            for name, value in state.items():
                setattr(self, name, copy.copy(value))
