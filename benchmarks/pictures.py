"""
What was tried to play games faster: ``python -m benchmarks.pictures``.

Microseconds for the forward of the Nature CNN on one picture, by numpy as members have it and by torch in several ways; for a
step of Pong, by gymnasium with Stable-Baselines3's wrappers and by ale-py's own vector environment; and for the beginning of a
game with a seed. "equal" says whether actions are those of torch in single precision, or games those of the first way. Ways
of a kind take turns, one thread each but where it says two; medians are reported.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import gymnasium as gym  # noqa: E402
import numpy as np  # noqa: E402
import torch as th  # noqa: E402
from gymnasium import spaces  # noqa: E402

from benchmarks.evaluation import write  # noqa: E402
from experiments.tables import Tables, columns, markdown  # noqa: E402
from sb3_esac.envs.atari import QuickReset, make_atari_vec_env  # noqa: E402
from sb3_esac.es_policies import CnnPolicy  # noqa: E402
from sb3_esac.evaluation.convolutions import Convolution, bound_convolution  # noqa: E402
from sb3_esac.evaluation.players import make_player  # noqa: E402
from sb3_esac.evaluation.vectors import to_vector  # noqa: E402

RESULTS = Path(__file__).parent / "results"
N_ROUNDS = 5
COLUMNS = ["what", "way", "us", "fastest", "slowest", "of_first", "equal"]
PICTURES = spaces.Box(0, 255, (4, 84, 84), np.uint8)
N_ACTIONS = 6
N_PICTURES = 50
"""Random pictures, on each of which actions are compared."""

Forward = Callable[[np.ndarray], Any]


class Network:
    """
    The network of a policy in torch, in any format and precision.

    :param policy: The policy.
    :param dtype: Precision.
    :param channels_last: Whether channels come last in memory.
    :param n_threads: Threads of torch.
    """

    def __init__(self, policy: Any, dtype: th.dtype = th.float32, *, channels_last: bool = False, n_threads: int = 1) -> None:
        modules = [*policy.features_extractor.cnn, *policy.features_extractor.linear, *policy.mu]
        self.format = th.channels_last if channels_last else th.contiguous_format
        net: Any = copy.deepcopy(th.nn.Sequential(*modules))
        self.net = net.to(dtype=dtype, memory_format=self.format)
        self.dtype, self.n_threads = dtype, n_threads

    def __call__(self, picture: np.ndarray) -> int:
        """
        Choose an action.

        :param picture: (4, 84, 84) pixels.
        """
        if th.get_num_threads() != self.n_threads:
            th.set_num_threads(self.n_threads)
        with th.inference_mode():
            pixels = th.from_numpy(np.ascontiguousarray(picture))[None].to(self.dtype, memory_format=self.format)
            return int(self.net(pixels / 255.0).argmax())


def blocked(weight: np.ndarray, bias: np.ndarray) -> Forward:
    """
    Make a first convolution in numpy that sees blocks of four by four pixels, which are bytes until then: no patches are made,
    there is one product with the four blocks of all kernels, whose results are shifted and summed.

    :param weight: (32, 4, 8, 8) of the convolution, what pixels are divided by taken into it.
    :param bias: (32,) of it.
    :return: Function from a picture to (20, 20, 32) features, a ReLU behind them.
    """
    kernels = weight.reshape(32, 4, 2, 4, 2, 4).transpose(3, 5, 1, 2, 4, 0).reshape(64, 128).copy()
    blocks, values = np.zeros((21, 21, 4, 4, 4), np.uint8), np.zeros((441, 64), np.float32)
    products, output = np.zeros((441, 128), np.float32), np.zeros((20, 20, 32), np.float32)
    parts = products.reshape(21, 21, 2, 2, 32)

    def forward(picture: np.ndarray) -> np.ndarray:
        np.copyto(blocks, picture.reshape(4, 21, 4, 21, 4).transpose(1, 3, 2, 4, 0))
        np.copyto(values, blocks.reshape(441, 64))
        np.matmul(values, kernels, out=products)
        np.add(parts[:20, :20, 0, 0], parts[:20, 1:, 0, 1], out=output)
        np.add(output, parts[1:, :20, 1, 0], out=output)
        np.add(output, parts[1:, 1:, 1, 1], out=output)
        np.add(output, bias, out=output)
        return np.maximum(output, 0.0, out=output)

    return forward


def patched(policy: Any) -> Forward:
    """
    Make the first convolution as :class:`~sb3_esac.evaluation.numpy_cnn.NumpyCnn` has it.

    :param policy: The policy.
    :return: Function from a picture to (20, 20, 32) features, a ReLU behind them.
    """
    pixels = np.zeros((84, 84, 4), np.float32)
    step, output = bound_convolution(Convolution((32, 4, 8, 8), 0, 8192, (4, 4)), to_vector(policy), pixels, 255.0)

    def forward(picture: np.ndarray) -> np.ndarray:
        np.copyto(pixels, picture.transpose(1, 2, 0))
        step()
        return output

    return forward


def forwards(policy: Any) -> dict[str, Forward]:
    """
    Make the forwards that are compared; the first is the one in use.

    :param policy: The policy.
    """
    return {
        "numpy, as members have it": make_player(policy).bind(to_vector(policy)),
        "torch": Network(policy),
        "torch, two threads": Network(policy, n_threads=2),
        "torch, channels last": Network(policy, channels_last=True),
        "torch, bfloat16": Network(policy, th.bfloat16),
        "torch, bfloat16, channels last": Network(policy, th.bfloat16, channels_last=True),
        "predict": lambda picture: policy.predict(picture, deterministic=True)[0],
    }


def steps() -> dict[str, Callable[[], Any]]:
    """Make what steps Pong by an action that does nothing; the first is the one in use."""
    from ale_py.vector_env import AtariVectorEnv

    ours = make_atari_vec_env("Pong", seed=0)
    theirs = AtariVectorEnv("pong", num_envs=1, num_threads=1, repeat_action_probability=0.0)
    ours.reset()
    theirs.reset(seed=0)
    nothing = np.zeros(1, dtype=np.int64)
    return {"gymnasium and SB3's wrappers": lambda: ours.step(nothing), "ale-py's vector": lambda: theirs.step(nothing)}


def resets() -> dict[str, Callable[[], Any]]:
    """Make what begins a game of Pong by a seed; the first is the one in use."""
    import ale_py

    gym.register_envs(ale_py)
    plain = gym.make("PongNoFrameskip-v4")
    quick = QuickReset(gym.make("PongNoFrameskip-v4"))
    return {"from the first beginning": lambda: quick.reset(seed=1), "loaded anew": lambda: plain.reset(seed=1)}


def timed(what: str, ways: dict[str, Callable[[], Any]], equal: dict[str, str], n_calls: int) -> list[dict[str, Any]]:
    """
    Time calls by turns.

    :param what: What the ways are for.
    :param ways: By name.
    :param equal: Whether the results are those that they should be.
    :param n_calls: Calls of one turn.
    """
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(N_ROUNDS + 1):
        for way, call in ways.items():
            start = time.perf_counter()
            for _ in range(n_calls):
                call()
            # In the first round caches fill.
            if number > 0:
                seconds[way].append(1e6 * (time.perf_counter() - start) / n_calls)
    first = median(seconds[next(iter(ways))])
    return [
        {
            "what": what,
            "way": way,
            "us": round(median(each)),
            "fastest": round(min(each)),
            "slowest": round(max(each)),
            "of_first": round(median(each) / first, 2),
            "equal": equal.get(way, ""),
        }
        for way, each in seconds.items()
    ]


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """
    Measure, print and write.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200, help="of each way in a round")
    parser.add_argument("--output", type=Path, default=RESULTS / "pictures.csv")
    options = parser.parse_args(arguments)
    th.manual_seed(0)
    rng = np.random.default_rng(0)
    policy = CnnPolicy(PICTURES, spaces.Discrete(N_ACTIONS))
    for parameter in policy.parameters():
        # A network as it is born says the same to all pictures.
        parameter.data = 0.05 * th.randn_like(parameter)
    # Coarse ones: pictures of noise look all alike to a network.
    pictures = rng.integers(256, size=(N_PICTURES, 4, 7, 7), dtype=np.uint8).repeat(12, axis=2).repeat(12, axis=3)
    ways = forwards(policy)
    wanted = [int(ways["torch"](picture)) for picture in pictures]
    assert len(set(wanted)) > 1
    equal = {
        way: f"{sum(int(act(picture)) == action for picture, action in zip(pictures, wanted, strict=True))} of {N_PICTURES}"
        for way, act in ways.items()
    }
    rows = timed("forward", {way: partial(act, pictures[0]) for way, act in ways.items()}, equal, options.calls)
    extractor: Any = policy.features_extractor
    convolution = extractor.cnn[0]
    weight, bias = (parameter.detach().numpy() for parameter in (convolution.weight, convolution.bias))
    firsts = {"patches of numbers": patched(policy), "blocks of bytes": blocked(weight / np.float32(255.0), bias)}
    one, other = (first(pictures[0]) for first in firsts.values())
    is_same = np.allclose(one, other, rtol=1e-4, atol=1e-4)
    same = dict.fromkeys(firsts, "yes" if is_same else "no")
    rows += timed("first convolution", {way: partial(act, pictures[0]) for way, act in firsts.items()}, same, options.calls)
    th.set_num_threads(1)
    rows += timed("step of Pong", steps(), {"ale-py's vector": "no"}, options.calls)
    rows += timed("reset by a seed", resets(), {"loaded anew": "yes"}, max(2, options.calls // 20))
    write(rows, COLUMNS, options.output)
    print(markdown(COLUMNS, [[row[name] for name in COLUMNS] for row in rows]))
    return rows


TABLES: Tables = {"pictures": lambda: columns(RESULTS / "pictures.csv", *COLUMNS)}


if __name__ == "__main__":
    main()
