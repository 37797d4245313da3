"""Models fitted to trials: a few declared parameters, and local corrections of what these cannot explain.

    x_{t+1} = f(p, x_t, u_t, t) + Σ_i k_i r_i / (λ + Σ_i k_i),    k_i = w_i exp(-|φ - φ_i|² / 2)

with r_i the residuals of the recorded transitions and φ features of state, control and time, in units of how far a
transition is of use. With the time alone as a feature they are corrections along a trajectory; with the state, a
locally weighted model. λ keeps the parametric model where nothing was recorded.

Sources: Atkeson, Moore and Schaal 1997, "Locally weighted learning"; Abbeel, Coates and Ng 2010, "Autonomous helicopter
aerobatics through apprenticeship learning".
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.optimize import least_squares

from jaxloco.errors import ConfigError

Predict = Callable[[Array, Array, Array, Array], Array]
"""(parameters (p,), state (n,), control (m,), time index) → next state (n,)."""

Rows = Any
"""A NumPy or JAX array."""

LEAST_TOLD = 1e-6
"""Of a parameter: what it changes of the predictions, scaled, as a part of what the one that changes most does."""

PRIOR = 0.3
"""λ: a full correction needs several transitions that are near."""


class Transitions(NamedTuple):
    """Recorded steps of a robot.

    Attributes:
        states: (N, n).
        controls: (N, m).
        following: States one step later, (N, n).
        times: Time indices, int32, (N,).
        weights: How much each counts, 0 for not at all, (N,).
    """

    states: Rows
    controls: Rows
    following: Rows
    times: Rows
    weights: Rows

    @classmethod
    def of_trial(cls, states: np.ndarray, controls: np.ndarray, weight: float = 1.0) -> "Transitions":
        """Return the steps of one trial: states (T + 1, n) and controls (T, m)."""
        steps = len(controls)
        weights = np.full(steps, weight, np.float32)
        return cls(states[:-1], controls, states[1:], np.arange(steps, dtype=np.int32), weights)

    @classmethod
    def joined(cls, parts: Sequence["Transitions"]) -> "Transitions":
        """Return the steps of several trials."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def padded(self, count: int) -> "Transitions":
        """Return `count` transitions: the last ones, or all and copies that do not count."""
        rows = np.arange(len(self.weights))[-count:]
        more = count - len(rows)
        rows = np.concatenate([rows, np.zeros(more, int)])
        taken = type(self)(*(column[rows] for column in self))
        return taken._replace(weights=np.where(np.arange(count) < count - more, taken.weights, 0.0).astype(np.float32))


@dataclass(frozen=True)
class Parameter:
    """A declared parameter of a model.

    Attributes:
        name: For messages and metrics.
        initial: Where its fit begins.
        low: Its lower limit.
        high: Its upper limit.
    """

    name: str
    initial: float
    low: float
    high: float


@dataclass(frozen=True)
class Fit:
    """Fitted parameters.

    Attributes:
        values: (p,).
        deviations: Standard deviations for independent errors, (p,).
        rms: Root mean square of what is not explained, by state component, (n,).
    """

    values: np.ndarray
    deviations: np.ndarray
    rms: np.ndarray


def fit(predict: Predict, parameters: Sequence[Parameter], transitions: Transitions, scales: Sequence[float]) -> Fit:
    """Find the parameters whose one-step predictions are nearest to what was recorded, by weighted least squares.

    Args:
        predict: The model.
        parameters: What is fitted.
        transitions: What was recorded; of another number of them, it is compiled anew.
        scales: Error of each state component that counts as 1, (n,).

    Raises:
        ConfigError: The recordings are not finite, too short, or tell nothing of a parameter; says which.
    """
    used = transitions.weights > 0.0
    for name, column in transitions._asdict().items():
        if not np.isfinite(column[used]).all():
            raise ConfigError(f"the model cannot be fitted: {name} of the recording are not finite")
    if used.sum() * len(scales) <= len(parameters):
        raise ConfigError(
            f"the model cannot be fitted: {used.sum()} recorded steps for {len(parameters)} parameters; record more"
        )
    given = jax.tree.map(jnp.asarray, transitions), jnp.asarray(scales, jnp.float32)

    def errors(values: np.ndarray) -> np.ndarray:
        return np.asarray(_errors(predict, jnp.asarray(values, jnp.float32), *given), float)

    def slopes(values: np.ndarray) -> np.ndarray:
        return np.asarray(_slopes(predict, jnp.asarray(values, jnp.float32), *given), float)

    initial, bounds = [p.initial for p in parameters], ([p.low for p in parameters], [p.high for p in parameters])
    found = least_squares(errors, initial, slopes, bounds, x_scale="jac", ftol=1e-6, xtol=1e-6)
    told = np.linalg.norm(found.jac, axis=0) * np.subtract(bounds[1], bounds[0])
    for parameter, change in zip(parameters, told, strict=True):
        if not change > LEAST_TOLD * told.max():
            raise ConfigError(f"the model cannot be fitted: the recordings tell nothing of {parameter.name!r}")
    squares = np.sum(found.fun.reshape(-1, len(scales)) ** 2, axis=0)
    free = max(used.sum() * len(scales) - len(parameters), 1)
    covariance = np.sum(squares) / free * np.linalg.inv(found.jac.T @ found.jac)
    rms = np.sqrt(squares / np.sum(transitions.weights)) * np.asarray(scales)
    return Fit(found.x, np.sqrt(np.diag(covariance)), rms)


@partial(jax.jit, static_argnums=0)
def _errors(predict: Predict, parameters: Array, transitions: Transitions, scales: Array) -> Array:
    errors = residuals_of(predict, parameters, transitions) / scales[None]
    return (errors * jnp.sqrt(transitions.weights)[:, None]).ravel()


_slopes = jax.jit(jax.jacfwd(_errors, argnums=1), static_argnums=0)


def residuals_of(predict: Predict, parameters: Array, transitions: Transitions) -> Array:
    """Return what happened less what the model predicts, (N, n)."""
    states, controls, following, times, _ = transitions
    return following - jax.vmap(partial(predict, parameters))(states, controls, times)


class Corrections(NamedTuple):
    """What local corrections are made of.

    Attributes:
        features: φ_i, (N, d).
        residuals: r_i, (N, n).
        weights: w_i, (N,).
    """

    features: Array
    residuals: Array
    weights: Array

    def at(self, feature: Array) -> Array:
        """Return what is added to a prediction, (n,), for φ, (d,)."""
        near = self.weights * jnp.exp(-0.5 * jnp.sum((self.features - feature[None]) ** 2, axis=1))
        return near @ self.residuals / (PRIOR + jnp.sum(near))


def local_corrections(
    predict: Predict, parameters: Array, transitions: Transitions, features: Callable[[Array, Array, Array], Array]
) -> Corrections:
    """Return corrections from recorded transitions.

    Args:
        predict: The parametric model.
        parameters: Its fitted parameters, (p,).
        transitions: What was recorded.
        features: (state, control, time index) → φ, (d,), in units of how far a transition is of use.
    """
    residuals = residuals_of(predict, parameters, transitions)
    points = jax.vmap(features)(transitions.states, transitions.controls, transitions.times)
    return Corrections(points, residuals, jnp.asarray(transitions.weights))
