"""The vanilla policy gradient: one step along the gradient with advantages, then the critic follows the returns.

    ĝ = mean over samples of A_t ∇ log π(a_t | o_t)

Source: Achiam 2018, "Spinning Up in Deep RL", Vanilla Policy Gradient; with advantages as they are, an update is that
of Stable-Baselines3's A2C, held to it by a test.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxloco.checks import COUNT, FRACTION
from jaxloco.errors import ConfigError
from jaxloco.learning.advantages import discounted_returns, gae, normalized_advantage
from jaxloco.learning.algorithm import option
from jaxloco.learning.learner import Trajectory
from jaxloco.learning.networks import ActorCritic
from jaxloco.learning.policy_gradient import Estimate, PolicyGradient, PolicyGradientConfig


@dataclass(frozen=True)
class VPGConfig(PolicyGradientConfig):
    """Options of the vanilla policy gradient; (+) marks those that Stable-Baselines3's A2C does not have."""

    name: ClassVar[str] = "vpg"

    n_steps: int = option(64, "control steps per robot and update", COUNT)
    advantage: str = option("gae", "gae, or reward-to-go: the return minus the value (+)", ("gae", "reward-to-go"))
    gae_lambda: float = option(0.97, "bias-variance trade-off of gae, 0 to 1", FRACTION)
    normalize_advantage: bool = option(True, "zero mean and unit variance in each rollout")

    def check_robots(self, n_envs: int, n_devices: int = 1, *, recurrent: bool = False) -> None:
        """Check the same as every algorithm, and that there are samples enough to normalize their advantages."""
        super().check_robots(n_envs, n_devices, recurrent=recurrent)
        if self.normalize_advantage and n_envs * self.n_steps < 2:
            raise ConfigError(
                f"n_steps = {self.n_steps} of one robot is one sample, whose advantage cannot be normalized; write "
                "n_steps = 2, or normalize_advantage = False"
            )

    def make(self, networks: ActorCritic) -> "VPG":
        """Return the algorithm with these options."""
        return VPG(self, networks)


@dataclass(frozen=True)
class VPG(PolicyGradient[VPGConfig]):
    """The vanilla policy gradient with some options, of some networks."""

    def estimate(self, trajectory: Trajectory, values: Array, last_value: Array, axis_name: str | None) -> Estimate:
        """Weights are advantages over the number of samples."""
        config = self.config
        ends = (trajectory.terminated, trajectory.truncated, trajectory.truncation_value)
        if config.advantage == "gae":
            advantage, returns = gae(
                trajectory.reward, values, last_value, *ends, gamma=config.gamma, gae_lambda=config.gae_lambda
            )
        else:
            returns = discounted_returns(trajectory.reward, last_value, *ends, gamma=config.gamma)
            advantage = returns - values
        if config.normalize_advantage:
            advantage = normalized_advantage(advantage.reshape(1, -1), axis_name).reshape(advantage.shape)
        return Estimate(advantage / advantage.size, returns, jnp.ones_like(returns))
