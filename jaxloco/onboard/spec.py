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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from numbers import Integral, Real
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from jaxloco.errors import BundleError, JaxlocoError
from jaxloco.onboard.cells import MLP, NETWORK_KINDS, PLAN, find_cell
from jaxloco.onboard.convolutions import TCN

SCHEMA_NAME = "jaxloco-policy"
SCHEMA_VERSION = 2
SCHEMA = f"{SCHEMA_NAME}/{SCHEMA_VERSION}"
FEED_FORWARD_SCHEMA = f"{SCHEMA_NAME}/1"
"""Schema of policies without memory, estimator, generator of foot trajectories, motion and readings from outside the
robot; every jaxloco reads it."""

ACTIVATIONS = ("elu", "gelu", "identity", "leaky_relu", "relu", "sigmoid", "softplus", "swish", "tanh")
SQUASHES = ("clip", "tanh")
SOURCES = ("sensor", "command", "external", "policy")
LAST_ACTION = "last_action"
GAIT_CLOCK = "gait_clock"
"""A policy's own clock, (sin, cos) of 2π times its cycle, and (0, 0) while it rests; a policy can read it as an input.

Without a `Rest`, the cycle is frequency · time since the reset.
"""
FOOT_PHASES, FOOT_FREQUENCIES, GAIT_FREQUENCY = "foot_phases", "foot_frequencies", "gait_frequency"
"""What a policy with `FootTrajectories` of n feet can read of them.

Sines (n,), then cosines (n,), of 2π times the phases; frequencies of the feet, Hz, (n,); that of the clock, Hz, (1,), 0
while it rests.
"""
MOTION_JOINTS, MOTION_VELOCITIES = "motion_joint_positions", "motion_joint_velocities"
MOTION_ORIENTATION = "motion_orientation"
"""What a policy with a `MotionSpec` can read of its reference: joint positions, rad, and velocities, rad/s, (n,) each;
and the first two axes of its base in the robot's, (6,)."""

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


def _not_negative(key: str, value: object) -> float:
    number = _number(key, value)
    if number < 0.0:
        raise _fail(key, "a number of at least 0", value)
    return number


