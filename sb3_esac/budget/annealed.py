"""The paper's rule: gradient intervals by chance, less often as the run goes on (Algorithm 1, lines 12 and 13)."""

from sb3_esac.budget.rule import Budget
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.noise import Stream, generator
from sb3_esac.evolution.schedules import ExponentialAnnealing, Schedule, as_schedule


class Annealed(Budget):
    """
    The paper's rule: every ``interval`` generations with probability p_sac, ``n_episodes`` episodes each.

    :param probability: p_sac, None for the paper's exponential annealing.
    :param interval: g.
    :param n_episodes: Whole episodes.
    """

    name = "probability"

    def __init__(self, probability: float | Schedule | None, interval: int, n_episodes: int) -> None:
        self.schedule = ExponentialAnnealing() if probability is None else as_schedule(probability)
        self.interval, self.n_episodes = interval, n_episodes

    def value(self, progress: Progress) -> float:
        return self.schedule(progress.remaining)

    def begins(self, progress: Progress) -> bool:
        coin = generator(progress.run_seed, progress.generation, Stream.GRADIENT_INTERVAL).random()
        return (progress.generation + 1) % self.interval == 0 and coin < self.value(progress)

    def goes_on(self, progress: Progress) -> bool:
        return progress.n_agent_episodes < self.n_episodes
