"""Optimisers of the ES gradient."""

import copy
import pickle

import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_esac.evolution.optimizers import OPTIMIZERS, Adam, Sgd

prop = settings(deadline=None, max_examples=50)


def gradients(n_steps: int, dimension: int = 5, seed: int = 0) -> np.ndarray:
    """Gradients of very different sizes, with an exact zero now and then."""
    rng = np.random.default_rng(seed)
    sizes = 10.0 ** rng.uniform(-6, 3, size=(n_steps, dimension))
    return rng.normal(size=(n_steps, dimension)) * sizes * (rng.random((n_steps, dimension)) < 0.9)


def test_names():
    assert OPTIMIZERS == {"adam": Adam, "sgd": Sgd}


def test_sgd_values():
    optimizer = Sgd(0.1)
    np.testing.assert_allclose(optimizer.step(np.array([1.0, 2.0]), np.array([10.0, -1.0])), [2.0, 1.9], rtol=1e-14)
    # It remembers nothing
    np.testing.assert_allclose(optimizer.step(np.array([1.0, 2.0]), np.array([10.0, -1.0])), [2.0, 1.9], rtol=1e-14)
    assert optimizer.state_dict() == {}


@prop
@given(st.integers(0, 1000), st.sampled_from([1e-3, 0.01, 0.3]), st.integers(1, 30))
def test_sgd_is_torchs(seed, learning_rate, n_steps):
    parameter = th.nn.Parameter(th.zeros(5, dtype=th.float64))
    reference = th.optim.SGD([parameter], lr=learning_rate, maximize=True)
    optimizer, mean = Sgd(learning_rate), np.zeros(5)
    for gradient in gradients(n_steps, seed=seed):
        parameter.grad = th.as_tensor(gradient)
        reference.step()
        mean = optimizer.step(mean, gradient)
    np.testing.assert_allclose(mean, parameter.detach().numpy(), rtol=1e-10, atol=1e-14)


def test_adam_first_step_is_the_learning_rate():
    mean = Adam(0.01).step(np.zeros(4), np.array([1e-3, -5.0, 1e6, 0.0]))
    np.testing.assert_allclose(mean, [0.01, -0.01, 0.01, 0.0], rtol=1e-4)


@prop
@given(
    st.integers(0, 1000),
    st.sampled_from([1e-3, 0.01, 0.3]),
    st.sampled_from([(), (0.9, 0.999, 1e-8), (0.5, 0.9, 1e-3), (0.0, 0.99, 1e-8)]),
    st.integers(1, 40),
)
def test_adam_is_torchs(seed, learning_rate, betas_and_epsilon, n_steps):
    parameter = th.nn.Parameter(th.ones(5, dtype=th.float64))
    # Without arguments the defaults have to agree as well
    options = {"betas": betas_and_epsilon[:2], "eps": betas_and_epsilon[2]} if betas_and_epsilon else {}
    reference = th.optim.Adam([parameter], lr=learning_rate, maximize=True, **options)
    optimizer, mean = Adam(learning_rate, *betas_and_epsilon), np.ones(5)
    for gradient in gradients(n_steps, seed=seed):
        parameter.grad = th.as_tensor(gradient)
        reference.step()
        mean = optimizer.step(mean, gradient)
        np.testing.assert_allclose(mean, parameter.detach().numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_step_goes_up(name):
    """Maximise -|x - 1|^2."""
    optimizer, mean = OPTIMIZERS[name](0.05), np.zeros(3)
    for _ in range(200):
        mean = optimizer.step(mean, -2 * (mean - 1))
    np.testing.assert_allclose(mean, 1.0, atol=0.02)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_keeps_type_and_inputs(name, dtype):
    optimizer, mean, gradient = OPTIMIZERS[name](0.1), np.arange(3, dtype=dtype), np.array([1.0, -2.0, 0.0])
    for _ in range(3):
        moved = optimizer.step(mean, gradient)
        assert moved.dtype == dtype
        assert not np.shares_memory(moved, mean)
    np.testing.assert_array_equal(mean, [0, 1, 2])
    np.testing.assert_array_equal(gradient, [1, -2, 0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_learning_rate_may_change_between_steps(name):
    gradient = np.array([1.0, -2.0])
    optimizer, slower = OPTIMIZERS[name](0.1), OPTIMIZERS[name](0.1)
    slower.learning_rate = 0.05
    np.testing.assert_allclose(optimizer.step(np.zeros(2), gradient), 2 * slower.step(np.zeros(2), gradient), rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("n_before", [0, 1, 7])
def test_state_dict_round_trip(name, n_before):
    """A new optimiser with the saved state goes on exactly like the old one."""
    steps = gradients(n_before + 6)
    optimizer, mean = OPTIMIZERS[name](0.02), np.zeros(5)
    for gradient in steps[:n_before]:
        mean = optimizer.step(mean, gradient)

    state = pickle.loads(pickle.dumps(optimizer.state_dict()))
    resumed, resumed_mean = OPTIMIZERS[name](0.02), mean.copy()
    resumed.load_state_dict(state)
    for gradient in steps[n_before:]:
        mean, resumed_mean = optimizer.step(mean, gradient), resumed.step(resumed_mean, gradient)
        np.testing.assert_array_equal(resumed_mean, mean)


def test_adam_without_its_state_goes_elsewhere():
    """What the round trip above would miss if Adam remembered nothing."""
    first, second = gradients(2)
    optimizer = Adam(0.02)
    optimizer.step(np.zeros(5), first)
    assert np.any(optimizer.step(np.zeros(5), second) != Adam(0.02).step(np.zeros(5), second))
    assert optimizer.state_dict()["steps"] == 2


def test_state_dict_is_a_snapshot():
    """Going on, the source's steps do not change what was saved, nor does a copy that goes on from it."""
    optimizer = Adam(0.02)
    for gradient in gradients(3):
        optimizer.step(np.zeros(5), gradient)
    state = optimizer.state_dict()
    before = copy.deepcopy(state)
    resumed = Adam(0.02)
    resumed.load_state_dict(state)
    for each in (optimizer, resumed):
        each.step(np.zeros(5), np.ones(5))
    assert state["steps"] == before["steps"] == 3
    for name in ("first_moment", "second_moment"):
        np.testing.assert_array_equal(state[name], before[name])
        assert np.any(getattr(optimizer, name) != before[name])


def test_load_state_dict_forgets_what_was_before():
    """The state of an optimiser that never stepped makes a new beginning."""
    optimizer, gradient = Adam(0.02), np.arange(1.0, 6.0)
    optimizer.step(np.zeros(5), -gradient)
    optimizer.load_state_dict(Adam(0.02).state_dict())
    np.testing.assert_array_equal(optimizer.step(np.zeros(5), gradient), Adam(0.02).step(np.zeros(5), gradient))
