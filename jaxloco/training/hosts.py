"""Several hosts: one process on each, all running the same program on one mesh over all their devices.

Every process holds its share of the robots and a copy of the policy. Only the first one writes: checkpoints are brought
together before, so they can be restored on any number of hosts and devices.
"""

import ipaddress
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NoReturn, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import multihost

from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.training import heartbeat

T = TypeVar("T")

SIGNS_OF_LOSS = ("Gloo", "NCCL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "heartbeat")
"""What errors of exchanges between hosts say."""

ADDRESS = re.compile(r"(?P<host>[^:\s]+|\[[^\]\s]+\]):(?P<port>\d{1,5})")
"""Of the first host: its name or address, and the port."""

MEETING_SECONDS = 300
"""How long hosts wait for one another at the start; what JAX waits by default."""

WAIT_SECONDS = 900
"""How long processes may differ in compiling."""

SHUTDOWN_SECONDS = 3600
"""How long the other processes wait for the first one to evaluate, export and draw."""

JAX_SILENCE_SECONDS = 200
"""How long until JAX aborts the processes, with a stack trace, as it has not heard of one; at least half of it.

Longer than `heartbeat` waits, which ends them with a message, but not in the hour above.
"""


def initialize(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Find the other processes; before anything else of JAX.

    Args:
        coordinator: Address and port of the first process; found by JAX under SLURM, Kubernetes and Open MPI if absent.
        num_processes: Number of processes; None where JAX finds it.
        process_id: Number of this process, from 0; None where JAX finds it.

    Raises:
        ConfigError: Neither the options nor the environment say, or the first one cannot be reached. The first one
            itself ends with JAX's own message where the others do not come.
    """
    place = None if coordinator is None else _announce(coordinator, num_processes, process_id)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=JAX_SILENCE_SECONDS,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            coordinator_bind_address=place,
        )
    except (ValueError, RuntimeError, IndexError) as error:
        raise ConfigError(
            f"--distributed: {error}. Without SLURM, Kubernetes or Open MPI, write on each host: --distributed "
            "--coordinator FIRST_HOST:PORT --num-processes N --process-id K"
        ) from error


def _listening_address(host: str, port: int) -> str | None:
    """Return the numeric address and port at which the first process listens.

    None for all addresses of the machine (JAX's default), where the given one is not its own (others may reach it
    through a router), or is a name that only this machine takes for itself (127.0.1.1).
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        address = str(place[0])
        if host not in (address, "localhost") and ipaddress.ip_address(address).is_loopback:
            return None
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except (OSError, OverflowError, ValueError):
        return None
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _announce(coordinator: str, num_processes: int | None, process_id: int | None) -> str | None:
    """Print which hosts are waited for; any host but the first waits until the first one answers.

    Returns where the first one listens, see `_listening_address`; None for the others.
    """
    match = ADDRESS.fullmatch(coordinator)
    if match is None:
        raise ConfigError(f"--coordinator {coordinator}: expected HOST:PORT, such as 10.0.0.1:1234")
    host, port = match["host"].strip("[]"), int(match["port"])
    whom = "the first host" if process_id else f"the other {num_processes - 1} hosts" if num_processes else "the others"
    print(f"jaxloco: waiting for {whom} at {coordinator}, {MEETING_SECONDS} s at most", file=sys.stderr, flush=True)
    if not process_id:
        return _listening_address(host, port)
    _wait_for(coordinator, host, port)
    return None


def _wait_for(coordinator: str, host: str, port: int) -> None:
    """Wait for an answer; on Kubernetes, a name may be known only once its pod runs."""
    deadline, unknown = time.monotonic() + MEETING_SECONDS, False
    while True:
        try:
            with socket.create_connection((host, port), timeout=5.0):
                return
        except (OSError, OverflowError) as error:
            if isinstance(error, socket.gaierror) and not unknown:
                print(f"jaxloco: there is no host {host!r} yet ({error.strerror})", file=sys.stderr, flush=True)
                unknown = True
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"--coordinator {coordinator}: nobody answers there ({error}); is the first host's process "
                    "started, with --process-id 0, and may others reach its port?"
                ) from error
            time.sleep(0.2)


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def share_of_devices(n_devices: int) -> list[Any]:
    """Return `n_devices` devices, as many of each process."""
    each = n_devices // jax.process_count()
    of_each = ([d for d in jax.devices() if d.process_index == process] for process in range(jax.process_count()))
    return [device for devices in of_each for device in devices[:each]]


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


def texts(own: str) -> list[str]:
    """Return what each process says, in their order; all must call it."""
    if jax.process_count() == 1:
        return [own]
    words = np.frombuffer(own.encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.array(len(words), np.int32)))
    padded = np.zeros(max(1, int(lengths.max())), np.uint8)
    padded[: len(words)] = words
    rows = np.asarray(multihost_utils.process_allgather(padded), np.uint8)
    return [bytes(row[:length]).decode() for row, length in zip(rows, lengths.tolist(), strict=True)]