def _integer(low: int, high: int) -> Callable[[str, object], int]:
    def check(key: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
            raise _fail(key, f"a whole number from {low} to {high}", value)
        return int(value)

    return check


def _sequence(key: str, value: object, what: str, most: int = MAX_SIZE) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _fail(key, f"a list of {what}", value)
    if len(value) > most:
        raise _fail(key, f"at most {most} entries", len(value))
    return tuple(value)


def _vector(key: str, value: object) -> tuple[float, ...]:
    items = _sequence(key, value, "numbers")
    if not items:
        raise _fail(key, "a list of one number per action component", value)
    return tuple(_number(f"{key}[{i}]", item) for i, item in enumerate(items))


def _values(key: str, value: object) -> Values:
    return _vector(key, value) if isinstance(value, (list, tuple)) else _number(key, value)


def _clip(key: str, value: object) -> tuple[float, float]:
    clip = _vector(key, value)
    if len(clip) != 2 or clip[0] > clip[1]:
        raise _fail(key, "null or [lowest, highest]", value)
    return clip[0], clip[1]


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


def _components(key: str, value: object) -> tuple[str, ...]:
    short = r"[^\x00-\x1f]{1,100}"  # names of joints, in whatever signs the robot's maker has them
    items = _sequence(key, value, "names")
    return tuple(_text(f"{key}[{i}]", item, short) for i, item in enumerate(items))


def _choice(known: tuple[str, ...]) -> Callable[[str, object], str]:
    def check(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in known:
            close = difflib.get_close_matches(value, known, n=1) if isinstance(value, str) else []
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise _fail(key, "one of " + ", ".join(known) + hint, value)
        return value

    return check


def _kind(key: str, value: object) -> str:
    kind = value if isinstance(value, str) and ":" in value else _choice((*NETWORK_KINDS, PLAN))(key, value)
    try:
        find_cell(kind)
    except JaxlocoError as error:
        raise BundleError(str(error)) from None
    return kind


def _truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _fail(key, "true or false", value)
    return value


def _mapping(key: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _fail(key, "an object", value)
    return value


def _instance(cls: type, article: str, key: str, value: object) -> Any:
    if not isinstance(value, cls):
        raise _fail(key, f"{article} {cls.__name__}", value)
    return value


def _instances(cls: type, article: str, key: str, value: object) -> tuple[Any, ...]:
    items = _sequence(key, value, f"{cls.__name__}s", MAX_ITEMS)
    return tuple(_instance(cls, article, f"{key}[{i}]", item) for i, item in enumerate(items))


def _three_places(key: str, value: object) -> tuple[int, ...]:
    places = _sequence(key, value, "places among the outputs")
    if len(places) != 3:
        raise _fail(key, "3 places among the outputs", value)
    return tuple(_integer(0, MAX_SIZE)(f"{key}[{i}]", place) for i, place in enumerate(places))


def _frames(key: str, value: object) -> tuple[int, ...]:
    items = _sequence(key, value, "whole numbers", MAX_ITEMS)
    if not items:
        raise _fail(key, "a list of numbers of frames", value)
    return tuple(_integer(2, MAX_SIZE)(f"{key}[{i}]", item) for i, item in enumerate(items))


Positive = Annotated[float, _positive]
NotNegative = Annotated[float, _not_negative]
Number = Annotated[float, _number]
Size = Annotated[int, _integer(1, MAX_SIZE)]
Text = Annotated[str, _text]
Name = Annotated[str, _name]
ArrayName = Annotated[str, _array_name]
Vector = Annotated[tuple[float, ...], _vector]
"""One number per component of the action."""
PerComponent = Annotated[Values, _values]
Components = Annotated[tuple[str, ...], _components]


class _Field(NamedTuple):
    """How a field is checked; and, of a field that holds other dataclasses, their class and whether it is a list."""

    check: Callable[[str, Any], Any]
    optional: bool
    cls: type | None
    many: bool


def _read_fields(cls: type) -> dict[str, _Field]:
    """Return how each field of a dataclass is checked, as its annotation says."""
    hints, found = get_type_hints(cls, include_extras=True), {}
    for item in dataclasses.fields(cls):
        hint, optional = hints[item.name], type(None) in get_args(hints[item.name])
        if optional:
            hint = get_args(hint)[0]
        if get_origin(hint) is Annotated:
            found[item.name] = _Field(get_args(hint)[1], optional, None, False)
        else:  # a dataclass, or a tuple of such
            many = get_origin(hint) is tuple
            inner = get_args(hint)[0] if many else hint
            check = partial(_instances if many else _instance, inner, "null or a" if optional else "a")
            found[item.name] = _Field(check, optional, inner, many)
    return found


_fields: Callable[[Any], dict[str, _Field]] = cache(_read_fields)


class Checked:
    """A frozen dataclass whose values are checked, and converted, as its annotations say."""

    def __post_init__(self) -> None:
        for name, entry in _fields(type(self)).items():
            value = getattr(self, name)
            if not (entry.optional and value is None):
                object.__setattr__(self, name, entry.check(name, value))
        self._check()

    def _check(self) -> None:
        """Check what concerns several fields."""


def expand(value: Values, size: int) -> tuple[float, ...]:
    """Return one number per component: `value` itself if it is a tuple, repeated otherwise.

    >>> expand(2.0, 3)
    (2.0, 2.0, 2.0)
    """
    return value if isinstance(value, tuple) else (value,) * size


def _check_order(low: Values, high: Values) -> None:
    if isinstance(low, tuple) and isinstance(high, tuple) and len(low) != len(high):
        raise _fail("low", f"as many numbers as high ({len(high)})", low)
    if np.greater(low, high).any():
        raise BundleError(f"low: expected at most high ({show(high)}), found {show(low)}")


def _check_sizes(spec: "InputSpec | OutputSpec", *keys: str) -> None:
    """Check that each value is one number or one per component, and that components have different names."""
    for key in keys:
        value = getattr(spec, key)
        if isinstance(value, tuple) and len(value) != spec.size:
            raise _fail(key, f"one number or a list of {spec.size}", value)
    names = spec.components
    if names and (len(names) != spec.size or len(set(names)) != spec.size):
        raise _fail("components", f"no names or {spec.size} different ones", names)


@dataclass(frozen=True)
class InputSpec(Checked):
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
        source: "sensor", "command" or "external", for what others than the robot measure, such as cameras (all given by
            the caller); or "policy" (filled in by the runtime with what the policy gave in the step before, zeros after
            a reset: `last_action`, or an output by its name; or with `gait_clock`, or what `FootTrajectories` let it
            read).
        components: Names of the components, for example of the joints; may be empty.
        frequency: Of `gait_clock`, Hz; None for any other input.
    """

    name: Name
    unit: Text = ""
    size: Size = 1
    scale: PerComponent = 1.0
    clip: Annotated[tuple[float, float], _clip] | None = None
    low: PerComponent | None = None
    high: PerComponent | None = None
    source: Annotated[str, _choice(SOURCES)] = "sensor"
    components: Components = ()
    frequency: Positive | None = None

    def _check(self) -> None:
        _check_sizes(self, "scale", "low", "high")
        if (self.name == GAIT_CLOCK) != (self.frequency is not None):
            raise _fail("frequency", f"Hz for {GAIT_CLOCK!r}, null for any other input", self.frequency)
        if self.low is not None and self.high is not None:
            _check_order(self.low, self.high)
        if self.name in (LAST_ACTION, GAIT_CLOCK) and self.source != "policy":
            raise _fail("source", f'"policy" for {self.name!r}', self.source)


@dataclass(frozen=True)
class OutputSpec(Checked):
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

    name: Name
    unit: Text
    size: Size
    low: PerComponent
    high: PerComponent
    safe: PerComponent
    components: Components = ()

    def _check(self) -> None:
        _check_sizes(self, "low", "high", "safe")
        _check_order(self.low, self.high)
        if np.less(self.safe, self.low).any() or np.greater(self.safe, self.high).any():
            raise _fail("safe", f"values from {show(self.low)} to {show(self.high)}", self.safe)


@dataclass(frozen=True)
class NormalizerSpec(Checked):
    """Normalization of the stacked history: `clip((x - mean) / std, -clip, clip)`.

    Attributes:
        mean: Name of the array of means, shape (observation size,).
        std: Name of the array of standard deviations, shape (observation size,), above 0.
        clip: Largest magnitude after normalization; None for no clip.
    """

    mean: ArrayName = "normalizer/mean"
    std: ArrayName = "normalizer/std"
    clip: Positive | None = 10.0


@dataclass(frozen=True)
class LayerSpec(Checked):
    """One dense layer `x @ kernel + bias`: names of arrays of shapes (inputs, outputs) and (outputs,)."""

    kernel: ArrayName
    bias: ArrayName


@dataclass(frozen=True)
class CellSpec(Checked):
    """Names of the arrays of a recurrent cell of H units and G gates; see `jaxloco.onboard.cells`.

    Attributes:
        input: (inputs, G H).
        bias: (G H,).
        hidden: (H, G H).
        hidden_bias: (H,), of the last gate; None if the cell has none.
    """

    input: ArrayName
    bias: ArrayName
    hidden: ArrayName
    hidden_bias: ArrayName | None = None

    @property
    def arrays(self) -> list[str]:
        """Names of all its arrays."""
        own = [] if self.hidden_bias is None else [self.hidden_bias]
        return [self.input, self.bias, self.hidden, *own]


@dataclass(frozen=True)
class ConvolutionSpec(Checked):
    """One layer of a temporal convolutional network; see `jaxloco.onboard.convolutions`.

    Attributes:
        kernel: Name of an array (taps, inputs, outputs), oldest tap first.
        bias: Name of an array (outputs,).
        spacing: Steps between two taps.
    """

    kernel: ArrayName
    bias: ArrayName
    spacing: Annotated[int, _integer(1, MAX_HISTORY)] = 1


@dataclass(frozen=True)
class EstimateSpec(Checked):
    """One quantity that an estimator tells: its name, SI unit and number of components."""

    name: Name
    unit: Text = ""
    size: Size = 1


@dataclass(frozen=True)
class EstimatorSpec(Checked):
    """A perceptron that tells what the robot cannot measure, with the policy's activation.

    Attributes:
        layers: The dense layers, first to last. They read what the policy's layers read, but for estimates.
        estimates: What it tells, in the order of the outputs.
        fed: The policy's layers read the outputs too, behind their other inputs; only of policies without memory.
    """

    layers: tuple[LayerSpec, ...]
    estimates: tuple[EstimateSpec, ...]
    fed: Annotated[bool, _truth] = False

    def _check(self) -> None:
        if not self.layers or not self.estimates:
            raise _fail("layers, estimates", "at least one each", (self.layers, self.estimates))
        names = [item.name for item in self.estimates]
        if len(set(names)) != len(names):
            raise _fail("estimates", "different names", names)

    @property
    def size(self) -> int:
        """Number of values that it tells."""
        return sum(item.size for item in self.estimates)


@dataclass(frozen=True)
class PlanSpec(Checked):
    """A planned trajectory with its feedback: y = u_t + K_t (x - x_t), a row for each step, the last one for all after.

    Attributes:
        states: Name of the array of observations x_t, shape (T, observation).
        controls: Name of the array of actions u_t, shape (T, actions).
        gains: Name of the array of gains K_t, shape (T, actions, observation).
    """

    states: ArrayName
    controls: ArrayName
    gains: ArrayName


@dataclass(frozen=True)
class NetworkSpec(Checked):
    """A multi-layer perceptron, perhaps on a memory: the activation between layers, none after the last one; or a plan.

    Attributes:
        layers: The dense layers, first to last.
        activation: One of `ACTIVATIONS`, as in `flax.linen` (gelu: the tanh approximation).
        output: "clip" (the action is `clip(y, -1, 1)`) or "tanh" (the action is `tanh(y)`).
        kind: "mlp"; that of the cell whose outputs the layers read, see `jaxloco.onboard.cells.find_cell`; "tcn", of
            layers that read what convolutions over time give, and behind it the observation; or "plan".
        cell: That cell; None without one.
        convolutions: Those convolutions, each with the activation; none of other kinds.
        estimator: What tells quantities beside the policy; None without one.
        plan: What a "plan" does, which has no layers; None of other kinds.
    """

    layers: tuple[LayerSpec, ...]
    activation: Annotated[str, _choice(ACTIVATIONS)] = "elu"
    output: Annotated[str, _choice(SQUASHES)] = "clip"
    kind: Annotated[str, _kind] = "mlp"
    cell: CellSpec | None = None
    convolutions: tuple[ConvolutionSpec, ...] = ()
    estimator: EstimatorSpec | None = None
    plan: PlanSpec | None = None

    def _check(self) -> None:
        if (self.kind == PLAN) != (self.plan is not None):
            raise _fail("plan", f"{'a PlanSpec' if self.kind == PLAN else 'null'} for kind {self.kind!r}", self.plan)
        cell = find_cell(self.kind)
        if self.kind != MLP and self.estimator is not None and self.estimator.fed:
            raise _fail("estimator.fed", f"false for kind {self.kind!r}", True)
        if (self.kind == TCN) != bool(self.convolutions):
            raise _fail(
                "convolutions", f"{'some' if self.kind == TCN else 'none'} for kind {self.kind!r}", self.convolutions
            )
        if (cell is None) == (self.cell is not None):
            raise _fail("cell", f"{'null' if cell is None else 'a CellSpec'} for kind {self.kind!r}", self.cell)
        if cell is not None and self.cell is not None and cell.hidden_bias != (self.cell.hidden_bias is not None):
            raise _fail("cell.hidden_bias", "an array" if cell.hidden_bias else "null", self.cell.hidden_bias)
        if bool(self.layers) == (self.kind == PLAN):
            raise _fail("layers", f"{'no' if self.kind == PLAN else 'at least one'} layer", self.layers)


class Stage(Checked):
    """One stage of the action pipeline: a step from an action vector to the next, elementwise if it does not say."""

    kind: ClassVar[str]

    def taken(self, size: int) -> int:
        """Return how many components it takes where it gives `size`."""
        return size

    def check_fits(self, size: int, control_frequency: float) -> None:
        """Check the stage against the policy it belongs to.

        Args:
            size: Number of components that it has to give.
            control_frequency: Steps per second, Hz.

        Raises:
            BundleError: A list has another length than the action, or `dt` is not the control period.
        """
        self._check_size(size)
        dt = getattr(self, "dt", None)
        if dt is not None and abs(dt * control_frequency - 1.0) > 1e-3:
            raise _fail("dt", f"the control period, {1.0 / control_frequency:g} s", dt)

    def _check_size(self, size: int) -> None:
        for key in _fields(type(self)):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != size:
                raise _fail(key, f"{size} numbers, one per action component", value)


@dataclass(frozen=True)
class Scale(Stage):
    """`y = x * scale + offset`."""

    scale: Vector
    offset: Vector | None = None
    kind: ClassVar[str] = "scale"


@dataclass(frozen=True)
class Clip(Stage):
    """`y = clip(x, low, high)`."""

    low: Vector
    high: Vector
    kind: ClassVar[str] = "clip"

    def _check(self) -> None:
        _check_order(self.low, self.high)


@dataclass(frozen=True)
class Integrate(Stage):
    """`s ← clip(s + dt x, low, high)`, `y = s`; s starts at `initial` (zeros by default)."""

    dt: Positive
    low: Vector
    high: Vector
    initial: Vector | None = None
    kind: ClassVar[str] = "integrate"

    def _check(self) -> None:
        _check_order(self.low, self.high)


@dataclass(frozen=True)
class LowPass(Stage):
    """`s ← s + (dt / tau) (x - s)`, `y = s`; `tau` in seconds, s starts at `initial` (zeros by default)."""

    dt: Positive
    tau: Vector
    initial: Vector | None = None
    kind: ClassVar[str] = "low_pass"

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

    steps: Annotated[int, _integer(0, MAX_DELAY_STEPS)]
    initial: Vector | None = None
    kind: ClassVar[str] = "delay"


@dataclass(frozen=True)
class Cycle(Stage):
    """`y = x + amplitude · max(sin(2π (cycle + offset)), 0)`: a gait, to which the policy's action is added.

    The cycle is that of the policy's clock: `frequency`, Hz, times the time since the reset, or as its `Rest` says;
    while the clock rests, y = x. `offset` is in cycles. After the open-loop leg motions of Iscen et al. 2018 and Lee et
    al. 2020.
    """

    dt: Positive
    frequency: Positive
    amplitude: Vector
    offset: Vector
    kind: ClassVar[str] = "cycle"


@dataclass(frozen=True)
class Follow(Stage):
    """`y = x + reference - default`: joint targets about a motion that were offsets from the pose `default`, rad.

    The reference is that of the policy's `MotionSpec`, its `lead` ahead.
    """

    default: Vector
    kind: ClassVar[str] = "follow"


@dataclass(frozen=True)
class Leg(Checked):
    """A leg with three hinges, the last two across the first and along each other, as quadrupeds have.

    Points and axes are in the frame of the base, with all joints at zero.

    Attributes:
        joints: Places of its joints among the outputs, from the base down, (3,).
        anchors: Where their axes are, m: x, y, z of each, (9,).
        axes: Directions of their axes: x, y, z of each, (9,).
        foot: Where the foot is, m, (3,).
        pose: Joint positions about which the foot moves, rad, (3,); the knee stays bent to this side.
    """

    joints: Annotated[tuple[int, ...], _three_places]
    anchors: Vector
    axes: Vector
    foot: Vector
    pose: Vector

    def _check(self) -> None:
        for key, size in (("anchors", 9), ("axes", 9), ("foot", 3), ("pose", 3)):
            value = getattr(self, key)
            if len(value) != size or max(map(abs, value)) > LONGEST:
                raise _fail(key, f"{size} numbers from -{LONGEST:g} to {LONGEST:g}", value)
        axes, anchors = np.reshape(self.axes, (3, 3)), np.reshape(self.anchors, (3, 3))
        lengths = np.linalg.norm(axes, axis=1)
        if not (np.abs(lengths - 1.0) < ALIGNED).all():
            raise _fail("axes", "directions of length 1", lengths.tolist())
        if abs(axes[0] @ axes[1]) > ALIGNED or abs(abs(axes[1] @ axes[2]) - 1.0) > ALIGNED:
            raise _fail("axes", "the second across the first, and the third along the second", self.axes)
        for key, link in (("anchors", anchors[2] - anchors[1]), ("foot", np.array(self.foot) - anchors[2])):
            if not np.linalg.norm(link - (link @ axes[1]) * axes[1]) > 1e-6:
                raise _fail(key, "links of some length across the axes of the last two joints", getattr(self, key))


ALIGNED = 1e-4
"""Largest difference of the axes of a leg from what they should be: inverse kinematics takes them as exact."""

LONGEST = 100.0
"""Largest coordinate of a leg, m, and largest angle of its pose, rad."""


@dataclass(frozen=True)
class FootTrajectories(Stage):
    """Joint targets from frequencies and offsets of feet: steps in place, each foot on a phase of its own.

    An action in [-1, 1] has a frequency a for each of n feet, then offsets b of each, x, y, z. With f = f₀ +
    frequency_scale · a, a foot's target is inverse kinematics of

        its place in the pose + foot_scale · b + (0, 0, height · z(φ + lead · f))

    and then φ ← φ + dt · f, in cycles; z is that of `jaxloco.onboard.generator.foot_height`, up and down in the first
    half. f₀ is `frequency`, Hz, and 0 while the policy's clock rests, see `Rest`. φ is the clock's cycle, plus
    `offset`, plus what the foot's own frequency has added since the reset, in whole 2⁻³² cycles. With a
    `frequency_scale` of 0 all feet keep to the clock, as those of a `Cycle` do. It is the first stage. After Lee et al.
    2020, supplement S3.

    Attributes:
        dt: Control period, s.
        frequency: Of the clock, f₀, Hz.
        frequency_scale: Change of a foot's frequency for an action of 1, Hz.
        height: Of a foot in the middle of its swing, m.
        foot_scale: Offset of a foot for an action of 1, m.
        lead: How far targets run ahead of the phases, s.
        offset: By how much of a cycle each foot is ahead, (n,).
        legs: The legs, one for each foot.
    """

    dt: Positive
    frequency: Positive
    frequency_scale: NotNegative
    height: NotNegative
    foot_scale: Positive
    lead: Number
    offset: Vector
    legs: tuple[Leg, ...]
    kind: ClassVar[str] = "foot_trajectories"

    def _check(self) -> None:
        if len(self.offset) != len(self.legs):
            raise _fail("offset", f"{len(self.legs)} numbers, one per leg", self.offset)
        if (self.frequency + self.frequency_scale) * self.dt >= 0.5:
            expected = f"less than {0.5 / self.dt - self.frequency:g} Hz: a cycle takes more than two control periods"
            raise _fail("frequency_scale", expected, self.frequency_scale)
        joints = sorted(joint for leg in self.legs for joint in leg.joints)
        if joints != list(range(3 * len(self.legs))):
            raise _fail("legs", "each output once among the joints of the legs", joints)

    def taken(self, size: int) -> int:
        """Return the number of frequencies and offsets."""
        return 4 * len(self.legs)

    def _check_size(self, size: int) -> None:
        if size != 3 * len(self.legs):
            raise _fail("legs", f"legs with {size} joints in all, one per output", 3 * len(self.legs))


@dataclass(frozen=True)
class Rest(Checked):
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

    command: Name
    below: Positive
    after: NotNegative = 0.0
    gravity: Name | None = None
    tilt: Positive | None = None

    def _check(self) -> None:
        if (self.gravity is None) != (self.tilt is None):
            raise _fail("tilt", "a number if gravity is an input, and else null", self.tilt)
        if self.tilt is not None and self.tilt >= math.pi / 2:
            raise _fail("tilt", "less than a right angle", self.tilt)


@dataclass(frozen=True)
class MotionSpec(Checked):
    """Clips that a policy tracks, one frame a control period; see `jaxloco.onboard.motion`.

    Attributes:
        clips: Their names, in the order of the command.
        frames: Frames of each, at least 2.
        choice: Name of the command that chooses a clip, (clips,).
        orientation: Name of the reading of the base's orientation (w, x, y, z) in a world with z up, (4,).
        lead: By how many frames joint targets are ahead, because joints follow them late.
        joint_positions: Name of an array (frames of all, outputs), rad.
        joint_velocities: The same, rad/s.
        orientations: Of an array (frames of all, 4): that of the base (w, x, y, z).
    """

    clips: Components
    frames: Annotated[tuple[int, ...], _frames]
    choice: Name
    orientation: Name
    lead: Annotated[int, _integer(0, MAX_DELAY_STEPS)] = 0
    joint_positions: ArrayName = "motion/joint_positions"
    joint_velocities: ArrayName = "motion/joint_velocities"
    orientations: ArrayName = "motion/orientations"

    def _check(self) -> None:
        if len(set(self.clips)) != len(self.clips) or len(self.clips) != len(self.frames):
            raise _fail("clips", f"{len(self.frames)} different names, as many as frames", self.clips)

    def command(self, clip: str | None = None) -> tuple[float, ...]:
        """Return the command that begins a clip; that for none without a name.

        Raises:
            BundleError: There is no such clip.
        """
        if clip is not None and clip not in self.clips:
            raise _fail("clip", "one of " + ", ".join(self.clips), clip)
        return tuple(float(name == clip) for name in self.clips)


STAGES: dict[str, type[Stage]]
STAGES = {stage.kind: stage for stage in (Scale, Clip, Integrate, LowPass, Delay, Cycle, Follow, FootTrajectories)}


def widths(stages: Sequence[Stage], outputs: int) -> list[int]:
    """Return how many components each stage of a pipeline takes, and at last the number of outputs."""
    sizes = [outputs]
    for stage in reversed(stages):
        sizes.append(stage.taken(sizes[-1]))
    return sizes[::-1]


@dataclass(frozen=True)
class PolicySpec(Checked):
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
        motion: Clips that the policy tracks; None for other policies.
        jaxloco: Version of jaxloco that wrote the bundle.
        provenance: Where the policy came from: configuration, versions, checkpoint step, evaluation.
    """

    robot: Name
    task: Name
    control_frequency: Positive
    inputs: tuple[InputSpec, ...]
    network: NetworkSpec
    outputs: tuple[OutputSpec, ...]
    history: Annotated[int, _integer(1, MAX_HISTORY)] = 1
    normalizer: NormalizerSpec | None = None
    pipeline: tuple[Stage, ...] = ()
    rest: Rest | None = None
    motion: MotionSpec | None = None
    jaxloco: Text = ""
    provenance: Annotated[Mapping[str, Any], _mapping] = field(default_factory=dict, compare=False)

    def _check(self) -> None:
        self._check_names()
        self._check_numbers()
        self._check_rest()
        self._check_motion()

    def _check_motion(self) -> None:
        """Check that what a motion depends on is an input, and that what depends on one has it."""
        if self.motion is None:
            if any(isinstance(stage, Follow) for stage in self.pipeline):
                raise _fail("motion", "clips for the stage 'follow'", None)
            return
        for key, source, size in (("choice", "command", len(self.motion.clips)), ("orientation", "sensor", 4)):
            known = [item.name for item in self.inputs if item.source == source and item.size == size]
            if getattr(self.motion, key) not in known:
                raise _fail(f"motion.{key}", f"a {source} of {size} numbers, {known}", getattr(self.motion, key))

    def _check_rest(self) -> None:
        """Check that the clock that rests is there, is one, and that its command is an input."""
        if self.rest is None:
            return
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
        """Frequencies of the gait clock, of all cycles and of the generator, Hz."""
        clocks = {item.frequency for item in self.inputs if item.frequency is not None}
        return clocks | {stage.frequency for stage in self.pipeline if isinstance(stage, Cycle | FootTrajectories)}

    @property
    def generator(self) -> FootTrajectories | None:
        """The generator of foot trajectories; None without one."""
        first = self.pipeline[0] if self.pipeline else None
        return first if isinstance(first, FootTrajectories) else None

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

    def _check_numbers(self) -> None:
        if self.observation_size > MAX_SIZE or self.action_size > MAX_SIZE:
            raise _fail("history", f"at most {MAX_SIZE} numbers in all", self.observation_size)
        delayed = sum(stage.steps + 1 for stage in self.pipeline if isinstance(stage, Delay)) * self.output_size
        if delayed > MAX_DELAYED:
            raise _fail("pipeline", f"delays of at most {MAX_DELAYED} numbers in all", delayed)
        own = self._own_sizes()
        for i, item in enumerate(self.inputs):
            if (item.source == "policy") != (item.name in own):
                expected = f'"policy" for {sorted(own)} and for nothing else'
                raise _fail(f"inputs[{i}].source", expected, item.source)
            if item.source == "policy" and item.size != own[item.name]:
                raise _fail(f"inputs[{i}].size", f"the size of {item.name!r}, {own[item.name]}", item.size)
        self._check_pipeline()

    def _own_sizes(self) -> dict[str, int]:
        """Return what the policy itself can fill in → number of components."""
        own = {LAST_ACTION: self.action_size, **{output.name: output.size for output in self.outputs}, GAIT_CLOCK: 2}
        if self.generator is not None:
            feet = len(self.generator.legs)
            own |= {FOOT_PHASES: 2 * feet, FOOT_FREQUENCIES: feet, GAIT_FREQUENCY: 1}
        if self.motion is not None:
            own |= {MOTION_JOINTS: self.output_size, MOTION_VELOCITIES: self.output_size, MOTION_ORIENTATION: 6}
        return own

    def _check_pipeline(self) -> None:
        given = widths(self.pipeline, self.output_size)[1:]
        for i, (stage, size) in enumerate(zip(self.pipeline, given, strict=True)):
            try:
                if isinstance(stage, FootTrajectories) and i > 0:
                    raise _fail("kind", "foot_trajectories as the first stage alone", stage.kind)
                stage.check_fits(size, self.control_frequency)
            except BundleError as error:
                raise BundleError(f"pipeline[{i}].{error}") from None

    @property
    def frame_size(self) -> int:
        """Number of values in one frame."""
        return sum(item.size for item in self.inputs)

    @property
    def observation_size(self) -> int:
        """Number of values that the network reads: history × frame."""
        return self.history * self.frame_size

    @property
    def output_size(self) -> int:
        """Number of values in all outputs together."""
        return sum(item.size for item in self.outputs)

    @property
    def action_size(self) -> int:
        """Number of values in the action vector; that of all outputs unless a stage takes others than it gives."""
        return widths(self.pipeline, self.output_size)[0]

    @property
    def array_names(self) -> list[str]:
        """Names of the arrays that `policy.npz` must hold, no more and no fewer."""
        names = [self.normalizer.mean, self.normalizer.std] if self.normalizer else []
        names += self.network.cell.arrays if self.network.cell else []
        names += [plan.states, plan.controls, plan.gains] if (plan := self.network.plan) else []
        for convolution in self.network.convolutions:
            names += [convolution.kernel, convolution.bias]
        estimator = self.network.estimator
        for layer in self.network.layers + (estimator.layers if estimator else ()):
            names += [layer.kernel, layer.bias]
        if self.motion is not None:
            names += [self.motion.joint_positions, self.motion.joint_velocities, self.motion.orientations]
        return names

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain JSON values, without the checksums that `write_bundle` adds."""
        data = {name: _plain(getattr(self, name)) for name in _fields(PolicySpec)}
        if self.rest is None:
            del data["rest"]  # so that a jaxloco that knows no rest can read it
        elif self.rest.gravity is None:
            del data["rest"]["gravity"], data["rest"]["tilt"]
        for name in ("cell", "convolutions", "estimator", "plan"):
            if not data["network"][name]:
                del data["network"][name]
        if self.motion is None:
            del data["motion"]
        outside = [item for item in self.inputs if item.source == "external"]
        beyond = (self.generator, self.network.estimator, self.motion, *outside)
        first = self.network.kind == MLP and all(part is None for part in beyond)
        return {"schema": FEED_FORWARD_SCHEMA if first else SCHEMA, **data}

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
        return _build(cls, {key: value for key, value in data.items() if key not in ("schema", "checksums")}, "")


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


def _plain(value: Any) -> Any:
    """Return dataclasses, tuples and mappings as what JSON knows; a stage gets its "kind"."""
    if isinstance(value, Checked):
        kind = {"kind": value.kind} if isinstance(value, Stage) else {}
        return {**kind, **{name: _plain(getattr(value, name)) for name in _fields(type(value))}}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _build(cls: type[T], data: object, where: str) -> T:
    """Build the dataclass `cls` from a JSON object whose keys are its fields; a stage's class by its "kind"."""
    if not isinstance(data, dict):
        raise _fail(where, "an object", data)
    if cls is Stage:
        kind = _choice(tuple(STAGES))(f"{where}.kind", data.get("kind"))
        return _build(STAGES[kind], {key: value for key, value in data.items() if key != "kind"}, where)  # type: ignore[return-value]
    prefix, fields = f"{where}." if where else "", _fields(cls)
    for key in data:
        if key not in fields:
            close = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "known: " + ", ".join(fields)
            raise BundleError(f"{prefix}{show(key)}: unknown key; {hint}")
    for item in dataclasses.fields(cls):  # type: ignore[arg-type]
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and item.name not in data:
            raise BundleError(f"{prefix}{item.name}: missing")
    values = {key: _parse(fields[key], value, f"{prefix}{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except BundleError as error:
        raise BundleError(f"{prefix}{error}") from None


def _parse(entry: _Field, value: object, where: str) -> object:
    """Build what a field holds, where that is dataclasses."""
    if entry.cls is None or (entry.optional and value is None):
        return value
    if not entry.many:
        return _build(entry.cls, value, where)
    items = _sequence(where, value, "objects", MAX_ITEMS)
    return tuple(_build(entry.cls, item, f"{where}[{i}]") for i, item in enumerate(items))
