"""What tasks of legged robots share: observations, actions and domain randomization."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import ANGLE, FRACTION, NOT_NEGATIVE, ORDERED, POSITIVE, Limits
from jaxloco.envs import randomization as rand
from jaxloco.envs.actuators import Actuation, target_drive
from jaxloco.envs.curriculum import Range
from jaxloco.envs.env import ActionSpec
from jaxloco.envs.gaits import foot_action_mirror
from jaxloco.envs.observations import Limit, ObservationGroup, ObservationTerm
from jaxloco.envs.perturbations import Pushes, Support
from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity, Snapshot
from jaxloco.errors import ConfigError
from jaxloco.onboard.spec import Clip, FootTrajectories, OutputSpec, Scale, Stage
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import joint_mirror
from jaxloco.tasks.growing import Durations, Factors, GrowingTask, Span

MAX_TURN_RATE = 50.0
"""Turn rate of the base above which a reading is implausible, rad/s; such robots' gyroscopes read up to 35 rad/s."""

BEYOND_RANGE = 0.5
"""Distance of a joint beyond its range above which a reading is implausible, rad."""

TARGETS, WHEEL_TARGETS = "joint_position_targets", "joint_velocity_targets"
"""Names of the policy's outputs: of the joints that take position targets, and of wheels."""


