"""Motions: clips of a robot's base and joints over time, read from files, checked, and made into tables for training.

A clip is a NPZ file (`Clip.save`), or a CSV file as the retargeted LAFAN1 data set has them: a row for each frame, with
base x y z, m, quaternion x y z w, and joints, rad; a header may name the columns, in any order of joints.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from jaxloco.envs.motions import Reference
from jaxloco.errors import ConfigError, JaxlocoError, unknown_name
from jaxloco.robot import FLOOR, Robot
from jaxloco.text_files import read_bytes, read_text
from jaxloco.whole_files import write_bytes

BASE = ("base_x", "base_y", "base_z", "base_qx", "base_qy", "base_qz", "base_qw")
"""Names of the first columns of a CSV file; the quaternion's w is last."""

RATES = (5.0, 1000.0)
"""Slowest and fastest rate of a clip, Hz."""

BEYOND = 0.2
"""How far a joint may be beyond its range to be brought back to it, rad; farther, the clip is refused."""

TOO_DEEP, DEEP = 0.1, 0.002
"""Depth of a foot under the floor from which a clip is refused, and from which it is lifted, m."""

TOO_HIGH, FARTHEST = 0.5, 1e6
"""Distance from the floor at which no foot touches anything in a whole clip; up to which it is measured, m."""

OVER = -0.5
"""Height of the base's upward axis, from -1 to 1, below which it is upside down: tipped by 120 degrees or more."""

FASTEST, FASTEST_TURN = 10.0, 25.0
"""Velocities of the base from which a clip has a jump, m/s and rad/s."""


class MotionError(JaxlocoError, ValueError):
    """A clip that cannot be used: names the file, the frame or row, and the joint."""


@dataclass(frozen=True, eq=False)
class Clip:
    """A motion of T frames.

    Attributes:
        name: What it is called.
        rate: Frames per second, Hz.
        joints: Names of its joints, (n,).
        base_position: Position of the base, world with z up, m, (T, 3).
        base_orientation: Quaternion of the base (w, x, y, z), (T, 4).
        joint_positions: rad, (T, n).
        source: Where it is from.
    """

    name: str
    rate: float
    joints: tuple[str, ...]
    base_position: np.ndarray
    base_orientation: np.ndarray
    joint_positions: np.ndarray
    source: str = ""

    @property
    def seconds(self) -> float:
        """Return its length, s."""
        return (len(self.base_position) - 1) / self.rate

    def save(self, path: Path) -> Path:
        """Write a NPZ file, float32; return its path.

        Raises:
            MotionError: Its name ends otherwise, by which tasks could not take it.
            OSError: It cannot be written.
        """
        if path.suffix != ".npz":
            raise MotionError(f"{path}: write a file that ends in .npz")
        content = io.BytesIO()
        held: dict[str, Any] = {key: np.asarray(getattr(self, key), np.float32) for key in _ARRAYS}
        held |= {"rate": np.float64(self.rate), "joints": np.array(self.joints), "source": np.array(self.source)}
        np.savez_compressed(content, **held)
        write_bytes(path, content.getvalue())
        return path


_ARRAYS = ("base_position", "base_orientation", "joint_positions")


def read(path: Path, robot: Robot, rate: float | None = None) -> Clip:
    """Read a clip from an NPZ or a CSV file.

    Args:
        path: The file.
        robot: Whose joints a CSV file without a header has, in the order of robot.toml.
        rate: Frames per second, Hz; needed for a CSV file, and by default what an NPZ file says.

    Raises:
        MotionError: It cannot be read; names the row and the column.
    """
    try:
        clip = _from_npz(path) if path.suffix == ".npz" else _from_csv(path, robot, rate)
    except FileNotFoundError as error:
        raise MotionError(f"{path}: there is no such file") from error
    if rate is not None:
        clip = replace(clip, rate=rate)
    return _shaped(path, clip)


