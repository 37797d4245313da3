"""Running statistics against NumPy's, in float32, also where float32 is easily lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxloco.learning.normalization import (
    STD_FLOOR,
    batch_statistics,
    init_statistics,
    merge_statistics,
    normalize,
    standard_deviation,
    update_statistics,
)

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def test_statistics_of_batches_are_those_of_all_samples_together() -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal([1.0, -50.0, 0.0], [1.0, 5.0, 0.1], (n, m, 3)) for n, m in ((3, 2), (50, 7), (1, 1), (9, 8))]
    statistics = init_statistics(3)
    for batch in batches:
        statistics = update_statistics(statistics, jnp.asarray(batch, jnp.float32))
    samples = np.concatenate([batch.reshape(-1, 3) for batch in batches])
    assert float(statistics.n_samples) == len(samples)
    np.testing.assert_allclose(statistics.mean, samples.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(standard_deviation(statistics), samples.std(0), rtol=1e-5)


def test_a_large_offset_costs_no_precision_in_the_spread() -> None:
    """Mean 1000, σ 1: a naive E[x²] - E[x]² in float32 has an error of about 0.1 in the variance."""
    rng = np.random.default_rng(0)
    statistics = init_statistics(1)
    samples = rng.normal(1000.0, 1.0, (20, 4096, 1)).astype(np.float32)
    for batch in samples:
        statistics = update_statistics(statistics, jnp.asarray(batch))
    np.testing.assert_allclose(standard_deviation(statistics)[0], samples.std(dtype=np.float64), rtol=1e-4)
    np.testing.assert_allclose(statistics.mean[0], samples.mean(dtype=np.float64), rtol=1e-6)


def test_normalize_is_what_the_robot_computes_from_mean_std_and_clip() -> None:
    rng = np.random.default_rng(0)
    statistics = update_statistics(init_statistics(2), jnp.asarray(rng.normal(3.0, 2.0, (100, 2)), jnp.float32))
    x = rng.normal(3.0, 20.0, (4, 5, 2)).astype(np.float32)
    mean, std = np.asarray(statistics.mean), np.asarray(standard_deviation(statistics))
    expected = np.clip((x - mean) / std, -5.0, 5.0)
    np.testing.assert_allclose(normalize(statistics, jnp.asarray(x), clip=5.0), expected, rtol=1e-6, atol=1e-7)
    assert np.any(expected == 5.0)


def test_an_input_that_never_moved_is_not_blown_up_when_it_does() -> None:
    """The floor of σ is 0.01, so a step of 0.02 normalizes to 2; its constant value to exactly 0."""
    statistics = init_statistics(1)
    for _ in range(3):
        statistics = update_statistics(statistics, jnp.full((33, 1), 0.1))
    assert float(standard_deviation(statistics)[0]) == pytest.approx(STD_FLOOR)
    np.testing.assert_allclose(normalize(statistics, jnp.array([[0.1], [0.12]])), [[0.0], [2.0]], rtol=1e-5)


def test_nothing_seen_means_nothing_changed() -> None:
    x = jnp.array([[0.5, -2.0]])
    np.testing.assert_array_equal(normalize(init_statistics(2), x), x)


def test_shards_of_a_batch_give_the_statistics_of_the_whole() -> None:
    batch = jax.random.normal(jax.random.PRNGKey(0), (4, 25, 3)) * 2.0 + 5.0
    before = merged = update_statistics(init_statistics(3), batch[0] - 1.0)
    for shard in batch:
        merged = merge_statistics(merged, batch_statistics(shard))
    for part, expected in zip(merged, update_statistics(before, batch), strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5)


def test_a_batch_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        update_statistics(init_statistics(3), jnp.zeros((5, 2)))
