"""A policy as an ONNX graph of one control step, with its state as an input and an output.

The state is one vector of float64, which holds float32 values, counters and phases alike without rounding; zeros begin
an episode. The graph has the steps of `docs/onboard.md` in their order, with the arithmetic of the NumPy runtime.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jaxloco.errors import BundleError
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.cells import CELLS, MLP
from jaxloco.onboard.clock import NEAR, Clock
from jaxloco.onboard.convolutions import TCN
from jaxloco.onboard.generator import CYCLE, FOLDED, NEAREST, STRAIGHT, generator_of
from jaxloco.onboard.motion import CHOSEN
from jaxloco.onboard.policy import frame_figures
from jaxloco.onboard.spec import (
    FOOT_PHASES,
    GAIT_CLOCK,
    GAIT_FREQUENCY,
    LAST_ACTION,
    MOTION_JOINTS,
    MOTION_ORIENTATION,
    MOTION_VELOCITIES,
    Clip,
    Cycle,
    Delay,
    EstimateSpec,
    Follow,
    FootTrajectories,
    InputSpec,
    Integrate,
    LayerSpec,
    LowPass,
    MotionSpec,
    OutputSpec,
    PlanSpec,
    Scale,
    Stage,
    expand,
    widths,
)

STATE_IN, STATE_OUT, ESTIMATES = "state_in", "state_out", "estimates/"
OPSET, IR = 17, 9

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float64): TensorProto.DOUBLE,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.bool_): TensorProto.BOOL,
}


def _double(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


def _whole(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def _single(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def _products(n: int, m: int, *sums: str) -> np.ndarray:
    """Return a table (n, m, sums): "+01 -10" is a[0] b[1] - a[1] b[0]."""
    table = np.zeros((n, m, len(sums)), np.float32)
    for k, words in enumerate(sums):
        for word in words.split():
            table[int(word[1]), int(word[2]), k] = float(f"{word[0]}1")
    return table


_BETWEEN_HEADINGS = _products(2, 2, "+00 +11", "+10 -01")
_TURNED = _products(2, 4, "+00 -13", "+01 -12", "+02 +11", "+03 +10")
_IN_BASE = _products(4, 4, "+00 +11 +22 +33", "+01 -10 -23 +32", "+02 +13 -20 -31", "+03 -12 +21 -30")
_AXES = 2.0 * _products(4, 4, "-22 -33", "+12 +03", "+13 -02", "+12 -03", "-11 -33", "+23 +01")
"""Of rotations (w, x, y, z) and turns (w, z), as the functions of `jaxloco.onboard.motion` have them."""


class _Graph:
    """A graph as it grows. Values are their names; other operands become constants of the type of the first value."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def add(self, op: str, *operands: Any, **attributes: Any) -> str:
        """Add a node; return its output."""
        names = [x if isinstance(x, str) else self.constant(x) for x in operands]
        output = f"/{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, names, [output], **attributes))
        return output

    def constant(self, value: Any) -> str:
        """Add an array, or a Python number as float32."""
        array = np.asarray(value, np.float32) if isinstance(value, float) else np.asarray(value)
        name = f"/constant_{len(self.constants)}"
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def cast(self, x: str, kind: Any) -> str:
        """Convert to another type."""
        return self.add("Cast", x, to=_TYPES[np.dtype(kind)])

    def part(self, x: str, start: int, size: int) -> str:
        """Cut some components of a vector out."""
        return self.add("Slice", x, _whole(start), _whole(start + size))

    def concat(self, *parts: str) -> str:
        """Join vectors."""
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def shaped(self, x: str, *shape: int) -> str:
        """Give another shape."""
        return self.add("Reshape", x, _whole(*shape))

    def clip(self, x: str, low: Any, high: Any) -> str:
        """Limit each component."""
        return self.add("Min", self.add("Max", x, low), high)

    def dense(self, x: str, kernel: np.ndarray, bias: np.ndarray) -> str:
        """Multiply a vector with a matrix, and add a vector."""
        return self.add("Add", self.add("MatMul", x, kernel), bias)

    def square(self, x: str) -> str:
        """Return the square of a vector's length, (1,) float64."""
        return self.cast(self.add("ReduceSum", self.add("Mul", x, x), _whole(0)), np.float64)

    def bilinear(self, a: str, b: str, table: np.ndarray) -> str:
        """Return sums of products of the components of two vectors, see `_products`."""
        outer = self.add("Mul", self.shaped(a, len(table), 1), self.shaped(b, 1, table.shape[1]))
        return self.add("MatMul", self.shaped(outer, -1), table.reshape(-1, table.shape[2]))

    def arctan2(self, y: str, x: str) -> str:
        """Return the angle of a point, rad: ONNX has the arc tangent of a quotient alone."""
        flat = self.add("GreaterOrEqual", self.add("Abs", x), self.add("Abs", y))
        under = self.add("Where", flat, x, y)
        under = self.add("Where", self.add("Equal", under, 0.0), 1.0, under)
        angle = self.add("Atan", self.add("Div", self.add("Where", flat, y, x), under))
        up = self.add("Where", self.add("Less", y, 0.0), -1.0, 1.0)
        back = self.add("Mul", up, self.add("Where", self.add("Less", x, 0.0), math.pi, 0.0))
        steep = self.add("Sub", self.add("Mul", up, 0.5 * math.pi), angle)
        return self.add("Where", flat, self.add("Add", angle, back), steep)


