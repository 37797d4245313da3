"""The action pipeline, in JAX: the same stages, as data, that the robot runs in NumPy (`jaxloco.onboard`).

Each stage takes the state of one robot and a vector, and returns both anew.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.envs.clocks import Clock
from jaxloco.envs.delays import push
from jaxloco.envs.motions import Shown
from jaxloco.errors import ConfigError
from jaxloco.onboard.generator import generator_of
from jaxloco.onboard.spec import Clip, Cycle, Delay, Follow, FootTrajectories, Integrate, LowPass, Scale, Stage, widths

State = jax.Array
"""State of one stage: (n,) for an integrator or a filter, (steps, n) for a delay, (0,) for none."""


def initial_state(stages: Sequence[Stage], outputs: int) -> tuple[State, ...]:
    """Return the state of each stage after a reset, for a result of so many components."""
    return tuple(_initial(stage, size) for stage, size in zip(stages, widths(stages, outputs)[1:], strict=True))


def apply(
    stages: Sequence[Stage], states: tuple[State, ...], action: jax.Array, clock: Clock | Shown | None = None
) -> tuple[tuple[State, ...], jax.Array]:
    """Run the pipeline once.

    Args:
        stages: What to run, in order.
        states: As returned before, or by `initial_state`.
        action: Action of the policy, in [-1, 1], (n,).
        clock: The policy's clock, which cycles and trajectories of feet follow; or what its motion shows.

    Returns:
        The new states, and the result in SI units, (n_outputs,).

    Raises:
        ConfigError: There is a cycle, but no clock, or no motion to follow.
    """
    value, after = action, []
    for stage, state in zip(stages, states, strict=True):
        if isinstance(stage, Cycle | FootTrajectories | Follow):
            new_state, value = state, _on_clock(stage, clock, value)
        else:
            new_state, value = _APPLY[type(stage)](stage, state, value)
        after.append(new_state)
    return tuple(after), value


def _initial(stage: Stage, size: int) -> State:
    if isinstance(stage, Integrate | LowPass):
        return _vector(stage.initial) if stage.initial is not None else jnp.zeros(size)
    if isinstance(stage, Delay):
        start = _vector(stage.initial) if stage.initial is not None else jnp.zeros(size)
        return jnp.tile(start, (stage.steps, 1))
    return jnp.zeros(0)


def _vector(values: Sequence[float]) -> jax.Array:
    return jnp.asarray(values, jnp.float32)


def _scale(stage: Scale, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    scaled = x * _vector(stage.scale)
    return state, scaled if stage.offset is None else scaled + _vector(stage.offset)


def _clip(stage: Clip, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    return state, jnp.clip(x, _vector(stage.low), _vector(stage.high))


def _integrate(stage: Integrate, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    value = jnp.clip(state + jnp.float32(stage.dt) * x, _vector(stage.low), _vector(stage.high))
    return value, value


def _low_pass(stage: LowPass, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    value = state + _vector(stage.alpha) * (x - state)
    return value, value


def _delay(stage: Delay, state: State, x: jax.Array) -> tuple[State, jax.Array]:
    if stage.steps == 0:
        return state, x
    return push(state, x), state[-1]


def _on_clock(stage: Cycle | FootTrajectories | Follow, clock: Clock | Shown | None, x: jax.Array) -> jax.Array:
    if isinstance(stage, Follow):
        if not isinstance(clock, Shown):
            raise ConfigError("a Follow adds to a reference; give the EnvSpec a Motion")
        return x - _vector(stage.default) + clock.targets
    if not isinstance(clock, Clock):
        raise ConfigError(f"a {type(stage).__name__} follows the gait clock; give the EnvSpec a gait")
    return _cycle(stage, clock, x) if isinstance(stage, Cycle) else _foot_trajectories(stage, clock, x)


def _foot_trajectories(stage: FootTrajectories, clock: Clock, x: jax.Array) -> jax.Array:
    if clock.turns is None:
        raise ConfigError("FootTrajectories need a gait with a frequency_scale; write Gait(…, frequency_scale=…)")
    generator, base = generator_of(stage), clock.moving * np.float32(stage.frequency)
    targets: jax.Array = generator.joint_targets(jnp, x, clock.turns + generator.offsets, base, clock.velocity)
    return targets


def _cycle(stage: Cycle, clock: Clock, x: jax.Array) -> jax.Array:
    cycle = (clock.cycle + _vector(stage.offset)) % 1.0
    return x + clock.moving * _vector(stage.amplitude) * jnp.maximum(jnp.sin(2.0 * jnp.pi * cycle), 0.0)


_APPLY: dict[type[Stage], Callable[[Any, State, jax.Array], tuple[State, jax.Array]]] = {
    Scale: _scale,
    Clip: _clip,
    Integrate: _integrate,
    LowPass: _low_pass,
    Delay: _delay,
}
