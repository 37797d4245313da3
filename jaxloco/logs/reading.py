"""Read a recording from a file of any known format, told by its content."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from jaxloco.errors import LogError
from jaxloco.logs.checks import check_against
from jaxloco.logs.parquet import read_parquet
from jaxloco.logs.recording import Recording, read_csv
from jaxloco.logs.ros import read_bag
from jaxloco.logs.upkie import read_upkie
from jaxloco.robot import Robot, load_robot

FORMATS = "CSV, Parquet, the MessagePack of upkie, MCAP or a ROS bag"

_BAGS = {b"\x89MCAP0\r\n": ".mcap", b"SQLite format 3\0": ".db3", b"#ROSBAG V": ".bag"}
"""Beginning of a bag's file → the suffix of such files."""


def read(
    path: str | Path,
    robot: str | Path | Robot,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    topics: Sequence[str] = (),
    motors: Sequence[str] = (),
    types: str | Path | None = None,
    allow_gaps: bool = False,
) -> Recording:
    """Read a recording of a robot: CSV, Parquet, upkie's MessagePack, MCAP or a ROS bag, whatever the file's name.

    Args:
        path: The file, or the folder of a ROS 2 bag.
        robot: The robot, or its name or folder; the recording has its joints, in its order.
        columns: Of CSV and Parquet: the file's name of a column → ours; other columns are then left out.
        topics: Of bags: the only topics to read; all if empty.
        motors: Of bags whose motors have no names: the joints in the order of the motors.
        types: Of bags without message definitions: folder of .msg files, PACKAGE/msg/NAME.msg.
        allow_gaps: Whether a clock may have gaps.

    Returns:
        The recording.

    Raises:
        FileNotFoundError: There is no such file.
        LogError: The file cannot be read, lacks a joint, has a gap, or cannot be a recording of this robot; names the
            recording, the column and the time. Pickles are not read: loading one runs whatever code is in it.
        RobotError: The robot cannot be loaded.
    """
    robot = robot if isinstance(robot, Robot) else load_robot(robot)
    path = Path(path)
    kind = kind_of(path)
    if kind == "csv":
        found = read_csv(path, columns)
    elif kind == "parquet":
        found = read_parquet(path, columns)
    elif kind == "upkie":
        found = read_upkie(path, robot)
    else:
        found = read_bag(path, robot, kind, topics, motors, types)
    found = found.select(robot.joint_names)
    check_against(found, robot)
    if not allow_gaps:
        found.check_gaps()
    return found


def kind_of(path: Path) -> str:
    """Return the format of a file: "csv", "parquet", "upkie", or the suffix of a bag's files ("" for a folder).

    Raises:
        FileNotFoundError: There is no such file.
        LogError: It is of no known format, or a pickle.
    """
    if path.is_dir():
        if not (path / "metadata.yaml").exists():
            raise LogError(f"{path}: is a folder without metadata.yaml, so no ROS 2 bag; name a file, {FORMATS}")
        return ""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            file.seek(-min(2, file.seek(0, 2)), 2)
            tail = file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such recording") from None
    except OSError as error:
        raise LogError(f"{path}: cannot be read: {error.strerror}") from None
    if _is_pickle(head, tail):
        raise LogError(
            f"{path}: may be or hold a pickle, and loading one runs whatever code is in it; write the recording as CSV "
            "with the program that made it"
        )
    return _kind(path, head)


def _kind(path: Path, head: bytes) -> str:
    for beginning, suffix in _BAGS.items():
        if head.startswith(beginning):
            return suffix
    if head.startswith(b"PAR1"):
        return "parquet"
    if head[:1] and (0x80 <= head[0] <= 0x8F or head[0] in (0xDE, 0xDF)):  # a MessagePack map
        return "upkie"
    if head and not any(byte < 32 and byte not in b"\t\r\n" for byte in head):
        return "csv"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):  # UTF-16 with its mark
        return "csv"
    raise LogError(f"{path}: {'is empty' if not head else 'is of no known format'}; expected {FORMATS}")


def _is_pickle(head: bytes, tail: bytes) -> bool:
    """Whether a file is a pickle, of any protocol, or an archive of NumPy or PyTorch, which can hold pickles."""
    binary = re.match(rb"\x80[\x02-\x05].", head, re.DOTALL)
    text = re.match(rb"[(\]}]|c[\w.]+\n[\w.]+\n", head) and tail.endswith(b".")
    return bool(binary or text or head.startswith((b"\x93NUMPY", b"PK\x03\x04")))
