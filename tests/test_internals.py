"""Internals of other packages that have changed: the slower way gives the same results, and the log says so."""

import functools
import importlib
import importlib.metadata
import logging
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco import internals
from jaxloco.doctor.engine_checks import unsupported
from jaxloco.errors import ConfigError, UnknownNameError
from jaxloco.exporting import versions
from jaxloco.internals import (
    brax_names,
    compilation_cache,
    control_callback,
    engine_tables,
    host_call,
    kept_traces,
    mujoco_structs,
    mujoco_warp,
    timers,
)
from jaxloco.internals.kept_traces import Kept
from jaxloco.interop import foreign
from jaxloco.physics import Controls, PhysicsSpec, compiled_motors, make_physics, native_motors
from jaxloco.physics.motors import motors_of
from jaxloco.robot import load_robot
from jaxloco.training import trainer

ROBOTS, STEPS = 3, 10
needs_cpu = pytest.mark.skipif(jax.default_backend() != "cpu", reason="of the CPU backend")

CHECKS = (
    *(host_call.works, timers._clock, control_callback.works, control_callback._callback, mujoco_structs.places),
    *(mujoco_structs._layout, kept_traces.works, kept_traces._primitive, compilation_cache.keep_whole),
    *(mujoco_warp.load, engine_tables.warp, native_motors._numba_is_there, internals._say),
)


@pytest.fixture
def anew(monkeypatch, caplog):
    """Everything is checked again, within the test and after it; an engine keeps nothing of what was made before."""
    caplog.set_level(logging.WARNING, "jaxloco")
    monkeypatch.setattr(compiled_motors, "_compiled", {})
    made = iter(range(100))
    fingerprint = PhysicsSpec.fingerprint
    monkeypatch.setattr(
        PhysicsSpec, "fingerprint", lambda spec: f"{fingerprint(spec)}_internals_{id(made)}{next(made)}"
    )
    for check in CHECKS:
        check.cache_clear()
    yield caplog
    for check in CHECKS:
        check.cache_clear()


def stepped(engine: str = "native", robot: str = "go1") -> tuple[np.ndarray, ...]:
    """Positions, velocities and torques of robots on their feet whose legs swing, after each step."""
    robot_ = load_robot(robot)
    spec = PhysicsSpec(robot_.model, 4, ("body_mass",), ("actuator_force",), motors=motors_of(robot_))
    physics = make_physics(spec, engine)
    rng = np.random.default_rng(0)
    mass = jnp.asarray(spec.nominal()["body_mass"] * rng.uniform(0.9, 1.1, (ROBOTS, 1)), jnp.float32)
    ctrl = jnp.asarray(robot_.default_ctrl + rng.uniform(-1.5, 1.5, (STEPS, ROBOTS, robot_.model.nu)), jnp.float32)
    qpos = jnp.tile(jnp.asarray(robot_.default_qpos, jnp.float32), (ROBOTS, 1))

    @jax.jit
    def run(mass, ctrl):
        params = jax.vmap(lambda own: physics.complete({"body_mass": own}))(mass)
        state, _ = jax.vmap(physics.reset)(params, qpos, jnp.zeros((ROBOTS, robot_.model.nv)))

        def step(state, ctrl):
            state, readings = jax.vmap(physics.step)(params, state, Controls(ctrl, jnp.zeros((ROBOTS, 6))))
            return state, (state.qpos, state.qvel, readings["actuator_force"])

        return jax.lax.scan(step, state, ctrl)[1]

    return jax.device_get(run(mass, ctrl))


def assert_same(slow: tuple[np.ndarray, ...], fast: tuple[np.ndarray, ...]) -> None:
    assert np.abs(fast[0][-1] - fast[0][0]).max() > 0.1  # it moved, so there is something to compare
    jax.tree.map(np.testing.assert_array_equal, slow, fast)


def break_ffi(monkeypatch, tmp_path: Path) -> None:
    header = tmp_path / "xla/ffi/api/c_api.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define XLA_FFI_API_MAJOR 1\n#define XLA_FFI_API_MINOR 0\n")
    monkeypatch.setattr(jax.ffi, "include_dir", lambda: str(tmp_path))


def break_structs(monkeypatch) -> None:
    monkeypatch.setitem(mujoco_structs._C_TYPES, "mjtSize", mujoco_structs.ctypes.c_int32)


def break_clock(monkeypatch) -> None:
    monkeypatch.setattr(importlib.import_module("mujoco._callbacks"), "__file__", "/nowhere")


