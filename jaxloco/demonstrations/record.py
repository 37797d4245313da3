"""Demonstrations: what a person showed, and synthetic demonstrators that stand for one.

The pendulum's demonstrator is a program, so what it shows is called synthetic: it pumps energy until the rod is near
upright, then balances, late by its muscles' lag and never twice the same way.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxloco.errors import ConfigError

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

    Args:
        path: The file: s, rad, rad/s, m, m/s.
        rows: Rows that are needed; the last one is held if there are fewer, and what comes after them is left out.
        dt: Time between the rows that are returned, s.

    Raises:
        ConfigError: It is missing, or no such file, or no such demonstration; says which row.
    """
    names = "t,angle,angular_velocity,hand_position,hand_velocity"
    try:
        table = np.genfromtxt(path, delimiter=",", names=True, dtype=float, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"demonstration {path}: {error}".replace("\n", " ")) from None
    if table.dtype.names != tuple(names.split(",")) or table.size < 2:
        raise ConfigError(f"demonstration {path}: its first line must be {names}, and rows of numbers follow")
    columns = [np.atleast_1d(table[name]) for name in table.dtype.names]
    late = np.flatnonzero(~(np.diff(columns[0]) > 0.0))
    if late.size:
        raise ConfigError(f"demonstration {path}, row {late[0] + 2}: t must grow from row to row")
    times = columns[0][0] + dt * np.arange(rows)
    states = np.stack([np.interp(times, columns[0], column) for column in columns[1:]], axis=1)
    return Demonstration(dt, states, str(path))


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
            state = np.array([off, speed, position, velocity, intended])
            wanted = float(np.dot(self.balance, state)) if caught else self._pumped(state)
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

    def _pumped(self, state: np.ndarray) -> float:
        """Return the acceleration that adds the energy that is missing, led by the muscles' lag."""
        off, speed, position, velocity, _ = state
        missing = -(0.5 * speed**2 + GRAVITY / self.length * (np.cos(off) - 1.0))
        way = np.tanh(2.0 * speed * np.cos(off + self.lag * speed))
        pull = self.centre[0] * position + self.centre[1] * velocity
        return float(np.clip(self.pump * missing, 0.0, self.effort) * way - pull)
