"""A cart keeps a long pole upright in the wind, and follows a place that goes to and fro."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jax import Array

from jaxloco.envs.observations import ObservationTerm
from jaxloco.envs.rewards import RewardTerm
from jaxloco.envs.spec import EnvSpec
from jaxloco.tasks import cartpole
from jaxloco_example.processes import Sway, Wind


def distance_squared(cart_position: Array, wanted_position: Array) -> Array:
    """Square of the distance from the wanted position, m²."""
    return jnp.square(cart_position - wanted_position)


@dataclass(frozen=True)
class LongPole(cartpole.Cartpole):
    """Options of the task: those of the cart and pole; its terms and processes have options by name."""

    robot: str = "long-pole"

    @property
    def name(self) -> str:
        """Name of the task, as in pyproject.toml."""
        return "long-pole"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        spec = super().spec().with_processes(Sway(), Wind())
        actor = spec.observations["actor"]
        seen = replace(actor, terms=(*actor.terms, ObservationTerm("wanted_position")))
        follow = RewardTerm("follow", distance_squared, -5.0)
        return replace(spec, rewards=(*spec.rewards, follow), observations={"actor": seen})


RECIPE = replace(cartpole.RECIPE, task=LongPole())
