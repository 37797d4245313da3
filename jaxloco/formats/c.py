"""A policy as C99: one struct of state, and init, reset and step. It needs libm, and allocates nothing.

The text has the steps of `docs/onboard.md` in their order, with the arithmetic of the NumPy runtime. Functions that do
not differ between policies are in `parts.c`, as they are printed.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.cells import CELLS, MLP
from jaxloco.onboard.clock import NEAR, Clock
from jaxloco.onboard.convolutions import TCN
from jaxloco.onboard.generator import CYCLE, FOLDED, NEAREST, STRAIGHT, generator_of
from jaxloco.onboard.motion import CHOSEN
from jaxloco.onboard.policy import frame_figures
from jaxloco.onboard.spec import (
    FLOAT32_MAX,
    FOOT_FREQUENCIES,
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
    OutputSpec,
    PlanSpec,
    Scale,
    Stage,
    expand,
    widths,
)

PARTS = dict(
    re.findall(r"/\* part: (\w+) \*/\n(.*?)\n(?=/\* part|\Z)", Path(__file__).with_name("parts.c").read_text(), re.S)
)
NEEDS = {
    "clip": ("limit",),
    "dense": ("add_product",),
    "convolve": ("add_product",),
    "sigmoid": ("logistic",),
    "swish": ("logistic",),
    "gru": ("logistic",),
    "lstm": ("logistic",),
    "gait_clock": ("cycle",),
    "wave": ("cycle",),
    "foot_phases": ("phase",),
    "foot_frequencies": ("phase",),
    "foot_trajectories": ("limit", "phase"),
}
"""What parts of `parts.c` need of it."""

KEYWORDS = (
    "and asm auto bool break case catch char class const continue default delete do double else enum explicit export "
    "extern false float for friend goto if inline int long namespace new not operator or private protected public "
    "register restrict return short signed sizeof static struct switch template this throw true try typedef typename "
    "union unsigned using virtual void volatile while xor"
)
"""Of C and C++."""

MACROS = (
    "NULL NAN INFINITY HUGE_VAL EOF errno stdin stdout stderr assert "
    "DT NEAR WAIT CLOCK PER_STEP FEET FREQUENCY_SCALE FOOT_SCALE SWEEP LEAD HEIGHT OWN_TURNS FOLDED STRAIGHT NEAREST "
    "MOTION_JOINTS MOTION_CLIPS MOTION_LEAD CHOSEN"
)
"""Of C's headers, and those that the code defines."""


HEADERS = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdarg stdbool stddef "
    "stdint stdio stdlib string tgmath time wchar wctype"
)
"""Of C itself: a compiler that looks beside the policy first would take its header for one of these."""


class Names:
    """Identifiers of C, each given once.

    >>> names = Names()
    >>> names.take("hip.left"), names.take("hip left"), names.take("int"), names.take("2nd")
    ('hip_left', 'hip_left_2', 'int_2', 'n2nd')
    """

    def __init__(self) -> None:
        self._taken = {*KEYWORDS.split(), *MACROS.split()}

    def take(self, text: str) -> str:
        """Return an identifier that looks like a text."""
        name = re.sub(r"^(?=[0-9_]|$)", "n", re.sub(r"[^A-Za-z0-9_]", "_", text))
        found, count = name, 2
        while found in self._taken:
            found, count = f"{name}_{count}", count + 1
        self._taken.add(found)
        return found


def prefix_of(stem: str) -> str:
    """Return what names in C begin with, and its files are called, for a file called so.

    >>> prefix_of("walk"), prefix_of("go1-walk"), prefix_of("math")
    ('walk', 'go1_walk', 'math_policy')
    """
    return f"{stem}_policy" if stem.lower() in HEADERS.split() else Names().take(stem)


def number(value: Any, suffix: str = "f") -> str:
    """Return the literal of a float, or of a double without a suffix.

    >>> number(0.1), number(2), number(1e-9), number(0.02, "")
    ('0.1f', '2.0f', '1e-09f', '0.02')
    """
    text = str(np.float32(value)) if suffix else repr(float(value))
    return (text if re.search("[.e]", text) else text + ".0") + suffix


def string(text: str) -> str:
    r"""Return the literal of a string.

    >>> print(string('a "b" µ'))
    "a \042b\042 \302\265"
    """
    signs = [chr(b) if 32 <= b < 127 and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode("utf-8")]
    return f'"{"".join(signs)}"'


