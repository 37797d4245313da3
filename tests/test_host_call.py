"""Calls from a compiled program into Python: what they get, what they give, and what the compilation cache keeps."""

import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import monitoring

from jaxloco.internals import host_call
from jaxloco.training import sharding
from jaxloco.training.sharding import SPLIT

needs_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU backend")
pytestmark = needs_cpu


def add(device: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
    assert not a.flags.writeable and not b.flags.writeable
    np.add(a, b, out=out)


def call(name: str, a: jax.Array, b: jax.Array) -> jax.Array:
    return host_call.call(name, jax.ShapeDtypeStruct(a.shape, a.dtype), a, b)


def test_the_result_is_what_the_function_wrote():
    host_call.register("test_add", lambda: add)
    result = jax.jit(lambda a, b: 2.0 * call("test_add", a, b))(jnp.arange(3.0), jnp.ones(3))
    np.testing.assert_array_equal(result, [2.0, 4.0, 6.0])


def test_a_mapped_call_is_one_call_with_leading_axes():
    shapes = []

    def record(device: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        shapes.append((a.shape, b.shape, out.shape))
        add(device, a, b, out)

    host_call.register("test_record", lambda: record)
    mapped = jax.jit(jax.vmap(lambda a, b: call("test_record", a, b), in_axes=(0, None)))
    result = mapped(jnp.arange(6.0).reshape(2, 3), jnp.ones(3))
    np.testing.assert_array_equal(result, np.arange(6.0).reshape(2, 3) + 1.0)
    assert shapes == [((2, 3), (2, 3), (2, 3))]


def test_an_exception_becomes_an_error_of_the_program_that_names_it():
    def fail(*_: object) -> None:
        raise ValueError("no such robot")

    host_call.register("test_fail", lambda: fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="ValueError: no such robot"):
        jax.block_until_ready(jax.jit(lambda a: call("test_fail", a, a))(jnp.ones(2)))


def test_a_name_is_registered_once():
    host_call.register("test_once", lambda: add)
    host_call.register("test_once", lambda: pytest.fail("made again"))


@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_devices_call_at_the_same_time_and_say_who_they_are():
    """Each call waits for the one of the other device: with one after the other, the barrier would break."""
    barrier, seen = threading.Barrier(2, timeout=20.0), set()

    def meet(device: int, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        barrier.wait()
        seen.add(device)
        add(device, a, b, out)

    host_call.register("test_meet", lambda: meet)
    mesh = sharding.make_mesh(2)
    result = sharding.over_robots(lambda a: call("test_meet", a, a), mesh, (SPLIT,), SPLIT)(jnp.ones(100_000))
    assert float(jnp.sum(result)) == 200_000.0 and seen == {0, 1}


def test_a_program_with_such_a_call_comes_from_the_compilation_cache(tmp_path: Path):
    host_call.register("test_cached", lambda: add)
    events: list[str] = []
    monitoring.register_event_listener(lambda event, **_: events.append(event))

    def compile_and_run() -> jax.Array:
        jax.clear_caches()
        return jax.jit(lambda a: call("test_cached", jnp.sin(a), a))(jnp.ones(5))

    before = {name: getattr(jax.config, name) for name in CACHE_OPTIONS}
    try:
        for name, value in CACHE_OPTIONS.items():
            jax.config.update(name, value)
        first, hits = compile_and_run(), events.count(HIT)
        np.testing.assert_array_equal(first, compile_and_run())
        assert events.count(HIT) > hits
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


HIT = "/jax/compilation_cache/cache_hits"
CACHE_OPTIONS = {"jax_persistent_cache_min_compile_time_secs": 0.0, "jax_persistent_cache_min_entry_size_bytes": -1}
