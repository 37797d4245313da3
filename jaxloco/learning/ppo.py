"""Proximal policy optimization (Schulman et al. 2017), the whole update as one compiled program.

Names, losses and metrics are Stable-Baselines3's; a test holds one update against that package's own.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloco.checks import FRACTION, NOT_NEGATIVE, POSITIVE
from jaxloco.errors import ConfigError
from jaxloco.learning import collectives, distributions
from jaxloco.learning.advantages import normalized_advantage
from jaxloco.learning.algorithm import ActorCriticAlgorithm, option
from jaxloco.learning.batches import ADVANTAGE, Batch, policy_of, prepare
from jaxloco.learning.learner import LearnerState, Metrics, Trajectory
from jaxloco.learning.minibatches import MinibatchConfig, minibatch_orders, taken
from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.pieces import mean_over_pieces
from jaxloco.learning.reports import mean_logs, named_metrics, over_devices, updated_normalizers
from jaxloco.learning.schedules import SCHEDULES, ScheduledRateConfig, scheduled
from jaxloco.learning.symmetry import MODES

PRECISIONS = ("tensorfloat32", "float32")
TARGET_KL_MARGIN = 1.5  # Stable-Baselines3 stops an update above 1.5 target_kl


@dataclass(frozen=True)
class PPOConfig(MinibatchConfig, ScheduledRateConfig):
    """Options of PPO, named as in Stable-Baselines3; (+) marks those that it does not have.

    Raises:
        ConfigError: a value is out of its range; the message says what to write instead.
    """

    name: ClassVar[str] = "ppo"

    gae_lambda: float = option(0.95, "bias-variance trade-off of the advantages, 0 to 1", FRACTION)
    clip_range: float = option(0.2, "epsilon of the clipped objective, for the probability ratio", POSITIVE)
    clip_range_schedule: str = option("constant", "constant, or linear in training progress (+)", SCHEDULES[:2])
    clip_range_final: float = option(0.0, "clip_range at the end of a linear schedule (+)", NOT_NEGATIVE)
    clip_range_vf: float | None = option(None, "largest change of a value per update; None: unbounded", POSITIVE)
    normalize_advantage: bool = option(True, "zero mean and unit variance in each mini-batch")
    ent_coef: float = option(0.0, "weight of the entropy bonus", NOT_NEGATIVE)
    vf_coef: float = option(0.5, "weight of the value loss", NOT_NEGATIVE)
    max_grad_norm: float = option(0.5, "longer gradients are scaled down to this norm; inf: never", POSITIVE)
    target_kl: float | None = option(None, "stop an update when the KL divergence exceeds 1.5 times this", POSITIVE)
    critic_first: int = option(0, "iterations at the start in which only the critic learns (+)", NOT_NEGATIVE)
    update_precision: str = option(
        "tensorfloat32", "of matrix products while learning on GPUs: tensorfloat32 or float32 (+)", PRECISIONS
    )
    symmetry: str = option("none", "left-right symmetry: none, augmentation, loss or network (+)", MODES)
    symmetry_coef: float = option(1.0, "weight of the loss with symmetry = loss (+)", NOT_NEGATIVE)

    def make(self, networks: ActorCritic) -> "PPO":
        """Return PPO with these options.

        Raises:
            ConfigError: there is no mirror for `symmetry`.
        """
        if self.symmetry != "none" and networks.symmetry is None:
            raise ConfigError(f"symmetry = {self.symmetry!r} needs networks with a mirror")
        return PPO(self, networks)


class _Chosen(NamedTuple):
    """Which samples of a `Batch` form a mini-batch, or a piece of one."""

    order: Array  # int32 (B,)
    scalars: Array  # (B, 4): of these samples, advantages normalized


class _Carry(NamedTuple):
    """What a mini-batch step changes."""

    params: NetworkParams
    opt_state: Any
    learning_rate: Array
    running: Array  # bool: target_kl has not been passed


@dataclass(frozen=True)
class PPO(ActorCriticAlgorithm[PPOConfig]):
    """PPO with some options, of some networks."""

    def init_optimizers(self, params: NetworkParams) -> Any:
        """Adam's moments, of all parameters in one vector."""
        return self.config.optimizer().init(ravel_pytree(params)[0])

    def first_learning_rate(self) -> float:
        """Return the learning rate at the start."""
        return self.config.learning_rate

    def update(
        self, state: LearnerState, trajectory: Trajectory, *, axis_name: str | None = None
    ) -> tuple[LearnerState, Metrics]:
        """Learn from one rollout: n_epochs passes over shuffled mini-batches.

        The observation statistics that the rollout used stay fixed until the last step and are updated after it.

        On several devices each holds the trajectory of its share of the robots. Samples are shuffled within groups of
        robots and every mini-batch takes the same share of each group, so the mini-batches are the same on any number
        of devices that divides the groups; gradients are averaged over the devices.

        Args:
            state: The learner, the same on every device.
            trajectory: The rollout it collected.
            axis_name: Name of the mapped axis over devices; None on one.

        Returns:
            The next state, and float32 scalars under Stable-Baselines3's names (docs/learning.md explains each).

        Raises:
            ConfigError: the mini-batches do not fill the rollout.
        """
        config, networks = self.config, self.networks
        n_steps, n_envs = self.sizes(trajectory)
        steps = 1 if networks.config.recurrent else n_steps  # that can stand in mini-batches apart from each other
        n_minibatches, groups = config.shares(n_envs, steps, axis_name)
        batch = self.prepare(state, trajectory)
        remaining = state.progress_remaining
        learning_rate = config.rate_of_update(state.learning_rate, remaining)
        clip_range = scheduled(config.clip_range_schedule, config.clip_range, config.clip_range_final, remaining)

        key, shuffle_key = jax.random.split(state.key)
        carry = _Carry(state.params, state.opt_state, learning_rate, jnp.asarray(True))
        held = state.n_updates < config.critic_first * config.n_epochs if config.critic_first else None
        epoch = partial(self._epoch, batch=batch, clip_range=clip_range, held=held, axis_name=axis_name)
        items = batch.action.shape[0]
        orders = minibatch_orders(shuffle_key, items, config.n_epochs, n_minibatches, groups, axis_name)
        with jax.default_matmul_precision(config.update_precision):
            carry, (logs, measured) = jax.lax.scan(epoch, carry, orders)
        _, _, returns, values = jnp.unstack(batch.scalars, axis=-1)
        logs, seen, explained = over_devices(logs, trajectory.observation, returns.ravel(), values.ravel(), axis_name)

        epochs_begun = jnp.sum(jnp.any(measured, axis=1)).astype(jnp.int32)
        mirrors = networks.symmetry if config.symmetry != "none" else None
        new_state = state._replace(
            params=carry.params,
            opt_state=carry.opt_state,
            learning_rate=carry.learning_rate,
            normalizers=updated_normalizers(state, seen, mirrors),
            key=key,
            n_updates=state.n_updates + epochs_begun,
        )
        metrics = {**mean_logs(logs, measured), "explained_variance": explained, "clip_range": clip_range}
        return new_state, named_metrics(new_state, metrics)

    def prepare(self, state: LearnerState, trajectory: Trajectory) -> Batch:
        """Return what the epochs read; see `jaxloco.learning.batches.prepare`."""
        return prepare(state, trajectory, self.networks, self.config)

    def _epoch(self, carry: _Carry, order: Array, *, batch: Batch, **given: Any) -> tuple[_Carry, Any]:
        """One pass over the samples; `order` (n_minibatches, batch_size) says which form each mini-batch."""
        scalars = batch.scalars[order]
        if self.config.normalize_advantage:
            advantage = normalized_advantage(scalars[..., ADVANTAGE], given["axis_name"])
            scalars = scalars.at[..., ADVANTAGE].set(advantage)
        minibatch = partial(self._minibatch, batch=batch, **given)
        return jax.lax.scan(minibatch, carry, _Chosen(order, scalars))

    def _minibatch(self, carry: _Carry, chosen: _Chosen, **given: Any) -> tuple[_Carry, tuple[Metrics, Array]]:
        """One gradient step, unless target_kl has stopped this update."""
        step: Any = partial(self._step, **given)
        if self.config.target_kl is None:
            new_carry, logs = step(carry, chosen)
        else:
            new_carry, logs = jax.lax.cond(carry.running, step, partial(_no_step, step), carry, chosen)
        return new_carry, (logs, carry.running)

    def _step(
        self,
        carry: _Carry,
        chosen: _Chosen,
        *,
        batch: Batch,
        clip_range: Array,
        held: Array | None,
        axis_name: str | None,
    ) -> tuple[_Carry, Metrics]:
        """Gradient, clipped by its global norm, through Adam, times the learning rate; `held`: for the critic alone."""
        config = self.config
        gradient, logs = self._gradient(carry.params, batch, chosen, clip_range)
        gradient = self.networks.symmetric(collectives.mean(gradient, axis_name))
        vector, restore = ravel_pytree(gradient)  # a few long operations instead of many short ones
        norm = jnp.linalg.norm(vector)
        vector *= jnp.minimum(1.0, config.max_grad_norm / (norm + 1e-6))
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            vector, opt_state = self.config.optimizer().update(vector, carry.opt_state)
        learning_rate = carry.learning_rate
        if config.learning_rate_schedule == "adaptive":
            learning_rate = config.adapted_rate(learning_rate, collectives.mean(logs["kl"], axis_name))
        params = jax.tree.map(lambda p, d: p - learning_rate * d, carry.params, restore(vector))
        if held is not None:
            learning_rate = jnp.where(held, carry.learning_rate, learning_rate)
            policy = jax.tree.map(partial(jnp.where, held), carry.params, params)
            params = {**policy, "critic": params["critic"]}
        stepped = _Carry(params, opt_state, learning_rate, carry.running)
        if config.target_kl is not None:
            goes_on = collectives.mean(logs["approx_kl"], axis_name) <= TARGET_KL_MARGIN * config.target_kl
            stepped = jax.tree.map(partial(jnp.where, goes_on), stepped, carry._replace(running=jnp.asarray(False)))
        return stepped, {**logs, "grad_norm": norm}

    def _gradient(
        self, params: NetworkParams, batch: Batch, chosen: _Chosen, clip_range: Array
    ) -> tuple[NetworkParams, Metrics]:
        """Gradient and logs of a mini-batch's loss, which takes the networks' `learner_params`."""
        known, pull_back = jax.vjp(self.networks.learner_params, params)
        differentiate = jax.grad(partial(self.loss, clip_range=clip_range), has_aux=True)

        def of_piece(some: _Chosen) -> tuple[NetworkParams, Metrics]:
            return differentiate(known, taken(batch, some.order)._replace(scalars=some.scalars))

        steps = 1 if batch.memory is None else self.config.n_steps
        change, logs = mean_over_pieces(of_piece, chosen, self.networks, steps)
        return pull_back(change)[0], logs

    def loss(self, params: NetworkParams, batch: Batch, clip_range: Array) -> tuple[Array, Metrics]:
        """PPO's loss of one mini-batch, for `ActorCritic.learner_params`.

            L = -E[min(ρ A, clip(ρ, 1 ± ε) A)] - ent_coef E[H] + vf_coef E[(R - V)²],   ρ = π(u) / π_old(u)

        with V limited to V_old ± clip_range_vf where that is given (as Stable-Baselines3).
        """
        config, networks = self.config, self.networks
        old_log_prob, advantage, returns, old_value = jnp.unstack(batch.scalars, axis=-1)
        policy = policy_of(networks, params, batch)
        log_ratio = networks.log_prob(policy, batch.action) - old_log_prob
        ratio = jnp.exp(log_ratio)
        clipped_ratio = jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
        policy_loss = -jnp.mean(jnp.minimum(advantage * ratio, advantage * clipped_ratio))

        values = networks.value(params, batch.actor if batch.critic is None else batch.critic, learner=True)
        if config.clip_range_vf is not None:
            values = old_value + jnp.clip(values - old_value, -config.clip_range_vf, config.clip_range_vf)
        value_loss = jnp.mean(jnp.square(returns - values))
        entropy_loss = -jnp.mean(networks.entropy(policy))
        loss = policy_loss + config.ent_coef * entropy_loss + config.vf_coef * value_loss
        logs = {
            "loss": loss,
            "policy_gradient_loss": policy_loss,
            "value_loss": value_loss,
            "entropy_loss": entropy_loss,
            "approx_kl": jnp.mean(ratio - 1.0 - log_ratio),
            "clip_fraction": jnp.mean((jnp.abs(ratio - 1.0) > clip_range).astype(jnp.float32)),
            "std": jnp.mean(jnp.exp(policy.log_std)),
        }
        if config.symmetry == "loss":
            logs["symmetry_loss"] = networks.asymmetry(params, batch.actor, policy)
            loss += config.symmetry_coef * logs["symmetry_loss"]
        if batch.old is not None:
            logs["kl"] = jnp.mean(distributions.kl_divergence(batch.old, policy))
        return loss, logs


def _no_step(step: Any, carry: _Carry, chosen: _Chosen) -> tuple[_Carry, Metrics]:
    logs = jax.eval_shape(step, carry, chosen)[1]
    return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), logs)
