"""Manoeuvres of a helicopter: where each is to be, and the ideal flight, which is for the pilot and for grading only.

An ideal is the best flight of the published helicopter, without wind, along a path of attitudes and positions that the
path itself need not be able to fly. A learner never reads one.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxloco.demonstrations import helicopter
from jaxloco.demonstrations.helicopter import CONTROLS, GRAVITY, STATE, TURN
from jaxloco.demonstrations.planner import PlannerOptions, ilqr
from jaxloco.errors import unknown_name
from jaxloco.logs.turns import conjugate, product
from jaxloco.robot import Robot

BEFORE, AFTER = 0.5, 1.5
"""Hover at the beginning and at the end of each, s."""

WEIGHTS = np.concatenate([np.full(3, 10.0), np.full(4, 200.0), np.full(3, 0.01), np.full(3, 1.0)]).astype(np.float32)
"""Of the squared errors of position, quaternion, velocity and rates, per step."""

CHANGE = 100.0
"""Weight of the squared change of the sticks in a step."""

CHUNK = 128
"""Lengths are rounded up to multiples of this, so that few programs are compiled."""


class Flight(NamedTuple):
    """States (T, 13), and the sticks at each of them (T, 4)."""

    states: np.ndarray
    controls: np.ndarray


class Path(NamedTuple):
    """Positions relative to the start (T, 3) and attitudes (T, 4), north-west-up."""

    positions: np.ndarray
    attitudes: np.ndarray


def padded(values: np.ndarray, least: int = 0, last: np.ndarray | None = None) -> np.ndarray:
    """Return values with copies of a row behind them, by default their last one, up to a multiple of `CHUNK` rows."""
    rows = CHUNK * -(-max(len(values), least) // CHUNK)
    return np.concatenate([values, np.tile(values[-1] if last is None else last, (rows - len(values), 1))])


def hover(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the state (13,) and the sticks (4,) in which nothing accelerates, at the origin, looking north.

    The tail rotor pushes to the side, so the helicopter leans against it.
    """
    bias, _, gain = parameters.T
    lean = np.arcsin(bias[4] / GRAVITY[2])
    attitude = np.array([np.cos(lean / 2), np.sin(lean / 2), 0.0, 0.0])
    sticks = np.array([*(-bias[:3] / gain[:3]), (GRAVITY[2] * np.cos(lean) - bias[3]) / gain[3]])
    return np.concatenate([np.zeros(3), attitude, np.zeros(6)]), sticks


def _ramp(t: np.ndarray, seconds: float, ramp: float = 0.6) -> np.ndarray:
    """Go from 0 to 1 in a time, with a constant rate but for its smooth start and end."""
    rate = np.clip(np.minimum(t, seconds - t) / ramp, 0.0, 1.0)
    total = np.cumsum(rate * rate * (3.0 - 2.0 * rate))
    result: np.ndarray = total / total[-1]
    return result


def _about(axis: int, angles: np.ndarray) -> np.ndarray:
    turns = np.zeros((len(angles), 4))
    turns[:, 0], turns[:, 1 + axis] = np.cos(angles / 2), np.sin(angles / 2)
    return turns


def _in_place(attitudes: np.ndarray) -> Path:
    return Path(np.zeros((len(attitudes), 3)), attitudes)


def _times(seconds: float, dt: float) -> np.ndarray:
    return np.arange(round((BEFORE + seconds + AFTER) / dt) + 1) * dt - BEFORE


def _flip(dt: float) -> Path:
    """Once round backwards, nose up first."""
    return _in_place(_about(1, -2.0 * np.pi * _ramp(_times(3.8, dt), 3.8)))


def _roll(dt: float) -> Path:
    """Once round to the right."""
    return _in_place(_about(0, 2.0 * np.pi * _ramp(_times(2.6, dt), 2.6)))


def _tic_toc(dt: float) -> Path:
    """The nose up, swinging fore and aft about the tail like the rod of a metronome turned over."""
    swings, period, entry, amplitude = 3, 3.8, 1.8, 1.0
    seconds = 2 * entry + swings * period
    t = _times(seconds, dt)
    up = np.clip(np.minimum(t, seconds - t) / entry, 0.0, 1.0)
    up = up * up * (3.0 - 2.0 * up)
    phase = np.clip((t - entry) / period, 0.0, swings)
    return _in_place(_about(1, -up * (0.5 * np.pi - amplitude * np.cos(2.0 * np.pi * phase))))


def _funnel(dt: float) -> Path:
    """Sideways round a circle of 5 m, the nose towards its middle and down, four times in 5 s each."""
    radius, turn, turns, entry = 5.0, 5.0, 4, 3.0
    seconds = turns * turn + entry
    t = _times(seconds, dt)
    angle = 2.0 * np.pi * turns * _ramp(t, seconds, entry)
    arm = radius * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=1)
    push = np.gradient(np.gradient(arm, dt, axis=0), dt, axis=0) - GRAVITY
    up = push / np.linalg.norm(push, axis=1, keepdims=True)
    side = np.cross(up, -arm)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    axes = np.stack([np.cross(side, up), side, up], axis=-1)
    # The course begins in the north of the circle; turned by half a turn, the nose looks north at the start.
    half = np.diag([-1.0, -1.0, 1.0])
    return Path((arm - arm[0]) @ half, _quaternions(half @ axes))


def _chaos(dt: float) -> Path:
    """Five flips without a stop, about an axis that makes half a turn meanwhile."""
    seconds = 14.0
    t = _times(seconds, dt)
    turn, flip = np.pi * _ramp(t, seconds, 1.0), 10.0 * np.pi * _ramp(t, seconds, 1.0)
    heading = _about(2, turn)
    return _in_place(product(product(heading, _about(1, -flip)), conjugate(heading)))


