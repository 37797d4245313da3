"""Choosing and building a physics engine."""

import importlib.util

import jax

from jaxloco.errors import ConfigError, unknown_name
from jaxloco.installation import pip_install
from jaxloco.internals import mujoco_warp
from jaxloco.physics.contract import ENGINES, Physics, PhysicsSpec

NVIDIA = ("gpu", "cuda")
"""What JAX may call such a device."""


def choose_engine(name: str = "auto") -> str:
    """Resolve "auto": warp on an NVIDIA GPU that has it, mjx on other accelerators, native on a CPU.

    Args:
        name: "auto" or one of `ENGINES`.

    Raises:
        UnknownNameError: No such engine.
        ConfigError: The engine cannot run here; says what to install or choose.
    """
    if name not in ("auto", *ENGINES):
        raise unknown_name("physics engine", name, ("auto", *ENGINES))
    backend = jax.default_backend()
    if name == "auto":
        if backend == "cpu":
            return "native"
        return "warp" if backend in NVIDIA and has_warp() else "mjx"
    if name == "warp" and not has_warp():
        raise ConfigError(f"--physics warp needs the package warp-lang: {pip_install('cuda')}")
    if name == "warp" and backend not in (*NVIDIA, "cpu"):
        raise ConfigError(f"--physics warp needs an NVIDIA GPU; JAX runs on {backend!r} here. Use --physics auto.")
    return name


def packages(engine: str) -> dict[str, str]:
    """Return the versions of the packages that this engine alone runs on."""
    return mujoco_warp.load().copy.versions if engine == "warp" else {}


def has_warp() -> bool:
    """Whether Warp is installed."""
    return importlib.util.find_spec("warp") is not None


def make_physics(spec: PhysicsSpec, engine: str = "auto", threads: int = 0) -> Physics:
    """Build an engine.

    Args:
        spec: What to simulate.
        engine: "auto", "native", "mjx" or "warp".
        threads: Threads of the native engine, 0 for one per core.

    Raises:
        UnknownNameError: No such engine.
        ConfigError: The engine cannot run on this machine.
    """
    engine = choose_engine(engine)
    if engine == "native":
        from jaxloco.physics.native import NativePhysics

        return NativePhysics(spec, threads)
    if engine == "warp":
        from jaxloco.physics.warp import warp_physics

        return warp_physics(spec)
    from jaxloco.physics.mjx import MjxPhysics

    return MjxPhysics(spec)
