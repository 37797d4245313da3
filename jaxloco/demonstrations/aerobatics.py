"""What a learner makes of demonstrations of a manoeuvre: a model, the trajectory that they mean, and how to fly it.

The model has the published equations' form, with parameters fitted to the demonstrations, and corrections along the
trajectory. In flight it is planned anew in each control period, a little over a second ahead. After a flight the model
is fitted to that helicopter. Source: Abbeel, Coates and Ng 2010, "Autonomous helicopter aerobatics through
apprenticeship learning".
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax.tree_util import Partial

from jaxloco.demonstrations import helicopter
from jaxloco.demonstrations.align import Alignment, OutlierError, align, best_path, drift
from jaxloco.demonstrations.apprenticeship import Trial, side_by_side
from jaxloco.demonstrations.helicopter import CONTROLS, STATE, TURN
from jaxloco.demonstrations.manoeuvres import Flight, continuous, dynamics, final_cost, hover, padded, tracking_cost
from jaxloco.demonstrations.pilot import fly, state_of
from jaxloco.demonstrations.planner import Plan, PlannerOptions, receding
from jaxloco.demonstrations.record import Press, read_table, resampled, write_table
from jaxloco.envs.env import Env, EnvState
from jaxloco.envs.quantities import rotate_inverse
from jaxloco.errors import ConfigError
from jaxloco.robot import read_mjcf

IN_FLIGHT = PlannerOptions((-1.0,) * CONTROLS, (1.0,) * CONTROLS, iterations=2)

HORIZON = 25
"""Control periods that are planned ahead in flight."""

ASIDE, GHOST = 1.2, (0.3, 0.5, 0.9, 0.35)
"""In videos: how far north of its place the helicopter flies and south of it the ghost, m; and the ghost's colour."""

NEAR = 3.0
"""Control periods within which a correction is of use."""

PRIOR = 2.0
"""A correction of so many steps of each flight counts half."""

PULL = 3.0
"""How much a helicopter is thought to be like that of the demonstrations; the unit is that of squared accelerations."""


MOST_LEFT_OUT = 0.25
"""Share of the demonstrations that may be of something else, or much worse than the others."""


class Lesson(NamedTuple):
    """What was learned of a manoeuvre.

    Attributes:
        parameters: Of the model, (6, 3).
        corrections: Of its accelerations along the trajectory, (T, 6).
        target: The trajectory, states and sticks, (T, 17); T a multiple of `CHUNK`, the rest of it hover.
        length: Of the trajectory itself.
        alignment: Where it is from.
        left_out: Numbers of the demonstrations that it is not from, and how many times as far off they were as the
            median one.
    """

    parameters: np.ndarray
    corrections: np.ndarray
    target: np.ndarray
    length: int
    alignment: Alignment
    left_out: tuple[tuple[int, float], ...] = ()


def learn(demonstrations: Sequence[Flight], dt: float, in_place: bool = False) -> Lesson:
    """Learn from demonstrations of one manoeuvre; at most a quarter of them, which are far off the others, is left out.

    Args:
        demonstrations: All of the same manoeuvre, from hover to hover.
        dt: Control period, s.
        in_place: It ends where it begins and is there on average: what flights drift is taken out of them.

    Returns:
        Parameters of the model, the trajectory that the demonstrations have in common, and corrections along it.

    Raises:
        ConfigError: They cannot be aligned; names the worst one.

    Source: Coates, Abbeel and Ng 2008, "Learning for control from multiple demonstrations".
    """
    kept, left_out = list(range(len(demonstrations))), list[tuple[int, float]]()
    while True:
        try:
            lesson = _learned([demonstrations[k] for k in kept], dt, in_place)
        except OutlierError as error:
            worst = (kept[error.demonstration], error.times)
            if len(left_out) + 1 > MOST_LEFT_OUT * len(demonstrations):
                raise OutlierError(*worst) from None
            left_out.append(worst)
            kept.remove(worst[0])
        else:
            return lesson._replace(left_out=tuple(left_out))


