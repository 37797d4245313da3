"""Observations: what the policy and the critic see, with noise, bias, scale, clip, latency and history.

A frame is made exactly as the robot makes it (`jaxloco.onboard`): clip in SI units, then scale; the history is oldest
first; after a reset it is filled with the first frame.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.checks import NOT_NEGATIVE, check_fields
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.delays import buffer_length, delayed, push
from jaxloco.envs.quantities import rotate_inverse
from jaxloco.errors import ConfigError, short

Limit = float | tuple[float, ...]
"""One number for all components, or one per component."""


@dataclass(frozen=True)
class ObservationTerm:
    """One quantity of an observation.

    Attributes:
        quantity: Its name.
        scale: Factor after clipping.
        clip: Limits in the quantity's own unit, or None.
        noise: Half-width of the uniform noise added at each step, in the quantity's unit.
        bias: Half-width of the uniform bias drawn per episode, in the quantity's unit.
        low: Smallest plausible reading, one number or one per component; the robot takes others for a fault.
        high: Largest plausible reading, likewise.
        imu: Whether the IMU measures it, a vector in the frame of the base: it turns with the IMU's misalignment.
        latency: Age of its readings, s, drawn per episode, if it is not that of the group: cameras are slow.
    """

    quantity: str
    scale: float = 1.0
    clip: tuple[float, float] | None = None
    noise: Annotated[float, NOT_NEGATIVE] = 0.0
    bias: Annotated[float, NOT_NEGATIVE] = 0.0
    low: Limit | None = None
    high: Limit | None = None
    imu: bool = False
    latency: Range | None = None

    def __post_init__(self) -> None:
        check_fields(self, "low", "high", "clip")
        if self.latency is not None and self.latency.ends[0] < 0.0:
            lowest = self.latency.ends[0]
            raise ConfigError(f"observation {self.quantity!r}: latency from {lowest} s: must not be negative")
        if self.clip is not None and (np.shape(self.clip) != (2,) or not self.clip[0] < self.clip[1]):
            raise ConfigError(
                f"observation {self.quantity!r}: clip = {self.clip}: write both limits, the low one first, such as "
                "(-1.0, 1.0)"
            )


@dataclass(frozen=True)
class ObservationGroup:
    """What one network sees.

    Attributes:
        terms: Quantities, in order.
        history: Number of frames, newest last.
        latency: Age of the readings, s, drawn per episode; what the policy computed itself has none.
        noise_level: Factor on all noise, drawn per episode.
        misalignment: Half-width of the turn about each axis by which the IMU sits askew, rad, drawn per episode.
        measured: Of what a teacher sees: how many of the terms, from the first on, a student sees too; otherwise 0.
    """

    terms: tuple[ObservationTerm, ...]
    history: int = 1
    latency: Range = Range(0.0, 0.0)
    noise_level: Range = Range(1.0, 1.0)
    misalignment: float = 0.0
    measured: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.terms, tuple | list) or not all(
            isinstance(term, ObservationTerm) for term in self.terms
        ):
            raise ConfigError(
                "an observation group takes a tuple of terms, also of one: (ObservationTerm('pitch'),), not "
                f"{short(repr(self.terms))}"
            )
        for name in ("latency", "noise_level"):
            if not isinstance(getattr(self, name), Range):
                raise ConfigError(f"{name} = {getattr(self, name)}: expected a Range, such as Range(0.0, 0.01)")
        if not self.terms:
            raise ConfigError("an observation group without terms: at least one is needed")
        if self.history < 1:
            raise ConfigError(f"history {self.history}: at least one frame is needed")
        if self.latency.ends[0] < 0.0:
            raise ConfigError(f"latency from {self.latency.ends[0]} s: must not be negative")
        names = [term.quantity for term in self.terms]
        if len(set(names)) != len(names):
            raise ConfigError(f"observation terms {names}: each quantity may stand once")


def turned(misalignment: jax.Array, vectors: jax.Array) -> jax.Array:
    """Return vectors of the base as an IMU reads them that is turned about the base's axes.

    Args:
        misalignment: Rotation vector of the IMU in the base, rad, (3,).
        vectors: In the base, (n, 3).
    """
    half = 0.5 * misalignment
    quaternion = jnp.concatenate([jnp.ones(1), half])
    quaternion = quaternion / jnp.sqrt(jnp.sum(jnp.square(quaternion)))  # tan instead of sin: exact to third order
    return jax.vmap(rotate_inverse, (None, 0))(quaternion, vectors)


class Errors(NamedTuple):
    """What is drawn per episode.

    Attributes:
        bias: (frame,), in the quantities' units.
        latency: Age of the readings, s, ().
        noise_level: Factor on the noise, ().
        misalignment: Rotation vector of the IMU in the base, rad, (3,); zero where there is none.
        latencies: Ages of the readings of those terms that have their own, s, ().
    """

    bias: jax.Array
    latency: jax.Array
    noise_level: jax.Array
    misalignment: jax.Array
    latencies: tuple[jax.Array, ...] = ()


class ObserverState(NamedTuple):
    """State of an observer.

    Attributes:
        errors: Of this episode.
        readings: Recent ones before noise, newest first, (K, frame).
        frames: Recent ones, oldest first, (history, frame).
    """

    errors: Errors
    readings: jax.Array
    frames: jax.Array


class Observer:
    """An observation group with its sizes known: pure functions of a state."""

    def __init__(
        self, group: ObservationGroup, sizes: Mapping[str, int], dt: float, prompt: Collection[str] = ()
    ) -> None:
        self.group = group
        self.sizes = tuple(sizes[term.quantity] for term in group.terms)
        self.frame_size = sum(self.sizes)
        self.size = self.frame_size * group.history
        self.measured_size = sum(self.sizes[: group.measured])
        self._dt = dt
        self._scale = self._spread([term.scale for term in group.terms])
        self._noise = self._spread([term.noise for term in group.terms])
        self._bias = self._spread([term.bias for term in group.terms])
        self._low = self._spread([term.clip[0] if term.clip else -np.inf for term in group.terms])
        self._high = self._spread([term.clip[1] if term.clip else np.inf for term in group.terms])
        self._turned = self._imu_columns()
        self._prompt = self._spread([term.quantity in prompt for term in group.terms]) > 0
        own = [term for term in group.terms if term.latency is not None]
        self._late = [self._spread([other is term for other in group.terms]) > 0 for term in own]
        longest = max(latency.ends[1] for latency in (group.latency, *(t.latency for t in own if t.latency)))
        self._kept = buffer_length(longest, dt)

    def _spread(self, values: Sequence[float]) -> np.ndarray:
        return np.repeat(np.asarray(values, np.float32), self.sizes)

    def _imu_columns(self) -> np.ndarray:
        """Return where the vectors that the IMU measures stand in a frame, (n, 3); none if it never sits askew."""
        starts = np.cumsum([0, *self.sizes])
        columns = []
        for term, start, size in zip(self.group.terms, starts, self.sizes, strict=False):
            if term.imu and size != 3:
                raise ConfigError(
                    f"observation {term.quantity!r}: imu means a vector of 3, but it has {size} components"
                )
            if term.imu and self.group.misalignment > 0.0:
                columns.append(np.arange(start, start + 3))
        return np.array(columns, int).reshape(-1, 3)

    def draw(self, sampler: Sampler) -> Errors:
        """Draw the errors of an episode."""
        unit = 2.0 * sampler.unit((self.frame_size,)) - 1.0
        latency, level = sampler.draw(self.group.latency), sampler.draw(self.group.noise_level)
        limit = self.group.misalignment
        askew = sampler.draw(Range(-limit, limit), (3,)) if self._turned.size else jnp.zeros(3)
        own = tuple(sampler.draw(t.latency) for t in self.group.terms if t.latency is not None)
        return Errors(unit * self._bias, latency, level, askew, own)

    def noiseless(self) -> Errors:
        """Return no errors."""
        zero = jnp.float32(0.0)
        return Errors(jnp.zeros(self.frame_size), zero, zero, jnp.zeros(3), (zero,) * len(self._late))

    def start(self, values: Mapping[str, jax.Array], errors: Errors, sampler: Sampler | None) -> ObserverState:
        """Return the state after a reset.

        Args:
            values: Quantities by name.
            errors: Of the episode.
            sampler: For the noise; None for none.
        """
        reading = self._read(values)
        readings = jnp.tile(reading, (self._kept, 1))
        frame = self._frame(reading, errors, sampler)
        return ObserverState(errors, readings, jnp.tile(frame, (self.group.history, 1)))

    def step(self, state: ObserverState, values: Mapping[str, jax.Array], sampler: Sampler | None) -> ObserverState:
        """Take in a new set of quantities; see `start`."""
        reading = self._read(values)
        readings = push(state.readings, reading)
        late = delayed(readings, state.errors.latency, self._dt)
        for columns, latency in zip(self._late, state.errors.latencies, strict=True):
            late = jnp.where(columns, delayed(readings, latency, self._dt), late)
        frame = self._frame(jnp.where(self._prompt, reading, late), state.errors, sampler)
        return ObserverState(state.errors, readings, jnp.concatenate([state.frames[1:], frame[None]]))

    def observation(self, state: ObserverState) -> jax.Array:
        """Return the vector that the network gets, (size,)."""
        return jnp.ravel(state.frames)

    def _read(self, values: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.concatenate([jnp.ravel(values[term.quantity]).astype(jnp.float32) for term in self.group.terms])

    def _frame(self, reading: jax.Array, errors: Errors, sampler: Sampler | None) -> jax.Array:
        if self._turned.size:
            reading = reading.at[self._turned].set(turned(errors.misalignment, reading[self._turned]))
        measured = reading + errors.bias
        if sampler is not None and self._noise.any():
            unit = 2.0 * sampler.unit((self.frame_size,)) - 1.0
            measured = measured + errors.noise_level * self._noise * unit
        return jnp.clip(measured, self._low, self._high) * self._scale
