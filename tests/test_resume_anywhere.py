"""A checkpoint of any step is resumed exactly, and until then it is what was saved."""

import io
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from anywhere import CASES, TOTAL, At, go_on, whole_state
from helpers import ALGORITHMS, HYBRIDS, Tell, differences, drift, make_model, state_of
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.callbacks import AutomaticMutationTuning, HindsightCrossover
from sb3_esac.saving import BOUNDARY

N_CHECKPOINTS = 5


@pytest.mark.parametrize("name", CASES)
def test_any_step(tmp_path, name):
    case, seen = CASES[name], {}
    rng = np.random.default_rng(sum(map(ord, name)))
    # The last ones are in the probe that ends the run.
    n_calls = TOTAL // case.make_env().num_envs
    calls = {int(call) for call in rng.integers(1, n_calls + 6, N_CHECKPOINTS)} | {n_calls // 2}
    model = case.new_model()
    observations = [model.observation_space.sample() for _ in range(5)]

    def actions(model):
        return np.stack([model.predict(observation, deterministic=True)[0] for observation in observations])

    def look(model):
        seen[model.num_timesteps] = (actions(model), whole_state(model))

    model.learn(TOTAL, callback=At(calls, tmp_path, look))
    final = whole_state(model)
    assert len(seen) >= 3 and len({state["population"]["generation"].item() for _, state in seen.values()}) >= 2

    undisturbed = case.new_model().learn(TOTAL)
    assert differences(final, whole_state(undisturbed)) == []
    if "buffer_size" in case.options:
        store = undisturbed.replay_buffer.population_store
        assert undisturbed.replay_buffer.full and (store is None or store.full)

    for steps, (expected, state) in seen.items():
        loaded = case.load(tmp_path, steps)
        assert np.array_equal(actions(loaded), expected) and loaded.num_timesteps == steps
        now = whole_state(loaded)
        for part in now.keys() - {"buffers"}:
            assert differences(state[part], now[part], part) == []
        assert differences(final, go_on(loaded)) == []


@pytest.mark.parametrize("name", ["wrapped", "overlap_workers", "hindsight_wrapped", "es_workers"])
def test_killed(tmp_path, name):
    case = CASES[name]
    step = int(np.random.default_rng(sum(map(ord, name))).integers(TOTAL // 4, TOTAL))
    here = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])}
    script = [sys.executable, str(here / "anywhere.py")]
    died = subprocess.run([*script, "die", str(tmp_path), name, str(step)], env=environment, check=False)
    assert died.returncode == -signal.SIGKILL
    subprocess.run([*script, "resume", str(tmp_path), name], env=environment, check=True)
    resumed = pickle.loads((tmp_path / "resumed.pkl").read_bytes())
    assert step - 5 * case.make_env().num_envs < resumed["steps"] <= step
    assert differences(whole_state(case.new_model().learn(TOTAL)), resumed["final"]) == []


# -- what goes back, and what does not ---------------------------------------------------------------------------------


class Saved:
    """A model that was saved in the middle of a generation, after the agent and, in ESAC, the population had played in it."""

    def __init__(self, algorithm, folder, env=None, **options):
        self.algorithm, self.path, self.buffer, self.begun = algorithm, folder / "model", folder / "buffer", {}
        self.present, self.saved = {}, False

        def save(model):
            # ESAC's probe comes after all else; in ES all of a generation is played together.
            n_steps = model.num_timesteps - self.begun["counters"]["num_timesteps"] if self.begun else 0
            moved = not np.array_equal(model.population.mean, self.begun.get("mean"))
            late = moved if algorithm in HYBRIDS else n_steps > 20
            if self.saved or model.population.generation < 2 or not late:
                return
            self.saved = True
            model.save(self.path)
            if algorithm in HYBRIDS:
                model.save_replay_buffer(self.buffer)
            if env is not None:
                env.save(str(folder / "vec_normalize"))
            self.present.update(state_of(model))

        def begin(model):
            if not self.saved:
                self.begun.update(state_of(model), mean=model.population.mean)

        self.model = make_model(algorithm, env or drift(), seed=0, agent_fraction=0.4, champion_episodes=3, **options)
        self.model.learn(700, callback=Tell(save, begin))
        part = "population" if algorithm in HYBRIDS else "counters"
        assert self.saved and differences(self.begun[part], self.present[part])

    def load(self, **options):
        model = self.algorithm.load(self.path, env=drift(), **options)
        if self.algorithm in HYBRIDS:
            model.load_replay_buffer(self.buffer)
        return model


