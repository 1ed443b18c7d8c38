"""Arguments that have no effect beside others are refused at construction, and only there."""

from types import SimpleNamespace

import pytest
from helpers import ALGORITHMS, SMALL, Drift, drift, make_model
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer

from sb3_esac import ES, ESAC
from sb3_esac.arguments import defaults_of
from sb3_esac.evaluation.lockstep import LockstepEvaluator
from sb3_esac.validation import EFFECTS, ES_EFFECTS

TABLES = {ESAC: EFFECTS, ES: ES_EFFECTS}

OWN = LockstepEvaluator(drift())
"""An evaluator of the user's."""

# Algorithm, argument, its value, beside what it has no effect, and beside what it has one
WORKERS = [
    *[("n_workers", 2, dict(backend=backend), dict(backend="subproc")) for backend in ("lockstep", OWN)],
    ("n_workers", 1, dict(backend=OWN), dict(backend="lockstep")),
    *[
        (name, value, beside, dict(backend="subproc"))
        for name, value in (("env_fn", Drift), ("episode_timeout", 9.0), ("max_worker_restarts", 1))
        for beside in (dict(backend="lockstep"), dict(backend=OWN), dict(backend="auto"), dict(backend="auto", n_workers=1))
    ],
]
ROWS = [
    *[
        (ESAC, name, value, dict(agent_fraction=0.8), dict(agent_fraction=None))
        for name, value in (("gradient_interval", 3), ("agent_episodes", 2), ("agent_probability", 0.5))
    ],
    *[
        (ESAC, "es_optimizer", "sgd", dict(strategy=strategy), dict(strategy="openai"))
        for strategy in ("canonical", "cem", "sep_cma_es")
    ],
    *[
        (ESAC, "mirrored", False, dict(strategy="sep_cma_es"), dict(strategy=strategy))
        for strategy in ("openai", "canonical", "cem")
    ],
    *[
        (ESAC, "es_learning_rate", 0.1, dict(strategy=strategy, amt_clip=0), has_one)
        for strategy in ("canonical", "cem", "sep_cma_es")
        for has_one in (dict(strategy="openai", amt_clip=0), dict(strategy=strategy, amt_clip=1.0))
    ],
    *[
        (ESAC, "winner_fraction", 0.5, dict(strategy=strategy, crossover=None, share_experience=0.0), has_one)
        for strategy in ("openai", "sep_cma_es")
        for has_one in (
            dict(strategy="canonical"),
            dict(strategy="cem"),
            dict(strategy="openai", crossover="row"),
            dict(strategy="openai", crossover=None, share_experience=0.5),
        )
    ],
    (ESAC, "amt_input", "raw", dict(amt_clip=0), dict(amt_clip=1e-3)),
    (ESAC, "agent_average", 0.5, dict(deploy="population", champion_episodes=0), dict(deploy="population")),
    (ESAC, "agent_average", 0.5, dict(deploy="population", champion_episodes=0), dict(deploy="agent", champion_episodes=0)),
    *[
        (ESAC, name, value, dict(use_sde=False), dict(use_sde=True))
        for name, value in (("sde_sample_freq", 4), ("use_sde_at_warmup", True))
    ],
    (ESAC, "target_entropy", -2.0, dict(ent_coef=0.2), dict(ent_coef="auto_0.5")),
    (ESAC, "n_steps", 3, dict(replay_buffer_class=ReplayBuffer), dict(replay_buffer_class=None)),
    *[
        (ES, name, value, dict(strategy="canonical"), dict(strategy="openai"))
        for name, value in (("es_learning_rate", 0.1), ("es_optimizer", "sgd"), ("weight_decay", 0.01))
    ],
    *[
        (ES, name, value, dict(strategy=strategy), dict(strategy="openai"))
        for strategy in ("cem", "sep_cma_es")
        for name, value in (("es_learning_rate", 0.1), ("es_optimizer", "sgd"), ("weight_decay", 0.01))
    ],
    *[
        (ES, "winner_fraction", 0.5, dict(strategy=without), dict(strategy=beside))
        for without in ("openai", "sep_cma_es")
        for beside in ("canonical", "cem")
    ],
    *[
        (ES, "mirrored", mirrored, dict(strategy="sep_cma_es"), dict(strategy=strategy))
        for mirrored in (True, False)
        for strategy in ("openai", "canonical", "cem")
    ],
    *[(algorithm, *row) for algorithm in ALGORITHMS for row in WORKERS],
]

