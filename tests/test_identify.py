"""Identification: figures of simulated robots found from their recordings, and what is refused."""

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mujoco
import numpy as np
import pytest

from benchmarks import identify as benchmark
from jaxloco import cli
from jaxloco.errors import ConfigError, JaxlocoError, LogError, RobotError
from jaxloco.identification import Estimate, Identification, Options, identify, toolbox
from jaxloco.identification.calibrated import as_text, ranges, write_calibrated
from jaxloco.identification.identify import _Fit, _fitted
from jaxloco.identification.intervals import autocorrelation, bootstrapped, half_widths, noise_of, select
from jaxloco.identification.problem import Problem
from jaxloco.identification.trial import Held, Trial, beyond_curve
from jaxloco.identification.unknowns import Unknown, unknowns_of
from jaxloco.installation import pip_install
from jaxloco.logs import Recording
from jaxloco.robot import Robot, load_robot

MODEL = """<mujoco model="biped">
  <worldbody>
    <geom name="floor" type="plane" size="0 0 0.05"/>
    <body name="trunk" pos="0 0 0.5">
      <freejoint/>
      <inertial pos="0 0 0" mass="4" diaginertia="0.02 0.02 0.02"/>
      {legs}
    </body>
  </worldbody>
</mujoco>
"""
LEG = """<body name="{side}_thigh" pos="0 {y} 0">
        <joint name="{side}_hip" axis="0 1 0"/>
        <inertial pos="0.01 0 -0.1" mass="1.0" diaginertia="0.004 0.004 0.001"/>
        <body name="{side}_shank" pos="0 0 -0.2">
          <joint name="{side}_knee" axis="0 1 0"/>
          <inertial pos="0.01 0 -0.1" mass="0.3" diaginertia="0.001 0.001 0.0005"/>
        </body>
      </body>"""
TOML = """schema = 1

[robot]
name = "biped"
model = "robot.xml"
base_body = "trunk"

[timing]
control_frequency = 50.0
simulation_timestep = 0.004

[pose]
base_position = [0.0, 0.0, 0.5]

[[joints]]
name = "*" # all of them
default = { "*_hip" = 0.4, "*_knee" = -0.8 }
kp = 30.0 # N m/rad
kd = 0.5
torque_limit = 20.0
velocity_limit = 30.0
armature = 0.005
frictionloss = { "*" = 0.2, "*_knee" = 0.4 }
damping = 0.1
"""
TRUTH = {
    "delay": 0.006,
    "armature[hip]": 0.007,
    "armature[knee]": 0.004,
    "frictionloss[hip]": 0.3,
    "frictionloss[knee]": 0.25,
    "damping[hip]": 0.15,
    "damping[knee]": 0.06,
    "kp[hip]": 27.0,
    "kp[knee]": 33.0,
    "kd[hip]": 0.45,
    "kd[knee]": 0.6,
    "bias[left_hip]": 0.01,
    "bias[right_hip]": -0.01,
    "bias[left_knee]": 0.005,
    "bias[right_knee]": -0.015,
}
NOISE = {"position": 0.001, "velocity": 0.02, "torque": 0.05}


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory) -> Robot:
    folder = tmp_path_factory.mktemp("biped")
    legs = "\n      ".join(LEG.format(side=side, y=y) for side, y in (("left", 0.1), ("right", -0.1)))
    (folder / "robot.xml").write_text(MODEL.format(legs=legs))
    (folder / "robot.toml").write_text(TOML)
    return load_robot(folder)


