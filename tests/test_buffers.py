"""The agent's replay buffer with the population's store beside it."""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from helpers import DEVICE, keep_selections
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from support import DictWalk, tiny, vec

from sb3_esac import ESAC
from sb3_esac.agent.building import new_buffer
from sb3_esac.agent.sharing import SharedExperience, add_episode, shared
from sb3_esac.evaluation.finite import NON_FINITE
from sb3_esac.evaluation.rollout import Transitions

BOX = spaces.Box(-10.0, 10.0, (2,), np.float32)
DICT = spaces.Dict({"a": BOX, "b": spaces.Box(0, 255, (3, 2), np.uint8), "c": spaces.Discrete(4)})
ACTION = spaces.Box(-1.0, 1.0, (1,), np.float32)
ARRAYS = ("actions", "rewards", "dones", "timeouts")


def fill(buffer, n, reward, done=False, start=0, infos=None):
    """Add steps whose observation is their number and whose reward is given."""
    lanes = buffer.n_envs
    for step in range(start, start + n):
        obs, next_obs = np.full((lanes, 2), step, np.float32), np.full((lanes, 2), step + 1, np.float32)
        flags = np.full(lanes, done and step == start + n - 1)
        buffer.add(obs, next_obs, np.zeros((lanes, 1)), np.full(lanes, reward), flags, infos or [{} for _ in range(lanes)])


def pair(share, n_own=20, n_shared=20, kind=ReplayBuffer, **kwargs):
    """A shared buffer with rewards 0 in the agent's store and 1 in the population's."""
    own, store = kind(50, BOX, ACTION, device=DEVICE, **kwargs), kind(50, BOX, ACTION, device=DEVICE, **kwargs)
    fill(own, n_own, 0.0, done=True)
    fill(store, n_shared, 1.0, done=True)
    return shared(own, store, share)


# -- mixing -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 7, 8, 256])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.9, 1.0])
def test_fraction_of_a_batch_is_exact(share, batch_size):
    buffer = pair(share)
    for _ in range(3):
        batch = buffer.sample(batch_size)
        assert batch.rewards.shape == (batch_size, 1) and batch.observations.shape == (batch_size, 2)
        assert int(batch.rewards.sum()) == round(batch_size * share)
        assert batch.discounts is None


def test_an_empty_store_gives_nothing():
    assert float(pair(0.5, n_shared=0).sample(16).rewards.sum()) == 0
    with_none = shared(ReplayBuffer(50, BOX, ACTION, device=DEVICE), None, 0.5)
    fill(with_none, 10, 0.0)
    assert len(with_none.sample(16).rewards) == 16


def test_whole_batch_from_the_population_needs_nothing_of_the_agent():
    assert float(pair(1.0, n_own=0).sample(16).rewards.sum()) == 16


def test_n_step_discounts_are_mixed_too():
    # So many samples that every discount occurs on both sides.
    batch = pair(0.5, kind=NStepReplayBuffer, n_steps=3, gamma=0.5).sample(800)
    assert batch.discounts.shape == (800, 1)
    np.testing.assert_allclose(np.unique(batch.discounts[:400].cpu().numpy()), np.unique(batch.discounts[400:].cpu().numpy()))
    assert float(batch.rewards[:400].sum()) == 0 and float(batch.rewards[400:].min()) >= 1


def test_the_buffer_stays_what_it_was():
    own = ReplayBuffer(50, BOX, ACTION, device=DEVICE)
    fill(own, 5, 3.0)
    observations = own.observations
    result = shared(own, ReplayBuffer(50, BOX, ACTION, device=DEVICE), 0.5)
    assert type(own) is ReplayBuffer and isinstance(result, ReplayBuffer) and isinstance(result, SharedExperience)
    assert result.observations is own.observations is observations and result.size() == own.size() == 5
    # Whoever writes to either writes to both.
    fill(result, 2, 4.0)
    fill(own, 1, 5.0)
    assert result.pos == own.pos == 8 and result.rewards[5:8, 0].tolist() == [4.0, 4.0, 5.0]
    assert shared(result, None, 0.2) is result and result.population_share == 0.2
    store = result.population_store
    assert store is not None and shared(own, None, 0.2).population_store is store, "a store is not thrown away"


