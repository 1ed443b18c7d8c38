"""Steps of the agent by numpy: the actions of SAC's actor, and all else as ``collect_rollouts`` does it."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from helpers import Drift, make_model
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ESAC
from sb3_esac.agent.acting import BLOCK, STOCK, Acting, _Noise
from sb3_esac.agent.update_graph import GraphUpdates
from sb3_esac.agent.updates import Updates
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.statistics import Moments

needs_gpu = pytest.mark.skipif(not th.cuda.is_available(), reason="there is no GPU")
KWARGS = dict(agent_fraction=0.5, learning_starts=5, gradient_steps=1, normalize_observations=False, share_experience=0.0)


@pytest.fixture(params=["by hand", "call by call", pytest.param("graph", marks=needs_gpu)])
def device(request, monkeypatch):
    """Where networks are, for each of the ways to compute updates; "call by call" is what a graph does, on the CPU."""
    if request.param == "call by call":
        monkeypatch.setattr("sb3_esac.agent.updates.fast_updates", GraphUpdates)
    return "cuda" if request.param == "graph" else "cpu"


def make_agent(n_envs=1, device="cpu", **kwargs):
    arguments = dict(buffer_size=500, learning_starts=0, seed=0, device=device, policy_kwargs=dict(net_arch=[8, 4]))
    agent = SAC("MlpPolicy", make_vec_env(lambda: Drift(n_actions=2), n_envs), **{**arguments, **kwargs})
    agent.set_logger(Logger(None, []))
    agent._last_obs = agent.env.reset()
    return agent


def make_acting(agent, generation=0):
    acting = Acting(agent, Updates(agent, "auto"))
    acting.begin(7, generation)
    return acting


def expected_actions(agent, noise):
    """By torch: SB3's actor, and the noise that was drawn."""
    with th.no_grad():
        mean, log_std, _ = agent.actor.get_action_dist_params(th.as_tensor(agent._last_obs, device=agent.device))
        return th.tanh(mean + log_std.exp() * th.as_tensor(noise, device=agent.device)).cpu().numpy()


def normalize(policy):
    for module in policy.modules():
        if isinstance(module, ObservationNormalizer):
            module.set_moments({"": Moments(50.0, np.array([0.5, -0.25, 1.0]), np.array([4.0, 0.25, 1.0]))})


NETWORKS = {
    "relu": {},
    "tanh": dict(activation_fn=th.nn.Tanh),
    "no layer": dict(net_arch=dict(pi=[], qf=[4])),
    "normalized": dict(features_extractor_class=ObservationNormalizer),
}


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_actions_are_those_of_the_actor(network, n_envs, device):
    agent = make_agent(n_envs, device, policy_kwargs={"net_arch": [8, 4], **NETWORKS[network]})
    normalize(agent.policy)
    acting, twin = make_acting(agent), _Noise(7, 0)
    for _ in range(3):
        actions, scaled = acting._act()
        expected = expected_actions(agent, twin.next(n_envs, 2))
        np.testing.assert_allclose(scaled, expected, atol=1e-6)
        # The environment's bounds are -2 and 2.
        np.testing.assert_allclose(actions, 2 * expected, atol=2e-6)
        assert actions.shape == (n_envs, 2) and actions.dtype == scaled.dtype == np.float32
        agent._last_obs = agent.env.step(actions)[0]


NORMALIZED = dict(net_arch=[8], features_extractor_class=ObservationNormalizer)


def learn(agent, acting):
    agent._current_progress_remaining = 1.0
    agent.replay_buffer.add(agent._last_obs, agent._last_obs, np.zeros((1, 2)), np.ones(1), np.zeros(1), [{}])
    acting.updates.train(1, 8)


def load(agent, acting):
    agent.set_parameters(make_agent(seed=5, policy_kwargs=NORMALIZED).get_parameters())


def fill(agent, acting):
    agent.actor.mu.bias.data.fill_(0.3)


def replace(agent, acting):
    agent.actor.mu.bias.data = th.full_like(agent.actor.mu.bias.data, 0.3)


def normalize_anew(agent, acting):
    normalize(agent.policy)


@pytest.mark.parametrize("change", [learn, load, fill, replace, normalize_anew])
def test_it_is_the_actor_as_it_is_now(change, device):
    agent = make_agent(device=device, policy_kwargs=NORMALIZED)
    acting, twin = make_acting(agent), _Noise(7, 0)
    acting._act(), twin.next(1, 2)
    before = expected_actions(agent, np.zeros((1, 2), np.float32))
    change(agent, acting)
    assert not np.allclose(before, expected_actions(agent, np.zeros((1, 2), np.float32)), atol=1e-5)
    np.testing.assert_allclose(acting._act()[1], expected_actions(agent, twin.next(1, 2)), atol=1e-6)


