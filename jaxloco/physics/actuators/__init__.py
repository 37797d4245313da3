"""Motor models, one file each: see `jaxloco.physics.actuators.contract`, and docs/robots.md, "Motors"."""

from typing import Any

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
        raise RobotError(str(error)) from error
    lacks = _lacks(found)
    if lacks:
        raise RobotError(f"actuator {kind!r}: {place.module} {lacks}")
    return found


def _lacks(found: Any) -> str:
    """Return what an object lacks to be an actuator; "" for nothing."""
    if not (isinstance(found, type) and issubclass(found, Actuator)):
        return f"is not a subclass of {__name__}.Actuator"
    name = getattr(found, "name", None)
    if not (isinstance(name, str) and name):
        return 'has no name; write name = "…", with which the names of its parameters begin'
    if ACTUATORS.get(name, own := f"{found.__module__}:{found.__qualname__}") != own:
        return f"has the name {name!r}, which is jaxloco's; write another"
    if getattr(getattr(found, "Params", None), "_fields", ())[:1] != ("servo",):
        return "has no Params; write a NamedTuple of that name: servo, then the parameters"
    return "has no step; write how torques follow from targets" if found.step is Actuator.step else ""


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
