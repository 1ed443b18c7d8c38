"""The commands of rl-zoo3, each run for real on something small."""

import importlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import yaml
from helpers import differences
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import SubprocVecEnv

pytest.importorskip("rl_zoo3")

import optuna
import rl_zoo3
import rl_zoo3.exp_manager
import rl_zoo3.hyperparams_opt
from matplotlib import pyplot

from sb3_esac import ES, ESAC, zoo
from sb3_esac.evaluation import arena
from sb3_esac.evaluation.direct import DirectEvaluator
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evaluation.vec_envs import base_vec_env
from sb3_esac.plotting import read_run
from sb3_esac.recording import rendering
from sb3_esac.zoo import cli
from sb3_esac.zoo.manager import LaneFactory
from sb3_esac.zoo.samplers import sample_es_params, sample_esac_params

ROOT = Path(__file__).parent.parent
SMALL = {
    "esac": ["population_size:4", "champion_episodes:1", "buffer_size:3000", "learning_starts:10", "batch_size:16"],
    "es": ["population_size:4", "champion_episodes:1", "n_workers:1"],
}
ALGORITHMS = list(SMALL)


class Zoo:
    """
    Runs commands in a folder of their own.

    :param folder: Where runs, plots and videos go.
    """

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments):
        """Run one command; what it prints is returned."""
        with redirect_stdout(io.StringIO()) as out, redirect_stderr(out):
            cli.main([str(argument) for argument in arguments])
        return out.getvalue()

    def train(self, algo, *arguments, env="Pendulum-v1", params=()):
        """Train briefly."""
        common = ["--algo", algo, "--env", env, "--eval-freq", -1, "--seed", 1, "--num-threads", 1]
        return self("train", *common, *arguments, "-params", *SMALL[algo], *params)

    def run_folder(self, algo, env="Pendulum-v1", number=1):
        """Where a run is."""
        return self.folder / "logs" / algo / f"{env}_{number}"


@pytest.fixture
def commands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Set by the commands for the whole process
    monkeypatch.setenv("MUJOCO_GL", os.environ.get("MUJOCO_GL", "egl"))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return Zoo(tmp_path)


@pytest.fixture
def evaluators(monkeypatch):
    """Kinds of the evaluators that models make."""
    kinds = []
    make = arena.make_evaluator

    def spy(*args, **kwargs):
        evaluator = make(*args, **kwargs)
        kinds.append(type(evaluator))
        return evaluator

    monkeypatch.setattr(arena, "make_evaluator", spy)
    return kinds


