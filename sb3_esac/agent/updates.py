"""
The agent's updates: SB3's ``train``, or for a plain SAC with perceptrons the same by hand, and on a GPU by CUDA graphs.

To an agent :class:`FastUpdates` and :class:`GraphUpdates` do what ``SAC.train`` does to it, except for the last digits:
parameters, targets, entropy coefficient, the optimisers' state, counters and log. They draw the same random numbers.
:class:`FastUpdates` leaves in ``.grad`` the latest gradient of each network's own loss, :class:`GraphUpdates` nothing.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.sac.policies import Actor, SACPolicy
from torch.distributions import Normal

from sb3_esac.agent.attachments import has_attachments, has_gradient_hooks
from sb3_esac.agent.building import class_of
from sb3_esac.agent.threads import one_thread
from sb3_esac.agent.update_graph import GraphUpdates
from sb3_esac.agent.update_kernels import Layers, SquashedGaussian, actor_loss, critic_loss, entropy_loss, td_targets
from sb3_esac.agent.update_memory import (
    STOCK_TRAIN,
    AgentMemory,
    PerceptronMemory,
    plain_adam,
    same_steps,
)
from sb3_esac.evaluation.normalization import ObservationNormalizer


class Updates:
    """
    An agent's gradient steps.

    :param agent: The agent.
    :param wanted: "auto" for the fast ones where they apply, "stock" for SB3's.
    """

    def __init__(self, agent: OffPolicyAlgorithm, wanted: str) -> None:
        self.agent = agent
        self.reason = '`updates="stock"`' if wanted == "stock" else reason_for_stock(agent)
        self._forced = wanted == "stock"
        self._fast: FastUpdates | GraphUpdates | None = None
        if agent.verbose >= 1:
            print("Updates of the agent: " + ("fast" if self.reason is None else f"SB3's ({self.reason})"))

    @property
    def is_fast(self) -> bool:
        """Whether updates are not SB3's."""
        return self.reason is None

    def train(self, gradient_steps: int, batch_size: int, *, trusted: bool = False) -> None:
        """
        Do what ``agent.train`` does.

        :param gradient_steps: How many.
        :param batch_size: Transitions for each.
        :param trusted: Whether the agent cannot have been changed since the last time.
        """
        fast = self.prepare(trusted=trusted) if gradient_steps > 0 else None
        if fast is None:
            self.agent.train(gradient_steps=gradient_steps, batch_size=batch_size)
        else:
            fast.train(gradient_steps, batch_size)

    def prepare(self, *, trusted: bool = False) -> "FastUpdates | GraphUpdates | None":
        """
        Find what computes the next updates.

        :param trusted: Whether the agent cannot have been changed since the last time.
        :return: None if SB3 does.
        """
        if not self._forced and (self._fast is None or not (trusted or self._fast.applies())):
            # Parameters may have been loaded, an optimiser exchanged, a layer frozen.
            self.reason = reason_for_stock(self.agent)
            self._fast = None if self.reason else fast_updates(self.agent)
        return self._fast


def fast_updates(agent: Any) -> "FastUpdates | GraphUpdates":
    """
    Make an agent's updates where its networks are.

    :param agent: An agent for which :func:`reason_for_stock` has none.
    """
    return FastUpdates(agent) if agent.actor.mu.weight.device.type == "cpu" else GraphUpdates(agent)


def reason_for_stock(agent: Any) -> str | None:
    """
    Say why an agent's updates are left to SB3.

    :param agent: The agent.
    :return: None if they are not.
    """
    if class_of(agent) is not SAC or type(agent).train is not STOCK_TRAIN or "train" in vars(agent):
        return f"the agent is a {type(agent).__name__} of its own"
    if type(agent.policy) is not SACPolicy or type(agent.actor) is not Actor or type(agent.critic) is not ContinuousCritic:
        return "only MlpPolicy is known"
    if agent.use_sde:
        return "gSDE"
    space = agent.observation_space
    if not isinstance(space, spaces.Box) or is_image_space(space):
        return "observations are no plain vectors"
    tensors = [*agent.policy.parameters(), *([] if agent.log_ent_coef is None else [agent.log_ent_coef])]
    devices = {tensor.device for tensor in tensors}
    if len(devices) > 1 or devices.pop().type not in ("cpu", "cuda"):
        return "the networks are neither on the CPU nor on a GPU"
    if any(tensor.dtype != th.float32 for tensor in tensors) or not all(
        tensor.requires_grad for part in (agent.actor, agent.critic) for tensor in part.parameters()
    ):
        return "parameters are frozen, or not single precision"
    if has_gradient_hooks(tensors):
        return "parameters have hooks"
    return _reason_of_optimizers(agent) or _reason_of_networks(agent)


