"""Means of a few seeds with intervals.

As recommended by Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice".
"""

import numpy as np

RESAMPLES = 2000


def interquartile_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the middle half along the last axis: a quarter (rounded down) is left out at each end.

    >>> float(interquartile_mean(np.array([0.0, 1.0, 2.0, 100.0])))
    1.5
    """
    cut = values.shape[-1] // 4
    ordered = np.sort(values, axis=-1)
    return np.asarray(ordered[..., cut : values.shape[-1] - cut].mean(axis=-1))


def bootstrap(values: np.ndarray, share: float = 0.95, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean over seeds and its percentile bootstrap interval.

    Args:
        values: One row per seed, (S, …).
        share: How often such an interval holds the truth, were the seeds many.
        seed: Of the resampling.

    Returns:
        Low end, interquartile mean and high end, (…) each.
    """
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    means = interquartile_mean(np.moveaxis(values[drawn], 1, -1))
    low, high = np.quantile(means, [(1.0 - share) / 2.0, (1.0 + share) / 2.0], axis=0)
    return low, interquartile_mean(np.moveaxis(values, 0, -1)), high
