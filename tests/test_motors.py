"""Torque–speed curves: what a motor gives at rest, at its limit and beyond, on every engine."""

from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco.batch import Batch

from jaxloco.physics import Controls, PhysicsSpec, make_physics
from jaxloco.physics.actuators.curve import torque_range
from jaxloco.physics.motors import SERVO_FIELDS, Motors, motors_of
from jaxloco.robot import Robot, load_robot

TORQUE, FASTEST, CORNER = 20.0, 30.0, 15.0

BENCH_XML = """
<mujoco>
  <option gravity="0 0 0"/>
  <worldbody>
    <body name="rotor">
      <joint name="shaft" axis="0 0 1"/>
      <inertial pos="0 0 0" mass="0.1" diaginertia="{inertia} {inertia} {inertia}"/>
    </body>
  </worldbody>
</mujoco>
"""
BENCH_TOML = """
schema = 1
[robot]
name = "bench"
model = "robot.xml"
[timing]
control_frequency = 50.0
simulation_timestep = {timestep}
[[joints]]
name = "shaft"
default = 0.0
control = "{control}"
{gains}
torque_limit = 20.0
velocity_limit = 30.0
corner_velocity = {corner}
"""
GAINS = {"torque": "", "velocity": "kd = 50.0", "position": "kp = 35.0\nkd = 0.5"}


def bench(
    folder: Path, inertia: float = 0.01, control: str = "torque", corner: float = CORNER, timestep: float = 0.004
) -> Robot:
    """A motor on a test bench: nothing but its rotor."""
    (folder / "robot.xml").write_text(BENCH_XML.format(inertia=inertia))
    toml = BENCH_TOML.format(control=control, gains=GAINS[control], corner=corner, timestep=timestep)
    (folder / "robot.toml").write_text(toml)
    return load_robot(folder)


def spin(robot: Robot, target: float, velocity: float = 0.0, steps: int = 25, engine: str = "native") -> np.ndarray:
    """Return the velocity after each control period, (steps,)."""
    spec = PhysicsSpec(model=robot.model, substeps=robot.substeps, motors=motors_of(robot))
    physics = make_physics(spec, engine)
    controls = Controls(jnp.full(1, target, jnp.float32), jnp.zeros(6))

    @jax.jit
    def run(qvel):
        state, _ = physics.reset({}, jnp.zeros(1), qvel)

        def step(state, _):
            state, _ = physics.step({}, state, controls)
            return state, state.qvel[0]

        return jax.lax.scan(step, state, length=steps)[1]

    return np.asarray(run(jnp.full(1, velocity, jnp.float32)))


def curves(robot: Robot) -> SimpleNamespace:
    """Return velocity limit and slope of each joint's curve, (nu,)."""
    return SimpleNamespace(**{name.removeprefix("curve_"): v for name, v in motors_of(robot).parameters.items()})


def limited(robot: Robot, qpos, qvel, ctrl, **fields):
    """Return the inputs that the curves make of `ctrl`, (..., nu)."""
    motors = motors_of(robot)
    return motors.step(motors.values(robot.model, fields), motors.init(), qpos, qvel, ctrl)[1]


def curve(robot: Robot, velocity: float) -> tuple[float, float]:
    low, high = torque_range(curves(robot), np.array([velocity]))
    limit = robot.joints[0].torque_limit
    return float(max(low[0], -limit)), float(min(high[0], limit))


def test_curve_has_its_published_corners(tmp_path: Path) -> None:
    robot = bench(tmp_path)
    for velocity, low, high in (
        (0.0, -TORQUE, TORQUE),
        (CORNER, -TORQUE, TORQUE),
        (22.5, -TORQUE, TORQUE / 2),  # half way down the line
        (FASTEST, -TORQUE, 0.0),
        (100.0, -TORQUE, 0.0),  # turned by something else
    ):
        assert curve(robot, velocity) == pytest.approx((low, high), abs=1e-3), velocity
        assert curve(robot, -velocity) == pytest.approx((-high, -low), abs=1e-3), velocity


def test_corner_is_nine_tenths_of_the_limit_unless_given(tmp_path: Path) -> None:
    bench(tmp_path)
    text = (tmp_path / "robot.toml").read_text()
    (tmp_path / "robot.toml").write_text(text.replace("corner_velocity = 15.0\n", ""))
    assert load_robot(tmp_path).joints[0].corner_velocity == pytest.approx(27.0)


