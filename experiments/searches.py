"""Tables of the searches that the defaults and the hyperparameter files come from."""

from pathlib import Path
from statistics import median

from experiments.tables import Tables, markdown, read_csv

RESULTS = Path(__file__).parent / "results"


def search() -> str:
    """Every evaluation of the search for defaults."""
    columns = [
        "task",
        "algorithm",
        "changes",
        "statistics",
        "seed",
        "total_steps",
        "agent_steps",
        "updates",
        "agent",
        "deployed",
    ]
    rows = sorted(
        read_csv(RESULTS / "search.csv"),
        key=lambda row: (row["task"] != "HalfCheetah-v5", row["task"], row["algorithm"], row["changes"], row["statistics"]),
    )
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def statistics_of_observations() -> str:
    """What the agent had after so many updates, by whose observations inputs were normalised; each run a line."""
    runs: dict[tuple[str, ...], dict[int, str]] = {}
    for row in read_csv(RESULTS / "search_statistics.csv"):
        key = tuple(row[name] for name in ("task", "statistics", "changes", "seed"))
        runs.setdefault(key, {})[round(int(row["updates"]) / 1000)] = row["agent"]
    lines = [[*key, ", ".join(f"{k}k: {value}" for k, value in values.items())] for key, values in sorted(runs.items())]
    return markdown(["task", "statistics", "changes", "seed", "return of the agent after updates"], lines)


def what_the_agent_needs() -> str:
    """What the agent had after so many of its own steps, by its arguments; each run a line."""
    columns = ["task", "file", "changes", "seed"]
    runs: dict[tuple[str, ...], list[str]] = {}
    steps: dict[tuple[str, ...], int] = {}
    for row in read_csv(RESULTS / "search_agent.csv"):
        point = f"{int(row['agent_steps']) / 1000:.1f}k: {float(row['agent']):.0f}"
        begins = int(row["agent_steps"]) < steps.get(key := tuple(row[name] for name in columns), 0)
        runs.setdefault(key, []).append(f"once more {point}" if begins else point)
        steps[key] = int(row["agent_steps"])
    lines = [[*key, ", ".join(points)] for key, points in sorted(runs.items())]
    return markdown([*columns, "return of the agent after its steps"], lines)


def averages() -> str:
    """
    What the agent was worth, and its averages over the last so many updates, or the last part of them: mean of all evaluations
    after the first update, and in brackets the worst of the second half; each run a line.
    """
    columns = ["task", "file", "changes", "seed"]
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_csv(RESULTS / "averaging.csv"):
        runs.setdefault(tuple(row[name] for name in columns), []).append(row)
    policies = [name for name in row if name == "agent" or name.startswith("last ")]
    lines = []
    for key, rows in sorted(runs.items()):
        cells = []
        for name in policies:
            values = [float(row[name]) for row in rows if row[name]]
            cells.append(f"{sum(values) / len(values):.0f} ({min(values[len(values) // 2 :]):.0f})" if values else "")
        lines.append([*key, *cells])
    return markdown([*columns, *policies], lines)


def search_fast() -> str:
    """The last evaluation of each run of the search for the file of the clock."""
    columns = ["task", "algorithm", "network", "changes", "seed", "steps", "seconds", "mean", "deployed"]
    last = {tuple(row[name] for name in columns[:5]): row for row in read_csv(RESULTS / "search_fast.csv")}
    rows = sorted(last.values(), key=lambda row: (row["algorithm"] != "ES", row["task"]))
    return markdown(columns, [[row[name] for name in columns] for row in rows])


def longer_budgets() -> str:
    """The last evaluation of runs for the clock with more steps than the file has, and the best one of their agents."""
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_csv(RESULTS / "clock_longer.csv"):
        runs.setdefault((row["task"], row["budget"], row["champion"], row["seed"]), []).append(row)
    lines = []
    for key, rows in runs.items():
        columns = ("wall_seconds", "updates", "deployed", "mean", "agent")
        best = max(float(row["agent"]) for row in rows)
        lines.append([*key, *(f"{float(rows[-1][name]):.0f}" for name in columns), f"{best:.0f}"])
    header = ["task", "budget", "champion", "seed", "seconds", "updates", "deployed", "mean", "agent", "agent at its best"]
    return markdown(header, lines)


def leads() -> str:
    """Returns of what ``predict`` plays at the end, how often the population searched, and the agents' own returns."""
    runs: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in read_csv(RESULTS / "search_leads.csv"):
        runs.setdefault(tuple(row[name] for name in ("task", "budget", "leader", "changes")), []).append(row)
    lines = []
    for key, rows in runs.items():
        values = sorted(float(row["deployed"]) for row in rows)
        shown = ", ".join(f"{row['seed']}: {float(row['deployed']):.0f}" for row in rows)
        searches = ", ".join(row["searches"] for row in rows) if rows[0]["searches"] else ""
        of_agents = ", ".join(f"{float(row['agent']):.0f}" for row in rows if row["agent"])
        lines.append([*key, shown, f"{median(values):.0f}", searches, of_agents])
    return markdown(["task", "steps", "leader", "changes", "return by seed", "median", "searches", "the agents' own"], lines)


def populations() -> str:
    """What populations that play all steps have at the end, by their size and by what is varied; returns lowest first."""
    lines = []
    for row in read_csv(RESULTS / "search_population.csv"):
        returns = [float(each) for each in row["returns"].split(", ")]
        lines.append([*row.values(), f"{median(returns):.0f}"])
    return markdown(["task", "steps", "algorithm", "population_size", "changes", "seeds", "returns, sorted", "median"], lines)


TABLES: Tables = {
    "search": search,
    "statistics of observations": statistics_of_observations,
    "averages of the agent": averages,
    "what the agent needs": what_the_agent_needs,
    "networks": search_fast,
    "longer budgets": longer_budgets,
    "who leads": leads,
    "populations": populations,
}
