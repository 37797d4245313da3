"""Processes: what goes on during an episode and has a state: commands, gait, pushes, support, delays, memories.

A process is a frozen dataclass with pure functions for one robot, of which it has those that it needs:

    start(…) -> state                  after a reset
    act(state, …) -> (state, Acts)     at the beginning of a control period: what acts on the robot during it
    step(state, …) -> state            after the physics

Their parameters are quantities by name, as those of terms, and by keyword what is in `GIVEN`. What others see of a
process are its quantities, functions of its state. Random draws are made in the order of the processes, those of all
`act` before those of all `step`.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.checks import check_fields
from jaxloco.envs.curriculum import Sampler
from jaxloco.envs.quantities import Quantity, QuantityTable, Snapshot, Values
from jaxloco.envs.terms import Bound, bind
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot

GIVEN = ("state", "sampler", "control_dt")
"""What functions of a process may take beside quantities: its state, a `Sampler`, the control period as a number, s."""

FUNCTIONS = ("start", "act", "step")

States = dict[str, Any]
"""Process name → its state, a pytree of arrays."""


class Acts(NamedTuple):
    """What a process does to the robot during a control period; None for nothing.

    Attributes:
        target: What takes the place of the action pipeline's result, (n_outputs,), SI.
        force: Force on the centre of mass of the base, world frame, (3,), N.
        torque: Torque on the base, world frame, (3,), N m.
    """

    target: jax.Array | None = None
    force: jax.Array | None = None
    torque: jax.Array | None = None


class Process:
    """Base of processes. Fields of numbers may have limits: `strength: Annotated[float, POSITIVE]`.

    Attributes:
        name: Under which its state is kept and options find it; each may stand once.
        memory: Whether terms and observations see what was until the step before, and it is kept only where one of them
            reads it. Observations see the new state of other processes at once; terms judge by it from the next step.
    """

    name: str
    memory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        own: Any = self
        if is_dataclass(own):
            check_fields(own)

    if TYPE_CHECKING:  # no functions of the class itself: they would be defaults of fields with their names

        def start(self, *args: Any, **quantities: Any) -> Any:
            """Return the state after a reset."""

        def act(self, *args: Any, **quantities: Any) -> tuple[Any, Acts]:
            """Return the state at the beginning of a control period, and what acts on the robot during it."""

        def step(self, *args: Any, **quantities: Any) -> Any:
            """Return the state after the physics."""

    @property
    def inputs(self) -> Mapping[str, str]:
        """Parameter of its functions → quantity, where the names differ."""
        return {}

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return what can be known of it: quantities whose `function` takes its state."""
        return ()

    def check_mirror(self, robot: Robot) -> None:
        """Check that it has a mirror image, which policies with a symmetry rely on.

        Raises:
            ConfigError: It has none; says why.
        """


def quantities_of(processes: Iterable[Process], robot: Robot) -> tuple[Quantity, ...]:
    """Return the entries of the table that processes give."""
    return tuple(
        quantity if quantity.derived else replace(quantity, function=partial(_shown, process.name, quantity.function))
        for process in processes
        for quantity in process.quantities(robot)
    )


def _shown(name: str, function: Callable[[Any], jax.Array], snapshot: Snapshot) -> jax.Array:
    return function(snapshot.processes[name])


def given(function: Callable[..., Any], **available: Any) -> Any:
    """Call a function of a process with those of `GIVEN` that it takes."""
    parameters = inspect.signature(function).parameters
    return function(**{name: value for name, value in available.items() if name in parameters})


def alone(process: Process, but: Sequence[str] = ()) -> bool:
    """Return whether a process depends on nothing but chance and time, and the quantities `but`."""
    functions = [getattr(process, name) for name in FUNCTIONS if hasattr(process, name)]
    parameters = [p for function in functions for p in inspect.signature(function).parameters.values()]
    needed = {p.name for p in parameters if p.default is p.empty or p.name in process.inputs}
    return needed <= {*GIVEN, "dt", *but}


def _check_fields(process: Any, name: str) -> None:
    if is_dataclass(process) and any(each.name == "memory" for each in fields(process)):
        raise ConfigError(f"process {name!r}: a field cannot be called memory, as that says what a process is")


