"""How sure estimates are: their covariance with white noise, and a block bootstrap where residuals are not white."""

from collections.abc import Sequence

import numpy as np

from jaxloco.identification.unknowns import PARAMETERS, Unknown

LEVEL = 1.96
"""Half-width of a 95 % interval, in standard deviations."""

TOLD = 0.5
"""A value is told by the data if its interval is narrower than this share of what is plausible before."""

BLOCK = 0.25
"""Length of the blocks of the bootstrap, s: longer than what a joint remembers."""

RESAMPLES = 2000

SINGULAR = 1e-10
"""Eigenvalue of the scaled information from which down its direction is not told; and a share that counts as none."""

WHITE = 0.1
"""Residuals whose autocorrelation at one sample is below this count as white."""


def half_widths(jacobian: np.ndarray) -> np.ndarray:
    """Return half-widths of 95 % intervals, (F,), of whitened residuals: 1.96 √ diag (JᵀJ)⁻¹; inf where singular."""
    information = jacobian.T @ jacobian
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    values, vectors = np.linalg.eigh(information / np.outer(scale, scale))
    unknown = values <= SINGULAR
    variances = vectors**2 @ np.where(unknown, 0.0, 1.0 / np.maximum(values, SINGULAR))
    variances[(vectors[:, unknown] ** 2 > SINGULAR).any(axis=1)] = np.inf  # others are as sure as without it
    return np.asarray(LEVEL * np.sqrt(variances) / scale)


def bootstrapped(residuals: np.ndarray, jacobian: np.ndarray, blocks: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return half-widths of 95 % intervals by a block bootstrap, (F,).

    Blocks of successive samples, all channels together, are drawn with replacement. Each draw's estimate is one
    Gauss–Newton step away from the optimum, δ = −(JᵀJ)⁻¹ Σ wᵦ Jᵦᵀrᵦ, wᵦ how often block b was drawn; no draw is fitted
    anew (a score bootstrap, Hu and Kalbfleisch 2000, "The estimating function bootstrap").

    Args:
        residuals: At the optimum, (R,).
        jacobian: There, (R, F).
        blocks: To which block each row belongs, (R,).
        seed: Of the draws.
    """
    count = int(blocks.max()) + 1
    scores = np.zeros((count, jacobian.shape[1]))
    np.add.at(scores, blocks, jacobian * residuals[:, None])
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=RESAMPLES)
    scale = np.sqrt(np.maximum(np.sum(jacobian**2, axis=0), 1e-300))  # units differ, and some may not be told at all
    information = jacobian.T @ jacobian / np.outer(scale, scale)
    steps = -np.linalg.pinv(information, SINGULAR, hermitian=True) @ (drawn @ scores / scale).T / scale[:, None]
    spread = np.quantile(np.abs(steps - steps.mean(axis=1, keepdims=True)), 0.95, axis=1)
    return np.asarray(spread * np.sqrt(count / max(count - 1, 1)))


def autocorrelation(residuals: Sequence[np.ndarray]) -> float:
    """Return the autocorrelation at one sample, over all columns of all recordings, (M, C) each."""
    products = sum(float(np.sum(each[1:] * each[:-1])) for each in residuals)
    squares = sum(float(np.sum(each**2)) for each in residuals)
    return products / squares if squares > 0.0 else 0.0


def noise_of(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return the standard deviation of white noise on smooth signals, (C,), by their third differences.

    Those of white noise have 1 + 9 + 9 + 1 = 20 times its variance, and those of a smooth signal are small.

    Args:
        values: Of each recording, (M, C).
    """
    differences = np.concatenate([np.diff(each, n=3, axis=0) for each in values])
    return np.asarray(np.sqrt(np.mean(differences**2, axis=0) / 20.0))


def select(unknowns: Sequence[Unknown], jacobian: np.ndarray) -> tuple[list[int], dict[int, str]]:
    """Choose the unknowns that the data can tell, in the order of `PARAMETERS`.

    An unknown is taken if, with those taken before, every interval is narrow enough (`TOLD`).

    Args:
        unknowns: In the order of the columns.
        jacobian: Of whitened residuals, (R, U).

    Returns:
        Places of those that are told, and for each other one the reason.
    """
    information = jacobian.T @ jacobian
    widest = np.array([TOLD * PARAMETERS[unknown.kind].plausible for unknown in unknowns])
    root = np.asarray(np.linalg.qr(jacobian, mode="r"))
    chosen: list[int] = []
    reasons: dict[int, str] = {}
    for place in range(len(unknowns)):
        trial = [*chosen, place]
        halves = half_widths(root[:, trial])
        if (halves <= widest[trial]).all():
            chosen.append(place)
        else:
            reasons[place] = _reason(unknowns, information, chosen, place, widest[place])
    return chosen, reasons


def _reason(
    unknowns: Sequence[Unknown], information: np.ndarray, chosen: Sequence[int], place: int, widest: float
) -> str:
    """Return why an unknown is not told: alone it has too little effect, or others have the same one."""
    alone = LEVEL / np.sqrt(max(information[place, place], 1e-300))
    if alone > widest or not chosen:
        return "has too little effect in these recordings"
    ids = list(chosen)
    shares = np.linalg.lstsq(information[np.ix_(ids, ids)], information[ids, place], rcond=None)[0]
    sizes = np.abs(shares) * np.sqrt(np.diag(information)[ids])
    return f"cannot be told apart from {unknowns[ids[int(np.argmax(sizes))]].name}"
