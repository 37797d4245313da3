"""Termination terms: functions of named quantities that return whether the episode has ended, mostly in failure."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxloco.checks import is_number
from jaxloco.errors import ConfigError


@dataclass(frozen=True)
class TerminationTerm:
    """One reason to end an episode.

    Attributes:
        name: Under which the share of episodes that it ended is logged.
        function: Returns a boolean, shape (); its parameters are quantities or `constants`.
        inputs: Parameter → quantity, where the names differ.
        constants: Fixed parameters.
        time_out: It is no failure: the episode is truncated, and the learner goes on from the value of its last state.
    """

    name: str
    function: Callable[..., jax.Array]
    inputs: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    time_out: bool = False

    def __post_init__(self) -> None:
        for name, value in self.constants.items():
            if is_number(value) and math.isnan(value):
                raise ConfigError(f"termination {self.name!r}: {name} = {value}: must be a number")


def beyond(value: jax.Array, *, limit: float) -> jax.Array:
    """Return whether any |value| exceeds the limit (same unit)."""
    return jnp.any(jnp.abs(value) > limit)


def below(value: jax.Array, *, limit: float) -> jax.Array:
    """Return whether any value is under the limit (same unit)."""
    return jnp.any(value < limit)
