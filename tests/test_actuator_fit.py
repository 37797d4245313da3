"""Recordings of hidden motors, and networks that are fitted to them: answers known by hand, and what is refused."""

import ast
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_actuator_network import JOINTS, network
from test_actuator_network import arm as arm_with
from test_actuators import ARM_TOML, ARM_XML, arm, servo

from benchmarks import actuator_fit, actuator_speed, page
from jaxloco import cli
from jaxloco.actuator_bench import hidden, rig
from jaxloco.actuator_fit import dataset, learning, models
from jaxloco.actuator_fit.dataset import Series
from jaxloco.actuator_fit.excitation import EXCITATIONS, excite
from jaxloco.actuator_fit.fit import FitOptions, fit
from jaxloco.actuator_fit.record import bench, record
from jaxloco.errors import ConfigError, LogError
from jaxloco.logs import write_parquet
from jaxloco.logs.recording import Recording, read_csv, write_csv
from jaxloco.physics.actuators.fitted import read_network
from jaxloco.physics.motors import motors_of
from jaxloco.robot import Robot, load_robot

STEP = 0.004
PACKAGE = Path(__file__).resolve().parents[1] / "jaxloco"


@pytest.fixture(scope="module")
def go1() -> Robot:
    return load_robot("go1")


def drives(n: int = 1, **changes: float) -> hidden.Drives:
    figures = {"kp": 40.0, "kd": 1.0, "torque_limit": 20.0, "velocity_limit": 20.0, "rotor_inertia": 0.005} | changes
    return hidden.Drives(*(np.full(n, figures[name]) for name in hidden.Drives._fields))


# The bench


def test_the_bench_shares_no_code_with_the_learner():
    allowed = {"jaxloco.actuator_bench", "jaxloco.errors"}
    for file in (PACKAGE / "actuator_bench").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            own = [name for name in names if name.startswith("jaxloco")]
            assert all(any(name.startswith(prefix) for prefix in allowed) for name in own), (file, own)


def test_the_stiff_motor_answers_six_milliseconds_late_and_sags_as_all_draw_current():
    motor, zeros = hidden.Stiff(drives(2), 0.001), np.zeros(2)
    motor.reset(zeros, zeros)
    found = [motor.step(np.array([0.1, 0.0]), zeros, zeros)[0] for _ in range(8)]
    np.testing.assert_allclose(found, [0.0] * 6 + [4.0] * 2)
    for _ in range(50):  # both are asked for more than they have: at 1 - 0.35 x / 20 of the voltage
        both = motor.step(np.ones(2), zeros, zeros)
    np.testing.assert_allclose(both, 20.0 / 1.35, rtol=1e-3)


def test_the_elastic_motor_gives_nothing_within_its_backlash_and_is_a_spring_beyond():
    motor, zeros = hidden.SeriesElastic(drives(), 0.001), np.zeros(1)
    motor.reset(zeros, zeros)
    target = np.array([0.1])
    assert motor.step(target, zeros, zeros) == 0.0 and motor.step(target, zeros, zeros) == 0.0
    for _ in range(3000):
        torque = motor.step(target, zeros, zeros)
    twist = (torque / 400.0 + 0.003).item()  # at rest: the driver's torque is the spring's
    assert torque.item() == pytest.approx(40.0 * (0.1 - twist), rel=1e-3)


def test_the_elastic_motors_rotor_has_less_torque_the_faster_it_turns():
    motor, zeros = hidden.SeriesElastic(drives(), 0.001), np.zeros(1)
    motor.reset(zeros, zeros)
    speeds = []
    for _ in range(400):  # the joint turns as its rotor does, so that the spring pulls at nothing
        motor.step(np.full(1, 1e3), motor._angle, motor._speed)
        speeds.append(motor._speed.item())
    assert 0.5 * drives().velocity_limit.item() < speeds[-1] < drives().velocity_limit.item()
    assert speeds[-1] == pytest.approx(speeds[-100], rel=1e-3)  # torque at this speed is what friction takes


