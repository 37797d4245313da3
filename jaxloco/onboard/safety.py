"""Stand between robot and policy: a reading not to be trusted gets the safe action at once, and a count."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.policy import Output, Policy
from jaxloco.onboard.spec import FLOAT32_MAX, PolicySpec, expand


class Cause(StrEnum):
    """Why the safe action was sent."""

    NAN = "nan"
    """A reading is NaN or infinite."""
    OUT_OF_RANGE = "out_of_range"
    """A reading is outside `low` … `high` of its `InputSpec`."""
    STALE = "stale"
    """The reading's timestamp did not advance, or the reading is too old."""
    MALFORMED = "malformed"
    """A reading is missing, of the wrong size or not a number."""
    BAD_OUTPUT = "bad_output"
    """The policy's own output is not finite."""
    LATCHED = "latched"
    """Too many of the above: stopped until `reset()`."""


@dataclass(frozen=True)
class Reading:
    """What a robot (or its simulator) reports at one control step.

    Attributes:
        inputs: Readings by name, in SI units; may hold more than the policy needs.
        timestamp: When they were measured [s], on any clock that only moves forward.
        terminated: The episode is over: the robot has fallen, or someone pressed the stop button.
        truncated: The episode is over for another reason, a time limit for instance.
    """

    inputs: Mapping[str, Any]
    timestamp: float
    terminated: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class SafetyConfig:
    """How much to bear.

    Every step with the safe action adds 1 to a counter, every good step takes `recovery` off it, down to 0.
    At `latch_after` the guard stops for good, until `reset()`: that many bad steps in a row stop it, and so
    does, in the end, a fault that comes and goes in more than a share of about `recovery` of all steps.

    Attributes:
        latch_after: The counter's limit, in steps.
        recovery: What a good step takes off the counter, in steps.
        max_age: Age from which a reading is stale, in control periods, beyond the smallest age seen. Needs a
            real-time loop; a timestamp that does not advance is stale in any loop.
        resume_within: After at most this many bad steps in a row the policy goes on where it was; after more,
            it is reset first, because its history no longer describes the robot.
    """

    latch_after: float = 20.0
    recovery: float = 0.1
    max_age: float = 5.0
    resume_within: int = 3

    def __post_init__(self) -> None:
        for name, low in (("latch_after", 1.0), ("recovery", 0.0), ("max_age", 1.0), ("resume_within", 0)):
            value = getattr(self, name)
            if not value >= low or not math.isfinite(value):
                raise ConfigError(f"SafetyConfig.{name}: expected at least {low}, found {value!r}")


@dataclass
class _Clock:
    """Compares the robot's clock with ours, without knowing how far they are apart.

    The smallest difference seen is taken for a fresh reading. It is allowed to grow by `DRIFT` seconds per
    second, more than two clocks ever drift apart, so that drift is not mistaken for age.
    """

    DRIFT = 1e-3

    offset: float = math.inf
    seen: float = field(default=-math.inf)

    def age(self, timestamp: float, now: float) -> float:
        if math.isfinite(self.seen):
            self.offset += self.DRIFT * max(now - self.seen, 0.0)
        self.seen = now
        self.offset = min(self.offset, now - timestamp)
        return now - timestamp - self.offset


