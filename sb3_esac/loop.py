"""The loop over generations."""

import warnings
from typing import Any

import torch as th
from stable_baselines3.common import utils

from sb3_esac.boundary import Boundary
from sb3_esac.changes import use_changes
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evaluation.episode_caps import check_budget
from sb3_esac.evolution.arguments import is_number, require
from sb3_esac.evolution.noise import Stream, episode_seed


def play_generations(model: Any, callback: StepListener, log_interval: int | None) -> None:
    """
    Play generations until the budget is spent, or a callback asks to stop.

    :param model: ESAC or ES.
    :param callback: The user's callbacks.
    :param log_interval: Generations between log entries, None for none.
    """
    arena, total = model.arena, model._total_timesteps
    arena.open(quiet=not callback.hears_steps)
    arena.caps.start_clock()
    try:
        while model.num_timesteps < total:
            use_changes(model)
            model._boundary = Boundary.of(model)
            if not model._prepare_generation(callback) or not _set_episode_cap(model, callback):
                break
            if model.num_timesteps >= total:
                warnings.warn(
                    f"Random play, by which the first episode length or a batch of pictures is found, has taken all of the "
                    f"{total:,} steps: nothing was learned. Pass `first_length` to the ProgressiveEpisodeLength, or fewer "
                    "`n_random_episodes`, or train for longer.",
                    stacklevel=2,
                )
                continue
            _begin_generation(model)
            if not model._take_turn(callback):
                break
            if log_interval is not None and model.population.generation % log_interval == 0:
                model.dump_logs()
        else:
            model._end(callback)
    finally:
        arena.close()
        if model._boundary is not None:
            model._boundary.end(model)


def _set_episode_cap(model: Any, callback: StepListener) -> bool:
    """Decide how long offspring may play in the coming generation; False if a callback asked to stop."""
    schedule, arena = model.episode_length_schedule, model.arena
    check_budget(model._total_timesteps, schedule)
    if not arena.lay_out(schedule, model.run_seed, model.population.generation, callback.tell):
        return False
    is_new = arena.caps.advance(schedule, model._current_progress_remaining, model.num_timesteps, model._total_timesteps)
    phases = arena.caps.phases
    if is_new and phases is not None and model.verbose >= 1:
        where = f"phase {phases.phase + 1} of {len(phases.lengths)}"
        print(f"Episodes of at most {phases.cap} steps from step {model.num_timesteps} on ({where})")
    return True


def _begin_generation(model: Any) -> None:
    """Make all that follows a function of seed and generation."""
    if callable(model.sigma):
        sigma = model.sigma(model._current_progress_remaining)
        expected = f"positive throughout training (it gives {sigma} at {model._current_progress_remaining:.3g})"
        require(is_number(sigma) and sigma > 0, "sigma", model.sigma, expected)
        model.population.sigma = float(sigma)
    seed = episode_seed(model.run_seed, model.population.generation, Stream.GLOBAL, 0)
    utils.set_random_seed(seed, using_cuda=model.device.type == th.device("cuda").type)
    model.action_space.seed(seed)
