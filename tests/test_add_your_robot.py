"""docs/add_your_robot.md, followed word by word with a robot from outside the repository."""

import fnmatch
import json
import re
import shlex
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np
import pytest
from quadruped_urdf import DEFAULTS, quadruped_urdf

from jaxloco import cli
from jaxloco.doctor.diagnose import diagnose
from jaxloco.errors import RobotError
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.training import preparation, trainer
from jaxloco.training.run_folder import read_json

PAGE = Path(__file__).resolve().parents[1] / "docs" / "add_your_robot.md"

ARM = """
<mujoco>
  <worldbody>
    <body name="base" pos="0 0 1">
      <freejoint/>
      <geom name="trunk" type="box" size="0.1 0.1 0.1" mass="4"/>
      {legs}
    </body>
  </worldbody>
  <actuator>
    <position name="left_servo" joint="left_leg" kp="30" kv="2" forcerange="-12 12"/>
    <motor name="right_motor" joint="right_leg" gear="5" ctrlrange="-3 3"/>
  </actuator>
  <keyframe><key name="home" qpos="0 0 1 1 0 0 0 0.3 0.3"/></keyframe>
</mujoco>
"""
MJCF_LEG = """
      <body name="{side}_leg" pos="0 {y} 0">
        <joint name="{side}_leg" axis="0 1 0" range="-60 60" armature="0.01"/>
        <geom type="capsule" size="0.02" fromto="0 0 0 0 0 -0.3" mass="1"/>
      </body>"""


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [shlex.split(line)[1:] for block in blocks for line in block.splitlines() if line.startswith("jaxloco ")]


def fill_in(toml: Path) -> None:
    """Do what section 4 of the page says."""
    text = []
    for line in toml.read_text().splitlines():
        value = re.split("# (?:TODO|guess): ", line)[0].rstrip()
        key = value.partition(" =")[0]
        kind = next((kind for kind in DEFAULTS if key.startswith('"') and kind in key), "")
        text.append(f"{key} = {DEFAULTS[kind]}" if kind else value)
    toml.write_text("\n".join(text) + "\n")


def correct_height(folder: Path) -> None:
    (finding,) = (finding for finding in diagnose(folder) if finding.severity != "note")
    toml = folder / "robot.toml"
    lines = toml.read_text().splitlines()
    assert finding.line is not None and "lowest foot" in finding.problem
    lines[finding.line - 1] = finding.fix.removeprefix("write ")
    toml.write_text("\n".join(lines) + "\n")


@pytest.mark.slow
def test_following_the_page_ends_in_a_training(capsys, monkeypatch):
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    precision = jax.config.jax_default_matmul_precision
    Path("my_quadruped.urdf").write_text(quadruped_urdf())
    examine, make, train, ask, _, evaluate = commands()
    assert cli.main(examine) == 0
    assert cli.main(make) == 0
    small = "--ppo.n-epochs 1 --ppo.n-minibatches 2 --network.net-arch-pi 8 --network.net-arch-vf 8"
    short = "--total-timesteps 1 --n-envs 8 --eval-episodes 2 --video-seconds 0 --task.episode-seconds 0.4 --quiet"
    try:  # without an edit
        assert cli.main([*train, *small.split(), *short.split()]) == 0
        assert cli.main([*evaluate, "--episodes", "1", "--seconds", "0.4", "--compare-seconds", "0"]) == 0
    finally:
        jax.config.update("jax_default_matmul_precision", precision)

    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    policy = str(Path("runs/rover/policy").absolute())
    with monkeypatch.context() as patch:
        patch.chdir(elsewhere)
        assert cli.main(["evaluate", policy, "--episodes", "1", "--seconds", "0.1", "--compare-seconds", "0"]) == 0
    assert "survived" in capsys.readouterr().out
    summary = read_json(Path("runs/rover/summary.json"))
    assert summary["robot"] == "rover" and summary["env_steps"] == 8 * 24

    capsys.readouterr()
    assert cli.main(ask) == 0  # nothing is wrong, only guessed
    out = capsys.readouterr().out
    assert out.count('guessed: kp, kd, armature of "*_') == 3 and "in simulation it stands" in out
    folder = Path(make[-1])
    fill_in(folder / "robot.toml")
    correct_height(folder)
    assert cli.main(ask) == 0 and "0 errors, 0 warnings" in capsys.readouterr().out
    load_robot(folder)


