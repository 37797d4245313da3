"""The Warp engine against MuJoCo itself; on a CPU, where its kernels run too."""

from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.errors import JaxlocoError
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.physics.contract import OVERFLOW
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot

pytest.importorskip("warp")

from jaxloco.physics import warp as engine

FIELDS = ("body_mass", "body_ipos", "dof_armature", "pair_friction", "actuator_forcerange")
FIELDS += ("actuator_gainprm", "actuator_biasprm")
ROBOTS, STEPS = 3, 10
TOLERANCE = {"qpos": 1e-4, "qvel": 5e-3}
"""Parity after 0.2 s of Go1 (float32 against float64), m and rad, m/s and rad/s."""


@pytest.fixture(scope="module")
def go1() -> Robot:
    return load_robot("go1")


@pytest.fixture(scope="module")
def spec(go1) -> PhysicsSpec:
    """With a solver that converges: engines take different ways there."""
    model = mujoco.MjModel.__copy__(go1.model)
    model.opt.iterations, model.opt.ls_iterations = 50, 50
    return PhysicsSpec(model, go1.substeps, FIELDS, ("sensordata",), motors=motors_of(go1))


@pytest.fixture(scope="module")
def physics(spec):
    return make_physics(spec, "warp")


def inputs(robot: Robot, spec: PhysicsSpec, seed: int = 0) -> tuple:
    """Robots on their feet that are pushed, with joints that are asked for more than their motors can give."""
    rng = np.random.default_rng(seed)
    factor = {name: rng.uniform(0.95, 1.05, (ROBOTS, *value.shape)) for name, value in spec.nominal().items()}
    factor["actuator_biasprm"] = factor["actuator_gainprm"][..., :1]
    factor["actuator_gainprm"] = factor["actuator_gainprm"][..., :1]
    factor["actuator_forcerange"] = factor["actuator_forcerange"][..., :1]
    params = {name: jnp.asarray(value * factor[name], jnp.float32) for name, value in spec.nominal().items()}
    qpos = np.tile(robot.default_qpos, (ROBOTS, 1))
    qpos[:, 2] -= 5e-4
    ctrl = robot.default_ctrl + rng.uniform(-1.5, 1.5, (ROBOTS, robot.model.nu))
    push = np.zeros((ROBOTS, 6))
    push[:, 0] = 20.0
    arrays = (jnp.asarray(x, jnp.float32) for x in (qpos, ctrl, push))
    return params, *arrays


def rolled(physics, params, qpos, ctrl, push):
    """Positions and velocities after each step, (STEPS, ROBOTS, …), and the readings of the last."""

    @jax.jit
    def run(params, qpos, ctrl, push):
        params = jax.vmap(physics.complete)(params)
        state, _ = jax.vmap(physics.reset)(params, qpos, jnp.zeros((ROBOTS, physics.spec.model.nv)))

        def step(state, _):
            state, readings = jax.vmap(physics.step)(params, state, Controls(ctrl, push))
            return state, (state.qpos, state.qvel, readings)

        return jax.lax.scan(step, state, length=STEPS)[1]

    return jax.device_get(run(params, qpos, ctrl, push))


@pytest.mark.slow
def test_warp_steps_as_mujoco_does(go1, spec, physics):
    given = inputs(go1, spec)
    native, warp = rolled(make_physics(spec, "native"), *given), rolled(physics, *given)
    assert np.abs(native[0][-1] - go1.default_qpos).max() > 0.1  # it moved, so there is something to agree on
    np.testing.assert_allclose(warp[0], native[0], atol=TOLERANCE["qpos"])
    np.testing.assert_allclose(warp[1], native[1], atol=TOLERANCE["qvel"])
    assert not warp[2][OVERFLOW].any() and OVERFLOW not in native[2]


@pytest.mark.slow
def test_a_call_of_warp_depends_on_its_inputs_alone(go1, spec, physics):
    first = rolled(physics, *inputs(go1, spec))
    other = rolled(physics, *inputs(go1, spec, seed=1))
    again = rolled(physics, *inputs(go1, spec))
    assert np.abs(first[0] - other[0]).max() > 0.01
    np.testing.assert_array_equal(again[0], first[0])


@pytest.mark.slow
def test_contacts_that_find_no_room_are_told(go1, spec):
    physics = make_physics(replace(spec, motors=None), "warp")
    physics._room = (1, 12)
    told = rolled(physics, *inputs(go1, spec))[2][OVERFLOW]
    assert set(np.unique(told)) == {0.0, 1.0} or told.all()


def test_room_is_what_pairs_can_have_or_more_than_a_probe_meets(go1):
    contacts, rows = engine.room(go1.model, engine._put_model(go1.model, ()))
    assert contacts == 4  # four spheres on a plane
    assert rows == 4 * 4 + 12 + 12  # pyramids, limits, friction of joints
    full = load_robot("go1", "full").model
    most = engine.probe(full)
    contacts, _ = engine.room(full, engine._put_model(full, ()))
    assert 4 < most < contacts


def test_a_field_that_warp_cannot_vary_is_named(go1):
    from jaxloco.errors import RobotError

    with pytest.raises(RobotError, match="no model field 'key_qpos' that differs"):
        engine._put_model(go1.model, ("key_qpos",))


@pytest.mark.slow
def test_a_world_is_kept_for_each_number_of_robots_and_more_than_a_handful_are_an_error(go1, spec, monkeypatch):
    monkeypatch.setattr(engine, "MOST_WORLDS", 2)
    physics = make_physics(replace(spec, motors=None), "warp")
    for count in (1, 2, 1):
        physics._world("step", count)
    assert [size for _, _, size in physics._worlds] == [1, 2]
    assert physics.on_device().graphs == 0 and physics.on_device().memory > 1000  # a CPU captures nothing
    with pytest.raises(JaxlocoError, match="Warp is called for the 3th number of robots"):
        physics._world("forward", 2)


@pytest.mark.slow
def test_it_says_for_how_many_robots_a_gpu_has_memory(physics, monkeypatch):
    assert physics.most_robots() is None  # a CPU has the host's
    few, many = (engine._World(physics, "step", size, physics._room).memory for size in (8, 72))
    asked_first = iter([SimpleNamespace(is_cuda=True, free_memory=2**30)])
    own = engine.wp.get_device
    monkeypatch.setattr(engine.wp, "get_device", lambda *_: next(asked_first, None) or own())
    fitting = 2**30 / (2.0 * (many - few) / 64)  # each robot is in two worlds, of steps and of readings
    assert 0.5 * fitting <= physics.most_robots() <= fitting
