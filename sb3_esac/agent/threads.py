"""Threads of numpy and torch."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch as th
from threadpoolctl import ThreadpoolController


@functools.cache
def _pools() -> ThreadpoolController:
    """The libraries that multiply matrices; all of them are loaded with numpy."""
    return ThreadpoolController().select(user_api="blas")


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Let torch compute in the calling thread only, see :func:`one_thread`."""
    n_threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        yield
    finally:
        th.set_num_threads(n_threads)


@contextmanager
def one_thread() -> Iterator[None]:
    """
    Compute in the calling thread only.

    Threads wait for the next operation without sleeping. Where torch and numpy take turns, or other programs need the cores,
    they wait in each other's way: an update took ten times as long as with one thread, and on idle cores two were 10% faster.
    Besides, the last digits of a product no longer depend on the number of cores.
    """
    with one_torch_thread(), _pools().limit(limits=1):
        yield
