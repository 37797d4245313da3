"""Models of other projects: what does not fit is repaired and said, and what the robot is stays as it was."""

import itertools
import re
import struct
from collections.abc import Callable
from pathlib import Path

import jax
import mujoco
import numpy as np
import pytest
from PIL import Image
from quadruped_urdf import LYING, SPHERE, quadruped_urdf, wheeled_urdf

from benchmarks import model_imports
from jaxloco.doctor.diagnose import diagnose
from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.randomization import InitialState
from jaxloco.errors import RobotError
from jaxloco.loops import close_loops
from jaxloco.model_import import new_robot as importer
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import Robot, load_robot

pytestmark = pytest.mark.filterwarnings("ignore:.*guessed")  # an MJCF does not say how fast its motors turn

LEGS = ("FL", "FR", "RL", "RR")
LEG = """<body name="{leg}_hip" pos="{x} {y} 0"><inertial pos="0 0 0" mass="0.5" diaginertia="6e-4 6e-4 6e-4"/>
<joint name="{leg}_hip_joint" axis="1 0 0" range="-0.8 0.8"/>
<body name="{leg}_thigh"><inertial pos="0 0 -0.1" mass="0.6" diaginertia="3e-3 3e-3 3e-4"/>
<joint name="{leg}_thigh_joint" axis="0 1 0" range="-1 4"/><geom name="{leg}_thigh" size="0.015 0.08" pos="0 0 -0.1"/>
<body name="{leg}_calf" pos="0 0 -0.2"><inertial pos="0 0 -0.1" mass="0.2" diaginertia="1e-3 1e-3 1e-4"/>
<joint name="{leg}_calf_joint" axis="0 1 0" range="-2.7 -0.254402"/>
<geom name="{leg}_foot" type="sphere" size="0.02" pos="0 0 -0.2"/></body></body></body>"""
MASS = 5.0 + 4 * (0.5 + 0.6 + 0.2)
HOME = "0 0.8 -1.6 " * 4
PLACES = {"FL": (0.18, 0.1), "FR": (0.18, -0.1), "RL": (-0.18, 0.1), "RR": (-0.18, -0.1)}


def motors(form: str = '<position name="{0}" joint="{0}" kp="40" kv="1" forcerange="-20 20"/>') -> str:
    return "".join(form.format(f"{leg}_{part}_joint") for leg in LEGS for part in ("hip", "thigh", "calf"))


def mjcf(*changes: tuple[str, str], leg: str = LEG, actuators: str | None = None) -> str:
    """Return a quadruped as MJCF, with texts replaced."""
    legs = "".join(leg.format(leg=name, x=x, y=y) for name, (x, y) in PLACES.items())
    text = f"""<mujoco model="quad"><compiler angle="radian"/>
<default><joint damping="0.1" armature="0.01" frictionloss="0.2"/><geom type="capsule"/></default>
<worldbody><body name="trunk" pos="0 0 0.3"><freejoint/><inertial pos="0 0 0" mass="5" diaginertia="0.02 0.06 0.07"/>
<geom name="trunk" type="box" size="0.18 0.08 0.05"/>{legs}</body></worldbody>
<actuator>{motors() if actuators is None else actuators}</actuator>
<keyframe><key name="home" qpos="0 0 0.3 1 0 0 0 {HOME}"/></keyframe></mujoco>"""
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    return text


def without_pose(text: str) -> str:
    return re.sub(r"<keyframe>.*</keyframe>", "", text, flags=re.S)


@pytest.fixture
def imported(tmp_path: Path) -> Callable[[str], tuple[Robot, list[str]]]:
    """Return a function that makes a robot of a text, and returns it with what was said."""

    def make(text: str, file: str = "quad.xml") -> tuple[Robot, list[str]]:
        source, said = tmp_path / file, []
        source.write_text(text)
        folder = new_robot(source, tmp_path / "made", say=said.append)
        return load_robot(folder), said

    return make


def feet(robot: Robot) -> list[str]:
    return [foot.name for foot in robot.feet]


def warnings_of(robot: Robot) -> list[str]:
    found = diagnose(robot.folder)
    assert not [finding for finding in found if finding.severity == "error"], found
    return [finding.problem for finding in found if finding.severity == "warning"]


CALVES = [f"{leg}_calf" for leg in LEGS]


def test_a_model_that_fits_becomes_a_robot_without_a_word(imported):
    robot, said = imported(mjcf())
    assert said == [] and feet(robot) == CALVES and robot.base_body == "trunk"
    assert robot.model.body_mass.sum() == pytest.approx(MASS)
    assert [(j.kp, j.kd, j.torque_limit) for j in robot.joints] == [(40.0, 1.0, 20.0)] * 12
    assert robot.joints[2].default == -1.6 and robot.joints[2].upper == pytest.approx(-0.254402)


# Scenes

BALL = '<body name="ball" pos="1 0 0.1"><freejoint/><geom type="sphere" size="0.1"/></body>'
SCENES = {
    "a second free body after it": ("</worldbody>", f"{BALL}</worldbody>", "'ball'"),
    "a ball before it": ("<worldbody>", f"<worldbody>{BALL}", "'ball'"),
    "a wall": ("<worldbody>", '<worldbody><body name="wall"><geom type="box" size="1 1 1"/></body>', "'wall'"),
    "a floor in a body": (
        "<worldbody>",
        '<worldbody><body name="ground"><geom name="floor" type="plane" size="1 1 1"/></body>',
        "'ground'",
    ),
}


@pytest.mark.parametrize("scene", SCENES)
def test_what_stands_beside_the_robot_is_left_out(imported, scene):
    old, new, name = SCENES[scene]
    robot, said = imported(without_pose(mjcf((old, new))))
    assert robot.base_body == "trunk" and feet(robot) == CALVES and len(said) == 1
    assert robot.model.body_mass.sum() == pytest.approx(MASS) and robot.model.nq == 19
    assert [line for line in said if name in line and "left out" in line]