def _from_npz(path: Path) -> Clip:
    try:
        with np.load(io.BytesIO(read_bytes(path, MotionError)), allow_pickle=False) as data:
            missing = [key for key in ("rate", "joints", *_ARRAYS) if key not in data]
            if missing:
                raise MotionError(f"{path}: {missing[0]!r} is missing; it needs rate, joints, {', '.join(_ARRAYS)}")
            joints, source = tuple(map(str, np.ravel(data["joints"]))), str(data["source"]) if "source" in data else ""
            base, orientation, positions = (np.asarray(data[key], float) for key in _ARRAYS)
            rate = float(data["rate"])
    except (MotionError, FileNotFoundError):
        raise
    except Exception as error:  # of NumPy, zipfile and zlib, each its own
        raise MotionError(f"{path}: is no NPZ file of arrays ({error})") from error
    return Clip(path.stem, rate, joints, base, orientation, positions, source)


def _from_csv(path: Path, robot: Robot, rate: float | None) -> Clip:
    text = read_text(path, MotionError)
    if rate is None:
        raise MotionError(f"{path}: a CSV file does not say its rate; write --rate 30 for that of LAFAN1, Hz")
    lines = [(i + 1, line) for i, line in enumerate(text.splitlines()) if line.strip()]
    if not lines:
        raise MotionError(f"{path}: is empty")
    names = [*BASE, *robot.joint_names]
    words = [word.strip() for word in lines[0][1].split(",")]
    if not _is_number(words[0]):
        lines = lines[1:]
        names = words
        if tuple(names[:7]) != BASE:
            raise MotionError(
                f"{path}, row 1: the header must begin with {','.join(BASE)}, then "
                "names of joints; columns have commas between them, and numbers points as decimal marks"
            )
    rows = np.array([_numbers(f"{path}, row {number}", line, names) for number, line in lines]).reshape(-1, len(names))
    orientation = rows[:, [6, 3, 4, 5]]
    return Clip(path.stem, rate, tuple(names[7:]), rows[:, :3], orientation, rows[:, 7:], str(path.name))


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _numbers(where: str, line: str, names: Sequence[str]) -> list[float]:
    words = line.split(",")
    if len(words) != len(names):
        raise MotionError(
            f"{where}: has {len(words)} columns, expected {len(names)}: {', '.join(BASE)} and {len(names) - 7} joints"
        )
    for name, word in zip(names, words, strict=True):
        if not _is_number(word.strip()):
            raise MotionError(f"{where}: {name} is {word.strip()!r}, expected a number")
    return [float(word) for word in words]


def _shaped(path: Path, clip: Clip) -> Clip:
    """Check the rate and the shapes."""
    if not RATES[0] <= clip.rate <= RATES[1]:
        raise MotionError(f"{path}: rate = {clip.rate:g} Hz: expected {RATES[0]:g} to {RATES[1]:g}")
    frames, joints = len(clip.joint_positions), len(clip.joints)
    wanted = {"base_position": (frames, 3), "base_orientation": (frames, 4), "joint_positions": (frames, joints)}
    for key, shape in wanted.items():
        if getattr(clip, key).shape != shape:
            raise MotionError(f"{path}: {key} has shape {getattr(clip, key).shape}, expected {shape}")
    if frames < 2:
        raise MotionError(f"{path}: has {frames} frames, expected 2 frames or more")
    return clip