def test_a_run_keeps_its_robots_folder_as_an_absolute_path_and_known_robots_by_name(monkeypatch):
    trained: list[Any] = []

    class Kept:
        def __init__(self, config: Any, *_: Any, **__: Any) -> None:
            trained.append(config)

        def run(self) -> None:
            pass

    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)
    monkeypatch.setattr(trainer, "Trainer", Kept)
    shutil.copytree(robots_dir() / "go1", "my_robots/rover")
    for robot in ("my_robots/rover", "go2"):
        assert cli.main(["train", "go1-velocity", "--task.robot", robot, "--out", f"runs/{robot}", "--quiet"]) == 0
    assert [config.task.robot for config in trained] == [str(Path("my_robots/rover").absolute()), "go2"]

    shutil.copytree(robots_dir() / "berkeley_humanoid", "my_robots/biped")
    for file in Path("my_robots/biped").iterdir():
        text = file.read_text().replace("HFE", "hip_pitch").replace("KFE", "knee").replace("FFE", "ankle")
        file.write_text(text)
    (biped,) = [words for words in commands() if words[:2] == ["train", "berkeley-humanoid-velocity"]]
    assert cli.main([*biped, "--quiet"]) == 0
    assert trained[-1].task.robot == str(Path("my_robots/biped").absolute())
    assert all(
        fnmatch.filter(load_robot("my_robots/biped").joint_names, pattern) for pattern in trained[-1].task.loose_joints
    )


def floor_pairs(robot: Robot) -> int:
    model = robot.model
    floor = model.geom("floor").id
    return int(np.sum((model.pair_geom1 == floor) | (model.pair_geom2 == floor)))


def test_a_urdf_becomes_a_robot_with_its_own_figures(tmp_path):
    source = tmp_path / "rover.urdf"
    source.write_text(quadruped_urdf())
    robot = load_robot(new_robot(source, tmp_path / "rover"))
    written = (robot.folder / "robot.toml").read_text()
    assert len(written.splitlines()) <= 60 and '[[feet]]\nname = "*_foot"\ngeoms = ["*_foot_hull_0"]\n' in written
    assert '[joints.default]\n"*_hip_joint" = 0\n"*_thigh_joint" = ' in written
    assert robot.model.body_mass.sum() == pytest.approx(5 + 4 * (0.6 + 0.8 + 0.2))
    assert [foot.name for foot in robot.feet] == ["FR_foot", "FL_foot", "RR_foot", "RL_foot"]
    calf = robot.joints[2]
    assert (calf.name, calf.torque_limit, calf.velocity_limit) == ("FR_calf_joint", 30.0, 20.0)
    assert (calf.lower, calf.upper, calf.frictionloss) == (-2.7, -0.5, 0.2)
    np.testing.assert_allclose(robot.model.body("base").inertia, [0.06, 0.05, 0.02], rtol=1e-6)
    # Bent to 85 % of the longest leg, whose calf is at the end of its range, 0.5 rad; and the foot is 0.02 m.
    assert robot.default_qpos[2] == pytest.approx(0.85 * 0.4 * np.cos(0.25) + 0.02, abs=5e-4)
    assert robot.model.npair == 4 and floor_pairs(load_robot(robot.folder, "full")) == 4 + 5


def test_root_links_that_are_but_names_are_left_out(tmp_path):
    source = tmp_path / "rover.urdf"
    names = """
  <link name="base_footprint"/><link name="base_link"/>
  <joint name="up" type="fixed">
    <parent link="base_footprint"/><child link="base_link"/><origin xyz="0 0 0.3"/>
  </joint>
  <joint name="trunk" type="fixed"><parent link="base_link"/><child link="base"/></joint>"""
    source.write_text(quadruped_urdf().replace('<robot name="rover">', f'<robot name="rover">{names}'))
    robot = load_robot(new_robot(source, tmp_path / "rover"))
    assert robot.base_body == "base" and robot.model.body("base").mass == pytest.approx(5.0)
    assert robot.default_qpos[2] == pytest.approx(0.85 * 0.4 * np.cos(0.25) + 0.02, abs=5e-4)


