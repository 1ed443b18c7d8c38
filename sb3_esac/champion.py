"""The champion: the best policy found so far, chosen by noise-free re-evaluation."""

from dataclasses import dataclass, replace

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.vectors import copy_actor, load_vector

PROBE_FRACTION = 0.15
"""Probing takes at most this fraction of all steps; a generation in which it would take more is not probed."""

FINAL_PROBE_FRACTION = 0.25
"""The same for the probe that ends a call of ``learn``."""

STAGES = (1, 5)
"""Episodes after which a candidate is given up that the champion is clearly better than."""

DEFENCE = 5
"""One episode for each so many that decide is what the champion plays anew at a probe."""

TRUST = 0.01
"""What the agent may be behind by, in parts of the return, and is preferred still: gradients with exploration noise lead to
policies that forgive more than those that a lucky perturbation found."""

CLOSE = 0.25
"""What exploration may cost the agent, in parts of the champion's return, for its progress to tell anything of what it is
worth without: a policy that stands still well may explore by falling over."""

TREND_MEMORY = 10
"""Generations for which a trend counts that was seen at a probe: it may have been luck."""


@dataclass(frozen=True)
class Candidate:
    """
    A policy that might be the champion.

    :param vector: (d,) its parameters.
    :param trend: What training has shown of its source at no cost, to be compared with earlier trends of the same source; NaN
        if nothing.
    :param bound: More than its return can be expected to be; infinite if training has shown no such thing (the agent
        explores, offspring may have been cut).
    """

    vector: np.ndarray
    trend: float
    bound: float = np.inf


@dataclass(frozen=True)
class ChampionRecord:
    """
    How the champion came to be.

    :param source: "agent", "mean" or "winner".
    :param returns: (k,) its returns over the probe's episodes, the last ones that it has played.
    :param generation: When it was found.
    :param first: Number of the first of these episodes among all probe episodes of the run.
    :param trend: What its source had shown by then, see :class:`Candidate`; more, if it was probed since and was no better.
    """

    source: str
    returns: np.ndarray
    generation: int
    first: int = 0
    trend: float = np.nan

    @property
    def return_mean(self) -> float:
        """Mean return over the probe's episodes."""
        return float(self.returns.mean())

    @property
    def margin(self) -> float:
        """Standard error of that mean."""
        return float(self.returns.std() / np.sqrt(self.returns.size))