@dataclass(frozen=True)
class LeggedTask(GrowingTask):
    """Options of a task of a legged robot. Pairs are the two ends of a range drawn per episode.

    Attributes:
        robot: Robot name or folder.
        variant: One of the robot's [variants.<name>], such as full, in which its whole body touches the ground.
        locked: Name patterns of joints, such as those of arms, that the policy does not move: they are held in the
            default pose, beside those that robot.toml locks.
        episode_seconds: Time after which an episode is truncated, s.
        training_seconds: Episode length in training, s.
        action_scale: Offset of a joint target from the default pose for an action of 1, rad.
        history: Frames of observation that the policy sees.
        noise: Factor on the noise of all readings.
        action_delay: Time until a target has effect, s.
        sensor_latency: Age of the readings, s.
        friction: Friction of the floor.
        payload: Mass added to the base, kg.
        com_shift: Half-width of the shift of the base's centre of mass along each axis, m.
        mass_scale: Factor on each body's mass and inertia.
        joint_friction_scale: Factor on each joint's dry friction.
        joint_damping_scale: Factor on each joint's viscous friction (not on the servo's velocity gain).
        armature_scale: Factor on each joint's armature (reflected rotor inertia).
        gain_scale: Factor on the gains of the joints' servos.
        torque_scale: Factor on each motor's torque.
        kick: Largest sudden change of the base's velocity, m/s.
        kick_margin: Factor by which kicks in training may be stronger than in evaluations: what is tested is then well
            inside what was trained on.
        kick_interval: Time between kicks, s.
        restitution: Coefficient of restitution of feet on the floor; 0 keeps MuJoCo's own, 0.135.
        imu_tilt: Half-width of the misalignment of the IMU about each axis, rad.
        support: Stiffness of a torque that holds the base upright early in training, as a fraction of m g h (the
            stiffness that balances gravity). The curriculum fades it out; evaluations have none.
    """

    robot: str = "go1"
    variant: str | None = None
    locked: tuple[str, ...] = ()
    episode_seconds: Annotated[float, POSITIVE] = 20.0
    training_seconds: Annotated[float, POSITIVE] = 10.0
    action_scale: Annotated[float, POSITIVE] = 0.5
    history: Annotated[int, POSITIVE] = 1
    noise: Annotated[float, NOT_NEGATIVE] = 1.0
    action_delay: Durations = (0.0, 0.03)
    sensor_latency: Durations = (0.0, 0.005)
    friction: Annotated[Span, NOT_NEGATIVE, ORDERED] = (0.4, 1.0)
    payload: Annotated[Span, ORDERED] = (-1.0, 1.0)
    com_shift: Annotated[float, NOT_NEGATIVE] = 0.02
    mass_scale: Factors = (0.9, 1.1)
    joint_friction_scale: Factors = (0.3, 3.0)
    joint_damping_scale: Factors = (0.3, 3.0)
    armature_scale: Factors = (0.3, 3.0)
    gain_scale: Factors = (0.9, 1.1)
    torque_scale: Factors = (0.9, 1.1)
    kick: Annotated[float, NOT_NEGATIVE] = 0.5
    kick_margin: Annotated[float, Limits(at_least=1.0)] = 1.0
    kick_interval: Durations = (4.0, 8.0)
    restitution: Annotated[Span, FRACTION, ORDERED] = (0.0, 0.0)
    imu_tilt: Annotated[float, ANGLE] = 0.0
    support: Annotated[float, NOT_NEGATIVE] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("action_delay", "sensor_latency"):
            Limits(at_most=self.episode_seconds).check(name, getattr(self, name))

    def load_robot(self) -> Robot:
        """Load the robot that this task is for."""
        return load_robot(self.robot, self.variant, locked=self.locked)

    def _growable(self) -> tuple[str, ...]:
        return "kicks", "randomization"

    def _proprioception(self, robot: Robot, *more: ObservationTerm, offsets: str = "joint_offsets") -> ObservationGroup:
        """Measurable quantities of the robot and its last action, then `more`; with ranges of plausible readings.

        Args:
            robot: The robot.
            more: Further terms.
            offsets: The quantity that says how far joints that take position targets are from the default pose.
        """
        noise = self.noise
        terms = (
            ObservationTerm("base_angular_velocity", noise=0.2 * noise, bias=0.02 * noise, imu=True),
            ObservationTerm("projected_gravity", noise=0.05 * noise, bias=0.01 * noise, imu=True),
            ObservationTerm(offsets, noise=0.03 * noise, bias=0.01 * noise),
            ObservationTerm("joint_velocities", noise=1.5 * noise),
        )
        limits = plausible_readings(robot)
        believed = (replace(term, low=low, high=high) for term, (low, high) in zip(terms, limits, strict=True))
        return ObservationGroup(
            (*believed, ObservationTerm("last_action"), *more),
            history=self.history,
            latency=Range(*self.sensor_latency),
            noise_level=Range(0.0, 1.0, grows="progress", nominal=0.0, start=0.3),
            misalignment=self.imu_tilt,
        )

    def _randomizers(self, robot: Robot) -> tuple[rand.Randomizer, ...]:
        trunk = robot.model.body(robot.base_body).id
        span = (-self.com_shift, self.com_shift)
        shift = tuple(self._randomized(f"com_shift_{axis}", span) for axis in "xyz")
        gains = {"actuators": tuple(range(robot.model.nu)), **self._factor("gain_scale")}
        make = rand.Randomizer
        bounce: tuple[rand.Randomizer, ...] = ()
        if self.restitution != (0.0, 0.0):
            bounce = (
                make("restitution", rand.set_restitution, {"value": self._randomized("restitution", self.restitution)}),
            )
        return (
            *bounce,
            make("friction", rand.set_friction, {"value": self._randomized("friction", self.friction)}),
            make("masses", rand.scale_masses, self._factor("mass_scale")),
            make("payload", rand.add_payload, {"body": trunk, "mass": self._randomized("payload", self.payload, 0.0)}),
            make("centre of mass", rand.shift_center_of_mass, {"body": trunk, "offset": shift}),
            make("joint friction", rand.scale_joint_friction, self._factor("joint_friction_scale", log=True)),
            make("joint damping", rand.scale_joint_damping, self._factor("joint_damping_scale", log=True)),
            make("armature", rand.scale_armature, self._factor("armature_scale", log=True)),
            make("gains", rand.scale_gains, gains),
            make("torques", rand.scale_torques, self._factor("torque_scale")),
        )

    def _disturbances(self, robot: Robot) -> tuple[Process, ...]:
        """Return the delay of the motors, the kicks and, if there is one, the support."""
        mass, dt = float(np.sum(robot.model.body_mass)), robot.control_dt
        # A kick is a force during one control period that changes the velocity of the nominal robot by so much.
        strongest = self.kick * mass / dt
        training = None if self.kick_margin == 1.0 else (0.0, self.kick_margin * strongest)
        force = self._growing("kicks", Range(0.0, strongest, nominal=0.0, training=training, name="kick"))
        kicks = Pushes(force, Range(dt, dt), Range(*self.kick_interval))
        # The support's torque is held for a control period, so its damping is what a stiff one can have in that time.
        fades: Literal["progress", "success"] = "success" if self.grow_with == "success" else "progress"
        stiffness = self.support * weight_of(robot) * standing_height(robot)
        support = (Support(stiffness, 2.0 * dt * stiffness, fades),) if self.support else ()
        return Actuation(Range(*self.action_delay)), kicks, *support


