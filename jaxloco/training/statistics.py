"""Figures of several runs that differ in their seed: the interquartile mean, and how far it can be trusted.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv:2108.13264).
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def interquartile_mean(values: Sequence[float] | np.ndarray) -> float:
    """Return the mean of the middle half; a value that a quartile cuts counts by the share that is inside.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    >>> interquartile_mean([0.0, 3.0, 12.0])  # (0.25 · 0 + 3 + 0.25 · 12) / 1.5
    4.0
    """
    ordered = np.sort(np.asarray(values, float))
    places = np.arange(len(ordered))
    low, high = 0.25 * len(ordered), 0.75 * len(ordered)
    weights = np.clip(np.minimum(places + 1, high) - np.maximum(places, low), 0.0, 1.0)
    return float(weights @ ordered / weights.sum())


def bootstrap_interval(values: Sequence[float] | np.ndarray, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile-bootstrap interval of the interquartile mean: no narrower than few seeds allow.

    Args:
        values: One figure per run.
        level: Probability that the interval claims.
        seed: Of the resampling.
    """
    array = np.asarray(values, float)
    rng = np.random.default_rng(seed)
    draws = array[rng.integers(0, len(array), (RESAMPLES, len(array)))]
    means = [interquartile_mean(row) for row in draws] if len(array) > 1 else [float(array[0])]
    low, high = np.quantile(means, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
    return float(low), float(high)
