"""What several seeds of a training say: interquartile mean, intervals, and whether two arms of seeds differ.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv:2108.13264).
An arm is the seeds of one configuration. Coverage and power are measured by `jaxloco bench comparisons`.
"""

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from jaxloco.errors import ConfigError

RESAMPLES = 9_999
"""Of a bootstrap, and of a permutation test where that is fewer than there are."""

NOMINAL = 0.95
"""What a bootstrap interval aims at."""

FEWEST = 5
"""Seeds of an arm from which on there is an interval, and a verdict: permutations of fewer do not reach 5 %."""

COVERAGE = {5: 0.88, 6: 0.91, 8: 0.93, 20: 0.94, 40: 0.95}
"""Seeds → how often the BCa interval of the interquartile mean holds the true one."""

POWER = 0.8
"""How often a difference of `detectable` size is found."""

SPREAD = 1.05
"""Standard error of a difference of interquartile means ÷ that of means, of 5 to 20 seeds that are normal."""

MOST_SEEDS = 200

UNLIKE = 2.0
"""Standard deviations of two arms' seeds that are further apart than this factor are taken for unequal."""

Side = Literal["two-sided", "less", "greater"]


def _seeds(values: ArrayLike) -> np.ndarray:
    """Return what seeds reached as an array, (S, …).

    Raises:
        ConfigError: There is no seed, or one is not finite.
    """
    array = np.asarray(values, float)
    if array.size == 0:
        raise ConfigError("an arm has no seeds; give what at least one seed reached")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        raise ConfigError(
            f"seed {wrong[0][0] if array.ndim else 0} of an arm reached {array[tuple(wrong[0])]:g}, expected a number; "
            "leave it out, or say what a seed that failed counts as"
        )
    return array


def interquartile_mean(values: ArrayLike, axis: int = 0) -> np.ndarray:
    """Return the mean of the middle half along one axis, (S, …) to (…).

    A value that a quartile cuts counts by the share that is inside.

    >>> float(interquartile_mean([0.0, 1.0, 2.0, 100.0]))
    1.5
    >>> float(interquartile_mean([0.0, 3.0, 12.0]))  # (0.25 · 0 + 3 + 0.25 · 12) / 1.5
    4.0
    """
    ordered = np.sort(np.asarray(values, float), axis=axis)
    count = ordered.shape[axis]
    places, low, high = np.arange(count), 0.25 * count, 0.75 * count
    weights = np.clip(np.minimum(places + 1, high) - np.maximum(places, low), 0.0, 1.0)
    mean = np.tensordot(ordered, weights, axes=(axis, 0)) / weights.sum()
    return np.clip(mean, np.take(ordered, 0, axis), np.take(ordered, -1, axis))  # equal values have exactly their mean


def interval(values: ArrayLike) -> tuple[float, float] | None:
    """Return the BCa bootstrap interval of the interquartile mean of S seeds, (S,).

    Returns:
        Low and high end; None of fewer than `FEWEST` seeds, or where most of them are equal.
    """
    from scipy import stats

    array = _seeds(values)
    if len(array) < FEWEST or np.ptp(array) == 0.0:
        return None
    with warnings.catch_warnings():  # of seeds that are nearly all equal
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            (array,), _rounded_mean, n_resamples=RESAMPLES, confidence_level=NOMINAL, method="BCa", rng=0
        ).confidence_interval
    return (float(found.low), float(found.high)) if np.isfinite([found.low, found.high]).all() else None


def _rounded_mean(values: np.ndarray, axis: int = 0) -> np.ndarray:
    """Return the interquartile mean to 12 digits, so that equal samples give equal means on every CPU.

    BCa counts how many resamples are below the mean of all; the order in which a CPU adds would decide of those that
    are equal to it.
    """
    digits = 12 - int(np.ceil(np.log10(np.abs(values).max() or 1.0)))
    return np.round(interquartile_mean(values, axis), digits)


