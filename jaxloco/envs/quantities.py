"""The table of named quantities of a robot.

Each entry has a name, a unit, a frame and whether the robot itself can measure it. Scalars have shape (), vectors (n,).
Tasks add entries of their own, computed from named ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.envs.ground import FLAT, Ground
from jaxloco.envs.terms import Bound, bind
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.physics import PhysicsState
from jaxloco.physics.contract import ModelParams, Readings
from jaxloco.robot import Robot
from jaxloco.symmetry import MirrorOf

Source = Literal["sensor", "command", "external", "policy"]


class Snapshot(NamedTuple):
    """All that quantities are computed from, for one robot at one time.

    Attributes:
        physics: State after the step.
        readings: Derived fields after the step.
        params: Model fields of this episode.
        action: The action applied, clipped to [-1, 1], (n_action,).
        previous_action: The one before, (n_action,).
        target: What the action pipeline made of the action, (n_outputs,), SI.
        push: External force on the base, world frame, (3,), N.
        processes: States by name of those processes that have begun; see `jaxloco.envs.processes`.
        time: Seconds since the episode began, ().
    """

    physics: PhysicsState
    readings: Readings
    params: ModelParams
    action: jax.Array
    previous_action: jax.Array
    target: jax.Array
    push: jax.Array
    processes: Mapping[str, Any]
    time: jax.Array


@dataclass(frozen=True)
class Quantity:
    """One entry of the table.

    Attributes:
        name: How terms call it.
        unit: SI unit, "" for none.
        frame: Frame it is expressed in, "" where there is none.
        measurable: Whether the robot can know it from its own sensors.
        function: From a `Snapshot`, or, with `derived`, from other quantities by parameter name.
        derived: See `function`.
        readings: Derived MuJoCo fields that the engine must read back for it.
        mirror: How its value changes when left and right swap, one of `jaxloco.envs.mirrors.MIRRORS`, or what makes the
            mirror; "" if unknown.
        source: Where the robot's program gets it: a "sensor", a "command" from outside, "external" for what others
            than the robot measure (where an object is), or "policy" for what the policy computes itself (its last
            action, its outputs, the gait clock).
    """

    name: str
    unit: str
    frame: str
    measurable: bool
    function: Callable[..., jax.Array]
    derived: bool = False
    readings: tuple[str, ...] = ()
    mirror: str | MirrorOf = ""
    source: Source = "sensor"

    def __post_init__(self) -> None:
        if self.source not in get_args(Source):
            raise unknown_name(f"source of quantity {self.name!r}", self.source, get_args(Source))


class QuantityTable:
    """The quantities of one robot and task, by name."""

    def __init__(self, quantities: tuple[Quantity, ...]) -> None:
        self._entries: dict[str, Quantity] = {}
        self._bound: dict[str, Bound] = {}
        for quantity in quantities:
            if quantity.name in self._entries:
                raise ConfigError(f"quantity {quantity.name!r} is defined twice")
            if quantity.derived:
                what = f"quantity {quantity.name!r}"
                self._bound[quantity.name] = bind(quantity.function, self._entries.keys(), what=what)
            self._entries[quantity.name] = quantity

    def __getitem__(self, name: str) -> Quantity:
        return self._entries[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Every known name."""
        return tuple(self._entries)

    def needed(self, names: set[str]) -> set[str]:
        """Return these quantities and all that they are derived from."""
        found: set[str] = set()
        for name in names:
            sources = self._bound[name].sources.values() if name in self._bound else ()
            found |= {name} | self.needed(set(sources))
        return found

    def readings(self, names: set[str]) -> tuple[str, ...]:
        """Return the derived MuJoCo fields that these quantities need."""
        return tuple(sorted({reading for name in self.needed(names) for reading in self._entries[name].readings}))

    def at(self, snapshot: Snapshot) -> "Values":
        """Return the quantities of a snapshot, each computed when first read."""
        return Values(self, snapshot)

    def compute(self, name: str, values: "Values") -> jax.Array:
        """Compute one quantity."""
        if name in self._bound:
            value = self._bound[name](values)
            if value is None:
                raise ConfigError(f"quantity {name!r} gives nothing: its function lacks a return")
            return jnp.asarray(value)
        return self._entries[name].function(values.snapshot)