PAIRS = "<contact>{}</contact>".format("".join(f'<pair geom1="floor" geom2="{leg}_foot"/>' for leg in LEGS))


@pytest.mark.parametrize("alone", [True, False])
def test_pairs_with_the_floor_of_another_file_name_the_feet(imported, alone):
    still = ('<geom type="capsule"/>', '<geom type="capsule" contype="0" conaffinity="0"/>')
    robot, said = imported(mjcf(("<keyframe>", f"{PAIRS}<keyframe>"), *([still] if alone else [])))
    assert feet(robot) == CALVES and any("'floor'" in line for line in said)
    names = [robot.model.geom(geom).name for geom in robot.model.pair_geom2]
    assert names == [f"{leg}_foot" for leg in LEGS]


def test_solver_options_of_another_setting_are_reset_and_the_robot_stands(imported):
    robot, said = imported(mjcf(("<default>", '<option cone="elliptic" impratio="100"/><default>')))
    assert robot.model.opt.cone == int(mujoco.mjtCone.mjCONE_PYRAMIDAL) and robot.model.opt.impratio == 1.0
    assert "cone elliptic, impratio 100" in said[0]
    assert not any("topples" in problem for problem in warnings_of(robot))


# The base

SLIDES = "".join(f'<joint type="slide" axis="{axis}"/>' for axis in ("1 0 0", "0 1 0", "0 0 1"))
HINGES = "".join(f'<joint name="base_{i}" axis="{axis}"/>' for i, axis in enumerate(("1 0 0", "0 1 0", "0 0 1")))


@pytest.mark.parametrize("joints", [f'{SLIDES}<joint type="ball"/>', SLIDES + HINGES, '<joint type="free"/>', ""])
def test_the_base_gets_a_free_joint_without_what_joints_inherit(imported, joints):
    robot, said = imported(without_pose(mjcf(("<freejoint/>", joints))))
    assert (len(robot.joints), robot.model.nv) == (12, 18)
    for figures in (robot.model.dof_damping, robot.model.dof_armature, robot.model.dof_frictionloss):
        assert not np.any(figures[:6]) and np.all(figures[6:])
    assert bool(said) == ("slide" in joints)


def test_a_keyframe_of_a_base_on_hinges_keeps_its_turn(imported):
    key = f"0 0 0 0 0 1.5 {HOME}"
    robot, _ = imported(mjcf(("<freejoint/>", SLIDES + HINGES), ("0 0 0.3 1 0 0 0 ", ""), (HOME, key)))
    np.testing.assert_allclose(robot.default_qpos[3:7], [np.cos(0.75), 0, 0, np.sin(0.75)], atol=1e-5)
    assert robot.joints[2].default == -1.6


def test_legs_that_turn_on_the_world_have_no_trunk(imported):
    trunk = re.search(r'<body name="trunk".*?/>\n<geom name="trunk".*?/>', mjcf(), re.S)[0]
    text = without_pose(mjcf((trunk, ""), ("</body></worldbody>", "</worldbody>")))
    with pytest.raises(RobotError, match=r"no body is the trunk: 'FL_hip', 'FR_hip'.*put <body name=\"trunk\">"):
        imported(text)


def urdf_base(link: str, joint: str) -> str:
    return quadruped_urdf().replace('<link name="base">', f'{link}<joint name="up" type="fixed">{joint}</joint>'
                                    '<link name="base">', 1)  # fmt: skip


def test_a_root_link_that_is_but_a_picture_is_left_out(imported):
    link = '<link name="root"><visual><geometry><box size="1e-3 1e-3 1e-3"/></geometry></visual></link>'
    robot, said = imported(urdf_base(link, '<parent link="root"/><child link="base"/>'), "quad.urdf")
    assert robot.base_body == "base" and "'root'" in said[0]


def test_a_light_root_link_at_the_feet_gets_the_mass_and_the_place_of_the_trunk(imported):
    inertia = '<inertia ixx="1e-4" iyy="1e-4" izz="1e-4" ixy="0" ixz="0" iyz="0"/>'
    link = f'<link name="root"><inertial><mass value="0.1"/>{inertia}</inertial></link>'
    joint = '<parent link="root"/><child link="base"/><origin xyz="0 0 0.42"/>'
    plain, _ = imported(quadruped_urdf(), "quad.urdf")
    folder, source = plain.folder.parent / "low", plain.folder.parent / "low.urdf"
    source.write_text(urdf_base(link, joint))
    robot = load_robot(new_robot(source, folder))
    assert robot.model.body_mass.sum() == pytest.approx(plain.model.body_mass.sum() + 0.1)
    assert robot.model.body("root").mass[0] == pytest.approx(5.1)
    assert robot.default_qpos[2] == pytest.approx(plain.default_qpos[2], abs=0.02)
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    mujoco.mj_forward(robot.model, data)
    assert min(data.sensor(f"{foot.name}_sole_position").data[2] for foot in robot.feet) == pytest.approx(
        0.02, abs=1e-3
    )


