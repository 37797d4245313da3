"""MuJoCo without its timers.

In each of its stages MuJoCo asks for the time, if it has been given a clock (`mjcb_time`). In C it has none; its Python
package gives it one when it is imported, which slows the step of a small robot.

Why internals: `mujoco.set_mjcb_time(None)` does not take that clock away, it puts it there; so the C variable is found
in the library that MuJoCo's module of callbacks is linked with. Otherwise the clock stays.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib import import_module

import mujoco

from jaxloco.internals import intact
from jaxloco.internals.meanwhile import Meanwhile


@contextmanager
def no_timers() -> Iterator[None]:
    """Take MuJoCo's clock away meanwhile, in all threads; `MjData.timer` stands still. A user's own clock stays."""
    if _clock() is None or mujoco.get_mjcb_time() is not None:
        yield
        return
    with _without_clock():
        yield


def _stop() -> None:
    clock = _clock()
    assert clock is not None
    clock.value = None


_without_clock = Meanwhile(_stop, partial(mujoco.set_mjcb_time, None))


@cache
def _clock() -> ctypes.c_void_p | None:
    """Return MuJoCo's `mjcb_time`; None where it is not found."""
    return _find() if intact("MuJoCo's clock", "it is left running", _find) else None


def _find() -> ctypes.c_void_p:
    return ctypes.c_void_p.in_dll(ctypes.CDLL(import_module("mujoco._callbacks").__file__), "mjcb_time")
