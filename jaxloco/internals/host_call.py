"""Calling a Python function from a compiled program on a CPU, without copies.

The handler is a C function made with `ctypes` that speaks XLA's foreign-function interface (`xla/ffi/api/c_api.h`,
version 0.x, shipped with jaxlib; each struct below is named as there). The program holds a name, and the function gets
views of XLA's own buffers and the device's number.

Why internals: `jax.pure_callback` hands its arguments to JAX again, which copies them on the very threads that wait for
the callback: two devices of one process can block each other for good (https://github.com/jax-ml/jax/issues/24255). And
JAX 0.10 keeps no program with a host callback in its compilation cache
(https://github.com/jax-ml/jax/pull/38405 changes that). JAX registers handlers, but makes none of Python functions.
Otherwise `jax.experimental.buffer_callback` calls the function: without copies too, but without the cache, and all
devices of a process share what is kept for device 0, one after the other.
"""

import ctypes
import logging
import math
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxloco.errors import JaxlocoError
from jaxloco.internals import intact

HostFunction = Callable[..., None]
"""Takes the device's number, then one array per argument (read-only) and one per result (to be filled)."""

_METADATA = 1  # XLA_FFI_Extension_Metadata
_EXECUTE = 3  # XLA_FFI_ExecutionStage_EXECUTE
_INTERNAL = 13  # XLA_FFI_Error_Code_INTERNAL
_FLOAT32 = 11  # XLA_FFI_DataType_F32
_API_VERSION = (0, 1)  # what the layouts below have looked like since; newer minor versions only append

# Places of fields, in words of 8 bytes; an enum takes one word with its padding.
_FRAME_API, _FRAME_CONTEXT, _FRAME_STAGE, _FRAME_ARGUMENTS, _FRAME_RESULTS = 2, 3, 4, 5, 10
_LIST_SIZE, _LIST_ITEMS = 2, 4
_BUFFER_TYPE, _BUFFER_DATA, _BUFFER_RANK, _BUFFER_DIMS = 2, 3, 4, 5
_API_ERROR_CREATE, _API_DEVICE_ORDINAL = 6, 6 + 17
_FRAME_WORDS, _BUFFER_WORDS = 20, 6

_Handler = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)

_registered: dict[str, tuple[HostFunction, object]] = {}
"""Every function by name, for as long as the process lives: a compiled program may call it at any time."""


def register(name: str, function: Callable[[], HostFunction]) -> None:
    """Make a function known to XLA under a name.

    Compiled programs, those in the compilation cache included, find it by this name: the same name must always stand
    for the same computation.

    Args:
        name: Unique name, such as one with a hash of all that the function depends on.
        function: Makes the function; called if the name is new.
    """
    if name in _registered:
        return
    target = function()
    handler = _Handler(_make_handler(target))
    _registered[name] = (target, handler)
    if not works():
        return
    address = ctypes.cast(handler, ctypes.c_void_p).value
    assert address is not None
    jax.ffi.register_ffi_target(name, _capsule(address), platform="cpu")


def call(name: str, result: jax.ShapeDtypeStruct, *arguments: jax.Array) -> jax.Array:
    """Call a registered function; traceable. Under `vmap`, all arguments and results get the same leading axes.

    Args:
        name: As registered.
        result: Shape of the result, float32, (n,).
        arguments: Float32 vectors.
    """
    if jax.default_backend() != "cpu":
        host = partial(_allocating, name, result.shape)
        return jax.pure_callback(host, result, *arguments, vmap_method="broadcast_all")
    if works():
        return jax.ffi.ffi_call(name, result, vmap_method="broadcast_all")(*arguments)
    from jax.experimental.buffer_callback import buffer_callback

    return buffer_callback(partial(_in_place, name), result, vmap_method="broadcast_all")(*arguments)


@cache
def works() -> bool:
    """Whether XLA's interface is the one that is spoken here."""
    return intact("XLA's foreign-function interface", "programs with host calls are not cached", _check_version)


def _check_version() -> None:
    """Raise RuntimeError if structs may be laid out in another way, which a new major version says."""
    header = Path(jax.ffi.include_dir(), "xla/ffi/api/c_api.h").read_text(encoding="utf-8")
    found = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header))
    version = int(found["MAJOR"]), int(found["MINOR"])
    if version < _API_VERSION or version[0] != _API_VERSION[0]:
        raise RuntimeError(f"its version is {version[0]}.{version[1]}, expected 0.1 or a later 0.x")