# -- train, enjoy, continue --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_from_training_to_enjoying(commands, algo):
    flags = ["--eval-freq", 400, "--eval-episodes", 1, "--save-freq", 400, "-P", "-tb", "tb"]
    if algo == "esac":
        flags.append("--save-replay-buffer")
    # So that the population plays in a run this short.
    share = ["agent_fraction:0.5"] if algo == "esac" else []
    output = commands.train(algo, "-n", 900, *flags, params=share)
    assert str(ROOT / "hyperparams" / f"{algo}.yml") in output
    folder = commands.run_folder(algo)
    expected = {
        "0.monitor.csv",
        "progress.csv",
        "evaluations.npz",
        "best_model.zip",
        "Pendulum-v1.zip",
        "rl_model_400_steps.zip",
    }
    assert {path.name for path in folder.iterdir()} >= expected
    settings = folder / "Pendulum-v1"
    assert {path.name for path in settings.iterdir()} >= {"config.yml", "args.yml", "command.txt"}
    saved = yaml.unsafe_load((settings / "config.yml").read_text())
    assert saved["population_size"] == 4 and "env_fn" not in saved
    evaluations = np.load(folder / "evaluations.npz")
    assert evaluations["timesteps"].tolist()[:2] == [400, 800] and np.isfinite(evaluations["results"]).all()
    assert list((commands.folder / "tb").rglob("events.out.tfevents*"))

    run = read_run(folder)
    assert run.missing() == [] and run.has("time/total_timesteps", "population/return_mean", "time/population_seconds")

    for which in ([], ["--load-best"], ["--load-last-checkpoint"], ["--load-checkpoint", 400]):
        shown = commands("enjoy", "--algo", algo, "--env", "Pendulum-v1", "-f", "logs", "-n", 201, "--no-render", *which)
        assert "1 Episodes" in shown and "Mean reward: -" in shown

    if algo == "esac":
        assert (folder / "replay_buffer.pkl").is_file()
    continued = commands.train(algo, "-n", 900, "-i", folder / "Pendulum-v1.zip")
    assert "Loading pretrained agent" in continued
    assert ("Loading replay buffer" in continued) == (algo == "esac")
    assert (commands.run_folder(algo, number=2) / "Pendulum-v1.zip").is_file()


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_a_run_is_finished_from_a_checkpoint(commands, algo):
    """The same command with ``-i`` ends where the run ends that was not cut short; another seed is drawn, as by default."""
    params = ["normalize:True", "normalize_observations:False"] if algo == "es" else ()
    flags = ["-n", 1300, "--save-freq", 500, "--save-replay-buffer"]
    commands.train(algo, *flags, params=params)
    folder = commands.run_folder(algo)
    for step in (500, 1000):
        assert (folder / f"rl_model_replay_buffer_{step}_steps.pkl").is_file() == (algo == "esac")
        assert (folder / f"rl_model_vecnormalize_{step}_steps.pkl").is_file() == (algo == "es")
    output = commands.train(algo, *flags, "-i", folder / "rl_model_1000_steps.zip", "--seed", 7, params=params)
    assert "Going on with the run at step 1000 of 1300" in output
    assert ("Loading replay buffer" in output) == (algo == "esac")
    ends = [{"esac": ESAC, "es": ES}[algo].load(commands.run_folder(algo, number=n) / "Pendulum-v1.zip") for n in (1, 2)]
    assert differences(*(end.get_parameters() for end in ends)) == []
    assert ends[0].num_timesteps == ends[1].num_timesteps >= 1300
    assert ends[0].population.generation == ends[1].population.generation

    output = commands.train(algo, "-n", 900, "-i", folder / "rl_model_1000_steps.zip", params=params)
    assert "Going on" not in output, "another number of steps is another run"
    if algo == "esac":
        (folder / "rl_model_replay_buffer_500_steps.pkl").unlink()
        output = commands.train(algo, *flags, "-i", folder / "rl_model_500_steps.zip")
        assert "not bit for bit" in output


def test_enjoy_allocates_no_replay_buffer(commands):
    model = ESAC("MlpPolicy", "Pendulum-v1", seed=0, share_experience=0.1)
    assert model.replay_buffer.buffer_size == 1_000_000
    model.save(commands.folder / "model.zip")
    loaded = ESAC.load(commands.folder / "model.zip")
    assert loaded.replay_buffer.buffer_size == loaded.replay_buffer.population_store.buffer_size == 1
    assert loaded.buffer_size == loaded.agent.buffer_size == 1_000_000
    loaded.set_env(gym.make("Pendulum-v1"))
    assert loaded.replay_buffer.buffer_size == 1_000_000
    assert loaded.replay_buffer.population_store.buffer_size == 300_000
    kept = loaded.replay_buffer
    loaded.set_env(gym.make("Pendulum-v1"))
    assert loaded.replay_buffer is kept


