"""What is compared: each entry makes a model for a task, a seed and a budget."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import nn

from experiments.fast_sac import FastSAC
from sb3_esac import ES, ESAC
from sb3_esac.agent.building import AGENT_DEFAULTS, DEFAULT_NETWORK
from sb3_esac.envs.atari import make_atari_vec_env
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.zoo.files import linear_schedule

HYPERPARAMS, ENTRIES = Path(__file__).resolve().parent.parent / "hyperparams", Path(__file__).parent / "entries"
FILES: dict[str, tuple[Path, type[BaseAlgorithm]]] = {
    "esac_paper": (HYPERPARAMS, ESAC),
    "es": (HYPERPARAMS, ES),
    "by_task": (ENTRIES, ESAC),
    "clock": (ENTRIES, ESAC),
}
"""Files of hyperparameters: in which folder, and of what they are arguments."""

ALIVE_BONUS = {"Hopper-v5": 1.0, "Walker2d-v5": 1.0, "Ant-v5": 1.0, "Humanoid-v5": 5.0}
"""Reward per step for being alive."""

GAME = "NoFrameskip-v4"
"""How the names of Atari games end."""

DEFAULTS_THEN: dict[str, Any] = {
    "agent_fraction": 0.8,
    "sigma": 0.05,
    "winner_fraction": 0.4,
    "learning_starts": 100,
    "share_experience": 0.0,
}
"""What the constructor's defaults had when the files had arguments by task, where that has changed."""

Make = Callable[..., BaseAlgorithm]
"""Task, seed and budget to a model; the device of its networks as ``device``, the CPU by default."""


def make_task(task: str, seed: int) -> VecEnv:
    """
    Make the environment that is trained on. Nobody looks at it, so it has no render mode: with that of ``make_vec_env``
    LunarLander keeps every particle that its engines throw out, and takes fifty times as long for the same steps.

    :param task: Its name.
    :param seed: Seed of the run.
    """
    if task.endswith(GAME):
        return make_atari_vec_env(task.removesuffix(GAME), seed=seed)
    if not task.startswith("dm_control/"):
        return make_vec_env(task, 1, seed=seed, env_kwargs={"render_mode": None})
    import shimmy  # noqa: F401

    from sb3_esac.envs.dm_control import FlatObservation

    return make_vec_env(task, 1, seed=seed, wrapper_class=FlatObservation)


def arguments_of(name: str, task: str, in_workers: bool = False) -> dict[str, Any]:
    """
    Read what a file of hyperparameters says of a task, but for what the zoo's scripts take care of.

    :param name: Name of the file.
    :param task: Environment; without an entry of its own it gets the default, a game that of all games.
    :param in_workers: Whether members play in as many processes as the file says; in this one otherwise.
    """
    folder, _ = FILES[name]
    content = yaml.safe_load((folder / f"{name}.yml").read_text())
    arguments = dict(content.get(task, content["atari" if task.endswith(GAME) else "default"]))
    if name == "by_task":
        arguments = {**DEFAULTS_THEN, **arguments}
    for other in ("n_timesteps", "env_wrapper", "frame_stack", *(() if in_workers else ("n_workers", "backend"))):
        arguments.pop(other, None)
    if isinstance(arguments.get("policy_kwargs"), str):
        arguments["policy_kwargs"] = eval(arguments["policy_kwargs"], {"nn": nn, "dict": dict})
    for argument, value in arguments.items():
        if isinstance(value, str) and value.startswith("lin_"):
            arguments[argument] = linear_schedule(argument, value)
    return arguments


def from_file(
    name: str, task: str, seed: int, total_timesteps: int, in_workers: bool = False, **changes: Any
) -> BaseAlgorithm:
    """
    Make a model by a file of hyperparameters.

    :param name: Name of the file.
    :param task: Environment; without an entry of its own it gets the default.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param in_workers: Whether members play in as many processes as the file says; in this one otherwise.
    :param changes: Arguments that differ from the file's.
    """
    arguments = {"device": "cpu", **arguments_of(name, task, in_workers), **changes}
    _, constructor = FILES[name]
    return constructor(arguments.pop("policy"), make_task(task, seed), seed=seed, **arguments)


EXCHANGE_THEN: dict[str, Any] = {"share_experience": 0.1, "n_agent_members": 1}
"""And when ESAC's parts were compared."""