def test_models_buffers():
    model = tiny(vec(2), buffer_size=100).learn(150)
    buffer, store = model.replay_buffer, model.replay_buffer.population_store
    assert buffer is model.agent.replay_buffer and buffer.n_envs == 2 and store.n_envs == 1
    assert type(store) is ReplayBuffer and isinstance(buffer, ReplayBuffer)
    assert buffer.size() * 2 == min(model.agent_timesteps, 100) and 0 < store.size() <= 100
    without = tiny(vec(1), share_experience=0.0).learn(80)
    assert without.replay_buffer.population_store is None


@pytest.mark.parametrize("n_winners", [1, 2, 4])
@pytest.mark.parametrize("n_eval_episodes", [1, 2])
@pytest.mark.parametrize("overlap", [False, True])
def test_experience_is_the_winners(n_winners, n_eval_episodes, overlap):
    """All that they have played, in their order, and nothing of others."""
    options = dict(winner_fraction=n_winners / 4, n_agent_members=0, agent_fraction=0.3, champion_episodes=0, overlap=overlap)
    model = tiny(vec(1), n_eval_episodes=n_eval_episodes, **options)
    selections = keep_selections(model)
    model.learn(300)
    assert len(selections) >= 3
    expected = {"observations": [], "actions": [], "rewards": []}
    of_losers = []
    for selection in selections:
        best = np.argsort(-selection.fitness)[:n_winners]
        for episode in selection.result.episodes:
            steps = episode.transitions
            if episode.member in best:
                expected["observations"].append(steps.observations[:-1])
                expected["actions"].append(model.policy.scale_action(steps.actions))
                expected["rewards"].append(steps.rewards)
            else:
                of_losers.append(steps.rewards)
    store = model.replay_buffer.population_store
    for name, parts in expected.items():
        np.testing.assert_array_equal(getattr(store, name)[: store.size(), 0], np.concatenate(parts), err_msg=name)
    assert len(of_losers) == len(selections) * n_eval_episodes * (4 - n_winners)
    assert not np.isin(np.concatenate(of_losers), store.rewards).any() if of_losers else n_winners == 4


def test_shared_actions_are_scaled():
    class Wide(DictWalk.__mro__[1]):  # gym.ObservationWrapper
        def __init__(self, env):
            super().__init__(env)
            self.action_space = spaces.Box(-4.0, 8.0, (1,), np.float32)

        def observation(self, observation):
            return observation

    model = tiny(vec(1, Wide), sigma=1.0, agent_fraction=0.0, champion_episodes=0)
    model.learn(200)
    store = model.replay_buffer.population_store
    actions = store.actions[: store.size()]
    assert np.abs(actions).max() <= 1 and np.ptp(actions) > 0.2


# -- whole episodes at once ---------------------------------------------------------------------------------------------


def episode(space, length, terminated, rng):
    if isinstance(space, spaces.Dict):
        observations = {key: np.stack([part.sample() for _ in range(length + 1)]) for key, part in space.spaces.items()}
    else:
        observations = np.stack([space.sample() for _ in range(length + 1)])
    rewards = rng.normal(size=length).astype(np.float32)
    return Transitions(observations, rng.uniform(-1, 1, (length, 1)).astype(np.float32), rewards, terminated)


def add_one_by_one(store, transitions, actions):
    def at(step):
        if isinstance(transitions.observations, dict):
            return {key: value[step : step + 1] for key, value in transitions.observations.items()}
        return transitions.observations[step : step + 1]

    length = len(transitions.rewards)
    for step in range(length):
        last = step == length - 1
        info = {"TimeLimit.truncated": last and not transitions.terminated}
        rewards, done = transitions.rewards[step : step + 1], np.array([last])
        store.add(at(step), at(step + 1), actions[step : step + 1], rewards, done, [info])


