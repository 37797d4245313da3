"""Concurrent state estimation: beside the policy, a network learns to tell what the robot cannot measure.

It reads what the actor reads, or what the actor's memory gives, and learns from each rollout, after the policy, in the
same compiled program (Ji et al. 2022, arXiv:2202.05481). The simulator knows the answers x:

    L = mean (estimate - x)²

of quantities in SI units; that of a contact, 0 or 1, is its probability. No gradient goes from the estimates into the
policy, nor from the policy into the estimator.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxloco.learning import collectives
from jaxloco.learning.batches import robot_major
from jaxloco.learning.learner import ESTIMATE, LearnerState, Metrics, Trajectory, normalized
from jaxloco.learning.minibatches import MinibatchConfig, minibatch_orders
from jaxloco.learning.networks import NetworkParams
from jaxloco.learning.pieces import mean_over_pieces

if TYPE_CHECKING:
    from jaxloco.learning.algorithm import Algorithm

_OWN_KEY = 2
"""Folded into a key that others split in two."""


def update_estimator(
    algorithm: "Algorithm", state: LearnerState, trajectory: Trajectory, metrics: Metrics, axis_name: str | None = None
) -> tuple[LearnerState, Metrics]:
    """Learn from one rollout, in as many epochs and mini-batches as the policy, where it has such.

    Args:
        algorithm: What has updated the policy.
        state: The learner after that.
        trajectory: The rollout, with the answers in the group "estimate".
        metrics: Of the policy's update, whose exchanges between devices come first.
        axis_name: Of the devices; None on one.

    Returns:
        The learner with its estimator, and the metrics with `train/estimation_loss`.
    """
    networks, config = algorithm.networks, algorithm.config
    estimator, metrics = jax.lax.optimization_barrier((state.estimator, metrics))
    seen = normalized(state.normalizers, "actor", trajectory.observation["actor"], config.observation_clip)
    features = robot_major(networks.head_input(state.params["actor"], seen, trajectory.memory))
    answers = robot_major(trajectory.observation[ESTIMATE])

    def loss(params: NetworkParams, rows: Array) -> Array:
        return jnp.mean(jnp.square(networks.estimate(params, features[rows]) - answers[rows]))

    adam, rate = optax.scale_by_adam(), networks.config.estimator.learning_rate

    def step(carry: tuple[NetworkParams, Any], rows: Array) -> tuple[tuple[NetworkParams, Any], Array]:
        found = mean_over_pieces(partial(jax.value_and_grad(loss), carry[0]), rows, networks)
        value, gradient = collectives.mean(found, axis_name)  # in one exchange, so that none is out of order
        with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
            change, opt_state = adam.update(gradient, carry[1])
        return (jax.tree.map(lambda p, d: p - rate * d, carry[0], change), opt_state), value

    steps, n_envs = trajectory.reward.shape
    batches = config if isinstance(config, MinibatchConfig) else MinibatchConfig(n_minibatches=1, n_epochs=1)
    count, groups = batches.shares(n_envs, steps, axis_name)
    key = jax.random.fold_in(state.key, _OWN_KEY)
    orders = minibatch_orders(key, len(features), batches.n_epochs, count, groups, axis_name)
    estimator, values = jax.lax.scan(step, estimator, orders.reshape(-1, orders.shape[-1]))
    return state._replace(estimator=estimator), {**metrics, "train/estimation_loss": jnp.mean(values)}
