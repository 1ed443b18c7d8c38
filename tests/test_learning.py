"""Does it learn? Quick checks on a toy task; with ``-m expensive`` the tasks that have to be solved with default arguments."""

import numpy as np
import pytest
from support import Walk, tiny, vec


def mean_return(model, n_episodes=40, **kwargs):
    """Mean return over episodes with fixed seeds."""
    returns = []
    for seed in range(n_episodes):
        env = Walk(**kwargs)
        observation, total, over = env.reset(seed=1000 + seed)[0], 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(model.predict(observation, deterministic=True)[0])
            total, over = total + reward, terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


SETTINGS = dict(
    population_size=12,
    sigma=0.2,
    batch_size=32,
    buffer_size=10_000,
    learning_starts=50,
    learning_rate=3e-3,
    policy_kwargs=dict(net_arch=[16]),
    champion_episodes=5,
)

# Who learns, how many steps it may take, and the least return after them. The untrained policy runs away, for about -250;
# to go straight to zero and to stay there is about -1.
HALVES = {
    "both": (dict(agent_fraction=0.4), 2000, -5.0),
    "population": (dict(agent_fraction=0.0, share_experience=0.0), 4000, -5.0),
    "population, by gradient estimate": (dict(agent_fraction=0.0, strategy="openai", es_learning_rate=0.05), 4000, -50.0),
    "agent": (dict(agent_fraction=0.9, deploy="agent"), 1500, -50.0),
    "agent and population as in the paper": (
        dict(
            agent_fraction=None,
            gradient_interval=1,
            agent_probability=1.0,
            es_optimizer="sgd",
            strategy="openai",
            share_experience=0.0,
            winner_fraction=0.2,
            deploy="agent",
        ),
        8000,
        -50.0,
    ),
}


@pytest.mark.parametrize("halves", HALVES)
def test_learns_to_stand_still(halves):
    kwargs, budget, least = HALVES[halves]
    task = dict(length=20)
    model = tiny(vec(1, **task), **{**SETTINGS, **kwargs})
    assert mean_return(model, **task) < -200
    model.learn(budget)
    assert mean_return(model, **task) >= least


# -- minutes ------------------------------------------------------------------------------------------------------------

# True steps, all of them, and the mean return that has to be reached within them.
TASKS = [
    ("Pendulum-v1", 20_000, -200.0),
    ("InvertedDoublePendulum-v5", 100_000, 9000.0),
    ("HalfCheetah-v5", 300_000, 4000.0),
]


@pytest.mark.expensive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name, limit, least", TASKS)
def test_default_arguments(name, limit, least, seed):
    from experiments.learning_check import run

    outcome = run(name, seed, n_episodes=20)
    assert outcome.total_steps <= limit
    assert outcome.return_mean >= least
