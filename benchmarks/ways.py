"""Ways to play a generation: ours, those of other libraries, and the least that it can cost."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv

from benchmarks.tasks import CNN, NETS, Setting, make_env, make_monitored
from sb3_esac import ES
from sb3_esac.evaluation.direct import DirectEvaluator
from sb3_esac.evaluation.evaluator import EvaluationRequest, Evaluator
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evaluation.worker import prepare_process


@dataclass(frozen=True)
class Work:
    """
    What one run did.

    :param n_steps: Steps of the environment.
    :param n_episodes: Episodes, 0 if they were not counted.
    """

    n_steps: int
    n_episodes: int = 0


Run = Callable[[], Work]
Way = Callable[[Setting], AbstractContextManager[Run]]


def _evaluate(evaluator: Evaluator, request: EvaluationRequest) -> Work:
    result = evaluator.evaluate(request, lambda variables: True)
    assert result is not None
    return Work(int(result.lengths.sum()), result.lengths.size)


@contextmanager
def lockstep(setting: Setting) -> Iterator[Run]:
    """Our lockstep evaluator on a ``DummyVecEnv`` of as many lanes as there are workers (one process)."""
    env = DummyVecEnv([partial(make_monitored, setting.env)] * setting.n_workers)
    yield partial(_evaluate, LockstepEvaluator(env), setting.request)
    env.close()


@contextmanager
def direct(setting: Setting) -> Iterator[Run]:
    """Whole episodes in this process on a user's own environment, as they play who say nothing of workers."""
    if setting.n_workers > 1:
        raise ValueError("one environment plays in one process")
    env = DummyVecEnv([partial(make_monitored, setting.env)])
    yield partial(_evaluate, DirectEvaluator(env), replace(setting.request, quiet=True))
    env.close()


@contextmanager
def learn(setting: Setting) -> Iterator[Run]:
    """A whole ``learn`` of ES with default arguments, logs, probes and all."""
    if setting.n_workers > 1 or setting.net == CNN:
        raise ValueError("default arguments have one process and perceptrons")
    env = DummyVecEnv([partial(make_monitored, setting.env)])
    model = ES("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": NETS[setting.net]})
    steps = int(setting.request.seeds.size * 200)

    def run() -> Work:
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return Work(model.num_timesteps - before)

    yield run
    env.close()


@contextmanager
def lockstep_subproc(setting: Setting) -> Iterator[Run]:
    """Our lockstep evaluator on a ``SubprocVecEnv``: what is left where no copies of the environment can be made."""
    env = SubprocVecEnv([partial(make_monitored, setting.env)] * setting.n_workers)
    yield partial(_evaluate, LockstepEvaluator(env), setting.request)
    env.close()


@contextmanager
def subproc(setting: Setting, *, sharing: bool = False) -> Iterator[Run]:
    """Our worker processes, and with their transitions."""
    evaluator = SubprocEvaluator(setting.recipe, setting.n_workers)
    yield partial(_evaluate, evaluator, setting.sharing if sharing else setting.request)
    evaluator.close()


@contextmanager
def ray_actors(setting: Setting) -> Iterator[Run]:
    """Our Ray actors."""
    from sb3_esac.evaluation.ray import RayEvaluator

    evaluator = RayEvaluator(setting.recipe, setting.n_workers)
    yield partial(_evaluate, evaluator, setting.request)
    evaluator.close()


# -- the least that it can cost --------------------------------------------------------------------------------------------


class Floor(gym.Wrapper):
    """
    Plays its share of a generation in the shortest loop that can be written, or only repeats its actions.

    :param setting: What is played.
    :param rank: Which share.
    """

    def __init__(self, setting: Setting, rank: int) -> None:
        prepare_process()
        super().__init__(make_env(setting.env))
        self.jobs = range(rank, setting.n_members, setting.n_workers)

    def load(self, request: EvaluationRequest) -> None:
        """Take the parameters, and play once to know the actions."""
        self.request = request
        self.actions: list[list[np.ndarray]] = []
        self.play()

    def play(self) -> Work:
        """Simulator and forward."""
        self.actions = []
        for job in self.jobs:
            act = self.request.player.bind(self.request.parameters[job])
            observation, _ = self.env.reset(seed=int(self.request.seeds[job, 0]))
            actions: list[np.ndarray] = []
            done = False
            while not done:
                action = act(observation)
                observation, _, terminated, truncated, _ = self.env.step(action)
                actions.append(action)
                done = terminated or truncated
            self.actions.append(actions)
        return Work(sum(map(len, self.actions)), len(self.jobs))

    def repeat(self) -> Work:
        """The simulator alone."""
        for job, actions in zip(self.jobs, self.actions, strict=True):
            self.env.reset(seed=int(self.request.seeds[job, 0]))
            for action in actions:
                self.env.step(action)
        return Work(sum(map(len, self.actions)), len(self.jobs))