def coverage(count: int) -> float:
    """Return how often the `interval` of so many seeds holds the true interquartile mean."""
    counts = sorted(COVERAGE, reverse=True)
    return round(float(np.interp(1 / count, [1 / n for n in counts], [COVERAGE[n] for n in counts])), 2)


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Return what several seeds have in common, as plain values.

    Returns:
        "values", each seed's; "iqm", their interquartile mean; "interval", its BCa interval [low, high], and
        "coverage", how often that holds the true one: both None where there is no interval.
    """
    found = interval(values)
    return {
        "values": [float(value) for value in values],
        "iqm": float(interquartile_mean(values)),
        "interval": None if found is None else list(found),
        "coverage": None if found is None else coverage(len(values)),
    }


def probability_greater(a: ArrayLike, b: ArrayLike) -> float:
    """Return the share of pairs in which a seed of `a` is greater than one of `b`; equal ones count half.

    >>> probability_greater([3.0, 5.0], [1.0, 3.0])  # 3 > 1, 3 = 3, 5 > 1, 5 > 3
    0.875
    """
    difference = np.subtract.outer(_seeds(a), _seeds(b))
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


def probability_interval(probability: float, n_a: int, n_b: int) -> tuple[float, float]:
    """Return a 95 % interval of P(a > b): Newcombe 2006 (Statistics in Medicine 25:559), method 5.

    It covers 0.94 to 0.98 with 4 to 20 seeds an arm, also where all seeds of one arm are above all of the other.

    Args:
        probability: What was found, of `probability_greater`.
        n_a: Seeds of one arm.
        n_b: Seeds of the other.
    """
    from scipy import optimize, stats

    z, pairs = float(stats.norm.ppf(0.5 + 0.5 * NOMINAL)), n_a * n_b
    more = 0.5 * (n_a + n_b) - 1.0

    def excess(p: float) -> float:
        variance = p * (1.0 - p) / pairs * (1.0 + more * (1.0 - p) / (2.0 - p) + more * p / (1.0 + p))
        return (probability - p) ** 2 - z**2 * variance

    near = 1e-12
    inside = min(max(probability, 1e-9), 1.0 - 1e-9)
    low = 0.0 if probability == 0.0 else float(optimize.brentq(excess, near, inside))
    high = 1.0 if probability == 1.0 else float(optimize.brentq(excess, inside, 1.0 - near))
    return low, high


def wilson(successes: ArrayLike, trials: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two ends of a 95 % interval of a share, after so many successes in some trials (Wilson 1927).

    >>> low, high = wilson([0, 8], 8)
    >>> [round(float(end), 2) for end in (*low, *high)]
    [0.0, 0.68, 0.32, 1.0]
    """
    from scipy import stats

    z = float(stats.norm.ppf(0.5 + 0.5 * NOMINAL))
    share = np.asarray(successes, float) / trials
    middle = (share + z**2 / (2 * trials)) / (1.0 + z**2 / trials)
    half = z / (1.0 + z**2 / trials) * np.sqrt(share * (1.0 - share) / trials + z**2 / (4 * trials**2))
    return np.clip(middle - half, 0.0, 1.0), np.clip(middle + half, 0.0, 1.0)


def difference_p(a: ArrayLike, b: ArrayLike, side: Side = "two-sided") -> float:
    """Return the p-value of a difference of two arms: of the permutation test, or of Welch's t-test if that is larger.

    The second only where the seeds of one arm spread more than `UNLIKE` times as widely (standard deviation): dealing
    assumes that equal arms are alike in all, and with unequal spreads calls up to a third of equal ones different.

    Args:
        a: Seeds of one arm, (S,).
        b: Seeds of the other, (T,).
        side: What is tested of `a` less `b`: their interquartile means, or their means.
    """
    from scipy import stats

    dealt, spreads = permutation_p(a, b, side), (spread(a), spread(b))
    if max(spreads) <= UNLIKE * min(spreads):
        return dealt
    each = [(float(np.mean(_seeds(arm))), own, np.size(arm)) for arm, own in zip((a, b), spreads, strict=True)]
    welch = stats.ttest_ind_from_stats(*each[0], *each[1], equal_var=False, alternative=side)
    return max(dealt, float(welch.pvalue))


