"""The doctor finds each defect, names its line, and says what to write."""

import re
import shutil
from pathlib import Path

import mujoco
import pytest
from long_robots import long_copy
from quadruped_urdf import quadruped_urdf

from jaxloco import cli
from jaxloco.doctor.diagnose import diagnose
from jaxloco.doctor.engine_checks import unsupported
from jaxloco.doctor.figures import doubts, motor_doubts
from jaxloco.doctor.findings import Finding
from jaxloco.doctor.xml_lines import read_xml
from jaxloco.errors import RobotError
from jaxloco.internals import engine_tables
from jaxloco.model_import.new_robot import new_robot
from jaxloco.robot import SCHEMA, Joint, known_robots, load_robot, robots_dir
from jaxloco.toml_schema import problems, read_toml


@pytest.fixture
def go1(tmp_path: Path) -> Path:
    return long_copy("go1", tmp_path / "go1")


def change(file: Path, *pairs: tuple[str, str]) -> int:
    """Replace texts in a file; return the line of the first."""
    text = file.read_text()
    line = text[: text.index(pairs[0][0])].count("\n") + 1
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return line


def findings(path: Path, severity: str) -> list[Finding]:
    return [finding for finding in diagnose(path) if finding.severity == severity]


@pytest.mark.parametrize("name", known_robots())
def test_our_robots_have_no_errors(name):
    assert findings(Path(name), "error") == []


def test_the_go1_is_in_good_health(capsys):
    assert cli.main(["doctor", "go1"]) == 0
    *notes, _, last = capsys.readouterr().out.splitlines()
    assert last == "go1: 0 errors, 0 warnings"
    # At 4 ms the published corner of the knees cannot be simulated.
    knees, _, self_contacts = notes
    assert knees.startswith("note: ") and "4 joints, '*_calf_joint': whole torque in simulation only up to" in knees
    assert knees.endswith("'FR_calf_joint' up to 0.0 rad/s of 9")
    assert "pairs of parts can meet but pass through each other in training" in self_contacts


HIP, MESH = 'name="FR_hip_joint"', '<mesh name="x" file="no.obj"/>'
MODEL_DEFECTS = {
    "negative mass": (('mass="5.204"', 'mass="-5.204"'), "body 'trunk' has a mass of -5.2", "above 0"),
    "triangle": (("0.063009547 0.071654727", "0.063009547 0.171654727"), "above the sum", "signs"),
    "not positive": (("0.016812826 0.063009547", "-0.016812826 0.063009547"), "not above 0", "signs"),
    "unnamed joint": ((f"<joint {HIP} class", "<joint class"), "without a name", "FR_hip_joint"),
    "actuators": (("</mujoco>", f"<actuator><motor {HIP}/></actuator></mujoco>"), "actuators", "remove"),
    "missing mesh": (("<default>", f"<asset>{MESH}</asset><default>"), "no.obj: no such file", "path"),
    "broken xml": ((f'{HIP} class="hip"/>', f'{HIP} class="hip>'), "not valid XML", "line"),
}


@pytest.mark.parametrize("defect", MODEL_DEFECTS)
def test_a_defect_of_the_model_is_named_with_its_line(go1, capsys, defect):
    (old, new), problem, fix = MODEL_DEFECTS[defect]
    line = change(go1 / "robot.xml", (old, new))
    found = findings(go1, "error")
    hits = [f for f in found if problem in f.problem and fix in f.fix]
    assert hits and hits[0].file == go1 / "robot.xml", found
    if defect == "broken xml":  # noticed where the next quote is
        assert hits[0].line is not None and line <= hits[0].line <= line + 2
    elif defect not in ("triangle", "not positive"):  # these stand in the second line of their element
        assert hits[0].line == line
    else:
        assert hits[0].line == line - 1
    assert cli.main(["doctor", str(go1)]) == 1


TOML_DEFECTS = {
    "gain": (("kp = 35.0\nkd = 0.5\ntorque_limit = 35.55", "kp = -1\nkd = 0.5\ntorque_limit = 35.55"), "number >= 0"),
    "unknown key": (("[timing]", '[timing]\nrate = 3'), "unknown key"),
    "no velocity": (("velocity_limit = 20.06", "velocity_limit = 0.0"), "expected a number > 0"),
    "timestep": (("simulation_timestep = 0.004", "simulation_timestep = 0.003"), "does not divide"),
    "no pose": (("[pose]\nbase_position = [0.0, 0.0, 0.2945]", "[pose]"), "'base_position'"),
    "no such foot": (('geoms = ["FR_foot"]', 'geoms = ["FR_fot"]'), "no geom 'FR_fot'"),
}  # fmt: skip


