"""Every randomization by its effect: on the compiled model, on a simulation of it, or on an episode."""

import copy
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.envs import batch
from jaxloco.envs import randomization as rand
from jaxloco.envs.actuators import Actuation
from jaxloco.envs.batch import BatchState
from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.env import Env, EnvState
from jaxloco.envs.quantities import pitch_angle, roll_angle
from jaxloco.envs.randomization import InitialState, RandomizedModel, Randomizer
from jaxloco.physics import PhysicsSpec
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.upkie_balance import UpkieBalance

GRAVITY = 9.81


def exactly(value: float) -> Range:
    return Range(value, value)


def drawn(robot: Robot, *randomizers: Randomizer, seed: int = 0) -> mujoco.MjModel:
    """Draw a model and compile it in MuJoCo, derived constants included."""
    bound = RandomizedModel(robot, randomizers)
    nominal = PhysicsSpec(robot.model, robot.substeps, bound.fields).nominal()
    sampler = Sampler(jax.random.PRNGKey(seed), FULL, 1.0)
    params = bound.draw({name: jnp.asarray(value) for name, value in nominal.items()}, sampler)
    model = copy.copy(robot.model)
    for name, value in params.items():
        getattr(model, name)[:] = np.asarray(value)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return model


def in_default_pose(robot: Robot, model: mujoco.MjModel, ctrl: Sequence[float] | None = None) -> mujoco.MjData:
    data = mujoco.MjData(model)
    data.qpos[:] = robot.default_qpos
    data.ctrl[:] = robot.default_ctrl if ctrl is None else ctrl
    mujoco.mj_forward(model, data)
    return data


@pytest.fixture(scope="module")
def upkie() -> Robot:
    return load_robot("upkie")


@pytest.fixture(scope="module")
def pendulum() -> Robot:
    return load_robot("pendulum")


# Inertias


def test_a_robot_of_scaled_mass_is_pushed_that_much_less(upkie):
    model = drawn(upkie, Randomizer("masses", rand.scale_masses, {"factor": exactly(1.5)}))
    speeds = []
    for one in (upkie.model, model):
        one = copy.copy(one)
        one.opt.gravity[:] = 0.0
        data = in_default_pose(upkie, one)
        data.qpos[2] += 1.0  # clear of the floor: nothing but the push acts from outside
        base = one.body("base").id
        data.xfrc_applied[base, 0] = 10.0
        mujoco.mj_step(one, data, 100)
        mujoco.mj_forward(one, data)
        mujoco.mj_subtreeVel(one, data)
        speeds.append(data.subtree_linvel[base, 0])
    mass = upkie.model.body_mass.sum()
    assert speeds == pytest.approx([10.0 * 0.1 / mass, 10.0 * 0.1 / (1.5 * mass)], rel=1e-3)


def test_each_body_gets_a_mass_of_its_own_and_the_inertia_that_goes_with_it(upkie):
    model = drawn(upkie, Randomizer("masses", rand.scale_masses, {"factor": Range(0.8, 1.2)}))
    factors = model.body_mass[1:] / upkie.model.body_mass[1:]
    assert len(np.unique(factors)) == len(factors) and 0.8 <= factors.min() < factors.max() <= 1.2
    inertias = model.body_inertia[1:] / upkie.model.body_inertia[1:]
    np.testing.assert_allclose(inertias, np.repeat(factors[:, None], 3, axis=1), rtol=1e-6)


def test_a_body_of_scaled_inertia_turns_that_much_slower_at_the_same_weight(pendulum):
    model = drawn(pendulum, Randomizer("inertias", rand.scale_inertias, {"factor": exactly(3.0)}))
    data = in_default_pose(pendulum, model, ctrl=[1.0])  # hanging at rest, 1 N m
    about_pivot = 3.0 / 12.0 + 1.0 * 0.5**2  # rod of 1 kg and 1 m: threefold m l²/12 about its middle
    armature = pendulum.model.dof_armature[0]
    assert data.qacc[0] == pytest.approx(1.0 / (about_pivot + armature), rel=1e-3)
    np.testing.assert_array_equal(model.body_mass, pendulum.model.body_mass)


