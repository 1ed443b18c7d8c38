"""Callbacks are told of as many steps at a time as they know environments, whatever number of lanes has stepped."""

from typing import Any

import numpy as np

from sb3_esac.evaluation.evaluator import OnStep
from sb3_esac.evaluation.rollout import stack
from sb3_esac.evaluation.seeded_episodes import SeededEpisodes
from sb3_esac.evaluation.vec_envs import take

ROWS = ("rewards", "dones", "actions")
"""Variables with one row per lane, beside observations and infos."""


class Telling:
    """
    Calls ``on_step`` once for every ``num_envs`` single steps, so that callbacks that multiply their calls by it count right.

    Where all lanes have stepped it is told of them at once. The steps of some lanes wait until there are enough; the last call
    may be of fewer. The variable ``n_steps`` says how many steps have been taken since the last call.

    :param on_step: Called with the variables.
    :param base: The lanes; it counts their steps.
    """

    def __init__(self, on_step: OnStep, base: SeededEpisodes) -> None:
        self.on_step, self.base = on_step, base
        self._waiting: list[dict[str, Any]] = []
        self._n_told = base.n_env_steps

    def tell(self, variables: dict[str, Any], awake: np.ndarray) -> bool:
        """
        Tell of a step.

        :param variables: Those of a ``VecEnv``'s step.
        :param awake: (n_envs,) lanes that have stepped.
        :return: False if ``on_step`` asked to stop.
        """
        if awake.all() and not self._waiting:
            return self._call(variables)
        for lane in np.flatnonzero(awake).tolist():
            single = {name: variables[name][lane] for name in (*ROWS, "infos")}
            self._waiting.append({**single, "new_obs": take(variables["new_obs"], lane)})
        n = self.base.num_envs
        while len(self._waiting) >= n:
            row, self._waiting = self._waiting[:n], self._waiting[n:]
            if not self._call(_together(row)):
                return False
        return True

    def flush(self) -> bool:
        """
        Tell of what still waits.

        :return: False if ``on_step`` asked to stop.
        """
        row, self._waiting = self._waiting, []
        return not row or self._call(_together(row))

    def _call(self, variables: dict[str, Any]) -> bool:
        n_told, self._n_told = self._n_told, self.base.n_env_steps
        return self.on_step({**variables, "n_steps": self._n_told - n_told})


def _together(row: list[dict[str, Any]]) -> dict[str, Any]:
    arrays = {name: np.stack([step[name] for step in row]) for name in ROWS}
    return {**arrays, "new_obs": stack([step["new_obs"] for step in row]), "infos": [step["infos"] for step in row]}
