"""The doctor finds each defect, names its line, and says what to write."""

import shutil
from pathlib import Path

import mujoco
import pytest
from quadruped_urdf import quadruped_urdf

from jaxloco import cli
from jaxloco.doctor.diagnose import diagnose
from jaxloco.doctor.engine_checks import unsupported, warp_tables
from jaxloco.doctor.findings import Finding
from jaxloco.errors import RobotError
from jaxloco.robot import SCHEMA, load_robot, robots_dir
from jaxloco.toml_schema import problems, read_toml


@pytest.fixture
def go1(tmp_path: Path) -> Path:
    return Path(shutil.copytree(robots_dir() / "go1", tmp_path / "go1"))


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


@pytest.mark.parametrize("name", ["go1", "go2", "anymal_c", "berkeley_humanoid", "upkie", "cartpole", "pendulum"])
def test_our_robots_have_no_errors(name):
    assert findings(Path(name), "error") == []


def test_the_go1_is_in_good_health(capsys):
    assert cli.main(["doctor", "go1"]) == 0
    assert capsys.readouterr().out == "go1: 0 errors, 0 warnings\n"


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
    "gain": (("kp = 35.0\nkd = 0.5\ntorque_limit = 35.55", "kd = 0.5\ntorque_limit = 35.55"), "missing, needed for"),
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
    assert len(findings(go1, "error")) == 4 + 2 * 12  # four calves; an unknown and a missing key of twelve joints
    file = read_toml(go1 / "robot.toml", RobotError)
    assert len(problems(file, SCHEMA)) == 28


def test_names_that_do_not_pair_are_an_error_of_a_robot_with_feet(go1):
    for name in ("robot.xml", "robot.toml"):
        change(go1 / name, ('"FR_hip_joint"', '"FX_hip_joint"'))
    (finding,) = findings(go1, "error")
    assert "joint 'FL_hip_joint' has no mirror image" in finding.problem and "--ppo.symmetry none" in finding.fix


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
    assert diagnose(go1) == []


def test_a_robot_that_topples_and_open_points_are_warnings(go1):
    change(go1 / "robot.toml", ("kp = 35.0", "kp = 1.0"), ('imu_site = "imu"', 'imu_site = "imu"  # TODO: place it'))
    problems = [finding.problem for finding in findings(go1, "warning")]
    assert any("topples or sinks within 2 s" in problem for problem in problems)
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
    tables = warp_tables()
    assert int(mujoco.mjtGeom.mjGEOM_SPHERE) in tables["GeomType"]
    assert int(mujoco.mjtSensor.mjSENS_CONTACT) in tables["SensorType"]
    assert int(mujoco.mjtSensor.mjSENS_PLUGIN) not in tables["SensorType"]
    assert tables["SolverType"] == {int(mujoco.mjtSolver.mjSOL_CG), int(mujoco.mjtSolver.mjSOL_NEWTON)}


def test_a_solver_that_warp_lacks_is_named(go1):
    change(go1 / "robot.xml", ('cone="pyramidal">', 'cone="pyramidal" solver="PGS">'))
    found = {finding.engine: finding for finding in findings(go1, "warning")}
    assert set(found) == {"mjx", "warp"}
    assert "solver pgs" in found["warp"].problem and found["warp"].line == 7


# URDF


def test_a_urdf_is_examined_line_by_line(tmp_path):
    urdf = tmp_path / "rover.urdf"
    urdf.write_text(quadruped_urdf())
    assert findings(urdf, "error") == []
    line = change(urdf, ('<mass value="5"/>', '<mass value="0"/>'))
    (finding,) = findings(urdf, "error")
    assert finding.line == line - 2 + 1 and "link 'base' has a mass of 0 kg" in finding.problem


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
