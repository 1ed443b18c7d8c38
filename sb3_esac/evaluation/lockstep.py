"""The evaluator for any ``VecEnv``: all lanes step together, one member in each."""

from collections import deque
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_esac.evaluation.disturbance import Patience
from sb3_esac.evaluation.evaluator import (
    UNBOUNDED_EPISODE_STEPS,
    EvaluationRequest,
    EvaluationResult,
    Evaluator,
    OnStep,
    unbounded_episode,
)
from sb3_esac.evaluation.records import LaneRecords
from sb3_esac.evaluation.rollout import EpisodeResult
from sb3_esac.evaluation.seeded_episodes import ASLEEP, Asleep, adopt
from sb3_esac.evaluation.telling import Telling
from sb3_esac.evaluation.vec_envs import take
from sb3_esac.evaluation.vec_normalize import frozen

Job = tuple[int, int]
"""Member and number of the episode."""


class LockstepEvaluator(Evaluator):
    """
    Plays on the user's own ``VecEnv``, whatever its wrappers: one member per lane, the next one as a lane's episode ends.

    ``VecNormalize`` is frozen meanwhile, and its raw observations and rewards are what is written down. A lane that has
    nothing to play rests; in a ``VecEnv`` that is a simulator itself it has to step with the others, and its steps count.

    :param env: Any ``VecEnv``.
    """

    vec_normalize: VecNormalize | None

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        self.base = adopt(env)
        self.vec_normalize = unwrap_vec_normalize(env)

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        """
        Play every episode of a request. Where a callback has reset or stepped the environment, the episodes that were under
        way are played again, from their start.

        :param request: What to play.
        :param on_step: Called as ``Telling`` in ``telling.py`` says.
        :return: The result, or None if ``on_step`` asked to stop.
        :raises RuntimeError: If an episode does not end.
        """
        self.base.max_episode_steps = request.max_episode_steps
        try:
            with frozen(self.vec_normalize):
                return _LockstepRun(self, request, on_step).play()
        finally:
            self.base.seed_source, self.base.max_episode_steps = None, None
            self.base.finished.clear()

    def raw(self, observations: Any, rewards: np.ndarray) -> tuple[Any, np.ndarray]:
        """
        Observations and rewards before ``VecNormalize``.

        :param observations: What the last step of the environment gave, one row per lane.
        :param rewards: (n_envs,) in the same form.
        :return: The same, raw.
        """
        if self.vec_normalize is None:
            return observations, rewards
        return self.vec_normalize.get_original_obs(), self.vec_normalize.get_original_reward()

    def raw_last(self, observation: Any) -> Any:
        """
        A terminal observation before ``VecNormalize`` (up to its clipping).

        :param observation: A single one, from an ``info``.
        """
        return observation if self.vec_normalize is None else self.vec_normalize.unnormalize_obs(observation)