def test_a_shifted_centre_of_mass_shifts_that_of_the_robot_by_the_share_of_the_body(upkie):
    base = upkie.model.body("base").id
    offset = (exactly(0.02), exactly(-0.01), exactly(0.0))
    model = drawn(upkie, Randomizer("trunk", rand.shift_center_of_mass, {"body": base, "offset": offset}))
    shift = [in_default_pose(upkie, one).subtree_com[base] for one in (model, upkie.model)]
    share = upkie.model.body_mass[base] / upkie.model.body_mass.sum()
    np.testing.assert_allclose(shift[0] - shift[1], [0.02 * share, -0.01 * share, 0.0], atol=1e-6)


# Geometry


def test_larger_wheels_touch_the_floor_from_higher_up(upkie):
    ids = [upkie.model.geom(wheel.geom).id for wheel in upkie.wheels]
    model = drawn(upkie, Randomizer("wheels", rand.scale_wheels, {"geoms": ids, "factor": exactly(1.1)}))
    data = in_default_pose(upkie, model)
    floor = model.geom("floor").id
    distances = [mujoco.mj_geomDistance(model, data, floor, geom, 1.0, None) for geom in ids]
    assert distances == pytest.approx([-0.005, -0.005], abs=1e-6)  # radius 5.5 cm at a height of 5 cm
    data.qpos[2] += 0.0049
    mujoco.mj_forward(model, data)
    assert data.ncon == 2
    data.qpos[2] += 0.0002
    mujoco.mj_forward(model, data)
    assert data.ncon == 0


def test_a_larger_wheel_rolls_further_per_turn(upkie):
    ids = [upkie.model.geom(wheel.geom).id for wheel in upkie.wheels]
    model = drawn(upkie, Randomizer("wheels", rand.scale_wheels, {"geoms": ids, "factor": exactly(1.2)}))
    radii = []
    for one in (upkie.model, model):
        data = in_default_pose(upkie, one, ctrl=[0, 0, 5.0, 0, 0, -5.0])
        data.qpos[2] += one.geom_size[ids[0], 0] - 0.0505
        mujoco.mj_step(one, data, 100)
        velocity = np.zeros(6)  # angular, linear
        mujoco.mj_objectVelocity(one, data, mujoco.mjtObj.mjOBJ_BODY, one.body("left_wheel").id, velocity, 0)
        assert velocity[1] > 1.0
        radii.append(velocity[3] / velocity[1])
    assert radii == pytest.approx([0.05, 0.06], rel=0.02)


def test_longer_legs_raise_the_hips(upkie):
    model = upkie.model
    legs = [body for body in range(model.nbody) if model.body_parentid[body] > 1]
    longer = drawn(upkie, Randomizer("legs", rand.scale_lengths, {"bodies": legs, "factor": exactly(1.1)}))
    heights = []
    for one in (model, longer):
        data = in_default_pose(upkie, one)
        heights.append(data.body("left_upper_leg").xpos[2] - data.body("left_wheel").xpos[2])
    assert heights == pytest.approx([0.343, 1.1 * 0.343], abs=1e-6)  # 16.8 cm and 17.5 cm


# Actuation


def torques(robot: Robot, model: mujoco.MjModel, ctrl: Sequence[float]) -> dict[str, float]:
    data = in_default_pose(robot, model, ctrl)
    return dict(zip((joint.name for joint in robot.joints), data.actuator_force.tolist(), strict=True))


def test_gains_scale_the_torque_at_a_given_error_but_not_its_limit(upkie):
    wheels = [2, 5]
    model = drawn(upkie, Randomizer("servos", rand.scale_gains, {"actuators": wheels, "factor": exactly(0.5)}))
    found = torques(upkie, model, [0.1, 0.0, 1.0, 0.0, 0.0, -2.0])
    # Hips: 20 N m/rad, untouched. Wheels: 1 N m s/rad, halved.
    assert found["left_hip"] == pytest.approx(2.0) and found["left_wheel"] == pytest.approx(0.5)
    assert found["right_wheel"] == pytest.approx(-1.0)
    assert torques(upkie, model, [0, 0, 100.0, 0, 0, 0])["left_wheel"] == pytest.approx(1.7)
    moving = in_default_pose(upkie, model, [0.0] * 6)
    moving.qvel[np.asarray(upkie.joint_qvel_indices)[2]] = 2.0  # the damping half of the servo is halved too
    mujoco.mj_forward(model, moving)
    assert moving.actuator_force[2] == pytest.approx(-1.0)


