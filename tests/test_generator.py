"""Trajectories of feet with phases of their own: formulae, inverse kinematics, and one phase in simulator and robot."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from onboard_helpers import random_arrays
from scipy.spatial.transform import Rotation
from test_export import configured, learned, write

from jaxloco.envs import actions
from jaxloco.envs.env import Env
from jaxloco.envs.gaits import Gait, foot_action_mirror, foot_trajectories, trot
from jaxloco.envs.kinematics import feet_at
from jaxloco.envs.mirrors import symmetry_of
from jaxloco.errors import BundleError, ConfigError
from jaxloco.onboard import Policy, spec
from jaxloco.onboard.bundle import Bundle
from jaxloco.onboard.clock import Clock, Feet
from jaxloco.onboard.generator import CYCLE, Generator, Legs, foot_height, foot_way, phases
from jaxloco.onboard.spec import (
    FOOT_FREQUENCIES,
    FOOT_PHASES,
    GAIT_FREQUENCY,
    Clip,
    Delay,
    FootTrajectories,
    InputSpec,
    LayerSpec,
    Leg,
    NetworkSpec,
    OutputSpec,
    PolicySpec,
    Rest,
    Scale,
)
from jaxloco.robot import Robot, load_robot
from jaxloco.symmetry import foot_mirror, joint_mirror
from jaxloco.tasks.velocity import Velocity

REST = Rest("velocity_command", 0.05, 0.5)
STAND, WALK = np.zeros(3, np.float32), np.float32([0.5, 0.0, 0.0])

LEG = Leg(
    joints=(0, 1, 2),
    anchors=(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    axes=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0),
    foot=(0.0, 0.0, -2.0),
    pose=(0.0, 0.5, -1.0),
)
"""Hip in the origin, two links of 1 m straight down; a bent knee points forward."""

STAGE = FootTrajectories(
    dt=1 / 64,
    frequency=1.25,
    frequency_scale=0.75,
    height=0.2,
    foot_scale=0.1,
    lead=0.0,
    offset=(0.5,),
    legs=(LEG,),
)
"""One such leg. All these figures of time are exact in binary, and so are the phases."""


# The formula


def lee_height(phi: float, h: float) -> float:
    """Lee et al. 2020, S3, as printed: the height below the base of a foot with phase φ, rad."""
    k = 2.0 * (phi - np.pi) / np.pi
    if 0.0 <= k <= 1.0:
        return h * (-2.0 * k**3 + 3.0 * k**2) - 0.5
    if 1.0 <= k <= 2.0:
        return h * (2.0 * k**3 - 9.0 * k**2 + 12.0 * k - 4.0) - 0.5
    return -0.5


@pytest.mark.parametrize(
    ("phi", "height"),
    [
        (0.0, -0.5),
        (np.pi / 2, -0.5),
        (np.pi, -0.5),
        (9 / 8 * np.pi, -0.46875),  # k = 1/4: 0.2 (3/16 - 2/64) = 0.03125
        (5 / 4 * np.pi, -0.4),  # k = 1/2: half of the height
        (3 / 2 * np.pi, -0.3),  # k = 1: all of it
        (7 / 4 * np.pi, -0.4),  # k = 3/2: 0.2 (6.75 - 20.25 + 18 - 4) = 0.1
        (15 / 8 * np.pi, -0.46875),  # k = 7/4
    ],
)
def test_a_foot_rises_as_in_the_paper(phi, height):
    assert lee_height(phi, 0.2) == pytest.approx(height, abs=1e-12)
    ours = foot_height(np, np.array((phi / (2.0 * np.pi) + 0.5) % 1.0), 0.2)
    assert ours - 0.5 == pytest.approx(height, abs=1e-12)


def test_a_foot_rises_as_in_the_paper_at_every_phase():
    phi = np.linspace(0.0, 2.0 * np.pi, 5000, endpoint=False)
    ours = foot_height(np, (phi / (2.0 * np.pi) + 0.5) % 1.0, 0.2) - 0.5
    np.testing.assert_allclose(ours, [lee_height(value, 0.2) for value in phi], rtol=0.0, atol=1e-12)


def test_a_phase_is_the_first_one_plus_frequency_times_time():
    # An action of 1/2 adds 0.375 Hz to 1.25 Hz.
    feet, action = Feet(STAGE), np.float32([0.5, 0.0, 0.0, 0.0])
    clock = Clock(1 / 64, 1.25, None, feet)
    for step in range(1000):
        assert feet.turns[0] / CYCLE == pytest.approx((0.5 + (1.25 + 0.375) * step / 64) % 1.0, abs=1e-12)
        clock.tick(None, None, action)


def test_a_phase_at_50_hz_is_exact_to_half_of_2_to_the_minus_32_of_a_cycle_per_step():
    stage = replace(STAGE, dt=0.02)
    feet, action = Feet(stage), np.float32([0.3, 0.0, 0.0, 0.0])
    clock, steps = Clock(0.02, 1.25, None, feet), 10_000
    for _ in range(steps):
        clock.tick(None, None, action)
    expected = (0.5 + (1.25 + 0.75 * float(action[0])) * 0.02 * steps) % 1.0
    assert abs(feet.turns[0] / CYCLE - expected) < 2 * steps * 0.5 / CYCLE + 1e-9


@pytest.mark.parametrize("action", [-1.0, 1.0])
def test_a_frequency_may_turn_a_phase_back(action):
    feet = Feet(replace(STAGE, frequency=1.0, frequency_scale=2.0))
    clock = Clock(1 / 64, 1.0, REST, feet)  # at rest: f0 = 0
    clock.tick(STAND, None, np.float32([action, 0.0, 0.0, 0.0]))
    assert feet.turns[0] / CYCLE == 0.5 + action * 2.0 / 64


@pytest.mark.parametrize(
    ("phase", "way"),
    [
        (0.0, -0.25),
        (0.125, -0.171875),  # u = 1/4: (3/16 - 2/64) / 2 - 1/4
        (0.25, 0.0),
        (0.375, 0.171875),
        (0.5, 0.25),
        (0.625, 0.125),
        (0.75, 0.0),
        (0.96875, -0.21875),
    ],
)
def test_a_foot_swings_to_the_front_and_goes_back_by_hand_worked_numbers(phase, way):
    assert foot_way(np, np.array(phase)) == pytest.approx(way, abs=1e-12)


@pytest.mark.parametrize("velocity", [(0.8, 0.0, 0.0), (0.3, -0.4, 0.0), (0.0, 0.0, 0.7), (0.5, 0.2, -0.6)])
def test_feet_on_the_ground_stay_where_they_are_while_the_base_goes_as_commanded(velocity):
    """Places in the world, found with SciPy's rotations; a turn is followed to the second order of its angle."""
    robot = load_robot("go1")
    generator = Generator(stage_of(robot, lead=0.0))
    still, command = np.zeros(16, np.float32), np.float32(velocity)
    ticks, forward = np.linspace(0.5, 1.0, 21)[:-1], np.array([velocity[0], velocity[1], 0.0])
    places = []
    for phase in ticks:
        turns, seconds = np.full(4, int(phase * CYCLE), np.uint32), (phase - 0.75) / 3.0
        feet = feet_at(robot, generator.joint_targets(np, still, turns, np.float32(3.0), command))[0]
        turned = Rotation.from_euler("z", velocity[2] * seconds)
        places.append(forward * seconds + turned.apply(feet))
    moved = np.ptp(places, axis=0).max()
    angle = abs(velocity[2]) * 0.25 / 3.0
    assert moved < 2e-6 + angle**2 * 0.5 + angle * np.linalg.norm(forward) * 0.25 / 3.0
    without = feet_at(robot, generator.joint_targets(np, still, turns, np.float32(3.0)))[0]
    assert np.abs(without - feet).max() > 0.005


