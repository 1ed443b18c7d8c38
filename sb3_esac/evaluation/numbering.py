"""Numbers of the episodes of several requests that workers play together."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from sb3_esac.evaluation.evaluator import EvaluationRequest


@dataclass(frozen=True)
class Place:
    """
    Where an episode is found.

    :param part: Number of the request.
    :param member: Whose episode it is.
    :param index: Number of the episode among that member's.
    :param row: Row of the member's vector among those of all requests.
    """

    part: int
    member: int
    index: int
    row: int


@dataclass(frozen=True)
class Numbering:
    """
    Numbers from 0 on: request by request, member by member.

    :param shapes: (n, k) of each request.
    """

    shapes: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, requests: Sequence[EvaluationRequest]) -> "Numbering":
        """
        Number the episodes of some requests.

        :param requests: The requests, whose vectors are equally long.
        """
        return cls(tuple((request.seeds.shape[0], request.seeds.shape[1]) for request in requests))

    @cached_property
    def _firsts(self) -> list[int]:
        """First number of each request, and how many there are."""
        return [0, *accumulate(n * k for n, k in self.shapes)]

    @cached_property
    def _rows(self) -> list[int]:
        return [0, *accumulate(n for n, _ in self.shapes)]

    def __len__(self) -> int:
        return self._firsts[-1]

    def local(self, number: int) -> tuple[int, int]:
        """
        Find a number's request, and its number there.

        :param number: From 0 on.
        """
        part = bisect_right(self._firsts, number) - 1
        return part, number - self._firsts[part]

    def place(self, number: int) -> Place:
        """
        Find an episode.

        :param number: Its number.
        """
        part, local = self.local(number)
        member, index = divmod(local, self.shapes[part][1])
        return Place(part, member, index, self._rows[part] + member)


def all_seeds(requests: Sequence[EvaluationRequest]) -> np.ndarray:
    """
    Seeds of all episodes, in the order of their numbers.

    :param requests: The requests.
    """
    return np.concatenate([request.seeds.reshape(-1) for request in requests])


def all_parameters(requests: Sequence[EvaluationRequest]) -> np.ndarray:
    """
    Vectors of all members, in the order of their rows.

    :param requests: The requests.
    """
    vectors = [request.parameters for request in requests]
    return np.ascontiguousarray(vectors[0] if len(vectors) == 1 else np.concatenate(vectors))
