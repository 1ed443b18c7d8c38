"""Videos, animations and strips of saved models."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers import ALGORITHMS, DEVICE, make_model
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.recording import rendering
from sb3_esac.recording.loading import load_model
from sb3_esac.recording.rendering import NoRendererError, Playback, choose_renderer, make_venv
from sb3_esac.recording.writers import write_frames
from sb3_esac.video import main, record

pytest.importorskip("moviepy")
image = pytest.importorskip("PIL.Image")
pytest.importorskip("pygame")

TASK = "Pendulum-v1"
RING = "CyclicMDP-v0"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.zip"
    make_model(ESAC, gym.make(TASK, max_episode_steps=20), seed=0).learn(150).save(path)
    return path


def video_of(path):
    from imageio_ffmpeg import count_frames_and_secs
    from moviepy import VideoFileClip

    with VideoFileClip(str(path)) as clip:
        return clip.size, clip.fps, count_frames_and_secs(str(path))[0]


def test_video(model_file, tmp_path, capsys):
    main([str(model_file), "--env", TASK, "-o", str(tmp_path / "deep" / "a.mp4"), "--env-kwargs", "max_episode_steps=40"])
    printed = capsys.readouterr().out
    assert "in 40 steps" in printed and printed.splitlines()[-1].endswith("a.mp4")
    size, fps, n_frames = video_of(tmp_path / "deep" / "a.mp4")
    assert size == [500, 500] and fps == 30 and n_frames == 40


def test_animation_and_strip(model_file, tmp_path):
    record(model_file, TASK, tmp_path / "a.gif", max_steps=30)
    record(model_file, TASK, tmp_path / "a.png", max_steps=60)
    with image.open(tmp_path / "a.gif") as animation:
        # Every other frame of 30 per second, each for 7 hundredths.
        assert animation.n_frames == 15 and animation.info["duration"] == 70 and max(animation.size) == 320
    with image.open(tmp_path / "a.png") as strip:
        pixels = np.asarray(strip)
    assert pixels.shape == (240, 8 * 244 - 4, 3)
    frames = [pixels[:, 244 * i : 244 * i + 240] for i in range(8)]
    assert all((one != other).any() for one, other in itertools.pairwise(frames)), "the pendulum moves"


def test_what_is_played_is_what_predict_plays(model_file, tmp_path):
    playback = record(model_file, TASK, tmp_path / "a.gif", n_episodes=2, seed=5, env_kwargs=dict(max_episode_steps=15))
    model, env = ESAC.load(model_file), gym.make(TASK, max_episode_steps=15)
    expected = []
    for seed in (5, None):
        observation, _ = env.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, terminated, truncated, _ = env.step(action)
            total, over = total + reward, terminated or truncated
        expected.append(total)
    assert playback.returns == pytest.approx(expected, abs=1e-3) and playback.lengths == [15, 15]


@pytest.mark.parametrize("n_steps", [3, 40, 1000])
def test_strip_spans_all_of_it(tmp_path, n_steps):
    """However long it is; each frame here has the brightness of its time."""

    def frames(every):
        return (np.full((24, 24, 3), round(250 * step / n_steps), np.uint8) for step in range(0, n_steps, every))

    write_frames(tmp_path / "a.png", frames, fps=10)
    with image.open(tmp_path / "a.png") as strip:
        pixels = np.asarray(strip)
    shown = [int(pixels[100, 244 * i + 100, 0]) for i in range(min(n_steps, 8))]
    assert len(np.unique(shown)) == len(shown) and shown == sorted(shown)
    assert shown[0] == 0 and shown[-1] >= 250 * (n_steps - 1) / n_steps - 12


def test_odd_sizes(tmp_path):
    write_frames(tmp_path / "a.mp4", lambda every: (np.zeros((33, 65, 3), np.uint8) for _ in range(5)), fps=10)
    assert video_of(tmp_path / "a.mp4")[0] == [64, 32]


def test_discrete_actions_and_few_frames(tmp_path):
    make_model(ES, RING, seed=0).save(tmp_path / "es.zip")
    playback = record(tmp_path / "es.zip", RING, tmp_path / "a.png", max_steps=12)
    assert (tmp_path / "a.png").exists() and sum(playback.lengths) <= 12


@pytest.mark.parametrize("cls", [SAC, TD3, DDPG, PPO, A2C, DQN, *ALGORITHMS], ids=lambda cls: cls.__name__)
def test_the_file_tells_the_algorithm(tmp_path, cls):
    env = "CartPole-v1" if cls is DQN else TASK
    model = make_model(cls, env) if cls in ALGORITHMS else cls("MlpPolicy", env, device=DEVICE)
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model.zip")
    assert isinstance(loaded, TD3 if cls is DDPG else cls), "DDPG is TD3 with other arguments"
    observation = model.observation_space.sample()
    assert np.array_equal(
        loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
    )
    assert getattr(loaded, "replay_buffer", None) is None or loaded.replay_buffer.buffer_size <= 1


def test_contrib(tmp_path):
    contrib = pytest.importorskip("sb3_contrib")
    contrib.TQC("MlpPolicy", TASK, device=DEVICE).save(tmp_path / "tqc")
    assert isinstance(load_model(tmp_path / "tqc.zip"), contrib.TQC)
    assert isinstance(load_model(tmp_path / "tqc.zip", "TQC"), contrib.TQC)


@pytest.mark.parametrize("deploy", ["best", "agent", "population"])
def test_deploy(model_file, deploy):
    assert load_model(model_file, deploy=deploy).deploy == deploy


def test_vec_normalize(tmp_path):
    venv = VecNormalize(make_vec_env(TASK))
    model = make_model(ESAC, venv, seed=0).learn(600)
    model.save(tmp_path / "model")
    venv.save(str(tmp_path / "statistics.pkl"))
    player = load_model(tmp_path / "model.zip")
    made = make_venv(player, TASK, seed=3, vec_normalize=tmp_path / "statistics.pkl")
    raw, _ = gym.make(TASK).reset(seed=3)
    assert np.allclose(made.reset(), venv.normalize_obs(raw[None]), atol=1e-6)
    before = made.obs_rms.mean.copy()
    list(Playback(player, made, max_steps=5).frames(10))
    assert np.array_equal(made.obs_rms.mean, before), "watching is not training"


def run(*arguments, **environment):
    """The command in a process of its own, as what draws is chosen once for each."""
    names = {name: value for name, value in os.environ.items() if name not in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY")}
    command = [sys.executable, "-m", "sb3_esac.video", *map(str, arguments)]
    return subprocess.run(command, env={**names, **environment}, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5", "dm_control/cartpole-swingup-v0"])
def test_mujoco_without_a_screen(tmp_path, env_id):
    pytest.importorskip("mujoco")
    if env_id.startswith("dm_control"):
        pytest.importorskip("shimmy")
        pytest.importorskip("dm_control")
    train = (
        "import sys, gymnasium as gym\n"
        "from sb3_esac import ES\n"
        "from sb3_esac.envs.dm_control import FlatObservation\n"
        "name, path = sys.argv[1:]\n"
        "if name.startswith('dm_control'):\n"
        "    import shimmy\n"
        "    env = FlatObservation(gym.make(name))\n"
        "else:\n"
        "    env = gym.make(name)\n"
        "ES('MlpPolicy', env, seed=0).save(path)\n"
    )
    subprocess.run([sys.executable, "-c", train, env_id, str(tmp_path / "es.zip")], check=True, timeout=240, cwd=tmp_path)
    result = run(tmp_path / "es.zip", "--env", env_id, "-o", tmp_path / "a.png", "--steps", 20)
    if "MuJoCo can draw neither by EGL nor by OSMesa" in result.stderr:
        assert result.returncode == 1
        pytest.skip("no EGL and no OSMesa on this machine")
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
    with image.open(tmp_path / "a.png") as strip:
        assert strip.height == 240 and np.asarray(strip).std() > 10


def test_the_camera_follows_the_cheetah():
    pytest.importorskip("mujoco")
    code = (
        "from sb3_esac.recording.rendering import make_env\n"
        "renderer = make_env('HalfCheetah-v5').unwrapped.mujoco_renderer\n"
        "print('camera', renderer.camera_id, renderer.camera_name if hasattr(renderer, 'camera_name') else '')"
    )
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    # Camera 0 of the model is the one that tracks; -1 would be the free camera.
    assert result.stdout.split()[:2] == ["camera", "0"]


def test_the_camera_follows_robots_of_dm_control():
    pytest.importorskip("shimmy")
    pytest.importorskip("dm_control")
    code = (
        "from sb3_esac.recording.rendering import make_env\n"
        "for task, kwargs in ('walker-walk', {}), ('walker-walk', {'camera_id': 1}), ('cartpole-swingup', {}):\n"
        "    print(task, make_env(f'dm_control/{task}-v0', render_kwargs=kwargs).unwrapped.render_kwargs)"
    )
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=240, check=True
    )
    # Camera 0 of the walker is the one beside it; the cart stays in the picture.
    assert result.stdout.splitlines() == [
        "walker-walk {'camera_id': 0}",
        "walker-walk {'camera_id': 1}",
        "cartpole-swingup {}",
    ]


def test_no_renderer(monkeypatch):
    """A clear word on what to install."""
    pytest.importorskip("mujoco")
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(rendering, "PROBE", "raise ImportError('libEGL is not here')")
    with pytest.raises(NoRendererError, match=r"neither by EGL nor by OSMesa.*libegl1.*egl: ImportError: libEGL is not here"):
        choose_renderer("HalfCheetah-v5")
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_what_works_is_chosen(monkeypatch, backend):
    pytest.importorskip("mujoco")
    monkeypatch.setenv("MUJOCO_GL", "disable")
    monkeypatch.setattr(rendering, "PROBE", f"import os; assert os.environ['MUJOCO_GL'] == {backend!r}")
    assert choose_renderer("HalfCheetah-v5") == os.environ["MUJOCO_GL"] == backend
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    assert choose_renderer("HalfCheetah-v5") == "glfw", "who says so knows"
    assert choose_renderer(TASK) is None


class Blind(gym.Env):
    """Draws nothing."""

    def __init__(self, render_mode=None):
        self.observation_space = self.action_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.zip", "--env", TASK, "-o", "a.mp4"], r"There is no file nowhere\.zip"),
        (["MODEL", "--env", TASK, "-o", "a.avi"], r"must end with one of \.mp4, \.gif, \.png, not 'a\.avi'"),
        (["MODEL", "--env", "Nothing-v0", "-o", "a.mp4"], "Nothing-v0 cannot be made with a picture"),
        (["MODEL", "--env", "Blind-v0", "-o", "a.mp4"], "Blind-v0 draws no pictures"),
        (["MODEL", "--env", "CartPole-v1", "-o", "a.mp4"], "spaces do not match"),
        (["MODEL", "--env", TASK, "-o", "a.mp4", "--algo", "nope"], "`algorithm` must be one of .*'esac'.*, not 'nope'"),
        (["MODEL", "--env", TASK, "-o", "a.mp4", "--episodes", "0"], "`n_episodes` must be an integer >= 1, not 0"),
        (["setup", "--env", TASK, "-o", "a.mp4"], "not a model that Stable-Baselines3 saved"),
    ],
    ids=["file", "ending", "env", "blind", "spaces", "algorithm", "episodes", "zip"],
)
def test_clear_errors(model_file, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    Path("setup").write_text("nothing")
    if "Blind-v0" not in gym.registry:
        gym.register("Blind-v0", Blind)
    with pytest.raises(SystemExit, match=message):
        main([str(model_file) if argument == "MODEL" else argument for argument in arguments])
    assert not list(tmp_path.glob("a.*"))


def test_what_is_not_installed(model_file, monkeypatch):
    monkeypatch.setattr("sb3_esac.recording.writers.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"moviepy is needed to write \.mp4.*sb3_esac\[video\]"):
        main([str(model_file), "--env", TASK, "-o", "a.mp4"])
