"""A pendulum that is swung up by what a person showed: mimic, fit a model, plan, try, and fit again.

The model of the robot has three parameters, for damping, length and the response of the hand. It knows no dry
friction: what these cannot explain, local corrections do. Source: Atkeson and Schaal 1997, "Robot learning from
demonstration"; figures are ours.
"""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxloco.demonstrations.apprenticeship import Trial, side_by_side
from jaxloco.demonstrations.model import Corrections, Fit, Parameter, Transitions, fit, local_corrections
from jaxloco.demonstrations.planner import Plan, PlannerOptions, lqr, lqr_tracking, receding
from jaxloco.demonstrations.record import (
    GRAVITY,
    PENDULUM,
    Demonstration,
    Press,
    read_demonstration,
    upright_from,
    wrap,
    write_table,
)
from jaxloco.envs.env import Env, EnvState
from jaxloco.errors import ConfigError
from jaxloco.exporting import export_plan
from jaxloco.robot.mjcf import read_mjcf

SEEN = ("angle", "angular_velocity", "hand_position", "hand_velocity", "hand_velocity_target")
"""The state: what the robot measures, and the velocity that it has commanded."""

SOLVED_ANGLE, SOLVED_SECONDS = 0.2, 2.0
"""A trial solves the task if the rod is that near to upright, rad, during all of its last seconds."""

PARAMETERS = (
    Parameter("damping", 0.0, -2.0, 5.0),
    Parameter("gravity_by_length", GRAVITY / 0.55, 2.0, 60.0),
    Parameter("hand_response", 0.9, 0.05, 1.0),
)
"""1/s; 1/s²; the part of what is missing to the commanded velocity that the hand gains in a control period."""

SCALES = (0.01, 0.1, 0.01, 0.1, 0.01)
"""Errors of a predicted state that count as much as each other."""

REACH = (0.5, 0.5, 1.5)
"""Of a local correction: in the cosine and sine of the angle, and in angular velocity, rad/s."""

REMEMBERED = 4
"""Last trials that models are fitted to."""

SWING, HOLD = (0.3, 0.01, 0.3, 0.02, 0.0), (10.0, 1.0, 3.0, 1.0, 0.0)
"""Costs per squared distance of each state from what was shown: on the way up, and once the rod is upright."""

LEAST = 1e-3
"""Cost per squared commanded velocity of the regulator: some, lest the hand creeps."""

EFFORT, AT_END = 0.01, 30.0
"""Cost per squared acceleration; and the factor of the last state's cost."""

BEYOND, MARGIN = 300.0, 0.4
"""Cost per squared distance of the hand beyond where it is safe; and the end of the rail from there, m."""

ALLOWANCE = 0.8
"""Seconds that the robot may take longer than the person, before its plan holds the rod upright."""

MOST_ERROR = 0.02
"""Of the angle from one row of a demonstration to the next, rad; 0.002 of a pendulum."""


def predict(parameters: Array, state: Array, control: Array, time: Array, *, dt: float = 0.02) -> Array:
    """Return the next state, by midpoints: θ'' = g/l (sin θ + a/g cos θ) - d θ' with the hand's acceleration a."""
    angle, speed, position, velocity, target = state
    damping, gravity, response = parameters
    target = target + dt * control[0]
    after = velocity + response * (target - velocity)
    middle = angle + 0.5 * dt * speed
    push = (after - velocity) / dt / GRAVITY
    turned = (1.0 - damping * dt) * speed + dt * gravity * (jnp.sin(middle) + push * jnp.cos(middle))
    return jnp.stack(
        [angle + 0.5 * dt * (speed + turned), turned, position + 0.5 * dt * (velocity + after), after, target]
    )


def near(state: Array, control: Array, time: Array) -> Array:
    """Return the features that corrections are local in."""
    return jnp.stack([jnp.cos(state[0]) / REACH[0], jnp.sin(state[0]) / REACH[1], state[1] / REACH[2]])


def corrected(parameters: Array, corrections: Corrections, state: Array, control: Array, time: Array) -> Array:
    """Return the next state, of the rod with what is corrected."""
    of_rod = jnp.asarray([1.0, 1.0, 0.0, 0.0, 0.0])
    return predict(parameters, state, control, time) + of_rod * corrections.at(near(state, control, time))