def test_noise_is_a_matter_of_seed_and_generation():
    """Not of what else is drawn, nor of the block that a step is in."""

    def drawn(run_seed, generation):
        source = _Noise(run_seed, generation)
        return np.array([source.next(1, 2)[0] for _ in range(2 * BLOCK + 1)])

    first = drawn(1, 0)
    np.random.seed(99)
    th.manual_seed(99)
    np.testing.assert_array_equal(first, drawn(1, 0))
    for other in (drawn(2, 0), drawn(1, 1)):
        assert not np.isclose(first, other).any(axis=1).any()
    assert len(np.unique(first[:, 0])) == len(first)
    assert abs(first.mean()) < 0.15 and abs(first.std() - 1) < 0.1


@pytest.mark.parametrize("n_envs", [1, 2])
def test_action_noise_is_added_and_begins_anew_with_episodes(n_envs):
    class Offset(NormalActionNoise):
        resets = 0

        def __call__(self):
            return np.full(2, 0.5)

        def reset(self):
            type(self).resets += 1

    agent = make_agent(n_envs, action_noise=Offset(np.zeros(2), np.ones(2)), train_freq=(20, "step"))
    acting, twin = make_acting(agent), _Noise(7, 0)
    acting.collect(listener(agent, None))
    n_episodes = agent._episode_num
    assert n_episodes > 0 and Offset.resets >= n_episodes
    for _ in range(20):
        noise = twin.next(n_envs, 2)
    agent._last_obs[:] = 0.1
    expected = np.clip(expected_actions(agent, twin.next(n_envs, 2)) + 0.5, -1, 1)
    assert noise.shape == (n_envs, 2)
    np.testing.assert_allclose(acting._act()[1], expected, atol=1e-6)


def test_nan_is_reported_as_by_sb3():
    agent = make_agent()
    agent.actor.mu.bias.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="Normal"):
        make_acting(agent)._act()


class Remembers(BaseCallback):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__()
        self.told, self.names, self.hooks = [], set(), []

    def _on_rollout_start(self):
        self.hooks.append("start")

    def _on_rollout_end(self):
        self.hooks.append("end")

    def _on_step(self):
        self.names |= set(self.locals)
        rows = [np.array(self.locals[name]) for name in ("actions", "buffer_actions", "new_obs", "rewards", "dones")]
        self.told.append([*rows, self.num_timesteps, self.locals["num_collected_steps"], self.locals["infos"][0].keys()])
        return True


def listener(agent, callback):
    """What a model would give the learner."""
    callback = ConvertCallback(None) if callback is None else callback
    callback.init_callback(agent)
    agent.start_time, agent._total_timesteps = 0, 1000
    if agent.ep_info_buffer is None:
        agent._setup_learn(1000, None)
        agent.num_timesteps = 0

    class Base:
        def lent_out(self):
            return np.errstate()

    return StepListener(callback, agent, SimpleNamespace(seconds={"callback": 0.0}, base=Base()))


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("n_envs, train_freq", [(1, (30, "step")), (2, (30, "step")), (1, (3, "episode"))])
def test_all_else_is_as_in_collect_rollouts(n_envs, train_freq, normalized):
    """Given the same actions: buffer, counters, what callbacks are told, and where the environment stands."""
    found = []
    for by_sb3 in (False, True):
        env = make_vec_env(lambda: Drift(n_actions=2), n_envs, seed=0)
        env = VecNormalize(env) if normalized else env
        agent = SAC("MlpPolicy", env, buffer_size=500, learning_starts=0, seed=0, device="cpu", train_freq=train_freq)
        agent.set_logger(Logger(None, []))
        callback = Remembers()
        acting = make_acting(agent)
        heard = listener(agent, callback)
        agent._last_obs = env.reset()
        agent._last_original_obs = env.get_original_obs() if normalized else None
        rng = np.random.default_rng(3)

        def act(*args, rng=rng, n_envs=n_envs, **options):
            scaled = rng.uniform(-1, 1, (n_envs, 2)).astype(np.float32)
            return 2 * scaled, scaled

        if by_sb3:
            agent._sample_action = act
            assert acting._find_policy() is None
        else:
            acting._act = act
            assert acting._find_policy() is not None
        rollout = acting.collect(heard)
        found.append((agent, callback, rollout))
    (ours, told, one), (theirs, expected, other) = found
    assert one == other
    assert (ours.num_timesteps, ours._episode_num) == (theirs.num_timesteps, theirs._episode_num)
    assert ours._current_progress_remaining == theirs._current_progress_remaining
    assert [info["r"] for info in ours.ep_info_buffer] == [info["r"] for info in theirs.ep_info_buffer] != []
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(ours.replay_buffer, name), getattr(theirs.replay_buffer, name))
    assert ours.replay_buffer.pos == theirs.replay_buffer.pos > 0
    np.testing.assert_array_equal(ours._last_obs, theirs._last_obs)
    assert told.hooks == expected.hooks == ["start", "end"]
    # The others are left over from a loop.
    assert expected.names - told.names <= {"continue_training", "idx", "done", "kwargs"}
    assert len(told.told) == len(expected.told)
    for left, right in zip(told.told, expected.told, strict=True):
        for a, b in zip(left, right, strict=True):
            np.testing.assert_array_equal(a, b) if isinstance(a, np.ndarray) else None
            assert isinstance(a, np.ndarray) or a == b