@pytest.fixture(scope="module", params=ALGORITHMS)
def saved(request, tmp_path_factory):
    return Saved(request.param, tmp_path_factory.mktemp("saved"))


def at_start(model, steps=400, **options):
    """State as the first generation begins."""
    states = []

    def begin(model):
        states.append(state_of(model))

    model.learn(steps, callback=Tell(lambda _: False, begin), **options)
    return states[0]


def test_learn_goes_back(saved):
    loaded = saved.load()
    assert differences(state_of(loaded)["parameters"], saved.present["parameters"]) == []
    state = at_start(loaded, reset_num_timesteps=False)
    # The remaining progress is that of the new call's budget.
    for part in state.keys() - {"buffers", "progress"}:
        assert differences(saved.begun[part], state[part], part) == []


def test_a_new_count_begins_the_generation_again(saved):
    """The agent keeps what it has learned, the population starts where its generation did, steps count from zero."""
    loaded = saved.load()
    state = at_start(loaded, reset_num_timesteps=True)
    assert differences(saved.begun["population"], state["population"]) == []
    assert state["counters"]["num_timesteps"] == 0
    if saved.algorithm in HYBRIDS:
        assert differences(saved.present["parameters"]["agent.policy"], state["parameters"]["agent.policy"]) == []
        assert differences(saved.present["buffers"], state["buffers"]) == []


def test_weights_of_the_user_stay(saved):
    """However they were set."""
    name = "agent.policy" if saved.algorithm in HYBRIDS else "policy"
    with_other = saved.load()
    changed = {key: value + 0.5 for key, value in with_other.get_parameters()[name].items()}

    def by_set_parameters(model):
        model.set_parameters({name: changed}, exact_match=False)

    def in_place(model):
        model.policy.load_state_dict(changed)

    for change in (by_set_parameters, in_place):
        loaded = saved.load()
        change(loaded)
        state = at_start(loaded, reset_num_timesteps=False)
        assert differences(changed, state["parameters"][name]) == []
        assert state["counters"]["num_timesteps"] == saved.present["counters"]["num_timesteps"]

    loaded, mean = saved.load(), np.arange(saved.model.population.mean.size, dtype=np.float32)
    loaded.population.set_mean(mean)
    state = at_start(loaded, reset_num_timesteps=False)
    assert np.array_equal(state["population"]["mean"], mean) and np.array_equal(state["population"]["members"][0], mean)


def test_the_same_weights_change_nothing(saved):
    loaded = saved.load()
    loaded.set_parameters(loaded.get_parameters())
    state = at_start(loaded, reset_num_timesteps=False)
    assert differences(saved.begun["counters"], state["counters"]) == []


def test_arguments_stay(saved):
    options = dict(sigma=0.3, population_size=6, seed=9, verbose=0, deploy="population")
    if saved.algorithm in HYBRIDS:
        options.update(gamma=0.5, learning_rate=0.1, stats_window_size=7)
    loaded = saved.load(**options)
    loaded.champion_episodes = 4
    at_start(loaded, reset_num_timesteps=False)
    for name, value in options.items():
        assert getattr(loaded, name) == value
    assert loaded.population.sigma == 0.3 and loaded.population.config.size == 6 and len(loaded.population.members) == 6
    assert loaded.champion_episodes == 4 and loaded.run_seed == 9
    if saved.algorithm in HYBRIDS:
        assert loaded.agent.gamma == 0.5 and loaded.lr_schedule(1.0) == 0.1


