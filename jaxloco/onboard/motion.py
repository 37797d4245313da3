"""Reference motions: clips that a policy tracks, with a phase of their own; in NumPy, its formulas for JAX too.

A motion stands still in its first frame until a clip is commanded. Then it goes through that clip, one frame a control
period, turned so that its first heading is the robot's, and stands still in the last frame until the next command.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxloco.onboard.spec import MOTION_JOINTS, MOTION_ORIENTATION, MOTION_VELOCITIES, MotionSpec

CHOSEN = 0.5
"""Largest component of the command from which on it commands a clip: that of this component."""


def heading(xp: Any, quaternion: Any) -> Any:
    """Return the part of a rotation (w, x, y, z) that is about the vertical, as (w, z) of length 1, (2,)."""
    part = xp.stack([quaternion[0], quaternion[3]])
    return part / xp.maximum(xp.sqrt(xp.sum(part * part)), np.float32(1e-6))


def turn_to(xp: Any, quaternion: Any, reference: Any) -> Any:
    """Return the turn (w, z) about the vertical that takes the heading of `reference` to that of `quaternion`, (2,)."""
    a, b = heading(xp, quaternion), heading(xp, reference)
    return xp.stack([a[0] * b[0] + a[1] * b[1], a[1] * b[0] - a[0] * b[1]])


def turned(xp: Any, turn: Any, quaternion: Any) -> Any:
    """Return a rotation (w, x, y, z), (..., 4), turned by (w, z) about the vertical."""
    w, z = turn[0], turn[1]
    a, b, c, d = (quaternion[..., i] for i in range(4))
    return xp.stack([w * a - z * d, w * b - z * c, w * c + z * b, w * d + z * a], axis=-1)


def axes_in_base(xp: Any, quaternion: Any, reference: Any) -> Any:
    """Return the first two axes of a reference frame in that of the base, (6,): no jumps, unlike angles.

    Args:
        xp: `numpy` or `jax.numpy`.
        quaternion: Of the base (w, x, y, z), any length above 0, (4,).
        reference: Of the reference, of length 1, (4,).
    """
    q = quaternion / xp.maximum(xp.sqrt(xp.sum(quaternion * quaternion)), np.float32(1e-6))
    (a, b, c, d), (e, f, g, h) = (q[0], -q[1], -q[2], -q[3]), (reference[0], reference[1], reference[2], reference[3])
    w, x = a * e - b * f - c * g - d * h, a * f + b * e + c * h - d * g
    y, z = a * g - b * h + c * e + d * f, a * h + b * g - c * f + d * e
    one, two = np.float32(1.0), np.float32(2.0)
    forward = [one - two * (y * y + z * z), two * (x * y + w * z), two * (x * z - w * y)]
    leftward = [two * (x * y - w * z), one - two * (x * x + z * z), two * (y * z + w * x)]
    return xp.stack([*forward, *leftward])


class Motion:
    """The motion of one policy, in NumPy.

    Args:
        spec: What it is.
        arrays: Those that `spec` names.

    Attributes:
        frame: Row of the tables that the reference is at.
        running: Whether a clip is being played.
        completed: Clips played to their ends since the reset.
        turn: (w, z) of the turn about the vertical from the tables to the world, (2,); zeros until the first reading.
        targets: Joint positions some frames ahead, rad, (n,): a view that each step renews.
        readings: What a policy can read of it, by name: views that each step renews.
    """

    def __init__(self, spec: MotionSpec, arrays: Mapping[str, np.ndarray]):
        self._joints, self._velocities = arrays[spec.joint_positions], arrays[spec.joint_velocities]
        self._orientations, self._lead = arrays[spec.orientations], spec.lead
        ends = np.cumsum(spec.frames)
        self._first = (ends - np.array(spec.frames)).tolist()
        self._last = np.repeat(ends - 1, spec.frames).tolist()
        size = self._joints.shape[1]
        self.targets, self.turn = np.zeros(size, np.float32), np.zeros(2, np.float32)
        self._read = np.zeros(size, np.float32), np.zeros(size, np.float32), np.zeros(6, np.float32)
        self.readings = dict(zip((MOTION_JOINTS, MOTION_VELOCITIES, MOTION_ORIENTATION), self._read, strict=True))
        self.reset()

    def reset(self) -> None:
        """Begin an episode: still, in the first frame of the first clip, towards wherever the robot looks."""
        self.frame, self.running, self.completed = 0, False, 0
        self.turn[...] = 0.0
        self._renew()

    def observe(self, orientation: np.ndarray) -> None:
        """Take in the orientation of the base (w, x, y, z) in this step, (4,) float32, and renew the readings."""
        if not self.turn.any():
            self.turn[...] = turn_to(np, orientation, self._orientations[self.frame])
        self._read[2][...] = axes_in_base(np, orientation, self.reference)

    @property
    def reference(self) -> np.ndarray:
        """Orientation of the reference's base in the world (w, x, y, z), (4,)."""
        turned_to: np.ndarray = turned(np, self.turn, self._orientations[self.frame])
        return turned_to

    def tick(self, choice: np.ndarray, orientation: np.ndarray) -> bool:
        """Advance by a control period; return whether a clip begins.

        Args:
            choice: The command: 1 for the clip to begin with when none is played, 0 for the others, (clips,).
            orientation: Of the base in this step, (4,) float32.
        """
        begins = not self.running and float(choice.max()) > CHOSEN
        if begins:
            self.frame, self.running = self._first[int(np.argmax(choice))], True
            self.turn[...] = turn_to(np, orientation, self._orientations[self.frame])
        elif self.running and self.frame == self._last[self.frame]:
            self.running, self.completed = False, self.completed + 1
        elif self.running:
            self.frame += 1
        self._renew()
        return begins

    def _renew(self) -> None:
        ahead = min(self.frame + self._lead, self._last[self.frame]) if self.running else self.frame
        self.targets[...] = self._joints[ahead]
        self._read[0][...] = self._joints[self.frame]
        self._read[1][...] = self._velocities[self.frame] if self.running else 0.0