@pytest.mark.parametrize("terminated", [False, True])
def test_who_stored_step_by_step_is_told_of_a_cut_at_the_end_alone(terminated):
    """Buffers that cannot be written at once, as HER's, get an `info` for each step."""

    class Told(ReplayBuffer):
        infos: tuple = ()

        def add(self, obs, next_obs, action, reward, done, infos):
            self.infos = (*self.infos, (bool(done[0]), infos[0]["TimeLimit.truncated"]))
            super().add(obs, next_obs, action, reward, done, infos)

    store = Told(10, BOX, ACTION)
    transitions = episode(BOX, 3, terminated, np.random.default_rng(0))
    add_episode(store, transitions, transitions.actions)
    assert store.infos == ((False, False), (False, False), (True, not terminated))


@pytest.mark.parametrize("shape", [(3,), (2, 2)])
def test_actions_of_more_than_one_number(shape):
    space = spaces.Box(-1.0, 1.0, shape, np.float32)
    store, transitions = ReplayBuffer(10, BOX, space), episode(BOX, 4, True, np.random.default_rng(0))
    actions = np.random.default_rng(1).uniform(-1, 1, (4, *shape)).astype(np.float32)
    add_episode(store, transitions, actions)
    np.testing.assert_array_equal(store.actions[:4, 0], actions.reshape(4, -1))


KINDS = [
    (ReplayBuffer, BOX, {}),
    (ReplayBuffer, BOX, dict(handle_timeout_termination=False)),
    (ReplayBuffer, BOX, dict(optimize_memory_usage=True, handle_timeout_termination=False)),
    (ReplayBuffer, spaces.Discrete(5), {}),
    (ReplayBuffer, spaces.Box(0, 255, (1, 4, 4), np.uint8), {}),
    (DictReplayBuffer, DICT, {}),
    (NStepReplayBuffer, BOX, dict(n_steps=3, gamma=0.9)),
]


@pytest.mark.parametrize("kind, space, kwargs", KINDS)
@pytest.mark.parametrize("lengths", [(3, 2), (3, 4), (7,), (5, 5, 5), (20, 3), (1,), (4, 30, 1, 6)])
def test_bulk_write_equals_one_add_per_step(kind, space, kwargs, lengths):
    rng = np.random.default_rng(0)
    space.seed(0)
    bulk = kind(7, space, ACTION, device=DEVICE, **kwargs)
    reference = kind(7, space, ACTION, device=DEVICE, **kwargs)
    for number, length in enumerate(lengths):
        transitions = episode(space, length, terminated=number % 2 == 0, rng=rng)
        add_episode(bulk, transitions, transitions.actions)
        add_one_by_one(reference, transitions, transitions.actions)
        assert (bulk.pos, bulk.full, bulk.size()) == (reference.pos, reference.full, reference.size())
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(bulk, name), getattr(reference, name), err_msg=name)
    names = ["observations"] if getattr(bulk, "optimize_memory_usage", False) else ["observations", "next_observations"]
    for name in names:
        ours, theirs = getattr(bulk, name), getattr(reference, name)
        for key in ours if isinstance(ours, dict) else [...]:
            np.testing.assert_array_equal(ours[key], theirs[key], err_msg=name)


def test_a_buffer_of_the_users_gets_every_step():
    class Watched(ReplayBuffer):
        n_adds = 0

        def add(self, *args, **kwargs):
            self.n_adds += 1
            super().add(*args, **kwargs)

    buffer = Watched(20, BOX, ACTION, device=DEVICE)
    transitions = episode(BOX, 6, True, np.random.default_rng(0))
    add_episode(buffer, transitions, transitions.actions)
    assert buffer.n_adds == 6 and buffer.size() == 6
    model = tiny(vec(1), replay_buffer_class=Watched, share_experience=0.0).learn(100)
    assert model.replay_buffer.n_adds == model.agent_timesteps


# -- buffers that read an `info` of the environment ---------------------------------------------------------------------


class ReadsInfos(ReplayBuffer):
    """Reads what the environment alone tells."""

    def add(self, obs, next_obs, action, reward, done, infos):
        super().add(obs, next_obs, action, reward + infos[0]["bonus"], done, infos)


