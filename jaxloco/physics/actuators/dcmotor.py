"""A DC motor at a supply of fixed voltage; beyond its no-load speed its back-EMF brakes it.

The driver applies the voltage that would give the torque that the gains ask for, as far as the supply has it:

    V = clip(R τ / K + K v) to ± voltage,    torque = K (V - K v) / R

with R the resistance of the winding and K the torque constant behind the gear. This is MuJoCo's own `dcmotor` without
inductance. Unlike `curve`, a motor beyond its no-load speed voltage / K brakes, and one that is turned backwards has
more torque than at rest.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from jaxloco.physics.actuators.contract import Actuator, Array, Servo, State, namespace, servo_torque
from jaxloco.toml_schema import Key


class DCMotor(Actuator):
    """It has no memory: the current follows the voltage at once."""

    name = "dcmotor"
    settings: ClassVar[Mapping[str, Key]] = {
        "resistance": Key("number", "of the winding, ohm", "0.2", above=0),
        "torque_constant": Key("number", "behind the gear, N m/A or V s/rad", "0.6", above=0),
        "voltage": Key("number", "of the supply, V", "24.0", above=0),
    }

    class Params(NamedTuple):
        """As in `settings`."""

        servo: Servo
        resistance: Array
        torque_constant: Array
        voltage: Array

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """See `Actuator.step`."""
        xp, constant, supply = namespace(velocity), params.torque_constant, params.voltage
        asked = servo_torque(params.servo, target, position, velocity)
        voltage = params.resistance * asked / constant + constant * velocity
        voltage = xp.minimum(xp.maximum(voltage, -supply), supply)
        return state, constant * (voltage - constant * velocity) / params.resistance