class _Writer(_Graph):
    """The graph of a policy.

    Attributes:
        started: Whether the state is not that of a reset, (1,) bool.
        size: Of the state so far.
        after: What the parts of the state are after this step, by name.
        ticking: The gait clock before this step; None without one.
        following: The motion before this step; None without one.
    """

    def __init__(self, bundle: Bundle):
        super().__init__()
        self.spec, self.arrays, self.clock = bundle.spec, bundle.arrays, Clock.of(bundle.spec)
        self.started = self.add("Greater", self.part(STATE_IN, 0, 1), np.zeros(1))
        self.size, self.after = 1, {"started": self.constant(np.ones(1))}
        self.ticking = _Ticking(self) if self.spec.frequencies else None
        self.following = _Following(self, self.spec.motion) if self.spec.motion else None

    def state(self, name: str, initial: Any, size: int, kind: Any = np.float32) -> str:
        """Add a part of the state; return what it is before this step: `initial` at the start of an episode."""
        was = self.cast(self.part(STATE_IN, self.size, size), kind)
        self.size += size
        self.after[name] = ""
        return self.add("Where", self.started, was, initial)

    def keep(self, name: str, value: str) -> None:
        """Say what a part of the state is after this step."""
        self.after[name] = self.cast(value, np.float64)

    def activate(self, name: str, x: str) -> str:
        """Apply an activation."""
        simple = {"elu": "Elu", "relu": "Relu", "sigmoid": "Sigmoid", "softplus": "Softplus", "tanh": "Tanh"}
        if name in simple:
            return self.add(simple[name], x)
        if name == "leaky_relu":
            return self.add("LeakyRelu", x, alpha=0.01)
        if name == "swish":
            return self.add("Mul", x, self.add("Sigmoid", x))
        if name == "gelu":
            inner = self.add("Mul", x, self.add("Add", self.add("Mul", self.add("Mul", x, x), 0.044715), 1.0))
            bent = self.add("Tanh", self.add("Mul", inner, math.sqrt(2.0 / math.pi)))
            return self.add("Mul", x, self.add("Mul", self.add("Add", bent, 1.0), 0.5))
        return x


# The steps of a policy, in their order


