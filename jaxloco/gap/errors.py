"""Errors of predictions, by quantity and horizon, beside those of predicting no change and no change of velocity."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxloco.gap.trajectory import Trajectory
from jaxloco.gap.twin import Predicted
from jaxloco.logs.turns import conjugate, product
from jaxloco.robot import Robot

Errors = dict[str, dict[int, np.ndarray]]
"""Quantity → horizon → error from each start, (B,): root mean square over joints or axes, of a turn its angle."""

UNITS = {
    "joint positions": "rad",
    "joint velocities": "rad/s",
    "joint torques": "N m",
    "base position": "m",
    "base orientation": "rad",
    "base velocity": "m/s",
    "base angular velocity": "rad/s",
}
"""Quantity → unit."""

QUANTILES = (0.5, 0.9)
"""Quantiles that are reported: contact is chaotic, so a mean would be that of a few falls."""


class Reader:
    """Splits states of a robot into quantities.

    Args:
        robot: The robot.
        held: Whether its base is held, so that nothing of it is predicted.
    """

    def __init__(self, robot: Robot, held: bool) -> None:
        self._robot = robot
        self._free = robot.base_body is not None and not held

    def of(self, qpos: np.ndarray, qvel: np.ndarray, torque: np.ndarray | None) -> dict[str, np.ndarray]:
        """Return each quantity, (B, n)."""
        robot = self._robot
        found = {
            "joint positions": qpos[:, robot.joint_qpos_indices],
            "joint velocities": qvel[:, robot.joint_qvel_indices],
        }
        if torque is not None:
            found["joint torques"] = torque
        if self._free:
            places, speeds = robot.base_qpos_indices, robot.base_qvel_indices
            found["base position"], found["base orientation"] = qpos[:, places[:3]], qpos[:, places[3:]]
            found["base velocity"], found["base angular velocity"] = qvel[:, speeds[:3]], qvel[:, speeds[3:]]
        return found

    def coasted(self, qpos: np.ndarray, qvel: np.ndarray, seconds: float) -> np.ndarray:
        """Return where constant velocities lead, (B, nq)."""
        robot, after = self._robot, qpos.copy()
        after[:, robot.joint_qpos_indices] += seconds * qvel[:, robot.joint_qvel_indices]
        if self._free:
            places, speeds = robot.base_qpos_indices, robot.base_qvel_indices
            after[:, places[:3]] += seconds * qvel[:, speeds[:3]]
            after[:, places[3:]] = product(qpos[:, places[3:]], _turn(seconds * qvel[:, speeds[3:]]))
        return after


def prediction_errors(
    trajectory: Trajectory, robot: Robot, starts: np.ndarray, predicted: Mapping[int, Predicted]
) -> Errors:
    """Return the errors of predictions against the recording."""
    reader = Reader(robot, trajectory.held)
    measured = trajectory.torque is not None
    every: Errors = {}
    for horizon, states in predicted.items():
        truth = _truth(trajectory, reader, starts + horizon)
        found = reader.of(states.qpos, states.qvel, states.torque if measured else None)
        for name, values in found.items():
            every.setdefault(name, {})[horizon] = _difference(name, values, truth[name])
    return every


def baseline_errors(
    trajectory: Trajectory, robot: Robot, starts: np.ndarray, horizons: Sequence[int]
) -> dict[str, Errors]:
    """Return the errors of the state that stays ("constant"), and of its velocity that stays ("constant velocity")."""
    reader = Reader(robot, trajectory.held)
    torque = None if trajectory.torque is None else trajectory.torque[starts]
    qpos, qvel = trajectory.qpos[starts], trajectory.qvel[starts]
    found: dict[str, Errors] = {"constant": {}, "constant velocity": {}}
    for horizon in horizons:
        truth = _truth(trajectory, reader, starts + horizon)
        coasted = reader.coasted(qpos, qvel, horizon * trajectory.step)
        for kind, positions in (("constant", qpos), ("constant velocity", coasted)):
            for name, values in reader.of(positions, qvel, torque).items():
                found[kind].setdefault(name, {})[horizon] = _difference(name, values, truth[name])
    return found


def joined(parts: Sequence[Errors]) -> Errors:
    """Return the errors of several recordings together, of the quantities that all of them have."""
    names = [name for name in UNITS if all(name in part for part in parts)]
    return {name: {h: np.concatenate([part[name][h] for part in parts]) for h in parts[0][name]} for name in names}


def summary(errors: Errors) -> dict[str, dict[int, dict[str, float]]]:
    """Return the quantiles of errors, by quantity, horizon and "median" or "90 %"."""
    return {
        name: {
            horizon: {label(q): float(np.quantile(values, q)) for q in QUANTILES}
            for horizon, values in by_horizon.items()
        }
        for name, by_horizon in errors.items()
    }


def label(quantile: float) -> str:
    """Return what a quantile is called."""
    return "median" if quantile == 0.5 else f"{100 * quantile:g} %"


def _truth(trajectory: Trajectory, reader: Reader, rows: np.ndarray) -> dict[str, np.ndarray]:
    torque = None if trajectory.torque is None else trajectory.torque[rows]
    return reader.of(trajectory.qpos[rows], trajectory.qvel[rows], torque)


def _difference(name: str, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the error of each start, (B,); of what is not finite infinity."""
    if name == "base orientation":
        sines = np.linalg.norm(product(conjugate(truth), found)[:, 1:], axis=1)
        error: Any = 2.0 * np.arcsin(np.minimum(sines, 1.0))
    else:
        error = np.sqrt(np.mean((found - truth) ** 2, axis=1))
    return np.where(np.isfinite(error), error, np.inf)


def _turn(angles: np.ndarray) -> np.ndarray:
    """Return the quaternions of rotation vectors, (B, 4) from (B, 3)."""
    size = np.linalg.norm(angles, axis=1, keepdims=True)
    return np.concatenate([np.cos(0.5 * size), 0.5 * np.sinc(size / (2.0 * np.pi)) * angles], axis=1)
