"""Legged robots: compiled models against published figures, standing, variants, and what a broken folder gets.

The figures in tests/robot_figures are facts from the sources named there, in frames parallel to the base frame when
every joint is at zero; robot.xml was not made from them.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
from long_robots import long_copy
from sampled import sampled

from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks.velocity import Velocity

QUADRUPEDS = ("go1", "go2", "anymal_c")
LEGGED = (*QUADRUPEDS, "berkeley_humanoid", "unitree_g1", "microduck")
VARIANTS = (None, "full")
FIGURES = Path(__file__).parent / "robot_figures"


@pytest.fixture(scope="module", params=LEGGED)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def robot(name: str) -> Robot:
    return load_robot(name)


@pytest.fixture(scope="module")
def figures(name: str) -> dict:
    return json.loads((FIGURES / f"{name}.json").read_text())


def in_default_pose(robot: Robot) -> mujoco.MjData:
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    data.ctrl[:] = robot.default_ctrl
    mujoco.mj_forward(robot.model, data)
    return data


def tensor(values: list[float]) -> np.ndarray:
    xx, yy, zz, xy, xz, yz = values
    return np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])


def uprightness(data: mujoco.MjData, robot: Robot) -> float:
    """Cosine of the angle between the base's z axis and the vertical."""
    return float(data.body(robot.base_body).xmat[8])


# Compiled models against the figures


def test_every_variant_has_the_published_bodies(name: str, figures: dict) -> None:
    for variant in VARIANTS:
        model = load_robot(name, variant).model
        assert {model.body(i).name for i in range(1, model.nbody)} == set(figures["bodies"])
        assert model.body_mass.sum() == pytest.approx(figures["total_mass"], rel=1e-6)
        for body, figure in figures["bodies"].items():
            view = model.body(body)
            axes = np.empty(9)
            mujoco.mju_quat2Mat(axes, view.iquat)
            axes = axes.reshape(3, 3)
            inertia = axes @ np.diag(view.inertia) @ axes.T
            expected = tensor(figure["inertia"])
            assert view.mass[0] == pytest.approx(figure["mass"], rel=1e-6), body
            np.testing.assert_allclose(view.ipos, figure["com"], atol=2e-6, err_msg=body)
            np.testing.assert_allclose(inertia, expected, atol=1e-5 * np.trace(expected), err_msg=body)
            np.testing.assert_allclose(view.quat, [1.0, 0.0, 0.0, 0.0], atol=1e-12, err_msg=body)
            if figure["parent"] is not None:
                assert model.body(view.parentid[0]).name == figure["parent"]
                np.testing.assert_allclose(view.pos, figure["pos"], atol=2e-6, err_msg=body)


def test_joints_have_the_published_axes_ranges_and_dynamics(robot: Robot, figures: dict) -> None:
    assert set(robot.joint_names) == set(figures["joints"])
    for joint in robot.joints:
        figure, view = figures["joints"][joint.name], robot.model.joint(joint.name)
        assert robot.model.body(view.bodyid[0]).name == figure["body"]
        np.testing.assert_allclose(view.axis, figure["axis"], atol=2e-6, err_msg=joint.name)
        np.testing.assert_array_equal(view.pos, np.zeros(3))
        np.testing.assert_allclose(view.range, figure["range"], rtol=1e-9, err_msg=joint.name)
        assert view.armature[0] == figure["armature"], joint.name
        assert view.frictionloss[0] == figure["frictionloss"], joint.name


def test_actuators_have_the_published_gains_and_torque_limits(robot: Robot, figures: dict) -> None:
    model = robot.model
    for i, joint in enumerate(robot.joints):
        figure = figures["joints"][joint.name]
        assert model.actuator_gainprm[i, 0] == figure["kp"], joint.name
        assert model.actuator_biasprm[i, 1] == -figure["kp"], joint.name
        assert -model.actuator_biasprm[i, 2] == pytest.approx(figure["d_gain"]), joint.name
        assert np.ravel(model.joint(joint.name).damping)[0] == figure.get("damping", 0.0), joint.name
        np.testing.assert_array_equal(model.actuator_forcerange[i], np.array([-1, 1]) * figure["torque_limit"])
        assert joint.velocity_limit == figure["velocity_limit"], joint.name


def test_feet_are_where_the_figures_have_them(robot: Robot, figures: dict) -> None:
    assert {foot.name for foot in robot.feet} == set(figures["feet"])
    for foot in robot.feet:
        figure, geom = figures["feet"][foot.name], robot.model.geom(foot.geoms[0])
        assert foot.body == figure["body"]
        assert foot.radius == figure["radius"]
        np.testing.assert_allclose(geom.pos, figure["pos"], atol=2e-6)
        if figure["half_size"] is None:
            np.testing.assert_allclose(foot.position, figure["pos"], atol=2e-6)
        else:  # half the thickness below the middle of the sole
            np.testing.assert_allclose(geom.size, figure["half_size"])
            assert np.linalg.norm(foot.position - geom.pos) == pytest.approx(figure["half_size"][2])
            assert foot.position[2] < geom.pos[2]


