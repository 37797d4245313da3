"""Domain randomization: fresh model fields and a fresh initial state for every episode.

A randomizer is a function of model fields, bound by their MuJoCo name, that returns the fields it changes. Parameters
of actuators are such fields too, named `<actuator>_<parameter>`, (nu,). Each episode begins with the nominal model, so
draws never compound.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.ground import Ground, Tile
from jaxloco.envs.quantities import multiply_quaternions
from jaxloco.envs.terms import Bound, bind
from jaxloco.envs.whole_motors import check_randomizer
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.loops import followers
from jaxloco.physics.contract import ModelParams, model_field
from jaxloco.physics.motors import Motors
from jaxloco.robot import Robot


@dataclass(frozen=True)
class Randomizer:
    """One way in which the model of an episode differs from the nominal one.

    Attributes:
        name: For messages and logs.
        function: Takes `draw(range, shape)`, model fields by name and `constants`; returns changed fields by name.
        constants: Fixed parameters.
    """

    name: str
    function: Callable[..., Mapping[str, jax.Array]]
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        factor = self.constants.get("factor")
        if isinstance(factor, Range) and factor.ends[0] <= 0.0:
            raise ConfigError(f"randomization {self.name!r}: factor from {factor.ends[0]:g}: must be above 0")


class RandomizedModel:
    """The randomizers of a task, bound to a robot and its motors."""

    def __init__(self, robot: Robot, randomizers: Sequence[Randomizer], motors: Motors | None = None) -> None:
        model_fields = _float_fields(robot) | set(motors.parameters if motors else ())
        self._bound: list[tuple[str, Bound]] = []
        fields: list[str] = []
        for randomizer in randomizers:
            what = f"randomization {randomizer.name!r}"
            bound = bind(
                randomizer.function,
                model_fields,
                what=what,
                kind="model field",
                constants=randomizer.constants,
                given=("draw",),
            )
            self._bound.append((randomizer.name, bound))
            fields += [name for name in bound.sources.values() if name not in fields]
        self.fields = tuple(fields)
        self._check(robot, motors)

    def _check(self, robot: Robot, motors: Motors | None) -> None:
        nominal = {name: jnp.asarray(model_field(robot.model, name, motors), jnp.float32) for name in self.fields}
        for name, bound in self._bound:
            check_randomizer(name, bound, nominal, motors)

    def draw(self, nominal: ModelParams, sampler: Sampler) -> ModelParams:
        """Return the fields of a new episode, each shaped as in the model."""
        params = dict(nominal)
        for name, bound in self._bound:
            changed = bound(params, draw=sampler.draw)
            _check_changed(name, changed, params)
            params.update(changed)
        return params


def _check_changed(name: str, changed: Any, params: ModelParams) -> None:
    if not isinstance(changed, Mapping):
        raise ConfigError(f"randomization {name!r} must return the fields that it changes by name, {{'body_mass': …}}")
    for changed_field, value in changed.items():
        if changed_field not in params:
            raise unknown_name(f"field returned by randomization {name!r}", changed_field, params)
        if jnp.shape(value) != params[changed_field].shape:
            raise ConfigError(
                f"randomization {name!r} gives {changed_field} the shape {jnp.shape(value)}, but the model's is "
                f"{params[changed_field].shape}"
            )


def _float_fields(robot: Robot) -> set[str]:
    model = robot.model
    names = {name for name in dir(model) if name.startswith(("body_", "geom_", "dof_", "actuator_", "jnt_", "pair_"))}
    return {name for name in names if np.asarray(getattr(model, name)).dtype.kind == "f"}


# Inertias


def scale_masses(
    body_mass: jax.Array, body_inertia: jax.Array, *, draw: Callable[..., jax.Array], factor: Range
) -> ModelParams:
    """Scale mass and inertia of each body by its own factor (density): (nbody,), (nbody, 3)."""
    factors = draw(factor, body_mass.shape)
    return {"body_mass": body_mass * factors, "body_inertia": body_inertia * factors[:, None]}


def scale_inertias(body_inertia: jax.Array, *, draw: Callable[..., jax.Array], factor: Range) -> ModelParams:
    """Scale the inertia of each body by its own factor, its mass unchanged (mass distribution): (nbody, 3)."""
    return {"body_inertia": body_inertia * draw(factor, body_inertia.shape[:1])[:, None]}


def shift_center_of_mass(
    body_ipos: jax.Array, *, draw: Callable[..., jax.Array], body: int, offset: Sequence[Range]
) -> ModelParams:
    """Move the centre of mass of one body by one range per axis, m: (nbody, 3)."""
    shift = jnp.stack([draw(span) for span in offset])
    return {"body_ipos": body_ipos.at[body].add(shift)}


def add_payload(
    body_mass: jax.Array, body_inertia: jax.Array, *, draw: Callable[..., jax.Array], body: int, mass: Range
) -> ModelParams:
    """Add a mass, kg, at the centre of mass of one body; its inertia grows in proportion: (nbody,), (nbody, 3).

    Below zero the body is lighter, but never by more than nine tenths.
    """
    factor = jnp.maximum((body_mass[body] + draw(mass)) / body_mass[body], 0.1)
    return {
        "body_mass": body_mass.at[body].multiply(factor),
        "body_inertia": body_inertia.at[body].multiply(factor),
    }


# Joints


def scale_joint_friction(dof_frictionloss: jax.Array, *, draw: Callable[..., jax.Array], factor: Range) -> ModelParams:
    """Scale the dry friction of each joint by a factor of its own: (nv,)."""
    return {"dof_frictionloss": dof_frictionloss * draw(factor, dof_frictionloss.shape)}


def scale_armature(dof_armature: jax.Array, *, draw: Callable[..., jax.Array], factor: Range) -> ModelParams:
    """Scale the reflected rotor inertia of each joint by a factor of its own: (nv,)."""
    return {"dof_armature": dof_armature * draw(factor, dof_armature.shape)}


def scale_joint_damping(dof_damping: jax.Array, *, draw: Callable[..., jax.Array], factor: Range) -> ModelParams:
    """Scale the viscous friction of each joint by a factor of its own, not the servo's velocity gain: (nv,)."""
    return {"dof_damping": dof_damping * draw(factor, dof_damping.shape)}