@needs_cpu
def test_another_version_of_xlas_interface_is_called_by_buffer_callback(anew, monkeypatch, tmp_path):
    fast = stepped()
    break_ffi(monkeypatch, tmp_path)
    host_call.works.cache_clear()
    assert_same(stepped(), fast)
    assert "its version is 1.0, expected 0.1 or a later 0.x); programs with host calls are not cached" in anew.text


@needs_cpu
def test_motors_of_another_layout_of_mujocos_structs_are_stepped_in_numpy(anew, monkeypatch):
    fast = stepped()
    break_structs(monkeypatch)
    monkeypatch.setattr(compiled_motors, "_compiled", {})
    for check in CHECKS:
        check.cache_clear()
    assert_same(stepped(), fast)
    assert native_motors.way_of(motors_of(load_robot("go1"))) is native_motors.MotorsBetweenSteps
    assert "elsewhere than it says); they are stepped in NumPy" in anew.text


@needs_cpu
def test_motors_without_numba_are_stepped_in_numpy(anew, monkeypatch):
    fast = stepped()
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "jaxloco.physics.compiled_motors")
    native_motors._numba_is_there.cache_clear()
    assert_same(stepped(), fast)
    assert "Numba: not as expected" in anew.text


@needs_cpu
def test_a_clock_that_is_not_found_is_left_running(anew, monkeypatch):
    fast = stepped()
    break_clock(monkeypatch)
    timers._clock.cache_clear()
    assert_same(stepped(), fast)
    assert timers._clock() is None and "MuJoCo's clock: not as expected" in anew.text


@pytest.mark.exhaustive
@pytest.mark.slow
@needs_cpu
def test_a_training_with_nothing_but_slower_ways_comes_to_the_same_state(anew, monkeypatch, tmp_path):
    """On two devices, which call the host at the same time; `stepped` is on one."""
    from test_training_states import state_hash

    fast = state_hash("go1-velocity", 2)
    break_ffi(monkeypatch, tmp_path)
    break_structs(monkeypatch)
    break_clock(monkeypatch)
    monkeypatch.setattr(compiled_motors, "_compiled", {})
    for check in CHECKS:
        check.cache_clear()
    assert state_hash("go1-velocity", 2) == fast
    assert anew.text.count("not as expected") == 3


