"""What is known of free objects and of fingertips, in the frame of the base.

The frame of a robot fixed to the ground is the world. Others than the robot measure where an object is, such as
cameras, so a policy that reads it needs them too.

Of an object `cube`: `cube_position`, `cube_orientation`, `cube_axes` (its first two axes), `cube_linear_velocity`,
`cube_angular_velocity`, and `cube_height` above the world's origin. Of fingertips: `fingertip_positions`, and
`fingertip_contacts`, which of them touch an object.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.quantities import Quantity, Snapshot, conjugate, multiply_quaternions, rotate, rotate_inverse
from jaxloco.robot import Robot

Vector = Callable[[Snapshot], jax.Array]


def object_quantities(robot: Robot) -> tuple[Quantity, ...]:
    """Return the entries of the table that objects and fingertips give."""
    found = [quantity for each in robot.objects for quantity in _of_object(robot, each.name)]
    return (*found, *(_of_fingertips(robot) if robot.fingertips else ()))


def axes(quaternion: jax.Array) -> jax.Array:
    """Return the first two axes of a frame that `quaternion` (w, x, y, z) rotates there. (4,) → (6,)."""
    return jnp.concatenate([rotate(quaternion, jnp.array(axis)) for axis in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])])


def orientation_of(robot: Robot, name: str) -> Vector:
    """Return what gives an object's orientation in the frame of the base, a quaternion (w, x, y, z), (4,)."""
    own = robot.object_indices(name)[0][3:]

    def orientation(s: Snapshot) -> jax.Array:
        turned = s.physics.qpos[own]
        return turned if robot.base_body is None else multiply_quaternions(conjugate(_base(robot, s)[3:]), turned)

    return orientation


def _of_object(robot: Robot, name: str) -> tuple[Quantity, ...]:
    places, speeds = robot.object_indices(name)
    p, v = int(places[0]), int(speeds[0])

    orientation = orientation_of(robot, name)

    def spin(s: Snapshot) -> jax.Array:
        return rotate(s.physics.qpos[p + 3 : p + 7], s.physics.qvel[v + 3 : v + 6])

    def outside(what: str, unit: str, function: Vector) -> Quantity:
        return Quantity(f"{name}_{what}", unit, "base", True, function, source="external")

    return (
        outside("position", "m", lambda s: _point(robot, s, s.physics.qpos[p : p + 3])),
        outside("orientation", "", orientation),
        outside("axes", "", lambda s: axes(orientation(s))),
        outside("linear_velocity", "m/s", lambda s: _vector(robot, s, s.physics.qvel[v : v + 3])),
        outside("angular_velocity", "rad/s", lambda s: _vector(robot, s, spin(s))),
        Quantity(f"{name}_height", "m", "world", False, lambda s: s.physics.qpos[p + 2]),
    )


def _of_fingertips(robot: Robot) -> tuple[Quantity, ...]:
    model = robot.model
    places = _columns(robot, [f"{tip.name}_tip_position" for tip in robot.fingertips])
    known = {model.sensor(i).name for i in range(model.nsensor)}
    geoms = [geom for each in robot.objects for geom in each.geoms]
    touching = [
        _columns(robot, [name for geom in geoms if (name := f"{tip.name}_{geom}_touch") in known]).ravel()
        for tip in robot.fingertips
    ]

    def positions(s: Snapshot) -> jax.Array:
        points = s.readings["sensordata"][places]
        return jax.vmap(partial(_point, robot, s))(points).ravel()

    def contacts(s: Snapshot) -> jax.Array:
        counts = [jnp.sum(s.readings["sensordata"][columns]) for columns in touching]
        return (jnp.stack(counts) > 0.0).astype(jnp.float32)

    return (
        Quantity("fingertip_positions", "m", "base", True, positions, readings=("sensordata",)),
        Quantity("fingertip_contacts", "", "", False, contacts, readings=("sensordata",)),
    )


def _columns(robot: Robot, names: list[str]) -> np.ndarray:
    """Return where sensors stand in sensordata, (n, size)."""
    sensors = [robot.model.sensor(name) for name in names]
    return np.array([np.arange(int(s.adr[0]), int(s.adr[0]) + int(s.dim[0])) for s in sensors], int)


def _base(robot: Robot, s: Snapshot) -> jax.Array:
    return s.physics.qpos[np.asarray(robot.base_qpos_indices)]


def _point(robot: Robot, s: Snapshot, point: jax.Array) -> jax.Array:
    """Return a point of the world in the frame of the base, (3,)."""
    return point if robot.base_body is None else _vector(robot, s, point - _base(robot, s)[:3])


def _vector(robot: Robot, s: Snapshot, vector: jax.Array) -> jax.Array:
    """Return a vector of the world in the frame of the base, (3,)."""
    return vector if robot.base_body is None else rotate_inverse(_base(robot, s)[3:], vector)
