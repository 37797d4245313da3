"""Sim-to-sim: a bundle in plain MuJoCo, with the onboard runtime, against the environment of its training."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import mujoco
import numpy as np
import pytest
from long_robots import long_copy
from playback_helpers import untrained_bundle

from jaxloco import cli
from jaxloco.errors import BundleError, ConfigError, RobotError, UnknownNameError
from jaxloco.onboard import Policy
from jaxloco.onboard.bundle import read_bundle, write_bundle
from jaxloco.onboard.safety import Cause, Guard, Reading
from jaxloco.playback import instruments as instruments_module
from jaxloco.playback import show
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.instruments import Instruments
from jaxloco.playback.play import Playback, describe, evaluate_bundle, share_passed
from jaxloco.playback.scenario import Scenario
from jaxloco.playback.simulator import Simulator
from jaxloco.robot import load_robot, robots_dir
from jaxloco.tasks import recipe
from jaxloco.training import preparation

FORGED = [
    (("robot",), [1], "robot: expected an object"),
    (("robot", "joints"), None, "robot.joints: expected a list of objects, found None"),
    (("robot", "joints", 0), "x", r"robot.joints\[0\]: expected an object"),
    (("robot", "joints", 0, "name"), 3, r"robot.joints\[0\].name: expected text, found 3"),
    (("robot", "joints", 0, "name"), "FR_calf_joint", "robot.joints: expected a different name for each"),
    (("robot", "joints", 1, "default"), "0.9", r"robot.joints\[1\].default: expected a number, found '0.9'"),
    (("robot", "joints", 1, "default"), 10**300, r"robot.joints\[1\].default: expected a number"),
    (("robot", "joints", 1, "kp"), [35.0], r"robot.joints\[1\].kp: expected a number"),
    (("robot", "bodies"), {}, "robot.bodies: expected a list of objects"),
    (("robot", "bodies", 0, "com"), [0.0, 0.0], r"robot.bodies\[0\].com: expected 3 numbers"),
    (("robot", "bodies", 0, "inertia"), [0.0, None, 0.0], r"robot.bodies\[0\].inertia: expected 3 numbers"),
    (("robot", "imu"), [0.0], "robot.imu: expected an object"),
    (("evaluation",), ["x"], "evaluation: expected an object"),
    (("evaluation",), {"survived": "all"}, "evaluation.survived: expected a number, found 'all'"),
    (("evaluation",), {"reward_raw": {"gait": {}}}, "evaluation.reward_raw.gait: expected a number"),
    (("config",), [], "config: expected the configuration"),
    (("config", "task"), None, "config.task: expected a table"),
    (("config", "task", "history"), [4], "config.task: history must be a whole number"),
    (("config", "task", "robot"), "x" * 5000, "cannot be a robot's folder"),
]
"""Where in a provenance something else stands, what, and what is said of it."""

STANDING = Conditions(push_scale=0.0, command=(0.0, 0.0, 0.0))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("bundles")
    return {task: untrained_bundle(task, root / task) for task in ("go1-velocity", "upkie-balance", "cartpole")}


@pytest.fixture(scope="module")
def go1(bundles: dict[str, Path]) -> Playback:
    return Playback.load(bundles["go1-velocity"], STANDING)


def under(playback: Playback, **changes: Any) -> Playback:
    conditions = replace(playback.conditions, **changes)
    return replace(playback, conditions=conditions, robot=conditions.apply(playback.robot))


@pytest.fixture(autouse=True)
def _no_jax_settings(monkeypatch):
    monkeypatch.setattr(preparation, "prepare_jax", lambda: None)


def standing(playback: Playback, steps: int = 20) -> Scenario:
    """The default pose at rest."""
    robot = playback.robot
    commands = {"velocity_command": np.zeros((steps, 3))}
    return Scenario(np.array(robot.default_qpos), np.zeros(robot.model.nv), commands, np.zeros((steps, 3)))


def simulator(playback: Playback, scenario: Scenario) -> Simulator:
    return Simulator(playback.policy.spec, playback.spec, playback.robot, playback.conditions, scenario)


# Conditions


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return plain data with another value at a path."""
    if not path:
        return value
    other: Any = list(tree) if isinstance(tree, list) else dict(tree)
    other[path[0]] = changed(tree[path[0]], path[1:], value)
    return other


