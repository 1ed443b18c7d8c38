"""The evaluator's interface: what is played, what comes out, and how one waits for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.evaluation.players import Player
from sb3_esac.evaluation.rollout import EpisodeResult, Recording
from sb3_esac.evaluation.vec_normalize import frozen, snapshot

UNBOUNDED_EPISODE_STEPS = 100_000
"""An episode of this length, on an environment without a time limit, is taken for one that never ends."""

OnStep = Callable[[dict[str, Any]], bool]
"""Called after every step of the vectorised environment with its local variables; False stops the evaluation."""


@dataclass(frozen=True)
class EvaluationRequest:
    """
    What to play.

    :param parameters: (n, d) one vector per member.
    :param seeds: (n, k) seeds of the k episodes of each member.
    :param player: How a vector plays.
    :param recording: What to write down beside returns and lengths.
    :param max_episode_steps: Longer episodes are cut (a truncation), None for no limit.
    :param lanes: (n, k) numbers of the lanes that the episodes are played on, where lanes differ; None for any lane.
    :param quiet: Single steps need no report: ``on_step`` may be called once for each episode. Its variable
        ``n_steps`` then says of how many steps.
    """

    parameters: np.ndarray
    seeds: np.ndarray
    player: Player
    recording: Recording = field(default_factory=Recording)
    max_episode_steps: int | None = None
    lanes: np.ndarray | None = None
    quiet: bool = False

    @property
    def jobs(self) -> list[tuple[int, int]]:
        """Every (member, episode) in order."""
        return [(member, index) for member in range(self.seeds.shape[0]) for index in range(self.seeds.shape[1])]


@dataclass(frozen=True)
class EvaluationResult:
    """
    What came out.

    :param episodes: All episodes in the order of ``EvaluationRequest.jobs``.
    :param shape: (n, k).
    """

    episodes: list[EpisodeResult]
    shape: tuple[int, int]

    @property
    def returns(self) -> np.ndarray:
        """(n, k) undiscounted sums of raw rewards; NaN where something was not finite."""
        return np.array([episode.episode_return for episode in self.episodes]).reshape(self.shape)

    @property
    def lengths(self) -> np.ndarray:
        """(n, k) numbers of steps."""
        return np.array([episode.length for episode in self.episodes]).reshape(self.shape)


class Pending(ABC):
    """An evaluation that has begun; its caller may do something else before asking for the result."""

    @abstractmethod
    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        """
        Wait for the result.

        :param on_step: As in :meth:`Evaluator.evaluate`; nothing is reported before this call.
        :return: The result, or None if ``on_step`` asked to stop.
        """


class Evaluator(ABC):
    """
    Plays parameter vectors. The result depends on the request alone, not on who plays what when.

    One of a user's own is passed as ``backend``. The model sets ``vec_normalize``, and closes it when ``learn`` ends. It is
    not saved with the model: pass it to ``load``, too, otherwise the backend is "auto" then.
    """

    vec_normalize: VecNormalize | None = None
    """The ``VecNormalize`` around the training environment, None if there is none."""

    @abstractmethod
    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        """
        Play every episode of a request.

        :param request: What to play.
        :param on_step: Called once per step of the vectorised environment, ``num_envs`` single steps each time.
        :return: The result, or None if ``on_step`` asked to stop.
        :raises RuntimeError: If an episode does not end.
        """

    def evaluate_all(self, plays: Sequence[tuple[EvaluationRequest, OnStep]]) -> list[EvaluationResult] | None:
        """
        Play several requests that do not depend on each other: one after the other, unless an evaluator can do better.

        :param plays: What to play, and who is told of every step, in the order in which they are told.
        :return: The results, or None if one of them asked to stop.
        """
        results = []
        for request, on_step in plays:
            result = self.evaluate(request, on_step)
            if result is None:
                return None
            results.append(result)
        return results

    def begin(self, request: EvaluationRequest) -> Pending:
        """
        Begin to play, with everything (parameters, statistics) as it is now.

        The result is the same whether episodes are played at once or only when it is asked for.

        :param request: What to play.
        :return: To be finished before the next evaluation, or to be given up by :meth:`close`.
        """
        return Postponed(self, request, snapshot(self.vec_normalize))

    def close(self) -> None:  # noqa: B027
        """Give back processes and memory. The evaluator can be used again."""


@dataclass(frozen=True)
class Postponed(Pending):
    """
    An evaluation that is only played when its result is asked for, as the lanes belong to the agent until then.

    :param evaluator: Who will play it.
    :param request: What to play.
    :param obs_rms: Observation statistics of ``VecNormalize`` when it was begun.
    """

    evaluator: Evaluator
    request: EvaluationRequest
    obs_rms: object

    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        with frozen(self.evaluator.vec_normalize, self.obs_rms):
            return self.evaluator.evaluate(self.request, on_step)


def unbounded_episode(which: str, n_steps: int) -> str:
    """
    Explain why an episode was given up.

    :param which: Which episode it was, as in "of member 3".
    :param n_steps: After how many steps.
    """
    return (
        f"The episode {which} has not ended after {n_steps} steps. "
        f"Whole episodes are compared: give the environment a time limit of no more, "
        "for instance `gymnasium.wrappers.TimeLimit(env, max_episode_steps=1000)`."
    )
