"""Advantages and returns against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.learning.advantages import discounted_returns, gae

pytestmark = pytest.mark.usefixtures("strict_dtypes")


NO = [False, False, False]
GAMMA, LAMBDA = 0.5, 0.5

# Three robots, three steps; r = 1, 2, 3 and V = 4, 6, 8 for each; V after the last step = 10.
# Robot 0 runs on. Robot 1 terminates at step 1. Robot 2 is truncated at step 1; V(its last observation) = 20.
REWARD = jnp.array([[1.0] * 3, [2.0] * 3, [3.0] * 3])
VALUE = jnp.array([[4.0] * 3, [6.0] * 3, [8.0] * 3])
LAST_VALUE = jnp.array([10.0] * 3)
TERMINATED = jnp.array([NO, [False, True, False], NO])
TRUNCATED = jnp.array([NO, [False, False, True], NO])
TRUNCATION_VALUE = jnp.array([[jnp.nan] * 3, [jnp.nan, jnp.nan, 20.0], [jnp.nan] * 3])


def test_gae_is_the_hand_worked_one_for_running_terminated_and_truncated_episodes() -> None:
    """All three: δ_2 = 3 + 10/2 - 8 = 0 and A_2 = 0; δ_0 = 1 + 6/2 - 4 = 0, so A_0 = A_1/4 (γλ = 1/4).

    Running:    δ_1 = 2 + 8/2 - 6 = 0     A_1 = 0 + A_2/4 = 0     A_0 = 0
    Terminated: δ_1 = 2 + 0 - 6 = -4      A_1 = -4                A_0 = -1
    Truncated:  δ_1 = 2 + 20/2 - 6 = 6    A_1 = 6                 A_0 = 1.5
    """
    advantages, returns = gae(
        REWARD, VALUE, LAST_VALUE, TERMINATED, TRUNCATED, TRUNCATION_VALUE, gamma=GAMMA, gae_lambda=LAMBDA
    )
    expected = np.array([[0.0, -1.0, 1.5], [0.0, -4.0, 6.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(advantages, expected)
    np.testing.assert_allclose(returns, expected + np.asarray(VALUE))


def test_nothing_leaks_back_over_the_end_of_an_episode() -> None:
    """With r_2 = 103, δ_2 = 100. Only the running robot's A_1 = 100/4 and A_0 = 25/4 see it."""
    reward = REWARD.at[2].add(100.0)
    advantages, _ = gae(
        reward, VALUE, LAST_VALUE, TERMINATED, TRUNCATED, TRUNCATION_VALUE, gamma=GAMMA, gae_lambda=LAMBDA
    )
    np.testing.assert_allclose(advantages, [[6.25, -1.0, 1.5], [25.0, -4.0, 6.0], [100.0] * 3])


def test_terminated_wins_where_a_step_is_also_truncated() -> None:
    """delta = 1 + 0 - 4, whatever the value of the last observation."""
    both = jnp.array([[True]])
    one = jnp.ones((1, 1))
    advantages, returns = gae(one, 4.0 * one, jnp.ones(1), both, both, 7.0 * one, gamma=GAMMA, gae_lambda=LAMBDA)
    np.testing.assert_allclose(advantages, [[-3.0]])
    np.testing.assert_allclose(returns, [[1.0]])


def test_discounted_returns_are_the_hand_worked_ones() -> None:
    """All: R_2 = 3 + 10/2 = 8.

    Running:    R_1 = 2 + 8/2 = 6,     R_0 = 1 + 6/2 = 4
    Terminated: R_1 = 2,               R_0 = 1 + 2/2 = 2
    Truncated:  R_1 = 2 + 20/2 = 12,   R_0 = 1 + 12/2 = 7
    """
    returns = discounted_returns(REWARD, LAST_VALUE, TERMINATED, TRUNCATED, TRUNCATION_VALUE, gamma=GAMMA)
    np.testing.assert_allclose(returns, [[4.0, 2.0, 7.0], [6.0, 2.0, 12.0], [8.0, 8.0, 8.0]])


def test_gae_with_lambda_one_is_the_discounted_return_and_with_lambda_zero_one_step() -> None:
    keys = jax.random.split(jax.random.PRNGKey(0), 6)
    reward, value, at_truncation = (jax.random.normal(key, (20, 5)) for key in keys[:3])
    terminated, truncated = (jax.random.bernoulli(key, 0.1, (20, 5)) for key in keys[3:5])
    last = jax.random.normal(keys[5], (5,))
    ends = (terminated, truncated, at_truncation)
    _, returns = gae(reward, value, last, *ends, gamma=0.9, gae_lambda=1.0)
    np.testing.assert_allclose(returns, discounted_returns(reward, last, *ends, gamma=0.9), rtol=1e-5, atol=1e-5)
    _, returns = gae(reward, value, last, *ends, gamma=0.9, gae_lambda=0.0)
    following = np.concatenate([value[1:], last[None]])
    following = np.where(terminated, 0.0, np.where(truncated, at_truncation, following))
    np.testing.assert_allclose(returns, reward + 0.9 * following, rtol=1e-5, atol=1e-5)


def test_gae_refuses_shapes_that_do_not_fit() -> None:
    flat = jnp.zeros(3)
    with pytest.raises(ValueError, match="last_value"):
        gae(flat, flat, flat, flat > 0, flat > 0, flat, gamma=0.9, gae_lambda=0.9)
    with pytest.raises(ValueError, match=r"\(3, 3\)"):
        gae(REWARD, VALUE[:2], LAST_VALUE, TERMINATED, TRUNCATED, TRUNCATION_VALUE, gamma=0.9, gae_lambda=0.9)
