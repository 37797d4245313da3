"""Left–right symmetry in learning: as mirrored samples, as a loss, or built into the networks.

A policy is equivariant if it gives the mirrored action for the mirrored observation. A multilayer perceptron is so
whenever each of its layers is, W M_out = M_in W, where the two halves of a hidden layer are each other's mirror image
(Su et al. 2024, "Leveraging symmetry in RL-based legged locomotion control"). The nearest such layer to a given one is
the average of the layer and its mirror image. Averaging the first parameters and every gradient keeps a network
symmetric for ever, bit for bit, at the cost of a plain one; it is exported as one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloco.errors import ConfigError
from jaxloco.learning.normalization import RunningStatistics

MODES = ("none", "augmentation", "loss", "network")
"""How training uses the mirror."""

Layer = tuple[Array, Array]
"""Kernel [in, out] and bias [out]."""


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
        """Swap left and right without changing signs, [..., n] (standard deviations)."""
        return jnp.take(x, np.array(self.permutation), axis=-1)


@dataclass(frozen=True)
class Symmetry:
    """The mirrors of what the actor sees, what the critic sees, and actions."""

    actor: Reflection
    critic: Reflection
    action: Reflection


NUMBER = Reflection((0,), (1.0,))
"""The mirror of a value: it stays."""


def halves(width: int) -> Reflection:
    """Return the mirror of a hidden layer of even width, whose halves swap.

    >>> halves(4).permutation
    (2, 3, 0, 1)
    """
    places = np.roll(np.arange(width), width // 2)
    return Reflection(tuple(places.tolist()), (1.0,) * width)


def symmetric_layers(layers: Sequence[Layer], inputs: Reflection, outputs: Reflection) -> list[Layer]:
    """Average the layers of a perceptron, or their gradients, with their mirror images."""
    sides = [inputs, *(halves(bias.shape[0]) for _, bias in layers[:-1]), outputs]
    return [
        (0.5 * (kernel + after(before(kernel, axis=0))), 0.5 * (bias + after(bias)))
        for (kernel, bias), before, after in zip(layers, sides, sides[1:], strict=False)
    ]


def symmetrized(statistics: RunningStatistics, mirror: Reflection) -> RunningStatistics:
    """Return the statistics of the samples and their mirror images together, counted once."""
    mean = 0.5 * (statistics.mean + mirror(statistics.mean))
    spread = 0.5 * (statistics.m2 + mirror.swap(statistics.m2))
    apart = 0.25 * jnp.square(statistics.mean - mirror(statistics.mean))
    return RunningStatistics(mean, spread + statistics.n_samples * apart, statistics.n_samples)
