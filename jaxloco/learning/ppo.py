"""Proximal policy optimization (Schulman et al. 2017), the whole update as one compiled program.

Names, losses and metrics are Stable-Baselines3's; a test holds one update against that package's own. The
rollout is collected elsewhere: `act` draws the actions, `update` learns from the finished `Trajectory`.

Measured on 2 CPU cores, 256 robots x 32 steps, 50 observations, networks 64-64, 4 epochs x 4 mini-batches:
one update takes 15 ms (ELU) and compiles in 1.3 s. What counted, beside the matrix products: a shuffle by one
sort of packed words, and normalizing once per update. And with wider networks, that activations stay in a core's
cache: the gradient of 3072 samples of two networks 128-128, one of them mirrored, took 60 ms at once and 37 ms in
pieces of 256. `jaxloco.learning.perceptron` and `jaxloco.learning.activations` say what counts in a layer.
"""

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from jaxloco.checks import check_finite
from jaxloco.errors import ConfigError, unknown_name
from jaxloco.learning import collectives, distributions
from jaxloco.learning.advantages import gae
from jaxloco.learning.distributions import Gaussian
from jaxloco.learning.networks import ActorCritic, Params
from jaxloco.learning.normalization import (
    RunningStatistics,
    batch_statistics,
    init_statistics,
    merge_statistics,
    normalize,
)
from jaxloco.learning.symmetry import MODES as SYMMETRY_MODES
from jaxloco.learning.symmetry import Symmetry, symmetrized

Observation = Mapping[str, Array]
Metrics = dict[str, Array]

LEARNING_RATE_SCHEDULES = ("constant", "linear", "adaptive")
CLIP_RANGE_SCHEDULES = ("constant", "linear")
PRECISIONS = ("tensorfloat32", "float32")
ADAPTIVE_FACTOR = 1.5  # rsl_rl's rule: outside [desired_kl / 2, 2 desired_kl], the rate changes by this factor
MAX_INDEX_BITS = 20  # of the 32 in a shuffled word; the other 12 are chance
CACHED_NUMBERS = 220_000  # activations of a piece of a mini-batch on a CPU
GROUPS = (8, 4, 2, 1)  # of robots, each shuffled by itself: training is the same on as many devices as divide them
MOST_EPOCHS = 10_000
TARGET_KL_MARGIN = 1.5  # Stable-Baselines3 stops an update above 1.5 target_kl


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class PPOConfig:
    """Options of PPO under Stable-Baselines3's names; those it has not are marked (+).

    Raises:
        ConfigError: a value is out of its range; the message says what to write instead.
    """

    n_steps: int = _option(32, "control steps per robot and update")
    n_minibatches: int = _option(4, "mini-batches per epoch (+)")
    batch_size: int | None = _option(None, "samples per mini-batch; when given, replaces n_minibatches")
    n_epochs: int = _option(4, "passes over each rollout")
    gamma: float = _option(0.99, "discount per control step")
    gae_lambda: float = _option(0.95, "bias-variance trade-off of the advantages, 0 to 1")
    clip_range: float = _option(0.2, "largest useful change of an action's probability ratio")
    clip_range_schedule: str = _option("constant", "constant, or linear in training progress (+)")
    clip_range_final: float = _option(0.0, "clip_range at the end of a linear schedule (+)")
    clip_range_vf: float | None = _option(None, "largest change of a value per update; None: unbounded")
    normalize_advantage: bool = _option(True, "zero mean and unit variance in each mini-batch")
    ent_coef: float = _option(0.0, "weight of the entropy bonus")
    vf_coef: float = _option(0.5, "weight of the value loss")
    max_grad_norm: float = _option(0.5, "longer gradients are scaled down to this norm; inf: never")
    target_kl: float | None = _option(None, "stop an update when the policy has moved 1.5 times this far; None: off")
    learning_rate: float = _option(3e-4, "step size of Adam, at the start")
    learning_rate_schedule: str = _option("constant", "constant, linear in training progress, or KL-adaptive (+)")
    learning_rate_final: float = _option(0.0, "learning_rate at the end of a linear schedule (+)")
    desired_kl: float = _option(0.01, "what the adaptive schedule steers each step's KL divergence to (+)")
    learning_rate_min: float = _option(1e-5, "lower bound of the adaptive schedule (+)")
    learning_rate_max: float = _option(1e-2, "upper bound of the adaptive schedule (+)")
    adam_eps: float = _option(1e-5, "Adam's epsilon")
    normalize_observation: bool = _option(True, "normalize by the running mean and variance (norm_obs)")
    observation_clip: float = _option(10.0, "normalized observations are clipped to this (clip_obs)")
    reward_scale: float = _option(1.0, "rewards are multiplied by this before learning (+)")
    update_precision: str = _option(
        "tensorfloat32", "of matrix products while learning, on GPUs: tensorfloat32 (a CPU is exact) or float32 (+)"
    )
    symmetry: str = _option("none", "left-right symmetry: none, augmentation, loss or network (+)")
    symmetry_coef: float = _option(1.0, "weight of the loss with symmetry = loss (+)")

    def __post_init__(self) -> None:
        """Check every value."""
        check_finite(self, "max_grad_norm")
        _check_choices(self)
        for name in ("n_steps", "n_minibatches", "n_epochs"):
            _require(getattr(self, name) >= 1, self, name, "must be at least 1")
        _require(self.n_epochs <= MOST_EPOCHS, self, "n_epochs", f"must be at most {MOST_EPOCHS}")
        for name in ("gamma", "gae_lambda"):
            _require(0.0 <= getattr(self, name) <= 1.0, self, name, "must be between 0 and 1")
        for name in (
            "clip_range",
            "max_grad_norm",
            "adam_eps",
            "observation_clip",
            "desired_kl",
            "learning_rate",
        ):
            _require(getattr(self, name) > 0.0, self, name, "must be positive")
        for name in ("clip_range_vf", "target_kl"):
            given = getattr(self, name)
            _require(given is None or given > 0.0, self, name, "must be positive; None turns it off")
        for name in ("ent_coef", "vf_coef", "clip_range_final", "learning_rate_final", "symmetry_coef"):
            _require(getattr(self, name) >= 0.0, self, name, "must not be negative")
        _require(self.reward_scale > 0.0, self, "reward_scale", "must be positive")
        _require(self.batch_size is None or self.batch_size >= 1, self, "batch_size", "must be at least 1, or None")


