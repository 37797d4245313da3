"""How far a simulator is from recordings: none from its own, and a planted difference is found first."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np
import pytest
from sampled import sampled

from jaxloco import cli, logs
from jaxloco.errors import ConfigError, LogError
from jaxloco.gap import report
from jaxloco.gap.causes import Cause, causes_of, explain
from jaxloco.gap.errors import Reader, baseline_errors, joined, prediction_errors, summary
from jaxloco.gap.gap import Comparison, Gap, _with_finer_steps
from jaxloco.gap.options import GapOptions
from jaxloco.gap.simulated import record_episode
from jaxloco.gap.trajectory import Trajectory, remarks
from jaxloco.gap.twin import Predicted, Twin
from jaxloco.logs.recording import Recording
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.play import Playback
from jaxloco.robot import load_robot

ZOO = Path(__file__).resolve().parents[1] / "policies"
WALK = Conditions(push_scale=0.0, seconds=1.4, command=(0.8, 0.0, 0.3))
QUICK = GapOptions(horizons=(1, 5, 20), starts=0, causes=0)


@pytest.fixture(scope="module")
def walking():
    """The zoo's Go1 and an episode of it."""
    playback = Playback.load(ZOO / "go1-velocity" / "policy", WALK)
    return playback, playback.scenarios(1, 0)[0]


def changed(robot, change):
    model = copy.deepcopy(robot.model)
    change(model)
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return replace(robot, model=model)


def rougher(model):
    model.dof_frictionloss[:] *= 1.2


def later(playback, milliseconds):
    return replace(playback, conditions=replace(playback.conditions, delay=milliseconds))


# the numbers


def test_the_same_simulator_is_no_more_than_a_millionth_off(walking):
    playback, scenario = walking
    recording = record_episode(playback, scenario)
    options = replace(QUICK, horizons=(1, 5, 20, 50))
    comparison = Comparison(playback.robot, [recording], playback.spec.motor_curves, options)
    errors, baselines, count = comparison._errors(0.0, 0)
    assert count == len(recording.time) - 50
    assert set(errors) == set(report.UNITS) - {"joint torques"}
    for name, by_horizon in errors.items():
        for horizon, values in by_horizon.items():
            # States are rounded to float32, which a contact may make more of in a second, from one state in twenty.
            assert (values.max() if horizon <= 20 else np.quantile(values, 0.9)) <= 1e-6, (name, horizon)
            assert np.median(baselines["constant"][name][horizon]) > 1e-3
    assert comparison._explain(0.0, print) == []  # nothing is off, so there is nothing to explain


def test_the_same_simulator_with_motors_that_remember_is_no_more_than_a_millionth_off(walking):
    playback, scenario = walking
    slow = (("kind", "lag"), ("delay", 0.006), ("bandwidth", 20.0))
    joints = tuple(replace(joint, actuator=(slow,)) for joint in playback.robot.joints)
    playback = replace(playback, robot=replace(playback.robot, joints=joints))
    recording = record_episode(playback, replace(scenario, pushes=scenario.pushes[:30]))
    errors, _, _ = Comparison(playback.robot, [recording], True, QUICK)._errors(0.0, 0)
    assert max(values.max() for by_horizon in errors.values() for values in by_horizon.values()) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("planted", sampled(["delay", "friction", "step"], "friction"))
def test_a_planted_difference_is_ranked_first_and_found(walking, planted):
    playback, scenario = walking
    if planted == "delay":
        recording = record_episode(later(playback, 8.0), scenario)
    elif planted == "step":
        recording = record_episode(replace(playback, robot=_with_finer_steps(playback.robot, 2)), scenario)
    else:
        recording = record_episode(replace(playback, robot=changed(playback.robot, rougher)), scenario)
    options = GapOptions(horizons=(1, 5, 20), starts=0, causes=12)
    found = Comparison(playback.robot, [recording], playback.spec.motor_curves, options).run()
    first, second = found.causes[:2]
    assert first.explained > 0.95 > 2.0 * second.explained
    if planted == "delay":
        assert (first.cause, first.value, found.delay) == ("command delay", pytest.approx(0.008), pytest.approx(0.008))
        assert found.remaining == []
        for name, by_horizon in found.errors.items():  # aligned, it is the same simulator
            assert all(values["90 %"] <= 1e-6 for values in by_horizon.values()), name
            assert all(found.unaligned[name][h]["median"] > 1e-4 for h in by_horizon)
    elif planted == "step":
        assert (first.cause, first.value, found.delay) == ("physics step", pytest.approx(0.002), 0.0)
    else:
        assert (first.cause, found.delay) == ("joint friction", 0.0)
        assert first.value == pytest.approx(1.2, abs=0.02)
        assert found.unaligned == found.errors