def checked(clip: Clip, robot: Robot) -> tuple[Clip, tuple[str, ...]]:
    """Return a clip that a robot can be asked to track, with joints in its order, and what was repaired.

    Joints a little beyond their range are brought back to it, quaternions get length 1, and a clip whose feet are
    somewhat under the floor is lifted.

    Raises:
        MotionError: Joints are missing or unknown; or a number is no number, a joint far out of its range, a jump
            faster than a motor, or a foot deep under the floor; names frame and joint. Or the base is upside down in
            most frames, or no foot comes near the floor: the order or the unit is another one.
    """
    if robot.base_body is None:
        raise MotionError(f"clip {clip.name!r}: robot {robot.name!r} is fixed to the world; clips are of a free base")
    clip, repairs = _ordered(clip, robot), []
    for key in _ARRAYS:
        columns = clip.joints if key == "joint_positions" else tuple(f"{key}[{i}]" for i in range(4))
        _refuse(clip, ~np.isfinite(getattr(clip, key)), columns, "is no number")
    lengths = np.linalg.norm(clip.base_orientation, axis=1, keepdims=True)
    _refuse(clip, np.abs(lengths - 1.0) > 0.05, ("base_orientation",), "is no quaternion: its length is not 1")
    low, high = (np.array([getattr(joint, end) for joint in robot.joints]) for end in ("lower", "upper"))
    beyond = np.maximum(clip.joint_positions - high, low - clip.joint_positions)
    radians = np.radians(clip.joint_positions)
    degrees = ((radians >= low - BEYOND) & (radians <= high + BEYOND)).all()
    hint = "; is the clip in degrees?" if degrees else "; is it another joint's column, or another robot's clip?"
    _refuse(clip, beyond > BEYOND, clip.joints, f"is more than {BEYOND:g} rad beyond its range{hint}")
    if beyond.max() > 1e-6:
        frame, joint = np.unravel_index(int(beyond.argmax()), beyond.shape)
        repairs.append(
            f"joints brought back into their ranges in {int((beyond > 1e-6).any(axis=1).sum())} frames, most "
            f"{clip.joints[joint]} in frame {frame}, by {beyond.max():.3f} rad"
        )
    positions, orientation = np.clip(clip.joint_positions, low, high), clip.base_orientation / lengths
    clip = replace(clip, joint_positions=positions, base_orientation=orientation)
    _check_upright(clip)
    _check_speeds(clip, robot)
    depth, at, foot = _deepest(clip, robot)
    if depth > TOO_DEEP:
        raise MotionError(
            f"clip {clip.name!r}: frame {at}: foot {foot} is {depth:.3f} m under the floor; is the height of the "
            "base that of this robot, in m?"
        )
    if depth < -TOO_HIGH:
        raise MotionError(
            f"clip {clip.name!r}: no foot comes nearer to the floor than {-depth:.3g} m, which foot {foot} does in "
            f"frame {at}; is the height of the base that of this robot, in m?"
        )
    if depth > DEEP:
        clip = replace(clip, base_position=clip.base_position + np.array([0.0, 0.0, depth]))
        repairs.append(f"lifted by {depth:.3f} m: foot {foot} was that far under the floor in frame {at}")
    return clip, tuple(repairs)


def _ordered(clip: Clip, robot: Robot) -> Clip:
    """Return a clip with the joints of a robot in its order; those that the robot holds are left out."""
    known = (*robot.joint_names, *robot.locked)
    for name in clip.joints:
        if name not in known:
            raise MotionError(f"clip {clip.name!r}: {unknown_name('joint', name, known)}")
    missing = [name for name in robot.joint_names if name not in clip.joints]
    if missing or len(set(clip.joints)) != len(clip.joints):
        wrong = f"joint {missing[0]!r} is missing" if missing else "a joint stands twice"
        raise MotionError(f"clip {clip.name!r}: {wrong}; robot {robot.name!r} has {', '.join(robot.joint_names)}")
    columns = [clip.joints.index(name) for name in robot.joint_names]
    return replace(clip, joints=robot.joint_names, joint_positions=clip.joint_positions[:, columns])


def _refuse(clip: Clip, wrong: np.ndarray, columns: Sequence[str], what: str) -> None:
    """Refuse a clip of which some entries are wrong, (T, n)."""
    if wrong.any():
        frame, column = np.argwhere(wrong)[0]
        raise MotionError(f"clip {clip.name!r}: frame {frame}: {columns[column]} {what}")


def _check_upright(clip: Clip) -> None:
    _, x, y, _ = clip.base_orientation.T
    over = np.flatnonzero(1.0 - 2.0 * (x**2 + y**2) < OVER)
    if len(over) > 0.5 * len(x):
        raise MotionError(
            f"clip {clip.name!r}: the base is upside down in {len(over)} of {len(x)} frames, first in frame {over[0]}; "
            "a quaternion is x y z w in a CSV file (base_qx,base_qy,base_qz,base_qw), and w x y z in an NPZ file"
        )