# Inverse kinematics


def test_a_leg_bends_by_hand_worked_angles():
    # A foot √2 m below the hip: the knee at a right angle, 1 m to the front of the middle; then √2 m to the side.
    legs, quarter = Legs((LEG,)), np.pi / 4
    down = legs.joints(np, np.array([[0.0, 0.0, -np.sqrt(2.0)]]))
    np.testing.assert_allclose(down, [0.0, quarter, -2 * quarter], atol=1e-12)
    left = legs.joints(np, np.array([[0.0, np.sqrt(2.0), -1e-9]]))
    np.testing.assert_allclose(left, [2 * quarter, quarter, -2 * quarter], atol=1e-8)


def test_a_foot_out_of_reach_is_in_its_direction():
    legs = Legs((LEG,))
    joints = legs.joints(np, np.array([[3.0, 0.0, -3.0]]))
    found = legs.positions(joints[None])[0]
    np.testing.assert_allclose(found / np.linalg.norm(found), [np.sqrt(0.5), 0.0, -np.sqrt(0.5)], atol=1e-9)
    assert np.linalg.norm(found) == pytest.approx(np.sqrt(2.0 + 2.0 * 0.999))


ROBOTS = ("go1", "go2", "anymal_c")


@pytest.fixture(scope="module", params=ROBOTS)
def robot(request) -> Robot:
    return load_robot(request.param)