# a recording on the simulator's grid


def swinging(count=40, interval=0.01, **changes):
    """The pendulum, at 100 Hz, turning with 1 rad/s; its torque changes at 1 s."""
    time = interval * np.arange(count)
    values = {
        "name": "swing",
        "joints": ("hinge",),
        "time": time,
        "position": time[:, None],
        "velocity": np.ones((count, 1)),
        "command_time": np.array([0.0, 1.0]),
        "target": np.full((2, 1), np.nan),
        "feedforward_torque": np.array([[0.5], [1.5]]),
    }
    return Recording(**(values | changes))


def test_commands_have_effect_when_they_were_given_and_a_delay_later():
    robot = load_robot("pendulum")
    trajectory = Trajectory.of(swinging(command_time=np.array([0.0, 0.1]), count=20), robot)
    assert (trajectory.step, trajectory.substeps, trajectory.held) == (0.01, 1, False)
    np.testing.assert_array_equal(trajectory.targets(robot).ravel(), [0.5] * 10 + [1.5] * 10)
    late = trajectory.targets(robot, 0.02).ravel()
    np.testing.assert_array_equal(late, [0.0] * 2 + [0.5] * 10 + [1.5] * 8)  # before the first one, that of the pose
    within = trajectory.targets(robot, 0.0225).ravel()  # a quarter of a step later: the mean over the step
    np.testing.assert_allclose(within, [0.0] * 2 + [0.375] + [0.5] * 9 + [1.25] + [1.5] * 7)


def test_a_step_is_the_recordings_interval_in_whole_physics_steps():
    robot = load_robot("pendulum")
    assert Trajectory.of(swinging(interval=0.031), robot).step == pytest.approx(0.03)
    fast = Trajectory.of(swinging(interval=0.002), robot)
    assert fast.step == 0.01
    np.testing.assert_allclose(fast.qpos[:, 0], fast.time)


def test_no_prediction_crosses_a_gap():
    time = 0.01 * np.arange(40)
    time[20:] += 1.0
    commands = {"command_time": time, "target": np.full((40, 1), np.nan), "feedforward_torque": np.zeros((40, 1))}
    trajectory = Trajectory.of(swinging(time=time, **commands), load_robot("pendulum"))
    starts = trajectory.time[trajectory.starts(5, 0)]
    assert len(starts) == (20 - 5) + (20 - 5)
    assert not ((starts + 0.05 > 0.191) & (starts < 1.199)).any()
    with pytest.raises(LogError, match=r"swing: no 0.3 s without a gap, which 30 steps of 0.01 s need"):
        trajectory.starts(30, 0)


def test_starts_are_spread_evenly():
    trajectory = Trajectory.of(swinging(), load_robot("pendulum"))
    np.testing.assert_array_equal(trajectory.starts(9, 4), [0, 10, 20, 30])


def test_what_cannot_be_predicted_is_refused():
    robot = load_robot("go1")
    joints = {"joints": robot.joint_names, "position": np.zeros((40, 12)), "velocity": np.zeros((40, 12))}
    silent = swinging(**joints, target=np.full((2, 12), np.nan), feedforward_torque=None)
    with pytest.raises(
        LogError, match=r"target\[FR_hip_joint\] at 0 s: is NaN, but the robot drives this joint by pos"
    ):
        Trajectory.of(silent, robot).targets(robot)
    with pytest.raises(LogError, match=r"the robot 'cartpole' has joints without a motor, whose state is in no rec"):
        Trajectory.of(swinging(joints=("slider",)), load_robot("cartpole"))
    with pytest.raises(LogError, match=r"all signals together last 0.01 s, less than two steps of 0.01 s"):
        Trajectory.of(swinging(count=2), load_robot("pendulum"))
    with pytest.raises(ConfigError, match="no recording was given"):
        Comparison(robot, [])
    with pytest.raises(ConfigError, match=r"horizons = \(5, 1\): write different numbers of steps, the smallest first"):
        GapOptions(horizons=(5, 1))


