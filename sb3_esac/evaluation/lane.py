"""One environment that plays one episode after the other, in whatever process, with the outcome that lockstep has."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_esac.evaluation.driving import PLAIN
from sb3_esac.evaluation.evaluator import UNBOUNDED_EPISODE_STEPS, EvaluationRequest, unbounded_episode
from sb3_esac.evaluation.factories import LaneRecipe
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.policies import Act, LanePolicies, SinglePolicies
from sb3_esac.evaluation.rollout import EpisodeRecorder, EpisodeResult, Recording
from sb3_esac.evaluation.vec_envs import base_vec_env

LARGEST = float(np.finfo(np.float32).max)


TOLD = ("episode", "terminal_observation", "TimeLimit.truncated")
"""Of the last ``info``: what callbacks are told of apart."""


@dataclass(frozen=True)
class Job:
    """
    One episode to play.

    :param member: Whose episode it is.
    :param index: Number of the episode among that member's.
    :param seed: Seed of the environment.
    :param recording: What to write down.
    :param max_episode_steps: Where the episode is cut, None for no limit.
    """

    member: int
    index: int
    seed: int
    recording: Recording
    max_episode_steps: int | None


@dataclass(frozen=True)
class ReplayableEpisode:
    """
    An episode as it comes back from a worker, with what callbacks are told of it when it is replayed to them.

    :param episode: The episode.
    :param rewards: (T,) raw rewards, for callbacks that want to hear of every step.
    :param terminated: Whether the last step was terminal.
    :param last_info: The last ``info``, without what is no data and was not asked for by ``Recording.info_keys``.
    """

    episode: EpisodeResult
    rewards: np.ndarray
    terminated: bool
    last_info: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LaneStep:
    """
    A step that a lane has just taken.

    :param observation: Raw observation that came of it, without NaN and infinity; the environment may use it again.
    :param action: What was played.
    :param reward: Raw reward.
    :param terminated: Whether the observation is terminal.
    :param truncated: Whether the episode was cut, by the environment or by the cap.
    :param info: The environment's own.
    :param is_clean: False if something was not finite.
    """

    observation: np.ndarray
    action: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
    is_clean: bool


class Lane(Protocol):
    """Plays whole episodes."""

    def play(self, act: Act, job: Job, stop: Sequence[int]) -> ReplayableEpisode | None:
        """
        Play one episode.

        :param act: The member's policy.
        :param job: Which episode.
        :param stop: The episode is given up when its first element becomes true.
        :return: The episode, None if it was given up.
        """

    def set_statistics(self, obs_rms: Any) -> None:
        """Take over the observation statistics of the user's ``VecNormalize``."""


def make_lane(recipe: LaneRecipe, env: gym.Env) -> Lane:
    """
    Choose the fastest lane that does what the user's wrappers do.

    :param recipe: How the user's lane is built.
    :param env: What it gave.
    """
    if not isinstance(env.observation_space, spaces.Box):
        return WrappedLane(recipe.wrap(env))
    if not recipe.wrappers:
        return DirectLane(env)
    venv = recipe.wrap(env)
    if len(recipe.wrappers) == 1 and isinstance(venv, VecNormalize):
        return DirectLane(env, venv)
    return WrappedLane(venv)


class WrappedLane:
    """
    A lane under any wrappers of a ``VecEnv``, played by the lockstep evaluator.

    :param venv: A ``VecEnv`` of one lane.
    """

    def __init__(self, venv: VecEnv) -> None:
        self.evaluator = LockstepEvaluator(venv)
        self.base = base_vec_env(venv)

    def set_statistics(self, obs_rms: Any) -> None:
        if self.evaluator.vec_normalize is not None:
            self.evaluator.vec_normalize.obs_rms = obs_rms

    def play(self, act: Act, job: Job, stop: Sequence[int]) -> ReplayableEpisode | None:
        rewards: list[float] = []
        ended: list[dict[str, Any]] = []
        vec_normalize = self.evaluator.vec_normalize

        def on_step(variables: dict[str, Any]) -> bool:
            raw = variables["rewards"] if vec_normalize is None else vec_normalize.old_reward
            rewards.append(float(raw[0]))
            if variables["dones"][0]:
                ended.append(variables["infos"][0])
            return not stop[0]

        seeds = np.array([[job.seed]])
        request = EvaluationRequest(np.zeros((1, 0)), seeds, _BoundPlayer(act), job.recording, job.max_episode_steps)
        result = self.evaluator.evaluate(request, on_step)
        if result is None:
            return None
        episode = replace(result.episodes[0], member=job.member, index=job.index)
        terminated = not ended[0].get("TimeLimit.truncated", False)
        return ReplayableEpisode(episode, np.array(rewards, dtype=np.float32), terminated, _kept(ended[0], job))


def _kept(info: dict[str, Any], job: Job) -> dict[str, Any]:
    """What is kept of the last ``info`` of an episode: data, and what was asked for."""
    wanted = job.recording.info_keys
    return {key: value for key, value in info.items() if key in wanted or (key not in TOLD and is_data(value))}


def is_data(value: Any) -> bool:
    """
    Whether a value is a number, a string, None, an array of them, or a container of these.

    :param value: A value of an ``info``.
    """
    if isinstance(value, dict):
        return all(map(is_data, value)) and all(map(is_data, value.values()))
    if type(value) in (list, tuple):
        return all(map(is_data, value))
    return type(value) in PLAIN or (isinstance(value, np.generic | np.ndarray) and value.dtype != object)


class _BoundPlayer:
    """A player whose parameters are given already."""

    def __init__(self, act: Act) -> None:
        self.act = act

    def bind(self, vector: np.ndarray) -> Act:
        return self.act

    def policies(self, env: VecEnv, *, together: bool) -> LanePolicies:
        return SinglePolicies(self.bind, env)