def test_a_robot_in_the_air_keeps_its_base_and_holds_its_legs_against_their_weight(go1):
    machine = bench(go1, "elastic")
    for _ in range(400):
        machine.step(go1.default_ctrl, 0.005)
    height = go1.default_qpos[2] + rig.HEIGHT
    np.testing.assert_allclose(machine.data.qpos[:7], [0.0, 0.0, height, 1.0, 0.0, 0.0, 0.0], atol=1e-9)
    found = np.mean([machine.read().torque for _ in range(200)], axis=0)
    np.testing.assert_allclose(found, machine.data.qfrc_bias[6:], atol=0.03)  # the noise's mean, and what still moves
    assert np.abs(found).max() > 0.3


@pytest.mark.parametrize("motor", hidden.HIDDEN)
def test_a_robot_stands_on_its_feet_with_the_benchs_motors(go1, motor):
    machine = bench(go1, motor, in_the_air=False)
    for _ in range(100):
        measured = machine.step(go1.default_ctrl, 0.01)
    assert 0.2 < machine.data.qpos[2] < 0.3 and machine.data.qpos[3] > 0.99
    knees = measured.torque[2::3]
    assert (knees > 2.0).all() and knees.max() < 15.0  # they carry the trunk


# What moves it


@pytest.mark.parametrize("kind", EXCITATIONS)
def test_targets_stay_in_the_joints_ranges_and_another_seed_gives_others(go1, kind):
    found, other = (excite(go1, kind, 2.0, 500.0, seed) for seed in (0, 1))
    lower, upper = (np.array([getattr(joint, end) for joint in go1.joints]) for end in ("lower", "upper"))
    assert found.targets.shape == (1000, 12) and found.forces.shape == (1000, 4, 3)
    assert (found.targets >= lower).all() and (found.targets <= upper).all()
    assert np.ptp(found.targets, axis=0).min() > 0.3 and not np.array_equal(found.targets, other.targets)
    np.testing.assert_array_equal(found.targets, excite(go1, kind, 2.0, 500.0, 0).targets)


def test_forces_on_feet_leave_the_motors_torque_to_follow_their_targets():
    robot = load_robot("anymal_c")  # a quarter of whose weight is too much for a leg that is stretched out
    share = 9.81 * float(robot.model.body_mass.sum()) / 4.0
    forces = excite(robot, "policy", 5.0, 500.0, 0).forces
    assert 0.3 * share < np.abs(forces[..., :2]).max() < 0.6 * share
    knee, lever = robot.joints[2], 0.3  # the calf's centre of mass is nearer to the knee than that
    assert np.abs(forces).max() * lever < knee.torque_limit


def test_what_a_policy_asks_for_is_held_for_control_periods(go1):
    targets = excite(go1, "policy", 1.0, 500.0, 0).targets.reshape(50, 10, 12)
    assert (targets == targets[:, :1]).all() and (np.diff(targets[:, 0], axis=0) != 0.0).any(axis=1).all()


def test_the_simulators_own_motors_can_be_recorded_at_its_rates(tmp_path):
    robot = arm(tmp_path)
    found = record(robot, "simulator", excite(robot, "chirp", 1.0, 250.0, 0), "one")
    one = dataset.series(found, robot.joints, STEP)
    assert one.torque.shape == (249, 2) and np.abs(one.torque).max() > 2.0
    assert np.sqrt(np.mean((one.torque - one.ideal)[10:] ** 2)) < 0.35 * one.torque.std()  # half a step late
    with pytest.raises(ConfigError, match="rate 300 Hz: the simulator steps at 250 Hz"):
        record(robot, "simulator", excite(robot, "chirp", 1.0, 300.0, 0), "one")


