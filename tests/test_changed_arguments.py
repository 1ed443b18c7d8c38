"""Arguments that are changed on a model take effect, as they do for SAC, or raise: none is ignored."""

import numpy as np
import pytest
import torch as th
from helpers import ALGORITHMS, Drift, Tell, drift, make_model
from stable_baselines3 import TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.noise import NormalActionNoise, VectorizedActionNoise
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_esac import ES, ESAC
from sb3_esac.agent.building import add_store
from sb3_esac.arguments import OF_THE_AGENT, defaults_of
from sb3_esac.budget import Annealed
from sb3_esac.callbacks import AutomaticMutationTuning, HindsightCrossover
from sb3_esac.changes import FIXED
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.evaluation.subproc import SubprocEvaluator
from sb3_esac.evolution.optimizers import Sgd
from sb3_esac.evolution.strategies import STRATEGIES

noise = NormalActionNoise(np.zeros(1), np.ones(1))


def evaluator_of(**kwargs):
    """Whether this evaluator plays the next generation."""
    return lambda model, seen: all(getattr(seen["evaluator"], name) == value for name, value in kwargs.items())


def is_set(path, value):
    """Whether a value has arrived where it is read; names in a path are of attributes."""

    def check(model, seen):
        part = model
        for name in path.split("."):
            part = getattr(part, name)
        return part == value

    return check


def operator_is(kind, **kwargs):
    """Whether there is one operator of a class, and what it was made with."""

    def check(model, seen):
        (found,) = (operator for operator in model.operators if type(operator) is kind)
        return all(getattr(found, name) == value for name, value in kwargs.items())

    return check


class StopAfter(BaseCallback):
    """
    Stops after some generations.

    :param n_generations: How many.
    """

    def __init__(self, n_generations):
        super().__init__()
        self.n_generations = n_generations

    def _on_step(self):
        return self.n_calls < self.n_generations


class ByEnvFn(Drift):
    """Made by ``env_fn``."""