@pytest.mark.parametrize("corner", [0.0, 15.0, 27.0])
@pytest.mark.parametrize("inertia", [0.003, 0.01, 0.05])
def test_motor_at_full_torque_without_load_reaches_its_velocity_limit_and_no_more(
    tmp_path: Path, inertia: float, corner: float
) -> None:
    robot = bench(tmp_path, inertia, corner=corner)
    velocities = spin(robot, TORQUE, steps=50)
    assert velocities.max() < 1.03 * FASTEST
    assert velocities[-1] > 0.95 * FASTEST
    assert spin(robot, -TORQUE, steps=50).min() > -1.03 * FASTEST


@pytest.mark.parametrize("control", ["position", "velocity"])
def test_servo_with_a_far_target_does_not_exceed_the_velocity_limit(tmp_path: Path, control: str) -> None:
    velocities = spin(bench(tmp_path, control=control), 1000.0)
    assert velocities.max() < 1.03 * FASTEST
    assert velocities[-1] > 0.9 * FASTEST


def test_torque_at_rest_is_the_torque_limit(tmp_path: Path) -> None:
    robot = bench(tmp_path, inertia=10.0)
    assert spin(robot, 100.0, steps=1)[0] == pytest.approx(TORQUE * 0.02 / 10.0, rel=1e-5)


@pytest.mark.parametrize("velocity", [10.0, 25.0, 40.0])
def test_braking_torque_is_the_torque_limit_at_any_speed(tmp_path: Path, velocity: float) -> None:
    robot = bench(tmp_path, inertia=10.0)
    change = spin(robot, -100.0, velocity, steps=1)[0] - velocity
    assert change == pytest.approx(-TORQUE * 0.02 / 10.0, rel=1e-3)


def test_motor_turned_faster_than_its_limit_gets_no_torque_to_go_on(tmp_path: Path) -> None:
    np.testing.assert_allclose(spin(bench(tmp_path), TORQUE, 45.0), 45.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["go1", "go2", "anymal_c", "berkeley_humanoid", "upkie"])
def test_whole_torque_is_there_at_rest_and_up_to_the_corner_where_a_step_can_resolve_it(name: str) -> None:
    robot = load_robot(name)
    robot.model.opt.timestep = min(robot.model.opt.timestep, 0.002)  # longer ones resolve no corner of the humanoid
    motors = curves(robot)
    corner = np.array([joint.corner_velocity for joint in robot.joints])
    limit = np.array([joint.torque_limit for joint in robot.joints])
    assert np.all(torque_range(motors, np.zeros(len(limit)))[1] > 0.9999 * limit)
    gain = robot.model.opt.timestep * robot.model.dof_invweight0[robot.joint_qvel_indices]  # of velocity per torque
    resolved = limit * gain < motors.velocity_limit - corner
    assert np.all(torque_range(motors, corner)[1][resolved] > 0.9999 * limit[resolved])
    assert resolved.any()


def test_torques_within_the_curve_are_untouched() -> None:
    robot = load_robot("go1")
    model, rng = robot.model, np.random.default_rng(0)
    qpos, qvel = robot.default_qpos, rng.uniform(-5.0, 5.0, model.nv)  # below every corner
    ctrl = robot.default_ctrl + 0.3 * rng.normal(size=(7, model.nu))
    np.testing.assert_array_equal(limited(robot, qpos, qvel, ctrl), ctrl)


