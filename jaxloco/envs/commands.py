"""Commands that the robot is to follow, drawn anew within the episode."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxloco.envs.curriculum import Range, Sampler
from jaxloco.errors import ConfigError


@dataclass(frozen=True)
class Command:
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
    interval: Range
    zero_share: float = 0.0
    nonzero_shares: tuple[float, ...] | None = None
    mirror: str = ""

    def __post_init__(self) -> None:
        shares = self.nonzero_shares
        if shares is not None and (len(shares) != len(self.ranges) or not all(0.0 <= s <= 1.0 for s in shares)):
            raise ConfigError(
                f"command {self.name!r}: nonzero_shares {shares}: one number from 0 to 1 for each of "
                f"{len(self.ranges)} components is needed, such as {(1.0,) * len(self.ranges)}"
            )

    def draw(self, sampler: Sampler) -> "CommandState":
        """Draw a new target and the time until the next draw."""
        value = jnp.stack([sampler.draw(span) for span in self.ranges])
        if self.nonzero_shares is not None:
            value = jnp.where(sampler.unit(value.shape) < jnp.array(self.nonzero_shares, jnp.float32), value, 0.0)
        value = jnp.where(sampler.unit() < self.zero_share, 0.0, value)
        return CommandState(value, sampler.draw(self.interval))

    def step(self, state: "CommandState", sampler: Sampler, dt: float) -> "CommandState":
        """Count down by `dt` seconds, and draw anew when the time has come."""
        remaining = state.remaining - dt
        fresh = self.draw(sampler)
        due = remaining <= 0.0
        return CommandState(jnp.where(due, fresh.value, state.value), jnp.where(due, fresh.remaining, remaining))


class CommandState(NamedTuple):
    """A target, (n,), and the time until the next draw, s, ()."""

    value: jax.Array
    remaining: jax.Array
