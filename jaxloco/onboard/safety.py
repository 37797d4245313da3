"""A guard between robot and policy: a faulty reading gets the safe action in the same step, and is counted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from jaxloco.errors import ConfigError
from jaxloco.onboard.policy import Output, Policy, scalar, vector
from jaxloco.onboard.spec import FLOAT32_MAX, InputSpec, Values, expand
from jaxloco.onboard.uncopied import Uncopied


class Cause(str, Enum):
    """Why the safe action was sent."""

    __str__ = str.__str__

    NAN = "nan"
    """A reading is NaN or infinite."""
    OUT_OF_RANGE = "out_of_range"
    """A reading is outside `low` … `high` of its `InputSpec`."""
    STALE = "stale"
    """The reading's timestamp is not finite or does not follow those before, or the reading is too old."""
    MALFORMED = "malformed"
    """A reading or its timestamp is missing, masked, of the wrong size or not a number."""
    BAD_OUTPUT = "bad_output"
    """The policy's own output is not finite, or was not given."""
    LATCHED = "latched"
    """Too many of the above: stopped until `reset()`."""


@dataclass(frozen=True)
class Reading:
    """What a robot (or its simulator) reports at one control step.

    Attributes:
        inputs: Readings by name, in SI units; may hold more than the policy needs.
        timestamp: When they were measured, s, on a clock of the robot's own. Where that clock is set, forward or
            back, one step is lost.
        terminated: The episode is over: the robot has fallen, or someone pressed the stop button.
        truncated: The episode is over for another reason, a time limit for instance.
    """

    inputs: Mapping[str, Any]
    timestamp: float
    terminated: bool = False
    truncated: bool = False


@dataclass(frozen=True)
class SafetyConfig:
    """Limits of the guard.

    Every step with the safe action adds 1 to a counter, every good step takes `recovery` off it, down to 0.
    At `latch_after` the guard stops for good, until `reset()`: that many bad steps in a row stop it, and so
    does, in the end, a fault that comes and goes in more than a share of about `recovery` of all steps.

    Attributes:
        latch_after: The counter's limit, in steps.
        recovery: What a good step takes off the counter, in steps.
        max_age: Age from which a reading is stale, in control periods, beyond the smallest age seen; also, how far
            ahead of its time a timestamp may be. Needs a real-time loop; a timestamp that does not advance is stale
            in any loop.
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


class _Follows(Enum):
    """How a timestamp follows the one before."""

    WELL = "as time goes on"
    LATE = "it stands still, or the reading is too old"
    NOT = "it goes back or too far forward: it is wrong, or the clock was set"


class _Clock:
    """Compares the robot's clock, s, with ours, s, which is None where it is not known; their offset is not known.

    The smallest difference seen is that of a fresh reading; it may grow by `DRIFT` seconds per second, more than two
    clocks drift apart. A reading `NEVER` seconds old, or `max_age`, s, ahead, means that one of the clocks was set.
    """

    DRIFT = 1e-3
    NEVER = 60.0

    _timestamp: float
    _now: float | None
    _difference: float

    def __init__(self, timestamp: float, now: float | None, max_age: float):
        self._max_age = max_age
        self._start(timestamp, now)

    def follow(self, timestamp: float, now: float | None) -> _Follows:
        """Take the next reading's timestamp, s, unless it does not follow at all."""
        if timestamp == self._timestamp:
            return _Follows.LATE
        if now is None or self._now is None:
            if timestamp < self._timestamp:
                return _Follows.NOT
            self._start(timestamp, now)
            return _Follows.WELL
        # Both clocks go back where they are one, and it was set.
        if timestamp < self._timestamp and not now < self._now:
            return _Follows.NOT
        drift = self.DRIFT * max(now - self._now, 0.0)
        age = now - timestamp - self._difference - drift
        # Written so that a NaN, of two infinite differences, does not follow.
        if not -self._max_age - 2.0 * drift <= age <= max(self.NEVER, self._max_age):
            return _Follows.NOT
        self._timestamp = timestamp
        if age > self._max_age:
            return _Follows.LATE
        self._now = now
        self._difference += drift + min(age, 0.0)
        return _Follows.WELL

    def _start(self, timestamp: float, now: float | None) -> None:
        self._timestamp, self._now = timestamp, now
        self._difference = 0.0 if now is None else now - timestamp


class _Freshness:
    """Tells fresh readings by their timestamps; a wrong one, or a clock that was set, costs one step.

    A timestamp that does not follow is kept: if the next one follows it, the clock was set; otherwise it was wrong.
    """

    def __init__(self, max_age: float):
        self._max_age = max_age
        self._trusted: _Clock | None = None
        self._doubted: _Clock | None = None

    def check(self, timestamp: float, now: float | None) -> bool:
        """Whether a reading is fresh; both arguments, s, finite."""
        if self._trusted is None:
            self._trusted = _Clock(timestamp, now, self._max_age)
            return True
        follows = self._trusted.follow(timestamp, now)
        if follows is not _Follows.NOT:
            self._doubted = None
            return follows is _Follows.WELL
        follows = _Follows.NOT if self._doubted is None else self._doubted.follow(timestamp, now)
        if follows is _Follows.NOT:
            self._doubted = _Clock(timestamp, now, self._max_age)
        elif follows is _Follows.WELL:
            self._trusted, self._doubted = self._doubted, None
        return follows is _Follows.WELL