def test_a_base_whose_z_axis_is_not_up_is_turned(imported):
    def turned(legs: str) -> str:  # everything in the trunk by 90 degrees, and the trunk back
        return f'<frame quat="0.7071068 0.7071068 0 0">{legs}</frame>'

    text = without_pose(mjcf())
    trunk, rest = text.split('<geom name="trunk"', 1)
    legs, end = rest.rsplit("</body></worldbody>", 1)
    text = f"{trunk}{turned('<geom name=' + chr(34) + 'trunk' + chr(34) + legs)}</body></worldbody>{end}"
    robot, said = imported(text.replace('pos="0 0 0.3"', 'pos="0 0 0.3" quat="0.7071068 -0.7071068 0 0"'))
    assert any("z axis" in line for line in said) and feet(robot) == CALVES
    np.testing.assert_allclose(robot.default_qpos[3:7], [1, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(np.sort(robot.model.body("trunk").inertia), [0.02, 0.06, 0.07], rtol=1e-5)


# Masses


def test_masses_that_mujoco_takes_from_shapes_are_written_down(imported):
    text = without_pose(mjcf(('angle="radian"', 'angle="radian" inertiafromgeom="true"')))
    robot, _ = imported(text)
    source = mujoco.MjModel.from_xml_string(text)
    for name in ("trunk", "FL_thigh", "RR_calf"):
        assert robot.model.body(name).mass == pytest.approx(source.body(name).mass, rel=1e-5)
    assert robot.model.body_mass.sum() < 0.9 * MASS + 2.0  # the hips, without shapes, have none


def test_frames_without_mass_stay_without_and_light_ones_with_impossible_inertias_keep_it(imported, tmp_path):
    foot, inertia = '<link name="{}_foot">', '<inertia ixx="0" iyy="0" izz="0" ixy="0" ixz="0" iyz="0"/>'
    text = quadruped_urdf()
    weight = weight_of(text)
    for leg, mass in zip(LEGS, (0, 0, 0.01, 0.01), strict=True):
        text = text.replace(
            foot.format(leg), foot.format(leg) + f'<inertial><mass value="{mass}"/>{inertia}</inertial>'
        )
    robot, said = imported(text, "quad.urdf")
    assert robot.model.body_mass.sum() == pytest.approx(weight + 0.02)
    assert any("have a mass of 0" in line for line in said) and any("no body has the inertias" in line for line in said)
    (tmp_path / "quad.urdf").write_text(text.replace('ixx="0.02"', 'ixx="-0.02"'))
    with pytest.raises(RobotError, match="link 'base' has principal moments"):
        new_robot(tmp_path / "quad.urdf", tmp_path / "other")


def weight_of(text: str) -> float:
    return sum(float(mass) for mass in re.findall(r'<mass value="([^"]+)"', text))


def test_a_joint_that_moves_no_mass_is_held(imported):
    finger = '<link name="tip"/><joint name="tip" type="revolute"><parent link="base"/><child link="tip"/>'
    finger += '<limit lower="-1" upper="1" effort="1" velocity="1"/></joint></robot>'
    robot, said = imported(quadruped_urdf().replace("</robot>", finger), "quad.urdf")
    assert len(robot.joints) == 12 and any("'tip'" in line and "held" in line for line in said)


# Files


def stl(path: Path, size: float, ascii_text: bool = False) -> None:
    """Write a tetrahedron."""
    corners = size * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = [corners[[a, b, c]] for a, b, c in ((0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3))]
    path.parent.mkdir(parents=True, exist_ok=True)
    if ascii_text:
        lines = ["".join(f"vertex {x} {y} {z}\n" for x, y, z in face) for face in faces]
        path.write_text("solid t\n" + "".join(f"facet normal 0 0 0\n{line}endfacet\n" for line in lines))
        return
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *face.ravel(), 0) for face in faces)
    path.write_bytes(b"\0" * 80 + struct.pack("<I", 4) + body)


HULL = '<collision><geometry><box size="0.36 0.12 0.1"/></geometry></collision>'


def with_meshes(visual: str, collision: str | None = None, quote: str = '"') -> str:
    """Return the URDF with meshes on its base."""
    seen = f"<visual><geometry><mesh filename={quote}{visual}{quote}/></geometry></visual>"
    touched = "" if collision is None else f'<collision><geometry><mesh filename="{collision}"/></geometry></collision>'
    text = quadruped_urdf()
    assert HULL in text
    return text.replace(HULL, f"{seen}{touched or HULL}")


REFERENCES = {
    "single quotes": ("meshes/trunk.stl", "meshes/trunk.stl", "'", ""),
    "an escaped sign": ("meshes/nut&bolt.stl", "meshes/nut&amp;bolt.stl", '"', ""),
    "a package": ("meshes/trunk.stl", "package:///rover/meshes/trunk.stl", '"', ""),
    "a path of another computer": ("meshes/trunk.stl", "file:///home/me/cad/trunk.stl", '"', ""),
    "a Windows path": ("meshes/trunk.stl", r"..\meshes\trunk.stl", '"', ""),
    "a meshdir": ("cad/trunk.stl", "trunk.stl", '"', '<mujoco><compiler meshdir="cad" discardvisual="true"/></mujoco>'),
    "a comment": ("meshes/trunk.stl", "meshes/trunk.stl", '"', '<!-- <robot name="old"> -->'),
}


@pytest.mark.parametrize("reference", REFERENCES)
def test_meshes_are_found_however_a_urdf_names_them(imported, tmp_path, reference):
    file, name, quote, extension = REFERENCES[reference]
    stl(tmp_path / file, 0.1)
    text = with_meshes(name, quote=quote).replace('<robot name="rover">', f'<robot name="rover">{extension}')
    robot, said = imported(text, "quad.urdf")
    assert robot.visual_model.nmesh == 1 and said == [] and len(robot.joints) == 12


PICTURES = {
    "not there": ("gone.stl", "gone.stl"),
    "of another kind": ("shank.dae", "MuJoCo cannot read"),
}


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_that_cannot_be_had_is_left_out(imported, tmp_path, kind):
    name, words = PICTURES[kind]
    (tmp_path / "shank.dae").write_text("<COLLADA/>")
    robot, said = imported(with_meshes(name), "quad.urdf")
    assert robot.visual_model.nmesh == 0 and words in said[0] and feet(robot) == [f"{leg}_foot" for leg in LEGS_URDF]


