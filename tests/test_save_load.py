"""What is saved comes back, and a run that is taken up again is the run that was never interrupted."""

import functools
import io
import os
import pathlib
import pickle
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch as th
from helpers import ALGORITHMS, DEPLOYED, HYBRIDS, Drift, Tell, differences, drift, keep_log, make_model, state_of, stores_of
from resume import CASES, TOTAL, interrupt
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.callbacks import AutomaticMutationTuning, HindsightCrossover
from sb3_esac.evaluation.vectors import to_vector
from sb3_esac.evolution.strategies import STRATEGIES

INFINITY = float("inf")
OBSERVATIONS = np.random.Generator(np.random.Philox(0)).standard_normal((20, 3)).astype(np.float32)


def trained(algorithm=ESAC, n_envs=1, steps=150, **kwargs):
    return make_model(algorithm, drift(n_envs), seed=0, **kwargs).learn(steps)


def actions_of(model):
    return model.predict(OBSERVATIONS, deterministic=True)[0]


def randomized(parameters):
    """The same parameters with random numbers, optimisers and what the population has beside its mean left alone."""
    changed = deepcopy(parameters)
    for name, state in changed.items():
        if name == "population":
            mean = state["mean"] = th.rand_like(state["mean"])
            # Who starts from the mean starts from this one.
            state["strategy"]["mean"] = mean.to(state["strategy"]["mean"].dtype)
            state["_bases"][0] = mean
        elif "optim" not in name:
            changed[name] = {key: th.rand_like(value.float()).to(value.dtype) for key, value in state.items()}
    return changed


# -- parameters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm, deploy", DEPLOYED)
def test_save_and_load(tmp_path, algorithm, deploy):
    model = trained(algorithm, deploy=deploy)
    original, actions = deepcopy(model.get_parameters()), actions_of(model)

    changed = randomized(original)
    model.set_parameters(changed)
    assert not differences(changed, model.get_parameters())
    assert not np.allclose(actions, actions_of(model))
    model.set_parameters(original)
    assert np.array_equal(actions, actions_of(model))

    model.save(tmp_path / "model.zip")
    loaded = algorithm.load(tmp_path / "model.zip", env=model.get_env())
    assert not differences(original, loaded.get_parameters())
    assert np.array_equal(actions, actions_of(loaded))
    assert loaded.learn(100).num_timesteps >= 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_parameters_checks_names(algorithm):
    model = trained(algorithm, steps=50)
    parameters = deepcopy(model.get_parameters())

    with pytest.raises(ValueError, match="do not match"):
        model.set_parameters({})
    for name in parameters:
        incomplete = {key: value for key, value in parameters.items() if key != name}
        with pytest.raises(ValueError, match="do not match"):
            model.set_parameters(incomplete)
        changed = {key: value for key, value in randomized(parameters).items() if key == name}
        model.set_parameters(changed, exact_match=False)
        assert not differences(changed[name], model.get_parameters()[name])
    with pytest.raises(ValueError, match=r"dummy.*invalid object name"):
        model.set_parameters({**parameters, "dummy": next(iter(parameters.values()))})
    with pytest.raises(ValueError, match=r"dummy.*invalid object name"):
        model.set_parameters({"dummy": {}}, exact_match=False)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_parameters_checks_state_dicts(algorithm):
    model = trained(algorithm, steps=50)
    parameters = model.get_parameters()
    for name in [name for name in parameters if "optim" not in name]:
        broken = deepcopy(parameters)
        broken[name]["dummy"] = th.ones(2)
        with pytest.raises(RuntimeError, match="dummy"):
            model.set_parameters(broken)
        del broken[name]["dummy"]
        key = next(iter(broken[name]))
        value = broken[name].pop(key)
        with pytest.raises(RuntimeError):
            model.set_parameters(broken)
        broken[name][key] = th.cat([value, value])
        with pytest.raises(RuntimeError):
            model.set_parameters(broken)


FILES = {
    "ESAC": lambda: trained(),
    "ES": lambda: trained(ES),
    **{c.__name__: functools.partial(c, "MlpPolicy", "Pendulum-v1") for c in (SAC, TD3)},
}