# Argument, the value that it is changed to, what the model is made with, and what shows that it has taken effect. None for
# what is read where it is needed: runs differ from then on (or, with a string, the log does).
COMMON = [
    ("population_size", 6, {}, lambda model, seen: seen["members"] == 6),
    ("sigma", 0.3, {}, lambda model, seen: abs(seen["sigma"] - 0.3) < 1e-2),
    ("mirrored", False, {}, is_set("population.config.mirrored", False)),
    ("deploy", "population", {}, lambda model, seen: model.deployed_policy is model._policy_of_mean()),
    ("champion_episodes", 0, {}, lambda model, seen: model.probe_timesteps == seen["probed"]),
    ("n_eval_episodes", 2, {}, lambda model, seen: seen["episodes"] == 8),
    ("alive_bonus_offset", 1.0, {}, lambda model, seen: seen["fitness"] < seen["returns"]),
    ("episode_length_schedule", lambda remaining: 5, {}, is_set("arena.caps.cap", 5)),
    ("env_fn", ByEnvFn, dict(backend="subproc"), lambda model, seen: seen["made"] == 2),
    ("n_workers", 2, dict(backend="subproc"), evaluator_of(n_workers=2)),
    ("backend", "subproc", {}, lambda model, seen: isinstance(seen["evaluator"], SubprocEvaluator)),
    ("episode_timeout", 50.0, dict(backend="subproc"), evaluator_of(episode_timeout=50.0)),
    ("max_worker_restarts", 1, dict(backend="subproc"), evaluator_of(max_worker_restarts=1)),
    ("stats_window_size", 7, {}, is_set("ep_info_buffer.maxlen", 7)),
    ("tensorboard_log", "logs", {}, lambda model, seen: (seen["path"] / "logs").exists()),
    ("verbose", 1, {}, lambda model, seen: "time/" in seen["printed"]),
    ("seed", 12, {}, is_set("run_seed", 12)),
]
LIVE = {
    ESAC: [
        *COMMON,
        ("learning_rate", 1e-5, {}, lambda model, seen: model.actor.optimizer.param_groups[0]["lr"] == 1e-5),
        ("learning_starts", 10_000, {}, lambda model, seen: model._n_updates == seen["updates"]),
        ("batch_size", 16, {}, lambda model, seen: seen["sampled"] == {16}),
        ("tau", 0.5, {}, is_set("agent.tau", 0.5)),
        ("gamma", 0.5, {}, is_set("agent.gamma", 0.5)),
        ("gamma", 0.5, dict(n_steps=2), is_set("agent.replay_buffer.gamma", 0.5)),
        ("gamma", 0.5, dict(n_steps=2), is_set("agent.replay_buffer.population_store.gamma", 0.5)),
        ("train_freq", 4, {}, is_set("agent.train_freq", TrainFreq(4, TrainFrequencyUnit.STEP))),
        ("train_freq", (1, "episode"), {}, is_set("agent.train_freq", TrainFreq(1, TrainFrequencyUnit.EPISODE))),
        ("gradient_steps", 0, {}, lambda model, seen: model._n_updates == seen["updates"]),
        ("action_noise", noise, {}, is_set("agent.action_noise", noise)),
        ("target_update_interval", 7, {}, is_set("agent.target_update_interval", 7)),
        ("target_entropy", -7.0, {}, is_set("agent.target_entropy", -7.0)),
        ("sde_sample_freq", 2, dict(use_sde=True), is_set("agent.sde_sample_freq", 2)),
        ("use_sde_at_warmup", True, dict(use_sde=True), is_set("agent.use_sde_at_warmup", True)),
        ("es_learning_rate", 0.5, {}, is_set("population.config.es_learning_rate", 0.5)),
        ("es_optimizer", "sgd", dict(strategy="openai"), lambda m, seen: type(m.population.strategy.optimizer) is Sgd),
        ("winner_fraction", 0.5, {}, lambda model, seen: len(model.population.winners) == 2),
        *[("strategy", name, {}, is_set("population.config.strategy", name)) for name in ("openai", "cem", "sep_cma_es")],
        ("crossover", None, {}, lambda model, seen: [type(each) for each in model.operators] == [AutomaticMutationTuning]),
        ("crossover", "element", {}, operator_is(HindsightCrossover, unit="element")),
        ("crossover", "row", dict(crossover=None), operator_is(HindsightCrossover, unit="row")),
        ("n_agent_members", 2, {}, lambda model, seen: (model.population.origins == 2).sum() == 2),
        ("share_experience", 0.25, {}, is_set("replay_buffer.population_share", 0.25)),
        ("share_experience", 0.25, dict(share_experience=0.0), lambda m, seen: m.replay_buffer.population_store.size() > 0),
        ("gradient_interval", 1000, dict(agent_fraction=None), lambda m, seen: m.agent_timesteps == seen["agent_steps"]),
        ("agent_episodes", 8, dict(agent_fraction=None, gradient_interval=1), lambda m, seen: seen["agent_played"] > 60),
        ("agent_probability", 0.0, dict(agent_fraction=None), lambda model, seen: model.budget.schedule(1.0) == 0.0),
        ("agent_fraction", 0.0, {}, lambda model, seen: model.agent_timesteps == seen["agent_steps"]),
        ("agent_fraction", None, {}, lambda model, seen: isinstance(model.budget, Annealed)),
        ("amt_clip", 1e-2, {}, operator_is(AutomaticMutationTuning, clip=1e-2)),
        ("amt_input", "raw", {}, operator_is(AutomaticMutationTuning, amt_input="raw")),
        ("agent_average", 0.5, {}, is_set("learner.averaged.window", 0.5)),
        ("agent_average", 0.0, {}, is_set("learner.averaged", None)),
        ("agent_average", 0.5, dict(agent_average=0.0), is_set("learner.averaged.window", 0.5)),
        ("updates", "stock", {}, is_set("learner.updates_are_fast", False)),
        ("overlap", True, {}, lambda model, seen: seen["overlapped"]),
    ],
    ES: [
        *COMMON,
        ("es_learning_rate", 0.5, {}, is_set("population.strategy.optimizer.learning_rate", 0.5)),
        ("es_learning_rate", 0.5, {}, is_set("learning_rate", 0.5)),
        ("es_optimizer", "sgd", {}, lambda model, seen: type(model.population.strategy.optimizer) is Sgd),
        ("strategy", "canonical", {}, is_set("population.config.strategy", "canonical")),
        ("winner_fraction", 0.5, dict(strategy="canonical"), lambda model, seen: len(model.population.winners) == 2),
        ("strategy", "cem", {}, is_set("population.strategy.variance.ndim", 1)),
        ("strategy", "sep_cma_es", {}, lambda model, seen: model.population.strategy.n_updates > 0),
        ("winner_fraction", 0.5, dict(strategy="cem"), lambda model, seen: len(model.population.winners) == 2),
        ("sigma", 0.5, dict(strategy="sep_cma_es", sigma=0.01), lambda model, seen: seen["sigma"] > 0.1),
        ("sigma", 0.5, dict(strategy="cem", sigma=0.01), lambda model, seen: seen["sigma"] > 0.02),
        ("population_size", 6, dict(strategy="sep_cma_es"), lambda model, seen: len(model.population.winners) == 3),
        ("weight_decay", 0.1, {}, is_set("population.config.weight_decay", 0.1)),
        ("sigma", lambda remaining: 0.7, {}, lambda model, seen: seen["sigma"] == 0.7),
    ],
}
COMMON_FIXED = [
    ("policy_kwargs", dict(net_arch=[4])),
    ("normalize_observations", True),
    ("device", th.device("meta")),
]
NOT_LIVE = {
    ESAC: [
        *COMMON_FIXED,
        ("buffer_size", 500),
        ("replay_buffer_class", ReplayBuffer),
        ("replay_buffer_kwargs", dict(handle_timeout_termination=False)),
        ("optimize_memory_usage", True),
        ("n_steps", 3),
        ("ent_coef", 0.3),
        ("use_sde", True),
        ("agent_class", TD3),
        ("agent_kwargs", dict(policy_delay=3)),
    ],
    ES: COMMON_FIXED,
}
LIVE_ROWS = [(algorithm, *row) for algorithm in ALGORITHMS for row in LIVE[algorithm]]
FIXED_ROWS = [(algorithm, *row) for algorithm in ALGORITHMS for row in NOT_LIVE[algorithm]]


