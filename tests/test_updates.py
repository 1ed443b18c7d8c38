"""Updates by hand are SAC's: gradients against autograd, steps against ``SAC.train``, and when they are left to it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from helpers import SMALL, Drift, make_model
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sb3_esac import ESAC
from sb3_esac.agent.updates import FastUpdates, Updates, reason_for_stock
from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.statistics import Moments

NORMALIZER = dict(features_extractor_class=ObservationNormalizer)


def make_agent(env=None, *, n_collected=100, **kwargs):
    """A SAC with something in its buffer and no updates."""
    arguments = dict(buffer_size=500, learning_starts=1000, seed=0, device="cpu", policy_kwargs=dict(net_arch=[8]))
    agent = SAC("MlpPolicy", Drift(n_actions=2) if env is None else env, **{**arguments, **kwargs})
    agent.learn(n_collected)
    set_statistics(agent.policy)
    return agent


def set_statistics(policy):
    generator = np.random.default_rng(0)
    for module in policy.modules():
        if isinstance(module, ObservationNormalizer):
            # The target's, too: each network has its own.
            module.set_moments({"": Moments(50.0, generator.normal(size=3), generator.uniform(0.5, 2.0, size=3))})


def optimizers(agent):
    found = {"actor": agent.actor.optimizer, "critic": agent.critic.optimizer, "entropy": agent.ent_coef_optimizer}
    return {name: optimizer for name, optimizer in found.items() if optimizer is not None}


def tensors(agent):
    """Every tensor of the policy and the optimisers, copied."""
    found = dict(agent.policy.state_dict())
    for name, optimizer in optimizers(agent).items():
        for index, state in optimizer.state_dict()["state"].items():
            found |= {f"{name}.{index}.{key}": value for key, value in state.items()}
    if agent.log_ent_coef is not None:
        found["log_ent_coef"] = agent.log_ent_coef.data
    return {name: value.clone() for name, value in found.items()}


def train(agent, kind, n_updates, batch_size=32):
    """Draw the same numbers whatever is run; return what there is to compare."""
    updates = Updates(agent, kind)
    assert updates.is_fast == (kind == "auto"), updates.reason
    agent.set_logger(Logger(None, []))
    np.random.seed(3)
    th.manual_seed(3)
    updates.train(n_updates, batch_size)
    assert updates.is_fast == (kind == "auto"), updates.reason
    return tensors(agent), dict(agent.logger.name_to_value), (np.random.rand(), float(th.rand(1)))


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = max(float(value.abs().max()), 1e-6)
        assert float((value - other[name]).abs().max()) <= tolerance * scale, name


# -- gradients -------------------------------------------------------------------------------------------------------------

widths = st.lists(st.integers(1, 7), max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    widths,
    widths,
    st.integers(1, 4),
    st.integers(1, 3),
    st.sampled_from([th.nn.ReLU, th.nn.Tanh]),
    st.booleans(),
    st.sampled_from(["auto", 0.3]),
    st.integers(1, 9),
    st.integers(0, 1000),
)
def test_gradients(actor, critic, n_critics, n_actions, activation, normalized, ent_coef, n_rows, seed):
    """Those of the three losses are autograd's, for any architecture."""
    arch = dict(net_arch=dict(pi=actor, qf=critic), n_critics=n_critics, activation_fn=activation)
    arguments = dict(buffer_size=10, device="cpu", learning_rate=0.0, tau=0.0, ent_coef=ent_coef, seed=seed)
    kwargs = arch | (NORMALIZER if normalized else {})
    agent = SAC("MlpPolicy", Drift(n_actions=n_actions), policy_kwargs=kwargs, **arguments)
    set_statistics(agent.policy)
    for network in (agent.actor, agent.critic, agent.critic_target):
        for parameter in network.parameters():
            parameter.data = parameter.data.double() + 0.3 * th.randn(parameter.shape, dtype=th.float64)
    # Some of the logarithms are clamped.
    agent.actor.log_std.bias.data += 2.0
    if agent.log_ent_coef is not None:
        agent.log_ent_coef.data = th.tensor([-0.7], dtype=th.float64)
    names = dict(observations=3, next_observations=3, actions=n_actions, rewards=1, discounts=1)
    data = {name: th.randn(n_rows, size, dtype=th.float64) for name, size in names.items()}
    data = SimpleNamespace(**data, dones=th.randint(0, 2, (n_rows, 1)).double())
    agent.replay_buffer = SimpleNamespace(sample=lambda batch_size, env: data)
    agent.set_logger(Logger(None, []))
    fast = FastUpdates(agent)
    fast.train(1, n_rows)
    losses = reference_losses(agent, data, fast._batch.noise)
    of_entropy = fast.entropy_adam
    for adam, loss in zip((fast.actor_adam, fast.critic_adam, of_entropy), losses, strict=True):
        if adam is None:
            continue
        tensors = adam.tensors
        expected = th.autograd.grad(loss, tensors, retain_graph=True)
        # A place in the array of gradients is the place of the parameter in the array of parameters.
        for tensor, gradient, view in zip(tensors, expected, adam_views(adam, fast), strict=True):
            assert gradient.shape == tensor.shape == view.shape
            np.testing.assert_allclose(view.numpy(), gradient.numpy(), rtol=1e-9, atol=1e-9)
    logged = agent.logger.name_to_value
    for name, loss in zip(("actor_loss", "critic_loss", "ent_coef_loss"), losses, strict=True):
        if f"train/{name}" in logged:
            assert logged[f"train/{name}"] == pytest.approx(loss.item(), rel=1e-9, abs=1e-9)