@pytest.mark.parametrize(("path", "value", "message"), FORGED)
def test_a_forged_provenance_is_refused_in_one_line(bundles, tmp_path, path, value, message):
    bundle = read_bundle(bundles["go1-velocity"])
    provenance = changed(json.loads(json.dumps(bundle.spec.provenance)), path, value)
    spec = replace(bundle.spec, provenance=provenance)
    folder = write_bundle(tmp_path / "forged", spec, bundle.arrays, bundle.golden)
    with pytest.raises((BundleError, RobotError), match=message) as caught:
        Playback.load(folder, STANDING)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


def test_conditions_change_the_model_and_leave_the_robot_alone():
    robot = load_robot("go1", "full")
    before = robot.model.opt.timestep
    conditions = Conditions(solver="pgs", cone="elliptic", iterations=7, timestep=0.002, friction=0.3)
    changed = conditions.apply(robot)
    opt = changed.model.opt
    assert (opt.solver, opt.cone) == (mujoco.mjtSolver.mjSOL_PGS, mujoco.mjtCone.mjCONE_ELLIPTIC)
    assert (opt.iterations, opt.timestep, changed.substeps) == (7, 0.002, 10)
    assert (changed.model.pair_friction[:, :2] == 0.3).all()
    assert robot.model.opt.timestep == before and robot.substeps == 5


def test_a_friction_that_is_given_counts_where_the_model_is_drawn_too(bundles):
    drawn, given = (
        Playback.load(bundles["go1-velocity"], replace(STANDING, randomize=True, friction=friction)).scenarios(3, 0)
        for friction in (None, 0.3)
    )
    assert len({float(scenario.fields["pair_friction"][0, 0]) for scenario in drawn}) == 3
    for first, second in zip(drawn, given, strict=True):
        np.testing.assert_allclose(second.fields["pair_friction"][:, :2], 0.3)
        np.testing.assert_array_equal(second.fields["pair_friction"][:, 2:], first.fields["pair_friction"][:, 2:])
        np.testing.assert_array_equal(second.fields["body_mass"], first.fields["body_mass"])


def test_a_helicopter_is_evaluated_and_its_thrusters_saturate_at_the_limits_of_their_commands(tmp_path):
    folder = untrained_bundle("heli-hover", tmp_path / "policy", net_arch_pi=(8,), net_arch_vf=(8,))
    figures = evaluate_bundle(folder, Conditions(seconds=0.2), 1, 0, compare_seconds=0.0)
    assert figures["torque_saturation"] == {"mean": 0.0, "largest": 0.0, "joint": ""}  # it commands next to nothing
    playback = Playback.load(folder, Conditions(seconds=0.2))
    (scenario,) = playback.scenarios(1, 0)
    simulator = Simulator(playback.policy.spec, playback.spec, playback.robot, playback.conditions, scenario)
    simulator.reset()
    sticks = np.array([5.0, 0.0, 0.0, 0.0])  # one far beyond its limit
    simulator.step({"sticks": sticks})
    drive = playback.spec.action.drive(playback.robot)
    beyond = np.abs(drive.offset + drive.matrix @ sticks) > 1.0  # the limits of each command
    assert 0 < beyond.sum() < len(beyond)
    np.testing.assert_array_equal(simulator.record.torque[0], beyond)


def test_a_timestep_that_does_not_divide_the_control_period_is_refused_with_one_that_does():
    with pytest.raises(ConfigError, match=r"does not divide the control period of 0.02 s; take 0.00285714"):
        Conditions(timestep=0.003).apply(load_robot("go1"))


@pytest.mark.parametrize("wrong", [{"delay": -1.0}, {"noise": float("nan")}, {"iterations": 0}, {"seconds": 0.0}])
def test_conditions_that_cannot_be_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Conditions(**wrong)


# Instruments


def test_instruments_read_a_tilted_moving_robot():
    robot = load_robot("upkie")
    qpos, qvel = np.array(robot.default_qpos), np.zeros(robot.model.nv)
    half = 0.1  # pitched forward by 0.2 rad
    qpos[robot.base_qpos_indices[3:]] = [np.cos(half), 0.0, np.sin(half), 0.0]
    qvel[robot.base_qvel_indices] = [1.0, 0.0, 0.0, 0.0, 0.5, 0.0]
    panel = Instruments(robot).at(qpos, qvel)
    assert panel["pitch"] == pytest.approx(0.2) and panel["roll"] == pytest.approx(0.0)
    assert panel["pitch_velocity"] == 0.5
    np.testing.assert_allclose(panel["projected_gravity"], [np.sin(0.2), 0.0, -np.cos(0.2)], atol=1e-12)
    np.testing.assert_allclose(panel["base_linear_velocity"], [np.cos(0.2), 0.0, np.sin(0.2)], atol=1e-12)


