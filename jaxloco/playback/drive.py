"""Keys that drive a robot in a viewer, the same in the browser and in MuJoCo's window."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

PUSH_SECONDS, PUSH_SPEED = 0.1, 0.6
"""Length of a push, s, and by how much it changes the robot's velocity, m/s."""

NOTCHES = 6
"""How many times a key of the command is pressed from zero to its limit."""

SPEEDS = (1.0, 0.5, 0.25, 0.125)
"""Speeds of the simulation, in seconds per second."""


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        name: What the browser calls it.
        code: Its code in GLFW, of MuJoCo's window.
        label: What is printed on it.
        does: What it does, in words.
        component: Component of the command that it changes: 0 forward, 1 leftward, 2 turn to the left.
        sign: In which direction.
    """

    name: str
    code: int
    label: str
    does: str
    component: int | None = None
    sign: int = 0


STOP = Key("space", 32, "space", "stop")
PUSH = Key("P", 80, "P", "push")
RESET = Key("backspace", 259, "backspace", "reset")
SLOW = Key("V", 86, "V", "slower, 1 to 1/8")
HARDER, EASIER = Key("pageup", 266, "page up", "harder terrain"), Key("pagedown", 267, "page down", "easier terrain")
MOVES = (
    Key("arrowup", 265, "↑", "forward", 0, 1),
    Key("arrowdown", 264, "↓", "backward", 0, -1),
    Key("arrowleft", 263, "←", "turn left", 2, 1),
    Key("arrowright", 262, "→", "turn right", 2, -1),
    Key("Q", 81, "Q", "sideways left", 1, 1),
    Key("E", 69, "E", "sideways right", 1, -1),
)


class Keys(Protocol):
    """What keys act on."""

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that do something here."""

    def press(self, key: Key) -> None:
        """Do what a key says."""


class Drive:
    """What is asked for at the keys. One thread presses, another one simulates.

    Args:
        low: Smallest command, (n,), n at most 3; none for a task without a velocity command.
        high: Largest command, (n,).
        levels: Levels of terrain; 0 without any.
        level: The level to begin with.
        command: The command to begin with, (n,); half of the largest forward velocity if not given.

    Attributes:
        command: Velocity command, (n,): m/s forward and leftward, rad/s to the left.
        level: Level of terrain.
        speed: Speed of the simulation, s/s.
        look: Called before each step, by the thread that simulates: looks for what is not a key, see `gamepad`.
        remark: What is to be said of it.
    """

    def __init__(
        self,
        low: Sequence[float] = (),
        high: Sequence[float] = (),
        levels: int = 0,
        level: int = 0,
        command: Sequence[float] | None = None,
    ) -> None:
        self._low, self._high, self._levels = np.array(low, float), np.array(high, float), levels
        if command is None:
            command = np.where(np.arange(len(self._low)) == 0, 0.5 * self._high, 0.0).tolist()
        self.command, self.level, self.speed = np.array(command, float), level, SPEEDS[0]
        self.look: Callable[[], None] = lambda: None
        self.remark = ""
        self._pushed, self._restarted = threading.Event(), threading.Event()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The keys that do something here."""
        moves = tuple(key for key in MOVES if key.component is not None and key.component < len(self.command))
        levels = (HARDER, EASIER) if self._levels > 1 else ()
        return (*moves, *((STOP,) if moves else ()), PUSH, RESET, SLOW, *levels)

    def press(self, key: Key) -> None:
        """Do what a key says; one that is not among `keys` does nothing."""
        if key not in self.keys:
            return
        if key.component is not None:
            self._move(key.component, key.sign)
        elif key == STOP:
            self.command = np.zeros_like(self.command)
        elif key == PUSH:
            self._pushed.set()
        elif key == SLOW:
            self.speed = slower(self.speed)
        else:
            self.level = int(np.clip(self.level + {HARDER: 1, EASIER: -1}.get(key, 0), 0, max(self._levels - 1, 0)))
            self._restarted.set()

    def lean(self, parts: Sequence[float]) -> None:
        """Command parts of the largest values, (3,) from -1 to 1, as sticks do: forward, leftward, turn to the left."""
        part = np.array(parts[: len(self.command)], float)
        self.command = np.where(part < 0.0, -part * self._low, part * self._high)

    def press_code(self, code: int) -> None:
        """Do what the key of a GLFW code says, if there is one."""
        for key in self.keys:
            if key.code == code:
                self.press(key)

    def _move(self, component: int, sign: int) -> None:
        command, low, high = self.command.copy(), self._low[component], self._high[component]
        notch = max(abs(low), abs(high)) / NOTCHES
        command[component] = np.clip(notch * (round(command[component] / notch) + sign), low, high) if notch else 0.0
        self.command = command  # as a whole: the other thread reads it

    def pushed(self) -> bool:
        """Whether a push was asked for since the last call."""
        return _taken(self._pushed)

    def restarted(self) -> bool:
        """Whether a new episode was asked for since the last call."""
        return _taken(self._restarted)


def slower(speed: float) -> float:
    """Return the next speed of the simulation."""
    return SPEEDS[(SPEEDS.index(speed) + 1) % len(SPEEDS)]


def _taken(event: threading.Event) -> bool:
    was = event.is_set()
    event.clear()
    return was