class Trajectory(NamedTuple):
    """A finished rollout, time-major.

    Attributes:
        observation: group ("actor", and "critic" where it sees more) → [T, N, dim], raw.
        action: what `act` returned, [T, N, A]; before any clip or tanh.
        log_prob: what `act` returned, [T, N].
        reward: [T, N].
        terminated: bool, [T, N]: the episode ended by itself; nothing follows.
        truncated: bool, [T, N]: the episode was cut short, by a time limit for example.
        truncation_value: [T, N]: V of the episode's own last observation, before the reset. Read only where
            truncated and not terminated.
        last_observation: group → [N, dim], raw: what follows the last step (after a reset, if there was one).
    """

    observation: Observation
    action: Array
    log_prob: Array
    reward: Array
    terminated: Array
    truncated: Array
    truncation_value: Array
    last_observation: Observation


class LearnerState(NamedTuple):
    """Everything that learning needs to go on.

    Attributes:
        params: see `jaxloco.learning.networks`.
        opt_state: Adam's moments, of all parameters in one vector.
        learning_rate: float32 [], of the last step taken.
        normalizers: group → statistics; empty when observations are not normalized.
        key: uint32 [2], for the shuffles.
        n_updates: int32 [], epochs so far (as in Stable-Baselines3).
        progress_remaining: float32 [], from 1 at the start to 0 at the end; see `set_progress`.
    """

    params: Params
    opt_state: Any
    learning_rate: Array
    normalizers: dict[str, RunningStatistics]
    key: Array
    n_updates: Array
    progress_remaining: Array


class _Batch(NamedTuple):
    """Samples [B, ...]; observations normalized; `old`, for the adaptive rate, is the rollout's policy."""

    actor: Array
    critic: Array | None
    action: Array
    scalars: Array  # [B, 4]: log_prob, advantage (at _ADVANTAGE), return, value
    old: Gaussian | None


_ADVANTAGE = 1


class _Chosen(NamedTuple):
    """Which samples of a `_Batch` form a mini-batch, or a piece of one."""

    order: Array  # int32 [B]
    scalars: Array  # [B, 4]: of these samples, advantages normalized


class _Carry(NamedTuple):
    """What a mini-batch step changes."""

    params: Params
    opt_state: Any
    learning_rate: Array
    running: Array  # bool: target_kl has not been passed


class _Loop(NamedTuple):
    """What the steps of one update share: the static part, as a hashable value, and nothing traced."""

    config: PPOConfig
    networks: ActorCritic
    n_minibatches: int
    n_groups: int  # of robots on this device that are shuffled each by itself
    axis_name: str | None