def stage_of(robot: Robot, lead: float = 0.03, **gait: Any) -> FootTrajectories:
    gait = {"frequency": 3.0, "rest": REST, "frequency_scale": 1.0, **gait}
    return foot_trajectories(robot, trot(robot, **gait), 0.08, 0.05, lead)


SWEEPS = pytest.mark.parametrize("sweep", [None, REST.command], ids=["on the spot", "by the command"])


def targets_near(legs: Legs, count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return legs.positions(legs.pose) + rng.uniform(-1.0, 1.0, (count, 4, 3)) * [0.08, 0.08, 0.05]


def test_feet_of_robots_come_to_where_they_should_be_by_mujoco(robot):
    legs = Legs(stage_of(robot).legs)
    default = np.asarray(robot.default_qpos[robot.joint_qpos_indices])
    np.testing.assert_allclose(legs.joints(np, feet_at(robot, default)[0]), default, atol=1e-12)
    errors = [np.abs(feet_at(robot, legs.joints(np, feet))[0] - feet).max() for feet in targets_near(legs, 50)]
    assert max(errors) < 1e-12


@pytest.mark.usefixtures("strict_dtypes")
def test_joint_targets_in_jax_are_those_of_numpy(robot):
    generator, rng = Generator(stage_of(robot)), np.random.default_rng(1)
    both = jax.jit(lambda action, turns, base: generator.joint_targets(jnp, action, turns, base))
    for _ in range(50):
        action = rng.uniform(-1.0, 1.0, 16).astype(np.float32)
        turns, base = rng.integers(0, CYCLE, 4).astype(np.uint32), np.float32(rng.choice([0.0, 3.0]))
        expected = generator.joint_targets(np, action, turns, base)
        assert expected.dtype == np.float32
        np.testing.assert_allclose(both(action, turns, base), expected, atol=1e-5)


def test_mirrored_actions_give_mirrored_joint_targets(robot):
    generator, rng = Generator(stage_of(robot)), np.random.default_rng(2)
    action, turns = rng.uniform(-1.0, 1.0, 16).astype(np.float32), rng.integers(0, CYCLE, 4).astype(np.uint32)
    image = foot_action_mirror(robot)(action).astype(np.float32)
    assert not np.array_equal(image, action)
    swapped, base = turns[foot_mirror(robot).permutation], np.float32(3.0)
    here = generator.joint_targets(np, action, turns, base, np.float32([0.5, 0.3, 0.4]))
    there = generator.joint_targets(np, image, swapped, base, np.float32([0.5, -0.3, -0.4]))
    np.testing.assert_allclose(there, joint_mirror(robot)(here), atol=2e-3)  # the robots are even but for a millimetre


def test_without_an_action_feet_step_in_place_by_the_height(robot):
    stage = stage_of(robot, lead=0.0)
    generator, still = Generator(stage), np.zeros(16, np.float32)
    middle = generator.legs.positions(generator.legs.pose)
    standing = generator.joint_targets(np, still, np.full(4, CYCLE * 3 // 4, np.uint32), np.float32(3.0))
    np.testing.assert_allclose(standing, robot.default_qpos[robot.joint_qpos_indices], atol=1e-6)
    swinging = generator.joint_targets(np, still, np.full(4, CYCLE // 4, np.uint32), np.float32(3.0))
    np.testing.assert_allclose(feet_at(robot, swinging)[0] - middle, [[0.0, 0.0, 0.08]] * 4, atol=1e-6)


def test_a_lead_shows_the_foot_where_its_own_frequency_takes_it():
    # A quarter of a second at 1.25 + 0.75 Hz from the beginning of a swing is half a cycle: the foot has landed.
    generator = Generator(replace(STAGE, lead=0.25, foot_scale=1e-9))
    landed = generator.joint_targets(np, np.float32([1.0, 0.0, 0.0, 0.0]), np.zeros(1, np.uint32), np.float32(1.25))
    np.testing.assert_allclose(landed, LEG.pose, atol=1e-5)
    rising = generator.joint_targets(np, np.float32([-1.0, 0.0, 0.0, 0.0]), np.zeros(1, np.uint32), np.float32(1.25))
    assert generator.legs.positions(rising[None].astype(float))[0, 2] > -2.0 * np.cos(0.5) + 0.05


# The fixed cycle is a special case


def test_feet_without_frequencies_keep_to_the_clock_as_a_fixed_gait_does():
    robot = load_robot("go1")
    fixed, free = trot(robot, 3.0, REST), trot(robot, 3.0, REST, 0.0)
    commands = np.repeat(np.float32([0, 1, 0, 1, 0]), [7, 90, 70, 40, 60])
    step = jax.jit(
        lambda gait, state, command: gait.after(state, 0.02, {REST.command: command}, jnp.ones(16)), static_argnums=0
    )
    states, moved = [fixed.start(), free.start()], 0
    for command in commands:
        seen = [gait.phases(gait.show(state, 0.02)) for gait, state in zip((fixed, free), states, strict=True)]
        np.testing.assert_allclose(seen[0], seen[1], atol=1e-5)
        moved += int(states[0].moving)
        states = [step(gait, state, command * WALK) for gait, state in zip((fixed, free), states, strict=True)]
    assert 130 < moved < 240


def test_a_fixed_gait_keeps_no_phases_of_feet():
    assert trot(load_robot("go1"), 3.0, REST).start().ahead is None


# One phase in simulator and robot


def policy_of(stage: FootTrajectories) -> Policy:
    """A policy of random numbers that reads its phases and the command, and whose readings are not scaled."""
    feet = len(stage.legs)
    policy = PolicySpec(
        robot="robot",
        task="task",
        control_frequency=1.0 / stage.dt,
        inputs=(
            InputSpec("velocity_command", "m/s", 3, source="command"),
            InputSpec(FOOT_PHASES, size=2 * feet, source="policy"),
            InputSpec(FOOT_FREQUENCIES, "Hz", feet, source="policy"),
            InputSpec(GAIT_FREQUENCY, "Hz", 1, source="policy"),
        ),
        network=NetworkSpec((LayerSpec("a", "b"),), output="tanh"),
        outputs=(OutputSpec("joint_position_targets", "rad", 3 * feet, -4.0, 4.0, 0.0),),
        pipeline=(stage, Clip((-4.0,) * (3 * feet), (4.0,) * (3 * feet))),
        rest=REST,
    )
    return Policy(Bundle(policy, random_arrays(policy, ()), {}, Path("memory")))


@SWEEPS
def test_phases_on_the_robot_are_those_of_the_simulator_after_ten_thousand_steps(sweep):
    robot = load_robot("go1")
    stage = stage_of(robot, sweep=sweep)
    gait = trot(robot, 3.0, REST, 1.0, sweep)
    policy, rng = policy_of(stage), np.random.default_rng(3)
    commands = (np.repeat(rng.choice([0.0, 0.5, 0.8], 100), 100)[:, None] * WALK).astype(np.float32)
    targets, given, turned, base = [], [], [], []
    for command in commands:
        turned.append(policy._clock.feet.turns.copy())
        base.append(policy._clock.feet.base)
        targets.append(policy.act({"velocity_command": command})["joint_position_targets"])
        given.append(policy.action)

    def advance(state: Any, now: Any) -> Any:
        command, action = now
        clock = gait.show(state, stage.dt)
        _, target = actions.apply((stage,), (jnp.zeros(0),), action, clock)
        return gait.after(state, stage.dt, {REST.command: command}, action), (
            gait.own_phases(clock),
            gait.base(clock),
            target,
        )

    _, (phase, frequency, target) = jax.lax.scan(advance, gait.start(), (commands, np.array(given)))
    np.testing.assert_array_equal(phase, phases(np.array(turned)))  # to the bit, and 1e-6 would do
    np.testing.assert_array_equal(frequency, base)
    np.testing.assert_allclose(target, targets, atol=1e-5)
    assert 0.2 < np.mean(np.array(base) == 0.0) < 0.6 and len(set(phase[-1].tolist())) == 4


def test_the_clock_rests_after_half_a_second_without_a_command_and_feet_keep_what_their_frequencies_say():
    feet = Feet(replace(STAGE, frequency=2.0, offset=(0.0,)))
    clock, still = Clock(1 / 64, 2.0, REST, feet), np.zeros(4, np.float32)
    own = np.float32([1.0, 0.0, 0.0, 0.0])
    seen = []
    for command, action in [(WALK, still)] * 33 + [(STAND, still)] * 49 + [(STAND, own)] * 8 + [(WALK, still)] * 2:
        seen.append((float(feet.readings[GAIT_FREQUENCY][0]), float(feet.turns[0] / CYCLE)))
        clock.tick(command, None, action)
    frequencies = [frequency for frequency, _ in seen]
    # Moves from the second step on; after 32 steps of no command, the half cycle of 16 steps ends.
    assert frequencies == [0.0] + [2.0] * 80 + [0.0] * 10 + [2.0]
    assert seen[81][1] == seen[82][1] == 0.5 and seen[90][1] == 0.5 + 8 * 0.75 / 64
    assert seen[91][1] == 0.5 + 8 * 0.75 / 64 + 0.0
    assert feet.readings[FOOT_FREQUENCIES][0] == 2.0


def test_feet_step_on_the_spot_while_the_clock_rests():
    """A command too small to start the clock, or a step after it: no foot is left ahead of its place."""
    feet = Feet(replace(STAGE, sweep=REST.command))
    clock, small = Clock(1 / 64, 1.25, REST, feet), np.float32([0.04, 0.0, 0.0])
    for command, expected in ((small, 0.0), (WALK, 0.5), (small, 0.04)):
        clock.tick(command, None, np.zeros(4, np.float32), command)
        np.testing.assert_allclose(feet.velocity, [expected, 0.0, 0.0])
    for _ in range(64):
        clock.tick(STAND, None, np.zeros(4, np.float32), small)
    np.testing.assert_array_equal(feet.velocity, 0.0)
    clock.tick(WALK, None, np.zeros(4, np.float32), WALK)
    clock.reset()
    np.testing.assert_array_equal(feet.velocity, 0.0)


def test_a_reset_puts_phases_back():
    policy = policy_of(stage_of(load_robot("go1")))
    first = [policy.act({"velocity_command": WALK})["joint_position_targets"] for _ in range(20)]
    assert np.abs(first[-1] - first[0]).max() > 1e-3
    policy.reset()
    again = [policy.act({"velocity_command": WALK})["joint_position_targets"] for _ in range(20)]
    np.testing.assert_array_equal(first, again)


def test_an_action_that_is_no_number_gives_none_and_the_phases_of_a_reset_are_good():
    feet, nothing = Feet(STAGE), np.full(4, np.nan, np.float32)
    clock = Clock(1 / 64, 1.25, None, feet)
    assert np.isnan(Generator(STAGE).joint_targets(np, nothing, feet.turns, feet.base)).all()
    clock.tick(None, None, nothing)
    clock.reset()
    assert feet.turns[0] / CYCLE == 0.5 and feet.readings[FOOT_FREQUENCIES][0] == 1.25


# The task


def moving(generator: Literal["feet", "strides"]) -> Velocity:
    return Velocity(generator=generator, noise=0.0, sensor_latency=(0.0, 0.0), kick=0.0, step_lead=0.03)


@pytest.fixture(scope="module", params=["feet", "strides"])
def env(request) -> Env:
    return Env(moving(request.param).spec(), "native")


def test_a_policy_of_the_task_verifies_and_has_the_phases_of_the_environment(tmp_path, env):
    sweeps = env.spec.action.pipeline[0].sweep is not None
    config = replace(configured("go1-velocity"), task=moving("strides" if sweeps else "feet"))
    policy = write(tmp_path / "policy", env, config, *learned(env, config))
    assert policy.verify() <= 1e-5
    assert policy.spec.action_size == env.action_size == 16 and policy.spec.output_size == 12
    state, step = jax.jit(env.reset)(jax.random.PRNGKey(0)), jax.jit(env.step)
    measured, measure = list(env.measured.items()), jax.jit(env.measure)
    ends = np.cumsum([size for _, size in measured])[:-1]
    for _ in range(100):
        readings = dict(zip(env.measured, np.split(np.asarray(measure(state)), ends), strict=True))
        own = policy._clock.readings
        for name in (FOOT_FREQUENCIES, GAIT_FREQUENCY):
            np.testing.assert_allclose(readings[name], own[name], atol=1e-6)
        np.testing.assert_allclose(readings[FOOT_PHASES], own[FOOT_PHASES], atol=1e-6)
        policy.act({item.name: readings[item.name] for item in policy.spec.inputs if item.source != "policy"})
        state = step(state, policy.action)
        shown = state.processes["gait"].velocity
        assert (shown is None) != sweeps
        if sweeps:
            np.testing.assert_allclose(shown, policy._clock.feet.velocity, atol=1e-6)
    assert not sweeps or np.abs(shown).max() > 0.1
    assert np.ptp(np.asarray(state.processes["gait"].ahead)) > 0


def test_observations_and_actions_of_the_task_have_a_mirror_image(env):
    symmetry = symmetry_of(env)
    action = np.arange(16.0)
    # Go1: front right, front left, rear right, rear left.
    expected = [1, 0, 3, 2, 7, -8, 9, 4, -5, 6, 13, -14, 15, 10, -11, 12]
    np.testing.assert_array_equal(symmetry.action(action), expected)
    names = list(env.measured)
    start = int(np.sum([env.measured[name] for name in names[: names.index(FOOT_PHASES)]]))
    seen = np.arange(float(env.observation_sizes["actor"]))
    part = symmetry.actor(seen)[start : start + 13] - start
    np.testing.assert_array_equal(part, [1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 12])


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Velocity(generator="feet", robot="berkeley_humanoid"), "foot 'left' is moved by LL_HR, .*need three hinges"),
        (Velocity(generator="feet", frequency_scale=22.0), "a foot could step at 25 Hz.*write less than 22"),
    ],
)
def test_tasks_that_cannot_move_feet_say_what_to_write(task, message):
    with pytest.raises(ConfigError, match=message):
        task.spec()


def test_trajectories_on_a_clock_without_phases_are_refused():
    robot = load_robot("go1")
    clock = trot(robot, 3.0, REST)
    with pytest.raises(ConfigError, match="need a gait with a frequency_scale"):
        actions.apply((stage_of(robot),), (jnp.zeros(0),), jnp.zeros(16), clock.show(clock.start(), 0.02))
    with pytest.raises(ConfigError, match=r"frequency_scale = -1\.0: must not be negative"):
        Gait(3.0, (0.0,), frequency_scale=-1.0)


# The bundle


def test_a_bundle_comes_back_from_its_json_and_is_refused_by_an_older_reader(monkeypatch):
    policy = policy_of(STAGE).spec
    data = policy.to_dict()
    assert PolicySpec.from_dict(data) == policy
    assert data["schema"] == "jaxloco-policy/2" and data["pipeline"][0]["kind"] == "foot_trajectories"
    monkeypatch.setattr("jaxloco.onboard.spec.policy.SCHEMA_VERSION", 1)
    with pytest.raises(BundleError, match="from a newer jaxloco: install that one"):
        PolicySpec.from_dict(data)


def test_sizes_of_actions_and_outputs_differ():
    policy = policy_of(STAGE).spec
    assert (policy.action_size, policy.output_size) == (4, 3)
    assert spec.widths(policy.pipeline, 3) == [4, 3, 3]
    states = actions.initial_state((STAGE, Delay(2)), 3)
    assert states[1].shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joints": (0, 1)}, "joints: expected 3 places among the outputs"),
        ({"joints": (0, 1, -1)}, r"joints\[2\]: expected a whole number from 0"),
        ({"anchors": (0.0,) * 8}, "anchors: expected 9 numbers"),
        ({"foot": (0.0, 0.0, -1e9)}, "foot: expected 3 numbers from -100 to 100"),
        ({"axes": (2.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0)}, "axes: expected directions of length 1"),
        ({"axes": (0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0)}, "axes: expected the second across the first"),
        ({"axes": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}, "axes: expected .* the third along the second"),
        ({"anchors": (0.0,) * 9}, "anchors: expected links of some length"),
        ({"foot": (0.0, 5.0, -1.0)}, "foot: expected links of some length"),
    ],
)
def test_legs_of_another_kind_are_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        replace(LEG, **changes)