class SamplesOtherwise(ReplayBuffer):
    """Stores as SB3 does."""

    def sample(self, batch_size, env=None):
        return super().sample(batch_size, env)


class Bonus(gym.Wrapper):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, {**info, "bonus": 1.0}


SEARCHES = dict(seed=5, agent_fraction="auto", share_experience="auto", replay_buffer_class=ReadsInfos)


def test_a_buffer_that_reads_infos_is_not_shared_with_the_population(capsys):
    model = tiny(vec(1, Bonus), verbose=1, **SEARCHES)
    assert "Shared experience: none (the replay buffer reads every `info`" in capsys.readouterr().out
    model.learn(600, log_interval=None)
    assert model.population_timesteps > 0 and model.champion.record.source != "agent"
    assert model.replay_buffer.population_store is None and model.replay_buffer.population_share == 0.0
    tiny(vec(1), **{**SEARCHES, "verbose": 1, "replay_buffer_class": SamplesOtherwise})
    assert "Shared experience" not in capsys.readouterr().out


def test_sharing_with_a_buffer_that_reads_infos_is_refused(tmp_path):
    expected = "`share_experience` must be 0 or 'auto', as the `add` of `replay_buffer_class=ReadsInfos` reads.* not 0.5"
    with pytest.raises(ValueError, match=expected):
        tiny(vec(1, Bonus), replay_buffer_class=ReadsInfos, share_experience=0.5)
    model = tiny(vec(1, Bonus), replay_buffer_class=ReadsInfos, share_experience=0).learn(50)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=expected):
        ESAC.load(tmp_path / "model", env=vec(1, Bonus), share_experience=0.5)
    model.share_experience = 0.5
    with pytest.raises(ValueError, match=expected):
        model.learn(50)


def test_a_class_that_stores_as_sb3_does_is_shared_with_the_population():
    model = tiny(vec(1), replay_buffer_class=SamplesOtherwise).learn(100)
    assert type(model.replay_buffer.population_store) is SamplesOtherwise and model.replay_buffer.population_store.size() > 0


# -- cuts ---------------------------------------------------------------------------------------------------------------


def test_open_episodes_are_truncated():
    buffer = shared(ReplayBuffer(10, BOX, ACTION, device=DEVICE), None, 0.0)
    buffer.truncate_open_episodes()
    assert not buffer.dones.any(), "there is nothing to truncate"
    fill(buffer, 3, 1.0)
    buffer.truncate_open_episodes()
    np.testing.assert_array_equal(buffer.dones[:4, 0], [0, 0, 1, 0])
    np.testing.assert_array_equal(buffer.timeouts[:4, 0], [0, 0, 1, 0])
    # It bootstraps.
    assert float(buffer.sample(50).dones.sum()) == 0
    buffer.truncate_open_episodes()
    assert buffer.dones.sum() == 1


def test_terminal_steps_stay_terminal():
    buffer = shared(ReplayBuffer(20, BOX, ACTION, device=DEVICE, n_envs=2), None, 0.0)
    zeros = np.zeros((2, 2), np.float32)
    buffer.add(zeros, zeros, np.zeros((2, 1)), np.zeros(2), np.array([True, False]), [{}, {}])
    buffer.truncate_open_episodes()
    np.testing.assert_array_equal(buffer.dones[0], [1, 1])
    np.testing.assert_array_equal(buffer.timeouts[0], [0, 1])


def test_truncation_at_the_end_of_a_full_buffer():
    buffer = shared(ReplayBuffer(4, BOX, ACTION, device=DEVICE), None, 0.0)
    fill(buffer, 4, 1.0)
    assert buffer.pos == 0 and buffer.full
    buffer.truncate_open_episodes()
    np.testing.assert_array_equal(buffer.dones[:, 0], [0, 0, 0, 1])


