"""Motors within MuJoCo's own steps: a C function, compiled by Numba, that it calls before the actuators.

MuJoCo calls `mjcb_control(model, data)` in every simulation step, once position and velocity are known. The function
here replaces the inputs by those that the robot's actuators (`jaxloco.physics.motors`) make of them. So all substeps of
all robots are one call of the batch, and no thread waits for Python's lock between them.

What is compiled is the actuators' own `step`, which gets plain numbers of one joint after the other. Each robot's
motors are a function of their own; the callback is one for all of MuJoCo, so it finds their address in the model, in
parameters of an actuator's dynamics that MuJoCo reads of other kinds of actuators only. Models without it are left
alone. What differs between robots and steps is in the user's part of the data: the inputs, which are held for a whole
control period from the step at time 0 on, the actuators' state, and their parameters.
"""

import copy
import ctypes
import logging
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

import mujoco
import numpy as np
from llvmlite import ir
from mujoco.introspect.ast_nodes import AnonymousStructDecl, ArrayType, PointerType
from mujoco.introspect.structs import STRUCTS
from numba import cfunc, njit, types
from numba.core.errors import NumbaError
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload, register_jitable

from jaxloco.errors import JaxlocoError
from jaxloco.physics.actuators import Actuator, Servo, choose, namespace, servo_target
from jaxloco.physics.meanwhile import Meanwhile
from jaxloco.physics.motors import Group, Motors, parameter_names

FIRST_STEP = 0.0
"""`MjData.time` at the beginning of a control period."""
NOT_STEPPING = -1.0
"""`MjData.time` of a robot whose inputs are to be left as they are."""

MOTORS_IN = "actuator_dynprm"
"""Model field that holds the address: 10 numbers for each actuator, that MuJoCo reads of actuators with dynamics."""
_MARK = 8.5131e7  # no time constant that anybody would write
_PLACE = 5  # of the mark, in the first actuator's numbers; the address follows

_ENTRY = types.void(types.int64, types.int64)  # addresses of model and data


def with_motors(model: mujoco.MjModel, motors: Motors) -> mujoco.MjModel:
    """Return a copy of a model whose motors the callback steps; all actuators are without dynamics.

    Its data have room for `user_numbers`, which are to be written before a step.
    """
    model = copy.copy(model)
    assert model.nu == model.nactuator
    assert (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE).all()
    function = compiled(motors)
    assert function is not None
    model.actuator_dynprm[0, _PLACE : _PLACE + 2] = _MARK, function.address
    in_model = _layout("mjModel").from_address(model._address)
    in_model.nuserdata = len(user_numbers(motors))
    return model


def user_numbers(motors: Motors) -> np.ndarray:
    """Return the user's numbers after a reset: inputs (nu), the actuators' state, their parameters (nu each)."""
    state = [array.ravel() for chains in motors.init() for arrays in chains for array in arrays]
    return np.concatenate([motors.rest, *state, *motors.parameters.values()])


def _begin() -> None:
    if mujoco.get_mjcb_control() is not None:
        raise JaxlocoError(
            "mujoco.set_mjcb_control: a callback is installed, in the place where the actuators of the motors go; "
            "take it away while robots are simulated, mujoco.set_mjcb_control(None)"
        )
    mujoco.set_mjcb_control(_callback().ctypes)


def _end() -> None:
    mujoco.set_mjcb_control(None)


motors_running = Meanwhile(_begin, _end)
"""Within `with motors_running():`, MuJoCo's steps run the motors of models from `with_motors`."""


def _pointer_to(kind: Any) -> Any:
    """Return a function for Numba: an address → a pointer to values of a kind."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_words, _doubles = _pointer_to(types.int64), _pointer_to(types.float64)


@intrinsic
def _call(context: Any, address: Any, model: Any, data: Any) -> Any:
    """Call the function at an address with two others."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = context.get_value_type(types.int64)
        kind = ir.FunctionType(ir.VoidType(), (word, word))
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), generate


# How Numba reads the two functions that tell JAX's arrays from NumPy's.
overload(namespace, inline="always")(lambda array: lambda array: np)
overload(choose)(lambda condition, yes, no: lambda condition, yes, no: yes if condition else no)