LEGS_URDF = ("FR", "FL", "RR", "RL")


def test_a_foot_whose_shape_is_lost_is_refused_and_not_another_part_taken_for_it(imported):
    sphere = '<sphere radius="0.02"/>'
    with pytest.raises(RobotError, match=r"foot '.._foot' loses its shape, foot.stl"):
        imported(quadruped_urdf().replace(sphere, '<mesh filename="foot.stl"/>'), "quad.urdf")


@pytest.mark.parametrize("kind", ["urdf", "mjcf"])
def test_two_meshes_of_one_name_stay_two(imported, tmp_path, kind):
    stl(tmp_path / "visual/trunk.stl", 0.1)
    stl(tmp_path / "collision/trunk.stl", 0.2)
    text = with_meshes("visual/trunk.stl", "collision/trunk.stl")
    if kind == "mjcf":
        meshes = '<asset><mesh name="v" file="visual/trunk.stl"/><mesh name="c" file="collision/trunk.stl"/></asset>'
        geoms = '<geom type="mesh" mesh="c" name="trunk"/><geom type="mesh" mesh="v" contype="0" conaffinity="0"/>'
        text = mjcf(("<worldbody>", f"{meshes}<worldbody>"),
                    ('<geom name="trunk" type="box" size="0.18 0.08 0.05"/>', geoms))  # fmt: skip
    model = imported(text, f"quad.{'urdf' if kind == 'urdf' else 'xml'}")[0].visual_model
    starts = [*model.mesh_vertadr.tolist(), model.nmeshvert]
    sizes = [np.ptp(model.mesh_vert[a:b], axis=0).max() for a, b in itertools.pairwise(starts)]
    assert max(sizes) == pytest.approx(2.0 * min(sizes), rel=1e-5)


def test_an_stl_in_ascii_and_files_named_by_a_stripped_path_are_read(imported, tmp_path):
    stl(tmp_path / "cad/trunk.stl", 0.1, ascii_text=True)
    compiler = ('angle="radian"', 'angle="radian" meshdir="cad" strippath="true"')
    mesh = ("<worldbody>", '<asset><mesh name="m" file="C:/export/trunk.stl"/></asset><worldbody>')
    geom = ('<geom name="trunk"', '<geom type="mesh" mesh="m" contype="0" conaffinity="0"/><geom name="trunk"')
    assert imported(mjcf(compiler, mesh, geom))[0].visual_model.nmeshvert == 4


def test_textures_and_height_fields_come_along_or_are_left_out(imported, tmp_path):
    (tmp_path / "tex").mkdir()
    Image.new("RGB", (4, 4), (200, 0, 0)).save(tmp_path / "tex/skin.png")
    Image.new("L", (4, 4)).save(tmp_path / "hills.png")
    assets = '<asset><texture name="skin" type="2d" file="skin.png"/><material name="skin" texture="skin"/>'
    assets += '<texture name="gone" type="2d" file="gone.png"/><material name="gone" texture="gone"/>'
    assets += '<hfield name="hills" file="hills.png" size="1 1 0.2 0.1"/></asset>'
    robot, said = imported(mjcf(
        ('angle="radian"', 'angle="radian" texturedir="tex"'),
        ("<worldbody>", f'{assets}<worldbody><geom type="hfield" hfield="hills"/>'),
        ('<geom name="trunk"', '<geom material="skin" name="trunk"'),
    ))  # fmt: skip
    assert (robot.folder / "textures/skin.png").is_file() and robot.visual_model.nhfield == 0
    assert [line for line in said if "'gone.png'" in line and "left out" in line] == said


def test_an_attached_model_keeps_its_meshes_and_a_nested_include_is_found(tmp_path):
    stl(tmp_path / "geo/shin.stl", 0.05)
    leg = LEG.format(leg="X", x=0, y=0).replace("X_", "")
    mesh = '<geom type="mesh" mesh="shin" contype="0" conaffinity="0"/><geom name="foot"'
    (tmp_path / "leg.xml").write_text(
        '<mujoco model="leg"><compiler angle="radian" meshdir="geo"/><asset><mesh name="shin" file="shin.stl"/></asset>'
        f"<worldbody>{leg.replace('<geom name=' + chr(34) + 'foot' + chr(34), mesh)}</worldbody></mujoco>"
    )
    attached = "".join(
        f'<frame pos="{x} {y} 0"><attach model="leg" body="hip" prefix="{name}_"/></frame>'
        for name, (x, y) in PLACES.items()
    )
    (tmp_path / "parts/sub").mkdir(parents=True)
    (tmp_path / "parts/a.xml").write_text('<mujocoinclude><include file="parts/sub/b.xml"/></mujocoinclude>')
    (tmp_path / "parts/sub/b.xml").write_text(
        '<mujocoinclude><default><geom rgba="1 0 0 1" type="capsule"/></default></mujocoinclude>'
    )
    text = without_pose(mjcf(leg="", actuators=""))
    text = text.replace("</body></worldbody>", f"{attached}</body></worldbody>")
    text = text.replace("<worldbody>", '<asset><model name="leg" file="leg.xml"/></asset><worldbody>')
    text = re.sub(r"<default>.*</default>", '<include file="parts/a.xml"/>', text)
    (tmp_path / "quad.xml").write_text(text)
    robot = load_robot(new_robot(tmp_path / "quad.xml", tmp_path / "made"))
    assert robot.visual_model.nmesh == 4 and len(robot.joints) == 12 and len(robot.feet) == 4