ALWAYS = {
    ESAC: {
        *("learning_rate", "buffer_size", "learning_starts", "batch_size", "tau", "gamma", "train_freq", "gradient_steps"),
        *("action_noise", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage", "ent_coef", "use_sde"),
        *("target_update_interval", "stats_window_size", "tensorboard_log", "policy_kwargs", "verbose", "seed", "device"),
        *("population_size", "sigma", "strategy", "crossover", "n_agent_members", "share_experience"),
        *("agent_fraction", "amt_clip", "deploy", "champion_episodes", "n_eval_episodes", "alive_bonus_offset", "overlap"),
        *("normalize_observations", "episode_length_schedule", "agent_class", "agent_kwargs", "backend", "updates"),
    },
    ES: {
        *("population_size", "sigma", "strategy", "deploy", "champion_episodes", "n_eval_episodes", "backend"),
        *("alive_bonus_offset", "normalize_observations", "episode_length_schedule", "stats_window_size", "tensorboard_log"),
        *("policy_kwargs", "verbose", "seed", "device"),
    },
}
"""What has an effect beside whatever else is said."""


def id_of(part):
    return getattr(part, "__name__", str(part))[:40]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_argument_is_of_one_kind(algorithm):
    """A new argument belongs in the table, or in the list above."""
    listed = {effect.argument for effect in TABLES[algorithm]}
    assert not listed & ALWAYS[algorithm]
    assert listed | ALWAYS[algorithm] == defaults_of(algorithm).keys()
    tried = {name for kind, name, *_ in ROWS if kind is algorithm}
    assert tried == listed, "a row that nobody tries"


@pytest.mark.parametrize("algorithm, name, value, without, with_effect", ROWS, ids=id_of)
def test_without_effect(algorithm, name, value, without, with_effect):
    small = {"share_experience": 0.0, "crossover": None, "agent_fraction": 0.8}
    with pytest.raises(ValueError) as error:
        make_model(algorithm, drift(), **{**small, **without, name: value})
    message = str(error.value)
    assert message.startswith(f"`{name}={value!r}` has no effect beside `")
    assert any(f"`{other}={beside!r}`" in message for other, beside in without.items())
    assert message.endswith(f"or leave it at {defaults_of(algorithm)[name]!r}")
    # At its default, or beside what gives it an effect
    make_model(algorithm, drift(), **{**small, **without, name: defaults_of(algorithm)[name]})
    model = make_model(algorithm, drift(), **{**small, **with_effect, name: value})
    assert getattr(model, name) == value


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_small_says_nothing_in_vain(algorithm):
    """Every value of it that the table knows differs from the default."""
    arguments = SimpleNamespace(**{**defaults_of(algorithm), **SMALL[algorithm], "env": None})
    idle = {effect.argument for effect in TABLES[algorithm] if not effect.holds(arguments)}
    assert not idle & SMALL[algorithm].keys()


@pytest.mark.parametrize(
    "algorithm, first, then",
    [
        (ESAC, dict(agent_fraction=None, gradient_interval=3), dict(agent_fraction=0.5)),
        (ES, dict(strategy="canonical", winner_fraction=0.5), dict(strategy="openai")),
    ],
)
def test_a_file_may_hold_what_has_no_effect(algorithm, first, then, tmp_path):
    make_model(algorithm, drift(), **first).save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=drift(), **then)
    for name, value in {**first, **then}.items():
        assert getattr(loaded, name) == value
    loaded.learn(60)


def test_a_donor_may_hold_what_has_no_effect(tmp_path):
    """SAC notes a target entropy even beside a coefficient that is fixed; who says so themselves is told."""
    donor = SAC("MlpPolicy", Drift(), ent_coef=0.2, sde_sample_freq=4, buffer_size=100, policy_kwargs=dict(net_arch=[8]))
    donor.save(tmp_path / "donor")
    small = {"population_size": 4, "device": "cpu"}
    model = ESAC.from_agent(tmp_path / "donor", Drift(), **small)
    assert model.agent.ent_coef == 0.2 and model.sde_sample_freq == -1
    with pytest.raises(ValueError, match=r"`sde_sample_freq=4` has no effect beside `use_sde=False`"):
        ESAC.from_agent(tmp_path / "donor", Drift(), sde_sample_freq=4, **small)


def test_a_derived_class_is_held_to_the_same():
    class Derived(ESAC):
        def __init__(self, policy, env, bonus=0.0, **kwargs):
            super().__init__(policy, env, **kwargs)

    with pytest.raises(ValueError, match="`gradient_interval=3` has no effect"):
        Derived("MlpPolicy", drift(), gradient_interval=3, buffer_size=10)
    Derived("MlpPolicy", drift(), bonus=1.0, buffer_size=10)
