"""The champion: the best policy found so far, chosen by noise-free episodes that it and its challengers play alike."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult
from sb3_esac.evaluation.players import Player, make_player
from sb3_esac.evaluation.vectors import copy_actor, load_vector, to_vector
from sb3_esac.evolution.noise import Stream, episode_seed

PROBE_FRACTION = 0.15
"""
Probing takes at most this fraction of all steps; a generation in which it would take more is not probed.

A probe of the default is eight episodes, beside ten of a generation's members and some forty of the agent's: each generation
is probed, and nothing is left for more.
"""


@dataclass(frozen=True)
class ChampionRecord:
    """
    What the champion has played.

    :param source: "agent", "mean" or "winner": where it came from.
    :param returns: (k,) its returns in the last probe episodes that it has played, about ``champion_episodes``.
    :param generation: When it took its place.
    :param numbers: (k,) numbers of these episodes among all probe episodes of the run.
    """

    source: str
    returns: np.ndarray
    generation: int
    numbers: np.ndarray

    @property
    def return_mean(self) -> float:
        """Mean return over these episodes."""
        return float(self.returns.mean())


@dataclass(frozen=True)
class Challenge:
    """
    Who might be the champion now.

    :param candidates: (d,) parameters by source, the most trusted one first.
    :param actor: Actor of the present form and statistics.
    :param player: Plays as that actor does.
    :param generation: Number of the generation.
    :param run_seed: Seed of the run.
    :param n_episodes: Episodes that decide, ``champion_episodes``; 0 for no champion.
    :param timesteps: Steps of the run so far.
    """

    candidates: dict[str, np.ndarray]
    actor: BasePolicy
    player: Player
    generation: int
    run_seed: int
    n_episodes: int
    timesteps: int


@dataclass(frozen=True)
class Challenger:
    """
    Who has opened best, and has still to play what the champion has played.

    :param source: As in :class:`ChampionRecord`.
    :param actor: An actor of its own.
    :param generation: When it was a candidate.
    :param number: Number of the episode in which it has opened.
    :param opening: Its return there.
    :param rest: Numbers of the episodes that it has to play.
    """

    source: str
    actor: BasePolicy
    generation: int
    number: int
    opening: float
    rest: tuple[int, ...]


@dataclass(frozen=True)
class _Round:
    """What has been asked for: the rest of a challenger's episodes, or a new one for champion and candidates, or both."""

    challenger: Challenger | None
    challenge: Challenge | None
    defender: BasePolicy
    defender_plays: bool