def test_an_unknown_reading_names_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'joint_velocities'"):
        Instruments(load_robot("go1")).require(["joint_velocitis"])


# The simulator


@pytest.mark.slow
def test_a_delay_of_one_control_period_lets_targets_act_one_step_later(go1):
    """In the first period the default pose is held, then what was sent in the first step."""
    prompt, late = go1, under(go1, delay=20.0)
    default = np.asarray(prompt.robot.default_ctrl)
    moved = default + 0.2
    fast, slow = simulator(prompt, standing(prompt)), simulator(late, standing(late))
    fast.reset(), slow.reset()
    for target in (default, moved):
        fast.step({"joint_position_targets": target})
    for target in (moved, moved):
        slow.step({"joint_position_targets": target})
    np.testing.assert_array_equal(fast.record.qpos[1], slow.record.qpos[1])
    assert not np.array_equal(fast.record.qpos[1], fast.record.qpos[0])


def test_latency_shows_the_policy_the_past(go1):
    playback = under(go1, latency=20.0)
    client = simulator(playback, standing(playback))
    client.reset()
    seen = [client.step({"joint_position_targets": playback.robot.default_ctrl + 0.2}).inputs for _ in range(3)]
    joints = playback.robot.joint_qpos_indices
    offsets = np.array(client.record.qpos)[:, joints] - playback.robot.default_qpos[joints]
    np.testing.assert_array_equal(seen[0]["joint_offsets"], np.zeros(12))
    np.testing.assert_array_equal(seen[2]["joint_offsets"], offsets[1])


def test_saturation_counts_the_time_that_motors_are_at_their_limits(go1):
    """Asked for 100 rad, every motor gives all it has, up to the speed at which its curve holds it back."""
    playback = go1
    client = simulator(playback, standing(playback))
    client.reset()
    client.step({"joint_position_targets": playback.robot.default_ctrl})
    assert not client.record.torque[0].any() and not client.record.speed[0].any()
    client.step({"joint_position_targets": playback.robot.default_ctrl + 100.0})
    torque, speed = client.record.torque[1], client.record.speed[1]
    np.testing.assert_allclose(torque + speed, np.ones(12))
    assert (torque >= 0.2).all() and speed.any()  # at rest, in the first of five substeps, the torque limit binds


def test_noise_is_bounded_by_the_training_noise_times_its_factor(go1):
    playback = under(go1, noise=2.0)
    term = next(t for t in playback.spec.observations["actor"].terms if t.quantity == "projected_gravity")
    client = simulator(playback, standing(playback))
    readings = [client.reset()]
    readings += [client.step({"joint_position_targets": playback.robot.default_ctrl}) for _ in range(19)]
    names = "projected_gravity"
    errors = np.array([r.inputs[names] - i[names] for r, i in zip(readings, client.record.inputs, strict=True)])
    assert 0.0 < np.abs(errors).max() <= 2.0 * (term.noise + term.bias)
    assert np.ptp(errors[:, 0]) > 0.5 * term.noise


@pytest.mark.slow
def test_scenarios_are_drawn_from_the_command_box_and_the_same_seed_draws_the_same(go1):
    playback = under(go1, randomize=True, seconds=2.0, command=None)
    first, again = playback.scenarios(8, 3), playback.scenarios(8, 3)
    commands = np.concatenate([s.commands["velocity_command"] for s in first])
    assert (np.abs(commands) <= [1.5, 0.8, 1.2]).all() and np.ptp(commands[:, 0]) > 0.5
    masses = np.array([s.fields["body_mass"] for s in first])
    assert np.std(masses, axis=0)[1:].min() > 0.0 and first[0].steps == 100
    jax.tree.map(np.testing.assert_array_equal, vars(first[5]), vars(again[5]))


# Against training


@pytest.mark.parametrize("task", ["upkie-balance", "cartpole", pytest.param("go1-velocity", marks=pytest.mark.slow)])
def test_the_nominal_simulation_shows_what_training_shows(bundles, task):
    """Two implementations of readings, action pipeline, motors and physics calls agree step by step."""
    playback = Playback.load(bundles[task], Conditions())
    # Long after rounding has driven two apart. (In scenario 0 a Go1 has one step of 250 on the edge of a contact.)
    assert playback.difference(playback.scenarios(1, 1)[0], 5.0) is None