def test_a_base_that_is_but_a_name_or_below_the_floor_is_an_error(tmp_path):
    source = tmp_path / "rover.urdf"
    source.write_text(quadruped_urdf())
    folder = new_robot(source, tmp_path / "rover")
    xml, toml = folder / "robot.xml", folder / "robot.toml"
    text, settings = xml.read_text(), toml.read_text()
    trunk = '<body name="base">'
    xml.write_text(
        text.replace(trunk, f'{trunk}<freejoint name="r"/><body name="trunk">')
        .replace('<joint name="root" type="free"/>', "")
        .replace("</worldbody>", "</body></worldbody>")
    )
    (finding,) = (f for f in diagnose(folder) if f.severity == "error")
    assert "body 'base' in" in finding.problem and "has no mass, so it is but a name" in finding.problem
    xml.write_text(text)
    toml.write_text(re.sub(r"base_position = .*", "base_position = [0, 0, 0]", settings))
    with pytest.raises(RobotError, match=r"found z = 0 m, but the origin of body 'base' must be above the floor"):
        load_robot(folder)


def test_feet_are_the_last_bodies_that_touch_whatever_their_shape_and_all_soles_of_a_foot_count(tmp_path):
    source, sphere = tmp_path / "rover.urdf", '<sphere radius="0.02"/>'
    heel = f'<collision><origin xyz="-0.03 0 0"/><geometry>{sphere}</geometry></collision>'
    knob = f'<collision><origin xyz="0 0 0.05"/><geometry>{sphere}</geometry></collision>'
    toe = f"<collision><geometry>{sphere}</geometry></collision>"
    source.write_text(quadruped_urdf().replace(toe, toe + heel + knob))
    robot = load_robot(new_robot(source, tmp_path / "heels"))
    assert [len(foot.geoms) for foot in robot.feet] == [2, 2, 2, 2] and robot.model.npair == 8
    assert floor_pairs(load_robot(robot.folder, "full")) == 8 + 4 + 5


def test_a_joints_own_limit_of_force_is_its_torque_limit_and_does_not_stay_in_the_model(tmp_path):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    own = legs.replace('armature="0.01"', 'armature="0.01" actuatorfrcrange="-7 7"')
    source = tmp_path / "walker.xml"
    source.write_text(ARM.format(legs=own).replace(' forcerange="-12 12"', ""))
    folder = new_robot(source, tmp_path / "walker")
    assert "torque_limit = 7\n" in (folder / "robot.toml").read_text()
    assert "actuatorfrc" not in (folder / "robot.xml").read_text()


def test_an_mjcf_gives_its_gains_limits_pose_and_masses(tmp_path):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    source = tmp_path / "walker.xml"
    source.write_text(ARM.format(legs=legs))
    folder = new_robot(source, tmp_path / "walker")
    guessed = [finding.problem for finding in diagnose(folder) if finding.problem.startswith("guessed: ")]
    assert guessed == ['guessed: velocity_limit of "*"', "guessed: kp, kd of 'right_leg'"]  # no MJCF has that
    robot = load_robot(folder)
    left, right = robot.joints
    assert (left.kp, left.kd, left.torque_limit, left.default, left.armature) == (30.0, 2.0, 12.0, 0.3, 0.01)
    assert right.torque_limit == 15.0  # gear × ctrlrange
    assert robot.model.body_mass.sum() == pytest.approx(6.0)
    # The feet are on the floor: 0.3 cos 0.3 to the end of the capsule's axis, and its radius.
    assert robot.default_qpos[2] == pytest.approx(0.3 * np.cos(0.3) + 0.02, abs=1e-4)


def test_a_leg_that_is_a_capsule_stands_on_its_lower_end_and_soles_of_two_sizes_on_both(tmp_path):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    heel = '<geom type="sphere" size="0.01" pos="-0.05 0 -0.31" mass="0"/>'
    source = tmp_path / "walker.xml"
    source.write_text(ARM.format(legs=legs.replace("</body>", f"{heel}</body>")).replace("0.3 0.3", "0 0"))
    folder = new_robot(source, tmp_path / "walker")
    (left, _), robot = load_robot(folder).feet, load_robot(folder)
    assert len(left.geoms) == 2
    # The capsule's lower end is 0.3 m below the joint, the heel's middle 0.31 m; both touch the floor at 0.32 m.
    np.testing.assert_allclose(left.position, [-0.025, 0.0, -0.305], atol=1e-6)
    assert left.radius == pytest.approx(0.015)
    assert robot.default_qpos[2] == pytest.approx(0.32, abs=1e-4)
    assert not [finding for finding in diagnose(folder) if "the floor" in finding.problem]


