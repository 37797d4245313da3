"""Parts of a robot that can touch each other, and how far they pass through each other where that is not simulated."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from jaxloco.envs.feet import foot_quantities
from jaxloco.errors import RobotError
from jaxloco.playback.instruments import Instruments
from jaxloco.playback.simulator import Record
from jaxloco.playback.standing import landings, stand_figures
from jaxloco.robot import load_robot
from jaxloco.self_contact import TOLERANCE, SelfContacts, let_touch

# Two fingers on slides that meet in the middle, a palm between them that only touches the left one's parent, and a lid
# that is inside the palm by construction.
FINGERS = """
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <body name="palm" pos="0 0 1">
      <freejoint/>
      <geom name="palm" type="sphere" size="0.01" mass="1"/>
      <body name="lid" pos="0 0 0.2">
        <body name="hinge">
          <joint type="hinge" axis="0 0 1" range="-0.1 0.1" limited="true"/>
          <geom name="lid" type="sphere" size="0.01" pos="0 0 -0.195" mass="1"/>
        </body>
      </body>
      <body name="left" pos="0 0.05 0.5">
        <joint name="left" type="slide" axis="0 1 0" range="-0.04 0.04" limited="true"/>
        <geom name="left" type="sphere" size="0.02" mass="1"/>
      </body>
      <body name="right" pos="0 -0.05 0.5">
        <joint name="right" type="slide" axis="0 1 0" range="-0.04 0.04" limited="true"/>
        <geom name="right" type="sphere" size="0.02" mass="1"/>
      </body>
      <body name="far" pos="0 0.5 0.5">
        <joint type="slide" axis="0 1 0" range="-0.04 0.04" limited="true"/>
        <geom name="far" type="sphere" size="0.02" mass="1"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def fingers() -> SelfContacts:
    spec = mujoco.MjSpec.from_string(FINGERS)
    default = spec.compile().qpos0
    return SelfContacts(mujoco.MjSpec.from_string(FINGERS), ("palm", "lid", "left", "right", "far"), default)


def poses(*closings: float) -> np.ndarray:
    """Both fingers moved inward by so much, m; 0.06 m are between them."""
    rows = np.zeros((len(closings), 11))
    rows[:, 3] = 1.0
    rows[:, 8], rows[:, 9] = -np.array(closings), closings
    return rows


def test_only_parts_that_can_meet_are_pairs(fingers):
    assert fingers.pairs == (("left", "right"),)  # not the floor, nor what is apart, nor what is inside by construction


def test_overlaps_by_hand(fingers):
    found = fingers.overlaps(poses(0.0, 0.029, 0.0305, 0.034, 0.033))  # apart, apart, 1 mm, 8 mm and 6 mm deep
    assert found.share == pytest.approx(2 / 5)
    (pair,) = found.pairs
    assert (pair.geoms, pair.share) == (("left", "right"), pytest.approx(2 / 5))
    assert pair.depth == found.depth == pytest.approx(0.008, abs=1e-6)
    assert found.figures() == {
        "share": found.share,
        "depth": found.depth,
        "pairs": [{"geoms": ["left", "right"], "share": pair.share, "depth": pair.depth}],
    }
    assert "8.0 mm at most; most often left and right (40 %)" in str(found)


def test_parts_that_only_touch_are_no_overlap(fingers):
    found = fingers.overlaps(poses(0.0, 0.0305))
    assert (found.share, found.depth, found.pairs) == (0.0, 0.0, ()) and TOLERANCE == 0.002
    assert str(found) == "no two parts of the robot more than 2 mm inside each other"


def test_left_and_right_meet_the_same_on_every_robot_of_ours():
    for name in ("go1", "go2", "anymal_c", "berkeley_humanoid"):
        robot = load_robot(name)
        soles = {geom for foot in robot.feet for geom in foot.geoms}
        assert soles <= set(robot.collision_geoms)
        met = {geom for pair in robot.self_contacts.pairs for geom in pair}
        assert soles <= met, name  # each foot can touch something


def test_a_humanoid_with_its_feet_inside_each_other_is_measured_though_training_would_not_feel_it():
    robot = load_robot("berkeley_humanoid")
    qpos = np.array(robot.default_qpos)
    apart = robot.self_contacts.overlaps(qpos[None])
    assert apart.share == 0.0
    inward = robot.joint_indices(["LL_HAA", "LR_HAA"])
    qpos[robot.joint_qpos_indices[inward]] = [0.4, -0.4]
    crossed = robot.self_contacts.overlaps(qpos[None])
    assert crossed.share == 1.0 and crossed.depth > 0.01


# robot.toml


def folder_with(tmp_path, name, **replacements):
    folder = tmp_path / name
    shutil.copytree(load_robot(name).folder, folder)
    file = folder / "robot.toml"
    text = file.read_text()
    for old, new in replacements.values():
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return folder


