"""Demonstrations by keys: a script presses them as a person might, and robots learn from what is kept."""

import shutil
import threading
import time
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from test_viewer import Chromium

from jaxloco import cli
from jaxloco.demonstrations.aerobatics import FLIGHT, read_flights
from jaxloco.demonstrations.manoeuvres import ideal
from jaxloco.demonstrations.record import PENDULUM, Person, read_table, wrap, write_table
from jaxloco.errors import ConfigError
from jaxloco.playback.drive import RESET, SLOW, STOP
from jaxloco.playback.live import Status
from jaxloco.tasks.helicopter import Helicopter
from jaxloco.tasks.pendulum_on_hand import PendulumOnHand
from jaxloco.training.run_folder import read_json
from jaxloco.viewer.browser import Browser
from jaxloco.viewer.demonstrate import DONE, Hands, Session, free_number


class Scripted:
    """A display on which a script plays: `moves` is called after each picture with qpos and the time shown."""

    def __init__(self, hands: Hands, moves: Any, most: int = 2000):
        self.hands, self.moves, self.left = hands, moves, most
        self.notes: list[str] = []

    def is_open(self) -> bool:
        return self.left > 0

    def is_watched(self) -> bool:
        return True

    def stand(self, *_: Any) -> None:
        pass

    def show(self, qpos: np.ndarray, status: Status) -> None:
        self.left -= 1
        self.notes += [status.note] if status.note else []
        self.moves(qpos, status)

    def press(self, *names: str) -> None:
        for name in names:
            (key,) = [key for key in self.hands.keys if key.name == name]
            self.hands.press(key)

    def reach(self, component: int, value: float) -> None:
        """Press the finest keys until a hand is as near to a value as they can bring it."""
        finest = sorted(
            (abs(press.change), press) for press in self.hands._stage.presses if press.component == component
        )[:2]
        by = {press.change > 0: press for _, press in finest}
        change = finest[0][0]
        for _ in range(round(abs(value - self.hands.place[component]) / change)):
            self.press(by[value > self.hands.place[component]].key)

    def record(self, stage: Any, folder: Any, number: int = 1) -> str | None:
        return Session(self, stage, self.hands, clock=lambda: 0.0, sleep=lambda _: None).record(folder, number, 0)


class Swinger:
    """Swings the pendulum up as the synthetic demonstrator does, by presses of 0.1 m/s."""

    def __init__(self, dt: float):
        self.dt, self.person, self.screen = dt, Person(), None
        self.forget()

    def forget(self) -> None:
        self.before, self.intended, self.caught = None, 0.0, False

    def __call__(self, qpos: np.ndarray, status: Status) -> None:
        if status.note:
            self.forget()
            self.screen.press("Q")  # begins
            return
        before = qpos if self.before is None else self.before
        (velocity, turn), self.before = (qpos - before) / self.dt, qpos
        off = float(wrap(qpos[1:])[0])
        self.caught = abs(off) < 1.0 and (self.caught or (abs(off) < 0.4 and abs(turn) < 4.0))
        seen = np.array([off, turn, qpos[0], velocity, self.intended])
        self.intended += self.dt * float(np.clip(self.person.wants(seen, self.caught), -14.0, 14.0))
        self.screen.reach(0, self.intended)


@pytest.fixture(scope="module")
def pendulum():
    return PendulumOnHand().stage("native")


def test_a_pendulum_swung_up_by_presses_is_kept_and_a_robot_learns_from_it(pendulum, tmp_path, capsys):
    hands, swinger = Hands(pendulum, 1.0), Swinger(pendulum.env.dt)
    screen = swinger.screen = Scripted(hands, swinger)
    words = screen.record(pendulum, tmp_path / "shown")
    assert words is not None and words.startswith("python train.py pendulum-on-hand --algorithm apprenticeship")
    assert free_number(tmp_path / "shown") == 2
    times, values = read_table(tmp_path / "shown" / "1.csv", PENDULUM)
    assert np.abs(wrap(values[times > times[-1] - 1.0, 0])).max() < 0.2 and abs(values[0, 0]) > 3.0
    assert cli.main(["train", *words.split()[2:], "--out", "run", "--quiet", "--video-seconds", "0"]) == 0
    summary = read_json("run/summary.json")
    assert summary["solved"] and 1 < summary["trials"] < 5


def test_what_is_no_demonstration_is_said_and_not_kept(pendulum, tmp_path):
    def presses(qpos: np.ndarray, status: Status) -> None:
        if status.note:
            screen.press("arrowright")
        elif status.seconds > 0.5:
            screen.press("enter")

    screen = Scripted(Hands(pendulum, 1.0), presses, most=60)
    assert screen.record(pendulum, tmp_path) is None  # the display closed
    assert any("not kept: the rod was not held upright for 1.2 s" in note for note in screen.notes)
    assert list(tmp_path.iterdir()) == []


def test_a_hand_beyond_its_rail_begins_anew(pendulum, tmp_path):
    screen = Scripted(Hands(pendulum, 1.0), lambda *_: screen.press("arrowright"), most=200)
    screen.record(pendulum, tmp_path)
    assert "that went too far; it begins anew" in screen.notes