# Geometry


def scale_wheels(
    geom_size: jax.Array, geom_rbound: jax.Array, *, draw: Callable[..., jax.Array], geoms: Sequence[int], factor: Range
) -> ModelParams:
    """Scale the radius of the wheel geoms by one factor: (ngeom, 3), (ngeom,)."""
    ids, scale = np.asarray(geoms), draw(factor)
    return {
        "geom_size": geom_size.at[ids, 0].multiply(scale),
        "geom_rbound": geom_rbound.at[ids].multiply(scale),
    }


def scale_lengths(
    body_pos: jax.Array, *, draw: Callable[..., jax.Array], bodies: Sequence[int], factor: Range
) -> ModelParams:
    """Scale how far bodies sit from their parents by one factor (leg length): (nbody, 3)."""
    return {"body_pos": body_pos.at[np.asarray(bodies)].multiply(draw(factor))}


def scale_object(
    geom_size: jax.Array,
    geom_rbound: jax.Array,
    body_inertia: jax.Array,
    *,
    draw: Callable[..., jax.Array],
    geoms: Sequence[int],
    body: int,
    factor: Range,
) -> ModelParams:
    """Scale the shapes of one body about their own centres, its mass unchanged: (ngeom, 3), (ngeom,), (nbody, 3)."""
    ids, scale = np.asarray(geoms), draw(factor)
    return {
        "geom_size": geom_size.at[ids].multiply(scale),
        "geom_rbound": geom_rbound.at[ids].multiply(scale),
        "body_inertia": body_inertia.at[body].multiply(jnp.square(scale)),
    }


