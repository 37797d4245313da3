"""Left–right symmetry in learning: as mirrored samples, as a loss, or built into the networks.

A policy is equivariant if it gives the mirrored action for the mirrored observation. A multilayer perceptron is so
whenever each of its layers is, W M_out = M_in W, where the two halves of a hidden layer are each other's mirror image
(Su et al. 2024, "Leveraging symmetry in RL-based legged locomotion control"). The nearest such layer to a given one is
the average of the layer and its mirror image. Averaging the first parameters and every gradient keeps a network
symmetric for ever, bit for bit; it is exported as a plain one.

Learning costs half the products of a plain one: a symmetric layer maps the part of its input that the mirror keeps and
the part that it turns round apart from each other.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxloco.learning.normalization import RunningStatistics
from jaxloco.learning.perceptron import LearnerLayer
from jaxloco.reflections import Reflection, Symmetry

MODES = ("none", "augmentation", "loss", "network")
"""How training uses the mirror."""

B = TypeVar("B", bound=Any)

Layer = tuple[Array, Array]
"""Kernel (in, out) and bias (out,)."""


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


@cache
def even_and_odd(mirror: Reflection) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal bases of the vectors that a mirror keeps, (n, even), and of those it turns round, (n, odd).

    >>> even, odd = even_and_odd(Reflection((1, 0, 2), (1.0, 1.0, -1.0)))
    >>> even.T.astype(float).round(3).tolist(), odd.T.astype(float).round(3).tolist()
    ([[0.707, 0.707, 0.0]], [[0.707, -0.707, 0.0], [0.0, 0.0, 1.0]])
    """
    count = len(mirror.sign)
    image = np.eye(count)[list(mirror.permutation)] * np.array(mirror.sign)  # row i: the mirror image of component i
    firsts = [i for i, j in enumerate(mirror.permutation) if i <= j]
    bases = []
    for sides in (np.eye(count) + image, np.eye(count) - image):
        rows = [sides[i] for i in firsts if sides[i].any()]
        bases.append(np.array([row / np.linalg.norm(row) for row in rows], np.float32).reshape(-1, count).T)
    return bases[0], bases[1]


def in_parts(x: Array, mirror: Reflection) -> Array:
    """Write vectors (..., n) as their even and their odd part, side by side, (..., n); see `even_and_odd`."""
    return x @ jnp.asarray(np.concatenate(even_and_odd(mirror), axis=1))


def layers_in_parts(layers: Sequence[Layer], inputs: Reflection, outputs: Reflection) -> list[LearnerLayer]:
    """Return symmetric layers, from `symmetric_layers`, as `perceptron` takes them; the result is linear in them.

    The right half of a layer is read off its left half, so that is where the gradient of both is.
    """
    (first, bias), *hidden, (last, last_bias) = layers
    half = bias.shape[0] // 2
    even, odd = even_and_odd(inputs)
    parts = [LearnerLayer(_product(even.T, first[:, :half]), _product(odd.T, first[:, :half]), bias[:half])]
    for kernel, bias in hidden:
        width, half = half, bias.shape[0] // 2
        same, crossed = kernel[:width, :half], kernel[width:, :half]
        parts.append(LearnerLayer(0.5 * (same + crossed), 0.5 * (same - crossed), bias[:half]))
    even, odd = even_and_odd(outputs)
    from_odd = _product(last[:half], odd @ odd.T) if odd.size else None
    return [*parts, LearnerLayer(_product(last[:half], even @ even.T), from_odd, last_bias)]


def _product(x: Array | np.ndarray, y: Array | np.ndarray) -> Array:
    return jnp.matmul(x, y, precision="highest")


def symmetrized(statistics: RunningStatistics, mirror: Reflection) -> RunningStatistics:
    """Return the statistics of the samples and their mirror images together, counted once."""
    mean = 0.5 * (statistics.mean + mirror(statistics.mean))
    spread = 0.5 * (statistics.m2 + mirror.swap(statistics.m2))
    apart = 0.25 * jnp.square(statistics.mean - mirror(statistics.mean))
    return RunningStatistics(mean, spread + statistics.n_samples * apart, statistics.n_samples)


def with_mirror_images(batch: B, mirrors: Symmetry | None) -> B:
    """Add each sample's mirror image, (T, …) to (2 T, …); it is as good and was as likely as the sample itself.

    Args:
        batch: a named tuple; of its fields, actor, critic (or None) and action have mirror images.
        mirrors: Of these.
    """
    assert mirrors is not None
    images = batch._replace(
        actor=mirrors.actor(batch.actor),
        critic=None if batch.critic is None else mirrors.critic(batch.critic),
        action=mirrors.action(batch.action),
    )
    both: B = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch, images)
    return both
