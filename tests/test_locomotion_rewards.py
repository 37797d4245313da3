"""Every reward term of legged robots, with numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.envs import locomotion_rewards as loco
from jaxloco.envs.gaits import STANCE

pytestmark = pytest.mark.usefixtures("strict_dtypes")

TERMS = {
    # command (1, 0, 0.5), velocity (0.7, 0.4): |error|² = 0.25; yaw rate 0.2: error 0.3
    "linear_velocity_error": (loco.linear_velocity_error, {}, 0.5),
    "yaw_rate_error": (loco.yaw_rate_error, {}, 0.3),
    "command_speed": (loco.command_speed, {}, 0.7),
    "command_heading": (loco.command_heading, {}, 1.0),
    "track_linear_velocity": (loco.track_linear_velocity, {"sigma": 0.5}, np.exp(-1.0)),
    "track_yaw_rate": (loco.track_yaw_rate, {"sigma": 0.5}, np.exp(-0.36)),
    "vertical_velocity": (loco.vertical_velocity, {}, 0.04),
    "roll_pitch_rate": (loco.roll_pitch_rate, {}, 0.1**2 + 0.3**2),
    "orientation": (loco.orientation, {}, 0.6**2),
    # Tilted by acos 0.8 = 0.64 rad, at 0.4 m where it stands at 0.5.
    "uprightness": (loco.uprightness, {}, 0.9),
    "rising": (loco.rising, {"height": 0.5}, 0.8 * 0.9**2),
    "standing": (loco.standing, {"tilt": 0.65, "height": 0.5, "band": 0.11}, 1.0),
    "standing_pose": (loco.standing_pose, {"weights": (1.0, 0.1), "tilt": 0.65}, np.exp(-(0.04 + 0.1 * 0.09))),
    "fast_joints": (loco.fast_joints, {"limit": 1.5}, 0.5**2),
    "height_error": (loco.height_error, {"height": 0.3}, 0.01),
    # Foot 0 stands and slides at 0.04 m/s; foot 1 flies at 0.25 m/s, 5 cm high.
    "foot_clearance": (loco.foot_clearance, {"height": 0.1}, 0.1 * 0.2 + 0.05 * 0.5),
    "slip": (loco.slip, {}, 0.04**2),
    "swing_height": (loco.swing_height, {"height": 0.08}, (0.06 / 0.08 - 1.0) ** 2),
    "air_time": (loco.air_time, {"threshold": 0.1}, 0.3 - 0.1),
    "landing": (loco.landing, {}, 0.5**2 + 1.0**2),
    # Foot 0 pushes 60 N sideways and 11 N upward: |F| = 61.
    "stumble": (loco.stumble, {"ratio": 5.0}, 1.0),
    "foot_edges": (loco.foot_edges, {}, 1.0),
    "contact_force": (loco.contact_force, {"limit": 50.0}, 11.0),
    "body_collisions": (loco.body_collisions, {}, 2.0),
    "self_contact": (loco.self_contact, {}, 3.0),
    "body_terrain": (loco.body_terrain, {"clearance": 0.03}, 2.0),
    "joint_limits": (loco.joint_limits, {"lower": (-1.0, -1.0), "upper": (1.0, 1.0)}, 0.2 + 0.5),
    "pose": (loco.pose, {"weights": (1.0, 0.1)}, np.exp(-(0.04 + 0.1 * 0.09))),
    "joint_deviation": (loco.joint_deviation, {"weights": (1.0, 0.1)}, 0.2 + 0.03),
    "stand_still": (loco.stand_still, {}, 0.0),
    "torques": (loco.torques, {}, 4.0 + 9.0),
    "power": (loco.power, {}, 2.0 * 1.0 + 3.0 * 2.0),
    "acceleration": (loco.acceleration, {}, 50.0**2 + 100.0**2),
    "foot_target_smoothness": (loco.foot_target_smoothness, {}, 0.05),
    # Lee et al. 2020; the command points forward, so 0.7 m/s along it and 0.4 m/s across.
    "lee_linear_velocity": (loco.lee_linear_velocity, {}, 1.0),
    "lee_angular_velocity": (loco.lee_angular_velocity, {}, np.exp(-1.5 * 0.4**2)),
    "lee_base_motion": (loco.lee_base_motion, {}, np.exp(-1.5 * 0.16) + np.exp(-1.5 * 0.1)),
    "lee_foot_clearance": (loco.lee_foot_clearance, {"clearance": 0.02}, 0.5),
    "lee_torques": (loco.lee_torques, {}, 5.0),
}

VALUES = {
    "velocity_command": [1.0, 0.0, 0.5],
    "base_linear_velocity": [0.7, 0.4, -0.2],
    "base_angular_velocity": [0.1, -0.3, 0.2],
    "projected_gravity": [0.6, 0.0, -0.8],
    "base_height": 0.4,
    "foot_heights": [0.0, 0.05],
    "foot_velocities": [[0.04, 0.0, 0.0], [0.0, 0.25, 0.7]],
    "foot_forces": [[60.0, 0.0, 11.0], [0.0, 0.0, 0.0]],
    "foot_contacts": [True, False],
    "feet_on_edges": [True, False],
    "previous_foot_contacts": [False, False],
    "previous_foot_velocities": [[0.5, 0.0, -1.0], [9.0, 9.0, 9.0]],
    "air_times": [0.3, 0.2],
    "swing_peaks": [0.06, 0.05],
    "body_contacts": [True, False, True],
    "self_contacts": [True, True, False, True],
    "body_heights": [0.31, 0.02, -0.01],
    "gait_phases": [0.1, 0.25],
    "joint_positions": [-1.2, 1.5],
    "joint_offsets": [0.2, -0.3],
    "joint_velocities": [1.0, -2.0],
    "previous_joint_velocities": [0.0, 0.0],
    "joint_torques": [-2.0, 3.0],
    "dt": 0.02,
    # Foot 0: 0.03 and 0.04 off the straight line of the two before; foot 1 goes on as it did.
    "foot_targets": [[0.23, 0.04, 0.0], [0.2, 0.0, 0.0]],
    "previous_foot_targets": [[[0.1, 0.0, 0.0], [0.1, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]],
}


def value(function, **changes):
    given = {**VALUES, **changes}
    names = function.__code__.co_varnames[: function.__code__.co_argcount]
    return {name: jnp.asarray(given[name], bool if "contacts" in name else jnp.float32) for name in names}


@pytest.mark.parametrize("name", TERMS)
def test_a_term_has_the_value_worked_out_by_hand(name):
    function, constants, expected = TERMS[name]
    found = function(**value(function), **constants)
    assert found.shape == ()
    assert float(found) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def test_every_term_is_tested():
    functions = {n for n, f in vars(loco).items() if callable(f) and getattr(f, "__module__", "") == loco.__name__}
    private = {name for name in functions if name.startswith("_")}
    assert functions - private - set(TERMS) == {
        "moving",
        "along_command",
        "gait_tracking",
        "fallen",
        "sunk",
        "pierced",
    }  # tested below


@pytest.mark.parametrize("limits", [{"tilt": 0.64, "band": 0.11}, {"tilt": 0.65, "band": 0.09}])
def test_a_robot_that_is_tilted_or_low_does_not_stand(limits):
    assert float(loco.standing(**value(loco.standing), height=0.5, **limits)) == 0.0


def test_the_pose_counts_only_when_upright():
    weights = (1.0, 0.1)
    assert float(loco.standing_pose(**value(loco.standing_pose), weights=weights, tilt=0.64)) == 0.0


def gait(heights, contacts, *, phases=(0.25, 0.75), speed=0.0):
    count = len(heights)
    forces = [[0.0, 0.0, 20.0 if contact else 0.0] for contact in contacts]
    changes = {
        "gait_phases": phases,
        "foot_heights": heights,
        "foot_velocities": [[speed, 0.0, 0.0]] * count,
        "foot_forces": forces,
        "foot_contacts": contacts,
        "previous_foot_contacts": contacts,
    }
    return float(loco.gait_tracking(**value(loco.gait_tracking, **changes)))


def test_a_gait_on_the_clock_is_worth_one():
    assert gait([0.06, 0.0], [False, True]) == pytest.approx(1.0)


def test_each_way_of_leaving_the_clock_costs_its_share():
    assert gait([0.06 - 0.035, 0.0], [False, True]) == pytest.approx(0.5 * np.exp(-1.0) + 0.5)  # too low by the width
    assert gait([0.075 + 0.035, 0.0], [False, True]) == pytest.approx(0.5 * np.exp(-1.0) + 0.5)  # too high by it
    assert gait([0.06, 0.0], [True, True]) == pytest.approx(0.5 * np.exp(-2.0) + 0.5)  # 20 N, twice the scale
    assert gait([0.06, 0.01], [False, False]) == pytest.approx(0.5)  # the foot that should stand does not
    assert gait([0.06, 0.0], [False, True], speed=0.22) == pytest.approx(0.5 + 0.5 * np.exp(-1.0))  # it slides


def test_at_rest_every_foot_should_stand():
    assert gait([0.0, 0.0], [True, True], phases=(STANCE, STANCE)) == pytest.approx(1.0)
    assert gait([0.06, 0.0], [False, True], phases=(STANCE, STANCE)) == pytest.approx(0.5)


def test_standing_still_counts_only_when_asked_to_stand():
    inputs = value(loco.stand_still, velocity_command=[0.0, 0.0, 0.0])
    assert float(loco.stand_still(**inputs)) == pytest.approx(0.5)
    inputs = value(loco.air_time, velocity_command=[0.0, 0.0, 0.0])
    assert float(loco.air_time(**inputs, threshold=0.1)) == 0.0


def test_the_velocity_terms_of_lee_et_al_below_and_without_a_command():
    slow = value(loco.lee_linear_velocity, base_linear_velocity=[0.1, 0.0, 0.0])
    assert float(loco.lee_linear_velocity(**slow)) == pytest.approx(np.exp(-2.0 * 0.25))
    still = value(loco.lee_linear_velocity, velocity_command=[0.0, 0.0, 0.5])
    assert float(loco.lee_linear_velocity(**still)) == 0.0
    still = value(loco.lee_base_motion, velocity_command=[0.0, 0.0, 0.5])
    speed = 0.7**2 + 0.4**2  # all of it is across
    assert float(loco.lee_base_motion(**still)) == pytest.approx(np.exp(-1.5 * speed) + np.exp(-1.5 * 0.1))
    turned = value(loco.lee_angular_velocity, base_angular_velocity=[0.0, 0.0, -0.7], velocity_command=[0, 0, -1.0])
    assert float(loco.lee_angular_velocity(**turned)) == 1.0


def test_the_weights_of_lee_et_al():
    weights = [term.weight for term in loco.LEE_2020]
    assert weights == [0.05, 0.05, 0.04, 0.01, -0.02, -0.025, -2e-5]


@pytest.mark.parametrize(("tilt", "height", "expected"), [(0.9, 0.3, False), (1.1, 0.3, True), (0.0, 0.1, True)])
def test_a_robot_has_fallen_when_it_leans_far_or_is_low(tilt, height, expected):
    gravity = jnp.array([np.sin(tilt), 0.0, -np.cos(tilt)], jnp.float32)
    assert bool(loco.fallen(gravity, jnp.float32(height), tilt=1.0, height=0.2)) == expected


@pytest.mark.parametrize(("height", "expected"), [(-0.05, False), (-0.07, True)])
def test_a_foot_has_sunk_when_it_is_deep_in_the_ground(height, expected):
    assert bool(loco.sunk(jnp.array([0.02, height], jnp.float32), depth=0.06)) == expected


@pytest.mark.parametrize(("height", "expected"), [(-0.02, False), (-0.04, True)])
def test_a_limb_is_inside_a_wall_when_its_joint_is_below_the_ground(height, expected):
    assert bool(loco.pierced(jnp.array([0.2, height], jnp.float32), depth=0.03)) == expected
