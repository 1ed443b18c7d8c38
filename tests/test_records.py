"""What lanes play, written down together, is what each of them would write down alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evaluation.records import LaneRecords
from sb3_esac.evaluation.rollout import EpisodeRecorder, Recording


@pytest.mark.parametrize("as_dict", [False, True])
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 700), min_size=1, max_size=3), min_size=1, max_size=3), seed=st.integers(0, 99)
)
def test_lanes_together_and_alone(as_dict, lengths, seed):
    rng, n = np.random.default_rng(seed), len(lengths)
    recording = Recording(transitions=True, observation_moments=True, return_discount=0.9)
    records = LaneRecords(n, recording)
    queues = [list(enumerate(lane)) for lane in lengths]
    current, singles, together = [None] * n, {}, {}

    def begin(lane):
        current[lane] = queues[lane].pop(0) if queues[lane] else None
        records.begin(lane, current[lane] is not None)
        if current[lane] is not None:
            singles[lane, current[lane][0]] = EpisodeRecorder(lane, current[lane][0], recording)

    def observe():
        plain = rng.standard_normal((n, 2)).astype(np.float32)
        return {"a": plain, "b": rng.integers(0, 9, (n, 1))} if as_dict else plain

    def row(batch, lane):
        return {key: value[lane] for key, value in batch.items()} if as_dict else batch[lane]

    for lane in range(n):
        begin(lane)
    while any(episode is not None for episode in current):
        observations, actions = observe(), rng.standard_normal((n, 1)).astype(np.float32)
        rewards, useless = rng.standard_normal(n).astype(np.float32), rng.random(n) < 0.0005
        records.add(observations, actions, rewards, useless)
        for lane, episode in enumerate(current):
            if episode is None:
                continue
            single = singles[lane, episode[0]]
            single.add(row(observations, lane), actions[lane], float(rewards[lane]), not useless[lane])
            if single.length == episode[1]:
                last = row(observe(), lane)
                together[lane, episode[0]] = records.finish(lane, lane, episode[0], last, True, {"r": 1})
                singles[lane, episode[0]] = single.finish(last, True, {"r": 1})
                begin(lane)
    assert together.keys() == singles.keys()
    for key, one in together.items():
        compare(one, singles[key])


def compare(one, other):
    assert (one.member, one.index, one.length, one.info) == (other.member, other.index, other.length, other.info)
    np.testing.assert_array_equal(one.episode_return, other.episode_return)
    assert (one.transitions is None) == (other.transitions is None) == np.isnan(one.episode_return)
    if one.transitions is None:
        return
    for name in ("actions", "rewards"):
        np.testing.assert_array_equal(getattr(one.transitions, name), getattr(other.transitions, name))
    for name, moments in one.observation_moments.items():
        np.testing.assert_array_equal(moments.mean, other.observation_moments[name].mean)
    np.testing.assert_array_equal(one.return_moments.var, other.return_moments.var)
    parts = [each.transitions.observations for each in (one, other)]
    for name in ("a", "b") if isinstance(parts[0], dict) else [slice(None)]:
        np.testing.assert_array_equal(parts[0][name], parts[1][name])
