"""Recurrent cells, each written once for NumPy and JAX.

A cell of H units has G gates. With x the inputs and h its last output, each gate has a part of `x @ input + bias` and
one of `h @ hidden`, (…, H) each; from these and from what it remembers, a cell makes what it remembers next.

A cell of your own is a subclass of `Cell` in a module that imports NumPy at most, and a policy's kind is then
module:NAME, in training (`--network.kind my_cells:Elman`) and in the bundle. A robot has to import the module before it
loads the bundle: nothing is imported because a bundle says so.
"""

import sys
from typing import Any, ClassVar

from jaxloco.errors import ConfigError, unknown_name
from jaxloco.onboard.convolutions import TCN

Gates = tuple[Any, ...]
"""One array (…, H) for each gate."""


class Cell:
    """A recurrent cell.

    Attributes:
        gates: Number of gates, G.
        remembered: How many arrays (…, H) it remembers: its output, and what else it needs. Zeros after a reset.
        hidden_bias: Whether the last gate's part of `h @ hidden` has a bias by itself, (H,).
        first_bias: Of each gate when training begins.
    """

    gates: ClassVar[int]
    remembered: ClassVar[int] = 1
    hidden_bias: ClassVar[bool] = False
    first_bias: ClassVar[tuple[float, ...]] = ()

    def step(self, xp: Any, x: Gates, h: Gates, carry: Gates) -> Gates:
        """Return the next carry, the output first.

        Args:
            xp: `numpy` or `jax.numpy`.
            x: The gates' parts of the input.
            h: The gates' parts of the last output.
            carry: What is remembered, the last output first.
        """
        raise NotImplementedError


class GRU(Cell):
    """A gated recurrent unit (Cho et al. 2014) with gates r, z and n, as in PyTorch and Flax.

    r = σ(x_r + h_r), z = σ(x_z + h_z), n = tanh(x_n + r h_n), h ← (1 - z) n + z h.
    """

    gates, hidden_bias = 3, True

    def step(self, xp: Any, x: Gates, h: Gates, carry: Gates) -> Gates:
        """See `Cell.step`."""
        reset, kept = sigmoid(xp, x[0] + h[0]), sigmoid(xp, x[1] + h[1])
        new = xp.tanh(x[2] + reset * h[2])
        return ((1.0 - kept) * new + kept * carry[0],)


class LSTM(Cell):
    """A long short-term memory (Hochreiter and Schmidhuber 1997) with gates i, f, g and o, as in PyTorch and Flax.

    c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c). At first it does not forget (Jozefowicz et al. 2015).
    """

    gates, remembered, first_bias = 4, 2, (0.0, 1.0, 0.0, 0.0)

    def step(self, xp: Any, x: Gates, h: Gates, carry: Gates) -> Gates:
        """See `Cell.step`."""
        i, f, g, o = (a + b for a, b in zip(x, h, strict=True))
        c = sigmoid(xp, f) * carry[1] + sigmoid(xp, i) * xp.tanh(g)
        return sigmoid(xp, o) * xp.tanh(c), c


def sigmoid(xp: Any, x: Any) -> Any:
    """1 / (1 + exp(-x)), in a form that neither overflows nor has a gradient that does."""
    return 0.5 * xp.tanh(0.5 * x) + 0.5


CELLS: dict[str, Cell] = {"gru": GRU(), "lstm": LSTM()}
"""Kinds of policies with a memory; others are module:NAME."""

MLP = "mlp"
"""The kind without a memory."""

PLAN = "plan"
"""The kind that follows a planned trajectory, and is no network."""

NETWORK_KINDS = (MLP, *CELLS, TCN)


def find_cell(kind: str) -> Cell | None:
    """Return the cell of a kind of policy; None for "mlp", "tcn" and "plan", which have none.

    Args:
        kind: One of `NETWORK_KINDS`, or module:NAME of a subclass of `Cell`; the module has been imported.

    Raises:
        ConfigError: There is no such cell; says what to write instead.
    """
    if kind in (MLP, TCN, PLAN):
        return None
    module, _, name = kind.partition(":")
    if not name:
        if kind not in CELLS:
            raise unknown_name("kind", kind, NETWORK_KINDS)
        return CELLS[kind]
    if module not in sys.modules:
        raise ConfigError(
            f"kind {kind!r} is a cell of your own: write `import {module}` before this policy is loaded, or --import "
            f"{module} on the command line"
        )
    found = getattr(sys.modules[module], name, None)
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise ConfigError(f"kind {kind!r}: {module} has no subclass of Cell of that name")
    return found()
