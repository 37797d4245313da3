"""A recording as the simulator sees it: states on a grid of whole physics steps, and the targets in between."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import mujoco
import numpy as np

from jaxloco.errors import LogError
from jaxloco.logs.recording import SIMULTANEOUS, Recording
from jaxloco.robot import Robot

FREE = ("base_position", "base_velocity", "orientation", "angular_velocity")
"""Signals from which a base moves freely in the simulator; without one of them it is held."""

PARTS = 8
"""Parts of a physics step, to tell when a command came within it."""

HEAVY = 1e6
"""Factor on the mass of a base that is held."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """A recording on a grid of T times.

    Attributes:
        recording: The recording, with the robot's joints in order.
        step: Time between two states, s: whole physics steps.
        substeps: Physics steps in it.
        time: Times of the grid, s, (T,).
        qpos: Positions, (T, nq).
        qvel: Velocities, (T, nv).
        torque: Measured joint torques, N m, (T, nu); None if not recorded.
        held: The base was not recorded, so it is held in the air.
        known: Whether no clock has a gap between this time and the next, (T,).
    """

    recording: Recording
    step: float
    substeps: int
    time: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray
    torque: np.ndarray | None
    held: bool
    known: np.ndarray

    @classmethod
    def of(cls, recording: Recording, robot: Robot) -> "Trajectory":
        """Put a recording on the grid that is closest to its own rate.

        Raises:
            LogError: It is too short, or does not have what the robot's state needs.
        """
        _check_joints(recording, robot)
        timestep = float(robot.model.opt.timestep)
        substeps = max(1, round(1.0 / (recording.rate * timestep)))
        step = substeps * timestep
        count = int((recording.end - recording.start + SIMULTANEOUS) / step) + 1
        if count < 3:
            raise LogError(
                f"{recording.name}: all signals together last {recording.end - recording.start:.3g} s, less than two "
                f"steps of {step:g} s"
            )
        time = recording.start + step * np.arange(count)
        # Rounding of times must not move a state by a fraction of a step: near a row it is that row.
        time = _snapped(time, recording.time)
        on_grid = recording.at(time)
        held = robot.base_body is not None and any(getattr(recording, signal) is None for signal in FREE)
        qpos, qvel = _states(on_grid, robot, held)
        known = np.ones(count, bool)
        for _, begins, length in recording.gaps():
            known &= (time + step <= begins + SIMULTANEOUS) | (time >= begins + length - SIMULTANEOUS)
        return cls(recording, step, substeps, time, qpos, qvel, on_grid.torque, held, known)

    def starts(self, steps: int, most: int) -> np.ndarray:
        """Return the states, at most so many, from which so many steps can be compared, evenly spread, (n,).

        Raises:
            LogError: There is none.
        """
        reach = np.concatenate([[0], np.cumsum(self.known)])
        last = len(self.time) - steps
        whole = np.flatnonzero(reach[steps : steps + max(last, 0)] - reach[: max(last, 0)] == steps)
        if not len(whole):
            raise LogError(
                f"{self.recording.name}: no {steps * self.step:.3g} s without a gap, which {steps} steps of "
                f"{self.step:g} s need; give shorter horizons or a longer recording"
            )
        if most and len(whole) > most:
            whole = whole[np.linspace(0, len(whole) - 1, most).round().astype(int)]
        return whole

    def targets(self, robot: Robot, delay: float = 0.0) -> np.ndarray:
        """Return what each joint's servo was told during each physics step, its mean over time, (T × substeps, nu).

        Args:
            robot: Tells what the target of a joint means.
            delay: Time after which a command has effect, s.

        Raises:
            LogError: A joint that is driven by position had none.
        """
        recording, timestep = self.recording, self.step / self.substeps
        times = (self.time[:, None] + timestep * np.arange(self.substeps)).ravel()
        parts = times[:, None] + timestep * np.arange(PARTS) / PARTS
        rows = np.searchsorted(recording.command_time + delay, parts + SIMULTANEOUS, side="right") - 1
        found = np.empty((len(times), len(robot.joints)))
        for i, joint in enumerate(robot.joints):
            column = np.append(_commanded(recording, i, joint.control), robot.default_ctrl[i])  # -1: before the first
            held = column[rows]
            found[:, i] = np.where(rows[:, 0] == rows[:, -1], held[:, 0], held.mean(axis=1))
        return found


def _check_joints(recording: Recording, robot: Robot) -> None:
    """Check that joints and base are all that moves."""
    joints = len(robot.joints) + (1 if robot.base_body is not None else 0)
    if robot.model.njnt != joints:
        driven = {*robot.joint_names, *([] if robot.base_body is None else [_base_joint(robot)])}
        names = [robot.model.joint(i).name for i in range(robot.model.njnt)]
        loose = [name for name in names if name not in driven]
        raise LogError(
            f"{recording.name}: the robot {robot.name!r} has joints without a motor, whose state is in no recording: "
            f"{', '.join(loose)}"
        )


def _base_joint(robot: Robot) -> str:
    return str(robot.model.joint(int(robot.model.body(robot.base_body).jntadr[0])).name)


def _snapped(times: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return times, those that are a row's but for rounding as the row has them."""
    near = np.clip(np.searchsorted(rows, times), 1, len(rows) - 1)
    near = np.where(np.abs(rows[near - 1] - times) < np.abs(rows[near] - times), near - 1, near)
    return np.where(np.abs(rows[near] - times) < SIMULTANEOUS, rows[near], times)