class Champion:
    """
    An actor of its own, so that nothing that happens to agent and population changes it.

    Candidates play the same episodes as the champion (same seeds), so that none wins by an easier start. At each probe the
    champion plays a few new ones in place of its oldest: whoever takes its place had some luck in the episodes that decided
    it, and would keep it for ever.

    :param actor: Actor whose form is copied; until a record exists its parameters mean nothing.
    """

    def __init__(self, actor: BasePolicy) -> None:
        self.actor = copy_actor(actor)
        self.record: ChampionRecord | None = None
        # What each source showed when it was last probed, and the generation of that.
        self.trends: dict[str, tuple[float, int]] = {}

    def promising(self, candidates: dict[str, Candidate], generation: int) -> dict[str, Candidate]:
        """
        Candidates that are worth steps: the agent, or better than when they were last probed, or not probed for long, and not
        clearly behind the champion.

        :param candidates: Candidates by source.
        :param generation: Number of the generation.
        :return: Some of them.
        """
        chosen = {}
        for source, candidate in candidates.items():
            seen, when = self.trends.get(source, (-np.inf, generation))
            if generation - when >= TREND_MEMORY:
                seen = -np.inf
            behind = self.record is not None and candidate.bound < self.record.return_mean - self.record.margin
            if candidate.trend > seen and not behind:
                chosen[source] = candidate
        return chosen

    def remember(self, candidates: dict[str, Candidate], generation: int) -> None:
        """
        Remember what sources show as they are probed. Not the agent's: it is promising in every generation, as it has learned
        meanwhile, and what it shows in a few episodes of exploration is too noisy to be compared with.

        :param candidates: Candidates by source.
        :param generation: Number of the generation.
        """
        for source, candidate in candidates.items():
            if source != "agent":
                self.trends[source] = candidate.trend, generation

    def forget(self, *sources: str) -> None:
        """
        Forget what sources showed when they were last probed, as what they show from now on does not compare with it.

        :param sources: Which ones.
        """
        self.trends = {source: value for source, value in self.trends.items() if source not in sources}

    def _handicap(self, source: str) -> float:
        """
        By how much the champion has to be ahead of a candidate to be as good.

        :param source: The candidate's.
        """
        assert self.record is not None
        return TRUST * abs(self.record.return_mean) * ((source == "agent") - (self.record.source == "agent"))

    def is_overtaken(self, level: float, error: float) -> bool:
        """
        Whether the agent is deployed in the champion's place until it is probed: exploring, it has shown as much as the
        champion without noise; or it has come close to that, and the champion is an earlier agent that had shown less.

        :param level: Mean return of its last episodes, exploring; NaN if there is none.
        :param error: Standard error of that mean.
        """
        record = self.record
        if record is None:
            return False
        mean, scale = record.return_mean, abs(record.return_mean)
        has_improved = record.source == "agent" and level > max(record.trend + error, mean - CLOSE * scale)
        return bool(has_improved or level > mean - TRUST * scale)

    def note_defeat(self, level: float) -> None:
        """
        Take note that the agent is no better than the champion, whatever it shows: to stand in for an earlier agent it has to
        show more from now on.

        :param level: As above.
        """
        if self.record is not None and self.record.source == "agent":
            self.record = replace(self.record, trend=float(np.fmax(self.record.trend, level)))

    def deserves_probe(self, record: ChampionRecord) -> bool:
        """
        Whether a candidate should play the other probe episodes too.

        :param record: Its return in the first probe episode.
        :return: True unless it is clearly behind the champion.
        """
        first_return = record.returns[0]
        if not np.isfinite(first_return):
            return False
        if self.record is None:
            return True
        behind = self.record.margin + max(0.0, self._handicap(record.source))
        return bool(first_return > min(self.record.returns[0], self.record.return_mean) - behind)

    def is_clearly_better(self, record: ChampionRecord) -> bool:
        """
        Whether a candidate has no business with the champion.

        Episodes with the same seed are compared. Where the difference lies within half of its standard error the candidate is
        as good: training improves policies. Between the agent and others one percent counts for the agent.

        :param record: The candidate's returns, in the first episodes at least.
        :return: True if the champion is better, or the candidate's returns are not all finite.
        """
        if not np.isfinite(record.returns).all():
            return True
        if self.record is None:
            return False
        # A candidate may not have played all yet, or their number may be another than before: the first ones are the same.
        common = min(record.returns.size, self.record.returns.size)
        difference = record.returns[:common] - self.record.returns[:common]
        enough = 0.5 * difference.std() / np.sqrt(difference.size) + self._handicap(record.source)
        return bool(difference.mean() < -enough)

    def n_defences(self, n_episodes: int) -> int:
        """
        Say how many new episodes the champion plays at a probe.

        :param n_episodes: Episodes that decide.
        :return: A fifth of them, at least one; none without a champion.
        """
        return 0 if self.record is None else max(1, n_episodes // DEFENCE)

    def defend(self, returns: np.ndarray, n_episodes: int) -> None:
        """
        Put new episodes in the place of the oldest.

        :param returns: (m,) the champion's returns in the episodes that follow the last ones of its record. Where one of them
            is not finite, the record stays as it is.
        :param n_episodes: Episodes that decide: a record of fewer loses none.
        """
        record = self.record
        if record is None or not np.isfinite(returns).all():
            return
        played = np.concatenate([record.returns, returns])
        kept = played[-max(n_episodes, record.returns.size) :]
        self.record = replace(record, returns=kept, first=record.first + played.size - kept.size)

    def crown(self, actor: BasePolicy, vector: np.ndarray, record: ChampionRecord) -> None:
        """
        Put a candidate in the champion's place.

        :param actor: Actor with the current statistics; copied.
        :param vector: (d,) the candidate's parameters.
        :param record: Its returns.
        """
        self.actor = copy_actor(actor)
        load_vector(self.actor, vector)
        self.record = record


def most_trusted(first_returns: dict[str, float]) -> str:
    """
    Choose whom to play the other probe episodes.

    :param first_returns: Return in the first probe episode by source, the most trusted source first; NaN for what went wrong.
    :return: The source with the highest return; one that comes later has to be ahead by :data:`TRUST`.
    """
    chosen, best = next(iter(first_returns)), -np.inf
    for source, value in first_returns.items():
        if np.isfinite(value) and value > best + TRUST * abs(best if np.isfinite(best) else 0.0):
            chosen, best = source, value
    return chosen
