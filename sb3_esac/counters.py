"""What a run has counted: the numbers of its parts, added up."""

from operator import attrgetter
from typing import Any

from sb3_esac.agent.learner import Learner
from sb3_esac.evaluation.arena import Arena


class Counters:
    """
    Sums of what arena and learner count; nothing is counted here.

    :param arena: Counts what the population plays.
    :param learner: Counts what the agent plays, None without one.
    """

    def __init__(self, arena: Arena, learner: Learner | None = None) -> None:
        self.arena, self.learner = arena, learner

    @property
    def timesteps(self) -> int:
        """Every environment step that training took, the agent's and the population's."""
        return self.agent_timesteps + self.arena.timesteps

    @timesteps.setter
    def timesteps(self, value: int) -> None:
        if value == 0:
            self.arena.start_count()
            if self.learner is not None:
                self.learner.start_count()
        self.arena.timesteps = value - self.agent_timesteps

    @property
    def agent_timesteps(self) -> int:
        """Steps of the gradient agent."""
        return 0 if self.learner is None else self.learner.agent.num_timesteps

    @property
    def episodes(self) -> int:
        """Whole episodes of agent and population."""
        return self.arena.n_episodes + (0 if self.learner is None else self.learner.n_episodes)

    @episodes.setter
    def episodes(self, value: int) -> None:
        """SB3 sets it to zero where it sets the steps to zero."""

    @property
    def updates(self) -> int:
        """Gradient steps."""
        return 0 if self.learner is None else self.learner.agent._n_updates

    @updates.setter
    def updates(self, value: int) -> None:
        if self.learner is not None:
            self.learner.agent._n_updates = value

    @property
    def seconds(self) -> dict[str, float]:
        """Where the time goes, by phase; what is missing from the whole is bookkeeping."""
        return {**self.arena.seconds, **({} if self.learner is None else self.learner.seconds)}


def handed_on(path: str, doc: str, *, settable: bool = False, optional: bool = False) -> Any:
    """
    Make a property of a model that is one of its parts'.

    :param path: Where it is found, as ``"agent.critic"``.
    :param doc: What it is.
    :param settable: Whether it can be set as well.
    :param optional: Whether it is None where the part has no such thing.
    """
    part, _, name = path.rpartition(".")
    find = attrgetter(part)

    def read(model: Any) -> Any:
        return getattr(find(model), name, None) if optional else getattr(find(model), name)

    def write(model: Any, value: Any) -> None:
        setattr(find(model), name, value)

    return property(read, write if settable else None, doc=doc)
