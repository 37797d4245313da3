"""Recordings as what a network is fitted to: errors, velocities and mean torques at its rate, by joint."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import LogError
from jaxloco.logs.checks import different
from jaxloco.logs.reading import read
from jaxloco.logs.recording import Recording
from jaxloco.robot import Joint, Robot

LEAST_MOTION = 0.05
"""Standard deviation of a joint's velocity below which it does not move, rad/s."""

LEAST_TORQUE = 0.02
"""Share of the torque limit that a joint's torque must vary by, standard deviation."""

LEAST_AGREEMENT = 0.2
"""Correlation of the torque with that of an ideal servo below which its column, sign or joint is wrong."""

BELIEVED = (0.2, 5.0)
"""Ratio of measured torque to that of an ideal servo which is believed."""


@dataclass(frozen=True, eq=False)
class Series:
    """A recording at the network's rate: T steps of J joints.

    Attributes:
        name: Of the recording.
        error: Target - position at the beginning of each step, rad, (T, J).
        velocity: rad/s, (T, J).
        torque: Mean over the step, N m, (T, J).
        ideal: What an ideal servo would give at its beginning, clip(kp error - kd velocity), N m, (T, J).
    """

    name: str
    error: np.ndarray
    velocity: np.ndarray
    torque: np.ndarray
    ideal: np.ndarray


def files(paths: Sequence[str | Path]) -> list[Path]:
    """Return the recordings among paths: files, ROS 2 bags, and what a folder holds, in the order of their names.

    Raises:
        LogError: There is none, no such path, or one is there twice, which would be trained on and validated with.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.exists():
            raise LogError(f"{path}: no such recording or folder")
        if path.is_dir() and not (path / "metadata.yaml").exists():
            inside = sorted(item for item in path.iterdir() if not item.name.startswith("."))
            found += [item for item in inside if item.is_file() or (item / "metadata.yaml").exists()]
        else:
            found.append(path)
    known: set[Path] = set()
    for path in found:
        if path.resolve() in known:
            raise LogError(
                f"{path}: is given twice; a recording that is trained on must not validate too; name it once"
            )
        known.add(path.resolve())
    if not found:
        raise LogError(f"{', '.join(map(str, paths))}: no recordings; make some: jaxloco actuator record FOLDER")
    return found


def load(paths: Sequence[Path], robot: Robot, joints: Sequence[Joint], timestep: float, **reading: Any) -> list[Series]:
    """Read recordings of a robot.

    Args:
        paths: Of the recordings.
        robot: The robot.
        joints: Those of its joints that are fitted.
        timestep: Of the network, s.
        reading: Of `jaxloco.logs.read`.

    Raises:
        LogError: A recording cannot be read, is a copy of another one, is too slow, lacks a signal or does not belong
            to these motors; names it, the column and the time.
    """
    found = (read(path, robot, **reading) for path in paths)
    recordings = different(found, "what is trained on must not validate or test too")
    return [series(recording, joints, timestep) for recording in recordings]


def series(recording: Recording, joints: Sequence[Joint], timestep: float) -> Series:
    """Return a recording at the network's rate; see `load`."""
    recording.require("torque")
    recording = recording.select([joint.name for joint in joints])
    _check_commands(recording, joints)
    if recording.rate < 0.98 / timestep:
        raise LogError(
            f"{recording.name}: time: recorded at {recording.rate:.4g} Hz, and a network with steps of {timestep:g} s "
            f"needs {1.0 / timestep:g} Hz; record faster, or fit with --timestep {1.0 / recording.rate:.3g}"
        )
    at = recording.resample(1.0 / timestep)
    assert recording.torque is not None
    error, velocity = (at.target - at.position)[:-1], at.velocity[:-1]
    mean = np.diff(_integral(recording.time, recording.torque, at.time), axis=0) / np.diff(at.time)[:, None]
    kp, kd, limit = (np.array([getattr(joint, key) for joint in joints]) for key in ("kp", "kd", "torque_limit"))
    found = Series(recording.name, error, velocity, mean, np.clip(kp * error - kd * velocity, -limit, limit))
    return found