@pytest.mark.parametrize("defect", TOML_DEFECTS)
def test_a_defect_of_the_toml_is_named(go1, defect):
    (old, new), problem = TOML_DEFECTS[defect]
    change(go1 / "robot.toml", (old, new))
    found = findings(go1, "error")
    assert [problem in finding.problem for finding in found] == [True] * len(found) and found
    assert all(finding.file == go1 / "robot.toml" and finding.line for finding in found)


def test_several_defects_are_named_at_once(go1):
    change(
        go1 / "robot.toml", ("velocity_limit = 20.06", "velocity_limit = -1.0"), ('control = "position"', "contrl = 1")
    )
    assert len(findings(go1, "error")) == 4 + 12  # four calves; an unknown key of twelve joints
    file = read_toml(go1 / "robot.toml", RobotError)
    assert len(problems(file, SCHEMA)) == 16


def test_names_that_do_not_pair_are_an_error_of_a_robot_with_feet(go1):
    for name in ("robot.xml", "robot.toml"):
        change(go1 / name, ('"FR_hip_joint"', '"FX_hip_joint"'))
    (finding,) = findings(go1, "error")
    assert "joint 'FL_hip_joint' has no mirror image" in finding.problem and "--ppo.symmetry none" in finding.fix


def test_pairs_of_joints_and_feet_that_are_not_alike_are_a_warning(go1):
    hip = '"FL_hip_joint"\ndefault = -0.1\ncontrol = "position"\nkp = '
    line = change(go1 / "robot.toml", (f"{hip}35.0", f"{hip}30.0"))
    change(go1 / "robot.xml", ('name="FL_thigh" pos="0 0.08 0"', 'name="FL_thigh" pos="0.01 0.08 0"'))
    change(
        go1 / "robot.xml", ('name="RL_calf_joint" class="calf"', 'name="RL_calf_joint" class="calf" range="-2.8 -0.8"')
    )
    hip_joint, calf, foot = findings(go1, "warning")
    assert hip_joint.problem == "joint 'FL_hip_joint' should mirror 'FR_hip_joint', but has another kp"
    assert hip_joint.line == line and "--ppo.symmetry none" in hip_joint.fix
    assert calf.problem.endswith("'RR_calf_joint', but has another range")
    assert foot.problem == "foot 'FL' should mirror 'FR', but has another place in the default pose"


def test_feet_mirror_each_other_in_the_frame_of_the_base_wherever_it_stands_and_looks(go1):
    turned = ("[1.0, 0.0, 0.0, 0.0]", "[0.70710678, 0.0, 0.0, 0.70710678]")
    change(go1 / "robot.toml", ("[0.0, 0.0, 0.2945]", "[2.0, 3.0, 0.2945]"), turned)
    assert findings(go1, "warning") == findings(go1, "error") == []
    change(go1 / "robot.xml", ('name="FL_thigh" pos="0 0.08 0"', 'name="FL_thigh" pos="0.01 0.08 0"'))
    (foot,) = findings(go1, "warning")
    assert foot.problem == "foot 'FL' should mirror 'FR', but has another place in the default pose"


DOUBTED = {
    "kp": ("kp = 35.0", "kp = 4e8", "at its limit of 23.7 N m when it is 6e-08 rad from its target", "N m/rad"),
    "kd": ("kd = 0.5", "kd = 4e8", "at its limit of 23.7 N m at 6e-08 rad/s", "N m s/rad"),
    "speed": ("velocity_limit = 30.1", "velocity_limit = 1146", "velocity_limit = 1146 rad/s", "velocity_limit = 20"),
    "armature": ("armature = 0.005", "armature = 10", "armature = 10 kg m², more than a robot of 12.7 kg", "1e-7"),
    "torque": ("torque_limit = 23.7", "torque_limit = 23700", "lifts the whole robot, 12.7 kg, at 190 m", "N m"),
    "friction": ("frictionloss = 0.", "frictionloss = 90.", "and the motor 23.7 N m: it cannot move", "N m"),
    "lag": ("kp = 35.0", 'actuator = {kind = "lag", delay = 3e5}\nkp = 35.0', "delay = 300000 s", "delay = 0.004"),
    "bandwidth": ("kp = 35.0", 'actuator = {kind = "lag", bandwidth = 0.04}\nkp = 35.0', "= 0.04 Hz", "Hz; 40"),
}