@pytest.mark.parametrize("rate", [300.0, 400.0])
def test_the_bench_is_recorded_at_its_own_rates_alone(tmp_path, rate):
    robot = arm(tmp_path)  # 2.5 ms would be two of its steps, and times would run ahead of what moves
    with pytest.raises(ConfigError, match=f"rate {rate:g} Hz: the test bench steps at 1000 Hz"):
        record(robot, "stiff", excite(robot, "chirp", 0.1, rate, 0), "one")


@pytest.mark.parametrize("kind", EXCITATIONS)
def test_one_row_is_no_excitation(tmp_path, kind):
    with pytest.raises(ConfigError, match=r"seconds = 0.1: is less than two steps at 10 Hz; write at least 0.2"):
        excite(arm(tmp_path), kind, 0.1, 10.0, 0)


# Recordings as data


def recording(seconds: float = 1.0, rate: float = 500.0, **changes) -> Recording:
    """Joints of an arm whose torque is an ideal servo's, by sines."""
    time = np.arange(round(seconds * rate) + 1) / rate
    phase = np.array([0.0, 1.0])
    position = 0.2 * np.sin(2.0 * np.pi * 3.0 * time[:, None] + phase)
    velocity = 0.2 * 6.0 * np.pi * np.cos(2.0 * np.pi * 3.0 * time[:, None] + phase)
    target = 0.4 * np.sin(2.0 * np.pi * time[:, None] + phase)
    torque = 40.0 * (target - position) - velocity
    values = {"time": time, "position": position, "velocity": velocity, "target": target, "torque": torque}
    values |= {"command_time": time, **changes}
    return Recording("log.csv", JOINTS, **values)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Robot:
    folder = tmp_path_factory.mktemp("arm")
    return arm(folder / "arm")


@pytest.mark.parametrize(
    ("robot", "told"), [("cartpole", "'slider' has no position targets"), ("helicopter", "has no joints")]
)
def test_a_robot_without_position_targets_cannot_be_excited(robot, told, capsys):
    assert cli.main(["actuator", "record", "z", "--robot", robot, "--seconds", "1"]) == 2
    assert told in capsys.readouterr().err


def test_a_step_has_the_error_at_its_beginning_and_the_mean_torque_over_it(two):
    """The torque grows linearly in time, so its mean over a step is that in the middle."""
    time = np.arange(501) / 500.0
    ramp = np.stack([time, -2.0 * time], axis=1)
    late = np.arange(-1, 501) / 500.0 + 0.001
    targets = np.stack([np.floor(late * 250.0), np.zeros(502)], axis=1)
    one = dataset.series(recording(torque=ramp, command_time=late, target=targets), two.joints, STEP)
    starts = 0.0 + STEP * np.arange(len(one.error))
    np.testing.assert_allclose(one.torque[:, 0], starts + 0.5 * STEP, atol=1e-9)
    np.testing.assert_allclose(one.torque[:, 1], -2.0 * (starts + 0.5 * STEP), atol=1e-9)
    held = np.floor((np.maximum(np.floor((starts - 0.001) * 500.0 + 1e-6), -1.0) / 500.0 + 0.001) * 250.0)
    expected = held - 0.2 * np.sin(2.0 * np.pi * 3.0 * starts)
    np.testing.assert_allclose(one.error[:, 0], expected, atol=1e-9)