def split_batch(config: PPOConfig, n_envs: int) -> tuple[int, int]:
    """Return (n_minibatches, batch_size) for `n_envs` robots.

    Raises:
        ConfigError: mini-batches of that size do not fill n_envs · n_steps samples.
    """
    samples = n_envs * config.n_steps
    name = "n_minibatches" if config.batch_size is None else "batch_size"
    given = config.n_minibatches if config.batch_size is None else config.batch_size
    if samples % given:
        divisors = [d for d in range(1, samples + 1) if samples % d == 0]
        nearest = min(divisors, key=lambda d: abs(d - given))
        raise ConfigError(
            f"{name} = {given} does not divide the {samples} samples of {n_envs} robots x {config.n_steps} "
            f"steps; write {name} = {nearest}"
        )
    n_minibatches = given if config.batch_size is None else samples // given
    batch_size = samples // n_minibatches
    if config.normalize_advantage and batch_size < 2:
        raise ConfigError(
            f"{name} = {given} leaves one sample per mini-batch, whose advantage cannot be normalized; "
            "use larger mini-batches or normalize_advantage = False"
        )
    return n_minibatches, batch_size


def shuffle_groups(config: PPOConfig, n_envs: int, n_devices: int = 1) -> int:
    """Return how many groups of robots are shuffled each by itself.

    That is the most of `GROUPS` that fill the mini-batches evenly, so that up to 8 devices learn the same as one; one
    group for each device where those cannot be shared out, as on 6 or 16.

    Raises:
        ConfigError: the robots cannot be shared out evenly among the devices.
    """
    n_minibatches, _ = split_batch(config, n_envs)

    def fill(groups: int) -> bool:
        return n_envs % groups == 0 and n_envs // groups * config.n_steps % n_minibatches == 0

    usual = next(groups for groups in GROUPS if fill(groups))
    if usual % n_devices == 0:
        return usual
    if fill(n_devices):
        return n_devices
    possible = [n for n in range(1, n_devices) if usual % n == 0 or fill(n)]
    raise ConfigError(
        f"{n_devices} devices cannot share {n_envs} robots x {config.n_steps} steps in {n_minibatches} mini-batches "
        f"evenly; use {possible[-1]}, or a number of robots that is a multiple of {n_devices}"
    )


def can_share(config: PPOConfig, n_envs: int, n_devices: int) -> bool:
    """Whether so many devices can share the robots and their mini-batches evenly."""
    try:
        return shuffle_groups(config, n_envs, n_devices) > 0
    except ConfigError:
        return False


def init_learner(
    key: Array, networks: ActorCritic, config: PPOConfig, observation_dims: Mapping[str, int]
) -> LearnerState:
    """Draw the initial state.

    Args:
        key: raw PRNG key, uint32 [2].
        networks: from `make_actor_critic`.
        config: options.
        observation_dims: observation group → size; "actor", and "critic" where the critic sees more.

    Raises:
        ConfigError: the groups are not those of the networks.
    """
    expected = {"actor": networks.actor_dim, _critic_group(observation_dims): networks.critic_dim}
    if dict(observation_dims) != expected:
        raise ConfigError(f"observation groups {dict(observation_dims)} do not fit the networks, which need {expected}")
    params_key, key = jax.random.split(key)
    params = networks.init(params_key)
    normalizers = {group: init_statistics(dim) for group, dim in observation_dims.items()}
    return LearnerState(
        params=params,
        opt_state=_optimizer(config).init(ravel_pytree(params)[0]),
        learning_rate=jnp.asarray(config.learning_rate, jnp.float32),
        normalizers=normalizers if config.normalize_observation else {},
        key=key,
        n_updates=jnp.zeros((), jnp.int32),
        progress_remaining=jnp.ones(()),
    )


def set_progress(state: LearnerState, progress_remaining: Array | float) -> LearnerState:
    """Tell the schedules where training stands: 1 - env_steps / total_env_steps, clipped to [0, 1]."""
    remaining = jnp.clip(jnp.asarray(progress_remaining, jnp.float32), 0.0, 1.0)
    return state._replace(progress_remaining=remaining)


def act(
    params: Params,
    normalizers: Mapping[str, RunningStatistics],
    observation: Observation,
    noise: Array,
    *,
    networks: ActorCritic,
    config: PPOConfig,
) -> tuple[Array, Array]:
    """Draw actions for raw observations; `noise` holds standard normal numbers, [..., A].

    Returns:
        The sample, [..., A], for the `Trajectory`; the environment gets `environment_action` of it. And its
        log-probability, [...].
    """
    policy = networks.policy(params, _normalized(normalizers, "actor", observation["actor"], config))
    action = distributions.sample(policy, noise)
    return action, _log_prob(policy, action, networks)


