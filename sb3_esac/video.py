"""
Record a saved model: ``python -m sb3_esac.video MODEL.zip --env ENV -o FILE`` (``esac-video`` is the same).

The ending of FILE decides: .mp4 is a video, .gif an animation, .png a strip of frames. Models of ES, ESAC and the algorithms
of Stable-Baselines3 and sb3-contrib play deterministically. No screen is needed.
"""

import argparse
import ast
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_esac.recording.loading import load_model
from sb3_esac.recording.rendering import NoRendererError, Playback, choose_renderer, make_venv
from sb3_esac.recording.writers import check_output, write_frames


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: Its arguments; None for the command line.
    """
    given = _parser().parse_args(arguments)
    try:
        playback = record(
            given.model,
            given.env,
            given.output,
            n_episodes=given.episodes,
            max_steps=given.steps,
            seed=given.seed,
            algorithm=given.algo,
            deploy=given.deploy,
            vec_normalize=given.vec_normalize,
            env_kwargs=dict(given.env_kwargs),
        )
    except (FileNotFoundError, ValueError, ImportError, NoRendererError) as error:
        sys.exit(f"esac-video: {error}")
    for number, (total, length) in enumerate(zip(playback.returns, playback.lengths, strict=True), start=1):
        print(f"episode {number}: return {total:.2f} in {length} steps")
    if not playback.returns:
        print(f"no episode ended within {given.steps} steps")
    print(given.output)


def record(
    model: str | Path,
    env_id: str,
    output: str | Path,
    n_episodes: int = 1,
    max_steps: int | None = None,
    seed: int | None = 0,
    algorithm: str | None = None,
    deploy: str | None = None,
    vec_normalize: str | Path | None = None,
    env_kwargs: dict[str, Any] | None = None,
) -> Playback:
    """
    Record a saved model.

    :param model: Zip file.
    :param env_id: Name of the environment.
    :param output: File to write: .mp4, .gif or .png.
    :param n_episodes: Episodes.
    :param max_steps: Most steps of all of them; None for no limit.
    :param seed: Seed of the first episode.
    :param algorithm: Name of the algorithm; None to find out from the file.
    :param deploy: For ES and ESAC: what plays, "best", "agent" or "population"; None for what the model was trained with.
    :param vec_normalize: Statistics that ``VecNormalize.save`` wrote.
    :param env_kwargs: Arguments of the environment, by name.
    :return: Returns and lengths of the episodes.
    """
    for name, value in (("n_episodes", n_episodes), ("max_steps", 1 if max_steps is None else max_steps)):
        if value < 1:
            raise ValueError(f"`{name}` must be an integer >= 1, not {value}")
    output = Path(output)
    check_output(output)
    choose_renderer(env_id)
    player = load_model(model, algorithm, deploy)
    venv = make_venv(player, env_id, seed, vec_normalize, env_kwargs)
    try:
        playback = Playback(player, venv, n_episodes, max_steps)
        write_frames(output, playback.frames, playback.fps)
    finally:
        venv.close()
    return playback


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="esac-video", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.zip")
    parser.add_argument("--env", required=True, help="name of the environment, such as HalfCheetah-v5")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".mp4, .gif or .png")
    parser.add_argument("--episodes", type=int, default=1)
    parser.add_argument("--steps", type=int, help="most steps of all episodes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--algo", help="algorithm, if the file does not tell: esac, es, sac, ppo, tqc, ...")
    parser.add_argument("--deploy", choices=("best", "agent", "population"), help="what plays, for ES and ESAC")
    parser.add_argument("--vec-normalize", type=Path, metavar="FILE", help="statistics that VecNormalize saved")
    parser.add_argument(
        "--env-kwargs", type=_option, nargs="+", default=[], metavar="NAME=VALUE", help="arguments of the environment"
    )
    return parser


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


if __name__ == "__main__":
    main()
