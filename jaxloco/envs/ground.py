"""The ground below robots, in JAX: a level floor, or the grid of heights that MuJoCo collides with."""

import functools
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.curriculum import CurriculumState, Sampler
from jaxloco.terrain import HeightGrid, Terrain, edges

LEVEL, KIND = "terrain_level", "terrain_kind"
"""Names, among the draws of an episode, of the row and the column of its tile."""

Tile = dict[str, jax.Array]
"""Row and column of a tile, int32, () each, under the names above; empty where there are no tiles."""


class Ground(Protocol):
    """What robots stand on. All methods are pure and for one robot."""

    @property
    def terrain(self) -> Terrain:
        """The options that it was made from; no kinds of terrain for a level floor."""
        ...

    def heights(self, points: jax.Array) -> jax.Array:
        """Return the height below each point, m, (n,). Points x, y in the world, m, (n, 2)."""
        ...

    def below(self, pose: jax.Array) -> jax.Array:
        """Return the mean height below a robot with this position and orientation of its base, m, (). Pose (7,)."""
        ...

    def on_edge(self, points: jax.Array) -> jax.Array:
        """Return which points, (n, 2), m, lie on an edge above a wall, (n,)."""
        ...

    def is_off(self, position: jax.Array) -> jax.Array:
        """Return whether a robot with its base at this position, (3,), is beyond the ground, ()."""
        ...

    def tile(self, curriculum: CurriculumState) -> Tile:
        """Return the tile for a robot at a stage of the curriculum."""
        ...

    def place(self, position: jax.Array, tile: Tile, sampler: Sampler) -> jax.Array:
        """Return where the base of a robot begins that would begin at `position` on level ground, m, (3,)."""
        ...


class LevelGround:
    """A level floor at height 0, without end."""

    terrain = Terrain()

    def heights(self, points: jax.Array) -> jax.Array:
        """Return zeros."""
        return jnp.zeros(points.shape[:1])

    def below(self, pose: jax.Array) -> jax.Array:
        """Return zero."""
        return jnp.float32(0.0)

    def on_edge(self, points: jax.Array) -> jax.Array:
        """Return False: it has none."""
        return jnp.zeros(points.shape[:1], bool)

    def is_off(self, position: jax.Array) -> jax.Array:
        """Return False: it has no end."""
        return jnp.bool_(False)

    def tile(self, curriculum: CurriculumState) -> Tile:
        """Return nothing."""
        return {}

    def place(self, position: jax.Array, tile: Tile, sampler: Sampler) -> jax.Array:
        """Return the same position."""
        return position


FLAT = LevelGround()
"""The level floor."""


