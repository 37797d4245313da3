"""The loop's recordings: exact, whole, and never in the loop's way."""

import math
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onboard_helpers import make_policy, random_arrays, write_linear_bundle

from jaxloco import logs
from jaxloco.errors import ConfigError, LogError
from jaxloco.logs.recording import read_csv
from jaxloco.onboard import Loop, Reading, Recorder
from jaxloco.onboard.clients import find, register, run_bundle
from jaxloco.onboard.spec import InputSpec, LayerSpec, NetworkSpec, OutputSpec, PolicySpec, Scale

JOINTS = ("hip", "knee")
DEFAULTS = np.array([0.25, -1.5])
SPEC = PolicySpec(
    robot="two_joints",
    task="stand",
    control_frequency=100.0,
    inputs=(
        InputSpec("joint_offsets", "rad", 2, low=-4.0, high=4.0, components=JOINTS),
        InputSpec("joint_velocities", "rad/s", 2, components=JOINTS),
        InputSpec("projected_gravity", "", 3),
        InputSpec("speed_command", "m/s", source="command"),
    ),
    network=NetworkSpec((LayerSpec("kernel", "bias"),)),
    pipeline=(Scale((1.0, 1.0)),),
    outputs=(OutputSpec("joint_position_targets", "rad", 2, -3.0, 3.0, 0.0, components=JOINTS),),
    provenance={
        "robot": {"joints": [{"name": n, "default": d} for n, d in zip(JOINTS, DEFAULTS.tolist(), strict=True)]}
    },
)


class Robot:
    """A robot whose numbers follow a formula; its clock is 1000 s ahead of the loop's."""

    def __init__(self, clock=None, extra=()):
        self.readings, self.sent = [], []
        self.clock, self.extra = clock or (lambda: 0.01 * len(self.readings)), dict(extra)

    def reset(self):
        return self.read()

    def read(self):
        k = len(self.readings)
        inputs = {
            "joint_offsets": np.array([0.1 * (k % 10), 1 / 3]),
            "joint_velocities": np.array([k / 7, -float(k)]),
            "projected_gravity": np.array([0.0, 0.0, -1.0]),
            "speed_command": 0.5,
        }
        self.readings.append(Reading(inputs | self.extra, 1000.0 + self.clock()))
        return self.readings[-1]

    def step(self, outputs):
        self.sent.append(outputs["joint_position_targets"])
        return self.read()

    def close(self):
        pass