def test_robot_controls_at_50_hz_and_has_an_imu(robot: Robot) -> None:
    assert robot.control_frequency == 50.0
    assert robot.substeps * robot.model.opt.timestep == pytest.approx(0.02)
    assert robot.imu_site == "imu"
    assert robot.model.site_bodyid[robot.site_ids(["imu"])[0]] == robot.body_ids([robot.base_body])[0]


# Contacts and poses


@pytest.mark.parametrize("variant", VARIANTS)
def test_feet_touch_the_floor_in_the_default_pose(name: str, variant: str | None) -> None:
    robot = load_robot(name, variant)
    data = in_default_pose(robot)
    for foot in robot.feet:
        body = data.body(foot.body)
        height = body.xpos[2] + (body.xmat.reshape(3, 3) @ foot.position)[2] - foot.radius
        assert abs(height) < 2e-3, foot.name
    data.qpos[2] += 2e-3
    mujoco.mj_forward(robot.model, data)
    assert data.ncon == 0  # so nothing is more than 2 mm inside the floor


def test_only_feet_touch_the_floor_in_training(robot: Robot) -> None:
    model = robot.model
    soles = {geom for foot in robot.feet for geom in foot.geoms}
    pairs = {frozenset((model.geom(a).name, model.geom(b).name)) for a, b in zip(*pair_geoms(model), strict=True)}
    assert {pair for pair in pairs if "floor" in pair} == {frozenset(("floor", sole)) for sole in soles}
    own = {pair for pair in pairs if "floor" not in pair}
    assert bool(own) == (len(robot.feet) == 2)  # a biped's legs touch each other, those of quadrupeds do not meet
    assert not model.geom_contype.any()
    assert set(model.pair_dim) == {3}


