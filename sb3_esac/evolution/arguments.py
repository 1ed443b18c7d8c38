"""Checks of arguments: each error quotes the value and says what would be right."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from sb3_esac.evolution.operators import winner_count


def require(condition: bool, name: str, value: Any, expected: str) -> None:
    """
    Raise a ``ValueError`` unless a condition holds.

    :param condition: What has to hold.
    :param name: Name of the argument.
    :param value: Its value.
    :param expected: What would be right.
    """
    if not condition:
        raise ValueError(f"`{name}` must be {expected}, not {value!r}")


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (a bool is none)."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def is_count(value: Any, least: int) -> bool:
    """Whether a value is an integer of at least ``least``."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


def require_positive(name: str, value: Any) -> None:
    """The argument must be a positive finite number."""
    require(is_number(value) and value > 0, name, value, "a positive finite number")


def require_not_negative(name: str, value: Any) -> None:
    """The argument must be a finite number of at least zero."""
    require(is_number(value) and value >= 0, name, value, "a finite number >= 0")


def require_count(name: str, value: Any, least: int) -> None:
    """The argument must be an integer of at least ``least``."""
    require(is_count(value, least), name, value, f"an integer >= {least}")


def require_option(name: str, value: Any, options: Sequence[Any]) -> None:
    """The argument must be one of the options."""
    # Not `in`: an array is no option, but compares element by element.
    is_one = any(value is option or (isinstance(value, str) and value == option) for option in options)
    require(is_one, name, value, "one of " + ", ".join(repr(option) for option in options))


def check_population(size: Any, mirrored: bool, winner_fraction: Any, n_agent_members: Any = 0) -> None:
    """
    Check what a population is made of.

    :param size: n, rollouts per generation.
    :param mirrored: Whether perturbations come in pairs.
    :param winner_fraction: e.
    :param n_agent_members: Members that start from the agent.
    """
    kind = "an even integer >= 2 (perturbations are mirrored)" if mirrored else "an integer >= 2"
    require(is_count(size, 2) and not (mirrored and size % 2), "population_size", size, kind)
    fraction_is_right = is_number(winner_fraction) and 0 < winner_fraction <= 1
    require(fraction_is_right, "winner_fraction", winner_fraction, "in (0, 1]")
    n_winners = winner_count(size, winner_fraction)
    require_count("n_agent_members", n_agent_members, 0)
    room = size - n_winners
    require(
        n_agent_members <= room, "n_agent_members", n_agent_members, f"at most {room} beside {n_winners} winners of {size}"
    )