def environment_action(action: Array, *, networks: ActorCritic) -> Array:
    """Bring samples [..., A] into [-1, 1]: by tanh with `squash_output`, else by clipping."""
    return jnp.tanh(action) if networks.config.squash_output else jnp.clip(action, -1.0, 1.0)


def policy_mean(
    params: Params,
    normalizers: Mapping[str, RunningStatistics],
    observation: Observation,
    *,
    networks: ActorCritic,
    config: PPOConfig,
) -> Array:
    """The network's output for raw observations, [..., A]: the mean of the Gaussian, before clip or tanh."""
    return distributions.mode(networks.policy(params, _normalized(normalizers, "actor", observation["actor"], config)))


def act_deterministic(
    params: Params,
    normalizers: Mapping[str, RunningStatistics],
    observation: Observation,
    *,
    networks: ActorCritic,
    config: PPOConfig,
) -> Array:
    """The policy without its noise, as on the robot: actions in [-1, 1], [..., A], for raw observations."""
    mean = policy_mean(params, normalizers, observation, networks=networks, config=config)
    return environment_action(mean, networks=networks)


def value(
    params: Params,
    normalizers: Mapping[str, RunningStatistics],
    observation: Observation,
    *,
    networks: ActorCritic,
    config: PPOConfig,
) -> Array:
    """V, [...], of raw observations: of group "critic" if there is one, else of "actor"."""
    group = _critic_group(observation)
    return networks.value(params, _normalized(normalizers, group, observation[group], config))


def update(
    state: LearnerState,
    trajectory: Trajectory,
    *,
    config: PPOConfig,
    networks: ActorCritic,
    axis_name: str | None = None,
) -> tuple[LearnerState, Metrics]:
    """Learn from one rollout: n_epochs passes over shuffled mini-batches.

    The observation statistics that the rollout used stay fixed until the last step and are updated after it.
    To be compiled with `config` and `networks` static, or called from a compiled loop.

    On several devices each holds the trajectory of its share of the robots. Samples are shuffled within
    `shuffle_groups` of robots and every mini-batch takes the same share of each group, so the mini-batches are the
    same on any number of devices that divides the groups; gradients are averaged over the devices.

    Args:
        state: the learner, the same on every device.
        trajectory: the rollout it collected.
        config: options.
        networks: from `make_actor_critic`.
        axis_name: name of the mapped axis over devices; None on one.

    Returns:
        The next state, and float32 scalars under Stable-Baselines3's names (docs/learning.md explains each).

    Raises:
        ConfigError: the mini-batches do not fill the rollout, or there is no mirror for `config.symmetry`.
    """
    mirrors = _mirrors(config, networks)
    n_steps, n_envs = trajectory.reward.shape
    if n_steps != config.n_steps:
        raise ConfigError(f"the trajectory has {n_steps} steps, n_steps = {config.n_steps}")
    n_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    n_minibatches = split_batch(config, n_envs * n_devices)[0]
    groups = shuffle_groups(config, n_envs * n_devices, n_devices)
    loop = _Loop(config, networks, n_minibatches, groups // n_devices, axis_name)
    batch = _prepare(state, trajectory, config, networks)
    learning_rate = _scheduled_learning_rate(state, config)
    clip_range = _scheduled_clip_range(state, config)

    key, shuffle_key = jax.random.split(state.key)
    carry = _Carry(state.params, state.opt_state, learning_rate, jnp.asarray(True))
    epoch = partial(_epoch, batch=batch, clip_range=clip_range, loop=loop)
    orders = _minibatch_orders(shuffle_key, batch.action.shape[0], loop)
    with jax.default_matmul_precision(config.update_precision):
        carry, (logs, measured) = jax.lax.scan(epoch, carry, orders)
    logs, seen, spread = _over_devices(logs, trajectory.observation, batch, axis_name)

    epochs_begun = jnp.sum(jnp.any(measured, axis=1)).astype(jnp.int32)
    new_state = LearnerState(
        params=carry.params,
        opt_state=carry.opt_state,
        learning_rate=carry.learning_rate,
        normalizers=_updated_normalizers(state, seen, mirrors),
        key=key,
        n_updates=state.n_updates + epochs_begun,
        progress_remaining=state.progress_remaining,
    )
    return new_state, _metrics(new_state, logs, measured, spread, clip_range)


def _prepare(state: LearnerState, trajectory: Trajectory, config: PPOConfig, networks: ActorCritic) -> _Batch:
    """What the epochs read, computed once: normalized observations, values, advantages, returns."""
    group = _critic_group(trajectory.observation)
    seen = jnp.concatenate([trajectory.observation[group], trajectory.last_observation[group][None]])
    critic = networks.learner_observation(group, _normalized(state.normalizers, group, seen, config))
    params = networks.learner_params(state.params)
    values = networks.value(params, critic, learner=True)
    reward = trajectory.reward * config.reward_scale
    advantages, returns = gae(
        reward,
        values[:-1],
        values[-1],
        trajectory.terminated,
        trajectory.truncated,
        trajectory.truncation_value,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
    )
    shared = group == "actor"
    actor = critic[:-1]
    if not shared:
        actor = _normalized(state.normalizers, "actor", trajectory.observation["actor"], config)
        actor = networks.learner_observation("actor", actor)
    batch = _Batch(
        actor=actor,
        critic=None if shared else critic[:-1],
        action=trajectory.action,
        scalars=jnp.stack([trajectory.log_prob, advantages, returns, values[:-1]], axis=-1),
        old=None,
    )
    if config.symmetry == "augmentation":
        batch = _with_mirror_images(batch, _mirrors(config, networks))
    if config.learning_rate_schedule == "adaptive":
        batch = batch._replace(old=networks.policy(params, batch.actor, learner=True))
    return jax.tree.map(_robot_major, batch)


def _mirrors(config: PPOConfig, networks: ActorCritic) -> Symmetry | None:
    if config.symmetry != "none" and networks.symmetry is None:
        raise ConfigError(f"symmetry = {config.symmetry!r} needs networks with a mirror")
    return networks.symmetry if config.symmetry != "none" else None


def _with_mirror_images(batch: _Batch, mirrors: Symmetry | None) -> _Batch:
    """Add each sample's mirror image, [T, …] to [2T, …]; it is as good and was as likely as the sample itself."""
    assert mirrors is not None
    images = batch._replace(
        actor=mirrors.actor(batch.actor),
        critic=None if batch.critic is None else mirrors.critic(batch.critic),
        action=mirrors.action(batch.action),
    )
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), batch, images)


