"""What is varied: friction, payload, delay, pushes, gains and terrain, and what training covered of each.

A parameter is varied where a task draws it anyway: its `Range` becomes a `Swept` one, whose value each robot is given.
So a grid point is a draw of training's own randomizers and processes with chosen values.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np

from jaxloco.envs import randomization as rand
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.curriculum import CurriculumState, Range, survived
from jaxloco.envs.env import EnvSpec
from jaxloco.envs.perturbations import Pushes
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot
from jaxloco.terrain import Terrain

Span = tuple[float, float]

NAMES = ("friction", "payload", "delay", "push", "gains", "terrain")
"""What can be varied, in the order of the report."""

FIXED_GAINS = ("network",)
"""Actuators that are no servos: they have no gains to scale, and a delay of their own."""

WIDER_BELOW, WIDER_ABOVE = 0.5, 1.0
"""How much further than training an axis goes, in widths of its range."""

HARDEST = 1.5
"""Where the axis of terrain ends, if training had terrain: its first level is 0, its last 1."""

PUSH_INTERVAL = Range(4.0, 8.0)
"""Time between pushes where training had none, s."""

ROUGH = 0.25
"""Largest roughness where training had no terrain, as a share of the robot's height."""


@dataclass(frozen=True)
class Swept(Range):
    """A range of which each robot is given its value, by its `CurriculumState`; without that, drawn like any other.

    Attributes:
        place: Of the value in `CurriculumState.values`.
    """

    place: int = 0

    def bounds(
        self, curriculum: CurriculumState, progress_until: float, dimensions: Sequence[str] = ()
    ) -> tuple[jax.Array, jax.Array]:
        """Return the value, twice."""
        if isinstance(curriculum.values, tuple):
            return super().bounds(curriculum, progress_until, dimensions)
        return curriculum.values[self.place], curriculum.values[self.place]


@dataclass(frozen=True, eq=False)
class Parameter:
    """Something that is varied, in a unit for people.

    Attributes:
        name: One of `NAMES`.
        unit: Unit, "" for none.
        trained: What training covered, in this unit; None if that cannot be told.
        held: Value where others are varied: the middle of what training covered, or else the robot's own.
        span: Where the axis goes, if nothing else is said.
        limits: Smallest and largest value that makes sense.
        unit_si: One unit in SI.
        vary: Puts a `Swept` range, in SI, into a task, whose axis has so many points.
        remark: What the number means, for people.
    """

    name: str
    unit: str
    trained: Span | None
    held: float
    span: Span
    limits: Span
    unit_si: float
    vary: Callable[[EnvSpec, Swept, int], EnvSpec]
    remark: str

    @property
    def label(self) -> str:
        """Name and unit, for an axis."""
        return f"{self.name} ({self.unit})" if self.unit else self.name

    def check(self, span: Span) -> None:
        """Check an axis that someone asks for.

        Raises:
            ConfigError: It leads backwards, or beyond the limits.
        """
        low, high = span
        if not low < high:
            raise ConfigError(f"--ranges {self.name}={low:g}..{high:g}: the low end comes first, and both differ")
        if not self.limits[0] <= low <= high <= self.limits[1]:
            least, most = self.limits
            raise ConfigError(
                f"--ranges {self.name}={low:g}..{high:g}: must be between {least:g} and {most:g} {self.unit}".rstrip()
            )


def parameters_of(spec: EnvSpec, robot: Robot) -> tuple[dict[str, Parameter], dict[str, str]]:
    """Return what of a task can be varied, by name, and of the rest why not."""
    found: dict[str, Parameter] = {}
    missing: dict[str, str] = {}
    for name in NAMES:
        made = _MAKERS[name](spec, robot)
        if isinstance(made, str):
            missing[name] = made
        else:
            found[name] = made
    return found, missing


def nominal(spec: EnvSpec) -> EnvSpec:
    """Return a task with the robot's own model in every episode, and with a grade that depends on survival alone."""
    pushes = spec.process(Pushes)
    kept = tuple(p for p in spec.processes if not isinstance(p, Pushes) or p is pushes)
    return replace(graded_by_survival(spec), randomization=(), processes=kept)


def graded_by_survival(spec: EnvSpec) -> EnvSpec:
    """Return a task whose grade takes no quantities, which then need not be computed."""
    return replace(spec, curriculum=replace(spec.curriculum, grade=survived, constants={}))


# Each parameter


def _friction(spec: EnvSpec, robot: Robot) -> Parameter | str:
    if robot.model.npair == 0:
        return "nothing of the robot touches the ground"
    own = float(robot.model.pair_friction[0, 0])
    trained = _drawn(spec, rand.set_friction, "value")
    factor = _drawn(spec, rand.scale_friction, "factor")
    if trained is None and factor is not None:
        trained = Range(own * _ends(factor)[0], own * _ends(factor)[1])
    span = _wider(trained, (0.1 * own, 1.5 * own), (0.05, np.inf))
    return Parameter(
        "friction",
        "",
        *_covered(trained, own),
        span,
        (0.0, 10.0),
        1.0,
        _vary_friction,
        "sliding friction of all contacts",
    )


