"""Torque–speed curves within MuJoCo's own steps: a C function, compiled by Numba, that it calls before the actuators.

MuJoCo calls `mjcb_control(model, data)` in every simulation step, once position and velocity are known. The function
here replaces the inputs by those that the curves of `jaxloco.physics.motors` allow. So all substeps of all robots are
one call of the batch, and no thread waits for Python's lock between them.

The function is the same for all models, because the callback is: the curves are in the model, in parameters of an
actuator's dynamics that MuJoCo reads of other kinds of actuators only. Models without them are left alone. Inputs are
held for a whole control period, so the function keeps them beside those that it makes of them: in a field of the data
that only inverse dynamics uses, from the step at time 0 on.
"""

import copy
import ctypes
from functools import cache
from typing import Any

import mujoco
import numpy as np
from mujoco.introspect.ast_nodes import AnonymousStructDecl, ArrayType, PointerType
from mujoco.introspect.structs import STRUCTS
from numba import cfunc, types
from numba.extending import intrinsic

from jaxloco.errors import JaxlocoError
from jaxloco.physics.meanwhile import Meanwhile
from jaxloco.physics.motors import Motors

FIRST_STEP = 0.0
"""`MjData.time` at the beginning of a control period."""
NOT_STEPPING = -1.0
"""`MjData.time` of a robot whose inputs are to be left as they are."""

CURVES_IN = "actuator_dynprm"
"""Model field that holds the curves: 10 numbers for each actuator, that MuJoCo reads of actuators with dynamics."""
_MARK = 8.5131e7  # no time constant that anybody would write
_CURVE = 5  # where they begin: the mark, v_max, the slope, and the joint's places in qpos and qvel


def with_curves(model: mujoco.MjModel, motors: Motors) -> mujoco.MjModel:
    """Return a copy of a model with curves where the callback finds them; all actuators are without dynamics."""
    model = copy.copy(model)
    assert model.nu == model.nactuator <= model.nv
    assert (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE).all()
    curve = (np.full(model.nu, _MARK), motors.velocity_limit, motors.slope, motors.qpos, motors.qvel)
    model.actuator_dynprm[:, _CURVE:] = np.stack(curve, axis=1)
    return model


def _begin() -> None:
    if mujoco.get_mjcb_control() is not None:
        raise JaxlocoError(
            "mujoco.set_mjcb_control: a callback is installed, in the place where the torque–speed curves of the "
            "motors go; take it away while robots are simulated, mujoco.set_mjcb_control(None)"
        )
    mujoco.set_mjcb_control(compiled().ctypes)


def _end() -> None:
    mujoco.set_mjcb_control(None)


hold_to_curves = Meanwhile(_begin, _end)
"""Within `with hold_to_curves():`, MuJoCo's steps hold models with curves to them."""


def _pointer_to(kind: Any) -> Any:
    """Return a function for Numba: an address → a pointer to values of a kind."""

    @intrinsic
    def pointer(context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_words, _doubles = _pointer_to(types.int64), _pointer_to(types.float64)


@cache
def compiled() -> Any:
    """Compile the function, once in a process; takes half a second.

    Raises:
        JaxlocoError: This version of MuJoCo has another layout than it says.
    """
    model, data = _layout("mjModel"), _layout("mjData")
    _check_layout(model, data)
    word, stride = ctypes.sizeof(ctypes.c_int64), mujoco.mjNDYN
    nu = model.nu.offset // word
    dyn, gain, bias = (getattr(model, f"actuator_{name}prm").offset // word for name in ("dyn", "gain", "bias"))
    time, qpos, qvel = (getattr(data, name).offset // word for name in ("time", "qpos", "qvel"))
    ctrl, held = (getattr(data, name).offset // word for name in ("ctrl", "qfrc_inverse"))
    gains, biases, first, mark = mujoco.mjNGAIN, mujoco.mjNBIAS, _CURVE, _MARK

    @cfunc(types.void(types.int64, types.int64))  # pragma: no cover, it is not Python that runs
    def hold(model: Any, data: Any) -> None:
        m, d = _words(model), _words(data)
        now = _doubles(data)[time]
        if m[nu] == 0 or now < FIRST_STEP or _doubles(m[dyn])[first] != mark:
            return
        q, v, inputs, wanted = _doubles(d[qpos]), _doubles(d[qvel]), _doubles(d[ctrl]), _doubles(d[held])
        g, b, curve = _doubles(m[gain]), _doubles(m[bias]), _doubles(m[dyn])
        for i in range(m[nu]):
            if now == FIRST_STEP:
                wanted[i] = inputs[i]
            at = i * stride + first
            fastest, slope = curve[at + 1], curve[at + 2]
            position, velocity = q[int(curve[at + 3])], v[int(curve[at + 4])]
            # As in jaxloco.physics.motors.limit_inputs, operation for operation.
            j = i * biases
            factor, feedback = g[i * gains], b[j] + b[j + 1] * position + b[j + 2] * velocity
            torque = factor * wanted[i] + feedback
            held_torque = max(torque, min(slope * (-fastest - velocity), 0.0))
            held_torque = min(held_torque, max(slope * (fastest - velocity), 0.0))
            inputs[i] = wanted[i] - (torque - held_torque) / (factor if factor != 0.0 else 1.0)

    return hold


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


def _check_layout(model_type: Any, data_type: Any) -> None:
    """Compare with what Python's own objects say of a model: a wrong place would be somebody else's memory."""
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint name='a'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='a'/></actuator></mujoco>"
    )
    data = mujoco.MjData(model)
    data.time = 0.5
    in_model, in_data = model_type.from_address(model._address), data_type.from_address(data._address)
    arrays = {name: getattr(model, name) for name in ("actuator_dynprm", "actuator_gainprm", "actuator_biasprm")}
    found = [in_model.nu == model.nu, in_data.time == data.time]
    found += [getattr(in_model, name) == array.ctypes.data for name, array in arrays.items()]
    found += [
        getattr(in_data, name) == getattr(data, name).ctypes.data for name in ("qpos", "qvel", "ctrl", "qfrc_inverse")
    ]
    if not all(found):
        raise JaxlocoError(
            f"MuJoCo {mujoco.__version__}: its structs are not laid out as it says (mujoco.introspect); "
            "jaxloco's native engine cannot hold motors to their torque–speed curves: try --physics mjx"
        )