def _in_place(name: str, _: Any, out: Any, *arguments: Any) -> None:
    """What a program calls by `buffer_callback`."""
    arrays = [np.asarray(argument).view() for argument in arguments]
    for array in arrays:
        array.flags.writeable = False
    _registered[name][0](0, *arrays, np.asarray(out))


def _allocating(name: str, shape: tuple[int, ...], *arguments: jax.Array) -> np.ndarray:
    """What an accelerator's program calls: its arguments come as copies."""
    arrays = [np.asarray(argument) for argument in arguments]
    lead = arrays[0].shape[: arrays[0].ndim - 1]
    out = np.empty((*lead, *shape), np.float32)
    _registered[name][0](0, *arrays, out)
    return out


def _capsule(address: int) -> object:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return new(address, None, None)


def _make_handler(function: HostFunction) -> Callable[[int], int | None]:
    """Return the body of the C function: a call frame's address in, an error's address or None out."""

    def handle(frame_address: int) -> int | None:
        frame = _words(frame_address, _FRAME_WORDS)
        try:
            if frame[1] and _is_metadata(frame[1]):
                _answer_metadata(frame[1])
            elif frame[_FRAME_STAGE] & 0xFFFFFFFF == _EXECUTE:
                arguments = _arrays(frame, _FRAME_ARGUMENTS, writeable=False)
                function(_device(frame), *arguments, *_arrays(frame, _FRAME_RESULTS, writeable=True))
        except Exception as error:  # it must not unwind through XLA
            logging.getLogger(__name__).exception("a call from a compiled program failed")
            return _error(frame[_FRAME_API], f"{type(error).__name__}: {error}")
        return None

    return handle


def _words(address: int, count: int) -> ctypes.Array:
    return (ctypes.c_int64 * count).from_address(address)


def _is_metadata(extension: int) -> bool:
    return _words(extension, 2)[1] & 0xFFFFFFFF == _METADATA


def _answer_metadata(extension: int) -> None:
    metadata = _words(_words(extension, 4)[3], 5)
    metadata[3], metadata[4] = _API_VERSION[0] | _API_VERSION[1] << 32, 0  # two numbers of 4 bytes; no traits


def _arrays(frame: ctypes.Array, place: int, *, writeable: bool) -> list[np.ndarray]:
    items = _words(frame[place + _LIST_ITEMS], frame[place + _LIST_SIZE])
    return [_array(address, writeable) for address in items]


def _array(address: int, writeable: bool) -> np.ndarray:
    """Return a view of an XLA buffer."""
    buffer = _words(address, _BUFFER_WORDS)
    if buffer[_BUFFER_TYPE] & 0xFFFFFFFF != _FLOAT32:
        raise JaxlocoError("only float32 arrays can be passed")
    shape = tuple(_words(buffer[_BUFFER_DIMS], buffer[_BUFFER_RANK])) if buffer[_BUFFER_RANK] else ()
    size = math.prod(shape)
    if not size:
        return np.empty(shape, np.float32)
    array = np.frombuffer((ctypes.c_float * size).from_address(buffer[_BUFFER_DATA]), np.float32).reshape(shape)
    array.flags.writeable = writeable
    return array


def _device(frame: ctypes.Array) -> int:
    """Return the number of the device that the program runs on."""
    request = _request(frame[_FRAME_CONTEXT], 0)
    get = _api_function(frame[_FRAME_API], _API_DEVICE_ORDINAL)
    return int(request[3]) & 0xFFFFFFFF if get is not None and not get(ctypes.byref(request)) else 0


def _error(api: int, message: str) -> int | None:
    text = ctypes.create_string_buffer(message.encode())
    request = _request(ctypes.addressof(text), _INTERNAL)
    create = _api_function(api, _API_ERROR_CREATE)
    assert create is not None
    return create(ctypes.byref(request))


def _request(*words: int) -> ctypes.Array:
    """Return the struct that a function of XLA's table takes: its size, no extension, its fields."""
    return (ctypes.c_int64 * (2 + len(words)))(8 * (2 + len(words)), 0, *words)


def _api_function(api: int, place: int) -> Callable[..., int | None] | None:
    """Return a function of XLA's table, or None if this version's table ends before it."""
    table = _words(api, 1)
    if table[0] < 8 * (place + 1):
        return None
    return ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(_words(api, place + 1)[place])
