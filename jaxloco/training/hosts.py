"""Several hosts: one process on each, all running the same program on one mesh over all their devices.

Every process holds its share of the robots and a copy of the policy. Only the first one writes: checkpoints are brought
together before, so they can be restored on any number of hosts and devices.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from jaxloco.errors import ConfigError, JaxlocoError

T = TypeVar("T")

MESSAGE_BYTES = 2000
"""Room for an error that the first process tells the others of."""

SIGNS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat")
"""What errors of exchanges between hosts say."""

WAIT_SECONDS = 900
"""How long processes may differ in compiling."""

SHUTDOWN_SECONDS = 3600
"""How long the other processes wait for the first one to evaluate, export and draw."""


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Find the other processes; before anything else of JAX.

    Args:
        coordinator: Address and port of the first process; found by JAX under SLURM, Kubernetes and Open MPI if absent.
        num_processes: How many there are; the same.
        process_id: Which one this is, from 0; the same.

    Raises:
        ConfigError: Neither the options nor the environment say, or the others cannot be reached.
    """
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, shutdown_timeout_seconds=SHUTDOWN_SECONDS)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(
            f"--distributed: {error}. Without SLURM, Kubernetes or Open MPI, write on each host: --distributed "
            "--coordinator FIRST_HOST:PORT --num-processes N --process-id K"
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def share_of_devices(n_devices: int) -> list[Any]:
    """Return `n_devices` devices, as many of each process."""
    each = n_devices // jax.process_count()
    found = []
    for process in range(jax.process_count()):
        found += [device for device in jax.devices() if device.process_index == process][:each]
    return found


def place(tree: Any, shardings: Any) -> Any:
    """Put arrays that every process holds whole, or that are in their place already, where they belong.

    Through the host's memory: between devices, JAX would compile a small program for each shape.
    """

    def one(leaf: Any, sharding: Any) -> jax.Array:
        if isinstance(leaf, jax.Array) and (
            not leaf.is_fully_addressable or leaf.sharding.is_equivalent_to(sharding, leaf.ndim)
        ):
            return leaf
        whole = np.asarray(leaf)
        if jax.process_count() == 1:
            return jax.device_put(whole, sharding, may_alias=False)
        return jax.make_array_from_callback(whole.shape, sharding, lambda part: whole[part])

    return jax.tree.map(lambda sharding, part: jax.tree.map(lambda leaf: one(leaf, sharding), part), shardings, tree)


def wait(what: str) -> None:
    """Wait until every process is here: what connects devices gives up after half a minute of waiting."""
    if jax.process_count() > 1:
        multihost.sync_global_processes(what, timeout=WAIT_SECONDS, processes=set(range(jax.process_count())))


def on_first(what: str, function: Callable[[], T]) -> T | None:
    """Do something on the first process alone; all must call it.

    Args:
        what: Has been done then; a name of its own for each call in a run.
        function: Does it.

    Returns:
        What it returned there, None elsewhere.

    Raises:
        JaxlocoError: It failed; on every process, so that none waits for the others.
    """
    result, problem = None, None
    if is_first():
        try:
            result = function()
        except (JaxlocoError, OSError) as error:
            problem = error
    if jax.process_count() > 1:
        wait(what)
        told = np.zeros(MESSAGE_BYTES, np.uint8)
        words = str(problem or "").encode()[:MESSAGE_BYTES]
        told[: len(words)] = np.frombuffer(words, np.uint8)
        found = bytes(np.asarray(multihost_utils.broadcast_one_to_all(told), np.uint8)).rstrip(b"\0")
        if found and problem is None:
            raise JaxlocoError(f"on the first host: {found.decode(errors='replace')}")
    if problem is not None:
        raise problem
    return result


@contextmanager
def ending_when_lost(advice: str) -> Iterator[None]:
    """End this process with a message and status 2 where an exchange with the other hosts fails, as one was lost.

    At once, because JAX's own end of the process would wait for the lost one, and then abort.

    Args:
        advice: What to do then.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # XLA's errors are the one or the other
        if jax.process_count() == 1 or not any(sign in str(error) for sign in SIGNS_OF_LOSS):
            raise
        lines = str(error).splitlines()
        print(
            f"jaxloco: another host was lost ({lines[0][:200] if lines else 'no reason given'}); {advice}",
            file=sys.stderr,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


def whole(tree: Any) -> Any:
    """Bring arrays together on every process; all must call it."""
    return tree if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def from_first(tree: Any) -> Any:
    """Return what the first process has, on every process; all must call it with arrays of the same shapes."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def any_of(flag: bool) -> bool:
    """Whether any process says so; all must call it."""
    return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(flag))))
