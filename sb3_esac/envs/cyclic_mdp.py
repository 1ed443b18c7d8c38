"""The discrete cyclic MDP of section 4: a long horizon, and one mistake ends the episode."""

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

CLOCKWISE, ANTICLOCKWISE, STAY = range(3)
ACTION_NAMES = ("clockwise", "anticlockwise", "stay")

HORIZON = 2000
"""Steps of an episode without a mistake, and its return."""


class CyclicMDP(gym.Env):
    """
    States on a ring; moving clockwise pays +1, moving anticlockwise or staying pays -1 and ends the episode.

    Section 4 and figure 1: three states S0, S1 and S2, start in S0, at most 2000 steps; solved at a return of +2000. An
    episode of t steps that ends by a mistake returns t - 2, the reward of the mistake included. The paper lets an episode
    "terminate" at the horizon too; here that is a truncation, as gymnasium has it: the observation does not tell the time.

    Registered as ``CyclicMDP-v0`` and, with ``continuous=True``, as ``CyclicMDPContinuous-v0``: for algorithms whose actions
    are continuous (the paper's DDPG), an action is a vector of three numbers and the largest of them says what is done.

    :param horizon: Steps after which an episode is truncated.
    :param n_states: Number of states on the ring.
    :param continuous: Whether an action is a vector in [-1, 1]^3, whose first largest element counts, or an integer.
    :param render_mode: "ansi" for a line of text, "rgb_array" for a picture, None for neither.
    :raises ValueError: If an argument is not what it may be.
    """

    metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(
        self, horizon: int = HORIZON, n_states: int = 3, continuous: bool = False, render_mode: str | None = None
    ) -> None:
        for name, value, least in (("horizon", horizon, 1), ("n_states", n_states, 2)):
            if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
                raise ValueError(f"`{name}` must be an integer >= {least}, not {value!r}")
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ValueError(f"`render_mode` must be 'ansi', 'rgb_array' or None, not {render_mode!r}")
        self.horizon, self.n_states, self.continuous, self.render_mode = int(horizon), int(n_states), continuous, render_mode
        self.observation_space = spaces.Box(0.0, 1.0, (self.n_states,), np.float32)
        self.action_space: spaces.Space[Any] = (
            spaces.Box(-1.0, 1.0, (len(ACTION_NAMES),), np.float32) if continuous else spaces.Discrete(len(ACTION_NAMES))
        )
        # Where gymnasium's TimeLimit keeps its limit, for those who want to know how long an episode can be.
        self._max_episode_steps = self.horizon
        self.state = self.steps = 0
        self.last_action: int | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Begin an episode in S0.

        :param seed: Changes nothing: nothing is random.
        :param options: Not used.
        :return: Observation, (n_states,) float32 and one-hot, and an empty info.
        """
        super().reset(seed=seed)
        self.state, self.steps, self.last_action = 0, 0, None
        return self._observe(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Move.

        :param action: 0 is clockwise, 1 anticlockwise, 2 stay; or a vector of three.
        :return: Observation, reward, whether it was a mistake, whether the horizon is reached, an empty info.
        :raises ValueError: If there is no such action.
        """
        move = int(np.argmax(action)) if self.continuous else int(action)
        if not 0 <= move < len(ACTION_NAMES):
            raise ValueError(f"`action` must be in {self.action_space}, not {action!r}")
        self.last_action = move
        self.state = (self.state + {CLOCKWISE: 1, ANTICLOCKWISE: -1, STAY: 0}[move]) % self.n_states
        self.steps += 1
        right = move == CLOCKWISE
        # gymnasium may say both at once, but a mistake in the last step is a mistake.
        return self._observe(), 1.0 if right else -1.0, not right, right and self.steps >= self.horizon, {}

    def _observe(self) -> np.ndarray:
        observation = np.zeros(self.n_states, dtype=np.float32)
        observation[self.state] = 1.0
        return observation

    def render(self) -> Any:
        """
        Show the ring, as ``render_mode`` says.

        :return: A line of text, (160, 160, 3) uint8, or None.
        """
        if self.render_mode == "ansi":
            ring = " ".join(f"[S{state}]" if state == self.state else f" S{state} " for state in range(self.n_states))
            moved = "start" if self.last_action is None else ACTION_NAMES[self.last_action]
            return f"{ring}  step {self.steps}/{self.horizon}, {moved}\n"
        return self._picture() if self.render_mode == "rgb_array" else None

    def _picture(self, size: int = 160) -> np.ndarray:
        """(size, size, 3) picture: a disc for each state, clockwise from the top; green where we are, red after a mistake."""
        picture = np.full((size, size, 3), 255, dtype=np.uint8)
        rows, columns = np.mgrid[:size, :size]
        radius = min(size / 8, size / (1.5 * self.n_states))
        for state in range(self.n_states):
            angle = 2 * math.pi * state / self.n_states
            row, column = size / 2 - 0.35 * size * math.cos(angle), size / 2 + 0.35 * size * math.sin(angle)
            wrong = self.last_action not in (None, CLOCKWISE)
            color = (200, 200, 200) if state != self.state else (200, 60, 60) if wrong else (60, 160, 80)
            picture[(rows - row) ** 2 + (columns - column) ** 2 <= radius**2] = color
        return picture


def register() -> None:
    """Register the environments with gymnasium, without a time limit of its own: any ``horizon`` may be given."""
    for name, kwargs in (("CyclicMDP-v0", {}), ("CyclicMDPContinuous-v0", {"continuous": True})):
        if name not in gym.registry:
            gym.register(
                name, entry_point="sb3_esac.envs.cyclic_mdp:CyclicMDP", kwargs=kwargs, reward_threshold=float(HORIZON)
            )


register()