@cache
def _callback() -> Any:
    """Compile the callback, once in a process."""
    places = _places()
    nu, dyn, time = (places[name] for name in ("nu", "actuator_dynprm", "time"))
    call: Any = _call

    @cfunc(_ENTRY)  # pragma: no cover, it is not Python that runs
    def run(model: Any, data: Any) -> None:
        m = _words(model)
        if m[nu] == 0 or _doubles(data)[time] < FIRST_STEP or _doubles(m[dyn])[_PLACE] != _MARK:
            return
        call(int(_doubles(m[dyn])[_PLACE + 1]), model, data)

    return run


_compiled: dict[str, Any] = {}
"""Every function by its motors' fingerprint, for as long as the process lives: models hold their addresses."""


def compiled(motors: Motors) -> Any:
    """Compile the function of a robot's motors, once in a process; None if Numba cannot compile an actuator's `step`.

    Raises:
        JaxlocoError: This version of MuJoCo has another layout than it says.
    """
    key = motors.fingerprint()
    if key not in _compiled:
        places = _places()
        try:
            _compiled[key] = _compile(motors, places)
        except NumbaError as error:
            kinds = ", ".join(sorted({one.name for group in motors.groups for one in group.chain}))
            logging.getLogger(__name__).info("actuators %s are stepped in NumPy: %s", kinds, error)
            _compiled[key] = None
    return _compiled[key]


def _compile(motors: Motors, places: dict[str, int]) -> Any:
    """Compile a function of the addresses of a model and its data: it replaces the inputs in this step."""
    nu, timestep = len(motors.rest), motors.timestep
    q_places, v_places = (np.asarray(places, np.int64) for places in (motors.qpos, motors.qvel))
    gain, bias, limits = (places[f"actuator_{name}"] for name in ("gainprm", "biasprm", "forcerange"))
    time, qpos, qvel, ctrl, user = (places[name] for name in ("time", "qpos", "qvel", "ctrl", "userdata"))
    gains, biases, target_of = mujoco.mjNGAIN, mujoco.mjNBIAS, _every_joint(motors)

    @cfunc(_ENTRY)  # pragma: no cover, it is not Python that runs
    def step(model: Any, data: Any) -> None:
        m, d = _words(model), _words(data)
        q, v, inputs, u = _doubles(d[qpos]), _doubles(d[qvel]), _doubles(d[ctrl]), _doubles(d[user])
        g, b, limit = _doubles(m[gain]), _doubles(m[bias]), _doubles(m[limits])
        if _doubles(data)[time] == FIRST_STEP:
            for j in range(nu):
                u[j] = inputs[j]
        for j in range(nu):
            k = j * biases
            servo = Servo(g[j * gains], b[k], b[k + 1], b[k + 2], limit[2 * j + 1], timestep)
            inputs[j] = target_of(u, j, servo, u[j], q[q_places[j]], v[v_places[j]])

    return step


