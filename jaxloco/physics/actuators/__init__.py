"""Motor models, one file each: see `jaxloco.physics.actuators.contract`, and docs/robots.md, "Motors"."""

import importlib

from jaxloco.errors import RobotError, unknown_name
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
}
"""Name → module:NAME of the class. Nothing is imported until an actuator is asked for."""


def actuator_class(kind: str) -> type[Actuator]:
    """Return the class of an actuator: one of `ACTUATORS`, or `module:NAME` of your own.

    Raises:
        UnknownNameError: There is no such actuator; names the closest one.
        RobotError: The module cannot be imported, or holds no actuator.
    """
    module, _, variable = ACTUATORS.get(kind, kind).partition(":")
    if not variable:
        raise unknown_name("actuator", kind, ACTUATORS)
    try:
        found = getattr(importlib.import_module(module), variable)
    except (ImportError, AttributeError) as error:
        raise RobotError(f"actuator {kind!r}: {error}; write module:NAME of a class") from None
    if not (isinstance(found, type) and issubclass(found, Actuator)):
        raise RobotError(f"actuator {kind!r}: {variable} is not a subclass of {__name__}.Actuator")
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