class _Ticking:
    """The gait clock before a step, in float64 but for `moving`, bool; (1,) each."""

    def __init__(self, w: _Writer):
        rests = w.spec.rest is not None
        zero = np.zeros(1)
        self.steps = w.state("steps", zero, 1, np.float64)
        self.half = w.state("half", zero, 1, np.float64) if rests else w.constant(zero)
        self.still = w.state("still", zero, 1, np.float64) if rests else ""
        moving = w.state("moving", zero, 1, np.float64) if rests else w.constant(np.ones(1))
        self.moving = w.add("Greater", moving, zero)
        self.base = w.add("Where", self.moving, _single([w.clock.frequency]), np.zeros(1, np.float32))
        self.ahead = self.turns = self.phases = self.velocity = ""
        if w.clock.feet is not None and w.spec.generator is not None:
            generator = generator_of(w.spec.generator)
            if w.spec.generator.sweep is not None:
                self.velocity = w.state("velocity", np.zeros(3, np.float32), 3)
            self.ahead = w.state("ahead", np.zeros(generator.feet, np.int64), generator.feet, np.int64)
            halves = w.add("Mul", w.cast(self.half, np.int64), _whole(CYCLE // 2))
            steps = w.add("Mul", w.cast(self.steps, np.int64), _whole(w.clock.feet.per_step))
            turns = w.add(
                "Add", w.add("Add", halves, steps), w.add("Add", self.ahead, generator.offsets.astype(np.int64))
            )
            parts = w.add("Div", w.add("Mod", turns, _whole(CYCLE)), _whole(256))
            self.phases = w.add("Mul", w.cast(parts, np.float32), 2.0**-24)

    def cycle(self, w: _Writer, frequency: float) -> str:
        """Return how far the cycle of a frequency, Hz, is, from 0 to 1."""
        seconds = w.add("Mul", self.steps, _double(w.clock.dt))
        cycles = w.add("Add", w.add("Mul", self.half, _double(0.5)), w.add("Mul", seconds, _double(frequency)))
        return w.add("Sub", cycles, w.add("Floor", cycles))

    def reading(self, w: _Writer, name: str, action: str) -> str:
        """Return what a policy can read of it."""
        if name == GAIT_CLOCK:
            angle = w.add("Mul", self.cycle(w, w.clock.frequency), _double(2.0 * math.pi))
            both = w.cast(
                w.concat(w.add("Sin", angle), w.add("Sin", w.add("Add", angle, _double(0.5 * math.pi)))),
                np.float32,
            )
            return w.add("Where", self.moving, both, np.zeros(2, np.float32))
        if name == FOOT_PHASES:
            angles = w.add("Mul", self.phases, 2.0 * math.pi)
            return w.concat(w.add("Sin", angles), w.add("Cos", angles))
        return self.base if name == GAIT_FREQUENCY else _foot_frequencies(w, self, action)

    def tick(self, w: _Writer, parts: dict[str, str], action: str) -> None:
        """Advance by a control period."""
        rest, one = w.spec.rest, np.ones(1)
        steps = w.add("Add", self.steps, one)
        if w.spec.generator is not None:
            stage = w.spec.generator
            own = w.add("Max", w.part(action, 0, len(stage.legs)), -1.0)
            turned = w.add("Round", w.add("Mul", own, float(np.float32(stage.frequency_scale * stage.dt * CYCLE))))
            ahead = w.add("Add", self.ahead, w.cast(turned, np.int64))
            w.keep("ahead", w.add("Mod", ahead, _whole(CYCLE)))
        if rest is None:
            w.keep("steps", steps)
            self._sweep(w, parts, w.add("Greater", np.ones(1), np.zeros(1)))
            return
        stands = w.add("LessOrEqual", w.square(parts[rest.command]), _double(rest.below**2))
        if rest.gravity is not None:
            gravity = parts[rest.gravity]
            level = w.add("LessOrEqual", w.square(w.part(gravity, 0, 2)), _double(w.clock.level or 0.0))
            upright = w.add("Less", w.part(gravity, 2, 1), np.zeros(1, np.float32))
            stands = w.add("And", stands, w.add("And", level, upright))
        still = w.add("Where", stands, w.add("Add", self.still, one), np.zeros(1))
        halves = self._halves(w, steps)
        landed = w.add("Greater", halves, self._halves(w, self.steps))
        waited = w.add("Greater", still, _double(w.clock.wait))
        stops = w.add("And", self.moving, w.add("And", landed, waited))
        goes = w.add("And", self.moving, w.add("Not", stops))
        starts = w.add("And", w.add("Not", self.moving), w.add("Not", stands))
        half = w.add("Mod", w.add("Add", self.half, halves), _double(2.0), fmod=1)
        w.keep("still", still)
        w.keep("half", w.add("Where", stops, half, self.half))
        w.keep("steps", w.add("Where", goes, steps, np.zeros(1)))
        moving = w.add("Or", goes, starts)
        w.keep("moving", moving)
        self._sweep(w, parts, moving)

    def _sweep(self, w: _Writer, parts: dict[str, str], moving: str) -> None:
        if self.velocity and w.spec.generator is not None and w.spec.generator.sweep is not None:
            w.keep("velocity", w.add("Where", moving, parts[w.spec.generator.sweep], np.zeros(3, np.float32)))

    def _halves(self, w: _Writer, steps: str) -> str:
        per_step = _double(2.0 * w.clock.dt * w.clock.frequency)
        return w.add("Floor", w.add("Add", w.add("Mul", steps, per_step), _double(NEAR)))


def _unit(w: _Writer, x: str) -> str:
    return w.add("Div", x, w.add("Max", w.add("ReduceL2", x, keepdims=1), 1e-6))


class _Following:
    """The motion before a step: what `jaxloco.onboard.motion.Motion` keeps and shows."""

    def __init__(self, w: _Writer, motion: MotionSpec):
        self.spec = motion
        self._tables = tuple(w.arrays[name] for name in (motion.joint_positions, motion.joint_velocities))
        self._orientations = w.constant(w.arrays[motion.orientations])
        ends = np.cumsum(motion.frames)
        self._first, last = ends - motion.frames, np.repeat(ends - 1, motion.frames)
        zero = np.zeros(1, np.int64)
        self.frame = w.state("frame", zero, 1, np.int64)
        self.playing = w.add("Greater", w.state("playing", zero, 1, np.int64), zero)
        self._last = w.add("Gather", last, self.frame)
        ahead = w.add("Min", w.add("Add", self.frame, _whole(motion.lead)), self._last)
        self.targets = self._row(w, self._tables[0], w.add("Where", self.playing, ahead, self.frame))
        before = w.state("turn", np.zeros(2, np.float32), 2)
        found = w.add("Greater", w.add("ReduceMax", w.add("Abs", before), keepdims=1), 0.0)
        self.turn = w.add("Where", found, before, self._turn(w, self.frame))

    def _row(self, w: _Writer, table: Any, frame: str) -> str:
        return w.add("Squeeze", w.add("Gather", table, frame), _whole(0))

    def _turn(self, w: _Writer, frame: str, orientation: str = "") -> str:
        """Return the turn about the vertical, (w, z), that takes the heading of a frame to that of the base."""
        both = orientation or self.spec.orientation, self._row(w, self._orientations, frame)
        a, b = (_unit(w, w.add("Gather", q, _whole(0, 3))) for q in both)
        return w.bilinear(a, b, _BETWEEN_HEADINGS)

    def reading(self, w: _Writer, name: str) -> str:
        """Return what a policy can read of it."""
        if name == MOTION_JOINTS:
            return self._row(w, self._tables[0], self.frame)
        if name == MOTION_VELOCITIES:
            return w.add("Where", self.playing, self._row(w, self._tables[1], self.frame), 0.0)
        q = _unit(w, self.spec.orientation)
        between = w.bilinear(q, w.bilinear(self.turn, self._row(w, self._orientations, self.frame), _TURNED), _IN_BASE)
        return w.add("Add", w.bilinear(between, between, _AXES), _single([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))

    def tick(self, w: _Writer, parts: dict[str, str]) -> None:
        """Advance by a control period."""
        choice, orientation = parts[self.spec.choice], parts[self.spec.orientation]
        chosen = w.add("Greater", w.add("ReduceMax", choice, keepdims=1), CHOSEN)
        begins = w.add("And", chosen, w.add("Not", self.playing))
        first = w.add("Gather", self._first, w.add("ArgMax", choice, axis=0, keepdims=1))
        ends = w.add("Equal", self.frame, self._last)
        goes_on = w.add("And", self.playing, w.add("Not", ends))
        onward = w.add("Add", self.frame, w.cast(goes_on, np.int64))
        frame = w.add("Where", begins, first, onward)
        w.keep("frame", frame)
        w.keep("playing", w.add("Or", begins, goes_on))
        w.keep("turn", w.add("Where", begins, self._turn(w, frame, orientation), self.turn))


def _foot_frequencies(w: _Writer, clock: _Ticking, action: str) -> str:
    assert w.spec.generator is not None
    own = w.part(action, 0, len(w.spec.generator.legs))
    return w.add("Add", clock.base, w.add("Mul", own, w.spec.generator.frequency_scale))


def _frame(w: _Writer, action: str, command: str) -> tuple[str, dict[str, str]]:
    """Return the frame, and its parts before their scale, by name."""
    low, high, scale = frame_figures(w.spec.inputs)
    places, start = {}, 0
    for output in w.spec.outputs:
        places[output.name], start = (start, output.size), start + output.size
    parts, start = {}, 0
    for item in w.spec.inputs:
        if item.source != "policy":
            part = item.name
        elif item.name == LAST_ACTION:
            part = action
        elif item.name in places:
            part = w.part(command, *places[item.name])
        elif w.following is not None and item.name in (MOTION_JOINTS, MOTION_VELOCITIES, MOTION_ORIENTATION):
            part = w.following.reading(w, item.name)
        else:
            assert w.ticking is not None
            part = w.ticking.reading(w, item.name, action)
        own = slice(start, start + item.size)
        parts[item.name] = part if item.clip is None else w.clip(part, low[own], high[own])
        start += item.size
    return w.add("Mul", w.concat(*parts.values()), scale), parts


def _observation(w: _Writer, frame: str) -> str:
    """Return what the network reads."""
    spec, window = w.spec, frame
    if spec.history > 1:
        past = (spec.history - 1) * spec.frame_size
        before = w.state("history", w.add("Tile", frame, _whole(spec.history - 1)), past)
        window = w.concat(before, frame)
        w.keep("history", w.part(window, spec.frame_size, past))
    if spec.normalizer is None:
        return window
    mean, std, limit = w.arrays[spec.normalizer.mean], w.arrays[spec.normalizer.std], spec.normalizer.clip
    x = w.add("Div", w.add("Sub", window, mean), std)
    return x if limit is None else w.clip(x, -limit, limit)


def _network(w: _Writer, x: str) -> str:
    """Return the action, in [-1, 1]."""
    network = w.spec.network
    if network.plan is not None:
        x = _plan(w, network.plan, x)
    else:
        if network.kind != MLP:
            x = _convolutions(w, x) if network.kind == TCN else _cell(w, x)
        if network.estimator is not None:
            told = _layers(w, network.estimator.layers, x)
            _named(w, network.estimator.estimates, told, ESTIMATES)
            x = w.concat(x, told) if network.estimator.fed else x
        x = _layers(w, network.layers, x)
    return w.add("Tanh", x) if network.output == "tanh" else w.clip(x, -1.0, 1.0)


def _layers(w: _Writer, layers: Sequence[LayerSpec], x: str) -> str:
    for i, layer in enumerate(layers):
        x = w.dense(x, w.arrays[layer.kernel], w.arrays[layer.bias])
        x = w.activate(w.spec.network.activation, x) if i < len(layers) - 1 else x
    return x


def _plan(w: _Writer, plan: PlanSpec, x: str) -> str:
    states, controls, gains = (w.arrays[name] for name in (plan.states, plan.controls, plan.gains))
    row = w.state("row", np.zeros(1, np.int64), 1, np.int64)
    w.keep("row", w.add("Min", w.add("Add", row, _whole(1)), _whole(len(controls) - 1)))
    state, control, gain = (
        w.add("Squeeze", w.add("Gather", table, row), _whole(0)) for table in (states, controls, gains)
    )
    return w.add("Add", w.add("MatMul", gain, w.add("Sub", x, state)), control)


def _cell(w: _Writer, x: str) -> str:
    kind, cell = w.spec.network.kind, w.spec.network.cell
    assert cell is not None
    size, columns = w.arrays[cell.hidden].shape
    hidden_bias = np.zeros(columns, np.float32)
    if cell.hidden_bias is not None:
        hidden_bias[-size:] = w.arrays[cell.hidden_bias]
    zeros = np.zeros(size, np.float32)
    carry = [w.state(name, zeros, size) for name in ("h", "c")[: CELLS[kind].remembered]]
    drive = w.dense(x, w.arrays[cell.input], w.arrays[cell.bias])
    recurrent = w.dense(carry[0], w.arrays[cell.hidden], hidden_bias)
    of_x, of_h = ([w.part(a, i * size, size) for i in range(columns // size)] for a in (drive, recurrent))
    if kind == "gru":
        r, z = (w.add("Sigmoid", w.add("Add", of_x[i], of_h[i])) for i in (0, 1))
        n = w.add("Tanh", w.add("Add", of_x[2], w.add("Mul", r, of_h[2])))
        after = [w.add("Add", w.add("Mul", w.add("Sub", 1.0, z), n), w.add("Mul", z, carry[0]))]
    else:
        i, f, g, o = (w.add("Add", a, b) for a, b in zip(of_x, of_h, strict=True))
        kept, new = w.add("Mul", w.add("Sigmoid", f), carry[1]), w.add("Mul", w.add("Sigmoid", i), w.add("Tanh", g))
        c = w.add("Add", kept, new)
        after = [w.add("Mul", w.add("Sigmoid", o), w.add("Tanh", c)), c]
    for name, value in zip(("h", "c"), after, strict=False):
        w.keep(name, value)
    return after[0]


def _convolutions(w: _Writer, x: str) -> str:
    """Return the last features, and behind them the observation."""
    signal, rest = x, w.constant(np.zeros(w.spec.observation_size, np.float32))
    for i, layer in enumerate(w.spec.network.convolutions):
        kernel, bias = w.arrays[layer.kernel], w.arrays[layer.bias]
        taps, width, outputs = kernel.shape
        back, matrix = (taps - 1) * layer.spacing, kernel.reshape(taps * width, outputs)
        window = signal
        if back:
            before = w.state(f"past{i}", w.add("Tile", rest, _whole(back)), back * width)
            window = w.concat(before, signal)
            w.keep(f"past{i}", w.part(window, width, back * width))
        rows = w.add("Gather", w.shaped(window, back + 1, width), np.arange(0, back + 1, layer.spacing), axis=0)
        signal = w.activate(w.spec.network.activation, w.dense(w.shaped(rows, taps * width), matrix, bias))
        same = w.add("Tile", rest, _whole(taps))  # what the layer reads where nothing but zeros has been seen
        rest = w.activate(w.spec.network.activation, w.dense(same, matrix, bias))
    return w.concat(signal, x)


def _stage(w: _Writer, stage: Stage, name: str, x: str, size: int) -> str:
    """Return what a stage of the pipeline gives."""

    def vector(values: Sequence[float] | None) -> np.ndarray:
        return np.zeros(size, np.float32) if values is None else _single(values)

    if isinstance(stage, Scale):
        return w.add("Add", w.add("Mul", x, vector(stage.scale)), vector(stage.offset))
    if isinstance(stage, Clip):
        return w.clip(x, vector(stage.low), vector(stage.high))
    if isinstance(stage, Integrate):
        moved = w.add("Add", w.state(name, vector(stage.initial), size), w.add("Mul", x, stage.dt))
        x = w.clip(moved, vector(stage.low), vector(stage.high))
        w.keep(name, x)
        return x
    if isinstance(stage, LowPass):
        before = w.state(name, vector(stage.initial), size)
        x = w.add("Add", before, w.add("Mul", w.add("Sub", x, before), vector(stage.alpha)))
        w.keep(name, x)
        return x
    if isinstance(stage, Delay):
        if not stage.steps:
            return x
        late = w.state(name, np.tile(vector(stage.initial), stage.steps), stage.steps * size)
        late = w.concat(late, x)
        w.keep(name, w.part(late, size, stage.steps * size))
        return w.part(late, 0, size)
    if isinstance(stage, Follow):
        assert w.following is not None
        return w.add("Add", w.add("Sub", x, vector(stage.default)), w.following.targets)
    clock = w.ticking
    assert clock is not None
    if isinstance(stage, Cycle):
        turned = w.add("Add", clock.cycle(w, stage.frequency), _double(*stage.offset))
        turned = w.add("Sub", turned, w.add("Floor", turned))
        wave = w.add("Max", w.add("Sin", w.add("Mul", turned, _double(2.0 * math.pi))), np.zeros(1))
        added = w.add("Mul", w.cast(wave, np.float32), vector(stage.amplitude))
        return w.add("Where", clock.moving, w.add("Add", x, added), x)
    assert isinstance(stage, FootTrajectories)
    return _foot_trajectories(w, clock, stage, x)


def _foot_trajectories(w: _Writer, clock: _Ticking, stage: FootTrajectories, action: str) -> str:
    """Return joint positions, rad; see `jaxloco.onboard.generator.Generator.joint_targets`."""
    generator, feet = generator_of(stage), len(stage.legs)
    c = generator.legs.constants[np.dtype(np.float32)]
    ahead = w.add("Add", clock.phases, w.add("Mul", _foot_frequencies(w, clock, action), stage.lead))
    ahead = w.add("Sub", ahead, w.add("Floor", ahead))
    k = w.add("Max", w.add("Sub", 1.0, w.add("Abs", w.add("Sub", w.add("Mul", ahead, 4.0), 1.0))), 0.0)
    rise = w.add("Mul", w.add("Mul", k, k), w.add("Sub", 3.0, w.add("Mul", k, 2.0)))
    lift = w.add("Mul", w.shaped(rise, feet, 1), _single([[0.0, 0.0, stage.height]]))
    offsets = w.add("Mul", w.shaped(w.part(action, feet, 3 * feet), feet, 3), stage.foot_scale)
    feet_at = w.add("Add", w.add("Add", generator.middle, offsets), lift)
    if clock.velocity:
        feet_at = w.add("Add", feet_at, _swept(w, clock, stage, ahead))
    place = w.add("Sub", feet_at, c["origin"])
    turned = w.add("Mul", c["frame"], w.shaped(place, feet, 1, 3))
    in_leg = w.add("Transpose", w.add("ReduceSum", turned, _whole(2), keepdims=0), perm=[1, 0])
    x, y, z = (w.shaped(w.part(in_leg, i, 1), feet) for i in range(3))
    across = w.add("Sub", w.add("Add", w.add("Mul", y, y), w.add("Mul", z, z)), c["aside squared"])
    depth = w.add("Mul", c["below"], w.add("Sqrt", w.add("Max", across, NEAREST**2)))
    first = w.add("Sub", w.add("Sub", w.arctan2(z, y), w.arctan2(depth, w.constant(c["aside"]))), c["first"])
    x, z = w.add("Sub", x, c["hip x"]), w.add("Sub", depth, c["hip z"])
    reach = w.add("Sub", w.add("Add", w.add("Mul", x, x), w.add("Mul", z, z)), c["sum"])
    cos = w.clip(w.add("Mul", reach, c["product"]), FOLDED, STRAIGHT)
    sin = w.add("Mul", c["bend"], w.add("Sqrt", w.add("Sub", 1.0, w.add("Mul", cos, cos))))
    along = w.add("Add", c["upper"], w.add("Mul", c["lower"], cos))
    second = w.add("Sub", w.arctan2(x, z), w.arctan2(w.add("Mul", c["lower"], sin), along))
    second = w.add("Sub", second, c["second"])
    third = w.add("Mul", c["same"], w.add("Sub", w.arctan2(sin, cos), c["third"]))
    angle = w.add("Gather", w.concat(first, second, third), generator.legs.order.astype(np.int64))
    whole = w.add("Round", w.add("Mul", angle, 0.5 / math.pi))
    return w.add("Add", c["pose"], w.add("Sub", angle, w.add("Mul", whole, 2.0 * math.pi)))


def _swept(w: _Writer, clock: _Ticking, stage: FootTrajectories, phase: str) -> str:
    """Return how far feet are ahead of their places, m; see `jaxloco.onboard.generator.foot_way`."""
    middle, feet = generator_of(stage).middle, len(stage.legs)
    u = w.add("Mul", phase, 2.0)
    swing = w.add("Mul", w.add("Mul", w.add("Mul", u, u), 0.5), w.add("Sub", 3.0, w.add("Mul", u, 2.0)))
    way = w.add("Where", w.add("Less", phase, 0.5), w.add("Sub", swing, 0.25), w.add("Sub", 0.75, phase))
    turning = np.stack([-middle[:, 1], middle[:, 0], np.zeros(feet, np.float32)], axis=1)
    forward = w.add("Mul", clock.velocity, _single([1.0, 1.0, 0.0]))
    velocity = w.add("Add", w.shaped(forward, 1, 3), w.add("Mul", w.part(clock.velocity, 2, 1), _single(turning)))
    return w.add("Mul", w.shaped(w.add("Mul", way, 1.0 / stage.frequency), feet, 1), velocity)


def _limited(w: _Writer, command: str) -> str:
    """Return the outputs within their limits."""
    return w.clip(
        command,
        *(
            _single(np.hstack([expand(getattr(item, end), item.size) for item in w.spec.outputs]))
            for end in ("low", "high")
        ),
    )


def _named(w: _Writer, items: Sequence[OutputSpec | EstimateSpec], values: str, before: str = "") -> None:
    """Give each output its name, with a word before it."""
    start = 0
    for item in items:
        w.nodes.append(helper.make_node("Identity", [w.part(values, start, item.size)], [before + item.name]))
        start += item.size


# The model


def model(bundle: Bundle) -> Any:
    """Return the ONNX model of a policy.

    Raises:
        BundleError: An input is called as the state is.
    """
    spec = bundle.spec
    given = [item for item in spec.inputs if item.source != "policy"]
    if {STATE_IN, STATE_OUT} & {*(item.name for item in spec.inputs), *(item.name for item in spec.outputs)}:
        raise BundleError(f"ONNX: {STATE_IN} and {STATE_OUT} are the names of the state, not of an input or output")
    w = _Writer(bundle)
    action = w.state("action", np.zeros(spec.action_size, np.float32), spec.action_size)
    outputs = {item.name for item in spec.outputs}
    fed_back = any(item.source == "policy" and item.name in outputs for item in spec.inputs)
    command = w.state("command", np.zeros(spec.output_size, np.float32), spec.output_size) if fed_back else ""
    frame, parts = _frame(w, action, command)
    action = _network(w, _observation(w, frame))
    w.keep("action", action)
    command = action
    for i, (stage, size) in enumerate(zip(spec.pipeline, widths(spec.pipeline, spec.output_size)[1:], strict=True)):
        command = _stage(w, stage, f"stage{i}", command, size)
    if fed_back:
        w.keep("command", command)
    _named(w, spec.outputs, _limited(w, command))
    if w.ticking is not None:
        w.ticking.tick(w, parts, action)
    if w.following is not None:
        w.following.tick(w, parts)
    w.nodes.append(helper.make_node("Concat", list(w.after.values()), [STATE_OUT], axis=0))
    return _made(w, given)


def _made(w: _Writer, given: Sequence[InputSpec]) -> Any:
    estimates = w.spec.network.estimator.estimates if w.spec.network.estimator else ()
    state = f"all that the policy remembers; {w.size} zeros where an episode begins"
    graph = helper.make_graph(
        w.nodes,
        w.spec.task,
        [*map(_value, given), _state(STATE_IN, w.size, state)],
        [
            *map(_value, w.spec.outputs),
            *(_value(item, ESTIMATES) for item in estimates),
            _state(STATE_OUT, w.size, f"{STATE_IN} of the next step"),
        ],
        list(w.constants.values()),
    )
    made = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="jaxloco"
    )
    helper.set_model_props(made, {name: json.dumps(value) for name, value in _facts(w, given, state).items()})
    onnx.checker.check_model(made, full_check=True)
    return made


def _value(item: InputSpec | OutputSpec | EstimateSpec, before: str = "") -> Any:
    name = before + item.name
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [item.size], f"{name}, {item.unit or 1}")


def _state(name: str, size: int, what: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.DOUBLE, [size], what)


def _facts(w: _Writer, given: Sequence[InputSpec], state: str) -> dict[str, Any]:
    """Return the metadata."""
    spec, data = w.spec, w.spec.to_dict()
    names = [item.name for item in given]
    return {
        "robot": spec.robot,
        "task": spec.task,
        "control_frequency": spec.control_frequency,
        "inputs": [item for item in data["inputs"] if item["name"] in names],
        "outputs": data["outputs"],
        **({"estimates": data["network"]["estimator"]["estimates"]} if spec.network.estimator else {}),
        "state": state,
        "jaxloco": spec.jaxloco,
        "provenance": data["provenance"],
    }
