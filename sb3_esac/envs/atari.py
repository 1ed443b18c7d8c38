"""The Atari games of the PEL paper with its pre-processing, made of Stable-Baselines3's and gymnasium's wrappers."""

from typing import Any

import gymnasium as gym
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


def make_atari(
    game: str,
    frame_skip: int | None = None,
    noop_max: int = 30,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    **kwargs: Any,
) -> gym.Env:
    """
    Make a game with the paper's pre-processing, without the stack of frames.

    Up to ``noop_max`` no-ops first, then FIRE where the game waits for it; gray frames of 84 x 84, the maximum of the last two
    that are skipped; the score as it is, not clipped; an episode is a whole game, not a life. Actions never stick.

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
        gym.make(name, **kwargs), noop_max=noop_max, frame_skip=skip, terminal_on_life_loss=False, clip_reward=False
    )
    # Outside of the frame skip, so that it counts steps of the policy.
    return gym.wrappers.TimeLimit(env, max_episode_steps)


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
