"""Trajectories of feet, each on a phase of its own, to which a policy adds; written once for NumPy and JAX.

After the foot trajectory generator of Lee et al. 2020 ("Learning quadrupedal locomotion over challenging terrain",
supplement S3; Iscen et al. 2018 before them): φ = φ₀ + 2π (f₀ + f) t, and a height that follows from φ.

Phases are whole numbers of 2⁻³² cycles. They wrap by themselves, do not drift, and are the same bits in the simulator
and on the robot, whatever computes them: sums of float32 would drift apart by 1e-5 in some minutes.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from jaxloco.onboard.spec import FootTrajectories, Leg

CYCLE = 1 << 32
"""Parts of a cycle."""

FOLDED, STRAIGHT = -0.999, 0.999
"""Cosine of the knee's angle at which inverse kinematics stops: 2.6 degrees from where both sides are one."""

NEAREST = 1e-3
"""Least distance of a leg's plane from its hip axis to which inverse kinematics goes, m."""


def parts(cycles: float) -> int:
    """Return a number of cycles in parts, without whole cycles.

    >>> parts(0.25) == parts(7.25) == 2**30
    True
    """
    return round(cycles * CYCLE) % CYCLE


def own_turns(xp: Any, action: Any, frequency_scale: float, dt: float) -> Any:
    """Return how far feet turn in a control period by frequencies of their own, in parts of a cycle, uint32 (n,).

    Args:
        xp: `numpy` or `jax.numpy`.
        action: Their part of the policy's action, in [-1, 1], (n,) float32.
        frequency_scale: Frequency for an action of 1, Hz.
        dt: Control period, s.
    """
    # One product, rounded at once: no compiler can join it with a sum, so every machine finds the same number.
    return xp.rint(action * np.float32(frequency_scale * dt * CYCLE)).astype(np.int32).astype(np.uint32)


