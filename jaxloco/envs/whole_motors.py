"""What a task may not have beside an actuator that stands for the whole motor: a second delay, and random gains."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import Range
from jaxloco.envs.processes import Process
from jaxloco.envs.terms import Bound
from jaxloco.errors import ConfigError
from jaxloco.physics.contract import ModelParams
from jaxloco.physics.motors import Motors

GAINS = ("actuator_gainprm", "actuator_biasprm")
"""Model fields that gains are in."""

LIMITS = "actuator_forcerange"
"""What a random factor on torques changes too."""


def check_processes(processes: Sequence[Process], motors: Motors | None) -> None:
    """Refuse a delay or a lag of the task's own.

    Raises:
        ConfigError: There is one beside such an actuator; says which option takes it away.
    """
    if motors is None or not motors.whole.size:
        return
    for process in processes:
        if not isinstance(process, Actuation):
            continue
        for name, unit in (("delay", "s"), ("time_constant", "s")):
            longest = max(_ends(getattr(process, name)))
            if longest > 0.0:
                raise ConfigError(
                    f"process {process.name!r}: {name} up to {longest:g} {unit}, and the robot has joints whose "
                    "actuator stands for the whole motor, its delay included, so it would count twice; write "
                    f"--task.processes.{process.name}.{name} 0 0"
                )


def check_randomizer(name: str, bound: Bound, nominal: ModelParams, motors: Motors | None) -> None:
    """Refuse random gains of such joints; random torques multiply what their actuators give.

    The randomizer is called with both ends of its ranges, on fields that are ones, to see what it changes.

    Raises:
        ConfigError: It changes their gains, and their torque limits not by the same factor.
    """
    if motors is None or not motors.whole.size or not set(GAINS) & set(bound.sources.values()):
        return
    ones = {field: jnp.ones_like(value) for field, value in nominal.items()}
    for end in (0, 1):
        changed = {**ones, **bound(ones, draw=lambda span, shape=(), end=end: jnp.full(shape, _ends(span)[end]))}
        limit = changed.get(LIMITS, jnp.ones((motors.rest.size, 2)))
        for field in GAINS:
            value = changed.get(field)
            if value is not None and not bool(jnp.allclose(value[motors.whole, :3], limit[motors.whole, 1:])):
                raise ConfigError(
                    f"randomization {name!r} changes gains, and the robot has joints whose actuator stands for the "
                    "whole motor, its gains included; leave it out (--task.gain_scale 1 1 in the tasks of legged "
                    "robots), or name the other joints as its `actuators`"
                )


def _ends(span: Any) -> tuple[float, float]:
    """Return the two ends of a range, those of training included."""
    return span.ends if isinstance(span, Range) else (float(span), float(span))
