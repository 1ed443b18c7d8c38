"""Updates by hand and by graphs are those of SAC: gradients, steps, random numbers, files; and when they are left to SB3."""

import functools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch as th
from anywhere import CASES as RUNS
from anywhere import TOTAL, At, go_on, whole_state
from helpers import SMALL, Drift, differences, drift, keep_log, make_model, state_of, without_clock
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from threadpoolctl import ThreadpoolController
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from sb3_esac import ESAC
from sb3_esac.agent.update_graph import GraphUpdates
from sb3_esac.agent.updates import FastUpdates, Updates, reason_for_stock
from sb3_esac.evaluation.normalization import ObservationNormalizer
from sb3_esac.evaluation.statistics import Moments

NORMALIZER = dict(features_extractor_class=ObservationNormalizer)


needs_gpu = pytest.mark.skipif(not th.cuda.is_available(), reason="there is no GPU")


@pytest.fixture(params=["by hand", "call by call", pytest.param("graph", marks=needs_gpu)])
def device(request, monkeypatch):
    """Where networks are, for each of the ways to compute updates; "call by call" is what a graph does, on the CPU."""
    if request.param == "call by call":
        monkeypatch.setattr("sb3_esac.agent.updates.fast_updates", GraphUpdates)
    return "cuda" if request.param == "graph" else "cpu"


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
            mean, scale = generator.normal(size=3), generator.uniform(0.5, 2.0, size=3)
            # Numbers that single precision has, too.
            module.set_moments({"": Moments(50.0, mean.astype(np.float32), scale.astype(np.float32).astype(np.float64) ** 2)})


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
    return tensors(agent), dict(agent.logger.name_to_value), (np.random.rand(), float(th.rand(1, device=agent.device)))


def assert_close(one, other, tolerance):
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = max(float(value.abs().max()), 1e-6)
        assert float((value.cpu() - other[name].cpu()).abs().max()) <= tolerance * scale, name


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
    st.sampled_from([FastUpdates, GraphUpdates]),
)
def test_gradients(actor, critic, n_critics, n_actions, activation, normalized, ent_coef, n_rows, seed, kind):
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
    fast = kind(agent)
    fast.train(1, n_rows)
    losses = reference_losses(agent, data, fast._batch.noise if kind is FastUpdates else fast._programs[n_rows].noise)
    memory = fast.memory
    for adam, loss in zip((memory.actor_adam, memory.critic_adam, memory.entropy_adam), losses, strict=True):
        if adam is None:
            continue
        expected = th.autograd.grad(loss, adam.tensors, retain_graph=True)
        for tensor, gradient in zip(adam.tensors, expected, strict=True):
            # After the first step the running mean is a tenth of the gradient.
            found = 10 * adam.optimizer.state[tensor]["exp_avg"].numpy()
            assert gradient.shape == tensor.shape == found.shape
            np.testing.assert_allclose(found, gradient.numpy(), rtol=1e-9, atol=1e-9)
    logged = agent.logger.name_to_value
    for name, loss in zip(("actor_loss", "critic_loss", "ent_coef_loss"), losses, strict=True):
        if f"train/{name}" in logged:
            assert logged[f"train/{name}"] == pytest.approx(loss.item(), rel=1e-9, abs=1e-9)


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


def run_case(name, kind, n_updates, device):
    case = dict(CASES[name], device=device)
    make_env = case.pop("env", lambda: None)
    agent = make_agent(make_env(), **case)
    found = train(agent, kind, n_updates)
    assert agent._n_updates == n_updates
    return found


@functools.cache
def run_stock(name, n_updates, device):
    return run_case(name, "stock", n_updates, device)


@pytest.mark.parametrize("n_updates, tolerance", [(1, 1e-5), (200, 1e-3)])
@pytest.mark.parametrize("name", CASES)
def test_steps(name, n_updates, tolerance, device):
    """After the same batches and noise every tensor is what it is after ``SAC.train``, and so is the log."""
    stock, logged, drawn = run_stock(name, n_updates, device)
    fast, fast_logged, fast_drawn = run_case(name, "auto", n_updates, device)
    assert_close(stock, fast, tolerance)
    assert drawn == fast_drawn, "other random numbers"
    assert logged.keys() == fast_logged.keys()
    assert logged == pytest.approx(fast_logged, rel=tolerance, abs=1e-5)


