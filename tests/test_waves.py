"""Probes ride along with the next generation, on a clock that is simulated: an episode takes one unit of time."""

import heapq
import math

import numpy as np
import pytest
from helpers import drift, make_model

from sb3_esac import ES, ESAC
from sb3_esac.evaluation.evaluator import EvaluationRequest, EvaluationResult, Evaluator, OnStep
from sb3_esac.evaluation.lockstep import LockstepEvaluator


class SimulatedWorkers(Evaluator):
    """Plays in this process. On its clock each of some workers takes the next episode when it has played one."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.env = drift()
        self.times: list[tuple[int, int, int]] = []
        """Of each evaluation: first members' episodes, other episodes, and units of time."""

    def evaluate(self, request: EvaluationRequest, on_step: OnStep) -> EvaluationResult | None:
        results = self.evaluate_all([(request, on_step)])
        return None if results is None else results[0]

    def evaluate_all(self, plays):
        free = [0] * self.n_workers
        sizes = [request.seeds.size for request, _ in plays]
        for _ in range(sum(sizes)):
            heapq.heappush(free, heapq.heappop(free) + 1)
        self.times.append((sizes[-1], sum(sizes[:-1]), max(free)))
        inner = LockstepEvaluator(self.env)
        results = [inner.evaluate(request, on_step) for request, on_step in plays]
        return None if any(result is None for result in results) else results


@pytest.mark.parametrize("n_workers", [1, 3, 8, 16, 100])
def test_a_generation_of_es_takes_as_many_waves_as_its_episodes_fill(n_workers):
    workers, n = SimulatedWorkers(n_workers), 30
    model = make_model(ES, drift(), population_size=n, champion_episodes=4, backend=workers, seed=1).learn(8000)
    n_generations = model.population.generation
    generations, after = workers.times[:n_generations], workers.times[n_generations:]
    assert n_generations > 10 and all(members == n for members, _, _ in generations)
    n_probes = [probes for _, probes, _ in generations]
    assert {0, 3} <= set(n_probes) and max(n_probes) > 4, "none, an opening, an opening and the rest of a challenger's"
    for members, probes, units in generations:
        assert units == math.ceil((members + probes) / n_workers)
    # When the budget is spent the last candidates are heard.
    assert len(after) <= 2 and model.champion.challenger is None
    assert sum(members + probes for members, probes, _ in workers.times) == model.arena.n_episodes


def test_an_opening_of_esac_is_one_wave():
    """Champion and candidates play together, and then the rest of the best one's."""
    workers = SimulatedWorkers(100)
    make_model(ESAC, drift(), population_size=8, champion_episodes=4, backend=workers, seed=1).learn(1500)
    openings = [(members, others) for members, others, _ in workers.times if members != 8]
    assert (3, 1) in openings and (3, 0) in openings and all(units == 1 for _, _, units in workers.times)
    assert {members for members, _ in openings} <= {2, 3, 4}


@pytest.mark.parametrize("lanes", [1, 2])
def test_riding_along_changes_nothing(lanes):
    """Whoever plays: lockstep plays probes and members one after the other."""
    one = make_model(ES, drift(lanes), champion_episodes=4, backend="lockstep", seed=1).learn(800)
    other = make_model(ES, drift(lanes), champion_episodes=4, n_workers=2, backend="subproc", seed=1).learn(800)
    np.testing.assert_array_equal(one.population.mean, other.population.mean)
    np.testing.assert_array_equal(one.champion.record.returns, other.champion.record.returns)
    np.testing.assert_array_equal(one.champion.record.numbers, other.champion.record.numbers)
    assert (one.num_timesteps, one.probe_timesteps) == (other.num_timesteps, other.probe_timesteps)
    assert one.probe_timesteps > 0
