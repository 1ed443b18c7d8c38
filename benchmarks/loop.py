"""
Steps per second of a gradient agent's whole loop (act, step, store, update): ``python -m benchmarks.loop``.

ESAC's agent without its population, the same agent with SB3's updates, SB3's SAC with the same arguments and networks, and
SBX's, where ``sbx`` can be imported. All take turns of one episode's length on one core; ``rate`` is steps per second on the
clock and ``cpu_rate`` per second of CPU, medians of turns, and ratios are those of the same turn. ``acting_ms`` is what a step
of the agent takes without update and simulator, the environment's wrappers included.
"""

import argparse
import importlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MUJOCO_GL", "disable")

import torch as th  # noqa: E402
from stable_baselines3 import SAC  # noqa: E402
from stable_baselines3.common.callbacks import ConvertCallback  # noqa: E402

from benchmarks.evaluation import RESULTS, write  # noqa: E402
from experiments.tables import Tables, columns  # noqa: E402
from sb3_esac import ESAC  # noqa: E402
from sb3_esac.agent.building import AGENT_DEFAULTS, DEFAULT_NETWORK  # noqa: E402
from sb3_esac.evaluation.clock import StepListener  # noqa: E402
from sb3_esac.evaluation.progress import Progress  # noqa: E402
from sb3_esac.quiet import quieten_mujoco  # noqa: E402

FIELDS = ["env", "agent", "rate", "slowest", "fastest", "cpu_rate", "acting_ms", "gradient_ms", "simulator_ms", "steps"]
FAST, STOCK = "ESAC's agent", "ESAC's agent, updates by SB3"
SOON: dict[str, Any] = {"learning_starts": 100}
"""Steps before the first update, so that every step of a turn has one."""

Turn = Callable[[int], Any]
"""Plays so many steps."""


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core: JAX takes as many as there are."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class OneEpisode:
    """The interval that is measured: an episode."""

    def goes_on(self, progress: Progress) -> bool:
        """Not after the first."""
        return progress.n_agent_episodes < 1

    def scales_observations(self, progress: Progress) -> bool:
        """As where the agent leads."""
        return True


def esacs_agent(env: str, updates: str, n_steps: int) -> ESAC:
    """
    Make an ESAC whose agent has played.

    :param env: Environment.
    :param updates: "auto" or "stock".
    :param n_steps: Steps.
    """
    return ESAC("MlpPolicy", env, updates=updates, seed=0, device="cpu", agent_fraction=1.0, **SOON).learn(n_steps)


def turn_of(model: ESAC) -> Turn:
    """
    Make what plays an episode of an ESAC's agent.

    :param model: The model.
    """
    callback = ConvertCallback(None)
    callback.init_callback(model)
    listener = StepListener(callback, model, model.arena)

    def play(n_steps: int) -> None:
        model._total_timesteps = model.num_timesteps + 2 * n_steps
        model.learner.play_interval(OneEpisode(), model._progress, listener)

    return play


def sbx_agent(env: str) -> Any:
    """
    Make SBX's SAC with the arguments and networks of ESAC's agent, None if there is no SBX.

    :param env: Environment.
    """
    try:
        sbx = importlib.import_module("sbx")
    except ImportError as error:
        print(f"Without SBX: {error}")
        return None
    arguments = {name: AGENT_DEFAULTS[name] for name in ("learning_rate", "batch_size", "tau")} | SOON
    return sbx.SAC("MlpPolicy", env, seed=0, policy_kwargs={"net_arch": DEFAULT_NETWORK["net_arch"]}, **arguments)


def simulator(model: ESAC, n_steps: int) -> float:
    """
    Time an environment under all wrappers that a user's has, by random actions.

    :param model: Whose environment it is.
    :param n_steps: How many steps.
    :return: Milliseconds of CPU for each.
    """
    env = model.arena.base.envs[0]  # type: ignore[attr-defined]
    actions = [env.action_space.sample() for _ in range(n_steps)]
    env.reset()
    start = time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return 1000 * (time.process_time() - start) / n_steps


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, and write a table.

    :param arguments: Words of the command line, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--steps", type=int, default=1000, help="of an episode, which is a turn")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=1000, help="steps of each agent before the first turn")
    parser.add_argument("--sbx", action=argparse.BooleanOptionalAction, default=True, help="whether SBX takes part")
    parser.add_argument("--output", type=Path, default=RESULTS / "loop.csv")
    options = parser.parse_args(arguments)
    quieten_mujoco()
    with one_core():
        rows = measure(options)
    write(rows, FIELDS, options.output)
    return rows


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """
    Measure.

    :param options: The command line's.
    :return: A row for each agent.
    """
    th.set_num_threads(1)
    models = {name: esacs_agent(options.env, kind, 4 * options.warm_up) for name, kind in ((FAST, "auto"), (STOCK, "stock"))}
    turns: dict[str, Turn] = {name: turn_of(model) for name, model in models.items()}
    sb3: dict[str, Any] = {"policy_kwargs": dict(DEFAULT_NETWORK), "seed": 0, "device": "cpu"}
    others = {"SB3's SAC, same arguments": SAC("MlpPolicy", options.env, **{**AGENT_DEFAULTS, **SOON, **sb3})}
    others |= {"SBX's SAC, same arguments": agent} if options.sbx and (agent := sbx_agent(options.env)) is not None else {}
    for name, agent in others.items():
        agent.learn(options.warm_up)
        turns[name] = partial(agent.learn, reset_num_timesteps=False)

    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    phases: dict[str, list[tuple[float, float, float]]] = {name: [] for name in models}
    for _ in range(options.turns):
        for name, play in turns.items():
            model = models.get(name)
            before = {} if model is None else {key: model.seconds[key] for key in ("agent", "gradient")}
            steps = 0 if model is None else model.agent_timesteps
            clock, cpu = time.perf_counter(), time.process_time()
            play(options.steps)
            n_steps = options.steps if model is None else model.agent_timesteps - steps
            times[name].append((n_steps / (time.perf_counter() - clock), n_steps / (time.process_time() - cpu)))
            if model is not None:
                acting, learning = (1000 * (model.seconds[key] - old) / n_steps for key, old in before.items())
                phases[name].append((acting, learning, simulator(model, options.steps)))
    rows = []
    for name, measured in times.items():
        rates, cpu_rates = zip(*measured, strict=True)
        row: dict[str, Any] = {"env": options.env, "agent": name, "rate": round(median(rates)), "slowest": round(min(rates))}
        row |= {"fastest": round(max(rates)), "cpu_rate": round(median(cpu_rates)), "steps": options.steps}
        if name in phases:
            row["acting_ms"] = round(median(acting - bare for acting, _, bare in phases[name]), 3)
            row["gradient_ms"], row["simulator_ms"] = (round(median(each[i] for each in phases[name]), 3) for i in (1, 2))
        rows.append({field: row.get(field, "") for field in FIELDS})
        print(*rows[-1].values(), sep="  ")
    for name in times:
        if name != FAST:
            ratio = median(one[1] / other[1] for one, other in zip(times[FAST], times[name], strict=True))
            print(f"{FAST}: {ratio:.2f} times the steps of {name} per second of CPU")
    return rows


TABLES: Tables = {
    "loop": lambda: columns(
        RESULTS / "loop.csv", "env", "agent", "rate", "cpu_rate", "acting_ms", "gradient_ms", "simulator_ms"
    )
}


if __name__ == "__main__":
    main()