def _cost(reference: Array, upright: Array, rail: Array, state: Array, control: Array, time: Array) -> Array:
    row = jnp.minimum(time, len(reference) - 1)
    weights = jnp.where(row >= upright, jnp.asarray(HOLD), jnp.asarray(SWING))
    beyond = jnp.maximum(jnp.abs(state[2]) - rail, 0.0)
    return jnp.sum(weights * (state - reference[row]) ** 2) + BEYOND * beyond**2 + EFFORT * control[0] ** 2


def _final_cost(reference: Array, state: Array, time: Array) -> Array:
    return AT_END * jnp.sum(jnp.asarray(HOLD) * (state - reference[-1]) ** 2)


class PendulumApprentice:
    """Learns to swing up the pendulum of an environment.

    Args:
        env: The robot, which is only tried on: nothing is read of its model.
        demonstration: What a person showed.
        max_acceleration: Of an action of 1, m/s².
        max_position: Where the rail ends, from its middle, m.
        seed: Of the trials.

    Attributes:
        reference: Positions that were shown, (T + 1, nq): of the hand, and the rod's angle.
        plan: What is tried next.
        fit: The model's last fit; None before the first trial.

    Raises:
        ConfigError: What was shown is no pendulum in a hand.
    """

    def __init__(
        self, env: Env, demonstration: Demonstration, max_acceleration: float, max_position: float, seed: int
    ) -> None:
        self.dt, self._env, self._limit, self._seed = env.dt, env, max_acceleration, seed
        self._rail, self._demonstration = max_position - MARGIN, demonstration
        self.reference = demonstration.states[:, [2, 0]]
        self.notes: list[str] = []
        self._options = PlannerOptions((-max_acceleration,), (max_acceleration,), iterations=250, tolerance=1e-4)
        self._trials: list[Transitions] = []
        self.fit: Fit | None = None
        shown, accelerations = self._shown()
        gains = np.zeros((len(accelerations), 1, len(SEEN)), np.float32)
        gains[:, 0, 2], gains[:, 0, 4] = -20.0, -6.0  # moves the hand as was shown, whatever the rod does
        self.plan = _plan(shown, accelerations, gains)
        person = self._fitted([Transitions.of_trial(shown, accelerations.astype(np.float32))])
        if person.rms[0] > MOST_ERROR:
            raise ConfigError(
                f"demonstration of {demonstration.source}: it is not of a rod on a hand: from row to row the model "
                f"misses the angle by {person.rms[0]:.2g} rad; check the units and the rate"
            )

    def _fitted(self, recorded: list[Transitions]) -> Fit:
        return fit(predict, PARAMETERS, self._joined(recorded), SCALES)

    def _joined(self, recorded: list[Transitions]) -> Transitions:
        """Return so many transitions that nothing is compiled twice."""
        return Transitions.joined(recorded[-REMEMBERED:]).padded(REMEMBERED * self._env.max_steps)

    def _shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the states that were shown, (T + 1, 5), and the accelerations of the hand, (T, 1)."""
        states = self._demonstration.states
        accelerations = np.clip(self._demonstration.accelerations, -self._limit, self._limit)[:, None]
        return np.concatenate([states, states[:, 3:]], axis=1).astype(np.float32), accelerations

    def attempt(self) -> Trial:
        """Try the plan on the robot."""
        key = jax.random.fold_in(jax.random.PRNGKey(self._seed), len(self._trials))
        given = (self.plan.states[:-1], self.plan.controls, self.plan.gains)
        states, controls, ended = map(np.asarray, _tried(self._env, self._limit)(key, *given))
        steps = int(np.argmax(ended)) + 1 if ended.any() else len(controls)
        self._trials.append(Transitions.of_trial(states[: steps + 1], controls[:steps]))
        angles = states[: steps + 1, 0]
        held = steps == len(controls) and is_held(angles, self.dt)
        figures = {"best_cosine": float(np.cos(angles).max()), "last_angle": float(abs(wrap(angles[-1])))}
        return Trial(held, steps, figures, states[: steps + 1, [2, 0]])

    def learn(self) -> dict[str, float]:
        """Fit the model to the trials and plan anew; return the figures of both.

        Raises:
            ConfigError: The model cannot be fitted, or no plan is found.
        """
        self.fit, recorded = self._fitted(self._trials), self._joined(self._trials)
        parameters = jnp.asarray(self.fit.values, jnp.float32)
        corrections = local_corrections(predict, parameters, jax.tree.map(jnp.asarray, recorded), near)
        states, accelerations = self._shown()
        guess = self.plan
        if len(self._trials) == 1:
            gains = _tracking(parameters, jnp.asarray(states), jnp.asarray(accelerations, jnp.float32))
            guess = _plan(states, accelerations, gains)
        upright = min(self._demonstration.upright_from + round(ALLOWANCE / self.dt), len(states) - 1)
        states[upright:] = _upright(self._demonstration.states[-1:, 0])  # there it is held in the middle
        shown = jnp.asarray(states)
        functions = (
            Partial(corrected, parameters, corrections),
            Partial(_cost, shown, jnp.int32(upright), jnp.float32(self._rail)),
            Partial(_final_cost, shown),
        )
        self.plan = receding(*functions, jnp.asarray([np.pi, 0.0, 0.0, 0.0, 0.0]), guess, 0, self._options)
        if not np.isfinite(self.plan.cost):
            raise ConfigError("no plan can be made from the demonstration: the fitted model diverges along it")
        named = dict(zip((p.name for p in PARAMETERS), self.fit.values.tolist(), strict=True))
        return {
            **{f"model/{name}": value for name, value in named.items()},
            "model/angle_error": float(self.fit.rms[0]),
            "plan/cost": float(self.plan.cost),
            "plan/iterations": int(self.plan.iterations),
        }

    def export(self, folder: Path, task: str, provenance: Mapping[str, Any]) -> Path:
        """Write the plan as a bundle; after its end the rod is held by the regulator of the fitted model."""
        names = list(self._env.measured)
        columns = [names.index(name) for name in SEEN]
        assert self.fit is not None  # it has learned
        states, controls, gains = (np.asarray(part) for part in self.plan[:3])
        states = np.concatenate([states[:-1], _upright(states[-1:, 0])])
        gains = np.concatenate([gains, np.asarray(_regulator(jnp.asarray(self.fit.values, jnp.float32)))[None]])
        seen, gain = np.zeros((len(states), len(names))), np.zeros((len(states), 1, len(names)))
        seen[:, columns], gain[:, :, columns] = states, gains / self._limit
        plan = (seen, np.append(controls, [[0.0]], axis=0) / self._limit, gain)
        return export_plan(folder, self._env, plan, task=task, provenance=provenance, seed=self._seed)

    def scene(self) -> mujoco.MjModel:
        """Return a model of the person's pendulum and the robot's, whose rod is drawn as long as was found."""
        length = GRAVITY / self.fit.values[1] if self.fit else 0.55
        left = self._drawn(0.55)
        left.camera("track").pos = [1.65, -3.0, 0.1]
        return side_by_side(left, self._drawn(length), 3.3)

    def _drawn(self, length: float) -> mujoco.MjSpec:
        spec = read_mjcf(self._env.robot.folder / "robot.xml")
        spec.geom("rod").fromto[5] = spec.geom("bob").pos[2] = length
        return spec


class PendulumStage:
    """A pendulum whose hand keys move; a `Stage`. It is complete once the rod was upright for `SHOWN_SECONDS`.

    Args:
        env: The person's pendulum.
        max_acceleration: Of an action of 1, m/s².
        episode_seconds: Of the task's own episodes, s.
    """

    presses = (
        Press("arrowleft", "hand left, by 0.5 m/s", 0, -0.5),
        Press("arrowright", "hand right, by 0.5 m/s", 0, 0.5),
        Press("Q", "hand left, by 0.1 m/s", 0, -0.1),
        Press("E", "hand right, by 0.1 m/s", 0, 0.1),
    )
    rest, low, high = np.zeros(1), np.full(1, -6.0), np.full(1, 6.0)

    def __init__(self, env: Env, max_acceleration: float, episode_seconds: float) -> None:
        self.env, self._limit, self._seconds = env, max_acceleration, episode_seconds
        self._target = list(env.measured).index("hand_velocity_target")

    def action(self, hands: np.ndarray, state: EnvState) -> np.ndarray:
        """Return the acceleration that brings the hand's commanded velocity to the wanted one."""
        missing = hands - np.asarray(state.observation["actor"])[self._target]
        return np.clip(missing / (self.env.dt * self._limit), -1.0, 1.0).astype(np.float32)

    def row(self, state: EnvState, action: np.ndarray) -> np.ndarray:
        """Return the angle, its velocity, and position and velocity of the hand, (4,)."""
        (hand, angle), (velocity, turn) = np.asarray(state.physics.qpos), np.asarray(state.physics.qvel)
        return np.array([angle, turn, hand, velocity])

    def finished(self, rows: np.ndarray) -> bool:
        """Return whether the rod was upright all of the last seconds that count."""
        return upright_from(rows[:, 0]) <= len(rows) - 1 - round(SHOWN_SECONDS / self.env.dt)

    def save(self, rows: np.ndarray, folder: Path, number: int) -> str:
        """Write a file that `read_demonstration` reads; tell the robot's episode, which needs time to hold the rod."""
        if not self.finished(rows):
            raise ConfigError(f"the rod was not held upright for {SHOWN_SECONDS:g} s at its end; show it again")
        path = folder / f"{number}.csv"
        write_table(path, PENDULUM, self.env.dt, rows)
        own = upright_from(rows[:, 0]) * self.env.dt + ALLOWANCE + SOLVED_SECONDS + SPARE
        longer = f" --task.episode-seconds {np.ceil(own):.0f}" if own > self._seconds else ""
        read_demonstration(path, round(max(own, self._seconds) / self.env.dt) + 1, self.env.dt)
        words = "python train.py pendulum-on-hand --algorithm apprenticeship --apprenticeship.demonstration"
        return f"{words} {path}{longer}"

    def tell(self, hands: np.ndarray) -> str:
        """Return the wanted velocity of the hand."""
        return f"hand {hands[0]:+.1f} m/s"


