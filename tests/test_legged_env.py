"""What environments of legged robots add: feet, memories, the gait clock, commands with parts, model draws."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from test_randomization import drawn, exactly, in_default_pose

from jaxloco.envs import feet, gaits
from jaxloco.envs import randomization as rand
from jaxloco.envs.clocks import Clock
from jaxloco.envs.commands import Command
from jaxloco.envs.curriculum import FULL, Range, Sampler
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait, trot
from jaxloco.envs.kinematics import feet_at, foot_chains
from jaxloco.envs.memories import Remembered
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.envs.observations import ObservationGroup, ObservationTerm
from jaxloco.envs.randomization import Randomizer
from jaxloco.envs.rewards import RewardTerm
from jaxloco.errors import ConfigError
from jaxloco.robot import Robot, load_robot
from jaxloco.tasks.cartpole import Cartpole
from jaxloco.tasks.velocity import Velocity

QUADRUPEDS = ("go1", "go2", "anymal_c")


@pytest.fixture(scope="module")
def go1() -> Robot:
    return load_robot("go1")


# Feet


@pytest.mark.parametrize("name", [*QUADRUPEDS, "berkeley_humanoid"])
def test_the_kinematics_of_feet_are_those_of_mujoco(name):
    robot = load_robot(name)
    rng = np.random.default_rng(0)
    data = mujoco.MjData(robot.model)
    data.qpos[:4] = [0.0, 0.0, 0.0, 1.0]
    joints = robot.default_qpos[robot.joint_qpos_indices] + 0.3 * rng.normal(size=len(robot.joints))
    data.qpos[robot.joint_qpos_indices] = joints
    mujoco.mj_forward(robot.model, data)
    expected = [data.site(f"{foot.name}_sole").xpos for foot in robot.feet]
    np.testing.assert_allclose(np.asarray(foot_chains(robot)(jnp.float32(joints))), expected, atol=1e-6)
    found, derivative = feet_at(robot, joints)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    change = 1e-6 * rng.normal(size=len(joints))
    np.testing.assert_allclose(feet_at(robot, joints + change)[0] - found, derivative @ change, atol=1e-10)


SEVERAL = """<mujoco><worldbody><body name="base" pos="0 0 1"><freejoint/><geom size=".1" mass="1"/>
<body name="hip" pos=".1 .2 0" euler="10 0 0">
  <joint name="abduct" axis="1 0 0"/><joint name="swing" axis="0 1 0" pos="0 0 -.02"/><geom size=".05" mass=".1"/>
  <body name="shin" pos="0 0 -.3"><joint name="stretch" type="slide" axis="0 0 1"/><joint name="spring" axis="0 1 0"/>
    <geom size=".03" mass=".1"/></body></body></body></worldbody></mujoco>"""


def test_the_kinematics_of_feet_know_several_joints_of_a_body_slides_and_joints_held_elsewhere():
    model = mujoco.MjModel.from_xml_string(SEVERAL)
    default = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25])
    places = {"joint_qpos_indices": [7, 8, 9], "joint_qvel_indices": [6, 7, 8], "base_qpos_indices": np.arange(7)}
    foot = SimpleNamespace(body="shin", position=np.array([0.0, 0.0, -0.1]))
    robot: Any = SimpleNamespace(model=model, base_body="base", feet=[foot], default_qpos=default, **places)
    joints = np.array([0.3, -0.4, 0.05])
    data = mujoco.MjData(model)
    data.qpos[:] = [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, *joints, default[-1]]
    mujoco.mj_kinematics(model, data)
    shin = data.body("shin")
    expected = [shin.xpos + shin.xmat.reshape(3, 3) @ foot.position]
    np.testing.assert_allclose(feet_at(robot, joints)[0], expected, atol=1e-9)
    np.testing.assert_allclose(foot_chains(robot)(jnp.float32(joints)), expected, atol=1e-6)


def foot_values(robot: Robot, qpos: np.ndarray, steps: int = 0) -> dict[str, np.ndarray]:
    """Return the quantities of feet in a configuration, from MuJoCo's own sensors."""
    data = mujoco.MjData(robot.model)
    data.qpos[:], data.ctrl[:] = qpos, robot.default_ctrl
    mujoco.mj_forward(robot.model, data)
    mujoco.mj_step(robot.model, data, steps)

    physics = SimpleNamespace(qpos=jnp.float32(data.qpos))
    snapshot = SimpleNamespace(readings={"sensordata": jnp.float32(data.sensordata)}, physics=physics)
    entries = {quantity.name: quantity for quantity in feet.foot_quantities(robot)}
    found = {n: np.asarray(q.function(snapshot)) for n, q in entries.items() if not q.derived}
    found["foot_heights"] = np.asarray(entries["foot_heights"].function(jnp.asarray(found["foot_positions"])))
    found["foot_contacts"] = np.asarray(entries["foot_contacts"].function(jnp.asarray(found["foot_forces"])))
    return found


