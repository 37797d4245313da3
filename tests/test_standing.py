"""A pose to stand in is told from one to lie in, and proposed: bent knees, feet below the hips, level soles."""

import re
from pathlib import Path

import mujoco
import numpy as np
import pytest
from quadruped_urdf import quadruped_urdf

from jaxloco.doctor.diagnose import diagnose
from jaxloco.model_import.new_robot import new_robot
from jaxloco.model_import.standing import Stance, fault, on_the_floor, standing_poses
from jaxloco.robot import Robot, load_robot

BIPED = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body name="pelvis" pos="0 0 1">
      <freejoint/>
      <inertial pos="{com} 0 0.2" mass="12" diaginertia="0.2 0.2 0.1"/>
      {legs}
    </body>
  </worldbody>
  {rest}
</mujoco>
"""
LEG = """
      <body name="{side}_hip" pos="0 {y} 0">
        <joint name="{side}_hip_yaw" axis="0 0 1" range="-1 1"/>
        <inertial pos="0 0 0" mass="0.5" diaginertia="1e-3 1e-3 1e-3"/>
        <body name="{side}_hip2">
          <joint name="{side}_hip_roll" axis="1 0 0" range="-0.5 0.5"/>
          <inertial pos="0 0 0" mass="0.5" diaginertia="1e-3 1e-3 1e-3"/>
          <body name="{side}_thigh">
            <joint name="{side}_hip_pitch" axis="0 {turn} 0" range="-2 2"/>
            <inertial pos="0 0 -0.15" mass="1.5" diaginertia="1e-2 1e-2 2e-3"/>
            <body name="{side}_shank" pos="0 0 -0.3">
              <joint name="{side}_knee" axis="0 {turn} 0" range="-2.5 2.5"/>
              <inertial pos="0 0 -0.15" mass="1" diaginertia="8e-3 8e-3 1e-3"/>
              <body name="{side}_ankle" pos="0 0 -0.3">
                <joint name="{side}_ankle_pitch" axis="0 1 0" range="-1 1"/>
                <inertial pos="0 0 0" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>
                <body name="{side}_foot">
                  <joint name="{side}_ankle_roll" axis="1 0 0" range="-0.5 0.5"/>
                  <inertial pos="0.03 0 -0.03" mass="0.4" diaginertia="1e-3 1e-3 1e-3"/>
                  <geom name="{side}_sole" type="box" size="0.1 0.04 0.01" pos="0.03 0 -0.04"/>
                </body>
              </body>
            </body>
          </body>
        </body>
      </body>"""


def biped(tmp_path: Path, rest: str = "", com: float = 0.0) -> Path:
    legs = "".join(LEG.format(side=s, y=y, turn=turn) for s, y, turn in (("left", 0.1, 1), ("right", -0.1, -1)))
    source = tmp_path / "biped.xml"
    source.write_text(BIPED.format(legs=legs, rest=rest, com=com))
    return source


def stance(robot: Robot, qpos: np.ndarray) -> Stance:
    return Stance(robot.model, qpos, {foot.body: foot.geoms for foot in robot.feet})


def placed(robot: Robot, qpos: np.ndarray) -> mujoco.MjData:
    data = mujoco.MjData(robot.model)
    data.qpos[:] = qpos
    mujoco.mj_forward(robot.model, data)
    return data


@pytest.mark.parametrize("name", ["unitree_g1", "microduck"])
def test_the_poses_of_our_small_and_large_humanoid_are_to_stand_in(name):
    robot = load_robot(name)
    assert fault(stance(robot, robot.default_qpos)) is None


@pytest.mark.parametrize("name", ["go1", "go2", "anymal_c", "berkeley_humanoid"])
def test_the_poses_of_our_robots_are_to_stand_in_and_straight_or_lying_ones_are_not(name):
    robot = load_robot(name)
    assert fault(stance(robot, robot.default_qpos)) is None
    straight = np.array(robot.default_qpos)
    straight[robot.joint_qpos_indices] = 0.0
    knees = [j for j in robot.joint_names if "calf" in j or "KFE" in j]
    if name != "anymal_c":  # its shank is at an angle there
        assert fault(stance(robot, straight)) == "its knees are straight"
    folded = np.array(robot.default_qpos)
    for knee in knees:
        joint = robot.joints[robot.joint_names.index(knee)]
        end = max((joint.lower, joint.upper), key=abs)
        folded[robot.model.joint(knee).qposadr[0]] = np.clip(end, -2.7, 2.7)
        thigh = knee.replace("calf", "thigh").replace("KFE", "HFE")
        folded[robot.model.joint(thigh).qposadr[0]] = np.clip(-0.5 * end, -1.35, 1.35)
    if name != "berkeley_humanoid":  # whose knees bend by 2.1 rad alone: its hips stay high
        assert re.fullmatch(r"it lies, its hips at \d\d % of the legs' length", fault(stance(robot, folded)))


def test_two_equal_links_bend_by_the_angle_that_is_known_and_the_foot_is_below_the_hip(tmp_path):
    source = tmp_path / "rover.urdf"
    source.write_text(quadruped_urdf().replace('lower="-2.7" upper="-0.5"', 'lower="-2.7" upper="0.5"'))
    robot = load_robot(new_robot(source, tmp_path / "rover"))
    hip, thigh, calf = robot.joints[:3]
    bend = 2.0 * np.arccos(0.85)
    assert (hip.default, thigh.default) == pytest.approx((0.0, 0.5 * bend), abs=2e-3)
    assert calf.default == pytest.approx(-bend, abs=2e-3)
    assert robot.default_qpos[2] == pytest.approx(0.85 * 0.4 + 0.02, abs=1e-3)
    text = (robot.folder / "robot.toml").read_text()
    assert "# guess: knees bent to 85 %, feet below the hips; in simulation it stands\n" in text


def test_a_biped_bends_its_knees_ahead_with_level_soles_below_its_centre_of_mass(tmp_path):
    robot = load_robot(new_robot(biped(tmp_path, com=0.04), tmp_path / "biped"))
    data = placed(robot, robot.default_qpos)
    knees = [robot.joints[robot.joint_names.index(f"{side}_knee")].default for side in ("left", "right")]
    assert knees == pytest.approx([2.0 * np.arccos(0.85), -2.0 * np.arccos(0.85)], abs=5e-3)  # mirrored axes
    for side in ("left", "right"):
        assert data.body(f"{side}_shank").xpos[0] > data.body(f"{side}_foot").xpos[0]
        assert data.geom(f"{side}_sole").xmat[8] == pytest.approx(1.0, abs=1e-4)
        assert data.geom(f"{side}_sole").xpos[0] == pytest.approx(data.subtree_com[0, 0], abs=0.01)
        assert data.geom(f"{side}_sole").xpos[2] == pytest.approx(0.01, abs=1e-4)
    assert "in simulation it stands" in (robot.folder / "robot.toml").read_text()


def lying() -> str:
    legs = "0 0 1.2 -2.4 1 0 0 0 -1.2 2.4 1 0"
    return f'<keyframe><key name="home" qpos="0 0 0.2 1 0 0 0 {legs}"/></keyframe>'


def test_a_lying_keyframe_or_straight_knees_are_told_and_a_keyframe_to_stand_in_is_kept(tmp_path):
    text = (new_robot(biped(tmp_path, lying()), tmp_path / "lying") / "robot.toml").read_text()
    assert re.search(r"# guess: knees bent to 85 %.*, since in the keyframe it lies, its hips at 39 % of", text)
    zeros = f'<keyframe><key qpos="0 0 0.65 1 0 0 0 {"0 " * 12}"/></keyframe>'
    text = (new_robot(biped(tmp_path, zeros), tmp_path / "straight") / "robot.toml").read_text()
    assert "since in the keyframe its knees are straight; in simulation it stands" in text
    bent = zeros.replace("0 0 0 " + "0 " * 12, "0 0 0 0 0 -0.4 0.8 -0.4 0 0 0 0.4 -0.8 -0.4 0")
    robot = load_robot(new_robot(biped(tmp_path, bent), tmp_path / "bent"))
    assert "# guess: knees" not in (robot.folder / "robot.toml").read_text()
    assert robot.joints[3].default == 0.8


def test_the_doctor_tells_a_pose_to_lie_in_and_writes_one_to_stand_in(tmp_path):
    folder = new_robot(biped(tmp_path), tmp_path / "biped")
    toml, text = folder / "robot.toml", (folder / "robot.toml").read_text()
    toml.write_text(re.sub(r'^("[^"]+") = .*', r"\1 = 0.0", text, flags=re.M).replace("# guess: knees", "# knees"))
    straight = load_robot(folder)
    robot_height = straight.default_qpos[2]
    (finding,) = (f for f in diagnose(folder) if "lowest foot" in f.problem)
    toml.write_text(re.sub("base_position = .*", finding.fix.removeprefix("write "), toml.read_text()))
    (finding,) = (f for f in diagnose(folder) if "in the default pose" in f.problem)
    assert finding.severity == "warning" and finding.problem == "in the default pose its knees are straight"
    match = re.fullmatch(r"write base_position = \[0, 0, (\S+)\] and as default: (.*)", finding.fix)
    assert match is not None and float(match[1]) == pytest.approx(robot_height, abs=1e-3)
    angles = dict(word.split() for word in match[2].split(", "))
    assert set(angles) == set(straight.joint_names)
    assert float(angles["left_knee"]) == pytest.approx(2.0 * np.arccos(0.85), abs=5e-3)


def test_legs_without_knees_or_with_joints_that_others_move_get_no_pose(tmp_path):
    coupled = '<equality><joint joint1="left_knee" joint2="left_hip_pitch" polycoef="0 -2 0 0 0"/></equality>'
    text = (new_robot(biped(tmp_path, coupled), tmp_path / "coupled") / "robot.toml").read_text()
    assert "# TODO: bend the knees by hand; no standing pose was found" in text


def test_soft_legs_that_give_way_together_are_bent_toward_the_middle():
    robot = load_robot("anymal_c")
    poses = standing_poses(stance(robot, robot.model.qpos0))
    knees = [robot.joint_qpos_indices[robot.joint_names.index(name)] for name in ("LF_KFE", "LH_KFE")]
    assert [np.sign(pose[knees]).tolist() for pose in poses] == [[-1.0, -1.0], [-1.0, 1.0]]
    raised = on_the_floor(robot.model, "base", [geom for foot in robot.feet for geom in foot.geoms], poses[1])
    data = placed(robot, raised)
    assert min(data.geom(foot.geoms[0]).xpos[2] for foot in robot.feet) == pytest.approx(robot.feet[0].radius)