def comment(text: str) -> str:
    """Return a comment."""
    return f"/* {text.replace('*/', '* /').replace('/*', '/ *')} */"


def lines_of(words: Iterable[str]) -> str:
    """Return the words of a list, separated by commas, some a line."""
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > 112:
            lines.append("")
        lines[-1] += f"{word}, "
    return "\n".join(f"    {line.rstrip()}" for line in lines)


class _Writer:
    """The pieces of a file as they come about."""

    def __init__(self, bundle: Bundle, prefix: str):
        self.spec, self.arrays, self.clock = bundle.spec, bundle.arrays, Clock.of(bundle.spec)
        self.prefix = prefix
        self.used: set[str] = set()
        self.constants: list[str] = []
        self.fields: list[str] = []
        self.variables: list[str] = []
        self.reset: list[str] = []
        self.step: list[str] = []
        names = Names()
        self.given = [item for item in self.spec.inputs if item.source != "policy"]
        self.all: list[InputSpec | OutputSpec] = [*self.given, *self.spec.outputs]
        self.members = {item.name: names.take(item.name) for item in self.all}
        starts = np.cumsum([0, *(item.size for item in self.spec.inputs)]).tolist()
        self.places = {item.name: start for item, start in zip(self.spec.inputs, starts, strict=False)}

    def use(self, *names: str) -> None:
        """Take parts, and what they need."""
        for name in names:
            self.used.add(name)
            self.use(*NEEDS.get(name, ()))

    def constant(self, name: str, values: Any, kind: str = "float", shape: str = "") -> str:
        """Add an array; return its name."""
        flat = np.ravel(np.asarray(values))
        words = [
            f"{x}{'u' * (kind == 'uint32_t')}" if flat.dtype.kind in "iu" else number(x, "f" if kind == "float" else "")
            for x in flat
        ]
        if shape:  # rows
            width = len(words) // len(values)
            words = [f"{{{', '.join(words[i : i + width])}}}" for i in range(0, len(words), width)]
        self.constants.append(f"static const {kind} {name}{shape or f'[{len(words)}]'} = {{\n{lines_of(words)}\n}};")
        return name

    def figure(self, name: str, value: Any, suffix: str = "", why: str = "") -> None:
        """Add a number with a name."""
        literal = str(value) + suffix if isinstance(value, int) else number(value, suffix)
        self.constants.append(f"#define {name} {literal}{f' {comment(why)}' if why else ''}")

    def each(self, size: int, statement: str) -> str:
        """Return a loop over the components."""
        return f"for (i = 0; i < {size}; ++i) {statement}"

    def activate(self, name: str, x: str, size: int) -> list[str]:
        """Return the line of an activation."""
        if name == "identity":
            return []
        self.use(name)
        return [f"{'hyperbolic_tangent' if name == 'tanh' else name}({x}, {size});"]


# The steps of a policy, in their order


def _clock(w: _Writer) -> None:
    spec, clock = w.spec, w.clock
    if not spec.frequencies:
        return
    w.figure("DT", clock.dt, why="control period, s")
    w.fields.append("int moving, half; /* does the clock run; is it half a cycle ahead */")
    w.fields.append("int64_t steps; /* since it last started */")
    if spec.rest is None:
        w.reset.append("s->moving = 1;")
    else:
        w.fields.append("int64_t still; /* steps without a command */")
        w.use("rest")
        w.figure("NEAR", NEAR)
        w.figure("WAIT", w.clock.wait, why="steps")
    if spec.rest is not None or spec.generator is not None or any(item.name == GAIT_CLOCK for item in spec.inputs):
        w.figure("CLOCK", clock.frequency, why="Hz")
    if spec.generator is not None:
        _legs(w, spec.generator)


