"""
The agent's updates on a GPU: ``SAC.train`` by one CUDA graph for each update, which nothing waits for.

A graph repeats kernels with the addresses that they were captured with. So all that an update reads and writes is in tensors
that stay where they are, and what differs between two updates (batch, learning rates, tau) is copied into them.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from torch.distributions import Normal

from sb3_esac.agent.update_kernels import LOG_SQRT_2_PI, LOG_STD_MAX, LOG_STD_MIN, SQUASH_EPSILON
from sb3_esac.agent.update_memory import AgentMemory, FlatAdam, Layout, PerceptronMemory

N_WARM_UP = 3
"""Updates that are made and taken back before a graph is captured, in which CUDA's libraries settle."""


class GraphUpdates:
    """
    ``SAC.train`` by graphs. On the CPU, which has none, the same is computed call by call.

    :param agent: An agent for which :func:`~sb3_esac.agent.updates.reason_for_stock` has none.
    """

    def __init__(self, agent: Any) -> None:
        self.agent, self.memory = agent, AgentMemory(agent)
        device = self.memory.actor.flat.device
        self._logged = th.zeros(4, dtype=th.float64, device=device)
        self._programs: dict[int, Program] = {}
        self._constants = self._find_constants()

    def _find_constants(self) -> list[Any]:
        groups = [adam.optimizer.param_groups[0] for adam in self.memory.adams]
        return [(tuple(group["betas"]), group["eps"], bool(group.get("fused"))) for group in groups]

    def applies(self) -> bool:
        """Whether the agent still has the objects that this was made for."""
        return self.memory.is_in_use() and self._constants == self._find_constants()

    def train(self, gradient_steps: int, batch_size: int) -> None:
        """
        Do what ``SAC.train`` does.

        :param gradient_steps: How many, at least 1.
        :param batch_size: Transitions for each.
        """
        adams = self.memory.adams
        self.memory.begin()
        self._logged.zero_()
        for step in range(gradient_steps):
            data = self._sample(batch_size)
            program = self._program(len(data.rewards))
            program.fill(data, self._settings(step))
            program.run()
        for adam in adams:
            adam.count(gradient_steps)
        # The only time that anything waits for the device.
        logged = [value / gradient_steps for value in self._logged.tolist()]
        if not all(map(math.isfinite, logged)):
            program.check()
        self.memory.end(gradient_steps, logged if self.memory.entropy_adam else logged[:3])

    def _sample(self, batch_size: int) -> Any:
        """A batch in the CPU's memory, if that is where the buffer keeps it: it is copied to the device at once."""
        buffer, normalize = self.agent.replay_buffer, self.agent._vec_normalize_env
        if not isinstance(getattr(buffer, "observations", None), np.ndarray):
            return buffer.sample(batch_size, env=normalize)
        device, buffer.device = buffer.device, th.device("cpu")
        try:
            return buffer.sample(batch_size, env=normalize)
        finally:
            buffer.device = device

    def _settings(self, step: int) -> list[float]:
        """Tau, 0 if the target rests; target entropy; factors of the optimisers."""
        agent = self.agent
        factors = [factor for adam in self.memory.adams for factor in adam.factors(step)]
        return [agent.tau if step % agent.target_update_interval == 0 else 0.0, agent.target_entropy, *factors]

    def _program(self, n_rows: int) -> "Program":
        if n_rows not in self._programs:
            self._programs[n_rows] = Program(self.memory, self._logged, n_rows)
        return self._programs[n_rows]