class DirectLane:
    """
    A lane without wrappers of a ``VecEnv``, or with ``VecNormalize`` alone: nothing stands between player and environment.

    :param env: Environment with ``Box`` observations.
    :param vec_normalize: ``VecNormalize`` whose statistics are to be used.
    :param reset: Begins an episode of a seed; None for the environment's ``reset``.
    """

    def __init__(
        self,
        env: gym.Env,
        vec_normalize: VecNormalize | None = None,
        reset: Callable[[int], tuple[Any, dict[str, Any]]] | None = None,
    ) -> None:
        self.env = env
        self.reset = (lambda seed: env.reset(seed=seed)) if reset is None else reset
        self.recorder: EpisodeRecorder | None = None
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        self.shape, self.dtype = space.shape, space.dtype
        self.floating = np.issubdtype(space.dtype, np.floating)
        self.vec_normalize = vec_normalize if vec_normalize is not None and vec_normalize.norm_obs else None
        self.normalize = _Normalize(self.vec_normalize) if self.vec_normalize is not None else None

    def set_statistics(self, obs_rms: Any) -> None:
        if self.vec_normalize is not None:
            self.vec_normalize.obs_rms = obs_rms
            self.normalize = _Normalize(self.vec_normalize)

    @property
    def n_steps(self) -> int:
        """Steps of the latest episode so far."""
        return 0 if self.recorder is None else self.recorder.length

    def play(
        self, act: Act, job: Job, stop: Sequence[int], watch: Callable[[LaneStep], bool] | None = None
    ) -> ReplayableEpisode | None:
        """
        Play one episode.

        :param act: The member's policy.
        :param job: Which episode.
        :param stop: The episode is given up when its first element becomes true.
        :param watch: Shown every step; the episode is given up when it returns False.
        :return: The episode, None if it was given up.
        """
        self.recorder = recorder = EpisodeRecorder(job.member, job.index, job.recording)
        limit = min(job.max_episode_steps or UNBOUNDED_EPISODE_STEPS, UNBOUNDED_EPISODE_STEPS)
        step, normalize = self.env.step, self.normalize
        see, hear, keeps = recorder.see, recorder.hear, job.recording.observations
        raw, info = self.reset(job.seed)
        observation, clean = self._cleared(raw)
        recorder.finite = clean
        terminated = truncated = False
        n_steps = 0
        while not (terminated or truncated):
            if stop[0]:
                return None
            action = act(observation if normalize is None else normalize(observation))
            if keeps:
                see(observation, action)
            raw, reward, terminated, truncated, info = step(action)
            reward = float(reward)
            observation, clean = self._cleared(raw)
            if not (clean and -LARGEST <= reward <= LARGEST):
                recorder.finite = clean = False
                reward = reward if -LARGEST <= reward <= LARGEST else 0.0
            hear(reward)
            n_steps += 1
            if n_steps >= limit and not (terminated or truncated):
                if n_steps >= UNBOUNDED_EPISODE_STEPS:
                    raise RuntimeError(unbounded_episode(f"of member {job.member}", n_steps))
                truncated = True
            if watch is not None and not watch(
                LaneStep(observation, action, reward, bool(terminated), bool(truncated), info, clean)
            ):
                return None
        episode = recorder.finish(self._last(raw, observation), bool(terminated), info.get("episode"))
        return ReplayableEpisode(episode, recorder.rewards(), bool(terminated), _kept(info, job))

    def _cleared(self, raw: Any) -> tuple[np.ndarray, bool]:
        """Observation as a ``DummyVecEnv`` would give it, zeros instead of NaN and infinity, and whether it had none."""
        if type(raw) is np.ndarray and raw.dtype is self.dtype and raw.shape == self.shape:
            observation = raw
        else:
            observation = np.empty(self.shape, self.dtype)
            observation[...] = raw
        if self.floating:
            flat = observation if observation.ndim == 1 else observation.reshape(-1)
            # A sum of squares is finite only if all are: twenty times as fast as asking each.
            if not flat.dot(flat) < LARGEST and not np.isfinite(flat).all():
                return np.nan_to_num(observation, nan=0.0, posinf=0.0, neginf=0.0), False
        return observation, True

    def _last(self, raw: Any, observation: np.ndarray) -> np.ndarray:
        """The observation after the last step, which ``VecNormalize`` gives back only up to its clipping."""
        if self.vec_normalize is None:
            return observation
        last = self.vec_normalize.unnormalize_obs(self.vec_normalize.normalize_obs(np.asarray(raw)))
        assert isinstance(last, np.ndarray)
        return last


class _Normalize:
    """
    Observation normalisation of ``VecNormalize``, bit for bit, with nothing computed twice.

    :param vec_normalize: Where the statistics are taken from.
    """

    def __init__(self, vec_normalize: VecNormalize) -> None:
        rms = vec_normalize.obs_rms
        assert not isinstance(rms, dict)
        self.mean: np.ndarray = rms.mean
        self.scale: np.ndarray = np.sqrt(rms.var + vec_normalize.epsilon)
        self.clip: float = vec_normalize.clip_obs
        self.double: np.ndarray = np.empty(self.mean.shape)
        self.single: np.ndarray = np.empty(self.mean.shape, dtype=np.float32)

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        double = self.double
        np.subtract(observation, self.mean, double)
        np.divide(double, self.scale, double)
        flat = double.reshape(-1)
        # No element can be beyond the bounds if the sum of squares is within.
        if not flat.dot(flat) <= self.clip**2:
            np.clip(double, -self.clip, self.clip, out=double)
        self.single[...] = double
        return self.single
