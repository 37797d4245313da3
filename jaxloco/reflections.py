"""Mirrors of vectors, as data, for training and environments."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloco.errors import ConfigError


@dataclass(frozen=True)
class Reflection:
    """What mirrors a vector: sign * x[permutation], applied twice the identity. Hashable, so `jit` takes it as static.

    Raises:
        ConfigError: It is not an involution.
    """

    permutation: tuple[int, ...]
    sign: tuple[float, ...]

    def __post_init__(self) -> None:
        for i, j in enumerate(self.permutation):
            if self.permutation[j] != i or self.sign[i] * self.sign[j] != 1.0:
                raise ConfigError(f"component {i} of a mirror does not come back to itself when mirrored twice")

    def __call__(self, x: Array, axis: int = -1) -> Array:
        """Mirror one axis of x."""
        shape = [1] * x.ndim
        shape[axis] = len(self.sign)
        sign = jnp.asarray(np.array(self.sign, np.float32).reshape(shape))
        return jnp.take(x, np.array(self.permutation), axis=axis) * sign

    def swap(self, x: Array) -> Array:
        """Swap left and right without changing signs, (..., n) (standard deviations)."""
        return jnp.take(x, np.array(self.permutation), axis=-1)


@dataclass(frozen=True)
class Symmetry:
    """The mirrors of what the actor sees, what the critic sees, and actions."""

    actor: Reflection
    critic: Reflection
    action: Reflection


NUMBER = Reflection((0,), (1.0,))
"""The mirror of a value: it stays."""
