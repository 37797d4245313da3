"""Slips in models of other projects: what can be repaired is, and said; the rest is refused in one clear line."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from quadruped_urdf import SPHERE, quadruped_urdf
from test_model_import import CALVES, HOME, LEGS, feet, mjcf, motors, stl, with_meshes

from jaxloco.errors import RobotError
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import Robot, load_robot

pytestmark = pytest.mark.filterwarnings("ignore:.*guessed")

FEET = ("FR_foot", "FL_foot", "RR_foot", "RL_foot")


@pytest.fixture
def taken(tmp_path: Path) -> Callable[[str], tuple[Robot, list[str]]]:
    """Return a function that makes a robot of a text without any warning of Python, and returns what was said too."""

    def take(text: str) -> tuple[Robot, list[str]]:
        source, said = tmp_path / ("quad.urdf" if "<robot" in text else "quad.xml"), []
        source.write_text(text)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            folder = new_robot(source, tmp_path / "made", say=said.append)
        return load_robot(folder), said

    return take


def refused(tmp_path: Path, content: str | bytes, file: str = "quad.xml") -> str:
    """Return why a file is refused, in one line; no folder stays."""
    (tmp_path / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RobotError) as error:
        new_robot(tmp_path / file, tmp_path / "made")
    assert not (tmp_path / "made").exists() and "\n" not in str(error.value)
    return str(error.value)


# Names


def test_a_foot_named_as_the_ground_keeps_its_contact_under_another_name(taken):
    robot, said = taken(mjcf(('name="FL_foot"', 'name="floor"')))
    assert robot.feet[0].geoms == ("FL_calf_floor",) and len(said) == 1
    assert "FL_calf_floor" in [robot.model.geom(geom).name for geom in robot.model.pair_geom2]


def test_a_trunk_named_as_the_ground_touches_it_in_the_full_variant(taken):
    robot, _ = taken(mjcf(('<geom name="trunk"', '<geom name="floor"')))
    full = load_robot(robot.folder, "full").model
    pairs = [{full.geom(a).name, full.geom(b).name} for a, b in zip(full.pair_geom1, full.pair_geom2, strict=True)]
    assert {"floor", "trunk_floor"} in pairs


@pytest.mark.parametrize(("old", "name"), [("FL_calf", "a*b"), ("FR_calf", "*"), ("_calf", "*shank")])
def test_a_foot_whose_body_has_a_star_in_its_name_is_one_foot(taken, old, name):
    robot, _ = taken(mjcf((f'{old}"', f'{name}"')))
    assert len(robot.feet) == 4 and [foot.geoms for foot in robot.feet] == [(f"{leg}_foot",) for leg in LEGS]


@pytest.mark.parametrize(("model", "folder"), [("quad.xml", ""), ("quad.xml", " "), ("", "made"), ("quad.xml", "/")])
def test_an_empty_path_and_the_root_of_all_folders_are_refused(tmp_path, model, folder):
    Path("quad.xml").write_text(mjcf())
    before = sorted(Path().iterdir())
    with pytest.raises(RobotError, match="; write "):
        new_robot(model, folder)
    assert sorted(Path().iterdir()) == before


# Figures that no motor has

LIMITS = {
    "the largest float is no limit": ("velocity", "3.4028235e+38", "note"),
    "1e10 rad/s are no limit": ("velocity", "1e10", "note"),
    "1e10 N m are no limit": ("effort", "1e10", "note"),
    "a speed below 0": ("velocity", "-20", "warning"),
    "a torque below 0": ("effort", "-20", "warning"),
    "a torque of almost 0": ("effort", "1e-12", "warning"),
}


@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_that_no_motor_has_is_guessed_and_told_once(taken, limit):
    key, value, severity = LIMITS[limit]
    robot, said = taken(re.sub(rf'{key}="[^"]*"', f'{key}="{value}"', quadruped_urdf()))
    own = {"velocity": "velocity_limit", "effort": "torque_limit"}[key]
    assert len(said) == 1 and said[0].startswith(f"{severity}: no {own} is {float(value):g}")
    assert all(0.1 < getattr(joint, own) < 100.0 for joint in robot.joints)


FIGURES = {
    "damping": ('damping="0.1"', 'damping="-0.1"', None),
    "frictionloss": ('frictionloss="0.2"', 'frictionloss="-0.2"', None),
    "armature": ('armature="0.01"', 'armature="1e12"', None),
    "armature below 0": ('armature="0.01"', 'armature="-1"', None),
    "kp": ("", "", '<position joint="{0}" kp="1e12" kv="1" forcerange="-20 20"/>'),
    "torque_limit": ("", "", '<motor joint="{0}" forcerange="-1e-12 1e-12"/>'),
}


@pytest.mark.parametrize("figure", FIGURES)
def test_figures_that_robot_toml_does_not_take_are_told_and_not_written(taken, figure):
    old, new, form = FIGURES[figure]
    robot, said = taken(mjcf((old, new), actuators=motors(form) if form else None))
    key = figure.split()[0]
    assert len(said) == 1 and said[0].startswith(f"warning: no {key} is ")
    assert all(0.0 <= getattr(joint, key) < 1e3 for joint in robot.joints)
    assert (robot.model.dof_damping >= 0.0).all() and (robot.model.dof_frictionloss >= 0.0).all()


def test_damping_and_friction_of_a_urdf_below_0_count_as_0(taken):
    robot, said = taken(quadruped_urdf().replace('damping="0.01" friction="0.2"', 'damping="-1" friction="-0.5"'))
    assert len(said) == 2 and {(joint.damping, joint.frictionloss) for joint in robot.joints} == {(0.0, 0.0)}


# Feet without shapes

SHAPELESS = {
    "all feet": (r'<geom name=".._foot".*?/>', ""),
    "one foot": (r'<geom name="FL_foot".*?/>', ""),
    "one leg": (r'<geom name="FL_(foot|thigh)".*?/>', ""),
    "pictures": (r'(<geom name=".._foot")', r'\1 contype="0" conaffinity="0"'),
}


@pytest.mark.parametrize("lost", SHAPELESS)
def test_a_leg_whose_foot_has_no_shape_is_refused_and_no_thigh_taken_for_it(tmp_path, lost):
    told = refused(tmp_path, re.sub(*SHAPELESS[lost], mjcf()))
    assert "'FL_calf'" in told and "no shape that can touch the floor; add one to each foot" in told


def test_a_light_part_on_a_motor_above_the_sole_takes_no_foot_away(taken):
    rotor = '<body name="{leg}_rotor"><inertial pos="0 0 0" mass="0.1" diaginertia="1e-5 1e-5 1e-5"/>'
    rotor += '<joint name="{leg}_rotor_joint" axis="0 1 0" range="-1 1"/></body><geom name="{leg}_foot"'
    rotors = [(f'<geom name="{leg}_foot"', rotor.format(leg=leg)) for leg in LEGS]
    robot, _ = taken(mjcf(*rotors, (HOME, "0 0.8 -1.6 0 " * 4)))
    assert feet(robot) == CALVES


# Ball joints

BALL_HIP = ('"FL_hip_joint" axis="1 0 0" range="-0.8 0.8"', '"FL_hip_joint" type="ball" range="0 0.8"')
QUATERNION = (f"1 0 0 0 {HOME}", f"1 0 0 0 1 0 0 0 {HOME[2:]}")


@pytest.mark.parametrize("driven", [True, False])
def test_a_ball_joint_is_told_with_its_motor_or_without(taken, driven):
    own = motors('<motor name="{0}" joint="{0}" ctrlrange="-20 20"/>')
    own = own if driven else own.replace('<motor name="FL_hip_joint" joint="FL_hip_joint" ctrlrange="-20 20"/>', "")
    robot, said = taken(mjcf(BALL_HIP, QUATERNION, actuators=own))
    assert len(robot.joints) == 11 and all("three hinges in the place of each" in line for line in said)
    assert ["actuators 'FL_hip_joint' drive ball joints" in said[0], len(said)] == [driven, 1 + driven]


# Files that cannot be read

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
SOLID = "solid t\nfacet\n" + "vertex 0.5 {} 1.5\n" * 3 + "endfacet\n"
FACES = "f 1 2 3\nf 1 2 4\nf 2 3 4\nf 1 3 4\n"
MESHES = {
    "a pointer of Git LFS": ("trunk.stl", POINTER, "git lfs pull"),
    "no bytes": ("trunk.stl", b"", "it is empty"),
    "no faces": ("trunk.stl", bytes(84), "number of faces"),
    "NaN": ("trunk.obj", b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nv 0 0 1\n" + FACES.encode(), "not finite"),
    "NaN in ASCII": ("trunk.stl", SOLID.format("nan", 0, 0).encode(), "not finite"),
    "no numbers": ("trunk.obj", b"v a b c\n", "vertices"),
    "an end in the middle": ("trunk.stl", SOLID.format(0, 0, 0)[:-30].encode(), "within a triangle"),
    "decimal commas": ("trunk.stl", SOLID.format("0,5", 0, 0).encode(), "'0,5' is not a number"),
}


@pytest.mark.parametrize("fault", MESHES)
@pytest.mark.parametrize("kind", ["urdf", "mjcf"])
@pytest.mark.parametrize("touches", [False, True])
def test_a_mesh_that_cannot_be_read_is_left_out_and_told(taken, tmp_path, fault, kind, touches):
    file, content, words = MESHES[fault]
    (tmp_path / file).write_bytes(content)
    text = with_meshes(file, file) if touches else with_meshes(file)
    if kind == "mjcf":
        geom = '<geom type="mesh" mesh="m"/>' if touches else '<geom type="mesh" mesh="m" contype="0" conaffinity="0"/>'
        asset = f'<asset><mesh name="m" file="{file}"/></asset><worldbody>'
        text = mjcf(("<worldbody>", asset), ('<geom name="trunk"', f'{geom}<geom name="trunk"'))
    robot, said = taken(text)
    assert robot.visual_model.nmesh == 0 and all(repr(file) in line and words in line for line in said)
    assert ["of 'base'" in line or "of 'trunk'" in line for line in said].count(True) == touches


def test_a_foot_whose_mesh_cannot_be_read_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "foot.stl").write_bytes(POINTER)
    text = quadruped_urdf().replace('<sphere radius="0.02"/>', '<mesh filename="foot.stl"/>')
    assert "loses its shape, foot.stl; fetch it: git lfs pull, or give" in refused(tmp_path, text, "quad.urdf")


TEXTURES = {
    "no bytes": ("skin.png", b"", "it is empty"),
    "a JPG": ("skin.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF", "MuJoCo cannot read"),
    "a JPG that is called PNG": ("skin.png", b"\xff\xd8\xff\xe0\x00\x10JFIF", "PNG"),
    "a pointer": ("skin.png", POINTER, "git lfs pull"),
}


@pytest.mark.parametrize("fault", TEXTURES)
def test_a_texture_that_cannot_be_read_is_left_out_and_told(taken, tmp_path, fault):
    file, content, words = TEXTURES[fault]
    (tmp_path / file).write_bytes(content)
    asset = f'<asset><texture name="s" type="2d" file="{file}"/><material name="m" texture="s"/></asset><worldbody>'
    robot, said = taken(mjcf(("<worldbody>", asset), ('<geom name="trunk"', '<geom material="m" name="trunk"')))
    assert len(said) == 1 and repr(file) in said[0] and words in said[0] and "left out" in said[0]
    assert not (robot.folder / "textures").exists()


# What a file is


@pytest.mark.parametrize("number", ["nan", "inf"])
def test_a_keyframe_that_holds_no_number_is_left_out(taken, number):
    robot, said = taken(mjcf(("0 0 0.3 1 0 0 0", f"0 0 {number} 1 0 0 0")))
    assert len(said) == 1 and "keyframes 'home' hold a number that is none" in said[0]
    assert np.isfinite(robot.default_qpos).all()


UTF16 = {
    "little-endian": (mjcf().encode("utf-16-le"), "quad.xml: .*save it as UTF-8"),
    "big-endian": (mjcf().encode("utf-16-be"), "quad.xml: .*save it as UTF-8"),
    "included": (mjcf(("<default>", '<include file="part.xml"/><default>')), "part.xml: .*save it as UTF-8"),
}


@pytest.mark.parametrize("case", UTF16)
def test_utf_16_that_mujoco_cannot_read_is_named(tmp_path, case):
    part = '<mujocoinclude><default><joint damping="0.1"/></default></mujocoinclude>'
    (tmp_path / "part.xml").write_text(part, encoding="utf-16")
    content, words = UTF16[case]
    assert re.search(words, refused(tmp_path, content))


OTHERS = {
    "SDF": ("quad.sdf", '<sdf version="1.6"/>', "line 1: the outermost element is <sdf>; expected <mujoco>"),
    "HTML": ("quad.html", "<html><body/></html>", "line 1: the outermost element is <html>; expected <mujoco>"),
    "a pointer": ("quad.urdf", POINTER, "git lfs pull"),
    "a URDF in it": (
        "quad.xml",
        mjcf(("<default>", '<include file="part.urdf"/><default>')),
        "part.urdf, line 3: an MJCF includes this URDF",
    ),
    "NaN": ("quad.xml", mjcf(('pos="0 0 0.3"', 'pos="0 0 nan"')), "line 3: 'pos' of <body> holds NaN"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_that_is_no_model_is_said_to_be_none(tmp_path, kind):
    (tmp_path / "part.urdf").write_text(quadruped_urdf())
    file, content, words = OTHERS[kind]
    assert words in refused(tmp_path, content, file)


# Slips of a URDF


def test_a_urdf_with_a_namespace_is_read(taken):
    robot, said = taken(quadruped_urdf().replace("<robot ", '<robot xmlns="http://www.ros.org" '))
    assert said == [] and len(robot.joints) == 12


HIP = '<joint name="FL_hip_joint" type="revolute">'
ENDS = '<parent link="base"/><child link="FL_hip"/>'
THIGH = '<collision><origin xyz="0 0 -0.1"/><geometry><box size="0.03 0.03 0.15"/></geometry></collision>'
SLIPS = {
    "a ball": (HIP, HIP.replace("revolute", "spherical"), "has type='spherical', which no URDF has; write one of"),
    "a capital": (HIP, HIP.replace("revolute", "Revolute"), "which no URDF has; write one of revolute"),
    "no type": (HIP, '<joint name="FL_hip_joint">', "has no type; write one of"),
    "no name": (HIP, '<joint type="revolute">', "a joint has no name; write"),
    "a cycle": (ENDS, '<parent link="FL_calf"/><child link="FL_hip"/>', "'FL_hip' hangs on itself"),
    "a link on itself": (ENDS, '<parent link="FL_hip"/><child link="FL_hip"/>', "'FL_hip' hangs on itself"),
    "two joints of a link": (ENDS, '<parent link="base"/><child link="FR_hip"/>', "'FR_hip' hangs on two joints"),
    "no such link": (ENDS, '<parent link="bass"/><child link="FL_hip"/>', "there is no link 'bass'; write"),
    "no child": (ENDS, '<parent link="base"/>', "has no <child>; write"),
    "two numbers": ('<axis xyz="1 0 0"/>', '<axis xyz="1 0"/>', '<axis xyz="1 0">: write 3 numbers'),
    "no axis": ('<axis xyz="1 0 0"/>', '<axis xyz="0 0 0.0"/>', '<axis xyz="0 0 0.0"> points nowhere; write'),
    "a size below 0": (SPHERE, SPHERE.replace("0.02", "-0.02"), 'radius="-0.02"> is below 0; write a size'),
    "no length": (SPHERE, SPHERE.replace("sphere", "cylinder"), 'length="">: write one number'),
    "a scale of two": (THIGH, '<visual><geometry><mesh scale="1 1" filename="a"/></geometry></visual>', 'scale="0.001'),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_a_urdf_is_refused_with_its_line(tmp_path, slip):
    old, new, words = SLIPS[slip]
    assert old in quadruped_urdf()
    told = refused(tmp_path, quadruped_urdf().replace(old, new), "quad.urdf")
    assert words in told and re.search(r"quad.urdf, line \d+: ", told) and "MuJoCo" not in told


def test_the_axis_of_a_fixed_joint_may_point_nowhere(taken):
    fixed = '<joint name="FL_foot_fixed" type="fixed">'
    robot, said = taken(quadruped_urdf().replace(fixed, f'{fixed}<axis xyz="0 0 0"/>'))
    assert said == [] and feet(robot) == list(FEET)


def test_joints_that_mimic_themselves_get_motors_and_a_circle_keeps_all_but_one(taken):
    def mimicking(text: str, one: str, other: str) -> str:
        child = f'<child link="{one}_hip"/>'
        return text.replace(child, f'{child}<mimic joint="{other}_hip_joint"/>')

    robot, said = taken(mimicking(mimicking(mimicking(quadruped_urdf(), "RL", "RL"), "FL", "FR"), "FR", "FL"))
    assert len(said) == 1 and "'RL_hip_joint' mimic themselves, or others that mimic them" in said[0]
    assert "RL_hip_joint" in robot.joint_names and len(robot.joints) == 11


def test_a_scale_of_one_number_counts_for_all_axes(taken, tmp_path):
    stl(tmp_path / "trunk.stl", 100.0)
    robot, said = taken(with_meshes("trunk.stl").replace("trunk.stl", 'trunk.stl" scale="0.001'))
    assert np.ptp(robot.visual_model.mesh_vert, axis=0).max() == pytest.approx(0.1 * np.sqrt(2.0))
    assert len(said) == 1 and "'base'" in said[0] and "for all three axes" in said[0]


def test_a_shape_of_no_kind_and_a_color_without_opacity_do_not_matter(taken):
    odd = "<visual><geometry><cone/></geometry></visual><collision/>"
    red = '<material name="red"><color rgba="1 0 0"/></material>'
    red = f'<visual><geometry><sphere radius="0.1"/></geometry>{red}</visual>'
    robot, said = taken(quadruped_urdf().replace(THIGH, f"{odd}{red}{THIGH}"))
    assert len(said) == 1 and "without a shape" in said[0]
    assert np.isclose(robot.visual_model.geom_rgba, [1, 0, 0, 1]).all(axis=1).any()


# Sizes and gains


def test_a_foot_in_millimetres_is_told_with_the_scale_to_write(taken, tmp_path):
    stl(tmp_path / "foot.stl", 20.0)
    _, said = taken(quadruped_urdf().replace('<sphere radius="0.02"/>', '<mesh filename="foot.stl"/>'))
    assert [line for line in said if "'foot.stl of FR_foot, 2" in line and 'write scale="0.001 0.001 0.001"' in line]


def test_a_box_in_millimetres_is_told(taken):
    _, said = taken(mjcf(('size="0.18 0.08 0.05"', 'size="180 80 50"')))
    assert len(said) == 1 and "'trunk of trunk, 360 m'" in said[0]


OWN = {
    "gains that agree": ('gainprm="40" biastype="affine" biasprm="0 -40 -1"', []),
    "gains that differ": ('gainprm="80" biastype="affine" biasprm="0 -40 -1"', ["of their targets and of their bias"]),
    "speeds that differ": ('gainprm="80" biastype="affine" biasprm="0 0 -40"', ["of their targets and of their bias"]),
    "targets of one side": (
        'gainprm="40" biastype="affine" biasprm="0 -40 -1" ctrlrange="0 0.1"',
        ["is narrower than the range of their joint"],
    ),
    "a motor that pushes one way": ('ctrlrange="0 20"', ["push one way only"]),
    "a force of one way": ('forcerange="0 20"', ["push one way only"]),
}


@pytest.mark.parametrize("kind", OWN)
def test_what_a_servo_of_the_file_does_that_ours_does_not_is_told(taken, kind):
    form, words = OWN[kind]
    _, said = taken(mjcf(actuators=motors(f'<general name="{{0}}" joint="{{0}}" {form}/>')))
    assert [found in line for found, line in zip(words, said, strict=True)] == [True] * len(words)