def test_shared_experience(device):
    found = []
    for kind in ("stock", "auto"):
        options = dict(share_experience=0.5, device=device)
        model = make_model(ESAC, Drift(), seed=0, updates="stock", **options).learn(300)
        assert model.replay_buffer.population_store.size() > 0
        found.append(train(model.agent, kind, 5)[0])
    assert_close(*found, 1e-4)


def test_turns(device):
    """The optimisers' state is one truth: SB3's own updates go on from it, and the other way round."""
    found = []
    for kinds in (("stock", "stock", "stock"), ("auto", "stock", "auto")):
        agent = make_agent(device=device)
        for kind in kinds:
            state = train(agent, kind, 5)[0]
        found.append(state)
    assert_close(*found, 1e-4)
    assert {float(value) for name, value in found[1].items() if name.endswith("step")} == {15.0}


def test_batch_size_may_change(device):
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
        updates = Updates(agent, kind)
        agent.set_logger(Logger(None, []))
        np.random.seed(0)
        th.manual_seed(0)
        for batch_size in (8, 32, 1, 8):
            updates.train(2, batch_size)
        found.append(tensors(agent))
    assert_close(*found, 1e-4)


def test_file_of_the_agent_is_plain(tmp_path, device):
    agent = make_agent(device=device)
    before = train(agent, "auto", 5)[0]
    agent.save(tmp_path / "agent.zip")
    agent.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = SAC.load(tmp_path / "agent.zip", env=Drift(n_actions=2), device=device)
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    for name, value in tensors(loaded).items():
        # SB3 loads Adam's steps to the GPU, where torch does not keep them.
        assert th.equal(value.cpu(), before[name].cpu()), name
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


def mask(agent):
    next(agent.actor.parameters()).register_hook(lambda gradient: gradient * 0)


def scale_afterwards(agent):
    def scale(tensor):
        tensor.grad *= 100

    agent.log_ent_coef.register_post_accumulate_grad_hook(scale)


def clip(agent):
    optimizer = agent.critic.optimizer
    step = optimizer.step

    def clipped(*args, **kwargs):
        th.nn.utils.clip_grad_value_(agent.critic.parameters(), 1e-12)
        return step(*args, **kwargs)

    optimizer.step = clipped


def patch(agent):
    forward = agent.actor.mu.forward
    agent.actor.mu.forward = lambda latent: 0.5 * forward(latent)


@pytest.mark.parametrize("change", [freeze, listen, exchange, override, decay, mask, scale_afterwards, clip, patch])
def test_changes_that_need_sb3(change, device):
    """They are noticed between two calls, and what follows is what SB3 does."""
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
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


def test_gradients_are_shown():
    """``.grad`` is the latest gradient; the critic's is of its own loss, without what SB3 adds when the actor learns."""
    shown = []
    for kind in ("stock", "auto"):
        agent = make_agent()
        train(agent, kind, 3)
        shown.append([tensor.grad.clone() for tensor in (*agent.actor.parameters(), agent.log_ent_coef)])
        assert all(tensor.grad.abs().sum() > 0 for tensor in agent.critic.parameters())
    for one, other in zip(*shown, strict=True):
        assert th.allclose(one, other, rtol=1e-2, atol=1e-5)
    # SB3 may take over: it lets go of them.
    before = th.cat([tensor.detach().flatten() for tensor in agent.actor.parameters()])
    agent.train(1, 8)
    assert not th.equal(before, th.cat([tensor.detach().flatten() for tensor in agent.actor.parameters()]))


def load_parameters(agent):
    agent.set_parameters(make_agent(seed=1).get_parameters())


def alias_parameters(agent):
    vector_to_parameters(parameters_to_vector(agent.actor.parameters()) * 0.5, agent.actor.parameters())


def replace_data(agent):
    agent.log_ent_coef.data = th.tensor([-1.0], device=agent.device)


@pytest.mark.parametrize("change", [load_parameters, alias_parameters, replace_data])
def test_new_memory(change, device):
    """Tensors that were put in the place of others are the truth from then on."""
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
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


def test_nan_is_reported_as_by_sb3(device):
    messages = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
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


# -- graphs ------------------------------------------------------------------------------------------------------------------


def test_settings_of_adam_may_change(device):
    found = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
        train(agent, kind, 2)
        updates = Updates(agent, kind)
        updates.train(1, 8)
        agent.critic.optimizer.param_groups[0].update(betas=(0.5, 0.9), eps=1e-3)
        agent.tau, agent.gamma, agent.target_entropy = 0.5, 0.5, -5.0
        th.manual_seed(0)
        np.random.seed(0)
        updates.train(3, 8)
        found.append(tensors(agent))
    assert_close(*found, 1e-4)


