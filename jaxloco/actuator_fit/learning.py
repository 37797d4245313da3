"""Fitting networks to series of errors, velocities and torques, by Adam with a cosine schedule and early stopping.

An MLP's window is chosen first: all candidates are trained side by side for a short time, on the same batches, each
with its own taps, and the one with the least error on validation recordings is trained in full. An LSTM is trained on
sequences that begin anywhere, from zeros; their first steps, in which its memory fills, count less.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxloco.actuator_fit.dataset import Series, stacked
from jaxloco.physics.actuators.fitted import Layer, Scales
from jaxloco.physics.actuators.network import lstm_step, perceptron

HWANGBO_SPACING = 0.01
"""Between the entries of the window of Hwangbo et al. 2019, s."""

REACHES = (0.0, 0.008, 0.016, 0.024, 0.036)
"""How far candidates for the window reach back, s, with an entry for each step."""

NO_WORSE = 1.02
"""A shorter window is chosen if its error is at most so many times the least."""

Window = tuple[int, ...]


@dataclass(frozen=True)
class Effort:
    """How long is trained.

    Attributes:
        search: Steps of each candidate for the window.
        steps: Steps of the network that is chosen, at most.
        batch: Windows in a step.
        rate: Adam's, at the beginning.
        check: Steps between two looks at the validation recordings.
        patience: Looks without a better one until it stops.
    """

    search: int = 600
    steps: int = 10_000
    batch: int = 2048
    rate: float = 3e-3
    check: int = 500
    patience: int = 4


RECURRENT = Effort(steps=2000, batch=64, rate=1e-2, check=100, patience=6)
"""Of an LSTM, whose batch is of sequences."""


def effort_of(default: Effort, steps: int | None) -> Effort:
    """Return an effort with another number of steps."""
    if steps is None:
        return default
    return replace(default, steps=steps, search=min(default.search, steps), check=min(default.check, steps))


SEQUENCE, FILLING, FILLING_WEIGHT = 100, 25, 0.2
"""Steps of a sequence, those in which its memory fills, and their weight in the loss."""

MOST_CHECKED = 20_000
"""Windows of the validation recordings that are looked at."""


class Fit(NamedTuple):
    """What was fitted.

    Attributes:
        window: Which past errors and velocities are read, in steps.
        scales: Of inputs and output.
        layers: For scaled inputs and outputs.
        searched: Validation error of each candidate for the window, N m.
        history: Steps and validation error, N m, at each look.
    """

    window: Window
    scales: Scales
    layers: tuple[Layer, ...]
    searched: dict[Window, float]
    history: list[tuple[int, float]]


def candidates(timestep: float) -> tuple[Window, ...]:
    """Return the windows to choose from: Hwangbo's spacing, and all steps as far back as each of `REACHES`."""
    found = [tuple(range(round(reach / timestep) + 1)) for reach in REACHES]
    return tuple(dict.fromkeys([*found, hwangbo(timestep)]))


def hwangbo(timestep: float) -> Window:
    """Return the window of Hwangbo et al. 2019: now, 10 and 20 ms ago, or the nearest steps."""
    spacing = max(1, round(HWANGBO_SPACING / timestep))
    return (0, spacing, 2 * spacing)


def scales_of(found: Sequence[Series]) -> Scales:
    """Return the standard deviations over all joints."""
    columns = list(stacked(found))
    return Scales(*(float(np.concatenate([column[i] for column in columns]).std()) for i in range(3)))


