"""What an update reports, and the statistics of observations after it, of all devices together."""

import operator
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning import collectives
from jaxloco.learning.learner import LearnerState, Metrics, Observation
from jaxloco.learning.normalization import (
    RunningStatistics,
    batch_statistics,
    init_statistics,
    merge_statistics,
    weighted_statistics,
)
from jaxloco.learning.symmetry import Symmetry, symmetrized
from jaxloco.reflections import Reflection


def updated_normalizers(
    state: LearnerState, seen: Mapping[str, RunningStatistics], mirrors: Symmetry | None
) -> dict[str, RunningStatistics]:
    """Statistics with what each device has seen; with a mirror, of both sides, so that it is theirs too."""
    updated = {}
    for group, statistics in state.normalizers.items():
        updated[group] = _merged(seen[group], statistics)
        if mirrors is not None:
            mirror = mirrors.actor if group == "actor" else mirrors.critic
            size = statistics.mean.shape[-1]  # what an actor is fed beside its observation has no statistics
            updated[group] = symmetrized(updated[group], Reflection(mirror.permutation[:size], mirror.sign[:size]))
    return updated


def over_devices(
    logs: Metrics,
    observation: Observation,
    returns: Array,
    values: Array,
    axis_name: str | None,
    counted: Array | None = None,
) -> tuple[Metrics, dict[str, RunningStatistics], Array]:
    """Combine statistics of all devices, in one exchange.

    Args:
        logs: Of this device.
        observation: Of this device's robots.
        returns: What values should have been, (B,).
        values: What they were, (B,).
        axis_name: Of the devices.
        counted: By how much each of them counts in what values explain, (B,); None if all count alike.

    Returns:
        Means of the logs; the statistics of each device's observations by group; and the share of the returns'
        variance that the values explain, [].
    """
    seen = {group: batch_statistics(x) for group, x in observation.items()}
    pairs = jnp.stack([returns, returns - values], axis=-1)
    explained = batch_statistics(pairs) if counted is None else weighted_statistics(pairs, counted)
    logs, seen, explained = collectives.gather((logs, seen, explained), axis_name)
    spread = _merged(explained, init_statistics(2))
    variance, unexplained = spread.m2 / spread.n_samples
    share = 1.0 - unexplained / jnp.where(variance > 0.0, variance, 1.0)
    share = jnp.where(variance > 0.0, share, 0.0)
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), logs), seen, share


def _merged(shards: RunningStatistics, statistics: RunningStatistics) -> RunningStatistics:
    """Add the statistics of each device, leading axis over devices."""
    for shard in range(shards.n_samples.shape[0]):
        statistics = merge_statistics(statistics, jax.tree.map(operator.itemgetter(shard), shards))
    return statistics


def mean_logs(logs: Metrics, measured: Array) -> Metrics:
    """Means over the mini-batches measured, (n_epochs, n_minibatches); the KL's over the last epoch begun."""
    means = {name: _masked_mean(log, measured) for name, log in logs.items() if name != "kl"}
    last_epoch = jnp.sum(jnp.any(measured, axis=1)) - 1
    return {**means, "approx_kl": _masked_mean(logs["approx_kl"][last_epoch], measured[last_epoch])}


def _masked_mean(x: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.sum(mask.astype(x.dtype))


def named_metrics(state: LearnerState, logs: Metrics) -> Metrics:
    """Scalars under Stable-Baselines3's names, with what the state says."""
    metrics = {f"train/{name}": value for name, value in logs.items()}
    if "log_std" in state.params:
        metrics["train/std"] = jnp.mean(jnp.exp(state.params["log_std"]))
    metrics["train/learning_rate"] = state.learning_rate
    metrics["train/n_updates"] = state.n_updates.astype(jnp.float32)
    return metrics
