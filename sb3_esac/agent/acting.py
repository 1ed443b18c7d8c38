"""
How the agent plays a step: ``collect_rollouts`` of SB3 with a forward in numpy, on the memory that the updates are made in.

What is played, stored, counted and told is what SB3 would have played, stored, counted and told, except for the numbers of the
exploration noise, which come in blocks from a generator of their own.
"""

from typing import Any

import numpy as np
from stable_baselines3 import SAC
from stable_baselines3.common.noise import VectorizedActionNoise
from stable_baselines3.common.type_aliases import RolloutReturn
from stable_baselines3.common.utils import should_collect_more_steps

from sb3_esac.agent.attachments import has_attachments
from sb3_esac.agent.update_graph import GraphUpdates
from sb3_esac.agent.update_kernels import LOG_STD_MAX, LOG_STD_MIN
from sb3_esac.agent.updates import FastUpdates, Perceptrons, Scale, Updates, normalize
from sb3_esac.evaluation.clock import StepListener
from sb3_esac.evolution.noise import Stream, generator

BLOCK = 256
"""Steps whose noise is drawn at once."""

REPLACED = ("collect_rollouts", "predict", "_sample_action", "_store_transition", "_on_step", "_update_info_buffer")
"""Methods of SAC that are known here; an agent that has others of its own is left to itself."""

STOCK = {name: getattr(SAC, name) for name in REPLACED}