def test_a_policy_with_a_memory_begins_each_episode_without_it(tmp_path):
    playback = Playback.load(
        untrained_bundle("cartpole", tmp_path / "policy", kind="gru", rnn_hidden_size=6), Conditions()
    )
    scenario = playback.scenarios(1, 1)[0]
    first, again = (playback.play(scenario)[2] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert playback.difference(scenario, 1.0) is None


@pytest.mark.slow
def test_a_robot_that_starts_and_stops_shows_what_training_shows(bundles):
    """The gait clock, and with it the steps on the spot, starts and rests in the same control step on both sides."""
    playback = Playback.load(bundles["go1-velocity"], Conditions(push_scale=0.0))
    scenario = playback.scenarios(1, 1)[0]
    commands = np.zeros((150, 3))
    commands[20:60] = commands[110:] = [0.5, 0.0, 0.0]
    changing = replace(scenario, pushes=scenario.pushes[:150], commands={"velocity_command": commands})
    assert playback.difference(changing, 3.0) is None


@pytest.mark.slow
def test_pushes_and_random_models_are_no_difference_but_given_to_both_sides(bundles):
    playback = Playback.load(bundles["upkie-balance"], Conditions(push_scale=3.0, randomize=True, noise=2.0))
    scenario = playback.scenarios(1, 0)[0]
    pushes = np.zeros((100, 3))
    pushes[10:30, 0] = 20.0
    pushed = replace(scenario, pushes=pushes, commands={n: values[:100] for n, values in scenario.commands.items()})
    assert scenario.fields and playback.difference(pushed, 2.0) is None
    assert playback.not_compared() == ["--noise 2", "--push-scale 3", "--randomize"]


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained_bundle("go1-rough", tmp_path_factory.mktemp("rough") / "policy")


@pytest.mark.slow
def test_a_policy_for_terrain_is_played_on_it_at_the_level_asked_for(rough):
    playback = Playback.load(rough, Conditions(push_scale=0.0), level=9)
    terrain = playback.spec.terrain
    kinds = range(len(terrain.kinds))
    scenarios = playback.scenarios(len(kinds), 0)
    places = np.array([scenario.qpos[:2] for scenario in scenarios])
    assert np.abs(places[:, 0] - terrain.centre(9, 0)[0]).max() <= 0.25 * terrain.platform
    columns = [terrain.centre(0, kind)[1] for kind in kinds]
    assert sorted(np.argmin(np.abs(places[:, 1:] - columns), axis=1)) == list(kinds)
    stairs = scenarios[int(np.argmin(np.abs(places[:, 1] - columns[terrain.kinds.index("stairs_up")])))]
    assert playback.difference(stairs, 4.0) is None


@pytest.mark.slow
def test_a_robot_that_leaves_the_terrain_on_its_feet_has_survived(rough):
    playback = Playback.load(rough, Conditions(push_scale=0.0))
    (scenario,) = playback.scenarios(1, 0)
    qpos = scenario.qpos.copy()
    qpos[:3] = 0.5 * playback.spec.terrain.extent[0], 0.0, 0.3
    result, _, _ = playback.play(replace(scenario, qpos=qpos))
    assert result.report.steps == 1 and result.report.truncated and result.survived


def test_a_level_without_terrain_is_refused(bundles):
    with pytest.raises(ConfigError, match="task 'go1-velocity' has no terrain; leave --level out"):
        Playback.load(bundles["go1-velocity"], Conditions(), level=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditions", [{"delay": 20.0}, {"latency": 20.0}, {"timestep": 0.02}, {"solver": "pgs"}, {"friction": 0.1}]
)
def test_other_conditions_are_noticed_and_not_before_they_have_an_effect(go1, conditions):
    playback = under(go1, command=(0.5, 0.0, 0.0), **conditions)
    found = playback.difference(playback.scenarios(1, 0)[0], 0.5)
    assert found is not None and 1 <= found.step < 10


@pytest.mark.slow
def test_a_robot_with_other_gains_differs_from_the_one_trained_with_where_that_is_still_there(bundles, tmp_path):
    soft = Path(shutil.copytree(robots_dir() / "go1", tmp_path / "soft"))
    text = (soft / "robot.toml").read_text()
    (soft / "robot.toml").write_text(text.replace("kp = 35.0", "kp = 10.0"))
    playback = Playback.load(bundles["go1-velocity"], replace(STANDING, robot=str(soft)))
    assert playback.not_compared() == ["--push-scale 0"]
    found = playback.difference(playback.scenarios(1, 0)[0], 0.5)
    assert found is not None and found.step >= 1
    nowhere = replace(playback, trained=None)
    assert nowhere.not_compared() == [f"--robot {soft} (that of the training is not here)", "--push-scale 0"]


def test_a_wrong_sign_in_a_reading_is_named_with_its_component_and_step(go1, monkeypatch):
    sound = instruments_module._joints

    def unsound(robot, default):
        entries = sound(robot, default)
        flip = np.where(np.array(robot.joint_names) == "RL_calf_joint", -1.0, 1.0)
        return {**entries, "joint_offsets": lambda q, v: flip * entries["joint_offsets"](q, v)}

    monkeypatch.setattr(instruments_module, "_joints", unsound)
    playback = go1
    scenario = standing(playback)
    column = playback.robot.joint_qpos_indices[playback.robot.joint_names.index("RL_calf_joint")]
    scenario.qpos[column] += 0.3
    found = playback.difference(scenario, 0.1)
    assert found is not None
    assert (found.term, found.component, found.step) == ("joint_offsets", "RL_calf_joint", 0)
    assert (found.here, found.training) == (pytest.approx(-0.3), pytest.approx(0.3))
    assert "joint_offsets[RL_calf_joint] at step 0" in str(found)


def test_what_a_legged_robot_cannot_read_gets_the_safe_command(bundles):
    policy = Policy.load(bundles["go1-velocity"])
    robot, guard = load_robot("go1"), Guard(policy)
    good = {
        "base_angular_velocity": np.zeros(3),
        "projected_gravity": np.array([0.0, 0.0, -1.0]),
        "joint_offsets": np.zeros(12),
        "joint_velocities": np.zeros(12),
        "velocity_command": np.array([1.5, 0.8, 1.2]),
    }
    wrong = {
        "base_angular_velocity": np.array([0.0, 0.0, 60.0]),
        "projected_gravity": np.array([0.0, 0.0, -9.81]),  # m/s², not a direction
        "joint_offsets": np.full(12, 180.0 / np.pi),
        "joint_velocities": np.full(12, 100.0),
        "velocity_command": np.array([50.0, 0.0, 0.0]),
    }
    safe = {"joint_position_targets": pytest.approx(robot.default_ctrl)}
    for step, (name, value) in enumerate(wrong.items()):
        assert guard.act(Reading(good, 2.0 * step)) != safe
        assert guard.act(Reading({**good, name: value}, 2.0 * step + 1.0)) == safe
        assert guard.counts[Cause.OUT_OF_RANGE] == step + 1
    swing = [joint.upper - joint.default for joint in robot.joints]
    guard.act(Reading({**good, "joint_offsets": np.array(swing), "joint_velocities": np.full(12, 25.0)}, 99.0))
    assert guard.counts[Cause.OUT_OF_RANGE] == len(wrong)


def test_another_robot_and_rounded_delays_are_said_and_offsets_are_from_the_pose_of_the_training(bundles, tmp_path):
    low = long_copy("go1", tmp_path / "low")
    text = (low / "robot.toml").read_text()
    (low / "robot.toml").write_text(
        text.replace('name = "go1"', 'name = "low"').replace("default = 0.9", "default = 1.0")
    )
    asked = replace(STANDING, robot=str(low), delay=10.0)
    playback = Playback.load(bundles["go1-velocity"], asked)
    assert playback.remarks(asked) == [
        "a policy for the robot 'go1', played on 'low'",
        "--delay 10 is simulated as 8 ms: whole steps of 4 ms",
    ]
    assert playback.conditions.delay == pytest.approx(8.0)
    thighs = [name.endswith("thigh_joint") for name in playback.robot.joint_names]
    qpos, qvel = playback.robot.default_qpos, np.zeros(playback.robot.model.nv)
    offsets = playback.instruments.at(qpos, qvel)["joint_offsets"]
    np.testing.assert_allclose(offsets, np.where(thighs, 0.1, 0.0), atol=1e-12)
    scenario = replace(playback.scenarios(1, 0)[0], qpos=qpos, qvel=qvel)
    _, record, _ = playback.play(scenario)
    np.testing.assert_allclose(record.inputs[0]["joint_offsets"], offsets, atol=1e-12)


# The command


@pytest.mark.slow
def test_evaluate_plays_a_bundle_and_a_run_with_one_command(bundles, tmp_path, capsys):
    run = tmp_path / "run"
    untrained_bundle("cartpole", run / "policy")
    (run / "config.json").write_text("{}")
    words = ["--episodes", "2", "--seconds", "0.2", "--compare-seconds", "0.1", "--out"]
    assert cli.main(["evaluate", str(bundles["cartpole"]), *words, "a.json"]) == 0
    assert cli.main(["evaluate", str(run), "--engine", "native", *words, "b.json"]) == 0
    out = capsys.readouterr().out
    same = "each step in the first 0.1 s of episode 0 shows the readings that it would in training"
    assert out.count("survived") == 2 and same in out and "left out" not in out
    first, second = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    assert first == second and first["episodes"] == 2 and first["survived"] == first["passed"] == 1.0


def test_a_robot_that_stands_at_the_end_has_passed_where_that_is_asked_for():
    spec = recipe("go1-recovery").task.spec()
    robot = load_robot(spec.robot, spec.variant)
    lies = robot.default_qpos.copy()
    lies[2:7] = 0.1, 0.0, 1.0, 0.0, 0.0  # on its back
    records = [SimpleNamespace(qpos=[lies, qpos], qvel=np.zeros((2, 18))) for qpos in (robot.default_qpos, lies)]
    results = [SimpleNamespace(survived=True)] * 2
    assert share_passed(spec.curriculum, Instruments(robot, spec.quantities), results, records) == {"passed": 0.5}
    walked = recipe("go1-rough").task.spec()  # what it walked is not in the readings at the end
    assert share_passed(walked.curriculum, Instruments(robot, walked.quantities), results, records) == {}


def test_the_table_names_the_first_difference(bundles):
    figures = evaluate_bundle(bundles["upkie-balance"], Conditions(latency=50.0), 1, 0, compare_seconds=0.4)
    assert describe(figures).startswith("first reading that differs from training: ")
    assert {"ground_position", "ground_velocity"} <= figures["reward_raw"].keys()


@pytest.mark.slow
def test_the_first_fall_is_compared_and_what_was_left_out_is_said(bundles, monkeypatch):
    played = Playback.play

    def falling(self: Playback, scenario: Scenario, *rest: Any) -> Any:
        result, record, actions = played(self, scenario, *rest)
        return replace(result, survived=scenario.seed != 6), record, actions

    monkeypatch.setattr(Playback, "play", falling)
    conditions = Conditions(noise=5.0, push_scale=4.0, randomize=True, seconds=0.2)
    figures = evaluate_bundle(bundles["upkie-balance"], conditions, 3, 5)
    assert (figures["compared_episode"], figures["compared_seconds"]) == (1, 0.2)
    first, second = describe(figures).splitlines()
    assert first == "each step in the first 0.2 s of episode 1 shows the readings that it would in training"
    assert second == "left out of this comparison: --noise 5, --push-scale 4, --randomize"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--robot-variant ful", "did you mean 'full'?"),
        ("--robot upkie", "not those of 'upkie' ('FR_hip_joint' is not there"),
        ("--command 1.0", "velocity_command has 3 components"),
        (
            "--command 100 0 0",
            "command 100 0 0: the policy was trained on velocity_command from -1.5 -0.8 -1.2 to 1.5 0.8 1.2 (m/s",
        ),
        ("--command 0 0 nan", "command = (0.0, 0.0, nan): must be finite"),
        ("--timestep 0.003", "does not divide the control period"),
        ("--delay -1", "delay = -1.0: must not be negative"),
        ("--delay 1", "delay 1 ms: less than half a simulation step, which is 4 ms; take 4, or shorter steps as well"),
        ("--physics mjx", "--physics: has no effect in plain MuJoCo, where a bundle is played"),
        ("--checkpoint best", "--checkpoint: has no effect in plain MuJoCo"),
    ],
)
def test_a_mistake_is_one_line(bundles, capsys, words, message):
    try:
        status = cli.main(["evaluate", str(bundles["go1-velocity"]), *words.split()])
    except SystemExit as error:
        status = int(error.code or 0)
    assert status == 2 and message in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("command", ["evaluate", "robustness"])
