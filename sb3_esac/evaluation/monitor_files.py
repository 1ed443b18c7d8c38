"""``monitor.csv``: rows for episodes that were played elsewhere, in the files that the user's monitors write."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecMonitor

from sb3_esac.evaluation.layers import layers
from sb3_esac.evaluation.vec_envs import base_vec_env


@dataclass(frozen=True)
class OffspringFile:
    """
    A file of its own for what workers play, where the monitors of the environment write in other processes.

    :param path: The file; rows are appended if it is there.
    :param info_keywords: As of ``Monitor``.
    """

    path: str
    info_keywords: tuple[str, ...] = ()


class MonitorFiles:
    """
    The files in which the user expects every episode of training. Rows are written as episodes are told to callbacks, in turn
    to the files of the lanes, with the time since the monitor was made.

    :param env: The user's ``VecEnv``.
    :param file: One more file.
    """

    def __init__(self, env: VecEnv | None = None, file: OffspringFile | None = None) -> None:
        self.shared = list(_monitors_around(env))
        base = None if env is None else base_vec_env(env)
        lanes = base.envs if isinstance(base, DummyVecEnv) else []
        self.lanes = [list(_monitors_in(lane)) for lane in lanes]
        self.file = file
        self._writer: ResultsWriter | None = None
        self._start = time.time()
        self._n_rows = 0

    @property
    def keywords(self) -> tuple[str, ...]:
        """What has to be known of the last ``info`` of an episode."""
        monitors: list[Monitor | VecMonitor] = [*self.shared, *(monitor for lane in self.lanes for monitor in lane)]
        known = [keyword for monitor in monitors for keyword in monitor.info_keywords]
        return tuple(dict.fromkeys([*known, *(self.file.info_keywords if self.file is not None else ())]))

    def write(self, info: dict[str, Any]) -> None:
        """
        Write an episode down.

        :param info: Its last ``info``, with the summary of a ``Monitor`` under "episode"; without one there is nothing to say.
        """
        if "episode" not in info:
            return
        row = {**info, **info["episode"]}
        turn: list[Monitor] = self.lanes[self._n_rows % len(self.lanes)] if self.lanes else []
        monitors: list[Monitor | VecMonitor] = [*self.shared, *turn]
        for monitor in monitors:
            assert monitor.results_writer is not None
            _write(monitor.results_writer, row, monitor.t_start)
        if self.file is not None:
            if self._writer is None:
                self._writer = self._open(self.file)
            _write(self._writer, row, self._start)
        self._n_rows += 1

    def _open(self, file: OffspringFile) -> ResultsWriter:
        is_new = not os.path.exists(file.path)
        header: dict[str, float | str] = {"t_start": self._start, "env_id": "None"}
        return ResultsWriter(file.path, header, extra_keys=file.info_keywords, override_existing=is_new)

    def close(self) -> None:
        """Close what was opened here. It is opened again when there is something to write."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _monitors_around(env: VecEnv | None) -> Iterator[VecMonitor]:
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecMonitor) and env.results_writer is not None:
            yield env
        env = env.venv


def _monitors_in(lane: gym.Env) -> Iterator[Monitor]:
    for layer in layers(lane):
        if isinstance(layer, Monitor) and layer.results_writer is not None:
            yield layer


def _write(writer: ResultsWriter, row: dict[str, Any], start: float) -> None:
    columns = writer.logger.fieldnames
    writer.write_row(
        {name: row[name] for name in columns if name in row and name != "t"} | {"t": round(time.time() - start, 6)}
    )
