"""What stays the same while a population is searched."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PopulationConfig:
    """
    What stays the same during a run; the names and defaults are explained in :class:`sb3_esac.ESAC`.

    :param size: n, rollouts per generation.
    :param n_winners: w, the number of winners.
    :param n_agent_members: Members that start from the gradient agent.
    :param es_learning_rate: alpha_es.
    :param es_optimizer: "adam" or "sgd".
    :param mirrored: Whether perturbations come in pairs of opposite sign.
    :param strategy: How the mean moves: a name in :data:`sb3_esac.evolution.strategies.STRATEGIES`.
    :param weight_decay: L2 penalty on the mean, with ``strategy="openai"``.
    """

    size: int
    n_winners: int
    n_agent_members: int = 0
    es_learning_rate: float = 0.01
    es_optimizer: str = "adam"
    mirrored: bool = True
    strategy: str = "openai"
    weight_decay: float = 0.0
