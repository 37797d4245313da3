"""Whether a recording can be one of a robot: units, signs and order of its columns."""

import math

import numpy as np

from jaxloco.errors import LogError
from jaxloco.logs.recording import Recording
from jaxloco.robot import Robot

BEYOND_RANGE = 0.5
"""A joint is believed this far beyond its range, rad."""

BEYOND_LIMIT = 3.0
"""A velocity or torque is believed up to this many times the joint's limit."""

WINDOW = 0.02
"""Time over which velocities are compared with positions, s."""

MOVING = 0.02
"""Standard deviation of what a joint turns in `WINDOW`, rad, from which its velocity is compared."""

SLOPES = (0.4, 2.5)
"""Ratio of measured velocity to that of the positions which is believed."""

GRAVITIES = (5.0, 15.0)
"""Median length of the acceleration which is believed, m/s²."""


def check_against(recording: Recording, robot: Robot) -> None:
    """Check that a recording can be one of a robot.

    Raises:
        LogError: A position is far beyond the joint's range, a velocity or a torque far beyond its limit, velocities do
            not belong to the positions, times are no seconds or accelerations no m/s²; names column and time.
    """
    step = float(np.median(np.diff(recording.time)))
    if not 1e-5 <= step <= 1.0:
        raise LogError(f"{recording.name}: time: the median step is {step:.4g} s; are these seconds?")
    for i, name in enumerate(recording.joints):
        joint = robot.joints[robot.joint_names.index(name)]
        _check_range(recording, i, joint.lower, joint.upper)
        _check_limit(recording, "velocity", i, joint.velocity_limit, "rad/s")
        if recording.torque is not None:
            _check_limit(recording, "torque", i, joint.torque_limit, "N m")
        _check_velocity(recording, i)
    if recording.linear_acceleration is not None:
        length = float(np.median(np.linalg.norm(recording.linear_acceleration, axis=1)))
        if not GRAVITIES[0] <= length <= GRAVITIES[1]:
            raise LogError(
                f"{recording.name}: linear_acceleration: its median length is {length:.3g}; expected about 9.8 m/s², "
                "gravity included"
            )


def _check_range(recording: Recording, i: int, lower: float, upper: float) -> None:
    """Check a joint's positions against its range, rad."""
    values, name = recording.position[:, i], f"position[{recording.joints[i]}]"
    wrong = np.flatnonzero((values < lower - BEYOND_RANGE) | (values > upper + BEYOND_RANGE))
    if len(wrong):
        found = values[wrong[0]]
        degrees = lower - BEYOND_RANGE <= math.radians(found) <= upper + BEYOND_RANGE
        raise LogError(
            f"{recording.name}: {name} at {recording.time[wrong[0]]:.6g} s: found {found:.4g}, far beyond the joint's "
            f"range of {lower:.3g} … {upper:.3g} rad; is this {'in degrees' if degrees else 'the right column'}?"
        )


def _check_limit(recording: Recording, signal: str, i: int, limit: float, unit: str) -> None:
    values = np.abs(getattr(recording, signal)[:, i])
    wrong = np.flatnonzero(values > BEYOND_LIMIT * limit)
    if len(wrong):
        raise LogError(
            f"{recording.name}: {signal}[{recording.joints[i]}] at {recording.time[wrong[0]]:.6g} s: found "
            f"{values[wrong[0]]:.4g}, more than {BEYOND_LIMIT:g} times the joint's limit of {limit:.4g} {unit}; is its "
            f"unit {unit}?"
        )


def _check_velocity(recording: Recording, i: int) -> None:
    """Check that the velocities are those of the positions: what a joint turned, against the mean of its velocity."""
    time, position, velocity = recording.time, recording.position[:, i], recording.velocity[:, i]
    steps = np.diff(time)
    travelled = np.concatenate([[0.0], np.cumsum(0.5 * (velocity[1:] + velocity[:-1]) * steps)])
    span = max(1, math.ceil(WINDOW / float(np.median(steps)) - 1e-6))
    if len(time) <= span:
        return
    turned, expected = position[span:] - position[:-span], travelled[span:] - travelled[:-span]
    whole = (time[span:] - time[:-span]) < 2.0 * span * np.median(steps)  # without gaps
    turned, expected = turned[whole], expected[whole]
    if len(turned) < 2 or turned.std() < MOVING:
        return
    slope = float(expected @ turned / (turned @ turned))
    if not SLOPES[0] <= slope <= SLOPES[1]:
        raise LogError(
            f"{recording.name}: velocity[{recording.joints[i]}]: is {slope:.3g} times the velocity of "
            f"position[{recording.joints[i]}]; check its unit (rad/s), its sign, its column, and that times are seconds"
        )