def record(
    robot: Robot,
    gains: tuple[float, float] = (30.0, 0.5),
    *,
    seed: int = 0,
    seconds: float = 2.0,
    amplitude: float = 0.2,
    torque: bool = False,
    truth: dict[str, float] = TRUTH,
) -> Recording:
    """A hung biped that follows chirps, in plain MuJoCo with Runge–Kutta steps of half a millisecond."""
    kp, kd, bias = np.array([_servo(name, gains, truth) for name in robot.joint_names]).T
    model = _hung(robot, truth, kp, kd)
    data, rng = mujoco.MjData(model), np.random.default_rng(seed)
    default = np.array([joint.default for joint in robot.joints])
    command_time = np.arange(int(seconds * 200) + 1) / 200
    phase = np.outer(0.5 * command_time + 2.0 * command_time**2, rng.uniform(0.7, 1.3, 4))
    target = default + amplitude * np.sin(2.0 * np.pi * phase)
    late = (np.arange(int(seconds * 2000)) * 0.0005 - truth["delay"]) * 200 + 1e-6
    data.qpos[:] = default - bias
    rows = []
    for i, row in enumerate(np.maximum(late.astype(int), 0)):
        data.ctrl[:] = kp * (target[row] - bias)
        if i % 8 == 3:  # the clocks of state and commands differ
            rows.append((data.qpos + bias, data.qvel.copy(), data.ctrl - kp * data.qpos - kd * data.qvel))
        mujoco.mj_step(model, data)
    position, velocity, effort = (np.array(column) for column in zip(*rows, strict=True))
    noisy = {
        name: values + NOISE[name] * rng.standard_normal(values.shape)
        for name, values in (("position", position), ("velocity", velocity), ("torque", effort))
    }
    if not torque:
        del noisy["torque"]
    return Recording(
        name=f"kp{gains[0]:g}.csv",
        joints=robot.joint_names,
        time=0.0015 + np.arange(len(position)) / 250,
        command_time=command_time,
        target=target,
        kp=np.full_like(target, gains[0]),
        kd=np.full_like(target, gains[1]),
        **noisy,
    )


def _servo(name: str, gains: tuple[float, float], truth: dict[str, float]) -> tuple[float, float, float]:
    """What a motor does that is told these gains: its true ones, and the bias of its encoder."""
    group = name.split("_")[1]
    kp, kd = truth[f"kp[{group}]"] / 30.0, truth[f"kd[{group}]"] / 0.5
    return gains[0] * kp, gains[1] * kd, truth[f"bias[{name}]"]


def _hung(robot: Robot, truth: dict[str, float], kp: np.ndarray, kd: np.ndarray) -> mujoco.MjModel:
    spec = mujoco.MjSpec.from_file(str(robot.folder / "robot.xml"))
    spec.delete(spec.body("trunk").joints[0])
    spec.option.timestep, spec.option.integrator = 0.0005, mujoco.mjtIntegrator.mjINT_RK4
    for i, name in enumerate(robot.joint_names):
        group, joint = name.split("_")[1], spec.joint(name)
        joint.armature, joint.frictionloss = truth[f"armature[{group}]"], truth[f"frictionloss[{group}]"]
        joint.damping = [truth[f"damping[{group}]"], 0.0, 0.0]
        motor = spec.add_actuator(name=name, target=name)
        motor.trntype, motor.biastype = mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtBias.mjBIAS_AFFINE
        motor.gainprm[0], motor.biasprm[:3] = 1.0, [0.0, -kp[i], -kd[i]]
        motor.forcelimited, motor.forcerange = True, [-20.0, 20.0]
    return spec.compile()


def problem(robot: Robot, recordings: list[Recording], **options: Any) -> Problem:
    """The problem at the nominal figures, with the noise of the recordings."""
    trials = [Trial(recording, robot) for recording in recordings]
    torques = recordings[0].torque is not None
    unknowns = unknowns_of(robot, trials[0].model, torques=torques, **options)
    return Problem(robot, trials, unknowns, np.array([NOISE[channel.signal] for channel in trials[0].channels]))


def told(given: Problem) -> tuple[set[str], dict[str, str]]:
    """Names of the unknowns that can be told, and of the others with the reason."""
    _, jacobian = given.derivatives()
    chosen, reasons = select(given.unknowns, jacobian)
    names = [unknown.name for unknown in given.unknowns]
    return {names[i] for i in chosen}, {names[i]: reason for i, reason in reasons.items()}


@pytest.fixture(scope="module")
def two(robot: Robot) -> list[Recording]:
    return [record(robot), record(robot, (60.0, 1.5), seed=1)]


@pytest.fixture(scope="module")
def found(robot: Robot, two: list[Recording]) -> Identification:
    return identify(two, robot, report=lambda _: None)


# A fit