def test_samples_stay_where_they_belong(device):
    """Whoever samples between two updates gets tensors of the agent's device."""
    agent = make_agent(device=device)
    train(agent, "auto", 2)
    assert agent.replay_buffer.sample(4).observations.device.type == device
    assert th.device(agent.replay_buffer.device).type == device


def test_capturing_draws_nothing(device):
    """A new graph is made for each size of a batch, at any time: the random numbers are those of SB3."""
    drawn = []
    for kind in ("stock", "auto"):
        agent = make_agent(device=device)
        updates = Updates(agent, kind)
        th.manual_seed(0)
        for batch_size in (4, 8, 4):
            updates.train(2, batch_size)
            drawn.append(float(th.rand(1, device=device)))
    assert drawn[:3] == drawn[3:]


# -- whole runs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "normalized", "n_step", "overlap_workers", "fixed_entropy"])
def test_resume(name, device, tmp_path):
    """A run that was saved at any step and goes on ends as one that was never stopped."""
    case = RUNS[name]
    case = replace(case, options={**case.options, "updates": "auto", "device": device})
    calls, seen = {60, 151, 399}, []
    model = case.new_model()
    model.learn(TOTAL, callback=At(calls, tmp_path, lambda model: seen.append(model.num_timesteps)))
    assert model.learner._updates.is_fast and len(seen) == len(calls)
    final = whole_state(model)
    for steps in seen:
        loaded = ESAC.load(tmp_path / f"run_{steps}_steps", env=case.make_env(), device=device)
        loaded.load_replay_buffer(tmp_path / f"run_replay_buffer_{steps}_steps")
        assert differences(final, go_on(loaded)) == []
        assert loaded.learner._updates.is_fast


def play(**options):
    """A short run, its state and its log."""
    model = make_model(ESAC, drift(), seed=5, updates="auto", agent_fraction=0.4, **options)
    log = keep_log(model)
    model.learn(300)
    assert model.learner._updates.is_fast and model._n_updates > 0
    return state_of(model), without_clock(log)


@pytest.mark.parametrize(
    "options", [dict(), dict(normalize_observations=True, gradient_steps=3, share_experience=0.0)], ids=str
)
def test_same_seed(options, device):
    assert differences(*(play(device=device, **options) for _ in range(2))) == []


@pytest.mark.parametrize("n_workers", [1, 3])
def test_workers_change_nothing(n_workers, device):
    workers = play(device=device, backend="subproc", n_workers=n_workers)
    assert differences(play(device=device)[0], workers[0]) == []


@pytest.mark.parametrize("stops", [False, True])
def test_torch_has_one_thread_beside_numpy_and_its_own_afterwards(stops, monkeypatch):
    """With more, those of torch keep numpy's from their cores, and an update takes ten times as long."""
    seen, n_threads = [], th.get_num_threads()

    def spy(owner, name):
        plain = getattr(owner, name)

        def note(*args, **kwargs):
            seen.append((name, th.get_num_threads()))
            if stops and len(seen) > 20:
                raise KeyboardInterrupt
            return plain(*args, **kwargs)

        monkeypatch.setattr(owner, name, note)

    for owner, name in ((th.Tensor, "lerp_"), (th, "_fused_adam_"), (th, "_foreach_lerp_")):
        spy(owner, name)
    th.set_num_threads(3)
    try:
        model = make_model(ESAC, drift(), agent_average=0.1)
        if stops:
            with pytest.raises(KeyboardInterrupt):
                model.learn(400)
        else:
            model.learn(400)
        assert th.get_num_threads() == 3
    finally:
        th.set_num_threads(n_threads)
    assert {name for name, _ in seen} == {"lerp_", "_fused_adam_", "_foreach_lerp_"}
    assert {number for _, number in seen} == {1}


def test_numpy_has_one_thread_within_updates(monkeypatch):
    threads = ThreadpoolController().select(user_api="blas")
    seen, plain = [], np.matmul

    def note(*args, **kwargs):
        seen.append({pool["num_threads"] for pool in threads.info()})
        return plain(*args, **kwargs)

    updates = FastUpdates(make_agent())
    monkeypatch.setattr(np, "matmul", note)
    with threads.limit(limits=2):
        before = threads.info()
        assert {pool["num_threads"] for pool in before} == {2}
        updates.train(2, 32)
        assert threads.info() == before
    assert len(seen) > 10 and all(numbers == {1} for numbers in seen)
