"""Logs of Upkie's spine: MessagePack, one dictionary per cycle, one after the other. Needs `msgpack`.

Source: `Spine.cpp` of upkie, https://github.com/upkie/upkie. In cycle k the spine sends the agent's action together
with a query, collects the replies in cycle k + 1 and shows them in the observation of cycle k + 2. So the joints' state
is two periods of the spine's clock older than the dictionary that holds it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import LogError
from jaxloco.logs.packages import needed
from jaxloco.logs.recording import Recording
from jaxloco.logs.turns import in_base_axes, product
from jaxloco.robot import Robot
from jaxloco.text_files import read_bytes

CYCLES_OLD = 2
"""Age of the joints' state in an observation, in periods of the spine's clock."""

_ARS_TO_WORLD = np.array([0.0, 1.0, 0.0, 0.0])
"""Turns the IMU's world axes (x forward, y right, z down) to ours (x forward, y left, z up), w x y z."""

_IMU = {
    "orientation": ("orientation", 4),
    "angular_velocity": ("angular_velocity", 3),
    "linear_acceleration": ("raw_linear_acceleration", 3),
}
"""Our signal → the spine's key and its size."""

Row = Mapping[str, Any]


def read_upkie(path: str | Path, robot: Robot) -> Recording:
    """Read a log of Upkie's spine, or of an agent that logs the same dictionaries.

    A position target of NaN is the servo's velocity mode. Gain scales are turned into gains with those of robot.toml.
    Where the log has no `spine.clock`, as that of a simulator, the state is taken to be as old as its dictionary.

    Args:
        path: The file.
        robot: Gives names and gains of the joints, and how the IMU is mounted.

    Raises:
        FileNotFoundError: There is no such file.
        LogError: It is not such a log; names the key and the time.
    """
    rows = _rows(path)
    if len(rows) < 2:
        raise LogError(f"{path}: expected a dictionary per cycle, with the key observation; found {len(rows)}")
    time = np.array([_number(path, row, row.get("time"), "time") for row in rows])
    acting = [i for i, row in enumerate(rows) if _nested(row, "action", "servo")]
    if not acting:
        raise LogError(f"{path}: action.servo is missing: no cycle has a command")
    joints = _joints(path, rows[0], robot)
    state = _Servos(path, rows, joints, "observation")
    command = _Servos(path, [rows[i] for i in acting], joints, "action")
    gains = {gain: [getattr(joint, gain) for joint in robot.joints] for gain in ("kp", "kd")}
    return Recording(
        str(path),
        joints,
        time=time - _age(rows),
        position=state.table("position"),
        velocity=state.table("velocity"),
        torque=state.table("torque"),
        command_time=time[acting],
        target=command.table("position", math.nan),
        target_velocity=_zero_for_nan(command.table("velocity", 0.0)),
        feedforward_torque=_zero_for_nan(command.table("feedforward_torque", 0.0)),
        kp=command.table("kp_scale", 1.0) * gains["kp"],
        kd=command.table("kd_scale", 1.0) * gains["kd"],
        **_imu(path, rows, time, robot),
    )


def _zero_for_nan(values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(values), 0.0, values)  # nan_to_num would make large numbers of infinite ones


def _rows(path: str | Path) -> list[Row]:
    """Return the dictionaries of the cycles; the last one may be cut off."""
    msgpack = needed(path, "msgpack")
    content, rows = read_bytes(Path(path), LogError), list[Row]()
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=len(content))
    unpacker.feed(content)
    try:
        for row in unpacker:
            if not isinstance(row, dict):
                raise LogError(f"{path}: after entry {len(rows)}: expected a dictionary, found {type(row).__name__}")
            if "observation" in row:  # the first entry may be a configuration
                rows.append(row)
    except LogError:
        raise
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise LogError(f"{path}: after entry {len(rows)}: cannot be read as MessagePack: {error}") from None
    return rows


def _joints(path: str | Path, row: Row, robot: Robot) -> tuple[str, ...]:
    """Return the robot's joints; all of them are in the log."""
    found = _nested(row, "observation", "servo")
    missing = [joint for joint in robot.joint_names if joint not in found]
    if missing:
        raise LogError(f"{path}: observation.servo.{missing[0]} is missing; it has {', '.join(found) or 'no servo'}")
    return robot.joint_names


def _age(rows: Sequence[Row]) -> float:
    """Return how much older the state is than the dictionary, s."""
    periods = [_nested(row, "spine", "clock").get("measured_period") for row in rows]
    known = [period for period in periods if isinstance(period, float) and math.isfinite(period)]
    return CYCLES_OLD * float(np.median(known)) if known else 0.0


def _nested(row: Row, *keys: str) -> Row:
    value: Any = row
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _number(path: str | Path, row: Row, value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LogError(f"{path}: {key} at {row.get('time')} s: expected a number, found {value!r}")
    return float(value)


class _Servos:
    """What the dictionaries say of each servo, on one side: observation or action."""

    def __init__(self, path: str | Path, rows: Sequence[Row], joints: tuple[str, ...], side: str) -> None:
        self._path, self._rows, self._joints, self._side = path, rows, joints, side

    def table(self, key: str, default: float | None = None) -> np.ndarray:
        """Return one number of each servo over time, (N, J)."""
        names = [(joint, f"{self._side}.servo.{joint}.{key}") for joint in self._joints]
        return np.array(
            [
                [
                    _number(self._path, row, _nested(row, self._side, "servo", joint).get(key, default), name)
                    for joint, name in names
                ]
                for row in self._rows
            ]
        )


def _is_vector(value: Any, size: int) -> bool:
    """Whether a value is so many numbers."""
    numbers = value if isinstance(value, list) else []
    return len(numbers) == size and all(isinstance(x, int | float) and not isinstance(x, bool) for x in numbers)


def _imu(path: str | Path, rows: Sequence[Row], time: np.ndarray, robot: Robot) -> dict[str, np.ndarray]:
    """Return the IMU's signals in the axes of the base, without those that a cycle lacks."""
    found: dict[str, np.ndarray] = {}
    for signal, (key, size) in _IMU.items():
        values = [_nested(row, "observation", "imu").get(key) for row in rows]
        if any(value is None for value in values):
            continue
        wrong = next((i for i, value in enumerate(values) if not _is_vector(value, size)), None)
        if wrong is not None:
            raise LogError(f"{path}: observation.imu.{key} at {time[wrong]:.6g} s: expected {size} numbers")
        found[signal] = np.array(values, np.float64)
    if "orientation" in found:
        found["orientation"] = product(_ARS_TO_WORLD, found["orientation"])
    return {"imu_time": time, **in_base_axes(robot, found)} if found else {}