def _states(recording: Recording, robot: Robot, held: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and velocities, (T, nq) and (T, nv); a held base stands still as it was turned."""
    qpos = np.tile(robot.default_qpos, (len(recording.time), 1))
    qvel = np.zeros((len(recording.time), robot.model.nv))
    qpos[:, robot.joint_qpos_indices], qvel[:, robot.joint_qvel_indices] = recording.position, recording.velocity
    if robot.base_body is None:
        return qpos, qvel
    places, speeds = robot.base_qpos_indices, robot.base_qvel_indices
    if recording.orientation is not None:
        qpos[:, places[3:]] = recording.orientation
    if not held:
        qpos[:, places[:3]] = recording.base_position
        qvel[:, speeds[:3]], qvel[:, speeds[3:]] = recording.base_velocity, recording.angular_velocity
    return qpos, qvel


def _commanded(recording: Recording, i: int, control: str) -> np.ndarray:
    """Return the targets of one joint as its servo takes them, (C,)."""
    signals = {"position": "target", "velocity": "target_velocity", "torque": "feedforward_torque"}
    values: np.ndarray | None = getattr(recording, signals[control])
    if values is None:
        return np.zeros(len(recording.command_time))
    wrong = np.flatnonzero(np.isnan(values[:, i]))
    if len(wrong):
        raise LogError(
            f"{recording.name}: target[{recording.joints[i]}] at {recording.command_time[wrong[0]]:.6g} s: is NaN, but "
            "the robot drives this joint by position"
        )
    return values[:, i]


def remarks(trajectories: Sequence[Trajectory], robot: Robot) -> list[str]:
    """Return what is simulated in another way than it was recorded, in words."""
    found = []
    for trajectory in trajectories:
        recording = trajectory.recording
        if trajectory.held:
            lacking = ", ".join(signal for signal in FREE if getattr(recording, signal) is None)
            found.append(f"{recording.name}: the base is held in the air; not recorded: {lacking}")
        found += [f"{recording.name}: {remark}" for remark in (*_gains(recording, robot), *_ignored(recording, robot))]
    return found


def _gains(recording: Recording, robot: Robot) -> Iterator[str]:
    """Yield which gain was another one than the simulator's, at any time; of several joints the first."""
    for gain in ("kp", "kd"):
        values = getattr(recording, gain)
        if values is None:
            continue
        own = np.array([getattr(joint, gain) for joint in robot.joints])
        off = np.flatnonzero((np.abs(values - own) > 0.01 * np.maximum(own, 1e-9)).any(axis=0))
        if len(off):
            i = off[0]
            low, high = values[:, i].min(), values[:, i].max()
            was = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            yield f"{gain}[{recording.joints[i]}] was {was}, in the simulator it is {own[i]:g}"


def _ignored(recording: Recording, robot: Robot) -> Iterator[str]:
    """Yield which part of the commands the simulator's motors do not take; of several joints the first."""
    for signal, control in (("target_velocity", "velocity"), ("feedforward_torque", "torque")):
        values = getattr(recording, signal)
        if values is None:
            continue
        largest = np.abs(values).max(axis=0)
        for i, joint in enumerate(robot.joints):
            if joint.control != control and largest[i] > 0.0:
                yield (
                    f"{signal}[{joint.name}] was up to {largest[i]:.3g}; the simulator's motor takes "
                    f"{joint.control} targets alone"
                )
                break


def hold_base(robot: Robot, model: mujoco.MjModel) -> None:
    """Make a model's base so heavy that nothing moves it, and let nothing touch anything; gravity must not pull it."""
    body = model.body(robot.base_body).id
    model.body_mass[body] *= HEAVY
    model.body_inertia[body] *= HEAVY
    model.opt.tolerance /= HEAVY  # it is relative to the inertias
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    mujoco.mj_setConst(model, mujoco.MjData(model))
