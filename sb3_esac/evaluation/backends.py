"""Who plays the offspring: the environment's own lanes, worker processes, a Ray cluster, or an evaluator of the user's."""

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv, unwrap_vec_normalize

from sb3_esac.evaluation.direct import DirectEvaluator, can_play_directly
from sb3_esac.evaluation.evaluator import Evaluator
from sb3_esac.evaluation.factories import LaneRecipe, NoRecipeError, lane_recipe
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.monitor_files import MonitorFiles
from sb3_esac.evaluation.seeded_episodes import adopt
from sb3_esac.evaluation.subproc import SubprocEvaluator, start_server
from sb3_esac.evaluation.vec_envs import base_vec_env

BACKENDS = ("auto", "lockstep", "subproc", "ray")


def is_backend(backend: object) -> bool:
    """
    Whether a value is a backend: one of ``BACKENDS``, "ray:" with the address of a cluster, or an :class:`Evaluator`.

    :param backend: Any value.
    """
    if not isinstance(backend, str):
        return isinstance(backend, Evaluator)
    return backend in BACKENDS or (backend.startswith("ray:") and len(backend) > len("ray:"))


def may_make_workers(backend: str | Evaluator) -> bool:
    """
    Whether workers are made where a user asks for them. An evaluator of the user's has its own ways.

    :param backend: See :func:`make_evaluator`.
    """
    return not isinstance(backend, Evaluator) and backend != "lockstep"


def asks_for_workers(env: VecEnv, backend: str | Evaluator, n_workers: int | None) -> bool:
    """
    Whether a user wants workers to be made: by ``n_workers``, the name of a ``backend`` or a ``SubprocVecEnv``.

    :param env: The user's ``VecEnv``.
    :param backend: See :func:`make_evaluator`.
    :param n_workers: As in :class:`~sb3_esac.ES`.
    """
    if backend == "auto":
        return (n_workers or 1) > 1 or isinstance(base_vec_env(env), SubprocVecEnv)
    return may_make_workers(backend)


def prepare_workers(env: VecEnv, backend: str | Evaluator, n_workers: int | None) -> None:
    """
    Begin with what the workers need that :func:`make_evaluator` will make for the same arguments: what takes long, in the
    background, and to write down what the user does to ``env``.

    :param env: The user's ``VecEnv``.
    :param backend: See :func:`make_evaluator`.
    :param n_workers: As in :class:`~sb3_esac.ES`.
    """
    if isinstance(backend, Evaluator) or not asks_for_workers(env, backend, n_workers):
        return
    adopt(env).journal.is_open = True
    if not backend.startswith("ray"):
        start_server()


def lanes_differ(env: VecEnv, n_eval_episodes: int, env_fn: Callable[[], gym.Env] | None, *, wants_workers: bool) -> bool:
    """
    Decide whether the lanes of an environment are different tasks. Members can only be compared then if each plays all of
    them.

    :param env: The user's ``VecEnv``.
    :param n_eval_episodes: Episodes of each member in a generation.
    :param env_fn: Gives a copy of the environment for a worker, None if nothing does.
    :param wants_workers: See :func:`asks_for_workers`.
    :return: Whether lanes differ.
    :raises ValueError: Members would not play the same.
    """
    base = adopt(env)
    difference = base.journal.look(base)
    if difference is None:
        return False
    if n_eval_episodes % env.num_envs != 0:
        raise ValueError(
            f"`n_eval_episodes` must be a multiple of the number of environments ({env.num_envs}), not {n_eval_episodes}, as "
            f"these are different tasks: {difference}. Each member plays all of them then, and all are compared on the same. "
            "Or make the environments alike."
        )
    if env_fn is not None and wants_workers:
        raise ValueError(
            f"`env_fn` must be None, not {env_fn!r}, where environments are different tasks ({difference}): workers play "
            "copies of each. Or take `backend='lockstep'`."
        )
    return True


def make_evaluator(
    env: VecEnv,
    *,
    backend: str | Evaluator = "auto",
    n_workers: int | None = None,
    env_fn: Callable[[], gym.Env] | None = None,
    env_id: str | None = None,
    episode_timeout: float | None = None,
    max_worker_restarts: int = 3,
    lanes_differ: bool = False,
) -> Evaluator:
    """
    Choose the evaluator. Processes are started only for users who ask for them (see :func:`asks_for_workers`).

    :param env: The user's ``VecEnv``.
    :param backend: "lockstep" steps all lanes of ``env`` together, "subproc" plays whole episodes in worker processes, "ray"
        does so on a cluster: one that is started for the run, or with "ray:auto" and "ray://host:port" one that is there.
        "auto" takes processes if they are asked for and copies of the environment can be made; otherwise it plays whole
        episodes on the environment itself if there is one and it can be driven, and in lockstep if not. An
        :class:`Evaluator` is the one, and is told of the user's ``VecNormalize``.
    :param n_workers: Number of processes, None for as many as ``env`` has.
    :param env_fn: Gives a copy of the environment of one lane.
    :param env_id: Name of the environment, where that is what the user gave.
    :param episode_timeout: Seconds after which an episode in a worker is taken for one that hangs.
    :param max_worker_restarts: How many dead workers are replaced in one generation.
    :param lanes_differ: Whether the lanes of ``env`` are different tasks, so that workers need a copy of each.
    :return: The evaluator.
    :raises ValueError: If ``backend`` needs copies of the environment and none can be made.
    """
    if isinstance(backend, Evaluator):
        backend.vec_normalize = unwrap_vec_normalize(env)
        return backend
    if not asks_for_workers(env, backend, n_workers):
        return _in_this_process(env, backend)
    journal = adopt(env).journal
    try:
        recipe = lane_recipe(env, env_fn, env_id, journal, lanes_differ)
    except NoRecipeError as why:
        if backend != "auto":
            raise ValueError(f"`backend={backend!r}` cannot be used: {why}") from None
        warnings.warn(f"Offspring play on the environment's own lanes, not in worker processes, since {why}.", stacklevel=2)
        return _in_this_process(env, backend)
    rules: dict[str, Any] = {
        "vec_normalize": unwrap_vec_normalize(env),
        "lanes": env.num_envs,
        "episode_timeout": episode_timeout,
        "max_worker_restarts": max_worker_restarts,
        "journal": journal,
        # An `env_fn` may bring the file in which its episodes are expected.
        "files": MonitorFiles(env, getattr(env_fn, "offspring_file", None)),
    }
    if backend.startswith("ray"):
        return _on_ray(recipe, n_workers or env.num_envs, backend, rules)
    return SubprocEvaluator(recipe, n_workers or env.num_envs, **rules)


def _in_this_process(env: VecEnv, backend: str) -> Evaluator:
    return DirectEvaluator(env) if backend == "auto" and can_play_directly(env) else LockstepEvaluator(env)


def _on_ray(recipe: LaneRecipe, n_workers: int, backend: str, rules: dict[str, Any]) -> Evaluator:
    # Only who asks for Ray needs it.
    from sb3_esac.evaluation.ray import RayEvaluator

    address = None if backend == "ray" else backend if backend.startswith("ray://") else backend.removeprefix("ray:")
    return RayEvaluator(recipe, n_workers, address=address, **rules)