@pytest.mark.parametrize(
    "stage",
    [
        replace(STAGE, offset=(1e30,), lead=-1e3),
        replace(STAGE, legs=(replace(LEG, foot=(0.0, 0.0, -1.00001), pose=(0.0, 99.0, -99.0)),)),
        replace(STAGE, height=100.0, foot_scale=100.0),
        replace(STAGE, frequency=1e-6, frequency_scale=0.0),
    ],
)
def test_figures_as_no_robot_has_them_still_give_joint_targets(stage):
    policy = policy_of(stage)
    targets = [policy.act({"velocity_command": WALK})["joint_position_targets"] for _ in range(5)]
    assert np.isfinite(targets).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"offset": (0.0, 0.5)}, "offset: expected 1 numbers, one per leg"),
        ({"frequency_scale": 31.0}, "frequency_scale: expected less than 30.75 Hz"),
        ({"legs": (replace(LEG, joints=(0, 1, 3)),)}, "legs: expected each output once"),
        ({"legs": ()}, "offset: expected 0 numbers"),
        ({"height": -0.1}, "height: expected a number of at least 0"),
        ({"foot_scale": 0.0}, "foot_scale: expected a number above 0"),
        ({"lead": float("nan")}, "lead: expected a finite number"),
    ],
)
def test_trajectories_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        replace(STAGE, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {
                "pipeline": (Scale((1.0,) * 4), STAGE),
                "inputs": (InputSpec("velocity_command", size=3, source="command"),),
            },
            r"pipeline\[1\].kind: expected foot_trajectories as the first stage alone",
        ),
        ({"pipeline": (STAGE, Scale((1.0,) * 4))}, r"pipeline\[1\].scale: expected 3 numbers"),
        ({"pipeline": (replace(STAGE, dt=0.02),)}, r"pipeline\[0\].dt: expected the control period"),
        (
            {"pipeline": (replace(STAGE, sweep="foot_phases"),)},
            r"pipeline\[0\].sweep: expected one of the commands of three numbers \['velocity_command'\]",
        ),
        ({"pipeline": ()}, r"inputs\[1\].source: expected .* for nothing else"),
        ({"inputs": (InputSpec(FOOT_PHASES, size=4, source="policy"),), "rest": None}, r"size of 'foot_phases', 2"),
    ],
)
def test_policies_that_do_not_fit_their_trajectories_are_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        replace(policy_of(STAGE).spec, **changes)