def _legs(w: _Writer, stage: FootTrajectories) -> None:
    generator, feet = generator_of(stage), len(stage.legs)
    legs = generator.legs
    c = legs.constants[np.dtype(np.float32)]
    w.fields.append(f"uint32_t ahead[{feet}]; /* of the clock, by frequencies of their own, 2^-32 cycles */")
    w.use("foot_trajectories")
    if stage.sweep is not None:
        w.use("sweep")
        w.figure("SWEEP", 1, why="feet on the ground go back by the command")
        w.fields.append("float velocity[3]; /* commanded in the last step, 0 at rest: m/s, m/s, rad/s */")
    assert w.clock.feet is not None
    w.figure("PER_STEP", w.clock.feet.per_step, "u", "2^-32 cycles")
    w.figure("FEET", feet)
    for name in ("frequency_scale", "foot_scale", "lead", "height"):
        w.figure(name.upper(), getattr(stage, name), "f")
    w.figure("OWN_TURNS", stage.frequency_scale * stage.dt * CYCLE, "f", "2^-32 cycles in a step, for an action of 1")
    for name, value in (("FOLDED", FOLDED), ("STRAIGHT", STRAIGHT), ("NEAREST", NEAREST)):
        w.figure(name, value, "f")
    w.constant("foot_offset", generator.offsets, "uint32_t")
    w.constant("foot_middle", generator.middle, shape="[][3]")
    w.constant("leg_joints", np.array([leg.joints for leg in stage.legs]), "int", "[][3]")
    w.constant("leg_pose", np.array(legs.pose), shape="[][3]")
    w.constant("leg_frame", c["frame"].reshape(feet, 9), shape="[][9]")
    w.constant("leg_origin", c["origin"], shape="[][3]")
    names = ("aside", "below", "hip x", "hip z", "upper", "lower", "sum", "product", "bend", "same")
    for name in (*names, "first", "second", "third"):
        w.constant("leg_" + name.replace(" ", "_"), c[name])


def _motion(w: _Writer) -> None:
    motion = w.spec.motion
    if motion is None:
        return
    w.use("motion")
    w.figure("MOTION_JOINTS", w.spec.output_size)
    w.figure("MOTION_CLIPS", len(motion.clips))
    w.figure("MOTION_LEAD", motion.lead, why="frames")
    w.figure("CHOSEN", CHOSEN, "f")
    ends = np.cumsum(motion.frames)
    w.constant("motion_first", ends - motion.frames, "int")
    w.constant("motion_last", ends - 1, "int")
    if MOTION_JOINTS in w.places or any(isinstance(stage, Follow) for stage in w.spec.pipeline):
        w.constant("motion_joints", w.arrays[motion.joint_positions], shape="[][MOTION_JOINTS]")
    if MOTION_VELOCITIES in w.places:
        w.constant("motion_velocities", w.arrays[motion.joint_velocities], shape="[][MOTION_JOINTS]")
    w.constant("motion_orientations", w.arrays[motion.orientations], shape="[][4]")
    w.fields.append("int clip, frame, playing; /* of the motion: frame is a row of all clips' tables */")
    w.fields.append("float turn[2]; /* (w, z) about the vertical, from the tables to the world; zeros at first */")
    w.step.append(f"find_turn(s, in->{w.members[motion.orientation]});")


def _frame(w: _Writer) -> None:
    low, high, scale = frame_figures(w.spec.inputs)
    size = len(scale)
    w.variables += [f"raw[{size}]", f"frame[{size}]"]
    w.step += ["/* frame: clip(value) * scale, one input after the other */"]
    w.step += [_filled(w, item, w.places[item.name]) for item in w.spec.inputs]
    if np.isfinite(low).any():
        w.use("clip")
        w.constant("frame_low", np.maximum(low, -FLOAT32_MAX))
        w.constant("frame_high", np.minimum(high, FLOAT32_MAX))
        w.step.append(f"clip(raw, frame_low, frame_high, {size});")
    w.constant("frame_scale", scale)
    w.step.append(w.each(size, "frame[i] = raw[i] * frame_scale[i];"))


def _filled(w: _Writer, item: InputSpec, start: int) -> str:
    """Return the line that fills an input in."""
    if item.source != "policy":
        source = f"in->{w.members[item.name]}"
        return f"raw[{start}] = {source};" if item.size == 1 else _copied(f"raw + {start}", source, item.size)
    if item.name in (GAIT_CLOCK, FOOT_PHASES, FOOT_FREQUENCIES):
        w.use(item.name)
        return f"{item.name}(s, raw + {start});"
    if w.spec.motion is not None and item.name in (MOTION_JOINTS, MOTION_VELOCITIES, MOTION_ORIENTATION):
        w.use(item.name)
        return f"{item.name}(s, in->{w.members[w.spec.motion.orientation]}, raw + {start});"
    if item.name == GAIT_FREQUENCY:
        return f"raw[{start}] = s->moving ? (float)CLOCK : 0.0f;"
    if item.name == LAST_ACTION:
        return _copied(f"raw + {start}", "s->action", item.size)
    names = [output.name for output in w.spec.outputs]
    place = sum(output.size for output in w.spec.outputs[: names.index(item.name)])
    return _copied(f"raw + {start}", f"s->command + {place}", item.size)


