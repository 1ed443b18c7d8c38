"""What a model is made of: parts that own their state, and a file that is made of these."""

import dataclasses
import io
import json
import zipfile
from base64 import b64decode
from copy import deepcopy

import cloudpickle
import numpy as np
import pytest
import torch as th
from helpers import ALGORITHMS, HYBRIDS, Tell, differences, drift, make_model
from stable_baselines3 import SAC
from support import tiny, vec

from sb3_esac import ESAC
from sb3_esac.evolution.episode_lengths import ProgressiveEpisodeLength

AUTO = dict(agent_fraction="auto")
"""The rule that has a state."""

LENGTHS = ProgressiveEpisodeLength(horizon=12)
PARTS = [
    *[(algorithm, name) for algorithm in ALGORITHMS for name in ("arena", "champion", "population")],
    (ESAC, "learner"),
    (ESAC, "budget"),
]


def trained(algorithm, seed=0, steps=400, **options):
    options = {"agent_fraction": 0.4, "champion_episodes": 3, "episode_length_schedule": LENGTHS, **options}
    return make_model(algorithm, drift(), seed=seed, **options).learn(steps)


def plain(value):
    """Compare objects by what they hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if type(value).__module__.startswith("sb3_esac") and hasattr(value, "__dict__"):
        return {key: plain(part) for key, part in value.__getstate__().items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def state_of_part(model, name):
    return deepcopy(plain(model.parts[name].state_dict()))


# -- state -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_names(algorithm):
    model = make_model(algorithm, drift())
    names = {"population", "arena", "champion"} | ({"learner", "budget"} if algorithm in HYBRIDS else set())
    assert model.parts.keys() == names
    assert all(part is getattr(model, name) for name, part in model.parts.items())
    assert (model.learner is None) is (algorithm not in HYBRIDS)


@pytest.mark.parametrize("algorithm, name", PARTS)
def test_round_trip(algorithm, name):
    """Another model's part goes on from the state, through a file; both are apart from then on."""
    rule = AUTO if name == "budget" else {}
    model = trained(algorithm, **rule)
    other = make_model(algorithm, drift(), seed=1, episode_length_schedule=LENGTHS, **rule)
    expected = state_of_part(model, name)
    assert differences(expected, state_of_part(other, name)), "nothing to be restored"
    state = model.parts[name].state_dict()
    kept = deepcopy(plain(state))
    other.parts[name].load_state_dict(cloudpickle.loads(cloudpickle.dumps(state)))
    assert differences(expected, state_of_part(other, name)) == []

    other.parts[name].load_state_dict(state)
    model.learn(800, reset_num_timesteps=False)
    assert differences(expected, state_of_part(model, name)), "nothing has happened"
    assert differences(expected, state_of_part(other, name)) == [], "it hangs on the other one"
    assert differences(kept, plain(state)) == [], "a state is not a view"
    other.learn(100)
    assert differences(kept, plain(state)) == [], "nor is it of who has taken it"


ELSEWHERE = {
    # Networks, optimisers, environment and buffer are saved on their own; seconds are for the log; the rest is of one interval
    # or one evaluation, or grows to say that something has changed.
    "arena": {"env", "base", "vec_normalize", "seconds", "_evaluator", "_is_outdated", "_is_new"},
    "budget": {"_turn"},
    "champion": {"actor", "_round"},
    "population": {"strategy", "config"},
    "learner": {
        "agent",
        "averaged",
        "base",
        "seconds",
        "scale",
        "_updates",
        "_acting",
        "_is_trusted",
    },
}


@pytest.mark.parametrize("algorithm, name", PARTS)
def test_nothing_is_forgotten(algorithm, name):
    """Whatever changes as the model learns is in the state, but for what is known to be elsewhere."""
    options = dict(champion_episodes=3, episode_length_schedule=LENGTHS, agent_fraction=0.4)
    model = make_model(algorithm, drift(), seed=0, **{**options, **(AUTO if name == "budget" else {})})
    moments = []

    def look(model):
        part = model.parts[name]
        moments.append({key: deepcopy(plain(value)) for key, value in vars(part).items() if key not in ELSEWHERE[name]})

    look(model)
    model.learn(400, callback=Tell(look))
    look(model)
    keys = set().union(*moments)
    changing = {key for key in keys if any(differences(moments[0].get(key), moment.get(key)) for moment in moments)}
    assert changing and changing <= model.parts[name].state_dict().keys()


def test_what_the_learner_counts_is_the_agents():
    """It has no counters beside those of the agent."""
    model = trained(ESAC)
    state = model.learner.state_dict()
    assert state["agent"] == {
        "num_timesteps": model.agent.num_timesteps,
        "_n_updates": model.agent._n_updates,
        "_episode_num": model.agent._episode_num,
    }
    assert model.agent.num_timesteps == model.agent_timesteps > 0 and model.agent._n_updates == model._n_updates > 0
    assert model.num_timesteps == model.agent_timesteps + model.arena.timesteps