def _quaternions(axes: np.ndarray) -> np.ndarray:
    """Return the quaternions of rotation matrices (T, 3, 3), without jumps of sign."""
    from scipy.spatial.transform import Rotation

    found = np.roll(Rotation.from_matrix(axes).as_quat(), 1, axis=1)
    return continuous(found)


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """Return quaternions (T, 4) with the signs that keep neighbours near, the first one with w ≥ 0."""
    signs = np.sign(np.sum(quaternions[1:] * quaternions[:-1], axis=1))
    first = 1.0 if quaternions[0, 0] >= 0.0 else -1.0
    return quaternions * np.concatenate([[first], first * np.cumprod(np.where(signs == 0.0, 1.0, signs))])[:, None]


class Manoeuvre(NamedTuple):
    """Its path, for a control period, and whether a pilot says that it is flown in place, which the learner is told."""

    path: Callable[[float], Path]
    in_place: bool


MANOEUVRES = {
    "flip": Manoeuvre(_flip, in_place=True),
    "roll": Manoeuvre(_roll, in_place=True),
    "tic-toc": Manoeuvre(_tic_toc, in_place=True),
    "funnel": Manoeuvre(_funnel, in_place=False),
    "chaos": Manoeuvre(_chaos, in_place=True),
}


def ideal(robot: Robot, name: str) -> Flight:
    """Return the ideal flight of a manoeuvre, from hover to hover, relative to where it begins.

    Raises:
        UnknownNameError: No such manoeuvre.
    """
    if name not in MANOEUVRES:
        raise unknown_name("manoeuvre", name, MANOEUVRES)
    return _ideal(name, robot.control_dt, tuple(map(tuple, helicopter.parameters_of(robot).tolist())))


@cache
def _ideal(name: str, dt: float, parameters: tuple[tuple[float, ...], ...]) -> Flight:
    params = np.array(parameters)
    state, sticks = hover(params)
    path = MANOEUVRES[name].path(dt)
    length = len(path.positions)
    positions, attitudes = padded(path.positions), padded(product(path.attitudes, state[3:7]))
    velocities = np.gradient(positions, dt, axis=0)
    reference = np.concatenate([positions, attitudes, velocities, _rates(attitudes, dt)], axis=1)
    guess = np.clip(_sticks(params, reference, dt), -1.0, 1.0)[:-1]
    first = jnp.asarray(np.concatenate([state, sticks]), jnp.float32)
    target = jnp.asarray(np.concatenate([reference, np.tile(sticks, (len(reference), 1))], axis=1), jnp.float32)
    plan = ilqr(
        dynamics(jnp.asarray(params, jnp.float32), jnp.zeros((len(reference), 6)), dt),
        Partial(tracking_cost, target),
        Partial(final_cost, target),
        first,
        jnp.asarray(guess, jnp.float32),
        PlannerOptions((-1.0,) * CONTROLS, (1.0,) * CONTROLS, tolerance=1e-4),
    )
    states, controls = np.asarray(plan.states, float)[:, :STATE], np.asarray(plan.controls, float)
    return Flight(states[:length], np.concatenate([controls, sticks[None]])[:length])


def _rates(attitudes: np.ndarray, dt: float) -> np.ndarray:
    """Return the rates about the body's axes along attitudes (T, 4), rad/s, (T, 3)."""
    change = product(conjugate(attitudes[:-1]), attitudes[1:])
    rates = 2.0 * change[:, 1:] / dt
    return np.concatenate([rates[:1], 0.5 * (rates[1:] + rates[:-1]), rates[-1:]])


def _sticks(parameters: np.ndarray, reference: np.ndarray, dt: float) -> np.ndarray:
    """Return the sticks that turn as the reference does and hold its weight as far as its attitude allows, (T, 4)."""
    bias, drag, gain = parameters.T
    rates = reference[:, 10:13] * TURN
    turning = (np.gradient(rates, dt, axis=0) - bias[:3] + drag[:3] * rates) / gain[:3]
    down = 1.0 - 2.0 * np.sum(reference[:, 4:6] ** 2, axis=1)  # of the body's axis, by the world's
    return np.concatenate([turning, ((GRAVITY[2] * down - bias[3]) / gain[3])[:, None]], axis=1)


def dynamics(parameters: Array, corrections: Array, dt: Array | float) -> Partial:
    """Return the model for planning: the state has the last sticks behind it, (17,); corrections by time, (T, 6)."""
    return Partial(_next, parameters, corrections, jnp.asarray(dt, jnp.float32))


def _next(parameters: Array, corrections: Array, dt: Array, state: Array, control: Array, time: Array) -> Array:
    moved = helicopter.control_step(parameters, corrections[time], state[:STATE], control, dt)
    return jnp.concatenate([moved, control])


def tracking_cost(target: Array, state: Array, control: Array, time: Array) -> Array:
    """Return the cost of a step beside a target (T, 17): errors of the state, and changes of the sticks."""
    error = (state - target[time])[:STATE]
    change, off = control - state[STATE:], control - target[time, STATE:]
    return jnp.sum(WEIGHTS * error**2) + CHANGE * jnp.sum(change**2) + jnp.sum(off**2)


def final_cost(target: Array, state: Array, time: Array) -> Array:
    """Return the cost of ending beside a target."""
    return 10.0 * jnp.sum(WEIGHTS * (state - target[time])[:STATE] ** 2)
