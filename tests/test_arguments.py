"""
Wrong arguments are refused at construction: the error names the argument, quotes its value and says what would be right.

What an environment can do wrong while a model learns (NaN, episodes without end) is in ``test_nan.py``.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from helpers import ALGORITHMS, OF_THE_AGENT, Drift, drift, make_model
from stable_baselines3 import DQN, PPO, SAC
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.vec_env import VecNormalize

from sb3_esac import ES, ESAC
from sb3_esac.agent.building import AGENT_DEFAULTS
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.removed import REMOVED

NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Falls:
    """A schedule with two ends, and a name that is the same in every process."""

    start: Any
    end: Any

    def __call__(self, remaining: float) -> Any:
        return self.start if remaining == 1 else self.end


WRONG = [
    # An odd or too small population with mirroring, and without
    (dict(population_size=5), "population_size", 5, "even integer >= 2"),
    (dict(population_size=0), "population_size", 0, "even integer >= 2"),
    (dict(population_size=-4), "population_size", -4, "even integer >= 2"),
    (dict(population_size=1), "population_size", 1, "even integer >= 2"),
    (dict(population_size=4.0), "population_size", 4.0, "even integer >= 2"),
    (dict(population_size=True), "population_size", True, "even integer >= 2"),
    (dict(population_size="ten"), "population_size", "ten", "even integer >= 2"),
    (dict(population_size=1, mirrored=False), "population_size", 1, "an integer >= 2"),
    # A winner fraction outside (0, 1]
    (dict(winner_fraction=0.0), "winner_fraction", 0.0, "in (0, 1]"),
    (dict(winner_fraction=-0.1), "winner_fraction", -0.1, "in (0, 1]"),
    (dict(winner_fraction=1.01), "winner_fraction", 1.01, "in (0, 1]"),
    (dict(winner_fraction=NAN), "winner_fraction", NAN, "in (0, 1]"),
    (dict(winner_fraction=None), "winner_fraction", None, "in (0, 1]"),
    # Sigma and rates that are not positive or not finite
    *[
        (dict([(name, value)]), name, value, "a positive finite number")
        for name in ("sigma", "es_learning_rate", "learning_rate")
        for value in (0.0, -0.1, NAN, INF, None, "auto", True)
    ],
    # zeta
    *[(dict(agent_average=value), "agent_average", value, "in [0, 1]") for value in (-0.1, 1.1, NAN, "auto")],
    *[(dict(amt_clip=value), "amt_clip", value, "a finite number >= 0") for value in (-1e-9, NAN, INF, "auto")],
    # More agent members than room
    (dict(n_agent_members=4), "n_agent_members", 4, "at most 3 beside 1 winners of 4"),
    (dict(winner_fraction=1.0, n_agent_members=1), "n_agent_members", 1, "at most 0 beside 4 winners of 4"),
    (dict(n_agent_members=-1), "n_agent_members", -1, "an integer >= 0"),
    (dict(n_agent_members=0.5), "n_agent_members", 0.5, "an integer >= 0"),
    # Unknown options
    (dict(es_optimizer="rmsprop"), "es_optimizer", "rmsprop", "one of 'adam', 'sgd'"),
    *[
        (dict(strategy=value), "strategy", value, "one of 'openai', 'canonical', 'cem', 'sep_cma_es'")
        for value in ("cma", "winners", "es", None)
    ],
    *[(dict(mirrored=value), "mirrored", value, "one of True, False") for value in ("yes", 1)],
    *[
        (dict(crossover=value), "crossover", value, "one of None, 'row', 'element'")
        # "whole" was one of them in version 0.1.
        for value in ("column", "none", "whole")
    ],
    (dict(amt_input="ranks"), "amt_input", "ranks", "one of 'raw', 'rank', 'normalized'"),
    (dict(deploy="champion"), "deploy", "champion", "one of 'best', 'agent', 'population'"),
    (dict(updates="fast"), "updates", "fast", "one of 'auto', 'stock'"),
    *[
        (dict(backend=value), "backend", value, "'subproc', 'ray', 'ray:' with an address or an `Evaluator`")
        for value in ("threads", "ray:", None, 2, LockstepEvaluator)
    ],
    # Counts
    *[
        (dict([(name, value)]), name, value, f"an integer >= {least}")
        for name, least in (("gradient_interval", 1), ("agent_episodes", 1), ("n_eval_episodes", 1), ("champion_episodes", 0))
        for value in (least - 1, 1.5, None)
    ],
    (dict(champion_episodes=0, agent_fraction="auto"), "champion_episodes", 0, "beside `agent_fraction='auto'`"),
    # SAC's own, which it would stumble over while it learns
    *[
        (dict([(name, value)]), name, value, f"an integer >= {least}")
        for name, least in (("batch_size", 1), ("buffer_size", 1), ("gradient_steps", -1), ("n_steps", 1))
        for value in (least - 1, 1e4, "x", None)
    ],
    *[(dict([(name, value)]), name, value, "in [0, 1]") for name in ("tau", "gamma") for value in (-0.1, 1.1, NAN, None)],
    *[(dict(learning_starts=value), "learning_starts", value, "a finite number >= 0") for value in (-1, "x", None)],
    *[(dict(ent_coef=value), "ent_coef", value, "a finite number >= 0, 'auto'") for value in (-0.1, NAN, "x", None)],
    (dict(action_noise="x"), "action_noise", "x", "an ActionNoise or None"),
    (dict(agent_kwargs=5), "agent_kwargs", 5, "a dict of arguments of `agent_class`"),
    (dict(overlap="x"), "overlap", "x", "one of True, False"),
    # What would fail elsewhere, too
    *[(dict(seed=value), "seed", value, "an integer >= 0 or None") for value in (-1, 1.5, "x")],
    *[(dict(policy_kwargs=value), "policy_kwargs", value, "a dict or None") for value in (5, [64])],
    (dict(env_fn=5), "env_fn", 5, "a function that makes a copy of the environment"),
    (dict(episode_length_schedule=dict(first=3)), "episode_length_schedule", dict(first=3), "first_length, horizon, divisor"),
    *[
        (dict(episode_length_schedule=value), "episode_length_schedule", value, "a number of steps >= 1")
        for value in (Falls(0, 0), Falls(100, 0), Falls(NAN, 1), Falls("x", 1))
    ],
    # Fractions and schedules
    *[
        (dict([(name, value)]), name, value, f"in [0, 1] from the start to the end of training (it goes from {value.start}")
        for name in ("agent_fraction", "agent_probability")
        for value in (Falls(3.0, 0.0), Falls(0.5, -1), Falls(NAN, 0.5), Falls(None, 0.5))
    ],
    *[(dict(share_experience=value), "share_experience", value, "in [0, 1]") for value in (-0.1, 1.1, NAN, None)],
    *[
        (dict([(name, value)]), name, value, f"in [0, 1], a function of the remaining progress{others} or None")
        for name, others in (("agent_fraction", ", 'auto'"), ("agent_probability", ""))
        for value in (-0.1, 1.1, NAN, "half")
    ],
    *[(dict(alive_bonus_offset=value), "alive_bonus_offset", value, "a finite number") for value in (NAN, INF, None)],
    # Workers
    *[(dict(n_workers=value), "n_workers", value, "an integer >= 1") for value in (0, 1.5, "all")],
    *[(dict(max_worker_restarts=value), "max_worker_restarts", value, "an integer >= 0") for value in (-1, None)],
    *[(dict(episode_timeout=value), "episode_timeout", value, "a positive finite number") for value in (0, -1.0, NAN)],
    # Nothing to play between updates, for which SAC's `learn` has an assertion
    *[
        (dict(train_freq=value), "train_freq", value, "an integer >= 1, or a tuple of such a number and 'step' or 'episode'")
        for value in (0, -1, (0, "step"), (0, "episode"), (-1, "episode"), [0, "step"])
    ],
    # What is no off-policy algorithm for continuous actions
    *[
        (dict(agent_class=value), "agent_class", value, "an off-policy algorithm for continuous actions, such as SAC")
        for value in (PPO, DQN, "SAC", None, Drift)
    ],
]


WRONG_FOR_ES = [
    *[wrong for wrong in WRONG if not OF_THE_AGENT & wrong[0].keys() and "deploy" not in wrong[0]],
    (dict(mirrored="yes"), "mirrored", "yes", "one of True, False, None"),
    (dict(deploy="agent"), "deploy", "agent", "one of 'best', 'population'"),
    *[(dict(weight_decay=value), "weight_decay", value, "a finite number >= 0") for value in (-0.1, NAN, INF, None, True)],
    (dict(strategy="canonical", population_size=1), "population_size", 1, "an integer >= 2"),
    (dict(strategy="canonical", mirrored=True, population_size=5), "population_size", 5, "an even integer >= 2"),
    (dict(normalize_observations="yes"), "normalize_observations", "yes", "True, False or None"),
    (dict(episode_length_schedule=100), "episode_length_schedule", 100, "a function of the remaining progress, a Prog"),
    *[(dict(policy_kwargs=dict(net_arch=value)), "net_arch", value, "a list of the sizes") for value in ([0], [8.5], 8, "64")],
    (dict(policy_kwargs=dict(net_arch=dict(pi=[8], qf=[8]))), "net_arch", dict(pi=[8], qf=[8]), "a list of the sizes"),
]


@pytest.mark.parametrize(
    "algorithm, kwargs, name, value, expected",
    [
        *[(ESAC, *wrong) for wrong in [*WRONG, (dict(mirrored=None), "mirrored", None, "one of True, False")]],
        *[(ES, *wrong) for wrong in WRONG_FOR_ES],
    ],
    ids=lambda part: str(part)[:60],
)
def test_wrong_arguments(algorithm, kwargs, name, value, expected):
    with pytest.raises(ValueError) as error:
        make_model(algorithm, drift(), **kwargs)
    message = str(error.value)
    assert message.startswith(f"`{name}` must be ")
    assert expected in message
    assert message.endswith(f"not {value!r}")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_numbers_of_numpys_are_counts_and_seeds(algorithm):
    counts = dict(seed=np.int64(3), population_size=np.int64(4), batch_size=np.int64(8), buffer_size=np.int64(1000))
    plain = {name: int(value) for name, value in counts.items()}
    models = [make_model(algorithm, drift(), **arguments) for arguments in (counts, plain)]
    for model in models:
        model.learn(100)
    assert models[0].num_timesteps == models[1].num_timesteps
    assert (models[0].population.mean == models[1].population.mean).all()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", [5, None, Drift])
def test_what_is_no_policy(algorithm, policy):
    with pytest.raises(ValueError, match=r"`policy` must be a name such as 'MlpPolicy'.*, not "):
        algorithm(policy, drift())


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(population_size=2, winner_fraction=0.5),
        dict(population_size=np.int64(4), sigma=np.float32(0.1)),
        dict(population_size=3, mirrored=False),
        dict(winner_fraction=1, n_agent_members=0),
        dict(winner_fraction=0.01),
        dict(winner_fraction=0.25, n_agent_members=3),
        dict(sigma=1, amt_clip=0),
        dict(share_experience=0, agent_fraction=0, champion_episodes=0),
        dict(share_experience=1, agent_fraction=1),
        dict(agent_fraction=None, agent_probability=0, gradient_interval=1),
        dict(learning_rate=lambda remaining: remaining, agent_fraction=lambda remaining: remaining),
    ],
    ids=" ".join,
)
def test_the_last_values_that_are_right(kwargs):
    make_model(ESAC, drift(), **kwargs)


@pytest.mark.parametrize(
    "kwargs",
    [
        dict(population_size=2),
        dict(population_size=3, mirrored=False),
        dict(strategy="canonical", population_size=3, winner_fraction=0.5),
        dict(strategy="canonical", winner_fraction=1, weight_decay=0),
        dict(strategy="canonical", mirrored=True),
        dict(weight_decay=1, champion_episodes=0),
        dict(policy_kwargs=dict(net_arch=[])),
    ],
    ids=str,
)
def test_the_last_values_that_are_right_for_es(kwargs):
    make_model(ES, drift(), **kwargs)


GONE = [
    ("recombination", "winners", "`strategy='canonical'`"),
    ("recombination", "es", "`strategy='openai'`"),
    ("guest_gradient", "exclude", "leave it out"),
    ("share_from", "all", "leave it out"),
    ("amt_rule", "two_sided", "`model.operators`"),
    ("sigma_max", 0.5, "`amt_clip`"),
]
"""Arguments of version 0.1, and what is said to do instead."""


@pytest.mark.parametrize("name, value, instead", GONE)
def test_arguments_that_are_gone(name, value, instead, tmp_path):
    """Wherever they are given."""
    make_model(ESAC, drift()).save(tmp_path / "model")
    SAC("MlpPolicy", drift(), buffer_size=10, policy_kwargs=dict(net_arch=[8])).save(tmp_path / "donor")
    for make in (
        lambda **gone: make_model(ESAC, drift(), **gone),
        lambda **gone: ESAC.load(tmp_path / "model", **gone),
        lambda **gone: ESAC.from_agent(tmp_path / "donor", drift(), **gone),
    ):
        with pytest.raises(ValueError) as error:
            make(**{name: value})
        message = str(error.value)
        assert message.startswith(f"`{name}={value!r}` is no argument since version 0.2: ") and instead in message


def test_all_that_are_gone_are_tried():
    assert {name for name, *_ in GONE} == REMOVED.keys()
    assert not REMOVED.keys() & inspect.signature(ESAC).parameters.keys()


def test_what_was_never_an_argument():
    with pytest.raises(TypeError, match="unexpected keyword argument 'recombinations'"):
        make_model(ESAC, drift(), recombinations="es")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("env", [Drift, 3, [Drift()]], ids=["class", "number", "list"])
def test_what_is_no_environment(algorithm, env):
    with pytest.raises(ValueError, match=r"`env` must be an environment .*`make_vec_env`") as error:
        algorithm("MlpPolicy", env)
    assert str(env) in str(error.value)


@pytest.mark.parametrize(
    "space", [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Tuple([spaces.Discrete(2)])], ids=str
)
def test_actions_that_are_neither_box_nor_discrete(space):
    env = Drift()
    env.action_space = space
    with pytest.raises(ValueError) as error:
        make_model(ES, env)
    assert "`env.action_space` must be a Box or Discrete" in str(error.value) and str(space) in str(error.value)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", "LinearPolicy"])
def test_policies_that_cannot_read_a_dict(policy):
    env = Drift()
    env.observation_space = spaces.Dict({"x": env.observation_space})
    with pytest.raises(ValueError, match=f"MultiInputPolicy.*not {policy}"):
        make_model(ES, env, policy)


@pytest.mark.parametrize(
    "space",
    [spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Tuple([spaces.Discrete(2)])],
    ids=str,
)
def test_actions_that_are_no_box(space):
    env = Drift()
    env.action_space = space
    with pytest.raises(ValueError) as error:
        make_model(ESAC, env)
    assert "action_space" in str(error.value) and "a Box" in str(error.value) and str(space) in str(error.value)


def test_discrete_environment_by_name():
    with pytest.raises(ValueError, match=r"a Box.*Discrete\(2\)"):
        make_model(ESAC, "CartPole-v1")


@pytest.mark.parametrize("low, high", [(-INF, INF), (-1.0, INF), (-INF, 1.0)])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_infinite_action_bounds(algorithm, low, high):
    env = Drift()
    env.action_space = spaces.Box(low, high, (1,), np.float32)
    with pytest.raises(ValueError, match="finite bounds") as error:
        make_model(algorithm, env)
    assert str(env.action_space) in str(error.value) and "RescaleAction" in str(error.value)


def test_shared_extractor():
    """A CNN that actor and critic share belongs to both searches at once."""
    env = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=False)
    policy_kwargs = dict(net_arch=[4], share_features_extractor=True, features_extractor_kwargs=dict(features_dim=8))
    with pytest.raises(ValueError) as error:
        make_model(ESAC, env, policy="CnnPolicy", policy_kwargs=policy_kwargs, buffer_size=20)
    assert "share_features_extractor=True" in str(error.value)
    assert "policy_kwargs=dict(share_features_extractor=False)" in str(error.value)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_unknown_policy(algorithm):
    with pytest.raises(ValueError, match=r"'MlpPolice' unknown.*'MlpPolicy'"):
        make_model(algorithm, drift(), policy="MlpPolice")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_normalizing_twice(algorithm):
    with pytest.raises(ValueError, match=r"`normalize_observations` must be False with `VecNormalize.*not True"):
        make_model(algorithm, VecNormalize(drift()), normalize_observations=True)
    make_model(algorithm, VecNormalize(drift(), norm_obs=False), normalize_observations=True)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_to_normalize(algorithm):
    class Index(Drift):
        def __init__(self):
            super().__init__()
            self.observation_space = spaces.Discrete(3)

    with pytest.raises(ValueError, match=r"`normalize_observations=True`.*Discrete\(3\).*leave it"):
        make_model(algorithm, Index(), normalize_observations=True)


@pytest.mark.parametrize("name, value", [("ent_coef", 0.3), ("use_sde", True), ("target_entropy", -2.0)])
def test_arguments_that_the_agent_has_not(name, value):
    from stable_baselines3 import TD3

    with pytest.raises(ValueError, match=f"{name}={value}.*TD3.*leave it at"):
        make_model(ESAC, drift(), agent_class=TD3, **{name: value})


@pytest.mark.parametrize("updates", ["auto", "stock"])
def test_episodes_are_waited_for_in_one_lane_alone(updates, tmp_path):
    """As with SAC, whichever way the steps are played."""
    expected = "`train_freq` must be a number of steps with 2 environments, .*not "
    with pytest.raises(ValueError, match=expected):
        make_model(ESAC, drift(2), train_freq=(1, "episode"), updates=updates)
    model = make_model(ESAC, drift(2), updates=updates)
    with pytest.raises(ValueError, match=expected):
        model.train_freq = (1, "episode")
    assert model.train_freq == model.agent.train_freq and model.train_freq.unit.value == "step"
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=expected):
        ESAC.load(tmp_path / "model", env=drift(2), train_freq=(1, "episode"))
    one = make_model(ESAC, drift(), train_freq=(1, "episode"), updates=updates)
    one.save(tmp_path / "one")
    with pytest.raises(ValueError, match=expected):
        ESAC.load(tmp_path / "one", env=drift(2))


def test_wrong_arguments_for_sac_are_sacs_errors():
    """What SAC refuses is refused in the same words."""
    for kwargs in (dict(train_freq=(1, "epoch")), dict(ent_coef="auto_0"), dict(optimize_memory_usage=True)):
        messages = []
        for algorithm, more in ((SAC, {}), (ESAC, dict(population_size=4, share_experience=0.0))):
            with pytest.raises((ValueError, AssertionError)) as error:
                algorithm("MlpPolicy", gym.make("Pendulum-v1"), buffer_size=100, **kwargs, **more)
            messages.append(str(error.value))
        assert messages[0] == messages[1]


def test_sacs_arguments_come_first():
    """Names, order and, but for four, defaults of SAC's: an SB3 script needs another class name and nothing else."""
    ours, theirs = (inspect.signature(algorithm.__init__).parameters for algorithm in (ESAC, SAC))
    names = list(theirs)
    assert list(ours)[: len(names)] == names
    differ = {name: ours[name].default for name in names if ours[name].default != theirs[name].default}
    assert differ == {"learning_rate": 1e-3, "learning_starts": 2000, "batch_size": 128, "tau": 0.01}
    assert AGENT_DEFAULTS == {name: ours[name].default for name in AGENT_DEFAULTS}
    learn, sac_learn = (inspect.signature(algorithm.learn).parameters for algorithm in (ESAC, SAC))
    assert list(learn) == list(sac_learn)