def scale_object_of_parts(
    geom_size: jax.Array,
    geom_rbound: jax.Array,
    geom_pos: jax.Array,
    body_ipos: jax.Array,
    body_inertia: jax.Array,
    *,
    draw: Callable[..., jax.Array],
    geoms: Sequence[int],
    body: int,
    factor: Range,
) -> ModelParams:
    """Scale one body about its origin, its mass unchanged: `scale_object`, and where its parts and its centre are.

    (ngeom, 3), (ngeom,), (ngeom, 3), (nbody, 3), (nbody, 3).
    """
    ids, scale = np.asarray(geoms), draw(factor)
    about_centres = scale_object(
        geom_size, geom_rbound, body_inertia, draw=lambda _: scale, geoms=geoms, body=body, factor=factor
    )
    return {
        **about_centres,
        "geom_pos": geom_pos.at[ids].multiply(scale),
        "body_ipos": body_ipos.at[body].multiply(scale),
    }


# Actuation


def scale_gains(
    actuator_gainprm: jax.Array,
    actuator_biasprm: jax.Array,
    *,
    draw: Callable[..., jax.Array],
    actuators: Sequence[int],
    factor: Range,
) -> ModelParams:
    """Scale the feedback gains of actuators by one factor; limits stay: (nu, 10), (nu, 10)."""
    ids, scale = np.asarray(actuators), draw(factor)
    return {
        "actuator_gainprm": actuator_gainprm.at[ids].multiply(scale),
        "actuator_biasprm": actuator_biasprm.at[ids].multiply(scale),
    }


def scale_damping(
    actuator_biasprm: jax.Array, *, draw: Callable[..., jax.Array], actuators: Sequence[int], factor: Range
) -> ModelParams:
    """Scale the velocity feedback of actuators alone by one factor: (nu, 10)."""
    return {"actuator_biasprm": actuator_biasprm.at[np.asarray(actuators), 2].multiply(draw(factor))}


def scale_torques(
    actuator_gainprm: jax.Array,
    actuator_biasprm: jax.Array,
    actuator_forcerange: jax.Array,
    *,
    draw: Callable[..., jax.Array],
    factor: Range,
) -> ModelParams:
    """Each motor gives (1 ± ε) times its commanded torque, limits included: (nu, 10), (nu, 10), (nu, 2)."""
    scale = draw(factor, actuator_gainprm.shape[:1])[:, None]
    return {
        "actuator_gainprm": actuator_gainprm * scale,
        "actuator_biasprm": actuator_biasprm * scale,
        "actuator_forcerange": actuator_forcerange * scale,
    }


# Ground


def scale_friction(pair_friction: jax.Array, *, draw: Callable[..., jax.Array], factor: Range) -> ModelParams:
    """Scale the friction of all contact pairs by one factor: (npair, 5)."""
    return {"pair_friction": pair_friction * draw(factor)}


def set_friction(pair_friction: jax.Array, *, draw: Callable[..., jax.Array], value: Range) -> ModelParams:
    """Give all contact pairs the same sliding friction, along both tangents: (npair, 5)."""
    return {"pair_friction": pair_friction.at[:, :2].set(draw(value))}


def set_restitution(pair_solref: jax.Array, *, draw: Callable[..., jax.Array], value: Range) -> ModelParams:
    """Let all contact pairs bounce with the same restitution: the share of its speed that a body keeps, 0.135 to 1.

    A contact is a spring and damper of time constant t and damping ratio 1 (`solref`), which lets go when its force is
    zero. The spring stays; the damping becomes ζ times as strong: (t / ζ, ζ). What is below `restitution(1)` is that:
    MuJoCo's own contacts. (npair, 2).

    Source: MuJoCo's documentation, "Solver parameters".
    """
    ratios = np.linspace(1.0, 1e-3, 256)
    ratio = jnp.interp(draw(value), jnp.asarray(restitution(ratios), jnp.float32), jnp.asarray(ratios, jnp.float32))
    return {"pair_solref": pair_solref * jnp.stack([1.0 / ratio, ratio])[None]}


