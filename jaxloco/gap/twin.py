"""The simulator beside a recording: it follows the recorded states, and goes on by itself from each of them."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import mujoco
import numpy as np

from jaxloco.gap.trajectory import Trajectory, hold_base
from jaxloco.physics.motors import Motors, State, motors_of
from jaxloco.robot import Robot

TOGETHER = 32
"""Predictions that are simulated side by side; each has a simulation of its own in memory."""

Change = Callable[[mujoco.MjModel], None]
"""Changes a model in place."""


class Start(NamedTuple):
    """What the simulator remembers at a recorded state, beside the state.

    Attributes:
        warmstart: Accelerations that its solver begins with, (nv,).
        motors: State of the motors.
    """

    warmstart: np.ndarray
    motors: State


class Predicted(NamedTuple):
    """States after some steps, from B starts.

    Attributes:
        qpos: Positions, (B, nq).
        qvel: Velocities, (B, nv).
        torque: Torques of the motors in the physics step before, N m, (B, nu).
    """

    qpos: np.ndarray
    qvel: np.ndarray
    torque: np.ndarray


class Twin:
    """One robot in plain MuJoCo, stepped as `jaxloco evaluate` does.

    Args:
        robot: The robot.
        curves: Whether joints whose `actuator` robot.toml leaves open are held to their torque–speed curves.
        held: Whether the base is held in the air.
        change: A change of the model; none if not given.
    """

    def __init__(self, robot: Robot, curves: bool, held: bool = False, change: Change | None = None) -> None:
        self._robot, self._held = robot, held
        self.model = copy.deepcopy(robot.model)
        if change is not None:
            change(self.model)
        if held:
            hold_base(robot, self.model)
        elif change is not None:
            mujoco.mj_setConst(self.model, mujoco.MjData(self.model))
        self._motors: Motors | None = motors_of(robot, curves)
        self._values = self._motors.values(self.model, {}) if self._motors else {}
        self._remembers = self._motors is not None and any(
            state for group in self._motors.init(np.float64) for state in group
        )

    def follow(self, trajectory: Trajectory, targets: np.ndarray) -> list[Start]:
        """Step from each recorded state to the next one, and return what is remembered at each, (T,).

        Args:
            trajectory: The recording.
            targets: Of each physics step, (T × substeps, nu).
        """
        data, found = mujoco.MjData(self.model), []
        self._put(data, trajectory.qpos[0], trajectory.qvel[0])
        mujoco.mj_forward(self.model, data)
        remembered: State = self._motors.init(np.float64) if self._motors else ()
        for row in range(len(trajectory.time)):
            found.append(Start(data.qacc_warmstart.copy(), remembered))
            self._put(data, trajectory.qpos[row], trajectory.qvel[row])
            for target in targets[row * trajectory.substeps : (row + 1) * trajectory.substeps]:
                remembered = self._step_one(data, remembered, target)
        return found

    def predict(
        self,
        trajectory: Trajectory,
        targets: np.ndarray,
        begins: Sequence[Start],
        starts: np.ndarray,
        horizons: Sequence[int],
    ) -> dict[int, Predicted]:
        """Go on from recorded states with the recorded targets.

        Args:
            trajectory: The recording.
            targets: Of each physics step, (T × substeps, nu).
            begins: What `follow` returned.
            starts: From which states, (B,).
            horizons: After how many steps to look.

        Returns:
            The states by horizon.
        """
        parts: list[dict[int, Predicted]] = []
        for i in range(0, len(starts), TOGETHER):
            parts.append(self._predict(trajectory, targets, begins, starts[i : i + TOGETHER], horizons))
        return {
            n: Predicted(*(np.concatenate(arrays) for arrays in zip(*(p[n] for p in parts), strict=True)))
            for n in horizons
        }

    def _predict(
        self,
        trajectory: Trajectory,
        targets: np.ndarray,
        begins: Sequence[Start],
        starts: np.ndarray,
        horizons: Sequence[int],
    ) -> dict[int, Predicted]:
        datas = [mujoco.MjData(self.model) for _ in starts]
        for data, row in zip(datas, starts, strict=True):
            self._put(data, trajectory.qpos[row], trajectory.qvel[row])
            data.qacc_warmstart[:] = begins[row].warmstart
        remembered = [begins[row].motors for row in starts]
        found: dict[int, Predicted] = {}
        for step in range(1, max(horizons) + 1):
            for substep in range(trajectory.substeps):
                done = (step - 1) * trajectory.substeps + substep
                if done % self._robot.substeps == 0:
                    for data in datas:
                        _round(data)
                self._step_all(datas, remembered, targets[starts * trajectory.substeps + done])
            if step in horizons:
                states = [[data.qpos, data.qvel, data.actuator_force] for data in datas]
                found[step] = Predicted(*(np.array(values) for values in zip(*states, strict=True)))
        return found

    def _put(self, data: mujoco.MjData, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Set a state; a held base is kept up against gravity."""
        data.qpos[:], data.qvel[:] = qpos, qvel
        if self._held:
            body = self.model.body(self._robot.base_body).id
            data.xfrc_applied[body, :3] = -self.model.body_mass[body] * self.model.opt.gravity

    def _step_one(self, data: mujoco.MjData, remembered: State, target: np.ndarray) -> State:
        data.ctrl[:] = target
        if self._motors is not None:
            remembered, data.ctrl[:], _ = self._motors.run(self._values, remembered, data.qpos, data.qvel, target)
        mujoco.mj_step(self.model, data)
        return remembered

    def _step_all(self, datas: Sequence[mujoco.MjData], remembered: list[State], targets: np.ndarray) -> None:
        """Step each simulation once; motors without memory all at once."""
        if self._remembers:
            for i, (data, target) in enumerate(zip(datas, targets, strict=True)):
                remembered[i] = self._step_one(data, remembered[i], target)
            return
        if self._motors is not None:
            qpos, qvel = np.array([data.qpos for data in datas]), np.array([data.qvel for data in datas])
            _, targets, _ = self._motors.run(self._values, remembered[0], qpos, qvel, targets)
        for data, target in zip(datas, targets, strict=True):
            data.ctrl[:] = target
            mujoco.mj_step(self.model, data)


def _round(data: mujoco.MjData) -> None:
    """Round a state to float32, as `jaxloco evaluate` does at each control step because training does."""
    for values in (data.qpos, data.qvel):
        with np.errstate(over="ignore", invalid="ignore"):  # in a robot that has diverged
            values[:] = values.astype(np.float32)