SHOWN_SECONDS, SPARE = 1.2, 0.2
"""How long a person holds the rod upright; and how much longer than needed a robot's episode is, s."""


def is_held(angles: np.ndarray, dt: float) -> bool:
    """Return whether a rod whose angles these are, rad, (T,), is upright all of the last seconds that count."""
    return upright_from(angles, SOLVED_ANGLE) <= len(angles) - 1 - round(SOLVED_SECONDS / dt)


def _upright(angle: np.ndarray) -> np.ndarray:
    """Return the states at rest, upright nearest to angles (N,), in the middle of the rail, (N, 5)."""
    states = np.zeros((len(angle), len(SEEN)), np.float32)
    states[:, 0] = 2.0 * np.pi * np.round(angle / (2.0 * np.pi))
    return states


@jax.jit
def _regulator(parameters: Array) -> Array:
    """Return the gain that holds the model's rod upright, (1, 5)."""
    slopes = jax.jacfwd(predict, argnums=(1, 2))
    a, b = slopes(parameters, jnp.zeros(len(SEEN)), jnp.zeros(1), jnp.int32(0))
    return lqr(a, b, jnp.diag(jnp.asarray((*HOLD[:4], LEAST))), EFFORT * jnp.eye(1))[0]


def _plan(states: Any, controls: Any, gains: Any) -> Plan:
    states, controls, gains = (jnp.asarray(x, jnp.float32) for x in (states, controls, gains))
    return Plan(states, controls, gains, jnp.float32(0.0), jnp.int32(0), jnp.int32(0))


