"""Robots with wheels on their legs: which joint a target is for, which way they roll, and their mirror image."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from quadruped_urdf import wheeled_urdf

from jaxloco.envs.actuators import Actuation
from jaxloco.envs.commands import Command
from jaxloco.envs.env import Env
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.envs.randomization import InitialState
from jaxloco.errors import ConfigError, RobotError
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks.rolling import Rolling
from jaxloco.tasks.velocity import Velocity

pytestmark = pytest.mark.filterwarnings("ignore:.*guessed")


@pytest.fixture(scope="module", params=["two wheels", "four wheels"])
def task(request, tmp_path_factory) -> Rolling:
    """Upkie, and a quadruped with wheels that comes in through `new-robot`."""
    if request.param == "two wheels":
        return Rolling()
    folder = tmp_path_factory.mktemp("rover")
    (folder / "rover.urdf").write_text(wheeled_urdf())
    new_robot(folder / "rover.urdf", folder / "made", say=lambda _: None)
    return Rolling(robot=str(folder / "made"), max_velocity=(1.0, 0.0, 0.5))


def test_targets_reach_their_joints_in_their_units(task):
    robot, action = load_robot(task.robot), task.spec().action
    positions, velocities = action.outputs
    assert (positions.unit, velocities.unit) == ("rad", "rad/s")
    target = dict(zip(positions.components + velocities.components, range(100), strict=False))
    ctrl = action.drive(robot)(jnp.arange(action.size, dtype=jnp.float32))
    assert [target[name] for name in robot.joint_names] == np.asarray(ctrl).tolist()
    scale = action.pipeline[0].scale
    radius = robot.wheels[0].radius  # an action of 1 is 2 m/s
    assert scale == pytest.approx((0.3,) * positions.size + (2.0 / radius,) * velocities.size)
    assert set(velocities.components) == {wheel.joint for wheel in robot.wheels}


def wheel_place(robot: Robot, qpos: np.ndarray) -> float:
    """Return how far forward the first wheel is, m."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(robot.model, data)
    return float(data.geom(robot.wheels[0].geom).xpos[0])


def test_wheels_that_turn_forward_roll_forward(task):
    """A quarter of a second at 0.2 m/s; the base of a biped tilts back meanwhile."""
    spec = task.spec()
    processes = (Actuation(), spec.process(Command))
    easy = {"initial_state": InitialState(), "randomization": spec.randomization[:2], "processes": processes}
    env = Env(replace(spec, **easy), "native")
    signs = {wheel.joint: wheel.forward_sign for wheel in env.robot.wheels}
    positions, velocities = spec.action.outputs
    action = jnp.array([0.0] * positions.size + [0.1 * signs[name] for name in velocities.components])
    state, step = jax.jit(env.reset)(jax.random.PRNGKey(0)), jax.jit(env.step)
    for _ in range(round(0.25 / env.dt)):
        state = step(state, action)
    assert 0.02 < wheel_place(env.robot, state.physics.qpos) - wheel_place(env.robot, env.robot.default_qpos) < 0.08


def test_the_pose_is_that_of_the_legs_however_far_wheels_have_turned(task):
    env = Env(replace(task.spec(), initial_state=InitialState()), "native")
    state, step = jax.jit(env.reset)(jax.random.PRNGKey(0)), jax.jit(env.step)
    wheels = np.array(env.robot.joint_qpos_indices[env.robot.joint_indices([w.joint for w in env.robot.wheels])])
    terms = []
    for turned in (0.0, 20 * np.pi):
        physics = state.physics._replace(qpos=state.physics.qpos.at[wheels].add(turned))
        after = step(state._replace(physics=physics), jnp.zeros(env.action_size))
        terms.append(np.asarray(after.info.reward_terms))
    assert np.isfinite(terms).all()
    np.testing.assert_allclose(*terms, atol=1e-3)


def test_the_mirror_image_swaps_legs_and_wheels(task):
    env = Env(task.spec(), "native")
    mirror = symmetry_of(env).action
    names = [name for output in env.spec.action.outputs for name in output.components]
    left = {name: i for i, name in enumerate(names)}
    assert [names[i] for i in mirror.permutation] == [_other(name) for name in names]
    signs = {wheel.joint: wheel.forward_sign for wheel in env.robot.wheels}
    for name in signs:  # the mirror image of a robot that rolls forward rolls forward
        assert mirror.sign[left[name]] == signs[name] * signs[_other(name)]


def _other(name: str) -> str:
    swapped = {"left": "right", "right": "left", "FL": "FR", "FR": "FL", "RL": "RR", "RR": "RL"}
    side, _, part = name.partition("_")
    return f"{swapped[side]}_{part}"


def test_robots_and_commands_that_do_not_fit_are_refused():
    with pytest.raises(RobotError, match="no wheels, which this task needs"):
        Rolling(robot="go1").spec()
    with pytest.raises(ConfigError, match="wheels do not roll sideways; write 0 in the middle"):
        Rolling(max_velocity=(1.0, 0.5, 1.0)).spec()
    with pytest.raises(ConfigError, match=r"ask 7.00 m/s of a wheel, .* rolls at 5.55 m/s at most"):
        Rolling(max_velocity=(7.0, 0.0, 0.0)).spec()
    with pytest.raises(RobotError, match="no feet, which this task needs"):
        Velocity(robot="upkie").spec()
