"""Recurrent cells in training: parameters, one step, and the steps of a rollout. `jaxloco.onboard.cells` has the cells.

The carry is what a cell remembers: arrays (..., H), its output first. The parameters of a cell with G gates:

    {"input": (in, G H), "bias": (G H,), "hidden": (H, G H)}        gates side by side
    and of some cells "hidden_bias": (H,), that of the last gate

What a gate makes of the inputs needs no memory, so a sequence computes it for all steps in one product.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxloco.learning.perceptron import columns, columns_product
from jaxloco.onboard.cells import Cell

CellParams = dict[str, Array]
CellCarry = tuple[Any, ...]
"""What a policy remembers: arrays (..., H) of a cell, a `jaxloco.learning.temporal.Window`, or nothing."""


class Memory(NamedTuple):
    """What a memory needs to know of a rollout, (T, ...).

    Attributes:
        carry: At the first step, before any reset: arrays (N, H), or of a TCN its `past_frames`.
        started: Bool, (T, N): the observation is the first one of an episode.
    """

    carry: CellCarry
    started: Array


def init_cell(key: Array, cell: Cell, inputs: int, size: int) -> CellParams:
    """Draw a cell's parameters: orthogonal hidden kernels, gate by gate, and LeCun-normal input kernels, as Flax."""
    key_input, key_hidden = jax.random.split(key)
    orthogonal = jax.nn.initializers.orthogonal()
    hidden = [orthogonal(k, (size, size), jnp.float32) for k in jax.random.split(key_hidden, cell.gates)]
    params = {
        "input": jax.nn.initializers.lecun_normal()(key_input, (inputs, cell.gates * size), jnp.float32),
        "bias": jnp.repeat(jnp.asarray(cell.first_bias or (0.0,) * cell.gates, jnp.float32), size),
        "hidden": jnp.concatenate(hidden, axis=1),
    }
    return {**params, "hidden_bias": jnp.zeros(size)} if cell.hidden_bias else params


def zero_carry(cell: Cell, size: int) -> CellCarry:
    """The carry at the beginning of an episode: zeros, (H,) each."""
    return (jnp.zeros(size),) * cell.remembered


def cell_step(cell: Cell, params: CellParams, carry: CellCarry, x: Array) -> CellCarry:
    """One step: from carry (..., H) and input (..., in) to the next carry, whose first array is the output."""
    of_x = x @ params["input"] + _row(params["bias"], x)
    return _gates(cell, params, carry, of_x, carry[0] @ params["hidden"], axis=-1)


def cell_sequence(cell: Cell, params: CellParams, memory: Memory, x: Array) -> Array:
    """Outputs of T steps, (T, N, H), for inputs (T, N, in); where an episode starts, the carry is zero before.

    Samples stand in columns, as in `jaxloco.learning.perceptron`.
    """
    given = columns(params["input"], x.reshape(-1, x.shape[-1]), params["bias"])
    given = jnp.moveaxis(given.reshape(-1, *x.shape[:2]), 0, 1)

    def step(carry: CellCarry, inputs: tuple[Array, Array]) -> tuple[CellCarry, Array]:
        drive, started = inputs
        carry = jax.tree.map(lambda a: jnp.where(started[None], jnp.zeros_like(a), a), carry)
        carry = _gates(cell, params, carry, drive, columns_product(params["hidden"], carry[0]), axis=0)
        return carry, carry[0]

    first = jax.tree.map(jnp.transpose, memory.carry)
    return jnp.swapaxes(jax.lax.scan(step, first, (given, memory.started))[1], 1, 2)


def restarted(carry: CellCarry, started: Array) -> CellCarry:
    """The carry (N, H), zero where `started`, (N,)."""
    return jax.tree.map(lambda x: jnp.where(started[:, None], jnp.zeros_like(x), x), carry)


def _gates(cell: Cell, params: CellParams, carry: CellCarry, of_x: Array, of_h: Array, axis: int) -> CellCarry:
    """The next carry, from what inputs and memory say to the gates, side by side along an axis."""
    x, h = (tuple(jnp.split(a, cell.gates, axis=axis)) for a in (of_x, of_h))
    if cell.hidden_bias:
        bias = params["hidden_bias"]
        h = (*h[:-1], h[-1] + (bias[:, None] if axis == 0 else _row(bias, h[-1])))
    return cell.step(jnp, x, h, carry)


def _row(vector: Array, like: Array) -> Array:
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
