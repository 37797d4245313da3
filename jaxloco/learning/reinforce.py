"""REINFORCE (Williams 1992): whole episodes, weighted by their returns.

    ĝ = mean over episodes of Σ_t (R - b_t) ∇ log π(a_t | o_t)

R is the discounted return of the whole episode, and the baseline b nothing or the mean over episodes; or R is what
follows step t, and b_t the critic's value. An update learns from one episode of each robot, not from what comes after
it: otherwise short episodes would count more often than long ones.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxloco.checks import COUNT
from jaxloco.errors import ConfigError
from jaxloco.learning import collectives
from jaxloco.learning.advantages import discounted_returns
from jaxloco.learning.algorithm import option
from jaxloco.learning.learner import Trajectory
from jaxloco.learning.networks import ActorCritic
from jaxloco.learning.policy_gradient import Estimate, PolicyGradient, PolicyGradientConfig

BASELINES = ("none", "mean", "value")


@dataclass(frozen=True)
class ReinforceConfig(PolicyGradientConfig):
    """Options of REINFORCE."""

    name: ClassVar[str] = "reinforce"
    fresh_start: ClassVar[bool] = True
    bootstraps: ClassVar[bool] = False

    n_steps: int = option(500, "control steps per robot and update: those of the longest episode", COUNT)
    baseline: str = option("mean", f"what a return is compared with: {', '.join(BASELINES)}", BASELINES)

    @property
    def critic_steps(self) -> int:
        """None without the critic as a baseline."""
        return self.value_steps if self.baseline == "value" else 0

    def check_robots(self, n_envs: int, n_devices: int = 1, *, recurrent: bool = False) -> None:
        """Check the same as every algorithm, and that the mean over episodes is one of several."""
        super().check_robots(n_envs, n_devices, recurrent=recurrent)
        if self.baseline == "mean" and n_envs < 2:
            raise ConfigError(
                "baseline = 'mean': the mean of one robot's episode is its own return, so nothing would be learned; "
                "write n_envs = 2 or more, or baseline = none or value"
            )

    def check_episodes(self, longest: int) -> None:
        """Check that an episode fits into a rollout."""
        if self.n_steps < longest:
            raise ConfigError(
                f"n_steps = {self.n_steps}: reinforce needs whole episodes, which take {longest} steps in this task; "
                f"write n_steps = {longest}"
            )

    def make(self, networks: ActorCritic) -> "Reinforce":
        """Return the algorithm with these options."""
        return Reinforce(self, networks)


@dataclass(frozen=True)
class Reinforce(PolicyGradient[ReinforceConfig]):
    """REINFORCE with some options, of some networks."""

    def estimate(self, trajectory: Trajectory, values: Array, last_value: Array, axis_name: str | None) -> Estimate:
        """Weights are returns minus the baseline, over the number of episodes, and 0 after an episode's end."""
        ended = trajectory.terminated | trajectory.truncated
        before = jnp.concatenate([jnp.zeros_like(ended[:1]), ended[:-1]])
        counted = jnp.cumprod(1.0 - before.astype(jnp.float32), axis=0)
        nothing = jnp.zeros_like(trajectory.reward)
        to_go = discounted_returns(
            trajectory.reward,
            jnp.zeros_like(last_value),
            trajectory.terminated,
            trajectory.truncated,
            nothing,
            gamma=self.config.gamma,
        )
        if self.config.baseline == "value":
            weight = to_go - values
        else:
            total = to_go[:1]
            mean = collectives.mean(jnp.mean(total), axis_name) if self.config.baseline == "mean" else 0.0
            weight = jnp.broadcast_to(total - mean, to_go.shape)
        return Estimate(weight * counted / to_go.shape[1], to_go, counted)
