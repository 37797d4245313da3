"""Demonstrations: what a person showed, and synthetic demonstrators that stand for one.

The pendulum's demonstrator is a program, so what it shows is called synthetic: it pumps energy until the rod is near
upright, then balances, late by its muscles' lag and never twice the same way.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from jaxloco.envs.env import Env, EnvState
from jaxloco.errors import ConfigError
from jaxloco.logs.recording import LONGEST_GAP
from jaxloco.text_files import read_text
from jaxloco.whole_files import write_bytes

GRAVITY = 9.81


@dataclass(frozen=True)
class Demonstration:
    """How somebody swung a pendulum up, at a constant rate. The rod is upright at angle 0 and hangs at π.

    Attributes:
        dt: Time between rows, s.
        states: Angle (rad), its velocity (rad/s), position (m) and velocity (m/s) of the hand, (T + 1, 4).
        accelerations: Of the hand from row to row, m/s², (T,).
        source: Who showed it.
    """

    dt: float
    states: np.ndarray
    source: str

    def __post_init__(self) -> None:
        if self.states.ndim != 2 or self.states.shape[1] != 4:
            raise ConfigError(
                f"demonstration of {self.source}: states of shape {self.states.shape}; expected (T + 1, 4)"
            )
        bad = np.flatnonzero(~np.isfinite(self.states).all(axis=1))
        if bad.size:
            raise ConfigError(f"demonstration of {self.source}: row {bad[0]} is not finite")
        if self.upright_from > len(self.states) - round(1.0 / self.dt):
            last = abs(wrap(self.states[-1, 0]))
            raise ConfigError(
                f"demonstration of {self.source}: it does not end with the rod held upright for 1 s (its last angle is "
                f"{last:.2f} rad off); show one that does"
            )

    @property
    def accelerations(self) -> np.ndarray:
        """Of the hand from row to row, m/s², (T,)."""
        return np.diff(self.states[:, 3]) / self.dt

    @property
    def upright_from(self) -> int:
        """Row from which on the rod is within 0.2 rad of upright."""
        return upright_from(self.states[:, 0])


def wrap(angle: np.ndarray) -> np.ndarray:
    """Bring angles into [-π, π)."""
    return np.mod(angle + np.pi, 2.0 * np.pi) - np.pi


def upright_from(angles: np.ndarray, within: float = 0.2) -> int:
    """Return the row from which on a rod is within some angle of upright, rad; the number of rows if it never is."""
    away = np.flatnonzero(np.abs(wrap(angles)) > within)
    return int(away[-1]) + 1 if away.size else 0


def read_demonstration(path: str | Path, rows: int, dt: float) -> Demonstration:
    """Read what somebody showed: a CSV file whose first line is t,angle,angular_velocity,hand_position,hand_velocity.

    Angles may begin anew after a turn; of whole turns, those are taken with which the first one is nearest to π.

    Args:
        path: The file: s, rad, rad/s, m, m/s.
        rows: Rows that are needed; the last one is held if there are fewer, and what comes after them is left out.
        dt: Time between the rows that are returned, s.

    Raises:
        ConfigError: It is missing, or no such file, or no such demonstration; says which row.
    """
    times, values = read_table(Path(path), PENDULUM)
    turned = np.unwrap(values[:, 0])  # between π and -π a rod would be upright
    values[:, 0] = turned + 2.0 * np.pi * np.round((np.pi - turned[0]) / (2.0 * np.pi))
    return Demonstration(dt, resampled(times, values, times[0] + dt * np.arange(rows)), str(path))


SLOWEST = 0.2
"""Longest median time between rows of a file, s: a longer one is that of milliseconds."""

PENDULUM = ("angle", "angular_velocity", "hand_position", "hand_velocity")
"""Columns of a file of a pendulum, beside the time: rad, rad/s, m, m/s."""


def read_table(path: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return times, s, (T,), and the other columns, (T, n), of a CSV file whose first line is t and their names.

    Raises:
        ConfigError: It is missing, or no such file, a number is none, or the times run back, have a gap or are no
            seconds; says which row, counted from 1 with the line of names.
    """
    columns = ("t", *names)
    try:
        text = read_text(path, ConfigError)
    except FileNotFoundError:
        raise ConfigError(f"demonstration {path}: there is no such file") from None
    lines = [(i + 1, line.partition("#")[0]) for i, line in enumerate(text.lstrip("# ").split("\n"))]
    lines = [(number, line) for number, line in lines if line.strip()]
    if len(lines) < 3 or [word.strip(' "') for word in lines[0][1].split(",")] != list(columns):
        raise ConfigError(
            f"demonstration {path}: its first line must be {','.join(columns)}, and rows of numbers follow, with "
            "commas between them and points as decimal marks"
        )
    table = np.array([_numbers(f"demonstration {path}, row {number}", line, columns) for number, line in lines[1:]])
    _check_times(path, table[:, 0], [number for number, _ in lines[1:]])
    return table[:, 0], table[:, 1:]