def _updated_normalizers(
    state: LearnerState, seen: Mapping[str, RunningStatistics], mirrors: Symmetry | None
) -> dict[str, RunningStatistics]:
    """Statistics with the rollout added; with a mirror, of both sides, so that it may mirror what is normalized."""
    updated = {}
    for group, statistics in state.normalizers.items():
        updated[group] = _merged(seen[group], statistics)
        if mirrors is not None:
            updated[group] = symmetrized(updated[group], mirrors.actor if group == "actor" else mirrors.critic)
    return updated


def _robot_major(x: Array) -> Array:
    """[T, N, dim] to [N T, dim], so that the samples of a group of robots stand together."""
    return jnp.swapaxes(x, 0, 1).reshape(-1, x.shape[-1])


def _epoch(carry: _Carry, order: Array, *, batch: _Batch, clip_range: Array, loop: _Loop) -> tuple[_Carry, Any]:
    """One pass over the samples; `order` [n_minibatches, batch_size] says which form each mini-batch."""
    scalars = batch.scalars[order]
    if loop.config.normalize_advantage:
        advantage = _normalized_advantage(scalars[..., _ADVANTAGE], loop.axis_name)
        scalars = scalars.at[..., _ADVANTAGE].set(advantage)
    minibatch = partial(_minibatch, batch=batch, clip_range=clip_range, loop=loop)
    return jax.lax.scan(minibatch, carry, _Chosen(order, scalars))


def _normalized_advantage(advantage: Array, axis_name: str | None) -> Array:
    """Zero mean and unit (sample) deviation in each mini-batch, [n_minibatches, batch_size]."""
    count = advantage.shape[1] * (1 if axis_name is None else jax.lax.axis_size(axis_name))
    centred = advantage - collectives.mean(jnp.mean(advantage, axis=1, keepdims=True), axis_name)
    variance = collectives.mean(jnp.mean(jnp.square(centred), axis=1, keepdims=True), axis_name) * (count / (count - 1))
    return centred / (jnp.sqrt(variance) + 1e-8)


def _minibatch_orders(key: Array, count: int, loop: _Loop) -> Array:
    """Which of this device's `count` samples form each mini-batch, [n_epochs, n_minibatches, batch_size].

    Each group of robots has a shuffle of its own, whichever device holds it.
    """
    groups, size = loop.n_groups, count // loop.n_groups
    first = 0 if loop.axis_name is None else jax.lax.axis_index(loop.axis_name) * groups
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(groups))
    orders = jax.vmap(lambda k: _shuffled_orders(k, loop.config.n_epochs, size))(keys)
    orders = orders.astype(jnp.int32) + (size * jnp.arange(groups, dtype=jnp.int32))[:, None, None]
    shares = orders.reshape(groups, loop.config.n_epochs, loop.n_minibatches, -1)
    return jnp.moveaxis(shares, 0, 2).reshape(loop.config.n_epochs, loop.n_minibatches, -1)


