"""ROS bags and MCAP files: joint states and commands by name, or Unitree's low states and commands. Needs `rosbags`.

What a topic holds is told by the fields of its messages, not by the name of their type:

- `sensor_msgs/JointState`: the state, or a command where the topic's name has one of `COMMAND_WORDS`.
- `motor_state` (q, dq, tau_est) with `imu_state`, and `motor_cmd` (q, dq, tau, kp, kd), as of Unitree's robots.
- `sensor_msgs/Imu`.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.errors import LogError, short
from jaxloco.logs.packages import needed
from jaxloco.logs.recording import CLOCKS, Recording
from jaxloco.logs.turns import in_base_axes
from jaxloco.robot import Robot

COMMAND_WORDS = ("command", "cmd", "target", "desired", "goal", "reference")
"""A topic of joint states with one of these in its name holds commands."""

UNITREE_LEGS = tuple(f"{leg}_{part}_joint" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf"))
"""Joints of Unitree's quadrupeds in the order of their motors, as in its SDK."""

NO_POSITION, NO_VELOCITY = 1e9, 1e4
"""Targets beyond these mean none: Unitree's constants are 2.146e9 rad and 16000 rad/s."""

_MOTOR_STATES, _MOTOR_COMMANDS, _IMUS = ("motor_state", "motorState"), ("motor_cmd", "motorCmd"), ("imu_state", "imu")
_TORQUES = ("tau_est", "tauEst")
_SIGNALS = {"position": "target", "velocity": "target_velocity", "torque": "feedforward_torque"}
"""Signal of a joint state → what it is in a command."""

Row = dict[str, Any]


def read_bag(
    path: str | Path,
    robot: Robot,
    kind: str,
    topics: Sequence[str] = (),
    motors: Sequence[str] = (),
    types: str | Path | None = None,
) -> Recording:
    """Read a recording from a bag.

    Times are those of the messages' headers if every topic has them, otherwise those at which they were recorded; from
    the first message on.

    Args:
        path: Folder of a ROS 2 bag, or a file.
        robot: Gives names of joints, and how the IMU is mounted.
        kind: Suffix of such files: "" for a folder, ".mcap", ".db3" or ".bag".
        topics: The only topics to read; all if empty.
        motors: Names of the joints in the order of motors that have no names; Unitree's order for its quadrupeds.
        types: Folder of .msg files, PACKAGE/msg/NAME.msg, for a bag that does not hold its own.

    Raises:
        LogError: It is not such a bag, or lacks the joints' state or commands; names topic and time.
    """
    highlevel = needed(path, "rosbags.highlevel")
    with _suffixed(Path(path), kind) as source:
        try:
            with highlevel.AnyReader([source], default_typestore=_typestore(path, types)) as reader:
                found = _Bag(path, reader, robot, tuple(motors)).read(tuple(topics))
        except LogError:
            raise
        except Exception as error:  # a damaged file can raise anything in there
            raise LogError(f"{path}: cannot be read as a bag: {short(str(error) or type(error).__name__)}") from error
    return found


@contextmanager
def _suffixed(path: Path, suffix: str) -> Iterator[Path]:
    """Give a file under a name with the suffix by which rosbags tells formats."""
    if path.suffix == suffix or path.is_dir():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        link = Path(folder) / f"bag{suffix}"
        link.symlink_to(path.resolve())
        yield link


