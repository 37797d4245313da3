"""How often verdicts on drawn seeds are wrong, and how often intervals hold what they claim."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from multiprocessing import get_context
from typing import Any

import numpy as np

from benchmarks import common
from jaxloco.comparison.verdict import LEVEL, judge
from jaxloco.cores import count_cores
from jaxloco.statistics import (
    NOMINAL,
    RESAMPLES,
    coverage,
    interquartile_mean,
    interval,
    permutation_p,
    probability_greater,
    probability_interval,
)

NAME = "comparisons"
EQUAL = (5, 10)
"""Seeds an arm of the comparisons of equal arms."""

RECIPE = {5: 2.2, 10: 1.4, 20: 1.0}
"""Seeds an arm → difference in standard deviations, that a test should find with a power of about 0.8."""

SPREADS = (3, 10)
"""Standard deviations of the second arm's seeds in comparisons of arms with equal means, those of the first are 1."""

COVERED = (5, 6, 8, 10, 20, 40)
"""Seeds of which the interval's coverage is measured."""

MOST_MORE = 20
"""Seeds an arm that are added at most where a verdict asks for more."""

Draw = Callable[[np.random.Generator, int], np.ndarray]

DRAWS: dict[str, Draw] = {
    "normal": lambda rng, count: rng.normal(size=count),
    "skewed (log-normal)": lambda rng, count: rng.lognormal(0.0, 0.7, size=count),
    "one seed in ten fails": lambda rng, count: np.where(rng.random(count) < 0.1, -8.0, 0.0) + rng.normal(size=count),
}


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of the benchmark.

    Attributes:
        comparisons: How many of each kind.
        seed: Of what is drawn.
        out: JSON file of the result; benchmarks/results/comparisons.json if not given.
    """

    comparisons: int = 1000
    seed: int = 0
    out: str | None = None

    def __post_init__(self) -> None:
        common.at_least_one(self, "comparisons")


def main(arguments: Sequence[str]) -> int:
    """Measure error rates, power and coverage of jaxloco compare on drawn seeds: comparisons [options]."""
    return common.command(NAME, ComparisonOptions(), arguments, main.__doc__, run, show)


def run(own: ComparisonOptions) -> dict[str, Any]:
    """Draw and compare, on all cores; plain JSON values."""
    began, parts = time.monotonic(), list(_parts())
    with ProcessPoolExecutor(count_cores(), get_context("spawn")) as pool:
        given = [
            (function, np.random.default_rng([own.seed, place]), own.comparisons, arguments)
            for place, (_, function, arguments) in enumerate(parts)
        ]
        measured = list(pool.map(_measured, given))
    found: dict[str, Any] = {"comparisons": own.comparisons}
    for (keys, _, _), value in zip(parts, measured, strict=True):
        place = found
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return {**found, "seconds": round(time.monotonic() - began, 1)}


def _parts() -> Iterator[tuple[tuple[str, ...], Callable[..., Any], tuple[Any, ...]]]:
    """Yield what is measured: where it goes in the result, a function of (rng, comparisons, …), and its arguments."""
    for name, count in product(DRAWS, EQUAL):
        yield ("equal_arms", name, str(count)), _effects, (name, count)
    for times, count in product(SPREADS, EQUAL):
        yield ("equal_means", f"{times} times as wide", str(count)), _unlike, (times, count)
    yield ("equal_arms_three",), _effects, ("normal", 10, 2)
    for count, difference in RECIPE.items():
        yield ("power", str(count)), _power, (count, difference)
    yield ("equal_arms_with_the_seeds_asked_for",), _followed, ()
    for count in EQUAL:
        yield ("no_effect_at_the_margin", str(count)), _at_margin, (count,)
    for name, count in product(DRAWS, COVERED):
        if name == "normal" or count in EQUAL:
            yield ("interval_covers", name, str(count)), _covers, (name, count)
    yield ("percentile_interval_covers", "3"), _percentile_covers, (3,)
    for count, difference in product(EQUAL, (0.0, 1.5)):
        yield (
            ("probability_interval_covers", f"{count} seeds, {difference:g} sd"),
            _probability_covers,
            (count, difference),
        )


def _measured(given: tuple[Callable[..., Any], np.random.Generator, int, tuple[Any, ...]]) -> Any:
    function, rng, comparisons, arguments = given
    return function(rng, comparisons, *arguments)


def _share(flags: Sequence[bool]) -> float:
    return round(float(np.mean(flags)), 4)


def _effects(rng: np.random.Generator, comparisons: int, name: str, count: int, others: int = 1) -> float:
    """Return how often any of the other arms is said to differ from the first."""
    draw, flags = DRAWS[name], []
    for _ in range(comparisons):
        verdicts = judge(draw(rng, count), [draw(rng, count) for _ in range(others)])
        flags.append(any(verdict.kind == "effect" for verdict in verdicts))
    return _share(flags)


def _unlike(rng: np.random.Generator, comparisons: int, times: float, count: int) -> dict[str, float]:
    """Return how often an arm of the same mean, but another spread, is said to differ, and by the first test alone."""
    ours, dealt = [], []
    for _ in range(comparisons):
        a, b = rng.normal(size=count), times * rng.normal(size=count)
        ours.append(judge(a, [b])[0].kind == "effect")
        dealt.append(permutation_p(b, a) <= LEVEL)
    return {"effect": _share(ours), "permutation_alone": _share(dealt)}


def _power(rng: np.random.Generator, comparisons: int, count: int, difference: float) -> dict[str, Any]:
    """Return how often a difference in standard deviations is found, and how often Welch's t-test finds it."""
    from scipy import stats

    ours, welch = [], []
    for _ in range(comparisons):
        a, b = rng.normal(size=count), rng.normal(size=count) + difference
        ours.append(judge(a, [b])[0].kind == "effect")
        welch.append(stats.ttest_ind(a, b, equal_var=False).pvalue <= LEVEL)
    return {"difference": difference, "power": _share(ours), "welch": _share(welch)}


