"""The trajectory that several demonstrations mean: each is a noisy view of it, at a tempo of its own.

A hidden trajectory z has twice the demonstrations' time resolution. A demonstration sees it at times that move on by 1,
2 or 3 with each of its samples. Expectation maximization finds trajectory, variances and times: a Kalman smoother along
the linearized dynamics, new variances, and dynamic time warping.

Source: Coates, Abbeel and Ng 2008, "Learning for control from multiple demonstrations", ICML. Instead of one step of an
extended Kalman filter after the other, the dynamics are linearized along the whole last estimate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from jaxloco.checks import COUNT, POSITIVE, RULE, check_fields
from jaxloco.errors import ConfigError

Linearize = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From states (T, n) to the dynamics' next states (T, n) and their derivatives (T, n, n), for half a time step."""

PRIOR = 0.2
"""Weight of the prior of the demonstrations' variances, relative to that of the samples."""

STEPS = (1, 2, 3)
"""How far a demonstration may move on in the hidden trajectory with each sample."""


@dataclass(frozen=True)
class AlignOptions:
    """How demonstrations are aligned.

    Attributes:
        iterations: Most rounds of smoothing, new variances and time warping.
        tolerance: Gain of log-likelihood per sample below which no further round is made.
        tempo: Probabilities that a demonstration moves on by 1, 2 and 3 with a sample.
        outlier: A demonstration so many times farther from the common trajectory than the median one is refused.
    """

    iterations: int = field(default=30, metadata={RULE: COUNT})
    tolerance: float = field(default=1e-3, metadata={RULE: POSITIVE})
    tempo: tuple[float, float, float] = (0.25, 0.5, 0.25)
    outlier: float = field(default=4.0, metadata={RULE: POSITIVE})

    def __post_init__(self) -> None:
        check_fields(self)
        if not min(self.tempo) > 0.0 or not abs(sum(self.tempo) - 1.0) < 1e-6:
            raise ConfigError(f"tempo = {self.tempo}: must be three probabilities above 0, which add up to 1")


@dataclass(frozen=True, eq=False)
class Alignment:
    """What `align` found.

    Attributes:
        states: The hidden trajectory, at half the demonstrations' time step, (T, n).
        times: Of each demonstration, the index in `states` of each of its samples.
        noise: Variance of each demonstration around the trajectory, (k, n).
        process: Variance of the dynamics' error per step, (n,).
        likelihoods: Log-likelihood, with the prior of the variances, before each round, and after the last one.
    """

    states: np.ndarray
    times: tuple[np.ndarray, ...]
    noise: np.ndarray
    process: np.ndarray
    likelihoods: tuple[float, ...]


class Smoothed(NamedTuple):
    """Means (T, n), covariances (T, n, n), those of each state with the next (T - 1, n, n), and the log-likelihood."""

    means: np.ndarray
    covariances: np.ndarray
    lagged: np.ndarray
    likelihood: float


class OutlierError(ConfigError):
    """A demonstration is of something else, or much worse than the others.

    Args:
        demonstration: Its number, from 0.
        times: How many times as far it is from what all have in common as the median one.
    """

    def __init__(self, demonstration: int, times: float) -> None:
        self.demonstration, self.times = demonstration, times
        super().__init__(
            f"demonstration {demonstration} cannot be aligned: it is {times:.1f} times as far from what all have in "
            "common as the median one; leave it out"
        )


