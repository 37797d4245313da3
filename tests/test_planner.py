"""The planners: against SciPy's Riccati solver, by hand, and on problems whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.tree_util import Partial

from jaxloco.demonstrations.planner import PlannerOptions, ilqr, lqr, lqr_tracking, receding
from jaxloco.errors import ConfigError

pytestmark = pytest.mark.usefixtures("strict_dtypes")

TIGHT = PlannerOptions(tolerance=1e-12)


def linear_system(n=4, m=2, seed=0):
    """A (unstable), B, Q, R."""
    random = np.random.default_rng(seed)
    a = random.normal(size=(n, n))
    a *= 1.2 / np.abs(np.linalg.eigvals(a)).max()
    return a, random.normal(size=(n, m)), np.diag(np.arange(1.0, n + 1)), np.diag(np.arange(1.0, m + 1))


def linear(a, b, x, u, t):
    return a @ x + b @ u


def quadratic(q, r, x, u, t):
    return x @ q @ x + u @ r @ u


def at_end(q, x, t):
    return x @ q @ x


def linear_problem(q_final):
    a, b, q, r = map(jnp.asarray, linear_system())
    return Partial(linear, a, b), Partial(quadratic, q, r), Partial(at_end, jnp.asarray(q_final))


@pytest.mark.parametrize("seed", range(5))
def test_the_regulator_is_that_of_scipy(seed):
    a, b, q, r = linear_system(seed=seed)
    with jax.enable_x64(True):
        gain, cost_to_go = lqr(*map(jnp.asarray, (a, b, q, r)))
    expected = scipy.linalg.solve_discrete_are(a, b, q, r)
    np.testing.assert_allclose(cost_to_go, expected, rtol=1e-8)
    np.testing.assert_allclose(gain, -np.linalg.solve(r + b.T @ expected @ b, b.T @ expected @ a), rtol=1e-8)


def test_gains_of_a_constant_system_become_the_regulators():
    with jax.enable_x64(True):
        a, b, q, r = map(jnp.asarray, linear_system())
        gain, cost_to_go = lqr(a, b, q, r)
        many = [jnp.broadcast_to(x, (200, *x.shape)) for x in (a, b, q, r)]
        gains = lqr_tracking(*many, jnp.zeros_like(q))
        np.testing.assert_allclose(gains[0], gain, rtol=1e-8)
        np.testing.assert_allclose(lqr_tracking(*many, cost_to_go)[-1], gain, rtol=1e-8)


def test_a_linear_system_is_optimal_in_one_step():
    with jax.enable_x64(True):
        a, b, q, r = map(jnp.asarray, linear_system())
        gain, cost_to_go = lqr(a, b, q, r)
        x = jnp.asarray([1.0, -2.0, 0.5, 3.0])
        plan = ilqr(*linear_problem(cost_to_go), x, jnp.ones((30, 2)), TIGHT)
        assert plan.iterations == 1
        np.testing.assert_allclose(plan.cost, x @ cost_to_go @ x, rtol=1e-10)
        np.testing.assert_allclose(plan.gains, jnp.broadcast_to(gain, plan.gains.shape), rtol=1e-8)
        np.testing.assert_allclose(plan.controls, plan.states[:-1] @ gain.T, rtol=1e-6, atol=1e-9)


def test_limits_are_those_of_a_quadratic_program():
    """Of one step, the optimum within limits is that of SciPy's bounded least squares."""
    random = np.random.default_rng(1)
    root, x = random.normal(size=(4, 4)) + np.eye(4), random.normal(size=4)
    expected = scipy.optimize.lsq_linear(root, -3.0 * x, (-0.5, 0.5)).x
    with jax.enable_x64(True):
        root, x = jnp.asarray(root), jnp.asarray(x)

        def cost(x, u, t):
            return jnp.sum((root @ u + 3.0 * x) ** 2)

        options = PlannerOptions((-0.5,) * 4, (0.5,) * 4, tolerance=1e-14)
        plan = ilqr(lambda x, u, t: x, cost, lambda x, t: 0.0 * x[0], x, jnp.zeros((1, 4)), options)
    np.testing.assert_allclose(plan.controls[0], expected, atol=1e-7)
    at_limit = np.abs(np.abs(expected) - 0.5) < 1e-9
    assert at_limit.any() and not at_limit.all()
    np.testing.assert_array_equal(np.asarray(plan.gains[0])[at_limit], 0.0)