def _check_speeds(clip: Clip, robot: Robot) -> None:
    speeds = np.abs(np.diff(clip.joint_positions, axis=0)) * clip.rate
    limits = np.array([joint.velocity_limit for joint in robot.joints])
    _refuse(clip, speeds > limits, clip.joints, "moves on faster than its motor turns: is the rate right?")
    _, velocities = _generalized(clip, robot)
    base = np.abs(velocities[:, np.asarray(robot.base_qvel_indices)])
    names = ("base x", "base y", "base z", "base roll", "base pitch", "base yaw")
    _refuse(clip, base > np.array([FASTEST] * 3 + [FASTEST_TURN] * 3), names, "jumps")


def configurations(clip: Clip, robot: Robot) -> np.ndarray:
    """Return the configurations of a robot in a clip's frames, its joints in the robot's order, (T, nq)."""
    qpos = np.tile(np.asarray(robot.default_qpos, float), (len(clip.base_position), 1))
    qpos[:, np.asarray(robot.base_qpos_indices)] = np.hstack([clip.base_position, clip.base_orientation])
    qpos[:, np.asarray(robot.joint_qpos_indices)] = clip.joint_positions
    return qpos


def _generalized(clip: Clip, robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """Return configurations, (T, nq), and velocities by central differences, (T, nv)."""
    model, qpos = robot.model, configurations(clip, robot)
    qvel = np.zeros((len(qpos), model.nv))
    for frame in range(len(qpos)):
        before, after = max(frame - 1, 0), min(frame + 1, len(qpos) - 1)
        mujoco.mj_differentiatePos(model, qvel[frame], (after - before) / clip.rate, qpos[before], qpos[after])
    return qpos, qvel


def _deepest(clip: Clip, robot: Robot) -> tuple[float, int, str]:
    """Return how deep a foot is under the floor, m, in which frame, and which; 0 of a robot without feet."""
    model, data = robot.model, mujoco.MjData(robot.model)
    floor = model.geom(FLOOR).id
    geoms = [(foot.name, model.geom(name).id) for foot in robot.feet for name in foot.geoms]
    worst = (-FARTHEST if geoms else 0.0, 0, robot.feet[0].name if geoms else "")
    for frame, qpos in enumerate(configurations(clip, robot)):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        for name, geom in geoms:
            depth = -mujoco.mj_geomDistance(model, data, floor, geom, FARTHEST, None)
            worst = max(worst, (depth, frame, name), key=lambda found: found[0])
    return worst


def resampled(clip: Clip, rate: float) -> Clip:
    """Return a clip with other frames per second, by straight lines between frames."""
    times = np.arange(len(clip.base_position)) / clip.rate
    wanted = np.arange(int(np.floor(times[-1] * rate + 1e-6)) + 1) / rate
    quaternions = clip.base_orientation.copy()
    for frame in range(1, len(quaternions)):  # q and -q are one rotation
        quaternions[frame] *= 1.0 if quaternions[frame] @ quaternions[frame - 1] >= 0.0 else -1.0

    def at(values: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(wanted, times, column) for column in values.T], axis=1)

    orientation = at(quaternions)
    orientation /= np.linalg.norm(orientation, axis=1, keepdims=True)
    return replace(
        clip,
        rate=rate,
        base_position=at(clip.base_position),
        base_orientation=orientation,
        joint_positions=at(clip.joint_positions),
    )


def load_clips(robot: Robot, names: Sequence[str]) -> list[Clip]:
    """Return clips of a robot, checked and at its control rate.

    Args:
        robot: The robot.
        names: Names of those in its folder `clips`, or NPZ files that `jaxloco motion` wrote.

    Raises:
        MotionError: There is no such clip, it does not fit the robot, or is shorter than a control period.
        ConfigError: None is named, or one twice.
    """
    own = {file.stem: file for file in sorted((robot.folder / "clips").glob("*.npz"))}
    found = []
    for name in names:
        if name not in own and not name.endswith(".npz"):
            raise MotionError(f"robot {robot.name!r}: {unknown_name('clip', name, own)}")
        clip, _ = checked(read(own[name] if name in own else Path(name).expanduser(), robot), robot)
        if clip.seconds * robot.control_frequency < 1.0 - 1e-6:
            raise MotionError(
                f"clip {clip.name!r}: lasts {clip.seconds:.3g} s, less than a control period of {robot.control_dt:g} s "
                f"of robot {robot.name!r}; is its rate right?"
            )
        found.append(resampled(clip, robot.control_frequency))
    if len({clip.name for clip in found}) != len(found) or not found:
        raise ConfigError(f"clips {tuple(names)}: at least one, and each once")
    return found