@pytest.mark.parametrize("name", QUADRUPEDS)
def test_the_feet_of_a_standing_robot_carry_its_weight(name):
    robot = load_robot(name)
    found = foot_values(robot, robot.default_qpos, steps=400)
    assert found["foot_contacts"].all()
    assert found["foot_forces"][:, 2].sum() == pytest.approx(9.81 * robot.model.body_mass.sum(), rel=0.05)
    np.testing.assert_allclose(found["foot_heights"], 0.0, atol=0.01)


@pytest.mark.parametrize("name", ["go1", "berkeley_humanoid"])
def test_forces_on_feet_are_the_sums_of_mujocos_contact_forces(name):
    robot = load_robot(name)
    data = mujoco.MjData(robot.model)
    data.qpos[:], data.ctrl[:] = robot.default_qpos, robot.default_ctrl
    mujoco.mj_step(robot.model, data, 30)
    expected, wrench = np.zeros((len(robot.feet), 3)), np.zeros(6)
    geoms = [robot.geom_ids(foot.geoms) for foot in robot.feet]
    for index in range(data.ncon):
        contact = data.contact[index]
        mujoco.mj_contactForce(robot.model, data, index, wrench)
        for geom, sign in zip(contact.geom, (-1.0, 1.0), strict=True):  # the force on the second geom
            for row in (row for row, ids in enumerate(geoms) if geom in ids):
                expected[row] += sign * contact.frame.reshape(3, 3).T @ wrench[:3]
    found = foot_values(robot, robot.default_qpos, steps=30)["foot_forces"]
    assert np.abs(expected).max() > 10.0
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_robot_in_the_air_touches_nothing_and_its_feet_are_as_high(go1):
    qpos = np.array(go1.default_qpos)
    qpos[2] += 0.5
    found = foot_values(go1, qpos)
    assert not found["foot_contacts"].any()
    np.testing.assert_allclose(found["foot_heights"], 0.5, atol=2e-3)


def test_feet_in_the_base_frame_do_not_depend_on_where_the_base_is(go1):
    qpos = np.array(go1.default_qpos)
    here = foot_values(go1, qpos)["foot_positions_in_base"]
    qpos[:3] += [3.0, -2.0, 1.0]
    qpos[3:7] = np.array([0.8, 0.0, 0.0, 0.6])  # turned about the vertical
    np.testing.assert_allclose(foot_values(go1, qpos)["foot_positions_in_base"], here, atol=1e-5)


def test_other_shapes_that_touch_the_ground_are_counted_in_the_full_model(go1):
    assert foot_values(go1, go1.default_qpos)["body_contacts"].shape == (0,)  # only feet can touch
    full = load_robot("go1", "full")
    qpos = np.array(full.default_qpos)
    assert not foot_values(full, qpos)["body_contacts"].any()
    qpos[2] = 0.05
    assert foot_values(full, qpos)["body_contacts"].any()


# Memories