@pytest.mark.parametrize(
    ("actuators", "expected"),
    [
        ('<position joint="{}" kp="0.4" kv="0.02" gear="10" forcerange="-2 2"/>', (40.0, 2.0, 20.0)),
        ('<position joint="{}" kp="30" gear="-1" forcerange="-9 9"/>', (30.0, 0.0, 9.0)),
        ('<motor joint="{}" gear="10" forcerange="-2 2" ctrlrange="-1 1"/>', (26.0, 0.53, 10.0)),  # gains: guesses
    ],
)
def test_gains_and_limits_of_actuators_are_those_behind_their_gear(tmp_path, actuators, expected):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    both = "".join(actuators.format(f"{side}_leg") for side in ("left", "right"))
    source = tmp_path / "walker.xml"
    text = ARM.format(legs=legs)
    source.write_text(re.sub("<actuator>.*</actuator>", f"<actuator>{both}</actuator>", text, flags=re.S))
    text = (new_robot(source, tmp_path / "walker") / "robot.toml").read_text()
    found = [float(re.search(rf"^{key} = (\S+)", text, re.M)[1]) for key in ("kp", "kd", "torque_limit")]
    assert found == pytest.approx(expected) and "-0" not in text.split("[[joints]]", 1)[1]


def test_the_damping_ratio_of_an_actuator_becomes_the_gain_that_mujoco_makes_of_it(tmp_path):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    source = tmp_path / "walker.xml"
    source.write_text(ARM.format(legs=legs).replace('kv="2"', 'dampratio="1"'))
    text = (new_robot(source, tmp_path / "walker") / "robot.toml").read_text()
    inertia = 0.01 + mujoco.MjModel.from_xml_path(str(source)).body("left_leg").inertia[0]  # about its middle
    assert float(re.search(r"^kd = (\S+)", text, re.M)[1]) > 2.0 * np.sqrt(30.0 * inertia)


