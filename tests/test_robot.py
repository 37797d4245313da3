"""Robots: compiled models against the makers' figures and known answers, and what a broken folder gets."""

import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import mujoco
import numpy as np
import pytest
from long_robots import long_copy

from jaxloco.errors import RobotError, UnknownNameError
from jaxloco.robot import Robot, known_robots, load_robot, robots_dir
from jaxloco.toml_schema import line_of


@pytest.fixture(scope="module")
def upkie() -> Robot:
    return load_robot("upkie")


# The maker's URDF, read without any of jaxloco's figures.


@dataclass
class Link:
    """Links of the URDF joined by fixed joints, in the base frame with every joint at zero."""

    masses: list[float] = field(default_factory=list)
    centres: list[np.ndarray] = field(default_factory=list)
    inertias: list[np.ndarray] = field(default_factory=list)
    anchor: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @property
    def mass(self) -> float:
        return sum(self.masses)

    @property
    def centre(self) -> np.ndarray:
        return sum(m * c for m, c in zip(self.masses, self.centres, strict=True)) / self.mass

    @property
    def inertia(self) -> np.ndarray:
        total = np.zeros((3, 3))
        for mass, centre, inertia in zip(self.masses, self.centres, self.inertias, strict=True):
            d = centre - self.centre
            total += inertia + mass * (d @ d * np.eye(3) - np.outer(d, d))
        return total


