"""A network that was fitted to a motor: from the last position errors and velocities of a joint to its torque.

Hwangbo et al. 2019 (arXiv 1901.08652) fitted a series-elastic motor so. It stands for the whole motor: gains, delay,
friction, backlash and supply. So nothing else is in the joint's chain, its servo in the model is a plain motor, and the
network runs at the rate that it was fitted at. `jaxloco actuator fit` writes its file, see
`jaxloco.physics.actuators.fitted`.

After a reset the window holds the first error and velocity, and an LSTM starts from zeros. All joints share the
weights; random factors on torques multiply what the network gives.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.errors import RobotError
from jaxloco.onboard.cells import CELLS
from jaxloco.physics.actuators.contract import ActuatedJoints, Actuator, Array, Servo, State, namespace
from jaxloco.physics.actuators.fitted import FittedNetwork, Layer, read_network
from jaxloco.robot import UNITS
from jaxloco.toml_schema import Key


class Network(Actuator):
    """Remembers the window and whether it has begun, or what its cells remember."""

    name = "network"
    whole: ClassVar[bool] = True
    settings: ClassVar[Mapping[str, Key]] = {
        "file": Key("text", "fitted network, in the robot's folder", '"legs.npz"'),
    }

    class Params(NamedTuple):
        """Nothing beside the servo, whose gain is 1, or the factor on the torque."""

        servo: Servo

    def __init__(self, joints: ActuatedJoints) -> None:
        self.parameters = {}
        path = joints.folder / str(joints.settings["file"][0])
        self.network = read_network(path)
        _check(self.network, joints, path)
        self.digest = self.network.digest()
        self._layers = self.network.unscaled()

    def init(self, target: Array) -> State:
        """Zeros; the first step fills the window."""
        shape, network = np.shape(target), self.network
        if network.kind == "lstm":
            cells = np.zeros((*shape, len(self._layers) - 1, len(self._layers[0][1])), target.dtype)
            return cells, cells.copy()
        return np.zeros((*shape, network.depth, 2), target.dtype), np.zeros(shape, target.dtype)

    def step(  # type: ignore[override]  # its weights are its own
        self, params: Params, state: State, target: Array, position: Array, velocity: Array
    ) -> tuple[State, Array]:
        """See `Actuator.step`."""
        now = namespace(target).stack([target - position, velocity], axis=-1)
        advance = lstm_step if self.network.kind == "lstm" else self._window_step
        after, torque = advance(self._layers, state, now)
        return after, params.servo.gain * torque[..., 0]

    def _window_step(self, layers: tuple[Layer, ...], state: State, now: Array) -> tuple[State, Array]:
        xp, (past, begun) = namespace(now), state
        now = now[..., None, :]
        series = xp.concatenate([now, xp.where(begun[..., None, None] > 0.0, past, now)], axis=-2)
        taps = [series[..., step, :] for step in self.network.window]
        return (series[..., :-1, :], xp.ones_like(begun)), perceptron(layers, xp.concatenate(taps, axis=-1))

    def kernel(self) -> Any:
        """See `Actuator.kernel`."""
        from jaxloco.physics.actuators import compiled_network

        if self.network.kind == "lstm":
            return compiled_network.lstm(self._layers)
        return compiled_network.perceptron(self._layers, self.network.window, self.network.depth)


def perceptron(layers: tuple[Layer, ...], x: Array) -> Array:
    """Return what dense layers with softsign x / (1 + |x|) between them give, (..., inputs) → (..., outputs)."""
    for weights, bias in layers[:-1]:
        x = _affine(x, weights, bias)
        x = x / (1.0 + abs(x))
    return _affine(x, *layers[-1])


def lstm_step(layers: tuple[Layer, ...], state: State, x: Array) -> tuple[State, Array]:
    """Return what stacked LSTM cells and a dense layer on top remember, and give: (..., inputs) → (..., outputs).

    Args:
        layers: Each cell's arrays, then the dense layer's.
        state: Outputs and cell states, (..., cells, H) each.
        x: Inputs.
    """
    xp, outputs, memories = namespace(x), [], []
    for i, (inputs, hidden, bias) in enumerate(layers[:-1]):
        before = tuple(array[..., i, :] for array in state)
        new, old = _affine(x, inputs, bias), _product(before[0], hidden)
        x_gates, h_gates = (tuple(xp.split(part, 4, axis=-1)) for part in (new, old))
        x, memory = CELLS["lstm"].step(xp, x_gates, h_gates, before)
        outputs.append(x)
        memories.append(memory)
    return (xp.stack(outputs, axis=-2), xp.stack(memories, axis=-2)), _affine(x, *layers[-1])


def _affine(x: Array, weights: Array, bias: Array) -> Array:
    return _product(x, weights) + bias.reshape((1,) * (x.ndim - 1) + bias.shape)


def _product(x: Array, weights: Array) -> Array:
    """Return x @ weights, without the TF32 of a GPU."""
    if isinstance(x, jax.Array):
        return jnp.matmul(x, weights, precision=jax.lax.Precision.HIGHEST)
    return x @ weights


def _check(network: FittedNetwork, joints: ActuatedJoints, path: Path) -> None:
    """Refuse a network that was fitted for something else than these joints."""
    where, names = f"joint {joints.joints[0].name!r}: {path}", tuple(joint.name for joint in joints.joints)
    if abs(network.timestep - joints.timestep) > 1e-6 * network.timestep:
        raise RobotError(
            f"{where} was fitted at steps of {network.timestep:g} s, and the physics step is {joints.timestep:g} s; "
            f"write simulation_timestep = {network.timestep:g}, or fit it with --timestep {joints.timestep:g}"
        )
    if network.joints != names:
        raise RobotError(
            f"{where} was fitted for {_few(network.joints)}, in this order, and robot.toml gives it to {_few(names)}; "
            "name it for those joints, or fit it anew"
        )
    for i, joint in enumerate(joints.joints):
        where = f"joint {joint.name!r}: {path}"
        if joint.control != "position":
            raise RobotError(f"{where} takes position targets, and the joint's are {joint.control}; remove the network")
        for name, fitted in (("kp", network.kp[i]), ("kd", network.kd[i])):
            if abs(getattr(joint, name) - fitted) > 1e-6 * max(fitted, 1.0):
                raise RobotError(
                    f"{where} was fitted with {name} = {fitted:g}, and robot.toml has {getattr(joint, name):g}; a "
                    f"network holds its gains: write {name} = {fitted:g}, or record and fit with the new ones"
                )
        if network.units != UNITS[joint.kind]:
            raise RobotError(f"{where} is in {', '.join(network.units)}, and the joint is a {joint.kind}; fit it anew")


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:4])
    return shown if len(names) <= 4 else f"{shown} and {len(names) - 4} more"