def _reason_of_optimizers(agent: Any) -> str | None:
    pairs = [(part.optimizer, list(part.parameters())) for part in (agent.actor, agent.critic)]
    if agent.ent_coef_optimizer is not None:
        pairs.append((agent.ent_coef_optimizer, [agent.log_ent_coef]))
    for optimizer, parameters in pairs:
        if not plain_adam(optimizer):
            return "an optimiser is not a plain torch.optim.Adam"
        if {*map(id, optimizer.param_groups[0]["params"])} != {*map(id, parameters)} or not same_steps(optimizer):
            return "an optimiser has other parameters"
    return None


def _reason_of_networks(agent: Any) -> str | None:
    if has_attachments(agent.policy.modules()):
        return "networks have hooks, or methods of their own"
    for part in (agent.actor, agent.critic, agent.critic_target):
        extractor = part.features_extractor
        inner = extractor.extractor if type(extractor) is ObservationNormalizer else extractor
        if type(inner) is not FlattenExtractor:
            return f"the features extractor is a {type(inner).__name__}"
    actor, critics = agent.actor, [*agent.critic.q_networks, *agent.critic_target.q_networks]
    heads = [[*actor.latent_pi, actor.mu], [*actor.latent_pi, actor.log_std], *map(list, critics)]
    if any(type(layers[-1]) is not th.nn.Linear or not _is_perceptron(layers) for layers in heads):
        return "networks are not Linear layers with ReLU or Tanh between them"
    return None


def _is_perceptron(layers: Sequence[th.nn.Module]) -> bool:
    linear, between = layers[::2], layers[1::2]
    kinds = {type(layer) for layer in between}
    # `bias` is None in a layer without.
    biased = all(type(layer) is th.nn.Linear and layer.bias is not None for layer in linear)
    return biased and (kinds <= {th.nn.ReLU} or kinds <= {th.nn.Tanh})


class Perceptrons:
    """
    Perceptrons' arithmetic in their memory.

    :param memory: The memory.
    :param parameters: A copy of it on the CPU, None if it is there.
    """

    def __init__(self, memory: PerceptronMemory, parameters: th.Tensor | None = None) -> None:
        self.memory = memory
        self.layers = Layers(*self.split(memory.flat if parameters is None else parameters), tanh=memory.tanh)

    def split(self, flat: th.Tensor) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """
        Find weights and biases.

        :param flat: An array like that of the parameters.
        :return: For each layer (n, out, in) and (n, 1, out).
        """
        weights, biases = self.memory.split(flat)
        return [weight.numpy() for weight in weights], [bias.numpy() for bias in biases]


class Batch:
    """
    Arrays for batches of one size.

    :param updates: Whose networks they are for.
    :param n_rows: The size B.
    """

    def __init__(self, updates: "FastUpdates", n_rows: int) -> None:
        self.n_rows = n_rows
        n_features, n_actions = updates.n_features, updates.n_actions
        actor, critic = updates.actor.layers, updates.critic.layers
        dtype = actor.weights[0].dtype
        self.features = np.zeros((2 * n_rows, n_features), dtype)
        self.pairs, self.next_pairs = (np.zeros((n_rows, n_features + n_actions), dtype) for _ in range(2))
        self.noise = th.zeros((2 * n_rows, n_actions), dtype=updates.actor.memory.flat.dtype)
        self.policy = SquashedGaussian(2 * n_rows, n_actions, dtype)
        self.actor_tape, self.critic_tape = actor.new_tape(2 * n_rows), critic.new_tape(n_rows)
        self.actor_way_back = self.actor_tape.first(n_rows)


