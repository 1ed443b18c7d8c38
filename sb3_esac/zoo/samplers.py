"""What optuna searches, and how a trial's parameters become arguments: ``-optimize`` and ``--trial-id`` of rl-zoo3."""

from typing import Any

import optuna
from torch import nn

from sb3_esac.evolution.strategies import STRATEGIES

ACTORS = {"linear": [], "small": [32, 32], "medium": [64, 64], "big": [256, 256]}
"""Hidden layers of the actor, which is what evolution searches."""

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU}


def sample_esac_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sample arguments of ESAC.

    :param trial: The trial.
    :param n_actions: Number of actions.
    :param n_envs: Number of environments.
    :param additional_args: What the zoo says of HER.
    :return: Arguments of the constructor.
    """
    her = additional_args.get("using_her_replay_buffer", False)
    parameters = {
        "one_minus_gamma": trial.suggest_float("one_minus_gamma", 0.0005, 0.03, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
        "batch_size_pow": trial.suggest_int("batch_size_pow", 6, 9),
        "learning_starts": trial.suggest_categorical("learning_starts", [100, 2000, 10_000]),
        "tau": trial.suggest_float("tau", 0.002, 0.05, log=True),
        "train_freq": trial.suggest_categorical("train_freq", [1, 2, 4]),
        "gradient_steps": trial.suggest_categorical("gradient_steps", [1, 2, 4]),
        "actor": trial.suggest_categorical("actor", list(ACTORS)),
        "critic_pow": trial.suggest_int("critic_pow", 6, 9),
        "activation_fn": trial.suggest_categorical("activation_fn", list(ACTIVATIONS)),
        "population_size_pow": trial.suggest_int("population_size_pow", 2, 6),
        "sigma": trial.suggest_float("sigma", 0.005, 0.2, log=True),
        "winner_fraction": trial.suggest_float("winner_fraction", 0.1, 0.5),
        "agent_fraction": trial.suggest_categorical("agent_fraction", ["auto", 0.1, 0.3, 0.5, 0.8]),
        "share_experience": trial.suggest_categorical("share_experience", [0.0, 0.1, 0.5]),
        "strategy": trial.suggest_categorical("strategy", ["canonical", "openai"]),
        "es_learning_rate": trial.suggest_float("es_learning_rate", 0.002, 0.1, log=True),
        "amt_clip_pow": trial.suggest_int("amt_clip_pow", -6, -2),
    }
    # Hindsight relabels single steps.
    if not her:
        parameters["n_steps"] = trial.suggest_categorical("n_steps", [1, 2, 3, 5])
    converted = convert_esac_params(parameters)
    if her:
        converted["replay_buffer_kwargs"] = additional_args["her_kwargs"]
    for name in ("gamma", "batch_size", "population_size", "amt_clip"):
        trial.set_user_attr(name, converted[name])
    return converted


def convert_esac_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn what optuna stores into arguments.

    :param sampled_params: Parameters of a trial.
    :return: Arguments of :class:`sb3_esac.ESAC`.
    """
    arguments = dict(sampled_params)
    arguments["gamma"] = 1 - arguments.pop("one_minus_gamma")
    arguments["batch_size"] = 2 ** arguments.pop("batch_size_pow")
    arguments["population_size"] = 2 ** arguments.pop("population_size_pow")
    arguments["amt_clip"] = 10.0 ** arguments.pop("amt_clip_pow")
    # One winner at least, however small the population.
    arguments["winner_fraction"] = max(arguments["winner_fraction"], 1 / arguments["population_size"])
    if arguments["strategy"] == "openai" and arguments["share_experience"] == 0:
        # Winners play no part.
        del arguments["winner_fraction"]
    arguments["policy_kwargs"] = {
        "net_arch": {"pi": ACTORS[arguments.pop("actor")], "qf": [2 ** arguments.pop("critic_pow")] * 2},
        "activation_fn": ACTIVATIONS[arguments.pop("activation_fn")],
    }
    return arguments


def sample_es_params(trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]) -> dict[str, Any]:
    """
    Sample arguments of ES.

    :param trial: The trial.
    :param n_actions: Number of actions.
    :param n_envs: Number of environments.
    :param additional_args: What the zoo says of HER.
    :return: Arguments of the constructor.
    """
    parameters = {
        "strategy": trial.suggest_categorical("strategy", list(STRATEGIES)),
        "population_size_pow": trial.suggest_int("population_size_pow", 3, 8),
        "sigma": trial.suggest_float("sigma", 0.01, 0.3, log=True),
        "es_learning_rate": trial.suggest_float("es_learning_rate", 0.002, 0.1, log=True),
        "winner_fraction": trial.suggest_float("winner_fraction", 0.125, 0.5),
        "weight_decay": trial.suggest_categorical("weight_decay", [0.0, 0.001, 0.005]),
        "actor": trial.suggest_categorical("actor", list(ACTORS)),
        "activation_fn": trial.suggest_categorical("activation_fn", list(ACTIVATIONS)),
    }
    converted = convert_es_params(parameters)
    trial.set_user_attr("population_size", converted["population_size"])
    return converted


def convert_es_params(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """
    Turn what optuna stores into arguments.

    :param sampled_params: Parameters of a trial.
    :return: Arguments of :class:`sb3_esac.ES`.
    """
    arguments = dict(sampled_params)
    arguments["population_size"] = 2 ** arguments.pop("population_size_pow")
    # Each strategy takes what it has a use for.
    for name in {"es_learning_rate", "weight_decay", "winner_fraction"} - STRATEGIES[arguments["strategy"]].arguments:
        del arguments[name]
    arguments["policy_kwargs"] = {
        "net_arch": ACTORS[arguments.pop("actor")],
        "activation_fn": ACTIVATIONS[arguments.pop("activation_fn")],
    }
    return arguments
