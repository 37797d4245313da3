"""Signals and stops: the safe action is the last thing sent, the client is closed, and the signal has its effect."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from onboard_helpers import make_policy, random_arrays, upkie_spec, write_linear_bundle

from jaxloco.onboard import Loop, Reading, signals
from jaxloco.onboard.signals import EndingSignals

SIGNALS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
SPEC = upkie_spec()
POLICY = make_policy(SPEC, random_arrays(SPEC, (8, 8)))
SAFE = 0.0


class Robot:
    """A robot that notes what it is sent, and does something else at its step `at`."""

    def __init__(self, at: int = -1, does: Callable[[], object] = lambda: None):
        self.at, self.does = at, does
        self.sent: list[float] = []

    def reset(self) -> Reading:
        return self.read()

    def read(self) -> Reading:
        names = ("pitch", "ground_position", "pitch_velocity", "ground_velocity")
        return Reading(dict.fromkeys(names, 0.5), time.perf_counter())

    def step(self, outputs) -> Reading:
        self.sent.append(outputs["ground_velocity_target"])
        if len(self.sent) - 1 == self.at:
            self.does()
        return self.read()

    def close(self) -> None:
        pass


def send(*numbers: int) -> Callable[[], None]:
    return lambda: [signal.raise_signal(number) for number in numbers] and None


def ends_with(number: int):
    return pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit)


@pytest.fixture(autouse=True)
def handlers():
    """Look that every test leaves the handlers as they were."""
    numbers = [*SIGNALS, *([signal.SIGALRM] if hasattr(signal, "SIGALRM") else [])]
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("regulate", [True, False])
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_loop_after_the_step_and_the_safe_action_is_sent_last(number, regulate):
    robot = Robot(5, send(number))
    with ends_with(number) as ended:
        Loop(POLICY, robot, regulate=regulate).run(60.0)
    assert len(robot.sent) == 7 and robot.sent[-1] == SAFE != robot.sent[-2]
    assert number == signal.SIGINT or ended.value.code == 128 + number


@pytest.mark.parametrize("again", [(signal.SIGINT,) * 5, (signal.SIGTERM, signal.SIGINT), tuple(SIGNALS)])
def test_more_signals_do_not_keep_the_safe_action_from_being_sent(again):
    robot = Robot(5, send(*again))
    robot_step = robot.step

    def step(outputs):  # also while the safe action is being sent
        if len(robot.sent) == 6:
            send(*again)()
        return robot_step(outputs)

    robot.step = step
    with ends_with(again[0]):
        Loop(POLICY, robot).run(60.0)
    assert len(robot.sent) == 7 and robot.sent[-1] == SAFE


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms here")
@pytest.mark.parametrize("always", [False, True])
def test_a_client_that_hangs_is_interrupted(always, monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.1)
    robot = Robot(5, lambda: (send(signal.SIGTERM)(), time.sleep(60)))
    if always:
        robot.step = lambda outputs: (robot.sent.append(outputs["ground_velocity_target"]), robot.does())
    start = time.monotonic()
    with ends_with(signal.SIGTERM):
        Loop(POLICY, robot).run(60.0)
    assert time.monotonic() - start < 30.0 and robot.sent[-1] == SAFE


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms here")
def test_an_alarm_of_ones_own_is_left_alone_and_a_later_signal_interrupts_a_client_that_hangs(monkeypatch):
    monkeypatch.setattr(signals, "PATIENCE", 0.05)
    robot = Robot(5, lambda: (send(signal.SIGTERM)(), time.sleep(0.1), send(signal.SIGINT)(), time.sleep(60)))
    signal.setitimer(signal.ITIMER_REAL, 300.0)
    try:
        with ends_with(signal.SIGTERM):
            Loop(POLICY, robot).run(60.0)
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 200.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
    assert robot.sent[-1] == SAFE


def test_a_signal_that_was_ignored_stays_so():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        robot = Robot(5, send(signal.SIGTERM))
        assert Loop(POLICY, robot, regulate=False).run(0.1).steps == 20
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_of_ones_own_is_called_after_the_safe_action():
    robot, seen = Robot(5, send(signal.SIGTERM)), []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append((number, robot.sent[-1])))
    try:
        assert Loop(POLICY, robot).run(60.0).steps == 6
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [(signal.SIGTERM, SAFE)]


def test_the_signal_is_obeyed_where_the_client_fails_because_of_it():
    def fail():
        send(signal.SIGTERM)()
        raise ConnectionError("the simulator got the signal too")

    robot = Robot(5, fail)
    with ends_with(signal.SIGTERM) as ended:
        Loop(POLICY, robot).run(60.0)
    assert robot.sent[-1] == SAFE and isinstance(ended.value.__context__, ConnectionError)


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
def test_an_exception_of_a_client_that_cannot_send_either_comes_out(error):
    robot = Robot()

    def step(outputs):
        robot.sent.append(outputs["ground_velocity_target"])
        raise error if len(robot.sent) == 1 else ConnectionError("cannot send")

    robot.step = step
    with pytest.raises(type(error)):
        Loop(POLICY, robot).run(1.0)
    assert len(robot.sent) == 2 and robot.sent[-1] == SAFE


def test_in_another_thread_no_handlers_are_set_and_stop_ends_the_loop():
    robot, found = Robot(), []
    before = signal.getsignal(signal.SIGTERM)
    loop = Loop(POLICY, robot)
    thread = threading.Thread(target=lambda: found.append(loop.run(60.0)))
    thread.start()
    while len(robot.sent) < 5:
        time.sleep(0.01)
    assert signal.getsignal(signal.SIGTERM) is before
    loop.stop()
    thread.join(30.0)
    assert found[0].steps >= 5 and robot.sent[-1] == SAFE


def test_a_stop_before_an_episode_ends_it_before_its_first_step_and_no_other():
    robot = Robot()
    loop = Loop(POLICY, robot, regulate=False)
    loop.stop()
    assert loop.run(0.1).steps == 0 and robot.sent == [SAFE]
    assert loop.run(0.1).steps == 20


@pytest.mark.parametrize("how", ["stop", "signal"])
def test_a_stop_ends_a_sleep_at_once(how):
    spec = upkie_spec(control_frequency=0.01, pipeline=())
    robot, sleeps = Robot(), []
    loop = Loop(make_policy(spec, random_arrays(spec, (8, 8))), robot, sleep=lambda seconds: sleep(seconds))

    def sleep(seconds: float) -> None:
        sleeps.append(seconds)
        time.sleep(seconds)
        if len(sleeps) == 3:
            loop.stop() if how == "stop" else send(signal.SIGTERM)()

    if how == "stop":
        assert loop.run().steps == 1
    else:
        with ends_with(signal.SIGTERM):
            loop.run()
    assert len(sleeps) == 3 and sum(sleeps) < 0.1  # of the 100 s between two steps
    assert len(robot.sent) == 2 and robot.sent[-1] == SAFE


def test_without_something_to_stop_the_first_signal_raises_at_once_and_the_next_ones_wait():
    reached = []
    with ends_with(signal.SIGTERM), EndingSignals():
        try:
            send(signal.SIGTERM)()
        finally:
            send(signal.SIGINT, signal.SIGTERM)()
            reached.append("the end of what cleans up")
    assert reached


RUN = """
import sys, time
from dataclasses import replace
from jaxloco.onboard import Reading
from jaxloco.onboard.clients import find, register, run_bundle

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
        print("closed", flush=True)

def make(*_):
    print("made", flush=True)
    if sys.argv[2] == "make":
        time.sleep(60.0)
    return Robot()

mapping = replace(find("Upkie-Mock-Pendulum"), pattern="Upkie-Test", make=make, is_real_time=lambda env_id: True)
register(mapping)
from jaxloco.cli import main
sys.exit(main(["run", sys.argv[1], "--env", "Upkie-Test", "--seconds", "60"]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "status"), list(zip(SIGNALS, (130, 143, 129), strict=False)))
@pytest.mark.parametrize("when", ["make", "loop"])
def test_jaxloco_run_ends_with_the_safe_action_and_closes_the_robot(tmp_path, number, status, when):
    bundle = write_linear_bundle(tmp_path / "linear")
    command = [sys.executable, "-c", RUN, str(bundle), when]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(10 if when == "loop" else 1):
            before = process.stdout.readline()
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in errors
    if when == "loop":
        assert before.startswith("sent") and before != "sent 0.0"
        assert out.splitlines()[-2:] == ["sent 0.0", "closed"]