def _copied(to: str, source: str, size: int) -> str:
    return f"memcpy({to}, {source}, {size} * sizeof(float));"


def _observation(w: _Writer) -> None:
    spec, frame, size, window = w.spec, w.spec.frame_size, w.spec.observation_size, "frame"
    w.variables.append(f"x[{size}]")
    if spec.history > 1:
        window = "s->history"
        w.fields += [f"int started; float history[{size}]; /* {spec.history} frames, oldest first */"]
        w.use("push")
        w.step += [
            f"/* history: the first frame fills all {spec.history} */",
            f"for (i = s->started ? {spec.history - 1} : 0; i < {spec.history}; ++i)",
            f"    push(s->history, {spec.history}, frame, {frame});",
            "s->started = 1;",
        ]
    if spec.normalizer is None:
        w.step.append(_copied("x", window, size))
        return
    w.constant("mean", w.arrays[spec.normalizer.mean])
    w.constant("deviation", w.arrays[spec.normalizer.std])
    w.step += ["/* normalizer */", w.each(size, f"x[i] = ({window}[i] - mean[i]) / deviation[i];")]
    if spec.normalizer.clip is not None:
        w.use("limit")
        limit = number(spec.normalizer.clip)
        w.step.append(w.each(size, f"x[i] = limit(x[i], -{limit}, {limit});"))


def _network(w: _Writer) -> None:
    network, size = w.spec.network, w.spec.action_size
    w.step.append(comment(f"network: {network.kind}"))
    w.fields.append(f"float action[{size}]; /* in [-1, 1] */")
    w.use("dense", "limit")
    if network.plan is not None:
        _plan(w, network.plan)
    else:
        _layers(w, network.layers, "", *_estimator(w, *_features(w)), "s->action")
    squashed = "tanhf(s->action[i])" if network.output == "tanh" else "limit(s->action[i], -1.0f, 1.0f)"
    w.step.append(w.each(size, f"s->action[i] = {squashed};"))


def _plan(w: _Writer, plan: PlanSpec) -> None:
    """Follow a plan: u + K (x - what it expects), in this step's row."""
    states, controls, gains = (w.arrays[name] for name in (plan.states, plan.controls, plan.gains))
    steps, actions, size = gains.shape
    w.fields.append("int row; /* of the plan */")
    w.constant("plan_states", states, shape=f"[][{size}]")
    w.constant("plan_controls", controls, shape=f"[][{actions}]")
    w.constant("plan_gains", gains.transpose(0, 2, 1), shape=f"[][{size * actions}]")
    w.step += [
        w.each(size, "x[i] -= plan_states[s->row][i];"),
        f"dense(x, {size}, plan_gains[s->row], plan_controls[s->row], s->action, {actions});",
        f"if (s->row < {steps - 1}) ++s->row;",
    ]


def _features(w: _Writer) -> tuple[str, int]:
    """Return what the layers read, and its size."""
    kind, size = w.spec.network.kind, w.spec.observation_size
    if kind == MLP:
        return "x", size
    return _convolutions(w, size) if kind == TCN else _cell(w, size)


def _estimator(w: _Writer, x: str, width: int) -> tuple[str, int]:
    """Keep the estimates; return what the policy's layers read, and its size."""
    estimator = w.spec.network.estimator
    if estimator is None:
        return x, width
    names, start = Names(), 0
    members, told = {item.name: names.take(item.name) for item in estimator.estimates}, "told"
    w.variables.append(f"told[{estimator.size}]")
    _layers(w, estimator.layers, "estimator_", x, width, told)
    for item in estimator.estimates:
        to = f"s->estimates.{members[item.name]}"
        w.step.append(f"{to} = told[{start}];" if item.size == 1 else _copied(to, f"told + {start}", item.size))
        start += item.size
    kept = " ".join(_members(estimator.estimates, members).split("\n    ")).strip()
    w.fields.append(f"struct {{ {kept} }} estimates; /* of the last step */")
    if not estimator.fed:
        return x, width
    w.variables.append(f"known[{width + start}]")
    w.step += [_copied("known", x, width), _copied(f"known + {width}", told, start)]
    return "known", width + start