@jax.jit
def _tracking(parameters: Array, states: Array, controls: Array) -> Array:
    """Return gains that would bring the model back to a trajectory, (T, 1, n)."""
    slopes = jax.vmap(jax.jacfwd(predict, argnums=(1, 2)), (None, 0, 0, None))
    a, b = slopes(parameters, states[:-1], controls, jnp.int32(0))
    q, r = jnp.diag(jnp.asarray([10.0, 1.0, 1.0, 0.3, 0.01])), 0.1 * jnp.eye(1)
    qs, rs = (jnp.broadcast_to(x[None], (len(controls), *x.shape)) for x in (q, r))
    return lqr_tracking(a, b, qs, rs, 10.0 * q)


@lru_cache(maxsize=4)
def _tried(env: Env, limit: float) -> Any:
    """Return the compiled (key, states, controls, gains) → states (T + 1, n), controls (T, 1), whether ended (T,)."""
    names = list(env.measured)
    columns = np.array([names.index(name) for name in SEEN])

    def step(state: Any, planned: tuple[Array, Array, Array]) -> tuple[Any, tuple[Array, Array, Array]]:
        near, control, gain = planned
        seen = state.observation["actor"][columns]
        control = jnp.clip(control + gain @ (seen - near), -limit, limit)
        state = env.step(state, control / limit)
        return state, (seen, control, state.terminated)

    @jax.jit
    def tried(key: Array, states: Array, controls: Array, gains: Array) -> tuple[Array, Array, Array]:
        last, (seen, done, ended) = jax.lax.scan(step, env.reset(key), (states, controls, gains))
        return jnp.concatenate([seen, last.observation["actor"][columns][None]]), done, ended

    return tried
