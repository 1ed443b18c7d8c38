"""The evaluator for environments in this process: whole episodes, without what a ``VecEnv`` does at every step."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecNormalize, unwrap_vec_normalize

from sb3_esac.evaluation.disturbance import Patience
from sb3_esac.evaluation.driving import DummyDriver, own_info
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, OnStep
from sb3_esac.evaluation.finite import NON_FINITE
from sb3_esac.evaluation.lane import DirectLane, Job, LaneStep
from sb3_esac.evaluation.policies import Act
from sb3_esac.evaluation.replay import Replayer
from sb3_esac.evaluation.rollout import EpisodeResult
from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.vec_normalize import frozen

GO_ON = (False,)
"""What a lane looks at to know whether to stop."""


def can_play_directly(env: VecEnv) -> bool:
    """
    Whether a ``VecEnv`` has one environment, in this process, and nothing but a ``VecNormalize`` changes what that gives.

    :param env: The user's ``VecEnv``.
    """
    base = adopt(env)
    wrapped = env.venv if type(env) is VecNormalize else env
    is_alone = wrapped is base and base.num_envs == 1 and isinstance(base.driver, DummyDriver)
    return is_alone and isinstance(base.observation_space, spaces.Box) and not base.keeps_non_finite


class DirectEvaluator(Evaluator):
    """
    Plays one episode after the other on the user's own environment, by the loop that workers have. The result is that of
    :class:`~sb3_esac.evaluation.lockstep.LockstepEvaluator`, bit for bit.

    Callbacks are told of a step when it has been taken, as in lockstep: they can render the environment, change it, stop. But
    at the end of an episode ``new_obs`` is its last observation.

    :param env: A ``VecEnv`` for which :func:`can_play_directly` is true.
    """

    vec_normalize: VecNormalize | None

    def __init__(self, env: VecEnv) -> None:
        self.env, self.base = env, adopt(env)
        self.vec_normalize = unwrap_vec_normalize(env)

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        """
        Play every episode of a request.

        :param request: What to play.
        :param on_step: Told of every step, or once for each episode if the request is quiet.
        :return: The result, or None if ``on_step`` asked to stop.
        :raises RuntimeError: If an episode does not end, or callbacks never let one end.
        """
        episodes: list[EpisodeResult] = []
        patience = Patience("an offspring's episode")
        with frozen(self.vec_normalize):
            lane = DirectLane(self.base.envs[0], self.vec_normalize, self.base.begin_alone)  # type: ignore[attr-defined]
            for job, act in _jobs(request):
                played = None
                while played is None:
                    teller = _Teller(self, on_step)
                    try:
                        played = lane.play(act, job, GO_ON, None if request.quiet else teller.tell)
                    except BaseException:
                        if request.quiet and lane.n_steps:
                            _count_steps(lane, on_step)
                        raise
                    if teller.asked_to_stop:
                        return None
                    if played is None:
                        patience.lose(len(episodes))
                if request.quiet and not Replayer(on_step).tell_of(played):
                    return None
                episodes.append(played.episode)
        self.base.rest()
        return EvaluationResult(episodes, request.seeds.shape)


def _jobs(request: EvaluationRequest) -> Iterator[tuple[Job, Act]]:
    """Each episode, and the policy that plays it."""
    for member, seeds in enumerate(request.seeds.tolist()):
        act = request.player.bind(request.parameters[member])
        for index, seed in enumerate(seeds):
            yield Job(member, index, seed, request.recording, request.max_episode_steps), act


def _count_steps(lane: DirectLane, on_step: OnStep) -> None:
    """Count the steps of an episode that an exception has ended."""
    zeros = np.zeros(1, dtype=np.float32)
    variables: dict[str, Any] = {"new_obs": None, "rewards": zeros, "dones": zeros > 0, "infos": [{}], "actions": None}
    on_step({**variables, "n_steps": lane.n_steps})


class _Teller:
    """
    Tells callbacks of a lane's steps with the variables that a ``VecEnv`` would have given.

    :param evaluator: Whose lane it is.
    :param on_step: Told of every step.
    """

    def __init__(self, evaluator: DirectEvaluator, on_step: OnStep) -> None:
        self.base, self.vec_normalize, self.on_step = evaluator.base, evaluator.vec_normalize, on_step
        self.asked_to_stop = False
        self._was_clean = True

    def tell(self, step: LaneStep) -> bool:
        """
        Tell of a step.

        :param step: The step.
        :return: False if the episode is to be given up, as callbacks asked to stop, or have reset or stepped the environment.
        """
        ended = step.terminated or step.truncated
        info = own_info(step.info)
        info["TimeLimit.truncated"] = step.truncated and not step.terminated
        if not (step.is_clean and self._was_clean):
            info[NON_FINITE] = True
        self._was_clean = step.is_clean
        observations: Any = step.observation[None].copy()
        rewards = np.array([step.reward], dtype=np.float32)
        self.base.n_env_steps += 1
        if self.vec_normalize is not None:
            self.vec_normalize.old_obs, self.vec_normalize.old_reward = observations, rewards
            observations = self.vec_normalize.normalize_obs(observations)
            rewards = self.vec_normalize.normalize_reward(rewards)
        if ended:
            info["terminal_observation"] = observations[0]
        variables = {
            "new_obs": observations,
            "rewards": rewards,
            "dones": np.array([ended]),
            "infos": [info],
            "actions": np.asarray(step.action)[None].copy(),
            "n_steps": 1,
        }
        if not self.on_step(variables):
            self.asked_to_stop = True
            return False
        # What a callback does behind an episode's last step is undone by the next reset.
        return ended or not self.base.disturbed
