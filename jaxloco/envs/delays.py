"""Continuous delays on sampled signals: of actions and of readings."""

import math

import jax
import jax.numpy as jnp


def buffer_length(longest: float, dt: float) -> int:
    """Return how many samples a delay of up to `longest` seconds needs at a period of `dt` seconds."""
    return math.ceil(longest / dt - 1e-6) + 1


def push(buffer: jax.Array, value: jax.Array) -> jax.Array:
    """Put the newest sample in front. (K, n), (n,) → (K, n)."""
    return jnp.concatenate([value[None], buffer[:-1]])


def delayed(buffer: jax.Array, delay: jax.Array, dt: float) -> jax.Array:
    """Return the signal of `delay` seconds ago.

    Between samples this interpolates linearly. For a held signal (an action) that is its exact mean over the control
    period that the delay cuts in two: the same impulse as switching in the middle of it.

    Args:
        buffer: Samples, newest first, (K, n).
        delay: Seconds, (); at most (K - 1) dt.
        dt: Period of the samples, s.

    Returns:
        The delayed value, (n,).
    """
    age = jnp.arange(buffer.shape[0], dtype=jnp.float32)
    weight = jnp.maximum(0.0, 1.0 - jnp.abs(delay / dt - age))
    return weight @ buffer