def align(
    demonstrations: Sequence[np.ndarray], linearize: Linearize, options: AlignOptions = AlignOptions()
) -> Alignment:
    """Return the trajectory that demonstrations have in common, and when each of them was where on it.

    Args:
        demonstrations: Samples at a constant rate, (N_k, n) each, all from the start to the end of the same motion.
        linearize: The dynamics for half a time step: states (T, n) → next states (T, n) and derivatives (T, n, n). An
            approximate model will do.
        options: See there.

    Returns:
        The trajectory, (T, n) at half the time step, where each demonstration is on it, and the variances.

    Raises:
        OutlierError: One is much farther from what all have in common than the others.
        ConfigError: They cannot be aligned; names the worst one.
    """
    demos = [np.asarray(one, float) for one in demonstrations]
    _check(demos)
    length = 2 * round(float(np.mean([len(one) for one in demos]))) - 1
    times = [np.rint(np.linspace(0, length - 1, len(one))).astype(int) for one in demos]
    spread = np.mean([_resampled(one, length) for one in demos], axis=0)
    floor = 1e-6 * np.var(np.concatenate(demos), axis=0) + 1e-12
    squares = [np.mean((one - spread[at]) ** 2, axis=0) for one, at in zip(demos, times, strict=True)]
    scale, component = np.ones((len(demos), demos[0].shape[1])), np.mean(squares, axis=0) + floor
    process = np.var(np.diff(spread, axis=0), axis=0) + floor
    start = (spread[0], np.mean([(one[0] - spread[0]) ** 2 for one in demos], axis=0) + 10.0 * floor)
    means, likelihoods = spread, list[float]()
    found = (means, times, scale * component, process)
    for _ in range(options.iterations + 1):
        following, slopes = linearize(means[:-1])
        offsets = following - np.einsum("tij,tj->ti", slopes, means[:-1])
        noise = scale * component
        smoothed = smooth(demos, times, slopes, offsets, noise, process, start)
        likelihood = smoothed.likelihood + _tempo_likelihood(times, options) + _prior(scale, demos)
        if likelihoods and likelihood < likelihoods[-1] + options.tolerance * sum(map(len, demos)):
            if likelihood >= likelihoods[-1]:  # that of a new linearization may be lower: then the last one stays
                likelihoods.append(likelihood)
                found = (smoothed.means, times, noise, process)
            break
        likelihoods.append(likelihood)
        found = (smoothed.means, times, noise, process)
        means = smoothed.means
        times = [warp(one, smoothed, noise[k], options) for k, one in enumerate(demos)]
        scale, component = _noise(demos, times, smoothed, scale, floor)
        process = np.maximum(_process(smoothed, slopes, offsets), floor)
    means, times, noise, process = found
    _check_outliers(noise, options)
    return Alignment(means, tuple(times), noise, process, tuple(likelihoods))


def drift(positions: np.ndarray) -> np.ndarray:
    """Return how far a demonstration of a motion in place has drifted by each of its samples, (N, m).

    Such a motion ends where it begins, and that is where it is on average. Drift is a random walk, as in the paper: the
    one expected from where the demonstration ends is a straight line, and from its mean a parabola is added to that.

    Args:
        positions: (N, m), N at least 3.
    """
    part = np.linspace(0.0, 1.0, len(positions))[:, None]
    away = positions - positions[0]
    line, bend = part * away[-1], part * (1.0 - part)
    found: np.ndarray = line + bend / np.mean(bend) * np.mean(away - line, axis=0)
    return found


def warp(demonstration: np.ndarray, smoothed: Smoothed, noise: np.ndarray, options: AlignOptions) -> np.ndarray:
    """Return the most likely times of a demonstration, (N,), from the first to the last state of the trajectory."""
    variances = np.diagonal(smoothed.covariances, axis1=1, axis2=2)
    uncertainty = np.sum(variances / noise, axis=1)
    scores = np.array(
        [-0.5 * (np.sum((sample - smoothed.means) ** 2 / noise, axis=1) + uncertainty) for sample in demonstration]
    )
    return best_path(scores, np.log(options.tempo))