def test_a_command_of_another_size_is_refused_whatever_draws_it_in_training(command, capsys):
    assert cli.main([command, "go1-tracking", "--command", "1", "0"]) == 2
    assert "command (1.0, 0.0): motion_choice has 3 components" in capsys.readouterr().err


def test_a_policy_of_ones_own_robot_is_played_from_anywhere_with_the_folder_named(tmp_path, monkeypatch, capsys):
    own = Path(shutil.copytree(robots_dir() / "cartpole", tmp_path / "robots" / "mine"))
    monkeypatch.chdir(tmp_path)
    bundle = untrained_bundle("cartpole", tmp_path / "policy", robot="robots/mine")  # as older runs have it
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    short = ["--seconds", "0.1"]
    assert cli.main(["evaluate", str(bundle), *short]) == 2
    assert cli.main(["run", str(bundle), "--video", "x.mp4", *short]) == 2
    assert capsys.readouterr().err.count("robots/mine: no such folder") == 2
    with pytest.raises(RobotError, match="--robot FOLDER of evaluate and run"):
        Playback.load(bundle, Conditions())
    named = ["--robot", str(own)]
    assert cli.main(["evaluate", str(bundle), *named, *short, "--episodes", "1", "--compare-seconds", "0.1"]) == 0
    assert Playback.load(bundle, Conditions(robot=str(own))).spec.robot == str(own)
    filmed: list[Conditions] = []
    monkeypatch.setattr(show, "film", lambda bundle, conditions, *_: (filmed.append(conditions), (None, Path()))[1])
    assert cli.main(["run", str(bundle), "--video", "x.mp4", *named]) == 0
    assert filmed[0].robot == str(own)


