"""It learns the simplest of tasks: to do what it sees."""

import numpy as np
import pytest
from helpers import ALGORITHMS, make_model
from stable_baselines3.common.envs import IdentityEnvBox
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ESAC


def mean_return(model, deploy):
    model.deploy = deploy
    env = Monitor(IdentityEnvBox(eps=0.5, ep_length=20))
    return evaluate_policy(model, env, n_eval_episodes=10, deterministic=True)[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_identity(algorithm):
    """Agent and population together. Of 20 steps a policy that ignores what it sees gets half right."""
    env = IdentityEnvBox(eps=0.5, ep_length=20)
    model = make_model(algorithm, env, seed=0, gamma=0.0, learning_rate=1e-2, batch_size=32, agent_fraction=0.4, train_freq=1)
    model.learn(1200)
    assert mean_return(model, "best") >= 16
    assert mean_return(model, "agent") >= 16


@pytest.mark.parametrize("recombination", ["es", "winners"])
def test_population_alone(recombination):
    """Without a single gradient step of the agent."""
    options = dict(agent_fraction=0.0, n_agent_members=0, share_experience=0.0, champion_episodes=0, sigma=0.2)
    model = make_model(
        ESAC,
        IdentityEnvBox(eps=0.5, ep_length=20),
        seed=0,
        population_size=20,
        recombination=recombination,
        es_learning_rate=0.2,
        policy_kwargs=dict(net_arch=[]),
        **options,
    )
    # Far away: the mean plays the opposite of what it sees.
    model.population.set_mean(np.array([-2.0, 0.0], dtype=np.float32))
    before = mean_return(model, "population")
    model.learn(12_000)
    assert model._n_updates == 0
    after = mean_return(model, "population")
    assert before <= 10 and after >= 16
