"""Gradients of mini-batches in pieces whose activations stay in the cache of a CPU's core."""

import math
import operator
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxloco.learning.networks import ENCODER, ActorCritic

T = TypeVar("T")

CACHED_NUMBERS = 220_000  # activations of a piece


def mean_over_pieces(compute: Callable[[T], Any], chosen: T, networks: ActorCritic, steps: int = 1) -> Any:
    """Compute what is a mean over samples, on a CPU as the mean over pieces that a core's cache can hold.

    Args:
        compute: The mean over what is chosen; a pytree.
        chosen: Arrays with a leading axis over items.
        networks: Whose activations take the memory.
        steps: Samples of each item.
    """
    items = jax.tree.leaves(chosen)[0].shape[0]
    count = pieces(items, networks, steps) if jax.default_backend() == "cpu" else 1
    if count == 1:
        return compute(chosen)
    parts = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), chosen)
    first = jax.tree.map(operator.itemgetter(0), parts)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(compute, first))

    def add(total: Any, piece: T) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, compute(piece)), None

    total, _ = jax.lax.scan(add, nothing, parts)
    return jax.tree.map(lambda x: x / count, total)


def pieces(items: int, networks: ActorCritic, steps: int = 1) -> int:
    """Into how many equal pieces to cut items of so many samples, so that the activations of one are about 0.9 MB.

    Sequences of a cell stay whole: it computes one step of all robots at a time, and with few of them waits for its
    weights.
    """
    config = networks.config
    if config.cell is not None:
        return 1
    widths = sum(config.net_arch_pi) + sum(config.net_arch_vf)
    memory = sum(layer.taps * layer.channels for layer in config.convolutions)
    memory += sum(config.encoder_arch) if config.kind == ENCODER else 0
    numbers = networks.actor_dim + networks.critic_dim + widths + memory
    wanted = items * steps * numbers / CACHED_NUMBERS
    return next((n for n in range(math.ceil(wanted), math.ceil(4 * wanted)) if items % n == 0), 1)