def test_keys_move_hands_within_their_limits_and_slow_motion_shows_more_pictures(pendulum, tmp_path):
    hands = Hands(pendulum, 0.25)
    by = {key.name: key for key in hands.keys}
    for _ in range(20):
        hands.press(by["arrowright"])
    hands.press(by["Q"])
    assert hands.place[0] == pytest.approx(5.9) and hands.begun.is_set() and not hands.done.is_set()
    hands.press(STOP)
    assert hands.place[0] == 0.0
    hands.press(SLOW)
    assert hands.speed == 0.125
    hands.press(RESET)
    hands.press(DONE)
    assert hands.again.is_set() and hands.done.is_set()
    told: list[float] = []

    def watch(qpos: np.ndarray, status: Status) -> None:
        if status.note:
            screen.press("Q")
        else:
            told.append(status.seconds)

    hands.speed = 0.25
    screen = Scripted(hands, watch, most=9)
    screen.record(pendulum, tmp_path)
    assert told.count(pytest.approx(0.02)) == 2  # a step of 80 ms has two pictures


def test_flights_by_keys_are_kept_and_are_those_that_were_flown(tmp_path):
    """The sticks of the ideal flight, in steps of the keys."""
    task = Helicopter(manoeuvre="roll", gusts=0.0)
    stage = task.stage("native")
    wished = ideal(stage.env.robot, "roll")
    steps, flown, hands = len(wished.states) - 1, list[np.ndarray](), Hands(stage, 1.0)
    start = np.array(stage.env.robot.default_qpos)

    def fly(qpos: np.ndarray, status: Status) -> None:
        if status.note:
            screen.press("W", "S")
            return
        if status.seconds >= steps * stage.env.dt - 1e-6:
            screen.press("enter")
        flown.append(qpos - np.concatenate([start[:3], np.zeros(4)]))
        for stick, value in enumerate(wished.controls[min(len(flown), steps)]):
            screen.reach(stick, float(value))

    screen = Scripted(hands, fly)
    for number in (1, 2):
        flown.clear()
        words = screen.record(stage, tmp_path, number)
    assert words == f"python train.py heli-roll --algorithm apprenticeship --apprenticeship.demonstration {tmp_path}"
    flights = read_flights(tmp_path, stage.env.dt)
    assert [len(flight.states) for flight in flights] == [len(flown) + 1] * 2
    np.testing.assert_allclose(flights[1].states[1:, :3], np.array(flown)[:, :3], atol=1e-5)


def flight(steps: int = 40) -> np.ndarray:
    rows = np.zeros((steps, len(FLIGHT)))
    rows[:, 0], rows[:, 3], rows[:, -1] = np.linspace(0.0, 1.0, steps), 1.0, 0.4
    return rows


def changed(row: int, column: str, value: float) -> np.ndarray:
    rows = flight()
    rows[row, FLIGHT.index(column)] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, r"found 1 flights \(\*.csv\) in .*, expected a folder with at least 2"),
        (changed(7, "x", np.nan), "2.csv, row 9: x is 'nan', expected a finite number"),
        (changed(7, "qw", 0.5), "2.csv, t = 0.35 s: qw, qx, qy, qz is no attitude"),
        (changed(7, "roll", 1.5), "2.csv, t = 0.35 s: sticks lie between -1 and 1"),
        (flight(200), "files counted from 0: demonstration 0 cannot be aligned: it has 40 samples"),
    ],
)
def test_flights_that_cannot_be_learned_from_are_named(rows, message, tmp_path):
    for number, given in enumerate((flight(), rows), 1):
        if given is not None:
            write_table(tmp_path / f"{number}.csv", FLIGHT, 0.05, given)
    with pytest.raises(ConfigError, match=message):
        Helicopter(manoeuvre="roll").apprentice(0, "native", str(tmp_path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["cartpole"],
            "task 'cartpole' does not learn from what is shown with keys; show pendulum-on-hand or heli-flip",
        ),
        (["heli-hover"], "task 'heli-hover' does not learn from demonstrations"),
        (["heli-flop"], "heli-flip"),
        (["pendulum-on-hand", "--speed", "0.3"], "speed = 0.3: expected one of 1, 0.5, 0.25, 0.125"),
        (["pendulum-on-hand", "--count", "0"], "count"),
        ([], "TASK"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(words, message, capsys):
    pytest.importorskip("mjviser", reason="the extra `view` is not installed")
    try:
        assert cli.main(["demonstrate", *words]) == 2
    except SystemExit as ended:  # of an option
        assert ended.code == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="there is no chromedriver here")
def test_keys_of_a_real_browser_move_the_hand(pendulum, tmp_path, monkeypatch):
    pytest.importorskip("mjviser", reason="the extra `view` is not installed")
    hands, over = Hands(pendulum, 1.0), threading.Event()
    monkeypatch.setattr("jaxloco.viewer.demonstrate.PAUSE", 5.0)  # on a busy machine a page is looked at seldom
    with closing(Browser(title="test")) as browser, closing(Chromium()) as chromium:
        browser.keys(hands)
        chromium.open(browser.address)
        kept: list[str | None] = []
        monkeypatch.setattr(browser, "is_open", lambda: not over.is_set())
        session = Session(browser, pendulum, hands, "test")
        person = threading.Thread(target=lambda: kept.append(session.record(tmp_path, 1, 0)))
        person.start()
        try:
            for words, key in (
                ("the first key begins", "\ue014"),
                ("hand +0.5 m/s", "\ue007"),
                ("not kept: the rod", ""),
            ):
                assert any(words in chromium.text() or time.sleep(0.2) for _ in range(300)), words
                chromium.press(key) if key else None
        finally:
            over.set()
            person.join()
    assert kept == [None]
