"""Who leads: the agent while it improves, a search of the population's own when it does not (``agent_fraction="auto"``)."""

from collections.abc import Sequence

import numpy as np

from sb3_esac.budget.rule import Budget, TurnOfItsOwn
from sb3_esac.evaluation.progress import Progress
from sb3_esac.evolution.improvement import Returns
from sb3_esac.evolution.strategies.protocol import known_winners
from sb3_esac.evolution.trend import Trend

WINDOW = 0.1
"""The agent is stuck when its returns over this fraction of all steps so far ..."""

MIN_WINDOW = 20_000
"""... over so many steps at least ..."""

MIN_SEARCH = 2
"""... and over what so many generations cost, the least that a search takes ..."""

MEANINGFUL = 0.01
"""... are no better than over as many steps before, by this fraction of the spread of all returns."""

ROOM = 2
"""
No search begins unless so many times such a window is left, and it takes at most one part in so many of what is left.

Evidence for all of these: experiments/notebook/defaults.md, "Who leads". Walkers stand still for 25,000 steps, and walk then.
"""

PIECE = 2
"""Windows of steps that a search may take. With one, episodes of 1000 steps leave it three generations."""

SEARCH_PATIENCE = 10
"""A search is stuck when it has not improved for so many generations."""

FOLLOWER = 0.1
"""The agent's share of the steps while the population leads."""

SHARED = 0.5
"""Fraction of each of its batches that comes from the winners while the champion is the population's."""


class Lead(Budget):
    """
    One half leads and plays nearly all of the steps.

    The agent begins. When its returns have stopped improving, the population gets a piece of the steps for a search of its
    own, which is as long as both windows of steps that tell, and twice as long each time after, but at most half of what is
    left. It keeps the lead while its champion is ahead of the agent and it improves itself. A population that does not lead
    takes no steps at all. As long as the champion is the population's, the agent learns from the winners, too.
    """

    name = "fraction"
    teaches = True

    def __init__(self) -> None:
        self.searches = False
        self._agent, self._search = Returns(), Trend()
        self._n_searches = 0
        self._piece = self._episode_length = 0.0
        self._handed_at = self._agent_handed_at = 0
        self._turn = TurnOfItsOwn()

    def value(self, progress: Progress) -> float:
        return FOLLOWER if self.searches else 1.0

    def advance(self, progress: Progress) -> str:
        if progress.timesteps < self._handed_at:
            # A new call of `learn` counts from zero.
            self._handed_at = self._agent_handed_at = 0
        if not self.searches:
            window = max(MIN_WINDOW, WINDOW * progress.timesteps, MIN_SEARCH * self._price(progress))
            least = window * 2**self._n_searches
            rest = progress.total_timesteps - progress.timesteps
            piece = min(PIECE * least, rest / ROOM)
            if (
                piece >= least
                and progress.agent_timesteps - self._agent_handed_at >= 2 * window
                and (why := self._stuck(window))
            ):
                self._piece, self._n_searches = piece, self._n_searches + 1
                return self._hand_over(progress, why)
        elif progress.agent_is_champion:
            if progress.timesteps - self._handed_at >= self._piece:
                return self._hand_over(progress, "the search has found nothing that is ahead of the agent")
        elif self._search.stale >= SEARCH_PATIENCE:
            why = f"the winners have not improved for {self._search.stale} generations (best {self._search.best:.4g})"
            return self._hand_over(progress, why)
        return ""

    def _stuck(self, window: float) -> str:
        """Say why the agent is stuck, nothing if it is not."""
        means = self._agent.means(window)
        if means is None or means[1] > means[0] + MEANINGFUL * self._agent.spread:
            return ""
        before, latest = means
        said = f"the agent's mean return over {window:,.0f} steps ({latest:.4g})"
        return f"{said} is no better than over as many before ({before:.4g})"

    def _hand_over(self, progress: Progress, why: str) -> str:
        self.searches = not self.searches
        self._handed_at, self._agent_handed_at = progress.timesteps, progress.agent_timesteps
        if self.searches:
            self._search.stale = 0
        leader, share = ("population", 1 - FOLLOWER) if self.searches else ("agent", 1)
        return f"Step {progress.timesteps:,}: the {leader} leads and plays {share:.0%} of the steps, since {why}."

    def logged(self, progress: Progress) -> dict[str, float]:
        return {**super().logged(progress), "population/stale_generations": self._search.stale}

    def _price(self, progress: Progress) -> float:
        """Steps of a generation; before the first one of as many episodes as the agent's."""
        return progress.generation_timesteps or progress.generation_episodes * self._episode_length

    def note_interval(self, episodes: Sequence[tuple[float, int]]) -> None:
        if episodes:
            self._episode_length = sum(length for _, length in episodes) / len(episodes)
        for episode_return, length in episodes:
            self._agent.note(episode_return, length)

    def note_generation(self, fitness: np.ndarray, n_winners: int) -> None:
        self._search.note(float(fitness[known_winners(fitness, n_winners)].mean()))

    def has_generation(self, progress: Progress) -> bool:
        # Otherwise a run would end up to a whole generation beyond its budget.
        return self.searches and progress.total_timesteps - progress.timesteps >= self._price(progress)

    def begins(self, progress: Progress) -> bool:
        self._turn.begin(progress)
        return not self.has_generation(progress) or self._is_owed(progress)

    def _is_owed(self, progress: Progress) -> bool:
        played = progress.agent_timesteps - self._agent_handed_at
        return played < FOLLOWER * (progress.timesteps - self._handed_at)

    def goes_on(self, progress: Progress) -> bool:
        if self.has_generation(progress):
            return self._is_owed(progress)
        return self._turn.goes_on(progress)

    def shared(self, progress: Progress) -> float:
        return 0.0 if progress.agent_is_champion else SHARED

    def scales_observations(self, progress: Progress) -> bool:
        return True

    STATE = ("searches", "_agent", "_search", "_n_searches", "_piece", "_episode_length", "_handed_at", "_agent_handed_at")
