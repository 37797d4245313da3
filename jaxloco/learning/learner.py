"""The state of a learner, and the normalization of observations of every algorithm."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.normalization import RunningStatistics, normalize
from jaxloco.learning.recurrent import Memory

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
        learning_rate: float32 (), of the last step taken.
        normalizers: Group → statistics; empty when observations are not normalized.
        key: uint32 (2,), for shuffles.
        n_updates: int32 (), epochs so far (as in Stable-Baselines3).
        progress_remaining: float32 (), from 1 at the start to 0 at the end; see `set_progress`.
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
