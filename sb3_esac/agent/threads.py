"""Threads of torch beside those of numpy."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch as th


@contextmanager
def one_thread() -> Iterator[None]:
    """
    Let torch compute in the calling thread only.

    After an operation its other threads wait for the next one without sleeping. Products of numpy that come between two
    operations then share their cores with them, and take ten times as long.
    """
    n_threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(n_threads)
