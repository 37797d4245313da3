"""Networks for Numba, in MuJoCo's own steps: all joints of a group in one call, in float32.

Weights are constants of the compiled code. Layers are computed one after the other for all joints, since the units of
one joint depend on those of its layer before, and those of other joints do not: so the processor has enough to do.
Loops over units are innermost, which makes them vector instructions. Four inputs are added at a time, because sums are
kept in memory between them.
"""

from typing import Any

import numpy as np
from numba import njit

from jaxloco.physics.actuators.fitted import Layer

FAST: dict[str, Any] = {"fastmath": {"contract", "reassoc", "arcp", "nsz"}, "error_model": "numpy"}
"""Sums in any order, and no check for a division by zero. Numbers may be NaN: those of a robot that breaks down are."""

AT_ONCE = 4
"""Inputs that are added at a time."""

TANH_BOUND = 9.0
"""From here on tanh is 1 in float32."""


def perceptron(layers: tuple[Layer, ...], window: tuple[int, ...], depth: int) -> Any:
    """Return the kernel of an MLP; see `jaxloco.physics.actuators.contract.Actuator.kernel`."""
    taps, inputs = np.array(window), _padded(2 * len(window))
    run, widest = _layers(layers), max(_padded(len(bias)) for _, bias in layers)

    @njit(**FAST)  # pragma: no cover, as all that follow: it is not Python that runs
    def kernel(remembered: Any, target: Any, position: Any, velocity: Any, torque: Any) -> None:
        n = len(target)
        x = np.zeros((n, inputs), np.float32)
        y, z = np.zeros((n, widest), np.float32), np.zeros((n, widest), np.float32)
        for j in range(n):
            past = remembered[2 * depth * j : 2 * depth * (j + 1)]
            begun = 2 * depth * n + j
            error, speed = target[j] - position[j], velocity[j]
            if remembered[begun] == 0.0:
                for k in range(depth):
                    past[2 * k], past[2 * k + 1] = error, speed
                remembered[begun] = 1.0
            for k in range(len(taps)):
                if taps[k] == 0:
                    x[j, 2 * k], x[j, 2 * k + 1] = error, speed
                else:
                    x[j, 2 * k], x[j, 2 * k + 1] = past[2 * taps[k] - 2], past[2 * taps[k] - 1]
            for k in range(2 * depth - 1, 1, -1):
                past[k] = past[k - 2]
            past[0], past[1] = error, speed
        run(x, y, z)
        for j in range(n):
            torque[j] = y[j, 0]

    return kernel


def lstm(layers: tuple[Layer, ...]) -> Any:
    """Return the kernel of an LSTM; see `jaxloco.physics.actuators.contract.Actuator.kernel`."""
    units, cells = len(layers[0][1]), len(layers) - 1
    width = _padded(units)
    run, read = _cells(layers[:-1], units), _dense(*layers[-1])

    @njit(**FAST)  # pragma: no cover
    def kernel(remembered: Any, target: Any, position: Any, velocity: Any, torque: Any) -> None:
        n, size = len(target), cells * units
        x, h = np.zeros((n, width), np.float32), np.zeros((n, width), np.float32)
        gates, out = np.zeros((n, 4 * units), np.float32), np.zeros((n, 1), np.float32)
        for j in range(n):
            x[j, 0], x[j, 1] = target[j] - position[j], velocity[j]
        outputs = remembered[: n * size].reshape((n, size))
        run(x, h, gates, outputs, remembered[n * size :].reshape((n, size)))
        read(x, out)
        for j in range(n):
            torque[j] = out[j, 0]

    return kernel


def _layers(layers: tuple[Layer, ...]) -> Any:
    """Return a function for Numba: x through all layers into y; z is room for what is between."""
    first = _dense(*layers[0])
    run = njit(lambda x, y, z: first(x, y))
    for layer in layers[1:]:
        run = _after(run, _dense(*layer))
    return run


def _after(before: Any, dense: Any) -> Any:
    """Return the layers before, softsign, and one layer more."""

    @njit(**FAST)  # pragma: no cover
    def both(x: Any, y: Any, z: Any) -> None:
        before(x, z, y)
        _softsign(z.reshape(z.size))
        dense(z, y)

    return both


@njit(**FAST)  # pragma: no cover
def _softsign(y: Any) -> None:
    one = np.float32(1.0)
    for i in range(len(y)):
        y[i] = y[i] / (one + abs(y[i]))


def _dense(weights: np.ndarray, bias: np.ndarray) -> Any:
    """Return a function for Numba: y = x weights + bias, for each row of x."""
    w, b, units = _in_fours(weights), np.asarray(bias, np.float32), len(bias)

    @njit(**FAST)  # pragma: no cover
    def dense(x: Any, y: Any) -> None:
        for j in range(len(x)):
            for i in range(units):
                y[j, i] = b[i]
        _add(y, x, w)

    return dense


