"""The static part of a learner, for one seed or several."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxloco.learning.algorithm import Algorithm, AlgorithmConfig
from jaxloco.learning.learner import LearnerState, normalized
from jaxloco.learning.networks import ActorCritic
from jaxloco.learning.recurrent import CellCarry


@dataclass(frozen=True)
class Agent:
    """The static part of a learner: the algorithm.

    With `seeds`, it stands for so many policies that are trained side by side: the learner's arrays have a leading axis
    over seeds, and robots stand in one row, those of the first seed first, so that all physics is one call.
    """

    algorithm: Algorithm
    seeds: int | None = None

    @property
    def networks(self) -> ActorCritic:
        """What is trained."""
        return self.algorithm.networks

    @property
    def config(self) -> AlgorithmConfig:
        """Options of the algorithm."""
        return self.algorithm.config

    def each(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Make a function of one seed's arrays a function of all seeds' arrays."""
        return function if self.seeds is None else jax.vmap(function, axis_size=self.seeds)

    def fold(self, tree: Any) -> Any:
        """Put the robots of all seeds in one row, (S, N, …) → (S N, …)."""
        return (
            tree
            if self.seeds is None
            else jax.tree.map(lambda x: x.reshape(x.shape[0] * x.shape[1], *x.shape[2:]), tree)
        )

    def unfold(self, tree: Any) -> Any:
        """Undo `fold`."""
        seeds = self.seeds
        if seeds is None:
            return tree
        return jax.tree.map(lambda x: x.reshape(seeds, x.shape[0] // seeds, *x.shape[1:]), tree)

    def act(self, learner: LearnerState, carry: CellCarry, observation: dict[str, jax.Array], noise: jax.Array) -> Any:
        """Draw actions, with normal noise (N, n_action).

        Returns:
            The next carry, samples like the noise, and their log-probabilities (N,).
        """
        args = (learner, self.unfold(carry), self.unfold(observation), self.unfold(noise))
        return self.fold(self.each(self.algorithm.act)(*args))

    def act_deterministic(
        self, learner: LearnerState, carry: CellCarry, observation: dict[str, jax.Array]
    ) -> tuple[CellCarry, jax.Array]:
        """Return the next carry and the actions without noise, as on the robot, in [-1, 1], (N, n_action)."""
        carry, sample = self.algorithm.mode(learner, carry, observation)
        return carry, self.networks.environment_action(sample)

    def estimates(self, learner: LearnerState, carry: CellCarry, observation: dict[str, jax.Array]) -> jax.Array:
        """Return what the estimator tells in a step that begins with `carry`, (N, E), in SI units; E may be 0."""
        if learner.estimator is None:
            return jnp.zeros((*observation["actor"].shape[:-1], 0))
        seen = normalized(learner.normalizers, "actor", observation["actor"], self.config.observation_clip)
        return self.networks.estimate(learner.estimator[0], self.networks.features(learner.params, carry, seen))

    def refreshed(self, learner: LearnerState, carry: CellCarry) -> CellCarry:
        """Return the memories of robots before a rollout of a learner that may have changed; see `ActorCritic`."""
        if not self.networks.config.convolutions:
            return carry
        refresh = self.each(lambda own, some: self.networks.refreshed(own.params, some))
        refreshed: CellCarry = self.fold(refresh(learner, self.unfold(carry)))
        return refreshed

    def initial_carry(self, count: int) -> CellCarry:
        """Return the initial memory of `count` robots: arrays with a leading axis of robots, or none."""
        return jax.tree.map(lambda x: jnp.broadcast_to(x, (count, *x.shape)), self.networks.initial_carry())

    def value(self, learner: LearnerState, observation: dict[str, jax.Array]) -> jax.Array:
        """Return the values, (N,)."""
        values: jax.Array = self.fold(self.each(self.algorithm.value)(learner, self.unfold(observation)))
        return values