class Acting:
    """
    Plays an agent's steps.

    :param agent: The agent.
    :param updates: Its gradient steps: where these are not SB3's, acting is not either.
    """

    def __init__(self, agent: Any, updates: Updates) -> None:
        self.agent, self.updates = agent, updates
        self._policy: _ExploringPolicy | None = None
        self._draw = _Noise(0, 0)

    def begin(self, run_seed: int, generation: int) -> None:
        """
        Begin an interval, whose noise depends on these alone.

        :param run_seed: Seed of the run.
        :param generation: Number of the generation.
        """
        self._draw = _Noise(run_seed, generation)

    def collect(self, callback: StepListener, *, trusted: bool = False) -> RolloutReturn:
        """
        Play ``train_freq``.

        :param callback: Told of every step.
        :param trusted: Whether the agent cannot have been changed since the last time.
        :return: As of ``collect_rollouts``.
        """
        agent = self.agent
        if self._find_policy(trusted=trusted) is None:
            found: RolloutReturn = agent.collect_rollouts(
                agent.env,
                train_freq=agent.train_freq,
                action_noise=agent.action_noise,
                callback=callback,
                learning_starts=agent.learning_starts,
                replay_buffer=agent.replay_buffer,
                log_interval=None,
            )
            return found
        env, n_envs = agent.env, agent.env.num_envs
        if agent.policy.training:
            agent.policy.set_training_mode(False)
        if agent.action_noise is not None and n_envs > 1 and not isinstance(agent.action_noise, VectorizedActionNoise):
            agent.action_noise = VectorizedActionNoise(agent.action_noise, n_envs)
        is_heard, n_steps, n_episodes = callback.hears_steps, 0, 0
        if is_heard:
            callback.on_rollout_start()
        while should_collect_more_steps(agent.train_freq, n_steps, n_episodes):
            actions, buffer_actions = self._act(trusted=not is_heard)
            new_obs, rewards, dones, infos = env.step(actions)
            agent.num_timesteps += n_envs
            n_steps += 1
            if is_heard:
                variables = {
                    **{"env": env, "callback": callback, "replay_buffer": agent.replay_buffer, "log_interval": None},
                    **{"train_freq": agent.train_freq, "learning_starts": agent.learning_starts},
                    **{"action_noise": agent.action_noise, "num_collected_steps": n_steps},
                    **{"num_collected_episodes": n_episodes, "actions": actions, "buffer_actions": buffer_actions},
                    **{"new_obs": new_obs, "rewards": rewards, "dones": dones, "infos": infos},
                }
                callback.update_locals(variables)
                if not callback.on_step():
                    return RolloutReturn(n_steps * n_envs, n_episodes, continue_training=False)
            agent._update_info_buffer(infos, dones)
            agent._store_transition(agent.replay_buffer, buffer_actions, new_obs, rewards, dones, infos)
            agent._update_current_progress_remaining(agent.num_timesteps, agent._total_timesteps)
            agent._on_step()
            for lane in np.flatnonzero(dones).tolist() if dones.any() else ():
                n_episodes += 1
                agent._episode_num += 1
                if agent.action_noise is not None:
                    agent.action_noise.reset(**({"indices": [lane]} if n_envs > 1 else {}))
        if is_heard:
            callback.on_rollout_end()
        return RolloutReturn(n_steps * n_envs, n_episodes, continue_training=True)

    def _find_policy(self, *, trusted: bool = False) -> "_ExploringPolicy | None":
        """The forward for the networks as they are now, None if they are left to SB3."""
        agent, known = self.agent, self._policy
        if known is not None and (trusted or known.is_in_use()):
            return known
        self._policy = None
        kind = type(agent)
        is_stock = all(getattr(kind, name) is method and name not in vars(agent) for name, method in STOCK.items())
        if is_stock and not has_attachments(agent.policy.modules()) and not agent.use_sde:
            fast = self.updates.prepare()
            self._policy = None if fast is None else _ExploringPolicy(fast, agent.env.num_envs)
        return self._policy

    def _act(self, *, trusted: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Actions for the environments, and for the buffer."""
        agent = self.agent
        policy = self._find_policy(trusted=trusted)
        if policy is None or agent.num_timesteps < agent.learning_starts:
            found: tuple[np.ndarray, np.ndarray] = agent._sample_action(
                agent.learning_starts, agent.action_noise, agent.env.num_envs
            )
            return found
        noise = self._draw.next(agent.env.num_envs, policy.n_actions)
        scaled = policy.act(agent._last_obs, noise)
        if not np.isfinite(scaled).all():
            # Raises what SB3 raises.
            agent._sample_action(agent.learning_starts, agent.action_noise, agent.env.num_envs)
        scaled = scaled.reshape(-1, *agent.action_space.shape)
        if agent.action_noise is not None:
            scaled = np.clip(scaled + agent.action_noise(), -1, 1)
        return agent.policy.unscale_action(scaled), scaled


class _Noise:
    """Standard normal numbers of an interval."""

    def __init__(self, run_seed: int, generation: int) -> None:
        self._generator = generator(run_seed, generation, Stream.AGENT_NOISE)
        self._block, self._at = np.empty((0, 0, 0), np.float32), 0

    def next(self, n_envs: int, n_actions: int) -> np.ndarray:
        """
        Draw for one step.

        :param n_envs: Number of lanes.
        :param n_actions: Dimensions a of an action.
        :return: (n_envs, a), single precision.
        """
        if self._at >= len(self._block):
            self._block = self._generator.standard_normal((BLOCK, n_envs, n_actions), dtype=np.float32)
            self._at = 0
        self._at += 1
        drawn: np.ndarray = self._block[self._at - 1]
        return drawn


class _ExploringPolicy:
    """
    Sampled actions of an actor, in the memory that its updates change; if that is a GPU's, in a copy.

    :param updates: The updates.
    :param n_envs: Number of lanes.
    """

    def __init__(self, updates: FastUpdates | GraphUpdates, n_envs: int) -> None:
        self.n_envs, self.agent, self.actor = n_envs, updates.agent, updates.agent.actor
        self._modules = [self.agent.policy, *self.actor.modules()]
        self.memory = updates.memory.actor
        self.parameters = self.memory.flat.cpu()
        self.layers = Perceptrons(self.memory, self.parameters).layers
        self.scale = Scale(self.actor.features_extractor)
        self.n_actions = self.actor.mu.out_features
        self.tape = self.layers.new_tape(n_envs)
        self.features = np.zeros((n_envs, self.actor.features_dim), self.layers.weights[0].dtype)

    def is_in_use(self) -> bool:
        """Whether the actor is still the one whose memory this is, and the lanes as many."""
        agent = self.agent
        is_same = agent.actor is self.actor and agent.env.num_envs == self.n_envs
        return is_same and self.memory.is_theirs() and not agent.use_sde and not has_attachments(self._modules)

    def act(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """
        Sample an action for each lane, tanh(mean + std * noise).

        :param observations: (n_envs, ...) as the agent sees them.
        :param noise: (n_envs, a) standard normal.
        :return: (n_envs, a) in [-1, 1], a new array.
        """
        if self.parameters is not self.memory.flat:
            # Nothing is waited for: a call of the updates has ended when it knows its losses.
            self.parameters.copy_(self.memory.flat)
        normalize(observations.reshape(self.n_envs, -1), self.scale.now, self.features)
        head = self.layers.forward(self.features, self.tape)[0]
        std = np.exp(np.clip(head[:, self.n_actions :], LOG_STD_MIN, LOG_STD_MAX))
        actions: np.ndarray = np.tanh(head[:, : self.n_actions] + std * noise)
        return actions
