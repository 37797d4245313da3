"""What REINFORCE and the vanilla policy gradient share: one step of the policy along an estimate of the gradient.

    θ ← θ + α Σ w_t ∇ log π(a_t | o_t),    φ ← φ - α' ∇ mean (R_t - V_φ(o_t))²,   the latter a few times

What the weights w and the returns R are is the algorithm's; see its `estimate`. The policy and the critic have an
optimizer each: in a shared Adam, momentum would move the policy while the critic learns.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloco.checks import COUNT, NOT_NEGATIVE, POSITIVE
from jaxloco.learning import collectives
from jaxloco.learning.algorithm import ActorCriticAlgorithm, AlgorithmConfig, option
from jaxloco.learning.learner import LearnerState, Metrics, Trajectory, critic_group
from jaxloco.learning.networks import NetworkParams
from jaxloco.learning.reports import named_metrics, over_devices, updated_normalizers

CRITIC = "critic"


@dataclass(frozen=True)
class PolicyGradientConfig(AlgorithmConfig):
    """Options that both have.

    Raises:
        ConfigError: a value is out of its range; the message says what to write instead.
    """

    optimizer: str = option("adam", "adam or sgd", ("adam", "sgd"))
    learning_rate: float = option(1e-2, "step size of the policy", POSITIVE)
    value_learning_rate: float = option(1e-2, "step size of the critic", POSITIVE)
    value_steps: int = option(40, "steps of the critic per update", COUNT)
    ent_coef: float = option(0.0, "weight of the entropy bonus", NOT_NEGATIVE)
    max_grad_norm: float = option(math.inf, "longer gradients are scaled down to this norm; inf: never", POSITIVE)
    adam_eps: float = option(1e-5, "Adam's epsilon", POSITIVE)

    @property
    def critic_steps(self) -> int:
        """Steps of the critic per update: none where nothing reads it."""
        return self.value_steps


class Estimate(NamedTuple):
    """What an update makes of a rollout, (T, N) each.

    Attributes:
        weight: Of each sample's log-likelihood; the gradient is the mean over devices of their sums.
        returns: What the critic should say.
        counted: 1 where a sample counts, 0 where not; in an update then its share of all that count.
    """

    weight: Array
    returns: Array
    counted: Array


C = TypeVar("C", bound=PolicyGradientConfig)


@dataclass(frozen=True)
class PolicyGradient(ActorCriticAlgorithm[C]):
    """An algorithm that defines weights and returns."""

    def estimate(self, trajectory: Trajectory, values: Array, last_value: Array, axis_name: str | None) -> Estimate:
        """Return weights and returns of a rollout with scaled rewards; values (T, N), and of what follows, (N,)."""
        raise NotImplementedError

    def init_optimizers(self, params: NetworkParams) -> dict[str, Any]:
        """What each of the two keeps."""
        policy, critic = _parts(params)
        return {"policy": self._optimizer().init(policy), "critic": self._optimizer().init(critic)}

    def first_learning_rate(self) -> float:
        """Return the policy's."""
        return self.config.learning_rate

    def update(
        self, state: LearnerState, trajectory: Trajectory, *, axis_name: str | None = None
    ) -> tuple[LearnerState, Metrics]:
        """Learn from one rollout; see `jaxloco.learning.algorithm.Algorithm.update`.

        Raises:
            ConfigError: the trajectory has not n_steps steps.
        """
        config = self.config
        self.sizes(trajectory)
        group = critic_group(trajectory.observation)
        actor = self._read_by_actor(state, trajectory.observation)
        seen = self._normalized(state, group, trajectory.observation)
        values = self.networks.value(state.params, seen)
        last = self.value(state, trajectory.last_observation)
        scaled = trajectory._replace(reward=trajectory.reward * config.reward_scale)
        estimate = _with_shares(self.estimate(scaled, values, last, axis_name), axis_name)

        policy_params, critic_params = _parts(state.params)
        policy_loss = partial(self.policy_loss, observation=actor, trajectory=trajectory, estimate=estimate)
        gradient, logs = jax.grad(policy_loss, has_aux=True)(policy_params)
        gradient = collectives.mean(gradient, axis_name)
        policy_params, policy_state, norm = self._step(
            policy_params, state.opt_state["policy"], gradient, config.learning_rate
        )
        # The exchanges of the critic's steps come after that of the policy's: see `jaxloco.learning.collectives`.
        critic_params, norm = jax.lax.optimization_barrier((critic_params, norm))
        value_loss = partial(self.value_loss, observation=seen, estimate=estimate)

        def regress(carry: tuple[NetworkParams, Any], _: None) -> tuple[tuple[NetworkParams, Any], None]:
            gradient = collectives.mean(jax.grad(value_loss)(carry[0]), axis_name)
            return self._step(*carry, gradient, config.value_learning_rate)[:2], None

        first_loss, critic = value_loss(critic_params), (critic_params, state.opt_state["critic"])
        (critic_params, critic_state), _ = jax.lax.scan(regress, critic, length=config.critic_steps)
        params = {**policy_params, **critic_params}
        policy = self.networks.policy(params, actor, memory=trajectory.memory)
        moved = self.networks.log_prob(policy, trajectory.action) - trajectory.log_prob
        logs |= {
            "value_loss": first_loss,
            "approx_kl": _mean(jnp.expm1(moved) - moved, estimate.counted),
            "grad_norm": norm,
        }
        logs, params = jax.lax.optimization_barrier((logs, params))  # theirs come before that of the logs
        logs, statistics, explained = over_devices(
            logs, trajectory.observation, estimate.returns.ravel(), values.ravel(), axis_name, estimate.counted.ravel()
        )
        new_state = state._replace(
            params=params,
            opt_state={"policy": policy_state, "critic": critic_state},
            normalizers=updated_normalizers(state, statistics, None),
            n_updates=state.n_updates + 1,
        )
        return new_state, named_metrics(new_state, {**logs, "explained_variance": explained})

    def policy_loss(
        self, params: NetworkParams, *, observation: Array, trajectory: Trajectory, estimate: Estimate
    ) -> tuple[Array, Metrics]:
        """-Σ w log π(a | o) - ent_coef mean H, for normalized observations (T, N, dim)."""
        policy = self.networks.policy(params, observation, memory=trajectory.memory)
        loss = -jnp.sum(estimate.weight * self.networks.log_prob(policy, trajectory.action))
        entropy_loss = -_mean(self.networks.entropy(policy), estimate.counted)
        logs = {
            "policy_gradient_loss": loss,
            "entropy_loss": entropy_loss,
            "std": jnp.mean(jnp.exp(policy.log_std)),
        }
        return loss + self.config.ent_coef * entropy_loss, logs

    def value_loss(self, params: NetworkParams, *, observation: Array, estimate: Estimate) -> Array:
        """Mean squared distance of the critic from the returns."""
        values = self.networks.value(params, observation)
        return _mean(jnp.square(estimate.returns - values), estimate.counted)

    def _step(
        self, params: NetworkParams, opt_state: Any, gradient: NetworkParams, rate: float
    ) -> tuple[NetworkParams, Any, Array]:
        """One step of an optimizer; also the length of the gradient, before it is cut."""
        norm = jnp.linalg.norm(ravel_pytree(gradient)[0])
        share = jnp.minimum(1.0, self.config.max_grad_norm / (norm + 1e-6))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            change, opt_state = self._optimizer().update(jax.tree.map(lambda g: share * g, gradient), opt_state)
        return jax.tree.map(lambda p, d: p - rate * d, params, change), opt_state, norm

    def _optimizer(self) -> optax.GradientTransformation:
        return optax.scale_by_adam(eps=self.config.adam_eps) if self.config.optimizer == "adam" else optax.identity()


def _parts(params: NetworkParams) -> tuple[NetworkParams, NetworkParams]:
    """The parameters of the policy and those of the critic."""
    return {name: value for name, value in params.items() if name != CRITIC}, {CRITIC: params[CRITIC]}


def _with_shares(estimate: Estimate, axis_name: str | None) -> Estimate:
    """Make `counted` a sample's share of all that count, so that a mean over devices is one over all samples.

    The barriers keep exchanges in order; see `jaxloco.learning.collectives`.
    """
    weight, number = jax.lax.optimization_barrier((estimate.weight, jnp.sum(estimate.counted)))
    shares = estimate.counted / collectives.mean(number, axis_name)
    weight, shares = jax.lax.optimization_barrier((weight, shares))
    return estimate._replace(weight=weight, counted=shares)


def _mean(x: Array, shares: Array) -> Array:
    return jnp.sum(x * shares)
