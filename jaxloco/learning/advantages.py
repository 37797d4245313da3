"""Advantages and returns of a time-major rollout (T, N).

The value of what follows step t, the same in every estimator here:

    V'_t = 0                    where the episode terminated: nothing follows, even if it was also truncated
         = truncation_value_t   where the episode was truncated: V of its own last observation, before the reset
         = V_{t+1}              where it goes on
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning import collectives


class _Step(NamedTuple):
    delta: Array
    decay: Array


def gae(
    reward: Array,
    value: Array,
    last_value: Array,
    terminated: Array,
    truncated: Array,
    truncation_value: Array,
    *,
    gamma: float,
    gae_lambda: float,
) -> tuple[Array, Array]:
    """Generalized advantage estimation.

        δ_t = r_t + γ V'_t - V_t                     (V'_t: see the module's docstring)
        A_t = δ_t + γ λ (1 - done_t) A_{t+1},        A_T = 0,    done = terminated or truncated
        R_t = A_t + V_t

    Args:
        reward: r_t, (T, N).
        value: V_t of the observation the action was chosen from, (T, N).
        last_value: V_T of the observation after the last step, (N,).
        terminated: Bool, (T, N).
        truncated: Bool, (T, N).
        truncation_value: (T, N), read only where truncated and not terminated; elsewhere anything, even NaN.
        gamma: Discount per step, γ.
        gae_lambda: λ.

    Returns:
        Advantages A and λ-returns R (the critic's targets), both (T, N).

    Raises:
        ValueError: a shape differs.

    Source: Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation", eq. 16; bootstrap at truncation: Pardo et al. 2018, "Time Limits in Reinforcement Learning".
    """
    _check_shapes(reward, last_value, value, terminated, truncated, truncation_value)
    next_value = jnp.concatenate([value[1:], last_value[None]])
    following = _following_value(next_value, terminated, truncated, truncation_value)
    running = 1.0 - jnp.logical_or(terminated, truncated).astype(reward.dtype)
    steps = _Step(reward + gamma * following - value, gamma * gae_lambda * running)
    _, advantages = jax.lax.scan(_accumulate, jnp.zeros_like(last_value), steps, reverse=True)
    return advantages, advantages + value


def discounted_returns(
    reward: Array,
    last_value: Array,
    terminated: Array,
    truncated: Array,
    truncation_value: Array,
    *,
    gamma: float,
) -> Array:
    """Discounted return to go, for REINFORCE and the vanilla policy gradient.

        R_t = r_t + γ R_{t+1}      while the episode goes on, with R_T = last_value
        R_t = r_t + γ V'_t         at its last step    (V'_t: see the module's docstring)

    Zeros for `last_value` and `truncation_value` give plain Monte Carlo returns.

    Args: as in `gae`.

    Returns:
        R, (T, N).
    """
    _check_shapes(reward, last_value, terminated, truncated, truncation_value)
    ended = jnp.logical_or(terminated, truncated)
    following = _following_value(jnp.zeros_like(reward), terminated, truncated, truncation_value)
    steps = _Step(reward + gamma * following, gamma * (1.0 - ended.astype(reward.dtype)))
    return jax.lax.scan(_accumulate, last_value, steps, reverse=True)[1]


def normalized_advantage(advantage: Array, axis_name: str | None) -> Array:
    """Zero mean and unit (sample) deviation in each mini-batch, (n_minibatches, ...), over all devices."""
    axes = tuple(range(1, advantage.ndim))
    count = math.prod(advantage.shape[1:]) * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    centred = advantage - collectives.mean(jnp.mean(advantage, axis=axes, keepdims=True), axis_name)
    squares = collectives.mean(jnp.mean(jnp.square(centred), axis=axes, keepdims=True), axis_name)
    variance = squares * (count / (count - 1))
    return centred / (jnp.sqrt(variance) + 1e-8)


def _accumulate(following: Array, step: _Step) -> tuple[Array, Array]:
    total = step.delta + step.decay * following
    return total, total


def _following_value(next_value: Array, terminated: Array, truncated: Array, truncation_value: Array) -> Array:
    return jnp.where(terminated, 0.0, jnp.where(truncated, truncation_value, next_value))


def _check_shapes(reward: Array, last_value: Array, *others: Array) -> None:
    if reward.ndim != 2 or last_value.shape != reward.shape[1:] or any(x.shape != reward.shape for x in others):
        shapes = ", ".join(str(x.shape) for x in (reward, *others))
        raise ValueError(f"expected arrays (T, N) and last_value (N,); got {shapes} and {last_value.shape}")