def test_self_contacts_of_robot_toml_touch_in_training(tmp_path):
    line = ('imu_site = "imu"\n', 'imu_site = "imu"\nself_contacts = ["*_foot"]\n')
    folder = folder_with(tmp_path, "go1", line=line)
    model = load_robot(folder).model
    floor = model.geom("floor").id
    own = [(a, b) for a, b in zip(model.pair_geom1, model.pair_geom2, strict=True) if floor not in (a, b)]
    assert len(own) >= 2 and all(model.geom(i).name.endswith("_foot") for pair in own for i in pair)


@pytest.mark.parametrize(("apart", "margin"), [(0.06, TOLERANCE), (0.0005, 0.0005), (-0.001, 0.0)])
def test_parts_push_before_they_are_inside_each_other(apart, margin):
    """From two millimetres on; or from where they are in the default pose, where nothing may push."""
    spec = mujoco.MjSpec.from_string(FINGERS)
    default = spec.compile().qpos0
    default[8:10] = [-(0.06 - apart) / 2, (0.06 - apart) / 2]
    let_touch(spec, [("left", "right")], default)
    assert spec.compile().pair_margin == pytest.approx([margin], abs=1e-9)


def test_self_contacts_that_match_nothing_are_refused(tmp_path):
    line = ('imu_site = "imu"\n', 'imu_site = "imu"\nself_contacts = ["*_fot"]\n')
    with pytest.raises(RobotError, match=r"self_contacts.*no geom matches '\*_fot'"):
        load_robot(folder_with(tmp_path, "go1", line=line))


def test_a_foot_that_touches_the_other_foot_does_not_stand():
    """In the air, with the soles pressed together: contact with each other, none with the ground."""
    robot = load_robot("berkeley_humanoid", "full")
    data = mujoco.MjData(robot.model)
    data.qpos[:] = robot.default_qpos
    data.qpos[2] = 3.0
    inward = robot.joint_indices(["LL_HAA", "LR_HAA"])
    data.qpos[robot.joint_qpos_indices[inward]] = [0.4, -0.4]
    mujoco.mj_forward(robot.model, data)
    names = {robot.model.geom(g).name for contact in data.contact for g in contact.geom}
    assert {"left_sole", "right_sole"} & names and "floor" not in names
    forces = next(q for q in foot_quantities(robot) if q.name == "foot_forces")

    snapshot = SimpleNamespace(readings={"sensordata": jnp.float32(data.sensordata)})
    np.testing.assert_array_equal(forces.function(snapshot), np.zeros((2, 3)))


def test_the_robot_knows_which_of_its_parts_touch():
    """The soles pressed together, and nothing else; the sensors are those of the pairs that touch in training."""
    for variant in (None, "full"):
        robot = load_robot("berkeley_humanoid", variant)
        data = mujoco.MjData(robot.model)
        contacts = next(q for q in foot_quantities(robot) if q.name == "self_contacts")
        inward = robot.joint_qpos_indices[robot.joint_indices(["LL_HAA", "LR_HAA"])]
        for angle, touching in ((0.0, 0), (0.38, 1)):
            data.qpos[:] = robot.default_qpos
            data.qpos[2], data.qpos[inward] = 3.0, [angle, -angle]
            mujoco.mj_forward(robot.model, data)
            found = contacts.function(SimpleNamespace(readings={"sensordata": jnp.float32(data.sensordata)}))
            assert found.shape == (15,) and found.sum() == touching
    assert not len(foot_value(load_robot("go1", "full"), "self_contacts"))  # its legs do not meet in training


def foot_value(robot, name):
    contacts = next(q for q in foot_quantities(robot) if q.name == name)
    return contacts.function(SimpleNamespace(readings={"sensordata": jnp.zeros(robot.model.nsensordata)}))


# Standing


def test_drift_and_steps_by_hand():
    robot = load_robot("go1")
    record = Record()
    lifted = np.array(robot.default_qpos)
    lifted[robot.joint_qpos_indices[1]] += 0.4  # the thigh of the first leg: its foot leaves the ground
    for step in range(120):
        qpos = np.array(lifted if 60 <= step < 70 or 20 <= step < 25 else robot.default_qpos)
        qpos[0] += 1e-4 * step
        record.qpos.append(qpos)
        record.qvel.append(np.zeros(robot.model.nv))
    found = stand_figures(robot, Instruments(robot), [record, record])
    assert found["steps"] == 2  # one in each episode after its first second
    assert found["drift"] == {"mean": pytest.approx(0.0119), "largest": pytest.approx(0.0119)}
    assert found["settled_drift"] == {"mean": pytest.approx(0.0069), "largest": pytest.approx(0.0069)}


def test_a_foot_lands_when_it_was_in_the_air_and_is_no_more():
    assert landings(np.array([[True], [False], [False], [True], [False], [True]])) == 2


def test_the_variant_of_a_robot_measures_like_the_robot_itself():
    robot = load_robot("go2")
    assert load_robot("go2", "full").collision_geoms == robot.collision_geoms
    assert replace(robot).self_contacts.pairs == robot.self_contacts.pairs