def _vary_friction(spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    made = rand.Randomizer("friction", rand.set_friction, {"value": swept})
    return _with_randomizer(spec, (rand.set_friction, rand.scale_friction), made)


def _payload(spec: EnvSpec, robot: Robot) -> Parameter | str:
    body = _base(robot)
    if robot.model.body_weldid[body] == 0:
        return f"body {robot.model.body(body).name!r} is fixed to the world"
    mass, total = float(robot.model.body_mass[body]), float(robot.model.body_subtreemass[body])
    trained = _drawn(spec, rand.add_payload, "mass")
    lowest = -0.9 * mass
    span = _wider(trained, (max(-0.25 * total, lowest), 0.5 * total), (lowest, np.inf))
    remark = f"mass added at the centre of mass of {robot.model.body(body).name!r}"
    vary = partial(_vary_payload, body)
    return Parameter("payload", "kg", *_covered(trained, 0.0), span, (lowest, 1e4), 1.0, vary, remark)


def _vary_payload(body: int, spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    made = rand.Randomizer("payload", rand.add_payload, {"body": body, "mass": swept})
    return _with_randomizer(spec, (rand.add_payload,), made)


def _delay(spec: EnvSpec, robot: Robot) -> Parameter | str:
    if (kind := _fixed_gains(robot)) is not None:
        return f"actuator {kind!r} has a delay of its own"
    actuation = spec.process(Actuation)
    trained = None if actuation is None else _scaled(actuation.delay, 1e3)
    span = _wider(trained, (0.0, 3e3 * robot.control_dt), (0.0, np.inf))
    own = trained or Range(0.0, 0.0)
    remark = "time until a target has effect"
    return Parameter("delay", "ms", *_covered(own, 0.0), span, (0.0, 1e3), 1e-3, _vary_delay, remark)


def _vary_delay(spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    actuation = spec.process(Actuation) or Actuation()
    return spec.with_processes(replace(actuation, delay=swept))


def _push(spec: EnvSpec, robot: Robot) -> Parameter | str:
    dt = robot.control_dt
    pushes = spec.process(Pushes) or Pushes(Range(0.0, 0.0), Range(dt, dt), PUSH_INTERVAL)
    seconds = 0.5 * (pushes.duration.low + pushes.duration.high)
    pushed = robot.pushed_body
    newtons = float(robot.model.body_subtreemass[pushed]) / seconds  # for 1 m/s
    trained = _scaled(pushes.force, 1.0 / newtons)
    span = _wider(trained, (0.0, 1.0), (0.0, np.inf))
    every = f"every {pushes.interval.low:g} to {pushes.interval.high:g} s"
    what = "the robot" if pushed == _base(robot) else repr(robot.model.body(pushed).name)
    remark = f"velocity that a push of {1e3 * seconds:.3g} ms gives {what}, {every}; 1 m/s is {newtons:.3g} N"
    vary = partial(_vary_push, pushes)
    return Parameter("push", "m/s", *_covered(trained, 0.0), span, (0.0, 100.0), newtons, vary, remark)


def _vary_push(pushes: Pushes, spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    return spec.with_processes(replace(pushes, force=swept))


def _gains(spec: EnvSpec, robot: Robot) -> Parameter | str:
    if (kind := _fixed_gains(robot)) is not None:
        return f"actuator {kind!r} has no gains"
    if not robot.model.actuator_biasprm[:, 1:3].any():
        return "its motors take torques, and have no gains"
    everything = tuple(range(robot.model.nu))
    span = _wider(_trained_gains(spec, robot), (0.5, 1.5), (0.05, np.inf))
    vary = partial(_vary_gains, everything)
    remark = "factor on the gains of all joints' servos"
    return Parameter("gains", "×", *_covered(_trained_gains(spec, robot), 1.0), span, (0.01, 100.0), 1.0, vary, remark)


def _trained_gains(spec: EnvSpec, robot: Robot) -> Range | None:
    """Return the factors that training covered for all joints; None if some joints' gains never changed."""
    drawn = [r for r in spec.randomization if r.function is rand.scale_gains]
    joints = {i for r in drawn for i in r.constants["actuators"]}
    ends = [_ends(r.constants["factor"]) for r in drawn]
    low, high = max([a for a, _ in ends], default=1.0), min([b for _, b in ends], default=1.0)
    return Range(low, high) if low <= high and joints == set(range(robot.model.nu)) else None


def _vary_gains(actuators: tuple[int, ...], spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    made = rand.Randomizer("gains", rand.scale_gains, {"actuators": actuators, "factor": swept})
    return _with_randomizer(spec, (rand.scale_gains,), made)


def _terrain(spec: EnvSpec, robot: Robot) -> Parameter | str:
    if robot.base_body is None:
        return "the robot is fixed to the world"
    if not robot.feet:
        return "the robot has no feet or wheels that its robot.toml names [[feet]]"
    if spec.terrain.kinds:
        remark = f"difficulty of {', '.join(spec.terrain.kinds)}: 0 is the first level of training, 1 its last"
        return Parameter("terrain", "", (0.0, 1.0), 0.5, (0.0, HARDEST), (0.0, 3.0), 1.0, _vary_difficulty, remark)
    height = float(robot.default_qpos[robot.base_qpos_indices[2]])
    remark = "largest height of rough ground above and below its mean; training was on a level floor"
    span = (0.0, round(100.0 * ROUGH * height, 1))
    return Parameter("terrain", "cm", (0.0, 0.0), 0.0, span, (0.0, 100.0), 1e-2, _vary_roughness, remark)


def _vary_difficulty(spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    """Lay out one row of the training's terrain for each point."""
    terrain = spec.terrain
    spans = {name: getattr(terrain, name) for name in _SPANS}
    ends: dict[str, Any] = {name: (_along(span, swept.low), _along(span, swept.high)) for name, span in spans.items()}
    smallest = 2.0 * terrain.cell
    ends["stone"] = (max(ends["stone"][0], smallest), max(ends["stone"][1], smallest))
    return _with_terrain(spec, replace(terrain, levels=points, start_level=0, evaluation_level=-1, **ends))


_SPANS = ("slope", "roughness", "step", "obstacle", "stone", "stone_gap", "gap", "depth")
"""Options of a terrain that change from its first level to its last."""


def _along(span: Span, share: float) -> float:
    return max(0.0, span[0] + share * (span[1] - span[0]))


def _vary_roughness(spec: EnvSpec, swept: Swept, points: int) -> EnvSpec:
    return _with_terrain(spec, Terrain(("rough",), levels=points, tile=16.0, roughness=(swept.low, swept.high)))


def _with_terrain(spec: EnvSpec, terrain: Terrain) -> EnvSpec:
    return replace(spec, terrain=terrain, curriculum=replace(spec.curriculum, kinds=len(terrain.kinds)))


_MAKERS: dict[str, Callable[[EnvSpec, Robot], Parameter | str]] = {
    "friction": _friction,
    "payload": _payload,
    "delay": _delay,
    "push": _push,
    "gains": _gains,
    "terrain": _terrain,
}


# What training covered


def _drawn(spec: EnvSpec, function: Callable[..., Any], constant: str) -> Range | None:
    """Return the range of the first randomizer with a function; None if there is none."""
    ranges = (r.constants[constant] for r in spec.randomization if r.function is function)
    found: Range | None = next(ranges, None)
    return found


def _ends(span: Range) -> Span:
    """Return the ends of a range in training."""
    return span.training or (span.low, span.high)


def _scaled(span: Range, factor: float) -> Range:
    low, high = _ends(span)
    return Range(low * factor, high * factor, log=span.log)


def _covered(trained: Range | None, own: float) -> tuple[Span | None, float]:
    """Return what training covered, and where the parameter is held."""
    if trained is None:
        return None, own
    low, high = _ends(trained)
    return (low, high), float(np.sqrt(low * high)) if trained.log else 0.5 * (low + high)


def _wider(trained: Range | None, least: Span, limits: Span) -> Span:
    """Return an axis that goes beyond training, and at least over `least`."""
    low, high = least
    if trained is not None:
        a, b = _ends(trained)
        low, high = min(low, a - WIDER_BELOW * (b - a)), max(high, b + WIDER_ABOVE * (b - a))
    return max(_rounded(low), limits[0]), min(_rounded(high), limits[1])


def _rounded(value: float) -> float:
    """Return a value with two digits, so that axes are readable."""
    return float(f"{value:.2g}")


def _with_randomizer(spec: EnvSpec, functions: Sequence[Callable[..., Any]], made: rand.Randomizer) -> EnvSpec:
    """Return a task with a randomizer in place of all those with some functions."""
    kept = [randomizer for randomizer in spec.randomization if randomizer.function not in functions]
    return replace(spec, randomization=(*kept, made))


def _base(robot: Robot) -> int:
    """Return the body that is loaded."""
    return int(robot.model.body(robot.base_body).id) if robot.base_body is not None else 1


def _fixed_gains(robot: Robot) -> str | None:
    """Return the kind of an actuator that is no servo; None if all are."""
    kinds = (kind for joint in robot.joints for kind in joint.actuator_kinds)
    return next((kind for kind in kinds if kind in FIXED_GAINS), None)
