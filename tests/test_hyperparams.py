"""The YAML files: every entry is a set of arguments that ESAC takes."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch.nn as nn
import yaml

from sb3_esac import ES, ESAC
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength
from sb3_esac.zoo.files import linear_schedule

FOLDER = Path(__file__).parent.parent / "hyperparams"
FILES = sorted([*FOLDER.glob("es*.yml"), *(FOLDER.parent / "experiments" / "entries").glob("*.yml")])
NOT_OF_THE_CONSTRUCTOR = {"n_timesteps", "env_wrapper", "policy"}
TABLE_1 = {
    *(f"{name}-v5" for name in ("HalfCheetah", "Humanoid", "Ant", "Walker2d", "Swimmer", "Hopper", "Reacher")),
    "LunarLanderContinuous-v3",
    "InvertedDoublePendulum-v5",
    *(f"dm_control/humanoid-{task}-v0" for task in ("stand", "walk", "run")),
    *(f"dm_control/quadruped-{task}-v0" for task in ("walk", "run")),
    *(f"dm_control/walker-{task}-v0" for task in ("walk", "run")),
    *(f"dm_control/fish-{task}-v0" for task in ("upright", "swim")),
    *(f"dm_control/{name}-v0" for name in ("cheetah-run", "cartpole-swingup", "acrobot-swingup")),
}


def entries(path: Path) -> dict[str, dict]:
    anchors = {"defaults", "mujoco", "dm_control", "population_first", "gradients_first"}
    return {name: values for name, values in yaml.safe_load(path.read_text()).items() if name not in anchors}


def test_the_files_are_there():
    assert {path.name for path in FILES} >= {"es.yml", "esac.yml", "esac_paper.yml"}


def test_nothing_is_tuned_by_task():
    ours = entries(FOLDER / "esac.yml")
    assert ours.keys() == TABLE_1 | {"default", "Pendulum-v1"}
    for name, values in ours.items():
        assert values.keys() <= NOT_OF_THE_CONSTRUCTOR, name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_entry_is_a_set_of_arguments(path):
    checked = []
    for name, values in entries(path).items():
        assert float(values["n_timesteps"]) > 0
        arguments = {key: value for key, value in values.items() if key not in NOT_OF_THE_CONSTRUCTOR}
        if arguments in checked:
            continue
        checked.append(dict(arguments))
        if "policy_kwargs" in arguments:
            arguments["policy_kwargs"] = eval(arguments["policy_kwargs"], {"nn": nn, "dict": dict})
            arguments["policy_kwargs"]["net_arch"] = [8, 8]
        for name in ("sigma", "agent_fraction", "learning_rate"):
            if isinstance(arguments.get(name), str):
                arguments[name] = linear_schedule(name, arguments[name])
        if "episode_length_schedule" in arguments:
            arguments["episode_length_schedule"] = ProgressiveEpisodeLength(**arguments["episode_length_schedule"])
        if path.stem != "es":
            model = ESAC(values["policy"], "Pendulum-v1", buffer_size=10, **arguments)
        elif values["policy"] == "MlpPolicy":
            model = ES(values["policy"], "Pendulum-v1", **arguments)
        else:
            continue
        for key in arguments.keys() - {"policy_kwargs"}:
            value = getattr(model, key)
            # The agent's, as SAC converts it
            value = value.frequency if key == "train_freq" else value
            assert value == arguments[key], f"{name}: {key}"


def test_the_paper_has_its_tasks_and_values():
    paper = entries(FOLDER / "esac_paper.yml")
    assert paper.keys() == TABLE_1 | {"default", "Pendulum-v1"}
    for name in TABLE_1:
        values = paper[name]
        assert (values["population_size"], values["winner_fraction"], values["gamma"]) == (50, 0.4, 0.99)
        assert values["sigma"] == (0.01 if name.startswith("dm_control") else 0.005)
    assert paper["Ant-v5"]["es_learning_rate"] == 1e-4
    episodes = {name: paper[name]["agent_episodes"] for name in TABLE_1}
    assert {name for name, count in episodes.items() if count == 10} == {"Ant-v5", "Walker2d-v5", "Hopper-v5", "Humanoid-v5"}
    assert sum(count == 5 for count in episodes.values()) == 7
    assert sum(count == 1 for count in episodes.values()) == 10


def test_the_papers_mean_stays_where_networks_can_play():
    # Plain ascent carries it away: it follows members that start from winners and the agent, far from it in units of sigma.
    values = entries(FOLDER / "esac_paper.yml")["Pendulum-v1"] | {"policy_kwargs": {"net_arch": [16, 16]}}
    arguments = {key: value for key, value in values.items() if key not in NOT_OF_THE_CONSTRUCTOR}
    model = ESAC(values["policy"], gym.make("Pendulum-v1", max_episode_steps=10), seed=0, **arguments)
    before = np.linalg.norm(model.population.mean)
    model.learn(15_000)
    assert model.population.generation >= 20 and 0 < model.agent_timesteps
    assert np.linalg.norm(model.population.mean) < 1.5 * before