def test_the_figures_of_a_simulated_robot_are_found_within_their_intervals(found: Identification):
    assert {estimate.unknown.name for estimate in found.told} == set(TRUTH)
    inside = [abs(found[name].value - true) <= found[name].half_width for name, true in TRUTH.items()]
    assert sum(inside) >= len(TRUTH) - 3  # fewer in 1 of 300 draws of 15 intervals of 95 %
    for name, true in TRUTH.items():
        assert abs(found[name].value - true) <= 4.0 * found[name].half_width
        if not name.startswith("bias"):
            assert abs(found[name].value / true - 1.0) < 0.03
    assert abs(found["delay"].value - TRUTH["delay"]) < 5e-5
    assert found.intervals == "noise" and abs(found.autocorrelation) < 0.1


def test_the_noise_of_the_sensors_is_found_and_explains_what_is_left(found: Identification):
    for signal in ("position", "velocity"):
        assert np.allclose(found.noise[signal], NOISE[signal], rtol=0.15)
        before, after = found.error[signal]
        assert after < 1.1 * NOISE[signal] < before / 5.0


def test_a_calibrated_folder_is_a_robot_with_the_figures_found(found: Identification, robot: Robot, tmp_path: Path):
    folder = write_calibrated(found, tmp_path / "calibrated")
    new = load_robot(folder)
    for joint in new.joints:
        group = joint.name.split("_")[1]
        for key in ("armature", "frictionloss", "damping", "kp", "kd"):
            assert math.isclose(getattr(joint, key), found[f"{key}[{group}]"].value, rel_tol=1e-4)
    assert [joint.default for joint in new.joints] == [joint.default for joint in robot.joints]
    text = (folder / "robot.toml").read_text()
    assert 'name = "*" # all of them' in text and "# N m/rad" in text and "*_knee" in text
    assert (robot.folder / "robot.toml").read_text() == TOML
    report = json.loads((folder / "identification.json").read_text())
    low, high = report["estimates"]["delay"]["interval"]
    assert low < TRUTH["delay"] < high and not report["kept_nominal"]
    with pytest.raises(ConfigError, match="exists"):
        write_calibrated(found, folder)


def test_ranges_are_options_of_the_tasks_of_legged_robots(found: Identification):
    from jaxloco.options import from_dict
    from jaxloco.tasks import recipe
    from jaxloco.text_files import parse_toml

    table = parse_toml(ranges(found), "ranges.toml", ConfigError)
    default = recipe("go1-velocity")
    task = from_dict(type(default), table, default=default).task
    assert task.gain_scale == (0.95, 1.05) and task.action_delay == pytest.approx((0.0057, 0.0063), abs=2e-5)
    assert task.mass_scale == default.task.mass_scale


def test_the_text_names_each_figure_with_its_interval(found: Identification):
    text = as_text(found)
    assert all(name in text for name in TRUTH)
    assert "intervals: from white noise" in text and "go on commanding those" in text


# What can be told


def test_one_pair_of_gains_does_not_tell_the_velocity_gain_from_friction(robot: Robot):
    names, reasons = told(problem(robot, [record(robot)]))
    assert names == set(TRUTH) - {"kd[hip]", "kd[knee]"}
    assert reasons["kd[hip]"] == "cannot be told apart from damping[hip]"


def test_a_torque_sensor_tells_the_velocity_gain_from_friction(robot: Robot):
    names, _ = told(problem(robot, [record(robot, torque=True)]))
    assert names == {*TRUTH, "torque_lag"}


def test_a_joint_has_figures_of_its_own_where_that_is_asked_for(robot: Robot, two: list[Recording]):
    names = [unknown.name for unknown in problem(robot, two, grouping="joint").unknowns]
    assert "armature[left_hip]" in names and "armature[right_hip]" in names and len(names) == 1 + 6 * 4


def test_derivatives_of_several_limbs_at_once_are_those_of_each_alone(robot: Robot):
    given = problem(robot, [record(robot, seconds=1.2)], masses=True)
    residual, jacobian = given.derivatives()
    x = given.x
    for place, unknown in enumerate(given.unknowns):
        moved = x.copy()
        moved[place] += 1e-4
        alone = (given.residual(moved) - residual) / 1e-4
        assert np.allclose(jacobian[:, place], alone, rtol=1e-3, atol=1e-6 + 1e-3 * np.abs(alone).max()), unknown.name