def nan_target() -> np.ndarray:
    target = recording().target.copy()
    target[100, 1] = np.nan
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torque": None}, r"log.csv: torque was not recorded; expected columns such as torque\[shoulder\]"),
        ({"target": nan_target()}, r"log.csv: target\[elbow\] at 0.2 s: has no target"),
        ({"kp": np.full((501, 2), 30.0)}, r"kp\[shoulder\] at 0 s: found 30, and robot.toml has 40"),
        ({"feedforward_torque": np.ones((501, 2))}, r"feedforward_torque\[shoulder\] at 0 s: is not 0"),
        ({"rate": 100.0}, "recorded at 100 Hz, and a network with steps of 0.004 s needs 250 Hz; .* --timestep 0.01"),
    ],
)
def test_a_recording_that_a_network_cannot_be_fitted_to_is_refused_with_its_place(two, changes, message):
    with pytest.raises(LogError, match=message):
        dataset.series(recording(**changes), two.joints, STEP)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torque": -recording().torque}, r"torque\[shoulder\]: has a correlation of -1.00 .* check its sign"),
        (
            {"torque": 9.0 * recording().torque},
            r"torque\[shoulder\]: is 9[.0-9]* times as large .* in N m at the joint",
        ),
        ({"velocity": 0.0 * recording().velocity}, r"velocity\[shoulder\]: varies by 0 rad/s, too little"),
        ({"torque": 1e-3 * recording().torque}, r"torque\[shoulder\]: varies by .* of a limit of 20, too little"),
    ],
)
def test_recordings_without_excitation_or_with_wrong_torques_are_refused(two, changes, message):
    with pytest.raises(LogError, match=message):
        dataset.check_excitation([dataset.series(recording(**changes), two.joints, STEP)], two.joints)
    dataset.check_excitation([dataset.series(recording(), two.joints, STEP)], two.joints)


def test_a_recording_that_is_given_twice_is_refused(tmp_path):
    (tmp_path / "logs").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "logs" / name).write_text("")
    assert len(dataset.files([tmp_path / "logs"])) == 2
    with pytest.raises(LogError, match=r"a.csv: is given twice; .* must not validate too; name it once"):
        dataset.files([tmp_path / "logs", tmp_path / "logs" / ".." / "logs" / "a.csv"])


def test_a_copy_of_a_recording_in_another_format_is_refused(two, tmp_path):
    write_csv(recording(), tmp_path / "a.csv")
    write_parquet(recording(), tmp_path / "b.parquet")
    with pytest.raises(LogError, match=r"b\.parquet: holds the same as .*a\.csv, and what is trained on must not "):
        dataset.load(dataset.files([tmp_path]), two, two.joints, STEP)


def test_targets_that_are_the_positions_are_refused(two):
    found = dataset.series(recording(target=recording().position, command_time=recording().time), two.joints, STEP)
    with pytest.raises(LogError, match=r"target\[shoulder\]: is always as far from the position; is it the column"):
        dataset.check_excitation([found], two.joints)


def test_one_recording_cannot_be_split_and_all_others_have_both_parts():
    with pytest.raises(LogError, match="record at least two"):
        dataset.split(1, 0.2)
    for count in range(2, 40):
        train, validation = dataset.split(count, 0.2)
        assert sorted(train + validation) == list(range(count)) and train and validation


# Fits


def late_motor(count: int, seed: int, steps: int = 400) -> list[Series]:
    """A servo that is two steps late: 20 error two steps ago - 0.5 velocity, of random smooth motion."""
    found = []
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        noise = rng.normal(size=(2, steps + 9, 1))
        smooth = np.stack([np.convolve(column[:, 0], np.ones(4) / 2.0, "same") for column in noise])[..., None]
        error, velocity = 0.2 * smooth[0], 3.0 * smooth[1]
        torque = 20.0 * error[:-2] - 0.5 * velocity[2:]
        found.append(Series(f"{i}", error[2:], velocity[2:], torque, 20.0 * error[2:] - 0.5 * velocity[2:]))
    return found


def test_the_window_that_holds_what_the_motor_reads_is_found_and_fitted():
    train, validation = late_motor(6, 0), late_motor(2, 1)
    windows = ((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3, 4))
    effort = learning.Effort(search=250, steps=500, batch=256, check=250, rate=2e-2)
    found = learning.fit_mlp(train, validation, windows, (32,), effort)
    assert found.window == (0, 1, 2)
    assert min(found.searched[0,], found.searched[0, 1]) > 4.0 * found.searched[0, 1, 2]
    assert found.history[-1][1] < 0.06 * np.std([one.torque for one in train])


