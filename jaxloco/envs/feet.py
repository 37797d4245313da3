"""Quantities of robots with feet: where each foot is, how it moves, what it touches and since when.

Arrays have one row per foot, in the order of `Robot.feet`. All of it comes from the sensors that `jaxloco.robot` adds.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.ground import FLAT, Ground
from jaxloco.envs.kinematics import foot_chains
from jaxloco.envs.memories import Remembered
from jaxloco.envs.quantities import Quantity, Snapshot, rotate_inverse
from jaxloco.robot import MEET, Robot

CONTACT_FORCE = 1.0
"""Force above which a foot counts as standing, N."""


def foot_quantities(robot: Robot, ground: Ground = FLAT) -> tuple[Quantity, ...]:
    """Return what can be known about the feet of a robot on some ground; nothing for a robot without."""
    if not robot.feet:
        return ()
    feet = len(robot.feet)
    radii = np.array([foot.radius for foot in robot.feet], np.float32)
    geoms = [[f"{geom}_force" for geom in foot.geoms] for foot in robot.feet]
    positions = _sensors(robot, [f"{foot.name}_sole_position" for foot in robot.feet])
    velocities = _sensors(robot, [f"{foot.name}_sole_velocity" for foot in robot.feet])
    contacts = [np.concatenate([_sensors(robot, [name]).reshape(-1, 9) for name in names]) for names in geoms]
    owner = np.repeat(np.eye(feet, dtype=np.float32), [len(places) for places in contacts], axis=1)
    forces = np.concatenate(contacts)
    base = int(robot.base_qpos_indices[0])
    chains = foot_chains(robot)

    def read(indices: np.ndarray) -> Callable[[Snapshot], jax.Array]:
        return lambda s: s.readings["sensordata"][indices]

    def force(s: Snapshot) -> jax.Array:  # MuJoCo gives the force of the foot on the ground
        force, normal, tangent = jnp.split(s.readings["sensordata"][forces], 3, axis=1)
        other = jnp.cross(normal, tangent)
        return -jnp.asarray(owner) @ (force[:, :1] * normal + force[:, 1:2] * tangent + force[:, 2:] * other)

    def contact(foot_forces: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(foot_forces), axis=-1) > CONTACT_FORCE**2

    def in_base(s: Snapshot) -> jax.Array:
        offsets = s.readings["sensordata"][positions] - s.physics.qpos[None, base : base + 3]
        return jax.vmap(rotate_inverse, (None, 0))(s.physics.qpos[base + 3 : base + 7], offsets)

    sensed = ("sensordata",)
    return (
        Quantity("foot_positions", "m", "world", False, read(positions), readings=sensed),
        Quantity("foot_positions_in_base", "m", "base", False, in_base, readings=sensed, mirror="polar of feet"),
        Quantity("foot_velocities", "m/s", "world", False, read(velocities), readings=sensed),
        Quantity("foot_forces", "N", "world", False, force, readings=sensed),
        Quantity(
            "foot_heights",
            "m",
            "ground",
            False,
            lambda foot_positions: foot_positions[:, 2] - radii - ground.heights(foot_positions[:, :2]),
            True,
            mirror="feet",
        ),
        Quantity("foot_contacts", "", "", False, contact, derived=True, mirror="feet"),
        Quantity(
            "feet_on_edges",
            "",
            "",
            False,
            lambda foot_positions, foot_contacts: foot_contacts & ground.on_edge(foot_positions[:, :2]),
            True,
            mirror="feet",
        ),
        _touching(robot, "body_contacts", "_touch"),
        _touching(robot, "self_contacts", MEET),
        Quantity("foot_targets", "m", "base", True, lambda target: chains(target), True, mirror="polar of feet"),
    )


def foot_memories(robot: Robot) -> tuple[Remembered, ...]:
    """Return what can be remembered about the feet and joints of a robot."""
    joints = (
        Remembered(
            "previous_joint_velocities",
            "rad/s",
            "joint",
            lambda joint_velocities: joint_velocities,
            lambda joint_velocities: joint_velocities,
            mirror="joints",
        ),
    )
    if not robot.feet:
        return joints
    return (
        *joints,
        Remembered("previous_foot_contacts", "", "", _as_now, _as_now, mirror="feet"),
        Remembered("previous_foot_velocities", "m/s", "world", _velocities_now, _velocities_now),
        Remembered("air_times", "s", "", _no_time, air_times_after, mirror="feet"),
        Remembered("contact_times", "s", "", _no_time, contact_times_after, mirror="feet"),
        Remembered("swing_peaks", "m", "ground", _no_time, swing_peaks_after, mirror="feet"),
        Remembered("previous_foot_targets", "m", "base", _two_targets, _shift_targets),
    )


def air_times_after(air_times: jax.Array, foot_contacts: jax.Array, dt: jax.Array) -> jax.Array:
    """Return for how long each foot has been in the air, s: (n,)."""
    return jnp.where(foot_contacts, 0.0, air_times + dt)


def contact_times_after(contact_times: jax.Array, foot_contacts: jax.Array, dt: jax.Array) -> jax.Array:
    """Return for how long each foot has been on the ground, s: (n,)."""
    return jnp.where(foot_contacts, contact_times + dt, 0.0)


def swing_peaks_after(swing_peaks: jax.Array, foot_heights: jax.Array, foot_contacts: jax.Array) -> jax.Array:
    """Return how high each foot has come in this swing, m: (n,)."""
    return jnp.where(foot_contacts, 0.0, jnp.maximum(swing_peaks, foot_heights))


def _as_now(foot_contacts: jax.Array) -> jax.Array:
    return foot_contacts


def _velocities_now(foot_velocities: jax.Array) -> jax.Array:
    return foot_velocities


def _no_time(foot_heights: jax.Array) -> jax.Array:
    return jnp.zeros_like(foot_heights)


def _two_targets(foot_targets: jax.Array) -> jax.Array:
    return jnp.stack([foot_targets, foot_targets])


def _shift_targets(foot_targets: jax.Array, previous_foot_targets: jax.Array) -> jax.Array:
    return jnp.stack([foot_targets, previous_foot_targets[0]])


def _touching(robot: Robot, name: str, ending: str) -> Quantity:
    """Return which of the sensors with this ending of their names count a contact; no rows without such sensors."""
    places = _sensors(robot, [sensor for sensor in _sensor_names(robot) if sensor.endswith(ending)])
    if not len(places):
        return Quantity(name, "", "", False, lambda s: jnp.zeros(0, bool))
    return Quantity(name, "", "", False, lambda s: s.readings["sensordata"][places[:, 0]] > 0, readings=("sensordata",))


def _sensor_names(robot: Robot) -> list[str]:
    return [robot.model.sensor(i).name for i in range(robot.model.nsensor)]


def _sensors(robot: Robot, names: Sequence[str]) -> np.ndarray:
    """Return where the readings of some sensors stand in `sensordata`, one row per sensor."""
    rows = []
    for name in names:
        sensor = robot.model.sensor(name)
        rows.append(np.arange(sensor.adr[0], sensor.adr[0] + sensor.dim[0]))
    return np.array(rows)