def _typestore(path: str | Path, types: str | Path | None) -> Any:
    typesys = needed(path, "rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    if types is not None:
        definitions: dict[str, Any] = {}
        for file in sorted(Path(types).rglob("*.msg")):
            package = file.parent.parent.name
            definitions |= typesys.get_types_from_msg(file.read_text(encoding="utf-8"), f"{package}/msg/{file.stem}")
        if not definitions:
            raise LogError(f"{types}: holds no .msg file; expected PACKAGE/msg/NAME.msg")
        store.register(definitions)
    return store


class _Bag:
    """Reads the messages of one bag."""

    def __init__(self, path: str | Path, reader: Any, robot: Robot, motors: tuple[str, ...]) -> None:
        self._path, self._reader, self._robot = path, reader, robot
        self._motors = motors or (UNITREE_LEGS if set(UNITREE_LEGS) <= set(robot.joint_names) else ())

    def read(self, topics: tuple[str, ...]) -> Recording:
        """Read state, commands and IMU."""
        chosen = self._chosen(topics)
        rows: dict[str, list[Row]] = {role: [] for _, role in chosen}
        roles = {(connection.topic, connection.msgtype): role for connection, role in chosen}
        read = {
            "joint state": self._joint_state,
            "joint command": self._joint_command,
            "motor state": self._motor_state,
            "motor command": self._motor_command,
            "imu": self._imu,
        }
        for connection, received, data in self._reader.messages(connections=[connection for connection, _ in chosen]):
            role = roles[connection.topic, connection.msgtype]
            message = self._reader.deserialize(data, connection.msgtype)
            row = {"topic": connection.topic, "received": received, "stamp": _stamp(message)}
            rows[role].append(row | read[role](message, row))
        return self._recording(rows)

    def _chosen(self, topics: tuple[str, ...]) -> list[tuple[Any, str]]:
        """Return the connections that are read, each with its role."""
        unknown = [topic for topic in topics if topic not in {c.topic for c in self._reader.connections}]
        if unknown:
            raise LogError(f"{self._path}: has no topic {unknown[0]}; it has {self._topics()}")
        given = [c for c in self._reader.connections if c.msgcount and (not topics or c.topic in topics)]
        chosen = [(connection, role) for connection in given if (role := self._role(connection)) is not None]
        by_role: dict[str, set[str]] = {}
        for connection, role in chosen:
            by_role.setdefault(role.split()[-1], set()).add(connection.topic)
        for role, names in by_role.items():
            if len(names) > 1:
                raise LogError(
                    f"{self._path}: several topics hold the {role}: {', '.join(sorted(names))}; write those to read "
                    "(topics=…)"
                )
        for role in ("state", "command"):
            if role not in by_role:
                raise LogError(
                    f"{self._path}: no topic holds the joints' {role}; expected sensor_msgs/JointState or motors as of "
                    f"Unitree's robots, found {self._topics()}"
                )
        return chosen

    def _topics(self) -> str:
        return ", ".join(f"{c.topic} ({c.msgtype})" for c in self._reader.connections) or "no topic"

    def _role(self, connection: Any) -> str | None:
        definition = self._reader.typestore.fielddefs.get(connection.msgtype)
        names = {name for name, _ in definition[1]} if definition else set()
        if names & set(_MOTOR_STATES):
            return "motor state"
        if names & set(_MOTOR_COMMANDS):
            return "motor command"
        if {"name", "position", "velocity", "effort"} <= names:
            command = any(word in connection.topic.lower() for word in COMMAND_WORDS)
            return "joint command" if command else "joint state"
        return "imu" if {"orientation", "angular_velocity", "linear_acceleration"} <= names else None

    def _joint_state(self, message: Any, row: Row) -> Row:
        names = list(message.name)
        missing = [joint for joint in self._robot.joint_names if joint not in names]
        if missing:
            raise self._wrong(row, f"{missing[0]} is missing; it has {', '.join(names) or 'no names'}")
        order = [names.index(joint) for joint in self._robot.joint_names]
        found: Row = {}
        for key, signal in (("position", "position"), ("velocity", "velocity"), ("effort", "torque")):
            values = np.asarray(getattr(message, key), np.float64)
            if len(values) not in (0, len(names)):
                raise self._wrong(row, f"{key}: expected {len(names)} numbers, found {len(values)}")
            if len(values):
                found[signal] = values[order]
        return found

    def _joint_command(self, message: Any, row: Row) -> Row:
        return {_SIGNALS[signal]: values for signal, values in self._joint_state(message, row).items()}

    def _motor_state(self, message: Any, row: Row) -> Row:
        motors = self._ordered(_first(message, _MOTOR_STATES), row)
        found: Row = {
            "position": _numbers(motors, ("q",)),
            "velocity": _numbers(motors, ("dq",)),
            "torque": _numbers(motors, _TORQUES),
        }
        imu = _first(message, _IMUS, None)
        if imu is not None:
            found["orientation"] = np.asarray(imu.quaternion, np.float64)  # w x y z
            found["angular_velocity"] = np.asarray(imu.gyroscope, np.float64)
            found["linear_acceleration"] = np.asarray(imu.accelerometer, np.float64)
        return found

    def _motor_command(self, message: Any, row: Row) -> Row:
        motors = self._ordered(_first(message, _MOTOR_COMMANDS), row)
        position, velocity = _numbers(motors, ("q",)), _numbers(motors, ("dq",))
        return {
            "target": np.where(np.abs(position) > NO_POSITION, np.nan, position),
            "target_velocity": np.where(np.abs(velocity) > NO_VELOCITY, 0.0, velocity),
            "feedforward_torque": _numbers(motors, ("tau",)),
            "kp": _numbers(motors, ("kp", "Kp")),
            "kd": _numbers(motors, ("kd", "Kd")),
        }

    def _imu(self, message: Any, row: Row) -> Row:
        turn = message.orientation
        known = message.orientation_covariance[0] != -1.0  # as sensor_msgs/Imu says that there is none
        return {
            **({"orientation": np.array([turn.w, turn.x, turn.y, turn.z])} if known else {}),
            "angular_velocity": _vector(message.angular_velocity),
            "linear_acceleration": _vector(message.linear_acceleration),
        }

    def _ordered(self, motors: Sequence[Any], row: Row) -> list[Any]:
        """Return the motors in the order of the robot's joints."""
        names, joints = self._motors, self._robot.joint_names
        if not names:
            raise self._wrong(row, "its motors have no names; write the joints in the order of the motors (motors=…)")
        missing = [joint for joint in joints if joint not in names]
        if missing:
            raise self._wrong(row, f"{missing[0]} is missing; its motors are {', '.join(names)}")
        if len(motors) < len(names):
            raise self._wrong(row, f"expected {len(names)} motors, found {len(motors)}")
        return [motors[names.index(joint)] for joint in joints]

    def _wrong(self, row: Row, what: str) -> LogError:
        return LogError(f"{self._path}: {row['topic']} at {row['received'] * 1e-9:.6f} s: {what}")

    def _recording(self, rows: Mapping[str, list[Row]]) -> Recording:
        stamped = all(row["stamp"] for found in rows.values() for row in found)
        origin = min(row["stamp" if stamped else "received"] for found in rows.values() for row in found)
        values: dict[str, Any] = {}
        for role, found in sorted(rows.items(), key=lambda item: item[0] == "imu"):  # an IMU's own topic counts
            times = np.array([row["stamp" if stamped else "received"] - origin for row in found]) * 1e-9
            kind = role.split()[-1]
            values[{"state": "time", "command": "command_time", "imu": "imu_time"}[kind]] = times
            signals = set(found[0]) - {"topic", "received", "stamp"}
            values |= {signal: self._stacked(signal, found) for signal in signals}
        self._check(rows, values)
        imu: dict[str, np.ndarray] = {name: values[name] for name in CLOCKS["imu_time"] if name in values}
        return Recording(str(self._path), self._robot.joint_names, **(values | in_base_axes(self._robot, imu)))

    def _stacked(self, signal: str, rows: Sequence[Row]) -> np.ndarray:
        lacking = next((row for row in rows if signal not in row), None)
        if lacking is not None:
            raise self._wrong(lacking, f"{signal} is missing, which the first message has")
        return np.array([row[signal] for row in rows])

    def _check(self, rows: Mapping[str, list[Row]], values: Mapping[str, Any]) -> None:
        for signal, kind in (("position", "state"), ("velocity", "state"), ("target", "command")):
            if signal not in values:
                found = next(found for role, found in rows.items() if role.endswith(kind))
                raise self._wrong(found[0], f"{signal} is missing from the joints' {kind}")


def _stamp(message: Any) -> int:
    """Return the time of a message's header, ns; 0 for none."""
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    return 0 if stamp is None else int(stamp.sec) * 10**9 + int(stamp.nanosec)


def _first(message: Any, names: Sequence[str], *default: Any) -> Any:
    """Return the first of these fields that a message has."""
    return next((getattr(message, name) for name in names if hasattr(message, name)), *default)


def _numbers(motors: Sequence[Any], names: Sequence[str]) -> np.ndarray:
    return np.array([float(_first(motor, names)) for motor in motors])


def _vector(value: Any) -> np.ndarray:
    return np.array([value.x, value.y, value.z])