class Champion:
    """
    An actor of its own, so that nothing that happens to agent and population changes it.

    :param actor: Actor whose form is copied; until a record exists its parameters mean nothing.
    """

    def __init__(self, actor: BasePolicy) -> None:
        self.actor = copy_actor(actor)
        self.record: ChampionRecord | None = None
        self.challenger: Challenger | None = None
        self.n_numbers = 0
        self._probed_generation = -1
        self._round: _Round | None = None

    def ask(self, challenge: Challenge, arena: Arena) -> list[EvaluationRequest]:
        """
        Say what has to be played to find a better champion; :meth:`tell` is told what came of it.

        An opening comes first: champion and candidates play a new episode. The best candidate then plays those that the
        champion has played (the same seeds, so that none wins by an easier start), and takes its place unless the champion is
        clearly better: training improves policies. The champion's new episode replaces the oldest in its record: a new
        champion had some luck in the episodes that decided it, and would keep it for ever. The first champion is the candidate
        that opens best.

        :param challenge: Who might be better.
        :param arena: Where they play.
        :return: Requests that can be played together, none if nothing has to be.
        """
        if challenge.n_episodes == 0:
            # Nobody would play against the champion any longer.
            self.forget()
            return []
        challenger, is_due = self.challenger, self._is_due(challenge, arena)
        self._round = _Round(challenger, challenge if is_due else None, self.actor, self.record is not None)
        seed, requests = challenge.run_seed, []

        def alone(actor: BasePolicy, numbers: Sequence[int]) -> EvaluationRequest:
            player = make_player(actor, like=challenge.player)
            return _request(arena, player, to_vector(actor)[None], numbers, seed)

        if challenger is not None:
            requests.append(alone(challenger.actor, challenger.rest))
        if is_due and self.record is not None:
            requests.append(alone(self.actor, (self.n_numbers,)))
        if is_due:
            vectors = np.stack([*challenge.candidates.values()])
            requests.append(_request(arena, challenge.player, vectors, (self.n_numbers,), seed))
        return requests

    def tell(self, results: Sequence[EvaluationResult]) -> str | None:
        """
        Decide.

        :param results: What came of the requests of :meth:`ask`, in their order.
        :return: Source of a challenger that has turned out to be no better than the champion, if there is one.
        """
        this, self._round = self._round, None
        assert this is not None
        returns, defeated = iter([result.returns for result in results]), None
        if this.challenger is not None:
            defeated = self._decide(this.challenger, next(returns)[0])
        if this.challenge is not None:
            self._probed_generation, number = this.challenge.generation, self.n_numbers
            self.n_numbers += 1
            if this.defender_plays:
                own = next(returns)[0]
                if this.defender is self.actor:
                    self._note(number, own, this.challenge.n_episodes)
            defeated = self._open(this.challenge, number, next(returns)[:, 0]) or defeated
        return defeated

    def forget(self) -> None:
        """Let another one be the first champion."""
        self.record = self.challenger = None

    def _is_due(self, challenge: Challenge, arena: Arena) -> bool:
        """Whether something is new since the last opening, and another one would not take too many of the steps."""
        if arena.mean_length == 0 or self._probed_generation == challenge.generation:
            return False
        n_episodes = len(challenge.candidates) + (0 if self.record is None else challenge.n_episodes)
        steps = arena.probe_length * n_episodes
        return arena.probe_timesteps + steps <= PROBE_FRACTION * (challenge.timesteps + steps)

    def _note(self, number: int, returns: np.ndarray, n_episodes: int) -> None:
        """Note the champion's new episode instead of its oldest."""
        record = self.record
        assert record is not None
        if np.isfinite(returns).all():
            known = np.concatenate([record.returns, returns])[-n_episodes:]
            numbers = np.concatenate([record.numbers, [number]])[-n_episodes:]
            self.record = replace(record, returns=known, numbers=numbers)

    def _open(self, challenge: Challenge, number: int, returns: np.ndarray) -> str | None:
        """Find the challenger among those that have opened; its source if it is defeated already."""
        best = int(np.argmax(np.where(np.isfinite(returns), returns, -np.inf)))
        source, opening = [*challenge.candidates][best], float(returns[best])
        record = self.record
        if not np.isfinite(opening) or (record is not None and opening < record.returns.min()):
            return source
        actor = copy_actor(challenge.actor)
        load_vector(actor, challenge.candidates[source])
        # A new champion has a whole record, even if the champion has none yet.
        rest = [] if record is None else [int(played) for played in record.numbers if played != number]
        n_new = 0 if record is None else max(0, challenge.n_episodes - 1 - len(rest))
        rest += range(self.n_numbers, self.n_numbers + n_new)
        self.n_numbers += n_new
        challenger = Challenger(source, actor, challenge.generation, number, opening, tuple(rest))
        if not rest:
            return self._decide(challenger, np.empty(0))
        self.challenger = challenger
        return None

    def _decide(self, challenger: Challenger, rest: np.ndarray) -> str | None:
        """Let a challenger that has played everything take the champion's place, or not."""
        self.challenger = None
        numbers, returns = np.array([*challenger.rest, challenger.number]), np.array([*rest, challenger.opening])
        if self.is_clearly_better(numbers, returns):
            return challenger.source
        self.actor = challenger.actor
        self.record = ChampionRecord(challenger.source, returns, challenger.generation, numbers)
        return None

    def is_clearly_better(self, numbers: np.ndarray, returns: np.ndarray) -> bool:
        """
        Whether the champion is better than a challenger by more than half of the standard error of the difference.

        :param numbers: (m,) numbers of the episodes that the challenger has played.
        :param returns: (m,) its returns; those are compared that both have played.
        :return: True as well if one of them is not finite.
        """
        if not np.isfinite(returns).all():
            return True
        if self.record is None:
            return False
        _, own, others = np.intersect1d(self.record.numbers, numbers, return_indices=True)
        difference = self.record.returns[own] - returns[others]
        return bool(difference.mean() > 0.5 * difference.std() / np.sqrt(difference.size))

    def is_overtaken(self, level: float) -> bool:
        """
        Whether the agent, exploring, has returned as much as the champion without noise: it is deployed until it is probed.

        :param level: What it has returned in its last episodes, NaN if nothing is known.
        """
        return self.record is not None and level >= self.record.return_mean

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights of ``actor``, which are parameters of the model."""
        challenger = self.challenger
        return {
            "record": self.record,
            "n_numbers": self.n_numbers,
            "_probed_generation": self._probed_generation,
            "challenger": None if challenger is None else {**vars(challenger), "actor": challenger.actor.state_dict()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        self.record, self.n_numbers = state["record"], state["n_numbers"]
        self._probed_generation, self._round, self.challenger = state["_probed_generation"], None, None
        if state["challenger"] is not None:
            actor = copy_actor(self.actor)
            actor.load_state_dict(state["challenger"]["actor"])
            self.challenger = Challenger(**{**state["challenger"], "actor": actor})


def _request(arena: Arena, player: Player, vectors: np.ndarray, numbers: Sequence[int], run_seed: int) -> EvaluationRequest:
    """
    Ask for whole episodes without noise.

    :param arena: Where they are played.
    :param player: Plays the vectors.
    :param vectors: (n, d) parameters.
    :param numbers: Numbers of the episodes among all probe episodes of the run; all vectors play the same.
    :param run_seed: Seed of the run.
    """
    seeds = [episode_seed(run_seed, 0, Stream.PROBE_EPISODE, number) for number in numbers]
    return arena.request(vectors, np.tile(seeds, (len(vectors), 1)), player, numbers=numbers, whole=True)