@pytest.mark.parametrize(
    "load, name, way",
    [
        (ESAC.load, "SAC", "`ESAC.from_agent`"),
        (ES.load, "SAC", "another package$"),
        (ESAC.load, "ES", "not of ESAC: load it with `ES.load`"),
        (ES.load, "ESAC", "not of ES: load it with `ESAC.load`"),
        (functools.partial(ESAC.from_agent, env="Pendulum-v1"), "ESAC", "`model.agent`"),
        (functools.partial(ESAC.from_agent, env="Pendulum-v1"), "ES", "`model.agent`"),
        (functools.partial(ESAC.from_agent, env="Pendulum-v1"), "TD3", "`SAC.load` cannot load .*`agent_class`"),
        (
            functools.partial(ESAC.from_agent, env="Pendulum-v1", agent_class=TD3),
            "SAC",
            "`TD3.load` cannot load .*`agent_class`",
        ),
    ],
    ids=str,
)
def test_files_of_others_are_refused_with_a_way_on(load, name, way):
    file = io.BytesIO()
    FILES[name]().save(file)
    file.seek(0)
    with pytest.raises(ValueError, match=way):
        load(file)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("copy", [deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deepcopy", "pickle"])
def test_copies_go_on_alike(algorithm, copy):
    """A model with its environment is copied and pickled as SAC is: under names that other processes find."""
    model = trained(algorithm)
    other = copy(model)
    assert other.env is not model.env and other.num_timesteps == model.num_timesteps
    assert b"Seeded" not in pickle.dumps(model.env)
    for each in (model, other):
        each.learn(150, reset_num_timesteps=False)
    assert not differences(state_of(model), state_of(other))


def test_set_mean():
    """The members that start from the mean follow it."""
    model = trained()
    mean = np.arange(model.population.mean.size, dtype=np.float32)
    model.set_parameters({"population": {"mean": th.from_numpy(mean)}}, exact_match=False)
    assert np.array_equal(model.population.mean, mean)
    assert np.array_equal(model.population.members[0], mean)
    mean[:] = 0.0
    assert model.population.mean.any()


def test_the_policy_is_the_mean(tmp_path):
    """Whichever of the two is changed, and however, the other one follows."""
    model = trained(ES)
    parameters = deepcopy(model.get_parameters())["policy"]
    changed = {name: value + 0.5 for name, value in parameters.items()}

    def check(model, expected):
        actual = model.policy.state_dict()
        assert all(th.equal(actual[name], value) for name, value in expected.items())
        assert np.array_equal(to_vector(model.policy), model.population.mean)
        assert np.array_equal(model.population.members, np.stack([model.population.mean] * 4))

    model.set_parameters({"policy": changed}, exact_match=False)
    check(model, changed)
    model.population.set_mean(model.population.mean - 1)
    check(model, {name: value - 1 for name, value in changed.items()})
    # As after training by other means: what `learn` starts from, and what is saved.
    model.policy.load_state_dict(parameters)
    started = []
    model.learn(30, callback=Tell(on_generation=lambda model: started.append(model.population.mean)))
    assert np.array_equal(started[0], np.concatenate([value.cpu().numpy().ravel() for value in parameters.values()]))
    model.policy.load_state_dict(changed)
    model.save(tmp_path / "model")
    check(ES.load(tmp_path / "model"), changed)


def test_policy_alone(tmp_path):
    """``model.policy`` can be saved and loaded without the model."""
    for policy, kwargs in (("MlpPolicy", dict(net_arch=[8, 4])), ("LinearPolicy", dict(with_bias=True))):
        model = make_model(ES, drift(), policy, seed=0, normalize_observations=True, policy_kwargs=kwargs).learn(60)
        model.policy.save(tmp_path / "policy")
        loaded = model.policy_class.load(tmp_path / "policy")
        expected = model.policy.predict(OBSERVATIONS)[0]
        assert np.array_equal(loaded.predict(OBSERVATIONS)[0], expected) and expected.std() > 0


@pytest.mark.parametrize("algorithm", HYBRIDS)
def test_get_parameters_shares_no_memory_with_the_population(algorithm):
    model = trained(algorithm, steps=50)
    mean = model.population.mean.copy()
    model.get_parameters()["population"]["mean"].zero_()
    assert np.array_equal(model.population.mean, mean)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_parameters_from_file(tmp_path, algorithm):
    model = trained(algorithm)
    model.save(tmp_path / "model")
    other = trained(algorithm, steps=50)
    assert differences(model.get_parameters(), other.get_parameters())
    other.set_parameters(str(tmp_path / "model"))
    assert not differences(model.get_parameters(), other.get_parameters())


@pytest.mark.parametrize("algorithm, deploy", DEPLOYED)
def test_set_parameters_of_another_model(tmp_path, algorithm, deploy):
    """Without probes there is no champion, and the other model plays what this one plays."""
    average = {"agent_average": 0.5} if algorithm is ESAC and deploy != "population" else {}
    model = trained(algorithm, deploy=deploy, champion_episodes=0, **average)
    actions = actions_of(model)
    model.save(tmp_path / "model")
    for source in (model.get_parameters(), str(tmp_path / "model")):
        other = make_model(algorithm, drift(), seed=1, deploy=deploy, champion_episodes=0, **average)
        assert not np.array_equal(actions_of(other), actions)
        other.set_parameters(source)
        np.testing.assert_array_equal(actions_of(other), actions)


@pytest.mark.parametrize("steps", [0, 150])
def test_a_policy_of_the_users_is_deployed(steps):
    """It has no past to be averaged."""
    model = trained(deploy="agent", steps=steps)
    policy = {name: th.rand_like(value) for name, value in model.policy.state_dict().items()}
    model.set_parameters({"agent.policy": policy}, exact_match=False)
    np.testing.assert_array_equal(actions_of(model), model.policy.predict(OBSERVATIONS, deterministic=True)[0])
    np.testing.assert_array_equal(model.learner.vector, to_vector(model.actor))


def test_the_mean_follows_statistics_of_the_users():
    """It is deployed behind the statistics of the agent's policy."""
    model = trained(deploy="population", normalize_observations=True)
    actions = actions_of(model)
    policy = {
        name: value + 1.0 if name.split(".")[-1].startswith("mean") else value
        for name, value in model.policy.state_dict().items()
    }
    assert differences(policy, model.policy.state_dict())
    model.set_parameters({"agent.policy": policy}, exact_match=False)
    assert not np.array_equal(actions_of(model), actions)


@pytest.mark.parametrize("ent_coef", ["auto", 0.1])
def test_entropy_coefficient(tmp_path, ent_coef):
    model = trained(ent_coef=ent_coef, agent_fraction=0.5)
    model.save(tmp_path / "model")
    loaded = ESAC.load(tmp_path / "model")
    if ent_coef == "auto":
        assert th.equal(model.log_ent_coef, loaded.log_ent_coef) and model.log_ent_coef.item() != 0.0
        assert loaded.ent_coef_optimizer.param_groups[0]["params"][0] is loaded.log_ent_coef
        assert not differences(model.ent_coef_optimizer.state_dict(), loaded.ent_coef_optimizer.state_dict())
    else:
        assert loaded.ent_coef == 0.1 and loaded.log_ent_coef is None


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_paths(tmp_path, algorithm):
    model = trained(algorithm, steps=50)
    actions = actions_of(model)
    for path in (str(tmp_path / "a"), str(tmp_path / "b.zip"), tmp_path / "c", tmp_path / "folder" / "d.zip"):
        model.save(path)
        assert pathlib.Path(path).with_suffix(".zip").is_file()
        assert np.array_equal(actions, actions_of(algorithm.load(path)))
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    assert np.array_equal(actions, actions_of(algorithm.load(file)))
    with open(tmp_path / "e.zip", "wb") as opened:
        model.save(opened)
    with open(tmp_path / "e.zip", "rb") as opened:
        assert np.array_equal(actions, actions_of(algorithm.load(opened)))
    with open(os.devnull) as text, pytest.raises((TypeError, ValueError)):
        model.save(text)
    with pytest.raises(FileNotFoundError):
        algorithm.load(tmp_path / "nothing")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_exclude_and_include(tmp_path, algorithm):
    model = make_model(algorithm, drift(), verbose=2)
    model.save(tmp_path / "model", exclude=["verbose"])
    assert algorithm.load(tmp_path / "model").verbose != 2
    model.save(tmp_path / "model", exclude=["verbose"], include=["verbose"])
    assert algorithm.load(tmp_path / "model").verbose == 2


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_custom_objects_of_the_population(tmp_path, algorithm):
    model = make_model(algorithm, drift(), episode_length_schedule=lambda remaining: 5)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", custom_objects=dict(episode_length_schedule=None))
    assert loaded.episode_length_schedule is None
    assert algorithm.load(tmp_path / "model").episode_length_schedule(0.5) == 5


@pytest.mark.parametrize("algorithm", HYBRIDS)
def test_custom_objects(tmp_path, algorithm):
    model = make_model(algorithm, drift(), learning_rate=lambda remaining: 1e-3)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", custom_objects=dict(learning_rate=2e-5, lr_schedule=lambda _: 2e-5))
    assert loaded.learning_rate == 2e-5 and loaded.agent.lr_schedule(1.0) == 2e-5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_arguments_given_on_load(tmp_path, algorithm):
    model = trained(algorithm)
    model.save(tmp_path / "model")
    options = dict(gamma=0.5) if algorithm in HYBRIDS else dict(weight_decay=0.5)
    loaded = algorithm.load(
        tmp_path / "model", env=drift(), tensorboard_log="elsewhere", deploy="population", es_learning_rate=0.5, **options
    )
    if algorithm in HYBRIDS:
        assert loaded.gamma == loaded.agent.gamma == 0.5
    else:
        assert loaded.population.config.weight_decay == 0.5
        assert loaded.population.strategy.optimizer.learning_rate == 0.5
    assert loaded.population.config.es_learning_rate == 0.5
    assert loaded.tensorboard_log == "elsewhere" and loaded.deploy == "population"
    with pytest.raises(ValueError, match="policy kwargs do not equal"):
        algorithm.load(tmp_path / "model", policy_kwargs=dict(net_arch=[9]))
    with pytest.raises(ValueError, match=r"winner_fraction.*not 2"):
        algorithm.load(tmp_path / "model", winner_fraction=2)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("option", [dict(population_size=8), dict(winner_fraction=0.75), dict(n_agent_members=2)])
def test_population_given_on_load(tmp_path, algorithm, option):
    """The next generation is of the kind that was asked for, and starts from the same mean."""
    if "n_agent_members" in option and algorithm not in HYBRIDS:
        option = dict(strategy="canonical")
    elif "winner_fraction" in option and algorithm not in HYBRIDS:
        option = dict(strategy="canonical", **option)
    model = trained(algorithm)
    model.save(tmp_path / "model")
    env = drift()
    loaded = algorithm.load(tmp_path / "model", env=env, **option)
    fresh = make_model(algorithm, env, **option)
    assert loaded.population.config == fresh.population.config
    assert np.array_equal(loaded.population.mean, model.population.mean)
    loaded.learn(200)
    assert loaded.population.members.shape == fresh.population.members.shape
    assert loaded.population.winners.shape[0] == fresh.population.config.n_winners


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_sigma_given_on_load(tmp_path, algorithm):
    """Another one counts from then on; otherwise it stays what it has become."""
    model = trained(algorithm, steps=50, sigma=0.1)
    model.population.sigma = 0.2
    model.save(tmp_path / "model")
    assert algorithm.load(tmp_path / "model").population.sigma == 0.2
    loaded = algorithm.load(tmp_path / "model", sigma=0.3)
    assert loaded.population.sigma == 0.3
    loaded.population.sigma = 0.4
    loaded.save(tmp_path / "model")
    assert algorithm.load(tmp_path / "model").population.sigma == 0.4


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("before", STRATEGIES)
def test_strategy_given_on_load(tmp_path, algorithm, before):
    """Another one begins at the mean and the mutation rate that there are."""
    model = trained(algorithm, strategy=before)
    model.save(tmp_path / "model")
    for name in STRATEGIES:
        loaded = algorithm.load(tmp_path / "model", env=drift(), strategy=name)
        assert loaded.population.config.strategy == name and type(loaded.population.strategy) is STRATEGIES[name]
        assert np.array_equal(loaded.population.mean, model.population.mean)
        assert loaded.population.sigma == pytest.approx(model.population.sigma)
        loaded.learn(50)


def test_optimizer_given_on_load(tmp_path):
    model = trained(strategy="openai", es_optimizer="adam")
    model.save(tmp_path / "model")
    loaded = ESAC.load(tmp_path / "model", es_learning_rate=0.5)
    assert loaded.population.strategy.optimizer.learning_rate == 0.5
    assert loaded.population.strategy.optimizer.steps == model.population.strategy.optimizer.steps > 0
    loaded = ESAC.load(tmp_path / "model", env=drift(), es_optimizer="sgd")
    assert type(loaded.population.strategy.optimizer).__name__ == "Sgd"
    loaded.learn(50)


@pytest.mark.parametrize("algorithm", HYBRIDS)
def test_plain_agent_needs_no_esac(tmp_path, algorithm):
    model = trained(algorithm, deploy="agent", agent_average=0.0)
    model.agent.save(tmp_path / "agent")
    plain = SAC.load(tmp_path / "agent")
    assert type(plain) is SAC
    assert np.array_equal(actions_of(plain), actions_of(model))


# -- environments ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "algorithm, target_entropy", [*[(hybrid, e) for hybrid in HYBRIDS for e in ("auto", -0.5)], (ES, None)]
)
def test_load_without_environment(tmp_path, algorithm, target_entropy):
    model = trained(algorithm, target_entropy=target_entropy)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model")
    assert loaded.get_env() is None
    if algorithm in HYBRIDS:
        assert loaded.agent.target_entropy == model.agent.target_entropy
    assert np.array_equal(actions_of(model), actions_of(loaded))
    with pytest.raises(ValueError, match=r"no environment.*set_env"):
        loaded.learn(100)
    loaded.set_env(drift())
    assert loaded.learn(100).num_timesteps >= 100


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("before, after", [(1, 3), (3, 1)])
def test_load_onto_another_number_of_environments(tmp_path, algorithm, before, after):
    model = trained(algorithm, n_envs=before)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=drift(after))
    assert loaded.n_envs == after
    if algorithm in HYBRIDS:
        assert loaded.agent.n_envs == loaded.replay_buffer.n_envs == after
    generation = loaded.population.generation
    loaded.learn(150, reset_num_timesteps=False)
    assert loaded.population.generation > generation


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_env(algorithm):
    model = trained(algorithm)
    for env in (drift(), DummyVecEnv([Drift]), Drift()):
        model.set_env(env)
        assert algorithm not in HYBRIDS or model.agent.env is model.env
        steps = model.num_timesteps
        model.learn(50, reset_num_timesteps=False)
        assert model.num_timesteps > steps
    with pytest.raises(AssertionError, match=r"different.*\(2 != 1\)"):
        model.set_env(drift(2))
    with pytest.raises(ValueError, match=r"[Aa]ction spaces do not match"):
        model.set_env(drift(n_actions=2))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_env_with_vec_normalize(algorithm):
    model = make_model(algorithm, VecNormalize(drift()), seed=0).learn(100)
    env = VecNormalize(drift())
    model.set_env(env)
    model.learn(100)
    assert model.get_vec_normalize_env() is env
    assert env.obs_rms.count > 10
    model.set_env(drift())
    assert model.get_vec_normalize_env() is None
    model.learn(100)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_set_env_refuses_to_normalize_twice(tmp_path, algorithm):
    model = make_model(algorithm, drift(), normalize_observations=True)
    with pytest.raises(ValueError, match="normalize_observations"):
        model.set_env(VecNormalize(drift()))
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="normalize_observations"):
        algorithm.load(tmp_path / "model", env=VecNormalize(drift()))


