"""Several devices: one mesh axis over robots, each device with its share of them.

A program is written for one device and says where it averages or gathers over all (`jaxloco.learning.collectives` over
`ROBOTS`); on one device those cost nothing. The cores of a CPU count as devices too: MuJoCo's steps are parallel, and
with one device per core so is everything between them.
"""

import contextlib
import os
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxloco.cores import count_cores
from jaxloco.errors import ConfigError
from jaxloco.training.config import TrainConfig

ROBOTS = "robots"
"""Name of the mesh axis."""

MOST_CORES = 8
"""Each device's share of the robots would get too small with more."""

SHARED, SPLIT = PartitionSpec(), PartitionSpec(ROBOTS)
"""Equal on every device; split along the leading axis."""

SPLIT_SECOND = PartitionSpec(None, ROBOTS)
"""Split along the second axis, where the first one is over seeds."""


Effort = Literal["training", "short training", "evaluation", "once"]

# Faster where a CPU has vectors of 512 bits (XLA would use 256).
_WIDE_VECTORS = {"xla_cpu_prefer_vector_width": 512}

# They compile sooner, to somewhat slower programs. JAX 0.11 and 0.12 have them no more.
_OLD_EMITTERS = {"xla_cpu_use_fusion_emitters": False}

EFFORTS: dict[str, dict[Effort, dict[str, Any]]] = {
    "cpu": {
        "training": {"xla_backend_optimization_level": 1, **_WIDE_VECTORS},
        "short training": {"xla_backend_optimization_level": 1, **_OLD_EMITTERS},
        "evaluation": {"xla_backend_optimization_level": 1, **_OLD_EMITTERS},
        "once": {"xla_backend_optimization_level": 0, **_OLD_EMITTERS},
    },
    "gpu": {"evaluation": {"xla_gpu_autotune_level": 0}, "once": {"xla_gpu_autotune_level": 0}},
}
"""XLA's options on a kind of device, by how long a program runs; those of them count that the installed XLA has."""

SHORT_STEPS = 1_000_000
"""Trainings of fewer env steps are short: they would not win back what it takes to compile a better program."""


def use_all_cores() -> None:
    """Let JAX take each core of a CPU (8 at most) for a device.

    Without effect where JAX_NUM_CPU_DEVICES or XLA_FLAGS say how many, or once JAX has looked for its devices; and with
    JAX 0.11, which crashes when it compiles a training for several devices of a CPU (seen with 0.11.2; 0.10 and 0.12 do
    not).
    """
    if jax.__version__.startswith("0.11.") or "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    if getattr(jax.config, "jax_num_cpu_devices", 0) < 1:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", min(count_cores(), MOST_CORES))


def make_mesh(n_devices: int, devices: Sequence[Any] | None = None) -> Mesh:
    """Return a mesh of the first `n_devices` of some devices; of this process's own if not given."""
    chosen = (jax.local_devices() if devices is None else devices)[:n_devices]
    return jax.make_mesh((n_devices,), (ROBOTS,), axis_types=(AxisType.Auto,), devices=chosen)


def over_robots(
    function: Callable[..., Any],
    mesh: Mesh,
    inputs: Any,
    outputs: Any,
    donate: tuple[int, ...] = (),
    effort: Effort = "training",
) -> Any:
    """Compile a function of one device's share for all devices of a mesh.

    Args:
        function: Takes and returns pytrees; on each device its share of what is `SPLIT`.
        mesh: From `make_mesh`.
        inputs: `SHARED` or `SPLIT` for each argument, or for the parts of a pytree; so `outputs` for the result.
        outputs: See `inputs`.
        donate: Arguments whose memory may be reused.
        effort: How long it runs; see `compiled`.
    """
    mapped = jax.shard_map(function, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
    return compiled(
        mapped, effort, in_shardings=placed(mesh, inputs), out_shardings=placed(mesh, outputs), donate_argnums=donate
    )


def compiled(function: Callable[..., Any], effort: Effort, **options: Any) -> Any:
    """Return `jax.jit` of a whole program, with less effort, so that it compiles sooner.

    On a CPU, physics and matrix products take longest, which LLVM does not optimize anyway. `effort` says for how long
    the program runs; `options` are those of `jax.jit`.
    """
    return jax.jit(function, compiler_options=compiler_options(effort) or None, **options)


def compiler_options(effort: Effort) -> dict[str, Any]:
    """Return those of `EFFORTS` that the installed XLA has and that the environment variable XLA_FLAGS leaves to us."""
    wanted = EFFORTS.get(jax.default_backend(), {}).get(effort, {})
    said = re.findall(r"--(\w+)", os.environ.get("XLA_FLAGS", ""))
    return {name: value for name, value in wanted.items() if name not in said and _knows(name, value)}


@lru_cache
def _knows(option: str, value: Any) -> bool:
    """Whether the installed XLA has a compiler option."""
    lowered = jax.jit(lambda: jnp.float32(0.0)).lower()
    try:
        lowered.compile(compiler_options={option: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def placed(mesh: Mesh, specs: Any) -> Any:
    """Return the shardings on a mesh that partition specs stand for."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs, is_leaf=lambda s: isinstance(s, PartitionSpec))


def count_devices(config: TrainConfig, engine: str) -> int:
    """Return how many devices of all hosts a run uses: those requested, or as many as can share its robots evenly.

    Raises:
        ConfigError: There are not so many, or they cannot share the robots evenly, or the hosts cannot.
    """
    available, processes = jax.device_count(), jax.process_count()
    if config.n_devices > available:
        cores = (
            f"; JAX_NUM_CPU_DEVICES={config.n_devices} makes so many of a CPU" if jax.default_backend() == "cpu" else ""
        )
        raise ConfigError(f"n_devices {config.n_devices}: there are {available} here; 0 takes what fits{cores}")
    if config.n_devices % processes:
        raise ConfigError(f"n_devices {config.n_devices}: must be a multiple of the {processes} hosts, or 0")
    if config.n_devices:
        config.check_robots(config.n_devices)
        return config.n_devices
    numbers = range(processes, available + 1, processes)
    fitting = [n for n in numbers if config.can_share(n)]
    if not fitting:
        config.check_robots(processes)  # says why
    return max(fitting) if may_share(engine) else min(fitting)


def warning_of_devices(config: TrainConfig, engine: str, n_devices: int) -> str | None:
    """Return a warning: that some devices stay idle, or may wait forever; or None."""
    available = jax.device_count()
    if not may_share(engine):
        return f"warning: with {engine} on a CPU, several devices can wait forever" if n_devices > 1 else None
    if config.n_devices or n_devices == available:
        return None
    return (
        f"warning: {available - n_devices} of {available} devices stay idle: they cannot share {config.n_envs} robots "
        f"evenly; a multiple of {available} robots would use them all"
    )


def may_share(engine: str) -> bool:
    """Whether several devices may run physics by themselves: not the cores of a CPU if it is XLA's.

    With MJX and 128 Go1s on two of them, XLA of JAX 0.10.2 waits forever; one device has threads on all cores anyway.
    """
    return engine == "native" or jax.default_backend() != "cpu"
