"""A gait clock: which feet should swing when. The robot runs the same clock, so a policy may read it.

Feet keep to the clock, or each has a frequency of its own besides, which the policy commands. The first is the second
with frequencies of zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from jaxloco.checks import NOT_NEGATIVE, POSITIVE
from jaxloco.envs import clocks
from jaxloco.envs.clocks import Clock, ClockState
from jaxloco.envs.kinematics import feet_at
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity
from jaxloco.errors import BundleError, ConfigError
from jaxloco.legs import leg_joints
from jaxloco.onboard import generator
from jaxloco.onboard.spec import (
    FOOT_FREQUENCIES,
    FOOT_PHASES,
    GAIT_CLOCK,
    GAIT_FREQUENCY,
    Cycle,
    FootTrajectories,
    Leg,
    Rest,
)
from jaxloco.robot import Robot
from jaxloco.symmetry import Mirror, foot_mirror

STANCE = 0.75
"""Share of a foot's cycle in the middle of its stance: where all feet are while the clock rests."""


@dataclass(frozen=True)
class Gait(Process):
    """A periodic gait. During the first half of its cycle a foot swings, then it stands.

    Attributes:
        frequency: Cycles per second, Hz.
        offsets: By how much of a cycle each foot is ahead, 0 to 1, in the order of the robot's feet.
        rest: When all feet stand; None for a gait that always goes on.
        name: Of the process.
        frequency_scale: Own frequency of a foot for an action of 1, Hz: the first actions are then one for each foot;
            None for feet that keep to the clock.
        sweep: Name of the command, (3,), by whose velocity feet on the ground go back; None for steps on the spot.
    """

    frequency: Annotated[float, POSITIVE]
    offsets: tuple[float, ...]
    rest: Rest | None = None
    name: str = "gait"
    frequency_scale: Annotated[float | None, NOT_NEGATIVE] = None
    sweep: str | None = None

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the entries of the clock.

        Raises:
            ConfigError: There are not as many offsets as feet.
        """
        if len(self.offsets) != len(robot.required_feet()):
            raise ConfigError(f"gait offsets {self.offsets}: robot {robot.name!r} has {len(robot.feet)} feet")

        def reading(state: ClockState) -> jax.Array:
            return clock_reading(self.show(state, robot.control_dt))

        def phases(state: ClockState) -> jax.Array:
            return self.phases(self.show(state, robot.control_dt))

        known = (
            Quantity(GAIT_CLOCK, "", "", True, reading, mirror="odd", source="policy"),
            Quantity("gait_phases", "", "", True, phases),
        )
        return known if self.frequency_scale is None else (*known, *self._own_quantities(robot.control_dt))

    def _own_quantities(self, dt: float) -> tuple[Quantity, ...]:
        """Return what there is to know of feet with frequencies of their own."""

        def base(state: ClockState) -> jax.Array:
            return self.base(self.show(state, dt))

        def angles(state: ClockState) -> jax.Array:
            return self.angles(self.show(state, dt))

        def frequencies(gait_frequency: jax.Array, last_action: jax.Array) -> jax.Array:
            return self.frequencies(gait_frequency, last_action)

        return (
            Quantity(GAIT_FREQUENCY, "Hz", "", True, base, mirror="even", source="policy"),
            Quantity(FOOT_PHASES, "", "", True, angles, mirror="feet", source="policy"),
            Quantity(FOOT_FREQUENCIES, "Hz", "", True, frequencies, True, mirror="feet", source="policy"),
        )

    @property
    def inputs(self) -> dict[str, str]:
        """Return what the rest and the feet depend on."""
        own = {} if self.frequency_scale is None else {"commanded": "action"}
        rest = {} if self.rest is None else {"command": self.rest.command, "gravity": self.rest.gravity}
        sweep = {} if self.sweep is None else {"velocity": self.sweep}
        return {**own, **sweep, **{name: source for name, source in rest.items() if source}}

    def start(self) -> ClockState:
        """Return the clock after a reset."""
        feet = 0 if self.frequency_scale is None else len(self.offsets)
        return clocks.start(self.rest, feet, self.sweep is not None)

    def act(
        self,
        state: ClockState,
        command: jax.Array | None = None,
        gravity: jax.Array | None = None,
        commanded: jax.Array | None = None,
        velocity: jax.Array | None = None,
        *,
        control_dt: float,
    ) -> tuple[ClockState, Acts]:
        """Return the clock in the next step, by the commands in this one and how the robot is tilted, without noise."""
        seen: dict[Any, Any] = {self.rest.command: command, self.rest.gravity: gravity} if self.rest else {}
        seen |= {} if self.sweep is None else {self.sweep: velocity}
        return self.after(state, control_dt, seen, commanded), Acts()

    def after(
        self, state: ClockState, dt: float, seen: Mapping[str, jax.Array], action: jax.Array | None = None
    ) -> ClockState:
        """Return the clock in the next step.

        Args:
            state: The clock now.
            dt: Control period, s.
            seen: What the policy has seen in this step, by name: the inputs that the rest and the sweep depend on.
            action: What it has given, in [-1, 1]; needed where feet have frequencies of their own.
        """
        own = None
        if self.frequency_scale is not None and action is not None:
            own = generator.own_turns(jnp, action[: len(self.offsets)], self.frequency_scale, dt)
        velocity = None if self.sweep is None else seen[self.sweep]
        return clocks.step(state, dt, self.frequency, self.rest, seen, own, velocity)

    def show(self, state: ClockState, control_dt: float, seen: Mapping[str, jax.Array] | None = None) -> Clock:
        """Return what the clock shows; it does not depend on what the policy has seen in this step."""
        return clocks.show(state, control_dt, self.frequency)

    def check_mirror(self, robot: Robot) -> None:
        """Check that left and right feet swap when half a cycle goes by, which the mirror image of the clock means.

        Raises:
            ConfigError: Two feet that mirror each other are not half a cycle apart; names them.
            RobotError: Left and right feet do not pair by name.
        """
        names = [foot.name for foot in robot.feet]
        for foot, partner in enumerate(foot_mirror(robot).permutation.tolist()):
            apart = (self.offsets[partner] - self.offsets[foot]) % 1.0
            if abs(apart - 0.5) > 1e-6:
                raise ConfigError(
                    f"gait of robot {robot.name!r}: feet {names[foot]!r} and {names[partner]!r} mirror each other, but "
                    f"swing {apart:g} of a cycle apart, not half of it; change the gait's offsets, or train without a "
                    "mirror (--ppo.symmetry none)"
                )

    def phases(self, clock: Clock) -> jax.Array:
        """Return how much of its cycle each foot has done, 0 to 1, (n_feet,); at rest all are in their stance."""
        if clock.turns is None:
            phases = (clock.cycle + jnp.array(self.offsets, jnp.float32)) % 1.0
        else:
            phases = self.own_phases(clock)
        return jnp.where(clock.moving > 0.0, phases, STANCE)

    # Of feet with frequencies of their own

    def own_phases(self, clock: Clock) -> jax.Array:
        """Return how much of its cycle each foot has done, 0 to 1, also at rest, (n_feet,)."""
        offsets = np.array([generator.parts(offset) for offset in self.offsets], np.uint32)
        phases: jax.Array = generator.phases(jnp.asarray(clock.turns) + offsets)
        return phases

    def angles(self, clock: Clock) -> jax.Array:
        """Return the sines, then the cosines, of 2π times these phases, (2 n_feet,)."""
        angles = jnp.float32(2.0 * np.pi) * self.own_phases(clock)
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])

    def base(self, clock: Clock) -> jax.Array:
        """Return the frequency of the clock, Hz, (): 0 while it rests."""
        return clock.moving * jnp.float32(self.frequency)

    def frequencies(self, base: jax.Array, action: jax.Array) -> jax.Array:
        """Return the frequencies of the feet, Hz, (n_feet,), by that of the clock and the last action."""
        return base + jnp.float32(self.frequency_scale or 0.0) * action[: len(self.offsets)]

    def readings(self, clock: Clock, action: jax.Array) -> dict[str, jax.Array]:
        """Return what a policy can read of the clock, by name.

        Args:
            clock: What it shows.
            action: The last one, in [-1, 1], (n_action,).
        """
        known = {GAIT_CLOCK: clock_reading(clock)}
        if self.frequency_scale is None:
            return known
        base = self.base(clock)
        own = {GAIT_FREQUENCY: base, FOOT_PHASES: self.angles(clock), FOOT_FREQUENCIES: self.frequencies(base, action)}
        return {**known, **own}


def clock_reading(clock: Clock) -> jax.Array:
    """Return what a policy reads of a clock: sine and cosine of the cycle, (0, 0) at rest, (2,)."""
    angle = 2.0 * jnp.pi * clock.cycle
    return clock.moving * jnp.stack([jnp.sin(angle), jnp.cos(angle)])


def trot(
    robot: Robot,
    frequency: float,
    rest: Rest | None = None,
    frequency_scale: float | None = None,
    sweep: str | None = None,
) -> Gait:
    """Return the gait in which every foot swings in turn with its neighbours: the one across, in front and behind.

    That is a walk of two feet, a trot of four, the tripod of six. Feet are told apart by where they stand: left or
    right of the middle of all feet, and on each side from front to back.
    """
    feet = standing_feet(robot)
    left = feet[:, 1] > feet[:, 1].mean()
    offsets = np.zeros(len(feet))
    for first, side in ((1, left), (0, ~left)):
        members = np.flatnonzero(side)
        front_to_back = members[np.argsort(-feet[members, 0], kind="stable")]
        offsets[front_to_back] = 0.5 * ((np.arange(len(members)) + first) % 2)
    return Gait(frequency, tuple(offsets.tolist()), rest, frequency_scale=frequency_scale, sweep=sweep)


def standing_feet(robot: Robot) -> np.ndarray:
    """Return the positions of the feet in the base frame in the default pose, m, (n_feet, 3)."""
    robot.required_feet()
    return feet_at(robot, _default_joints(robot))[0]


def stepping(robot: Robot, gait: Gait, height: float, lead: float = 0.0) -> Cycle:
    """Return the stage of an action pipeline that lets the robot step on the spot.

    Args:
        robot: The robot.
        gait: When each foot swings.
        height: How high the feet rise in the default pose, m.
        lead: How far joint targets run ahead of the clock, because joints follow them late, s.
    """
    default = _default_joints(robot)
    amplitude, offset = np.zeros(len(default)), np.zeros(len(default))
    for foot, start in enumerate(gait.offsets):
        change, leg = _lift(robot, foot, default, height)
        amplitude += change
        offset[leg] = (start + lead * gait.frequency) % 1.0
    return Cycle(robot.control_dt, gait.frequency, tuple(amplitude.tolist()), tuple(offset.tolist()))


def foot_trajectories(robot: Robot, gait: Gait, height: float, scale: float, lead: float = 0.0) -> FootTrajectories:
    """Return the stage of an action pipeline in which a policy moves feet about steps, on the spot or by the command.

    Args:
        robot: The robot.
        gait: When each foot swings, how far an action changes that, and by which command it steps; its
            `frequency_scale` is not None.
        height: How high the feet rise, m.
        scale: How far an action of 1 moves a foot, along each axis of the base, m.
        lead: How far targets run ahead of the phases, because joints follow them late, s.

    Raises:
        ConfigError: A leg is not of the kind that `jaxloco.onboard.spec.Leg` describes; says what is wrong with which.
    """
    legs = tuple(_leg(robot, foot) for foot in range(len(robot.required_feet())))
    found = sorted(joint for leg in legs for joint in leg.joints)
    if found != list(range(len(robot.joints))):
        others = [name for place, name in enumerate(robot.joint_names) if found.count(place) != 1]
        raise ConfigError(
            f"robot {robot.name!r}: joints {', '.join(others)} are not those of one leg each, so feet alone do not say "
            "where they go; write --task.generator joints"
        )
    try:
        dt, own = robot.control_dt, gait.frequency_scale or 0.0
        return FootTrajectories(dt, gait.frequency, own, height, scale, lead, gait.offsets, legs, gait.sweep)
    except BundleError as error:
        raise ConfigError(str(error)) from None


def _leg(robot: Robot, foot: int) -> Leg:
    """Return the kinematics of a leg: its axes and anchors in the base's frame, all joints at zero."""
    model, data = robot.model, mujoco.MjData(robot.model)
    data.qpos[np.asarray(robot.joint_qpos_indices)] = 0.0
    mujoco.mj_kinematics(model, data)
    body = model.body(robot.feet[foot].body).id
    chain = leg_joints(model, body)
    names = [model.joint(joint).name for joint in chain]
    what = f"robot {robot.name!r}: foot {robot.feet[foot].name!r} is moved by {', '.join(names)}"
    places = [robot.joint_names.index(name) if name in robot.joint_names else -1 for name in names]
    if len(chain) != 3 or -1 in places or any(robot.joints[place].kind != "hinge" for place in places):
        raise ConfigError(f"{what}; trajectories of feet need three hinges with motors; write --task.generator joints")
    base = model.body(robot.base_body).id if robot.base_body is not None else 0
    rotation, origin = data.xmat[base].reshape(3, 3), data.xpos[base]
    point = data.xpos[body] + data.xmat[body].reshape(3, 3) @ robot.feet[foot].position
    pose = _default_joints(robot)[places]
    try:
        return Leg(
            tuple(places),
            tuple(((data.xanchor[chain] - origin) @ rotation).ravel().tolist()),
            tuple((data.xaxis[chain] @ rotation).ravel().tolist()),
            tuple(((point - origin) @ rotation).tolist()),
            tuple(pose.tolist()),
        )
    except BundleError as error:
        raise ConfigError(f"{what}: {error}; write --task.generator joints") from None


def foot_action_mirror(robot: Robot) -> Mirror:
    """Return the mirror of an action of `foot_trajectories`: a frequency for each foot, then x, y and z of each."""
    feet = foot_mirror(robot)
    places = len(feet.permutation) + 3 * feet.permutation[:, None] + np.arange(3)
    signs = np.tile([1.0, -1.0, 1.0], len(feet.permutation))
    return Mirror(np.concatenate([feet.permutation, places.ravel()]), np.concatenate([feet.sign, signs]))


def _default_joints(robot: Robot) -> np.ndarray:
    return np.asarray(robot.default_qpos[np.asarray(robot.joint_qpos_indices)])


def _lift(robot: Robot, foot: int, default: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest change of the joints that raises a foot, by Newton steps, and which joints move it."""
    start, derivative = (found[foot] for found in feet_at(robot, default))
    leg = np.abs(derivative).max(axis=0) > 1e-6
    joints, goal = np.array(default), start + np.array([0.0, 0.0, height])
    for _ in range(10):
        position, derivative = (found[foot] for found in feet_at(robot, joints))
        joints = joints + np.linalg.pinv(derivative) @ (goal - position)
    return joints - default, leg
