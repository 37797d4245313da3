"""What goes on in an episode and jaxloco does not have: a command with a phase, and wind."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.processes import Acts, Process
from jaxloco.envs.quantities import Quantity
from jaxloco.robot import Robot


class Phase(NamedTuple):
    """Share of a cycle that is done, (), and the frequency of this episode, Hz, ()."""

    done: Array
    frequency: Array


@dataclass(frozen=True)
class Sway(Process):
    """A place on the track that goes to and fro, for the cart to follow.

    Attributes:
        amplitude: Largest distance from the middle, m.
        frequency: Cycles per second, Hz, drawn per episode.
        name: Of the command.
    """

    amplitude: float = 0.3
    frequency: Range = Range(0.1, 0.3)
    name: str = "wanted_position"

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the place, which the robot's program is told as well."""

        def place(state: Phase) -> Array:
            return self.amplitude * jnp.sin(2.0 * jnp.pi * state.done)

        return (Quantity(self.name, "m", "world", True, place, source="command"),)

    def start(self, sampler: Sampler) -> Phase:
        """Begin in the middle."""
        return Phase(jnp.float32(0.0), sampler.draw(self.frequency))

    def step(self, state: Phase, dt: Array) -> Phase:
        """Go on by a control period."""
        return state._replace(done=(state.done + dt * state.frequency) % 1.0)


@dataclass(frozen=True)
class Wind(Process):
    """A force along the track that wanders.

    Attributes:
        strength: Largest force, N.
        seconds: Time in which most of it has changed, s.
        name: Of the process.
    """

    strength: float = 0.2
    seconds: float = 1.0
    name: str = "wind"

    def start(self, sampler: Sampler) -> Array:
        """Draw a force, N, ()."""
        return self.strength * (2.0 * sampler.unit() - 1.0)

    def act(self, state: Array, sampler: Sampler, dt: Array) -> tuple[Array, Acts]:
        """Blow during a control period."""
        share = jnp.minimum(dt / self.seconds, 1.0)
        force = state + share * (self.start(sampler) - state)
        return force, Acts(force=jnp.stack([force, 0.0 * force, 0.0 * force]))
