"""A motor that jaxloco does not have: one whose magnets pull the cart into teeth."""

import math
from typing import ClassVar, NamedTuple

from jaxloco.physics.actuators import Actuator, Array, Servo, State, namespace, servo_torque
from jaxloco.toml_schema import Key


class Cogging(Actuator):
    """The ideal motor, and a force that goes to and fro with the position, as in linear motors with iron cores."""

    name = "cogging"
    settings: ClassVar = {
        "force": Key("number", "largest force of the teeth, N", "0.3", at_least=0),
        "pitch": Key("number", "distance between two teeth, m", "0.03", above=0),
    }

    class Params(NamedTuple):
        """Force, N, and pitch, m."""

        servo: Servo
        force: Array
        pitch: Array

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """Add the force of the teeth at this position."""
        teeth = params.force * namespace(position).sin(2.0 * math.pi * position / params.pitch)
        return state, servo_torque(params.servo, target, position, velocity) - teeth