def everywhere(what: str, function: Callable[[], T]) -> T:
    """Call a function on every process, and return what it returned here; all must call this.

    `what` names the call; each in a run has a name of its own.

    Raises:
        JaxlocoError: It failed on any of them; on every process, so that none waits for the others.
    """
    result, problem = None, None
    try:
        result = function()
    except (JaxlocoError, OSError) as error:
        problem = error
    if jax.process_count() > 1:
        wait(what)
        told = texts("" if problem is None else str(problem) or type(problem).__name__)
        failed = [number for number, text in enumerate(told) if text]
        if failed and problem is None:
            raise JaxlocoError(f"on {_name(failed[0])}: {told[failed[0]]}")
    if problem is not None:
        raise problem
    return cast(T, result)


def _name(process: int) -> str:
    return f"host {process}" if process else "the first host"


def on_first(what: str, function: Callable[[], T]) -> T | None:
    """Do something on the first process alone, as `everywhere` does on all; None elsewhere."""
    return everywhere(what, lambda: function() if is_first() else None)


def check_same(given: Mapping[str, Any]) -> None:
    """Refuse to go on where processes differ in their options or packages, which are plain values, nested.

    Raises:
        ConfigError: On every process; names what differs.
    """
    leaves = jax.tree_util.tree_leaves_with_path(given, is_leaf=lambda value: not isinstance(value, Mapping))
    flat = {jax.tree_util.keystr(path, simple=True, separator="."): value for path, value in leaves}
    first, *others = [json.loads(text) for text in texts(json.dumps(flat, sort_keys=True))]
    for number, other in enumerate(others, 1):
        keys = [key for key in sorted({*first, *other}) if first.get(key) != other.get(key)]
        if keys:
            differences = "; ".join(
                f"{key} is {first.get(key)} on the first host, {other.get(key)} there" for key in keys
            )
            raise ConfigError(
                f"host {number} was started otherwise than the first: {differences}; give all hosts the same options "
                "and packages"
            )


@contextmanager
def ending_when_lost(advice: str, clean: Callable[[], object] = lambda: None) -> Iterator[None]:
    """End this process at once, with this advice and status 2, where another host is lost; before, `clean`.

    It is lost where an exchange with it fails, or where it has sent nothing for a minute (`heartbeat`). JAX's own end
    of the process would wait for it. Blocks can be nested: the innermost counts.
    """
    _blocks.append((advice, clean))
    try:
        with _listening():
            try:
                yield
            except (jax.errors.JaxRuntimeError, ValueError) as error:  # XLA's errors are the one or the other
                if jax.process_count() == 1 or not any(sign in str(error) for sign in SIGNS_OF_LOSS):
                    raise
                lines = str(error).splitlines()
                _end(lines[0][:200] if lines else "no reason given")
    finally:
        _blocks.pop()


_blocks: list[tuple[str, Callable[[], object]]] = []
"""The advice and the cleaning of the blocks of `ending_when_lost` that this process is in."""

_ending = threading.Lock()
"""Kept by the thread that ends the process."""


def _listening() -> AbstractContextManager[object]:
    """Listen to the other hosts, if there are any, in the outermost block."""
    if jax.process_count() == 1 or len(_blocks) > 1:
        return nullcontext()
    client = multihost.get_jax_distributed_client()
    return heartbeat.Heartbeat(client, jax.process_index(), jax.process_count(), _end_without)


def _end_without(process: int) -> NoReturn:
    seconds = heartbeat.BEAT_SECONDS * heartbeat.SILENT_BEATS
    _end(f"{_name(process)} has told nothing for {seconds:.0f} s: it hangs, or cannot be reached")


def _end(reason: str) -> NoReturn:
    """Say that a host was lost and what to do, clean and end; in any thread."""
    _ending.acquire()
    advice, clean = _blocks[-1]
    try:
        print(f"jaxloco: another host was lost ({reason}); {advice}", file=sys.stderr)
        clean()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(2)


def whole(tree: Any) -> Any:
    """Bring arrays together on every process; all must call it."""
    return tree if jax.process_count() == 1 else multihost_utils.process_allgather(tree, tiled=True)


def from_first(tree: Any) -> Any:
    """Return what the first process has, on every process; all must call it with arrays of the same shapes."""
    return tree if jax.process_count() == 1 else multihost_utils.broadcast_one_to_all(tree)


def number_of_first(number: int) -> int:
    """Return the whole number of the first process, on every process; all must call it."""
    return number if jax.process_count() == 1 else int(from_first(np.array(number, np.int32)))


def any_of(flag: bool) -> bool:
    """Whether any process says so; all must call it."""
    return flag if jax.process_count() == 1 else bool(np.any(multihost_utils.process_allgather(np.array(flag))))
