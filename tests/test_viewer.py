"""The viewer: keys drive, slow drawing harms nobody, a browser is told of it all, and a training is followed."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mujoco.viewer
import numpy as np
import pytest
from playback_helpers import untrained_bundle
from training_helpers import tiny, train

from benchmarks.browsers import ARROW_UP, Chromium, Client
from jaxloco import cli, library
from jaxloco.doctor.diagnose import diagnose
from jaxloco.envs.ground import GridGround
from jaxloco.envs.processes import Process
from jaxloco.errors import ConfigError, JaxlocoError
from jaxloco.installation import pip_install
from jaxloco.playback import show
from jaxloco.playback.conditions import Conditions
from jaxloco.playback.drive import EASIER, HARDER, MOVES, PUSH, RESET, SLOW, STOP, Drive
from jaxloco.playback.gamepad import LOOK_EVERY, Gamepad, attach
from jaxloco.playback.live import Helm, Live, Pace, Status, drive_of, placed
from jaxloco.playback.play import Playback
from jaxloco.playback.scenario import Scenario
from jaxloco.policies import known_policies, policies_dir
from jaxloco.robot import load_robot, robots_dir
from jaxloco.terrain import Terrain, make_grid
from jaxloco.training.run_folder import RunFolder
from jaxloco.viewer import command as viewing
from jaxloco.viewer.browser import Browser, describe
from jaxloco.viewer.follow import Follower
from jaxloco.viewer.request import HOST, ViewOptions, free_port, kind_of

KEYS = {key.name: key for key in (*MOVES, STOP, PUSH, RESET, SLOW, HARDER, EASIER)}
FORWARD = KEYS["arrowup"]


@pytest.fixture(scope="module")
def go1() -> Playback:
    return Playback.load(library.bundle_of("go1-velocity"), Conditions())


class Screen:
    """A display that notes what is shown, takes `slow` seconds for each picture, and closes after `seconds`."""

    def __init__(self, seconds: float, slow: float = 0.0) -> None:
        self.now, self._seconds, self._slow = 0.0, seconds, slow
        self.shown: list[Status] = []
        self.stood: list[str] = []

    def is_open(self) -> bool:
        return self.now < self._seconds

    def is_watched(self) -> bool:
        return True

    def stand(self, robot: Any, ground: Any, qpos: np.ndarray) -> None:
        self.stood.append(robot.name)

    def show(self, qpos: np.ndarray, status: Status) -> None:
        self.now += self._slow
        self.shown.append(status)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def live(self, **more: Any) -> Live:
        return Live(self, clock=lambda: self.now, sleep=self.sleep, **more)


# Keys


def test_six_presses_lead_from_zero_to_the_limit_and_no_further():
    drive = Drive([-1.5, -0.8, -1.2], [1.5, 0.8, 1.2], command=[0.0, 0.0, 0.0])
    for _ in range(8):
        drive.press(FORWARD)
        drive.press(KEYS["arrowright"])
    np.testing.assert_allclose(drive.command, [1.5, 0.0, -1.2])
    drive.press(STOP)
    np.testing.assert_array_equal(drive.command, np.zeros(3))


def test_a_key_of_a_component_that_the_command_lacks_does_nothing():
    drive = Drive([-1.0], [1.0])
    drive.press(KEYS["arrowleft"])
    drive.press(HARDER)
    np.testing.assert_array_equal(drive.command, [0.5])
    assert not drive.restarted() and {key.component for key in drive.keys} == {0, None}


def test_levels_stay_within_the_terrain_and_begin_a_new_episode():
    drive = Drive(levels=3, level=1)
    for _ in range(3):
        drive.press(HARDER)
    assert drive.level == 2 and drive.restarted() and not drive.restarted()


def test_the_keys_of_the_window_are_those_of_the_browser():
    drive = Drive([-1.0], [1.0], command=[0.0])
    drive.press_code(265)  # GLFW's arrow up
    drive.press_code(1)  # no key
    assert drive.command[0] == pytest.approx(1.0 / 6.0)
    assert len({key.code for key in KEYS.values()}) == len(KEYS)


@pytest.mark.parametrize(
    ("command", "said"), [((1.0, 0.0), r"\(1.0, 0.0\).*has 3 components"), ((9.0, 0.0, 0.0), "trained on")]
)
def test_a_command_that_is_none_of_the_policy_s_is_refused(command, said, go1):
    with pytest.raises(ConfigError, match=said):
        drive_of(replace(go1, conditions=Conditions(command=command)))


# A gamepad


class Pad:
    """A gamepad that tells one state after another, None while it is unplugged, and the last one for good."""

    def __init__(self, *states: dict[str, Any] | None) -> None:
        self._states, self.lines = list(states), []
        self.gamepad = Gamepad(self._read, self.lines.append)

    def _read(self) -> Any:
        state = self._states.pop(0) if len(self._states) > 1 else self._states[0]
        if state is None:
            return None
        buttons = [int(button in state.get("down", ())) for button in range(15)]
        return SimpleNamespace(axes=state.get("axes", [0.0] * 6), buttons=buttons)

    def steps(self, drive: Drive, count: int) -> None:
        for _ in range(count):
            self.gamepad.steer(drive)


def test_sticks_are_parts_of_the_largest_command_beyond_a_dead_zone():
    pad = Pad({}, {"axes": [0.1, -1.0, 0.56, 0.9, -1.0, -1.0]}, {"axes": [-1.0, 0.56, 0.0, 0.0, 0.0, 0.0]}, {})
    drive = Drive([-0.5, -0.8, -1.2], [1.5, 0.8, 1.2], command=[0.3, 0.0, 0.0])
    pad.steps(drive, 1)
    np.testing.assert_allclose(drive.command, [0.3, 0.0, 0.0])  # as at the keys
    pad.steps(drive, 1)
    np.testing.assert_allclose(drive.command, [1.5, 0.0, -0.6])
    pad.steps(drive, 1)
    np.testing.assert_allclose(drive.command, [-0.25, 0.8, 0.0])
    pad.steps(drive, 1)
    np.testing.assert_array_equal(drive.command, np.zeros(3))
    drive.press(FORWARD)
    pad.steps(drive, 3)
    assert drive.command[0] == 0.25  # sticks that rest leave the keys alone


def test_a_button_is_one_press_of_its_key_however_long_it_is_held():
    pad = Pad({"down": [5]}, {"down": [5]}, {"down": [0, 2]}, {"down": [2]}, {"down": [5, 13]}, {"down": [7]})
    drive = Drive([-1.0], [1.0], levels=3)
    pad.steps(drive, 2)
    assert drive.level == 0 and not drive.restarted()  # held down when it was plugged in
    pad.steps(drive, 2)
    assert drive.speed == 0.5 and drive.pushed()
    pad.steps(drive, 1)
    assert drive.level == 1 and drive.restarted()
    pad.steps(drive, 5)
    assert drive.level == 1 and drive.restarted() and not drive.pushed()


def test_a_gamepad_that_is_unplugged_leaves_a_zero_command_and_says_so(go1):
    screen, drive = Screen(2.0), drive_of(go1)
    forward = {"axes": [0.0, -1.0, 0.0, 0.0, 0.0, 0.0]}
    pad = Pad(None, *[{}] * 5, *[forward] * 40, None)
    drive.look = lambda: pad.gamepad.steer(drive)
    screen.live().play(go1, drive)
    assert {tuple(status.command) for status in screen.shown} == {(0.75, 0.0, 0.0), (1.5, 0.0, 0.0), (0.0, 0.0, 0.0)}
    assert pad.lines == ["a gamepad drives", "the gamepad is gone; zero command"]
    assert screen.shown[-1].note == pad.lines[-1] and not screen.shown[30].note
    assert "**the gamepad is gone; zero command**" in describe(screen.shown[-1])


def test_glfw_finds_a_gamepad_that_is_plugged_in_later(monkeypatch):
    glfw = pytest.importorskip("glfw")
    there: list[int] = []
    state = SimpleNamespace(axes=[0.0, -1.0, 0.0, 0.0, 0.0, 0.0], buttons=[0] * 15)
    monkeypatch.setattr(glfw, "init", lambda: True)
    monkeypatch.setattr(glfw, "poll_events", lambda: None)
    monkeypatch.setattr(glfw, "joystick_is_gamepad", lambda number: number in there)
    monkeypatch.setattr(glfw, "get_gamepad_state", lambda number: state if number in there else None)
    drive = Drive([-1.0], [2.0])
    attach(drive)
    for steps, numbers, command in (
        (LOOK_EVERY, [], 1.0),
        (LOOK_EVERY, [3], 2.0),
        (1, [], 0.0),
        (LOOK_EVERY, [0], 2.0),
    ):
        there[:] = numbers
        for _ in range(steps):
            drive.look()
        assert drive.command == [command]


def test_without_glfw_or_a_display_there_are_the_keys_alone(monkeypatch):
    glfw = pytest.importorskip("glfw")
    drive = Drive([-1.0], [2.0])
    monkeypatch.setattr(glfw, "init", lambda: warnings.warn("no display", stacklevel=1))
    attach(drive)
    monkeypatch.setitem(sys.modules, "glfw", None)
    attach(drive)
    drive.look()
    assert drive.command == [1.0] and drive.remark == ""


# Time


def test_what_is_in_time_waits_and_what_is_late_does_not_hurry_later():
    clock = SimpleNamespace(now=0.0)
    waits: list[float] = []
    pace = Pace(0.02, lambda: clock.now, waits.append)
    pace.wait(0.5)
    assert waits == [pytest.approx(0.04)]
    clock.now = 1.0
    pace.wait(1.0)
    pace.wait(1.0)
    assert waits[1:] == [pytest.approx(0.02)]


def test_slow_drawing_makes_time_slow_and_no_reading_stale(go1):
    screen = Screen(6.0, slow=0.25)
    screen.live().play(go1, drive_of(go1))
    assert screen.stood == ["go1"]  # it never fell
    assert {status.safety for status in screen.shown} == {"policy in control"}
    assert 0.1 < screen.shown[-1].seconds < 3.0


def test_the_robot_does_what_the_keys_say(go1):
    screen, drive = Screen(3.0), drive_of(go1)
    np.testing.assert_array_equal(drive.command, [0.75, 0.0, 0.0])  # half of what it was trained on
    screen.live().play(go1, drive)
    assert screen.shown[-1].velocity[0] == pytest.approx(0.75, abs=0.25)
    drive.press(STOP)
    screen = Screen(3.0)
    screen.live().play(go1, drive)
    assert abs(screen.shown[-1].velocity[0]) < 0.1
    assert len(screen.shown) == 150  # each control step of 20 ms is a picture


def test_a_reset_begins_anew_and_slow_motion_takes_its_time(go1):
    screen, drive = Screen(1.0), drive_of(go1)
    drive.press(SLOW)
    drive.press(RESET)
    screen.live().play(go1, drive)
    assert screen.stood == ["go1", "go1"]
    assert screen.shown[-1].speed == 0.5 and screen.shown[-1].seconds == pytest.approx(0.5, abs=0.05)


def test_clips_that_no_key_begins_are_played_as_in_training():
    playback = Playback.load(library.bundle_of("go1-tracking"), Conditions(seconds=8.0))
    screen, seen, act = Screen(8.5), set[int](), playback.policy.act
    assert drive_of(playback).command.size == 0

    def watched(inputs: Any) -> Any:
        seen.add(int(np.argmax(inputs["motion_choice"])) if np.any(inputs["motion_choice"]) else -1)
        return act(inputs)

    playback.policy.act = watched  # type: ignore[method-assign]
    screen.live().play(playback, drive_of(playback))
    assert len(seen - {-1}) >= 1 and screen.stood == ["go1", "go1"]  # the second episode of eight seconds has begun


def test_an_object_is_turned_to_goals_as_in_training(tmp_path):
    folder = untrained_bundle("leap-reorient", tmp_path / "policy", net_arch_pi=(8,), net_arch_vf=(8,))
    playback, screen = Playback.load(folder, Conditions()), Screen(0.5)
    screen.live().play(playback, drive_of(playback))
    assert screen.shown[-1].safety == "policy in control"


def test_a_gamepad_changes_no_script_of_a_task_that_it_cannot_command():
    robot, drive, clip = load_robot("go1"), Drive(), np.eye(3)[[1] * 5]
    helm = Helm(robot, Scenario(robot.default_qpos, np.zeros(18), {"motion_choice": clip}, np.zeros((5, 3))), drive)
    helm.scenario.led["motion_choice"] = (Process(), None)
    drive.lean((1.0, 0.0, 0.0))
    helm.steer()
    assert helm.scenario.led
    np.testing.assert_array_equal(helm.scenario.commands["motion_choice"], clip)


def test_a_newer_policy_takes_over(go1):
    newer = iter([None] * 10 + [go1] + [None] * 1000)
    screen = Screen(1.0)
    screen.live(newest=lambda: next(newer)).play(go1, drive_of(go1))
    assert screen.stood == ["go1", "go1"] and screen.shown[10].seconds == pytest.approx(0.22)


def test_a_push_is_of_its_length_and_changes_the_velocity_by_as_much_as_it_says():
    robot, drive = load_robot("go1"), Drive()
    helm = Helm(robot, Scenario(robot.default_qpos, np.zeros(18), {}, np.zeros((1, 3))), drive)
    drive.press(PUSH)
    forces = []
    for _ in range(20):
        helm.steer()
        forces.append(np.linalg.norm(helm.scenario.pushes[0]))
    impulse = sum(forces) * robot.control_dt
    assert impulse / robot.model.body_subtreemass[1] == pytest.approx(0.6, rel=0.3) and forces[-1] == 0.0


def test_commands_of_a_script_last_until_a_key_changes_them():
    robot, drive = load_robot("go1"), Drive([-1.0] * 3, [1.0] * 3)
    script = Scenario(robot.default_qpos, np.zeros(18), {"velocity_command": np.full((5, 3), 0.3)}, np.zeros((5, 3)))
    helm = Helm(robot, script, drive)
    helm.steer()
    np.testing.assert_array_equal(helm.scenario.commands["velocity_command"], np.full((5, 3), 0.3))
    drive.press(STOP)
    helm.steer()
    np.testing.assert_array_equal(helm.scenario.commands["velocity_command"], np.zeros((5, 3)))


# The window


def test_the_window_tracks_the_base_and_has_the_same_keys(monkeypatch):
    pressed: list[Any] = []
    synced = []

    def sync() -> None:
        synced.append(1)
        pressed[0](RESET.code if len(synced) == 3 else FORWARD.code)

    window = SimpleNamespace(
        cam=SimpleNamespace(), lock=nullcontext, sync=sync, is_running=lambda: True, close=lambda: None
    )

    def launch(*_: Any, key_callback: Any, **__: Any) -> Any:
        pressed.append(key_callback)
        return window

    def script(playback: Playback, *_: int) -> list[Scenario]:
        commands = {"velocity_command": np.zeros((10, 3))}
        return [Scenario(placed(playback.robot, playback.ground), np.zeros(18), commands, np.zeros((10, 3)))]

    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(show, "gamepad", SimpleNamespace(glfw_starts=lambda: True, attach=lambda *_, **__: None))
    monkeypatch.setattr(mujoco.viewer, "launch_passive", launch)
    monkeypatch.setattr(Playback, "scenarios", script)
    result = show.view(library.bundle_of("go1-velocity"), Conditions(), 0)
    assert result is not None and result.survived
    assert len(synced) == (3 + 1) + (10 + 1)  # from the beginning again; each time ends with a safe action
    assert result.rms["velocity_command"] > 0.5
    assert window.cam.type == mujoco.mjtCamera.mjCAMERA_TRACKING and window.cam.trackbodyid == 1


# The browser


def test_a_port_in_use_is_said_in_one_line_and_none_is_found_around_it():
    with closing(socket.create_server((HOST, 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(JaxlocoError, match=f"--port {port}: is in use; choose another one"):
            free_port(port)
        assert free_port(0) != port


def test_the_text_shows_command_and_measurement_side_by_side():
    text = describe(Status("go1", np.array([0.5]), np.array([0.25, 0.0, -0.1]), "policy in control", 2.0, note="fell"))
    assert "| forward (m/s) | +0.50 | +0.25 |" in text and "| turn (rad/s) | – | -0.10 |" in text
    assert "policy in control · 2.0 s" in text and "**fell**" in text


@pytest.fixture
def browser() -> Iterator[Browser]:
    pytest.importorskip("mjviser", reason="the extra `view` is not installed")
    with closing(Browser(title="test")) as opened:
        yield opened


def test_the_page_is_served_to_this_machine_alone(browser):
    with urllib.request.urlopen(browser.address) as page:
        assert page.status == 200 and b"<html" in page.read().lower()
    port = int(browser.address.rpartition(":")[2])
    with pytest.raises(OSError):
        socket.create_connection(
            ("127.0.0.2", port), timeout=5
        ).close()  # would answer if it listened on all interfaces


def test_a_client_sees_the_robot_move_and_its_key_drives(browser, go1):
    drive = drive_of(go1)
    browser.keys(drive)
    assert not browser.is_watched()
    client = Client(browser.address)
    with closing(client.socket):
        uuid = client.wait_for("RegisterCommandMessage", hotkey="arrowup")["uuid"]
        robot = load_robot("go1")
        browser.stand(robot, go1.ground, placed(robot, go1.ground))
        client.send("CommandTriggerMessage", uuid=uuid)
        for _ in range(6000):
            if drive.command[0] >= 1.0 and browser.is_watched():
                break
            time.sleep(0.01)
        assert browser.is_watched()
        np.testing.assert_allclose(drive.command, [1.0, 0.0, 0.0])
        browser.show(placed(robot, go1.ground), Status("t", drive.command, np.zeros(3), "policy in control", 0.0))
        client.wait_for("GuiUpdateMessage", text="+1.00")


def test_a_picture_that_visers_thread_was_in_the_way_of_is_sent_again(browser, go1, monkeypatch):
    robot = load_robot("go1")
    qpos = placed(robot, go1.ground)
    browser.stand(robot, go1.ground, qpos)
    draw, failures = browser._scene.update_from_mjdata, [RuntimeError("deque mutated during iteration")]

    def sometimes(data: Any) -> None:
        draw(data)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(browser._scene, "update_from_mjdata", sometimes)
    status = Status("t", np.zeros(3), np.zeros(3), "policy in control", 0.0)
    browser.show(qpos, status)
    assert not failures and "policy in control" in browser._text.content
    failures.append(RuntimeError("another one"))
    with pytest.raises(RuntimeError, match="another one"):
        browser.show(qpos, status)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="there is no chromedriver here")
def test_a_real_browser_shows_the_robot_and_its_keys_drive(browser, go1):
    drive, robot = drive_of(go1), load_robot("go1")
    browser.keys(drive)
    browser.stand(robot, go1.ground, placed(robot, go1.ground))
    with closing(Chromium()) as chromium:
        chromium.open(browser.address)

        def shows(words: str) -> bool:
            for _ in range(200):
                if words in chromium.text():
                    return True
                browser.show(placed(robot, go1.ground), Status("t", drive.command, np.zeros(3), "in control", 0.0))
                time.sleep(0.2)
            return False

        assert shows("+0.75")
        chromium.press(ARROW_UP)
        assert shows("+1.00")


# A training


@pytest.mark.slow
def test_the_newest_checkpoint_of_a_run_is_played(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxloco.viewer.follow.yield_to_others", lambda process: None)  # to tests that run beside it
    run = RunFolder(tmp_path / "run")
    train(tiny(4), run.path)
    with closing(Follower(run, Conditions(), tmp_path, clock=time.monotonic)) as follower:
        playback = None
        while playback is None:  # an export that fails raises
            time.sleep(0.1)
            playback = follower.newest()
        assert follower.iteration == 4 and playback.robot.name == "cartpole"
        assert follower.newest() is None  # nothing newer


@pytest.mark.slow
def test_a_first_checkpoint_that_cannot_be_played_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxloco.viewer.follow.yield_to_others", lambda process: None)
    run = RunFolder(tmp_path / "run")
    (run.checkpoints / "3").mkdir(parents=True)
    run.config.write_text("{}")
    with closing(Follower(run, Conditions(), tmp_path)) as follower, pytest.raises(JaxlocoError, match=r"config\.json"):
        while follower.newest() is None:
            time.sleep(0.1)


# Names


def test_a_policy_is_found_by_name_and_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert library.bundle_of("go1-velocity") == policies_dir() / "go1-velocity" / "policy"
    shutil.copytree(policies_dir() / "upkie-balance", tmp_path / "go1-velocity")
    assert library.bundle_of("go1-velocity") == Path("go1-velocity/policy")


def test_policies_of_ones_own_are_found_beside_the_others(tmp_path, monkeypatch):
    own = tmp_path / "own"
    shutil.copytree(policies_dir() / "upkie-balance", own / "mine")
    monkeypatch.setenv("JAXLOCO_POLICIES", str(own))
    assert known_policies()["mine"] == own / "mine" and "go1-velocity" in known_policies()
    assert library.bundle_at("mine") == own / "mine" / "policy"


def test_an_unknown_name_lists_the_policies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"there is no run folder go1-walk.* mean 'go1-\w+'\? Known: anymal-c-.*go1-vel"
    ):
        library.bundle_of("go1-walk")
    for words in ("run go1-velocty", "run go1-velocty --client ros2", "export go1-velocty", "evaluate go1-velocty"):
        assert cli.main(words.split()) == 2
        assert "unknown policy 'go1-velocty'; did you mean 'go1-velocity'?" in capsys.readouterr().err


def test_a_folder_that_is_neither_a_policy_nor_a_run_is_said_to_be_neither(tmp_path, capsys):
    for words in (["run", str(tmp_path)], ["run", str(tmp_path), "--client", "ros2"], ["export", str(tmp_path)]):
        assert cli.main(words) == 2
        said = f"{tmp_path} is no policy (it has no policy.json), no run (no config.json), and holds no run"
        assert said in capsys.readouterr().err


def test_a_policy_is_run_by_its_name_alone(capsys):
    """Without a screen and without a robot: what comes of it, and how to see it."""
    assert cli.main(["run", "upkie-balance", "--seconds", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "survived after 0.50 s" in said and "jaxloco view upkie-balance" in said


def test_what_cannot_be_shown_is_said_before_jax_is_loaded():
    code = "import sys; from jaxloco import cli; cli.main(['view', 'go1-walk']); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n" and "did you mean" in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [("policies", "go1-velocity"), ("tasks", "go1-rough"), ("robots", "unitree_g1"), ("runs", "runs/a/b_1")],
)
def test_what_there_is_is_listed_one_name_a_line(words, line, tmp_path, monkeypatch, capsys):
    (tmp_path / "runs/a/b_1").mkdir(parents=True)
    (tmp_path / "runs/a/b_1/config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert cli.main([words]) == 0
    assert line in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("view", "give one of the two: WHAT"),
        ("view go1-velocity --run x", "give one of the two: WHAT"),
        ("view go1-walk", "unknown policy, run, robot or task 'go1-walk'; did you mean"),
        ("view go1 --command 1 0 0", "--command: has no effect on go1, which has no policy"),
        ("view go1 --level 2", "--level 2: has no effect on go1, which stands on a level floor"),
        ("view go1-rough --level 99", "terrain.evaluation_level 99: there are levels 0 to 9"),
        ("view --run nowhere", "there is no run folder nowhere"),
        ("view go1-velocity --robot upkie", "is a policy for the robot 'go1', whose joints are not those of 'upkie'"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_one_line(words, message, monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # as the viewer would, for longer
    pytest.importorskip("mjviser", reason="the extra `view` is not installed")
    assert cli.main(words.split()) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_level_below_the_first_is_the_first(go1, monkeypatch):
    """Two metres short of the tiles, on the border, a robot would stand beside what it is to be seen on."""
    terrain = Terrain(("stairs_up",), levels=2, tile=4.0, border=3.0)
    ground = GridGround(terrain, make_grid(terrain), np.array([[0.2, 0.1], [-0.2, -0.1]]))
    stood: list[np.ndarray] = []
    shown = SimpleNamespace(
        stand=lambda robot, ground, qpos: stood.append(qpos[:2]), show=lambda *_: None, is_open=bool, close=lambda: None
    )
    monkeypatch.setattr(viewing, "_browser", lambda *_: shown)
    monkeypatch.setattr(viewing, "_task", lambda *_: (go1.robot, ground))
    for level in (-1, 0, 1):
        viewing._stand("go1-rough", "task", ViewOptions(level=level), open_browser=False)
    np.testing.assert_allclose(stood, [terrain.start(0, 0), terrain.start(0, 0), terrain.start(1, 0)])


def test_what_stands_elsewhere_is_shown_by_module(tmp_path, monkeypatch):
    folder = robots_dir() / "cartpole"
    (tmp_path / "own_things.py").write_text(
        f"from jaxloco.tasks.cartpole import RECIPE\nFOLDER, NUMBER = {str(folder)!r}, 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_things", raising=False)
    stood: list[str] = []
    shown = SimpleNamespace(
        stand=lambda robot, *_: stood.append(robot.name), show=lambda *_: None, is_open=bool, close=lambda: None
    )
    monkeypatch.setattr(viewing, "_browser", lambda *_: shown)
    for name in ("own_things:RECIPE", "own_things:FOLDER", "cartpole"):
        viewing._stand(name, kind_of(name), ViewOptions(), open_browser=False)
    assert stood == ["cartpole"] * 3
    for name, problem in (("own_things:NUMBER", "neither a path nor a package"), ("own_thing:A", "there is no module")):
        with pytest.raises(JaxlocoError, match=problem):
            viewing._stand(name, kind_of(name), ViewOptions(), open_browser=False)
    assert diagnose("own_things:FOLDER") == diagnose("cartpole")


def test_without_the_viewers_packages_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["demo"]) == 2
    assert f"needs viser; install it: {pip_install('train', 'view')}" in capsys.readouterr().err
