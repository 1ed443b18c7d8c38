"""Frames go into a video, an animation or a strip, as the ending of the file says."""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np

Frames = Callable[[int], Iterator[np.ndarray]]
"""Plays, and gives a frame every so many steps."""

MAX_GIF_FPS, GIF_WIDTH = 25, 320
STRIP_FPS, STRIP_FRAMES, STRIP_HEIGHT, STRIP_GAP = 10, 8, 240, 4

NEEDS = {".mp4": "moviepy", ".gif": "PIL", ".png": "PIL"}
"""What each ending needs."""


def check_output(path: Path) -> None:
    """
    Say before anything is played if a file cannot be written.

    :param path: The file.
    """
    needed = NEEDS.get(path.suffix.lower())
    if needed is None:
        raise ValueError(f"`output` must end with one of {', '.join(NEEDS)}, not {path.name!r}")
    if find_spec(needed) is None:
        raise ImportError(f'{needed} is needed to write {path.suffix}: pip install "sb3_esac[video]"')


def write_frames(path: Path, frames: Frames, fps: float) -> None:
    """
    Play, and write what is seen.

    :param path: File with the ending .mp4, .gif or .png (a strip of frames from start to end).
    :param frames: Plays, and gives a frame every so many steps.
    :param fps: Steps per second.
    """
    check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    {".mp4": write_mp4, ".gif": write_gif, ".png": write_strip}[path.suffix.lower()](path, frames, fps)


def write_mp4(path: Path, frames: Frames, fps: float) -> None:
    """
    Write a video frame by frame, so that a long one needs no memory.

    :param path: The file.
    :param frames: Plays.
    :param fps: Steps per second.
    """
    from moviepy.video.io.ffmpeg_writer import FFMPEG_VideoWriter

    playing = frames(1)
    first = next(playing)
    # Players want even numbers of pixels.
    height, width = (size - size % 2 for size in first.shape[:2])
    with FFMPEG_VideoWriter(str(path), (width, height), fps, codec="libx264", preset="veryfast") as writer:
        for frame in chain([first], playing):
            writer.write_frame(np.ascontiguousarray(frame[:height, :width]))


def write_gif(path: Path, frames: Frames, fps: float) -> None:
    """
    Write an animation, smaller than the frames and with at most 25 of them per second.

    :param path: The file.
    :param frames: Plays.
    :param fps: Steps per second.
    """
    from PIL import Image

    every = int(np.ceil(fps / MAX_GIF_FPS))

    def image(frame: np.ndarray) -> "Image.Image":
        picture = Image.fromarray(frame)
        picture.thumbnail((GIF_WIDTH, GIF_WIDTH))
        return picture.quantize(128)

    images = map(image, frames(every))
    # Durations are stored in hundredths of a second.
    duration = max(10 * round(100 * every / fps), 20)
    next(images).save(path, save_all=True, append_images=images, duration=duration, loop=0)


def write_strip(path: Path, frames: Frames, fps: float) -> None:
    """
    Write some frames, evenly spaced in time, side by side.

    :param path: The file.
    :param frames: Plays.
    :param fps: Steps per second.
    """
    from PIL import Image

    kept: list[np.ndarray] = []
    stride = 1
    for number, frame in enumerate(frames(max(1, round(fps / STRIP_FPS)))):
        # How long it takes is not known before, so every other one is dropped whenever there are too many.
        if number % stride == 0:
            kept.append(frame)
        if len(kept) > 8 * STRIP_FRAMES:
            kept, stride = kept[::2], 2 * stride
    chosen = [kept[i] for i in np.unique(np.linspace(0, len(kept) - 1, STRIP_FRAMES).round().astype(int))]
    pictures = [Image.fromarray(frame) for frame in chosen]
    width = round(pictures[0].width * STRIP_HEIGHT / pictures[0].height)
    strip = Image.new("RGB", (len(pictures) * (width + STRIP_GAP) - STRIP_GAP, STRIP_HEIGHT), "gray")
    for number, picture in enumerate(pictures):
        strip.paste(picture.resize((width, STRIP_HEIGHT)), (number * (width + STRIP_GAP), 0))
    strip.save(path)
