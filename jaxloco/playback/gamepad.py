"""A gamepad that drives beside the keys, plugged into the machine that runs the viewer.

It is read by GLFW, which comes with MuJoCo, knows the layouts of most gamepads, and needs a display.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from jaxloco.playback.drive import EASIER, HARDER, PUSH, RESET, SLOW, STOP, Drive

DEAD_ZONE = 0.12
"""Part of a stick's way that counts as its middle."""

STICKS = (1, 0, 2)
"""Axis of each component of the command: the left stick forward and leftward, the right one turns; -1 is up or left."""

BUTTONS = {0: PUSH, 1: STOP, 2: SLOW, 4: EASIER, 5: HARDER, 7: RESET}
"""Button, as GLFW and SDL number them, → key: A, B, X, the two bumpers, and start."""

LOOK_EVERY = 50
"""Reads between two looks for a gamepad, where there is none."""


class State(Protocol):
    """What a gamepad tells: axes from -1 to 1, and buttons, 1 if pressed."""

    axes: Sequence[float]
    buttons: Sequence[int]


class Gamepad:
    """A gamepad that may come and go.

    Args:
        read: Returns its state; None while there is none.
        say: Takes a line for the terminal.
    """

    def __init__(self, read: Callable[[], State | None], say: Callable[[str], None] = print) -> None:
        self._read, self._say = read, say
        self._there, self._leans = False, False
        self._down: set[int] = set()

    def steer(self, drive: Drive) -> None:
        """Do what the sticks and buttons say. One that is unplugged leaves a zero command."""
        state = self._read()
        if state is None:
            if self._there:
                self._there, self._leans = False, False
                self._remark(drive, "the gamepad is gone; zero command")
                drive.lean((0.0, 0.0, 0.0))
            return
        down = {button for button in BUTTONS if state.buttons[button]}
        if not self._there:  # what is held down while it is plugged in says nothing
            self._there, self._down = True, down
            self._remark(drive, "a gamepad drives")
        parts = [_part(-state.axes[axis]) for axis in STICKS]
        leans = any(parts)
        if leans or self._leans:
            drive.lean(parts)
        pressed, self._down, self._leans = down - self._down, down, leans
        if leans or pressed:
            drive.remark = ""
        for button in sorted(pressed):
            drive.press(BUTTONS[button])

    def _remark(self, drive: Drive, text: str) -> None:
        drive.remark = text
        self._say(text)


def _part(value: float) -> float:
    """Return a stick's part of its way beyond the dead zone, from -1 to 1.

    >>> _part(0.1), _part(-1.0), round(_part(0.56), 6)
    (0.0, -1.0, 0.5)
    """
    size = min((abs(value) - DEAD_ZONE) / (1.0 - DEAD_ZONE), 1.0)
    return (size if value > 0.0 else -size) if size > 0.0 else 0.0


def attach(drive: Drive, *, window: bool = False) -> None:
    """Let a gamepad drive too, also one that is plugged in later; does nothing where none can be read.

    Args:
        drive: What it drives.
        window: A window of GLFW is open, which takes its events.
    """
    read = _reader(window)
    if read is not None:
        gamepad = Gamepad(read)
        drive.look = lambda: gamepad.steer(drive)


def glfw_starts() -> bool:
    """Whether GLFW is there and finds a display."""
    try:
        import glfw
    except ImportError:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without a display it warns
        return bool(glfw.init())


def _reader(window: bool) -> Callable[[], State | None] | None:
    """Return what reads the first gamepad of this machine; None without GLFW or a display."""
    if not glfw_starts():
        return None
    import glfw

    numbers = range(glfw.JOYSTICK_LAST + 1)
    found, reads = -1, 0

    def read() -> Any:
        nonlocal found, reads
        reads += 1
        if found < 0:
            if reads % LOOK_EVERY != 1:
                return None
            if not window:
                glfw.poll_events()  # tells of what was plugged in
            found = next((number for number in numbers if glfw.joystick_is_gamepad(number)), -1)
        state = glfw.get_gamepad_state(found) if found >= 0 else None
        found = found if state is not None else -1
        return state

    return read