def _layers(w: _Writer, layers: Sequence[LayerSpec], prefix: str, x: str, width: int, to: str) -> None:
    """Compute a perceptron."""
    for i, layer in enumerate(layers):
        size, last = len(w.arrays[layer.bias]), i == len(layers) - 1
        y = to if last else f"{prefix}y{i}"
        w.constant(f"{prefix}kernel{i}", w.arrays[layer.kernel])
        w.constant(f"{prefix}bias{i}", w.arrays[layer.bias])
        w.step.append(f"dense({x}, {width}, {prefix}kernel{i}, {prefix}bias{i}, {y}, {size});")
        if not last:
            w.variables.append(f"{y}[{size}]")
            w.step += w.activate(w.spec.network.activation, y, size)
        x, width = y, size


def _cell(w: _Writer, inputs: int) -> tuple[str, int]:
    """Return what the layers read, and its size."""
    kind, cell = w.spec.network.kind, w.spec.network.cell
    assert cell is not None
    size, gates = w.arrays[cell.hidden].shape
    hidden_bias = np.zeros(gates, np.float32)
    if cell.hidden_bias is not None:
        hidden_bias[-size:] = w.arrays[cell.hidden_bias]
    for name, values in (("input", w.arrays[cell.input]), ("hidden", w.arrays[cell.hidden])):
        w.constant(f"of_{name}", values)
    w.constant("input_bias", w.arrays[cell.bias])
    w.constant("hidden_bias", hidden_bias)
    w.use(kind, "dense")
    w.variables += [f"gates[{gates}]", f"hidden[{gates}]"]
    carry = ["s->h", "s->c"][: CELLS[kind].remembered]
    w.fields.append(f"float {', '.join(f'{part[3:]}[{size}]' for part in carry)}; /* the network's memory */")
    w.step += [
        f"dense(x, {inputs}, of_input, input_bias, gates, {gates});",
        f"dense(s->h, {size}, of_hidden, hidden_bias, hidden, {gates});",
        f"{kind}(gates, hidden, {', '.join(carry)}, {size});",
    ]
    return "s->h", size


def _convolutions(w: _Writer, inputs: int) -> tuple[str, int]:
    """Return what the layers read, the last features and the observation, and its size."""
    signal, width = "x", inputs
    rest = [f"memset(x, 0, {inputs} * sizeof(float)); /* before the first observation, all were zero */"]
    w.use("push", "convolve")
    for i, layer in enumerate(w.spec.network.convolutions):
        taps, _, outputs = w.arrays[layer.kernel].shape
        rows, y = (taps - 1) * layer.spacing + 1, f"z{i}"
        w.constant(f"taps{i}", w.arrays[layer.kernel])
        w.constant(f"taps_bias{i}", w.arrays[layer.bias])
        w.variables.append(f"{y}[{outputs}]")
        w.fields.append(f"float past{i}[{rows * width}]; /* {rows} signals that convolution {i} reads, oldest first */")
        compute = [
            f"convolve(s->past{i}, {taps}, {layer.spacing}, {width}, taps{i}, taps_bias{i}, {y}, {outputs});",
            *w.activate(w.spec.network.activation, y, outputs),
        ]
        rest += [w.each(rows, _copied(f"s->past{i} + {width} * i", signal, width)), *compute]
        w.step += [f"push(s->past{i}, {rows}, {signal}, {width});", *compute]
        signal, width = y, outputs
    w.reset += rest
    w.variables.append(f"seen[{width + inputs}]")
    w.step += [_copied("seen", signal, width), _copied(f"seen + {width}", "x", inputs)]
    return "seen", width + inputs


