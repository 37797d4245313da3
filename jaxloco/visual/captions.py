"""What is written on a video: time, commands, measured velocity, terrain and pushes."""

from collections.abc import Mapping

import numpy as np

from jaxloco.terrain import Terrain

SMOOTHED = 0.2
"""Time over which the measured velocity is averaged, s: a step's sway is not what was commanded."""

LINGER = 0.3
"""Time for which a push stays written, s: it may be shorter than a frame."""

VELOCITY = "velocity_command"
"""The command that has a measured velocity beside it: forward m/s, leftward m/s, yaw rate rad/s."""


def captions(
    qpos: np.ndarray,
    push: np.ndarray,
    dt: float,
    *,
    floating: bool,
    commands: Mapping[str, np.ndarray],
    terrain: Terrain | None = None,
) -> list[str]:
    """Return the text of each step, lines of a name, a tab and a value.

    Args:
        qpos: Positions at each step, (T, nq).
        push: Force on the base in each step, world frame, (T, 3), N.
        dt: Control period, s.
        floating: Whether the positions begin with those of a free base.
        commands: By name, (T, n).
        terrain: What the robot walks on, if it is not level.
    """
    velocity = measured_velocity(qpos, dt) if floating and VELOCITY in commands else None
    forces, shown_for = np.linalg.norm(push, axis=1), max(1, round(LINGER / dt))
    texts = []
    for step, configuration in enumerate(qpos):
        lines = [("time", f"{(step + 1) * dt:.1f} s")]
        for name, values in commands.items():
            shown = _velocity(values[step]) if name == VELOCITY else " ".join(f"{value:+.2f}" for value in values[step])
            lines.append(("commanded" if name == VELOCITY else name.replace("_", " "), shown))
        if velocity is not None:
            lines.append(("measured", _velocity(velocity[step])))
        if terrain is not None and terrain.kinds:
            lines.append(("terrain", place(terrain, configuration)))
        force = float(forces[max(0, step - shown_for + 1) : step + 1].max())
        if force > 0.0:
            lines.append(("push", f"{force:.0f} N"))
        texts.append("\n".join(f"{name}\t{value}" for name, value in lines))
    return texts


def _velocity(values: np.ndarray) -> str:
    forward, left, turn = values
    return f"{forward:+.2f} {left:+.2f} m/s {turn:+.2f} rad/s"


def place(terrain: Terrain, qpos: np.ndarray) -> str:
    """Return the kind and the level of terrain below a robot, (nq,)."""
    x = [terrain.centre(level, 0)[0] for level in range(terrain.levels)]
    y = [terrain.centre(0, kind)[1] for kind in range(len(terrain.kinds))]
    level, kind = int(np.argmin(np.abs(x - qpos[0]))), int(np.argmin(np.abs(y - qpos[1])))
    return f"{terrain.kinds[kind].replace('_', ' ')}, level {level}"


def measured_velocity(qpos: np.ndarray, dt: float) -> np.ndarray:
    """Return the velocity of a free base: forward and leftward, m/s, and its yaw rate, rad/s, (T, 3), smoothed.

    Forward and leftward are horizontal, along the robot's heading.
    """
    if len(qpos) < 2:
        return np.zeros((len(qpos), 3))
    w, x, y, z = qpos[:, 3:7].T
    yaw = np.unwrap(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))
    reach = max(1, round(SMOOTHED / dt))
    last = np.arange(len(qpos))
    first = np.maximum(last - reach, 0)
    last = np.maximum(last, 1)
    seconds = (last - first) * dt
    vx, vy = (qpos[last, :2] - qpos[first, :2]).T / seconds
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * vx + sin * vy, cos * vy - sin * vx, (yaw[last] - yaw[first]) / seconds], axis=1)
