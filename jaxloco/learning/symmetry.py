"""Left–right symmetry in learning: as mirrored samples, as a loss, or built into the networks.

A policy is equivariant if it gives the mirrored action for the mirrored observation. Any network f becomes so by
averaging, a(o) = ½ (f(o) + M_a f(M_o o)) (Abdolhosseini et al. 2019, "On learning symmetric locomotion"). A mirror only
permutes and changes signs, so it moves into the weights, and the average of a multilayer perceptron is one of twice the
width: that is how it is computed, and how it is exported.
"""

from collections.abc import Callable, Sequence
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


def averaged_mlp(
    layers: Sequence[Layer], activation: Callable[[Array], Array], inputs: Reflection, outputs: Reflection, x: Array
) -> Array:
    """Return ½ (f(x) + M_out f(M_in x)) of a multilayer perceptron f with at least one hidden layer, [..., out]."""
    (kernel, bias), *hidden, (last_kernel, last_bias) = layers
    both = x @ jnp.concatenate([kernel, inputs(kernel, axis=0)], axis=1)
    both = both.reshape(*x.shape[:-1], 2, kernel.shape[1])
    both = activation(both + _along_last(bias, both))
    for kernel, bias in hidden:
        both = both @ kernel
        both = activation(both + _along_last(bias, both))
    total = both[..., 0, :] @ last_kernel + both[..., 1, :] @ outputs(last_kernel)
    return 0.5 * (total + _along_last(last_bias + outputs(last_bias), total))


def _along_last(bias: Array, x: Array) -> Array:
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))


def widened(layers: Sequence[Layer], inputs: Reflection, outputs: Reflection) -> list[Layer]:
    """Return the layers of the plain perceptron of twice the width that `averaged_mlp` computes."""
    (kernel, bias), *hidden, (last_kernel, last_bias) = layers
    wide = [(jnp.concatenate([kernel, inputs(kernel, axis=0)], axis=1), jnp.concatenate([bias, bias]))]
    for kernel, bias in hidden:
        nothing = jnp.zeros_like(kernel)
        wide.append((jnp.block([[kernel, nothing], [nothing, kernel]]), jnp.concatenate([bias, bias])))
    last = 0.5 * jnp.concatenate([last_kernel, outputs(last_kernel)])
    return [*wide, (last, 0.5 * (last_bias + outputs(last_bias)))]


def symmetrized(statistics: RunningStatistics, mirror: Reflection) -> RunningStatistics:
    """Return the statistics of the samples and their mirror images together, counted once."""
    mean = 0.5 * (statistics.mean + mirror(statistics.mean))
    spread = 0.5 * (statistics.m2 + mirror.swap(statistics.m2))
    apart = 0.25 * jnp.square(statistics.mean - mirror(statistics.mean))
    return RunningStatistics(mean, spread + statistics.n_samples * apart, statistics.n_samples)
