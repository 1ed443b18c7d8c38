"""Which evaluator plays the offspring: on the user's own lanes, in worker processes, or on a Ray cluster."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, unwrap_vec_normalize

from sb3_esac.evaluation.evaluator import Evaluator
from sb3_esac.evaluation.factories import LaneRecipe, lane_recipe
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.seeding import base_vec_env
from sb3_esac.evaluation.subproc import SubprocEvaluator, start_server

BACKENDS = ("auto", "lockstep", "subproc", "ray")


def is_backend(backend: object) -> bool:
    """
    Whether a value names a backend: one of ``BACKENDS``, or "ray:" with the address of a cluster.

    :param backend: Any value.
    """
    return backend in BACKENDS or (isinstance(backend, str) and backend.startswith("ray:") and len(backend) > len("ray:"))


def asks_for_workers(env: VecEnv, backend: str, n_workers: int | None) -> bool:
    """
    Whether a user wants episodes to be played elsewhere: by ``n_workers``, ``backend`` or a ``SubprocVecEnv``.

    :param env: The user's ``VecEnv``.
    :param backend: See :func:`make_evaluator`.
    :param n_workers: Likewise.
    """
    if backend == "auto":
        return (n_workers or 1) > 1 or isinstance(base_vec_env(env), SubprocVecEnv)
    return backend != "lockstep"


def prepare_workers(env: VecEnv, backend: str, n_workers: int | None) -> None:
    """
    Begin in the background with what takes long about the workers that :func:`make_evaluator` will make for the same
    arguments.

    :param env: The user's ``VecEnv``.
    :param backend: See :func:`make_evaluator`.
    :param n_workers: Likewise.
    """
    if not backend.startswith("ray") and asks_for_workers(env, backend, n_workers):
        start_server()


def make_evaluator(
    env: VecEnv,
    *,
    backend: str = "auto",
    n_workers: int | None = None,
    env_fn: Callable[[], gym.Env] | None = None,
    env_id: str | None = None,
    episode_timeout: float | None = None,
    max_worker_restarts: int = 3,
    verbose: int = 0,
) -> Evaluator:
    """
    Choose the evaluator. Processes are started only for users who ask for them (see :func:`asks_for_workers`).

    :param env: The user's ``VecEnv``.
    :param backend: "lockstep" steps ``env`` itself, "subproc" plays whole episodes in worker processes, "ray" does so on a
        cluster: one that is started for the run, or with "ray:auto" and "ray://host:port" one that is there; "auto" takes
        processes if they are asked for and copies of the environment can be made, lockstep otherwise.
    :param n_workers: Number of processes, None for as many as ``env`` has.
    :param env_fn: Gives a copy of the environment of one lane.
    :param env_id: Name of the environment, where that is what the user gave.
    :param episode_timeout: Seconds after which an episode in a worker is taken for one that hangs.
    :param max_worker_restarts: How many dead workers are replaced in one generation.
    :param verbose: From 1 on, say why workers are not used although they were asked for.
    :return: The evaluator.
    :raises ValueError: If ``backend`` needs copies of the environment and none can be made.
    """
    if not asks_for_workers(env, backend, n_workers):
        return LockstepEvaluator(env)
    recipe = lane_recipe(env, env_fn, env_id)
    if recipe is None:
        why = "no copy of the environment can be made: pass `env_fn`, a function that makes one"
        if backend != "auto":
            raise ValueError(f"`backend={backend!r}` cannot be used: {why}")
        if verbose >= 1:
            print(f"Offspring play in lockstep on the environment's own lanes, since {why}.")
        return LockstepEvaluator(env)
    rules: dict[str, Any] = {
        "vec_normalize": unwrap_vec_normalize(env),
        "lanes": env.num_envs,
        "episode_timeout": episode_timeout,
        "max_worker_restarts": max_worker_restarts,
    }
    if backend.startswith("ray"):
        return _on_ray(recipe, n_workers or env.num_envs, backend, rules)
    return SubprocEvaluator(recipe, n_workers or env.num_envs, **rules)


def _on_ray(recipe: LaneRecipe, n_workers: int, backend: str, rules: dict[str, Any]) -> Evaluator:
    # Only who asks for Ray needs it.
    from sb3_esac.evaluation.ray import RayEvaluator

    address = None if backend == "ray" else backend if backend.startswith("ray://") else backend.removeprefix("ray:")
    return RayEvaluator(recipe, n_workers, address=address, **rules)
