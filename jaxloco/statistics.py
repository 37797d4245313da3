"""Figures of several runs that differ in their seed: the interquartile mean, and how far it can be trusted.

After Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice" (arXiv:2108.13264).
"""

import numpy as np
from numpy.typing import ArrayLike

RESAMPLES = 10_000


def interquartile_mean(values: ArrayLike) -> np.ndarray:
    """Return the mean of the middle half of the first axis, (S, …) to (…).

    A value that a quartile cuts counts by the share that is inside.

    >>> float(interquartile_mean([0.0, 1.0, 2.0, 100.0]))
    1.5
    >>> float(interquartile_mean([0.0, 3.0, 12.0]))  # (0.25 · 0 + 3 + 0.25 · 12) / 1.5
    4.0
    """
    ordered = np.sort(np.asarray(values, float), axis=0)
    count, places = len(ordered), np.arange(len(ordered))
    low, high = 0.25 * count, 0.75 * count
    weights = np.clip(np.minimum(places + 1, high) - np.maximum(places, low), 0.0, 1.0)
    return np.asarray(np.tensordot(weights, ordered, axes=1) / weights.sum())


def bootstrap(values: ArrayLike, level: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the interquartile mean over runs and its percentile-bootstrap interval, which is wide for few runs.

    Args:
        values: One row per run, (S, …).
        level: Probability that the interval claims.
        seed: Of the resampling.

    Returns:
        Low end, interquartile mean and high end, (…) each.
    """
    array = np.asarray(values, float)
    drawn = np.random.default_rng(seed).integers(len(array), size=(len(array), RESAMPLES))
    means = interquartile_mean(array[drawn])
    low, high = np.quantile(means, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0)
    return low, interquartile_mean(array), high