@contextmanager
def floor(setting: Setting, *, method: str) -> Iterator[Run]:
    """Simulator (and forward) in as many processes, with nothing around."""
    bare = Setting(setting.env, setting.net, setting.n_workers, setting.n_members)
    env = SubprocVecEnv([partial(Floor, bare, rank) for rank in range(setting.n_workers)])
    env.env_method("load", setting.request)

    def run() -> Work:
        works = env.env_method(method)
        return Work(sum(work.n_steps for work in works), sum(work.n_episodes for work in works))

    yield run
    env.close()


@contextmanager
def steps_only(setting: Setting) -> Iterator[Run]:
    """``SubprocVecEnv.step`` with random actions: what lockstep costs before any policy has been asked."""
    env = SubprocVecEnv([partial(make_monitored, setting.env)] * setting.n_workers)
    n_calls = 2000 // setting.n_workers
    space = env.action_space
    space.seed(0)
    actions = np.array([[space.sample() for _ in range(setting.n_workers)] for _ in range(n_calls)])
    env.reset()

    def run() -> Work:
        for action in actions:
            env.step(action)
        return Work(n_calls * setting.n_workers)

    yield run
    env.close()


# -- other libraries -------------------------------------------------------------------------------------------------------


def _one_lane(name: str) -> VecEnv:
    return DummyVecEnv([partial(make_monitored, name)])


@contextmanager
def ars(setting: Setting) -> Iterator[Run]:
    """sb3-contrib's ``AsyncEval``, which evaluates the candidates of ``ARS``."""
    from sb3_contrib import ARS
    from sb3_contrib.common.vec_env import AsyncEval

    setting = replace(setting, n_members=_fewer(setting))
    kwargs = {"net_arch": NETS[setting.net]}
    model = ARS("MlpPolicy", _one_lane(setting.env), n_delta=2, n_top=2, policy_kwargs=kwargs, device="cpu")
    evaluation = AsyncEval([partial(_one_lane, setting.env)] * setting.n_workers, model.policy)
    center = th.nn.utils.parameters_to_vector(model.policy.parameters()).detach()
    candidates = center + 0.02 * th.randn(setting.n_members, len(center))

    def run() -> Work:
        evaluation.send_jobs(candidates, setting.n_members)
        lengths = [length for _, (_, lengths) in evaluation.get_results() for length in np.ravel(lengths)]
        return Work(int(np.sum(lengths)), len(lengths))

    yield run
    evaluation.close()


@contextmanager
def evotorch(setting: Setting) -> Iterator[Run]:
    """EvoTorch's ``GymNE``; two workers are Ray actors of its own."""
    from evotorch.neuroevolution import GymNE
    from evotorch.tools.misc import set_default_logger_config  # type: ignore[import-not-found,unused-ignore]

    set_default_logger_config(logger_level=logging.WARNING, override=True)
    setting = replace(setting, n_members=_fewer(setting))
    env = make_env(setting.env)
    assert env.observation_space.shape and env.action_space.shape
    sizes = [env.observation_space.shape[0], *NETS[setting.net]]
    layers: list[th.nn.Module] = []
    for n_inputs, n_outputs in pairwise(sizes):
        layers += [th.nn.Linear(n_inputs, n_outputs), th.nn.ReLU()]
    layers += [th.nn.Linear(sizes[-1], env.action_space.shape[0]), th.nn.Tanh()]
    n_actors = setting.n_workers if setting.n_workers > 1 else None
    problem = GymNE(partial(make_env, setting.env), th.nn.Sequential(*layers), num_actors=n_actors, initial_bounds=(-0.1, 0.1))

    def run() -> Work:
        before = _interactions(problem)
        problem.evaluate(problem.generate_batch(setting.n_members))
        return Work(_interactions(problem) - before, setting.n_members)

    yield run
    if n_actors is not None:
        problem.kill_actors()


def _interactions(problem: Any) -> int:
    return int(problem.status.get("total_interaction_count", 0)) if problem.is_main else 0


def _fewer(setting: Setting) -> int:
    """Slow ways play a part of the generation, a whole number of members per worker."""
    return max(2, setting.n_members // 4)


WAYS: dict[str, Way] = {
    "simulator": partial(floor, method="repeat"),
    "simulator + forward": partial(floor, method="play"),
    "workers": subproc,
    "workers, sharing": partial(subproc, sharing=True),
    "Ray": ray_actors,
    "in the process": direct,
    "ES.learn": learn,
    "lockstep": lockstep,
    "lockstep, SubprocVecEnv": lockstep_subproc,
    "SubprocVecEnv.step": steps_only,
    "ARS + AsyncEval": ars,
    "EvoTorch GymNE": evotorch,
}
"""By the name in the table."""

QUICK = ["simulator", "simulator + forward", "workers", "workers, sharing"]