def test_an_lstm_remembers_what_the_motor_reads():
    train, validation = late_motor(6, 0), late_motor(2, 1)
    effort = replace(learning.RECURRENT, steps=200, batch=16, check=100)
    found = learning.fit_lstm(train, validation, units=8, cells=1, effort=effort)
    now = np.sqrt(np.mean([(one.torque - one.ideal) ** 2 for one in validation]))
    assert found.history[-1][1] < 0.4 * now and found.window == (0,)


def test_training_stops_when_validation_gets_no_better_and_keeps_the_best():
    train = late_motor(2, 0)
    effort = learning.Effort(steps=400, batch=64, check=20, rate=1e-12, patience=3)
    found = learning.fit_mlp(train, train, ((0,),), (4,), effort)
    assert 4 <= len(found.history) <= 8
    assert found.history[0][1] == pytest.approx(found.history[-1][1], rel=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "lstm"])
def test_predicted_torques_are_those_of_the_simulators_actuator(two, tmp_path, kind):
    fitted = network(kind)
    one = motors_of(arm_with(tmp_path, fitted)).groups[0].chain[0]
    data = dataset.series(recording(0.1), two.joints, STEP)
    state, params, expected = one.init(np.zeros(2)), one.Params(servo(2, kp=1.0, kd=0.0)), []
    for error, velocity in zip(data.error, data.velocity, strict=True):
        state, torque = one.step(params, state, error, np.zeros(2), velocity)
        expected.append(torque)
    np.testing.assert_allclose(models.predicted(fitted, data, np.full(2, 1e3)), expected, rtol=1e-12, atol=1e-12)
    assert np.abs(models.predicted(fitted, data, np.full(2, 0.5))).max() == 0.5


def test_hwangbos_window_is_ten_and_twenty_milliseconds_or_the_nearest_steps():
    assert learning.hwangbo(0.005) == (0, 2, 4) and learning.hwangbo(0.004) == (0, 2, 4)
    assert learning.hwangbo(0.001) == (0, 10, 20) and learning.hwangbo(0.02) == (0, 1, 2)
    assert learning.candidates(0.004)[-1] == (0, 2, 4) and (0,) in learning.candidates(0.004)


def test_joints_with_other_gains_need_networks_of_their_own(tmp_path):
    more = '\n[[joints]]\nname = "elbow"\nkp = 30.0\n'
    (tmp_path / "robot.xml").write_text(ARM_XML)
    (tmp_path / "robot.toml").write_text(ARM_TOML + more)
    robot = load_robot(tmp_path)
    (tmp_path / "a.csv").write_text("nothing")
    with pytest.raises(ConfigError, match=r"'shoulder' and 'elbow' differ in kp.*--joints shoulder"):
        fit([tmp_path / "a.csv"], robot, FitOptions())
    with pytest.raises(ConfigError, match="--joints knee: no joint matches; the robot has shoulder, elbow"):
        fit([tmp_path / "a.csv"], robot, FitOptions(joints=("knee",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (1, 0)}, "must be steps that grow"),
        ({"window": (0, 1), "kind": "lstm"}, "is for --kind mlp"),
        ({"validation": 1.0}, "must be below 1"),
        ({"width": 0}, "must be at least 1"),
    ],
)
def test_options_beyond_their_limits_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        FitOptions(**options)


# The commands


