"""Commands that the robot is to follow, drawn anew within the episode."""

from dataclasses import dataclass
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.checks import FRACTION, POSITIVE
from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.envs.processes import Process
from jaxloco.envs.quantities import Quantity
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot


@dataclass(frozen=True)
class Command(Process):
    """A vector of targets, each drawn from its own range.

    Attributes:
        name: The quantity under which terms find it.
        unit: SI unit.
        ranges: One range per component.
        interval: Time between draws, s.
        zero_share: Share of draws in which all components are zero (standing still).
        nonzero_shares: For each component, the share of draws in which it is drawn at all, and not zero.
        mirror: How its value changes when left and right swap; see `jaxloco.envs.quantities.Quantity`.

    Raises:
        ConfigError: As many shares as components are needed.
    """

    name: str
    unit: str
    ranges: tuple[Range, ...]
    interval: Annotated[Range, POSITIVE]
    zero_share: Annotated[float, FRACTION] = 0.0
    nonzero_shares: Annotated[tuple[float, ...] | None, FRACTION] = None
    mirror: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        shares = self.nonzero_shares
        if shares is not None and len(shares) != len(self.ranges):
            raise ConfigError(
                f"command {self.name!r}: nonzero_shares = {shares}: one number for each of {len(self.ranges)} "
                f"components is needed, such as {(1.0,) * len(self.ranges)}"
            )

    def quantities(self, robot: Robot) -> tuple[Quantity, ...]:
        """Return the command itself."""
        return (Quantity(self.name, self.unit, "", True, lambda s: s.value, mirror=self.mirror, source="command"),)

    def start(self, sampler: Sampler) -> "CommandState":
        """Draw a target and the time until the next draw."""
        value = jnp.stack([sampler.draw(span) for span in self.ranges])
        if self.nonzero_shares is not None:
            value = jnp.where(sampler.unit(value.shape) < jnp.array(self.nonzero_shares, jnp.float32), value, 0.0)
        value = jnp.where(sampler.unit() < self.zero_share, 0.0, value)
        return CommandState(value, sampler.draw(self.interval))

    def step(self, state: "CommandState", sampler: Sampler, dt: jax.Array | float) -> "CommandState":
        """Count down by `dt` seconds, and draw anew when the time has come."""
        remaining = state.remaining - dt
        fresh = self.start(sampler)
        due = remaining <= 0.0
        return CommandState(jnp.where(due, fresh.value, state.value), jnp.where(due, fresh.remaining, remaining))


class CommandState(NamedTuple):
    """A target, (n,), and the time until the next draw, s, ()."""

    value: jax.Array
    remaining: jax.Array
