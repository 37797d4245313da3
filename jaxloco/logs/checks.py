"""Whether a recording can be one of a robot: units, signs and order of its columns."""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from jaxloco.errors import LogError
from jaxloco.logs.recording import CLOCKS, Recording
from jaxloco.logs.turns import conjugate, product
from jaxloco.robot import UNITS, Joint, Robot

STEPS = (1e-5, 0.2)
"""Shortest and longest median step of time which is believed, s: a longer one is that of milliseconds."""

BEYOND_RANGE = 0.5
"""A joint is believed this far beyond its range, rad."""

MISTAKEN = {"hinge": (math.pi / 180.0, "degrees"), "slide": (1e-3, "millimetres")}
"""Kind of a joint → what its positions may be in by mistake: its size in rad or m, and its name."""

BEYOND_LIMIT = 4.0
"""A velocity or torque is believed up to this many times the joint's limit: behind a spring it swings beyond."""

JUMP = 0.1
"""Beside what its motor can turn, a joint is believed to move by so much from one row to the next, rad."""

WINDOWS = (0.02, 0.1, 0.5)
"""Times over which velocities are compared with positions, s: the first in which there is enough motion."""

ROWS = 5
"""Rows of such a window, at least: between two rows a leg that hits something has moved as neither of them says."""

MOVING, SLOWEST = 0.02, 0.1
"""Root mean square of what moves in a window, rad or m, and that ÷ the window, from which velocities are compared."""

NEARER = 0.2
"""Targets that are so many times nearer to the positions in radians, taken as degrees, are degrees."""

SLOPES = (0.4, 2.5)
"""Ratio of measured velocity to that of the positions which is believed."""

GRAVITIES = (5.0, 15.0)
"""Median length of the acceleration which is believed, m/s²."""


def check_against(recording: Recording, robot: Robot) -> None:
    """Check that a recording can be one of a robot.

    Raises:
        LogError: A position is far beyond the joint's range or jumps, a velocity or a torque is far beyond its limit,
            targets are in degrees, velocities do not belong to the positions, times are no seconds, clocks have no time
            in common, or accelerations are no m/s²; names column and time.
    """
    step = float(np.median(np.diff(recording.time)))
    if not STEPS[0] <= step <= STEPS[1]:
        raise LogError(f"{recording.name}: time: the median step is {step:.4g} s; are these seconds?")
    _check_clocks(recording)
    for i, name in enumerate(recording.joints):
        joint = robot.joints[robot.joint_names.index(name)]
        _, speed, torque = UNITS[joint.kind]
        _check_range(recording, i, joint)
        _check_jumps(recording, i, joint.velocity_limit)
        _check_limit(recording, "velocity", i, joint.velocity_limit, speed)
        if recording.torque is not None:
            _check_limit(recording, "torque", i, joint.torque_limit, torque)
        _check_targets(recording, i, joint)
        _check_slope(recording, ("position", "velocity"), name, speed, recording.position[:, i], WINDOWS)
    _check_base(recording)


def different(recordings: Iterable[Recording], why: str) -> Iterator[Recording]:
    """Yield recordings, none of which may be a copy of another one, whatever their names, formats and clocks.

    Args:
        recordings: The recordings.
        why: What would be wrong otherwise.

    Raises:
        LogError: Two have the same positions and velocities; names both.
    """
    names: dict[bytes, str] = {}
    for recording in recordings:
        content = hashlib.sha256(recording.position.tobytes() + recording.velocity.tobytes()).digest()
        if content in names:
            raise LogError(f"{recording.name}: holds the same as {names[content]}, and {why}; leave one of them out")
        names[content] = recording.name
        yield recording


def _check_base(recording: Recording) -> None:
    """Check the signals of the base against each other."""
    if recording.base_position is not None and recording.base_velocity is not None:
        for i, axis in enumerate("xyz"):
            _check_slope(
                recording, ("base_position", "base_velocity"), axis, "m/s", recording.base_position[:, i], WINDOWS
            )
    if recording.orientation is not None and recording.angular_velocity is not None:
        for axis in "xyz":
            _check_slope(recording, ("orientation", "angular_velocity"), axis, "rad/s", None, WINDOWS[1:2])
    if recording.linear_acceleration is not None:
        length = float(np.median(np.linalg.norm(recording.linear_acceleration, axis=1)))
        if not GRAVITIES[0] <= length <= GRAVITIES[1]:
            raise LogError(
                f"{recording.name}: linear_acceleration: its median length is {length:.3g}; expected about 9.8 m/s², "
                "gravity included"
            )


def _check_clocks(recording: Recording) -> None:
    """Check that all clocks run at the same time; a single command holds for ever."""
    spans = {clock: times for clock in CLOCKS if (times := getattr(recording, clock)) is not None and len(times) > 1}
    for clock, times in spans.items():
        if times[0] > recording.time[-1] or times[-1] < recording.time[0]:
            raise LogError(
                f"{recording.name}: {clock}: runs from {times[0]:.6g} to {times[-1]:.6g} s, and time from "
                f"{recording.time[0]:.6g} to {recording.time[-1]:.6g} s; count both from the same moment"
            )


