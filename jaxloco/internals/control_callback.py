"""A C function of ours that MuJoCo calls in each of its steps, compiled by Numba.

MuJoCo calls `mjcb_control(model, data)` once position and velocity are known, before the actuators. So all physics
steps of all robots are one call of `mujoco.batch`, and no thread waits for Python's lock between them. The function is
one for all of MuJoCo: it finds the address of the robot's own function in the model, and leaves other models alone.

Why internals: the callback gets addresses of MuJoCo's structs (`jaxloco.internals.mujoco_structs`), and Numba has no
public way to make a pointer of an address within a struct, or to call a function by its address; `intrinsic` and LLVM's
builder do. Otherwise, actuators are stepped in NumPy between single physics steps (`jaxloco.physics.native_motors`).
"""

from functools import cache
from typing import Any, NamedTuple

import mujoco
from llvmlite import ir
from numba import cfunc, types
from numba.extending import intrinsic

from jaxloco.errors import JaxlocoError
from jaxloco.internals import intact
from jaxloco.internals.meanwhile import Meanwhile
from jaxloco.internals.mujoco_structs import FIRST_STEP, MARK, MARKED, PLACE, places

_ENTRY = types.void(types.int64, types.int64)  # addresses of model and data


class InStep(NamedTuple):
    """What a function sees in a physics step, before the actuators.

    Attributes:
        begins: Whether it is the first one of a control period.
        qpos: Pointer to float64, as all that follow; named as in MuJoCo.
    """

    begins: Any
    qpos: Any
    qvel: Any
    ctrl: Any
    userdata: Any
    actuator_gainprm: Any
    actuator_biasprm: Any
    actuator_forcerange: Any


@cache
def works() -> bool:
    """Whether MuJoCo's structs and Numba are as needed."""
    return intact("motors within MuJoCo's steps", "they are stepped in NumPy", _callback)


def c_function(body: Any) -> Any:
    """Compile a function for `with_function`.

    Args:
        body: For Numba; takes `InStep`.

    Returns:
        What has an `address`; keep it as long as a model has that.
    """
    at = places()
    time, qpos, qvel, ctrl, user = (at[name] for name in ("time", "qpos", "qvel", "ctrl", "userdata"))
    gain, bias, limits = (at[f"actuator_{name}"] for name in ("gainprm", "biasprm", "forcerange"))

    @cfunc(_ENTRY)  # pragma: no cover, it is not Python that runs
    def run(model: Any, data: Any) -> None:
        m, d = _words(model), _words(data)
        of_data = _doubles(d[qpos]), _doubles(d[qvel]), _doubles(d[ctrl]), _doubles(d[user])
        of_model = _doubles(m[gain]), _doubles(m[bias]), _doubles(m[limits])
        body(InStep(_doubles(data)[time] == FIRST_STEP, *of_data, *of_model))

    return run


def _begin() -> None:
    if mujoco.get_mjcb_control() is not None:
        raise JaxlocoError(
            "mujoco.set_mjcb_control: a callback is installed, in the place where the actuators of the motors go; "
            "take it away while robots are simulated, mujoco.set_mjcb_control(None)"
        )
    mujoco.set_mjcb_control(_callback().ctypes)


def _end() -> None:
    mujoco.set_mjcb_control(None)


running = Meanwhile(_begin, _end)
"""Within `with running():`, MuJoCo's steps call the functions of models from `with_function`."""


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


@cache
def _callback() -> Any:
    """Compile the callback, once in a process."""
    at = places()
    nu, marked, time = (at[name] for name in ("nu", MARKED, "time"))
    call: Any = _call

    @cfunc(_ENTRY)  # pragma: no cover, it is not Python that runs
    def run(model: Any, data: Any) -> None:
        m = _words(model)
        if m[nu] == 0 or _doubles(data)[time] < FIRST_STEP or _doubles(m[marked])[PLACE] != MARK:
            return
        call(int(_doubles(m[marked])[PLACE + 1]), model, data)

    return run
