"""Termination terms: functions of named quantities that return whether the episode has ended, mostly in failure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from jaxloco.checks import POSITIVE, check_arguments


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
        check_arguments(self.function, self.constants, f"termination {self.name!r}")


def beyond(value: jax.Array, *, limit: Annotated[float, POSITIVE]) -> jax.Array:
    """Return whether any |value| exceeds the limit (same unit)."""
    return jnp.any(jnp.abs(value) > limit)


def below(value: jax.Array, *, limit: float) -> jax.Array:
    """Return whether any value is under the limit (same unit)."""
    return jnp.any(value < limit)