@pytest.mark.parametrize("name", ["jax.interpreters.mlir.register_lowering", "jax.interpreters.batching.bdim_at_front"])
def test_without_jaxs_rules_for_primitives_traces_are_not_kept(anew, monkeypatch, tmp_path, name):
    def traced(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.sin(x) * y

    kept = Kept("internals", traced, jax.ShapeDtypeStruct((3,), jnp.float32))
    x, y = jnp.arange(6.0).reshape(2, 3), jnp.ones(3)
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    try:
        fast = jax.jit(jax.vmap(kept, in_axes=(0, None)))(x, y)
        assert len(list((tmp_path / kept_traces.FOLDER).iterdir())) == 1
        kept_traces.works.cache_clear()
        kept_traces._primitive.cache_clear()
        monkeypatch.delattr(name)
        other = Kept("other", traced, kept.result)
        np.testing.assert_array_equal(jax.jit(jax.vmap(other, in_axes=(0, None)))(x, y), fast)
        assert len(list((tmp_path / kept_traces.FOLDER).iterdir())) == 1
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
    assert "traces are not kept between runs" in anew.text


def test_another_compilation_cache_of_jax_keeps_entries_as_jax_does(anew, monkeypatch, tmp_path):
    from jax._src import lru_cache

    own = lru_cache.LRUCache.put
    suffix = lru_cache._CACHE_SUFFIX
    with monkeypatch.context() as other:
        other.delattr(lru_cache, "_CACHE_SUFFIX")
        assert not compilation_cache.keep_whole() and lru_cache.LRUCache.put is own
        other.setattr(lru_cache, "_CACHE_SUFFIX", suffix, raising=False)
        cache = lru_cache.LRUCache(str(tmp_path), max_size=-1)
        cache.put("a", b"1")
        assert cache.get("a") == b"1"
    assert "a kill can leave entries that are read no more" in anew.text


# Warp


def copies(monkeypatch, installed: dict[str, str]) -> list[str]:
    """Let packages have other versions; return the modules that are tried."""
    tried = []

    def get(copy: mujoco_warp.Copy) -> object:
        tried.append(copy.module)
        return SimpleNamespace(copy=copy)

    def version(package: str) -> str:
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(mujoco_warp, "_get", get)
    monkeypatch.setattr(mujoco_warp, "version", version)
    return tried


def test_the_package_of_mujoco_warp_is_taken_before_the_copy_within_mjx(anew, monkeypatch):
    both = {"mujoco-warp": "4.0.1", "mujoco-mjx": "3.17.0", "warp-lang": "1.18.0"}
    tried = copies(monkeypatch, both)
    assert mujoco_warp.load().copy.versions == {"mujoco-warp": "4.0.1", "warp-lang": "1.18.0"}
    assert set(tried) == {"mujoco_warp"}
    assert versions(engine="warp")["mujoco-warp"] == "4.0.1" and "mujoco-warp" not in versions(engine="mjx")
    assert trainer._engine("warp") == "warp (mujoco-warp 4.0.1, warp-lang 1.18.0)" and trainer._engine("mjx") == "mjx"
    for other in ({"mujoco-warp": "5.0"}, {"mujoco-warp": "3.9.2"}):
        mujoco_warp.load.cache_clear()
        copies(monkeypatch, both | other)
        wanted = {"mujoco-warp": "within mujoco-mjx 3.17.0", "warp-lang": "1.18.0"}
        assert mujoco_warp.load().copy.versions == wanted


def test_without_a_copy_of_mujoco_warp_in_a_version_that_works_it_says_what_to_install(anew, monkeypatch):
    copies(monkeypatch, {"mujoco-mjx": "4.0.0"})
    with pytest.raises(
        ConfigError, match=r"expected mujoco-warp>=4\.0,<5 or mujoco-mjx>=3\.17,<4\. Write: pip install"
    ):
        mujoco_warp.load()


def test_a_copy_of_mujoco_warp_that_lacks_a_name_is_passed_over(anew, monkeypatch):
    pytest.importorskip("warp")
    monkeypatch.setitem(mujoco_warp.NEEDED, "Data", ("no_such_array",))
    with pytest.raises(ConfigError, match="finds no MuJoCo-Warp that it can use"):
        mujoco_warp.load()
    assert "AttributeError: Data has no no_such_array" in anew.text


@pytest.mark.slow
def test_both_copies_of_mujoco_warp_step_alike(anew, monkeypatch):
    pytest.importorskip("mujoco_warp")
    from jaxloco.physics import warp as engine

    results = []
    for copy in mujoco_warp.COPIES:
        loaded = mujoco_warp._get(copy)
        monkeypatch.setattr(engine, "mjw", loaded.module)
        results.append(stepped("warp"))
    np.testing.assert_allclose(results[0][0], results[1][0], atol=1e-4)
    np.testing.assert_allclose(results[0][1], results[1][1], atol=5e-3)


@pytest.mark.slow
def test_kernels_that_cannot_be_loaded_ahead_are_loaded_when_needed(anew, monkeypatch):
    wp = pytest.importorskip("warp")
    fast = stepped("warp", "cartpole")
    monkeypatch.delattr(wp, "force_load")
    jax.tree.map(np.testing.assert_array_equal, stepped("warp", "cartpole"), fast)
    assert "each kernel is loaded when it is needed" in anew.text


# Names


def test_without_mjxs_tables_the_doctor_tells_what_mjx_itself_refuses(anew, monkeypatch):
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><option solver='PGS'/><worldbody><body><joint/><geom size='1'/></body></worldbody></mujoco>"
    )
    fast = [problem for *_, problem in unsupported(model, "mjx")]
    monkeypatch.setitem(sys.modules, "mujoco.mjx._src", None)
    slow = [problem for *_, problem in unsupported(model, "mjx")]
    assert fast == ["solver pgs"] and len(slow) == 1 and "PGS" in slow[0]
    assert list(unsupported(load_robot("cartpole").model, "mjx")) == []
    assert "the doctor tells of the first thing that MJX lacks only" in anew.text


def test_without_brax_s_list_its_environments_are_made_by_trying(anew, monkeypatch):
    envs = pytest.importorskip("brax.envs")

    class Plain:
        pass

    known = {"ant": lambda backend: backend, "plain": Plain}
    monkeypatch.setattr(envs, "get_environment", functools.partial(lambda of, name, **more: of[name](**more), known))
    monkeypatch.delattr(envs, "_envs")
    assert brax_names.environments() == {}
    assert foreign._load_brax("ant", "spring") == "spring"
    assert isinstance(foreign._load_brax("plain", foreign.BraxTask.backend), Plain)
    with pytest.raises(ConfigError, match="brax:plain takes no backend"):
        foreign._load_brax("plain", "spring")
    with pytest.raises(UnknownNameError, match="unknown Brax environment 'antt'"):
        foreign._load_brax("antt", "mjx")