@pytest.mark.parametrize("figure", DOUBTED)
def test_a_figure_that_no_motor_has_is_a_warning_with_its_line_and_unit(go1, figure):
    old, new, problem, fix = DOUBTED[figure]
    change(go1 / "robot.toml", (old, new))
    found = [finding for finding in findings(go1, "warning") if problem in finding.problem]
    lines = (go1 / "robot.toml").read_text().splitlines()
    assert found and fix in found[0].fix and lines[found[0].line - 1].startswith(new.splitlines()[0])


@pytest.mark.parametrize("name", known_robots())
def test_no_figure_of_our_robots_is_doubted(name):
    robot = load_robot(name)
    weight = 9.81 * float(robot.model.body_mass.sum())
    assert [doubt for joint in robot.joints for doubt in (*doubts(joint, weight), *motor_doubts(joint))] == []


@pytest.mark.parametrize(("gravity", "warned"), [("0 0 -9810", True), ("0 0 -0.00981", True), ("0 0 -1.62", False)])
def test_gravity_that_no_planet_has_is_a_warning(go1, gravity, warned):
    line = change(go1 / "robot.xml", ("<option ", f'<option gravity="{gravity}" '))
    found = [finding for finding in findings(go1, "warning") if "gravity is" in finding.problem]
    assert [(finding.line, "in m/s²" in finding.fix) for finding in found] == [(line, True)] * warned


@pytest.mark.parametrize("file", ["missing.npz", ".", "robot.xml"])
@pytest.mark.parametrize("joints", ["all", "one"])
def test_an_actuator_network_that_cannot_be_read_is_an_error_in_the_line_of_the_actuator(go1, file, joints):
    key, toml = f'actuator = {{ kind = "network", file = "{file}" }}', go1 / "robot.toml"
    calf = 'name = "FL_calf_joint"'
    line = change(toml, ("kp = 35.0", f"{key}\nkp = 35.0") if joints == "all" else (calf, f"{calf}\n{key}"))
    (error,) = findings(go1, "error")
    assert (error.file, error.line) == (toml, line + (joints == "one")) and str(go1 / file) in error.problem


@pytest.mark.parametrize("model", ["model = 'robot.xml'", '   model = "robot.xml"', '"model" = "robot.xml"'])
def test_the_model_is_examined_in_whatever_way_its_name_is_written(go1, model):
    change(go1 / "robot.toml", ('model = "robot.xml"', model))
    line = change(go1 / "robot.xml", ('mass="5.204"', 'mass="-5.204"'))
    assert [(f.file.name, f.line) for f in findings(go1, "error")] == [("robot.xml", line)]


@pytest.mark.parametrize("header", ['variants."full"', "variants.'full'", 'variants."my full"', " variants . full "])
def test_variants_are_examined_in_whatever_way_their_names_are_written(go1, header):
    change(go1 / "robot.toml", ("[variants.full]", f"[{header}]"))
    change(go1 / "robot.xml", ('cone="pyramidal">', 'cone="pyramidal" solver="PGS">'))
    assert findings(go1, "error") == []
    name = "my full" if "my" in header else "full"
    assert any(finding.problem.startswith(f"variant {name}: ") for finding in findings(go1, "warning"))


def test_a_mirror_that_fails_points_to_the_line_of_the_joint(go1):
    for name in ("robot.xml", "robot.toml"):
        change(go1 / name, ('"FR_hip_joint"', '"FX_hip_joint"'))
    (finding,) = findings(go1, "error")
    lines = (go1 / "robot.toml").read_text().splitlines()
    assert finding.file == go1 / "robot.toml" and lines[finding.line - 1] == 'name = "FL_hip_joint"'


def test_findings_on_figures_and_feet_by_pattern_have_their_lines(tmp_path):
    folder = Path(shutil.copytree(robots_dir() / "go1", tmp_path / "go1"))
    toml = folder / "robot.toml"
    change(toml, ("armature = 0.005", "armature = 0.0"), ('"*_thigh_joint" = 0.9', '"*_thigh_joint" = 9.0'))
    (finding,) = findings(folder, "error")
    lines = toml.read_text().splitlines()
    assert "joint 'FR_thigh_joint': found 9.0, outside the joint's range" in finding.problem
    assert lines[finding.line - 1].startswith("default = ")
    change(toml, ('"*_thigh_joint" = 9.0', '"*_thigh_joint" = 0.9'))
    change(folder / "robot.xml", ('name="FL_thigh" pos="0 0.08 0"', 'name="FL_thigh" pos="0.01 0.08 0"'))
    armature, foot = (f for f in findings(folder, "warning") if "armature" in f.problem or "foot 'FL'" in f.problem)
    assert [lines[f.line - 1] for f in (armature, foot)] == ["armature = 0.0", 'name = "*"']
    assert armature.problem.startswith("12 joints")


