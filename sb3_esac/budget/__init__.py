"""Who plays next: which turns have a generation and which a gradient interval, and how long that is."""

from sb3_esac.budget.annealed import Annealed
from sb3_esac.budget.lead import Lead
from sb3_esac.budget.rule import Budget as Budget
from sb3_esac.budget.share import AgentShare
from sb3_esac.evolution.schedules import Schedule


def make_budget(
    fraction: float | Schedule | str | None, probability: float | Schedule | None, interval: int, n_episodes: int
) -> Budget:
    """
    Choose the rule; the names are explained in :class:`sb3_esac.ESAC`.

    :param fraction: ``agent_fraction``: "auto" for the half that improves, None for the paper's rule.
    :param probability: ``agent_probability``.
    :param interval: ``gradient_interval``.
    :param n_episodes: ``agent_episodes``.
    """
    if fraction == "auto":
        return Lead()
    assert not isinstance(fraction, str)
    return Annealed(probability, interval, n_episodes) if fraction is None else AgentShare(fraction)
