"""Delay and bandwidth of the motors, and the map from targets to joints.

These are imperfections of the robot, so the simulator has them and the exported policy does not.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.delays import buffer_length, delayed, push
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot


@dataclass(frozen=True)
class Actuation:
    """How commanded targets reach the joints.

    Attributes:
        delay: Time until a target has effect, s, drawn per episode.
        time_constant: Time constant of a first-order lag (bandwidth 1 / (2π τ) Hz), s, drawn per episode; 0 for none.
    """

    delay: Range = Range(0.0, 0.0)
    time_constant: Range = Range(0.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("delay", "time_constant"):
            if getattr(self, name).low < 0.0:
                raise ConfigError(f"{name} from {getattr(self, name).low} s: must not be negative")

    def draw(self, sampler: Sampler) -> dict[str, jax.Array]:
        """Draw the values of an episode, by quantity name."""
        return {
            "action_delay": sampler.draw(self.delay),
            "actuator_time_constant": sampler.draw(self.time_constant),
        }

    def start(self, target: jax.Array, dt: float) -> "ActuationState":
        """Return the state after a reset, with `target` (n,) held until then."""
        return ActuationState(jnp.tile(target, (buffer_length(self.delay.high, dt), 1)), target)

    def step(
        self, state: "ActuationState", target: jax.Array, draws: dict[str, jax.Array], dt: float
    ) -> tuple["ActuationState", jax.Array]:
        """Return the new state and what acts during this control period, (n,)."""
        buffer = push(state.buffer, target)
        late = delayed(buffer, draws["action_delay"], dt)
        # Exact response of the lag to a held input; without lag the factor is 1.
        factor = 1.0 - jnp.exp(-dt / jnp.maximum(draws["actuator_time_constant"], 1e-6))
        output = state.output + factor * (late - state.output)
        return ActuationState(buffer, output), output


class ActuationState(NamedTuple):
    """Recent targets, newest first, (K, n), and what acts on the joints now, (n,)."""

    buffer: jax.Array
    output: jax.Array


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