def check_excitation(found: Sequence[Series], joints: Sequence[Joint]) -> None:
    """Check that recordings can tell what a motor does, all of them together.

    Raises:
        LogError: A joint hardly moves, or its torque has nothing to do with its targets.
    """
    names = found[0].name if len(found) == 1 else f"{found[0].name} and {len(found) - 1} more"
    for i, joint in enumerate(joints):
        error, velocity, torque, ideal = (
            np.concatenate([getattr(one, key)[:, i] for one in found])
            for key in ("error", "velocity", "torque", "ideal")
        )
        column = f"{names}: torque[{joint.name}]"
        if velocity.std() < LEAST_MOTION:
            raise LogError(
                f"{names}: velocity[{joint.name}]: varies by {velocity.std():.2g} rad/s, too little to learn a motor "
                "from; move it, or leave it out with --joints"
            )
        if error.std() == 0.0:
            raise LogError(
                f"{names}: target[{joint.name}]: is always as far from the position; is it the column of what was "
                "commanded?"
            )
        if torque.std() < LEAST_TORQUE * joint.torque_limit:
            raise LogError(
                f"{column}: varies by {torque.std():.2g} N m of a limit of {joint.torque_limit:g}, too little to learn "
                "a motor from; move it faster, farther or against a load"
            )
        agreement = float(np.corrcoef(torque, ideal)[0, 1])
        if agreement < LEAST_AGREEMENT:
            raise LogError(
                f"{column}: has a correlation of {agreement:.2f} with kp (target - position) - kd velocity, expected "
                "near 1; check its sign, its joint, and that the gains are the robot's"
            )
        ratio = float(torque.std() / ideal.std())
        if not BELIEVED[0] <= ratio <= BELIEVED[1]:
            raise LogError(
                f"{column}: is {ratio:.2g} times as large as kp (target - position) - kd velocity; is it in N m at the "
                "joint, behind the gear?"
            )


def split(count: int, share: float) -> tuple[list[int], list[int]]:
    """Return which recordings are trained on and which validated on: evenly among them, at least one of each.

    >>> split(8, 0.25)
    ([0, 1, 3, 4, 5, 7], [2, 6])
    """
    if count < 2:
        raise LogError("one recording cannot be split into training and validation; record at least two")
    validated = min(max(1, round(share * count)), count - 1)
    every = count / validated
    chosen = {int((i + 0.5) * every) for i in range(validated)}
    return [i for i in range(count) if i not in chosen], sorted(chosen)


def _integral(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the integral of values that are linear between their times, (len(at), J)."""
    steps = 0.5 * (values[1:] + values[:-1]) * np.diff(times)[:, None]
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(steps, axis=0)])
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    past, length = (at - times[i])[:, None], np.diff(times)[i][:, None]
    return np.asarray(total[i] + past * values[i] + 0.5 * past**2 * (values[i + 1] - values[i]) / length)


def _check_commands(recording: Recording, joints: Sequence[Joint]) -> None:
    """Check that targets are positions alone, always there, with the robot's gains."""
    for signal in ("target_velocity", "feedforward_torque"):
        values = getattr(recording, signal)
        if values is not None and np.any(values):
            column, time = _first(recording, signal, values != 0.0)
            raise LogError(f"{column} at {time:.6g} s: is not 0; a network reads positions of targets alone")
    missing = np.isnan(recording.target)
    if missing.any():
        column, time = _first(recording, "target", missing)
        raise LogError(f"{column} at {time:.6g} s: has no target; cut this part out (Recording.between)")
    for signal in ("kp", "kd"):
        values = getattr(recording, signal)
        if values is None:
            continue
        nominal = np.array([getattr(joint, signal) for joint in joints])
        wrong = np.abs(values - nominal) > 1e-3 * np.maximum(nominal, 1.0)
        if wrong.any():
            column, time = _first(recording, signal, wrong)
            row, i = np.argwhere(wrong)[0]
            raise LogError(
                f"{column} at {time:.6g} s: found {values[row, i]:g}, and robot.toml has {nominal[i]:g}; a network is "
                "fitted for one gain: write that into robot.toml, or record anew"
            )


def _first(recording: Recording, signal: str, where: np.ndarray) -> tuple[str, float]:
    row, column = np.argwhere(where)[0]
    return f"{recording.name}: {signal}[{recording.joints[column]}]", float(recording.command_time[row])


def stacked(found: Sequence[Series]) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield error, velocity and torque of each joint of each recording, (T,) each."""
    for one in found:
        yield from zip(one.error.T, one.velocity.T, one.torque.T, strict=True)