def _followed(rng: np.random.Generator, comparisons: int) -> dict[str, float]:
    """Compare equal arms of five seeds, train the seeds that the verdict asks for, up to a few, and compare again."""
    all_seeds, new_alone = [], []
    for _ in range(comparisons):
        a, b = rng.normal(size=5), rng.normal(size=5)
        (verdict,) = judge(a, [b])
        more = min((verdict.seeds_needed or 10**9) - 5, MOST_MORE)
        c, d = rng.normal(size=more), rng.normal(size=more)
        first, again = verdict.kind == "effect", judge(np.append(a, c), [np.append(b, d)])[0].kind == "effect"
        all_seeds.append(first or again)
        new_alone.append(judge(c, [d])[0].kind == "effect")
    return {"all_seeds": _share(all_seeds), "new_seeds_alone": _share(new_alone)}


def _at_margin(rng: np.random.Generator, comparisons: int, count: int) -> float:
    """Return how often arms that are a margin of 3 standard deviations apart are said to differ by less."""
    verdicts = (judge(rng.normal(size=count), [rng.normal(size=count) + 3.0], 3.0) for _ in range(comparisons))
    return _share([verdict.kind == "no effect larger than the margin" for (verdict,) in verdicts])


def _covers(rng: np.random.Generator, comparisons: int, name: str, count: int) -> float:
    draw = DRAWS[name]
    true, flags = float(interquartile_mean(draw(rng, 1_000_000))), []
    for _ in range(comparisons):
        bounds = interval(draw(rng, count))
        flags.append(bounds is not None and bounds[0] <= true <= bounds[1])
    return _share(flags)


def _percentile_covers(rng: np.random.Generator, comparisons: int, count: int) -> float:
    """Return how often the percentile bootstrap, which is not used here, holds the true interquartile mean."""
    flags = []
    for _ in range(comparisons):
        means = interquartile_mean(rng.normal(size=count)[rng.integers(count, size=(count, RESAMPLES))])
        low, high = np.quantile(means, [0.5 - 0.5 * NOMINAL, 0.5 + 0.5 * NOMINAL])
        flags.append(bool(low <= 0.0 <= high))
    return _share(flags)


def _probability_covers(rng: np.random.Generator, comparisons: int, count: int, difference: float) -> float:
    from scipy import stats

    true, flags = float(stats.norm.cdf(difference / 2**0.5)), []
    for _ in range(comparisons):
        found = probability_greater(rng.normal(size=count) + difference, rng.normal(size=count))
        low, high = probability_interval(found, count, count)
        flags.append(low <= true <= high)
    return _share(flags)


def show(result: Mapping[str, Any]) -> str:
    """Return the result as tables."""
    percent = "{:.1%}".format
    equal = [(name, *map(percent, shares.values())) for name, shares in result["equal_arms"].items()]
    unlike = [
        (name, count, percent(row["effect"]), percent(row["permutation_alone"]))
        for name, rows in result["equal_means"].items()
        for count, row in rows.items()
    ]
    power = [
        (count, f"{row['difference']:g}", percent(row["power"]), percent(row["welch"]))
        for count, row in result["power"].items()
    ]
    covers = [
        (
            str(count),
            *(f"{found[str(count)]:.3f}" if str(count) in found else "" for found in covered.values()),
            f"{coverage(count):.2f}",
        )
        for covered in [result["interval_covers"]]
        for count in COVERED
    ]
    followed = result["equal_arms_with_the_seeds_asked_for"]
    return "\n\n".join(
        [
            common.table(("equal arms, verdict effect", *(f"{n} seeds" for n in EQUAL)), equal),
            common.table(("equal means, one arm", "seeds", "verdict effect", "by the permutation test alone"), unlike),
            f"three equal arms of 10 seeds: {result['equal_arms_three']:.1%}",
            f"five seeds, and up to {MOST_MORE} more where the verdict asks: {followed['all_seeds']:.1%}; the "
            f"new seeds alone: {followed['new_seeds_alone']:.1%}",
            common.table(("seeds", "difference in standard deviations", "found", "by Welch's t-test"), power),
            common.table(("seeds", *DRAWS, "said"), covers),
        ]
    )