class _Windows:
    """Scaled series in one row, and where windows may end: far enough from the beginning of their series."""

    def __init__(self, found: Sequence[Series], scales: Scales, depth: int) -> None:
        columns = list(stacked(found))
        parts = (np.concatenate([column[i] for column in columns]) for i in range(3))
        error, velocity, torque = (
            part / scale for part, scale in zip(parts, (scales.error, scales.velocity, scales.torque), strict=True)
        )
        self.inputs = jnp.asarray(np.stack([error, velocity], axis=1), jnp.float32)
        self.torque = jnp.asarray(torque, jnp.float32)
        lengths = [len(column[0]) for column in columns]
        starts = np.cumsum([0, *lengths[:-1]])
        ends = [np.arange(s + min(depth, n - 1), s + n) for s, n in zip(starts, lengths, strict=True)]
        self.ends = jnp.asarray(np.concatenate(ends), jnp.int32)

    def some(self, most: int) -> jax.Array:
        """Return at most so many ends, evenly spread."""
        return self.ends[:: -(-len(self.ends) // most)]


def fit_mlp(
    train: Sequence[Series],
    validation: Sequence[Series],
    windows: Sequence[Window],
    hidden: Sequence[int] = (32, 32, 32),
    effort: Effort | None = None,
    seed: int = 0,
) -> Fit:
    """Choose a window and fit an MLP with softsign.

    Args:
        train: What is learnt from.
        validation: What the window and the moment to stop are chosen by.
        windows: Candidates; a single one is taken as it is.
        hidden: Units of its layers.
        effort: How long is trained.
        seed: Of weights and batches.
    """
    effort, scales, depth = effort or Effort(), scales_of(train), max(max(window) for window in windows)
    data, held = (_Windows(found, scales, depth) for found in (train, validation))
    searched: dict[Window, float] = {}
    window = windows[0]
    if len(windows) > 1:
        errors = _search(data, held, windows, depth, hidden, effort, seed) * scales.torque
        searched = {one: float(error) for one, error in zip(windows, errors, strict=True)}
        good = [one for one in windows if searched[one] <= NO_WORSE * min(searched.values())]
        window = min(good, key=lambda one: (len(one), max(one)))
    layers = _initial(jax.random.PRNGKey(seed), (2 * len(window), *hidden, 1))
    taps = jnp.asarray(window, jnp.int32)
    loss = partial(_window_loss, data=(data.inputs, data.torque), taps=taps)
    error = partial(_window_loss, data=(held.inputs, held.torque), taps=taps, ends=held.some(MOST_CHECKED))
    pick = partial(_pick, ends=data.ends, batch=effort.batch)
    best, history = _descend(layers, loss, pick, error, effort, seed)
    history = [(step, scales.torque * rms) for step, rms in history]
    return Fit(window, scales, _plain(best), searched, history)


def fit_lstm(
    train: Sequence[Series],
    validation: Sequence[Series],
    units: int = 16,
    cells: int = 2,
    effort: Effort = RECURRENT,
    seed: int = 0,
) -> Fit:
    """Fit stacked LSTM cells; arguments as of `fit_mlp`."""
    scales = scales_of(train)
    data = _Windows(train, scales, 0)
    held = _sequences(validation, scales)
    starts = _sequence_starts(train)
    layers = _initial_lstm(jax.random.PRNGKey(seed), units, cells)
    weights = jnp.where(jnp.arange(SEQUENCE) < FILLING, FILLING_WEIGHT, 1.0)
    loss = partial(_sequence_loss, data=(data.inputs, data.torque), weights=weights)
    pick = partial(_pick, ends=jnp.asarray(starts, jnp.int32), batch=effort.batch)
    error = partial(_held_error, held=held)
    best, history = _descend(layers, loss, pick, error, effort, seed)
    return Fit((0,), scales, _plain(best), {}, [(step, scales.torque * rms) for step, rms in history])


def _search(
    data: _Windows,
    held: _Windows,
    windows: Sequence[Window],
    depth: int,
    hidden: Sequence[int],
    effort: Effort,
    seed: int,
) -> np.ndarray:
    """Train all candidates side by side, on all taps, of which each sees its own; their validation errors."""
    masks = np.zeros((len(windows), depth + 1, 2), np.float32)
    for mask, window in zip(masks, windows, strict=True):
        mask[list(window)] = 1.0
    flat = jnp.asarray(masks.reshape(len(windows), -1))
    taps, key = jnp.arange(depth + 1), jax.random.PRNGKey(seed)
    layers = _initial(key, (2 * (depth + 1), *hidden, 1))
    fan = np.sqrt(2.0 * (depth + 1) / masks.sum(axis=(1, 2)))  # each begins as large as if it had its taps alone
    first = jnp.asarray(fan, jnp.float32)[:, None, None] * layers[0][0][None]
    many = jax.tree.map(lambda array: jnp.repeat(array[None], len(windows), axis=0), layers)
    many = ((first, many[0][1]), *many[1:])
    optimizer = optax.adam(optax.cosine_decay_schedule(effort.rate, effort.search))

    def loss(layers: Any, mask: jax.Array, ends: jax.Array, inputs: jax.Array, torque: jax.Array) -> jax.Array:
        return _window_loss(layers, ends, (inputs, torque), taps, mask)

    @jax.jit
    def run(many: Any, inputs: jax.Array, torque: jax.Array, possible: jax.Array) -> Any:
        def step(carry: Any, key: jax.Array) -> Any:
            many, state = carry
            ends = possible[jax.random.randint(key, (effort.batch // 2,), 0, len(possible))]
            grads = jax.vmap(jax.grad(loss), (0, 0, None, None, None))(many, flat, ends, inputs, torque)
            updates, state = optimizer.update(grads, state)
            return (optax.apply_updates(many, updates), state), None

        keys = jax.random.split(key, effort.search)
        return jax.lax.scan(step, (many, optimizer.init(many)), keys)[0][0]

    with jax.numpy_rank_promotion("allow"):  # optax relies on it
        many = run(many, data.inputs, data.torque, data.ends)
        evaluate = jax.jit(jax.vmap(loss, (0, 0, None, None, None)))
        squares = evaluate(many, flat, held.some(MOST_CHECKED), held.inputs, held.torque)
    return np.sqrt(np.asarray(squares))


def _window_loss(
    layers: Any, ends: jax.Array, data: tuple[jax.Array, jax.Array], taps: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """Return the mean squared error at some ends of windows."""
    inputs, torque = data
    x = inputs[ends[:, None] - taps[None]].reshape(len(ends), -1)
    if mask is not None:
        x = x * mask[None]
    return jnp.mean(jnp.square(perceptron(layers, x)[:, 0] - torque[ends]))


def _sequence_loss(layers: Any, starts: jax.Array, data: tuple[jax.Array, jax.Array], weights: jax.Array) -> jax.Array:
    """Return the weighted mean squared error of sequences that begin at some places, from zeros."""
    inputs, torque = data
    places = starts[None] + jnp.arange(SEQUENCE)[:, None]
    found = _unrolled(layers, inputs[places])
    return jnp.mean(weights[:, None] * jnp.square(found - torque[places])) / jnp.mean(weights)


def _held_error(layers: Any, held: tuple[jax.Array, jax.Array]) -> jax.Array:
    inputs, torque = held
    return jnp.mean(jnp.square(_unrolled(layers, inputs) - torque)[FILLING:])


def _unrolled(layers: Any, inputs: jax.Array) -> jax.Array:
    """Return what an LSTM gives from zeros, (T, S, 2) → (T, S)."""
    shape = (inputs.shape[1], len(layers) - 1, layers[0][1].shape[0])
    zeros = (jnp.zeros(shape), jnp.zeros(shape))
    return jax.lax.scan(partial(lstm_step, layers), zeros, inputs)[1][..., 0]


def _sequences(found: Sequence[Series], scales: Scales) -> tuple[jax.Array, jax.Array]:
    """Return whole series side by side, as long as the shortest, (T, S, 2) and (T, S)."""
    columns = list(stacked(found))
    shortest = min(len(column[0]) for column in columns)
    parts = [np.stack([column[i][:shortest] for column in columns], axis=1) for i in range(3)]
    inputs = np.stack([parts[0] / scales.error, parts[1] / scales.velocity], axis=-1)
    return jnp.asarray(inputs, jnp.float32), jnp.asarray(parts[2] / scales.torque, jnp.float32)


def _sequence_starts(found: Sequence[Series]) -> np.ndarray:
    """Return where sequences may begin among series in one row."""
    starts, begins = [], 0
    for error, _, _ in stacked(found):
        starts.append(begins + np.arange(max(0, len(error) - SEQUENCE) + 1))
        begins += len(error)
    return np.concatenate(starts)


def _pick(key: jax.Array, ends: jax.Array, batch: int) -> jax.Array:
    return ends[jax.random.randint(key, (batch,), 0, len(ends))]


def _descend(
    layers: Any,
    loss: Callable[..., jax.Array],
    pick: Callable[[jax.Array], jax.Array],
    error: Callable[..., jax.Array],
    effort: Effort,
    seed: int,
) -> tuple[Any, list[tuple[int, float]]]:
    """Descend; return the weights with the least validation error, and the error at each look."""
    schedule = optax.cosine_decay_schedule(effort.rate, effort.steps)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule))

    @jax.jit
    def some(layers: Any, state: Any, keys: jax.Array) -> Any:
        def step(carry: Any, key: jax.Array) -> Any:
            layers, state = carry
            updates, state = optimizer.update(jax.grad(loss)(layers, pick(key)), state)
            return (optax.apply_updates(layers, updates), state), None

        layers, state = jax.lax.scan(step, (layers, state), keys)[0]
        return layers, state, jnp.sqrt(error(layers))

    best, least, since, history = layers, np.inf, 0, list[tuple[int, float]]()
    with jax.numpy_rank_promotion("allow"):  # optax relies on it
        state = optimizer.init(layers)
        for done in range(effort.check, effort.steps + 1, effort.check):
            keys = jax.random.split(jax.random.PRNGKey(seed + done), effort.check)
            layers, state, rms = some(layers, state, keys)
            history.append((done, float(rms)))
            since += 1
            if history[-1][1] < least:
                best, least, since = layers, history[-1][1], 0
            if since >= effort.patience:
                break
    return best, history


def _initial(key: jax.Array, widths: Sequence[int]) -> tuple[Layer, ...]:
    """Return weights from normal distributions of variance 1 / inputs, and biases of 0."""
    layers = []
    for own, rows, columns in zip(jax.random.split(key, len(widths) - 1), widths[:-1], widths[1:], strict=True):
        layers.append((jax.random.normal(own, (rows, columns)) / np.sqrt(rows), jnp.zeros(columns)))
    return tuple(layers)


def _initial_lstm(key: jax.Array, units: int, cells: int) -> tuple[Layer, ...]:
    layers: list[Layer] = []
    bias = np.repeat([0.0, 1.0, 0.0, 0.0], units).astype(np.float32)  # it does not forget at first
    for i, own in enumerate(jax.random.split(key, cells)):
        a, b = jax.random.split(own)
        rows = units if i else 2
        inputs = jax.random.normal(a, (rows, 4 * units)) / np.sqrt(rows)
        hidden = jax.random.normal(b, (units, 4 * units)) / np.sqrt(units)
        layers.append((inputs, 0.5 * hidden, jnp.asarray(bias)))
    return (*layers, *_initial(key, (units, 1)))


def _plain(layers: Any) -> tuple[Layer, ...]:
    return tuple(tuple(np.asarray(array, np.float32) for array in layer) for layer in layers)
