"""Memories: quantities that depend on earlier steps, such as the time that a foot has been in the air.

During a step, terms see what was remembered until the step before; afterwards the memory takes in this step. So
`joint_velocities - previous_joint_velocities` is a change, and `air_times` still tells how long the flight was at the
step in which a foot lands.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax

from jaxloco.envs.quantities import Quantity, QuantityTable, Snapshot, Values
from jaxloco.envs.terms import Bound, bind
from jaxloco.errors import ConfigError

Memory = jax.Array


@dataclass(frozen=True)
class Remembered:
    """One quantity with a memory; part of an episode's state.

    Attributes:
        name: How terms call it.
        unit: SI unit, "" for none.
        frame: Frame it is expressed in, "" where there is none.
        start: Pure function of quantities that gives the value after a reset.
        update: Pure function of quantities, this one among them, that gives the next value.
        mirror: How left and right swap; see `Quantity`.
    """

    name: str
    unit: str
    frame: str
    start: Callable[..., Memory]
    update: Callable[..., Memory]
    mirror: str = ""

    def quantity(self) -> Quantity:
        """Return its entry of the table."""
        return Quantity(self.name, self.unit, self.frame, False, partial(_recall, self.name), mirror=self.mirror)


class Memories:
    """The memories that a task's terms use, bound to its quantities: pure functions of a dictionary by name."""

    def __init__(self, known: Sequence[Remembered], table: QuantityTable, used: set[str]) -> None:
        self._start: dict[str, Bound] = {}
        self._update: dict[str, Bound] = {}
        by_name = {memory.name: memory for memory in known}
        waiting = table.needed(used) & by_name.keys()
        while waiting:  # what one memory takes in may be another memory
            # In the order of `known`: that of a set differs between processes, and the compiled program with it.
            memory = next(memory for memory in known if memory.name in waiting)
            waiting.remove(memory.name)
            what = f"memory {memory.name!r}"
            self._start[memory.name] = bind(memory.start, table.names, what=what)
            self._update[memory.name] = bind(memory.update, table.names, what=what)
            waiting |= (table.needed(self.sources) & by_name.keys()) - self._start.keys()
            if table.needed(set(self._start[memory.name].sources.values())) & by_name.keys():
                raise ConfigError(f"{what}: its initial value must not depend on a memory")

    @property
    def sources(self) -> set[str]:
        """Quantities that the memories are computed from."""
        bounds = (*self._start.values(), *self._update.values())
        return {source for bound in bounds for source in bound.sources.values()}

    def start(self, values: Values) -> dict[str, Memory]:
        """Return the memories after a reset."""
        return {name: bound(values) for name, bound in self._start.items()}

    def update(self, values: Values) -> dict[str, Memory]:
        """Return the memories after a step."""
        return {name: bound(values) for name, bound in self._update.items()}


def _recall(name: str, snapshot: Snapshot) -> Memory:
    return snapshot.memories[name]
