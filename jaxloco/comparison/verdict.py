"""What the seeds of two arms say of their difference: effect, no effect larger than a margin, or too few to tell."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from jaxloco.statistics import (
    FEWEST,
    detectable,
    difference_p,
    holm,
    interquartile_mean,
    probability_greater,
    probability_interval,
    seeds_needed,
)

LEVEL = 0.05
"""How often equal arms may be called different, all comparisons of one call together."""

Values = Sequence[float] | np.ndarray
"""What the seeds of an arm reached, (S,)."""

Kind = Literal["effect", "no effect larger than the margin", "cannot tell"]


@dataclass(frozen=True)
class Verdict:
    """How an arm differs from the first one.

    Attributes:
        kind: The verdict.
        difference: Its interquartile mean less that of the first arm.
        probability: Share of pairs in which its seed is greater than one of the first arm.
        probability_interval: 95 % interval of that.
        p: p-value of the difference, see `jaxloco.statistics.difference_p`.
        p_holm: p-value of the difference, adjusted (Holm) for the number of arms.
        p_margin: p-value, adjusted, of a difference as large as the margin; None without margin.
        deviation: Standard deviation of seeds, of both arms together.
        detectable: Difference in units of that which so many seeds show with a power of 0.8; inf if none.
        seeds_needed: Seeds an arm that would show the margin, or the difference where there is none; None if over 200.
    """

    kind: Kind
    difference: float
    probability: float
    probability_interval: tuple[float, float]
    p: float
    p_holm: float
    p_margin: float | None
    deviation: float
    detectable: float
    seeds_needed: int | None


def judge(first: Values, others: Sequence[Values], margin: float | None = None) -> list[Verdict]:
    """Compare arms with the first one.

    The p-values are those of `jaxloco.statistics.difference_p`. That a difference is smaller than the margin is shown
    by two tests, each one-sided at `LEVEL`: that it is not the margin or more, and not minus the margin or less.

    Args:
        first: What the seeds of the first arm reached, (S,).
        others: What the seeds of each other arm reached, at least one arm, (S,) each.
        margin: The smallest difference that matters; None if any does.
    """
    p_values = [difference_p(other, first) for other in others]
    adjusted = holm(p_values)
    bounded = [None] * len(others) if margin is None else holm([_p_margin(first, other, margin) for other in others])
    level = LEVEL / len(others)
    return [_judge(first, *each, margin, level) for each in zip(others, p_values, adjusted, bounded, strict=True)]


def _p_margin(first: Values, other: Values, margin: float) -> float:
    """Return the p-value of a difference that is at least the margin, either way."""
    values = np.asarray(other, float)
    return max(difference_p(values - margin, first, "less"), difference_p(values + margin, first, "greater"))


def _judge(
    first: Values,
    other: Values,
    p: float,
    p_holm: float,
    p_margin: float | None,
    margin: float | None,
    level: float,
) -> Verdict:
    difference = float(interquartile_mean(other) - interquartile_mean(first))
    deviation = _deviation(first, other)
    smallest = detectable(len(first), len(other), level)
    probability = probability_greater(other, first)
    kind: Kind = "cannot tell"
    fewest = min(len(first), len(other))
    if fewest >= FEWEST:
        if p_margin is not None and p_margin <= LEVEL:
            kind = "no effect larger than the margin"
        elif p_holm <= LEVEL:
            kind = "effect"
    wanted = abs(difference) if margin is None else margin
    needed = seeds_needed(wanted / deviation if deviation else math.inf, level) if wanted else None
    if needed is not None and needed <= fewest:
        needed = fewest + 2  # it is large enough, and was not found
    return Verdict(
        kind,
        difference,
        probability,
        probability_interval(probability, len(other), len(first)),
        p,
        p_holm,
        p_margin,
        deviation,
        smallest,
        needed,
    )


def _deviation(first: Values, other: Values) -> float:
    means = [np.clip(np.mean(arm), np.min(arm), np.max(arm)) for arm in (first, other)]  # of equal seeds exactly theirs
    squares = sum(np.sum(np.square(np.asarray(arm) - mean)) for arm, mean in zip((first, other), means, strict=True))
    return math.sqrt(float(squares) / max(len(first) + len(other) - 2, 1))
