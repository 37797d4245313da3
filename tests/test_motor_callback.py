"""The C function that runs motors within MuJoCo's steps: whom it acts on, and when."""

import ctypes

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.internals import mujoco_structs
from jaxloco.internals.control_callback import running as motors_running
from jaxloco.internals.meanwhile import Meanwhile
from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.physics.compiled_motors import user_numbers, with_motors
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot("go1")


def fast(robot: Robot, model: mujoco.MjModel) -> mujoco.MjData:
    """A robot whose legs swing faster than their motors can turn."""
    data = mujoco.MjData(model)
    data.qpos[:] = robot.default_qpos
    data.qvel[6:] = 40.0
    data.ctrl[:] = robot.default_ctrl + 1.0
    if model.nuserdata:
        data.userdata[:] = user_numbers(motors_of(robot))
    return data


def allowed(robot: Robot, data: mujoco.MjData) -> np.ndarray:
    motors = motors_of(robot)
    values = motors.values(robot.model, {})
    return motors.step(values, motors.init(), np.array(data.qpos), np.array(data.qvel), np.array(data.ctrl))[1]


def test_a_model_with_motors_is_held_to_them_and_others_are_left_alone(robot: Robot) -> None:
    for model, held in ((with_motors(robot.model, motors_of(robot)), True), (robot.model, False)):
        data = fast(robot, model)
        wanted = np.array(data.ctrl)
        expected = allowed(robot, data) if held else wanted
        with motors_running():
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(data.ctrl, expected)
        assert (expected != wanted).any() == held
    assert not (robot.model.actuator_dynprm[:, 5:]).any()  # the original has no motors now either


def test_inputs_are_held_for_a_control_period_and_read_anew_for_the_next(robot: Robot) -> None:
    model = with_motors(robot.model, motors_of(robot))
    data = fast(robot, model)
    wanted = np.array(data.ctrl)
    with motors_running():
        for _ in range(40):
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(data.ctrl, wanted)  # the legs have come to rest meanwhile
        data.time, data.ctrl[:] = mujoco_structs.FIRST_STEP, robot.default_ctrl
        expected = allowed(robot, data)
        mujoco.mj_step(model, data)
    np.testing.assert_array_equal(data.ctrl, expected)
    assert np.abs(expected - wanted).min() > 0.9


def test_models_without_actuators_are_left_alone() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body><joint/><geom size='1'/></body></worldbody></mujoco>"
    )
    data = mujoco.MjData(model)
    with motors_running():
        mujoco.mj_step(model, data, 3)
    assert data.time == pytest.approx(3 * model.opt.timestep)


def test_readings_of_a_reset_do_not_depend_on_who_steps_meanwhile(robot: Robot) -> None:
    spec = PhysicsSpec(robot.model, robot.substeps, readings=("actuator_force",), motors=motors_of(robot))
    physics = make_physics(spec, "native")
    qpos, qvel = jnp.asarray(robot.default_qpos, jnp.float32), jnp.full(robot.model.nv, 40.0)
    _, alone = physics.reset({}, qpos, qvel)
    with motors_running():
        _, meanwhile = physics.reset({}, qpos, qvel)
    np.testing.assert_array_equal(alone["actuator_force"], meanwhile["actuator_force"])
    state = spec.initial_state(qpos, qvel)
    controls = Controls(jnp.asarray(robot.default_ctrl, jnp.float32), jnp.zeros(6))
    one_step = make_physics(
        PhysicsSpec(robot.model, 1, readings=("actuator_force",), motors=motors_of(robot)), "native"
    )
    _, stepped = one_step.step({}, state, controls)
    assert np.abs(np.asarray(stepped["actuator_force"] - alone["actuator_force"])).max() > 1.0
    assert mujoco.get_mjcb_control() is None


def test_a_callback_of_the_users_own_is_not_overwritten() -> None:
    own = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(lambda model, data: None)
    mujoco.set_mjcb_control(own)
    try:
        with pytest.raises(JaxlocoError, match="set_mjcb_control"), motors_running():
            pass
        assert mujoco.get_mjcb_control() is own
    finally:
        mujoco.set_mjcb_control(None)
    with motors_running():
        pass


def test_motors_cannot_be_randomized_away(robot: Robot) -> None:
    spec = PhysicsSpec(robot.model, robot.substeps, ("actuator_dynprm",), motors=motors_of(robot))
    with pytest.raises(ConfigError, match="actuator_dynprm"):
        make_physics(spec, "native")


def test_another_layout_of_mujocos_structs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mujoco_structs._C_TYPES, "mjtSize", ctypes.c_int32)
    mujoco_structs._layout.cache_clear()
    try:
        with pytest.raises(RuntimeError, match=r"has mjModel\.nu.* elsewhere than it says"):
            mujoco_structs.places.__wrapped__()
    finally:
        mujoco_structs._layout.cache_clear()


def test_what_goes_on_meanwhile_begins_and_ends_once() -> None:
    events: list[str] = []
    meanwhile = Meanwhile(lambda: events.append("begin"), lambda: events.append("end"))
    with meanwhile(), meanwhile():
        assert events == ["begin"]
    with pytest.raises(ZeroDivisionError), meanwhile():
        _ = 1 / 0
    assert events == ["begin", "end"] * 2


def test_who_cannot_come_in_is_not_counted() -> None:
    ends: list[str] = []

    def refuse() -> None:
        raise JaxlocoError("no")

    meanwhile = Meanwhile(refuse, lambda: ends.append("end"))
    for _ in range(2):
        with pytest.raises(JaxlocoError), meanwhile():
            pass
    assert not ends
