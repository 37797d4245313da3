"""A gait clock: which feet should swing when. The robot runs the same clock, so a policy may read it."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs import clocks
from jaxloco.envs.clocks import Clock, ClockState
from jaxloco.envs.kinematics import feet_at
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity
from jaxloco.errors import ConfigError
from jaxloco.onboard.spec import GAIT_CLOCK, Cycle, Rest
from jaxloco.robot import Robot
from jaxloco.symmetry import foot_mirror

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
    """

    frequency: float
    offsets: tuple[float, ...]
    rest: Rest | None = None
    name: str = "gait"

    def __post_init__(self) -> None:
        if not self.frequency > 0.0:
            raise ConfigError(f"gait frequency {self.frequency}: must be above 0 Hz")

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

        return (
            Quantity(GAIT_CLOCK, "", "", True, reading, mirror="odd", source="policy"),
            Quantity("gait_phases", "", "", True, phases),
        )

    @property
    def inputs(self) -> dict[str, str]:
        """Return what the rest depends on."""
        rest = self.rest
        return {} if rest is None else {"command": rest.command, **({"gravity": rest.gravity} if rest.gravity else {})}

    def start(self) -> ClockState:
        """Return the clock after a reset."""
        return clocks.start(self.rest)

    def act(
        self,
        state: ClockState,
        command: jax.Array | None = None,
        gravity: jax.Array | None = None,
        *,
        control_dt: float,
    ) -> tuple[ClockState, Acts]:
        """Return the clock in the next step, by the command in this one and, without noise, how the robot is tilted."""
        seen: dict[Any, Any] = {self.rest.command: command, self.rest.gravity: gravity} if self.rest else {}
        return clocks.step(state, control_dt, self.frequency, self.rest, seen), Acts()

    def show(self, state: ClockState, control_dt: float) -> Clock:
        """Return what the clock shows."""
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
        phases = (clock.cycle + jnp.array(self.offsets, jnp.float32)) % 1.0
        return jnp.where(clock.moving > 0.0, phases, STANCE)


def clock_reading(clock: Clock) -> jax.Array:
    """Return what a policy reads of a clock: sine and cosine of the cycle, (0, 0) at rest, (2,)."""
    angle = 2.0 * jnp.pi * clock.cycle
    return clock.moving * jnp.stack([jnp.sin(angle), jnp.cos(angle)])


def trot(robot: Robot, frequency: float, rest: Rest | None = None) -> Gait:
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
    return Gait(frequency, tuple(offsets.tolist()), rest)


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
