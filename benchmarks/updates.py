"""
Milliseconds of CPU that an update takes, by hand and by SB3's ``train``: of ESAC's agent, and of a SAC by SB3's defaults.

``python -m benchmarks.updates``. One thread; they take turns. ``--devices cpu cuda`` compares a GPU's, where all updates are
SB3's: CPU time is that of the clock there, as whoever waits for the GPU does not rest.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

from stable_baselines3 import SAC  # noqa: E402
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm  # noqa: E402

from benchmarks.evaluation import RESULTS, write  # noqa: E402
from sb3_esac import ESAC  # noqa: E402
from sb3_esac.agent.building import DEFAULT_NETWORK  # noqa: E402
from sb3_esac.agent.updates import Updates  # noqa: E402
from sb3_esac.quiet import quieten_mujoco  # noqa: E402

FIELDS = ["env", "device", "agent", "ms_per_update", "fastest", "slowest"]
N_WARM_UP = 1000
"""Steps before the first update."""
BY_HAND = ", by hand"


def agents(env: str, device: str) -> dict[str, Updates]:
    """
    Make agents with something in their replay buffers.

    :param env: Environment.
    :param device: Of their networks.
    """
    small = {"buffer_size": 2 * N_WARM_UP, "learning_starts": N_WARM_UP, "seed": 0, "device": device}
    esac = {**small, "population_size": 2, "winner_fraction": 0.5, "agent_fraction": 1.0, "champion_episodes": 0}
    # Updates are what is measured, and come later.
    esac["gradient_steps"] = 0
    # An argument of Adam's that is its default keeps ESAC from choosing the kernel.
    plain = {**DEFAULT_NETWORK, "optimizer_kwargs": {"eps": 1e-8}}

    def hand(name: str) -> list[str]:
        return [name + BY_HAND, name] if device == "cpu" else [name]

    models = {
        **{name: ESAC("MlpPolicy", env, **esac) for name in hand("ESAC's")},  # type: ignore[arg-type]
        "ESAC's, Adam not fused": ESAC("MlpPolicy", env, policy_kwargs=plain, **esac),  # type: ignore[arg-type]
    }
    found: dict[str, OffPolicyAlgorithm] = {name: model.learn(4 * N_WARM_UP).agent for name, model in models.items()}
    found |= {name: SAC("MlpPolicy", env, **small).learn(N_WARM_UP) for name in hand("SAC")}  # type: ignore[arg-type]
    return {name: Updates(agent, "auto" if name.endswith(BY_HAND) else "stock") for name, agent in found.items()}


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, and write a table.

    :param arguments: Words of the command line, None for those of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--devices", nargs="+", default=["cpu"])
    parser.add_argument("--updates", type=int, default=200, help="of each in each turn")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--output", type=Path, default=RESULTS / "updates.csv")
    options = parser.parse_args(arguments)
    quieten_mujoco()
    seconds: dict[tuple[str, str], list[float]] = {}
    found = {(device, name): agent for device in options.devices for name, agent in agents(options.env, device).items()}
    for _ in range(options.turns):
        for key, updates in found.items():
            start = time.process_time()
            updates.train(options.updates, updates.agent.batch_size)
            seconds.setdefault(key, []).append(1000 * (time.process_time() - start) / options.updates)
    rows = [
        {
            "env": options.env,
            "device": device,
            "agent": name,
            "ms_per_update": round(median(times), 2),
            "fastest": round(min(times), 2),
            "slowest": round(max(times), 2),
        }
        for (device, name), times in seconds.items()
    ]
    for row in rows:
        print(*row.values(), sep="  ")
    write(rows, FIELDS, options.output)
    return rows


if __name__ == "__main__":
    main()
