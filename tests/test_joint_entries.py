"""`[[joints]]` by name and by pattern: which entry counts, the order of joints, guesses, locked joints."""

import re
import shutil
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from long_robots import long_copy
from playback_helpers import untrained_bundle

from jaxloco.envs.env import robot_on_ground
from jaxloco.errors import ConfigError, RobotError
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.robot import Robot, known_robots, load_robot, robots_dir
from jaxloco.robot.entries import matching, resolve
from jaxloco.tasks.velocity import Velocity
from jaxloco.terrain import SOLID_TILES, Terrain

WALKER = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <geom name="floor" type="plane" size="0 0 1"/>
    <body name="base" pos="0 0 0.5">
      <freejoint/>
      <inertial pos="0 0 0" mass="8" diaginertia="0.1 0.1 0.1"/>
      {legs}
      <body name="shoulder" pos="0 0 0.2">
        <joint name="arm_shoulder" axis="0 1 0" range="-2 2"/>
        <inertial pos="0.1 0 0" mass="0.5" diaginertia="0.01 0.01 0.01"/>
        <body name="wrist" pos="0.2 0 0">
          <joint name="arm[wrist]" axis="0 0 1" range="0.5 2"/>
          <inertial pos="0 0 0.05" mass="0.2" diaginertia="0.001 0.001 0.001"/>
          <geom name="hand" type="sphere" size="0.03" pos="0.1 0 0" contype="0" conaffinity="0"/>
        </body>
      </body>
    </body>
  </worldbody>
  <contact><pair geom1="floor" geom2="left_foot"/><pair geom1="floor" geom2="right_foot"/></contact>