UNDRIVEN = {
    "ball": ('<joint name="FR_hip_joint" class="hip"/>', '<joint name="FR_hip_joint" type="ball"/>', "a ball joint"),
    "hinge": ("", "", "a hinge or slide without an actuator"),
}


@pytest.mark.parametrize("kind", UNDRIVEN)
def test_a_joint_that_nothing_drives_is_an_error_of_a_robot_with_feet(go1, kind):
    old, new, problem = UNDRIVEN[kind]
    toml, xml = go1 / "robot.toml", go1 / "robot.xml"
    table = re.search(r'\[\[joints\]\]\nname = "FR_hip_joint".*?\n\n', toml.read_text(), re.DOTALL)
    change(toml, (table[0], ""))
    line = change(xml, (old or f"<joint {HIP}", new or f"<joint {HIP}"))
    (finding,) = (f for f in findings(go1, "error") if f.file == xml)
    assert finding.line == line and f"joint 'FR_hip_joint' is {problem}" in finding.problem


def test_a_joint_that_a_spring_holds_needs_no_actuator(go1):
    toml = go1 / "robot.toml"
    table = re.search(r'\[\[joints\]\]\nname = "FR_hip_joint".*?\n\n', toml.read_text(), re.DOTALL)
    change(toml, (table[0], ""))
    change(go1 / "robot.xml", (f"<joint {HIP}", f'<joint stiffness="100" {HIP}'))
    assert not [f for f in findings(go1, "error") if f.file == go1 / "robot.xml"]


def test_the_model_is_examined_even_where_robot_toml_has_errors(go1):
    change(go1 / "robot.toml", ("velocity_limit = 20.06", "velocity_limit = 0.0"))
    change(go1 / "robot.xml", ('cone="pyramidal">', 'cone="pyramidal" solver="PGS">'))
    assert {finding.engine for finding in findings(go1, "warning")} == {"mjx", "warp"}


def test_a_robot_without_feet_and_wheels_is_told_what_to_add(go1):
    toml = go1 / "robot.toml"
    toml.write_text(toml.read_text().partition("[[feet]]")[0])
    (finding,) = findings(go1, "error")
    assert "nothing to stand on" in finding.problem and '[[feet]] name = "FL"' in finding.fix


def test_a_base_in_the_air_gets_its_height(go1):
    line = change(go1 / "robot.toml", ("base_position = [0.0, 0.0, 0.2945]", "base_position = [0.0, 0.0, 0.4]"))
    (finding,) = findings(go1, "warning")
    assert finding.line == line and "above the floor" in finding.problem
    change(go1 / "robot.toml", ("base_position = [0.0, 0.0, 0.4]", finding.fix.removeprefix("write ")))
    assert findings(go1, "warning") == findings(go1, "error") == []


def test_a_robot_that_topples_and_open_points_are_warnings(go1):
    change(go1 / "robot.toml", ("kp = 35.0", "kp = 1.0"), ('imu_site = "imu"', 'imu_site = "imu"  # TODO: place it'))
    problems = [finding.problem for finding in findings(go1, "warning")]
    assert any("topples or sinks within 3 s" in problem for problem in problems)
    assert 'left open: imu_site = "imu"' in problems


# Engines


def test_a_contact_that_mjx_lacks_is_named_with_both_shapes_and_its_line(go1):
    pair = '<pair geom1="trunk_shell" geom2="FR_thigh_motor"/>\n    <pair geom1="floor" geom2="FR_foot"/>'
    change(go1 / "robot.xml", ('<pair geom1="floor" geom2="FR_foot"/>', pair))
    found = findings(go1, "warning")
    own = [finding for finding in found if finding.engine == "mjx" and not finding.problem.startswith("variant")]
    text = (go1 / "robot.xml").read_text().splitlines()
    assert "cylinder and box" in own[0].problem and own[0].line and "FR_thigh_motor" in own[0].problem
    assert any(name in text[own[0].line - 1] for name in ('"FR_thigh_motor"', '"trunk_shell"'))
    assert not any(finding.engine == "warp" for finding in found) and not findings(go1, "error")


def test_mjx_findings_are_what_put_model_refuses():
    """On each of our robots and variants, MJX takes the model if and only if the doctor finds nothing."""
    from mujoco import mjx

    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='a'><freejoint/><geom name='g' type='cylinder' size='.1 .1'/></body>"
        "<body name='b' pos='0 0 1'><joint name='j' range='-1 1' limited='true'/>"
        "<geom name='h' type='box' size='.1 .1 .1'/></body>"
        "</worldbody><sensor><jointlimitfrc name='s' joint='j'/></sensor></mujoco>"
    )  # fmt: skip
    kinds = {kind for kind, *_ in unsupported(model, "mjx")}
    assert {"geom", "sensor"} <= kinds
    with pytest.raises(NotImplementedError):
        mjx.put_model(model)
    for name in ("go1", "upkie"):
        robot = load_robot(name)
        assert list(unsupported(robot.model, "mjx")) == []
        mjx.put_model(robot.model)


