"""The interface of actuators: from targets to torques, in every physics step, on every engine.

An actuator is a class; one object of it stands for joints of one robot that have the same kind of motor. `step` is a
static function of NumPy or JAX arrays, each of which has one number per joint. If it is elementwise over the joints,
Numba compiles the same function for MuJoCo's C engine, where it gets plain numbers; otherwise that engine calls it
between single physics steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco.robot import Joint
from jaxloco.toml_schema import Key

Array = Any
"""A NumPy or JAX array, (..., n); within MuJoCo's C engine a number."""

State = tuple[Array, ...]
"""State of an actuator; () if it has none."""


class Servo(NamedTuple):
    """MuJoCo's actuator of each joint: clip(gain target + bias0 + bias1 q + bias2 v) to ± torque_limit.

    With gains kp and kd of a position servo, gain = kp, bias1 = -kp, bias2 = -kd.

    Attributes:
        gain: N m per unit of the target.
        bias0: N m.
        bias1: N m/rad.
        bias2: N m s/rad.
        torque_limit: N m.
        timestep: Physics step, s; one number for all joints.
    """

    gain: Array
    bias0: Array
    bias1: Array
    bias2: Array
    torque_limit: Array
    timestep: float


@dataclass(frozen=True, eq=False)
class ActuatedJoints:
    """The joints that an actuator is made for.

    Attributes:
        joints: What robot.toml says of each.
        settings: What their `actuator` in robot.toml says, by the keys of `Actuator.settings`, (n,) each.
        timestep: Physics step, s.
        mobility: Inverse inertia of the unloaded joint at `qpos0`, 1/(kg m²), (n,).
        folder: Of the robot.
    """

    joints: tuple[Joint, ...]
    settings: Mapping[str, np.ndarray]
    timestep: float
    mobility: np.ndarray
    folder: Path = Path()


class Actuator:
    """An actuator without memory, whose parameters are its settings. A subclass has a name, `Params` and `step`.

    Attributes:
        name: How its parameters' names begin.
        settings: What robot.toml may say of it.
        Params: Named tuple: `servo`, then its parameters, each (..., n).
        whole: Whether it stands for the whole motor. Nothing else is in the chain then, and the servo is a plain motor:
            gain 1, no bias (`jaxloco.robot.mjcf.PLAIN_MOTORS` has its name).
        parameters: Nominal values of these parameters, (n,). Randomizers know them as `<name>_<parameter>`.
        digest: Hash of what its steps depend on beside these, such as a file; "" for nothing.
    """

    name: ClassVar[str]
    settings: ClassVar[Mapping[str, Key]] = {}
    Params: ClassVar[Any]
    whole: ClassVar[bool] = False
    digest: str = ""

    def __init__(self, joints: ActuatedJoints) -> None:
        self.parameters = dict(joints.settings)

    def init(self, target: Array) -> State:
        """Return the state after a reset, with `target` (n,) held since long before: arrays of shape (n, ...)."""
        return ()

    @staticmethod
    def step(params: Any, state: State, target: Array, position: Array, velocity: Array) -> tuple[State, Array]:
        """Return the next state and the torques during this physics step, N m.

        Args:
            params: `Params`.
            state: From `init` or from the physics step before.
            target: In the unit of the joint's `control`: rad, rad/s or N m.
            position: Of the joints, rad.
            velocity: Of the joints, rad/s.
        """
        raise NotImplementedError

    def kernel(self) -> Any:
        """Return a function for Numba that steps all joints at once; None where `step` is elementwise.

        It is for the only actuator in a chain. It takes the state, its arrays one after the other, which it changes,
        target, position and velocity, (n,) each, and writes the torques, N m, (n,), for a servo with gain 1.
        """
        return None


def namespace(array: Array) -> Any:
    """Return the module whose functions take this array: `jax.numpy` or `numpy`."""
    return jnp if isinstance(array, jax.Array) else np


def choose(condition: Array, yes: Array, no: Array) -> Array:
    """Return `yes` where a condition holds, and `no` elsewhere: `where`, for plain numbers too."""
    return namespace(condition).where(condition, yes, no)


def servo_torque(servo: Servo, target: Array, position: Array, velocity: Array) -> Array:
    """Return the torque of the ideal servo, without its limit, N m."""
    return servo.gain * target + (servo.bias0 + servo.bias1 * position + servo.bias2 * velocity)


def servo_target(servo: Servo, target: Array, torque: Array, position: Array, velocity: Array) -> Array:
    """Return the target with which the servo gives `torque`: `target` itself, to the bit, where it does so already.

    Without a gain no target changes anything.
    """
    excess = servo_torque(servo, target, position, velocity) - torque
    return target - excess / choose(servo.gain == 0.0, 1.0, servo.gain)
