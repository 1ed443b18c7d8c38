"""The gradient agent: other off-policy algorithms, warm start from a plain zip, export to one."""

import numpy as np
import pytest
import torch as th
from helpers import DEVICE
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from support import DictWalk, in_plain_process, is_finite, judgements, tiny, vec

from sb3_esac import ESAC
from sb3_esac.evaluation.vectors import to_vector

AGENTS = [SAC, TD3, DDPG, TQC, CrossQ]
OBSERVATIONS = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)


def same_predictions(one, other, observations=OBSERVATIONS):
    np.testing.assert_array_equal(
        one.predict(observations, deterministic=True)[0], other.predict(observations, deterministic=True)[0]
    )


def same_moments(one, other):
    """Compare what optimisers remember, and that they remember something."""
    one, other = one.state_dict()["state"], other.state_dict()["state"]
    assert one and one.keys() == other.keys()
    for key, moments in one.items():
        for name, value in moments.items():
            assert th.equal(th.as_tensor(value).cpu(), th.as_tensor(other[key][name]).cpu()), name


# -- other classes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent_class", AGENTS)
def test_learn_save_load_predict(agent_class, tmp_path):
    model = tiny(vec(1), agent_class=agent_class).learn(150)
    assert type(model.agent) is agent_class
    assert model._n_updates > 0 and model.agent_timesteps > 0 and model.population_timesteps > 0
    assert is_finite(model)
    for deploy in ("best", "agent", "population"):
        model.deploy = deploy
        actions = model.predict(OBSERVATIONS, deterministic=True)[0]
        assert actions.shape == (20, 1) and np.abs(actions).max() <= 1
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", env=vec(1), device=DEVICE)
    assert type(loaded.agent) is agent_class and loaded._n_updates == model._n_updates
    for deploy in ("best", "agent", "population"):
        model.deploy = loaded.deploy = deploy
        same_predictions(model, loaded)
    same_moments(model.agent.critic.optimizer, loaded.agent.critic.optimizer)
    updates = loaded._n_updates
    loaded.learn(300, reset_num_timesteps=False)
    assert loaded._n_updates > updates and is_finite(loaded)


def test_adam_is_fused_unless_the_user_says_which_optimiser():
    def fused(**kwargs):
        return tiny(vec(1), **kwargs).agent.actor.optimizer.param_groups[0].get("fused")

    assert fused() and not fused(agent_class=TD3)
    for optimizer in ({"optimizer_class": th.optim.RMSprop}, {"optimizer_kwargs": {"eps": 1e-5}}):
        assert not fused(policy_kwargs={"net_arch": [8], **optimizer})


def test_the_agent_is_what_the_model_shows():
    model = tiny(vec(1))
    agent = model.agent
    for name in ("policy", "actor", "critic", "critic_target", "replay_buffer", "log_ent_coef", "ent_coef_optimizer"):
        assert getattr(model, name) is getattr(agent, name), name
    fixed = tiny(vec(1), ent_coef=0.1)
    assert fixed.log_ent_coef is None and fixed.ent_coef_optimizer is None
    deterministic = tiny(vec(1), agent_class=TD3)
    assert deterministic.log_ent_coef is None and not hasattr(tiny(vec(1), agent_class=CrossQ), "critic_target")


def test_agent_kwargs_reach_the_agent(tmp_path):
    model = tiny(vec(1), agent_class=TD3, agent_kwargs=dict(policy_delay=5, target_policy_noise=0.3))
    assert model.agent.policy_delay == 5 and model.agent.target_policy_noise == 0.3
    model.save(tmp_path / "model.zip")
    assert ESAC.load(tmp_path / "model.zip").agent.policy_delay == 5
    kwargs = dict(top_quantiles_to_drop_per_net=1)
    assert tiny(vec(1), agent_class=TQC, agent_kwargs=kwargs).agent.top_quantiles_to_drop_per_net == 1
    assert kwargs == dict(top_quantiles_to_drop_per_net=1)


@pytest.mark.parametrize("train_freq", [3, (2, "step"), (1, "episode")])
def test_train_freq_is_saved_and_loaded(train_freq, tmp_path):
    model = tiny(vec(1), train_freq=train_freq)
    model.save(tmp_path / "model.zip")
    loaded = ESAC.load(tmp_path / "model.zip", env=vec(1), device=DEVICE)
    assert loaded.agent.train_freq == model.agent.train_freq
    loaded.learn(80)
    loaded.save(tmp_path / "again.zip")
    assert ESAC.load(tmp_path / "again.zip").agent.train_freq == model.agent.train_freq


def test_arguments_reach_the_agent():
    model = tiny(vec(1), gamma=0.9, tau=0.1, ent_coef=0.3, target_update_interval=3, train_freq=(2, "step"))
    agent = model.agent
    assert (agent.gamma, agent.tau, agent.ent_coef, agent.target_update_interval) == (0.9, 0.1, 0.3, 3)
    assert agent.train_freq.frequency == 2 and agent.batch_size == 8 and agent.buffer_size == 600
    noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1))
    model = tiny(vec(2), agent_class=TD3, action_noise=noise, gamma=0.8, policy_kwargs=dict(net_arch=dict(pi=[4], qf=[6])))
    model.learn(100)
    assert model.agent.gamma == 0.8
    assert model.actor.mu[0].out_features == 4 and model.critic.q_networks[0][0].out_features == 6