def phases(turns: Any) -> Any:
    """Return phases in cycles, in [0, 1), float32, of turns in parts, uint32: their upper 24 bits."""
    return (turns >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def foot_height(xp: Any, phase: Any, height: float) -> Any:
    """Return how high feet are above where they stand, m: they swing in the first half of their cycle.

    Lee et al. 2020, S3: with k = 4 phase, h (-2k³ + 3k²) up to k = 1, h (2k³ - 9k² + 12k - 4) up to k = 2, then 0; the
    second is the first of 2 - k. Their φ is half a cycle ahead (k = 2 (φ - π) / π), and their heights are from the base
    down, -0.5 m when standing.

    Args:
        xp: `numpy` or `jax.numpy`.
        phase: In cycles, 0 to 1, any shape.
        height: In the middle of the swing, h, m.
    """
    k = xp.maximum(1.0 - xp.abs(4.0 * phase - 1.0), 0.0)
    return k * k * (3.0 - 2.0 * k) * height


def foot_way(xp: Any, phase: Any) -> Any:
    """Return how far feet are ahead of their place, in what the base goes in a cycle, from -1/4 to 1/4.

    In the second half of its cycle a foot stands, and stays where it is while the base goes on: 3/4 - phase. In the
    first half it swings to the front again: with u = 2 phase, (3u² - 2u³)/2 - 1/4. In the middle of its stance it is at
    its place, so that it lands at the neutral point of Raibert 1986 ("Legged Robots That Balance").

    Args:
        xp: `numpy` or `jax.numpy`.
        phase: In cycles, 0 to 1, any shape.
    """
    u = 2.0 * phase
    return xp.where(phase < 0.5, 0.5 * u * u * (3.0 - 2.0 * u) - 0.25, 0.75 - phase)


class Legs:
    """Kinematics of legs with three joints: one for the plane of the leg, and two across it, hip and knee.

    Everything is in a frame of each leg at the anchor of its first joint: x along the axis of that, y along the others'
    axes, z as x × y; joints at zero. The last two joints do not change y, which gives the first angle; those two are
    then a chain of two links in the plane of x and z, with the knee bent to the side of the leg's pose.

    Attributes:
        pose: Joint positions of the legs' pose, rad, (n, 3).
        order: Takes all first angles, then all second ones, then all third ones to the order of the outputs, (3 n,).
        constants: What `joints` computes with, by dtype.

    Args:
        legs: Each checked by `jaxloco.onboard.spec.Leg`, (n).
    """

    def __init__(self, legs: Sequence[Leg]) -> None:
        anchors = np.array([leg.anchors for leg in legs]).reshape(-1, 3, 3)
        axes = np.array([leg.axes for leg in legs]).reshape(-1, 3, 3)
        x = axes[:, 0] / np.linalg.norm(axes[:, 0], axis=1, keepdims=True)
        y = axes[:, 1] - np.sum(axes[:, 1] * x, axis=1, keepdims=True) * x
        y /= np.linalg.norm(y, axis=1, keepdims=True)
        self._frame = np.stack([x, y, np.cross(x, y)], axis=1)  # rows: what takes the base's frame to the leg's
        self._origin = anchors[:, 0]
        hip = self._in_leg(anchors[:, 1])
        thigh, shank = self._in_leg(anchors[:, 2]) - hip, self._in_leg(np.array([leg.foot for leg in legs]))
        self._aside = shank[:, 1]
        shank = shank - hip - thigh
        self._hip = hip[:, [0, 2]]
        self._lengths = np.hypot(thigh[:, 0], thigh[:, 2]), np.hypot(shank[:, 0], shank[:, 2])
        self._angles = np.arctan2(thigh[:, 0], thigh[:, 2]), np.arctan2(shank[:, 0], shank[:, 2])
        self._same = np.sign(np.sum(axes[:, 1] * axes[:, 2], axis=1))
        self.pose = np.array([leg.pose for leg in legs])
        _, depth = self._in_plane(self.pose)
        self._below = np.where(depth < 0.0, -1.0, 1.0)
        self._bend = np.where(_wrapped(np, self._knee(self.pose)) < 0.0, -1.0, 1.0)
        self.order = np.argsort(np.array([leg.joints for leg in legs]).T.ravel()).astype(np.int32)
        self.constants = {np.dtype(np.float64): self._of(np.float64), np.dtype(np.float32): self._of(np.float32)}

    def _in_leg(self, points: np.ndarray) -> np.ndarray:
        """Return points of the base's frame in those of the legs, (n, 3)."""
        return np.einsum("nij,nj->ni", self._frame, points - self._origin)

    def _knee(self, joints: np.ndarray) -> np.ndarray:
        """Return the angle between the links, rad, (n,)."""
        return self._angles[1] + self._same * joints[:, 2] - self._angles[0]

    def _in_plane(self, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return x and z of the feet, m, (n,) each, before the first joint turns."""
        first = self._angles[0] + joints[:, 1]
        second = first + self._knee(joints)
        upper, lower = self._lengths
        return (
            self._hip[:, 0] + upper * np.sin(first) + lower * np.sin(second),
            self._hip[:, 1] + upper * np.cos(first) + lower * np.cos(second),
        )

    def positions(self, joints: np.ndarray) -> np.ndarray:
        """Return where the feet are in the base's frame, m, (n, 3), at joint positions (n, 3), rad."""
        x, z = self._in_plane(joints)
        cos, sin = np.cos(joints[:, 0]), np.sin(joints[:, 0])
        point = np.stack([x, self._aside * cos - z * sin, self._aside * sin + z * cos], axis=1)
        return self._origin + np.einsum("nij,ni->nj", self._frame, point)

    def _of(self, dtype: Any) -> dict[str, np.ndarray]:
        upper, lower = self._lengths
        constants = {
            "frame": self._frame,
            "origin": self._origin,
            "aside": self._aside,
            "aside squared": self._aside**2,
            "below": self._below,
            "hip x": self._hip[:, 0],
            "hip z": self._hip[:, 1],
            "upper": upper,
            "lower": lower,
            "sum": upper**2 + lower**2,
            "product": 1.0 / (2.0 * upper * lower),
            "bend": self._bend,
            "same": self._same,
            "pose": self.pose.T.ravel()[self.order],
            "first": self.pose[:, 0],
            "second": self._angles[0] + self.pose[:, 1],
            "third": self._angles[1] - self._angles[0] + self._same * self.pose[:, 2],
        }
        return {name: value.astype(dtype) for name, value in constants.items()}

    def joints(self, xp: Any, feet: Any) -> Any:
        """Return the joint positions that put feet where they should be, rad, (3 n,), in the order of the outputs.

        A foot out of reach goes as far as it can in its direction. Ranges of joints are not looked at.

        Args:
            xp: `numpy` or `jax.numpy`.
            feet: Positions in the base's frame, m, (n, 3), float32 or float64.
        """
        c = self.constants[np.dtype(feet.dtype)]
        x, y, z = xp.sum(c["frame"] * (feet - c["origin"])[:, None, :], axis=2).T
        depth = c["below"] * xp.sqrt(xp.maximum(y * y + z * z - c["aside squared"], NEAREST**2))
        first = xp.arctan2(z, y) - xp.arctan2(depth, c["aside"]) - c["first"]
        x, z = x - c["hip x"], depth - c["hip z"]
        cos = xp.minimum(xp.maximum((x * x + z * z - c["sum"]) * c["product"], FOLDED), STRAIGHT)
        sin = c["bend"] * xp.sqrt(1.0 - cos * cos)
        second = xp.arctan2(x, z) - xp.arctan2(c["lower"] * sin, c["upper"] + c["lower"] * cos) - c["second"]
        third = c["same"] * (xp.arctan2(sin, cos) - c["third"])
        return c["pose"] + _wrapped(xp, xp.concatenate([first, second, third])[self.order])


def _wrapped(xp: Any, angle: Any) -> Any:
    """Return an angle without whole turns, from -π to π, rad."""
    return angle - 2.0 * math.pi * xp.rint(angle * (0.5 / math.pi))


class Generator:
    """The generator that a stage describes: pure functions for NumPy and JAX.

    Args:
        stage: The stage.

    Attributes:
        feet: Number of feet, n.
        legs: Their kinematics.
        offsets: By how much each is ahead of the clock, in parts of a cycle, uint32 (n,).
        middle: Positions of the feet in the pose, m, (n, 3) float32.
    """

    def __init__(self, stage: FootTrajectories):
        self.feet = len(stage.legs)
        self.legs = Legs(stage.legs)
        self.middle = self.legs.positions(self.legs.pose).astype(np.float32)
        self._up = np.array([[0.0, 0.0, stage.height]], np.float32)
        self._frequency_scale, self._foot_scale = np.float32(stage.frequency_scale), np.float32(stage.foot_scale)
        self._lead, self._cycle = np.float32(stage.lead), np.float32(1.0 / stage.frequency)
        self.offsets = np.array([parts(offset) for offset in stage.offset], np.uint32)

    def frequencies(self, action: Any, base: Any) -> Any:
        """Return the frequencies of the feet, Hz, (n,).

        Args:
            action: Of the policy, in [-1, 1], (4 n,) float32.
            base: That of the clock, f₀, Hz, (), float32; 0 at rest.
        """
        return base + self._frequency_scale * action[: self.feet]

    def joint_targets(self, xp: Any, action: Any, turns: Any, base: Any, velocity: Any = None) -> Any:
        """Return joint targets, rad, (3 n,) float32.

        Args:
            xp: `numpy` or `jax.numpy`.
            action: Of the policy, in [-1, 1]: frequencies (n,), then offsets of feet (n, 3), float32.
            turns: Phases of the feet, in parts of a cycle, uint32 (n,).
            base: Frequency of the clock, f₀, Hz, (), float32; 0 at rest.
            velocity: By which feet on the ground go back: forward and leftward, m/s, and yaw rate, rad/s, (3,) float32;
                None for steps on the spot.
        """
        ahead = phases(turns) + self._lead * self.frequencies(action, base)
        phase = ahead - xp.floor(ahead)
        lift = foot_height(xp, phase, 1.0)[:, None] * self._up
        offsets = self._foot_scale * action[self.feet :].reshape(self.feet, 3)
        feet = self.middle + offsets + lift
        return self.legs.joints(xp, feet if velocity is None else feet + self._sweep(xp, phase, velocity))

    def _sweep(self, xp: Any, phase: Any, velocity: Any) -> Any:
        """Return how far feet are ahead of their places, m, (n, 3), at phases in cycles, (n,)."""
        way = self._cycle * foot_way(xp, phase)
        forward, left = velocity[0] - velocity[2] * self.middle[:, 1], velocity[1] + velocity[2] * self.middle[:, 0]
        return xp.stack([way * forward, way * left, xp.zeros_like(way)], axis=1)


generator_of = cache(Generator)
"""The generator of a stage, made once."""
