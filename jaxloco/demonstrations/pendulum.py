"""A pendulum that is swung up by what a person showed: mimic, fit a model, plan, try, and fit again.

The model of the robot has three parameters, for damping, length and the response of the hand. It knows no dry
friction: what these cannot explain, local corrections do. Source: Atkeson and Schaal 1997, "Robot learning from
demonstration"; figures are ours.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxloco.demonstrations.apprenticeship import Trial, side_by_side
from jaxloco.demonstrations.model import Corrections, Fit, Parameter, Transitions, fit, local_corrections
from jaxloco.demonstrations.planner import Plan, PlannerOptions, lqr_tracking, receding
from jaxloco.demonstrations.record import GRAVITY, Demonstration, upright_from, wrap
from jaxloco.envs.env import Env
from jaxloco.errors import ConfigError
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

EFFORT, AT_END = 0.01, 30.0
"""Cost per squared acceleration; and the factor of the last state's cost."""

BEYOND, MARGIN = 300.0, 0.4
"""Cost per squared distance of the hand beyond where it is safe; and the end of the rail from there, m."""

ALLOWANCE = 0.8
"""Seconds that the robot may take longer than the person, before its plan holds the rod upright."""


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
    """

    def __init__(
        self, env: Env, demonstration: Demonstration, max_acceleration: float, max_position: float, seed: int
    ) -> None:
        self.dt, self._env, self._limit, self._seed = env.dt, env, max_acceleration, seed
        self._rail = max_position - MARGIN
        self._shown, self._upright = _targets(demonstration, env.dt)
        self.reference = np.stack([demonstration.states[:, 2], demonstration.states[:, 0]], axis=1)
        self._accelerations = np.clip(demonstration.accelerations, -max_acceleration, max_acceleration)[:, None]
        self._options = PlannerOptions((-max_acceleration,), (max_acceleration,), iterations=250, tolerance=1e-4)
        self._trials: list[Transitions] = []
        self.fit: Fit | None = None
        self.plan = self._mimicked()

    def _mimicked(self) -> Plan:
        """Move the hand as was shown, whatever the rod does."""
        gains = np.zeros((len(self._accelerations), 1, len(SEEN)), np.float32)
        gains[:, 0, 2], gains[:, 0, 4] = -20.0, -6.0
        return _plan(self._shown, self._accelerations, gains)

    def attempt(self) -> Trial:
        """Try the plan on the robot."""
        key = jax.random.fold_in(jax.random.PRNGKey(self._seed), len(self._trials))
        given = (self.plan.states[:-1], self.plan.controls, self.plan.gains)
        states, controls, ended = map(np.asarray, _tried(self._env, self._limit)(key, *given))
        steps = int(np.argmax(ended)) + 1 if ended.any() else len(controls)
        self._trials.append(Transitions.of_trial(states[: steps + 1], controls[:steps]))
        angles, last = states[: steps + 1, 0], round(SOLVED_SECONDS / self.dt)
        held = steps == len(controls) and upright_from(angles, SOLVED_ANGLE) <= steps - last
        figures = {"best_cosine": float(np.cos(angles).max()), "last_angle": float(abs(wrap(angles[-1])))}
        return Trial(bool(held), steps, figures, states[: steps + 1, [2, 0]])

    def learn(self) -> dict[str, float]:
        """Fit the model to the trials and plan anew; return the figures of both.

        Raises:
            ConfigError: The model cannot be fitted, or no plan is found.
        """
        count = REMEMBERED * len(self._accelerations)
        recorded = Transitions.joined(self._trials[-REMEMBERED:]).padded(count)
        self.fit = fit(predict, PARAMETERS, recorded, SCALES)
        parameters = jnp.asarray(self.fit.values, jnp.float32)
        corrections = local_corrections(predict, parameters, jax.tree.map(jnp.asarray, recorded), near)
        shown = jnp.asarray(self._shown)
        guess = self.plan
        if len(self._trials) == 1:
            gains = _tracking(parameters, shown, jnp.asarray(self._accelerations, jnp.float32))
            guess = _plan(self._shown, self._accelerations, gains)
        functions = (
            Partial(corrected, parameters, corrections),
            Partial(_cost, shown, jnp.int32(self._upright), jnp.float32(self._rail)),
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

    def scene(self) -> mujoco.MjModel:
        """Return a model of the person's pendulum and the robot's, whose rod is drawn as long as was found."""
        length = GRAVITY / self.fit.values[1] if self.fit else 0.55
        return side_by_side(self._drawn(0.55), self._drawn(length), 3.3)

    def _drawn(self, length: float) -> mujoco.MjSpec:
        spec = read_mjcf(self._env.robot.folder / "robot.xml")
        spec.geom("rod").fromto[5] = spec.geom("bob").pos[2] = length
        return spec


def _targets(demonstration: Demonstration, dt: float) -> tuple[np.ndarray, int]:
    """Return the states to follow, (T + 1, 5), and the row from which on the rod is held upright in the middle."""
    states = demonstration.states
    shown = np.concatenate([states, states[:, 3:]], axis=1).astype(np.float32)
    upright = min(demonstration.upright_from + round(ALLOWANCE / dt), len(shown) - 1)
    shown[upright:] = 0.0
    shown[upright:, 0] = 2.0 * np.pi * np.round(states[-1, 0] / (2.0 * np.pi))
    return shown, upright


def _plan(states: Any, controls: Any, gains: Any) -> Plan:
    numbers = (jnp.asarray(x, jnp.float32) for x in (states, controls, gains, 0.0))
    return Plan(*numbers, jnp.int32(0), jnp.int32(0))


@jax.jit
def _tracking(parameters: Array, states: Array, controls: Array) -> Array:
    """Return gains that would bring the model back to a trajectory, (T, 1, n)."""
    slopes = jax.vmap(jax.jacfwd(predict, argnums=(1, 2)), (None, 0, 0, None))
    a, b = slopes(parameters, states[:-1], controls, jnp.int32(0))
    q, r = jnp.diag(jnp.asarray([10.0, 1.0, 1.0, 0.3, 0.01])), 0.1 * jnp.eye(1)
    many = [jnp.broadcast_to(x[None], (len(controls), *x.shape)) for x in (q, r)]
    return lqr_tracking(a, b, *many, 10.0 * q)


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