# -- replay buffer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", HYBRIDS)
@pytest.mark.parametrize("options", [dict(), dict(share_experience=0.0), dict(optimize_memory_usage=True)], ids=str)
def test_replay_buffer(tmp_path, algorithm, options):
    if "optimize_memory_usage" in options:
        options = dict(options, replay_buffer_kwargs=dict(handle_timeout_termination=False))
    model = trained(algorithm, **options)
    saved = deepcopy(stores_of(model))
    assert len(saved) == (1 if options.get("share_experience") == 0.0 else 2)
    for path in (str(tmp_path / "a.pkl"), tmp_path / "b", io.BytesIO()):
        model.save_replay_buffer(path)
        if isinstance(path, io.BytesIO):
            path.seek(0)
        other = make_model(algorithm, drift(), **options)
        other.load_replay_buffer(path)
        assert not differences(saved, stores_of(other))
        other.learn(60)


def test_replay_buffer_of_a_plain_agent(tmp_path):
    agent = SAC("MlpPolicy", drift(), buffer_size=500, learning_starts=200, policy_kwargs=dict(net_arch=[8])).learn(60)
    agent.save_replay_buffer(tmp_path / "buffer")
    model = make_model(ESAC, drift(), seed=0)
    model.load_replay_buffer(tmp_path / "buffer")
    assert model.replay_buffer.size() == 60
    assert np.array_equal(model.replay_buffer.rewards, agent.replay_buffer.rewards)
    model.learn(100)
    assert model.replay_buffer.population_store.size() > 0


