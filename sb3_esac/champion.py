"""The champion: the best policy found so far, chosen by noise-free re-evaluation."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import EvaluationResult, OnStep
from sb3_esac.evaluation.players import Player, make_player
from sb3_esac.evaluation.progress import Level
from sb3_esac.evaluation.vectors import copy_actor, load_vector, to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

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


@dataclass(frozen=True)
class Challenge:
    """
    Who might be the champion now.

    :param candidates: Policies by source: "agent" first, if there is one, "mean" and "winner".
    :param actor: Actor of the present form and statistics, which plays their vectors.
    :param level: What the agent has shown.
    :param generation: Number of the generation.
    :param run_seed: Seed of the run.
    :param n_episodes: Episodes that decide, ``champion_episodes``.
    :param timesteps: Steps of the run so far.
    """

    candidates: dict[str, Candidate]
    actor: BasePolicy
    level: Level
    generation: int
    run_seed: int
    n_episodes: int
    timesteps: int

    def seeds(self, first: int, n_episodes: int) -> np.ndarray:
        """(1, n) seeds of the probe episodes from a number on."""
        numbers = range(first, first + n_episodes)
        return np.array([[episode_seed(self.run_seed, 0, Stream.PROBE_EPISODE, number) for number in numbers]])


@dataclass(frozen=True)
class Verdict:
    """
    What came of a step of the champion's.

    :param goes_on: False if a callback asked to stop.
    :param agent_lost: Whether the agent was probed and is no better than the champion.
    """

    goes_on: bool = True
    agent_lost: bool = False


STOPPED = Verdict(goes_on=False)


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
        self._probed_generation = -1

    # -- a probe -------------------------------------------------------------------------------------------------------

    def step(self, challenge: Challenge, arena: Arena, on_step: OnStep, *, is_last: bool = False) -> Verdict:
        """
        Probe what might be better than the champion, if something might and steps allow it.

        :param challenge: Who might be.
        :param arena: Where they play.
        :param on_step: Told of every step; False stops.
        :param is_last: Whether the run ends with this: whoever deploys it should get the best that there is.
        """
        candidates = challenge.candidates
        if not is_last:
            candidates = self.promising(candidates, challenge.generation)
            if not candidates and not self.is_overtaken(challenge.level):
                return Verdict()
        fraction = FINAL_PROBE_FRACTION if is_last else PROBE_FRACTION
        n_episodes = self._n_affordable(challenge, max(1, len(candidates)), fraction, arena)
        return self._probe(candidates, n_episodes, challenge, arena, on_step) if n_episodes > 0 else Verdict()

    def expect_another(self) -> None:
        """Say that there is a new candidate since this generation was probed."""
        self._probed_generation = -1

    def _n_affordable(self, challenge: Challenge, n_candidates: int, fraction: float, arena: Arena) -> int:
        """
        Say how many episodes may decide now, 0 for no probe: if nothing has changed since the last one, or another one would
        take too many of the steps. The first champion needs no more than what there is to play it.
        """
        nothing_new = arena.mean_length == 0 or self._probed_generation == challenge.generation
        wanted = challenge.n_episodes
        if wanted == 0 or nothing_new:
            return 0
        affordable = (fraction * challenge.timesteps - arena.probe_timesteps) / ((1 - fraction) * arena.probe_length)
        n_deciding = int(affordable) - n_candidates + 1 - self.n_defences(wanted)
        if n_deciding >= wanted:
            return wanted
        return max(0, n_deciding) if self.record is None else 0

    def _probe(
        self, candidates: dict[str, Candidate], n_episodes: int, challenge: Challenge, arena: Arena, on_step: OnStep
    ) -> Verdict:
        """Play candidates without noise and let the best of them challenge the champion."""
        self._probed_generation = challenge.generation
        if not self._defend(challenge, arena, on_step):
            return STOPPED
        if self.is_overtaken(challenge.level):
            candidates = {"agent": challenge.candidates["agent"], **candidates}
        if not candidates:
            return Verdict()
        number = 0 if self.record is None else self.record.first
        seeds = challenge.seeds(number, n_episodes)
        player = make_player(challenge.actor)
        vectors = np.stack([candidate.vector for candidate in candidates.values()])
        self.remember(candidates, challenge.generation)
        screening = _play(arena, vectors, np.repeat(seeds[:, :1], len(vectors), axis=0), player, number, on_step)
        if screening is None:
            return STOPPED
        arena.caps.whole_length = float(screening.lengths.mean())
        first = dict(zip(candidates, screening.returns[:, 0].tolist(), strict=True))
        # Who stands in for the champion is judged before anybody else.
        source = "agent" if self.is_overtaken(challenge.level) else most_trusted(first)
        record = ChampionRecord(source, np.array([first[source]]), challenge.generation, number, candidates[source].trend)
        vector = candidates[source].vector
        while not self._loses(record):
            if record.returns.size == n_episodes:
                self.crown(challenge.actor, vector, record)
                return Verdict()
            start = record.returns.size
            end = next((stage for stage in STAGES if start < stage < n_episodes), n_episodes)
            result = _play(arena, vector[None], seeds[:, start:end], player, number + start, on_step)
            if result is None:
                return STOPPED
            record = replace(record, returns=np.concatenate([record.returns, result.returns[0]]))
        if source == "agent":
            self.note_defeat(challenge.level.mean)
        return Verdict(agent_lost=source == "agent")

    def _loses(self, record: ChampionRecord) -> bool:
        """Whether a candidate is given up by what it has played."""
        return self.is_clearly_better(record) if record.returns.size > 1 else not self.deserves_probe(record)

    def _defend(self, challenge: Challenge, arena: Arena, on_step: OnStep) -> bool:
        """Let the champion play episodes that nobody has played; False if a callback asked to stop."""
        n_episodes = self.n_defences(challenge.n_episodes)
        if n_episodes == 0:
            return True
        assert self.record is not None
        number = self.record.first + self.record.returns.size
        seeds, player = challenge.seeds(number, n_episodes), make_player(self.actor)
        result = _play(arena, to_vector(self.actor)[None], seeds, player, number, on_step)
        if result is None:
            return False
        self.defend(result.returns[0], challenge.n_episodes)
        return True

    # -- the rules -----------------------------------------------------------------------------------------------------

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

    def is_overtaken(self, level: Level) -> bool:
        """
        Whether the agent is deployed in the champion's place until it is probed: exploring, it has shown as much as the
        champion without noise; or it has come close to that, and the champion is an earlier agent that had shown less.

        :param level: What it has shown.
        """
        record = self.record
        if record is None or level.is_random:
            return False
        mean, scale = record.return_mean, abs(record.return_mean)
        has_improved = record.source == "agent" and level.mean > max(record.trend + level.error, mean - CLOSE * scale)
        return bool(has_improved or level.mean > mean - TRUST * scale)

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

    # -- state ---------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights of ``actor``, which are parameters of the model."""
        return {"record": self.record, "trends": dict(self.trends), "_probed_generation": self._probed_generation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        self.record, self.trends = state["record"], dict(state["trends"])
        self._probed_generation = state["_probed_generation"]


def _play(
    arena: Arena, vectors: np.ndarray, seeds: np.ndarray, player: Player, first: int, on_step: OnStep
) -> EvaluationResult | None:
    """Play probe episodes, of which the first has that number among all of the run."""
    return arena.play(arena.request(vectors, seeds, player, first=first, whole=True), on_step, is_probe=True)


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
