"""The description of a policy: inputs, history, normalizer, network, action pipeline, outputs.

This is the one schema of the policy bundle. The robot's side (`jaxloco.onboard.policy`) and the training side
(environment and exporter) use the same dataclasses. Everything is checked at construction: a wrong value
raises `BundleError` with the key, what was expected and what was found.
"""

import dataclasses
import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, ClassVar, TypeVar

from jaxloco.errors import BundleError, JaxlocoError
from jaxloco.onboard.cells import NETWORK_KINDS, Cell, find_cell

SCHEMA_NAME = "jaxloco-policy"
SCHEMA_VERSION = 2
SCHEMA = f"{SCHEMA_NAME}/{SCHEMA_VERSION}"
FEED_FORWARD_SCHEMA = f"{SCHEMA_NAME}/1"
"""Schema of policies without memory; every jaxloco reads it."""

ACTIVATIONS = ("elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "softplus", "swish", "tanh")
SQUASHES = ("clip", "tanh")
SOURCES = ("sensor", "command", "policy")
LAST_ACTION = "last_action"
GAIT_CLOCK = "gait_clock"
"""A policy's own clock, (sin, cos) of 2π times its cycle, and (0, 0) while it rests; a policy can read it as an input.

Without a `Rest`, the cycle is frequency · time since the reset.
"""

MAX_HISTORY = 1000
MAX_SIZE = 100_000
MAX_DELAY_STEPS = 10_000
MAX_DELAYED = 1_000_000
"""Numbers that all delays of a pipeline keep together."""
MAX_ITEMS = 1000
FLOAT32_MAX = 3.4028234e38

Values = float | tuple[float, ...]
"""One number for all components, or one per component."""

T = TypeVar("T")


def show(value: object, limit: int = 60) -> str:
    """Return a short, printable form of `value` for an error message."""
    try:
        text = repr(value)
    except Exception:  # a type of someone else's can raise anything
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fail(key: str, expected: str, found: object) -> BundleError:
    return BundleError(f"{key}: expected {expected}, found {show(found)}")


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Put `where` in front of the key that a `BundleError` names."""
    try:
        yield
    except BundleError as error:
        raise BundleError(f"{where}.{error}") from None


def _number(key: str, value: object) -> float:
    """Return `value` as a float that float32 can hold, or fail."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _fail(key, "a number", value)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= FLOAT32_MAX:
        raise _fail(key, "a finite number within float32", value)
    return number


def _positive(key: str, value: object) -> float:
    number = _number(key, value)
    if not number > 0.0:
        raise _fail(key, "a number above 0", value)
    return number


def _integer(key: str, value: object, low: int, high: int) -> int:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not low <= int(value) <= high:  # type: ignore[call-overload]
        raise _fail(key, f"a whole number from {low} to {high}", value)
    return int(value)  # type: ignore[call-overload]


def _sequence(key: str, value: object, what: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MAX_SIZE:
        raise _fail(key, f"a list of {what}", value)
    return tuple(value)


def _vector(key: str, value: object) -> tuple[float, ...]:
    items = _sequence(key, value, "numbers")
    if not items:
        raise _fail(key, "a list of one number per action component", value)
    return tuple(_number(f"{key}[{i}]", item) for i, item in enumerate(items))


def _values(key: str, value: object, size: int) -> Values:
    """Return a number, or a tuple of `size` numbers."""
    if not isinstance(value, (list, tuple)):
        return _number(key, value)
    if len(value) != size:
        raise _fail(key, f"one number or a list of {size}", value)
    return _vector(key, value)


def _text(key: str, value: object, pattern: str = r"[^\x00-\x1f]{0,200}", what: str = "a short text") -> str:
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise _fail(key, what, value)
    return value


def _name(key: str, value: object) -> str:
    return _text(key, value, r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", "a name of letters, digits, _, - and .")


def _array_name(key: str, value: object) -> str:
    name = _text(key, value, r"[A-Za-z0-9_][A-Za-z0-9_/.-]{0,199}", "the name of an array")
    if ".." in name or "//" in name or name.endswith("/"):
        raise _fail(key, "the name of an array, without '..'", value)
    return name


def _choice(key: str, value: object, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        close = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise _fail(key, "one of " + ", ".join(known) + hint, value)
    return value


def expand(value: Values, size: int) -> tuple[float, ...]:
    """Return one number per component: `value` itself if it is a tuple, repeated otherwise.

    >>> expand(2.0, 3)
    (2.0, 2.0, 2.0)
    """
    return value if isinstance(value, tuple) else (value,) * size


def _aligned(*values: Values) -> Iterator[tuple[float, ...]]:
    """Return the values component by component, or once where each is one number for all."""
    size = max((len(value) for value in values if isinstance(value, tuple)), default=1)
    return zip(*(expand(value, size) for value in values), strict=True)


def _check_order(low: Values, high: Values) -> None:
    if any(a > b for a, b in _aligned(low, high)):
        raise BundleError(f"low: expected at most high ({show(high)}), found {show(low)}")


def _set(instance: object, **values: object) -> None:
    """Store checked values in a frozen dataclass while it is being built."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def _components(value: object, size: int) -> tuple[str, ...]:
    items = _sequence("components", value, "names")
    short = r"[^\x00-\x1f]{1,100}"  # names of joints, in whatever signs the robot's maker has them
    names = tuple(_text(f"components[{i}]", item, short) for i, item in enumerate(items))
    if names and (len(names) != size or len(set(names)) != size):
        raise _fail("components", f"no names or {size} different ones", names)
    return names


@dataclass(frozen=True)
class InputSpec:
    """One named input of the policy, in SI units.

    The policy sees `clip(value, *clip) * scale`. Outside `low` … `high` a reading is not believed (see
    `safety.py`).

    Attributes:
        name: Name of the quantity.
        unit: SI unit, "" where there is none.
        size: Number of components.
        scale: Factor applied after the clip; one number, or one per component.
        clip: Lowest and highest value that the policy sees, in `unit`; None for no clip.
        low: Lowest reading to believe, in `unit`; None for no check. One number, or one per component.
        high: Highest reading to believe, in `unit`; None for no check. One number, or one per component.
        source: "sensor" or "command" (both given by the caller) or "policy" (filled in by the runtime with what
            the policy gave in the step before, zeros after a reset: `last_action`, or an output by its name; or with
            `gait_clock`).
        components: Names of the components, for example of the joints; may be empty.
        frequency: Of `gait_clock`, Hz; None for any other input.
    """

    name: str
    unit: str = ""
    size: int = 1
    scale: Values = 1.0
    clip: tuple[float, float] | None = None
    low: Values | None = None
    high: Values | None = None
    source: str = "sensor"
    components: tuple[str, ...] = ()
    frequency: float | None = None

    def __post_init__(self) -> None:
        size = _integer("size", self.size, 1, MAX_SIZE)
        _set(
            self,
            name=_name("name", self.name),
            unit=_text("unit", self.unit),
            size=size,
            scale=_values("scale", self.scale, size),
            clip=None if self.clip is None else self._checked_clip(self.clip),
            low=None if self.low is None else _values("low", self.low, size),
            high=None if self.high is None else _values("high", self.high, size),
            source=_choice("source", self.source, SOURCES),
            components=_components(self.components, size),
            frequency=None if self.frequency is None else _positive("frequency", self.frequency),
        )
        if (self.name == GAIT_CLOCK) != (self.frequency is not None):
            raise _fail("frequency", f"Hz for {GAIT_CLOCK!r}, null for any other input", self.frequency)
        if self.low is not None and self.high is not None:
            _check_order(self.low, self.high)
        if self.name in (LAST_ACTION, GAIT_CLOCK) and self.source != "policy":
            raise _fail("source", f'"policy" for {self.name!r}', self.source)

    @staticmethod
    def _checked_clip(value: object) -> tuple[float, float]:
        clip = _vector("clip", value)
        if len(clip) != 2 or clip[0] > clip[1]:
            raise _fail("clip", "null or [lowest, highest]", value)
        return clip[0], clip[1]


@dataclass(frozen=True)
class OutputSpec:
    """One named output of the policy, in SI units.

    Attributes:
        name: Name of the quantity.
        unit: SI unit.
        size: Number of components.
        low: Lowest value that goes to the robot, in `unit`; one number, or one per component.
        high: Highest value that goes to the robot, in `unit`; one number, or one per component.
        safe: Value that is sent when a reading cannot be trusted, in `unit`; one number, or one per
            component.
        components: Names of the components, for example of the joints; may be empty.
    """

    name: str
    unit: str
    size: int
    low: Values
    high: Values
    safe: Values
    components: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = _integer("size", self.size, 1, MAX_SIZE)
        _set(
            self,
            name=_name("name", self.name),
            unit=_text("unit", self.unit),
            size=size,
            low=_values("low", self.low, size),
            high=_values("high", self.high, size),
            safe=_values("safe", self.safe, size),
            components=_components(self.components, size),
        )
        _check_order(self.low, self.high)
        if not all(low <= safe <= high for low, safe, high in _aligned(self.low, self.safe, self.high)):
            raise _fail("safe", f"values from {show(self.low)} to {show(self.high)}", self.safe)


@dataclass(frozen=True)
class NormalizerSpec:
    """Normalization of the stacked history: `clip((x - mean) / std, -clip, clip)`.

    Attributes:
        mean: Name of the array of means, shape (observation size,).
        std: Name of the array of standard deviations, shape (observation size,), above 0.
        clip: Largest magnitude after normalization; None for no clip.
    """

    mean: str = "normalizer/mean"
    std: str = "normalizer/std"
    clip: float | None = 10.0

    def __post_init__(self) -> None:
        _set(
            self,
            mean=_array_name("mean", self.mean),
            std=_array_name("std", self.std),
            clip=None if self.clip is None else _positive("clip", self.clip),
        )


@dataclass(frozen=True)
class LayerSpec:
    """One dense layer `x @ kernel + bias`: names of arrays of shapes (inputs, outputs) and (outputs,)."""

    kernel: str
    bias: str

    def __post_init__(self) -> None:
        _set(self, kernel=_array_name("kernel", self.kernel), bias=_array_name("bias", self.bias))


@dataclass(frozen=True)
class CellSpec:
    """Names of the arrays of a recurrent cell of H units and G gates; see `jaxloco.onboard.cells`.

    Attributes:
        input: (inputs, G H).
        bias: (G H,).
        hidden: (H, G H).
        hidden_bias: (H,), of the last gate; None if the cell has none.
    """

    input: str
    bias: str
    hidden: str
    hidden_bias: str | None = None

    def __post_init__(self) -> None:
        names = {name: _array_name(name, getattr(self, name)) for name in ("input", "bias", "hidden")}
        own = self.hidden_bias
        _set(self, **names, hidden_bias=None if own is None else _array_name("hidden_bias", own))

    @property
    def arrays(self) -> list[str]:
        """Names of all its arrays."""
        own = [] if self.hidden_bias is None else [self.hidden_bias]
        return [self.input, self.bias, self.hidden, *own]


@dataclass(frozen=True)
class NetworkSpec:
    """A multi-layer perceptron, perhaps on a recurrent cell: the activation between layers, none after the last one.

    Attributes:
        layers: The dense layers, first to last.
        activation: One of `ACTIVATIONS`, as in `flax.linen` (gelu: the tanh approximation).
        output: "clip" (the action is `clip(y, -1, 1)`) or "tanh" (the action is `tanh(y)`).
        kind: "mlp", or that of the cell whose outputs the layers read; see `jaxloco.onboard.cells.find_cell`.
        cell: That cell; None without one.
    """

    layers: tuple[LayerSpec, ...]
    activation: str = "elu"
    output: str = "clip"
    kind: str = "mlp"
    cell: CellSpec | None = None

    def __post_init__(self) -> None:
        layers = _items("layers", self.layers, LayerSpec)
        _set(
            self,
            layers=layers,
            activation=_choice("activation", self.activation, ACTIVATIONS),
            output=_choice("output", self.output, SQUASHES),
        )
        cell = _cell(self.kind)
        if (cell is None) == isinstance(self.cell, CellSpec):
            raise _fail("cell", f"{'null' if cell is None else 'a CellSpec'} for kind {self.kind!r}", self.cell)
        if cell is not None and self.cell is not None and cell.hidden_bias != (self.cell.hidden_bias is not None):
            raise _fail("cell.hidden_bias", "an array" if cell.hidden_bias else "null", self.cell.hidden_bias)
        if not layers:
            raise _fail("layers", "at least one layer", self.layers)


def _cell(kind: object) -> Cell | None:
    if not isinstance(kind, str) or ":" not in kind:
        _choice("kind", kind, NETWORK_KINDS)
    try:
        return find_cell(str(kind))
    except JaxlocoError as error:
        raise BundleError(str(error)) from None


_OPTIONAL_VECTORS = ("offset", "initial")
"""Vectors of stages that may be None, which means zeros."""


class Stage:
    """One stage of the action pipeline: a step from an action vector to the next, elementwise."""

    kind: ClassVar[str]
    _vectors: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for key in self._vectors:
            value = getattr(self, key)
            if value is not None or key not in _OPTIONAL_VECTORS:
                _set(self, **{key: _vector(key, value)})
        if hasattr(self, "dt"):
            _set(self, dt=_positive("dt", self.dt))
        self._check()

    def _check(self) -> None:
        """Check what this kind of stage needs besides the types."""

    def check_fits(self, size: int, control_frequency: float) -> None:
        """Check the stage against the policy it belongs to.

        Args:
            size: Number of components of the action.
            control_frequency: Steps per second, Hz.

        Raises:
            BundleError: A list has another length than the action, or `dt` is not the control period.
        """
        for key in self._vectors:
            value = getattr(self, key)
            if value is not None and len(value) != size:
                raise _fail(key, f"{size} numbers, one per action component", value)
        dt = getattr(self, "dt", None)
        if dt is not None and abs(dt * control_frequency - 1.0) > 1e-3:
            raise _fail("dt", f"the control period, {1.0 / control_frequency:g} s", dt)


@dataclass(frozen=True)
class Scale(Stage):
    """`y = x * scale + offset`."""

    scale: tuple[float, ...]
    offset: tuple[float, ...] | None = None
    kind: ClassVar[str] = "scale"
    _vectors: ClassVar[tuple[str, ...]] = ("scale", "offset")


@dataclass(frozen=True)
class Clip(Stage):
    """`y = clip(x, low, high)`."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    kind: ClassVar[str] = "clip"
    _vectors: ClassVar[tuple[str, ...]] = ("low", "high")

    def _check(self) -> None:
        _check_bounds(self.low, self.high)


@dataclass(frozen=True)
class Integrate(Stage):
    """`s ← clip(s + dt x, low, high)`, `y = s`; s starts at `initial` (zeros by default)."""

    dt: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    initial: tuple[float, ...] | None = None
    kind: ClassVar[str] = "integrate"
    _vectors: ClassVar[tuple[str, ...]] = ("low", "high", "initial")

    def _check(self) -> None:
        _check_bounds(self.low, self.high)


@dataclass(frozen=True)
class LowPass(Stage):
    """`s ← s + (dt / tau) (x - s)`, `y = s`; `tau` in seconds, s starts at `initial` (zeros by default)."""

    dt: float
    tau: tuple[float, ...]
    initial: tuple[float, ...] | None = None
    kind: ClassVar[str] = "low_pass"
    _vectors: ClassVar[tuple[str, ...]] = ("tau", "initial")

    def _check(self) -> None:
        if not all(0.0 < self.dt <= tau for tau in self.tau):
            raise _fail("tau", f"seconds, at least dt = {self.dt:g}", self.tau)

    @property
    def alpha(self) -> tuple[float, ...]:
        """The filter's coefficient dt / tau, from 0 (exclusive) to 1."""
        return tuple(self.dt / tau for tau in self.tau)


@dataclass(frozen=True)
class Delay(Stage):
    """`y = x` from `steps` calls ago; before that, `initial` (zeros by default)."""

    steps: int
    initial: tuple[float, ...] | None = None
    kind: ClassVar[str] = "delay"
    _vectors: ClassVar[tuple[str, ...]] = ("initial",)

    def _check(self) -> None:
        _set(self, steps=_integer("steps", self.steps, 0, MAX_DELAY_STEPS))


@dataclass(frozen=True)
class Cycle(Stage):
    """`y = x + amplitude · max(sin(2π (cycle + offset)), 0)`: a gait, to which the policy's action is added.

    The cycle is that of the policy's clock: `frequency`, Hz, times the time since the reset, or as its `Rest` says;
    while the clock rests, y = x. `offset` is in cycles. After the open-loop leg motions of Iscen et al. 2018 and Lee et
    al. 2020.
    """

    dt: float
    frequency: float
    amplitude: tuple[float, ...]
    offset: tuple[float, ...]
    kind: ClassVar[str] = "cycle"
    _vectors: ClassVar[tuple[str, ...]] = ("amplitude", "offset")

    def _check(self) -> None:
        _set(self, frequency=_positive("frequency", self.frequency))


@dataclass(frozen=True)
class Rest:
    """When a policy's clock rests, so that the robot stands: while the length of a commanded vector is small.

    The clock begins at rest. It starts with the step after the first command that is longer than `below`. When commands
    have not been longer for the time `after`, in which a robot can slow down, the clock goes on to the end of the half
    cycle, where feet have landed, and rests. The next start is from there: with the other feet after an odd number of
    half cycles. After Lee et al. 2020, whose frequency drops to zero after half a second of no command.

    A robot that has to step to keep its balance does so with the clock: it also runs while the base is tilted.

    Attributes:
        command: Name of the input that holds the command; its source is "command".
        below: Largest length (root of the sum of squares) that means standing, in the units of the input.
        after: Time for which the command must mean standing, s; counted in whole steps.
        gravity: Name of the input that holds gravity's direction in the base frame, (3,); None: tilt does not count.
        tilt: Largest tilt that means standing, rad; there if `gravity` is.
    """

    command: str
    below: float
    after: float = 0.0
    gravity: str | None = None
    tilt: float | None = None

    def __post_init__(self) -> None:
        after = _number("after", self.after)
        if after < 0.0:
            raise _fail("after", "a number of at least 0", self.after)
        _set(self, command=_name("command", self.command), below=_positive("below", self.below), after=after)
        if (self.gravity is None) != (self.tilt is None):
            raise _fail("tilt", "a number if gravity is an input, and else null", self.tilt)
        if self.gravity is not None:
            tilt = _positive("tilt", self.tilt)
            if tilt >= math.pi / 2:
                raise _fail("tilt", "less than a right angle", self.tilt)
            _set(self, gravity=_name("gravity", self.gravity), tilt=tilt)


STAGES: dict[str, type[Stage]] = {stage.kind: stage for stage in (Scale, Clip, Integrate, LowPass, Delay, Cycle)}


def _check_bounds(low: tuple[float, ...], high: tuple[float, ...]) -> None:
    if len(low) != len(high):
        raise _fail("low", f"as many numbers as high ({len(high)})", low)
    _check_order(low, high)


@dataclass(frozen=True)
class PolicySpec:
    """Everything about a policy but its numbers.

    Attributes:
        robot: Name of the robot.
        task: Name of the task it was trained on.
        control_frequency: Steps per second, Hz.
        inputs: The inputs, in the order of the frame.
        network: The network; its first layer reads `history` frames.
        outputs: The outputs, in the order of the action vector.
        history: Number of frames the network sees, oldest first.
        normalizer: Normalization of the stacked frames, or None.
        pipeline: What turns the action in [-1, 1] into outputs in SI units.
        rest: When the clock rests; None for a clock that always runs, and for policies without one.
        jaxloco: Version of jaxloco that wrote the bundle.
        provenance: Where the policy came from: configuration, versions, checkpoint step, evaluation.
    """

    robot: str
    task: str
    control_frequency: float
    inputs: tuple[InputSpec, ...]
    network: NetworkSpec
    outputs: tuple[OutputSpec, ...]
    history: int = 1
    normalizer: NormalizerSpec | None = None
    pipeline: tuple[Stage, ...] = ()
    rest: Rest | None = None
    jaxloco: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        _set(
            self,
            robot=_name("robot", self.robot),
            task=_name("task", self.task),
            control_frequency=_positive("control_frequency", self.control_frequency),
            inputs=_items("inputs", self.inputs, InputSpec),
            outputs=_items("outputs", self.outputs, OutputSpec),
            history=_integer("history", self.history, 1, MAX_HISTORY),
            pipeline=_items("pipeline", self.pipeline, Stage),
            jaxloco=_text("jaxloco", self.jaxloco),
        )
        if not isinstance(self.network, NetworkSpec):
            raise _fail("network", "a NetworkSpec", self.network)
        if self.normalizer is not None and not isinstance(self.normalizer, NormalizerSpec):
            raise _fail("normalizer", "null or a NormalizerSpec", self.normalizer)
        if not isinstance(self.provenance, Mapping):
            raise _fail("provenance", "an object", self.provenance)
        self._check_names()
        self._check_sizes()
        self._check_rest()

    def _check_rest(self) -> None:
        """Check that the clock that rests is there, is one, and that its command is an input."""
        if self.rest is None:
            return
        if not isinstance(self.rest, Rest):
            raise _fail("rest", "null or a Rest", self.rest)
        commands = [item.name for item in self.inputs if item.source == "command"]
        if self.rest.command not in commands:
            raise _fail("rest.command", f"one of the commands {commands}", self.rest.command)
        vectors = [item.name for item in self.inputs if item.size == 3 and item.source == "sensor"]
        if self.rest.gravity is not None and self.rest.gravity not in vectors:
            raise _fail("rest.gravity", f"one of the readings of three numbers {vectors}", self.rest.gravity)
        if len(self.frequencies) != 1:
            raise _fail("rest", "one frequency of the clock and of all cycles", sorted(self.frequencies))

    @property
    def frequencies(self) -> set[float]:
        """Frequencies of the gait clock and of all cycles, Hz."""
        clocks = {item.frequency for item in self.inputs if item.frequency is not None}
        return clocks | {stage.frequency for stage in self.pipeline if isinstance(stage, Cycle)}

    def _check_names(self) -> None:
        for key, names in (
            ("inputs", [item.name for item in self.inputs]),
            ("outputs", [item.name for item in self.outputs]),
            ("the arrays", self.array_names),
        ):
            repeated = sorted(name for name, count in Counter(names).items() if count > 1)
            if repeated:
                raise BundleError(f"{key}: expected different names, found {show(repeated[0])} twice")
        if not self.inputs or not self.outputs:
            raise BundleError("inputs, outputs: expected at least one each, found none")

    def _check_sizes(self) -> None:
        if self.observation_size > MAX_SIZE or self.action_size > MAX_SIZE:
            raise _fail("history", f"at most {MAX_SIZE} numbers in all", self.observation_size)
        delayed = sum(stage.steps + 1 for stage in self.pipeline if isinstance(stage, Delay)) * self.action_size
        if delayed > MAX_DELAYED:
            raise _fail("pipeline", f"delays of at most {MAX_DELAYED} numbers in all", delayed)
        own = {LAST_ACTION: self.action_size, **{output.name: output.size for output in self.outputs}, GAIT_CLOCK: 2}
        for i, item in enumerate(self.inputs):
            _check_own(f"inputs[{i}]", item, own)
        for i, stage in enumerate(self.pipeline):
            with _at(f"pipeline[{i}]"):
                stage.check_fits(self.action_size, self.control_frequency)

    @property
    def frame_size(self) -> int:
        """Number of values in one frame."""
        return sum(item.size for item in self.inputs)

    @property
    def observation_size(self) -> int:
        """Number of values that the network reads: history × frame."""
        return self.history * self.frame_size

    @property
    def action_size(self) -> int:
        """Number of values in the action vector and in all outputs together."""
        return sum(item.size for item in self.outputs)

    @property
    def array_names(self) -> list[str]:
        """Names of the arrays that `policy.npz` must hold, no more and no fewer."""
        names = [self.normalizer.mean, self.normalizer.std] if self.normalizer else []
        names += self.network.cell.arrays if self.network.cell else []
        for layer in self.network.layers:
            names += [layer.kernel, layer.bias]
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON values, without the checksums that `write_bundle` adds."""
        data = {name: _plain(getattr(self, name)) for name in _field_names(PolicySpec)}
        if self.rest is None:
            del data["rest"]  # so that a jaxloco that knows no rest can read it
        elif self.rest.gravity is None:
            del data["rest"]["gravity"], data["rest"]["tilt"]
        if self.network.cell is None:
            del data["network"]["cell"]
        return {"schema": SCHEMA if self.network.cell else FEED_FORWARD_SCHEMA, **data}

    @classmethod
    def from_dict(cls, data: object) -> "PolicySpec":
        """Read a specification from parsed JSON.

        Args:
            data: What `to_dict` returns; "checksums" is ignored.

        Returns:
            The checked specification.

        Raises:
            BundleError: A key is missing, unknown or has a wrong value; the message names the key, what was
                expected and what was found.
        """
        check_schema(data)
        assert isinstance(data, dict)
        fields = {key: value for key, value in data.items() if key not in ("schema", "checksums")}
        for key, parse in _NESTED.items():
            if key in fields:
                fields[key] = parse(key, fields[key])
        return _build(cls, fields, "")


def _check_own(key: str, item: InputSpec, own: Mapping[str, int]) -> None:
    """Check an input that may be the policy's own: its last action, its clock, or one of its outputs."""
    if (item.source == "policy") != (item.name in own):
        raise _fail(f"{key}.source", f'"policy" for {sorted(own)} and for nothing else', item.source)
    if item.source == "policy" and item.size != own[item.name]:
        raise _fail(f"{key}.size", f"the size of {item.name!r}, {own[item.name]}", item.size)


def check_schema(data: object) -> None:
    """Check that `data` is a policy of a version that this jaxloco reads.

    Raises:
        BundleError: It is something else, or of another version.
    """
    if not isinstance(data, dict):
        raise BundleError(f"expected an object, found {show(data)}")
    found = data.get("schema")
    match = re.fullmatch(SCHEMA_NAME + r"/([0-9]{1,9})", found) if isinstance(found, str) else None
    if match is None:
        raise _fail("schema", SCHEMA, found)
    if int(match[1]) > SCHEMA_VERSION:
        raise BundleError(
            f"schema: this jaxloco reads {SCHEMA}, the bundle is {found}, from a newer jaxloco: "
            "install that one (pip install --upgrade jaxloco) or export the policy again with this one"
        )
    if int(match[1]) < 1:
        raise _fail("schema", SCHEMA, found)


def _field_names(cls: type) -> list[str]:
    return [item.name for item in dataclasses.fields(cls)]


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and mappings as what JSON knows; a stage gets its "kind"."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = {"kind": value.kind} if isinstance(value, Stage) else {}
        return {**kind, **{name: _plain(getattr(value, name)) for name in _field_names(type(value))}}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _list_items(key: str, value: object, what: str) -> tuple[Any, ...]:
    items = _sequence(key, value, what)
    if len(items) > MAX_ITEMS:
        raise _fail(key, f"at most {MAX_ITEMS} entries", len(items))
    return items


def _items(key: str, value: object, cls: type[T]) -> tuple[T, ...]:
    items = _list_items(key, value, f"{cls.__name__}s")
    for i, item in enumerate(items):
        if not isinstance(item, cls):
            raise _fail(f"{key}[{i}]", f"a {cls.__name__}", item)
    return items


def _build(cls: type[T], data: object, where: str) -> T:
    """Build the dataclass `cls` from a JSON object whose keys are its fields."""
    if not isinstance(data, dict):
        raise _fail(where, "an object", data)
    prefix = f"{where}." if where else ""
    fields = {item.name: item for item in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(fields)
            raise BundleError(f"{prefix}{show(key)}: unknown key; {hint}")
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and key not in data:
            raise BundleError(f"{prefix}{key}: missing")
    if not where:
        return cls(**data)
    with _at(where):
        return cls(**data)


def _list_of(cls: type[T]) -> Callable[[str, object], tuple[T, ...]]:
    def parse(key: str, value: object) -> tuple[T, ...]:
        items = _list_items(key, value, "objects")
        return tuple(_build(cls, item, f"{key}[{i}]") for i, item in enumerate(items))

    return parse


def _parse_stages(key: str, value: object) -> tuple[Stage, ...]:
    stages = []
    for i, item in enumerate(_list_items(key, value, "stages")):
        where = f"{key}[{i}]"
        if not isinstance(item, dict):
            raise _fail(where, "an object", item)
        kind = _choice(f"{where}.kind", item.get("kind"), tuple(STAGES))
        stages.append(_build(STAGES[kind], {k: v for k, v in item.items() if k != "kind"}, where))
    return tuple(stages)


def _parse_network(key: str, value: object) -> NetworkSpec:
    if isinstance(value, dict) and "layers" in value:
        value = {**value, "layers": _list_of(LayerSpec)(f"{key}.layers", value["layers"])}
    if isinstance(value, dict) and value.get("cell") is not None:
        value = {**value, "cell": _build(CellSpec, value["cell"], f"{key}.cell")}
    return _build(NetworkSpec, value, key)


def _parse_normalizer(key: str, value: object) -> NormalizerSpec | None:
    return None if value is None else _build(NormalizerSpec, value, key)


def _parse_rest(key: str, value: object) -> Rest | None:
    return None if value is None else _build(Rest, value, key)


_NESTED: dict[str, Callable[[str, object], Any]] = {
    "inputs": _list_of(InputSpec),
    "outputs": _list_of(OutputSpec),
    "network": _parse_network,
    "normalizer": _parse_normalizer,
    "pipeline": _parse_stages,
    "rest": _parse_rest,
}
