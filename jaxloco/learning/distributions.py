"""Action distributions: a diagonal Gaussian, plain or squashed by tanh.

Both are described by the same `Gaussian` over the *sample* u. The environment gets clip(u, -1, 1) from the
plain one and tanh(u) from the squashed one; what is stored and scored is always u itself:

- plain: clipping belongs to the environment, so log π(u) is the Gaussian's own density. Scoring the clipped
  action instead would bias the gradient wherever the bound is active.
- squashed: log π(a) = log N(u) - Σ log(1 - tanh²(u)). Keeping u avoids atanh(a), which is infinite at the
  bounds.

Every function sums over the last axis (the action) and broadcasts over the others.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

_LOG_2PI = math.log(2.0 * math.pi)
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(8)
_WEIGHTS = _WEIGHTS / math.sqrt(2.0 * math.pi)  # so that they sum to one


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and log σ, both (..., A)."""

    mean: Array
    log_std: Array


def sample(distribution: Gaussian, noise: Array) -> Array:
    """Return u = mean + σ ε, (..., A), before any clip or tanh, for standard normal numbers ε, (..., A)."""
    return distribution.mean + jnp.exp(distribution.log_std) * noise


def mode(distribution: Gaussian) -> Array:
    """Return the most likely sample u, (..., A); before any clip or tanh."""
    return distribution.mean


def log_prob(distribution: Gaussian, sample: Array, *, squash_output: bool = False) -> Array:
    """Log-density of the action that `sample` stands for.

    Args:
        distribution: Gaussian over the sample, (..., A).
        sample: u, (..., A), before any clip or tanh.
        squash_output: True for the density of tanh(u) in [-1, 1]^A, False for that of u.

    Returns:
        (...), summed over the action's dimensions.
    """
    z = (sample - distribution.mean) * jnp.exp(-distribution.log_std)
    density = jnp.sum(-0.5 * (jnp.square(z) + _LOG_2PI) - distribution.log_std, axis=-1)
    return density - jnp.sum(log_tanh_slope(sample), axis=-1) if squash_output else density


def entropy(distribution: Gaussian, *, squash_output: bool = False) -> Array:
    """Differential entropy, (...).

    Plain: Σ log σ + ½ log(2πe), exact. Squashed: the same plus Σ E[log(1 - tanh²(u))], the expectation by
    8-point Gauss-Hermite quadrature: it needs no random numbers, can be differentiated, and is within 0.01
    per dimension for σ ≤ 1 and 0.05 for σ ≤ 2.
    """
    plain = jnp.sum(distribution.log_std + 0.5 * (_LOG_2PI + 1.0), axis=-1)
    if not squash_output:
        return plain
    nodes = jnp.asarray(_NODES, distribution.mean.dtype)
    weights = jnp.asarray(_WEIGHTS, distribution.mean.dtype)
    u = distribution.mean[..., None] + jnp.exp(distribution.log_std)[..., None] * _align(nodes, plain.ndim + 2)
    return plain + jnp.sum(log_tanh_slope(u) * _align(weights, u.ndim), axis=(-2, -1))


def kl_divergence(old: Gaussian, new: Gaussian) -> Array:
    """KL(old ‖ new), (...); tanh leaves it unchanged, so it holds for both kinds.

    Σ log(σ'/σ) + (σ² + (μ - μ')²) / (2 σ'²) - ½, with ' for the new one.
    """
    variance_ratio = jnp.exp(2.0 * (old.log_std - new.log_std))
    z = (old.mean - new.mean) * jnp.exp(-new.log_std)
    return jnp.sum(new.log_std - old.log_std + 0.5 * (variance_ratio + jnp.square(z) - 1.0), axis=-1)


def log_tanh_slope(u: Array) -> Array:
    """log(1 - tanh²(u)), elementwise, as 2 (log 2 - u - softplus(-2u)): stable where tanh rounds to ±1.

    Source: the log-determinant of TensorFlow Probability's Tanh bijector.
    """
    return 2.0 * (math.log(2.0) - u - jax.nn.softplus(-2.0 * u))


def _align(vector: Array, ndim: int) -> Array:
    return vector.reshape((1,) * (ndim - 1) + (-1,))
