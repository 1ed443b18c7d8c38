"""A replay buffer goes back to what it held, whatever was written."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer

from sb3_esac.agent.sharing import add_episode, shared
from sb3_esac.evaluation.finite import NON_FINITE
from sb3_esac.evaluation.rollout import Transitions

BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)
DICT = spaces.Dict({"observation": BOX, "achieved_goal": BOX, "desired_goal": BOX, "side": spaces.Discrete(4)})
ACTION = spaces.Box(-1.0, 1.0, (1,), np.float32)
KEY = (0, 3, 100)
KINDS = {
    "plain": (ReplayBuffer, BOX, {}),
    "memory": (ReplayBuffer, BOX, dict(optimize_memory_usage=True, handle_timeout_termination=False)),
    "n_step": (NStepReplayBuffer, BOX, {}),
    "dict": (DictReplayBuffer, DICT, {}),
    "her": (HerReplayBuffer, DICT, dict(env=None, copy_info_dict=True)),
}


def new(kind, size, n_envs=1):
    buffer_class, space, options = KINDS[kind]
    return buffer_class(size * n_envs, space, ACTION, device="cpu", n_envs=n_envs, **options)


def observations(kind, rng, shape):
    def box():
        return rng.standard_normal((*shape, 2)).astype(np.float32)

    if KINDS[kind][1] is BOX:
        return box()
    return {name: rng.integers(4, size=shape) if name == "side" else box() for name in DICT.spaces}


def write(kind, buffer, rng, plan):
    """Add steps of the agent's and episodes of the population's, and cut episodes off."""
    for what, number in plan:
        if what == "episode":
            record = None if buffer.undo is None else buffer.undo.population
            transitions = Transitions(
                observations(kind, rng, (number + 1,)),
                rng.uniform(-1, 1, (number, 1)).astype(np.float32),
                rng.standard_normal(number).astype(np.float32),
                bool(rng.integers(2)),
            )
            add_episode(buffer.population_store, transitions, transitions.actions, record)
        elif what == "cut":
            buffer.truncate_open_episodes()
        else:
            lanes = buffer.n_envs
            for _ in range(number):
                infos = [{NON_FINITE: True} if what == "broken" else {"n": int(rng.integers(9))} for _ in range(lanes)]
                arguments = (observations(kind, rng, (lanes,)), observations(kind, rng, (lanes,)))
                numbers = (rng.uniform(-1, 1, (lanes, 1)), rng.standard_normal(lanes), rng.integers(2, size=lanes) > 0)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    buffer.add(*arguments, *numbers, infos)


def contents(store):
    names = ("pos", "full", "observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    return {n: copy.deepcopy(getattr(store, n, None)) for n in (*names, "infos", "ep_start", "ep_length", "_current_ep_start")}


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


steps = st.tuples(st.sampled_from(["add", "add", "episode", "cut", "broken"]), st.integers(1, 12))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None)
@given(
    st.lists(steps, max_size=6), st.lists(steps, max_size=6), st.integers(1, 14), st.integers(1, 2), st.integers(0, 2**32 - 1)
)
def test_goes_back(kind, before, after, size, n_envs, seed):
    rng = np.random.default_rng(seed)
    buffer = shared(new(kind, size, n_envs), new(kind, size + 3), 0.5)
    write(kind, buffer, rng, before)
    expected = contents(buffer), contents(buffer.population_store)
    buffer.keep_way_back(KEY)
    write(kind, buffer, rng, after)
    present = contents(buffer), contents(buffer.population_store)

    loaded = pickle.loads(pickle.dumps(buffer))
    assert same(present[0], contents(loaded)) and same(present[1], contents(loaded.population_store))
    assert not loaded.go_back((0, 4, 100)) and same(present[0], contents(loaded))
    assert loaded.go_back(KEY)
    assert same(expected[0], contents(loaded)) and same(expected[1], contents(loaded.population_store))
    assert not loaded.go_back(KEY), "there is one way back"
    assert same(present[0], contents(buffer)), "a file changes nothing"


def test_a_ring_that_is_not_full_keeps_next_to_nothing():
    buffer = shared(new("plain", 100), None, 0.0)
    buffer.keep_way_back(KEY)
    write("plain", buffer, np.random.default_rng(0), [("add", 50)])
    assert sum(len(rows) for rows, _ in buffer.undo.own._rows) == 1
    write("plain", buffer, np.random.default_rng(0), [("add", 50)])
    buffer.keep_way_back(KEY)
    write("plain", buffer, np.random.default_rng(0), [("add", 250)])
    assert sum(len(rows) for rows, _ in buffer.undo.own._rows) == 100, "no row is kept twice"


def test_no_way_back_for_a_store_that_was_written_since():
    """Neither store changes then, and one that has come or gone is no way back either."""
    buffer = shared(new("plain", 20), new("plain", 20), 0.5)
    buffer.keep_way_back(KEY)
    write("plain", buffer, np.random.default_rng(0), [("add", 3), ("episode", 4)])
    written, without = pickle.loads(pickle.dumps(buffer)), pickle.loads(pickle.dumps(buffer))
    write("plain", written, np.random.default_rng(0), [("episode", 2)])
    without.population_store = None
    for loaded in (written, without):
        before = contents(loaded)
        assert not loaded.go_back(KEY)
        assert same(before, contents(loaded)) and loaded.pos == 3