def test_a_loaded_buffer_is_kept_when_the_env_follows(commands):
    model = ESAC("MlpPolicy", "Pendulum-v1", seed=0, buffer_size=500, population_size=2, winner_fraction=0.5).learn(400)
    model.save(commands.folder / "model.zip")
    model.save_replay_buffer(commands.folder / "buffer.pkl")
    loaded = ESAC.load(commands.folder / "model.zip")
    loaded.load_replay_buffer(commands.folder / "buffer.pkl")
    loaded.set_env(gym.make("Pendulum-v1"))
    assert loaded.replay_buffer.buffer_size == 500
    assert loaded.replay_buffer.pos == model.replay_buffer.pos > 0


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_processes_on_the_whole_stack(commands, evaluators, algo):
    params = ["n_envs:2", "normalize:{'norm_reward':False}", "normalize_observations:False"]
    if algo == "esac":
        params.append("agent_fraction:0.5")
    common = ["--vec-env", "subproc", "--eval-freq", 600, "--eval-episodes", 1, "-n", 900]
    commands.train(algo, *common, params=[*params, "env_wrapper:'gymnasium.wrappers.TimeAwareObservation'"])
    assert evaluators == [SubprocEvaluator]
    folder = commands.run_folder(algo)
    assert (folder / "Pendulum-v1" / "vecnormalize.pkl").is_file()
    offspring = load_results(str(folder)).l.sum()
    assert offspring >= 800 and (folder / "offspring.monitor.csv").is_file(), "episodes of workers are in the zoo's files"
    shown = commands("enjoy", "--algo", algo, "--env", "Pendulum-v1", "-f", "logs", "-n", 201, "--no-render")
    assert "Loading running average" in shown and "1 Episodes" in shown


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_ctrl_c_that_ends_the_environment_as_well(commands, monkeypatch, algo):
    def interrupt(model, *args, **kwargs):
        for process in base_vec_env(model.env).processes:
            process.kill()
            process.join()
        raise KeyboardInterrupt

    monkeypatch.setattr({"es": ES, "esac": ESAC}[algo], "learn", interrupt)
    commands.train(algo, "--vec-env", "subproc", "-n", 900, params=["n_envs:2"])
    assert (commands.run_folder(algo) / "Pendulum-v1.zip").is_file()


@pytest.mark.parametrize("error", [BrokenPipeError, ArithmeticError])
def test_what_goes_wrong_in_training_is_not_hidden(commands, monkeypatch, error):
    def fail(model, *args, **kwargs):
        for process in base_vec_env(model.env).processes:
            process.kill()
            process.join()
        raise error("in training")

    monkeypatch.setattr(ES, "learn", fail)
    with pytest.raises(error, match="in training"):
        commands.train("es", "--vec-env", "subproc", "-n", 900, params=["n_envs:2"])


def test_workers_without_a_subproc_vec_env(commands, evaluators):
    commands.train("esac", "-n", 900, params=["n_workers:2"])
    commands.train("esac", "-n", 900)
    assert evaluators == [SubprocEvaluator, DirectEvaluator]
    first, second = (
        ESAC.load(commands.run_folder("esac", number=number) / "Pendulum-v1.zip").population.mean for number in (1, 2)
    )
    assert np.array_equal(first, second)


PACKAGE = """
import gymnasium as gym
from gymnasium.envs.classic_control import PendulumEnv

class Heavy(PendulumEnv):
    def __init__(self, mass=1.0, **kwargs):
        super().__init__(**kwargs)
        self.m = mass

gym.register("HeavyPendulum-v0", Heavy, max_episode_steps=50)
"""