def _numbers(where: str, line: str, columns: Sequence[str]) -> list[float]:
    words = [word.strip() for word in line.split(",")]
    if len(words) != len(columns):
        raise ConfigError(f"{where}: has {len(words)} columns, expected {len(columns)}: {','.join(columns)}")
    found = []
    for name, word in zip(columns, words, strict=True):
        try:
            found.append(float(word))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise ConfigError(
                f"{where}: {name} is {word!r}, expected a finite number; repair the row, or show it again"
            )
    return found


def _check_times(path: Path, times: np.ndarray, rows: Sequence[int]) -> None:
    """Check that times, s, (T,), grow, have no gap and are seconds; `rows` are their lines."""
    steps = np.diff(times)
    late = np.flatnonzero(~(steps > 0.0))
    if late.size:
        raise ConfigError(f"demonstration {path}, row {rows[late[0]]}: t must grow from row to row")
    step = float(np.median(steps))
    if step > SLOWEST:
        raise ConfigError(f"demonstration {path}: t: the median step is {step:.4g} s; are these seconds?")
    gaps = np.flatnonzero(steps > LONGEST_GAP * step)
    if gaps.size:
        raise ConfigError(
            f"demonstration {path}, row {rows[gaps[0]]}: t: a gap of {steps[gaps[0]]:.3g} s follows, of which nothing "
            "is known; show it again"
        )


def write_table(path: Path, names: Sequence[str], dt: float, values: np.ndarray) -> None:
    """Write a CSV file that `read_table` reads, of values, (T, n), with so much time between rows, s."""
    text, times = io.StringIO(), dt * np.arange(len(values))
    np.savetxt(text, np.c_[times, values], "%.6g", ",", header=",".join(("t", *names)), comments="")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.getvalue().encode())


