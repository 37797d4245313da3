"""Inputs and outputs of a policy."""

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from jaxloco.onboard.spec.fields import (
    Checked,
    Components,
    Name,
    PerComponent,
    Positive,
    Size,
    Text,
    _vector,
    check_order,
    choice,
    fail,
    show,
)
from jaxloco.onboard.spec.signals import GAIT_CLOCK, LAST_ACTION

SOURCES = ("sensor", "command", "external", "policy")


def _check_sizes(spec: "InputSpec | OutputSpec", *keys: str) -> None:
    """Check that each value is one number or one per component, and that components have different names."""
    for key in keys:
        value = getattr(spec, key)
        if isinstance(value, tuple) and len(value) != spec.size:
            raise fail(key, f"one number or a list of {spec.size}", value)
    names = spec.components
    if names and (len(names) != spec.size or len(set(names)) != spec.size):
        raise fail("components", f"no names or {spec.size} different ones", names)


def _clip(key: str, value: object) -> tuple[float, float]:
    clip = _vector(key, value)
    if len(clip) != 2 or clip[0] > clip[1]:
        raise fail(key, "null or [lowest, highest]", value)
    return clip[0], clip[1]


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
    source: Annotated[str, choice(SOURCES)] = "sensor"
    components: Components = ()
    frequency: Positive | None = None

    def _check(self) -> None:
        _check_sizes(self, "scale", "low", "high")
        if (self.name == GAIT_CLOCK) != (self.frequency is not None):
            raise fail("frequency", f"Hz for {GAIT_CLOCK!r}, null for any other input", self.frequency)
        if self.low is not None and self.high is not None:
            check_order(self.low, self.high)
        if self.name in (LAST_ACTION, GAIT_CLOCK) and self.source != "policy":
            raise fail("source", f'"policy" for {self.name!r}', self.source)


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
        check_order(self.low, self.high)
        if np.less(self.safe, self.low).any() or np.greater(self.safe, self.high).any():
            raise fail("safe", f"values from {show(self.low)} to {show(self.high)}", self.safe)