def _stage(w: _Writer, stage: Stage, i: int, size: int) -> list[str]:
    """Return the lines of a stage of the pipeline, which changes u."""
    state = f"stage{i}"

    def keep(initial: Sequence[float] | None) -> None:
        w.fields.append(f"float {state}[{size}];")
        if initial and any(initial):
            w.constant(f"{state}_initial", initial)
            w.reset.append(_copied(f"s->{state}", f"{state}_initial", size))

    def limits() -> str:
        w.use("clip")
        return f"{w.constant(f'{state}_low', stage.low)}, {w.constant(f'{state}_high', stage.high)}, {size}"  # type: ignore[attr-defined]

    if isinstance(stage, Scale):
        scale = w.constant(f"{state}_scale", stage.scale)
        shift = f" + {w.constant(f'{state}_offset', stage.offset)}[i]" if stage.offset else ""
        return [w.each(size, f"u[i] = u[i] * {scale}[i]{shift};")]
    if isinstance(stage, Clip):
        return [f"clip(u, {limits()});"]
    if isinstance(stage, Integrate):
        keep(stage.initial)
        add = w.each(size, f"s->{state}[i] += u[i] * {number(stage.dt)};")
        return [add, f"clip(s->{state}, {limits()});", _copied("u", f"s->{state}", size)]
    if isinstance(stage, LowPass):
        keep(stage.initial)
        alpha = w.constant(f"{state}_alpha", stage.alpha)
        return [w.each(size, f"u[i] = s->{state}[i] += (u[i] - s->{state}[i]) * {alpha}[i];")]
    if isinstance(stage, Delay):
        return _delay(w, stage, state, size)
    return [_followed(w, stage, state, size)]


def _followed(w: _Writer, stage: Stage, state: str, size: int) -> str:
    """Return the line of a stage that follows the clock or the motion."""
    if isinstance(stage, Cycle):
        w.use("wave")
        amplitude = w.constant(f"{state}_amplitude", stage.amplitude)
        offset = w.constant(f"{state}_offset", np.array(stage.offset), "double")
        return f"wave(s, {number(stage.frequency, '')}, {amplitude}, {offset}, u, {size});"
    if isinstance(stage, Follow):
        w.use("follow")
        return f"follow(s, {w.constant(f'{state}_default', stage.default)}, u);"
    assert isinstance(stage, FootTrajectories)
    return "foot_trajectories(s, s->action, u);"


def _delay(w: _Writer, stage: Delay, state: str, size: int) -> list[str]:
    """The last targets, the oldest first, and the one that comes now."""
    if not stage.steps:
        return []
    w.use("push")
    w.fields.append(f"float {state}[{(stage.steps + 1) * size}]; /* {stage.steps} steps late, oldest first */")
    if stage.initial and any(stage.initial):
        w.constant(f"{state}_initial", stage.initial)
        copy = _copied(f"s->{state} + {size} * i", f"{state}_initial", size)
        w.reset.append(w.each(stage.steps + 1, copy))
    return [f"push(s->{state}, {stage.steps + 1}, u, {size});", _copied("u", f"s->{state}", size)]


def _pipeline(w: _Writer) -> None:
    spec = w.spec
    sizes = widths(spec.pipeline, spec.output_size)
    w.variables.append(f"u[{max(sizes)}]")
    w.step += ["/* pipeline: from the action to SI units */", _copied("u", "s->action", spec.action_size)]
    for i, (stage, size) in enumerate(zip(spec.pipeline, sizes[1:], strict=True)):
        w.step += _stage(w, stage, i, size)
    outputs = {item.name for item in spec.outputs}
    if any(item.source == "policy" and item.name in outputs for item in spec.inputs):
        w.fields.append(f"float command[{spec.output_size}]; /* what it gave last, before limits */")
        w.step.append(_copied("s->command", "u", spec.output_size))


def _outputs(w: _Writer) -> None:
    w.use("finite", "limit")
    w.step += [
        f"if (!finite_all(u, {w.spec.output_size})) {{ /* too large for float32 somewhere */",
        f"    {w.prefix}_reset(s);",
        f"    *out = {w.prefix}_safe;",
        "    return -1;",
        "}",
        "/* outputs, within their limits */",
    ]
    start = 0
    for item in w.spec.outputs:
        name = w.members[item.name]
        to, place, at = (f"out->{name}", start, "[0]") if item.size == 1 else (f"out->{name}[i]", f"{start} + i", "[i]")
        line = f"{to} = limit(u[{place}], low_of_{name}{at}, high_of_{name}{at});"
        w.step.append(line if item.size == 1 else w.each(item.size, line))
        start += item.size