def adam_views(adam, fast):
    layouts = {id(memory.flat): memory.layout for memory in fast._shared}
    return layouts[id(adam.parameters)].views(adam.gradient)


def reference_losses(agent, data, noise):
    """The losses in double precision by torch, in SB3's words; None for the entropy's if its coefficient is fixed."""
    actor, n_rows = agent.actor, len(data.rewards)

    def features(part, observations):
        extractor = part.features_extractor
        if not isinstance(extractor, ObservationNormalizer):
            return observations
        return (observations - extractor.mean.float()) / extractor.var.sqrt().float()

    def act(observations, noise):
        latent = actor.latent_pi(features(actor, observations))
        distribution = SquashedDiagGaussianDistribution(noise.shape[1])
        mean, log_std = actor.mu(latent), th.clamp(actor.log_std(latent), -20, 2)
        distribution.proba_distribution(mean, log_std)
        u = mean + log_std.exp() * noise
        return th.tanh(u), distribution.log_prob(th.tanh(u), u).reshape(-1, 1)

    def judge(part, observations, actions):
        inputs = th.cat([features(part, observations), actions], dim=1)
        return th.cat([network(inputs) for network in part.q_networks], dim=1)

    actions, log_prob = act(data.observations, noise[:n_rows])
    entropy = None
    ent_coef = agent.ent_coef_tensor if agent.log_ent_coef is None else th.exp(agent.log_ent_coef.detach())
    if agent.log_ent_coef is not None:
        entropy = -(agent.log_ent_coef * (log_prob + agent.target_entropy).detach()).mean()
    with th.no_grad():
        next_actions, next_log_prob = act(data.next_observations, noise[n_rows:])
        next_q = judge(agent.critic_target, data.next_observations, next_actions).min(dim=1, keepdim=True).values
        targets = data.rewards + (1 - data.dones) * data.discounts * (next_q - ent_coef * next_log_prob)
    q_values = judge(agent.critic, data.observations, data.actions)
    of_critic = 0.5 * ((q_values - targets) ** 2).mean(dim=0).sum()
    least = judge(agent.critic, data.observations, actions).min(dim=1, keepdim=True).values
    return (ent_coef * log_prob - least).mean(), of_critic, entropy


# -- steps -----------------------------------------------------------------------------------------------------------------