def test_a_bundle_without_its_configuration_says_how_to_get_one(bundles, tmp_path):
    bundle = read_bundle(bundles["cartpole"])
    bare = write_bundle(tmp_path / "bare", replace(bundle.spec, provenance={}), bundle.arrays, bundle.golden)
    with pytest.raises(BundleError, match=r"provenance.config: expected .* jaxloco export RUN"):
        Playback.load(bare, Conditions())


def test_a_robot_whose_gains_have_changed_since_is_refused(bundles, tmp_path):
    bundle = read_bundle(bundles["go1-velocity"])
    provenance = json.loads(json.dumps(bundle.spec.provenance))
    provenance["robot"]["joints"][2]["kp"] = 20.0
    spec = replace(bundle.spec, provenance=provenance)
    changed = write_bundle(tmp_path / "changed", spec, bundle.arrays, bundle.golden)
    with pytest.raises(ConfigError, match=r"'FR_calf_joint' has kp = 35.0, but had 20.0 when the policy in"):
        Playback.load(changed, Conditions())
    assert Playback.load(changed, Conditions(robot="go1")).robot.name == "go1"


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("robot.xml", 'mass="5.204"', 'mass="15.2"', "body 'trunk' has mass = 15.2, but had 5.204 when the policy in"),
        (
            "robot.toml",
            "frictionloss = 0.3",
            "frictionloss = 3.0",
            "'FR_hip_joint' has frictionloss = 3.0, but had 0.3",
        ),
        ("robot.toml", "control_frequency = 50.0 ", "control_frequency = 125.0 ", "control_frequency = 125, but .* 50"),
        ("robot.toml", "RL_calf_joint", None, "'RL_calf_joint' is not there"),
    ],
)
def test_a_robot_folder_that_has_changed_since_is_refused(tmp_path, file, old, new, message):
    own = long_copy("go1", tmp_path / "mine")
    bundle = untrained_bundle("go1-velocity", tmp_path / "policy", robot=str(own))
    assert Playback.load(bundle, Conditions()).robot.name == "go1"
    text = (own / file).read_text()
    if new is None:  # the joint's whole table
        start = text.index(f'[[joints]]\nname = "{old}"')
        changed = text[:start] + text[text.index("[[", start + 2) :]
    else:
        assert old in text
        changed = text.replace(old, new)
    (own / file).write_text(changed)
    with pytest.raises(ConfigError, match=message):
        Playback.load(bundle, Conditions())
    if "control_frequency" in old or new is None:
        with pytest.raises(ConfigError, match=message):
            Playback.load(bundle, Conditions(robot=str(own)))