# -- the file ----------------------------------------------------------------------------------------------------------


def content_of(path):
    """Attributes in a file, their states, and names of the parameters."""
    with zipfile.ZipFile(path) as archive:
        attributes = json.loads(archive.read("data"))
        state = cloudpickle.loads(cloudpickle.loads(b64decode(attributes["_state"][":serialized:"])))
        tensors = {
            name.removesuffix(".pth"): th.load(io.BytesIO(archive.read(name)), weights_only=True)
            for name in archive.namelist()
            if name.endswith(".pth") and name != "pytorch_variables.pth"
        }
    return attributes, state, tensors


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_is_made_of_the_parts(algorithm, tmp_path):
    model = trained(algorithm)
    model.save(tmp_path / "model.zip")
    assert "_state" not in vars(model) and "_boundary_state" not in vars(model)
    attributes, state, tensors = content_of(tmp_path / "model.zip")
    apart = {"population"} if algorithm in HYBRIDS else set()
    assert state.pop("sigma") == model.sigma
    assert state.keys() == model.parts.keys() - apart
    for name, part in state.items():
        assert differences(plain(part), state_of_part(model, name)) == [], name
    assert differences(tensors.keys() ^ model.get_parameters().keys(), set()) == []
    for name in apart:
        assert differences(tensors[name], state_of_part(model, name)) == []
    # Each of them once: no part, and nothing that one of them owns, is an attribute beside.
    owned = {key for part in model.parts.values() for key in part.state_dict()} - {"mean", "strategy", "agent"}
    assert not attributes.keys() & (owned | model.parts.keys() | {"agent", "_n_updates", "_episode_num", "num_timesteps"})
    assert "_boundary_state" not in attributes


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_file_of_mid_generation_has_both_moments(algorithm, tmp_path):
    """What the parts are, and what they were as the generation began."""
    begun, saved = {}, {}

    def begin(model):
        if not saved:
            begun.update({name: state_of_part(model, name) for name in model.parts})

    def save(model):
        if saved or model.population.generation < 2 or model.arena.timesteps <= begun["arena"]["timesteps"] + 3:
            return
        model.save(tmp_path / "model.zip")
        saved.update({name: state_of_part(model, name) for name in model.parts})

    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.4, champion_episodes=3)
    model.learn(500, callback=Tell(save, begin))
    attributes, state, _ = content_of(tmp_path / "model.zip")
    for name in state.keys() - {"sigma"}:
        assert differences(plain(state[name]), saved[name]) == [], name
    boundary = cloudpickle.loads(cloudpickle.loads(b64decode(attributes["_boundary_state"][":serialized:"])))
    assert boundary["parts"].keys() == model.parts.keys()
    for name, part in boundary["parts"].items():
        assert differences(plain(part), begun[name]) == [], name
    assert differences(saved["arena"], begun["arena"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_loaded_model_has_the_parts(algorithm, tmp_path):
    model = trained(algorithm)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=drift())
    for name in model.parts:
        assert differences(state_of_part(model, name), state_of_part(loaded, name)) == [], name
    assert not vars(loaded).keys() & {"_state", "_boundary_state"}


# -- the agent is a stock agent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalize_observations", [False, True])
def test_nothing_is_replaced_on_the_agent(normalize_observations):
    """No method of its is swapped on the instance: what it does otherwise, its class says."""
    model = tiny(vec(1), normalize_observations=normalize_observations).learn(100)
    for instance in (model.agent, model.agent.policy, model.actor, model.agent.replay_buffer):
        methods = [name for name in vars(instance) if callable(getattr(type(instance), name, None))]
        assert not methods, (type(instance), methods)
    kind = type(model.agent)
    assert (kind is SAC) is not normalize_observations
    assert issubclass(kind, SAC) and kind.__name__ == "SAC" and (kind.save is SAC.save) is not normalize_observations
    plain_agent = SAC("MlpPolicy", vec(1), buffer_size=10)
    assert "save" not in vars(SAC) and "save" not in vars(plain_agent), "other agents are as they were"


def test_the_agent_saves_itself_as_plain(tmp_path):
    """Through whatever name of the method it is asked."""
    model = tiny(vec(1), normalize_observations=True).learn(100)
    observations = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    for number, save in enumerate((model.agent.save, lambda path: type(model.agent).save(model.agent, path))):
        save(tmp_path / str(number))
        agent = SAC.load(tmp_path / str(number))
        assert type(agent) is SAC and "esac" not in repr(agent.policy).lower()
        np.testing.assert_allclose(
            agent.predict(observations, deterministic=True)[0],
            model.agent.predict(observations, deterministic=True)[0],
            atol=1e-5,
        )