CASES = {
    "plain": dict(),
    "networks of ESAC": dict(policy_kwargs=dict(net_arch=dict(pi=[64, 64], qf=[128, 128]), optimizer_kwargs=dict(fused=True))),
    "n-step": dict(n_steps=3),
    "normaliser": dict(policy_kwargs=dict(net_arch=[8], **NORMALIZER)),
    "fixed entropy": dict(ent_coef=0.2),
    "tanh": dict(policy_kwargs=dict(net_arch=[8, 8], activation_fn=th.nn.Tanh)),
    "three critics": dict(policy_kwargs=dict(net_arch=[8], n_critics=3)),
    "one critic": dict(policy_kwargs=dict(net_arch=[8], n_critics=1)),
    "linear": dict(policy_kwargs=dict(net_arch=[])),
    "deep": dict(policy_kwargs=dict(net_arch=[8, 9, 10])),
    "rare targets": dict(target_update_interval=2, tau=0.1, gamma=0.9),
    "shared extractor": dict(policy_kwargs=dict(net_arch=[8], share_features_extractor=True)),
    "other Adam": dict(policy_kwargs=dict(net_arch=[8], optimizer_kwargs=dict(betas=(0.8, 0.99), eps=1e-4))),
    "schedule": dict(learning_rate=lambda remaining: 1e-3 * remaining),
    "lanes": dict(env=lambda: DummyVecEnv([Drift, Drift])),
    "VecNormalize": dict(env=lambda: VecNormalize(DummyVecEnv([Drift]))),
    "memory": dict(optimize_memory_usage=True, replay_buffer_kwargs=dict(handle_timeout_termination=False)),
}


@pytest.mark.parametrize("n_updates, tolerance", [(1, 1e-5), (200, 1e-3)])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, n_updates, tolerance):
    """After the same batches and noise every tensor is what it is after ``SAC.train``, and so is the log."""
    case = dict(CASES[name])
    make_env = case.pop("env", lambda: None)
    stock, logged, drawn = train(make_agent(make_env(), **case), "stock", n_updates)
    agent = make_agent(make_env(), **case)
    fast, fast_logged, fast_drawn = train(agent, "auto", n_updates)
    assert_close(stock, fast, tolerance)
    assert drawn == fast_drawn, "other random numbers"
    assert logged.keys() == fast_logged.keys() and agent._n_updates == n_updates
    assert logged == pytest.approx(fast_logged, rel=tolerance, abs=1e-5)


def test_shared_experience():
    found = []
    for kind in ("stock", "auto"):
        model = make_model(ESAC, Drift(), seed=0, updates="stock", share_experience=0.5, share_from="all").learn(300)
        assert model.replay_buffer.population_store.size() > 0
        found.append(train(model.agent, kind, 5)[0])
    assert_close(*found, 1e-4)


def test_turns():
    """The optimisers' state is one truth: SB3's own updates go on from it, and the other way round."""
    found = []
    for kinds in (("stock", "stock", "stock"), ("auto", "stock", "auto")):
        agent = make_agent()
        for kind in kinds:
            state = train(agent, kind, 5)[0]
        found.append(state)
    assert_close(*found, 1e-4)
    assert {float(value) for name, value in found[1].items() if name.endswith("step")} == {15.0}


def test_batch_size_may_change():
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent()
        updates = Updates(agent, kind)
        agent.set_logger(Logger(None, []))
        np.random.seed(0)
        th.manual_seed(0)
        for batch_size in (8, 32, 1, 8):
            updates.train(2, batch_size)
        found.append(tensors(agent))
    assert_close(*found, 1e-4)


def test_file_of_the_agent_is_plain(tmp_path):
    agent = make_agent()
    before = train(agent, "auto", 5)[0]
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = SAC.load(tmp_path / "agent.zip", env=Drift(n_actions=2), device="cpu")
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    for name, value in tensors(loaded).items():
        assert th.equal(value, before[name]), name
    assert_close(train(loaded, "stock", 5)[0], train(agent, "auto", 5)[0], 1e-4)


# -- where they do not apply -------------------------------------------------------------------------------------------------


class OtherSAC(SAC):
    """A class of its own."""