class Perceptrons:
    """
    Perceptrons of one shape side by side, for autograd. A batch's rows are columns here, which lays gradients out as weights.

    :param memory: Their memory.
    """

    def __init__(self, memory: PerceptronMemory) -> None:
        self._tanh = memory.tanh
        pairs = zip(*memory.split(memory.flat), strict=True)
        self.blocks = [block.detach().requires_grad_() for weight, bias in pairs for block in (weight, bias.mT)]

    def __call__(self, inputs: th.Tensor) -> th.Tensor:
        """
        Compute what they give.

        :param inputs: (in, B), the same for all.
        :return: (n, out, B).
        """
        values = inputs.expand(len(self.blocks[0]), *inputs.shape)
        for index in range(0, len(self.blocks), 2):
            weight, bias = self.blocks[index : index + 2]
            if index > 0:
                values = values.tanh() if self._tanh else values.relu()
            values = th.baddbmm(bias, weight, values)
        return values


class Program:
    """
    An update with batches of one size: what it is told, what it computes, and the graph of that.

    :param memory: What it changes.
    :param logged: (4,) sums of the entropy coefficient and of the losses; changed, too.
    :param n_rows: Size B of a batch.
    """

    def __init__(self, memory: AgentMemory, logged: th.Tensor, n_rows: int) -> None:
        self._agent, self._memory, self._logged = memory.agent, memory, logged
        self._actor, self._critic, self._target = map(Perceptrons, (memory.actor, memory.critic, memory.target))
        shape, n_actions = memory.agent.observation_space.shape, memory.agent.actor.mu.out_features
        flat = memory.actor.flat
        self._n_rows, self._device = n_rows, flat.device
        shapes = [(2 * n_rows, *shape), (n_rows, n_actions), *[(n_rows, 1)] * 3, (2 + 2 * len(memory.adams),)]
        self._layout = Layout([[th.zeros(shape, dtype=flat.dtype)] for shape in shapes])
        self._inputs = self._layout.new().to(self._device)
        self.noise = th.zeros((2 * n_rows, n_actions), dtype=flat.dtype, device=self._device)
        self._head = th.zeros((2 * n_actions, 2 * n_rows), dtype=flat.dtype, device=self._device)
        self._graph: Any = None

    def fill(self, data: Any, settings: Sequence[float]) -> None:
        """
        Send what the next update is about, without waiting for it to arrive.

        :param data: SB3's batch.
        :param settings: Tau, target entropy, and two factors for each optimiser.
        """
        # Not used again before it has arrived: PyTorch's pool of pinned memory sees to that.
        sent = th.empty(self._layout.size, dtype=self._inputs.dtype, pin_memory=self._inputs.is_cuda)
        observations, *others, told = self._layout.views(sent)
        parts = [*observations.split(self._n_rows), *others]
        discounts = self._agent.gamma if data.discounts is None else data.discounts
        values = (data.observations, data.next_observations, data.actions, data.rewards, data.dones, discounts)
        for part, value in zip(parts, values, strict=True):
            part.copy_(value.reshape(part.shape)) if isinstance(value, th.Tensor) else part.fill_(value)
        told.copy_(th.tensor(settings, dtype=told.dtype))
        self._inputs.copy_(sent, non_blocking=True)

    def run(self) -> None:
        """Make an update."""
        if self._device.type != "cuda":
            self._update()
            return
        if self._graph is None:
            with th.cuda.device(self._device):
                self._graph = self._capture()
        self._graph.replay()

    def _capture(self) -> Any:
        """Record the kernels of an update; nothing is changed."""
        tensors = [self._memory.target.flat, self._logged]
        tensors += [array for adam in self._memory.adams for array in adam.changed]
        kept, generator = [tensor.clone() for tensor in tensors], th.cuda.get_rng_state(self._device)
        stream = th.cuda.Stream()
        stream.wait_stream(th.cuda.current_stream())
        with th.cuda.stream(stream):
            for _ in range(N_WARM_UP):
                self._update()
        th.cuda.current_stream().wait_stream(stream)
        graph = th.cuda.CUDAGraph()
        with th.cuda.graph(graph):
            self._update()
        for tensor, value in zip(tensors, kept, strict=True):
            tensor.copy_(value)
        th.cuda.set_rng_state(generator, self._device)
        return graph

    def check(self) -> None:
        """
        Look at the actor's last distributions.

        :raises ValueError: What SB3 raises if they are none.
        """
        for head in self._head.split(self._n_rows, dim=1):
            mean, log_std = head.mT.chunk(2, dim=1)
            Normal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX).exp())

    # -- the update ----------------------------------------------------------------------------------------------------

    def _update(self) -> None:
        """``SAC.train``'s loop, once."""
        agent, n_rows = self._agent, self._n_rows
        observations, actions, rewards, dones, discounts, settings = self._layout.views(self._inputs)
        tau, target_entropy = settings[:2].unbind()
        of_actor, of_critic, *of_entropy = settings[2:].split(2)
        now, following = observations.split(n_rows)
        # As `Normal.rsample` draws them.
        for noise in self.noise.split(n_rows):
            noise.normal_()
        head = self._actor(agent.actor.features_extractor(observations).mT)[0]
        self._head = head.detach()
        chosen, log_prob = _squash(head, self.noise.mT)
        ent_coef, entropy_loss = self._learn_entropy(log_prob[:n_rows].detach(), target_entropy, *of_entropy)
        with th.no_grad():
            features = agent.critic_target.features_extractor(following).mT
            next_q = self._target(th.cat((features, chosen[:, n_rows:]))).min(dim=0).values[0]
            values = next_q - ent_coef * log_prob[n_rows:]
            targets = rewards[:, 0] + (1 - dones[:, 0]) * discounts[:, 0] * values
        features = agent.critic.features_extractor(now).mT
        errors = self._critic(th.cat((features, actions.mT)))[:, 0] - targets
        critic_loss = 0.5 * (errors * errors).mean(dim=1).sum()
        self._learn(self._memory.critic_adam, critic_loss, self._critic, of_critic)
        q_values = self._critic(th.cat((features, chosen[:, :n_rows]))).min(dim=0).values[0]
        actor_loss = (ent_coef * log_prob[:n_rows] - q_values).mean()
        self._learn(self._memory.actor_adam, actor_loss, self._actor, of_actor)
        self._memory.target.flat.lerp_(self._memory.critic.flat, tau)
        parts = (ent_coef, actor_loss, critic_loss, entropy_loss)
        self._logged.add_(th.stack([part.detach().reshape(()) for part in parts]))

    def _learn(self, adam: FlatAdam, loss: th.Tensor, perceptrons: Perceptrons, factors: th.Tensor) -> None:
        adam.step_from(th.autograd.grad(loss, perceptrons.blocks), factors)

    def _learn_entropy(
        self, log_prob: th.Tensor, target_entropy: th.Tensor, factors: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """The entropy coefficient as it was, and its loss."""
        adam = self._memory.entropy_adam
        if adam is None or factors is None:
            return self._agent.ent_coef_tensor, th.zeros_like(target_entropy)
        ent_coef, slope = adam.parameters.exp(), -(log_prob.mean() + target_entropy)
        loss = adam.parameters * slope
        adam.step_from([slope], factors)
        return ent_coef, loss


def _squash(head: th.Tensor, noise: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
    """
    Compute actions tanh(mean + std * noise) and their log-probabilities, as SB3 does.

    :param head: (2a, B) means and logarithms of standard deviations.
    :param noise: (a, B) standard normal.
    :return: (a, B) and (B,).
    """
    mean, raw = head.chunk(2)
    log_std = raw.clamp(LOG_STD_MIN, LOG_STD_MAX)
    actions = th.tanh(th.addcmul(mean, log_std.exp(), noise))
    # -log N(u) = noise^2 / 2 + log std + log sqrt(2 pi);  log pi(a) = log N(u) - sum log(1 - a^2 + epsilon)
    parts = noise * noise * 0.5 + log_std + th.log(1 - actions * actions + SQUASH_EPSILON)
    return actions, -parts.sum(dim=0) - len(noise) * LOG_SQRT_2_PI