def test_masses_are_told_as_far_as_a_torque_sensor_feels_them(robot: Robot, tmp_path: Path):
    recordings = [record(robot, torque=True)]
    names, reasons = told(problem(robot, recordings, masses=True))
    assert "mass[shank]" in names and reasons["com_y[shank]"] == "has too little effect in these recordings"


class Fitting:
    """A problem whose data tell less of its second figure with each fit: nothing in the third one."""

    def __init__(self, unknowns: list[Unknown]) -> None:
        self.trials = [SimpleNamespace(name="log.csv", channels=[SimpleNamespace(signal="position")], times=range(50))]
        self.unknowns, self.free, self.sigma, self.fits = unknowns, [0, 1], np.ones(1), 0

    def optimize(self) -> tuple[np.ndarray, np.ndarray]:
        self.fits += 1
        tells = np.eye(2) * (100.0, 100.0 if self.fits < 3 else 1e-3)
        return np.tile([self.fits * 2.0, -self.fits * 2.0], 25), np.tile(tells, (25, 1))[:, self.free]

    def by_channel(self, residual: np.ndarray) -> list[np.ndarray]:
        return [residual[:, None]]

    def keep_nominal(self, names: list[str]) -> None:
        self.free = [i for i in self.free if self.unknowns[i].name not in names]


def test_what_the_last_fit_does_not_tell_stays_nominal():
    unknowns = [Unknown("armature", group, (group,), (0.1,), (0.1,)) for group in ("hip", "knee")]
    fit = _Fit(Fitting(unknowns))  # type: ignore[arg-type]
    _, jacobian = _fitted(fit, Options(), lambda text: None)
    assert fit.kept == {"armature[knee]": "has too little effect in these recordings"} and jacobian.shape == (50, 1)


SHANKS = ("left_shank", "right_shank")
HEAVY_SHANKS = (
    Estimate(Unknown("mass", "shank", SHANKS, (0.3, 0.3), (0.3, 0.3)), 0.5, 0.01),
    Estimate(Unknown("com_z", "shank", SHANKS, (-0.1, -0.1), (0.02, 0.02)), -1.0, 0.1),
    Estimate(Unknown("delay", "", (), (0.0,), (0.01,)), 0.0, math.inf, "no reason"),
)


def test_a_mass_that_was_found_is_in_the_copy_of_the_mjcf(robot: Robot, tmp_path: Path):
    made = Identification(robot, ("a.csv",), HEAVY_SHANKS, {}, {}, 0.0, "noise", 0)
    model = load_robot(write_calibrated(made, tmp_path / "heavy")).model
    for name in SHANKS:
        assert math.isclose(model.body(name).mass[0], 0.45) and math.isclose(model.body(name).ipos[2], -0.12)
        assert np.allclose(np.sort(model.body(name).inertia), np.sort([0.0015, 0.0015, 0.00075]))
    assert math.isclose(model.body("left_thigh").mass[0], 1.0)
    assert "# action_delay: not told" in (tmp_path / "heavy" / "ranges.toml").read_text()


def theirs(robot: Robot, folder: Path, change: Callable[[str], str]) -> Identification:
    """Heavier shanks of the robot as others may have written its MJCF."""
    folder.mkdir()
    (folder / "robot.toml").write_text((robot.folder / "robot.toml").read_text())
    (folder / "robot.xml").write_text(change((robot.folder / "robot.xml").read_text()))
    return Identification(load_robot(folder), ("a.csv",), HEAVY_SHANKS, {}, {}, 0.0, "noise", 0)


@pytest.mark.parametrize("change", [lambda text: text.replace('"', "'"), lambda text: text.replace("=", " = ")])
def test_a_mass_is_written_whatever_the_quotation_marks_and_spaces(robot: Robot, tmp_path: Path, change: Any):
    made = theirs(robot, tmp_path / "theirs", change)
    body = load_robot(write_calibrated(made, tmp_path / "heavy")).model.body("left_shank")
    assert math.isclose(body.mass[0], 0.45) and np.allclose(body.ipos, (0.01, 0.0, -0.12))


