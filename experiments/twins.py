"""
The agent's runs that need not be played: until a search begins, ESAC is its agent alone, to the last bit.

``tests/test_lead.py`` compares the two. So a run of ESAC's in which the population has played no step is that of the agent
with the same task, seed and budget, too, its seconds included.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.jobs import Job
from experiments.suites import ALONE, ESAC
from experiments.tables import read_csv


def twin(job: Job, path: Path) -> list[dict[str, Any]]:
    """
    Take a run of the agent's from ESAC's.

    :param job: The run.
    :param path: File of results that may have ESAC's.
    :return: Its rows; none if it has to be played.
    """
    if job.algorithm != ALONE or not path.exists():
        return []
    key = tuple(map(str, replace(job, algorithm=ESAC).key))
    rows = [row for row in read_csv(path) if tuple(row[name] for name in ("task", "algorithm", "seed", "budget")) == key]
    if not rows or rows[-1]["is_last"] != "True" or int(rows[-1]["population_steps"]):
        return []
    return [{**row, "algorithm": ALONE} for row in rows]


def esac_first(jobs: Sequence[Job]) -> list[Job]:
    """
    Order runs so that those are played first which may spare others.

    :param jobs: Runs.
    """
    return sorted(jobs, key=lambda job: job.algorithm != ESAC)