class _LockstepRun:
    """The lanes of one evaluation."""

    def __init__(self, evaluator: LockstepEvaluator, request: EvaluationRequest, on_step: OnStep) -> None:
        self.evaluator, self.request, self.on_step = evaluator, request, on_step
        self.env, self.base = evaluator.env, evaluator.base
        n_lanes = self.env.num_envs
        self.waiting = [deque(self._jobs_of(lane)) for lane in range(n_lanes)] if request.lanes is not None else None
        self.anywhere = deque(request.jobs if request.lanes is None else [])
        self.assigned: list[Job | None] = [None] * n_lanes
        self.playing: list[Job | None] = [None] * n_lanes
        self.policies = request.player.policies(self.env, together=self.base.driver is None)
        self.records = LaneRecords(n_lanes, request.recording)
        self.episodes: dict[Job, EpisodeResult] = {}

    def _jobs_of(self, lane: int) -> list[Job]:
        assert self.request.lanes is not None
        return [job for job in self.request.jobs if self.request.lanes[job] % self.env.num_envs == lane]

    def queue(self, lane: int) -> "deque[Job]":
        """Jobs that a lane may take."""
        return self.anywhere if self.waiting is None else self.waiting[lane]

    def assign(self, lane: int) -> int | Asleep:
        """Give a lane its next episode; the seed source of the environment."""
        queue = self.queue(lane)
        self.assigned[lane] = job = queue.popleft() if queue else None
        return ASLEEP if job is None else int(self.request.seeds[job])

    def begin(self, lane: int) -> None:
        """Let the member that was assigned to a lane play there."""
        job, self.assigned[lane] = self.assigned[lane], None
        self.playing[lane] = job
        self.policies.set(lane, None if job is None else self.request.parameters[job[0]])
        self.records.begin(lane, job is not None)

    def reset(self) -> tuple[Any, Any]:
        """Begin episodes in all lanes, those that were under way first; observations, and the same raw."""
        for lane in reversed(range(self.env.num_envs)):
            for job in (self.playing[lane], self.assigned[lane]):
                if job is not None:
                    self.queue(lane).appendleft(job)
            self.playing[lane] = self.assigned[lane] = None
        self.base.seed_source = self.assign
        observations: Any = self.env.reset()
        for lane in range(self.env.num_envs):
            self.begin(lane)
        return observations, self.evaluator.raw(observations, np.zeros(0))[0] if self.evaluator.vec_normalize else observations

    def play(self) -> EvaluationResult | None:
        observations, raw = self.reset()
        n_jobs = len(self.request.jobs)
        patience, telling = Patience("an offspring's episode"), Telling(self.on_step, self.base)
        while len(self.episodes) < n_jobs:
            actions = self.policies.act(observations)
            awake = self.base.awake.copy()
            new_observations, rewards, dones, infos = self.env.step(actions)
            # What callbacks do to the environment's latest step must not reach what is written down.
            raw_new, raw_rewards = self.evaluator.raw(new_observations, rewards)
            useless = self.base.useless
            ended = np.flatnonzero(dones).tolist() if dones.any() else []
            for lane in ended:
                if self.playing[lane] is None:
                    # It steps because all lanes do; that belongs to no episode.
                    infos[lane].pop("episode", None)
                    infos[lane].pop("is_success", None)
            variables = {"new_obs": new_observations, "rewards": rewards, "dones": dones, "infos": infos, "actions": actions}
            if not telling.tell(variables, awake):
                return None
            self.records.add(raw, actions, raw_rewards, useless)
            if self.records.lengths.max() >= UNBOUNDED_EPISODE_STEPS:
                self._check_ends(dones)
            for lane in ended:
                self.end(lane, infos[lane], raw_new)
            observations, raw = new_observations, raw_new
            if self.base.disturbed and len(self.episodes) < n_jobs:
                patience.lose(len(self.episodes))
                observations, raw = self.reset()
        if not telling.flush():
            return None
        return EvaluationResult([self.episodes[job] for job in self.request.jobs], self.request.seeds.shape)

    def end(self, lane: int, info: dict[str, Any], raw_new: Any) -> None:
        """Take in the episode that has ended in a lane, and begin the next."""
        job = self.playing[lane]
        if job is not None:
            last = info.get("terminal_observation")
            # As SB3's replay buffers do where an environment does not tell.
            last = take(raw_new, lane) if last is None else self.evaluator.raw_last(last)
            terminated = not info.get("TimeLimit.truncated", False)
            self.episodes[job] = self.records.finish(lane, *job, last, terminated, info.get("episode"))
        self.begin(lane)

    def _check_ends(self, dones: np.ndarray) -> None:
        """Refuse an episode that goes on for ever."""
        lengths = np.where(dones, 0, self.records.lengths)
        job = self.playing[int(lengths.argmax())]
        if lengths.max() >= UNBOUNDED_EPISODE_STEPS:
            assert job is not None
            raise RuntimeError(unbounded_episode(f"of member {job[0]}", UNBOUNDED_EPISODE_STEPS))
