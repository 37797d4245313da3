"""Traces kept on disk: the same function as the one that was traced, whatever it is called under, and traced once."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.internals import kept_traces
from jaxloco.internals.kept_traces import Kept
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.robot import load_robot
from jaxloco.training import sharding
from jaxloco.training.sharding import SPLIT

X = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
Y = np.linspace(0.5, 2.0, 3, dtype=np.float32)


class Counted:
    """A function of a pytree and an array that counts how often it is traced."""

    def __init__(self) -> None:
        self.traced = 0
        like = {"sum": jax.ShapeDtypeStruct((), jnp.float32), "product": jax.ShapeDtypeStruct((3,), jnp.float32)}
        self.kept = Kept("counted", self.run, like)

    def run(self, pair: dict, y: jax.Array) -> dict:
        self.traced += 1
        return {"sum": jnp.sum(pair["x"] * y), "product": jnp.sin(pair["x"]) * y}

    def __call__(self, x: jax.Array, y: jax.Array) -> dict:
        return self.kept({"x": x}, y)


def expected(x: np.ndarray, y: np.ndarray) -> dict:
    return {"sum": np.sum(x * y, axis=-1), "product": np.sin(x) * y}


def assert_same(result: dict, x: np.ndarray = X, y: np.ndarray = Y) -> None:
    wanted = expected(x, y)
    assert result.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-6, atol=1e-6)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path / kept_traces.FOLDER
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def function(folder: Path) -> Counted:
    return Counted()


def mapped_twice(function: Counted):
    one = jax.vmap(function, in_axes=(0, None))
    return jax.jit(jax.vmap(one, in_axes=(0, None)))


def test_a_call_without_jit(function):
    assert_same(function(X[0, 0], Y), X[0, 0])


def test_under_vmap_it_is_traced_once(function):
    assert_same(jax.jit(jax.vmap(function, in_axes=(0, None)))(X[0], Y), X[0])
    assert function.traced == 1


def test_batch_axes_may_lie_anywhere_and_one_within_the_other(function):
    assert_same(mapped_twice(function)(X, Y))
    last = jax.jit(jax.vmap(function, in_axes=(1, None)))(X[0].T, Y)
    assert_same(last, X[0])


def test_within_a_loop(function):
    def body(carry: jax.Array, x: jax.Array):
        return carry, jax.vmap(function, in_axes=(0, None))(x, carry)

    assert_same(jax.jit(lambda: jax.lax.scan(body, jnp.asarray(Y), jnp.asarray(X))[1])())
    assert function.traced == 1


@pytest.mark.skipif(jax.local_device_count() < 2, reason="needs two devices")
def test_on_several_devices(function):
    share = jax.vmap(function, in_axes=(0, 0))
    ys = np.broadcast_to(Y, X[0].shape)
    result = sharding.over_robots(share, sharding.make_mesh(2), (SPLIT, SPLIT), SPLIT)(X[0], ys)
    assert_same(result, X[0])


def test_the_next_process_does_not_trace(function, folder):
    first = mapped_twice(function)(X, Y)
    assert len(list(folder.iterdir())) == 1
    jax.clear_caches()
    again = Counted()
    second = mapped_twice(again)(X, Y)
    assert again.traced == 0
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_another_name_shape_or_precision_is_another_trace(function, folder):
    mapped_twice(function)(X, Y)
    jax.jit(jax.vmap(function, in_axes=(0, None)))(X[0], Y)
    with jax.default_matmul_precision("bfloat16"):
        jax.clear_caches()
        mapped_twice(function)(X, Y)
    other = Kept("another", function.run, function.kept.result)
    jax.jit(lambda x: other({"x": x}, Y))(X[0, 0])
    assert len(list(folder.iterdir())) == 4


@pytest.mark.parametrize("damage", [b"", b"short", None], ids=["empty", "overwritten", "one bit"])
def test_a_damaged_file_is_traced_anew(function, folder, damage):
    mapped_twice(function)(X, Y)
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data if damage is None else damage)
    jax.clear_caches()
    again = Counted()
    assert_same(mapped_twice(again)(X, Y))
    assert again.traced == 1 and len(file.read_bytes()) == len(data)


def test_a_folder_that_cannot_be_written_does_not_matter(function, folder):
    folder.write_text("a file where the folder should be")
    assert_same(mapped_twice(function)(X, Y))


def test_derivatives_are_those_of_the_function(function):
    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(jax.vmap(function, in_axes=(0, None))(x, Y)["product"])

    gradient = jax.jit(jax.jacfwd(total))(jnp.asarray(X[0]))
    np.testing.assert_allclose(gradient, np.cos(X[0]) * Y, rtol=1e-5, atol=1e-6)


def test_nothing_is_kept_without_a_cache_folder(function, folder):
    jax.config.update("jax_compilation_cache_dir", None)
    assert_same(jax.jit(function)(X[0, 0], Y), X[0, 0])
    assert not folder.exists()


@pytest.mark.exhaustive
@pytest.mark.slow
def test_mjx_steps_as_it_was_traced(folder, monkeypatch):
    robot = load_robot("cartpole")
    spec = PhysicsSpec(robot.model, robot.substeps, fields=("body_mass",), readings=("qacc",))

    def run() -> jax.Array:
        physics = make_physics(spec, "mjx")
        params = physics.complete({name: jnp.asarray(value) for name, value in spec.nominal().items()})

        def play(force: jax.Array) -> tuple:
            state, _ = physics.reset(params, jnp.asarray(robot.default_qpos, jnp.float32), jnp.zeros(robot.model.nv))
            return physics.step(params, state, Controls(force[None], jnp.zeros(6)))

        return jax.jit(jax.vmap(play))(jnp.array([-1.0, 0.0, 1.0]))

    first = run()
    jax.clear_caches()
    for name in ("step", "forward"):
        monkeypatch.setattr(f"mujoco.mjx.{name}", lambda *_: pytest.fail("traced again"))
    jax.tree.map(np.testing.assert_array_equal, first, run())
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.undo()
    jax.clear_caches()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), first, run())