def test_numpy_and_jax_give_the_same_inputs() -> None:
    robot = load_robot("go2")
    rng = np.random.default_rng(0)
    ctrl = 3.0 * rng.normal(size=robot.model.nu)
    qvel = 30.0 * rng.normal(size=robot.model.nv)
    arguments, model = (robot.default_qpos, qvel, ctrl), robot.model
    host = limited(robot, *arguments)
    fields = {name: jnp.asarray(getattr(model, name), jnp.float32) for name in SERVO_FIELDS}
    with jax.numpy_dtype_promotion("strict"):
        device = limited(robot, *(jnp.asarray(value, jnp.float32) for value in arguments), **fields)
    assert np.abs(host - ctrl).max() > 0.1
    np.testing.assert_allclose(device, host, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fields", [(), ("actuator_gainprm", "actuator_biasprm", "body_mass")])
def test_robots_stepped_at_once_move_as_in_single_substeps(fields) -> None:
    """Bit for bit: robots that never reach their curves, that do, that fall, and one that breaks down."""
    robot, count, rng = load_robot("go1"), 96, np.random.default_rng(0)
    model, motors = robot.model, motors_of(robot)
    spec = PhysicsSpec(model, robot.substeps, fields, ("sensordata", "xpos", "qfrc_actuator"), motors=motors)
    speeds = np.linspace(0.0, 60.0, count)[:, None] * rng.uniform(-1.0, 1.0, (count, model.nv))
    speeds[:, :6] = 0.0
    speeds[7] = 1e12  # a warning, on which MuJoCo resets the simulation
    qpos = np.tile(robot.default_qpos, (count, 1)).astype(np.float32)
    ctrl = (robot.default_ctrl + 0.3 * rng.normal(size=(count, model.nu))).astype(np.float32)
    params = {name: np.repeat(value[None], count, axis=0) for name, value in spec.nominal().items()}
    scale = rng.uniform(0.7, 1.3, count).astype(np.float32)
    for name, value in params.items():
        params[name] = value * scale.reshape(-1, *(1,) * (value.ndim - 1))

    physics = make_physics(spec, "native")
    state, _ = jax.vmap(physics.reset)(params, jnp.asarray(qpos), jnp.asarray(speeds, jnp.float32))
    controls = Controls(jnp.asarray(ctrl), jnp.zeros((count, 6)))
    found, readings = jax.jit(jax.vmap(physics.step))(params, state, controls)

    batch = Batch(model, count, 1)
    for name, value in params.items():
        batch.expand(name)[:] = value
    if params:
        batch.set_const()
    batch.qpos, batch.qvel, batch.ctrl = qpos, speeds.astype(np.float32), ctrl
    outputs = {name: batch.bind(name) for name in spec.readings}
    gains = {name: params[name].astype(float) for name in SERVO_FIELDS if name in params}
    reached = np.zeros(count, bool)
    for _ in range(robot.substeps):
        inputs = limited(robot, batch.qpos, batch.qvel, ctrl.astype(float), **gains)
        reached |= (inputs != ctrl).any(axis=1)
        batch.ctrl = inputs
        batch.step()
    assert 10 < reached.sum() < count - 10
    with np.errstate(over="ignore"):  # in the robot that breaks down
        np.testing.assert_array_equal(found.qpos, batch.qpos.astype(np.float32))
        np.testing.assert_array_equal(found.qvel, batch.qvel.astype(np.float32))
        for name, value in outputs.items():
            np.testing.assert_array_equal(readings[name], value.astype(np.float32))


def test_swinging_legs_keep_to_their_velocity_limits() -> None:
    """In the air, all legs swing to and fro, each thrown by its neighbours too."""
    robot = load_robot("go1")
    robot.model.opt.gravity[:] = 0.0
    robot.model.dof_damping[:] = 0.0
    fastest = [fastest_swing(robot, motors) for motors in (motors_of(robot), None)]
    assert fastest[0] < 1.25  # measured 1.19
    assert fastest[1] > 1.7  # measured 1.79


def fastest_swing(robot: Robot, motors: Motors | None) -> float:
    """Return the largest joint velocity as a part of its limit."""
    physics = make_physics(PhysicsSpec(model=robot.model, substeps=robot.substeps, motors=motors), "native")
    step = jax.jit(physics.step)
    state, _ = physics.reset({}, jnp.asarray(robot.default_qpos, jnp.float32), jnp.zeros(robot.model.nv))
    limits, fastest = np.array([joint.velocity_limit for joint in robot.joints]), 0.0
    for i in range(50):
        ctrl = jnp.asarray(robot.default_ctrl, jnp.float32) + (0.5 if i % 20 < 10 else -0.5)
        state, _ = step({}, state, Controls(ctrl, jnp.zeros(6)))
        fastest = max(fastest, float((np.abs(state.qvel[robot.joint_qvel_indices]) / limits).max()))
    return fastest


@pytest.mark.slow
def test_mjx_engine_applies_the_same_curve(tmp_path: Path) -> None:
    robot = bench(tmp_path, control="position")
    velocities = [spin(robot, 1000.0, steps=10, engine=engine) for engine in ("native", "mjx")]
    np.testing.assert_allclose(velocities[1], velocities[0], rtol=1e-4)


def test_engine_without_curves_is_mj_step(tmp_path: Path) -> None:
    robot = bench(tmp_path)
    physics = make_physics(PhysicsSpec(model=robot.model, substeps=robot.substeps), "native")
    state, _ = physics.reset({}, jnp.zeros(1), jnp.zeros(1))
    for _ in range(5):
        state, _ = physics.step({}, state, Controls(jnp.full(1, TORQUE), jnp.zeros(6)))
    data = mujoco.MjData(robot.model)
    data.ctrl[:] = TORQUE
    mujoco.mj_step(robot.model, data, 5 * robot.substeps)
    assert float(state.qvel[0]) == pytest.approx(data.qvel[0], rel=1e-6)
    assert data.qvel[0] > 2.0 * FASTEST
