"""What a generation means for the user's ``VecNormalize``: frozen while it is played, merged exactly afterwards."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac.evaluation.rollout import EpisodeResult, Recording
from sb3_esac.evaluation.statistics import Moments, ObservationMoments, merge_moments


def recording_for(vec_normalize: VecNormalize | None) -> Recording:
    """
    What has to be written down of episodes for the statistics of a ``VecNormalize``.

    :param vec_normalize: The user's wrapper, None if there is none.
    :return: Nothing, if it is not training.
    """
    if vec_normalize is None or not vec_normalize.training:
        return Recording()
    return Recording(
        observation_moments=vec_normalize.norm_obs,
        return_discount=vec_normalize.gamma if vec_normalize.norm_reward else None,
    )


def moments_of(episodes: list[EpisodeResult]) -> ObservationMoments | None:
    """Moments of the observations of all episodes, merged in their order; None if none were recorded."""
    return merge_moments([episode.observation_moments for episode in episodes if episode.observation_moments is not None])


def merge_episodes(vec_normalize: VecNormalize | None, episodes: list[EpisodeResult]) -> None:
    """
    Merge what a generation saw into the statistics, in the order of the episodes.

    :param vec_normalize: The user's wrapper; nothing happens if there is none or if it is not training.
    :param episodes: Episodes with the moments that :func:`recording_for` asked for.
    """
    if vec_normalize is None or not vec_normalize.training:
        return
    fresh = moments_of(episodes)
    if fresh is not None and vec_normalize.norm_obs:
        # Of a `Dict` observation some parts may be left as they are (`norm_obs_keys`).
        statistics = vec_normalize.obs_rms if isinstance(vec_normalize.obs_rms, dict) else {"": vec_normalize.obs_rms}
        for key, rms in statistics.items():
            rms.update_from_moments(fresh[key].mean, fresh[key].var, fresh[key].count)
    returns: Moments | None = None
    for part in (episode.return_moments for episode in episodes):
        if part is not None:
            returns = part if returns is None else returns.merge(part)
    if returns is not None:
        vec_normalize.ret_rms.update_from_moments(returns.mean, returns.var, returns.count)


@contextmanager
def frozen(vec_normalize: VecNormalize | None, obs_rms: Any = None) -> Iterator[None]:
    """
    Keep the statistics as they are, or as they were, for the time of an evaluation.

    :param vec_normalize: The user's wrapper, None if there is none.
    :param obs_rms: Observation statistics to use meanwhile, None for the present ones.
    """
    if vec_normalize is None:
        yield
        return
    training: bool = vec_normalize.training
    present: Any = getattr(vec_normalize, "obs_rms", None)
    vec_normalize.training = False
    if obs_rms is not None:
        vec_normalize.obs_rms = obs_rms
    try:
        yield
    finally:
        vec_normalize.training = training
        if obs_rms is not None:
            vec_normalize.obs_rms = present


def snapshot(vec_normalize: VecNormalize | None) -> object:
    """Copy of the observation statistics, None if there are none."""
    return copy.deepcopy(getattr(vec_normalize, "obs_rms", None))
