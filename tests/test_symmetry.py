"""The left–right mirror of every robot is an involution, and mirrored joints put mirrored feet."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
from long_robots import long_copy

from jaxloco.errors import RobotError
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import foot_mirror, joint_mirror, mirror_qpos

LEGGED = ("go1", "go2", "anymal_c", "berkeley_humanoid", "unitree_g1", "microduck")
SYMMETRIC = (*LEGGED, "upkie")


def random_qpos(robot: Robot, rng: np.random.Generator) -> np.ndarray:
    qpos = rng.normal(size=robot.model.nq)
    quaternion = robot.base_qpos_indices[3:]
    qpos[quaternion] /= np.linalg.norm(qpos[quaternion])
    return qpos


def end_points(robot: Robot, qpos: np.ndarray) -> np.ndarray:
    """Positions of the feet, or of the wheels, (n, 3)."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = qpos
    mujoco.mj_kinematics(robot.model, data)
    if not robot.feet:
        return data.geom_xpos[robot.geom_ids([wheel.geom for wheel in robot.wheels])]
    bodies = (data.body(foot.body) for foot in robot.feet)
    return np.array(
        [body.xpos + body.xmat.reshape(3, 3) @ foot.position for body, foot in zip(bodies, robot.feet, strict=True)]
    )


@pytest.mark.parametrize("name", SYMMETRIC)
def test_mirror_is_an_involution(name: str) -> None:
    robot = load_robot(name)
    for mirror in (joint_mirror(robot), foot_mirror(robot)):
        n = len(mirror.permutation)
        np.testing.assert_array_equal(mirror.permutation[mirror.permutation], np.arange(n))
        values = np.random.default_rng(0).normal(size=(3, n))
        np.testing.assert_array_equal(mirror(mirror(values)), values)
    qpos = random_qpos(robot, np.random.default_rng(1))
    np.testing.assert_array_equal(mirror_qpos(robot, mirror_qpos(robot, qpos)), qpos)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_mirrored_configuration_puts_the_feet_at_mirrored_positions(name: str) -> None:
    robot = load_robot(name)
    order = foot_mirror(robot).permutation if robot.feet else np.array([1, 0])
    for seed in range(5):
        qpos = random_qpos(robot, np.random.default_rng(seed))
        expected = end_points(robot, qpos)[order] * [1.0, -1.0, 1.0]
        np.testing.assert_allclose(end_points(robot, mirror_qpos(robot, qpos)), expected, atol=1e-5)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_default_pose_is_its_own_mirror_image(name: str) -> None:
    robot = load_robot(name)
    np.testing.assert_allclose(mirror_qpos(robot, robot.default_qpos), robot.default_qpos, atol=1e-12)


def test_mirror_of_upkie_and_of_the_biped_by_hand() -> None:
    upkie = joint_mirror(load_robot("upkie"))
    np.testing.assert_array_equal(upkie.permutation, [3, 4, 5, 0, 1, 2])
    np.testing.assert_array_equal(upkie.sign, [-1] * 6)  # the right side's axes point the other way
    biped = joint_mirror(load_robot("berkeley_humanoid"))
    np.testing.assert_array_equal(biped.permutation, [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(biped.sign, [-1, -1, 1, 1, 1, -1] * 2)  # rotation, abduction; flexions; ankle roll


def test_joint_in_the_middle_is_its_own_mirror_image() -> None:
    mirror = joint_mirror(load_robot("pendulum"))
    np.testing.assert_array_equal(mirror.permutation, [0])


def renamed(tmp_path: Path, **names: str) -> Robot:
    folder = long_copy("go1", tmp_path / "go1")
    for file in ("robot.xml", "robot.toml"):
        text = (folder / file).read_text()
        for old, new in names.items():
            text = text.replace(f'"{old}"', f'"{new}"')
        (folder / file).write_text(text)
    return load_robot(folder)


def test_joint_without_a_partner_is_named_with_what_is_expected(tmp_path: Path) -> None:
    robot = renamed(tmp_path, FR_hip_joint="FR_hop_joint")
    with pytest.raises(
        RobotError, match=r"robot\.toml: joint 'FR_hop_joint' has no mirror .*expected .*'FL_hop_joint'"
    ):
        joint_mirror(robot)


def test_joint_without_a_side_beside_the_middle_is_named(tmp_path: Path) -> None:
    robot = renamed(tmp_path, FR_hip_joint="hip_a", FL_hip_joint="hip_b")
    problem = r"joint 'hip_a' is 0.0467 m right of the middle.*'hip_b' on the other.*such as 'right_hip' and 'left_h"
    with pytest.raises(RobotError, match=problem):
        joint_mirror(robot)


def test_a_sideways_axis_beside_the_middle_is_of_a_side_unless_what_it_moves_is_in_the_middle(tmp_path: Path) -> None:
    robot = renamed(tmp_path, FR_thigh_joint="thigh_a", FL_thigh_joint="thigh_b")
    with pytest.raises(RobotError, match=r"joint 'thigh_a' is 0.127 m right of the middle"):
        joint_mirror(robot)
    duck = load_robot("microduck")  # the motor of its neck sits left of the middle, its head above it
    neck = duck.joint_names.index("neck_pitch")
    mirror = joint_mirror(duck)
    assert (mirror.permutation[neck], mirror.sign[neck]) == (neck, 1.0)


def test_sides_are_words_of_names_in_capitals_too(tmp_path: Path) -> None:
    names = {f"{leg}_{part}_joint": f"{leg}{part.title()}" for leg in ("FR", "FL") for part in ("hip", "thigh", "calf")}
    robot = renamed(tmp_path, **names)
    assert robot.joint_names[0] == "FRHip"
    np.testing.assert_array_equal(joint_mirror(robot).permutation, joint_mirror(load_robot("go1")).permutation)


def test_partners_of_another_kind_are_named(tmp_path: Path) -> None:
    robot = renamed(tmp_path, FR_hip_joint="FR_x", FR_thigh_joint="FR_hip_joint", FL_thigh_joint="FL_x")
    with pytest.raises(RobotError, match=r"joint 'FL_x' should mirror 'FR_x'.*axis must be ±\[-1.0, 0.0, -0.0\]"):
        joint_mirror(robot)


def test_foot_without_a_partner_is_named(tmp_path: Path) -> None:
    robot = renamed(tmp_path, FR="right_front")
    with pytest.raises(RobotError, match=r"foot 'right_front' has no mirror image; .*'left_front'"):
        foot_mirror(robot)