def test_a_mass_that_the_model_does_not_take_is_refused(robot: Robot, tmp_path: Path):
    """A compiler that knows a least mass: the robot would have another one than was found."""
    bound = '<compiler boundmass="0.5"/><worldbody>'
    made = theirs(robot, tmp_path / "theirs", lambda text: text.replace("<worldbody>", bound))
    with pytest.raises(RobotError, match=r"'left_shank' has 0\.5 kg where its <inertial> says 0\.45: .*<compiler>"):
        write_calibrated(made, tmp_path / "heavy")
    assert not (tmp_path / "heavy").exists()


def test_joints_of_one_entry_that_are_not_told_keep_their_figures(robot: Robot, tmp_path: Path):
    hips = Unknown("damping", "hip", ("left_hip", "right_hip"), (0.1, 0.1), (0.1, 0.1))
    delay = Estimate(Unknown("delay", "", (), (0.0,), (0.01,)), 0.0, math.inf, "no reason")
    made = Identification(robot, ("a.csv",), (Estimate(hips, 1.0, 0.1), delay), {}, {}, 0.0, "noise", 0)
    new = load_robot(write_calibrated(made, tmp_path / "new"))
    assert {joint.name: joint.damping for joint in new.joints} == {
        name: 0.2 if name.endswith("hip") else 0.1 for name in robot.joint_names
    }


def test_a_range_is_twice_the_half_interval_but_at_least_a_twentieth():
    delay = Unknown("delay", "", (), (0.0,), (0.01,))
    assert Estimate(delay, 1.0, 0.01).range == pytest.approx((0.0095, 0.0105))  # 0.01 ± 5 %
    assert Estimate(delay, 1.0, 0.2).range == pytest.approx((0.006, 0.014))  # ± 2 · 0.002
    assert Estimate(delay, 1.0, 0.9).range[0] == 0.0


# Worked examples


def test_a_held_signal_has_its_exact_mean_in_each_step():
    held = Held(np.array([0.0, 1.0]), np.array([[2.0], [6.0]]))
    assert held.means(np.array([-1.0, 0.5, 1.5, 2.0]))[:, 0].tolist() == pytest.approx([2.0, 4.0, 6.0])
    assert held.means(np.array([0.5, 1.5]) - 0.25)[0, 0] == pytest.approx(3.0)  # a quarter of the step less of 6


def test_half_widths_of_two_orthogonal_columns_and_of_two_equal_ones():
    columns = np.array([[3.0, 0.0], [4.0, 0.0], [0.0, 2.0]])
    assert half_widths(columns).tolist() == pytest.approx([1.96 / 5.0, 1.96 / 2.0])
    assert np.isinf(half_widths(columns[:, [0, 0]])).all()