def test_what_mujoco_cannot_read_is_said_once_whatever_it_raises(imported, monkeypatch):
    with pytest.raises(RobotError) as error:
        imported(mjcf(('type="sphere"', 'type="bowl"')))
    assert str(error.value).count("MuJoCo cannot read it") == 1
    monkeypatch.setattr(importer, "feet_and_wheels", lambda *_: (_ for _ in ()).throw(KeyError("Invalid name")))
    with pytest.raises(RobotError, match=r"quad.xml: cannot be made a robot: .*Invalid name"):
        imported(mjcf())


def test_a_file_that_includes_itself_is_one_clear_line(imported):
    with pytest.raises(RobotError, match=r"line 1: .*quad.xml includes itself; remove this <include>"):
        imported('<mujoco><include file="quad.xml"/></mujoco>')


def test_nothing_of_the_users_is_overwritten_and_no_half_folder_stays(tmp_path, monkeypatch):
    (tmp_path / "robot.xml").write_text(mjcf())
    with pytest.raises(RobotError, match=r"robot.xml would be overwritten .* choose another folder"):
        new_robot(tmp_path / "robot.xml", tmp_path)
    assert (tmp_path / "robot.xml").read_text() == mjcf()
    stl(tmp_path / "a/meshes/trunk.stl", 0.1)
    (tmp_path / "a/quad.urdf").write_text(with_meshes("meshes/trunk.stl"))
    kept = (tmp_path / "a/meshes/trunk.stl").read_bytes()
    assert load_robot(new_robot(tmp_path / "a/quad.urdf", tmp_path / "a")).visual_model.nmesh == 1
    assert (tmp_path / "a/meshes/trunk.stl").read_bytes() == kept
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setattr(importer, "toml_text", lambda draft: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(RobotError, match="other: cannot be written: disk full"):
        new_robot(tmp_path / "robot.xml", tmp_path / "other")
    assert sorted(tmp_path.rglob("*")) == before


# Names


def test_parts_without_names_and_names_of_ours_that_are_taken_get_others(imported):
    site = '<site name="{leg}_calf_sole"/>'
    nameless = LEG.replace('<body name="{leg}_hip"', "<body").replace(' name="{leg}_foot"', "")
    text = mjcf(("<freejoint/>", ""), leg=nameless.replace("</body></body></body>", f"{site}</body></body></body>"))
    text = text.replace('<body name="trunk"', '<body name="root"').replace(
        '<geom name="trunk"', '<geom type="box" size="0.01 0.01 0.01" name="floor" contype="0" conaffinity="0"/><geom'
    )
    robot, _ = imported(without_pose(text))
    assert feet(robot) == CALVES and robot.base_body == "root"
    assert {"FL_hip", "RR_hip"} <= {robot.model.body(i).name for i in range(robot.model.nbody)}
    load_robot(robot.folder, "full")


def test_names_that_are_patterns_are_names_first(imported):
    robot, _ = imported(mjcf(("_thigh", "[thigh]")))
    assert "FL[thigh]_joint" in robot.joint_names and "RR[thigh]" in robot.collision_geoms


# Motors


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_gains_of_two_actuators_add_up_and_the_smallest_limit_counts(imported, order):
    forms = ('<position joint="{0}" kp="40" forcerange="-25 25"/>', '<velocity joint="{0}" kv="1"/>')
    text = mjcf(actuators=motors("".join(forms[i] for i in order)))
    text = text.replace('range="-0.8 0.8"', 'range="-0.8 0.8" actuatorfrcrange="-9 9"')
    hip, thigh, *_ = imported(text)[0].joints
    assert (hip.kp, hip.kd, hip.torque_limit) == (40.0, 1.0, 9.0) and thigh.torque_limit == 25.0


def test_a_joint_without_an_actuator_stays_passive_and_keeps_its_place(imported):
    toe = '<body name="{leg}_toe" pos="0 0 -0.19"><inertial pos="0 0 0" mass="0.02" diaginertia="1e-5 1e-5 1e-5"/>'
    toe += '<joint name="{leg}_spring" axis="0 1 0" range="-0.5 0.5" stiffness="5" springref="0.2"/>'
    leg = LEG.replace('<geom name="{leg}_foot" type="sphere" size="0.02" pos="0 0 -0.2"/>',
                      f'{toe}<geom name="{{leg}}_foot" type="sphere" size="0.02"/></body>')  # fmt: skip
    robot, said = imported(mjcf((HOME, "0 0.8 -1.6 0.2 " * 4), leg=leg))
    assert len(robot.joints) == 12 and feet(robot) == [f"{name}_toe" for name in LEGS]
    assert robot.default_qpos[robot.model.joint("RL_spring").qposadr[0]] == 0.2
    assert "'FL_spring'" in said[0] and "passive" in said[0]


def test_actuators_of_tendons_are_told_and_their_joints_get_motors(imported):
    tendons = "".join(f'<fixed name="{leg}"><joint joint="{leg}_thigh_joint" coef="2"/>'
                      f'<joint joint="{leg}_calf_joint" coef="1"/></fixed>' for leg in LEGS)  # fmt: skip
    pulls = "".join(f'<motor name="{leg}_pull" tendon="{leg}" ctrlrange="-10 10"/>'
                    f'<motor joint="{leg}_hip_joint" ctrlrange="-20 20"/>' for leg in LEGS)  # fmt: skip
    robot, said = imported(mjcf(("<keyframe>", f"<tendon>{tendons}</tendon><keyframe>"), actuators=pulls))
    assert "'FL_pull'" in said[0] and "tendons" in said[0]
    assert [joint.torque_limit for joint in robot.joints[:3]] == [20.0, 20.0, 10.0]


@pytest.mark.parametrize(
    ("form", "more"),
    [
        ('<general name="{0}" joint="{0}" gainprm="40" biastype="affine" biasprm="0 -40 -1"/>', False),
        ('<general name="{0}" joint="{0}" gainprm="40" biastype="affine" biasprm="4 -40 -1"/>', True),
        ('<position name="{0}" joint="{0}" kp="40" kv="1" timeconst="0.1"/>', True),
        ('<intvelocity name="{0}" joint="{0}" kp="40" kv="1" actrange="-3 3"/>', True),
        ('<muscle name="{0}" joint="{0}" force="100"/>', True),
        ('<cylinder name="{0}" joint="{0}" area="0.001"/>', True),
    ],
)
def test_what_an_actuator_is_beyond_a_servo_is_told_and_it_never_gives_a_servo_without_damping(imported, form, more):
    robot, said = imported(mjcf(actuators=motors(form)))
    assert [line.startswith("warning: actuators 'FL_hip_joint', ") for line in said] == [True] * more
    assert all(joint.kp == 40.0 and joint.kd > 0.0 for joint in robot.joints)


def test_an_actuator_that_moves_nothing_says_nothing_of_the_motor(imported):
    robot, _ = imported(mjcf(actuators=motors('<motor name="{0}" joint="{0}" gear="0" ctrlrange="-1 1"/>')))
    assert all(joint.torque_limit > 0.0 and joint.kp > 0.0 for joint in robot.joints)


@pytest.mark.parametrize("body", ["trunk", "FL_foot"])
def test_an_imu_on_a_part_that_moves_against_the_base_is_a_warning(imported, body):
    site, geom = '<site name="imu"/>', f'<geom name="{body}"'
    told = [problem for problem in warnings_of(imported(mjcf((geom, site + geom)))[0]) if "IMU site is on" in problem]
    assert [problem.split("'")[1] for problem in told] == ["FL_calf"] * (body == "FL_foot")


def test_a_driven_joint_that_an_equality_couples_to_another_is_told(imported):
    equality = '<equality><joint joint1="FL_calf_joint" joint2="FL_thigh_joint" polycoef="0 -2 0 0 0"/></equality>'
    robot, said = imported(mjcf(("<actuator>", f"{equality}<actuator>")))
    assert len(robot.joints) == 11 and len(said) == 1
    assert said[0].startswith("warning: an <equality> couples the driven joints 'FL_calf_joint' to others")


def mimicking(**followed: str) -> str:
    """Return a quadruped as URDF in which calves follow other joints: leg → joint."""
    text = quadruped_urdf()
    for leg, joint in followed.items():
        child = f'<child link="{leg}_calf"/>'
        text = text.replace(child, f'{child}<mimic joint="{joint}"/>')
    return text


def test_a_joint_that_follows_one_that_follows_is_where_the_first_has_it(imported):
    robot, _ = imported(mimicking(FR="FL_calf_joint", FL="RL_calf_joint"), "quad.urdf")
    calves = [robot.default_qpos[robot.model.joint(f"{leg}_calf_joint").qposadr[0]] for leg in ("FR", "FL", "RL")]
    assert calves == [-0.5, -0.5, -0.5] and "FR_calf_joint" not in robot.joint_names


@pytest.mark.parametrize("joint", ["nowhere", "FL_foot_fixed"])
def test_a_joint_that_mimics_none_that_moves_gets_a_motor_and_a_warning(imported, joint):
    robot, said = imported(mimicking(FR=joint), "quad.urdf")
    assert "FR_calf_joint" in robot.joint_names
    assert said[0].startswith("warning: joints 'FR_calf_joint' mimic one that is not there, or does not move")


def test_flexible_bodies_are_refused_with_their_line_and_do_not_end_the_check_of_a_folder(imported, tmp_path):
    flex = '<flexcomp name="skin" type="grid" dim="2" count="3 3 1" spacing=".05 .05 .05" radius=".002" rigid="true"/>'
    trunk = '<geom name="trunk"'
    with pytest.raises(RobotError, match=r"quad.xml, line 4: <flexcomp> 'skin': flexible bodies are not simulated"):
        imported(mjcf((trunk, flex + trunk)))
    robot, _ = imported(mjcf())
    model = robot.folder / "robot.xml"
    model.write_text(model.read_text().replace(trunk, flex + trunk))
    assert load_robot(robot.folder).model.nflex == 1


FOURBAR = """<body name="{leg}_crank"><inertial pos="0 0 0.04" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>
<joint name="{leg}_crank_joint" axis="0 1 0" range="-3 3"/>
<body name="{leg}_rod" pos="0 0 0.08"><inertial pos="0 0 -0.1" mass="0.05" diaginertia="2e-4 2e-4 2e-5"/>
<joint name="{leg}_rod_joint" axis="0 1 0" range="-3 3"/></body></body>"""


def test_the_loops_of_four_bar_legs_are_closed_in_the_default_pose_whatever_it_is(imported):
    thigh = '<body name="{leg}_thigh">'
    leg = LEG.replace(thigh, FOURBAR + thigh)
    loops = "".join(f'<connect body1="{n}_calf" body2="{n}_rod" anchor="0 0 0.08"/>' for n in LEGS)
    held = "".join(f'<position joint="{n}_{p}_joint" kp="80" kv="2" forcerange="-40 40"/>' for n in LEGS
                   for p in ("hip", "crank", "thigh"))  # fmt: skip
    text = mjcf((HOME, "0 -0.8 1.6 0.8 -1.6 " * 4), ("<keyframe>", f"<equality>{loops}</equality><keyframe>"),
                leg=leg, actuators=held)  # fmt: skip
    robot, _ = imported(text)
    assert len(robot.joints) == 12 and gap(robot) < 1e-5
    assert not any("swings freely" in problem for problem in warnings_of(robot))
    toml = robot.folder / "robot.toml"
    toml.write_text(toml.read_text().replace("default = -0.8", "default = -0.6"))
    moved = load_robot(robot.folder)
    knee = moved.model.joint("FL_calf_joint").qposadr[0]
    assert gap(moved) < 1e-5 and abs(moved.default_qpos[knee] + 1.6) > 0.05

    start = InitialState(joint_positions=Range(-0.05, 0.05), joint_velocities=Range(-1.0, 1.0))
    qpos, qvel = map(np.asarray, start.draw(moved, Sampler(jax.random.PRNGKey(0), FULL, 1.0)))
    unfollowed = qpos.copy()
    unfollowed[7:][np.isin(np.arange(20) % 5, (2, 4))] = moved.default_qpos[7:][np.isin(np.arange(20) % 5, (2, 4))]
    assert gap(moved, qpos) < 5e-4 < 2e-3 < gap(moved, unfollowed)
    ends = np.array([qvel[6:].reshape(4, 5)[:, i] for i in range(5)])  # hip, crank, rod, thigh, calf of each leg
    np.testing.assert_allclose(ends[1] + ends[2], ends[3], atol=1e-4)  # the rod stays parallel to the thigh


def gap(robot: Robot, qpos: np.ndarray | None = None) -> float:
    """Return the largest distance of two ends that should meet, m, in the default pose if no other is given."""
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos if qpos is None else qpos
    mujoco.mj_fwdPosition(robot.model, data)
    return float(np.abs(data.efc_pos[data.efc_type == int(mujoco.mjtConstraint.mjCNSTR_EQUALITY)]).max())


def test_a_model_without_loops_is_not_changed():
    model = mujoco.MjModel.from_xml_string(without_pose(mjcf()))
    assert close_loops(model, model.qpos0, np.zeros(model.nv, bool)) is model.qpos0


def test_a_joint_without_a_range_gets_one_and_a_warning(imported):
    text = quadruped_urdf().replace('"FL_calf_joint" type="revolute"', '"FL_calf_joint" type="continuous"')
    robot, said = imported(text, "quad.urdf")
    calf = robot.joints[robot.joint_names.index("FL_calf_joint")]
    assert (calf.lower, calf.upper) == pytest.approx((-np.pi, np.pi), abs=1e-5) and said[0].startswith("warning")
    assert "left open: no range in the source: FL_calf_joint" in warnings_of(robot)


def test_a_joint_without_a_range_gets_one_of_half_a_turn_in_a_file_that_counts_in_degrees_too(imported):
    axis = '"FL_calf_joint" axis="0 1 0"'
    text = mjcf((f'{axis} range="-2.7 -0.254402"', axis), ('angle="radian"', 'angle="degree"'))
    robot, said = imported(re.sub(r'range="(\S+) (\S+)"', _in_degrees, text))
    ranges = {joint.name: (joint.lower, joint.upper) for joint in robot.joints}
    assert ranges["FL_calf_joint"] == pytest.approx((-np.pi, np.pi), abs=1e-5)
    assert ranges["FR_calf_joint"] == pytest.approx((-2.7, -0.254402), abs=1e-5)
    assert any("'FL_calf_joint' have no range" in line for line in said)


def _in_degrees(match: re.Match) -> str:
    return 'range="{:.8g} {:.8g}"'.format(*np.degrees([float(match[1]), float(match[2])]))


def test_the_range_of_a_slide_without_one_holds_its_place(imported):
    slide = ('"FL_calf_joint" axis="0 1 0" range="-2.7 -0.254402"', '"FL_calf_joint" type="slide" axis="0 0 1"')
    robot, _ = imported(mjcf(slide))
    calf = robot.joints[robot.joint_names.index("FL_calf_joint")]
    assert (calf.default, calf.lower, calf.upper) == (-1.6, -1.6, 1.0)


# Feet and wheels

SOLES = {
    "a short cylinder": (LYING.format(0.02, 0.03), mujoco.mjtGeom.mjGEOM_SPHERE, [0.02]),
    "a long cylinder": (LYING.format(0.02, 0.1), mujoco.mjtGeom.mjGEOM_CAPSULE, [0.02, 0.03]),
    "a disc": (
        '<collision><geometry><cylinder radius="0.03" length="0.02"/></geometry></collision>',
        mujoco.mjtGeom.mjGEOM_BOX,
        [0.03 * np.sqrt(np.pi) / 2, 0.03 * np.sqrt(np.pi) / 2, 0.01],
    ),
}


@pytest.mark.parametrize("sole", SOLES)
def test_soles_of_other_shapes_are_replaced_by_ones_of_the_same_extent(imported, sole):
    shape, kind, size = SOLES[sole]
    straight = quadruped_urdf().replace('upper="-0.5"', 'upper="0"').replace(SPHERE, shape)
    robot, said = imported(straight, "quad.urdf")
    geom = robot.model.geom(robot.feet[0].geoms[0])
    assert int(geom.type[0]) == int(kind) and len(robot.feet) == 4
    np.testing.assert_allclose(geom.size[: len(size)], size, atol=1e-5)
    assert any("stand on shapes that cannot be soles" in line for line in said)


def test_the_sole_of_a_mesh_is_at_its_lowest_point(imported, tmp_path):
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * [0.06, 0.03, 0.015]
    (tmp_path / "sole.obj").write_text(
        "".join("v {} {} {}\n".format(*corner) for corner in corners)
        + "f 1 2 4\nf 1 4 3\nf 5 7 8\nf 5 8 6\nf 1 5 6\nf 1 6 2\nf 3 4 8\nf 3 8 7\nf 1 3 7\nf 1 7 5\nf 2 6 8\nf 2 8 4\n"
    )
    straight = quadruped_urdf().replace('upper="-0.5"', 'upper="0"')
    robot, _ = imported(straight.replace('<sphere radius="0.02"/>', '<mesh filename="sole.obj"/>'), "quad.urdf")
    geom = robot.model.geom(robot.feet[0].geoms[0])
    assert int(geom.type[0]) == int(mujoco.mjtGeom.mjGEOM_BOX)
    np.testing.assert_allclose(np.sort(geom.size)[1:], [0.03, 0.06], atol=1e-3)
    assert robot.feet[0].position[2] == pytest.approx(-0.015, abs=1e-3)


def test_a_shin_guard_beside_the_foot_is_none(imported):
    guard = "".join(
        f'<link name="{leg}_guard"><collision><geometry><cylinder radius="0.01" length="0.04"/></geometry></collision>'
        f'</link><joint name="{leg}_guard" type="fixed"><parent link="{leg}_calf"/><child link="{leg}_guard"/>'
        '<origin xyz="0 0 -0.175"/></joint>'
        for leg in LEGS
    )
    robot, _ = imported(quadruped_urdf().replace("</robot>", f"{guard}</robot>"), "quad.urdf")
    assert feet(robot) == [f"{leg}_foot" for leg in LEGS_URDF]


def test_a_foot_is_one_by_its_kin_even_where_the_pose_has_it_higher(imported):
    text = without_pose(mjcf(('<body name="RR_calf" pos="0 0 -0.2">', '<body name="RR_calf" pos="0 0 -0.1">')))
    assert feet(imported(text)[0]) == CALVES


def test_a_model_that_lies_on_other_parts_than_its_feet_is_refused(imported):
    horn = '<body name="head"><inertial pos="0 0 0" mass="0.1" diaginertia="1e-4 1e-4 1e-4"/>'
    horn += '<joint name="neck" range="-1 1"/><geom name="horn" type="sphere" size="0.01" pos="0 0 -2"/></body>'
    text = without_pose(mjcf(("</body></worldbody>", f"{horn}</body></worldbody>"), ("_calf", "_foot")))
    with pytest.raises(RobotError, match=r"stands on 'head', and not on 'FL_foot', 'FR_foot'"):
        imported(text)


@pytest.mark.parametrize("kind", ["continuous", "a wide range"])
def test_round_ends_that_turn_without_end_are_wheels(imported, kind):
    robot, _ = imported(wheeled_urdf(kind), "quad.urdf")
    assert [wheel.name for wheel in robot.wheels] == [f"{leg}_foot" for leg in LEGS_URDF] and robot.feet == ()
    assert all((wheel.radius, wheel.forward_sign) == (pytest.approx(0.06), 1.0) for wheel in robot.wheels)
    controls = {joint.name: (joint.control, joint.torque_limit) for joint in robot.joints}
    assert controls["FL_wheel_joint"] == ("velocity", 5.0) and controls["FL_calf_joint"][0] == "position"
    assert int(robot.model.geom(robot.wheels[0].geom).type[0]) == int(mujoco.mjtGeom.mjGEOM_SPHERE)


# What a robot without weight is told

WEIGHTLESS = {
    "no gravity": ("<default>", '<option gravity="0 0 0"/><default>', "gravity is"),
    "gravity off": ("<default>", '<option><flag gravity="disable"/></option><default>', "switched off"),
    "gravity along y": ("<default>", '<option gravity="0 -9.81 0"/><default>', "gravity is"),
    "gravcomp": ('<body name="trunk"', '<body gravcomp="1" name="trunk"', "gravcomp"),
    "a weld": ("<keyframe>", '<equality><weld body1="trunk"/></equality><keyframe>', "holds body 'trunk' to the world"),
}


@pytest.mark.parametrize("cause", WEIGHTLESS)
def test_what_takes_a_robots_weight_is_a_warning(imported, cause):
    old, new, words = WEIGHTLESS[cause]
    robot, _ = imported(mjcf((old, new)))
    assert any(words in problem for problem in warnings_of(robot))


def test_the_picture_has_light_a_sky_a_floor_and_shapes_that_show(imported):
    model = imported(mjcf())[0].visual_model
    assert model.nlight == 1 and int(mujoco.mjtTexture.mjTEXTURE_SKYBOX) in model.tex_type
    assert model.geom("floor").matid[0] >= 0 and (model.geom_group < 3).all() and (model.geom_rgba[:, 3] > 0.9).all()


def test_public_models_are_counted_and_compared_with_their_files(tmp_path):
    file = tmp_path / "quad.urdf"
    file.write_text(quadruped_urdf())
    found = model_imports.take(file, (4, 0))
    assert found == {
        "folder": True,
        "starts": True,
        "edits": found["edits"],
        "refused": "",
        "wrong": [],
        "crashed": False,
    }
    assert found["edits"] <= 3
    assert model_imports.take(file, (2, 2))["wrong"] == ["4 feet and 0 wheels, not 2 and 2"]
    file.write_text("<robot/>")
    assert not model_imports.take(file, (4, 0))["folder"]
    shown = model_imports.show({"models": {"quad": found}})
    assert shown.endswith(
        "1 models: 1 become a folder, 1 start with at most 3 options, 0 crash, 0 differ from their file"
    )


def test_a_robot_that_is_not_what_its_file_says_is_told(tmp_path):
    file = tmp_path / "quad.urdf"
    file.write_text(quadruped_urdf())
    robot = load_robot(new_robot(file, tmp_path / "made"))
    file.write_text(
        quadruped_urdf().replace('upper="0.8" effort="20"', 'upper="0.7" effort="21"').replace('"5"', '"6"')
    )
    wrong = model_imports.differences(file, robot, (4, 0))
    assert wrong[0] == "11.4 kg, not 12.4" and {"range of FL_hip_joint", "torque limit of RR_hip_joint"} < set(wrong)
