"""Observations: what the policy and the critic see, with noise, bias, scale, clip, latency and history.

A frame is made exactly as the robot makes it (`jaxloco.onboard`): clip in SI units, then scale; the history is oldest
first; after a reset it is filled with the first frame.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.delays import buffer_length, delayed, push
from jaxloco.errors import ConfigError


@dataclass(frozen=True)
class ObservationTerm:
    """One quantity of an observation.

    Attributes:
        quantity: Its name.
        scale: Factor after clipping.
        clip: Limits in the quantity's own unit, or None.
        noise: Half-width of the uniform noise added at each step, in the quantity's unit.
        bias: Half-width of the uniform bias drawn per episode, in the quantity's unit.
        low: Smallest plausible reading; the robot takes others for a fault.
        high: Largest plausible reading.
    """

    quantity: str
    scale: float = 1.0
    clip: tuple[float, float] | None = None
    noise: float = 0.0
    bias: float = 0.0
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ObservationGroup:
    """What one network sees.

    Attributes:
        terms: Quantities, in order.
        history: Number of frames, newest last.
        latency: Age of the readings, s, drawn per episode; what the policy computed itself has none.
        noise_level: Factor on all noise, drawn per episode.
    """

    terms: tuple[ObservationTerm, ...]
    history: int = 1
    latency: Range = Range(0.0, 0.0)
    noise_level: Range = Range(1.0, 1.0)

    def __post_init__(self) -> None:
        if self.history < 1:
            raise ConfigError(f"history {self.history}: at least one frame is needed")
        if self.latency.low < 0.0:
            raise ConfigError(f"latency from {self.latency.low} s: must not be negative")
        names = [term.quantity for term in self.terms]
        if len(set(names)) != len(names):
            raise ConfigError(f"observation terms {names}: each quantity may stand once")


class ObserverState(NamedTuple):
    """Recent readings before noise, newest first, (K, frame), and recent frames, oldest first, (history, frame)."""

    readings: jax.Array
    frames: jax.Array


class Observer:
    """An observation group with its sizes known: pure functions of a state."""

    def __init__(
        self, name: str, group: ObservationGroup, sizes: Mapping[str, int], dt: float, prompt: Collection[str] = ()
    ) -> None:
        self.group = group
        self.sizes = tuple(sizes[term.quantity] for term in group.terms)
        self.frame_size = sum(self.sizes)
        self.size = self.frame_size * group.history
        self._name, self._dt = name, dt
        self._scale = self._spread([term.scale for term in group.terms])
        self._noise = self._spread([term.noise for term in group.terms])
        self._bias = self._spread([term.bias for term in group.terms])
        self._low = self._spread([term.clip[0] if term.clip else -np.inf for term in group.terms])
        self._high = self._spread([term.clip[1] if term.clip else np.inf for term in group.terms])
        self._prompt = self._spread([term.quantity in prompt for term in group.terms]) > 0

    def _spread(self, values: Sequence[float]) -> np.ndarray:
        return np.repeat(np.asarray(values, np.float32), self.sizes)

    def draw(self, sampler: Sampler) -> dict[str, jax.Array]:
        """Draw the values of an episode, by name."""
        unit = 2.0 * sampler.unit((self.frame_size,)) - 1.0
        return {
            f"{self._name}_bias": unit * self._bias,
            f"{self._name}_latency": sampler.draw(self.group.latency),
            f"{self._name}_noise_level": sampler.draw(self.group.noise_level),
        }

    def noiseless(self) -> dict[str, jax.Array]:
        """Return values of an episode without bias, latency and noise."""
        zero = jnp.float32(0.0)
        bias = jnp.zeros(self.frame_size)
        return {
            f"{self._name}_bias": bias,
            f"{self._name}_latency": zero,
            f"{self._name}_noise_level": zero,
        }

    def start(
        self, values: Mapping[str, jax.Array], draws: Mapping[str, jax.Array], sampler: Sampler | None
    ) -> ObserverState:
        """Return the state after a reset; see `step` for the arguments."""
        reading = self._read(values)
        readings = jnp.tile(reading, (buffer_length(self.group.latency.high, self._dt), 1))
        frame = self._frame(reading, draws, sampler)
        return ObserverState(readings, jnp.tile(frame, (self.group.history, 1)))

    def step(
        self,
        state: ObserverState,
        values: Mapping[str, jax.Array],
        draws: Mapping[str, jax.Array],
        sampler: Sampler | None,
    ) -> ObserverState:
        """Take in a new set of quantities.

        Args:
            state: As returned before.
            values: Quantities by name.
            draws: Values of the episode by name.
            sampler: For the noise; None for none.
        """
        reading = self._read(values)
        readings = push(state.readings, reading)
        late = delayed(readings, draws[f"{self._name}_latency"], self._dt)
        frame = self._frame(jnp.where(self._prompt, reading, late), draws, sampler)
        return ObserverState(readings, jnp.concatenate([state.frames[1:], frame[None]]))

    def observation(self, state: ObserverState) -> jax.Array:
        """Return the vector that the network gets, (size,)."""
        return jnp.ravel(state.frames)

    def _read(self, values: Mapping[str, jax.Array]) -> jax.Array:
        return jnp.concatenate([jnp.ravel(values[term.quantity]).astype(jnp.float32) for term in self.group.terms])

    def _frame(self, reading: jax.Array, draws: Mapping[str, jax.Array], sampler: Sampler | None) -> jax.Array:
        measured = reading + draws[f"{self._name}_bias"]
        if sampler is not None and self._noise.any():
            unit = 2.0 * sampler.unit((self.frame_size,)) - 1.0
            measured = measured + draws[f"{self._name}_noise_level"] * self._noise * unit
        return jnp.clip(measured, self._low, self._high) * self._scale