def test_environments_of_other_packages(commands, monkeypatch, evaluators):
    (commands.folder / "heavy_pendulum.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(commands.folder))
    monkeypatch.setenv("PYTHONPATH", f"{commands.folder}{os.pathsep}{ROOT}")
    flags = ["--gym-packages", "heavy_pendulum", "--env-kwargs", "mass:2.0", "--vec-env", "subproc", "-n", 300]
    output = commands.train("esac", *flags, env="HeavyPendulum-v0", params=["n_envs:2"])
    assert "env_kwargs={'mass': 2.0}" in output
    assert evaluators == [SubprocEvaluator]


def test_tracking_without_a_network(commands, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    commands.train("esac", "-n", 900, "--track")
    assert list((commands.folder / "wandb").glob("offline-run-*"))


# -- hyperparameters ---------------------------------------------------------------------------------------------------


def test_the_papers_hyperparameters(commands):
    output = commands.train("esac", "-n", 900, "--paper", params=["policy_kwargs:dict(net_arch=[8])"])
    assert str(ROOT / "hyperparams" / "esac_paper.yml") in output
    model = ESAC.load(commands.run_folder("esac") / "Pendulum-v1.zip")
    assert (model.agent_fraction, model.share_experience, model.strategy) == (None, 0.0, "openai")


def test_a_learning_rate_that_does_not_end_at_zero(commands):
    # The zoo's own schedules end at zero
    commands.train("esac", "-n", 900, params=["learning_rate:'lin_0.001_0.0002'"])
    model = ESAC.load(commands.run_folder("esac") / "Pendulum-v1.zip")
    assert model.learning_rate(1.0) == 0.001 and model.learning_rate(0.0) == pytest.approx(0.0002)


def test_a_file_of_ones_own(commands):
    (commands.folder / "mine.yml").write_text("Pendulum-v1: {policy: MlpPolicy, n_timesteps: 900, sigma: 0.123}")
    commands.train("esac", "-conf", "mine.yml")
    assert ESAC.load(commands.run_folder("esac") / "Pendulum-v1.zip").sigma == 0.123


def test_names_in_files_become_objects(commands):
    given = {"policy": "MlpPolicy", "n_timesteps": 900, "agent_class": "sb3_contrib.TQC", "agent_fraction": "lin_0.4"}
    (commands.folder / "mine.yml").write_text(yaml.dump({"Pendulum-v1": given}))
    commands.train("esac", "-conf", "mine.yml")
    model = ESAC.load(commands.run_folder("esac") / "Pendulum-v1.zip")
    assert model.agent_class.__name__ == "TQC"
    assert model.agent_fraction(0.5) == 0.2
    (commands.folder / "mine.yml").write_text(yaml.dump({"Pendulum-v1": {**given, "agent_fraction": "exp_0.4"}}))
    with pytest.raises(ValueError, match=r"agent_fraction.*lin_0\.5.*exp_0\.4"):
        commands.train("esac", "-conf", "mine.yml")
    es = {"policy": "MlpPolicy", "n_timesteps": 900, "sigma": "lin_0.1_0.02"}
    (commands.folder / "mine.yml").write_text(yaml.dump({"Pendulum-v1": es}))
    commands.train("es", "-conf", "mine.yml")
    sigma = ES.load(commands.run_folder("es") / "Pendulum-v1.zip").sigma
    assert (sigma(1.0), sigma(0.0)) == pytest.approx((0.1, 0.02))


def test_a_file_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"'esca': there are .*esac, esac_paper"):
        zoo.hyperparameter_file("esca")


@pytest.mark.parametrize(("algo", "sample"), [("esac", sample_esac_params), ("es", sample_es_params)])
def test_every_sample_is_a_set_of_arguments(algo, sample):
    zoo.register()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        arguments = sample(trial, 1, 1, {"using_her_replay_buffer": False, "her_kwargs": {}})
        arguments["policy_kwargs"] = {**arguments["policy_kwargs"], "net_arch": [4]}
        if algo == "esac":
            ESAC("MlpPolicy", "Pendulum-v1", buffer_size=10, **arguments)
        else:
            ES("MlpPolicy", "Pendulum-v1", **arguments)
        converted = rl_zoo3.hyperparams_opt.HYPERPARAMS_CONVERTER[algo](trial.params)
        assert {**converted, "policy_kwargs": None} == {**arguments, "policy_kwargs": None}
        study.tell(trial, 0.0)


IDLE_BESIDE_TRIALS = {
    "esac": {"agent_fraction": None, "agent_episodes": 5},
    "es": {"strategy": "canonical", "winner_fraction": 0.4, "es_learning_rate": 0.1, "weight_decay": 0.01},
}
"""What an entry may say for arguments of its own. With whatever a trial says, some of it has no effect."""


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_optimizing_and_taking_a_trial(commands, algo):
    entry = {"policy": "MlpPolicy", "n_timesteps": 800, **IDLE_BESIDE_TRIALS[algo]}
    (commands.folder / "mine.yml").write_text(yaml.dump({"Pendulum-v1": entry}))
    storage = ["--storage", "optuna/study.log", "--study-name", "small"]
    flags = ["-conf", "mine.yml", "--n-trials", 2, "--n-startup-trials", 1, "--n-evaluations", 1, "--eval-episodes", 1]
    output = commands.train(algo, "-optimize", *flags, *storage, "--no-optim-plots", "--sampler", "random", "--pruner", "none")
    assert "Number of finished trials:  2" in output and "Best trial" in output
    assert len(list((commands.folder / "logs" / algo).glob("report_*.csv"))) == 1
    study = optuna.load_study(
        study_name="small",
        storage=optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend("optuna/study.log")),
    )
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    output = commands.train(algo, "-conf", "mine.yml", "-n", 100, *storage, "--trial-id", 1)
    assert "Loading from Optuna study" in output
    saved = sorted((commands.folder / "logs" / algo).glob("Pendulum-v1_*"))[-1] / "Pendulum-v1" / "config.yml"
    assert yaml.unsafe_load(saved.read_text())["sigma"] == study.trials[1].params["sigma"]


