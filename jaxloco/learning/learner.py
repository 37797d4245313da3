"""The state of a learner, and the normalization of observations of every algorithm."""

import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning import collectives
from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.normalization import (
    RunningStatistics,
    batch_statistics,
    init_statistics,
    merge_statistics,
    normalize,
)
from jaxloco.learning.recurrent import Memory
from jaxloco.learning.symmetry import Symmetry, symmetrized
from jaxloco.reflections import Reflection

Observation = Mapping[str, Array]
"""Group ("actor", and "critic" where it sees more) → (..., dim), raw."""

Metrics = dict[str, Array]

ESTIMATE = "estimate"
"""The group of what an estimator learns to tell: answers, not observations."""


class Trajectory(NamedTuple):
    """A finished rollout, time-major.

    Attributes:
        observation: Group ("actor", and "critic" where it sees more) → (T, N, dim), raw.
        action: What `act` returned, (T, N, A); before any clip or tanh.
        log_prob: What `act` returned, (T, N).
        reward: (T, N).
        terminated: Bool, (T, N): the episode ended in failure; nothing follows.
        truncated: Bool, (T, N): the episode was truncated, by a time limit for example.
        truncation_value: (T, N): V of the episode's own last observation, before the reset. Read only where
            truncated and not terminated.
        last_observation: Group → (N, dim), raw: what follows the last step (after a reset, if there was one).
        memory: Carries at the first step, and which observations begin an episode; None of an actor without memory.
    """

    observation: Observation
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    truncation_value: Array
    last_observation: Observation
    memory: Memory | None = None


class LearnerState(NamedTuple):
    """The whole state of a learner.

    Attributes:
        params: See `jaxloco.learning.networks`.
        opt_state: What the algorithm's optimizers keep.
        learning_rate: float32 [], of the last step taken.
        normalizers: Group → statistics; empty when observations are not normalized.
        key: uint32 [2], for shuffles.
        n_updates: int32 [], epochs so far (as in Stable-Baselines3).
        progress_remaining: float32 [], from 1 at the start to 0 at the end; see `set_progress`.
        estimator: Parameters of the estimator beside the policy, and what its optimizer keeps; None without one.
    """

    params: NetworkParams
    opt_state: Any
    learning_rate: Array
    normalizers: dict[str, RunningStatistics]
    key: Array
    n_updates: Array
    progress_remaining: Array
    estimator: tuple[NetworkParams, Any] | None = None


def set_progress(state: LearnerState, progress_remaining: Array | float) -> LearnerState:
    """Set the progress for the schedules: 1 - env_steps / total_env_steps, clipped to [0, 1]."""
    remaining = jnp.clip(jnp.asarray(progress_remaining, jnp.float32), 0.0, 1.0)
    return state._replace(progress_remaining=remaining)


def critic_group(groups: Mapping[str, Any]) -> str:
    """The group that the critic reads."""
    return "critic" if "critic" in groups else "actor"


def normalized(normalizers: Mapping[str, RunningStatistics], group: str, observation: Array, clip: float) -> Array:
    """Observations of a group as networks read them: as they are where there are no statistics."""
    if group not in normalizers:
        return observation
    return normalize(normalizers[group], observation, clip)


def read_by_actor(networks: ActorCritic, state: LearnerState, observation: Array, clip: float) -> Array:
    """Raw observations as the actor reads them: normalized, and behind them the estimates that it is fed."""
    seen = normalized(state.normalizers, "actor", observation, clip)
    if not networks.config.estimator.fed:
        return seen
    assert state.estimator is not None
    return jnp.concatenate([seen, networks.estimate(state.estimator[0], seen)], axis=-1)


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
    logs: Metrics, observation: Observation, returns: Array, values: Array, axis_name: str | None
) -> tuple[Metrics, dict[str, RunningStatistics], Array]:
    """Combine statistics of all devices, in one exchange.

    Args:
        logs: Of this device.
        observation: Of this device's robots.
        returns: What values should have been, (B,).
        values: What they were, (B,).
        axis_name: Of the devices.

    Returns:
        Means of the logs; the statistics of each device's observations by group; and the share of the returns'
        variance that the values explain, [].
    """
    seen = {group: batch_statistics(x) for group, x in observation.items()}
    explained = batch_statistics(jnp.stack([returns, returns - values], axis=-1))
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