def test_saved_again_before_it_learns(saved, tmp_path):
    """The way back is passed on, but not to weights that are not those of the run."""
    loaded = saved.load()
    loaded.save(tmp_path / "again")
    assert differences(state_of(loaded)["population"], saved.present["population"]) == []
    again = saved.algorithm.load(tmp_path / "again", env=drift())
    assert differences(saved.begun["counters"], at_start(again, reset_num_timesteps=False)["counters"]) == []
    loaded.population.set_mean(loaded.population.mean + 1)
    loaded.save(tmp_path / "other")
    other = saved.algorithm.load(tmp_path / "other", env=drift())
    state = at_start(other, reset_num_timesteps=False)
    assert np.array_equal(state["population"]["mean"], saved.present["population"]["mean"] + 1)
    assert state["counters"]["num_timesteps"] == saved.present["counters"]["num_timesteps"]


def test_no_way_back_after_the_end(saved, tmp_path):
    """Nothing is kept once ``learn`` is over, nor in a file that is saved then."""
    model = saved.model
    model.save(tmp_path / "model")
    loaded = saved.algorithm.load(tmp_path / "model", env=drift())
    assert loaded._pending is None and not hasattr(model, BOUNDARY) and model._boundary is None
    if saved.algorithm in HYBRIDS:
        assert model.replay_buffer.undo is None
        model.save_replay_buffer(tmp_path / "buffer")
        loaded.load_replay_buffer(tmp_path / "buffer")
        assert loaded.replay_buffer.saved_undo is None


def test_attributes_that_cannot_be_saved(tmp_path):
    """They are left out by ``exclude`` as ever."""
    model, done = make_model(ES, drift(), seed=0), []
    model.lock = threading.Lock()

    def save(model):
        model.save(tmp_path / "model", exclude=["lock"])
        done.append(True)
        return False

    model.learn(100, callback=Tell(save))
    assert done and ES.load(tmp_path / "model", env=drift()).learn(50, reset_num_timesteps=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_best_model_is_what_was_evaluated(tmp_path, algorithm):
    """Whatever is deployed, also while the population has been updated and the generation is not over."""
    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.4, champion_episodes=3, deploy="population")
    observations = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    means, best = [], {}

    class Look(EvalCallback):
        def _on_step(self):
            before = self.best_mean_reward
            goes_on = super()._on_step()
            if self.best_mean_reward > before:
                best.update(actions=model.predict(observations, deterministic=True)[0], mean=model.population.mean)
            means.append(model.population.mean)
            return goes_on

    model.learn(500, callback=Look(drift(), eval_freq=3, n_eval_episodes=1, best_model_save_path=str(tmp_path), verbose=0))
    loaded = algorithm.load(tmp_path / "best_model")
    assert np.array_equal(loaded.predict(observations, deterministic=True)[0], best["actions"])
    assert np.array_equal(loaded.population.mean, best["mean"])


# -- action noise ------------------------------------------------------------------------------------------------------


class Decaying(NormalActionNoise):
    """Becomes less with every step."""

    def __call__(self):
        self._sigma = 0.98 * self._sigma
        return super().__call__()


def with_noise(n_envs=1, **options):
    """A new model."""
    noise = Decaying(np.zeros(1), np.full(1, 0.5))
    return make_model(ESAC, drift(n_envs), seed=5, agent_fraction=0.6, action_noise=noise, **options)


def sigmas(model):
    """Of every lane's noise."""
    noise = model.action_noise
    return [float(each._sigma[0]) for each in getattr(noise, "noises", [noise])]


def save_in_the_middle(model, folder):
    """
    Play a run, and save it in the middle of an interval.

    :param model: A new model.
    :param folder: Where to.
    :return: The noise as the generation began, and as it was saved.
    """
    seen = {}

    def begin(model):
        if "saved" not in seen:
            seen["begun"] = sigmas(model)

    def save(model):
        if "saved" not in seen and model.population.generation >= 2 and sigmas(model)[0] < 0.95 * seen["begun"][0]:
            seen["saved"] = sigmas(model)
            model.save(folder / "model")
            model.save_replay_buffer(folder / "buffer")

    model.learn(TOTAL, callback=Tell(save, begin))
    return seen["begun"], seen["saved"]


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("agent_class", [SAC, TD3])
def test_action_noise_goes_back(tmp_path, n_envs, agent_class):
    model = with_noise(n_envs, agent_class=agent_class)
    begun, saved = save_in_the_middle(model, tmp_path)
    loaded = ESAC.load(tmp_path / "model", env=drift(n_envs))
    assert sigmas(loaded) == saved != begun
    # Handed on by whoever saves it again.
    loaded.save(tmp_path / "model")
    loaded = ESAC.load(tmp_path / "model", env=drift(n_envs))
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert differences(whole_state(model), go_on(loaded)) == [] and sigmas(loaded) == sigmas(model)


