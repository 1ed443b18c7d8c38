"""
Milliseconds that an update takes: of ESAC's agent, and of a SAC by SB3's defaults, by SB3's ``train`` and without it.

``python -m benchmarks.updates``. All take turns; ``ms_per_update`` is CPU time and ``clock_ms`` the clock's, medians of turns.
Whoever waits for a GPU does not rest, so there both are the same. Ratios to SB3's ``train`` of the same turn are printed, too.
SBX's SAC, with its own networks and with ESAC's, is in the table where ``sbx`` can be imported. One thread, unless the
environment says something else (``OMP_NUM_THREADS``); SBX takes as many as there are.
"""

import argparse
import importlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
# JAX would take most of a GPU's memory at once.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import torch as th  # noqa: E402
from stable_baselines3 import SAC  # noqa: E402
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm  # noqa: E402

from benchmarks.evaluation import RESULTS, write  # noqa: E402
from experiments.tables import Tables, columns  # noqa: E402
from sb3_esac import ESAC  # noqa: E402
from sb3_esac.agent.building import AGENT_DEFAULTS, DEFAULT_NETWORK  # noqa: E402
from sb3_esac.agent.updates import Updates  # noqa: E402
from sb3_esac.quiet import quieten_mujoco  # noqa: E402

FIELDS = ["env", "device", "agent", "ms_per_update", "fastest", "slowest", "clock_ms", "per_call"]
N_WARM_UP = 1000
"""Steps before the first update."""
FAST = {"cpu": ", by hand", "cuda": ", by graph"}
"""What is added to the name of an agent whose updates are not SB3's."""

Train = Callable[[int, int], None]
"""``train`` of SB3: how many updates, and batch size."""

Times = dict[tuple[str, str], list[tuple[float, float]]]
"""By device and agent, milliseconds of CPU and of the clock in each turn."""


def agents(env: str, device: str) -> dict[str, tuple[Train, int]]:
    """
    Make agents with something in their replay buffers.

    :param env: Environment.
    :param device: Of their networks.
    :return: For each how it is trained, and its batch size.
    """
    small = {"buffer_size": 2 * N_WARM_UP, "learning_starts": N_WARM_UP, "seed": 0, "device": device}
    esac = {**small, "agent_fraction": 1.0}
    # Updates are what is measured, and come later.
    esac["gradient_steps"] = 0
    # An argument of Adam's that is its default keeps ESAC from choosing the kernel.
    plain = {**DEFAULT_NETWORK, "optimizer_kwargs": {"eps": 1e-8}}

    def both(name: str) -> list[str]:
        return [name + FAST[device], name]

    models = {
        **{name: ESAC("MlpPolicy", env, **esac) for name in both("ESAC's")},  # type: ignore[arg-type]
        "ESAC's, Adam not fused": ESAC("MlpPolicy", env, policy_kwargs=plain, **esac),  # type: ignore[arg-type]
    }
    found: dict[str, OffPolicyAlgorithm] = {name: model.learn(4 * N_WARM_UP).agent for name, model in models.items()}
    found |= {name: SAC("MlpPolicy", env, **small).learn(N_WARM_UP) for name in both("SAC")}  # type: ignore[arg-type]
    updates = {name: Updates(agent, "auto" if name.endswith(FAST[device]) else "stock") for name, agent in found.items()}
    return {name: (each.train, each.agent.batch_size) for name, each in updates.items()}


def agents_of_sbx(env: str, device: str) -> dict[str, tuple[Train, int]]:
    """
    Make SBX's agents, if there is SBX.

    :param env: Environment.
    :param device: Of their networks.
    :return: As :func:`agents`.
    """
    try:
        sbx, jax = importlib.import_module("sbx"), importlib.import_module("jax")
        place = jax.devices("gpu" if device == "cuda" else "cpu")[0]
    except (ImportError, AttributeError, RuntimeError) as error:
        print(f"Without SBX on {device}: {error}")
        return {}
    networks = {"policy_kwargs": {"net_arch": DEFAULT_NETWORK["net_arch"]}}
    ours = {name: AGENT_DEFAULTS[name] for name in ("learning_rate", "batch_size", "tau")} | networks
    found: dict[str, tuple[Train, int]] = {}
    for name, arguments in {"SBX's SAC as ESAC's": ours, "SBX's SAC": {}}.items():
        with jax.default_device(place):
            agent = sbx.SAC("MlpPolicy", env, buffer_size=2 * N_WARM_UP, learning_starts=N_WARM_UP, seed=0, **arguments)
            agent.learn(N_WARM_UP)

        def train(gradient_steps: int, batch_size: int, agent: Any = agent) -> None:
            with jax.default_device(place):
                agent.train(gradient_steps, batch_size)
                jax.block_until_ready(agent.policy.qf_state.params)

        found[name] = (train, agent.batch_size)
    return found


