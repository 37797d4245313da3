"""What moves a robot to learn its motors: chirps, steps, and what a policy might ask for; and forces on its legs."""

from typing import Literal, NamedTuple

import mujoco
import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.robot import Robot

Kind = Literal["chirp", "step", "policy"]
EXCITATIONS: tuple[Kind, ...] = ("chirp", "step", "policy")

REACH = 0.9
"""Share of the torque limit that the largest target error asks for, if the joint stood still."""

RANGE_SHARE = 0.35
"""Most of a joint's range that a target goes to either side of the default pose."""

LOAD = 0.6
"""Share of the torque limit that forces ask for at most, so that a joint still follows its target."""

VERTICAL = 2.5
"""Largest vertical force on a foot, in largest horizontal ones."""


class Excitation(NamedTuple):
    """Targets of J joints and forces on some bodies, at N times.

    Attributes:
        times: s, (N,).
        targets: rad, (N, J).
        bodies: Ids of the bodies that are pushed, (B,).
        forces: World frame, N, (N, B, 3).
    """

    times: np.ndarray
    targets: np.ndarray
    bodies: tuple[int, ...]
    forces: np.ndarray


def excite(robot: Robot, kind: Kind, seconds: float, rate: float, seed: int, strength: float = 1.0) -> Excitation:
    """Return what moves a robot for some time.

    Targets stay within the joints' ranges and near the default pose; they take motors near their torque limits.

    Args:
        robot: The robot.
        kind: "chirp": sines whose frequency rises from 0.3 Hz, by joint; "step": constant for random times; "policy":
            a gait with random frequencies, phases and jitter, held for control periods, with forces as of feet on the
            ground.
        seconds: How long.
        rate: Of the times, Hz.
        seed: Random.
        strength: Share of the amplitude that takes motors near their limits.

    Raises:
        ConfigError: So short a time has less than two of the times, or the robot's joints have other targets.
    """
    check_position_targets(robot)
    if round(seconds * rate) < 2:
        raise ConfigError(f"seconds = {seconds:g}: is less than two steps at {rate:g} Hz; write at least {2 / rate:g}")
    rng = np.random.default_rng([seed, EXCITATIONS.index(kind)])
    times = np.arange(round(seconds * rate)) / rate
    make = {"chirp": _chirps, "step": _steps, "policy": _policy}[kind]
    amplitude = strength * amplitudes(robot)
    phase = rng.uniform(0.0, 2.0 * np.pi, len(robot.joints))
    offsets = make(rng, times, amplitude, phase, robot.control_dt)
    lower, upper = (np.array([getattr(joint, end) for joint in robot.joints]) for end in ("lower", "upper"))
    targets = np.clip(np.asarray(robot.default_ctrl) + offsets, lower, upper)
    bodies = _ends(robot)
    forces = _contacts if kind == "policy" else _pushes
    return Excitation(times, targets, bodies, forces(rng, times, len(bodies), _load(robot, bodies)))


def check_position_targets(robot: Robot) -> None:
    """Raise ConfigError if a robot has no joints, or one has other targets than positions."""
    if not robot.joints:
        raise ConfigError(f"robot {robot.name!r} has no joints, which excitation is for")
    others = [joint.name for joint in robot.joints if joint.control != "position"]
    if others:
        raise ConfigError(f"robot {robot.name!r}: {others[0]!r} has no position targets, which excitation is made of")


def amplitudes(robot: Robot) -> np.ndarray:
    """Return how far targets go from the default pose, rad, (J,)."""
    found = []
    for joint in robot.joints:
        reach = REACH * joint.torque_limit / max(joint.kp, 1e-6)
        width = joint.upper - joint.lower if np.isfinite([joint.lower, joint.upper]).all() else 2.0 * np.pi
        found.append(min(reach, RANGE_SHARE * width, 1.0))
    return np.array(found)


def _chirps(rng: np.random.Generator, times: np.ndarray, size: np.ndarray, phase: np.ndarray, _: float) -> np.ndarray:
    """Return sines from 0.3 Hz to 8 … 20 Hz, smaller where they are faster: (N, J)."""
    last = rng.uniform(8.0, 20.0, len(size))
    growth = np.log(last / 0.3) / times[-1]
    turns = 0.3 * (np.exp(growth * times[:, None]) - 1.0) / growth
    frequency = 0.3 * np.exp(growth * times[:, None])
    return size * np.minimum(1.0, 2.0 / frequency) ** 0.5 * np.sin(2.0 * np.pi * turns + phase)