class Values(Mapping[str, jax.Array]):
    """Quantities of one snapshot: a read-only mapping that computes each value once."""

    def __init__(self, table: QuantityTable, snapshot: Snapshot) -> None:
        self._table = table
        self.snapshot = snapshot
        self._cache: dict[str, jax.Array] = {}

    def __getitem__(self, name: str) -> jax.Array:
        if name not in self._cache:
            self._cache[name] = self._table.compute(name, self)
        return self._cache[name]

    def __iter__(self):  # type: ignore[no-untyped-def]
        return iter(self._table.names)

    def __len__(self) -> int:
        return len(self._table.names)


def multiply_quaternions(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the product of two quaternions (w, x, y, z). (4,), (4,) → (4,)."""
    w = a[0] * b[0] - a[1:] @ b[1:]
    v = a[0] * b[1:] + b[0] * a[1:] + jnp.cross(a[1:], b[1:])
    return jnp.concatenate([w[None], v])


def conjugate(quaternion: jax.Array) -> jax.Array:
    """Return the inverse of a rotation (w, x, y, z). (4,) → (4,)."""
    return quaternion * jnp.array([1.0, -1.0, -1.0, -1.0])


def angle_between(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the angle between two orientations (w, x, y, z), rad, from 0 to π. (4,), (4,) → ()."""
    away = multiply_quaternions(conjugate(a), b)
    return 2.0 * jnp.arctan2(jnp.sqrt(jnp.sum(jnp.square(away[1:])) + 1e-12), jnp.abs(away[0]))


def rotate_inverse(quaternion: jax.Array, vector: jax.Array) -> jax.Array:
    """Express a world vector in the frame that `quaternion` (w, x, y, z) rotates into the world. (4,), (3,) → (3,)."""
    w, v = quaternion[0], -quaternion[1:]
    twice = 2.0 * jnp.cross(v, vector)
    return vector + w * twice + jnp.cross(v, twice)


def rotate(quaternion: jax.Array, vector: jax.Array) -> jax.Array:
    """Express a vector of the frame that `quaternion` (w, x, y, z) rotates in the world. (4,), (3,) → (3,)."""
    return rotate_inverse(conjugate(quaternion), vector)


def pitch_angle(quaternion: jax.Array) -> jax.Array:
    """Return the pitch of a base orientation (w, x, y, z), positive when leaning forward. (4,) → (), rad."""
    w, x, y, z = quaternion
    return jnp.arcsin(jnp.clip(2.0 * (w * y - z * x), -1.0, 1.0))


def roll_angle(quaternion: jax.Array) -> jax.Array:
    """Return the roll of a base orientation (w, x, y, z). (4,) → (), rad."""
    w, x, y, z = quaternion
    return jnp.arctan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y))


def standard_quantities(robot: Robot, ground: Ground = FLAT) -> tuple[Quantity, ...]:
    """Return the quantities that follow from what a robot folder describes, and from the ground that it is on."""
    entries = [*_general_quantities(robot.control_dt), *_joint_quantities(robot)]
    if robot.base_body is not None:
        entries += _base_quantities(robot, ground)
    if robot.wheels:
        entries += _wheel_quantities(robot)
    return tuple(entries)


def _general_quantities(control_dt: float) -> list[Quantity]:
    return [
        Quantity("action", "", "", True, lambda s: s.action, mirror="action"),
        Quantity("previous_action", "", "", True, lambda s: s.previous_action, mirror="action"),
        Quantity("last_action", "", "", True, lambda s: s.action, mirror="action", source="policy"),
        Quantity("target", "SI", "", True, lambda s: s.target, mirror="target"),
        Quantity("time", "s", "", True, lambda s: s.time, mirror="even"),
        Quantity("dt", "s", "", True, lambda s: jnp.float32(control_dt), mirror="even"),
        Quantity("push_force", "N", "world", False, lambda s: s.push),
    ]