def resampled(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate values, (T, n), at times at which they are wanted, (N,); the last ones are held."""
    return np.stack([np.interp(at, times, column) for column in values.T], axis=1)


class Press(NamedTuple):
    """What a press of a key changes.

    Attributes:
        key: What the browser calls the key: a letter, or "arrowleft", say.
        does: What it does, in words.
        component: Which of the person's hands.
        change: By how much.
    """

    key: str
    does: str
    component: int
    change: float


class Stage(Protocol):
    """Where a person demonstrates a task with keys.

    Attributes:
        env: The person's own robot.
        presses: What the keys do.
        rest: Where the hands are at first and after a stop, (n,).
        low: Lowest place of the hands, (n,).
        high: Highest place of the hands, (n,).
    """

    env: Env
    presses: tuple[Press, ...]
    rest: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def action(self, hands: np.ndarray, state: EnvState) -> np.ndarray:
        """Return the action, in [-1, 1], of hands, (n,)."""

    def row(self, state: EnvState, action: np.ndarray) -> np.ndarray:
        """Return what is recorded of a state and of the action that follows."""

    def finished(self, rows: np.ndarray) -> bool:
        """Return whether what was recorded, (T, m), is complete, without a key that says so."""

    def save(self, rows: np.ndarray, folder: Path, number: int) -> str:
        """Write what was recorded, and return how it is learned from.

        Raises:
            ConfigError: It is no demonstration; says why.
        """

    def tell(self, hands: np.ndarray) -> str:
        """Return where the hands are, in words."""


@dataclass(frozen=True)
class Person:
    """The synthetic demonstrator: a pendulum of its own, and how it moves its hand. All figures are ours.

    Attributes:
        length: Of its pendulum, m.
        damping: Of the hinge, 1/s.
        lag: Time constant of its muscles, s.
        noise: Standard deviation of what its hand does unasked, m/s²; it lasts for some 0.2 s.
        pump: Acceleration per missing energy, 1/m, up to `effort`.
        effort: Most acceleration while it pumps, m/s².
        centre: Pull of the hand back to the middle per position and velocity, 1/s², 1/s.
        catch: Angle and speed at which it begins to balance, rad, rad/s.
        balance: Acceleration per angle, angular velocity, position, velocity and intended velocity.
    """

    length: float = 0.55
    damping: float = 0.05
    lag: float = 0.05
    noise: float = 0.7
    pump: float = 0.5
    effort: float = 9.0
    centre: tuple[float, float] = (4.0, 3.0)
    catch: tuple[float, float] = (0.4, 4.0)
    balance: tuple[float, ...] = (-54.3, -12.7, 4.8, 19.0, -12.1)

    def show(self, random: np.random.Generator, rows: int, dt: float, *, tries: int = 50) -> Demonstration:
        """Try until an attempt works that ends with at least 2.4 s upright.

        Args:
            random: Draws where the rod hangs at first, and the noise.
            rows: Samples of the demonstration.
            dt: Time between them, s.
            tries: Most attempts.

        Returns:
            Angle from upright, angular velocity, and position and velocity of the hand, rad, rad/s, m, m/s, (rows, 4).

        Raises:
            ConfigError: None does.
        """
        for _ in range(tries):
            states = self._attempt(random, rows, dt)
            if upright_from(states[:, 0]) < rows - 1 - round(2.4 / dt):
                return Demonstration(dt, states, "the synthetic demonstrator")
        raise ConfigError(f"the synthetic demonstrator did not swing it up in {tries} tries")

    def _attempt(self, random: np.random.Generator, rows: int, dt: float, substeps: int = 10) -> np.ndarray:
        angle, speed = np.pi + random.uniform(-0.02, 0.02), 0.0
        position = velocity = intended = disturbance = 0.0
        caught, step = False, dt / substeps
        states = np.zeros((rows, 4))
        for row in range(rows):
            states[row] = angle, speed, position, velocity
            off = float(wrap(np.asarray(angle)))
            caught = abs(off) < 1.0 and (caught or (abs(off) < self.catch[0] and abs(speed) < self.catch[1]))
            wanted = self.wants(np.array([off, speed, position, velocity, intended]), caught)
            disturbance = 0.9 * disturbance + np.sqrt(1.0 - 0.9**2) * self.noise * random.normal()
            wanted = float(np.clip(wanted + disturbance, -14.0, 14.0))
            for _ in range(substeps):
                intended += step * wanted
                acceleration = (intended - velocity) / self.lag
                turn = (GRAVITY * np.sin(angle) + acceleration * np.cos(angle)) / self.length - self.damping * speed
                speed += step * turn
                angle += step * speed
                velocity += step * acceleration
                position += step * velocity
        return states

    def wants(self, state: np.ndarray, caught: bool) -> float:
        """Return the acceleration of the hand, m/s², at an angle from upright, its velocity, and the hand's.

        Args:
            state: rad, rad/s, and position, velocity and intended velocity of the hand, m, m/s, (5,).
            caught: Whether it balances already.
        """
        return float(np.dot(self.balance, state)) if caught else self._pumped(state)

    def _pumped(self, state: np.ndarray) -> float:
        """Return the acceleration that adds the energy that is missing, led by the muscles' lag."""
        off, speed, position, velocity, _ = state
        missing = -(0.5 * speed**2 + GRAVITY / self.length * (np.cos(off) - 1.0))
        way = np.tanh(2.0 * speed * np.cos(off + self.lag * speed))
        pull = self.centre[0] * position + self.centre[1] * velocity
        return float(np.clip(self.pump * missing, 0.0, self.effort) * way - pull)