@njit(**FAST)  # pragma: no cover
def _add(y: Any, x: Any, w: Any) -> None:
    """Add x @ w to y, w (inputs / 4, 4, units)."""
    for j in range(len(x)):
        for k in range(w.shape[0]):
            x0, x1, x2, x3 = x[j, 4 * k], x[j, 4 * k + 1], x[j, 4 * k + 2], x[j, 4 * k + 3]
            for i in range(w.shape[2]):
                y[j, i] += x0 * w[k, 0, i] + x1 * w[k, 1, i] + x2 * w[k, 2, i] + x3 * w[k, 3, i]


def _cells(cells: tuple[Layer, ...], units: int) -> Any:
    """Return a function for Numba that steps stacked cells; their output is where their input was."""
    run = _cell(cells[0], units, 0)
    for i, cell in enumerate(cells[1:], 1):
        run = _next(run, _cell(cell, units, i))
    return run


def _next(before: Any, step: Any) -> Any:
    @njit(**FAST)  # pragma: no cover
    def both(x: Any, h: Any, gates: Any, outputs: Any, memories: Any) -> None:
        before(x, h, gates, outputs, memories)
        step(x, h, gates, outputs, memories)

    return both


def _cell(cell: Layer, units: int, place: int) -> Any:
    """Return a function for Numba that steps one cell, with gates i, f, g and o.

    As σ(x) = (1 + tanh(x / 2)) / 2, the halves are in the weights, and all gates are a tanh.
    """
    half = np.repeat([0.5, 0.5, 1.0, 0.5], units).astype(np.float32)
    w, v, b = _in_fours(cell[0] * half), _in_fours(cell[1] * half), (cell[2] * half).astype(np.float32)
    start, half_one = place * units, np.float32(0.5)

    @njit(**FAST)  # pragma: no cover
    def step(x: Any, h: Any, gates: Any, outputs: Any, memories: Any) -> None:
        for j in range(len(x)):
            for i in range(4 * units):
                gates[j, i] = b[i]
            for i in range(units):
                h[j, i] = outputs[j, start + i]
        _add(gates, x, w)
        _add(gates, h, v)
        _tanh(gates.reshape(gates.size))
        for j in range(len(x)):
            for i in range(units):
                memory = (half_one + half_one * gates[j, units + i]) * np.float32(memories[j, start + i])
                memory += (half_one + half_one * gates[j, i]) * gates[j, 2 * units + i]
                memories[j, start + i] = x[j, i] = memory
        _tanh(x.reshape(x.size))
        for j in range(len(x)):
            for i in range(units):
                x[j, i] *= half_one + half_one * gates[j, 3 * units + i]
                outputs[j, start + i] = x[j, i]

    return step


def _in_fours(weights: np.ndarray) -> np.ndarray:
    """Return weights, (inputs, units), as (inputs / 4, 4, units), with zeros for inputs that fill up the last four."""
    rows = np.zeros((_padded(len(weights)), weights.shape[1]), np.float32)
    rows[: len(weights)] = weights
    return rows.reshape(-1, AT_ONCE, weights.shape[1])


def _padded(count: int) -> int:
    return -(-count // AT_ONCE) * AT_ONCE


def _lambert(terms: int) -> tuple[np.ndarray, np.ndarray]:
    """Return numerator and denominator of Lambert's continued fraction of tanh, in powers of x²; times x.

    tanh x = x / (1 + x² / (3 + x² / (5 + …))), cut off after so many terms. All coefficients are positive, so nothing
    cancels. With 12 terms the error is below 6e-8 up to `TANH_BOUND`.
    """
    above, below = np.array([1.0]), np.array([2.0 * terms + 1.0])  # of the fraction from its end
    for odd in range(2 * terms - 1, 0, -2):
        shifted = np.append(0.0, above)  # x² times it
        size = max(len(below), len(shifted))
        total = odd * np.pad(below, (0, size - len(below))) + np.pad(shifted, (0, size - len(shifted)))
        above, below = below, total
    return above / above[0], below / above[0]


_ABOVE, _BELOW = (tuple(np.asarray(part, np.float32)) for part in _lambert(12))


@njit(**FAST)  # pragma: no cover
def _tanh(y: Any) -> None:
    """Replace numbers by their tanh."""
    bound = np.float32(TANH_BOUND)
    a0, a1, a2, a3, a4, a5, a6 = _ABOVE
    b0, b1, b2, b3, b4, b5, b6 = _BELOW
    for i in range(len(y)):
        x = min(max(y[i], -bound), bound)
        s = x * x
        above = a0 + s * (a1 + s * (a2 + s * (a3 + s * (a4 + s * (a5 + s * a6)))))
        below = b0 + s * (b1 + s * (b2 + s * (b3 + s * (b4 + s * (b5 + s * b6)))))
        y[i] = x * above / below