def best_path(scores: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the path from the first to the last column that moves on by 1, 2 or 3 per row and has the largest sum.

    Args:
        scores: Of each row and column, (N, T).
        steps: What moving on by 1, 2 and 3 adds, (3,).
    """
    best = np.full(scores.shape[1], -np.inf)
    best[0] = scores[0, 0]
    came = np.zeros(scores.shape, int)
    for row in range(1, len(scores)):
        ways = np.full((len(STEPS), len(best)), -np.inf)
        for i, step in enumerate(STEPS):
            ways[i, step:] = best[:-step] + steps[i]
        came[row] = np.argmax(ways, axis=0)
        best = scores[row] + np.max(ways, axis=0)
    path = [scores.shape[1] - 1]
    for row in range(len(scores) - 1, 0, -1):
        path.append(path[-1] - STEPS[came[row, path[-1]]])
    return np.array(path[::-1])


def smooth(
    demos: Sequence[np.ndarray],
    times: Sequence[np.ndarray],
    slopes: np.ndarray,
    offsets: np.ndarray,
    noise: np.ndarray,
    process: np.ndarray,
    start: tuple[np.ndarray, np.ndarray],
) -> Smoothed:
    """Run the Kalman filter and the smoother of Rauch, Tung and Striebel.

    Args:
        demos: Samples, (N_k, n) each.
        times: Of each sample, the index of the state that it shows.
        slopes: A of z' = A z + b + error, (T - 1, n, n).
        offsets: b, (T - 1, n).
        noise: Variances of the demonstrations, (k, n).
        process: Variances of the error, (n,).
        start: Mean and variance of the first state, (n,) each.
    """
    count, n = len(offsets) + 1, offsets.shape[1]
    weight, weighted, likelihood = np.zeros((count, n)), np.zeros((count, n)), 0.0
    for one, at, variance in zip(demos, times, noise, strict=True):
        np.add.at(weight, at, 1.0 / variance)
        np.add.at(weighted, at, one / variance)
        likelihood -= 0.5 * (np.sum(one**2 / variance) + len(one) * np.sum(np.log(2.0 * np.pi * variance)))
    means, covariances = np.zeros((count, n)), np.zeros((count, n, n))
    ahead = np.zeros((count, n)), np.zeros((count, n, n))
    mean, covariance = start[0], np.diag(start[1])
    for t in range(count):
        if t:
            mean = slopes[t - 1] @ means[t - 1] + offsets[t - 1]
            covariance = slopes[t - 1] @ covariances[t - 1] @ slopes[t - 1].T + np.diag(process)
        ahead[0][t], ahead[1][t] = mean, covariance
        # All samples of a state together are one sample of variance 1 / weight; the rest of their density is constant.
        gain = np.linalg.solve(np.eye(n) + covariance * weight[t], covariance)
        means[t] = mean + gain @ (weighted[t] - weight[t] * mean)
        covariances[t] = 0.5 * (gain + gain.T)
        scale = np.linalg.slogdet(np.eye(n) + covariance * weight[t])[1]
        residual = weighted[t] - weight[t] * mean
        likelihood += weighted[t] @ mean - 0.5 * (weight[t] @ mean**2 + scale) + 0.5 * residual @ gain @ residual
    return _smoothed(means, covariances, ahead, slopes, float(likelihood))


def _smoothed(
    means: np.ndarray,
    covariances: np.ndarray,
    ahead: tuple[np.ndarray, np.ndarray],
    slopes: np.ndarray,
    likelihood: float,
) -> Smoothed:
    means, covariances = means.copy(), covariances.copy()
    lagged = np.zeros_like(slopes)
    for t in range(len(slopes) - 1, -1, -1):
        gain = np.linalg.solve(ahead[1][t + 1], slopes[t] @ covariances[t]).T
        means[t] += gain @ (means[t + 1] - ahead[0][t + 1])
        covariances[t] += gain @ (covariances[t + 1] - ahead[1][t + 1]) @ gain.T
        lagged[t] = gain @ covariances[t + 1]
    return Smoothed(means, covariances, lagged, likelihood)


def _noise(
    demos: Sequence[np.ndarray], times: Sequence[np.ndarray], smoothed: Smoothed, scale: np.ndarray, floor: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return more likely factors s, (k, n), and variances v, (n,), of the variances s v, beginning with s.

    The factors have a prior, an inverse gamma distribution with mode 1. Without it the trajectory would go right
    through one demonstration here and another there, whose variances then vanish.
    """
    variances = np.diagonal(smoothed.covariances, axis1=1, axis2=2)
    counts = np.array([len(one) for one in demos], float)
    squares = np.array(
        [np.mean((one - smoothed.means[at]) ** 2 + variances[at], axis=0) for one, at in zip(demos, times, strict=True)]
    )
    for _ in range(5):  # each line has the maximum of the likelihood with the other one's values
        component = np.maximum(np.average(squares / scale, axis=0, weights=counts), floor)
        scale = (squares / component + PRIOR) / (1.0 + PRIOR)
    return scale, component


def _prior(scale: np.ndarray, demos: Sequence[np.ndarray]) -> float:
    """Return the logarithm of the prior of the factors s, but for a constant."""
    counts = np.array([len(one) for one in demos], float)
    return float(-0.5 * PRIOR * counts @ np.sum(np.log(scale) + 1.0 / scale, axis=1))


def _process(smoothed: Smoothed, slopes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Return the expected square of z' - A z - b, (n,)."""
    means, covariances = smoothed.means, smoothed.covariances
    error = means[1:] - np.einsum("tij,tj->ti", slopes, means[:-1]) - offsets
    own = np.einsum("tij,tjk,tik->ti", slopes, covariances[:-1], slopes)
    mixed = np.einsum("tij,tji->ti", slopes, smoothed.lagged)
    found: np.ndarray = np.mean(error**2 + np.diagonal(covariances[1:], axis1=1, axis2=2) + own - 2.0 * mixed, axis=0)
    return found


def _tempo_likelihood(times: Sequence[np.ndarray], options: AlignOptions) -> float:
    return float(sum(np.log(options.tempo)[np.diff(at) - 1].sum() for at in times))


def _resampled(one: np.ndarray, length: int) -> np.ndarray:
    at, own = np.linspace(0.0, 1.0, length), np.linspace(0.0, 1.0, len(one))
    return np.stack([np.interp(at, own, column) for column in one.T], axis=1)


def _check(demos: Sequence[np.ndarray]) -> None:
    if len(demos) < 2:
        raise ConfigError(f"found {len(demos)} demonstrations to align, expected at least 2")
    width = demos[0].shape[-1]
    for k, one in enumerate(demos):
        if one.ndim != 2 or one.shape[1] != width or len(one) < 3:
            raise ConfigError(
                f"demonstration {k}: found shape {one.shape}, expected (samples, {width}), 3 samples or more"
            )
        if not np.isfinite(one).all():
            row, column = np.argwhere(~np.isfinite(one))[0]
            raise ConfigError(
                f"demonstration {k}: sample {row} is not finite in component {column}; repair or leave it out"
            )
    mean = float(np.mean([len(one) for one in demos]))
    worst = int(np.argmax([abs(np.log(len(one) / mean)) for one in demos]))
    samples = len(demos[worst])
    if not STEPS[0] * (samples - 1) <= 2 * round(mean) - 2 <= STEPS[-1] * (samples - 1):
        raise ConfigError(
            f"demonstration {worst} cannot be aligned: it has {samples} samples and the mean one {mean:.0f}, "
            "expected between two thirds and twice of that; cut it to the same motion, or leave it out"
        )


def _check_outliers(noise: np.ndarray, options: AlignOptions) -> None:
    """Refuse a demonstration that is much farther from the trajectory than the others."""
    distances = np.sqrt(np.median(noise / np.median(noise, axis=0), axis=1))
    worst = int(np.argmax(distances))
    times = float(distances[worst] / np.median(distances))
    if times > options.outlier:
        raise OutlierError(worst, times)