def test_model_file_holds_no_experience(tmp_path):
    model = make_model(ESAC, drift(), seed=0, buffer_size=200_000).learn(50)
    model.save(tmp_path / "model")
    assert (tmp_path / "model.zip").stat().st_size < 200_000
    assert ESAC.load(tmp_path / "model").replay_buffer.size() == 0


# -- going on ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Each case without interruption and, from the same checkpoint on, in a new process."""
    folder = tmp_path_factory.mktemp("resume")
    whole = {name: interrupt(case, folder / name) for name, case in CASES.items()}
    here = pathlib.Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path])}
    subprocess.run([sys.executable, str(here / "resume.py"), str(folder), *CASES], check=True, env=environment)
    return whole, {name: pickle.loads((folder / name / "resumed.pkl").read_bytes()) for name in CASES}


@pytest.mark.parametrize("name", CASES)
def test_exact_resume(runs, name):
    whole, resumed = runs[0][name], runs[1][name]
    # The checkpoint stands in the middle, and much happens after it.
    assert TOTAL / 2 <= whole["steps"] < 0.75 * TOTAL
    final = whole["final"]["population"]
    assert final["generation"] >= whole["generation"] + 2
    if CASES[name].algorithm in HYBRIDS:
        assert whole["final"]["counters"]["n_updates"] > whole["state"]["counters"]["n_updates"]
    assert not np.array_equal(whole["state"]["population"]["mean"], final["mean"])

    assert differences(whole["state"], resumed["state"]) == []
    assert differences(whole["final"], resumed["final"]) == []
    assert len(whole["log"]) >= 2
    assert differences(whole["log"], resumed["log"]) == []