class Clock:
    """A clock that goes on by 1 ms whenever it is read, and by what is slept."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 0.001
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def policy(spec=SPEC):
    return make_policy(spec, random_arrays(spec, ()))


def record(robot, path="log.csv", seconds=0.1, spec=SPEC, say=None, **options):
    """Run an episode and return its report."""
    recorder = Recorder(path, spec, say)
    try:
        return Loop(policy(spec), robot, recorder=recorder, **{"regulate": False, **options}).run(seconds)
    finally:
        recorder.close()


def test_what_is_read_and_sent_is_recorded_exactly():
    extra = {"joint_torques": np.array([1.5, -2.5]), "base_orientation": [1.0, 0.0, 0.0, 0.0]}
    robot = Robot(extra=extra)
    record(robot)
    found = read_csv("log.csv")
    assert found.joints == JOINTS
    np.testing.assert_array_equal(found.time, np.arange(10) / 100.0)  # not in real time: counted in control periods
    np.testing.assert_array_equal(found.command_time, found.time)
    offsets = [reading.inputs["joint_offsets"] for reading in robot.readings[:10]]
    np.testing.assert_array_equal(found.position, np.array(offsets) + DEFAULTS)
    velocities = [reading.inputs["joint_velocities"] for reading in robot.readings[:10]]
    np.testing.assert_array_equal(found.velocity, velocities)
    np.testing.assert_array_equal(found.torque, [[1.5, -2.5]] * 10)
    np.testing.assert_array_equal(found.orientation, [[1.0, 0.0, 0.0, 0.0]] * 10)
    np.testing.assert_array_equal(found.target, robot.sent[:10])
    assert np.ptp(found.target, axis=0).min() > 0.0
    head, first = Path("log.csv").read_text().splitlines()[:2]
    assert head.endswith(
        "reading[projected_gravity.0],reading[projected_gravity.1],reading[projected_gravity.2],reading[speed_command],"
        "note[cause]"
    )
    assert first.endswith("0.0,0.0,-1.0,0.5,")


def test_commands_have_the_time_of_the_robots_clock():
    clock = Clock()
    robot = Robot(clock)
    record(robot, regulate=True, clock=clock, sleep=clock.sleep)
    found = read_csv("log.csv")
    np.testing.assert_allclose(np.diff(found.command_time), 0.01, atol=4e-3)
    # Each command goes out at its tick; the reading that it answers was made just after the tick before.
    np.testing.assert_allclose(found.command_time[1:] - found.time[1:], 0.01, atol=5e-3)
    assert (found.command_time > found.time).all()
    assert 1000.0 < found.time[0] < 1000.1


@pytest.mark.parametrize("wrong", [math.nan, 999.0, "late", None])
def test_a_reading_without_a_new_time_gives_a_row_of_the_command_alone(wrong):
    clock = Clock()
    robot = Robot(clock)
    read = robot.read

    def reading():
        found = read()
        return replace(found, timestamp=wrong) if len(robot.readings) == 5 else found

    robot.read = reading
    record(robot, regulate=True, clock=clock, sleep=clock.sleep)
    found = read_csv("log.csv")
    assert len(found.time) == 9 and len(found.command_time) == 10
    causes = [line.rsplit(",", 1)[1] for line in Path("log.csv").read_text().splitlines()[1:]]
    assert causes == [*[""] * 4, "stale" if isinstance(wrong, float) else "malformed", *[""] * 5]


class Bomb:
    """A reading whose own code fails."""

    def __array__(self, *args, **kwargs):
        raise RuntimeError("boom")

    __float__ = __array__


@pytest.mark.parametrize("wrong", [[math.nan, 0.0], Bomb(), "none", [1.0, 2.0, 3.0]])
def test_a_reading_that_is_no_number_gives_a_row_of_the_command_alone(wrong):
    robot = Robot()
    read = robot.read

    def reading():
        found = read()
        if len(robot.readings) == 5:
            found.inputs["joint_velocities"] = wrong
        return found

    robot.read = reading
    assert record(robot).steps == 10
    found = read_csv("log.csv")
    assert len(found.time) == 9 and len(found.command_time) == 10
    np.testing.assert_array_equal(found.target, robot.sent[:10])


def test_the_last_step_before_a_client_fails_is_recorded():
    robot = Robot()
    step = robot.step

    def failing(outputs):
        found = step(outputs)
        if len(robot.sent) == 4:
            raise ConnectionError("gone")
        return found

    robot.step = failing
    with pytest.raises(ConnectionError):
        record(robot)
    assert len(read_csv("log.csv").command_time) == 4


def test_targets_of_some_joints_leave_the_others_without():
    outputs = (OutputSpec("joint_velocity_targets", "rad/s", 1, -3.0, 3.0, 0.0, components=("knee",)),)
    spec = replace(SPEC, outputs=outputs, pipeline=(Scale((1.0,)),))
    robot = Robot()
    robot.step = lambda sent: (robot.sent.append(sent["joint_velocity_targets"]), robot.read())[1]
    record(robot, spec=spec)
    found = read_csv("log.csv")
    assert np.isnan(found.target).all()
    np.testing.assert_array_equal(found.target_velocity[:, 0], np.zeros(10))
    np.testing.assert_array_equal(found.target_velocity[:, 1], robot.sent[:10])


def test_a_policy_without_joints_is_recorded_as_it_reads_and_sends():
    write_linear_bundle(Path("linear"))
    run_bundle("linear", "Upkie-Mock-Pendulum", seconds=0.1, log="log.csv")
    lines = Path("log.csv").read_text().splitlines()
    assert lines[0] == (
        "time,command_time,reading[pitch],reading[ground_position],reading[pitch_velocity],reading[ground_velocity],"
        "output[ground_velocity_target],note[cause]"
    )
    assert len(lines) == 21
    with pytest.raises(LogError, match=r"log.csv: column position\[…\] is missing"):
        read_csv("log.csv")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_ends_the_recording_and_not_the_loop():
    import resource

    said, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        report = record(Robot(), seconds=20.0, say=said.append)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert report.steps == 2000 and sum(report.safety.values()) == 0
    assert said == ["log.csv: File too large; the recording ends here, the robot goes on"]
    assert Path("log.csv").stat().st_size == 20_000
    assert len(read_csv("log.csv").time) > 50  # what was written can be read


@pytest.mark.parametrize("regulate", [True, False])
def test_whatever_fails_in_the_writer_is_said_and_the_loop_goes_on(monkeypatch, regulate):
    monkeypatch.setattr(Recorder, "_line", lambda *_: 1 / 0)
    monkeypatch.setattr("jaxloco.onboard.recorder.MOST_WAITING", 20_000 if regulate else 5)
    said, clock = [], Clock()
    assert record(Robot(clock), say=said.append, regulate=regulate, clock=clock, sleep=clock.sleep).steps == 10
    assert said == ["log.csv: division by zero; the recording ends here, the robot goes on"]


def test_a_message_that_cannot_be_said_leaves_the_robot_alone(monkeypatch):
    monkeypatch.setattr("jaxloco.onboard.recorder._Layout", lambda *_: 1 / 0)
    assert record(Robot(), say=lambda text: 1 / 0).steps == 10


def test_a_disk_that_hangs_does_not_hold_up_the_loop(monkeypatch):
    hangs, said = threading.Event(), []
    monkeypatch.setattr(Recorder, "_put", lambda self, text: hangs.wait(60.0))
    monkeypatch.setattr("jaxloco.onboard.recorder.LAST_WRITES", 0.05)
    monkeypatch.setattr("jaxloco.onboard.recorder.MOST_WAITING", 100)
    try:
        clock = Clock()
        timed = {"regulate": True, "clock": clock, "sleep": clock.sleep}
        assert record(Robot(clock), seconds=5.0, say=said.append, **timed).steps == 500
    finally:
        hangs.set()
    assert said == ["log.csv: the disk is too slow; the recording lacks its end"]


def test_a_simulator_waits_for_the_disk_instead_and_loses_nothing(monkeypatch):
    monkeypatch.setattr("jaxloco.onboard.recorder.MOST_WAITING", 10)
    monkeypatch.setattr("jaxloco.onboard.recorder.LAST_WRITES", 0.0)
    said = []
    assert record(Robot(), seconds=1.0, say=said.append).steps == 100
    assert len(read_csv("log.csv").time) == 100 and not said


def test_what_a_slow_disk_loses_is_said():
    said = []
    recorder = Recorder("log.csv", SPEC, said.append)
    robot = Robot()
    recorder.begin(robot.reset())
    recorder._dropped = 3
    recorder.close()
    recorder.close()
    assert said == ["log.csv: the disk is too slow; the recording lacks 3 steps"]


def test_a_first_reading_that_cannot_be_laid_out_leaves_the_robot_alone(monkeypatch):
    said = []
    monkeypatch.setattr("jaxloco.onboard.recorder._Layout", lambda *_: 1 / 0)
    assert record(Robot(), say=said.append).steps == 10
    assert said == ["log.csv: division by zero; nothing is recorded"] and not Path("log.csv").exists()


def test_a_file_is_never_overwritten_and_is_there_before_the_robot_moves():
    write_linear_bundle(Path("linear"))
    Path("walk-2.csv").write_text("mine")
    made = []
    mapping = find("Upkie-Mock-Pendulum")
    register(replace(mapping, pattern="Upkie-Noted", make=lambda *args: made.append(args)))
    with pytest.raises(ConfigError, match=r"walk-2.csv exists; write the recording to another file"):
        run_bundle("linear", "Upkie-Noted", episodes=2, log="walk.csv")
    with pytest.raises(ConfigError, match=r"nowhere/walk.csv: cannot be written: No such file or directory"):
        run_bundle("linear", "Upkie-Noted", log="nowhere/walk.csv")
    assert not made and Path("walk-2.csv").read_text() == "mine" and not Path("walk-1.csv").exists()
    with pytest.raises(ConfigError, match=r"walk-2.csv exists"):
        Recorder("walk-2.csv", SPEC)


def test_each_episode_has_a_file_and_one_that_never_began_has_none():
    write_linear_bundle(Path("linear"))
    run_bundle("linear", "Upkie-Mock-Pendulum", seconds=0.05, episodes=2, log="walk.csv")
    assert [len(Path(f"walk-{i}.csv").read_text().splitlines()) for i in (1, 2)] == [11, 11]
    with pytest.raises(ConfigError, match="unexpected keyword"):
        run_bundle("linear", "Upkie-Mock-Pendulum", log="other.csv", env_kwargs={"gravity": 1.0})
    assert not Path("other.csv").exists()


RUN = """
import sys, time
from dataclasses import replace
from jaxloco.onboard import Reading
from jaxloco.onboard.clients import find, register

