"""Models of a motor that a recording is compared with: the network, the ideal servo, and that with fitted friction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxloco.actuator_fit.dataset import Series
from jaxloco.physics.actuators.fitted import FittedNetwork
from jaxloco.physics.actuators.network import lstm_step, perceptron
from jaxloco.robot import Joint

SMOOTHING = 0.1
"""Velocity at which dry friction has 76 % of its size, rad/s."""

NETWORK, IDEAL, FRICTION = "network", "ideal PD", "PD with friction"
MODELS = (NETWORK, IDEAL, FRICTION)


@dataclass(frozen=True, eq=False)
class Friction:
    """What an ideal servo lacks by least squares: dry friction, N m, and viscous friction, N m s/rad, (J,)."""

    coulomb: np.ndarray
    viscous: np.ndarray

    @classmethod
    def fitted(cls, found: Sequence[Series]) -> "Friction":
        """Fit it to recordings; neither is below zero.

        >>> v = np.array([[-3.0], [1.0], [2.0], [-2.0]])
        >>> one = Series("", v, v, 5.0 - 0.5 * np.sign(v) - 0.2 * v, 5.0 + 0.0 * v)
        >>> friction = Friction.fitted([one])
        >>> np.round([friction.coulomb, friction.viscous], 6).ravel().tolist()
        [0.5, 0.2]
        """
        velocity, lost = (
            np.concatenate([getattr(one, name) if name else one.ideal - one.torque for one in found])
            for name in ("velocity", "")
        )
        both = []
        for v, loss in zip(velocity.T, lost.T, strict=True):
            columns = np.stack([np.tanh(v / SMOOTHING), v], axis=1)
            both.append(_not_negative(columns, loss))
        coulomb, viscous = np.array(both).T
        return cls(coulomb, viscous)

    def torque(self, one: Series) -> np.ndarray:
        """Return the torque of a servo with it, N m, (T, J)."""
        found: np.ndarray = one.ideal - self.coulomb * np.tanh(one.velocity / SMOOTHING) - self.viscous * one.velocity
        return found


def _not_negative(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the coefficients of least squares, of which none is negative, (2,)."""
    from scipy.optimize import nnls

    found: np.ndarray = nnls(columns, values)[0]
    return found


def predicted(network: FittedNetwork, one: Series, limits: np.ndarray) -> np.ndarray:
    """Return the torques of a network over a recording as the simulator would have them, N m, (T, J).

    That is: from its state after a reset, and clipped to the torque limits, (J,).
    """
    layers, inputs = network.unscaled(), np.stack([one.error, one.velocity], axis=-1)
    if network.kind == "lstm":
        zeros = np.zeros((inputs.shape[1], len(layers) - 1, len(layers[0][1])))
        state, found = (zeros, zeros), []
        for now in inputs:
            state, torque = lstm_step(layers, state, now)
            found.append(torque[:, 0])
        return np.clip(np.array(found), -limits, limits)
    depth = network.depth
    series = np.concatenate([np.repeat(inputs[:1], depth, axis=0), inputs])
    taps = [series[depth - step : len(series) - step] for step in network.window]
    return np.clip(perceptron(layers, np.concatenate(taps, axis=-1))[..., 0], -limits, limits)


def errors(
    network: FittedNetwork, friction: Friction, found: Sequence[Series], joints: Sequence[Joint]
) -> dict[str, Any]:
    """Return the root mean square errors of the torque of each model, N m, over recordings.

    Returns:
        Model → error; "network / ideal PD", their ratio; and "by joint", joint → model → error.
    """
    torques = [predictions(network, friction, one, joints) for one in found]
    squares = {
        model: np.concatenate([(guess[model] - one.torque) ** 2 for guess, one in zip(torques, found, strict=True)])
        for model in MODELS
    }
    whole = {model: float(np.sqrt(square.mean())) for model, square in squares.items()}
    by_joint = {
        joint.name: {model: float(np.sqrt(square[:, i].mean())) for model, square in squares.items()}
        for i, joint in enumerate(joints)
    }
    return {**whole, "network / ideal PD": whole[NETWORK] / whole[IDEAL], "by joint": by_joint}


def predictions(
    network: FittedNetwork, friction: Friction, one: Series, joints: Sequence[Joint]
) -> Mapping[str, np.ndarray]:
    """Return the torques of each model over a recording, N m, (T, J)."""
    limits = np.array([joint.torque_limit for joint in joints])
    return {NETWORK: predicted(network, one, limits), IDEAL: one.ideal, FRICTION: friction.torque(one)}
