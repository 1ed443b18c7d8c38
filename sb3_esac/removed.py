"""Arguments that are gone: who passes one is told what to do instead."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec

P = ParamSpec("P")

REMOVED = {
    "recombination": "pass `strategy='canonical'` for 'winners', `strategy='openai'` for 'es'",
    "guest_gradient": "leave it out: members that do not start from the mean enter line 11 by their true displacement",
    "share_from": "leave it out: what is shared comes from the winners",
    "amt_rule": "leave it out for the paper's rule; another one is an operator of your own in `model.operators`",
    "sigma_max": "leave it out, and bound sigma by `amt_clip`, or by an operator of your own in `model.operators`",
}
"""What was an argument of ESAC in version 0.1, and what to do instead."""


def refuse_removed(removed: Mapping[str, str], given: Mapping[str, Any]) -> None:
    """
    Explain arguments that are not taken any more.

    :param removed: Their names, and what to do instead.
    :param given: Arguments by name.
    :raises ValueError: If one of those is among them.
    """
    for name in sorted(given.keys() & removed.keys()):
        raise ValueError(f"`{name}={given[name]!r}` is no argument since version 0.2: {removed[name]}")


def explain_removed(removed: Mapping[str, str]) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """
    Let a constructor explain arguments that it does not take any more.

    :param removed: Their names, and what to do instead.
    :return: Decorator of the constructor.
    """

    def decorate(init: Callable[P, None]) -> Callable[P, None]:
        @functools.wraps(init)
        def checked(*args: P.args, **kwargs: P.kwargs) -> None:
            refuse_removed(removed, kwargs)
            init(*args, **kwargs)

        return checked

    return decorate
