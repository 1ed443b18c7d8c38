"""Small environments and arguments that several test files use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from helpers import DEVICE, arguments_for
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_esac import ESAC

TINY: dict[str, Any] = dict(
    learning_rate=1e-3,
    buffer_size=600,
    learning_starts=10,
    batch_size=8,
    policy_kwargs=dict(net_arch=[8]),
    seed=1,
    device=DEVICE,
    population_size=4,
    winner_fraction=0.4,
    agent_fraction=0.3,
    champion_episodes=2,
    share_experience=0.5,
    normalize_observations=False,
    # Episodes in this process, so that an environment can tell what happened in it.
    backend="lockstep",
)
"""Everything as small as it can be, and set explicitly, so that a default that changes does not change what a test tests."""


def tiny(env: Any, policy: Any = "MlpPolicy", algorithm: type = ESAC, **kwargs: Any) -> Any:
    """
    Make a tiny model.

    :param env: Environment, or its name.
    :param policy: Policy.
    :param algorithm: Algorithm; one without an agent is not told what is said to the agent.
    :param kwargs: What differs from ``TINY``.
    """
    return algorithm(policy, env, **arguments_for(algorithm, {**TINY, **kwargs}))


class Walk(gym.Env):
    """
    A point on a line that is pushed by the action and by noise; -x**2 is its reward.

    Observations are (x, step, 1): the last component is never zero, so a cleared observation can be told from a real one.
    Everything that happens is written down.

    :param length: Steps of an episode (a truncation).
    :param terminal: Whether the episode ends in a terminal state instead.
    :param scale: What the first component is multiplied by.
    :param varied: Whether episodes are up to five steps longer, depending on the seed.
    """

    def __init__(self, length: int = 10, terminal: bool = False, scale: float = 1.0, varied: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.length, self.terminal, self.scale, self.varied = length, terminal, scale, varied
        self.acted_upon: list[np.ndarray] = []
        self.rewards: list[list[float]] = []
        self.episode_seeds: list[int | None] = []
        self.n_steps = 0
        self.n_resets = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_resets += 1
        self.seed, self.t, self.x = seed, 0, float(self.np_random.normal())
        self.end = self.length + (int(self.np_random.integers(6)) if self.varied else 0)
        return self._observe(), {"seed": seed}

    def _observe(self) -> np.ndarray:
        self.observation = np.array([self.scale * self.x, self.t, 1.0], dtype=np.float32)
        return self.observation.copy()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self.t == 0:
            self.rewards.append([])
            self.episode_seeds.append(self.seed)
        self.acted_upon.append(self.observation.copy())
        self.n_steps += 1
        self.t += 1
        self.x += 0.5 * float(action[0]) + 0.1 * float(self.np_random.normal())
        reward = -(self.x**2)
        self.rewards[-1].append(reward)
        over = self.t >= self.end
        return self._observe(), reward, over and self.terminal, over and not self.terminal, {}


class DictWalk(gym.ObservationWrapper):
    """The same with ``Dict`` observations, one of them discrete."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict(
            {
                "place": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "step": spaces.Box(0.0, np.inf, (1,), np.float32),
                "side": spaces.Discrete(2),
            }
        )

    def observation(self, observation: np.ndarray) -> dict[str, Any]:
        place = np.array([observation[0], 1.0], dtype=np.float32)
        return {"place": place, "step": observation[1:2], "side": int(observation[0] > 0)}


def vec(n_envs: int = 1, wrapper: Any = None, **kwargs: Any) -> DummyVecEnv:
    """
    Make a vectorised ``Walk``.

    :param n_envs: Number of environments.
    :param wrapper: What to put around each.
    :param kwargs: Arguments of ``Walk``.
    """

    def make() -> gym.Env:
        env: gym.Env = Walk(**kwargs)
        return Monitor(wrapper(env) if wrapper is not None else env)

    return DummyVecEnv([make for _ in range(n_envs)])


def walks(env: VecEnv | gym.Env | None) -> list[Walk]:
    """The ``Walk`` environments inside a vectorised environment."""
    while hasattr(env, "venv"):
        env = env.venv
    return [each.unwrapped for each in env.envs]  # type: ignore[union-attr]


def is_finite(model: Any) -> bool:
    """Whether no parameter, optimiser moment or population vector is NaN or infinite."""
    tensors = [*model.policy.state_dict().values(), *model.champion.actor.state_dict().values()]
    for state in model.get_parameters().values():
        for moments in state.get("state", {}).values():
            tensors += [value for value in moments.values() if hasattr(value, "isfinite")]
    vectors = [model.population.mean, model.population.winners, model.population.members]
    return all(bool(tensor.isfinite().all()) for tensor in tensors) and all(np.isfinite(vector).all() for vector in vectors)


PLAIN_PROCESS = """
import sys
sys.modules["sb3_esac"] = None  # any import of it fails
import importlib, json
import numpy as np
import torch
torch.set_num_threads(1)
answers = {}
for key, (module, name, path, observations) in json.load(open(sys.argv[1])).items():
    agent = getattr(importlib.import_module(module), name).load(path, device="cpu")
    observations = np.array(observations, dtype=np.float32)
    actions = agent.predict(observations, deterministic=True)[0]
    # At an action that was not computed from the observation, so that actor and critic are judged apart.
    at = torch.full(actions.shape, 0.3)
    with torch.no_grad():
        judgements = [net(torch.as_tensor(observations), at) for net in (agent.critic, agent.critic_target) if net is not None]
    answers[key] = [actions.tolist(), [[part.tolist() for part in judgement] for judgement in judgements]]
assert not [name for name, module in sys.modules.items() if name.split(".")[0] == "sb3_esac" and module is not None]
json.dump(answers, open(sys.argv[1], "w"))
"""


def in_plain_process(
    folder: Path, agents: dict[str, tuple[type, str]], observations: np.ndarray
) -> dict[str, tuple[np.ndarray, list[np.ndarray]]]:
    """
    Load saved agents where this package cannot be imported.

    :param folder: An empty folder.
    :param agents: Class and zip file by name.
    :param observations: (N, ...) observations.
    :return: By name, the deterministic actions and what critic and target critic think of the action 0.3.
    """
    order = {key: (kind.__module__, kind.__name__, str(path), observations.tolist()) for key, (kind, path) in agents.items()}
    file = folder / "order.json"
    file.write_text(json.dumps(order))
    # Not the folder of the tests, nor that of the package.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", PLAIN_PROCESS, str(file)], check=True, cwd=folder, env=environment)
    answers = json.loads(file.read_text())
    return {key: (np.array(actions), [np.array(each) for each in judged]) for key, (actions, judged) in answers.items()}


def judgements(agent: Any, observations: np.ndarray) -> list[np.ndarray]:
    """What critic and target critic of an agent think of the action 0.3."""
    batch = th.as_tensor(observations, device=agent.device)
    at = th.full((len(observations), *agent.action_space.shape), 0.3, device=agent.device)
    with th.no_grad():
        nets = [net for net in (agent.critic, agent.critic_target) if net is not None]
        return [np.array([part.cpu().numpy() for part in net(batch, at)]) for net in nets]
