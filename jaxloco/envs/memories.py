"""Memories: quantities that depend on earlier steps, such as the time that a foot has been in the air.

During a step, terms see what was remembered until the step before; afterwards the memory takes in this step. So
`joint_velocities - previous_joint_velocities` is a change, and `air_times` still tells how long the flight was at the
step in which a foot lands.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax

from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity
from jaxloco.robot import Robot

Memory = jax.Array


@dataclass(frozen=True)
class Remembered(Process):
    """One quantity with a memory; part of an episode's state.

    Attributes:
        name: How terms call it.
        unit: SI unit, "" for none.
        frame: Frame it is expressed in, "" where there is none.
        start: Pure function of quantities that gives the value after a reset.
        step: Pure function of quantities, this one among them, that gives the next value.
        mirror: How left and right swap; see `Quantity`.
    """

    name: str
    unit: str
    frame: str
    start: Callable[..., Memory]
    step: Callable[..., Memory]
    mirror: str = ""

    memory: ClassVar[bool] = True

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return its entry of the table."""
        return (Quantity(self.name, self.unit, self.frame, False, lambda state: state, mirror=self.mirror),)