def test_damping_scales_the_velocity_feedback_alone(upkie):
    model = drawn(upkie, Randomizer("legs", rand.scale_damping, {"actuators": [0, 1], "factor": exactly(0.25)}))
    moving = in_default_pose(upkie, model, [0.1, 0.0, 0.0, 0.0, 0.0, 0.0])
    moving.qvel[np.asarray(upkie.joint_qvel_indices)] = 0.5
    mujoco.mj_forward(model, moving)
    # 20 N m/rad, untouched, times 0.1 rad; 1 N m s/rad, a quarter of it in the two joints, times 0.5 rad/s.
    np.testing.assert_allclose(moving.actuator_force[[0, 1, 3]], [2.0 - 0.125, -0.125, -0.5], atol=1e-6)


def test_torque_scale_acts_on_what_is_asked_and_on_the_limit(upkie):
    model = drawn(upkie, Randomizer("torques", rand.scale_torques, {"factor": exactly(0.9)}))
    found = torques(upkie, model, [0.1, 0.0, 1.0, 0.0, 0.0, 100.0])
    assert found["left_hip"] == pytest.approx(0.9 * 2.0) and found["left_wheel"] == pytest.approx(0.9 * 1.0)
    assert found["right_wheel"] == pytest.approx(0.9 * 1.7)
    varied = drawn(upkie, Randomizer("torques", rand.scale_torques, {"factor": Range(0.9, 1.1)}))
    factors = varied.actuator_forcerange[:, 1] / upkie.model.actuator_forcerange[:, 1]
    assert len(np.unique(factors)) == 6 and 0.9 <= factors.min() < factors.max() <= 1.1
    np.testing.assert_allclose(varied.actuator_forcerange[:, 0], -varied.actuator_forcerange[:, 1])


# Ground


def test_friction_limits_the_force_at_which_wheels_slide(upkie):
    speeds = {}
    for factor in (0.1, 1.0):
        model = drawn(upkie, Randomizer("friction", rand.scale_friction, {"factor": exactly(factor)}))
        data = in_default_pose(upkie, model)
        data.qpos[2] -= 5e-4
        mujoco.mj_forward(model, data)
        assert data.contact.friction[:, 0].tolist() == pytest.approx([factor, factor])
        for wheel in ("left_wheel", "right_wheel"):  # half the weight, sideways
            data.xfrc_applied[model.body(wheel).id, 1] = 0.25 * GRAVITY * model.body_mass.sum()
        mujoco.mj_step(model, data, 50)
        speeds[factor] = float(data.body("left_wheel").cvel[4])
    # Held with friction 1; with 0.1, four tenths of the weight are left to accelerate it.
    assert speeds[0.1] == pytest.approx(0.4 * GRAVITY * 0.05, rel=0.05) and abs(speeds[1.0]) < 0.02


BOUNCING = """
<mujoco>
  <option timestep="{timestep}" cone="elliptic"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <body pos="0 0 0.3"><freejoint/><geom name="ball" type="sphere" size="0.02" mass="1"/></body>
  </worldbody>
  <contact><pair geom1="floor" geom2="ball" solref="0.02 1" solimp="0.9 0.95 0.023"/></contact>
</mujoco>
"""


@pytest.mark.parametrize("timestep", [0.001, 0.004])
@pytest.mark.parametrize(("asked", "expected"), [(0.0, np.exp(-2.0)), (0.3, 0.3), (0.5, 0.5), (0.7, 0.7)])
def test_a_ball_keeps_the_share_of_its_speed_that_the_restitution_says(asked, expected, timestep):
    model = mujoco.MjModel.from_xml_string(BOUNCING.format(timestep=timestep))
    nominal = jnp.asarray(model.pair_solref, jnp.float32)
    model.pair_solref[:] = rand.set_restitution(nominal, draw=lambda span: jnp.float32(span.low), value=exactly(asked))[
        "pair_solref"
    ]
    data, speeds = mujoco.MjData(model), []
    for _ in range(round(0.6 / timestep)):
        mujoco.mj_step(model, data)
        speeds.append(data.qvel[2])
    impact = int(np.argmin(speeds))
    assert max(speeds[impact:]) / -speeds[impact] == pytest.approx(expected, abs=0.03)


