"""What changes while training goes on: learning rates and clip ranges."""

import jax.numpy as jnp
from jax import Array

ADAPTIVE_FACTOR = 1.5  # rsl_rl's rule: outside [desired_kl / 2, 2 desired_kl], the rate changes by this factor


def scheduled(schedule: str, start: float, final: float, progress_remaining: Array) -> Array:
    """A value that is constant, or goes from `start` to `final` with the progress of the training, []."""
    final = final if schedule == "linear" else start
    return final + (start - final) * progress_remaining


def adapted_learning_rate(learning_rate: Array, kl: Array, desired_kl: float, least: float, most: float) -> Array:
    """Steer the KL divergence from the rollout's policy to within a factor 2 of desired_kl.

    Source: rsl_rl, `algorithms/ppo.py`; before each step, from this mini-batch's divergence.
    """
    slower = jnp.maximum(learning_rate / ADAPTIVE_FACTOR, least)
    faster = jnp.minimum(learning_rate * ADAPTIVE_FACTOR, most)
    inside = jnp.where(kl < 0.5 * desired_kl, faster, learning_rate)
    return jnp.where(kl > 2.0 * desired_kl, slower, inside)