class Robot:
    def reset(self):
        return self.read()
    def read(self):
        names = ("pitch", "ground_position", "pitch_velocity", "ground_velocity")
        return Reading(dict.fromkeys(names, 0.125), time.perf_counter())
    def step(self, outputs):
        print("sent", outputs["ground_velocity_target"], flush=True)
        return self.read()
    def close(self):
        pass

mapping = replace(find("Upkie-Mock-Pendulum"), pattern="Upkie-Test", make=lambda *_: Robot())
register(replace(mapping, is_real_time=lambda env_id: True))
from jaxloco.cli import main
sys.exit(main(["run", sys.argv[1], "--env", "Upkie-Test", "--seconds", "60", "--log", "log.csv"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_recording_is_whole_after_sigterm():
    bundle = write_linear_bundle(Path("linear"))
    command = [sys.executable, "-c", RUN, str(bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline() for _ in range(30)]
        process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == 143 and not errors
    sent = [line.split()[1] for line in [*seen, *out.splitlines()] if line.startswith("sent")]
    lines = Path("log.csv").read_text().split("\n")
    assert lines[-1] == ""
    assert [line.split(",")[6] for line in lines[1:-1]] == sent[:-1]  # but for the safe action that ends the loop


def test_the_loop_of_a_robot_that_is_read_by_jaxloco_logs():
    """All the way: a recording of the loop is a recording of the robot."""
    from jaxloco.robot import load_robot

    robot = load_robot("pendulum")
    joint = robot.joints[0]
    spec = replace(
        SPEC,
        robot="pendulum",
        inputs=(InputSpec("joint_positions", "rad", 1), InputSpec("joint_velocities", "rad/s", 1)),
        outputs=(OutputSpec("joint_torque_targets", "N m", 1, -1.0, 1.0, 0.0, components=(joint.name,)),),
        pipeline=(Scale((1.0,)),),
        provenance={"robot": {"joints": [{"name": joint.name, "default": 0.0}]}},
    )
    client = Robot(extra={"joint_positions": 0.5, "joint_velocities": 0.0})
    client.step = lambda outputs: client.read()
    record(client, spec=spec)
    found = logs.read("log.csv", robot)
    np.testing.assert_array_equal(found.position, np.full((10, 1), 0.5))
    assert np.isnan(found.target).all()