class FastUpdates:
    """
    ``SAC.train`` by hand, on the CPU.

    Products are numpy's. Everything is computed in one thread, see :func:`~sb3_esac.agent.threads.one_thread`.

    :param agent: An agent for which :func:`reason_for_stock` has none.
    """

    def __init__(self, agent: Any) -> None:
        self.agent, self.memory = agent, AgentMemory(agent)
        self.n_features, self.n_actions = agent.actor.features_dim, agent.actor.mu.out_features
        memory = self.memory
        self.actor, self.critic, self.target = map(Perceptrons, (memory.actor, memory.critic, memory.target))
        self._actor_gradients = self.actor.split(memory.actor_adam.gradient)
        self._critic_gradients = self.critic.split(memory.critic_adam.gradient)
        for adam in memory.adams:
            adam.show_gradients()
        self._batch: Batch | None = None
        self._scales = [Scale(part.features_extractor) for part in (agent.actor, agent.critic, agent.critic_target)]

    def applies(self) -> bool:
        """Whether the agent still has the objects that this was made for."""
        return self.memory.is_in_use()

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """
        Do what ``SAC.train`` does.

        :param gradient_steps: How many, at least 1.
        :param batch_size: Transitions for each.
        """
        with one_thread():
            self._train(gradient_steps, batch_size)

    def _train(self, gradient_steps: int, batch_size: int) -> None:
        agent = self.agent
        self.memory.begin()
        scales = [scale.now for scale in self._scales]
        logged: list[list[float]] = []
        for step in range(gradient_steps):
            data = agent.replay_buffer.sample(batch_size, env=agent._vec_normalize_env)
            discounts = agent.gamma if data.discounts is None else data.discounts.numpy()
            logged.append(self._update(data, discounts, scales))
            if step % agent.target_update_interval == 0:
                self.target.memory.flat.lerp_(self.critic.memory.flat, agent.tau)
        self.memory.end(gradient_steps, [sum(values) / gradient_steps for values in zip(*logged, strict=True)])

    def _update(self, data: Any, discounts: Any, scales: Sequence[Any]) -> list[float]:
        """One gradient step of all networks; what is logged of it."""
        n_rows = len(data.rewards)
        if self._batch is None or self._batch.n_rows != n_rows:
            self._batch = Batch(self, n_rows)
        batch = self._batch
        self._fill(batch, data, scales)
        self._act(batch)
        log_prob = batch.policy.log_prob[:n_rows]
        ent_coef, entropy = self._learn_entropy(log_prob)
        targets = self._targets(batch, data, discounts, ent_coef)
        of_critic = self._learn_critic(batch, targets)
        return [ent_coef, self._learn_actor(batch, ent_coef), of_critic, *entropy]

    def _fill(self, batch: Batch, data: Any, scales: Sequence[Any]) -> None:
        n_rows, n_features = batch.n_rows, self.n_features
        observations = data.observations.numpy().reshape(n_rows, -1)
        following = data.next_observations.numpy().reshape(n_rows, -1)
        of_actor, of_critic, of_target = scales
        normalize(observations, of_actor, batch.features[:n_rows])
        normalize(following, of_actor, batch.features[n_rows:])
        normalize(observations, of_critic, batch.pairs[:, :n_features])
        normalize(following, of_target, batch.next_pairs[:, :n_features])
        batch.pairs[:, n_features:] = data.actions.numpy().reshape(n_rows, -1)

    def _act(self, batch: Batch) -> None:
        """Actions for observations and the next ones, by the actor as it is: its own step comes last."""
        # As `Normal.rsample` draws them.
        for noise in batch.noise.split(batch.n_rows):
            noise.normal_()
        head = self.actor.layers.forward(batch.features, batch.actor_tape)[0]
        batch.policy.forward(head, batch.noise.numpy())
        if not math.isfinite(batch.policy.log_prob.sum()):
            # Raises what SB3 raises.
            halves = [th.from_numpy(each).split(batch.n_rows) for each in (head[:, : self.n_actions], batch.policy.std)]
            for mean, std in zip(*halves, strict=True):
                Normal(mean, std)

    def _learn_entropy(self, log_prob: np.ndarray) -> tuple[float, list[float]]:
        if self.memory.entropy_adam is None:
            return self.agent.ent_coef_tensor.item(), []
        adam = self.memory.entropy_adam
        log_ent_coef = adam.parameters.item()
        ent_coef = math.exp(log_ent_coef)
        loss, slope = entropy_loss(log_ent_coef, log_prob, self.agent.target_entropy)
        adam.step_number(slope)
        return ent_coef, [loss]

    def _targets(self, batch: Batch, data: Any, discounts: Any, ent_coef: float) -> np.ndarray:
        batch.next_pairs[:, self.n_features :] = batch.policy.actions[batch.n_rows :]
        next_q = self.target.layers.forward(batch.next_pairs, batch.critic_tape)
        log_prob = batch.policy.log_prob[batch.n_rows :]
        return td_targets(next_q, log_prob, ent_coef, data.rewards.numpy(), data.dones.numpy(), discounts)

    def _learn_critic(self, batch: Batch, targets: np.ndarray) -> float:
        tape, layers = batch.critic_tape, self.critic.layers
        loss = critic_loss(layers.forward(batch.pairs, tape), targets, tape.gradients[-1])
        layers.backward(tape)
        layers.parameter_gradients(batch.pairs, tape, *self._critic_gradients)
        self.memory.critic_adam.step()
        return loss

    def _learn_actor(self, batch: Batch, ent_coef: float) -> float:
        n_rows, n_features = batch.n_rows, self.n_features
        tape, way_back, policy = batch.critic_tape, batch.actor_way_back, batch.policy
        batch.pairs[:, n_features:] = policy.actions[:n_rows]
        q_values = self.critic.layers.forward(batch.pairs, tape)
        loss = actor_loss(q_values, policy.log_prob[:n_rows], ent_coef, tape.gradients[-1])
        self.critic.layers.backward(tape)
        by_actions = self.critic.layers.input_gradients(tape, slice(n_features, None))
        noise = batch.noise.numpy()[:n_rows]
        policy.backward(way_back.outputs[-1][0], noise, by_actions, ent_coef / n_rows, way_back.gradients[-1][0])
        self.actor.layers.backward(way_back)
        self.actor.layers.parameter_gradients(batch.features[:n_rows], way_back, *self._actor_gradients)
        self.memory.actor_adam.step()
        return loss


