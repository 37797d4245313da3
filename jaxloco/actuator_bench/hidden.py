"""Two motors that differ from an ideal servo on purpose, each in its own way.

Both have the same driver, clip(kp (target - q) - kd v), at every step of the rig. What becomes of that is known to this
file alone: policies and fits see recordings.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np


class Drives(NamedTuple):
    """What the driver of each of J joints is set to, and what the maker says of its motor.

    Attributes:
        kp: N m/rad, (J,), as all that follow.
        kd: N m s/rad.
        torque_limit: N m.
        velocity_limit: rad/s, without load.
        rotor_inertia: Behind the gear, kg m².
    """

    kp: np.ndarray
    kd: np.ndarray
    torque_limit: np.ndarray
    velocity_limit: np.ndarray
    rotor_inertia: np.ndarray


class HiddenMotor(Protocol):
    """The motors of all joints of one robot.

    Attributes:
        armature: What of the rotors turns with the joints, kg m², (J,).
        coulomb: Dry friction at the joints, which MuJoCo's solver holds, N m, (J,).
        viscous: Friction per velocity there, N m s/rad, (J,).
    """

    armature: np.ndarray
    coulomb: np.ndarray
    viscous: np.ndarray

    def reset(self, target: np.ndarray, position: np.ndarray) -> None:
        """Begin at rest, with a target that was held since long before, rad, (J,) each."""

    def step(self, target: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Return the torques that reach the joints during the next step, before their friction, N m, (J,)."""
        ...


class Stiff:
    """A stiff gear: 6 ms of delay, dry and viscous friction, and a battery whose voltage sags.

    The battery has an inner resistance, so its voltage falls by up to 26 % as all motors together draw current, which
    is proportional to torque. At a lower voltage a motor has less torque, and less speed.

    Args:
        drives: Of each joint.
        dt: Between two steps, s.
    """

    DELAY, SAG = 0.006, 0.35
    COULOMB, VISCOUS = 0.05, 0.004  # of the torque limit, and of that per rad/s

    def __init__(self, drives: Drives, dt: float) -> None:
        self._drives, self._late = drives, max(1, round(self.DELAY / dt))
        self.armature = drives.rotor_inertia
        self.coulomb, self.viscous = self.COULOMB * drives.torque_limit, self.VISCOUS * drives.torque_limit

    def reset(self, target: np.ndarray, position: np.ndarray) -> None:
        """See `HiddenMotor.reset`."""
        self._targets, self._torque = [target.copy()] * self._late, np.zeros(len(target))

    def step(self, target: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """See `HiddenMotor.step`."""
        drives = self._drives
        self._targets.append(target.copy())
        wanted = drives.kp * (self._targets.pop(0) - position) - drives.kd * velocity
        voltage = 1.0 - self.SAG * np.abs(self._torque).sum() / drives.torque_limit.sum()
        self._torque = _curved(drives, wanted, velocity, voltage)
        return self._torque


class SeriesElastic:
    """A rotor that drives the joint through a spring of 400 N m/rad with 6 mrad of backlash.

    The driver reads the rotor's angle. The spring has a little damping where it touches, and pulls either way. The
    rotor's torque falls with its speed, as that of the stiff motor does; the joint may swing faster behind the spring.

    Args:
        drives: Of each joint.
        dt: Between two steps, s.
    """

    STIFFNESS, BACKLASH, DAMPING, ROTOR_FRICTION = 400.0, 0.006, 0.4, 0.05

    def __init__(self, drives: Drives, dt: float) -> None:
        self._drives, self._dt = drives, dt
        self.armature = self.coulomb = self.viscous = np.zeros(len(drives.kp))

    def reset(self, target: np.ndarray, position: np.ndarray) -> None:
        """See `HiddenMotor.reset`."""
        self._angle, self._speed = position.copy(), np.zeros(len(position))

    def step(self, target: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """See `HiddenMotor.step`."""
        drives = self._drives
        twist = self._angle - position
        play = np.clip(twist, -0.5 * self.BACKLASH, 0.5 * self.BACKLASH)
        touching = twist != play
        spring = self.STIFFNESS * (twist - play) + touching * self.DAMPING * (self._speed - velocity)
        wanted = drives.kp * (target - self._angle) - drives.kd * self._speed
        total = _curved(drives, wanted, self._speed) - spring - self.ROTOR_FRICTION * self._speed
        self._speed = self._speed + self._dt * total / drives.rotor_inertia
        self._angle = self._angle + self._dt * self._speed
        return spring


def _curved(drives: Drives, wanted: np.ndarray, velocity: np.ndarray, voltage: float = 1.0) -> np.ndarray:
    """Clip torques to what motors have at their speed: all up to half the speed without load, none at that speed."""
    back = np.clip(np.sign(wanted) * velocity / (voltage * drives.velocity_limit), 0.0, 1.0)
    most = voltage * drives.torque_limit * np.minimum(1.0, 2.0 * (1.0 - back))
    return np.clip(wanted, -most, most)


HIDDEN: dict[str, Callable[[Drives, float], HiddenMotor]] = {"stiff": Stiff, "elastic": SeriesElastic}
"""Name → motor."""
