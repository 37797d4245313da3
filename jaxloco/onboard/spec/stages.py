"""The action pipeline: stages from an action in [-1, 1] to outputs in SI units."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np

from jaxloco.onboard.spec.fields import (
    MAX_DELAY_STEPS,
    MAX_SIZE,
    Checked,
    Name,
    NotNegative,
    Number,
    Positive,
    T,
    Vector,
    check_order,
    choice,
    fail,
    fields_of,
    integer,
    sequence,
)

ALIGNED = 1e-4
"""Largest difference of the axes of a leg from what they should be: inverse kinematics takes them as exact."""

LONGEST = 100.0
"""Largest coordinate of a leg, m, and largest angle of its pose, rad."""


class Stage(Checked):
    """One stage of the action pipeline: a step from an action vector to the next, elementwise if it does not say."""

    kind: ClassVar[str]

    def _tag(self) -> dict[str, Any]:
        return {"kind": self.kind}

    @classmethod
    def _chosen(cls: type[T], data: dict[str, Any], where: str) -> tuple[type[T], dict[str, Any]]:
        if cls is not Stage:
            return cls, data
        kind = choice(tuple(STAGES))(f"{where}.kind", data.get("kind"))
        return STAGES[kind], {key: value for key, value in data.items() if key != "kind"}  # type: ignore[return-value]

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
            raise fail("dt", f"the control period, {1.0 / control_frequency:g} s", dt)

    def _check_size(self, size: int) -> None:
        for key in fields_of(type(self)):
            value = getattr(self, key)
            if isinstance(value, tuple) and len(value) != size:
                raise fail(key, f"{size} numbers, one per action component", value)


@dataclass(frozen=True)
class Scale(Stage):
    """`y = x * scale + offset`.

    Attributes:
        scale: Factor from [-1, 1] to the output's unit, one number per component; an `ActionSpec` takes one for all.
        offset: Added after it, in the output's unit, likewise; None for zeros.
    """

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
        check_order(self.low, self.high)


@dataclass(frozen=True)
class Integrate(Stage):
    """`s ← clip(s + dt x, low, high)`, `y = s`; s starts at `initial` (zeros by default).

    Attributes:
        dt: Control period, s.
        low: Smallest s, in the output's unit, one number per component; an `ActionSpec` takes one for all.
        high: Largest s, likewise.
        initial: s after a reset, likewise; None for zeros.
    """

    dt: Positive
    low: Vector
    high: Vector
    initial: Vector | None = None
    kind: ClassVar[str] = "integrate"

    def _check(self) -> None:
        check_order(self.low, self.high)


@dataclass(frozen=True)
class LowPass(Stage):
    """`s ← s + (dt / tau) (x - s)`, `y = s`; `tau` in seconds, s starts at `initial` (zeros by default)."""

    dt: Positive
    tau: Vector
    initial: Vector | None = None
    kind: ClassVar[str] = "low_pass"

    def _check(self) -> None:
        if not all(0.0 < self.dt <= tau for tau in self.tau):
            raise fail("tau", f"seconds, at least dt = {self.dt:g}", self.tau)

    @property
    def alpha(self) -> tuple[float, ...]:
        """The filter's coefficient dt / tau, from 0 (exclusive) to 1."""
        return tuple(self.dt / tau for tau in self.tau)


@dataclass(frozen=True)
class Delay(Stage):
    """`y = x` from `steps` calls ago; before that, `initial` (zeros by default)."""

    steps: Annotated[int, integer(0, MAX_DELAY_STEPS)]
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


def _three_places(key: str, value: object) -> tuple[int, ...]:
    places = sequence(key, value, "places among the outputs")
    if len(places) != 3:
        raise fail(key, "3 places among the outputs", value)
    return tuple(integer(0, MAX_SIZE)(f"{key}[{i}]", place) for i, place in enumerate(places))


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
                raise fail(key, f"{size} numbers from -{LONGEST:g} to {LONGEST:g}", value)
        axes, anchors = np.reshape(self.axes, (3, 3)), np.reshape(self.anchors, (3, 3))
        lengths = np.linalg.norm(axes, axis=1)
        if not (np.abs(lengths - 1.0) < ALIGNED).all():
            raise fail("axes", "directions of length 1", lengths.tolist())
        if abs(axes[0] @ axes[1]) > ALIGNED or abs(abs(axes[1] @ axes[2]) - 1.0) > ALIGNED:
            raise fail("axes", "the second across the first, and the third along the second", self.axes)
        for key, link in (("anchors", anchors[2] - anchors[1]), ("foot", np.array(self.foot) - anchors[2])):
            if not np.linalg.norm(link - (link @ axes[1]) * axes[1]) > 1e-6:
                raise fail(key, "links of some length across the axes of the last two joints", getattr(self, key))