def test_a_callback_stops_at_once():
    class Stop(BaseCallback):
        def _on_step(self):
            return self.n_calls < 3

    agent = make_agent(train_freq=(10, "step"))
    rollout = make_acting(agent).collect(listener(agent, Stop()))
    assert not rollout.continue_training and agent.num_timesteps == 3
    # As in SB3, the step that stopped is not stored.
    assert agent.replay_buffer.size() == 2


class Own(SAC):
    def _sample_action(self, *args, **kwargs):
        return super()._sample_action(*args, **kwargs)


@pytest.mark.parametrize(
    "arguments",
    [
        dict(updates="stock"),
        dict(updates="auto", use_sde=True),
        dict(updates="auto", agent_class=TD3),
        dict(updates="auto", agent_class=Own),
    ],
    ids=["stock", "gSDE", "TD3", "own"],
)
def test_who_is_left_to_sb3(arguments, monkeypatch):
    """Their own ``collect_rollouts`` plays."""
    model = make_model(ESAC, Drift(), **{**KWARGS, **arguments}, seed=0).learn(60)
    assert model.learner._acting._policy is None and model.agent.num_timesteps > 0


def test_who_is_not():
    model = make_model(ESAC, Drift(), **KWARGS, updates="auto", seed=0).learn(60)
    assert model.learner._acting._policy is not None and model.agent.num_timesteps > 0


@pytest.mark.parametrize("name", STOCK)
def test_methods_of_the_users_are_kept(name):
    agent = make_agent()
    setattr(agent, name, getattr(agent, name))
    assert make_acting(agent)._find_policy() is None


@pytest.mark.parametrize("name", ["policy", "actor", "actor.mu", "actor.features_extractor"])
def test_networks_of_the_users_are_asked(name):
    """Whether their forward has been replaced or is listened to, before a run or within it."""
    agent = make_agent()
    acting, asked = make_acting(agent), []
    module = functools.reduce(getattr, name.split("."), agent)
    kept = "_predict" if name == "policy" else "forward"
    method = getattr(module, kept)
    assert acting._find_policy() is not None
    setattr(module, kept, lambda *args, **kwargs: asked.append(name) or method(*args, **kwargs))
    assert acting._find_policy() is None and make_acting(agent)._find_policy() is None
    agent._sample_action(0, None, 1)
    assert asked == [name]
    delattr(module, kept)
    assert acting._find_policy() is not None
    module.register_forward_hook(lambda *_: None)
    assert acting._find_policy() is None


def test_random_play_comes_first():
    """Up to ``learning_starts`` by the action space's generator, as in SB3."""
    agent = make_agent(learning_starts=3)
    acting = make_acting(agent)
    agent.action_space.seed(1)
    expected = agent.action_space.sample()
    agent.action_space.seed(1)
    np.testing.assert_allclose(acting._act()[0][0], expected, rtol=1e-6)


def test_who_listens_does_not_matter():
    """Where nobody hears of steps the agent is trusted to be as it was left."""

    class Nobody(BaseCallback):
        def _on_step(self):
            return True

    runs = [make_model(ESAC, Drift(), **KWARGS, updates="auto", seed=4).learn(150, callback=each) for each in (None, Nobody())]
    one, other = (run.get_parameters() for run in runs)
    for name, value in one["agent.policy"].items():
        assert th.equal(value, other["agent.policy"][name])
    assert runs[0].agent._n_updates == runs[1].agent._n_updates > 0


def test_a_callback_may_change_the_agent_between_updates():
    """Whoever hears of steps can freeze a layer: from then on SB3's `train` is used."""

    class Freeze(BaseCallback):
        def _on_step(self):
            agent = self.model.agent
            if agent._n_updates == 10:
                agent.actor.mu.bias.requires_grad_(False)
                self.kept = agent.actor.mu.bias.clone()
            return True

    callback = Freeze()
    model = make_model(ESAC, Drift(), **KWARGS, updates="auto", seed=4).learn(150, callback=callback)
    assert model.agent._n_updates > 10
    assert th.equal(model.agent.actor.mu.bias, callback.kept) and not model.learner.updates_are_fast
