"""Fall recovery: first states that are really falls, and a task that fits every quadruped."""

from functools import partial

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.envs import batch, drops
from jaxloco.envs.drops import fallen_poses
from jaxloco.envs.env import Env
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.robot import load_robot, robots_dir
from jaxloco.symmetry import mirror_qpos
from jaxloco.tasks import recipe
from jaxloco.tasks.recovery import Recovery

DROPS = 24
TASKS = ("go1-recovery", "go2-recovery", "anymal-c-recovery")


def gravity(poses: np.ndarray) -> np.ndarray:
    """The vertical component of the base's own vertical, 1 upright and -1 upside down, (n,)."""
    return 1.0 - 2.0 * (poses[:, 4] ** 2 + poses[:, 5] ** 2)


@pytest.fixture(scope="module")
def poses() -> np.ndarray:
    return fallen_poses(robots_dir() / "go1", "full", DROPS)


@pytest.fixture(scope="module")
def go1() -> Env:
    return Env(Recovery(drops=DROPS).spec(), "native")


def test_robots_fall_in_every_orientation_and_lie_lower_than_they_stand(poses):
    up = gravity(poses)
    assert (up > 0.7).any() and (up < -0.7).any() and (np.abs(up) < 0.7).any()
    standing = load_robot("go1").default_qpos[2]
    assert poses[:, 2].min() > 0.03 and np.median(poses[:, 2]) < 0.5 * standing


def test_fallen_robots_are_at_rest_on_the_floor(poses):
    """Limp, they stay where they are, and nothing is deep in the floor."""
    model = load_robot("go1", "full").model
    model.actuator_gainprm[:, 0] = 0.0
    model.actuator_biasprm[:, :2] = 0.0
    data, moved = mujoco.MjData(model), []
    for pose in poses[:6]:
        mujoco.mj_resetData(model, data)
        data.qpos[:] = pose
        mujoco.mj_forward(model, data)
        assert data.ncon > 0 and data.contact.dist.min() > -0.02
        mujoco.mj_step(model, data, nstep=50)
        moved.append(np.abs(data.qpos[:3] - pose[:3]).max())
    assert np.median(moved) < 0.01 and max(moved) < 0.1


def test_every_fall_comes_with_its_mirror_image_and_is_the_same_each_time(poses):
    robot = load_robot("go1", "full")
    assert poses.shape == (2 * DROPS, robot.model.nq)
    np.testing.assert_allclose(poses[DROPS], mirror_qpos(robot, poses[0]), atol=1e-6)
    again = fallen_poses.__wrapped__(robots_dir() / "go1", "full", 2)
    np.testing.assert_array_equal(again[:2], poses[:2])


@pytest.mark.slow
def test_no_two_episodes_begin_alike(go1):
    state = jax.jit(partial(batch.reset, go1), static_argnums=1)(jax.random.PRNGKey(0), 64)
    qpos = np.asarray(state.robots.physics.qpos)
    assert len(np.unique(qpos[:, 7:].round(5), axis=0)) == 64
    yaw = 2.0 * np.arctan2(qpos[:, 6], qpos[:, 3])
    assert np.ptp(yaw) > np.pi and np.isfinite(qpos).all()
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, atol=1e-4)


def test_a_robot_that_stands_is_worth_more_at_each_step_than_one_that_lies(go1):
    state = jax.jit(go1.reset)(jax.random.PRNGKey(0))
    standing = jnp.asarray(go1.robot.default_qpos, jnp.float32)
    upright = state._replace(physics=state.physics._replace(qpos=standing, qvel=jnp.zeros_like(state.physics.qvel)))
    step, still = jax.jit(go1.step), jnp.zeros(12)
    names = [term.name for term in go1.spec.rewards]
    for _ in range(20):
        state, upright = step(state, still), step(upright, still)
    assert float(upright.reward) > float(state.reward) + 1.0
    assert float(upright.info.reward_terms[names.index("standing")]) == 1.0
    assert not bool(state.terminated)


@pytest.mark.parametrize("task", TASKS)
def test_the_task_fits_every_quadruped(task):
    robot = load_robot(recipe(task).task.robot, "full")  # type: ignore[attr-defined]
    spec = recipe(task).task.spec()
    (output,) = spec.action.outputs
    assert output.components == robot.joint_names and spec.variant == "full"
    assert {term.quantity for term in spec.observations["actor"].terms} == {
        "base_angular_velocity",
        "projected_gravity",
        "joint_offsets",
        "joint_velocities",
        "last_action",
    }


def test_randomization_grows_with_those_that_stand_at_the_end():
    spec = Recovery(drops=DROPS, grow=("randomization",), grow_with="success").spec()
    assert spec.randomization[1].constants["value"].grows == "success"
    grade = partial(spec.curriculum.grade, **spec.curriculum.constants)
    upright, height = jnp.array([0.0, 0.0, -1.0]), jnp.float32(0.29)
    assert int(grade(upright, height)) == 1
    assert int(grade(-upright, height)) == int(grade(upright, jnp.float32(0.1))) == -1
    with pytest.raises(UnknownNameError, match="unknown name in grow 'commands'"):
        Recovery(grow=("commands",))


def test_a_model_whose_body_would_sink_into_the_ground_is_refused():
    with pytest.raises(ConfigError, match=r"a fallen robot would sink into the ground; .* --task.variant full"):
        Recovery(variant=None).spec()


def test_robots_that_never_come_to_rest_are_an_error_and_no_endless_loop(monkeypatch):
    monkeypatch.setattr(drops, "FALLING_SECONDS", 0.1)  # while they still fall
    monkeypatch.setattr(drops, "SETTLED", 0.01)
    with pytest.raises(RobotError, match=r"robot 'go1': of 20 limp robots let fall, 0 came to rest within 0.1 s"):
        fallen_poses.__wrapped__(robots_dir() / "go1", "full", 2)


def test_a_robot_without_the_variant_is_refused():
    with pytest.raises(UnknownNameError, match="variant of robot 'go1' 'fall'; did you mean 'full'"):
        Recovery(variant="fall").spec()


@pytest.mark.parametrize(
    "changes",
    [
        {"drops": 0},
        {"pose_tilt": -0.1},
        {"standing_tilt": 9.0},
        {"standing_band": 0.0},
        {"max_joint_velocity": -1.0},
        {"kick": -1.0},
        {"payload": (-100.0, 0.0)},
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(ConfigError, match=f"^{name} = "):
        Recovery(**changes).spec()
