"""
When the agent is called stuck: the rule (``sb3_esac.budget.lead``) on episodes that agents alone have played.

``python -m experiments.leads`` asks it after each of them whether the population should search. These agents would have gone
on to learn, so a search is a loss. ``experiments/results/agent_episodes.csv`` has the return and length of each of their
episodes but those of the random steps; seeds 10 and above.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

from experiments.tables import Tables, markdown, read_csv
from sb3_esac.budget import lead
from sb3_esac.evaluation.progress import Progress

EPISODES = Path(__file__).parent / "results" / "agent_episodes.csv"
MEMBERS = 10
"""Of a generation, by default."""

BEFORE, NOW = (10_000, 0), (30_000, 1)
"""Steps without progress after which the agent is stuck, and how many times a search has to fit into what is left."""

Episode = tuple[int, float, int]
"""True steps at its end, its return and its length."""


def read(path: Path = EPISODES) -> dict[tuple[str, int, int], list[Episode]]:
    """
    Read the episodes of all runs.

    :param path: File of the data.
    :return: By task, seed and budget.
    """
    runs: dict[tuple[str, int, int], list[Episode]] = {}
    for row in read_csv(path):
        key = row["task"], int(row["seed"]), int(row["budget"])
        runs.setdefault(key, []).append((int(row["steps"]), float(row["return"]), int(row["length"])))
    return runs


def first_search(episodes: Sequence[Episode], budget: int, patience: int, room: int) -> int | None:
    """
    Find when a search would begin.

    :param episodes: Of the agent alone, in the order in which they were played.
    :param budget: Of the run, in true steps.
    :param patience: The rule's ``MIN_PATIENCE``.
    :param room: The rule's ``ROOM``.
    :return: Steps at which the population takes the lead, None if it does not.
    """
    rule, progress = lead.Lead(), Progress(0, 0, 0, 0, budget, 0.0, MEMBERS)
    with patch.multiple(lead, MIN_PATIENCE=patience, ROOM=room):
        for steps, episode_return, length in episodes:
            rule.note_interval([(episode_return, length)])
            progress = replace(progress, timesteps=steps, agent_timesteps=steps)
            rule.advance(progress)
            if rule.searches:
                return steps
    return None


def table() -> str:
    """By the rule as it is, and as it was: stuck after 10,000 steps, whatever is left."""
    lines = []
    for (task, seed, budget), episodes in read().items():
        found = [first_search(episodes, budget, *rule) for rule in (BEFORE, NOW)]
        last = sum(episode_return for _, episode_return, _ in episodes[-10:]) / len(episodes[-10:])
        lines.append([task, seed, f"{budget:,}", *(f"{each:,}" if each else "none" for each in found), f"{last:.0f}"])
    header = ["task", "seed", "steps", "a search after, before", "now", "mean of the last ten episodes"]
    return markdown(header, lines)


TABLES: Tables = {"searches that would have begun": table}


if __name__ == "__main__":
    print(table())
