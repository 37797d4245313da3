"""The policy's clock in JAX: how far its gait is in its cycle, and whether it rests; as `jaxloco.onboard.clock`."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.onboard.clock import NEAR
from jaxloco.onboard.generator import parts
from jaxloco.onboard.spec import Rest


class ClockState(NamedTuple):
    """State of a clock.

    Attributes:
        half: Half cycles done when it last started, modulo 2, ().
        steps: Control periods since then, ().
        moving: 1 while it runs, 0 at rest, ().
        still: Steps in a row in which the command meant standing, ().
        ahead: What frequencies of their own have added to the phases of feet, in 2⁻³² cycles, uint32 (n_feet,); None
            where feet have none.
        velocity: By which feet on the ground go back, (3,), see `Gait.sweep`; None where they step on the spot.
    """

    half: jax.Array
    steps: jax.Array
    moving: jax.Array
    still: jax.Array
    ahead: jax.Array | None = None
    velocity: jax.Array | None = None


class Clock(NamedTuple):
    """What a clock shows.

    Attributes:
        cycle: How far the cycle is, 0 to 1, ().
        moving: 1 while the clock runs, 0 at rest, ().
        turns: How far each foot is by the clock and its own frequency, without its offset, in 2⁻³² cycles, uint32
            (n_feet,); None where feet have no frequencies of their own.
        velocity: As in `ClockState`.
    """

    cycle: jax.Array
    moving: jax.Array
    turns: jax.Array | None = None
    velocity: jax.Array | None = None


def start(rest: Rest | None, feet: int = 0, sweeps: bool = False) -> ClockState:
    """Return the state after a reset, at rest if the clock can rest.

    Args:
        rest: When the clock rests, if ever.
        feet: How many have frequencies of their own.
        sweeps: Whether feet on the ground go back by a commanded velocity.
    """
    zero = jnp.float32(0.0)
    ahead, velocity = jnp.zeros(feet, jnp.uint32) if feet else None, jnp.zeros(3) if sweeps else None
    return ClockState(zero, zero, jnp.float32(rest is None), zero, ahead, velocity)


def step(
    state: ClockState,
    dt: float,
    frequency: float,
    rest: Rest | None,
    inputs: Mapping[str, jax.Array],
    own_turns: jax.Array | None = None,
    velocity: jax.Array | None = None,
) -> ClockState:
    """Advance by a control period.

    Args:
        state: State.
        dt: Control period, s.
        frequency: Of the cycle, Hz.
        rest: When the clock rests, if ever.
        inputs: What the policy has seen in this step, by name: those that `rest` names.
        own_turns: What the own frequencies of feet add in this step, in 2⁻³² cycles, uint32 (n_feet,); None for none.
        velocity: Commanded in this step, (3,); None where feet step on the spot.

    Returns:
        The state in the next step.
    """
    after = _step(state, dt, frequency, rest, inputs, own_turns)
    return after if velocity is None else after._replace(velocity=after.moving * velocity)


def _step(
    state: ClockState,
    dt: float,
    frequency: float,
    rest: Rest | None,
    inputs: Mapping[str, jax.Array],
    own_turns: jax.Array | None,
) -> ClockState:
    steps = state.steps + 1.0
    if state.ahead is not None and own_turns is not None:
        state = state._replace(ahead=state.ahead + own_turns)
    if rest is None:
        return state._replace(steps=steps)
    stands = _stands(rest, inputs)
    still = jnp.where(stands, state.still + 1.0, 0.0)
    halves = _halves(steps, dt * frequency)
    moving = state.moving > 0.0
    stop = moving & (still > round(rest.after / dt)) & (halves > _halves(state.steps, dt * frequency))
    return state._replace(
        half=jnp.where(stop, (state.half + halves) % 2.0, state.half),
        steps=jnp.where(moving & ~stop, steps, 0.0),
        moving=jnp.where(moving, ~stop, ~stands).astype(jnp.float32),
        still=still,
    )


def show(state: ClockState, dt: float, frequency: float) -> Clock:
    """Return what the clock shows; arguments as in `step`."""
    cycle = (0.5 * state.half + state.steps * jnp.float32(dt * frequency)) % 1.0
    clock = Clock(cycle, state.moving, velocity=state.velocity)
    return clock if state.ahead is None else clock._replace(turns=_turns(state, dt * frequency) + state.ahead)


def _turns(state: ClockState, share: float) -> jax.Array:
    """Return how far the cycle is, in 2⁻³² of it, uint32 (): whole numbers, which do not drift."""
    halves, steps = state.half.astype(jnp.uint32), state.steps.astype(jnp.uint32)
    return halves * np.uint32(parts(0.5)) + steps * np.uint32(parts(share))


def _stands(rest: Rest, inputs: Mapping[str, jax.Array]) -> jax.Array:
    """Whether the robot is to stand, and may: the command is small, and the base upright, ()."""
    stands = jnp.sum(jnp.square(inputs[rest.command])) <= jnp.float32(rest.below) ** 2
    if rest.gravity is None or rest.tilt is None:
        return stands
    gravity = inputs[rest.gravity]
    return stands & (gravity[2] < 0.0) & (jnp.sum(jnp.square(gravity[:2])) <= jnp.float32(math.sin(rest.tilt) ** 2))


def _halves(steps: jax.Array, share: float) -> jax.Array:
    """Return how many half cycles are complete after so many steps, ()."""
    return jnp.floor(jnp.float32(2.0) * jnp.float32(share) * steps + jnp.float32(NEAR))
