"""What the conformance tests share: the algorithms, small settings for them, small environments, and looking into a model."""

import inspect
import os
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecEnv

from sb3_esac import ES, ESAC
from sb3_esac.budget import lead, rule

DEVICE = os.environ.get("SB3_ESAC_TEST_DEVICE", "cpu")
"""Of all networks: where there is a GPU, ``SB3_ESAC_TEST_DEVICE=cuda make test`` holds them to the same."""

ALGORITHMS = [ESAC, ES]
HYBRIDS = [ESAC]
"""Algorithms with a gradient agent."""

DEPLOYED = [(algorithm, deploy) for algorithm in ALGORITHMS for deploy in ("best", "agent", "population")]
DEPLOYED.remove((ES, "agent"))
"""Algorithms, and what they can deploy."""

# So that who leads changes within a short run.
lead.MIN_WINDOW, rule.TURN_STEPS = 15, 10

SMALL: dict[type, dict[str, Any]] = {
    ESAC: dict(
        buffer_size=1000,
        learning_starts=10,
        batch_size=8,
        train_freq=2,
        device=DEVICE,
        population_size=4,
        agent_fraction=0.25,
        share_experience=0.5,
        # So that all parts of the algorithm take part.
        crossover="row",
        normalize_observations=False,
        champion_episodes=1,
        # Episodes in this process, so that an environment can be asked what happened in it.
        backend="auto",
    ),
    ES: dict(
        device=DEVICE,
        population_size=4,
        # The one with an optimiser, whose state has to be kept.
        strategy="openai",
        normalize_observations=False,
        champion_episodes=1,
        backend="auto",
    ),
}
"""Arguments under which a run takes a fraction of a second, whatever the defaults are."""

OF_THE_AGENT = set(inspect.signature(ESAC).parameters) - set(inspect.signature(ES).parameters)


