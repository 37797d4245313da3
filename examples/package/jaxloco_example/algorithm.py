"""The vanilla policy gradient with clipped advantages: no single sample moves the policy far."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from jaxloco.checks import POSITIVE
from jaxloco.learning.algorithm import option
from jaxloco.learning.networks import ActorCritic
from jaxloco.learning.policy_gradient import Estimate
from jaxloco.learning.vpg import VPG, VPGConfig


@dataclass(frozen=True)
class ClippedConfig(VPGConfig):
    """Options of VPG, and one more."""

    name: ClassVar[str] = "clipped"

    limit: float = option(2.0, "largest advantage, in standard deviations", POSITIVE)

    def make(self, networks: ActorCritic) -> "Clipped":
        """Return the algorithm with these options."""
        return Clipped(self, networks)


@dataclass(frozen=True)
class Clipped(VPG):
    """VPG that learns from clipped advantages."""

    config: ClippedConfig

    def estimate(self, *args: Any) -> Estimate:
        """Weights are those of VPG, each within ± limit over the number of samples."""
        estimate = super().estimate(*args)
        most = self.config.limit / estimate.weight.size
        return estimate._replace(weight=jnp.clip(estimate.weight, -most, most))