def _shuffled_orders(key: Array, n_epochs: int, count: int) -> Array:
    """A random order of `count` samples for each epoch, [n_epochs, count].

    Sorts words with the index in their low bits and chance in the high ones: one sort of one array, 12 times
    faster on a CPU than `jax.random.permutation` (8192 samples: 0.2 against 2.5 ms). Equal high bits keep two
    samples in order, which matters only at the edge of a mini-batch.
    """
    index_bits = (count - 1).bit_length()
    index = jnp.broadcast_to(jnp.arange(count, dtype=jnp.uint32), (n_epochs, count))
    if index_bits > MAX_INDEX_BITS:
        return jax.random.permutation(key, index, axis=1, independent=True)
    mask = jnp.uint32((1 << index_bits) - 1)
    words = (jax.random.bits(key, index.shape) & ~mask) | index
    return jnp.sort(words, axis=1) & mask


def _minibatch(
    carry: _Carry, chosen: _Chosen, *, batch: _Batch, clip_range: Array, loop: _Loop
) -> tuple[_Carry, tuple[Metrics, Array]]:
    """One gradient step, unless target_kl has stopped this update."""
    step = partial(_step, batch=batch, clip_range=clip_range, loop=loop)
    if loop.config.target_kl is None:
        new_carry, logs = step(carry, chosen)
    else:
        new_carry, logs = jax.lax.cond(carry.running, step, partial(_no_step, step), carry, chosen)
    return new_carry, (logs, carry.running)


def _no_step(step: Any, carry: _Carry, chosen: _Chosen) -> tuple[_Carry, Metrics]:
    logs = jax.eval_shape(step, carry, chosen)[1]
    return carry, jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), logs)


def _step(carry: _Carry, chosen: _Chosen, *, batch: _Batch, clip_range: Array, loop: _Loop) -> tuple[_Carry, Metrics]:
    """Gradient, clipped by its global norm, through Adam, times the learning rate."""
    config = loop.config
    loss = partial(_loss, clip_range=clip_range, config=config, networks=loop.networks)
    gradient, logs = _gradient(loss, carry.params, batch, chosen, loop.networks)
    gradient = loop.networks.symmetric(collectives.mean(gradient, loop.axis_name))
    vector, restore = ravel_pytree(gradient)  # a few long operations instead of many short ones
    norm = jnp.linalg.norm(vector)
    vector *= jnp.minimum(1.0, config.max_grad_norm / (norm + 1e-6))
    with jax.numpy_dtype_promotion("standard"):  # optax raises a float to an integer power
        vector, opt_state = _optimizer(config).update(vector, carry.opt_state)
    learning_rate = carry.learning_rate
    if config.learning_rate_schedule == "adaptive":
        learning_rate = _adapted_learning_rate(learning_rate, collectives.mean(logs["kl"], loop.axis_name), config)
    params = jax.tree.map(lambda p, d: p - learning_rate * d, carry.params, restore(vector))
    stepped = _Carry(params, opt_state, learning_rate, carry.running)
    if config.target_kl is not None:
        goes_on = collectives.mean(logs["approx_kl"], loop.axis_name) <= TARGET_KL_MARGIN * config.target_kl
        stepped = jax.tree.map(partial(jnp.where, goes_on), stepped, carry._replace(running=jnp.asarray(False)))
    return stepped, {**logs, "grad_norm": norm}


def _gradient(
    loss: Callable[[Params, _Batch], tuple[Array, Metrics]],
    params: Params,
    batch: _Batch,
    chosen: _Chosen,
    networks: ActorCritic,
) -> tuple[Params, Metrics]:
    """Gradient and logs of a mini-batch's loss, which takes the networks' `learner_params`."""
    known, pull_back = jax.vjp(networks.learner_params, params)
    differentiate = jax.grad(loss, has_aux=True)
    change, logs = _over_pieces(lambda some: differentiate(known, _taken(batch, some)), chosen, networks)
    return pull_back(change)[0], logs