# -- videos and plots --------------------------------------------------------------------------------------------------


def test_video(commands):
    commands.train("esac", "-n", 900)
    commands("record_video", "--algo", "esac", "--env", "Pendulum-v1", "-f", "logs", "-n", 20, "-o", "videos")
    (video,) = (commands.folder / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000


def test_what_draws_is_looked_for(monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(rendering, "PROBE", "import os; assert os.environ['MUJOCO_GL'] == 'osmesa'")
    cli._prepare_rendering("record_video", ["--algo", "esac", "--env", "HalfCheetah-v5"])
    assert os.environ["MUJOCO_GL"] == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(rendering, "PROBE", "raise ImportError('libOSMesa is not here')")
    with pytest.raises(SystemExit, match="esac-zoo: MuJoCo can draw neither by EGL nor by OSMesa"):
        cli._prepare_rendering("record_video", ["--algo", "esac", "--env=HalfCheetah-v5"])


def test_the_camera_follows_the_cheetah():
    assert cli._with_camera(["--env", "HalfCheetah-v5"])[-2:] == ["--env-kwargs", "camera_name:'track'"]
    for arguments in (["--env", "Hopper-v5"], ["--env", "HalfCheetah-v5", "--env-kwargs", "camera_id:0"]):
        assert cli._with_camera(arguments) == arguments


def test_plots(commands, monkeypatch):
    # Replaced where there is no screen
    monkeypatch.setattr(pyplot, "show", pyplot.show)
    for _ in range(2):
        commands.train("esac", "-n", 1700, "--eval-freq", 400, "--eval-episodes", 2)
    where = ["-e", "Pendulum-v1", "-f", "logs"]
    table = commands("all_plots", "-a", "esac", *where, "--no-million", "-o", "results")
    assert "Pendulum-v1" in table and "+/-" in table
    commands("plot_train", "-a", "esac", *where, "-w", 2)
    for name in ("all_plots_1.png", "plot_train_1.png"):
        assert (commands.folder / name).read_bytes().startswith(b"\x89PNG")
    commands("plot_from_file", "-i", "results.pkl", "-o", "curves.png", "--format", "png", "--no-million", "-l", "ESAC")
    assert (commands.folder / "curves.png").read_bytes().startswith(b"\x89PNG")


# -- the entry points --------------------------------------------------------------------------------------------------


def test_registering_twice():
    zoo.register()
    zoo.register()
    assert (rl_zoo3.ALGOS["esac"], rl_zoo3.ALGOS["es"]) == (ESAC, ES)
    assert rl_zoo3.exp_manager.ExperimentManager is zoo.ExperimentManager
    train = importlib.import_module("rl_zoo3.train")
    assert train.ExperimentManager is zoo.ExperimentManager


def test_scripts_of_ones_own(tmp_path):
    script = """
import sb3_esac.zoo
import rl_zoo3.train

sb3_esac.zoo.register()

if __name__ == "__main__":
    rl_zoo3.train.train()
"""
    (tmp_path / "train.py").write_text(script)
    arguments = ["--algo", "esac", "--env", "Pendulum-v1", "-n", "900", "--eval-freq", "-1", "-params", *SMALL["esac"]]
    run_process([str(tmp_path / "train.py"), *arguments], tmp_path)
    assert (tmp_path / "logs/esac/Pendulum-v1_1/Pendulum-v1.zip").is_file()


def run_process(arguments, folder):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_the_module_as_a_command(tmp_path):
    flags = ["--vec-env", "subproc", "--env", "HalfCheetah-v5", "-n", "100", "--eval-freq", "-1"]
    small = ["population_size:2", "winner_fraction:0.5", "champion_episodes:1", "n_envs:2"]
    output = run_process(["-m", "sb3_esac.zoo", "train", "--algo", "esac", *flags, "-params", *small], tmp_path)
    command = (tmp_path / "logs/esac/HalfCheetah-v5_1/HalfCheetah-v5/command.txt").read_text()
    assert "-m sb3_esac.zoo train --algo esac" in command
    assert "deprecated" not in output


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(commands, arguments):
    output = commands(*arguments)
    assert "python -m sb3_esac.zoo train --algo esac" in output and "plot_from_file" in output


def test_unknown_scripts():
    with pytest.raises(SystemExit, match="unknown script 'trian', it must be one of train, enjoy"):
        cli.main(["trian"])


def test_without_rl_zoo3(monkeypatch):
    monkeypatch.setitem(sys.modules, "rl_zoo3", None)
    with pytest.raises(SystemExit, match=r"rl_zoo3 is needed: pip install .*\[zoo\]"):
        cli.main(["train"])


def test_importing_the_zoo_needs_no_rl_zoo3(tmp_path):
    hidden = "import sys; sys.modules['rl_zoo3'] = None; import sb3_esac.zoo.cli"
    run_process(["-c", hidden], tmp_path)


def test_the_papers_hyperparameters_are_esacs(commands):
    with pytest.raises(SystemExit, match="--paper is for --algo esac, not 'sac'"):
        commands("train", "--algo", "sac", "--paper", "--env", "Pendulum-v1")
    assert cli._with_preset(["--algo=esac", "--paper"])[:2] == ["--algo=esac", "-conf"]
    for conf in (["-conf", "mine.yml"], ["--conf-file=mine.yml"]):
        with pytest.raises(SystemExit, match="leave out either --paper or -conf"):
            cli._with_preset(["--algo=esac", *conf, "--paper"])


def test_games_are_for_es(commands):
    with pytest.raises(SystemExit, match="PongNoFrameskip-v4 has discrete actions, ESAC is for continuous ones"):
        commands("train", "--algo", "esac", "--env", "PongNoFrameskip-v4", "-n", "100")


# -- the stack of wrappers ---------------------------------------------------------------------------------------------


def test_lanes_are_made_as_the_zoo_makes_them():
    import cloudpickle

    names = ["gymnasium.wrappers.TimeAwareObservation", "gymnasium.wrappers.FlattenObservation"]
    wrapper = rl_zoo3.get_wrapper_class({"env_wrapper": names})
    factory = LaneFactory(gym.spec("Pendulum-v1"), {"g": 5.0}, {"info_keywords": ()}, wrapper)
    env = cloudpickle.loads(cloudpickle.dumps(factory))()
    kinds = []
    while isinstance(env, gym.Wrapper):
        kinds.append(type(env).__name__)
        env = env.env
    assert kinds[:3] == ["FlattenObservation", "TimeAwareObservation", "Monitor"]
    assert env.g == 5.0
    venv = SubprocVecEnv([factory])
    assert venv.get_attr("g") == [5.0]
    venv.close()
