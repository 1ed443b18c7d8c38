"""Where a run stands: what its parts are told of the others."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """
    Where a run stands: all that a rule may decide by.

    :param run_seed: Seed of the run.
    :param generation: Number of the generation, from 0.
    :param timesteps: Steps of agent and population so far.
    :param agent_timesteps: Those of the agent.
    :param total_timesteps: The budget; may be infinite.
    :param generation_timesteps: Steps that another generation would take, with a probe of the champion's; 0 before the first.
    :param generation_episodes: Episodes of it.
    :param n_agent_episodes: Whole episodes that the agent has played in this interval.
    :param n_lanes: Lanes of the environment, in which the agent plays side by side.
    :param agent_is_champion: Whether nothing of the population's is known to be better than the agent.
    :param overlaps: Whether a generation is under way while the agent plays.
    """

    run_seed: int
    generation: int
    timesteps: int
    agent_timesteps: int
    total_timesteps: float
    generation_timesteps: float
    generation_episodes: int = 0
    n_agent_episodes: int = 0
    n_lanes: int = 1
    agent_is_champion: bool = True
    overlaps: bool = False

    @property
    def remaining(self) -> float:
        """The remaining progress: 1 at the start, 0 when the budget is spent, also by a last episode that goes beyond it."""
        return max(0.0, 1.0 - float(self.timesteps) / float(self.total_timesteps))

    @property
    def is_spent(self) -> bool:
        """Whether no step is left."""
        return self.timesteps >= self.total_timesteps