def arguments_for(algorithm: type, arguments: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is said to a gradient agent where there is none, so that a test can be told of both kinds at once."""
    return {name: value for name, value in arguments.items() if algorithm in HYBRIDS or name not in OF_THE_AGENT}


def make_model(algorithm: type, env: Any, policy: str = "MlpPolicy", **kwargs: Any) -> Any:
    """
    A small model.

    :param algorithm: One of ``ALGORITHMS``.
    :param env: Environment.
    :param policy: Policy.
    :param kwargs: Arguments that differ from ``SMALL``.
    """
    arguments = {"policy_kwargs": dict(net_arch=[8]), **SMALL[algorithm], **kwargs}
    return algorithm(policy, env, **arguments_for(algorithm, arguments))


class Drift(gym.Env):
    """
    A point that drifts on a line and is to be held at zero; episodes end by leaving the line or after ``n_steps``.

    Where it starts depends on the seed, and how long an episode takes on the policy.

    :param n_steps: Where an episode is truncated.
    :param edge: Distance at which it terminates.
    :param n_actions: Number of actions; the first one counts.
    """

    def __init__(self, n_steps: int = 12, edge: float = 1.5, n_actions: int = 1) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-2.0, 2.0, (n_actions,), np.float32)
        self.n_steps, self.edge = n_steps, edge
        self.x = self.v = 0.0
        self.t = 0

    def _observe(self) -> np.ndarray:
        return np.array([self.x, self.v, 1.0], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.x, self.v = self.np_random.uniform(-0.5, 0.5), self.np_random.uniform(-0.1, 0.1)
        self.t = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.t += 1
        self.v += 0.1 * float(np.asarray(action).reshape(-1)[0])
        self.x += self.v
        terminated = abs(self.x) > self.edge
        return self._observe(), 1.0 - self.x**2, terminated, self.t >= self.n_steps, {}


class Counted(gym.Wrapper):
    """
    Counts ``step`` calls.

    :param env: Environment.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.n_steps = 0

    def step(self, action: Any) -> Any:
        self.n_steps += 1
        return super().step(action)


def counted_steps(venv: VecEnv) -> int:
    """Number of ``step`` calls on all environments of a ``VecEnv`` whose environments are ``Counted``."""
    return sum(venv.get_attr("n_steps"))


def drift(n_envs: int = 1, **kwargs: Any) -> VecEnv:
    """A ``VecEnv`` of ``Drift``."""
    return make_vec_env(Drift, n_envs, env_kwargs=kwargs)


def pendulum(n_steps: int = 20) -> gym.Env:
    """Pendulum with short episodes, all of the same length."""
    return gym.make("Pendulum-v1", max_episode_steps=n_steps)


class Entries(KVWriter):
    """Keeps what is logged, entry by entry."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        self.entries.append(dict(key_values))

    def close(self) -> None:
        pass


def keep_log(model: Any) -> list[dict[str, Any]]:
    """
    Let a model log into a list.

    :param model: The model.
    :return: One dict per entry, filled as the model learns.
    """
    writer = Entries()
    model.set_logger(Logger(None, [writer]))
    return writer.entries


def without_clock(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What does not depend on the speed of the machine."""
    clocks = ("time/fps", "time/time_elapsed")
    return [{k: v for k, v in entry.items() if k not in clocks and not k.endswith("_seconds")} for entry in entries]


class Tell(BaseCallback):
    """
    Calls functions with the model; a step goes on unless ``on_step`` returns False.

    :param on_step: Called at each step.
    :param on_generation: Called as a generation begins, before its first step.
    """

    def __init__(self, on_step: Callable[[Any], Any] | None = None, on_generation: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.tell_step, self.tell_generation = on_step, on_generation
        self.begun: int | None = None
        self.ended = False

    def _on_rollout_start(self) -> None:
        generation = self.model.population.generation
        if generation != self.begun:
            self.begun = generation
            if self.tell_generation is not None:
                self.tell_generation(self.model)

    def _on_step(self) -> bool:
        return self.tell_step is None or self.tell_step(self.model) is not False

    def _on_training_end(self) -> None:
        self.ended = True


def state_of(model: Any) -> dict[str, Any]:
    """
    Everything that the rest of a run depends on.

    :param model: The model.
    :return: Nested dict of tensors, arrays and numbers.
    """
    population, record = model.population, model.champion.record
    state = {
        "parameters": deepcopy(model.get_parameters()),
        "counters": {
            name: getattr(model, name)
            for name in ("num_timesteps", "population_timesteps", "probe_timesteps", "paper_timesteps", "_episode_num")
        },
        "arena": model.arena.mean_length,
        "progress": model._current_progress_remaining,
        "population": {
            name: np.array(getattr(population, name))
            for name in ("mean", "sigma", "generation", "members", "origins", "winners", "winner_origins", "previous_winners")
        },
        "strategy": population.strategy.state_dict(),
        "champion": None if record is None else (record.source, record.returns, record.generation, record.numbers),
        "episode_length": (model.arena.caps.cap, model.arena.caps.cut, model.arena.caps.whole_length),
        "episodes": [(episode["r"], episode["l"]) for episode in model.ep_info_buffer],
    }
    if hasattr(model, "agent"):
        state["counters"].update(agent_timesteps=model.agent_timesteps, n_updates=model._n_updates)
        state["learner"] = model.learner.state_dict()
        state["entropy"] = deepcopy(model.log_ent_coef)
        state["buffers"] = stores_of(model)
    return state


def keep_selections(model: Any) -> list[Any]:
    """
    Keep what generations come to.

    :param model: The model.
    :return: What ``_play_and_select`` returns for each generation, filled as the model learns.
    """
    selections, original = [], model._play_and_select

    def keep(*args: Any, **kwargs: Any) -> Any:
        selection = original(*args, **kwargs)
        if selection is not None:
            selections.append(selection)
        return selection

    model._play_and_select = keep
    return selections


def stores_of(model: Any) -> list[dict[str, Any]]:
    """What the agent's replay buffer and the population's store hold."""
    names = ("pos", "full", "observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    names += ("ep_start", "ep_length", "infos")
    stores = (model.replay_buffer, model.replay_buffer.population_store)
    found = [{n: deepcopy(getattr(store, n)) for n in names if hasattr(store, n)} for store in stores if store is not None]
    for store in found:
        if "infos" in store:
            # How long an episode took depends on the machine.
            lanes = [info for row in store["infos"] for info in row]
            store["infos"] = [{key: value for key, value in info.items() if key != "episode"} for info in lanes]
    return found


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """
    Compare nested dicts and lists bit for bit.

    :param one: What :func:`state_of` gave, or a log.
    :param other: The same of another model.
    :param path: Where in the structure they stand.
    :return: Paths of what differs; NaN equals NaN.
    """
    if isinstance(one, th.Tensor | np.ndarray | np.generic) and type(one) is type(other):
        one, other = np.asarray(th.as_tensor(one).detach().cpu()), np.asarray(th.as_tensor(other).detach().cpu())
        equal = one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
        return [] if equal else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        missing = [f"{path}/{key}" for key in set(one) ^ set(other)]
        return missing + [d for key in one if key in other for d in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return [f"{path} (length)"]
        return [d for i, pair in enumerate(zip(one, other, strict=True)) for d in differences(*pair, f"{path}/{i}")]
    return [] if type(one) is type(other) and (one == other or (one != one and other != other)) else [path]