ABLATIONS: dict[str, dict[str, Any]] = {
    "with exchange": {},
    "without sharing": {"share_experience": 0.0},
    "with crossover": {"crossover": "row"},
    "without AMT": {"amt_clip": 0.0},
    "one winner": {"winner_fraction": 0.025},
    "mean by line 11": {"strategy": "openai"},
    "without champion": {"champion_episodes": 0},
    "without agent members": {"n_agent_members": 0},
    "with overlap": {"overlap": True, "n_workers": 1},
}
"""
What is changed in ESAC as it was when its parts were compared, one thing at a time. Then the agent learned from the winners'
experience and a member was a copy of it ("with exchange"). Without a champion the agent is deployed.
"""

WITHOUT_EXCHANGE: dict[str, dict[str, Any]] = {"without exchange": {"share_experience": 0.0, "n_agent_members": 0}}
"""Agent and population give each other nothing, but that the champion is chosen among both."""


def exchange_of(task: str) -> str:
    """
    Tell by which name among those of ESAC's parts the entry of a task went.

    :param task: Environment.
    """
    arguments = {name: parameter.default for name, parameter in signature(ESAC.__init__).parameters.items()}
    arguments |= arguments_of("by_task", task)
    shares, copies = arguments["share_experience"] > 0, arguments["n_agent_members"] > 0
    names = {
        (True, True): "with exchange",
        (False, True): "without sharing",
        (True, False): "without agent members",
        (False, False): "without exchange",
    }
    return f"ESAC, {names[shares, copies]}"


IN_SEQUENCE: dict[str, Any] = {"overlap": False, "crossover": "row", "agent_average": 0.0}
"""
What is changed in ``clock.yml`` where its parts are compared: one process, whose seconds of CPU are all there are;
crossover, which was on by default until this comparison; and the agent as it is, not averaged, as then.
"""

ENTRIES_THEN: dict[str, dict[str, Any]] = {
    "Swimmer-v5": {"population_size": 40, "winner_fraction": 0.4, "champion_episodes": 10},
    "InvertedDoublePendulum-v5": {
        "population_size": 40,
        "n_eval_episodes": 3,
        "agent_fraction": LinearSchedule(0.0, 0.005, 1.0),
        "share_experience": 0.5,
        "champion_episodes": 10,
        "learning_starts": 1000,
        "learning_rate": 1e-3,
        "train_freq": 1,
        "batch_size": 256,
        "tau": 5e-3,
        "policy_kwargs": {"net_arch": {"pi": [], "qf": [128, 128]}, "activation_fn": nn.Tanh},
    },
}
"""What the file had for a task when they were compared, where that has changed."""

FAST_ABLATIONS: dict[str, dict[str, Any]] = {
    "without crossover": {"crossover": None},
    **{name: changes for name, changes in ABLATIONS.items() if not name.startswith("with ")},
    "without champion": {"champion_episodes": 0, "deploy": "population", "agent_average": 0.03},
}
"""
Likewise for ``clock.yml`` where the population leads; the mean is deployed where there is no champion, so that nobody asks
for an average of the agent, which stays at its default.
"""


def ablated(
    task: str,
    seed: int,
    total_timesteps: int,
    file: str,
    changes: dict[str, Any],
    by_task: dict[str, dict[str, Any]] | None = None,
    device: str = "cpu",
) -> BaseAlgorithm:
    """
    Make an ESAC with something changed.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param file: Name of the file of hyperparameters.
    :param changes: As in :data:`ABLATIONS`.
    :param by_task: Arguments that differ from the file's on some tasks, unless they are among the changes.
    :param device: Of the networks that learn.
    """
    changes = {**(by_task or {}).get(task, {}), **changes}
    return from_file(file, task, seed, total_timesteps, device=device, **changes)


