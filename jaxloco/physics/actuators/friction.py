"""Friction and backlash of a gear, as the joint feels them.

**Friction** takes coulomb tanh(v / smoothing) + viscous v from the motor's torque. So it has its whole size from about
twice the smoothing velocity on, and below that it is proportional to the velocity: it brakes, but does not hold. A
joint that a force below `coulomb` pulls at creeps instead of sticking. Where it must stick, use `frictionloss` in
`[[joints]]`, which the constraint solver holds exactly.

**Backlash** is the angle by which the motor can turn without the joint. The motor's own inertia is in `armature`, so
within the play the motor has none: it turns as fast as its velocity gain lets it, or its velocity limit, and gives no
torque until it meets the other side. Its sensor is on the motor's side. There it can push the joint, not pull it.

What reaches the joint is at most the torque limit, also where friction and motor brake together.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import numpy as np

from jaxloco.errors import RobotError
from jaxloco.physics.actuators.contract import (
    ActuatedJoints,
    Actuator,
    Array,
    Servo,
    State,
    choose,
    namespace,
    servo_torque,
)
from jaxloco.toml_schema import Key


class Friction(Actuator):
    """Remembers by which angle the motor is ahead of the joint, rad."""

    name = "friction"
    settings: ClassVar[Mapping[str, Key]] = {
        "coulomb": Key("number", "dry friction, N m", "0.3", required=False, default=0.0, at_least=0),
        "smoothing": Key("number", "where dry friction has 76 %, rad/s", "0.1", required=False, default=0.1, above=0),
        "viscous": Key("number", "friction per velocity, N m s/rad", "0.02", required=False, default=0.0, at_least=0),
        "backlash": Key("number", "play of the gear, rad", "0.01", required=False, default=0.0, at_least=0),
    }

    class Params(NamedTuple):
        """As in `settings`; and the motor's own velocity limit, rad/s."""

        servo: Servo
        coulomb: Array
        smoothing: Array
        viscous: Array
        backlash: Array
        velocity_limit: Array

    def __init__(self, joints: ActuatedJoints) -> None:
        self.parameters = dict(joints.settings)
        self.parameters["velocity_limit"] = np.array([joint.velocity_limit for joint in joints.joints])
        steepest = 0.5 / (joints.timestep * joints.mobility)  # twice that would reverse an unloaded joint in one step
        for joint, viscous, most in zip(joints.joints, joints.settings["viscous"], steepest, strict=True):
            if viscous > most:
                raise RobotError(
                    f"joint {joint.name!r}: viscous = {viscous:g} would stop the joint within a physics step; write at "
                    f"most {most:.3g}, or damping in [[joints]]"
                )
        self.parameters["smoothing"] = np.maximum(joints.settings["smoothing"], joints.settings["coulomb"] / steepest)

    def init(self, target: Array) -> State:
        """In the middle of the play."""
        return (0.0 * target,)

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """See `Actuator.step`."""
        xp, servo, limit = namespace(target), params.servo, params.servo.torque_limit
        half, ahead = 0.5 * params.backlash, state[0]
        driving = servo_torque(servo, target, position + ahead, 0.0 * velocity)
        speed = driving / xp.maximum(-servo.bias2, 1e-9)
        speed = xp.minimum(xp.maximum(speed, -params.velocity_limit), params.velocity_limit)
        ahead = xp.minimum(xp.maximum(ahead + (speed - velocity) * servo.timestep, -half), half)
        torque = servo_torque(servo, target, position + ahead, velocity)
        low, high = choose(ahead <= -half, -limit, 0.0 * limit), choose(ahead >= half, limit, 0.0 * limit)
        torque = xp.minimum(xp.maximum(torque, low), high)
        return (ahead,), torque - params.coulomb * xp.tanh(velocity / params.smoothing) - params.viscous * velocity