# errors


def test_a_base_that_goes_straight_and_turns_evenly_is_predicted_by_constant_velocity():
    robot = load_robot("go1")
    time = 0.02 * np.arange(30)
    half = 0.5 * 0.8 * time
    recording = swinging(
        count=30,
        interval=0.02,
        joints=robot.joint_names,
        position=np.tile(robot.default_qpos[7:], (30, 1)),
        velocity=np.zeros((30, 12)),
        target=np.zeros((2, 12)),
        feedforward_torque=None,
        base_position=np.stack([0.5 * time, 0 * time, 0.3 + 0 * time], axis=1),
        base_velocity=np.tile([0.5, 0.0, 0.0], (30, 1)),
        orientation=np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=1),
        angular_velocity=np.tile([0.0, 0.0, 0.8], (30, 1)),
    )
    trajectory = Trajectory.of(recording, robot)
    assert not trajectory.held
    errors = baseline_errors(trajectory, robot, np.array([0, 5]), (10,))
    for values in errors["constant velocity"].values():
        np.testing.assert_allclose(values[10], 0.0, atol=1e-12)
    constant = errors["constant"]
    np.testing.assert_allclose(constant["base position"][10], 0.1 / np.sqrt(3))  # 0.1 m in one of three axes
    np.testing.assert_allclose(constant["base orientation"][10], 0.8 * 0.2)
    np.testing.assert_allclose(constant["joint positions"][10], 0.0, atol=1e-15)


def test_errors_are_of_the_state_so_many_steps_later_and_a_diverged_one_is_infinite():
    robot = load_robot("pendulum")
    trajectory = Trajectory.of(swinging(torque=2.0 * np.ones((40, 1))), robot)
    states = Predicted(np.array([[0.15], [np.nan]]), np.ones((2, 1)), np.array([[1.5], [2.0]]))
    errors = prediction_errors(trajectory, robot, np.array([3, 4]), {10: states})
    np.testing.assert_allclose(errors["joint positions"][10], [0.02, np.inf])
    np.testing.assert_allclose(errors["joint velocities"][10], 0.0, atol=1e-12)
    np.testing.assert_allclose(errors["joint torques"][10], [0.5, 0.0])


def test_quantiles_are_over_the_starts_of_all_recordings():
    first, second = {"joint positions": {1: np.arange(6.0)}}, {"joint positions": {1: np.arange(6.0, 11.0)}}
    assert summary(joined([first, second])) == {"joint positions": {1: {"median": 5.0, "90 %": 9.0}}}


def falling(model, qpos):
    """Let a robot in the air fall limp for 0.2 s, without contacts; return its positions."""
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ACTUATION | mujoco.mjtDisableBit.mjDSBL_CONTACT
    model.opt.timestep, model.opt.iterations, model.opt.ls_iterations = 0.001, 50, 50
    data = mujoco.MjData(model)
    data.qpos[:] = qpos
    return data


def test_a_held_base_stays_and_its_legs_fall_as_those_of_a_robot_that_is_fixed():
    robot = load_robot("go1")
    held = Twin(robot, False, held=True)
    spec = mujoco.MjSpec.from_file(str(robot.folder / "robot.xml"))
    spec.delete(spec.body(robot.base_body).joints[0])
    fixed = spec.compile()
    for field in ("dof_armature", "dof_damping", "dof_frictionloss"):
        getattr(fixed, field)[:] = getattr(robot.model, field)[6:]
    mujoco.mj_setConst(fixed, mujoco.MjData(fixed))
    ours, theirs = falling(held.model, robot.default_qpos), falling(fixed, robot.default_qpos[7:])
    held._put(ours, robot.default_qpos, np.zeros(robot.model.nv))
    for _ in range(200):
        mujoco.mj_step(held.model, ours)
        mujoco.mj_step(fixed, theirs)
    np.testing.assert_allclose(ours.qpos[:7], robot.default_qpos[:7], atol=1e-5)
    np.testing.assert_allclose(ours.qpos[7:], theirs.qpos, atol=1e-4)
    assert np.abs(theirs.qpos - robot.default_qpos[7:]).max() > 0.1
    names = Reader(robot, True).of(ours.qpos[None], ours.qvel[None], None)
    assert set(names) == {"joint positions", "joint velocities"}


