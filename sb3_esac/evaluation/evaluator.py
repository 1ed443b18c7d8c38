"""The evaluator's interface, and the evaluator for any ``VecEnv``: all lanes step together."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_esac.evaluation.parameters import Act, Player
from sb3_esac.evaluation.rollout import Episode, EpisodeRecorder, Recording
from sb3_esac.evaluation.seeding import NON_FINITE, UNBOUNDED_EPISODE_STEPS, adopt, take
from sb3_esac.evaluation.vec_normalize import frozen, snapshot

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
    """

    parameters: np.ndarray
    seeds: np.ndarray
    player: Player
    recording: Recording = field(default_factory=Recording)
    max_episode_steps: int | None = None
    lanes: np.ndarray | None = None

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

    episodes: list[Episode]
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
    """An evaluation that has begun; whoever began it may do something else before asking for the result."""

    @abstractmethod
    def finish(self, on_step: OnStep) -> EvaluationResult | None:
        """
        Wait for the result.

        :param on_step: As in :meth:`Evaluator.evaluate`; nothing is reported before this call.
        :return: The result, or None if ``on_step`` asked to stop.
        """


class Evaluator(ABC):
    """Plays parameter vectors. The result depends on the request alone, not on who plays what when."""

    vec_normalize: VecNormalize | None = None

    @abstractmethod
    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        """
        Play every episode of a request.

        :param request: What to play.
        :param on_step: Called once per step of the vectorised environment, ``num_envs`` single steps each time.
        :return: The result, or None if ``on_step`` asked to stop.
        :raises RuntimeError: If an episode does not end.
        """

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


class LockstepEvaluator(Evaluator):
    """
    Plays on the user's own ``VecEnv``, whatever its wrappers: one member per lane, the next one as a lane's episode ends.

    ``VecNormalize`` is frozen meanwhile, and its raw observations and rewards are what is written down.

    :param env: Any ``VecEnv``.
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        self.base = adopt(env)
        self.vec_normalize = unwrap_vec_normalize(env)
        self._idle_action = _idle_action(env.action_space)

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        self.base.max_episode_steps = request.max_episode_steps
        try:
            with frozen(self.vec_normalize):
                return _LockstepRun(self, request, on_step).play()
        finally:
            self.base.seed_source, self.base.max_episode_steps = None, None

    def raw(self, observations: Any, rewards: np.ndarray) -> tuple[Any, np.ndarray]:
        """
        Observations and rewards before ``VecNormalize``.

        :param observations: What the last step of the environment gave, one row per lane.
        :param rewards: (n_envs,) likewise.
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


def _idle_action(space: spaces.Space) -> np.ndarray:
    """What a lane plays that has nothing to play."""
    if isinstance(space, spaces.Discrete):
        return np.array(space.start, dtype=space.dtype)
    assert isinstance(space, spaces.Box)
    return (space.low + space.high) / 2.0


def unbounded_episode(member: int) -> str:
    """
    Explain why an episode was given up.

    :param member: Whose episode it was.
    """
    return (
        f"The episode of member {member} has not ended after {UNBOUNDED_EPISODE_STEPS} steps. "
        "Whole episodes are compared: give the environment a time limit, "
        "for instance `gymnasium.wrappers.TimeLimit(env, max_episode_steps=1000)`."
    )


class _LockstepRun:
    """The lanes of one evaluation."""

    def __init__(self, evaluator: LockstepEvaluator, request: EvaluationRequest, on_step: OnStep) -> None:
        self.evaluator, self.request, self.on_step = evaluator, request, on_step
        self.env = evaluator.env
        self.waiting = request.jobs[::-1]
        self.next_recorder: list[EpisodeRecorder | None] = [None] * self.env.num_envs
        self.recorders: list[EpisodeRecorder | None] = [None] * self.env.num_envs
        self.acts: list[Act | None] = [None] * self.env.num_envs
        self.episodes: dict[tuple[int, int], Episode] = {}

    def assign(self, lane: int) -> int | None:
        """Give a lane its next episode; the seed source of the environment."""
        if not self.waiting:
            self.next_recorder[lane] = None
            return None
        member, index = self.waiting.pop()
        self.next_recorder[lane] = EpisodeRecorder(member, index, self.request.recording)
        return int(self.request.seeds[member, index])

    def begin(self, lane: int) -> None:
        recorder, self.next_recorder[lane] = self.next_recorder[lane], None
        self.recorders[lane] = recorder
        self.acts[lane] = None
        if recorder is not None:
            self.acts[lane] = self.request.player.bind(self.request.parameters[recorder.member])

    def play(self) -> EvaluationResult | None:
        self.evaluator.base.seed_source = self.assign
        observations = self.env.reset()
        raw = self.evaluator.raw(observations, np.zeros(0))[0] if self.evaluator.vec_normalize else observations
        for lane in range(self.env.num_envs):
            self.begin(lane)
        n_jobs = len(self.request.jobs)
        while len(self.episodes) < n_jobs:
            actions = self.actions(observations)
            new_observations, rewards, dones, infos = self.env.step(actions)
            variables = {"new_obs": new_observations, "rewards": rewards, "dones": dones, "infos": infos, "actions": actions}
            for lane, recorder in enumerate(self.recorders):
                if recorder is None:
                    # A lane that has nothing to play steps because all do; that is nobody's episode.
                    infos[lane].pop("episode", None)
                    infos[lane].pop("is_success", None)
            if not self.on_step(variables):
                return None
            raw_new, raw_rewards = self.evaluator.raw(new_observations, rewards)
            for lane, recorder in enumerate(self.recorders):
                if recorder is not None:
                    finite = NON_FINITE not in infos[lane]
                    recorder.add(take(raw, lane), actions[lane], raw_rewards[lane], finite)
                    self.check_length(recorder)
                if dones[lane]:
                    self.end(lane, infos[lane])
            observations, raw = new_observations, raw_new
        return EvaluationResult([self.episodes[job] for job in self.request.jobs], self.request.seeds.shape)

    def actions(self, observations: Any) -> np.ndarray:
        actions = np.stack([self.evaluator._idle_action] * self.env.num_envs)
        for lane, act in enumerate(self.acts):
            if act is not None:
                actions[lane] = act(take(observations, lane))
        return actions

    def end(self, lane: int, info: dict[str, Any]) -> None:
        recorder = self.recorders[lane]
        if recorder is not None:
            last = self.evaluator.raw_last(info["terminal_observation"])
            terminated = not info.get("TimeLimit.truncated", False)
            episode = recorder.finish(last, terminated, info.get("episode"))
            self.episodes[recorder.member, recorder.index] = episode
        self.begin(lane)

    def check_length(self, recorder: EpisodeRecorder) -> None:
        if recorder.length >= UNBOUNDED_EPISODE_STEPS:
            raise RuntimeError(unbounded_episode(recorder.member))