@pytest.mark.parametrize(
    "agent_class, kwargs",
    [
        (TD3, dict(ent_coef=0.2)),
        (TD3, dict(use_sde=True)),
        (DDPG, dict(target_entropy=-1.0)),
        (DDPG, dict(target_update_interval=2)),
        (CrossQ, dict(tau=0.1)),
    ],
)
def test_arguments_that_the_class_lacks_are_refused(agent_class, kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=rf"`{name}=.*agent_class={agent_class.__name__}"):
        tiny(vec(1), agent_class=agent_class, **kwargs)


@pytest.mark.parametrize("agent_class, taken", [(TD3, "policy_delay"), (TQC, "top_quantiles"), (SAC, "no others")])
def test_unknown_agent_kwargs_are_refused(agent_class, taken):
    with pytest.raises(ValueError, match=rf"agent_kwargs.*'policy_dealy'.*{taken}"):
        tiny(vec(1), agent_class=agent_class, agent_kwargs=dict(policy_dealy=2))


@pytest.mark.parametrize("agent_class", [PPO, A2C, DQN, None, "SAC", SAC("MlpPolicy", "Pendulum-v1", buffer_size=10)])
def test_what_is_not_off_policy_is_refused(agent_class):
    with pytest.raises(ValueError, match=r"`agent_class` must be an off-policy algorithm"):
        tiny(vec(1), agent_class=agent_class)


