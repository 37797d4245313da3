"""Recordings of a robot that hangs in the air: of the bench's hidden motors, or of the simulator's own."""

import copy
from typing import Any, Literal, Protocol

import mujoco
import numpy as np

from jaxloco.actuator_bench.hidden import HIDDEN, Drives
from jaxloco.actuator_bench.rig import TIMESTEP, Measured, Rig, hold
from jaxloco.actuator_fit.excitation import Excitation, check_position_targets
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.logs.recording import Recording
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot

Plant = Literal["stiff", "elastic", "simulator"]

DIGITS = {"position": 6, "velocity": 5, "torque": 4}
"""What is written of readings; far below their noise."""


class _Plant(Protocol):
    def push(self, bodies: tuple[int, ...], forces: np.ndarray) -> None: ...
    def read(self) -> Measured: ...
    def step(self, target: np.ndarray, seconds: float) -> Measured: ...


def record(robot: Robot, plant: Plant, excitation: Excitation, name: str, seed: int = 0) -> Recording:
    """Move a robot and measure its joints; every time of the excitation is a row.

    Args:
        robot: The robot; its joints have position targets.
        plant: "stiff" or "elastic" of the bench, or "simulator": the robot as it is trained, without noise.
        excitation: What moves it.
        name: Of the recording.
        seed: Of the sensors' noise.

    Returns:
        Positions, velocities and torques of the joints, with the targets and gains that were in force.

    Raises:
        ConfigError: There is no such plant, the robot's joints have other targets, or the plant cannot step so often.
    """
    check_position_targets(robot)
    machine = _plant(robot, plant, seed)
    interval = float(excitation.times[1] - excitation.times[0])
    if plant in HIDDEN:
        whole_steps(interval, TIMESTEP, "test bench")
    readings = []
    for target, forces in zip(excitation.targets, excitation.forces, strict=True):
        readings.append(machine.read())
        machine.push(excitation.bodies, forces)
        machine.step(target, interval)
    measured: dict[str, Any] = {
        field: np.round([getattr(reading, field) for reading in readings], digits) for field, digits in DIGITS.items()
    }
    shape = excitation.targets.shape
    return Recording(
        name,
        robot.joint_names,
        time=excitation.times,
        command_time=excitation.times,
        target=np.round(excitation.targets, 6),
        kp=np.broadcast_to([joint.kp for joint in robot.joints], shape),
        kd=np.broadcast_to([joint.kd for joint in robot.joints], shape),
        **measured,
    )


def _plant(robot: Robot, plant: str, seed: int) -> _Plant:
    if plant == "simulator":
        return Simulated(robot)
    if plant not in HIDDEN:
        raise unknown_name("plant", plant, (*HIDDEN, "simulator"))
    return bench(robot, plant, seed=seed)


def bench(robot: Robot, motor: str, *, in_the_air: bool = True, seed: int = 0) -> Rig:
    """Return a robot on the test bench, with hidden motors that are driven with its gains.

    Args:
        robot: The robot.
        motor: "stiff" or "elastic".
        in_the_air: Whether its base is held.
        seed: Of the sensors' noise.
    """
    keys = ("kp", "kd", "torque_limit", "velocity_limit", "armature")
    drives = Drives(*(np.array([getattr(joint, key) for joint in robot.joints]) for key in keys))
    base = robot.base_body if in_the_air else None
    return Rig(robot.model, robot.default_qpos, robot.default_ctrl, drives, motor, base=base, seed=seed)


class Simulated:
    """A robot in the air as it is trained: its model, its time step and its actuators; without noise."""

    def __init__(self, robot: Robot) -> None:
        self._robot, self._motors = robot, motors_of(robot)
        self._model, self._qpos = copy.deepcopy(robot.model), np.array(robot.default_qpos)
        self._held = None if robot.base_body is None else hold(self._model, robot.base_body, self._qpos)
        mujoco.mj_setConst(self._model, mujoco.MjData(self._model))
        self._data = mujoco.MjData(self._model)
        self._data.qpos[:] = self._qpos
        if self._motors is not None:
            self._values, self._state = self._motors.values(self._model, {}), self._motors.init(np.float64)

    def push(self, bodies: tuple[int, ...], forces: np.ndarray) -> None:
        """See `Rig.push`."""
        self._data.xfrc_applied[list(bodies), :3] = forces

    def read(self) -> Measured:
        """See `Rig.read`."""
        data, robot = self._data, self._robot
        return Measured(
            data.qpos[robot.joint_qpos_indices], data.qvel[robot.joint_qvel_indices], data.actuator_force.copy()
        )

    def step(self, target: np.ndarray, seconds: float) -> Measured:
        """See `Rig.step`; the time is a multiple of the physics step."""
        data = self._data
        for _ in range(substeps(self._robot, seconds)):
            data.ctrl[:] = target
            if self._motors is not None:
                self._state, data.ctrl[:] = self._motors.step(self._values, self._state, data.qpos, data.qvel, target)
            mujoco.mj_step(self._model, data)
            if self._held is not None:
                data.qpos[self._held.qpos], data.qvel[self._held.qvel] = self._qpos[self._held.qpos], 0.0
        return self.read()


def substeps(robot: Robot, seconds: float) -> int:
    """Return how many physics steps a time is.

    Raises:
        ConfigError: It is not a whole number of them.
    """
    return whole_steps(seconds, float(robot.model.opt.timestep), "simulator")


def whole_steps(seconds: float, timestep: float, what: str) -> int:
    """Return how many time steps, s, of something a time is; see `substeps`."""
    count = round(seconds / timestep)
    if count < 1 or abs(count * timestep - seconds) > 1e-6:
        raise ConfigError(
            f"rate {1.0 / seconds:g} Hz: the {what} steps at {1.0 / timestep:g} Hz; write that, or a whole part"
        )
    return count
