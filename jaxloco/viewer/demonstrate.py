"""What `jaxloco demonstrate` does: a person shows a task with keys, in slow motion, and it is kept as a file."""

import itertools
import os
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np

from jaxloco import library
from jaxloco.checks import COUNT, Limits, check_fields
from jaxloco.demonstrations.record import Stage
from jaxloco.errors import ConfigError
from jaxloco.playback.drive import RESET, SLOW, SPEEDS, STOP, Key, slower
from jaxloco.playback.live import BEHIND, PAUSE, Display, Pace, Status
from jaxloco.tasks import recipe
from jaxloco.training import preparation
from jaxloco.viewer.browser import Browser
from jaxloco.viewer.request import check_installed, free_port

DONE = Key("enter", 257, "enter", "done: keep it")

ARROWS = {"arrowup": "↑", "arrowdown": "↓", "arrowleft": "←", "arrowright": "→"}

PICTURE = 0.04
"""Time between two pictures of slow motion, s."""


@dataclass(frozen=True)
class DemonstrateOptions:
    """Options of `jaxloco demonstrate`.

    Attributes:
        out: Folder of the demonstrations, 1.csv and so on; demonstrations/TASK if not given.
        count: How many to show.
        speed: Speed at first: 1, 0.5, 0.25 or 0.125 seconds per second.
        port: Port of the loopback interface; 0 for the first free one from 8080 on.
        seed: Of where the robot begins, and of gusts.
    """

    out: str | None = None
    count: Annotated[int, COUNT] = 1
    speed: float = 0.25
    port: Annotated[int, Limits(at_least=0, at_most=65535)] = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self)
        library.check_seed(self.seed)
        if self.speed not in SPEEDS:
            raise ConfigError(f"speed = {self.speed:g}: expected one of {', '.join(f'{speed:g}' for speed in SPEEDS)}")