def test_another_action_noise_stays(tmp_path):
    _, saved = save_in_the_middle(with_noise(), tmp_path)

    def as_it_begins(loaded):
        at_start(loaded, reset_num_timesteps=False)
        return loaded.action_noise

    assert sigmas(ESAC.load(tmp_path / "model", env=drift())) == saved
    for other in (NormalActionNoise(np.zeros(1), np.ones(1)), None):
        assert as_it_begins(ESAC.load(tmp_path / "model", env=drift(), action_noise=other)) is other
        loaded = ESAC.load(tmp_path / "model", env=drift())
        loaded.action_noise = other
        loaded.save(tmp_path / "again")
        assert as_it_begins(loaded) is other
        assert type(as_it_begins(ESAC.load(tmp_path / "again", env=drift()))) is type(other)
    # Steps are counted from zero, and the agent stays what it is.
    loaded = ESAC.load(tmp_path / "model", env=drift())
    at_start(loaded)
    assert sigmas(loaded) == saved


def test_action_noise_that_cannot_be_copied(tmp_path):
    """It is saved as it is, or left out."""
    model, kept = with_noise(), []
    model.action_noise.lock, model.action_noise.shown = threading.Lock(), model

    def save(model):
        model.save(tmp_path / "model", exclude=["action_noise"])
        kept.append(model._boundary.noise_then)

    model.learn(100, callback=Tell(save))
    assert kept[0] is model.action_noise and ESAC.load(tmp_path / "model", env=drift()).learn(50, reset_num_timesteps=False)


def test_what_an_action_noise_knows_is_not_copied():
    model, kept = with_noise(), []
    model.action_noise.shown = [model, model.agent, model.env]
    model.learn(60, callback=Tell(lambda model: kept.append(model._boundary.noise_then)))
    assert kept[0] is not model.action_noise
    assert all(one is other for one, other in zip(kept[0].shown, [model, model.agent, model.env], strict=True))


# -- files that belong together ----------------------------------------------------------------------------------------


def test_a_buffer_from_elsewhere_is_left_alone(tmp_path):
    """One of another moment of the run, or that was written to since."""
    one, other = Saved(ESAC, tmp_path), io.BytesIO()
    model = make_model(ESAC, drift(), seed=0, agent_fraction=0.4)
    model.learn(100, callback=Tell(lambda model: model.num_timesteps < 40 or model.save_replay_buffer(other) or False))
    other.seek(0)
    loaded = ESAC.load(one.path, env=drift())
    loaded.load_replay_buffer(other)
    expected = state_of(loaded)["buffers"]
    assert loaded.replay_buffer.saved_undo is not None
    assert differences(expected, at_start(loaded, reset_num_timesteps=False)["buffers"]) == []

    loaded = one.load()
    step = np.zeros((1, 3), np.float32)
    loaded.replay_buffer.add(step, step, np.zeros((1, 1)), np.zeros(1), np.zeros(1), [{}])
    expected = state_of(loaded)["buffers"]
    assert differences(expected, at_start(loaded, reset_num_timesteps=False)["buffers"]) == []
    assert one.load().replay_buffer.saved_undo is not None


def test_a_plain_agent_loads_the_buffer(tmp_path):
    one = Saved(ESAC, tmp_path, buffer_size=60)
    plain = SAC("MlpPolicy", drift(), buffer_size=60, learning_starts=5, batch_size=8, policy_kwargs=dict(net_arch=[8]))
    plain.load_replay_buffer(one.buffer)
    assert differences(one.present["buffers"][0]["rewards"], plain.replay_buffer.rewards) == []
    n_kept = len(plain.replay_buffer.saved_undo.own._rows)
    plain.learn(30)
    assert len(plain.replay_buffer.saved_undo.own._rows) == n_kept


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_other_statistics_are_left_alone(tmp_path, algorithm):
    one = Saved(algorithm, tmp_path, VecNormalize(drift()))
    env = VecNormalize.load(str(tmp_path / "vec_normalize"), drift())
    env.obs_rms.update(np.ones((5, 3)))
    expected = np.array(env.obs_rms.mean)
    loaded = algorithm.load(one.path, env=env)
    loaded.learn(100, callback=Tell(lambda _: False), reset_num_timesteps=False)
    assert np.array_equal(env.obs_rms.mean, expected)


