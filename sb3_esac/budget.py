"""Who plays next: which generations have a gradient interval, and how long it is (Algorithm 1, lines 12 and 13)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.noise import Stream, generator
from sb3_esac.evolution.schedules import ExponentialAnnealing, Schedule, as_schedule

SCALING_FRACTION = 0.1
"""
From this ``agent_fraction`` on, statistics of observations are the agent's; below, the population is what learns.

Evidence: experiments/notebook/defaults.md, "Whose observations". An agent whose inputs are scaled by what everybody sees
learns more slowly.
"""

ENDING_FRACTION = 0.5
"""
From this ``agent_fraction`` on, the agent plays what is left of the budget when no other generation fits in.

It is the half that plays more: with the population's turn a run would end up to a whole generation beyond its budget.
"""


class Budget(ABC):
    """
    A rule for the agent's intervals.

    :param schedule: What the rule follows, a function of the remaining progress.
    """

    name: ClassVar[str]
    """Of what the schedule gives, in the log."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def advance(self, progress: Progress) -> None:
        """
        Look at the run before each turn.

        :param progress: Where it stands.
        """

    def note_interval(self, episodes: Sequence[tuple[float, int]]) -> None:
        """
        Take note of what the agent has played in an interval.

        :param episodes: Returns and lengths of its episodes but those of its random steps.
        """

    def note_generation(self, fitness: np.ndarray, n_winners: int) -> None:
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

    def scales_observations(self, progress: Progress) -> bool:
        """
        Decide whether the agent plays enough for statistics of observations to be those of what it sees.

        :param progress: Where the run stands.
        """
        return False

    def state_dict(self) -> dict[str, Any]:
        """What it has decided until now, if that matters."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """


class Annealed(Budget):
    """
    The paper's rule: every ``interval`` generations with probability p_sac, ``n_episodes`` episodes each.

    :param probability: p_sac, None for the paper's exponential annealing.
    :param interval: g.
    :param n_episodes: Whole episodes.
    """

    name = "probability"

    def __init__(self, probability: float | Schedule | None, interval: int, n_episodes: int) -> None:
        super().__init__(ExponentialAnnealing() if probability is None else as_schedule(probability))
        self.interval, self.n_episodes = interval, n_episodes

    def begins(self, progress: Progress) -> bool:
        coin = generator(progress.run_seed, progress.generation, Stream.GRADIENT_INTERVAL).random()
        return (progress.generation + 1) % self.interval == 0 and coin < self.schedule(progress.remaining)

    def goes_on(self, progress: Progress) -> bool:
        return progress.n_agent_episodes < self.n_episodes


class AgentShare(Budget):
    """
    The agent plays a fraction of all steps: whenever it has played less than its share.

    :param fraction: Its share of the steps so far.
    """

    name = "fraction"

    def __init__(self, fraction: float | Schedule) -> None:
        super().__init__(as_schedule(fraction))

    def begins(self, progress: Progress) -> bool:
        fraction = self.schedule(progress.remaining)
        plays_the_rest = fraction >= ENDING_FRACTION and not progress.overlaps
        if plays_the_rest and progress.total_timesteps - progress.timesteps < progress.generation_timesteps:
            return True
        return progress.agent_timesteps < fraction * progress.timesteps

    def goes_on(self, progress: Progress) -> bool:
        return self.begins(progress)

    def scales_observations(self, progress: Progress) -> bool:
        return self.schedule(progress.remaining) >= SCALING_FRACTION


def make_budget(
    fraction: float | Schedule | None, probability: float | Schedule | None, interval: int, n_episodes: int
) -> Budget:
    """
    Choose the rule; the names are explained in :class:`sb3_esac.ESAC`.

    :param fraction: ``agent_fraction``; None for the paper's rule.
    :param probability: ``agent_probability``.
    :param interval: ``gradient_interval``.
    :param n_episodes: ``agent_episodes``.
    """
    return Annealed(probability, interval, n_episodes) if fraction is None else AgentShare(fraction)