def _every_joint(motors: Motors) -> Any:
    """Return a function for Numba: the user's numbers, joint, servo, target, position, velocity → the servo's target.

    Actuators read and write their state and parameters among the user's numbers.
    """
    nu = len(motors.rest)
    start = nu
    first_parameter = len(user_numbers(motors)) - nu * len(motors.parameters)
    columns = {name: first_parameter + nu * i for i, name in enumerate(motors.parameters)}

    @njit  # pragma: no cover
    def whole(u: Any, j: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
        return target

    for group, states in zip(motors.groups, motors.init(), strict=True):
        chain = None
        for one, state in zip(group.chain, states, strict=True):
            joints = len(group.joints)
            parameters = tuple(columns[name] for name in parameter_names(one))
            stage = _stage(one, parameters, tuple(start + joints * k for k in range(len(state))))
            chain = stage if chain is None else _then(chain, stage)
            start += joints * len(state)
        if chain is not None:
            whole = _for_joints(group, nu, chain, whole)
    return whole


def _stage(one: Actuator, parameters: tuple[int, ...], state: tuple[int, ...]) -> Any:
    """Return a function for Numba of one actuator: from its target to that of the next.

    Args:
        one: The actuator.
        parameters: Where each of its parameters begins among the user's numbers, one for each of the robot's joints.
        state: The same of each array of its state, one number for each of its own joints.
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
    if not places:
        return njit(lambda u, i: ())
    zeros = (0.0,) * len(places)
    put: Any = tuple_setitem

    @njit  # pragma: no cover
    def read(u: Any, i: Any) -> Any:
        values = zeros
        for k in range(len(places)):
            values = put(values, k, u[places[k] + i])
        return values

    return read


def _writer(places: tuple[int, ...]) -> Any:
    """Return a function for Numba that writes such a tuple."""
    if not places:
        return njit(lambda u, i, values: None)

    @njit  # pragma: no cover
    def write(u: Any, i: Any, values: Any) -> None:
        for k in range(len(places)):
            u[places[k] + i] = values[k]

    return write


def _then(first: Any, second: Any) -> Any:
    @njit  # pragma: no cover
    def both(u: Any, j: Any, i: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
        between = first(u, j, i, servo, target, position, velocity)
        return second(u, j, i, servo, between, position, velocity)

    return both


def _for_joints(group: Group, nu: int, chain: Any, otherwise: Any) -> Any:
    """Return a function of any joint: `chain` for those of a group."""
    places = np.full(nu, -1)
    places[group.joints] = np.arange(len(group.joints))

    @njit  # pragma: no cover
    def one(u: Any, j: Any, servo: Any, target: Any, position: Any, velocity: Any) -> Any:
        if places[j] >= 0:
            return chain(u, j, places[j], servo, target, position, velocity)
        return otherwise(u, j, servo, target, position, velocity)

    return one


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


_C_TYPES = {
    "float": ctypes.c_float,
    "int": ctypes.c_int,
    "mjtBool": ctypes.c_bool,
    "mjtNum": ctypes.c_double,
    "mjtSize": ctypes.c_int64,
    "size_t": ctypes.c_size_t,
    "uint64_t": ctypes.c_uint64,
    "uintptr_t": ctypes.c_void_p,
}


@cache
def _layout(struct: str) -> Any:
    """Return a struct of this version of MuJoCo, as its package describes it."""
    return _structure(ctypes.Structure, STRUCTS[struct].fields)


def _structure(base: type, fields: Any) -> Any:
    return type("_Struct", (base,), {"_fields_": [(field.name, _c_type(field.type)) for field in fields]})


def _c_type(declared: Any) -> Any:
    if isinstance(declared, PointerType):
        return ctypes.c_void_p
    if isinstance(declared, ArrayType):
        return _c_type(declared.inner_type) * int(np.prod(declared.extents))
    if isinstance(declared, AnonymousStructDecl):
        return _structure(ctypes.Structure, declared.fields)
    return _C_TYPES[declared.name] if declared.name in _C_TYPES else _layout(declared.name)


@cache
def _places() -> dict[str, int]:
    """Return where fields are in MuJoCo's structs, in words of 8 bytes.

    Raises:
        JaxlocoError: This version of MuJoCo has another layout than it says.
    """
    model, data = _layout("mjModel"), _layout("mjData")
    _check_layout(model, data)
    found = {name: getattr(model, name).offset for name in ("nu", *_IN_MODEL)}
    found |= {name: getattr(data, name).offset for name in ("time", *_IN_DATA)}
    return {name: offset // ctypes.sizeof(ctypes.c_int64) for name, offset in found.items()}


_IN_MODEL = ("actuator_dynprm", "actuator_gainprm", "actuator_biasprm", "actuator_forcerange")
_IN_DATA = ("qpos", "qvel", "ctrl", "userdata")


def _check_layout(model_type: Any, data_type: Any) -> None:
    """Compare with what Python's own objects say of a model: a wrong place would be somebody else's memory."""
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><size nuserdata='3'/><worldbody><body><joint name='a'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='a'/></actuator></mujoco>"
    )
    in_model = model_type.from_address(model._address)
    found = [in_model.nu == model.nu, in_model.nuserdata == model.nuserdata == 3]
    data = mujoco.MjData(model)
    data.time = 0.5
    in_data = data_type.from_address(data._address)
    found += [in_data.time == data.time, len(data.userdata) == 3]
    found += [getattr(in_model, name) == getattr(model, name).ctypes.data for name in _IN_MODEL]
    found += [getattr(in_data, name) == getattr(data, name).ctypes.data for name in _IN_DATA]
    if not all(found):
        raise JaxlocoError(
            f"MuJoCo {mujoco.__version__}: its structs are not laid out as it says (mujoco.introspect); "
            "jaxloco's native engine cannot step motors: try --physics mjx"
        )
