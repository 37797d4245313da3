"""Delay and bandwidth of the motors, and the map from targets to joints.

These are imperfections of the robot, so the simulator has them and the exported policy does not.
"""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import NOT_NEGATIVE
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.delays import buffer_length, delayed, push
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity
from jaxloco.robot import Robot


@dataclass(frozen=True)
class Actuation(Process):
    """How commanded targets reach the joints.

    Attributes:
        delay: Time until a target has effect, s, drawn per episode.
        time_constant: Time constant of a first-order lag (bandwidth 1 / (2π τ) Hz), s, drawn per episode; 0 for none.
        name: Of the process.
    """

    delay: Annotated[Range, NOT_NEGATIVE] = Range(0.0, 0.0)
    time_constant: Annotated[Range, NOT_NEGATIVE] = Range(0.0, 0.0)
    name: str = "actuation"

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return what is drawn per episode."""
        return (
            Quantity("action_delay", "s", "", False, lambda s: s.delay, mirror="even"),
            Quantity("actuator_time_constant", "s", "", False, lambda s: s.time_constant, mirror="even"),
        )

    def start(self, target: jax.Array, *, sampler: Sampler, control_dt: float) -> "ActuationState":
        """Return the state after a reset, with `target` (n,) held until then."""
        buffer = jnp.tile(target, (buffer_length(self.delay.ends[1], control_dt), 1))
        return ActuationState(buffer, target, sampler.draw(self.delay), sampler.draw(self.time_constant))

    def act(self, state: "ActuationState", target: jax.Array, *, control_dt: float) -> tuple["ActuationState", Acts]:
        """Return the new state and what acts during this control period, (n,)."""
        buffer = push(state.buffer, target)
        late = delayed(buffer, state.delay, control_dt)
        # Exact response of the lag to a held input; without lag the factor is 1.
        factor = 1.0 - jnp.exp(-control_dt / jnp.maximum(state.time_constant, 1e-6))
        output = state.output + factor * (late - state.output)
        return state._replace(buffer=buffer, output=output), Acts(target=output)


class ActuationState(NamedTuple):
    """Recent targets, newest first, (K, n), what acts on the joints now, (n,), delay and time constant, s, ()."""

    buffer: jax.Array
    output: jax.Array
    delay: jax.Array
    time_constant: jax.Array


@dataclass(frozen=True)
class Drive:
    """Linear map from targets to actuator inputs: ctrl = offset + matrix @ target.

    Attributes:
        offset: (nu,), rad, rad/s or N m by actuator.
        matrix: (nu, n).
    """

    offset: np.ndarray
    matrix: np.ndarray

    def __call__(self, target: jax.Array) -> jax.Array:
        """Return the actuator inputs, (nu,)."""
        return jnp.asarray(self.offset, jnp.float32) + jnp.asarray(self.matrix, jnp.float32) @ target


def wheel_drive(robot: Robot) -> Drive:
    """One target, the ground velocity in m/s: wheels turn at velocity / nominal radius, other joints hold still."""
    matrix = np.zeros((len(robot.joints), 1))
    wheels = robot.joint_indices([wheel.joint for wheel in robot.wheels])
    matrix[wheels, 0] = [wheel.forward_sign / wheel.radius for wheel in robot.wheels]
    return Drive(np.asarray(robot.default_ctrl), matrix)


def joint_drive(robot: Robot) -> Drive:
    """One target per actuated joint, in the joint's own unit, relative to its default."""
    return Drive(np.asarray(robot.default_ctrl), np.eye(len(robot.joints)))


def thruster_drive(robot: Robot) -> Drive:
    """One command for each thruster that takes any, in their order."""
    commanded = [i for i, thruster in enumerate(robot.thrusters) if thruster.gain != 0.0]
    return Drive(np.zeros(len(robot.thrusters)), np.eye(len(robot.thrusters))[:, commanded])


def target_drive(robot: Robot, order: tuple[int, ...] = ()) -> Drive:
    """One target per actuated joint, in the joint's own unit, absolute: for pipelines that add the default pose.

    Args:
        robot: The robot.
        order: Which joint each target is for, by place; in order if empty.
    """
    count = len(robot.joints)
    matrix = np.zeros((count, count))
    matrix[list(order or range(count)), range(count)] = 1.0
    return Drive(np.zeros(count), matrix)
