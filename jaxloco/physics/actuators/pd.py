"""The ideal servo: the torque of the gains, up to the torque limit."""

from typing import NamedTuple

from jaxloco.physics.actuators.contract import Actuator, Array, Servo, State, servo_torque


class PD(Actuator):
    """MuJoCo's own actuator, unchanged."""

    name = "pd"

    class Params(NamedTuple):
        """Nothing beside the servo."""

        servo: Servo

    @staticmethod
    def step(params: Params, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """See `Actuator.step`."""
        return state, servo_torque(params.servo, target, position, velocity)