def test_the_tables_of_warp_are_read_from_its_source():
    tables = engine_tables.warp()
    assert int(mujoco.mjtGeom.mjGEOM_SPHERE) in tables["GeomType"]
    assert int(mujoco.mjtSensor.mjSENS_CONTACT) in tables["SensorType"]
    assert int(mujoco.mjtSensor.mjSENS_PLUGIN) not in tables["SensorType"]
    assert tables["SolverType"] == {int(mujoco.mjtSolver.mjSOL_CG), int(mujoco.mjtSolver.mjSOL_NEWTON)}


def test_a_solver_that_warp_lacks_is_named(go1):
    change(go1 / "robot.xml", ('cone="pyramidal">', 'cone="pyramidal" solver="PGS">'))
    found = {finding.engine: finding for finding in findings(go1, "warning")}
    assert set(found) == {"mjx", "warp"}
    assert "solver pgs" in found["warp"].problem and found["warp"].line == 7


# A model file alone

WALKER = """<mujoco>
<compiler angle="radian"/>
<worldbody>
<body name="base" pos="0 0 0.3"><freejoint/>
<inertial pos="0 0 0" mass="4" diaginertia="0.03 0.03 0.03"/>
<body name="left_leg" pos="0 0.1 0">
<joint name="left_hip" axis="0 1 0" range="-1 1"/>
<inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
<geom name="left_foot" type="sphere" size="0.02" pos="0 0 -0.2"/></body>
<body name="right_leg" pos="0 -0.1 0">
<joint axis="0 1 0" range="-1 1"/>
<inertial pos="0 0 0" mass="1" diaginertia="0.01 0.01 0.01"/>
<geom name="right_foot" type="sphere" size="0.02" pos="0 0 -0.2"/></body>
</body></worldbody>
<sensor><user name="thermometer" dim="1"/></sensor>
<actuator><position name="left" joint="left_hip" kp="30" forcerange="-9 9"/></actuator>
</mujoco>
"""


def walker(tmp_path: Path, old: str = "", new: str = "") -> Path:
    assert old in WALKER
    (tmp_path / "walker.xml").write_text(WALKER.replace(old, new) if old else WALKER)
    return tmp_path / "walker.xml"


def test_what_new_robot_takes_care_of_is_a_note(tmp_path, capsys):
    model = walker(tmp_path)
    notes = {finding.line: finding for finding in findings(model, "note")}
    assert notes[11].problem == "body 'right_leg' has a joint without a name" and "'right_leg_joint'" in notes[11].fix
    assert notes[15].engine == "mjx" and "'thermometer'" in notes[15].problem and "leave it" in notes[15].fix
    assert notes[16].problem == "actuators ('left')" and "takes gains and limits over from them" in notes[16].fix
    assert notes[None].problem == "joints 'right_leg_joint' have no actuator" and "passive" in notes[None].fix
    assert len(notes) == 4 and findings(model, "error") == []
    assert cli.main(["doctor", str(model)]) == 0
    assert capsys.readouterr().out.endswith("0 errors, 1 warnings\n")  # it is not yet a robot folder
    joints = load_robot_of(model, tmp_path)
    assert joints[0].kp == 30.0 and joints[0].torque_limit == 9.0


def load_robot_of(model: Path, tmp_path: Path) -> tuple[Joint, ...]:
    return load_robot(new_robot(model, tmp_path / "walker")).joints


def test_engines_are_examined_in_spite_of_errors_and_otherwise_it_is_said_that_they_are_not(tmp_path):
    hip = '<joint name="left_hip" axis="0 1 0" range='
    model = walker(tmp_path, f'{hip}"-1 1"', f'{hip}"1 -1"')
    assert [finding.line for finding in findings(model, "error")] == [7]
    assert any("'thermometer'" in finding.problem for finding in findings(model, "note"))
    model = walker(tmp_path, 'mass="4"', 'mass="-4"')
    assert [(f.line, "mass of -4 kg" in f.problem) for f in findings(model, "error")] == [(5, True)]
    assert any("what each engine can simulate is not examined" in f.problem for f in findings(model, "note"))


