"""Perceptrons as learning computes them: layer by layer, samples in columns.

On a CPU, XLA takes as long to turn round the first factor of xᵀy as to multiply, and the gradient of a kernel is such a
product if each row of x is a sample. If each column is one, no product needs it (the effect: docs/implementation.md).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning.activations import Activation


class LearnerLayer(NamedTuple):
    """A layer. That of a symmetric perceptron maps the even and the odd part of its input, apart from each other.

    Attributes:
        even: Kernel of the even part, [even inputs, n]; in a plain perceptron, of the whole input.
        odd: Kernel of the odd part, [odd inputs, n]; None where nothing comes of it.
        bias: Bias, (n,); of the left half of a symmetric layer, which the right one shares.
    """

    even: Array
    odd: Array | None
    bias: Array


def perceptron(layers: Sequence[LearnerLayer], activation: Activation, x: Array) -> Array:
    """Return the outputs of a perceptron, (..., n).

    Args:
        layers: From `plain_layers` or `jaxloco.learning.symmetry.layers_in_parts`.
        activation: Between the layers.
        x: Inputs, (..., in); for a symmetric perceptron `jaxloco.learning.symmetry.in_parts`.
    """
    *hidden, last = layers
    count = layers[0].even.shape[0]
    rows = x.reshape(-1, x.shape[-1])
    even, odd, multiply = rows[:, :count], rows[:, count:], _rows_product
    for layer in hidden:
        kept = _biased(multiply(layer.even, even), layer.bias)
        if layer.odd is None:
            even = activation(kept)
        else:
            even, odd = activation.both_sides(kept, multiply(layer.odd, odd))
        multiply = columns_product
    output = multiply(last.even, even)
    if last.odd is not None:
        output += multiply(last.odd, odd)
    return _biased(output, last.bias).T.reshape(*x.shape[:-1], -1)


def plain_layers(layers: Sequence[tuple[Array, Array]]) -> list[LearnerLayer]:
    """Return layers, kernel (in, out) and bias (out,), as `perceptron` takes them."""
    return [LearnerLayer(kernel, None, bias) for kernel, bias in layers]


def columns(kernel: Array, x: Array, bias: Array) -> Array:
    """Return a layer's outputs in columns, (out, samples), for inputs in rows, (samples, in)."""
    return _biased(_rows_product(kernel, x), bias)


def _biased(columns: Array, bias: Array) -> Array:
    return columns + jnp.broadcast_to(bias[:, None], columns.shape)


@jax.custom_vjp
def columns_product(kernel: Array, x: Array) -> Array:
    """Return kernelᵀ x, (in, out) and (in, samples) to (out, samples)."""
    return _apart(kernel.T) @ x


def _columns_forwards(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return columns_product(kernel, x), (kernel, x)


def _columns_backwards(saved: tuple[Array, Array], change: Array) -> tuple[Array, Array]:
    kernel, x = saved
    return _times_turned(x, change), kernel @ change


columns_product.defvjp(_columns_forwards, _columns_backwards)


@jax.custom_vjp
def _rows_product(kernel: Array, x: Array) -> Array:
    """Return kernelᵀ xᵀ, (in, out) and (samples, in) to (out, samples)."""
    return _times_turned(_apart(kernel.T), x)


def _rows_forwards(kernel: Array, x: Array) -> tuple[Array, tuple[Array, Array]]:
    return _rows_product(kernel, x), (kernel, x)


def _rows_backwards(saved: tuple[Array, Array], change: Array) -> tuple[Array, Array]:
    kernel, x = saved
    return _apart(change @ x).T, (kernel @ change).T


_rows_product.defvjp(_rows_forwards, _rows_backwards)


def _times_turned(x: Array, y: Array) -> Array:
    """Return x yᵀ, which costs no more than x y."""
    return jax.lax.dot_general(x, y, (((1,), (1,)), ((), ())))


def _apart(x: Array) -> Array:
    """Return x as an array of its own: XLA makes a product with a transpose, or its transpose, another product."""
    result: Array = jax.lax.optimization_barrier(x)
    return result