def _over_pieces(
    compute: Callable[[_Chosen], tuple[Params, Metrics]], chosen: _Chosen, networks: ActorCritic
) -> tuple[Params, Metrics]:
    """Compute what is a mean over samples, on a CPU as the mean over pieces that a core's cache can hold."""
    count = _pieces(chosen.order.shape[0], networks) if jax.default_backend() == "cpu" else 1
    if count == 1:
        return compute(chosen)
    pieces = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), chosen)
    first = jax.tree.map(operator.itemgetter(0), pieces)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute, first))

    def add(total: tuple[Params, Metrics], piece: _Chosen) -> tuple[tuple[Params, Metrics], None]:
        return jax.tree.map(jnp.add, total, compute(piece)), None

    total, _ = jax.lax.scan(add, nothing, pieces)
    return jax.tree.map(lambda x: x / count, total)


def _taken(batch: _Batch, chosen: _Chosen) -> _Batch:
    """Gather samples just before they are used: a shuffled copy of all of them would pass through memory twice."""
    taken = jax.tree.map(lambda x: x.at[chosen.order].get(mode="promise_in_bounds"), batch)
    return cast(_Batch, taken)._replace(scalars=chosen.scalars)


def _pieces(samples: int, networks: ActorCritic) -> int:
    """Into how many equal pieces to cut so many samples, so that the activations of one are about 0.9 MB; or 1."""
    config = networks.config
    widths = sum(config.net_arch_pi) + sum(config.net_arch_vf)
    numbers = networks.actor_dim + networks.critic_dim + widths
    wanted = samples * numbers / CACHED_NUMBERS
    return next((n for n in range(math.ceil(wanted), math.ceil(4 * wanted)) if samples % n == 0), 1)


def _loss(
    params: Params, batch: _Batch, clip_range: Array, config: PPOConfig, networks: ActorCritic
) -> tuple[Array, Metrics]:
    """PPO's loss of one mini-batch, for `ActorCritic.learner_params`.

        L = -E[min(ρ A, clip(ρ, 1 ± ε) A)] - ent_coef E[H] + vf_coef E[(R - V)²],   ρ = π(u) / π_old(u)

    with V limited to V_old ± clip_range_vf where that is given (as Stable-Baselines3).
    """
    old_log_prob, advantage, returns, old_value = jnp.unstack(batch.scalars, axis=-1)
    policy = networks.policy(params, batch.actor, learner=True)
    log_ratio = _log_prob(policy, batch.action, networks) - old_log_prob
    ratio = jnp.exp(log_ratio)
    clipped_ratio = jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range)
    policy_loss = -jnp.mean(jnp.minimum(advantage * ratio, advantage * clipped_ratio))

    values = networks.value(params, batch.actor if batch.critic is None else batch.critic, learner=True)
    if config.clip_range_vf is not None:
        values = old_value + jnp.clip(values - old_value, -config.clip_range_vf, config.clip_range_vf)
    value_loss = jnp.mean(jnp.square(returns - values))
    entropy = distributions.entropy(policy, squash_output=networks.config.squash_output)
    entropy_loss = -jnp.mean(entropy)
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
        asymmetry = _asymmetry(params, batch, policy, networks)
        loss, logs["symmetry_loss"] = loss + config.symmetry_coef * asymmetry, asymmetry
    if batch.old is not None:
        logs["kl"] = jnp.mean(distributions.kl_divergence(batch.old, policy))
    return loss, logs


def _asymmetry(params: Params, batch: _Batch, policy: Gaussian, networks: ActorCritic) -> Array:
    """Mean squared difference between the action for the mirror image and the mirror image of the action.

    Source: Yu, Turk and Liu 2018, "Learning symmetric and low-energy locomotion", equation 3.
    """
    assert networks.symmetry is not None
    images = networks.policy(params, networks.symmetry.actor(batch.actor), learner=True)
    return jnp.mean(jnp.square(distributions.mode(images) - networks.symmetry.action(distributions.mode(policy))))


def _adapted_learning_rate(learning_rate: Array, kl: Array, config: PPOConfig) -> Array:
    """Steer the KL divergence from the rollout's policy to within a factor 2 of desired_kl.

    Source: rsl_rl, `algorithms/ppo.py`; before each step, from this mini-batch's divergence.
    """
    slower = jnp.maximum(learning_rate / ADAPTIVE_FACTOR, config.learning_rate_min)
    faster = jnp.minimum(learning_rate * ADAPTIVE_FACTOR, config.learning_rate_max)
    inside = jnp.where(kl < 0.5 * config.desired_kl, faster, learning_rate)
    return jnp.where(kl > 2.0 * config.desired_kl, slower, inside)


