"""The torque–speed curve: the torque that a motor can give at its speed.

A motor driven by a supply of fixed voltage loses torque as it turns faster, because its back-EMF grows: on a straight
line that reaches zero at the velocity limit. Its driver holds the torque below a limit at low speed. Together, for
torque limit τ, velocity limit v_max and corner velocity v_c, the torque is at most

    high(v) = min(τ, max(0, τ (v_max - v) / (v_max - v_c)))

and at least -high(-v). So a motor has its whole torque up to v_c, none to go faster beyond v_max, and its whole torque
for braking at any speed. This is the curve of Isaac Lab's DCMotor, where v_c = v_max (1 - τ / saturation_effort), and
of Unitree's own actuator models, where v_c = X1 and v_max = X2.

It holds in each physics step: between two policy steps a light joint can gain several times its velocity limit.
"""

from typing import Any, NamedTuple

import numpy as np

from jaxloco.physics.actuators.contract import ActuatedJoints, Actuator, Array, Servo, State, namespace, servo_torque


class Curve(Actuator):
    """The curve of `velocity_limit` and `corner_velocity` in `[[joints]]`.

    With h the timestep and m the inertia of the unloaded joint, a line steeper than m / h would take a joint past its
    velocity limit within one step, so no line is steeper; nor is one flatter than what gives the whole torque at rest.
    With both, a joint overshoots only where one step at full torque from rest would do so too.
    """

    name = "curve"

    class Params(NamedTuple):
        """v_max, rad/s, and the torque lost per velocity between v_c and v_max, N m s/rad."""

        servo: Servo
        velocity_limit: Array
        slope: Array

    def __init__(self, joints: ActuatedJoints) -> None:
        limit = np.array([joint.torque_limit for joint in joints.joints])
        fastest = np.array([joint.velocity_limit for joint in joints.joints])
        corner = np.array([joint.corner_velocity for joint in joints.joints])
        steepest = 1.0 / (joints.timestep * joints.mobility)
        slope = np.maximum(np.minimum(limit / (fastest - corner), steepest), limit / fastest)
        self.parameters = {"velocity_limit": fastest, "slope": slope}

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """See `Actuator.step`."""
        xp = namespace(velocity)
        low, high = torque_range(params, velocity)
        torque = servo_torque(params.servo, target, position, velocity)
        return state, xp.minimum(xp.maximum(torque, low), high)


def torque_range(params: Any, velocity: Array) -> tuple[Array, Array]:
    """Return the lowest and the highest torque that the supply allows at `velocity`, N m.

    The other limit, ±τ, is left to the servo, which holds it anyway, and where it may be randomized.
    """
    xp = namespace(velocity)
    high = xp.maximum(params.slope * (params.velocity_limit - velocity), 0.0)
    low = xp.minimum(params.slope * (-params.velocity_limit - velocity), 0.0)
    return low, high