def test_times_and_peaks_by_hand():
    contacts = [[True, True], [False, True], [False, True], [True, False]]
    heights = [[0.0, 0.0], [0.03, 0.0], [0.02, 0.0], [0.0, 0.01]]
    air, ground, peak = jnp.zeros(2), jnp.zeros(2), jnp.zeros(2)
    seen = []
    for contact, height in zip(contacts, heights, strict=True):
        seen.append([float(air[0]), float(ground[1]), float(peak[0])])
        down, high = jnp.array(contact), jnp.array(height)
        air = feet.air_times_after(air, down, jnp.float32(0.02))
        ground = feet.contact_times_after(ground, down, jnp.float32(0.02))
        peak = feet.swing_peaks_after(peak, high, down)
    # When foot 0 lands, in the last step, it has been in the air for two periods and has come 3 cm high.
    np.testing.assert_allclose(seen, [[0, 0, 0], [0, 0.02, 0], [0.02, 0.04, 0.03], [0.04, 0.06, 0.03]], atol=1e-6)
    assert float(air[0]) == 0.0 and float(peak[0]) == 0.0


@pytest.mark.slow
def test_terms_see_what_was_remembered_until_the_step_before():
    count = Remembered("count", "", "", lambda time: time, lambda count, dt: count + dt)
    base = Cartpole().spec()
    reward = RewardTerm("count", lambda count: count, 1.0)
    env = Env(replace(base.with_processes(count), rewards=(reward,)), "native")
    state, seen = env.reset(jax.random.PRNGKey(0)), []
    for _ in range(3):
        state = env.step(state, jnp.zeros(1))
        seen.append(float(state.info.reward_terms[0]))
    assert seen == pytest.approx([0.0, env.dt, 2 * env.dt])


def test_memories_that_no_term_uses_are_not_kept():
    count = Remembered("count", "", "", lambda time: time, lambda count, dt: count + dt)
    env = Env(Cartpole().spec().with_processes(count), "native")
    assert env.reset(jax.random.PRNGKey(0)).processes.keys() == {"actuation", "actor"}


def test_the_reward_is_never_below_its_floor():
    base = Cartpole().spec()
    env = Env(replace(base, rewards=(RewardTerm("bad", lambda dt: dt, -5.0),), reward_floor=0.0), "native")
    state = env.step(env.reset(jax.random.PRNGKey(0)), jnp.zeros(1))
    assert float(state.reward) == 0.0 and float(state.info.reward_terms[0]) == pytest.approx(env.dt)


def test_an_actor_that_would_read_other_targets_on_the_robot_is_refused():
    spec = Velocity().spec()
    actor = ObservationGroup((*spec.observations["actor"].terms, ObservationTerm("joint_position_targets")))
    with pytest.raises(ConfigError, match="zero after a reset on the robot"):
        Env(replace(spec, observations={"actor": actor}), "native")


# Gait clock


@pytest.mark.parametrize(
    ("name", "together"),
    [("go1", [("FR", "RL"), ("FL", "RR")]), ("anymal_c", [("RF", "LH"), ("LF", "RH")])],
)
def test_in_a_trot_diagonal_feet_swing_together(name, together):
    robot = load_robot(name)
    offsets = dict(zip([foot.name for foot in robot.feet], trot(robot, 2.0).offsets, strict=True))
    for a, b in together:
        assert offsets[a] == offsets[b]
    assert sorted(offsets.values()) == [0.0, 0.0, 0.5, 0.5]


def test_a_biped_walks_one_foot_after_the_other():
    assert sorted(trot(load_robot("berkeley_humanoid"), 1.5).offsets) == [0.0, 0.5]