def measure(train: Train, batch_size: int, n_updates: int, per_call: int) -> tuple[float, float]:
    """
    Time updates.

    :param train: How they are made.
    :param batch_size: Transitions for each.
    :param n_updates: How many.
    :param per_call: How many in one call.
    :return: Milliseconds of CPU and of the clock for each.
    """
    clock, start = time.perf_counter(), time.process_time()
    for _ in range(n_updates // per_call):
        train(per_call, batch_size)
    if th.cuda.is_available():
        th.cuda.synchronize()
    per_update = 1000 / (n_updates // per_call * per_call)
    return per_update * (time.process_time() - start), per_update * (time.perf_counter() - clock)


def summarize(times: Times) -> list[dict[str, Any]]:
    """
    Make the table's rows.

    :param times: What was measured.
    :return: For each device and agent a row.
    """
    rows = []
    for (device, name), turns in times.items():
        cpu, clock = zip(*turns, strict=True)
        numbers = {"ms_per_update": median(cpu), "fastest": min(cpu), "slowest": max(cpu), "clock_ms": median(clock)}
        rows.append({"device": device, "agent": name, **{key: round(value, 2) for key, value in numbers.items()}})
    return rows


def print_ratios(times: Times) -> None:
    """
    Print what updates take as parts of what SB3's take, turn by turn.

    :param times: What was measured.
    """
    for (device, name), turns in times.items():
        if not name.endswith(FAST[device]):
            continue
        stock = times[device, name.removesuffix(FAST[device])]
        cpu, clock = (median(one[i] / other[i] for one, other in zip(turns, stock, strict=True)) for i in (0, 1))
        print(f"{device}  {name}: {cpu:.3f} of SB3's CPU time, {clock:.3f} of the clock's")


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, and write a table.

    :param arguments: Words of the command line, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    there = ["cpu", "cuda"] if th.cuda.is_available() else ["cpu"]
    parser.add_argument("--devices", nargs="+", default=there, choices=["cpu", "cuda"])
    parser.add_argument("--updates", type=int, default=200, help="of each in each turn")
    parser.add_argument("--per-call", type=int, default=1, help="updates in a call, as `gradient_steps`")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--sbx", action=argparse.BooleanOptionalAction, default=True, help="whether SBX takes part")
    parser.add_argument("--output", type=Path, default=RESULTS / "updates.csv")
    options = parser.parse_args(arguments)
    quieten_mujoco()
    found: dict[tuple[str, str], tuple[Train, int]] = {}
    for device in options.devices:
        all_of_them = agents(options.env, device) | (agents_of_sbx(options.env, device) if options.sbx else {})
        found |= {(device, name): agent for name, agent in all_of_them.items()}
    times: Times = {key: [] for key in found}
    for train, batch_size in found.values():
        # Compilers and graphs begin with a delay.
        train(options.per_call, batch_size)
    for _ in range(options.turns):
        for key, (train, batch_size) in found.items():
            times[key].append(measure(train, batch_size, max(options.updates, options.per_call), options.per_call))
    rows = [{"env": options.env, **row, "per_call": options.per_call} for row in summarize(times)]
    for row in rows:
        print(*row.values(), sep="  ")
    print_ratios(times)
    write(rows, FIELDS, options.output)
    return rows


TABLES: Tables = {
    "updates": lambda: columns(RESULTS / "updates.csv", "env", "agent", "ms_per_update", "fastest", "slowest"),
    "updates with a GPU": lambda: columns(
        RESULTS / "updates_gpu.csv", "env", "agent", "per_call", "ms_per_update", "fastest", "slowest"
    ),
}


if __name__ == "__main__":
    main()