def id_of(part):
    return getattr(part, "__name__", str(part))[:30]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_argument_is_tried(algorithm):
    """A new argument has to take effect when it is changed, or to raise."""
    live, fixed = ({name for name, *_ in rows[algorithm]} for rows in (LIVE, NOT_LIVE))
    assert not live & fixed
    assert live | fixed == defaults_of(algorithm).keys()
    assert fixed <= FIXED.keys()


def watch(model):
    """Note what the last generation was played by."""
    seen = {}
    mutate, select, interval = (getattr(model, name, None) for name in ("_mutate", "_play_and_select", "_play_interval"))

    def note_request():
        made = mutate()
        seen.update(evaluator=model.arena._evaluator, members=len(made.parameters), sigma=model.population.sigma, played=False)
        seen["episodes"] = made.seeds.size
        return made

    def note_selection(*args):
        found = select(*args)
        seen.update(fitness=found.fitness.mean(), returns=found.result.returns.mean(), played=True)
        return found

    def note_interval(callback):
        seen["overlapped"] = seen.get("overlapped") or not seen["played"]
        before = model.agent_timesteps
        result = interval(callback)
        seen["agent_played"] = max(seen.get("agent_played", 0), model.agent_timesteps - before)
        return result

    model._mutate, model._play_and_select = note_request, note_selection
    if hasattr(model, "agent"):
        model._play_interval = note_interval
        sample = model.replay_buffer.sample
        seen["sampled"] = set()
        model.replay_buffer.sample = lambda size, env=None: (seen["sampled"].add(size), sample(size, env=env))[1]
    return seen


