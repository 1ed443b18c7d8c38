"""Every task of the papers: made, trained on for a moment and evaluated, by the zoo's command."""

import sys

import pytest
import yaml
from test_zoo import ROOT, commands  # noqa: F401  (a fixture)

LARGE = {"population_size": 2, "winner_fraction": 0.5, "champion_episodes": 1, "buffer_size": 3000, "learning_starts": 50}


def tasks(name):
    """Every environment of a file."""
    anchors = {"default", "defaults", "mujoco", "dm_control", "atari"}
    return [task for task in yaml.safe_load((ROOT / "hyperparams" / name).read_text()) if task not in anchors]


@pytest.mark.parametrize("task", tasks("esac.yml"))
def test_train_and_evaluate(commands, task):  # noqa: F811
    if task.startswith("dm_control"):
        pytest.importorskip("dm_control")
        pytest.importorskip("shimmy")
    if task.startswith("LunarLander"):
        pytest.importorskip("Box2D")
    params = [f"{name}:{value}" for name, value in LARGE.items()]
    flags = ["-n", 300, "--eval-freq", 300, "--eval-episodes", 1, "--seed", 0, "--num-threads", 1]
    commands("train", "--algo", "esac", "--env", task, *flags, "-params", *params)
    folder = commands.folder / "logs" / "esac"
    (run,) = folder.glob("**/evaluations.npz")
    assert (run.parent / "best_model.zip").is_file()
    (saved,) = folder.glob("**/config.yml")
    wrapper = yaml.unsafe_load(saved.read_text()).get("env_wrapper")
    assert (wrapper == "sb3_esac.envs.dm_control.FlatObservation") == task.startswith("dm_control")
    assert "MUJOCO_LOG.TXT" not in {path.name for path in commands.folder.iterdir()} and sys.stdout is not None