MUJOCO_TASKS = ("Swimmer-v5", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
SAC_ARGUMENTS: dict[str, dict[str, Any]] = {
    **{task: {"learning_starts": 10_000} for task in MUJOCO_TASKS},
    "Swimmer-v5": {"learning_starts": 10_000, "gamma": 0.999},
    "Pendulum-v1": {"learning_rate": 1e-3},
    "MountainCarContinuous-v0": {
        "buffer_size": 50_000,
        "batch_size": 512,
        "ent_coef": 0.1,
        "train_freq": 32,
        "gradient_steps": 32,
        "gamma": 0.9999,
        "tau": 0.01,
        "learning_starts": 0,
        "use_sde": True,
        "policy_kwargs": {"log_std_init": -3.67, "net_arch": [64, 64], "use_expln": True},
    },
    "LunarLanderContinuous-v3": {
        "learning_rate": LinearSchedule(7.3e-4, 0.0, 1.0),
        "batch_size": 256,
        "tau": 0.01,
        "learning_starts": 10_000,
        "policy_kwargs": {"net_arch": [400, 300]},
    },
}
"""Arguments of rl-zoo3 2.9's ``sac.yml`` (those of MuJoCo's v4 tasks); SAC's own defaults, as there, for all other tasks."""


def sac(task: str, seed: int, total_timesteps: int, **changes: Any) -> BaseAlgorithm:
    """
    Make a stock SAC with rl-zoo3's arguments.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param changes: Arguments that differ from the zoo's.
    """
    arguments = {"device": "cpu", **SAC_ARGUMENTS.get(task, {}), **changes}
    return SAC("MlpPolicy", make_task(task, seed), seed=seed, **arguments)


def by_default(task: str, seed: int, total_timesteps: int, device: str = "cpu", **changes: Any) -> BaseAlgorithm:
    """
    Make an ESAC as a user does who gives nothing but a task.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: Of its networks.
    :param changes: Arguments that differ from the defaults.
    """
    return ESAC("MlpPolicy", make_task(task, seed), seed=seed, device=device, **changes)


ALONE: dict[str, Any] = {"agent_fraction": 1.0}
"""Nothing of ESAC's but its agent."""

OU_SIGMA = 0.5
"""Of the noise that is correlated in time, as rl-zoo3 has it for MountainCarContinuous (DDPG, TD3)."""


def alone(task: str, seed: int, total_timesteps: int, device: str = "cpu", **changes: Any) -> BaseAlgorithm:
    """
    Make ESAC's agent with ESAC's arguments, and no population.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: Of its networks.
    :param changes: Arguments that differ from the defaults.
    """
    return by_default(task, seed, total_timesteps, device, **ALONE, **changes)


def alone_with_noise(task: str, seed: int, total_timesteps: int, device: str = "cpu") -> BaseAlgorithm:
    """
    The same, with exploration that is correlated in time.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: Of its networks.
    """
    model = alone(task, seed, total_timesteps, device)
    size = model.action_space.shape
    assert size is not None
    model.action_noise = OrnsteinUhlenbeckActionNoise(np.zeros(size), np.full(size, OU_SIGMA))
    return model


def fast_sac(task: str, seed: int, total_timesteps: int, device: str = "cpu") -> BaseAlgorithm:
    """
    Make a SAC with rl-zoo3's arguments, whose updates are fast unless it explores with gSDE.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: "cpu".
    """
    if device != "cpu":
        raise ValueError(f'`device` must be "cpu", not {device!r}: these updates are numpy\'s')
    arguments = SAC_ARGUMENTS.get(task, {})
    kind = SAC if arguments.get("use_sde") else FastSAC
    return kind("MlpPolicy", make_task(task, seed), seed=seed, device=device, **arguments)


def es_by_default(task: str, seed: int, total_timesteps: int, device: str = "cpu") -> BaseAlgorithm:
    """
    Make an ES as a user does who gives nothing but a task.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: Of its networks.
    """
    return ES("MlpPolicy", make_task(task, seed), seed=seed, device=device)


def sac_esacs_arguments(task: str, seed: int, total_timesteps: int, device: str = "cpu") -> BaseAlgorithm:
    """
    Make a SAC with the arguments and networks that ESAC's agent has, and normalised observations: ESAC without its population.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param device: Of its networks.
    """
    env = VecNormalize(make_task(task, seed), norm_reward=False)
    given = {name: value for name, value in arguments_of("by_task", task).items() if name in AGENT_DEFAULTS}
    arguments = {**AGENT_DEFAULTS, "policy_kwargs": dict(DEFAULT_NETWORK), **given, "seed": seed, "device": device}
    return SAC("MlpPolicy", env, **arguments)


def ars(task: str, seed: int, total_timesteps: int, **arguments: Any) -> BaseAlgorithm:
    """
    Make sb3-contrib's ARS, with its own normalisation and alive bonus.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget.
    :param arguments: Arguments of ARS.
    """
    from sb3_contrib import ARS

    env = VecNormalize(make_task(task, seed), norm_reward=False)
    given = {
        "n_delta": 8,
        "n_top": 4,
        "delta_std": 0.025,
        "learning_rate": 0.02,
        "alive_bonus_offset": -ALIVE_BONUS.get(task, 0.0),
        "device": "cpu",
    }
    return ARS("LinearPolicy", env, seed=seed, **{**given, **arguments})


FIRST_LENGTH = {"Hopper-v5": None}
"""First lengths of progressive episodes; None measures them by random play, which is of no use where no episode ends early."""

STRATEGY_ARGUMENTS: dict[str, dict[str, Any]] = {
    "openai": {"sigma": 0.05, "es_learning_rate": 0.02},
    "canonical": {"sigma": 0.1, "winner_fraction": 0.2},
}
"""What each strategy is compared with, the same on all tasks."""


def pel(
    task: str, seed: int, total_timesteps: int, strategy: str, time_schedule: str | None = None, device: str = "cpu"
) -> BaseAlgorithm:
    """
    Make an ES with or without progressive episode lengths.

    :param task: Environment.
    :param seed: Seed of the run.
    :param total_timesteps: Budget, which nothing depends on here.
    :param strategy: "openai" or "canonical".
    :param time_schedule: "constant" (T_c), "doubling" (T_d) or None for whole episodes throughout.
    :param device: Of its networks.
    """
    lengths = None
    if time_schedule is not None:
        lengths = ProgressiveEpisodeLength(time_schedule, first_length=FIRST_LENGTH.get(task, 125))
    return ES(
        "MlpPolicy",
        make_task(task, seed),
        strategy=strategy,
        alive_bonus_offset=ALIVE_BONUS.get(task, 0.0),
        episode_length_schedule=lengths,
        seed=seed,
        device=device,
        **STRATEGY_ARGUMENTS[strategy],
    )


ALGORITHMS: dict[str, Make] = {
    "ESAC": partial(from_file, "by_task"),
    "ESAC, paper": partial(from_file, "esac_paper"),
    "ESAC, paper, n = 10": partial(from_file, "esac_paper", population_size=20, mirrored=True),
    "ESAC, fast": partial(from_file, "clock", in_workers=True),
    "ESAC, by default": by_default,
    "the agent alone": alone,
    "the agent alone, gSDE": partial(alone, use_sde=True),
    "the agent alone, OU noise": alone_with_noise,
    "ES, by default": es_by_default,
    "ESAC, updates by SB3": partial(by_default, updates="stock"),
    "ESAC, updates by hand": partial(by_default, updates="auto"),
    "SAC": sac,
    "SAC, fast": fast_sac,
    "SAC, ESAC's updates": partial(sac, train_freq=5, gradient_steps=4),
    "SAC, ESAC's arguments": sac_esacs_arguments,
    "ARS": ars,
    "ES": partial(from_file, "es"),
    "ES, two workers": partial(from_file, "es", in_workers=True),
    "OpenAI ES": partial(pel, strategy="openai"),
    "OpenAI ES, T_c": partial(pel, strategy="openai", time_schedule="constant"),
    "OpenAI ES, T_d": partial(pel, strategy="openai", time_schedule="doubling"),
    "canonical ES": partial(pel, strategy="canonical"),
    "canonical ES, T_c": partial(pel, strategy="canonical", time_schedule="constant"),
    "canonical ES, T_d": partial(pel, strategy="canonical", time_schedule="doubling"),
    **{
        f"ESAC, {name}": partial(ablated, file="by_task", changes={**EXCHANGE_THEN, **changes})
        for name, changes in {**ABLATIONS, **WITHOUT_EXCHANGE}.items()
    },
    "ESAC, fast, in sequence": partial(ablated, file="clock", changes=IN_SEQUENCE, by_task=ENTRIES_THEN),
    **{
        f"ESAC, fast, {name}": partial(ablated, file="clock", changes={**IN_SEQUENCE, **changes}, by_task=ENTRIES_THEN)
        for name, changes in FAST_ABLATIONS.items()
    },
}
"""By the name that tables and figures show."""