class GridGround:
    """Heights by interpolation, on the triangles of MuJoCo and MJX: each cell is cut from its low to its high x, y.

    Args:
        terrain: The options that it was made from.
        grid: The heights.
        footprint: Where the feet stand in the default pose, base frame, m, (n, 2).
    """

    def __init__(self, terrain: Terrain, grid: HeightGrid, footprint: np.ndarray) -> None:
        self.terrain, self.grid = terrain, grid
        self._heights = jax.device_put(grid.heights)
        low, high = footprint.min(axis=0), footprint.max(axis=0)
        steps = np.linspace(0.0, 1.0, 3)
        self._underside = scan_points((low[0] + (high[0] - low[0]) * steps), (low[1] + (high[1] - low[1]) * steps))
        reach = float(np.linalg.norm(np.abs(footprint), axis=1).max()) + 0.1
        self._reach = math.ceil(reach / grid.cell)

    def heights(self, points: jax.Array) -> jax.Array:
        """Return the height below each point, m, (n,); beyond the grid, that of its edge."""
        place = (points - jnp.array([self.grid.origin], jnp.float32)) / self.grid.cell
        last = jnp.array([self._heights.shape[::-1]], jnp.float32) - 1.0
        place = jnp.clip(place, 0.0, last)
        index = jnp.minimum(jnp.floor(place), last - 1.0)
        u, v = (place - index).T
        corners = jax.vmap(self._corners)(index.astype(jnp.int32))
        low, high = corners[:, 0, 0], corners[:, 1, 1]
        along_x, along_y = corners[:, 0, 1], corners[:, 1, 0]
        right = low + u * (along_x - low) + v * (high - along_x)
        left = low + v * (along_y - low) + u * (high - along_y)
        return jnp.where(u >= v, right, left)

    def _corners(self, index: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(self._heights, (index[1], index[0]), (2, 2), allow_negative_indices=False)

    def below(self, pose: jax.Array) -> jax.Array:
        """Return the mean height over nine points between the feet of the default pose, m, ()."""
        return jnp.mean(around(self, pose, self._underside))

    @functools.cached_property
    def _edges(self) -> np.ndarray:
        return edges(self.grid)

    def on_edge(self, points: jax.Array) -> jax.Array:
        """Return which points lie within `jaxloco.terrain.EDGE` of a wall, on its high side, (n,)."""
        place = jnp.round((points - jnp.array([self.grid.origin], jnp.float32)) / self.grid.cell)
        last = jnp.array([self._edges.shape[::-1]], jnp.float32) - 1.0
        column, row = jnp.clip(place, 0.0, last).astype(jnp.int32).T
        return jnp.asarray(self._edges)[row, column]

    def is_off(self, position: jax.Array) -> jax.Array:
        """Return whether the base is beyond the middle of the border, or below all ground, ()."""
        edge = 0.5 * (jnp.array(self.terrain.extent, jnp.float32) - self.terrain.border)
        lowest = jnp.float32(float(self.grid.heights.min()))
        return jnp.any(jnp.abs(position[:2]) > edge) | (position[2] < lowest)

    def tile(self, curriculum: CurriculumState) -> Tile:
        """Return the row for a robot's success from 0 to 1, and the column for its kind."""
        row = jnp.round(curriculum.success * (self.terrain.levels - 1))
        return {LEVEL: row.astype(jnp.int32), KIND: curriculum.kind}

    def place(self, position: jax.Array, tile: Tile, sampler: Sampler) -> jax.Array:
        """Return where the base begins, m, (3,): where its tile says, as high above the highest point there."""
        first, sides = (jnp.array(pair, jnp.float32) for pair in (self.terrain.start(0, 0), self.terrain.sides))
        middle = first + jnp.stack([tile[LEVEL], tile[KIND]]).astype(jnp.float32) * sides
        spread = 0.25 * self.terrain.platform * (2.0 * sampler.unit((2,)) - 1.0)
        point = position[:2] + middle + spread
        return jnp.concatenate([point, (position[2] + self.highest(point))[None]])

    def highest(self, point: jax.Array) -> jax.Array:
        """Return the largest height within a robot's reach of a point, m, (). Point x, y, m, (2,)."""
        place = jnp.floor((point - jnp.array(self.grid.origin, jnp.float32)) / self.grid.cell).astype(jnp.int32)
        side = 2 * self._reach + 2
        size = tuple(min(side, count) for count in self._heights.shape)
        corner = (place[1] - self._reach, place[0] - self._reach)
        return jnp.max(jax.lax.dynamic_slice(self._heights, corner, size, allow_negative_indices=False))


def around(ground: Ground, pose: jax.Array, offsets: np.ndarray) -> jax.Array:
    """Return the height at points beside a robot, m, (n,).

    Args:
        ground: What it stands on.
        pose: Position and orientation of the base, (7,).
        offsets: Points forward and leftward of the base, turned with its yaw, m, (n, 2).
    """
    forward = heading(pose[3:7])
    leftward = jnp.stack([-forward[1], forward[0]])
    return ground.heights(pose[None, :2] + jnp.asarray(offsets, jnp.float32) @ jnp.stack([forward, leftward]))


def heading(orientation: jax.Array) -> jax.Array:
    """Return the horizontal direction that a base with this orientation (w, x, y, z) looks in. (4,) → (2,)."""
    w, x, y, z = orientation
    forward = jnp.stack([1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z)])
    return forward / jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(forward)), 1e-12))


def scan_points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return all points of a grid, m, (len(x) × len(y), 2): those of the first x come first."""
    return np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