def plausible_readings(robot: Robot) -> tuple[tuple[Limit, Limit], ...]:
    """Return the lowest and highest plausible readings: turn rate, gravity's direction, joint offsets, velocities.

    They are wider than what a robot that works can do: joints half a radian beyond their ranges, and three times as
    fast as their motors turn.
    """
    held = [robot.joints[i] for i in held_joints(robot)]
    lower = tuple(joint.lower - joint.default - BEYOND_RANGE for joint in held)
    upper = tuple(joint.upper - joint.default + BEYOND_RANGE for joint in held)
    fastest = tuple(3.0 * joint.velocity_limit for joint in robot.joints)
    slowest = tuple(-speed for speed in fastest)
    return (-MAX_TURN_RATE, MAX_TURN_RATE), (-1.5, 1.5), (lower, upper), (slowest, fastest)


def check_bodies_touch(robot: Robot, otherwise: str) -> None:
    """Refuse a model in which nothing but the feet can touch the ground; `jaxloco.robot` names the sensors.

    Args:
        robot: The robot.
        otherwise: What would be wrong then.

    Raises:
        ConfigError: Nothing else can.
    """
    if not any(robot.model.sensor(i).name.endswith("_touch") for i in range(robot.model.nsensor)):
        raise ConfigError(
            f"{otherwise}; nothing but the feet of robot {robot.name!r} can touch the ground; "
            "write --task.variant full, in which its robot.toml says what else does ([variants.full], floor_contacts)"
        )


def check_payload(robot: Robot, payload: Span) -> None:
    """Refuse a payload that takes away more than nine tenths of the base: `add_payload` stops there."""
    mass = float(robot.model.body(robot.base_body).mass[0])
    if payload[0] < -0.9 * mass:
        raise ConfigError(
            f"payload = {payload}: the base of robot {robot.name!r} has a mass of {mass:.3g} kg; write at least "
            f"{math.ceil(-90.0 * mass) / 100.0:g}"
        )


def standing_height(robot: Robot) -> float:
    """Return the height of the base in the default pose, m."""
    return float(robot.default_qpos[robot.base_qpos_indices[2]])


def weight_of(robot: Robot) -> float:
    """Return the weight of the robot, N."""
    return float(np.sum(robot.model.body_mass)) * float(np.linalg.norm(robot.model.opt.gravity))


def soft_limits(robot: Robot) -> dict[str, tuple[float, ...]]:
    """Return the middle 95 % of each joint's range, rad: what `locomotion_rewards.joint_limits` takes.

    A wheel has none: its limits are infinite.
    """
    joints = robot.joints
    margins = [0.025 * (j.upper - j.lower) if math.isfinite(j.upper - j.lower) else 0.0 for j in joints]
    return {
        "lower": tuple(j.lower + m for j, m in zip(joints, margins, strict=True)),
        "upper": tuple(j.upper - m for j, m in zip(joints, margins, strict=True)),
    }


def around_zero(half: float) -> Range:
    """Return the range from -half to half."""
    return Range(-half, half)


def held_joints(robot: Robot) -> tuple[int, ...]:
    """Return the places of the joints that take position targets."""
    return tuple(i for i, joint in enumerate(robot.joints) if joint.control == "position")