class OtherPolicy(SAC.policy_aliases["MlpPolicy"]):
    """A policy of its own."""


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (dict(agent_class=OtherSAC), "OtherSAC"),
        (dict(agent_class=TD3), "TD3"),
        (dict(policy=OtherPolicy), "MlpPolicy"),
        (dict(use_sde=True), "gSDE"),
        (dict(policy_kwargs=dict(net_arch=[8], activation_fn=th.nn.ELU)), "ReLU or Tanh"),
        (dict(policy_kwargs=dict(net_arch=[8], optimizer_class=th.optim.AdamW)), "plain torch.optim.Adam"),
        (dict(policy_kwargs=dict(net_arch=[8], optimizer_kwargs=dict(amsgrad=True))), "plain torch.optim.Adam"),
        (dict(policy_kwargs=dict(net_arch=[8], optimizer_kwargs=dict(weight_decay=0.1))), "plain torch.optim.Adam"),
        (dict(updates="stock"), 'updates="stock"'),
    ],
    ids=str,
)
def test_what_is_left_to_sb3(arguments, reason, capsys):
    model = make_model(ESAC, Drift(), verbose=1, **{"updates": "auto", **arguments})
    assert not model.learner._updates.is_fast and reason in model.learner._updates.reason
    assert model.learner._updates.reason in capsys.readouterr().out
    model.learn(150)
    assert model._n_updates > 0 and not model.learner._updates.is_fast


def test_the_fast_ones_are_taken_where_they_apply(capsys):
    model = make_model(ESAC, Drift(), verbose=1, updates="auto")
    assert SMALL[ESAC]["device"] != "cpu" or (model.learner._updates.is_fast and "fast" in capsys.readouterr().out)


def freeze(agent):
    next(agent.actor.parameters()).requires_grad_(False)


def listen(agent):
    agent.critic.register_forward_hook(lambda *_: None)


def exchange(agent):
    agent.actor.optimizer = th.optim.SGD(agent.actor.parameters(), lr=1e-3)


def override(agent):
    agent.train = lambda gradient_steps, batch_size: SAC.train(agent, gradient_steps, batch_size)


def decay(agent):
    agent.critic.optimizer.param_groups[0]["weight_decay"] = 0.1


@pytest.mark.parametrize("change", [freeze, listen, exchange, override, decay])
def test_changes_that_need_sb3(change):
    """They are noticed between two calls, and what follows is what SB3 does."""
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent()
        train(agent, kind, 1)
        updates = Updates(agent, kind)
        np.random.seed(0)
        updates.train(1, 8)
        change(agent)
        th.manual_seed(0)
        updates.train(3, 8)
        assert not updates.is_fast
        found.append(tensors(agent))
    assert_close(*found, 1e-4)


def load_parameters(agent):
    agent.set_parameters(make_agent(seed=1).get_parameters())


def alias_parameters(agent):
    vector_to_parameters(parameters_to_vector(agent.actor.parameters()) * 0.5, agent.actor.parameters())


def replace_data(agent):
    agent.log_ent_coef.data = th.tensor([-1.0])


@pytest.mark.parametrize("change", [load_parameters, alias_parameters, replace_data])
def test_new_memory(change):
    """Tensors that were put in the place of others are the truth from then on."""
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent()
        train(agent, kind, 3)
        updates = Updates(agent, kind)
        updates.train(1, 8)
        change(agent)
        np.random.seed(0)
        th.manual_seed(0)
        updates.train(3, 8)
        assert updates.is_fast == (kind == "auto")
        found.append(tensors(agent))
    assert_close(*found, 1e-4)


def test_nan_is_reported_as_by_sb3():
    messages = []
    for kind in ("stock", "auto"):
        agent = make_agent()
        with th.no_grad():
            agent.actor.mu.bias.fill_(float("nan"))
        with pytest.raises(ValueError, match="Expected parameter loc") as error:
            train(agent, kind, 1)
        messages.append(str(error.value).splitlines()[0])
    assert messages[0] == messages[1]


def test_images_are_left_to_sb3():
    agent = make_agent()
    agent.observation_space = SimpleNamespace()
    assert reason_for_stock(agent) == "observations are no plain vectors"