def test_n_step_returns_end_at_a_cut():
    buffer = shared(NStepReplayBuffer(20, BOX, ACTION, device=DEVICE, n_steps=3, gamma=0.5), None, 0.0)
    fill(buffer, 3, 1.0)
    buffer.truncate_open_episodes()
    fill(buffer, 3, 100.0, start=10)
    buffer.truncate_open_episodes()
    batch = buffer._get_samples(np.arange(6))
    np.testing.assert_allclose(batch.rewards[:, 0].cpu().numpy(), [1.75, 1.5, 1.0, 175.0, 150.0, 100.0])
    np.testing.assert_allclose(batch.next_observations[:, 0].cpu().numpy(), [3, 3, 3, 13, 13, 13])
    assert float(batch.dones.sum()) == 0


def test_memory_optimised_buffer_is_told_of_a_cut():
    kwargs = dict(optimize_memory_usage=True, handle_timeout_termination=False)
    buffer = shared(ReplayBuffer(20, BOX, ACTION, device=DEVICE, **kwargs), None, 0.0)
    fill(buffer, 3, 1.0)
    buffer.truncate_open_episodes()
    fill(buffer, 2, 1.0, start=10)
    # The observation after the cut has been overwritten: nothing may bootstrap from it.
    assert buffer.observations[3, 0, 0] == 10 and buffer.dones[2, 0] == 1 and buffer.dones[1, 0] == 0


def her(n_envs=1, **kwargs):
    goals = lambda: Monitor(BitFlippingEnv(n_bits=3, continuous=True, max_steps=5))  # noqa: E731
    env = DummyVecEnv([goals for _ in range(n_envs)])
    return env, tiny(env, "MultiInputPolicy", replay_buffer_class=HerReplayBuffer, **{"learning_starts": 12, **kwargs})


def boundaries(buffer, lane):
    """For each stored step but the last: whether the next one belongs to another episode, and whether it is marked as done."""
    size = buffer.size()
    observations = buffer.observations["observation"] if isinstance(buffer.observations, dict) else buffer.observations
    if getattr(buffer, "optimize_memory_usage", False):
        steps = observations[:size, lane, 1]
        broken = steps[1:] != steps[:-1] + 1
    else:
        following = buffer.next_observations
        following = following["observation"] if isinstance(following, dict) else following
        broken = (observations[1:size, lane] != following[: size - 1, lane]).any(axis=-1)
    return broken, buffer.dones[: size - 1, lane].astype(bool)


OPEN_ENDED = [
    {},
    dict(n_steps=3),
    dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False)),
]
"""Of buffers in which an episode that is left open would run into the next one."""


@pytest.mark.parametrize("n_envs", [1, 2, 3])
@pytest.mark.parametrize("kwargs", OPEN_ENDED)
def test_no_episode_runs_over_a_cut(kwargs, n_envs):
    # Episodes of different lengths: when the first lane's ends, the others are in the middle of theirs.
    env = vec(n_envs, varied=True)
    model = tiny(env, gradient_steps=0, agent_fraction=0.4, **kwargs)
    # Budgets that end in the middle of an episode.
    for total in (150, 217, 303, 404):
        model.learn(total, reset_num_timesteps=False)
    assert model.replay_buffer.size() > 30 and not model.replay_buffer.full
    cuts = 0
    for lane in range(n_envs):
        broken, done = boundaries(model.replay_buffer, lane)
        assert done[broken].all(), "an episode goes on where another one begins"
        cuts += int((done & (model.replay_buffer.timeouts[: len(done), lane] == 1)).sum())
    assert cuts > 0 or "optimize_memory_usage" in kwargs
    broken, done = boundaries(model.replay_buffer.population_store, 0)
    assert broken.any() and done[broken].all()


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("kwargs", OPEN_ENDED)
def test_no_episode_of_a_plain_agents_buffer_goes_on(kwargs, n_envs, tmp_path):
    settings = dict(buffer_size=600, learning_starts=1000, policy_kwargs=dict(net_arch=[8]), device=DEVICE)
    agent = SAC("MlpPolicy", vec(n_envs), **settings, **kwargs).learn(25 * n_envs)
    agent.save_replay_buffer(tmp_path / "buffer")
    model = tiny(vec(n_envs), gradient_steps=0, agent_fraction=1, **kwargs)
    model.load_replay_buffer(tmp_path / "buffer")
    assert (model.replay_buffer.dones[24] == 0).all(), "an episode is open"
    model.learn(60 * n_envs)
    for lane in range(n_envs):
        broken, done = boundaries(model.replay_buffer, lane)
        assert done[24] and done[broken].all() and done.sum() == 8
    # A buffer that was closed stays as it is.
    before = copy.deepcopy(model.replay_buffer)
    model.learn(60 * n_envs, callback=lambda *_: False)
    assert_same(before, model.replay_buffer)