MJCF_ERRORS = {
    "nan": ('mass="4"', 'mass="nan"', "body 'base': <inertial mass=\"nan\"> is not a number"),
    "triangle": ("0.03 0.03 0.03", "0.01 0.01 0.09", "above the sum of the two others"),
    "indefinite": ('diaginertia="0.03 0.03 0.03"', 'fullinertia="1e-3 1e-3 1e-3 2e-3 0 0"', "is not above 0"),
}


@pytest.mark.parametrize("defect", MJCF_ERRORS)
def test_new_robot_refuses_inertias_that_cannot_be_with_their_line(tmp_path, defect):
    old, new, problem = MJCF_ERRORS[defect]
    model = walker(tmp_path, old, new)
    (finding,) = findings(model, "error")
    assert finding.line == 5 and problem in finding.problem
    with pytest.raises(RobotError, match=r"walker\.xml, line 5: body 'base'"):
        new_robot(model, tmp_path / "walker")


def test_ranges_of_an_mjcf_in_radians_that_it_counts_in_degrees_are_suspected(tmp_path):
    model = walker(tmp_path, '<compiler angle="radian"/>', "")
    (finding,) = (f for f in findings(model, "warning") if f.line)
    assert finding.line == 7 and "no hinge turns by more than 1 degrees" in finding.problem
    assert '<compiler angle="radian"/>' in finding.fix


def test_a_model_that_new_robot_cannot_make_a_robot_of_is_told_so(tmp_path):
    model = tmp_path / "walker.xml"
    model.write_text(re.sub(r"<geom[^>]*/>", "", WALKER))
    assert findings(model, "error") == []
    (finding,) = (f for f in findings(model, "warning") if "no end of a limb has a shape" in f.problem)
    assert finding.fix.startswith("add one to each foot")


# URDF


def test_a_urdf_is_examined_line_by_line(tmp_path):
    urdf = tmp_path / "rover.urdf"
    urdf.write_text(quadruped_urdf())
    assert findings(urdf, "error") == []
    line = change(urdf, ('<mass value="5"/>', '<mass value="0"/>'))
    (finding,) = findings(urdf, "error")
    assert finding.line == line - 2 + 1 and "link 'base' has a mass of 0 kg" in finding.problem


def urdf_with(tmp_path: Path, old: str, new: str) -> tuple[Path, int]:
    """Write the quadruped with a text replaced where it first stands; return the file and the line of the new text."""
    text = quadruped_urdf()
    assert old in text
    urdf = tmp_path / "rover.urdf"
    urdf.write_text(text.replace(old, new, 1))
    return urdf, text[: text.index(old)].count("\n") + 1


XACRO, LINK = "xacro MODEL.xacro >", '<link name="FL_hip">'
NO_AXIS = '<axis xyz="1 0 O"/>'
MASS, INERTIA, HIP_LIMIT = '<mass value="5"/>', 'ixx="0.02"', 'lower="-0.8" upper="0.8"'
URDF_ERRORS = {
    "swapped limits": (HIP_LIMIT, 'lower="0.8" upper="-0.8"', "lower limit above its upper one", "swap the two"),
    "joint twice": ('"FL_hip_joint"', '"FR_hip_joint"', "joint 'FR_hip_joint' is there twice, first in line", "rename"),
    "link twice": (LINK, f'<link name="FR_foot"/>{LINK}', "link 'FR_foot' is there twice", "rename"),
    "inner floating joint": (
        'name="FR_hip_joint" type="revolute"',
        'name="FR_hip_joint" type="floating"',
        "joint 'FR_hip_joint' floats: within a robot no joint can",
        "revolute or fixed",
    ),
    "planar joint": (
        'name="FR_hip_joint" type="revolute"',
        'name="FR_hip_joint" type="planar"',
        "joint 'FR_hip_joint' is planar: it slides two ways and turns",
        "two prismatic joints and a revolute one",
    ),
    "pattern": ('joint name="FR_hip_joint"', 'joint name="*"', "joint '*' has the name that stands for all", "rename"),
    "word": (MASS, '<mass value="abc"/>', "link 'base': <mass value=\"abc\"> is not a number", "finite numbers"),
    "nan": (MASS, '<mass value="nan"/>', "link 'base': <mass value=\"nan\"> is not a number", "finite numbers"),
    "xacro value": (MASS, '<mass value="${a}"/>', "<mass value=\"${a}\"> is not a number", XACRO),
    "xacro": (MASS, f'{MASS}<xacro:property name="a"/>', "<xacro:property>: this file is a xacro", XACRO),
    "comma": (INERTIA, 'ixx="0,02"', "link 'base': <inertia ixx=\"0,02\"> is not a number", "a decimal point"),
    "axis": ('<axis xyz="1 0 0"/>', NO_AXIS, "joint 'FR_hip_joint': <axis xyz=\"1 0 O\"> are not", "numbers"),
}  # fmt: skip