class Hands:
    """What keys ask of a stage. One thread presses, another one simulates.

    Attributes:
        place: Where the person's hands are, (n,).
        speed: Speed of the simulation, s/s.
        begun: Whether a key moved the hands since the last `begin`.
        done: Whether the person said so.
        again: Whether it is to begin anew.
    """

    def __init__(self, stage: Stage, speed: float) -> None:
        self._stage, self.speed = stage, speed
        self._presses = {Key(p.key, 0, ARROWS.get(p.key, p.key), p.does): p for p in stage.presses}
        self.begin()

    def begin(self) -> None:
        """Let go of everything, for the next try."""
        self.place = self._stage.rest.copy()
        self.begun, self.done, self.again = threading.Event(), threading.Event(), threading.Event()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that do something here."""
        return (*self._presses, STOP, DONE, RESET, SLOW)

    def press(self, key: Key) -> None:
        """Do what a key says; one that is not among `keys` does nothing."""
        if key in self._presses:
            press, place = self._presses[key], self.place.copy()
            place[press.component] += press.change
            self.place = np.clip(place, self._stage.low, self._stage.high)  # as a whole: the other thread reads it
            self.begun.set()
        elif key == STOP:
            self.place = self._stage.rest.copy()
        elif key == SLOW:
            self.speed = slower(self.speed)
        elif key in (DONE, RESET):
            (self.done if key == DONE else self.again).set()


class Session:
    """Tries one after another on a display, until a person has shown what is wanted.

    Args:
        display: Where.
        stage: What is shown.
        hands: The keys.
        title: Shown at the top.
        clock: The time now, s.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self,
        display: Display,
        stage: Stage,
        hands: Hands,
        title: str = "",
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._display, self._stage, self._hands, self._title = display, stage, hands, title
        self._clock, self._sleep = clock, sleep
        self._reset, self._step = jax.jit(stage.env.reset), jax.jit(stage.env.step)

    def record(self, folder: Path, number: int, seed: int) -> str | None:
        """Let it be shown until it is complete, write it, and return what to do with it; None if the display closed."""
        drawn = jax.random.fold_in(jax.random.PRNGKey(seed), number)
        for attempt in itertools.count():
            rows, note = self._tried(jax.random.fold_in(drawn, attempt))
            if not self._display.is_open():
                return None
            if rows is not None:
                try:
                    return self._stage.save(rows, folder, number)
                except ConfigError as error:
                    note = f"not kept: {error}"
            if note:
                self._show(self._qpos, note)
                self._sleep(PAUSE)
        return None

    def _tried(self, key: jax.Array) -> tuple[np.ndarray | None, str]:
        """Return what was shown in one try, None if nothing, and a remark."""
        hands, stage, env = self._hands, self._stage, self._stage.env
        hands.begin()
        state, rows, self._seconds = self._reset(key), [], 0.0
        self._qpos = np.asarray(state.physics.qpos, float)
        self._display.stand(env.robot, env.ground, self._qpos)
        while not hands.begun.is_set():
            self._show(self._qpos, "the first key begins")
            self._sleep(BEHIND)
            if not self._display.is_open():
                return None, ""
        pace = Pace(env.dt, self._clock, self._sleep)
        while self._display.is_open() and not hands.again.is_set():
            action = stage.action(hands.place, state)
            rows.append(stage.row(state, action))
            if hands.done.is_set() or stage.finished(np.array(rows)):
                return np.array(rows), ""
            state = self._step(state, jnp.asarray(action))
            if state.terminated or state.truncated:
                return None, "that went too far; it begins anew" if state.terminated else "time is over; it begins anew"
            self._seconds += env.dt
            self._move(np.asarray(state.physics.qpos, float), pace)
        return None, ""

    def _move(self, qpos: np.ndarray, pace: Pace) -> None:
        """Show the way to a configuration in as many pictures as its time has."""
        speed, before = self._hands.speed, self._qpos
        pictures = max(1, round(self._stage.env.dt / speed / PICTURE))
        for i in range(1, pictures + 1):
            self._qpos = before + i / pictures * (qpos - before)
            self._show(self._qpos, "")
            pace.wait(speed * pictures)
        while self._display.is_open() and not self._display.is_watched():
            self._sleep(BEHIND)

    def _show(self, qpos: np.ndarray, note: str) -> None:
        hands = self._hands
        words, none = self._stage.tell(hands.place), np.zeros(0)
        self._display.show(qpos, Status(self._title, none, none, words, self._seconds, hands.speed, note=note))


def demonstrate(task: str, own: DemonstrateOptions) -> None:
    """Let a person show a task in the browser until as many demonstrations are kept as were wanted.

    Raises:
        ConfigError: Nobody can show the task with keys.
        JaxlocoError: The viewer is not installed, or its port is in use.
    """
    check_installed()
    free_port(own.port)  # said before anything is loaded
    described = recipe(task).task
    make = getattr(described, "stage", None)
    if make is None:
        raise ConfigError(
            f"task {task!r} does not learn from what is shown with keys; show pendulum-on-hand or heli-flip"
        )
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # one robot, in MuJoCo's own engine
    preparation.prepare_jax()
    stage: Stage = make("native")
    folder, hands = Path(own.out or f"demonstrations/{task}"), Hands(stage, own.speed)
    with closing(Browser(own.port, f"jaxloco · {task}")) as browser:
        browser.keys(hands)
        print(f"{task}: show it at {browser.address}   (Ctrl-C ends it)", flush=True)
        session = Session(browser, stage, hands, task)
        for _ in range(own.count):
            words = session.record(folder, free_number(folder), own.seed)
            if words is None:
                return
            print(f"kept in {folder}; {words}", flush=True)


def free_number(folder: Path) -> int:
    """Return the number of the next demonstration in a folder."""
    return next(number for number in itertools.count(1) if not (folder / f"{number}.csv").exists())