def test_resumed_runs_cover_what_they_should(runs):
    """What could be forgotten was there: a champion, optimiser steps of the mean, mutation tuning, statistics."""
    states = {name: run["state"] for name, run in runs[0].items()}
    assert all(state["champion"] is not None for state in states.values())
    for name in ("es_adam", "openai"):
        assert states[name]["strategy"]["steps"] > 0
    assert any("mean" in key for key in states["openai"]["parameters"]["policy"])
    assert states["paper"]["population"]["sigma"] > 0.05
    assert any("mean" in key for key in states["normalize_observations"]["parameters"]["agent.policy"])
    assert runs[1]["vec_normalize"]["statistics"].any()
    assert states["plain"]["episodes"]


@pytest.mark.parametrize("champion_episodes", [0, 3])
@pytest.mark.parametrize("normalized", [False, True])
def test_checkpoint_in_mid_generation_of_es(tmp_path, champion_episodes, normalized):
    """While members and the last generation's candidates play: the generation is played again."""
    files, means, probed = {}, {}, {}

    def at_step(model):
        generation = model.population.generation
        if generation not in means:
            return  # the last probes, when all generations are over
        moved = not np.array_equal(model.population.mean, means[generation])
        assert np.array_equal(to_vector(model.policy), model.population.mean)
        assert not moved
        is_probing = model.probe_timesteps > probed.get(generation, 0)
        if is_probing is (champion_episodes > 0) and len(files) < 3 and generation > 0 and generation not in files:
            files[generation] = tmp_path / str(generation), model.population.mean
            model.save(files[generation][0])
            assert np.array_equal(to_vector(model.policy), model.population.mean)

    def at_generation(model):
        means[model.population.generation] = model.population.mean
        probed[model.population.generation] = model.probe_timesteps

    options = dict(normalize_observations=normalized, champion_episodes=champion_episodes)
    model = make_model(ES, drift(), seed=0, **options).learn(1500, callback=Tell(at_step, at_generation))
    plain = make_model(ES, drift(), seed=0, **options).learn(1500)
    assert differences(state_of(model), state_of(plain)) == []
    assert 1 <= len(files) <= 3
    for generation, (file, mean) in files.items():
        loaded = ES.load(file, env=drift())
        assert loaded.population.generation == generation
        for vector in (loaded.population.mean, to_vector(loaded.policy)):
            assert np.array_equal(vector, mean)
        begun = []
        again = Tell(
            on_generation=lambda model, begun=begun: begun.append((model.population.generation, model.population.mean))
        )
        loaded.learn(1500 - loaded.num_timesteps, callback=again, reset_num_timesteps=False)
        assert begun[0][0] == generation and np.array_equal(begun[0][1], means[generation])
        assert differences(state_of(loaded), state_of(plain)) == []


