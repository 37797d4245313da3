"""Alignment of demonstrations: one hidden trajectory from several noisy ones at tempos of their own."""

import numpy as np
import pytest

from jaxloco.demonstrations.align import AlignOptions, align, best_path, drift, smooth
from jaxloco.errors import ConfigError

STEP = 0.05


def constant_velocity(states):
    """Position and velocity at half a time step."""
    a = np.array([[1.0, STEP], [0.0, 1.0]])
    return states @ a.T, np.tile(a, (len(states), 1, 1))


def truth(at):
    """Position and velocity of a swing, at 0 to 1."""
    return np.stack(
        [np.sin(2 * np.pi * at) ** 3, 6 * np.pi * np.sin(2 * np.pi * at) ** 2 * np.cos(2 * np.pi * at) / 5], 1
    )


def demonstrations(count=6, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        length = rng.integers(45, 56)
        tempo = 1.0 + 0.4 * np.sin(np.linspace(0, 2 * np.pi, length) + rng.uniform(0, 6))
        at = np.cumsum(tempo) - tempo[0]
        yield truth(at / at[-1]) + noise * rng.normal(size=(length, 2))


def error(states):
    """RMS of the position to the truth at the time that fits best."""
    dense = truth(np.linspace(0, 1, 2 * len(states) + 1))
    scores = -np.sum((states[:, None] - dense[None]) ** 2, axis=2)
    path = best_path(scores, np.zeros(3))
    return float(np.sqrt(np.mean((states[:, 0] - dense[path, 0]) ** 2)))


def test_the_hidden_trajectory_is_nearer_to_the_truth_than_any_demonstration():
    demos = list(demonstrations())
    found = align(demos, constant_velocity)
    assert error(found.states) < 0.75 * min(error(one) for one in demos)
    assert len(found.states) == 2 * round(np.mean([len(one) for one in demos])) - 1


@pytest.mark.parametrize("seed", range(3))
def test_likelihood_never_falls(seed):
    options = AlignOptions(iterations=12, tolerance=1e-12)
    likelihoods = align(list(demonstrations(seed=seed)), constant_velocity, options).likelihoods
    assert len(likelihoods) > 5 and np.diff(likelihoods).min() >= 0.0


def test_times_go_from_start_to_end_by_1_2_or_3():
    demos = list(demonstrations())
    found = align(demos, constant_velocity)
    for one, at in zip(demos, found.times, strict=True):
        assert (at[0], at[-1], len(at)) == (0, len(found.states) - 1, len(one))
        assert set(np.diff(at)) <= {1, 2, 3}


def test_the_best_path_is_the_best_of_all_paths():
    scores, steps = np.random.default_rng(0).normal(size=(5, 9)), np.log([0.2, 0.5, 0.3])

    def paths(row, column):
        if row == 4:
            if column == 8:
                yield [column]
            return
        for step in (1, 2, 3):
            if column + step < 9:
                for rest in paths(row + 1, column + step):
                    yield [column, *rest]

    def value(path):
        return scores[np.arange(5), path].sum() + steps[np.diff(path) - 1].sum()

    assert best_path(scores, steps).tolist() == max(paths(0, 0), key=value)


def test_smoother_and_likelihood_are_those_of_the_joint_normal_distribution():
    """Against the dense joint density of all states and samples, with two samples of one state and one without any."""
    rng = np.random.default_rng(1)
    slopes, offsets = 0.5 * rng.normal(size=(4, 2, 2)), rng.normal(size=(4, 2))
    noise, process, start = (
        np.array([[0.3, 0.5], [0.2, 0.7]]),
        np.array([0.4, 0.6]),
        (np.array([1.0, -1.0]), np.array([0.5, 0.8])),
    )
    times, demos = [np.array([0, 2, 4]), np.array([0, 1, 4])], [rng.normal(size=(3, 2)) for _ in range(2)]
    found = smooth(demos, times, slopes, offsets, noise, process, start)

    mean, covariance = np.zeros((5, 2)), np.zeros((5, 2, 5, 2))
    mean[0], covariance[0, :, 0] = start[0], np.diag(start[1])
    for t in range(4):
        mean[t + 1] = slopes[t] @ mean[t] + offsets[t]
        covariance[t + 1] = np.einsum("ij,jsk->isk", slopes[t], covariance[t])
        covariance[:, :, t + 1] = np.einsum("ij,skj->ski", slopes[t], covariance[:, :, t])
        covariance[t + 1, :, t + 1] = slopes[t] @ covariance[t, :, t] @ slopes[t].T + np.diag(process)
    at = np.concatenate(times)
    shown = np.zeros((6, 2, 5, 2))
    shown[np.arange(6), :, at] = np.eye(2)
    h, p = shown.reshape(12, 10), covariance.reshape(10, 10)
    s = h @ p @ h.T + np.diag(np.repeat(noise, 3, axis=0).ravel())
    residual = np.concatenate(demos).ravel() - h @ mean.ravel()
    gain = p @ h.T @ np.linalg.inv(s)
    after = p - gain @ h @ p
    np.testing.assert_allclose(found.means.ravel(), mean.ravel() + gain @ residual, atol=1e-10)
    for t in range(5):
        np.testing.assert_allclose(found.covariances[t], after.reshape(5, 2, 5, 2)[t, :, t], atol=1e-10)
    for t in range(4):
        np.testing.assert_allclose(found.lagged[t], after.reshape(5, 2, 5, 2)[t, :, t + 1], atol=1e-10)
    density = -0.5 * (residual @ np.linalg.solve(s, residual) + np.linalg.slogdet(2 * np.pi * s)[1])
    assert found.likelihood == pytest.approx(density, abs=1e-9)


def test_drift_is_a_line_to_the_end_and_a_parabola_that_has_the_mean_of_the_rest():
    """Worked by hand: the line is 0 1 2 3; the rest, 0 0 2 0, has the mean 0.5, and so has 0 1 1 0."""
    found = drift(np.array([[10.0, 7.0], [11.0, 7.0], [14.0, 7.0], [13.0, 7.0]]))
    np.testing.assert_allclose(found, [[0.0, 0.0], [2.0, 0.0], [3.0, 0.0], [3.0, 0.0]], atol=1e-12)


def test_drift_is_what_a_random_walk_is_expected_to_be_by_its_end_and_mean():
    """Against the conditional mean of the normal distribution with the covariance min(i, j) of a random walk."""
    walk = np.cumsum(np.random.default_rng(2).normal(size=9))
    covariance = np.minimum.outer(np.arange(1, 10), np.arange(1, 10))
    known = np.array([np.eye(9)[-1], np.ones(9)])
    expected = covariance @ known.T @ np.linalg.solve(known @ covariance @ known.T, known @ walk)
    np.testing.assert_allclose(drift(np.array([[0.0], *walk[:, None]]))[1:, 0], expected, atol=1e-12)


def test_a_demonstration_of_something_else_is_named():
    demos = list(demonstrations())
    demos[2] = -3.0 * demos[2]
    with pytest.raises(ConfigError, match=r"demonstration 2 cannot be aligned: it is \d+\.\d times as far"):
        align(demos, constant_velocity)


@pytest.mark.parametrize("tempo", [(-1.0, 1.0, 1.0), (0.5, 0.5, 0.0), (0.5, 0.5, 0.5)])
def test_tempos_are_probabilities(tempo):
    with pytest.raises(ConfigError, match="must be three probabilities above 0, which add up to 1"):
        AlignOptions(tempo=tempo)


BAD = {
    "one alone": (lambda demos: demos[:1], "found 1 demonstrations to align, expected at least 2"),
    "another width": (lambda demos: [*demos, np.zeros((50, 3))], r"demonstration 6: found shape \(50, 3\), expected"),
    "two samples": (lambda demos: [*demos, np.zeros((2, 2))], r"demonstration 6: found shape \(2, 2\)"),
    "not finite": (
        lambda demos: [*demos, np.full((50, 2), np.nan)],
        "demonstration 6: sample 0 is not finite in component 0",
    ),
    "too long": (lambda demos: [*demos, np.zeros((400, 2))], "demonstration 6 cannot be aligned: it has 400 samples"),
    "too short": (lambda demos: [*demos, np.zeros((9, 2))], "demonstration 6 cannot be aligned: it has 9 samples"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_aligned_is_refused(case):
    change, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        align(change(list(demonstrations())), constant_velocity)
