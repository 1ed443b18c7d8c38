"""The Atari games of the PEL paper with its pre-processing, made of Stable-Baselines3's and gymnasium's wrappers."""

from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack

GAMES = ("Alien", "BankHeist", "BeamRider", "Phoenix", "Breakout", "Pong", "Enduro", "Seaquest", "SpaceInvaders")
"""The nine games of the paper."""

FRAME_SKIP = 4
FRAME_SKIPS = {"SpaceInvaders": 3}
"""Where it is not ``FRAME_SKIP``: the lasers of Space Invaders blink with a period of four frames."""

MAX_EPISODE_STEPS = 25_000
"""Cap of an episode, in steps of the policy (100,000 frames at a frame skip of 4; the emulator's own cap is 108,000)."""

N_STACK = 4
"""Frames that the policy sees at a time."""


GAME_FPS = 60
"""Frames per second of a game."""


class QuickReset(gym.Wrapper):
    """
    Begins a game where it began the first time, instead of loading it anew.

    ale-py loads the game again whenever ``reset`` is given a seed, which takes as long as a hundred steps of the policy, and
    ES gives each episode a seed. As long as no actions stick, the emulator's own seed is of no consequence: what a seed
    decides is the environment's ``np_random``, from which the number of no-ops is drawn. Where actions stick, nothing changes.

    :param env: A game of ale-py.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self._begin: tuple[Any, np.ndarray] | None = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Begin a game.

        :param seed: Seed of ``np_random``, None to go on with it.
        :param options: Not used by ale-py.
        :return: What is seen, and the emulator's counters.
        """
        game: Any = self.unwrapped
        if self._begin is None or game.ale.getFloat("repeat_action_probability") > 0:
            observation, info = self.env.reset(seed=seed, options=options)
            self._begin = game.ale.cloneState(), observation.copy()
            return observation, info
        seeds = {} if seed is None else {"seeds": game.seed_game(seed)}
        state, observation = self._begin
        game.ale.restoreState(state)
        return observation.copy(), {**game._get_info(), **seeds}

    def __getstate__(self) -> dict[str, Any]:
        # A copy has an emulator of its own.
        return {**self.__dict__, "_begin": None}


class FireAfterLife(gym.Wrapper):
    """
    Presses FIRE when a life was lost and the game goes on: Breakout and others wait for it, if need be for ever.

    FIRE is pressed as long as an action of the policy lasts, and is part of the step in which the life was lost: the policy
    sees the picture after it, and gets both rewards. As with Stable-Baselines3's no-ops and its FIRE at the start of a game,
    its frames are no step of the policy. The paper's authors press FIRE and then the next action, and leave out their rewards.

    It belongs outside of the frame skip and inside of the time limit. Games without lives, or whose second action is not FIRE,
    or that have two actions only, are left alone.

    :param env: A game of ale-py, with its wrappers.
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        game: Any = self.unwrapped
        meanings = game.get_action_meanings()
        self._has_fire, self._lives = len(meanings) >= 3 and meanings[1] == "FIRE", 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """
        Begin a game.

        :param seed: For the game.
        :param options: For the game.
        :return: What is seen, and what the game says of it.
        """
        beginning = self.env.reset(seed=seed, options=options)
        self._lives = self._count()
        return beginning

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """
        Play a step, and serve again if it has cost a life.

        :param action: The policy's.
        :return: As always.
        """
        observation, reward, terminated, truncated, info = self.env.step(action)
        # Where none is left, the game is over, or will be in a few frames.
        was_lost = 0 < self._count() < self._lives
        if was_lost and self._has_fire and not (terminated or truncated):
            observation, more, terminated, truncated, info = self.env.step(1)
            reward = float(reward) + float(more)
        self._lives = self._count()
        return observation, float(reward), terminated, truncated, info

    def _count(self) -> int:
        """Lives that are left."""
        game: Any = self.unwrapped
        return int(game.ale.lives())


def make_atari(
    game: str,
    frame_skip: int | None = None,
    noop_max: int = 30,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    **kwargs: Any,
) -> gym.Env:
    """
    Make a game with the paper's pre-processing, without the stack of frames.

    Up to ``noop_max`` no-ops first, then FIRE where the game waits for it, and again after each life that is lost
    (:class:`FireAfterLife`); gray frames of 84 x 84, the maximum of the last two that are skipped; the score as it is, not
    clipped; an episode is a whole game, not a life. Actions never stick. No-ops and FIRE are not counted as steps.

    :param game: Name of the game, such as "Pong": one of ``GAMES`` or any other that ale-py has.
    :param frame_skip: Frames that an action lasts; None for the paper's choice.
    :param noop_max: Most no-ops at the start.
    :param max_episode_steps: Steps of the policy after which an episode is truncated.
    :param kwargs: More arguments of ``gymnasium.make``, such as ``render_mode``.
    :return: The environment; it needs ale-py and OpenCV (``pip install sb3_esac[atari]``).
    :raises ValueError: If ale-py has no such game.
    """
    import ale_py

    gym.register_envs(ale_py)
    name = f"{game}NoFrameskip-v4"
    if name not in gym.registry:
        raise ValueError(f"`game` must be the name of an Atari game, such as {', '.join(map(repr, GAMES))}, not {game!r}")
    skip = FRAME_SKIPS.get(game, FRAME_SKIP) if frame_skip is None else frame_skip
    env: gym.Env = AtariWrapper(
        QuickReset(gym.make(name, **kwargs)),
        noop_max=noop_max,
        frame_skip=skip,
        terminal_on_life_loss=False,
        clip_reward=False,
    )
    # Outside of the frame skip and of FIRE, so that it counts steps of the policy.
    env = gym.wrappers.TimeLimit(FireAfterLife(env), max_episode_steps)
    env.metadata = {**env.metadata, "render_fps": GAME_FPS / skip}
    return env


def make_atari_vec_env(
    game: str, n_envs: int = 1, seed: int | None = None, vec_env_cls: type[VecEnv] | None = None, **kwargs: Any
) -> VecEnv:
    """
    Make a game as the policy sees it: frames stacked four deep, episodes monitored in steps of the policy.

    :param game: Name of the game.
    :param n_envs: Number of environments.
    :param seed: Seed of the first one.
    :param vec_env_cls: ``DummyVecEnv``, also if None, or ``SubprocVecEnv``.
    :param kwargs: More arguments of :func:`make_atari`.
    :return: Observations of shape (84, 84, 4); algorithms put the channels first by themselves.
    """
    venv = make_vec_env(make_atari, n_envs, seed, env_kwargs={"game": game, **kwargs}, vec_env_cls=vec_env_cls)  # type: ignore[arg-type]
    return VecFrameStack(venv, N_STACK)