seen = {}
"""Fitness and mean in each generation, as often as it was played."""


class Remember(HindsightCrossover):
    def apply(self, generation):
        seen.setdefault(generation.number, []).append((generation.fitness.copy(), generation.population.mean.copy()))
        super().apply(generation)


@pytest.mark.parametrize("algorithm", HYBRIDS)
@pytest.mark.parametrize("phase", ["population", "agent"])
def test_checkpoint_in_mid_generation(tmp_path, algorithm, phase):
    """It is the model as it was when it was saved, and the generation is played again from where it began."""
    seen.clear()
    begun = {}

    def at_step(model):
        generation = model.population.generation
        if generation < 3 or saved:
            return
        steps, agent_steps = model.num_timesteps - begun[generation]["steps"], model.agent_timesteps
        if agent_steps > begun[generation]["agent"] if phase == "agent" else steps > 5:
            model.save(tmp_path / "model")
            model.save_replay_buffer(tmp_path / "buffer")
            saved.update(steps=model.num_timesteps, generation=generation)

    def at_generation(model):
        begun[model.population.generation] = dict(
            members=model.population.members.copy(), steps=model.num_timesteps, agent=model.agent_timesteps
        )

    saved = {}
    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.4)
    model.operators[-1] = Remember()
    model.learn(600, callback=Tell(at_step, at_generation))
    generation = saved["generation"]
    assert model.population.generation > generation

    loaded = algorithm.load(tmp_path / "model", env=drift())
    loaded.load_replay_buffer(tmp_path / "buffer")
    assert loaded.population.generation == generation
    assert np.array_equal(loaded.population.members, begun[generation]["members"])
    assert loaded.num_timesteps == saved["steps"] > begun[generation]["steps"]
    assert [type(operator) for operator in loaded.operators] == [AutomaticMutationTuning, Remember]
    started = []
    again = Tell(on_generation=lambda model: started.append(model.num_timesteps))
    loaded.learn(600 - loaded.num_timesteps, callback=again, reset_num_timesteps=False)
    # What is played again is counted once.
    assert started[0] == begun[generation]["steps"]
    assert differences(state_of(loaded), state_of(model)) == []
    assert len(seen[generation]) == 2
    (fitness, mean), (fitness_again, mean_again) = seen[generation]
    assert np.array_equal(fitness, fitness_again) and np.array_equal(mean, mean_again)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_saving_changes_nothing(tmp_path, algorithm):
    """A run with many checkpoints is the run without."""
    model = make_model(algorithm, drift(), seed=0, agent_fraction=0.4).learn(300)
    callback = CheckpointCallback(7, str(tmp_path), save_replay_buffer=algorithm in HYBRIDS)
    other = make_model(algorithm, drift(), seed=0, agent_fraction=0.4).learn(300, callback=callback)
    assert len(list(tmp_path.iterdir())) > 20
    assert differences(state_of(model), state_of(other)) == []


