"""When the agent plays: which generations have a gradient interval, and how long it is (Algorithm 1, lines 12 and 13)."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from stable_baselines3.common.type_aliases import Schedule

from sb3_esac.evolution.noise import Stream, generator
from sb3_esac.evolution.schedules import ExponentialAnnealing, as_schedule

if TYPE_CHECKING:
    from sb3_esac.esac import ESAC

SCALING_FRACTION = 0.1
"""From this ``agent_fraction`` on, statistics of observations are the agent's; below, the population is what learns."""

ENDING_FRACTION = 0.5
"""From this ``agent_fraction`` on, the agent plays what is left of the budget when no other generation fits in."""


class Turns(ABC):
    """
    A rule for the agent's intervals, asked while the budget is not spent.

    :param schedule: What the rule follows, a function of the remaining progress.
    """

    name: str
    """Of what the schedule gives, in the log."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @abstractmethod
    def begin(self, model: "ESAC") -> bool:
        """Whether this generation has an interval."""

    @abstractmethod
    def go_on(self, model: "ESAC", n_episodes: int) -> bool:
        """Whether the agent plays another episode after ``n_episodes`` whole ones in this interval."""

    def scales_observations(self, progress_remaining: float) -> bool:
        """Whether the agent plays enough for statistics of observations to be those of what it sees."""
        return False


class AnnealedTurns(Turns):
    """
    The paper's rule: every ``gradient_interval`` generations with probability p_sac, ``agent_episodes`` episodes each.

    :param probability: p_sac, None for the paper's exponential annealing.
    """

    name = "probability"

    def __init__(self, probability: float | Schedule | None) -> None:
        super().__init__(ExponentialAnnealing() if probability is None else as_schedule(probability))

    def begin(self, model: "ESAC") -> bool:
        number = model.population.generation
        coin = generator(model.run_seed, number, Stream.GRADIENT_INTERVAL).random()
        return (number + 1) % model.gradient_interval == 0 and coin < self.schedule(model._current_progress_remaining)

    def go_on(self, model: "ESAC", n_episodes: int) -> bool:
        return n_episodes < model.agent_episodes


class SharedTurns(Turns):
    """
    The agent plays a fraction of all steps: whenever it has played less than its share.

    :param fraction: Its share of the steps so far.
    """

    name = "fraction"

    def __init__(self, fraction: float | Schedule) -> None:
        super().__init__(as_schedule(fraction))

    def begin(self, model: "ESAC") -> bool:
        fraction = self.schedule(model._current_progress_remaining)
        # With overlap a generation is under way already.
        plays_the_rest = fraction >= ENDING_FRACTION and not model.overlap
        if plays_the_rest and model._total_timesteps - model.num_timesteps < expected_steps(model):
            return True
        return model.agent_timesteps < fraction * model.num_timesteps

    def go_on(self, model: "ESAC", n_episodes: int) -> bool:
        return self.begin(model)

    def scales_observations(self, progress_remaining: float) -> bool:
        return self.schedule(progress_remaining) >= SCALING_FRACTION


def expected_steps(model: "ESAC") -> float:
    """Steps that another generation of offspring would take, and a probe of the champion's."""
    probes = model.champion_episodes * model._episode_caps.probe_length(model._mean_length)
    return model.population_size * model.n_eval_episodes * model._mean_length + probes


def make_turns(fraction: float | Schedule | None, probability: float | Schedule | None) -> Turns:
    """
    Choose the rule.

    :param fraction: ``agent_fraction``; None for the paper's rule.
    :param probability: ``agent_probability``.
    """
    return AnnealedTurns(probability) if fraction is None else SharedTurns(fraction)