class Processes:
    """The processes of an environment, bound to its quantities: pure functions of a dictionary of states.

    Args:
        known: All of them.
        robot: The robot.
        table: Quantities, those of the processes among them.
        used: Quantities that terms and observations read.
        dt: Control period, s.

    Raises:
        ConfigError: A function names no quantity, or one that is not known when it is called.
    """

    def __init__(self, known: Sequence[Process], robot: Robot, table: QuantityTable, used: set[str], dt: float) -> None:
        for one in known:
            _check_fields(one, one.name)
        self._table, self._dt = table, dt
        owners = {quantity.name: process.name for process in known for quantity in process.quantities(robot)}
        bound: dict[str, dict[str, Bound]] = {}
        self.reads: set[str] = set()
        while True:  # what one memory takes in may be another memory
            needed = {owners.get(name) for name in table.needed(used | self.reads)}
            waiting = (p for p in known if p.name not in bound and (not p.memory or p.name in needed))
            process = next(waiting, None)
            if process is None:
                break
            bound[process.name] = {f: self._bind(process, f) for f in FUNCTIONS if hasattr(process, f)}
            self.reads |= {source for function in bound[process.name].values() for source in function.sources.values()}
        self._kept = {process.name: process for process in known if process.name in bound}
        self._bound = {name: bound[name] for name in self._kept}
        self._check_order(owners)

    def _bind(self, process: Process, name: str) -> Bound:
        function = getattr(process, name)
        taken = inspect.signature(function).parameters
        inputs = {parameter: source for parameter, source in process.inputs.items() if parameter in taken}
        what = f"process {process.name!r}, {name}"
        bound = bind(function, self._table.names, what=what, inputs=inputs, given=GIVEN)
        sensed = [q for q in sorted(self._table.needed(set(bound.sources.values()))) if self._table[q].readings]
        if name == "act" and sensed:
            raise ConfigError(
                f"{what}: {sensed[0]!r} is not known before the physics; read it in step(), and keep it in the state"
            )
        return replace(bound, function=partial(given, function))

    def _check_order(self, owners: Mapping[str, str]) -> None:
        begun: set[str] = set()
        for name, functions in self._bound.items():
            sources = set(functions["start"].sources.values()) if "start" in functions else set()
            late = [q for q in sorted(self._table.needed(sources)) if q in owners and owners[q] not in begun]
            if late:
                raise ConfigError(
                    f"process {name!r} starts from {late[0]!r}, which process {owners[late[0]]!r} gives, so that one "
                    "must come before it in the list, and be another one"
                )
            begun.add(name)

    def start(self, snapshot: Snapshot, sampler: Sampler) -> States:
        """Return the states after a reset; those in the snapshot are not used."""
        states: States = {}
        values = self._table.at(snapshot._replace(processes=states))
        for name, functions in self._bound.items():
            start = functions.get("start")
            states[name] = start(values, sampler=sampler, control_dt=self._dt) if start else ()
        return states

    def act(self, values: Values, sampler: Sampler) -> tuple[States, jax.Array, jax.Array]:
        """Return what there is at the beginning of a control period.

        Returns:
            The states, the target that the joints follow, (n_outputs,), SI, and the force and torque on the base, (6,).
        """
        states, target = dict(values.snapshot.processes), values.snapshot.target
        forces, torques = [], []
        for name, functions in self._bound.items():
            if "act" not in functions:
                continue
            acted = functions["act"](values, state=states[name], sampler=sampler, control_dt=self._dt)
            states[name], acts = _checked_acts(name, acted, target)
            target = target if acts.target is None else acts.target
            forces += [] if acts.force is None else [acts.force]
            torques += [] if acts.torque is None else [acts.torque]
        return states, target, jnp.concatenate([_sum(forces), _sum(torques)])

    def step(self, values: Values, sampler: Sampler) -> tuple[States, Values]:
        """Return the states after the physics, and the quantities that observations see then."""
        now = values.snapshot.processes
        states = {
            name: functions["step"](values, state=now[name], sampler=sampler, control_dt=self._dt)
            for name, functions in self._bound.items()
            if "step" in functions
        }
        seen = {name: state for name, state in states.items() if not self._kept[name].memory}
        shown = self._table.at(values.snapshot._replace(processes={**now, **seen})) if seen else values
        return {**now, **states}, shown


def _checked_acts(name: str, acted: Any, target: jax.Array) -> tuple[Any, Acts]:
    """Return the state and what acts.

    Raises:
        ConfigError: They are something else, or a vector has another shape.
    """
    if not isinstance(acted, tuple) or len(acted) != 2 or not isinstance(acted[1], Acts):
        raise ConfigError(f"process {name!r}: act must return two things: its state, and Acts(…)")
    for kind, shape in {"target": target.shape, "force": (3,), "torque": (3,)}.items():
        vector = getattr(acted[1], kind)
        if vector is not None and jnp.shape(vector) != shape:
            raise ConfigError(f"process {name!r}: act gives a {kind} of shape {jnp.shape(vector)}, expected {shape}")
    return acted[0], acted[1]


def _sum(vectors: Sequence[jax.Array]) -> jax.Array:
    return sum(vectors[1:], start=vectors[0]) if vectors else jnp.zeros(3)