@pytest.mark.parametrize("n_envs", [1, 2])
def test_hindsight_buffer_is_told_of_cuts(n_envs):
    _, model = her(n_envs, gradient_steps=0, agent_fraction=0.4)
    for total in (62, 123, 187, 251):
        model.learn(total, reset_num_timesteps=False)
    buffer = model.replay_buffer
    assert (buffer._current_ep_start == buffer.pos).all(), "an episode has been left open"
    for lane in range(n_envs):
        size = buffer.size()
        starts, lengths = buffer.ep_start[:size, lane], buffer.ep_length[:size, lane]
        assert (lengths > 0).all() and lengths.max() <= 5
        at = np.arange(size)
        assert ((starts <= at) & (at < starts + lengths)).all()
        broken, done = boundaries(buffer, lane)
        assert done[broken].all()
    store = buffer.population_store
    assert (store._current_ep_start == store.pos).all() and store.ep_length[: store.size(), 0].max() <= 5


# -- nothing that is not finite -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The environment gave")
@pytest.mark.parametrize("kind, kwargs", [(ReplayBuffer, {}), (NStepReplayBuffer, dict(n_steps=3))])
def test_steps_that_are_not_finite_are_not_stored(kind, kwargs):
    buffer = shared(kind(20, BOX, ACTION, device=DEVICE, n_envs=2, **kwargs), None, 0.0)
    fill(buffer, 2, 1.0)
    fill(buffer, 1, 100.0, infos=[{}, {NON_FINITE: True}])
    assert buffer.size() == 2 and buffer.rewards.max() == 1
    np.testing.assert_array_equal(buffer.dones[:3], [[0, 0], [1, 1], [0, 0]])
    np.testing.assert_array_equal(buffer.timeouts[:3], [[0, 0], [1, 1], [0, 0]])
    fill(buffer, 1, 1.0)
    assert buffer.size() == 3


@pytest.mark.filterwarnings("ignore:The environment gave")
def test_a_bad_first_step_truncates_nothing():
    buffer = shared(ReplayBuffer(20, BOX, ACTION, device=DEVICE), None, 0.0)
    fill(buffer, 1, 1.0, infos=[{NON_FINITE: True}])
    assert buffer.size() == 0 and not buffer.dones.any()


# -- saving -------------------------------------------------------------------------------------------------------------


def arrays(buffer):
    """All arrays of a buffer by name."""
    found = {}
    for name, value in vars(buffer).items():
        if isinstance(value, np.ndarray) and value.dtype != object:
            found[name] = value
        elif isinstance(value, dict) and value and all(isinstance(part, np.ndarray) for part in value.values()):
            found.update({f"{name}.{key}": part for key, part in value.items()})
    return found


def assert_same(one, other):
    assert (one.pos, one.full, one.n_envs, one.buffer_size) == (other.pos, other.full, other.n_envs, other.buffer_size)
    ours, theirs = arrays(one), arrays(other)
    assert ours.keys() == theirs.keys() and "rewards" in ours
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