class Scale:
    """
    What an extractor does to observations, looked up again when its statistics have changed.

    :param extractor: The extractor.
    """

    def __init__(self, extractor: th.nn.Module) -> None:
        self.extractor = extractor
        self._versions: tuple[int, ...] = ()
        self._known: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def now(self) -> tuple[np.ndarray, np.ndarray] | None:
        """See :func:`_shift_and_scale`."""
        buffers = self.extractor._buffers
        versions = tuple(number for each in buffers.values() if each is not None for number in (id(each), each._version))
        if versions != self._versions:
            self._versions, self._known = versions, _shift_and_scale(self.extractor)
        return self._known


def _shift_and_scale(extractor: th.nn.Module) -> tuple[np.ndarray, np.ndarray] | None:
    """What an extractor subtracts and divides by, rounded as it does; None if it changes nothing."""
    if not isinstance(extractor, ObservationNormalizer):
        return None
    mean, var = extractor.get_buffer("mean").cpu(), extractor.get_buffer("var").cpu()
    return mean.to(th.float32).numpy().reshape(-1), var.sqrt().to(th.float32).numpy().reshape(-1)


def normalize(observations: np.ndarray, scale: tuple[np.ndarray, np.ndarray] | None, out: np.ndarray) -> None:
    """
    Normalise observations.

    :param observations: (B, in).
    :param scale: What is subtracted, and divided by then; None to only copy.
    :param out: (B, in), where they go.
    """
    if scale is None:
        out[...] = observations
    else:
        # Not in the type of observations, which may be integers: SB3 converts them first.
        np.subtract(observations, scale[0], out=out, dtype=out.dtype, casting="unsafe")
        np.divide(out, scale[1], out=out)
