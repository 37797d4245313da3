"""Recurrent cells: a gated recurrent unit (Cho et al. 2014) and a long short-term memory (Hochreiter 1997).

Both as in PyTorch and Flax, so that the carry is h, [..., H], and of an LSTM c too. The parameters of a cell:

    {"input": [in, G H], "bias": [G H], "hidden": [H, G H]}        gates side by side: GRU r, z, n; LSTM i, f, g, o
    and of a GRU "hidden_bias": [H], that of n

What a gate makes of the inputs needs no memory, so a sequence computes it for all steps in one product.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

GATES = {"gru": 3, "lstm": 4}
"""Kind of a cell → how many gates it has."""

FORGET_BIAS = 1.0
"""Of an LSTM at first, so that it does not forget (Jozefowicz et al. 2015)."""

CellParams = dict[str, Array]
CellCarry = tuple[Array, ...]


class Memory(NamedTuple):
    """What a memory needs to know of a rollout, [T, ...].

    Attributes:
        carry: at the first step, before any reset; arrays [N, H].
        started: bool, [T, N]: the observation is the first one of an episode.
    """

    carry: CellCarry
    started: Array


def init_cell(key: Array, kind: str, inputs: int, size: int) -> CellParams:
    """Draw a cell's parameters: orthogonal hidden kernels, gate by gate, and LeCun-normal input kernels, as Flax."""
    key_input, key_hidden = jax.random.split(key)
    gates = GATES[kind]
    orthogonal = jax.nn.initializers.orthogonal()
    hidden = [orthogonal(k, (size, size), jnp.float32) for k in jax.random.split(key_hidden, gates)]
    bias = jnp.zeros((gates, size))
    if kind == "lstm":
        bias = bias.at[1].set(FORGET_BIAS)
    params = {
        "input": jax.nn.initializers.lecun_normal()(key_input, (inputs, gates * size), jnp.float32),
        "bias": bias.ravel(),
        "hidden": jnp.concatenate(hidden, axis=1),
    }
    return {**params, "hidden_bias": jnp.zeros(size)} if kind == "gru" else params


def zero_carry(kind: str, size: int) -> CellCarry:
    """The carry at the beginning of an episode: zeros, [H] each."""
    return (jnp.zeros(size),) * (2 if kind == "lstm" else 1)


def cell_step(kind: str, params: CellParams, carry: CellCarry, x: Array) -> CellCarry:
    """One step: from carry [..., H] and input [..., in] to the next carry, whose first array is the output."""
    return _gates(kind, params, carry, x @ params["input"] + _row(params["bias"], x))


def cell_sequence(kind: str, params: CellParams, memory: Memory, x: Array) -> Array:
    """Outputs of T steps, [T, N, H], for inputs [T, N, in]; where an episode starts, the carry is zero before."""
    given = x @ params["input"] + _row(params["bias"], x)

    def step(carry: CellCarry, inputs: tuple[Array, Array]) -> tuple[CellCarry, Array]:
        drive, started = inputs
        carry = _gates(kind, params, restarted(carry, started), drive)
        return carry, carry[0]

    return jax.lax.scan(step, memory.carry, (given, memory.started))[1]


def restarted(carry: CellCarry, started: Array) -> CellCarry:
    """The carry [N, H], zero where `started`, [N]."""
    return jax.tree.map(lambda x: jnp.where(started[:, None], jnp.zeros_like(x), x), carry)


def _gates(kind: str, params: CellParams, carry: CellCarry, drive: Array) -> CellCarry:
    return _gru(params, carry, drive) if kind == "gru" else _lstm(params, carry, drive)


def _gru(params: CellParams, carry: CellCarry, drive: Array) -> CellCarry:
    """R = σ(x_r + h_r), z = σ(x_z + h_z), n = tanh(x_n + r (h_n + b)), h' = (1 - z) n + z h."""
    (h,) = carry
    x_r, x_z, x_n = jnp.split(drive, 3, axis=-1)
    h_r, h_z, h_n = jnp.split(h @ params["hidden"], 3, axis=-1)
    reset, update = jax.nn.sigmoid(x_r + h_r), jax.nn.sigmoid(x_z + h_z)
    new = jnp.tanh(x_n + reset * (h_n + _row(params["hidden_bias"], h)))
    return ((1.0 - update) * new + update * h,)


def _lstm(params: CellParams, carry: CellCarry, drive: Array) -> CellCarry:
    """C' = σ(f) c + σ(i) tanh(g), h' = σ(o) tanh(c')."""
    h, c = carry
    i, f, g, o = jnp.split(drive + h @ params["hidden"], 4, axis=-1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(c), c


def _row(vector: Array, like: Array) -> Array:
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))
