"""A hand with an object: the model, free objects, goals, and the tasks."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from playback_helpers import untrained_bundle

from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.goals import MOST, Goals
from jaxloco.envs.ground import FLAT
from jaxloco.envs.objects import object_quantities
from jaxloco.envs.quantities import Snapshot, angle_between
from jaxloco.envs.randomization import InitialState, random_rotation, scale_object
from jaxloco.errors import ConfigError, RobotError, UnknownNameError
from jaxloco.onboard.spec import InputSpec
from jaxloco.physics import PhysicsState
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.instruments import Instruments
from jaxloco.playback.play import evaluate_bundle
from jaxloco.playback.pursued import Pursued, turn_rates
from jaxloco.robot import Robot, load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.tasks.hand import InHand, spin
from jaxloco.terrain import Terrain

FIGURES = json.loads((Path(__file__).parent / "robot_figures/leap_hand.json").read_text())
CUBE = FIGURES["cube"]


@pytest.fixture(scope="module")
def hand() -> Robot:
    return load_robot("leap_hand")


def turned(axis: str, angle: float) -> np.ndarray:
    quaternion = np.array([np.cos(angle / 2), 0.0, 0.0, 0.0])
    quaternion[1 + "xyz".index(axis)] = np.sin(angle / 2)
    return quaternion


def sampler(seed: int = 0) -> Sampler:
    return Sampler(jax.random.PRNGKey(seed), FULL, 1.0)


# The model


def test_the_model_has_the_published_bodies(hand: Robot) -> None:
    model = hand.model
    for name, figure in FIGURES["bodies"].items():
        body = model.body(name)
        axes = np.empty(9)
        mujoco.mju_quat2Mat(axes, body.iquat)
        inertia = axes.reshape(3, 3) @ np.diag(body.inertia) @ axes.reshape(3, 3).T
        xx, yy, zz, xy, xz, yz = figure["inertia"]
        expected = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        assert model.body(int(body.parentid[0])).name == figure["parent"]
        assert body.mass[0] == pytest.approx(figure["mass"]), name
        np.testing.assert_allclose(body.pos, figure["pos"], atol=2e-5, err_msg=name)
        np.testing.assert_allclose(body.ipos, figure["com"], atol=2e-5, err_msg=name)
        np.testing.assert_allclose(inertia, expected, atol=1e-4 * np.trace(expected), err_msg=name)
    moving = sum(figure["mass"] for figure in FIGURES["bodies"].values())
    assert moving == pytest.approx(FIGURES["hand_mass"] - 0.237)  # the palm is fixed
    cube = model.body("cube")
    assert (cube.mass[0], *cube.inertia) == pytest.approx((CUBE["mass"], *[CUBE["inertia"]] * 3))
    np.testing.assert_allclose(model.geom("cube").size, CUBE["half_size"])


def test_the_model_has_the_published_joints_and_its_fingertips_are_near_theirs(hand: Robot) -> None:
    assert list(hand.joint_names) == list(FIGURES["joints"])
    for name, figure in FIGURES["joints"].items():
        joint = hand.model.joint(name)
        assert hand.model.body(int(joint.bodyid[0])).name == figure["body"]
        np.testing.assert_allclose(joint.axis, figure["axis"], atol=1e-4, err_msg=name)
        np.testing.assert_allclose(joint.range, figure["range"], err_msg=name)
    data = mujoco.MjData(hand.model)
    mujoco.mj_kinematics(hand.model, data)
    palm = data.body("palm")
    for tip in hand.fingertips:
        geom = hand.model.geom(tip.geom)
        along = data.geom(tip.geom).xmat.reshape(3, 3)[:, 2]
        ends = [data.geom(tip.geom).xpos + side * (geom.size[1] + geom.size[0]) * along for side in (-1, 1)]
        own = [palm.xmat.reshape(3, 3).T @ (end - palm.xpos) for end in ends]
        assert min(np.linalg.norm(end - FIGURES["fingertips"][tip.name]) for end in own) < 0.003, tip.name


@pytest.mark.parametrize("friction", [0.3, 0.6, 1.0])
def test_the_cube_rests_in_the_hand_whatever_the_friction(hand: Robot, friction: float) -> None:
    model, data = hand.model, mujoco.MjData(hand.model)
    before = model.pair_friction.copy()
    model.pair_friction[:, :2] = friction
    try:
        data.qpos[:], data.ctrl[:] = hand.default_qpos, hand.default_ctrl
        mujoco.mj_step(model, data, nstep=round(1.0 / model.opt.timestep))
        start = data.qpos[hand.object_indices("cube")[0]].copy()
        mujoco.mj_step(model, data, nstep=round(10.0 / model.opt.timestep))
    finally:
        model.pair_friction[:] = before
    now = data.qpos[hand.object_indices("cube")[0]]
    np.testing.assert_allclose(now[:3], start[:3], atol=0.01)
    assert np.abs(now[3:] @ start[3:]) > np.cos(0.1)  # turned by less than 0.2 rad
    assert now[2] > 0.0 and np.abs(data.qvel).max() < 0.02


# Objects of a robot folder


OBJECT = """[[objects]]
name = "cube"
body = "cube"
position = [0.103, 0.006, 0.030] # m: above the palm, where it fits in however it is turned
orientation = [0.985, 0.0, 0.1723, 0.0]
"""
FOLDERS: dict[str, tuple[str, str, str, str]] = {
    "not free": (
        "robot.xml",
        '<freejoint name="cube"/>',
        "",
        r"'body' in \[\[objects\]\] 'cube': body 'cube' is not free",
    ),
    "no mass": (
        "robot.xml",
        '<inertial pos="0 0 0" mass="0.108" diaginertia="0.0000882 0.0000882 0.0000882"/>',
        "",
        r"body 'cube' has no mass; add <inertial",
    ),
    "inside": (
        "robot.toml",
        "0.030]",
        "0.010]",
        r"'position' in \[\[objects\]\] 'cube': begins [\d.]+ mm inside geom 'palm'",
    ),
    "no body": ("robot.toml", 'body = "cube"', 'body = "cub"', r"no body 'cub' in .*Did you mean 'cube'\?"),
    "no unit": ("robot.toml", "[0.985,", "[1.985,", r"'orientation' .*expected a unit quaternion"),
    "not named": ("robot.toml", OBJECT, "", r"free joint\. Add: base_body = \"cube\", or \[\[objects\]\] for a body"),
    "no tip": ("robot.toml", '"thumb_tip"', '"thumb_tap"', r"no geom 'thumb_tap' .*Did you mean 'thumb_tip'\?"),
    "twice": ("robot.toml", 'name = "middle"', 'name = "index"', r"'index' is there twice"),
    "two objects of one body": (
        "robot.toml",
        OBJECT,
        OBJECT + OBJECT.replace('name = "cube"', 'name = "other"'),
        r"'other': body 'cube' is another object's already; name this object's own body",
    ),
    "no pair": ("robot.xml", 'geom1="cube"', 'geom1="stand"', r"no geom of body 'cube' itself is in a contact pair"),
    "tip of the object": ("robot.toml", '"index_tip"', '"cube"', r"'index': geom 'cube' is of object 'cube'; name a"),
    "tip of the world": ("robot.toml", '"index_tip"', '"floor"', r"'index': geom 'floor' is of the world; name a geom"),
    "tip that touches nothing": (
        "robot.toml",
        '"index_tip"',
        '"index_servo_1"',
        r"'index': geom 'index_servo_1' can touch no object; in .* add <contact><pair geom1=\"index_servo_1\"",
    ),
    "one tip twice": ("robot.toml", '"index_tip"', '"middle_tip"', r"'middle_tip' is another fingertip already"),
    "base": ("robot.toml", 'model = "robot.xml"', 'model = "robot.xml"\nbase_body = "cube"', "is the robot's base"),
}


def broken(tmp_path: Path, file: str, old: str, new: str) -> Path:
    folder = tmp_path / "leap_hand"
    shutil.copytree(robots_dir() / "leap_hand", folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    return folder


@pytest.mark.parametrize("case", FOLDERS)
def test_objects_that_cannot_be_are_refused(case: str, tmp_path: Path) -> None:
    *change, message = FOLDERS[case]
    with pytest.raises(RobotError, match=message) as caught:
        load_robot(broken(tmp_path, *change))
    assert "\n" not in str(caught.value)


def test_a_robot_without_objects_is_refused_by_tasks_that_need_one() -> None:
    with pytest.raises(RobotError, match=r"has no fingertips, which this task needs.*\n\[\[fingertips\]\]\nname = "):
        InHand(robot="cartpole").spec()
    with pytest.raises(UnknownNameError, match="object of robot 'cartpole'"):
        load_robot("cartpole").object_indices("cube")


FLYING = """<mujoco><worldbody>
  <body name="base" pos="0 0 1"><freejoint/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
    <geom name="base" size="0.1" contype="0" conaffinity="0"/>
    <body name="arm"><joint name="arm" axis="0 1 0" range="-1 1"/><inertial pos="0 0 0" mass="1" diaginertia="1 1 1"/>
      <geom name="arm" size="0.05" pos="0.3 0 0" contype="0" conaffinity="0"/></body></body>
  <body name="ball" pos="0.4 0 1"><freejoint/><inertial pos="0 0 0" mass="0.1" diaginertia="0.1 0.1 0.1"/>
    <geom name="ball" size="0.04" contype="0" conaffinity="0"/></body>
