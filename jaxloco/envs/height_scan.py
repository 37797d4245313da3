"""Quantities of the ground: a scan of heights around the robot, and how high each part of it is."""

from dataclasses import dataclass

import jax
import numpy as np

from jaxloco.envs.ground import Ground, around, scan_points
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot
from jaxloco.symmetry import Mirror

MOST_POINTS = 10_000
"""Most points of a scan."""


@dataclass(frozen=True)
class HeightScan:
    """A grid of points around the base, turned with its yaw.

    Attributes:
        behind: Reach backward, m.
        ahead: Reach forward, m.
        aside: Reach to each side, m.
        spacing: Largest distance between neighbouring points, m.
    """

    behind: float = 0.6
    ahead: float = 1.0
    aside: float = 0.4
    spacing: float = 0.2

    def __post_init__(self) -> None:
        if not (self.spacing > 0.0 and self.ahead + self.behind >= 0.0 and self.aside >= 0.0):
            raise ConfigError(
                f"height scan from {-self.behind} to {self.ahead} m, {self.aside} m aside, every {self.spacing} m: "
                "a spacing above 0 and ends in order are needed, such as HeightScan()"
            )
        length, width = (side / self.spacing for side in (self.ahead + self.behind, 2 * self.aside))
        if (1.0 + length) * (1.0 + width) > MOST_POINTS:
            raise ConfigError(
                f"height scan of {length:.3g} × {width:.3g} points, expected at most {MOST_POINTS} in all; "
                "write a larger spacing, such as 0.2"
            )

    @property
    def lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Places forward, (nx,), and leftward, (ny,), of the base, m."""
        counts = [1 + int(np.ceil(side / self.spacing - 1e-9)) for side in (self.ahead + self.behind, 2 * self.aside)]
        return np.linspace(-self.behind, self.ahead, counts[0]), np.linspace(-self.aside, self.aside, counts[1])

    @property
    def points(self) -> np.ndarray:
        """All points, m, (nx × ny, 2): those of the rearmost line come first, from right to left."""
        return scan_points(*self.lines)

    @property
    def mirror(self) -> Mirror:
        """How the points swap when left and right do."""
        nx, ny = (len(line) for line in self.lines)
        permutation = np.arange(nx * ny).reshape(nx, ny)[:, ::-1].ravel()
        return Mirror(permutation, np.ones(nx * ny))


def ground_quantities(robot: Robot, ground: Ground, scan: HeightScan) -> tuple[Quantity, ...]:
    """Return what can be known about the ground below a robot; nothing for a robot without a base."""
    if robot.base_body is None:
        return ()
    base = int(robot.base_qpos_indices[0])
    points = scan.points

    def height_scan(s: Snapshot) -> jax.Array:
        pose = s.physics.qpos[base : base + 7]
        return around(ground, pose, points) - pose[2]

    def body_heights(s: Snapshot) -> jax.Array:
        positions = s.readings["xpos"][1:]
        return positions[:, 2] - ground.heights(positions[:, :2])

    return (
        Quantity("height_scan", "m", "base", True, height_scan, mirror=lambda _: scan.mirror),
        Quantity("body_heights", "m", "ground", False, body_heights, readings=("xpos",)),
    )
