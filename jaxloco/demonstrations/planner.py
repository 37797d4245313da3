"""Planners: linear-quadratic regulators, and iterative LQR with limits of the controls and a receding horizon.

    x_{t+1} = f(x_t, u_t, t),    J = Σ_t c(x_t, u_t, t) + c_T(x_T, T),    u = u_t + K_t (x - x_t)

Every gain K has this sign. All run under `jit`, `vmap` and `scan`, in the precision of what they are given. A function
that depends on arrays which change, such as a fitted model, is a `jax.tree_util.Partial(function, arrays)`: nothing is
compiled anew then. A plain function is compiled for once; a new lambda each time is a new function each time.

Sources: Li and Todorov 2004, "Iterative linear quadratic regulator design"; Tassa, Mansard and Todorov 2014,
"Control-limited differential dynamic programming"; Chu, Fan, Lin and Wang 2004, "Structure-preserving algorithms for
periodic discrete-time algebraic Riccati equations" (doubling).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial

from jaxloco.checks import COUNT, NOT_NEGATIVE, check_fields
from jaxloco.errors import ConfigError

Dynamics = Callable[[Array, Array, Array], Array]
"""(state (n,), control (m,), time index) → next state (n,)."""

Cost = Callable[[Array, Array, Array], Array]
"""(state (n,), control (m,), time index) → cost of the step, a scalar."""

FinalCost = Callable[[Array, Array], Array]
"""(state (n,), time index) → cost of ending there, a scalar."""

DOUBLINGS = 40
"""Of the horizon, from one step on: more steps than any regulator needs to settle."""

SUFFICIENT = 1e-4
"""A step must bring at least this part of the decrease that the quadratic model promises."""

LEAST_DAMPING, MOST_DAMPING, DAMPING_FACTOR = 1e-6, 1e8, 10.0


class Plan(NamedTuple):
    """A trajectory and the linear feedback around it, u = u_t + K_t (x - x_t).

    Attributes:
        states: x_t, (T + 1, n).
        controls: u_t, (T, m).
        gains: K_t, (T, m, n); rows of controls at a limit are 0.
        cost: Of the trajectory; not finite where the model diverges.
        iterations: Steps of the optimization.
        start: Time index of the first state.
    """

    states: Array
    controls: Array
    gains: Array
    cost: Array
    iterations: Array
    start: Array


@dataclass(frozen=True)
class PlannerOptions:
    """Options of iterative LQR.

    Attributes:
        low: Lower limit of each of the m controls, in its unit; () for none.
        high: Upper limit of each; () for none.
        iterations: Most steps of the optimization.
        tolerance: It ends where a step promises less than this part of the cost.
        halvings: Most halvings of a step.
    """

    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    iterations: int = 100
    tolerance: float = 1e-5
    halvings: int = 10

    def __post_init__(self) -> None:
        check_fields(self)
        COUNT.check("iterations", self.iterations)
        NOT_NEGATIVE.check("tolerance", self.tolerance)
        if len(self.low) != len(self.high) or any(a >= b for a, b in zip(self.low, self.high, strict=True)):
            raise ConfigError(f"limits {self.low} to {self.high}: a low one below a high one for each control")


def lqr(a: Array, b: Array, q: Array, r: Array) -> tuple[Array, Array]:
    """Return the regulator of x' = A x + B u that minimizes Σ x'Q x + u'R u over an infinite horizon.

    Args:
        a: A, (n, n).
        b: B, (n, m).
        q: Q, (n, n), positive semidefinite.
        r: R, (m, m), positive definite.

    Returns:
        K, (m, n), with u = K x, and P, (n, n), with x'P x the cost to go. Not finite where nothing stabilizes.
    """
    eye = jnp.eye(len(a), dtype=a.dtype)

    def double(_: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """From the cost and the effect of some steps to those of twice as many."""
        f, g, h = state
        solved = jnp.linalg.solve(eye + g @ h, jnp.concatenate([f, g], axis=1))
        left, right = solved[:, : len(a)], solved[:, len(a) :]
        return f @ left, g + f @ right @ f.T, h + f.T @ h @ left

    _, _, p = jax.lax.fori_loop(0, DOUBLINGS, double, (a, b @ jnp.linalg.solve(r, b.T), q))
    p = 0.5 * (p + p.T)
    return -jnp.linalg.solve(r + b.T @ p @ b, b.T @ p @ a), p


def lqr_tracking(a: Array, b: Array, q: Array, r: Array, q_final: Array) -> Array:
    """Return the gains that minimize Σ_t x'Q_t x + u'R_t u + x_T'Q_T x_T of x_{t+1} = A_t x + B_t u.

    Args:
        a: A_t, (T, n, n).
        b: B_t, (T, n, m).
        q: Q_t, (T, n, n).
        r: R_t, (T, m, m).
        q_final: Q_T, (n, n).

    Returns:
        K_t, (T, m, n), with u = K_t x.
    """

    def back(p: Array, step: tuple[Array, Array, Array, Array]) -> tuple[Array, Array]:
        a, b, q, r = step
        gain = -jnp.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        p = q + a.T @ p @ (a + b @ gain)
        return 0.5 * (p + p.T), gain

    return jax.lax.scan(back, q_final, (a, b, q, r), reverse=True)[1]


def ilqr(
    dynamics: Dynamics,
    cost: Cost,
    final_cost: FinalCost,
    first_state: Array,
    controls: Array,
    options: PlannerOptions = PlannerOptions(),
    start: Array | int = 0,
) -> Plan:
    """Plan from a first state: one step where all is linear and quadratic, a local optimum otherwise.

    Args:
        dynamics: f: state (n,), control (m,) and time index → the next state, (n,).
        cost: c: state (n,), control (m,) and time index → (); its Hessian in the controls is positive, in the states
            better not negative.
        final_cost: c_T: state (n,) and time index → ().
        first_state: (n,).
        controls: Where the search begins, (T, m).
        options: Limits, and when to end.
        start: Time index of the first state.

    Returns:
        States (T + 1, n), controls (T, m) and feedback gains (T, m, n).

    Raises:
        ConfigError: The limits are not of so many controls.
    """
    steps, m = controls.shape
    states = jnp.zeros((steps + 1, len(first_state)), first_state.dtype)
    gains = jnp.zeros((steps, m, len(first_state)), first_state.dtype)
    guess = Plan(states, controls, gains, jnp.zeros(()), jnp.zeros((), jnp.int32), jnp.asarray(start, jnp.int32))
    return _plan(dynamics, cost, final_cost, first_state, guess, options)


def receding(
    dynamics: Dynamics,
    cost: Cost,
    final_cost: FinalCost,
    state: Array,
    last: Plan,
    time_index: Array | int,
    options: PlannerOptions = PlannerOptions(iterations=3),
) -> Plan:
    """Plan anew from the present state, over the same horizon, beginning with the rest of the last plan.

    Its feedback leads the first guess from the present state. The functions get time indices up to `time_index` + T.

    Args:
        dynamics: f.
        cost: c.
        final_cost: c_T.
        state: The present state, (n,).
        last: The plan before, of `ilqr` or of this.
        time_index: Of the present state.
        options: Limits, and when to end.
    """
    now = jnp.asarray(time_index, jnp.int32)
    ahead = jnp.arange(len(last.controls), dtype=jnp.int32) + now - last.start
    at = jnp.minimum(ahead, len(last.controls) - 1)
    states = jnp.concatenate([last.states[at], last.states[-1:]])
    guess = Plan(states, last.controls[at], last.gains[at], last.cost, last.iterations, now)
    return _plan(dynamics, cost, final_cost, state, guess, options)


class _Problem(NamedTuple):
    dynamics: Dynamics
    cost: Cost
    final_cost: FinalCost
    first_state: Array
    times: Array
    """(T + 1,)."""


class _Search(NamedTuple):
    """A trajectory, and where the quadratic model around it leads."""

    states: Array
    controls: Array
    cost: Array
    feedforward: Array
    gains: Array
    slope: Array
    """Decrease that a step of size s promises: s · slope - s² · curve."""
    curve: Array
    damping: Array
    iterations: Array
    tries: Array

    @property
    def promised(self) -> Array:
        return self.slope - self.curve


def _plan(
    dynamics: Dynamics, cost: Cost, final_cost: FinalCost, state: Array, guess: Plan, options: PlannerOptions
) -> Plan:
    m = guess.controls.shape[1]
    if options.low and len(options.low) != m:
        raise ConfigError(f"limits of {len(options.low)} controls for {m} controls; give one low and one high for each")
    functions = (f if isinstance(f, Partial) else Partial(f) for f in (dynamics, cost, final_cost))
    return _search(*functions, state, guess, options)


@partial(jax.jit, static_argnames="options")
def _search(
    dynamics: Dynamics, cost: Cost, final_cost: FinalCost, state: Array, guess: Plan, options: PlannerOptions
) -> Plan:
    times = guess.start + jnp.arange(len(guess.states), dtype=jnp.int32)
    problem = _Problem(dynamics, cost, final_cost, state, times)
    none = jnp.zeros((), state.dtype)
    states, controls, value = _follow(
        problem, guess.states, guess.controls, jnp.zeros_like(guess.controls), guess.gains, none, options
    )
    zero = jnp.zeros((), jnp.int32)
    search = _Search(states, controls, value, controls, guess.gains, none, none, none, zero, zero)

    def goes_on(s: _Search) -> Array:
        enough = s.promised <= options.tolerance * jnp.abs(s.cost)  # false where the model is not convex: NaN
        return ~enough & (s.tries < options.iterations) & (s.damping < MOST_DAMPING)

    search = jax.lax.while_loop(goes_on, partial(_step, problem, options=options), _backward(problem, search, options))
    return Plan(search.states, search.controls, search.gains, search.cost, search.iterations, guess.start)


def _follow(
    problem: _Problem,
    states: Array,
    controls: Array,
    feedforward: Array,
    gains: Array,
    size: Array,
    options: PlannerOptions,
) -> tuple[Array, Array, Array]:
    """Follow a trajectory from the first state with a step of a size; return the new one and its cost."""

    def step(carry: tuple[Array, Array], at: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        (x, total), (near, control, change, gain, time) = carry, at
        control = _limited(control + size * change + gain @ (x - near), options)
        total = total + problem.cost(x, control, time)
        following = problem.dynamics(x, control, time)
        return (following, total), (following, control)

    start = (problem.first_state, jnp.zeros((), states.dtype))
    inputs = (states[:-1], controls, feedforward, gains, problem.times[:-1])
    (last, total), (followed, controls) = jax.lax.scan(step, start, inputs)
    total = total + problem.final_cost(last, problem.times[-1])
    return jnp.concatenate([problem.first_state[None], followed]), controls, total


def _limited(control: Array, options: PlannerOptions) -> Array:
    if not options.low:
        return control
    return jnp.clip(control, jnp.asarray(options.low, control.dtype), jnp.asarray(options.high, control.dtype))


def _step(problem: _Problem, search: _Search, options: PlannerOptions) -> _Search:
    """Take the longest step that keeps its promise, or damp the next one more."""

    class Try(NamedTuple):
        size: Array
        states: Array
        controls: Array
        cost: Array

    def kept(t: Try) -> Array:
        promised = t.size * search.slope - t.size**2 * search.curve
        return (search.cost - t.cost >= SUFFICIENT * promised) & jnp.isfinite(promised)

    def go(size: Array) -> Try:
        feedforward, gains = search.feedforward, search.gains
        return Try(size, *_follow(problem, search.states, search.controls, feedforward, gains, size, options))

    smallest = 0.5**options.halvings
    full = go(jnp.ones((), search.states.dtype))
    found = jax.lax.while_loop(lambda t: ~kept(t) & (t.size > smallest), lambda t: go(0.5 * t.size), full)
    took = kept(found)
    less, more = search.damping / DAMPING_FACTOR, jnp.maximum(search.damping * DAMPING_FACTOR, LEAST_DAMPING)
    search = search._replace(
        states=jnp.where(took, found.states, search.states),
        controls=jnp.where(took, found.controls, search.controls),
        cost=jnp.where(took, found.cost, search.cost),
        damping=jnp.where(took, jnp.where(less < LEAST_DAMPING, 0.0, less), more),
        iterations=search.iterations + took.astype(jnp.int32),
        tries=search.tries + 1,
    )
    return _backward(problem, search, options)


def _backward(problem: _Problem, search: _Search, options: PlannerOptions) -> _Search:
    """Find the best change of each control for the linear model and the quadratic cost around the trajectory."""
    x, u, times = search.states[:-1], search.controls, problem.times[:-1]
    a, b = jax.vmap(jax.jacfwd(problem.dynamics, argnums=(0, 1)))(x, u, times)
    gradient = jax.vmap(jax.grad(problem.cost, argnums=(0, 1)))(x, u, times)
    hessian = jax.vmap(jax.hessian(problem.cost, argnums=(0, 1)))(x, u, times)
    last = (search.states[-1], problem.times[-1])
    final = (jax.grad(problem.final_cost)(*last), jax.hessian(problem.final_cost)(*last))
    damping = search.damping * jnp.eye(u.shape[1], dtype=u.dtype)

    def back(value: tuple[Array, Array], step: tuple[Array, ...]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        (v, vv), (a, b, control, (cx, cu), ((cxx, _), (cux, cuu))) = value, step
        qx, qu = cx + a.T @ v, cu + b.T @ v
        qxx, qux, quu = cxx + a.T @ vv @ a, cux + b.T @ vv @ a, cuu + b.T @ vv @ b
        change, gain = _best_change(quu + damping, qu, qux, control, options)
        v = qx + gain.T @ (quu @ change + qu) + qux.T @ change
        vv = qxx + gain.T @ (quu @ gain + qux) + qux.T @ gain
        return (v, 0.5 * (vv + vv.T)), (change, gain, -change @ qu, 0.5 * change @ quu @ change)

    _, (change, gains, slope, curve) = jax.lax.scan(back, final, (a, b, u, gradient, hessian), reverse=True)
    return search._replace(feedforward=change, gains=gains, slope=jnp.sum(slope), curve=jnp.sum(curve))


def _best_change(quu: Array, qu: Array, qux: Array, control: Array, options: PlannerOptions) -> tuple[Array, Array]:
    """Return what minimizes d'Q_uu d / 2 + Q_u d between the limits, and its gain; NaN where Q_uu is not positive."""
    quu = quu + 0.0 * jnp.linalg.cholesky(quu)
    eye = jnp.eye(len(qu), dtype=qu.dtype)
    if not options.low:
        return -jnp.linalg.solve(quu, qu), -jnp.linalg.solve(quu, qux)
    low = jnp.asarray(options.low, qu.dtype) - control
    high = jnp.asarray(options.high, qu.dtype) - control

    def free_part(change: Array) -> tuple[Array, Array, Array]:
        slope = qu + quu @ change
        free = ~(((change <= low) & (slope > 0.0)) | ((change >= high) & (slope < 0.0)))
        return free, jnp.where(free[:, None] & free[None], quu, eye), slope

    def newton(_: Array, change: Array) -> Array:
        """Step to the minimum of what is free, with the rest at its limits."""
        free, matrix, slope = free_part(change)
        return jnp.clip(change - jnp.linalg.solve(matrix, jnp.where(free, slope, 0.0)), low, high)

    change = jax.lax.fori_loop(0, len(qu) + 2, newton, jnp.clip(jnp.zeros_like(qu), low, high))
    free, matrix, _ = free_part(change)
    return change, -jnp.linalg.solve(matrix, jnp.where(free[:, None], qux, 0.0))