def spread(seeds: ArrayLike) -> float:
    """Return the standard deviation of seeds, exactly 0 if they are equal."""
    values = _seeds(seeds)
    return float(np.std(values, ddof=1)) if np.ptp(values) > 0.0 else 0.0


def permutation_p(a: ArrayLike, b: ArrayLike, side: Side = "two-sided") -> float:
    """Return the p-value of a permutation test: seeds are dealt to the arms anew, in all ways or `RESAMPLES` of them.

    Args:
        a: Seeds of one arm, (S,).
        b: Seeds of the other, (T,).
        side: What is tested of the interquartile mean of `a` less that of `b`.
    """
    both = np.concatenate([_seeds(a), _seeds(b)])
    count = len(np.atleast_1d(a))
    dealt = both[_deals(count, len(both) - count)]
    differences = interquartile_mean(dealt[:, :count], 1) - interquartile_mean(dealt[:, count:], 1)
    near = 1e-9 * np.ptp(both)
    above = float(np.mean(differences >= differences[0] - near))
    below = float(np.mean(differences <= differences[0] + near))
    return {"greater": above, "less": below, "two-sided": min(2.0 * min(above, below), 1.0)}[side]


@lru_cache(maxsize=8)
def _deals(n_a: int, n_b: int) -> np.ndarray:
    """Return ways to deal seeds to two arms, (K, n_a + n_b) places with arm a's first; the first is as they are."""
    count = n_a + n_b
    if math.comb(count, n_a) > RESAMPLES:
        places = np.broadcast_to(np.arange(count), (RESAMPLES, count))
        return np.vstack([np.arange(count), np.random.default_rng(0).permuted(places, axis=1)])
    chosen = [set(places) for places in combinations(range(count), n_a)]
    return np.array([[*sorted(own), *(place for place in range(count) if place not in own)] for own in chosen])


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values of several tests, adjusted so that all are right together (Holm 1979).

    >>> holm([0.03, 0.01, 0.5])
    [0.06, 0.03, 0.5]
    """
    order = np.argsort(p_values)
    adjusted = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1)), 1.0)
    result = np.empty(len(order))
    result[order] = adjusted
    return [float(p) for p in result]


def profile(values: ArrayLike, thresholds: ArrayLike) -> np.ndarray:
    """Return the performance profile: the share of seeds above each threshold, (S,) and (K,) to (K,)."""
    return np.asarray(np.mean(_seeds(values)[:, None] > np.asarray(thresholds, float), axis=0))


@lru_cache(maxsize=1024)
def detectable(n_a: int, n_b: int, level: float = 0.05) -> float:
    """Return the difference that `permutation_p` finds with a power of `POWER`, in standard deviations of seeds.

    That of a t-test at the level that so few permutations can reach, times `SPREAD`; infinite where they reach none:
    below `FEWEST` seeds, or where the p-value of arms that do not overlap, of which equal deals count too, is above it.

    Args:
        n_a: Seeds of one arm.
        n_b: Seeds of the other.
        level: p-value that counts as a finding.
    """
    from scipy import optimize, stats

    ways, outside = math.comb(n_a + n_b, n_a), (n_a // 4, n_b // 4)  # seeds that interquartile means leave out
    if min(n_a, n_b) < FEWEST or level < 2 * math.comb(sum(outside), outside[0]) / ways:
        return math.inf
    level = min(level, 2 * int(1e-9 + level * ways / 2) / ways)
    each, freedom = n_a * n_b / (n_a + n_b), n_a + n_b - 2
    limit = stats.t.ppf(1.0 - 0.5 * level, freedom)
    shift = optimize.brentq(lambda nc: stats.nct.sf(limit, freedom, nc) - POWER, 0.0, 100.0)
    return SPREAD * float(shift) / math.sqrt(each)


def seeds_needed(difference: float, level: float = 0.05) -> int | None:
    """Return the seeds an arm that make a difference, in standard deviations, `detectable`; None above `MOST_SEEDS`."""
    enough = (n for n in range(FEWEST, MOST_SEEDS + 1) if detectable(n, n, level) <= difference)
    return next(enough, None)