def _over_devices(
    logs: Metrics, observation: Observation, batch: _Batch, axis_name: str | None
) -> tuple[Metrics, dict[str, RunningStatistics], RunningStatistics]:
    """What all devices know together, in one exchange.

    Returns:
        Means of the logs; the statistics of each device's observations by group; those of returns and of what the
        critic's values leave unexplained, over all devices, [2].
    """
    _, _, returns, values = jnp.unstack(batch.scalars, axis=-1)
    seen = {group: batch_statistics(x) for group, x in observation.items()}
    explained = batch_statistics(jnp.stack([returns, returns - values], axis=-1))
    logs, seen, explained = collectives.gather((logs, seen, explained), axis_name)
    return jax.tree.map(lambda x: jnp.mean(x, axis=0), logs), seen, _merged(explained, init_statistics(2))


def _merged(shards: RunningStatistics, statistics: RunningStatistics) -> RunningStatistics:
    """Add the statistics of each device, leading axis over devices."""
    for shard in range(shards.n_samples.shape[0]):
        statistics = merge_statistics(statistics, jax.tree.map(operator.itemgetter(shard), shards))
    return statistics


def _metrics(
    state: LearnerState, logs: Metrics, measured: Array, spread: RunningStatistics, clip_range: Array
) -> Metrics:
    """Means over the mini-batches measured, [n_epochs, n_minibatches]; the KL's over the last epoch begun."""
    metrics = {f"train/{name}": _masked_mean(log, measured) for name, log in logs.items() if name != "kl"}
    last_epoch = jnp.sum(jnp.any(measured, axis=1)) - 1
    metrics["train/approx_kl"] = _masked_mean(logs["approx_kl"][last_epoch], measured[last_epoch])
    if "log_std" in state.params:
        metrics["train/std"] = jnp.mean(jnp.exp(state.params["log_std"]))
    variance, unexplained = spread.m2 / spread.n_samples
    explained = 1.0 - unexplained / jnp.where(variance > 0.0, variance, 1.0)
    metrics["train/explained_variance"] = jnp.where(variance > 0.0, explained, 0.0)
    metrics["train/learning_rate"] = state.learning_rate
    metrics["train/clip_range"] = clip_range
    metrics["train/n_updates"] = state.n_updates.astype(jnp.float32)
    return metrics


def _masked_mean(x: Array, mask: Array) -> Array:
    return jnp.sum(jnp.where(mask, x, 0.0)) / jnp.sum(mask.astype(x.dtype))


def _scheduled_learning_rate(state: LearnerState, config: PPOConfig) -> Array:
    if config.learning_rate_schedule == "adaptive":
        return state.learning_rate
    final = config.learning_rate
    if config.learning_rate_schedule == "linear":
        final = config.learning_rate_final
    return _linear(config.learning_rate, final, state.progress_remaining)


def _scheduled_clip_range(state: LearnerState, config: PPOConfig) -> Array:
    final = config.clip_range_final if config.clip_range_schedule == "linear" else config.clip_range
    return _linear(config.clip_range, final, state.progress_remaining)


def _linear(start: float, final: float, progress_remaining: Array) -> Array:
    return final + (start - final) * progress_remaining


def _optimizer(config: PPOConfig) -> optax.GradientTransformation:
    return optax.scale_by_adam(eps=config.adam_eps)


def _log_prob(policy: Gaussian, action: Array, networks: ActorCritic) -> Array:
    return distributions.log_prob(policy, action, squash_output=networks.config.squash_output)


def _critic_group(groups: Mapping[str, Any]) -> str:
    return "critic" if "critic" in groups else "actor"


def _normalized(
    normalizers: Mapping[str, RunningStatistics], group: str, observation: Array, config: PPOConfig
) -> Array:
    if group not in normalizers:
        return observation
    return normalize(normalizers[group], observation, config.observation_clip)


def _check_choices(config: PPOConfig) -> None:
    for name, known in (
        ("symmetry", SYMMETRY_MODES),
        ("learning_rate_schedule", LEARNING_RATE_SCHEDULES),
        ("clip_range_schedule", CLIP_RANGE_SCHEDULES),
        ("update_precision", PRECISIONS),
    ):
        if getattr(config, name) not in known:
            raise unknown_name(name, getattr(config, name), known)
    if config.learning_rate_schedule == "adaptive":
        fits = 0.0 < config.learning_rate_min <= config.learning_rate <= config.learning_rate_max
        bounds = f"{config.learning_rate_min} (learning_rate_min) and {config.learning_rate_max} (…_max)"
        _require(fits, config, "learning_rate", f"must lie between {bounds}")


def _require(holds: bool, config: PPOConfig, name: str, rule: str) -> None:
    if not holds:
        raise ConfigError(f"{name} = {getattr(config, name)} {rule}")
