"""Motor models, one file each: see `jaxloco.physics.actuators.contract`, and docs/robots.md, "Motors"."""

from jaxloco import registry
from jaxloco.errors import ConfigError, RobotError
from jaxloco.physics.actuators.contract import (
    ActuatedJoints,
    Actuator,
    Array,
    Servo,
    State,
    choose,
    namespace,
    servo_target,
    servo_torque,
)

ACTUATORS = {
    "pd": "jaxloco.physics.actuators.pd:PD",
    "curve": "jaxloco.physics.actuators.curve:Curve",
    "dcmotor": "jaxloco.physics.actuators.dcmotor:DCMotor",
    "lag": "jaxloco.physics.actuators.lag:Lag",
    "friction": "jaxloco.physics.actuators.friction:Friction",
    "network": "jaxloco.physics.actuators.network:Network",
}
"""Name → module:NAME of the class. An actuator is imported when it is looked up."""


def actuator_class(kind: str) -> type[Actuator]:
    """Return the class of an actuator: of `ACTUATORS`, of an installed package, or `module:NAME`.

    Raises:
        UnknownNameError: There is no such actuator; names the closest one.
        RobotError: The module cannot be imported, or holds no actuator.
    """
    place = registry.find("actuator", kind, ACTUATORS)
    try:
        found = registry.load("actuator", place)
    except ConfigError as error:
        raise RobotError(f"actuator {kind!r}: {error.__cause__ or error}; write module:NAME of a class") from error
    if not (isinstance(found, type) and issubclass(found, Actuator)):
        name = place.module.partition(":")[2]
        raise RobotError(f"actuator {kind!r}: {name} is not a subclass of {__name__}.Actuator")
    return found


__all__ = [
    "ACTUATORS",
    "ActuatedJoints",
    "Actuator",
    "Array",
    "Servo",
    "State",
    "actuator_class",
    "choose",
    "namespace",
    "servo_target",
    "servo_torque",
]
