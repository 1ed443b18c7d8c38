"""Small environments and arguments that several test files use."""

import inspect
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_esac import ESAC

# Episodes in this process, one step at a time, so that an environment can tell what happened in it.
LOCKSTEP: dict[str, Any] = {"backend": "lockstep"} if "backend" in inspect.signature(ESAC).parameters else {}

TINY: dict[str, Any] = dict(
    learning_rate=1e-3,
    buffer_size=600,
    learning_starts=10,
    batch_size=8,
    policy_kwargs=dict(net_arch=[8]),
    seed=1,
    device="cpu",
    population_size=4,
    agent_fraction=0.3,
    champion_episodes=2,
    share_experience=0.5,
    **LOCKSTEP,
)
"""Everything as small as it can be, and set explicitly, so that a default that changes does not change what a test tests."""


def tiny(env: Any, policy: Any = "MlpPolicy", **kwargs: Any) -> ESAC:
    """
    Make a tiny model.

    :param env: Environment, or its name.
    :param policy: Policy.
    :param kwargs: What differs from ``TINY``.
    """
    return ESAC(policy, env, **{**TINY, **kwargs})


class Walk(gym.Env):
    """
    A point on a line that is pushed by the action and by noise; -x**2 is its reward.

    Observations are (x, step, 1): the last component is never zero, so a cleared observation can be told from a real one.
    Everything that happens is written down.

    :param length: Steps of an episode (a truncation).
    :param terminal: Whether the episode ends in a terminal state instead.
    :param scale: What the first component is multiplied by.
    """

    def __init__(self, length: int = 10, terminal: bool = False, scale: float = 1.0) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.length, self.terminal, self.scale = length, terminal, scale
        self.acted_upon: list[np.ndarray] = []
        self.rewards: list[list[float]] = []
        self.episode_seeds: list[int | None] = []
        self.n_steps = 0
        self.n_resets = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.n_resets += 1
        self.seed, self.t, self.x = seed, 0, float(self.np_random.normal())
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
        over = self.t >= self.length
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


def is_finite(model: ESAC) -> bool:
    """Whether no parameter, optimiser moment or population vector is NaN or infinite."""
    tensors = [*model.policy.state_dict().values(), *model.champion.actor.state_dict().values()]
    for state in model.get_parameters().values():
        for moments in state.get("state", {}).values():
            tensors += [value for value in moments.values() if hasattr(value, "isfinite")]
    vectors = [model.population.mean, model.population.winners, model.population.members]
    return all(bool(tensor.isfinite().all()) for tensor in tensors) and all(np.isfinite(vector).all() for vector in vectors)
