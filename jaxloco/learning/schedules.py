"""Schedules of learning rates and clip ranges."""

from dataclasses import dataclass

import jax.numpy as jnp
import optax
from jax import Array

from jaxloco.checks import NOT_NEGATIVE, POSITIVE
from jaxloco.learning.algorithm import AlgorithmConfig, option, require

SCHEDULES = ("constant", "linear", "adaptive")
ADAPTIVE_FACTOR = 1.5  # rsl_rl's rule: outside [desired_kl / 2, 2 desired_kl], the rate changes by this factor


@dataclass(frozen=True)
class ScheduledRateConfig(AlgorithmConfig):
    """Options of an algorithm whose Adam has a scheduled step size."""

    learning_rate: float = option(3e-4, "step size of Adam, at the start", POSITIVE)
    learning_rate_schedule: str = option("constant", "constant, linear in progress, or KL-adaptive (+)", SCHEDULES)
    learning_rate_final: float = option(0.0, "learning_rate at the end of a linear schedule (+)", NOT_NEGATIVE)
    desired_kl: float = option(0.01, "KL divergence that the adaptive schedule aims at (+)", POSITIVE)
    learning_rate_min: float = option(1e-5, "lower bound of the adaptive schedule (+)")
    learning_rate_max: float = option(1e-2, "upper bound of the adaptive schedule (+)")
    adam_eps: float = option(1e-5, "Adam's epsilon", POSITIVE)

    def __post_init__(self) -> None:
        """Check every value."""
        super().__post_init__()
        if self.learning_rate_schedule == "adaptive":
            fits = 0.0 < self.learning_rate_min <= self.learning_rate <= self.learning_rate_max
            bounds = f"{self.learning_rate_min} (learning_rate_min) and {self.learning_rate_max} (…_max)"
            require(fits, self, "learning_rate", f"must lie between {bounds}")

    def optimizer(self) -> optax.GradientTransformation:
        """Adam, whose steps are yet to be multiplied by the rate."""
        return optax.scale_by_adam(eps=self.adam_eps)

    def rate_of_update(self, rate: Array, progress_remaining: Array) -> Array:
        """The rate that an update begins with, (); `rate` is that of the last step before."""
        if self.learning_rate_schedule == "adaptive":
            return rate
        ends = (self.learning_rate, self.learning_rate_final)
        return scheduled(self.learning_rate_schedule, *ends, progress_remaining)

    def adapted_rate(self, rate: Array, kl: Array) -> Array:
        """Adapt the rate so that the KL divergence from the rollout's policy is within a factor 2 of desired_kl.

        Source: rsl_rl, `algorithms/ppo.py`; before each step, from this mini-batch's divergence.
        """
        slower = jnp.maximum(rate / ADAPTIVE_FACTOR, self.learning_rate_min)
        faster = jnp.minimum(rate * ADAPTIVE_FACTOR, self.learning_rate_max)
        inside = jnp.where(kl < 0.5 * self.desired_kl, faster, rate)
        return jnp.where(kl > 2.0 * self.desired_kl, slower, inside)


def scheduled(schedule: str, start: float, final: float, progress_remaining: Array) -> Array:
    """A value that is constant, or goes from `start` to `final` with the progress of training, ()."""
    final = final if schedule == "linear" else start
    return final + (start - final) * progress_remaining
