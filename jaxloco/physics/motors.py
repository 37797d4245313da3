"""Torque–speed curves: what a motor can still give at the speed it has.

A motor driven by a supply of fixed voltage loses torque as it turns faster, because its back-EMF grows: on a straight
line that reaches zero at the velocity limit. Its driver holds the torque below a limit at low speed. Together, for
torque limit τ, velocity limit v_max and corner velocity v_c, the torque is at most

    high(v) = min(τ, max(0, τ (v_max - v) / (v_max - v_c)))

and at least -high(-v). So a motor has its whole torque up to v_c, none to go faster beyond v_max, and its whole torque
for braking at any speed. This is the curve of Isaac Lab's DCMotor, where v_c = v_max (1 - τ / saturation_effort), and
of Unitree's own actuator models, where v_c = X1 and v_max = X2.

It is applied to the actuator inputs in each physics step: between two policy steps a light joint can gain several times
its velocity limit. The functions work on NumPy and JAX arrays alike.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxloco.robot import Robot

Array = Any
"""A NumPy or JAX array."""


@dataclass(frozen=True, eq=False)
class Motors:
    """The curves of all actuators of a robot, each of shape (nu,), in the order of the actuators.

    Attributes:
        velocity_limit: v_max, rad/s.
        slope: Torque lost per velocity between v_c and v_max, N m s/rad.
        qpos: Index of the actuator's joint in qpos.
        qvel: Index of the actuator's joint in qvel.
    """

    velocity_limit: np.ndarray
    slope: np.ndarray
    qpos: np.ndarray
    qvel: np.ndarray


def motors_of(robot: Robot) -> Motors:
    """Return the curves of `robot`, for steps of its simulation timestep.

    With h the timestep and m the inertia of the unloaded joint (at `qpos0`), a line steeper than m / h would take a
    joint past its velocity limit within one step, so no line is steeper; nor is one flatter than what gives the whole
    torque at rest. With both, a joint overshoots only where one step at full torque from rest would do so too.
    """
    joints, model = robot.joints, robot.model
    limit = np.array([joint.torque_limit for joint in joints])
    fastest = np.array([joint.velocity_limit for joint in joints])
    corner = np.array([joint.corner_velocity for joint in joints])
    steepest = 1.0 / (model.opt.timestep * model.dof_invweight0[robot.joint_qvel_indices])
    slope = np.maximum(np.minimum(limit / (fastest - corner), steepest), limit / fastest)
    return Motors(
        fastest.astype(np.float32), slope.astype(np.float32), robot.joint_qpos_indices, robot.joint_qvel_indices
    )


def corners(robot: Robot) -> np.ndarray:
    """Return up to where each joint has its whole torque in simulation, rad/s, (nu,): at most its `corner_velocity`."""
    motors = motors_of(robot)
    whole = np.array([joint.torque_limit for joint in robot.joints])
    found: np.ndarray = np.maximum(motors.velocity_limit - whole / motors.slope, 0.0)
    return found


def torque_range(motors: Motors, velocity: Array) -> tuple[Array, Array]:
    """Return the lowest and the highest torque that the supply allows at `velocity`.

    The other limit, ±τ, is left to the actuator, which holds it anyway, and where it may be randomized.

    Args:
        motors: The curves.
        velocity: Joint velocities, rad/s, (..., nu).

    Returns:
        N m, (..., nu) each.
    """
    high = (motors.slope * (motors.velocity_limit - velocity)).clip(0.0)
    low = (motors.slope * (-motors.velocity_limit - velocity)).clip(None, 0.0)
    return low, high


def limit_inputs(motors: Motors, gain: Array, bias: Array, qpos: Array, qvel: Array, ctrl: Array) -> Array:
    """Return `ctrl`, changed where the actuators would ask for a torque beyond their curve.

    Actuators are linear, as `jaxloco.robot` makes them: torque = gain ctrl + bias0 + bias1 q + bias2 v.

    Args:
        motors: The curves.
        gain: `actuator_gainprm`, (..., nu, >=1).
        bias: `actuator_biasprm`, (..., nu, >=3).
        qpos: Positions, (..., nq).
        qvel: Velocities, (..., nv).
        ctrl: Actuator inputs, (..., nu).

    Returns:
        Actuator inputs, (..., nu).
    """
    velocity = qvel[..., motors.qvel]
    feedback = bias[..., 0] + bias[..., 1] * qpos[..., motors.qpos] + bias[..., 2] * velocity
    factor = gain[..., 0]
    torque = factor * ctrl + feedback
    excess = torque - torque.clip(*torque_range(motors, velocity))
    return ctrl - excess / (factor + (factor == 0.0).astype(factor.dtype))  # an input without gain changes nothing