def position_targets(
    robot: Robot, scale: float, steps: tuple[Stage, ...] = (), wheel_scale: float | None = None
) -> ActionSpec:
    """Return actions that are distances from the default pose, in units of `scale`, held within the joints' ranges.

    Args:
        robot: The robot.
        scale: Distance that an action of 1 asks for, rad.
        steps: Stages in between, that add to the targets.
        wheel_scale: Velocity that an action of 1 asks of joints that take velocity targets, rad/s, at most their limit;
            these actions come after those of positions. None for a robot without such joints.
    """
    held = held_joints(robot)
    joints = [robot.joints[i] for i in held]
    default = tuple(np.asarray(robot.default_ctrl, float)[list(held)].tolist())
    low, high = tuple(j.lower for j in joints), tuple(j.upper for j in joints)
    names = tuple(joint.name for joint in joints)
    position = OutputSpec(TARGETS, "rad", len(held), low, high, default, components=names)
    if wheel_scale is None:
        pipeline = (Scale((scale,) * len(held), default), *steps, Clip(low, high))
        return ActionSpec((position,), pipeline, target_drive, mirror="joints")
    turning = tuple(i for i in range(len(robot.joints)) if i not in held)
    fastest = tuple(robot.joints[i].velocity_limit for i in turning)
    slowest, still = tuple(-x for x in fastest), (0.0,) * len(turning)
    wheels = tuple(robot.joints[i].name for i in turning)
    velocity = OutputSpec(WHEEL_TARGETS, "rad/s", len(turning), slowest, fastest, still, components=wheels)
    scales = (scale,) * len(held) + (wheel_scale,) * len(turning)
    pipeline = (Scale(scales, default + still), *steps, Clip(low + slowest, high + fastest))
    order = (*held, *turning)
    return ActionSpec(
        (position, velocity), pipeline, partial(target_drive, order=order), mirror=partial(joint_mirror, places=order)
    )


def foot_offsets(robot: Robot, trajectories: FootTrajectories) -> ActionSpec:
    """Return actions that are frequencies and offsets of feet, with joint targets held within the joints' ranges."""
    low, high = tuple(joint.lower for joint in robot.joints), tuple(joint.upper for joint in robot.joints)
    default = tuple(np.asarray(robot.default_ctrl, float).tolist())
    output = OutputSpec(TARGETS, "rad", len(robot.joints), low, high, default, components=robot.joint_names)
    return ActionSpec(
        (output,), (trajectories, Clip(low, high)), target_drive, mirror=foot_action_mirror, output_mirror="joints"
    )


def check_positions(robot: Robot, wheels: tuple[str, ...] = ()) -> None:
    """Refuse a robot whose joints, but for wheels, do not take position targets, or have no range for them."""
    toml = robot.folder / "robot.toml"
    for joint in robot.joints:
        wanted = "velocity" if joint.name in wheels else "position"
        if joint.control != wanted:
            raise ConfigError(
                f"robot {robot.name!r}: joint {joint.name!r} is controlled by {joint.control}, but this task gives "
                f'{wanted} targets; write control = "{wanted}" in {toml}'
            )
        if joint.name not in wheels and not (math.isfinite(joint.lower) and math.isfinite(joint.upper)):
            raise ConfigError(
                f"robot {robot.name!r}: joint {joint.name!r} has no range, which position targets are held to; write "
                f'range="lower upper" at it in the MJCF in {robot.folder}'
            )


def hidden_quantities(robot: Robot) -> tuple[Quantity, ...]:
    """Return quantities that cannot be measured: friction and mass."""

    def friction(snapshot: Snapshot) -> jax.Array:
        return snapshot.params["pair_friction"][0, 0]

    def mass(snapshot: Snapshot) -> jax.Array:
        return jnp.sum(snapshot.params["body_mass"])

    return (
        Quantity("friction", "", "", False, friction, mirror="even"),
        Quantity("total_mass", "kg", "", False, mass, mirror="even"),
    )