class Careful(SAC):
    """A subclass that hands its arguments on."""

    def __init__(self, *args, caution=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.caution = caution


def test_subclass_that_hands_arguments_on():
    model = tiny(vec(1), agent_class=Careful, agent_kwargs=dict(caution=2.0), gamma=0.9).learn(80)
    assert type(model.agent) is Careful and model.agent.caution == 2.0 and model.agent.gamma == 0.9


# -- warm start ---------------------------------------------------------------------------------------------------------


def plain(tmp_path, kind=SAC, policy="MlpPolicy", env=None, steps=60, **kwargs):
    """Train and save a plain agent."""
    settings = dict(policy_kwargs=dict(net_arch=[8]), buffer_size=200, learning_starts=10, batch_size=8, device=DEVICE, seed=3)
    agent = kind(policy, vec(1) if env is None else env, **{**settings, **kwargs}).learn(steps)
    agent.save(tmp_path / "plain.zip")
    return agent, tmp_path / "plain.zip"


POPULATION = dict(population_size=4, agent_fraction=0.3, champion_episodes=2, device=DEVICE, seed=5, backend="lockstep")


def test_warm_start_is_the_plain_agent(tmp_path):
    agent, path = plain(tmp_path, learning_rate=2e-3, gamma=0.95, train_freq=2, tau=0.02)
    content = path.read_bytes()
    model = ESAC.from_agent(path, vec(1), **POPULATION)
    assert type(model) is ESAC and type(model.agent) is SAC
    same_predictions(model, agent)
    same_predictions(model.agent, agent)
    for ours, theirs in zip(judgements(model.agent, OBSERVATIONS), judgements(agent, OBSERVATIONS), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    same_moments(model.actor.optimizer, agent.actor.optimizer)
    same_moments(model.critic.optimizer, agent.critic.optimizer)
    same_moments(model.ent_coef_optimizer, agent.ent_coef_optimizer)
    assert th.equal(model.log_ent_coef, agent.log_ent_coef) and agent.log_ent_coef.item() != 0
    assert (model.gamma, model.learning_rate, model.tau, model.batch_size, model.buffer_size) == (0.95, 2e-3, 0.02, 8, 200)
    assert model.agent.train_freq == agent.train_freq
    np.testing.assert_array_equal(model.population.mean, to_vector(agent.actor))
    np.testing.assert_array_equal(model.population.members, np.tile(to_vector(agent.actor), (4, 1)))
    assert model.num_timesteps == 0
    assert path.read_bytes() == content


def test_warm_start_trains_on(tmp_path):
    agent, path = plain(tmp_path)
    model = ESAC.from_agent(path, vec(1), **POPULATION)
    before = to_vector(agent.actor)
    model.learn(200)
    assert model._n_updates > 0 and not np.array_equal(to_vector(model.actor), before)
    assert model.log_ent_coef.item() != agent.log_ent_coef.item()
    np.testing.assert_array_equal(to_vector(agent.actor), before)
    model.save(tmp_path / "model.zip")
    same_predictions(ESAC.load(tmp_path / "model.zip", device=DEVICE), model)


def test_warm_start_with_other_arguments(tmp_path):
    _, path = plain(tmp_path)
    model = ESAC.from_agent(path, vec(1), **POPULATION, gamma=0.5, buffer_size=77, sigma=0.3)
    assert (model.agent.gamma, model.agent.buffer_size, model.population.sigma) == (0.5, 77, 0.3)
    with pytest.raises(ValueError, match=r"normalize_observations.*must be False"):
        ESAC.from_agent(path, vec(1), **POPULATION, normalize_observations=True)


@pytest.mark.parametrize(
    "kind, kwargs",
    [
        (SAC, dict(ent_coef=0.2)),
        (SAC, dict(ent_coef="auto_0.5", target_entropy=-2.0)),
        (SAC, dict(use_sde=True, sde_sample_freq=4)),
        (SAC, dict(n_steps=3)),
        (SAC, dict(policy_kwargs=dict(net_arch=dict(pi=[5], qf=[7]), activation_fn=th.nn.Tanh, n_critics=1))),
        (SAC, dict(policy_kwargs=None)),
        (TD3, dict(policy_delay=3, target_policy_noise=0.1)),
        (TQC, dict(top_quantiles_to_drop_per_net=1, policy_kwargs=dict(net_arch=[8], n_quantiles=7))),
        (CrossQ, dict()),
    ],
)
def test_warm_start_from_other_agents(kind, kwargs, tmp_path, recwarn):
    agent, path = plain(tmp_path, kind, steps=40, **kwargs)
    recwarn.clear()
    kind.load(path)
    known = {str(warning.message) for warning in recwarn}
    model = ESAC.from_agent(path, vec(1), agent_class=kind, **POPULATION)
    model.save(tmp_path / "model.zip")
    n_warnings = len(recwarn)
    ESAC.load(tmp_path / "model.zip")
    assert {str(warning.message) for warning in recwarn} == known, "not more than the class itself has to say"
    assert len(recwarn) == n_warnings, "and that only once"
    same_predictions(model, agent)
    for name in ("ent_coef", "target_entropy", "use_sde", "sde_sample_freq", "n_steps", "policy_delay", "target_policy_noise"):
        if hasattr(agent, name):
            assert getattr(model.agent, name) == getattr(agent, name), name
    if kind is TQC:
        assert model.agent.top_quantiles_to_drop_per_net == 1
    assert type(model.agent.replay_buffer).__mro__[2] is type(agent.replay_buffer)
    model.learn(100)
    assert is_finite(model)


def test_warm_start_from_an_agent_with_hindsight(tmp_path):
    def goals():
        return DummyVecEnv([lambda: Monitor(BitFlippingEnv(n_bits=4, continuous=True, max_steps=6))])

    hindsight = dict(replay_buffer_class=HerReplayBuffer, replay_buffer_kwargs=dict(n_sampled_goal=2))
    agent, path = plain(tmp_path, SAC, "MultiInputPolicy", goals(), **hindsight)
    model = ESAC.from_agent(path, goals(), **POPULATION)
    same_predictions(model, agent, goals().reset())
    assert isinstance(model.replay_buffer, HerReplayBuffer) and model.replay_buffer.n_sampled_goal == 2
    assert model.replay_buffer.size() == 0 and model.replay_buffer.env is model.env
    model.learn(100)
    assert model._n_updates > 0


def test_warm_start_with_dict_observations(tmp_path):
    agent, path = plain(tmp_path, SAC, "MultiInputPolicy", vec(1, DictWalk))
    model = ESAC.from_agent(path, vec(1, DictWalk), **POPULATION)
    observation = vec(1, DictWalk).reset()
    same_predictions(model, agent, observation)
    model.learn(100)


# -- export -------------------------------------------------------------------------------------------------------------


def test_exported_agents_need_no_esac(tmp_path):
    models, files = {}, {}
    for kind in AGENTS:
        noise = NormalActionNoise(np.zeros(1), np.full(1, 0.1)) if kind is TD3 else None
        extra = dict(n_steps=2) if kind is SAC else {}
        model = tiny(vec(2), agent_class=kind, action_noise=noise, **extra).learn(150)
        model.agent.save(tmp_path / kind.__name__)
        models[kind.__name__], files[kind.__name__] = model, (kind, str(tmp_path / kind.__name__))
    del files["CrossQ"]  # it has no target critic; loaded below
    for name, (actions, judged) in in_plain_process(tmp_path, files, OBSERVATIONS).items():
        agent = models[name].agent
        np.testing.assert_allclose(actions, agent.predict(OBSERVATIONS, deterministic=True)[0], atol=1e-6, err_msg=name)
        for ours, theirs in zip(judgements(agent, OBSERVATIONS), judged, strict=True):
            np.testing.assert_allclose(theirs, ours, atol=1e-5, err_msg=name)
    same_predictions(CrossQ.load(tmp_path / "CrossQ", device=DEVICE), models["CrossQ"].agent)


def test_exported_agent_comes_back_as_a_warm_start(tmp_path):
    model = tiny(vec(1)).learn(150)
    model.agent.save(tmp_path / "agent.zip")
    again = ESAC.from_agent(tmp_path / "agent.zip", vec(1), **POPULATION)
    same_predictions(again, model.agent)
    same_moments(again.critic.optimizer, model.critic.optimizer)
    agent = SAC.load(tmp_path / "agent.zip", env=vec(1), device=DEVICE)
    same_predictions(agent, model.agent)
    agent.learn(40)
    assert to_vector(agent.actor).shape == model.population.mean.shape
