"""Densities integrate to one, entropies and divergences match numerical integration."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.learning import distributions
from jaxloco.learning.distributions import Gaussian

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def gaussian(mean: float, std: float, shape: tuple[int, ...] = (1,)) -> Gaussian:
    """The same mean and σ in every dimension."""
    return Gaussian(jnp.full(shape, mean), jnp.full(shape, math.log(std)))


def test_log_prob_of_the_standard_normal_at_its_mode_is_known() -> None:
    """log 1/sqrt(2 pi) = -0.9189385 in each of three dimensions."""
    policy = gaussian(0.0, 1.0, (2, 3))
    np.testing.assert_allclose(distributions.log_prob(policy, jnp.zeros((2, 3))), [-2.7568156] * 2, rtol=1e-6)
    np.testing.assert_array_equal(distributions.mode(policy), np.zeros((2, 3)))


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (0.5, 1.0), (-1.0, 0.7)])
def test_density_integrates_to_one_over_the_actions(mean: float, std: float, squash: bool) -> None:
    """The squashed density is integrated over a = tanh(u), by the trapezoidal rule on a fine grid in u."""
    u = np.linspace(mean - 8.0 * std, mean + 8.0 * std, 20001)
    policy = gaussian(mean, std, (u.size, 1))
    density = np.exp(distributions.log_prob(policy, jnp.asarray(u, jnp.float32)[:, None], squash_output=squash))
    actions = np.tanh(u) if squash else u
    assert np.trapezoid(density.astype(np.float64), actions) == pytest.approx(1.0, abs=2e-4)


def test_squashed_log_prob_stays_finite_where_tanh_rounds_to_one() -> None:
    """At u = 50, log(1 - tanh²(u)) = 2 log 2 - 100 to all digits, while 1 - tanh(50)² is zero in float32."""
    np.testing.assert_allclose(distributions.log_tanh_slope(jnp.array([50.0, -50.0])), [2 * math.log(2) - 100] * 2)
    gradient = jax.grad(lambda u: jnp.sum(distributions.log_tanh_slope(u)))(jnp.array([50.0, -50.0, 0.0]))
    np.testing.assert_allclose(gradient, [-2.0, 2.0, 0.0])


def test_samples_have_the_mean_and_spread_of_the_distribution() -> None:
    samples = distributions.sample(gaussian(0.5, 2.0, (40000, 1)), jax.random.normal(jax.random.PRNGKey(0), (40000, 1)))
    assert float(jnp.mean(samples)) == pytest.approx(0.5, abs=0.05)
    assert float(jnp.std(samples)) == pytest.approx(2.0, abs=0.05)


def test_plain_entropy_is_that_of_the_normal_distribution() -> None:
    """½ log(2 pi e) = 1.4189385 for σ = 1, plus log 2 for σ = 2, in each of two dimensions."""
    entropy = distributions.entropy(gaussian(0.3, 2.0, (4, 2)))
    np.testing.assert_allclose(entropy, [2 * (1.4189385 + math.log(2))] * 4, rtol=1e-6)


@pytest.mark.parametrize(("std", "tolerance"), [(0.2, 0.01), (1.0, 0.01), (2.0, 0.05)])
@pytest.mark.parametrize("mean", [0.0, 1.0, -2.0])
def test_squashed_entropy_matches_numerical_integration(mean: float, std: float, tolerance: float) -> None:
    u = np.linspace(mean - 8.0 * std, mean + 8.0 * std, 20001)
    log_density = -0.5 * ((u - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
    log_squashed = log_density - 2.0 * (math.log(2) - u - np.logaddexp(0.0, -2.0 * u))
    expected = np.trapezoid(-np.exp(log_density) * log_squashed, u)
    entropy = distributions.entropy(gaussian(mean, std, (3, 2)), squash_output=True)
    np.testing.assert_allclose(entropy, [2 * expected] * 3, atol=2 * tolerance)


def test_kl_divergence_is_zero_for_equals_and_known_otherwise() -> None:
    """KL(N(0, 1), N(1, 2)) = log 2 + (1 + 1) / 8 - ½ = 0.4431472."""
    old, new = gaussian(0.0, 1.0), gaussian(1.0, 2.0)
    np.testing.assert_allclose(distributions.kl_divergence(old, old), 0.0, atol=1e-7)
    np.testing.assert_allclose(distributions.kl_divergence(old, new), 0.4431472, rtol=1e-6)