def _tick(w: _Writer) -> None:
    spec = w.spec
    if not spec.frequencies:
        return
    w.step.append("/* clock */")
    if spec.generator is not None:
        w.step.append(
            w.each(
                len(spec.generator.legs),
                "s->ahead[i] += (uint32_t)(int32_t)rintf(fmaxf(s->action[i], -1.0f) * OWN_TURNS);",
            )
        )
    w.step.append(_advanced(w))
    if spec.generator is not None and spec.generator.sweep is not None:
        w.step.append(w.each(3, f"s->velocity[i] = s->moving ? raw[{w.places[spec.generator.sweep]} + i] : 0.0f;"))


def _advanced(w: _Writer) -> str:
    """Return the line that advances the clock."""
    spec = w.spec
    if spec.rest is None:
        return "++s->steps;"
    command, gravity = spec.rest.command, spec.rest.gravity
    size = next(item.size for item in spec.inputs if item.name == command)
    still = f"square(raw + {w.places[command]}, {size}) <= {number(spec.rest.below**2, '')}"
    if gravity is not None:
        at = w.places[gravity]
        still += f" && raw[{at + 2}] < 0.0f && square(raw + {at}, 2) <= {number(w.clock.level, '')}"
    return f"tick(s, {still});"


def _next_frame(w: _Writer) -> None:
    if w.spec.motion is not None:
        choice, orientation = (w.places[name] for name in (w.spec.motion.choice, w.spec.motion.orientation))
        w.step.append(f"next_frame(s, raw + {choice}, raw + {orientation});")


# The two files


def source(bundle: Bundle, name: str) -> tuple[str, str]:
    """Return the header and the code of a policy.

    Args:
        bundle: The policy.
        name: What the files are called, without their ends, and what the names in them begin with.
    """
    w = _Writer(bundle, name)
    for part in (_clock, _motion, _frame, _observation, _network, _pipeline, _outputs, _tick, _next_frame):
        part(w)
    return _header(w), _code(w)


def _named(w: _Writer, text: str) -> str:
    """Return a text with the policy's own prefix."""
    names = {"policy_": f"{w.prefix}_", "policy.h": f"{w.prefix}.h", "POLICY_": f"{w.prefix.upper()}_"}
    return re.sub(r"policy_|policy\.h|POLICY_", lambda match: names[match[0]], text)


def _title(w: _Writer) -> str:
    spec = w.spec
    return comment(
        f"Policy {spec.task} of robot {spec.robot}, {spec.control_frequency:g} Hz, "
        f"written by jaxloco {spec.jaxloco}: do not edit, export it again."
    )


def _members(items: Sequence[InputSpec | OutputSpec | EstimateSpec], members: Mapping[str, str]) -> str:
    """Return the members of the struct of all inputs, outputs or estimates."""
    units = [f" {comment(item.unit)}" if item.unit else "" for item in items]
    sizes = [f"[{item.size}]" if item.size > 1 else "" for item in items]
    return _indented(
        f"float {members[item.name]}{size};{unit}" for item, size, unit in zip(items, sizes, units, strict=True)
    )


def _enumerations(w: _Writer) -> list[str]:
    names, lines = Names(), []

    def take(text: str) -> str:
        return names.take(f"{w.prefix.upper()}_{text.upper()}")

    for kind, items in (("input", w.given), ("output", w.spec.outputs)):
        words = [take(f"{kind}_{item.name}") for item in items]
        lines += [f"enum {w.prefix}_{kind} {{", lines_of([*words, take(f"{kind}s")]).rstrip(","), "};", ""]
    for item in w.all:
        if item.components:
            words = [take(f"{item.name}_{component}") for component in item.components]
            lines += [comment(f"Places in {w.members[item.name]}."), "enum {", lines_of(words).rstrip(","), "};", ""]
    return lines


HEADER = """\
TITLE
#ifndef POLICY_H
#define POLICY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define POLICY_FREQUENCY RATE /* Hz: call policy_step() so often */

/* What the policy reads, in SI units. */
typedef struct {
INPUTS
} policy_inputs;

/* What it commands, in SI units, within the limits of policy_output_list. */
typedef struct {
OUTPUTS
} policy_outputs;

ENUMERATIONS
/* An input or an output. A reading outside low .. high is not to be believed. */
typedef struct {
    const char *name, *unit;
    int size;
    const float *low, *high; /* one number for each component */
    const char *const *components; /* their names, or 0 */
} policy_quantity;

extern const policy_quantity policy_input_list[GIVEN];
extern const policy_quantity policy_output_list[COMMANDED];
extern const policy_outputs policy_safe; /* what to send when a reading cannot be believed */

/* All that the policy remembers: one for each robot. */
typedef struct {
FIELDS
} policy_state;

void policy_init(policy_state *state);  /* before anything else */
void policy_reset(policy_state *state); /* where an episode begins */

/* One control step. Returns 0; or i + 1 if a number of input i is not finite, and the state is as before; or -1 if
   numbers of the policy overflow, and it is reset. If it is not 0, `out` is policy_safe. */
int policy_step(policy_state *state, const policy_inputs *in, policy_outputs *out);

#ifdef __cplusplus
}
#endif
#endif
"""

