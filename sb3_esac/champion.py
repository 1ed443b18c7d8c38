"""The champion: the best policy found so far, chosen by noise-free episodes that it and its challengers play alike."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from stable_baselines3.common.policies import BasePolicy

from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import OnStep
from sb3_esac.evaluation.players import make_player
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
    :param returns: (k,) its returns in the last probe episodes that it has played, at most ``champion_episodes``.
    :param generation: When it took its place.
    :param first: Number of the first of these episodes among all probe episodes of the run.
    """

    source: str
    returns: np.ndarray
    generation: int
    first: int

    @property
    def return_mean(self) -> float:
        """Mean return over these episodes."""
        return float(self.returns.mean())


@dataclass(frozen=True)
class Challenge:
    """
    Who might be the champion now.

    :param candidates: (d,) parameters by source, the most trusted one first.
    :param actor: Actor of the present form and statistics, which plays them.
    :param generation: Number of the generation.
    :param run_seed: Seed of the run.
    :param n_episodes: Episodes that decide, ``champion_episodes``; 0 for no champion.
    :param timesteps: Steps of the run so far.
    """

    candidates: dict[str, np.ndarray]
    actor: BasePolicy
    generation: int
    run_seed: int
    n_episodes: int
    timesteps: int


@dataclass(frozen=True)
class Verdict:
    """
    What came of a probe.

    :param goes_on: False if a callback asked to stop.
    :param defeated: Source of the challenger if it is no better than the champion.
    """

    goes_on: bool = True
    defeated: str | None = None


class Champion:
    """
    An actor of its own, so that nothing that happens to agent and population changes it.

    :param actor: Actor whose form is copied; until a record exists its parameters mean nothing.
    """

    def __init__(self, actor: BasePolicy) -> None:
        self.actor = copy_actor(actor)
        self.record: ChampionRecord | None = None
        self._probed_generation = -1

    def step(self, challenge: Challenge, arena: Arena, on_step: OnStep) -> Verdict:
        """
        Let the best candidate challenge the champion, if steps allow it.

        All candidates play one episode, and the best of them those that the champion has played (the same seeds, so that none
        wins by an easier start). It takes the champion's place unless the champion is clearly better: training improves
        policies. At each probe the champion plays a new episode in place of its oldest: whoever takes its place had some luck
        in the episodes that decided it, and would keep it for ever. The first champion is whoever opens best.

        :param challenge: Who might be better.
        :param arena: Where they play.
        :param on_step: Told of every step; False stops.
        """
        if not self._is_due(challenge, arena):
            return Verdict()
        self._probed_generation = challenge.generation
        if not self._defend(challenge, arena, on_step):
            return Verdict(goes_on=False)
        first = 0 if self.record is None else self.record.first
        vectors = np.stack([*challenge.candidates.values()])
        opening = _play(challenge.actor, vectors, first, 1, challenge, arena, on_step)
        if opening is None:
            return Verdict(goes_on=False)
        best = int(np.argmax(np.where(np.isfinite(opening[:, 0]), opening[:, 0], -np.inf)))
        source, returns = [*challenge.candidates][best], opening[best]
        if self.record is not None and returns[0] >= self.record.returns.min():
            n_others = challenge.n_episodes - 1
            others = _play(challenge.actor, vectors[[best]], first + 1, n_others, challenge, arena, on_step)
            if others is None:
                return Verdict(goes_on=False)
            returns = np.concatenate([returns, others[0]])
        if self.is_clearly_better(returns):
            return Verdict(defeated=source)
        self.actor = copy_actor(challenge.actor)
        load_vector(self.actor, vectors[best])
        self.record = ChampionRecord(source, returns, challenge.generation, first)
        return Verdict()

    def _is_due(self, challenge: Challenge, arena: Arena) -> bool:
        """Whether something is new since the last probe, and another one would not take too many of the steps."""
        nothing_new = arena.mean_length == 0 or self._probed_generation == challenge.generation
        if challenge.n_episodes == 0 or nothing_new:
            return False
        n_episodes = len(challenge.candidates) + (0 if self.record is None else challenge.n_episodes)
        steps = arena.probe_length * n_episodes
        return arena.probe_timesteps + steps <= PROBE_FRACTION * (challenge.timesteps + steps)

    def _defend(self, challenge: Challenge, arena: Arena, on_step: OnStep) -> bool:
        """Let the champion play an episode that nobody has played; False if a callback asked to stop."""
        record = self.record
        if record is None:
            return True
        number = record.first + record.returns.size
        result = _play(self.actor, to_vector(self.actor)[None], number, 1, challenge, arena, on_step)
        if result is None:
            return False
        if np.isfinite(result).all():
            returns = np.concatenate([record.returns, result[0]])[-challenge.n_episodes :]
            self.record = replace(record, returns=returns, first=number + 1 - returns.size)
        return True

    def is_clearly_better(self, returns: np.ndarray) -> bool:
        """
        Whether the champion is better than a challenger by more than half of the standard error of the difference.

        :param returns: (m,) the challenger's returns, from the first episode of the champion's record on.
        :return: True as well if one of them is not finite.
        """
        if not np.isfinite(returns).all():
            return True
        if self.record is None:
            return False
        # Their number may be another than before.
        common = min(returns.size, self.record.returns.size)
        difference = self.record.returns[:common] - returns[:common]
        return bool(difference.mean() > 0.5 * difference.std() / np.sqrt(common))

    def is_overtaken(self, level: float) -> bool:
        """
        Whether the agent, exploring, has returned as much as the champion without noise: it is deployed until it is probed.

        :param level: What it has returned in its last episodes, NaN if nothing is known.
        """
        return self.record is not None and level >= self.record.return_mean

    def state_dict(self) -> dict[str, Any]:
        """Everything but the weights of ``actor``, which are parameters of the model."""
        return {"record": self.record, "_probed_generation": self._probed_generation}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """
        Go on from a state.

        :param state: What :meth:`state_dict` gave.
        """
        self.record, self._probed_generation = state["record"], state["_probed_generation"]


def _play(
    actor: BasePolicy,
    vectors: np.ndarray,
    first: int,
    n_episodes: int,
    challenge: Challenge,
    arena: Arena,
    on_step: OnStep,
) -> np.ndarray | None:
    """
    Play whole episodes without noise.

    :param actor: Actor that plays the vectors.
    :param vectors: (n, d) parameters.
    :param first: Number of the first episode among all probe episodes of the run.
    :param n_episodes: How many each plays; all play the same.
    :param challenge: Of which run they are.
    :param arena: Where they are played.
    :param on_step: Told of every step; False stops.
    :return: (n, n_episodes) returns, None if ``on_step`` asked to stop.
    """
    if n_episodes == 0:
        return np.empty((len(vectors), 0))
    numbers = range(first, first + n_episodes)
    seeds = [episode_seed(challenge.run_seed, 0, Stream.PROBE_EPISODE, number) for number in numbers]
    request = arena.request(vectors, np.tile(seeds, (len(vectors), 1)), make_player(actor), first=first, whole=True)
    result = arena.play(request, on_step, is_probe=True)
    if result is None:
        return None
    arena.caps.whole_length = float(result.lengths.mean())
    return result.returns