def pair_geoms(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    return model.pair_geom1, model.pair_geom2


def test_full_variant_lets_every_hull_touch_the_floor_and_the_hulls_it_can_meet(name: str, robot: Robot) -> None:
    full = load_robot(name, "full")
    hulls = {full.visual_model.geom(i).name for i in range(full.visual_model.ngeom)}
    hulls = {geom for geom in hulls if "_hull_" in geom and not geom.endswith("_box")}
    soles = {geom for foot in robot.feet for geom in foot.geoms}
    pairs = [(full.model.geom(a).name, full.model.geom(b).name) for a, b in zip(*pair_geoms(full.model), strict=True)]
    assert len(pairs) == len({frozenset(pair) for pair in pairs})
    assert {geom for pair in pairs if "floor" in pair for geom in pair} == {"floor"} | hulls | soles
    met = {frozenset(geom.removesuffix("_box") for geom in pair) for pair in pairs if "floor" not in pair}
    assert met == {frozenset(pair) for pair in full.self_contacts.pairs} and len(met) > 10
    assert full.variant == "full" and robot.variant is None
    assert full.model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert full.model.opt.iterations > robot.model.opt.iterations
    assert full.model.body_mass.tolist() == robot.model.body_mass.tolist()


def test_robot_on_its_back_rests_on_its_hull_in_the_full_variant(name: str) -> None:
    robot = load_robot(name, "full")
    data = in_default_pose(robot)
    data.qpos[2:7] = [0.4, 0.0, 1.0, 0.0, 0.0]
    mujoco.mj_step(robot.model, data, round(1.0 / robot.model.opt.timestep))
    assert 0.02 < data.qpos[2] < 0.4
    assert data.ncon >= 1


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("quadruped", QUADRUPEDS)
def test_quadruped_stands_on_its_default_targets_for_two_seconds(quadruped: str, variant: str | None) -> None:
    robot = load_robot(quadruped, variant)
    data = in_default_pose(robot)
    least_upright = 1.0
    for _ in range(100):  # 2 s at 50 Hz
        mujoco.mj_step(robot.model, data, robot.substeps)
        least_upright = min(least_upright, uprightness(data, robot))
    assert least_upright > np.cos(np.radians(4.0))  # measured: at most 2.8 degrees
    assert 0.85 < data.qpos[2] / robot.default_qpos[2] <= 1.0  # sags on its springs: measured 0.88 to 0.94
    assert np.abs(data.qpos[:2]).max() < 0.06
    assert np.abs(data.qvel).max() < 0.05
    assert data.ncon == 4


def test_biped_topples_on_its_default_targets_as_the_published_model_does() -> None:
    """Toppling takes m g h = 68 N m/rad, as much as both ankles give (2 x 35): a policy has to balance it."""
    robot = load_robot("berkeley_humanoid")
    data = in_default_pose(robot)
    ankles = [joint.kp for joint in robot.joints if joint.name.endswith("FFE")]
    stiffness = robot.model.body_mass.sum() * 9.81 * data.subtree_com[1, 2]
    assert stiffness == pytest.approx(sum(ankles), rel=0.05)
    mujoco.mj_step(robot.model, data, 25 * robot.substeps)
    assert uprightness(data, robot) > 0.95  # half a second: time enough for a policy
    mujoco.mj_step(robot.model, data, 75 * robot.substeps)
    assert uprightness(data, robot) < 0.5


def test_biped_stands_with_trunk_feedback() -> None:
    robot = load_robot("berkeley_humanoid")
    data = in_default_pose(robot)
    ankles = robot.joint_indices(["LL_FFE", "LR_FFE"])
    hips = robot.joint_indices(["LL_HFE", "LR_HFE"])
    for _ in range(100):  # 2 s at 50 Hz
        _, _, _, w, x, y, z = data.qpos[:7]
        pitch, rate = np.arcsin(2.0 * (w * y - x * z)), data.qvel[4]
        data.ctrl[:] = robot.default_ctrl
        data.ctrl[ankles] += 2.5 * pitch + 0.2 * rate
        data.ctrl[hips] += pitch
        mujoco.mj_step(robot.model, data, robot.substeps)
        assert uprightness(data, robot) > np.cos(np.radians(6.0))


# What a broken folder gets


def broken(tmp_path: Path, edit: Callable[[str], str], file: str = "robot.toml", name: str = "go1") -> Path:
    folder = long_copy(name, tmp_path / name)
    text = (folder / file).read_text()
    edited = edit(text)
    assert edited != text
    (folder / file).write_text(edited)
    return folder


def replace(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new, 1)


def test_unknown_variant_names_the_closest() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown variant of robot 'go1' 'ful'; did you mean 'full'\?"):
        load_robot("go1", "ful")
    with pytest.raises(UnknownNameError, match=r"variant of robot 'upkie' 'full'. Known: none"):
        load_robot("upkie", "full")


def test_robot_without_feet_says_what_to_add() -> None:
    with pytest.raises(
        RobotError, match=r"'upkie' has no feet.*\n\[\[feet\]\]\nname = \"FL\"\ngeoms = \[\"FL_foot\"\]"
    ):
        load_robot("upkie").required_feet()
    assert len(load_robot("go1").required_feet()) == 4


def test_unnamed_joint_is_refused_with_its_body(tmp_path: Path) -> None:
    folder = broken(tmp_path, replace('<joint name="FR_calf_joint" class', "<joint class"), "robot.xml")
    with pytest.raises(RobotError, match=r"body 'FR_calf' has a joint without a name.*<joint name=\"FR_calf_joint\""):
        load_robot(folder)


BROKEN_TOML = {
    "foot geom": ('["FR_foot"]', '["FR_fot"]', r"'geoms' in \[\[feet\]\] 'FR': no geom 'FR_fot' .*mean 'FR_foot'"),
    "foot geoms empty": ('["FR_foot"]', "[]", r"'geoms' in \[\[feet\]\] 'FR': found \[\] .*an array of texts"),
    "foot geoms no list": ('["FR_foot"]', '"FR_foot"', r"expected an array of texts .*geoms = \[\"FL_foot\"\]"),
    "foot body": ('body = "FR_calf"', 'body = "FR_clf"', r"'body' in \[\[feet\]\] 'FR': no body 'FR_clf' .*'FR_calf'"),
    "foot on another body": (
        'body = "FR_calf"',
        'body = "FL_calf"',
        r"'FR_foot' belongs to body 'FR_calf'; write that",
    ),
    "foot that touches nothing": ('["FR_foot"]', '["FR_calf_hull_1"]', r"'FR_calf_hull_1' can touch nothing; .*<pair"),
    "foot twice": ('name = "FL"', 'name = "FR"', r"'FR' is there twice; remove or rename this \[\[feet\]\]"),
    "variant pattern": (
        '"*_hull_*"',
        '"*_hul_*"',
        r"'floor_contacts' in \[variants.full\]: no geom matches '\*_hul_\*'",
    ),
    "variant key": (
        "iterations = 20",
        "iteration = 20",
        r"'iteration' in \[variants.full\]: unknown key.*'iterations'",
    ),
    "variant cone": ('"elliptic"', '"eliptic"', r"line 24: .*expected 'pyramidal' or 'elliptic'.*mean 'elliptic'"),
    "corner beyond limit": (
        "corner_velocity = 13.5",
        "corner_velocity = 31.0",
        r"found 31, expected less than velocity_limit = 30.1, .*write for example corner_velocity = 27.09",
    ),
}


@pytest.mark.parametrize("case", BROKEN_TOML)
def test_broken_robot_toml_names_file_key_and_remedy(tmp_path: Path, case: str) -> None:
    old, new, message = BROKEN_TOML[case]
    folder = broken(tmp_path, replace(old, new))
    with pytest.raises(RobotError, match=message) as caught:
        load_robot(folder)
    assert str(folder / "robot.toml") in str(caught.value)


def test_foot_must_be_a_shape_with_one_kind_of_contact(tmp_path: Path) -> None:
    edit = replace('class="foot" pos="0 0 -0.213"', 'class="foot" type="ellipsoid" size="0.02 0.02 0.02"')
    with pytest.raises(RobotError, match=r"geom 'FR_foot' .* must be one of sphere, capsule, box"):
        load_robot(broken(tmp_path, edit, "robot.xml"))


def test_variant_needs_a_floor(tmp_path: Path) -> None:
    folder = broken(tmp_path, lambda text: text.replace('"floor"', '"ground"'), "robot.xml")
    with pytest.raises(RobotError, match=r"\[variants.full\]: no geom 'floor' to touch; .*add <geom name=\"floor\""):
        load_robot(folder)


# Engines


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_engine_runs_every_variant(name: str, variant: str | None) -> None:
    import jax.numpy as jnp

    from jaxloco.physics import Controls, PhysicsSpec, make_physics

    robot = load_robot(name, variant)
    physics = make_physics(PhysicsSpec(model=robot.model, substeps=robot.substeps), "native")
    qpos = jnp.asarray(robot.default_qpos, jnp.float32)
    state, _ = physics.reset({}, qpos, jnp.zeros(robot.model.nv))
    controls = Controls(jnp.asarray(robot.default_ctrl, jnp.float32), jnp.zeros(6))
    state, _ = physics.step({}, state, controls)
    data = in_default_pose(robot)
    data.qpos[:] = np.asarray(qpos)
    mujoco.mj_step(robot.model, data, robot.substeps)
    np.testing.assert_allclose(state.qpos, data.qpos, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sampled(LEGGED, "berkeley_humanoid"))
def test_engines_agree_after_one_control_period(name: str) -> None:
    import jax
    import jax.numpy as jnp

    from jaxloco.physics import Controls, PhysicsSpec, make_physics
    from jaxloco.physics.motors import motors_of

    robot = load_robot(name)
    robot.model.opt.iterations = robot.model.opt.ls_iterations = 30  # a solver stopped early differs between engines
    results = []
    for engine in ("native", "mjx"):
        spec = PhysicsSpec(model=robot.model, substeps=2, motors=motors_of(robot))
        physics = make_physics(spec, engine)
        qpos = jnp.asarray(robot.default_qpos, jnp.float32).at[2].add(-1e-3)  # pressed into the floor
        state, _ = physics.reset({}, qpos, jnp.zeros(robot.model.nv))
        controls = Controls(jnp.asarray(robot.default_ctrl, jnp.float32) + 0.1, jnp.zeros(6))
        step = jax.jit(physics.step)
        state, _ = step({}, state, controls)
        results.append(jax.device_get(state))
    np.testing.assert_allclose(results[1].qpos, results[0].qpos, atol=1e-5)
    np.testing.assert_allclose(results[1].qvel, results[0].qvel, atol=5e-3)


def test_a_base_that_lies_on_its_side_by_its_own_frame_is_refused(tmp_path: Path) -> None:
    folder = long_copy("go1", tmp_path / "go1")
    toml = folder / "robot.toml"
    level = "base_orientation = [1.0, 0.0, 0.0, 0.0]"
    toml.write_text(toml.read_text().replace(level, "base_orientation = [0.7071068, 0.7071068, 0.0, 0.0]"))
    with pytest.raises(RobotError, match=r"'base_orientation' .*z axis of body 'trunk' is tilted by 90°.* \[1.0, 0.0"):
        load_robot(folder)


def test_a_joint_without_a_range_is_refused_before_anything_compiles(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(robots_dir() / "go1", tmp_path / "go1"))
    xml = folder / "robot.xml"
    xml.write_text(xml.read_text().replace('range="-0.863 0.863"', ""))
    with pytest.raises(ConfigError, match=r"joint 'FR_hip_joint' has no range, .* write range="):
        Velocity(robot=str(folder)).spec()


def test_policies_are_told_how_the_imu_is_turned() -> None:
    """ANYmal's is turned by 90° about the vertical, as its maker's figures say."""
    imu = load_robot("anymal_c").facts()["imu"]
    assert imu["position"] == [0.2488, 0.00835, 0.04628]
    assert imu["orientation"] == pytest.approx([0.5**0.5, 0.0, 0.0, 0.5**0.5], abs=1e-6)
