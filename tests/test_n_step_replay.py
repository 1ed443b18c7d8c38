"""n-step returns of the agent, with the population's transitions as well."""

import numpy as np
import pytest
from helpers import DEVICE
from sb3_contrib import TQC
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.buffers import NStepReplayBuffer
from support import DictWalk, is_finite, tiny, vec

from sb3_esac import ESAC

GAMMA = 0.9


@pytest.mark.parametrize("agent_class", [SAC, TD3, TQC])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_learn(agent_class, n_envs, tmp_path):
    model = tiny(vec(n_envs), agent_class=agent_class, n_steps=3, gamma=GAMMA).learn(150)
    buffer, store = model.replay_buffer, model.replay_buffer.population_store
    assert isinstance(buffer, NStepReplayBuffer) and type(store) is NStepReplayBuffer
    assert (buffer.n_steps, buffer.gamma) == (store.n_steps, store.gamma) == (3, GAMMA)
    assert model._n_updates > 0 and is_finite(model)
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", env=vec(n_envs), device=DEVICE)
    assert isinstance(loaded.replay_buffer, NStepReplayBuffer) and loaded.replay_buffer.n_steps == 3
    assert type(loaded.replay_buffer.population_store) is NStepReplayBuffer
    loaded.learn(100)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("store_of", ["agent", "population"])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_returns_are_those_of_the_episode(terminal, store_of, n_envs):
    """Compare every n-step target with one that is computed from the stored rewards, episode by episode."""
    # Different lengths: lanes are cut in the middle of an episode when an interval ends.
    env = vec(n_envs, terminal=terminal, varied=True)
    model = tiny(env, n_steps=3, gamma=GAMMA, gradient_steps=0, agent_fraction=0.5).learn(400)
    buffer = model.replay_buffer if store_of == "agent" else model.replay_buffer.population_store
    size = buffer.size()
    assert size > 30 and not buffer.full
    for lane in range(buffer.n_envs):
        observations = buffer.observations[:size, lane]
        following = buffer.next_observations[:size, lane]
        # The last step of an episode: what follows is not where it led to.
        last = np.append((observations[1:] != following[:-1]).any(axis=-1), True)
        inner = buffer if buffer.n_envs == 1 else only(buffer, lane)
        batch = inner._get_samples(np.arange(size))
        for start in range(size):
            total, used = 0.0, 0
            for step in range(3):
                total += GAMMA**step * float(buffer.rewards[start + step, lane])
                used += 1
                if last[start + step]:
                    break
            end = start + used - 1
            assert float(batch.rewards[start]) == pytest.approx(total, rel=1e-5, abs=1e-6)
            np.testing.assert_array_equal(batch.next_observations[start].cpu().numpy(), following[end])
            if used == 3 or not last[end]:
                assert float(batch.discounts[start]) == pytest.approx(GAMMA**used)
            over = following[end][1] >= 10 and terminal and last[end] and bool(buffer.dones[end, lane])
            truly_over = over and not buffer.timeouts[end, lane]
            assert float(batch.dones[start]) == float(truly_over)
        if not terminal:
            assert float(batch.dones.sum()) == 0


def only(buffer, lane):
    """The same buffer with a single lane."""
    single = NStepReplayBuffer(
        buffer.buffer_size,
        buffer.observation_space,
        buffer.action_space,
        device=DEVICE,
        n_steps=buffer.n_steps,
        gamma=buffer.gamma,
    )
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        getattr(single, name)[:] = getattr(buffer, name)[:, lane : lane + 1]
    single.pos, single.full = buffer.pos, buffer.full
    return single


def test_batches_are_mixed():
    model = tiny(vec(1), n_steps=4, gamma=GAMMA, share_experience=0.25).learn(150)
    batch = model.replay_buffer.sample(16)
    assert batch.discounts.shape == (16, 1) and float(batch.discounts.min()) == pytest.approx(GAMMA**4)
    own = {row.tobytes() for row in model.replay_buffer.actions[:, 0]}
    assert sum(row.cpu().numpy().tobytes() in own for row in batch.actions) == 12


def test_one_step_needs_no_discounts():
    model = tiny(vec(1)).learn(80)
    assert not isinstance(model.replay_buffer, NStepReplayBuffer)
    assert model.replay_buffer.sample(8).discounts is None


def test_dict_observations_are_refused_as_by_sac():
    with pytest.raises(AssertionError, match="N-step returns are not supported for Dict"):
        tiny(vec(1, DictWalk), "MultiInputPolicy", n_steps=3)


def test_arguments_of_the_users_are_left_alone():
    kwargs = dict(handle_timeout_termination=True)
    model = tiny(vec(1), n_steps=2, replay_buffer_kwargs=kwargs)
    assert kwargs == dict(handle_timeout_termination=True) and model.replay_buffer.n_steps == 2