@pytest.mark.parametrize("defect", URDF_ERRORS)
def test_an_error_in_a_urdf_is_named_with_its_line_and_new_robot_refuses_it_for_the_same(tmp_path, defect):
    old, new, problem, fix = URDF_ERRORS[defect]
    urdf, line = urdf_with(tmp_path, old, new)
    (finding,) = findings(urdf, "error")
    assert (finding.file, finding.line) == (urdf, line) and problem in finding.problem and fix in finding.fix
    with pytest.raises(RobotError, match=rf"rover.urdf, line {line}: .* for all that is wrong: jaxloco doctor"):
        new_robot(urdf, tmp_path / "rover")
    assert not (tmp_path / "rover").exists()


NO_FILE = ['<mesh filename=""/>', "<mesh/>", '<mesh filename="package://"/>', '<mesh filename="."/>']


@pytest.mark.parametrize("mesh", NO_FILE)
def test_a_mesh_of_a_urdf_that_names_no_file_is_a_warning_and_new_robot_leaves_the_shape_out(tmp_path, mesh):
    shape = f"<visual><geometry>{mesh}</geometry></visual>"
    urdf, line = urdf_with(tmp_path, '<link name="base">', f'<link name="base">\n{shape}')
    (finding,) = (f for f in findings(urdf, "warning") if f.line)
    assert finding.line == line + 1 and finding.problem.startswith("link 'base': <mesh> names no file")
    assert 'filename="…"' in finding.fix and findings(urdf, "error") == []
    new_robot(urdf, tmp_path / "rover")
    assert load_robot(tmp_path / "rover").model.nmesh == 0


@pytest.mark.parametrize("mesh", ['<mesh name="m" file=""/>', '<mesh name="m"/>', '<hfield name="m" size="1 1 1 1"/>'])
def test_a_mesh_of_an_mjcf_that_names_no_file_is_an_error_with_its_line(tmp_path, mesh):
    model = walker(tmp_path, "<worldbody>", f"<asset>\n{mesh}</asset><worldbody>")
    (finding,) = findings(model, "error")
    assert (finding.line, finding.problem) == (4, f"<{mesh[1:].split()[0]}> 'm' names no file")


def test_limits_in_degrees_and_no_limits_at_all_are_suspected(tmp_path):
    urdf, line = urdf_with(tmp_path, 'lower="-2.7" upper="-0.5"', 'lower="-155" upper="-29"')
    (finding,) = (f for f in findings(urdf, "warning") if f.line)
    assert finding.line == line and "'FR_calf_joint' turns from -155 to -29 rad" in finding.problem
    assert "write radians: -2.705 and -0.5061" in finding.fix
    urdf, line = urdf_with(tmp_path, HIP_LIMIT, 'lower="0" upper="0"')
    (finding,) = (f for f in findings(urdf, "warning") if f.line)
    assert finding.line == line and "has no range" in finding.problem and 'type="continuous"' in finding.fix


def test_an_empty_robot_is_an_error(tmp_path):
    empty = {
        "empty.urdf": ('<?xml version="1.0"?>\n<robot name="x"></robot>', 2, "there is no <link>"),
        "empty.xml": ("<mujoco>\n<worldbody/></mujoco>", 1, "there is no <body>"),
    }
    for name, (text, line, problem) in empty.items():
        (tmp_path / name).write_text(text)
        (finding,) = findings(tmp_path / name, "error")
        assert finding.line == line and problem in finding.problem
        with pytest.raises(RobotError, match=f"line {line}: {problem}"):
            new_robot(tmp_path / name, tmp_path / "empty")


def test_what_only_mujoco_notices_has_the_line_of_the_element_that_it_names(tmp_path):
    model = tmp_path / "arm.xml"
    model.write_text(
        '<mujoco><worldbody><body name="b">\n<joint name="wrist" axis="1e-20 0 0"/>\n'
        '<geom size="0.1" mass="1"/></body></worldbody></mujoco>'
    )
    (finding,) = findings(model, "error")
    assert finding.line == 2 and "axis too small" in finding.problem


def test_a_link_that_moves_without_mass_and_a_motor_without_limits_are_named(tmp_path):
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(
        '<robot name="arm">\n<link name="base"/>\n<link name="hand"/>\n<joint name="wrist" type="revolute">'
        '<parent link="base"/><child link="hand"/><limit lower="0" upper="1" effort="0" velocity="2"/></joint>'
        "\n</robot>"
    )
    (error,) = findings(urdf, "error")
    assert (error.line, error.problem) == (3, "link 'hand' moves but has no <inertial>, so no mass")
    assert "joint 'wrist' has no effort limit above 0" in [f.problem for f in findings(urdf, "warning")]