def reference(robot: Robot, clips: Sequence[Clip], bodies: Sequence[str], ends: Sequence[str]) -> Reference:
    """Return clips at the control rate as tables, with body poses by forward kinematics.

    Args:
        robot: The robot.
        clips: Of the robot; see `checked`.
        bodies: Name patterns of the bodies whose origins are tracked; the feet's soles are tracked besides.
        ends: Name patterns of those bodies that are end effectors beside the feet.

    Raises:
        ConfigError: A pattern matches no body.
    """
    model = robot.model
    names = [model.body(i).name for i in range(1, model.nbody)]
    for pattern in (*bodies, *ends):
        if not any(fnmatch(name, pattern) for name in names):
            raise ConfigError(f"no body of robot {robot.name!r} matches {pattern!r}; it has {', '.join(names)}")
    chosen = [name for name in names if any(fnmatch(name, pattern) for pattern in (*bodies, *ends))]
    points = [(name, np.zeros(3), any(fnmatch(name, pattern) for pattern in ends)) for name in chosen]
    points += [(foot.body, np.asarray(foot.position, float), True) for foot in robot.feet]
    tables = [_generalized(clip, robot) for clip in clips]
    qpos, qvel = np.concatenate([table[0] for table in tables]), np.concatenate([table[1] for table in tables])
    ids, offsets = np.array([model.body(name).id for name, _, _ in points]), np.array([p[1] for p in points])
    return Reference(
        clips=tuple(clip.name for clip in clips),
        frames=tuple(len(clip.base_position) for clip in clips),
        qpos=qpos,
        qvel=qvel,
        bodies=ids,
        offsets=offsets,
        ends=np.array([end for _, _, end in points]),
        **_kinematics(robot, qpos, qvel, ids, offsets),
    )


def _kinematics(
    robot: Robot, qpos: np.ndarray, qvel: np.ndarray, bodies: np.ndarray, offsets: np.ndarray
) -> dict[str, np.ndarray]:
    """Return how points of bodies are and move in the heading of the base; see `Reference`."""
    model, data = robot.model, mujoco.MjData(robot.model)
    base, count = model.body(robot.base_body).id, (len(qpos), len(bodies))
    found = {key: np.zeros((*count, 3)) for key in ("positions", "velocities", "rates")}
    found["orientations"] = np.zeros((*count, 4))
    spatial, quaternion = np.zeros(6), np.zeros(4)
    for frame, (position, velocity) in enumerate(zip(qpos, qvel, strict=True)):
        data.qpos[:], data.qvel[:] = position, velocity
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        w, z = data.xquat[base][[0, 3]] / max(float(np.hypot(*data.xquat[base][[0, 3]])), 1e-6)
        cos, sin = w * w - z * z, 2.0 * w * z
        away = np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])
        below = data.xpos[base] * np.array([1.0, 1.0, 0.0])
        for place, (body, offset) in enumerate(zip(bodies, offsets, strict=True)):
            arm = data.xmat[body].reshape(3, 3) @ offset
            mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_XBODY, int(body), spatial, 0)
            found["positions"][frame, place] = away @ (data.xpos[body] + arm - below)
            found["velocities"][frame, place] = away @ (spatial[3:] + np.cross(spatial[:3], arm))
            found["rates"][frame, place] = away @ spatial[:3]
            mujoco.mju_mulQuat(quaternion, np.array([w, 0.0, 0.0, -z]), data.xquat[body])
            found["orientations"][frame, place] = quaternion
    return found