CODE = """\
TITLE
#include "policy.h"

#include <math.h>
#include <string.h>

CONSTANTS

LISTS

const policy_outputs policy_safe = {
SAFE
};

PARTS
void policy_reset(policy_state *s)
{
RESET
}

void policy_init(policy_state *s)
{
    policy_reset(s);
}

int policy_step(policy_state *s, const policy_inputs *in, policy_outputs *out)
{
STEP
    return 0;
}
"""


def _filled_in(w: _Writer, template: str, **values: str) -> str:
    """Return a template with the policy's prefix and with its words in capitals replaced."""
    words = "|".join(rf"\b{name}\b" for name in values)
    return re.sub(words, lambda match: values[match[0]], _named(w, template))


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


def _header(w: _Writer) -> str:
    return _filled_in(
        w,
        HEADER,
        TITLE=_title(w),
        RATE=number(w.spec.control_frequency, ""),
        INPUTS=_members(w.given, w.members),
        OUTPUTS=_members(w.spec.outputs, w.members),
        ENUMERATIONS="\n".join(_enumerations(w)),
        GIVEN=str(len(w.given)),
        COMMANDED=str(len(w.spec.outputs)),
        FIELDS=_indented(w.fields),
    )


def _list(w: _Writer, kind: str, items: Sequence[InputSpec | OutputSpec]) -> list[str]:
    """Return the table of all inputs or outputs."""
    lines, rows = [], []
    for item in items:
        name, components = w.members[item.name], "0"
        if item.components:
            components = f"names_of_{name}"
            words = lines_of([string(component) for component in item.components])
            lines.append(f"static const char *const {components}[{item.size}] = {{\n{words}\n}};")
        limits = f"low_of_{name}, high_of_{name}"
        rows.append(f"    {{{string(item.name)}, {string(item.unit)}, {item.size}, {limits}, {components}}},")
    return [*lines, f"const {w.prefix}_quantity {w.prefix}_{kind}_list[{len(rows)}] = {{", *rows, "};", ""]


def _limits(w: _Writer) -> None:
    """Add the limits of inputs and outputs, which are in their tables."""
    for item in w.all:
        for end, most in (("low", -FLOAT32_MAX), ("high", FLOAT32_MAX)):
            value = getattr(item, end)
            w.constant(f"{end}_of_{w.members[item.name]}", expand(most if value is None else value, item.size))


def _code(w: _Writer) -> str:
    _limits(w)
    safe = [(item.size, [number(value) for value in expand(item.safe, item.size)]) for item in w.spec.outputs]
    checks = []
    for i, item in enumerate(w.given):
        start = f"{'&' if item.size == 1 else ''}in->{w.members[item.name]}"
        checks.append(f"if (!finite_all({start}, {item.size})) {{ *out = {w.prefix}_safe; return {i + 1}; }}")
    own = [name for name in w.variables if w.reset and w.spec.network.kind == TCN and re.match(r"x\[|z\d", name)]
    counts = any(line.startswith("for") for line in w.reset)
    declared = [*(["int i;"] if counts else []), *([f"float {', '.join(own)};"] if own else [])]
    return _filled_in(
        w,
        CODE,
        TITLE=_title(w),
        CONSTANTS="\n".join(w.constants),
        LISTS="\n".join([*_list(w, "input", w.given), *_list(w, "output", w.spec.outputs)]).rstrip(),
        SAFE=lines_of(words[0] if size == 1 else f"{{{', '.join(words)}}}" for size, words in safe),
        PARTS=_named(w, "\n".join(text for name, text in PARTS.items() if name in w.used)),
        RESET=_indented([*declared, "memset(s, 0, sizeof *s);", *w.reset]),
        STEP=_indented([f"float {', '.join(w.variables)};", "int i;", *checks, *w.step]),
    )