def hexapod(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Six feet of which the middle ones stand exactly in the middle, named by side and end."""
    names = ("LF", "RF", "LM", "RM", "LH", "RH")
    places = [[x, y, 0.0] for x in (0.3, 0.0, -0.3) for y in (0.2, -0.2)]
    monkeypatch.setattr(gaits, "standing_feet", lambda robot: np.array(places))
    return SimpleNamespace(name="hexapod", feet=[SimpleNamespace(name=name) for name in names], folder=Path("hexapod"))


def test_six_feet_walk_in_two_tripods(monkeypatch):
    robot = hexapod(monkeypatch)
    gait = trot(robot, 2.0)
    assert dict(zip([foot.name for foot in robot.feet], gait.offsets, strict=True)) == {
        **{"LF": 0.5, "RM": 0.5, "LH": 0.5},
        **{"RF": 0.0, "LM": 0.0, "RH": 0.0},
    }
    gait.check_mirror(robot)


def test_mirrored_feet_that_do_not_take_turns_are_named(monkeypatch):
    with pytest.raises(ConfigError, match="feet 'LM' and 'RM' mirror each other, but swing 0 of a cycle apart"):
        Gait(2.0, (0.5, 0.0, 0.5, 0.5, 0.0, 0.5)).check_mirror(hexapod(monkeypatch))


def test_a_trot_has_a_mirror_and_a_bound_has_none():
    for name in (*QUADRUPEDS, "berkeley_humanoid"):
        trot(load_robot(name), 2.0).check_mirror(load_robot(name))
    bound = Env(Velocity().spec().with_processes(Gait(2.0, (0.0, 0.0, 0.5, 0.5))), "native")
    with pytest.raises(ConfigError, match=r"'FR' and 'FL' mirror each other, but .* \(--ppo.symmetry none"):
        symmetry_of(bound)


def test_phases_of_feet_by_hand(go1):
    gait = Gait(2.0, (0.0, 0.5, 0.5, 0.0))
    np.testing.assert_allclose(gait.phases(Clock(jnp.float32(0.6), jnp.float32(1.0))), [0.6, 0.1, 0.1, 0.6], atol=1e-6)
    np.testing.assert_allclose(gait.phases(Clock(jnp.float32(0.6), jnp.float32(0.0))), [0.75] * 4)  # all stand
    with pytest.raises(ConfigError, match="has 4 feet"):
        Gait(2.0, (0.0, 0.5)).quantities(go1)


# Commands


def test_each_component_of_a_command_is_drawn_with_its_own_probability():
    spans = (Range(0.5, 1.0),) * 3
    command = Command("velocity", "m/s", spans, Range(1.0, 1.0), nonzero_shares=(1.0, 0.0, 0.5))
    values = np.array([command.start(Sampler(jax.random.PRNGKey(i), FULL, 1.0)).value for i in range(200)])
    shares = (values > 0.0).mean(axis=0)
    assert shares[0] == 1.0 and shares[1] == 0.0 and 0.4 < shares[2] < 0.6
    with pytest.raises(ConfigError, match="nonzero_shares"):
        Command("velocity", "m/s", spans, Range(1.0, 1.0), nonzero_shares=(0.5, 0.5))


# Models


def test_friction_is_the_same_under_every_foot(go1):
    model = drawn(go1, Randomizer("friction", rand.set_friction, {"value": exactly(0.4)}))
    np.testing.assert_allclose(model.pair_friction[:, :2], 0.4)
    np.testing.assert_allclose(model.pair_friction[:, 2:], go1.model.pair_friction[:, 2:])


def test_a_payload_makes_the_robot_heavier_by_as_much(go1):
    trunk = go1.model.body("trunk").id
    model = drawn(go1, Randomizer("payload", rand.add_payload, {"body": trunk, "mass": exactly(1.5)}))
    assert model.body_mass.sum() - go1.model.body_mass.sum() == pytest.approx(1.5, rel=1e-5)
    ratio = model.body_inertia[trunk] / go1.model.body_inertia[trunk]
    np.testing.assert_allclose(ratio, 1.0 + 1.5 / go1.model.body_mass[trunk], rtol=1e-5)
    light = drawn(go1, Randomizer("payload", rand.add_payload, {"body": trunk, "mass": exactly(-100.0)}))
    assert light.body_mass[trunk] == pytest.approx(0.1 * go1.model.body_mass[trunk], rel=1e-5)


def test_joint_friction_holds_a_joint_against_that_much_torque(go1):
    model = drawn(go1, Randomizer("friction", rand.scale_joint_friction, {"factor": exactly(2.0)}))
    np.testing.assert_allclose(model.dof_frictionloss, 2.0 * go1.model.dof_frictionloss, rtol=1e-6)
    assert (model.dof_frictionloss[:6] == 0.0).all()  # the base is free


def test_armature_resists_acceleration(go1):
    speeds = []
    for factor in (1.0, 100.0):
        model = drawn(go1, Randomizer("armature", rand.scale_armature, {"factor": exactly(factor)}))
        data = in_default_pose(go1, model, go1.default_ctrl + np.eye(12)[2])
        mujoco.mj_step(model, data)
        speeds.append(abs(data.qvel[go1.joint_qvel_indices[2]]))
    assert speeds[0] > 3.0 * speeds[1] > 0.0
