"""The motors of a robot as one C function, for MuJoCo's own steps.

What Numba compiles is the actuators' own `step`, which gets plain numbers of one joint after the other. What differs
between robots and steps is in the user's part of the data: the inputs, which are held for a whole control period, the
actuators' state, and their parameters. `jaxloco.internals.control_callback` calls the function, with which the inputs
become those that the actuators make of them.
"""

import logging
import math
from collections.abc import Callable, Mapping
from functools import cache
from types import FunctionType
from typing import Any

import mujoco
import numpy as np
from numba import NumbaError, carray, njit
from numba.extending import overload, register_jitable

from jaxloco.internals import control_callback
from jaxloco.internals.mujoco_structs import with_function
from jaxloco.physics.actuators import Actuator, Servo, choose, namespace, servo_target
from jaxloco.physics.motors import Group, Motors, parameter_names

# How Numba reads the two functions that tell JAX's arrays from NumPy's.
overload(namespace, inline="always")(lambda array: lambda array: np)
overload(choose)(lambda condition, yes, no: lambda condition, yes, no: yes if condition else no)


def with_motors(model: mujoco.MjModel, motors: Motors) -> mujoco.MjModel:
    """Return a copy of a model whose motors the callback steps; all actuators are without dynamics.

    Its data have room for `user_numbers`, which are to be written before a step.
    """
    function = compiled(motors)
    assert function is not None
    return with_function(model, function.address, len(user_numbers(motors)))


def user_numbers(motors: Motors) -> np.ndarray:
    """Return the user's numbers after a reset: inputs (nu), the actuators' state, their parameters (nu each)."""
    state = [array.ravel() for chains in motors.init() for arrays in chains for array in arrays]
    return np.concatenate([motors.rest, *state, *motors.parameters.values()])


_compiled: dict[str, Any] = {}
"""Every function by its motors' fingerprint, for as long as the process lives: models hold their addresses."""


def compiled(motors: Motors) -> Any:
    """Return the C function of motors, None where they cannot be compiled; compile it at the first call."""
    key = motors.fingerprint()
    if key not in _compiled:
        try:
            _compiled[key] = _compile(motors) if control_callback.works() else None
        except NumbaError as error:
            kinds = ", ".join(sorted({one.name for group in motors.groups for one in group.chain}))
            logging.getLogger(__name__).info("actuators %s are stepped in NumPy: %s", kinds, error)
            _compiled[key] = None
    return _compiled[key]


def _compile(motors: Motors) -> Any:
    """Compile a function that replaces the inputs; actuators' state and parameters are among the user's numbers."""
    start = nu = len(motors.rest)
    first_parameter = len(user_numbers(motors)) - nu * len(motors.parameters)
    columns = {name: first_parameter + nu * i for i, name in enumerate(motors.parameters)}
    whole = None
    for group, states in zip(motors.groups, motors.init(), strict=True):
        size = sum(math.prod(array.shape) for arrays in states for array in arrays)
        kernel = group.chain[0].kernel() if len(group.chain) == 1 else None
        if kernel is None:
            step = _group(motors, group, _chain(group, states, columns, start))
        else:
            step = _at_once(motors, group, kernel, slice(start, start + size))
        start += size
        whole = step if whole is None else _after(whole, step)
    return control_callback.c_function(whole)


def _chain(group: Group, states: Any, columns: Mapping[str, int], start: int) -> Any:
    """Return a function for Numba of all actuators of a group; their state is among the user's numbers from `start`."""
    chain, joints = None, len(group.joints)
    for one, state in zip(group.chain, states, strict=True):
        parameters = tuple(columns[name] for name in parameter_names(one))
        stage = _stage(one, parameters, tuple(start + joints * k for k in range(len(state))))
        chain = stage if chain is None else _then(chain, stage)
        start += joints * len(state)
    return _unchanged if chain is None else chain