def _check_range(recording: Recording, i: int, joint: Joint) -> None:
    """Check a joint's positions against its range."""
    values, name = recording.position[:, i], f"position[{recording.joints[i]}]"
    low, high = joint.lower - BEYOND_RANGE, joint.upper + BEYOND_RANGE
    wrong = np.flatnonzero((values < low) | (values > high))
    if len(wrong):
        found, (scale, unit) = values[wrong[0]], MISTAKEN[joint.kind]
        hint = f"in {unit}" if low <= scale * found <= high else "the right column"
        raise LogError(
            f"{recording.name}: {name} at {recording.time[wrong[0]]:.6g} s: found {found:.4g}, far beyond the joint's "
            f"range of {joint.lower:.3g} … {joint.upper:.3g} {UNITS[joint.kind][0]}; is this {hint}?"
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


def _check_jumps(recording: Recording, i: int, limit: float) -> None:
    """Check that a joint does not move faster from row to row than its velocity limit, rad/s, allows by far."""
    steps, values = np.diff(recording.time), recording.position[:, i]
    with np.errstate(over="ignore"):
        moved = np.abs(np.diff(values))
    wrong = np.flatnonzero(moved > JUMP + BEYOND_LIMIT * limit * np.maximum(steps, np.median(steps)))
    if len(wrong):
        row = wrong[0]
        raise LogError(
            f"{recording.name}: position[{recording.joints[i]}] at {recording.time[row + 1]:.6g} s: jumps from "
            f"{values[row]:.4g} to {values[row + 1]:.4g} within {steps[row]:.3g} s; remove the faulty reading, or "
            "unwrap an angle that begins anew after a turn (np.unwrap)"
        )


def _check_targets(recording: Recording, i: int, joint: Joint) -> None:
    """Check that a joint's targets are radians: beyond its range, and as degrees near its positions, they are not.

    So are metres and millimetres of a slide.
    """
    targets, (scale, unit) = recording.target[:, i], MISTAKEN[joint.kind]
    low, high = joint.lower - BEYOND_RANGE, joint.upper + BEYOND_RANGE
    beyond = np.flatnonzero((targets < low) | (targets > high))
    if not len(beyond):
        return
    positions = np.interp(recording.command_time, recording.time, recording.position[:, i])
    as_given, otherwise = (np.nanmedian(np.abs(factor * targets - positions)) for factor in (1.0, scale))
    if otherwise < NEARER * as_given:
        raise LogError(
            f"{recording.name}: target[{recording.joints[i]}] at {recording.command_time[beyond[0]]:.6g} s: found "
            f"{targets[beyond[0]]:.4g}, far beyond the joint's range of {joint.lower:.3g} … {joint.upper:.3g} "
            f"{UNITS[joint.kind][0]}, and in {unit} it would be near the position; is this in {unit}?"
        )


def _check_slope(
    recording: Recording,
    signals: tuple[str, str],
    component: str,
    unit: str,
    positions: np.ndarray | None,
    windows: Sequence[float],
) -> None:
    """Check that velocities are those of positions: what moved in a window, against the mean of the velocity.

    Args:
        recording: The recording.
        signals: Names of the positions and of their velocities.
        component: Which joint or axis.
        unit: Of the velocity.
        positions: (T,); None for turns of the base about its own axes.
        windows: The first one in which there is enough motion counts, s.
    """
    place, rate = recording.components(signals[1]).index(component), getattr(recording, signals[1])
    time = recording.time if positions is not None else recording.imu_time
    assert time is not None
    steps = np.diff(time)
    step, velocity = float(np.median(steps)), rate[:, place]
    travelled = np.concatenate([[0.0], np.cumsum(0.5 * (velocity[1:] + velocity[:-1]) * steps)])
    for window in windows:
        span = max(ROWS, math.ceil(window / step - 1e-6))
        whole = (time[span:] - time[:-span]) < 2.0 * span * step  # without gaps
        moved = _turned(recording, span, place) if positions is None else positions[span:] - positions[:-span]
        moved, expected = moved[whole], (travelled[span:] - travelled[:-span])[whole]
        if len(moved) < 2:
            return
        if np.sqrt(np.mean(moved**2)) >= max(MOVING, SLOWEST * span * step):
            _believe(recording.name, float(expected @ moved / (moved @ moved)), signals, component, unit)
            return


def _turned(recording: Recording, span: int, axis: int) -> np.ndarray:
    """Return by how much the base turned about one of its axes in so many rows, rad, (M - span,)."""
    orientation = recording.orientation
    assert orientation is not None
    turn = product(conjugate(orientation[:-span]), orientation[span:])
    return np.asarray(2.0 * np.sign(turn[:, 0]) * turn[:, 1 + axis])


def _believe(name: str, slope: float, signals: tuple[str, str], component: str, unit: str) -> None:
    """Refuse a velocity that is `slope` times that of the positions."""
    if SLOPES[0] <= slope <= SLOPES[1]:
        return
    of, order = f"{signals[0]}[{component}]", ""
    if signals[0] == "orientation":
        of, order = "orientation about that axis", ", the order of the quaternion (w x y z)"
    raise LogError(
        f"{name}: {signals[1]}[{component}]: is {slope:.3g} times the velocity of {of}; check its unit ({unit}), its "
        f"sign, its column{order}, and that times are seconds"
    )