@pytest.mark.parametrize("algorithm, name, value, made_with, shows", LIVE_ROWS, ids=id_of)
@pytest.mark.parametrize("by", ["hand", "callback"])
def test_a_change_takes_effect(monkeypatch, tmp_path, capsys, algorithm, name, value, made_with, shows, by):
    monkeypatch.chdir(tmp_path)
    made = []
    if name == "env_fn":

        def make(env, *, env_fn, **settings):
            made.append(env_fn)
            return LockstepEvaluator(env)

        monkeypatch.setattr("sb3_esac.evaluation.arena.make_evaluator", make)

    if by == "callback" and name in ("tensorboard_log", "verbose"):
        pytest.skip("the logger is made as `learn` begins, as with SAC")
    model = make_model(algorithm, drift(edge=1e6), seed=0, **made_with)
    model.learn(200)
    seen = watch(model)
    capsys.readouterr()

    def change(model=model):
        setattr(model, name, value)
        seen.update(probed=model.probe_timesteps, updates=getattr(model, "_n_updates", 0), path=tmp_path)
        seen["agent_steps"] = model.agent_timesteps

    if by == "hand":
        change()
        if "sampled" in seen:
            seen["sampled"].clear()
        model.learn(300, reset_num_timesteps=False)
    else:
        generations = []

        def once(model):
            generations.append(model.population.generation)
            if len(generations) == 1:
                change(model)
            if len(generations) == 2 and "sampled" in seen:
                # From the generation on in which it has to be there
                seen["sampled"].clear()
                seen.update(probed=model.probe_timesteps, updates=model._n_updates, agent_steps=model.agent_timesteps)
                seen["overlapped"] = False
            elif len(generations) == 2:
                seen.update(probed=model.probe_timesteps)

        model.learn(600, callback=Tell(on_generation=once), reset_num_timesteps=False)
        assert len(generations) > 2
    seen.update(printed=capsys.readouterr().out, made=len(made) and made.count(ByEnvFn) + 1)
    assert shows(model, seen)
    assert getattr(model, name) == value or name == "train_freq"


@pytest.mark.parametrize("algorithm, name, value", FIXED_ROWS, ids=id_of)
@pytest.mark.parametrize("by", ["hand", "callback"])
def test_what_cannot_be_changed(algorithm, name, value, by):
    model = make_model(algorithm, drift(), seed=0).learn(60)
    if by == "hand":
        setattr(model, name, value)
    tell = Tell(on_generation=lambda model: setattr(model, name, value))
    with pytest.raises(ValueError) as error:
        model.learn(500, callback=tell if by == "callback" else None)
    message = str(error.value)
    assert message.startswith(f"`{name}={value!r}` cannot be set on a model") and "the constructor" in message
    assert model.arena._evaluator is None


# -- one truth for what the agent reads --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*OF_THE_AGENT} - {"lr_schedule"}))
def test_model_and_agent_are_of_one_mind(name, tmp_path):
    """Whoever of them is asked or told, before and after it is saved."""
    values = {"train_freq": 4, "action_noise": noise, "target_entropy": -3.0, "use_sde_at_warmup": True}
    values |= {"tau": 0.5, "gamma": 0.5}
    value = values.get(name, 7)
    model = make_model(ESAC, drift())
    setattr(model, name, value)
    expected = TrainFreq(4, TrainFrequencyUnit.STEP) if name == "train_freq" else value
    assert getattr(model, name) == getattr(model.agent, name) == expected
    again = make_model(ESAC, drift())
    setattr(again.agent, name, expected)
    assert getattr(again, name) == expected
    again.save(tmp_path / "model")
    loaded = ESAC.load(tmp_path / "model")
    for holder in (loaded, loaded.agent):
        found = getattr(holder, name)
        assert type(found) is type(expected) if name == "action_noise" else found == expected


def test_learning_rate_as_with_sac():
    """``_setup_lr_schedule`` makes a schedule of it, the agent's, at once."""
    model = make_model(ESAC, drift())
    model.learning_rate = lambda remaining: 0.5 * remaining
    model._setup_lr_schedule()
    assert model.agent.lr_schedule(0.5) == model.lr_schedule(0.5) == 0.25
    model.lr_schedule = FloatSchedule(0.125)
    assert model.agent.lr_schedule(1.0) == 0.125
    model.learning_rate = -1.0
    with pytest.raises(ValueError, match=r"`learning_rate` must be a positive finite number, not -1.0"):
        model.learn(50)


def test_noise_is_for_each_lane():
    model = make_model(ESAC, drift(2), action_noise=noise).learn(60)
    model.action_noise = NormalActionNoise(np.zeros(1), 2 * np.ones(1))
    assert isinstance(model.agent.action_noise, VectorizedActionNoise) and len(model.agent.action_noise.noises) == 2


def test_target_entropy_can_be_automatic_again():
    model = make_model(ESAC, drift(n_actions=3), target_entropy=-9.0)
    model.target_entropy = "auto"
    assert model.agent.target_entropy == -3.0


