"""It learns the simplest of tasks: to do what it sees."""

import itertools

import numpy as np
import pytest
from helpers import HYBRIDS, make_model
from stable_baselines3.common.envs import IdentityEnv, IdentityEnvBox
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_esac import ES
from sb3_esac.evolution.strategies import STRATEGIES


class Identity(IdentityEnvBox):
    """SB3's task with short episodes that depend on their seed; ``dense`` rewards tell how far off an action was."""

    def __init__(self, dense: bool = False) -> None:
        super().__init__(eps=0.5, ep_length=20)
        self.dense = dense

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.action_space.seed(seed)
        return super().reset(seed=seed, options=options)

    def _get_reward(self, action):
        return -float(np.abs(action - self.state).sum()) if self.dense else super()._get_reward(action)


RATES = {"openai": dict(es_learning_rate=0.2)}
"""What a strategy takes beside what they have in common."""


def mean_return(model, deploy, dense=False):
    model.deploy = deploy
    return evaluate_policy(model, Monitor(Identity(dense)), n_eval_episodes=10, deterministic=True)[0]


@pytest.mark.parametrize("algorithm", HYBRIDS)
def test_identity(algorithm):
    """Agent and population together. Of 20 steps a policy that ignores what it sees gets half right."""
    options = dict(gamma=0.0, learning_rate=1e-2, batch_size=32, agent_fraction=0.4, train_freq=1)
    model = make_model(algorithm, Identity(), seed=0, **options).learn(1200)
    assert mean_return(model, "best") >= 16
    assert mean_return(model, "agent") >= 16


@pytest.mark.parametrize(
    "algorithm, strategy",
    [*itertools.product(HYBRIDS, ["openai", "canonical"]), *[(ES, name) for name in STRATEGIES]],
)
def test_population_alone(algorithm, strategy):
    """Without a single gradient step of the agent."""
    options = dict(agent_fraction=0.0, n_agent_members=0, share_experience=0.0, champion_episodes=0)
    options.update(population_size=20, sigma=0.2, policy_kwargs=dict(net_arch=[]), **RATES.get(strategy, {}))
    model = make_model(algorithm, Identity(dense=True), seed=0, strategy=strategy, **options)
    # Far away: the mean plays the opposite of what it sees, and is off by more than 1 on average.
    model.population.set_mean(np.array([-2.0, 0.0], dtype=np.float32))
    before = mean_return(model, "population", dense=True)
    model.learn(12_000)
    assert algorithm not in HYBRIDS or model._n_updates == 0
    assert before < -20
    # Off by less than 0.3; an action that is always zero is off by 0.5.
    assert mean_return(model, "population", dense=True) > -6


class Choose(IdentityEnv):
    """SB3's task with discrete actions, and episodes that depend on their seed."""

    def __init__(self) -> None:
        super().__init__(dim=3, ep_length=20)

    def reset(self, *, seed=None, options=None):
        if seed is not None:
            self.action_space.seed(seed)
        return super().reset(seed=seed, options=options)


@pytest.mark.parametrize(
    "policy, strategy", [("MlpPolicy", "openai"), ("MlpPolicy", "canonical"), *[("LinearPolicy", name) for name in STRATEGIES]]
)
def test_discrete(policy, strategy):
    """Of 20 steps one of three actions by chance gets 7 right."""
    options = dict(population_size=20, sigma=0.3, policy_kwargs=None if policy == "LinearPolicy" else {})
    options |= RATES.get(strategy, {})
    model = make_model(ES, Choose(), policy, seed=0, strategy=strategy, **options).learn(8000)
    assert evaluate_policy(model, Monitor(Choose()), n_eval_episodes=10)[0] >= 18
