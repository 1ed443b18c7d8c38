"""The scale of observations: statistics by which an agent's networks normalise what they see."""

from typing import Any

from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

from sb3_esac.agent.averaging import AveragedActor
from sb3_esac.evaluation.first_layers import update_normalizers
from sb3_esac.evaluation.normalization import normalizers
from sb3_esac.evaluation.rollout import stack
from sb3_esac.evaluation.statistics import ObservationMoments, observation_moments

FRESH_FRACTION = 0.01
"""
Statistics follow the agent in steps of this size: often while nothing has been learned, and never by a jump.

Evidence: experiments/notebook/defaults.md, "Whose observations", where "by episodes" is the same with steps of an episode.
"""


class ObservationScale:
    """
    Statistics inside an agent's networks, and what the agent has seen that is not among them yet, which its buffer collects.

    To be read: ``version``, which grows when they change.

    :param agent: An agent whose replay buffer is a :class:`~sb3_esac.agent.sharing.SharedExperience`.
    """

    def __init__(self, agent: OffPolicyAlgorithm) -> None:
        self.agent: Any = agent
        self.version = 0
        self._n_enough = 0.0

    def merge(self, fresh: ObservationMoments, averaged: AveragedActor | None, *, of_the_agent: bool) -> None:
        """
        Merge observations into the statistics.

        :param fresh: Moments of what was seen.
        :param averaged: The average of the actor, which has the same statistics.
        :param of_the_agent: Whether statistics are those of what the agent sees.
        """
        # What the agent has learned must not jump with what others see. What it was born with has nothing to keep, and its own
        # observations change it bit by bit, while weights that had to keep up would grow out of scale.
        keep_functions = self.agent._n_updates > 0 and not of_the_agent
        beside = [] if averaged is None else [averaged.actor]
        update_normalizers(self.agent.policy, fresh, keep_functions=keep_functions, beside=beside)
        self.note_change()

    def note_change(self) -> None:
        """Statistics have changed."""
        self.version += 1

    def forget(self) -> None:
        """Begin statistics anew."""
        for normalizer in normalizers(self.agent.policy):
            normalizer.forget()
        self.note_change()

    def begin(self) -> None:
        """Collect what the agent sees from now on."""
        self._collect([] if normalizers(self.agent.policy) else None)

    def end(self) -> None:
        """Collect nothing any longer."""
        self.agent.replay_buffer.fresh_observations = None

    @property
    def is_due(self) -> bool:
        """Whether enough has been collected to change the statistics."""
        fresh = self.agent.replay_buffer.fresh_observations
        return bool(fresh) and len(fresh) * self.agent.n_envs > self._n_enough

    def merge_own(self, averaged: AveragedActor | None, *, of_the_agent: bool) -> None:
        """
        Merge what the agent has seen since the last time.

        :param averaged: The average of the actor.
        :param of_the_agent: Whether statistics are those of what the agent sees.
        """
        fresh = self.agent.replay_buffer.fresh_observations
        if not fresh:
            return
        seen = stack(fresh)
        flat = (
            {key: value.reshape(-1, *value.shape[2:]) for key, value in seen.items()}
            if isinstance(seen, dict)
            else seen.reshape(-1, *seen.shape[2:])
        )
        self.merge(observation_moments(flat), averaged, of_the_agent=of_the_agent)
        self._collect([])

    def _collect(self, into: list[Any] | None) -> None:
        self.agent.replay_buffer.fresh_observations = into
        found = normalizers(self.agent.policy)
        n_known = min((moments.count for moments in found[0].moments().values()), default=0.0) if found else 0.0
        self._n_enough = FRESH_FRACTION * n_known
