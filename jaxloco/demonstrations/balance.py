"""Whether a robot can do what a clip asks for: how far its zero-moment point is from what touches the floor.

The zero-moment point is where on the floor the forces of a motion would have to act, angular momentum left out:
p = c - c_z c'' / (g + c_z''), with the centre of mass c (Vukobratović and Borovac 2004). Floors push on soles alone.
"""

import itertools
from typing import NamedTuple

import mujoco
import numpy as np

from jaxloco.demonstrations.motion import Clip, configurations
from jaxloco.robot import Robot

OFF = 0.03
"""Distance from which a frame is out of balance, m."""

TOUCHING = 0.02
"""Height up to which a point of a foot touches the floor, m."""

GRAVITY = 9.81
"""m/s²."""

SPAN = 0.04
"""Time on each side over which accelerations are measured, s."""


class Balance(NamedTuple):
    """How far a clip is out of balance.

    Attributes:
        share: Of the frames in which a foot touches the floor, those whose point is more than `OFF` away.
        distance: The largest, m.
        frame: Where that is.
    """

    share: float
    distance: float
    frame: int

    def __str__(self) -> str:
        return (
            f"the zero-moment point is more than {100 * OFF:g} cm beside the feet in {100 * self.share:.0f} % of the "
            f"frames, most in frame {self.frame}: {100 * self.distance:.1f} cm"
        )


def balance(clip: Clip, robot: Robot) -> Balance:
    """Return how far a checked clip is out of balance; nothing of frames in which no foot touches the floor."""
    model, data = robot.model, mujoco.MjData(robot.model)
    geoms = [model.geom(name).id for foot in robot.feet for name in foot.geoms]
    mass, points = [], []
    for qpos in configurations(clip, robot):
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mass.append(data.subtree_com[0].copy())
        points.append(np.concatenate([_corners(model, data, geom) for geom in geoms]) if geoms else np.zeros((0, 3)))
    found = {
        frame: distance(point, at[at[:, 2] < TOUCHING, :2])
        for frame, (point, at) in enumerate(zip(zero_moment_points(np.array(mass), clip.rate), points, strict=True))
        if (at[:, 2] < TOUCHING).any()
    }
    if not found:
        return Balance(0.0, 0.0, 0)
    worst = max(found, key=lambda frame: found[frame])
    return Balance(float(np.mean([off > OFF for off in found.values()])), found[worst], worst)


def zero_moment_points(mass: np.ndarray, rate: float) -> np.ndarray:
    """Return the zero-moment points, m, (T, 2), of a centre of mass, m, (T, 3), of so many frames per second."""
    frames, reach = np.arange(len(mass)), max(1, round(SPAN * rate))
    before, after = (mass[np.clip(frames + step, 0, len(mass) - 1)] for step in (-reach, reach))
    push = (before - 2.0 * mass + after) * (rate / reach) ** 2
    shift: np.ndarray = mass[:, :2] - mass[:, 2:] * push[:, :2] / np.maximum(GRAVITY + push[:, 2:], 1.0)
    return shift


def distance(point: np.ndarray, corners: np.ndarray) -> float:
    """Return how far a point, (2,), is from the convex hull of others, (n, 2); 0 within it."""
    rays = corners - point
    angles = np.sort(np.arctan2(rays[:, 1], rays[:, 0]))
    gaps = np.diff(angles, append=angles[0] + 2.0 * np.pi)
    if len(corners) > 2 and gaps.max() < np.pi:
        return 0.0
    return min(_to_segment(start, end) for start, end in itertools.combinations_with_replacement(rays, 2))


def _to_segment(start: np.ndarray, end: np.ndarray) -> float:
    """Return the distance of a segment from the origin."""
    along = end - start
    share = np.clip(-start @ along / max(along @ along, 1e-12), 0.0, 1.0)
    return float(np.linalg.norm(start + share * along))


def _corners(model: mujoco.MjModel, data: mujoco.MjData, geom: int) -> np.ndarray:
    """Return the points of a geom that may touch the floor, m, (n, 3): a sphere's lowest, or corners of its box."""
    place, turn = data.geom_xpos[geom], data.geom_xmat[geom].reshape(3, 3)
    if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE:
        return np.array([place - [0.0, 0.0, model.geom_size[geom, 0]]])
    middle, half = model.geom_aabb[geom, :3], model.geom_aabb[geom, 3:]
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    corners: np.ndarray = place + (middle + signs * half) @ turn.T
    return corners