def swing(x, u, t):
    """One step of a pendulum that hangs at 0, with a torque."""
    velocity = x[1] + 0.05 * (u[0] - 9.81 * jnp.sin(x[0]))
    return jnp.stack([x[0] + 0.05 * velocity, velocity])


def effort(x, u, t):
    return 0.01 * u[0] ** 2


def up(x, t):
    return 100.0 * (x[0] - jnp.pi) ** 2 + 10.0 * x[1] ** 2


SWING = PlannerOptions((-4.0,), (4.0,), iterations=200)


def test_a_weak_pendulum_swings_up_within_its_limits():
    plan = ilqr(swing, effort, up, jnp.zeros(2), 0.1 * jnp.ones((80, 1)), SWING)
    assert abs(plan.states[-1, 0] - np.pi) < 0.1 and abs(plan.states[-1, 1]) < 0.3
    assert np.abs(plan.controls).max() <= 4.0
    x = jnp.zeros(2)
    for u in plan.controls:
        x = swing(x, u, 0)
    np.testing.assert_allclose(x, plan.states[-1], atol=1e-3)


def test_planning_while_moving_brings_it_up_despite_pushes(compilations):
    plan = ilqr(swing, effort, up, jnp.zeros(2), 0.1 * jnp.ones((80, 1)), SWING)
    random = np.random.default_rng(0)

    def upright(x, t):  # from the plan's end on it stands
        return up(x, t)

    x = jnp.zeros(2)
    with compilations() as compiled:
        for t in range(60):
            plan = receding(swing, effort, upright, x, plan, t, SWING)
            assert plan.start == t
            x = swing(x, plan.controls[0], t) + jnp.asarray(0.02 * random.normal(size=2), jnp.float32)
    assert compiled.count("_search") == 1
    assert plan.states.shape == (81, 2) and plan.cost < 100.0


def test_a_plan_begins_at_its_time_index():
    def cost(x, u, t):
        return (u[0] - t.astype(u.dtype)) ** 2

    plan = ilqr(lambda x, u, t: x, cost, lambda x, t: 0.0 * x[0], jnp.zeros(1), jnp.zeros((3, 1)), start=5)
    np.testing.assert_allclose(plan.controls[:, 0], [5.0, 6.0, 7.0], atol=1e-6)


def test_new_arrays_in_a_function_compile_nothing(compilations):
    with compilations() as compiled:
        for q in (1.0, 2.0, 3.0):
            a, b, cost, r = (x.astype(np.float32) for x in linear_system())
            functions = Partial(linear, a, b), Partial(quadratic, cost, r), Partial(at_end, np.float32(q) * cost)
            ilqr(*functions, jnp.ones(4), jnp.zeros((5, 2)))
    assert compiled.count("_search") == 1


def test_wrong_limits_are_refused():
    with pytest.raises(ConfigError, match="a low one below a high one"):
        PlannerOptions((1.0,), (-1.0,))
    with pytest.raises(ConfigError, match="limits of 1 controls for 2 controls"):
        ilqr(*linear_problem(np.eye(4)), jnp.ones(4), jnp.zeros((5, 2)), PlannerOptions((-1.0,), (1.0,)))


def test_a_model_that_diverges_is_seen_at_the_cost():
    plan = ilqr(lambda x, u, t: x**3 + u, effort, up, jnp.full(2, 10.0), jnp.zeros((20, 2)))
    assert not np.isfinite(plan.cost)