def restitution(damping_ratio: np.ndarray) -> np.ndarray:
    """Return the share of its speed with which a body leaves a spring and damper that cannot pull, ζ in (0, 1].

    exp(-ζ / √(1 - ζ²) · (π - atan2(2 ζ √(1 - ζ²), 1 - 2 ζ²))), after Schwager and Pöschel 2007, "Coefficient of
    restitution and linear-dashpot model revisited", Granular Matter 9, eq. 21; e⁻² at ζ = 1.

    >>> float(np.round(restitution(np.array(1.0)), 3))
    0.135
    """
    ratio = np.minimum(damping_ratio, 1.0 - 1e-9)
    root = np.sqrt(1.0 - ratio**2)
    return np.exp(-ratio / root * (np.pi - np.arctan2(2.0 * ratio * root, 1.0 - 2.0 * ratio**2)))


# Initial state


@dataclass(frozen=True)
class InitialState:
    """How the state of a new episode differs from the default pose.

    Attributes:
        height: Added to the height of the base, m.
        pitch: Pitch of the base, rad.
        roll: Roll of the base, rad.
        yaw: Direction that the robot looks in, rad.
        forward_velocity: Velocity of the base along where it looks, m/s.
        pitch_velocity: Angular velocity about y, rad/s.
        ground_position: How far the wheels have rolled, m: where odometry begins.
        joint_positions: Added to the default position of each actuated joint, rad or m.
        joint_velocities: Velocity of each actuated joint, rad/s or m/s.
        passive_positions: Added to the position of joints without a motor, rad or m.
        passive_velocities: Velocity of joints without a motor, rad/s or m/s.
        object_positions: Added to each coordinate of where objects begin, m.
        object_heights: Added to the height of where objects begin, m.
        object_turns: Turn of each object about its own z axis, rad.
        objects_tumbled: Give objects any orientation instead, all equally likely.
    """

    height: Range = Range(0.0, 0.0)
    pitch: Range = Range(0.0, 0.0)
    roll: Range = Range(0.0, 0.0)
    yaw: Range = Range(0.0, 0.0)
    forward_velocity: Range = Range(0.0, 0.0)
    pitch_velocity: Range = Range(0.0, 0.0)
    ground_position: Range = Range(0.0, 0.0)
    joint_positions: Range = Range(0.0, 0.0)
    joint_velocities: Range = Range(0.0, 0.0)
    passive_positions: Range = Range(0.0, 0.0)
    passive_velocities: Range = Range(0.0, 0.0)
    object_positions: Range = Range(0.0, 0.0)
    object_heights: Range = Range(0.0, 0.0)
    object_turns: Range = Range(0.0, 0.0)
    objects_tumbled: bool = False

    def draw_on(self, robot: Robot, ground: Ground, tile: Tile, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode on a tile of the ground; objects move with the base."""
        qpos, qvel = self.draw(robot, sampler)
        base = robot.base_qpos_indices[:3]
        place = ground.place(qpos[base], tile, sampler)
        if ground.terrain.kinds:
            for each in robot.objects:
                qpos = qpos.at[robot.object_indices(each.name)[0][:3]].add(place - qpos[base])
        return qpos.at[base].set(place), qvel

    def draw(self, robot: Robot, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode on level ground."""
        return self.around(robot, jnp.asarray(robot.default_qpos, jnp.float32), sampler)

    def around(self, robot: Robot, qpos: jax.Array, sampler: Sampler) -> tuple[jax.Array, jax.Array]:
        """Return qpos (nq,) and qvel (nv,) of a new episode around another pose than the default one, (nq,)."""
        draw = sampler.draw
        qvel = jnp.zeros(robot.model.nv)
        position_ids, velocity_ids = np.asarray(robot.joint_qpos_indices), np.asarray(robot.joint_qvel_indices)
        moved, speeds = (draw(values, position_ids.shape) for values in (self.joint_positions, self.joint_velocities))
        qpos, qvel = qpos.at[position_ids].add(moved), qvel.at[velocity_ids].set(speeds)
        rolled = draw(self.ground_position)
        for wheel in robot.wheels:
            column = int(robot.joint_indices([wheel.joint])[0])
            qpos = qpos.at[position_ids[column]].add(wheel.forward_sign * rolled / wheel.radius)
        position_ids, passive_ids = _passive_indices(robot)
        qpos = qpos.at[position_ids].add(draw(self.passive_positions, position_ids.shape))
        qvel = qvel.at[passive_ids].set(draw(self.passive_velocities, position_ids.shape))
        if robot.model.neq and position_ids.size:  # closed loops stay closed, and joints that mimic others follow
            slopes = jnp.asarray(followers(robot.model, robot.default_qpos, velocity_ids, passive_ids), jnp.float32)
            qpos, qvel = qpos.at[position_ids].add(slopes @ moved), qvel.at[passive_ids].add(slopes @ speeds)
        for each in robot.objects:
            qpos = self._placed(qpos, robot.object_indices(each.name)[0], sampler)
        if robot.base_body is None:
            return qpos, qvel
        p, v = int(robot.base_qpos_indices[0]), int(robot.base_qvel_indices[0])
        tilt = _pitch_roll(draw(self.pitch), draw(self.roll))
        qpos = qpos.at[p + 2].add(draw(self.height))
        qpos = qpos.at[p + 3 : p + 7].set(multiply_quaternions(qpos[p + 3 : p + 7], tilt))
        qvel = qvel.at[v].set(draw(self.forward_velocity))
        qvel = qvel.at[v + 4].set(draw(self.pitch_velocity))
        if self.yaw.ends == (0.0, 0.0):
            return qpos, qvel
        yaw = draw(self.yaw)
        zero, speed = jnp.zeros(()), qvel[v]
        turn = jnp.stack([jnp.cos(yaw / 2), zero, zero, jnp.sin(yaw / 2)])
        qpos = qpos.at[p + 3 : p + 7].set(multiply_quaternions(turn, qpos[p + 3 : p + 7]))
        return qpos, qvel.at[v : v + 2].set(speed * jnp.stack([jnp.cos(yaw), jnp.sin(yaw)]))

    def _placed(self, qpos: jax.Array, places: np.ndarray, sampler: Sampler) -> jax.Array:
        """Return qpos with an object at a drawn position and orientation."""
        moved, angle = sampler.draw(self.object_positions, (3,)), sampler.draw(self.object_turns)
        moved = moved.at[2].add(sampler.draw(self.object_heights))
        zero = jnp.zeros(())
        turned = multiply_quaternions(qpos[places[3:]], jnp.stack([jnp.cos(angle / 2), zero, zero, jnp.sin(angle / 2)]))
        orientation = random_rotation(sampler) if self.objects_tumbled else turned
        return qpos.at[places[:3]].add(moved).at[places[3:]].set(orientation)


def random_rotation(sampler: Sampler, shape: tuple[int, ...] = ()) -> jax.Array:
    """Return quaternions (w, x, y, z), all rotations equally likely, (*shape, 4). Source: Shoemake 1992."""
    share, first, second = jnp.moveaxis(sampler.unit((*shape, 3)), -1, 0)
    first, second = 2.0 * jnp.pi * first, 2.0 * jnp.pi * second
    low, high = jnp.sqrt(1.0 - share), jnp.sqrt(share)
    turned = low * jnp.sin(first), low * jnp.cos(first), high * jnp.sin(second), high * jnp.cos(second)
    return jnp.stack(turned, axis=-1)


def _passive_indices(robot: Robot) -> tuple[np.ndarray, np.ndarray]:
    """Indices of one-degree-of-freedom joints without an actuator."""
    model = robot.model
    single = [j for j in range(model.njnt) if model.jnt_type[j] >= 2]
    passive = [j for j in single if model.jnt_qposadr[j] not in set(np.asarray(robot.joint_qpos_indices).tolist())]
    return np.asarray(model.jnt_qposadr[passive], int), np.asarray(model.jnt_dofadr[passive], int)


def _pitch_roll(pitch: jax.Array, roll: jax.Array) -> jax.Array:
    zero = jnp.zeros(())
    about_y = jnp.stack([jnp.cos(pitch / 2), zero, jnp.sin(pitch / 2), zero])
    about_x = jnp.stack([jnp.cos(roll / 2), jnp.sin(roll / 2), zero, zero])
    return multiply_quaternions(about_y, about_x)
