"""MuJoCo's C structs: where fields are, and a model that holds the address of a function.

Why internals: a callback of MuJoCo gets addresses of mjModel and mjData, and `nuserdata` of a compiled model cannot be
set from Python. The layout is taken from `mujoco.introspect` and compared with what Python's own objects say. Otherwise
`jaxloco.internals.control_callback` does not work, which says what is done then.
"""

import copy
import ctypes
import math
from functools import cache
from typing import Any

import mujoco
from mujoco.introspect.ast_nodes import AnonymousStructDecl, ArrayType, PointerType
from mujoco.introspect.structs import STRUCTS

FIRST_STEP = 0.0
"""`MjData.time` at the beginning of a control period."""
NOT_STEPPING = -1.0
"""`MjData.time` of a robot that is to be left alone."""

MARKED = "actuator_dynprm"
"""Model field that holds the address: 10 numbers for each actuator, that MuJoCo reads of actuators with dynamics."""
MARK = 8.5131e7  # no time constant that anybody would write
PLACE = 5  # of the mark, in the first actuator's numbers; the address follows

_IN_MODEL = (MARKED, "actuator_gainprm", "actuator_biasprm", "actuator_forcerange")
_IN_DATA = ("qpos", "qvel", "ctrl", "userdata")

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


def with_function(model: mujoco.MjModel, address: int, user_numbers: int) -> mujoco.MjModel:
    """Return a copy of a model, all actuators of which are without dynamics, that the callback calls a function for.

    Args:
        model: The robot.
        address: Of a function from `jaxloco.internals.control_callback.c_function`.
        user_numbers: Room in its data's `userdata`.
    """
    model = copy.copy(model)
    assert model.nu == model.nactuator
    assert (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE).all()
    model.actuator_dynprm[0, PLACE : PLACE + 2] = MARK, address
    _layout("mjModel").from_address(model._address).nuserdata = user_numbers
    return model


@cache
def places() -> dict[str, int]:
    """Return where fields are in MuJoCo's structs, in words of 8 bytes.

    Raises:
        RuntimeError: This version of MuJoCo has another layout than it says: a place is somebody else's memory.
    """
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><size nuserdata='3'/><worldbody><body><joint name='a'/><geom size='1'/></body></worldbody>"
        "<actuator><motor joint='a'/></actuator></mujoco>"
    )
    data = mujoco.MjData(model)
    data.time = 0.5
    found = {}
    for owner, struct, numbers, arrays in (
        (model, "mjModel", ("nu", "nuserdata"), _IN_MODEL),
        (data, "mjData", ("time",), _IN_DATA),
    ):
        layout = _layout(struct)
        inside = layout.from_address(owner._address)
        told = {name: getattr(owner, name) for name in numbers}
        told |= {name: getattr(owner, name).ctypes.data for name in arrays}
        for name, value in told.items():
            if getattr(inside, name) != value:
                raise RuntimeError(f"MuJoCo {mujoco.__version__} has {struct}.{name} elsewhere than it says")
            found[name] = getattr(layout, name).offset // ctypes.sizeof(ctypes.c_int64)
    return found


@cache
def _layout(struct: str) -> Any:
    """Return a struct of this version of MuJoCo, as its package describes it."""
    return _structure(STRUCTS[struct].fields)


def _structure(fields: Any) -> Any:
    return type("_Struct", (ctypes.Structure,), {"_fields_": [(field.name, _c_type(field.type)) for field in fields]})


def _c_type(declared: Any) -> Any:
    if isinstance(declared, PointerType):
        return ctypes.c_void_p
    if isinstance(declared, ArrayType):
        return _c_type(declared.inner_type) * math.prod(declared.extents)
    if isinstance(declared, AnonymousStructDecl):
        return _structure(declared.fields)
    return _C_TYPES[declared.name] if declared.name in _C_TYPES else _layout(declared.name)
