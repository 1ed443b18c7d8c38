"""Numbers of episodes that belong to several requests."""

import pickle

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sb3_esac.evaluation.evaluator import EvaluationRequest
from sb3_esac.evaluation.numbering import Numbering, Place, all_parameters, all_seeds
from sb3_esac.evaluation.random_play import RandomPlayer

SHAPES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=5)


@given(SHAPES)
def test_every_episode_has_one_number(shapes):
    numbering = Numbering(tuple(shapes))
    wanted, row = [], 0
    for part, (n, k) in enumerate(shapes):
        wanted += [Place(part, member, index, row + member) for member in range(n) for index in range(k)]
        row += n
    assert len(numbering) == len(wanted)
    assert [numbering.place(number) for number in range(len(wanted))] == wanted
    assert [numbering.local(number)[0] for number in range(len(wanted))] == [place.part for place in wanted]
    assert pickle.loads(pickle.dumps(numbering)) == numbering


def test_seeds_and_vectors_stand_in_the_order_of_the_numbers():
    player = RandomPlayer(None)
    one = EvaluationRequest(np.array([[1.0], [2.0]]), np.array([[10, 11], [20, 21]]), player)
    other = EvaluationRequest(np.array([[3.0]]), np.array([[30, 31, 32]]), player)
    numbering, seeds, vectors = Numbering.of([one, other]), all_seeds([one, other]), all_parameters([one, other])
    assert numbering.shapes == ((2, 2), (1, 3)) and seeds.tolist() == [10, 11, 20, 21, 30, 31, 32]
    for number, seed in enumerate(seeds.tolist()):
        assert vectors[numbering.place(number).row, 0] == seed // 10
    assert all_parameters([one]) is one.parameters
