"""Reward terms: functions of named quantities that return one number; the weight, per second, carries the sign.

A step is worth the sum of weights times terms, times the control period: so weights hold at any control rate.

Three kernels cover most needs (motivation `exp(-e²/σ²)`, penalties `|e|` and `e²`); a term can be any other function.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from jaxloco.checks import check_arguments, is_number
from jaxloco.errors import ConfigError, short


@dataclass(frozen=True)
class RewardTerm:
    """One summand of the reward.

    Attributes:
        name: Under which the term is logged.
        function: Returns the raw value, shape (); its parameters are quantities or `constants`.
        weight: Factor, 1/s; negative for a penalty.
        inputs: Parameter → quantity, where the names differ.
        constants: Fixed parameters.
    """

    name: str
    function: Callable[..., jax.Array]
    weight: float
    inputs: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not is_number(self.weight):
            raise ConfigError(f"reward {self.name!r}: weight must be a number, not {short(repr(self.weight))}")
        check_arguments(self.function, {"weight": self.weight, **self.constants}, f"reward {self.name!r}")
        if not self.constants.get("sigma", 1.0) > 0.0:
            raise ConfigError(f"reward {self.name!r}: sigma = {self.constants['sigma']}: must be above 0")


def exponential(error: jax.Array, *, sigma: float) -> jax.Array:
    """Return exp(-|e|² / σ²): 1 at no error, 0.37 at an error of σ. Error of any shape.

    >>> float(exponential(jnp.float32(0.0), sigma=0.1))
    1.0
    """
    return jnp.exp(-jnp.sum(jnp.square(error)) / sigma**2)


def absolute(error: jax.Array) -> jax.Array:
    """Return Σ|e|.

    >>> float(absolute(jnp.array([1.0, -2.0])))
    3.0
    """
    return jnp.sum(jnp.abs(error))


def squared(error: jax.Array) -> jax.Array:
    """Return Σe².

    >>> float(squared(jnp.array([1.0, -2.0])))
    5.0
    """
    return jnp.sum(jnp.square(error))


def action_change(action: jax.Array, previous_action: jax.Array) -> jax.Array:
    """Return the squared change of the action since the last step, Σ(a_t − a_{t−1})²."""
    return jnp.sum(jnp.square(action - previous_action))


def termination(terminated: jax.Array) -> jax.Array:
    """Return 1 in a step that ends the episode in failure, else 0 (legged_gym, Rudin et al. 2021)."""
    return terminated.astype(jnp.float32)


def constant() -> jax.Array:
    """Return 1 for each step survived."""
    return jnp.float32(1.0)
