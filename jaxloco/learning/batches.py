"""What the epochs of an update read of a rollout, computed once before them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning.advantages import gae
from jaxloco.learning.distributions import Gaussian
from jaxloco.learning.learner import LearnerState, Trajectory, critic_group, normalized, read_by_actor
from jaxloco.learning.networks import ActorCritic, NetworkParams
from jaxloco.learning.recurrent import Memory
from jaxloco.learning.symmetry import with_mirror_images

if TYPE_CHECKING:
    from jaxloco.learning.ppo import PPOConfig

ADVANTAGE = 1
"""Place of the advantage among a batch's scalars."""


class Batch(NamedTuple):
    """Samples (B, ...), observations normalized; of a recurrent actor, sequences of B robots, (B, T, ...).

    Attributes:
        actor: As `ActorCritic.learner_observation` gives them.
        critic: Observations of the critic; None where it reads what the actor reads.
        action: Before any clip or tanh.
        scalars: [B, (T,) 4]: log_prob, advantage (at `ADVANTAGE`), return, value.
        old: The rollout's policy; None if not needed.
        memory: Carries (B, H) and starts (B, T) of a recurrent actor.
    """

    actor: Array
    critic: Array | None
    action: Array
    scalars: Array
    old: Gaussian | None
    memory: Memory | None


def prepare(state: LearnerState, trajectory: Trajectory, networks: ActorCritic, config: "PPOConfig") -> Batch:
    """Normalize observations, and compute values, advantages and returns.

    Args:
        state: The learner that collected the rollout.
        trajectory: The rollout.
        networks: From `make_actor_critic`.
        config: With symmetry = augmentation the batch has the mirror image of each sample too; with an adaptive
            learning rate, the rollout's policy.
    """
    clip = config.observation_clip
    group = critic_group(trajectory.observation)
    seen = jnp.concatenate([trajectory.observation[group], trajectory.last_observation[group][None]])
    critic = networks.learner_observation(group, normalized(state.normalizers, group, seen, clip))
    params = networks.learner_params(state.params)
    values = networks.value(params, critic, learner=True)
    advantages, returns = gae(
        trajectory.reward * config.reward_scale,
        values[:-1],
        values[-1],
        trajectory.terminated,
        trajectory.truncated,
        trajectory.truncation_value,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    shared = group == "actor" and not networks.config.estimator.fed
    actor = critic[:-1]
    if not shared:
        actor = read_by_actor(networks, state, trajectory.observation["actor"], clip)
        actor = networks.learner_observation("actor", actor)
    scalars = jnp.stack([trajectory.log_prob, advantages, returns, values[:-1]], axis=-1)
    batch = Batch(actor, None if shared else critic[:-1], trajectory.action, scalars, None, None)
    if config.symmetry == "augmentation":
        batch = with_mirror_images(batch, networks.symmetry)
    if config.learning_rate_schedule == "adaptive":
        batch = batch._replace(old=networks.policy(params, batch.actor, learner=True, memory=trajectory.memory))
    if trajectory.memory is None:
        return jax.tree.map(robot_major, batch)
    carry, started = trajectory.memory
    return jax.tree.map(turned, batch)._replace(memory=Memory(carry, started.T))


def policy_of(networks: ActorCritic, params: NetworkParams, batch: Batch) -> Gaussian:
    """The policy of a mini-batch, (B, A) or (B, T, A), for `learner_params`."""
    return policy_and_latent_of(networks, params, batch.actor, batch.memory)[0]


def policy_and_latent_of(
    networks: ActorCritic, params: NetworkParams, actor: Array, memory: Memory | None
) -> tuple[Gaussian, Array]:
    """The policy of a mini-batch and the latent behind it, (B, ·), or (B, T, ·) with a memory, for `learner_params`."""
    if memory is None:
        return networks.policy_and_latent(params, actor, learner=True)
    memory = memory._replace(started=memory.started.T)
    found = networks.policy_and_latent(params, turned(actor), learner=True, memory=memory)
    return jax.tree.map(turned, found)


def sequences(trajectory_memory: Memory | None, tree: Any) -> Any:
    """Arrays of a rollout, (T, N, dim), as what mini-batches take of them: samples (N T, dim), or (N, T, dim)."""
    return jax.tree.map(robot_major if trajectory_memory is None else turned, tree)


def robot_major(x: Array) -> Array:
    """(T, N, dim) to (N T, dim), so that the samples of a group of robots stand together."""
    return turned(x).reshape(-1, x.shape[-1])


def turned(x: Array) -> Array:
    """(T, N, dim) to (N, T, dim), or back."""
    return jnp.swapaxes(x, 0, 1)
