"""What seeds say: worked examples, other implementations, and how often verdicts are wrong on seeds that are drawn."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from jaxloco import statistics
from jaxloco.errors import ConfigError
from jaxloco.statistics import (
    COVERAGE,
    coverage,
    describe,
    detectable,
    difference_p,
    holm,
    interquartile_mean,
    interval,
    permutation_p,
    probability_greater,
    probability_interval,
    profile,
    seeds_needed,
)

RNG = np.random.default_rng(7)


@pytest.mark.parametrize(
    "asked",
    [
        lambda seeds: permutation_p(seeds, [1.0, 2.0, 3.0, 4.0, 5.0]),
        lambda seeds: permutation_p([1.0, 2.0, 3.0, 4.0, 5.0], seeds),
        lambda seeds: probability_greater(seeds, [1.0, 2.0]),
        lambda seeds: profile(seeds, [1.0]),
        describe,
        interval,
    ],
)
def test_nothing_is_said_of_seeds_that_reached_no_number(asked):
    with pytest.raises(ConfigError, match=r"seed 3 of an arm reached nan, expected a number; leave it out"):
        asked([1.0, 2.0, 3.0, math.nan, 5.0])
    with pytest.raises(ConfigError, match="an arm has no seeds"):
        asked([])


def test_the_interquartile_mean_leaves_out_a_quarter_at_each_end():
    assert interquartile_mean(np.array([9.0, 1.0, 3.0, 100.0, 5.0, 7.0, -50.0, 3.0])) == 4.5  # of 3, 3, 5, 7
    assert interquartile_mean(np.array([1.0, 2.0, 6.0])) == 2.5  # (0.25 · 1 + 2 + 0.25 · 6) / 1.5
    rows = RNG.normal(size=(3, 8, 2))
    np.testing.assert_allclose(interquartile_mean(rows, 1), stats.trim_mean(rows, 0.25, axis=1))


def test_there_is_an_interval_from_five_seeds_on_and_it_says_how_often_it_is_right():
    few, some = describe([1.0, 2.0, 3.0, 5.0]), describe([1.0, 2.0, 3.0, 5.0, 4.0])
    assert few["interval"] is few["coverage"] is None and few["iqm"] == 2.5
    low, high = some["interval"]
    assert 1.0 < low < some["iqm"] == 3.0 < high < 5.0 and some["coverage"] == COVERAGE[5] < 0.9
    assert some["values"] == [1.0, 2.0, 3.0, 5.0, 4.0]


def test_seeds_that_are_all_or_nearly_all_equal_have_no_interval():
    assert interval([1.0] * 8) is None
    assert interval([1.0, 1.0, 1.0, 1.0, 0.9]) is None


def test_the_interval_is_bca_and_the_same_each_time():
    values = RNG.lognormal(size=12)
    theirs = stats.bootstrap((values,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), n_resamples=9_999, rng=3)
    found = interval(values)
    assert found == interval(values)
    np.testing.assert_allclose(found, [*theirs.confidence_interval], atol=0.05 * np.ptp(values))


def test_coverage_is_told_for_any_number_of_seeds():
    counts = [coverage(n) for n in range(5, 60)]
    assert counts == sorted(counts) and coverage(5) == COVERAGE[5] and coverage(500) == 0.95


def test_of_three_seeds_against_three_no_permutation_is_rare_enough():
    assert permutation_p([7.0, 8.0, 9.0], [1.0, 2.0, 3.0]) == pytest.approx(2 / 20)
    assert permutation_p([7.0, 8.0, 9.0], [1.0, 2.0, 3.0], "greater") == pytest.approx(1 / 20)
    assert permutation_p([7.0, 8.0, 9.0], [1.0, 2.0, 3.0], "less") == 1.0


@pytest.mark.parametrize(("n_a", "n_b"), [(5, 5), (4, 7), (9, 10)])
@pytest.mark.parametrize("side", ["two-sided", "less", "greater"])
def test_p_is_that_of_scipys_permutation_test(n_a, n_b, side):
    a, b = RNG.normal(size=n_a) + 1.0, RNG.normal(size=n_b)

    def difference(x, y, axis):
        return interquartile_mean(x, axis) - interquartile_mean(y, axis)

    theirs = stats.permutation_test((a, b), difference, n_resamples=9_999, alternative=side, rng=0).pvalue
    exact = math.comb(n_a + n_b, n_a) <= 9_999
    assert permutation_p(a, b, side) == pytest.approx(theirs, abs=1e-12 if exact else 0.015)


def test_seeds_that_are_all_equal_differ_in_nothing():
    assert permutation_p([1.0] * 5, [1.0] * 5) == 1.0
    assert probability_greater([1.0] * 5, [1.0] * 5) == 0.5


def test_holm_makes_the_smallest_p_as_large_as_there_are_tests():
    assert holm([0.04]) == [0.04]
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_the_probability_is_mann_whitneys_u_per_pair():
    a, b = np.round(RNG.normal(size=9), 1), np.round(RNG.normal(size=7), 1)
    assert probability_greater(a, b) == pytest.approx(stats.mannwhitneyu(a, b).statistic / 63, abs=1e-12)
    assert probability_greater(a, b) + probability_greater(b, a) == pytest.approx(1.0)


def test_the_probabilitys_interval_is_symmetric_and_not_a_point_where_arms_do_not_overlap():
    low, high = probability_interval(1.0, 5, 5)
    assert high == 1.0 and low == pytest.approx(0.643, abs=1e-3)
    assert probability_interval(0.0, 5, 5) == pytest.approx((1.0 - high, 1.0 - low))
    low, high = probability_interval(0.5, 8, 8)
    assert low == pytest.approx(1.0 - high) and probability_interval(0.5, 80, 80)[0] > low


def test_the_probabilitys_interval_covers_what_it_says():
    """Two normal arms, 1.5 standard deviations apart."""
    true = stats.norm.cdf(1.5 / math.sqrt(2.0))
    hits = 0
    for _ in range(500):
        low, high = probability_interval(probability_greater(RNG.normal(size=5) + 1.5, RNG.normal(size=5)), 5, 5)
        hits += low <= true <= high
    assert 0.92 <= hits / 500 <= 0.99


def test_a_profile_is_the_share_of_seeds_above():
    assert profile([1.0, 2.0, 2.0, 5.0], [0.0, 1.0, 2.0, 6.0]).tolist() == [1.0, 0.75, 0.25, 0.0]


@pytest.mark.parametrize("count", [4, 8, 12, 40])
def test_figures_are_those_of_rliable(count):
    """The reference implementation of Agarwal et al., whose interquartile mean is ours where 4 divides the seeds."""
    library, metrics = pytest.importorskip("rliable.library"), pytest.importorskip("rliable.metrics")
    a, b = np.round(RNG.normal(size=count), 1), np.round(RNG.normal(size=count) + 0.5, 1)  # with equal seeds
    assert interquartile_mean(a) == pytest.approx(metrics.aggregate_iqm(a[:, None]), abs=1e-9)
    theirs = metrics.probability_of_improvement(a[:, None], b[:, None])
    assert probability_greater(a, b) == pytest.approx(theirs, abs=1e-9)
    thresholds = np.linspace(-3.0, 3.0, 61)
    np.testing.assert_allclose(profile(a, thresholds), library.score_distributions(a[:, None], thresholds), atol=1e-9)


def test_detectable_differences_are_those_of_the_recipe():
    """Found with a power of 0.8: 2.2, 1.4 and 1.0 standard deviations with 5, 10 and 20 seeds; none with 3."""
    assert [round(detectable(n, n), 1) for n in (5, 10, 20)] == [2.1, 1.4, 1.0]
    assert math.isinf(detectable(3, 3)) and math.isinf(detectable(4, 20))
    assert math.isinf(detectable(5, 5, 0.05 / 4)) and detectable(6, 6, 0.05 / 4) < 3.0


@pytest.mark.parametrize("count", [5, 6, 7, 8, 9])
def test_what_arms_that_do_not_overlap_reach_is_what_can_be_detected(count):
    least = permutation_p(np.arange(count), 100.0 + np.arange(count))
    if math.comb(2 * count, count) <= statistics.RESAMPLES:
        assert detectable(count, count, least * 1.001) < math.inf == detectable(count, count, least * 0.999)


def test_where_spreads_are_unequal_the_larger_p_value_counts():
    narrow, wide = [1.0, 1.1, 1.2, 1.3, 1.4], [0.0, 3.0, 5.0, 8.0, 9.0]
    welch = stats.ttest_ind(wide, narrow, equal_var=False)
    assert difference_p(wide, narrow) == pytest.approx(max(welch.pvalue, permutation_p(wide, narrow)))
    less = stats.ttest_ind(narrow, wide, equal_var=False, alternative="less").pvalue
    assert difference_p(narrow, wide, "less") == pytest.approx(max(less, permutation_p(narrow, wide, "less")))
    assert difference_p([1.0] * 5, wide) == pytest.approx(stats.ttest_1samp(wide, 1.0).pvalue)
    alike = [2.0, 2.1, 2.2, 2.3, 2.4]
    assert difference_p(narrow, alike) == permutation_p(narrow, alike)
    assert difference_p([1.0] * 5, [1.0] * 5) == 1.0


def test_more_seeds_detect_more():
    assert detectable(5, 20) < detectable(5, 5) and detectable(10, 10, 0.01) > detectable(10, 10)


def test_the_page_has_the_same_numbers():
    page = (Path(__file__).parents[1] / "docs" / "comparisons.md").read_text(encoding="utf-8")
    counts = [5, 6, 8, 10, 20, 40]
    found, covers = (
        re.search(rf"\| {row}[^|]*((?:\| [\d.]+ )+)\|\n", page)[1] for row in ("difference that", "covers")
    )
    assert found.split("| ")[1:] == [f"{detectable(n, n):.1f} " for n in counts]
    assert covers.split("| ")[1:] == [f"{coverage(n):.2f} " for n in counts]


@pytest.mark.parametrize("count", [5, 10])
def test_power_is_what_detectable_says(count, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    statistics._deals.cache_clear()
    far = detectable(count, count)
    found = [permutation_p(RNG.normal(size=count) + far, RNG.normal(size=count)) <= 0.05 for _ in range(600)]
    statistics._deals.cache_clear()
    assert 0.75 <= np.mean(found) <= 0.87  # 0.8, and 2.5 standard errors


def test_seeds_needed_are_the_fewest_that_show_a_difference():
    for difference in (0.5, 1.0, 2.5):
        needed = seeds_needed(difference)
        assert detectable(needed, needed) <= difference
        assert needed == 5 or detectable(needed - 1, needed - 1) > difference
    assert seeds_needed(0.01) is None and seeds_needed(math.inf) == 5


def test_equal_samples_have_equal_means_however_many_are_computed_at_once():
    values = np.random.default_rng(0).uniform(0.8, 0.9, (200, 5)) * 10.0 ** np.arange(-100, 100)[:, None]
    for row in values:
        together = statistics._rounded_mean(np.stack([row, row[::-1], *[row] * 30], axis=1))
        np.testing.assert_array_equal(together, statistics._rounded_mean(row[::-1]))
        assert together[0] == pytest.approx(float(interquartile_mean(row)), rel=1e-11)


@pytest.mark.parametrize(("value", "count"), [(0.7, 6), (0.95, 7), (0.3, 11)])
def test_equal_seeds_have_exactly_their_mean(value, count):
    assert statistics.interquartile_mean([value] * count) == value
    assert (statistics.interquartile_mean(np.full((2, count), value), axis=1) == value).all()
