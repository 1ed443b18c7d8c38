"""Environments that draw themselves where there is no screen."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecNormalize

from sb3_esac.envs.atari import N_STACK, make_atari
from sb3_esac.envs.dm_control import FlatObservation
from sb3_esac.quiet import quieten_mujoco

DM_CONTROL = "dm_control/"
ATARI = "NoFrameskip-v4"

BACKENDS = ("egl", "osmesa")
"""Ways in which MuJoCo draws without a screen, the faster one first."""

PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    assert renderer.render().shape == (32, 32, 3)
"""


class NoRendererError(RuntimeError):
    """Nothing on this machine can draw the environment."""


@dataclass
class Playback:
    """
    Episodes that are played while somebody asks for frames.

    :param model: Who plays.
    :param venv: One environment.
    :param n_episodes: How many episodes.
    :param max_steps: Most steps of all of them.
    :param returns: Return of each episode that has ended.
    :param lengths: Its steps.
    """

    model: BaseAlgorithm
    venv: VecEnv
    n_episodes: int = 1
    max_steps: int | None = None
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)

    @property
    def fps(self) -> float:
        """Frames per second of the environment."""
        return float(self.venv.get_attr("metadata")[0].get("render_fps") or 30)

    def frames(self, every: int = 1) -> Iterator[np.ndarray]:
        """
        Play deterministically.

        :param every: Steps between two frames.
        :return: (height, width, 3) frames.
        """
        observation, state, starts, step = self.venv.reset(), None, np.ones((1,), dtype=bool), 0
        while len(self.returns) < self.n_episodes and (self.max_steps is None or step < self.max_steps):
            if step % every == 0:
                yield self._frame()
            action, state = self.model.predict(observation, state, starts, deterministic=True)  # type: ignore[arg-type]
            observation, _, starts, infos = self.venv.step(action)
            step += 1
            # The environment is already at the start of the next episode then.
            episode = infos[0].get("episode")
            if episode is not None:
                self.returns.append(float(episode["r"]))
                self.lengths.append(int(episode["l"]))

    def _frame(self) -> np.ndarray:
        frame = next(iter(self.venv.get_images()), None)
        if frame is None:
            raise NoRendererError("The environment gave no picture: it knows no `render_mode='rgb_array'`")
        return np.asarray(frame, dtype=np.uint8)[..., :3]


def choose_renderer(env_id: str) -> str | None:
    """
    Choose how MuJoCo draws, before anybody imports it: by ``MUJOCO_GL`` if that is set, else by what works here.

    :param env_id: Name of the environment.
    :return: The backend that was chosen; None if there was nothing to choose.
    """
    if not _needs_mujoco(env_id) or not sys.platform.startswith("linux") or find_spec("mujoco") is None:
        return None
    given = os.environ.get("MUJOCO_GL")
    if given not in (None, "", "disable", "disabled", "off"):
        return given
    reasons = []
    for backend in BACKENDS:
        environment = {**os.environ, "MUJOCO_GL": backend, "PYOPENGL_PLATFORM": backend}
        command = [sys.executable, "-c", PROBE]
        probe = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = backend
            return backend
        reasons.append(f"{backend}: {(probe.stderr.strip().splitlines() or ['it crashed'])[-1]}")
    raise NoRendererError(
        "MuJoCo can draw neither by EGL nor by OSMesa here, so there can be no video. Install one of their libraries "
        f"(libegl1 or libosmesa6 in Debian and Ubuntu), or set MUJOCO_GL=glfw where there is a screen. {'; '.join(reasons)}"
    )


def make_env(env_id: str, **kwargs: Any) -> gym.Env:
    """
    Make an environment that draws itself into arrays.

    :param env_id: Name of the environment.
    :param kwargs: More arguments of ``gymnasium.make``.
    :return: The environment, monitored; tasks of DM Control with one vector as their observation, Atari games as in the
        PEL paper.
    """
    kwargs = {"render_mode": "rgb_array", **kwargs}
    if env_id.startswith(DM_CONTROL):
        if find_spec("shimmy") is None or find_spec("dm_control") is None:
            raise NoRendererError('DM Control is needed: pip install "sb3_esac[dmc]"')
        # Registers dm_control/*.
        import shimmy  # noqa: F401
    if env_id.startswith("HalfCheetah-"):
        # The one robot of gymnasium that would run out of the picture.
        kwargs.setdefault("camera_name", "track")
    try:
        env = make_atari(env_id.removesuffix(ATARI), **kwargs) if env_id.endswith(ATARI) else gym.make(env_id, **kwargs)
    except (gym.error.Error, ImportError, TypeError) as error:
        raise NoRendererError(f"{env_id} cannot be made with a picture: {error}") from error
    if "rgb_array" not in (env.metadata.get("render_modes") or ()):
        raise NoRendererError(f"{env_id} draws no pictures: its render modes are {env.metadata.get('render_modes')}")
    return Monitor(FlatObservation(env) if env_id.startswith(DM_CONTROL) else env)


def make_venv(
    model: BaseAlgorithm,
    env_id: str,
    seed: int | None = None,
    vec_normalize: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> VecEnv:
    """
    Make the environment as a model wants it.

    :param model: Who is going to play.
    :param env_id: Name of the environment.
    :param seed: Seed of the first episode.
    :param vec_normalize: Statistics that ``VecNormalize.save`` wrote; None if the model had no such wrapper.
    :param env_kwargs: More arguments of ``gymnasium.make``.
    :return: One environment.
    """
    quieten_mujoco()
    venv: VecEnv = DummyVecEnv([lambda: make_env(env_id, **(env_kwargs or {}))])
    if env_id.endswith(ATARI):
        venv = VecFrameStack(venv, N_STACK)
    if vec_normalize is not None:
        venv = VecNormalize.load(str(vec_normalize), venv)
        venv.training = False
    venv = model._wrap_env(venv, verbose=0, monitor_wrapper=False)
    check_for_correct_spaces(venv, model.observation_space, model.action_space)
    venv.seed(seed)
    return venv


def _needs_mujoco(env_id: str) -> bool:
    if env_id.startswith(DM_CONTROL):
        return True
    spec = gym.registry.get(env_id)
    return spec is not None and "mujoco" in str(spec.entry_point)