MODELS = {
    "plain": lambda **kwargs: tiny(vec(1), **kwargs),
    "two environments": lambda **kwargs: tiny(vec(2), **kwargs),
    "memory": lambda **kwargs: tiny(
        vec(1), optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False), **kwargs
    ),
    "n-step": lambda **kwargs: tiny(vec(1), n_steps=3, **kwargs),
    "dict": lambda **kwargs: tiny(vec(1, DictWalk), "MultiInputPolicy", **kwargs),
    "her": lambda **kwargs: her(1, **kwargs)[1],
    "her, two environments": lambda **kwargs: her(2, **kwargs)[1],
    "not shared": lambda **kwargs: tiny(vec(1), **{**kwargs, "share_experience": 0.0}),
}


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer")
@pytest.mark.parametrize("name", MODELS)
def test_save_and_load(name, tmp_path):
    model = MODELS[name]().learn(130)
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    other = MODELS[name](seed=2)
    other.load_replay_buffer(tmp_path / "buffer.pkl")
    assert type(other.replay_buffer) is type(model.replay_buffer)
    assert_same(model.replay_buffer, other.replay_buffer)
    assert model.replay_buffer.size() > 0
    if name == "not shared":
        assert other.replay_buffer.population_store is None
    else:
        assert model.replay_buffer.population_store.size() > 0
        assert_same(model.replay_buffer.population_store, other.replay_buffer.population_store)
    assert len(other.replay_buffer.sample(16).rewards) == 16
    size = other.replay_buffer.size()
    other.learn(130)
    assert other.replay_buffer.size() > size and other._n_updates > 0


def test_pickled_alone(tmp_path):
    buffer = pair(0.5)
    save_to_pkl(tmp_path / "buffer.pkl", buffer)
    loaded = load_from_pkl(tmp_path / "buffer.pkl")
    assert type(loaded) is type(buffer) and isinstance(loaded, ReplayBuffer)
    assert_same(loaded, buffer)
    assert_same(loaded.population_store, buffer.population_store)
    assert float(loaded.sample(8).rewards.sum()) == 4
    twin = copy.deepcopy(buffer)
    fill(twin, 3, 5.0)
    assert buffer.size() == 20 and twin.size() == 23 and twin.population_store is not buffer.population_store


@pytest.mark.filterwarnings("ignore:The last trajectory in the replay buffer")
@pytest.mark.parametrize("kind", ["plain", "memory", "n-step", "dict", "her"])
def test_buffer_of_a_plain_agent_can_be_loaded(kind, tmp_path):
    model = MODELS[kind]()
    settings = dict(buffer_size=300, learning_starts=12, batch_size=8, policy_kwargs=dict(net_arch=[8]), device=DEVICE)
    extra = {
        "memory": dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False)),
        "n-step": dict(n_steps=3),
        "her": dict(replay_buffer_class=HerReplayBuffer),
    }.get(kind, {})
    env = {"her": lambda: her()[0], "dict": lambda: vec(1, DictWalk)}.get(kind, vec)()
    agent = SAC("MultiInputPolicy" if kind in ("dict", "her") else "MlpPolicy", env, **settings, **extra).learn(40)
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    buffer = model.replay_buffer
    assert isinstance(buffer, SharedExperience) and isinstance(buffer, type(agent.replay_buffer))
    assert buffer.size() == 40 and buffer.population_store.size() == 0
    ours, theirs = arrays(buffer), arrays(agent.replay_buffer)
    for name in ("rewards", "actions"):
        np.testing.assert_array_equal(ours[name], theirs[name])
    model.learn(120)
    assert model.replay_buffer.size() > 40 and model.replay_buffer.population_store.size() > 0


def test_buffer_that_was_not_shared_gets_a_store(tmp_path):
    tiny(vec(1), share_experience=0.0).learn(80).save_replay_buffer(tmp_path / "buffer.pkl")
    model = tiny(vec(1), share_experience=0.5)
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    model.learn(80)
    assert model.replay_buffer.population_store.size() > 0


def test_plain_agent_takes_the_buffer_of_a_hybrid(tmp_path):
    model = tiny(vec(1)).learn(100)
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    agent = SAC("MlpPolicy", vec(1), buffer_size=50, learning_starts=0, batch_size=8, policy_kwargs=dict(net_arch=[8]))
    agent.load_replay_buffer(tmp_path / "buffer.pkl")
    agent.learn(20)
    assert agent.replay_buffer.size() == model.replay_buffer.size() + 20


