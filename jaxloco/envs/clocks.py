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
    """

    half: jax.Array
    steps: jax.Array
    moving: jax.Array


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
    return ClockState(jnp.float32(0.0), jnp.float32(0.0), jnp.float32(rest is None))


def step(state: ClockState, share: float, rest: Rest | None, commands: Mapping[str, jax.Array]) -> ClockState:
    """Go on by a control period.

    Args:
        state: State.
        share: Share of a cycle that a control period is.
        rest: When the clock rests, if ever.
        commands: What the robot was asked to do in this step, by name; `rest` says which counts.

    Returns:
        The state in the next step.
    """
    steps = state.steps + 1.0
    if rest is None:
        return state._replace(steps=steps)
    still = jnp.sum(jnp.square(commands[rest.command])) <= jnp.float32(rest.below) ** 2
    halves = _halves(steps, share)
    moving = state.moving > 0.0
    stop = moving & still & (halves > _halves(state.steps, share))
    return ClockState(
        half=jnp.where(stop, (state.half + halves) % 2.0, state.half),
        steps=jnp.where(moving & ~stop, steps, 0.0),
        moving=jnp.where(moving, ~stop, ~still).astype(jnp.float32),
    )


def show(state: ClockState, share: float) -> Clock:
    """Return what the clock shows; `share` as in `step`."""
    return Clock((0.5 * state.half + state.steps * jnp.float32(share)) % 1.0, state.moving)


def _halves(steps: jax.Array, share: float) -> jax.Array:
    """Return how many half cycles are complete after so many steps, ()."""
    return jnp.floor(jnp.float32(2.0) * jnp.float32(share) * steps + jnp.float32(NEAR))
