"""A small environment with the interface that Brax and MuJoCo Playground share, whose every number is known by hand."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class State:
    """Playground's fields."""

    data: jax.Array
    obs: Any
    reward: jax.Array
    done: jax.Array
    metrics: dict[str, jax.Array]
    info: dict[str, Any]


class Walk:
    """A point on a line. An action moves it by 0.1; the reward is minus its distance from zero; beyond 1 it has fallen.

    The actor sees the position, the critic the distance too.
    """

    dt = 0.05
    action_size = 1
    parts = ("state", "privileged_state")

    def reset(self, rng: jax.Array) -> State:
        """Begin somewhere within 0.5."""
        rng, draw = jax.random.split(rng)
        position = jax.random.uniform(draw, (1,), minval=-0.5, maxval=0.5)
        zero = jnp.zeros(())
        return State(
            position, self._observe(position), zero, zero, {"reward/distance": zero, "speed": zero}, {"rng": rng}
        )

    def step(self, state: State, action: jax.Array) -> State:
        """Move."""
        position = state.data + 0.1 * action
        distance = jnp.abs(position[0])
        return state.replace(
            data=position,
            obs=self._observe(position),
            reward=-distance,
            done=jnp.where(distance > 1.0, 1, 0),  # an integer, as some environments have it
            metrics={"reward/distance": -distance, "speed": jnp.abs(action[0])},
        )

    def _observe(self, position: jax.Array) -> Any:
        return dict(zip(self.parts, (position, jnp.concatenate([position, jnp.abs(position)])), strict=True))