def test_a_figure_without_effect_leaves_the_intervals_of_others():
    columns = np.array([[3.0, 0.0, 0.0], [4.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert half_widths(columns).tolist() == pytest.approx([1.96 / 5.0, 1.96 / 2.0, np.inf])
    rng, blocks = np.random.default_rng(0), np.arange(400) // 20
    jacobian, residual = np.stack([1e6 * np.ones(400), np.zeros(400)], axis=1), rng.normal(size=400)
    without = bootstrapped(residual, jacobian[:, :1], blocks)
    assert bootstrapped(residual, jacobian, blocks).tolist() == pytest.approx([without[0], 0.0])


def test_white_noise_is_found_below_a_smooth_signal():
    time = np.arange(4000) / 400
    rng = np.random.default_rng(0)
    signal = np.sin(2.0 * np.pi * 3.0 * time) + 0.002 * rng.standard_normal(time.shape)
    assert noise_of([signal[:, None]])[0] == pytest.approx(0.002, rel=0.06)


@pytest.mark.parametrize(("memory", "wider"), [(0.0, 1.0), (0.8, 3.0)])
def test_a_bootstrap_of_blocks_knows_how_sure_the_mean_of_a_series_with_memory_is(memory: float, wider: float):
    """The mean of an AR(1) series has √((1 + φ) / (1 − φ)) times the standard error of white noise: 3 for φ = 0.8."""
    rng = np.random.default_rng(1)
    series = rng.standard_normal(20_000)
    for i in range(1, len(series)):
        series[i] = memory * series[i - 1] + math.sqrt(1.0 - memory**2) * series[i]
    residual = series - series.mean()
    half = bootstrapped(residual, np.ones((len(series), 1)), np.arange(len(series)) // 100)[0]
    assert half == pytest.approx(wider * 1.96 / math.sqrt(len(series)), rel=0.15)
    assert autocorrelation([residual[:, None]]) == pytest.approx(memory, abs=0.03)


def test_residuals_with_memory_widen_the_intervals(robot: Robot, two: list[Recording], found: Identification):
    """A drift that the model lacks: intervals are from the bootstrap, and wider than those of white noise."""
    drift = 0.006 * np.sin(2.0 * np.pi * 1.7 * two[0].time)[:, None]
    drifting = [replace(recording, position=recording.position + drift) for recording in two]
    other = identify(drifting, robot, report=lambda _: None)
    assert other.intervals == "bootstrap" and other.autocorrelation > 0.1
    assert not found.notes and "position: simulated − measured is" in other.notes[0]
    assert other["kp[hip]"].half_width > found["kp[hip]"].half_width


def test_a_motor_beyond_its_torque_speed_curve_is_noted_with_its_time(robot: Robot):
    """At 28.5 of at most 30 rad/s, half of the way from its corner at 27, a motor has 10 of its 20 N m."""
    whole = record(robot, seconds=1.2)
    assert beyond_curve(whole, robot) is None
    velocity, position = whole.velocity.copy(), whole.position.copy()
    velocity[50, 1], position[50, 1] = 28.5, whole.target[40, 1] - 1.1
    note = beyond_curve(replace(whole, velocity=velocity, position=position), robot)
    column = f"velocity[{robot.joint_names[1]}]"
    assert note is not None and note.startswith(
        f"kp30.csv: {column} at 0.2015 s: 28.5 rad/s, where the motor has 10 of"
    )


# What is refused


def refused(robot: Robot, recording: Recording) -> str:
    with pytest.raises(LogError) as caught:
        identify([recording], robot, report=lambda _: None)
    return str(caught.value)


def test_a_slow_recording_is_refused(robot: Robot):
    slow = record(robot, seconds=1.2)
    message = refused(robot, slow.at(slow.time[::5]))
    assert message.startswith("kp30.csv: time: expected at least 100 Hz, found 50 Hz")


def test_a_gap_is_refused_with_its_time(robot: Robot):
    whole = record(robot, seconds=1.2)
    kept = np.r_[0:100, 130:300]
    cut = replace(whole, time=whole.time[kept], position=whole.position[kept], velocity=whole.velocity[kept])
    assert refused(robot, cut).startswith("kp30.csv: time at 0.3975 s: a gap of 0.124 s")


def test_a_short_recording_is_refused(robot: Robot):
    assert "expected at least 1 s" in refused(robot, record(robot, seconds=0.5))


def test_gains_that_change_are_refused_with_their_time(robot: Robot):
    whole = record(robot, seconds=1.2)
    assert whole.kp is not None
    kp = whole.kp.copy()
    kp[100:, 2] = 40.0
    message = refused(robot, replace(whole, kp=kp))
    assert message.startswith(f"kp30.csv: kp[{robot.joint_names[2]}] at 0.5 s: changes from 30 to 40")


def test_a_target_that_is_there_at_times_only_is_refused(robot: Robot):
    whole = record(robot, seconds=1.2)
    target = whole.target.copy()
    target[20:, 1] = np.nan
    message = refused(robot, replace(whole, target=target))
    assert message.startswith(f"kp30.csv: target[{robot.joint_names[1]}] at 0.1 s: found no position target")


def test_a_robot_that_hardly_moves_is_refused(robot: Robot):
    message = refused(robot, record(robot, seconds=1.2, amplitude=0.0))
    assert "too little excitation" in message and message.startswith("kp30.csv: position[")


def test_a_joint_that_does_not_move_keeps_its_figures(robot: Robot):
    whole = record(robot, seconds=1.2)
    still = whole.position.copy()
    still[:, 0] = still[0, 0]
    given = problem(robot, [replace(whole, position=still)])
    assert not given.trials[0].moved[0] and given.trials[0].moved[1:].all()


def test_a_missing_joint_is_refused(robot: Robot):
    message = refused(robot, record(robot, seconds=1.2).select(robot.joint_names[:3]))
    assert f"position[{robot.joint_names[3]}] is missing" in message


def test_recordings_with_different_columns_are_refused(robot: Robot, two: list[Recording]):
    other = record(robot, seconds=1.2, torque=True)
    with pytest.raises(LogError, match=r"kp60\.csv: torque\[.*\] was not recorded"):
        identify([other, two[1]], robot, report=lambda _: None)


def test_a_recording_that_is_given_twice_is_refused(robot: Robot, two: list[Recording]):
    """It would count twice, and each interval be the root of a half of what it is."""
    copy = replace(two[0].since(-1e3), name="copy.csv")
    with pytest.raises(LogError, match=r"copy\.csv: holds the same as kp30\.csv, and intervals would be too narrow"):
        identify([*two, copy], robot, report=lambda _: None)


def test_seconds_since_1970_tell_what_seconds_from_zero_tell(robot: Robot, two: list[Recording]):
    """Floats of such times are 0.24 µs apart, and the delay is varied by 1 µs."""
    far = [one.since(-1.7645e9) for one in two]
    near, late = problem(robot, two[:1]), problem(robot, far[:1])
    assert late.trials[0].step == pytest.approx(near.trials[0].step, rel=1e-8)
    for mine, theirs in zip(near.derivatives(), late.derivatives(), strict=True):
        assert np.max(np.abs(theirs - mine) / np.abs(mine).max(axis=0)) < 2e-3
    with pytest.raises(LogError, match=r"from 1\.7645e\+09 to"):
        still = replace(far[0], position=0.0 * far[0].position)
        identify([still], robot, report=lambda _: None)


def test_without_recordings_nothing_is_identified(robot: Robot):
    with pytest.raises(LogError, match="no recordings"):
        identify([], robot)


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(toolbox.sysid(), "optimize")
    with pytest.raises(JaxlocoError, match=re.escape(pip_install("identify"))):
        toolbox.sysid()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "LOGS"),
        (["a.csv"], "--robot"),
        (["a.csv", "--robot", "go1"], "there is no such recording"),
        (["a.csv", "--robot", "go1", "--out", "."], "exists"),
        (["a.csv", "--robot", "go1", "--out", f"{__file__}/new"], "test_identify.py: is a file; write to another"),
    ],
)
def test_the_command_says_what_is_missing(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["identify", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_noise_that_is_not_above_zero_is_refused():
    with pytest.raises(ConfigError, match="position_noise = 0"):
        Options(position_noise=0.0)


# The benchmark


def test_the_benchmark_sums_up_coverage_and_errors():
    truth = {"delay": 0.01, "bias[a]": 0.0, "kp[hip]": 40.0}
    first = benchmark.Outcome({"delay": (0.0101, 0.0002), "kp[hip]": (42.0, 1.0)}, truth, 2.0, 3.0)
    second = benchmark.Outcome({"delay": (0.01, 0.0002), "bias[a]": (0.001, 0.002)}, truth, 4.0, 5.0)
    result = benchmark.summary([first, second])
    assert result["coverage"] == 0.75 and result["coverage_by_unknown"] == {
        "delay": 1.0,
        "kp[hip]": 0.0,
        "bias[a]": 1.0,
    }
    assert result["lowest_coverage"] == 0.0 and result["told"] == pytest.approx(2.0 / 3.0, abs=1e-3)
    assert result["relative_error"] == {"median": pytest.approx(0.01), "largest": pytest.approx(0.05)}
    assert result["bias_error"]["median"] == pytest.approx(0.001)
    assert result["delay_error"]["largest"] == pytest.approx(1e-4)
    assert "0.750" in benchmark.show(result)
