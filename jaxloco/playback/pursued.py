"""Objects in plain MuJoCo: how they turned, and their goals, apart from `jaxloco.envs.goals` on purpose."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import mujoco
import numpy as np

from jaxloco.envs.goals import MOST, Goals
from jaxloco.robot import Robot


class Pursued:
    """The goals of one robot's episodes.

    Args:
        process: The task's goals.
        turns: What leads to each goal, (MOST, 4).
        dt: Control period, s.
    """

    def __init__(self, process: Goals, turns: np.ndarray, dt: float) -> None:
        self._process, self._dt = process, dt
        self._turns = [_matrix(turn) for turn in turns]

    def reset(self, now: Mapping[str, Any]) -> None:
        """Begin an episode with the readings of its first state."""
        self.reached, self._age = 0, 0.0
        self._goal = self._next(self._object(now))
        self._before = self._angle(now)

    def tick(self, now: Mapping[str, Any]) -> None:
        """Go on to the next goal if the readings after a step have reached this one."""
        self._age += self._dt
        if self._angle(now) < self._process.tolerance:
            self.reached, self._age = self.reached + 1, 0.0
            self._goal = self._next(self._goal)
        self._before = self._angle(now)

    def readings(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return what terms and the policy read of the goals, by name, with the object as other readings say."""
        return {
            "goal_axes": (self._object(now).T @ self._goal)[:, :2].T.ravel(),
            "goal_distance": self._angle(now),
            "previous_goal_distance": self._before,
            "goals_reached": float(self.reached),
            "goal_age": self._age,
        }

    def _object(self, now: Mapping[str, Any]) -> np.ndarray:
        return _matrix(now[f"{self._process.object}_orientation"])

    def _angle(self, now: Mapping[str, Any]) -> float:
        cosine = 0.5 * (np.trace(self._object(now).T @ self._goal) - 1.0)
        return float(np.arccos(np.clip(cosine, -1.0, 1.0)))

    def _next(self, before: np.ndarray) -> np.ndarray:
        turn = self._turns[self.reached % MOST]
        return turn if self._process.anywhere else before @ turn


def _matrix(quaternion: np.ndarray) -> np.ndarray:
    matrix = np.empty(9)
    mujoco.mju_quat2Mat(matrix, np.asarray(quaternion, float) / np.linalg.norm(quaternion))
    return matrix.reshape(3, 3)


def goal_figures(reached: Sequence[int]) -> dict[str, Any]:
    """Return how many goals in a row were reached in each episode, as plain JSON values: median, mean and all.

    >>> goal_figures([1, 5, 3])["median"]
    3.0
    """
    return {"median": float(np.median(reached)), "mean": float(np.mean(reached)), "reached": list(reached)}


def turn_rates(robot: Robot, records: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the mean rate at which each object turned about the vertical, rad/s, from step to step.

    It is 0 where no episode has two steps.

    Args:
        robot: The robot.
        records: Positions after each step of each episode, (T, nq).
    """
    found = {}
    for each in robot.objects:
        places = robot.object_indices(each.name)[0][3:]
        turns = np.concatenate([np.zeros(0), *(_turns(qpos[:, places]) for qpos in records)])
        found[each.name] = float(np.mean(turns)) * robot.control_frequency if turns.size else 0.0
    return found


def _turns(quaternions: np.ndarray) -> np.ndarray:
    """Return the angles about the vertical between orientations that follow each other, rad, (T,) → (T - 1,).

    >>> _turns(np.array([[1.0, 0.0, 0.0, 0.0], [np.cos(0.1), 0.0, 0.0, np.sin(0.1)]])).round(6)
    array([0.2])
    """
    found, difference, turn = [], np.empty(4), np.empty(3)
    for before, after in pairwise(quaternions):
        mujoco.mju_mulQuat(difference, after, before * np.array([1.0, -1.0, -1.0, -1.0]))
        mujoco.mju_quat2Vel(turn, difference, 1.0)
        found.append(turn[2])
    return np.array(found)