</worldbody><contact><pair geom1="ball" geom2="arm"/></contact></mujoco>"""

FLYING_TOML = """schema = 1
[robot]
name = "flying"
model = "robot.xml"
base_body = "base"
[timing]
control_frequency = 50.0
simulation_timestep = 0.002
[pose]
base_position = [0.0, 0.0, 1.0]
[[joints]]
name = "arm"
kp = 1.0
kd = 0.1
torque_limit = 1.0
velocity_limit = 1.0
[[objects]]
name = "ball"
body = "ball"
position = [0.4, 0.0, 1.0]
[[fingertips]]
name = "arm"
geom = "arm"
"""


@pytest.fixture(scope="module")
def flying(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    folder = tmp_path_factory.mktemp("flying")
    (folder / "robot.xml").write_text(FLYING)
    (folder / "robot.toml").write_text(FLYING_TOML)
    return load_robot(folder)


def read(robot: Robot, qpos: np.ndarray, qvel: np.ndarray) -> dict[str, np.ndarray]:
    """All quantities of objects and fingertips, as in training."""
    data = mujoco.MjData(robot.model)
    data.qpos[:], data.qvel[:] = qpos, qvel
    mujoco.mj_forward(robot.model, data)
    none = jnp.zeros(0)
    state = PhysicsState(jnp.asarray(qpos, jnp.float32), jnp.asarray(qvel, jnp.float32), none, none)
    readings = {"sensordata": jnp.asarray(data.sensordata, jnp.float32)}
    snapshot = Snapshot(state, readings, {}, none, none, none, none, {}, jnp.float32(0.0))
    return {quantity.name: np.asarray(quantity.function(snapshot)) for quantity in object_quantities(robot)}


@pytest.mark.parametrize("name", ["hand", "flying"])
def test_quantities_of_objects_are_those_of_mujocos_kinematics(name: str, request: pytest.FixtureRequest) -> None:
    robot: Robot = request.getfixturevalue(name)
    rng = np.random.default_rng(0)
    for _ in range(5):
        qpos, qvel = robot.default_qpos + 0.3 * rng.normal(size=robot.model.nq), rng.normal(size=robot.model.nv)
        mujoco.mj_normalizeQuat(robot.model, qpos)
        panel, found = Instruments(robot).at(qpos, qvel), read(robot, qpos, qvel)
        found.pop("fingertip_contacts")
        for quantity, value in found.items():
            here = np.asarray(panel[quantity])
            if quantity.endswith("orientation"):
                here = here * np.sign(here @ value)
            np.testing.assert_allclose(value, here, atol=1e-5, err_msg=quantity)


def test_an_object_is_seen_from_the_base(flying: Robot) -> None:
    qpos, qvel = flying.default_qpos.copy(), np.zeros(flying.model.nv)
    qpos[3:7] = turned("z", np.pi / 2)
    qvel[flying.object_indices("ball")[1]] = [1.0, 0.0, 0.0, 0.0, 0.0, 2.0]
    found = read(flying, qpos, qvel)
    np.testing.assert_allclose(found["ball_position"], [0.0, -0.4, 0.0], atol=1e-6)
    np.testing.assert_allclose(found["ball_linear_velocity"], [0.0, -1.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(found["ball_angular_velocity"], [0.0, 0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(found["ball_axes"], [0.0, -1.0, 0.0, 1.0, 0.0, 0.0], atol=1e-6)
    assert found["ball_height"] == 1.0


@pytest.mark.parametrize(("gap", "touches"), [(0.01, 0.0), (-0.001, 1.0)])
def test_a_fingertip_touches_the_object_where_they_meet(flying: Robot, gap: float, touches: float) -> None:
    qpos = flying.default_qpos.copy()
    qpos[flying.object_indices("ball")[0][0]] = 0.3 + 0.05 + 0.04 + gap
    assert read(flying, qpos, np.zeros(flying.model.nv))["fingertip_contacts"].tolist() == [touches]


# Where objects begin, and how they differ


def test_objects_begin_where_they_are_drawn(hand: Robot) -> None:
    places, _ = hand.object_indices("cube")
    start = hand.default_qpos[places]
    state = InitialState(object_positions=Range(0.01, 0.02), object_turns=Range(np.pi / 2, np.pi / 2))
    qpos = np.asarray(state.draw(hand, sampler())[0])
    assert ((qpos[places[:3]] - start[:3] > 0.01) & (qpos[places[:3]] - start[:3] < 0.02)).all()
    w, x, y, z = start[3:]
    np.testing.assert_allclose(qpos[places[3:]], np.sqrt(0.5) * np.array([w - z, x + y, y - x, z + w]), atol=1e-6)
    np.testing.assert_allclose(np.delete(qpos, places), np.delete(hand.default_qpos, places), atol=1e-6)


def test_on_a_tile_of_terrain_an_object_begins_beside_its_robot(flying: Robot) -> None:
    moved = np.array([3.0, -2.0, 0.25], np.float32)
    tiled = SimpleNamespace(terrain=Terrain(("flat",)), place=lambda position, tile, sampler: position + moved)
    qpos = np.asarray(InitialState().draw_on(flying, tiled, {}, sampler())[0])
    for places in (flying.base_qpos_indices, flying.object_indices("ball")[0]):
        np.testing.assert_allclose(qpos[places[:3]], flying.default_qpos[places[:3]] + moved, rtol=1e-6)
    level = np.asarray(InitialState().draw_on(flying, FLAT, {}, sampler())[0])
    np.testing.assert_allclose(level, flying.default_qpos, rtol=1e-6)


def test_random_rotations_are_uniform() -> None:
    quaternions = np.asarray(
        jax.vmap(lambda key: random_rotation(Sampler(key, FULL, 1.0)))(jax.random.split(jax.random.PRNGKey(0), 4000))
    )
    np.testing.assert_allclose(np.linalg.norm(quaternions, axis=1), 1.0, atol=1e-6)
    second = np.einsum("ni,nj->ij", quaternions, quaternions) / 4000.0
    np.testing.assert_allclose(second, 0.25 * np.eye(4), atol=0.02)  # as of a uniform distribution on the sphere
    angles = 2.0 * np.arccos(np.abs(quaternions[:, 0]))
    assert np.mean(angles) == pytest.approx(np.pi / 2 + 2 / np.pi, abs=0.03)  # of rotations by (1 - cos θ) / π


def test_a_larger_cube_of_the_same_mass_has_the_inertia_of_a_box(hand: Robot) -> None:
    model, geom, body = hand.model, int(hand.geom_ids(["cube"])[0]), int(hand.body_ids(["cube"])[0])
    fields = {name: jnp.asarray(getattr(model, name)) for name in ("geom_size", "geom_rbound", "body_inertia")}
    scaled = scale_object(**fields, draw=lambda span: span.high, geoms=[geom], body=body, factor=Range(1.0, 2.0))
    np.testing.assert_allclose(scaled["geom_size"][geom], 0.07)
    np.testing.assert_allclose(scaled["geom_rbound"][geom], 0.07 * np.sqrt(3.0), rtol=1e-6)
    np.testing.assert_allclose(scaled["body_inertia"][body], 0.108 * 0.14**2 / 6.0, rtol=1e-5)
    others = np.arange(model.nbody) != body
    np.testing.assert_array_equal(scaled["body_inertia"][others], np.asarray(fields["body_inertia"])[others])


def test_an_object_of_parts_grows_about_its_origin(tmp_path: Path) -> None:
    moved = '<geom name="cube" type="box" size="0.035 0.035 0.035"'
    folder = broken(tmp_path, "robot.xml", moved, moved + ' pos="0.002 0 0"')
    task = InHand(robot=str(folder), object_size=(1.05, 1.05))
    model, names = load_robot(folder).model, ("geom_size", "geom_rbound", "geom_pos", "body_ipos", "body_inertia")
    randomizer = next(each for each in task.spec().randomization if each.name == "object size")
    fields = {name: jnp.asarray(getattr(model, name)) for name in names}
    scaled = randomizer.function(**fields, draw=lambda span: span.high, **randomizer.constants)
    geom, body = model.geom("cube").id, model.body("cube").id
    np.testing.assert_allclose(scaled["geom_pos"][geom], [0.0021, 0.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(scaled["geom_size"][geom], 0.03675, rtol=1e-6)
    np.testing.assert_allclose(scaled["body_inertia"][body], 0.0000882 * 1.05**2, rtol=1e-5)
    np.testing.assert_array_equal(scaled["body_ipos"], np.asarray(fields["body_ipos"]))  # it is at the origin


MESH = '<mesh name="m" vertex="-3 -3 -3 3 -3 -3 -3 3 -3 3 3 -3 -3 -3 3 3 -3 3 -3 3 3 3 3 3" scale="0.01 0.01 0.01"/>'


def test_the_size_of_a_mesh_is_not_drawn_since_that_would_change_its_inertia_alone(tmp_path: Path) -> None:
    folder = broken(tmp_path, "robot.xml", 'type="box" size="0.035 0.035 0.035"', 'type="mesh" mesh="m"')
    text = (folder / "robot.xml").read_text()
    (folder / "robot.xml").write_text(text.replace("<asset>", f"<asset>{MESH}"))
    with pytest.raises(ConfigError, match=r"geom 'cube' .* is a mesh, .*write --task.object_size 1 1"):
        InHand(robot=str(folder)).spec()
    assert InHand(robot=str(folder), object_size=(1.0, 1.0)).spec().robot == str(folder)


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "large": ({"object_size": (0.5, 2.0)}, r"object 'cube' at 2 times its size begins [\d.]+ mm inside geom '\w+'"),
    "tumbled": ({"object_size": (0.9, 1.2), "goal": "any"}, r"at 1.2 times its size begins [\d.]+ mm inside"),
    "dropped": ({"lowest": 0.025}, r"begins at 0.03 ± 0.005 m, so it counts as dropped at once; write less than 0.025"),
    "at once": ({"goal": "yaw", "tolerance": 1.6}, r"a quarter turn away, 1.5708 rad, so it is reached at once"),
    "late": ({"goal": "yaw", "goal_seconds": 0.05}, r"less than two control periods, 0.1 s"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_episodes_that_would_end_as_they_begin_are_refused(case: str) -> None:
    options, message = IMPOSSIBLE[case]
    with pytest.raises(ConfigError, match=message):
        InHand(**options).spec()


def test_the_largest_object_that_is_let_in_does_not_begin_inside_the_hand(hand: Robot) -> None:
    model, data = copy.copy(hand.model), mujoco.MjData(hand.model)
    model.geom_size[model.geom("cube").id] *= 1.05
    model.geom_rbound[model.geom("cube").id] *= 1.05
    for goal in ("spin", "any"):
        begin = InHand(goal=goal).spec().initial_state
        for seed in range(20):
            qpos = replace(begin, object_positions=Range(0.0, 0.0)).draw(hand, sampler(seed))[0]
            data.qpos[:] = np.asarray(qpos)
            mujoco.mj_forward(model, data)
            assert min((contact.dist for contact in data.contact[: data.ncon]), default=0.0) > -0.003


# Goals


def test_the_next_goal_is_a_quarter_turn_away_once_one_is_reached() -> None:
    goals = Goals("cube", anywhere=False, tolerance=0.4)
    turns = jnp.tile(jnp.asarray(turned("z", np.pi / 2), jnp.float32), (MOST, 1))
    state = goals.begin(turns, jnp.array([1.0, 0.0, 0.0, 0.0]))
    assert float(state.distance) == pytest.approx(np.pi / 2, abs=1e-5)
    state = goals.step(state, jnp.asarray(turned("z", 1.1), jnp.float32), 0.05)
    assert (float(state.reached), float(state.age)) == (0.0, pytest.approx(0.05))
    state = goals.step(state, jnp.asarray(turned("z", 1.3), jnp.float32), 0.05)
    assert (float(state.reached), float(state.age)) == (1.0, 0.0)
    assert float(state.distance) == pytest.approx(np.pi - 1.3, abs=1e-5)
    np.testing.assert_allclose(state.goal, turned("z", np.pi), atol=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "angle"), [("x", "x", 0.5), ("x", "y", np.arccos(np.cos(0.5) ** 2)), ("z", "z", 0.0)]
)
def test_angles_between_orientations_do_not_depend_on_the_quaternions_sign(a: str, b: str, angle: float) -> None:
    first, second = turned(a, np.pi / 2 if a != b else 0.7 + angle), turned(b, 0.7 if a == b else np.pi / 2)
    if a != b:
        angle = 2.0 * np.arccos(first @ second)
    for sign in (1.0, -1.0):
        found = angle_between(jnp.asarray(first, jnp.float32), jnp.asarray(sign * second, jnp.float32))
        assert float(found) == pytest.approx(angle, abs=2e-5)


@pytest.mark.parametrize("anywhere", [False, True])
def test_goals_in_plain_mujoco_are_those_of_training(anywhere: bool) -> None:
    goals = Goals("cube", anywhere, tolerance=0.9)
    turns, rng = np.asarray(goals.turns(sampler(3))), np.random.default_rng(0)
    orientation = turned("x", 0.3)
    pursued = Pursued(goals, turns, 0.05)
    pursued.reset({"cube_orientation": orientation})
    state, step = goals.begin(jnp.asarray(turns), jnp.asarray(orientation, jnp.float32)), jax.jit(goals.step)
    for _ in range(60):
        toward = np.asarray(state.goal, float)
        orientation = (
            orientation + 0.3 * (toward * np.sign(toward @ orientation) - orientation) + 0.05 * rng.normal(size=4)
        )
        orientation /= np.linalg.norm(orientation)
        now = {"cube_orientation": orientation}
        state = step(state, jnp.asarray(orientation, jnp.float32), 0.05)
        pursued.tick(now)
        found = pursued.readings(now)
        assert found["goals_reached"] == float(state.reached)
        assert found["goal_age"] == pytest.approx(float(state.age), abs=1e-5)
        assert found["goal_distance"] == pytest.approx(float(state.distance), abs=2e-3)
    assert pursued.reached > 5


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 4.0])
def test_goals_that_cannot_be_reached_are_refused(tolerance: float) -> None:
    with pytest.raises(ConfigError, match="tolerance"):
        InHand(goal="yaw", tolerance=tolerance)
    with pytest.raises(ConfigError, match="tolerance"):
        Goals("cube", anywhere=True, tolerance=tolerance)


# Tasks


@pytest.mark.parametrize("name", ["leap-spin", "leap-reorient"])
def test_the_interface_says_what_others_than_the_hand_measure(name: str) -> None:
    config = recipe(name)
    assert config.task.name == name
    spec: Any = config.task.spec()
    sources = {item.name: item.source for item in spec.build("native").interface().inputs}
    goals = {} if name == "leap-spin" else {"goal_axes": "external"}
    seen = {"joint_offsets": "sensor", "last_action": "policy", "cube_position": "external", "cube_axes": "external"}
    assert sources == seen | goals
    assert InputSpec("cube_position", "m", 3, source="external").source == "external"


def test_spinning_is_worth_no_more_above_the_limit() -> None:
    worth = [float(spin(jnp.array([9.0, 9.0, rate]), limit=1.0)) for rate in (-3.0, 0.25, 3.0)]
    assert worth == [-1.0, 0.25, 1.0]


def test_a_bundle_pursues_goals_in_plain_mujoco_as_in_training(tmp_path: Path) -> None:
    task = {"tolerance": 3.14}  # each step reaches a goal, whatever it is
    folder = untrained_bundle("leap-reorient", tmp_path / "policy", task=task, net_arch_pi=(8,), net_arch_vf=(8,))
    figures = evaluate_bundle(folder, Conditions(seconds=0.5), 2, 0, compare_seconds=0.5)
    assert figures["goals"] == {"median": 10.0, "mean": 10.0, "reached": [10, 10]}
    assert figures["first_difference"] is None
    assert figures["reward_raw"]["object_velocity"] > 0.0 and abs(figures["turn_rates"]["cube"]) < 1.0
    text = json.loads((folder / "policy.json").read_text())
    assert text["schema"] == "jaxloco-policy/2"  # which a jaxloco that knows no inputs from outside refuses
    outside = [item["name"] for item in text["inputs"] if item["source"] == "external"]
    assert outside == ["cube_position", "cube_axes", "goal_axes"]


def test_turn_rates_by_hand_and_of_episodes_that_end_at_once(hand: Robot) -> None:
    path = np.tile(hand.default_qpos, (3, 1))
    for row, angle in zip(path, (0.0, 0.1, 0.3), strict=True):
        row[hand.object_indices("cube")[0][3:]] = turned("z", angle)
    assert turn_rates(hand, [path, path[:1]])["cube"] == pytest.approx(0.15 * 20.0)  # 0.1 and 0.2 rad, 20 Hz
    assert turn_rates(hand, [path[:1]]) == turn_rates(hand, []) == {"cube": 0.0}