@njit  # pragma: no cover, as all that follow: it is not Python that runs
def _unchanged(u: Any, j: Any, i: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
    """Of the user's numbers, joint, its place in the group, servo, target, position, velocity: the servo's target."""
    return target


def _after(first: Any, second: Any) -> Any:
    @njit  # pragma: no cover
    def both(now: Any) -> None:
        first(now)
        second(now)

    return both


def _group(motors: Motors, group: Group, chain: Any) -> Any:
    """Return a function for Numba that steps the joints of a group."""
    joints, timestep = np.asarray(group.joints, np.int64), motors.timestep
    q_places, v_places = (np.asarray(places, np.int64) for places in (motors.qpos, motors.qvel))
    gains, biases = mujoco.mjNGAIN, mujoco.mjNBIAS

    @njit  # pragma: no cover
    def step(now: Any) -> None:
        u, g, b, limit = now.userdata, now.actuator_gainprm, now.actuator_biasprm, now.actuator_forcerange
        for i in range(len(joints)):
            j = joints[i]
            if now.begins:
                u[j] = now.ctrl[j]  # held for the control period
            k = j * biases
            servo = Servo(g[j * gains], b[k], b[k + 1], b[k + 2], limit[2 * j + 1], timestep)
            now.ctrl[j] = chain(u, j, i, servo, u[j], now.qpos[q_places[j]], now.qvel[v_places[j]])

    return step


def _at_once(motors: Motors, group: Group, kernel: Any, state: slice) -> Any:
    """Return a function for Numba that steps the joints of a group in one call of its actuator's kernel."""
    joints, timestep, n = np.asarray(group.joints, np.int64), motors.timestep, len(group.joints)
    q_places, v_places = (np.asarray(places, np.int64) for places in (motors.qpos, motors.qvel))
    gains, biases = mujoco.mjNGAIN, mujoco.mjNBIAS
    first, end = state.start, state.stop

    @njit  # pragma: no cover
    def step(now: Any) -> None:
        u, g, b, limit = now.userdata, now.actuator_gainprm, now.actuator_biasprm, now.actuator_forcerange
        moving = np.empty((4, n))
        target, position, velocity, torque = moving[0], moving[1], moving[2], moving[3]
        for i in range(n):
            j = joints[i]
            if now.begins:
                u[j] = now.ctrl[j]  # held for the control period
            target[i], position[i], velocity[i] = u[j], now.qpos[q_places[j]], now.qvel[v_places[j]]
        kernel(carray(u, (end,))[first:], target, position, velocity, torque)
        for i in range(n):
            j = joints[i]
            k = j * biases
            servo = Servo(g[j * gains], b[k], b[k + 1], b[k + 2], limit[2 * j + 1], timestep)
            now.ctrl[j] = servo_target(servo, target[i], servo.gain * torque[i], position[i], velocity[i])

    return step


def _stage(one: Actuator, parameters: tuple[int, ...], state: tuple[int, ...]) -> Any:
    """Return a function for Numba of one actuator: from its target to that of the next.

    Args:
        one: The actuator.
        parameters: Where each of its parameters begins among the user's numbers, one for each of the robot's joints.
        state: Where each array of its state begins, one number for each of its own joints.
    """
    _teach(type(one).step)
    step, make = njit(type(one).step), one.Params
    read_parameters, read_state, write_state = _reader(parameters), _reader(state), _writer(state)

    @njit  # pragma: no cover
    def stage(u: Any, j: Any, i: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
        params = make(servo, *read_parameters(u, j))
        after, torque = step(params, read_state(u, i), target, position, velocity)
        write_state(u, i, after)
        return servo_target(servo, target, torque, position, velocity)

    return stage


def _reader(places: tuple[int, ...]) -> Any:
    """Return a function for Numba: the user's numbers and a joint → a tuple of the numbers at some places."""
    read = njit(lambda u, i: ())
    for place in places:
        read = _and_read(read, place)
    return read


def _and_read(before: Any, place: int) -> Any:
    return njit(lambda u, i: (*before(u, i), u[place + i]))


def _writer(places: tuple[int, ...]) -> Any:
    """Return a function for Numba that writes such a tuple."""
    write = njit(lambda u, i, values: None)
    for k, place in enumerate(places):
        write = _and_write(write, k, place)
    return write


def _and_write(before: Any, k: int, place: int) -> Any:
    @njit  # pragma: no cover
    def write(u: Any, i: Any, values: Any) -> None:
        before(u, i, values)
        u[place + i] = values[k]

    return write


def _then(first: Any, second: Any) -> Any:
    @njit  # pragma: no cover
    def both(u: Any, j: Any, i: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
        between = first(u, j, i, servo, target, position, velocity)
        return second(u, j, i, servo, between, position, velocity)

    return both


@cache
def _teach(function: Callable[..., Any]) -> None:
    """Let Numba compile the plain functions that a function calls, too."""
    for name in function.__code__.co_names:
        helper = function.__globals__.get(name)
        if isinstance(helper, FunctionType) and helper not in (namespace, choose):
            _teach(helper)
            register_jitable(helper)


_teach(servo_target)
register_jitable(servo_target)
