"""What is logged of a run, beside what the agent logs itself."""

import sys
import time
from collections import deque
from typing import Any

import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.utils import safe_mean

from sb3_esac.champion import Champion
from sb3_esac.counters import Counters
from sb3_esac.evaluation.arena import Arena
from sb3_esac.evaluation.evaluator import EvaluationResult
from sb3_esac.evolution.population import Population


def record_population(
    logger: Logger, result: EvaluationResult, population: Population, arena: Arena, champion: Champion
) -> None:
    """
    Record what a generation was worth.

    :param logger: The run's.
    :param result: Episodes of its members.
    :param population: The population.
    :param arena: Where they played.
    :param champion: The champion by now.
    """
    returns = result.returns.mean(axis=1)
    finite = returns[np.isfinite(returns)]
    if finite.size:
        logger.record("population/return_mean", float(finite.mean()))
        logger.record("population/return_max", float(finite.max()))
        logger.record("population/return_std", float(finite.std()))
    logger.record("population/length_mean", float(result.lengths.mean()))
    logger.record("population/sigma", population.sigma)
    if arena.caps.cap is not None:
        logger.record("population/episode_length_cap", arena.caps.cap)
    if champion.record is not None:
        logger.record("champion/return_mean", champion.record.return_mean)


def record_episodes(logger: Logger, infos: deque[dict[str, Any]], successes: deque[float]) -> None:
    """
    Record the last episodes of all players.

    :param logger: The run's.
    :param infos: ``Monitor``'s summaries.
    :param successes: Whether they were successes.
    """
    if len(infos) > 0 and len(infos[0]) > 0:
        logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in infos]))
        logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in infos]))
    if len(successes) > 0:
        logger.record("rollout/success_rate", safe_mean(successes))


def record_exploration(logger: Logger, actor: Any) -> None:
    """
    Record how widely the agent explores with gSDE, as SAC does.

    :param logger: The run's.
    :param actor: The agent's actor.
    """
    logger.record("train/std", actor.get_std().mean().item())


def record_counters(logger: Logger, counters: Counters, generation: int) -> None:
    """
    Record how far the run is.

    :param logger: The run's.
    :param counters: What it has counted.
    :param generation: Generations until now.
    """
    arena = counters.arena
    logger.record("time/generations", generation)
    logger.record("time/episodes", counters.episodes, exclude="tensorboard")
    logger.record("time/agent_timesteps", counters.agent_timesteps)
    logger.record("time/population_timesteps", arena.timesteps)
    logger.record("time/probe_timesteps", arena.probe_timesteps)
    logger.record("time/paper_timesteps", int(arena.paper_timesteps))
    logger.record("time/total_timesteps", counters.timesteps, exclude="tensorboard")


def record_seconds(logger: Logger, start_time: float, n_timesteps: int, seconds: dict[str, float]) -> None:
    """
    Record where the time goes.

    :param logger: The run's.
    :param start_time: When ``learn`` began, in nanoseconds.
    :param n_timesteps: Steps since then.
    :param seconds: Seconds by phase.
    """
    elapsed = max((time.time_ns() - start_time) / 1e9, sys.float_info.epsilon)
    logger.record("time/fps", int(n_timesteps / elapsed))
    logger.record("time/time_elapsed", int(elapsed), exclude="tensorboard")
    for phase, value in seconds.items():
        logger.record(f"time/{phase}_seconds", round(value, 3))
