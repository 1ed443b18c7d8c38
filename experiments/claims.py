"""
What the papers claim, and whether it holds in the data of this repository: ``python -m experiments.claims``.

A Markdown table, from the files in ``experiments/results`` alone. What the paper on progressive episode lengths claims of
games is judged by games; MuJoCo tasks show whether it carries over, and are named so.
"""

from collections.abc import Callable
from pathlib import Path

from experiments import comparison
from experiments.figures import atari, figure2, figure4, figure5, figure6, figure7, paper_scale, pel, study, table1
from experiments.figures.study import Outcome
from experiments.report import with_updates
from experiments.tables import Tables, markdown, read_csv

RESULTS = Path(__file__).parent / "results"


def of_pel() -> list[Outcome]:
    """Whether what the paper claims of games carries over to other tasks."""
    runs = comparison.read(RESULTS / "pel.csv")
    return pel.check(runs, comparison.scales(runs, "OpenAI ES"))


def of_paper_scale() -> list[Outcome]:
    """Claims on returns after as many steps as the paper has played."""
    return paper_scale.check(comparison.read(RESULTS / "paper_scale.csv"))


def of_studies(
    studies: list[study.Study], check: Callable[[dict[str, list[dict[str, str]]]], list[Outcome]]
) -> Callable[[], list[Outcome]]:
    """
    Prepare a figure whose data are its own.

    :param studies: Where its data are from.
    :param check: Compares them with the claims.
    :return: What gives the outcomes.
    """
    return lambda: check({each.name: read_csv(RESULTS / f"{each.name}.csv") for each in studies})


SOURCES: dict[str, tuple[str, Callable[[], list[Outcome]]]] = {
    "ESAC, table 1": ("table1", lambda: table1.check(table1.runs_in(RESULTS))),
    "ESAC, table 1 at its own scale": ("paper_scale", of_paper_scale),
    "ESAC, figure 2": ("figure2", of_studies(figure2.STUDIES, figure2.check)),
    "ESAC, figure 4": ("figure4", of_studies([figure4.STUDY], figure4.check)),
    "ESAC, figure 5": ("figure5", of_studies([figure5.STUDY], figure5.check)),
    "ESAC, figures 6 and 9": ("figure6", lambda: figure6.check(with_updates(table1.runs_in(RESULTS)))),
    "ESAC, figure 7": ("figure7", lambda: figure7.check(table1.runs_in(RESULTS))),
    "PEL, figures 3 and 5": ("atari", lambda: atari.check(atari.read(RESULTS))),
    "none, a transfer of PEL to MuJoCo": ("pel", of_pel),
}
"""Figures by their names: the command in ``experiments.figures``, and what compares."""


def table() -> str:
    """Make a table of all claims that there are data for."""
    lines = []
    for source, (command, outcomes) in SOURCES.items():
        for outcome in outcomes():
            lines.append(
                [source, outcome.claim, outcome.verdict, outcome.evidence, f"`python -m experiments.figures.{command}`"]
            )
    return markdown(["paper", "claim", "here", "evidence", "command"], lines)


TABLES: Tables = {"claims": table}


if __name__ == "__main__":
    print(table())