def _steps(rng: np.random.Generator, times: np.ndarray, size: np.ndarray, _: np.ndarray, __: float) -> np.ndarray:
    """Return what is constant for 0.05 … 0.5 s: (N, J)."""
    return np.stack([_held(rng, times, (0.05, 0.5), 1)[:, 0] * one for one in size], axis=1)


def _policy(
    rng: np.random.Generator, times: np.ndarray, size: np.ndarray, phase: np.ndarray, period: float
) -> np.ndarray:
    """Return a gait with jitter, held for control periods: (N, J)."""
    count = int(times[-1] / period) + 2
    frequency = np.interp(np.arange(count), np.linspace(0, count, 8), rng.uniform(1.2, 3.5, 8))
    turns = 2.0 * np.pi * np.cumsum(frequency * period)[:, None] + phase
    strength = np.interp(np.arange(count), np.linspace(0, count, 8), rng.uniform(0.1, 0.8, 8))[:, None]
    slow, noise = np.zeros((count, len(size))), rng.normal(size=(2, count, len(size)))
    for k in range(1, count):
        slow[k] = slow[k - 1] * (1.0 - 2.0 * period) + 0.3 * np.sqrt(4.0 * period) * noise[0, k]
    offsets = strength * (np.sin(turns) + 0.4 * np.sin(2.0 * turns + phase)) + slow + 0.12 * noise[1]
    return size * offsets[np.minimum((times / period + 1e-6).astype(int), count - 1)]


def _contacts(rng: np.random.Generator, times: np.ndarray, bodies: int, load: float) -> np.ndarray:
    """Return forces as of feet on the ground half of the time, (N, B, 3)."""
    frequency, phase = rng.uniform(1.2, 3.5), rng.uniform(0.0, 1.0, bodies)
    stands = (times[:, None] * frequency + phase) % 1.0 < 0.6
    size = load * _held(rng, times, (0.02, 0.2), 3 * bodies).reshape(len(times), bodies, 3)
    size[..., 2] = np.abs(size[..., 2]) * VERTICAL
    return stands[..., None] * size


def _pushes(rng: np.random.Generator, times: np.ndarray, bodies: int, load: float) -> np.ndarray:
    """Return forces in any direction, none of them half of the time, (N, B, 3)."""
    size = load * _held(rng, times, (0.1, 0.6), 3 * bodies).reshape(len(times), bodies, 3)
    return (_held(rng, times, (0.5, 1.0), bodies) > 0.0)[..., None] * size


def _load(robot: Robot, bodies: tuple[int, ...]) -> float:
    """Return the largest horizontal force on a body, N: its share of the weight, or less where motors hold less."""
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    limits = np.array([joint.torque_limit for joint in robot.joints])
    most = 9.81 * float(model.body_mass.sum()) / max(1, len(bodies))
    for body in bodies:
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacBodyCom(model, data, jacobian, None, body)
        levers = np.array([1.0, 1.0, VERTICAL]) @ np.abs(jacobian[:, robot.joint_qvel_indices])
        most = min(most, float((LOAD * limits / np.maximum(levers, 1e-6)).min()))
    return most


def _held(rng: np.random.Generator, times: np.ndarray, span: tuple[float, float], count: int) -> np.ndarray:
    """Return numbers in [-1, 1] that are constant for random times, (N, count)."""
    columns = []
    for _ in range(count):
        changes = np.cumsum(rng.uniform(*span, int(times[-1] / span[0]) + 2))
        columns.append(rng.uniform(-1.0, 1.0, len(changes) + 1)[np.searchsorted(changes, times)])
    return np.stack(columns, axis=1) if columns else np.zeros((len(times), 0))


def _ends(robot: Robot) -> tuple[int, ...]:
    """Return the bodies of the feet; without feet, those that end a chain of joints."""
    model = robot.model
    if robot.feet:
        return tuple(model.body(foot.body).id for foot in robot.feet)
    parents = set(model.body_parentid[model.jnt_bodyid].tolist())
    moved = [int(model.jnt_bodyid[model.joint(name).id]) for name in robot.joint_names]
    return tuple(body for body in moved if body not in parents)
