"""The agent plays a fraction of all steps."""

from sb3_esac.budget.rule import Budget, TurnOfItsOwn
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.schedules import Schedule, as_schedule

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


class AgentShare(Budget):
    """
    The agent plays a fraction of all steps: whenever it has played less than its share. If that is all of them, there are no
    generations.

    :param fraction: Its share of the steps so far.
    """

    name = "fraction"

    def __init__(self, fraction: float | Schedule) -> None:
        self.schedule = as_schedule(fraction)
        self._turn = TurnOfItsOwn()

    def value(self, progress: Progress) -> float:
        return self.schedule(progress.remaining)

    def has_generation(self, progress: Progress) -> bool:
        return self.value(progress) < 1

    def begins(self, progress: Progress) -> bool:
        self._turn.begin(progress)
        return not self.has_generation(progress) or self._is_owed(progress)

    def goes_on(self, progress: Progress) -> bool:
        return self._is_owed(progress) if self.has_generation(progress) else self._turn.goes_on(progress)

    def _is_owed(self, progress: Progress) -> bool:
        fraction = self.value(progress)
        plays_the_rest = fraction >= ENDING_FRACTION and not progress.overlaps
        if plays_the_rest and progress.total_timesteps - progress.timesteps < progress.generation_timesteps:
            return True
        return progress.agent_timesteps < fraction * progress.timesteps

    def scales_observations(self, progress: Progress) -> bool:
        return self.value(progress) >= SCALING_FRACTION
