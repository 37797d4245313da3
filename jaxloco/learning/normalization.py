"""Running mean and variance of observations, and normalization by them.

The robot does exactly the same: it gets `mean`, `standard_deviation(statistics)` and the clip, and computes
clip((x - mean) / std, ±clip).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

STD_FLOOR = 1e-2  # as rsl_rl: an input that never moved in training must not be blown up when it moves on the robot


class RunningStatistics(NamedTuple):
    """Mean (dim,), sum of squared deviations m2 (dim,) and n_samples (), all float32."""

    mean: Array
    m2: Array
    n_samples: Array


def init_statistics(dim: int) -> RunningStatistics:
    """Statistics of no samples: mean 0, and `standard_deviation` is 1."""
    return RunningStatistics(jnp.zeros((dim,)), jnp.zeros((dim,)), jnp.zeros(()))


def update_statistics(statistics: RunningStatistics, batch: Array) -> RunningStatistics:
    """Add a batch of samples, (..., dim).

    Raises:
        ValueError: the last axis is not `dim`.
    """
    if batch.ndim < 2 or batch.shape[-1] != statistics.mean.shape[0]:
        raise ValueError(
            f"batch of shape {batch.shape}; expected [..., {statistics.mean.shape[0]}] with samples in front"
        )
    return merge_statistics(statistics, batch_statistics(batch))


def batch_statistics(batch: Array) -> RunningStatistics:
    """Statistics of a batch by itself, (..., dim); every leading axis counts as samples.

    Sums are taken around its first sample, so float32 loses nothing to a large offset.
    """
    samples = batch.reshape(-1, batch.shape[-1])
    mean = samples[:1] + jnp.mean(samples - samples[:1], axis=0, keepdims=True)
    m2 = jnp.sum(jnp.square(samples - mean), axis=0)
    return RunningStatistics(mean[0], m2, jnp.asarray(samples.shape[0], jnp.float32))


def weighted_statistics(batch: Array, weight: Array) -> RunningStatistics:
    """Statistics of samples (B, dim) that count by weights (B,), not all zero; the sum of these is their number."""
    total, column = jnp.sum(weight), weight[:, None]
    mean = batch[:1] + jnp.sum(column * (batch - batch[:1]), axis=0, keepdims=True) / total
    return RunningStatistics(mean[0], jnp.sum(column * jnp.square(batch - mean), axis=0), total)


def merge_statistics(a: RunningStatistics, b: RunningStatistics) -> RunningStatistics:
    """Statistics of both sets of samples together; `b` is not empty.

    With n samples of mean m in one, n' of mean m' in the other, δ = m' - m (Chan et al. 1979, "Updating formulae and a
    pairwise algorithm for computing sample variances"):

        mean ← m + δ n' / (n + n')        m2 ← m2 + m2' + δ² n n' / (n + n')
    """
    total = a.n_samples + b.n_samples
    delta, share = b.mean - a.mean, b.n_samples / total
    return RunningStatistics(a.mean + delta * share, a.m2 + b.m2 + jnp.square(delta) * (a.n_samples * share), total)


def standard_deviation(statistics: RunningStatistics) -> Array:
    """sqrt(max(m2 / n_samples, STD_FLOOR²)), (dim,); 1 before the first update. This is what export writes."""
    variance = jnp.maximum(statistics.m2 / jnp.maximum(statistics.n_samples, 1.0), STD_FLOOR**2)
    return jnp.where(statistics.n_samples > 0.0, jnp.sqrt(variance), 1.0)


def normalize(statistics: RunningStatistics, x: Array, clip: float = 10.0) -> Array:
    """clip((x - mean) / std, ±clip) of x (..., dim)."""
    shape = (1,) * (x.ndim - 1) + (-1,)
    mean, std = statistics.mean.reshape(shape), standard_deviation(statistics).reshape(shape)
    return jnp.clip((x - mean) / std, -clip, clip)
