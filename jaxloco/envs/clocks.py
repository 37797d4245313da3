"""The policy's clock in JAX: how far its gait is in its cycle, and whether it rests; as `jaxloco.onboard.clock`."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.onboard.clock import NEAR
from jaxloco.onboard.spec import Rest


class ClockState(NamedTuple):
    """State of a clock.

    Attributes:
        half: Half cycles done when it last started, modulo 2, ().
        steps: Control periods since then, ().
        moving: 1 while it runs, 0 at rest, ().
        still: Steps in a row in which the command meant standing, ().
    """

    half: jax.Array
    steps: jax.Array
    moving: jax.Array
    still: jax.Array


class Clock(NamedTuple):
    """What a clock shows.

    Attributes:
        cycle: How far the cycle is, 0 to 1, ().
        moving: 1 while the clock runs, 0 at rest, ().
    """

    cycle: jax.Array
    moving: jax.Array


def start(rest: Rest | None) -> ClockState:
    """Return the state after a reset: at rest if the clock can rest."""
    zero = jnp.float32(0.0)
    return ClockState(zero, zero, jnp.float32(rest is None), zero)


def step(
    state: ClockState, dt: float, frequency: float, rest: Rest | None, commands: Mapping[str, jax.Array]
) -> ClockState:
    """Go on by a control period.

    Args:
        state: State.
        dt: Control period, s.
        frequency: Of the cycle, Hz.
        rest: When the clock rests, if ever.
        commands: What the robot was asked to do in this step, by name; `rest` says which counts.

    Returns:
        The state in the next step.
    """
    steps = state.steps + 1.0
    if rest is None:
        return state._replace(steps=steps)
    stands = jnp.sum(jnp.square(commands[rest.command])) <= jnp.float32(rest.below) ** 2
    still = jnp.where(stands, state.still + 1.0, 0.0)
    halves = _halves(steps, dt * frequency)
    moving = state.moving > 0.0
    stop = moving & (still > round(rest.after / dt)) & (halves > _halves(state.steps, dt * frequency))
    return ClockState(
        half=jnp.where(stop, (state.half + halves) % 2.0, state.half),
        steps=jnp.where(moving & ~stop, steps, 0.0),
        moving=jnp.where(moving, ~stop, ~stands).astype(jnp.float32),
        still=still,
    )


def show(state: ClockState, dt: float, frequency: float) -> Clock:
    """Return what the clock shows; arguments as in `step`."""
    return Clock((0.5 * state.half + state.steps * jnp.float32(dt * frequency)) % 1.0, state.moving)


def _halves(steps: jax.Array, share: float) -> jax.Array:
    """Return how many half cycles are complete after so many steps, ()."""
    return jnp.floor(jnp.float32(2.0) * jnp.float32(share) * steps + jnp.float32(NEAR))