def floats(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def transform(origin: ElementTree.Element | None) -> np.ndarray:
    """Return the 4x4 matrix of a URDF <origin> (roll, pitch, yaw about fixed axes)."""
    matrix = np.eye(4)
    if origin is None:
        return matrix
    (cr, cp, cy), (sr, sp, sy) = (f(floats(origin.get("rpy", "0 0 0"))) for f in (np.cos, np.sin))
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    matrix[:3, :3] = yaw @ pitch @ roll
    matrix[:3, 3] = floats(origin.get("xyz", "0 0 0"))
    return matrix


@dataclass
class Urdf:
    links: dict[str, Link]  # by the joint that moves it; "" is the base
    frames: dict[str, np.ndarray]  # link name -> 4x4 pose in the base
    joints: dict[str, ElementTree.Element]
    root: ElementTree.Element


@pytest.fixture(scope="module")
def urdf() -> Urdf:
    description = pytest.importorskip("upkie_description", reason="the maker's URDF is not installed")
    root = ElementTree.parse(description.URDF_PATH).getroot()
    joints = {joint.get("name"): joint for joint in root.findall("joint")}
    children: dict[str, list[ElementTree.Element]] = {}
    for joint in joints.values():
        children.setdefault(joint.find("parent").get("link"), []).append(joint)
    elements = {link.get("name"): link for link in root.findall("link")}
    frames = {"base": np.eye(4)}
    links = {"": Link()}
    queue = [("base", "")]
    while queue:
        name, group = queue.pop()
        add_inertial(links[group], elements[name].find("inertial"), frames[name])
        for joint in children.get(name, []):
            child = joint.find("child").get("link")
            frames[child] = frames[name] @ transform(joint.find("origin"))
            moved_by = group if joint.get("type") == "fixed" else joint.get("name")
            links.setdefault(moved_by, Link(anchor=frames[child][:3, 3]))
            queue.append((child, moved_by))
    return Urdf(links, frames, joints, root)


def add_inertial(link: Link, inertial: ElementTree.Element, frame: np.ndarray) -> None:
    pose = frame @ transform(inertial.find("origin"))
    tensor = np.zeros((3, 3))
    for i, j, key in (
        (0, 0, "ixx"),
        (1, 1, "iyy"),
        (2, 2, "izz"),
        (0, 1, "ixy"),
        (0, 2, "ixz"),
        (1, 2, "iyz"),
    ):
        tensor[i, j] = tensor[j, i] = float(inertial.find("inertia").get(key))
    link.masses.append(float(inertial.find("mass").get("value")))
    link.centres.append(pose[:3, 3])
    link.inertias.append(pose[:3, :3] @ tensor @ pose[:3, :3].T)


def at_zero(model: mujoco.MjModel) -> mujoco.MjData:
    """Return data with the base frame at the world's origin and every joint at zero."""
    data = mujoco.MjData(model)
    data.qpos[:] = 0.0
    data.qpos[3] = 1.0
    mujoco.mj_forward(model, data)
    return data


MOVED_BY = {
    "base": "",
    "left_upper_leg": "left_hip",
    "left_lower_leg": "left_knee",
    "left_wheel": "left_wheel",
    "right_upper_leg": "right_hip",
    "right_lower_leg": "right_knee",
    "right_wheel": "right_wheel",
}


@pytest.mark.parametrize("body", MOVED_BY)
def test_upkie_body_has_the_mass_and_inertia_of_the_makers_urdf(upkie: Robot, urdf: Urdf, body: str) -> None:
    link = urdf.links[MOVED_BY[body]]
    data = at_zero(upkie.model)
    body_id = upkie.body_ids([body])[0]
    axes = data.ximat[body_id].reshape(3, 3)
    inertia = axes @ np.diag(upkie.model.body_inertia[body_id]) @ axes.T
    assert upkie.model.body_mass[body_id] == pytest.approx(link.mass, rel=1e-9)
    np.testing.assert_allclose(data.xipos[body_id], link.centre, atol=1e-8)
    np.testing.assert_allclose(inertia, link.inertia, atol=1e-7 * np.trace(link.inertia))


@pytest.mark.parametrize("name", [joint for joint in MOVED_BY.values() if joint])
def test_upkie_joint_has_the_axis_anchor_and_limits_of_the_makers_urdf(upkie: Robot, urdf: Urdf, name: str) -> None:
    element, data = urdf.joints[name], at_zero(upkie.model)
    frame = urdf.frames[element.find("child").get("link")]
    joint = upkie.joints[upkie.joint_indices([name])[0]]
    limit = element.find("limit")
    bounded = "lower" in limit.attrib  # the wheels turn without end
    np.testing.assert_allclose(data.joint(name).xanchor, urdf.links[name].anchor, atol=1e-12)
    np.testing.assert_allclose(
        data.joint(name).xaxis, frame[:3, :3] @ floats(element.find("axis").get("xyz")), atol=1e-12
    )
    expected = (float(limit.get("lower")), float(limit.get("upper"))) if bounded else (-np.inf, np.inf)
    assert (joint.lower, joint.upper) == pytest.approx(expected, rel=1e-12)
    assert joint.torque_limit == float(limit.get("effort"))
    assert joint.velocity_limit == float(limit.get("velocity"))


def test_upkie_imu_and_wheels_sit_where_the_makers_urdf_has_them(upkie: Robot, urdf: Urdf) -> None:
    data = at_zero(upkie.model)
    site = upkie.site_ids([upkie.imu_site])[0]
    np.testing.assert_allclose(data.site_xpos[site], urdf.frames["imu"][:3, 3], atol=1e-12)
    np.testing.assert_allclose(data.site_xmat[site].reshape(3, 3), urdf.frames["imu"][:3, :3], atol=1e-12)
    for wheel in upkie.wheels:
        geom = upkie.geom_ids([wheel.geom])[0]
        tire = urdf.root.find(f"link[@name='{wheel.name}_wheel_tire']/collision")
        assert wheel.radius == float(tire.find("geometry/cylinder").get("radius"))
        pose = urdf.frames[f"{wheel.name}_wheel_tire"] @ transform(tire.find("origin"))
        np.testing.assert_allclose(data.geom_xpos[geom], pose[:3, 3], atol=1e-8)


def test_upkie_has_the_total_mass_of_the_makers_urdf(upkie: Robot, urdf: Urdf) -> None:
    total = sum(link.mass for link in urdf.links.values())
    assert upkie.model.body_mass.sum() == pytest.approx(total, rel=1e-9)


# Upkie in the simulator


def test_upkie_stands_on_exactly_two_contacts_in_the_default_pose(upkie: Robot) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    data.qpos[2] -= 1e-4  # the wheels just touch, so press them in
    mujoco.mj_forward(upkie.model, data)
    assert data.ncon == 2
    heights = data.geom_xpos[upkie.geom_ids([wheel.geom for wheel in upkie.wheels]), 2]
    np.testing.assert_allclose(heights + 1e-4 - [wheel.radius for wheel in upkie.wheels], 0.0, atol=1e-3)


def test_upkie_wheels_touch_the_floor_alone_whatever_the_pose(upkie: Robot) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    data.qpos[2] = 0.0  # base on the floor, legs below it
    mujoco.mj_forward(upkie.model, data)
    floor = upkie.geom_ids(["floor"])[0]
    assert data.ncon == 2
    assert all(floor in contact.geom for contact in data.contact)


def test_upkie_settles_within_a_millimetre_of_its_default_height(upkie: Robot) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    for _ in range(100):  # 0.1 s: long for the contact, short for the fall
        mujoco.mj_step(upkie.model, data)
    assert abs(data.qpos[2] - upkie.default_qpos[2]) < 1e-3
    assert np.all(data.qpos[upkie.base_qpos_indices[3:]] @ [1, 0, 0, 0] > 0.99)


def test_upkie_few_solver_iterations_give_the_converged_answer(upkie: Robot) -> None:
    final = []
    for iterations in (upkie.model.opt.iterations, 100):
        model = load_robot("upkie").model
        model.opt.iterations = model.opt.ls_iterations = iterations
        data = mujoco.MjData(model)
        data.qpos[:] = upkie.default_qpos
        for i in range(500):
            data.ctrl[[2, 5]] = np.array([1.0, -1.0]) * 10.0 * np.sin(0.02 * i)
            mujoco.mj_step(model, data)
        final.append(data.qpos.copy())
    np.testing.assert_allclose(final[0], final[1], atol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_upkie_rolls_forward_for_wheel_velocities_along_their_forward_sign(upkie: Robot, sign: float) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    wheels = upkie.joint_indices([wheel.joint for wheel in upkie.wheels])
    data.ctrl[wheels] = [sign * wheel.forward_sign * 2.0 for wheel in upkie.wheels]
    for _ in range(100):
        mujoco.mj_step(upkie.model, data)
    centre = data.geom_xpos[upkie.geom_ids([wheel.geom for wheel in upkie.wheels]), 0].mean()
    assert centre == pytest.approx(sign * 2.0 * 0.05 * 0.1, abs=2e-3)  # speed x radius x time


def test_upkie_turns_left_when_the_right_wheel_rolls_forward_and_the_left_back(upkie: Robot) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    data.ctrl[upkie.joint_indices(["left_wheel", "right_wheel"])] = [-2.0, -2.0]
    for _ in range(300):
        mujoco.mj_step(upkie.model, data)
    assert data.qpos[6] > 0.03  # z of the base's quaternion


def test_upkie_balances_for_two_seconds_under_a_published_kind_of_law(upkie: Robot) -> None:
    data = mujoco.MjData(upkie.model)
    data.qpos[:] = upkie.default_qpos
    data.ctrl[:] = upkie.default_ctrl
    wheels = upkie.joint_indices([wheel.joint for wheel in upkie.wheels])
    tilt = 0.0
    for _ in range(400):  # 2 s at 200 Hz
        _, _, _, w, x, y, z = data.qpos[upkie.base_qpos_indices]
        pitch = np.arcsin(2.0 * (w * y - x * z))
        ground_velocity = 10.0 * pitch + data.qvel[upkie.base_qvel_indices[4]]
        data.ctrl[wheels] = [w.forward_sign * ground_velocity / w.radius for w in upkie.wheels]
        mujoco.mj_step(upkie.model, data, nstep=upkie.substeps)
        tilt = max(tilt, abs(pitch))
    assert tilt < np.radians(3.0)  # robots/README.md of the figures: at most 2.6 degrees


# Actuators


def actuator_force(robot: Robot, joint: str, target: float, position: float, velocity: float) -> float:
    data = mujoco.MjData(robot.model)
    i = robot.joint_indices([joint])[0]
    data.qpos[:] = robot.default_qpos
    data.qpos[robot.joint_qpos_indices[i]] = position
    data.qvel[robot.joint_qvel_indices[i]] = velocity
    data.ctrl[i] = target
    mujoco.mj_forward(robot.model, data)
    return data.qfrc_actuator[robot.joint_qvel_indices[i]]


@pytest.mark.parametrize(
    ("name", "joint", "target", "position", "velocity", "torque"),
    [
        ("upkie", "left_hip", 0.5, 0.3, 1.5, 20.0 * (0.5 - 0.3) - 1.0 * 1.5),
        ("upkie", "right_knee", 2.0, 0.0, 0.0, 16.0),  # 20 x 2 = 40, clipped
        ("upkie", "right_knee", -2.0, 0.0, 0.0, -16.0),
        ("upkie", "left_wheel", 3.0, 7.0, 2.5, 1.0 * (3.0 - 2.5)),
        ("upkie", "right_wheel", 10.0, 0.0, 0.0, 1.7),
        ("upkie", "right_wheel", -10.0, 0.0, 0.0, -1.7),
        ("cartpole", "slider", 3.5, 0.2, -1.0, 3.5),
        ("cartpole", "slider", 50.0, 0.0, 0.0, 10.0),
        ("pendulum", "hinge", -1.25, 1.0, 2.0, -1.25),
        ("pendulum", "hinge", -9.0, 1.0, 2.0, -2.0),
    ],
)
def test_actuator_applies_the_servo_law_clipped_to_the_torque_limit(
    name: str, joint: str, target: float, position: float, velocity: float, torque: float
) -> None:
    assert actuator_force(load_robot(name), joint, target, position, velocity) == pytest.approx(torque)


def test_gains_and_limits_are_fields_of_the_compiled_model(upkie: Robot) -> None:
    model = upkie.model
    np.testing.assert_array_equal(model.actuator_gainprm[:, 0], [20.0, 20.0, 1.0] * 2)
    np.testing.assert_array_equal(model.actuator_biasprm[:, 1], [-20.0, -20.0, 0.0] * 2)
    np.testing.assert_array_equal(model.actuator_biasprm[:, 2], [-1.0] * 6)
    np.testing.assert_array_equal(model.actuator_forcerange[:, 1], [16.0, 16.0, 1.7] * 2)
    np.testing.assert_array_equal(model.actuator_forcerange[:, 0], [-16.0, -16.0, -1.7] * 2)
    assert not model.actuator_ctrllimited.any()


def test_joint_dynamics_of_the_toml_reach_the_model(tmp_path: Path) -> None:
    edit = ("torque_limit = 2.0", "torque_limit = 2.0\narmature = 0.01\ndamping = 0.2\nfrictionloss = 0.3")
    robot = load_robot(broken(tmp_path, "pendulum", toml=edit))
    joint = robot.joints[0]
    assert (joint.armature, joint.damping, joint.frictionloss) == (0.01, 0.2, 0.3)
    assert robot.model.dof_armature[0] == 0.01
    assert np.ravel(robot.model.dof_damping[0])[0] == 0.2
    assert robot.model.dof_frictionloss[0] == 0.3


# Robots with known answers


def period(robot: Robot, qpos_index: int, rest: float, offset: float) -> float:
    """Return the period of a small free oscillation about `rest`, s, from its zero crossings."""
    data = mujoco.MjData(robot.model)
    data.qpos[qpos_index] = rest + offset
    times, values = [], []
    for _ in range(1000):
        mujoco.mj_step(robot.model, data)
        times.append(data.time)
        values.append(data.qpos[qpos_index] - rest)
    t, x = np.array(times), np.array(values)
    before = np.flatnonzero(x[:-1] * x[1:] < 0)
    crossings = t[before] - x[before] * (t[before + 1] - t[before]) / (x[before + 1] - x[before])
    return float(2.0 * np.mean(np.diff(crossings)))


def test_pendulum_swings_with_the_period_of_a_uniform_rod() -> None:
    expected = 2.0 * np.pi * np.sqrt(2.0 * 1.0 / (3.0 * 9.81))  # 2 pi sqrt(I / (m g l/2)), I = m l^2 / 3
    assert period(load_robot("pendulum"), 0, np.pi, 0.01) == pytest.approx(expected, rel=1e-3)


def test_cartpole_swings_about_hanging_with_the_analytic_period() -> None:
    cart, pole, half, g = 1.0, 0.1, 0.5, 9.81
    # Barto et al. (1983), linearised about hanging: th'' = -g th / (half (4/3 - pole / (cart + pole)))
    expected = 2.0 * np.pi * np.sqrt(half * (4.0 / 3.0 - pole / (cart + pole)) / g)
    assert period(load_robot("cartpole"), 1, np.pi, 0.01) == pytest.approx(expected, rel=1e-3)


def test_cartpole_accelerates_as_the_equations_of_barto_say() -> None:
    robot = load_robot("cartpole")
    data = mujoco.MjData(robot.model)
    theta, omega, force, cart, pole, half, g = 0.3, -0.7, 4.0, 1.0, 0.1, 0.5, 9.81
    data.qpos[:] = [0.1, theta]
    data.qvel[:] = [0.2, omega]
    data.ctrl[0] = force
    mujoco.mj_forward(robot.model, data)
    push = (force + pole * half * omega**2 * np.sin(theta)) / (cart + pole)
    alpha = (g * np.sin(theta) - np.cos(theta) * push) / (
        half * (4.0 / 3.0 - pole * np.cos(theta) ** 2 / (cart + pole))
    )
    acceleration = push - pole * half * alpha * np.cos(theta) / (cart + pole)
    np.testing.assert_allclose(data.qacc, [acceleration, alpha], rtol=1e-6)


def test_pendulum_accelerates_as_gymnasium_says() -> None:
    robot = load_robot("pendulum")
    data = mujoco.MjData(robot.model)
    data.qpos[0], data.ctrl[0] = 0.4, 1.5
    mujoco.mj_forward(robot.model, data)
    np.testing.assert_allclose(data.qacc[0], 3.0 * 9.81 / 2.0 * np.sin(0.4) + 3.0 * 1.5, rtol=1e-6)


# Every robot


@pytest.mark.parametrize("name", known_robots())
def test_robot_tables_agree_with_the_model(name: str) -> None:
    robot = load_robot(name)
    model = robot.model
    assert robot.name == name
    assert robot.control_dt == pytest.approx(robot.substeps * model.opt.timestep)
    driven = robot.joints or robot.thrusters
    assert [model.actuator(i).name for i in range(model.nu)] == [part.name for part in driven]
    for joint, qpos, qvel in zip(robot.joint_names, robot.joint_qpos_indices, robot.joint_qvel_indices, strict=True):
        assert (qpos, qvel) == (model.joint(joint).qposadr[0], model.joint(joint).dofadr[0])
    np.testing.assert_allclose(robot.default_qpos[robot.joint_qpos_indices], [joint.default for joint in robot.joints])
    assert robot.default_qpos.shape == (model.nq,)
    assert robot.default_ctrl.shape == (model.nu,)
    assert model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_AUTORESET
    assert (robot.folder / "SOURCE.md").is_file()


@pytest.mark.parametrize("name", known_robots())
def test_visual_model_moves_as_the_physics_model_and_has_a_camera(name: str) -> None:
    robot = load_robot(name)
    final = []
    for model in (robot.model, robot.visual_model):
        data = mujoco.MjData(model)
        data.qpos[:] = robot.default_qpos
        data.ctrl[:] = robot.default_ctrl + 0.1
        for _ in range(50):
            mujoco.mj_step(model, data)
        final.append(data.qpos.copy())
    np.testing.assert_array_equal(final[0], final[1])
    assert robot.visual_model.ngeom > robot.model.ngeom
    assert robot.visual_model.camera("track").id >= 0


@pytest.mark.parametrize("name", known_robots())
def test_mjx_supports_every_feature_of_the_model(name: str) -> None:
    mjx = pytest.importorskip("mujoco.mjx", reason="mujoco-mjx is not installed")
    robot = load_robot(name)
    assert mjx.put_model(robot.model, impl="jax").nu == len(robot.joints or robot.thrusters)


def test_defaults_cannot_be_changed_in_place(upkie: Robot) -> None:
    with pytest.raises(ValueError, match="read-only"):
        upkie.default_qpos[0] = 1.0


def test_unknown_names_list_the_closest_one(upkie: Robot) -> None:
    with pytest.raises(UnknownNameError, match="unknown geom 'left_weel'; did you mean 'left_wheel'"):
        upkie.geom_ids(["left_weel"])
    with pytest.raises(UnknownNameError, match="did you mean 'left_hip'"):
        upkie.joint_indices(["left_hyp"])
    with pytest.raises(TypeError, match=re.escape("write ['base']")):
        upkie.body_ids("base")


# Folders


def test_known_robots_are_the_folders_with_a_robot_toml() -> None:
    assert set(known_robots()) >= {"cartpole", "pendulum", "upkie"}
    assert all((robots_dir() / name / "robot.xml").is_file() for name in known_robots())


def test_a_folder_outside_the_repository_loads_by_path(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(robots_dir() / "upkie", folder)
    for path in (folder, str(folder), folder / "robot.toml"):
        assert load_robot(path).folder == folder


def test_unknown_robot_names_the_closest_one() -> None:
    with pytest.raises(UnknownNameError, match="unknown robot 'upkei'; did you mean 'upkie'"):
        load_robot("upkei")


@pytest.mark.parametrize("path", ["nowhere/robot", "./nowhere", Path("nowhere")])
def test_missing_folder_says_so(path: str | Path) -> None:
    with pytest.raises(RobotError, match=r"nowhere.*no such folder; expected a folder with robot.toml"):
        load_robot(path)


def broken(tmp_path: Path, name: str, toml: tuple[str, str] | None = None, xml: tuple[str, str] | None = None) -> Path:
    """Copy a robot's folder and replace a text, once, in one of its files."""
    folder = long_copy(name, tmp_path / name)
    for edit, file in ((toml, folder / "robot.toml"), (xml, folder / "robot.xml")):
        if edit is not None:
            text = file.read_text()
            assert edit[0] in text, f"{edit[0]!r} is not in {file}"
            file.write_text(text.replace(edit[0], edit[1], 1))
    return folder


UPKIE_POSE = """[pose]
base_position = [0.0, 0.0, 0.557] # m: the wheels touch the floor
base_orientation = [1.0, 0.0, 0.0, 0.0]
"""

BROKEN_TOML = {
    "not TOML": ("kp = 20.0", "kp = = 20.0", r"line 22, column 6\); correct that line"),
    "unknown key": (
        "kp = 20.0",
        "kpp = 20.0",
        r"line 22: 'kpp' in \[\[joints\]\] 'left_hip': unknown key. Did .* 'kp'",
    ),
    "unknown table": ("[timing]", "[timming]", r"line 10: \[timming\]: unknown key. Did you mean 'timing'"),
    "key that is a regular expression": (
        "schema = 1",
        'schema = 1\n"(a+)+$" = 1',
        r"line 3: '\(a\+\)\+\$': unknown key",
    ),
    "table with a bracket": ("[timing]", '["x["]\na = 1\n[timing]', r"line 10: \[x\[\]: unknown key"),
    "variant with a parenthesis": (
        "[timing]",
        '[variants."a("]\ncone = "round"\n[timing]',
        r"'floor_contacts' in \[variants.a\(\]: missing",
    ),
    "huge number": ("kp = 20.0", "kp = 1e308", r"line 22: .*found 1e\+308 .* finite, at most 1e\+09 in size"),
    "rate next to 0": (
        "control_frequency = 200.0",
        "control_frequency = 1e-308",
        r"line 11: .*found 1e-308 .*expected a number > 0 .* and where above 0 at least 1e-09",
    ),
    "slow rate": (
        "control_frequency = 200.0",
        "control_frequency = 0.01",
        r"line 12: .*found 0.001 s, of which 1e\+05 make a control period .* at most 10000; write",
    ),
    "timestep next to 0": (
        "simulation_timestep = 0.001",
        "simulation_timestep = 1e-9",
        r"line 12: .*found 1e-09 s, of which 5e\+06 make .* at most 10000; write",
    ),
    "rate of thousands of digits": (
        "control_frequency = 200.0",
        "control_frequency = " + 5000 * "1",
        r"line 11: a whole number has thousands of digits",
    ),
    "unknown top key": ("schema = 1", "schema = 1\nbase = 2", r"line 3: 'base': unknown key"),
    "missing key": (
        "radius = 0.05\n",
        "",
        r"'radius' in \[\[wheels\]\] 'left': missing; .*wheel radius in m",
    ),
    "missing table": (UPKIE_POSE, "", r"\[pose\] is missing; add it with the key base_position"),
    "wrong type": ("kp = 20.0", 'kp = "stiff"', r"line 22: .*found 'stiff' \(text\), expected a number >= 0"),
    "bool for number": ("kp = 20.0", "kp = true", r"found true \(true or false\), expected a number"),
    "not finite": ("kp = 20.0", "kp = nan", r"found nan \(number\), expected a number >= 0"),
    "wrong length": (
        "[0.0, 0.0, 0.557]",
        "[0.0, 0.557]",
        r"line 15: .*expected an array of 3 numbers \(x y z",
    ),
    "negative limit": (
        "torque_limit = 16.0",
        "torque_limit = -16.0",
        r"line 24: .*found -16.0 .*expected a number > 0",
    ),
    "zero rate": (
        "control_frequency = 200.0",
        "control_frequency = 0",
        r"line 11: .*expected a number > 0 .*Hz",
    ),
    "negative gain": ("kd = 1.0", "kd = -1.0", r"line 23: .*found -1.0 .*Write for example: kd = 1.0"),
    "wrong choice": ('"position"', '"positon"', r"line 21: .*Did you mean 'position'\? Write for example"),
    "future schema": (
        "schema = 1",
        "schema = 2",
        r"line 2: 'schema': found 2, but this jaxloco reads schema 1",
    ),
    "uneven timestep": (
        "simulation_timestep = 0.001",
        "simulation_timestep = 0.0012",
        r"line 12: .*does not divide the control period 0.005 s .*write simulation_timestep = 0.00125",
    ),
    "unknown joint": (
        'name = "left_hip"',
        'name = "left_hop"',
        r"line 19: .*no joint matches 'left_hop' .*Did you .* 'left_hip'",
    ),
    "free joint": (
        'name = "left_hip"',
        'name = "root"',
        r"line 19: .*'root' is a free or ball joint; expected a hinge",
    ),
    "joint twice": ('name = "left_knee"', 'name = "left_hip"', r"line 28: .*'left_hip' is there twice"),
    "kp useless": (
        "kd = 1.0\ntorque_limit = 1.7",
        "kp = 1.0\nkd = 1.0\ntorque_limit = 1.7",
        r"no effect .*remove it",
    ),
    "default outside": (
        "default = 0.0",
        "default = 1.5",
        r"line 20: .*outside the joint's range \[-1.26, 1.26\].*= 1.26",
    ),
    "unknown body": (
        'base_body = "base"',
        'base_body = "bas"',
        r"line 7: .*no body 'bas' .*Did you mean 'base'",
    ),
    "base not free": (
        'base_body = "base"',
        'base_body = "left_wheel"',
        r"line 7: .*'left_wheel' has no free joint; add",
    ),
    "base not named": (
        'base_body = "base"\n',
        "",
        r"'base_body' in \[robot\]: missing, .*Add: base_body = \"base\"",
    ),
    "unknown site": ('imu_site = "imu"', 'imu_site = "imo"', r"line 8: .*no site 'imo' .*Did you mean 'imu'"),
    "unknown model": ('"robot.xml"', '"robots.xml"', r"line 6: .*no such file. Did you mean 'robot.xml'"),
    "not a unit quaternion": (
        "[1.0, 0.0, 0.0, 0.0]",
        "[2.0, 0.0, 0.0, 0.0]",
        r"line 16: .*length 2, .*\[1.0, 0.0, 0.0",
    ),
    "unknown wheel joint": (
        'joint = "left_wheel"',
        'joint = "wheel_left"',
        r"'wheel_left' is none of \[\[joints\]\]",
    ),
    "unknown wheel geom": (
        'geom = "left_wheel"',
        'geom = "left_whel"',
        r"no geom 'left_whel' .*'left_wheel'",
    ),
    "visual wheel geom": (
        'geom = "left_wheel"',
        'geom = "left_tire"',
        r"'left_tire' can touch nothing; .*<pair",
    ),
    "wheel radius": ("radius = 0.05", "radius = 0.06", r"found 0.06 m, but geom 'left_wheel' .* has 0.05 m"),
    "wheel sign": ("forward_sign = 1.0", "forward_sign = -1.0", r"robot's left; write forward_sign = 1.0"),
    "wheel sign value": ("forward_sign = 1.0", "forward_sign = 2.0", r"expected 1.0 or -1.0"),
}


@pytest.mark.parametrize("case", BROKEN_TOML)
def test_broken_robot_toml_names_file_line_key_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, message = BROKEN_TOML[case]
    folder = broken(tmp_path, "upkie", toml=(old, new))
    with pytest.raises(RobotError, match=message) as caught:
        load_robot(folder)
    assert str(folder / "robot.toml") in str(caught.value)


BROKEN_XML = {
    "not XML": ("<worldbody>", "<worldbody", r"MuJoCo cannot read it: .*[Ll]ine"),
    "unknown element": ("<freejoint", "<freejiont", r"MuJoCo cannot read it: .*'freejiont', line"),
    "actuators": (
        "</mujoco>",
        '<actuator><motor name="m" joint="left_hip"/></actuator></mujoco>',
        r"found actuators \('m'\), expected none.*remove the <actuator> section",
    ),
    "inertia guessed": (
        '<inertial pos="0 -0.03553476 -0.00025467353" mass="0.18455"',
        '<site name="other" size="0.01"/><!--',
        r"body 'left_wheel' has no <inertial>, so its mass of .* kg is guessed from its geoms; add <inertial",
    ),
}


@pytest.mark.parametrize("case", BROKEN_XML)
def test_broken_robot_xml_names_file_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, message = BROKEN_XML[case]
    folder = broken(tmp_path, "upkie", xml=(old, new))
    if case == "inertia guessed":
        path = folder / "robot.xml"
        path.write_text(re.sub(r'(<!--\s*fullinertia="[^"]*"/>)', r"\1-->", path.read_text()))
    with pytest.raises(RobotError, match=message) as caught:
        load_robot(folder)
    assert str(folder / "robot.xml") in str(caught.value)


def test_moving_body_without_any_mass_asks_for_an_inertial(tmp_path: Path) -> None:
    folder = broken(tmp_path, "pendulum")
    (folder / "robot.xml").write_text(
        '<mujoco><worldbody><body name="rod"><joint name="hinge"/></body></worldbody></mujoco>'
    )
    with pytest.raises(RobotError, match=r"robot\.xml: MuJoCo cannot compile it: .*give that body <inertial"):
        load_robot(folder)


def test_folder_without_robot_toml_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RobotError, match=r"robot.toml: no such file; create it \(docs/robots.md"):
        load_robot(tmp_path)


def test_pose_of_a_fixed_robot_is_refused(tmp_path: Path) -> None:
    folder = broken(tmp_path, "pendulum", toml=("[[joints]]", "[pose]\nbase_position = [0, 0, 1]\n[[joints]]"))
    with pytest.raises(RobotError, match=r"\[pose\]: this robot has no base_body; remove \[pose\]"):
        load_robot(folder)


def test_robot_without_joints_is_refused(tmp_path: Path) -> None:
    (tmp_path / "robot.toml").write_text(
        'schema = 1\n[robot]\nname = "x"\nmodel = "x.xml"\n'
        "[timing]\ncontrol_frequency = 50\nsimulation_timestep = 0.01\n"
    )
    model = '<mujoco><worldbody><body><freejoint/><geom size="0.1" mass="1"/></body></worldbody></mujoco>'
    (tmp_path / "x.xml").write_text(model)
    with pytest.raises(RobotError, match=r"\[\[joints\]\] is missing; add it .*, or \[\[thrusters\]\] for a robot"):
        load_robot(tmp_path)


def test_value_where_a_table_belongs_shows_the_header_to_write(tmp_path: Path) -> None:
    folder = broken(tmp_path, "pendulum", toml=("schema = 1", "schema = 1\nwheels = 3"))
    expected = r"line 3: 'wheels': found 3 \(whole number\), expected a table; write \[\[wheels\]\]"
    with pytest.raises(RobotError, match=expected):
        load_robot(folder)


def test_a_line_is_found_in_a_table_whose_name_has_spaces_dots_or_brackets() -> None:
    text = "[variants.'my.hull']\nx = 1\n[ variants.\"a b]\" ] # [c]\nx = [\n[1, 2],\n]\ny = 2\n"
    assert [line_of(text, (f"variants.{name}", "x")) for name in ("my.hull", "a b]")] == [2, 4]
    assert line_of(text, ("variants.a b]", "y")) == 7


def test_a_line_is_found_in_the_right_table_of_an_array() -> None:
    text = "schema = 1\n[[a]]\nx = 1\n# x\n[[ a ]]\ny = 2\nx = 3\n[b]\nx = 4\n"
    assert line_of(text, ("schema",)) == 1
    assert line_of(text, ("a", 0, "x")) == 3
    assert line_of(text, ("a", 1, "x")) == 7
    assert line_of(text, ("a", 1, "z")) == 5  # the table's header
    assert line_of(text, ("b", "x")) == 9
    assert line_of(text, ("c", "x")) is None
    text = '[[a]]\nx = 1\n[a.y]\n"*" = 2\n"b_*" = 3\n[[a]]\nx = 1\n[a.y]\n"*" = 2\n'
    assert [line_of(text, ("a", i, "y", "*")) for i in (0, 1)] == [4, 9]
    assert line_of(text, ("a", 0, "y", "b_*")) == 5
    assert line_of(text, ("a", 0, "y", "c")) == line_of(text, ("a", 0, "y")) == 3
    assert line_of(text, ("a", 0, "z")) == 1 and line_of(text, ("a", 0, "x", "c")) == 2