def test_a_pose_of_a_model_without_a_free_joint_is_kept(tmp_path):
    legs = "".join(MJCF_LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    source = tmp_path / "walker.xml"
    fixed = ARM.format(legs=legs).replace("<freejoint/>", "").replace("0 0 1 1 0 0 0 0.3 0.3", "0.3 0.2")
    source.write_text(fixed)
    text = (new_robot(source, tmp_path / "walker") / "robot.toml").read_text()
    assert '[joints.default]\n"left_leg" = 0.3\n"right_leg" = 0.2\n' in text


def test_a_joint_that_mimics_another_gets_no_motor_and_follows_it_in_the_default_pose(tmp_path):
    source = tmp_path / "rover.urdf"
    for leg in ("FR", "FL", "RR", "RL"):
        mimic = f'<mimic joint="{leg}_thigh_joint" multiplier="-2"/>'
        text = source.read_text() if source.exists() else quadruped_urdf()
        source.write_text(text.replace(f'<child link="{leg}_calf"/>', f'<child link="{leg}_calf"/>{mimic}'))
    folder = new_robot(source, tmp_path / "rover")
    toml = folder / "robot.toml"
    text = toml.read_text()
    assert '# "FR_calf_joint" has no motor' in text
    toml.write_text(re.sub(r'(name = "F._thigh_joint"\ndefault = )0', r"\g<1>0.8", text))
    robot = load_robot(folder)
    assert len(robot.joints) == 8
    calf = robot.model.joint("FL_calf_joint").qposadr[0]
    assert robot.default_qpos[calf] == pytest.approx(-1.6)
    driven = '\n[[joints]]\nname = "{}_calf_joint"\ndefault = -1.6\ncontrol = "position"\nkp = 40\nkd = 1\n'
    driven += "torque_limit = 30\nvelocity_limit = 20\n"
    toml.write_text(toml.read_text() + driven.format("FR") + driven.format("FL"))
    (finding,) = (finding for finding in diagnose(folder) if "couples it to another joint" in finding.problem)
    assert finding.problem.startswith("2 joints, '*_calf_joint': ")


def test_names_with_quotes_are_written_as_toml_can_read_them(tmp_path):
    source = tmp_path / "rover.urdf"
    source.write_text(quadruped_urdf().replace("_calf_joint", "_calf &quot;joint&quot;"))
    assert 'FR_calf "joint"' in load_robot(new_robot(source, tmp_path / "rover")).joint_names


def test_meshes_are_copied_and_missing_ones_are_named(tmp_path, capsys):
    (tmp_path / "shapes").mkdir()
    mesh = '<visual><geometry><mesh filename="package://my_robot/shapes/trunk.obj"/></geometry></visual>'
    text = quadruped_urdf().replace(
        '<collision><geometry><box size="0.36', mesh + '<collision><geometry><box size="0.36'
    )
    source = tmp_path / "rover.urdf"
    source.write_text(text)
    assert cli.main(["doctor", str(source)]) == 0  # a picture is not worth a refusal
    assert "there is no file 'package://my_robot/shapes/trunk.obj'" in capsys.readouterr().out
    corners = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    (tmp_path / "shapes" / "trunk.obj").write_text(corners)
    robot = load_robot(new_robot(source, tmp_path / "rover"))
    assert (robot.folder / "meshes" / "trunk.obj").read_text() == corners and robot.visual_model.nmesh == 1


def test_a_folder_that_holds_a_robot_is_not_overwritten(tmp_path):
    with pytest.raises(RobotError, match="holds a robot already"):
        new_robot(tmp_path / "any.urdf", load_robot("go1").folder)


def test_a_model_without_anything_to_stand_on_says_what_to_add(tmp_path):
    source = tmp_path / "ball.xml"
    body = '<body name="b"><freejoint/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/></body>'
    source.write_text(f"<mujoco><worldbody>{body}</worldbody></mujoco>")
    with pytest.raises(RobotError, match="no end of a limb has a shape that can touch"):
        new_robot(source, tmp_path / "ball")


def test_findings_are_data_too(tmp_path, capsys):
    assert cli.main(["doctor", "cartpole", "--json"]) == 0
    (finding,) = json.loads(capsys.readouterr().out)
    assert finding["severity"] == "warning" and "'slider': no armature" in finding["problem"]


def test_a_humanoid_of_29_joints_without_any_figure_is_a_robot_that_stands_in_a_few_lines(tmp_path, capsys):
    source = tmp_path / "humanoid.xml"
    text = (robots_dir() / "unitree_g1" / "robot.xml").read_text(encoding="utf-8")
    touching = text.replace('<geom group="3" rgba', '<geom contype="1" conaffinity="1" group="3" rgba')
    source.write_text(touching.replace('size="0.09 0.03 0.008"', 'contype="1" conaffinity="1" size="0.09 0.03 0.008"'))
    folder = tmp_path / "humanoid"
    printed = []
    for command in (["doctor", str(source)], ["new-robot", str(source), str(folder)], ["doctor", str(folder)]):
        assert cli.main(command) == 0
        printed.append(capsys.readouterr().out)
    assert [len(out.splitlines()) <= 40 for out in printed] == [True] * 3
    groups = re.findall(r"guessed: torque_limit, kp, kd, armature of (.+)", printed[2])
    assert len(groups) == 14 and {'"*_knee_joint"', '"*_wrist_yaw_joint"'} < set(groups)
    assert 'guessed: velocity_limit of "*"' in printed[2]
    assert groups[0] == "'waist_yaw_joint', 'waist_roll_joint', 'waist_pitch_joint'"
    assert "in simulation it stands" in printed[2]
    robot = load_robot(folder)
    assert len(robot.joints) == 29 and len(robot.leg_joints) == 12 and not robot.guessed
    task = replace(recipe("g1-velocity").task, robot=str(folder))
    assert len(task.spec().action.outputs[0].components) == 12  # it holds waist and arms
    assert replace(task, locked=()).spec().action.outputs[0].components == robot.joint_names


def test_names_with_the_signs_of_patterns_become_groups_and_names_without_sides_one_line(tmp_path):
    source = tmp_path / "rover.urdf"
    source.write_text(quadruped_urdf().replace("_thigh_joint", "[thigh]").replace("_hip_joint", "-hip*"))
    folder = new_robot(source, tmp_path / "rover")
    text = (folder / "robot.toml").read_text()
    assert '"*[[]thigh]"' in text and '"*-hip[*]"' in text
    robot = load_robot(folder)
    assert robot.joint_names[:3] == ("FR-hip*", "FR[thigh]", "FR_calf_joint") and not robot.guessed
    assert {joint.torque_limit for joint in robot.joints if "thigh" in joint.name} == {20.0}

    numbered = quadruped_urdf()
    for i, leg in enumerate(("FR", "FL", "RR", "RL")):
        for j, part in enumerate(("hip", "thigh", "calf")):
            numbered = numbered.replace(f"{leg}_{part}_joint", f"motor{3 * i + j}")
    source.write_text(numbered)
    guessed = [f.problem for f in diagnose(new_robot(source, tmp_path / "numbered")) if "guessed: kp" in f.problem]
    assert guessed == ["guessed: kp, kd, armature of 'motor0', 'motor1', 'motor2', 'motor3' and 8 more"]
