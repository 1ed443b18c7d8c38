"""
When the agent is called stuck: the rule (``sb3_esac.budget.lead``) on episodes that agents alone have played.

``python -m experiments.leads`` asks it after each of them whether the population should search. These agents would have gone
on to learn, so a search is a loss. ``experiments/results/agent_episodes.csv`` has the return and length of each of their
episodes but those of the random steps; seeds 10 and above.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from unittest.mock import patch

from experiments.tables import Tables, markdown, read_csv
from sb3_esac.budget import lead
from sb3_esac.evaluation.progress import Progress

EPISODES = Path(__file__).parent / "results" / "agent_episodes.csv"
BUDGET = 100_000
"""Of each run."""

MEMBERS = 10
"""Of a generation, by default."""

MIN_WINDOW, ROOM = 20_000, 2
"""The rule's; tests have others."""

Episode = tuple[int, float, int]
"""True steps at its end, its return and its length."""


def read(path: Path = EPISODES) -> dict[tuple[str, int, int], list[Episode]]:
    """
    Read the episodes of all runs.

    :param path: File of the data.
    :return: By task, seed and random steps.
    """
    runs: dict[tuple[str, int, int], list[Episode]] = {}
    for row in read_csv(path):
        key = row["task"], int(row["seed"]), int(row["random_steps"])
        runs.setdefault(key, []).append((int(row["steps"]), float(row["return"]), int(row["length"])))
    return runs


def first_search(episodes: Sequence[Episode], budget: int) -> int | None:
    """
    Find when a search would begin.

    :param episodes: Of the agent alone, in the order in which they were played.
    :param budget: Of the run, in true steps.
    :return: Steps at which the population takes the lead, None if it does not.
    """
    rule, progress = lead.Lead(), Progress(0, 0, 0, 0, budget, 0.0, MEMBERS)
    with patch.multiple(lead, MIN_WINDOW=MIN_WINDOW, ROOM=ROOM):
        for steps, episode_return, length in episodes:
            rule.note_interval([(episode_return, length)])
            progress = replace(progress, timesteps=steps, agent_timesteps=steps)
            rule.advance(progress)
            if rule.searches:
                return steps
    return None


def table() -> str:
    """When a search would begin, and what the agent alone went on to."""
    lines = []
    for (task, seed, random_steps), episodes in read().items():
        found = first_search(episodes, BUDGET)
        means = [
            f"{mean(value for steps, value, _ in episodes if end - BUDGET // 5 < steps <= end):.0f}"
            for end in range(BUDGET // 5, BUDGET + 1, BUDGET // 5)
        ]
        lines.append([task, seed, f"{random_steps:,}", f"{found:,}" if found else "none", ", ".join(means)])
    header = ["task", "seed", "random steps", "a search after", "mean return in each fifth of the steps"]
    return markdown(header, lines)


TABLES: Tables = {"searches that would have begun": table}


if __name__ == "__main__":
    print(table())
