"""A small network in NumPy, fast enough for a control loop: everything is allocated once.

A layer is one matrix product: its bias is a row of the matrix, and its input ends with a constant 1.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxloco.onboard.cells import Cell, find_cell
from jaxloco.onboard.spec import CellSpec, ConvolutionSpec, NetworkSpec, PlanSpec
from jaxloco.onboard.uncopied import Uncopied

Activation = Callable[[np.ndarray, np.ndarray, np.ndarray], object]
"""Changes its first argument in place; the others, of the same shape, are memory for what lies between, and zeros."""


def _elu(x: np.ndarray, work: np.ndarray, zeros: np.ndarray) -> None:
    # expm1(min(x, 0)) is 0 where x > 0, and never below x where x <= 0.
    np.minimum(x, zeros, out=work)
    np.expm1(work, work)
    np.maximum(x, work, out=x)


_ONE, _HALF, _SLOPE = np.float32(1.0), np.float32(0.5), np.float32(0.01)
_CUBIC, _ROOT = np.float32(0.044715), np.float32(np.sqrt(2.0 / np.pi))


def _gelu(x: np.ndarray, work: np.ndarray, zeros: np.ndarray) -> None:
    np.multiply(x, x, work)
    np.multiply(work, _CUBIC, work)
    np.add(work, _ONE, work)
    np.multiply(work, x, work)
    np.multiply(work, _ROOT, work)
    np.tanh(work, work)
    np.add(work, _ONE, work)
    np.multiply(work, _HALF, work)
    np.multiply(x, work, x)


def _leaky_relu(x: np.ndarray, work: np.ndarray, zeros: np.ndarray) -> None:
    np.multiply(x, _SLOPE, work)
    np.maximum(x, work, out=x)


_LIMIT = np.float32(80.0)
"""exp(80) is still a float32, so that nothing overflows; 1 / (1 + exp(80)) is 2e-35."""


def _logistic(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.negative(x, out)
    np.minimum(out, _LIMIT, out=out)
    np.exp(out, out)
    np.add(out, _ONE, out)
    return np.reciprocal(out, out)


_ACTIVATIONS: dict[str, Activation | None] = {
    "elu": _elu,
    "gelu": _gelu,
    "identity": None,
    "leaky_relu": _leaky_relu,
    "relu": lambda x, work, zeros: np.maximum(x, zeros, out=x),
    "sigmoid": lambda x, work, zeros: _logistic(x, x),
    "softplus": lambda x, work, zeros: np.logaddexp(x, zeros, x),
    "swish": lambda x, work, zeros: np.multiply(x, _logistic(x, work), x),
    "tanh": lambda x, work, zeros: np.tanh(x, x),
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
        self._steps: list[tuple[Callable[..., np.ndarray], np.ndarray, np.ndarray, Activation | None, Any]] = []
        for i, (kernel, bias) in enumerate(layers):
            matrix = _with_bias(kernel, bias)
            following = np.ones(matrix.shape[1] + 1, np.float32)
            values = following[:-1]
            function = _ACTIVATIONS[activation] if i < len(layers) - 1 else None
            self._steps.append((buffer.dot, matrix, values, function, (np.empty_like(values), np.zeros_like(values))))
            buffer = following
        self.output = buffer[:-1]

    def reset(self) -> None:
        """Clear the memory: there is none."""

    def run(self) -> np.ndarray:
        """Compute `output` from `input`.

        Returns:
            `output`, shape (outputs of the last layer,); the next call overwrites it.
        """
        for product, matrix, values, activation, (work, zeros) in self._steps:
            product(matrix, values)
            if activation is not None:
                activation(values, work, zeros)
        return self.output


class Recurrent(Uncopied):
    """A recurrent cell with a perceptron on it, used as `Mlp` is; it keeps its memory until `reset()`.

    Args:
        cell: What it does; see `jaxloco.onboard.cells`.
        names: Of the cell's arrays.
        head: Reads its outputs.
        arrays: By name, float32.
    """

    def __init__(self, cell: Cell, names: CellSpec, head: Mlp, arrays: Mapping[str, np.ndarray]):
        size, columns = arrays[names.hidden].shape
        hidden_bias = np.zeros(columns, np.float32)
        if names.hidden_bias is not None:
            hidden_bias[-size:] = arrays[names.hidden_bias]
        of_x = _with_bias(arrays[names.input], arrays[names.bias])
        of_h = _with_bias(arrays[names.hidden], hidden_bias)
        x, h = np.ones(len(of_x), np.float32), np.ones(len(of_h), np.float32)
        drive, recurrent = np.zeros(columns, np.float32), np.zeros(columns, np.float32)
        self._products = [(x.dot, of_x, drive), (h.dot, of_h, recurrent)]
        self._gates = [tuple(part.reshape(cell.gates, size)) for part in (drive, recurrent)]
        self._carry = (h[:-1], *np.zeros((cell.remembered - 1, size), np.float32))
        self._step, self._head = cell.step, head
        self.input, self.output = x[:-1], head.output
        self.reset()

    def reset(self) -> None:
        """Clear the memory."""
        for part in self._carry:
            part.fill(0.0)

    def run(self) -> np.ndarray:
        """Compute `output` from `input` and what is remembered; the next call overwrites it."""
        for product, matrix, values in self._products:
            product(matrix, values)
        of_x, of_h = self._gates
        for part, after in zip(self._carry, self._step(np, of_x, of_h, self._carry), strict=True):
            part[...] = after
        self._head.input[...] = self._carry[0]
        return self._head.run()


class _Past:
    """The last signals that one convolution reads, and its product with them.

    Every signal is written twice, as many places apart as are kept, so that they always stand in order somewhere.
    """

    def __init__(self, kernel: np.ndarray, bias: np.ndarray, spacing: int):
        taps, inputs, outputs = kernel.shape
        kept = (taps - 1) * spacing + 1
        self.rows = np.zeros((2, kept, inputs), np.float32)
        flat = self.rows.reshape(2 * kept, inputs)
        self._slots = [self.rows[:, i] for i in range(kept)]
        self._windows = [flat[i + 1 :][:kept:spacing] for i in range(kept)]
        matrix = _with_bias(kernel.reshape(taps * inputs, outputs), bias)
        buffer = np.ones(len(matrix), np.float32)
        self._taps, self._product, self._matrix = buffer[:-1].reshape(taps, inputs), buffer.dot, matrix
        self._next = 0

    def fill(self, signal: np.ndarray) -> None:
        """Put a signal in the place of all."""
        self.rows[...] = signal
        self._taps[...] = signal
        self._next = 0

    def push(self, signal: np.ndarray, out: np.ndarray) -> None:
        """Add a signal, and write the outputs."""
        i = self._next
        self._slots[i][...] = signal
        self._taps[...] = self._windows[i]
        self._next = i + 1 if i + 1 < len(self._slots) else 0
        self._product(self._matrix, out)

    def again(self, out: np.ndarray) -> None:
        """Write the outputs for the signals that are there."""
        self._product(self._matrix, out)


class Temporal(Uncopied):
    """Convolutions over time with a perceptron on them and on the observation, used as `Mlp` is, until `reset()`.

    A step computes each layer once. Before the first observation, all were zero.

    Args:
        layers: First to last.
        activation: Of each layer, as in `Mlp`.
        head: Reads the last layer's outputs, and behind them the observation.
        arrays: By name, float32.
    """

    def __init__(self, layers: Sequence[ConvolutionSpec], activation: str, head: Mlp, arrays: Mapping[str, np.ndarray]):
        inputs = arrays[layers[0].kernel].shape[1]
        self.input, self.output = np.zeros(inputs, np.float32), head.output
        self._head, self._function = head, _ACTIVATIONS[activation]
        self._layers: list[tuple[_Past, np.ndarray, tuple[np.ndarray, np.ndarray]]] = []
        for layer in layers:
            past = _Past(arrays[layer.kernel], arrays[layer.bias], layer.spacing)
            values = np.zeros_like(arrays[layer.bias])
            self._layers.append((past, values, (np.empty_like(values), np.zeros_like(values))))
        self._rests = self._at_rest()
        self.reset()

    def _at_rest(self) -> list[np.ndarray]:
        """Return what each layer reads where nothing but zeros has been seen."""
        rests, signal = [], np.zeros_like(self.input)
        for past, values, memory in self._layers:
            rests.append(signal.copy())
            past.fill(signal)
            past.again(values)
            self._activate(values, memory)
            signal = values
        return rests

    def _activate(self, values: np.ndarray, memory: tuple[np.ndarray, np.ndarray]) -> None:
        if self._function is not None:
            self._function(values, *memory)

    def reset(self) -> None:
        """Clear the memory."""
        for (past, _, _), rest in zip(self._layers, self._rests, strict=True):
            past.fill(rest)

    def run(self) -> np.ndarray:
        """Compute `output` from `input` and what is remembered; the next call overwrites it."""
        signal = self.input
        for past, values, memory in self._layers:
            past.push(signal, values)
            self._activate(values, memory)
            signal = values
        seen = self._head.input
        seen[: len(signal)], seen[len(signal) :] = signal, self.input
        return self._head.run()


class Planned(Uncopied):
    """Follows a planned trajectory with its feedback, used as `Mlp` is; it counts steps until `reset()`.

    Args:
        plan: Names of the arrays.
        arrays: By name, float32.
    """

    def __init__(self, plan: PlanSpec, arrays: Mapping[str, np.ndarray]):
        rows = zip(*(arrays[name] for name in (plan.states, plan.controls, plan.gains)), strict=True)
        self._rows, self._next = list(rows), 0
        self.input = np.zeros(arrays[plan.states].shape[1], np.float32)
        self._away, self.output = np.zeros_like(self.input), np.zeros(arrays[plan.controls].shape[1], np.float32)

    def reset(self) -> None:
        """Begin the plan anew."""
        self._next = 0

    def run(self) -> np.ndarray:
        """Compute `output` from `input` and the row of this step; the next call overwrites it."""
        state, control, gain = self._rows[self._next]
        np.subtract(self.input, state, self._away)
        np.dot(gain, self._away, self.output)
        np.add(self.output, control, self.output)
        self._next = min(self._next + 1, len(self._rows) - 1)
        return self.output


def _with_bias(kernel: np.ndarray, bias: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.vstack([kernel, bias[None, :]]), dtype=np.float32)


def make_network(spec: NetworkSpec, arrays: Mapping[str, np.ndarray]) -> Mlp | Recurrent | Temporal | Planned:
    """Return the network that a bundle describes."""
    if spec.plan is not None:
        return Planned(spec.plan, arrays)
    mlp = Mlp([(arrays[layer.kernel], arrays[layer.bias]) for layer in spec.layers], spec.activation)
    if spec.convolutions:
        return Temporal(spec.convolutions, spec.activation, mlp, arrays)
    cell = find_cell(spec.kind)
    return mlp if cell is None or spec.cell is None else Recurrent(cell, spec.cell, mlp, arrays)
