"""The way along a strip of terrain, as a velocity command: towards the next waypoint, at a speed drawn per episode.

After Cheng et al. 2024, "Extreme Parkour with Legged Robots" (arXiv:2309.14341).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.ground import heading
from jaxloco.envs.quantities import Quantity
from jaxloco.robot import Robot
from jaxloco.terrain import Terrain, waypoints

REACH = 0.2
"""Distance before a waypoint, along the strip, at which it counts as reached, m (Cheng et al. 2024)."""

GAIN = 2.0
"""Yaw rate commanded for an angle of 1 rad to the next waypoint, rad/s."""

PROGRESS = "strip_progress"
"""Share of the waypoints that were reached."""

ARRIVED = "strip_arrived"
"""Time since the last waypoint was reached, s."""


class Way(NamedTuple):
    """How far a robot has come on its strip.

    Attributes:
        value: The command: m/s forward and leftward, and the yaw rate, rad/s, (3,).
        speed: On the way, m/s, ().
        strip: Which strip: its level times the number of kinds, plus its kind, int32, ().
        reached: Waypoints reached, int32, ().
        arrived: Time since the last one was, s, ().
    """

    value: jax.Array
    speed: jax.Array
    strip: jax.Array
    reached: jax.Array
    arrived: jax.Array


@dataclass(frozen=True)
class Waypoints(Command):
    """A velocity command that leads a robot along the strip that it starts on; zero at its end.

    `ranges` are the bounds of the command.

    Attributes:
        terrain: The strips.
        speed: On the way, m/s.
    """

    terrain: Terrain = Terrain()
    speed: Range = Range(0.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._points()

    def _points(self) -> np.ndarray:
        """Return the waypoints of each strip, m, (strips, W, 2)."""
        points = waypoints(self.terrain)
        return points.reshape(-1, *points.shape[2:]).astype(np.float32)

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the command, and how far the robot has come."""
        count = self._points().shape[1]
        progress = Quantity(PROGRESS, "", "", False, lambda s: s.reached / jnp.float32(count), mirror="even")
        arrived = Quantity(ARRIVED, "s", "", False, lambda s: s.arrived, mirror="even")
        return (*super().quantities(robot), progress, arrived)

    def start(self, sampler: Sampler, base_position: jax.Array, base_orientation: jax.Array) -> Way:  # type: ignore[override]
        """Find the strip that the robot is on, and draw its speed."""
        terrain = self.terrain
        corner = np.array(terrain.centre(0, 0)) - 0.5 * np.array(terrain.sides)
        place = jnp.floor((base_position[:2] - jnp.asarray(corner, jnp.float32)) / jnp.array(terrain.sides))
        last = jnp.array([terrain.levels - 1, len(terrain.kinds) - 1], jnp.float32)
        level, kind = jnp.clip(place, 0.0, last).astype(jnp.int32)
        strip = level * len(terrain.kinds) + kind
        way = Way(jnp.zeros(3), sampler.draw(self.speed), strip, jnp.int32(0), jnp.float32(0.0))
        return self.step(way, base_position, base_orientation, 0.0)

    def step(  # type: ignore[override]
        self, state: Way, base_position: jax.Array, base_orientation: jax.Array, dt: jax.Array | float
    ) -> Way:
        """Lead on from where the robot is."""
        points = jnp.asarray(self._points())[state.strip]
        passed = jnp.sum((points[:, 0] < base_position[0] + REACH).astype(jnp.int32))
        reached = jnp.maximum(state.reached, passed)
        offset = points[jnp.minimum(reached, points.shape[0] - 1)] - base_position[:2]
        forward = heading(base_orientation)
        leftward = jnp.stack([-forward[1], forward[0]])
        angle = jnp.arctan2(leftward @ offset, forward @ offset)
        wanted = jnp.stack([state.speed * jnp.cos(angle), state.speed * jnp.sin(angle), GAIN * angle])
        value = jnp.clip(wanted, *(jnp.array([getattr(r, end) for r in self.ranges]) for end in ("low", "high")))
        under_way = reached < points.shape[0]
        arrived = jnp.where(under_way, 0.0, state.arrived + dt)
        return Way(jnp.where(under_way, value, 0.0), state.speed, state.strip, reached, arrived)
