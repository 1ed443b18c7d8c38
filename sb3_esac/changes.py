"""Arguments that are changed on a model, and how it goes by them from then on."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from sb3_esac.agent.building import AGENT_DEFAULTS, accepted_arguments
from sb3_esac.arguments import copied, defaults_of, same
from sb3_esac.environments import check_lanes

FIXED = {
    "policy_class": "networks",
    "policy_kwargs": "networks",
    "normalize_observations": "networks",
    "agent_class": "networks",
    "agent_kwargs": "networks",
    "use_sde": "networks",
    "device": "buffers and networks",
    "ent_coef": "entropy coefficient",
    "n_steps": "buffers",
    "buffer_size": "buffers",
    "replay_buffer_class": "buffers",
    "replay_buffer_kwargs": "buffers",
    "optimize_memory_usage": "buffers",
}
"""Arguments that cannot be changed on a model, and what has been made from them."""


class Applied:
    """
    The arguments that a run goes by.

    :param model: The model, as it goes by them now.
    """

    def __init__(self, model: Any) -> None:
        names: Iterable[str] = (*defaults_of(model.__class__), "policy_class", "learning_rate", "lr_schedule")
        self.values = {name: copied(getattr(model, name)) for name in names}
        self.env = self.adopted_env = model.env

    def changed(self, model: Any) -> set[str]:
        """
        Find what has been changed since, "env" among it.

        :param model: The same model.
        :return: Names of arguments.
        """
        found = {name for name, value in self.values.items() if not same(value, getattr(model, name))}
        return found if self.env is model.env else {*found, "env"}

    def refuse_fixed(self, model: Any, changed: set[str]) -> None:
        """
        Raise an error if something was changed that cannot be.

        :param model: The same model.
        :param changed: Names of arguments.
        :raises ValueError: If networks or buffers have been made from one of them.
        """
        for name in sorted(changed & FIXED.keys()):
            way = "the constructor, or to `load`" if FIXED[name].startswith("buffers") else "the constructor"
            raise ValueError(
                f"`{name}={getattr(model, name)!r}` cannot be set on a model, which has been built with {self.values[name]!r} "
                f"({FIXED[name]}): pass it to {way}"
            )


def use_changes(model: Any) -> None:
    """
    Go by the arguments as they are on a model now: a change since the last time was meant.

    :param model: ESAC or ES.
    :raises ValueError: If an argument is not what it may be, or cannot be changed.
    """
    changed = model._applied.changed(model)
    if not changed:
        return
    model._applied.refuse_fixed(model, changed)
    model._check_arguments(changed)
    model._use_arguments(changed)
    model._applied = Applied(model)


def use_for_population(model: Any, changed: set[str]) -> None:
    """
    Tell population and arena of arguments that were changed; others are looked up where they are needed.

    :param model: ESAC or ES.
    :param changed: Their names, "env" if there is another environment.
    """
    if model.env is not model._applied.adopted_env:
        # It was put there without `set_env`.
        model.set_env(model.env)
    model._configure_episode_lengths()
    if model.env is not None:
        check_lanes(model)
    model.population.configure(model._population_config())
    if "sigma" in changed and not callable(model.sigma):
        model.population.sigma = model.sigma
    if "seed" in changed and model.seed != model.run_seed:
        model.set_random_seed(np.random.randint(2**31) if model.seed is None else model.seed)
    if "stats_window_size" in changed and model.ep_info_buffer is not None:
        model._stats_window_size = model.stats_window_size
        model.ep_info_buffer = deque(model.ep_info_buffer, maxlen=model.stats_window_size)
        model.ep_success_buffer = deque(model.ep_success_buffer, maxlen=model.stats_window_size)
    model.arena.configure(model._arena_settings())


def use_for_agent(model: Any, changed: set[str]) -> None:
    """
    Tell the learner of arguments that were changed.

    :param model: ESAC.
    :param changed: Their names.
    :raises ValueError: If the agent's class does not take one of its arguments.
    """
    accepted_arguments(model.agent_class, {name: getattr(model, name) for name in AGENT_DEFAULTS})
    if "learning_rate" in changed and "lr_schedule" not in changed:
        # SAC needs `_setup_lr_schedule` to be called; a change of the one is meant for the other.
        model._setup_lr_schedule()
    model.agent.verbose = model.verbose
    model._share_episode_buffers()
    model.learner.share(model._shared())
    if "updates" in changed:
        model.learner.set_updates(model.updates)
    model.learner.set_average(model.agent_average)