@pytest.mark.parametrize("value", [(1, "epoch"), (1.5, "step"), 0, (-1, "episode")])
def test_train_freq_that_is_none(value):
    model = make_model(ESAC, drift())
    with pytest.raises(ValueError, match="train_freq"):
        model.train_freq = value
    assert model.train_freq == model.agent.train_freq == TrainFreq(2, TrainFrequencyUnit.STEP)


def test_what_an_agent_of_another_class_does_not_take():
    model = make_model(ESAC, drift(), agent_class=TD3).learn(50)
    model.target_entropy = -2.0
    with pytest.raises(ValueError, match=r"`target_entropy=-2.0` is not an argument of `agent_class=TD3`"):
        model.learn(50)


# -- checked as at construction ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "name, value, message",
    [
        ("population_size", 5, "`population_size` must be an even integer"),
        ("sigma", -1.0, "`sigma` must be a positive finite number, not -1.0"),
        ("n_workers", 2, "`n_workers=2` has no effect beside `backend='lockstep'`"),
        ("backend", "threads", "`backend` must be"),
    ],
)
def test_wrong_changes(algorithm, name, value, message):
    model = make_model(algorithm, drift(), seed=0, backend="lockstep").learn(50)
    before = model.population.config, model.population.sigma
    right = getattr(model, name)
    setattr(model, name, value)
    with pytest.raises(ValueError) as error:
        model.learn(50)
    assert message in str(error.value)
    assert (model.population.config, model.population.sigma) == before
    setattr(model, name, right)
    model.learn(50)


def test_what_loses_its_effect_is_no_error():
    model = make_model(ESAC, drift(), agent_fraction=None, gradient_interval=2).learn(50)
    model.agent_fraction = 0.5
    model.learn(50)
    model.gradient_interval = 3
    with pytest.raises(ValueError, match=r"`gradient_interval=3` has no effect beside `agent_fraction=0.5`"):
        model.learn(50)


def test_es_has_no_learning_rate_but_its_own():
    model = make_model(ES, drift())
    model.learning_rate = 0.5
    with pytest.raises(ValueError, match=r"`learning_rate=0.5` has no effect on ES.*`es_learning_rate`, which is 0.02"):
        model.learn(50)


@pytest.mark.parametrize("own", [[], [AutomaticMutationTuning(clip=0.5)], [HindsightCrossover("element"), StopAfter(9)]])
def test_operators_of_the_users_stay(own):
    model = make_model(ESAC, drift())
    model.operators = [*own]
    model.amt_clip, model.crossover = 1e-3, None
    model.learn(50)
    assert model.operators == own


def test_other_operators_follow_the_arguments():
    """In their place, beside those of the user's."""
    model, own = make_model(ESAC, drift()), StopAfter(9)
    model.operators.insert(1, own)
    model.amt_clip, model.crossover = 1e-3, "element"
    model.learn(50)
    tuning, still_own, crossover = model.operators
    assert (tuning.settings, still_own, crossover.settings) == ((1e-3, "rank"), own, ("element",))
    model.crossover = None
    model.learn(50)
    assert model.operators == [tuning, own]
    model.crossover = "row"
    model.learn(50)
    assert model.operators[:2] == [tuning, own] and model.operators[2].settings == ("row",)


def test_an_operator_that_comes_while_the_model_learns():
    model, own = make_model(ESAC, drift(), seed=0), HindsightCrossover("element")
    model.learn(200, callback=Tell(on_generation=lambda model: setattr(model, "operators", [own])))
    assert own.model is model and own.n_calls > 0


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_another_environment_while_the_model_learns(algorithm):
    other = drift()
    model = make_model(algorithm, drift(), seed=0)
    seen = []
    tell = Tell(lambda model: seen.append(model.arena._evaluator.env is other), lambda model: model.set_env(other))
    model.learn(200, callback=tell)
    assert model.env is other and not seen[0] and seen[-1]