def test_grams_and_millimetres_are_suspected(tmp_path):
    model = tmp_path / "heavy.xml"
    model.write_text(
        '<mujoco><worldbody><body name="b"><freejoint/>\n'
        '<inertial pos="0 0 0" mass="5204" diaginertia="16812 63009 71654"/></body></worldbody></mujoco>'
    )
    texts = [finding.problem for finding in findings(model, "warning")]
    assert any("mass of 5204 kg" in text for text in texts) and any("from its centre" in text for text in texts)


def test_nothing_there_is_a_mistake_and_not_a_finding(capsys):
    assert cli.main(["doctor", "nowhere"]) == 2
    assert "nowhere: no such folder or file" in capsys.readouterr().err


def test_a_folder_without_a_toml_is_told_how_to_get_one(tmp_path):
    (tmp_path / "rover.urdf").write_text(quadruped_urdf())
    (finding,) = findings(tmp_path, "error")
    assert finding.file.name == "robot.toml" and "jaxloco new-robot" in finding.fix


@pytest.mark.parametrize("encoding", ["iso-8859-1", "windows-1252", "utf-16", "utf-8-sig"])
def test_a_urdf_is_read_in_the_encoding_that_it_declares(tmp_path, encoding):
    urdf = tmp_path / "rover.urdf"
    text = quadruped_urdf().replace("?>", f' encoding="{encoding.removesuffix("-sig")}"?><!-- für Tests -->', 1)
    urdf.write_bytes(text.encode(encoding))
    assert not findings(urdf, "error")
    new_robot(urdf, tmp_path / "rover")
    assert len(load_robot(tmp_path / "rover").joints) == 12


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("<robot name='für'/>".encode("latin-1"), "line 1: cannot be read as utf-8 text; save it as UTF-8"),
        (b"<?xml version='1.0' encoding='klingon'?><robot/>", "line 1: unknown encoding 'klingon'; save it as UTF-8"),
        (b"<a>" * 300, "line 1: elements are nested deeper than 200"),
        (b"<mujoco>\n<include file='m.xml'/></mujoco>", "line 2: .*m.xml includes itself; remove this <include>"),
        (
            b"<mujoco>\n<include file='nix.xml'/></mujoco>",
            "line 2: there is no file 'nix.xml' to include; put it there",
        ),
        (b"<mujoco>\n<include file=''/></mujoco>", 'line 2: <include file=""/> names no file; write one'),
        (b"", "line 1: not valid XML: no element found"),
    ],
)
def test_an_xml_file_that_cannot_be_read_is_refused_with_its_line(tmp_path, content, problem):
    (tmp_path / "m.xml").write_bytes(content)
    with pytest.raises(RobotError, match=problem):
        read_xml(tmp_path / "m.xml")


def test_a_robot_toml_in_utf_16_is_read_and_a_model_in_utf_16_is_refused(tmp_path):
    folder = Path(shutil.copytree(robots_dir() / "upkie", tmp_path / "upkie"))
    toml, model = folder / "robot.toml", folder / "robot.xml"
    toml.write_bytes(toml.read_text(encoding="utf-8").encode("utf-16"))
    assert load_robot(folder).name == "upkie" and not findings(folder, "error")
    model.write_bytes(model.read_text(encoding="utf-8").encode("utf-16"))
    with pytest.raises(RobotError, match=r"robot.xml: MuJoCo reads UTF-8 only, .* save it as UTF-8"):
        load_robot(folder)
    toml.write_bytes(b"name = 'f\xfcr'")
    (error,) = findings(folder, "error")
    assert (error.line, error.problem) == (1, "cannot be read as UTF-8 text; save it as UTF-8")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<sdf version='1.7'/>", "the outermost element is <sdf>; expected <mujoco> (MJCF) or <robot> (URDF)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS has not fetched it; fetch it: git lfs pull"),
        ("<mujoco/>".encode("utf-16-le"), "is in UTF-16 or binary, without a byte order mark; save it as UTF-8"),
    ],
)
def test_what_is_no_model_is_told_by_doctor_and_by_new_robot_in_the_same_words(tmp_path, content, problem):
    model = tmp_path / "quad.xml"
    model.write_bytes(content)
    (error,) = findings(model, "error")
    with pytest.raises(RobotError) as refused:
        new_robot(model, tmp_path / "quad")
    assert problem in f"{error.problem}; {error.fix}" and problem in str(refused.value)
    assert not (tmp_path / "quad").exists()
