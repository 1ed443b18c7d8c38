"""
Figure 8 of ESAC: a strip of frames of a walker that nearly falls.

``--run`` trains ESAC (arguments by task) and saves it; ``--model FILE`` takes a saved one. An episode is played twice
with one seed: once to see where the torso is lowest after the walker has stood up, once to take frames around that moment.
Frames are drawn by EGL or OSMesa, whichever works, or as MUJOCO_GL says. Small: 30,000 true steps, which is not enough for a
good gait; paper: 1e6.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from experiments import drawing
from experiments.algorithms import ALGORITHMS
from experiments.drawing import PICTURES
from experiments.figures.study import Outcome
from sb3_esac import ESAC
from sb3_esac.quiet import quieten_mujoco
from sb3_esac.recording.rendering import choose_renderer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASK = "dm_control/walker-walk-v0"
MODEL = Path("runs") / "figure8.zip"
STANDING, FALLEN = 1.0, 0.5
"""Heights of the torso in metres: dm_control's walker counts as standing above 1.2, and lies below 0.4."""

N_STANDING = 25
"""Steps above that height which count as having stood up: a walker of dm_control begins in the air."""


def make_env(task: str, render: bool) -> gym.Env:
    """
    Make an environment to be played on.

    :param task: Its name.
    :param render: Whether frames will be taken.
    """
    mode = "rgb_array" if render else None
    if not task.startswith("dm_control/"):
        return gym.make(task, render_mode=mode)
    import shimmy  # noqa: F401

    from sb3_esac.envs.dm_control import FlatObservation

    return FlatObservation(gym.make(task, render_mode=mode))


def height(env: gym.Env) -> float:
    """
    Find how high the torso is.

    :param env: A walker, of dm_control or gymnasium.
    """
    inner: Any = env.unwrapped
    if hasattr(inner, "_env"):
        return float(inner._env.physics.named.data.xpos["torso", "z"])
    return float(inner.data.body("torso").xpos[2])


def play(model: Any, env: gym.Env, seed: int) -> Iterator[tuple[float, float]]:
    """
    Play an episode deterministically.

    :param model: What is played.
    :param env: Where.
    :param seed: Of the episode.
    :return: Reward, and height of the torso, after each step.
    """
    observation, _ = env.reset(seed=seed)
    ended = False
    while not ended:
        observation, reward, terminated, truncated, _ = env.step(model.predict(observation, deterministic=True)[0])
        ended = terminated or truncated
        yield float(reward), height(env)


def stood_up(heights: np.ndarray) -> int | None:
    """
    Find when the walker had stood up.

    :param heights: (k,) heights of the torso.
    :return: A step, None if it never did.
    """
    upright = np.convolve(heights >= STANDING, np.ones(N_STANDING), mode="valid") >= N_STANDING
    return int(upright.argmax()) + N_STANDING - 1 if len(heights) >= N_STANDING and upright.any() else None


def moments(heights: np.ndarray, n_frames: int, every: int) -> np.ndarray:
    """
    Choose the steps of the strip: around the lowest moment after the walker has stood up.

    :param heights: (k,) heights of the torso.
    :param n_frames: How many frames.
    :param every: Steps between them.
    :return: (n_frames,) steps, in the episode.
    """
    begin = stood_up(heights) or 0
    lowest = begin + int(heights[begin:].argmin())
    steps = lowest + every * (np.arange(n_frames) - n_frames // 2)
    # Moved into the episode as a whole, so that frames stay evenly spaced
    steps += max(0, -int(steps[0]))
    steps -= max(0, int(steps[-1]) - (len(heights) - 1))
    return np.maximum(steps, 0)


def check(rewards: np.ndarray, heights: np.ndarray) -> Outcome:
    """
    Say whether the walker falls.

    :param rewards: (k,) rewards of the episode.
    :param heights: (k,) heights of the torso.
    """
    claim = "the policy keeps the walking robot from falling when it loses its balance"
    begin = stood_up(heights)
    evidence = (
        f"return {rewards.sum():.0f}; torso above {STANDING:g} m in {np.mean(heights >= STANDING):.0%} of {len(heights)} steps"
    )
    if begin is None:
        return Outcome(claim, None, f"{evidence}: it never stood up")
    lowest = float(heights[begin:].min())
    return Outcome(claim, lowest > FALLEN, f"{evidence}; lowest after it had stood up: {lowest:.2f} m")


def draw(frames: Sequence[np.ndarray], steps: np.ndarray, heights: np.ndarray, title: str) -> "Figure":
    """
    Draw the strip, and the height of the torso below it.

    :param frames: Pictures.
    :param steps: When they were taken.
    :param heights: (k,) heights of the torso in the whole episode.
    :param title: Above them.
    """
    figure = drawing.new_figure(1.6 * len(frames), 4.2)
    parts: Any = figure.subfigures(2, 1, height_ratios=[1.0, 1.3])
    above, below = parts
    for panel, frame, step in zip(np.atleast_1d(above.subplots(1, len(frames))), frames, steps, strict=True):
        panel.imshow(frame)
        panel.set_title(f"step {step}", fontsize="small")
        panel.set_axis_off()
    panel = below.subplots()
    panel.plot(heights, color=drawing.COLORS[0])
    panel.vlines(steps, heights.min(), heights.max(), color=drawing.COLORS[1], linewidth=0.8)
    drawing.finish(panel, "step", "height of the torso in m", title)
    return figure


def main(arguments: Sequence[str] | None = None) -> list[Outcome]:
    """
    Train if asked to, play, and draw.

    :param arguments: Words of the command line.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=TASK)
    parser.add_argument("--run", action="store_true", help="train first")
    parser.add_argument("--paper", action="store_true", help="with the paper's budget")
    parser.add_argument("--steps", type=int, help="with another budget")
    parser.add_argument("--model", type=Path, default=MODEL, help="zip file of ESAC; --run writes it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=10)
    parser.add_argument("--every", type=int, default=4, help="steps between frames")
    parser.add_argument("--pictures", type=Path, default=PICTURES, metavar="FOLDER")
    options = parser.parse_args(arguments)
    choose_renderer(options.task)
    quieten_mujoco()
    if options.run:
        budget = options.steps or (1_000_000 if options.paper else 30_000)
        model: Any = ALGORITHMS["ESAC"](options.task, options.seed, budget)
        model.learn(budget)
        options.model.parent.mkdir(parents=True, exist_ok=True)
        model.save(options.model)
    if not options.model.exists():
        raise SystemExit(f"no model in {options.model}: train one with --run")
    model = ESAC.load(options.model, device="cpu")
    seen = np.array(list(play(model, make_env(options.task, False), 1_000_000 + options.seed)))
    rewards, heights = seen[:, 0], seen[:, 1]
    steps = moments(heights, options.frames, options.every)
    env = make_env(options.task, True)
    frames: list[Any] = []
    for step, _ in enumerate(play(model, env, 1_000_000 + options.seed)):
        frames += [env.render()] * int((steps == step).sum())
        if step >= steps[-1]:
            break
    env.close()
    outcome = check(rewards, heights)
    print(outcome)
    title = f"{options.task}, {model.num_timesteps:,} true steps, return {rewards.sum():.0f}"
    for file in drawing.save(draw(frames, steps, heights, title), options.pictures / "figure8"):
        print(file)
    return [outcome]


if __name__ == "__main__":
    main()