@pytest.mark.parametrize(
    "options",
    [dict(), dict(overlap=True), dict(overlap=True, backend="subproc", n_workers=1)],
    ids=["plain", "overlap", "workers"],
)
def test_another_environment_in_the_middle_of_a_generation(options):
    """What is being played is played to its end, by whoever plays it."""
    other, played = drift(), []
    model = make_model(ESAC, drift(), seed=0, agent_fraction=0.5, **options)

    def change(model):
        played.append(model.arena._evaluator)
        if model.num_timesteps == 7:
            model.set_env(other)

    model.learn(300, callback=Tell(change))
    assert played[6] is played[7] and played[-1] is not played[7]
    assert model.population.generation > 2 and model.env is model.agent.env is model.arena.env is other


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_an_environment_that_is_put_in_place(algorithm):
    model = make_model(algorithm, drift(), seed=0).learn(50)
    model.env = other = drift()
    seen = []
    model.learn(200, callback=Tell(lambda model: seen.append(model.arena._evaluator.env is other)))
    assert all(seen) and (algorithm is ES or model.agent.env is other)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_changed(algorithm):
    """Then nothing is done, whatever was loaded or set through methods."""
    model = make_model(algorithm, drift(), seed=0)
    model._use_arguments = None
    model.learn(60)
    model.set_random_seed(0)
    model.learn(60)


def test_gamma_of_a_store_that_is_made_later():
    """The population's store is made with the first winners."""
    model = make_model(ESAC, drift(), seed=0, n_steps=3, share_experience="auto", agent_fraction="auto")
    assert model.replay_buffer.population_store is None
    model.gamma = 0.5
    store = add_store(model.agent, model.learner.buffer)
    assert store.gamma == model.replay_buffer.gamma == model.agent.gamma == 0.5


def test_without_probes_there_is_no_champion():
    model = make_model(ESAC, drift(), seed=0, agent_fraction=0.5, champion_episodes=1).learn(400)
    assert model.champion.record is not None
    model.champion_episodes = 0
    model.learn(100, reset_num_timesteps=False)
    assert model.champion.record is None and model.deployed_policy is model.learner.deployed_actor


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
def test_a_strategy_has_the_same_winners_in_both_algorithms(strategy):
    models = [make_model(kind, drift(), seed=0, strategy=strategy, population_size=10) for kind in (ESAC, ES)]
    assert models[0].population.config.n_winners == models[1].population.config.n_winners


class Levelled(Drift):
    """Says as reward what it was told."""

    level = 0.0

    def set_level(self, level):
        self.level = level

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        return observation, self.level, terminated, truncated, info


class Raise(BaseCallback):
    """Tells environments the number of the generation, and notes what rewards there are."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def _on_rollout_end(self):
        self.training_env.env_method("set_level", self.model.population.generation + 1.0)

    def _on_step(self):
        self.seen.update(self.locals["rewards"].tolist())
        return True


@pytest.mark.parametrize("change", [dict(n_workers=2), dict(backend="subproc")])
def test_workers_that_are_asked_for_later_are_told_what_environments_are_told(change):
    model = make_model(ES, Levelled(), champion_episodes=0)
    for name, value in change.items():
        setattr(model, name, value)
    callback = Raise()
    model.learn(150, callback=callback)
    assert {0.0, 1.0, 2.0} <= callback.seen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(n_eval_episodes=3), "`n_eval_episodes` must be a multiple of the number of environments"),
        (dict(env_fn=Drift, n_workers=2), "`env_fn` must be None"),
    ],
)
def test_lanes_that_differ_are_looked_at_again(changes, message):
    env = DummyVecEnv([lambda: Drift(edge=1.0), lambda: Drift(edge=2.0)])
    model = make_model(ES, env, n_eval_episodes=2)
    for name, value in changes.items():
        setattr(model, name, value)
    with pytest.raises(ValueError, match=message):
        model.learn(100)


class ResetsItself(DummyVecEnv):
    """As a simulator that is stepped in batches."""

    def step_wait(self):
        return super().step_wait()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResetsItself([Drift] * 2), "cannot be used on ResetsItself"),
        (lambda: Monitor(Drift(), allow_early_resets=False), "cuts episodes, which `Monitor"),
    ],
)
@pytest.mark.filterwarnings("ignore:ResetsItself resets")
def test_an_episode_length_schedule_is_checked_with_the_environment(algorithm, make, message):
    model = make_model(algorithm, make(), train_freq=1)
    model.episode_length_schedule = lambda remaining: 5
    with pytest.raises(ValueError, match=message):
        model.learn(100)


def test_a_frequency_of_training_is_checked_with_the_environment():
    model = make_model(ESAC, Monitor(Drift(), allow_early_resets=False), train_freq=1)
    model.train_freq = 2
    with pytest.raises(ValueError, match="the agent's turn ends within episodes"):
        model.learn(100)