@dataclass(frozen=True)
class FootTrajectories(Stage):
    """Joint targets from frequencies and offsets of feet: steps in place, each foot on a phase of its own.

    An action in [-1, 1] has a frequency a for each of n feet, then offsets b of each, x, y, z. With f = f₀ +
    frequency_scale · a, a foot's target is inverse kinematics of

        its place in the pose + foot_scale · b + (0, 0, height · z(φ + lead · f)) + way(φ + lead · f) / f₀ · v

    and then φ ← φ + dt · f, in cycles; z is that of `jaxloco.onboard.generator.foot_height`, up and down in the first
    half. v is the velocity of that place by the command `sweep` of the step before, 0 while the clock rests, and way
    that of `jaxloco.onboard.generator.foot_way`: on the ground a foot goes back as fast as the base is to go forward.
    Without `sweep` feet step on the spot, as in Lee et al. 2020, supplement S3.

    f₀ is `frequency`, Hz, and 0 while the policy's clock rests, see `Rest`; in way / f₀ it is `frequency`. φ is the
    clock's cycle, plus `offset`, plus what the foot's own frequency has added since the reset, in whole 2⁻³² cycles.
    With a `frequency_scale` of 0 all feet keep to the clock, as those of a `Cycle` do. It is the first stage.

    Attributes:
        dt: Control period, s.
        frequency: Of the clock, f₀, Hz.
        frequency_scale: Change of a foot's frequency for an action of 1, Hz.
        height: Of a foot in the middle of its swing, m.
        foot_scale: Offset of a foot for an action of 1, m.
        lead: How far targets run ahead of the phases, s.
        offset: By how much of a cycle each foot is ahead, (n,).
        legs: The legs, one for each foot.
        sweep: Name of the input with the commanded velocity forward and leftward, m/s, and yaw rate, rad/s, (3,), by
            which feet on the ground go back; None for steps on the spot.
    """

    dt: Positive
    frequency: Positive
    frequency_scale: NotNegative
    height: NotNegative
    foot_scale: Positive
    lead: Number
    offset: Vector
    legs: tuple[Leg, ...]
    sweep: Name | None = None
    kind: ClassVar[str] = "foot_trajectories"

    def _check(self) -> None:
        if len(self.offset) != len(self.legs):
            raise fail("offset", f"{len(self.legs)} numbers, one per leg", self.offset)
        if (self.frequency + self.frequency_scale) * self.dt >= 0.5:
            expected = f"less than {0.5 / self.dt - self.frequency:g} Hz: a cycle takes more than two control periods"
            raise fail("frequency_scale", expected, self.frequency_scale)
        joints = sorted(joint for leg in self.legs for joint in leg.joints)
        if joints != list(range(3 * len(self.legs))):
            raise fail("legs", "each output once among the joints of the legs", joints)

    def taken(self, size: int) -> int:
        """Return the number of frequencies and offsets."""
        return 4 * len(self.legs)

    def _check_size(self, size: int) -> None:
        if size != 3 * len(self.legs):
            raise fail("legs", f"legs with {size} joints in all, one per output", 3 * len(self.legs))


STAGES: dict[str, type[Stage]]
STAGES = {stage.kind: stage for stage in (Scale, Clip, Integrate, LowPass, Delay, Cycle, Follow, FootTrajectories)}


def widths(stages: Sequence[Stage], outputs: int) -> list[int]:
    """Return how many components each stage of a pipeline takes, and at last the number of outputs."""
    sizes = [outputs]
    for stage in reversed(stages):
        sizes.append(stage.taken(sizes[-1]))
    return sizes[::-1]