def test_what_was_recorded_otherwise_is_remarked():
    robot = load_robot("go1")
    still = {"position": np.tile(robot.default_qpos[7:], (40, 1)), "velocity": np.zeros((40, 12))}
    gains = {"kp": np.full((2, 12), 30.0), "kd": np.tile([joint.kd for joint in robot.joints], (2, 1))}
    commands = {"target": np.tile(robot.default_ctrl, (2, 1)), "feedforward_torque": None}
    recording = swinging(joints=robot.joint_names, **still, **gains, **commands)
    found = Comparison(robot, [recording], options=replace(QUICK, horizons=(1,))).run()
    lacking = "base_position, base_velocity, orientation, angular_velocity"
    assert found.remarks == [
        f"swing: the base is held in the air; not recorded: {lacking}",
        f"swing: kp[FR_hip_joint] was 30, in the simulator it is {robot.joints[0].kp:g}",
    ]
    assert found.errors["joint positions"][1]["median"] < 0.01  # a robot that hangs at rest, but for its weight


def test_gains_that_change_and_commands_beside_the_target_are_remarked():
    """A twentieth of the time without gains, and torques that the robot added, are not in the simulator."""
    robot = load_robot("go1")
    rows, own = 40, robot.joints[0]
    kp, added = np.full((rows, 12), own.kp), np.zeros((rows, 12))
    kp[:2, 3], added[7, 4] = 0.0, -2.5
    still = {"position": np.tile(robot.default_qpos[7:], (rows, 1)), "velocity": np.zeros((rows, 12))}
    commands = {"target": np.tile(robot.default_ctrl, (rows, 1)), "feedforward_torque": added, "kp": kp}
    recording = swinging(joints=robot.joint_names, command_time=0.01 * np.arange(rows), **still, **commands)
    assert remarks([Trajectory.of(recording, robot)], robot)[1:] == [
        f"swing: kp[{robot.joint_names[3]}] was 0 to {own.kp:g}, in the simulator it is {own.kp:g}",
        f"swing: feedforward_torque[{robot.joint_names[4]}] was up to 2.5; the simulator's motor takes position "
        "targets alone",
    ]


# causes


def bowl(places):
    """A score with its least value where all of some causes are right."""

    def score(cause, value):
        return (
            1.0 if cause is None else abs(value - places[cause.name][0]) * places[cause.name][1] + places[cause.name][2]
        )

    return score


def test_causes_are_ranked_by_what_each_alone_explains():
    causes = [
        Cause("weak", "×", 1.0, (0.5, 1.0, 2.0), lambda model, value: None),
        Cause("none", "×", 1.0, (0.5, 1.0, 2.0), lambda model, value: None),
        Cause("strong", "s", 0.0, (0.0, 0.01, 0.02), None),
    ]
    said = []
    score = bowl({"weak": (1.3, 1.0, 0.7), "none": (1.0, 1.0, 1.0), "strong": (0.01, 10.0, 0.1)})
    found = explain(causes, score, said.append)
    assert [item.cause for item in found] == ["strong", "weak", "none"] and said == ["weak", "none", "strong"]
    assert found[0].value == pytest.approx(0.01, abs=1e-4) and found[0].explained == pytest.approx(0.9)
    assert found[1].value == pytest.approx(1.3, abs=0.02) and found[1].explained == pytest.approx(0.3, abs=0.02)
    assert found[2].value == 1.0 and found[2].explained == 0.0


def test_every_cause_changes_what_it_says_and_nothing_else():
    robot = load_robot("go1")
    fields = {
        "joint friction": {"dof_frictionloss"},
        "joint damping": {"dof_damping"},
        "armature": {"dof_armature"},
        "position gain": {"actuator_gainprm", "actuator_biasprm"},
        "velocity gain": {"actuator_biasprm"},
        "torque limit": {"actuator_forcerange"},
        "mass of the base": {"body_mass"},
        "ground friction": {"pair_friction", "geom_friction"},
    }
    causes = {cause.name: cause for cause in causes_of(robot, held=False)}
    assert set(causes) == {*fields, "command delay", "physics step"}
    every = set().union(*fields.values())
    for name, own in fields.items():
        model = copy.deepcopy(robot.model)
        causes[name].apply(model, 1.5)
        moved = {field for field in every if not np.array_equal(getattr(model, field), getattr(robot.model, field))}
        assert moved == own, name
        causes[name].apply(model, 1 / 1.5)
        for field in own:
            np.testing.assert_allclose(getattr(model, field), getattr(robot.model, field))
    assert {cause.name for cause in causes_of(robot, held=True)} == {*fields, "command delay", "physics step"} - {
        "mass of the base",
        "ground friction",
    }