def _learned(demonstrations: Sequence[Flight], dt: float, in_place: bool) -> Lesson:
    """Learn from all of these demonstrations; see `learn`."""
    parameters = fit(demonstrations, dt)
    flights = [_without_drift(flight, dt) for flight in demonstrations] if in_place else demonstrations
    samples = [np.concatenate(flight, axis=1) for flight in flights]
    alignment = align(samples, partial(_linearized, parameters, dt))
    target = alignment.states[::2].copy()
    target[:, 3:7] /= np.linalg.norm(target[:, 3:7], axis=1, keepdims=True)
    target[:, STATE:] = np.clip(target[:, STATE:], -1.0, 1.0)
    length = len(target)
    end = target[-1].copy()
    end[7:STATE] = 0.0
    target = padded(target, length + HORIZON + 1, end)
    places = [at // 2 for at in alignment.times]
    return Lesson(
        parameters, corrections(parameters, demonstrations, places, len(target), dt), target, length, alignment
    )


def _without_drift(flight: Flight, dt: float) -> Flight:
    states, away = flight.states.copy(), drift(flight.states[:, :3])
    states[:, :3] -= away
    states[:, 7:10] -= np.gradient(away, dt, axis=0)
    return Flight(states, flight.controls)


def fit(flights: Sequence[Flight], dt: float, near: np.ndarray | None = None, pull: float = 0.0) -> np.ndarray:
    """Return the parameters of the published equations with which the steps of flights are predicted best, (6, 3).

    Args:
        flights: What is predicted.
        dt: Control period, s.
        near: Where the search begins, such as the parameters of another helicopter; by default all zero.
        pull: Weight of the squared relative distance from there.
    """
    parameters = np.zeros((6, 3)) if near is None else near.copy()
    for _ in range(2):  # the equations are linear in the parameters, a step of the model nearly so
        errors, seen, sticks = (
            np.concatenate(parts) for parts in zip(*(_errors(parameters, f, dt) for f in flights), strict=True)
        )
        for axis in range(6):
            columns = np.stack(
                [np.ones(len(seen)), -seen[:, axis], *([sticks[:, axis]] if axis < CONTROLS else [])], axis=1
            )
            held = np.diag(np.sqrt(pull) / (np.abs(parameters[axis, : columns.shape[1]]) + 1e-2))
            wanted = np.concatenate([errors[:, axis], np.zeros(len(held))])
            found = np.linalg.lstsq(np.concatenate([columns, held]), wanted, rcond=None)[0]
            parameters[axis, : len(found)] += found
    return parameters


def _errors(parameters: np.ndarray, flight: Flight, dt: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what the model lacks in acceleration at each step, the velocities that drag depends on, and the sticks."""
    steps = len(flight.states) - 1
    before, after, sticks = (padded(x) for x in (flight.states[:-1], flight.states[1:], flight.controls[:-1]))
    errors, seen = _residuals(
        *(jnp.asarray(x, jnp.float32) for x in (parameters, before, after, sticks)), jnp.float32(dt)
    )
    return np.asarray(errors, float)[:steps], np.asarray(seen, float)[:steps], sticks[:steps]


@jax.jit
def _residuals(
    parameters: jax.Array, before: jax.Array, after: jax.Array, sticks: jax.Array, dt: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def of(before: jax.Array, after: jax.Array, sticks: jax.Array) -> tuple[jax.Array, jax.Array]:
        lacking = (after - helicopter.control_step(parameters, jnp.zeros(6), before, sticks, dt))[7:] / dt
        middle = 0.5 * (before + after)
        middle = middle.at[3:7].divide(jnp.linalg.norm(middle[3:7]))
        force = TURN * rotate_inverse(middle[3:7], lacking[:3])
        return jnp.concatenate([TURN * lacking[3:], force[::-1]]), helicopter.body_velocities(middle)

    return jax.vmap(of)(before, after, sticks)


def corrections(
    parameters: np.ndarray, flights: Sequence[Flight], places: Sequence[np.ndarray], length: int, dt: float
) -> np.ndarray:
    """Return what the model lacks along the trajectory, smoothed over all flights, (length, 6).

    Args:
        parameters: Of the model.
        flights: What was flown.
        places: Where on the trajectory each was at each of its samples.
        length: Of the trajectory.
        dt: Control period, s.
    """
    errors = np.concatenate([_errors(parameters, flight, dt)[0] for flight in flights])
    at = np.concatenate(
        [np.asarray(place)[: len(flight.states) - 1] for place, flight in zip(places, flights, strict=True)]
    )
    near = np.exp(-0.5 * ((np.arange(length)[:, None] - at[None]) / NEAR) ** 2)
    found: np.ndarray = near @ errors / (PRIOR * len(flights) + near.sum(axis=1, keepdims=True))
    return found


class Planner:
    """Flies several helicopters along a lesson's trajectory; see `jaxloco.demonstrations.pilot.Pilot`."""

    def __init__(self, lesson: Lesson, dt: float) -> None:
        values = (lesson.parameters, lesson.corrections, lesson.target)
        self._lesson, self._dt = tuple(jnp.asarray(value, jnp.float32) for value in values), jnp.float32(dt)
        self._plans: Plan | None = None
        self._last = np.zeros((0, CONTROLS))

    def __call__(self, t: int, states: np.ndarray) -> np.ndarray:
        """Plan from the present states, (B, 13), and return the first sticks, (B, 4)."""
        target = self._lesson[2]
        if self._plans is None:
            sticks = target[:HORIZON, STATE:]
            gains = jnp.zeros((HORIZON, CONTROLS, target.shape[1]))
            zero = jnp.int32(0)
            one = Plan(target[: HORIZON + 1], sticks, gains, jnp.zeros(()), zero, zero)
            self._plans = jax.tree.map(lambda x: jnp.tile(x[None], (len(states), *[1] * x.ndim)), one)
            self._last = np.tile(np.asarray(target[:1, STATE:]), (len(states), 1))
        now = jnp.asarray(np.concatenate([states, self._last], axis=1), jnp.float32)
        self._plans = _replanned(*self._lesson, now, self._plans, jnp.int32(t), self._dt)
        self._last = np.asarray(self._plans.controls[:, 0])
        return self._last


@jax.jit
def _replanned(
    parameters: jax.Array,
    corrections: jax.Array,
    target: jax.Array,
    states: jax.Array,
    last: Plan,
    time: jax.Array,
    dt: jax.Array,
) -> Plan:
    model = dynamics(parameters, corrections, dt)
    costs = (Partial(tracking_cost, target), Partial(final_cost, target))

    def replan(state: jax.Array, last: Plan) -> Plan:
        return receding(model, *costs, state, last, time, IN_FLIGHT)

    return jax.vmap(replan)(states, last)


class HelicopterApprentice:
    """Learns a manoeuvre from demonstrations: an `Apprentice` of `apprenticeship`.

    Args:
        env: The helicopter's; which helicopter it is, within the task's spread, and the gusts depend on the seed.
        demonstrations: Flights of one manoeuvre.
        ideal: States that trials are graded by, (T, 13); what the demonstrations have in common if not given.
        seed: Of the trials.
        in_place: See `learn`.

    Attributes:
        reference: Positions along the aligned trajectory, (T, 7), where the helicopter starts.
        lesson: What was learned so far.
        demonstrations: The pilot's flights.
        notes: Which of them were left out, and why.
    """

    def __init__(
        self, env: Env, demonstrations: Sequence[Flight], ideal: np.ndarray | None, seed: int, in_place: bool = False
    ) -> None:
        self.dt, self._env = env.dt, env
        self.demonstrations = demonstrations
        self.lesson = learn(self.demonstrations, env.dt, in_place)
        self.notes = [
            f"demonstration {number} is left out: it is {times:.1f} times as far from what all have in common as the "
            "median one"
            for number, times in self.lesson.left_out
        ]
        self._ideal = self.lesson.target[: self.lesson.length, :STATE] if ideal is None else ideal
        self.pilots = [distance(flight.states, self._ideal) for flight in self.demonstrations]
        self._key = jax.random.fold_in(jax.random.PRNGKey(seed), 1)
        self._flights: list[Flight] = []
        self.reference = self._drawn(self.lesson.target[: self.lesson.length], -ASIDE)

    def attempt(self) -> Trial:
        """Fly the robot, always the same one, in other gusts each time."""
        key, gusts = self._key[None], jax.random.fold_in(self._key, len(self._flights))[None]
        planner = Planner(self.lesson, self.dt)
        ((flight, lasted),) = fly(self._env, key, self.lesson.length - 1, planner, gusts)
        self._flights.append(flight)
        rms, best, median = distance(flight.states, self._ideal), min(self.pilots), float(np.median(self.pilots))
        figures = {"rms": rms, "rms_to_median_pilot": rms / median, "rms_to_best_pilot": rms / best}
        figures["aligned_to_best_pilot"] = distance(self.lesson.alignment.states[::2], self._ideal) / best
        return Trial(lasted and rms < median, len(flight.states) - 1, figures, self._drawn(flight.states, ASIDE))

    def _drawn(self, states: np.ndarray, aside: float) -> np.ndarray:
        """Return positions in the scene, (T, 7), moved north by so much."""
        place = self._env.robot.default_qpos[:3] + aside * np.eye(3)[0]
        return states[:, :7] + np.concatenate([place, np.zeros(4)])

    def learn(self) -> dict[str, float]:
        """Fit the model and its corrections to this helicopter's flights; the trajectory stays."""
        lesson, flights = self.lesson, self._flights
        parameters = fit(flights, self.dt, near=lesson.parameters, pull=PULL)
        places = [np.arange(len(flight.states)) for flight in flights]
        corrected = corrections(parameters, flights, places, len(lesson.target), self.dt)
        self.lesson = lesson._replace(parameters=parameters, corrections=corrected)
        return {"model/correction": float(np.sqrt(np.mean(corrected**2)))}

    def scene(self) -> mujoco.MjModel:
        """Return a model of a ghost on the aligned trajectory and of the helicopter."""
        shown, robot = (read_mjcf(self._env.robot.folder / "robot.xml") for _ in range(2))
        for geom in shown.geoms:
            if geom.type != mujoco.mjtGeom.mjGEOM_PLANE:
                geom.material, geom.rgba = "", GHOST
        model = side_by_side(shown, robot, 0.0)
        low, high = (self.reference[:, :3].min(axis=0), self.reference[:, :3].max(axis=0))
        model.stat.center[:], model.stat.extent = (
            0.5 * (low + high) + [ASIDE, 0.0, 0.0],
            3.0 + float(np.max(high - low)),
        )
        return model


FLIGHT = (
    *("x", "y", "z", "qw", "qx", "qy", "qz"),
    *("vx", "vy", "vz", "rate_forward", "rate_left", "rate_up"),
    *("roll", "pitch", "yaw", "collective"),
)
"""Columns of a file of a flight, beside the time: m north, west and up of its start, attitude, m/s, rad/s, sticks."""


def read_flights(folder: Path, dt: float) -> list[Flight]:
    """Read the flights in the CSV files of a folder, at a control period, s.

    Raises:
        ConfigError: There are fewer than two, or one is no flight; names the file and the row.
    """
    paths = sorted(folder.glob("*.csv"), key=lambda path: (len(path.name), path.name))
    if len(paths) < 2:
        raise ConfigError(f"found {len(paths)} flights (*.csv) in {folder}, expected a folder with at least 2")
    return [_read_flight(path, dt) for path in paths]


def _read_flight(path: Path, dt: float) -> Flight:
    times, values = read_table(path, FLIGHT)
    lengths, sticks = np.linalg.norm(values[:, 3:7], axis=1), np.abs(values[:, STATE:]).max(axis=1)
    for wrong, what in (
        (np.abs(lengths - 1.0) > 0.01, "qw, qx, qy, qz is no attitude: a quaternion has length 1"),
        (sticks > 1.0, "sticks lie between -1 and 1"),
    ):
        if wrong.any():
            raise ConfigError(f"demonstration {path}, t = {times[wrong][0]:g} s: {what}")
    values[:, 3:7] = continuous(values[:, 3:7])
    found = resampled(times, values, np.arange(times[0], times[-1] + 0.5 * dt, dt))
    found[:, 3:7] /= np.linalg.norm(found[:, 3:7], axis=1, keepdims=True)
    return Flight(found[:, :STATE], found[:, STATE:])


class HelicopterStage:
    """A helicopter whose sticks keys move; a `Stage`. They stay where they are; a stop lets go of them.

    Args:
        env: The person's helicopter.
        task: Name of the task that learns from it.
    """

    presses = (
        Press("arrowup", "nose down, by 0.05", 1, 0.05),
        Press("arrowdown", "nose up, by 0.05", 1, -0.05),
        Press("arrowleft", "roll left, by 0.05", 0, -0.05),
        Press("arrowright", "roll right, by 0.05", 0, 0.05),
        Press("Q", "turn left, by 0.05", 2, -0.05),
        Press("E", "turn right, by 0.05", 2, 0.05),
        Press("W", "climb, by 0.05", 3, 0.05),
        Press("S", "sink, by 0.05", 3, -0.05),
    )
    low, high = np.full(CONTROLS, -1.0), np.full(CONTROLS, 1.0)

    def __init__(self, env: Env, task: str) -> None:
        self.env, self._task, self.rest = env, task, hover(helicopter.parameters_of(env.robot))[1]

    def action(self, hands: np.ndarray, state: EnvState) -> np.ndarray:
        """Return the sticks."""
        return hands.astype(np.float32)

    def row(self, state: EnvState, action: np.ndarray) -> np.ndarray:
        """Return state and sticks, (17,)."""
        return np.concatenate([state_of(self.env, state), action])

    def finished(self, rows: np.ndarray) -> bool:
        """Return False: only the pilot knows."""
        return False

    def save(self, rows: np.ndarray, folder: Path, number: int) -> str:
        """Write a file that `read_flights` reads."""
        if len(rows) * self.env.dt < SHORTEST:
            raise ConfigError(f"the flight was shorter than {SHORTEST:g} s; fly it again")
        write_table(folder / f"{number}.csv", FLIGHT, self.env.dt, rows)
        words = f"python train.py {self._task} --algorithm apprenticeship --apprenticeship.demonstration {folder}"
        return words if number > 1 else f"fly it again, for flight 2 and more; then: {words}"

    def tell(self, hands: np.ndarray) -> str:
        """Return where the sticks are."""
        return "   ".join(f"{name} {stick:+.2f}" for name, stick in zip(FLIGHT[STATE:], hands, strict=True))


SHORTEST = 1.0
"""Time that a flight must last, s."""


def distance(states: np.ndarray, ideal: np.ndarray) -> float:
    """Return how far a flight is from an ideal one, whatever its tempo.

    The root mean square of sqrt(|Δ position / m|² + (Δ attitude / rad)²) over the flight's samples, each compared with
    the ideal at the time that fits best; times move on as in `align`, at twice the ideal's resolution. Infinite where
    the flight is too short or too long for that.
    """
    count = 2 * len(ideal) - 1
    if not len(states) <= count <= 3 * len(states) - 2:  # of a flight that ended early, say
        return float("inf")
    at, own = np.arange(count) / 2.0, np.arange(len(ideal))
    dense = np.stack([np.interp(at, own, column) for column in ideal[:, :7].T], axis=1)
    dense[:, 3:7] /= np.linalg.norm(dense[:, 3:7], axis=1, keepdims=True)
    square = np.sum((states[:, None, :3] - dense[None, :, :3]) ** 2, axis=2)
    same = np.abs(states[:, 3:7] @ dense[:, 3:7].T) / np.linalg.norm(states[:, 3:7], axis=1, keepdims=True)
    square += (2.0 * np.arccos(np.clip(same, 0.0, 1.0))) ** 2
    path = best_path(-square, np.zeros(3))
    return float(np.sqrt(np.mean(square[np.arange(len(states)), path])))


def _linearized(parameters: np.ndarray, dt: float, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linearize the model for half a control period along states and sticks, (T, 17); sticks keep still."""
    rows = padded(states)
    found = _half_steps(jnp.asarray(parameters, jnp.float32), jnp.asarray(rows, jnp.float32), jnp.float32(dt / 2.0))
    following, slopes = (np.asarray(value, float)[: len(states)] for value in found)
    return following, slopes


@jax.jit
def _half_steps(parameters: jax.Array, states: jax.Array, dt: jax.Array) -> tuple[jax.Array, jax.Array]:
    def step(z: jax.Array) -> jax.Array:
        return jnp.concatenate([helicopter.advance(parameters, jnp.zeros(6), z[:STATE], z[STATE:], dt), z[STATE:]])

    return jax.vmap(step)(states), jax.vmap(jax.jacfwd(step))(states)