# -- operators ---------------------------------------------------------------------------------------------------------


class Halve(AutomaticMutationTuning):
    """Keeps a count and, as people do, the model."""

    def _init_callback(self):
        self.n_halved, self.mine = getattr(self, "n_halved", 0), self.model

    def apply(self, generation):
        generation.population.sigma *= 0.5
        self.n_halved += 1


def test_operators_are_saved(tmp_path):
    model = make_model(ESAC, drift(), seed=0, crossover=None)
    halve, crossover = model.operators = [Halve(), HindsightCrossover("element")]
    model.learn(200)
    assert halve.n_halved > 0
    model.save(tmp_path / "model")
    assert halve.model is model and halve.mine is model and not hasattr(model, "_operators")
    loaded = ESAC.load(tmp_path / "model", env=drift(), amt_clip=0.5)
    again, crossover = loaded.operators
    assert type(again) is Halve and again.n_halved == halve.n_halved
    assert again.model is None and again.mine is None
    assert type(crossover) is HindsightCrossover and crossover.unit == "element"
    assert not hasattr(loaded, "_operators")
    sigma = loaded.population.sigma
    loaded.learn(100)
    assert loaded.operators == [again, crossover], "what is replaced stays replaced"
    assert again.n_halved > halve.n_halved and again.mine is loaded
    assert loaded.population.sigma == sigma * 0.5 ** (again.n_halved - halve.n_halved)


@pytest.mark.parametrize("kept", [[], [0], [1], [1, 0]], ids=str)
def test_operators_left_out_stay_out(tmp_path, kept):
    model = make_model(ESAC, drift(), seed=0, crossover="row", agent_fraction=0.4)
    model.operators = [model.operators[number] for number in kept]
    expected = [(type(operator), operator.settings) for operator in model.operators]
    for path in ("model", "again"):
        model.save(tmp_path / path)
        model = ESAC.load(tmp_path / path, env=drift())
        assert [(type(operator), operator.settings) for operator in model.operators] == expected
    model.learn(100)
    assert [(type(operator), operator.settings) for operator in model.operators] == expected


def test_operators_of_the_arguments_follow_the_arguments(tmp_path):
    model = make_model(ESAC, drift(), seed=0, crossover="row", agent_fraction=0.4).learn(150)
    model.save(tmp_path / "model")
    tuning, crossover = ESAC.load(tmp_path / "model", amt_clip=0.5, crossover="element").operators
    assert tuning.clip == 0.5 and crossover.unit == "element"
    assert [type(operator) for operator in ESAC.load(tmp_path / "model", crossover=None).operators] == [
        AutomaticMutationTuning
    ]


def test_an_operator_that_cannot_be_saved(tmp_path):
    model = make_model(ESAC, drift(), seed=0)
    model.operators[0] = Halve()
    model.operators[0].lock = threading.Lock()
    with pytest.warns(UserWarning, match="Halve cannot be saved.*set `model.operators`"):
        model.save(tmp_path / "model")
    assert [type(operator) for operator in ESAC.load(tmp_path / "model").operators] == [HindsightCrossover]


def test_an_operator_whose_class_is_gone(tmp_path, monkeypatch):
    model = make_model(ESAC, drift(), seed=0)
    model.operators.insert(0, Halve())
    model.save(tmp_path / "model")
    monkeypatch.delattr(sys.modules[__name__], "Halve")
    with pytest.warns(UserWarning, match="An operator of the file cannot be loaded: set `model.operators`"):
        loaded = ESAC.load(tmp_path / "model")
    assert [type(operator) for operator in loaded.operators] == [AutomaticMutationTuning, HindsightCrossover]