class Guard:
    """A policy that only sees readings that can be trusted.

    Args:
        policy: The policy.
        config: How much to bear.

    Attributes:
        counts: Number of steps with the safe action since `reset()`, by cause.
        clipped: Number of steps since `reset()` whose output was brought back to its limits.
    """

    def __init__(self, policy: Policy, config: SafetyConfig | None = None):
        self.policy = policy
        self.config = config or SafetyConfig()
        spec = policy.spec
        self._period = 1.0 / spec.control_frequency
        self._ranges = _input_ranges(spec)
        self._limits = _output_limits(spec)
        self.counts: dict[Cause, int] = {}
        self.clipped = 0
        self.reset()

    def reset(self) -> None:
        """Start an episode: reset the policy, the counts and the latch."""
        self.policy.reset()
        self.counts = dict.fromkeys(Cause, 0)
        self.clipped = 0
        self._level = 0.0
        self._bad_steps = 0
        self._timestamp = -math.inf
        self._clock = _Clock()

    @property
    def latched(self) -> bool:
        """Whether the guard has stopped for good, until `reset()`."""
        return self._level >= self.config.latch_after

    def safe_action(self) -> dict[str, Output]:
        """Return the safe value of every output, by name."""
        return {item.name: _output(expand(item.safe, item.size)) for item in self.policy.spec.outputs}

    def act(self, reading: Reading, now: float | None = None) -> dict[str, Output]:
        """Do one control step.

        Args:
            reading: What the robot reports.
            now: The time now [s] on our clock in a real-time loop, to tell the reading's age, else None.

        Returns:
            The policy's outputs by name, in SI units and within their limits, or the safe action.
        """
        cause = self._distrust(reading, now)
        if cause is None and self.latched:
            cause = Cause.LATCHED
        if cause is None:
            if self._bad_steps > self.config.resume_within:
                self.policy.reset()
            outputs = self.policy.act({name: reading.inputs[name] for name, _, _, _ in self._ranges})
            cause = self._limit(outputs)
            if cause is None:
                self._bad_steps = 0
                self._level = max(self._level - self.config.recovery, 0.0)
                return outputs
            self.policy.reset()
        self._count(cause)
        return self.safe_action()

    def _count(self, cause: Cause) -> None:
        if self.latched:
            cause = Cause.LATCHED
        self.counts[cause] += 1
        self._bad_steps += 1
        if not self.latched:
            self._level += 1.0

    def _distrust(self, reading: Reading, now: float | None) -> Cause | None:
        """Return why `reading` cannot be trusted, or None if it can."""
        stale = self._is_stale(reading.timestamp, now)
        for name, size, low, high in self._ranges:
            value = reading.inputs.get(name)
            cause = (
                _check_scalar(value, low, high)
                if isinstance(value, float) and size == 1
                else _check(value, size, low, high)
            )
            if cause is not None:
                return cause
        return Cause.STALE if stale else None

    def _is_stale(self, timestamp: float, now: float | None) -> bool:
        """Whether the timestamp stands still, or is older than `max_age`."""
        # Written so that a NaN timestamp is stale.
        if not timestamp > self._timestamp:
            return True
        self._timestamp = timestamp
        return now is not None and self._clock.age(timestamp, now) > self.config.max_age * self._period

    def _limit(self, outputs: dict[str, Output]) -> Cause | None:
        """Bring outputs back to their limits, in place; return a cause if one is not finite."""
        clipped = False
        for name, low, high in self._limits:
            value = outputs[name]
            if isinstance(value, float):
                if not math.isfinite(value):
                    return Cause.BAD_OUTPUT
                limited: Output = min(max(value, low.item()), high.item())
                clipped |= limited != value
            else:
                if not np.isfinite(value).all():
                    return Cause.BAD_OUTPUT
                limited = np.clip(value, low, high)
                clipped |= bool((limited != value).any())
            outputs[name] = limited
        self.clipped += clipped
        return None


def _input_ranges(spec: PolicySpec) -> list[tuple[str, int, Any, Any]]:
    """Return name, size, low and high of every input that the caller gives; float32 arrays where size > 1."""
    ranges: list[tuple[str, int, Any, Any]] = []
    for item in spec.inputs:
        if item.source == "policy":
            continue
        low = expand(-FLOAT32_MAX if item.low is None else item.low, item.size)
        high = expand(FLOAT32_MAX if item.high is None else item.high, item.size)
        if item.size == 1:
            ranges.append((item.name, 1, low[0], high[0]))
        else:
            ranges.append((item.name, item.size, np.array(low), np.array(high)))
    return ranges


def _output_limits(spec: PolicySpec) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return name, low and high of every output, rounded to float32 as the policy's own clip is."""
    return [
        (
            item.name,
            np.array(expand(item.low, item.size), np.float32),
            np.array(expand(item.high, item.size), np.float32),
        )
        for item in spec.outputs
    ]


def _output(values: tuple[float, ...]) -> Output:
    return values[0] if len(values) == 1 else np.array(values, np.float32)


def _check_scalar(value: float, low: float, high: float) -> Cause | None:
    if low <= value <= high and math.isfinite(value):
        return None
    return Cause.OUT_OF_RANGE if math.isfinite(value) else Cause.NAN


def _check(value: Any, size: int, low: Any, high: Any) -> Cause | None:
    """Check a reading of any type against its size and range."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return Cause.MALFORMED
    if array.dtype.kind not in "fiu" or array.size != size or (size > 1 and array.ndim != 1):
        return Cause.MALFORMED
    if not np.isfinite(array).all():
        return Cause.NAN
    return None if ((low <= array) & (array <= high)).all() else Cause.OUT_OF_RANGE