def test_from_recordings_to_a_robot_with_the_network(tmp_path, capsys):
    """The whole way: record, fit, write; nothing that is there is overwritten."""
    folder = tmp_path / "arm"
    arm(folder)
    record_it = ["actuator", "record", "logs", "--robot", str(folder), "--kinds", "step", "--recordings", "3"]
    assert cli.main([*record_it, "--seconds", "1"]) == 0
    assert cli.main([*record_it, "--seconds", "1"]) == 2
    assert "step_000.csv exists; write to another folder" in capsys.readouterr().err
    assert read_csv("logs/step_000.csv").joints == JOINTS
    fit_it = ["actuator", "fit", "logs", "--robot", str(folder), "--out", "fitted", "--steps", "100", "--width", "8"]
    assert cli.main([*fit_it, "--window", "0", "1", "2"]) == 0
    out = capsys.readouterr().out
    assert "validation" in out and 'actuator = { kind = "network", file = "network.npz" }' in out
    report = json.loads(Path("fitted/report.json").read_text())
    errors = report["errors_N_m"]["validation"]
    assert errors["network / ideal PD"] == pytest.approx(errors["network"] / errors["ideal PD"])
    assert set(errors["by joint"]) == set(JOINTS) and report["recordings"]["validation"] == ["logs/step_001.csv"]
    assert Path("fitted/report.png").read_bytes().startswith(b"\x89PNG")
    assert cli.main(fit_it) == 2 and "network.npz exists" in capsys.readouterr().err
    (folder / "network.npz").write_bytes(Path("fitted/network.npz").read_bytes())
    with (folder / "robot.toml").open("a") as file:
        file.write('actuator = { kind = "network", file = "network.npz" }\n')
    assert motors_of(load_robot(folder)).whole.tolist() == [0, 1]
    assert read_network(folder / "network.npz").fitted_on["recordings"] == report["recordings"]


def test_commands_say_what_is_missing(capsys):
    assert cli.main(["actuator"]) == 0 and "record" in capsys.readouterr().out
    for words, message in (
        (["recrod"], "unknown command of jaxloco actuator 'recrod'; did you mean 'record'"),
        (["fit"], "LOGS is missing; see jaxloco actuator fit --help"),
        (["record", "a", "b"], "one folder is written to, not a b"),
        (["fit", "nowhere"], "nowhere: no such recording or folder"),
    ):
        assert cli.main(["actuator", *words]) == 2 and message in capsys.readouterr().err


# The benchmarks


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_benchmark_goes_the_whole_way_and_shows_each_fit():
    own = actuator_fit.BenchOptions(plants=("stiff",), kinds=("hwangbo",), recordings=1, test=1, seconds=1.0)
    *_, result = actuator_fit.run(own)
    (fitted,) = result["fits"]
    errors = fitted["runs"][0]["errors_N_m"]
    assert errors["network / ideal PD"] == pytest.approx(errors["network"] / errors["ideal PD"]) and len(errors) == 4
    assert fitted["joint_seconds"]["train"] == pytest.approx(12 * 0.996 * 3)
    assert "0 2 4" in actuator_fit.show(result)
    assert page._fits(result).met is True  # the preset is reported, not judged


def test_the_worst_fit_and_the_slowest_training_are_judged():
    def fitted(kind: str, ratio: float, seconds: float) -> dict:
        return {
            "kind": kind,
            "plant": "stiff",
            "runs": [{"errors_N_m": {"network / ideal PD": ratio}, "cpu_seconds": seconds}],
        }

    fits = {"fits": [fitted("mlp", 0.19, 30.0), fitted("lstm", 0.21, 61.0), fitted("hwangbo", 0.4, 5.0)]}
    assert page._fits(fits) == page.Measured("mlp 0.190; lstm 0.210; hwangbo 0.400 (motors: stiff)", False)
    assert page._fit_time(fits) == page.Measured("61 s of CPU time, reading included", False)
    speed = {"ideal PD": 1.0, "mlp 3x32": 0.80, "lstm 2x8": 0.65}
    assert page._network_speed({"speed": speed}) == page.Measured("0.80 / 0.65, of CPU time", True)
    times = {"cpu_us_per_env_step": {"median": 60.0}, "wall_us_per_env_step": {"median": 31.0}}
    table = actuator_speed.show({"trainings": dict.fromkeys(speed, times), "speed": speed})
    assert "mlp 3x32" in table and "0.80" in table