def test_a_buffer_can_be_handed_over():
    model, other = tiny(vec(1)).learn(100), tiny(vec(1))
    plain = ReplayBuffer(50, model.observation_space, model.action_space, device=DEVICE)
    model.replay_buffer = plain
    taken = model.agent.replay_buffer
    assert type(plain) is ReplayBuffer and isinstance(taken, SharedExperience) and isinstance(taken, ReplayBuffer)
    # They are one: whoever writes to either writes to both.
    for buffer, n_steps, reward in ((plain, 3, 1.0), (taken, 4, 2.0)):
        for _ in range(n_steps):
            observation = np.ones((1, 3), np.float32)
            buffer.add(observation, observation, np.zeros((1, 1)), np.full(1, reward), np.zeros(1), [{}])
    assert plain.size() == taken.size() == 7 and np.shares_memory(plain.observations, taken.observations)
    assert plain.rewards[:7, 0].tolist() == [1.0] * 3 + [2.0] * 4 == taken.rewards[:7, 0].tolist()
    model.learn(200, reset_num_timesteps=False)
    assert plain.size() == taken.size() > 7 and model.agent.replay_buffer is taken
    assert type(plain) is ReplayBuffer

    store = taken.population_store
    assert store.size() > 0
    other.replay_buffer = plain
    assert other.replay_buffer.population_store is store is model.replay_buffer.population_store, "a store was thrown away"


@pytest.mark.parametrize("kind", ["plain", "memory", "n-step", "dict", "her"])
def test_the_class_of_a_buffer_is_left_alone(kind):
    """Whichever one is handed over, it stays what it is, and it is what is learned from."""
    model = MODELS[kind]()
    base = type(model.replay_buffer).__mro__[2]
    own = new_buffer(model.agent, 100, 1)
    assert type(own) is base
    model.replay_buffer = own
    model.learn(80)
    assert type(own) is base and type(own).add is base.add and "add" not in vars(own)
    assert isinstance(model.agent.replay_buffer, SharedExperience)
    assert own.size() == model.agent.replay_buffer.size() > 0
    for one, other in zip(arrays(own).values(), arrays(model.agent.replay_buffer).values(), strict=True):
        assert np.shares_memory(one, other)


def test_both_stores_are_sampled_to_the_same_device():
    """A plain agent that loads a buffer moves the one that it knows."""
    buffer = pair(0.5)
    buffer.device = th.device("meta")
    assert {part.device.type for part in buffer.sample(8) if part is not None} == {"meta"}


@pytest.mark.parametrize("options", [{}, {"optimize_memory_usage": True, "handle_timeout_termination": False}], ids=str)
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("space", [BOX, spaces.Box(-1.0, 1.0, (2, 3), np.float64), spaces.Discrete(5)], ids=str)
def test_samples_are_those_of_sb3(space, n_envs, normalized, options):
    """The same rows by the same random numbers, of the same types."""
    rng = np.random.default_rng(0)
    plain = ReplayBuffer(30, space, ACTION, device=DEVICE, n_envs=n_envs, **options)
    space.seed(0)
    for _ in range(40):
        obs, next_obs = ([space.sample() for _ in range(n_envs)] for _ in range(2))
        infos = [{"TimeLimit.truncated": bool(rng.integers(2))} for _ in range(n_envs)]
        actions, rewards, dones = rng.normal(size=(n_envs, 1)), rng.normal(size=n_envs), rng.integers(2, size=n_envs)
        plain.add(np.array(obs), np.array(next_obs), actions, rewards, dones, infos)
    env = None
    if normalized and isinstance(space, spaces.Box):

        class Blank(gym.Env):
            observation_space, action_space = space, ACTION

        env = VecNormalize(DummyVecEnv([Blank]))
        env.obs_rms.update(rng.normal(size=(50, *space.shape)))
        env.ret_rms.update(rng.normal(size=50))
    ours = shared(copy.deepcopy(plain), None, 0.0)
    for seed in range(3):
        np.random.seed(seed)
        expected = plain.sample(16, env=env)
        np.random.seed(seed)
        batch = ours.sample(16, env=env)
        for name, one, other in zip(expected._fields, batch, expected, strict=True):
            assert (one is None) == (other is None), name
            if one is not None:
                assert one.dtype == other.dtype and one.shape == other.shape and one.equal(other), name
