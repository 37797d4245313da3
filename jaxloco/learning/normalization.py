"""Running mean and variance of observations, and normalization by them.

The robot does exactly the same: it gets `mean`, `standard_deviation(statistics)` and the clip, and computes
clip((x - mean) / std, ±clip).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

STD_FLOOR = 1e-2  # as rsl_rl: an input that never moved in training must not be blown up when it moves on the robot


class RunningStatistics(NamedTuple):
    """Mean [dim], sum of squared deviations m2 [dim] and n_samples [], all float32."""

    mean: Array
    m2: Array
    n_samples: Array


def init_statistics(dim: int) -> RunningStatistics:
    """Statistics of nothing: mean 0, and `standard_deviation` is 1."""
    return RunningStatistics(jnp.zeros((dim,)), jnp.zeros((dim,)), jnp.zeros(()))


def update_statistics(statistics: RunningStatistics, batch: Array, axis_name: str | None = None) -> RunningStatistics:
    """Add a batch.

    With n samples of mean m before, and n' of mean m' in the batch, δ = m' - m (Chan et al. 1979, "Updating
    formulae and a pairwise algorithm for computing sample variances"):

        mean ← m + δ n' / (n + n')        m2 ← m2 + m2' + δ² n n' / (n + n')

    The batch's own sums are taken around its first sample, so float32 loses nothing to a large offset.

    Args:
        statistics: what has been seen before.
        batch: [..., dim]; every leading axis counts as samples.
        axis_name: name of a mapped axis over equal shards of the batch; their union is added.

    Raises:
        ValueError: the last axis is not `dim`.
    """
    if batch.ndim < 2 or batch.shape[-1] != statistics.mean.shape[0]:
        raise ValueError(
            f"batch of shape {batch.shape}; expected [..., {statistics.mean.shape[0]}] with samples in front"
        )
    samples = batch.reshape(-1, batch.shape[-1])
    shift = samples[:1]
    if axis_name is not None:
        shift = jax.lax.pmean(shift, axis_name)
    offset = jnp.mean(samples - shift, axis=0, keepdims=True)
    count = jnp.asarray(samples.shape[0], jnp.float32)
    if axis_name is not None:
        offset = jax.lax.pmean(offset, axis_name)
        count = jax.lax.psum(count, axis_name)
    mean = shift + offset
    m2 = jnp.sum(jnp.square(samples - mean), axis=0)
    if axis_name is not None:
        m2 = jax.lax.psum(m2, axis_name)
    total = statistics.n_samples + count
    delta = mean[0] - statistics.mean
    return RunningStatistics(
        statistics.mean + delta * (count / total),
        statistics.m2 + m2 + jnp.square(delta) * (statistics.n_samples * (count / total)),
        total,
    )


def standard_deviation(statistics: RunningStatistics) -> Array:
    """sqrt(max(m2 / n_samples, STD_FLOOR²)), [dim]; 1 before the first update. This is what export writes."""
    variance = jnp.maximum(statistics.m2 / jnp.maximum(statistics.n_samples, 1.0), STD_FLOOR**2)
    return jnp.where(statistics.n_samples > 0.0, jnp.sqrt(variance), 1.0)


def normalize(statistics: RunningStatistics, x: Array, clip: float = 10.0) -> Array:
    """clip((x - mean) / std, ±clip) of x [..., dim]."""
    shape = (1,) * (x.ndim - 1) + (-1,)
    mean, std = statistics.mean.reshape(shape), standard_deviation(statistics).reshape(shape)
    return jnp.clip((x - mean) / std, -clip, clip)
