"""
Draw run folders: ``python -m sb3_esac.plot FOLDER`` (``esac-plot`` is the same).

One folder gives learning curves, sigma, the agent's share, where winners come from, and steps and seconds by phase, as far as
the folder says so; several folders, of whatever algorithm, give one picture with the returns of all.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from sb3_esac.plotting.figure import DEFAULT_NAME, draw_run, new_figure, plot_comparison, watch, write
from sb3_esac.plotting.reading import read_run

LIVE_SECONDS = 5.0


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: Its arguments; None for the command line.
    """
    given = _parser().parse_args(arguments)
    if find_spec("matplotlib") is None:
        sys.exit('esac-plot: matplotlib is needed: pip install "sb3_esac[plots]"')
    try:
        _run(given)
    except (FileNotFoundError, ValueError, ImportError) as error:
        sys.exit(f"esac-plot: {error}")
    except KeyboardInterrupt:
        # The way to end --live.
        return


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="esac-plot", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="run folder")
    parser.add_argument(
        "-o",
        "--output",
        action="append",
        type=Path,
        metavar="FILE",
        help=f"file to write, .png, .svg or .pdf; may be repeated (default: {DEFAULT_NAME} in the folder; comparison.png for\n"
        "several folders)",
    )
    parser.add_argument("--events", type=Path, metavar="FOLDER", help="folder of TensorBoard events, if elsewhere")
    parser.add_argument("--labels", nargs="+", metavar="NAME", help="names of several runs")
    parser.add_argument(
        "--live",
        nargs="?",
        type=_seconds,
        const=LIVE_SECONDS,
        metavar="SECONDS",
        help=f"redraw while the run is being trained (every {LIVE_SECONDS:g} s): in a window where there is a screen,\n"
        "and into the file; ends with Ctrl-C",
    )
    return parser


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds: write folders before --live") from None


def _run(given: argparse.Namespace) -> None:
    if given.live is not None and not given.live > 0:
        raise ValueError(f"`--live` must be a number of seconds > 0, not {given.live:g}")
    if len(given.folders) > 1:
        if given.live is not None or given.events is not None:
            raise ValueError("`--live` and `--events` take one folder")
        for output in given.output or [Path("comparison.png")]:
            print(plot_comparison(given.folders, output, given.labels))
        return
    if given.labels is not None:
        raise ValueError("`--labels` are for several folders")
    folder = given.folders[0]
    outputs = given.output or [folder / DEFAULT_NAME]
    if given.live is not None:
        print(f"Drawing {folder} into {', '.join(map(str, outputs))} every {given.live:g} s, until Ctrl-C")
        watch(folder, outputs, given.live, given.events)
        return
    run = read_run(folder, given.events)
    figure = new_figure()
    draw_run(figure, run)
    print(f"Drawn from {', '.join(run.found)}")
    for note in run.missing():
        print(f"Not found: {note}")
    for output in outputs:
        print(write(figure, output))


if __name__ == "__main__":
    main()