def test_restitution_reaches_the_compiled_robot_and_every_pair_alike():
    robot = load_robot("go1")
    model = drawn(robot, Randomizer("restitution", rand.set_restitution, {"value": exactly(0.5)}))
    ratio = model.pair_solref[:, 1]
    assert np.ptp(ratio) == 0.0 and rand.restitution(ratio[0]) == pytest.approx(0.5, abs=1e-3)
    np.testing.assert_allclose(np.prod(model.pair_solref, axis=1), np.prod(robot.model.pair_solref, axis=1), rtol=1e-5)
    same = drawn(robot, Randomizer("restitution", rand.set_restitution, {"value": exactly(0.0)}))
    np.testing.assert_allclose(same.pair_solref, robot.model.pair_solref, rtol=1e-5)


# Initial state


def first_state(robot: Robot, initial: InitialState, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    qpos, qvel = initial.draw(robot, Sampler(jax.random.PRNGKey(seed), FULL, 1.0))
    return np.asarray(qpos), np.asarray(qvel)


def test_the_default_first_state_is_the_default_pose_at_rest(upkie):
    qpos, qvel = first_state(upkie, InitialState())
    np.testing.assert_allclose(qpos, upkie.default_qpos, atol=1e-7)
    assert not qvel.any()


def test_base_ranges_move_the_base_and_nothing_else(upkie):
    initial = InitialState(
        height=exactly(0.1),
        pitch=exactly(0.3),
        roll=exactly(-0.2),
        forward_velocity=exactly(0.4),
        pitch_velocity=exactly(0.5),
    )
    qpos, qvel = first_state(upkie, initial)
    assert qpos[2] == pytest.approx(0.657)
    assert float(pitch_angle(jnp.asarray(qpos[3:7]))) == pytest.approx(0.3, abs=1e-6)
    assert float(roll_angle(jnp.asarray(qpos[3:7]))) == pytest.approx(-0.2, abs=1e-6)
    assert np.linalg.norm(qpos[3:7]) == pytest.approx(1.0)
    # Leaning forward, the head is ahead of the hips; rolling to negative angles moves it to the left.
    up = np.zeros(3)
    mujoco.mju_rotVecQuat(up, np.array([0.0, 0.0, 1.0]), qpos[3:7].astype(float))
    assert up[0] > 0.25 and up[1] > 0.15
    assert np.flatnonzero(qvel).tolist() == [0, 4] and qvel[[0, 4]].tolist() == pytest.approx([0.4, 0.5])
    np.testing.assert_allclose(qpos[7:], upkie.default_qpos[7:], atol=1e-7)


def test_a_robot_looks_elsewhere_in_training_alone(upkie):
    """Turned by 1 rad: w = cos ½."""
    initial = InitialState(yaw=Range(0.0, 0.0, training=(1.0, 1.0)))
    training = Sampler(jax.random.PRNGKey(0), FULL._replace(training=np.bool_(True)), 1.0)
    qpos, _ = jax.jit(lambda: initial.draw(upkie, training))()
    assert float(qpos[upkie.base_qpos_indices[3]]) == pytest.approx(np.cos(0.5))


def test_a_first_ground_position_is_what_the_odometry_then_reads(upkie):
    qpos, _ = first_state(upkie, InitialState(ground_position=exactly(0.2)))
    wheels = qpos[np.asarray(upkie.joint_qpos_indices)[[2, 5]]]
    assert wheels.tolist() == pytest.approx([4.0, -4.0])  # radius 5 cm; the right wheel is mirrored
    assert qpos[0] == 0.0


def test_joint_ranges_move_joints_with_and_without_motors_apart():
    robot = load_robot("cartpole")
    qpos, qvel = first_state(robot, InitialState(joint_positions=exactly(0.3), joint_velocities=exactly(0.4)))
    assert qpos.tolist() == pytest.approx([0.3, 0.0]) and qvel.tolist() == pytest.approx([0.4, 0.0])
    qpos, qvel = first_state(robot, InitialState(passive_positions=exactly(0.1), passive_velocities=exactly(0.2)))
    assert qpos.tolist() == pytest.approx([0.0, 0.1]) and qvel.tolist() == pytest.approx([0.0, 0.2])


def test_joint_positions_are_relative_to_the_default_pose(pendulum):
    qpos, _ = first_state(pendulum, InitialState(joint_positions=exactly(0.1)))
    assert qpos.tolist() == pytest.approx([np.pi + 0.1])


# In the environment

EPISODES = 50
ROBOTS = 3


TASK = UpkieBalance(
    episode_seconds=0.005,
    mass_scale=(0.8, 1.2),
    inertia_scale=(0.9, 1.1),
    wheel_scale=(0.95, 1.05),
    leg_scale=(0.97, 1.03),
    torque_scale=(0.9, 1.1),
    action_delay=(0.0, 0.06),
    bandwidth_lag=(0.0, 0.02),
    sensor_latency=(0.0, 0.01),
)


class Played:
    """Fifty episodes of one step each, of three robots: the model fields of each, (50, 3, ...), and draws."""

    def __init__(self, env: Env) -> None:
        step = jax.jit(partial(batch.step, env))
        state = jax.jit(partial(batch.reset, env), static_argnums=1, static_argnames="full")(
            jax.random.PRNGKey(0), ROBOTS, full=True
        )
        begun: list[BatchState] = []
        for _ in range(EPISODES):
            state, ended = step(state, jnp.zeros((ROBOTS, 1)))
            assert (ended.truncated | ended.terminated).all()
            begun.append(state.robots)
        self.env = env
        self.robots = jax.tree.map(lambda *leaves: np.stack(leaves), *begun)

    def factors(self, field: str) -> np.ndarray:
        """Return a field over its nominal value, where that is not zero, (50, 3, n)."""
        nominal = np.asarray(getattr(self.env.robot.model, field), np.float32)
        return self.robots.params[field][..., nominal != 0] / nominal[nominal != 0]


@pytest.fixture(scope="module")
def played() -> Played:
    return Played(Env(TASK.spec(), "native"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "low", "high"),
    [
        ("body_mass", 0.8, 1.2),
        ("body_inertia", 0.8 * 0.9, 1.2 * 1.1),
        ("geom_size", 0.95, 1.05),
        ("body_pos", 0.97, 1.03),
        ("actuator_gainprm", 0.0, np.inf),
        ("actuator_biasprm", 0.0, np.inf),
        ("actuator_forcerange", 0.9, 1.1),
    ],
)
def test_after_fifty_episodes_models_are_still_around_the_nominal_one(played, field, low, high):
    factors = played.factors(field)
    assert low - 1e-5 <= factors.min() and factors.max() <= high + 1e-5
    assert factors.min() < 1.0 < factors.max()
    late = factors[EPISODES // 2 :]
    spread = [np.ptp(half) for half in (factors[: EPISODES // 2], late)]
    assert spread[1] < 1.5 * spread[0] + 1e-6  # draws that compound spread more and more


def drawn_values(robots: EnvState) -> dict[str, np.ndarray]:
    motors, errors = robots.processes["actuation"], robots.processes["actor"].errors
    return {
        "delay": motors.delay,
        "time_constant": motors.time_constant,
        "latency": errors.latency,
        "noise_level": errors.noise_level,
    }


def with_delay(state: EnvState, delay: float) -> EnvState:
    motors = state.processes["actuation"]._replace(delay=jnp.float32(delay), time_constant=jnp.float32(0.0))
    return state._replace(processes={**state.processes, "actuation": motors})


def test_every_episode_of_every_robot_has_draws_of_its_own(played):
    robots = played.robots
    for name, drawn in drawn_values(robots).items():
        assert len(np.unique(drawn)) == EPISODES * ROBOTS, name
    varied = {
        "body_mass": 1,
        "body_inertia": (1, 0),
        "body_ipos": (1, 0),
        "actuator_gainprm": (2, 0),
        "actuator_forcerange": (0, 1),
    }
    for field, index in varied.items():
        entry = (slice(None), slice(None), *np.atleast_1d(index))
        assert len(np.unique(robots.params[field][entry])) == EPISODES * ROBOTS, field
    assert len(np.unique(robots.physics.qpos[..., 3:7].reshape(-1, 4), axis=0)) == EPISODES * ROBOTS


def test_draws_of_an_episode_are_within_the_ranges_of_the_task(played):
    limits = {"delay": TASK.action_delay, "time_constant": TASK.bandwidth_lag, "latency": TASK.sensor_latency}
    for name, (low, high) in limits.items():
        draws = drawn_values(played.robots)[name]
        assert low <= draws.min() and draws.max() <= high
        assert np.ptp(draws) > 0.8 * (high - low), name


def test_the_model_that_is_simulated_is_the_one_that_was_drawn():
    """An episode with everything randomized, against MuJoCo itself with the drawn fields in its model."""
    env = Env(UpkieBalance(push_force=(0.0, 0.0)).spec(), "native")
    state = with_delay(jax.jit(env.reset)(jax.random.PRNGKey(5)), 0.0)
    model, data = simulated(env, state)
    step = jax.jit(env.step)
    for _ in range(40):
        state = step(state, jnp.array([0.5]))
        speed = float(state.processes["actuation"].output[0]) / 0.05  # ground velocity target over nominal radius
        data.ctrl[:] = np.asarray(env.robot.default_ctrl) + np.array([0, 0, speed, 0, 0, -speed])
        mujoco.mj_step(model, data, env.robot.substeps)
    assert data.ncon > 0 or abs(data.qvel[4]) > 0.1
    np.testing.assert_allclose(state.physics.qpos, data.qpos, atol=2e-4)
    np.testing.assert_allclose(state.physics.qvel, data.qvel, atol=5e-3)


# Perturbations


def test_a_push_changes_the_momentum_by_force_times_time():
    still = (0.0, 0.0)
    task = UpkieBalance(
        initial_height=(5.0, 5.0),  # in free fall nothing else acts sideways
        initial_pitch=0.0,
        initial_velocity=0.0,
        initial_pitch_velocity=0.0,
        push_force=(20.0, 20.0),
        push_duration=(0.1, 0.1),
        push_interval=(0.1, 0.1),  # it begins within the first 0.1 s, and the next one not before 0.2 s
        action_delay=still,
        bandwidth_lag=still,
    )
    env = Env(task.spec(), "native")
    state = jax.jit(env.reset)(jax.random.PRNGKey(1))
    step = jax.jit(env.step)
    speeds = []
    for _ in range(40):
        state = step(state, jnp.zeros(1))
        speeds.append(horizontal_speed(env, state))
    gained = np.diff([0.0, *speeds])
    pushed = np.flatnonzero(gained > 1e-3)
    assert len(pushed) == 20 == pushed[-1] - pushed[0] + 1  # 0.1 s at 200 Hz, in one piece
    mass = float(state.params["body_mass"].sum())
    np.testing.assert_allclose(gained[pushed], 20.0 * 0.005 / mass, rtol=5e-3)
    assert speeds[-1] == pytest.approx(20.0 * 0.1 / mass, rel=2e-3)


def simulated(env: Env, state) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The model that was drawn, with its derived constants, and its state."""
    model = copy.copy(env.robot.model)
    for name in env.physics.spec.fields:
        getattr(model, name)[:] = np.asarray(state.params[name])
    data = mujoco.MjData(model)
    mujoco.mj_setConst(model, data)
    data.qpos[:], data.qvel[:] = state.physics.qpos, state.physics.qvel
    return model, data


def horizontal_speed(env: Env, state) -> float:
    """Speed of the centre of mass of the drawn model over the ground, m/s."""
    model, data = simulated(env, state)
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return float(np.hypot(*data.subtree_linvel[model.body("base").id, :2]))


# Delay


def test_a_delayed_action_acts_that_many_steps_later():
    # From rest, with the pole exactly upright, nothing moves before the force does.
    task = Cartpole(initial=0.0)
    env = Env(task.spec().with_processes(Actuation(delay=Range(0.06, 0.06))), "native")
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))
    assert float(state.processes["actuation"].delay) == pytest.approx(0.06)  # three periods of 50 Hz
    step = jax.jit(env.step)

    def velocities(delay: float) -> list[float]:
        now = with_delay(state, delay)
        found = []
        for index in range(8):
            now = step(now, jnp.array([0.5 if index == 0 else 0.1]))
            found.append(float(now.physics.qvel[0]))
        return found

    prompt = velocities(0.0)
    assert prompt[0] > 0.05
    assert velocities(0.06) == pytest.approx([0.0, 0.0, 0.0, *prompt[:-3]], rel=1e-5)
    assert velocities(0.02) == pytest.approx([0.0, *prompt[:-1]], rel=1e-5)
    half = velocities(0.01)[0]  # acts for half of the first period
    assert half == pytest.approx(0.5 * prompt[0], rel=1e-3)
