"""A small network in NumPy, fast enough for a control loop: everything is allocated once.

A layer is one matrix product: its bias is a row of the matrix, and its input ends with a constant 1. What a recurrent
cell computes: `jaxloco.onboard.spec.CellSpec`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from jaxloco.onboard.spec import CellSpec, NetworkSpec
from jaxloco.onboard.uncopied import Uncopied

Operation = Callable[[], None]
"""Changes, in place, the array that it was made for."""


def _elu(x: np.ndarray) -> Operation:
    negative, zeros = np.empty_like(x), np.zeros_like(x)

    def run() -> None:
        # expm1(min(x, 0)) is 0 where x > 0, and never below x where x <= 0.
        np.minimum(x, zeros, out=negative)
        np.expm1(negative, negative)
        np.maximum(x, negative, out=x)

    return run


def _gelu(x: np.ndarray) -> Operation:
    inner = np.empty_like(x)
    factor, root = np.float32(0.044715), np.float32(np.sqrt(2.0 / np.pi))
    one, half = np.float32(1.0), np.float32(0.5)

    def run() -> None:
        np.multiply(x, x, inner)
        np.multiply(inner, factor, inner)
        np.add(inner, one, inner)
        np.multiply(inner, x, inner)
        np.multiply(inner, root, inner)
        np.tanh(inner, inner)
        np.add(inner, one, inner)
        np.multiply(inner, half, inner)
        np.multiply(x, inner, x)

    return run


def _leaky_relu(x: np.ndarray) -> Operation:
    scaled, slope = np.empty_like(x), np.float32(0.01)

    def run() -> None:
        np.multiply(x, slope, scaled)
        np.maximum(x, scaled, out=x)

    return run


def _relu(x: np.ndarray) -> Operation:
    zeros = np.zeros_like(x)

    def run() -> None:
        np.maximum(x, zeros, out=x)

    return run


def _logistic(x: np.ndarray, out: np.ndarray) -> Operation:
    # exp(80) is still a float32, so that nothing overflows; 1 / (1 + exp(80)) is 2e-35.
    limit, one = np.full_like(x, 80.0), np.float32(1.0)

    def run() -> None:
        np.negative(x, out)
        np.minimum(out, limit, out=out)
        np.exp(out, out)
        np.add(out, one, out)
        np.reciprocal(out, out)

    return run


def _sigmoid(x: np.ndarray) -> Operation:
    return _logistic(x, x)


def _swish(x: np.ndarray) -> Operation:
    gate = np.empty_like(x)
    logistic = _logistic(x, gate)

    def run() -> None:
        logistic()
        np.multiply(x, gate, x)

    return run


def _softplus(x: np.ndarray) -> Operation:
    zeros = np.zeros_like(x)

    def run() -> None:
        np.logaddexp(x, zeros, x)

    return run


def _tanh(x: np.ndarray) -> Operation:
    def run() -> None:
        np.tanh(x, x)

    return run


_MAKERS: dict[str, Callable[[np.ndarray], Operation] | None] = {
    "elu": _elu,
    "gelu": _gelu,
    "identity": None,
    "leaky_relu": _leaky_relu,
    "relu": _relu,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "swish": _swish,
    "tanh": _tanh,
}


class Mlp(Uncopied):
    """A multi-layer perceptron for one observation at a time.

    Write the observation to `input`, call `run()`, read `output`; both arrays stay the same ones.

    Args:
        layers: Pairs of a kernel, shape (inputs, outputs), and a bias, shape (outputs,), float32.
        activation: Name of the function between the layers, one of `spec.ACTIVATIONS`, as in `flax.linen`.
    """

    def __init__(self, layers: Sequence[tuple[np.ndarray, np.ndarray]], activation: str):
        buffer = np.ones(layers[0][0].shape[0] + 1, np.float32)
        self.input = buffer[:-1]
        self._products: list[tuple[Callable[..., np.ndarray], np.ndarray, np.ndarray]] = []
        self._activations: list[Operation | None] = []
        for i, (kernel, bias) in enumerate(layers):
            matrix = np.ascontiguousarray(np.vstack([kernel, bias[None, :]]), dtype=np.float32)
            following = np.ones(matrix.shape[1] + 1, np.float32)
            values = following[:-1]
            maker = _MAKERS[activation] if i < len(layers) - 1 else None
            self._products.append((buffer.dot, matrix, values))
            self._activations.append(maker(values) if maker else None)
            buffer = following
        self.output = buffer[:-1]
        self._steps = list(zip(self._products, self._activations, strict=True))

    def reset(self) -> None:
        """Forget everything: nothing here."""

    def run(self) -> np.ndarray:
        """Compute `output` from `input`.

        Returns:
            `output`, shape (outputs of the last layer,); the next call overwrites it.
        """
        for (product, matrix, values), activation in self._steps:
            product(matrix, values)
            if activation is not None:
                activation()
        return self.output


class _Products:
    """Inputs and outputs of a cell, each with a constant 1 at its end, and what gates make of them."""

    def __init__(self, cell: CellSpec, arrays: Mapping[str, np.ndarray]):
        rows, gates = arrays[cell.input].shape
        size = arrays[cell.hidden].shape[0]
        hidden_bias = np.zeros(gates, np.float32)
        if cell.hidden_bias is not None:
            hidden_bias[-size:] = arrays[cell.hidden_bias]
        self._x, self._h = np.ones(rows + 1, np.float32), np.ones(size + 1, np.float32)
        self._input, self._hidden = (
            np.ascontiguousarray(np.vstack([kernel, bias]), dtype=np.float32)
            for kernel, bias in ((arrays[cell.input], arrays[cell.bias]), (arrays[cell.hidden], hidden_bias))
        )
        self._h[:-1] = 0.0
        self.size, self.x, self.h = size, self._x[:-1], self._h[:-1]
        self.of_x, self.of_h = np.zeros(gates, np.float32), np.zeros(gates, np.float32)

    def run(self) -> None:
        """Compute both products."""
        self._x.dot(self._input, self.of_x)
        self._h.dot(self._hidden, self.of_h)


def _gru_cell(products: _Products) -> tuple[Operation, Operation]:
    """Return a step of a gated recurrent unit, and its reset."""
    a, b, h, size = products.of_x, products.of_h, products.h, products.size
    gates, new, added = a[: 2 * size], a[2 * size :], b[2 * size :]
    reset_gate, update_gate = gates[:size], gates[size:]
    logistic = _logistic(gates, gates)

    def run() -> None:
        products.run()
        np.add(gates, b[: 2 * size], gates)
        logistic()
        np.multiply(reset_gate, added, added)
        np.add(new, added, new)
        np.tanh(new, new)
        np.subtract(h, new, h)  # h ← n + z (h - n)
        np.multiply(h, update_gate, h)
        np.add(h, new, h)

    return run, lambda: h.fill(0.0)


def _lstm_cell(products: _Products) -> tuple[Operation, Operation]:
    """Return a step of a long short-term memory, and its reset."""
    a, h, size = products.of_x, products.h, products.size
    c, squashed = np.zeros(size, np.float32), np.zeros(size, np.float32)
    in_gate, forget_gate, new, out_gate = (a[i * size : (i + 1) * size] for i in range(4))
    logistics = [_logistic(part, part) for part in (a[: 2 * size], out_gate)]

    def run() -> None:
        products.run()
        np.add(a, products.of_h, a)
        for logistic in logistics:
            logistic()
        np.tanh(new, new)
        np.multiply(in_gate, new, new)
        np.multiply(forget_gate, c, c)
        np.add(c, new, c)
        np.tanh(c, squashed)
        np.multiply(out_gate, squashed, h)

    def reset() -> None:
        h.fill(0.0)
        c.fill(0.0)

    return run, reset


class Recurrent(Uncopied):
    """A recurrent cell with a perceptron on it, used as `Mlp` is; it remembers until `reset()`.

    Args:
        kind: Of the cell: "gru" or "lstm".
        cell: Names of its arrays.
        head: Reads its outputs.
        arrays: By name, float32.
    """

    def __init__(self, kind: str, cell: CellSpec, head: Mlp, arrays: Mapping[str, np.ndarray]):
        products = _Products(cell, arrays)
        self.input, self._outputs, self._head = products.x, products.h, head
        self._step, self._reset = (_gru_cell if kind == "gru" else _lstm_cell)(products)
        self.output = head.output

    def reset(self) -> None:
        """Forget everything."""
        self._reset()

    def run(self) -> np.ndarray:
        """Compute `output` from `input` and what is remembered; the next call overwrites it."""
        self._step()
        self._head.input[...] = self._outputs
        return self._head.run()


def make_network(spec: NetworkSpec, arrays: Mapping[str, np.ndarray]) -> Mlp | Recurrent:
    """Return the network that a bundle describes."""
    mlp = Mlp([(arrays[layer.kernel], arrays[layer.bias]) for layer in spec.layers], spec.activation)
    return mlp if spec.cell is None else Recurrent(spec.kind, spec.cell, mlp, arrays)
