"""Mini-batches of a rollout: how large, in which order, and on which device.

Robots are shuffled in groups, each by itself, so that several devices form the same mini-batches as one. On a CPU one
sort of packed words is a faster shuffle than `jax.random.permutation`.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.checks import COUNT, Limits
from jaxloco.errors import ConfigError
from jaxloco.learning.algorithm import AlgorithmConfig, option

T = TypeVar("T")

MOST_EPOCHS = 10_000
MAX_INDEX_BITS = 20  # of the 32 in a shuffled word; the other 12 are chance
GROUPS = (8, 4, 2, 1)  # of robots, each shuffled by itself: training is the same on as many devices as divide them


@dataclass(frozen=True)
class MinibatchConfig(AlgorithmConfig):
    """Options of an algorithm that learns from each rollout in epochs of mini-batches."""

    n_minibatches: int = option(4, "mini-batches per epoch (+)", COUNT)
    batch_size: int | None = option(None, "samples per mini-batch; when given, replaces n_minibatches", COUNT)
    n_epochs: int = option(4, "passes over each rollout", Limits(at_least=1, at_most=MOST_EPOCHS))

    @property
    def epochs(self) -> int:
        """Epochs of an update."""
        return self.n_epochs

    def check_robots(self, n_envs: int, n_devices: int = 1, *, recurrent: bool = False) -> None:
        """Check that so many robots fill the mini-batches, on so many devices; a memory's hold robots, not samples."""
        n_minibatches = self.split_batch(n_envs)[0]
        if recurrent and n_envs % n_minibatches:
            raise ConfigError(
                f"n_minibatches = {n_minibatches}: a recurrent actor learns from whole sequences of robots, of which "
                f"{n_envs} cannot be shared out evenly; write {math.gcd(n_envs, n_minibatches)}"
            )
        shuffle_groups(n_envs, 1 if recurrent else self.n_steps, n_minibatches, n_devices)

    def split_batch(self, n_envs: int) -> tuple[int, int]:
        """Return (n_minibatches, batch_size) for `n_envs` robots; batch_size counts where it is given.

        Raises:
            ConfigError: mini-batches of that size do not fill n_envs · n_steps samples, or leave one sample each, whose
                advantage cannot be normalized.
        """
        samples = n_envs * self.n_steps
        name = "n_minibatches" if self.batch_size is None else "batch_size"
        given = getattr(self, name)
        if samples % given:
            divisors = [d for d in range(1, samples + 1) if samples % d == 0]
            nearest = min(divisors, key=lambda d: abs(d - given))
            raise ConfigError(
                f"{name} = {given} does not divide the {samples} samples of {n_envs} robots x {self.n_steps} "
                f"steps; write {name} = {nearest}"
            )
        n_minibatches = given if self.batch_size is None else samples // given
        if samples // n_minibatches < 2 and getattr(self, "normalize_advantage", False):
            raise ConfigError(
                f"{name} = {given} leaves one sample per mini-batch, whose advantage cannot be normalized; "
                "use larger mini-batches or normalize_advantage = False"
            )
        return n_minibatches, samples // n_minibatches

    def shares(self, n_envs: int, n_steps: int, axis_name: str | None) -> tuple[int, int]:
        """Return the mini-batches of an epoch, and how many of its `n_envs` robots' groups a device shuffles.

        Raises:
            ConfigError: as `split_batch` and `shuffle_groups` do.
        """
        n_devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
        n_minibatches = self.split_batch(n_envs * n_devices)[0]
        return n_minibatches, shuffle_groups(n_envs * n_devices, n_steps, n_minibatches, n_devices) // n_devices


def shuffle_groups(n_envs: int, n_steps: int, n_minibatches: int, n_devices: int = 1) -> int:
    """Return how many groups of robots are shuffled each by itself.

    That is the most of `GROUPS` that fill the mini-batches evenly, so that up to 8 devices learn the same as one; one
    group for each device where those cannot be shared out, as on 6 or 16.

    Raises:
        ConfigError: the robots cannot be shared out evenly among the devices.
    """

    def fill(groups: int) -> bool:
        return n_envs % groups == 0 and n_envs // groups * n_steps % n_minibatches == 0

    usual = next(groups for groups in GROUPS if fill(groups))
    if usual % n_devices == 0:
        return usual
    if fill(n_devices):
        return n_devices
    possible = [n for n in range(1, n_devices) if usual % n == 0 or fill(n)]
    raise ConfigError(
        f"{n_devices} devices cannot share {n_envs} robots x {n_steps} steps in {n_minibatches} mini-batches "
        f"evenly; use {possible[-1]}, or a number of robots that is a multiple of {n_devices}"
    )


def minibatch_orders(
    key: Array, count: int, n_epochs: int, n_minibatches: int, n_groups: int, axis_name: str | None
) -> Array:
    """Which of this device's `count` samples form each mini-batch, (n_epochs, n_minibatches, batch_size).

    Each of the device's `n_groups` of robots has a shuffle of its own, whichever device holds it.
    """
    size = count // n_groups
    first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * n_groups
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(n_groups))
    orders = jax.vmap(lambda k: shuffled_orders(k, n_epochs, size))(keys)
    orders = orders.astype(jnp.int32) + (size * jnp.arange(n_groups, dtype=jnp.int32))[:, None, None]
    shares = orders.reshape(n_groups, n_epochs, n_minibatches, -1)
    return jnp.moveaxis(shares, 0, 2).reshape(n_epochs, n_minibatches, -1)


def shuffled_orders(key: Array, n_epochs: int, count: int) -> Array:
    """A random order of `count` samples for each epoch, (n_epochs, count).

    Sorts words with the index in their low bits and chance in the high ones: one sort of one array. Equal high bits
    keep two samples in order, which matters only at the edge of a mini-batch.
    """
    index_bits = (count - 1).bit_length()
    index = jnp.broadcast_to(jnp.arange(count, dtype=jnp.uint32), (n_epochs, count))
    if index_bits > MAX_INDEX_BITS:
        return jax.random.permutation(key, index, axis=1, independent=True)
    mask = jnp.uint32((1 << index_bits) - 1)
    words = (jax.random.bits(key, index.shape) & ~mask) | index
    return jnp.sort(words, axis=1) & mask


def taken(batch: T, order: Array) -> T:
    """Gather samples just before they are used: a shuffled copy of all of them would pass through memory twice."""
    return jax.tree.map(lambda x: x.at[order].get(mode="promise_in_bounds"), batch)