def _joint_quantities(robot: Robot) -> list[Quantity]:
    qpos_ids, qvel_ids = np.asarray(robot.joint_qpos_indices), np.asarray(robot.joint_qvel_indices)
    default = np.asarray(robot.default_qpos[qpos_ids], np.float32)
    return [
        Quantity("joint_positions", "rad", "joint", True, lambda s: s.physics.qpos[qpos_ids], mirror="joints"),
        Quantity("joint_offsets", "rad", "joint", True, lambda s: s.physics.qpos[qpos_ids] - default, mirror="joints"),
        Quantity("joint_velocities", "rad/s", "joint", True, lambda s: s.physics.qvel[qvel_ids], mirror="joints"),
        Quantity(
            "joint_torques",
            "N m",
            "joint",
            True,
            lambda s: s.readings["actuator_force"],
            readings=("actuator_force",),
            mirror="joints",
        ),
        Quantity("generalized_positions", "m, rad", "world", False, lambda s: s.physics.qpos),
        Quantity("generalized_velocities", "m/s, rad/s", "world", False, lambda s: s.physics.qvel),
    ]


def _base_quantities(robot: Robot, ground: Ground) -> list[Quantity]:
    body = robot.model.body(robot.base_body)
    joint = int(body.jntadr[0])
    if joint < 0 or robot.model.jnt_type[joint] != mujoco.mjtJoint.mjJNT_FREE:
        raise ConfigError(f"robot {robot.name!r}: base body {robot.base_body!r} has no free joint")
    p, v = int(robot.model.jnt_qposadr[joint]), int(robot.model.jnt_dofadr[joint])
    down = jax.device_put(np.array([0.0, 0.0, -1.0], np.float32))

    def orientation(s: Snapshot) -> jax.Array:
        return s.physics.qpos[p + 3 : p + 7]

    def height(s: Snapshot) -> jax.Array:
        return s.physics.qpos[p + 2] - ground.below(s.physics.qpos[p : p + 7])

    return [
        Quantity("base_position", "m", "world", False, lambda s: s.physics.qpos[p : p + 3]),
        Quantity("base_height", "m", "ground", False, height, mirror="even"),
        Quantity("base_orientation", "", "world", True, orientation),
        Quantity("pitch", "rad", "world", True, lambda s: pitch_angle(orientation(s)), mirror="even"),
        Quantity("roll", "rad", "world", True, lambda s: roll_angle(orientation(s)), mirror="odd"),
        Quantity("projected_gravity", "", "base", True, lambda s: rotate_inverse(orientation(s), down), mirror="polar"),
        Quantity(
            "base_angular_velocity", "rad/s", "base", True, lambda s: s.physics.qvel[v + 3 : v + 6], mirror="axial"
        ),
        Quantity("pitch_velocity", "rad/s", "base", True, lambda s: s.physics.qvel[v + 4], mirror="even"),
        Quantity(
            "base_linear_velocity",
            "m/s",
            "base",
            False,
            lambda s: rotate_inverse(orientation(s), s.physics.qvel[v : v + 3]),
            mirror="polar",
        ),
        Quantity(
            "push_force_in_base", "N", "base", False, lambda s: rotate_inverse(orientation(s), s.push), mirror="polar"
        ),
    ]


def _wheel_quantities(robot: Robot) -> list[Quantity]:
    """Wheel odometry as the robot computes it: from joint angles and the NOMINAL wheel radius."""
    columns = robot.joint_indices([wheel.joint for wheel in robot.wheels])
    qpos_ids = np.asarray(robot.joint_qpos_indices)[columns]
    qvel_ids = np.asarray(robot.joint_qvel_indices)[columns]
    gain = np.array([w.forward_sign * w.radius / len(robot.wheels) for w in robot.wheels], np.float32)
    return [
        Quantity("ground_position", "m", "ground", True, lambda s: gain @ s.physics.qpos[qpos_ids]),
        Quantity("ground_velocity", "m/s", "ground", True, lambda s: gain @ s.physics.qvel[qvel_ids]),
    ]