def test_gains_of_a_servo_of_velocities_are_its_velocity_gain():
    robot = load_robot("upkie")
    causes = {cause.name: cause for cause in causes_of(robot, held=False)}
    wheels, legs = robot.joint_indices(["left_wheel", "right_wheel"]), robot.joint_indices(["left_hip", "left_knee"])
    for name, factors in (("position gain", (1.0, 2.0)), ("velocity gain", (2.0, 1.0))):
        model = copy.deepcopy(robot.model)
        causes[name].apply(model, 2.0)
        for joints, factor in zip((wheels, legs), factors, strict=True):
            np.testing.assert_allclose(
                model.actuator_gainprm[joints, 0], factor * robot.model.actuator_gainprm[joints, 0], err_msg=name
            )
    assert causes["joint friction"].unit == "of the torque limit"  # its robot.toml has none to scale


# the command


def described():
    errors = {"joint positions": {1: {"median": 0.001, "90 %": 0.002}, 5: {"median": 0.01, "90 %": 0.02}}}
    causes = explain(
        [Cause("command delay", "s", 0.0, (0.0, 0.008), None)], bowl({"command delay": (0.008, 100.0, 0.2)})
    )
    bases = {"constant": errors, "constant velocity": errors}
    return Gap(["a.csv", "b.csv"], "go1", [0.02, 0.02], 123, 0.008, errors, errors, bases, causes, [], ["by hand"])


def test_the_report_has_every_figure_with_its_unit():
    text = report.as_text(described())
    assert text.splitlines()[:2] == [
        "note: by hand",
        "go1, 2 recordings, 123 states, steps of 20 ms; commands aligned by 8 ms",
    ]
    assert [line.split() for line in text.splitlines()[3:7]] == [
        ["median", "(90", "%)", "1", "step", "5", "steps"],
        ["0.02", "s", "0.1", "s"],
        ["joint", "positions", "(rad)", "0.001", "(0.002)", "0.01", "(0.02)"],
        ["without", "the", "delay", "0.001", "(0.002)", "0.01", "(0.02)"],
    ]
    assert text.splitlines()[-1].split() == ["command", "delay", "8", "ms", "0", "ms", "80.0", "%"]
    assert report.write_figure(described(), "gap.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_compares_what_evaluate_recorded(capsys):
    bundle = str(ZOO / "go1-velocity" / "policy")
    short = ["--episodes", "1", "--seconds", "0.3", "--compare-seconds", "0", "--command", "0.5", "0", "0"]
    assert cli.main(["evaluate", bundle, *short, "--log", "walk.csv"]) == 0
    assert len(logs.read("walk.csv", "go1").time) == 16
    words = ["--horizons", "1", "5", "--causes", "0", "--out", "gap.json"]
    assert cli.main(["gap", bundle, "walk.csv", *words]) == 0
    out = capsys.readouterr().out
    assert "go1, 1 recording, 11 states, steps of 20 ms; commands aligned by 0 ms" in out and "gap.png" in out
    found = json.loads(Path("gap.json").read_text())
    assert (
        found["errors"]["joint positions"]["5"]["90 %"]
        <= 1e-6
        < found["baselines"]["constant"]["joint positions"]["5"]["median"]
    )
    assert Path("gap.png").read_bytes().startswith(b"\x89PNG")
    for arguments, message in (
        (["evaluate", bundle, *short, "--log", "walk.csv"], "walk.csv exists"),
        (["evaluate", bundle, *short, "--log", "new.csv", "--level", "3"], "has no terrain"),
        (["evaluate", bundle, *short, "--log", "new.csv", "--physics", "mjx"], "--physics: has no effect"),
        (["gap", bundle], "LOG (a recording) is missing"),
        (["gap"], "BUNDLE is missing"),
        (["gap", bundle, "none.csv"], "none.csv: there is no such recording"),
    ):
        assert cli.main(arguments) == 2
        assert message in capsys.readouterr().err
        assert not Path("new.csv").exists()  # which would be in the way of the right words