</mujoco>
"""
LEG = """
      <body name="{side}_thigh" pos="0 {y} 0">
        <joint name="{side}_hip" axis="0 1 0" range="-1 1"/>
        <inertial pos="0 0 -0.1" mass="0.5" diaginertia="0.002 0.002 0.001"/>
        <body name="{side}_shank" pos="0 0 -0.25">
          <joint name="{side}_knee" axis="0 1 0" range="0.1 2"/>
          <inertial pos="0 0 -0.1" mass="0.3" diaginertia="0.002 0.002 0.001"/>
          <geom name="{side}_foot" type="sphere" size="0.02" pos="0 0 -0.23"/>
        </body>
      </body>"""
TOML = """
schema = 1
[robot]
name = "walker"
model = "robot.xml"
base_body = "base"
{robot}
[timing]
control_frequency = 50.0
simulation_timestep = 0.004
[pose]
base_position = [0.0, 0.0, 0.5]
{joints}
[[feet]]
name = "left"
geoms = ["left_foot"]
body = "left_shank"
[[feet]]
name = "right"
geoms = ["right_foot"]
body = "right_shank"
"""
ALL = '[[joints]]\nname = "*"\nkp = 30.0\nkd = 1.0\ntorque_limit = 20.0\nvelocity_limit = 15.0\n'


def folder(tmp_path: Path, joints: str = ALL, robot: str = "", xml: tuple[str, str] = ("", "")) -> Path:
    place = tmp_path / "walker"
    place.mkdir(exist_ok=True)
    legs = "".join(LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    (place / "robot.xml").write_text(WALKER.format(legs=legs).replace(*xml))
    (place / "robot.toml").write_text(TOML.format(joints=joints, robot=robot))
    return place


NAMES = ("left_hip", "left_knee", "right_hip", "right_knee", "arm_shoulder", "arm[wrist]")


def test_a_pattern_gives_figures_to_all_its_joints_and_a_later_or_exact_entry_overrides_and_completes(tmp_path):
    knees = '[[joints]]\nname = "*_knee"\nkp = 40.0\ndefault = 0.8\n'
    left = '[[joints]]\nname = "left_knee"\nkp = 50.0\n'
    robot = load_robot(folder(tmp_path, left + ALL + knees))
    kp = {joint.name: joint.kp for joint in robot.joints}
    assert kp["left_knee"] == 50.0 and kp["right_knee"] == 40.0 and kp["left_hip"] == 30.0
    defaults = {joint.name: joint.default for joint in robot.joints}
    assert defaults["left_knee"] == defaults["right_knee"] == 0.8 and defaults["left_hip"] == 0.0
    assert defaults["arm[wrist]"] == 0.5  # the end of its range next to zero
    assert {joint.control for joint in robot.joints} == {"position"} and not robot.guessed


def test_joints_are_in_the_order_of_the_entries_and_of_the_model_within_a_pattern(tmp_path):
    assert load_robot(folder(tmp_path)).joint_names == NAMES
    first = '[[joints]]\nname = "right_knee"\n[[joints]]\nname = "*_hip"\n'
    robot = load_robot(folder(tmp_path, first + ALL))
    assert robot.joint_names == ("right_knee", "left_hip", "right_hip", "left_knee", "arm_shoulder", "arm[wrist]")
    assert [robot.model.actuator(i).name for i in range(6)] == list(robot.joint_names)


def test_a_name_with_the_signs_of_a_pattern_is_that_joint_and_no_pattern(tmp_path):
    assert matching(["arm[wrist]", "armw"], ["arm[wrist]"]) == ("arm[wrist]",)
    assert matching(["armw", "armx"], ["arm[wrist]"]) == ("armw",)
    robot = load_robot(folder(tmp_path, ALL + '[[joints]]\nname = "arm[wrist]"\nkp = 5.0\n'))
    assert robot.joints[5].kp == 5.0


def test_the_last_pattern_counts_and_the_key_knows_its_entry():
    entries = [{"name": "*", "kp": 1.0, "kd": 1.0}, {"name": "a", "kp": 2.0}, {"name": "a*", "kp": 3.0, "kd": 3.0}]
    (a, ab) = resolve(entries, ["a", "ab"])
    assert a.values == {"name": "a", "kp": 2.0, "kd": 3.0} and ab.values == {"name": "ab", "kp": 3.0, "kd": 3.0}
    assert [a.source(key) for key in ("kp", "kd", "armature")] == [1, 2, 1] and ab.source("armature") == 0


GROUPS = """[[joints]]
name = "*"
kp = { "*" = 30.0, "*_knee" = 40.0, left_knee = 50.0 }
kd = 1.0
torque_limit = 20.0
velocity_limit = 15.0
[joints.default]
"*_knee" = 0.8
right_hip = -0.1
"""


def test_a_figure_may_be_a_table_of_patterns_in_which_a_name_counts_first_and_then_the_last_pattern(tmp_path):
    robot = load_robot(folder(tmp_path, GROUPS + '[[joints]]\nname = "arm*"\nkp = { arm_shoulder = 5.0 }\n'))
    figures = {joint.name: (joint.kp, joint.default) for joint in robot.joints}
    knees = {"left_knee": (50.0, 0.8), "right_knee": (40.0, 0.8)}
    hips = {"left_hip": (30.0, 0.0), "right_hip": (30.0, -0.1)}
    assert figures == knees | hips | {"arm_shoulder": (5.0, 0.0), "arm[wrist]": (30.0, 0.5)}


def test_a_name_in_a_table_counts_before_later_patterns_and_the_own_entry_as_much(tmp_path):
    later = '[[joints]]\nname = "left_*"\nkp = 60.0\n'
    with pytest.raises(RobotError, match="neither group is a part"):  # of left_knee it is plain, of left_hip as well
        load_robot(folder(tmp_path, GROUPS.replace('"*_knee" = 40.0', '"*t_knee" = 40.0, "*_hip" = 2.0') + later))
    robot = load_robot(folder(tmp_path, GROUPS.replace('"*_knee" = 40.0, ', "") + later))
    assert [joint.kp for joint in robot.joints][:4] == [60.0, 50.0, 30.0, 30.0]


def saved(model: mujoco.MjModel) -> bytes:
    buffer = np.zeros(mujoco.mj_sizeModel(model), np.uint8)
    mujoco.mj_saveModel(model, None, buffer)
    return buffer.tobytes()


@pytest.mark.parametrize("name", sorted({*known_robots()} - {"helicopter"}))  # which has no joints
def test_patterns_and_a_table_for_each_joint_are_the_same_robot(tmp_path, name):
    long = long_copy(name, tmp_path / name)
    variants = tomllib.loads((long / "robot.toml").read_text(encoding="utf-8")).get("variants", {})
    assert name not in ("go1", "go2") or len((robots_dir() / name / "robot.toml").read_text().splitlines()) <= 40
    for variant in (None, *variants):
        robot, other = load_robot(name, variant), load_robot(long, variant)
        assert saved(robot.model) == saved(other.model) and saved(robot.visual_model) == saved(other.visual_model)
        assert robot.facts() == other.facts() and robot.joints == other.joints and robot.wheels == other.wheels
        assert robot.collision_geoms == other.collision_geoms and not robot.guessed
        np.testing.assert_array_equal(robot.default_qpos, other.default_qpos)
        np.testing.assert_array_equal(robot.default_ctrl, other.default_ctrl)
        for foot, same in zip(robot.feet, other.feet, strict=True):
            assert (foot.name, foot.geoms, foot.body, foot.radius) == (same.name, same.geoms, same.body, same.radius)
            np.testing.assert_array_equal(foot.position, same.position)


def with_feet(tmp_path: Path, feet: str) -> Path:
    place = folder(tmp_path)
    file = place / "robot.toml"
    file.write_text(file.read_text().partition("[[feet]]")[0] + feet)
    return place


def test_a_star_in_the_name_of_a_foot_stands_for_the_same_text_in_its_shapes(tmp_path):
    written = load_robot(folder(tmp_path)).feet
    robot = load_robot(with_feet(tmp_path, '[[feet]]\nname = "*"\ngeoms = ["*_foot"]\n'))
    assert [(foot.name, foot.geoms, foot.body) for foot in robot.feet] == [
        (foot.name, foot.geoms, foot.body) for foot in written
    ]
    robot = load_robot(with_feet(tmp_path, '[[feet]]\nname = "foot_*"\ngeoms = ["*_foot"]\nbody = "*_shank"\n'))
    assert [foot.name for foot in robot.feet] == ["foot_left", "foot_right"]


FEET_MISTAKES = {
    "no match": ('name = "*"\ngeoms = ["*_fot"]', r"line 22: 'geoms' .*no geom matches '\*_fot', so the \* of name = "),
    "no star": ('name = "*"\ngeoms = ["left_foot"]', r"line 22: .*'left_foot' has no \*, so the \* of name = '\*'"),
    "star in geoms": ('name = "feet"\ngeoms = ["*_foot"]', r"line 22: .*no geom '\*_foot' .*write name = \"\*\"\)"),
    "two bodies": ('name = "feet"\ngeoms = ["left_foot", "right_foot"]', r"to body 'right_shank'; a foot is one"),
}  # fmt: skip


@pytest.mark.parametrize("case", FEET_MISTAKES)
def test_a_mistake_in_a_foot_names_its_line(tmp_path, case):
    feet, message = FEET_MISTAKES[case]
    with pytest.raises(RobotError, match=message):
        load_robot(with_feet(tmp_path, f"[[feet]]\n{feet}\n"))


MISTAKES = {
    "group without joints": (
        GROUPS.replace('"*_knee" = 0.8', '"*_kne" = 0.8'),
        "",
        r"line 20: '\*_kne' of 'default' in \[\[joints\]\] '\*': no joint of this entry matches .* Did .*'left_knee'",
    ),
    "group of another entry": (
        ALL + '[[joints]]\nname = "arm*"\nkp = { left_knee = 1.0 }\n',
        "",
        r"line 21: .*no joint of this entry matches 'left_knee'.*Known: arm_shoulder",
    ),
    "value of a group": (
        GROUPS.replace('"*_knee" = 40.0', '"*_knee" = -40.0'),
        "",
        r"line 15: '\*_knee' of 'kp' in .*found -40.0 .*expected a number >= 0.*Write for example: \"\*_knee\" = 20.0",
    ),
    "two groups": (
        ALL + '[[joints]]\nname = "*_knee"\nkp = 1.0\n[[joints]]\nname = "left_*"\nkp = 2.0\n',
        "",
        r"line 24: 'kp' in .*found 2.0, but joint 'left_knee' has kp = 1.0 of '\*_knee' in line 21 too, and neither "
        r"group is a part of the other; write its own as well: \[\[joints\]\] name = \"left_knee\", kp = 2.0",
    ),
    "wider group later": (
        '[[joints]]\nname = "*_knee"\nkp = 1.0\n' + ALL,
        "",
        r"line 18: .*found 30.0, so kp = 1.0 of '\*_knee' in line 15 has no effect; write that of more joints first",
    ),
    "no match": ('[[joints]]\nname = "*_hop"\n' + ALL, "", r"line 14: .*no joint matches '\*_hop' .*Known: left_hip"),
    "twice": (ALL + ALL, "", r"line 20: .*'\*' is there twice"),
    "outside": (
        ALL + '[[joints]]\nname = "*_knee"\ndefault = 0.0\n',
        "",
        r"line 21: .*joint 'left_knee': found 0.0, outside .*\[0.1, 2.0\].* write default = 0.1 or",
    ),
    "locked": (ALL, 'locked = ["hand*"]', r"line 7: 'locked' in .*no joint matches 'hand\*' .*Known: left_hip"),
    "all locked": (ALL, 'locked = ["*"]', r"line 7: .*holds every joint; leave out"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_names_its_line_and_the_joint(tmp_path, case):
    joints, robot, message = MISTAKES[case]
    with pytest.raises(RobotError, match=message):
        load_robot(folder(tmp_path, joints, robot))


def guessing(place: Path) -> tuple[Robot, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        robot = load_robot(place)
    return robot, [str(warning.message) for warning in caught]


def test_missing_figures_are_guessed_with_one_warning(tmp_path):
    robot, (message,) = guessing(folder(tmp_path, '[[joints]]\nname = "*"\n'))
    assert "torque_limit, velocity_limit, kp, kd of 6 joints, such as 'left_hip', are missing and guessed" in message
    assert robot.guessed == {name: ("torque_limit", "velocity_limit", "kp", "kd") for name in NAMES}
    hip, shoulder = robot.joints[0], robot.joints[4]
    weight, leg = 10.3 * 9.81, 0.25 + 0.23
    assert hip.torque_limit == pytest.approx(0.5 * weight * leg, rel=0.05)  # two digits
    assert hip.velocity_limit == pytest.approx(4.0 * np.sqrt(9.81 / leg), rel=0.05)
    assert hip.kp == pytest.approx(3.0 * weight * leg / 2, rel=0.05)  # so much holds a biped upright
    assert hip.kd == pytest.approx(hip.kp / 50.0, rel=0.05)
    # The arm is 0.7 kg; it weighs 0.5 kg at 0.1 m and 0.2 kg at 0.2 m and 0.05 m above.
    lever = np.hypot((0.5 * 0.1 + 0.2 * 0.2) / 0.7, 0.2 * 0.05 / 0.7)
    assert shoulder.torque_limit == pytest.approx(3.0 * 0.7 * 9.81 * lever, rel=0.05)
    assert shoulder.kp == pytest.approx(2.0 * shoulder.torque_limit, rel=0.05)


def test_guesses_follow_what_is_known_and_a_known_figure_is_never_changed(tmp_path):
    robot, _ = guessing(folder(tmp_path, '[[joints]]\nname = "*"\ntorque_limit = 8.0\nkd = 0.7\narmature = 0.01\n'))
    knee = robot.joints[1]
    assert (knee.torque_limit, knee.kd) == (8.0, 0.7) and robot.guessed["left_knee"] == ("velocity_limit", "kp")
    assert knee.kp == pytest.approx(73.0, rel=0.02)  # 3 m g l / 2, and less than ten times the torque limit
    weak, _ = guessing(folder(tmp_path, '[[joints]]\nname = "*"\ntorque_limit = 2.0\narmature = 0.01\n'))
    assert weak.joints[1].kp == 20.0


def test_a_guess_does_not_throw_a_light_link_about(tmp_path):
    strong = '[[joints]]\nname = "*"\ntorque_limit = 500.0\nvelocity_limit = 10.0\n'
    robot, _ = guessing(folder(tmp_path, strong))
    data = mujoco.MjData(robot.model)
    data.qpos[:], data.ctrl[:] = robot.default_qpos, robot.default_ctrl
    data.qpos[2], robot.model.opt.gravity[:] = 2.0, 0.0
    data.qpos[7:] += 0.05
    mujoco.mj_step(robot.model, data, 500)
    assert np.abs(data.qvel).max() < 0.1


def test_a_gain_of_a_pattern_is_left_out_where_a_joint_has_no_use_for_it(tmp_path):
    torque = '[[joints]]\nname = "arm*"\ncontrol = "torque"\n'
    robot = load_robot(folder(tmp_path, ALL + torque))
    assert (robot.joints[4].kp, robot.joints[4].kd, robot.joints[0].kp) == (0.0, 0.0, 30.0)
    exact = '[[joints]]\nname = "arm_shoulder"\ncontrol = "torque"\nkp = 3.0\n'
    with pytest.raises(RobotError, match=r"line 22: 'kp' in .*'arm_shoulder': has no effect with"):
        load_robot(folder(tmp_path, ALL + exact))


# Locked joints


def places(robot: Robot) -> dict[str, np.ndarray]:
    data = mujoco.MjData(robot.visual_model)
    data.qpos[:] = robot.default_qpos
    mujoco.mj_kinematics(robot.visual_model, data)
    bodies = [robot.visual_model.body(i).name for i in range(1, robot.visual_model.nbody)]
    return {name: np.concatenate([data.body(name).xpos, data.body(name).xmat]) for name in bodies}


def test_locked_joints_stay_in_the_default_pose_and_are_no_joints_of_the_robot(tmp_path):
    bent = ALL + '[[joints]]\nname = "arm_shoulder"\ndefault = 0.7\n'
    free = load_robot(folder(tmp_path, bent))
    robot = load_robot(folder(tmp_path, bent, 'locked = ["arm*"]'))
    assert robot.joint_names == NAMES[:4] and robot.model.nv == free.model.nv - 2
    assert robot.locked == {"arm_shoulder": 0.7, "arm[wrist]": 0.5} == robot.facts()["locked"]
    assert "locked" not in free.facts()
    for name, place in places(free).items():
        np.testing.assert_allclose(places(robot)[name], place, atol=1e-9, err_msg=name)
    assert robot.model.body_mass.sum() == pytest.approx(free.model.body_mass.sum())


def test_a_joint_without_a_default_is_where_the_models_own_keyframe_has_it(tmp_path):
    home = f'</contact><keyframe><key name="home" qpos="0 0 0.5 1 0 0 0 {"0.3 " * 4}0.6 0.9"/></keyframe>'
    robot = load_robot(folder(tmp_path, ALL, 'locked = ["arm*"]', ("</contact>", home)))
    assert robot.locked == pytest.approx({"arm_shoulder": 0.6, "arm[wrist]": 0.9})
    assert [joint.default for joint in robot.joints] == [0.3] * 4


def test_what_is_coupled_to_a_locked_joint_is_held_with_it(tmp_path):
    coupled = "</contact><equality><joint joint1='arm[wrist]' joint2='arm_shoulder' polycoef='0.2 2 0 0 0'/></equality>"
    joints = ALL + '[[joints]]\nname = "arm_shoulder"\ndefault = 0.3\n'
    listed = joints.replace('"*"', '"*_*"')
    free = load_robot(folder(tmp_path, listed, "", ("</contact>", coupled)))
    robot = load_robot(folder(tmp_path, listed, 'locked = ["arm_shoulder"]', ("</contact>", coupled)))
    assert robot.model.neq == 0 and robot.model.njnt == 5
    np.testing.assert_allclose(places(robot)["wrist"], places(free)["wrist"], atol=1e-9)


def test_a_locked_joint_of_a_shipped_robot_leaves_its_self_contacts(tmp_path):
    place = Path(shutil.copytree(robots_dir() / "berkeley_humanoid", tmp_path / "biped"))
    toml = place / "robot.toml"
    toml.write_text(toml.read_text().replace("[timing]", 'locked = ["*_HR"]\n[timing]', 1))
    robot = load_robot(place)
    assert len(robot.joints) == 10 and robot.self_contacts.pairs and robot.model.npair > 2
    assert np.isfinite(load_robot(place, "full").default_qpos).all()


def test_a_task_can_lock_more_joints_than_robot_toml(tmp_path):
    place = folder(tmp_path, ALL, 'locked = ["arm_shoulder"]')
    (tmp_path / "both").mkdir()
    by_file = load_robot(folder(tmp_path / "both", ALL, 'locked = ["arm*"]'))
    robot = load_robot(place, locked=("arm[wrist]",))
    assert robot.locked == by_file.locked and robot.joint_names == by_file.joint_names
    np.testing.assert_array_equal(robot.model.body_pos, by_file.model.body_pos)
    task = Velocity(robot=str(place), swing_height=0.05, step_height=0.05, locked=("arm[wrist]",))
    env = task.spec().build("native")
    assert env.robot.joint_names == NAMES[:4] and env.action_size == 4
    assert robot_on_ground(replace(task, terrain=Terrain(SOLID_TILES[:1])).spec())[0].joint_names == NAMES[:4]
    assert env.robot.self_contacts.pairs == by_file.self_contacts.pairs


def test_a_policy_is_played_on_a_model_that_lacks_the_joints_it_held_still(tmp_path):
    place = folder(tmp_path, ALL.replace("kp = 30.0", "default = 0.5\nkp = 30.0"))
    held = {"swing_height": 0.05, "step_height": 0.05, "locked": ("arm_*", "arm?wrist?")}
    bundle = untrained_bundle("go1-velocity", tmp_path / "policy", str(place), held)
    model = mujoco.MjSpec.from_file(str(place / "robot.xml"))
    for name in NAMES[4:]:
        model.delete(model.joint(name))
    legs = Path(shutil.copytree(place, tmp_path / "legs"))
    (legs / "robot.xml").write_text(model.to_xml())
    for robot, held_there in ((place, {"arm_shoulder": 0.5, "arm[wrist]": 0.5}), (legs, {})):
        played = Playback.load(bundle, Conditions(robot=str(robot)))
        assert played.robot.locked == held_there and played.robot.joint_names == NAMES[:4]
    one = '[[joints]]\nname = "left_*"\n' + ALL
    (legs / "robot.toml").write_text(TOML.format(joints=one, robot='locked = ["right_knee"]'))
    with pytest.raises(ConfigError, match=r"a policy for the robot 'walker'.*'right_knee' is not there"):
        Playback.load(bundle, Conditions(robot=str(legs)))


@pytest.mark.parametrize(
    ("locked", "problem"),
    [
        (
            ("hand*",),
            r"locked = .'hand\*',.: robot '.*': no joint matches 'hand\*'; write others, or none .* Known: left_hip",
        ),
        (("*",), "locked = .*: holds every joint; leave out"),
    ],
)
def test_a_task_that_cannot_lock_says_so_in_terms_of_its_option(tmp_path, locked, problem):
    with pytest.raises(ConfigError, match=problem):
        Velocity(robot=str(folder(tmp_path, ALL)), locked=locked).spec()


# Speed of the legs


def test_slow_joints_of_arms_do_not_stop_the_velocity_task_and_slow_legs_do(tmp_path):
    slow = ALL + '[[joints]]\nname = "{}"\nvelocity_limit = 0.2\n'
    place = folder(tmp_path, slow.format("arm*"))
    task = Velocity(robot=str(place), swing_height=0.05, step_height=0.05)
    assert task.spec().robot == str(place)
    assert [joint.name for joint in load_robot(place).leg_joints] == list(NAMES[:4])
    folder(tmp_path, slow.format("*_hip"))
    with pytest.raises(ValueError, match=r"joint 'left_hip' turns at 0.2 rad/s at most"):
        task.spec()


def test_the_documented_example_loads(tmp_path):
    page = (Path(__file__).resolve().parents[1] / "docs" / "robots.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(# Patterns.*?)```", page, re.DOTALL)
    robot = load_robot(folder(tmp_path, example))
    assert {joint.name: joint.kp for joint in robot.joints}["left_knee"] == 40.0