@pytest.mark.parametrize(
    "algorithm, options",
    [
        (ESAC, dict()),
        (ESAC, dict(strategy="openai")),
        (ESAC, dict(overlap=True, normalize_observations=True)),
        (ES, dict(champion_episodes=3)),
        (ES, dict(strategy="canonical")),
    ],
    ids=str,
)
def test_going_on_at_once_and_from_a_file(tmp_path, algorithm, options):
    """They are the same, after a callback has stopped the run in whatever phase and after its own end."""
    for stop_at in (40, 130, 170, INFINITY):
        model = make_model(algorithm, drift(), seed=0, agent_fraction=0.4, **options)
        model.learn(300, callback=Tell(lambda model, stop_at=stop_at: model.num_timesteps < stop_at))
        assert model.num_timesteps == stop_at or model.num_timesteps >= 300
        model.save(tmp_path / "model")
        loaded = algorithm.load(tmp_path / "model", env=drift())
        if algorithm in HYBRIDS:
            model.save_replay_buffer(tmp_path / "buffer")
            loaded.load_replay_buffer(tmp_path / "buffer")
        assert differences(state_of(model), state_of(loaded)) == []
        model.learn(150, reset_num_timesteps=False)
        loaded.learn(150, reset_num_timesteps=False)
        assert differences(state_of(model), state_of(loaded)) == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_logger_starts_anew(tmp_path, algorithm):
    model = make_model(algorithm, drift(), seed=0)
    keep_log(model)
    model.learn(60)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=drift())
    entries = keep_log(loaded)
    loaded.learn(60)
    assert entries
