"""A cart keeps a long pole upright, and stays near the middle of its track."""

from dataclasses import dataclass, replace

import jax.numpy as jnp
from jax import Array

from jaxloco.envs.env import EnvSpec
from jaxloco.envs.rewards import RewardTerm
from jaxloco.tasks import cartpole


def distance_squared(position: Array) -> Array:
    """Square of the distance from the middle of the track, m²."""
    return jnp.square(position)


@dataclass(frozen=True)
class LongPole(cartpole.Cartpole):
    """Options of the task: those of the cart and pole, and one more.

    Attributes:
        middle: Weight of the squared distance from the middle of the track, 1/m².
    """

    robot: str = "long-pole"
    middle: float = -0.1

    @property
    def name(self) -> str:
        """Name of the task, as in pyproject.toml."""
        return "long-pole"

    def spec(self) -> EnvSpec:
        """Build the environment's description."""
        spec = super().spec()
        term = RewardTerm("middle", distance_squared, self.middle, {"position": "cart_position"})
        return replace(spec, rewards=(*spec.rewards, term))


RECIPE = replace(cartpole.RECIPE, task=LongPole())