class Guard(Uncopied):
    """A policy that gets plausible readings only.

    Args:
        policy: The policy.
        config: Limits of the guard.

    Attributes:
        counts: Number of steps with the safe action since `reset()`, by cause.
        clipped: Number of steps since `reset()` whose output was brought back to its limits.
        cause: Why the last step had the safe action; None if it did not.
    """

    def __init__(self, policy: Policy, config: SafetyConfig | None = None):
        self.policy = policy
        self.config = config or SafetyConfig()
        spec = policy.spec
        self._period = 1.0 / spec.control_frequency
        self._ranges = [_range_of(item) for item in spec.inputs if item.source != "policy"]
        outputs = spec.outputs
        self._limits = [(o.name, _float32(o.low, o.size), _float32(o.high, o.size)) for o in outputs]
        self.counts: dict[Cause, int] = {}
        self.clipped = 0
        self.cause: Cause | None = None
        self.reset()

    def reset(self) -> None:
        """Start an episode: reset the policy, the counts and the latch."""
        self.policy.reset()
        self.counts = dict.fromkeys(Cause, 0)
        self.clipped = 0
        self.cause = None
        self._level = 0.0
        self._bad_steps = 0
        self._freshness = _Freshness(self.config.max_age * self._period)

    @property
    def latched(self) -> bool:
        """Whether the guard has stopped for good, until `reset()`."""
        return self._level >= self.config.latch_after

    def safe_action(self) -> dict[str, Output]:
        """Return the safe value of every output, by name."""
        outputs = self.policy.spec.outputs
        return {o.name: expand(o.safe, 1)[0] if o.size == 1 else _float32(o.safe, o.size) for o in outputs}

    def act(self, reading: Reading, now: float | None = None) -> dict[str, Output]:
        """Do one control step. Never raises, whatever the reading holds.

        Args:
            reading: What the robot reports.
            now: The time now on our clock, s, in a real-time loop, to tell the reading's age, else None. A clock that
                is never set, such as `time.monotonic`.

        Returns:
            The policy's outputs by name, in SI units and within their limits, or the safe action.
        """
        inputs: dict[str, Any] = {}
        cause = self._distrust(reading, now, inputs)
        if cause is None and self.latched:
            cause = Cause.LATCHED
        if cause is None:
            if self._bad_steps > self.config.resume_within:
                self.policy.reset()
            try:
                outputs = self.policy.act(inputs)
                cause = self._limit(outputs)
            except Exception:  # an overflow, with NumPy told to raise
                cause = Cause.BAD_OUTPUT
            if cause is None:
                self.cause = None
                self._bad_steps = 0
                self._level = max(self._level - self.config.recovery, 0.0)
                return outputs
            self.policy.reset()
        self.cause = Cause.LATCHED if self.latched else cause
        self.counts[self.cause] += 1
        self._bad_steps += 1
        if not self.latched:
            self._level += 1.0
        return self.safe_action()

    def _distrust(self, reading: Reading, now: float | None, inputs: dict[str, Any]) -> Cause | None:
        """Return what is wrong with `reading`, or None; fill `inputs` with what the policy reads."""
        try:
            fresh = self._is_fresh(reading.timestamp, now)
            for name, size, low, high in self._ranges:
                value = reading.inputs[name]
                if size == 1:
                    inputs[name] = value = value if type(value) is float else scalar(name, value)
                    cause = _check_scalar(value, low, high)
                else:
                    inputs[name] = value = value if type(value) is np.ndarray else vector(name, value, size)
                    cause = _check_vector(value, size, low, high)
                if cause is not None:
                    return cause
        except Exception:  # missing, no number, or of a type whose own code fails
            return Cause.MALFORMED
        return None if fresh else Cause.STALE

    def _is_fresh(self, timestamp: Any, now: Any) -> bool:
        """Whether the timestamp follows those before, by our clock too where `now` tells the time."""
        timestamp = timestamp if type(timestamp) is float else scalar("timestamp", timestamp)
        if now is not None and type(now) is not float:
            now = scalar("now", now)
        if not math.isfinite(timestamp) or not (now is None or math.isfinite(now)):
            return False
        return self._freshness.check(timestamp, now)

    def _limit(self, outputs: dict[str, Output]) -> Cause | None:
        """Clip outputs to their limits, in place; return a cause if one is not finite."""
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


def _float32(values: Values, size: int) -> np.ndarray:
    """Return one number per component, (size,), rounded as the policy's own are."""
    return np.array(expand(values, size), np.float32)


def _range_of(item: InputSpec) -> tuple[str, int, Any, Any]:
    """Return name, size, low and high of an input that the caller gives; arrays where size > 1."""
    low = expand(-FLOAT32_MAX if item.low is None else item.low, item.size)
    high = expand(FLOAT32_MAX if item.high is None else item.high, item.size)
    return (item.name, 1, low[0], high[0]) if item.size == 1 else (item.name, item.size, np.array(low), np.array(high))


def _check_scalar(value: float, low: float, high: float) -> Cause | None:
    if low <= value <= high and math.isfinite(value):
        return None
    return Cause.OUT_OF_RANGE if math.isfinite(value) else Cause.NAN


def _check_vector(value: np.ndarray, size: int, low: np.ndarray, high: np.ndarray) -> Cause | None:
    if value.shape != (size,) or value.dtype.kind not in "fiu":
        return Cause.MALFORMED
    if not np.isfinite(value).all():
        return Cause.NAN
    return None if ((low <= value) & (value <= high)).all() else Cause.OUT_OF_RANGE
